//! Members of classic groups: each joins on a connection of its own, since a JoinGroup holds back what comes after it.

use std::borrow::Cow;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use corelane::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};

use super::check;
use crate::client::{Client, answer_body, debug};

/// Newest versions.
const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
/// MEMBER_ID_REQUIRED: come back with this id.
const MEMBER_ID_REQUIRED: i16 = 79;
/// Requests for ids that are sent before their answers are read.
const ID_WINDOW: usize = 100;
/// As Java's consumer has them.
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
const PROTOCOL_TYPE: &str = "consumer";
const PROTOCOL: &str = "range";
/// A subscription to one topic, as Java's consumer encodes it: version 3, `load`, no user data, nothing owned, generation
/// -1, no rack.
const SUBSCRIPTION: &[u8] = b"\0\x03\0\0\0\x01\0\x04load\xff\xff\xff\xff\0\0\0\0\xff\xff\xff\xff\xff\xff";
/// An assignment of one partition: version 3, partition 0 of `load`, no user data.
const ASSIGNMENT: &[u8] = b"\0\x03\0\0\0\x01\0\x04load\0\0\0\x01\0\0\0\0\xff\xff\xff\xff";

/// A member with its connection.
pub(super) struct Member {
    pub(super) group: String,
    pub(super) id: String,
    pub(super) generation: i32,
    pub(super) client: Client,
}

/// Groups in their first generation.
pub(super) struct Formed {
    pub(super) members: Vec<Member>,
    /// From the first JoinGroup to the last answer to one.
    pub(super) joined: Duration,
    /// From the first JoinGroup to the last answer to a SyncGroup.
    pub(super) settled: Duration,
}

/// Brings groups of `size` members each to their first generation.
pub(super) fn form(address: SocketAddr, groups: &[String], size: usize) -> Result<Formed, Box<dyn Error>> {
    let mut members = Vec::new();
    for group in groups {
        for id in ids(address, group, size)? {
            let (client, group) = (Client::connect(address)?, group.clone());
            members.push(Member { group, id, generation: -1, client });
        }
    }
    let began = Instant::now();
    for member in &mut members {
        let request = join_request(&member.group, &member.id);
        member.client.send(JOIN_VERSION, &request)?;
    }
    let mut joined = Duration::ZERO;
    for member in &mut members {
        let answer = member.client.receive()?;
        joined = began.elapsed();
        let response = join_response(&answer)?;
        check("JoinGroup", response.error_code)?;
        member.generation = response.generation_id;
        let request = sync_request(&member.group, &response);
        member.client.send(SYNC_VERSION, &request)?;
    }
    for member in &mut members {
        let answer = member.client.receive()?;
        let body = &mut answer_body(&answer, ApiKey::SyncGroup, SYNC_VERSION)?;
        let response = SyncGroupResponse::decode(body, SYNC_VERSION).map_err(debug)?;
        check("SyncGroup", response.error_code)?;
        if *response.assignment != *ASSIGNMENT {
            return Err("a member got another assignment than its leader gave it".into());
        }
    }
    let settled = began.elapsed();
    // The initial delay has gathered them all, or what was measured is not the first generation.
    if let Some(member) = members.iter().find(|member| member.generation != 1) {
        return Err(format!("{} is in generation {}", member.id, member.generation).into());
    }
    Ok(Formed { members, joined, settled })
}

/// Ids for new members.
fn ids(address: SocketAddr, group: &str, count: usize) -> Result<Vec<String>, Box<dyn Error>> {
    let mut client = Client::connect(address)?;
    let mut ids = Vec::new();
    while ids.len() < count {
        let window = ID_WINDOW.min(count - ids.len());
        for _ in 0..window {
            client.send(JOIN_VERSION, &join_request(group, ""))?;
        }
        for _ in 0..window {
            let answer = client.receive()?;
            let response = join_response(&answer)?;
            if response.error_code != MEMBER_ID_REQUIRED {
                return Err(format!("JoinGroup without an id: error {}", response.error_code).into());
            }
            ids.push(response.member_id.into_owned());
        }
    }
    Ok(ids)
}

fn join_request<'a>(group: &'a str, member_id: &'a str) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        member_id: member_id.into(),
        protocol_type: PROTOCOL_TYPE.into(),
        protocols: vec![JoinGroupRequestProtocol { name: PROTOCOL.into(), metadata: Cow::Borrowed(SUBSCRIPTION) }],
        ..JoinGroupRequest::default()
    }
}

fn join_response(answer: &[u8]) -> Result<JoinGroupResponse<'_>, Box<dyn Error>> {
    let body = &mut answer_body(answer, ApiKey::JoinGroup, JOIN_VERSION)?;
    Ok(JoinGroupResponse::decode(body, JOIN_VERSION).map_err(debug)?)
}

/// What a member sends once it has joined: the leader, which alone is told of the others, with their assignments.
fn sync_request<'a>(group: &'a str, joined: &'a JoinGroupResponse<'a>) -> SyncGroupRequest<'a> {
    let assignment =
        |id: &'a str| SyncGroupRequestAssignment { member_id: id.into(), assignment: Cow::Borrowed(ASSIGNMENT) };
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: Cow::Borrowed(&joined.member_id),
        protocol_type: Some(PROTOCOL_TYPE.into()),
        protocol_name: Some(PROTOCOL.into()),
        assignments: joined.members.iter().map(|member| assignment(&member.member_id)).collect(),
        ..SyncGroupRequest::default()
    }
}
