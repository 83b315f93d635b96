//! Figures in one notation.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The middle of the values; of an even number the lower of the two in the middle.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
}

/// Millions of bytes per second.
pub(crate) fn mb_per_second(bytes: u64, time: Duration) -> f64 {
    float(bytes) / 1e6 / time.as_secs_f64()
}

/// Nanoseconds for each KiB.
pub(crate) fn ns_per_kib(time: Duration, bytes: u64) -> f64 {
    time.as_secs_f64() * 1e9 / (float(bytes) / 1024.0)
}

/// A value of a histogram of microseconds.
pub(crate) fn quantile_us(histogram: &Histogram<u64>, share: f64) -> f64 {
    float(histogram.value_at_quantile(share))
}

/// A histogram of latencies: microseconds to a minute.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are sound")
}

/// Counts one latency; what is beyond the histogram counts as its greatest.
pub(crate) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    histogram.saturating_record(us.max(1));
}

/// What a count is to arithmetic; figures above 2^53 do not occur.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0]) - 1.0).abs() < 1e-9);
        assert!(median([]).is_nan());
    }
}
