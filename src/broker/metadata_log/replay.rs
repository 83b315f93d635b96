//! Reading the metadata log at a start, also one of which a part is gone.
//!
//! A snapshot that is whole takes the place of all that stands before it; one without an end is as if it were not there.
//!
//! Records that are gone are never passed over in silence: the broker starts without them only when their loss is
//! accepted. Then what is left is applied record by record, where it still fits: a partition of a topic that nobody knows
//! any more does not. Counters that must never go back go forward instead, by as many steps as records may be gone
//! ([`raised`]), and the log begins anew, so that it has no hole.

use std::collections::BTreeSet;

use super::snapshot::{self, Contents, Snapshot};
use super::{MetadataError, removed_topics};
use crate::cluster::image::{ApplyError, MetadataImage};
use crate::cluster::records::{ProducerIdsRecord, Record};
use crate::limits::{METADATA_READ_BYTES, PRODUCER_ID_BLOCK};
use crate::protocol::record_batch::{RecordsIter, batches};
use crate::runtime::Runtime;
use crate::shard::partition::Partition;
use crate::store::{ReadError, Store};
use crate::types::{Offset, TopicId};

/// What the log says.
pub(super) struct Replayed {
    /// The state after its last record.
    pub(super) image: MetadataImage,
    /// Topics removed, but those that the last snapshot no longer knew.
    pub(super) removed: BTreeSet<TopicId>,
    /// Records that are gone or did not fit any more; 0 for a log that is whole.
    pub(super) lost: u64,
    /// What stands in it.
    pub(super) contents: Contents,
}

/// Applies the whole log to the state before its first record.
///
/// Errors: `Damaged` when a part of it is gone, unless the store was opened to accept that; `Record` for a record of a
/// newer program, which is never passed over.
pub(super) async fn replay<R: Runtime>(
    store: &Store<R>,
    partition: &Partition,
    empty: &MetadataImage,
) -> Result<Replayed, MetadataError> {
    let (start, end) = {
        let state = partition.state();
        (state.offsets.log_start(), state.offsets.high_watermark())
    };
    let mut reader = Reader::new(start, store.accepts_loss(), empty);
    while reader.next < end {
        let before = reader.next;
        let read = match store.read(partition.log, reader.next, end, METADATA_READ_BYTES, true).await {
            Ok(read) => read,
            Err(ReadError::Damaged { segment, cause, next_offset }) => {
                reader.step_to(next_offset.min(end), &format!("segment {segment}, {cause}"))?;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice()).copied().collect();
        reader.take_in(&bytes)?;
        reader.step_to(read.next_offset, "nothing is left of them")?;
        if reader.next == before {
            return Err(MetadataError::Batch(before));
        }
    }
    Ok(reader.finish())
}

/// The state with the counters that never go back further on by as many steps as records are lost.
pub(super) fn raised(image: &MetadataImage, lost: u64) -> Result<MetadataImage, ApplyError> {
    // A start raises epochs by one with one record, and takes one record for a block of producer ids.
    let epochs = i32::try_from(lost).unwrap_or(i32::MAX);
    let mut next = image.clone();
    for record in image.snapshot_records() {
        if let Record::Partition(mut partition) = record {
            partition.leader_epoch = partition.leader_epoch.saturating_add(epochs);
            partition.partition_epoch = partition.partition_epoch.saturating_add(epochs);
            next.apply_one(&partition.into())?;
        }
    }
    let ids = i64::try_from(lost).unwrap_or(i64::MAX).saturating_mul(PRODUCER_ID_BLOCK);
    let next_producer_id = image.next_producer_id().saturating_add(ids);
    next.apply_one(&ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id }.into())?;
    Ok(next)
}

struct Reader<'a> {
    next: Offset,
    accepts_loss: bool,
    empty: &'a MetadataImage,
    replayed: Replayed,
    /// A snapshot of which the end has not come yet.
    begun: Option<Begun>,
}

/// What a snapshot has told so far.
struct Begun {
    base_offset: Offset,
    bytes_before: u64,
    image: MetadataImage,
    removed: BTreeSet<TopicId>,
}

impl<'a> Reader<'a> {
    fn new(start: Offset, accepts_loss: bool, empty: &'a MetadataImage) -> Reader<'a> {
        let image = empty.clone();
        let replayed = Replayed { image, removed: BTreeSet::new(), lost: 0, contents: Contents::default() };
        Reader { next: start, accepts_loss, empty, replayed, begun: None }
    }

    /// Applies batches that stand back to back.
    fn take_in(&mut self, bytes: &[u8]) -> Result<(), MetadataError> {
        for batch in batches(bytes) {
            let batch = batch.map_err(|_| MetadataError::Batch(self.next))?;
            self.step_to(batch.header.base_offset, "nothing is left of them")?;
            let mut records = Vec::new();
            for record in RecordsIter::new(batch.records(), batch.header.record_count) {
                let record = record.map_err(|_| MetadataError::Batch(self.next))?;
                records.push(Record::decode(record.value.unwrap_or_default())?);
            }
            self.apply(&records, batch.bytes().len())?;
            self.next = batch.header.last_offset().advance(1);
        }
        Ok(())
    }

    /// The log goes on at `offset`; what should stand before it is gone.
    fn step_to(&mut self, offset: Offset, cause: &str) -> Result<(), MetadataError> {
        if offset <= self.next {
            return Ok(());
        }
        if !self.accepts_loss {
            return Err(MetadataError::Damaged { offset: self.next, cause: cause.to_owned() });
        }
        let (first, last) = (self.next, offset.value() - 1);
        tracing::warn!("metadata of the offsets {first} to {last} is lost ({cause}), and that was accepted");
        self.replayed.lost += u64::try_from(offset.since(first)).expect("a log goes forward");
        self.replayed.contents.snapshot = None;
        if let Some(begun) = self.begun.take()
            && begun.bytes_before == 0
        {
            // A part of a snapshot is better than nothing; what stands before it would be better than that.
            (self.replayed.image, self.replayed.removed) = (begun.image, begun.removed);
        }
        self.next = offset;
        Ok(())
    }

    /// Applies the records of one batch of so many bytes.
    fn apply(&mut self, records: &[Record], batch_bytes: usize) -> Result<(), MetadataError> {
        let bytes_before = self.replayed.contents.bytes;
        self.replayed.contents.bytes += u64::try_from(batch_bytes).expect("a size fits 64 bits");
        for record in records {
            match (record, self.begun.take()) {
                (begin, None) if snapshot::is_begin(begin) => {
                    let (image, removed) = (self.empty.clone(), BTreeSet::new());
                    self.begun = Some(Begun { base_offset: self.next, bytes_before, image, removed });
                }
                (Record::AbortTransaction(_), Some(_)) => {}
                (Record::EndTransaction(_), Some(begun)) => self.on_snapshot(begun),
                (Record::BeginTransaction(_), Some(_)) => return Err(ApplyError::NestedTransaction.into()),
                (record, Some(mut begun)) => {
                    begun.image.apply_one(record)?;
                    begun.removed.extend(removed_topics(std::slice::from_ref(record)));
                    self.begun = Some(begun);
                }
                (record, None) => self.apply_one(record)?,
            }
        }
        Ok(())
    }

    /// A snapshot is whole: nothing before it counts, nor what of that is lost.
    fn on_snapshot(&mut self, begun: Begun) {
        let Begun { base_offset, bytes_before, image, removed } = begun;
        let bytes = self.replayed.contents.bytes - bytes_before;
        let entries = snapshot::entries(&image);
        self.replayed.contents.snapshot = Some(Snapshot { base_offset, bytes_before, bytes, entries });
        (self.replayed.image, self.replayed.removed, self.replayed.lost) = (image, removed, 0);
    }

    fn apply_one(&mut self, record: &Record) -> Result<(), MetadataError> {
        #[cfg(not(corelane_defect = "missed_removal_forgotten"))]
        self.replayed.removed.extend(removed_topics(std::slice::from_ref(record)));
        if self.replayed.lost == 0 {
            return Ok(self.replayed.image.apply_one(record)?);
        }
        match self.replayed.image.apply(std::slice::from_ref(record)) {
            Ok(image) => self.replayed.image = image,
            Err(error) => self.pass_over(&error),
        }
        Ok(())
    }

    fn pass_over(&mut self, error: &ApplyError) {
        tracing::warn!("metadata at offset {} does not fit what is left and is passed over: {error}", self.next);
        self.replayed.lost += 1;
    }

    /// What was read, without a transaction that has no end: none will come.
    fn finish(mut self) -> Replayed {
        let aborted = self.replayed.image.apply(&[snapshot::abort()]);
        self.replayed.contents.is_torn =
            cfg!(not(corelane_defect = "torn_snapshot_not_aborted")) && (self.begun.is_some() || aborted.is_ok());
        if let Ok(image) = aborted {
            self.replayed.image = image;
        }
        self.replayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::records::{ConfigRecord, PartitionRecord, RemoveTopicRecord, TopicRecord};

    fn id(number: u8) -> TopicId {
        TopicId::new([number; 16])
    }

    fn topic(number: u8) -> Record {
        TopicRecord { name: format!("t{number}").into(), topic_id: id(number) }.into()
    }

    fn partition(topic: u8, leader_epoch: i32) -> Record {
        let (topic_id, partition_id, replicas) = (id(topic), 0, vec![0]);
        PartitionRecord { topic_id, partition_id, leader: 0, leader_epoch, replicas, ..PartitionRecord::default() }
            .into()
    }

    fn empty() -> MetadataImage {
        MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAA")
    }

    fn image(records: &[Record]) -> MetadataImage {
        empty().apply(records).unwrap()
    }

    fn snapshot(image: &MetadataImage, removed: &[TopicId]) -> Vec<Record> {
        snapshot::records(image, &removed.iter().copied().collect()).collect()
    }

    #[test]
    fn a_hole_is_refused_unless_that_is_accepted() {
        let empty = empty();
        let mut strict = Reader::new(Offset::ZERO, false, &empty);
        assert!(strict.step_to(Offset::ZERO, "").is_ok());
        let error = strict.step_to(Offset::new(3), "gone").unwrap_err().to_string();
        assert_eq!(
            error,
            "the metadata log is damaged at offset 0 (gone): restore it, or start with --accept-loss to go on without it"
        );
        let mut lenient = Reader::new(Offset::ZERO, true, &empty);
        lenient.step_to(Offset::new(3), "gone").unwrap();
        assert_eq!((lenient.next, lenient.replayed.lost), (Offset::new(3), 3));
    }

    #[test]
    fn what_does_not_fit_behind_a_hole_is_passed_over_and_nothing_else() {
        let config: Record = ConfigRecord {
            resource_type: 2,
            resource_name: "t2".into(),
            name: "retention.ms".into(),
            value: Some("7".into()),
        }
        .into();
        let records = [partition(1, 4), topic(2), partition(2, 4), config];
        let empty = empty();
        let strict = Reader::new(Offset::ZERO, true, &empty).apply(&records, 1);
        assert!(matches!(strict, Err(MetadataError::Apply(_))), "nothing is known to be gone");
        let mut lenient = Reader::new(Offset::ZERO, true, &empty);
        lenient.step_to(Offset::new(2), "gone").unwrap();
        lenient.apply(&records, 1).unwrap();
        let Replayed { image, lost, .. } = lenient.finish();
        assert_eq!((image.topic_count(), lost), (1, 3));
        assert_eq!(image.topic_configs("t2")["retention.ms"], "7");
    }

    #[test]
    fn counters_go_on_above_what_may_be_lost() {
        let image = raised(&image(&[topic(1), partition(1, 5)]), 3).unwrap();
        assert_eq!((image.topic_count(), image.next_producer_id()), (1, 3 * PRODUCER_ID_BLOCK));
        let partition = image.topic("t1").unwrap().partitions().next().unwrap().1;
        assert_eq!((partition.leader_epoch.value(), partition.partition_epoch.value()), (8, 2));
    }

    #[test]
    fn a_whole_snapshot_takes_the_place_of_what_stands_before_it() {
        let empty = empty();
        let later = image(&[topic(2), partition(2, 4)]);
        let mut reader = Reader::new(Offset::ZERO, false, &empty);
        reader
            .apply(&[topic(1), partition(1, 5), RemoveTopicRecord { topic_id: id(1) }.into(), topic(2)], 100)
            .unwrap();
        reader.next = Offset::new(4);
        let records = snapshot(&later, &[id(7), id(8)]);
        let (first, second) = records.split_at(4);
        reader.apply(first, 30).unwrap();
        reader.next = Offset::new(8);
        reader.apply(second, 20).unwrap();
        reader.apply(&[partition(2, 6)], 5).unwrap();
        let Replayed { image, removed, lost, contents } = reader.finish();
        assert_eq!(image, later.apply(&[partition(2, 6)]).unwrap());
        assert_eq!((removed, lost), (BTreeSet::from([id(7), id(8)]), 0));
        let snapshot = Snapshot { base_offset: Offset::new(4), bytes_before: 100, bytes: 50, entries: 2 };
        assert_eq!(contents, Contents { bytes: 155, snapshot: Some(snapshot), is_torn: false });
    }

    #[test]
    fn of_a_snapshot_without_an_end_nothing_counts() {
        let empty = empty();
        let records = snapshot(&image(&[topic(2), partition(2, 4)]), &[id(7)]);
        let before = [topic(1), partition(1, 5)];
        for count in 1..records.len() {
            let mut reader = Reader::new(Offset::ZERO, false, &empty);
            reader.apply(&before, 100).unwrap();
            reader.apply(&records[..count], 50).unwrap();
            let torn = Contents { bytes: 150, snapshot: None, is_torn: true };
            let Replayed { image: found, removed, contents, .. } = reader.finish();
            assert_eq!((found, removed, contents), (image(&before), BTreeSet::new(), torn));
            // The next life aborts it and goes on.
            let mut reader = Reader::new(Offset::ZERO, false, &empty);
            reader.apply(&before, 100).unwrap();
            reader.apply(&records[..count], 50).unwrap();
            reader.apply(&[snapshot::abort(), topic(3)], 10).unwrap();
            let Replayed { image: found, contents, .. } = reader.finish();
            assert_eq!((found, contents.is_torn), (image(&before).apply(&[topic(3)]).unwrap(), false));
        }
    }

    #[test]
    fn a_whole_snapshot_behind_a_hole_misses_nothing_and_a_hole_in_one_leaves_what_is_better() {
        let empty = empty();
        let all = image(&[topic(1), partition(1, 5), topic(2), partition(2, 4)]);
        let records = snapshot(&all, &[id(7)]);
        let mut whole = Reader::new(Offset::ZERO, true, &empty);
        whole.step_to(Offset::new(3), "gone").unwrap();
        whole.apply(&records, 50).unwrap();
        let Replayed { image: found, lost, .. } = whole.finish();
        assert_eq!((found, lost), (all.clone(), 0));
        // Behind the state that it was made of, a damaged snapshot is worth nothing; alone, it is all there is.
        for before in [vec![], vec![topic(1), partition(1, 5)]] {
            let mut reader = Reader::new(Offset::ZERO, true, &empty);
            if !before.is_empty() {
                reader.apply(&before, 100).unwrap();
            }
            reader.apply(&records[..records.len() - 2], 50).unwrap();
            let next = reader.next;
            reader.step_to(next.advance(2), "gone").unwrap();
            let Replayed { image: found, lost, contents, .. } = reader.finish();
            let expected = if before.is_empty() { all.topic_count() } else { 1 };
            assert_eq!((found.topic_count(), lost > 0, contents.snapshot), (expected, true, None));
        }
    }
}
