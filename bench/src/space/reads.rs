//! `cleaned-reads`: how the partitions of a large topic read once the cleaner has put them together, beside a log of one
//! partition that nothing moved, and what the index takes for them.
//!
//! Batches of all partitions of two topics come in turn, so that segments hold a little of each; then one topic is deleted, and
//! the cleaner moves what stays. After a restart some partitions are read, one after the other, and the other log, in turns; nothing
//! of either is in memory then.

use std::error::Error;
use std::time::{Duration, Instant};

use clap::Args;

use crate::client::Client;
use crate::fetch::read_partition;
use crate::load::{batch, produce_frame, send_all};
use crate::report::{float, mb_per_second, median, ns_per_kib};
use crate::server::{BrokerArguments, Server, metric, raise_locked_memory};

const KEPT: &str = "kept";
const DYING: &str = "dying";
const ALONE: &str = "alone";
const BATCH_BYTES: usize = 16 * 1024;
const RECORD_BYTES: usize = 1024;
/// Of the log of one partition: more than the broker keeps of what it read.
const ALONE_BYTES: usize = 512 * 1024 * 1024;
/// Partitions of one request.
const REQUEST_PARTITIONS: usize = 50;
/// Requests unanswered while filling.
const WINDOW: usize = 8;
/// The cleaner is done when it moved nothing for so long.
const QUIET: Duration = Duration::from_secs(20);
const LOOKED: Duration = Duration::from_secs(1);

/// Options of `cleaned-reads`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// GiB that stay; as many die
    #[arg(long, default_value_t = 4.0)]
    gib: f64,
    /// Partitions of each of the two topics
    #[arg(long, default_value_t = 1000)]
    partitions: i32,
    /// Partitions that are read in a round
    #[arg(long, default_value_t = 8)]
    read: i32,
    /// Bytes of an answer at most: what a consumer asks of one partition by default
    #[arg(long, default_value_t = 1024 * 1024)]
    answer_bytes: i32,
    /// Rounds, each of other partitions
    #[arg(long, default_value_t = 5)]
    rounds: i32,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let broker = &arguments.broker;
    let data = broker.empty_directory("cleaned-reads")?;
    let start = || Server::start(broker.serve(&data, 1, &[])?, Some(broker.server_cpu));
    let server = start()?;
    fill(arguments)?;
    print_store(arguments, "filled")?;
    Client::connect(broker.address())?.delete_topics(vec![DYING.into()])?;
    await_cleaner(arguments)?;
    print_store(arguments, "cleaned")?;
    fill_alone(arguments)?;
    server.stop()?;
    let server = start()?;
    // The figures are those of a second that has passed.
    std::thread::sleep(2 * LOOKED);
    print_store(arguments, "restarted")?;
    let mut client = Client::connect(broker.address())?;
    let mut ratios = Vec::new();
    for round in 0..arguments.rounds {
        // A partition of every part of the topic, none twice.
        let step = (arguments.partitions / arguments.read).max(1);
        let partitions = (0..arguments.read).map(|index| (index * step + round) % arguments.partitions);
        let of_many = measure(arguments, &mut client, &server, KEPT, partitions)?;
        let alone = measure(arguments, &mut client, &server, ALONE, std::iter::once(0))?;
        println!(
            "round {} {} partitions of {}: {:>5.0} MB/s, {:>4.0} ns CPU/KiB; a log of one: {:>5.0} MB/s, {:>4.0} ns CPU/KiB; \
             ratio {:.2}",
            round + 1,
            arguments.read,
            arguments.partitions,
            of_many.0,
            of_many.1,
            alone.0,
            alone.1,
            of_many.0 / alone.0
        );
        ratios.push(of_many.0 / alone.0);
    }
    println!("median: {:.2} x as fast as a log of one partition", median(ratios));
    server.stop()
}

/// Writes to each partition of both topics in turn.
fn fill(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let address = arguments.broker.address();
    let mut client = Client::connect(address)?;
    let content = batch(BATCH_BYTES, RECORD_BYTES);
    let partitions: Vec<i32> = (0..arguments.partitions).collect();
    let mut frames = Vec::new();
    for topic in [KEPT, DYING] {
        client.create_topic(topic, arguments.partitions, &[])?;
        frames.extend(partitions.chunks(REQUEST_PARTITIONS).map(|some| produce_frame(topic, some, &content, 1)));
    }
    let round_bytes = float(u64::try_from(content.len())?) * f64::from(arguments.partitions);
    let mut rounds = 0;
    while float(rounds) * round_bytes < arguments.gib * f64::from(1 << 30) {
        send_all(address, frames.iter().map(|frame| &frame[..]), WINDOW)?;
        rounds += 1;
    }
    Ok(())
}

/// Writes to the log of one partition.
fn fill_alone(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let address = arguments.broker.address();
    Client::connect(address)?.create_topic(ALONE, 1, &[])?;
    let content = batch(BATCH_BYTES, RECORD_BYTES);
    let frame = produce_frame(ALONE, &[0], &content, 1);
    let count = ALONE_BYTES / content.len();
    send_all(address, std::iter::repeat_n(&frame[..], count), WINDOW)
}

fn await_cleaner(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let moved = || metric(arguments.broker.http(), "corelane_store_moved_bytes");
    let mut last = (moved()?, Instant::now());
    while last.1.elapsed() < QUIET {
        std::thread::sleep(LOOKED);
        let now = moved()?;
        if now > last.0 {
            last = (now, Instant::now());
        }
    }
    Ok(())
}

/// Reads partitions from beginning to end. Gives MB/s, and the server's CPU in ns per KiB.
fn measure(
    arguments: &Arguments,
    client: &mut Client,
    server: &Server,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
) -> Result<(f64, f64), Box<dyn Error>> {
    let (began, cpu) = (Instant::now(), server.cpu()?.total);
    let mut bytes = 0;
    for partition in partitions {
        bytes += read_partition(client, topic, partition, arguments.answer_bytes)?;
    }
    let (time, cpu) = (began.elapsed(), server.cpu()?.total - cpu);
    Ok((mb_per_second(bytes, time), ns_per_kib(cpu, bytes)))
}

fn print_store(arguments: &Arguments, what: &str) -> Result<(), Box<dyn Error>> {
    let read = |name: &str| metric(arguments.broker.http(), name);
    let (live, index) = (read("corelane_store_live_bytes")?, read("corelane_store_index_bytes")?);
    println!(
        "{what:<10} {:>6.0} MB live, {:>6.0} in use, {:>3.0} segments, {:>6.0} MB moved; index {:.2} MB, {:.1} MB per TB",
        live / 1e6,
        read("corelane_store_used_bytes")? / 1e6,
        read("corelane_segments")?,
        read("corelane_store_moved_bytes")? / 1e6,
        index / 1e6,
        index / live * 1e6,
    );
    Ok(())
}
