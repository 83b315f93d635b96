//! Produce (0), versions 3 to 13: record batches become part of the log.
//!
//! Errors are per partition; the others of the request proceed. acks=0 has no answer at all: an error closes the
//! connection, which is how the producer learns of it. A transactional batch without a transactional id refuses the whole
//! request, before anything else is looked at, as in Kafka. From version 13 on topics are named by id.

use std::rc::Rc;

use super::reply::Reply;
use super::{Request, respond};
use crate::broker::{Broker, ShuttingDown};
use crate::cluster::image::MetadataImage;
use crate::cluster::topic_name::is_internal;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData,
    TopicProduceResponse,
};
use crate::protocol::record_batch::BatchHeader;
use crate::protocol::wire::{Reader, Records};
use crate::runtime::Runtime;
use crate::shard::message::{ProduceOutcome, ProducePart, ProducePartition};
use crate::types::TopicId;

/// Version from which topics are named by id.
const TOPIC_IDS_SINCE: i16 = 13;

/// The answer's skeleton: topics and partitions as asked, with what is known of each.
struct Skeleton {
    correlation_id: i32,
    version: i16,
    topics: Vec<SkeletonTopic>,
}

struct SkeletonTopic {
    name: String,
    id: TopicId,
    partitions: Vec<(i32, Slot)>,
}

/// Where the outcome of a partition comes from.
enum Slot {
    /// It never reached its owner.
    Failed(ErrorCode),
    /// This place in what was produced.
    Produced(usize),
}

/// Handles one request: ends when everything is appended; the answer follows when it is at its level.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = ProduceRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let acks = message.acks;
    let is_refused = message.transactional_id.is_none() && message.topic_data.iter().any(has_transactional_batch);
    let refused = is_refused.then_some(ErrorCode::TransactionalIdAuthorizationFailed);
    let image = broker.shard.image();
    let mut partitions = Vec::with_capacity(message.topic_data.iter().map(|topic| topic.partition_data.len()).sum());
    let topics =
        message.topic_data.iter().map(|topic| plan(topic, acks, refused, &request, &image, &mut partitions)).collect();
    let skeleton = Skeleton { correlation_id: request.correlation_id, version: request.version, topics };
    let timeout_ms = u64::try_from(message.timeout_ms).unwrap_or(0);
    let part = ProducePart { acks, version: request.version, timeout_ms, partitions };
    let Ok(produced) = broker.produce(part).await else { return Reply::Close };
    let broker = Rc::clone(broker);
    if acks == 0 {
        return match broker.settle(produced).await {
            Ok(outcomes) if !skeleton.has_errors(&outcomes) => Reply::Nothing,
            _ => Reply::Close,
        };
    }
    Reply::Later(Box::pin(async move {
        match broker.settle(produced).await {
            Ok(outcomes) => {
                let message = skeleton.fill(outcomes);
                Some(respond(skeleton.correlation_id, skeleton.version, &message))
            }
            Err(ShuttingDown) => None,
        }
    }))
}

/// Kafka's `RequestUtils.hasTransactionalRecords`: such a request needs a transactional id.
fn has_transactional_batch(topic: &TopicProduceData<'_>) -> bool {
    topic.partition_data.iter().any(|data| match &data.records {
        Records::Bytes(records) => {
            records.first_chunk().is_some_and(|header| BatchHeader::parse(header).is_transactional())
        }
        Records::Null | Records::Hole(_) => false,
    })
}

/// Resolves one topic of the request and queues its partitions.
fn plan(
    topic: &TopicProduceData<'_>,
    acks: i16,
    refused: Option<ErrorCode>,
    request: &Request,
    image: &MetadataImage,
    partitions: &mut Vec<ProducePartition>,
) -> SkeletonTopic {
    let by_id = request.version >= TOPIC_IDS_SINCE;
    let found = if by_id { image.topic_by_id(topic.topic_id) } else { image.topic(&topic.name) };
    let name = found.map_or(&*topic.name, |found| &**found.name());
    let refused = if refused.is_some() {
        refused
    } else if !(-1..=1).contains(&acks) {
        Some(ErrorCode::InvalidRequiredAcks)
    } else if found.is_none() {
        Some(if by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition })
    } else if is_internal(name) && request.client_id.as_deref() != Some("__admin_client") {
        Some(ErrorCode::InvalidTopicException)
    } else {
        None
    };
    let id = found.map_or(topic.topic_id, |found| found.id());
    let slots = topic.partition_data.iter().map(|data| {
        let slot = match (refused, &data.records) {
            (Some(error), _) => Slot::Failed(error),
            (None, Records::Bytes(records)) => {
                partitions.push(ProducePartition {
                    topic: id,
                    partition: data.index,
                    records: request.body.slice_ref(records),
                });
                Slot::Produced(partitions.len() - 1)
            }
            // Kafka: "Produce requests ... must have exactly one batch per partition".
            (None, Records::Null | Records::Hole(_)) => Slot::Failed(ErrorCode::InvalidRecord),
        };
        (data.index, slot)
    });
    SkeletonTopic { name: topic.name.to_string(), id: topic.topic_id, partitions: slots.collect() }
}

impl Skeleton {
    fn has_errors(&self, outcomes: &[ProduceOutcome]) -> bool {
        let failed = |slot: &Slot| match slot {
            Slot::Failed(_) => true,
            Slot::Produced(place) => outcomes[*place].error != ErrorCode::None,
        };
        self.topics.iter().flat_map(|topic| &topic.partitions).any(|(_, slot)| failed(slot))
    }

    fn fill(&self, mut outcomes: Vec<ProduceOutcome>) -> ProduceResponse<'_> {
        let mut take = |slot: &Slot| match slot {
            Slot::Failed(error) => ProduceOutcome::failed(*error, None),
            Slot::Produced(place) => {
                std::mem::replace(&mut outcomes[*place], ProduceOutcome::failed(ErrorCode::None, None))
            }
        };
        let responses = self.topics.iter().map(|topic| TopicProduceResponse {
            name: topic.name.as_str().into(),
            topic_id: topic.id,
            partition_responses: topic.partitions.iter().map(|(index, slot)| answer(*index, take(slot))).collect(),
        });
        ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() }
    }
}

fn answer(index: i32, outcome: ProduceOutcome) -> PartitionProduceResponse<'static> {
    let record_errors = outcome.record_errors.into_iter().map(|(batch_index, message)| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some(message.into()),
    });
    PartitionProduceResponse {
        index,
        error_code: outcome.error.code(),
        base_offset: outcome.base_offset,
        log_append_time_ms: outcome.log_append_time,
        log_start_offset: outcome.log_start_offset,
        record_errors: record_errors.collect(),
        error_message: outcome.message.map(Into::into),
        ..PartitionProduceResponse::default()
    }
}
