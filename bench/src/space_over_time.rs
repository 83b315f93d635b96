//! `space-over-time`: what a store takes on disk while records of several lifetimes come, and what is written for each byte of
//! them.
//!
//! One topic for each lifetime, each with its share of the bytes, and one that keeps all of the one record that it gets every
//! second: that alone once kept every segment of its core. Sizes are printed as they go, with a bar that shows what is in use
//! and, of it, what lives; in the end what was written, by cause. Every record of the eternal topic must be there then.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};

use crate::client::{Client, answer_body, debug};
use crate::load::{batch, check_produced, pin, produce_frame};
use crate::report::float;
use crate::server::{BrokerArguments, Server, metric, raise_locked_memory};

const BATCH_BYTES: usize = 256 * 1024;
const RECORD_BYTES: usize = 1024;
const ETERNAL: &str = "eternal";
const PRINTED: Duration = Duration::from_secs(5);
/// Columns of a bar.
const COLUMNS: f64 = 48.0;
const LIST_OFFSETS_VERSION: i16 = 4;

/// Options of `space-over-time`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// MB of records per second
    #[arg(long, default_value_t = 30)]
    rate: u32,
    /// Shares of it in percent, and how many seconds each is kept
    #[arg(long, value_name = "PERCENT:SECONDS", value_delimiter = ',', default_value = "100:60", value_parser = part)]
    mix: Vec<(u32, u32)>,
    /// Partitions of each topic
    #[arg(long, default_value_t = 12)]
    partitions: i32,
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
    let mut client = Client::connect(address)?;
    let stamped = ("message.timestamp.type", "LogAppendTime");
    client.create_topic(ETERNAL, 1, &[("retention.ms", "-1"), stamped])?;
    for (index, (_, kept)) in arguments.mix.iter().enumerate() {
        let retention_ms = (u64::from(*kept) * 1000).to_string();
        client.create_topic(&topic(index), arguments.partitions, &[("retention.ms", &retention_ms), stamped])?;
    }
    pin(Some(arguments.broker.load_cpu));
    let began = Instant::now();
    let cpu = server.cpu()?.total;
    let eternal = load(arguments, address, began)?;
    let cpu = server.cpu()?.total - cpu;
    let loaded = began.elapsed();
    while began.elapsed() < loaded + Duration::from_secs(arguments.rest) {
        std::thread::sleep(PRINTED);
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
    println!("all {eternal} eternal records are there");
    server.stop()
}

/// Sends at the rate until the time is over. Gives how many eternal records were acknowledged.
fn load(arguments: &Arguments, address: SocketAddr, began: Instant) -> Result<u64, Box<dyn Error>> {
    let mut client = Client::connect(address)?.into_stream();
    let content = batch(BATCH_BYTES, RECORD_BYTES);
    let eternal_frame = produce_frame(ETERNAL, &[0], &batch(200, 100), 1);
    let frames: Vec<Vec<Vec<u8>>> = (0..arguments.mix.len())
        .map(|index| (0..arguments.partitions).map(|of| produce_frame(&topic(index), &[of], &content, 1)).collect())
        .collect();
    let (mut sent, mut eternal, mut printed) = (vec![0_u64; frames.len()], 0, PRINTED);
    loop {
        let elapsed = began.elapsed();
        if elapsed >= Duration::from_secs(arguments.seconds) {
            return Ok(eternal);
        }
        if elapsed >= printed {
            print_sizes(arguments, "load", began)?;
            printed += PRINTED;
        }
        if elapsed.as_secs() >= eternal {
            ask(&mut client, &eternal_frame)?;
            eternal += 1;
        }
        let due = elapsed.as_secs_f64() * f64::from(arguments.rate) * 1e6 / float(u64::try_from(BATCH_BYTES)?);
        let mut is_late = false;
        for (index, (share, _)) in arguments.mix.iter().enumerate() {
            if float(sent[index]) < due * f64::from(*share) / 100.0 {
                let frame = &frames[index][usize::try_from(sent[index])? % frames[index].len()];
                ask(&mut client, frame)?;
                sent[index] += 1;
                is_late = true;
            }
        }
        if !is_late {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn ask(stream: &mut std::net::TcpStream, frame: &[u8]) -> Result<(), Box<dyn Error>> {
    use std::io::Write;
    stream.write_all(frame)?;
    let mut answer = Vec::new();
    crate::client::read_frame(stream, &mut answer)?;
    check_produced(&answer)
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

fn topic(index: usize) -> String {
    format!("mixed-{index}")
}

fn print_sizes(arguments: &Arguments, what: &str, began: Instant) -> Result<(), Box<dyn Error>> {
    let read = |name: &str| metric(arguments.broker.http(), name);
    let (live, used) = (read("corelane_store_live_bytes")?, read("corelane_store_used_bytes")?);
    // Once it is all there, twice what lives at this rate fills the bar.
    let seconds = arguments.mix.iter().map(|(share, kept)| f64::from(*share) / 100.0 * f64::from(*kept));
    let full = 2.0 * seconds.sum::<f64>() * f64::from(arguments.rate) * 1e6 + 512e6;
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
