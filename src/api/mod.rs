//! One small file per Kafka API, named after it: versions and quirks, `handle`, its parts, its tests. This one finds the
//! file that a request belongs to.
//!
//! A request that cannot be decoded, or of an API or version that is not advertised, closes its connection, as Kafka does;
//! only ApiVersions answers every version.

pub mod reply;

mod alter_configs;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod groups;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod operations;
mod produce;
mod sync_group;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use self::reply::{LocalFuture, Reply, Response, Service};
use crate::broker::{Broker, ShuttingDown};
use crate::limits::CONTROL_WAIT_MS;
use crate::protocol::api_key::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::{RequestHeader, response_frame, response_frame_around};
use crate::protocol::wire::{Message, Reader};
use crate::runtime::Runtime;
use crate::shard::message::{ControlReply, ControlRequest};
use crate::types::ConnectionId;

/// Of a request that has no time-out.
const NO_TIMEOUT: i32 = 0;

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address as Kafka writes it: a slash, then the address in Java's form.
    host: Arc<str>,
    connection: ConnectionId,
}

impl Peer {
    /// A peer at an address.
    pub fn new(address: IpAddr, connection: ConnectionId) -> Peer {
        let text = match address.to_canonical() {
            IpAddr::V4(address) => format!("/{address}"),
            IpAddr::V6(address) => {
                // Java shortens no run of zeroes.
                let parts: Vec<String> = address.segments().iter().map(|part| format!("{part:x}")).collect();
                format!("/{}", parts.join(":"))
            }
        };
        Peer { host: Arc::from(text), connection }
    }
}

/// One request: its header, and the rest of its frame.
#[derive(Clone, Debug)]
pub struct Request {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    /// Name that the client gave itself.
    client_id: Option<String>,
    peer: Rc<Peer>,
    /// The message, still to be decoded by its handler.
    body: Bytes,
}

impl Request {
    /// The response frame of a message without records.
    fn respond<B>(&self, message: &impl Message) -> Response<B> {
        respond(self.correlation_id, self.version, message)
    }

    /// The response frame around a body that was encoded elsewhere.
    fn respond_with<B>(&self, body: &[u8]) -> Response<B> {
        let bytes = response_frame_around(self.correlation_id, self.key, self.version, body).bytes;
        Response { bytes, pieces: Vec::new(), hold: None }
    }
}

impl Request {
    /// Asks the controller, whose answer is the body of the response; or answers with what `failed` makes of error and message
    /// when the controller's records could not be kept, or are not yet after `timeout_ms` (0 or less: [`CONTROL_WAIT_MS`]).
    /// Then the change is made all the same, as soon as the disk lets it.
    async fn ask_controller<R: Runtime, M: Message>(
        &self,
        broker: &Broker<R>,
        control: ControlRequest,
        timeout_ms: i32,
        failed: impl FnOnce(ErrorCode, String) -> M,
    ) -> Reply<R::Buffer> {
        let timeout_ms = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).unwrap_or(CONTROL_WAIT_MS);
        let mut timeout = pin!(broker.shard.runtime.sleep(Duration::from_millis(timeout_ms)));
        let mut controlled = pin!(broker.control(control));
        let outcome = poll_fn(|context| match controlled.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => timeout.as_mut().poll(context).map(|()| None),
        });
        match outcome.await {
            Some(Ok(ControlReply::Body(body))) => Reply::Now(self.respond_with(&body)),
            Some(Ok(reply)) => {
                let ControlReply::Failed(reason) = reply else {
                    unreachable!("the controller answers what it is asked")
                };
                Reply::Now(self.respond(&failed(ErrorCode::KafkaStorageError, reason)))
            }
            Some(Err(ShuttingDown)) => Reply::Close,
            None => {
                let error = ErrorCode::RequestTimedOut;
                Reply::Now(self.respond(&failed(error, error.message().to_owned())))
            }
        }
    }
}

fn respond<B>(correlation_id: i32, version: i16, message: &impl Message) -> Response<B> {
    let writer = response_frame(correlation_id, version, message);
    assert!(writer.holes.is_empty());
    Response { bytes: writer.bytes, pieces: Vec::new(), hold: None }
}

/// The handlers of one shard.
pub struct Api<R: Runtime> {
    broker: Rc<Broker<R>>,
    /// Connections so far.
    connections: Cell<u64>,
}

impl<R: Runtime> Api<R> {
    /// Handlers over one shard's broker.
    pub fn new(broker: Rc<Broker<R>>) -> Rc<Api<R>> {
        Rc::new(Api { broker, connections: Cell::new(0) })
    }
}

impl<R: Runtime> Service<R::Buffer> for Api<R> {
    type Connection = Peer;

    fn connected(&self, peer: SocketAddr, _local: SocketAddr) -> Peer {
        let number = self.connections.get() + 1;
        self.connections.set(number);
        Peer::new(peer.ip(), ConnectionId::of(self.broker.shard.id, number))
    }

    fn wants_answer_memory(&self) -> bool {
        self.broker.shard.answers.is_contended()
    }

    fn handle(self: Rc<Self>, connection: Rc<Peer>, frame: Bytes) -> LocalFuture<Reply<R::Buffer>> {
        let Some(request) = parse(&frame, connection) else { return Box::pin(async { Reply::Close }) };
        Box::pin(async move { dispatch(&self.broker, request).await })
    }
}

/// `None` closes the connection.
fn parse(frame: &Bytes, peer: Rc<Peer>) -> Option<Request> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).ok()?;
    let key = ApiKey::from_code(header.api_key)?;
    if !key.accepts(header.api_version) && key != ApiKey::ApiVersions {
        return None;
    }
    Some(Request {
        key,
        version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.map(String::from),
        peer,
        body: frame.slice_ref(reader.rest()),
    })
}

async fn dispatch<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    match request.key {
        ApiKey::Produce => produce::handle(broker, request).await,
        ApiKey::Fetch => fetch::handle(broker, request).await,
        ApiKey::ListOffsets => list_offsets::handle(broker, request).await,
        ApiKey::Metadata => metadata::handle(broker, request).await,
        ApiKey::OffsetCommit => offset_commit::handle(broker, request).await,
        ApiKey::OffsetFetch => offset_fetch::handle(broker, request).await,
        ApiKey::FindCoordinator => find_coordinator::handle(broker, &request),
        ApiKey::JoinGroup => join_group::handle(broker, request).await,
        ApiKey::Heartbeat => heartbeat::handle(broker, request).await,
        ApiKey::LeaveGroup => leave_group::handle(broker, request).await,
        ApiKey::SyncGroup => sync_group::handle(broker, request).await,
        ApiKey::DescribeGroups => describe_groups::handle(broker, request).await,
        ApiKey::ListGroups => list_groups::handle(broker, request).await,
        ApiKey::ApiVersions => api_versions::handle(broker, &request),
        ApiKey::CreateTopics => create_topics::handle(broker, request).await,
        ApiKey::DeleteTopics => delete_topics::handle(broker, request).await,
        ApiKey::InitProducerId => init_producer_id::handle(broker, request).await,
        ApiKey::DescribeConfigs => describe_configs::handle(broker, &request),
        ApiKey::DescribeCluster => describe_cluster::handle(broker, &request),
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch::handle(broker, request).await,
        ApiKey::CreatePartitions => create_partitions::handle(broker, request).await,
        ApiKey::AlterConfigs => alter_configs::handle(broker, request).await,
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs::handle(broker, request).await,
        ApiKey::DeleteRecords => delete_records::handle(broker, request).await,
        ApiKey::DescribeLogDirs => describe_log_dirs::handle(broker, request).await,
        ApiKey::DescribeQuorum => describe_quorum::handle(broker, request).await,
        ApiKey::DescribeProducers => describe_producers::handle(broker, request).await,
        ApiKey::ElectLeaders => elect_leaders::handle(broker, &request),
        ApiKey::ListPartitionReassignments => list_partition_reassignments::handle(&request),
        ApiKey::DescribeClientQuotas => describe_client_quotas::handle(&request),
        ApiKey::ListConfigResources => list_config_resources::handle(broker, &request),
        ApiKey::DescribeTopicPartitions => describe_topic_partitions::handle(broker, &request),
        ApiKey::DeleteGroups => delete_groups::handle(broker, request).await,
        ApiKey::OffsetDelete => offset_delete::handle(broker, request).await,
        ApiKey::ConsumerGroupHeartbeat => consumer_group_heartbeat::handle(broker, request).await,
        ApiKey::ConsumerGroupDescribe => consumer_group_describe::handle(broker, request).await,
        _ => Reply::Close,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_java_does() {
        let host = |text: &str| Peer::new(text.parse().unwrap(), ConnectionId::NONE).host.to_string();
        assert_eq!(host("127.0.0.1"), "/127.0.0.1");
        assert_eq!(host("::ffff:10.0.0.7"), "/10.0.0.7");
        assert_eq!(host("::1"), "/0:0:0:0:0:0:0:1");
        assert_eq!(host("2001:db8::a:0:1"), "/2001:db8:0:0:0:a:0:1");
    }
}
