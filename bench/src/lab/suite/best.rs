//! Which of several variants of a server is its best: the one with the highest throughput where all were measured.

use super::definition::{Best, Suite};
use super::order::Finished;
use crate::lab::result::{Objection, Trial};
use crate::lab::workload::Rate;
use crate::report::{float, median};

/// The target that a name in a session stands for: itself, or the best of a choice.
pub(crate) fn resolve<'a>(suite: &'a Suite, name: &'a str, finished: &Finished) -> &'a str {
    match suite.best.get(name) {
        None => name,
        Some(best) => &best.among[chosen(suite, best, finished).map_or(0, |choice| choice.place)],
    }
}

/// The choices of a suite that could be made, in words.
pub(crate) fn notes(suite: &Suite, finished: &Finished) -> Vec<String> {
    let lines = suite.best.iter().filter_map(|(name, best)| {
        let choice = chosen(suite, best, finished)?;
        let scores: Vec<String> =
            choice.scores.iter().map(|(target, score)| format!("{target} {score:.1} MB/s")).collect();
        Some(format!("{name} is {}: {} in session {}", best.among[choice.place], scores.join(", "), choice.session))
    });
    lines.collect()
}

/// A choice that was made.
struct Choice<'a> {
    /// Place of the chosen target in its list.
    place: usize,
    session: &'a str,
    /// The targets that were compared, with the geometric mean of their throughputs in MB/s.
    scores: Vec<(&'a str, f64)>,
}

/// `None` while nothing was measured that decides.
fn chosen<'a>(suite: &'a Suite, best: &'a Best, finished: &Finished) -> Option<Choice<'a>> {
    if let Some(like) = &best.like {
        return chosen(suite, suite.best.get(like)?, finished);
    }
    let session = best.session.as_deref()?;
    let scored = best.among.iter().enumerate().filter_map(|(place, target)| {
        let score = score(session, target, finished)?;
        Some((place, target.as_str(), score))
    });
    let scored: Vec<(usize, &str, f64)> = scored.collect();
    let (place, _, _) = scored.iter().max_by(|a, b| a.2.total_cmp(&b.2))?;
    let scores = scored.iter().map(|(_, target, score)| (*target, *score)).collect();
    Some(Choice { place: *place, session, scores })
}

/// Geometric mean, over the workloads at full speed of a session, of the median throughput of a target in MB/s.
fn score(session: &str, target: &str, finished: &Finished) -> Option<f64> {
    let trials = finished.iter().filter(|(key, _)| key.session == session && key.target == target);
    let mut by_step = std::collections::BTreeMap::<usize, Vec<f64>>::new();
    for (key, trial) in trials {
        by_step.entry(key.step).or_default().extend(throughput(trial));
    }
    let medians: Vec<f64> = by_step.into_values().filter(|values| !values.is_empty()).map(median).collect();
    let logarithms: f64 = medians.iter().map(|value| value.ln()).sum();
    let count = u32::try_from(medians.len()).ok().filter(|count| *count > 0)?;
    Some((logarithms / f64::from(count)).exp())
}

/// MB/s of a maximum without errors.
fn throughput(trial: &Trial) -> Option<f64> {
    let load = trial.load.as_ref()?;
    let failed = trial.verdict.iter().any(|objection| matches!(objection, Objection::Errors { .. }));
    let is_maximum = trial.workload.rate == Rate::Max && !failed && load.produced.bytes > 0;
    is_maximum.then(|| float(load.produced.bytes) / 1e6 / load.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::suite::order::{Planned, Standing};
    use crate::lab::suite::samples::{suite, trial};

    const VARIANTS: &str = r#"
        name = "variants"
        [targets.stock]
        kind = "kafka"
        durability = "written"
        [targets.double]
        kind = "kafka"
        durability = "written"
        threads = "double"
        [targets.stock-flushed]
        kind = "kafka"
        durability = "flushed"
        [targets.double-flushed]
        kind = "kafka"
        durability = "flushed"
        threads = "double"
        [best.kafka]
        among = ["stock", "double"]
        session = "variants"
        [best.flushed]
        among = ["stock-flushed", "double-flushed"]
        like = "kafka"
        [[sessions]]
        name = "variants"
        targets = ["stock", "double"]
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
        workload = { name = "small" }
        [[sessions]]
        name = "rest"
        targets = ["kafka", "flushed"]
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
        workload = { name = "large" }
    "#;

    fn produced(planned: &Planned<'_>, bytes: u64) -> Trial {
        let mut trial = trial(planned);
        trial.load.as_mut().unwrap().produced.bytes = bytes;
        trial
    }

    #[test]
    fn the_best_variant_is_the_one_with_the_highest_throughput_and_others_follow_its_choice() {
        let suite = suite(VARIANTS);
        let mut finished = Finished::new();
        assert_eq!(resolve(&suite, "kafka", &finished), "stock", "the first while nothing was measured");
        for bytes in [10_000_000, 30_000_000] {
            let standing = Standing { suite: &suite, only: None, finished: &finished };
            let planned = standing.next_trial(&standing.next_sitting().unwrap()).unwrap();
            let trial = produced(&planned, bytes);
            finished.insert(planned.key, trial);
        }
        assert_eq!(resolve(&suite, "kafka", &finished), "double");
        assert_eq!(resolve(&suite, "flushed", &finished), "double-flushed");
        assert_eq!(resolve(&suite, "stock", &finished), "stock");
        let notes = notes(&suite, &finished);
        assert_eq!(notes[1], "kafka is double: stock 10.0 MB/s, double 30.0 MB/s in session variants");
    }

    #[test]
    fn a_variant_with_errors_is_not_the_best() {
        let suite = suite(VARIANTS);
        let mut finished = Finished::new();
        for bytes in [10_000_000, 30_000_000] {
            let standing = Standing { suite: &suite, only: None, finished: &finished };
            let planned = standing.next_trial(&standing.next_sitting().unwrap()).unwrap();
            let mut trial = produced(&planned, bytes);
            if bytes == 30_000_000 {
                trial.verdict = vec![Objection::Errors { count: 1, first: "it fell over".to_owned() }];
            }
            finished.insert(planned.key, trial);
        }
        assert_eq!(resolve(&suite, "kafka", &finished), "stock");
    }
}
