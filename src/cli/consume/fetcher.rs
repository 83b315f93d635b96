//! The thread that fetches what one node leads.
//!
//! It asks for all its partitions again and again and hands the answers on as they came; of the batches it reads only the
//! headers, to know where to go on. A partition that it cannot read any more it gives back, with the offset to go on
//! from. Invariant: at any moment a partition belongs to one fetcher or is on its way back.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel};
use std::thread;

use crate::cli::client::{Address, Answer, ClientError, Connection, READ_COMMITTED, error_of};
use crate::limits::{CLIENT_FETCH_BYTES, CLIENT_FETCH_WAIT_MS, CLIENT_PARTITION_FETCH_BYTES};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use crate::protocol::record_batch::batches;
use crate::protocol::wire::Records;

/// A partition of a topic.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct TopicPartition {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.topic, self.partition)
    }
}

/// A partition and the offset to read next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Position {
    pub(super) at: TopicPartition,
    pub(super) offset: i64,
}

/// What a fetcher is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Read these too, from the node's address as it is now.
    Take(Address, Vec<Position>),
    /// Read this one no longer, and do not give it back either.
    Drop(TopicPartition),
}

/// What a fetcher tells.
#[derive(Debug)]
pub(super) enum Event {
    /// Records, perhaps none, of some partitions.
    Fetched { node: i32, answer: Answer, ends: Vec<Position> },
    /// Partitions that this fetcher cannot read.
    Lost { positions: Vec<Position>, cause: ClientError },
}

/// What all fetchers of a command share.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// Kafka's number of it.
    pub(super) isolation_level: i8,
    /// Whether a partition is done once its end was reached.
    pub(super) until_end: bool,
    pub(super) events: SyncSender<Event>,
}

/// Starts a fetcher. It ends when the sender of orders or the receiver of events is gone.
pub(super) fn start(task: Task, node: i32) -> std::io::Result<Sender<Order>> {
    let (orders, receiver) = channel();
    let fetcher = Fetcher { task, node, connection: None, address: None, positions: VecDeque::new() };
    thread::Builder::new().name(format!("fetch-{node}")).spawn(move || fetcher.run(&receiver))?;
    Ok(orders)
}

struct Fetcher {
    task: Task,
    node: i32,
    /// Where the node listens; known once there is something to read.
    address: Option<Address>,
    connection: Option<Connection>,
    /// What to read, what had nothing for the longest first.
    positions: VecDeque<Position>,
}

/// Nobody listens any more.
struct Over;

impl Fetcher {
    fn run(mut self, orders: &Receiver<Order>) {
        while self.obey(orders).is_ok() {
            let outcome = match self.fetch() {
                Ok(answer) => self.hand_on(answer),
                Err(error) => self.give_up(error),
            };
            if outcome.is_err() {
                return;
            }
        }
    }

    /// Takes every order that is there, and waits for one while there is nothing to read.
    fn obey(&mut self, orders: &Receiver<Order>) -> Result<(), Over> {
        loop {
            let order = if self.positions.is_empty() {
                orders.recv().map_err(|_| Over)?
            } else {
                match orders.try_recv() {
                    Ok(order) => order,
                    Err(TryRecvError::Empty) => return Ok(()),
                    Err(TryRecvError::Disconnected) => return Err(Over),
                }
            };
            match order {
                Order::Take(address, positions) => {
                    if self.address.as_ref() != Some(&address) {
                        self.connection = None;
                        self.address = Some(address);
                    }
                    self.positions.extend(positions);
                }
                Order::Drop(at) => self.positions.retain(|position| position.at != at),
            }
        }
    }

    fn fetch(&mut self) -> Result<Answer, ClientError> {
        // In the order of the positions, so a topic may come again.
        let mut topics: Vec<FetchTopic<'_>> = Vec::new();
        for Position { at, offset } in &self.positions {
            let partition = FetchPartition {
                partition: at.partition,
                fetch_offset: *offset,
                partition_max_bytes: CLIENT_PARTITION_FETCH_BYTES,
                ..FetchPartition::default()
            };
            match topics.last_mut() {
                Some(last) if last.topic == *at.topic => last.partitions.push(partition),
                _ => topics.push(FetchTopic {
                    topic: Cow::Borrowed(&at.topic),
                    partitions: vec![partition],
                    ..FetchTopic::default()
                }),
            }
        }
        let request = FetchRequest {
            max_wait_ms: CLIENT_FETCH_WAIT_MS,
            min_bytes: 1,
            max_bytes: CLIENT_FETCH_BYTES,
            isolation_level: self.task.isolation_level,
            topics,
            ..FetchRequest::default()
        };
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::open(self.address.as_ref().expect("positions come with an address"))?),
        };
        connection.call(&request)
    }

    /// Moves the positions on and hands records, ends and losses to the printer.
    fn hand_on(&mut self, answer: Answer) -> Result<(), Over> {
        let response: FetchResponse<'_> = match answer.decode() {
            Ok(response) => response,
            Err(error) => return self.give_up(error),
        };
        if response.error_code != 0 {
            let subject = format!("a fetch from node {}", self.node);
            return self.give_up(ClientError::refused(subject, response.error_code, None));
        }
        let mut lost = Vec::new();
        let mut ends = Vec::new();
        let mut has_records = false;
        let answered = response.responses.iter();
        for (topic, data) in answered.flat_map(|topic| topic.partitions.iter().map(|data| (&*topic.topic, data))) {
            let is_it =
                |position: &Position| position.at.partition == data.partition_index && *position.at.topic == *topic;
            let Some(found) = self.positions.iter().position(is_it) else { continue };
            let mut position = self.positions[found].clone();
            match advance(position.offset, data) {
                Ok(next) => {
                    let has_moved = next > position.offset;
                    has_records |= has_moved;
                    position.offset = next;
                    let is_at_end = next >= self.task.readable_end(data);
                    if is_at_end {
                        ends.push(position.clone());
                    }
                    if is_at_end && self.task.until_end {
                        self.positions.remove(found);
                    } else if has_moved {
                        // Behind those that got nothing, in case the answer had no room for them.
                        self.positions.remove(found);
                        self.positions.push_back(position);
                    }
                }
                Err(cause) => {
                    self.positions.remove(found);
                    let cause = cause.name(&position.at);
                    lost.push(Event::Lost { positions: vec![position], cause });
                }
            }
        }
        if has_records || !ends.is_empty() {
            drop(response);
            self.tell(Event::Fetched { node: self.node, answer, ends })?;
        }
        lost.into_iter().try_for_each(|event| self.tell(event))
    }

    /// Gives every partition back.
    fn give_up(&mut self, error: ClientError) -> Result<(), Over> {
        self.connection = None;
        let positions = std::mem::take(&mut self.positions).into();
        self.tell(Event::Lost { positions, cause: error })
    }

    fn tell(&self, event: Event) -> Result<(), Over> {
        self.task.events.send(event).map_err(|_| Over)
    }
}

impl Task {
    /// Where a reader must stop for now.
    fn readable_end(&self, data: &PartitionData<'_>) -> i64 {
        let is_bounded = self.isolation_level == READ_COMMITTED && data.last_stable_offset >= 0;
        if is_bounded { data.last_stable_offset } else { data.high_watermark }
    }
}

/// Why a partition cannot be read on.
#[derive(Debug, Eq, PartialEq)]
enum Cause {
    Code(i16),
    Batch(String),
}

impl Cause {
    fn name(self, at: &TopicPartition) -> ClientError {
        let subject = format!("topic {} partition {}", at.topic, at.partition);
        match self {
            Cause::Code(code) => ClientError::refused(subject, code, None),
            Cause::Batch(cause) => ClientError::refused(subject, ErrorCode::CorruptMessage.code(), Some(&cause)),
        }
    }
}

/// Offset after the last whole batch that came. A batch that was cut off at the limit of the answer comes again.
fn advance(offset: i64, data: &PartitionData<'_>) -> Result<i64, Cause> {
    if error_of(data.error_code) != ErrorCode::None {
        return Err(Cause::Code(data.error_code));
    }
    let Records::Bytes(bytes) = data.records else { return Ok(offset) };
    let mut next = offset;
    for batch in batches(bytes) {
        match batch {
            Ok(batch) => next = next.max(batch.header.last_offset().value().saturating_add(1)),
            Err(_) if next > offset => break,
            Err(error) => return Err(Cause::Batch(error.to_string())),
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::READ_UNCOMMITTED;
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::BatchBuilder;
    use crate::types::{Offset, TimestampMs};

    fn batch(base_offset: i64, record_count: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.base_offset(Offset::new(base_offset));
        for _ in 0..record_count {
            builder.append(TimestampMs::new(1), None, Some(b"v"), &[]);
        }
        builder.build()
    }

    fn next(offset: i64, records: &[u8]) -> Result<i64, Cause> {
        let data = PartitionData { records: Records::Bytes(records), ..PartitionData::default() };
        advance(offset, &data)
    }

    #[test]
    fn reading_goes_on_behind_the_last_whole_batch() {
        assert_eq!(next(5, &[]), Ok(5));
        let two = [batch(5, 3), batch(10, 2)].concat();
        assert_eq!(next(6, &two), Ok(12));
        assert_eq!(next(6, &two[..two.len() - 1]), Ok(8));
        assert!(matches!(next(5, &two[..30]), Err(Cause::Batch(_))));
    }

    #[test]
    fn an_open_transaction_ends_what_is_committed_only() {
        let data = PartitionData { high_watermark: 9, last_stable_offset: 4, ..PartitionData::default() };
        let end = |isolation_level, data| {
            let (events, _) = std::sync::mpsc::sync_channel(1);
            Task { isolation_level, until_end: false, events }.readable_end(data)
        };
        assert_eq!((end(READ_COMMITTED, &data), end(READ_UNCOMMITTED, &data)), (4, 9));
        let untold = PartitionData { high_watermark: 9, last_stable_offset: -1, ..PartitionData::default() };
        assert_eq!(end(READ_COMMITTED, &untold), 9);
    }

    #[test]
    fn an_error_of_the_partition_is_passed_on() {
        let data = PartitionData { error_code: ErrorCode::OffsetOutOfRange.code(), ..PartitionData::default() };
        let outcome = advance(1, &data);
        assert_eq!(outcome, Err(Cause::Code(ErrorCode::OffsetOutOfRange.code())));
    }
}
