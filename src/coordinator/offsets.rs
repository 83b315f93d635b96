//! Committed offsets of all groups of one coordinator: Kafka's `OffsetMetadataManager`.
//!
//! A commit is state at once; its answer leaves when its record is durable, and so does every answer that may show it. What is
//! kept of a group without members lives here too: expiry (KIP-211) deletes offsets, and the group after its last one.
//!
//! Not as in Kafka: memory is bounded, see [`crate::limits::OFFSET_BYTES_PER_COORDINATOR_MAX`]; and tombstones that follow from no
//! request (expiry, deleted topics) come in portions, one per step, so that nobody waits behind a million of them.
//!
//! Invariants: an offset has a group; the names of topics are kept once; `bytes` is the sum of what is held; an offset that
//! is there has no tombstone waiting.

mod commit;
mod delete;
mod expiry;
mod fetch;
#[cfg(test)]
mod fixture;
mod table;

use std::borrow::Cow;
use std::rc::Rc;

pub use self::table::Offsets;
use self::table::Row;
use super::classic::ClassicGroup;
use super::records::{OffsetCommitKey, OffsetCommitValue, Record};
use super::{Coordinator, Group};
use crate::protocol::error_code::ErrorCode;
use crate::types::TimestampMs;

/// What a record of a batch takes beside its key and value, in bytes: Kafka's `DefaultRecord.MAX_RECORD_OVERHEAD`.
const RECORD_OVERHEAD_BYTES: usize = 21;

impl Coordinator {
    /// Applies a record of the log. An offset of a group that is not there makes it: a group without members.
    pub(in crate::coordinator) fn replay_offset(&mut self, key: &OffsetCommitKey, value: Option<&OffsetCommitValue>) {
        match value {
            Some(value) => {
                let group = match self.groups.get_key_value(&*key.group) {
                    Some((id, _)) => Rc::clone(id),
                    None => Rc::from(&*key.group),
                };
                self.ensure_group(&group, TimestampMs::new(value.commit_timestamp));
                let stored = self.offsets.put(&group, &key.topic, key.partition, Row::new(value), usize::MAX);
                assert!(stored);
            }
            None => {
                #[cfg(not(corelane_defect = "tombstones_not_replayed"))]
                if let Some(topic) = self.offsets.topic(&key.topic)
                    && self.offsets.row(&key.group, topic, key.partition).is_some()
                {
                    self.offsets.remove(&key.group, topic, key.partition);
                }
            }
        }
    }

    /// How many offsets are committed, and what they count for against [`crate::limits::OFFSET_BYTES_PER_COORDINATOR_MAX`].
    pub fn offset_count_and_bytes(&self) -> (usize, usize) {
        (self.offsets.count(), self.offsets.bytes())
    }

    fn ensure_group(&mut self, id: &Rc<str>, now: TimestampMs) {
        if !self.groups.contains_key(id) {
            let group = ClassicGroup::new(Rc::clone(id), now);
            self.groups.insert(Rc::clone(id), Group::Classic(group));
        }
    }
}

impl Offsets {
    /// Deletes all offsets of a group that is being deleted, with a tombstone for each.
    pub fn delete_group(&mut self, group: &str, records: &mut Vec<Record>) {
        for (topic, partition) in self.rows_of(group) {
            let name = self.remove(group, topic, partition);
            records.push(tombstone(group, &name, partition));
        }
    }
}

fn is_subscribed(group: &Group, topic: &str) -> bool {
    match group {
        Group::Classic(group) => group.is_subscribed_to(topic),
        Group::Consumer(group) => group.is_subscribed_to(topic),
    }
}

/// Bytes of a tombstone in a batch.
fn key_bytes(group: &str, topic: &str) -> usize {
    RECORD_OVERHEAD_BYTES + 10 + group.len() + topic.len()
}

fn offset_key(group: &str, topic: &str, partition: i32) -> OffsetCommitKey {
    OffsetCommitKey { group: group.to_owned(), topic: topic.to_owned(), partition }
}

fn tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record::OffsetCommit(offset_key(group, topic, partition), None)
}

fn owned(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.to_owned())
}

fn code(result: Result<(), ErrorCode>) -> i16 {
    result.err().unwrap_or(ErrorCode::None).code()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::fixture::{At, World, commit};
    use crate::protocol::arbitrary::Source;

    /// Random commits, deletions and restarts against a plain map.
    #[test]
    fn offsets_are_those_of_a_plain_map_also_after_replay() {
        const GROUPS: [&str; 4] = ["g", "h", "i", ""];
        for seed in 0..60 {
            let source = &mut Source::new(seed);
            let mut world = World::new();
            let mut model: BTreeMap<&str, BTreeMap<At, (i64, String)>> = BTreeMap::new();
            for step in 0..300_i64 {
                let group = GROUPS[source.below(GROUPS.len())];
                let topic = ["a", "b", "nope"][source.below(3)];
                let partition = i32::try_from(source.below(4)).unwrap();
                let known = world
                    .image
                    .topic(topic)
                    .is_some_and(|topic| topic.partition(crate::types::PartitionIndex::new(partition)).is_some());
                let expected = if known { 0 } else { 3 };
                match source.below(20) {
                    0 if !group.is_empty() && world.coordinator.groups.contains_key(group) => {
                        let deleted = world.delete(group, &[(topic, partition)]);
                        assert_eq!(deleted, (0, vec![expected]), "seed {seed} step {step}");
                        if known {
                            model.entry(group).or_default().remove(&(topic.to_owned(), partition));
                        }
                    }
                    1 if world.image.topic(topic).is_some() => {
                        world.delete_topic(topic);
                        for offsets in model.values_mut() {
                            offsets.retain(|(name, _), _| name != topic);
                        }
                        world.create(topic, 3);
                    }
                    2 => {
                        let mut records = Vec::new();
                        world.coordinator.offsets.delete_group(group, &mut records);
                        world.log.extend(records);
                        model.remove(group);
                    }
                    3 => world = world.restarted(),
                    4 => {
                        world.pass(1_000_000);
                    }
                    _ => {
                        let mut request = commit(group, topic, partition, step);
                        let note = "x".repeat(source.below(3) * source.below(50));
                        request.topics[0].partitions[0].committed_metadata = Some(note.clone().into());
                        assert_eq!(world.commit(9, &request), [expected], "seed {seed} step {step}");
                        if known {
                            model.entry(group).or_default().insert((topic.to_owned(), partition), (step, note));
                        }
                    }
                }
                let mut restarted = (step % 50 == 49).then(|| world.restarted());
                for group in GROUPS {
                    let expected = model.get(group).cloned().unwrap_or_default();
                    assert_eq!(world.all(group), expected, "seed {seed} step {step}");
                    if let Some(restarted) = &mut restarted {
                        assert_eq!(restarted.all(group), expected, "seed {seed} step {step}");
                    }
                }
                if let Some(restarted) = restarted {
                    let sums = restarted.coordinator.offset_count_and_bytes();
                    assert_eq!(sums, world.coordinator.offset_count_and_bytes(), "seed {seed} step {step}");
                }
            }
            for group in GROUPS {
                world.coordinator.offsets.delete_group(group, &mut Vec::new());
            }
            assert_eq!(world.coordinator.offset_count_and_bytes(), (0, 0), "seed {seed}");
        }
    }
}
