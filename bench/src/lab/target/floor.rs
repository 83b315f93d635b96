//! The floors: this program as a server that does only what no broker can leave out. See [`crate::floor`].

use std::collections::BTreeMap;
use std::error::Error;
use std::process::Command;

use super::TargetSpec;
use super::running::{Own, Running, Sign};
use super::setup::{ServerDirectory, Setup};
use crate::lab::cluster::Cluster;
use crate::lab::result::Durability;

/// Starts the floor of this subcommand on the first CPU of the server: it has one thread.
pub(super) fn start(spec: &TargetSpec, setup: &Setup, subcommand: &str) -> Result<Running, Box<dyn Error>> {
    let cpu = *setup.server_cpus.first().ok_or("a floor needs a CPU")?;
    if spec.all_cores || !spec.settings.is_empty() {
        return Err("a floor has one CPU and no settings".into());
    }
    let directory = ServerDirectory::new(setup)?;
    let file = directory.data().join("floor.data").to_string_lossy().into_owned();
    let (address, cpu_text) = (setup.address().to_string(), cpu.to_string());
    let arguments = [subcommand, "--listen", &address, "--data", &file, "--cpu", &cpu_text];
    let shown = format!("corelane-bench {}", directory.anonymous(&arguments.join(" ")));
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut sheet = spec.sheet(setup, version, shown, BTreeMap::new());
    (sheet.durability, sheet.cpus) = (Durability::Written, vec![cpu]);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    let (own, ready) = Own::start(command, &[cpu], directory, Sign::Connection(setup.address()))?;
    let cluster = Cluster::Floor { address: setup.address() };
    Ok(Running { sheet, cluster, ready: Some(ready), own: Some(own) })
}
