//! The metadata log begins anew with a snapshot, once it has grown to a few times what a snapshot takes: so what a start
//! reads, and what the log keeps on disk, follows what there is and not what there ever was.
//!
//! ```text
//! log start ──> [ what was | Begin, removals, image, End | what came since ] <── log end
//!   moves to ────────────────^ once all of the snapshot is durable
//! ```
//!
//! A snapshot is as many batches of bounded size as it needs, between which the core serves. Begin and End make them one: a
//! replay takes them whole, instead of all that stands before, or not at all. So a crash at any point leaves the same state:
//! a start ends what a crash left undone, by moving the log start, or by an abort of what has no end, ahead of the next record.
//!
//! A removal is kept until no shard can find anything of the topic again. Shards delete a topic's logs as soon as they hear of
//! the removal, but the entries that say so become durable on each disk at its own time, and a full disk has no room for them.
//! So every snapshot asks the shards first, and carries on the removals that one of them may still need after a crash.
//!
//! The rule is pure, its parts run in the one task that changes the metadata: no change comes between the records of a
//! snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{MetadataError, MetadataLog};
use crate::cluster::image::MetadataImage;
use crate::cluster::records::{
    AbortTransactionRecord, BeginTransactionRecord, EndTransactionRecord, Record, RemoveTopicRecord, TopicRecord,
};
use crate::limits::{
    METADATA_LOG_BYTES_MIN, METADATA_LOG_SNAPSHOTS_MAX, METADATA_SNAPSHOT_BATCH_BYTES, METADATA_SNAPSHOT_RETRY_MS,
};
use crate::protocol::compression::Codec;
use crate::protocol::record_batch::BatchBuilder;
use crate::runtime::Runtime;
use crate::shard::mesh::reply_slot;
use crate::shard::message::Message;
use crate::store::{Purpose, StorageError};
use crate::types::{Durability, LogPosition, Offset, TimestampMs, TopicId};

/// Name of the transaction that a snapshot is.
const SNAPSHOT: &str = "snapshot";

/// How the log begins anew.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotOptions {
    /// Size of the log below which it does not, in bytes: `limits::METADATA_LOG_BYTES_MIN`, less in tests.
    pub log_bytes_min: u64,
    /// Size of a batch of a snapshot, in bytes, one record more at most: `limits::METADATA_SNAPSHOT_BATCH_BYTES`, less in
    /// tests, whose snapshots would else be one batch.
    pub batch_bytes: usize,
}

impl Default for SnapshotOptions {
    fn default() -> SnapshotOptions {
        SnapshotOptions { log_bytes_min: METADATA_LOG_BYTES_MIN, batch_bytes: METADATA_SNAPSHOT_BATCH_BYTES }
    }
}

/// What stands in the log from its log start on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Contents {
    /// Bytes of its batches.
    pub(super) bytes: u64,
    /// The newest snapshot that is whole.
    pub(super) snapshot: Option<Snapshot>,
    /// The last transaction has no end: it is aborted before anything else is written.
    pub(super) is_torn: bool,
}

/// A snapshot in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Snapshot {
    /// Offset of its begin.
    pub(super) base_offset: Offset,
    /// Bytes of the batches that still stand before it; 0 once the log starts with it.
    pub(super) bytes_before: u64,
    /// Bytes of its batches.
    pub(super) bytes: u64,
    /// Topics and partitions in it.
    pub(super) entries: usize,
}

impl Contents {
    /// Whether the log is to begin anew: it is larger than `log_bytes_min` and [`METADATA_LOG_SNAPSHOTS_MAX`] snapshots, or
    /// it still holds what stands before the last one.
    fn is_due(&self, image: &MetadataImage, log_bytes_min: u64) -> bool {
        self.unfinished().is_some()
            || self.bytes > log_bytes_min + METADATA_LOG_SNAPSHOTS_MAX * self.snapshot_bytes(image)
    }

    /// A snapshot that is durable, with the log start still before it.
    fn unfinished(&self) -> Option<Snapshot> {
        self.snapshot.filter(|snapshot| snapshot.bytes_before > 0)
    }

    /// About what a snapshot takes now. Less than the last one did when most of what was in that is gone: a cluster of
    /// 10,000 topics that are deleted one after the other does not keep the log of 10,000.
    fn snapshot_bytes(&self, image: &MetadataImage) -> u64 {
        let Some(last) = self.snapshot else { return 0 };
        let count = |entries: usize| u64::try_from(entries).expect("a count fits 64 bits");
        let (now, then) = (count(entries(image)), count(last.entries));
        if now < then { last.bytes * now / then } else { last.bytes }
    }

    fn on_log_start(&mut self, snapshot: Snapshot) {
        self.bytes -= snapshot.bytes_before;
        self.snapshot = Some(Snapshot { bytes_before: 0, ..snapshot });
    }
}

/// Topics and partitions of an image, which nearly all of a snapshot is made of.
pub(super) fn entries(image: &MetadataImage) -> usize {
    image.topic_count() + image.partition_count()
}

/// Whether a record begins a snapshot.
pub(super) fn is_begin(record: &Record) -> bool {
    matches!(record, Record::BeginTransaction(begin) if begin.name.as_deref() == Some(SNAPSHOT))
}

/// What ends a transaction without an end.
pub(super) fn abort() -> Record {
    AbortTransactionRecord { reason: Some("it has no end".into()) }.into()
}

/// A snapshot: whoever reads it has the image and knows which topics are gone.
pub(super) fn records(image: &MetadataImage, removed: &BTreeSet<TopicId>) -> impl Iterator<Item = Record> {
    let begin = BeginTransactionRecord { name: Some(SNAPSHOT.into()) };
    // Only a topic that is there can be removed. They come first, while no name is taken.
    let removals = removed.iter().flat_map(|topic_id| {
        let name = format!("removed-{topic_id}").into();
        [TopicRecord { name, topic_id: *topic_id }.into(), RemoveTopicRecord { topic_id: *topic_id }.into()]
    });
    #[cfg(corelane_defect = "snapshot_forgets_removal")]
    let removals = removals.take(0);
    let all = std::iter::once(begin.into()).chain(removals).chain(image.snapshot_records());
    let all = all.chain(std::iter::once(EndTransactionRecord {}.into()));
    #[cfg(corelane_defect = "snapshot_without_transaction")]
    let all = all.filter(|record| !matches!(record, Record::BeginTransaction(_) | Record::EndTransaction(_)));
    all
}

/// Records in batches of `batch_bytes`, one record more at most, each made when it is asked for.
fn batches(
    mut records: impl Iterator<Item = Record>,
    batch_bytes: usize,
    now: TimestampMs,
) -> impl Iterator<Item = Vec<u8>> {
    std::iter::from_fn(move || {
        let mut builder = BatchBuilder::new(Codec::None);
        while builder.uncompressed_bytes() < batch_bytes
            && let Some(record) = records.next()
        {
            builder.append(now, None, Some(&record.encode()), &[]);
        }
        (builder.record_count() > 0).then(|| builder.build())
    })
}

impl<R: Runtime> MetadataLog<R> {
    /// Bytes of the log's batches, from its log start on.
    pub fn log_bytes(&self) -> u64 {
        self.contents.get().bytes
    }

    /// Lets the log begin anew when it is due. Room that is missing is no failure: the log stays as it is, and the next
    /// change after a while finds it due again.
    pub(super) async fn begin_anew_if_due(&self) {
        let now = self.shard.runtime.now();
        if now < self.next_snapshot.get() || !self.contents.get().is_due(&self.image(), self.options.log_bytes_min) {
            return;
        }
        let bytes = self.log_bytes();
        match self.begin_anew(Purpose::Client).await {
            Ok(_) => tracing::info!("the metadata log begins anew: {} of {bytes} bytes are left", self.log_bytes()),
            Err(error) => {
                self.next_snapshot.set(now.plus_ms(METADATA_SNAPSHOT_RETRY_MS));
                if !matches!(error, MetadataError::Storage(StorageError::Full { .. } | StorageError::Closed)) {
                    tracing::error!("the metadata log cannot begin anew: {error}");
                }
            }
        }
    }

    /// Moves the log start to a snapshot: to one of now, unless one was written before and is all that is needed. Gives
    /// the position whose flush makes the log start durable.
    pub(super) async fn begin_anew(&self, purpose: Purpose) -> Result<LogPosition, MetadataError> {
        let snapshot = match self.contents.get().unfinished() {
            Some(written) => written,
            None => self.write_snapshot(purpose).await?,
        };
        let position = self.shard.move_log_start(&self.partition, snapshot.base_offset)?;
        self.change_contents(|contents| contents.on_log_start(snapshot));
        Ok(position)
    }

    /// Ends when a snapshot of the newest image is durable. Others have the core between its batches.
    async fn write_snapshot(&self, purpose: Purpose) -> Result<Snapshot, MetadataError> {
        self.forget_removals().await;
        if self.contents.get().is_torn {
            self.write(purpose, &[]).await?;
        }
        let (image, removed) = (self.image(), self.removed.borrow().clone());
        let base_offset = self.partition.state().offsets.log_end();
        let bytes_before = self.log_bytes();
        let mut position = LogPosition::default();
        let now = self.shard.runtime.wall_clock();
        for batch in batches(records(&image, &removed), self.options.batch_bytes, now) {
            position = self.append_batch(purpose, &batch).await?;
            self.change_contents(|contents| contents.is_torn = true);
            self.shard.runtime.yield_now().await;
        }
        self.shard.wait_for_good(Durability::Flushed, position).await?;
        let bytes = self.log_bytes() - bytes_before;
        let snapshot = Snapshot { base_offset, bytes_before, bytes, entries: entries(&image) };
        self.change_contents(|contents| {
            contents.is_torn = false;
            contents.snapshot = Some(snapshot);
        });
        Ok(snapshot)
    }

    /// Asks every shard which of the removed topics it may find again, and forgets the others.
    async fn forget_removals(&self) {
        let removed = Arc::new(self.removed.borrow().clone());
        if removed.is_empty() {
            return;
        }
        let mut receivers = Vec::new();
        for lane in &self.lanes[1..] {
            let (reply, receiver) = reply_slot();
            // A shard that is shutting down answers nothing, and may need them all.
            let _ = lane.send(Message::Removals(Arc::clone(&removed), reply)).await;
            receivers.push(receiver);
        }
        let mut needed = self.shard.removals_needed(&removed);
        for receiver in receivers {
            match receiver.receive().await {
                Some(of_shard) => needed.extend(of_shard),
                None => return,
            }
        }
        *self.removed.borrow_mut() = needed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::records::{ConfigRecord, PartitionRecord};
    use crate::protocol::record_batch::{BatchView, RecordsIter};

    fn id(number: u32) -> TopicId {
        let mut bytes = [7; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        TopicId::new(bytes)
    }

    fn topics(numbers: std::ops::Range<u32>) -> MetadataImage {
        let mut image = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAA");
        for number in numbers {
            let topic_id = id(number);
            let topic = TopicRecord { name: format!("topic-of-a-common-length-{number}").into(), topic_id };
            image.apply_one(&topic.into()).unwrap();
            let (replicas, isr) = (vec![1], vec![1]);
            let partition =
                PartitionRecord { partition_id: 0, topic_id, leader: 1, replicas, isr, ..Default::default() };
            image.apply_one(&partition.into()).unwrap();
        }
        image
    }

    fn read(batch: &[u8]) -> Vec<Record> {
        let batch = BatchView::parse(batch).unwrap();
        let records = RecordsIter::new(batch.records(), batch.header.record_count);
        records.map(|record| Record::decode(record.unwrap().value.unwrap()).unwrap()).collect()
    }

    #[test]
    fn a_snapshot_is_batches_of_bounded_size_that_give_the_image_again() {
        let long = ConfigRecord {
            resource_type: 4,
            resource_name: "".into(),
            name: "some.list".into(),
            value: Some("x".repeat(30_000).into()),
        };
        let image = topics(0..3000).apply(&[long.into()]).unwrap();
        let removed = BTreeSet::from([id(5000), id(5001)]);
        let mut again = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAA");
        let (mut count, mut gone) = (0, BTreeSet::new());
        for batch in batches(records(&image, &removed), 5000, TimestampMs::new(1)) {
            assert!(batch.len() < 5000 + 31_000, "{} bytes", batch.len());
            for record in read(&batch) {
                again.apply_one(&record).unwrap();
                gone.extend(super::super::removed_topics(&[record]));
            }
            count += 1;
        }
        assert!(count > 10, "{count} batches");
        assert_eq!((again, gone), (image, removed));
    }

    #[test]
    fn a_log_is_due_by_what_a_snapshot_takes_now() {
        let (many, few) = (topics(0..100), topics(0..10));
        let snapshot = |bytes_before| {
            Some(Snapshot { base_offset: Offset::ZERO, bytes_before, bytes: 10_000, entries: entries(&many) })
        };
        let log = |bytes, bytes_before| Contents { bytes, snapshot: snapshot(bytes_before), is_torn: false };
        let min = 1000;
        assert!(!Contents { bytes: min, ..Contents::default() }.is_due(&many, min));
        assert!(Contents { bytes: min + 1, ..Contents::default() }.is_due(&many, min));
        assert!(!log(41_000, 0).is_due(&many, min));
        assert!(log(41_001, 0).is_due(&many, min));
        // Nine of ten topics are gone, and so is what they took.
        assert!(!log(5000, 0).is_due(&few, min));
        assert!(log(5001, 0).is_due(&few, min));
        // More topics than then do not show before the next snapshot.
        assert!(log(41_001, 0).is_due(&topics(0..200), min));
        // The log start was not moved.
        assert!(log(12_000, 1).is_due(&many, min));
    }
}
