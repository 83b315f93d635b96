//! What is said of several repeats: their middle, how far they lie apart, ratios of such, and where a rate ladder breaks.

use crate::report::median;

/// Several values of one figure. All are finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) count: usize,
}

impl Spread {
    /// Of the finite ones among `values`; `None` where there are none.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let finite: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let min = finite.iter().copied().min_by(f64::total_cmp)?;
        let max = finite.iter().copied().max_by(f64::total_cmp)?;
        let count = finite.len();
        Some(Spread { median: median(finite), min, max, count })
    }
}

/// How many times one figure is another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ratio {
    /// Of the medians.
    pub(super) median: f64,
    /// The smallest that any two repeats give.
    pub(super) min: f64,
    /// The largest that any two repeats give.
    pub(super) max: f64,
}

impl Ratio {
    /// `of` ÷ `to`; `None` unless all of `to` is above zero.
    pub(super) fn new(of: Spread, to: Spread) -> Option<Ratio> {
        (to.min > 0.0).then(|| Ratio { median: of.median / to.median, min: of.min / to.max, max: of.max / to.min })
    }
}

/// One rate of a ladder and what became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rung {
    /// Records per second that were offered.
    pub(super) rate: f64,
    pub(super) outcome: Outcome,
}

/// What became of a rate that was offered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The server kept up.
    Kept,
    /// The server did not.
    Lost,
    /// The generator, or the warm-up, leaves it open.
    Open,
}

/// The highest rate that a server keeps up with, as far as a ladder tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Knee {
    /// The next higher rate was lost.
    At(f64),
    /// No higher rate was tried, or the next one was left open.
    AtLeast(f64),
    /// Not even the lowest rate was kept.
    BelowAll,
}

/// Where the ladder breaks: a rate counts only if all lower ones were kept too. `None` without rungs, or when the lowest
/// one is left open.
pub(super) fn knee(rungs: &[Rung]) -> Option<Knee> {
    let mut rungs = rungs.to_vec();
    rungs.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let kept = rungs.iter().take_while(|rung| rung.outcome == Outcome::Kept).count();
    let next = rungs.get(kept).map(|rung| rung.outcome);
    match (kept.checked_sub(1).map(|last| rungs[last].rate), next) {
        (Some(rate), Some(Outcome::Lost)) => Some(Knee::At(rate)),
        (Some(rate), _) => Some(Knee::AtLeast(rate)),
        (None, Some(Outcome::Lost)) => Some(Knee::BelowAll),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ladder(rungs: &[(f64, Outcome)]) -> Option<Knee> {
        knee(&rungs.iter().map(|&(rate, outcome)| Rung { rate, outcome }).collect::<Vec<_>>())
    }

    #[test]
    fn a_spread_leaves_out_what_is_no_number() {
        let spread = Spread::of([3.0, f64::NAN, 1.0, f64::INFINITY, 2.0]).expect("three are numbers");
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0, count: 3 });
        assert_eq!(Spread::of([f64::NAN]), None);
    }

    #[test]
    fn a_ratio_spans_what_any_two_repeats_give() {
        let of = Spread { median: 20.0, min: 18.0, max: 24.0, count: 3 };
        let to = Spread { median: 10.0, min: 9.0, max: 12.0, count: 3 };
        let ratio = Ratio::new(of, to).expect("nothing is zero");
        assert_eq!(ratio, Ratio { median: 2.0, min: 1.5, max: 24.0 / 9.0 });
        assert_eq!(Ratio::new(of, Spread { min: 0.0, ..to }), None);
    }

    #[test]
    fn the_knee_is_the_last_rate_before_the_first_that_was_lost() {
        use Outcome::{Kept, Lost, Open};
        assert_eq!(ladder(&[(30.0, Lost), (10.0, Kept), (20.0, Kept)]), Some(Knee::At(20.0)));
        assert_eq!(ladder(&[(10.0, Kept), (20.0, Lost), (30.0, Kept)]), Some(Knee::At(10.0)));
        assert_eq!(ladder(&[(10.0, Kept), (20.0, Open), (30.0, Lost)]), Some(Knee::AtLeast(10.0)));
        assert_eq!(ladder(&[(10.0, Kept)]), Some(Knee::AtLeast(10.0)));
        assert_eq!(ladder(&[(10.0, Lost)]), Some(Knee::BelowAll));
        assert_eq!(ladder(&[(10.0, Open), (20.0, Kept)]), None);
        assert_eq!(ladder(&[]), None);
    }
}
