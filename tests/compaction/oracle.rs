//! What Kafka's cleaner left of a log, and what ours leaves of it.
//!
//! A capture is made by `kafka/capture.py`: see there for its files. A pass of Kafka's is repeated with what Kafka knew: where
//! the log was clean, where its active segment began, its producers, and the time, which is read from the delete horizons
//! that the pass has set.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use corelane::compaction::{BatchFacts, Candidate, CompactionRules, VirtualSegments};
use corelane::limits::{COMPACTION_KEYS_BYTES, VIRTUAL_SEGMENTS_MAX};
use corelane::partition::producer_state::ProducerStates;
use corelane::protocol::record_batch::{BatchHeader, batches};
use corelane::types::{Offset, TimestampMs};

use crate::driver::{Compactor, header, last_of_producer, rows};
use crate::transactions::discardable;

/// Kafka's default for `producer.id.expiration.ms`.
const PRODUCER_EXPIRATION_MS: i64 = 86_400_000;

/// One pass of a capture.
struct Case {
    topic: String,
    number: u32,
    from: Offset,
    bound: Offset,
    rules: CompactionRules,
    /// Where Kafka's segments began before the pass.
    bases: Vec<Offset>,
    /// When the capture saw that the pass was over.
    at: TimestampMs,
    before: Vec<Vec<u8>>,
    after: Vec<Vec<u8>>,
}

fn cases() -> Vec<Case> {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/compaction");
    let directory = std::env::var_os("CORELANE_COMPACTION_CAPTURE").map_or(kept, PathBuf::from);
    let facts = fs::read_to_string(directory.join("facts.txt")).expect("a capture");
    let cases: Vec<Case> = facts.lines().map(|line| case(&directory, line)).collect();
    assert!(cases.len() > 10);
    cases
}

fn case(directory: &Path, line: &str) -> Case {
    let words: BTreeMap<&str, &str> = line.split(' ').map(|word| word.split_once('=').expect("name=value")).collect();
    let number = |name: &str| words[name].parse::<i64>().expect("a number");
    let read = |when: &str| {
        let path = directory.join(format!("{}-{}.{when}", words["topic"], words["pass"]));
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        batches(&bytes).map(|batch| batch.expect("a whole batch").bytes().to_vec()).collect()
    };
    Case {
        topic: words["topic"].to_owned(),
        number: u32::try_from(number("pass")).unwrap(),
        from: Offset::new(number("from")),
        bound: Offset::new(number("bound")),
        rules: CompactionRules {
            segment_bytes: u32::try_from(number("segment_bytes")).unwrap(),
            segment_ms: number("segment_ms"),
            segment_jitter_ms: 0,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            dirty_ratio_min: 0.0,
            delete_retention_ms: number("delete_retention_ms"),
        },
        bases: words["bases"].split(',').map(|base| Offset::new(base.parse().unwrap())).collect(),
        at: TimestampMs::new(number("at")),
        before: read("before"),
        after: read("after"),
    }
}

impl Case {
    fn name(&self) -> String {
        format!("{} pass {}", self.topic, self.number)
    }

    /// The clock of Kafka's pass.
    fn now(&self) -> TimestampMs {
        let horizons = |log: &[Vec<u8>]| -> BTreeMap<Offset, Option<TimestampMs>> {
            log.iter().map(|batch| (header(batch).base_offset, header(batch).delete_horizon())).collect()
        };
        let before = horizons(&self.before);
        let mut set: Vec<TimestampMs> = horizons(&self.after)
            .into_iter()
            .filter(|(base, horizon)| before[base] != *horizon)
            .filter_map(|(_, horizon)| horizon)
            .collect();
        set.dedup();
        match set[..] {
            [] => self.at,
            [horizon] => TimestampMs::new(horizon.value() - self.rules.delete_retention_ms),
            _ => panic!("{}: a pass has one time, not {set:?}", self.name()),
        }
    }

    fn facts(&self) -> Vec<BatchFacts> {
        let mut producers = ProducerStates::new();
        self.before.iter().for_each(|batch| producers.update(&header(batch)));
        if self.number == 3 {
            // At a start Kafka forgets producers whose last record is old, and those of the stream are.
            producers.expire(self.at, PRODUCER_EXPIRATION_MS);
        }
        self.before
            .iter()
            .zip(discardable(&self.before))
            .map(|(batch, is_discardable)| BatchFacts {
                last_of_producer: last_of_producer(&producers, &header(batch)),
                is_discardable,
            })
            .collect()
    }

    fn candidate(&self) -> Candidate {
        Candidate { from: self.from, bound: self.bound, dirty_bytes: 1, dirty_ratio: 1.0, is_due: false }
    }
}

/// All of a header but what a codec decides.
fn fields(batch: &[u8]) -> BatchHeader {
    let header = header(batch);
    BatchHeader { length: 0, crc: 0, ..header }
}

#[test]
fn oracle_and_ours_leave_the_same_batches() {
    let mut seen = BTreeMap::new();
    for case in cases() {
        let name = case.name();
        let mut compactor = Compactor::new(usize::try_from(COMPACTION_KEYS_BYTES).unwrap(), [5, 6]);
        let passed = compactor
            .pass(&case.before, &case.facts(), &case.candidate(), &case.rules, case.now())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(passed.end, case.bound, "{name}");
        for (ours, kafkas) in passed.log.iter().zip(&case.after) {
            assert_eq!(fields(ours), fields(kafkas), "{name}");
            assert_eq!(rows(ours), rows(kafkas), "{name}, batch at {}", header(ours).base_offset);
            let is_compressed = header(ours).attributes & 7 != 0;
            assert!(is_compressed || ours == kafkas, "{name}, batch at {}", header(ours).base_offset);
        }
        assert_eq!(passed.log.len(), case.after.len(), "{name}");
        let counts = passed.counts;
        println!("{name}: {counts:?}");
        for (what, count) in [
            ("verbatim", counts.verbatim),
            ("rebuilt", counts.rebuilt),
            ("emptied", counts.emptied),
            ("dropped", counts.dropped),
            ("horizons set", counts.horizons_set),
        ] {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    assert!(seen.values().all(|count| *count > 3), "a capture that shows it all: {seen:?}");
}

#[test]
fn oracle_and_ours_end_segments_in_the_same_places() {
    let mut topics: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases() {
        topics.entry(case.topic.clone()).or_default().push(case);
    }
    let mut ended_early = 0;
    for (topic, cases) in topics {
        let mut segments = VirtualSegments::new(Offset::ZERO, TimestampMs::new(0));
        let mut end = Offset::ZERO;
        // The third pass begins from the start again, which ours never does.
        for case in &cases[..2] {
            for batch in case.before.iter().filter(|batch| header(batch).base_offset >= end) {
                let bytes = u32::try_from(batch.len()).unwrap();
                segments.append(&header(batch), bytes, &case.rules, TimestampMs::new(0), || unreachable!("no jitter"));
            }
            end = case.before.last().map(|batch| header(batch).last_offset().advance(1)).unwrap();
            let wanted: Vec<Offset> = case.bases.iter().copied().filter(|base| *base >= case.from).collect();
            let ours: Vec<Offset> = segments.bases().collect();
            if wanted.len() < VIRTUAL_SEGMENTS_MAX {
                assert_eq!(ours, wanted, "{topic} pass {}", case.number);
            } else {
                // Neighbours are one, and the answers are the same.
                assert!(ours.iter().all(|base| wanted.contains(base)), "{topic} pass {}", case.number);
            }
            let candidate = segments.candidate(end, 1000, &case.rules, case.at).expect("something is dirty");
            assert_eq!((candidate.from, candidate.bound), (case.from, case.bound), "{topic} pass {}", case.number);
            let sealed = wanted.len() - 1;
            ended_early += usize::from(candidate.dirty_bytes < u64::try_from(sealed).unwrap() * 3000);
            segments.on_cleaned(candidate.bound);
        }
    }
    assert!(ended_early > 0, "a capture in which segments end by time too");
}
