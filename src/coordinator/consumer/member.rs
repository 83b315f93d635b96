//! One member of a KIP-848 group: what it said of itself, where it stands between two assignments, and its deadlines.

use std::rc::Rc;

use crate::coordinator::assignor::Partitions;
use crate::coordinator::records::{ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue};
use crate::types::{ConnectionId, MonotonicUs};

/// Epoch of a member that leaves for good.
pub(super) const LEAVE: i32 = -1;
/// Epoch of a static member that leaves and will be back within its session timeout.
pub(super) const LEAVE_FOR_A_WHILE: i32 = -2;

/// How far a member is on the way to its target: Kafka's `MemberState`, with its numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum MemberState {
    /// It has all of its target.
    Stable,
    /// It still has to give up partitions.
    UnrevokedPartitions,
    /// It waits for partitions that others have to give up.
    UnreleasedPartitions,
    /// A newer broker knew the number.
    Unknown,
}

/// Where a member stands. A member that is new stands at epoch 0 with nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Standing {
    /// Its epoch.
    pub epoch: i32,
    /// The epoch before, in which its next heartbeat may still come: the answer with the new one may be lost.
    pub previous_epoch: i32,
    /// How far it is.
    pub state: MemberState,
    /// What it may read.
    pub assigned: Partitions,
    /// What it was told to give up and has not said to have given up.
    pub pending_revocation: Partitions,
}

/// A member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// What it said of itself. Topic names ascend.
    pub metadata: ConsumerGroupMemberMetadataValue,
    /// Where it stands.
    pub standing: Standing,
    /// When it is gone unless it is heard of.
    pub session: Deadline,
    /// When it is gone unless it gives up what it must; set while it must.
    pub revocation: Deadline,
    /// The connection over which it was told what it may read, while it has not said that it has just that. Of one that the
    /// log told of, nobody knows.
    pub told_over: Option<ConnectionId>,
}

/// A deadline and the timer entry that stands for it.
///
/// A heartbeat moves the deadline only; the entry stays. Invariant: while there is a deadline, there is an entry that is
/// not later. A second entry, left from an earlier life of the member, is told by being earlier than `armed`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Deadline {
    at: Option<MonotonicUs>,
    armed: Option<MonotonicUs>,
}

/// What a timer entry that came up means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Due {
    /// The deadline has passed.
    Passed,
    /// Not yet: another entry is needed for this moment.
    ArmAt(MonotonicUs),
    /// Nothing.
    Nothing,
}

impl MemberState {
    /// Kafka's number.
    pub(super) fn number(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => 127,
        }
    }

    /// The state of a number.
    pub(super) fn from_number(number: i8) -> MemberState {
        match number {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        }
    }
}

impl Default for Standing {
    fn default() -> Standing {
        Standing {
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Partitions::default(),
            pending_revocation: Partitions::default(),
        }
    }
}

impl Standing {
    /// The standing that a record tells.
    pub(super) fn from_record(value: &ConsumerGroupCurrentMemberAssignmentValue) -> Standing {
        Standing {
            epoch: value.member_epoch,
            previous_epoch: value.previous_member_epoch,
            state: MemberState::from_number(value.state),
            assigned: Partitions::from_list(&value.assigned),
            pending_revocation: Partitions::from_list(&value.pending_revocation),
        }
    }

    /// The record that tells this standing.
    pub(super) fn to_record(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state.number(),
            assigned: self.assigned.to_list(),
            pending_revocation: self.pending_revocation.to_list(),
        }
    }

    /// It has all that the assignment of this epoch gives it.
    pub(super) fn is_reconciled_to(&self, assignment_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == assignment_epoch
    }
}

impl Member {
    /// A member of which nothing is known: Kafka's defaults.
    pub(super) fn new() -> Member {
        Member {
            metadata: ConsumerGroupMemberMetadataValue {
                instance_id: None,
                rack_id: None,
                client_id: String::new(),
                client_host: String::new(),
                subscribed_topic_names: Vec::new(),
                subscribed_topic_regex: Some(String::new()),
                rebalance_timeout_ms: -1,
                server_assignor: None,
            },
            standing: Standing::default(),
            session: Deadline::default(),
            revocation: Deadline::default(),
            told_over: Some(ConnectionId::NONE),
        }
    }

    /// The pattern it subscribes with, if any.
    pub(super) fn pattern(&self) -> Option<&str> {
        pattern_of(&self.metadata)
    }
}

/// The pattern a member subscribes with, if any. Clients say that they have none by an empty one.
pub(super) fn pattern_of(metadata: &ConsumerGroupMemberMetadataValue) -> Option<&str> {
    metadata.subscribed_topic_regex.as_deref().filter(|pattern| !pattern.is_empty())
}

impl Deadline {
    /// Sets or moves it. Returns when an entry must be armed, if one must.
    pub(super) fn set(&mut self, at: MonotonicUs) -> Option<MonotonicUs> {
        self.at = Some(at);
        if self.armed.is_some_and(|armed| armed <= at) {
            return None;
        }
        self.armed = Some(at);
        self.armed
    }

    /// There is none any more. Its entry comes up for nothing.
    pub(super) fn clear(&mut self) {
        self.at = None;
    }

    /// An entry came up.
    pub(super) fn on_entry(&mut self, now: MonotonicUs) -> Due {
        if self.armed.is_none_or(|armed| armed > now) {
            return Due::Nothing;
        }
        self.armed = None;
        match self.at {
            None => Due::Nothing,
            Some(at) if at <= now => Due::Passed,
            Some(at) => {
                self.armed = Some(at);
                Due::ArmAt(at)
            }
        }
    }
}

/// Names as they are kept: ascending, each once, in memory that fits.
pub(super) fn sorted_names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    names.shrink_to_fit();
    names
}

/// A member id or another name, shared by the maps that it is a key of.
pub(super) type Name = Rc<str>;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> MonotonicUs {
        MonotonicUs::new(us)
    }

    #[test]
    fn a_deadline_that_moves_away_keeps_its_entry_until_that_comes_up() {
        let mut deadline = Deadline::default();
        assert_eq!(deadline.set(at(10)), Some(at(10)));
        assert_eq!(deadline.set(at(25)), None);
        assert_eq!(deadline.on_entry(at(10)), Due::ArmAt(at(25)));
        assert_eq!(deadline.on_entry(at(12)), Due::Nothing, "an entry of an earlier life");
        assert_eq!(deadline.on_entry(at(25)), Due::Passed);
        assert_eq!(deadline.on_entry(at(26)), Due::Nothing);
    }

    #[test]
    fn a_deadline_that_comes_nearer_gets_an_entry_of_its_own() {
        let mut deadline = Deadline::default();
        deadline.set(at(50));
        assert_eq!(deadline.set(at(20)), Some(at(20)));
        assert_eq!(deadline.on_entry(at(20)), Due::Passed);
    }

    #[test]
    fn a_cleared_deadline_never_passes() {
        let mut deadline = Deadline::default();
        deadline.set(at(10));
        deadline.clear();
        assert_eq!(deadline.on_entry(at(10)), Due::Nothing);
        assert_eq!(deadline.set(at(30)), Some(at(30)), "the entry has gone");
    }

    #[test]
    fn a_standing_survives_its_record() {
        let mut builder = crate::coordinator::assignor::Builder::default();
        builder.add(crate::types::TopicId::new([7; 16]), 3);
        let standing = Standing {
            epoch: 5,
            previous_epoch: 4,
            state: MemberState::UnreleasedPartitions,
            assigned: builder.build(),
            pending_revocation: Partitions::default(),
        };
        assert_eq!(Standing::from_record(&standing.to_record()), standing);
        assert_eq!(MemberState::from_number(9), MemberState::Unknown);
    }
}
