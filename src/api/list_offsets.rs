//! ListOffsets (2), versions 1 to 10: the ends of a log, and the first record at or after a time.
//!
//! Special timestamps: -1 latest, -2 earliest, -3 the record with the greatest timestamp (version 7), -4 earliest local
//! (8), -5 latest tiered (9; there are no tiers). A version too old for a special timestamp gives UNSUPPORTED_VERSION. A
//! partition that stands twice is answered once, with INVALID_REQUEST.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::{ListOffset, ListOffsetOutcome};

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = ListOffsetsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let image = broker.shard.image();
    let mut rows: BTreeMap<(&str, i32), Result<usize, ErrorCode>> = BTreeMap::new();
    let mut wanted = Vec::new();
    for topic in &message.topics {
        let id = image.topic(&topic.name).map(|topic| topic.id());
        for partition in &topic.partitions {
            let row = match id {
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(_) if partition.timestamp < lowest_special(request.version) => Err(ErrorCode::UnsupportedVersion),
                Some(topic) => {
                    wanted.push(ListOffset {
                        topic,
                        partition: partition.partition_index,
                        timestamp: partition.timestamp,
                        current_leader_epoch: partition.current_leader_epoch,
                    });
                    Ok(wanted.len() - 1)
                }
            };
            rows.entry((&*topic.name, partition.partition_index))
                .and_modify(|twice| *twice = Err(ErrorCode::InvalidRequest))
                .or_insert(row);
        }
    }
    let Ok(outcomes) = broker.list_offsets(wanted).await else { return Reply::Close };
    let topics = message.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .filter_map(|partition| {
                let row = rows.remove(&(&*topic.name, partition.partition_index))?;
                Some(answer(partition.partition_index, row.map(|place| outcomes[place])))
            })
            .collect(),
    });
    let response = ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() };
    Reply::Now(request.respond(&response))
}

fn answer(partition_index: i32, row: Result<ListOffsetOutcome, ErrorCode>) -> ListOffsetsPartitionResponse {
    let failed = |error| ListOffsetOutcome { error, timestamp: -1, offset: -1, leader_epoch: -1 };
    let outcome = row.unwrap_or_else(failed);
    ListOffsetsPartitionResponse {
        partition_index,
        error_code: outcome.error.code(),
        timestamp: outcome.timestamp,
        offset: outcome.offset,
        leader_epoch: outcome.leader_epoch,
    }
}

/// The lowest special timestamp that a version knows.
fn lowest_special(version: i16) -> i64 {
    match version {
        ..=6 => -2,
        7 => -3,
        8 => -4,
        _ => -5,
    }
}
