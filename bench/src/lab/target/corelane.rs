//! `corelane serve`, one shard on each of its CPUs.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::Command;

use super::running::{Own, Running, Sign};
use super::setup::{ServerDirectory, Setup, file_name};
use super::{FLUSH_INTERVAL, TargetSpec, VALIDATION, Validation};
use crate::lab::cluster::Cluster;

/// Its HTTP port, counted from the first port.
const HTTP_PORT: u16 = 100;

pub(super) fn start(spec: &TargetSpec, setup: &Setup) -> Result<Running, Box<dyn Error>> {
    let program = setup.corelane()?;
    let directory = ServerDirectory::new(setup)?;
    let settings = settings(spec)?;
    let cpus = spec.cpus(setup);
    let arguments = arguments(spec, setup, &directory, cpus.len(), &settings)?;
    let shown = format!("{} {}", file_name(&program), directory.anonymous(&arguments.join(" ")));
    let sheet = spec.sheet(setup, version(&program)?, shown, settings);
    let mut command = Command::new(program);
    command.args(arguments);
    let (own, ready) = Own::start(command, &cpus, directory, Sign::Metadata(setup.address()))?;
    let cluster = Cluster::Kafka { bootstrap: setup.address() };
    Ok(Running { sheet, cluster, ready: Some(ready), own: Some(own) })
}

fn settings(spec: &TargetSpec) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let validation = match spec.validation {
        Validation::Full => "full",
        Validation::Header => "header",
    };
    let own =
        [("auto.create.topics.enable", "false"), (VALIDATION, validation), (FLUSH_INTERVAL, spec.flush_interval()?)];
    let mut settings: BTreeMap<String, String> = own.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    settings.extend(spec.settings.clone());
    Ok(settings)
}

fn arguments(
    spec: &TargetSpec,
    setup: &Setup,
    directory: &ServerDirectory,
    cpu_count: usize,
    settings: &BTreeMap<String, String>,
) -> Result<Vec<String>, Box<dyn Error>> {
    let shards = spec.shards.map_or_else(|| u16::try_from(cpu_count), Ok)?;
    let http = setup.port.checked_add(HTTP_PORT).ok_or("the port is too high")?;
    let data = directory.data().to_string_lossy().into_owned();
    let mut arguments = vec!["serve".to_owned(), "--data".to_owned(), data];
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("--listen", setup.address().to_string());
    option("--http", format!("127.0.0.1:{http}"));
    option("--shards", shards.to_string());
    if let Some(mib) = spec.memory_mib {
        option("--memory", format!("{mib}MiB"));
    }
    for (key, value) in settings {
        option("--set", format!("{key}={value}"));
    }
    Ok(arguments)
}

/// What the program calls itself, without its name.
fn version(program: &Path) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program).arg("--version").output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.trim().split_once(' ').map_or("", |(_, version)| version).to_owned())
}
