//! The groups of a load, formed before it starts: found, joined, and their partitions given out by ranges.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::error_code::ErrorCode;
use corelane::protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelane::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use corelane::protocol::messages::join_group::JoinGroupRequest;
use corelane::protocol::messages::sync_group::SyncGroupRequest;
use corelane::protocol::wire::{DecodeError, Reader, Writer};

use crate::client::{Client, answer_body, debug};
use crate::groups::member::{Formed, Work, form_for};
use crate::lab::generator::plan::Plan;
use crate::lab::generator::topology::{address, error_name};
use crate::lab::number::size;

/// How long a coordinator may take to be there: its topic may have to be created.
const COORDINATOR_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries.
const COORDINATOR_PAUSE: Duration = Duration::from_millis(100);
/// First version of JoinGroup in which new members are given their ids first.
const JOIN_VERSION_MIN: i16 = 4;

/// Forms the groups with these names.
pub(in crate::lab::generator) fn form(plan: &Plan, names: &[String]) -> Result<Formed, Box<dyn Error>> {
    let versions = (plan.versions.of::<JoinGroupRequest<'_>>()?, plan.versions.of::<SyncGroupRequest<'_>>()?);
    if versions.0 < JOIN_VERSION_MIN {
        return Err("the server's groups are too old for assignment = \"group\"".into());
    }
    let mut groups = Vec::new();
    for name in names {
        groups.push((name.clone(), coordinator(plan, name)?));
    }
    let assignment = |rank, members| encode_assignment(plan, rank, members);
    let subscription = encode_subscription(&plan.topics);
    form_for(
        &groups,
        size(plan.workload.consumers),
        &Work { subscription: &subscription, assignment: &assignment, versions },
    )
}

/// Waits for the coordinator of a group.
fn coordinator(plan: &Plan, group: &str) -> Result<SocketAddr, Box<dyn Error>> {
    let bootstrap = *plan.leaders.first().ok_or("there is no leader")?;
    let began = Instant::now();
    loop {
        let why = match find(plan, bootstrap, group)? {
            Ok(found) => match try_out(plan, found, group)? {
                // It knows its groups: there is no such member.
                ErrorCode::UnknownMemberId | ErrorCode::GroupIdNotFound => return Ok(found),
                code => code.name().to_owned(),
            },
            Err(code) => error_name(code),
        };
        if began.elapsed() > COORDINATOR_PATIENCE {
            return Err(format!("the coordinator of {group} does not answer: {why}").into());
        }
        std::thread::sleep(COORDINATOR_PAUSE);
    }
}

fn find(plan: &Plan, bootstrap: SocketAddr, group: &str) -> Result<Result<SocketAddr, i16>, Box<dyn Error>> {
    let version = plan.versions.of::<FindCoordinatorRequest<'_>>()?;
    let request = FindCoordinatorRequest { key: group.into(), ..FindCoordinatorRequest::default() };
    let answer = Client::connect(bootstrap)?.ask(version, &request)?;
    let body = &mut answer_body(&answer, ApiKey::FindCoordinator, version)?;
    let found = FindCoordinatorResponse::decode(body, version).map_err(debug)?;
    if found.error_code == 0 { Ok(Ok(address(&found.host, found.port)?)) } else { Ok(Err(found.error_code)) }
}

/// What a coordinator says to a heartbeat of nobody.
fn try_out(plan: &Plan, coordinator: SocketAddr, group: &str) -> Result<ErrorCode, Box<dyn Error>> {
    let version = plan.versions.of::<HeartbeatRequest<'_>>()?;
    let request =
        HeartbeatRequest { group_id: group.into(), member_id: "nobody".into(), ..HeartbeatRequest::default() };
    let answer = Client::connect(coordinator)?.ask(version, &request)?;
    let body = &mut answer_body(&answer, ApiKey::Heartbeat, version)?;
    let code = HeartbeatResponse::decode(body, version).map_err(debug)?.error_code;
    Ok(ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError))
}

/// The partitions of one topic that the member of this rank gets: as Kafka's range assignor, the first members get one
/// more where it does not come out even.
fn range(partitions: u32, rank: usize, members: usize) -> std::ops::Range<usize> {
    let (each, more) = (size(partitions) / members, size(partitions) % members);
    let start = rank * each + rank.min(more);
    start..start + each + usize::from(rank < more)
}

/// Version 0 of a subscription: topics, no user data.
fn encode_subscription(topics: &[String]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i16(0);
    writer.array_length(Some(topics.len()), false);
    for topic in topics {
        writer.nullable_string(Some(topic), false);
    }
    writer.nullable_bytes(None, false);
    writer.bytes
}

/// Version 0 of an assignment: topics with their partitions, no user data.
fn encode_assignment(plan: &Plan, rank: usize, members: usize) -> Vec<u8> {
    let own = range(plan.workload.partitions, rank, members);
    let mut writer = Writer::new();
    writer.i16(0);
    writer.array_length(Some(plan.topics.len()), false);
    for topic in &plan.topics {
        writer.nullable_string(Some(topic), false);
        writer.array_length(Some(own.len()), false);
        for partition in own.clone() {
            writer.i32(crate::lab::number::signed(partition));
        }
    }
    writer.nullable_bytes(None, false);
    writer.bytes
}

/// The partitions of an assignment, as indexes into the plan's.
pub(in crate::lab::generator) fn slots(plan: &Plan, assignment: &[u8]) -> Result<Vec<u32>, Box<dyn Error>> {
    let decoded = decode_assignment(assignment).map_err(|error| error.to_string())?;
    let slot = |(topic, partition): (String, i32)| {
        let index = plan.topics.iter().position(|name| *name == topic)?;
        plan.slot_of(index, partition)
    };
    let slots: Option<Vec<u32>> = decoded.into_iter().map(slot).collect();
    Ok(slots.ok_or("an assignment has foreign partitions")?)
}

fn decode_assignment(bytes: &[u8]) -> Result<Vec<(String, i32)>, DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.i16()?;
    let mut all = Vec::new();
    for _ in 0..reader.array_length(false)?.unwrap_or(0) {
        let topic = reader.nullable_string(false)?.unwrap_or_default();
        for _ in 0..reader.array_length(false)?.unwrap_or(0) {
            all.push((topic.to_string(), reader.i32()?));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_each_partition_once() {
        assert_eq!([range(7, 0, 3), range(7, 1, 3), range(7, 2, 3)], [0..3, 3..5, 5..7]);
        assert_eq!([range(1, 0, 2), range(1, 1, 2)], [0..1, 1..1]);
    }
}
