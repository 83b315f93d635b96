//! Kafka's `UniformAssignor`: even loads, and as little movement as that allows.
//!
//! When all members subscribe to the same topics, loads differ by at most one, and a member gives up only what exceeds its
//! share. Not as in Kafka: the shares that are larger by one go to members that hold that much already, where Kafka takes
//! members in the order of a hash map and may move partitions for nothing.
//!
//! When they do not, partitions first stay with their owners and free ones go to the least loaded subscriber; then topic by
//! topic partitions move from the most to the least loaded subscriber while that brings the two nearer to each other.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use super::{Builder, Member, Partitions, Topic, index_of, is_homogeneous, partition_of};

/// Rounds over all topics after which balancing ends, even or not. Kafka's `MAX_ITERATION_COUNT`.
const ROUNDS_MAX: usize = 16;

/// What each member is given, in the order of `members`.
pub(super) fn assign(topics: &[Topic], members: &[Member<'_>]) -> Vec<Partitions> {
    let mut owners = Owners::of_current(topics, members);
    if is_homogeneous(members) {
        owners.even_out(members);
    } else {
        owners.give_free_partitions(members);
        owners.balance(members);
    }
    owners.partitions(members)
}

/// Who owns what while it is decided.
struct Owners<'a> {
    topics: &'a [Topic],
    /// Index of the owning member, by topic and partition.
    owners: Vec<Vec<Option<usize>>>,
    /// Partitions of each member.
    loads: Vec<usize>,
    /// Members that get something else than they had.
    changed: Vec<bool>,
}

impl<'a> Owners<'a> {
    /// What members may keep of what they had. What nobody can have is dropped: topics unsubscribed or deleted.
    fn of_current(topics: &'a [Topic], members: &[Member<'_>]) -> Owners<'a> {
        let mut owners: Vec<Vec<Option<usize>>> =
            topics.iter().map(|topic| vec![None; topic.partition_count]).collect();
        let mut loads = vec![0; members.len()];
        let mut changed = vec![false; members.len()];
        for (index, member) in members.iter().enumerate() {
            for entry in member.current.topics() {
                let topic = topics.binary_search_by_key(&entry.topic_id, |topic| topic.id).ok();
                let topic = topic.filter(|topic| member.topics.binary_search(topic).is_ok());
                for &partition in &entry.partitions {
                    let place = topic.and_then(|topic| owners[topic].get_mut(index_of(partition)?));
                    match place {
                        Some(owner @ None) => {
                            *owner = Some(index);
                            loads[index] += 1;
                        }
                        Some(Some(_)) | None => changed[index] = true,
                    }
                }
            }
        }
        Owners { topics, owners, loads, changed }
    }

    /// All members subscribe to the same topics: everybody gets the same share, some one more.
    fn even_out(&mut self, members: &[Member<'_>]) {
        let Some(first) = members.first() else { return };
        let wanted = &first.topics;
        let all: usize = wanted.iter().map(|&topic| self.topics[topic].partition_count).sum();
        let (least, mut larger) = (all / members.len(), all % members.len());
        let mut shares = vec![least; members.len()];
        // Those that hold more than the least share already keep it; what is left goes to the first others.
        let (above, others): (Vec<usize>, Vec<usize>) =
            (0..members.len()).partition(|&index| self.loads[index] > least);
        for index in above.into_iter().chain(others) {
            if larger == 0 {
                break;
            }
            shares[index] += 1;
            larger -= 1;
        }
        // What exceeds a share is free; the last partitions go first.
        for topic in wanted.iter().rev() {
            for owner in self.owners[*topic].iter_mut().rev() {
                if let Some(index) = *owner
                    && self.loads[index] > shares[index]
                {
                    *owner = None;
                    self.loads[index] -= 1;
                    self.changed[index] = true;
                }
            }
        }
        let mut index = 0;
        for topic in wanted.iter() {
            for owner in self.owners[*topic].iter_mut().filter(|owner| owner.is_none()) {
                while self.loads[index] >= shares[index] {
                    index += 1;
                }
                *owner = Some(index);
                self.loads[index] += 1;
                self.changed[index] = true;
            }
        }
    }

    /// Gives every free partition to the least loaded subscriber, the hardest topics first.
    fn give_free_partitions(&mut self, members: &[Member<'_>]) {
        let subscribers = self.subscribers(members);
        for topic in self.hardest_first(&subscribers) {
            let mut least: BinaryHeap<Reverse<(usize, usize)>> =
                subscribers[topic].iter().map(|&index| Reverse((self.loads[index], index))).collect();
            for partition in 0..self.owners[topic].len() {
                if self.owners[topic][partition].is_none() {
                    let Reverse((load, index)) = least.pop().expect("a topic in the list has subscribers");
                    self.give(topic, partition, index);
                    least.push(Reverse((load + 1, index)));
                }
            }
        }
    }

    /// Moves partitions from loaded to idle subscribers of a topic, until no topic can gain by it.
    fn balance(&mut self, members: &[Member<'_>]) {
        let subscribers = self.subscribers(members);
        let order: Vec<usize> =
            self.hardest_first(&subscribers).into_iter().filter(|&topic| subscribers[topic].len() >= 2).collect();
        for _ in 0..ROUNDS_MAX {
            let mut moved = 0;
            for &topic in &order {
                moved += self.balance_topic(topic, &subscribers[topic]);
            }
            if moved == 0 {
                break;
            }
        }
    }

    /// The same for one topic. Returns how many partitions moved.
    fn balance_topic(&mut self, topic: usize, subscribers: &[usize]) -> usize {
        let mut owned: Vec<Vec<usize>> = vec![Vec::new(); self.loads.len()];
        for (partition, owner) in self.owners[topic].iter().enumerate() {
            owned[owner.expect("every partition has an owner by now")].push(partition);
        }
        let mut by_load: BTreeSet<(usize, usize)> =
            subscribers.iter().map(|&index| (self.loads[index], index)).collect();
        let mut givers: BTreeSet<(usize, usize)> =
            by_load.iter().copied().filter(|&(_, index)| !owned[index].is_empty()).collect();
        let mut moved = 0;
        while let (Some(&(least_load, least)), Some(&(most_load, most))) = (by_load.first(), givers.last()) {
            if most_load <= least_load + 1 {
                break;
            }
            let partition = owned[most].pop().expect("a giver has a partition of the topic");
            self.give(topic, partition, least);
            owned[least].push(partition);
            for (load, index) in [(most_load, most), (least_load, least)] {
                by_load.remove(&(load, index));
                givers.remove(&(load, index));
                by_load.insert((self.loads[index], index));
                if !owned[index].is_empty() {
                    givers.insert((self.loads[index], index));
                }
            }
            moved += 1;
        }
        moved
    }

    fn give(&mut self, topic: usize, partition: usize, to: usize) {
        if let Some(from) = self.owners[topic][partition].replace(to) {
            self.loads[from] -= 1;
            self.changed[from] = true;
        }
        self.loads[to] += 1;
        self.changed[to] = true;
    }

    /// Indexes of the subscribers of each topic, ascending.
    fn subscribers(&self, members: &[Member<'_>]) -> Vec<Vec<usize>> {
        let mut subscribers = vec![Vec::new(); self.topics.len()];
        for (index, member) in members.iter().enumerate() {
            member.topics.iter().for_each(|&topic| subscribers[topic].push(index));
        }
        subscribers
    }

    /// Topics with subscribers: most partitions per subscriber first, then fewest subscribers, then by id.
    fn hardest_first(&self, subscribers: &[Vec<usize>]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.topics.len()).filter(|&topic| !subscribers[topic].is_empty()).collect();
        order.sort_by(|&one, &other| {
            // a/b against c/d as a*d against c*b.
            let left = self.topics[one].partition_count * subscribers[other].len();
            let right = self.topics[other].partition_count * subscribers[one].len();
            right.cmp(&left).then(subscribers[one].len().cmp(&subscribers[other].len())).then(one.cmp(&other))
        });
        order
    }

    /// The result: members without a change keep the memory of what they had.
    fn partitions(self, members: &[Member<'_>]) -> Vec<Partitions> {
        let mut builders: Vec<Builder> = members.iter().map(|_| Builder::default()).collect();
        for (topic, owners) in self.owners.iter().enumerate() {
            for (partition, owner) in owners.iter().enumerate() {
                if let Some(index) = owner.filter(|&index| self.changed[index]) {
                    builders[index].add(self.topics[topic].id, partition_of(partition));
                }
            }
        }
        let result = builders.into_iter().zip(members).zip(&self.changed);
        result.map(|((new, member), &changed)| if changed { new.build() } else { member.current.clone() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, member, topics};
    use super::*;

    /// Partitions that changed their owner, among those that had one.
    fn moves(before: &[Partitions], after: &[Partitions]) -> usize {
        before
            .iter()
            .zip(after)
            .map(|(before, after)| before.filter(|id, index| !after.contains(id, index)).len())
            .sum()
    }

    #[test]
    fn loads_differ_by_at_most_one_and_a_join_moves_only_the_newcomers_share() {
        for partitions in [1, 7, 12, 100] {
            let topics = topics(&[partitions, 3]);
            let names: Vec<String> = (0..9).map(|index| format!("m{index}")).collect();
            let mut held: Vec<Partitions> = Vec::new();
            for count in 1..=names.len() {
                let mut before = held.clone();
                before.push(Partitions::default());
                let members: Vec<Member<'_>> =
                    names.iter().zip(&before).map(|(name, current)| member(name, &[0, 1], current)).collect();
                let given = assign(&topics, &members);
                let story = format!("{partitions} partitions, {count} members");
                check(&topics, &members, &given, &story);
                let loads: Vec<usize> = given.iter().map(Partitions::len).collect();
                assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1, "{story}: {loads:?}");
                let share = if count == 1 { 0 } else { given[count - 1].len() };
                assert_eq!(moves(&before, &given), share, "{story}: only what the newcomer gets");
                held = given;
            }
            // One leaves: the others keep what they have.
            held.remove(0);
            let members: Vec<Member<'_>> =
                names[1..].iter().zip(&held).map(|(name, current)| member(name, &[0, 1], current)).collect();
            let given = assign(&topics, &members);
            check(&topics, &members, &given, "after a leave");
            assert_eq!(moves(&held, &given), 0);
        }
    }

    #[test]
    fn a_member_that_holds_the_larger_share_keeps_it() {
        // Kafka would take a partition from the second member here, because the first comes first.
        let topics = topics(&[3]);
        let mut builders = [Builder::default(), Builder::default()];
        builders[0].add(topics[0].id, 0);
        builders[1].add(topics[0].id, 1);
        builders[1].add(topics[0].id, 2);
        let held = builders.map(Builder::build);
        let members = [member("a", &[0], &held[0]), member("b", &[0], &held[1])];
        assert_eq!(assign(&topics, &members), held);
    }

    #[test]
    fn members_with_different_topics_are_balanced_where_they_can_be() {
        let topics = topics(&[6, 6]);
        let none = Partitions::default();
        let members = [member("a", &[0], &none), member("b", &[0, 1], &none), member("c", &[1], &none)];
        let given = assign(&topics, &members);
        check(&topics, &members, &given, "three members");
        assert_eq!(given.iter().map(Partitions::len).collect::<Vec<_>>(), [4, 4, 4]);
    }

    #[test]
    fn a_loaded_member_gives_to_a_newcomer_with_fewer_topics() {
        let topics = topics(&[4, 4]);
        let none = Partitions::default();
        let alone = assign(&topics, &[member("a", &[0, 1], &none)]);
        let members = [member("a", &[0, 1], &alone[0]), member("b", &[1], &none)];
        let given = assign(&topics, &members);
        check(&topics, &members, &given, "a newcomer");
        assert_eq!(given.iter().map(Partitions::len).collect::<Vec<_>>(), [4, 4]);
        assert_eq!(given[1].of(topics[1].id).len(), 4);
        assert_eq!(moves(&[alone[0].clone(), none], &given), 4);
    }

    #[test]
    fn unsubscribed_and_deleted_topics_are_given_up() {
        let topics = topics(&[2, 2]);
        let mut builder = Builder::default();
        builder.add(topics[0].id, 0);
        builder.add(topics[1].id, 0);
        builder.add(topics[1].id, 9);
        builder.add(crate::types::TopicId::new([9; 16]), 0);
        let members = [member("a", &[1], &builder.build())];
        let given = assign(&topics, &members);
        check(&topics, &members, &given, "one topic left");
    }

    #[test]
    fn nobody_and_nothing_are_no_trouble() {
        assert_eq!(assign(&[], &[]), []);
        let none = Partitions::default();
        assert_eq!(assign(&topics(&[0]), &[member("a", &[0], &none)]), [Partitions::default()]);
        assert_eq!(assign(&[], &[member("a", &[], &none)]), [Partitions::default()]);
    }
}
