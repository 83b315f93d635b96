//! What an operator does to the real process: directories that are not the ones meant, options and limits that cannot be, and
//! signals. A start that cannot be is one line that says what to do, and exit code 1.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::broker::{Broker, Settings, corelane, send_signal};

/// How long anything here may take that is over in a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a start that is to be refused, to its end, and gives the one line that it writes.
fn refused(mut command: Command) -> String {
    let described = format!("{command:?}");
    command.env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{described}: {error}"));
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{described} was not refused: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let line = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{described}: {line}");
    assert!(stdout.is_empty(), "{described}: {line}");
    assert!(line.starts_with("corelane: ") && line.lines().count() == 1, "{described}: {line}");
    line
}

fn produce(broker: &Broker, topic: &str, lines: &str) -> Output {
    corelane(broker, &["produce", topic], lines)
}

fn consumed(broker: &Broker, topic: &str) -> usize {
    let output = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["consume", topic, "-e", "-b", &broker.bootstrap()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout.iter().filter(|byte| **byte == b'\n').count()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `shard-1` was deleted, or its disk not mounted: its partitions were served as empty ones, without a word.
#[test]
fn a_missing_shard_is_not_served_as_an_empty_one() {
    let mut broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    common::client::create_topic(&broker.bootstrap(), "both", 4, &[]);
    let lines: String = (0..400).map(|number| format!("{number}:x\n")).collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
        .args(["produce", "both", "-K", ":", "-b", &broker.bootstrap()])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(consumed(&broker, "both"), 400);
    broker.stop();

    let (shard, aside) = (broker.data().join("shard-1"), broker.data().join("aside"));
    fs::rename(&shard, &aside).unwrap();
    for _ in 0..2 {
        let line = refused(broker.command());
        assert!(
            line.contains("shard-1 is missing, though shard 1 was in use") && line.contains("--accept-loss"),
            "{line}"
        );
    }
    fs::rename(&aside, &shard).unwrap();
    broker.start_again();
    assert_eq!(consumed(&broker, "both"), 400);
    broker.kill();

    fs::remove_dir_all(&shard).unwrap();
    broker.start_again_with(&["--accept-loss"]);
    let left = consumed(&broker, "both");
    assert!(0 < left && left < 400, "{left} records are left");
    assert!(broker.log().contains("shard 1 starts empty, what it had acknowledged is lost"), "{}", broker.log());
    assert!(produce(&broker, "both", "more\n").status.success());
    broker.kill();
    broker.start_again();
    assert_eq!(consumed(&broker, "both"), left + 1);
    assert!(broker.stop().success());

    fs::remove_file(broker.data().join("meta.properties")).unwrap();
    let line = refused(broker.command());
    assert!(line.contains("meta.properties is missing, though there are shards beside it"), "{line}");
}

/// The data directory was removed while the broker ran: it went on acknowledging for 14 s with `/health` 200.
#[test]
fn a_directory_that_goes_away_makes_the_broker_read_only() {
    let mut broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    common::client::create_topic(&broker.bootstrap(), "gone", 2, &[]);
    assert!(produce(&broker, "gone", "before\n").status.success());
    assert_eq!(broker.health(), "200 ok");
    fs::rename(broker.data(), broker.data().with_extension("aside")).unwrap();
    until("/health says so", || broker.health().starts_with("503 read-only shards: 0, 1"));
    let output = produce(&broker, "gone", "after\n");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("meta.properties"), "{output:?}");
    assert_eq!(broker.log().matches("the store is read-only").count(), 2, "one line a shard: {}", broker.log());
    broker.kill();
    fs::rename(broker.data().with_extension("aside"), broker.data()).unwrap();
    broker.start_again();
    assert_eq!(consumed(&broker, "gone"), 1);
}

/// Whoever ignores SIGHUP, as after `nohup`, hands that on to all it starts. From here on a broker heeds it again.
#[allow(unsafe_code, reason = "the standard library changes no signal's action")]
fn heed_hang_ups() {
    // SAFETY: the default action is no code of ours.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_DFL) };
}

/// A terminal that was closed left the broker without a clean stop, and a stray signal killed it. And what follows a SIGHUP at
/// the end of a session, another one or the session's SIGTERM, is not the impatience that ends a broker at once.
#[test]
fn signals_stop_it_cleanly_or_not_at_all() {
    heed_hang_ups();
    let mut broker = Broker::start(&Settings::default());
    for signal in [libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE, libc::SIGXFSZ] {
        broker.signal(signal);
    }
    until("it says so", || broker.log().matches("asks for nothing here").count() == 3);
    assert!(produce(&broker, "signals", "still here\n").status.success());
    broker.signal(libc::SIGHUP);
    broker.signal(libc::SIGHUP);
    broker.signal(libc::SIGTERM);
    let status = broker.wait();
    assert!(status.success(), "{status}: {}", broker.log());
    assert!(broker.log().contains("SIGHUP: stopping"), "{}", broker.log());
    broker.start_again();
    assert_eq!(consumed(&broker, "signals"), 1);
}

/// `nohup` ignores SIGHUP for what it starts, and that is kept.
#[test]
fn a_broker_under_nohup_outlives_its_terminal() {
    let mut first = Broker::start(&Settings::default());
    first.stop();
    let command = first.command();
    let mut nohup = Command::new("nohup");
    nohup.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = nohup.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("ready "), "{line}");
    send_signal(&child, libc::SIGHUP);
    assert!(produce(&first, "nohup", "after\n").status.success());
    send_signal(&child, libc::SIGHUP);
    assert_eq!(first.health(), "200 ok");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whoever read the log went away (a pager that was closed, a supervisor that restarted): the next line of the log ended the
/// broker by a panic within a panic.
#[test]
fn a_log_that_nobody_reads_any_more_does_not_end_it() {
    let mut first = Broker::start(&Settings::default());
    first.stop();
    let mut child = first.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("ready "), "{line}");
    send_signal(&child, libc::SIGUSR1);
    assert!(produce(&first, "unheard", "after\n").status.success());
    send_signal(&child, libc::SIGTERM);
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

/// Every one of these ended in several lines, in the system's words alone, in a panic, or in a broker that did not know.
#[test]
fn mistakes_at_the_start_are_one_line_that_says_what_to_do() {
    let held = Broker::start(&Settings { shards: 2, ..Settings::default() });
    let scratch = held.data().with_extension("scratch");
    fs::create_dir(&scratch).unwrap();
    let (file, fresh) = (scratch.join("file"), scratch.join("fresh").display().to_string());
    fs::write(&file, "").unwrap();
    let file = file.display().to_string();
    let taken = held.http();
    let serve = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.arg("serve").args(arguments);
        refused(command)
    };
    // Nothing of these comes to listen.
    let (listen, http) = (["--listen", "127.0.0.1:15000"], ["--http", "127.0.0.1:14999"]);
    let table: &[(&[&str], &str)] = &[
        (&["--data", &file], "file is not a directory: choose another --data"),
        (&["--data", "/dev/null"], "/dev/null is not a directory: choose another --data"),
        (&["--data", "/proc/here"], "/proc/here: cannot create the directory"),
        (&["--data", &fresh, "--data", &fresh], "is the same directory as --data"),
        (&["--data", &fresh, "--data", &format!("{fresh}/below")], "below is inside of --data"),
        (&["--data", &held.data().display().to_string()], "is in use by another corelane"),
        (&["--data", &fresh, "--listen", &held.bootstrap()], "or choose another with --listen"),
        (&["--data", &fresh, "--http", &taken], "or choose another with --http"),
        (&["--data", &fresh, "--http", "127.0.0.1:15001", "--shards", "2"], "--http port 15001 is the one of shard 1"),
        (
            &["--data", &fresh, "--listen", "no.such.host.invalid:9092"],
            "cannot find an address of `no.such.host.invalid`",
        ),
        (&["--data", &fresh, "--listen", "192.0.2.1:9092"], "choose another address with --listen"),
        (&["--data", &fresh, "--listen", "127.0.0.1:65535", "--shards", "2"], "choose a lower --listen port"),
        (&["--data", &fresh, "--listen", "127.0.0.1:0"], "--listen: port 0 is none"),
        (&["--data", &fresh, "--advertised-host", "a:b"], "--advertised-host: `a:b` is not HOST:PORT"),
        (&["--data", &fresh, "--shards", "0"], "--shards must be between 1 and 64"),
        (&["--data", &fresh, "--memory", "1MiB"], "give --memory at least "),
        (&["--data", &fresh, "--set", "no.such.key=1"], "no.such.key"),
        (&["--data", &fresh, "--set", "num.partitions=many"], "num.partitions"),
        (&["--data", &fresh, "--config", &fresh], "fresh"),
        (&["--data", "/dev/shm/corelane-operator-test"], "is on tmpfs, which keeps nothing"),
    ];
    for (arguments, words) in table {
        let mut arguments = arguments.to_vec();
        for option in [listen, http] {
            if !arguments.contains(&option[0]) {
                arguments.extend(option);
            }
        }
        let line = serve(&arguments);
        assert!(line.contains(words), "{arguments:?}: {line}");
    }
    let _ = fs::remove_dir_all("/dev/shm/corelane-operator-test");
    // Nothing of all that made a store.
    assert!(!Path::new(&fresh).join("meta.properties").exists());
}

/// Too low a limit was refused by a runtime that panics, in words about a line of its code, or with RUST_BACKTRACE set by a
/// process that hung on a lock of its own.
#[test]
fn limits_that_are_too_low_are_one_line_that_says_what_to_raise() {
    let mut broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    broker.stop();
    let table: &[(&str, &str)] = &[
        ("--nofile=20", "the limit of open files is 20"),
        ("--nofile=60", "the limit of open files is 60"),
        ("--as=100000000", "the limit of address space is 100000000"),
        ("--as=1000000000", "the limit of address space is 1000000000"),
        ("--data=100000000", "the limit of data memory is 100000000"),
        ("--fsize=1000000", "the limit of the size of a file is 1000000"),
        ("--memlock=0", "the limit of locked memory is 0 bytes"),
    ];
    for (limit, words) in table {
        let command = broker.command();
        let mut limited = Command::new("prlimit");
        limited.arg(limit).arg(command.get_program()).args(command.get_args());
        let line = refused(limited);
        assert!(line.contains(words) && line.contains("raise it"), "{limit}: {line}");
    }
    broker.start_again();
}

/// Opening a file timed out, because the kernel could start no thread for it. (Root has no such limit.)
#[test]
fn too_few_threads_are_one_line_that_says_what_to_raise() {
    let scratch = tempfile::tempdir().unwrap();
    let program = scratch.path().join("corelane");
    fs::copy(env!("CARGO_BIN_EXE_corelane"), &program).unwrap();
    let nobody = 65534;
    // Fails for whoever is not root, and then needs no other user.
    let is_root = std::os::unix::fs::chown(scratch.path(), Some(nobody), Some(nobody)).is_ok();
    for threads in [1, 2, 5, 9, 11] {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nproc={threads}"));
        if is_root {
            command.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]);
        }
        command.arg(&program).args([
            "serve",
            "--shards",
            "2",
            "--listen",
            "127.0.0.1:15000",
            "--http",
            "127.0.0.1:14999",
        ]);
        command.arg("--data").arg(scratch.path().join("data"));
        let line = refused(command);
        assert!(line.contains("cannot start a thread") && line.contains("ulimit -u"), "{threads}: {line}");
    }
}
