//! A server in a process of its own: started, measured from outside, stopped.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::lab::measure::process::{self, CpuTime};
use crate::process::Process;

/// Options of every benchmark that starts a broker.
#[derive(Args, Clone)]
pub(crate) struct BrokerArguments {
    /// The broker's program [default: `corelane` beside this one]
    #[arg(long, value_name = "FILE")]
    corelane: Option<PathBuf>,
    /// Directory for the data of the servers; emptied first
    #[arg(long, value_name = "DIR", default_value = "./bench-data")]
    pub(crate) data: PathBuf,
    /// First port of the servers
    #[arg(long, default_value_t = 19092)]
    pub(crate) port: u16,
    /// CPU of the server, where it has one shard
    #[arg(long, default_value_t = 0)]
    pub(crate) server_cpu: usize,
    /// CPU of the load
    #[arg(long, default_value_t = 1)]
    pub(crate) load_cpu: usize,
    /// A further broker setting, as `corelane serve --set`; may repeat
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Memory of the broker, as `corelane serve --memory`
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
}

impl BrokerArguments {
    /// Address of the first shard.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Address of the metrics.
    pub(crate) fn http(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port + 100))
    }

    /// An empty directory below the data directory.
    pub(crate) fn empty_directory(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.data.join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// `corelane serve` on `data` with further options.
    pub(crate) fn serve(&self, data: &Path, shards: u16, options: &[&str]) -> Result<Command, Box<dyn Error>> {
        let program = match &self.corelane {
            Some(program) => built(program.clone())?,
            None => corelane_beside()?,
        };
        let mut command = Command::new(program);
        command.arg("serve").arg("--data").arg(data).arg("--listen").arg(self.address().to_string());
        command.arg("--http").arg(self.http().to_string()).arg("--shards").arg(shards.to_string());
        command.args(options);
        if let Some(memory) = &self.memory {
            command.arg("--memory").arg(memory);
        }
        for set in &self.set {
            command.arg("--set").arg(set);
        }
        Ok(command)
    }

    /// Another program that takes the arguments of `corelane serve`, on `data` with further options.
    pub(crate) fn serve_with(&self, program: &Path, data: &Path, options: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("serve").arg("--data").arg(data).arg("--listen").arg(self.address().to_string());
        command.args(options);
        for set in &self.set {
            command.arg("--set").arg(set);
        }
        command
    }

    /// This program with another subcommand.
    pub(crate) fn floor(&self, arguments: &[&str]) -> io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).arg("--listen").arg(self.address().to_string());
        Ok(command)
    }
}

/// A running server. Killed when dropped.
pub(crate) struct Server {
    process: Process,
    /// From the start of the process to its `ready` line.
    pub(crate) start_time: Duration,
    /// The `ready` line.
    pub(crate) ready: String,
}

impl Server {
    /// Starts a server, on one CPU only when given, and waits for its `ready` line.
    pub(crate) fn start(mut command: Command, cpu: Option<usize>) -> Result<Server, Box<dyn Error>> {
        command.stdout(Stdio::piped());
        let began = Instant::now();
        let mut process = Process::start(command, cpu.as_slice(), Vec::new())?;
        let ready = ready_line(&mut process)?;
        Ok(Server { process, start_time: began.elapsed(), ready })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// CPU time of all its threads so far, with the kernel's workers for its rings.
    pub(crate) fn cpu(&self) -> Result<CpuTime, Box<dyn Error>> {
        process::cpu_time(self.pid())
    }

    /// CPU time so far of the processes that it started, such as the broker of a start script.
    pub(crate) fn children_cpu(&self) -> Result<Duration, Box<dyn Error>> {
        process::children_cpu_time(self.pid())
    }

    /// Memory that it has resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Box<dyn Error>> {
        process::resident_bytes(self.pid())
    }

    /// Asks it to stop and waits until it did.
    pub(crate) fn stop(self) -> Result<(), Box<dyn Error>> {
        let status = self.process.stop()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(self) -> io::Result<()> {
        self.process.kill()
    }
}

/// Waits until a process whose output is piped says that it serves.
pub(crate) fn ready_line(process: &mut Process) -> Result<String, Box<dyn Error>> {
    let mut out = BufReader::new(process.take_output().expect("it is piped"));
    let mut line = String::new();
    loop {
        line.clear();
        if out.read_line(&mut line)? == 0 {
            return Err(format!("the server ended before it was ready: {}", process.wait()?).into());
        }
        if line.starts_with("ready") {
            return Ok(line.trim_end().to_owned());
        }
    }
}

/// `corelane` beside this program, if it was built.
pub(crate) fn corelane_beside() -> Result<PathBuf, Box<dyn Error>> {
    built(std::env::current_exe()?.with_file_name("corelane"))
}

fn built(program: PathBuf) -> Result<PathBuf, Box<dyn Error>> {
    if program.exists() {
        Ok(program)
    } else {
        Err(format!("{} is missing: cargo build --release", program.display()).into())
    }
}

/// Lets this process and the servers it starts lock the memory that their rings register, if it may.
pub(crate) fn raise_locked_memory() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: reads the local only. Refused without privilege: then the broker says what it runs with.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

/// The sum over all shards of a plain number in the broker's metrics.
pub(crate) fn metric(http: SocketAddr, name: &str) -> Result<f64, Box<dyn Error>> {
    let text = metrics(http)?;
    let mut found = None;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let Some((labels, value)) = rest.rsplit_once(' ') else { continue };
        if labels.is_empty() || labels.starts_with('{') {
            *found.get_or_insert(0.0) += value.parse::<f64>()?;
        }
    }
    found.ok_or_else(|| format!("the metrics have no {name}").into())
}

fn metrics(http: SocketAddr) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(http)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
