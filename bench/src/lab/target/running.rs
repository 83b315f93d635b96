//! A server of the lab while it runs.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::metadata::{MetadataRequest, MetadataResponse};

use super::setup::ServerDirectory;
use crate::client::{Client, answer_body, debug};
use crate::lab::cluster::Cluster;
use crate::lab::measure::control_group::ControlGroup;
use crate::lab::measure::{Snapshot, process};
use crate::lab::result::TargetSheet;
use crate::process::{PATIENCE, Process};

/// Between two attempts to get a first answer.
const READY_PAUSE: Duration = Duration::from_millis(1);
/// How long one attempt may wait for its answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long a server of somebody else may still listen.
const SILENCE_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at whether it does.
const SILENCE_PAUSE: Duration = Duration::from_millis(50);
/// Version of Metadata that is asked for; every broker since 2.1 knows it.
const METADATA_VERSION: i16 = 7;
/// What a JVM ends with that SIGTERM asked to.
const JVM_TERMINATED: i32 = 143;
/// File for what a server prints.
const OUTPUT: &str = "output.log";
/// File for the log of a server that keeps one.
const LOG: &str = "server.log";
/// Lines of a server's log that an error shows.
const LAST_WORDS: usize = 15;

/// A server that answers. Killed, and what it left removed, when dropped.
pub(crate) struct Running {
    /// What it is and how it was set up.
    pub(crate) sheet: TargetSheet,
    /// Where the load goes.
    pub(crate) cluster: Cluster,
    /// From the start of its process to its first answer; `None` for one that somebody else started.
    pub(crate) ready: Option<Duration>,
    pub(super) own: Option<Own>,
}

/// What the lab has of a server that it started itself. Dropped in this order: a group with processes cannot be removed, nor
/// should files be from under one.
pub(super) struct Own {
    process: Process,
    group: Option<ControlGroup>,
    line: Line,
    _directory: ServerDirectory,
}

/// How a server was started, to start it again.
struct Line {
    program: OsString,
    arguments: Vec<OsString>,
    cpus: Vec<usize>,
    sign: Sign,
}

/// How a server shows that it serves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sign {
    /// It answers a Metadata request and names itself.
    Metadata(SocketAddr),
    /// It accepts a connection.
    Connection(SocketAddr),
}

impl Sign {
    fn address(self) -> SocketAddr {
        match self {
            Sign::Metadata(address) | Sign::Connection(address) => address,
        }
    }
}

impl Running {
    /// What its process spent so far; `None` for one that somebody else started.
    pub(crate) fn snapshot(&self) -> Result<Option<Snapshot>, Box<dyn Error>> {
        let Some(own) = &self.own else { return Ok(None) };
        Ok(Some(process::snapshot(own.process.pid())?.with_group(own.group.as_ref())))
    }

    /// Asks it to stop, waits until it did and removes what it left.
    ///
    /// Errors: it did not end in time and was killed, or it ended with a fault.
    pub(crate) fn stop(self) -> Result<(), Box<dyn Error>> {
        let Some(Own { process, group, .. }) = self.own else { return Ok(()) };
        let status = process.stop()?;
        drop(group);
        if is_clean(status) { Ok(()) } else { Err(format!("{} ended with {status}", self.sheet.name).into()) }
    }

    /// Asks it to stop, waits until it did and starts it again on what it stored; `ready` is then that of the second start.
    ///
    /// Errors: it did not end as it should or does not come back; somebody else runs it.
    pub(crate) fn restart(self) -> Result<Running, Box<dyn Error>> {
        let own = self.own.ok_or("a server that somebody else runs cannot be started again from here")?;
        let Own { process, group, line, _directory: directory } = own;
        let status = process.stop()?;
        drop(group);
        if !is_clean(status) {
            return Err(format!("{} ended with {status}", self.sheet.name).into());
        }
        let mut command = Command::new(&line.program);
        command.args(&line.arguments);
        let (own, ready) = Own::start(command, &line.cpus, directory, line.sign)?;
        Ok(Running { sheet: self.sheet, cluster: self.cluster, ready: Some(ready), own: Some(own) })
    }
}

/// Whether SIGTERM was obeyed: by an exit of its own, as a JVM does it, or as a program without a handler.
fn is_clean(status: ExitStatus) -> bool {
    status.success() || status.code() == Some(JVM_TERMINATED) || status.signal() == Some(libc::SIGTERM)
}

impl Own {
    /// Starts `command` on `cpus` in a control group and waits for the sign; says how long that took.
    ///
    /// What it prints goes to a file in its directory, as does its log if it has one: [`log_of`].
    pub(super) fn start(
        mut command: Command,
        cpus: &[usize],
        directory: ServerDirectory,
        sign: Sign,
    ) -> Result<(Own, Duration), Box<dyn Error>> {
        await_silence(sign.address())?;
        let out = File::create(directory.file(OUTPUT))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let group = ControlGroup::new();
        let doors = group.as_ref().map(ControlGroup::door).transpose()?;
        let line = Line {
            program: command.get_program().to_owned(),
            arguments: command.get_args().map(OsStr::to_owned).collect(),
            cpus: cpus.to_vec(),
            sign,
        };
        let began = Instant::now();
        let mut process = Process::start(command, cpus, doors.into_iter().collect())?;
        let is_ready = await_sign(&mut process, sign);
        let ready = began.elapsed();
        if let Err(error) = is_ready {
            return Err(format!("{error}{}", last_words(&directory)).into());
        }
        Ok((Own { process, group, line, _directory: directory }, ready))
    }
}

/// Where the log of a server belongs.
pub(super) fn log_of(directory: &ServerDirectory) -> PathBuf {
    directory.file(LOG)
}

/// Waits until nobody listens any more: a server whose lab was killed may take a moment to end, and must not be taken for ours.
fn await_silence(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    while TcpStream::connect(address).is_ok() {
        if began.elapsed() > SILENCE_PATIENCE {
            return Err(format!("somebody else listens at {address}: choose another --port").into());
        }
        std::thread::sleep(SILENCE_PAUSE);
    }
    Ok(())
}

fn await_sign(process: &mut Process, sign: Sign) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    loop {
        if is_given(sign).unwrap_or(false) {
            return Ok(());
        }
        if let Some(status) = process.ended()? {
            return Err(format!("the server ended before it was ready: {status}").into());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("the server does not answer after {} s", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(READY_PAUSE);
    }
}

/// Fails while nobody listens.
fn is_given(sign: Sign) -> Result<bool, Box<dyn Error>> {
    match sign {
        Sign::Connection(address) => Ok(TcpStream::connect(address).is_ok()),
        Sign::Metadata(address) => names_a_node(address),
    }
}

/// Whether a broker answers, with at least one node. Kafka answers before it has registered itself, with none.
pub(super) fn names_a_node(address: SocketAddr) -> Result<bool, Box<dyn Error>> {
    let mut client = Client::connect(address)?;
    client.wait_at_most(ANSWER_PATIENCE)?;
    let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    let answer = client.ask(METADATA_VERSION, &request)?;
    let mut body = answer_body(&answer, ApiKey::Metadata, METADATA_VERSION)?;
    Ok(!MetadataResponse::decode(&mut body, METADATA_VERSION).map_err(debug)?.brokers.is_empty())
}

/// The end of what a server said, for an error.
fn last_words(directory: &ServerDirectory) -> String {
    let tail = |path: &Path| -> io::Result<Vec<String>> {
        let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
        let mut lines: Vec<String> = text.lines().rev().take(LAST_WORDS).map(str::to_owned).collect();
        lines.reverse();
        Ok(lines)
    };
    let files = [directory.file(OUTPUT), directory.file(LOG)];
    let lines = files.iter().flat_map(|file| tail(file).unwrap_or_default());
    lines.map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_obeys_sigterm_ends_cleanly() {
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        assert!(is_clean(exit(0)));
        assert!(is_clean(exit(JVM_TERMINATED)));
        assert!(is_clean(ExitStatus::from_raw(libc::SIGTERM)));
        assert!(!is_clean(exit(1)));
        assert!(!is_clean(ExitStatus::from_raw(libc::SIGKILL)));
    }
}
