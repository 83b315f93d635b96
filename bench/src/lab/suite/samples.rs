//! Suites and results for tests of decisions.

use std::collections::BTreeMap;

use super::definition::Suite;
use super::order::Planned;
use crate::lab::result::{
    Durability, Flow, GeneratorUsage, HostSheet, Latency, LoadResult, Run, SCHEMA, TargetKind, TargetSheet, Trial,
};

/// A suite that is known to be valid.
pub(crate) fn suite(text: &str) -> Suite {
    Suite::parse(text).unwrap()
}

/// A run without trials.
pub(crate) fn run(commit: &str) -> Run {
    Run {
        schema: SCHEMA,
        suite: "sample".to_owned(),
        started: "2026-01-01T00:00:00Z".to_owned(),
        commit: commit.to_owned(),
        command: "corelane-bench suite sample.toml".to_owned(),
        host: HostSheet::default(),
        probe: None,
        notes: Vec::new(),
        trials: Vec::new(),
    }
}

/// A trial as planned that went well: 1,000 records in a second, at 1 ms each.
pub(crate) fn trial(planned: &Planned<'_>) -> Trial {
    Trial {
        workload: planned.workload.clone(),
        theme: planned.theme.clone(),
        target: TargetSheet {
            name: planned.key.target.clone(),
            kind: TargetKind::Corelane,
            version: "1".to_owned(),
            durability: Durability::Written,
            variant: String::new(),
            cpus: vec![0],
            generator_cpus: vec![1],
            command: String::new(),
            settings: BTreeMap::new(),
        },
        repeat: planned.key.repeat,
        started: "2026-01-01T00:00:00Z".to_owned(),
        load: Some(load()),
        server: None,
        machine: None,
        ready_ms: None,
        warm_up: None,
        verdict: Vec::new(),
    }
}

fn load() -> LoadResult {
    let latency = Latency {
        histogram: String::new(),
        count: 1000,
        mean_us: 1000.0,
        p50_us: 1000,
        p90_us: 1000,
        p99_us: 1000,
        p999_us: 1000,
        p9999_us: 1000,
        p99999_us: 1000,
        max_us: 1000,
    };
    LoadResult {
        seconds: 1.0,
        offered_per_s: None,
        produced: Flow { records: 1000, bytes: 1_000_000, batch_bytes: 1_000_000, requests: 100 },
        consumed: Flow::default(),
        caught_up: Flow::default(),
        produce_latency: Some(latency),
        end_to_end_latency: None,
        windows: Vec::new(),
        generator: GeneratorUsage {
            threads: 1,
            connections: 1,
            cpu_s: 0.1,
            cpu_share_max: 0.1,
            late_p99_us: 1,
            late_p999_us: 1,
            late_max_us: 1,
        },
        unacknowledged: 0,
        errors: 0,
        first_error: None,
    }
}
