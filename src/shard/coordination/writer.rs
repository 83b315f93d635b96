//! How the records of steps become part of the log: batches, the task that appends them, and who waits for them.
//!
//! Steps of all groups of a coordinator that come while the task is busy share one batch, and the batches of all coordinators
//! of the shard share the next flush. Bounded: a batch takes no further step beyond [`GROUP_BATCH_BYTES_MAX`], and requests
//! wait for room while [`GROUP_QUEUE_BYTES_MAX`] bytes are not appended.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::{Coordination, Seat, load};
use crate::coordinator::records::Record;
use crate::coordinator::{Answer, Ticket};
use crate::limits::{GROUP_BATCH_BYTES_MAX, GROUP_QUEUE_BYTES_MAX, GROUP_RETRY_MS, GROUP_STEP_BYTES_MAX};
use crate::protocol::compression::Codec;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::BatchBuilder;
use crate::runtime::Runtime;
use crate::shard::Shard;
use crate::shard::levels::WaitError;
use crate::shard::mesh::ReplySender;
use crate::store::{Purpose, StorageError};
use crate::types::{Durability, LogPosition};

/// Who waits for a batch.
pub(super) enum Follower {
    /// A request that waits in a group, and its answer.
    Waiting(Ticket, Box<Answer>),
    /// A request that knows its answer.
    Request(ReplySender<Result<(), ErrorCode>>),
}

/// Records of some steps, and who waits for them.
pub(super) struct Batch {
    /// Taken when the batch is appended.
    builder: RefCell<Option<BatchBuilder>>,
    bytes: Cell<usize>,
    followers: RefCell<Vec<Follower>>,
}

impl Batch {
    fn new() -> Rc<Batch> {
        Rc::new(Batch {
            builder: RefCell::new(Some(BatchBuilder::new(Codec::None))),
            bytes: Cell::new(0),
            followers: RefCell::default(),
        })
    }

    pub(super) fn follow(&self, follower: Follower) {
        self.followers.borrow_mut().push(follower);
    }

    fn take_followers(&self) -> Vec<Follower> {
        std::mem::take(&mut *self.followers.borrow_mut())
    }
}

impl Seat {
    /// The batch that takes `bytes` more, if one does.
    fn open_batch(&self, bytes: usize) -> Option<Rc<Batch>> {
        let queue = self.queue.borrow();
        queue.back().filter(|batch| batch.bytes.get() + bytes <= GROUP_BATCH_BYTES_MAX).cloned()
    }
}

impl Coordination {
    /// Ends when a request may take its step, or never will soon.
    pub(super) async fn has_room(&self) {
        let is_over = || self.is_stopped.get() || self.is_full.get();
        let has_room = || self.queued_bytes.get() < GROUP_QUEUE_BYTES_MAX || is_over();
        if !has_room() {
            self.room.until(|| has_room().then_some(())).await;
        }
    }

    fn on_taken(&self, bytes: usize) {
        self.queued_bytes.set(self.queued_bytes.get() - bytes);
        self.room.ring();
    }
}

impl<R: Runtime> Shard<R> {
    /// Queues the records of one step: they go into one batch, so they are there whole or not at all.
    ///
    /// Errors: they are larger than any batch; the coordinator has ended then.
    pub(super) fn enqueue(self: &Rc<Self>, seat: &Rc<Seat>, records: &[Record]) -> Result<(), ErrorCode> {
        self.measure_records(records);
        #[cfg(corelane_defect = "step_torn")]
        let records = &records[..1];
        let encoded: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            records.iter().map(|record| (record.key(), record.value())).collect();
        let bytes = encoded.iter().map(|(key, value)| record_bytes(key, value.as_deref())).sum();
        if bytes > GROUP_STEP_BYTES_MAX {
            self.refuse_step(seat, bytes);
            return Err(ErrorCode::UnknownServerError);
        }
        let batch = seat.open_batch(bytes).unwrap_or_else(|| {
            let batch = Batch::new();
            seat.queue.borrow_mut().push_back(Rc::clone(&batch));
            *seat.newest.borrow_mut() = Some(Rc::clone(&batch));
            self.coordination.dirty.borrow_mut().push(Rc::clone(seat));
            self.coordination.work.ring();
            batch
        });
        let now = self.runtime.wall_clock();
        let mut builder = batch.builder.borrow_mut();
        let builder = builder.as_mut().expect("a batch in the queue is not taken yet");
        for (key, value) in &encoded {
            builder.append(now, Some(key), value.as_deref(), &[]);
        }
        batch.bytes.set(batch.bytes.get() + bytes);
        self.coordination.queued_bytes.set(self.coordination.queued_bytes.get() + bytes);
        Ok(())
    }

    /// The records of a step fit no batch, and the step cannot be taken back. Kafka gives UNKNOWN_SERVER_ERROR and goes back
    /// to the state before; here the coordinator goes back to what its log says.
    fn refuse_step(self: &Rc<Self>, seat: &Rc<Seat>, bytes: usize) {
        tracing::error!(
            "shard {}: a step of group coordinator {} has {bytes} bytes of records, more than {GROUP_STEP_BYTES_MAX}: it \
             loads again",
            self.id,
            seat.index,
        );
        self.fail_seat(seat, ErrorCode::CoordinatorLoadInProgress, ErrorCode::UnknownServerError);
        load::start(self, Rc::clone(seat));
    }

    fn measure_records(&self, records: &[Record]) {
        for record in records {
            match record {
                Record::OffsetCommit(_, Some(_)) => self.metrics.group_commits.add(1),
                Record::Group(_, Some(group)) if !group.members.is_empty() => self.metrics.group_rebalances.add(1),
                Record::ConsumerTargetMetadata(_, Some(_)) => self.metrics.group_rebalances.add(1),
                _ => {}
            }
        }
    }

    /// Appends a batch. A full store is waited for: the steps were taken and cannot be taken back. Who waits for them, or for
    /// any that come after, is sent away meanwhile with what Kafka makes of a disk that takes no more.
    async fn append_batch(self: &Rc<Self>, seat: &Rc<Seat>, batch: &Rc<Batch>) -> Result<LogPosition, StorageError> {
        let bytes = batch.builder.borrow_mut().take().expect("a batch is appended once").build();
        loop {
            let appended = self.append_internal(Purpose::Group, &seat.partition, &bytes).await;
            let is_full = matches!(appended, Err(StorageError::Full { .. }));
            self.coordination.is_full.set(is_full);
            if !is_full || self.is_stopping() {
                return appended;
            }
            self.coordination.room.ring();
            self.tell(batch, Err(ErrorCode::NotCoordinator));
            for seat in self.coordination.all_seats() {
                let queued: Vec<Rc<Batch>> = seat.queue.borrow().iter().cloned().collect();
                queued.iter().for_each(|batch| self.tell(batch, Err(ErrorCode::NotCoordinator)));
            }
            self.runtime.sleep(Duration::from_millis(GROUP_RETRY_MS)).await;
        }
    }

    /// Waits until a batch is durable and tells its followers. When that takes longer than Kafka's
    /// `offsets.commit.timeout.ms` they are told to come back; the batch stays appended.
    async fn settle_batch(self: Rc<Self>, seat: Rc<Seat>, batch: Rc<Batch>, position: LogPosition) {
        loop {
            let deadline = self.runtime.now().plus_ms(self.config.offsets_commit_timeout_ms);
            let outcome = self.wait(Durability::Flushed, position, deadline).await;
            if !matches!(outcome, Err(WaitError::TimedOut)) {
                seat.newest.borrow_mut().take_if(|newest| Rc::ptr_eq(newest, &batch));
            }
            match outcome {
                Ok(()) => {
                    self.tell(&batch, Ok(()));
                    return;
                }
                Err(WaitError::TimedOut) => self.tell(&batch, Err(ErrorCode::CoordinatorNotAvailable)),
                Err(WaitError::Storage(error)) => {
                    self.on_storage_failure(&seat, &batch, &error);
                    return;
                }
            }
        }
    }

    fn tell(&self, batch: &Batch, outcome: Result<(), ErrorCode>) {
        for follower in batch.take_followers() {
            self.complete(follower, outcome);
        }
    }

    /// What was not durable may be lost, so the coordinator ends. Kafka maps a failed disk, and a partition that is gone, to
    /// NOT_COORDINATOR.
    fn on_storage_failure(&self, seat: &Seat, batch: &Rc<Batch>, error: &StorageError) {
        if matches!(&*seat.state.borrow(), super::State::Serving(_)) {
            tracing::error!("shard {}: group coordinator {} ends: {error}", self.id, seat.index);
        }
        self.fail_seat(seat, ErrorCode::NotCoordinator, ErrorCode::NotCoordinator);
        seat.newest.borrow_mut().take_if(|newest| Rc::ptr_eq(newest, batch));
        self.tell(batch, Err(ErrorCode::NotCoordinator));
    }
}

/// Starts the task that appends. Steps that are taken while it waits for the log share the next batch.
pub(super) fn start<R: Runtime>(shard: &Rc<Shard<R>>) {
    let shard = Rc::clone(shard);
    shard.runtime.clone().spawn(async move {
        let coordination = &shard.coordination;
        loop {
            let has_work = || !coordination.dirty.borrow().is_empty() || shard.is_stopping();
            coordination.work.until(|| has_work().then_some(())).await;
            if shard.is_stopping() {
                return;
            }
            let dirty = std::mem::take(&mut *coordination.dirty.borrow_mut());
            for seat in dirty {
                let Some(batch) = seat.queue.borrow_mut().pop_front() else { continue };
                let appended = shard.append_batch(&seat, &batch).await;
                coordination.on_taken(batch.bytes.get());
                match appended {
                    Ok(position) => shard.runtime.spawn(Rc::clone(&shard).settle_batch(seat, batch, position)),
                    Err(error) => shard.on_storage_failure(&seat, &batch, &error),
                }
            }
        }
    });
}

/// Bytes of a record in a batch, at most: its key and value, three lengths and a timestamp.
fn record_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    const OVERHEAD_BYTES: usize = 32;
    key.len() + value.map_or(0, <[u8]>::len) + OVERHEAD_BYTES
}
