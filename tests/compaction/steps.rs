//! How long one step holds the core, in time of the processor: measured on demand, since machines differ.
//!
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --test compaction steps -- --ignored --nocapture`

use std::time::Duration;

use corelane::compaction::{
    BatchFacts, CollectStep, Collecting, CompactionRules, FilterStep, Filtering, KeyMap, Pass, Tools,
};
use corelane::limits::COMPACTION_KEYS_BYTES;
use corelane::protocol::compression::Codec;
use corelane::protocol::record_batch::{BatchBuilder, BatchView};
use corelane::simulation::random::Random;
use corelane::types::{Offset, TimestampMs};
use rustix::time::{ClockId, clock_gettime};

const RULES: CompactionRules = CompactionRules {
    segment_bytes: 1 << 30,
    segment_ms: 1000,
    segment_jitter_ms: 0,
    min_lag_ms: 0,
    max_lag_ms: i64::MAX,
    dirty_ratio_min: 0.5,
    delete_retention_ms: 100,
};

/// Not the clock's: who else runs on the core does not count.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it began at zero")
}

/// Steps by how long they took.
#[derive(Default)]
struct Steps(Vec<Duration>);

impl Steps {
    fn take<T>(&mut self, step: impl FnOnce() -> T) -> T {
        let start = processor_time();
        let result = step();
        self.0.push(processor_time() - start);
        result
    }

    fn print(mut self, what: &str) {
        self.0.sort();
        let us = |at: usize| self.0[at].as_micros();
        let last = self.0.len() - 1;
        let all: Duration = self.0.iter().sum();
        println!(
            "{what}: {} steps, {} us, median {}, p99 {}, longest {}",
            last + 1,
            all.as_micros(),
            us(last / 2),
            us(last * 99 / 100),
            us(last)
        );
    }
}

/// About `bytes` of records like those of a changelog: short keys, values of words and numbers.
fn batch(codec: Codec, bytes: usize) -> Vec<u8> {
    let mut random = Random::new(7);
    let mut builder = BatchBuilder::new(codec);
    while builder.uncompressed_bytes() < bytes {
        let key = format!("customer-{}", random.below(100_000));
        let value =
            format!("{{\"balance\":{},\"name\":\"{:x}\",\"state\":\"open\"}}", random.below(10_000), random.next());
        builder.append(TimestampMs::new(1), Some(key.as_bytes()), Some(value.as_bytes()), &[]);
    }
    builder.build()
}

#[test]
#[ignore = "measures; run by hand"]
fn steps_of_a_batch_of_a_mebibyte() {
    let mut keys = KeyMap::new(usize::try_from(COMPACTION_KEYS_BYTES).unwrap(), [1, 2]);
    let mut tools = Tools::new();
    for codec in Codec::ALL {
        let bytes = batch(codec, 1024 * 1024);
        let view = BatchView::parse(&bytes).unwrap();
        let end = view.header.last_offset().advance(1);
        // As many keys as fit, so that the map's memory is all in use.
        for round in ["first", "again"] {
            let mut steps = Steps::default();
            keys.begin(Offset::ZERO, Offset::new(i64::MAX));
            while !steps.take(|| keys.clear_step()) {}
            steps.print(&format!("{codec} {round}: clear"));
            let mut steps = Steps::default();
            let mut collecting = Collecting::new(view, BatchFacts::default(), &mut keys, &mut tools);
            while steps.take(|| collecting.step()).unwrap() == CollectStep::More {}
            steps.print(&format!("{codec} {round}: keys"));
            let mut pass = Pass::new(end, &RULES, TimestampMs::new(1));
            let mut steps = Steps::default();
            let mut filtering = Filtering::new(view, BatchFacts::default(), &mut pass, &keys, &mut tools);
            while steps.take(|| filtering.step()).unwrap() == FilterStep::More {}
            steps.print(&format!("{codec} {round}: filter"));
            assert_eq!(pass.counts().rebuilt, 1);
        }
    }
}
