//! DeleteRecords (21), versions 0 to 2: the records before an offset go, and the log start offset moves there.
//!
//! - -1 is the high watermark. Beyond it, or below zero, is OFFSET_OUT_OF_RANGE; at or below the log start, nothing happens.
//! - Topics that are only compacted keep their records: POLICY_VIOLATION. The broker's own topics: INVALID_TOPIC_EXCEPTION.
//! - Of two offsets for one partition the last counts, and it is answered once, as in Kafka.
//! - Kafka's new log start reaches the disk within a minute of the answer, ours before it (`shard::delete_records`).

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::cluster::image::MetadataImage;
use crate::cluster::topic_name;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::{DeleteRecords, DeleteRecordsOutcome};
use crate::types::PartitionIndex;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = DeleteRecordsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let (wanted, rows) = sort_out(&broker.shard.image(), &message);
    let Ok(outcomes) = broker.delete_records(wanted).await else { return Reply::Close };
    Reply::Now(request.respond(&respond(rows, &outcomes)))
}

/// What becomes of each partition that was named: its place among what the owners are asked, or why they are not.
type Rows<'a> = BTreeMap<&'a str, BTreeMap<i32, Result<usize, ErrorCode>>>;

fn sort_out<'a>(image: &MetadataImage, request: &'a DeleteRecordsRequest<'a>) -> (Vec<DeleteRecords>, Rows<'a>) {
    let mut offsets: BTreeMap<&str, BTreeMap<i32, i64>> = BTreeMap::new();
    for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let partitions = topic.partitions.iter().map(|partition| (partition.partition_index, partition.offset));
        offsets.entry(&topic.name).or_default().extend(partitions);
    }
    let mut wanted = Vec::new();
    let mut rows = Rows::new();
    for (name, partitions) in offsets {
        let topic = image.topic(name);
        for (partition, offset) in partitions {
            let known = topic.filter(|topic| topic.partition(PartitionIndex::new(partition)).is_some());
            let row = match known {
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(_) if topic_name::is_internal(name) => Err(ErrorCode::InvalidTopicException),
                Some(topic) => {
                    wanted.push(DeleteRecords { topic: topic.id(), partition, offset });
                    Ok(wanted.len() - 1)
                }
            };
            rows.entry(name).or_default().insert(partition, row);
        }
    }
    (wanted, rows)
}

fn respond<'a>(rows: Rows<'a>, outcomes: &[DeleteRecordsOutcome]) -> DeleteRecordsResponse<'a> {
    let partition = |(partition_index, row): (i32, Result<usize, ErrorCode>)| {
        let outcome =
            row.map_or_else(|error| DeleteRecordsOutcome { error, low_watermark: -1 }, |place| outcomes[place]);
        DeleteRecordsPartitionResult {
            partition_index,
            low_watermark: outcome.low_watermark,
            error_code: outcome.error.code(),
        }
    };
    let topics = rows.into_iter().map(|(name, partitions)| DeleteRecordsTopicResult {
        name: name.into(),
        partitions: partitions.into_iter().map(partition).collect(),
    });
    DeleteRecordsResponse { throttle_time_ms: 0, topics: topics.collect() }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::*;
    use crate::cluster::records::{PartitionRecord, Record, TopicRecord};
    use crate::protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
    use crate::types::TopicId;

    fn image() -> MetadataImage {
        let topic = |(id, name): (u8, &str)| -> [Record; 2] {
            let topic_id = TopicId::new([id; 16]);
            let (replicas, isr) = (vec![1], vec![1]);
            let partition =
                PartitionRecord { partition_id: 0, topic_id, replicas, isr, leader: 1, ..Default::default() };
            [TopicRecord { name: Arc::from(name), topic_id }.into(), partition.into()]
        };
        let records: Vec<Record> = [(1, "t"), (2, "__consumer_offsets")].into_iter().flat_map(topic).collect();
        MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ").apply(&records).unwrap()
    }

    fn topic(name: &'static str, partitions: &[(i32, i64)]) -> DeleteRecordsTopic<'static> {
        let row = |(partition_index, offset): &(i32, i64)| DeleteRecordsPartition {
            partition_index: *partition_index,
            offset: *offset,
        };
        DeleteRecordsTopic { name: Cow::Borrowed(name), partitions: partitions.iter().map(row).collect() }
    }

    #[test]
    fn only_sound_partitions_reach_their_owners_and_the_last_offset_counts() {
        let topics = vec![
            topic("t", &[(0, 5), (9, 5), (0, 7)]),
            topic("__consumer_offsets", &[(0, 1), (1, 1)]),
            topic("gone", &[(0, 1)]),
            topic("none", &[]),
        ];
        let request = DeleteRecordsRequest { topics, timeout_ms: 1 };
        let (wanted, rows) = sort_out(&image(), &request);
        assert_eq!(wanted.iter().map(|one| (one.partition, one.offset)).collect::<Vec<_>>(), [(0, 7)]);
        let outcomes = [DeleteRecordsOutcome { error: ErrorCode::None, low_watermark: 7 }];
        let response = respond(rows, &outcomes);
        let rows: Vec<_> = response
            .topics
            .iter()
            .flat_map(|topic| {
                topic.partitions.iter().map(|it| (&*topic.name, it.partition_index, it.error_code, it.low_watermark))
            })
            .collect();
        let expected = [
            ("__consumer_offsets", 0, 17, -1),
            ("__consumer_offsets", 1, 3, -1),
            ("gone", 0, 3, -1),
            ("t", 0, 0, 7),
            ("t", 9, 3, -1),
        ];
        assert_eq!(rows, expected);
    }
}
