//! `compacted-offsets`: what committed offsets take once `__consumer_offsets` was compacted, and how soon coordinators answer
//! after a start.
//!
//! Some connections commit without pause for many groups over many partitions, far more often than there are offsets. The store
//! holds nothing else but the metadata, so that its size is theirs. Every offset that was answered last must be there after
//! the restart.

use std::borrow::Cow;
use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::request_frame;
use corelane::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelane::protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};

use super::{await_coordinators, check};
use crate::client::{CLIENT_ID, Client, answer_body, debug, read_frame};
use crate::load::pin;
use crate::report::float;
use crate::server::{BrokerArguments, Server, metric, raise_locked_memory};

const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 7;
const TOPIC: &str = "committed";
/// Partitions of one request.
const PARTITIONS_AT_ONCE: i32 = 50;
/// How often the sizes are printed.
const PRINTED: Duration = Duration::from_secs(5);

/// Options of `compacted-offsets`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// Offsets to commit in all
    #[arg(long, default_value_t = 10_000_000)]
    commits: u64,
    /// Groups
    #[arg(long, default_value_t = 100)]
    groups: u32,
    /// Partitions of the topic, each committed by every group; a multiple of 50
    #[arg(long, default_value_t = 1000)]
    partitions: i32,
    /// Connections, each with one request unanswered
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// The store is at rest when nothing was compacted for so many seconds
    #[arg(long, default_value_t = 75)]
    quiet: u64,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let data = arguments.broker.empty_directory("compacted-offsets")?;
    let server = Server::start(arguments.broker.serve(&data, 1, &[])?, Some(arguments.broker.server_cpu))?;
    await_coordinators(arguments.broker.address())?;
    Client::connect(arguments.broker.address())?.create_topic(TOPIC, arguments.partitions, &[])?;
    let began = Instant::now();
    let rounds = commit_all(arguments, began)?;
    print_sizes(arguments, "committed", began)?;
    let mut passes = (metric(arguments.broker.http(), "corelane_compaction_passes")?, Instant::now());
    while passes.1.elapsed() < Duration::from_secs(arguments.quiet) {
        std::thread::sleep(PRINTED);
        let now = metric(arguments.broker.http(), "corelane_compaction_passes")?;
        if now > passes.0 {
            passes = (now, Instant::now());
            print_sizes(arguments, "compacting", began)?;
        }
    }
    print_sizes(arguments, "at rest", began)?;
    println!("resident: {:.1} MiB", mib(float(server.resident_bytes()?)));
    server.stop()?;
    let server = Server::start(arguments.broker.serve(&data, 1, &[])?, Some(arguments.broker.server_cpu))?;
    let ready = Instant::now();
    fetch_all(arguments, &rounds)?;
    println!(
        "after a restart: ready after {:.0} ms, all {} groups told all their offsets {:.0} ms later",
        server.start_time.as_secs_f64() * 1e3,
        arguments.groups,
        ready.elapsed().as_secs_f64() * 1e3
    );
    server.stop()
}

/// Commits until there are enough. Gives how often each group has committed all partitions, by group.
fn commit_all(arguments: &Arguments, began: Instant) -> Result<Vec<u64>, Box<dyn Error>> {
    let left = Arc::new(AtomicU64::new(arguments.commits));
    let mut threads = Vec::new();
    for connection in 0..arguments.connections.min(arguments.groups) {
        let own: Vec<u32> = (connection..arguments.groups).step_by(usize::try_from(arguments.connections)?).collect();
        let (address, left) = (arguments.broker.address(), Arc::clone(&left));
        let (cpu, partitions) = (arguments.broker.load_cpu, arguments.partitions);
        threads.push(std::thread::spawn(move || {
            pin(Some(cpu));
            let rounds = commit(address, &own, partitions, &left).map_err(|error| error.to_string())?;
            Ok::<_, String>(own.into_iter().zip(rounds).collect::<Vec<(u32, u64)>>())
        }));
    }
    while threads.iter().any(|thread| !thread.is_finished()) {
        std::thread::sleep(PRINTED);
        print_sizes(arguments, "committing", began)?;
    }
    let mut rounds = vec![0; usize::try_from(arguments.groups)?];
    for thread in threads {
        for (group, count) in thread.join().map_err(|_| "a thread of the load panicked")?? {
            rounds[usize::try_from(group)?] = count;
        }
    }
    Ok(rounds)
}

/// Commits all partitions of each group in turn. Gives how often, by group.
fn commit(address: SocketAddr, groups: &[u32], partitions: i32, left: &AtomicU64) -> Result<Vec<u64>, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut answer, mut rounds) = (Vec::new(), vec![0; groups.len()]);
    let of_round = u64::try_from(partitions)?;
    let take = |left: u64| left.checked_sub(of_round);
    for index in (0..groups.len()).cycle() {
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            break;
        }
        rounds[index] += 1;
        for first in (0..partitions).step_by(usize::try_from(PARTITIONS_AT_ONCE)?) {
            stream.write_all(&commit_frame(groups[index], first, rounds[index]))?;
            read_frame(&mut stream, &mut answer)?;
            let body = &mut answer_body(&answer, ApiKey::OffsetCommit, COMMIT_VERSION)?;
            let response = OffsetCommitResponse::decode(body, COMMIT_VERSION).map_err(debug)?;
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                check("OffsetCommit", partition.error_code)?;
            }
        }
    }
    Ok(rounds)
}

/// A commit from outside of the group. The offset says in which round it was.
fn commit_frame(group: u32, first: i32, round: u64) -> Vec<u8> {
    let partition = |index: i32| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: i64::try_from(round).expect("rounds are few"),
        committed_leader_epoch: 0,
        committed_metadata: Some(Cow::Borrowed("")),
    };
    let partitions = (first..first + PARTITIONS_AT_ONCE).map(partition).collect();
    let topics = vec![OffsetCommitRequestTopic { name: TOPIC.into(), partitions }];
    let request = OffsetCommitRequest { group_id: name(group).into(), topics, ..OffsetCommitRequest::default() };
    request_frame(1, Some(CLIENT_ID), COMMIT_VERSION, &request).bytes
}

/// Asks for all offsets of all groups, again and again while their coordinators load, and checks them.
fn fetch_all(arguments: &Arguments, rounds: &[u64]) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(arguments.broker.address())?;
    for (group, round) in (0..arguments.groups).zip(rounds) {
        let request =
            OffsetFetchRequest { group_id: name(group).into(), topics: None, ..OffsetFetchRequest::default() };
        loop {
            let answer = client.ask(FETCH_VERSION, &request)?;
            let body = &mut answer_body(&answer, ApiKey::OffsetFetch, FETCH_VERSION)?;
            let fetched = OffsetFetchResponse::decode(body, FETCH_VERSION).map_err(debug)?;
            if fetched.error_code != 0 {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let offsets: Vec<i64> =
                fetched.topics.iter().flat_map(|topic| &topic.partitions).map(|found| found.committed_offset).collect();
            let wanted = if *round == 0 { 0 } else { usize::try_from(arguments.partitions)? };
            if offsets.len() != wanted || offsets.iter().any(|offset| u64::try_from(*offset) != Ok(*round)) {
                return Err(format!("{}: {} offsets, not all of round {round}", name(group), offsets.len()).into());
            }
            break;
        }
    }
    Ok(())
}

fn name(group: u32) -> String {
    format!("committing-{group}")
}

fn print_sizes(arguments: &Arguments, what: &str, began: Instant) -> Result<(), Box<dyn Error>> {
    let read = |name: &str| metric(arguments.broker.http(), name);
    println!(
        "{:>5.0} s {what:<10} {:>9.0} commits, {:>7.1} MiB live of {:>7.1} MiB in use; written: {:>7.1} MiB appended, \
         {:>6.1} MiB by {:.0} passes, {:>6.1} MiB moved",
        began.elapsed().as_secs_f64(),
        read("corelane_group_commits_total")?,
        mib(read("corelane_store_live_bytes")?),
        mib(read("corelane_store_used_bytes")?),
        mib(read("corelane_log_appended_bytes")?),
        mib(read("corelane_compaction_written_bytes")?),
        read("corelane_compaction_passes")?,
        mib(read("corelane_store_moved_bytes")?),
    );
    Ok(())
}

fn mib(bytes: f64) -> f64 {
    bytes / 1024.0 / 1024.0
}
