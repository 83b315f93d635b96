//! `suite`: runs a suite file, or lists what it would run.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::definition::Suite;
use super::order::{Finished, Standing};
use super::progress::time;
use super::resume::State;
use super::run::{Wanted, run as run_suite};
use crate::lab::result::{Durability, TargetKind};
use crate::lab::target::{SetupArguments, TargetSpec};
use crate::report::float;

/// Options of `suite`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The suite, such as bench/suites/quick.toml
    file: PathBuf,
    #[command(flatten)]
    setup: SetupArguments,
    /// Directory for the results; a suite that was stopped goes on from what is there
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// Only what has this word in the name of its session, its theme or its workload
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// A broker that somebody else runs, held to every session too
    #[arg(long, value_name = "HOST:PORT")]
    external: Option<SocketAddr>,
    /// Prints what would be run, and how long it takes, and runs nothing
    #[arg(long)]
    list: bool,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let file = arguments.file.display();
    let text = fs::read_to_string(&arguments.file).map_err(|error| format!("{file}: {error}"))?;
    let mut suite = Suite::parse(&text).map_err(|error| format!("{file}: {error}"))?;
    if let Some(address) = arguments.external {
        add_external(&mut suite, address);
    }
    let only = arguments.only.as_deref();
    match &arguments.out {
        Some(out) if !arguments.list => {
            let setup = arguments.setup.setup()?;
            run_suite(&Wanted { suite: &suite, text: &text, only, setup: &setup, out })
        }
        out => {
            let finished = out.as_ref().map_or_else(|| Ok(Finished::new()), |out| State::peek(out))?;
            print!("{}", list(Standing { suite: &suite, only, finished: &finished }));
            Ok(())
        }
    }
}

/// Adds a target to every session and all its steps.
fn add_external(suite: &mut Suite, address: SocketAddr) {
    let spec = TargetSpec {
        kind: TargetKind::External,
        durability: Durability::Unknown,
        address: Some(address),
        ..TargetSpec::default()
    };
    suite.targets.insert("external".to_owned(), spec);
    for session in &mut suite.sessions {
        session.targets.push("external".to_owned());
        session.steps.iter_mut().for_each(|step| step.add_target("external"));
    }
}

/// What is left of a suite: a line for each sitting with its trials and its time, then the sums.
fn list(standing: Standing<'_, '_>) -> String {
    let mut text = String::new();
    let mut all_s = standing.probe_s();
    if all_s > 0.0 {
        text += &format!("{:<76}{:>9}\n", "probe", time(all_s));
    }
    for sitting in standing.sittings() {
        let left = standing.left_of_sitting(&sitting);
        if left.trials > 0 {
            let name = format!("{} {}", sitting.session.name, sitting.target);
            text += &format!(
                "{name:<44} repeat {}  {:>3} trials  {:>9}\n",
                sitting.repeat + 1,
                left.trials,
                time(left.seconds)
            );
        }
        all_s += left.seconds;
    }
    let left = standing.left();
    let disk_gb = float(standing.disk_bytes()) / 1e9;
    text + &format!(
        "{}: up to {} trials in about {}, with up to {disk_gb:.0} GB of disk\n",
        standing.suite.name,
        left.trials,
        time(all_s)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::workload::Workload;

    /// Text and value of each suite of the repository.
    fn suites() -> Vec<(String, Suite)> {
        let files = files("suites");
        files
            .into_iter()
            .map(|(name, text)| (name.clone(), Suite::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"))))
            .collect()
    }

    fn files(directory: &str) -> Vec<(String, String)> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(directory);
        let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty());
        let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
        files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
    }

    fn seconds(suite: &Suite) -> f64 {
        let standing = Standing { suite, only: None, finished: &Finished::new() };
        standing.left().seconds + standing.probe_s()
    }

    #[test]
    fn every_suite_of_the_repository_is_valid_and_named_after_its_file() {
        for (name, suite) in suites() {
            assert_eq!(name, suite.name);
            for workload in suite.sessions.iter().flat_map(|session| &session.steps).filter_map(|step| step.workload())
            {
                check(workload);
            }
        }
    }

    #[test]
    fn every_workload_of_the_repository_is_valid_and_named_after_its_file() {
        for (name, text) in files("workloads") {
            let workload: Workload = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(name, workload.name);
            check(&workload);
        }
    }

    fn check(workload: &Workload) {
        let cluster = crate::lab::cluster::Cluster::Kafka { bootstrap: SocketAddr::from(([127, 0, 0, 1], 9092)) };
        workload.validate(&cluster).unwrap_or_else(|error| panic!("{}: {error}", workload.name));
    }

    #[test]
    fn the_suites_take_no_longer_than_is_said_of_them() {
        let limits_s = [("quick", 120.0), ("standard", 7200.0)];
        for (name, limit_s) in limits_s {
            let (_, suite) = suites().into_iter().find(|(suite, _)| suite == name).unwrap();
            assert!(seconds(&suite) <= limit_s, "{name} takes {} s", seconds(&suite));
        }
    }

    #[test]
    fn a_broker_that_somebody_else_runs_takes_part_in_every_session() {
        for (_, mut suite) in suites() {
            add_external(&mut suite, SocketAddr::from(([127, 0, 0, 1], 9092)));
            let standing = Standing { suite: &suite, only: None, finished: &Finished::new() };
            let theirs: Vec<_> = standing.sittings().filter(|sitting| sitting.target == "external").collect();
            assert!(theirs.len() >= suite.sessions.len());
            for (sitting, step) in
                theirs.iter().flat_map(|sitting| sitting.session.steps.iter().map(move |step| (sitting, step)))
            {
                assert_eq!(standing.is_wanted(sitting, step), step.theme() != "start-time");
            }
        }
    }
}
