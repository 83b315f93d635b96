//! What outlives the process: the model, and the clients with what they have not had answered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::compression::Codec;
use corelane::protocol::record_batch::BatchBuilder;
use corelane::runtime::Runtime;
use corelane::simulation::random::Random;
use corelane::simulation::{Crash, SimulatedRuntime};
use corelane::types::{Durability, MonotonicUs, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId};

use crate::calls::{TopicRow, metadata};
use crate::connection::Connection;
use crate::consumer::Consumer;
use crate::machine::Process;
use crate::model::{ALTERED, Key, Model, Topic, codec_of, durability_of};
use crate::producer::Producer;

pub(crate) const UNKNOWN_TOPIC: i16 = 3;
/// First version of Produce that may carry zstd, the last of the codecs.
const ZSTD_SINCE: i16 = 7;
const _: () = assert!(matches!(Codec::ALL[4], Codec::Zstd));

/// Topics that are made in the first life and stay.
pub(crate) const STABLE: [&str; 4] =
    ["stable-flushed", "stable-written", "stable-flushed-retained", "stable-flushed-zstd"];
/// A value so long that other tasks run while its batch is recompressed. It is of zeroes: the segments here are small.
const LONG_BYTES: usize = 70_000;
/// Topics that come and go.
pub(crate) const CHURNED: [&str; 3] = ["churn-flushed-a", "churn-written-b", "churn-flushed-c"];
/// Topics that Metadata makes when they are asked for.
pub(crate) const AUTOMATIC: [&str; 2] = ["automatic-x", "automatic-y"];

/// What retained topics are made with.
pub(crate) const RETENTION_BYTES: &str = "20000";

/// A world that all tasks of a run share.
pub(crate) type Shared = Rc<RefCell<World>>;

/// See the module.
pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) random: Random,
    pub(crate) producers: Vec<Producer>,
    pub(crate) consumers: Vec<Consumer>,
    /// Clients finish what they are at and leave.
    pub(crate) stopping: bool,
    /// The disk may fail in this life.
    pub(crate) faulty: bool,
    /// The device has no room.
    pub(crate) is_short_of_space: bool,
    /// Clients at work.
    pub(crate) busy: u32,
    /// Longest pause of a client between two acts, in microseconds.
    pub(crate) pause_us_max: u64,
    /// Whether all batches are of one size.
    equal_batches: bool,
    compress: bool,
    next_batch: u64,
}

impl World {
    pub(crate) fn new(mut random: Random) -> World {
        let producers = (0..random.range(2..5)).map(|_| Producer::draw(&mut random)).collect();
        let consumers = (0..random.range(1..4)).map(|_| Consumer::draw(&mut random)).collect();
        World {
            model: Model::default(),
            producers,
            consumers,
            stopping: false,
            faulty: false,
            is_short_of_space: false,
            busy: 0,
            pause_us_max: 1,
            equal_batches: random.chance(1, 3),
            compress: random.chance(1, 2),
            next_batch: 1,
            random,
        }
    }

    /// A life ended.
    pub(crate) fn on_end(&mut self, crash: Option<Crash>) {
        self.model.on_end(crash);
        for producer in &mut self.producers {
            producer.on_end(crash);
        }
        self.busy = 0;
    }

    /// Makes a batch for a partition, known to the model before it is sent by this version of Produce.
    pub(crate) fn batch(
        &mut self,
        key: Key,
        producer: Option<(i64, i32)>,
        now: TimestampMs,
        version: i16,
    ) -> (u64, Rc<Vec<u8>>, i32) {
        let batch = self.next_batch;
        self.next_batch += 1;
        let random = &mut self.random;
        let codecs = if version < ZSTD_SINCE { &Codec::ALL[..4] } else { &Codec::ALL[..] };
        let codec = if self.compress { *random.pick(codecs) } else { Codec::None };
        let recompressed = self.model.partitions.get(&key).is_some_and(|partition| partition.codec.is_some());
        let (count, size) = match self.equal_batches {
            true => (2, 200),
            false if recompressed && random.chance(1, 4) => (1, LONG_BYTES),
            false => (random.range(1..6), *random.pick(&[0, 30, 300, 1500])),
        };
        let mut builder = BatchBuilder::new(codec);
        if let Some((id, sequence)) = producer {
            builder.producer(ProducerId::new(id), ProducerEpoch::new(0), Sequence::new(sequence));
        }
        let mut timestamps = Vec::new();
        for record in 0..count {
            let ago = i64::try_from(random.below(600_000)).unwrap();
            timestamps.push(now.value() - ago);
            let mut value = format!("batch {batch} record {record} ").into_bytes();
            let at = value.len();
            value.resize(at + size, 0);
            if size < LONG_BYTES {
                random.bytes(&mut value[at..]);
            }
            let key = random.chance(1, 2).then_some(&b"key"[..]);
            builder.append(TimestampMs::new(now.value() - ago), key, Some(&value), &[]);
        }
        let bytes = Rc::new(builder.build());
        self.model.on_send(batch, key, Rc::clone(&bytes), timestamps);
        (batch, bytes, builder.record_count())
    }

    /// The level at which an answer to `acks` is given.
    pub(crate) fn level(&self, key: Key, acks: i16) -> Durability {
        match self.model.partitions.get(&key) {
            Some(partition) if acks == -1 => partition.durability,
            _ => Durability::Written,
        }
    }
}

/// Pauses a client: mostly shortly, sometimes not at all.
pub(crate) async fn pause(runtime: &SimulatedRuntime, world: &Shared) {
    let us = {
        let mut world = world.borrow_mut();
        let max = world.pause_us_max;
        if world.random.chance(1, 4) { 0 } else { world.random.below(max + 1) }
    };
    runtime.sleep(Duration::from_micros(us)).await;
}

/// Looks a topic up, and holds the answer against the model. `None`: there is none, or the connection closed.
pub(crate) async fn resolve(
    process: &Process,
    world: &Shared,
    connection: &Connection,
    name: &str,
) -> Option<(TopicId, Vec<(i32, i32)>)> {
    let before = world.borrow().model.topic(name);
    let version = i16::try_from(world.borrow_mut().random.range(10..14)).unwrap();
    let rows = metadata(connection, Some(&[name]), false, version).await.ok()?;
    let [row] = &rows[..] else { panic!("{name}: one topic was asked for") };
    let mut world = world.borrow_mut();
    let model = &mut world.model;
    if before == model.topic(name) {
        match before {
            Topic::Absent => assert_eq!(row.error, UNKNOWN_TOPIC, "{name} is there: {row:?}"),
            Topic::Alive(id) => assert_eq!((row.error, row.id), (0, id), "{name} is another"),
            Topic::MayAppear | Topic::MayVanish(_) => {}
        }
    }
    if row.error != 0 || model.topic(name) != Topic::Alive(row.id) {
        return None;
    }
    on_epochs(model, row);
    process.runtime.note("resolved", [1, 0, 0]);
    Some((row.id, row.partitions.clone()))
}

/// Within a life an epoch stays as it is.
pub(crate) fn on_epochs(model: &mut Model, row: &TopicRow) {
    for (index, (_, epoch)) in (0..).zip(&row.partitions) {
        let partition = model.partitions.get_mut(&(row.id, index)).expect("a living topic has its partitions");
        if partition.epoch == -1 {
            partition.epoch = *epoch;
        }
        assert_eq!(partition.epoch, *epoch, "{}-{index}: the epoch moved within a life", row.name);
    }
}

/// A name of a topic that clients of this kind use.
pub(crate) fn any_topic(random: &mut Random, only_stable: bool) -> &'static str {
    match random.below(4) {
        0 if !only_stable => random.pick::<&'static str>(&CHURNED[..]),
        1 if !only_stable => random.pick::<&'static str>(&AUTOMATIC[..]),
        _ => random.pick::<&'static str>(&STABLE[..]),
    }
}

/// What a topic of this name is created with.
pub(crate) fn configs_of(name: &str) -> BTreeMap<&'static str, &'static str> {
    let mut configs = BTreeMap::new();
    if durability_of(name) == Durability::Written {
        configs.insert("flush.messages", "1000");
    }
    if let Some(codec) = codec_of(name) {
        configs.insert("compression.type", codec.name());
    }
    if crate::model::is_retained(name) {
        configs.insert(ALTERED, RETENTION_BYTES);
    }
    configs
}

/// Time that passed, for bounds on answers.
pub(crate) fn elapsed(from: MonotonicUs, to: MonotonicUs) -> Duration {
    Duration::from_micros(to.since_us(from))
}
