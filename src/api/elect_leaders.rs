//! ElectLeaders (43), versions 0 to 2: elections that nobody needs. A partition has one replica, so whoever leads is the
//! preferred leader, and where its node is gone there is nobody else to elect.
//!
//! - Version 0 knows preferred elections only; 1 adds unclean ones (1) and an error for the whole request.
//! - Of all partitions (null), those whose election is not needed are left out, their topics are not: as in Kafka.

use std::borrow::Cow;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::cluster::image::{MetadataImage, Partition};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::types::PartitionIndex;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Handles one request.
pub(super) fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: &Request) -> Reply<R::Buffer> {
    let Ok(message) = ElectLeadersRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    Reply::Now(request.respond(&respond(&broker.shard.image(), &message)))
}

fn respond<'a>(image: &'a MetadataImage, request: &ElectLeadersRequest<'a>) -> ElectLeadersResponse<'a> {
    let kind = request.election_type;
    let mut error_code = ErrorCode::None.code();
    let replica_election_results = match &request.topic_partitions {
        _ if kind != PREFERRED && kind != UNCLEAN => {
            error_code = ErrorCode::InvalidRequest.code();
            let message = format!("Unknown election type {kind}");
            let refuse = |_: &str, _| Some((ErrorCode::InvalidRequest, Cow::Owned(message.clone())));
            request.topic_partitions.iter().flatten().map(|topic| results(topic, refuse)).collect()
        }
        Some(topics) => {
            topics.iter().map(|topic| results(topic, |name, index| elect(image, name, index, kind))).collect()
        }
        None => image.topics().map(|topic| all_results(topic.name(), topic.partitions(), kind)).collect(),
    };
    ElectLeadersResponse { throttle_time_ms: 0, error_code, replica_election_results }
}

type Refusal<'a> = (ErrorCode, Cow<'a, str>);

/// The results of the partitions that were named. The first refusal has words of its own, which may name the topic; the
/// others have those of their error, or a short request with a long name would grow into a huge answer.
fn results<'a>(
    topic: &TopicPartitions<'a>,
    elect: impl Fn(&str, i32) -> Option<Refusal<'a>>,
) -> ReplicaElectionResult<'a> {
    let result = |(place, index): (usize, &i32)| {
        let refusal = elect(&topic.topic, *index);
        let in_short = |(error, words): Refusal<'a>| match place {
            0 => (error, words),
            _ => (error, Cow::Borrowed(error.message())),
        };
        result(*index, refusal.map(in_short))
    };
    let partition_result = topic.partitions.iter().enumerate().map(result).collect();
    ReplicaElectionResult { topic: topic.topic.clone(), partition_result }
}

/// The results of all partitions of a topic.
fn all_results<'a>(
    name: &'a str,
    partitions: impl Iterator<Item = (PartitionIndex, &'a Partition)>,
    kind: i8,
) -> ReplicaElectionResult<'a> {
    let refused = partitions.filter_map(|(index, partition)| {
        let (error, message) = decide(partition, kind);
        (error != ErrorCode::ElectionNotNeeded).then(|| result(index.value(), Some((error, message))))
    });
    ReplicaElectionResult { topic: Cow::Borrowed(name), partition_result: refused.collect() }
}

fn result(partition_id: i32, refusal: Option<Refusal<'_>>) -> PartitionResult<'_> {
    let (error, message) = refusal.map_or((ErrorCode::None, None), |(error, message)| (error, Some(message)));
    PartitionResult { partition_id, error_code: error.code(), error_message: message }
}

fn elect<'a>(image: &MetadataImage, name: &str, index: i32, kind: i8) -> Option<Refusal<'a>> {
    let Some(topic) = image.topic(name) else {
        return Some((ErrorCode::UnknownTopicOrPartition, Cow::Owned(format!("No such topic as {name}"))));
    };
    Some(match topic.partition(PartitionIndex::new(index)) {
        None => (ErrorCode::UnknownTopicOrPartition, Cow::Owned(format!("No such partition as {name}-{index}"))),
        Some(partition) => decide(partition, kind),
    })
}

/// Why no election is held.
fn decide<'a>(partition: &Partition, kind: i8) -> Refusal<'a> {
    let needed = match kind {
        PREFERRED => partition.leader != partition.replicas.first().copied(),
        _ => partition.leader.is_none(),
    };
    let error = match (needed, kind) {
        (false, _) => ErrorCode::ElectionNotNeeded,
        (true, PREFERRED) => ErrorCode::PreferredLeaderNotAvailable,
        (true, _) => ErrorCode::EligibleLeadersNotAvailable,
    };
    (error, Cow::Borrowed(error.message()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::records::{NO_LEADER, PartitionRecord, TopicRecord};
    use crate::types::TopicId;

    /// `t-0` is led by its replica, `t-1` by nobody.
    fn image() -> MetadataImage {
        let topic_id = TopicId::new([1; 16]);
        let partition = |partition_id, leader| PartitionRecord {
            partition_id,
            topic_id,
            replicas: vec![1],
            isr: vec![1],
            leader,
            ..PartitionRecord::default()
        };
        let topic = TopicRecord { name: Arc::from("t"), topic_id };
        let records = [topic.into(), partition(0, 1).into(), partition(1, NO_LEADER).into()];
        MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ").apply(&records).unwrap()
    }

    fn ask(election_type: i8, partitions: Option<&[i32]>) -> (i16, Vec<(i32, i16)>) {
        let topic_partitions = partitions
            .map(|partitions| vec![TopicPartitions { topic: Cow::Borrowed("t"), partitions: partitions.to_vec() }]);
        let request = ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 0 };
        let image = image();
        let response = respond(&image, &request);
        let rows = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        (response.error_code, rows.map(|row| (row.partition_id, row.error_code)).collect())
    }

    #[test]
    fn a_partition_that_is_led_needs_no_election() {
        assert_eq!(ask(PREFERRED, Some(&[0, 1, 2])), (0, vec![(0, 84), (1, 80), (2, 3)]));
        assert_eq!(ask(UNCLEAN, Some(&[0, 1])), (0, vec![(0, 84), (1, 83)]));
    }

    #[test]
    fn of_all_partitions_only_failures_are_told() {
        assert_eq!(ask(PREFERRED, None), (0, vec![(1, 80)]));
    }

    #[test]
    fn an_unknown_kind_of_election_fails_everything() {
        assert_eq!(ask(5, Some(&[0])), (42, vec![(0, 42)]));
    }
}
