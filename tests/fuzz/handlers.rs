//! A whole broker under a storm of requests: sound ones, damaged ones and noise, on several connections at once.
//!
//! Every request must end in an answer that can be read, in a closed connection, or, for a fetch, in a wait no longer
//! than it asked for. Nothing that a peer sends may cost others the broker.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use corelane::api::reply::{Reply, Response};
use corelane::cluster::view::Advertise;
use corelane::limits::{FETCH_SESSIONS_MAX, PARTITIONS_MAX};
use corelane::protocol::api_key::{ApiKey, SUPPORTED};
use corelane::protocol::compression::Codec;
use corelane::protocol::frame::{RequestHeader, ResponseHeader, request_frame};
use corelane::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelane::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelane::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::record_batch::{BatchBuilder, batches};
use corelane::protocol::wire::{Reader, Records};
use corelane::runtime::Runtime;
use corelane::simulation::{SimulatedBuffer, Simulation};
use corelane::types::TimestampMs;

use crate::frames::KINDS;
use crate::fuzz;
use crate::machine::{Machine, STORE_MEMORY_BYTES, assembled};
use crate::memory::Peak;
use crate::random::{Random, mutate};
use crate::requests::Requests;

/// Connections of one storm.
const CONNECTIONS: usize = 6;
/// Requests of one connection of a storm.
const REQUESTS: usize = 50;
/// Bytes of the header that [`Requests`] writes: key, version, correlation id and a client id of four letters.
const HEADER_BYTES: usize = 2 + 2 + 4 + 2 + 4;
/// Longest that a request may take that does not wait by its own wish, in virtual milliseconds: disks are slow in
/// simulation, and a dozen requests may stand in line before it.
const REQUEST_MS_MAX: u64 = 30_000;
/// A fetch that asks for a longer wait is left by its client after so many virtual milliseconds.
const PATIENCE_MS: u64 = 600;

#[test]
fn a_storm_of_requests_leaves_a_broker_that_serves() {
    fuzz("storm", 25, storm);
}

#[test]
fn a_small_request_does_not_take_much_memory() {
    fuzz("amplification", 25, amplification);
}

#[test]
fn topics_asked_for_and_made_in_masses_do_not_pile_up() {
    fuzz("creation", 2, creation);
}

#[test]
fn a_request_for_topics_in_masses_is_bounded() {
    fuzz("mass creation", 1, mass_creation);
}

fn storm(random: &mut Random) {
    let seed = random.next();
    let shards = 1 + u16::try_from(random.below(2)).unwrap();
    let advertise = if random.one_in(2) { Advertise::PerCore } else { Advertise::Single };
    Simulation::new(seed)
        .run(move |runtime| async move {
            let machine = Machine::start(&runtime, shards, advertise).await;
            for topic in 0..3 {
                create(&machine, &format!("lasting-{topic}"), 1 + topic).await;
            }
            let left = Rc::new(Cell::new(CONNECTIONS));
            for connection in 0..CONNECTIONS {
                let mut random = Random::new(seed.wrapping_add(u64::try_from(connection).unwrap()));
                let (machine, left) = (machine.clone(), Rc::clone(&left));
                runtime.spawn(async move {
                    send_anything(&machine, &mut random, connection % usize::from(shards)).await;
                    left.set(left.get() - 1);
                });
            }
            while left.get() > 0 {
                runtime.sleep(Duration::from_millis(10)).await;
            }
            for shard in 0..usize::from(shards) {
                serves(&machine, shard).await;
            }
            assert!(machine.image().partition_count() <= PARTITIONS_MAX);
            for broker in &machine.brokers {
                assert!(broker.shard.store.failure().is_none());
                assert!(broker.sessions.borrow().len() <= FETCH_SESSIONS_MAX);
                let memory_bytes = broker.shard.store.stats().memory_bytes;
                assert!(memory_bytes <= 2 * STORE_MEMORY_BYTES, "{memory_bytes} bytes in the store");
            }
        })
        .finished();
}

/// What one peer does: requests one after the other, over a new connection when the broker closed the last.
async fn send_anything(machine: &Machine, random: &mut Random, shard: usize) {
    let unanswered = Rc::new(Cell::new(0));
    for _ in 0..REQUESTS {
        let frame = any_frame(random, machine);
        let reply = machine.within(apply_ms_max(&frame), machine.handle(shard, &frame)).await;
        match reply {
            Some(Reply::Now(response)) => check_answer(&frame, &response),
            Some(Reply::Later(answer)) => {
                unanswered.set(unanswered.get() + 1);
                let (machine, unanswered) = (machine.clone(), Rc::clone(&unanswered));
                machine.clone().runtime.spawn(async move {
                    let answer = machine.within(REQUEST_MS_MAX, answer).await.expect("an answer that never comes");
                    check_answer(&frame, &answer.expect("nobody shuts down"));
                    unanswered.set(unanswered.get() - 1);
                });
            }
            Some(Reply::Nothing) => assert_eq!(key_of(&frame), Some(ApiKey::Produce)),
            Some(Reply::Close) => {}
            // The client has lost patience with a fetch that waits.
            None => assert!(is_waiting_fetch(&frame), "no answer to {:?}", key_of(&frame)),
        }
    }
    while unanswered.get() > 0 {
        machine.runtime.sleep(Duration::from_millis(10)).await;
    }
}

fn any_frame(random: &mut Random, machine: &Machine) -> Vec<u8> {
    let mut frame = Requests::new(random, machine.image()).any();
    match random.below(14) {
        0 => {
            let bytes = random.below(200);
            frame = random.bytes(bytes);
        }
        1 => {
            // A sound header before noise.
            frame.truncate(HEADER_BYTES);
            let bytes = random.below(200);
            frame.extend(random.bytes(bytes));
        }
        2 => frame.truncate(random.below(frame.len() + 1)),
        3 => {
            // A version that does not exist.
            let version = random.bytes(2);
            frame[2..4].copy_from_slice(&version);
        }
        4 => mutate(random, &mut frame),
        5 | 6 => {
            // Damage behind a sound header.
            let mut body = frame.split_off(frame.len().min(HEADER_BYTES));
            mutate(random, &mut body);
            frame.extend(body);
        }
        _ => {}
    }
    frame
}

fn key_of(frame: &[u8]) -> Option<ApiKey> {
    let header = RequestHeader::decode(&mut Reader::new(frame)).ok()?;
    ApiKey::from_code(header.api_key)
}

/// The fetch in a frame, if it is one.
fn fetch_of(frame: &[u8]) -> Option<FetchRequest<'_>> {
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader).ok()?;
    let is_fetch = ApiKey::from_code(header.api_key) == Some(ApiKey::Fetch);
    is_fetch.then(|| FetchRequest::decode(&mut reader, header.api_version).ok()).flatten()
}

fn is_waiting_fetch(frame: &[u8]) -> bool {
    fetch_of(frame).is_some_and(|fetch| u64::try_from(fetch.max_wait_ms).is_ok_and(|wait| wait > PATIENCE_MS))
}

/// How long a request may take until it is applied: a fetch as long as it asks to wait.
fn apply_ms_max(frame: &[u8]) -> u64 {
    if is_waiting_fetch(frame) { PATIENCE_MS } else { REQUEST_MS_MAX }
}

/// An answer is to the request that was asked, whole, and can be read.
fn check_answer(request: &[u8], response: &Response<SimulatedBuffer>) {
    let frame = assembled(response);
    let header = RequestHeader::decode(&mut Reader::new(request)).expect("what is answered has a header");
    let key = ApiKey::from_code(header.api_key).expect("what is answered is known");
    let version = if key.accepts(header.api_version) { header.api_version } else { 0 };
    let mut reader = Reader::new(&frame);
    let answered = ResponseHeader::decode(&mut reader, key, version).expect("an answer has a header");
    assert_eq!(answered.correlation_id, header.correlation_id);
    let is_response = |name: &str| name.ends_with("Response");
    let kind = KINDS.iter().find(|kind| kind.key == key && is_response(kind.name)).expect("every API has a response");
    assert_eq!((kind.decode)(reader.rest(), version), Ok(0), "{} version {version}", kind.name);
}

/// Frames of thousands of rows, about a topic of many partitions among others.
fn amplification(random: &mut Random) {
    /// Memory that one such request may take beside what it takes by its size.
    const BYTES_BESIDE: usize = 4 * 1024 * 1024;
    /// Memory per byte of the request: decoded, resolved, answered and encoded.
    const BYTES_PER_FRAME_BYTE: usize = 60;
    let seed = random.next();
    let mut random = Random::new(seed);
    Simulation::new(seed)
        .run(move |runtime| async move {
            let machine = Machine::start(&runtime, 2, Advertise::PerCore).await;
            create(&machine, "lasting-0", 1000).await;
            create(&machine, "lasting-1", 2).await;
            for _ in 0..3 {
                serves(&machine, 0).await;
            }
            for api in SUPPORTED {
                let image = machine.image();
                let frame = Requests::of_many_rows(&mut random, image).of(api.key, api.max);
                let peak = Peak::begin();
                let reply = machine.within(apply_ms_max(&frame), machine.handle(1, &frame)).await;
                match reply {
                    Some(Reply::Now(response)) => check_answer(&frame, &response),
                    Some(Reply::Later(answer)) => check_answer(&frame, &answer.await.expect("nobody shuts down")),
                    Some(Reply::Nothing | Reply::Close) => {}
                    None => assert!(is_waiting_fetch(&frame)),
                }
                let held = peak.bytes();
                let bound = BYTES_BESIDE + frame.len() * BYTES_PER_FRAME_BYTE;
                assert!(held <= bound, "{:?}: {held} bytes for a frame of {}", api.key, frame.len());
            }
        })
        .finished();
}

/// One request for topics in masses, each of which is answered with all its configurations: 227 MB for 600 KB, once.
fn mass_creation(random: &mut Random) {
    const TOPICS: usize = 40_000;
    const BYTES_MAX: usize = 96 * 1024 * 1024;
    let seed = random.next();
    Simulation::new(seed)
        .run(move |runtime| async move {
            let machine = Machine::start(&runtime, 1, Advertise::PerCore).await;
            let topics = (0..TOPICS).map(|topic| CreatableTopic {
                name: format!("t{topic}").into(),
                num_partitions: 1,
                replication_factor: 1,
                ..CreatableTopic::default()
            });
            let request = CreateTopicsRequest { topics: topics.collect(), validate_only: true, timeout_ms: 30_000 };
            let frame = request_frame(1, None, 7, &request).bytes;
            drop(request);
            let peak = Peak::begin();
            machine.ask(0, &frame[4..]).await;
            let held = peak.bytes();
            assert!(held <= BYTES_MAX, "{held} bytes held for a request of {} bytes", frame.len());
        })
        .finished();
}

/// Requests that make topics by asking about them: the answers do not wait, so nothing slows the one who asks. Each
/// request once left its names behind until the controller came to them, without a bound: 33 MB after these.
fn creation(random: &mut Random) {
    const REQUESTS: usize = 6000;
    const NAMES: usize = 20;
    const BYTES_MAX: usize = 12 * 1024 * 1024;
    let seed = random.next();
    Simulation::new(seed)
        .run(move |runtime| async move {
            let machine = Machine::start(&runtime, 1, Advertise::PerCore).await;
            let peak = Peak::begin();
            for request in 0..REQUESTS {
                let topics = (0..NAMES).map(|name| MetadataRequestTopic {
                    name: Some(format!("asked-for-{request}-{name}-{}", "x".repeat(200)).into()),
                    ..MetadataRequestTopic::default()
                });
                let request = MetadataRequest { topics: Some(topics.collect()), ..MetadataRequest::default() };
                machine.ask(0, &request_frame(1, None, 9, &request).bytes[4..]).await;
            }
            let held = peak.bytes();
            assert!(held <= BYTES_MAX, "{held} bytes held by {REQUESTS} requests");
            serves(&machine, 0).await;
        })
        .finished();
}

/// Makes a topic.
async fn create(machine: &Machine, name: &str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    let answer = machine.ask(0, &request_frame(1, None, 7, &request).bytes[4..]).await;
    // A flexible header: the correlation id and no tags.
    let response = CreateTopicsResponse::decode(&mut Reader::new(&answer[5..]), 7).unwrap();
    let code = response.topics[0].error_code;
    assert!(code == 0 || code == 36, "{name}: {:?}", response.topics[0]);
}

/// A topic can be made, a batch be produced to it at the highest level, and read back.
async fn serves(machine: &Machine, shard: usize) {
    create(machine, "after-the-storm", 2).await;
    let mut builder = BatchBuilder::new(Codec::None);
    builder.append(TimestampMs::new(1_700_000_000_000), None, Some(b"still here"), &[]);
    let batch = builder.build();
    let topic = |records| TopicProduceData {
        name: "after-the-storm".into(),
        partition_data: vec![PartitionProduceData { index: 1, records }],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic(Records::Bytes(&batch))],
        ..ProduceRequest::default()
    };
    let answer = machine.ask(shard, &request_frame(1, None, 12, &request).bytes[4..]).await;
    let response = ProduceResponse::decode(&mut Reader::new(&answer[5..]), 12).unwrap();
    let produced = &response.responses[0].partition_responses[0];
    assert_eq!(produced.error_code, 0, "{produced:?}");
    let partition = FetchPartition {
        partition: 1,
        fetch_offset: produced.base_offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topics =
        vec![FetchTopic { topic: "after-the-storm".into(), partitions: vec![partition], ..FetchTopic::default() }];
    let request = FetchRequest { max_wait_ms: 100, min_bytes: 1, topics, ..FetchRequest::default() };
    let answer = machine.ask(shard, &request_frame(1, None, 12, &request).bytes[4..]).await;
    let response = FetchResponse::decode(&mut Reader::new(&answer[5..]), 12).unwrap();
    let Records::Bytes(records) = response.responses[0].partitions[0].records else { panic!("{response:?}") };
    let found = batches(records).next().expect("a batch").expect("a whole batch");
    assert_eq!(found.header.base_offset.value(), produced.base_offset);
    assert_eq!(found.records(), &batch[61..]);
}
