//! The assignors that the broker runs itself (KIP-848): `uniform` and `range`. Pure: members and topics in, partitions of
//! each member out.
//!
//! Invariant of both: every partition of a topic that has subscribers belongs to exactly one of them, and nobody gets a
//! partition of a topic that it does not subscribe to.

mod partitions;
mod range;
mod uniform;

use std::rc::Rc;

pub use self::partitions::{Builder, Partitions};
use crate::types::TopicId;

/// Kafka's `group.consumer.assignors`; the first is taken when no member asks for one.
pub const ASSIGNORS: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

/// A way to spread partitions over members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Assignor {
    /// Even, and moves as little as it can: Kafka's `UniformAssignor`.
    Uniform,
    /// Contiguous ranges of each topic, so that topics of the same size line up: Kafka's `RangeAssignor`.
    Range,
}

/// A topic that somebody subscribes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has; they are numbered from 0.
    pub partition_count: usize,
}

/// A member to be given partitions.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its name, if it is static.
    pub instance_id: Option<&'a str>,
    /// What it subscribes to: indexes into the topics, ascending.
    pub topics: Rc<[usize]>,
    /// What it was given last time.
    pub current: Partitions,
}

impl Assignor {
    /// Kafka's name of the assignor.
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The assignor of a name.
    pub fn from_name(name: &str) -> Option<Assignor> {
        ASSIGNORS.into_iter().find(|assignor| assignor.name() == name)
    }

    /// What each member is given, in the order of `members`. `topics` ascend by id.
    pub fn assign(self, topics: &[Topic], members: &[Member<'_>]) -> Vec<Partitions> {
        debug_assert!(topics.is_sorted_by(|one, other| one.id < other.id), "topics ascend by id");
        match self {
            Assignor::Uniform => uniform::assign(topics, members),
            Assignor::Range => range::assign(topics, members),
        }
    }
}

/// Whether all members subscribe to the same topics.
fn is_homogeneous(members: &[Member<'_>]) -> bool {
    members.windows(2).all(|pair| Rc::ptr_eq(&pair[0].topics, &pair[1].topics) || pair[0].topics == pair[1].topics)
}

/// Index of a partition in tables of partitions; `None` for what no partition can be called.
fn index_of(partition: i32) -> Option<usize> {
    usize::try_from(partition).ok()
}

/// A partition by its index.
fn partition_of(index: usize) -> i32 {
    i32::try_from(index).expect("a topic has fewer partitions than limits::PARTITIONS_MAX")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::protocol::arbitrary::Source;

    pub(super) fn topics(counts: &[usize]) -> Vec<Topic> {
        let topic = |(index, &partition_count): (usize, &usize)| {
            let mut id = [0; 16];
            id[15] = u8::try_from(index + 1).unwrap();
            Topic { id: TopicId::new(id), partition_count }
        };
        counts.iter().enumerate().map(topic).collect()
    }

    pub(super) fn member<'a>(id: &'a str, topics: &[usize], current: &Partitions) -> Member<'a> {
        Member { id, instance_id: None, topics: topics.into(), current: current.clone() }
    }

    /// Everything given, checked: exactly once each, to subscribers only.
    pub(super) fn check(topics: &[Topic], members: &[Member<'_>], given: &[Partitions], story: &str) {
        assert_eq!(given.len(), members.len(), "{story}");
        let mut owned = BTreeSet::new();
        for (member, partitions) in members.iter().zip(given) {
            for (topic, partition) in partitions.iter() {
                let index = topics.iter().position(|other| other.id == topic).expect(story);
                assert!(member.topics.contains(&index), "{story}: {} does not subscribe to {topic}", member.id);
                assert!(usize::try_from(partition).unwrap() < topics[index].partition_count, "{story}");
                assert!(owned.insert((topic, partition)), "{story}: {topic}-{partition} is given twice");
            }
        }
        let wanted: BTreeSet<usize> = members.iter().flat_map(|member| member.topics.iter().copied()).collect();
        let all: usize = wanted.iter().map(|&index| topics[index].partition_count).sum();
        assert_eq!(owned.len(), all, "{story}: partitions without an owner");
    }

    #[test]
    fn every_partition_of_a_subscribed_topic_is_given_exactly_once_through_random_histories() {
        for seed in 0..300 {
            let source = &mut Source::new(seed);
            let assignor = ASSIGNORS[source.below(2)];
            let homogeneous = source.below(2) == 0;
            let names: Vec<String> = (0..12).map(|index| format!("member-{index}")).collect();
            let mut counts: Vec<usize> = (0..1 + source.below(6)).map(|_| source.below(12)).collect();
            let mut held: Vec<(usize, Rc<[usize]>, Partitions)> = Vec::new();
            for round in 0..20 {
                let story = format!("seed {seed}, round {round}, {}", assignor.name());
                match source.below(4) {
                    0 if !held.is_empty() => {
                        held.remove(source.below(held.len()));
                    }
                    1 => {
                        let grown = source.below(counts.len());
                        counts[grown] += source.below(4);
                    }
                    _ => {
                        let free = (0..names.len()).find(|index| held.iter().all(|(taken, ..)| taken != index));
                        let all: Rc<[usize]> = (0..counts.len()).collect();
                        let some = all.iter().copied().filter(|_| homogeneous || source.below(3) > 0).collect();
                        held.extend(free.map(|index| (index, some, Partitions::default())));
                    }
                }
                let topics = topics(&counts);
                let members: Vec<Member<'_>> = held
                    .iter()
                    .map(|(index, wanted, current)| Member {
                        id: &names[*index],
                        instance_id: (index % 3 == 0).then_some(&names[*index]),
                        topics: Rc::clone(wanted),
                        current: current.clone(),
                    })
                    .collect();
                let given = assignor.assign(&topics, &members);
                check(&topics, &members, &given, &story);
                let again: Vec<Member<'_>> = members
                    .iter()
                    .zip(&given)
                    .map(|(member, current)| Member { current: current.clone(), ..member.clone() })
                    .collect();
                assert_eq!(assignor.assign(&topics, &again), given, "{story}: moves without a reason");
                held.iter_mut().zip(given).for_each(|(row, partitions)| row.2 = partitions);
            }
        }
    }

    #[test]
    fn assignors_are_found_by_kafkas_names() {
        assert_eq!(Assignor::from_name("uniform"), Some(Assignor::Uniform));
        assert_eq!(Assignor::from_name("range"), Some(Assignor::Range));
        assert_eq!(Assignor::from_name("Range"), None);
    }
}
