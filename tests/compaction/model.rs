//! Logs that are made up, compacted again and again, beside a model of what they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use corelane::compaction::{BatchFacts, Candidate, CompactionRules, DamagedBatch, VirtualSegments};
use corelane::partition::producer_state::ProducerStates;
use corelane::protocol::compression::Codec;
use corelane::protocol::record_batch::{BatchBuilder, Header, TimestampType, set_timestamps, stamp};
use corelane::simulation::random::Random;
use corelane::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

use crate::driver::{Compactor, Passed, Row, header, last_of_producer, rows};

/// About five seconds of a build for development.
const SEEDS: u64 = 20;
/// Bytes of a batch outside of its CRC: base offset, length, leader epoch, magic and the CRC.
const OUTSIDE_OF_CRC: usize = 21;

/// A log and all that was ever appended to it.
struct World {
    random: Random,
    compactor: Compactor,
    rules: CompactionRules,
    log: Vec<Vec<u8>>,
    end: Offset,
    now: TimestampMs,
    segments: VirtualSegments,
    producers: ProducerStates,
    sequences: BTreeMap<ProducerId, i32>,
    /// Every record appended.
    appended: BTreeMap<Offset, Row>,
    /// The last record of each key.
    latest: BTreeMap<Vec<u8>, Offset>,
    keys: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let rules = CompactionRules {
            segment_bytes: 500 + u32::try_from(random.below(5000)).unwrap(),
            segment_ms: i64::try_from(1 + random.below(5000)).unwrap(),
            segment_jitter_ms: i64::try_from(random.below(100)).unwrap(),
            min_lag_ms: i64::try_from(random.below(2) * random.below(2000)).unwrap(),
            max_lag_ms: i64::MAX,
            dirty_ratio_min: 0.0,
            delete_retention_ms: i64::try_from(random.below(3000)).unwrap(),
        };
        let key_bytes = 24 * usize::try_from(*random.pick(&[4, 40, 4000])).unwrap();
        let now = TimestampMs::new(1_000_000);
        World {
            compactor: Compactor::new(key_bytes, [random.next(), random.next()]),
            rules,
            log: Vec::new(),
            end: Offset::ZERO,
            now,
            segments: VirtualSegments::new(Offset::ZERO, now),
            producers: ProducerStates::new(),
            sequences: BTreeMap::new(),
            appended: BTreeMap::new(),
            latest: BTreeMap::new(),
            keys: 2 + random.below(60),
            random,
        }
    }

    fn append(&mut self) {
        let mut builder = BatchBuilder::new(*self.random.pick(&Codec::ALL));
        let records = 1 + i32::try_from(self.random.below(15)).unwrap();
        let tombstones = *self.random.pick(&[0, 1, 5, 10]);
        for _ in 0..records {
            let key = self.random.below(self.keys).to_be_bytes();
            let mut value = vec![0; self.random.index(100)];
            self.random.bytes(&mut value);
            let value = (!self.random.chance(tombstones, 10)).then_some(&value[..]);
            let headers = [Header { key: b"header", value }];
            let age = i64::try_from(self.random.below(500)).unwrap();
            let headers = if self.random.chance(1, 4) { &headers[..] } else { &[] };
            builder.append(TimestampMs::new(self.now.value() - age), Some(&key), value, headers);
        }
        if self.random.chance(2, 3) {
            let producer = ProducerId::new(i64::try_from(self.random.below(5)).unwrap());
            let sequence = self.sequences.entry(producer).or_insert(0);
            builder.producer(producer, ProducerEpoch::new(0), Sequence::new(*sequence));
            *sequence += records;
        }
        let mut batch = builder.build();
        let (head, payload) = batch.split_first_chunk_mut().unwrap();
        stamp(head, self.end, LeaderEpoch::new(3));
        if self.random.chance(1, 5) {
            set_timestamps(head, payload, TimestampType::LogAppendTime, self.now);
        }
        let bytes = u32::try_from(batch.len()).unwrap();
        let random = &mut self.random;
        let jitter = || u32::try_from(random.below(1 << 32)).unwrap();
        self.segments.append(&header(&batch), bytes, &self.rules, self.now, jitter);
        self.producers.update(&header(&batch));
        for row in rows(&batch) {
            self.latest.insert(row.key.clone().unwrap(), row.offset);
            self.appended.insert(row.offset, row);
        }
        self.end = header(&batch).last_offset().advance(1);
        self.log.push(batch);
    }

    fn pass_time(&mut self) {
        self.now = TimestampMs::new(self.now.value() + i64::try_from(self.random.below(1500)).unwrap());
        if self.random.chance(1, 20) {
            self.producers.expire(self.now, 5000);
        }
    }

    fn facts(&self) -> Vec<BatchFacts> {
        let fact = |batch: &Vec<u8>| BatchFacts {
            last_of_producer: last_of_producer(&self.producers, &header(batch)),
            is_discardable: false,
        };
        self.log.iter().map(fact).collect()
    }

    fn try_pass(&mut self, candidate: &Candidate) -> Result<Passed, DamagedBatch> {
        let facts = self.facts();
        self.compactor.pass(&self.log, &facts, candidate, &self.rules, self.now)
    }

    /// A pass, if there is anything to clean, and everything that must hold after it.
    fn clean(&mut self) {
        let clean_bytes = self.log.iter().filter(|batch| header(batch).base_offset < self.segments.clean_end());
        let clean_bytes = clean_bytes.map(|batch| u64::try_from(batch.len()).unwrap()).sum();
        let Some(mut candidate) = self.segments.candidate(self.end, clean_bytes, &self.rules, self.now) else { return };
        if self.random.chance(1, 10) {
            // A crash lost where the clean part ends.
            candidate.from = Offset::ZERO;
        }
        self.try_rot(&candidate);
        let passed = self.try_pass(&candidate).expect("nothing is damaged");
        self.check(&candidate, &passed);
        self.log = passed.log;
        // A map that was full has room for more the second time; without retention a tombstone goes at once.
        if passed.end == candidate.bound && self.rules.delete_retention_ms > 0 {
            let again = self.try_pass(&candidate).expect("nothing is damaged");
            assert!(again.log == self.log, "a pass done twice is a pass done once");
        }
        if passed.end > self.segments.clean_end() {
            self.segments.on_cleaned(passed.end);
        }
    }

    /// A flipped bit is found, whatever the pass would have done with its batch.
    fn try_rot(&mut self, candidate: &Candidate) {
        let in_pass = self.log.iter().filter(|batch| header(batch).last_offset() < candidate.bound).count();
        let index = self.random.index(in_pass);
        let whole = self.log[index].clone();
        let at = OUTSIDE_OF_CRC + self.random.index(whole.len() - OUTSIDE_OF_CRC);
        self.log[index][at] ^= 1 << self.random.below(8);
        let base_offset = header(&whole).base_offset;
        match self.try_pass(candidate) {
            Err(DamagedBatch::Rotten(rotten)) => assert_eq!(rotten.base_offset, base_offset),
            Err(error) => panic!("rot that is called something else: {error}"),
            // The map was full before it.
            Ok(passed) => assert!(passed.end <= base_offset, "rot at {base_offset} got a new CRC"),
        }
        self.log[index] = whole;
    }

    fn check(&self, candidate: &Candidate, passed: &Passed) {
        let left: Vec<Row> = passed.log.iter().flat_map(|batch| rows(batch)).collect();
        assert!(left.is_sorted_by_key(|row| row.offset));
        for row in &left {
            assert_eq!(Some(row), self.appended.get(&row.offset), "a record is what it was");
        }
        self.check_keys(&left, passed.end);
        self.check_tombstones(passed);
        self.check_batches(candidate, passed);
    }

    /// Whoever reads the log gets the last value of each key; below its end a pass leaves only that.
    fn check_keys(&self, left: &[Row], end: Offset) {
        let mut found: BTreeMap<&[u8], &Row> = BTreeMap::new();
        for row in left {
            let before = found.insert(row.key.as_deref().unwrap(), row);
            let is_twice = before.is_some() && row.offset < end;
            assert!(!is_twice, "{:?} is there at {} and before", row.key, row.offset);
        }
        for (key, offset) in &self.latest {
            let value = self.appended[offset].value.as_ref();
            let got = found.get(&key[..]).and_then(|row| row.value.as_ref());
            assert_eq!(got, value, "{key:?}, written last at {offset}");
        }
        let untouched = |row: &&Row| row.offset >= end;
        let before: Vec<Row> = self.log.iter().flat_map(|batch| rows(batch)).collect();
        assert!(left.iter().filter(untouched).eq(before.iter().filter(untouched)));
    }

    /// The last tombstone of a key stays until the horizon of its batch is over, and no longer.
    fn check_tombstones(&self, passed: &Passed) {
        let left: BTreeSet<Offset> = passed.log.iter().flat_map(|batch| rows(batch)).map(|row| row.offset).collect();
        let below = self.appended.range(..passed.end);
        let last: BTreeMap<_, _> = below.map(|(offset, row)| (row.key.as_ref(), *offset)).collect();
        for batch in self.log.iter().filter(|batch| header(batch).base_offset < passed.end) {
            let horizon = header(batch).delete_horizon();
            for row in rows(batch) {
                if row.value.is_none() && last.get(&row.key.as_ref()) == Some(&row.offset) {
                    let must_stay = horizon.is_none_or(|horizon| self.now < horizon);
                    assert_eq!(left.contains(&row.offset), must_stay, "tombstone at {} of {horizon:?}", row.offset);
                }
            }
        }
        for batch in passed.log.iter().filter(|batch| header(batch).base_offset < passed.end) {
            if rows(batch).iter().any(|row| row.value.is_none()) {
                let latest = self.now.value() + self.rules.delete_retention_ms;
                let horizon = header(batch).delete_horizon().expect("a tombstone that was compacted has a horizon");
                assert!(horizon.value() <= latest);
            }
        }
    }

    /// Batches keep who they are; those that must not go are there.
    fn check_batches(&self, candidate: &Candidate, passed: &Passed) {
        let is: BTreeMap<Offset, _> =
            passed.log.iter().map(|batch| (header(batch).base_offset, header(batch))).collect();
        for batch in &self.log {
            let was = header(batch);
            let left = is.get(&was.base_offset);
            if let Some(left) = left {
                assert_eq!((left.last_offset(), left.leader_epoch), (was.last_offset(), was.leader_epoch));
                assert_eq!((left.producer_id, left.producer_epoch), (was.producer_id, was.producer_epoch));
                assert_eq!(left.last_sequence(), was.last_sequence());
                assert_eq!(left.timestamp_type(), was.timestamp_type());
            }
            let last = self.producers.producer(was.producer_id).and_then(|state| state.batches().last());
            let is_last = last.is_some_and(|last| last.last_offset == was.last_offset());
            assert!(
                !is_last || left.is_some(),
                "the sequence of {} goes on from the batch that is gone",
                was.producer_id
            );
            let ends_at_bound = was.last_offset().advance(1) == candidate.bound;
            assert!(!ends_at_bound || left.is_some(), "the pass up to {} lost its end", candidate.bound);
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..40 {
        for _ in 0..world.random.below(12) {
            world.append();
            world.pass_time();
        }
        world.clean();
        world.pass_time();
    }
}

#[test]
fn whoever_reads_a_compacted_log_gets_what_the_model_says() {
    let seeds = match env::var("CORELANE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("CORELANE_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..env::var("CORELANE_SEEDS").map_or(SEEDS, |seeds| seeds.parse().expect("a number")),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            eprintln!("failed with CORELANE_SEED={seed}");
            resume_unwind(panic);
        }
    }
}
