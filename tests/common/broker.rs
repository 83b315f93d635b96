//! A `corelane` process in a directory of its own, on ports of its own.
//!
//! `CORELANE_TEST_BROKER` names another program that takes the same `serve` arguments; `tests/clients/kafka-as-corelane`
//! is one, and proves a test against a real Apache Kafka.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Random;

/// A debug build on busy cores; a real Kafka needs most of it.
const READY_SECONDS_MAX: u64 = 60;
const STOP_SECONDS_MAX: u64 = 30;

/// How a broker is started; what is left at its default is not named on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// `--shards`; 0 means 1.
    pub(crate) shards: u16,
    /// `--advertise`: "per-core" or "single".
    pub(crate) advertise: Option<&'static str>,
    /// `--memory`.
    pub(crate) memory: Option<&'static str>,
    /// Each a `--set key=value`.
    pub(crate) set: Vec<&'static str>,
}

/// A broker process. Dropping it kills it and removes its directory.
pub(crate) struct Broker {
    program: PathBuf,
    arguments: Vec<String>,
    directory: TempDir,
    child: Child,
    port: u16,
    http_port: u16,
    ready_line: String,
}

impl Broker {
    /// Starts a broker with an empty directory and returns when it has printed its `ready` line.
    pub(crate) fn start(settings: &Settings) -> Broker {
        Broker::start_on(settings, |_| {})
    }

    /// The same with what `prepare` puts into its data directory, which does not exist yet.
    pub(crate) fn start_on(settings: &Settings, prepare: impl FnOnce(&Path)) -> Broker {
        let directory = tempfile::Builder::new().prefix("corelane-test-").tempdir().unwrap();
        prepare(&directory.path().join("data"));
        let shards = settings.shards.max(1);
        let port = free_ports(shards + 1);
        let http_port = port + shards;
        let mut arguments = vec!["serve".to_owned()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("--data", directory.path().join("data").display().to_string());
        option("--listen", format!("127.0.0.1:{port}"));
        option("--shards", shards.to_string());
        option("--http", format!("127.0.0.1:{http_port}"));
        if let Some(advertise) = settings.advertise {
            option("--advertise", advertise.to_owned());
        }
        if let Some(memory) = settings.memory {
            option("--memory", memory.to_owned());
        }
        for setting in &settings.set {
            option("--set", (*setting).to_owned());
        }
        let program = std::env::var_os("CORELANE_TEST_BROKER")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_corelane")), PathBuf::from);
        let (child, ready_line) = spawn(&program, &arguments, &directory);
        Broker { program, arguments, directory, child, port, http_port, ready_line }
    }

    /// Whether this is Corelane, rather than a program that stands in for it.
    pub(crate) fn is_corelane(&self) -> bool {
        std::env::var_os("CORELANE_TEST_BROKER").is_none()
    }

    /// `host:port` of the first shard.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the metrics and health endpoint.
    pub(crate) fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    /// The sum over the shards of a counter or gauge that the metrics endpoint names.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut connection = TcpStream::connect(self.http()).unwrap();
        write!(connection, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let of_shard = |line: &str| -> Option<u64> {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            labels.starts_with('{').then(|| value.parse().unwrap())
        };
        let values: Vec<u64> = answer.lines().filter_map(of_shard).collect();
        assert!(!values.is_empty(), "no {name} in {answer}");
        values.iter().sum()
    }

    /// What `/health` answers: its status and its words.
    pub(crate) fn health(&self) -> String {
        let mut connection = TcpStream::connect(self.http()).unwrap();
        write!(connection, "GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        format!("{} {}", head.split(' ').nth(1).unwrap(), body.trim())
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Everything it wrote to stderr, over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The process.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal to the process, which was not seen to have ended.
    pub(crate) fn signal(&self, signal: i32) {
        send_signal(&self.child, signal);
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait()
    }

    /// Waits for the end, which something has brought about.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(STOP_SECONDS_MAX);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "no end in {STOP_SECONDS_MAX} s:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts the ended broker again: same directory, ports and settings.
    pub(crate) fn start_again(&mut self) {
        self.start_again_with(&[]);
    }

    /// The same, with further options.
    pub(crate) fn start_again_with(&mut self, options: &[&str]) {
        assert!(!self.is_running(), "the broker was stopped before");
        let arguments = [self.arguments.clone(), options.iter().map(ToString::to_string).collect()].concat();
        (self.child, self.ready_line) = spawn(&self.program, &arguments, &self.directory);
    }

    /// How the ended broker would be started again.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the broker ---\n{}---", self.log());
        }
    }
}

/// Runs `corelane ARGUMENTS -b BROKER` with `input` on stdin.
pub(crate) fn corelane(broker: &Broker, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(arguments)
        .args(["-b", &broker.bootstrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Sends a signal to a child that was not waited for: the pid is its own as long as it was not reaped.
#[allow(unsafe_code, reason = "the standard library sends none but SIGKILL")]
pub(crate) fn send_signal(child: &Child, signal: i32) {
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: a plain system call.
    let sent = unsafe { libc::kill(pid, signal) };
    assert_eq!(sent, 0, "signal {signal} to {pid}");
}

fn spawn(program: &PathBuf, arguments: &[String], directory: &TempDir) -> (Child, String) {
    let log_path = directory.path().join("log");
    let log = File::options().create(true).append(true).open(&log_path).unwrap();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let stdout = child.stdout.take().expect("stdout is piped");
    let (lines, printed) = mpsc::channel();
    // Reads until the process ends, so that it never writes into a full or closed pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(READY_SECONDS_MAX);
    loop {
        match printed.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.starts_with("ready") => return (child, line),
            Ok(_) => {}
            Err(why) => {
                let _ = child.kill();
                let status = child.wait().unwrap();
                let what = match why {
                    RecvTimeoutError::Timeout => format!("no `ready` line in {READY_SECONDS_MAX} s"),
                    RecvTimeoutError::Disconnected => format!("ended before it was ready: {status}"),
                };
                panic!("{what}\n{}", std::fs::read_to_string(&log_path).unwrap_or_default());
            }
        }
    }
}

/// The first of `count` ports in a row that are free: below the ephemeral range, so that no client socket takes one
/// meanwhile, and never twice in one process, so that tests beside each other do not meet.
fn free_ports(count: u16) -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    let mut random = Random::new(Random::fresh_seed());
    for _ in 0..1000 {
        let base = 15_000 + u16::try_from(random.below(16_000)).unwrap();
        let ports = base..base + count;
        let free = |port: u16| !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok();
        if ports.clone().all(free) {
            given.extend(ports);
            return base;
        }
    }
    panic!("no {count} free ports in a row");
}
