//! A member of a classic group, Kafka's `ClassicGroupMember`.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::coordinator::records::GroupMember;
use crate::coordinator::{Caller, Ticket};
use crate::protocol::messages::describe_groups::DescribedGroupMember;
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use crate::types::MonotonicUs;

/// What a member costs besides its texts, in bytes: itself, its place in the table, the heads of allocations.
const MEMBER_BYTES: usize = 384;
/// The same of a protocol.
const PROTOCOL_BYTES: usize = 48;

/// A request that waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Waiting {
    /// Its name.
    pub(super) ticket: Ticket,
    /// Version of the request.
    pub(super) version: i16,
}

/// One way of assigning that a member can follow.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Protocol {
    pub(super) name: Rc<str>,
    pub(super) metadata: Box<[u8]>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: Rc<str>,
    pub(super) instance_id: Option<Rc<str>>,
    pub(super) client_id: Box<str>,
    pub(super) client_host: Box<str>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    /// Preferred first, each name once.
    pub(super) protocols: Box<[Protocol]>,
    pub(super) assignment: Box<[u8]>,
    /// A JoinGroup that waits for the next generation.
    pub(super) join: Option<Waiting>,
    /// A SyncGroup that waits for the leader's.
    pub(super) sync: Option<Waiting>,
    /// Has never been in a generation. Such a member may be gone even though its JoinGroup waits.
    pub(super) is_new: bool,
    /// Has not sent the SyncGroup of this generation.
    pub(super) is_sync_pending: bool,
    /// When its session ends. `None` after it ended while a request of it waited: the answer starts it again.
    pub(super) session_end: Option<MonotonicUs>,
}

impl Member {
    pub(super) fn new(id: Rc<str>, caller: Caller<'_>, request: &JoinGroupRequest<'_>) -> Member {
        Member {
            id,
            instance_id: request.group_instance_id.as_deref().map(Rc::from),
            client_id: caller.client_id.into(),
            client_host: caller.client_host.into(),
            rebalance_timeout_ms: rebalance_timeout_ms(caller, request),
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols(&request.protocols),
            assignment: Box::default(),
            join: None,
            sync: None,
            is_new: true,
            is_sync_pending: false,
            session_end: None,
        }
    }

    /// A member as the log tells it: only the protocol chosen is known of those it can follow.
    pub(super) fn replayed(record: &GroupMember, protocol: Rc<str>) -> Member {
        let rebalance_timeout_ms = match record.rebalance_timeout_ms {
            -1 => record.session_timeout_ms,
            known => known,
        };
        Member {
            id: record.member_id.as_str().into(),
            instance_id: record.group_instance_id.as_deref().map(Rc::from),
            client_id: record.client_id.as_str().into(),
            client_host: record.client_host.as_str().into(),
            rebalance_timeout_ms,
            session_timeout_ms: record.session_timeout_ms,
            protocols: Box::new([Protocol { name: protocol, metadata: record.subscription.as_slice().into() }]),
            assignment: record.assignment.as_slice().into(),
            join: None,
            sync: None,
            is_new: false,
            is_sync_pending: false,
            session_end: None,
        }
    }

    /// As a record, with what it told about `protocol`.
    pub(super) fn record(&self, protocol: &str) -> GroupMember {
        GroupMember {
            member_id: self.id.to_string(),
            group_instance_id: self.instance_id.as_deref().map(str::to_owned),
            client_id: self.client_id.to_string(),
            client_host: self.client_host.to_string(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol).to_vec(),
            assignment: self.assignment.to_vec(),
        }
    }

    /// For DescribeGroups; `protocol` is the one of a stable group.
    pub(super) fn describe(&self, protocol: Option<&str>) -> DescribedGroupMember<'static> {
        DescribedGroupMember {
            member_id: self.id.to_string().into(),
            group_instance_id: self.instance_id.as_deref().map(|id| id.to_owned().into()),
            client_id: self.client_id.to_string().into(),
            client_host: self.client_host.to_string().into(),
            member_metadata: protocol.map_or(Vec::new(), |protocol| self.metadata(protocol).to_vec()).into(),
            member_assignment: self.assignment.to_vec().into(),
        }
    }

    /// What it told about a protocol, nothing about one that it cannot follow.
    pub(super) fn metadata(&self, protocol: &str) -> &[u8] {
        self.protocols.iter().find(|known| &*known.name == protocol).map_or(&[], |known| &known.metadata)
    }

    /// Whether it says the same of its protocols as before, in the same order.
    pub(super) fn matches(&self, protocols: &[JoinGroupRequestProtocol<'_>]) -> bool {
        self.protocols.len() == protocols.len()
            && self
                .protocols
                .iter()
                .zip(protocols)
                .all(|(known, new)| *known.name == *new.name && *known.metadata == *new.metadata)
    }

    /// Whether it is alive although its session ended, since a request of it waits.
    pub(super) fn has_satisfied_heartbeat(&self) -> bool {
        !self.is_new && (self.join.is_some() || self.sync.is_some())
    }

    /// What it costs in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        MEMBER_BYTES
            + self.id.len()
            + self.instance_id.as_ref().map_or(0, |id| id.len())
            + self.client_id.len()
            + self.client_host.len()
            + self.assignment.len()
            + self
                .protocols
                .iter()
                .map(|protocol| PROTOCOL_BYTES + protocol.name.len() + protocol.metadata.len())
                .sum::<usize>()
    }
}

/// The first version of the request knows one timeout for both.
pub(super) fn rebalance_timeout_ms(caller: Caller<'_>, request: &JoinGroupRequest<'_>) -> i32 {
    match caller.version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    }
}

/// The protocols of a request; of two that share a name the first.
pub(super) fn protocols(request: &[JoinGroupRequestProtocol<'_>]) -> Box<[Protocol]> {
    let mut names = BTreeSet::new();
    request
        .iter()
        .filter(|protocol| names.insert(&*protocol.name))
        .map(|protocol| Protocol { name: Rc::from(&*protocol.name), metadata: Box::from(&*protocol.metadata) })
        .collect()
}
