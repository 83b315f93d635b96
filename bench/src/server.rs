//! A server in a process of its own: started, measured from outside, stopped.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

/// How long a server may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(120);

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
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("corelane"),
        };
        if !program.exists() {
            return Err(format!("{} is missing: cargo build --release", program.display()).into());
        }
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
    child: Child,
    /// From the start of the process to its `ready` line.
    pub(crate) start_time: Duration,
    /// The `ready` line.
    pub(crate) ready: String,
}

impl Server {
    /// Starts a server, on one CPU only when given, and waits for its `ready` line.
    pub(crate) fn start(mut command: Command, cpu: Option<usize>) -> Result<Server, Box<dyn Error>> {
        if let Some(cpu) = cpu {
            // SAFETY: between fork and exec only the affinity of the child itself is set; nothing is allocated.
            unsafe { command.pre_exec(move || pin(cpu)) };
        }
        let began = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut ready = String::new();
        loop {
            ready.clear();
            if out.read_line(&mut ready)? == 0 {
                return Err(format!("the server ended before it was ready: {}", child.wait()?).into());
            }
            if ready.starts_with("ready") {
                break;
            }
        }
        let start_time = began.elapsed();
        Ok(Server { child, start_time, ready: ready.trim_end().to_owned() })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU time of all its threads so far, with the kernel's workers for its rings.
    pub(crate) fn cpu(&self) -> Result<CpuTime, Box<dyn Error>> {
        let [user, system] = stat_fields(self.pid(), [14, 15])?.map(|field| field.parse::<f64>());
        let total = process_clock(self.pid())?;
        Ok(CpuTime { total, user: user?, system: system? })
    }

    /// CPU time so far of the processes that it started, such as the broker of a start script.
    pub(crate) fn children_cpu(&self) -> Result<Duration, Box<dyn Error>> {
        let mut total = Duration::ZERO;
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process may end meanwhile: then it is none of ours, which last.
            let Ok([parent]) = stat_fields(pid, [4]) else { continue };
            if parent.parse() == Ok(self.pid()) {
                total += process_clock(pid)?;
            }
        }
        Ok(total)
    }

    /// Memory that it has resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("an empty VmRSS")?.parse()?;
        Ok(kib * 1024)
    }

    /// Asks it to stop and waits until it did.
    pub(crate) fn stop(mut self) -> Result<(), Box<dyn Error>> {
        signal(self.pid(), libc::SIGTERM)?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the server does not stop".into())
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a process.
#[derive(Clone, Copy)]
pub(crate) struct CpuTime {
    /// User and system.
    pub(crate) total: Duration,
    /// Ticks outside of the kernel.
    user: f64,
    /// Ticks in the kernel.
    system: f64,
}

impl CpuTime {
    /// Share of the time since `before` that was spent outside of the kernel.
    pub(crate) fn user_share_since(&self, before: &CpuTime) -> f64 {
        let (user, system) = (self.user - before.user, self.system - before.system);
        user / (user + system).max(1.0)
    }
}

/// Fields of a process's stat line, by their numbers in `man proc_pid_stat`.
fn stat_fields<const COUNT: usize>(pid: u32, numbers: [usize; COUNT]) -> Result<[String; COUNT], Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The first after the name, which may hold anything, is field 3.
    let after_name = stat.rsplit_once(')').ok_or("a stat line without a name")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).map(|field| (*field).to_owned());
    if numbers.iter().any(|number| field(*number).is_none()) {
        return Err("a short stat line".into());
    }
    Ok(numbers.map(|number| field(number).unwrap_or_default()))
}

/// The process's CPU clock: utime and stime of `/proc/PID/stat`, in nanoseconds rather than ticks.
fn process_clock(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    // SAFETY: both calls write only to the given locals.
    let time = unsafe {
        let error = libc::clock_getcpuclockid(pid, &raw mut clock);
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        if libc::clock_gettime(clock, &raw mut time) != 0 {
            return Err(io::Error::last_os_error());
        }
        time
    };
    let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    Ok(Duration::from_nanos(u64::try_from(nanoseconds).map_err(io::Error::other)?))
}

fn signal(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: sends a signal to our own child, which was not waited for yet.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps the calling thread, and what it starts, on one CPU.
fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: the set is a local; an unknown CPU makes the call fail.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0 {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
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
