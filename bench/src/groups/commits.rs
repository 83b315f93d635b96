//! `group-commits`: offset commits per second of one shard's coordinators, flushed.
//!
//! Some connections commit without pause, each with one request unanswered, as a consumer that commits synchronously. A
//! commit is answered once it is durable; Kafka gets `log.flush.interval.messages=1`, or its own default with
//! `--kafka-written`.

use std::borrow::Cow;
use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::request_frame;
use corelane::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use hdrhistogram::Histogram;

use super::{KafkaArguments, Target, check};
use crate::client::{CLIENT_ID, Client, answer_body, debug, read_frame};
use crate::load::pin;
use crate::profile::ProfileArguments;
use crate::report::{float, latencies, median, quantile_us, record};
use crate::server::{BrokerArguments, metric, raise_locked_memory};

const COMMIT_VERSION: i16 = 9;
const TOPIC: &str = "committed";
const PARTITIONS_MAX: i32 = 50;
/// Partitions of a request, and groups.
const SHAPES: [(i32, u32); 4] = [(1, 1), (1, 100), (50, 1), (50, 100)];

/// Options of `group-commits`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    #[command(flatten)]
    profile: ProfileArguments,
    /// Kafka answers once a commit is written, as by default; else it flushes too
    #[arg(long, requires = "kafka")]
    kafka_written: bool,
    /// Connections, each with one request unanswered
    #[arg(long, default_value_t = 16)]
    connections: u32,
    /// Seconds of full speed that do not count
    #[arg(long, default_value_t = 4)]
    warm_up: u64,
    /// Rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2)]
    seconds: u64,
}

/// One measurement.
struct Sample {
    commits_per_second: f64,
    cpu_us_per_commit: f64,
    /// Only of ours.
    commits_per_flush: f64,
    latency: Histogram<u64>,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    println!(
        "OffsetCommit over {} connections, 1 shard, medians of {} rounds of {} s",
        arguments.connections, arguments.rounds, arguments.seconds
    );
    let ours = measure_all(arguments, Target::corelane(&arguments.broker, &[])?, "flushed")?;
    let (settings, level): (&[&str], _) =
        if arguments.kafka_written { (&[], "written") } else { (&["log.flush.interval.messages=1"], "flushed") };
    if let Some(kafka) = Target::kafka(&arguments.kafka, &arguments.broker, settings)? {
        let theirs = measure_all(arguments, kafka, level)?;
        for (((partitions, groups), ours), theirs) in SHAPES.iter().zip(ours).zip(theirs) {
            println!(
                "corelane / kafka, {partitions:>2} partition(s), {groups:>3} group(s): {:.1} times its commits/s, {:.2} of its \
                 CPU/commit",
                ours.0 / theirs.0,
                ours.1 / theirs.1
            );
        }
    }
    Ok(())
}

/// Commits per second and CPU per commit of each shape.
fn measure_all(arguments: &Arguments, target: Target, level: &str) -> Result<Vec<(f64, f64)>, Box<dyn Error>> {
    Client::connect(target.address())?.create_topic(TOPIC, PARTITIONS_MAX, &[])?;
    measure(arguments, &target, SHAPES[3], arguments.warm_up, false)?;
    let mut figures = Vec::new();
    for shape in SHAPES {
        let mut samples = Vec::new();
        for round in 1..=arguments.rounds {
            samples.push(measure(arguments, &target, shape, arguments.seconds, round == arguments.rounds)?);
        }
        let middle = |of: fn(&Sample) -> f64| median(samples.iter().map(of));
        let (commits, cpu) = (middle(|sample| sample.commits_per_second), middle(|sample| sample.cpu_us_per_commit));
        print!(
            "{:<9} {level} {:>2} partition(s) a commit, {:>3} group(s): {commits:>7.0} commits/s, {cpu:>6.1} µs CPU/commit, \
             p50 {:>5.0} p99 {:>6.0} µs",
            target.name,
            shape.0,
            shape.1,
            middle(|sample| quantile_us(&sample.latency, 0.5)),
            middle(|sample| quantile_us(&sample.latency, 0.99)),
        );
        if target.is_kafka {
            println!();
        } else {
            println!(", {:>4.1} commits/flush", middle(|sample| sample.commits_per_flush));
        }
        figures.push((commits, cpu));
    }
    target.server.stop()?;
    Ok(figures)
}

fn measure(
    arguments: &Arguments,
    target: &Target,
    (partitions, groups): (i32, u32),
    seconds: u64,
    is_recorded: bool,
) -> Result<Sample, Box<dyn Error>> {
    let stopping = Arc::new(AtomicBool::new(false));
    let flushes =
        || if target.is_kafka { Ok(0.0) } else { metric(target.broker.http(), "corelane_flush_seconds_count") };
    let subject = format!("{partitions}-partitions-{groups}-groups");
    let recording = target.record(&arguments.profile, is_recorded.then_some(&*subject), seconds)?;
    let (began, cpu, flushes_before) = (Instant::now(), target.cpu()?, flushes()?);
    let mut threads = Vec::new();
    for connection in 0..arguments.connections {
        // Each connection has its own share of the groups, and all of them one where there is only one.
        let step = usize::try_from(arguments.connections)?;
        let own = (connection % groups..groups).step_by(step).map(|group| commit_frame(group, partitions)).collect();
        let (address, stopping, cpu) = (target.address(), Arc::clone(&stopping), arguments.broker.load_cpu);
        threads.push(std::thread::spawn(move || {
            pin(Some(cpu));
            commit(address, own, &stopping).map_err(|error| error.to_string())
        }));
    }
    std::thread::sleep(Duration::from_secs(seconds));
    stopping.store(true, Ordering::Relaxed);
    let mut latency = latencies();
    for thread in threads {
        latency.add(thread.join().map_err(|_| "a thread of the load panicked")??)?;
    }
    let (elapsed, cpu, flushes) = (began.elapsed(), target.cpu()? - cpu, flushes()? - flushes_before);
    recording.finish()?;
    let commits = float(latency.len());
    Ok(Sample {
        commits_per_second: commits / elapsed.as_secs_f64(),
        cpu_us_per_commit: cpu.as_secs_f64() * 1e6 / commits,
        commits_per_flush: commits / flushes,
        latency,
    })
}

/// A commit from outside of the group, as consumers without assignment by group make them.
fn commit_frame(group: u32, partitions: i32) -> Vec<u8> {
    let partition = |index: i32| OffsetCommitRequestPartition {
        partition_index: index,
        committed_offset: i64::from(index) + 1_000_000,
        committed_leader_epoch: 0,
        committed_metadata: Some(Cow::Borrowed("")),
    };
    let topic = OffsetCommitRequestTopic { name: TOPIC.into(), partitions: (0..partitions).map(partition).collect() };
    let group_id = format!("committing-{group}").into();
    let request = OffsetCommitRequest { group_id, topics: vec![topic], ..OffsetCommitRequest::default() };
    request_frame(1, Some(CLIENT_ID), COMMIT_VERSION, &request).bytes
}

/// Sends one after the other and gives their latencies.
fn commit(address: SocketAddr, frames: Vec<Vec<u8>>, stopping: &AtomicBool) -> Result<Histogram<u64>, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (mut histogram, mut answer, mut good) = (latencies(), Vec::new(), Vec::new());
    for frame in frames.iter().cycle() {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let sent = Instant::now();
        stream.write_all(frame)?;
        read_frame(&mut stream, &mut answer)?;
        record(&mut histogram, sent.elapsed());
        // All answers are alike, so only the first is looked into.
        if answer != good {
            check_committed(&answer)?;
            good.clone_from(&answer);
        }
    }
    Ok(histogram)
}

fn check_committed(answer: &[u8]) -> Result<(), Box<dyn Error>> {
    let body = &mut answer_body(answer, ApiKey::OffsetCommit, COMMIT_VERSION)?;
    let response = OffsetCommitResponse::decode(body, COMMIT_VERSION).map_err(debug)?;
    let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    check("OffsetCommit", codes.find(|code| *code != 0).unwrap_or(0))
}
