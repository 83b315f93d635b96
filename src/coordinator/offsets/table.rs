//! The offsets in memory: per group a map from topic and partition, topics by a number in place of their name.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::super::records::OffsetCommitValue;
use crate::types::MonotonicUs;

/// What an offset counts for beside its metadata, in bytes: key and row, and as much again for room in the map's nodes.
const ROW_BYTES: usize = 80;
/// What metadata or an expiry adds beside its text, in bytes.
const RARE_BYTES: usize = 48;
/// What a group counts for beside its name, in bytes: with the first node of its map, and as a group without members.
const GROUP_BYTES: usize = 1024;
/// What a topic counts for beside its name, in bytes.
const TOPIC_BYTES: usize = 96;

/// The offsets.
#[derive(Debug, Default)]
pub struct Offsets {
    groups: BTreeMap<Rc<str>, BTreeMap<(TopicNumber, i32), Row>>,
    topics: Topics,
    count: usize,
    bytes: usize,
    /// Group, topic and partition of offsets that are gone and whose tombstones come with later steps.
    pub(super) tombstones: BTreeSet<(Rc<str>, Rc<str>, i32)>,
    pub(super) expiry: Expiry,
}

/// When to look for what has expired.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// The earliest entry among the timers that is for this.
    pub(super) armed: Option<MonotonicUs>,
    /// When the next check begins.
    pub(super) next_check: Option<MonotonicUs>,
    /// Where a check that began goes on.
    pub(super) cursor: Option<Rc<str>>,
    /// The name these entries have: they are for no group.
    pub(super) nobody: Rc<str>,
}

/// One committed offset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Row {
    pub(super) offset: i64,
    pub(super) commit_timestamp: i64,
    pub(super) leader_epoch: i32,
    rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<Row>() == 32);

/// What most commits are without.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Rare {
    metadata: Box<str>,
    expire_timestamp: i64,
}

impl Row {
    pub(super) fn new(value: &OffsetCommitValue) -> Row {
        let rare = || Rare { metadata: value.metadata.as_str().into(), expire_timestamp: value.expire_timestamp };
        let is_plain = value.metadata.is_empty() && value.expire_timestamp == -1;
        Row {
            offset: value.offset,
            commit_timestamp: value.commit_timestamp,
            leader_epoch: value.leader_epoch,
            rare: (!is_plain).then(|| Box::new(rare())),
        }
    }

    pub(super) fn metadata(&self) -> &str {
        self.rare.as_ref().map_or("", |rare| &rare.metadata)
    }

    /// When it expires by a time of its own.
    pub(super) fn expire_timestamp(&self) -> Option<i64> {
        self.rare.as_ref().map(|rare| rare.expire_timestamp).filter(|timestamp| *timestamp != -1)
    }

    fn bytes(&self) -> usize {
        ROW_BYTES + self.rare.as_ref().map_or(0, |rare| RARE_BYTES + rare.metadata.len())
    }
}

/// Stands for a topic's name while any group has an offset of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct TopicNumber(u32);

#[derive(Debug, Default)]
struct Topics {
    numbers: BTreeMap<Rc<str>, TopicNumber>,
    /// By number; without offsets: free.
    slots: Vec<TopicSlot>,
    free: Vec<TopicNumber>,
}

#[derive(Debug)]
struct TopicSlot {
    name: Rc<str>,
    offset_count: usize,
}

impl Topics {
    fn slot(&self, number: TopicNumber) -> &TopicSlot {
        &self.slots[index(number)]
    }

    fn slot_mut(&mut self, number: TopicNumber) -> &mut TopicSlot {
        &mut self.slots[index(number)]
    }

    fn add(&mut self, name: &str) -> TopicNumber {
        let name: Rc<str> = Rc::from(name);
        let slot = TopicSlot { name: Rc::clone(&name), offset_count: 0 };
        let number = match self.free.pop() {
            Some(number) => {
                *self.slot_mut(number) = slot;
                number
            }
            None => {
                self.slots.push(slot);
                TopicNumber(u32::try_from(self.slots.len() - 1).expect("fewer topics than offsets, which are bounded"))
            }
        };
        self.numbers.insert(name, number);
        number
    }

    fn remove(&mut self, number: TopicNumber) {
        let name = Rc::clone(&self.slot(number).name);
        self.numbers.remove(&name);
        self.free.push(number);
    }
}

fn index(number: TopicNumber) -> usize {
    usize::try_from(number.0).expect("Linux on 64 bits")
}

impl Offsets {
    /// How many offsets there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What they count for in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of a topic that any group has an offset of.
    pub(super) fn topic(&self, name: &str) -> Option<TopicNumber> {
        self.topics.numbers.get(name).copied()
    }

    pub(super) fn topic_name(&self, topic: TopicNumber) -> &Rc<str> {
        &self.topics.slot(topic).name
    }

    pub(super) fn row(&self, group: &str, topic: TopicNumber, partition: i32) -> Option<&Row> {
        self.groups.get(group)?.get(&(topic, partition))
    }

    /// The offsets of a group, those of one topic together.
    pub(super) fn of_group(&self, group: &str) -> impl Iterator<Item = (&Rc<str>, i32, &Row)> {
        let rows = self.groups.get(group).into_iter().flatten();
        rows.map(|((topic, partition), row)| (self.topic_name(*topic), *partition, row))
    }

    /// Which offsets a group has.
    pub(super) fn rows_of(&self, group: &str) -> Vec<(TopicNumber, i32)> {
        self.groups.get(group).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// Which groups have which partitions of a topic.
    pub(super) fn of_topic(&self, topic: TopicNumber) -> Vec<(Rc<str>, i32)> {
        let whole_topic = (topic, i32::MIN)..=(topic, i32::MAX);
        let rows = self.groups.iter().flat_map(|(group, rows)| {
            rows.range(whole_topic.clone()).map(|((_, partition), _)| (Rc::clone(group), *partition))
        });
        rows.collect()
    }

    /// Stores an offset, unless it needs more memory than before and all together would count for more than `bytes_max`.
    /// Says whether it did.
    pub(super) fn put(&mut self, group: &Rc<str>, topic: &str, partition: i32, row: Row, bytes_max: usize) -> bool {
        let number = self.topic(topic);
        let old = number.and_then(|number| self.row(group, number, partition)).map_or(0, Row::bytes);
        let mut new = row.bytes();
        if number.is_none() {
            new += TOPIC_BYTES + topic.len();
        }
        if !self.groups.contains_key(group) {
            new += GROUP_BYTES + group.len();
        }
        if new > old && self.bytes + (new - old) > bytes_max {
            return false;
        }
        let number = number.unwrap_or_else(|| self.topics.add(topic));
        let rows = self.groups.entry(Rc::clone(group)).or_default();
        if rows.insert((number, partition), row).is_none() {
            self.topics.slot_mut(number).offset_count += 1;
            self.count += 1;
        }
        self.bytes = self.bytes + new - old;
        if !self.tombstones.is_empty() {
            // The record of this offset comes after what the tombstone would delete.
            let name = Rc::clone(self.topic_name(number));
            self.tombstones.remove(&(Rc::clone(group), name, partition));
        }
        true
    }

    /// Removes an offset, which must be there. Says its topic's name.
    pub(super) fn remove(&mut self, group: &str, topic: TopicNumber, partition: i32) -> Rc<str> {
        let rows = self.groups.get_mut(group).expect("an offset of the group is there");
        let row = rows.remove(&(topic, partition)).expect("the offset is there");
        self.count -= 1;
        self.bytes -= row.bytes();
        if rows.is_empty() {
            self.groups.remove(group);
            self.bytes -= GROUP_BYTES + group.len();
        }
        let slot = self.topics.slot_mut(topic);
        slot.offset_count -= 1;
        let (name, is_last) = (Rc::clone(&slot.name), slot.offset_count == 0);
        if is_last {
            self.topics.remove(topic);
            self.bytes -= TOPIC_BYTES + name.len();
        }
        name
    }
}
