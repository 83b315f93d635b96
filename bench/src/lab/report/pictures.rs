//! What all sections of pictures share.

use maud::{Markup, html};

use super::super::workload::{Rate, Workload};
use super::chart::line::{Mark, Series};
use super::figure::leading;
use super::group::Group;
use super::number;

/// A section of pictures; nothing at all where there are none.
pub(super) fn section(title: &str, text: &str, charts: Vec<Markup>) -> Markup {
    html! {
        @if !charts.is_empty() {
            section.pictures {
                h2 { (title) }
                p { (text) }
                div.charts { @for chart in charts { (chart) } }
            }
        }
    }
}

/// The rate of a workload in words.
pub(super) fn rate_words(workload: &Workload) -> String {
    match workload.rate {
        Rate::Max => "maximum".to_owned(),
        Rate::PerSecond(rate) => format!("{} records/s", number::plain(rate)),
    }
}

/// Which of the targets shown do not count.
pub(super) fn void_words(shown: &[&Group<'_>]) -> String {
    let void = shown.iter().filter(|group| group.figure(leading(group.workload)).is_some_and(|figure| !figure.counts));
    let names: Vec<&str> = void.map(|group| group.target.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("; does not count: {}", names.join(", ")) }
}

pub(super) fn values(series: &[Series]) -> Vec<f64> {
    series.iter().flat_map(|series| &series.points).map(|point| point.y).collect()
}

pub(super) fn mark(counts: bool) -> Mark {
    if counts { Mark::Full } else { Mark::Void }
}
