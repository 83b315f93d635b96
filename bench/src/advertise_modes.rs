//! `single-vs-per-core`: two shards as two nodes, and as one node that hands half of everything to a sibling.
//!
//! The load is what a stock client makes of each: a connection per node, on it the partitions that the node leads. Server
//! and load share all cores, so throughput says little here; CPU per byte and the crossings say what a hop costs.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use crate::client::Client;
use crate::load::{Saturation, batch, produce_frame};
use crate::report::{mb_per_second, median, ns_per_kib};
use crate::server::{BrokerArguments, Server, metric, raise_locked_memory};

/// Options of `single-vs-per-core`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// Shards
    #[arg(long, default_value_t = 2)]
    shards: u16,
    /// Clients
    #[arg(long, default_value_t = 2)]
    clients: usize,
    /// Partitions
    #[arg(long, default_value_t = 64)]
    partitions: i32,
    /// Bytes of a batch
    #[arg(long, default_value_t = 16 * 1024)]
    batch_bytes: usize,
    /// Requests of one client in flight, over all its connections
    #[arg(long, default_value_t = 4)]
    window: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// One measurement.
struct Sample {
    mb_per_second: f64,
    cpu_ns_per_kib: f64,
    crossings: f64,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    println!(
        "{} shards, {} clients, {} partitions x {} byte batches, acks=1, written, {} rounds of {} s",
        arguments.shards,
        arguments.clients,
        arguments.partitions,
        arguments.batch_bytes,
        arguments.rounds,
        arguments.seconds
    );
    let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    for round in 1..=arguments.rounds {
        for mode in ["per-core", "single"] {
            let sample = measure(arguments, mode)?;
            println!(
                "round {round} {mode:<9} {:>6.0} MB/s {:>6.1} ns CPU/KiB, {:.0} crossings",
                sample.mb_per_second, sample.cpu_ns_per_kib, sample.crossings
            );
            samples.entry(mode).or_default().push(sample);
        }
    }
    let middle = |mode: &str, of: fn(&Sample) -> f64| median(samples[mode].iter().map(of));
    let cost = |mode| middle(mode, |sample| sample.cpu_ns_per_kib);
    for mode in ["per-core", "single"] {
        let throughput = middle(mode, |sample| sample.mb_per_second);
        println!("median {mode:<9} {throughput:>6.0} MB/s {:>6.1} ns CPU/KiB", cost(mode));
    }
    println!("CPU of single / per-core: {:.2}", cost("single") / cost("per-core"));
    Ok(())
}

fn measure(arguments: &Arguments, mode: &str) -> Result<Sample, Box<dyn Error>> {
    let broker = &arguments.broker;
    let data = broker.empty_directory("advertise-modes")?;
    let options = ["--advertise", mode, "--set", "log.retention.check.interval.ms=200"];
    let server = Server::start(broker.serve(&data, arguments.shards, &options)?, None)?;
    let mut client = Client::connect(broker.address())?;
    let kept = (4 * arguments.batch_bytes).to_string();
    let configs = [("flush.messages", "9223372036854775807"), ("retention.bytes", kept.as_str())];
    client.create_topic("modes", arguments.partitions, &configs)?;
    let (_, leaders) = client.leaders("modes")?;
    let batch = batch(arguments.batch_bytes, 1024);
    let mut loads = Vec::new();
    for _ in 0..arguments.clients {
        for (address, partitions) in &leaders {
            let frame = Arc::new(produce_frame("modes", partitions, &batch, 1));
            let bytes = u64::try_from(batch.len() * partitions.len())?;
            let window = (arguments.window / leaders.len()).max(1);
            loads.push(Saturation::start(*address, frame, bytes, window, None)?);
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    let acknowledged = || loads.iter().map(Saturation::acknowledged).sum::<u64>();
    let crossings = metric(broker.http(), "corelane_crossings_total")?;
    let (began, cpu, before) = (Instant::now(), server.cpu()?, acknowledged());
    std::thread::sleep(Duration::from_secs_f64(arguments.seconds));
    let (cpu, bytes, time) = (server.cpu()?.total - cpu.total, acknowledged() - before, began.elapsed());
    let crossings = metric(broker.http(), "corelane_crossings_total")? - crossings;
    for load in loads {
        load.stop()?;
    }
    server.kill()?;
    Ok(Sample { mb_per_second: mb_per_second(bytes, time), cpu_ns_per_kib: ns_per_kib(cpu, bytes), crossings })
}
