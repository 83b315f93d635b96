//! What servers spend: CPU beside the floors and the probe, memory, disk and context switches, idling and starting.

use maud::{Markup, html};

use super::super::result::{Limit, Probe, TargetKind, Trial, Usage};
use super::chart::bars::{Bar, BarChart};
use super::figure::{CPU_MS_PER_S, CPU_NS_PER_KIB, CPU_S_PER_GB, MB_PER_S, Metric, READY_MS, cores, leading, quotient};
use super::group::{Group, by_workload, label, speakers};
use super::headline::figure;
use super::look::Look;
use super::number;
use super::pictures::section;
use super::statistics::Spread;
use crate::report::float;

/// How much more than the probe's parts together a floor may cost before it is no floor.
const FLOOR_EXCESS_MAX: f64 = 1.25;
/// What every broker must do with a byte, as the probe names it.
const FLOOR_WORK: [&str; 4] = ["loopback receive", "crc32c", "memcpy", "write"];
/// Themes whose workloads have their cost drawn.
const THEMES: [&str; 2] = ["throughput", "past-recycling"];

/// CPU per GB, as bars: every variant of Corelane, the best one of others.
pub(super) fn cpu(groups: &[Group<'_>]) -> Markup {
    let families = THEMES.iter().flat_map(|theme| by_workload(groups, theme, |a, b| a == b));
    let charts = families.filter_map(|family| {
        let mut shown = speakers(&family, &CPU_S_PER_GB);
        let extra = |group: &&&Group<'_>| {
            group.target.kind == TargetKind::Corelane && !shown.iter().any(|other| other.same_target(group.target))
        };
        let extras: Vec<&Group<'_>> = family.iter().filter(extra).copied().collect();
        shown.extend(extras);
        shown.sort_by_key(|group| (group.target.kind, group.target.durability));
        let bars: Vec<Bar> = shown.iter().filter_map(|group| bar(group, &CPU_S_PER_GB, "s")).collect();
        let title = family[0].workload.name.clone();
        (!bars.is_empty()).then(|| BarChart { title, note: "CPU seconds of the server per GB".to_owned(), bars }.draw())
    });
    section(
        "CPU per GB",
        "Less is better. The line at a bar's end spans the repeats; bars in outline do not count. With several variants of \
         Kafka the cheapest is shown.",
        charts.collect(),
    )
}

fn bar(group: &Group<'_>, metric: &Metric, unit: &str) -> Option<Bar> {
    let figure = group.figure(metric)?;
    Some(Bar {
        name: group.target.name.clone(),
        look: Look::of(group.target),
        spread: figure.spread,
        parts: Vec::new(),
        counts: figure.counts,
        value: format!("{} {unit}", (metric.notation)(figure.spread.median)),
        remark: group.target.variant.clone(),
    })
}

/// CPU per KiB of every target beside the floors and what the probe says that the work itself costs.
pub(super) fn floor_share(groups: &[Group<'_>], probe: Option<&Probe>) -> Markup {
    let stack = probe.and_then(floor_stack);
    let least = stack.as_ref().map(|parts| parts.iter().map(|limit| limit.cpu_ns_per_kib).sum::<f64>());
    let families = THEMES.iter().flat_map(|theme| by_workload(groups, theme, |a, b| a == b));
    let charts = families.filter_map(|family| {
        let (floors, brokers): (Vec<&Group<'_>>, Vec<&Group<'_>>) = speakers(&family, &CPU_NS_PER_KIB)
            .into_iter()
            .filter(|group| is_floor(group) || group.target.kind == TargetKind::Corelane)
            .partition(|group| is_floor(group));
        if brokers.is_empty() || (floors.is_empty() && stack.is_none()) {
            return None;
        }
        let ns = |group: &Group<'_>| group.figure(&CPU_NS_PER_KIB).map(|figure| figure.spread.median);
        let floor = floors.iter().filter_map(|group| ns(group)).filter(|floor| counts_as_floor(*floor, least));
        let floor = floor.min_by(f64::total_cmp);
        let mut bars: Vec<Bar> = stack.iter().map(|parts| probe_bar(parts)).collect();
        bars.extend(floors.iter().chain(&brokers).filter_map(|group| {
            let remark =
                if is_floor(group) { floor_words(ns(group)?, least) } else { times_words(ns(group)?, floor, least) };
            Some(Bar { remark, ..bar(group, &CPU_NS_PER_KIB, "ns")? })
        }));
        let title = family[0].workload.name.clone();
        let note = "CPU nanoseconds of the server per KiB of batches received".to_owned();
        Some(BarChart { title, note, bars }.draw())
    });
    section(
        "Share of the floor",
        "A floor is the least server that could be: it receives, checks the CRC, copies and writes, and is nothing else. It \
         counts only if it costs at most 25 % more than the probe's receive + CRC + copy + write together, each at its \
         cheapest block size.",
        charts.collect(),
    )
}

/// The cheapest limit for each part of the work; `None` unless the probe has all.
fn floor_stack(probe: &Probe) -> Option<Vec<&Limit>> {
    let cheapest = |work: &str| {
        let of_work = probe.limits.iter().filter(|limit| limit.work == work && limit.cpu_ns_per_kib.is_finite());
        of_work.min_by(|a, b| a.cpu_ns_per_kib.total_cmp(&b.cpu_ns_per_kib))
    };
    FLOOR_WORK.iter().map(|work| cheapest(work)).collect()
}

fn is_floor(group: &Group<'_>) -> bool {
    matches!(group.target.kind, TargetKind::FloorRaw | TargetKind::FloorRuntime)
}

fn counts_as_floor(ns: f64, probe_ns: Option<f64>) -> bool {
    probe_ns.is_some_and(|probe_ns| ns <= probe_ns * FLOOR_EXCESS_MAX)
}

fn floor_words(ns: f64, probe_ns: Option<f64>) -> String {
    let Some(probe_ns) = probe_ns else { return "no probe: it is not known whether it counts".to_owned() };
    let verdict = if counts_as_floor(ns, Some(probe_ns)) { "counts" } else { "does not count" };
    format!("{} × the probe: {verdict}", number::plain(ns / probe_ns))
}

/// How many times the lowest floor that counts a broker costs, or the probe where none does.
fn times_words(ns: f64, floor_ns: Option<f64>, probe_ns: Option<f64>) -> String {
    let times = |least: Option<f64>, of: &str| Some(format!("{} × the {of}", number::plain(quotient(ns, least?)?)));
    times(floor_ns, "lowest floor").or_else(|| times(probe_ns, "probe")).unwrap_or_default()
}

fn probe_bar(parts: &[&Limit]) -> Bar {
    let sum: f64 = parts.iter().map(|limit| limit.cpu_ns_per_kib).sum();
    let words = parts.iter().map(|limit| format!("{} {}", limit.work, number::short(limit.cpu_ns_per_kib)));
    Bar {
        name: "probe".to_owned(),
        look: Look::probe(),
        spread: Spread { median: sum, min: sum, max: sum, count: 1 },
        parts: parts.iter().map(|limit| (limit.work.clone(), limit.cpu_ns_per_kib)).collect(),
        counts: true,
        value: format!("{} ns", number::plain(sum)),
        remark: words.collect::<Vec<_>>().join(" + "),
    }
}

/// What each target reaches of the machine's limits; nothing without a probe.
pub(super) fn limit_shares(groups: &[Group<'_>], probe: Option<&Probe>) -> Markup {
    let fastest = |work: &str| {
        let of_work = probe.into_iter().flat_map(|probe| &probe.limits).filter(|limit| limit.work == work);
        of_work.map(|limit| limit.bytes_per_s).max_by(f64::total_cmp)
    };
    let limits = [("disk writes", fastest("write")), ("loopback", fastest("loopback receive"))];
    let rows: Vec<_> = by_workload(groups, "throughput", |a, b| a == b)
        .into_iter()
        .flat_map(|family| speakers(&family, &MB_PER_S))
        .filter_map(|group| Some((group, wire_bytes_per_s(group)?)))
        .collect();
    html! {
        @if probe.is_some() && !rows.is_empty() {
            div.scroll { table.figures {
                caption { "Throughput at its maximum as a share of what the probe reached on this machine, in bytes of batches" }
                thead { tr {
                    th { "workload" } th { "target" } th.figure { "batches MB/s" }
                    @for (name, _) in &limits { th.figure { "of " (name) } }
                } }
                tbody { @for (group, bytes_per_s) in &rows { tr.void[void(group)] {
                    td { (group.workload.name) }
                    td { (Look::of(group.target).sample()) " " (group.label()) }
                    td.figure { (number::plain(bytes_per_s / 1e6)) }
                    @for (_, limit) in &limits {
                        td.figure { (limit.and_then(|limit| quotient(*bytes_per_s, limit)).map_or_else(none, number::percent)) }
                    }
                } } }
            } }
        }
    }
}

fn wire_bytes_per_s(group: &Group<'_>) -> Option<f64> {
    let loads = group.speaking().into_iter().filter_map(|trial| trial.load.as_ref());
    let rates = loads.filter_map(|load| quotient(float(load.produced.batch_bytes), load.seconds));
    Spread::of(rates.filter(|rate| *rate > 0.0)).map(|spread| spread.median)
}

/// Memory, disk and context switches of every server under load.
pub(super) fn resources(groups: &[Group<'_>]) -> Markup {
    let loaded =
        |group: &&Group<'_>| group.trials.iter().any(|one| one.trial.load.is_some() && one.trial.server.is_some());
    let themes = ["throughput", "latency", "past-recycling", "catch-up"];
    let families = themes.iter().flat_map(|theme| by_workload(groups, theme, |a, b| a == b));
    let rows: Vec<&Group<'_>> = families.flat_map(|family| speakers(&family, leading(family[0].workload))).collect();
    let rows: Vec<&Group<'_>> = rows.into_iter().filter(loaded).collect();
    html! {
        @if !rows.is_empty() {
            section {
                h2 { "Memory, disk and context switches" }
                p { "Medians over the seconds that count. Peak memory is that of the control group and holds page cache; \
                     without one, resident memory and the machine's page cache stand apart. Disk bytes include the \
                     preparation of files; behind them, how many there are per byte of batches." }
                div.scroll { table.figures {
                    thead { tr {
                        th { "workload" } th { "target" } th.figure { "server, cores" } th.figure { "machine, cores" }
                        th.figure { "peak memory" } th.figure { "resident" } th.figure { "page cache" }
                        th.figure { "disk written" } th.figure { "per byte" } th.figure { "disk read" }
                        th.figure { "switches/s, voluntary" } th.figure { "involuntary" }
                    } }
                    tbody { @for group in rows { (resource_row(group)) } }
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
        tr.void[void(group)] {
            td { (group.workload.name) }
            td { (Look::of(group.target).sample()) " " (group.label()) }
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

fn void(group: &Group<'_>) -> bool {
    group.counting().next().is_none()
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
                        tbody { @for group in rows { tr.void[void(group)] {
                            td { (group.workload.name) }
                            td { (Look::of(group.target).sample()) " " (label(group.target)) }
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

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::group::{Numbered, groups};
    use super::*;

    #[test]
    fn a_floor_counts_within_a_quarter_of_the_probe() {
        assert!(counts_as_floor(125.0, Some(100.0)));
        assert!(!counts_as_floor(126.0, Some(100.0)));
        assert!(!counts_as_floor(126.0, None));
        assert!(floor_words(130.0, Some(100.0)).contains("does not count"));
    }

    #[test]
    fn the_probe_is_taken_at_its_cheapest_and_only_whole() {
        let mut probe = fixture::run().probe.expect("the fixture has one");
        let parts = floor_stack(&probe).expect("all four are there");
        assert!((parts.iter().map(|limit| limit.cpu_ns_per_kib).sum::<f64>() - 188.0).abs() < 1e-9);
        probe.limits.retain(|limit| limit.work != "crc32c");
        assert!(floor_stack(&probe).is_none());
    }

    #[test]
    fn costs_are_shown_without_a_probe() {
        let run = fixture::run();
        let numbered = run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial });
        let groups = groups(numbered);
        assert!(floor_share(&groups, None).into_string().contains("no probe"));
        assert!(floor_share(&groups, run.probe.as_ref()).into_string().contains("× the lowest floor"));
        assert_eq!(limit_shares(&groups, None).into_string(), "");
        assert!(cpu(&groups).into_string().contains("header"), "validation = header is an extra row");
    }
}
