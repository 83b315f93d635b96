//! A consumer's connection to one leader: one fetch after the other, each waiting at the server for something to read.

use std::collections::HashMap;
use std::net::SocketAddr;

use corelane::protocol::compression::Codec;
use corelane::protocol::frame::request_frame;
use corelane::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use corelane::protocol::record_batch::BatchHeader;

use super::position::{Position, Purpose};
use super::stream::{FetchStream, Item};
use crate::client::CLIENT_ID;
use crate::lab::generator::bounds::FETCH_PAUSE_NS;
use crate::lab::generator::clock::since_timestamp;
use crate::lab::generator::connection::{Connection, Frame};
use crate::lab::generator::context::Context;
use crate::lab::generator::meter::Tally;
use crate::lab::generator::plan::Plan;
use crate::lab::generator::topology::error_name;
use crate::lab::number::{signed, size};
use crate::lab::result::Flow;

/// First version of Fetch with sessions (KIP-227).
const SESSIONS_SINCE: i16 = 7;
/// FETCH_SESSION_ID_NOT_FOUND and INVALID_FETCH_SESSION_EPOCH: begin a new session.
const SESSION_ERRORS: [i16; 2] = [70, 71];

/// A connection.
pub(super) struct FetchLink {
    connection: Connection,
    stream: FetchStream,
    state: State,
    /// Whether a fetch is unanswered.
    is_waiting: bool,
    is_broken: bool,
    /// When the next fetch may be sent, after one that failed.
    pub(super) wake_ns: u64,
}

/// What is known between answers.
struct State {
    version: i16,
    purpose: Purpose,
    positions: Vec<Position>,
    /// Index into `positions` by partition.
    by_slot: HashMap<u32, usize>,
    /// Positions that the session does not know yet.
    changed: Vec<usize>,
    /// 0 for none.
    session_id: i32,
    session_epoch: i32,
    /// What is being read.
    cursor: Cursor,
}

/// Where in an answer we are.
#[derive(Default)]
struct Cursor {
    topic: Option<usize>,
    position: Option<usize>,
    base_timestamp: i64,
    /// Whether the batch's records count one by one as they come.
    is_walked: bool,
    has_failed: bool,
}

impl FetchLink {
    pub(super) fn connect(
        address: SocketAddr,
        version: i16,
        purpose: Purpose,
        positions: Vec<Position>,
    ) -> std::io::Result<FetchLink> {
        let by_slot = positions.iter().zip(0..).map(|(position, index)| (position.slot, index)).collect();
        let changed = (0..positions.len()).collect();
        let state = State {
            version,
            purpose,
            positions,
            by_slot,
            changed,
            session_id: 0,
            session_epoch: 0,
            cursor: Cursor::default(),
        };
        Ok(FetchLink {
            connection: Connection::open(address)?,
            stream: FetchStream::new(version),
            state,
            is_waiting: false,
            is_broken: false,
            wake_ns: 0,
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn positions(&self) -> &[Position] {
        &self.state.positions
    }

    /// Sends the next fetch, if it is time for one.
    pub(super) fn advance(&mut self, now_ns: u64, context: &mut Context) {
        if self.is_broken {
            return;
        }
        if !self.is_waiting && now_ns >= self.wake_ns {
            self.wake_ns = u64::MAX;
            self.is_waiting = true;
            let correlation_id = self.connection.next_correlation_id();
            self.connection.push(self.state.request(correlation_id, &context.plan));
        }
        if let Err(error) = self.connection.flush() {
            self.on_broken(&error.to_string(), context);
        }
    }

    /// The kernel has news.
    pub(super) fn on_event(&mut self, readable: bool, writable: bool, context: &mut Context) {
        if writable {
            self.connection.on_writable();
        }
        if !readable || self.is_broken {
            return;
        }
        let mut buffer = std::mem::take(&mut context.buffer);
        let (stream, state, is_waiting, wake_ns) =
            (&mut self.stream, &mut self.state, &mut self.is_waiting, &mut self.wake_ns);
        let received = self.connection.receive(&mut buffer, |bytes| {
            let now_ns = context.plan.clock.now();
            stream.feed(bytes, |item| {
                let is_end = item == Item::End;
                state.on_item(item, now_ns, &context.plan, &mut context.tally)?;
                if is_end {
                    *is_waiting = false;
                    *wake_ns = if state.cursor.has_failed { now_ns + FETCH_PAUSE_NS } else { now_ns };
                }
                Ok(())
            })
        });
        context.buffer = buffer;
        if let Err(why) = received {
            self.on_broken(&why, context);
        }
    }

    fn on_broken(&mut self, why: &str, context: &mut Context) {
        self.is_broken = true;
        self.wake_ns = u64::MAX;
        self.connection.abandon();
        context.tally.fail(1, || format!("fetch: {why}"));
    }
}

impl State {
    /// A fetch of what the session does not know, or of everything.
    fn request(&mut self, correlation_id: i32, plan: &Plan) -> Frame {
        let workload = &plan.workload;
        let mut topics: Vec<FetchTopic<'_>> = Vec::new();
        let mut topic_last = None;
        self.changed.sort_unstable();
        for index in self.changed.drain(..) {
            let position = &mut self.positions[index];
            position.is_changed = false;
            let slot = plan.slots[size(position.slot)];
            if topic_last != Some(slot.topic) {
                let topic = plan.topics[size(slot.topic)].as_str().into();
                topics.push(FetchTopic { topic, ..FetchTopic::default() });
                topic_last = Some(slot.topic);
            }
            let topic = topics.last_mut().expect("it was pushed above");
            topic.partitions.push(FetchPartition {
                partition: slot.partition,
                fetch_offset: position.offset,
                partition_max_bytes: signed(size(workload.partition_fetch_bytes)),
                ..FetchPartition::default()
            });
        }
        let has_sessions = self.version >= SESSIONS_SINCE;
        let request = FetchRequest {
            max_wait_ms: signed(size(workload.fetch_wait_ms)),
            min_bytes: signed(size(workload.fetch_min_bytes)),
            max_bytes: signed(size(workload.fetch_bytes)),
            session_id: self.session_id,
            session_epoch: if has_sessions { self.session_epoch } else { -1 },
            topics,
            ..FetchRequest::default()
        };
        Frame::plain(request_frame(correlation_id, Some(CLIENT_ID), self.version, &request))
    }

    fn on_item(&mut self, item: Item<'_>, now_ns: u64, plan: &Plan, tally: &mut Tally) -> Result<(), String> {
        match item {
            Item::Head { error_code, session_id, .. } => self.on_head(error_code, session_id, tally),
            Item::Topic(name) => {
                self.cursor.topic = plan.topics.iter().position(|topic| topic.as_bytes() == name);
            }
            Item::Partition { index, error_code } => {
                let slot = self.cursor.topic.and_then(|topic| plan.slot_of(topic, index));
                let slot = slot.ok_or("a fetch answer is about a foreign partition")?;
                self.cursor.position = self.by_slot.get(&slot).copied();
                if error_code != 0 {
                    self.cursor.has_failed = true;
                    tally.fail(1, || format!("fetch of partition {index}: {}", error_name(error_code)));
                    // The session has forgotten nothing, but an answer without an error may need to be asked for.
                    self.mark();
                }
            }
            Item::Batch { header, bytes } => self.on_batch(&header, bytes, now_ns, plan, tally),
            Item::Record { after, payload_bytes } => {
                if self.cursor.is_walked {
                    self.flow(tally).records += 1;
                    self.flow(tally).bytes += payload_bytes;
                    self.arrived(self.cursor.base_timestamp.wrapping_add(after), now_ns, tally);
                }
            }
            Item::End => {
                self.flow(tally).requests += 1;
                if self.session_id == 0 || self.session_epoch == 0 {
                    self.renew();
                }
            }
        }
        Ok(())
    }

    fn on_head(&mut self, error_code: i16, session_id: i32, tally: &mut Tally) {
        self.cursor = Cursor::default();
        if error_code == 0 {
            self.session_id = session_id;
            // The epoch after the greatest is 1.
            self.session_epoch = if session_id == 0 { 0 } else { self.session_epoch.checked_add(1).unwrap_or(1) };
            return;
        }
        self.session_id = 0;
        self.session_epoch = 0;
        if !SESSION_ERRORS.contains(&error_code) {
            self.cursor.has_failed = true;
            tally.fail(1, || format!("fetch: {}", error_name(error_code)));
        }
    }

    /// Without a session everything is asked for again.
    fn renew(&mut self) {
        for index in 0..self.positions.len() {
            self.cursor.position = Some(index);
            self.mark();
        }
    }

    /// Notes that the session does not know the position that is being read.
    fn mark(&mut self) {
        let Some(index) = self.cursor.position else { return };
        if !std::mem::replace(&mut self.positions[index].is_changed, true) {
            self.changed.push(index);
        }
    }

    fn on_batch(&mut self, header: &BatchHeader, bytes: u64, now_ns: u64, plan: &Plan, tally: &mut Tally) {
        self.cursor.is_walked = false;
        let Some(index) = self.cursor.position else { return };
        let position = &mut self.positions[index];
        let next = header.last_offset().value().wrapping_add(1);
        if next <= position.offset || header.is_control() {
            return;
        }
        position.advance(next);
        self.mark();
        self.flow(tally).batch_bytes += bytes;
        self.cursor.base_timestamp = header.base_timestamp.value();
        if header.codec() == Some(Codec::None) {
            self.cursor.is_walked = true;
            return;
        }
        let records = u64::try_from(header.record_count).unwrap_or(0);
        self.flow(tally).records += records;
        self.flow(tally).bytes += plan.payload_bytes(records);
        self.arrived_evenly(header, now_ns, tally);
    }

    /// Counts the end-to-end latency of a batch whose records cannot be seen: its first and last time are known.
    fn arrived_evenly(&self, header: &BatchHeader, now_ns: u64, tally: &mut Tally) {
        let first = header.base_timestamp.value();
        let span = header.max_timestamp.value().saturating_sub(first).max(0);
        let gaps = i64::from(header.record_count - 1).max(1);
        for index in 0..i64::from(header.record_count) {
            self.arrived(first.saturating_add(span.saturating_mul(index) / gaps), now_ns, tally);
        }
    }

    fn arrived(&self, sent: i64, now_ns: u64, tally: &mut Tally) {
        if self.purpose == Purpose::Live
            && let Some(us) = since_timestamp(sent, now_ns)
        {
            tally.end_to_end.saturating_record(us.max(1));
        }
    }

    fn flow<'a>(&self, tally: &'a mut Tally) -> &'a mut Flow {
        match self.purpose {
            Purpose::Live => &mut tally.consumed,
            Purpose::CatchUp => &mut tally.caught_up,
        }
    }
}
