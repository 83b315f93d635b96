//! A run made up for the tests of the report: every theme, several targets and variants, repeats, objections, gaps. The same
//! each time. No figure in it was measured.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::super::result::{
    Durability, Flow, GeneratorUsage, HostSheet, Latency, Limit, LoadResult, Objection, Probe, Run, SCHEMA, TargetKind,
    TargetSheet, Trial, Usage, WarmUp, Window,
};
use super::super::workload::{CatchUp, Rate, Workload};
use crate::report::{float, latencies};

/// The whole made-up run.
pub(super) fn run() -> Run {
    static RUN: LazyLock<Run> = LazyLock::new(made_up);
    RUN.clone()
}

fn made_up() -> Run {
    let mut trials = Vec::new();
    throughput(&mut trials);
    latency_at_rates(&mut trials);
    ladder(&mut trials);
    partitions(&mut trials);
    catch_up(&mut trials);
    without_load(&mut trials);
    Run {
        schema: SCHEMA,
        suite: "synthetic".to_owned(),
        started: "2031-02-03T04:05:06Z".to_owned(),
        commit: "0123456789ab-dirty".to_owned(),
        command: "corelane-bench suite synthetic.toml".to_owned(),
        host: HostSheet {
            cpu: "Imaginary 9000".to_owned(),
            cores: 8,
            memory_bytes: 64 << 30,
            kernel: "6.99".to_owned(),
            details: [("disk", "made up"), ("filesystem", "ext4, noatime"), ("governor", "performance")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        },
        probe: Some(probe()),
        notes: vec!["kafka is the one with all cores".to_owned()],
        trials,
    }
}

/// A run of one trial, as the command for one load leaves it: no probe, no server, no warm-up.
pub(super) fn single() -> Run {
    let mut trial = trial("latency", &workload("one", Rate::PerSecond(1000.0)), &external(), 0, 1.0);
    (trial.server, trial.machine, trial.ready_ms, trial.warm_up) = (None, None, None, None);
    Run { suite: "load".to_owned(), probe: None, trials: vec![trial], ..run() }
}

/// A latency whose histogram holds these microseconds.
pub(super) fn latency(us: impl IntoIterator<Item = u64>) -> Latency {
    let mut histogram = latencies();
    for us in us {
        histogram.saturating_record(us);
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(&histogram, &mut bytes).expect("a vector takes all");
    let at = |share| histogram.value_at_quantile(share);
    Latency {
        histogram: STANDARD.encode(bytes),
        count: histogram.len(),
        mean_us: histogram.mean(),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        p9999_us: at(0.9999),
        p99999_us: at(0.99999),
        max_us: histogram.max(),
    }
}

pub(super) fn generator_limited() -> Objection {
    Objection::GeneratorLimited { cpu_share: 0.93 }
}

pub(super) fn workload(name: &str, rate: Rate) -> Workload {
    Workload { name: name.to_owned(), partitions: 16, producers: 8, rate, duration_s: 30, ..Workload::default() }
}

pub(super) fn target(kind: TargetKind, durability: Durability, variant: &str) -> TargetSheet {
    let kind_name = match kind {
        TargetKind::Corelane => "corelane",
        TargetKind::Kafka => "kafka",
        TargetKind::FloorRaw => "floor-raw",
        TargetKind::FloorRuntime => "floor-runtime",
        TargetKind::External => "external",
    };
    let name = match (kind, durability) {
        (TargetKind::Corelane | TargetKind::Kafka, Durability::Written) => format!("{kind_name} written"),
        (TargetKind::Corelane | TargetKind::Kafka, Durability::Flushed) => format!("{kind_name} flushed"),
        _ => kind_name.to_owned(),
    };
    TargetSheet {
        command: format!("{kind_name} serve --made-up"),
        name,
        kind,
        version: "1.2.3".to_owned(),
        durability,
        variant: variant.to_owned(),
        cpus: vec![0, 1, 2, 3],
        generator_cpus: vec![4, 5, 6, 7],
        settings: [("log.flush.interval.messages".to_owned(), "1".to_owned())].into(),
    }
}

fn external() -> TargetSheet {
    target(TargetKind::External, Durability::Unknown, "")
}

/// Targets with how slow each is beside the fastest.
fn targets() -> Vec<(TargetSheet, f64)> {
    use Durability::{Flushed, Written};
    use TargetKind::{Corelane, Kafka};
    vec![
        (target(Corelane, Written, ""), 1.0),
        (target(Corelane, Written, "header"), 0.95),
        (target(Corelane, Flushed, ""), 1.3),
        (target(Kafka, Written, "1 GiB heap"), 2.6),
        (target(Kafka, Written, "all cores, 2 x threads"), 2.2),
        (target(Kafka, Flushed, "1 GiB heap"), 9.0),
    ]
}

fn throughput(trials: &mut Vec<Trial>) {
    let floors = [(target(TargetKind::FloorRaw, Durability::Written, ""), 0.8)];
    let floors = floors.into_iter().chain([(target(TargetKind::FloorRuntime, Durability::Written, ""), 0.9)]);
    let with_floors: Vec<_> = targets().into_iter().chain(floors).collect();
    for (name, theme) in
        [("throughput-1k", "throughput"), ("throughput-100b", "throughput"), ("recycled-1k", "past-recycling")]
    {
        for repeat in 0..3 {
            for (target, slowness) in &with_floors {
                let mut trial = trial(theme, &workload(name, Rate::Max), target, repeat, *slowness);
                if name == "throughput-100b" && target.name == "corelane written" {
                    trial.verdict.push(generator_limited());
                }
                trials.push(trial);
            }
        }
    }
}

fn latency_at_rates(trials: &mut Vec<Trial>) {
    for (name, rate) in [("latency-25", 100_000.0), ("latency-75", 300_000.0)] {
        for repeat in 0..3 {
            for (target, slowness) in targets() {
                let mut trial = trial("latency", &workload(name, Rate::PerSecond(rate)), &target, repeat, slowness);
                if target.kind == TargetKind::Kafka && repeat == 1 {
                    trial.verdict.push(Objection::NotWarm);
                }
                if target.name == "kafka flushed" && name == "latency-75" {
                    trial.verdict.push(Objection::Errors { count: 7, first: "<timed out> & \"gone\"".to_owned() });
                }
                trials.push(trial);
            }
        }
    }
    trials.push(trial("latency", &workload("latency-25", Rate::PerSecond(100_000.0)), &external(), 0, 1.7));
}

fn ladder(trials: &mut Vec<Trial>) {
    for step in 1..=8 {
        let rate = 60_000.0 * f64::from(step);
        for (target, slowness) in targets() {
            let load = 1.0 / (1.05 - (rate * slowness / 1_000_000.0).min(1.0));
            let mut trial = trial("ladder", &workload("ladder", Rate::PerSecond(rate)), &target, 0, slowness * load);
            if load > 15.0 {
                trial.verdict.push(Objection::NotSustained { acknowledged_share: 0.81 });
            }
            trials.push(trial);
        }
    }
}

fn partitions(trials: &mut Vec<Trial>) {
    for (topics, partitions) in [(1, 1), (1, 100), (1, 1000), (10, 1000)] {
        for (target, slowness) in targets() {
            let name = format!("partitions-{}", topics * partitions);
            let of_name = workload(&name, Rate::PerSecond(50_000.0));
            let workload = Workload { topics, partitions, ..of_name };
            let growth = if target.kind == TargetKind::Kafka { f64::from(topics * partitions).sqrt() } else { 1.0 };
            trials.push(trial("partitions", &workload, &target, 0, slowness * growth));
        }
    }
}

fn catch_up(trials: &mut Vec<Trial>) {
    let catch_up = Some(CatchUp { readers: 2, backlog_bytes: 8 << 30 });
    let workload = Workload { catch_up, ..workload("catch-up", Rate::PerSecond(50_000.0)) };
    for (target, slowness) in targets() {
        trials.push(trial("catch-up", &workload, &target, 0, slowness));
    }
}

/// Idle servers and their starts: trials in which nothing is sent.
fn without_load(trials: &mut Vec<Trial>) {
    for theme in ["idle", "start-time"] {
        for repeat in 0..2 {
            for (target, slowness) in targets() {
                let mut trial = trial(theme, &workload(theme, Rate::Max), &target, repeat, slowness);
                trial.load = None;
                trial.ready_ms = Some(150.0 * slowness * (1.0 + 0.1 * f64::from(repeat)));
                trials.push(trial);
            }
        }
    }
}

/// A trial in which everything takes `slowness` times as long as with the fastest.
fn trial(theme: &str, workload: &Workload, target: &TargetSheet, repeat: u32, slowness: f64) -> Trial {
    let slowness = slowness * (1.0 + 0.04 * f64::from(repeat));
    let seconds = 30.0;
    let records = match workload.rate {
        Rate::PerSecond(rate) => rate * seconds,
        Rate::Max => 1_200_000.0 / slowness * seconds,
    };
    let records = whole(records);
    let bytes = records * 1024;
    Trial {
        workload: workload.clone(),
        theme: theme.to_owned(),
        target: target.clone(),
        repeat,
        started: "2031-02-03T04:06:00Z".to_owned(),
        load: Some(load(workload, slowness, records)),
        server: Some(usage(2.6e-10 * float(bytes) * slowness, bytes)),
        machine: Some(usage(6e-10 * float(bytes) * slowness, bytes)),
        ready_ms: Some(170.0),
        warm_up: Some(WarmUp { seconds: 60.0, settled: true }),
        verdict: Vec::new(),
    }
}

fn load(workload: &Workload, slowness: f64, records: u64) -> LoadResult {
    let (fixed, offered_per_s) = match workload.rate {
        Rate::PerSecond(rate) => (true, Some(rate)),
        Rate::Max => (false, None),
    };
    let flow =
        |records: u64| Flow { records, bytes: records * 1024, batch_bytes: records * 1030, requests: records / 16 };
    let caught_up = workload.catch_up.as_ref().map_or(0, |catch_up| catch_up.backlog_bytes / 1024);
    LoadResult {
        seconds: 30.0,
        offered_per_s,
        produced: flow(records),
        consumed: flow(records),
        caught_up: flow(caught_up),
        produce_latency: fixed.then(|| latency(tail(300.0 * slowness))),
        end_to_end_latency: fixed.then(|| latency(tail(420.0 * slowness))),
        windows: (1..=30).map(|second| window(second, slowness, records / 30, caught_up / 30)).collect(),
        generator: GeneratorUsage {
            threads: 4,
            connections: 32,
            cpu_s: 60.0,
            cpu_share_max: 0.55,
            late_p99_us: 12,
            late_p999_us: 40,
            late_max_us: 900,
        },
        unacknowledged: 0,
        errors: 0,
        first_error: None,
    }
}

fn window(second: u32, slowness: f64, records: u64, caught_up: u64) -> Window {
    let wave = 1.0 + 0.2 * f64::from(second * 7 % 5) + if second == 17 { 6.0 } else { 0.0 };
    Window {
        second: f64::from(second),
        produced_records: records,
        produced_bytes: whole(float(records) * 1024.0 * (1.1 - 0.1 * wave).max(0.3)),
        consumed_records: records,
        consumed_bytes: records * 1024,
        caught_up_bytes: whole(float(caught_up) * 1024.0 * wave),
        p50_us: whole(300.0 * slowness),
        p99_us: whole(900.0 * slowness * wave),
        max_us: whole(4_000.0 * slowness * wave),
        end_to_end_p99_us: whole(1_200.0 * slowness * wave),
        unacknowledged: 0,
    }
}

/// A thousand latencies around `middle_us` with a long tail.
fn tail(middle_us: f64) -> impl Iterator<Item = u64> {
    (0..20_000_u32).map(move |index| {
        let rank = (f64::from(index) + 0.5) / 20_000.0;
        whole(middle_us * (0.6 + 0.4 * rank / (1.0 - rank).powf(0.45)))
    })
}

fn usage(cpu_s: f64, bytes: u64) -> Usage {
    Usage {
        seconds: 30.0,
        cpu_s,
        cpu_user_s: cpu_s * 0.4,
        cpu_system_s: cpu_s * 0.6,
        memory_peak_bytes: Some(3 << 30),
        resident_bytes: 900 << 20,
        page_cache_bytes: 2 << 30,
        disk_written_bytes: bytes + (1 << 30),
        disk_read_bytes: 4096,
        context_switches_voluntary: 123_456,
        context_switches_involuntary: 789,
    }
}

fn probe() -> Probe {
    let limit = |work: &str, block_bytes, depth, mb_per_s: f64, cpu_ns_per_kib, p50_us: Option<f64>| Limit {
        work: work.to_owned(),
        block_bytes,
        depth,
        bytes_per_s: mb_per_s * 1e6,
        operations_per_s: mb_per_s * 1e6 / float(block_bytes),
        p50_us,
        p99_us: p50_us.map(|us| us * 3.0),
        cpu_ns_per_kib,
    };
    let limits = vec![
        limit("write", 4096, 1, 60.0, 800.0, Some(65.0)),
        limit("write", 1 << 20, 4, 2400.0, 25.0, Some(1_600.0)),
        limit("write+flush", 4096, 1, 33.0, 1_300.0, Some(117.0)),
        limit("cold read", 1 << 20, 4, 3100.0, 20.0, Some(1_100.0)),
        limit("loopback receive", 256 << 10, 1, 6000.0, 95.0, None),
        limit("memcpy", 1 << 20, 1, 14_000.0, 40.0, None),
        limit("crc32c", 16 << 10, 1, 24_000.0, 28.0, None),
    ];
    Probe { measured: "2031-02-03T04:00:00Z".to_owned(), limits }
}

/// The next whole number below; values here are far below 2^53.
fn whole(value: f64) -> u64 {
    format!("{:.0}", value.max(0.0)).parse().expect("a whole number")
}
