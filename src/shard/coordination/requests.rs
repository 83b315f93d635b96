//! What a coordinator is asked: the request's body in, its step, and the body of the answer once it may leave.
//!
//! Bodies come from `api`, which has decoded them before, here or on a sibling.

use std::rc::Rc;

use bytes::Bytes;

use super::writer::Follower;
use super::{Seat, State};
use crate::coordinator::{Caller, Context, Coordinator, Step, Ticket};
use crate::protocol::api_key::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_describe::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use crate::protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use crate::protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::join_group::JoinGroupRequest;
use crate::protocol::messages::leave_group::LeaveGroupRequest;
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::protocol::messages::offset_commit::OffsetCommitRequest;
use crate::protocol::messages::offset_delete::OffsetDeleteRequest;
use crate::protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
use crate::protocol::messages::sync_group::SyncGroupRequest;
use crate::protocol::wire::{self, Message, Reader};
use crate::runtime::Runtime;
use crate::shard::Shard;
use crate::shard::mesh::{ReplyReceiver, reply_slot};
use crate::shard::message::{GroupCall, GroupReply};

/// The answer to a request whose step was taken.
#[derive(Debug)]
pub enum GroupAnswer {
    /// Here it is.
    Now(GroupReply),
    /// This body, once what it tells of is durable.
    Durable(Vec<u8>, ReplyReceiver<Result<(), ErrorCode>>),
    /// It is still to be made: a JoinGroup or SyncGroup.
    Waiting(ReplyReceiver<GroupReply>),
}

impl GroupAnswer {
    /// Waits for the answer. `None`: the shard has shut down.
    pub async fn finish(self) -> Option<GroupReply> {
        match self {
            GroupAnswer::Now(reply) => Some(reply),
            GroupAnswer::Durable(body, receiver) => Some(match receiver.receive().await? {
                Ok(()) => GroupReply::Body(body),
                Err(error) => GroupReply::Refused(error),
            }),
            GroupAnswer::Waiting(receiver) => receiver.receive().await,
        }
    }
}

/// What a request is to its coordinator.
enum Outcome {
    /// An answer that promises nothing.
    AtOnce(Vec<u8>),
    /// A step, and the answer to give once it is durable.
    Then(Step, Vec<u8>),
    /// A step; the answer comes with this or a later one, under the ticket that was given.
    Waits(Step, ReplyReceiver<GroupReply>),
}

impl<R: Runtime> Shard<R> {
    /// Takes the step of a request, after those that were asked before it. Waits for nothing but room in the queue.
    pub async fn begin_group_call(self: &Rc<Self>, call: &GroupCall) -> GroupAnswer {
        self.coordination.has_room().await;
        let begun = match call.key {
            ApiKey::ListGroups => self.list_groups(call),
            _ => self.take_step(call),
        };
        begun.unwrap_or_else(|error| GroupAnswer::Now(GroupReply::Refused(error)))
    }

    fn take_step(self: &Rc<Self>, call: &GroupCall) -> Result<GroupAnswer, ErrorCode> {
        if self.coordination.is_stopped.get() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        // Kafka's answer where a disk takes no more: clients look for the coordinator and ask again.
        if self.coordination.is_full.get() && leaves_records(call.key) {
            return Err(ErrorCode::NotCoordinator);
        }
        let seat = self.coordination.seat(call.partition).ok_or(ErrorCode::NotCoordinator)?;
        let image = self.image();
        let outcome = match &mut *seat.state.borrow_mut() {
            State::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
            State::Failed(error) => return Err(*error),
            State::Serving(coordinator) => self.ask(coordinator, self.context(&image), call),
        };
        match outcome {
            Outcome::AtOnce(body) => Ok(GroupAnswer::Now(GroupReply::Body(body))),
            Outcome::Then(step, body) => {
                self.absorb(&seat, step)?;
                Ok(self.once_durable(&seat, body))
            }
            Outcome::Waits(step, receiver) => {
                // An error has been told under the ticket.
                self.absorb_alone(&seat, step);
                Ok(GroupAnswer::Waiting(receiver))
            }
        }
    }

    /// An answer that waits for all that its coordinator has done so far.
    fn once_durable(&self, seat: &Seat, body: Vec<u8>) -> GroupAnswer {
        if seat.newest.borrow().is_none() || cfg!(corelane_defect = "commit_answered_too_early") {
            return GroupAnswer::Now(GroupReply::Body(body));
        }
        let (reply, receiver) = reply_slot();
        self.follow(seat, Follower::Request(reply));
        GroupAnswer::Durable(body, receiver)
    }

    fn ask(&self, coordinator: &mut Coordinator, context: Context<'_>, call: &GroupCall) -> Outcome {
        let caller = Caller {
            version: call.version,
            client_id: &call.client_id,
            client_host: &call.client_host,
            connection: call.connection,
        };
        let reader = &mut Reader::new(&call.body);
        let version = call.version;
        macro_rules! decoded {
            ($message:ident) => {
                $message::decode(reader, version).expect("the API decoded it before it was sent here")
            };
        }
        match call.key {
            ApiKey::JoinGroup => {
                let request = decoded!(JoinGroupRequest);
                self.ask_waiting(version, |ticket| coordinator.join(context, caller, ticket, &request))
            }
            ApiKey::SyncGroup => {
                let request = decoded!(SyncGroupRequest);
                self.ask_waiting(version, |ticket| coordinator.sync(context, caller, ticket, &request))
            }
            ApiKey::Heartbeat => {
                let request = decoded!(HeartbeatRequest);
                Outcome::AtOnce(wire::body(&coordinator.heartbeat(context, &request), version))
            }
            ApiKey::LeaveGroup => then(coordinator.leave(context, caller, &decoded!(LeaveGroupRequest)), version),
            ApiKey::ConsumerGroupHeartbeat => {
                let request = decoded!(ConsumerGroupHeartbeatRequest);
                then(coordinator.consumer_heartbeat(context, caller, &request), version)
            }
            ApiKey::OffsetCommit => {
                then(coordinator.commit_offsets(context, caller, &decoded!(OffsetCommitRequest)), version)
            }
            ApiKey::OffsetDelete => then(coordinator.delete_offsets(context, &decoded!(OffsetDeleteRequest)), version),
            ApiKey::OffsetFetch => {
                let request = decoded!(OffsetFetchRequest);
                let groups = request.groups.iter().map(|group| coordinator.fetch_offsets(context, caller, group));
                let response = OffsetFetchResponse { groups: groups.collect(), ..OffsetFetchResponse::default() };
                then((Step::default(), response), version)
            }
            ApiKey::DescribeGroups => {
                let request = decoded!(DescribeGroupsRequest);
                let groups = request.groups.iter().map(|group| coordinator.describe_group(caller, group));
                let response = DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() };
                then((Step::default(), response), version)
            }
            ApiKey::ConsumerGroupDescribe => {
                let request = decoded!(ConsumerGroupDescribeRequest);
                let groups = request.group_ids.iter().map(|group| coordinator.consumer_describe(context, group));
                let groups = groups.collect();
                then((Step::default(), ConsumerGroupDescribeResponse { groups, ..Default::default() }), version)
            }
            ApiKey::DeleteGroups => {
                let request = decoded!(DeleteGroupsRequest);
                let mut all = Step::default();
                let results = request.groups_names.iter().map(|group| {
                    let (step, result) = coordinator.delete_group(context, group);
                    all.records.extend(step.records);
                    all.answers.extend(step.answers);
                    result
                });
                let results = results.collect();
                then((all, DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }), version)
            }
            _ => unreachable!("only requests of groups are sent here"),
        }
    }

    fn ask_waiting(&self, version: i16, step: impl FnOnce(Ticket) -> Step) -> Outcome {
        let (reply, receiver) = reply_slot();
        let ticket = self.coordination.next_ticket(version, reply);
        Outcome::Waits(step(ticket), receiver)
    }

    /// The groups of all coordinators of this shard. As in Kafka one that loads refuses the whole list, and one that has
    /// moved away adds nothing.
    fn list_groups(self: &Rc<Self>, call: &GroupCall) -> Result<GroupAnswer, ErrorCode> {
        if self.coordination.is_stopped.get() {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let request = ListGroupsRequest::decode(&mut Reader::new(&call.body), call.version)
            .expect("the API decoded it before it was sent here");
        let mut groups = Vec::new();
        let mut unsettled = Vec::new();
        for seat in self.coordination.all_seats() {
            match &*seat.state.borrow() {
                State::Loading => return Err(ErrorCode::CoordinatorLoadInProgress),
                State::Failed(ErrorCode::NotCoordinator) => continue,
                State::Failed(error) => return Err(*error),
                State::Serving(coordinator) => groups.extend(coordinator.list_groups(&request)),
            }
            if seat.newest.borrow().is_some() {
                unsettled.push(Rc::clone(&seat));
            }
        }
        let body = wire::body(&ListGroupsResponse { groups, ..ListGroupsResponse::default() }, call.version);
        if unsettled.is_empty() {
            return Ok(GroupAnswer::Now(GroupReply::Body(body)));
        }
        let (reply, receiver) = reply_slot();
        let answers: Vec<GroupAnswer> = unsettled.iter().map(|seat| self.once_durable(seat, Vec::new())).collect();
        self.runtime.spawn(async move {
            let mut outcome = Ok(());
            for answer in answers {
                if let Some(GroupReply::Refused(error)) = answer.finish().await {
                    outcome = Err(error);
                }
            }
            reply.send(outcome);
        });
        Ok(GroupAnswer::Durable(body, receiver))
    }
}

/// Whether a request changes what a coordinator must remember.
fn leaves_records(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::LeaveGroup
            | ApiKey::ConsumerGroupHeartbeat
            | ApiKey::OffsetCommit
            | ApiKey::OffsetDelete
            | ApiKey::DeleteGroups
    )
}

fn then<M: Message>((step, response): (Step, M), version: i16) -> Outcome {
    Outcome::Then(step, wire::body(&response, version))
}

impl GroupCall {
    /// The same call with another body, for one coordinator.
    pub fn for_coordinator(&self, partition: i32, body: Vec<u8>) -> GroupCall {
        GroupCall {
            partition,
            key: self.key,
            version: self.version,
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            connection: self.connection,
            body: Bytes::from(body),
        }
    }
}
