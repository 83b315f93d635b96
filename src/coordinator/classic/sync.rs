//! SyncGroup and Heartbeat: how members learn what they have to read, and say that they live.

use std::collections::BTreeMap;

use super::member::Waiting;
use super::{ClassicGroup, State, sync_error};
use crate::coordinator::{Answer, Environment, Ticket};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};

impl ClassicGroup {
    /// Handles a SyncGroup (`classicGroupSyncToClassicGroup`). The answer comes now or with the leader's assignment. `room`:
    /// bytes that all groups of the coordinator together may still grow by.
    pub(super) fn sync(
        &mut self,
        environment: &mut Environment<'_>,
        waiting: Waiting,
        request: &SyncGroupRequest<'_>,
        room: usize,
    ) {
        if let Err(error) = self.validate_sync(request) {
            environment.step.answers.push(sync_error(waiting, error));
            return;
        }
        let member = self.members.get_mut(&*request.member_id).expect("it was validated");
        if member.is_sync_pending {
            member.is_sync_pending = false;
            self.sync_pending -= 1;
        }
        if self.state == State::Stable {
            let answer = self.synced(waiting, &request.member_id);
            environment.step.answers.push(answer);
            return;
        }
        if let Some(overtaken) = member.sync.replace(waiting) {
            environment.step.answers.push(sync_error(overtaken, ErrorCode::RebalanceInProgress));
        }
        if self.is_leader(&request.member_id) {
            self.assign(environment, &request.assignments, room);
        }
    }

    fn validate_sync(&self, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
        let differs = |asked: Option<&str>, known: Option<&str>| matches!((asked, known), (Some(a), Some(b)) if a != b);
        self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if differs(request.protocol_type.as_deref(), self.protocol_type.as_deref())
            || differs(request.protocol_name.as_deref(), self.protocol.as_deref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// The leader has assigned: a record of it, and answers to all that wait. Members that it forgot get nothing to read.
    fn assign(
        &mut self,
        environment: &mut Environment<'_>,
        assignments: &[SyncGroupRequestAssignment<'_>],
        room: usize,
    ) {
        let mut given: BTreeMap<&str, &[u8]> =
            assignments.iter().map(|row| (&*row.member_id, &*row.assignment)).collect();
        given.retain(|member_id, _| self.members.contains_key(*member_id));
        let bytes: usize = given.values().map(|assignment| assignment.len()).sum();
        // Those of the last generation are given back, which is not counted in its favour: they may be gone already.
        if bytes > limits::GROUP_BYTES_MAX.saturating_sub(self.bytes) || bytes > room {
            self.reset_assignments(environment, ErrorCode::UnknownServerError);
            self.prepare_rebalance(environment);
            return;
        }
        let mut answered = Vec::new();
        for member in self.members.values_mut() {
            let assignment = given.get(&*member.id).copied().unwrap_or_default();
            self.bytes = self.bytes - member.assignment.len() + assignment.len();
            member.assignment = assignment.into();
            if let Some(waiting) = member.sync.take() {
                answered.push((waiting, member.id.clone()));
            }
        }
        environment.step.records.push(self.record());
        self.enter(State::Stable, environment);
        for (waiting, id) in answered {
            let answer = self.synced(waiting, &id);
            environment.step.answers.push(answer);
            self.renew_session(environment, &id);
        }
    }

    /// What a member has to read.
    fn synced(&self, waiting: Waiting, member_id: &str) -> (Ticket, Answer) {
        let response = SyncGroupResponse {
            protocol_type: self.protocol_type.as_deref().map(|name| name.to_owned().into()),
            protocol_name: self.protocol.as_deref().map(|name| name.to_owned().into()),
            assignment: self.members[member_id].assignment.to_vec().into(),
            ..SyncGroupResponse::default()
        };
        (waiting.ticket, Answer::Sync(response))
    }

    /// Handles a Heartbeat (`classicGroupHeartbeatToClassicGroup`).
    ///
    /// Errors: as [`ErrorCode`]; with `RebalanceInProgress` the member is alive all the same.
    pub(super) fn heartbeat(
        &mut self,
        environment: &mut Environment<'_>,
        request: &HeartbeatRequest<'_>,
    ) -> Result<(), ErrorCode> {
        self.validate_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.renew_session(environment, &request.member_id);
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }
}
