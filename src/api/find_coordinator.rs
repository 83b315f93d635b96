//! FindCoordinator (10), versions 0 to 6: which node coordinates a group or a transaction.
//!
//! - One key before version 4, many from then on, each with its own error.
//! - **Groups**: the leader of the partition of `__consumer_offsets` that the name hashes to. The first request has that topic
//!   created and is told COORDINATOR_NOT_AVAILABLE; clients ask again.
//! - **Transactions**: this node. There are none yet, and InitProducerId says so for good; without a coordinator clients would
//!   look for one until their own timeout (see `init_producer_id`).
//! - **Share groups** (6): INVALID_REQUEST, as Kafka without share coordinator; an unknown type too.
//! - Before version 4 a success has the message `NONE`, as in Kafka.

use std::borrow::Cow;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::cluster::topic_name::CONSUMER_OFFSETS;
use crate::cluster::view::ClientView;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::types::{NodeId, PartitionIndex};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Version from which many keys are asked for at once.
const KEYS_SINCE: i16 = 4;

/// A node that clients can reach: id, host, port.
type Found<'a> = (i32, Cow<'a, str>, i32);

/// Handles one request.
pub(super) fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: &Request) -> Reply<R::Buffer> {
    let Ok(message) = FindCoordinatorRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    if message.key_type == GROUP {
        broker.ensure_group_topic();
    }
    let image = broker.shard.image();
    let view = broker.view(&image);
    let own = NodeId::of_shard(broker.shard.id);
    let find = |key: &str| find(view, own, message.key_type, broker.group_partition(key));
    Reply::Now(request.respond(&respond(&message, request.version, find)))
}

/// The node for one key. `partition` is where a group of that name belongs.
fn find<'a>(view: ClientView<'a>, own: NodeId, key_type: i8, partition: i32) -> Result<Found<'a>, ErrorCode> {
    let node = match key_type {
        GROUP => {
            let topic = view.image.topic(CONSUMER_OFFSETS);
            let partition = topic.and_then(|topic| topic.partition(PartitionIndex::new(partition)));
            partition.and_then(|partition| partition.leader).ok_or(ErrorCode::CoordinatorNotAvailable)?
        }
        TRANSACTION => own,
        _ => return Err(ErrorCode::InvalidRequest),
    };
    let seen = view.node(node);
    let found = view.nodes().find(|(broker, _)| broker.node() == seen);
    let (_, endpoint) = found.ok_or(ErrorCode::CoordinatorNotAvailable)?;
    Ok((seen.value(), Cow::Borrowed(&*endpoint.host), i32::from(endpoint.port)))
}

fn respond<'a>(
    request: &FindCoordinatorRequest<'a>,
    version: i16,
    find: impl Fn(&str) -> Result<Found<'a>, ErrorCode>,
) -> FindCoordinatorResponse<'a> {
    if version >= KEYS_SINCE {
        let coordinators = request.coordinator_keys.iter().map(|key| {
            let (error, (node_id, host, port)) = parts(find(key));
            Coordinator {
                key: key.clone(),
                node_id,
                host,
                port,
                error_code: error.code(),
                // A bad type fails Kafka's request as a whole, where errors have messages.
                error_message: Some(Cow::Borrowed(match error {
                    ErrorCode::InvalidRequest if request.key_type != SHARE => error.message(),
                    _ => "",
                })),
            }
        });
        return FindCoordinatorResponse { coordinators: coordinators.collect(), ..FindCoordinatorResponse::default() };
    }
    let (error, (node_id, host, port)) = parts(find(&request.key));
    let message = if error == ErrorCode::None { "NONE" } else { error.message() };
    FindCoordinatorResponse {
        error_code: error.code(),
        error_message: Some(Cow::Borrowed(message)),
        node_id,
        host,
        port,
        ..FindCoordinatorResponse::default()
    }
}

/// The error, and Kafka's `Node.noNode` beside one.
fn parts(found: Result<Found<'_>, ErrorCode>) -> (ErrorCode, Found<'_>) {
    match found {
        Ok(found) => (ErrorCode::None, found),
        Err(error) => (error, (-1, Cow::Borrowed(""), -1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::controller::{self, NodeStart};
    use crate::cluster::image::MetadataImage;
    use crate::cluster::view::Advertise;
    use crate::config::BrokerConfig;
    use crate::types::ShardId;

    fn image() -> MetadataImage {
        let start = |shard: u16| NodeStart {
            node: NodeId::of_shard(ShardId::new(shard)),
            host: "h".to_owned(),
            port: 9092 + shard,
            rack: None,
        };
        let mut seed = 0;
        let mut random = || {
            seed += 1;
            seed
        };
        let empty = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ");
        empty.apply(&controller::register_nodes(&empty, &[start(0), start(1)], &mut random)).unwrap()
    }

    fn with_topic() -> MetadataImage {
        let image = image();
        let names = [CONSUMER_OFFSETS.to_owned()];
        let mut seed = 100;
        let mut random = || {
            seed += 1;
            seed
        };
        image.apply(&controller::auto_create_topics(&image, &BrokerConfig::default(), &names, &mut random)).unwrap()
    }

    #[test]
    fn a_group_is_coordinated_by_the_leader_of_its_partition() {
        let (before, image) = (image(), with_topic());
        let own = NodeId::new(1);
        let view = |image, advertise| ClientView { image, advertise };
        let unavailable = Err(ErrorCode::CoordinatorNotAvailable);
        assert_eq!(find(view(&before, Advertise::PerCore), own, GROUP, 3), unavailable);
        let mut nodes: Vec<i32> =
            (0..50).map(|it| find(view(&image, Advertise::PerCore), own, GROUP, it).unwrap().0).collect();
        assert!(nodes.contains(&1) && nodes.contains(&2));
        nodes = (0..50).map(|it| find(view(&image, Advertise::Single), own, GROUP, it).unwrap().0).collect();
        assert!(nodes.iter().all(|node| *node == 1));
    }

    #[test]
    fn transactions_are_sent_here_and_share_groups_away() {
        let image = image();
        let view = ClientView { image: &image, advertise: Advertise::PerCore };
        let found = find(view, NodeId::new(2), TRANSACTION, 0).unwrap();
        assert_eq!(found, (2, Cow::Borrowed("h"), 9093));
        for key_type in [2, 3, -1] {
            assert_eq!(find(view, NodeId::new(2), key_type, 0), Err(ErrorCode::InvalidRequest));
        }
    }

    #[test]
    fn one_key_is_answered_in_the_message_and_many_in_a_list() {
        let request =
            FindCoordinatorRequest { key: "a".into(), key_type: GROUP, coordinator_keys: vec!["x".into(), "y".into()] };
        let find = |key: &str| match key {
            "y" => Err(ErrorCode::CoordinatorNotAvailable),
            _ => Ok((7, Cow::Borrowed("h"), 1)),
        };
        let old = respond(&request, 3, find);
        assert_eq!((old.error_code, old.node_id, old.error_message.as_deref()), (0, 7, Some("NONE")));
        let new = respond(&request, 4, find);
        let rows: Vec<_> = new.coordinators.iter().map(|it| (&*it.key, it.error_code, it.node_id, it.port)).collect();
        assert_eq!(rows, [("x", 0, 7, 1), ("y", 15, -1, -1)]);
    }
}
