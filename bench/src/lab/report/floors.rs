//! CPU per byte: of every target, beside the floors, and beside what the probe says that the work itself costs.

use maud::{Markup, html};

use super::super::probe::floor_counts;
use super::super::result::{Probe, TargetKind};
use super::super::workload::Rate;
use super::chart::bars::{Bar, BarChart};
use super::figure::{CPU_NS_PER_KIB, CPU_S_PER_GB, MB_PER_S, Metric, quotient};
use super::group::{Group, families, speakers};
use super::look::Look;
use super::number;
use super::pictures::section;
use super::statistics::Spread;
use crate::report::float;

/// CPU per GB, as bars: every variant of Corelane, the best one of others.
pub(super) fn cpu(groups: &[Group<'_>]) -> Markup {
    let families = families(groups).into_iter().filter(|family| family[0].workload.rate == Rate::Max);
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

/// CPU per KiB of Corelane beside the floors and what the probe says that the work itself costs.
pub(super) fn floor_share(groups: &[Group<'_>], probe: Option<&Probe>) -> Markup {
    let maxima = families(groups).into_iter().filter(|family| family[0].workload.rate == Rate::Max);
    let charts = maxima.filter_map(|family| floor_chart(&family, probe));
    section(
        "Share of the floor",
        "A floor is the least server that could be: it receives, checks the CRC, copies and writes, and is nothing else. It \
         counts only if it is within 25 % of the probe's receive + CRC + copy + write together.",
        charts.collect(),
    )
}

/// `None` where no floor was measured, or nothing beside it.
fn floor_chart(family: &[&Group<'_>], probe: Option<&Probe>) -> Option<Markup> {
    let ns = |group: &Group<'_>| group.figure(&CPU_NS_PER_KIB).map(|figure| figure.spread.median);
    let shown = speakers(family, &CPU_NS_PER_KIB).into_iter();
    let (floors, others): (Vec<&Group<'_>>, Vec<&Group<'_>>) = shown.partition(|group| is_floor(group));
    let brokers: Vec<&Group<'_>> =
        others.into_iter().filter(|group| group.target.kind == TargetKind::Corelane).collect();
    let floor_ns = ns(floors.first()?)?;
    let check = probe.and_then(|probe| floor_counts(probe, floor_ns));
    let counts = |ns: f64| probe.and_then(|probe| floor_counts(probe, ns)).is_some_and(|check| check.counts);
    let lowest = floors.iter().filter_map(|group| ns(group)).filter(|ns| counts(*ns)).min_by(f64::total_cmp);
    let sum = check.as_ref().map(|check| check.sum_ns_per_kib);
    let floor_bars = floors.iter().filter_map(|group| {
        let ns = ns(group)?;
        let verdict = if counts(ns) { "counts" } else { "does not count" };
        let times =
            sum.and_then(|sum| quotient(ns, sum)).map(|times| format!("{} × the probe: ", number::plain(times)));
        Some(Bar { remark: format!("{}{verdict}", times.unwrap_or_default()), ..bar(group, &CPU_NS_PER_KIB, "ns")? })
    });
    let broker_bars = brokers.iter().filter_map(|group| {
        let times = lowest.and_then(|floor| quotient(ns(group)?, floor));
        let words =
            times.map_or("no floor counts".to_owned(), |times| format!("{} × the lowest floor", number::plain(times)));
        Some(Bar { remark: words, ..bar(group, &CPU_NS_PER_KIB, "ns")? })
    });
    let bars = check.as_ref().map(|check| probe_bar(&check.parts)).into_iter().chain(floor_bars).chain(broker_bars);
    let title = family[0].workload.name.clone();
    let note = "CPU nanoseconds of the server per KiB of batches received".to_owned();
    Some(BarChart { title, note, bars: bars.collect() }.draw())
}

fn is_floor(group: &Group<'_>) -> bool {
    matches!(group.target.kind, TargetKind::FloorRaw | TargetKind::FloorRuntime)
}

fn probe_bar(parts: &[(&str, f64)]) -> Bar {
    let sum: f64 = parts.iter().map(|(_, ns)| ns).sum();
    let words = parts.iter().map(|(work, ns)| format!("{work} {}", number::short(*ns)));
    Bar {
        name: "probe".to_owned(),
        look: Look::probe(),
        spread: Spread { median: sum, min: sum, max: sum, count: 1 },
        parts: parts.iter().map(|(_, ns)| *ns).collect(),
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
    let maxima = families(groups).into_iter().filter(|family| family[0].workload.rate == Rate::Max);
    let tables: Vec<_> = maxima
        .map(|family| {
            let shown = speakers(&family, &MB_PER_S).into_iter();
            (
                family[0].workload.name.as_str(),
                shown.filter_map(|group| Some((group, wire_bytes_per_s(group)?))).collect(),
            )
        })
        .filter(|(_, rows): &(&str, Vec<_>)| !rows.is_empty())
        .collect();
    html! {
        @if probe.is_some() && !tables.is_empty() {
            h3 { "Share of the machine's limits" }
            p.note { "Throughput as a share of the most that the probe reached, in bytes of batches." }
            div.scroll { table.figures {
                thead { tr {
                    th { "target" } th.figure { "batches MB/s" } @for (name, _) in &limits { th.figure { "of " (name) } }
                } }
                @for (workload, rows) in &tables { tbody {
                    tr.head { th colspan="4" scope="colgroup" { (workload) } }
                    @for (group, bytes_per_s) in rows { tr.void[group.is_void()] {
                        td.target { (Look::of(group.target).sample()) " " (group.label()) }
                        td.figure { (number::plain(bytes_per_s / 1e6)) }
                        @for (_, limit) in &limits {
                            @let share = limit.and_then(|limit| quotient(*bytes_per_s, limit));
                            td.figure { (share.map_or(number::NONE.to_owned(), number::percent)) }
                        }
                    } }
                } }
            } }
        }
    }
}

fn wire_bytes_per_s(group: &Group<'_>) -> Option<f64> {
    let loads = group.speaking().into_iter().filter_map(|trial| trial.load.as_ref());
    let rates = loads.filter_map(|load| quotient(float(load.produced.batch_bytes), load.seconds));
    Spread::of(rates.filter(|rate| *rate > 0.0)).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::group::{Numbered, groups};
    use super::*;

    fn text(probe: Option<&Probe>) -> String {
        let run = fixture::run();
        let numbered = run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial });
        floor_share(&groups(numbered), probe).into_string()
    }

    #[test]
    fn corelane_is_set_beside_the_lowest_floor_that_counts() {
        let probe = fixture::run().probe.expect("the fixture has one");
        let text = text(Some(&probe));
        // 188 ns by the probe; the floors cost 220 and 248, so that one counts; Corelane costs 275.
        for part in
            ["188 ns", "1.17 × the probe: counts", "1.32 × the probe: does not count", "1.25 × the lowest floor"]
        {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn no_floor_counts_without_a_whole_probe() {
        let mut probe = fixture::run().probe.expect("the fixture has one");
        probe.limits.retain(|limit| limit.work != "crc32c");
        let without_checksum = text(Some(&probe));
        assert!(without_checksum.contains("no floor counts") && !without_checksum.contains("188 ns"));
        assert!(text(None).contains("no floor counts"));
    }

    #[test]
    fn every_variant_of_corelane_has_a_bar() {
        let run = fixture::run();
        let numbered = run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial });
        let groups = groups(numbered);
        assert!(cpu(&groups).into_string().contains("header"), "validation = header is an extra row");
        assert_eq!(limit_shares(&groups, None).into_string(), "");
        assert!(limit_shares(&groups, run.probe.as_ref()).into_string().contains("of disk writes"));
    }
}
