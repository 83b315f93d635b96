//! `start-time`: from starting the process to its `ready` line, with a full store: after a clean stop and after `kill -9`
//! under load.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use crate::client::Client;
use crate::load::{Saturation, batch, produce_frame, send_all};
use crate::report::{float, mb_per_second, median};
use crate::server::{BrokerArguments, Server, raise_locked_memory};

/// Partitions of one topic.
const TOPIC_PARTITIONS: i32 = 1000;
/// Partitions of one request.
const REQUEST_PARTITIONS: usize = 50;
/// Requests unanswered while filling.
const WINDOW: usize = 8;

/// Options of `start-time`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// GiB to store
    #[arg(long, default_value_t = 10.0)]
    gib: f64,
    /// Topics of 1,000 partitions
    #[arg(long, default_value_t = 10)]
    topics: i32,
    /// Shards
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Bytes of a batch
    #[arg(long, default_value_t = 16 * 1024)]
    batch_bytes: usize,
    /// Clean and unclean restarts each
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let broker = &arguments.broker;
    let data = broker.empty_directory("start-time")?;
    let start = || Server::start(broker.serve(&data, arguments.shards, &[])?, None);
    let mut server = start()?;
    fill(arguments)?;
    let (mut clean, mut unclean) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        let began = Instant::now();
        server.stop()?;
        let stopped = began.elapsed();
        server = start()?;
        clean.push(server.start_time.as_secs_f64() * 1000.0);
        println!("round {round} clean stop ({} ms), then {}", stopped.as_millis(), line(&server));
        load_for(arguments, Duration::from_secs(2))?;
        server.kill()?;
        server = start()?;
        unclean.push(server.start_time.as_secs_f64() * 1000.0);
        println!("round {round} kill -9 under load, then {}", line(&server));
    }
    println!("medians: ready {:.0} ms after a clean stop, {:.0} ms after kill -9", median(clean), median(unclean));
    server.stop()
}

fn line(server: &Server) -> String {
    format!("ready in {:.0} ms: {}", server.start_time.as_secs_f64() * 1000.0, server.ready)
}

fn name(topic: i32) -> String {
    format!("start-{topic}")
}

/// Creates the topics and writes to every partition in turn.
fn fill(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(arguments.broker.address())?;
    let batch = batch(arguments.batch_bytes, 1024);
    let mut frames: Vec<(std::net::SocketAddr, Vec<u8>)> = Vec::new();
    let mut frame_bytes = 0;
    for topic in 0..arguments.topics {
        client.create_topic(&name(topic), TOPIC_PARTITIONS, &[("flush.messages", "9223372036854775807")])?;
        for (address, partitions) in client.leaders(&name(topic))?.1 {
            for partitions in partitions.chunks(REQUEST_PARTITIONS) {
                frame_bytes = frame_bytes.max(partitions.len() * batch.len());
                frames.push((address, produce_frame(&name(topic), partitions, &batch, 1)));
            }
        }
    }
    let mut addresses: Vec<_> = frames.iter().map(|(address, _)| *address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let began = Instant::now();
    let mut bytes = 0_u64;
    // Bytes are far below 2^53.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let wanted = (arguments.gib * 1024.0 * 1024.0 * 1024.0) as u64;
    while bytes < wanted {
        for address in &addresses {
            let own = frames.iter().filter(|(leader, _)| leader == address).map(|(_, frame)| &frame[..]);
            send_all(*address, own, WINDOW)?;
        }
        bytes += u64::try_from(batch.len())? * u64::try_from(arguments.topics * TOPIC_PARTITIONS)?;
    }
    let time = began.elapsed();
    let gib = float(bytes) / 1024.0 / 1024.0 / 1024.0;
    println!(
        "stored {gib:.1} GiB over {} partitions at {:.0} MB/s",
        arguments.topics * TOPIC_PARTITIONS,
        mb_per_second(bytes, time)
    );
    Ok(())
}

/// Produces at full speed to one topic.
fn load_for(arguments: &Arguments, time: Duration) -> Result<(), Box<dyn Error>> {
    let (_, leaders) = Client::connect(arguments.broker.address())?.leaders(&name(0))?;
    let (address, partitions) = leaders.first().ok_or("a topic without partitions")?;
    let chosen = &partitions[..partitions.len().min(REQUEST_PARTITIONS)];
    let batch = batch(arguments.batch_bytes, 1024);
    let frame = Arc::new(produce_frame(&name(0), chosen, &batch, 1));
    let load = Saturation::start(*address, frame, 1, WINDOW, None)?;
    std::thread::sleep(time);
    load.stop()
}
