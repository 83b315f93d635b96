//! JoinGroup: how somebody becomes a member, or stays one (`classicGroupJoin…`).

use std::rc::Rc;

use super::member::{Member, Waiting, protocols, rebalance_timeout_ms};
use super::{ClassicGroup, State, join_error, ms, size_max, sync_error};
use crate::coordinator::{Answer, Caller, Environment};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};

/// First version whose dynamic members must join with an id that the coordinator handed out before (KIP-394).
const MEMBER_ID_REQUIRED_VERSION: i16 = 4;
/// First version whose answer can tell a leader not to assign anew (KIP-814).
const SKIP_ASSIGNMENT_VERSION: i16 = 9;

/// A JoinGroup with what belongs to it.
#[derive(Clone, Copy)]
pub(super) struct Join<'a> {
    pub(super) caller: Caller<'a>,
    pub(super) waiting: Waiting,
    pub(super) request: &'a JoinGroupRequest<'a>,
    /// Bytes that all groups of the coordinator together may still grow by.
    pub(super) room: usize,
}

impl ClassicGroup {
    /// Handles a JoinGroup whose group id and session timeout are fine. The answer comes now or with the next generation.
    pub(super) fn join(&mut self, environment: &mut Environment<'_>, join: Join<'_>) {
        let member_id = &*join.request.member_id;
        let outcome = if !self.accepts(environment, member_id) {
            self.remove(member_id, environment.step);
            Err(("", ErrorCode::GroupMaxSizeReached))
        } else if !self.supports(&join.request.protocol_type, &join.request.protocols) {
            Err((member_id, ErrorCode::InconsistentGroupProtocol))
        } else if member_id.is_empty() {
            self.join_as_new(environment, join)
        } else {
            self.join_as_known(environment, join)
        };
        if let Err((member_id, error)) = outcome {
            environment.step.answers.push(join_error(join.waiting, member_id, error));
        }
    }

    /// Whether there is room for the member below `group.max.size` (`acceptJoiningMember`).
    fn accepts(&self, environment: &Environment<'_>, member_id: &str) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty => true,
            // Those that wait count, not all members: so the last to come back find a group that shrank full.
            State::PreparingRebalance => {
                member.is_some_and(|member| member.join.is_some()) || self.joining < size_max(environment)
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < size_max(environment)
            }
        }
    }

    /// Whether one of the protocols is among those that all members can follow (`supportsProtocols`).
    fn supports(&self, protocol_type: &str, protocols: &[JoinGroupRequestProtocol<'_>]) -> bool {
        match self.state {
            State::Empty => !protocol_type.is_empty() && !protocols.is_empty(),
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.protocol_type.as_deref() == Some(protocol_type)
                    && protocols.iter().any(|protocol| self.protocol_count(&protocol.name) == self.members.len())
            }
        }
    }

    fn join_as_new<'a>(
        &mut self,
        environment: &mut Environment<'_>,
        join: Join<'a>,
    ) -> Result<(), (&'a str, ErrorCode)> {
        let instance_id = join.request.group_instance_id.as_deref();
        let uuid = uuid::Builder::from_random_bytes(environment.context.random).into_uuid();
        let member_id: Rc<str> = format!("{}-{uuid}", instance_id.unwrap_or(join.caller.client_id)).into();
        if let Some(old) = instance_id.and_then(|instance_id| self.static_members.get(instance_id).cloned()) {
            return self.replace_static_member(environment, join, &old, member_id);
        }
        if instance_id.is_none() && join.caller.version >= MEMBER_ID_REQUIRED_VERSION {
            return self.hand_out_id(environment, join, member_id);
        }
        self.add_member(environment, join, member_id)
    }

    /// A new dynamic member has to come back with the id it gets here, so that a client that lost an answer does not leave
    /// a member behind.
    fn hand_out_id<'a>(
        &mut self,
        environment: &mut Environment<'_>,
        join: Join<'a>,
        member_id: Rc<str>,
    ) -> Result<(), (&'a str, ErrorCode)> {
        let bytes = super::PENDING_BYTES + member_id.len();
        if self.pending.len() >= limits::GROUP_PENDING_MEMBERS_MAX {
            return Err(("", ErrorCode::CoordinatorLoadInProgress));
        }
        self.admits(0, bytes, join.room).map_err(|error| ("", error))?;
        environment.step.answers.push(join_error(join.waiting, &member_id, ErrorCode::MemberIdRequired));
        let until = environment.context.now.plus_ms(ms(join.request.session_timeout_ms));
        self.add_pending(member_id, until);
        self.watch_sessions(environment, until);
        Ok(())
    }

    fn join_as_known<'a>(
        &mut self,
        environment: &mut Environment<'_>,
        join: Join<'a>,
    ) -> Result<(), (&'a str, ErrorCode)> {
        let member_id = &*join.request.member_id;
        let instance_id = join.request.group_instance_id.as_deref();
        if let Some((id, _)) = self.pending.get_key_value(member_id) {
            if instance_id.is_some() {
                // Ids are handed out to dynamic members only; Kafka has no better word for it either.
                return Err(("", ErrorCode::UnknownServerError));
            }
            let id = Rc::clone(id);
            return self.add_member(environment, join, id);
        }
        if let Err(error) = self.validate_member(member_id, instance_id) {
            environment.step.answers.push(join_error(join.waiting, member_id, error));
            return Ok(());
        }
        let is_unchanged = self.members[member_id].matches(&join.request.protocols);
        let stays = match self.state {
            State::Empty | State::PreparingRebalance => false,
            // It may have missed the answer.
            State::CompletingRebalance => is_unchanged,
            // A leader that joins has a reason that its metadata does not show, such as new partitions.
            State::Stable => is_unchanged && !self.is_leader(member_id),
        };
        if stays {
            let answer = self.joined(join.waiting, member_id);
            environment.step.answers.push(answer);
            return Ok(());
        }
        self.update_member(environment, join)
    }

    /// A member joins again, perhaps with other protocols (`updateMemberThenRebalanceOrCompleteJoin`).
    fn update_member<'a>(
        &mut self,
        environment: &mut Environment<'_>,
        join: Join<'a>,
    ) -> Result<(), (&'a str, ErrorCode)> {
        let member_id = &*join.request.member_id;
        let old = &self.members[member_id];
        let mut new = Member::new(Rc::clone(&old.id), join.caller, join.request);
        new.assignment = old.assignment.clone();
        self.admits(old.bytes(), new.bytes(), join.room).map_err(|error| (member_id, error))?;
        let mut member = self.take(member_id).expect("the caller knows the member");
        member.protocols = new.protocols;
        member.rebalance_timeout_ms = new.rebalance_timeout_ms;
        member.session_timeout_ms = new.session_timeout_ms;
        if let Some(overtaken) = member.join.replace(join.waiting) {
            environment.step.answers.push(join_error(overtaken, member_id, ErrorCode::RebalanceInProgress));
        }
        self.insert(*member);
        self.prepare_rebalance_or_complete_join(environment);
        Ok(())
    }

    /// `addMemberThenRebalanceOrCompleteJoin`. The id may have been handed out before.
    fn add_member<'a>(
        &mut self,
        environment: &mut Environment<'_>,
        join: Join<'a>,
        member_id: Rc<str>,
    ) -> Result<(), (&'a str, ErrorCode)> {
        let mut member = Member::new(Rc::clone(&member_id), join.caller, join.request);
        let refused_id = &*join.request.member_id;
        self.admits(0, member.bytes(), join.room).map_err(|error| (refused_id, error))?;
        member.join = Some(join.waiting);
        if let (State::PreparingRebalance, Some(initial)) = (self.state, &mut self.initial) {
            initial.has_new_member = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(Rc::from(&*join.request.protocol_type));
        }
        if self.leader.is_none() {
            self.leader = Some(Rc::clone(&member_id));
        }
        self.remove_pending(&member_id);
        self.insert(member);
        // It cannot send heartbeats while it does not know its id, and nobody notices that its connection is gone.
        let end = environment.context.now.plus_ms(limits::NEW_MEMBER_JOIN_MS);
        self.end_session_at(environment, &member_id, end);
        self.prepare_rebalance_or_complete_join(environment);
        Ok(())
    }

    /// A static member came back and has forgotten its id, such as after a restart: it takes the place that it had, under a
    /// new id, and whoever uses the old one is fenced (`updateStaticMemberThenRebalanceOrCompleteJoin`).
    fn replace_static_member<'a>(
        &mut self,
        environment: &mut Environment<'_>,
        join: Join<'a>,
        old_id: &str,
        new_id: Rc<str>,
    ) -> Result<(), (&'a str, ErrorCode)> {
        let known = &self.members[old_id];
        let known_bytes = known.bytes();
        let mut asked = Member::new(Rc::clone(&new_id), join.caller, join.request);
        asked.assignment = known.assignment.clone();
        self.admits(known_bytes, asked.bytes(), join.room).map_err(|error| ("", error))?;
        let leader_before = self.leader.clone();
        let mut member = self.take(old_id).expect("names of static members lead to members");
        self.fence(environment, &mut member);
        member.id = Rc::clone(&new_id);
        member.protocols = protocols(&join.request.protocols);
        member.rebalance_timeout_ms = rebalance_timeout_ms(join.caller, join.request);
        member.session_timeout_ms = join.request.session_timeout_ms;
        member.join = Some(join.waiting);
        member.is_new = false;
        self.insert(*member);
        if self.is_leader(old_id) {
            self.leader = Some(Rc::clone(&new_id));
        }
        self.renew_session(environment, &new_id);
        match self.state {
            State::Stable if self.protocol.as_ref() == Some(&self.select_protocol()) => {
                self.stay_stable(environment, &new_id, leader_before.as_deref().unwrap_or_default());
            }
            // The leader may know the old id already, and would assign to it.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(environment),
            State::PreparingRebalance => self.maybe_complete_join(environment),
            State::Empty => unreachable!("an empty group has no static members"),
        }
        Ok(())
    }

    /// Answers what a replaced member waits for.
    fn fence(&self, environment: &mut Environment<'_>, member: &mut Member) {
        if let Some(waiting) = member.join.take() {
            environment.step.answers.push(join_error(waiting, &member.id, ErrorCode::FencedInstanceId));
        }
        if let Some(waiting) = member.sync.take() {
            environment.step.answers.push(sync_error(waiting, ErrorCode::FencedInstanceId));
        }
    }

    /// The static member goes on in the generation there is; its new id is recorded, and what it reads now. (Kafka knows
    /// the latter only after it read the record again.)
    fn stay_stable(&mut self, environment: &mut Environment<'_>, member_id: &str, leader_before: &str) {
        self.topics = self.subscribed_topics();
        environment.step.records.push(self.record());
        let is_leader = self.is_leader(member_id);
        let member = self.members.get_mut(member_id).expect("it was just taken in");
        let Some(waiting) = member.join.take() else { return };
        self.joining -= 1;
        let answer = if waiting.version >= SKIP_ASSIGNMENT_VERSION {
            let (ticket, mut answer) = self.joined(waiting, member_id);
            if let Answer::Join(response) = &mut answer {
                response.skip_assignment = is_leader;
            }
            (ticket, answer)
        } else {
            // Who is told of a leader that is not itself does not assign.
            self.joined_as(waiting, member_id, leader_before, Vec::new())
        };
        environment.step.answers.push(answer);
    }

    /// Whether members may grow from `old` to `new` bytes.
    fn admits(&self, old: usize, new: usize, room: usize) -> Result<(), ErrorCode> {
        let added = new.saturating_sub(old);
        if added > limits::GROUP_BYTES_MAX.saturating_sub(self.bytes) {
            Err(ErrorCode::GroupMaxSizeReached)
        } else if added > room {
            Err(ErrorCode::CoordinatorLoadInProgress)
        } else {
            Ok(())
        }
    }
}
