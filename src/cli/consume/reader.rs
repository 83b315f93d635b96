//! Reads partitions and prints their records: of a partition in their order, of different partitions as they come.
//!
//! One thread per leading node fetches, this one prints. What fetchers are ahead is bounded by a short queue. Markers of
//! transactions are not shown, nor, unless asked for, records of aborted ones. Invariant: of every partition each offset is
//! printed at most once while the reader has it, and none is skipped but by the broker's own doing (retention, compaction),
//! which is told.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, sync_channel};
use std::time::{Duration, Instant};

use super::fetcher::{self, Event, Order, Position, Task, TopicPartition};
use super::format::{Format, Found};
use super::start::{Start, combine};
use super::{ConsumeArguments, ConsumeError, all_offsets};
use crate::cli::client::{Answer, Client, ClientError, EARLIEST, LATEST, Refusal, Retry};
use crate::limits::{
    CLIENT_DECOMPRESSED_BYTES_MAX, CLIENT_FETCHES_QUEUED_MAX, CLIENT_INTERRUPT_POLL_MS, CLIENT_RETRY_MS,
    CLIENT_RETRY_PAUSE_MS,
};
use crate::protocol::compression::Scratch;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch::{AbortedTransaction, FetchResponse, PartitionData};
use crate::protocol::record_batch::{BatchView, RecordsIter, batches};
use crate::protocol::wire::Records;

/// What a command reads, and what it has printed.
pub(super) struct Reader<'a> {
    arguments: &'a ConsumeArguments,
    pub(super) client: Client,
    format: Format,
    stop_ms: Option<i64>,
    /// Partitions that are still read, and the offset of the record to print next.
    open: BTreeMap<TopicPartition, i64>,
    /// Names of their topics, and of those that were read before.
    topics: BTreeSet<Arc<str>>,
    fetchers: HashMap<i32, Sender<Order>>,
    /// Which fetcher has a partition.
    owners: HashMap<TopicPartition, i32>,
    /// Partitions without a fetcher, and where to go on.
    lost: BTreeMap<TopicPartition, i64>,
    next_try: Instant,
    /// Since when a partition cannot be read.
    troubles: HashMap<TopicPartition, Instant>,
    /// Partitions whose end was told and not left since.
    at_end: HashSet<TopicPartition>,
    task: Task,
    events: Receiver<Event>,
    out: BufWriter<StdoutLock<'static>>,
    printed: u64,
    scratch: Scratch,
    decompressed: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// A reader that has nothing to read yet.
    pub(super) fn new(
        arguments: &'a ConsumeArguments,
        client: Client,
        format: Format,
        stop_ms: Option<i64>,
    ) -> Reader<'a> {
        let (sender, events) = sync_channel(CLIENT_FETCHES_QUEUED_MAX);
        let task = Task {
            isolation_level: arguments.isolation.level(),
            // A member of a group goes on reading: more may come while it waits for the others.
            until_end: arguments.exit_at_end && arguments.group.is_none(),
            events: sender,
        };
        Reader {
            arguments,
            client,
            format,
            stop_ms,
            open: BTreeMap::new(),
            topics: BTreeSet::new(),
            fetchers: HashMap::new(),
            owners: HashMap::new(),
            lost: BTreeMap::new(),
            next_try: Instant::now(),
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

    /// Reads these too, each from its offset.
    pub(super) fn take(&mut self, positions: BTreeMap<TopicPartition, i64>) {
        self.topics.extend(positions.keys().map(|at| Arc::clone(&at.topic)));
        self.lost.extend(positions.clone());
        self.open.extend(positions);
        self.next_try = Instant::now();
    }

    /// Reads these no longer.
    pub(super) fn give_up<'b>(&mut self, partitions: impl IntoIterator<Item = &'b TopicPartition>) {
        for at in partitions {
            self.open.remove(at);
            self.lost.remove(at);
            self.troubles.remove(at);
            self.at_end.remove(at);
            self.owners.remove(at);
        }
        // What was fetched of them must not be printed later, when one of them may be back with another offset: all
        // fetchers begin anew.
        self.fetchers.clear();
        (self.task.events, self.events) = sync_channel(CLIENT_FETCHES_QUEUED_MAX);
        self.lost.extend(self.owners.drain().map(|(at, _)| {
            let offset = self.open[&at];
            (at, offset)
        }));
        self.next_try = Instant::now();
    }

    /// Partitions that are read, and the offset of the record to print next.
    pub(super) fn positions(&self) -> &BTreeMap<TopicPartition, i64> {
        &self.open
    }

    /// Sees to it that what was printed has left.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Prints what came, or waits a moment for something to come.
    pub(super) fn step(&mut self) -> Result<(), ConsumeError> {
        if !self.lost.is_empty() && Instant::now() >= self.next_try {
            self.assign()?;
            self.next_try = Instant::now() + Duration::from_millis(CLIENT_RETRY_PAUSE_MS);
        }
        let wait = if self.lost.is_empty() { CLIENT_INTERRUPT_POLL_MS } else { CLIENT_RETRY_PAUSE_MS };
        // What is printed must not wait for more to come.
        let event = match self.events.try_recv() {
            Ok(event) => Ok(event),
            Err(_) => {
                self.flush()?;
                self.events.recv_timeout(Duration::from_millis(wait))
            }
        };
        match event {
            Ok(Event::Fetched { node, answer, ends }) => self.print_answer(node, &answer, &ends),
            Ok(Event::Lost { positions, cause }) => self.on_lost(&positions, cause),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => unreachable!("the reader holds a sender itself"),
        }
    }

    /// Whether there is enough: all of `--count`, or the ends of all partitions.
    pub(super) fn is_done(&self) -> bool {
        if self.arguments.count.is_some_and(|count| self.printed >= count) {
            return true;
        }
        if self.arguments.group.is_none() {
            return self.open.is_empty();
        }
        self.arguments.exit_at_end && !self.open.is_empty() && self.at_end.len() == self.open.len()
    }

    /// Gives every lost partition to the fetcher of its leader. Those without one stay lost.
    fn assign(&mut self) -> Result<(), ConsumeError> {
        let names: BTreeSet<String> = self.lost.keys().map(|at| at.topic.to_string()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let found = match self.client.metadata(Some(&names), false) {
            Ok(found) => found,
            Err(error) => return self.stay_lost(error),
        };
        let mut cause = None;
        let mut orders: BTreeMap<i32, Vec<Position>> = BTreeMap::new();
        for topic in found {
            let topic = match topic {
                Ok(topic) => topic,
                Err(error) => {
                    cause = Some(error);
                    continue;
                }
            };
            let Some(name) = self.topics.get(&*topic.name).cloned() else { continue };
            for partition in topic.partitions.iter().filter(|partition| self.client.address(partition.leader).is_ok()) {
                let at = TopicPartition { topic: Arc::clone(&name), partition: partition.index };
                if let Some(offset) = self.lost.remove(&at) {
                    orders.entry(partition.leader).or_default().push(Position { at, offset });
                }
            }
        }
        for (node, positions) in orders {
            self.owners.extend(positions.iter().map(|position| (position.at.clone(), node)));
            let address = self.client.address(node)?.clone();
            let fetcher = match self.fetchers.entry(node) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(fetcher::start(self.task.clone(), node)?),
            };
            fetcher.send(Order::Take(address, positions)).expect("a fetcher outlives its orders");
        }
        let Some((first, _)) = self.lost.first_key_value() else { return Ok(()) };
        let subject = format!("topic {}", first.topic);
        let no_leader = || ClientError::refused(subject, ErrorCode::LeaderNotAvailable.code(), None);
        self.stay_lost(cause.unwrap_or_else(no_leader))
    }

    /// Fails when a partition has been lost for too long, or for good.
    fn stay_lost(&mut self, cause: ClientError) -> Result<(), ConsumeError> {
        let now = Instant::now();
        let since = self.lost.keys().map(|at| *self.troubles.entry(at.clone()).or_insert(now)).min();
        let is_over = since.is_some_and(|since| now - since >= Duration::from_millis(CLIENT_RETRY_MS));
        // An offset out of range was put right before.
        let may_pass = cause.is_retriable() || is_out_of_range(&cause);
        if is_over || !may_pass { Err(cause.into()) } else { Ok(()) }
    }

    fn on_lost(&mut self, positions: &[Position], cause: ClientError) -> Result<(), ConsumeError> {
        for position in positions {
            self.owners.remove(&position.at);
            if self.open.contains_key(&position.at) {
                let offset = if is_out_of_range(&cause) { self.back_in_range(position)? } else { position.offset };
                self.lost.insert(position.at.clone(), offset);
            }
        }
        self.stay_lost(cause)
    }

    /// Where to go on when an offset is not there: at the start of the log if the records before it were deleted. Beyond the
    /// end a group starts as if it had committed nothing.
    fn back_in_range(&mut self, position: &Position) -> Result<i64, ConsumeError> {
        let Position { at, offset } = position;
        let (name, partition, offset) = (&at.topic, at.partition, *offset);
        let topic = self.client.topic(name, false)?;
        let (client, isolation) = (&mut self.client, self.task.isolation_level);
        let mut lookup =
            |timestamp| Retry::new().run(|| all_offsets(client, &topic, &[partition], timestamp, isolation));
        let start = lookup(EARLIEST)?[&partition];
        if offset < start {
            eprintln!("corelane: topic {name} partition {partition}: records {offset} to {} are deleted", start - 1);
            self.open.insert(at.clone(), start);
            return Ok(start);
        }
        let end = lookup(LATEST)?[&partition];
        if offset <= end {
            return Ok(offset);
        }
        if self.arguments.group.is_none() {
            return Err(ConsumeError::BeyondEnd { topic: name.to_string(), partition, offset, end });
        }
        let from = if combine(&self.arguments.offset).0 == Some(Start::Beginning) { start } else { end };
        eprintln!(
            "corelane: topic {name} partition {partition} ends at offset {end}, the group was at {offset}: going on at {from}"
        );
        self.open.insert(at.clone(), from);
        Ok(from)
    }

    /// Prints the records of one answer and tells which partitions end with it.
    fn print_answer(&mut self, node: i32, answer: &Answer, ends: &[Position]) -> Result<(), ConsumeError> {
        let response: FetchResponse<'_> = answer.decode()?;
        for topic in &response.responses {
            let Some(name) = self.topics.get(&*topic.topic).cloned() else { continue };
            for data in &topic.partitions {
                let at = TopicPartition { topic: Arc::clone(&name), partition: data.partition_index };
                if self.owners.get(&at) == Some(&node) && data.error_code == 0 {
                    self.troubles.remove(&at);
                    self.print_partition(node, &at, data)?;
                }
                if self.is_done() {
                    return Ok(());
                }
            }
        }
        for end in ends {
            if self.owners.get(&end.at) == Some(&node) {
                self.on_end(end)?;
            }
        }
        Ok(())
    }

    fn print_partition(
        &mut self,
        node: i32,
        at: &TopicPartition,
        data: &PartitionData<'_>,
    ) -> Result<(), ConsumeError> {
        let Records::Bytes(bytes) = data.records else { return Ok(()) };
        let mut aborted = Aborted::new(data.aborted_transactions.as_deref().unwrap_or_default());
        // The fetcher has seen that the first is whole; one that is cut off at the end comes again.
        for batch in batches(bytes).map_while(Result::ok) {
            let Some(&next) = self.open.get(at) else { return Ok(()) };
            let is_hidden = aborted.hides(&batch);
            if batch.header.last_offset().value() < next {
                continue;
            }
            self.at_end.remove(at);
            let mut next = batch.header.last_offset().value().saturating_add(1);
            if !is_hidden && !batch.header.is_control() {
                next = self.print_batch(node, at, &batch)?.unwrap_or(next);
            }
            // A partition that was closed while its batch was printed stays closed.
            if let Some(position) = self.open.get_mut(at) {
                *position = next;
            }
            if self.is_done() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Prints the records of a batch. Returns where to go on if that is within it.
    fn print_batch(
        &mut self,
        node: i32,
        at: &TopicPartition,
        batch: &BatchView<'_>,
    ) -> Result<Option<i64>, ConsumeError> {
        let header = &batch.header;
        let (topic, partition) = (&*at.topic, at.partition);
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
        let next = self.open.get(at).copied().unwrap_or(i64::MAX);
        let mut stopped = None;
        for record in RecordsIter::new(records, header.record_count) {
            let record = record.map_err(|error| unreadable(error.to_string()))?;
            let offset = header.offset_of(record.offset_delta).value();
            if offset < next {
                continue;
            }
            let timestamp = header.timestamp_of(record.timestamp_delta).value();
            if self.stop_ms.is_some_and(|stop_ms| timestamp >= stop_ms) {
                self.tell(format_args!("Reached stop timestamp for topic {at} at offset {offset}"))?;
                self.close(at);
                break;
            }
            let timestamp_type = header.timestamp_type();
            let found = Found { topic, partition, node, offset, timestamp_type, timestamp, record: &record };
            self.format.write(&mut self.out, &found)?;
            self.printed += 1;
            if self.is_done() {
                stopped = Some(offset.saturating_add(1));
                break;
            }
        }
        self.decompressed = decompressed;
        Ok(stopped)
    }

    fn on_end(&mut self, end: &Position) -> Result<(), ConsumeError> {
        let Position { at, offset } = end;
        if !self.open.contains_key(at) {
            return Ok(());
        }
        if self.task.until_end {
            self.open.remove(at);
        } else if !self.at_end.insert(at.clone()) {
            return Ok(());
        }
        let exiting = if self.is_done() { ": exiting" } else { "" };
        self.tell(format_args!("Reached end of topic {at} at offset {offset}{exiting}"))
    }

    /// Reads a partition no further.
    fn close(&mut self, at: &TopicPartition) {
        self.open.remove(at);
        if let Some(fetcher) = self.owners.remove(at).and_then(|node| self.fetchers.get(&node)) {
            fetcher.send(Order::Drop(at.clone())).expect("a fetcher outlives its orders");
        }
    }

    /// A line for people, in kcat's words, behind all records before it.
    pub(super) fn tell(&mut self, line: std::fmt::Arguments<'_>) -> Result<(), ConsumeError> {
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
