//! Where a run comes from: the commit, the command and the settings that decide what is measured.

use std::path::Path;
use std::process::Command;

use super::definition::Suite;
use crate::lab::target::Setup;

/// The commit of the working directory, or of the one in which this program lies, with `-dirty` where files were changed;
/// `unknown` where neither is a checkout.
pub(crate) fn commit() -> String {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent);
    let described = [Some(Path::new(".")), beside].into_iter().flatten().find_map(describe);
    described.unwrap_or_else(|| "unknown".to_owned())
}

fn describe(directory: &Path) -> Option<String> {
    let mut command = Command::new("git");
    // No tag matches, so that the hash is given.
    command.arg("-C").arg(directory).args(["describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The command line of this process, without the directory of the program.
pub(crate) fn command() -> String {
    let arguments = std::env::args().skip(1);
    std::iter::once("corelane-bench".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// What beside the suite decides what is measured. A directory whose suite was begun with others is not resumed.
pub(crate) fn settings(suite: &Suite, setup: &Setup) -> String {
    let mut text = format!("server CPUs {:?}, generator CPUs {:?}", setup.server_cpus, setup.generator_cpus);
    if let Some(version) = &setup.kafka.version {
        text += &format!(", Kafka {version}");
    }
    for (name, target) in &suite.targets {
        if let Some(address) = target.address {
            text += &format!(", {name} at {address}");
        }
    }
    text
}
