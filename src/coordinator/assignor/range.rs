//! Kafka's `RangeAssignor` of KIP-848: the partitions of each topic, cut into contiguous ranges, in the order of members.
//!
//! Static members come first, by instance id, then the others by member id. Who comes early gets the longer ranges. When all
//! members subscribe to the same topics and these are of one size, a member gets the same partitions of each.

use super::{Member, Partitions, Topic, partition_of};
use crate::coordinator::records::TopicPartitions;

/// A topic while it is given away.
#[derive(Clone, Copy, Debug, Default)]
struct Cut {
    subscribers: usize,
    served: usize,
}

/// What each member is given, in the order of `members`.
pub(super) fn assign(topics: &[Topic], members: &[Member<'_>]) -> Vec<Partitions> {
    let mut cuts = vec![Cut::default(); topics.len()];
    members.iter().flat_map(|member| member.topics.iter()).for_each(|&topic| cuts[topic].subscribers += 1);
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|&index| (members[index].instance_id.is_none(), members[index].instance_id, members[index].id));
    let mut given = vec![Partitions::default(); members.len()];
    for index in order {
        let ranges: Vec<TopicPartitions> = members[index]
            .topics
            .iter()
            .map(|&topic| TopicPartitions {
                topic_id: topics[topic].id,
                partitions: next_range(topics[topic].partition_count, &mut cuts[topic]),
            })
            .collect();
        given[index] = Partitions::from_list(&ranges);
    }
    given
}

/// The next member's range: the first ones are longer by one when it does not come out even.
fn next_range(partition_count: usize, cut: &mut Cut) -> Vec<i32> {
    let (least, longer) = (partition_count / cut.subscribers, partition_count % cut.subscribers);
    let start = cut.served * least + cut.served.min(longer);
    let end = start + least + usize::from(cut.served < longer);
    cut.served += 1;
    (start..end).map(partition_of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{member, topics};
    use super::*;

    fn ranges(partitions: &Partitions) -> Vec<Vec<i32>> {
        partitions.topics().iter().map(|topic| topic.partitions.clone()).collect()
    }

    #[test]
    fn topics_of_one_size_are_cut_alike_and_the_first_members_get_more() {
        let topics = topics(&[4, 4]);
        let none = Partitions::default();
        let members = ["b", "c", "a"].map(|id| member(id, &[0, 1], &none));
        let given = assign(&topics, &members);
        assert_eq!(ranges(&given[2]), [[0, 1], [0, 1]]);
        assert_eq!(ranges(&given[0]), [[2], [2]]);
        assert_eq!(ranges(&given[1]), [[3], [3]]);
    }

    #[test]
    fn static_members_come_first_whatever_their_member_ids() {
        let topics = topics(&[3]);
        let none = Partitions::default();
        let mut members = ["a", "z", "y"].map(|id| member(id, &[0], &none));
        members[1].instance_id = Some("2");
        members[2].instance_id = Some("1");
        let given = assign(&topics, &members);
        assert_eq!(given.iter().map(ranges).collect::<Vec<_>>(), [[[2]], [[1]], [[0]]]);
    }

    #[test]
    fn topics_are_shared_by_their_subscribers_only() {
        let topics = topics(&[2, 3]);
        let none = Partitions::default();
        let members = [member("a", &[0, 1], &none), member("b", &[1], &none), member("c", &[], &none)];
        let given = assign(&topics, &members);
        assert_eq!(ranges(&given[0]), [vec![0, 1], vec![0, 1]]);
        assert_eq!(ranges(&given[1]), [[2]]);
        assert!(given[2].is_empty());
    }

    #[test]
    fn more_members_than_partitions_leave_some_without() {
        let topics = topics(&[2]);
        let none = Partitions::default();
        let given = assign(&topics, &["a", "b", "c"].map(|id| member(id, &[0], &none)));
        assert_eq!(given.iter().map(Partitions::len).collect::<Vec<_>>(), [1, 1, 0]);
    }
}
