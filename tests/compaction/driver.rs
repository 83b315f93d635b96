//! One pass over a log in memory.

use std::cell::RefCell;

use corelane::compaction::{
    BatchFacts, CollectStep, Collecting, Counts, DamagedBatch, FilterStep, Filtering, KeyMap, LastOfProducer, Outcome,
    Pass, Tools,
};
use corelane::compaction::{Candidate, CompactionRules};
use corelane::partition::producer_state::ProducerStates;
use corelane::protocol::compression::Scratch;
use corelane::protocol::record_batch::{BatchHeader, BatchView, RecordsIter};
use corelane::types::{Offset, TimestampMs};

/// A record with all that is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) offset: Offset,
    pub(crate) timestamp: TimestampMs,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

thread_local! {
    /// Kept, since to make what decompresses takes longer than to use it.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

pub(crate) fn header(batch: &[u8]) -> BatchHeader {
    BatchView::parse(batch).expect("a whole batch").header
}

/// The records of a batch, whose CRC is right.
pub(crate) fn rows(batch: &[u8]) -> Vec<Row> {
    let view = BatchView::parse(batch).expect("a whole batch");
    assert!(view.crc_matches());
    let mut out = Vec::new();
    let records = SCRATCH.with_borrow_mut(|scratch| view.decompressed(scratch, &mut out, 100_000_000));
    let records = records.expect("it decompresses");
    RecordsIter::new(records, view.header.record_count)
        .map(|record| {
            let record = record.expect("well formed");
            Row {
                offset: view.header.offset_of(record.offset_delta),
                timestamp: view.header.timestamp_of(record.timestamp_delta),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record
                    .headers()
                    .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                    .collect(),
            }
        })
        .collect()
}

/// What the producers' state says of a batch.
pub(crate) fn last_of_producer(producers: &ProducerStates, batch: &BatchHeader) -> Option<LastOfProducer> {
    let state = producers.producer(batch.producer_id)?;
    Some(match state.batches().last() {
        Some(last) => LastOfProducer::Data(last.last_offset),
        None => LastOfProducer::Marker(state.epoch()),
    })
}

/// What is kept from pass to pass.
pub(crate) struct Compactor {
    keys: KeyMap,
    tools: Tools,
}

/// What a pass has left.
pub(crate) struct Passed {
    /// The whole log.
    pub(crate) log: Vec<Vec<u8>>,
    /// Up to here it is clean.
    pub(crate) end: Offset,
    pub(crate) counts: Counts,
}

impl Compactor {
    pub(crate) fn new(key_bytes: usize, secret: [u64; 2]) -> Compactor {
        Compactor { keys: KeyMap::new(key_bytes, secret), tools: Tools::new() }
    }

    /// A pass over `log`, of whose batches `facts` are known.
    pub(crate) fn pass(
        &mut self,
        log: &[Vec<u8>],
        facts: &[BatchFacts],
        candidate: &Candidate,
        rules: &CompactionRules,
        now: TimestampMs,
    ) -> Result<Passed, DamagedBatch> {
        self.collect(log, facts, candidate)?;
        let end = self.keys.end();
        assert!(candidate.from < end && end <= candidate.bound, "a pass gets on");
        let mut pass = Pass::new(candidate.bound, rules, now);
        let mut left = Vec::new();
        for (batch, facts) in log.iter().zip(facts) {
            if header(batch).base_offset < end {
                left.extend(self.filter(batch, *facts, &mut pass)?);
            } else {
                left.push(batch.clone());
            }
        }
        self.tools.shed();
        Ok(Passed { log: left, end, counts: pass.counts() })
    }

    fn collect(&mut self, log: &[Vec<u8>], facts: &[BatchFacts], candidate: &Candidate) -> Result<(), DamagedBatch> {
        self.keys.begin(candidate.from, candidate.bound);
        while !self.keys.clear_step() {}
        'batches: for (batch, facts) in log.iter().zip(facts) {
            let view = BatchView::parse(batch).expect("a whole batch");
            if view.header.last_offset() < candidate.from || view.header.base_offset >= candidate.bound {
                continue;
            }
            let mut collecting = Collecting::new(view, *facts, &mut self.keys, &mut self.tools);
            loop {
                match collecting.step()? {
                    CollectStep::More => {}
                    CollectStep::Taken => break,
                    CollectStep::Full => break 'batches,
                }
            }
        }
        self.keys.close();
        Ok(())
    }

    fn filter(&mut self, batch: &[u8], facts: BatchFacts, pass: &mut Pass) -> Result<Option<Vec<u8>>, DamagedBatch> {
        let view = BatchView::parse(batch).expect("a whole batch");
        let mut filtering = Filtering::new(view, facts, pass, &self.keys, &mut self.tools);
        let outcome = loop {
            if let FilterStep::Done(outcome) = filtering.step()? {
                break outcome;
            }
        };
        Ok(match outcome {
            Outcome::Verbatim => Some(batch.to_vec()),
            Outcome::Rebuilt | Outcome::Emptied => Some(self.tools.output().to_vec()),
            Outcome::Dropped => None,
        })
    }
}
