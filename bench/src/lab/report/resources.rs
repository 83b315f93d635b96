//! Memory, disk and context switches of servers under load, their idling and their start.

use maud::{Markup, html};

use super::super::result::{Trial, Usage};
use super::figure::{CPU_MS_PER_S, Metric, READY_MS, cores, leading, quotient};
use super::group::{Group, families, speakers};
use super::headline::figure;
use super::look::Look;
use super::number;
use super::pictures::rate_words;
use super::statistics::Spread;
use crate::report::float;

/// Memory, disk and context switches of every server under load.
pub(super) fn under_load(groups: &[Group<'_>]) -> Markup {
    let loaded =
        |group: &&Group<'_>| group.trials.iter().any(|one| one.trial.load.is_some() && one.trial.server.is_some());
    let families: Vec<Vec<&Group<'_>>> = families(groups)
        .into_iter()
        .map(|family| speakers(&family, leading(family[0].workload)).into_iter().filter(loaded).collect())
        .filter(|rows: &Vec<_>| !rows.is_empty())
        .collect();
    html! {
        @if !families.is_empty() {
            section {
                h2 { "Memory, disk and context switches" }
                p { "Medians over the seconds that count. Peak memory and page cache are those of the server's control group; without \
                     one there is no peak, and the page cache is the machine's. Resident memory is the largest so far. Disk bytes \
                     include the preparation of files; behind them, how many there are per byte of batches. Of Kafka the \
                     variant is shown that did best." }
                div.scroll { table.figures {
                    thead { tr {
                        th { "target" } th.figure { "server, cores" } th.figure { "machine, cores" }
                        th.figure { "peak memory" } th.figure { "resident" } th.figure { "page cache" }
                        th.figure { "disk written" } th.figure { "per byte" } th.figure { "disk read" }
                        th.figure { "switches/s, voluntary" } th.figure { "involuntary" }
                    } }
                    @for family in &families { tbody {
                        tr.head { th colspan="11" scope="colgroup" {
                            (family[0].workload.name) " " span.note { (family[0].theme) ", " (rate_words(family[0].workload)) }
                        } }
                        @for group in family { (resource_row(group)) }
                    } }
                } }
            }
        }
    }
}

fn resource_row(group: &Group<'_>) -> Markup {
    let server = |of: fn(&Usage) -> Option<f64>| median(group, |usage| usage.server, of);
    let size = |of: fn(&Usage) -> Option<f64>| server(of).map_or_else(none, number::bytes);
    let plain = |value: Option<f64>| value.map_or_else(none, number::plain);
    let per_s = |of: fn(&Usage) -> u64| {
        let rates = group.speaking().into_iter().filter_map(|trial| trial.server);
        let rates = rates.filter_map(|usage| quotient(float(of(&usage)), usage.seconds));
        plain(Spread::of(rates).map(|spread| spread.median))
    };
    let amplified = group.speaking().into_iter().filter_map(|trial| {
        quotient(float(trial.server?.disk_written_bytes), float(trial.load.as_ref()?.produced.batch_bytes))
    });
    html! {
        tr.void[group.is_void()] {
            td.target { (Look::of(group.target).sample()) " " (group.label()) }
            td.figure { (plain(server(cores))) }
            td.figure { (plain(median(group, |usage| usage.machine, cores))) }
            td.figure { (size(|usage| usage.memory_peak_bytes.map(float))) }
            td.figure { (size(|usage| Some(float(usage.resident_bytes)))) }
            td.figure { (size(|usage| Some(float(usage.page_cache_bytes)))) }
            td.figure { (size(|usage| Some(float(usage.disk_written_bytes)))) }
            td.figure { (plain(Spread::of(amplified).map(|spread| spread.median))) }
            td.figure { (size(|usage| Some(float(usage.disk_read_bytes)))) }
            td.figure { (per_s(|usage| usage.context_switches_voluntary)) }
            td.figure { (per_s(|usage| usage.context_switches_involuntary)) }
        }
    }
}

/// The median of something that a server, or the machine, spent.
fn median(group: &Group<'_>, whose: fn(&Trial) -> Option<Usage>, of: fn(&Usage) -> Option<f64>) -> Option<f64> {
    let values = group.speaking().into_iter().filter_map(|trial| of(&whose(trial)?));
    Spread::of(values).map(|spread| spread.median)
}

fn none() -> String {
    number::NONE.to_owned()
}

/// What a server costs that nobody uses, and how long one takes to serve.
pub(super) fn idle_and_start(groups: &[Group<'_>]) -> Markup {
    let table = |theme: &str, title: &str, text: &str, metrics: &'static [Metric], memory: bool| {
        let rows: Vec<&Group<'_>> = groups.iter().filter(|group| group.theme == theme).collect();
        html! {
            @if !rows.is_empty() {
                section {
                    h2 { (title) }
                    p { (text) }
                    div.scroll { table.figures {
                        thead { tr {
                            th { "workload" } th { "target" }
                            @for metric in metrics { th.figure { (metric.name) } }
                            @if memory { th.figure { "resident" } th.figure { "peak memory" } }
                        } }
                        tbody { @for group in rows { tr.void[group.is_void()] {
                            td { (group.workload.name) }
                            td.target { (Look::of(group.target).sample()) " " (group.label()) }
                            @for metric in metrics {
                                td.figure {
                                    @if let Some(value) = group.figure(metric) { (figure(group, value, metric)) } @else { (number::NONE) }
                                }
                            }
                            @if memory {
                                @let resident = median(group, |trial| trial.server, |usage| Some(float(usage.resident_bytes)));
                                @let peak = median(group, |trial| trial.server, |usage| usage.memory_peak_bytes.map(float));
                                td.figure { (resident.map_or_else(none, number::bytes)) }
                                td.figure { (peak.map_or_else(none, number::bytes)) }
                            }
                        } } }
                    } }
                }
            }
        }
    };
    html! {
        (table("idle", "Idle", "A server with its partitions and without clients. 1 ms/s is a thousandth of one core.",
            const { &[CPU_MS_PER_S] }, true))
        (table("start-time", "Start", "From the start of the process to its first answer.", const { &[READY_MS] }, false))
    }
}
