//! Members of classic groups: each joins on a connection of its own, since a JoinGroup holds back what comes after it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use corelane::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};

use super::{COORDINATOR_PATIENCE, check};
use crate::client::{Client, answer_body, debug};

/// Newest versions.
const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
/// MEMBER_ID_REQUIRED: come back with this id.
const MEMBER_ID_REQUIRED: i16 = 79;
/// COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR: what a broker says that has only just made the
/// partitions of its coordinators.
const COORDINATOR_IS_COMING: [i16; 3] = [14, 15, 16];
/// Between two tries while it says so.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(200);
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
pub(crate) struct Member {
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) generation: i32,
    /// What its group's leader gave it, as the leader encoded it.
    pub(crate) assignment: Vec<u8>,
    pub(crate) client: Client,
}

/// What groups are formed for.
pub(crate) struct Work<'a> {
    /// What every member says it wants, encoded.
    pub(crate) subscription: &'a [u8],
    /// What the member of this rank gets, by its id, of so many, encoded.
    pub(crate) assignment: &'a dyn Fn(usize, usize) -> Vec<u8>,
    /// Versions of JoinGroup, at least 4 for the ids, and of SyncGroup.
    pub(crate) versions: (i16, i16),
}

/// Groups in their first generation.
pub(crate) struct Formed {
    /// Those of each group together.
    pub(crate) members: Vec<Member>,
    /// From the first JoinGroup to the last answer to one.
    pub(super) joined: Duration,
    /// From the first JoinGroup to the last answer to a SyncGroup.
    pub(super) settled: Duration,
}

/// Brings groups of `size` members each to their first generation; every member gets the same partition.
pub(super) fn form(address: SocketAddr, groups: &[String], size: usize) -> Result<Formed, Box<dyn Error>> {
    let groups: Vec<(String, SocketAddr)> = groups.iter().map(|group| (group.clone(), address)).collect();
    let assignment = |_, _| ASSIGNMENT.to_vec();
    let versions = (JOIN_VERSION, SYNC_VERSION);
    form_for(&groups, size, &Work { subscription: SUBSCRIPTION, assignment: &assignment, versions })
}

/// Brings groups, each with its coordinator, of `size` members to their first generation.
///
/// Errors: a coordinator that refuses; a member that gets another assignment than its leader gave; a group that did not
/// come together in one generation.
pub(crate) fn form_for(
    groups: &[(String, SocketAddr)],
    size: usize,
    work: &Work<'_>,
) -> Result<Formed, Box<dyn Error>> {
    let (join_version, sync_version) = work.versions;
    let mut members = Vec::new();
    for (group, address) in groups {
        for id in ids(*address, group, size, work)? {
            let (client, group) = (Client::connect(*address)?, group.clone());
            members.push(Member { group, id, generation: -1, assignment: Vec::new(), client });
        }
    }
    let began = Instant::now();
    for member in &mut members {
        let request = join_request(&member.group, &member.id, work);
        member.client.send(join_version, &request)?;
    }
    let mut joined = Duration::ZERO;
    let mut given: HashMap<String, Vec<u8>> = HashMap::new();
    for member in &mut members {
        let answer = member.client.receive()?;
        joined = began.elapsed();
        let response = join_response(&answer, join_version)?;
        check("JoinGroup", response.error_code)?;
        member.generation = response.generation_id;
        let assignments = assignments(&response, work);
        let request = sync_request(&member.group, &response, &assignments);
        member.client.send(sync_version, &request)?;
        given.extend(assignments);
    }
    for member in &mut members {
        let answer = member.client.receive()?;
        let body = &mut answer_body(&answer, ApiKey::SyncGroup, sync_version)?;
        let response = SyncGroupResponse::decode(body, sync_version).map_err(debug)?;
        check("SyncGroup", response.error_code)?;
        if given.get(&member.id).is_none_or(|given| *given != *response.assignment) {
            return Err("a member got another assignment than its leader gave it".into());
        }
        member.assignment = response.assignment.into_owned();
    }
    let settled = began.elapsed();
    // The initial delay has gathered them all, or what was measured is not the first generation.
    if let Some(member) = members.iter().find(|member| member.generation != 1) {
        return Err(format!("{} is in generation {}", member.id, member.generation).into());
    }
    Ok(Formed { members, joined, settled })
}

/// Ids for new members.
fn ids(address: SocketAddr, group: &str, count: usize, work: &Work<'_>) -> Result<Vec<String>, Box<dyn Error>> {
    let mut client = Client::connect(address)?;
    let mut ids = Vec::new();
    let began = Instant::now();
    while ids.len() < count {
        let window = ID_WINDOW.min(count - ids.len());
        let mut is_loading = false;
        for _ in 0..window {
            client.send(work.versions.0, &join_request(group, "", work))?;
        }
        for _ in 0..window {
            let answer = client.receive()?;
            let response = join_response(&answer, work.versions.0)?;
            match response.error_code {
                MEMBER_ID_REQUIRED => ids.push(response.member_id.into_owned()),
                code if COORDINATOR_IS_COMING.contains(&code) && began.elapsed() < COORDINATOR_PATIENCE => {
                    is_loading = true;
                }
                code => return Err(format!("JoinGroup without an id: error {code}").into()),
            }
        }
        if is_loading {
            std::thread::sleep(COORDINATOR_PAUSE);
        }
    }
    Ok(ids)
}

fn join_request<'a>(group: &'a str, member_id: &'a str, work: &'a Work<'_>) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
        member_id: member_id.into(),
        protocol_type: PROTOCOL_TYPE.into(),
        protocols: vec![JoinGroupRequestProtocol { name: PROTOCOL.into(), metadata: Cow::Borrowed(work.subscription) }],
        ..JoinGroupRequest::default()
    }
}

fn join_response(answer: &[u8], version: i16) -> Result<JoinGroupResponse<'_>, Box<dyn Error>> {
    let body = &mut answer_body(answer, ApiKey::JoinGroup, version)?;
    Ok(JoinGroupResponse::decode(body, version).map_err(debug)?)
}

/// What each member gets, by its id: empty except for the leader, which alone is told of the others.
fn assignments(joined: &JoinGroupResponse<'_>, work: &Work<'_>) -> Vec<(String, Vec<u8>)> {
    let mut ids: Vec<String> = joined.members.iter().map(|member| member.member_id.to_string()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.into_iter().enumerate().map(|(rank, id)| (id, (work.assignment)(rank, count))).collect()
}

/// What a member sends once it has joined.
fn sync_request<'a>(
    group: &'a str,
    joined: &'a JoinGroupResponse<'a>,
    assignments: &'a [(String, Vec<u8>)],
) -> SyncGroupRequest<'a> {
    let assignments = assignments.iter().map(|(id, assignment)| SyncGroupRequestAssignment {
        member_id: id.as_str().into(),
        assignment: Cow::Borrowed(assignment),
    });
    SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: Cow::Borrowed(&joined.member_id),
        protocol_type: Some(PROTOCOL_TYPE.into()),
        protocol_name: Some(PROTOCOL.into()),
        assignments: assignments.collect(),
        ..SyncGroupRequest::default()
    }
}
