//! A consumer's place in its group, once it has one: heartbeats and commits, as Java's consumer sends them.

use std::collections::VecDeque;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::{ResponseHeader, request_frame};
use corelane::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use corelane::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelane::protocol::wire::Reader;

use super::position::Position;
use crate::client::CLIENT_ID;
use crate::groups::member::Member;
use crate::lab::generator::bounds::{COMMIT_NS, HEARTBEAT_NS};
use crate::lab::generator::connection::{Connection, Frame};
use crate::lab::generator::context::Context;
use crate::lab::generator::plan::Plan;
use crate::lab::generator::topology::error_name;
use crate::lab::number::size;

/// A membership with its connection to the coordinator.
pub(in crate::lab::generator) struct Membership {
    group: String,
    member_id: String,
    generation: i32,
    connection: Connection,
    unanswered: VecDeque<ApiKey>,
    heartbeat_version: i16,
    commit_version: i16,
    heartbeat_ns: u64,
    commit_ns: u64,
    /// When `advance` is to be called.
    pub(super) wake_ns: u64,
}

impl Membership {
    /// Takes over a member whose group is settled. Its first commit is due at a moment of its own, so that not all
    /// members commit at once.
    pub(in crate::lab::generator) fn new(
        plan: &Plan,
        member: Member,
        index: u32,
        members: u32,
    ) -> Result<Membership, Box<dyn std::error::Error>> {
        let now_ns = plan.clock.now();
        Ok(Membership {
            group: member.group,
            member_id: member.id,
            generation: member.generation,
            connection: Connection::from_stream(member.client.into_stream())?,
            unanswered: VecDeque::new(),
            heartbeat_version: plan.versions.of::<HeartbeatRequest<'_>>()?,
            commit_version: plan.versions.of::<OffsetCommitRequest<'_>>()?,
            heartbeat_ns: now_ns,
            commit_ns: now_ns + COMMIT_NS * u64::from(index + 1) / u64::from(members),
            wake_ns: now_ns,
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends what is due.
    pub(super) fn advance<'a>(
        &mut self,
        now_ns: u64,
        positions: impl Iterator<Item = &'a Position>,
        context: &Context,
    ) -> Result<(), String> {
        if now_ns >= self.heartbeat_ns {
            self.heartbeat_ns = now_ns + HEARTBEAT_NS;
            self.send_heartbeat();
        }
        if now_ns >= self.commit_ns {
            self.commit_ns = now_ns + COMMIT_NS;
            self.send_commit(positions, &context.plan);
        }
        self.wake_ns = self.heartbeat_ns.min(self.commit_ns);
        self.connection.flush().map(drop).map_err(|error| format!("group {}: {error}", self.group))
    }

    fn send_heartbeat(&mut self) {
        let request = HeartbeatRequest {
            group_id: self.group.as_str().into(),
            generation_id: self.generation,
            member_id: self.member_id.as_str().into(),
            group_instance_id: None,
        };
        let id = self.connection.next_correlation_id();
        self.connection.push(Frame::plain(request_frame(id, Some(CLIENT_ID), self.heartbeat_version, &request)));
        self.unanswered.push_back(ApiKey::Heartbeat);
    }

    fn send_commit<'a>(&mut self, positions: impl Iterator<Item = &'a Position>, plan: &Plan) {
        let mut topics: Vec<OffsetCommitRequestTopic<'_>> = plan
            .topics
            .iter()
            .map(|name| OffsetCommitRequestTopic { name: name.as_str().into(), partitions: Vec::new() })
            .collect();
        for position in positions {
            let slot = plan.slots[size(position.slot)];
            topics[size(slot.topic)].partitions.push(OffsetCommitRequestPartition {
                partition_index: slot.partition,
                committed_offset: position.offset,
                ..OffsetCommitRequestPartition::default()
            });
        }
        topics.retain(|topic| !topic.partitions.is_empty());
        let request = OffsetCommitRequest {
            group_id: self.group.as_str().into(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.member_id.as_str().into(),
            topics,
            ..OffsetCommitRequest::default()
        };
        let id = self.connection.next_correlation_id();
        self.connection.push(Frame::plain(request_frame(id, Some(CLIENT_ID), self.commit_version, &request)));
        self.unanswered.push_back(ApiKey::OffsetCommit);
    }

    /// The kernel has news.
    ///
    /// Errors: the coordinator refuses, as it does when the group is being rebalanced.
    pub(super) fn on_event(&mut self, readable: bool, writable: bool, context: &mut Context) -> Result<(), String> {
        if writable {
            self.connection.on_writable();
        }
        if !readable {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut context.buffer);
        let (unanswered, versions) = (&mut self.unanswered, (self.heartbeat_version, self.commit_version));
        let received = self.connection.answers(&mut buffer, |answer| {
            let key = unanswered.pop_front().ok_or("an answer to nothing")?;
            let code = error_code(key, answer, versions)?;
            if code == 0 { Ok(()) } else { Err(format!("{}: {}", key.name(), error_name(code))) }
        });
        context.buffer = buffer;
        received.map_err(|why| format!("group {} lost a member: {why}", self.group))
    }
}

/// The first error of an answer, or 0.
fn error_code(key: ApiKey, answer: &[u8], (heartbeat, commit): (i16, i16)) -> Result<i16, String> {
    let mut body = Reader::new(answer);
    let version = if key == ApiKey::Heartbeat { heartbeat } else { commit };
    let malformed = |error: corelane::protocol::wire::DecodeError| error.to_string();
    ResponseHeader::decode(&mut body, key, version).map_err(malformed)?;
    if key == ApiKey::Heartbeat {
        return Ok(HeartbeatResponse::decode(&mut body, version).map_err(malformed)?.error_code);
    }
    let response = OffsetCommitResponse::decode(&mut body, version).map_err(malformed)?;
    let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    Ok(codes.find(|code| *code != 0).unwrap_or(0))
}
