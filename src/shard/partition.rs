//! One partition as its shard holds it: the pure rules of `partition`, the settings of its topic, and who waits for it.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::fmt;
use std::rc::Rc;

use super::purgatory::Watchers;
use super::retention::Ages;
use crate::compaction::{BatchFacts, CompactionRules, LastOfProducer};
use crate::config::topic::TopicConfig;
use crate::config::{self, BrokerConfig};
use crate::partition::PartitionState;
use crate::partition::validate::{TopicRules, Validation};
use crate::protocol::record_batch::BatchHeader;
use crate::types::{Durability, LeaderEpoch, LogId, LogPosition, Offset, PartitionIndex, TopicId};

/// A partition that lives in this shard's log.
pub struct Partition {
    /// This life of it in the log.
    pub log: LogId,
    /// Its topic.
    pub topic: TopicId,
    /// Its index within the topic.
    pub index: PartitionIndex,
    state: RefCell<PartitionState>,
    /// What the metadata said last; stays when the partition is deleted, for those who waited for something meanwhile.
    served: RefCell<Option<Served>>,
    is_deleted: Cell<bool>,
    last_append: Cell<LogPosition>,
    watchers: Watchers,
    /// How the log is compacted, if it is.
    compaction: Cell<Option<CompactionRules>>,
    /// For retention alone.
    pub(super) ages: RefCell<Ages>,
}

/// What the metadata says of a partition: it is served from then on.
struct Served {
    name: Rc<str>,
    leader_epoch: LeaderEpoch,
    config: Rc<TopicConfig>,
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({}-{}, log {})", self.topic, self.index, self.log)
    }
}

impl AsRef<Watchers> for Partition {
    fn as_ref(&self) -> &Watchers {
        &self.watchers
    }
}

impl Partition {
    /// An empty partition.
    pub fn new(log: LogId, topic: TopicId, index: PartitionIndex) -> Partition {
        Partition::restored(log, topic, index, PartitionState::default())
    }

    /// A partition as recovery found it. All that was recovered is durable, so all of it may be read.
    pub fn restored(log: LogId, topic: TopicId, index: PartitionIndex, state: PartitionState) -> Partition {
        Partition {
            log,
            topic,
            index,
            state: RefCell::new(state),
            served: RefCell::new(None),
            is_deleted: Cell::new(false),
            last_append: Cell::new(LogPosition::default()),
            watchers: Watchers::default(),
            compaction: Cell::new(None),
            ages: RefCell::default(),
        }
    }

    /// Takes in what the metadata says. A leader epoch that is new begins at the log end.
    pub fn serve(&self, name: Rc<str>, leader_epoch: LeaderEpoch, config: Rc<TopicConfig>) {
        {
            let mut state = self.state.borrow_mut();
            let log_end = state.offsets.log_end();
            #[cfg(not(corelane_defect = "epoch_start_forgotten"))]
            state.epochs.assign(leader_epoch, log_end);
            #[cfg(corelane_defect = "epoch_start_forgotten")]
            let _ = (&mut state, log_end);
        }
        *self.served.borrow_mut() = Some(Served { name, leader_epoch, config });
    }

    /// The topic is gone: nothing is served any more, and whoever waits learns it.
    pub fn on_deleted(&self) {
        self.is_deleted.set(true);
        self.watchers.on_event();
    }

    /// True between the first image that names the partition and its deletion.
    pub fn is_served(&self) -> bool {
        self.served.borrow().is_some() && !self.is_deleted.get()
    }

    fn served(&self) -> Ref<'_, Served> {
        Ref::map(self.served.borrow(), |served| served.as_ref().expect("only served partitions are handed out"))
    }

    /// Name of the topic, for the log of the broker.
    pub fn name(&self) -> Rc<str> {
        Rc::clone(&self.served().name)
    }

    /// The epoch that is stamped into every batch now.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.served().leader_epoch
    }

    /// The topic's settings in force.
    pub fn config(&self) -> Rc<TopicConfig> {
        Rc::clone(&self.served().config)
    }

    /// The level that this topic promises.
    pub fn durability(&self) -> Durability {
        self.served().config.durability
    }

    /// What a batch must be to be appended here.
    pub fn rules(&self, broker: &BrokerConfig) -> TopicRules {
        let config = &self.served().config;
        TopicRules {
            max_message_bytes: config.max_message_bytes,
            segment_bytes: config.segment_bytes,
            timestamp_type: config.timestamp_type,
            timestamp_before_max_ms: config.timestamp_before_max_ms,
            timestamp_after_max_ms: config.timestamp_after_max_ms,
            compacted: config.cleanup_policy.compact,
            compression: config.compression,
            validation: match broker.validation {
                config::Validation::Full => Validation::Full,
                config::Validation::Header => Validation::Header,
            },
        }
    }

    /// Offsets, producers and epochs.
    pub fn state(&self) -> Ref<'_, PartitionState> {
        self.state.borrow()
    }

    /// Offsets, producers and epochs, to change.
    pub fn state_mut(&self) -> RefMut<'_, PartitionState> {
        self.state.borrow_mut()
    }

    /// How the log is compacted; `None` if it is not.
    pub fn compaction(&self) -> Option<CompactionRules> {
        self.compaction.get()
    }

    /// Takes in how the log is compacted from now on.
    pub(super) fn set_compaction(&self, rules: Option<CompactionRules>) {
        self.compaction.set(rules);
    }

    /// What the log knows of one of its batches, for compaction.
    pub(super) fn batch_facts(&self, batch: &BatchHeader) -> BatchFacts {
        let state = self.state();
        let producer = batch.has_producer().then(|| state.producers.producer(batch.producer_id)).flatten();
        let last_of_producer = producer.map(|producer| match producer.batches().last() {
            Some(last) => LastOfProducer::Data(last.last_offset),
            None => LastOfProducer::Marker(producer.epoch()),
        });
        BatchFacts { last_of_producer, is_discardable: false }
    }

    /// Fetches that wait here.
    pub fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// End of the last append in the shard's log. A wait for it is a wait for everything in this partition.
    pub fn last_append(&self) -> LogPosition {
        self.last_append.get()
    }

    /// A batch was copied into the log; its entry ends at `position`.
    pub fn on_append(&self, position: LogPosition) {
        assert!(position > self.last_append.get());
        self.last_append.set(position);
    }

    /// Everything below `log_end` is at its level: consumers may see it.
    pub fn on_level(&self, log_end: Offset, bytes: u32) {
        self.state.borrow_mut().offsets.advance_high_watermark(log_end);
        self.watchers.on_visible(i64::from(bytes));
    }

    /// The state for a checkpoint.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        self.state.borrow().snapshot(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::Dynamic;

    #[test]
    fn a_deleted_partition_is_not_served_and_still_knows_what_it_was() {
        // Found by fuzzing: a ListOffsets that waited for a flush while the topic was deleted asked for its leader epoch,
        // which stopped the process.
        let partition = Partition::new(LogId::new(1), TopicId::new([1; 16]), PartitionIndex::new(0));
        assert!(!partition.is_served());
        let config = Rc::new(TopicConfig::resolve(&BrokerConfig::default(), Dynamic::NONE));
        partition.serve("t".into(), LeaderEpoch::new(3), config);
        assert!(partition.is_served());
        partition.on_deleted();
        assert!(!partition.is_served());
        assert_eq!((partition.leader_epoch(), &*partition.name()), (LeaderEpoch::new(3), "t"));
    }
}
