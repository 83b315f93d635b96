//! `corelane produce TOPIC`: lines of stdin become records, as kcat users expect.
//!
//! Empty lines are no records, and with `-K` a line without the delimiter is a record without key, both as in kcat. Two
//! things differ on purpose: keys choose their partition as Java's producer does, and acks=all is idempotent.

mod batch;
mod input;
mod partitioner;
mod sender;

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};

use self::batch::{Batch, OwnedHeader};
use self::input::{RecordTooLong, Splitter};
use self::partitioner::Partitioner;
use self::sender::{Acks, Sender, Style};
use super::client::{BootstrapArguments, Client, ClientError, Interrupt};
use super::consume::format::unescape_delimiter;
use crate::limits::{
    CLIENT_BATCH_BYTES, CLIENT_BATCH_RECORDS, CLIENT_BUFFERED_BYTES, CLIENT_INTERRUPT_POLL_MS, CLIENT_LINGER_MS,
    CLIENT_STICKY_BYTES,
};
use crate::protocol::compression::Codec;
use crate::types::TimestampMs;

/// Options of `corelane produce`.
#[derive(Args, Debug)]
pub(super) struct ProduceArguments {
    #[command(flatten)]
    bootstrap: BootstrapArguments,
    /// Topic to send to
    topic: String,
    /// Partition to send to [default: by the key as Java's producer, without key by chance]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// What ends a record; \n \r \t \0 \xNN are understood
    #[arg(short = 'D', long, value_name = "DELIM", default_value = "\\n", value_parser = unescape_delimiter, allow_hyphen_values = true)]
    delimiter: Delimiter,
    /// What ends a key at the start of a record; without it records have no key
    #[arg(short = 'K', long, value_name = "DELIM", value_parser = unescape_delimiter, allow_hyphen_values = true)]
    key_delimiter: Option<Delimiter>,
    /// Key of records that bring none
    #[arg(short = 'k', long, value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,
    /// Header of every record, without `=` a null one; may repeat
    #[arg(short = 'H', long, value_name = "KEY=VALUE", value_parser = parse_header, allow_hyphen_values = true)]
    header: Vec<OwnedHeader>,
    /// Compression of batches
    #[arg(short = 'z', long, value_enum, value_name = "CODEC", default_value = "none")]
    compression: Compression,
    /// What to wait for: 0 nothing, 1 the leader, all as durable as the topic demands
    #[arg(short = 'a', long, value_enum, value_name = "0|1|all", default_value = "all", allow_hyphen_values = true)]
    acks: AcksOption,
    /// Send empty keys and values as null
    #[arg(short = 'Z', long)]
    null: bool,
}

/// A delimiter, decoded. An alias, or clap would take the bytes for several values.
type Delimiter = super::consume::format::Delimiter;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AcksOption {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

/// Why not every record was acknowledged.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProduceError {
    /// Nothing was sent.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no such partition.
    #[error("topic {topic} has {count} partitions, from 0 on; there is no partition {partition}")]
    NoPartition { topic: String, count: usize, partition: i32 },
    /// Some records are lost.
    #[error("{failed} of {all} records were not acknowledged: {cause}")]
    Unacknowledged { failed: u64, all: u64, cause: String },
    /// Stdin gave nothing more.
    #[error("cannot read stdin: {0}")]
    Input(#[from] io::Error),
    /// Stdin gave too much.
    #[error(transparent)]
    TooLong(#[from] RecordTooLong),
}

/// Sends what stdin holds, until it ends or the user interrupts.
pub(super) fn run(arguments: &ProduceArguments) -> Result<(), ProduceError> {
    let interrupt = Interrupt::install()?;
    let mut client = Client::connect(&arguments.bootstrap.bootstrap)?;
    let topic = client.topic(&arguments.topic, true)?;
    let indexes: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
    if let Some(partition) = arguments.partition.filter(|partition| !indexes.contains(partition)) {
        return Err(ProduceError::NoPartition { topic: topic.name, count: indexes.len(), partition });
    }
    let mut pending = Pending::new(arguments, u32::try_from(indexes.len()).unwrap_or(u32::MAX).max(1));
    let style =
        Style { acks: arguments.acks.into(), codec: arguments.compression.into(), headers: arguments.header.clone() };
    let mut sender = Sender::new(client, topic, style)?;

    let ended = pump(arguments, &interrupt, &mut pending, &mut sender);
    // What was read before stdin failed is sent all the same.
    let ended = match ended {
        Err(error @ ProduceError::Client(_)) => Err(error),
        ended => sender.deliver(pending.take()).map_err(ProduceError::from).and(ended),
    };
    let tally = sender.finish();
    if tally.failed > 0 {
        let cause = tally.failure.unwrap_or_default();
        return Err(ProduceError::Unacknowledged { failed: tally.failed, all: tally.delivered + tally.failed, cause });
    }
    ended
}

/// Moves records from stdin to the sender until stdin ends.
fn pump(
    arguments: &ProduceArguments,
    interrupt: &Interrupt,
    pending: &mut Pending<'_>,
    sender: &mut Sender,
) -> Result<(), ProduceError> {
    let chunks = input::read_ahead(io::stdin())?;
    let mut splitter = Splitter::new(arguments.delimiter.bytes().to_vec());
    while !interrupt.is_raised() {
        let poll = Duration::from_millis(CLIENT_INTERRUPT_POLL_MS);
        match chunks.recv_timeout(pending.due_in().unwrap_or(poll)) {
            Ok(chunk) => {
                let now = now();
                splitter.push(&chunk?)?;
                while let Some(line) = splitter.next_record() {
                    pending.append(line, now);
                    if pending.is_full() {
                        sender.deliver(pending.take())?;
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                pending.append(splitter.rest(), now());
                return Ok(());
            }
        }
        if pending.due_in().is_some_and(|left| left.is_zero()) {
            sender.deliver(pending.take())?;
        }
    }
    Ok(())
}

/// Records that wait for their batches to fill.
struct Pending<'a> {
    arguments: &'a ProduceArguments,
    partitioner: Partitioner,
    batches: BTreeMap<i32, Batch>,
    bytes: usize,
    records: usize,
    is_full: bool,
    /// When the first of them came.
    since: Option<Instant>,
}

impl<'a> Pending<'a> {
    fn new(arguments: &'a ProduceArguments, partition_count: u32) -> Pending<'a> {
        Pending {
            arguments,
            partitioner: Partitioner::new(partition_count),
            batches: BTreeMap::new(),
            bytes: 0,
            records: 0,
            is_full: false,
            since: None,
        }
    }

    /// Makes a record of a line. An empty line is none.
    fn append(&mut self, line: &[u8], now: TimestampMs) {
        if line.is_empty() {
            return;
        }
        let (key, value) = self.record_of(line);
        let chosen = || i32::try_from(self.partitioner.partition(key)).expect("partitions are counted in 31 bits");
        let partition = self.arguments.partition.unwrap_or_else(chosen);
        let batch = self.batches.entry(partition).or_default();
        let before = batch.bytes();
        batch.append(key, value, now);
        self.bytes += batch.bytes() - before;
        self.records += 1;
        let is_sticky_full = key.is_none() && batch.bytes() >= CLIENT_STICKY_BYTES;
        self.is_full |= batch.bytes() >= CLIENT_BATCH_BYTES
            || self.bytes >= CLIENT_BUFFERED_BYTES
            || self.records >= CLIENT_BATCH_RECORDS;
        self.since.get_or_insert_with(Instant::now);
        if is_sticky_full {
            self.partitioner.move_on();
        }
    }

    /// Key and value of a line.
    fn record_of<'b>(&self, line: &'b [u8]) -> (Option<&'b [u8]>, Option<&'b [u8]>)
    where
        'a: 'b,
    {
        let arguments = self.arguments;
        let (mut key, mut value) = (None, Some(line));
        if let Some(delimiter) = arguments.key_delimiter.as_ref().map(Delimiter::bytes)
            && let Some(at) = input::find(line, delimiter)
        {
            key = Some(&line[..at]);
            value = Some(&line[at + delimiter.len()..]);
            if arguments.null {
                key = key.filter(|key| !key.is_empty());
                value = value.filter(|value| !value.is_empty());
            }
        }
        (key.or(arguments.key.as_deref().map(str::as_bytes)), value)
    }

    fn is_full(&self) -> bool {
        self.is_full
    }

    /// How long the records may still wait; none if there are none.
    fn due_in(&self) -> Option<Duration> {
        self.since.map(|since| Duration::from_millis(CLIENT_LINGER_MS).saturating_sub(since.elapsed()))
    }

    /// The batches to send; records without key go elsewhere from now on.
    fn take(&mut self) -> BTreeMap<i32, Batch> {
        self.bytes = 0;
        self.records = 0;
        self.is_full = false;
        self.since = None;
        self.partitioner.move_on();
        std::mem::take(&mut self.batches)
    }
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Codec {
        match compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }
}

impl From<AcksOption> for Acks {
    fn from(acks: AcksOption) -> Acks {
        match acks {
            AcksOption::None => Acks::None,
            AcksOption::Leader => Acks::Leader,
            AcksOption::All => Acks::All,
        }
    }
}

fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// `key=value`, or `key` alone for a null value. Never fails: anything is a header name.
fn parse_header(text: &str) -> Result<OwnedHeader, String> {
    Ok(match text.split_once('=') {
        Some((key, value)) => (key.as_bytes().to_vec(), Some(value.as_bytes().to_vec())),
        None => (text.as_bytes().to_vec(), None),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: ProduceArguments,
    }

    fn parse(line: &[&str]) -> ProduceArguments {
        Line::try_parse_from([&["produce", "t"], line].concat()).unwrap().arguments
    }

    /// Key and value of a line, `-` for null.
    fn record(options: &[&str], line: &str) -> [String; 2] {
        let arguments = parse(options);
        let (key, value) = Pending::new(&arguments, 1).record_of(line.as_bytes());
        [key, value].map(|part| part.map_or("-".to_owned(), |part| String::from_utf8(part.to_vec()).unwrap()))
    }

    #[test]
    fn keys_end_at_the_first_delimiter_as_in_kcat() {
        assert_eq!(record(&[], "k:v"), ["-", "k:v"]);
        assert_eq!(record(&["-K:"], "k:v:w"), ["k", "v:w"]);
        assert_eq!(record(&["-K", ":"], "v"), ["-", "v"]);
        assert_eq!(record(&["-K", "\\t"], "k\tv"), ["k", "v"]);
        assert_eq!(record(&["-K:"], ":"), ["", ""]);
        assert_eq!(record(&["-K:", "-Z"], ":"), ["-", "-"]);
        assert_eq!(record(&["-K:", "-Z"], "k:"), ["k", "-"]);
        assert_eq!(record(&["-K--"], "k--v"), ["k", "v"]);
        assert_eq!(record(&["-kfixed", "-K:"], "v"), ["fixed", "v"]);
        assert_eq!(record(&["-kfixed", "-K:"], "k:v"), ["k", "v"]);
    }

    #[test]
    fn headers_may_be_empty_or_null() {
        let arguments = parse(&["-H", "a=1", "-Hb=", "-H", "c"]);
        let header = |key: &str, value: Option<&str>| (key.as_bytes().to_vec(), value.map(|value| value.into()));
        assert_eq!(arguments.header, [header("a", Some("1")), header("b", Some("")), header("c", None)]);
    }

    #[test]
    fn acks_are_spelled_as_in_kafka_and_default_to_all() {
        for (line, acks) in [
            (&[][..], Acks::All),
            (&["-a", "-1"], Acks::All),
            (&["--acks", "all"], Acks::All),
            (&["-a0"], Acks::None),
            (&["-a", "1"], Acks::Leader),
        ] {
            assert_eq!(Acks::from(parse(line).acks), acks, "{line:?}");
        }
    }

    #[test]
    fn empty_lines_are_no_records_and_full_batches_are_told() {
        let arguments = parse(&["-p", "3"]);
        let mut pending = Pending::new(&arguments, 8);
        pending.append(b"", TimestampMs::new(1));
        assert!(pending.due_in().is_none());
        let line = vec![b'x'; 100_000];
        for _ in 0..CLIENT_BATCH_BYTES / line.len() {
            pending.append(&line, TimestampMs::new(1));
            assert!(!pending.is_full());
        }
        pending.append(&line, TimestampMs::new(1));
        assert!(pending.is_full());
        let batches = pending.take();
        assert_eq!(batches.keys().collect::<Vec<_>>(), [&3]);
        assert!(!pending.is_full() && pending.due_in().is_none());
    }
}
