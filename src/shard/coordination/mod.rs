//! The group coordinators of one shard: one for each partition of `__consumer_offsets` that it leads.
//!
//! `coordinator` decides and knows no disk; this drives it. A coordinator is made when an image names its partition, loads
//! by replaying that partition ([`load`]), and then takes steps: for requests ([`requests`]), for timers ([`timers`]), for new
//! metadata. A step changes the state at once; its records are queued ([`writer`]) as part of a batch, in the order of the
//! steps, and what it answers leaves when the batch is durable, whatever the durability of other topics.
//!
//! An answer without records of its own, but which may tell of state that is not durable yet, waits for the newest batch of
//! its coordinator. Heartbeats of classic members promise nothing and are answered at once.
//!
//! Invariants: a step is taken without an await in it, so the order of batches is the order of steps; every ticket is
//! answered once, with an error when its coordinator fails first.

mod load;
mod requests;
mod timers;
mod writer;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use self::writer::{Batch, Follower};
use super::Shard;
use super::mesh::ReplySender;
use super::message::GroupReply;
use super::partition::Partition;
use crate::cluster::image::MetadataImage;
use crate::cluster::topic_name::CONSUMER_OFFSETS;
use crate::config::BrokerConfig;
use crate::coordinator::config::GroupConfig;
use crate::coordinator::{Answer, Context, Coordinator, Step, Ticket};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::wire;
use crate::runtime::Runtime;
use crate::store::notify::Bell;
use crate::types::{MonotonicUs, NodeId, StableMap, TopicId};

pub use self::requests::GroupAnswer;

/// The coordinators of one shard, and who waits for them.
pub struct Coordination {
    config: Rc<GroupConfig>,
    /// By index of the partition.
    seats: RefCell<BTreeMap<i32, Rc<Seat>>>,
    /// JoinGroups and SyncGroups that wait.
    waiting: RefCell<StableMap<u64, Waiting>>,
    tickets: Cell<u64>,
    /// Seats with batches that the writer has not seen.
    dirty: RefCell<Vec<Rc<Seat>>>,
    /// Bytes in batches that are not appended yet.
    queued_bytes: Cell<usize>,
    /// There is something to append.
    work: Bell,
    /// Something was appended.
    room: Bell,
    /// A timer is due before `next_timer`.
    rearmed: Bell,
    /// When the timer task will look next.
    next_timer: Cell<Option<MonotonicUs>>,
    is_stopped: Cell<bool>,
    /// The store has no room for what is queued.
    is_full: Cell<bool>,
    /// Coordinators that are being loaded.
    loads: Cell<usize>,
    /// A load ended, or all of them are to.
    load_ended: Bell,
}

/// A request that waits for a ticket.
struct Waiting {
    /// Version of its response.
    version: i16,
    reply: ReplySender<GroupReply>,
}

/// The place of one coordinator: its partition, what it is, and what it has not made durable.
struct Seat {
    index: i32,
    partition: Rc<Partition>,
    state: RefCell<State>,
    /// Not appended yet, oldest first; the last one still takes records.
    queue: RefCell<std::collections::VecDeque<Rc<Batch>>>,
    /// The newest batch that is not durable yet.
    newest: RefCell<Option<Rc<Batch>>>,
    /// Topics that were deleted while it loaded.
    missed: RefCell<Vec<Arc<str>>>,
}

enum State {
    Loading,
    Serving(Box<Coordinator>),
    /// It answers with this error until the next start, or the next image that names its partition.
    Failed(ErrorCode),
}

impl Coordination {
    /// No coordinators yet.
    pub fn new(config: &BrokerConfig) -> Coordination {
        Coordination {
            config: Rc::new(group_config(config)),
            seats: RefCell::default(),
            waiting: RefCell::default(),
            tickets: Cell::new(0),
            dirty: RefCell::default(),
            queued_bytes: Cell::new(0),
            work: Bell::default(),
            room: Bell::default(),
            rearmed: Bell::default(),
            next_timer: Cell::new(None),
            is_stopped: Cell::new(false),
            is_full: Cell::new(false),
            loads: Cell::new(0),
            load_ended: Bell::default(),
        }
    }

    fn seat(&self, index: i32) -> Option<Rc<Seat>> {
        self.seats.borrow().get(&index).cloned()
    }

    fn all_seats(&self) -> Vec<Rc<Seat>> {
        self.seats.borrow().values().cloned().collect()
    }

    /// Number of groups of all coordinators.
    pub fn group_count(&self) -> usize {
        let count = |seat: &Rc<Seat>| match &*seat.state.borrow() {
            State::Serving(coordinator) => coordinator.group_count(),
            State::Loading | State::Failed(_) => 0,
        };
        self.seats.borrow().values().map(count).sum()
    }

    fn next_ticket(&self, version: i16, reply: ReplySender<GroupReply>) -> Ticket {
        let number = self.tickets.get();
        self.tickets.set(number + 1);
        self.waiting.borrow_mut().insert(number, Waiting { version, reply });
        Ticket(number)
    }

    /// Hands a waiting request its answer, or the error that comes in its place.
    fn deliver(&self, ticket: Ticket, answer: Result<Answer, ErrorCode>) {
        let waiting = self.waiting.borrow_mut().remove(&ticket.0).expect("every ticket is answered once");
        waiting.reply.send(match answer {
            Ok(Answer::Join(response)) => GroupReply::Body(wire::body(&response, waiting.version)),
            Ok(Answer::Sync(response)) => GroupReply::Body(wire::body(&response, waiting.version)),
            Err(error) => GroupReply::Refused(error),
        });
    }
}

impl<R: Runtime> Shard<R> {
    /// Starts what runs beside requests: the task that appends, and the one for timers.
    pub(super) fn start_coordination(self: &Rc<Self>) {
        writer::start(self);
        timers::start(self);
    }

    /// Nothing more is coordinated here: whoever waits in a group is sent away. Called when a shutdown begins, since joins may
    /// wait longer than it may take.
    pub fn stop_coordination(&self) {
        self.coordination.is_stopped.set(true);
        for seat in self.coordination.all_seats() {
            // Kafka's coordinator is not available once its shutdown has begun, and joins that wait are told that it is none.
            self.fail_seat(&seat, ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator);
        }
        self.coordination.work.ring();
        self.coordination.rearmed.ring();
        self.coordination.load_ended.ring();
    }

    /// Takes in a new image: coordinators for partitions that are led here from now on, none for those of a deleted topic, and
    /// to the others the news.
    pub(super) fn coordinate(self: &Rc<Self>, previous: &MetadataImage, removed: impl Iterator<Item = TopicId>) {
        if self.coordination.is_stopped.get() {
            return;
        }
        let image = self.image();
        let topic = image.topic(CONSUMER_OFFSETS);
        for seat in self.coordination.all_seats() {
            if topic.is_none_or(|topic| topic.id() != seat.partition.topic) {
                self.coordination.seats.borrow_mut().remove(&seat.index);
                self.fail_seat(&seat, ErrorCode::NotCoordinator, ErrorCode::NotCoordinator);
            }
        }
        let deleted: Vec<Arc<str>> =
            removed.filter_map(|id| previous.topic_by_id(id).map(|topic| Arc::clone(topic.name()))).collect();
        for seat in self.coordination.all_seats() {
            self.tell_metadata(&seat, &deleted);
        }
        let Some(topic) = topic else { return };
        let node = NodeId::of_shard(self.id);
        for (index, _) in topic.partitions().filter(|(_, partition)| partition.leader == Some(node)) {
            let index = index.value();
            if self.coordination.seat(index).is_some() {
                continue;
            }
            // A store that has failed cannot create the log: then there is no coordinator either.
            let Some(partition) = self.partition(topic.id(), index) else { continue };
            let seat = Rc::new(Seat {
                index,
                partition,
                state: RefCell::new(State::Loading),
                queue: RefCell::default(),
                newest: RefCell::default(),
                missed: RefCell::default(),
            });
            self.coordination.seats.borrow_mut().insert(index, Rc::clone(&seat));
            load::start(self, seat);
        }
    }

    fn tell_metadata(self: &Rc<Self>, seat: &Rc<Seat>, deleted: &[Arc<str>]) {
        let image = self.image();
        let step = match &mut *seat.state.borrow_mut() {
            State::Loading => {
                seat.missed.borrow_mut().extend_from_slice(deleted);
                return;
            }
            State::Failed(_) => return,
            State::Serving(coordinator) => {
                let names: Vec<&str> = deleted.iter().map(|name| &**name).collect();
                coordinator.on_metadata(self.context(&image), &names)
            }
        };
        self.absorb_alone(seat, step);
    }

    /// The world as a step sees it.
    fn context<'a>(&self, image: &'a MetadataImage) -> Context<'a> {
        let bits = (u128::from(self.runtime.random()) << 64) | u128::from(self.runtime.random());
        Context { now: self.runtime.now(), wall: self.runtime.wall_clock(), image, random: bits.to_be_bytes() }
    }

    /// Takes in what follows from a step: queues its records, has its answers follow them, and looks at the timers.
    ///
    /// Errors: the records cannot be kept; then the coordinator has ended, and all who wait in it have been told.
    fn absorb(self: &Rc<Self>, seat: &Rc<Seat>, step: Step) -> Result<(), ErrorCode> {
        let kept = if step.records.is_empty() { Ok(()) } else { self.enqueue(seat, &step.records) };
        for (ticket, answer) in step.answers {
            let follower = Follower::Waiting(ticket, Box::new(answer));
            match kept {
                Ok(()) => self.follow(seat, follower),
                Err(error) => self.complete(follower, Err(error)),
            }
        }
        self.arm(seat);
        kept
    }

    /// The same for a step that nobody asked for.
    fn absorb_alone(self: &Rc<Self>, seat: &Rc<Seat>, step: Step) {
        // Who waited has been told of an error, and the log of the broker too.
        let _ = self.absorb(seat, step);
    }

    /// Has something wait for everything that the coordinator has done so far.
    fn follow(&self, seat: &Seat, follower: Follower) {
        match &*seat.newest.borrow() {
            #[cfg(corelane_defect = "sync_answered_too_early")]
            Some(_) if matches!(follower, Follower::Waiting(..)) => self.complete(follower, Ok(())),
            Some(batch) => batch.follow(follower),
            None => self.complete(follower, Ok(())),
        }
    }

    fn complete(&self, follower: Follower, outcome: Result<(), ErrorCode>) {
        match follower {
            Follower::Waiting(ticket, answer) => self.coordination.deliver(ticket, outcome.map(|()| *answer)),
            Follower::Request(reply) => reply.send(outcome),
        }
    }

    /// The coordinator ends: later requests get `error`, those that wait in a group get `for_waiting`.
    fn fail_seat(&self, seat: &Seat, error: ErrorCode, for_waiting: ErrorCode) {
        let before = std::mem::replace(&mut *seat.state.borrow_mut(), State::Failed(error));
        if let State::Serving(mut coordinator) = before {
            for (ticket, answer) in coordinator.fail(for_waiting) {
                self.coordination.deliver(ticket, Ok(answer));
            }
        }
    }
}

/// What groups need of the broker's settings.
fn group_config(config: &BrokerConfig) -> GroupConfig {
    GroupConfig {
        session_timeout_min_ms: config.group_min_session_timeout_ms,
        session_timeout_max_ms: config.group_max_session_timeout_ms,
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        group_size_max: config.group_max_size,
        offset_metadata_bytes_max: config.offset_metadata_max_bytes,
        offsets_retention_ms: config.offsets_retention_ms,
        offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
        consumer_session_timeout_ms: config.group_consumer_session_timeout_ms,
        consumer_heartbeat_interval_ms: config.group_consumer_heartbeat_interval_ms,
        consumer_group_size_max: config.group_consumer_max_size,
    }
}

#[cfg(test)]
mod tests;
