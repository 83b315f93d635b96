//! The requests of classic groups and of all groups, as a coordinator gets them: finds or makes the group, and says what is
//! to be said without one.

use std::rc::Rc;

use super::join::Join;
use super::leave::Leaver;
use super::member::Waiting;
use super::{ClassicGroup, State, join_error, sync_error};
use crate::coordinator::records::{GroupMetadataValue, Record};
use crate::coordinator::timers::Timer;
use crate::coordinator::{Answer, Caller, Context, Coordinator, Environment, Group, Step, Ticket};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::delete_groups::DeletableGroupResult;
use crate::protocol::messages::describe_groups::DescribedGroup;
use crate::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::protocol::messages::join_group::JoinGroupRequest;
use crate::protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListedGroup};
use crate::protocol::messages::sync_group::SyncGroupRequest;
use crate::types::MonotonicUs;

impl Coordinator {
    /// JoinGroup. The answer comes in this step or a later one.
    ///
    /// Members of the classic protocol cannot join a KIP-848 group that has members (INCONSISTENT_GROUP_PROTOCOL); an empty
    /// one becomes a classic group.
    pub fn join(
        &mut self,
        context: Context<'_>,
        caller: Caller<'_>,
        ticket: Ticket,
        request: &JoinGroupRequest<'_>,
    ) -> Step {
        let mut step = Step::default();
        let waiting = Waiting { ticket, version: caller.version };
        match self.group_to_join(context, request, &mut step) {
            Ok(()) => {
                let room = limits::GROUP_BYTES_PER_COORDINATOR_MAX.saturating_sub(self.member_bytes);
                let join = Join { caller, waiting, request, room };
                self.with_classic(context, &mut step, &request.group_id, |group, environment| {
                    group.join(environment, join);
                });
            }
            Err((member_id, error)) => step.answers.push(join_error(waiting, member_id, error)),
        }
        step
    }

    /// Sees to it that there is a classic group to join, or says with which member id and error to refuse.
    fn group_to_join<'a>(
        &mut self,
        context: Context<'_>,
        request: &'a JoinGroupRequest<'_>,
        step: &mut Step,
    ) -> Result<(), (&'a str, ErrorCode)> {
        let member_id = &*request.member_id;
        let session_timeouts_ms = self.config.session_timeout_min_ms..=self.config.session_timeout_max_ms;
        if request.group_id.is_empty() {
            return Err((member_id, ErrorCode::InvalidGroupId));
        }
        if !session_timeouts_ms.contains(&request.session_timeout_ms) {
            return Err((member_id, ErrorCode::InvalidSessionTimeout));
        }
        match self.groups.get(&*request.group_id) {
            Some(Group::Classic(_)) => return Ok(()),
            Some(Group::Consumer(group)) if !group.is_empty() => {
                return Err(("", ErrorCode::InconsistentGroupProtocol));
            }
            // A member that has an id cannot have it from here.
            _ if !member_id.is_empty() => return Err((member_id, ErrorCode::UnknownMemberId)),
            Some(Group::Consumer(group)) => group.tombstones(&mut step.records),
            None if self.groups.len() >= limits::GROUPS_PER_COORDINATOR_MAX => {
                return Err(("", ErrorCode::CoordinatorLoadInProgress));
            }
            None => {}
        }
        let id: Rc<str> = Rc::from(&*request.group_id);
        self.groups.insert(Rc::clone(&id), Group::Classic(ClassicGroup::new(id, context.wall)));
        // So that the log knows of the group, should somebody commit to it before its first generation.
        let value = GroupMetadataValue {
            protocol_type: String::new(),
            generation: 0,
            protocol: None,
            leader: None,
            current_state_timestamp: context.wall.value(),
            members: Vec::new(),
        };
        step.records.push(Record::Group(request.group_id.to_string(), Some(value)));
        Ok(())
    }

    /// SyncGroup. The answer comes in this step or a later one.
    pub fn sync(
        &mut self,
        context: Context<'_>,
        caller: Caller<'_>,
        ticket: Ticket,
        request: &SyncGroupRequest<'_>,
    ) -> Step {
        let mut step = Step::default();
        let waiting = Waiting { ticket, version: caller.version };
        // From this version on both must be there (KIP-559).
        let lacks_protocol =
            caller.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none());
        let error = if lacks_protocol {
            Some(ErrorCode::InconsistentGroupProtocol)
        } else if request.group_id.is_empty() {
            Some(ErrorCode::InvalidGroupId)
        } else {
            let room = limits::GROUP_BYTES_PER_COORDINATOR_MAX.saturating_sub(self.member_bytes);
            let handled = self.with_classic(context, &mut step, &request.group_id, |group, environment| {
                group.sync(environment, waiting, request, room);
            });
            // Nor does a KIP-848 group know members of the classic protocol.
            if handled.is_none() { Some(ErrorCode::UnknownMemberId) } else { None }
        };
        if let Some(error) = error {
            step.answers.push(sync_error(waiting, error));
        }
        step
    }

    /// Heartbeat of a classic member. Leaves no records.
    pub fn heartbeat(&mut self, context: Context<'_>, request: &HeartbeatRequest<'_>) -> HeartbeatResponse {
        let result = if request.group_id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else {
            let mut step = Step::default();
            let handled = self.with_classic(context, &mut step, &request.group_id, |group, environment| {
                group.heartbeat(environment, request)
            });
            assert!(step.records.is_empty());
            assert!(step.answers.is_empty());
            handled.unwrap_or(Err(ErrorCode::UnknownMemberId))
        };
        HeartbeatResponse { error_code: code(result), ..HeartbeatResponse::default() }
    }

    /// LeaveGroup. Members of KIP-848 groups are taken out too: administrators do so by this request.
    pub fn leave(
        &mut self,
        context: Context<'_>,
        caller: Caller<'_>,
        request: &LeaveGroupRequest<'_>,
    ) -> (Step, LeaveGroupResponse<'static>) {
        let mut step = Step::default();
        let of_error =
            |error: ErrorCode| LeaveGroupResponse { error_code: error.code(), ..LeaveGroupResponse::default() };
        if request.group_id.is_empty() {
            return (step, of_error(ErrorCode::InvalidGroupId));
        }
        let leavers: Vec<Leaver<'_>> = if caller.version < 3 {
            vec![Leaver { member_id: &request.member_id, instance_id: None }]
        } else {
            let leavers = request.members.iter().map(|member| Leaver {
                member_id: &member.member_id,
                instance_id: member.group_instance_id.as_deref(),
            });
            leavers.collect()
        };
        let results = if let Some(Group::Consumer(group)) = self.groups.get_mut(&*request.group_id) {
            group.take_out(
                context.image,
                &mut step,
                leavers.iter().map(|leaver| (leaver.member_id, leaver.instance_id)),
            )
        } else {
            let results = self.with_classic(context, &mut step, &request.group_id, |group, environment| {
                group.leave(environment, leavers.iter().copied())
            });
            results.unwrap_or_else(|| vec![Err(ErrorCode::UnknownMemberId); leavers.len()])
        };
        if caller.version < 3 {
            let error_code = results.into_iter().map(code).next().unwrap_or_default();
            return (step, LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() });
        }
        let members = leavers.iter().zip(results).map(|(leaver, result)| MemberResponse {
            member_id: leaver.member_id.to_owned().into(),
            group_instance_id: leaver.instance_id.map(|id| id.to_owned().into()),
            error_code: code(result),
        });
        (step, LeaveGroupResponse { members: members.collect(), ..LeaveGroupResponse::default() })
    }

    /// The groups of ListGroups that pass its filters, which do not mind case.
    pub fn list_groups(&self, request: &ListGroupsRequest<'_>) -> Vec<ListedGroup<'static>> {
        let states: Vec<String> = request.states_filter.iter().map(|state| state.trim().to_lowercase()).collect();
        let types: Vec<String> = request.types_filter.iter().map(|kind| kind.to_lowercase()).collect();
        let passes = |filter: &[String], word: &str| filter.is_empty() || filter.contains(&word.to_lowercase());
        let listed = self.groups.iter().map(|(id, group)| match group {
            Group::Classic(group) => group.list(),
            Group::Consumer(group) => ListedGroup {
                group_id: id.to_string().into(),
                protocol_type: super::CONSUMER_PROTOCOL_TYPE.into(),
                group_state: group.state().name().into(),
                group_type: "consumer".into(),
            },
        });
        listed.filter(|group| passes(&states, &group.group_state) && passes(&types, &group.group_type)).collect()
    }

    /// One group of DescribeGroups. An unknown one is Dead, which is an error from version 6 on.
    pub fn describe_group(&self, caller: Caller<'_>, group: &str) -> DescribedGroup<'static> {
        let why = match self.groups.get(group) {
            Some(Group::Classic(group)) => return group.describe(),
            Some(Group::Consumer(_)) => format!("Group {group} is not a classic group."),
            None => format!("Group {group} not found."),
        };
        let mut described = DescribedGroup {
            group_id: group.to_owned().into(),
            group_state: "Dead".into(),
            ..DescribedGroup::default()
        };
        if caller.version >= 6 {
            described.error_code = ErrorCode::GroupIdNotFound.code();
            described.error_message = Some(why.into());
        }
        described
    }

    /// One group of DeleteGroups: it must have no members. Its offsets go with it.
    pub fn delete_group(&mut self, _context: Context<'_>, group: &str) -> (Step, DeletableGroupResult<'static>) {
        let mut step = Step::default();
        let result = match self.groups.get(group) {
            None => Err(ErrorCode::GroupIdNotFound),
            Some(Group::Classic(known)) if known.state() != State::Empty => Err(ErrorCode::NonEmptyGroup),
            Some(Group::Consumer(known)) if !known.is_empty() => Err(ErrorCode::NonEmptyGroup),
            Some(_) => Ok(()),
        };
        if result.is_ok() {
            self.offsets.delete_group(group, &mut step.records);
            match self.groups.remove(group) {
                Some(Group::Classic(known)) => {
                    self.member_bytes -= known.bytes();
                    step.records.push(Record::Group(group.to_owned(), None));
                }
                Some(Group::Consumer(known)) => known.tombstones(&mut step.records),
                None => {}
            }
        }
        (step, DeletableGroupResult { group_id: group.to_owned().into(), error_code: code(result) })
    }

    /// Applies the record of a classic group.
    pub(in crate::coordinator) fn replay_classic(&mut self, id: &str, value: Option<&GroupMetadataValue>) {
        if let Some(Group::Classic(before)) = self.groups.get(id) {
            self.member_bytes -= before.bytes();
            self.groups.remove(id);
        }
        if let Some(value) = value {
            let id: Rc<str> = Rc::from(id);
            let group = ClassicGroup::replayed(Rc::clone(&id), value);
            self.member_bytes += group.bytes();
            self.groups.insert(id, Group::Classic(group));
        }
    }

    /// All records are replayed: sets timers, as Kafka's `onLoaded`. Members of both protocols get a fresh session timeout,
    /// and the first look for expired offsets is a check interval away.
    pub fn on_loaded(&mut self, context: Context<'_>) -> Step {
        let mut step = Step::default();
        let ids: Vec<Rc<str>> = self.groups.keys().cloned().collect();
        for id in &ids {
            self.with_classic(context, &mut step, id, ClassicGroup::on_loaded);
            if let Some(Group::Consumer(group)) = self.groups.get_mut(id) {
                group.on_loaded(&mut Environment {
                    context,
                    config: &self.config,
                    timers: &mut self.timers,
                    step: &mut step,
                });
            }
        }
        self.arm_expiry(context);
        step
    }

    /// When `on_timers` should be called next.
    pub fn next_timer(&self) -> Option<MonotonicUs> {
        self.timers.first()
    }

    /// Does everything that is due, at most [`limits::TIMERS_PER_STEP_MAX`] entries of it; the rest comes with the
    /// next call.
    pub fn on_timers(&mut self, context: Context<'_>) -> Step {
        let mut step = Step::default();
        for _ in 0..limits::TIMERS_PER_STEP_MAX {
            let Some((id, timer)) = self.timers.pop(context.now) else { break };
            if timer == Timer::Expiry {
                self.on_expiry(context, &mut step);
                continue;
            }
            self.with_classic(context, &mut step, &id, |group, environment| group.on_timer(environment, &timer));
            if let Some(Group::Consumer(group)) = self.groups.get_mut(&id) {
                let (config, timers) = (&*self.config, &mut self.timers);
                group.on_timer(&mut Environment { context, config, timers, step: &mut step }, &timer);
            }
        }
        step
    }

    /// The coordinator cannot append any more: answers everything that waits with this error.
    pub fn fail(&mut self, error: ErrorCode) -> Vec<(Ticket, Answer)> {
        let mut step = Step::default();
        for group in self.groups.values_mut() {
            if let Group::Classic(group) = group {
                group.fail(error, &mut step);
            }
        }
        step.answers
    }

    /// Runs `act` on a classic group and keeps count of what its members cost. `None`: there is no such group.
    fn with_classic<T>(
        &mut self,
        context: Context<'_>,
        step: &mut Step,
        id: &str,
        act: impl FnOnce(&mut ClassicGroup, &mut Environment<'_>) -> T,
    ) -> Option<T> {
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return None };
        let before = group.bytes();
        let mut environment = Environment { context, config: &self.config, timers: &mut self.timers, step };
        let result = act(group, &mut environment);
        self.member_bytes = self.member_bytes - before + group.bytes();
        Some(result)
    }
}

fn code(result: Result<(), ErrorCode>) -> i16 {
    result.err().unwrap_or(ErrorCode::None).code()
}
