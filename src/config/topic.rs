//! Every topic configuration of Kafka 4.1: name, type, default, what it does here; and the typed view that shards use.
//!
//! A topic's value is the first of: set on the topic, set dynamically on the node, set dynamically for the cluster, set in
//! the broker's own file or command line, the default. The broker's keys have other names (and sometimes other units):
//! [`TopicKey::synonyms`].

use super::broker::{BrokerConfig, Effect};
use super::value::{self, BadValue, Kind, Rule};
use super::{Configs, Source};
use crate::limits;
use crate::protocol::compression::{Codec, Compression};
pub use crate::protocol::record_batch::TimestampType;
use crate::types::Durability;

/// One topic configuration.
#[derive(Debug)]
pub struct TopicKey {
    /// Kafka's name.
    pub name: &'static str,
    /// Type of its values.
    pub kind: Kind,
    /// Which values are allowed.
    pub rule: Rule,
    /// The value when nothing is set anywhere.
    pub default: &'static str,
    /// Broker keys that stand for it, the strongest first. Empty: the topic's own value or the default.
    pub synonyms: &'static [Synonym],
    /// What it does.
    pub doc: &'static str,
    /// Whether it does it here.
    pub effect: Effect,
}

/// A broker key that gives a topic configuration its server-wide value.
#[derive(Debug)]
pub struct Synonym {
    /// Name of the broker key.
    pub name: &'static str,
    /// For a limit on time: its unit in milliseconds. Less than zero means no limit then. `None`: the value stays as it is.
    pub unit_ms: Option<i64>,
}

impl TopicKey {
    /// The configuration of that name.
    pub fn named(name: &str) -> Option<&'static TopicKey> {
        TOPIC_KEYS.binary_search_by_key(&name, |key| key.name).ok().map(|index| &TOPIC_KEYS[index])
    }

    /// What DescribeConfigs says about it.
    pub fn documentation(&self) -> String {
        self.effect.documentation(self.doc)
    }

    /// Checks a value and returns its canonical text. Refuses what Kafka would accept and Corelane could not keep.
    pub fn check(&self, text: &str) -> Result<String, BadValue> {
        let value = value::check(self.kind, self.rule, text)?;
        match self.name {
            "max.message.bytes" if value.parse::<u32>().is_ok_and(|bytes| bytes > limits::BATCH_BYTES_MAX) => {
                Err(BadValue::new(format!("must be at most {} here", limits::BATCH_BYTES_MAX)))
            }
            "remote.storage.enable" if value == "true" => {
                Err(BadValue::new("this broker has no tiered storage, so a topic cannot use it"))
            }
            _ => Ok(value),
        }
    }

    /// The value in force and where it comes from.
    pub fn effective(&self, broker: &BrokerConfig, dynamic: Dynamic<'_>) -> (String, Source) {
        if let Some(value) = dynamic.topic.get(self.name) {
            return (value.clone(), Source::Topic);
        }
        let layers = [
            (dynamic.node, Source::DynamicBroker),
            (dynamic.cluster, Source::DynamicDefaultBroker),
            (broker.settings(), Source::StaticBroker),
        ];
        for (layer, source) in layers {
            for synonym in self.synonyms {
                if let Some(value) = layer.get(synonym.name) {
                    return (synonym.convert(value), source);
                }
            }
        }
        (self.default.to_owned(), Source::Default)
    }
}

impl Synonym {
    /// The broker's value in the topic's unit: hours become milliseconds, and "less than zero" means no limit.
    fn convert(&self, value: &str) -> String {
        match (value.parse::<i64>(), self.unit_ms) {
            (Ok(..0), Some(_)) => "-1".to_owned(),
            (Ok(number), Some(unit_ms)) => number.saturating_mul(unit_ms).to_string(),
            _ => value.to_owned(),
        }
    }
}

/// The values that can change while the broker runs, as the metadata image holds them.
#[derive(Clone, Copy, Debug)]
pub struct Dynamic<'a> {
    /// Set on the topic.
    pub topic: &'a Configs,
    /// Set on the node, by broker key.
    pub node: &'a Configs,
    /// Set for all nodes, by broker key.
    pub cluster: &'a Configs,
}

static NO_CONFIGS: Configs = Configs::new();

impl Dynamic<'static> {
    /// Nothing was set at run time.
    pub const NONE: Dynamic<'static> = Dynamic { topic: &NO_CONFIGS, node: &NO_CONFIGS, cluster: &NO_CONFIGS };
}

/// Why the configuration of a topic was refused: INVALID_CONFIG.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TopicConfigError {
    /// Kafka has no topic configuration of that name.
    #[error("Unknown topic config name: {name}{}", super::did_you_mean(.suggestion))]
    Unknown {
        /// The name.
        name: String,
        /// A name that looks like it.
        suggestion: Option<&'static str>,
    },
    /// The value is not one of the allowed.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Value {
        /// The configuration.
        name: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: BadValue,
    },
    /// Kafka wants the lower bound of the compaction lag not to exceed the upper one.
    #[error("conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})")]
    CompactionLag {
        /// Milliseconds.
        min: i64,
        /// Milliseconds.
        max: i64,
    },
}

/// Checks what is to be set on a topic, and returns it in canonical form.
pub fn validate<'a>(
    broker: &BrokerConfig,
    configs: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Configs, TopicConfigError> {
    let mut valid = Configs::new();
    for (name, value) in configs {
        let Some(key) = TopicKey::named(name) else {
            let suggestion = super::nearest(name, TOPIC_KEYS.iter().map(|key| key.name));
            return Err(TopicConfigError::Unknown { name: name.to_owned(), suggestion });
        };
        let value = key.check(value).map_err(|reason| TopicConfigError::Value {
            name: key.name,
            value: value.to_owned(),
            reason,
        })?;
        valid.insert(key.name.to_owned(), value);
    }
    let none = Configs::new();
    let values = Values { broker, dynamic: Dynamic { topic: &valid, node: &none, cluster: &none } };
    let (min, max) = (values.long("min.compaction.lag.ms"), values.long("max.compaction.lag.ms"));
    if min > max {
        return Err(TopicConfigError::CompactionLag { min, max });
    }
    Ok(valid)
}

/// `cleanup.policy`: what may be discarded. Neither means that nothing ever is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CleanupPolicy {
    /// Old batches are discarded by time and size.
    pub delete: bool,
    /// Records are superseded by later ones of the same key; null keys are refused.
    pub compact: bool,
}

/// The configuration of one topic, as the code that serves it uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// Which level an append must reach before acks=all is answered and consumers see it: `flush.messages=1` is
    /// *flushed*, any other value is *written*.
    pub durability: Durability,
    /// Batches older than this may be discarded, in milliseconds. `None`: never by age.
    pub retention_ms: Option<i64>,
    /// The oldest batches beyond this size may be discarded, in bytes per partition. `None`: never by size.
    pub retention_bytes: Option<i64>,
    /// Whether retention applies, and whether records need keys.
    pub cleanup_policy: CleanupPolicy,
    /// What batches of another codec are recompressed with. `None`: they stay as they come.
    pub compression: Option<Compression>,
    /// Largest batch accepted, in bytes.
    pub max_message_bytes: u32,
    /// Whose clock stamps records.
    pub timestamp_type: TimestampType,
    /// How far a record's timestamp may lie in the past, in milliseconds.
    pub timestamp_before_max_ms: i64,
    /// How far a record's timestamp may lie in the future, in milliseconds.
    pub timestamp_after_max_ms: i64,
    /// A batch larger than this is refused, as in Kafka. Segments themselves belong to the core's log, not to a topic.
    pub segment_bytes: u32,
    /// How long a record may outlive `retention_ms` because younger ones stand beside it, and the age at which Kafka would close
    /// a segment, which compaction leaves alone before; in milliseconds.
    pub segment_ms: i64,
    /// Random part of it, in milliseconds.
    pub segment_jitter_ms: i64,
    /// How long a tombstone outlives compaction, in milliseconds.
    pub delete_retention_ms: i64,
    /// How long a record stays uncompacted at least, in milliseconds.
    pub min_compaction_lag_ms: i64,
    /// How long a record stays uncompacted at most, in milliseconds.
    pub max_compaction_lag_ms: i64,
    /// Share of superseded bytes from which compaction is worth it.
    pub min_cleanable_dirty_ratio: f64,
}

impl TopicConfig {
    /// The configuration in force. A stored value that this version would refuse counts as the default.
    pub fn resolve(broker: &BrokerConfig, dynamic: Dynamic<'_>) -> TopicConfig {
        let values = Values { broker, dynamic };
        let unless_negative = |number: i64| (number >= 0).then_some(number);
        let policy = values.text("cleanup.policy");
        let has = |word: &str| policy.split(',').any(|item| item == word);
        TopicConfig {
            durability: match values.long("flush.messages") {
                1 => Durability::Flushed,
                _ => Durability::Written,
            },
            retention_ms: unless_negative(values.long("retention.ms")),
            retention_bytes: unless_negative(values.long("retention.bytes")),
            cleanup_policy: CleanupPolicy { delete: has("delete"), compact: has("compact") },
            compression: values.compression(),
            max_message_bytes: values.bytes("max.message.bytes"),
            timestamp_type: match values.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: values.long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: values.long("message.timestamp.after.max.ms"),
            segment_bytes: values.bytes("segment.bytes"),
            segment_ms: values.long("segment.ms"),
            segment_jitter_ms: values.long("segment.jitter.ms"),
            delete_retention_ms: values.long("delete.retention.ms"),
            min_compaction_lag_ms: values.long("min.compaction.lag.ms"),
            max_compaction_lag_ms: values.long("max.compaction.lag.ms"),
            min_cleanable_dirty_ratio: values.text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
        }
    }
}

/// The values in force, by name.
struct Values<'a> {
    broker: &'a BrokerConfig,
    dynamic: Dynamic<'a>,
}

impl Values<'_> {
    /// A value that passes the key's own check; the default otherwise.
    fn text(&self, name: &str) -> String {
        let key = TopicKey::named(name).expect("every name used here is in TOPIC_KEYS");
        let (value, _) = key.effective(self.broker, self.dynamic);
        key.check(&value).unwrap_or_else(|_| key.default.to_owned())
    }

    fn long(&self, name: &str) -> i64 {
        self.text(name).parse().expect("a checked LONG or INT is an integer")
    }

    /// `compression.type` with the level of its codec.
    fn compression(&self) -> Option<Compression> {
        let level = |name: &str| i32::try_from(self.long(name)).expect("a checked level fits 32 bits");
        let codec = Codec::from_name(&self.text("compression.type"))?;
        Some(match codec {
            Codec::None | Codec::Snappy => Compression::new(codec),
            Codec::Gzip => Compression::gzip(level("compression.gzip.level")),
            Codec::Lz4 => Compression::lz4(level("compression.lz4.level")),
            Codec::Zstd => Compression::zstd(level("compression.zstd.level")),
        })
    }

    fn bytes(&self, name: &str) -> u32 {
        u32::try_from(self.long(name)).expect("a checked size is not negative and fits 31 bits")
    }
}

/// A broker key of the same values.
const fn same(name: &'static str) -> Synonym {
    Synonym { name, unit_ms: None }
}

/// A broker key that limits time, in `unit_ms`.
const fn time(name: &'static str, unit_ms: i64) -> Synonym {
    Synonym { name, unit_ms: Some(unit_ms) }
}

const HOURS: i64 = 60 * 60 * 1000;
const MINUTES: i64 = 60 * 1000;
const LONG_MAX: &str = "9223372036854775807";

/// All compression words that Kafka knows.
pub(super) const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

const ONE_LOG: Effect =
    Effect::None("all partitions of a core share one log, whose segments, indexes and files no topic shapes.");
const TIERED: Effect = Effect::None("there is no tiered storage.");
const REPLICATION: Effect = Effect::None("a partition has one replica, so nothing is replicated or elected.");

/// Kafka 4.1's topic configurations, by name.
pub static TOPIC_KEYS: &[TopicKey] = &[
    TopicKey {
        name: "cleanup.policy",
        kind: Kind::List,
        rule: Rule::OneOf(&["compact", "delete"]),
        default: "delete",
        synonyms: &[same("log.cleanup.policy")],
        doc: "What may be discarded: 'delete' discards by retention.ms and retention.bytes, 'compact' keeps the latest \
              record of each key and refuses records without one.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "compression.gzip.level",
        kind: Kind::Int,
        rule: Rule::BetweenOr(1, 9, -1),
        default: "-1",
        synonyms: &[same("compression.gzip.level")],
        doc: "Level at which the broker compresses with gzip, when compression.type says so: 1 to 9, or -1 for the default, 6.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "compression.lz4.level",
        kind: Kind::Int,
        rule: Rule::Between(1, 17),
        default: "9",
        synonyms: &[same("compression.lz4.level")],
        doc: "Level at which the broker compresses with lz4, when compression.type says so. As in Kafka 9, the default, is the \
              quick encoder, and every other level LZ4 HC, which takes several times as long.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "compression.type",
        kind: Kind::String,
        rule: Rule::OneOf(COMPRESSION_TYPES),
        default: "producer",
        synonyms: &[same("compression.type")],
        doc: "The codec in which batches are stored: 'producer' leaves each as it came, 'uncompressed', 'gzip', 'snappy', \
              'lz4' and 'zstd' recompress those that came in another codec. What is stored already stays.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "compression.zstd.level",
        kind: Kind::Int,
        rule: Rule::Between(-131_072, 22),
        default: "3",
        synonyms: &[same("compression.zstd.level")],
        doc: "Level at which the broker compresses with zstd, when compression.type says so.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "delete.retention.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(0),
        default: "86400000",
        synonyms: &[same("log.cleaner.delete.retention.ms")],
        doc: "How long compaction keeps a tombstone, in milliseconds.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "file.delete.delay.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(0),
        default: "60000",
        synonyms: &[same("log.segment.delete.delay.ms")],
        doc: "How long a discarded file stays on disk, in milliseconds.",
        effect: ONE_LOG,
    },
    TopicKey {
        name: "flush.messages",
        kind: Kind::Long,
        rule: Rule::AtLeast(1),
        default: "1",
        synonyms: &[same("log.flush.interval.messages")],
        doc: "Durability of the topic. 1, the default here, means 'flushed': acks=all is answered, and consumers see a \
              record, only after a flush of the device. Any other value means 'written': after the direct write, which \
              survives a crash of the process but not a power cut. Apache Kafka's own default is 9223372036854775807.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "flush.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(0),
        default: LONG_MAX,
        synonyms: &[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")],
        doc: "Longest time between flushes, in milliseconds.",
        effect: Effect::None(
            "flush.messages alone decides: a topic is flushed before every answer, or never for its own sake.",
        ),
    },
    TopicKey {
        name: "follower.replication.throttled.replicas",
        kind: Kind::List,
        rule: Rule::ThrottledReplicas,
        default: "",
        synonyms: &[],
        doc: "Replicas whose replication is throttled on the follower's side.",
        effect: REPLICATION,
    },
    TopicKey {
        name: "index.interval.bytes",
        kind: Kind::Int,
        rule: Rule::AtLeast(0),
        default: "4096",
        synonyms: &[same("log.index.interval.bytes")],
        doc: "Distance between entries of a segment's offset index, in bytes.",
        effect: ONE_LOG,
    },
    TopicKey {
        name: "leader.replication.throttled.replicas",
        kind: Kind::List,
        rule: Rule::ThrottledReplicas,
        default: "",
        synonyms: &[],
        doc: "Replicas whose replication is throttled on the leader's side.",
        effect: REPLICATION,
    },
    TopicKey {
        name: "local.retention.bytes",
        kind: Kind::Long,
        rule: Rule::AtLeast(-2),
        default: "-2",
        synonyms: &[same("log.local.retention.bytes")],
        doc: "Size of what tiered storage keeps locally of a partition, in bytes; -2 stands for retention.bytes.",
        effect: TIERED,
    },
    TopicKey {
        name: "local.retention.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(-2),
        default: "-2",
        synonyms: &[same("log.local.retention.ms")],
        doc: "Age of what tiered storage keeps locally, in milliseconds; -2 stands for retention.ms.",
        effect: TIERED,
    },
    TopicKey {
        name: "max.compaction.lag.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(1),
        default: LONG_MAX,
        synonyms: &[same("log.cleaner.max.compaction.lag.ms")],
        doc: "Longest time a record stays uncompacted, in milliseconds.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "max.message.bytes",
        kind: Kind::Int,
        rule: Rule::AtLeast(0),
        default: "1048588",
        synonyms: &[same("message.max.bytes")],
        doc: "Largest record batch accepted, in bytes, after compression. Corelane allows up to 50331648.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "message.timestamp.after.max.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(0),
        default: "3600000",
        synonyms: &[same("log.message.timestamp.after.max.ms")],
        doc: "How far ahead of the broker's clock a producer's timestamp may lie, in milliseconds.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "message.timestamp.before.max.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(0),
        default: LONG_MAX,
        synonyms: &[same("log.message.timestamp.before.max.ms")],
        doc: "How far behind the broker's clock a producer's timestamp may lie, in milliseconds.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "message.timestamp.type",
        kind: Kind::String,
        rule: Rule::OneOf(&["CreateTime", "LogAppendTime"]),
        default: "CreateTime",
        synonyms: &[same("log.message.timestamp.type")],
        doc: "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).",
        effect: Effect::Full,
    },
    TopicKey {
        name: "min.cleanable.dirty.ratio",
        kind: Kind::Double,
        rule: Rule::Fraction,
        default: "0.5",
        synonyms: &[same("log.cleaner.min.cleanable.ratio")],
        doc: "Share of uncompacted bytes from which a log is compacted.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "min.compaction.lag.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(0),
        default: "0",
        synonyms: &[same("log.cleaner.min.compaction.lag.ms")],
        doc: "Shortest time a record stays uncompacted, in milliseconds.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "min.insync.replicas",
        kind: Kind::Int,
        rule: Rule::AtLeast(1),
        default: "1",
        synonyms: &[same("min.insync.replicas")],
        doc: "Replicas that must be in sync before acks=all is accepted; never more than the partition has.",
        effect: Effect::None("a partition has one replica, so no value asks for more, as in Kafka 4.1."),
    },
    TopicKey {
        name: "preallocate",
        kind: Kind::Boolean,
        rule: Rule::Any,
        default: "false",
        synonyms: &[same("log.preallocate")],
        doc: "Whether segment files get their space when they are created.",
        effect: ONE_LOG,
    },
    TopicKey {
        name: "remote.log.copy.disable",
        kind: Kind::Boolean,
        rule: Rule::Any,
        default: "false",
        synonyms: &[],
        doc: "Whether tiered storage stops taking new data of the topic.",
        effect: TIERED,
    },
    TopicKey {
        name: "remote.log.delete.on.disable",
        kind: Kind::Boolean,
        rule: Rule::Any,
        default: "false",
        synonyms: &[],
        doc: "Whether tiered data is deleted when tiered storage is switched off for the topic.",
        effect: TIERED,
    },
    TopicKey {
        name: "remote.storage.enable",
        kind: Kind::Boolean,
        rule: Rule::Any,
        default: "false",
        synonyms: &[],
        doc: "Whether the topic uses tiered storage. Corelane has none and accepts only false.",
        effect: TIERED,
    },
    TopicKey {
        name: "retention.bytes",
        kind: Kind::Long,
        rule: Rule::Any,
        default: "-1",
        synonyms: &[same("log.retention.bytes")],
        doc: "Size of a partition beyond which its oldest batches are discarded, in bytes; negative is unlimited. What a \
              partition has in one segment of its core goes as a whole, so that much more may stay.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "retention.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(-1),
        default: "604800000",
        synonyms: &[
            time("log.retention.ms", 1),
            time("log.retention.minutes", MINUTES),
            time("log.retention.hours", HOURS),
        ],
        doc: "Age after which batches are discarded, in milliseconds; -1 is unlimited. What a partition has in one segment of \
              its core goes as a whole when the youngest record is that old, or in parts after segment.ms more.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "segment.bytes",
        kind: Kind::Int,
        rule: Rule::AtLeast(1024 * 1024),
        default: "1073741824",
        synonyms: &[same("log.segment.bytes")],
        doc: "Size of a segment file in bytes. Segments belong to the core's log here, so that this only bounds the \
              size of a batch (RECORD_LIST_TOO_LARGE).",
        effect: Effect::Full,
    },
    TopicKey {
        name: "segment.index.bytes",
        kind: Kind::Int,
        rule: Rule::AtLeast(4),
        default: "10485760",
        synonyms: &[same("log.index.size.max.bytes")],
        doc: "Size of a segment's offset index in bytes.",
        effect: ONE_LOG,
    },
    TopicKey {
        name: "segment.jitter.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(0),
        default: "0",
        synonyms: &[same("log.roll.jitter.ms"), time("log.roll.jitter.hours", HOURS)],
        doc: "Random part of segment.ms, in milliseconds.",
        effect: ONE_LOG,
    },
    TopicKey {
        name: "segment.ms",
        kind: Kind::Long,
        rule: Rule::AtLeast(1),
        default: "604800000",
        synonyms: &[same("log.roll.ms"), time("log.roll.hours", HOURS)],
        doc: "How long a record may stay beyond retention.ms because younger ones stand in the same segment, in milliseconds. \
              Kafka closes a segment at this age; here, where it belongs to the core, retention discards a part of it.",
        effect: Effect::Full,
    },
    TopicKey {
        name: "unclean.leader.election.enable",
        kind: Kind::Boolean,
        rule: Rule::Any,
        default: "false",
        synonyms: &[same("unclean.leader.election.enable")],
        doc: "Whether a replica out of sync may become leader.",
        effect: REPLICATION,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(broker: &BrokerConfig, topic: &[(&str, &str)]) -> TopicConfig {
        let topic = topic.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let none = Configs::new();
        TopicConfig::resolve(broker, Dynamic { topic: &topic, node: &none, cluster: &none })
    }

    #[test]
    fn keys_are_sorted_and_their_defaults_pass_their_own_check() {
        assert_eq!(TOPIC_KEYS.len(), 33);
        for pair in TOPIC_KEYS.windows(2) {
            assert!(pair[0].name < pair[1].name);
        }
        for key in TOPIC_KEYS {
            assert_eq!(key.check(key.default).as_deref(), Ok(key.default), "{}", key.name);
        }
    }

    #[test]
    fn max_message_bytes_doc_names_the_limit() {
        let doc = TopicKey::named("max.message.bytes").unwrap().documentation();
        assert!(doc.contains(&limits::BATCH_BYTES_MAX.to_string()));
    }

    #[test]
    fn keys_without_effect_say_so() {
        for key in TOPIC_KEYS {
            let silent = key.effect == Effect::Full;
            assert_eq!(!silent, key.documentation().contains("No effect in Corelane"), "{}", key.name);
        }
    }

    #[test]
    fn topics_are_flushed_by_default_and_written_with_any_other_interval() {
        let broker = BrokerConfig::default();
        assert_eq!(resolve(&broker, &[]).durability, Durability::Flushed);
        assert_eq!(resolve(&broker, &[("flush.messages", "2")]).durability, Durability::Written);
        assert_eq!(resolve(&broker, &[("flush.messages", LONG_MAX)]).durability, Durability::Written);
    }

    #[test]
    fn the_strongest_layer_wins() {
        let broker =
            BrokerConfig::from_settings([("log.retention.hours", "2"), ("log.retention.minutes", "3")]).unwrap();
        let none = Configs::new();
        let cluster = Configs::from([("log.retention.ms".to_owned(), "7".to_owned())]);
        let node = Configs::from([("log.retention.ms".to_owned(), "8".to_owned())]);
        let topic = Configs::from([("retention.ms".to_owned(), "9".to_owned())]);
        let key = TopicKey::named("retention.ms").unwrap();
        let effective = |topic, node, cluster| key.effective(&broker, Dynamic { topic, node, cluster });
        assert_eq!(effective(&none, &none, &none), ("180000".to_owned(), Source::StaticBroker));
        assert_eq!(effective(&none, &none, &cluster), ("7".to_owned(), Source::DynamicDefaultBroker));
        assert_eq!(effective(&none, &node, &cluster), ("8".to_owned(), Source::DynamicBroker));
        assert_eq!(effective(&topic, &node, &cluster), ("9".to_owned(), Source::Topic));
    }

    #[test]
    fn negative_retention_is_no_limit() {
        let broker = BrokerConfig::from_settings([("log.retention.hours", "-5")]).unwrap();
        assert_eq!(resolve(&broker, &[]).retention_ms, None);
        let broker = BrokerConfig::from_settings([("log.retention.ms", "-5")]).unwrap();
        assert_eq!(resolve(&broker, &[]).retention_ms, None);
        assert_eq!(resolve(&BrokerConfig::default(), &[("retention.bytes", "-1")]).retention_bytes, None);
        assert_eq!(resolve(&BrokerConfig::default(), &[("retention.bytes", "5")]).retention_bytes, Some(5));
    }

    #[test]
    fn compression_has_the_level_of_its_own_codec_wherever_each_is_set() {
        let broker = BrokerConfig::from_settings([
            ("compression.type", "zstd"),
            ("compression.zstd.level", "-7"),
            ("compression.lz4.level", "17"),
        ])
        .unwrap();
        let compression = |topic: &[(&str, &str)]| resolve(&broker, topic).compression;
        assert_eq!(compression(&[]), Some(Compression::zstd(-7)));
        assert_eq!(compression(&[("compression.zstd.level", "22")]), Some(Compression::zstd(22)));
        assert_eq!(compression(&[("compression.type", "lz4")]), Some(Compression::lz4(17)));
        assert_eq!(compression(&[("compression.type", "gzip")]), Some(Compression::new(Codec::Gzip)));
        assert_eq!(compression(&[("compression.type", "snappy")]), Some(Compression::new(Codec::Snappy)));
        assert_eq!(compression(&[("compression.type", "uncompressed")]), Some(Compression::new(Codec::None)));
        assert_eq!(compression(&[("compression.type", "producer")]), None);
        assert_eq!(resolve(&BrokerConfig::default(), &[]).compression, None);
        let defaults: Vec<_> = ["gzip", "lz4", "zstd"]
            .map(|word| resolve(&BrokerConfig::default(), &[("compression.type", word)]).compression.unwrap())
            .to_vec();
        assert_eq!(defaults, [Codec::Gzip, Codec::Lz4, Codec::Zstd].map(Compression::new));
    }

    #[test]
    fn cleanup_policy_takes_both_words() {
        let broker = BrokerConfig::default();
        let policy = |value| resolve(&broker, &[("cleanup.policy", value)]).cleanup_policy;
        assert_eq!(policy("delete"), CleanupPolicy { delete: true, compact: false });
        assert_eq!(policy("compact,delete"), CleanupPolicy { delete: true, compact: true });
        assert_eq!(policy("compact"), CleanupPolicy { delete: false, compact: true });
    }

    #[test]
    fn unknown_names_and_bad_values_are_refused_with_their_reason() {
        let broker = BrokerConfig::default();
        let refuse = |name, value| validate(&broker, [(name, value)].into_iter()).unwrap_err().to_string();
        assert_eq!(
            refuse("retention.mss", "1"),
            "Unknown topic config name: retention.mss (did you mean retention.ms?)"
        );
        assert_eq!(
            refuse("retention.ms", "-2"),
            "Invalid value -2 for configuration retention.ms: Value must be at least -1"
        );
        assert!(refuse("compression.type", "none").contains("uncompressed, zstd, lz4, snappy, gzip, producer"));
        assert!(refuse("max.message.bytes", "2147483647").contains("at most"));
        assert!(refuse("remote.storage.enable", "true").contains("tiered"));
    }

    #[test]
    fn compaction_lags_must_not_cross() {
        let broker = BrokerConfig::default();
        let configs = [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "9")];
        assert_eq!(validate(&broker, configs.into_iter()), Err(TopicConfigError::CompactionLag { min: 10, max: 9 }));
    }
}
