//! Sets of partitions of several topics, and what one does with them.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::coordinator::records::TopicPartitions;
use crate::types::TopicId;

/// Partitions of several topics. Cheap to copy; never changes.
///
/// Invariant: topics ascend by id, partitions ascend, no topic is without partitions. So two equal sets are equal values.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Partitions(Option<Rc<[TopicPartitions]>>);

/// Collects partitions in any order.
#[derive(Debug, Default)]
pub struct Builder(BTreeMap<TopicId, Vec<i32>>);

impl Partitions {
    /// The set of what a record or a request lists, in any order.
    pub fn from_list(list: &[TopicPartitions]) -> Partitions {
        let mut builder = Builder::default();
        for topic in list {
            builder.0.entry(topic.topic_id).or_default().extend(&topic.partitions);
        }
        builder.build()
    }

    /// The list for a record: topics and partitions ascend.
    pub fn to_list(&self) -> Vec<TopicPartitions> {
        self.topics().to_vec()
    }

    /// By topic.
    pub fn topics(&self) -> &[TopicPartitions] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The partitions of one topic, ascending.
    pub fn of(&self, topic: TopicId) -> &[i32] {
        let topics = self.topics();
        match topics.binary_search_by_key(&topic, |entry| entry.topic_id) {
            Ok(index) => &topics[index].partitions,
            Err(_) => &[],
        }
    }

    /// Whether the partition is one of them.
    pub fn contains(&self, topic: TopicId, partition: i32) -> bool {
        self.of(topic).binary_search(&partition).is_ok()
    }

    /// Every partition, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.topics().iter().flat_map(|topic| topic.partitions.iter().map(|&partition| (topic.topic_id, partition)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.topics().iter().map(|topic| topic.partitions.len()).sum()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Those for which `keep` holds; the same memory when that is all of them.
    pub fn filter(&self, mut keep: impl FnMut(TopicId, i32) -> bool) -> Partitions {
        let mut all = true;
        let mut kept = Vec::new();
        for topic in self.topics() {
            let partitions: Vec<i32> =
                topic.partitions.iter().copied().filter(|&partition| keep(topic.topic_id, partition)).collect();
            all &= partitions.len() == topic.partitions.len();
            if !partitions.is_empty() {
                kept.push(TopicPartitions { topic_id: topic.topic_id, partitions });
            }
        }
        if all { self.clone() } else { Partitions::sorted(kept) }
    }

    /// Those of both sets.
    pub fn union(&self, other: &Partitions) -> Partitions {
        if other.is_empty() {
            return self.clone();
        }
        let mut builder = Builder::default();
        self.iter().chain(other.iter()).for_each(|(topic, partition)| builder.add(topic, partition));
        builder.build()
    }

    /// A list that is in order already.
    fn sorted(list: Vec<TopicPartitions>) -> Partitions {
        Partitions(if list.is_empty() { None } else { Some(list.into()) })
    }
}

impl Builder {
    /// Adds one; twice is once.
    pub fn add(&mut self, topic: TopicId, partition: i32) {
        self.0.entry(topic).or_default().push(partition);
    }

    /// The set.
    pub fn build(self) -> Partitions {
        let topic = |(topic_id, mut partitions): (TopicId, Vec<i32>)| {
            partitions.sort_unstable();
            partitions.dedup();
            TopicPartitions { topic_id, partitions }
        };
        Partitions::sorted(self.0.into_iter().map(topic).filter(|topic| !topic.partitions.is_empty()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(last: u8) -> TopicId {
        TopicId::new([last; 16])
    }

    fn list(topics: &[(u8, &[i32])]) -> Vec<TopicPartitions> {
        let entry =
            |&(id, partitions): &(u8, &[i32])| TopicPartitions { topic_id: topic(id), partitions: partitions.to_vec() };
        topics.iter().map(entry).collect()
    }

    #[test]
    fn equal_sets_are_equal_values_however_they_were_listed() {
        let one = Partitions::from_list(&list(&[(2, &[3, 1]), (1, &[0]), (3, &[])]));
        let other = Partitions::from_list(&list(&[(1, &[0, 0]), (2, &[1]), (2, &[3])]));
        assert_eq!(one, other);
        assert_eq!(one.to_list(), list(&[(1, &[0]), (2, &[1, 3])]));
        assert_eq!(one.len(), 3);
        assert!(one.contains(topic(2), 3) && !one.contains(topic(2), 2) && !one.contains(topic(9), 0));
        assert_eq!(Partitions::from_list(&list(&[(1, &[])])), Partitions::default());
    }

    #[test]
    fn filter_and_union_keep_the_order() {
        let all = Partitions::from_list(&list(&[(1, &[0, 1]), (2, &[0])]));
        let few = all.filter(|id, partition| id == topic(1) && partition == 1);
        assert_eq!(few.to_list(), list(&[(1, &[1])]));
        assert!(all.filter(|_, _| false).is_empty());
        let more = Partitions::from_list(&list(&[(1, &[5]), (0, &[7])]));
        assert_eq!(few.union(&more).to_list(), list(&[(0, &[7]), (1, &[1, 5])]));
        assert_eq!(few.union(&Partitions::default()), few);
    }
}
