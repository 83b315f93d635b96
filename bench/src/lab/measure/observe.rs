//! `observe`: what a server spends, written down on its own host while the lab loads it from another one.
//!
//! One JSON document a line: the host sheet first, then an observation every interval. Figures are sums since observing
//! began, so that any two observations give what was spent between them and a lost line loses nothing. The clocks of
//! both hosts must agree to well under the length of a trial; NTP is enough.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Snapshot, host, machine, process};
use crate::lab::result::{HostSheet, Usage};
use crate::signals::Signals;

/// Options of `observe`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Process of the server
    #[arg(long)]
    pid: u32,
    /// File to write to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Time between observations
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// A directory on the disk that the server uses
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
}

/// One line of the file.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// The first: where this is.
    Host(HostSheet),
    /// Each further one.
    Observation(Observation),
}

/// Sums since observing began, at one moment.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Observation {
    /// When, in milliseconds since 1970.
    pub(super) unix_ms: u64,
    /// What the server spent.
    pub(super) server: Usage,
    /// What the whole machine spent.
    pub(super) machine: Usage,
}

/// Observes until the server ends or this process is asked to.
///
/// Errors: there is no such process at the start, or the file cannot be written.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let signals = Signals::listen()?;
    let mut out = File::create(&arguments.out)?;
    let observer = Observer::begin(arguments.pid, &arguments.data)?;
    write_line(&mut out, &Line::Host(host::sheet(&arguments.data)))?;
    let mut due = Instant::now();
    // A process that cannot be read any more has ended: that is how observing is meant to end.
    while let (false, Ok(server)) = (signals.came(), process::snapshot(arguments.pid)) {
        write_line(&mut out, &Line::Observation(observer.observe(&server)?))?;
        due += arguments.interval;
        signals.wait(Some(due.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Where sums begin.
struct Observer<'a> {
    server: Snapshot,
    machine: Snapshot,
    data: &'a Path,
}

impl Observer<'_> {
    fn begin(pid: u32, data: &Path) -> Result<Observer<'_>, Box<dyn Error>> {
        let server = process::snapshot(pid).map_err(|error| format!("process {pid}: {error}"))?;
        Ok(Observer { server, machine: machine::snapshot(data)?, data })
    }

    fn observe(&self, server: &Snapshot) -> Result<Observation, Box<dyn Error>> {
        let machine = machine::snapshot(self.data)?;
        let mut usage = server.usage_since(&self.server);
        usage.page_cache_bytes = machine.page_cache_bytes;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let unix_ms = u64::try_from(since.as_millis())?;
        Ok(Observation { unix_ms, server: usage, machine: machine.usage_since(&self.machine) })
    }
}

fn write_line(out: &mut File, line: &Line) -> Result<(), Box<dyn Error>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(out.write_all(&text)?)
}

/// Reads what `observe` wrote. A last line that was cut short by the end of the observer is left out.
///
/// Errors: the file cannot be read, or is not of `observe`.
pub(super) fn read(file: &Path) -> Result<(HostSheet, Vec<Observation>), Box<dyn Error>> {
    parse(&fs::read_to_string(file)?).map_err(|error| format!("{}: {error}", file.display()).into())
}

fn parse(text: &str) -> Result<(HostSheet, Vec<Observation>), Box<dyn Error>> {
    let whole = text.rsplit_once('\n').map_or("", |(whole, _cut)| whole);
    let mut lines = whole.lines().map(serde_json::from_str::<Line>);
    let Some(Ok(Line::Host(host))) = lines.next() else { return Err("the first line is no host sheet".into()) };
    let mut observations = Vec::new();
    for line in lines {
        match line? {
            Line::Observation(observation) => observations.push(observation),
            Line::Host(_) => return Err("a second host sheet".into()),
        }
    }
    Ok((host, observations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_short_is_left_out() {
        let observation = Observation { unix_ms: 5, server: Usage::default(), machine: Usage::default() };
        let lines = [Line::Host(HostSheet::default()), Line::Observation(observation)];
        let text: String = lines.iter().map(|line| serde_json::to_string(line).expect("plain") + "\n").collect();
        let (_, read) = parse(&format!("{text}{{\"observation\":{{\"unix_")).expect("the first lines are whole");
        assert_eq!(read, [observation]);
        assert!(parse("{\"observation\":{}}\n").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn this_process_is_observed() {
        let data = std::env::temp_dir();
        let observer = Observer::begin(std::process::id(), &data).expect("it lives");
        let server = process::snapshot(std::process::id()).expect("it lives");
        let observation = observer.observe(&server).expect("it can be read");
        assert!(observation.server.resident_bytes > 0);
        assert!(observation.machine.page_cache_bytes > 0);
        assert!(observation.unix_ms > 1_700_000_000_000);
    }
}
