//! What becomes of one batch: it stays as it is, loses records, stays empty, or goes.
//!
//! A record stays if it lies at or above the end of what the map knows; else if it is the last of its key and has a value, or is a
//! tombstone that may not go yet. A record without a key goes. A batch that holds a tombstone gets a delete horizon from
//! the first pass that writes it: the time of the pass and `delete.retention.ms`; from then on the tombstone may go.
//!
//! A batch of which nothing stays is kept without records if its producer's last data is in it, since the producer's
//! sequence continues from it (until the producer is forgotten), and if it ends at the bound of the pass, since nothing else
//! tells a replica where the log went on (KAFKA-17076). The next pass has another bound and drops it.
//!
//! **Transactions**: the rules are Kafka's and whole, but who knows of transactions is the caller
//! ([`BatchFacts::is_discardable`]). As long as it never says that a batch is, markers stay for ever, and every record counts.
//! That is right while there are none: a marker in the log is one that was not written here, and of its transaction
//! nothing is known.

use crate::compaction::keys::KeyMap;
use crate::compaction::pass::{Pass, Tools};
use crate::compaction::unpack::{DamagedBatch, Unpacked, Unpacking, records};
use crate::limits::COMPACTION_STEP_RECORDS;
use crate::protocol::compression::{Compressor, Scratch};
use crate::protocol::record_batch::{
    BatchHeader, BatchView, CrcCheck, IntactBatch, Kept, Rebuild, RebuildStep, Record, RecordsIter, RecordsPosition,
};
use crate::types::{Offset, ProducerEpoch, TimestampMs};

/// What the log knows of a batch beyond its bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BatchFacts {
    /// The last that the batch's producer wrote, if the producer is still known.
    pub last_of_producer: Option<LastOfProducer>,
    /// Nobody needs the batch: it is data of a transaction that was aborted, or a marker of one of which no data is left.
    /// Kafka's `CleanedTransactionMetadata` says this.
    pub is_discardable: bool,
}

/// The last that a producer wrote to the log: Kafka's `LastRecord`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LastOfProducer {
    /// A record at this offset.
    Data(Offset),
    /// A marker of this epoch, and no data that is still remembered.
    Marker(ProducerEpoch),
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It stays, byte for byte.
    Verbatim,
    /// The tools' [`output`](Tools::output) stands in its place: fewer records, a delete horizon, or both.
    Rebuilt,
    /// The tools' output stands in its place: its header, without records.
    Emptied,
    /// Nothing stands in its place.
    Dropped,
}

/// Where the filtering of a batch stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FilterStep {
    /// There is more to do.
    More,
    /// It is done.
    Done(Outcome),
}

/// One batch under way.
pub struct Filtering<'a> {
    pass: &'a mut Pass,
    keys: &'a KeyMap,
    facts: BatchFacts,
    batch: BatchView<'a>,
    scratch: Option<&'a mut Scratch>,
    compressor: &'a mut Compressor,
    plain: &'a mut Vec<u8>,
    kept: &'a mut Kept,
    out: &'a mut Vec<u8>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Check(CrcCheck<'a>),
    Unpack(Unpacking<'a>),
    Choose(Choosing<'a>),
    Rebuild(IntactBatch<'a>, Rebuild),
}

#[derive(Clone, Copy)]
struct Choosing<'a> {
    batch: IntactBatch<'a>,
    position: RecordsPosition,
    /// Of the last record looked at.
    offset_delta: i32,
    /// One of the records that stay has no value.
    has_tombstone: bool,
}

impl<'a> Filtering<'a> {
    /// Begins. Batches are given in ascending order from the log's start while their base offset is below the end of what the
    /// map knows. The map is closed.
    pub fn new(
        batch: BatchView<'a>,
        facts: BatchFacts,
        pass: &'a mut Pass,
        keys: &'a KeyMap,
        tools: &'a mut Tools,
    ) -> Filtering<'a> {
        let Tools { scratch, compressor, plain, kept, out } = tools;
        let stage = Stage::Check(CrcCheck::new(batch));
        Filtering { pass, keys, facts, batch, scratch: Some(scratch), compressor, plain, kept, out, stage }
    }

    /// Goes on for some tens of microseconds; a step that completes a block of a codec takes what the block takes, and one
    /// record is looked at whole. Counts in the pass when it is done.
    pub fn step(&mut self) -> Result<FilterStep, DamagedBatch> {
        match &mut self.stage {
            Stage::Check(check) => match check.step() {
                None => Ok(FilterStep::More),
                Some(intact) => self.on_intact(intact?),
            },
            Stage::Unpack(unpacking) => {
                let batch = unpacking.batch();
                match unpacking.step(self.plain)? {
                    Unpacked::Part => {}
                    Unpacked::Whole => self.begin_to_choose(batch),
                    Unpacked::TooLarge => return Ok(self.too_large()),
                }
                Ok(FilterStep::More)
            }
            Stage::Choose(_) => self.choose(),
            Stage::Rebuild(batch, rebuild) => {
                let records = records(batch, self.plain);
                match rebuild.step(records, self.kept, self.compressor, self.out) {
                    RebuildStep::More => Ok(FilterStep::More),
                    RebuildStep::Done => Ok(self.done(Outcome::Rebuilt)),
                    RebuildStep::TooLarge => Ok(self.too_large()),
                }
            }
        }
    }

    /// Decides what can be decided by the header.
    fn on_intact(&mut self, batch: IntactBatch<'a>) -> Result<FilterStep, DamagedBatch> {
        DamagedBatch::check_range(&batch)?;
        let header = batch.header();
        if self.discards_all(header) {
            return Ok(self.without_records(&batch));
        }
        if header.record_count == 0 {
            let is_kept = self.is_kept_empty(header);
            return Ok(self.done(if is_kept { Outcome::Verbatim } else { Outcome::Dropped }));
        }
        if header.is_control() && !self.gets_horizon(header, false) {
            return Ok(self.done(Outcome::Verbatim));
        }
        let scratch = self.scratch.take().expect("a batch is unpacked once");
        self.stage = Stage::Unpack(Unpacking::new(batch, scratch, self.plain)?);
        Ok(FilterStep::More)
    }

    fn begin_to_choose(&mut self, batch: IntactBatch<'a>) {
        self.kept.clear();
        let position = RecordsPosition::default();
        self.stage = Stage::Choose(Choosing { batch, position, offset_delta: -1, has_tombstone: false });
    }

    /// Says of the next records whether they stay; after the last, what becomes of the batch.
    fn choose(&mut self) -> Result<FilterStep, DamagedBatch> {
        let Stage::Choose(mut choosing) = self.stage else { unreachable!("called in this stage") };
        let batch = choosing.batch;
        let header = batch.header();
        let mut iterator = RecordsIter::resume(records(&batch, self.plain), header.record_count, choosing.position);
        for _ in 0..COMPACTION_STEP_RECORDS {
            let index = iterator.position().index();
            let Some(record) = iterator.next() else { return Ok(self.on_chosen(&batch, choosing.has_tombstone)) };
            let record = record.map_err(|cause| DamagedBatch::records(&batch, cause))?;
            DamagedBatch::check_offset(&batch, index, choosing.offset_delta, record.offset_delta)?;
            choosing.offset_delta = record.offset_delta;
            let is_kept = header.is_control() || self.keeps(header, &record);
            choosing.has_tombstone |= is_kept && record.value.is_none();
            self.kept.push(is_kept);
        }
        choosing.position = iterator.position();
        self.stage = Stage::Choose(choosing);
        Ok(FilterStep::More)
    }

    fn on_chosen(&mut self, batch: &IntactBatch<'a>, has_tombstone: bool) -> FilterStep {
        if self.kept.count() == 0 {
            return self.without_records(batch);
        }
        let header = batch.header();
        let gets_horizon = self.gets_horizon(header, has_tombstone);
        if self.kept.is_all() && !gets_horizon {
            return self.done(Outcome::Verbatim);
        }
        let horizon = if gets_horizon { self.pass.delete_horizon } else { header.delete_horizon() };
        self.pass.counts.horizons_set += u64::from(gets_horizon);
        self.stage = Stage::Rebuild(*batch, Rebuild::new(batch, horizon));
        FilterStep::More
    }

    /// Whether no record of the batch is needed, whatever its key: aborted data goes at once, a marker once its horizon is
    /// over.
    fn discards_all(&self, header: &BatchHeader) -> bool {
        let is_over = |horizon: TimestampMs| horizon <= self.pass.now;
        self.facts.is_discardable && (!header.is_control() || header.delete_horizon().is_some_and(is_over))
    }

    fn keeps(&self, header: &BatchHeader, record: &Record<'_>) -> bool {
        let offset = header.offset_of(record.offset_delta);
        if offset >= self.keys.end() {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_last = self.keys.last_offset(key).is_none_or(|last| offset >= last);
        is_last && (record.value.is_some() || self.keeps_tombstones(header))
    }

    fn keeps_tombstones(&self, header: &BatchHeader) -> bool {
        self.pass.holds_tombstones || header.delete_horizon().is_none_or(|horizon| self.pass.now < horizon)
    }

    /// Whether this pass sets the batch's delete horizon: for its tombstones, or for a marker that has become useless.
    fn gets_horizon(&self, header: &BatchHeader, has_tombstone: bool) -> bool {
        let is_useless_marker = header.is_control() && self.facts.is_discardable;
        (has_tombstone || is_useless_marker) && header.delete_horizon().is_none() && self.pass.delete_horizon.is_some()
    }

    fn is_kept_empty(&self, header: &BatchHeader) -> bool {
        let is_last_of_producer = header.has_producer()
            && cfg!(not(corelane_defect = "producer_batch_lost"))
            && match self.facts.last_of_producer {
                Some(LastOfProducer::Data(offset)) => header.last_offset() == offset,
                Some(LastOfProducer::Marker(epoch)) => header.is_control() && header.producer_epoch == epoch,
                None => false,
            };
        let ends_at_bound =
            cfg!(not(corelane_defect = "end_batch_lost")) && header.last_offset().advance(1) == self.pass.bound;
        is_last_of_producer || ends_at_bound
    }

    fn without_records(&mut self, batch: &IntactBatch<'_>) -> FilterStep {
        if !self.is_kept_empty(batch.header()) {
            return self.done(Outcome::Dropped);
        }
        self.out.clear();
        self.out.extend_from_slice(&batch.without_records());
        self.done(Outcome::Emptied)
    }

    /// The batch stays as it is, and tombstones above it with it.
    fn too_large(&mut self) -> FilterStep {
        self.pass.holds_tombstones = true;
        self.pass.counts.too_large += 1;
        self.done(Outcome::Verbatim)
    }

    fn done(&mut self, outcome: Outcome) -> FilterStep {
        let counts = &mut self.pass.counts;
        let (count, bytes_after) = match outcome {
            Outcome::Verbatim => (&mut counts.verbatim, self.batch.bytes().len()),
            Outcome::Rebuilt => (&mut counts.rebuilt, self.out.len()),
            Outcome::Emptied => (&mut counts.emptied, self.out.len()),
            Outcome::Dropped => (&mut counts.dropped, 0),
        };
        *count += 1;
        counts.batches += 1;
        counts.bytes_before += bytes(self.batch.bytes().len());
        counts.bytes_after += bytes(bytes_after);
        FilterStep::Done(outcome)
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compaction::keys::{CollectStep, Collecting};
    use crate::compaction::pass::Counts;
    use crate::compaction::rules::CompactionRules;
    use crate::limits::COMPACTED_BATCH_BYTES_MAX;
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::{BatchBuilder, DELETE_HORIZON_BIT, stamp};
    use crate::types::{LeaderEpoch, ProducerId, Sequence};

    const RULES: CompactionRules = CompactionRules {
        segment_bytes: 1000,
        segment_ms: 1000,
        segment_jitter_ms: 0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        dirty_ratio_min: 0.5,
        delete_retention_ms: 100,
    };

    /// A log, and what is known of its batches.
    struct Log {
        batches: Vec<(Vec<u8>, BatchFacts)>,
        end: i64,
        clean_end: i64,
    }

    impl Log {
        fn new() -> Log {
            Log { batches: Vec::new(), end: 0, clean_end: 0 }
        }

        fn append(&mut self, records: &[(&str, Option<&str>)], build: impl FnOnce(&mut BatchBuilder)) -> &mut Log {
            let mut builder = BatchBuilder::new(Codec::Snappy);
            for (key, value) in records {
                builder.append(TimestampMs::new(5000), Some(key.as_bytes()), value.map(str::as_bytes), &[]);
            }
            build(&mut builder);
            let mut bytes = builder.build();
            stamp(bytes.first_chunk_mut().unwrap(), Offset::new(self.end), LeaderEpoch::new(1));
            self.end += i64::try_from(records.len()).unwrap();
            self.batches.push((bytes, BatchFacts::default()));
            self
        }

        fn values(&mut self, records: &[(&str, Option<&str>)]) -> &mut Log {
            self.append(records, |_| {})
        }

        fn facts(&mut self, facts: BatchFacts) -> &mut Log {
            self.batches.last_mut().unwrap().1 = facts;
            self
        }

        /// A pass over all of it, as at `now`, with what comes of each batch.
        fn pass(&mut self, now: i64) -> (Vec<Outcome>, Counts) {
            let mut keys = KeyMap::new(1000, [3, 4]);
            let mut tools = Tools::new();
            keys.begin(Offset::new(self.clean_end), Offset::new(self.end));
            while !keys.clear_step() {}
            for (batch, facts) in &self.batches {
                let mut collecting = Collecting::new(BatchView::parse(batch).unwrap(), *facts, &mut keys, &mut tools);
                while collecting.step().unwrap() != CollectStep::Taken {}
            }
            keys.close();
            let mut pass = Pass::new(Offset::new(self.end), &RULES, TimestampMs::new(now));
            let mut outcomes = Vec::new();
            self.batches.retain_mut(|(batch, facts)| {
                let view = BatchView::parse(batch).unwrap();
                let mut filtering = Filtering::new(view, *facts, &mut pass, &keys, &mut tools);
                let outcome = loop {
                    if let FilterStep::Done(outcome) = filtering.step().unwrap() {
                        break outcome;
                    }
                };
                outcomes.push(outcome);
                if matches!(outcome, Outcome::Rebuilt | Outcome::Emptied) {
                    *batch = tools.output().to_vec();
                }
                outcome != Outcome::Dropped
            });
            self.clean_end = keys.end().value();
            (outcomes, pass.counts())
        }

        fn header(&self, index: usize) -> BatchHeader {
            BatchView::parse(&self.batches[index].0).unwrap().header
        }

        fn rows(&self) -> Vec<(i64, String, Option<String>)> {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let mut rows = Vec::new();
            for (batch, _) in &self.batches {
                let view = BatchView::parse(batch).unwrap();
                let mut out = Vec::new();
                let records = view.decompressed(&mut Scratch::new(), &mut out, usize::MAX).unwrap();
                for record in RecordsIter::new(records, view.header.record_count) {
                    let record = record.unwrap();
                    let offset = view.header.offset_of(record.offset_delta).value();
                    rows.push((offset, text(record.key.unwrap()), record.value.map(text)));
                }
            }
            rows
        }
    }

    fn row(offset: i64, key: &str, value: Option<&str>) -> (i64, String, Option<String>) {
        (offset, key.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn the_last_record_of_each_key_stays_at_its_offset() {
        let mut log = Log::new();
        log.values(&[("a", Some("1")), ("b", Some("2"))]).values(&[("a", Some("3"))]).values(&[("c", Some("4"))]);
        let (outcomes, counts) = log.pass(10_000);
        assert_eq!(outcomes, [Outcome::Rebuilt, Outcome::Verbatim, Outcome::Verbatim]);
        assert_eq!(log.rows(), [row(1, "b", Some("2")), row(2, "a", Some("3")), row(3, "c", Some("4"))]);
        assert_eq!((counts.batches, counts.rebuilt, counts.verbatim), (3, 1, 2));
        assert!(counts.bytes_after < counts.bytes_before);
        log.values(&[("b", Some("5"))]);
        assert_eq!(log.pass(10_000).0[0], Outcome::Dropped);
        assert_eq!(log.rows(), [row(2, "a", Some("3")), row(3, "c", Some("4")), row(4, "b", Some("5"))]);
    }

    #[test]
    fn a_tombstone_goes_once_the_horizon_that_its_first_pass_set_is_over() {
        let mut log = Log::new();
        log.values(&[("a", Some("1"))]).values(&[("a", None), ("b", Some("2"))]).values(&[("c", Some("3"))]);
        let (outcomes, counts) = log.pass(10_000);
        assert_eq!((&outcomes[..2], counts.horizons_set), (&[Outcome::Dropped, Outcome::Rebuilt][..], 1));
        assert_eq!(log.header(0).delete_horizon(), Some(TimestampMs::new(10_100)));
        assert_eq!(log.header(0).max_timestamp, TimestampMs::new(5000));
        assert_eq!(log.pass(10_099).0[0], Outcome::Verbatim);
        assert_eq!(log.rows()[0], row(1, "a", None));
        let (outcomes, counts) = log.pass(10_100);
        assert_eq!((outcomes[0], counts.horizons_set), (Outcome::Rebuilt, 0));
        assert_eq!(log.rows(), [row(2, "b", Some("2")), row(3, "c", Some("3"))]);
        assert_eq!(log.header(0).delete_horizon(), Some(TimestampMs::new(10_100)), "it stays the batch's");
    }

    #[test]
    fn a_horizon_beyond_the_end_of_time_is_none() {
        let mut log = Log::new();
        log.values(&[("a", None)]);
        assert_eq!(log.pass(i64::MAX - 1).0, [Outcome::Verbatim]);
        assert_eq!(log.header(0).delete_horizon(), None);
    }

    #[test]
    fn an_empty_batch_stays_while_its_producer_needs_it() {
        let producer = |builder: &mut BatchBuilder| {
            builder.producer(ProducerId::new(9), ProducerEpoch::new(0), Sequence::new(6));
        };
        let last = |offset| BatchFacts {
            last_of_producer: Some(LastOfProducer::Data(Offset::new(offset))),
            ..BatchFacts::default()
        };
        let mut log = Log::new();
        log.append(&[("a", Some("1")), ("b", Some("1"))], producer).facts(last(3));
        log.append(&[("a", Some("2")), ("b", Some("2"))], producer).facts(last(3));
        log.values(&[("a", Some("3")), ("b", Some("3"))]);
        assert_eq!(log.pass(1).0, [Outcome::Dropped, Outcome::Emptied, Outcome::Verbatim]);
        let header = log.header(0);
        assert_eq!((header.record_count, header.last_offset()), (0, Offset::new(3)));
        assert_eq!((header.base_sequence, header.last_sequence()), (Sequence::new(6), Sequence::new(7)));
        assert_eq!(log.pass(2).0, [Outcome::Verbatim; 2]);
        log.batches[0].1 = BatchFacts::default();
        assert_eq!(log.pass(3).0, [Outcome::Dropped, Outcome::Verbatim]);
    }

    #[test]
    fn the_batch_that_ends_at_the_bound_stays_for_one_pass() {
        let mut log = Log::new();
        log.values(&[("a", Some("1"))]).values(&[("b", None)]);
        log.pass(1000);
        log.values(&[("c", None), ("d", None)]);
        assert_eq!(log.pass(1050).0, [Outcome::Verbatim, Outcome::Verbatim, Outcome::Rebuilt]);
        // A pass whose bound is that of the one before, as after a crash: its last batch has become empty, and stays.
        assert_eq!(log.pass(1200).0, [Outcome::Verbatim, Outcome::Dropped, Outcome::Emptied]);
        assert_eq!(log.header(1).last_offset(), Offset::new(3));
        log.values(&[("e", Some("1"))]);
        assert_eq!(log.pass(1300).0, [Outcome::Verbatim, Outcome::Dropped, Outcome::Verbatim]);
    }

    #[test]
    fn markers_stay_until_they_are_useless_and_their_horizon_is_over() {
        let marker = |builder: &mut BatchBuilder| {
            builder.producer(ProducerId::new(9), ProducerEpoch::new(2), Sequence::new(-1)).transactional().control();
        };
        let useless = BatchFacts { is_discardable: true, ..BatchFacts::default() };
        let mut log = Log::new();
        log.append(&[("\0\0\0\x01", Some("coordinator"))], marker).values(&[("a", Some("1"))]);
        assert_eq!(log.pass(1).0, [Outcome::Verbatim; 2]);
        log.batches[0].1 = useless;
        let (outcomes, counts) = log.pass(2);
        assert_eq!((outcomes[0], counts.horizons_set), (Outcome::Rebuilt, 1));
        assert_eq!((log.header(0).delete_horizon(), log.header(0).is_control()), (Some(TimestampMs::new(102)), true));
        assert_eq!(log.pass(101).0[0], Outcome::Verbatim);
        let mut of_producer = log.batches[0].clone();
        of_producer.1.last_of_producer = Some(LastOfProducer::Marker(ProducerEpoch::new(2)));
        assert_eq!(log.pass(102).0, [Outcome::Dropped, Outcome::Verbatim]);
        log.batches.insert(0, of_producer);
        assert_eq!(log.pass(102).0, [Outcome::Emptied, Outcome::Verbatim]);
    }

    #[test]
    fn aborted_data_goes_whatever_its_keys_and_supersedes_nothing() {
        let useless = BatchFacts { is_discardable: true, ..BatchFacts::default() };
        let mut log = Log::new();
        log.values(&[("a", Some("1"))]);
        log.append(&[("a", Some("2")), ("z", Some("2"))], |builder| {
            builder.producer(ProducerId::new(9), ProducerEpoch::new(2), Sequence::new(0)).transactional();
        });
        log.facts(useless).values(&[("b", Some("3"))]);
        assert_eq!(log.pass(1).0, [Outcome::Verbatim, Outcome::Dropped, Outcome::Verbatim]);
        assert_eq!(log.rows(), [row(0, "a", Some("1")), row(3, "b", Some("3"))]);
    }

    #[test]
    fn what_is_too_large_stays_and_so_do_the_tombstones_above_it() {
        let large = "x".repeat(COMPACTED_BATCH_BYTES_MAX / 4);
        let mut log = Log::new();
        log.values(&[("old", None)]);
        log.values(&[
            ("a", Some("1")),
            ("b", Some(&large)),
            ("c", Some(&large)),
            ("d", Some(&large)),
            ("e", Some(&large)),
        ]);
        log.values(&[("a", None), ("f", Some("1"))]).values(&[("g", Some("1"))]);
        let (outcomes, counts) = log.pass(1000);
        assert_eq!(outcomes, [Outcome::Rebuilt, Outcome::Verbatim, Outcome::Rebuilt, Outcome::Verbatim]);
        assert_eq!((counts.too_large, counts.horizons_set), (1, 2));
        let (outcomes, counts) = log.pass(9000);
        assert_eq!(outcomes, [Outcome::Dropped, Outcome::Verbatim, Outcome::Verbatim, Outcome::Verbatim]);
        assert_eq!(counts.too_large, 1);
        assert!(log.rows().contains(&row(6, "a", None)), "or its value would come back");
    }

    #[test]
    fn records_of_a_batch_are_where_it_says_or_it_is_damaged() {
        let mut log = Log::new();
        log.values(&[("a", Some("1")), ("b", Some("2"))]);
        let (bytes, _) = &log.batches[0];
        let view = BatchView::parse(bytes).unwrap();
        let damage = |change: &dyn Fn(&mut BatchHeader)| {
            let mut header = view.header;
            change(&mut header);
            let mut bytes = [&header.to_bytes()[..], view.records()].concat();
            header.crc = crate::protocol::record_batch::crc(bytes.first_chunk().unwrap(), view.records());
            bytes[..61].copy_from_slice(&header.to_bytes());
            let keys = KeyMap::new(1000, [3, 4]);
            let mut pass = Pass::new(Offset::new(2), &RULES, TimestampMs::new(1));
            let mut tools = Tools::new();
            let damaged = BatchView::parse(&bytes).unwrap();
            let mut filtering = Filtering::new(damaged, BatchFacts::default(), &mut pass, &keys, &mut tools);
            loop {
                match filtering.step() {
                    Ok(FilterStep::More) => {}
                    Ok(done) => panic!("{done:?}"),
                    Err(error) => return error.to_string(),
                }
            }
        };
        assert_eq!(damage(&|header| header.last_offset_delta = 0), "batch at offset 0: record 1 has offset delta 1");
        assert_eq!(
            damage(&|header| header.record_count = 3),
            "batch at offset 0: record 2 is malformed: ends too early"
        );
        assert_eq!(damage(&|header| header.record_count = 1), "batch at offset 0: bytes follow the last of 1 records");
        assert_eq!(damage(&|header| header.attributes |= 7), "batch at offset 0 has codec 7, which nobody has defined");
        assert_ne!(view.header.attributes & DELETE_HORIZON_BIT, DELETE_HORIZON_BIT);
    }
}
