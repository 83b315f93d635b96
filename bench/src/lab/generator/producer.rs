//! One producer: takes up records when they are due, puts them into batches as Kafka's client does, sends, and accounts
//! for the answers.

use std::collections::VecDeque;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::{ResponseHeader, request_frame};
use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::wire::{Reader, Records};

use super::batch::{Account, Batch, Origin};
use super::bounds::READY_BATCHES_MAX;
use super::connection::{Connection, Frame};
use super::context::Context;
use super::plan::Plan;
use super::schedule::{Schedule, nanoseconds};
use super::topology::error_name;
use crate::client::CLIENT_ID;
use crate::lab::number::{narrow, size};
use crate::lab::workload::Acks;

/// How long the server may wait for replicas, in milliseconds, as Kafka's producer has it.
const REQUEST_TIMEOUT_MS: i32 = 30_000;

/// One producer with its connections.
pub(super) struct Producer {
    /// Its number among all producers.
    index: u32,
    /// None for a maximum.
    schedule: Option<Schedule>,
    linger_ns: u64,
    /// Records that were taken up.
    taken: u64,
    /// Records that were acknowledged or failed.
    settled: u64,
    /// Records of the batch that is being filled, at the end of what was taken up.
    open: u32,
    /// The partition that gets it.
    slot: u32,
    links: Vec<Link>,
    ready: usize,
    /// When `advance` is to be called, if nothing happens before.
    pub(super) wake_ns: u64,
    is_stopped: bool,
}

/// A producer's connection to one leader.
struct Link {
    connection: Connection,
    /// Batches that wait for their turn.
    ready: VecDeque<Batch>,
    /// Requests without an answer.
    unanswered: VecDeque<Request>,
    /// Partitions of this leader, for a maximum, and whose turn it is.
    slots: Vec<u32>,
    turn: usize,
    is_broken: bool,
}

struct Request {
    correlation_id: i32,
    batches: Vec<Account>,
}

impl Producer {
    /// Producer `index` of all, connected to every leader.
    pub(super) fn connect(plan: &Plan, index: u32) -> std::io::Result<Producer> {
        let workload = &plan.workload;
        let slots = narrow(plan.slots.len());
        // Producers begin at different partitions.
        let slot = u64::from(index) * u64::from(slots) / u64::from(workload.producers);
        let slot = u32::try_from(slot).expect("below the number of partitions");
        let links = plan
            .leaders
            .iter()
            .zip(0..)
            .map(|(address, leader)| Link::connect(plan, *address, leader, slot))
            .collect::<std::io::Result<Vec<Link>>>()?;
        Ok(Producer {
            index,
            schedule: None,
            linger_ns: nanoseconds(workload.linger_ms / 1e3),
            taken: 0,
            settled: 0,
            open: 0,
            slot,
            links,
            ready: 0,
            wake_ns: u64::MAX,
            is_stopped: false,
        })
    }

    /// Sets the moment at which the load begins.
    pub(super) fn start(&mut self, plan: &Plan, start_ns: u64) {
        let producers = plan.workload.producers;
        let schedule = |interval| Schedule::staggered(start_ns, interval, self.index, producers);
        self.schedule = plan.interval.map(schedule);
        self.wake_ns = start_ns;
    }

    /// Its connections, to be watched.
    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.links.iter().map(|link| &link.connection)
    }

    /// Records that are due and neither acknowledged nor failed.
    pub(super) fn unacknowledged(&self, now_ns: u64) -> u64 {
        let due = match &self.schedule {
            Some(schedule) if !self.is_stopped => schedule.due_by(now_ns),
            _ => self.taken,
        };
        due.saturating_sub(self.settled)
    }

    /// Whether every record that was taken up has its answer.
    pub(super) fn is_settled(&self) -> bool {
        self.settled == self.taken
    }

    /// Takes up no more than what is due by now, and nothing at all for a maximum.
    pub(super) fn stop(&mut self, now_ns: u64, context: &mut Context) {
        self.advance(now_ns, context);
        self.is_stopped = true;
        if self.open > 0 {
            self.close_batch(context);
        }
        self.send_ready(now_ns, context);
        self.wake_ns = u64::MAX;
    }

    /// Takes up what is due and sends what can be sent. Returns how many records were taken up.
    pub(super) fn advance(&mut self, now_ns: u64, context: &mut Context) -> u64 {
        let before = self.taken;
        match self.schedule {
            _ if self.is_stopped => {}
            Some(schedule) => self.take_up(schedule, now_ns, context),
            None => self.fill_up(now_ns, context),
        }
        self.send_ready(now_ns, context);
        self.taken - before
    }

    /// Moves due records into batches, and full or overdue batches to their connections.
    fn take_up(&mut self, schedule: Schedule, now_ns: u64, context: &mut Context) {
        let due = schedule.due_by(now_ns);
        let records_max = context.template.records_max();
        loop {
            if self.ready >= READY_BATCHES_MAX {
                // The next answer makes room.
                self.wake_ns = u64::MAX;
                return;
            }
            let count = (due - self.taken).min(u64::from(records_max - self.open));
            self.taken += count;
            self.open += u32::try_from(count).expect("a batch holds fewer");
            if self.open < records_max {
                break;
            }
            self.close_batch(context);
        }
        if self.open == 0 {
            self.wake_ns = schedule.due(self.taken);
            return;
        }
        let first = self.taken - u64::from(self.open);
        let full_ns = schedule.due(first + u64::from(records_max) - 1);
        let overdue_ns = schedule.due(first) + self.linger_ns;
        let is_free = self.links[self.leader(context)].is_free(context);
        if now_ns >= overdue_ns && is_free {
            self.close_batch(context);
            self.wake_ns = schedule.due(self.taken);
        } else {
            // A batch that cannot be sent goes on filling, as in Kafka's client.
            self.wake_ns = if is_free { full_ns.min(overdue_ns) } else { full_ns };
        }
    }

    /// Gives every connection as many full batches as it takes.
    fn fill_up(&mut self, now_ns: u64, context: &mut Context) {
        self.wake_ns = u64::MAX;
        let records = context.template.records_max();
        let in_flight_max = context.plan.workload.requests_in_flight;
        for link in &mut self.links {
            let room = size(in_flight_max).saturating_sub(link.unanswered.len());
            if link.is_broken || link.slots.is_empty() || !link.ready.is_empty() {
                continue;
            }
            let wanted = room * context.batches_per_request(link.slots.len());
            for _ in 0..wanted {
                let slot = link.slots[link.turn];
                link.turn = (link.turn + 1) % link.slots.len();
                link.ready.push_back(context.template.batch(slot, records, now_ns, Origin::NONE));
                self.taken += u64::from(records);
                self.ready += 1;
            }
        }
    }

    fn leader(&self, context: &Context) -> usize {
        size(context.plan.slots[size(self.slot)].leader)
    }

    /// Hands the open batch to its connection; the next goes to the next partition.
    fn close_batch(&mut self, context: &mut Context) {
        let leader = self.leader(context);
        let first = self.taken - u64::from(self.open);
        let due = self.schedule.map_or(0, |schedule| schedule.due(first));
        let batch = context.template.batch(self.slot, self.open, due, Origin::NONE);
        let link = &mut self.links[leader];
        if link.is_broken {
            self.settled += u64::from(self.open);
            context.tally.fail(u64::from(self.open), || format!("{} is not connected", link.connection.address()));
        } else {
            link.ready.push_back(batch);
            self.ready += 1;
        }
        self.open = 0;
        self.slot = (self.slot + 1) % narrow(context.plan.slots.len());
    }

    fn send_ready(&mut self, now_ns: u64, context: &mut Context) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            while !link.ready.is_empty() && link.is_free(context) {
                self.ready -= link.send_request(context);
            }
            self.flush(index, now_ns, context);
        }
    }

    fn flush(&mut self, index: usize, now_ns: u64, context: &mut Context) {
        let link = &mut self.links[index];
        if link.is_broken {
            return;
        }
        match link.connection.flush() {
            Ok(frames) if context.plan.workload.acks == Acks::None => {
                for _ in 0..frames {
                    let request = link.unanswered.pop_front().expect("each frame is one request");
                    for account in request.batches {
                        self.settled += u64::from(account.records);
                        context.acknowledge(&account, now_ns);
                    }
                    context.tally.produced.requests += 1;
                }
            }
            Ok(_) => {}
            Err(error) => self.on_broken(index, &error.to_string(), context),
        }
    }

    /// The kernel has news of the connection to leader `index`.
    pub(super) fn on_event(&mut self, index: usize, readable: bool, writable: bool, context: &mut Context) {
        let link = &mut self.links[index];
        if writable {
            link.connection.on_writable();
        }
        if readable && !link.is_broken {
            let received = link.receive(context);
            match received {
                Ok(settled) => self.settled += settled,
                Err((settled, why)) => {
                    self.settled += settled;
                    self.on_broken(index, &why, context);
                }
            }
        }
    }

    /// Counts everything that waits for this connection as failed.
    fn on_broken(&mut self, index: usize, why: &str, context: &mut Context) {
        let link = &mut self.links[index];
        link.is_broken = true;
        self.ready -= link.ready.len();
        let waiting = link.ready.drain(..).map(|batch| batch.account);
        let sent = link.unanswered.drain(..).flat_map(|request| request.batches);
        let lost: u64 = waiting.chain(sent).map(|account| u64::from(account.records)).sum();
        self.settled += lost;
        // A connection that broke while idle is news all the same.
        context.tally.fail(lost.max(1), || why.to_owned());
    }

    /// Counts the latency, so far, of what was never answered: it is no shorter than that.
    pub(super) fn give_up(&mut self, now_ns: u64, context: &mut Context) {
        for link in &self.links {
            for account in link.unanswered.iter().flat_map(|request| &request.batches) {
                account.due.count(account.records, now_ns, &mut context.tally.latencies);
            }
        }
    }
}

impl Link {
    fn connect(plan: &Plan, address: std::net::SocketAddr, leader: u32, first: u32) -> std::io::Result<Link> {
        let own = |slot: &u32| plan.slots[size(*slot)].leader == leader;
        let slots: Vec<u32> = (0..narrow(plan.slots.len())).filter(own).collect();
        let turn = slots.iter().position(|slot| *slot >= first).unwrap_or(0);
        Ok(Link {
            connection: Connection::open(address)?,
            ready: VecDeque::new(),
            unanswered: VecDeque::new(),
            slots,
            turn,
            is_broken: false,
        })
    }

    /// Whether another request may be sent.
    fn is_free(&self, context: &Context) -> bool {
        self.unanswered.len() < size(context.plan.workload.requests_in_flight)
    }

    /// Makes one request of batches that are ready, at most one for each partition. Returns how many.
    fn send_request(&mut self, context: &mut Context) -> usize {
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
        let count = batches.len();
        // By partition, so that those of one topic stand together and an answer's parts are found.
        batches.sort_unstable_by_key(|batch| batch.account.slot);
        let (accounts, bodies) =
            batches.into_iter().map(|batch| (batch.account, (batch.header, batch.records))).unzip::<_, _, Vec<_>, _>();
        let correlation_id = self.connection.next_correlation_id();
        self.connection.push(frame(context, correlation_id, &accounts, bodies));
        self.unanswered.push_back(Request { correlation_id, batches: accounts });
        count
    }

    /// Reads answers. Returns how many records they settle, also if something went wrong.
    fn receive(&mut self, context: &mut Context) -> Result<u64, (u64, String)> {
        let mut settled = 0;
        let mut buffer = std::mem::take(&mut context.buffer);
        let unanswered = &mut self.unanswered;
        let received = self.connection.answers(&mut buffer, |answer| {
            let request = unanswered.pop_front().ok_or("an answer to nothing")?;
            settled += request.batches.iter().map(|account| u64::from(account.records)).sum::<u64>();
            let settlement = settle(answer, &request, context);
            settlement.inspect_err(|why| {
                let lost = request.batches.iter().map(|account| u64::from(account.records)).sum();
                context.tally.fail(lost, || why.clone());
            })
        });
        context.buffer = buffer;
        received.map(|()| settled).map_err(|why| (settled, why))
    }
}

/// The frame of a request.
fn frame(
    context: &Context,
    correlation_id: i32,
    accounts: &[Account],
    bodies: Vec<([u8; corelane::protocol::record_batch::BATCH_HEADER_BYTES], bytes::Bytes)>,
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
    let version = context.produce_version;
    let mut body = Reader::new(answer);
    let header = ResponseHeader::decode(&mut body, ApiKey::Produce, version).map_err(|error| error.to_string())?;
    if header.correlation_id != request.correlation_id {
        return Err("answers come in another order than their requests".to_owned());
    }
    let response = ProduceResponse::decode(&mut body, version).map_err(|error| error.to_string())?;
    context.tally.produced.requests += 1;
    let now_ns = context.plan.clock.now();
    let mut next = 0;
    let mut answered = 0;
    for topic in &response.responses {
        let position = context.plan.topics.iter().position(|name| *name == topic.name);
        let topic_index = position.ok_or("an answer is about a foreign topic")?;
        for result in &topic.partition_responses {
            let slot =
                context.plan.slot_of(topic_index, result.index).ok_or("an answer is about a foreign partition")?;
            let account = find(&request.batches, &mut next, slot).ok_or("an answer is about a partition not asked")?;
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
    if answered == request.batches.len() { Ok(()) } else { Err("an answer lacks a partition".to_owned()) }
}

/// The account of a partition: the next one where the server keeps the order, found by search where it does not.
fn find<'a>(accounts: &'a [Account], next: &mut usize, slot: u32) -> Option<&'a Account> {
    if accounts.get(*next).is_none_or(|account| account.slot != slot) {
        *next = accounts.binary_search_by_key(&slot, |account| account.slot).ok()?;
    }
    *next += 1;
    accounts.get(*next - 1)
}
