//! The client commands against a real broker process: what goes in comes out, and mistakes are one line each.

mod common;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use common::broker::{Broker, Settings};

/// Runs `corelane ARGUMENTS -b BROKER` with `input` on stdin.
fn corelane(broker: &Broker, arguments: &[&str], input: &str) -> Output {
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
