//! Loading a coordinator: its partition is replayed from log start to log end, beside everything else that the core does.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Coordination, Seat, State};
use crate::coordinator::Coordinator;
use crate::coordinator::records::{Record, RecordError};
use crate::limits::{
    DECOMPRESSED_GROUP_BATCH_BYTES_MAX, GROUP_LOAD_READ_BYTES, GROUP_LOAD_RECORDS_PER_YIELD, GROUP_LOADS_MAX, TICK_MS,
};
use crate::protocol::compression::Scratch;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchView, RecordsIter, batches};
use crate::runtime::Runtime;
use crate::shard::Shard;
use crate::store::ReadError;
use crate::types::Offset;

/// Why a coordinator cannot be loaded.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is not read without what is damaged: a commit would be answered that a later one has replaced.
    #[error("offset {offset}: {cause}: restore it, or start with --accept-loss to go on without it")]
    Damaged { offset: Offset, cause: ReadError },
    #[error("the batch at offset {0} cannot be read")]
    Batch(Offset),
    #[error("offset {offset}: {cause}")]
    Record { offset: Offset, cause: RecordError },
    /// Kafka's coordinator loader does not skip one either.
    #[error("offset {0}: a record without a key")]
    NoKey(Offset),
}

/// A coordinator that is being filled.
struct Loading {
    coordinator: Box<Coordinator>,
    /// Topics that offsets were committed for.
    topics: BTreeSet<String>,
    records: u64,
}

/// Starts loading. Until it ends the seat answers COORDINATOR_LOAD_IN_PROGRESS.
pub(super) fn start<R: Runtime>(shard: &Rc<Shard<R>>, seat: Rc<Seat>) {
    let shard = Rc::clone(shard);
    *seat.state.borrow_mut() = State::Loading;
    shard.runtime.clone().spawn(async move {
        let started = shard.runtime.now();
        // Not while the topic is gone, or the broker stops.
        let is_wanted = || seat.partition.is_served() && matches!(&*seat.state.borrow(), State::Loading);
        shard.coordination.begin_load().await;
        let loaded = if is_wanted() { Some(shard.load(&seat).await) } else { None };
        shard.coordination.end_load();
        let Some(loaded) = loaded.filter(|_| is_wanted()) else { return };
        match loaded {
            Ok(loading) => {
                shard.metrics.group_loads.add(1);
                shard.metrics.group_load_us.add(shard.runtime.now().since_us(started));
                shard.on_loaded(&seat, loading);
            }
            Err(error) => {
                tracing::error!("shard {}: group coordinator {} cannot load: {error}", shard.id, seat.index);
                *seat.state.borrow_mut() = State::Failed(ErrorCode::CoordinatorNotAvailable);
            }
        }
    });
}

impl Coordination {
    /// Waits for its turn. Each load holds what it reads, and what it frees lies between what stays.
    async fn begin_load(&self) {
        let may_begin = || self.loads.get() < GROUP_LOADS_MAX || self.is_stopped.get();
        self.load_ended.until(|| may_begin().then_some(())).await;
        self.loads.set(self.loads.get() + 1);
    }

    fn end_load(&self) {
        self.loads.set(self.loads.get() - 1);
        self.load_ended.ring();
    }
}

impl<R: Runtime> Shard<R> {
    async fn load(self: &Rc<Self>, seat: &Seat) -> Result<Loading, LoadError> {
        // What an earlier life of this coordinator queued comes first.
        while seat.newest.borrow().is_some() && !self.is_stopping() {
            self.runtime.sleep(Duration::from_millis(TICK_MS)).await;
        }
        let partition = &seat.partition;
        let (mut next, end) = {
            let state = partition.state();
            (state.offsets.log_start(), state.offsets.log_end())
        };
        let coordinator = Box::new(Coordinator::new(Rc::clone(&self.coordination.config)));
        let mut loading = Loading { coordinator, topics: BTreeSet::new(), records: 0 };
        let (mut scratch, mut plain, mut bytes) = (Scratch::new(), Vec::new(), Vec::new());
        while next < end {
            let read = match self.store.read(partition.log, next, end, GROUP_LOAD_READ_BYTES, true).await {
                Ok(read) => read,
                Err(error @ ReadError::Damaged { next_offset, .. }) => {
                    self.log_read_failure(partition, &error);
                    if !self.store.accepts_loss() {
                        return Err(LoadError::Damaged { offset: next, cause: error });
                    }
                    let last = next_offset.value() - 1;
                    tracing::warn!(
                        "shard {}: group coordinator {} loads without the offsets {next} to {last}: {error}",
                        self.id,
                        seat.index
                    );
                    next = next_offset;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            bytes.clear();
            for slice in &read.slices {
                bytes.extend_from_slice(slice.as_slice());
            }
            // Behind a hole the log goes on: what it took was lost, and that was accepted.
            let next_offset = read.next_offset;
            drop(read);
            if next_offset <= next {
                return Err(LoadError::Batch(next));
            }
            for batch in batches(&bytes) {
                let batch = batch.map_err(|_| LoadError::Batch(next))?;
                self.replay(&batch, &mut loading, &mut scratch, &mut plain).await?;
            }
            next = next_offset;
            self.runtime.yield_now().await;
        }
        Ok(loading)
    }

    async fn replay(
        &self,
        batch: &BatchView<'_>,
        loading: &mut Loading,
        scratch: &mut Scratch,
        plain: &mut Vec<u8>,
    ) -> Result<(), LoadError> {
        // Markers of transactions are no records of ours.
        if batch.header.is_control() {
            return Ok(());
        }
        let base = batch.header.base_offset;
        let records = batch
            .decompressed(scratch, plain, DECOMPRESSED_GROUP_BATCH_BYTES_MAX)
            .map_err(|_| LoadError::Batch(base))?;
        for record in RecordsIter::new(records, batch.header.record_count) {
            let record = record.map_err(|_| LoadError::Batch(base))?;
            let offset = batch.header.offset_of(record.offset_delta);
            let key = record.key.ok_or(LoadError::NoKey(offset))?;
            let decoded = Record::decode(key, record.value).map_err(|cause| LoadError::Record { offset, cause })?;
            if let Some(decoded) = decoded {
                if let Record::OffsetCommit(key, Some(_)) = &decoded
                    && !loading.topics.contains(&key.topic)
                {
                    loading.topics.insert(key.topic.clone());
                }
                loading.coordinator.replay(&decoded);
            }
            loading.records += 1;
            if loading.records.is_multiple_of(GROUP_LOAD_RECORDS_PER_YIELD) {
                self.runtime.yield_now().await;
            }
        }
        Ok(())
    }

    fn on_loaded(self: &Rc<Self>, seat: &Rc<Seat>, loading: Loading) {
        let image = self.image();
        let Loading { mut coordinator, topics, .. } = loading;
        let step = coordinator.on_loaded(self.context(&image));
        *seat.state.borrow_mut() = State::Serving(coordinator);
        self.absorb_alone(seat, step);
        // A crash may have come between the removal of a topic and the tombstones of its offsets.
        let is_gone = |name: &String| image.topic(name).is_none();
        let mut deleted: Vec<Arc<str>> = topics.into_iter().filter(is_gone).map(Arc::from).collect();
        #[cfg(corelane_defect = "missed_topic_deletion")]
        deleted.clear();
        deleted.append(&mut seat.missed.borrow_mut());
        self.tell_metadata(seat, &deleted);
    }
}
