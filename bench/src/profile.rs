//! Recording where a server's CPU goes, in the very seconds that a benchmark measures. `flamegraphs/record.sh` draws it.

use std::error::Error;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::{Child, Command};

use clap::Args;

use crate::server::Server;

/// Samples per second: not a round number, so that they do not fall in step with timers.
const SAMPLES_PER_SECOND: &str = "1999";

/// Options of every benchmark that can record its servers.
#[derive(Args)]
pub(crate) struct ProfileArguments {
    /// Record the servers in the last round, each to FILE.SUBJECT, with `perf record`; not a Kafka
    #[arg(long, value_name = "FILE")]
    perf: Option<PathBuf>,
    /// What makes perf take a sample; virtual machines often have no cycle counter, a timer gives samples everywhere
    #[arg(long, value_name = "EVENT", default_value = "cpu-clock", requires = "perf")]
    perf_event: String,
}

impl ProfileArguments {
    /// Records `server` for so many seconds, if asked to and if it has a `subject`, which it has only in its last round. Only
    /// that process and its threads are seen, not the load.
    pub(crate) fn record(
        &self,
        server: &Server,
        subject: Option<&str>,
        seconds: impl Display,
    ) -> Result<Recording, Box<dyn Error>> {
        let (Some(file), Some(subject)) = (&self.perf, subject) else { return Ok(Recording(None)) };
        let mut command = Command::new("perf");
        command.args(["record", "-q", "-g", "-F", SAMPLES_PER_SECOND, "-e", &self.perf_event, "-o"]);
        command.arg(format!("{}.{subject}", file.display())).arg("-p").arg(server.pid().to_string());
        command.arg("--").arg("sleep").arg(seconds.to_string());
        Ok(Recording(Some(command.spawn().map_err(|error| format!("perf: {error}"))?)))
    }
}

/// A recording that ends by itself.
pub(crate) struct Recording(Option<Child>);

impl Recording {
    /// Waits for its end; the server must still be there, or what is in its memory has no names.
    pub(crate) fn finish(self) -> Result<(), Box<dyn Error>> {
        let Some(mut perf) = self.0 else { return Ok(()) };
        let status = perf.wait()?;
        if status.success() { Ok(()) } else { Err(format!("perf record ended with {status}").into()) }
    }
}
