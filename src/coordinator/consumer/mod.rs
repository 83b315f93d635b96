//! Groups of the consumer protocol, KIP-848: the broker assigns, members only send heartbeats.
//!
//! A group has an epoch that rises when members, subscriptions or topics change; a target assignment, made for one epoch;
//! and members that each move towards their target at their own pace (`reconcile.rs`). Kafka's classes of the same:
//! `GroupMetadataManager.consumerGroupHeartbeat`, `ConsumerGroup`, `CurrentAssignmentBuilder`, `TargetAssignmentBuilder`.
//!
//! State changes in one way only: a record is made and applied, so that replaying the records gives the same group. A
//! request is checked whole before its first record.
//!
//! Invariants: no two members hold a partition, counting what a member has still to give up; the target's epoch is not
//! above the group's; members of the maps below are members of the group.
//!
//! Not as in Kafka:
//! - Patterns are matched at once, in the heartbeat that brings them, where Kafka does it in the background and tells with
//!   the next heartbeat. There is no refresh by time (`group.consumer.regex.refresh.interval.ms`), since without ACLs
//!   nothing but the metadata changes what a pattern matches.
//! - A member that drops its pattern, and names the topics it named before, raises the epoch, so that it loses what only
//!   the pattern gave it. Kafka's keeps that until the next change.
//! - Members of the classic protocol in such a group come with conversion, which is disabled.

mod describe;
mod expire;
mod heartbeat;
mod member;
#[cfg(test)]
mod model;
mod pattern;
mod reconcile;
mod subscription;
mod target;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, HashMap};

use self::member::{Member, Name, Standing};
use self::subscription::Subscriptions;
use super::assignor::{ASSIGNORS, Assignor, Partitions};
use super::records::{ConsumerGroupMetadataValue, MemberKey, Record, RegularExpressionKey};
use super::{Coordinator, Group, Step};
use crate::protocol::error_code::ErrorCode;
use crate::types::{MonotonicUs, TopicId};

/// Where a group stands: Kafka's `ConsumerGroupState`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsumerGroupState {
    /// No members.
    Empty,
    /// The target is of an older epoch; the next heartbeat makes a new one.
    Assigning,
    /// Members are on the way to their targets.
    Reconciling,
    /// Every member has what it should.
    Stable,
}

impl ConsumerGroupState {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            ConsumerGroupState::Empty => "Empty",
            ConsumerGroupState::Assigning => "Assigning",
            ConsumerGroupState::Reconciling => "Reconciling",
            ConsumerGroupState::Stable => "Stable",
        }
    }
}

/// A KIP-848 group.
#[derive(Debug)]
pub struct ConsumerGroup {
    id: Name,
    epoch: i32,
    /// Of the subscribed topics, when the epoch was last raised.
    metadata_hash: i64,
    /// Epoch of the target assignment; -1 before the first.
    assignment_epoch: i32,
    /// Boxed: a map keeps room for eleven, and most groups have few.
    members: BTreeMap<Name, Box<Member>>,
    /// The target assignment, by member. A map of its own: its records may be replayed before those of the members.
    targets: BTreeMap<Name, Partitions>,
    /// Member ids by instance id.
    static_members: HashMap<Name, Name>,
    subscriptions: Subscriptions,
    /// Who holds each partition, also those it must give up. A partition that nobody holds is free.
    held: HashMap<(TopicId, i32), Name>,
    /// What the group reads may no longer be what `metadata_hash` is of.
    topics_stale: bool,
    /// The metadata has changed since the patterns were matched.
    patterns_stale: bool,
    /// When they were.
    patterns_matched: Option<MonotonicUs>,
}

impl ConsumerGroup {
    /// A group before its first record.
    pub fn new(id: Name) -> ConsumerGroup {
        ConsumerGroup {
            id,
            epoch: 0,
            metadata_hash: 0,
            assignment_epoch: -1,
            members: BTreeMap::new(),
            targets: BTreeMap::new(),
            static_members: HashMap::new(),
            subscriptions: Subscriptions::default(),
            held: HashMap::new(),
            topics_stale: true,
            patterns_stale: true,
            patterns_matched: None,
        }
    }

    /// Whether a commit by this member may be stored (`ConsumerGroup.validateOffsetCommit`).
    ///
    /// Errors: `UnknownMemberId`; `UnsupportedVersion` below version 9 of OffsetCommit; `StaleMemberEpoch`, upon which the
    /// client takes the epoch of its next heartbeat and commits again.
    pub fn validate_offset_commit(
        &self,
        member_id: &str,
        _instance_id: Option<&str>,
        member_epoch: i32,
        version: i16,
    ) -> Result<(), ErrorCode> {
        // Admin clients, and consumers that assign themselves.
        if member_epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if version < 9 {
            return Err(ErrorCode::UnsupportedVersion);
        }
        check_epoch(member, member_epoch)
    }

    /// Whether offsets may be fetched by this member (`ConsumerGroup.validateOffsetFetch`).
    ///
    /// Errors: `UnknownMemberId`, `StaleMemberEpoch`.
    pub fn validate_offset_fetch(&self, member_id: Option<&str>, member_epoch: i32) -> Result<(), ErrorCode> {
        match member_id {
            None if member_epoch < 0 => Ok(()),
            None => Err(ErrorCode::UnknownMemberId),
            Some(id) => check_epoch(self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?, member_epoch),
        }
    }

    /// Whether a member subscribes to the topic.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscriptions.contains(topic)
    }

    /// From which moment the retention of an offset counts: `None` while nothing may expire. Here always from its commit;
    /// offsets of subscribed topics do not expire ([`ConsumerGroup::is_subscribed_to`]).
    pub fn expiry_base(&self, commit_timestamp: i64) -> Option<i64> {
        Some(commit_timestamp)
    }

    /// No members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where it stands, for ListGroups and the descriptions.
    pub fn state(&self) -> ConsumerGroupState {
        if self.members.is_empty() {
            ConsumerGroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            ConsumerGroupState::Assigning
        } else if self.members.values().all(|member| member.standing.is_reconciled_to(self.assignment_epoch)) {
            ConsumerGroupState::Stable
        } else {
            ConsumerGroupState::Reconciling
        }
    }

    /// Records that delete the group (`ConsumerGroup.createGroupTombstoneRecords`). Who appends them removes the group.
    pub fn tombstones(&self, records: &mut Vec<Record>) {
        let members = || self.members.keys();
        records.extend(members().map(|id| Record::ConsumerCurrent(self.member_key(id), None)));
        records.extend(members().map(|id| Record::ConsumerTargetMember(self.member_key(id), None)));
        records.push(Record::ConsumerTargetMetadata(self.id.to_string(), None));
        records.extend(members().map(|id| Record::ConsumerMember(self.member_key(id), None)));
        let patterns = self.subscriptions.patterns().map(|(pattern, _)| pattern);
        records.extend(patterns.map(|pattern| Record::ConsumerRegularExpression(self.pattern_key(pattern), None)));
        records.push(Record::ConsumerGroup(self.id.to_string(), None));
    }

    /// The metadata changed: the next heartbeat looks whether that concerns the group.
    pub fn on_metadata(&mut self) {
        self.topics_stale = true;
        self.patterns_stale = true;
    }

    /// The assignor that most members ask for, or the first of all.
    fn assignor(&self) -> Assignor {
        let votes = |assignor: Assignor| {
            let wanted = self.members.values().filter_map(|member| member.metadata.server_assignor.as_deref());
            wanted.filter(|name| *name == assignor.name()).count()
        };
        // The first of those with most votes.
        ASSIGNORS.into_iter().rev().max_by_key(|&assignor| votes(assignor)).expect("there are assignors")
    }

    fn member_key(&self, member_id: &str) -> MemberKey {
        MemberKey { group: self.id.to_string(), member_id: member_id.to_owned() }
    }

    fn pattern_key(&self, pattern: &str) -> RegularExpressionKey {
        RegularExpressionKey { group: self.id.to_string(), regular_expression: pattern.to_owned() }
    }

    /// Makes a change: applies the record and has it appended.
    fn emit(&mut self, step: &mut Step, record: Record) {
        self.apply(&record);
        step.records.push(record);
    }

    /// Raises the epoch, so that a new target is made.
    fn bump(&mut self, step: &mut Step, metadata_hash: i64) {
        let value = ConsumerGroupMetadataValue { epoch: self.epoch.saturating_add(1), metadata_hash };
        self.emit(step, Record::ConsumerGroup(self.id.to_string(), Some(value)));
        #[cfg(corelane_defect = "epoch_not_recorded")]
        step.records.pop();
    }

    /// Tombstones of one member: it holds nothing any more.
    fn remove(&mut self, step: &mut Step, member_id: &str) {
        self.emit(step, Record::ConsumerCurrent(self.member_key(member_id), None));
        self.emit(step, Record::ConsumerTargetMember(self.member_key(member_id), None));
        self.emit(step, Record::ConsumerMember(self.member_key(member_id), None));
    }

    /// Changes the state as a record of this group says. Tombstones of what does not exist change nothing.
    fn apply(&mut self, record: &Record) {
        match record {
            Record::ConsumerGroup(_, value) => {
                let value = value.as_ref();
                self.epoch = value.map_or(0, |value| value.epoch);
                self.metadata_hash = value.map_or(0, |value| value.metadata_hash);
            }
            Record::ConsumerTargetMetadata(_, epoch) => self.assignment_epoch = epoch.unwrap_or(-1),
            Record::ConsumerMember(key, Some(value)) => {
                let before = self.member(&key.member_id).metadata.clone();
                self.count(&before, false);
                self.count(value, true);
                self.forget_instance(&key.member_id, before.instance_id.as_deref());
                let id = self.name_of(&key.member_id);
                if let Some(instance) = &value.instance_id {
                    self.static_members.insert(instance.as_str().into(), id);
                }
                self.member(&key.member_id).metadata = value.clone();
            }
            Record::ConsumerMember(key, None) => {
                let Some(member) = self.members.remove(key.member_id.as_str()) else { return };
                self.release(&key.member_id, &member.standing);
                self.count(&member.metadata, false);
                self.forget_instance(&key.member_id, member.metadata.instance_id.as_deref());
            }
            Record::ConsumerTargetMember(key, Some(partitions)) => {
                let id = self.name_of(&key.member_id);
                self.targets.insert(id, Partitions::from_list(partitions));
            }
            Record::ConsumerTargetMember(key, None) => {
                self.targets.remove(key.member_id.as_str());
            }
            Record::ConsumerCurrent(key, Some(value)) => self.set_standing(key, Standing::from_record(value)),
            Record::ConsumerCurrent(key, None) => {
                if self.members.contains_key(key.member_id.as_str()) {
                    self.set_standing(key, Standing::default());
                }
            }
            Record::ConsumerRegularExpression(key, value) => {
                let names = value.as_ref().map(|value| {
                    let mut names: Vec<Name> = value.topics.iter().map(|topic| topic.as_str().into()).collect();
                    names.sort_unstable();
                    names
                });
                self.topics_stale |= self.subscriptions.set_matches(&key.regular_expression, names);
            }
            Record::OffsetCommit(..) | Record::Group(..) => unreachable!("records of other kinds go elsewhere"),
        }
    }

    /// The member of an id, made if there is none.
    fn member(&mut self, id: &str) -> &mut Member {
        if !self.members.contains_key(id) {
            self.members.insert(self.name_of(id), Box::new(Member::new()));
        }
        self.members.get_mut(id).expect("it was inserted above")
    }

    /// An id in the memory that the maps share.
    fn name_of(&self, member_id: &str) -> Name {
        let known = self.members.get_key_value(member_id).map(|(id, _)| id);
        let known = known.or_else(|| self.targets.get_key_value(member_id).map(|(id, _)| id));
        known.cloned().unwrap_or_else(|| member_id.into())
    }

    /// The member is no longer that of the instance id, unless another has taken it already.
    fn forget_instance(&mut self, member_id: &str, instance: Option<&str>) {
        if let Some(instance) = instance
            && self.static_members.get(instance).is_some_and(|id| **id == *member_id)
        {
            self.static_members.remove(instance);
        }
    }

    /// Counts a member's subscription in or out.
    fn count(&mut self, metadata: &super::records::ConsumerGroupMemberMetadataValue, comes: bool) {
        for name in &metadata.subscribed_topic_names {
            let changed = if comes { self.subscriptions.add_name(name) } else { self.subscriptions.remove_name(name) };
            self.topics_stale |= changed;
        }
        match member::pattern_of(metadata) {
            Some(pattern) if comes => self.subscriptions.add_pattern(pattern),
            Some(pattern) => self.subscriptions.remove_pattern(pattern),
            None => {}
        }
    }

    fn set_standing(&mut self, key: &MemberKey, standing: Standing) {
        let before = std::mem::replace(&mut self.member(&key.member_id).standing, standing.clone());
        self.release(&key.member_id, &before);
        let id = self.name_of(&key.member_id);
        for partition in standing.assigned.iter().chain(standing.pending_revocation.iter()) {
            #[cfg(corelane_defect = "given_before_revoked")]
            if standing.pending_revocation.contains(partition.0, partition.1) {
                continue;
            }
            self.held.insert(partition, Name::clone(&id));
        }
    }

    /// Frees what a member holds. What a later record gave to another stays with that: after compaction the records of
    /// members come in another order than they were written.
    fn release(&mut self, member_id: &str, standing: &Standing) {
        for partition in standing.assigned.iter().chain(standing.pending_revocation.iter()) {
            if self.held.get(&partition).is_some_and(|holder| **holder == *member_id) {
                self.held.remove(&partition);
            }
        }
    }
}

fn check_epoch(member: &Member, epoch: i32) -> Result<(), ErrorCode> {
    let is_current = member.standing.epoch == epoch || cfg!(corelane_defect = "stale_epoch_commits");
    if is_current { Ok(()) } else { Err(ErrorCode::StaleMemberEpoch) }
}

impl Coordinator {
    /// Applies a record of a KIP-848 group. A group of the other protocol gives way: a live one was deleted by a record
    /// before, and one that only has offsets has no record.
    pub(super) fn replay_consumer(&mut self, record: &Record) {
        let (id, deletes) = match record {
            Record::ConsumerGroup(id, value) => (id, value.is_none()),
            Record::ConsumerTargetMetadata(id, value) => (id, value.is_none()),
            Record::ConsumerMember(key, value) => (&key.group, value.is_none()),
            Record::ConsumerTargetMember(key, value) => (&key.group, value.is_none()),
            Record::ConsumerCurrent(key, value) => (&key.group, value.is_none()),
            Record::ConsumerRegularExpression(key, value) => (&key.group, value.is_none()),
            Record::OffsetCommit(..) | Record::Group(..) => unreachable!("records of other kinds go elsewhere"),
        };
        if !deletes && !matches!(self.groups.get(id.as_str()), Some(Group::Consumer(_))) {
            let id = Name::from(id.as_str());
            self.groups.insert(Name::clone(&id), Group::Consumer(ConsumerGroup::new(id)));
        }
        let Some(Group::Consumer(group)) = self.groups.get_mut(id.as_str()) else { return };
        group.apply(record);
        if matches!(record, Record::ConsumerGroup(_, None)) {
            self.groups.remove(id.as_str());
        }
    }

    /// The KIP-848 half of `on_metadata`. Leaves no records: the next heartbeat of each group that is concerned does, as in
    /// Kafka.
    pub(super) fn on_metadata_consumer(&mut self) {
        for group in self.groups.values_mut() {
            if let Group::Consumer(group) = group {
                group.on_metadata();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_and_a_member_are_small() {
        // 10,000 idle groups shall cost at most 20 MiB.
        assert!(size_of::<ConsumerGroup>() <= 384, "{}", size_of::<ConsumerGroup>());
        assert!(size_of::<Member>() <= 384, "{}", size_of::<Member>());
    }
}
