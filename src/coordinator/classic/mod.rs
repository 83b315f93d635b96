//! Classic groups: join, sync, heartbeat, leave. Kafka's `ClassicGroup` and the `classicGroup…` half of its
//! `GroupMetadataManager`, also a group without members that only has offsets.
//!
//! One generation: members join ([`State::PreparingRebalance`]) until all are back or the rebalance timeout has passed; the
//! first of them becomes the leader and is told who the others are ([`State::CompletingRebalance`]); its SyncGroup brings
//! everybody's assignment, which becomes one record ([`State::Stable`]).
//!
//! Members' sessions have one entry in the timers for the whole group, at the end of the earliest session: a heartbeat
//! moves a number, and the entry looks over all members when it comes up.
//!
//! Three things are not as in Kafka, each because Kafka leaves a request without an answer or a process without bounds:
//! - A request that waits and is overtaken by another one of the same member gets REBALANCE_IN_PROGRESS, and one whose member
//!   is removed UNKNOWN_MEMBER_ID.
//! - A static member that is replaced before it sent its SyncGroup leaves that duty to the one that replaces it.
//! - The bounds of [`crate::limits`] (`GROUP…`).
//!
//! Invariants: the leader is a member; every member follows the protocol chosen, from the end of the join phase on; counts
//! of members that wait and of protocols agree with the members.

mod alarm;
mod join;
mod leave;
mod member;
mod rebalance;
mod requests;
mod subscription;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::rc::Rc;

use self::alarm::{Alarm, Deadline};
use self::member::{Member, Waiting};
use super::records::{GroupMetadataValue, Record};
use super::timers::Timer;
use super::{Answer, Environment, Step, Ticket};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_groups::DescribedGroup;
use crate::protocol::messages::join_group::JoinGroupResponse;
use crate::protocol::messages::list_groups::ListedGroup;
use crate::protocol::messages::sync_group::SyncGroupResponse;
use crate::types::{MonotonicUs, TimestampMs};

/// The protocol type of consumers, Kafka's `ConsumerProtocol.PROTOCOL_TYPE`.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// Memory of a member id that was handed out, besides the id, in bytes.
const PENDING_BYTES: usize = 64;

/// Where a group stands, Kafka's `ClassicGroupState`. Its fifth, Dead, is one that a group has when it is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// No members.
    Empty,
    /// Waits for members to join.
    PreparingRebalance,
    /// Waits for the leader's assignment.
    CompletingRebalance,
    /// Members know what they have to read.
    Stable,
}

impl State {
    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A classic group; also a group without members that only has offsets (no protocol type: a simple group).
#[derive(Debug)]
pub struct ClassicGroup {
    id: Rc<str>,
    state: State,
    /// When it entered the state, by the wall clock. `None`: it comes from a record too old to tell.
    state_since: Option<TimestampMs>,
    protocol_type: Option<Rc<str>>,
    protocol: Option<Rc<str>>,
    generation: i32,
    leader: Option<Rc<str>>,
    members: BTreeMap<Rc<str>, Box<Member>>,
    /// Member ids by the names of static members.
    static_members: BTreeMap<Rc<str>, Rc<str>>,
    /// Ids that were handed out, and when each is forgotten.
    pending: BTreeMap<Rc<str>, MonotonicUs>,
    /// How many members can follow each protocol, by name.
    protocols: Vec<(Rc<str>, usize)>,
    /// Topics that consumers read. `None`: their metadata does not tell.
    topics: Option<Box<[Box<str>]>>,
    /// Members whose JoinGroup waits.
    joining: usize,
    /// Members whose SyncGroup of this generation has not come.
    sync_pending: usize,
    /// There while members of an empty group gather.
    initial: Option<InitialDelay>,
    /// What members and pending ids cost in memory, in bytes.
    bytes: usize,
    sessions: Alarm,
    join_end: Deadline,
    sync_end: Deadline,
}

/// The first rebalance of an empty group waits for more members.
#[derive(Clone, Copy, Debug)]
struct InitialDelay {
    /// How long this wait is, in milliseconds.
    delay_ms: u64,
    /// How much longer further waits may be, in milliseconds.
    remaining_ms: u64,
    /// Somebody came meanwhile.
    has_new_member: bool,
}

impl ClassicGroup {
    /// A group without members.
    pub fn new(id: Rc<str>, now: TimestampMs) -> ClassicGroup {
        ClassicGroup {
            id,
            state: State::Empty,
            state_since: Some(now),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            protocols: Vec::new(),
            topics: None,
            joining: 0,
            sync_pending: 0,
            initial: None,
            bytes: 0,
            sessions: Alarm::default(),
            join_end: Deadline::default(),
            sync_end: Deadline::default(),
        }
    }

    /// The group of a record.
    pub(super) fn replayed(id: Rc<str>, value: &GroupMetadataValue) -> ClassicGroup {
        let mut group = ClassicGroup::new(id, TimestampMs::NONE);
        group.state_since = Some(value.current_state_timestamp).filter(|&ms| ms != -1).map(TimestampMs::new);
        if !cfg!(corelane_defect = "generation_not_replayed") {
            group.generation = value.generation;
        }
        group.protocol = value.protocol.as_deref().map(Rc::from);
        let protocol: Rc<str> = group.protocol.clone().unwrap_or_else(|| Rc::from(""));
        for record in &value.members {
            let member = Member::replayed(record, Rc::clone(&protocol));
            let twice = group.members.contains_key(&member.id)
                || member.instance_id.as_ref().is_some_and(|id| group.static_members.contains_key(id));
            // No broker writes a member twice; if one did, the first keeps its place.
            if !twice {
                group.insert(member);
            }
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
            let leader = value.leader.as_deref().and_then(|leader| group.members.get_key_value(leader));
            group.leader = leader.or_else(|| group.members.first_key_value()).map(|(id, _)| Rc::clone(id));
        }
        group.protocol_type = Some(value.protocol_type.as_str()).filter(|name| !name.is_empty()).map(Rc::from);
        group.topics = group.subscribed_topics();
        group
    }

    /// The log is replayed: sessions begin anew (`onLoaded`). A group above `group.max.size` rebalances to become smaller.
    pub(super) fn on_loaded(&mut self, environment: &mut Environment<'_>) {
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            self.renew_session(environment, id);
        }
        if self.members.len() > size_max(environment) {
            self.prepare_rebalance(environment);
        }
    }

    /// An entry of the timers came up.
    pub(super) fn on_timer(&mut self, environment: &mut Environment<'_>, timer: &Timer) {
        let now = environment.context.now;
        match timer {
            Timer::Session(_) => {
                if self.sessions.came_up(now) {
                    self.on_sessions(environment);
                }
            }
            Timer::Join => {
                if self.join_end.came_up(now, environment.timers, &self.id, || Timer::Join) {
                    self.on_join_end(environment);
                }
            }
            Timer::Sync => {
                if self.sync_end.came_up(now, environment.timers, &self.id, || Timer::Sync) {
                    self.on_sync_end(environment);
                }
            }
            // Of the other protocol, which the group has had before; offsets expire elsewhere.
            Timer::Revocation(_) | Timer::Expiry => {}
        }
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether a commit by this member may be stored (`ClassicGroup.validateOffsetCommit`).
    ///
    /// `version` is that of the request; no version of OffsetCommit has a rule of its own here.
    ///
    /// Errors: `UnknownMemberId`, `FencedInstanceId`, `IllegalGeneration`, `RebalanceInProgress`.
    pub fn validate_offset_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        _version: i16,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Empty && generation < 0 {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.validate_member(member_id, instance_id)?;
        if generation != self.generation && !cfg!(corelane_defect = "stale_generation_commits") {
            return Err(ErrorCode::IllegalGeneration);
        }
        match self.state {
            State::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::Empty | State::PreparingRebalance | State::Stable => Ok(()),
        }
    }

    /// Whether offsets may be deleted (`ClassicGroup.validateOffsetDelete`): with members only those of consumers, whose
    /// topics are known.
    ///
    /// Errors: `NonEmptyGroup`.
    pub fn validate_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.state == State::Empty || self.is_of_consumers() { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    /// A member committed: its session is renewed (`OffsetMetadataManager.commitOffset` reschedules the heartbeat).
    pub fn on_commit(&mut self, now: MonotonicUs, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            // Never earlier than it was, so that the entry in the timers need not move; nor does a suspended session start.
            let renewed = now.plus_ms(ms(member.session_timeout_ms));
            member.session_end = member.session_end.map(|end| end.max(renewed));
        }
    }

    /// Whether a member reads the topic (`isSubscribedToTopic`): then its offsets neither expire nor can be deleted. With
    /// consumers whose metadata cannot be read, every topic counts.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.topics {
            Some(topics) => topics.binary_search_by(|known| (**known).cmp(topic)).is_ok(),
            None => self.is_of_consumers(),
        }
    }

    /// From which moment the retention of an offset counts (`offsetExpirationCondition`), in ms since 1970: `None` while
    /// nothing may expire.
    pub fn expiry_base(&self, commit_timestamp: i64) -> Option<i64> {
        if self.protocol_type.is_none() {
            return Some(commit_timestamp);
        }
        match self.state {
            State::Empty => Some(self.state_since.map_or(commit_timestamp, TimestampMs::value)),
            State::Stable if self.is_of_consumers() && self.topics.is_some() => Some(commit_timestamp),
            State::Stable | State::PreparingRebalance | State::CompletingRebalance => None,
        }
    }

    /// No members, nor anybody about to become one, so that it may be deleted.
    pub fn is_empty(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// What members and pending ids cost in memory, in bytes; 0 for an empty group.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Answers everything that waits with `error`, since the group's records can no longer be appended (`onUnloaded`).
    pub(super) fn fail(&mut self, error: ErrorCode, step: &mut Step) {
        for member in self.members.values_mut() {
            if let Some(waiting) = member.join.take() {
                self.joining -= 1;
                step.answers.push(join_error(waiting, &member.id, error));
            }
            if let Some(waiting) = member.sync.take() {
                step.answers.push(sync_error(waiting, error));
            }
        }
    }

    /// For ListGroups.
    pub(super) fn list(&self) -> ListedGroup<'static> {
        ListedGroup {
            group_id: self.id.to_string().into(),
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().to_owned().into(),
            group_state: self.state.name().into(),
            group_type: "classic".into(),
        }
    }

    /// For DescribeGroups: metadata and protocol only while stable.
    pub(super) fn describe(&self) -> DescribedGroup<'static> {
        let protocol = self.protocol.as_deref().filter(|_| self.state == State::Stable);
        DescribedGroup {
            group_id: self.id.to_string().into(),
            group_state: self.state.name().into(),
            protocol_type: self.protocol_type.as_deref().unwrap_or_default().to_owned().into(),
            protocol_data: protocol.unwrap_or_default().to_owned().into(),
            members: self.members.values().map(|member| member.describe(protocol)).collect(),
            ..DescribedGroup::default()
        }
    }

    /// The group as a record, with the assignments of its members.
    fn record(&self) -> Record {
        let protocol = self.protocol.as_deref();
        Record::Group(
            self.id.to_string(),
            Some(GroupMetadataValue {
                protocol_type: self.protocol_type.as_deref().unwrap_or_default().to_owned(),
                generation: self.generation,
                protocol: protocol.map(str::to_owned),
                leader: self.leader.as_deref().map(str::to_owned),
                current_state_timestamp: self.state_since.map_or(-1, TimestampMs::value),
                members: self.members.values().map(|member| member.record(protocol.unwrap_or_default())).collect(),
            }),
        )
    }

    fn enter(&mut self, state: State, environment: &Environment<'_>) {
        self.state = state;
        self.state_since = Some(environment.context.wall);
    }

    fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn has_all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending.is_empty()
    }

    /// Whether the group knows the member, under that name if it has one.
    fn validate_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                #[cfg(corelane_defect = "static_member_not_fenced")]
                Some(known) if **known != *member_id => return Ok(()),
                Some(known) if **known != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// How long a rebalance may take: as long as its slowest member says.
    fn rebalance_timeout_ms(&self) -> u64 {
        self.members.values().map(|member| ms(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// What the members read, as `computeSubscribedTopics`.
    fn subscribed_topics(&self) -> Option<Box<[Box<str>]>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(Box::default());
        }
        let protocol = self.protocol.as_deref()?;
        subscription::union(self.members.values().map(|member| member.metadata(protocol)))
    }

    /// Takes a member in: the tables know it afterwards. Its id and its instance id must be free.
    fn insert(&mut self, mut member: Member) {
        self.count_protocols(&mut member);
        if let Some(instance_id) = &member.instance_id {
            let before = self.static_members.insert(Rc::clone(instance_id), Rc::clone(&member.id));
            assert!(before.is_none());
        }
        self.bytes += member.bytes();
        self.joining += usize::from(member.join.is_some());
        self.sync_pending += usize::from(member.is_sync_pending);
        let before = self.members.insert(Rc::clone(&member.id), Box::new(member));
        assert!(before.is_none());
    }

    /// Takes a member out of all tables, requests that wait with it. The leader stays unchanged.
    fn take(&mut self, member_id: &str) -> Option<Box<Member>> {
        let member = self.members.remove(member_id)?;
        for protocol in &member.protocols {
            let at = self.protocol_index(&protocol.name).expect("protocols of members are counted");
            self.protocols[at].1 -= 1;
            if self.protocols[at].1 == 0 {
                self.protocols.remove(at);
            }
        }
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.bytes -= member.bytes();
        self.joining -= usize::from(member.join.is_some());
        self.sync_pending -= usize::from(member.is_sync_pending);
        Some(member)
    }

    /// Removes a member or a pending id. A new leader is found; requests of the member that wait get UNKNOWN_MEMBER_ID, so
    /// that a client that lives joins anew.
    fn remove(&mut self, member_id: &str, step: &mut Step) {
        self.remove_pending(member_id);
        let Some(member) = self.take(member_id) else { return };
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        if let Some(waiting) = member.join {
            step.answers.push(join_error(waiting, "", ErrorCode::UnknownMemberId));
        }
        if let Some(waiting) = member.sync {
            step.answers.push(sync_error(waiting, ErrorCode::UnknownMemberId));
        }
    }

    fn add_pending(&mut self, member_id: Rc<str>, until: MonotonicUs) {
        self.bytes += PENDING_BYTES + member_id.len();
        self.pending.insert(member_id, until);
    }

    /// Returns the id as it was kept.
    fn remove_pending(&mut self, member_id: &str) -> Option<Rc<str>> {
        let (id, _) = self.pending.remove_entry(member_id)?;
        self.bytes -= PENDING_BYTES + id.len();
        Some(id)
    }

    fn count_protocols(&mut self, member: &mut Member) {
        for protocol in &mut member.protocols {
            match self.protocol_index(&protocol.name) {
                Ok(at) => {
                    self.protocols[at].1 += 1;
                    // One copy of the name serves all members.
                    protocol.name = Rc::clone(&self.protocols[at].0);
                }
                Err(at) => self.protocols.insert(at, (Rc::clone(&protocol.name), 1)),
            }
        }
    }

    /// Where a protocol's count stands, or would.
    fn protocol_index(&self, name: &str) -> Result<usize, usize> {
        self.protocols.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    /// How many members can follow a protocol.
    fn protocol_count(&self, name: &str) -> usize {
        self.protocol_index(name).map_or(0, |at| self.protocols[at].1)
    }
}

/// Milliseconds of a peer's timeout: a negative one counts as none.
fn ms(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}

/// Members that a group may have.
fn size_max(environment: &Environment<'_>) -> usize {
    usize::try_from(environment.config.group_size_max).unwrap_or(0).min(crate::limits::GROUP_MEMBERS_MAX)
}

/// The answer to a JoinGroup that failed.
fn join_error(waiting: Waiting, member_id: &str, error: ErrorCode) -> (Ticket, Answer) {
    let response = JoinGroupResponse {
        error_code: error.code(),
        protocol_name: rebalance::nullable_name(waiting.version, None),
        member_id: member_id.to_owned().into(),
        ..JoinGroupResponse::default()
    };
    (waiting.ticket, Answer::Join(response))
}

/// The answer to a SyncGroup that failed.
fn sync_error(waiting: Waiting, error: ErrorCode) -> (Ticket, Answer) {
    let response = SyncGroupResponse { error_code: error.code(), ..SyncGroupResponse::default() };
    (waiting.ticket, Answer::Sync(response))
}
