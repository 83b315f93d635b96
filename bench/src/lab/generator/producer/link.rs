//! A producer's connection to one leader: requests out, answers in, at most so many unanswered.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::{ResponseHeader, request_frame};
use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::record_batch::BATCH_HEADER_BYTES;
use corelane::protocol::wire::{Reader, Records};

use crate::client::CLIENT_ID;
use crate::lab::generator::batch::{Account, Batch};
use crate::lab::generator::connection::{Connection, Frame};
use crate::lab::generator::context::Context;
use crate::lab::generator::plan::Plan;
use crate::lab::generator::topology::error_name;
use crate::lab::number::{narrow, size};
use crate::lab::workload::Acks;

/// How long the server may wait for replicas, in milliseconds, as Kafka's producer has it.
const REQUEST_TIMEOUT_MS: i32 = 30_000;

/// A connection. What its methods return as settled are records that were acknowledged or failed, and counted as such.
pub(super) struct Link {
    connection: Connection,
    /// Batches that wait for their turn.
    ready: VecDeque<Batch>,
    /// Their bytes.
    pub(super) ready_bytes: usize,
    /// Requests without an answer; without acks, those that are not written yet.
    unanswered: VecDeque<Request>,
    /// Partitions of this leader, and whose turn it is in a maximum.
    slots: Vec<u32>,
    turn: usize,
    is_broken: bool,
}

struct Request {
    correlation_id: i32,
    /// By partition.
    accounts: Vec<Account>,
}

impl Request {
    fn records(&self) -> u64 {
        self.accounts.iter().map(|account| u64::from(account.records)).sum()
    }
}

impl Link {
    pub(super) fn connect(plan: &Plan, address: SocketAddr, leader: u32, first: u32) -> std::io::Result<Link> {
        let own = |slot: &u32| plan.slots[size(*slot)].leader == leader;
        let slots: Vec<u32> = (0..narrow(plan.slots.len())).filter(own).collect();
        let turn = slots.iter().position(|slot| *slot >= first).unwrap_or(0);
        Ok(Link {
            connection: Connection::open(address)?,
            ready: VecDeque::new(),
            ready_bytes: 0,
            unanswered: VecDeque::new(),
            slots,
            turn,
            is_broken: false,
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn ready_batches(&self) -> usize {
        self.ready.len()
    }

    /// Whether another request may be sent. A broken connection takes everything, and fails it.
    pub(super) fn is_free(&self, context: &Context) -> bool {
        self.is_broken || self.room(context) > 0
    }

    fn room(&self, context: &Context) -> usize {
        size(context.plan.workload.requests_in_flight).saturating_sub(self.unanswered.len())
    }

    /// Full batches that would be sent at once, beside those that are ready.
    pub(super) fn batches_wanted(&self, context: &Context) -> usize {
        if self.is_broken || self.slots.is_empty() {
            return 0;
        }
        let all = self.room(context) * context.batches_per_request(self.slots.len());
        all.saturating_sub(self.ready.len())
    }

    /// The partition whose turn it is.
    pub(super) fn next_slot(&mut self) -> u32 {
        let slot = self.slots[self.turn];
        self.turn = (self.turn + 1) % self.slots.len();
        slot
    }

    /// Has a batch sent after those before it. Returns how many records that settles.
    pub(super) fn push(&mut self, batch: Batch, context: &mut Context) -> u64 {
        if self.is_broken {
            let records = u64::from(batch.account.records);
            context.tally.fail(records, || format!("{} is not connected", self.connection.address()));
            return records;
        }
        self.ready_bytes += batch.bytes();
        self.ready.push_back(batch);
        0
    }

    /// Sends what can be sent. Returns how many records that settles: those that need no answer.
    pub(super) fn send(&mut self, now_ns: u64, context: &mut Context) -> u64 {
        while !self.ready.is_empty() && self.room(context) > 0 {
            self.send_request(context);
        }
        match self.connection.flush() {
            Ok(frames) if context.needs_no_answers() => self.on_written(frames, now_ns, context),
            Ok(_) => 0,
            Err(error) => self.on_broken(&error.to_string(), context),
        }
    }

    /// Makes one request of batches that are ready, at most one for each partition.
    fn send_request(&mut self, context: &mut Context) {
        let request_bytes_max = size(context.plan.workload.request_bytes);
        let (mut bytes, mut batches) = (0, Vec::new());
        context.marks.begin();
        while let Some(next) = self.ready.front() {
            let is_over = bytes > 0 && bytes + next.bytes() > request_bytes_max;
            if is_over || !context.marks.mark(next.account.slot) {
                break;
            }
            bytes += next.bytes();
            batches.extend(self.ready.pop_front());
        }
        self.ready_bytes -= bytes;
        // So that those of one topic stand together, and the parts of an answer are found.
        batches.sort_unstable_by_key(|batch| batch.account.slot);
        let (accounts, bodies): (Vec<_>, Vec<_>) =
            batches.into_iter().map(|batch| (batch.account, (batch.header, batch.records))).unzip();
        let correlation_id = self.connection.next_correlation_id();
        self.connection.push(frame(context, correlation_id, &accounts, bodies));
        self.unanswered.push_back(Request { correlation_id, accounts });
    }

    /// Without acks a request is done when it is written.
    fn on_written(&mut self, frames: u32, now_ns: u64, context: &mut Context) -> u64 {
        let mut settled = 0;
        for _ in 0..frames {
            let request = self.unanswered.pop_front().expect("each frame is one request");
            settled += request.records();
            context.tally.produced.requests += 1;
            for account in &request.accounts {
                context.acknowledge(account, now_ns);
            }
        }
        settled
    }

    /// The kernel has news. Returns how many records that settles.
    pub(super) fn on_event(&mut self, readable: bool, writable: bool, context: &mut Context) -> u64 {
        if writable {
            self.connection.on_writable();
        }
        if !readable || self.is_broken {
            return 0;
        }
        let mut settled = 0;
        let mut buffer = std::mem::take(&mut context.buffer);
        let unanswered = &mut self.unanswered;
        let received = self.connection.answers(&mut buffer, |answer| {
            let request = unanswered.pop_front().ok_or("an answer to nothing")?;
            settled += request.records();
            settle(answer, &request, context)
        });
        context.buffer = buffer;
        match received {
            Ok(()) => settled,
            Err(why) => settled + self.on_broken(&why, context),
        }
    }

    /// Counts everything that waits for this connection as failed.
    fn on_broken(&mut self, why: &str, context: &mut Context) -> u64 {
        if self.is_broken {
            return 0;
        }
        self.is_broken = true;
        self.ready_bytes = 0;
        self.connection.abandon();
        let waiting: u64 = self.ready.drain(..).map(|batch| u64::from(batch.account.records)).sum();
        let sent: u64 = self.unanswered.drain(..).map(|request| request.records()).sum();
        // A connection that broke while idle is news all the same.
        context.tally.fail((waiting + sent).max(1), || why.to_owned());
        waiting + sent
    }

    /// Counts the latency, so far, of what was never answered.
    pub(super) fn give_up(&self, now_ns: u64, context: &mut Context) {
        let waiting = self.ready.iter().map(|batch| &batch.account);
        for account in self.unanswered.iter().flat_map(|request| &request.accounts).chain(waiting) {
            account.due.count(account.records, now_ns, &mut context.tally.latencies);
        }
    }
}

/// The frame of a request.
fn frame(
    context: &Context,
    correlation_id: i32,
    accounts: &[Account],
    bodies: Vec<([u8; BATCH_HEADER_BYTES], Bytes)>,
) -> Frame {
    let plan = &context.plan;
    let mut topic_data: Vec<TopicProduceData<'_>> = Vec::with_capacity(1);
    let mut topic_last = None;
    for account in accounts {
        let slot = plan.slots[size(account.slot)];
        if topic_last != Some(slot.topic) {
            let name = plan.topics[size(slot.topic)].as_str().into();
            topic_data.push(TopicProduceData { name, ..TopicProduceData::default() });
            topic_last = Some(slot.topic);
        }
        let records = Records::Hole(u32::try_from(account.batch_bytes).expect("a batch is below 2 GiB"));
        let topic = topic_data.last_mut().expect("it was pushed above");
        topic.partition_data.push(PartitionProduceData { index: slot.partition, records });
    }
    let acks = match plan.workload.acks {
        Acks::None => 0,
        Acks::Leader => 1,
        Acks::All => -1,
    };
    let request = ProduceRequest { transactional_id: None, acks, timeout_ms: REQUEST_TIMEOUT_MS, topic_data };
    Frame::with_batches(request_frame(correlation_id, Some(CLIENT_ID), context.produce_version, &request), bodies)
}

/// Counts what the answer to a request says of its batches.
fn settle(answer: &[u8], request: &Request, context: &mut Context) -> Result<(), String> {
    let now_ns = context.plan.clock.now();
    let version = context.produce_version;
    let mut body = Reader::new(answer);
    let header = ResponseHeader::decode(&mut body, ApiKey::Produce, version).map_err(|error| error.to_string())?;
    if header.correlation_id != request.correlation_id {
        return Err("answers come in another order than their requests".to_owned());
    }
    let response = ProduceResponse::decode(&mut body, version).map_err(|error| error.to_string())?;
    context.tally.produced.requests += 1;
    let (mut next, mut answered) = (0, 0);
    for topic in &response.responses {
        let index = context.plan.topics.iter().position(|name| *name == topic.name);
        let index = index.ok_or("an answer is about a foreign topic")?;
        for result in &topic.partition_responses {
            let slot = context.plan.slot_of(index, result.index).ok_or("an answer is about a foreign partition")?;
            let account = find(&request.accounts, &mut next, slot).ok_or("an answer is about another partition")?;
            answered += 1;
            if result.error_code == 0 {
                context.acknowledge(account, now_ns);
            } else {
                let words = result.error_message.as_deref().unwrap_or_default();
                let name = error_name(result.error_code);
                let why = || format!("produce to partition {}: {name} {words}", result.index);
                context.tally.fail(u64::from(account.records), why);
            }
        }
    }
    if answered == request.accounts.len() { Ok(()) } else { Err("an answer lacks a partition".to_owned()) }
}

/// The account of a partition: the next one where the server keeps the order, found by search where it does not.
fn find<'a>(accounts: &'a [Account], next: &mut usize, slot: u32) -> Option<&'a Account> {
    if accounts.get(*next).is_none_or(|account| account.slot != slot) {
        *next = accounts.binary_search_by_key(&slot, |account| account.slot).ok()?;
    }
    *next += 1;
    accounts.get(*next - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::generator::batch::{Due, account};

    #[test]
    fn accounts_are_found_in_any_order() {
        let accounts: Vec<Account> = [3, 5, 9].map(|slot| account(slot, 1, 1, 1, Due::Together(0))).into();
        let mut next = 0;
        for slot in [3, 5, 9, 5, 3, 9] {
            assert_eq!(find(&accounts, &mut next, slot).unwrap().slot, slot);
        }
        assert!(find(&accounts, &mut next, 4).is_none());
    }
}
