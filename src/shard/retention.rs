//! Retention: the log start of each partition follows its topic's limits of time and size; producers that have been
//! silent for too long are forgotten.
//!
//! Moves log starts and nothing else; a segment in which nothing is live any more is recycled by the store. A topic with
//! `cleanup.policy=compact` alone is never touched.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::partition::Partition;
use crate::config::broker::PRODUCER_ID_EXPIRATION_MS;
use crate::runtime::Runtime;
use crate::store::StorageError;
use crate::types::{LogPosition, NodeId, Offset, TimestampMs};

/// Starts the shard's retention task, with Kafka's `log.retention.check.interval.ms`.
pub fn start<R: Runtime>(shard: &Rc<Shard<R>>) {
    let shard = Rc::clone(shard);
    shard.runtime.clone().spawn(async move {
        let interval = Duration::from_millis(shard.config.log_retention_check_interval_ms.unsigned_abs());
        loop {
            shard.runtime.sleep(interval).await;
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

/// Looks at every partition once.
///
/// Errors: the first log start that could not be moved; the others were.
pub async fn run<R: Runtime>(shard: &Rc<Shard<R>>) -> Result<(), StorageError> {
    let mut outcome = Ok(());
    for partition in shard.all_partitions() {
        while partition.is_served() {
            let Some(log_start) = next_log_start(shard, &partition) else { break };
            if let Err(error) = shard.move_log_start(&partition, log_start) {
                outcome = outcome.and(Err(error));
                break;
            }
        }
        shard.runtime.yield_now().await;
    }
    outcome
}

/// Where the log start belongs when its oldest run has outlived the topic's limits; `None` when it has not.
fn next_log_start<R: Runtime>(shard: &Shard<R>, partition: &Partition) -> Option<Offset> {
    let config = partition.config();
    if !config.cleanup_policy.delete {
        return None;
    }
    let oldest = shard.store.oldest(partition.log)?;
    let next = oldest.last_offset.advance(1);
    if next > partition.state().offsets.high_watermark() {
        return None;
    }
    let now = shard.runtime.wall_clock();
    let by_time = config.retention_ms.is_some_and(|limit| outlived(oldest.timestamp_max, now, limit));
    // Kafka deletes a segment only when what remains is still at least the limit.
    let rest = i64::try_from(shard.store.log_bytes(partition.log).saturating_sub(oldest.bytes)).unwrap_or(i64::MAX);
    let by_size = config.retention_bytes.is_some_and(|limit| rest >= limit);
    (by_time || by_size).then_some(next)
}

fn outlived(timestamp_max: TimestampMs, now: TimestampMs, limit_ms: i64) -> bool {
    now.value().saturating_sub(timestamp_max.value()) > limit_ms
}

impl<R: Runtime> Shard<R> {
    /// How long a silent producer is remembered: as set while the broker runs, else as it was started.
    fn producer_id_expiration_ms(&self) -> i64 {
        let (image, node) = (self.image(), NodeId::of_shard(self.id));
        let layers = [image.broker_configs(node), image.cluster_configs()];
        let set = layers.into_iter().find_map(|layer| layer.get(PRODUCER_ID_EXPIRATION_MS));
        set.and_then(|text| text.parse().ok()).unwrap_or(self.config.producer_id_expiration_ms)
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
