//! Where servers live: programs, directory, ports and CPUs.

use std::error::Error;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::kafka::Installation;
use crate::server::corelane_beside;

/// Options of every subcommand that starts targets.
#[derive(Args, Clone, Debug)]
pub(crate) struct SetupArguments {
    /// The program of Corelane [default: `corelane` beside this one]
    #[arg(long, value_name = "FILE")]
    corelane: Option<PathBuf>,
    /// Directory for the data of the servers; each gets an empty one below it, removed afterwards
    #[arg(long, value_name = "DIR", default_value = "./bench-data")]
    data: PathBuf,
    /// First port of the servers; Kafka's controller and Corelane's further shards take those that follow
    #[arg(long, default_value_t = 19092)]
    port: u16,
    /// CPUs of the server [default: the first half]
    #[arg(long, value_delimiter = ',', value_name = "CPU,...")]
    server_cpus: Vec<usize>,
    /// CPUs of the generator [default: the second half]
    #[arg(long, value_delimiter = ',', value_name = "CPU,...")]
    generator_cpus: Vec<usize>,
    /// Where `bench/kafka/install` put Apache Kafka
    #[arg(long, value_name = "DIR", default_value = "target/bench-kafka")]
    kafka: PathBuf,
    /// Version of Apache Kafka [default: the newest that is installed]
    #[arg(long, value_name = "VERSION")]
    kafka_version: Option<String>,
}

impl SetupArguments {
    /// Completes them.
    ///
    /// Errors: `data` cannot be made, or no CPU can be found.
    pub(crate) fn setup(&self) -> Result<Setup, Box<dyn Error>> {
        fs::create_dir_all(&self.data)?;
        let ids = core_affinity::get_core_ids().filter(|ids| !ids.is_empty()).ok_or("no CPU to run on")?;
        let (first, second) = halves(&ids.iter().map(|id| id.id).collect::<Vec<_>>());
        let given_or = |given: &[usize], default: Vec<usize>| if given.is_empty() { default } else { given.to_vec() };
        Ok(Setup {
            corelane: self.corelane.clone(),
            data: self.data.canonicalize()?,
            port: self.port,
            server_cpus: given_or(&self.server_cpus, first),
            generator_cpus: given_or(&self.generator_cpus, second),
            kafka: Installation { directory: self.kafka.clone(), version: self.kafka_version.clone() },
        })
    }
}

/// Two sets of equal size without a common CPU; of a single CPU both have it.
fn halves(cpus: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let half = (cpus.len() / 2).max(1);
    (cpus[..half].to_vec(), cpus[cpus.len() - half..].to_vec())
}

/// Where servers live.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The program of Corelane; beside this one if missing.
    pub(crate) corelane: Option<PathBuf>,
    /// An existing directory for the data of the servers, absolute.
    pub(crate) data: PathBuf,
    /// First port.
    pub(crate) port: u16,
    pub(crate) server_cpus: Vec<usize>,
    pub(crate) generator_cpus: Vec<usize>,
    pub(crate) kafka: Installation,
}

impl Setup {
    /// The program of Corelane.
    ///
    /// Errors: it is not there.
    pub(crate) fn corelane(&self) -> Result<PathBuf, Box<dyn Error>> {
        self.corelane.clone().map_or_else(corelane_beside, Ok)
    }

    /// Where a server listens.
    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

/// A directory of one server. Removed when dropped.
pub(super) struct ServerDirectory {
    path: PathBuf,
}

impl ServerDirectory {
    /// An empty one. Since one server lives at a time, all have the same name: what a killed lab left is removed here.
    pub(super) fn new(setup: &Setup) -> io::Result<ServerDirectory> {
        let path = setup.data.join("lab-server");
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(path.join("data"))?;
        Ok(ServerDirectory { path })
    }

    /// For what the server stores.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// A file beside it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A text in which this directory has a name that is the same everywhere.
    pub(super) fn anonymous(&self, text: &str) -> String {
        text.replace(&*self.path.to_string_lossy(), "DIR")
    }
}

impl Drop for ServerDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("{} remains: {error}", self.path.display());
        }
    }
}

/// A program without its directory, for a command line that others read.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_generator_get_as_many_cpus_and_share_none() {
        assert_eq!(halves(&[0, 1]), (vec![0], vec![1]));
        assert_eq!(halves(&[2, 3, 6, 7, 9]), (vec![2, 3], vec![7, 9]));
        assert_eq!(halves(&[4]), (vec![4], vec![4]));
    }
}
