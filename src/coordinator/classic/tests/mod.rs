//! Classic groups as their coordinator shows them: requests in, answers and records out, time by hand.

mod cost;
mod fixed;
mod random;
mod rules;
mod whole;

use std::collections::BTreeMap;
use std::rc::Rc;

use super::subscription;
use crate::cluster::image::MetadataImage;
use crate::coordinator::config::GroupConfig;
use crate::coordinator::records::{GroupMetadataValue, Record};
use crate::coordinator::{Answer, Caller, Context, Coordinator, Group, Step, Ticket};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_groups::DescribedGroup;
use crate::protocol::messages::heartbeat::HeartbeatRequest;
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use crate::protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use crate::protocol::messages::list_groups::ListGroupsRequest;
use crate::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use crate::types::{ConnectionId, MonotonicUs, TimestampMs};

/// Somebody who joins.
#[derive(Clone)]
struct Joiner {
    group: &'static str,
    version: i16,
    member_id: String,
    instance_id: Option<String>,
    session_timeout_ms: i32,
    rebalance_timeout_ms: i32,
    protocol_type: &'static str,
    protocols: Vec<(&'static str, Vec<u8>)>,
}

impl Joiner {
    /// A consumer of before KIP-394, which needs one request only.
    fn plain() -> Joiner {
        Joiner {
            group: "g",
            version: 3,
            member_id: String::new(),
            instance_id: None,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer",
            protocols: vec![("range", subscription::encode(&["t"]))],
        }
    }

    fn member(id: &str) -> Joiner {
        Joiner { version: 9, member_id: id.to_owned(), ..Joiner::plain() }
    }

    fn fixed(instance_id: &str) -> Joiner {
        Joiner { version: 9, instance_id: Some(instance_id.to_owned()), ..Joiner::plain() }
    }
}

/// A coordinator with the world around it.
struct World {
    coordinator: Coordinator,
    image: MetadataImage,
    now_ms: u64,
    random: u64,
    tickets: u64,
    records: Vec<Record>,
    answers: BTreeMap<Ticket, Answer>,
    config: Rc<GroupConfig>,
}

impl World {
    /// Without a delay for the first members.
    fn new() -> World {
        World::with(GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() })
    }

    fn with(config: GroupConfig) -> World {
        let config = Rc::new(config);
        World {
            coordinator: Coordinator::new(Rc::clone(&config)),
            image: MetadataImage::empty("cluster"),
            now_ms: 1_000,
            random: 0,
            tickets: 0,
            records: Vec::new(),
            answers: BTreeMap::new(),
            config,
        }
    }

    fn context(&mut self) -> (Context<'_>, &mut Coordinator) {
        self.random += 1;
        let context = Context {
            now: MonotonicUs::new(0).plus_ms(self.now_ms),
            wall: TimestampMs::new(1_000_000 + i64::try_from(self.now_ms).unwrap()),
            image: &self.image,
            random: (u128::from(self.random) << 64).to_be_bytes(),
        };
        (context, &mut self.coordinator)
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn keep(&mut self, step: Step) {
        self.records.extend(step.records);
        for (ticket, answer) in step.answers {
            assert!(self.answers.insert(ticket, answer).is_none(), "{ticket:?} was answered twice");
        }
        self.check();
    }

    /// What the coordinator counts agrees with what there is.
    fn check(&self) {
        let classic = self.coordinator.groups.values().filter_map(|group| match group {
            Group::Classic(group) => Some(group),
            Group::Consumer(_) => None,
        });
        assert_eq!(self.coordinator.member_bytes, classic.map(super::ClassicGroup::bytes).sum::<usize>());
        for group in self.coordinator.groups.values() {
            let Group::Classic(group) = group else { continue };
            let pending: usize = group.pending.keys().map(|id| super::PENDING_BYTES + id.len()).sum();
            let members = || group.members.values();
            assert_eq!(group.bytes, pending + members().map(|member| member.bytes()).sum::<usize>());
            assert_eq!(group.joining, members().filter(|member| member.join.is_some()).count());
            assert_eq!(group.sync_pending, members().filter(|member| member.is_sync_pending).count());
            assert_eq!(group.static_members.len(), members().filter(|member| member.instance_id.is_some()).count());
            assert_eq!(group.leader.is_some(), !group.members.is_empty());
            assert!(group.leader.as_ref().is_none_or(|leader| group.members.contains_key(leader)));
            assert_eq!(
                group.protocols.iter().map(|(_, count)| count).sum::<usize>(),
                members().map(|member| member.protocols.len()).sum::<usize>()
            );
        }
    }

    fn send_join(&mut self, joiner: &Joiner) -> Ticket {
        let ticket = self.ticket();
        let request = JoinGroupRequest {
            group_id: joiner.group.into(),
            session_timeout_ms: joiner.session_timeout_ms,
            rebalance_timeout_ms: joiner.rebalance_timeout_ms,
            member_id: joiner.member_id.as_str().into(),
            group_instance_id: joiner.instance_id.as_deref().map(Into::into),
            protocol_type: joiner.protocol_type.into(),
            protocols: joiner
                .protocols
                .iter()
                .map(|(name, metadata)| JoinGroupRequestProtocol {
                    name: (*name).into(),
                    metadata: metadata.as_slice().into(),
                })
                .collect(),
            reason: None,
        };
        let caller = Caller {
            version: joiner.version,
            client_id: "client",
            client_host: "/127.0.0.1",
            connection: ConnectionId::NONE,
        };
        let (context, coordinator) = self.context();
        let step = coordinator.join(context, caller, ticket, &request);
        self.keep(step);
        ticket
    }

    /// Joins, and expects the answer at once or from timers that are due.
    fn join(&mut self, joiner: &Joiner) -> JoinGroupResponse<'static> {
        let ticket = self.send_join(joiner);
        self.advance(0);
        self.joined(ticket)
    }

    fn joined(&mut self, ticket: Ticket) -> JoinGroupResponse<'static> {
        match self.answers.remove(&ticket) {
            Some(Answer::Join(response)) => response,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    fn send_sync(&mut self, member_id: &str, generation: i32, assignments: &[(&str, &str)]) -> Ticket {
        self.send_sync_as(
            5,
            &SyncGroupRequest {
                group_id: "g".into(),
                generation_id: generation,
                member_id: member_id.into(),
                group_instance_id: None,
                protocol_type: Some("consumer".into()),
                protocol_name: Some("range".into()),
                assignments: assignments
                    .iter()
                    .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                        member_id: (*member_id).into(),
                        assignment: assignment.as_bytes().into(),
                    })
                    .collect(),
            },
        )
    }

    fn send_sync_as(&mut self, version: i16, request: &SyncGroupRequest<'_>) -> Ticket {
        let ticket = self.ticket();
        let caller = Caller { version, client_id: "client", client_host: "/127.0.0.1", connection: ConnectionId::NONE };
        let (context, coordinator) = self.context();
        let step = coordinator.sync(context, caller, ticket, request);
        self.keep(step);
        ticket
    }

    fn synced(&mut self, ticket: Ticket) -> SyncGroupResponse<'static> {
        match self.answers.remove(&ticket) {
            Some(Answer::Sync(response)) => response,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        self.heartbeat_as(member_id, None, generation)
    }

    fn heartbeat_as(&mut self, member_id: &str, instance_id: Option<&str>, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: "g".into(),
            generation_id: generation,
            member_id: member_id.into(),
            group_instance_id: instance_id.map(Into::into),
        };
        let (context, coordinator) = self.context();
        ErrorCode::from_code(coordinator.heartbeat(context, &request).error_code).unwrap()
    }

    fn leave(&mut self, version: i16, leavers: &[(&str, Option<&str>)]) -> LeaveGroupResponse<'static> {
        let request = LeaveGroupRequest {
            group_id: "g".into(),
            member_id: if version < 3 { leavers[0].0.into() } else { "".into() },
            members: if version < 3 {
                Vec::new()
            } else {
                let leavers = leavers.iter().map(|(member_id, instance_id)| MemberIdentity {
                    member_id: (*member_id).into(),
                    group_instance_id: instance_id.map(Into::into),
                    reason: None,
                });
                leavers.collect()
            },
        };
        let caller = Caller { version, client_id: "client", client_host: "/127.0.0.1", connection: ConnectionId::NONE };
        let (context, coordinator) = self.context();
        let (step, response) = coordinator.leave(context, caller, &request);
        // What `request` borrows ends here.
        let response = response.clone();
        self.keep(step);
        response
    }

    fn describe(&self, version: i16, group: &str) -> DescribedGroup<'static> {
        self.coordinator
            .describe_group(Caller { version, client_id: "", client_host: "", connection: ConnectionId::NONE }, group)
    }

    fn state(&self) -> String {
        self.describe(5, "g").group_state.into_owned()
    }

    fn member_ids(&self) -> Vec<String> {
        self.describe(5, "g").members.iter().map(|member| member.member_id.to_string()).collect()
    }

    fn list(&self, states: &[&str], types: &[&str]) -> Vec<String> {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(|&state| state.into()).collect(),
            types_filter: types.iter().map(|&kind| kind.into()).collect(),
        };
        self.coordinator.list_groups(&request).into_iter().map(|group| group.group_id.into_owned()).collect()
    }

    fn delete(&mut self, group: &str) -> ErrorCode {
        let (context, coordinator) = self.context();
        let (step, result) = coordinator.delete_group(context, group);
        let result = ErrorCode::from_code(result.error_code).unwrap();
        self.keep(step);
        result
    }

    /// Time passes; everything that is due happens at its time.
    fn advance(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        let mut quiet = 0;
        loop {
            let next = self.coordinator.next_timer().map(|at| at.value().div_ceil(1000));
            let Some(next) = next.filter(|&next| next <= end) else { break };
            quiet = if next > self.now_ms { 0 } else { quiet + 1 };
            assert!(quiet < 1000, "timers come up without end");
            self.now_ms = self.now_ms.max(next);
            let (context, coordinator) = self.context();
            let step = coordinator.on_timers(context);
            self.keep(step);
        }
        self.now_ms = end;
    }

    /// The last record of the group.
    fn record(&self) -> Option<&GroupMetadataValue> {
        self.records.iter().rev().find_map(|record| match record {
            Record::Group(group, value) if group == "g" => Some(value.as_ref()),
            _ => None,
        })?
    }

    /// What a restart makes of the records.
    fn restarted(&self) -> World {
        let mut world = World::with((*self.config).clone());
        world.now_ms = self.now_ms;
        world.random = self.random + 1_000_000;
        world.tickets = self.tickets;
        for record in &self.records {
            world.coordinator.replay(record);
        }
        world.records = self.records.clone();
        let (context, coordinator) = world.context();
        let step = coordinator.on_loaded(context);
        world.keep(step);
        world
    }

    /// A stable group of so many dynamic members of generation `generation`, all with their part: their ids, the leader first.
    fn stable(&mut self, count: usize) -> (Vec<String>, i32) {
        let mut ids = Vec::new();
        let mut tickets = vec![self.send_join(&Joiner::plain())];
        self.advance(0);
        ids.push(self.joined(tickets.remove(0)).member_id.into_owned());
        for _ in 1..count {
            // Everybody waits until the last has come.
            tickets.push(self.send_join(&Joiner::plain()));
        }
        let generation = if count == 1 {
            1
        } else {
            tickets.push(self.send_join(&Joiner { version: 3, ..Joiner::member(&ids[0]) }));
            let mut generation = 0;
            for ticket in tickets {
                let response = self.joined(ticket);
                assert_eq!(response.error_code, 0);
                generation = response.generation_id;
                if response.member_id != ids[0] {
                    ids.push(response.member_id.into_owned());
                }
            }
            generation
        };
        let assignments: Vec<(String, String)> = ids.iter().map(|id| (id.clone(), format!("part of {id}"))).collect();
        let assignments: Vec<(&str, &str)> = assignments.iter().map(|(id, part)| (&**id, &**part)).collect();
        let leader = self.describe(5, "g");
        assert_eq!(leader.group_state, "CompletingRebalance");
        let followers: Vec<Ticket> = ids[1..].iter().map(|id| self.send_sync(id, generation, &[])).collect();
        let ticket = self.send_sync(&ids[0], generation, &assignments);
        assert_eq!(self.synced(ticket).error_code, 0);
        for ticket in followers {
            assert_eq!(self.synced(ticket).error_code, 0);
        }
        assert_eq!(self.state(), "Stable");
        (ids, generation)
    }
}

fn error(response: &JoinGroupResponse<'_>) -> ErrorCode {
    ErrorCode::from_code(response.error_code).unwrap()
}

fn sync_error(response: &SyncGroupResponse<'_>) -> ErrorCode {
    ErrorCode::from_code(response.error_code).unwrap()
}

fn errors(response: &LeaveGroupResponse<'_>) -> Vec<ErrorCode> {
    response.members.iter().map(|member| ErrorCode::from_code(member.error_code).unwrap()).collect()
}
