//! What did not count, and why: the objections of a run in words.

use maud::{Markup, html};

use super::super::result::Objection;
use super::group::{Numbered, label};
use super::number;

/// Objections shown at once; a longer list opens when asked, since the figures stand below it.
const SHOWN_MAX: usize = 8;

/// An objection in two words, for tables.
pub(super) fn short(objection: &Objection) -> &'static str {
    match objection {
        Objection::GeneratorLimited { .. } => "generator-limited",
        Objection::BehindSchedule { .. } => "behind schedule",
        Objection::NotSustained { .. } => "not sustained",
        Objection::Errors { .. } => "errors",
        Objection::NotWarm => "not warm",
    }
}

/// An objection with its figures.
pub(super) fn words(objection: &Objection) -> String {
    match objection {
        Objection::GeneratorLimited { cpu_share } => {
            format!("generator-limited: its busiest thread used {} of its CPU", number::percent(*cpu_share))
        }
        Objection::BehindSchedule { late_p99_us } => {
            let late = number::duration_us(crate::report::float(*late_p99_us));
            format!("behind schedule: the generator took up 1 % of the records more than {late} late")
        }
        Objection::NotSustained { acknowledged_share } => {
            let share = number::percent(*acknowledged_share);
            format!("not sustained: {share} of the offered records were acknowledged in time")
        }
        Objection::Errors { count, first } => {
            format!("errors: {} records or fetches failed, the first with: {first}", number::count(*count))
        }
        Objection::NotWarm => {
            "not warm: the warm-up ended by its limit of time before the figures had settled".to_owned()
        }
    }
}

/// True where the server failed, and not the generator, the warm-up or the hour.
pub(super) fn server_failed(objection: &Objection) -> bool {
    match objection {
        Objection::NotSustained { .. } | Objection::Errors { .. } => true,
        Objection::GeneratorLimited { .. } | Objection::BehindSchedule { .. } | Objection::NotWarm => false,
    }
}

/// True where a rate ladder went beyond what the server keeps up with, which is what ladders are for.
fn beyond_knee(numbered: &Numbered<'_>) -> bool {
    let verdict = &numbered.trial.verdict;
    numbered.trial.theme == "ladder" && verdict.iter().all(|one| matches!(one, Objection::NotSustained { .. }))
}

/// How many trials count, and each that does not with its reasons.
pub(super) fn section(trials: &[Numbered<'_>]) -> Markup {
    let (beyond, void): (Vec<&Numbered<'_>>, Vec<&Numbered<'_>>) =
        trials.iter().filter(|numbered| !numbered.trial.verdict.is_empty()).partition(|numbered| beyond_knee(numbered));
    let counting = trials.len() - beyond.len() - void.len();
    let together = alike(&void);
    html! {
        div.verdict {
            p {
                strong { (counting) " of " (trials.len()) " trials count." }
                @if !beyond.is_empty() {
                    " " (beyond.len()) " are steps of rate ladders above the knee, which ladders are meant to find."
                }
                @if void.is_empty() {
                    " Nothing else was objected to."
                } @else {
                    " " (void.len()) " do not; their figures are struck out and support no ratio."
                }
            }
            @if !void.is_empty() {
                details open[together.len() <= SHOWN_MAX] {
                    summary { "Which, and why" }
                    ul { @for alike in &together { (item(alike)) } }
                }
            }
        }
    }
}

/// Repeats to which the same was objected, together.
fn alike<'n, 'a>(void: &[&'n Numbered<'a>]) -> Vec<Vec<&'n Numbered<'a>>> {
    let kinds = |one: &Numbered<'_>| one.trial.verdict.iter().map(short).collect::<Vec<_>>();
    let mut together: Vec<Vec<&Numbered<'_>>> = Vec::new();
    for &numbered in void {
        let same = |others: &&mut Vec<&Numbered<'_>>| {
            let other = others[0];
            other.trial.workload == numbered.trial.workload
                && other.trial.target == numbered.trial.target
                && other.trial.theme == numbered.trial.theme
                && kinds(other) == kinds(numbered)
        };
        match together.iter_mut().find(same) {
            Some(others) => others.push(numbered),
            None => together.push(vec![numbered]),
        }
    }
    together
}

fn item(alike: &[&Numbered<'_>]) -> Markup {
    let first = alike[0].trial;
    let words = first.verdict.iter().map(words).collect::<Vec<_>>().join("; ");
    html! {
        li {
            (first.workload.name) ", " (label(&first.target)) ", repeat "
            @for (index, numbered) in alike.iter().enumerate() {
                @if index > 0 { ", " }
                a href={ "#t" (numbered.number) } { (numbered.trial.repeat + 1) }
            }
            ": " (words)
            @if alike.len() > 1 { " (the first of them)" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn ladders_above_their_knee_are_no_failure() {
        let mut run = fixture::run();
        run.trials.retain(|trial| trial.theme == "ladder");
        let trials =
            run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial }).collect::<Vec<_>>();
        let text = section(&trials).into_string();
        assert!(text.contains("steps of rate ladders above the knee"));
        assert!(text.contains("Nothing else was objected to"));
    }

    #[test]
    fn repeats_with_the_same_objection_stand_together() {
        let mut run = fixture::run();
        run.trials.retain(|trial| trial.workload.name == "throughput-100b" && trial.target.name == "corelane written");
        let trials =
            run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial }).collect::<Vec<_>>();
        let text = section(&trials).into_string();
        assert_eq!((trials.len(), text.matches("<li>").count(), text.matches("href").count()), (6, 2, 6));
        assert!(text.contains("<details open>"));
    }

    #[test]
    fn long_lists_open_when_asked() {
        let mut run = fixture::run();
        run.trials.truncate(1);
        run.trials[0].verdict = vec![Objection::NotWarm];
        for number in 0..SHOWN_MAX {
            let mut trial = run.trials[0].clone();
            trial.workload.name = format!("workload-{number}");
            run.trials.push(trial);
        }
        let trials =
            run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial }).collect::<Vec<_>>();
        let text = section(&trials).into_string();
        assert_eq!(text.matches("<li>").count(), SHOWN_MAX + 1);
        assert!(text.contains("<details>"));
    }

    #[test]
    fn every_objection_names_its_trial_and_its_figures() {
        let mut run = fixture::single();
        run.trials[0].verdict =
            vec![fixture::generator_limited(), Objection::BehindSchedule { late_p99_us: 1500 }, Objection::NotWarm];
        let text = section(&[Numbered { number: 4, trial: &run.trials[0] }]).into_string();
        for part in ["0 of 1 trials count", "#t4", "93 % of its CPU", "1.50 ms late", "not warm"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
