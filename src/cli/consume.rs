//! `corelane consume TOPIC`: prints records as kcat's `-C` does, and with `-G GROUP` as a member of a consumer group, as its
//! `-G` does.
//!
//! One thread per leading node fetches, this one prints (see `reader`). A group's member has one thread more, which keeps it
//! alive (see `membership` and `group`).

mod fetcher;
pub(super) mod format;
mod group;
mod membership;
mod reader;
mod start;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use self::fetcher::TopicPartition;
use self::format::{Delimiter, Format, unescape_delimiter};
use self::reader::Reader;
use self::start::{Bound, Start, combine};
use super::client::{
    BootstrapArguments, Client, ClientError, EARLIEST, Interrupt, LATEST, READ_COMMITTED, READ_UNCOMMITTED, Retry,
    Topic,
};
use crate::protocol::error_code::ErrorCode;

/// Options of `corelane consume`.
#[derive(Args, Debug)]
pub(super) struct ConsumeArguments {
    #[command(flatten)]
    bootstrap: BootstrapArguments,
    /// Topic to read; with -G several, and `^...` is a regular expression that must match a whole name
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Read as a member of this consumer group: share the partitions with its other members, go on where it committed, and
    /// commit what was printed
    #[arg(short = 'G', long, value_name = "GROUP", conflicts_with = "partition")]
    group: Option<String>,
    /// Partition to read [default: all]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Where to start: beginning, end, N, -N (before the end), s@MS (time); where to stop: e@MS; may repeat. With -G:
    /// beginning or end, where the group committed nothing [default: beginning, with -G end]
    #[arg(short, long, value_name = "OFFSET", allow_hyphen_values = true)]
    offset: Vec<Bound>,
    /// Exit after so many records
    #[arg(short, long, value_name = "COUNT")]
    count: Option<u64>,
    /// Exit at the end of the topic, with -G at the end of all partitions that the member has
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// Whether to wait for the end of transactions and leave out those that are aborted
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "read_committed")]
    isolation: Isolation,
    /// `json`, or kcat's format: %t topic, %p partition, %o offset, %k key, %s value, %K and %S their bytes, %T time,
    /// %h headers, %% and \n \r \t \0 \xNN
    #[arg(short, long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// The same as -f json
    #[arg(short = 'J', long, conflicts_with = "format")]
    json: bool,
    /// Print keys, followed by this
    #[arg(short = 'K', long, value_name = "DELIM", value_parser = unescape_delimiter, allow_hyphen_values = true)]
    key_delimiter: Option<Delimiter>,
    /// What to print after each record
    #[arg(short = 'D', long, value_name = "DELIM", default_value = "\\n", value_parser = unescape_delimiter, allow_hyphen_values = true)]
    delimiter: Delimiter,
    /// Print NULL for null keys and values, which otherwise print as nothing
    #[arg(short = 'Z', long)]
    null: bool,
    /// Do not tell on stderr when the end of a partition is reached
    #[arg(short, long)]
    quiet: bool,
}

/// What is read of transactions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Isolation {
    /// Committed records only; kcat's default.
    #[value(name = "read_committed")]
    Committed,
    /// All records.
    #[value(name = "read_uncommitted")]
    Uncommitted,
}

impl Isolation {
    /// Kafka's number of it.
    fn level(self) -> i8 {
        match self {
            Isolation::Committed => READ_COMMITTED,
            Isolation::Uncommitted => READ_UNCOMMITTED,
        }
    }
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsumeError {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The options do not go together.
    #[error("{0}")]
    Usage(String),
    /// The format string is wrong.
    #[error("-f: {0}")]
    Format(String),
    /// There is no such partition.
    #[error("topic {topic} has {count} partitions, from 0 on; there is no partition {partition}")]
    NoPartition { topic: String, count: usize, partition: i32 },
    /// There are no such records.
    #[error("topic {topic} partition {partition} ends at offset {end}; there is no offset {offset}")]
    BeyondEnd { topic: String, partition: i32, offset: i64, end: i64 },
    /// A batch cannot be read.
    #[error("topic {topic} partition {partition}: the batch at offset {offset} cannot be read: {cause}")]
    Unreadable { topic: String, partition: i32, offset: i64, cause: String },
    /// Stdout took nothing more, or no thread could be started.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Prints records until there are enough, the end is reached, the user interrupts or nobody reads on.
pub(super) fn run(arguments: &ConsumeArguments) -> Result<(), ConsumeError> {
    let format = format_of(arguments)?;
    let interrupt = Interrupt::install()?;
    let outcome = match &arguments.group {
        Some(group) => group::run(arguments, group, format, &interrupt),
        None => run_alone(arguments, format, &interrupt),
    };
    match outcome {
        // A reader that has seen enough, as in `| head`.
        Err(ConsumeError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// Without a group: one topic, from where the user says.
fn run_alone(arguments: &ConsumeArguments, format: Format, interrupt: &Interrupt) -> Result<(), ConsumeError> {
    let [name] = arguments.topics.as_slice() else {
        return Err(ConsumeError::Usage("several topics are read as a group: add -G GROUP".to_owned()));
    };
    let mut client = Client::connect(&arguments.bootstrap.bootstrap)?;
    let topic = client.topic(name, false)?;
    let mut partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
    if let Some(partition) = arguments.partition {
        if !partitions.contains(&partition) {
            return Err(ConsumeError::NoPartition { topic: topic.name, count: partitions.len(), partition });
        }
        partitions = vec![partition];
    }
    let (start, stop_ms) = combine(&arguments.offset);
    let isolation = arguments.isolation.level();
    let positions = start_positions(&mut client, topic, &partitions, start.unwrap_or(Start::Beginning), isolation)?;
    let topic: Arc<str> = name.as_str().into();
    let at = |(partition, offset)| (TopicPartition { topic: Arc::clone(&topic), partition }, offset);
    let mut reader = Reader::new(arguments, client, format, stop_ms);
    reader.take(positions.into_iter().map(at).collect());
    while !interrupt.is_raised() && !reader.is_done() {
        reader.step()?;
    }
    Ok(reader.flush()?)
}

fn format_of(arguments: &ConsumeArguments) -> Result<Format, ConsumeError> {
    let null: &[u8] = if arguments.null { b"NULL" } else { b"" };
    match &arguments.format {
        _ if arguments.json => Ok(Format::Json),
        Some(format) if format == "json" => Ok(Format::Json),
        Some(format) => Format::parse(format, null).map_err(ConsumeError::Format),
        None => Ok(Format::delimited(arguments.key_delimiter.as_ref(), &arguments.delimiter, null)),
    }
}

/// The offset to read first in each partition.
fn start_positions(
    client: &mut Client,
    mut topic: Topic,
    partitions: &[i32],
    start: Start,
    isolation_level: i8,
) -> Result<BTreeMap<i32, i64>, ClientError> {
    if let Start::Offset(offset) = start {
        return Ok(partitions.iter().map(|&partition| (partition, offset)).collect());
    }
    let mut lookup = |timestamp| {
        Retry::new().run(|| {
            let outcome = all_offsets(client, &topic, partitions, timestamp, isolation_level);
            if outcome.is_err() {
                topic = client.topic(&topic.name, false)?;
            }
            outcome
        })
    };
    match start {
        Start::Offset(_) | Start::Beginning => lookup(EARLIEST),
        Start::End => lookup(LATEST),
        Start::BeforeEnd(count) => {
            let (starts, ends) = (lookup(EARLIEST)?, lookup(LATEST)?);
            Ok(ends.into_iter().map(|(index, end)| (index, end.saturating_sub(count).max(starts[&index]))).collect())
        }
        Start::Time(time) => {
            let (found, ends) = (lookup(time)?, lookup(LATEST)?);
            // No record is that young: what comes from now on is.
            Ok(found.into_iter().map(|(index, at)| (index, if at < 0 { ends[&index] } else { at })).collect())
        }
    }
}

/// The offsets of all partitions, or an error.
fn all_offsets(
    client: &mut Client,
    topic: &Topic,
    partitions: &[i32],
    timestamp: i64,
    isolation_level: i8,
) -> Result<BTreeMap<i32, i64>, ClientError> {
    let found = client.offsets(topic, partitions, timestamp, isolation_level)?;
    let one = |(index, outcome): (i32, Result<i64, ErrorCode>)| match outcome {
        Ok(offset) => Ok((index, offset)),
        Err(error) => Err(ClientError::refused(format!("topic {} partition {index}", topic.name), error.code(), None)),
    };
    found.into_iter().map(one).collect()
}
