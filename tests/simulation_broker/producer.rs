//! Producers: plain ones send a batch once; idempotent ones send it again until it is answered, over lost connections and
//! restarts, and must find it in the log once.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::wire::Records;
use corelane::runtime::Runtime;
use corelane::simulation::Crash;
use corelane::simulation::random::Random;
use corelane::types::{Durability, TopicId};

use crate::calls::init_producer_id;
use crate::connection::{Closed, Connection};
use crate::machine::Process;
use crate::model::{Key, Topic, durability_of};
use crate::world::{Shared, any_topic, pause, resolve};

const REQUEST_TIMED_OUT: i16 = 7;
const UNKNOWN_TOPIC: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;
const OUT_OF_ORDER: i16 = 45;
const STORAGE_ERROR: i16 = 56;
const LOADING: i16 = 14;

const TOPIC_IDS_SINCE: i16 = 13;
/// Tries against a healthy broker after which a producer that gets nowhere has failed.
const TRIES_MAX: u32 = 400;
/// Longest that an answer takes: its level is reached, or its own time is over.
const PATIENCE: Duration = Duration::from_secs(60);

/// A producer, over all lives.
#[derive(Debug)]
pub(crate) struct Producer {
    topic: &'static str,
    idempotent: bool,
    acks: i16,
    version: i16,
    in_flight_max: usize,
    /// Of a hundred connections, so many go to any shard.
    misrouted_percent: u64,
    /// Batches that it sends in a life at most.
    batches_max: u64,
    id: Option<i64>,
    sequences: BTreeMap<Key, i32>,
    /// Requests that were not answered, oldest first.
    pending: VecDeque<Vec<Entry>>,
    /// The last batch acknowledged to each partition, which may be sent again as if its answer had been lost.
    acknowledged: BTreeMap<Key, Entry>,
    /// The broker may rightly have lost what it acknowledged.
    forgiving: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    key: Key,
    batch: u64,
    bytes: Rc<Vec<u8>>,
    /// The store had failed when it was sent.
    too_late: bool,
}

/// Why a producer leaves its connection.
enum Leave {
    /// To connect again.
    Reconnect,
    /// For this life.
    Done,
}

impl Producer {
    pub(crate) fn draw(random: &mut Random) -> Producer {
        let idempotent = random.chance(1, 2);
        let acks = match idempotent {
            true => *random.pick(&[-1, -1, 1]),
            false => *random.pick(&[-1, 1, 1, 0]),
        };
        // By name a batch could end up in the next life of its topic.
        let by_name = random.chance(1, 3);
        let version = if by_name { random.range(3..13) } else { 13 };
        Producer {
            topic: any_topic(random, by_name),
            idempotent,
            acks,
            version: i16::try_from(version).unwrap(),
            in_flight_max: usize::try_from(random.range(1..6)).unwrap(),
            misrouted_percent: *random.pick(&[0, 30, 100]),
            batches_max: *random.pick(&[5, 40, 120]),
            id: None,
            sequences: BTreeMap::new(),
            pending: VecDeque::new(),
            acknowledged: BTreeMap::new(),
            forgiving: false,
        }
    }

    pub(crate) fn on_end(&mut self, crash: Option<Crash>) {
        if crash == Some(Crash::Power) && (self.acks != -1 || durability_of(self.topic) == Durability::Written) {
            self.forgiving = true;
        }
    }

    /// A new identity: what was not answered stays unknown.
    fn start_over(&mut self) {
        self.id = None;
        self.sequences.clear();
        self.pending.clear();
        self.acknowledged.clear();
        self.forgiving = false;
    }

    /// The topic is another now.
    fn forget_other_topics(&mut self, topic: TopicId) {
        self.pending.retain(|entries| entries.iter().all(|entry| entry.key.0 == topic));
        self.acknowledged.retain(|key, _| key.0 == topic);
        self.sequences.retain(|key, _| key.0 == topic);
    }
}

/// A producer where it lives: in the world, since it outlives the process.
struct Held {
    world: Shared,
    index: usize,
}

impl Held {
    fn with<T>(&self, act: impl FnOnce(&mut Producer) -> T) -> T {
        act(&mut self.world.borrow_mut().producers[self.index])
    }
}

/// Runs a producer until it has sent its share or the clients are told to leave.
pub(crate) async fn run(process: Rc<Process>, world: Shared, index: usize) {
    let held = Held { world: Rc::clone(&world), index };
    let mut sent = 0;
    let mut tries = 0;
    let mut probe = world.borrow_mut().random.chance(1, 2);
    while !world.borrow().stopping {
        tries += 1;
        assert!(tries < TRIES_MAX || world.borrow().faulty, "a producer of {} gets nowhere", held.with(|it| it.topic));
        match session(&process, &held, &mut sent, &mut probe).await {
            Some(Leave::Done) => return,
            Some(Leave::Reconnect) => tries = 0,
            None => {}
        }
        pause(&process.runtime, &world).await;
        process.runtime.sleep(Duration::from_micros(200)).await;
    }
}

/// One connection's work. `None`: it could not begin.
async fn session(process: &Process, held: &Held, sent: &mut u64, probe: &mut bool) -> Option<Leave> {
    let world = &held.world;
    let (name, idempotent, version) = held.with(|it| (it.topic, it.idempotent, it.version));
    if !matches!(world.borrow().model.topic(name), Topic::Alive(_)) {
        // Nothing to send to, for as long as nobody creates it.
        let us = world.borrow_mut().random.below(20_000);
        process.runtime.sleep(Duration::from_micros(us)).await;
        return Some(Leave::Reconnect);
    }
    let asking = process.connect_anywhere(&mut world.borrow_mut().random);
    let (topic, leaders) = resolve(process, world, &asking, name).await?;
    held.with(|it| it.forget_other_topics(topic));
    if idempotent && held.with(|it| it.id.is_none()) {
        let asked_version = i16::try_from(world.borrow_mut().random.range(0..6)).unwrap();
        let (error, id) = init_producer_id(&asking, asked_version).await.ok()?;
        if error != 0 {
            assert!(error == LOADING && world.borrow().faulty, "InitProducerId: {error}");
            return None;
        }
        assert!(world.borrow_mut().model.producer_ids.insert(id), "producer id {id} was given out twice");
        held.with(|it| it.id = Some(id));
    }
    drop(asking);

    let (shard, partitions) = route(process, held, &leaders);
    let connection = process.connect(shard);
    let mut flight =
        Flight { connection, sent_at: VecDeque::new(), bases: BTreeMap::new(), in_flight: VecDeque::new() };
    if held.with(|it| !it.idempotent) {
        held.with(|it| it.pending.clear());
    } else if *probe && held.with(|it| it.pending.is_empty()) {
        *probe = false;
        // As if the answer had been lost on its way.
        let again: Vec<Entry> = held.with(|it| it.acknowledged.values().cloned().collect());
        for entry in again {
            held.with(|it| it.pending.push_back(vec![entry]));
        }
    }
    for request in held.with(|it| it.pending.clone()) {
        flight.send(process, held, name, version, request);
    }
    Some(fly(process, held, flight, &partitions, topic, sent).await)
}

/// The shard to connect to, and the partitions to send there.
fn route(process: &Process, held: &Held, leaders: &[(i32, i32)]) -> (usize, Vec<i32>) {
    let misrouted_percent = held.with(|it| it.misrouted_percent);
    let random = &mut held.world.borrow_mut().random;
    let all: Vec<i32> = (0..i32::try_from(leaders.len()).unwrap()).collect();
    if random.chance(misrouted_percent, 100) {
        return (random.index(process.nodes.len()), all);
    }
    let (leader, _) = *random.pick(leaders);
    let led = |partition: &i32| leaders[usize::try_from(*partition).unwrap()].0 == leader;
    (usize::try_from(leader - 1).unwrap(), all.into_iter().filter(led).collect())
}

/// A connection with requests under way.
struct Flight {
    connection: Connection,
    in_flight: VecDeque<Vec<Entry>>,
    sent_at: VecDeque<corelane::types::MonotonicUs>,
    /// The last base offset given on this connection, by partition.
    bases: BTreeMap<Key, i64>,
}

impl Flight {
    fn send(&mut self, process: &Process, held: &Held, name: &str, version: i16, mut entries: Vec<Entry>) {
        for entry in &mut entries {
            entry.too_late = process.has_failed(entry.key);
        }
        let (acks, timeout_ms) = {
            let acks = held.with(|it| it.acks);
            (acks, *held.world.borrow_mut().random.pick(&[30_000, 30_000, 30_000, 3]))
        };
        let by_id = version >= TOPIC_IDS_SINCE;
        let partition_data = entries
            .iter()
            .map(|entry| PartitionProduceData { index: entry.key.1, records: Records::Bytes(&entry.bytes) });
        let topic = TopicProduceData {
            name: Cow::Borrowed(if by_id { "" } else { name }),
            topic_id: if by_id { entries[0].key.0 } else { TopicId::ZERO },
            partition_data: partition_data.collect(),
        };
        let request = ProduceRequest { acks, timeout_ms, topic_data: vec![topic], transactional_id: None };
        if acks == 0 {
            self.connection.send_unanswered(&request, version);
            return;
        }
        self.connection.send(&request, version);
        self.sent_at.push_back(process.runtime.now());
        self.in_flight.push_back(entries);
    }
}

async fn fly(
    process: &Process,
    held: &Held,
    mut flight: Flight,
    partitions: &[i32],
    topic: TopicId,
    sent: &mut u64,
) -> Leave {
    let world = &held.world;
    let (name, version, in_flight_max, batches_max) =
        held.with(|it| (it.topic, it.version, it.in_flight_max, it.batches_max));
    loop {
        let may_send = *sent < batches_max && !world.borrow().stopping;
        let eager = world.borrow_mut().random.chance(2, 3);
        if may_send && flight.in_flight.len() < in_flight_max && (eager || flight.in_flight.is_empty()) {
            let entries = make(process, held, partitions, topic);
            *sent += 1;
            if held.with(|it| it.acks != 0) {
                held.with(|it| it.pending.push_back(entries.clone()));
            }
            flight.send(process, held, name, version, entries);
            pause(&process.runtime, world).await;
            continue;
        }
        if flight.in_flight.is_empty() {
            if !may_send {
                return Leave::Done;
            }
            return Leave::Reconnect;
        }
        if world.borrow_mut().random.chance(1, 20) {
            return Leave::Reconnect; // The answers are lost.
        }
        match flight.connection.receive().await {
            Err(Closed) => {
                assert!(world.borrow().faulty, "a healthy broker closed a producer's connection");
                return Leave::Done;
            }
            Ok(answer) => {
                let response = ProduceResponse::decode(&mut answer.reader(), version).unwrap();
                if let Some(leave) = on_answer(process, held, &mut flight, &response) {
                    return leave;
                }
            }
        }
    }
}

fn make(process: &Process, held: &Held, partitions: &[i32], topic: TopicId) -> Vec<Entry> {
    let now = process.runtime.wall_clock();
    let mut chosen = partitions.to_vec();
    let count = {
        let random = &mut held.world.borrow_mut().random;
        random.shuffle(&mut chosen);
        usize::try_from(random.range(1..3)).unwrap()
    };
    chosen.truncate(count);
    let mut entries = Vec::new();
    for partition in chosen {
        let key = (topic, partition);
        let version = held.with(|it| it.version);
        let producer = held.with(|it| it.id.map(|id| (id, it.sequences.get(&key).copied().unwrap_or(0))));
        let (batch, bytes, count) = held.world.borrow_mut().batch(key, producer, now, version);
        held.with(|it| *it.sequences.entry(key).or_default() += count);
        entries.push(Entry { key, batch, bytes, too_late: false });
    }
    entries
}

/// Takes in the answer to the oldest request. `Some`: the producer leaves its connection.
fn on_answer(process: &Process, held: &Held, flight: &mut Flight, response: &ProduceResponse<'_>) -> Option<Leave> {
    let world = &held.world;
    let entries = flight.in_flight.pop_front().expect("one answer for each request");
    let now = process.runtime.now();
    let took = crate::world::elapsed(flight.sent_at.pop_front().unwrap(), now);
    assert!(took < PATIENCE, "an answer to produce took {took:?}");
    let (name, acks, idempotent) = held.with(|it| (it.topic, it.acks, it.idempotent));
    let [topic] = &response.responses[..] else { panic!("one topic was sent to") };
    assert_eq!(topic.partition_responses.len(), entries.len());
    let mut left = Vec::new();
    let mut leave = None;
    for (entry, row) in entries.iter().zip(&topic.partition_responses) {
        assert_eq!(row.index, entry.key.1);
        let error = row.error_code;
        process
            .runtime
            .note("produced", [entry.batch, u64::from(error.unsigned_abs()), row.base_offset.unsigned_abs()]);
        match error {
            0 => {
                assert!(!entry.too_late, "{name}: batch {} was acknowledged by a store that had failed", entry.batch);
                let level = world.borrow().level(entry.key, acks);
                world.borrow_mut().model.on_acknowledged(entry.batch, row.base_offset, level, now);
                let before = flight.bases.insert(entry.key, row.base_offset);
                assert!(
                    before.is_none_or(|before| before < row.base_offset),
                    "{name}: batch {} got offset {} after {before:?} on one connection",
                    entry.batch,
                    row.base_offset
                );
                held.with(|it| it.acknowledged.insert(entry.key, entry.clone()));
            }
            REQUEST_TIMED_OUT => {
                left.push(entry.clone());
                leave = Some(Leave::Reconnect);
            }
            UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID => {
                // Gone, or this shard does not know of it yet. Later batches may overtake this one.
                held.with(|it| it.forgiving = true);
                left.push(entry.clone());
                leave = Some(Leave::Reconnect);
            }
            OUT_OF_ORDER => {
                let forgiving = held.with(|it| it.forgiving);
                assert!(
                    forgiving,
                    "{name}-{}: batch {} is out of order: {:?}",
                    entry.key.1, entry.batch, row.error_message
                );
                held.with(Producer::start_over);
                return Some(Leave::Reconnect);
            }
            STORAGE_ERROR => {
                assert!(world.borrow().faulty, "{name}: storage error on a healthy disk: {:?}", row.error_message);
                // A full store may take a later batch.
                held.with(|it| it.forgiving = true);
                left.push(entry.clone());
                leave = Some(Leave::Done);
            }
            other => panic!("{name}: produce failed with {other}: {:?}", row.error_message),
        }
    }
    held.with(|it| {
        if leave.is_none() {
            it.pending.pop_front();
        } else if !idempotent {
            it.pending.clear();
        } else {
            // What was acknowledged of the request need not be sent again.
            let front = it.pending.front_mut().expect("it was not answered");
            *front = left;
        }
    });
    leave
}
