//! Everything that was set: workloads, targets, the host, the probe, warm-up and the generator.

use maud::{Markup, html};

use super::super::result::{GeneratorUsage, HostSheet, Probe, TargetSheet};
use super::super::workload::Workload;
use super::group::{Group, Numbered, label};
use super::look::Look;
use super::number;
use super::pictures::rate_words;
use super::statistics::Spread;
use crate::report::float;

/// All of it, for one run.
pub(super) fn section(
    trials: &[Numbered<'_>],
    groups: &[Group<'_>],
    host: &HostSheet,
    probe: Option<&Probe>,
) -> Markup {
    html! {
        section {
            h2 { "How it was measured" }
            (host_table(host))
            (probe_table(probe))
            (targets(trials))
            (workloads(trials))
            (generator(groups))
        }
    }
}

fn host_table(host: &HostSheet) -> Markup {
    html! {
        h3 { "Host" }
        dl {
            @for (name, value) in host_lines(host) { dt { (name) } dd { (value) } }
        }
    }
}

/// A host line by line, in a fixed order; what compares two hosts reads the same lines.
pub(super) fn host_lines(host: &HostSheet) -> Vec<(String, String)> {
    let fixed = [
        ("CPU", host.cpu.clone()),
        ("cores", host.cores.to_string()),
        ("memory", number::bytes(float(host.memory_bytes))),
        ("kernel", host.kernel.clone()),
    ];
    let fixed = fixed.into_iter().map(|(name, value)| (name.to_owned(), value));
    fixed.chain(host.details.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
}

fn probe_table(probe: Option<&Probe>) -> Markup {
    let us = |us: Option<f64>| us.map_or(number::NONE.to_owned(), number::duration_us);
    html! {
        h3 { "Probe" }
        @if let Some(probe) = probe {
            p { "What this machine does at most, each kind of work alone, medians over several rounds. Measured " (probe.measured) "." }
            div.scroll { table.figures {
                thead { tr {
                    th { "work" } th.figure { "block" } th.figure { "depth" } th.figure { "MB/s" } th.figure { "operations/s" }
                    th.figure { "p50" } th.figure { "p99" } th.figure { "CPU ns/KiB" }
                } }
                tbody { @for limit in &probe.limits { tr {
                    td { (limit.work) }
                    td.figure { (number::bytes(float(limit.block_bytes))) }
                    td.figure { (limit.depth) }
                    td.figure { (number::plain(limit.bytes_per_s / 1e6)) }
                    td.figure { (number::plain(limit.operations_per_s)) }
                    td.figure { (us(limit.p50_us)) }
                    td.figure { (us(limit.p99_us)) }
                    td.figure { (number::plain(limit.cpu_ns_per_kib)) }
                } } }
            } }
        } @else {
            p.missing { "This run has no probe: nothing here is shown as a share of the machine's limits." }
        }
    }
}

fn targets(trials: &[Numbered<'_>]) -> Markup {
    let mut sheets: Vec<&TargetSheet> = Vec::new();
    for numbered in trials {
        if !sheets.contains(&&numbered.trial.target) {
            sheets.push(&numbered.trial.target);
        }
    }
    html! {
        h3 { "Targets" }
        @for sheet in sheets {
            details {
                summary { (Look::of(sheet).sample()) " " strong { (label(sheet)) } " " span.note { (sheet.version) } }
                dl {
                    dt { "CPUs" } dd { (cpus(&sheet.cpus)) }
                    dt { "CPUs of the generator" } dd { (cpus(&sheet.generator_cpus)) }
                    dt { "command" } dd { code { (sheet.command) } }
                    @for (name, value) in &sheet.settings { dt { code { (name) } } dd { code { (value) } } }
                }
            }
        }
    }
}

fn cpus(cpus: &[usize]) -> String {
    match cpus {
        [] => "any".to_owned(),
        cpus => cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn workloads(trials: &[Numbered<'_>]) -> Markup {
    let mut workloads: Vec<&Workload> = Vec::new();
    for numbered in trials {
        if !workloads.contains(&&numbered.trial.workload) {
            workloads.push(&numbered.trial.workload);
        }
    }
    html! {
        h3 { "Workloads" }
        p { "Each as the file that runs it again." }
        @for workload in workloads {
            details {
                summary { strong { (workload.name) } " " span.note { (rate_words(workload)) } }
                pre { (toml::to_string(workload).unwrap_or_else(|error| format!("cannot be shown: {error}"))) }
            }
        }
    }
}

fn generator(groups: &[Group<'_>]) -> Markup {
    let loaded = groups.iter().filter(|group| group.trials.iter().any(|numbered| numbered.trial.load.is_some()));
    html! {
        h3 { "Warm-up and generator" }
        details {
        summary { "How each server was warmed up, and how much of the generator was used" }
        p { "The worst of the repeats. Usage is that of the generator's busiest thread; above 80 % a maximum shows the \
             generator. Lateness is how long after its moment a record was taken up." }
        div.scroll { table.figures {
            thead { tr {
                th { "workload" } th { "target" } th.figure { "warm-up" } th { "settled" } th.figure { "threads" }
                th.figure { "connections" } th.figure { "usage" } th.figure { "late p99" } th.figure { "late p99.9" }
                th.figure { "late max" }
            } }
            tbody { @for group in loaded { (generator_row(group)) } }
        } }
        }
    }
}

fn generator_row(group: &Group<'_>) -> Markup {
    let usages: Vec<_> =
        group.trials.iter().filter_map(|one| one.trial.load.as_ref()).map(|load| load.generator).collect();
    let worst = |of: fn(&GeneratorUsage) -> f64| Spread::of(usages.iter().map(of)).map_or(0.0, |spread| spread.max);
    let warm_ups: Vec<_> = group.trials.iter().filter_map(|numbered| numbered.trial.warm_up).collect();
    let shortest = Spread::of(warm_ups.iter().map(|warm_up| warm_up.seconds));
    html! {
        tr {
            td { (group.workload.name) ", " (rate_words(group.workload)) }
            td { (Look::of(group.target).sample()) " " (group.label()) }
            td.figure { (shortest.map_or(number::NONE.to_owned(), |spread| format!("{} s", number::short(spread.min)))) }
            td {
                @if warm_ups.is_empty() { (number::NONE) }
                @else if warm_ups.iter().all(|warm_up| warm_up.settled) { "yes" } @else { "no" }
            }
            td.figure { (number::short(worst(|usage| f64::from(usage.threads)))) }
            td.figure { (number::short(worst(|usage| f64::from(usage.connections)))) }
            td.figure { (number::percent(worst(|usage| usage.cpu_share_max))) }
            td.figure { (number::duration_us_short(worst(|usage| float(usage.late_p99_us)))) }
            td.figure { (number::duration_us_short(worst(|usage| float(usage.late_p999_us)))) }
            td.figure { (number::duration_us_short(worst(|usage| float(usage.late_max_us)))) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::super::group::groups;
    use super::*;

    #[test]
    fn every_setting_stands_in_the_page() {
        let run = fixture::run();
        let trials: Vec<_> = run.trials.iter().enumerate().map(|(number, trial)| Numbered { number, trial }).collect();
        let text = section(&trials, &groups(trials.iter().copied()), &run.host, run.probe.as_ref()).into_string();
        for part in ["Imaginary 9000", "governor", "cold read", "log.flush.interval.messages", "rate = &quot;max&quot;"]
        {
            assert!(text.contains(part), "{part} is missing");
        }
        assert!(text.contains("backlog_bytes") && text.contains("requests_in_flight"));
    }

    #[test]
    fn a_shown_workload_is_a_file_that_can_be_run() {
        for trial in fixture::run().trials {
            let text = toml::to_string(&trial.workload).expect("workloads are TOML");
            assert_eq!(toml::from_str::<Workload>(&text).expect("it reads what it wrote"), trial.workload);
        }
    }
}
