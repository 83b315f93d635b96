//! `run`: one workload against servers that the lab starts itself, in turn: a suite of one session.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::definition::{LoadStep, Session, Step, Suite, WarmUpRule, WarmUpRules};
use super::run::{Wanted, run as run_suite};
use super::validate;
use crate::lab::result::{Durability, TargetKind};
use crate::lab::target::{SetupArguments, TargetSpec, Threads, Validation};
use crate::lab::workload::{self, Rate, Translation, Workload};

/// Options of `run`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The workload: TOML, or YAML of the OpenMessaging Benchmark
    workload: PathBuf,
    /// Settings of a driver for Kafka of the OpenMessaging Benchmark, beside a workload of it
    #[arg(long, value_name = "FILE")]
    driver: Option<PathBuf>,
    /// What to load; may repeat, then they take turns
    #[arg(long = "target", value_enum, default_value = "corelane")]
    targets: Vec<TargetKind>,
    /// Whether servers flush before they answer; may repeat
    #[arg(long = "durability", value_enum, default_value = "written")]
    durabilities: Vec<Durability>,
    /// How Corelane looks at batches
    #[arg(long, value_enum, default_value = "full")]
    validation: Validation,
    /// Network and I/O threads of Kafka
    #[arg(long, value_enum, default_value = "default")]
    threads: Threads,
    /// Servers may use the CPUs of the generator too
    #[arg(long)]
    all_cores: bool,
    /// Address of the target `external`
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<SocketAddr>,
    #[command(flatten)]
    setup: SetupArguments,
    /// How often each target is loaded
    #[arg(long, default_value_t = 3)]
    repeats: u32,
    /// Seconds after which a warm-up ends, settled or not [default: 180 for Kafka, 90 for others]
    #[arg(long, value_name = "SECONDS")]
    warm_up_at_most: Option<u32>,
    /// Directory for the results; a run that was stopped goes on from what is there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let Translation { workload, notes } = workload::read(&arguments.workload, arguments.driver.as_deref())?;
    for note in notes {
        eprintln!("{note}");
    }
    let suite = suite(arguments, workload)?;
    let text = serde_json::to_string(&suite)?;
    let setup = arguments.setup.setup()?;
    run_suite(&Wanted { suite: &suite, text: &text, only: None, setup: &setup, out: &arguments.out })
}

fn suite(arguments: &Arguments, workload: Workload) -> Result<Suite, Box<dyn Error>> {
    let targets = targets(arguments)?;
    let theme = match workload.rate {
        Rate::Max => "throughput",
        Rate::PerSecond(_) => "latency",
    };
    let load = LoadStep { theme: theme.to_owned(), targets: None, fill_bytes: 0, workload };
    let session = Session {
        name: "run".to_owned(),
        targets: targets.iter().map(|(name, _)| name.clone()).collect(),
        repeats: None,
        warm_up: None,
        delete_topics: false,
        steps: vec![Step::Load(load)],
    };
    let suite = Suite {
        name: name(&arguments.workload),
        repeats: arguments.repeats,
        probe: None,
        warm_up: warm_up(arguments.warm_up_at_most),
        stored_bytes_per_s_max: super::definition::stored_bytes_per_s_max(),
        settings: BTreeMap::new(),
        targets: targets.into_iter().collect(),
        best: BTreeMap::new(),
        sessions: vec![session],
    };
    validate::suite(&suite)?;
    Ok(suite)
}

/// The targets with their names, in the order given; only brokers that the lab starts have a durability to choose.
fn targets(arguments: &Arguments) -> Result<Vec<(String, TargetSpec)>, Box<dyn Error>> {
    let mut targets: Vec<(String, TargetSpec)> = Vec::new();
    for kind in &arguments.targets {
        for durability in &arguments.durabilities {
            let spec = spec(arguments, *kind, *durability);
            if *kind == TargetKind::External && spec.address.is_none() {
                return Err("the target external needs --address".into());
            }
            let name = format!("{} {}", spec.name(), spec.variant()).trim().replace([' ', ','], "-");
            if targets.iter().all(|(other, _)| *other != name) {
                targets.push((name, spec));
            }
        }
    }
    Ok(targets)
}

fn spec(arguments: &Arguments, kind: TargetKind, durability: Durability) -> TargetSpec {
    let plain = TargetSpec { kind, durability, ..TargetSpec::default() };
    let (all_cores, validation, threads) = (arguments.all_cores, arguments.validation, arguments.threads);
    match kind {
        TargetKind::Corelane => TargetSpec { validation, all_cores, ..plain },
        TargetKind::Kafka => TargetSpec { threads, all_cores, ..plain },
        TargetKind::FloorRaw | TargetKind::FloorRuntime => TargetSpec { durability: Durability::Written, ..plain },
        TargetKind::External => TargetSpec { durability: Durability::Unknown, address: arguments.address, ..plain },
    }
}

fn warm_up(at_most_s: Option<u32>) -> WarmUpRules {
    let rules = WarmUpRules::default();
    let Some(at_most_s) = at_most_s else { return rules };
    let cut = |rule: WarmUpRule| WarmUpRule { at_least_s: rule.at_least_s.min(at_most_s), at_most_s };
    WarmUpRules { kafka: cut(rules.kafka), corelane: cut(rules.corelane) }
}

/// The name of a file without its ending.
fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(options: &[&str]) -> Suite {
        let line = ["run", "sizes.toml", "--out", "results"].iter().chain(options);
        suite(&Line::parse_from(line).arguments, Workload::default()).unwrap()
    }

    #[test]
    fn every_target_is_held_with_every_durability_that_it_has() {
        let suite = parsed(&["--target", "corelane", "--target", "kafka", "--target", "floor-raw"]);
        assert_eq!(suite.sessions[0].targets, ["corelane-written", "kafka-written", "floor-on-io_uring"]);
        let options =
            ["--durability", "written", "--durability", "flushed", "--target", "floor-raw", "--target", "corelane"];
        let suite = parsed(&options);
        assert_eq!(suite.sessions[0].targets, ["floor-on-io_uring", "corelane-written", "corelane-flushed"]);
        assert_eq!((suite.name.as_str(), suite.repeats), ("sizes", 3));
    }

    #[test]
    fn a_shorter_warm_up_lowers_the_least_time_too() {
        let suite = parsed(&["--warm-up-at-most", "30"]);
        assert_eq!(suite.warm_up.kafka, WarmUpRule { at_least_s: 30, at_most_s: 30 });
        assert_eq!(suite.warm_up.corelane, WarmUpRule { at_least_s: 20, at_most_s: 30 });
    }

    #[test]
    fn options_that_a_kind_does_not_have_make_it_no_variant() {
        let suite = parsed(&["--target", "corelane", "--threads", "double", "--all-cores"]);
        assert_eq!(suite.sessions[0].targets, ["corelane-written-all-cores"]);
    }
}
