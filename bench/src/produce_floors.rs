//! `produce-floors`: what the produce path costs, beside both floors.
//!
//! One shard on one CPU, one connection from another, requests of 64 partitions x one uncompressed 16 KiB batch, acks=1,
//! several requests in flight. The topic is *written* (`flush.messages` is not 1) and keeps little, so that the broker
//! writes to recycled segments as the floors write to a file that was written before.

use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::client::Client;
use crate::load::{Saturation, batch, produce_frame};
use crate::profile::ProfileArguments;
use crate::report::{mb_per_second, median, ns_per_kib};
use crate::server::{BrokerArguments, Server, raise_locked_memory};

/// Options of `produce-floors`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    #[command(flatten)]
    profile: ProfileArguments,
    /// What to measure, in turn
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["full", "header", "runtime", "raw"])]
    subjects: Vec<Subject>,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before it
    #[arg(long, default_value_t = 1.5)]
    warm_up: f64,
    /// Partitions of a request
    #[arg(long, default_value_t = 64)]
    partitions: i32,
    /// Bytes of a batch
    #[arg(long, default_value_t = 16 * 1024)]
    batch_bytes: usize,
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// Bytes of one receive buffer of the floors
    #[arg(long, default_value_t = 256 * 1024)]
    floor_receive_bytes: usize,
    /// Requests in flight
    #[arg(long, default_value_t = 5)]
    window: usize,
}

/// A server to measure.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Subject {
    /// `corelane serve`, every record looked at
    Full,
    /// `corelane serve`, headers and checksums only
    Header,
    /// `floor-runtime`
    Runtime,
    /// `floor-raw`
    Raw,
}

impl Subject {
    fn name(self) -> &'static str {
        match self {
            Subject::Full => "corelane full",
            Subject::Header => "corelane header",
            Subject::Runtime => "floor-runtime",
            Subject::Raw => "floor-raw",
        }
    }
}

/// One measurement.
struct Sample {
    subject: Subject,
    mb_per_second: f64,
    cpu_ns_per_kib: f64,
    user_share: f64,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let batch = batch(arguments.batch_bytes, arguments.record_bytes);
    let partitions: Vec<i32> = (0..arguments.partitions).collect();
    let frame = Arc::new(produce_frame("floors", &partitions, &batch, 1));
    println!(
        "requests of {} x {} bytes ({} in all), {} in flight, acks=1, written, 1 shard, {} rounds of {} s",
        partitions.len(),
        batch.len(),
        frame.len(),
        arguments.window,
        arguments.rounds,
        arguments.seconds
    );
    let mut samples = Vec::new();
    for round in 1..=arguments.rounds {
        for subject in &arguments.subjects {
            let is_last = round == arguments.rounds;
            let sample = measure(arguments, *subject, &frame, batch.len() * partitions.len(), is_last)?;
            println!(
                "round {round} {:<16} {:>6.0} MB/s {:>6.1} ns CPU/KiB ({:.0} % user)",
                subject.name(),
                sample.mb_per_second,
                sample.cpu_ns_per_kib,
                sample.user_share * 100.0
            );
            samples.push(sample);
        }
    }
    print_medians(arguments, &samples);
    Ok(())
}

fn print_medians(arguments: &Arguments, samples: &[Sample]) {
    let cost = |subject: Subject| {
        median(samples.iter().filter(|sample| sample.subject == subject).map(|sample| sample.cpu_ns_per_kib))
    };
    // The ratio of neighbours in time is steadier than the ratio of medians where others use the machine.
    let ratio = |subject: Subject, base: Subject| {
        let of = |wanted: Subject| samples.iter().filter(move |sample| sample.subject == wanted);
        median(of(subject).zip(of(base)).map(|(a, b)| a.cpu_ns_per_kib / b.cpu_ns_per_kib))
    };
    println!("medians");
    for subject in &arguments.subjects {
        let throughput = median(samples.iter().filter(|s| s.subject == *subject).map(|s| s.mb_per_second));
        print!("{:<16} {:>6.0} MB/s {:>6.1} ns CPU/KiB", subject.name(), throughput, cost(*subject));
        for base in [Subject::Runtime, Subject::Raw, Subject::Header] {
            if base != *subject && arguments.subjects.contains(&base) {
                print!("  {:.2} x {}", ratio(*subject, base), base.name());
            }
        }
        println!();
    }
}

fn measure(
    arguments: &Arguments,
    subject: Subject,
    frame: &Arc<Vec<u8>>,
    batch_bytes: usize,
    is_last: bool,
) -> Result<Sample, Box<dyn Error>> {
    let broker = &arguments.broker;
    let server = Server::start(command(arguments, subject)?, Some(broker.server_cpu))?;
    if matches!(subject, Subject::Full | Subject::Header) {
        let kept = (4 * arguments.batch_bytes).to_string();
        let configs = [("flush.messages", "9223372036854775807"), ("retention.bytes", kept.as_str())];
        Client::connect(broker.address())?.create_topic("floors", arguments.partitions, &configs)?;
    }
    let bytes = u64::try_from(batch_bytes)?;
    let load = Saturation::start(broker.address(), Arc::clone(frame), bytes, arguments.window, Some(broker.load_cpu))?;
    std::thread::sleep(Duration::from_secs_f64(arguments.warm_up));
    let name = format!("{subject:?}").to_lowercase();
    let recording = arguments.profile.record(&server, is_last.then_some(&*name), arguments.seconds)?;
    let (began, cpu_before, bytes_before) = (Instant::now(), server.cpu()?, load.acknowledged());
    std::thread::sleep(Duration::from_secs_f64(arguments.seconds));
    let (cpu, bytes) = (server.cpu()?, load.acknowledged() - bytes_before);
    let time = began.elapsed();
    load.stop()?;
    recording.finish()?;
    server.kill()?;
    if bytes == 0 {
        return Err(format!("{} acknowledged nothing", subject.name()).into());
    }
    Ok(Sample {
        subject,
        mb_per_second: mb_per_second(bytes, time),
        cpu_ns_per_kib: ns_per_kib(cpu.total - cpu_before.total, bytes),
        user_share: cpu.user_share_since(&cpu_before),
    })
}

fn command(arguments: &Arguments, subject: Subject) -> Result<Command, Box<dyn Error>> {
    let broker = &arguments.broker;
    let validation = match subject {
        Subject::Full => "corelane.validation=full",
        Subject::Header => "corelane.validation=header",
        Subject::Runtime => return floor(arguments, "floor-runtime"),
        Subject::Raw => return floor(arguments, "floor-raw"),
    };
    let data = broker.empty_directory("produce-floors")?;
    let options = ["--set", validation, "--set", "log.retention.check.interval.ms=200"];
    broker.serve(&data, 1, &options)
}

fn floor(arguments: &Arguments, name: &str) -> Result<Command, Box<dyn Error>> {
    std::fs::create_dir_all(&arguments.broker.data)?;
    let data = arguments.broker.data.join("floor.data");
    let mut command = arguments.broker.floor(&[name])?;
    command.arg("--data").arg(data).arg("--cpu").arg(arguments.broker.server_cpu.to_string());
    command.arg("--receive-bytes").arg(arguments.floor_receive_bytes.to_string());
    Ok(command)
}
