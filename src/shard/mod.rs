//! One core and all that it owns: its store, its partitions, who waits for them, and its end of the lanes.
//!
//! A shard owns and connects; the rules of a partition are in `partition`, the bytes in `store`. It answers questions about
//! its own partitions only; which shard to ask is the business of `broker`.
//!
//! Invariants: touched by one core only; appending is one step without an await, from the sequence check to the copy into
//! the log; a high watermark never passes what its topic's durability has reached.

pub mod answers;
mod compaction;
pub mod coordination;
pub mod levels;
pub mod mesh;
pub mod message;
pub mod partition;
pub mod purgatory;
pub mod recovery;
pub mod retention;

mod delete_records;
mod describe;
mod fetch;
mod measure;
mod offsets;
mod produce;
mod recompression;
mod removals;
mod unfinished;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::image::{MetadataImage, Topic};
use crate::cluster::topic_name::CONSUMER_OFFSETS;
use crate::compaction::BatchFacts;
use crate::config::BrokerConfig;
use crate::config::topic::{Dynamic, TopicConfig};
use crate::limits::{FETCH_WAITING_DIVISOR, TICK_MS};
use crate::log_limiter::LogLimiter;
use crate::metrics::ShardMetrics;
use crate::protocol::compression::Scratch;
use crate::protocol::record_batch::BatchHeader;
use crate::runtime::Runtime;
use crate::runtime::block::Slice;
use crate::store::{Owner, StorageError, Store};
use crate::types::{
    Durability, LeaderEpoch, LogId, LogPosition, MonotonicUs, NodeId, Offset, PartitionIndex, ShardId, StableMap,
    TopicId,
};

use self::answers::AnswerMemory;
use self::coordination::Coordination;
use self::levels::{Levels, WaitError};
use self::measure::Measured;
use self::message::Published;
use self::partition::Partition;
use self::purgatory::Purgatory;
use self::recompression::Recompressors;
use self::recovery::Recovered;
use self::removals::Deletions;
use self::unfinished::Unfinished;

pub use self::produce::Applied;

/// A slice of this shard's log.
pub type RecordSlice<R> = Slice<<R as Runtime>::Buffer>;

/// What is due when a position of the log reaches its level.
#[derive(Debug)]
pub struct Mark {
    partition: Rc<Partition>,
    log_end: Offset,
    bytes: u32,
}

/// One core's part of the broker.
pub struct Shard<R: Runtime> {
    /// Which shard this is.
    pub id: ShardId,
    /// The core's executor, clock and disk.
    pub runtime: R,
    /// The core's log.
    pub store: Store<R>,
    /// The broker's settings.
    pub config: Arc<BrokerConfig>,
    /// This shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// Memory that unsent answers hold.
    pub answers: Rc<AnswerMemory>,
    partitions: RefCell<StableMap<(TopicId, i32), Rc<Partition>>>,
    by_log: RefCell<StableMap<LogId, Rc<Partition>>>,
    image: RefCell<Arc<MetadataImage>>,
    levels: Levels<Mark>,
    purgatory: Rc<Purgatory>,
    coordination: Coordination,
    unfinished: RefCell<Unfinished>,
    deletions: RefCell<Deletions>,
    /// Idempotent producers of all partitions.
    producers: Cell<usize>,
    scratch: RefCell<Scratch>,
    recompressors: Recompressors,
    read_failures: LogLimiter,
    stopping: Cell<bool>,
    measured: Cell<Measured>,
}

impl<R: Runtime> Shard<R> {
    /// Makes the shard of a store that was just opened, with the partitions that recovery found. Until the first image
    /// comes they have no name and are not served.
    pub fn new(
        id: ShardId,
        runtime: R,
        store: Store<R>,
        recovered: Recovered,
        image: Arc<MetadataImage>,
        config: Arc<BrokerConfig>,
        metrics: Arc<ShardMetrics>,
    ) -> Rc<Shard<R>> {
        // A store gets half of a shard's memory, unsent answers a quarter.
        let store_bytes = usize::try_from(store.memory_bytes_max()).unwrap_or(usize::MAX / 2);
        let levels = Levels::new(store.progress());
        let by_log: StableMap<LogId, Rc<Partition>> =
            recovered.into_partitions().map(|partition| (partition.log, Rc::new(partition))).collect();
        let partitions = by_log
            .values()
            .map(|partition| ((partition.topic, partition.index.value()), Rc::clone(partition)))
            .collect();
        let coordination = Coordination::new(&config);
        let producers = by_log.values().map(|partition: &Rc<Partition>| partition.state().producers.len()).sum();
        let shard = Rc::new(Shard {
            id,
            runtime,
            store,
            config,
            metrics,
            answers: AnswerMemory::new(store_bytes / 2),
            partitions: RefCell::new(partitions),
            by_log: RefCell::new(by_log),
            image: RefCell::new(image),
            levels,
            purgatory: Rc::new(Purgatory::new(2 * store_bytes / FETCH_WAITING_DIVISOR)),
            coordination,
            unfinished: RefCell::default(),
            deletions: RefCell::default(),
            producers: Cell::new(producers),
            scratch: RefCell::new(Scratch::new()),
            recompressors: Recompressors::default(),
            read_failures: LogLimiter::default(),
            stopping: Cell::new(false),
            measured: Cell::default(),
        });
        shard.store.set_owner(Rc::new(StoreOwner { shard: Rc::downgrade(&shard) }));
        shard
    }

    /// Starts what runs beside requests: the tick, retention and the coordinators' tasks.
    pub fn start(self: &Rc<Self>) {
        let shard = Rc::clone(self);
        self.runtime.spawn(async move {
            while !shard.stopping.get() {
                shard.runtime.sleep(Duration::from_millis(TICK_MS)).await;
                shard.on_tick();
            }
        });
        retention::start(self);
        compaction::start(self);
        retention::start_producer_expiry(self);
        self.start_coordination();
    }

    /// Ends the background tasks; the store is closed by the caller.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.stop_coordination();
    }

    /// True after `stop`.
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    fn on_tick(self: &Rc<Self>) {
        let now = self.runtime.now();
        self.levels.on_tick(now);
        self.purgatory.on_tick(now);
        self.measure_on_tick(now);
        self.finish_image_on_tick(now);
        retention::forget_producers_on_tick(self);
    }

    /// The metadata as this shard knows it.
    pub fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    /// A broker key as set while the broker runs.
    pub(super) fn dynamic<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        let (image, node) = (self.image(), NodeId::of_shard(self.id));
        let layers = [image.broker_configs(node), image.cluster_configs()];
        layers.into_iter().find_map(|layer| layer.get(name))?.parse().ok()
    }

    /// A partition that this shard owns and serves.
    pub fn partition(&self, topic: TopicId, index: i32) -> Option<Rc<Partition>> {
        let partitions = self.partitions.borrow();
        partitions.get(&(topic, index)).filter(|partition| partition.is_served()).cloned()
    }

    /// Number of partitions served.
    pub fn partition_count(&self) -> usize {
        self.partitions.borrow().len()
    }

    /// All partitions of this shard.
    pub fn all_partitions(&self) -> Vec<Rc<Partition>> {
        self.partitions.borrow().values().cloned().collect()
    }

    /// Takes in a new image: creates the logs of partitions that are new here, deletes those of removed topics, hands
    /// epochs and settings to the others.
    ///
    /// Errors: the first create or delete entry that could not be appended. All the rest is taken in; while the store is
    /// full the tick tries again what is missing.
    pub fn on_image(self: &Rc<Self>, published: &Published) -> Result<(), StorageError> {
        let node = NodeId::of_shard(self.id);
        let image = &published.image;
        let previous = std::mem::replace(&mut *self.image.borrow_mut(), Arc::clone(image));
        let settings_changed = image.broker_configs(node) != previous.broker_configs(node)
            || image.cluster_configs() != previous.cluster_configs();
        let mut outcome = Ok(());
        for topic in image.topics() {
            let unchanged = previous.topic_by_id(topic.id()).is_some_and(|before| Arc::ptr_eq(before, topic))
                && image.topic_configs(topic.name()) == previous.topic_configs(topic.name());
            if unchanged && !settings_changed {
                continue;
            }
            outcome = outcome.and(self.serve_topic(image, topic));
        }
        outcome = outcome.and(self.delete_topics(&published.removed));
        self.coordinate(&previous, published.removed.iter().copied());
        outcome
    }

    /// Serves all partitions of a topic that are led here, as far as there is room for the logs of new ones.
    fn serve_topic(&self, image: &MetadataImage, topic: &Topic) -> Result<(), StorageError> {
        let node = NodeId::of_shard(self.id);
        let dynamic = Dynamic {
            topic: image.topic_configs(topic.name()),
            node: image.broker_configs(node),
            cluster: image.cluster_configs(),
        };
        let mut config = TopicConfig::resolve(&self.config, dynamic);
        if &**topic.name() == CONSUMER_OFFSETS {
            // A commit that was answered survives a power cut, whatever other topics promise.
            config.durability = Durability::Flushed;
        }
        let config = Rc::new(config);
        let mut outcome = Ok(());
        for (index, partition) in topic.partitions().filter(|(_, partition)| partition.leader == Some(node)) {
            match self.partition_or_new(topic.id(), index) {
                Ok(served) => {
                    served.serve(Rc::from(&**topic.name()), partition.leader_epoch, Rc::clone(&config));
                    self.serve_compaction(&served, &config);
                }
                Err(error) => {
                    self.unfinished.borrow_mut().add_created(topic.id());
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    /// Serves the partitions of removed topics no longer, and deletes their logs as far as there is room for that.
    fn delete_topics(&self, removed: &BTreeSet<TopicId>) -> Result<(), StorageError> {
        let partitions = self.partitions.borrow();
        let gone = partitions.values().filter(|partition| removed.contains(&partition.topic));
        let gone: Vec<Rc<Partition>> = gone.cloned().collect();
        drop(partitions);
        let mut outcome = Ok(());
        for partition in gone {
            partition.on_deleted();
            #[cfg(not(corelane_defect = "delete_forgotten"))]
            match self.store.delete(partition.log) {
                Ok(position) => {
                    let durable = self.store.progress().durable;
                    self.deletions.borrow_mut().add(partition.topic, position, durable);
                }
                Err(error) => {
                    self.unfinished.borrow_mut().add_removed(partition.topic);
                    outcome = outcome.and(Err(error));
                    continue;
                }
            }
            self.by_log.borrow_mut().remove(&partition.log);
            self.partitions.borrow_mut().remove(&(partition.topic, partition.index.value()));
        }
        outcome
    }

    /// Serves a partition that is in no image: a log of the broker's own.
    pub fn serve_internal(
        &self,
        topic: TopicId,
        name: &str,
        leader_epoch: LeaderEpoch,
        config: Rc<TopicConfig>,
    ) -> Result<Rc<Partition>, StorageError> {
        let partition = self.partition_or_new(topic, PartitionIndex::new(0))?;
        partition.serve(name.into(), leader_epoch, config);
        Ok(partition)
    }

    /// Waits until `position` is at its level.
    pub async fn wait(
        &self,
        durability: Durability,
        position: LogPosition,
        deadline: MonotonicUs,
    ) -> Result<(), WaitError> {
        self.levels.wait(durability, position, deadline).await
    }

    /// Waits until `position` is at its level, as long as that takes.
    ///
    /// Errors: the store failed.
    pub async fn wait_for_good(&self, durability: Durability, position: LogPosition) -> Result<(), StorageError> {
        match self.levels.wait(durability, position, MonotonicUs::NEVER).await {
            Ok(()) => Ok(()),
            Err(WaitError::Storage(error)) => Err(error),
            Err(WaitError::TimedOut) => unreachable!("never comes"),
        }
    }

    fn partition_or_new(&self, topic: TopicId, index: PartitionIndex) -> Result<Rc<Partition>, StorageError> {
        let key = (topic, index.value());
        if let Some(known) = self.partitions.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let (log, _) = self.store.create(topic, index)?;
        let created = Rc::new(Partition::new(log, topic, index));
        self.by_log.borrow_mut().insert(log, Rc::clone(&created));
        self.partitions.borrow_mut().insert(key, Rc::clone(&created));
        Ok(created)
    }

    fn on_progress(&self) {
        self.measure_on_progress();
        self.levels.advance(self.store.progress(), self.store.failure(), |mark| {
            mark.partition.on_level(mark.log_end, mark.bytes);
        });
        if self.store.failure().is_some() {
            for partition in self.partitions.borrow().values() {
                partition.watchers().on_event();
            }
        }
    }
}

/// What the store calls; weak, since the shard owns the store.
struct StoreOwner<R: Runtime> {
    shard: std::rc::Weak<Shard<R>>,
}

impl<R: Runtime> Owner for StoreOwner<R> {
    fn on_progress(&self) {
        if let Some(shard) = self.shard.upgrade() {
            shard.on_progress();
        }
    }

    fn snapshot(&self, log: LogId, out: &mut Vec<u8>) {
        if let Some(shard) = self.shard.upgrade()
            && let Some(partition) = shard.by_log.borrow().get(&log)
        {
            partition.snapshot(out);
        }
    }

    fn retention_ms(&self, log: LogId) -> Option<i64> {
        let shard = self.shard.upgrade()?;
        let partition = shard.by_log.borrow().get(&log).cloned()?;
        // At a start nobody knows yet what a recovered log is kept by.
        if !partition.is_served() {
            return None;
        }
        let config = partition.config();
        config.retention_ms.filter(|_| config.cleanup_policy.delete)
    }

    fn batch_facts(&self, log: LogId, batch: &BatchHeader) -> BatchFacts {
        let shard = self.shard.upgrade();
        let partition = shard.and_then(|shard| shard.by_log.borrow().get(&log).cloned());
        partition.map_or_else(BatchFacts::default, |partition| partition.batch_facts(batch))
    }

    fn on_compacted(&self, log: LogId, end: Offset) {
        if let Some(shard) = self.shard.upgrade() {
            shard.on_compacted(log, end);
        }
    }

    fn on_not_compacted(&self, log: LogId, why: &str) {
        if let Some(shard) = self.shard.upgrade() {
            shard.on_not_compacted(log, why);
        }
    }
}
