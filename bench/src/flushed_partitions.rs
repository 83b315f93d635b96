//! `flushed-partitions`: many partitions share one log, so a flush costs the same whether batches go to one or to many.
//!
//! Two brokers run side by side, one with one partition, one with many; the same load goes to each in turn: on every
//! connection a request of one batch at fixed times (open loop), acks=all, flushed (`flush.messages=1`). Latency counts
//! from when a request was due.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;

use crate::client::Client;
use crate::load::{OpenLoop, batch, produce_frame};
use crate::profile::ProfileArguments;
use crate::report::{float, latencies, median, quantile_us};
use crate::server::{BrokerArguments, Server, metric, raise_locked_memory};

/// Partitions of one topic at most.
const TOPIC_PARTITIONS: i32 = 1000;
/// Time for all connections to be ready.
const START_DELAY: Duration = Duration::from_millis(50);

/// Options of `flushed-partitions`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    #[command(flatten)]
    profile: ProfileArguments,
    /// Partitions of the second broker, in topics of 1,000
    #[arg(long, default_value_t = 10_000)]
    partitions: i32,
    /// Batches per second in all
    #[arg(long, default_value_t = 2000)]
    rate: u32,
    /// Connections that share the rate
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Bytes of a batch
    #[arg(long, default_value_t = 1024)]
    batch_bytes: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5)]
    seconds: u32,
}

/// One broker, and a request for each of its partitions.
struct Side {
    name: String,
    broker: BrokerArguments,
    server: Server,
    frames: Vec<Vec<u8>>,
}

/// One measurement.
struct Sample {
    latency: Histogram<u64>,
    flushes_per_second: f64,
    cpu_us_per_batch: f64,
}

/// What is compared of two samples.
type Figure = fn(&Sample) -> f64;

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let sides = [start(arguments, 1, 0)?, start(arguments, arguments.partitions, 10)?];
    println!(
        "{} batches/s of {} bytes over {} connections, acks=all, flushed, 1 shard, {} rounds of {} s",
        arguments.rate, arguments.batch_bytes, arguments.connections, arguments.rounds, arguments.seconds
    );
    let mut samples: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=arguments.rounds {
        for (side, samples) in sides.iter().zip(&mut samples) {
            let sample = measure(arguments, side, round == arguments.rounds)?;
            println!("round {round} {:<18} {}", side.name, figures(&sample));
            samples.push(sample);
        }
    }
    let middle = |samples: &[Sample], of: Figure| median(samples.iter().map(of));
    println!("medians of rounds: {}, {}, ratio", sides[0].name, sides[1].name);
    let rows: [(&str, Figure); 5] = [
        ("p50 µs", |sample| quantile_us(&sample.latency, 0.5)),
        ("p90 µs", |sample| quantile_us(&sample.latency, 0.9)),
        ("p99 µs", |sample| quantile_us(&sample.latency, 0.99)),
        ("flushes/s", |sample| sample.flushes_per_second),
        ("server CPU µs/batch", |sample| sample.cpu_us_per_batch),
    ];
    for (name, of) in rows {
        let (one, many) = (middle(&samples[0], of), middle(&samples[1], of));
        println!("{name:<20} {one:>8.0} {many:>8.0} {:>6.2}", many / one);
    }
    Ok(())
}

fn start(arguments: &Arguments, partitions: i32, port: u16) -> Result<Side, Box<dyn Error>> {
    let mut broker = arguments.broker.clone();
    broker.port += port;
    let data = broker.empty_directory(&format!("flushed-{partitions}"))?;
    let server = Server::start(broker.serve(&data, 1, &[])?, Some(broker.server_cpu))?;
    let mut client = Client::connect(broker.address())?;
    let batch = batch(arguments.batch_bytes, arguments.batch_bytes / 2);
    let mut frames = Vec::new();
    for topic in 0..(partitions + TOPIC_PARTITIONS - 1) / TOPIC_PARTITIONS {
        let name = format!("flushed-{topic}");
        let count = (partitions - topic * TOPIC_PARTITIONS).min(TOPIC_PARTITIONS);
        client.create_topic(&name, count, &[("flush.messages", "1")])?;
        frames.extend((0..count).map(|index| produce_frame(&name, &[index], &batch, -1)));
    }
    Ok(Side { name: format!("{partitions}-partitions"), broker, server, frames })
}

fn measure(arguments: &Arguments, side: &Side, is_last: bool) -> Result<Sample, Box<dyn Error>> {
    let connections = usize::try_from(arguments.connections)?;
    let interval = Duration::from_secs(1) * arguments.connections / arguments.rate;
    let count = arguments.rate * arguments.seconds / arguments.connections;
    // Each connection has its own share of the partitions.
    let shares: Vec<Vec<Vec<u8>>> = (0..connections)
        .map(|connection| {
            side.frames.iter().skip(connection % side.frames.len()).step_by(connections).cloned().collect()
        })
        .collect();
    let recording = arguments.profile.record(&side.server, is_last.then_some(&*side.name), arguments.seconds)?;
    let (began, cpu) = (Instant::now(), side.server.cpu()?);
    let flushes = metric(side.broker.http(), "corelane_flush_seconds_count")?;
    // Requests are due at even distances over all connections. Were each connection's time to start its own, what it does
    // before would decide how many requests come together, and so how many share a flush.
    let first = began + START_DELAY;
    let loops: Result<Vec<OpenLoop>, _> = (0..arguments.connections)
        .zip(shares)
        .map(|(connection, frames)| {
            let due = first + interval * connection / arguments.connections;
            OpenLoop::start(side.broker.address(), frames, due, interval, count, count / 10, Some(side.broker.load_cpu))
        })
        .collect();
    let mut latency = latencies();
    for load in loops? {
        latency.add(load.finish()?)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let flushes = metric(side.broker.http(), "corelane_flush_seconds_count")? - flushes;
    let cpu = side.server.cpu()?.total - cpu.total;
    recording.finish()?;
    let batches = float(u64::from(count * arguments.connections));
    Ok(Sample { latency, flushes_per_second: flushes / seconds, cpu_us_per_batch: cpu.as_secs_f64() * 1e6 / batches })
}

fn figures(sample: &Sample) -> String {
    format!(
        "p50 {:>6.0} p90 {:>6.0} p99 {:>6.0} µs, {:>5.0} flushes/s, {:>4.0} µs CPU/batch",
        quantile_us(&sample.latency, 0.5),
        quantile_us(&sample.latency, 0.9),
        quantile_us(&sample.latency, 0.99),
        sample.flushes_per_second,
        sample.cpu_us_per_batch
    )
}
