//! `--memory` bounds the real process: consumers that fetch much of old data at once, read slowly, not at all, or hang up
//! make it no larger, cost a consumer of new data nothing, and what they had goes back to the system.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
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
    let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes,
        ..FetchPartition::default()
    };
    let partitions = partitions.iter().map(partition).collect();
    let topics = vec![FetchTopic { topic: topic.into(), partitions, ..FetchTopic::default() }];
    frame(&FetchRequest { max_wait_ms: 10_000, min_bytes: 1, topics, ..FetchRequest::default() })
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
