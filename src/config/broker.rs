//! The broker's own settings by Kafka's key names: the table of keys, and their typed view.

use std::path::{Path, PathBuf};

use super::topic::{COMPRESSION_TYPES, TOPIC_KEYS};
use super::value::{self, BadValue, Kind, Rule};
use super::{Configs, Source, file};
use crate::limits;

/// Whether a key of Kafka's does here what it does there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// It does.
    Full,
    /// It is accepted, kept and reported, but does nothing; the sentence says why.
    None(&'static str),
}

impl Effect {
    /// The documentation of a key with this effect.
    pub(super) fn documentation(self, doc: &str) -> String {
        match self {
            Effect::Full => doc.to_owned(),
            Effect::None(why) => format!("{doc} No effect in Corelane: {why}"),
        }
    }
}

/// One broker setting.
#[derive(Debug)]
pub struct BrokerKey {
    /// Kafka's name, or our own with the prefix `corelane.`.
    pub name: &'static str,
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

    /// Whether the key may change while the broker runs: those of Kafka's `DynamicBrokerConfig` that are known here. All of
    /// them give topics their defaults, but for `producer.id.expiration.ms`.
    pub fn is_dynamic(&self) -> bool {
        self.name == PRODUCER_ID_EXPIRATION_MS
            || FIXED_SYNONYMS.binary_search(&self.name).is_err() && is_synonym(self.name)
    }

    /// The same key with less effect.
    const fn without(self, effect: Effect) -> BrokerKey {
        BrokerKey { effect, ..self }
    }

    /// What DescribeConfigs says about it.
    pub fn documentation(&self) -> String {
        self.effect.documentation(self.doc)
    }

    /// The value in force and where it comes from. `None`: not set, and without a default.
    pub fn effective(&self, broker: &BrokerConfig, node: &Configs, cluster: &Configs) -> (Option<String>, Source) {
        let layers = [
            (node, Source::DynamicBroker),
            (cluster, Source::DynamicDefaultBroker),
            (broker.settings(), Source::StaticBroker),
        ];
        for (layer, source) in layers {
            if let Some(value) = layer.get(self.name) {
                return (Some(value.clone()), source);
            }
        }
        (self.default.map(str::to_owned), Source::Default)
    }

    /// Checks a value and returns its canonical text.
    pub fn check(&self, text: &str) -> Result<String, BadValue> {
        let value = value::check(self.kind, self.rule, text)?;
        match self.name {
            "compression.type" if value != "producer" => {
                Err(BadValue::new("Corelane does not recompress: only 'producer' is accepted"))
            }
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
                warnings.push(foreign(&name)?);
                continue;
            };
            let value = key.check(&value).map_err(|reason| ConfigError::Value { name: key.name, value, reason })?;
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

    /// The settings of consumer groups must fit each other, as Kafka's `GroupCoordinatorConfig` requires.
    fn check_groups(&self) -> Result<(), ConfigError> {
        let value = |name: &str| -> i64 {
            let key = BrokerKey::named(name).expect("every name used here is in BROKER_KEYS");
            let text = self.settings.get(name).map(String::as_str).or(key.default).expect("each has a default");
            text.parse().expect("a checked INT is an integer")
        };
        const HEARTBEAT: &str = "group.consumer.heartbeat.interval.ms";
        const HEARTBEAT_MIN: &str = "group.consumer.min.heartbeat.interval.ms";
        const HEARTBEAT_MAX: &str = "group.consumer.max.heartbeat.interval.ms";
        const SESSION: &str = "group.consumer.session.timeout.ms";
        const SESSION_MIN: &str = "group.consumer.min.session.timeout.ms";
        const SESSION_MAX: &str = "group.consumer.max.session.timeout.ms";
        let ascending = [
            (HEARTBEAT_MIN, HEARTBEAT_MAX),
            (HEARTBEAT_MIN, HEARTBEAT),
            (HEARTBEAT, HEARTBEAT_MAX),
            (SESSION_MIN, SESSION_MAX),
            (SESSION_MIN, SESSION),
            (SESSION, SESSION_MAX),
        ];
        for (low, high) in ascending {
            if value(low) > value(high) {
                return Err(ConfigError::Value {
                    name: high,
                    value: value(high).to_string(),
                    reason: BadValue::new(format!("must be at least {low}, which is {}", value(low))),
                });
            }
        }
        if value(HEARTBEAT) >= value(SESSION) {
            return Err(ConfigError::Value {
                name: HEARTBEAT,
                value: value(HEARTBEAT).to_string(),
                reason: BadValue::new(format!("must be below {SESSION}, which is {}", value(SESSION))),
            });
        }
        Ok(())
    }

    /// What was set, by key, in canonical form; without keys that Kafka knows and Corelane ignores.
    pub fn settings(&self) -> &Configs {
        &self.settings
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
            fetch_max_bytes: size("fetch.max.bytes"),
            socket_request_max_bytes: size("socket.request.max.bytes"),
            connections_max_idle_ms: Some(long("connections.max.idle.ms")).filter(|ms| *ms >= 0),
            fetch_session_slots: usize::try_from(long("max.incremental.fetch.session.cache.slots"))
                .expect("the table bounds it"),
            producer_id_expiration_ms: long("producer.id.expiration.ms"),
            producer_id_expiration_check_interval_ms: long("producer.id.expiration.check.interval.ms"),
            log_retention_check_interval_ms: long("log.retention.check.interval.ms"),
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
            warnings,
        }
    }
}

/// How long a silent producer is remembered, in milliseconds.
pub const PRODUCER_ID_EXPIRATION_MS: &str = "producer.id.expiration.ms";

/// Keys that give topics a default and do not change while the broker runs, in Kafka as here.
const FIXED_SYNONYMS: &[&str] = &[
    "log.flush.scheduler.interval.ms",
    "log.retention.hours",
    "log.retention.minutes",
    "log.roll.hours",
    "log.roll.jitter.hours",
];

/// Whether a key gives topics a default.
fn is_synonym(name: &str) -> bool {
    TOPIC_KEYS.iter().any(|key| key.synonyms.iter().any(|synonym| synonym.name == name))
}

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

/// A key that is not in our table: a warning if ignoring it does no harm, else an error.
fn foreign(name: &str) -> Result<String, ConfigError> {
    if let Some((_, instead)) = UNSUPPORTED.iter().find(|(pattern, _)| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == *pattern,
    }) {
        return Err(ConfigError::Unsupported { name: name.to_owned(), instead });
    }
    if name.starts_with("group.share.") || name.starts_with("group.streams.") {
        return Ok(format!("{name} has no effect: there are no share groups and streams groups yet"));
    }
    if name.starts_with("transaction") {
        return Ok(format!("{name} has no effect: there are no transactions yet"));
    }
    if IGNORED.contains(&name) {
        return Ok(format!("{name} has no effect: Corelane has nothing that it would shape"));
    }
    let known = BROKER_KEYS.iter().map(|key| key.name).chain(IGNORED.iter().copied());
    Err(ConfigError::Unknown { name: name.to_owned(), suggestion: super::nearest(name, known) })
}

/// Kafka's keys whose silence would deceive, with what to do instead. A star stands for any end.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("listeners", "use --listen"),
    ("advertised.listeners", "use --advertised-host"),
    ("log.dir", "use --data"),
    ("log.dirs", "use --data"),
    ("metadata.log.dir", "use --data"),
    ("broker.rack", "the rack of a node is its machine"),
    ("authorizer.class.name", "there are no access control lists yet"),
    ("sasl.*", "there is no authentication yet"),
    ("ssl.*", "there is no encryption yet"),
    ("security.*", "there is no encryption or authentication yet"),
    ("listener.security.protocol.map", "there is no encryption or authentication yet"),
    ("principal.builder.class", "there is no authentication yet"),
    ("delegation.token.*", "there is no authentication yet"),
    ("connections.max.reauth.ms", "there is no authentication yet"),
    ("client.quota.callback.class", "there are no quotas yet"),
    ("max.connections*", "there are no connection quotas yet"),
    ("max.connection.creation.rate", "there are no connection quotas yet"),
    ("create.topic.policy.class.name", "a class cannot be loaded here"),
    ("alter.config.policy.class.name", "a class cannot be loaded here"),
    ("remote.log.storage.system.enable", "there is no tiered storage"),
];

/// Kafka 4.1's keys for parts that Corelane does not have: harmless to ignore, told once at start.
const IGNORED: &[&str] = &[
    "add.partitions.to.txn.retry.backoff.max.ms",
    "add.partitions.to.txn.retry.backoff.ms",
    "auto.leader.rebalance.enable",
    "background.threads",
    "broker.heartbeat.interval.ms",
    "broker.id",
    "broker.session.timeout.ms",
    "controlled.shutdown.enable",
    "controller.listener.names",
    "controller.quorum.append.linger.ms",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.election.backoff.max.ms",
    "controller.quorum.election.timeout.ms",
    "controller.quorum.fetch.timeout.ms",
    "controller.quorum.request.timeout.ms",
    "controller.quorum.retry.backoff.ms",
    "controller.quorum.voters",
    "controller.socket.timeout.ms",
    "delete.records.purgatory.purge.interval.requests",
    "early.start.listeners",
    "fetch.purgatory.purge.interval.requests",
    "initial.broker.registration.timeout.ms",
    "inter.broker.listener.name",
    "leader.imbalance.check.interval.seconds",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.enable",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
    "log.dir.failure.timeout.ms",
    "log.flush.offset.checkpoint.interval.ms",
    "log.flush.start.offset.checkpoint.interval.ms",
    "metadata.log.max.record.bytes.between.snapshots",
    "metadata.log.max.snapshot.interval.ms",
    "metadata.log.segment.bytes",
    "metadata.log.segment.ms",
    "metadata.max.idle.interval.ms",
    "metadata.max.retention.bytes",
    "metadata.max.retention.ms",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "node.id",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.alter.log.dirs.threads",
    "num.replica.fetchers",
    "process.roles",
    "producer.purgatory.purge.interval.requests",
    "queued.max.request.bytes",
    "queued.max.requests",
    "replica.fetch.backoff.ms",
    "replica.fetch.max.bytes",
    "replica.fetch.min.bytes",
    "replica.fetch.response.max.bytes",
    "replica.fetch.wait.max.ms",
    "replica.high.watermark.checkpoint.interval.ms",
    "replica.lag.time.max.ms",
    "replica.selector.class",
    "replica.socket.receive.buffer.bytes",
    "replica.socket.timeout.ms",
    "request.timeout.ms",
    "socket.connection.setup.timeout.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.listen.backlog.size",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "unstable.api.versions.enable",
    "unstable.feature.versions.enable",
];

const NO_THREADS: Effect = Effect::None("a core coordinates the groups whose partitions it leads.");
const NO_CONVERSION: Effect = Effect::None("a group with members is not converted to the other protocol.");
const BOTH_PROTOCOLS: Effect = Effect::None("classic and consumer groups are always served, and no others.");
const ASSIGNORS: Effect = Effect::None("the assignors are always uniform, the default, and range.");
/// Why settings of transactions do nothing.
const NO_TRANSACTIONS: Effect = Effect::None("there are no transactions yet.");

const LONG_MAX: &str = "9223372036854775807";
const ONE_LOG: Effect =
    Effect::None("all partitions of a core share one log, whose segments, indexes and files no topic shapes.");
const COMPACTION: Effect = Effect::None("compaction is not there yet; the value is kept for it.");
const TIERED: Effect = Effect::None("there is no tiered storage.");
const RECOMPRESSION: Effect = Effect::None("batches are stored as their producer compressed them.");
const ONE_REPLICA: Effect = Effect::None("a partition has one replica.");

/// A row whose key works as in Kafka.
const fn key(name: &'static str, kind: Kind, rule: Rule, default: &'static str, doc: &'static str) -> BrokerKey {
    BrokerKey { name, kind, rule, default: Some(default), doc, effect: Effect::Full }
}

/// A row whose key leaves the decision to another key when it is not set.
const fn unset(name: &'static str, kind: Kind, rule: Rule, doc: &'static str) -> BrokerKey {
    BrokerKey { name, kind, rule, default: None, doc, effect: Effect::Full }
}

/// The settings that Corelane knows, by name: defaults are Kafka 4.1's unless the documentation says otherwise.
pub static BROKER_KEYS: &[BrokerKey] = &[
    key(
        "allow.same.machine.replicas",
        Kind::Boolean,
        Rule::Any,
        "false",
        "Corelane's own. Accepts topics with a replication factor above 1 from tools that insist on one. One replica is \
         kept and reported all the same: copies inside one process protect from nothing. min.insync.replicas then counts as 1.",
    ),
    key("auto.create.topics.enable", Kind::Boolean, Rule::Any, "true", "Whether asking for a topic creates it."),
    key(
        "compression.gzip.level",
        Kind::Int,
        Rule::BetweenOr(1, 9, -1),
        "-1",
        "Level at which the broker compresses with gzip.",
    )
    .without(RECOMPRESSION),
    key(
        "compression.lz4.level",
        Kind::Int,
        Rule::Between(1, 17),
        "9",
        "Level at which the broker compresses with lz4.",
    )
    .without(RECOMPRESSION),
    key(
        "compression.type",
        Kind::String,
        Rule::OneOf(COMPRESSION_TYPES),
        "producer",
        "The codec in which batches are stored; 'producer' alone is accepted.",
    ),
    key(
        "compression.zstd.level",
        Kind::Int,
        Rule::Between(-131_072, 22),
        "3",
        "Level at which the broker compresses with zstd.",
    )
    .without(RECOMPRESSION),
    key(
        "connections.max.idle.ms",
        Kind::Long,
        Rule::Any,
        "600000",
        "A connection without traffic for so many milliseconds is closed; negative is never.",
    ),
    key(
        "corelane.validation",
        Kind::String,
        Rule::OneOf(&["full", "header"]),
        "full",
        "Corelane's own. How much of a produced batch is looked at: 'full' walks and decompresses every record as Kafka \
         does, 'header' checks the batch header and its checksum.",
    ),
    key(
        "default.replication.factor",
        Kind::Int,
        Rule::Between(1, 32_767),
        "1",
        "Replication factor of topics that do not say.",
    ),
    key("delete.topic.enable", Kind::Boolean, Rule::Any, "true", "Whether topics may be deleted."),
    key("fetch.max.bytes", Kind::Int, Rule::AtLeast(1024), "57671680", "Largest fetch answer, in bytes."),
    key(
        "group.consumer.assignors",
        Kind::List,
        Rule::Any,
        "uniform,range",
        "Assignors that the broker runs for consumer groups, the default first.",
    )
    .without(ASSIGNORS),
    key(
        "group.consumer.heartbeat.interval.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "5000",
        "How often members of consumer groups shall send heartbeats, in milliseconds.",
    ),
    key(
        "group.consumer.max.heartbeat.interval.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "15000",
        "Greatest value of group.consumer.heartbeat.interval.ms, in milliseconds.",
    ),
    key(
        "group.consumer.max.session.timeout.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "60000",
        "Greatest value of group.consumer.session.timeout.ms, in milliseconds.",
    ),
    key("group.consumer.max.size", Kind::Int, Rule::AtLeast(1), "2147483647", "Most members of a consumer group."),
    key(
        "group.consumer.migration.policy",
        Kind::String,
        Rule::OneOf(&["bidirectional", "disabled", "downgrade", "upgrade"]),
        "disabled",
        "Which groups with members may change between the classic and the consumer protocol. Apache Kafka's own default \
         is bidirectional.",
    )
    .without(NO_CONVERSION),
    key(
        "group.consumer.min.heartbeat.interval.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "5000",
        "Least value of group.consumer.heartbeat.interval.ms, in milliseconds.",
    ),
    key(
        "group.consumer.min.session.timeout.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "45000",
        "Least value of group.consumer.session.timeout.ms, in milliseconds.",
    ),
    key(
        "group.consumer.session.timeout.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "45000",
        "Silence after which a member of a consumer group is gone, in milliseconds.",
    ),
    key(
        "group.coordinator.append.linger.ms",
        Kind::Int,
        Rule::AtLeast(0),
        "10",
        "How long records of groups wait for others to share their batch, in milliseconds.",
    )
    .without(Effect::None("records that come while the log is busy share a batch without waiting.")),
    key(
        "group.coordinator.rebalance.protocols",
        Kind::List,
        Rule::OneOf(&["classic", "consumer", "share", "streams"]),
        "classic,consumer",
        "Protocols of groups that are served.",
    )
    .without(BOTH_PROTOCOLS),
    key("group.coordinator.threads", Kind::Int, Rule::AtLeast(1), "4", "Threads that coordinate groups.")
        .without(NO_THREADS),
    key(
        "group.initial.rebalance.delay.ms",
        Kind::Int,
        Rule::Any,
        "3000",
        "How long the first generation of a classic group waits for further members, in milliseconds.",
    ),
    key(
        "group.max.session.timeout.ms",
        Kind::Int,
        Rule::Any,
        "1800000",
        "Greatest session timeout that members of classic groups may ask for, in milliseconds.",
    ),
    key("group.max.size", Kind::Int, Rule::AtLeast(1), "2147483647", "Most members of a classic group."),
    key(
        "group.min.session.timeout.ms",
        Kind::Int,
        Rule::Any,
        "6000",
        "Least session timeout that members of classic groups may ask for, in milliseconds.",
    ),
    key(
        "log.cleaner.delete.retention.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "86400000",
        "How long compaction keeps a tombstone, in milliseconds.",
    )
    .without(COMPACTION),
    key(
        "log.cleaner.max.compaction.lag.ms",
        Kind::Long,
        Rule::AtLeast(1),
        LONG_MAX,
        "Longest time a record stays uncompacted, in milliseconds.",
    )
    .without(COMPACTION),
    key(
        "log.cleaner.min.cleanable.ratio",
        Kind::Double,
        Rule::Fraction,
        "0.5",
        "Share of uncompacted bytes from which a log is compacted.",
    )
    .without(COMPACTION),
    key(
        "log.cleaner.min.compaction.lag.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "0",
        "Shortest time a record stays uncompacted, in milliseconds.",
    )
    .without(COMPACTION),
    key(
        "log.cleanup.policy",
        Kind::List,
        Rule::OneOf(&["compact", "delete"]),
        "delete",
        "cleanup.policy of topics that do not say.",
    ),
    key(
        "log.flush.interval.messages",
        Kind::Long,
        Rule::AtLeast(1),
        "1",
        "Durability of topics that do not say: 1 is 'flushed', any other value 'written' (flush.messages has more). \
         Apache Kafka's own default is 9223372036854775807.",
    ),
    unset("log.flush.interval.ms", Kind::Long, Rule::Any, "Longest time between flushes, in milliseconds.")
        .without(Effect::None("log.flush.interval.messages alone decides.")),
    key(
        "log.flush.scheduler.interval.ms",
        Kind::Long,
        Rule::Any,
        LONG_MAX,
        "Time between two looks for logs to flush, in milliseconds.",
    )
    .without(Effect::None("log.flush.interval.messages alone decides.")),
    key(
        "log.index.interval.bytes",
        Kind::Int,
        Rule::AtLeast(0),
        "4096",
        "Distance between entries of a segment's offset index, in bytes.",
    )
    .without(ONE_LOG),
    key(
        "log.index.size.max.bytes",
        Kind::Int,
        Rule::AtLeast(4),
        "10485760",
        "Size of a segment's offset index, in bytes.",
    )
    .without(ONE_LOG),
    key(
        "log.local.retention.bytes",
        Kind::Long,
        Rule::AtLeast(-2),
        "-2",
        "Size of what tiered storage keeps locally, in bytes.",
    )
    .without(TIERED),
    key(
        "log.local.retention.ms",
        Kind::Long,
        Rule::AtLeast(-2),
        "-2",
        "Age of what tiered storage keeps locally, in milliseconds.",
    )
    .without(TIERED),
    key(
        "log.message.timestamp.after.max.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "3600000",
        "How far ahead of the broker's clock a producer's timestamp may lie, in milliseconds.",
    ),
    key(
        "log.message.timestamp.before.max.ms",
        Kind::Long,
        Rule::AtLeast(0),
        LONG_MAX,
        "How far behind the broker's clock a producer's timestamp may lie, in milliseconds.",
    ),
    key(
        "log.message.timestamp.type",
        Kind::String,
        Rule::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).",
    ),
    key("log.preallocate", Kind::Boolean, Rule::Any, "false", "Whether segment files get their space when created.")
        .without(ONE_LOG),
    key(
        "log.retention.bytes",
        Kind::Long,
        Rule::Any,
        "-1",
        "Size of a partition beyond which its oldest batches are discarded, in bytes; negative is unlimited.",
    ),
    key(
        "log.retention.check.interval.ms",
        Kind::Long,
        Rule::AtLeast(1),
        "300000",
        "Time between two looks for batches to discard, in milliseconds.",
    ),
    key("log.retention.hours", Kind::Int, Rule::Any, "168", "Age after which batches are discarded, in hours."),
    unset(
        "log.retention.minutes",
        Kind::Int,
        Rule::Any,
        "Age after which batches are discarded, in minutes; unset leaves it to log.retention.hours.",
    ),
    unset(
        "log.retention.ms",
        Kind::Long,
        Rule::Any,
        "Age after which batches are discarded, in milliseconds; unset leaves it to log.retention.minutes.",
    ),
    key("log.roll.hours", Kind::Int, Rule::AtLeast(1), "168", "Age at which a segment is closed, in hours.")
        .without(ONE_LOG),
    key("log.roll.jitter.hours", Kind::Int, Rule::AtLeast(0), "0", "Random part of log.roll.hours, in hours.")
        .without(ONE_LOG),
    unset("log.roll.jitter.ms", Kind::Long, Rule::Any, "Random part of log.roll.ms, in milliseconds.").without(ONE_LOG),
    unset("log.roll.ms", Kind::Long, Rule::Any, "Age at which a segment is closed, in milliseconds.").without(ONE_LOG),
    key(
        "log.segment.bytes",
        Kind::Int,
        Rule::AtLeast(1024 * 1024),
        "1073741824",
        "segment.bytes of topics that do not say: only bounds the size of a batch, since segments belong to the core.",
    ),
    key(
        "log.segment.delete.delay.ms",
        Kind::Long,
        Rule::AtLeast(0),
        "60000",
        "How long a discarded file stays on disk, in milliseconds.",
    )
    .without(ONE_LOG),
    key(
        "max.incremental.fetch.session.cache.slots",
        Kind::Int,
        Rule::Between(0, 100_000),
        "1000",
        "Most fetch sessions of a node.",
    ),
    key(
        "message.max.bytes",
        Kind::Int,
        Rule::AtLeast(0),
        "1048588",
        "Largest record batch accepted, in bytes, after compression, for topics that do not say.",
    ),
    key("min.insync.replicas", Kind::Int, Rule::AtLeast(1), "1", "min.insync.replicas of topics that do not say."),
    key("num.partitions", Kind::Int, Rule::AtLeast(1), "1", "Partitions of topics that do not say how many."),
    key(
        "offset.metadata.max.bytes",
        Kind::Int,
        Rule::Any,
        "4096",
        "Longest note that a client may commit with an offset, in bytes.",
    ),
    key(
        "offsets.commit.timeout.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "5000",
        "How long the answer of a coordinator may wait for its records, in milliseconds, before the client is told to \
         come back.",
    ),
    key(
        "offsets.load.buffer.size",
        Kind::Int,
        Rule::AtLeast(1),
        "5242880",
        "Bytes that a loading coordinator reads at a time.",
    )
    .without(Effect::None("it reads a mebibyte at a time.")),
    key(
        "offsets.retention.check.interval.ms",
        Kind::Long,
        Rule::AtLeast(1),
        "600000",
        "Time between two looks for expired offsets, in milliseconds.",
    ),
    key(
        "offsets.retention.minutes",
        Kind::Int,
        Rule::AtLeast(1),
        "10080",
        "How long offsets are kept after their group has lost its last member, in minutes; without members ever, after \
         the last commit.",
    ),
    key(
        "offsets.topic.compression.codec",
        Kind::Int,
        Rule::Between(0, 4),
        "0",
        "Codec of batches of __consumer_offsets.",
    )
    .without(Effect::None("the broker writes its own batches without compression.")),
    key(
        "offsets.topic.num.partitions",
        Kind::Int,
        Rule::Between(1, 10_000),
        "50",
        "Partitions of __consumer_offsets; fixed once it exists.",
    ),
    key(
        "offsets.topic.replication.factor",
        Kind::Short,
        Rule::AtLeast(1),
        "3",
        "Replication factor of __consumer_offsets.",
    )
    .without(ONE_REPLICA),
    key(
        "offsets.topic.segment.bytes",
        Kind::Int,
        Rule::AtLeast(1024 * 1024),
        "104857600",
        "segment.bytes of __consumer_offsets.",
    ),
    key(
        "producer.id.expiration.check.interval.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "600000",
        "Time between two looks for expired producers, in milliseconds.",
    ),
    key(
        "producer.id.expiration.ms",
        Kind::Int,
        Rule::AtLeast(1),
        "86400000",
        "An idempotent producer is forgotten after so many milliseconds without a batch.",
    ),
    key("socket.request.max.bytes", Kind::Int, Rule::AtLeast(1), "104857600", "Largest request accepted, in bytes."),
    key(
        "transaction.state.log.num.partitions",
        Kind::Int,
        Rule::Between(1, 10_000),
        "50",
        "Partitions of __transaction_state; fixed once it exists.",
    )
    .without(NO_TRANSACTIONS),
    key(
        "unclean.leader.election.enable",
        Kind::Boolean,
        Rule::Any,
        "false",
        "Whether a replica out of sync may become leader.",
    )
    .without(ONE_REPLICA),
];

#[cfg(test)]
mod tests {
    use super::super::topic::TOPIC_KEYS;
    use super::*;

    fn refusal(name: &str, value: &str) -> String {
        BrokerConfig::from_settings([(name, value)]).unwrap_err().to_string()
    }

    /// What Apache Kafka 4.1.1 tells to be changeable, of the keys that are known here.
    #[test]
    fn keys_that_change_at_run_time_are_kafkas() {
        let dynamic = BROKER_KEYS.iter().filter(|key| key.is_dynamic()).map(|key| key.name).collect::<Vec<_>>();
        let expected = [
            "compression.gzip.level",
            "compression.lz4.level",
            "compression.type",
            "compression.zstd.level",
            "log.cleaner.delete.retention.ms",
            "log.cleaner.max.compaction.lag.ms",
            "log.cleaner.min.cleanable.ratio",
            "log.cleaner.min.compaction.lag.ms",
            "log.cleanup.policy",
            "log.flush.interval.messages",
            "log.flush.interval.ms",
            "log.index.interval.bytes",
            "log.index.size.max.bytes",
            "log.local.retention.bytes",
            "log.local.retention.ms",
            "log.message.timestamp.after.max.ms",
            "log.message.timestamp.before.max.ms",
            "log.message.timestamp.type",
            "log.preallocate",
            "log.retention.bytes",
            "log.retention.ms",
            "log.roll.jitter.ms",
            "log.roll.ms",
            "log.segment.bytes",
            "log.segment.delete.delay.ms",
            "message.max.bytes",
            "min.insync.replicas",
            "producer.id.expiration.ms",
            "unclean.leader.election.enable",
        ];
        assert_eq!(dynamic, expected);
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

    #[test]
    fn a_key_without_effect_is_a_warning() {
        let config =
            BrokerConfig::from_settings([("num.io.threads", "8"), ("log.roll.hours", "3"), ("num.partitions", "4")])
                .unwrap();
        assert_eq!(config.warnings().len(), 2);
        assert_eq!(config.num_partitions, 4);
        assert_eq!(config.settings().get("log.roll.hours").map(String::as_str), Some("3"));
    }

    #[test]
    fn bad_values_are_refused_with_their_reason() {
        assert_eq!(
            refusal("num.partitions", "0"),
            "invalid value 0 for configuration num.partitions: Value must be at least 1"
        );
        assert!(refusal("message.max.bytes", "100000000").contains("at most"));
        assert!(refusal("compression.type", "zstd").contains("recompress"));
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
