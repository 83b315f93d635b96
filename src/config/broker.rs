//! The broker's own settings by Kafka's key names: what a row of the table of keys means, and their typed view.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use super::broker_keys::BROKER_KEYS;
use super::value::{self, BadValue, Kind, Rule};
use super::{Configs, file};
use crate::limits;
use crate::types::NodeId;

/// Whether a key of Kafka's does here what it does there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It does.
    Full,
    /// It is accepted, kept and reported, but does nothing; the sentence says why.
    None(&'static str),
    /// Ignoring it would deceive: only the default is accepted; the words say why.
    Unsupported(&'static str),
    /// Something else decides, which the words name: the key is refused, and the true value reported.
    Elsewhere(&'static str),
}

impl Effect {
    /// The documentation of a key with this effect.
    pub(super) fn documentation(self, doc: &str) -> String {
        match self {
            Effect::Full => doc.to_owned(),
            Effect::None(why) => format!("{doc} No effect in Corelane: {why}"),
            Effect::Unsupported(why) => format!("{doc} Corelane accepts only the default: {why}."),
            Effect::Elsewhere(instead) => format!("{doc} Not set by this key in Corelane: {instead}."),
        }
    }
}

/// When a key may change, in Kafka.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Update {
    /// At a start.
    Fixed,
    /// At a start. Kafka's own tests need it, so that it is described only where it is set.
    Hidden,
    /// While the broker runs, for all nodes or for single ones.
    Dynamic,
    /// While the broker runs, for single nodes only.
    PerNode,
}

/// One broker setting.
#[derive(Debug)]
pub struct BrokerKey {
    /// Kafka's name, or our own with the prefix `corelane.`.
    pub name: &'static str,
    /// When it may change.
    pub update: Update,
    /// Type of its values.
    pub kind: Kind,
    /// Which values are allowed.
    pub rule: Rule,
    /// The value when it is not set. `None`: another key decides then.
    pub default: Option<&'static str>,
    /// What it does.
    pub doc: &'static str,
    /// Whether it does it here.
    pub effect: Effect,
}

impl BrokerKey {
    /// The setting of that name.
    pub fn named(name: &str) -> Option<&'static BrokerKey> {
        BROKER_KEYS.binary_search_by_key(&name, |key| key.name).ok().map(|index| &BROKER_KEYS[index])
    }

    /// Whether the key may change while the broker runs. What must stay at its default or is decided elsewhere may not.
    pub fn is_dynamic(&self) -> bool {
        matches!(self.update, Update::Dynamic | Update::PerNode)
            && !matches!(self.effect, Effect::Unsupported(_) | Effect::Elsewhere(_))
    }

    /// Whether its value is never shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    /// What DescribeConfigs says about it.
    pub fn documentation(&self) -> String {
        self.effect.documentation(self.doc)
    }

    /// Checks a value and returns its canonical text.
    pub fn check(&self, text: &str) -> Result<String, BadValue> {
        let value = value::check(self.kind, self.rule, text)?;
        if let Effect::Unsupported(reason) | Effect::Elsewhere(reason) = self.effect
            && value != self.default.unwrap_or_default()
        {
            return Err(BadValue::new(reason));
        }
        match self.name {
            "message.max.bytes" if value.parse::<u32>().is_ok_and(|bytes| bytes > limits::BATCH_BYTES_MAX) => {
                Err(BadValue::new(format!("must be at most {} here", limits::BATCH_BYTES_MAX)))
            }
            "socket.request.max.bytes" if value.parse::<u32>().is_ok_and(|bytes| bytes > limits::REQUEST_BYTES_MAX) => {
                Err(BadValue::new(format!("must be at most {} here", limits::REQUEST_BYTES_MAX)))
            }
            "fetch.max.bytes" if value.parse::<u32>().is_ok_and(|bytes| bytes > limits::FETCH_BYTES_MAX) => {
                Err(BadValue::new(format!("must be at most {} here", limits::FETCH_BYTES_MAX)))
            }
            _ => Ok(value),
        }
    }
}

/// `corelane.validation`: how much of a produced batch is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Validation {
    /// Every record, decompressed where needed, as Kafka does.
    Full,
    /// The batch header and its checksum.
    Header,
}

/// Why the broker does not start with these settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}: {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        cause: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: {cause}", .path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        cause: Box<toml::de::Error>,
    },
    /// A `--set` has no `=`.
    #[error("--set {0}: expected key=value")]
    NoValue(String),
    /// Nobody knows the key.
    #[error("unknown configuration key {name}{}", super::did_you_mean(.suggestion))]
    Unknown {
        /// The key.
        name: String,
        /// A key that looks like it.
        suggestion: Option<&'static str>,
    },
    /// Kafka has the key, but ignoring it would deceive.
    #[error("configuration key {name} is not supported: {instead}")]
    Unsupported {
        /// The key.
        name: String,
        /// What to do instead.
        instead: &'static str,
    },
    /// The value is not one of the allowed.
    #[error("invalid value {value} for configuration {name}: {reason}")]
    Value {
        /// The key.
        name: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: BadValue,
    },
}

/// What one process was started with.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Partitions of a topic that does not say how many.
    pub num_partitions: i32,
    /// Whether asking for a topic creates it.
    pub auto_create_topics_enable: bool,
    /// Whether topics may be deleted.
    pub delete_topic_enable: bool,
    /// Replication factor of a topic that does not say.
    pub default_replication_factor: i16,
    /// Whether a replication factor above 1 is accepted (and one replica kept).
    pub allow_same_machine_replicas: bool,
    /// How much of a produced batch is looked at.
    pub validation: Validation,
    /// How fast each core reads old data again, in bytes per second; 0 for not at all.
    pub scrub_bytes_per_second: u64,
    /// Largest fetch answer, in bytes.
    pub fetch_max_bytes: u32,
    /// Largest request, in bytes.
    pub socket_request_max_bytes: u32,
    /// A connection without traffic for so long is closed, in milliseconds. `None`: never.
    pub connections_max_idle_ms: Option<i64>,
    /// Most fetch sessions of a node.
    pub fetch_session_slots: usize,
    /// An idempotent producer is forgotten after so long without a batch, in milliseconds.
    pub producer_id_expiration_ms: i64,
    /// Time between two looks for expired producers, in milliseconds.
    pub producer_id_expiration_check_interval_ms: i64,
    /// Time between two looks for batches to discard, in milliseconds.
    pub log_retention_check_interval_ms: i64,
    /// Time from the start to the first of them, where that is shorter, in milliseconds.
    pub log_initial_task_delay_ms: i64,
    /// Whether logs are compacted.
    pub log_cleaner_enable: bool,
    /// Time between two looks for logs to compact, in milliseconds.
    pub log_cleaner_backoff_ms: i64,
    /// How fast a core goes over batches that it compacts, in bytes per second.
    pub log_cleaner_io_max_bytes_per_second: f64,
    /// Least session timeout of members of classic groups, in milliseconds.
    pub group_min_session_timeout_ms: i32,
    /// The greatest, in milliseconds.
    pub group_max_session_timeout_ms: i32,
    /// How long the first generation of a classic group waits for further members, in milliseconds.
    pub group_initial_rebalance_delay_ms: i32,
    /// Most members of a classic group.
    pub group_max_size: i32,
    /// Silence after which a member of a consumer group is gone, in milliseconds.
    pub group_consumer_session_timeout_ms: i32,
    /// How often members of consumer groups send heartbeats, in milliseconds.
    pub group_consumer_heartbeat_interval_ms: i32,
    /// Most members of a consumer group.
    pub group_consumer_max_size: i32,
    /// Longest note committed with an offset, in bytes.
    pub offset_metadata_max_bytes: i32,
    /// How long the answer of a coordinator may wait for its records, in milliseconds.
    pub offsets_commit_timeout_ms: u64,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// Time between two looks for expired offsets, in milliseconds.
    pub offsets_retention_check_interval_ms: i64,
    /// Partitions of `__consumer_offsets`; fixed once it exists.
    pub offsets_topic_num_partitions: i32,
    /// `segment.bytes` of `__consumer_offsets`.
    pub offsets_topic_segment_bytes: i32,
    /// Partitions of `__transaction_state`; fixed once it exists.
    pub transaction_state_log_num_partitions: i32,
    settings: Configs,
    nodes: BTreeMap<NodeId, Configs>,
    warnings: Vec<String>,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig::from_settings::<&str>([]).expect("the defaults of the table pass their own checks")
    }
}

impl BrokerConfig {
    /// Reads `file` (TOML if it is named so, else properties) and lays `sets` (`key=value`) over it.
    ///
    /// Reads the disk; for the start only.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<BrokerConfig, ConfigError> {
        let mut settings = match file {
            Some(path) => read(path)?,
            None => Vec::new(),
        };
        for set in sets {
            let (key, value) = set.split_once('=').ok_or_else(|| ConfigError::NoValue(set.clone()))?;
            settings.push((key.trim().to_owned(), value.to_owned()));
        }
        BrokerConfig::from_settings(settings)
    }

    /// Checks the settings; of a key that stands twice the later value counts.
    pub fn from_settings<S: Into<String>>(
        given: impl IntoIterator<Item = (S, S)>,
    ) -> Result<BrokerConfig, ConfigError> {
        let mut settings = Configs::new();
        let mut warnings = Vec::new();
        for (name, value) in given {
            let (name, value): (String, String) = (name.into(), value.into());
            let Some(key) = BrokerKey::named(&name) else {
                return Err(unknown(name));
            };
            if let Effect::Elsewhere(instead) = key.effect {
                return Err(ConfigError::Unsupported { name, instead });
            }
            let value = key.check(&value).map_err(|reason| match key.effect {
                Effect::Unsupported(instead) => ConfigError::Unsupported { name: name.clone(), instead },
                _ => ConfigError::Value { name: key.name, value, reason },
            })?;
            if let Effect::None(why) = key.effect {
                warnings.push(format!("{name} has no effect: {why}"));
            }
            settings.insert(name, value);
        }
        let config = BrokerConfig::typed(settings, warnings);
        config.check_groups()?;
        if config.default_replication_factor > 1 && !config.allow_same_machine_replicas {
            return Err(ConfigError::Value {
                name: "default.replication.factor",
                value: config.default_replication_factor.to_string(),
                reason: BadValue::new(
                    "nodes on one machine keep one replica; allow.same.machine.replicas=true accepts the number",
                ),
            });
        }
        Ok(config)
    }

    /// The settings of each kind of groups must fit each other, as Kafka's `GroupCoordinatorConfig` and `ShareGroupConfig`
    /// require, also of those that are not there yet: single groups are bounded by them.
    fn check_groups(&self) -> Result<(), ConfigError> {
        let value = |name: &str| -> i64 {
            let key = BrokerKey::named(name).expect("every name used here is in BROKER_KEYS");
            let text = self.settings.get(name).map(String::as_str).or(key.default).expect("each has a default");
            text.parse().expect("a checked INT is an integer")
        };
        for (low, high) in ASCENDING {
            if value(low) > value(high) {
                return Err(ConfigError::Value {
                    name: high,
                    value: value(high).to_string(),
                    reason: BadValue::new(format!("must be at least {low}, which is {}", value(low))),
                });
            }
        }
        for (heartbeat, session) in HEARTBEATS {
            if value(heartbeat) >= value(session) {
                return Err(ConfigError::Value {
                    name: heartbeat,
                    value: value(heartbeat).to_string(),
                    reason: BadValue::new(format!("must be below {session}, which is {}", value(session))),
                });
            }
        }
        Ok(())
    }

    /// What was set, by key, in canonical form.
    pub fn settings(&self) -> &Configs {
        &self.settings
    }

    /// Tells what each node was given in other ways than by settings: its number, addresses, directories.
    pub fn with_nodes(self, nodes: BTreeMap<NodeId, Configs>) -> BrokerConfig {
        BrokerConfig { nodes, ..self }
    }

    /// The value of a key that a node was started with, be it by settings or in another way. `None`: the default.
    pub fn at_start(&self, node: NodeId, name: &str) -> Option<&str> {
        let given = self.nodes.get(&node).and_then(|given| given.get(name));
        given.or_else(|| self.settings.get(name)).map(String::as_str)
    }

    /// Lines to log at start: settings that do nothing here.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn typed(settings: Configs, warnings: Vec<String>) -> BrokerConfig {
        let text = |name: &str| -> &str {
            let key = BrokerKey::named(name).expect("every name used here is in BROKER_KEYS");
            settings.get(name).map(String::as_str).or(key.default).expect("every key used here has a default")
        };
        let long = |name| text(name).parse::<i64>().expect("a checked LONG or INT is an integer");
        let int = |name| i32::try_from(long(name)).expect("a checked INT has 32 bits");
        let size = |name| u32::try_from(long(name)).expect("a checked size is not negative and has 31 bits");
        let flag = |name| text(name) == "true";
        BrokerConfig {
            num_partitions: int("num.partitions"),
            auto_create_topics_enable: flag("auto.create.topics.enable"),
            delete_topic_enable: flag("delete.topic.enable"),
            default_replication_factor: i16::try_from(long("default.replication.factor"))
                .expect("the table bounds it to 16 bits"),
            allow_same_machine_replicas: flag("allow.same.machine.replicas"),
            validation: match text("corelane.validation") {
                "header" => Validation::Header,
                _ => Validation::Full,
            },
            scrub_bytes_per_second: long("corelane.scrub.bytes.per.second").unsigned_abs(),
            fetch_max_bytes: size("fetch.max.bytes"),
            socket_request_max_bytes: size("socket.request.max.bytes"),
            connections_max_idle_ms: Some(long("connections.max.idle.ms")).filter(|ms| *ms >= 0),
            fetch_session_slots: usize::try_from(long("max.incremental.fetch.session.cache.slots"))
                .expect("the table bounds it"),
            producer_id_expiration_ms: long("producer.id.expiration.ms"),
            producer_id_expiration_check_interval_ms: long("producer.id.expiration.check.interval.ms"),
            log_retention_check_interval_ms: long("log.retention.check.interval.ms"),
            log_initial_task_delay_ms: long("log.initial.task.delay.ms"),
            log_cleaner_enable: flag("log.cleaner.enable"),
            log_cleaner_backoff_ms: long(LOG_CLEANER_BACKOFF_MS),
            log_cleaner_io_max_bytes_per_second: text(LOG_CLEANER_IO_MAX_BYTES_PER_SECOND)
                .parse()
                .expect("a checked DOUBLE is a number"),
            group_min_session_timeout_ms: int("group.min.session.timeout.ms"),
            group_max_session_timeout_ms: int("group.max.session.timeout.ms"),
            group_initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
            group_max_size: int("group.max.size"),
            group_consumer_session_timeout_ms: int("group.consumer.session.timeout.ms"),
            group_consumer_heartbeat_interval_ms: int("group.consumer.heartbeat.interval.ms"),
            group_consumer_max_size: int("group.consumer.max.size"),
            offset_metadata_max_bytes: int("offset.metadata.max.bytes"),
            offsets_commit_timeout_ms: long("offsets.commit.timeout.ms").unsigned_abs(),
            offsets_retention_ms: long("offsets.retention.minutes") * 60_000,
            offsets_retention_check_interval_ms: long("offsets.retention.check.interval.ms"),
            offsets_topic_num_partitions: int("offsets.topic.num.partitions"),
            offsets_topic_segment_bytes: int("offsets.topic.segment.bytes"),
            transaction_state_log_num_partitions: int("transaction.state.log.num.partitions"),
            settings,
            nodes: BTreeMap::new(),
            warnings,
        }
    }
}

/// Broker keys of groups, of which the first must not exceed the second.
const ASCENDING: &[(&str, &str)] = &[
    ("group.consumer.min.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms"),
    ("group.consumer.min.heartbeat.interval.ms", "group.consumer.heartbeat.interval.ms"),
    ("group.consumer.heartbeat.interval.ms", "group.consumer.max.heartbeat.interval.ms"),
    ("group.consumer.min.session.timeout.ms", "group.consumer.max.session.timeout.ms"),
    ("group.consumer.min.session.timeout.ms", "group.consumer.session.timeout.ms"),
    ("group.consumer.session.timeout.ms", "group.consumer.max.session.timeout.ms"),
    ("group.share.min.heartbeat.interval.ms", "group.share.max.heartbeat.interval.ms"),
    ("group.share.min.heartbeat.interval.ms", "group.share.heartbeat.interval.ms"),
    ("group.share.heartbeat.interval.ms", "group.share.max.heartbeat.interval.ms"),
    ("group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"),
    ("group.share.min.session.timeout.ms", "group.share.session.timeout.ms"),
    ("group.share.session.timeout.ms", "group.share.max.session.timeout.ms"),
    ("group.share.min.record.lock.duration.ms", "group.share.max.record.lock.duration.ms"),
    ("group.share.min.record.lock.duration.ms", "group.share.record.lock.duration.ms"),
    ("group.share.record.lock.duration.ms", "group.share.max.record.lock.duration.ms"),
    ("group.streams.min.heartbeat.interval.ms", "group.streams.max.heartbeat.interval.ms"),
    ("group.streams.min.heartbeat.interval.ms", "group.streams.heartbeat.interval.ms"),
    ("group.streams.heartbeat.interval.ms", "group.streams.max.heartbeat.interval.ms"),
    ("group.streams.min.session.timeout.ms", "group.streams.max.session.timeout.ms"),
    ("group.streams.min.session.timeout.ms", "group.streams.session.timeout.ms"),
    ("group.streams.session.timeout.ms", "group.streams.max.session.timeout.ms"),
    ("group.streams.num.standby.replicas", "group.streams.max.standby.replicas"),
];

/// Broker keys of groups, of which the first must be below the second.
const HEARTBEATS: &[(&str, &str)] = &[
    ("group.consumer.heartbeat.interval.ms", "group.consumer.session.timeout.ms"),
    ("group.share.heartbeat.interval.ms", "group.share.session.timeout.ms"),
    ("group.streams.heartbeat.interval.ms", "group.streams.session.timeout.ms"),
];

/// How long the cleaner rests between two looks for logs to compact, in milliseconds.
pub const LOG_CLEANER_BACKOFF_MS: &str = "log.cleaner.backoff.ms";
/// How fast logs are compacted, in bytes per second.
pub const LOG_CLEANER_IO_MAX_BYTES_PER_SECOND: &str = "log.cleaner.io.max.bytes.per.second";
/// How long a silent producer is remembered, in milliseconds.
pub const PRODUCER_ID_EXPIRATION_MS: &str = "producer.id.expiration.ms";

/// Reads the settings of a file.
fn read(path: &Path) -> Result<Vec<(String, String)>, ConfigError> {
    let text =
        std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
    match path.extension().is_some_and(|extension| extension == "toml") {
        true => {
            file::parse_toml(&text).map_err(|cause| ConfigError::Toml { path: path.to_owned(), cause: Box::new(cause) })
        }
        false => Ok(file::parse_properties(&text)),
    }
}

/// A key that is not in the table.
fn unknown(name: String) -> ConfigError {
    if name.starts_with(LISTENER_PREFIX) {
        return ConfigError::Unsupported { name, instead: NO_LISTENER_SETTINGS };
    }
    let suggestion = super::nearest(&name, BROKER_KEYS.iter().map(|key| key.name));
    ConfigError::Unknown { name, suggestion }
}

/// How names of settings of single listeners begin.
pub const LISTENER_PREFIX: &str = "listener.name.";

/// Why they are refused.
pub const NO_LISTENER_SETTINGS: &str = "a listener has no settings of its own here";

#[cfg(test)]
mod tests {
    use super::super::topic::TOPIC_KEYS;
    use super::*;

    fn refusal(name: &str, value: &str) -> String {
        BrokerConfig::from_settings([(name, value)]).unwrap_err().to_string()
    }

    fn names(is_meant: impl Fn(&BrokerKey) -> bool) -> Vec<&'static str> {
        BROKER_KEYS.iter().filter(|key| is_meant(key)).map(|key| key.name).collect()
    }

    /// AlterConfigs called `background.threads` unknown, with which a start was fine; and DescribeConfigs told 72 of the keys
    /// that Kafka tells. Counted in Apache Kafka 4.1.1: `KafkaConfig.configDef`, and what a running broker describes.
    #[test]
    fn all_keys_of_kafka_are_there() {
        let own = |key: &BrokerKey| key.doc.starts_with("Corelane's own");
        assert_eq!(
            names(own),
            ["allow.same.machine.replicas", "corelane.scrub.bytes.per.second", "corelane.validation"]
        );
        assert_eq!(names(|key| !own(key)).len(), 336);
        assert_eq!(names(|key| key.update == Update::Hidden).len(), 20);
        assert_eq!(names(|key| matches!(key.update, Update::Dynamic | Update::PerNode)).len(), 90);
        assert_eq!(names(|key| key.update == Update::PerNode).len(), 36);
        let secrets = names(BrokerKey::is_sensitive);
        assert_eq!(secrets.len(), 10);
        assert!(secrets.iter().all(|name| ["delegation", "sasl", "ssl"].iter().any(|part| name.starts_with(part))));
    }

    /// What changes while the broker runs and has an effect here.
    #[test]
    fn keys_that_take_effect_at_run_time_are_those_of_topics_and_producers() {
        let expected = [
            "compression.gzip.level",
            "compression.lz4.level",
            "compression.type",
            "compression.zstd.level",
            "log.cleaner.backoff.ms",
            "log.cleaner.delete.retention.ms",
            "log.cleaner.io.max.bytes.per.second",
            "log.cleaner.max.compaction.lag.ms",
            "log.cleaner.min.cleanable.ratio",
            "log.cleaner.min.compaction.lag.ms",
            "log.cleanup.policy",
            "log.flush.interval.messages",
            "log.message.timestamp.after.max.ms",
            "log.message.timestamp.before.max.ms",
            "log.message.timestamp.type",
            "log.retention.bytes",
            "log.retention.ms",
            "log.roll.ms",
            "log.segment.bytes",
            "message.max.bytes",
            "producer.id.expiration.ms",
        ];
        assert_eq!(names(|key| key.is_dynamic() && key.effect == Effect::Full), expected);
    }

    #[test]
    fn what_must_stay_at_its_default_does_not_change_at_run_time() {
        for key in BROKER_KEYS {
            if matches!(key.effect, Effect::Unsupported(_) | Effect::Elsewhere(_)) {
                assert!(!key.is_dynamic() && !key.documentation().contains("No effect"), "{}", key.name);
                assert!(
                    key.documentation().contains("in Corelane") || key.documentation().contains("Corelane accepts")
                );
            }
        }
    }

    #[test]
    fn keys_are_sorted_and_their_defaults_pass_their_own_check() {
        for pair in BROKER_KEYS.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} before {}", pair[0].name, pair[1].name);
        }
        for key in BROKER_KEYS {
            let Some(default) = key.default else { continue };
            assert_eq!(key.check(default).as_deref(), Ok(default), "{}", key.name);
        }
    }

    #[test]
    fn every_synonym_of_a_topic_key_is_a_broker_key_with_the_same_default() {
        for topic in TOPIC_KEYS {
            for synonym in topic.synonyms {
                let broker = BrokerKey::named(synonym.name).unwrap_or_else(|| panic!("{} is missing", synonym.name));
                let Some(default) = broker.default else { continue };
                let expected = match (default.parse::<i64>(), synonym.unit_ms) {
                    (Ok(number), Some(unit_ms)) => number.saturating_mul(unit_ms).to_string(),
                    _ => default.to_owned(),
                };
                assert_eq!(topic.default, expected, "{}", synonym.name);
            }
        }
    }

    #[test]
    fn defaults_are_kafkas_but_for_durability() {
        let config = BrokerConfig::default();
        assert_eq!(config.num_partitions, 1);
        assert!(config.auto_create_topics_enable);
        assert_eq!(config.socket_request_max_bytes, limits::REQUEST_BYTES_MAX);
        assert_eq!(config.fetch_max_bytes, limits::FETCH_BYTES_MAX);
        assert_eq!(config.validation, Validation::Full);
        assert_eq!(config.scrub_bytes_per_second, limits::SCRUB_BYTES_PER_SECOND);
        assert_eq!(config.connections_max_idle_ms, Some(600_000));
        assert!(config.settings().is_empty() && config.warnings().is_empty());
        assert_eq!(BrokerKey::named("log.flush.interval.messages").unwrap().default, Some("1"));
    }

    #[test]
    fn an_unknown_key_ends_the_start_with_a_hint() {
        assert_eq!(
            refusal("num.partition", "3"),
            "unknown configuration key num.partition (did you mean num.partitions?)"
        );
        assert_eq!(refusal("colour", "red"), "unknown configuration key colour");
    }

    #[test]
    fn a_key_whose_silence_would_deceive_is_refused() {
        assert_eq!(refusal("log.dirs", "/data"), "configuration key log.dirs is not supported: use --data");
        assert!(refusal("ssl.keystore.location", "/k").contains("no encryption"));
        assert!(refusal("max.connections.per.ip", "4").contains("quotas"));
    }

    /// Kafka's own default asks for nothing: charts and images write `security.inter.broker.protocol=PLAINTEXT` and the like.
    #[test]
    fn the_default_of_what_is_not_there_is_accepted() {
        let defaults = [
            ("security.inter.broker.protocol", "PLAINTEXT"),
            ("authorizer.class.name", ""),
            ("max.connections.per.ip", "2147483647"),
            ("remote.log.storage.system.enable", "FALSE"),
            ("ssl.keystore.password", ""),
        ];
        for (name, value) in defaults {
            let config = BrokerConfig::from_settings([(name, value)]).unwrap();
            assert!(config.warnings().is_empty(), "{name}");
        }
        assert!(refusal("security.inter.broker.protocol", "SSL").contains("no encryption or authentication"));
    }

    #[test]
    fn a_secret_is_not_repeated_in_a_refusal() {
        for key in BROKER_KEYS.iter().filter(|key| key.is_sensitive()) {
            assert!(!refusal(key.name, "hunter2").contains("hunter2"), "{}", key.name);
        }
        assert!(!refusal("listener.name.x.ssl.key.password", "hunter2").contains("hunter2"));
    }

    #[test]
    fn a_node_has_what_it_was_given_before_what_was_set() {
        let given = BTreeMap::from([(NodeId::new(2), Configs::from([("node.id".to_owned(), "2".to_owned())]))]);
        let config = BrokerConfig::from_settings([("node.id", "7")]).unwrap().with_nodes(given);
        assert_eq!(config.at_start(NodeId::new(2), "node.id"), Some("2"));
        assert_eq!(config.at_start(NodeId::new(1), "node.id"), Some("7"));
        assert_eq!(config.at_start(NodeId::new(2), "broker.rack"), None);
    }

    #[test]
    fn a_key_without_effect_is_a_warning() {
        let config = BrokerConfig::from_settings([
            ("num.io.threads", "8"),
            ("log.preallocate", "true"),
            ("num.partitions", "4"),
        ])
        .unwrap();
        assert_eq!(config.warnings().len(), 2);
        assert_eq!(config.num_partitions, 4);
        assert_eq!(config.settings().get("log.preallocate").map(String::as_str), Some("true"));
    }

    #[test]
    fn bad_values_are_refused_with_their_reason() {
        assert_eq!(
            refusal("num.partitions", "0"),
            "invalid value 0 for configuration num.partitions: Value must be at least 1"
        );
        assert!(refusal("message.max.bytes", "100000000").contains("at most"));
        assert!(refusal("compression.type", "none").contains("uncompressed, zstd"));
        assert!(refusal("compression.lz4.level", "18").contains("17"));
        assert!(refusal("corelane.validation", "none").contains("full, header"));
        assert!(refusal("default.replication.factor", "3").contains("allow.same.machine.replicas"));
    }

    #[test]
    fn settings_of_consumer_groups_must_fit_each_other() {
        let refused = refusal("group.consumer.session.timeout.ms", "6000");
        assert!(refused.contains("at least group.consumer.min.session.timeout.ms, which is 45000"), "{refused}");
        let refused = refusal("group.consumer.heartbeat.interval.ms", "20000");
        assert!(refused.contains("group.consumer.max.heartbeat.interval.ms"), "{refused}");
        let settings =
            [("group.consumer.min.session.timeout.ms", "4000"), ("group.consumer.session.timeout.ms", "4000")];
        let refused = BrokerConfig::from_settings(settings).unwrap_err().to_string();
        assert!(refused.contains("must be below group.consumer.session.timeout.ms"), "{refused}");
        let settings =
            [("group.consumer.min.session.timeout.ms", "6000"), ("group.consumer.session.timeout.ms", "6000")];
        let config = BrokerConfig::from_settings(settings).unwrap();
        assert_eq!(config.group_consumer_session_timeout_ms, 6_000);
        assert!(refusal("group.share.session.timeout.ms", "1000").contains("group.share.min.session.timeout.ms"));
        assert!(refusal("group.streams.num.standby.replicas", "3").contains("group.streams.max.standby.replicas"));
        assert!(refusal("group.share.record.lock.duration.ms", "1000").contains("lock.duration.ms, which is 15000"));
    }

    #[test]
    fn retention_of_offsets_is_given_in_minutes() {
        let config = BrokerConfig::from_settings([("offsets.retention.minutes", "2")]).unwrap();
        assert_eq!(config.offsets_retention_ms, 120_000);
        assert_eq!(BrokerConfig::from_settings([("group.share.max.size", "20")]).unwrap().warnings().len(), 1);
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let properties = directory.path().join("server.properties");
        std::fs::write(&properties, "num.partitions=3\nlog.retention.ms=5\n").unwrap();
        let config = BrokerConfig::load(Some(&properties), &["num.partitions = 7".to_owned()]).unwrap();
        assert_eq!(config.num_partitions, 7);
        assert_eq!(config.settings().get("log.retention.ms").map(String::as_str), Some("5"));

        let toml = directory.path().join("server.toml");
        std::fs::write(&toml, "num.partitions = 9\n").unwrap();
        assert_eq!(BrokerConfig::load(Some(&toml), &[]).unwrap().num_partitions, 9);
        assert!(matches!(BrokerConfig::load(None, &["x".to_owned()]), Err(ConfigError::NoValue(_))));
        assert!(matches!(
            BrokerConfig::load(Some(Path::new("/nonexistent")), &[]),
            Err(ConfigError::Unreadable { .. })
        ));
    }
}
