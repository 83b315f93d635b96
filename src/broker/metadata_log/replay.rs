//! Reading the metadata log at a start, also one of which a part is gone.
//!
//! Records that are gone are never passed over in silence: the broker starts without them only when their loss is
//! accepted. Then what is left is applied record by record, where it still fits: a partition of a topic that nobody knows
//! any more does not. Counters that must never go back go forward instead, by as many steps as records may be gone.
//! [`begin_anew`] gives the records from which a log begins that has no hole.

use std::collections::BTreeSet;

use super::{MetadataError, removed_topics};
use crate::cluster::image::{ApplyError, MetadataImage};
use crate::cluster::records::{ProducerIdsRecord, Record, RemoveTopicRecord, TopicRecord};
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
    /// Every topic ever removed.
    pub(super) removed: BTreeSet<TopicId>,
    /// Records that are gone or did not fit any more; 0 for a log that is whole.
    pub(super) lost: u64,
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
    let mut reader = Reader {
        next: start,
        accepts_loss: store.accepts_loss(),
        replayed: Replayed { image: empty.clone(), removed: BTreeSet::new(), lost: 0 },
    };
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
    Ok(reader.replayed)
}

struct Reader {
    next: Offset,
    accepts_loss: bool,
    replayed: Replayed,
}

impl Reader {
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
            self.apply(&records)?;
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
        self.next = offset;
        Ok(())
    }

    fn apply(&mut self, records: &[Record]) -> Result<(), MetadataError> {
        #[cfg(not(corelane_defect = "missed_removal_forgotten"))]
        self.replayed.removed.extend(removed_topics(records));
        if self.replayed.lost == 0 {
            self.replayed.image = self.replayed.image.apply(records)?;
            return Ok(());
        }
        for record in records {
            match self.replayed.image.apply(std::slice::from_ref(record)) {
                Ok(image) => self.replayed.image = image,
                Err(error) => self.pass_over(&error),
            }
        }
        Ok(())
    }

    fn pass_over(&mut self, error: &ApplyError) {
        tracing::warn!("metadata at offset {} does not fit what is left and is passed over: {error}", self.next);
        self.replayed.lost += 1;
    }
}

/// The records of a log that begins with this state, as one batch: whoever reads them finds the state, with the counters
/// that never go back further on by as many steps as records are lost, and learns which topics are gone.
pub(super) fn begin_anew(image: &MetadataImage, removed: &BTreeSet<TopicId>, lost: u64) -> Vec<Record> {
    let mut records: Vec<Record> = image.snapshot_records().collect();
    // A start raises epochs by one with one record, and takes one record for a block of producer ids.
    let epochs = i32::try_from(lost).unwrap_or(i32::MAX);
    for record in &mut records {
        if let Record::Partition(partition) = record {
            partition.leader_epoch = partition.leader_epoch.saturating_add(epochs);
            partition.partition_epoch = partition.partition_epoch.saturating_add(epochs);
        }
    }
    records.retain(|record| !matches!(record, Record::ProducerIds(_)));
    let ids = i64::try_from(lost).unwrap_or(i64::MAX).saturating_mul(PRODUCER_ID_BLOCK);
    let next_producer_id = image.next_producer_id().saturating_add(ids);
    records.push(ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id }.into());
    for topic in removed.iter().filter(|topic| image.topic_by_id(**topic).is_none()) {
        // Only a topic that is there can be removed.
        let name = format!("removed-{topic}").into();
        records.push(TopicRecord { name, topic_id: *topic }.into());
        records.push(RemoveTopicRecord { topic_id: *topic }.into());
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::records::{ConfigRecord, PartitionRecord};

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

    fn reader(accepts_loss: bool) -> Reader {
        let image = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAA");
        Reader { next: Offset::ZERO, accepts_loss, replayed: Replayed { image, removed: BTreeSet::new(), lost: 0 } }
    }

    #[test]
    fn a_hole_is_refused_unless_that_is_accepted() {
        let mut strict = reader(false);
        assert!(strict.step_to(Offset::ZERO, "").is_ok());
        let error = strict.step_to(Offset::new(3), "gone").unwrap_err().to_string();
        assert_eq!(
            error,
            "the metadata log is damaged at offset 0 (gone): restore it, or start with --accept-loss to go on without it"
        );
        let mut lenient = reader(true);
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
        assert!(matches!(reader(true).apply(&records), Err(MetadataError::Apply(_))), "nothing is known to be gone");
        let mut lenient = reader(true);
        lenient.step_to(Offset::new(2), "gone").unwrap();
        lenient.apply(&records).unwrap();
        let Replayed { image, lost, .. } = lenient.replayed;
        assert_eq!((image.topic_count(), lost), (1, 3));
        assert_eq!(image.topic_configs("t2")["retention.ms"], "7");
    }

    #[test]
    fn a_log_that_begins_anew_goes_on_above_what_may_be_lost() {
        let known = [topic(1), partition(1, 5)];
        let image = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAA").apply(&known).unwrap();
        let removed = BTreeSet::from([id(7), id(8)]);
        let records = begin_anew(&image, &removed, 3);
        let anew = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAA").apply(&records).unwrap();
        assert_eq!((anew.topic_count(), anew.next_producer_id()), (1, 3 * PRODUCER_ID_BLOCK));
        let partition = anew.topic("t1").unwrap().partitions().next().unwrap().1;
        assert_eq!(partition.leader_epoch.value(), 8);
        assert_eq!(removed_topics(&records), removed);
    }
}
