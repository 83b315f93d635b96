//! Raw histograms of a run: decoded, merged over repeats, and read off as points of a curve.

use std::error::Error;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use super::super::result::Latency;
use crate::report::{float, latencies};

/// Nines up to which curves go: 99.999 %.
const NINES_MAX: u32 = 5;
/// Points of a curve between two nines.
const POINTS_PER_NINE: u32 = 20;

/// One point of a curve of latency by percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Percentile {
    /// log10(1 / (1 − share)): 1 for 90 %, 2 for 99 %.
    pub(super) nines: f64,
    /// Share of the records that took at most this long.
    pub(super) share: f64,
    pub(super) us: f64,
}

/// All repeats as one histogram of microseconds.
///
/// Errors: one of the histograms is not what [`Latency::histogram`] says.
pub(super) fn merged<'a>(repeats: impl IntoIterator<Item = &'a Latency>) -> Result<Histogram<u64>, Box<dyn Error>> {
    let mut all = latencies();
    all.auto(true);
    for latency in repeats {
        all.add(decoded(&latency.histogram)?)?;
    }
    Ok(all)
}

fn decoded(base64: &str) -> Result<Histogram<u64>, Box<dyn Error>> {
    let bytes = STANDARD.decode(base64.trim()).map_err(|error| format!("a histogram that is no base64: {error}"))?;
    let histogram = Deserializer::new().deserialize(&mut bytes.as_slice());
    histogram.map_err(|error| format!("a histogram that cannot be read: {error:?}").into())
}

/// The curve from 50 % up to 99.999 %, or up to the percentile beyond which fewer than one record lies.
pub(super) fn percentiles(histogram: &Histogram<u64>) -> Vec<Percentile> {
    let nines_max = float(histogram.len()).log10();
    let half = 2_f64.log10();
    let steps = (0..=NINES_MAX * POINTS_PER_NINE).map(|step| f64::from(step) / f64::from(POINTS_PER_NINE));
    [half]
        .into_iter()
        .chain(steps.filter(|&nines| nines > half))
        .take_while(|&nines| nines <= nines_max)
        .map(|nines| at(histogram, nines))
        .collect()
}

/// The point for so many nines.
fn at(histogram: &Histogram<u64>, nines: f64) -> Percentile {
    let share = 1.0 - 10_f64.powf(-nines);
    Percentile { nines, share, us: float(histogram.value_at_quantile(share).max(1)) }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::latency;
    use super::*;

    #[test]
    fn repeats_are_merged_before_percentiles_are_taken() {
        let (low, high) = (latency((0..9_900).map(|_| 100)), latency((0..100).map(|_| 50_000)));
        let both = merged([&low, &high]).expect("both are well formed");
        assert_eq!(both.len(), 10_000);
        assert_eq!(both.value_at_quantile(0.98), 100);
        assert!(both.value_at_quantile(0.995) > 49_000);
    }

    #[test]
    fn a_curve_ends_where_no_record_is_left() {
        let curve = percentiles(&merged([&latency(1..=1000)]).expect("it is well formed"));
        let last = curve.last().expect("there are records");
        assert!((last.nines - 3.0).abs() < 1e-9, "a thousand records tell nothing beyond 99.9 %: {last:?}");
        assert!(curve.windows(2).all(|pair| pair[0].us <= pair[1].us));
        assert!((curve[0].share - 0.5).abs() < 1e-9);
        assert!(percentiles(&latencies()).is_empty());
    }

    #[test]
    fn a_broken_histogram_is_an_error() {
        let broken = |text: &str| Latency { histogram: text.to_owned(), ..latency([1]) };
        assert!(merged([&broken("no base64!")]).is_err());
        assert!(merged([&broken("AAAA")]).is_err());
    }
}
