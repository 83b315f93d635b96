//! `idle-groups`: resident memory of groups that nobody uses any more but that have committed offsets.
//!
//! A member joins each, commits and leaves. What is written on the way goes through the broker's memory for the log too, so
//! that is filled before each measurement; and all three are of a broker that was started again or has worked, so what is
//! between them is what the groups cost.

use std::borrow::Cow;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use corelane::protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use corelane::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelane::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};

use super::{await_coordinators, check, set};
use crate::client::{Client, answer_body, debug};
use crate::load::{batch, produce_frame, send_all};
use crate::report::float;
use crate::server::{BrokerArguments, Server, metric, raise_locked_memory};

/// A member without an id that joins with this version is let in at once.
const JOIN_VERSION: i16 = 3;
const SYNC_VERSION: i16 = 3;
const COMMIT_VERSION: i16 = 7;
const LEAVE_VERSION: i16 = 3;
const TOPIC: &str = "idle";
const FILL: &str = "fill";
/// Bytes of a batch that fills the memory for the log, and how many of them are unanswered.
const FILL_BATCH_BYTES: usize = 1_000_000;
const FILL_WINDOW: usize = 8;

/// Options of `idle-groups`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// Groups
    #[arg(long, default_value_t = 10_000)]
    groups: usize,
    /// Partitions that each has committed
    #[arg(long, default_value_t = 10)]
    partitions: i32,
    /// Connections, each with a group at a time
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// MiB that fill the broker's memory for the log
    #[arg(long, default_value_t = 640)]
    fill_mib: usize,
    /// Seconds to idle
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let data = arguments.broker.empty_directory("idle-groups")?;
    let server = start(arguments, &data)?;
    let mut client = Client::connect(arguments.broker.address())?;
    client.create_topic(TOPIC, arguments.partitions, &[])?;
    client.create_topic(FILL, 1, &[("flush.messages", "9223372036854775807")])?;
    drop(client);
    server.stop()?;
    let server = start(arguments, &data)?;
    let empty = idle(arguments, &server, "no groups")?;
    let began = Instant::now();
    create(arguments)?;
    println!("{} groups came and went in {:.1} s", arguments.groups, began.elapsed().as_secs_f64());
    let created = idle(arguments, &server, "groups just created")?;
    server.stop()?;
    let server = start(arguments, &data)?;
    let started = idle(arguments, &server, "groups after a restart")?;
    server.stop()?;
    let count = float(u64::try_from(arguments.groups)?);
    println!(
        "cost of {count} groups with {} offsets each: {:.1} MiB when created ({:.0} bytes each), {:.1} MiB after a restart \
         ({:.0} bytes each)",
        arguments.partitions,
        mib(created - empty),
        (created - empty) / count,
        mib(started - empty),
        (started - empty) / count
    );
    Ok(())
}

fn start(arguments: &Arguments, data: &Path) -> Result<Server, Box<dyn Error>> {
    let settings = set(&["group.initial.rebalance.delay.ms=0"]);
    let server = Server::start(arguments.broker.serve(data, 1, &settings)?, None)?;
    await_coordinators(arguments.broker.address())?;
    Ok(server)
}

/// Resident memory, once the memory for the log is full.
fn idle(arguments: &Arguments, server: &Server, what: &str) -> Result<f64, Box<dyn Error>> {
    let batch = batch(FILL_BATCH_BYTES, FILL_BATCH_BYTES / 2);
    let frame = produce_frame(FILL, &[0], &batch, 1);
    let count = arguments.fill_mib * 1024 * 1024 / FILL_BATCH_BYTES;
    send_all(arguments.broker.address(), (0..count).map(|_| &frame[..]), FILL_WINDOW)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = server.cpu()?;
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let cpu = (server.cpu()?.total - before.total).as_secs_f64() / float(arguments.seconds);
    let resident = float(server.resident_bytes()?);
    let groups = metric(arguments.broker.http(), "corelane_groups")?;
    println!("{what:<24} {groups:>6} groups, {:>7.1} MiB resident, {:.2} % of a core", mib(resident), cpu * 100.0);
    Ok(resident)
}

/// Has a member join each group, commit and leave.
fn create(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let connect = |_| Client::connect(arguments.broker.address());
    let mut clients: Vec<Client> = (0..arguments.connections).map(connect).collect::<Result<_, _>>()?;
    let names: Vec<String> = (0..arguments.groups).map(|group| format!("idle-group-{group}")).collect();
    for names in names.chunks(arguments.connections) {
        for (client, group) in clients.iter_mut().zip(names) {
            client.send(JOIN_VERSION, &join(group))?;
        }
        let mut ids = Vec::new();
        for (client, group) in clients.iter_mut().zip(names) {
            let answer = client.receive()?;
            let body = &mut answer_body(&answer, ApiKey::JoinGroup, JOIN_VERSION)?;
            let joined = JoinGroupResponse::decode(body, JOIN_VERSION).map_err(debug)?;
            check("JoinGroup", joined.error_code)?;
            client.send(SYNC_VERSION, &sync(group, &joined.member_id, joined.generation_id))?;
            ids.push((joined.member_id.into_owned(), joined.generation_id));
        }
        for ((client, group), (id, generation)) in clients.iter_mut().zip(names).zip(&ids) {
            let answer = client.receive()?;
            let body = &mut answer_body(&answer, ApiKey::SyncGroup, SYNC_VERSION)?;
            check("SyncGroup", SyncGroupResponse::decode(body, SYNC_VERSION).map_err(debug)?.error_code)?;
            client.send(COMMIT_VERSION, &commit(group, id, *generation, arguments.partitions))?;
        }
        for ((client, group), (id, _)) in clients.iter_mut().zip(names).zip(&ids) {
            let answer = client.receive()?;
            let body = &mut answer_body(&answer, ApiKey::OffsetCommit, COMMIT_VERSION)?;
            let committed = OffsetCommitResponse::decode(body, COMMIT_VERSION).map_err(debug)?;
            for partition in committed.topics.iter().flat_map(|topic| &topic.partitions) {
                check("OffsetCommit", partition.error_code)?;
            }
            let member = MemberIdentity { member_id: id.into(), ..MemberIdentity::default() };
            let leave =
                LeaveGroupRequest { group_id: group.into(), members: vec![member], ..LeaveGroupRequest::default() };
            client.send(LEAVE_VERSION, &leave)?;
        }
        for (client, _) in clients.iter_mut().zip(names) {
            let answer = client.receive()?;
            let body = &mut answer_body(&answer, ApiKey::LeaveGroup, LEAVE_VERSION)?;
            check("LeaveGroup", LeaveGroupResponse::decode(body, LEAVE_VERSION).map_err(debug)?.error_code)?;
        }
    }
    Ok(())
}

fn join(group: &str) -> JoinGroupRequest<'_> {
    JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Cow::Borrowed(b"subscription") }],
        ..JoinGroupRequest::default()
    }
}

fn sync<'a>(group: &'a str, member_id: &'a str, generation_id: i32) -> SyncGroupRequest<'a> {
    let assignment =
        SyncGroupRequestAssignment { member_id: member_id.into(), assignment: Cow::Borrowed(b"assignment") };
    SyncGroupRequest {
        group_id: group.into(),
        generation_id,
        member_id: member_id.into(),
        assignments: vec![assignment],
        ..SyncGroupRequest::default()
    }
}

fn commit<'a>(group: &'a str, member_id: &'a str, generation: i32, partitions: i32) -> OffsetCommitRequest<'a> {
    let partition = |index| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: 1_000_000,
        committed_leader_epoch: 0,
        committed_metadata: Some(Cow::Borrowed("")),
    };
    let topic = OffsetCommitRequestTopic { name: TOPIC.into(), partitions: (0..partitions).map(partition).collect() };
    OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member_id.into(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

fn mib(bytes: f64) -> f64 {
    bytes / 1024.0 / 1024.0
}
