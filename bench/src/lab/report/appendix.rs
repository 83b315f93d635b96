//! Every target and variant beside the others, and every trial on a line of its own, to which all figures are tied.

use maud::{Markup, html};

use super::figure::{
    CPU_S_PER_GB, END_TO_END_P99, MB_PER_S, Metric, P50, P99, P999, READY_MS, RECORDS_PER_S, headline, produce,
};
use super::group::{Group, Numbered, families, label};
use super::headline::{median, objections};
use super::look::Look;
use super::number;
use super::pictures::rate_words;
use super::verdict;
use crate::report::float;

/// Columns that are metrics.
const METRICS: [Metric; 8] = [RECORDS_PER_S, MB_PER_S, CPU_S_PER_GB, P50, P99, P999, END_TO_END_P99, READY_MS];

/// Every target and variant beside the others of its workload.
pub(super) fn every_target(groups: &[Group<'_>]) -> Markup {
    let measured = |family: &Vec<&Group<'_>>| {
        headline(family[0].workload).iter().any(|metric| family.iter().any(|group| group.figure(metric).is_some()))
    };
    let families: Vec<_> = families(groups).into_iter().filter(measured).collect();
    html! {
        @if !families.is_empty() {
            section {
                h2 { "Every target and variant" }
                p { "The median over the repeats that count, below it the smallest and the largest." }
                @for family in families { (target_table(&family)) }
            }
        }
    }
}

fn target_table(family: &[&Group<'_>]) -> Markup {
    let workload = family[0].workload;
    let has = |metric: &&Metric| family.iter().any(|group| group.figure(metric).is_some());
    let metrics: Vec<&Metric> = headline(workload).iter().filter(has).collect();
    html! {
        h3 { (workload.name) " " span.note { (family[0].theme) ", " (rate_words(workload)) } }
        div.scroll { table.figures {
            thead { tr { th { "target" } @for metric in &metrics { th.figure { (metric.name) } } } }
            tbody { @for group in family { tr {
                td.target {
                    (Look::of(group.target).sample()) " " (group.label())
                    small.objection { (objections(group)) }
                }
                @for metric in &metrics {
                    td.figure {
                        @if let Some(figure) = group.figure(metric) { (median(group, figure, metric)) } @else { (number::NONE) }
                    }
                }
            } } }
        } }
    }
}

/// The table under its title.
pub(super) fn section(title: &str, trials: &[Numbered<'_>]) -> Markup {
    html! {
        section.trials {
            h2 { (title) }
            @if trials.is_empty() {
                p.missing { "This run has no trial." }
            } @else {
                div.scroll { table.figures {
                    thead { tr {
                        th.figure { "#" } th { "theme" } th { "workload" } th { "target" } th.figure { "repeat" } th { "began" }
                        @for metric in &METRICS { th.figure { (metric.name) } }
                        th.figure { "p99.999" } th.figure { "max" } th.figure { "not acknowledged" } th.figure { "errors" }
                        th { "objections" }
                    } }
                    tbody { @for numbered in trials { (row(numbered)) } }
                } }
            }
        }
    }
}

fn row(numbered: &Numbered<'_>) -> Markup {
    let trial = numbered.trial;
    let load = trial.load.as_ref();
    let none = || number::NONE.to_owned();
    let us = |us: Option<u64>| us.map_or_else(none, |us| number::duration_us(float(us)));
    html! {
        tr.void[!trial.verdict.is_empty()] id={ "t" (numbered.number) } {
            td.figure { (numbered.number) }
            td { (trial.theme) }
            td { (trial.workload.name) }
            td { (Look::of(&trial.target).sample()) " " (label(&trial.target)) }
            td.figure { (trial.repeat + 1) }
            td { (trial.started) }
            @for metric in &METRICS { td.figure { ((metric.of)(trial).map_or_else(none, metric.notation)) } }
            td.figure { (us(produce(trial).map(|latency| latency.p99999_us))) }
            td.figure { (us(produce(trial).map(|latency| latency.max_us))) }
            td.figure { (load.map_or_else(none, |load| number::count(load.unacknowledged))) }
            td.figure { (load.map_or_else(none, |load| number::count(load.errors))) }
            td.objections {
                (trial.verdict.iter().map(verdict::words).collect::<Vec<_>>().join("; "))
                @if let Some(error) = load.and_then(|load| load.first_error.as_ref()) { " first error: " (error) }
            }
        }
    }
}
