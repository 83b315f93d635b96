//! Which rate a ladder tries next, and where the knee is. Plain arithmetic on what was tried.
//!
//! Rates rise by a factor until one fails, then the gap is halved (by ratio) until it is small. A rate that fails is tried
//! once more before it is believed, as a machine that others use too may have been away for a moment.
//! For example from 1,000 by 2 to within 1.2: 1,000 2,000 4,000 8,000 (fails twice) 5,657 6,727: the knee is one of these.

use serde::{Deserialize, Serialize};

use crate::lab::result::{Objection, Trial};
use crate::lab::workload::Rate;

/// How a ladder is climbed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LadderRule {
    /// The lowest rate, in records per second. If it fails, there is no knee.
    pub(crate) first_per_s: f64,
    /// No higher rate is tried.
    pub(crate) last_per_s: f64,
    /// From one rate to the next.
    pub(crate) factor: f64,
    /// The knee is known when the lowest failed rate is at most so many times the highest sustained one.
    pub(crate) precision: f64,
    /// A rate is sustained when it was kept up and the 99th percentile of produce latency is at most this. The same for all
    /// targets, so that their knees mean the same.
    pub(crate) p99_ms_max: f64,
}

/// One try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rung {
    pub(crate) per_s: f64,
    pub(crate) is_sustained: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Next {
    /// Try this rate, in records per second.
    Try(f64),
    /// Nothing: the knee is known, or there is none as the lowest rate failed.
    Done(Option<f64>),
}

/// How often a rate must fail to count as failed.
const FAILURES: usize = 2;

impl LadderRule {
    /// What a trial says about its rate; `None` for one without a rate.
    ///
    /// A generator that was late is no reason against a rate: latency counts from when records were due, so it made the
    /// broker look worse, never better.
    pub(crate) fn rung(&self, trial: &Trial) -> Option<Rung> {
        let Rate::PerSecond(per_s) = trial.workload.rate else { return None };
        let kept_up = trial.verdict.iter().all(|objection| match objection {
            Objection::NotSustained { .. } | Objection::Errors { .. } => false,
            Objection::BehindSchedule { .. } | Objection::GeneratorLimited { .. } | Objection::NotWarm => true,
        });
        let p99_us = trial.load.as_ref().and_then(|load| load.produce_latency.as_ref()).map(|latency| latency.p99_us);
        let is_quick = p99_us.is_some_and(|p99_us| crate::report::float(p99_us) <= self.p99_ms_max * 1000.0);
        Some(Rung { per_s, is_sustained: kept_up && is_quick })
    }

    /// What comes after these tries, in the order in which they were made.
    pub(crate) fn next(&self, rungs: &[Rung]) -> Next {
        let sustained = rungs.iter().filter(|rung| rung.is_sustained).map(|rung| rung.per_s).reduce(f64::max);
        let is_failed = |per_s: f64| {
            let tries = rungs.iter().filter(|rung| is_same(rung.per_s, per_s));
            let (good, bad): (Vec<&Rung>, Vec<&Rung>) = tries.partition(|rung| rung.is_sustained);
            good.is_empty() && bad.len() >= FAILURES
        };
        if let Some(last) = rungs.last().filter(|rung| !rung.is_sustained)
            && sustained.is_none_or(|sustained| sustained < last.per_s)
            && !is_failed(last.per_s)
        {
            return Next::Try(last.per_s);
        }
        let above = rungs.iter().map(|rung| rung.per_s).filter(|per_s| sustained.is_none_or(|best| *per_s > best));
        let failed = above.filter(|per_s| is_failed(*per_s)).reduce(f64::min);
        match (sustained, failed) {
            (None, None) => Next::Try(self.first_per_s),
            (None, Some(_)) => Next::Done(None),
            (Some(best), None) if best * 1.000_001 >= self.last_per_s => Next::Done(Some(best)),
            (Some(best), None) => Next::Try((best * self.factor).min(self.last_per_s).round()),
            (Some(best), Some(failed)) if failed / best <= self.precision => Next::Done(Some(best)),
            (Some(best), Some(failed)) => Next::Try((best * failed).sqrt().round()),
        }
    }

    /// The most tries that it can take.
    pub(crate) fn tries_max(&self) -> u32 {
        let (mut tries, mut per_s) = (1, self.first_per_s);
        while per_s < self.last_per_s {
            per_s *= self.factor;
            tries += 1;
        }
        let mut gap = self.factor;
        while gap > self.precision {
            gap = gap.sqrt();
            // Each halving may fail, and be tried again.
            tries += 2;
        }
        tries + 1
    }
}

fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() <= a.abs() * 1e-9
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: LadderRule =
        LadderRule { first_per_s: 1000.0, last_per_s: 100_000.0, factor: 2.0, precision: 1.2, p99_ms_max: 50.0 };

    /// Climbs with a server that sustains what `sustains` says of the rate and the number of the try.
    fn climb(rule: LadderRule, sustains: impl Fn(f64, usize) -> bool) -> (Option<f64>, Vec<f64>) {
        let mut rungs: Vec<Rung> = Vec::new();
        loop {
            match rule.next(&rungs) {
                Next::Done(knee) => return (knee, rungs.iter().map(|rung| rung.per_s).collect()),
                Next::Try(per_s) => rungs.push(Rung { per_s, is_sustained: sustains(per_s, rungs.len()) }),
            }
            assert!(u32::try_from(rungs.len()).unwrap() <= rule.tries_max(), "more tries than announced: {rungs:?}");
        }
    }

    #[test]
    fn the_knee_is_within_the_precision_below_the_limit_of_the_server() {
        for limit in [1000.0, 1500.0, 7000.0, 12_345.0, 99_000.0] {
            let (knee, tried) = climb(RULE, |per_s, _| per_s <= limit);
            let knee = knee.unwrap();
            assert!(knee <= limit && knee * RULE.precision >= limit, "{knee} of {limit}: {tried:?}");
        }
    }

    #[test]
    fn rates_rise_by_the_factor_and_then_halve_the_gap() {
        let (_, tried) = climb(RULE, |per_s, _| per_s <= 6000.0);
        assert_eq!(tried, [1000.0, 2000.0, 4000.0, 8000.0, 8000.0, 5657.0, 6727.0, 6727.0]);
    }

    #[test]
    fn one_bad_moment_does_not_end_the_climb() {
        let (knee, tried) = climb(RULE, |per_s, tries| per_s <= 9000.0 && tries != 1);
        assert_eq!(&tried[..3], [1000.0, 2000.0, 2000.0]);
        assert!(knee.unwrap() >= 8000.0);
    }

    #[test]
    fn a_server_that_fails_at_the_lowest_rate_has_no_knee() {
        assert_eq!(climb(RULE, |_, _| false), (None, vec![1000.0, 1000.0]));
    }

    #[test]
    fn the_highest_rate_is_the_knee_of_a_server_that_sustains_it() {
        let (knee, tried) = climb(RULE, |_, _| true);
        assert_eq!((knee, tried.last().copied()), (Some(100_000.0), Some(100_000.0)));
    }
}
