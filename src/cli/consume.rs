//! `corelane consume TOPIC`: prints records as kcat's `-C` does, without a consumer group.
//!
//! One thread per leading node fetches, this one prints: the records of a partition in their order, those of different
//! partitions as they come. What fetchers are ahead is bounded by a short queue. Records of aborted transactions and
//! markers are not shown. Invariant: of every partition each offset is printed at most once, and none is skipped but by
//! the broker's own doing (retention, compaction), which is told.

mod fetcher;
pub(super) mod format;
mod start;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;

use self::fetcher::{Event, Order, Position, Task};
use self::format::{Delimiter, Format, Found, unescape_delimiter};
use self::start::{Bound, Start, combine};
use super::client::{
    Answer, BootstrapArguments, Client, ClientError, EARLIEST, Interrupt, LATEST, READ_COMMITTED, Refusal, Retry, Topic,
};
use crate::limits::{
    CLIENT_DECOMPRESSED_BYTES_MAX, CLIENT_FETCHES_QUEUED_MAX, CLIENT_INTERRUPT_POLL_MS, CLIENT_RETRY_MS,
    CLIENT_RETRY_PAUSE_MS,
};
use crate::protocol::compression::Scratch;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch::{AbortedTransaction, FetchResponse, PartitionData};
use crate::protocol::record_batch::{BatchView, RecordsIter, batches};
use crate::protocol::wire::Records;

/// Options of `corelane consume`.
#[derive(Args, Debug)]
pub(super) struct ConsumeArguments {
    #[command(flatten)]
    bootstrap: BootstrapArguments,
    /// Topic to read
    topic: String,
    /// Partition to read [default: all]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Where to start: beginning, end, N, -N (before the end), s@MS (time); where to stop: e@MS; may repeat
    #[arg(short, long, value_name = "OFFSET", default_value = "beginning", allow_hyphen_values = true)]
    offset: Vec<Bound>,
    /// Exit after so many records
    #[arg(short, long, value_name = "COUNT")]
    count: Option<u64>,
    /// Exit at the end of the topic
    #[arg(short = 'e', long)]
    exit_at_end: bool,
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

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsumeError {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
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
    let mut client = Client::connect(&arguments.bootstrap.bootstrap)?;
    let topic = client.topic(&arguments.topic, false)?;
    let mut partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
    if let Some(partition) = arguments.partition {
        if !partitions.contains(&partition) {
            return Err(ConsumeError::NoPartition { topic: topic.name, count: partitions.len(), partition });
        }
        partitions = vec![partition];
    }
    let (start, stop_ms) = combine(&arguments.offset);
    let positions = start_positions(&mut client, topic, &partitions, start)?;
    let outcome = Consumer::new(arguments, client, format, stop_ms, positions).run(&interrupt);
    match outcome {
        // A reader that has seen enough, as in `| head`.
        Err(ConsumeError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
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
) -> Result<BTreeMap<i32, i64>, ClientError> {
    if let Start::Offset(offset) = start {
        return Ok(partitions.iter().map(|&partition| (partition, offset)).collect());
    }
    let mut lookup = |timestamp| {
        Retry::new().run(|| {
            let outcome = all_offsets(client, &topic, partitions, timestamp);
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
) -> Result<BTreeMap<i32, i64>, ClientError> {
    let found = client.offsets(topic, partitions, timestamp, READ_COMMITTED)?;
    let one = |(index, outcome): (i32, Result<i64, ErrorCode>)| match outcome {
        Ok(offset) => Ok((index, offset)),
        Err(error) => Err(ClientError::refused(format!("topic {} partition {index}", topic.name), error.code(), None)),
    };
    found.into_iter().map(one).collect()
}

/// One run of the command.
struct Consumer<'a> {
    arguments: &'a ConsumeArguments,
    client: Client,
    format: Format,
    stop_ms: Option<i64>,
    /// Partitions that are still read, and the offset of the record to print next.
    open: BTreeMap<i32, i64>,
    fetchers: HashMap<i32, Sender<Order>>,
    /// Which fetcher has a partition.
    owners: HashMap<i32, i32>,
    /// Partitions without a fetcher, and where to go on.
    lost: BTreeMap<i32, i64>,
    /// Since when a partition cannot be read.
    troubles: HashMap<i32, Instant>,
    /// Partitions whose end was told and not left since.
    at_end: HashSet<i32>,
    task: Task,
    events: Receiver<Event>,
    out: BufWriter<StdoutLock<'static>>,
    printed: u64,
    scratch: Scratch,
    decompressed: Vec<u8>,
}

impl<'a> Consumer<'a> {
    fn new(
        arguments: &'a ConsumeArguments,
        client: Client,
        format: Format,
        stop_ms: Option<i64>,
        positions: BTreeMap<i32, i64>,
    ) -> Consumer<'a> {
        let (sender, events) = sync_channel(CLIENT_FETCHES_QUEUED_MAX);
        let task = Task { topic: arguments.topic.clone(), until_end: arguments.exit_at_end, events: sender };
        Consumer {
            arguments,
            client,
            format,
            stop_ms,
            open: positions.clone(),
            fetchers: HashMap::new(),
            owners: HashMap::new(),
            lost: positions,
            troubles: HashMap::new(),
            at_end: HashSet::new(),
            task,
            events,
            out: BufWriter::new(io::stdout().lock()),
            printed: 0,
            scratch: Scratch::new(),
            decompressed: Vec::new(),
        }
    }

    fn run(mut self, interrupt: &Interrupt) -> Result<(), ConsumeError> {
        let mut next_try = Instant::now();
        while !interrupt.is_raised() && !self.is_done() {
            if !self.lost.is_empty() && Instant::now() >= next_try {
                self.assign()?;
                next_try = Instant::now() + Duration::from_millis(CLIENT_RETRY_PAUSE_MS);
            }
            let wait = if self.lost.is_empty() { CLIENT_INTERRUPT_POLL_MS } else { CLIENT_RETRY_PAUSE_MS };
            // What is printed must not wait for more to come.
            let event = match self.events.try_recv() {
                Ok(event) => Ok(event),
                Err(_) => {
                    self.out.flush()?;
                    self.events.recv_timeout(Duration::from_millis(wait))
                }
            };
            match event {
                Ok(Event::Fetched { node, answer, ends }) => self.print_answer(node, &answer, &ends)?,
                Ok(Event::Lost { positions, cause }) => self.on_lost(&positions, cause)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the consumer holds a sender itself"),
            }
        }
        self.out.flush()?;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.open.is_empty() || self.arguments.count.is_some_and(|count| self.printed >= count)
    }

    /// Gives every lost partition to the fetcher of its leader. Those without one stay lost.
    fn assign(&mut self) -> Result<(), ConsumeError> {
        let name = self.arguments.topic.clone();
        let found = self.client.metadata(Some(&[name]), false).map(|topics| topics.into_iter().next());
        let topic = match found {
            Ok(Some(Ok(topic))) => topic,
            Ok(Some(Err(error))) | Err(error) => return self.stay_lost(error),
            Ok(None) => return Ok(()),
        };
        let mut orders: BTreeMap<i32, Vec<Position>> = BTreeMap::new();
        for partition in topic.partitions.iter().filter(|partition| self.client.address(partition.leader).is_ok()) {
            if let Some(offset) = self.lost.remove(&partition.index) {
                let position = Position { partition: partition.index, offset };
                orders.entry(partition.leader).or_default().push(position);
            }
        }
        for (node, positions) in orders {
            self.owners.extend(positions.iter().map(|position| (position.partition, node)));
            let address = self.client.address(node)?.clone();
            let fetcher = match self.fetchers.entry(node) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(fetcher::start(self.task.clone(), node)?),
            };
            fetcher.send(Order::Take(address, positions)).expect("a fetcher outlives its orders");
        }
        if self.lost.is_empty() {
            return Ok(());
        }
        self.stay_lost(ClientError::refused(
            format!("topic {}", topic.name),
            ErrorCode::LeaderNotAvailable.code(),
            None,
        ))
    }

    /// Fails when a partition has been lost for too long, or for good.
    fn stay_lost(&mut self, cause: ClientError) -> Result<(), ConsumeError> {
        let now = Instant::now();
        let since = self.lost.keys().map(|partition| *self.troubles.entry(*partition).or_insert(now)).min();
        let is_over = since.is_some_and(|since| now - since >= Duration::from_millis(CLIENT_RETRY_MS));
        // An offset out of range was put right before.
        let may_pass = cause.is_retriable() || is_out_of_range(&cause);
        if is_over || !may_pass { Err(cause.into()) } else { Ok(()) }
    }

    fn on_lost(&mut self, positions: &[Position], cause: ClientError) -> Result<(), ConsumeError> {
        for position in positions {
            self.owners.remove(&position.partition);
            if self.open.contains_key(&position.partition) {
                let offset = if is_out_of_range(&cause) { self.back_in_range(*position)? } else { position.offset };
                self.lost.insert(position.partition, offset);
            }
        }
        self.stay_lost(cause)
    }

    /// Where to go on when an offset is not there: at the start of the log if the records before it were deleted.
    fn back_in_range(&mut self, position: Position) -> Result<i64, ConsumeError> {
        let Position { partition, offset } = position;
        let topic = self.client.topic(&self.arguments.topic, false)?;
        let (client, name) = (&mut self.client, &self.arguments.topic);
        let mut lookup = |timestamp| Retry::new().run(|| all_offsets(client, &topic, &[partition], timestamp));
        let start = lookup(EARLIEST)?[&partition];
        if offset < start {
            eprintln!("corelane: topic {name} partition {partition}: records {offset} to {} are deleted", start - 1);
            self.open.insert(partition, start);
            return Ok(start);
        }
        let end = lookup(LATEST)?[&partition];
        if offset <= end {
            return Ok(offset);
        }
        Err(ConsumeError::BeyondEnd { topic: name.clone(), partition, offset, end })
    }

    /// Prints the records of one answer and tells which partitions end with it.
    fn print_answer(&mut self, node: i32, answer: &Answer, ends: &[Position]) -> Result<(), ConsumeError> {
        let response: FetchResponse<'_> = answer.decode()?;
        for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let partition = data.partition_index;
            if self.owners.get(&partition) == Some(&node) && data.error_code == 0 {
                self.troubles.remove(&partition);
                self.print_partition(node, data)?;
            }
            if self.is_done() {
                return Ok(());
            }
        }
        for end in ends {
            if self.owners.get(&end.partition) == Some(&node) {
                self.on_end(*end)?;
            }
        }
        Ok(())
    }

    fn print_partition(&mut self, node: i32, data: &PartitionData<'_>) -> Result<(), ConsumeError> {
        let partition = data.partition_index;
        let Records::Bytes(bytes) = data.records else { return Ok(()) };
        let mut aborted = Aborted::new(data.aborted_transactions.as_deref().unwrap_or_default());
        // The fetcher has seen that the first is whole; one that is cut off at the end comes again.
        for batch in batches(bytes).map_while(Result::ok) {
            let Some(&next) = self.open.get(&partition) else { return Ok(()) };
            let is_hidden = aborted.hides(&batch);
            if batch.header.last_offset().value() < next {
                continue;
            }
            self.at_end.remove(&partition);
            if !is_hidden && !batch.header.is_control() {
                self.print_batch(node, partition, &batch)?;
            }
            let behind = batch.header.last_offset().value().saturating_add(1);
            // A partition that was closed while its batch was printed stays closed.
            if let Some(next) = self.open.get_mut(&partition) {
                *next = behind;
            }
            if self.is_done() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn print_batch(&mut self, node: i32, partition: i32, batch: &BatchView<'_>) -> Result<(), ConsumeError> {
        let header = &batch.header;
        let topic = self.arguments.topic.as_str();
        let unreadable = |cause: String| ConsumeError::Unreadable {
            topic: topic.to_owned(),
            partition,
            offset: header.base_offset.value(),
            cause,
        };
        if !batch.crc_matches() {
            return Err(unreadable("its checksum is wrong".to_owned()));
        }
        let mut decompressed = std::mem::take(&mut self.decompressed);
        let records = batch
            .decompressed(&mut self.scratch, &mut decompressed, CLIENT_DECOMPRESSED_BYTES_MAX)
            .map_err(|error| unreadable(error.to_string()))?;
        let next = self.open.get(&partition).copied().unwrap_or(i64::MAX);
        for record in RecordsIter::new(records, header.record_count) {
            let record = record.map_err(|error| unreadable(error.to_string()))?;
            let offset = header.offset_of(record.offset_delta).value();
            if offset < next {
                continue;
            }
            let timestamp = header.timestamp_of(record.timestamp_delta).value();
            if self.stop_ms.is_some_and(|stop_ms| timestamp >= stop_ms) {
                self.tell(format_args!("Reached stop timestamp for topic {topic} [{partition}] at offset {offset}"))?;
                self.close(partition);
                break;
            }
            let timestamp_type = header.timestamp_type();
            let found = Found { topic, partition, node, offset, timestamp_type, timestamp, record: &record };
            self.format.write(&mut self.out, &found)?;
            self.printed += 1;
            if self.is_done() {
                break;
            }
        }
        self.decompressed = decompressed;
        Ok(())
    }

    fn on_end(&mut self, end: Position) -> Result<(), ConsumeError> {
        if !self.open.contains_key(&end.partition) {
            return Ok(());
        }
        if self.arguments.exit_at_end {
            self.open.remove(&end.partition);
        } else if !self.at_end.insert(end.partition) {
            return Ok(());
        }
        let exiting = if self.is_done() { ": exiting" } else { "" };
        let Position { partition, offset } = end;
        self.tell(format_args!(
            "Reached end of topic {} [{partition}] at offset {offset}{exiting}",
            self.arguments.topic
        ))
    }

    /// Reads a partition no further.
    fn close(&mut self, partition: i32) {
        self.open.remove(&partition);
        if let Some(fetcher) = self.owners.remove(&partition).and_then(|node| self.fetchers.get(&node)) {
            fetcher.send(Order::Drop(partition)).expect("a fetcher outlives its orders");
        }
    }

    /// A line for people, in kcat's words, behind all records before it.
    fn tell(&mut self, line: std::fmt::Arguments<'_>) -> Result<(), ConsumeError> {
        if !self.arguments.quiet {
            self.out.flush()?;
            eprintln!("% {line}");
        }
        Ok(())
    }
}

fn is_out_of_range(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { refusal: Refusal { error: ErrorCode::OffsetOutOfRange, .. }, .. })
}

/// Which batches of one answer belong to transactions that were aborted.
struct Aborted<'a> {
    /// By falling first offset, so that the next is last.
    ahead: Vec<&'a AbortedTransaction>,
    /// Producers inside of an aborted transaction.
    open: HashSet<i64>,
}

impl<'a> Aborted<'a> {
    fn new(transactions: &'a [AbortedTransaction]) -> Aborted<'a> {
        let mut ahead: Vec<_> = transactions.iter().collect();
        ahead.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Aborted { ahead, open: HashSet::new() }
    }

    /// Whether readers of committed records must not see this batch. Every batch of the answer is asked about, in order.
    fn hides(&mut self, batch: &BatchView<'_>) -> bool {
        let last_offset = batch.header.last_offset().value();
        while let Some(transaction) = self.ahead.pop_if(|transaction| transaction.first_offset <= last_offset) {
            self.open.insert(transaction.producer_id);
        }
        let producer_id = batch.header.producer_id.value();
        if batch.header.is_control() {
            // Whichever way the transaction ended, its end is here.
            self.open.remove(&producer_id);
            return true;
        }
        batch.header.is_transactional() && self.open.contains(&producer_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::BatchBuilder;
    use crate::types::{Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

    fn batch(offset: i64, producer_id: i64, shape: fn(&mut BatchBuilder) -> &mut BatchBuilder) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.base_offset(Offset::new(offset));
        builder.producer(ProducerId::new(producer_id), ProducerEpoch::new(0), Sequence::new(0));
        shape(&mut builder).append(TimestampMs::new(1), None, Some(b"v"), &[]);
        builder.build()
    }

    #[test]
    fn only_batches_of_aborted_transactions_are_hidden() {
        let transactions = [
            AbortedTransaction { producer_id: 2, first_offset: 5 },
            AbortedTransaction { producer_id: 1, first_offset: 1 },
        ];
        let mut aborted = Aborted::new(&transactions);
        let plain: fn(&mut BatchBuilder) -> &mut BatchBuilder = |builder| builder;
        let transactional: fn(&mut BatchBuilder) -> &mut BatchBuilder = BatchBuilder::transactional;
        let marker: fn(&mut BatchBuilder) -> &mut BatchBuilder = |builder| builder.transactional().control();
        for (offset, producer_id, shape, is_hidden) in [
            (0, 1, transactional, false),
            (1, 1, transactional, true),
            (2, 2, transactional, false),
            (3, 1, plain, false),
            (4, 1, marker, true),
            (5, 2, transactional, true),
            (6, 1, transactional, false),
            (7, 2, marker, true),
            (8, 2, transactional, false),
        ] {
            let bytes = batch(offset, producer_id, shape);
            assert_eq!(aborted.hides(&BatchView::parse(&bytes).unwrap()), is_hidden, "offset {offset}");
        }
    }
}
