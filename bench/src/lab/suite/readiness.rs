//! What must be there before the first server starts. Each refusal is one line that says what to do.

use std::error::Error;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use super::order::Standing;
use crate::lab::result::TargetKind;
use crate::lab::target::Setup;
use crate::report::float;

/// Free disk below which a load is given up: a full disk would also stop whoever else writes to it. In bytes.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// Refuses to begin what could not be finished: programs, CPUs, the port and the disk are looked at.
pub(crate) fn check(standing: &Standing<'_, '_>, setup: &Setup) -> Result<(), Box<dyn Error>> {
    let sittings = standing.sittings().filter(|sitting| standing.next_trial(sitting).is_some());
    let kinds: Vec<TargetKind> =
        sittings.filter_map(|sitting| standing.suite.targets.get(sitting.target)).map(|target| target.kind).collect();
    if kinds.contains(&TargetKind::Corelane) {
        setup.corelane()?;
    }
    if kinds.contains(&TargetKind::Kafka) {
        let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        java.map_err(|error| format!("java: {error}; run bench/kafka/install"))?;
        setup.kafka.find()?;
    }
    if kinds.iter().any(|kind| *kind != TargetKind::External) {
        cpus(setup)?;
        port(setup.port)?;
        disk(standing, setup)?;
    }
    Ok(())
}

/// Sets of equal size without a common CPU.
fn cpus(setup: &Setup) -> Result<(), String> {
    let Setup { server_cpus, generator_cpus, .. } = setup;
    if let Some(cpu) = server_cpus.iter().find(|cpu| generator_cpus.contains(cpu)) {
        return Err(format!("server and generator would share CPU {cpu}: give --server-cpus and --generator-cpus"));
    }
    if server_cpus.len() == generator_cpus.len() {
        return Ok(());
    }
    Err("server and generator must have as many CPUs: give --server-cpus and --generator-cpus".to_owned())
}

fn port(port: u16) -> Result<(), String> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Err(format!("port {port} is taken: end what listens there, or give another --port"))
        }
        Err(error) => Err(format!("port {port}: {error}")),
    }
}

fn disk(standing: &Standing<'_, '_>, setup: &Setup) -> Result<(), Box<dyn Error>> {
    let free = free_bytes(&setup.data)?;
    let needed = standing.disk_bytes();
    if free >= needed {
        return Ok(());
    }
    let gb = |bytes: u64| float(bytes) / 1e9;
    Err(format!(
        "{} needs up to {:.0} GB of disk and {:.0} GB are free below {}: give another --data, or a part of it with --only",
        standing.suite.name,
        gb(needed),
        gb(free),
        setup.data.display()
    )
    .into())
}

/// Refuses to go on while a disk is nearly full: more was stored than a suite said.
pub(crate) fn check_disk(data: &Path) -> Result<(), Box<dyn Error>> {
    if free_bytes(data)? >= FREE_BYTES_MIN {
        return Ok(());
    }
    Err("the disk is nearly full: give another --data, or bound the workload by retention.bytes or a shorter duration_s".into())
}

fn free_bytes(data: &Path) -> std::io::Result<u64> {
    let disk = rustix::fs::statvfs(data)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let taken = listener.local_addr().unwrap().port();
        assert!(port(taken).unwrap_err().contains(&format!("port {taken} is taken")));
        drop(listener);
        port(taken).unwrap();
    }
}
