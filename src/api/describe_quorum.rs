//! DescribeQuorum (55), versions 0 to 2: who keeps the metadata log. One node does, the controller's, so it is the only
//! voter and the leader, and nobody lags or observes.
//!
//! - Only one request for partition 0 of `__cluster_metadata` and nothing else is answered; all others get
//!   UNKNOWN_TOPIC_OR_PARTITION in each row, as in Kafka.
//! - The log has one writer for ever and no elections. The epoch told is that of the controller's registration, which
//!   rises with every start as a quorum's would.
//! - 1 adds times: the leader is level with itself now. 2 adds messages, nodes and directories: ours have no ids.

use std::borrow::Cow;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::{Broker, ShuttingDown};
use crate::cluster::topic_name::CLUSTER_METADATA;
use crate::cluster::view::{ClientView, LISTENER};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::{ControlReply, ControlRequest};
use crate::types::{NodeId, Offset, ShardId, TimestampMs, TopicId};

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = DescribeQuorumRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    if !asks_for_the_metadata_log(&message) {
        return Reply::Now(request.respond(&unknown(&message)));
    }
    match broker.control(ControlRequest::MetadataEnd).await {
        Ok(ControlReply::MetadataEnd(end)) => {
            let image = broker.shard.image();
            let now = broker.shard.runtime.wall_clock();
            Reply::Now(request.respond(&respond(broker.view(&image), end, now)))
        }
        Ok(_) => {
            let error_code = ErrorCode::KafkaStorageError.code();
            Reply::Now(request.respond(&DescribeQuorumResponse { error_code, ..DescribeQuorumResponse::default() }))
        }
        Err(ShuttingDown) => Reply::Close,
    }
}

fn asks_for_the_metadata_log(request: &DescribeQuorumRequest<'_>) -> bool {
    let [topic] = &request.topics[..] else { return false };
    let [partition] = &topic.partitions[..] else { return false };
    topic.topic_name == CLUSTER_METADATA && partition.partition_index == 0
}

/// The answer about anything else.
fn unknown<'a>(request: &DescribeQuorumRequest<'a>) -> DescribeQuorumResponse<'a> {
    let error = ErrorCode::UnknownTopicOrPartition;
    let topics = request.topics.iter().map(|topic| TopicData {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionData {
                partition_index: partition.partition_index,
                error_code: error.code(),
                error_message: Some(Cow::Borrowed(error.message())),
                ..PartitionData::default()
            })
            .collect(),
    });
    DescribeQuorumResponse { topics: topics.collect(), ..DescribeQuorumResponse::default() }
}

fn respond(view: ClientView<'_>, end: Offset, now: TimestampMs) -> DescribeQuorumResponse<'_> {
    let leader = NodeId::of_shard(ShardId::CONTROLLER);
    let controller = view.image.broker(leader);
    let voter = ReplicaState {
        replica_id: leader.value(),
        replica_directory_id: TopicId::ZERO,
        log_end_offset: end.value(),
        last_fetch_timestamp: now.value(),
        last_caught_up_timestamp: now.value(),
    };
    let partition = PartitionData {
        leader_id: leader.value(),
        leader_epoch: controller.map_or(0, |it| i32::try_from(it.epoch()).unwrap_or(i32::MAX)),
        high_watermark: end.value(),
        current_voters: vec![voter],
        ..PartitionData::default()
    };
    let listener = controller.and_then(|it| it.endpoint(LISTENER)).map(|endpoint| Listener {
        name: Cow::Borrowed(LISTENER),
        host: Cow::Borrowed(&*endpoint.host),
        port: endpoint.port,
    });
    DescribeQuorumResponse {
        topics: vec![TopicData { topic_name: Cow::Borrowed(CLUSTER_METADATA), partitions: vec![partition] }],
        nodes: vec![Node { node_id: leader.value(), listeners: listener.into_iter().collect() }],
        ..DescribeQuorumResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::controller::{self, NodeStart};
    use crate::cluster::image::MetadataImage;
    use crate::cluster::view::Advertise;
    use crate::protocol::messages::describe_quorum::{DescribeQuorumRequestPartition, DescribeQuorumRequestTopic};

    fn request(name: &'static str, partitions: &[i32]) -> DescribeQuorumRequest<'static> {
        let row = |index: &i32| DescribeQuorumRequestPartition { partition_index: *index };
        let partitions = partitions.iter().map(row).collect();
        let topic = DescribeQuorumRequestTopic { topic_name: Cow::Borrowed(name), partitions };
        DescribeQuorumRequest { topics: vec![topic] }
    }

    #[test]
    fn nothing_but_the_metadata_log_has_a_quorum() {
        assert!(asks_for_the_metadata_log(&request("__cluster_metadata", &[0])));
        for stranger in
            [request("t", &[0]), request("__cluster_metadata", &[1]), request("__cluster_metadata", &[0, 0])]
        {
            assert!(!asks_for_the_metadata_log(&stranger));
            let response = unknown(&stranger);
            assert!(response.topics[0].partitions.iter().all(|row| row.error_code == 3));
        }
    }

    #[test]
    fn the_controller_is_the_one_voter() {
        let empty = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ");
        let start = |node, port| NodeStart { node: NodeId::new(node), host: "h".to_owned(), port, rack: None };
        let start = [start(1, 9092), start(2, 9093)];
        let once = empty.apply(&controller::register_nodes(&empty, &start, &mut || 1)).unwrap();
        let image = once.apply(&controller::register_nodes(&once, &start, &mut || 2)).unwrap();
        let view = ClientView { image: &image, advertise: Advertise::PerCore };
        let response = respond(view, Offset::new(9), TimestampMs::new(5));
        let row = &response.topics[0].partitions[0];
        assert_eq!((row.leader_id, row.leader_epoch, row.high_watermark), (1, 2, 9));
        assert_eq!((row.current_voters.len(), row.observers.len()), (1, 0));
        assert_eq!((row.current_voters[0].log_end_offset, row.current_voters[0].last_fetch_timestamp), (9, 5));
        let listeners = &response.nodes[0].listeners;
        assert_eq!((response.nodes.len(), listeners[0].port), (1, 9092));
    }
}
