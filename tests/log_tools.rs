//! `corelane log stats` and `corelane log verify` on directories of real brokers, running, stopped, killed and damaged.

mod common;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::Random;
use common::broker::{Broker, Settings, corelane};
use common::client::{config, create_topic};
use corelane::store::format::{Entry, EntryKind, SegmentHeader, entry_position, next_unit};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use serde_json::Value;

/// Runs `corelane log ARGUMENTS --data DATA`.
fn log(arguments: &[&str], data: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("log").args(arguments).arg("--data").arg(data).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The exit code of `verify`, and what it found.
fn verify(data: &Path) -> (i32, Vec<Value>) {
    let output = log(&["verify", "--format", "json"], data);
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
    (output.status.code().unwrap(), found.as_array().unwrap().clone())
}

fn assert_well(data: &Path) {
    let output = log(&["verify"], data);
    assert!(output.status.success() && text(&output).contains("all is well"), "{}", text(&output));
}

fn stats(data: &Path) -> Vec<Value> {
    serde_json::from_str::<Value>(&stdout(&log(&["stats", "--format", "json"], data)))
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

fn produce(broker: &Broker, topic: &str, lines: std::ops::Range<u32>) {
    let input: String = lines.map(|line| format!("{line}:{:050}\n", line)).collect();
    stdout(&corelane(broker, &["produce", topic, "-K", ":"], &input));
}

/// A stopped store of one shard whose log goes over several segments, each killed away but the last.
fn store() -> Broker {
    let mut broker = Broker::start(&Settings::default());
    for (topic, partitions) in [("orders", "3"), ("gone", "1")] {
        stdout(&corelane(&broker, &["topic", "create", topic, "--partitions", partitions], ""));
    }
    for life in 0..3 {
        for part in life * 10..life * 10 + 10 {
            produce(&broker, "orders", part * 100..part * 100 + 100);
        }
        produce(&broker, "gone", 0..300);
        broker.kill();
        broker.start_again();
    }
    stdout(&corelane(&broker, &["topic", "delete", "gone"], ""));
    produce(&broker, "orders", 3000..4000);
    assert!(broker.stop().success());
    broker
}

/// An entry of batches as it stands in a segment.
struct Stored {
    at: u64,
    bytes: u64,
    payload_at: u64,
    kind: EntryKind,
    log: u64,
}

/// A segment file and what it holds.
struct Segment {
    path: PathBuf,
    content: Vec<u8>,
    header: SegmentHeader,
    entries: Vec<Stored>,
    end: u64,
}

impl Segment {
    /// All that have entries, by number. Files that wait for a number hold entries of none.
    fn all(broker: &Broker) -> Vec<Segment> {
        let directory = broker.data().join("shard-0");
        let names: BTreeSet<String> = stats(&broker.data())[0]["segments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|segment| segment["file"].as_str().unwrap().to_owned())
            .collect();
        let mut all: Vec<Segment> = names.iter().map(|name| Segment::read(&directory.join(name))).collect();
        all.sort_by_key(|segment| segment.header.number);
        all
    }

    fn read(path: &Path) -> Segment {
        let content = std::fs::read(path).unwrap();
        let header = SegmentHeader::decode(&content).unwrap();
        let (mut end, mut entries) = (4096, Vec::new());
        'entries: loop {
            for at in [entry_position(end), next_unit(entry_position(end))] {
                let bytes = &content[usize::try_from(at).unwrap()..];
                if let Ok(entry) = Entry::decode(bytes)
                    && entry.header.segment == header.number
                    && entry.header.previous_end == end
                {
                    let bytes = entry.header.entry_bytes();
                    let payload_at = u64::from(at) + bytes - u64::from(entry.header.payload_bytes);
                    let (kind, log) = (entry.header.kind, entry.header.log.value());
                    entries.push(Stored { at: at.into(), bytes, payload_at, kind, log });
                    end = at + u32::try_from(bytes).unwrap();
                    continue 'entries;
                }
            }
            break;
        }
        Segment { path: path.to_owned(), content, header, entries, end: end.into() }
    }

    fn with_batches(&self) -> impl Iterator<Item = &Stored> {
        self.entries.iter().filter(|entry| entry.kind == EntryKind::Append)
    }

    /// Changes the bytes at `at` for as long as `look` looks.
    fn changed<T>(&self, at: u64, bytes: &[u8], look: impl FnOnce() -> T) -> T {
        let file = File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, at).unwrap();
        let looked = look();
        let at_once = usize::try_from(at).unwrap();
        file.write_all_at(&self.content[at_once..at_once + bytes.len()], at).unwrap();
        looked
    }

    fn flipped<T>(&self, at: u64, look: impl FnOnce() -> T) -> T {
        self.changed(at, &[self.content[usize::try_from(at).unwrap()] ^ 0x10], look)
    }
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field}: {value}"))
}

#[test]
fn stats_name_topics_and_add_up_while_the_broker_runs_and_when_it_does_not() {
    let mut broker = Broker::start(&Settings { shards: 2, ..Settings::default() });
    stdout(&corelane(&broker, &["topic", "create", "orders", "--partitions", "4"], ""));
    produce(&broker, "orders", 0..2000);
    for is_running in [true, false] {
        if !is_running {
            assert!(broker.stop().success());
        }
        let shards = stats(&broker.data());
        assert_eq!(shards.len(), 2);
        let of = |shard: &Value, list: &str| shard[list].as_array().unwrap().clone();
        let partitions: Vec<Value> = shards.iter().flat_map(|shard| of(shard, "partitions")).collect();
        let orders: Vec<&Value> = partitions.iter().filter(|partition| partition["topic"] == "orders").collect();
        assert_eq!(orders.len(), 4);
        assert_eq!(orders.iter().map(|partition| number(partition, "log_end")).sum::<u64>(), 2000);
        for shard in &shards {
            let sum = |list: &str| of(shard, list).iter().map(|one| number(one, "live_bytes")).sum::<u64>();
            assert_eq!(sum("partitions"), number(shard, "live_bytes"));
            assert_eq!(sum("segments"), number(shard, "live_bytes"));
            assert!(number(shard, "live_bytes") > 0 && number(shard, "used_bytes") >= number(shard, "live_bytes"));
        }
        let words = stdout(&log(&["stats", "--segments", "--partitions"], &broker.data()));
        for word in [
            "shard 0",
            "shard 1",
            "cleaner: nothing to do",
            "orders",
            "__cluster_metadata",
            "open",
            "the log goes on in it",
        ] {
            assert!(words.contains(word), "no {word} in {words}");
        }
        assert_well(&broker.data());
    }
}

#[test]
fn what_is_damaged_is_named_to_the_byte_and_nothing_else_is() {
    let broker = store();
    let data = broker.data();
    assert_well(&data);
    let segments = Segment::all(&broker);
    let sealed = segments.iter().find(|segment| segment.with_batches().count() > 20).expect("a life of many batches");
    let footer_at = u64::from(sealed.header.bytes) - 64;

    // A batch: its records alone, told with its offsets.
    let live: Vec<u64> = stats(&data)[0]["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|partition| partition["topic"] == "orders")
        .map(|partition| number(partition, "log"))
        .collect();
    let entry = sealed.with_batches().filter(|entry| live.contains(&entry.log)).nth(7).expect("produced");
    let (code, found) = sealed.flipped(entry.payload_at + 100, || verify(&data));
    assert_eq!((code, found.len()), (1, 1), "{found:?}");
    assert_eq!(number(&found[0], "segment"), sealed.header.number.value());
    assert_eq!(
        (number(&found[0], "first_byte"), number(&found[0], "end_byte")),
        (entry.payload_at, entry.at + entry.bytes)
    );
    assert_eq!(found[0]["is_live_lost"], true);
    let record = &found[0]["records"][0];
    assert!(record["topic"] == "orders" && record["is_live"] == true, "{record}");
    let output = sealed.flipped(entry.payload_at + 100, || log(&["verify"], &data));
    assert!(text(&output).contains("the crc of the batch differs: lost: topic "), "{}", text(&output));
    assert!(text(&output).contains("damaged places: 1, with the loss of records: 1"), "{}", text(&output));

    // What is dead is told as that: its topic was deleted.
    let dead = sealed.with_batches().find(|entry| entry.bytes > 1000 && !live.contains(&entry.log)).expect("produced");
    let (code, found) = sealed.flipped(dead.payload_at + 100, || verify(&data));
    assert_eq!((code, found.len()), (1, 1), "{found:?}");
    assert_eq!((&found[0]["is_live_lost"], &found[0]["records"][0]["is_live"]), (&false.into(), &false.into()));
    let output = sealed.flipped(dead.payload_at + 100, || log(&["verify"], &data));
    assert!(text(&output).contains("in what is dead, nothing is lost: log "), "{}", text(&output));

    // The header of an entry: to the next one.
    let (code, found) = sealed.flipped(entry.at + 20, || verify(&data));
    assert_eq!((code, found.len()), (1, 1), "{found:?}");
    let (first, end) = (number(&found[0], "first_byte"), number(&found[0], "end_byte"));
    assert!(first <= entry.at && entry.at + entry.bytes <= end && end - first <= entry.bytes + 8192, "{found:?}");

    // The segment's header and its footer: the log is whole without them.
    for at in [300, footer_at + 20] {
        let (code, found) = sealed.flipped(at, || verify(&data));
        assert_eq!((code, found.len()), (1, 1), "{found:?}");
        assert!(number(&found[0], "first_byte") <= at && at < number(&found[0], "end_byte"), "{found:?}");
        assert_eq!(found[0]["is_live_lost"], false);
    }

    // What lies between the entries and the footer is of nobody.
    let unused = sealed.end.next_multiple_of(4096) + 8192;
    assert!(unused < footer_at - 65_536);
    assert_eq!(sealed.changed(unused, &[0xaa; 4096], || verify(&data)), (0, Vec::new()));

    // Zeroes over several entries.
    let from = entry.at.next_multiple_of(4096);
    let (code, found) = sealed.changed(from, &[0; 8192], || verify(&data));
    assert_eq!((code, found.len()), (1, 1), "{found:?}");
    assert!(number(&found[0], "first_byte") <= from && from + 8192 <= number(&found[0], "end_byte"), "{found:?}");

    // The end of the log, which was flushed: it was closed in good order, so what is missing is known.
    let last = segments.last().unwrap();
    let entry = last.with_batches().last().unwrap();
    let (code, found) = last.flipped(entry.payload_at + 80, || verify(&data));
    assert_eq!((code, found.len()), (1, 1), "{found:?}");
    assert_eq!(found[0]["is_live_lost"], true, "{found:?}");

    // A file that is gone, and one that was cut.
    let elsewhere = sealed.path.with_extension("away");
    std::fs::rename(&sealed.path, &elsewhere).unwrap();
    let (code, found) = verify(&data);
    std::fs::rename(&elsewhere, &sealed.path).unwrap();
    assert!(code == 1 && found.iter().any(|damage| damage["is_live_lost"] == true), "{found:?}");
    let file = File::options().write(true).open(&sealed.path).unwrap();
    file.set_len(sealed.end / 2 / 4096 * 4096).unwrap();
    let (code, found) = verify(&data);
    file.set_len(sealed.header.bytes.into()).unwrap();
    file.write_all_at(&sealed.content, 0).unwrap();
    assert!(code == 1 && found.iter().any(|damage| damage["is_live_lost"] == true), "{found:?}");
    assert_well(&data);
}

#[test]
fn a_random_flipped_bit_is_found_where_it_is_or_is_in_what_nobody_wrote() {
    let broker = store();
    let data = broker.data();
    let seed = Random::fresh_seed();
    let mut random = Random::new(seed);
    let segments = Segment::all(&broker);
    for _ in 0..12 {
        let segment = &segments[usize::try_from(random.below(u64::try_from(segments.len()).unwrap())).unwrap()];
        let at = random.below(segment.end);
        let is_covered =
            at < 4096 || segment.entries.iter().any(|entry| (entry.at..entry.at + entry.bytes).contains(&at));
        let (code, found) = segment.flipped(at, || verify(&data));
        assert_eq!((code, found.is_empty()), (i32::from(is_covered), !is_covered), "seed {seed}, byte {at}: {found:?}");
        for damage in &found {
            let is_there = damage["segment"] == segment.header.number.value()
                && damage["first_byte"].as_u64().is_some_and(|first| first <= at)
                && damage["end_byte"].as_u64().is_some_and(|end| at < end);
            assert!(is_there, "seed {seed}, byte {at} of segment {}: {damage}", segment.header.number);
        }
    }
}

/// Records come and go so fast that segments are used again while they are read, and checkpoints come all the time.
#[test]
fn a_broker_that_uses_segments_again_is_never_called_damaged() {
    let set = vec![
        "log.retention.check.interval.ms=100",
        "log.initial.task.delay.ms=100",
        "log.flush.interval.messages=1000",
    ];
    let broker = Broker::start(&Settings { set, memory: Some("128MiB"), ..Settings::default() });
    let topic = [("retention.bytes", "1000000"), ("segment.bytes", "1048576")];
    create_topic(&broker.bootstrap(), "fast", 3, &topic);
    let properties = [("linger.ms", "5"), ("queue.buffering.max.messages", "3000"), ("acks", "1")];
    let producer: ThreadedProducer<DefaultProducerContext> = config(&broker.bootstrap(), &properties).create().unwrap();
    let is_over = AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| {
            let value = vec![b'x'; 32 * 1024];
            while !is_over.load(Ordering::Relaxed) {
                let record: BaseRecord<'_, (), [u8]> = BaseRecord::to("fast").payload(&value);
                if producer.send(record).is_err() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let started = Instant::now();
        let mut looks = 0;
        // Several lives of the first files.
        while broker.metric("corelane_log_appended_bytes") < 700 << 20 && started.elapsed() < Duration::from_secs(40) {
            let output = log(&["verify"], &broker.data());
            if !output.status.success() || !text(&output).contains("all is well") {
                is_over.store(true, Ordering::Relaxed);
                panic!("{}", text(&output));
            }
            looks += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        looks
    });
    let appended = broker.metric("corelane_log_appended_bytes");
    assert!(looks > 1 && appended > 300 << 20, "{looks} looks, {appended} bytes");
    drop(producer);
    assert!(stats(&broker.data())[0]["segments"].as_array().unwrap().len() < 9, "segments are used again");
}

#[test]
fn what_is_no_store_cannot_be_looked_at() {
    let empty = tempfile::tempdir().unwrap();
    for command in ["stats", "verify"] {
        let output = log(&[command], empty.path());
        let words = text(&output);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains("holds no store") && words.lines().count() == 1, "{words}");
    }
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "nothing was made");
    let output = log(&["verify", "--rate", "0"], empty.path());
    assert_eq!(output.status.code(), Some(2));
}
