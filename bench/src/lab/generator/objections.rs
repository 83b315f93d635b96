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
/// Between the two, the part of the 99.9th percentile of the latency that may be our own lateness.
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
        all.push(Objection::BehindSchedule { late_p999_us: load.generator.late_p999_us });
    }
    all.extend(not_sustained);
    if load.errors > 0 {
        let first = load.first_error.clone().unwrap_or_default();
        all.push(Objection::Errors { count: load.errors, first });
    }
    all
}

fn is_behind(load: &LoadResult) -> bool {
    let late = load.generator.late_p999_us;
    let latency = load.produce_latency.as_ref().map_or(0, |latency| latency.p999_us);
    late > LATE_US_MAX || late > LATE_US_FREE && float(late) > LATE_SHARE_MAX * float(latency)
}

fn not_sustained(rate: f64, load: &LoadResult) -> Option<Objection> {
    let acknowledged_share = (float(load.produced.records) / (rate * load.seconds)).min(1.0);
    let backlog = load.windows.last().map_or(load.unacknowledged, |window| window.unacknowledged);
    let is_sustained = acknowledged_share >= ACKNOWLEDGED_SHARE_MIN && float(backlog) <= rate * BACKLOG_S_MAX;
    (!is_sustained).then_some(Objection::NotSustained { acknowledged_share })
}
