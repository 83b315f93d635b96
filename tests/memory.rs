//! `--memory` bounds the real process: consumers that fetch much of old data at once, read slowly, not at all, or hang up
//! make it no larger, cost a consumer of new data nothing, and what they had goes back to the system. Nor do peers that
//! send half a request.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::broker::{Broker, Settings};
use common::client::{PATIENCE, create_topic};
use corelane::protocol::compression::Codec;
use corelane::protocol::frame::{ResponseHeader, request_frame};
use corelane::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::record_batch::BatchBuilder;
use corelane::protocol::wire::{Message, Reader, Records};
use corelane::types::TimestampMs;

const MIB: u64 = 1024 * 1024;
/// `--memory` of these tests, in bytes.
const MEMORY_BYTES: u64 = 64 * MIB;
/// What the process may have beside it, in bytes: code, rings with their registered memory, blocks kept ready and freed.
const BESIDE_BYTES: u64 = 96 * MIB;
/// Old data, in bytes: several times the memory.
const OLD_BYTES: u64 = 384 * MIB;
const VERSION: i16 = 9;

#[test]
fn fetches_of_old_data_are_bounded_by_memory_and_give_it_back() {
    let broker = Broker::start(&Settings { memory: Some("64MiB"), ..Settings::default() });
    if !broker.is_corelane() {
        eprintln!("the bound is Corelane's own");
        return;
    }
    let address = broker.bootstrap();
    create_topic(&address, "old", 4, &[]);
    create_topic(&address, "new", 1, &[]);
    let last = fill(&address);
    let filled = resident_bytes(&broker);
    eprintln!("{} MiB resident once {} MiB are there", filled / MIB, OLD_BYTES / MIB);

    // Each of them asks for 32 MiB and takes nothing, until all have asked; some hang up at once.
    let mut unread: Vec<Option<TcpStream>> = Vec::new();
    let mut peak = 0;
    for index in 0..60 {
        let socket = connect(&address);
        ask(&socket, &fetch_old(last * i64::from(index) / 60));
        unread.push(if index % 3 == 0 { None } else { Some(socket) });
        peak = peak.max(resident_bytes(&broker));
    }
    // A consumer of new data does not wait for any of them.
    let bystander = connect(&address);
    for _ in 0..20 {
        let offset = produce(&bystander, "new", 0, &batch(100));
        ask(&bystander, &fetch("new", &[(0, offset)], 1 << 20));
        assert_eq!(answered_records(&receive(&bystander)), batch(100).len());
        peak = peak.max(resident_bytes(&broker));
    }
    // Those who take their answers all get one, whoever stands before them.
    for index in 0..20 {
        let socket = connect(&address);
        ask(&socket, &fetch_old(last * i64::from(index) / 20));
        assert!(answered_records(&receive(&socket)) > 100_000);
        peak = peak.max(resident_bytes(&broker));
    }
    eprintln!("{} MiB at most", peak / MIB);
    assert!(peak <= MEMORY_BYTES + BESIDE_BYTES, "{} MiB resident of --memory 64MiB", peak / MIB);

    drop(unread);
    let started = Instant::now();
    while resident_bytes(&broker) > filled.max(MEMORY_BYTES) + 32 * MIB || broker.metric("corelane_connections") > 1 {
        assert!(started.elapsed() < PATIENCE, "{} MiB are not given back", resident_bytes(&broker) / MIB);
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{} MiB after they hung up", resident_bytes(&broker) / MIB);
    let told = broker.metric("corelane_memory_bytes");
    assert!(told <= MEMORY_BYTES, "the metric tells {} MiB", told / MIB);
}

/// What answers held was told twice, and what no cache kept not at all.
#[test]
fn the_metric_tells_what_was_allocated() {
    let broker = Broker::start(&Settings { memory: Some("512MiB"), ..Settings::default() });
    if !broker.is_corelane() {
        return;
    }
    let address = broker.bootstrap();
    create_topic(&address, "old", 4, &[]);
    let last = fill(&address);
    // What a process has once and keeps: code, blocks ready and freed, its allocator's first pages.
    let socket = connect(&address);
    for index in 0..8 {
        ask(&socket, &fetch_old(last * index / 16));
        assert!(answered_records(&receive(&socket)) > 100_000);
    }
    let (told, resident) = settled(&broker);
    let unread: Vec<TcpStream> = (0..7)
        .map(|index| {
            let socket = connect(&address);
            ask(&socket, &fetch_old(last * index / 16));
            socket
        })
        .collect();
    let started = Instant::now();
    while broker.metric("corelane_memory_bytes") < told + 40 * MIB {
        assert!(started.elapsed() < PATIENCE, "answers of 16 MiB that nobody takes hold nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (told_then, resident_then) = settled(&broker);
    let (told_more, more) = (told_then.abs_diff(told), resident_then.abs_diff(resident));
    eprintln!("{} MiB told, {} more; {} more resident", told_then / MIB, told_more / MIB, more / MIB);
    assert!(told_more.abs_diff(more) <= told_then / 10, "{told_more} bytes more told, {more} more resident");
    drop(unread);
}

/// The metric and the resident bytes, once two looks a second and more apart agree.
fn settled(broker: &Broker) -> (u64, u64) {
    let look = || (broker.metric("corelane_memory_bytes"), resident_bytes(broker));
    let started = Instant::now();
    let mut before = look();
    loop {
        std::thread::sleep(Duration::from_millis(1200));
        let now = look();
        if now.0.abs_diff(before.0) < MIB && now.1.abs_diff(before.1) < MIB {
            return now;
        }
        assert!(started.elapsed() < PATIENCE, "memory moves on: {before:?}, {now:?}");
        before = now;
    }
}

/// A hundred peers that sent 1 of 20 MiB, fell silent and came again when they were let go stopped everyone for as long as they
/// liked.
#[test]
fn peers_that_send_half_a_request_for_ever_stop_nobody() {
    let broker = Broker::start(&Settings { memory: Some("64MiB"), ..Settings::default() });
    if !broker.is_corelane() {
        return;
    }
    let address = broker.bootstrap();
    create_topic(&address, "topic", 1, &[]);
    let large = batch(700_000);
    let known = connect(&address);
    produce(&known, "topic", 0, &large);
    let is_over = AtomicBool::new(false);
    let waiting = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Ends them also when something fails.
        let _over = SetOnDrop(&is_over);
        for _ in 0..100 {
            scope.spawn(|| half_send(&address, &is_over, &waiting));
        }
        let started = Instant::now();
        while waiting.load(Ordering::SeqCst) < 100 {
            assert!(started.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
        let small = batch(100);
        for _ in 0..30 {
            let new = connect(&address);
            let offset = produce(&new, "topic", 0, &small);
            ask(&new, &fetch("topic", &[(0, offset)], 1 << 20));
            assert_eq!(answered_records(&receive(&new)), small.len());
            produce(&new, "topic", 0, &large);
            produce(&known, "topic", 0, &large);
        }
    });
}

/// Sends 1 of 20 MiB, or what the broker and the kernel take of it, waits until it is let go, and comes again.
fn half_send(address: &str, is_over: &AtomicBool, waiting: &AtomicUsize) {
    while !is_over.load(Ordering::SeqCst) {
        let mut socket = connect(address);
        socket.set_nonblocking(true).unwrap();
        let _ = socket.write_all(&(20i32 << 20).to_be_bytes());
        let _ = socket.write_all(&vec![0; 1 << 20]);
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        waiting.fetch_add(1, Ordering::SeqCst);
        while !is_over.load(Ordering::SeqCst) {
            match socket.read(&mut [0; 1]) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                _ => break,
            }
        }
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Answers behind one that waited for memory held all of that memory, and no connection was let go, since none was in the
/// way of anything that could be sent: reads of old data stopped until a restart.
#[test]
fn peers_that_ask_again_before_they_are_answered_stop_nobody() {
    let broker = Broker::start(&Settings { memory: Some("64MiB"), ..Settings::default() });
    if !broker.is_corelane() {
        return;
    }
    let address = broker.bootstrap();
    create_topic(&address, "old", 4, &[]);
    create_topic(&address, "empty", 1, &[]);
    let last = fill(&address);
    let parked = connect(&address);
    let topics = fetch_topics("empty", &[(0, 0)], 1 << 20);
    let for_weeks = frame(&FetchRequest { max_wait_ms: i32::MAX, min_bytes: 1, topics, ..FetchRequest::default() });
    ask(&parked, &[for_weeks, fetch_old(0).repeat(20)].concat());
    for round in 0..3 {
        let unread: Vec<TcpStream> = (0..20)
            .map(|index| {
                let socket = connect(&address);
                let asked = (0..20).flat_map(|fetch| fetch_old(last * (index + fetch) / 40));
                ask(&socket, &asked.collect::<Vec<u8>>());
                socket
            })
            .collect();
        for index in 0..8 {
            let socket = connect(&address);
            ask(&socket, &fetch_old(last * index / 8));
            assert!(answered_records(&receive(&socket)) > 100_000, "round {round}");
        }
        // They hang up, and others find what they left.
        drop(unread);
    }
}

/// A batch larger than all memory for answers is served all the same, to one after the other.
#[test]
fn a_batch_above_all_memory_for_answers_reaches_everyone() {
    let broker = Broker::start(&Settings {
        memory: Some("32MiB"),
        set: vec!["message.max.bytes=20971520"],
        ..Settings::default()
    });
    if !broker.is_corelane() {
        return;
    }
    let address = broker.bootstrap();
    create_topic(&address, "large", 1, &[]);
    let socket = connect(&address);
    let large = batch(16 << 20);
    // The last of them stays in memory, the first does not.
    for offset in 0..4 {
        assert_eq!(produce(&socket, "large", 0, &large), offset);
    }
    std::thread::scope(|scope| {
        for index in 0..6 {
            let (address, large) = (&address, &large);
            scope.spawn(move || {
                let socket = connect(address);
                ask(&socket, &fetch("large", &[(0, index % 4)], 1 << 20));
                assert_eq!(answered_records(&receive(&socket)), large.len());
            });
        }
    });
}

/// Fills `old` and returns the offset behind its last batch in each partition.
fn fill(address: &str) -> i64 {
    let socket = connect(address);
    let old = batch(100_000);
    let rounds = OLD_BYTES / 4 / u64::try_from(old.len()).unwrap();
    for round in 0..rounds {
        for partition in 0..4 {
            assert_eq!(produce(&socket, "old", partition, &old), i64::try_from(round).unwrap());
        }
    }
    i64::try_from(rounds).unwrap()
}

/// One record of so many bytes that do not compress.
fn batch(bytes: usize) -> Vec<u8> {
    let mut random = common::Random::new(7);
    let value: Vec<u8> = (0..bytes).map(|_| random.next().to_le_bytes()[0]).collect();
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(TimestampMs::new(1), None, Some(&value), &[]);
    builder.build()
}

fn fetch_old(offset: i64) -> Vec<u8> {
    fetch("old", &[(0, offset), (1, offset), (2, offset), (3, offset)], 8 << 20)
}

fn fetch(topic: &str, partitions: &[(i32, i64)], partition_max_bytes: i32) -> Vec<u8> {
    let topics = fetch_topics(topic, partitions, partition_max_bytes);
    frame(&FetchRequest { max_wait_ms: 10_000, min_bytes: 1, topics, ..FetchRequest::default() })
}

fn fetch_topics<'a>(topic: &'a str, partitions: &[(i32, i64)], partition_max_bytes: i32) -> Vec<FetchTopic<'a>> {
    let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes,
        ..FetchPartition::default()
    };
    let partitions = partitions.iter().map(partition).collect();
    vec![FetchTopic { topic: topic.into(), partitions, ..FetchTopic::default() }]
}

fn frame<M: Message>(message: &M) -> Vec<u8> {
    request_frame(1, Some("memory"), VERSION, message).bytes
}

fn produce(socket: &TcpStream, topic: &str, index: i32, batch: &[u8]) -> i64 {
    let partition_data = vec![PartitionProduceData { index, records: Records::Bytes(batch) }];
    let topic_data = vec![TopicProduceData { name: topic.into(), partition_data, ..TopicProduceData::default() }];
    ask(socket, &frame(&ProduceRequest { acks: 1, timeout_ms: 30_000, topic_data, transactional_id: None }));
    let answer = receive(socket);
    let mut reader = Reader::new(&answer);
    ResponseHeader::decode(&mut reader, ProduceResponse::KEY, VERSION).unwrap();
    let response = ProduceResponse::decode(&mut reader, VERSION).unwrap();
    let row = &response.responses[0].partition_responses[0];
    assert_eq!(row.error_code, 0, "{:?}", row.error_message);
    row.base_offset
}

/// Bytes of records in the answer to a fetch without errors.
fn answered_records(answer: &[u8]) -> usize {
    let mut reader = Reader::new(answer);
    ResponseHeader::decode(&mut reader, FetchResponse::KEY, VERSION).unwrap();
    let response = FetchResponse::decode(&mut reader, VERSION).unwrap();
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let bytes = partitions.map(|partition| {
        assert_eq!(partition.error_code, 0);
        match &partition.records {
            Records::Bytes(bytes) => bytes.len(),
            Records::Null | Records::Hole(_) => 0,
        }
    });
    bytes.sum()
}

fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(mut socket: &TcpStream, frame: &[u8]) {
    socket.write_all(frame).unwrap();
}

fn receive(mut socket: &TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    socket.read_exact(&mut answer).unwrap();
    answer
}

/// Memory of the process that is in RAM and its own, in bytes.
fn resident_bytes(broker: &Broker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
