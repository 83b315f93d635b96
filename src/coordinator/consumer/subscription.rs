//! Which topics a group reads: the names its members list, and the names their patterns match.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::member::Name;
use crate::cluster::image::{MetadataImage, Topic};

/// The patterns of a group, and the names that its members list.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// By topic: how many members name it.
    names: BTreeMap<Name, u32>,
    patterns: BTreeMap<Name, Pattern>,
}

/// A pattern of some members.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Pattern {
    /// How many members subscribe with it.
    pub members: u32,
    /// Names of the topics that it matches, ascending; `None` until it was matched.
    pub topics: Option<Vec<Name>>,
}

impl Subscriptions {
    /// One more member names the topic. True if it is the first.
    pub(super) fn add_name(&mut self, name: &str) -> bool {
        match self.names.get_mut(name) {
            Some(members) => {
                *members += 1;
                false
            }
            None => {
                self.names.insert(name.into(), 1);
                true
            }
        }
    }

    /// One member less names the topic. True if it was the last.
    pub(super) fn remove_name(&mut self, name: &str) -> bool {
        let members = self.names.get_mut(name).expect("a member's topics are counted");
        *members -= 1;
        if *members == 0 {
            self.names.remove(name);
            return true;
        }
        false
    }

    /// One more member has the pattern.
    pub(super) fn add_pattern(&mut self, pattern: &str) {
        match self.patterns.get_mut(pattern) {
            Some(entry) => entry.members += 1,
            None => {
                self.patterns.insert(pattern.into(), Pattern { members: 1, topics: None });
            }
        }
    }

    /// One member less has the pattern. What it was matched to stays until the record that forgets it.
    pub(super) fn remove_pattern(&mut self, pattern: &str) {
        let entry = self.patterns.get_mut(pattern).expect("a member's pattern is counted");
        entry.members -= 1;
        if entry.members == 0 && entry.topics.is_none() {
            self.patterns.remove(pattern);
        }
    }

    /// What a pattern matches is known, or forgotten. True if that changes what the group reads.
    pub(super) fn set_matches(&mut self, pattern: &str, topics: Option<Vec<Name>>) -> bool {
        let entry = self.patterns.entry(pattern.into()).or_default();
        let before = std::mem::replace(&mut entry.topics, topics);
        let changed = before.as_deref().unwrap_or_default() != entry.topics.as_deref().unwrap_or_default();
        if entry.members == 0 && entry.topics.is_none() {
            self.patterns.remove(pattern);
        }
        changed
    }

    /// What is known of a pattern.
    pub(super) fn pattern(&self, pattern: &str) -> Option<&Pattern> {
        self.patterns.get(pattern)
    }

    /// All patterns, also those that no member has any more and whose record is not yet deleted.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&Name, &Pattern)> {
        self.patterns.iter()
    }

    /// How many of them there are.
    pub(super) fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    /// Whether a member reads the topic.
    pub(super) fn contains(&self, topic: &str) -> bool {
        let matches = |pattern: &Pattern| {
            let topics = pattern.topics.as_deref().unwrap_or_default();
            topics.binary_search_by(|name| (**name).cmp(topic)).is_ok()
        };
        self.names.contains_key(topic) || self.patterns.values().any(matches)
    }

    /// Hash of what the group reads, as the metadata has it: Kafka's `ModernGroup.computeMetadataHash`, the same number.
    pub(super) fn metadata_hash(&self, image: &MetadataImage) -> i64 {
        let matched = self.patterns.values().flat_map(|pattern| pattern.topics.iter().flatten());
        let names: BTreeSet<&str> = self.names.keys().chain(matched).map(|name| &**name).collect();
        let mut bytes = Vec::new();
        let mut group = Vec::with_capacity(8 * names.len());
        for topic in names.into_iter().filter_map(|name| image.topic(name)) {
            bytes.clear();
            write_topic(&mut bytes, topic, image);
            group.extend_from_slice(&xxh3(&bytes).to_le_bytes());
        }
        if group.is_empty() { 0 } else { xxh3(&group) }
    }
}

/// Names of the topics that the pattern matches, ascending. Kafka looks at internal topics too.
pub(super) fn matches(pattern: &Regex, image: &MetadataImage) -> Vec<Name> {
    let names = image.topics().map(|topic| topic.name()).filter(|name| pattern.is_match(name));
    let mut names: Vec<Name> = names.map(|name| Name::from(&**name)).collect();
    names.sort_unstable();
    names
}

/// What Kafka's `Utils.computeTopicHash` feeds into XXH3: version, id, name, partitions and the racks that hold each.
fn write_topic(bytes: &mut Vec<u8>, topic: &Topic, image: &MetadataImage) {
    bytes.push(0);
    let id = topic.id().bytes();
    let (most, least) = id.split_at(8);
    bytes.extend(most.iter().rev().chain(least.iter().rev()));
    write_string(bytes, topic.name());
    write_int(bytes, topic.partition_count());
    for (index, partition) in topic.partitions() {
        bytes.extend_from_slice(&index.value().to_le_bytes());
        let mut racks: Vec<&str> =
            partition.replicas.iter().filter_map(|&node| image.broker(node).and_then(|broker| broker.rack())).collect();
        racks.sort_unstable();
        for rack in racks {
            write_int(bytes, rack.encode_utf16().count());
            write_string(bytes, rack);
        }
    }
}

/// hash4j's `putString`: UTF-16 units, then how many.
fn write_string(bytes: &mut Vec<u8>, string: &str) {
    bytes.extend(string.encode_utf16().flat_map(u16::to_le_bytes));
    write_int(bytes, string.encode_utf16().count());
}

fn write_int(bytes: &mut Vec<u8>, number: usize) {
    let number = i32::try_from(number).expect("counts of topics and letters fit");
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn xxh3(bytes: &[u8]) -> i64 {
    twox_hash::XxHash3_64::oneshot(bytes).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::super::pattern::compile;
    use super::super::testing::{Cluster, id};
    use super::*;

    #[test]
    fn topics_hash_to_kafkas_numbers() {
        // Printed by hash4j 0.22 (Kafka 4.1.1's), fed as `Utils.computeTopicHash` feeds it.
        let mut cluster = Cluster::default();
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18];
        cluster.create_with_id("orders", crate::types::TopicId::new(bytes), 2);
        let mut drawn = Vec::new();
        write_topic(&mut drawn, cluster.image().topic("orders").unwrap(), cluster.image());
        assert_eq!(xxh3(&drawn), -213_194_414_658_135_419);
        cluster.set_rack("rackA");
        drawn.clear();
        write_topic(&mut drawn, cluster.image().topic("orders").unwrap(), cluster.image());
        assert_eq!(xxh3(&drawn), 225_493_179_082_591_003);
        let both: Vec<u8> = [7_i64, -9].into_iter().flat_map(i64::to_le_bytes).collect();
        assert_eq!(xxh3(&both), 388_367_720_923_999_229);
    }

    #[test]
    fn groups_hash_to_kafkas_numbers() {
        // From the group records of an Apache Kafka 4.1.1, with the ids that it gave: U1Nk9R1VSbGV8686tyhiZQ and
        // wR4VIhkiTHOfles40mhaMw.
        let rows = [
            ("t", 0x5353_64f5_1d55_49b1_95f3_af3a_b728_6265_u128, -7_002_507_215_100_585_824),
            ("a1", 0xc11e_1522_1922_4c73_9f95_eb38_d268_5a33, -2_703_416_101_771_246_174),
        ];
        for (name, topic_id, hash) in rows {
            let mut cluster = Cluster::default();
            cluster.create_with_id(name, crate::types::TopicId::new(topic_id.to_be_bytes()), 4);
            let mut subscriptions = Subscriptions::default();
            subscriptions.add_name(name);
            assert_eq!(subscriptions.metadata_hash(cluster.image()), hash);
        }
    }

    #[test]
    fn the_hash_is_that_of_existing_topics_only() {
        let mut cluster = Cluster::default();
        cluster.create("a", 2);
        let mut subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.metadata_hash(cluster.image()), 0);
        subscriptions.add_name("missing");
        assert_eq!(subscriptions.metadata_hash(cluster.image()), 0);
        subscriptions.add_name("a");
        let two = subscriptions.metadata_hash(cluster.image());
        subscriptions.set_matches("a.*", Some(vec!["a".into()]));
        assert_eq!(subscriptions.metadata_hash(cluster.image()), two, "a name counts once");
        cluster.grow("a", 3);
        assert_ne!(subscriptions.metadata_hash(cluster.image()), two);
        cluster.delete("a");
        assert_eq!(subscriptions.metadata_hash(cluster.image()), 0);
        cluster.create("a", 2);
        assert_ne!(subscriptions.metadata_hash(cluster.image()), two, "another life of the topic");
        assert_ne!(id("a", 1), id("a", 2));
    }

    #[test]
    fn patterns_match_whole_names() {
        let mut cluster = Cluster::default();
        for name in ["foo", "foobar", "barfoo", "__consumer_offsets"] {
            cluster.create(name, 1);
        }
        let matched = |pattern: &str| -> Vec<String> {
            matches(&compile(pattern).unwrap(), cluster.image()).iter().map(|name| name.to_string()).collect()
        };
        assert_eq!(matched("foo"), ["foo"]);
        assert_eq!(matched("foo.*"), ["foo", "foobar"]);
        assert_eq!(matched("foo|.*r"), ["foo", "foobar"]);
        assert_eq!(matched(".*"), ["__consumer_offsets", "barfoo", "foo", "foobar"]);
        assert_eq!(matched(r"(?i)FOO\w+"), ["foobar"]);
    }

    #[test]
    fn a_pattern_lives_as_long_as_a_member_or_its_record() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.add_pattern("a.*");
        subscriptions.add_pattern("a.*");
        assert!(subscriptions.set_matches("a.*", Some(vec!["ab".into()])));
        assert!(!subscriptions.set_matches("a.*", Some(vec!["ab".into()])));
        assert!(subscriptions.contains("ab") && !subscriptions.contains("ac"));
        subscriptions.remove_pattern("a.*");
        subscriptions.remove_pattern("a.*");
        assert_eq!(subscriptions.pattern("a.*").unwrap().members, 0);
        assert!(subscriptions.set_matches("a.*", None));
        assert_eq!(subscriptions.pattern_count(), 0);
        assert!(subscriptions.add_name("x") && !subscriptions.add_name("x"));
        assert!(!subscriptions.remove_name("x") && subscriptions.contains("x"));
        assert!(subscriptions.remove_name("x") && !subscriptions.contains("x"));
    }
}
