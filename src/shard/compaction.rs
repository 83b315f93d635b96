//! Which logs are compacted, and when: the shard's part of it. The rules are `compaction`'s, the work the store's.
//!
//! ```text
//! metadata ──> rules of a partition ──> its virtual segments, as batches are appended
//! every log.cleaner.backoff.ms: what is due ──> Store::compact ──> on_compacted: the clean part grows
//! ```
//!
//! A log is compacted up to where Kafka would, and up to the open segment of the core, which other partitions share. Where
//! something waits in that, it is ended now and then, sooner where a topic says that it does not want to wait: `segment.ms` or
//! `segment.bytes` far below their defaults, or `max.compaction.lag.ms` that is over.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::partition::Partition;
use crate::cluster::topic_name::CONSUMER_OFFSETS;
use crate::compaction::{Candidate, CompactionRules, VirtualSegments};
use crate::config::broker::{LOG_CLEANER_BACKOFF_MS, LOG_CLEANER_IO_MAX_BYTES_PER_SECOND};
use crate::config::topic::TopicConfig;
use crate::limits::{
    COMPACTION_BACKOFF_MS_MIN, COMPACTION_PARTITIONS_PER_YIELD, COMPACTION_SEAL_BACKOFFS, COMPACTION_SEAL_BACKOFFS_MAX,
    COMPACTION_SEAL_BYTES, GROUP_SEGMENT_BYTES_MAX,
};
use crate::protocol::record_batch::BatchHeader;
use crate::runtime::Runtime;
use crate::store::DueLog;
use crate::types::{LogId, MonotonicUs, Offset, TimestampMs};

/// Segments that are as short as this show that a topic wants to be compacted soon.
const SHORT_SEGMENT_MS: i64 = 60 * 60 * 1000;
/// See [`SHORT_SEGMENT_MS`].
const SHORT_SEGMENT_BYTES: u32 = 16 * 1024 * 1024;

/// What waits for the open segment to end.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    bytes: u64,
    is_urgent: bool,
}

impl Waiting {
    fn add(&mut self, candidate: &Candidate, rules: &CompactionRules, is_internal: bool) {
        self.bytes += candidate.dirty_bytes;
        let is_short = rules.segment_ms <= SHORT_SEGMENT_MS || rules.segment_bytes <= SHORT_SEGMENT_BYTES;
        self.is_urgent |= candidate.is_due || (is_short && !is_internal);
    }

    /// How many times the backoff the open segment may stay open for it.
    fn backoffs(self) -> u32 {
        let is_soon = self.is_urgent || self.bytes >= COMPACTION_SEAL_BYTES;
        if is_soon { COMPACTION_SEAL_BACKOFFS } else { COMPACTION_SEAL_BACKOFFS_MAX }
    }
}

/// Starts the task that looks for logs to compact.
pub(super) fn start<R: Runtime>(shard: &Rc<Shard<R>>) {
    if !shard.config.log_cleaner_enable {
        return;
    }
    let shard = Rc::clone(shard);
    shard.runtime.clone().spawn(async move {
        let mut sealed_at = shard.runtime.now();
        loop {
            let backoff_ms = shard.backoff_ms();
            shard.runtime.sleep(Duration::from_millis(backoff_ms)).await;
            if shard.is_stopping() {
                return;
            }
            look(&shard, backoff_ms, &mut sealed_at).await;
        }
    });
}

/// Has the store compact what is due, the dirtiest first, as Kafka's `LogCleanerManager.grabFilthiestCompactedLog`.
async fn look<R: Runtime>(shard: &Rc<Shard<R>>, backoff_ms: u64, sealed_at: &mut MonotonicUs) {
    let now = shard.runtime.wall_clock();
    let (mut due, mut waiting) = (Vec::new(), None::<Waiting>);
    for (index, partition) in shard.all_partitions().into_iter().enumerate() {
        if (index + 1) % COMPACTION_PARTITIONS_PER_YIELD == 0 {
            shard.runtime.yield_now().await;
        }
        let Some(rules) = partition.compaction().filter(|_| partition.is_served()) else { continue };
        let Some(settled_end) = shard.store.settled_end(partition.log) else { continue };
        let state = partition.state();
        let Some(segments) = &state.compaction else { continue };
        let clean_bytes = shard.store.bytes_below(partition.log, segments.clean_end());
        let high_watermark = state.offsets.high_watermark();
        if let Some(candidate) = segments.candidate(high_watermark.min(settled_end), clean_bytes, &rules, now) {
            due.push(DueLog { log: partition.log, candidate, rules });
        } else if let Some(candidate) = segments.candidate(high_watermark, clean_bytes, &rules, now) {
            let is_internal = &*partition.name() == CONSUMER_OFFSETS;
            waiting.get_or_insert_default().add(&candidate, &rules, is_internal);
        }
    }
    due.sort_by(|a: &DueLog, b: &DueLog| {
        let urgency = |due: &DueLog| (due.candidate.is_due, due.candidate.dirty_ratio);
        urgency(b).partial_cmp(&urgency(a)).expect("a ratio is a number")
    });
    if !due.is_empty() {
        shard.store.compact(due, shard.compaction_bytes_per_second());
    }
    let open_ms = shard.runtime.now().since_us(*sealed_at) / 1000;
    let is_over = |waiting: Waiting| open_ms >= backoff_ms.saturating_mul(u64::from(waiting.backoffs()));
    if waiting.is_some_and(is_over) && shard.store.seal_open_segment() {
        *sealed_at = shard.runtime.now();
    }
}

impl<R: Runtime> Shard<R> {
    /// Takes in whether and how a partition's topic is compacted. What it holds already is dirty.
    pub(super) fn serve_compaction(&self, partition: &Partition, topic: &TopicConfig) {
        let mut rules = CompactionRules::of(topic).filter(|_| self.config.log_cleaner_enable);
        if let Some(rules) = &mut rules
            && &*partition.name() == CONSUMER_OFFSETS
        {
            rules.segment_bytes = rules.segment_bytes.min(GROUP_SEGMENT_BYTES_MAX);
        }
        partition.set_compaction(rules);
        let mut state = partition.state_mut();
        if rules.is_none() {
            state.compaction = None;
        } else if state.compaction.is_none() {
            let (start, end) = (state.offsets.log_start(), state.offsets.log_end());
            let bytes = self.store.log_bytes(partition.log);
            let timestamp_max = self.store.timestamp_max(partition.log).unwrap_or(TimestampMs::NONE);
            let now = self.runtime.wall_clock();
            state.compaction = Some(VirtualSegments::adopt(start, end, bytes, timestamp_max, now));
        }
    }

    /// Notes a batch that was appended to a compacted log: its header is stamped.
    pub(super) fn note_dirty(&self, partition: &Partition, segments: &mut VirtualSegments, batch: &BatchHeader) {
        let Some(rules) = partition.compaction() else { return };
        let random = || u32::try_from(self.runtime.random() >> 32).expect("the upper half");
        segments.append(batch, batch.batch_bytes(), &rules, self.runtime.wall_clock(), random);
    }

    /// Notes that a log is clean up to `end`.
    pub(super) fn on_compacted(&self, log: LogId, end: Offset) {
        let partition = self.by_log.borrow().get(&log).cloned();
        if let Some(partition) = partition
            && let Some(segments) = &mut partition.state_mut().compaction
        {
            segments.on_cleaned(end);
        }
    }

    /// Tells an operator of a log that cannot be compacted.
    pub(super) fn on_not_compacted(&self, log: LogId, why: &str) {
        let partition = self.by_log.borrow().get(&log).cloned();
        let name = partition.filter(|partition| partition.is_served());
        let name = name.map_or_else(|| format!("log {log}"), |found| format!("{}-{}", found.name(), found.index));
        tracing::error!("shard {}: {name} is not compacted from now on: {why}", self.id);
    }

    fn backoff_ms(&self) -> u64 {
        let set = self.dynamic(LOG_CLEANER_BACKOFF_MS).unwrap_or(self.config.log_cleaner_backoff_ms);
        set.unsigned_abs().max(COMPACTION_BACKOFF_MS_MIN)
    }

    fn compaction_bytes_per_second(&self) -> f64 {
        let all: f64 = self
            .dynamic(LOG_CLEANER_IO_MAX_BYTES_PER_SECOND)
            .unwrap_or(self.config.log_cleaner_io_max_bytes_per_second);
        // The key is one for all cleaners of a Kafka broker: here each core has its own.
        all.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::Dynamic;
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::{BatchBuilder, batches};
    use crate::shard::unfinished::tests::start as start_shard;
    use crate::simulation::{SimulatedRuntime, Simulation};
    use crate::store::Purpose;
    use crate::types::{Durability, LeaderEpoch, PartitionIndex, TopicId};

    const TOPIC: TopicId = TopicId::new([1; 16]);

    fn config(shard: &Shard<SimulatedRuntime>) -> TopicConfig {
        let mut config = TopicConfig::resolve(&shard.config, Dynamic::NONE);
        (config.cleanup_policy.compact, config.cleanup_policy.delete) = (true, false);
        // Every batch begins a segment, but for the last nothing is active.
        config.segment_ms = 1;
        config
    }

    fn serve(shard: &Shard<SimulatedRuntime>, config: &TopicConfig) -> Rc<Partition> {
        let served = shard.serve_internal(TOPIC, "t", LeaderEpoch::new(0), Rc::new(config.clone())).unwrap();
        shard.serve_compaction(&served, config);
        served
    }

    async fn append(shard: &Shard<SimulatedRuntime>, partition: &Rc<Partition>, key: &str, timestamp: i64) {
        let timestamp = TimestampMs::new(timestamp);
        let batch = BatchBuilder::new(Codec::Lz4).append(timestamp, Some(key.as_bytes()), Some(b"v"), &[]).build();
        let position = shard.append_internal(Purpose::Client, partition, &batch).await.unwrap();
        shard.wait_for_good(Durability::Flushed, position).await.unwrap();
    }

    async fn offsets(shard: &Shard<SimulatedRuntime>, partition: &Partition) -> Vec<i64> {
        let (mut next, end, mut found) = (Offset::ZERO, partition.state().offsets.log_end(), Vec::new());
        while next < end {
            let read = shard.store.read(partition.log, next, end, 10_000, true).await.unwrap();
            next = read.next_offset;
            let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
            found.extend(batches(&bytes).map(|batch| batch.unwrap().header.base_offset.value()));
        }
        found
    }

    #[test]
    fn a_topic_with_short_segments_is_compacted_within_a_minute_or_two() {
        Simulation::new(1)
            .run(|runtime| async move {
                let shard = start_shard(&runtime).await;
                let partition = serve(&shard, &config(&shard));
                for index in 0..10 {
                    append(&shard, &partition, ["a", "b"][usize::try_from(index % 2).unwrap()], 1000 + 10 * index)
                        .await;
                }
                assert_eq!(offsets(&shard, &partition).await.len(), 10);
                runtime.sleep(Duration::from_secs(120)).await;
                // The active segment is the last batch.
                assert_eq!(offsets(&shard, &partition).await, [7, 8, 9]);
                assert_eq!(partition.state().compaction.as_ref().unwrap().clean_end(), Offset::new(9));
                // Nothing is due: the open segment stays, however long.
                let segments = shard.store.stats().segments_live;
                runtime.sleep(Duration::from_secs(3600)).await;
                assert_eq!(shard.store.stats().segments_live, segments);
                assert_eq!(shard.store.stats().compaction_passes, 1);
                shard.stop();
            })
            .finished();
    }

    #[test]
    fn the_state_of_compaction_outlives_a_restart_and_a_change_of_policy_begins_anew() {
        let mut simulation = Simulation::new(2);
        simulation
            .run(|runtime| async move {
                let shard = start_shard(&runtime).await;
                let partition = serve(&shard, &config(&shard));
                for index in 0..10 {
                    append(&shard, &partition, "k", 1000 + 10 * index).await;
                }
                runtime.sleep(Duration::from_secs(120)).await;
                assert_eq!(offsets(&shard, &partition).await, [8, 9]);
                shard.stop();
                shard.store.close().await.unwrap();
            })
            .finished();
        simulation
            .run(|runtime| async move {
                let shard = start_shard(&runtime).await;
                let compacted = config(&shard);
                let partition = serve(&shard, &compacted);
                assert_eq!(partition.index, PartitionIndex::new(0));
                assert_eq!(partition.state().compaction.as_ref().unwrap().clean_end(), Offset::new(9));
                runtime.sleep(Duration::from_secs(120)).await;
                assert_eq!(shard.store.stats().compaction_passes, 0, "all of it is clean");
                let mut deleted = compacted.clone();
                deleted.cleanup_policy.compact = false;
                serve(&shard, &deleted);
                assert_eq!(partition.state().compaction, None);
                append(&shard, &partition, "k", 5000).await;
                serve(&shard, &compacted);
                // What is there now is one segment, and not active.
                append(&shard, &partition, "k", 6000).await;
                runtime.sleep(Duration::from_secs(120)).await;
                assert_eq!(offsets(&shard, &partition).await, [10, 11]);
                shard.stop();
            })
            .finished();
    }
}
