//! From one generation to the next: what begins a rebalance, when its join phase ends, and whom time takes out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::member::Waiting;
use super::{ClassicGroup, InitialDelay, State, ms, sync_error};
use crate::coordinator::timers::Timer;
use crate::coordinator::{Answer, Environment, Ticket};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::join_group::{JoinGroupResponse, JoinGroupResponseMember};
use crate::types::MonotonicUs;

impl ClassicGroup {
    /// Something changed that needs a new generation, or that a generation in the making has waited for.
    pub(super) fn prepare_rebalance_or_complete_join(&mut self, environment: &mut Environment<'_>) {
        match self.state {
            State::Stable | State::CompletingRebalance | State::Empty => self.prepare_rebalance(environment),
            State::PreparingRebalance => self.maybe_complete_join(environment),
        }
    }

    /// Ends the join phase when everybody is there, but not while members of an empty group gather.
    pub(super) fn maybe_complete_join(&mut self, environment: &mut Environment<'_>) {
        if self.state == State::PreparingRebalance && self.initial.is_none() && self.has_all_joined() {
            self.complete_join(environment);
        }
    }

    /// Begins a rebalance (`prepareRebalance`). Who waits for an assignment has to join anew.
    pub(super) fn prepare_rebalance(&mut self, environment: &mut Environment<'_>) {
        let now = environment.context.now;
        if self.state == State::CompletingRebalance {
            self.reset_assignments(environment, ErrorCode::RebalanceInProgress);
        }
        self.clear_sync_pending();
        let is_initial = self.state == State::Empty;
        self.enter(State::PreparingRebalance, environment);
        if is_initial {
            let delay_ms = ms(environment.config.initial_rebalance_delay_ms);
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.initial = Some(InitialDelay { delay_ms, remaining_ms, has_new_member: false });
            self.join_end.set(now.plus_ms(delay_ms), now, environment.timers, &self.id, || Timer::Join);
        } else if self.has_all_joined() {
            self.complete_join(environment);
        } else {
            let end = now.plus_ms(self.rebalance_timeout_ms());
            self.join_end.set(end, now, environment.timers, &self.id, || Timer::Join);
        }
    }

    /// The wait for members is over. In an empty group it goes on as long as new ones come and time remains
    /// (`tryCompleteInitialRebalanceElseSchedule`).
    pub(super) fn on_join_end(&mut self, environment: &mut Environment<'_>) {
        assert_eq!(self.state, State::PreparingRebalance);
        let now = environment.context.now;
        match &mut self.initial {
            Some(initial) if initial.has_new_member && initial.remaining_ms != 0 => {
                let delay_ms = ms(environment.config.initial_rebalance_delay_ms).min(initial.remaining_ms);
                *initial = InitialDelay {
                    delay_ms,
                    remaining_ms: initial.remaining_ms.saturating_sub(initial.delay_ms),
                    has_new_member: false,
                };
                self.join_end.set(now.plus_ms(delay_ms), now, environment.timers, &self.id, || Timer::Join);
            }
            _ => self.complete_join(environment),
        }
    }

    /// Ends the join phase (`completeClassicGroupJoin`): dynamic members that have not come back are out, everybody else is
    /// in the next generation. When only static members are left and none came back, waits on.
    fn complete_join(&mut self, environment: &mut Environment<'_>) {
        let now = environment.context.now;
        self.join_end.clear();
        if self.joining < self.members.len() {
            let late = self.members.values().filter(|member| member.join.is_none() && member.instance_id.is_none());
            let late: Vec<Rc<str>> = late.map(|member| Rc::clone(&member.id)).collect();
            for id in late {
                self.remove(&id, environment.step);
            }
        }
        if self.members.is_empty() {
            self.begin_empty_generation(environment);
        } else if self.joining == 0 {
            let wait_ms = self.rebalance_timeout_ms().max(limits::REBALANCE_RETRY_MS_MIN);
            self.join_end.set(now.plus_ms(wait_ms), now, environment.timers, &self.id, || Timer::Join);
        } else {
            self.elect_leader();
            self.begin_generation(environment);
        }
    }

    /// The leader must be among those that came back (`maybeElectNewJoinedLeader`).
    fn elect_leader(&mut self) {
        let is_back = |id: &Rc<str>| self.members.get(id).is_some_and(|member| member.join.is_some());
        if !self.leader.as_ref().is_some_and(is_back) {
            self.leader =
                self.members.values().find(|member| member.join.is_some()).map(|member| Rc::clone(&member.id));
        }
        assert!(self.leader.is_some());
    }

    /// Nobody is left: a record without members, of a generation of its own.
    fn begin_empty_generation(&mut self, environment: &mut Environment<'_>) {
        self.initial = None;
        self.generation = next_generation(self.generation);
        self.protocol = None;
        self.leader = None;
        self.topics = self.subscribed_topics();
        self.enter(State::Empty, environment);
        environment.step.records.push(self.record());
    }

    /// Answers every member that joined, and expects a SyncGroup of each.
    fn begin_generation(&mut self, environment: &mut Environment<'_>) {
        let now = environment.context.now;
        self.initial = None;
        self.generation = next_generation(self.generation);
        self.protocol = Some(self.select_protocol());
        self.topics = self.subscribed_topics();
        self.enter(State::CompletingRebalance, environment);
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            let member = self.members.get_mut(id).expect("ids of members");
            member.is_new = false;
            member.is_sync_pending = true;
            let waiting = member.join.take();
            if let Some(waiting) = waiting {
                self.joining -= 1;
                let answer = self.joined(waiting, id);
                environment.step.answers.push(answer);
            }
            self.renew_session(environment, id);
        }
        self.sync_pending = ids.len();
        let end = now.plus_ms(self.rebalance_timeout_ms());
        self.sync_end.set(end, now, environment.timers, &self.id, || Timer::Sync);
    }

    /// The protocol that most members prefer among those all can follow; of equals the first by name.
    pub(super) fn select_protocol(&self) -> Rc<str> {
        let mut votes: BTreeMap<&Rc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let favourite =
                member.protocols.iter().find(|protocol| self.protocol_count(&protocol.name) == self.members.len());
            let favourite = favourite.expect("only members with a protocol that all others can follow are let in");
            *votes.entry(&favourite.name).or_default() += 1;
        }
        let mut chosen = None;
        for (name, count) in votes {
            if chosen.is_none_or(|(_, most)| count > most) {
                chosen = Some((name, count));
            }
        }
        Rc::clone(chosen.expect("a group that chooses has members").0)
    }

    /// The answer to a JoinGroup of a member of this generation; the leader is told who is in it.
    pub(super) fn joined(&self, waiting: Waiting, member_id: &str) -> (Ticket, Answer) {
        let members = if self.is_leader(member_id) { self.members_for_leader() } else { Vec::new() };
        let leader = self.leader.as_deref().unwrap_or_default();
        self.joined_as(waiting, member_id, leader, members)
    }

    /// The same with another word on leader and members.
    pub(super) fn joined_as(
        &self,
        waiting: Waiting,
        member_id: &str,
        leader: &str,
        members: Vec<JoinGroupResponseMember<'static>>,
    ) -> (Ticket, Answer) {
        let response = JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.as_deref().map(|name| name.to_owned().into()),
            protocol_name: nullable_name(waiting.version, self.protocol.as_deref()),
            leader: leader.to_owned().into(),
            member_id: member_id.to_owned().into(),
            members,
            ..JoinGroupResponse::default()
        };
        (waiting.ticket, Answer::Join(response))
    }

    /// Everybody with what they told about the protocol chosen.
    pub(super) fn members_for_leader(&self) -> Vec<JoinGroupResponseMember<'static>> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| JoinGroupResponseMember {
            member_id: member.id.to_string().into(),
            group_instance_id: member.instance_id.as_deref().map(|id| id.to_owned().into()),
            metadata: member.metadata(protocol).to_vec().into(),
        });
        members.collect()
    }

    /// Takes all assignments back and tells those that wait for theirs why (`resetAndPropagateAssignmentWithError`).
    pub(super) fn reset_assignments(&mut self, environment: &mut Environment<'_>, error: ErrorCode) {
        let mut answered = Vec::new();
        for member in self.members.values_mut() {
            self.bytes -= member.assignment.len();
            member.assignment = Box::default();
            if let Some(waiting) = member.sync.take() {
                environment.step.answers.push(sync_error(waiting, error));
                answered.push(Rc::clone(&member.id));
            }
        }
        for id in &answered {
            self.renew_session(environment, id);
        }
    }

    /// No SyncGroup is expected any more.
    fn clear_sync_pending(&mut self) {
        self.sync_end.clear();
        if self.sync_pending > 0 {
            self.members.values_mut().for_each(|member| member.is_sync_pending = false);
            self.sync_pending = 0;
        }
    }

    /// Members that should have sent their SyncGroup are out (`expirePendingSync`).
    pub(super) fn on_sync_end(&mut self, environment: &mut Environment<'_>) {
        assert!(matches!(self.state, State::CompletingRebalance | State::Stable));
        if self.sync_pending == 0 {
            return;
        }
        let missing = self.members.values().filter(|member| member.is_sync_pending);
        let missing: Vec<Rc<str>> = missing.map(|member| Rc::clone(&member.id)).collect();
        for id in missing {
            self.remove(&id, environment.step);
        }
        self.prepare_rebalance(environment);
    }

    /// The member was heard of, or answered: its session begins anew.
    pub(super) fn renew_session(&mut self, environment: &mut Environment<'_>, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let end = environment.context.now.plus_ms(ms(member.session_timeout_ms));
            self.end_session_at(environment, member_id, end);
        }
    }

    /// The member must be heard of before `end`.
    pub(super) fn end_session_at(&mut self, environment: &mut Environment<'_>, member_id: &str, end: MonotonicUs) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_end = Some(end);
            self.watch_sessions(environment, end);
        }
    }

    /// Sees to it that [`ClassicGroup::on_sessions`] is called at `end` or before.
    pub(super) fn watch_sessions(&mut self, environment: &mut Environment<'_>, end: MonotonicUs) {
        // One entry is about all members, so that it names none.
        self.sessions.watch(end, environment.context.now, environment.timers, &self.id, || Timer::Session("".into()));
    }

    /// Members that were silent for too long are out, and ids that nobody joined with are forgotten
    /// (`expireClassicGroupMemberHeartbeat`). Those that wait for an answer are alive.
    pub(super) fn on_sessions(&mut self, environment: &mut Environment<'_>) {
        let now = environment.context.now;
        let members = self.members.values().filter_map(|member| Some((member.session_end?, Rc::clone(&member.id))));
        let pending = self.pending.iter().map(|(id, end)| (*end, Rc::clone(id)));
        let mut due: Vec<(MonotonicUs, Rc<str>)> = members.chain(pending).filter(|(end, _)| *end <= now).collect();
        due.sort_unstable();
        for (_, id) in due {
            // What happened to those before it may have ended or renewed it.
            if self.pending.get(&id).is_some_and(|end| *end <= now) {
                self.remove_pending(&id);
                self.complete_join_if_all_joined(environment);
                continue;
            }
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.session_end.is_none_or(|end| end > now) {
                continue;
            }
            if member.has_satisfied_heartbeat() {
                member.session_end = None;
                continue;
            }
            self.remove(&id, environment.step);
            match self.state {
                State::Stable | State::CompletingRebalance => self.prepare_rebalance(environment),
                State::PreparingRebalance => self.complete_join_if_all_joined(environment),
                State::Empty => {}
            }
        }
        let ends = self.members.values().filter_map(|member| member.session_end);
        if let Some(first) = ends.chain(self.pending.values().copied()).min() {
            self.watch_sessions(environment, first);
        }
    }

    /// Unlike a member that leaves, one that timed out may end the wait for members of an empty group: then it was the
    /// last who had not come, or there is none.
    fn complete_join_if_all_joined(&mut self, environment: &mut Environment<'_>) {
        if self.state == State::PreparingRebalance && self.has_all_joined() {
            self.complete_join(environment);
        }
    }
}

fn next_generation(generation: i32) -> i32 {
    generation.checked_add(1).unwrap_or(1)
}

/// A name that may be absent: versions before 7 cannot say so.
pub(super) fn nullable_name(version: i16, name: Option<&str>) -> Option<Cow<'static, str>> {
    match name {
        None if version < 7 => Some("".into()),
        name => name.map(|name| name.to_owned().into()),
    }
}
