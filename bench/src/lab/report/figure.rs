//! The metrics of a report: how each is read off a trial, which way is better, and in which notation it stands.

use super::super::result::{Latency, LoadResult, Trial, Usage};
use super::super::workload::{Rate, Workload};
use super::number;
use crate::report::float;

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Better {
    More,
    Less,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    /// With its unit.
    pub(super) name: &'static str,
    pub(super) better: Better,
    /// Its value; `None` where the trial has none.
    pub(super) of: fn(&Trial) -> Option<f64>,
    pub(super) notation: fn(f64) -> String,
}

pub(super) const RECORDS_PER_S: Metric = Metric {
    name: "records/s",
    better: Better::More,
    of: |trial| over_time(load(trial)?, load(trial)?.produced.records),
    notation: number::plain,
};

pub(super) const MB_PER_S: Metric = Metric {
    name: "MB/s",
    better: Better::More,
    of: |trial| over_time(load(trial)?, load(trial)?.produced.bytes).map(|bytes| bytes / 1e6),
    notation: number::plain,
};

pub(super) const CPU_S_PER_GB: Metric = Metric {
    name: "CPU s/GB",
    better: Better::Less,
    of: |trial| quotient(trial.server?.cpu_s, float(load(trial)?.produced.bytes) / 1e9),
    notation: number::plain,
};

/// Over bytes of batches as they went over the wire, because that is what a server receives, checks, copies and writes.
pub(super) const CPU_NS_PER_KIB: Metric = Metric {
    name: "CPU ns/KiB",
    better: Better::Less,
    of: |trial| quotient(trial.server?.cpu_s * 1e9, float(load(trial)?.produced.batch_bytes) / 1024.0),
    notation: number::plain,
};

pub(super) const P50: Metric = Metric {
    name: "produce p50",
    better: Better::Less,
    of: |trial| Some(float(produce(trial)?.p50_us)),
    notation: number::duration_us,
};

pub(super) const P99: Metric = Metric {
    name: "produce p99",
    better: Better::Less,
    of: |trial| Some(float(produce(trial)?.p99_us)),
    notation: number::duration_us,
};

pub(super) const P999: Metric = Metric {
    name: "produce p99.9",
    better: Better::Less,
    of: |trial| Some(float(produce(trial)?.p999_us)),
    notation: number::duration_us,
};

pub(super) const END_TO_END_P50: Metric = Metric {
    name: "end-to-end p50",
    better: Better::Less,
    of: |trial| Some(float(end_to_end(trial)?.p50_us)),
    notation: number::duration_us,
};

pub(super) const END_TO_END_P99: Metric = Metric {
    name: "end-to-end p99",
    better: Better::Less,
    of: |trial| Some(float(end_to_end(trial)?.p99_us)),
    notation: number::duration_us,
};

pub(super) const END_TO_END_P999: Metric = Metric {
    name: "end-to-end p99.9",
    better: Better::Less,
    of: |trial| Some(float(end_to_end(trial)?.p999_us)),
    notation: number::duration_us,
};

pub(super) const CAUGHT_UP_MB_PER_S: Metric = Metric {
    name: "catch-up MB/s",
    better: Better::More,
    of: |trial| over_time(load(trial)?, load(trial)?.caught_up.bytes).map(|bytes| bytes / 1e6),
    notation: number::plain,
};

/// A thousandth of one core is 1.
pub(super) const CPU_MS_PER_S: Metric = Metric {
    name: "CPU ms/s",
    better: Better::Less,
    of: |trial| quotient(trial.server?.cpu_s * 1e3, trial.server?.seconds),
    notation: number::plain,
};

pub(super) const READY_MS: Metric =
    Metric { name: "ready after ms", better: Better::Less, of: |trial| trial.ready_ms, notation: number::plain };

/// What a headline table says of a workload: of a maximum its throughput, of a fixed rate its latencies, of both the CPU.
pub(super) fn headline(workload: &Workload) -> &'static [Metric] {
    match workload.rate {
        Rate::Max => const { &[RECORDS_PER_S, MB_PER_S, CPU_S_PER_GB] },
        Rate::PerSecond(_) => {
            const { &[P50, P99, P999, END_TO_END_P50, END_TO_END_P99, END_TO_END_P999, CAUGHT_UP_MB_PER_S, CPU_S_PER_GB] }
        }
    }
}

/// The one of them by which a variant is chosen and pictures are ordered.
pub(super) fn leading(workload: &Workload) -> &'static Metric {
    match workload.rate {
        Rate::Max => &MB_PER_S,
        Rate::PerSecond(_) => &P99,
    }
}

fn load(trial: &Trial) -> Option<&LoadResult> {
    trial.load.as_ref()
}

/// The latency of produced records; at a maximum it says nothing but how long the queue was.
pub(super) fn produce(trial: &Trial) -> Option<&Latency> {
    fixed_rate(trial)?.produce_latency.as_ref().filter(|latency| latency.count > 0)
}

/// The latency up to the arrival at a consumer.
pub(super) fn end_to_end(trial: &Trial) -> Option<&Latency> {
    fixed_rate(trial)?.end_to_end_latency.as_ref().filter(|latency| latency.count > 0)
}

fn fixed_rate(trial: &Trial) -> Option<&LoadResult> {
    load(trial).filter(|_| matches!(trial.workload.rate, Rate::PerSecond(_)))
}

fn over_time(load: &LoadResult, count: u64) -> Option<f64> {
    quotient(float(count), load.seconds).filter(|_| count > 0)
}

/// A server's CPU, or a machine's, in cores.
pub(super) fn cores(usage: &Usage) -> Option<f64> {
    quotient(usage.cpu_s, usage.seconds)
}

/// `None` where it would divide by nothing.
pub(super) fn quotient(dividend: f64, divisor: f64) -> Option<f64> {
    (divisor > 0.0).then(|| dividend / divisor).filter(|quotient| quotient.is_finite())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn trial(workload: &str) -> Trial {
        let run = fixture::run();
        run.trials.into_iter().find(|trial| trial.workload.name == workload).expect("the fixture has it")
    }

    #[test]
    fn a_maximum_has_no_latency() {
        let mut maximum = trial("throughput-1k");
        maximum.load.as_mut().expect("it has load").produce_latency = Some(fixture::latency([5]));
        assert_eq!((P99.of)(&maximum), None);
        assert!((MB_PER_S.of)(&maximum).is_some());
    }

    #[test]
    fn what_was_not_measured_is_not_zero() {
        let mut empty = trial("throughput-1k");
        empty.server = None;
        assert_eq!((CPU_S_PER_GB.of)(&empty), None);
        empty.load.as_mut().expect("it has load").seconds = 0.0;
        assert_eq!((RECORDS_PER_S.of)(&empty), None);
        empty.load = None;
        assert_eq!((MB_PER_S.of)(&empty), None);
    }

    #[test]
    fn cpu_is_counted_per_byte_that_was_acknowledged() {
        let mut trial = trial("throughput-1k");
        let load = trial.load.as_mut().expect("it has load");
        load.produced.bytes = 2_000_000_000;
        load.produced.batch_bytes = 1024 * 1_000_000;
        trial.server.as_mut().expect("it was measured").cpu_s = 0.5;
        assert_eq!((CPU_S_PER_GB.of)(&trial), Some(0.25));
        assert_eq!((CPU_NS_PER_KIB.of)(&trial), Some(500.0));
    }
}
