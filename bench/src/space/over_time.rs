//! `space-over-time`: what a store takes on disk while records of several lifetimes come, what is written for each byte of
//! them, and what that costs those who produce.
//!
//! One topic for each lifetime, each with its share of the bytes, and one that keeps all of the one record that it gets every
//! second: that alone once kept every segment of its core. Sizes are printed as they go, with a bar that shows what is in use
//! and, of it, what lives; in the end what was written, by cause, and CPU and latencies of the time before the store moved
//! anything beside those since. Every record of the eternal topic must be there then.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use hdrhistogram::Histogram;

use super::load::{ETERNAL, Load, Workload, create_topics};
use super::windows::{Window, print_comparison};
use crate::client::{Client, answer_body, debug};
use crate::load::{OpenLoop, batch, produce_frame};
use crate::report;
use crate::server::{BrokerArguments, Server, metric, raise_locked_memory};

/// Of one window.
const WINDOW: Duration = Duration::from_secs(5);
/// Columns of a bar.
const COLUMNS: f64 = 48.0;
/// MB per second that a bar takes for as many as are answered.
const FASTEST_RATE: u32 = 500;
const LIST_OFFSETS_VERSION: i16 = 4;
const FLUSHED: &str = "flushed";
const FLUSHED_BATCH_BYTES: usize = 1024;
const FLUSHED_CONNECTIONS: u32 = 4;

/// Options of `space-over-time`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// MB of records per second; 0 for as many as are answered
    #[arg(long, default_value_t = 30)]
    rate: u32,
    /// Connections that share it, each with one request unanswered
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Shares of it in percent, and how many seconds each is kept
    #[arg(long, value_name = "PERCENT:SECONDS", value_delimiter = ',', default_value = "100:60", value_parser = part)]
    mix: Vec<(u32, u32)>,
    /// Partitions of each topic
    #[arg(long, default_value_t = 12)]
    partitions: i32,
    /// Beside it so many batches of 1 KiB per second, flushed, at fixed times
    #[arg(long, default_value_t = 0)]
    flushed_rate: u32,
    /// Seconds of load
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// Seconds of rest after it
    #[arg(long, default_value_t = 30)]
    rest: u64,
}

fn part(text: &str) -> Result<(u32, u32), String> {
    let parsed = text.split_once(':').and_then(|(share, kept)| Some((share.parse().ok()?, kept.parse().ok()?)));
    parsed.ok_or_else(|| "PERCENT:SECONDS, as 90:60".to_owned())
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.mix.iter().map(|(share, _)| share).sum::<u32>() != 100 {
        return Err("the shares of --mix do not add up to 100".into());
    }
    raise_locked_memory();
    let data = arguments.broker.empty_directory("space-over-time")?;
    let settings = ["--set", "log.retention.check.interval.ms=5000", "--set", "log.initial.task.delay.ms=5000"];
    let server = Server::start(arguments.broker.serve(&data, 1, &settings)?, Some(arguments.broker.server_cpu))?;
    let address = arguments.broker.address();
    let workload = Workload {
        rate: (arguments.rate > 0).then_some(f64::from(arguments.rate)),
        mix: arguments.mix.clone(),
        partitions: arguments.partitions,
    };
    create_topics(address, &workload)?;
    let mut client = Client::connect(address)?;
    let kept_short = [("flush.messages", "1"), ("retention.ms", "10000"), ("message.timestamp.type", "LogAppendTime")];
    client.create_topic(FLUSHED, arguments.partitions, &kept_short)?;
    let (began, cpu) = (Instant::now(), server.cpu()?.total);
    let load = Load::start(address, &workload, arguments.connections, arguments.broker.load_cpu);
    let mut windows = Vec::new();
    while began.elapsed() < Duration::from_secs(arguments.seconds) && !load.has_failed() {
        windows.push(window(arguments, &server, &load)?);
        print_sizes(arguments, "load", began)?;
    }
    let eternal = load.stop()?;
    let cpu = server.cpu()?.total - cpu;
    let loaded = began.elapsed();
    while began.elapsed() < loaded + Duration::from_secs(arguments.rest) {
        std::thread::sleep(WINDOW);
        print_sizes(arguments, "rest", began)?;
    }
    let kept = eternal_records(&mut client)?;
    if kept != eternal {
        return Err(format!("{kept} of {eternal} eternal records are there").into());
    }
    let read = |name: &str| metric(arguments.broker.http(), name);
    let appended = read("corelane_log_appended_bytes")?;
    let (moved, compacted) = (read("corelane_store_moved_bytes")?, read("corelane_compaction_written_bytes")?);
    println!(
        "written for each byte appended: {:.3} (the log 1, moves {:.3}, compaction {:.3}); {:.0} MB appended, {:.0} MB/s; \
         {:.2} s of CPU per GB",
        1.0 + (moved + compacted) / appended,
        moved / appended,
        compacted / appended,
        appended / 1e6,
        appended / 1e6 / loaded.as_secs_f64(),
        cpu.as_secs_f64() / (appended / 1e9),
    );
    print_comparison(&windows);
    println!("all {eternal} eternal records are there");
    server.stop()
}

/// What happens in the next seconds.
fn window(arguments: &Arguments, server: &Server, load: &Load) -> Result<Window, Box<dyn Error>> {
    let moved = || metric(arguments.broker.http(), "corelane_store_moved_bytes");
    let (acknowledged_before, moved_before, cpu_before) = (load.acknowledged(), moved()?, server.cpu()?.total);
    load.take_latencies();
    let flushed = if arguments.flushed_rate > 0 {
        Some(flushed(arguments)?)
    } else {
        std::thread::sleep(WINDOW);
        None
    };
    Ok(Window {
        acknowledged: load.acknowledged() - acknowledged_before,
        moved: moved()? - moved_before,
        cpu: server.cpu()?.total - cpu_before,
        written: load.take_latencies(),
        flushed,
    })
}

/// Latencies of small flushed batches for a window.
fn flushed(arguments: &Arguments) -> Result<Histogram<u64>, Box<dyn Error>> {
    let content = batch(FLUSHED_BATCH_BYTES, FLUSHED_BATCH_BYTES / 2);
    let frames: Vec<Vec<u8>> =
        (0..arguments.partitions).map(|index| produce_frame(FLUSHED, &[index], &content, -1)).collect();
    let interval = Duration::from_secs(1) * FLUSHED_CONNECTIONS / arguments.flushed_rate;
    let count = u32::try_from(WINDOW.as_nanos() / interval.as_nanos())?;
    let first = Instant::now() + Duration::from_millis(50);
    let loops: Vec<OpenLoop> = (0..FLUSHED_CONNECTIONS)
        .map(|connection| {
            let due = first + interval * connection / FLUSHED_CONNECTIONS;
            let cpu = Some(arguments.broker.load_cpu);
            OpenLoop::start(arguments.broker.address(), frames.clone(), due, interval, count, count / 10, cpu)
        })
        .collect::<Result<_, _>>()?;
    let mut latencies = report::latencies();
    for open_loop in loops {
        latencies.add(open_loop.finish()?)?;
    }
    Ok(latencies)
}

/// Records of the eternal topic: its offsets, from the log start to the end.
fn eternal_records(client: &mut Client) -> Result<u64, Box<dyn Error>> {
    let mut offsets = [0; 2];
    // The earliest, and the end.
    for (offset, timestamp) in offsets.iter_mut().zip([-2, -1]) {
        let partitions =
            vec![ListOffsetsPartition { partition_index: 0, timestamp, ..ListOffsetsPartition::default() }];
        let topics = vec![ListOffsetsTopic { name: ETERNAL.into(), partitions }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
        let answer = client.ask(LIST_OFFSETS_VERSION, &request)?;
        let body = &mut answer_body(&answer, ApiKey::ListOffsets, LIST_OFFSETS_VERSION)?;
        let response = ListOffsetsResponse::decode(body, LIST_OFFSETS_VERSION).map_err(debug)?;
        *offset = response.topics.first().and_then(|topic| topic.partitions.first()).ok_or("no offset")?.offset;
    }
    Ok(u64::try_from(offsets[1] - offsets[0])?)
}

fn print_sizes(arguments: &Arguments, what: &str, began: Instant) -> Result<(), Box<dyn Error>> {
    let read = |name: &str| metric(arguments.broker.http(), name);
    let (live, used) = (read("corelane_store_live_bytes")?, read("corelane_store_used_bytes")?);
    // Once it is all there, twice what lives at this rate fills the bar.
    let seconds = arguments.mix.iter().map(|(share, kept)| f64::from(*share) / 100.0 * f64::from(*kept));
    let rate = f64::from(if arguments.rate > 0 { arguments.rate } else { FASTEST_RATE });
    let full = 2.0 * seconds.sum::<f64>() * rate * 1e6 + 512e6;
    let columns = |bytes: f64| {
        let columns = (bytes / full * COLUMNS).min(COLUMNS);
        (0..).take_while(|column| f64::from(*column) < columns.round()).count()
    };
    let bar = "#".repeat(columns(live)) + &"-".repeat(columns(used).saturating_sub(columns(live)));
    println!(
        "{:>5.0} s {what} {:>8.0} MB live, {:>8.0} in use, {:>3.0} segments + {:>2.0} free files, {:>7.0} MB moved |{bar}",
        began.elapsed().as_secs_f64(),
        live / 1e6,
        used / 1e6,
        read("corelane_segments")?,
        read("corelane_segments_free")?,
        read("corelane_store_moved_bytes")? / 1e6,
    );
    Ok(())
}
