//! The way of one member from what it has to its target: Kafka's `CurrentAssignmentBuilder`.
//!
//! A member first gives up what is not in its target, in its old epoch; when it has said so it moves to the target's epoch
//! and gets what nobody else holds, and the rest as others give it up. So a partition has one owner at a time.

use super::member::{MemberState, Standing};
use crate::coordinator::assignor::Partitions;
use crate::protocol::messages::consumer_group_heartbeat::TopicPartitions;
use crate::types::TopicId;

/// The next standing of a member, which may be the one it has. `None`: it stands in a state that this broker does not know,
/// and must come back with nothing.
///
/// `owned` is what the heartbeat says the member has, if it says; `is_held` whether any member holds a partition, or has it
/// to give up.
pub(super) fn next(
    standing: &Standing,
    target_epoch: i32,
    target: &Partitions,
    owned: Option<&[TopicPartitions]>,
    is_held: impl Fn(TopicId, i32) -> bool,
) -> Option<Standing> {
    let epoch = match standing.state {
        MemberState::Stable if standing.epoch == target_epoch => return Some(standing.clone()),
        MemberState::UnrevokedPartitions if owns_any(owned, &standing.pending_revocation) => {
            return Some(standing.clone());
        }
        MemberState::Stable | MemberState::UnreleasedPartitions => standing.epoch,
        MemberState::UnrevokedPartitions => standing.epoch.saturating_add(1),
        MemberState::Unknown if owned.is_some_and(<[_]>::is_empty) => target_epoch,
        MemberState::Unknown => return None,
    };
    let kept = standing.assigned.filter(|topic, partition| target.contains(topic, partition));
    let revoked = standing.assigned.filter(|topic, partition| !target.contains(topic, partition));
    if !revoked.is_empty() && owns_any(owned, &revoked) {
        return Some(Standing {
            epoch,
            previous_epoch: standing.epoch,
            state: MemberState::UnrevokedPartitions,
            assigned: kept,
            pending_revocation: revoked,
        });
    }
    let mut waits = false;
    let new = target.filter(|topic, partition| {
        let missing = !kept.contains(topic, partition);
        let held = missing && is_held(topic, partition);
        waits |= held;
        missing && !held
    });
    Some(Standing {
        epoch: target_epoch,
        previous_epoch: standing.epoch,
        state: if waits { MemberState::UnreleasedPartitions } else { MemberState::Stable },
        assigned: kept.union(&new),
        pending_revocation: Partitions::default(),
    })
}

/// Whether a member that says to have `owned` has any of these; one that says nothing may have all.
fn owns_any(owned: Option<&[TopicPartitions]>, partitions: &Partitions) -> bool {
    owned.is_none_or(|owned| {
        let has = |topic: &TopicPartitions| {
            let known = partitions.of(topic.topic_id);
            !known.is_empty() && topic.partitions.iter().any(|partition| known.binary_search(partition).is_ok())
        };
        owned.iter().any(has)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::assignor::Builder;

    const TOPIC: TopicId = TopicId::new([1; 16]);

    fn set(partitions: &[i32]) -> Partitions {
        let mut builder = Builder::default();
        partitions.iter().for_each(|&partition| builder.add(TOPIC, partition));
        builder.build()
    }

    fn standing(epoch: i32, previous_epoch: i32, state: MemberState, assigned: &[i32], pending: &[i32]) -> Standing {
        Standing { epoch, previous_epoch, state, assigned: set(assigned), pending_revocation: set(pending) }
    }

    fn owned(partitions: &[i32]) -> Vec<TopicPartitions> {
        let topic = TopicPartitions { topic_id: TOPIC, partitions: partitions.to_vec() };
        if partitions.is_empty() { Vec::new() } else { vec![topic] }
    }

    #[test]
    fn a_member_moves_as_kafkas_current_assignment_builder_moves_it() {
        use MemberState::{Stable, Unknown, UnreleasedPartitions as Unreleased, UnrevokedPartitions as Unrevoked};
        /// Name, standing, target epoch, target, owned, held by others, expected.
        type Row<'a> = (&'a str, Standing, i32, &'a [i32], Option<&'a [i32]>, &'a [i32], Option<Standing>);
        let rows: &[Row<'_>] = &[
            ("stays", standing(5, 4, Stable, &[1], &[]), 5, &[1], None, &[], Some(standing(5, 4, Stable, &[1], &[]))),
            (
                "a newcomer gets all",
                standing(0, -1, Stable, &[], &[]),
                1,
                &[0, 1],
                Some(&[]),
                &[],
                Some(standing(1, 0, Stable, &[0, 1], &[])),
            ),
            (
                "a newcomer waits for what others hold",
                standing(0, -1, Stable, &[], &[]),
                2,
                &[0, 1],
                Some(&[]),
                &[1],
                Some(standing(2, 0, Unreleased, &[0], &[])),
            ),
            (
                "must give up first, in its epoch",
                standing(1, 0, Stable, &[0, 1], &[]),
                2,
                &[0, 2],
                None,
                &[],
                Some(standing(1, 1, Unrevoked, &[0], &[1])),
            ),
            (
                "has given up already",
                standing(1, 0, Stable, &[0, 1], &[]),
                2,
                &[0, 2],
                Some(&[0]),
                &[],
                Some(standing(2, 1, Stable, &[0, 2], &[])),
            ),
            (
                "a heartbeat without owned partitions acknowledges nothing",
                standing(1, 1, Unrevoked, &[0], &[1]),
                2,
                &[0],
                None,
                &[],
                Some(standing(1, 1, Unrevoked, &[0], &[1])),
            ),
            (
                "still owns it",
                standing(1, 1, Unrevoked, &[0], &[1]),
                2,
                &[0],
                Some(&[0, 1]),
                &[],
                Some(standing(1, 1, Unrevoked, &[0], &[1])),
            ),
            (
                "acknowledges",
                standing(1, 1, Unrevoked, &[0], &[1]),
                2,
                &[0],
                Some(&[0]),
                &[],
                Some(standing(2, 1, Stable, &[0], &[])),
            ),
            (
                "acknowledges, and the target has moved on: gives up more in the next epoch",
                standing(1, 1, Unrevoked, &[0, 3], &[1]),
                5,
                &[3],
                Some(&[0, 3]),
                &[],
                Some(standing(2, 1, Unrevoked, &[3], &[0])),
            ),
            (
                "what it gave up itself is held until then",
                standing(1, 1, Unrevoked, &[], &[1]),
                2,
                &[1],
                Some(&[]),
                &[1],
                Some(standing(2, 1, Unreleased, &[], &[])),
            ),
            (
                "gets what was released",
                standing(2, 1, Unreleased, &[0], &[]),
                2,
                &[0, 1],
                None,
                &[],
                Some(standing(2, 2, Stable, &[0, 1], &[])),
            ),
            (
                "waits on",
                standing(2, 2, Unreleased, &[0], &[]),
                2,
                &[0, 1],
                None,
                &[1],
                Some(standing(2, 2, Unreleased, &[0], &[])),
            ),
            ("of an unknown state", standing(2, 2, Unknown, &[0], &[]), 3, &[0], Some(&[0]), &[], None),
            (
                "of an unknown state, back with nothing",
                standing(2, 2, Unknown, &[0], &[]),
                3,
                &[0],
                Some(&[]),
                &[],
                Some(standing(3, 2, Stable, &[0], &[])),
            ),
        ];
        for (name, before, epoch, target, says, held, expected) in rows {
            let says = says.map(owned);
            let got = next(before, *epoch, &set(target), says.as_deref(), |_, partition| held.contains(&partition));
            assert_eq!(&got, expected, "{name}");
        }
    }
}
