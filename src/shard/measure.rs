//! What a shard tells its metrics about its store: every flush as it ends, everything else once in a while.
//!
//! The store counts for itself and knows no metrics; nothing here runs per append.

use super::Shard;
use crate::limits::{GIVE_BACK_BYTES, METRICS_INTERVAL_MS};
use crate::runtime::{Runtime, block_memory};
use crate::types::MonotonicUs;

/// What was told already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    flushes: u64,
    tail_reads: u64,
    cold_reads: u64,
    /// The most that requests and answers had of the system's allocator since it last gave something back.
    lent_bytes_max: u64,
    is_less: bool,
    next: MonotonicUs,
}

impl<R: Runtime> Shard<R> {
    /// Records a flush that ended since the last progress. Flushes come one after the other, so none is missed.
    pub(super) fn measure_on_progress(&self) {
        let (flushes, flush_us) = self.store.flushes();
        let mut measured = self.measured.get();
        if flushes > measured.flushes {
            self.metrics.flush_time.record(flush_us);
            measured.flushes = flushes;
            self.measured.set(measured);
        }
    }

    /// Publishes the numbers of the store when they are due.
    pub(super) fn measure_on_tick(&self, now: MonotonicUs) {
        let mut measured = self.measured.get();
        if now < measured.next {
            return;
        }
        let stats = self.store.stats();
        let metrics = &self.metrics;
        metrics.cache_hits.add(stats.tail_reads - measured.tail_reads);
        metrics.cache_misses.add(stats.cold_reads - measured.cold_reads);
        metrics.log_appended_bytes.set(stats.appended_bytes);
        metrics.disk_written_bytes.set(stats.written_bytes);
        metrics.disk_writes.set(stats.writes);
        let answer_bytes = u64::try_from(self.answers.owned_bytes()).expect("a size fits 64 bits");
        let recompression_bytes = u64::try_from(self.recompressors.held_bytes()).expect("a size fits 64 bits");
        let waiting_bytes = u64::try_from(self.purgatory.bytes()).expect("a size fits 64 bits");
        // What the system's allocator gave, and keeps when it is freed.
        let lent_bytes = answer_bytes + recompression_bytes + waiting_bytes + metrics.request_bytes_in_flight.value();
        metrics.memory_bytes.set(stats.memory_bytes + lent_bytes);
        measured.lent_bytes_max = measured.lent_bytes_max.max(lent_bytes);
        let is_less = measured.lent_bytes_max >= lent_bytes + GIVE_BACK_BYTES;
        // Twice in a row: what goes up and down under load is wanted again.
        if is_less && measured.is_less {
            measured.lent_bytes_max = lent_bytes;
            block_memory::give_back();
        }
        measured.is_less = is_less;
        metrics.segments.set(stats.segments_live);
        metrics.segments_free.set(stats.segments_free);
        metrics.segments_scanned.set(stats.segments_scanned);
        metrics.checkpoints.set(stats.checkpoints);
        metrics.store_live_bytes.set(stats.live_bytes);
        metrics.store_used_bytes.set(stats.used_bytes);
        metrics.store_moved_bytes.set(stats.moved_bytes);
        metrics.store_index_bytes.set(stats.index_bytes);
        metrics.store_damaged_rows.set(stats.damaged_rows);
        metrics.compaction_passes.set(stats.compaction_passes);
        metrics.compaction_read_bytes.set(stats.compaction_read_bytes);
        metrics.compaction_written_bytes.set(stats.compaction_written_bytes);
        metrics.uncompactable_logs.set(stats.uncompactable_logs);
        metrics.store_scrubbed_bytes.set(stats.scrubbed_bytes);
        metrics.store_scrubbed_at_seconds.set(stats.scrubbed_at.value().unsigned_abs() / 1000);
        metrics.partitions.set(u64::try_from(self.partition_count()).expect("a count fits 64 bits"));
        metrics.groups.set(u64::try_from(self.coordination.group_count()).expect("a count fits 64 bits"));
        metrics.store_read_only.set(u64::from(self.store.failure().is_some()));
        metrics.store_full.set(u64::from(self.store.is_full()));
        measured.tail_reads = stats.tail_reads;
        measured.cold_reads = stats.cold_reads;
        measured.next = now.plus_ms(METRICS_INTERVAL_MS);
        self.measured.set(measured);
    }
}
