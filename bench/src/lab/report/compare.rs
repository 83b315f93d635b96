//! Two saved runs side by side: what changed from A to B.

use std::error::Error;

use maud::{Markup, html};

use super::super::result::Run;
use super::chart::bars::{Bar, BarChart};
use super::figure::{CPU_S_PER_GB, END_TO_END_P99, MB_PER_S, Metric, P50, P99, P999, READY_MS, RECORDS_PER_S, produce};
use super::group::{Figure, Group, groups};
use super::look::Look;
use super::number;
use super::pictures::{rate_words, section};
use super::settings::host_lines;
use super::statistics::Ratio;
use super::{appendix, headline, numbered, percentile, verdict};

const METRICS: [Metric; 8] = [RECORDS_PER_S, MB_PER_S, P50, P99, P999, END_TO_END_P99, CPU_S_PER_GB, READY_MS];

/// The body of the page.
///
/// Errors: a histogram that cannot be read.
pub(super) fn body(a: &Run, b: &Run) -> Result<Markup, Box<dyn Error>> {
    let (trials_a, trials_b) = (numbered(&a.trials, 0), numbered(&b.trials, a.trials.len()));
    let (groups_a, groups_b) = (groups(trials_a.iter().copied()), groups(trials_b.iter().copied()));
    let pairs: Vec<(&Group<'_>, &Group<'_>)> =
        groups_a.iter().filter_map(|old| Some((old, groups_b.iter().find(|new| same(old, new))?))).collect();
    Ok(html! {
        (runs(a, b))
        (hosts(a, b))
        @for (name, trials) in [("A", &trials_a), ("B", &trials_b)] { h3 { "Run " (name) } (verdict::section(trials)) }
        (ratios(&pairs))
        (left_out(&groups_a, &groups_b))
        (curves(&pairs)?)
        (cpu(&pairs))
        @for (name, trials) in [("A", &trials_a), ("B", &trials_b)] { (appendix::section(&format!("All trials of {name}"), trials)) }
    })
}

fn same(a: &Group<'_>, b: &Group<'_>) -> bool {
    a.theme == b.theme && a.workload == b.workload && a.same_target(b.target)
}

fn runs(a: &Run, b: &Run) -> Markup {
    let lines = |run: &Run| [run.suite.clone(), run.commit.clone(), run.started.clone(), run.command.clone()];
    let rows = ["suite", "commit", "began", "command"].into_iter().zip(lines(a).into_iter().zip(lines(b)));
    html! {
        div.scroll { table {
            thead { tr { th { "" } th { "A" } th { "B" } } }
            tbody { @for (name, (a, b)) in rows { tr { th scope="row" { (name) } td { (a) } td { (b) } } } }
        } }
    }
}

/// A warning where the hosts differ, line by line.
fn hosts(a: &Run, b: &Run) -> Markup {
    let (old, new) = (host_lines(&a.host), host_lines(&b.host));
    let names = old.iter().chain(new.iter().filter(|(name, _)| !old.iter().any(|(other, _)| other == name)));
    let value = |lines: &[(String, String)], name: &str| {
        lines.iter().find(|(other, _)| other == name).map_or("(not there)".to_owned(), |(_, value)| value.clone())
    };
    let differing: Vec<(&str, String, String)> = names
        .map(|(name, _)| (name.as_str(), value(&old, name), value(&new, name)))
        .filter(|(_, old, new)| old != new)
        .collect();
    html! {
        @if differing.is_empty() {
            p { "Both ran on hosts with the same sheet: " (a.host.cpu) ", " (a.host.cores) " cores, kernel " (a.host.kernel) "." }
        } @else {
            div.warning {
                p { strong { "Different hosts: ratios mean little." } " The host sheets differ in:" }
                div.scroll { table {
                    thead { tr { th { "" } th { "A" } th { "B" } } }
                    tbody { @for (name, old, new) in differing { tr { th scope="row" { (name) } td { (old) } td { (new) } } } }
                } }
            }
        }
    }
}

fn ratios(pairs: &[(&Group<'_>, &Group<'_>)]) -> Markup {
    html! {
        section.headline {
            h2 { "What changed" }
            p { "B ÷ A of the medians, below it the smallest and the largest ratio of any two repeats: where 1 lies between \
                 them, the runs do not tell A from B. Figures that do not count are struck out and support no ratio." }
            @if pairs.is_empty() {
                p.missing { "The runs have no workload and target in common." }
            } @else {
                div.scroll { table.figures {
                    thead { tr { th { "" } th.figure { "A" } th.figure { "B" } th.figure { "B ÷ A" } th { "better" } } }
                    @for (old, new) in pairs {
                        tbody {
                            tr.head { th colspan="5" scope="colgroup" {
                                (Look::of(old.target).sample()) " " (old.label()) ", " (old.workload.name) ", " (old.theme)
                            } }
                            @for metric in &METRICS {
                                @if let (Some(a), Some(b)) = (old.figure(metric), new.figure(metric)) {
                                    (ratio_row(metric, (old, a), (new, b)))
                                }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn ratio_row(metric: &Metric, a: (&Group<'_>, Figure), b: (&Group<'_>, Figure)) -> Markup {
    let ratio = if a.1.counts && b.1.counts { Ratio::new(b.1.spread, a.1.spread) } else { None };
    html! {
        tr {
            th scope="row" { (metric.name) }
            td.figure { (headline::figure(a.0, a.1, metric)) }
            td.figure { (headline::figure(b.0, b.1, metric)) }
            td.figure {
                @if let Some(ratio) = ratio {
                    strong { (number::times(ratio)) } small { (number::times_range(ratio)) }
                } @else { span.missing { "no ratio" } }
            }
            td { (ratio.map_or("", |ratio| winner(metric, ratio))) }
        }
    }
}

/// The run that is better on a metric, if the repeats can tell.
fn winner(metric: &Metric, ratio: Ratio) -> &'static str {
    use super::figure::Better::{Less, More};
    match (metric.better, ratio.min > 1.0, ratio.max < 1.0) {
        (More, true, _) | (Less, _, true) => "B",
        (More, _, true) | (Less, true, _) => "A",
        _ => "not told apart",
    }
}

/// What only one of the runs has, or has under the same name with other parameters.
fn left_out(a: &[Group<'_>], b: &[Group<'_>]) -> Markup {
    let only = |own: &[Group<'_>], others: &[Group<'_>], other: &str| -> Vec<String> {
        let alone = own.iter().filter(|group| !others.iter().any(|candidate| same(group, candidate)));
        let words = alone.map(|group| {
            let named = others
                .iter()
                .any(|candidate| candidate.workload.name == group.workload.name && candidate.same_target(group.target));
            let why = if named { "has other parameters in" } else { "is not in" };
            format!("{}, {}: {why} {other}", group.workload.name, group.label())
        });
        words.collect()
    };
    let lines = [only(a, b, "B"), only(b, a, "A")].concat();
    html! {
        @if !lines.is_empty() {
            details {
                summary { (lines.len()) " groups of trials are in one run only and not compared" }
                ul { @for line in lines { li { (line) } } }
            }
        }
    }
}

fn curves(pairs: &[(&Group<'_>, &Group<'_>)]) -> Result<Markup, Box<dyn Error>> {
    let mut charts = Vec::new();
    for (old, new) in pairs.iter().filter(|(old, _)| old.theme != "ladder") {
        let mut series = Vec::new();
        if let Some(mut line) = percentile::series(old, "A".to_owned(), produce)? {
            line.look = line.look.older();
            series.push(line);
        }
        series.extend(percentile::series(new, "B".to_owned(), produce)?);
        let title = format!("{}: {}", old.workload.name, old.label());
        charts.extend(percentile::chart(title, rate_words(old.workload), series));
    }
    Ok(section(
        "Latency by percentile",
        "Produce latency from the moment a record was due, all repeats merged.",
        charts,
    ))
}

fn cpu(pairs: &[(&Group<'_>, &Group<'_>)]) -> Markup {
    let mut charts = Vec::new();
    let throughput: Vec<_> = pairs.iter().filter(|(old, _)| old.theme == "throughput").collect();
    let mut names: Vec<&str> = throughput.iter().map(|(old, _)| old.workload.name.as_str()).collect();
    names.dedup();
    for name in names {
        let of_name = throughput.iter().filter(|(old, _)| old.workload.name == name);
        let bars: Vec<Bar> = of_name.flat_map(|(old, new)| [bar(old, "A"), bar(new, "B")]).flatten().collect();
        if !bars.is_empty() {
            charts.push(
                BarChart { title: name.to_owned(), note: "CPU seconds of the server per GB".to_owned(), bars }.draw(),
            );
        }
    }
    section("CPU per GB", "Less is better.", charts)
}

fn bar(group: &Group<'_>, run: &str) -> Option<Bar> {
    let figure = group.figure(&CPU_S_PER_GB)?;
    let look = Look::of(group.target);
    Some(Bar {
        name: format!("{run}: {}", group.label()),
        look: if run == "A" { look.older() } else { look },
        spread: figure.spread,
        parts: Vec::new(),
        counts: figure.counts,
        value: format!("{} s", number::plain(figure.spread.median)),
        remark: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn text(a: &Run, b: &Run) -> String {
        body(a, b).expect("the histograms are sound").into_string()
    }

    #[test]
    fn a_run_beside_itself_is_the_same() {
        let run = fixture::run();
        let text = text(&run, &run);
        assert!(text.contains("1.00 ×") && text.contains("not told apart"));
        assert!(!text.contains("Different hosts") && !text.contains("in one run only"));
    }

    #[test]
    fn other_hosts_are_warned_of_with_what_differs() {
        let a = fixture::run();
        let mut b = a.clone();
        b.host.details.remove("governor");
        b.host.kernel = "7.1".to_owned();
        let text = text(&a, &b);
        for part in ["Different hosts: ratios mean little", "7.1", "governor", "(not there)"] {
            assert!(text.contains(part), "{part} is missing");
        }
        assert!(!text.contains("made up</td>"), "the disk is the same");
    }

    #[test]
    fn other_parameters_under_one_name_are_not_compared() {
        let a = fixture::single();
        let mut b = a.clone();
        b.trials[0].workload.producers += 1;
        let text = text(&a, &b);
        assert!(text.contains("has other parameters in B") && text.contains("no workload and target in common"));
    }

    #[test]
    fn the_better_run_is_named_only_where_repeats_do_not_overlap() {
        let ratio = |min, max| Ratio { median: (min + max) / 2.0, min, max };
        assert_eq!(winner(&MB_PER_S, ratio(1.1, 1.2)), "B");
        assert_eq!(winner(&P99, ratio(1.1, 1.2)), "A");
        assert_eq!(winner(&P99, ratio(0.9, 1.2)), "not told apart");
    }

    #[test]
    fn links_lead_to_one_trial_each() {
        let run = fixture::single();
        let text = text(&run, &run);
        assert!(text.contains("id=\"t0\"") && text.contains("id=\"t1\""));
    }
}
