//! The client commands against a real broker process: what goes in comes out, and mistakes are one line each.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::broker::{Broker, Settings, corelane};

/// Long enough for two busy cores and a debug build; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn lines_go_in_and_come_out_with_keys_and_offsets() {
    let broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    stdout(&corelane(&broker, &["topic", "create", "lines", "--partitions", "3"], ""));
    let input: String = (0..5000).map(|i| format!("k{}:value {i}\n", i % 50)).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        stdout(&corelane(&broker, &["produce", "lines", "-K", ":", "-z", codec], &input));
    }
    let out = stdout(&corelane(&broker, &["consume", "lines", "-e", "-q", "-f", "%p %o %k:%s\n"], ""));
    let mut next = [0; 3];
    let mut values = Vec::new();
    for line in out.lines() {
        let mut parts = line.splitn(3, ' ');
        let partition: usize = parts.next().unwrap().parse().unwrap();
        let offset: i64 = parts.next().unwrap().parse().unwrap();
        assert_eq!(offset, next[partition], "offsets of partition {partition} are dense and in order");
        next[partition] += 1;
        values.push(format!("{}\n", parts.next().unwrap()));
    }
    let mut expected: Vec<String> = (0..5).flat_map(|_| input.split_inclusive('\n').map(String::from)).collect();
    values.sort();
    expected.sort();
    assert_eq!(values, expected);
}

#[test]
fn topics_are_created_described_and_deleted() {
    let broker = Broker::start(&Settings::default());
    let create = ["topic", "create", "orders", "--partitions", "2", "--config", "flush.messages=100"];
    stdout(&corelane(&broker, &create, ""));
    assert_eq!(stdout(&corelane(&broker, &["topic", "list"], "")), "orders\n");
    let described = stdout(&corelane(&broker, &["topic", "describe", "orders"], ""));
    assert!(described.contains("durability written"), "{described}");
    assert!(described.contains("flush.messages=100"), "{described}");
    let again = corelane(&broker, &create, "");
    assert!(!again.status.success());
    assert_eq!(String::from_utf8_lossy(&again.stderr).lines().count(), 1);
    stdout(&corelane(&broker, &["topic", "delete", "orders"], ""));
    assert_eq!(stdout(&corelane(&broker, &["topic", "list"], "")), "");
}

#[test]
fn topics_are_altered_while_they_are_used() {
    let broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    stdout(&corelane(&broker, &["topic", "create", "orders", "--config", "segment.ms=1000000"], ""));
    let alter = ["topic", "alter", "orders", "--partitions", "4", "--set", "retention.ms=-1", "--delete", "segment.ms"];
    let told = stdout(&corelane(&broker, &alter, ""));
    assert_eq!(told, "topic orders altered: retention.ms=-1, segment.ms deleted\ntopic orders has 4 partitions\n");
    let described = stdout(&corelane(&broker, &["topic", "describe", "orders"], ""));
    assert!(described.contains("partitions 4") && described.contains("retention.ms=-1"), "{described}");
    assert!(!described.contains("segment.ms"), "{described}");
    let refused = |arguments: &[&str], reason: &str| {
        let output = corelane(&broker, arguments, "");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.contains(reason), "{words}");
    };
    refused(&["topic", "alter", "orders", "--partitions", "4"], "INVALID_PARTITIONS");
    refused(&["topic", "alter", "orders", "--set", "retention.ms=soon"], "INVALID_CONFIG");
    refused(&["topic", "alter", "nowhere", "--partitions", "4"], "nowhere");
    refused(&["topic", "alter", "orders"], "--partitions");
}

#[test]
fn an_unknown_config_and_a_second_replica_are_refused_with_a_reason() {
    let broker = Broker::start(&Settings::default());
    let unknown = corelane(&broker, &["topic", "create", "t", "--config", "no.such.key=1"], "");
    assert!(!unknown.status.success());
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("INVALID_CONFIG"));
    let replicas = corelane(&broker, &["topic", "create", "t", "--replication-factor", "3"], "");
    assert!(!replicas.status.success());
    assert!(String::from_utf8_lossy(&replicas.stderr).contains("allow.same.machine.replicas"));
}

/// A broker that somebody asks about is of some commit, and `--version` named only the number.
#[test]
fn version_says_where_the_build_came_from() {
    let output = Command::new(env!("CARGO_BIN_EXE_corelane")).arg("--version").output().unwrap();
    let line = stdout(&output);
    let build = line.trim_end().strip_prefix(concat!("corelane ", env!("CARGO_PKG_VERSION"), " ("));
    let build = build.and_then(|build| build.strip_suffix(')')).unwrap_or_else(|| panic!("{line}"));
    if cfg!(debug_assertions) {
        assert_eq!(build, "development build");
        return;
    }
    let commit = build.strip_prefix("commit ").map(|commit| commit.trim_end_matches(" with changes"));
    let is_commit = |commit: &str| commit.len() >= 10 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(build == "unknown commit" || commit.is_some_and(is_commit), "{build}");
}

#[test]
fn both_levels_of_isolation_print_what_no_transaction_hides() {
    let broker = Broker::start(&Settings::default());
    stdout(&corelane(&broker, &["topic", "create", "t"], ""));
    stdout(&corelane(&broker, &["produce", "t"], "a\nb\n"));
    for level in ["read_committed", "read_uncommitted"] {
        assert_eq!(stdout(&corelane(&broker, &["consume", "t", "-e", "-q", "--isolation", level], "")), "a\nb\n");
    }
    let wrong = corelane(&broker, &["consume", "t", "--isolation", "dirty"], "");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("read_uncommitted"));
}

/// Heartbeats and sessions short enough that a member that was killed is missed soon.
const QUICK_GROUPS: [&str; 4] = [
    "group.consumer.min.heartbeat.interval.ms=100",
    "group.consumer.heartbeat.interval.ms=200",
    "group.consumer.min.session.timeout.ms=8000",
    "group.consumer.session.timeout.ms=8000",
];

#[test]
fn a_group_goes_on_where_it_committed() {
    let broker = Broker::start(&Settings { shards: 2, set: QUICK_GROUPS.to_vec(), ..Settings::default() });
    for topic in ["orders", "order-items", "others"] {
        stdout(&corelane(&broker, &["topic", "create", topic], ""));
    }
    stdout(&corelane(&broker, &["produce", "orders"], "1\n2\n3\n4\n5\n"));
    let consume = |arguments: &[&str]| {
        let mut all = vec!["consume", "-q"];
        all.extend(arguments);
        corelane(&broker, &all, "")
    };
    // As with kcat a group that committed nothing begins at the end, if not told otherwise.
    assert_eq!(stdout(&consume(&["-G", "late", "orders", "-e"])), "");
    // One batch, of which less is printed than is there.
    assert_eq!(stdout(&consume(&["-G", "early", "orders", "-o", "beginning", "-c", "2"])), "1\n2\n");
    assert_eq!(stdout(&consume(&["-G", "early", "orders", "-o", "end", "-c", "1"])), "3\n");
    assert_eq!(stdout(&consume(&["-G", "early", "orders", "-e"])), "4\n5\n");
    assert_eq!(stdout(&consume(&["-G", "early", "orders", "-e", "-o", "beginning"])), "");
    // Several topics, by name and by patterns in RE2J's syntax.
    stdout(&corelane(&broker, &["produce", "order-items"], "i\n"));
    stdout(&corelane(&broker, &["produce", "others"], "o\n"));
    let sorted = |output: Output| {
        let text = stdout(&output);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join(" ")
    };
    let from_start = |group, topics: &[&str]| {
        let mut arguments = vec!["-G", group, "-e", "-o", "beginning"];
        arguments.extend(topics);
        sorted(consume(&arguments))
    };
    assert_eq!(from_start("names", &["order-items", "others"]), "i o");
    assert_eq!(from_start("pattern", &[r"^\Qorder\E(s|-\w+)"]), "1 2 3 4 5 i");
    assert_eq!(from_start("both", &["others", "^order-.*", "^(?i)ORDERS"]), "1 2 3 4 5 i o");
    // Mistakes are one line each, and leave no member behind.
    for (arguments, reason) in [
        (&["-G", "g", "orders", "-o", "7"][..], "beginning"),
        (&["-G", "g", "nowhere"], "nowhere"),
        (&["-G", "g", "^("], "missing closing )"),
        (&["orders", "others"], "-G"),
    ] {
        let output = consume(arguments);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.contains(reason) && words.lines().count() == 1, "{words}");
    }
    assert!(!stdout(&corelane(&broker, &["group", "list"], "")).contains("Stable"));
}

/// A `consume -G` that runs until it is ended, printing partition, offset and value.
struct Member {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    /// What it says on stderr.
    words: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Member {
    fn start(broker: &Broker, group: &str, topic: &str) -> Member {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args(["consume", "-G", group, topic, "-o", "beginning", "-f", "%p %o %s\n", "-b", &broker.bootstrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, words) = (Arc::default(), Arc::default());
        let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (printed, said) = (Arc::clone(&lines), Arc::clone(&words));
        let read_lines = std::thread::spawn(move || {
            let printed: &Mutex<Vec<String>> = &printed;
            BufReader::new(out).lines().map_while(Result::ok).for_each(|line| printed.lock().unwrap().push(line));
        });
        let read_words = std::thread::spawn(move || {
            let said: &Mutex<String> = &said;
            let mut chunk = [0; 4096];
            while let Ok(bytes @ 1..) = err.read(&mut chunk) {
                said.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..bytes]));
            }
        });
        Member { child, lines, words, readers: vec![read_lines, read_words] }
    }

    fn says(&self, what: &str) -> bool {
        self.words.lock().unwrap().contains(what)
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// SIGTERM, which is to it what Ctrl-C is.
    fn interrupt(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
        if std::thread::panicking() {
            eprintln!("--- a member said ---\n{}---", self.words.lock().unwrap());
        }
    }
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A member is stopped for longer than its session, and another has its partitions when it goes on: it must find that out,
/// forget them without a commit, and have its share again.
#[test]
fn a_member_that_was_taken_for_gone_joins_anew() {
    let broker = Broker::start(&Settings { set: QUICK_GROUPS.to_vec(), ..Settings::default() });
    stdout(&corelane(&broker, &["topic", "create", "shared", "--partitions", "2"], ""));
    let produce = |lines: &str| drop(stdout(&corelane(&broker, &["produce", "shared", "-p", "0"], lines)));
    let values = |member: &Member| -> Vec<String> {
        member.lines().iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    let mut first = Member::start(&broker, "g", "shared");
    produce("1\n2\n");
    wait_until("the first member prints", || values(&first) == ["1", "2"]);
    first.signal("-STOP");
    let mut second = Member::start(&broker, "g", "shared");
    produce("3\n");
    wait_until("the second has everything", || values(&second).last().is_some_and(|value| value == "3"));
    first.signal("-CONT");
    wait_until("the first finds out", || first.says("for gone"));
    wait_until("the second gives something up again", || second.says("revoked: "));
    wait_until("the first has its share", || first.words.lock().unwrap().matches("assigned: ").count() >= 2);
    produce("4\n");
    let four = "4".to_owned();
    wait_until("one of them goes on", || values(&first).contains(&four) || values(&second).contains(&four));
    assert!(first.interrupt().success() && second.interrupt().success());
    let rest = corelane(&broker, &["consume", "-G", "g", "shared", "-e", "-q", "-o", "beginning"], "");
    assert_eq!(stdout(&rest), "");
}

/// Two members of one group share its partitions; when one is killed, the other reads on from what that one committed. At
/// no time is a record missed, and none is printed twice but those that the killed one had not committed.
#[test]
fn members_of_a_group_share_its_partitions_and_take_over_from_each_other() {
    let broker = Broker::start(&Settings { shards: 2, set: QUICK_GROUPS.to_vec(), ..Settings::default() });
    stdout(&corelane(&broker, &["topic", "create", "shared", "--partitions", "4"], ""));
    let produce = |round: u32| {
        let lines: String = (0..200).map(|i| format!("{i}:{round}-{i}\n")).collect();
        stdout(&corelane(&broker, &["produce", "shared", "-K", ":"], &lines));
    };
    // Which records somebody printed, and how often.
    let printed = |members: &[&Member]| {
        let mut times: BTreeMap<String, usize> = BTreeMap::new();
        let lines = members.iter().flat_map(|member| member.lines());
        lines.for_each(|line| *times.entry(line).or_default() += 1);
        times
    };

    produce(0);
    let mut first = Member::start(&broker, "g", "shared");
    wait_until("the first member prints everything", || first.lines().len() == 200);
    let mut second = Member::start(&broker, "g", "shared");
    wait_until("the first gives partitions up", || first.says("revoked: "));
    wait_until("the second gets partitions", || second.says("assigned: "));
    produce(1);
    wait_until("both print what comes", || printed(&[&first, &second]).len() == 400);
    assert!(!second.lines().is_empty(), "the second member has its share");
    assert!(printed(&[&first, &second]).values().all(|&times| times == 1), "nothing is handed over twice");

    // What a member printed it commits within some seconds.
    let lag = || stdout(&corelane(&broker, &["group", "describe", "g"], ""));
    wait_until("all is committed", || lag().contains("lag 0\n"));
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    produce(2);
    wait_until("the second takes over", || printed(&[&first, &second]).len() == 600);
    assert!(printed(&[&first, &second]).values().all(|&times| times == 1), "what was committed does not come again");

    // Ctrl-C commits and leaves, so that nothing is left to read, and nobody to wait for.
    produce(3);
    wait_until("the second prints the rest", || printed(&[&first, &second]).len() == 800);
    assert!(second.interrupt().success());
    let rest = corelane(&broker, &["consume", "-G", "g", "shared", "-e", "-q", "-o", "beginning"], "");
    assert_eq!(stdout(&rest), "");
    assert!(stdout(&corelane(&broker, &["group", "list"], "")).contains("Empty"));
}
