//! What a thread counts, and what main makes of it.

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::bounds::{LATENCY_DIGITS, LATENCY_US_MAX};
use crate::lab::result::{Flow, Latency};
use crate::report::float;

/// Counters and histograms of one thread over one interval, or of all over all.
pub(super) struct Tally {
    pub(super) produced: Flow,
    pub(super) consumed: Flow,
    pub(super) caught_up: Flow,
    /// Microseconds from when records were due to their acknowledgement.
    pub(super) latencies: Histogram<u64>,
    /// Microseconds from when records were due to their arrival at a consumer.
    pub(super) end_to_end: Histogram<u64>,
    /// Microseconds by which the thread was late.
    pub(super) late: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) first_error: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            produced: Flow::default(),
            consumed: Flow::default(),
            caught_up: Flow::default(),
            latencies: latencies(),
            end_to_end: latencies(),
            late: latencies(),
            errors: 0,
            first_error: None,
        }
    }

    /// Counts records or fetches that failed.
    pub(super) fn fail(&mut self, count: u64, why: impl FnOnce() -> String) {
        self.errors += count;
        if self.first_error.is_none() && count > 0 {
            self.first_error = Some(why());
        }
    }

    /// Adds what another counted.
    pub(super) fn add(&mut self, other: Tally) {
        add_flow(&mut self.produced, &other.produced);
        add_flow(&mut self.consumed, &other.consumed);
        add_flow(&mut self.caught_up, &other.caught_up);
        self.latencies.add(&other.latencies).expect("their bounds are the same");
        self.end_to_end.add(&other.end_to_end).expect("their bounds are the same");
        self.late.add(&other.late).expect("their bounds are the same");
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// Adds what came after the end: its latencies and errors belong to records that were due before, its counts to no
    /// second that counts.
    pub(super) fn add_late_answers(&mut self, other: Tally) {
        let none = Flow::default();
        self.add(Tally { produced: none, consumed: none, caught_up: none, ..other });
    }
}

fn add_flow(flow: &mut Flow, other: &Flow) {
    flow.records += other.records;
    flow.bytes += other.bytes;
    flow.batch_bytes += other.batch_bytes;
    flow.requests += other.requests;
}

fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS).expect("the bounds are sound")
}

/// A histogram as the result has it; none if nothing was counted.
pub(super) fn latency(histogram: &Histogram<u64>) -> Result<Option<Latency>, String> {
    if histogram.is_empty() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(|error| error.to_string())?;
    Ok(Some(Latency {
        histogram: base64::engine::general_purpose::STANDARD.encode(&bytes),
        count: histogram.len(),
        mean_us: histogram.mean(),
        p50_us: histogram.value_at_quantile(0.5),
        p90_us: histogram.value_at_quantile(0.9),
        p99_us: histogram.value_at_quantile(0.99),
        p999_us: histogram.value_at_quantile(0.999),
        p9999_us: histogram.value_at_quantile(0.9999),
        p99999_us: histogram.value_at_quantile(0.999_99),
        max_us: histogram.max(),
    }))
}

/// Share of a time that was spent, both in nanoseconds.
pub(super) fn share(spent_ns: u64, of_ns: u64) -> f64 {
    float(spent_ns) / float(of_ns.max(1))
}
