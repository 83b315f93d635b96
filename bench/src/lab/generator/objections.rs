//! Why the figures of a load do not count, from the figures themselves.

use crate::lab::result::{LoadResult, Objection};
use crate::lab::workload::{Rate, Workload};
use crate::report::float;

/// Share of its CPU from which on the generator may be what limits a maximum.
const CPU_SHARE_MAX: f64 = 0.8;
/// Lateness at which a run counts as behind its schedule whatever its latency, in microseconds: no workload that asks for
/// microseconds is served with a millisecond of our own.
const LATE_US_MAX: u64 = 1_000;
/// Lateness that is never objected to, in microseconds: what a sleeping CPU takes to wake up.
const LATE_US_FREE: u64 = 100;
/// Between the two, the part of the 99th percentile of the latency that may be our own lateness.
const LATE_SHARE_MAX: f64 = 0.1;
/// Share of the offered records that must be acknowledged within the seconds that count.
const ACKNOWLEDGED_SHARE_MIN: f64 = 0.99;
/// Records that may be unacknowledged at the end, in seconds of the rate.
const BACKLOG_S_MAX: f64 = 1.0;

/// Everything that speaks against a load's figures; empty when they count.
pub(crate) fn objections(workload: &Workload, load: &LoadResult) -> Vec<Objection> {
    let mut all = Vec::new();
    let cpu_share = load.generator.cpu_share_max;
    let not_sustained = match workload.rate {
        Rate::PerSecond(rate) => not_sustained(rate, load),
        Rate::Max => None,
    };
    let is_limit = workload.rate == Rate::Max || not_sustained.is_some();
    if is_limit && cpu_share >= CPU_SHARE_MAX {
        all.push(Objection::GeneratorLimited { cpu_share });
    }
    if workload.rate != Rate::Max && is_behind(load) {
        all.push(Objection::BehindSchedule { late_p99_us: load.generator.late_p99_us });
    }
    all.extend(not_sustained);
    if load.errors > 0 {
        let first = load.first_error.clone().unwrap_or_default();
        all.push(Objection::Errors { count: load.errors, first });
    }
    all
}

/// Judged at the 99th percentile: a generator that does not keep up is late all the time. The rarest are late wherever the
/// machine pauses (on the virtual machine where this was written by 1 to 4 ms, each second), for all targets alike;
/// the reports show how late, since percentiles above the 99th hold those pauses.
fn is_behind(load: &LoadResult) -> bool {
    let late = load.generator.late_p99_us;
    let latency = load.produce_latency.as_ref().map_or(0, |latency| latency.p99_us);
    late > LATE_US_MAX || late > LATE_US_FREE && float(late) > LATE_SHARE_MAX * float(latency)
}

fn not_sustained(rate: f64, load: &LoadResult) -> Option<Objection> {
    let acknowledged_share = (float(load.produced.records) / (rate * load.seconds)).min(1.0);
    let backlog = load.windows.last().map_or(load.unacknowledged, |window| window.unacknowledged);
    let is_sustained = acknowledged_share >= ACKNOWLEDGED_SHARE_MIN && float(backlog) <= rate * BACKLOG_S_MAX;
    (!is_sustained).then_some(Objection::NotSustained { acknowledged_share })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::result::{Flow, GeneratorUsage, Latency, Window};

    /// Ten seconds at 1,000 records per second in which all went well.
    fn fine(rate: Rate) -> (Workload, LoadResult) {
        let generator = GeneratorUsage {
            threads: 1,
            connections: 1,
            cpu_s: 1.0,
            cpu_share_max: 0.1,
            late_p99_us: 10,
            late_p999_us: 60,
            late_max_us: 900,
        };
        let latency = Latency {
            histogram: String::new(),
            count: 10_000,
            mean_us: 300.0,
            p50_us: 300,
            p90_us: 310,
            p99_us: 350,
            p999_us: 500,
            p9999_us: 900,
            p99999_us: 1_000,
            max_us: 1_000,
        };
        let load = LoadResult {
            seconds: 10.0,
            offered_per_s: None,
            produced: Flow { records: 10_000, ..Flow::default() },
            consumed: Flow::default(),
            caught_up: Flow::default(),
            produce_latency: Some(latency),
            end_to_end_latency: None,
            windows: vec![Window::default()],
            generator,
            unacknowledged: 0,
            errors: 0,
            first_error: None,
        };
        (Workload { rate, ..Workload::default() }, load)
    }

    #[test]
    fn nothing_speaks_against_a_run_in_which_all_went_well() {
        for rate in [Rate::PerSecond(1_000.0), Rate::Max] {
            let (workload, load) = fine(rate);
            assert_eq!(objections(&workload, &load), []);
        }
    }

    #[test]
    fn a_busy_generator_spoils_a_maximum_only() {
        let (maximum, mut load) = fine(Rate::Max);
        load.generator.cpu_share_max = 0.8;
        assert_eq!(objections(&maximum, &load), [Objection::GeneratorLimited { cpu_share: 0.8 }]);
        let (fixed, _) = fine(Rate::PerSecond(1_000.0));
        assert_eq!(objections(&fixed, &load), []);
        // What it did not reach may be its own fault.
        load.produced.records = 9_000;
        let both =
            [Objection::GeneratorLimited { cpu_share: 0.8 }, Objection::NotSustained { acknowledged_share: 0.9 }];
        assert_eq!(objections(&fixed, &load), both);
    }

    #[test]
    fn lateness_counts_by_its_part_of_the_latency() {
        let (workload, mut load) = fine(Rate::PerSecond(1_000.0));
        let is_behind = |load: &LoadResult| !objections(&workload, load).is_empty();
        load.generator.late_p999_us = 4_000;
        load.generator.late_p99_us = 100;
        assert!(!is_behind(&load));
        load.generator.late_p99_us = 101;
        assert!(is_behind(&load));
        load.produce_latency.as_mut().unwrap().p99_us = 5_000;
        assert!(!is_behind(&load));
        load.produce_latency.as_mut().unwrap().p99_us = 5_000_000;
        load.generator.late_p99_us = 1_001;
        assert!(is_behind(&load));
    }

    #[test]
    fn a_backlog_at_the_end_is_not_sustained() {
        let (workload, mut load) = fine(Rate::PerSecond(1_000.0));
        load.windows[0].unacknowledged = 1_001;
        assert_eq!(objections(&workload, &load), [Objection::NotSustained { acknowledged_share: 1.0 }]);
    }

    #[test]
    fn errors_are_told_with_the_first() {
        let (workload, mut load) = fine(Rate::Max);
        (load.errors, load.first_error) = (3, Some("NOT_LEADER_OR_FOLLOWER".to_owned()));
        let first = "NOT_LEADER_OR_FOLLOWER".to_owned();
        assert_eq!(objections(&workload, &load), [Objection::Errors { count: 3, first }]);
    }
}
