//! Configuration by Kafka's own names: the broker's settings, and what a topic or a group may say for itself.
//!
//! [`BrokerConfig`] is what one process was started with; it never changes. What changes while the broker runs
//! (configurations of topics and groups, and broker keys set through the admin API) lives in the metadata image and is laid
//! over it: [`topic::Dynamic`], [`group::GroupKey::effective`]. The same properties that configure an Apache Kafka for a comparison are understood here; a key
//! that does nothing here says so, a key that nobody knows ends the start.

pub mod broker;
mod broker_keys;
mod file;
pub mod group;
pub mod topic;
pub mod value;

use std::collections::BTreeMap;

pub use broker::{BrokerConfig, ConfigError, Effect, Validation};
pub use topic::{CleanupPolicy, TimestampType, TopicConfig};

/// Values by key, in canonical text form.
pub type Configs = BTreeMap<String, String>;

/// Where a value in force comes from. The numbers are those of DescribeConfigs' `config_source`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// Set on the topic.
    Topic,
    /// Set for one node while it ran.
    DynamicBroker,
    /// Set for all nodes while they ran.
    DynamicDefaultBroker,
    /// Set in the file or on the command line.
    StaticBroker,
    /// Set nowhere.
    Default,
    /// Set on the group.
    Group,
}

impl Source {
    /// The number that DescribeConfigs and CreateTopics report.
    pub fn id(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::DynamicBroker => 2,
            Source::DynamicDefaultBroker => 3,
            Source::StaticBroker => 4,
            Source::Default => 5,
            Source::Group => 8,
        }
    }
}

/// The known name that most resembles `name`, if any is close enough to be a slip of the finger.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near_enough = name.chars().count() / 4;
    known
        .map(|candidate| (edits(name, candidate), candidate))
        .min()
        .filter(|(edits, _)| *edits <= near_enough)
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean x?)`, or nothing.
fn did_you_mean(suggestion: &Option<&str>) -> String {
    suggestion.map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// Levenshtein's distance, over the first hundred characters (no key is longer).
fn edits(left: &str, right: &str) -> usize {
    const CHARACTERS_MAX: usize = 100;
    let right: Vec<char> = right.chars().take(CHARACTERS_MAX).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left) in left.chars().take(CHARACTERS_MAX).enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, character) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *character);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_insertions_deletions_and_replacements() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("retention.ms", "retention.ms"), 0);
        assert_eq!(edits("retentoin.ms", "retention.ms"), 2);
        assert_eq!(edits("kitten", "sitting"), 3);
    }

    #[test]
    fn nothing_is_suggested_for_a_stranger() {
        assert_eq!(nearest("zzzzzzzz", ["retention.ms"].into_iter()), None);
        assert_eq!(nearest("retension.ms", ["segment.ms", "retention.ms"].into_iter()), Some("retention.ms"));
    }
}
