//! Where partitions end, and with that whether their leaders have taken them on: metadata may name a leader that has not
//! heard of it yet.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Instant;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::error_code::ErrorCode;
use corelane::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

use super::plan::Plan;
use super::topology::{LEADER_PATIENCE, LEADER_PAUSE, error_name};
use crate::client::{Client, answer_body, debug};
use crate::lab::number::size;

/// The timestamp that asks for a partition's end.
const LATEST: i64 = -1;

/// The ends of all partitions, by partition, as soon as every leader tells them.
///
/// Errors: a leader that refuses, or does not answer for a partition within a minute.
pub(super) fn ends(plan: &Plan) -> Result<Vec<i64>, Box<dyn Error>> {
    let began = Instant::now();
    let mut ends = vec![0; plan.slots.len()];
    for (address, leader) in plan.leaders.iter().zip(0..) {
        while let Err(code) = ask(plan, *address, leader, &mut ends)? {
            let is_early =
                [ErrorCode::UnknownTopicOrPartition, ErrorCode::NotLeaderOrFollower, ErrorCode::LeaderNotAvailable]
                    .iter()
                    .any(|early| early.code() == code);
            if !is_early || began.elapsed() > LEADER_PATIENCE {
                return Err(format!("{address} does not tell where its partitions end: {}", error_name(code)).into());
            }
            std::thread::sleep(LEADER_PAUSE);
        }
    }
    Ok(ends)
}

/// Asks one leader for the ends of its partitions. An error code is what it says of one of them.
fn ask(plan: &Plan, address: SocketAddr, leader: u32, ends: &mut [i64]) -> Result<Result<(), i16>, Box<dyn Error>> {
    let mut topics: BTreeMap<u32, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for slot in plan.slots.iter().filter(|slot| slot.leader == leader) {
        let partition = ListOffsetsPartition {
            partition_index: slot.partition,
            timestamp: LATEST,
            ..ListOffsetsPartition::default()
        };
        topics.entry(slot.topic).or_default().push(partition);
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| ListOffsetsTopic { name: plan.topics[size(topic)].as_str().into(), partitions });
    let request = ListOffsetsRequest { replica_id: -1, topics: topics.collect(), ..ListOffsetsRequest::default() };
    let version = plan.versions.of::<ListOffsetsRequest<'_>>()?;
    let answer = Client::connect(address)?.ask(version, &request)?;
    let body = &mut answer_body(&answer, ApiKey::ListOffsets, version)?;
    let response = ListOffsetsResponse::decode(body, version).map_err(debug)?;
    for topic in &response.topics {
        let index = plan.topics.iter().position(|name| *name == topic.name).ok_or("a foreign topic's offsets")?;
        for partition in &topic.partitions {
            if partition.error_code != 0 {
                return Ok(Err(partition.error_code));
            }
            let slot = plan.slot_of(index, partition.partition_index).ok_or("a foreign partition's offset")?;
            ends[size(slot)] = partition.offset;
        }
    }
    Ok(Ok(()))
}
