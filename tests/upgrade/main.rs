//! A store that an earlier program wrote opens, gives back all that is in it, and goes on in the format of this one.
//!
//! `make_fixture` made it: two lives of the last program that wrote format 1, the second killed.

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use common::broker::{Broker, Settings, corelane};
use corelane::store::format::{SEGMENT_HEADER_BYTES, SegmentHeader};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/upgrade/store-format-1.tar.gz");
const EXPECTED: &str = include_str!("store-format-1.expected");

fn run(broker: &Broker, arguments: &[&str], input: &str) -> String {
    let output = corelane(broker, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// All records of three topics, sorted, as the fixture's list has them.
fn contents(broker: &Broker) -> Vec<String> {
    let format = "%t %p %o %k %s %h %T\n";
    let of_topic = |topic: &str| run(broker, &["consume", topic, "-e", "-f", format], "");
    let all: String = ["late", "packed", "plain"].map(of_topic).concat();
    let mut lines: Vec<String> = all.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Versions of the segments that have a header.
fn versions(data: &Path) -> Vec<u32> {
    let files = fs::read_dir(data.join("shard-0")).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("segment-"));
    let version = |path: std::path::PathBuf| {
        let mut head = Vec::new();
        fs::File::open(path).unwrap().take(u64::from(SEGMENT_HEADER_BYTES)).read_to_end(&mut head).unwrap();
        SegmentHeader::decode(&head).ok().map(|header| header.version)
    };
    segments.filter_map(version).collect()
}

#[test]
fn a_store_of_format_1_opens_and_becomes_format_2() {
    let set = vec!["log.retention.ms=-1", "offsets.retention.minutes=2147483647"];
    let mut broker = Broker::start_on(&Settings { set, ..Settings::default() }, |data| {
        fs::create_dir_all(data).unwrap();
        let unpacked =
            Command::new("tar").arg("-xzSf").arg(FIXTURE).args(["--strip-components=1", "-C"]).arg(data).status();
        assert!(unpacked.unwrap().success());
        assert!(!versions(data).is_empty() && versions(data).iter().all(|version| *version == 1));
    });
    let mut expected: Vec<String> = EXPECTED.lines().map(str::to_owned).collect();
    expected.sort();
    assert!(contents(&broker) == expected, "other records than were written");
    assert_eq!(
        run(&broker, &["consume", "filler", "-e", "-f", "%S\n"], "").lines().filter(|l| *l == "65536").count(),
        1280
    );
    assert!(!run(&broker, &["topic", "list"], "").contains("gone"), "a deleted topic came back");
    let group = run(&broker, &["group", "describe", "readers", "-i", "0"], "");
    assert!(group.contains("plain"), "the group's offsets are gone: {group}");
    assert!(versions(&broker.data()).contains(&2));
    run(&broker, &["produce", "plain", "-p", "0"], "more\n");
    for _ in 0..2 {
        broker.kill();
        broker.start_again();
        let now = contents(&broker);
        assert_eq!(now.len(), expected.len() + 1);
        assert!(expected.iter().all(|line| now.contains(line)), "records went");
    }
}
