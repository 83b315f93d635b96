//! What a topic's configuration says of compaction.

use crate::config::topic::TopicConfig;
use crate::types::TimestampMs;

/// The rules of one compacted topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CompactionRules {
    /// Size at which a virtual segment ends, in bytes: `segment.bytes`.
    pub segment_bytes: u32,
    /// Age at which a virtual segment ends, in milliseconds: `segment.ms`, but no more than `max.compaction.lag.ms`.
    pub segment_ms: i64,
    /// Of each segment a random part of the age is taken off, below this, in milliseconds: `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// How long a record stays uncompacted at least, in milliseconds: `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// How long a record stays uncompacted at most, in milliseconds: `max.compaction.lag.ms`.
    pub max_lag_ms: i64,
    /// Share of dirty bytes above which a pass is worth it: `min.cleanable.dirty.ratio`.
    pub dirty_ratio_min: f64,
    /// How long a tombstone outlives the first pass that saw it, in milliseconds: `delete.retention.ms`.
    pub delete_retention_ms: i64,
}

impl CompactionRules {
    /// The rules of a topic; `None` unless `cleanup.policy` names `compact`. With `compact,delete` retention works beside.
    pub fn of(topic: &TopicConfig) -> Option<CompactionRules> {
        topic.cleanup_policy.compact.then(|| CompactionRules {
            segment_bytes: topic.segment_bytes,
            // As Kafka's LogConfig.maxSegmentMs: else a record could wait for its segment to end until it is overdue.
            segment_ms: topic.segment_ms.min(topic.max_compaction_lag_ms),
            // As LogConfig.randomSegmentJitter.
            segment_jitter_ms: topic.segment_jitter_ms.min(topic.segment_ms),
            min_lag_ms: topic.min_compaction_lag_ms,
            max_lag_ms: topic.max_compaction_lag_ms,
            dirty_ratio_min: topic.min_cleanable_dirty_ratio,
            delete_retention_ms: topic.delete_retention_ms,
        })
    }

    /// Segments whose greatest timestamp is later may not be compacted yet.
    pub(super) fn compactable_until(&self, now: TimestampMs) -> TimestampMs {
        TimestampMs::new(now.value().saturating_sub(self.min_lag_ms))
    }

    /// Segments whose first timestamp is earlier must be compacted.
    pub(super) fn due_until(&self, now: TimestampMs) -> TimestampMs {
        TimestampMs::new(now.value().saturating_sub(self.max_lag_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::Dynamic;
    use crate::config::{BrokerConfig, Configs};

    fn rules(topic: &[(&str, &str)]) -> Option<CompactionRules> {
        let topic = topic.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let none = Configs::new();
        let dynamic = Dynamic { topic: &topic, node: &none, cluster: &none };
        CompactionRules::of(&TopicConfig::resolve(&BrokerConfig::default(), dynamic))
    }

    #[test]
    fn only_compacted_topics_have_rules() {
        assert_eq!(rules(&[]), None);
        assert_eq!(rules(&[("cleanup.policy", "delete")]), None);
        let kafkas = CompactionRules {
            segment_bytes: 1_073_741_824,
            segment_ms: 604_800_000,
            segment_jitter_ms: 0,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            dirty_ratio_min: 0.5,
            delete_retention_ms: 86_400_000,
        };
        assert_eq!(rules(&[("cleanup.policy", "compact")]), Some(kafkas));
        assert_eq!(rules(&[("cleanup.policy", "compact,delete")]), Some(kafkas));
    }

    #[test]
    fn a_segment_ends_before_its_records_are_overdue() {
        let rules =
            rules(&[("cleanup.policy", "compact"), ("max.compaction.lag.ms", "5000"), ("segment.jitter.ms", "90000")]);
        assert_eq!(rules.map(|rules| (rules.segment_ms, rules.segment_jitter_ms)), Some((5000, 90_000)));
    }
}
