//! Retention: the log start of each partition follows its topic's limits of time and size; producers that have been
//! silent for too long are forgotten.
//!
//! Moves log starts and nothing else; a segment in which nothing is live any more is recycled by the store. A topic with
//! `cleanup.policy=compact` alone is never touched.
//!
//! What a partition has in one segment of the core, a run, is discarded as one, once the youngest record in it is old enough,
//! as Kafka discards segments. But a core on which little is written takes long to fill a segment, where Kafka closes one
//! after `segment.ms`: so that no record outlives `retention.ms` by more than that, the log start then moves within a run.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::partition::Partition;
use crate::config::broker::PRODUCER_ID_EXPIRATION_MS;
use crate::limits::{LOG_ENDS_REMEMBERED_MAX, PRODUCERS_PER_SHARD_MAX};
use crate::protocol::record_batch::{BatchHeader, BatchView};
use crate::runtime::Runtime;
use crate::store::StorageError;
use crate::types::{LogPosition, Offset, TimestampMs};

/// Starts the shard's retention task, with Kafka's `log.retention.check.interval.ms`, and the first look after
/// `log.initial.task.delay.ms` if that is sooner.
pub fn start<R: Runtime>(shard: &Rc<Shard<R>>) {
    let shard = Rc::clone(shard);
    shard.runtime.clone().spawn(async move {
        let interval = Duration::from_millis(shard.config.log_retention_check_interval_ms.unsigned_abs());
        let mut wait = interval.min(Duration::from_millis(shard.config.log_initial_task_delay_ms.unsigned_abs()));
        loop {
            shard.runtime.sleep(wait).await;
            wait = interval;
            if shard.is_stopping() {
                return;
            }
            if let Err(error) = run(&shard).await {
                tracing::error!("shard {}: retention: {error}: it is tried again in {interval:?}", shard.id);
            }
        }
    });
}

/// Starts the task that forgets idempotent producers, with Kafka's `producer.id.expiration.check.interval.ms`.
pub fn start_producer_expiry<R: Runtime>(shard: &Rc<Shard<R>>) {
    let shard = Rc::clone(shard);
    shard.runtime.clone().spawn(async move {
        let interval = Duration::from_millis(shard.config.producer_id_expiration_check_interval_ms.unsigned_abs());
        while !shard.is_stopping() {
            shard.runtime.sleep(interval).await;
            let expiration_ms = shard.producer_id_expiration_ms();
            for partition in shard.all_partitions() {
                let now = shard.runtime.wall_clock();
                partition.state_mut().producers.expire(now, expiration_ms);
                shard.runtime.yield_now().await;
            }
        }
    });
}

/// Has the producers that wrote longest ago forgotten when there are more than a checkpoint should hold: an eighth, so that
/// the search for them is rare. One that comes back has lost nothing but the detection of its duplicates.
pub(super) fn forget_producers_on_tick<R: Runtime>(shard: &Rc<Shard<R>>) {
    if shard.producers.get() <= PRODUCERS_PER_SHARD_MAX {
        return;
    }
    forget_producers(shard, PRODUCERS_PER_SHARD_MAX - PRODUCERS_PER_SHARD_MAX / 8);
}

/// Leaves at most `count` producers: those that wrote last.
fn forget_producers<R: Runtime>(shard: &Shard<R>, count: usize) {
    let partitions = shard.all_partitions();
    let mut timestamps: Vec<i64> = Vec::new();
    for partition in &partitions {
        timestamps.extend(partition.state().producers.iter().map(|(_, producer)| producer.last_timestamp().value()));
    }
    let before = timestamps.len();
    if before > count {
        let (_, &mut bound, _) = timestamps.select_nth_unstable(before - count - 1);
        for partition in &partitions {
            partition.state_mut().producers.forget_until(TimestampMs::new(bound));
        }
    }
    // Also what deletions and expirations left uncounted.
    shard.producers.set(partitions.iter().map(|partition| partition.state().producers.len()).sum());
    tracing::info!("shard {}: {before} producers, of which the newest {} stay known", shard.id, shard.producers.get());
}

/// Looks at every partition once.
///
/// Errors: the first log start that could not be moved; the others were.
pub async fn run<R: Runtime>(shard: &Rc<Shard<R>>) -> Result<(), StorageError> {
    let mut outcome = Ok(());
    for partition in shard.all_partitions() {
        outcome = outcome.and(discard(shard, &partition).await);
        shard.runtime.yield_now().await;
    }
    outcome
}

/// Discards what a partition need not keep.
async fn discard<R: Runtime>(shard: &Shard<R>, partition: &Partition) -> Result<(), StorageError> {
    while partition.is_served() {
        let Some(log_start) = next_log_start(shard, partition) else { break };
        shard.move_log_start(partition, log_start)?;
    }
    match log_start_within_run(shard, partition).await {
        Some(log_start) => shard.move_log_start(partition, log_start).map(|_| ()),
        None => Ok(()),
    }
}

/// What retention remembers of a partition from one look to the next. It goes with the process; nothing is discarded sooner
/// for that.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// A log start, and how old its first records were when somebody looked, so that they are not read at every look.
    first: Option<(Offset, TimestampMs)>,
    /// Log ends at some looks, by time: all that is known of the age of records without a timestamp.
    ends: VecDeque<(TimestampMs, Offset)>,
}

impl Ages {
    /// The log ends at `log_end` now. Ends are remembered as often as a limit of `limit_ms` needs them.
    fn on_end(&mut self, now: TimestampMs, log_end: Offset, limit_ms: i64) {
        let spacing_ms = limit_ms / (LOG_ENDS_REMEMBERED_MAX / 2);
        let is_new = |(time, end): &(TimestampMs, Offset)| *end < log_end && since(*time, now) >= spacing_ms;
        if self.ends.back().is_none_or(is_new) {
            self.ends.push_back((now, log_end));
        }
        if i64::try_from(self.ends.len()).is_ok_and(|count| count > LOG_ENDS_REMEMBERED_MAX) {
            self.ends.pop_front();
        }
    }

    /// When everything before `offset` was there, at the latest. `None`: that is not known yet.
    fn there_since(&self, offset: Offset) -> Option<TimestampMs> {
        self.ends.iter().find(|(_, end)| *end >= offset).map(|(time, _)| *time)
    }
}

/// Where the log start belongs when its oldest run has outlived the topic's limits; `None` when it has not.
fn next_log_start<R: Runtime>(shard: &Shard<R>, partition: &Partition) -> Option<Offset> {
    let config = partition.config();
    if !config.cleanup_policy.delete {
        return None;
    }
    let oldest = shard.store.oldest(partition.log)?;
    let next = oldest.last_offset.advance(1);
    let offsets = partition.state().offsets;
    if next > offsets.high_watermark() {
        return None;
    }
    let now = shard.runtime.wall_clock();
    let by_time = config.retention_ms.is_some_and(|limit| {
        let mut ages = partition.ages.borrow_mut();
        if oldest.timestamp_max < TimestampMs::new(0) {
            // Kafka goes by when the file was written last.
            ages.on_end(now, offsets.high_watermark(), limit);
            return ages.there_since(next).is_some_and(|since| outlived(since, now, limit));
        }
        ages.ends.clear();
        outlived(oldest.timestamp_max, now, limit)
    });
    // Kafka deletes a segment only when what remains is still at least the limit.
    let rest = i64::try_from(shard.store.log_bytes(partition.log).saturating_sub(oldest.bytes)).unwrap_or(i64::MAX);
    let by_size = config.retention_bytes.is_some_and(|limit| rest >= limit);
    if !(by_time || by_size) {
        return None;
    }
    // What follows is hardly older, so it need not be read to know that.
    partition.ages.borrow_mut().first = Some((next, oldest.timestamp_max));
    Some(next)
}

/// Where the log start belongs although the same run goes on with younger records; `None` when it may stay.
async fn log_start_within_run<R: Runtime>(shard: &Shard<R>, partition: &Partition) -> Option<Offset> {
    let config = partition.is_served().then(|| partition.config())?;
    let retention_ms = config.retention_ms.filter(|_| config.cleanup_policy.delete)?;
    shard.store.oldest(partition.log)?;
    let now = shard.runtime.wall_clock();
    let is_late = |first: TimestampMs| outlived(first, now, retention_ms.saturating_add(config.segment_ms));
    let log_start = partition.state().offsets.log_start();
    let known = partition.ages.borrow().first.filter(|(offset, _)| *offset == log_start);
    if known.is_some_and(|(_, first)| !is_late(first)) {
        return None;
    }
    let first = first_batch_since(shard, partition, TimestampMs::new(0)).await?.max_timestamp;
    partition.ages.borrow_mut().first = Some((log_start, first));
    if !is_late(first) {
        return None;
    }
    let youngest_discarded = TimestampMs::new(now.value().saturating_sub(retention_ms));
    let kept = first_batch_since(shard, partition, youngest_discarded).await?;
    let next = kept.base_offset.min(partition.state().offsets.high_watermark());
    partition.ages.borrow_mut().first = Some((next, kept.max_timestamp));
    (next > log_start && partition.is_served()).then_some(next)
}

/// The first batch with a record of that time or later. `None` also when it cannot be read.
async fn first_batch_since<R: Runtime>(
    shard: &Shard<R>,
    partition: &Partition,
    timestamp: TimestampMs,
) -> Option<BatchHeader> {
    match shard.store.batch_at_timestamp(partition.log, timestamp).await {
        Ok(found) => BatchView::parse(&found?).ok().map(|batch| batch.header),
        Err(error) => {
            shard.log_read_failure(partition, &error);
            None
        }
    }
}

fn since(time: TimestampMs, now: TimestampMs) -> i64 {
    now.value().saturating_sub(time.value())
}

fn outlived(timestamp_max: TimestampMs, now: TimestampMs, limit_ms: i64) -> bool {
    since(timestamp_max, now) > limit_ms
}

impl<R: Runtime> Shard<R> {
    /// How long a silent producer is remembered: as set while the broker runs, else as it was started.
    fn producer_id_expiration_ms(&self) -> i64 {
        self.dynamic(PRODUCER_ID_EXPIRATION_MS).unwrap_or(self.config.producer_id_expiration_ms)
    }

    /// Moves the log start of a partition up to `log_start`, durably with the next flush. Gives the position whose flush
    /// makes it so, also where the log start was there already.
    pub fn move_log_start(&self, partition: &Partition, log_start: Offset) -> Result<LogPosition, StorageError> {
        assert!(log_start <= partition.state().offsets.high_watermark());
        let position = self.store.set_log_start(partition.log, log_start)?;
        partition.state_mut().advance_log_start(log_start);
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::config::topic::{Dynamic, TopicConfig};
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::BatchBuilder;
    use crate::shard::unfinished::tests::start;
    use crate::simulation::{SimulatedRuntime, Simulation};
    use crate::store::Purpose;
    use crate::types::{Durability, LeaderEpoch, ProducerEpoch, ProducerId, Sequence, TopicId};

    #[test]
    fn of_too_many_producers_of_a_shard_those_that_wrote_last_stay() {
        // 4,096 producers on each of 800 partitions made a checkpoint that was too large to be read again: the store was
        // read-only then.
        Simulation::new(1)
            .run(|runtime| async move {
                let shard = start(&runtime).await;
                let config = Rc::new(TopicConfig::resolve(&shard.config, Dynamic::NONE));
                let mut partitions = Vec::new();
                for topic in 1..4 {
                    let topic = TopicId::new([topic; 16]);
                    let served = shard.serve_internal(topic, "t", LeaderEpoch::new(0), Rc::clone(&config));
                    partitions.push(served.unwrap());
                }
                for id in 0..30 {
                    let mut builder = BatchBuilder::new(Codec::None);
                    builder.producer(ProducerId::new(id), ProducerEpoch::new(0), Sequence::new(0));
                    builder.append(TimestampMs::new(1000 + id), None, Some(b"v"), &[]);
                    let partition = &partitions[usize::try_from(id).unwrap() % 3];
                    shard.append_internal(Purpose::Client, partition, &builder.build()).await.unwrap();
                }
                assert_eq!(shard.producers.get(), 30);
                forget_producers(&shard, 8);
                assert_eq!(shard.producers.get(), 8);
                let states = partitions.iter().map(|partition| partition.state());
                let known: Vec<Vec<i64>> =
                    states.map(|state| state.producers.iter().map(|(id, _)| id.value()).collect()).collect();
                let mut known = known.concat();
                known.sort();
                assert_eq!(known, [22, 23, 24, 25, 26, 27, 28, 29]);
                shard.stop();
            })
            .finished();
    }

    /// A shard with one partition whose topic has these limits of time, in milliseconds.
    async fn with_limits(
        runtime: &SimulatedRuntime,
        retention_ms: i64,
        segment_ms: i64,
    ) -> (Rc<Shard<SimulatedRuntime>>, Rc<Partition>) {
        let shard = start(runtime).await;
        let inherited = TopicConfig::resolve(&shard.config, Dynamic::NONE);
        let config = TopicConfig { retention_ms: Some(retention_ms), segment_ms, ..inherited };
        let topic = TopicId::new([1; 16]);
        let partition = shard.serve_internal(topic, "t", LeaderEpoch::new(0), Rc::new(config)).unwrap();
        (shard, partition)
    }

    async fn append(shard: &Shard<SimulatedRuntime>, partition: &Rc<Partition>, timestamp: TimestampMs) {
        let batch = BatchBuilder::new(Codec::None).append(timestamp, None, Some(b"v"), &[]).build();
        let position = shard.append_internal(Purpose::Client, partition, &batch).await.unwrap();
        shard.wait_for_good(Durability::Flushed, position).await.unwrap();
    }

    fn log_start(partition: &Partition) -> i64 {
        partition.state().offsets.log_start().value()
    }

    /// -1 stands for no timestamp, and was taken for a time long ago: at the next look the record was gone.
    #[test]
    fn a_record_without_a_timestamp_is_kept_from_when_it_was_there() {
        Simulation::new(1)
            .run(|runtime| async move {
                let (shard, partition) = with_limits(&runtime, 10_000, i64::MAX).await;
                // How many were appended by each second; one per second.
                for second in 0..60_i64 {
                    append(&shard, &partition, TimestampMs::NONE).await;
                    if second < 5 {
                        continue;
                    }
                    run(&shard).await.unwrap();
                    assert!(log_start(&partition) <= (second - 9).max(0), "at {second} s");
                    runtime.sleep(Duration::from_secs(1)).await;
                }
                assert_eq!(log_start(&partition), 0, "the youngest of the run is young");
                runtime.sleep(Duration::from_secs(9)).await;
                run(&shard).await.unwrap();
                assert_eq!(log_start(&partition), 0);
                runtime.sleep(Duration::from_millis(3300)).await;
                run(&shard).await.unwrap();
                assert_eq!(log_start(&partition), 60);
                shard.stop();
            })
            .finished();
    }

    /// Where little is written a segment of a core takes months to fill, and as long nothing in it was discarded.
    #[test]
    fn no_record_outlives_its_time_by_more_than_segment_ms_while_its_segment_is_open() {
        Simulation::new(1)
            .run(|runtime| async move {
                let (shard, partition) = with_limits(&runtime, 10_000, 20_000).await;
                let mut written = Vec::new();
                let mut starts = std::collections::BTreeSet::new();
                for _ in 0..100 {
                    let now = runtime.wall_clock();
                    append(&shard, &partition, now).await;
                    written.push(now);
                    run(&shard).await.unwrap();
                    let log_start = usize::try_from(log_start(&partition)).unwrap();
                    let now = runtime.wall_clock();
                    assert!(since(written[log_start], now) <= 30_000, "{log_start} is kept for too long");
                    if log_start > 0 {
                        assert!(since(written[log_start - 1], now) > 10_000, "{log_start} was discarded too soon");
                    }
                    starts.insert(log_start);
                    runtime.sleep(Duration::from_secs(1)).await;
                }
                assert_eq!(shard.store.stats().segments_live, 1);
                // In parts: every twenty seconds, not at every look.
                assert_eq!(starts.into_iter().collect::<Vec<_>>(), [0, 21, 42, 63, 84]);
                shard.stop();
            })
            .finished();
    }

    /// A broker that was restarted more often than every five minutes discarded nothing.
    #[test]
    fn the_first_look_does_not_wait_for_the_whole_interval() {
        Simulation::new(1)
            .run(|runtime| async move {
                let (shard, partition) = with_limits(&runtime, 10_000, i64::MAX).await;
                append(&shard, &partition, TimestampMs::new(1)).await;
                runtime.sleep(Duration::from_secs(29)).await;
                assert_eq!(log_start(&partition), 0);
                runtime.sleep(Duration::from_secs(2)).await;
                assert_eq!(log_start(&partition), 1);
                shard.stop();
            })
            .finished();
    }
}
