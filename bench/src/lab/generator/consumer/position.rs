//! Where a consumer is in a partition, and where it begins.

use std::collections::BTreeMap;
use std::error::Error;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

use crate::client::{Client, answer_body, debug};
use crate::lab::generator::plan::Plan;
use crate::lab::generator::topology::error_name;
use crate::lab::number::{narrow, size};

/// The timestamp that asks for a partition's end.
const LATEST: i64 = -1;

/// What a consumer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::lab::generator) enum Purpose {
    /// Reads what is produced as it comes.
    Live,
    /// Reads the backlog, again and again, beside the live traffic.
    CatchUp,
}

/// One partition's.
#[derive(Clone, Debug)]
pub(in crate::lab::generator) struct Position {
    /// Its partition: index into the plan's.
    pub(super) slot: u32,
    /// The next to read.
    pub(super) offset: i64,
    /// The end of the backlog, for a catch-up reader.
    pub(super) again_at: Option<i64>,
    /// Whether the fetch session knows another offset.
    pub(super) is_changed: bool,
}

impl Position {
    /// At the end of a partition, or at the beginning of the backlog before it.
    pub(super) fn new(slot: u32, purpose: Purpose, end: i64) -> Position {
        let (offset, again_at) = match purpose {
            Purpose::Live => (end, None),
            Purpose::CatchUp => (0, Some(end)),
        };
        Position { slot, offset, again_at, is_changed: true }
    }

    /// Everything before `next` is read. A catch-up reader that has read the backlog begins with it again.
    pub(super) fn advance(&mut self, next: i64) {
        self.offset = if self.again_at.is_some_and(|end| next >= end) { 0 } else { next };
    }
}

/// The ends of all partitions, by partition: what was produced before the load begins.
pub(in crate::lab::generator) fn ends(plan: &Plan) -> Result<Vec<i64>, Box<dyn Error>> {
    let mut ends = vec![0; plan.slots.len()];
    for (address, leader) in plan.leaders.iter().zip(0..) {
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
        let answer = Client::connect(*address)?.ask(version, &request)?;
        let body = &mut answer_body(&answer, ApiKey::ListOffsets, version)?;
        let response = ListOffsetsResponse::decode(body, version).map_err(debug)?;
        for topic in &response.topics {
            let index = plan.topics.iter().position(|name| *name == topic.name).ok_or("a foreign topic's offsets")?;
            for partition in &topic.partitions {
                if partition.error_code != 0 {
                    return Err(format!("the end of {}: {}", topic.name, error_name(partition.error_code)).into());
                }
                let slot = plan.slot_of(index, partition.partition_index).ok_or("a foreign partition's offset")?;
                ends[size(slot)] = partition.offset;
            }
        }
    }
    Ok(ends)
}

/// The partitions of member `index` of `members`: every so-manieth.
pub(in crate::lab::generator) fn share(plan: &Plan, index: u32, members: u32) -> Vec<u32> {
    (index..narrow(plan.slots.len())).step_by(size(members)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_consumer_begins_at_the_end_and_goes_on() {
        let mut position = Position::new(0, Purpose::Live, 50);
        assert_eq!(position.offset, 50);
        position.advance(60);
        assert_eq!(position.offset, 60);
    }

    #[test]
    fn a_catch_up_reader_reads_the_backlog_again_and_again() {
        let mut position = Position::new(0, Purpose::CatchUp, 50);
        assert_eq!(position.offset, 0);
        position.advance(49);
        assert_eq!(position.offset, 49);
        position.advance(55);
        assert_eq!(position.offset, 0);
    }
}
