//! `tail-fetch`: consumers read what is in memory, beside a server that sends the same bytes from one buffer.
//!
//! Two measurements. *Full speed*: what was written before is read over and over, each consumer asking again at once; the
//! floor (`floor-send`, on glommio) is asked for answers of the same size in the same way: from one buffer, which then
//! is in the processor's cache, and once more from as much memory as the broker reads, which is not. *Live*: consumers follow a
//! producer that writes at a fixed rate, whose cost to the broker is measured first without consumers and subtracted; the
//! floor answers as many requests per second. There the kernel's wake-ups of the clients weigh as much as the bytes, and
//! they differ: all consumers wait for the same batch, while the floor's readers come when their time is due.
//!
//! Cold reads are shown: there should be none.

use std::cell::Cell;
use std::error::Error;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::limits::{IO_MEMORY_BYTES, PREEMPT_MS};
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::request_frame;
use corelane::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelane::protocol::wire::Records;
use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream as GlommioStream};
use glommio::{LocalExecutorBuilder, Placement};

use crate::client::{CLIENT_ID, Client, answer_body, debug, read_frame};
use crate::fetch::{FETCH_VERSION, next_offset};
use crate::load::{OpenLoop, batch, pin, produce_frame};
use crate::profile::ProfileArguments;
use crate::report::{float, mb_per_second, median, ns_per_kib};
use crate::server::{BrokerArguments, Server, metric, raise_locked_memory};

/// Bytes of a fetch answer at most, headers aside, so that all answers are of one order.
const ANSWER_BYTES_MAX: i32 = 1024 * 1024;
/// Bytes written before they are read at full speed: well within the tail of a shard with its default memory.
const REREAD_BYTES: usize = 128 * 1024 * 1024;
/// An answer with fewer bytes has reached the end.
const REREAD_SHORT_BYTES: u64 = 512 * 1024;
/// Set in a request to the floor: the answer comes from the next bytes of all its memory, not from its beginning.
const SPREAD: u32 = 1 << 31;
/// Bytes of one answer of the floor at most.
const SEND_BYTES_MAX: usize = 2 * 1024 * 1024;
/// What a consumer that follows a producer waits for.
const LIVE_BYTES_MIN: i32 = 512 * 1024;
const TOPIC: &str = "tail";

/// Options of `tail-fetch`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    #[command(flatten)]
    profile: ProfileArguments,
    /// Consumers, each of all partitions
    #[arg(long, default_value_t = 8)]
    consumers: u32,
    /// Requests of the producer per second, one batch to each partition
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Partitions
    #[arg(long, default_value_t = 64)]
    partitions: i32,
    /// Bytes of a batch
    #[arg(long, default_value_t = 16 * 1024)]
    batch_bytes: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4)]
    seconds: u32,
}

/// Options of `floor-send`.
#[derive(Args)]
pub(crate) struct FloorArguments {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// CPU to run on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// What consumers got, and what that cost.
struct Sample {
    bytes: u64,
    answers: u64,
    time: Duration,
    cpu: Duration,
    /// Reads of the broker that went to the disk.
    misses: f64,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let broker = &arguments.broker;
    let data = broker.empty_directory("tail-fetch")?;
    let server = Server::start(broker.serve(&data, 1, &[])?, Some(broker.server_cpu))?;
    let written = [("flush.messages", "9223372036854775807")];
    Client::connect(broker.address())?.create_topic(TOPIC, arguments.partitions, &written)?;
    let mut floor_broker = broker.clone();
    floor_broker.port += 10;
    let mut floor = floor_broker.floor(&["floor-send"])?;
    floor.arg("--cpu").arg(broker.server_cpu.to_string());
    let floor = Server::start(floor, Some(broker.server_cpu))?;
    println!(
        "{} consumers of {} partitions, batches of {} bytes, 1 shard, {} rounds of {} s",
        arguments.consumers, arguments.partitions, arguments.batch_bytes, arguments.rounds, arguments.seconds
    );
    full_speed(arguments, &server, &floor, floor_broker.address())?;
    live(arguments, &server, &floor, floor_broker.address())
}

/// Reads the same bytes again and again, which costs the broker nothing but fetches.
fn full_speed(
    arguments: &Arguments,
    server: &Server,
    floor: &Server,
    floor_address: SocketAddr,
) -> Result<(), Box<dyn Error>> {
    let broker = &arguments.broker;
    let request_bytes = usize::try_from(arguments.partitions)? * arguments.batch_bytes;
    let count = u32::try_from(REREAD_BYTES / request_bytes)?.max(1);
    let began = Instant::now() + Duration::from_millis(50);
    let frames = vec![produced_frame(arguments)];
    let interval = Duration::from_millis(5);
    OpenLoop::start(broker.address(), frames, began, interval, count, 0, Some(broker.load_cpu))?.finish()?;
    println!("full speed");
    let (mut costs, mut hot, mut spread) = (Vec::new(), Vec::new(), Vec::new());
    let misses = || metric(broker.http(), "corelane_cache_misses_total");
    let before = misses()?;
    for round in 1..=arguments.rounds {
        let is_last = round == arguments.rounds;
        let readers = (0..arguments.consumers)
            .map(|_| Reading::again(broker.address(), Some(broker.load_cpu), arguments.partitions))
            .collect::<Result<Vec<_>, _>>()?;
        let fetched = measure_readers(arguments, server, readers, is_last.then_some("full-speed"))?;
        let bytes = u32::try_from(fetched.bytes / fetched.answers.max(1))?;
        let of_floor = |request: u32, name: &'static str| -> Result<f64, Box<dyn Error>> {
            let readers = (0..arguments.consumers)
                .map(|_| Reading::of_floor(floor_address, Some(broker.load_cpu), request, Duration::ZERO))
                .collect::<Result<Vec<_>, _>>()?;
            let sent = measure_readers(arguments, floor, readers, is_last.then_some(name))?;
            Ok(ns_per_kib(sent.cpu, sent.bytes))
        };
        costs.push(ns_per_kib(fetched.cpu, fetched.bytes));
        hot.push(of_floor(bytes, "full-speed-floor")?);
        spread.push(of_floor(bytes | SPREAD, "full-speed-floor-spread")?);
        println!(
            "round {round} fetched {:>5.0} MB/s in answers of {:.0} KiB: {:>5.1} ns CPU/KiB; floor {:>5.1}, from {} MiB {:>5.1}",
            mb_per_second(fetched.bytes, fetched.time),
            f64::from(bytes) / 1024.0,
            costs[round - 1],
            hot[round - 1],
            REREAD_BYTES >> 20,
            spread[round - 1]
        );
    }
    let ratio = |floor: &[f64]| median(costs.iter().zip(floor).map(|(cost, floor)| cost / floor));
    println!(
        "medians: {:.1} ns CPU/KiB; {:.2} x the floor from one buffer, {:.2} x from {} MiB; reads that went to the disk: {:.0}",
        median(costs.iter().copied()),
        ratio(&hot),
        ratio(&spread),
        REREAD_BYTES >> 20,
        misses()? - before
    );
    Ok(())
}

/// Measures readers from a second after they began until they are stopped.
fn measure_readers(
    arguments: &Arguments,
    server: &Server,
    readers: Vec<Reading>,
    recorded_as: Option<&str>,
) -> Result<Sample, Box<dyn Error>> {
    std::thread::sleep(Duration::from_secs(1));
    let recording = arguments.profile.record(server, recorded_as, arguments.seconds)?;
    let sample = measure(server, &readers, arguments.seconds)?;
    for reader in readers {
        reader.stop()?;
    }
    recording.finish()?;
    Ok(sample)
}

/// A request of the producer: a batch to each partition.
fn produced_frame(arguments: &Arguments) -> Vec<u8> {
    let partitions: Vec<i32> = (0..arguments.partitions).collect();
    produce_frame(TOPIC, &partitions, &batch(arguments.batch_bytes, 1024), 1)
}

/// Follows a producer.
fn live(
    arguments: &Arguments,
    server: &Server,
    floor: &Server,
    floor_address: SocketAddr,
) -> Result<(), Box<dyn Error>> {
    println!("live, {} requests/s of a batch to each partition, acks=1, written", arguments.rate);
    // The tail fills up once; what that costs is no part of any round.
    produce(arguments, server, None)?;
    let (mut ratios, mut costs, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    let mut misses = 0.0;
    for round in 1..=arguments.rounds {
        let alone = produce(arguments, server, None)?;
        let fetched = produce(arguments, server, Some(round == arguments.rounds))?;
        let sent = send(arguments, floor, floor_address, &fetched, round == arguments.rounds)?;
        // Both ran for nearly the same time at the same rate.
        let produce_cpu = alone.cpu.mul_f64(fetched.time.as_secs_f64() / alone.time.as_secs_f64());
        let cost = ns_per_kib(fetched.cpu.saturating_sub(produce_cpu), fetched.bytes);
        let floor_cost = ns_per_kib(sent.cpu, sent.bytes);
        println!(
            "round {round} fetched {:>5.0} MB/s in answers of {:.0} KiB: {cost:>5.1} ns CPU/KiB (produce alone {:.0} % of a core); floor {:>5.0} MB/s {floor_cost:>5.1}; ratio {:.2}",
            mb_per_second(fetched.bytes, fetched.time),
            float(fetched.bytes) / float(fetched.answers.max(1)) / 1024.0,
            alone.cpu.as_secs_f64() / alone.time.as_secs_f64() * 100.0,
            mb_per_second(sent.bytes, sent.time),
            cost / floor_cost
        );
        misses += fetched.misses;
        ratios.push(cost / floor_cost);
        costs.push(cost);
        floors.push(floor_cost);
    }
    println!(
        "medians: {:.1} ns CPU/KiB fetched, floor {:.1}, ratio {:.2}; reads that went to the disk: {misses:.0}",
        median(costs),
        median(floors),
        median(ratios)
    );
    Ok(())
}

/// Produces for a while, with consumers or without.
fn produce(arguments: &Arguments, server: &Server, consume: Option<bool>) -> Result<Sample, Box<dyn Error>> {
    let broker = &arguments.broker;
    let frame = produced_frame(arguments);
    let interval = Duration::from_secs(1) / arguments.rate;
    let count = arguments.rate * (arguments.seconds + 2);
    let began = Instant::now() + Duration::from_millis(50);
    let load = OpenLoop::start(broker.address(), vec![frame], began, interval, count, 0, Some(broker.load_cpu))?;
    let consumers = match consume {
        None => Vec::new(),
        Some(_) => (0..arguments.consumers)
            .map(|_| Reading::start(broker.address(), Some(broker.load_cpu), arguments.partitions))
            .collect::<Result<Vec<_>, _>>()?,
    };
    std::thread::sleep(Duration::from_secs(1));
    let recorded_as = (consume == Some(true)).then_some("live");
    let recording = arguments.profile.record(server, recorded_as, arguments.seconds)?;
    let misses = || metric(broker.http(), "corelane_cache_misses_total");
    let before = misses()?;
    let mut sample = measure(server, &consumers, arguments.seconds)?;
    sample.misses = misses()? - before;
    for consumer in consumers {
        consumer.stop()?;
    }
    load.finish()?;
    recording.finish()?;
    Ok(sample)
}

/// Asks the floor for as many bytes as the consumers got.
fn send(
    arguments: &Arguments,
    floor: &Server,
    address: SocketAddr,
    like: &Sample,
    is_last: bool,
) -> Result<Sample, Box<dyn Error>> {
    let bytes = u32::try_from(like.bytes / like.answers.max(1))?;
    let interval = like.time.mul_f64(f64::from(arguments.consumers) / float(like.answers.max(1)));
    let cpu = Some(arguments.broker.load_cpu);
    let readers = (0..arguments.consumers)
        .map(|_| Reading::of_floor(address, cpu, bytes, interval))
        .collect::<Result<Vec<_>, _>>()?;
    measure_readers(arguments, floor, readers, is_last.then_some("live-floor"))
}

fn measure(server: &Server, readers: &[Reading], seconds: u32) -> Result<Sample, Box<dyn Error>> {
    let total = |count: fn(&Reading) -> &Arc<AtomicU64>| -> u64 {
        readers.iter().map(|reader| count(reader).load(Ordering::Relaxed)).sum()
    };
    let (began, cpu) = (Instant::now(), server.cpu()?);
    let (bytes, answers) = (total(|reader| &reader.bytes), total(|reader| &reader.answers));
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    let cpu = server.cpu()?.total - cpu.total;
    let time = began.elapsed();
    let (bytes, answers) = (total(|reader| &reader.bytes) - bytes, total(|reader| &reader.answers) - answers);
    Ok(Sample { bytes, answers, time, cpu, misses: 0.0 })
}

/// One consumer, or one that asks the floor.
struct Reading {
    socket: TcpStream,
    bytes: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), String>>,
}

impl Reading {
    /// Consumes all partitions from their ends on.
    fn start(address: SocketAddr, cpu: Option<usize>, partitions: i32) -> std::io::Result<Reading> {
        let mut offsets: Vec<Option<i64>> = vec![None; usize::try_from(partitions).unwrap_or(0)];
        let mut frame = Vec::new();
        Reading::spawn(address, cpu, move |socket| {
            socket.write_all(&fetch_frame(&offsets, LIVE_BYTES_MIN)).map_err(|error| error.to_string())?;
            read_frame(socket, &mut frame).map_err(|error| error.to_string())?;
            follow(&frame, &mut offsets).map_err(|error| error.to_string())
        })
    }

    /// Consumes all partitions from their beginnings to their ends, again and again.
    fn again(address: SocketAddr, cpu: Option<usize>, partitions: i32) -> std::io::Result<Reading> {
        let mut offsets: Vec<Option<i64>> = vec![Some(0); usize::try_from(partitions).unwrap_or(0)];
        let mut frame = Vec::new();
        Reading::spawn(address, cpu, move |socket| {
            socket.write_all(&fetch_frame(&offsets, 0)).map_err(|error| error.to_string())?;
            read_frame(socket, &mut frame).map_err(|error| error.to_string())?;
            let bytes = follow(&frame, &mut offsets).map_err(|error| error.to_string())?;
            if bytes < REREAD_SHORT_BYTES {
                offsets.fill(Some(0));
            }
            Ok(bytes)
        })
    }

    /// Asks every `interval` for so many bytes, with or without `SPREAD`.
    fn of_floor(address: SocketAddr, cpu: Option<usize>, request: u32, interval: Duration) -> std::io::Result<Reading> {
        let mut frame = Vec::new();
        let mut due = Instant::now();
        Reading::spawn(address, cpu, move |socket| {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += interval;
            socket.write_all(&request.to_be_bytes()).map_err(|error| error.to_string())?;
            read_frame(socket, &mut frame).map_err(|error| error.to_string())?;
            Ok(u64::from(request & !SPREAD))
        })
    }

    /// Repeats `step`, which gives the bytes it got.
    fn spawn(
        address: SocketAddr,
        cpu: Option<usize>,
        mut step: impl FnMut(&mut TcpStream) -> Result<u64, String> + Send + 'static,
    ) -> std::io::Result<Reading> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let own = socket.try_clone()?;
        let (bytes, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = {
            let (bytes, answers, stopping) = (Arc::clone(&bytes), Arc::clone(&answers), Arc::clone(&stopping));
            std::thread::spawn(move || {
                pin(cpu);
                while !stopping.load(Ordering::Relaxed) {
                    match step(&mut socket) {
                        Ok(count) => bytes.fetch_add(count, Ordering::Relaxed),
                        Err(_) if stopping.load(Ordering::Relaxed) => return Ok(()),
                        Err(error) => return Err(error),
                    };
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        Ok(Reading { socket: own, bytes, answers, stopping, thread })
    }

    fn stop(self) -> Result<(), Box<dyn Error>> {
        self.stopping.store(true, Ordering::Relaxed);
        // A server that hung up already ends the thread as well.
        let _ = self.socket.shutdown(Shutdown::Both);
        Ok(self.thread.join().map_err(|_| "a reader panicked")??)
    }
}

/// A fetch of all partitions from where the consumer is; one that does not know yet asks for as little as it can get.
fn fetch_frame(offsets: &[Option<i64>], min_bytes: i32) -> Vec<u8> {
    let partition = |(index, offset): (i32, &Option<i64>)| FetchPartition {
        partition: index,
        fetch_offset: offset.unwrap_or(0),
        partition_max_bytes: i32::MAX,
        ..FetchPartition::default()
    };
    // The first answer is small: all it is for is the high watermark.
    let knows = offsets.iter().all(Option::is_some);
    let request = FetchRequest {
        max_wait_ms: 500,
        min_bytes: if knows { min_bytes } else { 0 },
        max_bytes: if knows { ANSWER_BYTES_MAX } else { 1 },
        topics: vec![FetchTopic {
            topic: TOPIC.into(),
            partitions: (0..).zip(offsets).map(partition).collect(),
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    request_frame(1, Some(CLIENT_ID), FETCH_VERSION, &request).bytes
}

/// Moves the offsets behind what came. Gives the bytes of the batches.
fn follow(frame: &[u8], offsets: &mut [Option<i64>]) -> Result<u64, Box<dyn Error>> {
    let mut body = answer_body(frame, ApiKey::Fetch, FETCH_VERSION)?;
    let response = FetchResponse::decode(&mut body, FETCH_VERSION).map_err(debug)?;
    let mut bytes = 0;
    for partition in response.responses.iter().flat_map(|topic| &topic.partitions) {
        if partition.error_code != 0 {
            return Err(
                format!("fetch of partition {}: error {}", partition.partition_index, partition.error_code).into()
            );
        }
        let offset = &mut offsets[usize::try_from(partition.partition_index)?];
        if offset.is_none() {
            *offset = Some(partition.high_watermark);
            continue;
        }
        let Records::Bytes(records) = partition.records else { continue };
        bytes += u64::try_from(records.len())?;
        *offset = next_offset(records)?.or(*offset);
    }
    Ok(bytes)
}

/// Serves the floor until killed: a request is a number of bytes, an answer a frame of that many.
pub(crate) fn run_floor(arguments: &FloorArguments) -> Result<(), Box<dyn Error>> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(arguments.cpu))
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(Duration::from_millis(PREEMPT_MS))
        .make()?;
    executor.run(async {
        let listener = TcpListener::bind(arguments.listen)?;
        let buffer = Rc::new(vec![0x5a; REREAD_BYTES]);
        let next = Rc::new(Cell::new(0));
        let mut out = std::io::stdout();
        writeln!(out, "ready {}", arguments.listen)?;
        out.flush()?;
        loop {
            let socket = listener.accept().await?;
            socket.set_nodelay(true)?;
            let (buffer, next) = (Rc::clone(&buffer), Rc::clone(&next));
            glommio::spawn_local(async move {
                // A reader that stops hangs up within an answer.
                match answer_all(socket, &buffer, &next).await {
                    Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                        eprintln!("corelane-bench: floor-send: {error}");
                    }
                    _ => {}
                }
            })
            .detach();
        }
    })
}

async fn answer_all(mut socket: GlommioStream, buffer: &[u8], next: &Cell<usize>) -> std::io::Result<()> {
    loop {
        let mut request = [0; 4];
        let mut filled = 0;
        while filled < request.len() {
            match poll_fn(|context| Pin::new(&mut socket).poll_read(context, &mut request[filled..])).await? {
                0 => return Ok(()),
                count => filled += count,
            }
        }
        let wanted = u32::from_be_bytes(request);
        let bytes = usize::try_from(wanted & !SPREAD).map_err(std::io::Error::other)?;
        if bytes > SEND_BYTES_MAX {
            return Err(std::io::Error::other("too much is asked for"));
        }
        let start = if wanted & SPREAD == 0 { 0 } else { next.get() };
        next.set((start + bytes) % (buffer.len() - SEND_BYTES_MAX));
        let body = &buffer[start..start + bytes];
        let request = (wanted & !SPREAD).to_be_bytes();
        let mut sent = 0;
        while sent < 4 + bytes {
            let pieces = [IoSlice::new(&request[sent.min(4)..]), IoSlice::new(&body[sent.saturating_sub(4)..])];
            sent += poll_fn(|context| Pin::new(&mut socket).poll_write_vectored(context, &pieces)).await?;
        }
    }
}
