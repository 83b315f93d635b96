//! Which offset is the last of each key, in memory of a fixed size.
//!
//! A key is known by 128 bits of SipHash-1-3 under a random key of the shard's own: two keys that a client chooses do not
//! meet but by chance (about 2^-90 for a full map), and if they did, one's records would be dropped for the other's. Kafka
//! takes MD5, for which colliding keys can be bought; hashes made for speed alone, xxHash among them, collide for whoever
//! wants them to, some under every seed.
//!
//! ```text
//! slot: hash u64, u64 | offset + 1 as u64, 0 = empty        24 bytes, as Kafka's; open addressing, nine tenths full at most
//! ```
//!
//! Neighbouring slots are tried one after the other: at nine tenths a key that is there takes 5.5 slots on average and one
//! that is not 50, which is 1,200 bytes in a row; half full it takes 2.5.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::compaction::filter::BatchFacts;
use crate::compaction::pass::Tools;
use crate::compaction::unpack::{DamagedBatch, Unpacked, Unpacking, records};
use crate::limits::{COMPACTION_STEP_BYTES, COMPACTION_STEP_RECORDS};
use crate::protocol::compression::Scratch;
use crate::protocol::record_batch::{BatchView, CrcCheck, IntactBatch, RecordsIter, RecordsPosition};
use crate::types::Offset;

/// Hash, hash, offset + 1.
type Slot = [u64; 3];
const EMPTY: Slot = [0; 3];
const SLOT_BYTES: usize = size_of::<Slot>();
const _: () = assert!(SLOT_BYTES == 24);
/// How full the map may become: Kafka's default for `log.cleaner.io.buffer.load.factor`.
const LOAD_TENTHS: usize = 9;

/// The last offset of each key in the dirty part of one log. One per shard, used by one pass after the other.
pub struct KeyMap {
    hasher: SipHasher13,
    slots: Vec<Slot>,
    /// The first so many slots are those of this pass: a short one clears and spreads over less.
    slots_used: usize,
    /// Of them, those that are cleared of the pass before.
    cleared: usize,
    keys: usize,
    keys_max: usize,
    start: Offset,
    bound: Offset,
    /// What lies below is known.
    end: Offset,
    is_full: bool,
}

impl KeyMap {
    /// A map in so many bytes, which are room for one key at least. `secret` is random and nobody else's. The memory is
    /// reserved now, and taken from the system as it is used.
    pub fn new(bytes: usize, secret: [u64; 2]) -> KeyMap {
        assert!(bytes / SLOT_BYTES * LOAD_TENTHS >= 10);
        KeyMap {
            hasher: SipHasher13::new_with_keys(secret[0], secret[1]),
            slots: vec![EMPTY; bytes / SLOT_BYTES],
            slots_used: 0,
            cleared: 0,
            keys: 0,
            keys_max: 0,
            start: Offset::ZERO,
            bound: Offset::ZERO,
            end: Offset::ZERO,
            is_full: false,
        }
    }

    /// Begins a pass whose dirty part is `start..bound`. Then [`clear_step`](KeyMap::clear_step) until it says that it is done.
    pub fn begin(&mut self, start: Offset, bound: Offset) {
        assert!(start <= bound);
        // No more keys than offsets.
        let keys = usize::try_from(bound.since(start)).expect("a length of a log is not negative");
        let wanted = keys.saturating_mul(10) / LOAD_TENTHS + 2;
        self.slots_used = wanted.min(self.slots.len());
        self.cleared = 0;
        self.keys = 0;
        self.keys_max = self.slots_used * LOAD_TENTHS / 10;
        self.start = start;
        self.bound = bound;
        self.end = start;
        self.is_full = false;
    }

    /// Forgets some more of the pass before. Returns whether all is forgotten.
    pub fn clear_step(&mut self) -> bool {
        let end = self.slots_used.min(self.cleared + COMPACTION_STEP_BYTES / SLOT_BYTES);
        self.slots[self.cleared..end].fill(EMPTY);
        self.cleared = end;
        end == self.slots_used
    }

    /// All batches that there are were given: offsets up to the bound that no batch has are known too. Where the map is
    /// full, what is known ends before.
    pub fn close(&mut self) {
        if !self.is_full {
            self.end = self.bound;
        }
    }

    /// Of every record below it is known whether it is the last of its key. The pass ends here, the next one begins here.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Keys in the map.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether no key is in the map.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The last offset of a key in the dirty part, as far as it is known.
    pub fn last_offset(&self, key: &[u8]) -> Option<Offset> {
        let hash = self.hash(key);
        let [.., next] = self.slots[self.slot(hash)];
        let offset = next.checked_sub(1)?;
        Some(Offset::new(i64::try_from(offset).expect("offsets were i64")))
    }

    /// Notes a record. Returns whether there was room.
    fn insert(&mut self, key: &[u8], offset: Offset) -> bool {
        assert!(self.cleared == self.slots_used, "clear_step was called until it was done");
        let hash = self.hash(key);
        let slot = self.slot(hash);
        if self.slots[slot] == EMPTY {
            if self.keys == self.keys_max {
                return false;
            }
            self.keys += 1;
        }
        let next = u64::try_from(offset.value()).expect("offsets of a log are not negative") + 1;
        self.slots[slot] = [hash[0], hash[1], next];
        true
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let mut hasher = self.hasher;
        hasher.write(key);
        let hash = hasher.finish128();
        [hash.h1, hash.h2]
    }

    /// The slot of a key: its own, or the empty one that it would get. There always is one, since the map never is full.
    fn slot(&self, hash: [u64; 2]) -> usize {
        let slots = u128::try_from(self.slots_used).expect("a length fits 128 bits");
        let mut slot = usize::try_from((u128::from(hash[0]) * slots) >> 64).expect("below a number of slots");
        loop {
            let [high, low, next] = self.slots[slot];
            if next == 0 || [high, low] == hash {
                return slot;
            }
            slot += 1;
            if slot == self.slots_used {
                slot = 0;
            }
        }
    }
}

/// Where the taking of a batch's keys stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CollectStep {
    /// There is more to do.
    More,
    /// The map knows the batch.
    Taken,
    /// The map is full. The batch, and what comes after it, is for the next pass.
    Full,
}

/// The keys of one batch on their way into the map.
pub struct Collecting<'a> {
    keys: &'a mut KeyMap,
    facts: BatchFacts,
    scratch: Option<&'a mut Scratch>,
    plain: &'a mut Vec<u8>,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Check(CrcCheck<'a>),
    Unpack(Unpacking<'a>),
    Collect { batch: IntactBatch<'a>, position: RecordsPosition, offset_delta: i32 },
}

impl<'a> Collecting<'a> {
    /// Begins. Batches are given in ascending order, from the one that holds the start of the dirty part, while their base
    /// offset is below its bound.
    pub fn new(batch: BatchView<'a>, facts: BatchFacts, keys: &'a mut KeyMap, tools: &'a mut Tools) -> Collecting<'a> {
        assert!(!keys.is_full);
        let Tools { scratch, plain, .. } = tools;
        Collecting { keys, facts, scratch: Some(scratch), plain, stage: Stage::Check(CrcCheck::new(batch)) }
    }

    /// Goes on for some tens of microseconds.
    pub fn step(&mut self) -> Result<CollectStep, DamagedBatch> {
        match &mut self.stage {
            Stage::Check(check) => match check.step() {
                None => Ok(CollectStep::More),
                Some(intact) => self.on_intact(intact?),
            },
            Stage::Unpack(unpacking) => {
                let batch = unpacking.batch();
                match unpacking.step(self.plain)? {
                    Unpacked::Part => Ok(CollectStep::More),
                    Unpacked::Whole => {
                        let (position, offset_delta) = (RecordsPosition::default(), -1);
                        self.stage = Stage::Collect { batch, position, offset_delta };
                        Ok(CollectStep::More)
                    }
                    // The filter keeps such a batch as it is.
                    Unpacked::TooLarge => Ok(self.taken(&batch)),
                }
            }
            Stage::Collect { .. } => self.collect(),
        }
    }

    fn on_intact(&mut self, batch: IntactBatch<'a>) -> Result<CollectStep, DamagedBatch> {
        DamagedBatch::check_range(&batch)?;
        let header = batch.header();
        // Markers have no keys; what was aborted, or is below the dirty part, does not count.
        if header.is_control() || self.facts.is_discardable || header.last_offset() < self.keys.start {
            return Ok(self.taken(&batch));
        }
        let records = usize::try_from(header.record_count).unwrap_or(0);
        // Alone in the map, a batch with more keys than the map has room for is taken in part: else no pass would get past.
        if records > self.keys.keys_max - self.keys.keys && !self.keys.is_empty() && !IGNORES_OVERFLOW {
            self.keys.is_full = true;
            return Ok(CollectStep::Full);
        }
        let scratch = self.scratch.take().expect("a batch is unpacked once");
        self.stage = Stage::Unpack(Unpacking::new(batch, scratch, self.plain)?);
        Ok(CollectStep::More)
    }

    fn collect(&mut self) -> Result<CollectStep, DamagedBatch> {
        let Stage::Collect { batch, position, offset_delta } = &mut self.stage else {
            unreachable!("called in this stage")
        };
        let batch = *batch;
        let mut iterator = RecordsIter::resume(records(&batch, self.plain), batch.header().record_count, *position);
        for _ in 0..COMPACTION_STEP_RECORDS {
            let index = iterator.position().index();
            let Some(record) = iterator.next() else { return Ok(self.taken(&batch)) };
            let record = record.map_err(|cause| DamagedBatch::records(&batch, cause))?;
            DamagedBatch::check_offset(&batch, index, *offset_delta, record.offset_delta)?;
            *offset_delta = record.offset_delta;
            let offset = batch.header().offset_of(record.offset_delta);
            let Some(key) = record.key.filter(|_| offset >= self.keys.start) else { continue };
            if self.keys.insert(key, offset) {
                self.keys.end = self.keys.end.max(offset.advance(1));
            } else if !IGNORES_OVERFLOW {
                self.keys.is_full = true;
                return Ok(CollectStep::Full);
            }
        }
        *position = iterator.position();
        Ok(CollectStep::More)
    }

    fn taken(&mut self, batch: &IntactBatch<'_>) -> CollectStep {
        self.keys.end = self.keys.end.max(batch.header().last_offset().advance(1));
        CollectStep::Taken
    }
}

const IGNORES_OVERFLOW: bool = cfg!(corelane_defect = "map_overflow_ignored");

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::{BatchBuilder, stamp};
    use crate::simulation::random::Random;
    use crate::types::{LeaderEpoch, TimestampMs};

    fn map(slots: usize, start: i64, bound: i64) -> KeyMap {
        let mut keys = KeyMap::new(slots * SLOT_BYTES, [1, 2]);
        keys.begin(Offset::new(start), Offset::new(bound));
        while !keys.clear_step() {}
        keys
    }

    fn batch(base_offset: i64, names: &[u64]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::Lz4);
        for name in names {
            builder.append(TimestampMs::new(1), Some(&name.to_be_bytes()), Some(b"v"), &[]);
        }
        let mut bytes = builder.build();
        stamp(bytes.first_chunk_mut().unwrap(), Offset::new(base_offset), LeaderEpoch::new(0));
        bytes
    }

    fn collect(keys: &mut KeyMap, bytes: &[u8]) -> CollectStep {
        let mut tools = Tools::new();
        let mut collecting = Collecting::new(BatchView::parse(bytes).unwrap(), BatchFacts::default(), keys, &mut tools);
        loop {
            match collecting.step().unwrap() {
                CollectStep::More => {}
                end => return end,
            }
        }
    }

    #[test]
    fn the_last_offset_of_each_key_is_known_up_to_nine_tenths() {
        let mut random = Random::new(1);
        let mut keys = map(1000, 0, i64::MAX);
        let mut model = HashMap::new();
        let mut offset = 0;
        loop {
            let key = random.below(5000).to_be_bytes();
            offset += 1;
            if !keys.insert(&key, Offset::new(offset)) {
                break;
            }
            model.insert(key, Offset::new(offset));
        }
        assert_eq!((keys.len(), model.len()), (900, 900));
        for key in 0..5000_u64 {
            assert_eq!(keys.last_offset(&key.to_be_bytes()), model.get(&key.to_be_bytes()).copied());
        }
        // A full map still takes what it knows.
        let known = *model.keys().next().unwrap();
        assert!(keys.insert(&known, Offset::new(offset)));
        assert_eq!(keys.last_offset(&known), Some(Offset::new(offset)));
    }

    #[test]
    fn a_pass_knows_nothing_of_the_one_before() {
        let mut keys = map(100_000, 0, 50_000);
        assert!(keys.insert(b"a", Offset::new(7)));
        keys.begin(Offset::new(10), Offset::new(20));
        let steps = (0..).take_while(|_| !keys.clear_step()).count();
        assert_eq!(steps, 0, "a short pass clears little");
        assert_eq!((keys.last_offset(b"a"), keys.len(), keys.end()), (None, 0, Offset::new(10)));
        for offset in 10..20 {
            assert!(
                keys.insert(&[u8::try_from(offset).unwrap()], Offset::new(offset)),
                "there is room for every offset"
            );
        }
    }

    #[test]
    fn a_batch_is_taken_whole_or_not_at_all() {
        let mut keys = map(11, 0, 1000);
        assert_eq!(collect(&mut keys, &batch(0, &[1, 2, 3, 4])), CollectStep::Taken);
        assert_eq!(collect(&mut keys, &batch(4, &[1, 2, 3, 4])), CollectStep::Taken);
        assert_eq!((keys.end(), keys.len()), (Offset::new(8), 4));
        assert_eq!(collect(&mut keys, &batch(8, &[1, 5, 6, 7, 8, 9])), CollectStep::Full);
        assert_eq!((keys.end(), keys.last_offset(&1_u64.to_be_bytes())), (Offset::new(8), Some(Offset::new(4))));
        keys.close();
        assert_eq!(keys.end(), Offset::new(8));
    }

    #[test]
    fn a_batch_too_large_for_the_whole_map_is_taken_in_parts() {
        let names: Vec<u64> = (0..25).collect();
        let bytes = batch(100, &names);
        let mut start = 100;
        let mut ends = Vec::new();
        while start < 125 {
            let mut keys = map(11, start, 1000);
            let step = collect(&mut keys, &bytes);
            assert_eq!(step == CollectStep::Taken, keys.end() == Offset::new(125));
            for name in 0..25_u64 {
                let is_in = (start..keys.end().value()).contains(&(100 + i64::try_from(name).unwrap()));
                assert_eq!(keys.last_offset(&name.to_be_bytes()).is_some(), is_in);
            }
            start = keys.end().value();
            ends.push(start);
        }
        assert_eq!(ends, [109, 118, 125]);
    }

    #[test]
    fn gaps_up_to_the_bound_are_known_when_all_was_taken() {
        let mut keys = map(100, 5, 50);
        assert_eq!(collect(&mut keys, &batch(0, &[1, 2, 3])), CollectStep::Taken);
        assert_eq!((keys.end(), keys.len()), (Offset::new(5), 0), "what is clean is not taken");
        assert_eq!(collect(&mut keys, &batch(4, &[4, 5, 6])), CollectStep::Taken);
        assert_eq!((keys.end(), keys.len()), (Offset::new(7), 2));
        keys.close();
        assert_eq!(keys.end(), Offset::new(50));
    }
}
