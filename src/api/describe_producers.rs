//! DescribeProducers (61), version 0: the idempotent producers that partitions remember.
//!
//! - No transactions yet: the coordinator's epoch and the first offset of an open transaction are always -1.
//! - A partition that stands twice is answered once, and what one core tells is bounded: a small request must not grow into
//!   a huge answer. Partitions beyond the bound are POLICY_VIOLATION.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::cluster::image::MetadataImage;
use crate::cluster::topic_name;
use crate::limits::DESCRIBED_PRODUCERS_MAX;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::{DescribedProducer, DescribedProducers};
use crate::types::TopicId;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = DescribeProducersRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let (wanted, topics) = sort_out(&broker.shard.image(), &message);
    let Ok(outcomes) = broker.describe_producers(wanted).await else { return Reply::Close };
    Reply::Now(request.respond(&respond(topics, outcomes)))
}

/// A topic that was named: its partitions, each once, and what is wrong with all of them.
type Named<'a> = (Cow<'a, str>, Vec<i32>, Option<(ErrorCode, String)>);

fn sort_out<'a>(
    image: &MetadataImage,
    request: &DescribeProducersRequest<'a>,
) -> (Vec<(TopicId, i32)>, Vec<Named<'a>>) {
    let mut wanted = Vec::new();
    let mut seen: BTreeSet<(&str, i32)> = BTreeSet::new();
    let topics = request.topics.iter().map(|topic| {
        let mut indexes = topic.partition_indexes.clone();
        indexes.retain(|index| seen.insert((&topic.name, *index)));
        let wrong = match (topic_name::validate(&topic.name), image.topic(&topic.name)) {
            (Err(invalid), _) => Some((ErrorCode::InvalidTopicException, invalid.to_string())),
            (Ok(()), None) => {
                let error = ErrorCode::UnknownTopicOrPartition;
                Some((error, error.message().to_owned()))
            }
            (Ok(()), Some(topic)) => {
                wanted.extend(indexes.iter().map(|index| (topic.id(), *index)));
                None
            }
        };
        (topic.name.clone(), indexes, wrong)
    });
    let topics = topics.collect();
    (wanted, topics)
}

fn respond(topics: Vec<Named<'_>>, outcomes: Vec<DescribedProducers>) -> DescribeProducersResponse<'_> {
    let mut outcomes = outcomes.into_iter();
    let topics = topics.into_iter().map(|(name, indexes, mut wrong)| {
        let partition = |partition_index| match &mut wrong {
            // Once: the words name the topic, and a short request with a long name must not grow into a huge answer.
            Some((error, message)) => failed(partition_index, *error, Some(std::mem::take(message))),
            None => match outcomes.next().expect("every partition of a known topic was asked of its owner") {
                Ok(producers) => PartitionResponse {
                    partition_index,
                    active_producers: producers.iter().map(producer).collect(),
                    ..PartitionResponse::default()
                },
                Err(ErrorCode::PolicyViolation) => {
                    let message = format!("more than {DESCRIBED_PRODUCERS_MAX} producers: ask for fewer partitions");
                    failed(partition_index, ErrorCode::PolicyViolation, Some(message))
                }
                Err(error) => failed(partition_index, error, None),
            },
        };
        TopicResponse { name, partitions: indexes.into_iter().map(partition).collect() }
    });
    DescribeProducersResponse { throttle_time_ms: 0, topics: topics.collect() }
}

fn failed<'a>(partition_index: i32, error: ErrorCode, message: Option<String>) -> PartitionResponse<'a> {
    PartitionResponse {
        partition_index,
        error_code: error.code(),
        error_message: message.filter(|words| !words.is_empty()).map(Cow::Owned),
        ..PartitionResponse::default()
    }
}

fn producer(producer: &DescribedProducer) -> ProducerState {
    ProducerState {
        producer_id: producer.id.value(),
        producer_epoch: i32::from(producer.epoch.value()),
        last_sequence: producer.last_sequence.value(),
        last_timestamp: producer.last_timestamp.value(),
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::records::TopicRecord;
    use crate::protocol::messages::describe_producers::TopicRequest;
    use crate::types::{ProducerEpoch, ProducerId, Sequence, TimestampMs};

    #[test]
    fn producers_come_with_their_partition_and_partitions_once() {
        let topic = TopicRecord { name: Arc::from("t"), topic_id: TopicId::new([1; 16]) };
        let image = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ").apply(&[topic.into()]).unwrap();
        let named =
            |name, indexes: &[i32]| TopicRequest { name: Cow::Borrowed(name), partition_indexes: indexes.to_vec() };
        let topics = vec![named("gone", &[0]), named("t", &[1, 0, 1]), named("a/b", &[0]), named("t", &[0, 2])];
        let request = DescribeProducersRequest { topics };
        let (wanted, topics) = sort_out(&image, &request);
        assert_eq!(wanted.iter().map(|(_, index)| *index).collect::<Vec<_>>(), [1, 0, 2]);
        let writer = DescribedProducer {
            id: ProducerId::new(7),
            epoch: ProducerEpoch::new(3),
            last_sequence: Sequence::new(9),
            last_timestamp: TimestampMs::new(5),
        };
        let outcomes = vec![Ok(vec![writer]), Err(ErrorCode::UnknownTopicOrPartition), Err(ErrorCode::PolicyViolation)];
        let response = respond(topics, outcomes);
        let rows: Vec<_> = response
            .topics
            .iter()
            .flat_map(|topic| {
                let row = |it: &PartitionResponse<'_>| (it.partition_index, it.error_code, it.active_producers.len());
                topic.partitions.iter().map(move |it| (&*topic.name, row(it)))
            })
            .collect();
        let expected =
            [("gone", (0, 3, 0)), ("t", (1, 0, 1)), ("t", (0, 3, 0)), ("a/b", (0, 17, 0)), ("t", (2, 44, 0))];
        assert_eq!(rows, expected);
        let state = &response.topics[1].partitions[0].active_producers[0];
        assert_eq!((state.producer_id, state.producer_epoch, state.last_sequence), (7, 3, 9));
        assert_eq!((state.coordinator_epoch, state.current_txn_start_offset), (-1, -1));
    }
}
