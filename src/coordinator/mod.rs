//! Consumer groups and their offsets as state machines: a request in, records to append and answers out. No clock, no
//! disk, no socket: who drives a coordinator appends the records, and sends the answers once they are durable.
//!
//! One [`Coordinator`] is one partition of `__consumer_offsets`: every group whose name hashes to it. The rules are those of
//! Kafka's `GroupMetadataManager` (classic groups and KIP-848 groups) and `OffsetMetadataManager`.
//!
//! Invariants: state changes at once, answers leave only after the records of their step and of every step before are
//! durable; replaying the records gives the same groups; every ticket is answered exactly once.

pub mod assignor;
pub mod classic;
pub mod config;
pub mod consumer;
pub mod offsets;
pub mod records;
pub mod timers;

use std::collections::BTreeMap;
use std::rc::Rc;

use self::classic::ClassicGroup;
use self::config::GroupConfig;
use self::consumer::ConsumerGroup;
use self::offsets::Offsets;
use self::records::Record;
use self::timers::Timers;
use crate::cluster::image::MetadataImage;
use crate::config::group;
use crate::protocol::messages::join_group::JoinGroupResponse;
use crate::protocol::messages::sync_group::SyncGroupResponse;
use crate::types::{ConnectionId, MonotonicUs, TimestampMs};

/// Names a JoinGroup or SyncGroup that waits for its answer; chosen by who drives the coordinator, never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// What a step may know of the world.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The monotonic clock: timers.
    pub now: MonotonicUs,
    /// The wall clock: timestamps in records, retention of offsets.
    pub wall: TimestampMs,
    /// The metadata.
    pub image: &'a MetadataImage,
    /// Fresh random bits, for one id of a member.
    pub random: [u8; 16],
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Version of the request.
    pub version: i16,
    /// Name that the client gave itself, empty without one.
    pub client_id: &'a str,
    /// The client's address as Kafka writes it: a slash, then the address.
    pub client_host: &'a str,
    /// What the request came over.
    pub connection: ConnectionId,
}

/// The answer to a request that had to wait.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a JoinGroup.
    Join(JoinGroupResponse<'static>),
    /// To a SyncGroup.
    Sync(SyncGroupResponse<'static>),
}

/// What follows from one request or timer.
#[derive(Debug, Default)]
pub struct Step {
    /// To append as one batch, in this order.
    pub records: Vec<Record>,
    /// To send once the records are durable; of this request or of others that waited.
    pub answers: Vec<(Ticket, Answer)>,
}

/// A group of either protocol.
#[derive(Debug)]
pub enum Group {
    /// JoinGroup and SyncGroup; also a group that only commits offsets.
    Classic(ClassicGroup),
    /// KIP-848.
    Consumer(ConsumerGroup),
}

/// Everything a group needs to take a step.
pub struct Environment<'a> {
    /// The world.
    pub context: Context<'a>,
    /// The settings.
    pub config: &'a GroupConfig,
    /// When to come back.
    pub timers: &'a mut Timers,
    /// What follows.
    pub step: &'a mut Step,
}

impl Environment<'_> {
    /// Silence after which a member of a consumer group is gone, in milliseconds: the group's own setting, or the broker's.
    pub fn consumer_session_timeout_ms(&self, group_id: &str) -> i32 {
        let own = group::consumer_session_timeout_ms(self.context.image.group_configs(group_id));
        own.unwrap_or(self.config.consumer_session_timeout_ms)
    }

    /// How often members of a consumer group send heartbeats, in milliseconds: the group's own setting, or the broker's.
    pub fn consumer_heartbeat_interval_ms(&self, group_id: &str) -> i32 {
        let own = group::consumer_heartbeat_interval_ms(self.context.image.group_configs(group_id));
        #[cfg(corelane_defect = "group_settings_ignored")]
        let own = own.filter(|_| false);
        own.unwrap_or(self.config.consumer_heartbeat_interval_ms)
    }
}

/// The groups of one partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Coordinator {
    config: Rc<GroupConfig>,
    groups: BTreeMap<Rc<str>, Group>,
    offsets: Offsets,
    timers: Timers,
    /// What members of classic groups cost in memory, in bytes.
    member_bytes: usize,
}

impl Coordinator {
    /// A coordinator without groups: what a partition of `__consumer_offsets` adds up to before its first record.
    pub fn new(config: Rc<GroupConfig>) -> Coordinator {
        Coordinator {
            config,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            timers: Timers::default(),
            member_bytes: 0,
        }
    }

    /// Number of groups.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Applies one record of the log, oldest first. Called for the records of the log at start only, never for those of a
    /// step: a step has already changed the state.
    pub fn replay(&mut self, record: &Record) {
        match record {
            Record::Group(group, value) => self.replay_classic(group, value.as_ref()),
            Record::OffsetCommit(key, value) => self.replay_offset(key, value.as_ref()),
            Record::ConsumerGroup(..)
            | Record::ConsumerMember(..)
            | Record::ConsumerTargetMetadata(..)
            | Record::ConsumerTargetMember(..)
            | Record::ConsumerCurrent(..)
            | Record::ConsumerRegularExpression(..) => self.replay_consumer(record),
        }
    }

    /// Topics were deleted: their offsets go too, and KIP-848 groups that subscribe to them are assigned anew. Also called
    /// with nothing deleted, when the metadata changed in another way.
    pub fn on_metadata(&mut self, context: Context<'_>, deleted_topics: &[&str]) -> Step {
        let mut step = Step::default();
        self.on_topics_deleted(context, deleted_topics, &mut step);
        self.on_metadata_consumer();
        step
    }
}
