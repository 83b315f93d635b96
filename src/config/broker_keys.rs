//! Every broker key of Kafka 4.1, and our own: the one table that a start, DescribeConfigs and (Incremental)AlterConfigs go by.
//!
//! A row: when the key may change, its name, type and allowed values, its default, what it does here, what it is for.
//! `fixed` keys count from the start on; `dynamic` ones change while the broker runs, `node` ones too, but only for single
//! nodes; `hidden` ones are fixed and told only when they are set. Names, types, defaults and modes are those of a
//! running Kafka 4.1.1, unless the documentation says otherwise.

use super::broker::Effect::{self, Elsewhere, Full, None, Unsupported};
use super::broker::{BrokerKey, Update};
use super::topic::COMPRESSION_TYPES;
use super::value::Kind;
use super::value::Rule::{self, AtLeast, Between, BetweenOr, Fraction, NonZero, OneOf, OneOfAnyCase};

// What works in another way here, or is not there: the key does no harm and has no effect.
const ASSIGNORS: Effect = None("the assignors are always uniform, the default, and range.");
const BOTH_PROTOCOLS: Effect = None("classic and consumer groups are always served, and no others.");
const CLEANER_MEMORY: Effect =
    None("compaction has up to 16 MiB for the keys of a core, and works on one batch at a time.");
const FLUSH_MESSAGES: Effect = None("log.flush.interval.messages alone decides.");
const LOAD_BUFFER: Effect = None("it reads a mebibyte at a time.");
const NODES_NUMBERED: Effect =
    None("a node is a core: its number is that of the core, from 1 on, and the first one is the controller.");
const NO_CONVERSION: Effect = None("a group with members is not converted to the other protocol.");
const NO_EARLY_LISTENERS: Effect = None("there is no authorizer to wait for.");
const NO_GROUP_THREADS: Effect = None("a core coordinates the groups whose partitions it leads.");
const NO_LINGER: Effect = None("records that come while the log is busy share a batch without waiting.");
const NO_LOGIN: Effect = None("there is no authentication yet.");
const NO_PEERS: Effect = None("no node connects to another.");
const NO_PURGE: Effect = None("a request that waits is gone as soon as it is answered.");
const NO_QUORUM: Effect = None("there is no KRaft quorum: the first node keeps the metadata.");
const NO_QUOTAS: Effect = None("there are no quotas yet.");
const NO_REPORTERS: Effect = None("metrics are told by the HTTP endpoint, in Prometheus' form.");
const NO_SHARE_GROUPS: Effect = None("there are no share groups yet.");
const NO_STREAMS_GROUPS: Effect = None("there are no streams groups yet.");
const NO_TELEMETRY: Effect = None("clients send no telemetry here.");
const NO_THREADS: Effect = None("every core has one thread that does all of its work.");
const NO_TRANSACTIONS: Effect = None("there are no transactions yet.");
const ONE_LOG: Effect =
    None("all partitions of a core share one log, whose segments, indexes and files no topic shapes.");
const ONE_REPLICA: Effect = None("a partition has one replica.");
const OWN_BATCHES: Effect = None("the broker writes its own batches without compression.");
const OWN_BOUNDS: Effect = None("Corelane has bounds of its own.");
const OWN_FEATURES: Effect = None("only what is final is offered.");
const OWN_METADATA: Effect =
    None("the metadata log is a partition of the first core, which begins anew by a rule of its own.");
const REGEX: Effect = None("a pattern is looked at again whenever topics change.");
const TIERED: Effect = None("there is no tiered storage.");

// What somebody relies on who sets it: only the default is accepted.
const NO_AUTHENTICATION: Effect = Unsupported("there is no authentication yet");
const NO_AUTHORIZATION: Effect = Unsupported("there are no access control lists yet");
const NO_CLASSES: Effect = Unsupported("a class cannot be loaded here");
const NO_CONNECTION_QUOTAS: Effect = Unsupported("there are no connection quotas yet");
const NO_ENCRYPTION: Effect = Unsupported("there is no encryption yet");
const NO_QUOTA_CLASS: Effect = Unsupported("there are no quotas yet");
const NO_SECURITY: Effect = Unsupported("there is no encryption or authentication yet");
const NO_TIERS: Effect = Unsupported("there is no tiered storage");

// What the command line or the machine decides.
const DATA: Effect = Elsewhere("use --data");
const LISTENERS: Effect = Elsewhere("use --listen");
const LISTENERS_ADVERTISED: Effect = Elsewhere("use --advertised-host");
const RACK: Effect = Elsewhere("the rack of a node is its machine");

const MIGRATION_POLICIES: &[&str] = &["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"];

/// Rows of the table: `mode "name" Kind(Rule) = "default", EFFECT, "documentation";`, without a rule where every value of the
/// type is allowed, without a default where there is none.
macro_rules! broker_keys {
    ($($mode:ident $name:literal $kind:ident $(($rule:expr))? $(= $default:literal)?, $effect:expr, $doc:literal;)*) => {
        /// All broker keys, by name.
        pub static BROKER_KEYS: &[BrokerKey] = &[$(BrokerKey {
            name: $name,
            update: broker_keys!(@update $mode),
            kind: Kind::$kind,
            rule: broker_keys!(@rule $($rule)?),
            default: broker_keys!(@default $($default)?),
            doc: $doc,
            effect: $effect,
        }),*];
    };
    (@update fixed) => { Update::Fixed };
    (@update dynamic) => { Update::Dynamic };
    (@update node) => { Update::PerNode };
    (@update hidden) => { Update::Hidden };
    (@rule) => { Rule::Any };
    (@rule $rule:expr) => { $rule };
    (@default) => { ::std::option::Option::None };
    (@default $default:literal) => { Some($default) };
}

broker_keys! {
    fixed   "add.partitions.to.txn.retry.backoff.max.ms" Int(AtLeast(0)) = "100", NO_TRANSACTIONS,
        "Longest time in which adding a partition to a transaction is tried again, in milliseconds.";
    fixed   "add.partitions.to.txn.retry.backoff.ms" Int(AtLeast(1)) = "20", NO_TRANSACTIONS,
        "Wait before adding a partition to a transaction is tried again, in milliseconds.";
    fixed   "advertised.listeners" String, LISTENERS_ADVERTISED, "Addresses that clients are told.";
    fixed   "allow.same.machine.replicas" Boolean = "false", Full,
        "Corelane's own. Accepts topics with a replication factor above 1 from tools that insist on one. One \
         replica is kept and reported all the same: copies inside one process protect from nothing.";
    fixed   "alter.config.policy.class.name" Class, NO_CLASSES, "Class that may refuse a change of configurations.";
    fixed   "alter.log.dirs.replication.quota.window.num" Int(AtLeast(1)) = "11", ONE_REPLICA,
        "Samples kept for the quota of moves between directories.";
    fixed   "alter.log.dirs.replication.quota.window.size.seconds" Int(AtLeast(1)) = "1", ONE_REPLICA,
        "Length of one of these samples, in seconds.";
    fixed   "authorizer.class.name" String = "", NO_AUTHORIZATION, "Class that decides who may do what.";
    fixed   "auto.create.topics.enable" Boolean = "true", Full, "Whether asking for a topic creates it.";
    fixed   "auto.leader.rebalance.enable" Boolean = "true", ONE_REPLICA,
        "Whether preferred replicas become leaders again by themselves.";
    dynamic "background.threads" Int(AtLeast(1)) = "10", NO_THREADS, "Threads for background work.";
    fixed   "broker.heartbeat.interval.ms" Int = "2000", NO_QUORUM,
        "Time between two heartbeats to the controller, in milliseconds.";
    fixed   "broker.id" Int = "-1", NODES_NUMBERED, "Older name of node.id.";
    fixed   "broker.rack" String, RACK, "Where the node stands, so that replicas of a partition stand apart.";
    fixed   "broker.session.timeout.ms" Int = "9000", NO_QUORUM,
        "Silence after which the controller takes a node for gone, in milliseconds.";
    fixed   "client.quota.callback.class" Class, NO_QUOTA_CLASS, "Class that sets the quotas of clients.";
    dynamic "compression.gzip.level" Int(BetweenOr(1, 9, -1)) = "-1", Full,
        "Level at which the broker compresses with gzip, for topics that do not say.";
    dynamic "compression.lz4.level" Int(Between(1, 17)) = "9", Full,
        "Level at which the broker compresses with lz4, for topics that do not say.";
    dynamic "compression.type" String(OneOf(COMPRESSION_TYPES)) = "producer", Full,
        "The codec in which batches are stored, for topics that do not say; 'producer' leaves each as it came.";
    dynamic "compression.zstd.level" Int(Between(-131_072, 22)) = "3", Full,
        "Level at which the broker compresses with zstd, for topics that do not say.";
    fixed   "connection.failed.authentication.delay.ms" Int(AtLeast(0)) = "100", NO_LOGIN,
        "Wait before a connection is closed whose authentication failed, in milliseconds.";
    fixed   "connections.max.idle.ms" Long = "600000", Full,
        "A connection without traffic for so many milliseconds is closed; negative is never.";
    fixed   "connections.max.reauth.ms" Long = "0", NO_AUTHENTICATION,
        "Time after which a client must authenticate again, in milliseconds.";
    fixed   "controlled.shutdown.enable" Boolean = "true", ONE_REPLICA,
        "Whether a node hands its partitions over before it stops.";
    fixed   "controller.listener.names" String, NO_QUORUM, "Names of the listeners of controllers.";
    hidden  "controller.performance.always.log.threshold.ms" Long(AtLeast(0)) = "2000", NO_QUORUM,
        "Duration from which slow controller events are logged, in milliseconds.";
    hidden  "controller.performance.sample.period.ms" Long(AtLeast(100)) = "60000", NO_QUORUM,
        "Time between two log lines about controller events, in milliseconds.";
    fixed   "controller.quorum.append.linger.ms" Int(AtLeast(0)) = "25", NO_QUORUM,
        "How long metadata records wait for others to share their write, in milliseconds.";
    fixed   "controller.quorum.bootstrap.servers" List = "", NO_QUORUM,
        "Addresses through which the controllers are found.";
    fixed   "controller.quorum.election.backoff.max.ms" Int(AtLeast(0)) = "1000", NO_QUORUM,
        "Longest wait before a new election of controllers, in milliseconds.";
    fixed   "controller.quorum.election.timeout.ms" Int(AtLeast(0)) = "1000", NO_QUORUM,
        "Longest wait for votes before a new election, in milliseconds.";
    fixed   "controller.quorum.fetch.timeout.ms" Int(AtLeast(0)) = "2000", NO_QUORUM,
        "Longest time without an answer of the active controller before an election, in milliseconds.";
    fixed   "controller.quorum.request.timeout.ms" Int(AtLeast(0)) = "2000", NO_QUORUM,
        "Longest wait for an answer of a controller, in milliseconds.";
    fixed   "controller.quorum.retry.backoff.ms" Int(AtLeast(0)) = "20", NO_QUORUM,
        "Wait before a controller is asked again, in milliseconds.";
    fixed   "controller.quorum.voters" List = "", NO_QUORUM, "Ids and addresses of a fixed set of controllers.";
    fixed   "controller.quota.window.num" Int(AtLeast(1)) = "11", NO_QUOTAS,
        "Samples kept for the quota of topic changes.";
    fixed   "controller.quota.window.size.seconds" Int(AtLeast(1)) = "1", NO_QUOTAS,
        "Length of one of these samples, in seconds.";
    fixed   "controller.socket.timeout.ms" Int = "30000", NO_QUORUM,
        "Longest wait on a connection to a controller, in milliseconds.";
    fixed   "corelane.scrub.bytes.per.second" Long(AtLeast(0)) = "1048576", Full,
        "Corelane's own. How fast old data is read again to find what is damaged, in bytes per second and core; 0 turns it \
         off.";
    fixed   "corelane.validation" String(OneOf(&["full", "header"])) = "full", Full,
        "Corelane's own. How much of a produced batch is looked at: 'full' walks and decompresses every record as \
         Kafka does, 'header' checks the batch header and its checksum.";
    fixed   "create.topic.policy.class.name" Class, NO_CLASSES, "Class that may refuse a new topic.";
    fixed   "default.replication.factor" Int(Between(1, 32_767)) = "1", Full,
        "Replication factor of topics that do not say.";
    fixed   "delegation.token.expiry.check.interval.ms" Long(AtLeast(1)) = "3600000", NO_AUTHENTICATION,
        "Time between two looks for expired delegation tokens, in milliseconds.";
    fixed   "delegation.token.expiry.time.ms" Long(AtLeast(1)) = "86400000", NO_AUTHENTICATION,
        "Time after which a delegation token must be renewed, in milliseconds.";
    fixed   "delegation.token.max.lifetime.ms" Long(AtLeast(1)) = "604800000", NO_AUTHENTICATION,
        "Time after which a delegation token cannot be renewed any more, in milliseconds.";
    fixed   "delegation.token.secret.key" Password, NO_AUTHENTICATION, "Secret from which delegation tokens are made.";
    fixed   "delete.records.purgatory.purge.interval.requests" Int = "1", NO_PURGE,
        "Deletions of records between two purges of those that were answered.";
    fixed   "delete.topic.enable" Boolean = "true", Full, "Whether topics may be deleted.";
    fixed   "early.start.listeners" String, NO_EARLY_LISTENERS, "Listeners that open before the authorizer is ready.";
    fixed   "fetch.max.bytes" Int(AtLeast(1024)) = "57671680", Full, "Largest fetch answer, in bytes.";
    fixed   "fetch.purgatory.purge.interval.requests" Int = "1000", NO_PURGE,
        "Fetches between two purges of those that were answered.";
    fixed   "group.consumer.assignors" List = "uniform,range", ASSIGNORS,
        "Assignors that the broker runs for consumer groups, the default first.";
    fixed   "group.consumer.heartbeat.interval.ms" Int(AtLeast(1)) = "5000", Full,
        "How often members of consumer groups shall send heartbeats, in milliseconds.";
    fixed   "group.consumer.max.heartbeat.interval.ms" Int(AtLeast(1)) = "15000", Full,
        "Greatest value of group.consumer.heartbeat.interval.ms, in milliseconds.";
    fixed   "group.consumer.max.session.timeout.ms" Int(AtLeast(1)) = "60000", Full,
        "Greatest value of group.consumer.session.timeout.ms, in milliseconds.";
    fixed   "group.consumer.max.size" Int(AtLeast(1)) = "2147483647", Full, "Most members of a consumer group.";
    fixed   "group.consumer.migration.policy" String(OneOfAnyCase(MIGRATION_POLICIES))
        = "disabled", NO_CONVERSION,
        "Which groups with members may change between the classic and the consumer protocol. Apache Kafka's own \
         default is bidirectional.";
    fixed   "group.consumer.min.heartbeat.interval.ms" Int(AtLeast(1)) = "5000", Full,
        "Least value of group.consumer.heartbeat.interval.ms, in milliseconds.";
    fixed   "group.consumer.min.session.timeout.ms" Int(AtLeast(1)) = "45000", Full,
        "Least value of group.consumer.session.timeout.ms, in milliseconds.";
    hidden  "group.consumer.regex.refresh.interval.ms" Int(AtLeast(10_000)) = "600000", REGEX,
        "Time between two looks for new topics of a pattern, in milliseconds.";
    fixed   "group.consumer.session.timeout.ms" Int(AtLeast(1)) = "45000", Full,
        "Silence after which a member of a consumer group is gone, in milliseconds.";
    fixed   "group.coordinator.append.linger.ms" Int(AtLeast(0)) = "5", NO_LINGER,
        "How long records of groups wait for others to share their batch, in milliseconds.";
    fixed   "group.coordinator.rebalance.protocols" List(OneOf(&["classic", "consumer", "share", "streams"]))
        = "classic,consumer", BOTH_PROTOCOLS,
        "Protocols of groups that are served.";
    fixed   "group.coordinator.threads" Int(AtLeast(1)) = "4", NO_GROUP_THREADS, "Threads that coordinate groups.";
    fixed   "group.initial.rebalance.delay.ms" Int = "3000", Full,
        "How long the first generation of a classic group waits for further members, in milliseconds.";
    fixed   "group.max.session.timeout.ms" Int = "1800000", Full,
        "Greatest session timeout that members of classic groups may ask for, in milliseconds.";
    fixed   "group.max.size" Int(AtLeast(1)) = "2147483647", Full, "Most members of a classic group.";
    fixed   "group.min.session.timeout.ms" Int = "6000", Full,
        "Least session timeout that members of classic groups may ask for, in milliseconds.";
    fixed   "group.share.assignors" List = "simple", NO_SHARE_GROUPS,
        "Assignors that the broker runs for share groups.";
    fixed   "group.share.delivery.count.limit" Int(Between(2, 10)) = "5", NO_SHARE_GROUPS,
        "Most deliveries of a record to a share group.";
    hidden  "group.share.enable" Boolean = "false", NO_SHARE_GROUPS, "Whether there are share groups.";
    fixed   "group.share.heartbeat.interval.ms" Int(AtLeast(1)) = "5000", NO_SHARE_GROUPS,
        "How often members of share groups shall send heartbeats, in milliseconds.";
    fixed   "group.share.max.heartbeat.interval.ms" Int(AtLeast(1)) = "15000", NO_SHARE_GROUPS,
        "Greatest value of group.share.heartbeat.interval.ms, in milliseconds.";
    fixed   "group.share.max.record.lock.duration.ms" Int(Between(30_000, 3_600_000)) = "60000", NO_SHARE_GROUPS,
        "Greatest value of group.share.record.lock.duration.ms, in milliseconds.";
    fixed   "group.share.max.session.timeout.ms" Int(AtLeast(1)) = "60000", NO_SHARE_GROUPS,
        "Greatest value of group.share.session.timeout.ms, in milliseconds.";
    fixed   "group.share.max.share.sessions" Int(AtLeast(1)) = "2000", NO_SHARE_GROUPS,
        "Most share sessions of a node.";
    fixed   "group.share.max.size" Int(Between(1, 1000)) = "200", NO_SHARE_GROUPS, "Most members of a share group.";
    fixed   "group.share.min.heartbeat.interval.ms" Int(AtLeast(1)) = "5000", NO_SHARE_GROUPS,
        "Least value of group.share.heartbeat.interval.ms, in milliseconds.";
    fixed   "group.share.min.record.lock.duration.ms" Int(Between(1000, 30_000)) = "15000", NO_SHARE_GROUPS,
        "Least value of group.share.record.lock.duration.ms, in milliseconds.";
    fixed   "group.share.min.session.timeout.ms" Int(AtLeast(1)) = "45000", NO_SHARE_GROUPS,
        "Least value of group.share.session.timeout.ms, in milliseconds.";
    fixed   "group.share.partition.max.record.locks" Int(Between(100, 10_000)) = "2000", NO_SHARE_GROUPS,
        "Most records of a partition that a share group holds at a time.";
    hidden  "group.share.persister.class.name" String
        = "org.apache.kafka.server.share.persister.DefaultStatePersister", NO_SHARE_GROUPS,
        "Class that keeps the state of share groups.";
    fixed   "group.share.record.lock.duration.ms" Int(Between(1000, 3_600_000)) = "30000", NO_SHARE_GROUPS,
        "How long a record stays with the member of a share group that acquired it, in milliseconds.";
    fixed   "group.share.session.timeout.ms" Int(AtLeast(1)) = "45000", NO_SHARE_GROUPS,
        "Silence after which a member of a share group is gone, in milliseconds.";
    fixed   "group.streams.heartbeat.interval.ms" Int(AtLeast(1)) = "5000", NO_STREAMS_GROUPS,
        "How often members of streams groups shall send heartbeats, in milliseconds.";
    fixed   "group.streams.max.heartbeat.interval.ms" Int(AtLeast(1)) = "15000", NO_STREAMS_GROUPS,
        "Greatest value of group.streams.heartbeat.interval.ms, in milliseconds.";
    fixed   "group.streams.max.session.timeout.ms" Int(AtLeast(1)) = "60000", NO_STREAMS_GROUPS,
        "Greatest value of group.streams.session.timeout.ms, in milliseconds.";
    fixed   "group.streams.max.size" Int(AtLeast(1)) = "2147483647", NO_STREAMS_GROUPS,
        "Most members of a streams group.";
    fixed   "group.streams.max.standby.replicas" Int(AtLeast(0)) = "2", NO_STREAMS_GROUPS,
        "Greatest value of group.streams.num.standby.replicas.";
    fixed   "group.streams.min.heartbeat.interval.ms" Int(AtLeast(1)) = "5000", NO_STREAMS_GROUPS,
        "Least value of group.streams.heartbeat.interval.ms, in milliseconds.";
    fixed   "group.streams.min.session.timeout.ms" Int(AtLeast(1)) = "45000", NO_STREAMS_GROUPS,
        "Least value of group.streams.session.timeout.ms, in milliseconds.";
    fixed   "group.streams.num.standby.replicas" Int(AtLeast(0)) = "0", NO_STREAMS_GROUPS,
        "Standby replicas of each task of a streams group.";
    fixed   "group.streams.session.timeout.ms" Int(AtLeast(1)) = "45000", NO_STREAMS_GROUPS,
        "Silence after which a member of a streams group is gone, in milliseconds.";
    fixed   "initial.broker.registration.timeout.ms" Int = "60000", NO_QUORUM,
        "Longest wait for the controllers at start, in milliseconds.";
    fixed   "inter.broker.listener.name" String, NO_PEERS, "Listener that nodes use among each other.";
    hidden  "internal.metadata.delete.delay.millis" Long = "60000", OWN_METADATA,
        "How long a discarded file of the metadata log stays on disk, in milliseconds.";
    hidden  "internal.metadata.log.segment.bytes" Int, OWN_METADATA, "Size of a segment of the metadata log, in bytes.";
    hidden  "internal.metadata.max.batch.size.in.bytes" Int = "8388608", OWN_METADATA,
        "Largest batch of metadata records, in bytes.";
    hidden  "internal.metadata.max.fetch.size.in.bytes" Int = "8388608", OWN_METADATA,
        "Largest read from the metadata log, in bytes.";
    fixed   "kafka.metrics.polling.interval.secs" Int(AtLeast(1)) = "10", NO_REPORTERS,
        "Time between two calls of a metrics reporter, in seconds.";
    fixed   "kafka.metrics.reporters" List = "", NO_REPORTERS, "Classes that report metrics.";
    fixed   "leader.imbalance.check.interval.seconds" Long(AtLeast(1)) = "300", ONE_REPLICA,
        "Time between two looks for leaders that are not preferred, in seconds.";
    node    "listener.security.protocol.map" String
        = "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", NO_SECURITY,
        "Which protocol each listener speaks.";
    node    "listeners" String = "PLAINTEXT://:9092", LISTENERS, "Addresses that the node listens on.";
    dynamic "log.cleaner.backoff.ms" Long(AtLeast(0)) = "15000", Full,
        "Time between two looks for logs to compact, in milliseconds.";
    dynamic "log.cleaner.dedupe.buffer.size" Long(AtLeast(1_048_576)) = "134217728", CLEANER_MEMORY,
        "Memory for the keys that cleaners look at, in bytes.";
    dynamic "log.cleaner.delete.retention.ms" Long(AtLeast(0)) = "86400000", Full,
        "How long compaction keeps a tombstone, in milliseconds.";
    fixed   "log.cleaner.enable" Boolean = "true", Full, "Whether there is compaction.";
    dynamic "log.cleaner.io.buffer.load.factor" Double = "0.9", CLEANER_MEMORY, "How full the memory for keys may become.";
    dynamic "log.cleaner.io.buffer.size" Int(AtLeast(0)) = "524288", CLEANER_MEMORY,
        "Memory for what cleaners read and write, in bytes.";
    dynamic "log.cleaner.io.max.bytes.per.second" Double = "1.7976931348623157E308", Full,
        "How fast each core may go over what it compacts, in bytes per second.";
    dynamic "log.cleaner.max.compaction.lag.ms" Long(AtLeast(1)) = "9223372036854775807", Full,
        "Longest time a record stays uncompacted, in milliseconds.";
    dynamic "log.cleaner.min.cleanable.ratio" Double(Fraction) = "0.5", Full,
        "Share of uncompacted bytes from which a log is compacted.";
    dynamic "log.cleaner.min.compaction.lag.ms" Long(AtLeast(0)) = "0", Full,
        "Shortest time a record stays uncompacted, in milliseconds.";
    dynamic "log.cleaner.threads" Int(AtLeast(0)) = "1", NO_THREADS, "Threads that compact.";
    dynamic "log.cleanup.policy" List(OneOf(&["compact", "delete"])) = "delete", Full,
        "cleanup.policy of topics that do not say.";
    fixed   "log.dir" String = "/tmp/kafka-logs", DATA, "Directory of the data when log.dirs is not set.";
    fixed   "log.dir.failure.timeout.ms" Long(AtLeast(1)) = "30000", NO_QUORUM,
        "How long a failed directory may go unreported before the node stops, in milliseconds.";
    fixed   "log.dirs" String, DATA, "Directories of the data.";
    dynamic "log.flush.interval.messages" Long(AtLeast(1)) = "1", Full,
        "Durability of topics that do not say: 1 is 'flushed', any other value 'written' (flush.messages has more). \
         Apache Kafka's own default is 9223372036854775807.";
    dynamic "log.flush.interval.ms" Long, FLUSH_MESSAGES, "Longest time between flushes, in milliseconds.";
    fixed   "log.flush.offset.checkpoint.interval.ms" Int(AtLeast(0)) = "60000", ONE_LOG,
        "Time between two notes of what was flushed, in milliseconds.";
    fixed   "log.flush.scheduler.interval.ms" Long = "9223372036854775807", FLUSH_MESSAGES,
        "Time between two looks for logs to flush, in milliseconds.";
    fixed   "log.flush.start.offset.checkpoint.interval.ms" Int(AtLeast(0)) = "60000", ONE_LOG,
        "Time between two notes of the log start offsets, in milliseconds.";
    dynamic "log.index.interval.bytes" Int(AtLeast(0)) = "4096", ONE_LOG,
        "Distance between entries of a segment's offset index, in bytes.";
    dynamic "log.index.size.max.bytes" Int(AtLeast(4)) = "10485760", ONE_LOG,
        "Size of a segment's offset index, in bytes.";
    hidden  "log.initial.task.delay.ms" Long(AtLeast(0)) = "30000", Full,
        "Wait at start before batches are discarded, in milliseconds, where log.retention.check.interval.ms is no shorter.";
    dynamic "log.local.retention.bytes" Long(AtLeast(-2)) = "-2", TIERED,
        "Size of what tiered storage keeps locally, in bytes.";
    dynamic "log.local.retention.ms" Long(AtLeast(-2)) = "-2", TIERED,
        "Age of what tiered storage keeps locally, in milliseconds.";
    dynamic "log.message.timestamp.after.max.ms" Long(AtLeast(0)) = "3600000", Full,
        "How far ahead of the broker's clock a producer's timestamp may lie, in milliseconds.";
    dynamic "log.message.timestamp.before.max.ms" Long(AtLeast(0)) = "9223372036854775807", Full,
        "How far behind the broker's clock a producer's timestamp may lie, in milliseconds.";
    dynamic "log.message.timestamp.type" String(OneOf(&["CreateTime", "LogAppendTime"])) = "CreateTime", Full,
        "Whose clock stamps records: the producer's (CreateTime) or the broker's (LogAppendTime).";
    dynamic "log.preallocate" Boolean = "false", ONE_LOG, "Whether segment files get their space when created.";
    dynamic "log.retention.bytes" Long = "-1", Full,
        "Size of a partition beyond which its oldest batches are discarded, in bytes; negative is unlimited.";
    fixed   "log.retention.check.interval.ms" Long(AtLeast(1)) = "300000", Full,
        "Time between two looks for batches to discard, in milliseconds.";
    fixed   "log.retention.hours" Int(NonZero) = "168", Full, "Age after which batches are discarded, in hours.";
    fixed   "log.retention.minutes" Int(NonZero), Full,
        "Age after which batches are discarded, in minutes; unset leaves it to log.retention.hours.";
    dynamic "log.retention.ms" Long(NonZero), Full,
        "Age after which batches are discarded, in milliseconds; unset leaves it to log.retention.minutes.";
    fixed   "log.roll.hours" Int(AtLeast(1)) = "168", Full, "segment.ms of topics that do not say, in hours.";
    fixed   "log.roll.jitter.hours" Int(AtLeast(0)) = "0", ONE_LOG, "Random part of log.roll.hours, in hours.";
    dynamic "log.roll.jitter.ms" Long(AtLeast(0)), ONE_LOG, "Random part of log.roll.ms, in milliseconds.";
    dynamic "log.roll.ms" Long(AtLeast(1)), Full,
        "segment.ms of topics that do not say, in milliseconds; unset leaves it to log.roll.hours.";
    dynamic "log.segment.bytes" Int(AtLeast(1_048_576)) = "1073741824", Full,
        "segment.bytes of topics that do not say: only bounds the size of a batch, since segments belong to the core.";
    dynamic "log.segment.delete.delay.ms" Long(AtLeast(0)) = "60000", ONE_LOG,
        "How long a discarded file stays on disk, in milliseconds.";
    dynamic "max.connection.creation.rate" Int(AtLeast(0)) = "2147483647", NO_CONNECTION_QUOTAS,
        "Most new connections per second.";
    dynamic "max.connections" Int(AtLeast(0)) = "2147483647", NO_CONNECTION_QUOTAS, "Most connections at a time.";
    dynamic "max.connections.per.ip" Int(AtLeast(0)) = "2147483647", NO_CONNECTION_QUOTAS,
        "Most connections of one address.";
    dynamic "max.connections.per.ip.overrides" String = "", NO_CONNECTION_QUOTAS,
        "Addresses with a number of their own.";
    fixed   "max.incremental.fetch.session.cache.slots" Int(Between(0, 100_000)) = "1000", Full,
        "Most fetch sessions of a node.";
    fixed   "max.request.partition.size.limit" Int(AtLeast(1)) = "2000", OWN_BOUNDS,
        "Most partitions told in one answer to DescribeTopicPartitions.";
    dynamic "message.max.bytes" Int(AtLeast(0)) = "1048588", Full,
        "Largest record batch accepted, in bytes, after compression, for topics that do not say.";
    fixed   "metadata.log.dir" String, DATA, "Directory of the metadata log.";
    fixed   "metadata.log.max.record.bytes.between.snapshots" Long(AtLeast(1)) = "20971520", OWN_METADATA,
        "Bytes of metadata records between two snapshots.";
    fixed   "metadata.log.max.snapshot.interval.ms" Long(AtLeast(0)) = "3600000", OWN_METADATA,
        "Longest time between two snapshots of the metadata, in milliseconds.";
    fixed   "metadata.log.segment.bytes" Int(AtLeast(8_388_608)) = "1073741824", OWN_METADATA,
        "Size of a segment of the metadata log, in bytes.";
    fixed   "metadata.log.segment.ms" Long = "604800000", OWN_METADATA,
        "Age at which a segment of the metadata log is closed, in milliseconds.";
    fixed   "metadata.max.idle.interval.ms" Int(AtLeast(0)) = "500", OWN_METADATA,
        "Time between two empty records in the metadata log, in milliseconds.";
    fixed   "metadata.max.retention.bytes" Long = "104857600", OWN_METADATA,
        "Size of the metadata log from which old segments are discarded, in bytes.";
    fixed   "metadata.max.retention.ms" Long = "604800000", OWN_METADATA,
        "Age from which segments of the metadata log are discarded, in milliseconds.";
    dynamic "metric.reporters" List = "org.apache.kafka.common.metrics.JmxReporter", NO_REPORTERS,
        "Classes that report metrics.";
    fixed   "metrics.num.samples" Int(AtLeast(1)) = "2", NO_REPORTERS, "Samples from which a metric is computed.";
    fixed   "metrics.recording.level" String = "INFO", NO_REPORTERS, "How much is recorded.";
    fixed   "metrics.sample.window.ms" Long(AtLeast(1)) = "30000", NO_REPORTERS, "Length of a sample, in milliseconds.";
    dynamic "min.insync.replicas" Int(AtLeast(1)) = "1", ONE_REPLICA, "min.insync.replicas of topics that do not say.";
    fixed   "node.id" Int(AtLeast(0)), NODES_NUMBERED, "Number of the node in the cluster.";
    dynamic "num.io.threads" Int(AtLeast(1)) = "8", NO_THREADS, "Threads that handle requests.";
    dynamic "num.network.threads" Int(AtLeast(1)) = "3", NO_THREADS, "Threads that read requests and write answers.";
    fixed   "num.partitions" Int(AtLeast(1)) = "1", Full, "Partitions of topics that do not say how many.";
    dynamic "num.recovery.threads.per.data.dir" Int(AtLeast(1)) = "2", NO_THREADS,
        "Threads that recover a directory at start.";
    fixed   "num.replica.alter.log.dirs.threads" Int, ONE_REPLICA, "Threads that move replicas between directories.";
    dynamic "num.replica.fetchers" Int = "1", ONE_REPLICA, "Threads that fetch from each other node.";
    fixed   "offset.metadata.max.bytes" Int = "4096", Full,
        "Longest note that a client may commit with an offset, in bytes.";
    fixed   "offsets.commit.timeout.ms" Int(AtLeast(1)) = "5000", Full,
        "How long the answer of a coordinator may wait for its records, in milliseconds, before the client is told \
         to come back.";
    fixed   "offsets.load.buffer.size" Int(AtLeast(1)) = "5242880", LOAD_BUFFER,
        "Bytes that a loading coordinator reads at a time.";
    fixed   "offsets.retention.check.interval.ms" Long(AtLeast(1)) = "600000", Full,
        "Time between two looks for expired offsets, in milliseconds.";
    fixed   "offsets.retention.minutes" Int(AtLeast(1)) = "10080", Full,
        "How long offsets are kept after their group has lost its last member, in minutes; without members ever, \
         after the last commit.";
    fixed   "offsets.topic.compression.codec" Int(Between(0, 4)) = "0", OWN_BATCHES,
        "Codec of batches of __consumer_offsets.";
    fixed   "offsets.topic.num.partitions" Int(Between(1, 10_000)) = "50", Full,
        "Partitions of __consumer_offsets; fixed once it exists.";
    fixed   "offsets.topic.replication.factor" Short(AtLeast(1)) = "3", ONE_REPLICA,
        "Replication factor of __consumer_offsets.";
    fixed   "offsets.topic.segment.bytes" Int(AtLeast(1_048_576)) = "104857600", Full,
        "segment.bytes of __consumer_offsets.";
    node    "principal.builder.class" Class
        = "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder", NO_AUTHENTICATION,
        "Class that names whoever is connected.";
    fixed   "process.roles" List(OneOf(&["broker", "controller"])), NODES_NUMBERED,
        "Whether the node is a broker, a controller, or both.";
    hidden  "producer.id.expiration.check.interval.ms" Int(AtLeast(1)) = "600000", Full,
        "Time between two looks for expired producers, in milliseconds.";
    dynamic "producer.id.expiration.ms" Int(AtLeast(1)) = "86400000", Full,
        "An idempotent producer is forgotten after so many milliseconds without a batch.";
    fixed   "producer.purgatory.purge.interval.requests" Int = "1000", NO_PURGE,
        "Produce requests between two purges of those that were answered.";
    fixed   "queued.max.request.bytes" Long = "-1", OWN_BOUNDS, "Bytes of requests read ahead; negative is unlimited.";
    fixed   "queued.max.requests" Int(AtLeast(1)) = "500", OWN_BOUNDS, "Requests read ahead.";
    fixed   "quota.window.num" Int(AtLeast(1)) = "11", NO_QUOTAS, "Samples kept for the quotas of clients.";
    fixed   "quota.window.size.seconds" Int(AtLeast(1)) = "1", NO_QUOTAS, "Length of one of these samples, in seconds.";
    dynamic "remote.fetch.max.wait.ms" Int(AtLeast(1)) = "500", TIERED,
        "Longest wait for data of tiered storage, in milliseconds.";
    dynamic "remote.list.offsets.request.timeout.ms" Long(AtLeast(1)) = "30000", TIERED,
        "Longest wait for offsets of tiered storage, in milliseconds.";
    dynamic "remote.log.index.file.cache.total.size.bytes" Long(AtLeast(1)) = "1073741824", TIERED,
        "Room for indexes of tiered storage, in bytes.";
    dynamic "remote.log.manager.copier.thread.pool.size" Int(AtLeast(1)) = "10", TIERED,
        "Threads that copy to tiered storage.";
    dynamic "remote.log.manager.copy.max.bytes.per.second" Long(AtLeast(1)) = "9223372036854775807", TIERED,
        "What may be copied to tiered storage, in bytes per second.";
    fixed   "remote.log.manager.copy.quota.window.num" Int(AtLeast(1)) = "11", TIERED, "Samples kept for that limit.";
    fixed   "remote.log.manager.copy.quota.window.size.seconds" Int(AtLeast(1)) = "1", TIERED,
        "Length of one of these samples, in seconds.";
    dynamic "remote.log.manager.expiration.thread.pool.size" Int(AtLeast(1)) = "10", TIERED,
        "Threads that discard from tiered storage.";
    dynamic "remote.log.manager.fetch.max.bytes.per.second" Long(AtLeast(1)) = "9223372036854775807", TIERED,
        "What may be fetched from tiered storage, in bytes per second.";
    fixed   "remote.log.manager.fetch.quota.window.num" Int(AtLeast(1)) = "11", TIERED, "Samples kept for that limit.";
    fixed   "remote.log.manager.fetch.quota.window.size.seconds" Int(AtLeast(1)) = "1", TIERED,
        "Length of one of these samples, in seconds.";
    fixed   "remote.log.manager.task.interval.ms" Long(AtLeast(1)) = "30000", TIERED,
        "Time between two looks for what to copy or discard, in milliseconds.";
    hidden  "remote.log.manager.task.retry.backoff.max.ms" Long(AtLeast(1)) = "30000", TIERED,
        "Longest wait before a failed task is tried again, in milliseconds.";
    hidden  "remote.log.manager.task.retry.backoff.ms" Long(AtLeast(1)) = "500", TIERED,
        "First wait before a failed task is tried again, in milliseconds.";
    hidden  "remote.log.manager.task.retry.jitter" Double(Fraction) = "0.2", TIERED, "Random part of that wait.";
    fixed   "remote.log.manager.thread.pool.size" Int(AtLeast(1)) = "2", TIERED,
        "Threads that follow the metadata of tiered storage.";
    fixed   "remote.log.metadata.custom.metadata.max.bytes" Int(AtLeast(0)) = "128", TIERED,
        "Most metadata that a storage may add to a segment, in bytes.";
    fixed   "remote.log.metadata.manager.class.name" String
        = "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager", TIERED,
        "Class that keeps the metadata of tiered storage.";
    fixed   "remote.log.metadata.manager.class.path" String, TIERED, "Where that class is found.";
    fixed   "remote.log.metadata.manager.impl.prefix" String = "rlmm.config.", TIERED,
        "Prefix of the settings of that class.";
    fixed   "remote.log.metadata.manager.listener.name" String, TIERED, "Listener that this class connects to.";
    fixed   "remote.log.reader.max.pending.tasks" Int(AtLeast(1)) = "100", TIERED,
        "Most reads of tiered storage that wait.";
    dynamic "remote.log.reader.threads" Int(AtLeast(1)) = "10", TIERED, "Threads that read from tiered storage.";
    fixed   "remote.log.storage.manager.class.name" String, TIERED, "Class that is the tiered storage.";
    fixed   "remote.log.storage.manager.class.path" String, TIERED, "Where that class is found.";
    fixed   "remote.log.storage.manager.impl.prefix" String = "rsm.config.", TIERED,
        "Prefix of the settings of that class.";
    fixed   "remote.log.storage.system.enable" Boolean = "false", NO_TIERS, "Whether there is tiered storage.";
    fixed   "replica.fetch.backoff.ms" Int(AtLeast(0)) = "1000", ONE_REPLICA,
        "Wait of a follower after a failed fetch, in milliseconds.";
    fixed   "replica.fetch.max.bytes" Int(AtLeast(0)) = "1048576", ONE_REPLICA,
        "What a follower fetches of one partition, in bytes.";
    fixed   "replica.fetch.min.bytes" Int = "1", ONE_REPLICA, "What a follower waits for, in bytes.";
    fixed   "replica.fetch.response.max.bytes" Int(AtLeast(0)) = "10485760", ONE_REPLICA,
        "What a follower fetches at a time, in bytes.";
    fixed   "replica.fetch.wait.max.ms" Int = "500", ONE_REPLICA, "How long a follower's fetch waits, in milliseconds.";
    fixed   "replica.high.watermark.checkpoint.interval.ms" Long = "5000", ONE_LOG,
        "Time between two notes of the high watermarks, in milliseconds.";
    fixed   "replica.lag.time.max.ms" Long = "30000", ONE_REPLICA,
        "How long a follower may lag before it is out of sync, in milliseconds.";
    fixed   "replica.selector.class" String, ONE_REPLICA, "Class that chooses the replica that a consumer reads.";
    fixed   "replica.socket.receive.buffer.bytes" Int = "65536", ONE_REPLICA,
        "Receive buffer of a follower's connection, in bytes.";
    fixed   "replica.socket.timeout.ms" Int = "30000", ONE_REPLICA,
        "Longest wait on a follower's connection, in milliseconds.";
    fixed   "replication.quota.window.num" Int(AtLeast(1)) = "11", ONE_REPLICA,
        "Samples kept for the quotas of replication.";
    fixed   "replication.quota.window.size.seconds" Int(AtLeast(1)) = "1", ONE_REPLICA,
        "Length of one of these samples, in seconds.";
    fixed   "request.timeout.ms" Int = "30000", NO_PEERS,
        "Longest wait for the answer of another node, in milliseconds.";
    fixed   "sasl.client.callback.handler.class" Class, NO_AUTHENTICATION,
        "Class that answers a SASL client's questions.";
    node    "sasl.enabled.mechanisms" List = "GSSAPI", NO_AUTHENTICATION, "SASL mechanisms that clients may use.";
    node    "sasl.jaas.config" Password, NO_AUTHENTICATION, "Login module and credentials of a SASL listener.";
    node    "sasl.kerberos.kinit.cmd" String = "/usr/bin/kinit", NO_LOGIN, "Command that renews a Kerberos ticket.";
    node    "sasl.kerberos.min.time.before.relogin" Long = "60000", NO_LOGIN,
        "Least time between two Kerberos logins, in milliseconds.";
    node    "sasl.kerberos.principal.to.local.rules" List = "DEFAULT", NO_LOGIN,
        "Rules that make short names of Kerberos principals.";
    node    "sasl.kerberos.service.name" String, NO_LOGIN, "Kerberos principal of the broker.";
    node    "sasl.kerberos.ticket.renew.jitter" Double = "0.05", NO_LOGIN,
        "Random part of the time at which a Kerberos ticket is renewed.";
    node    "sasl.kerberos.ticket.renew.window.factor" Double = "0.8", NO_LOGIN,
        "Part of a Kerberos ticket's life after which it is renewed.";
    fixed   "sasl.login.callback.handler.class" Class, NO_AUTHENTICATION,
        "Class that answers questions of a SASL login.";
    fixed   "sasl.login.class" Class, NO_AUTHENTICATION, "Class of a SASL login.";
    fixed   "sasl.login.connect.timeout.ms" Int, NO_LOGIN,
        "Longest wait for a connection to an identity provider, in milliseconds.";
    fixed   "sasl.login.read.timeout.ms" Int, NO_LOGIN,
        "Longest wait for an identity provider's answer, in milliseconds.";
    node    "sasl.login.refresh.buffer.seconds" Short = "300", NO_LOGIN,
        "Time before its end at which a credential must be new, in seconds.";
    node    "sasl.login.refresh.min.period.seconds" Short = "60", NO_LOGIN,
        "Least time between two refreshes of a credential, in seconds.";
    node    "sasl.login.refresh.window.factor" Double = "0.8", NO_LOGIN,
        "Part of a credential's life after which it is refreshed.";
    node    "sasl.login.refresh.window.jitter" Double = "0.05", NO_LOGIN, "Random part of that time.";
    fixed   "sasl.login.retry.backoff.max.ms" Long = "10000", NO_LOGIN,
        "Longest wait before a login is tried again, in milliseconds.";
    fixed   "sasl.login.retry.backoff.ms" Long = "100", NO_LOGIN,
        "First wait before a login is tried again, in milliseconds.";
    fixed   "sasl.mechanism.controller.protocol" String = "GSSAPI", NO_AUTHENTICATION,
        "SASL mechanism towards controllers.";
    node    "sasl.mechanism.inter.broker.protocol" String = "GSSAPI", NO_AUTHENTICATION, "SASL mechanism among nodes.";
    fixed   "sasl.oauthbearer.assertion.algorithm" String(OneOfAnyCase(&["ES256", "RS256"]))
        = "RS256", NO_AUTHENTICATION,
        "Algorithm that signs an assertion of one's own.";
    fixed   "sasl.oauthbearer.assertion.claim.aud" String, NO_AUTHENTICATION, "Audience that the assertion claims.";
    fixed   "sasl.oauthbearer.assertion.claim.exp.seconds" Int(Between(0, 86_400)) = "300", NO_AUTHENTICATION,
        "How long the assertion is valid, in seconds.";
    fixed   "sasl.oauthbearer.assertion.claim.iss" String, NO_AUTHENTICATION, "Issuer that the assertion claims.";
    fixed   "sasl.oauthbearer.assertion.claim.jti.include" Boolean = "false", NO_AUTHENTICATION,
        "Whether the assertion carries an id of its own.";
    fixed   "sasl.oauthbearer.assertion.claim.nbf.seconds" Int(Between(0, 3600)) = "60", NO_AUTHENTICATION,
        "Since when the assertion is valid, in seconds before now.";
    fixed   "sasl.oauthbearer.assertion.claim.sub" String, NO_AUTHENTICATION, "Subject that the assertion claims.";
    fixed   "sasl.oauthbearer.assertion.file" String, NO_AUTHENTICATION, "File of an assertion that is made elsewhere.";
    fixed   "sasl.oauthbearer.assertion.private.key.file" String, NO_AUTHENTICATION,
        "File of the key that signs the assertion.";
    fixed   "sasl.oauthbearer.assertion.private.key.passphrase" Password, NO_AUTHENTICATION, "Passphrase of that key.";
    fixed   "sasl.oauthbearer.assertion.template.file" String, NO_AUTHENTICATION,
        "File with further claims of the assertion.";
    fixed   "sasl.oauthbearer.client.credentials.client.id" String, NO_AUTHENTICATION,
        "Id of the client at the identity provider.";
    fixed   "sasl.oauthbearer.client.credentials.client.secret" Password, NO_AUTHENTICATION, "Secret of that client.";
    fixed   "sasl.oauthbearer.clock.skew.seconds" Int = "30", NO_AUTHENTICATION,
        "How far the identity provider's clock may differ, in seconds.";
    fixed   "sasl.oauthbearer.expected.audience" List, NO_AUTHENTICATION, "Audiences that a token may be for.";
    fixed   "sasl.oauthbearer.expected.issuer" String, NO_AUTHENTICATION, "Who must have issued a token.";
    fixed   "sasl.oauthbearer.jwks.endpoint.refresh.ms" Long = "3600000", NO_AUTHENTICATION,
        "Time between two fetches of the provider's keys, in milliseconds.";
    fixed   "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms" Long = "10000", NO_AUTHENTICATION,
        "Longest wait before that fetch is tried again, in milliseconds.";
    fixed   "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms" Long = "100", NO_AUTHENTICATION,
        "First wait before that fetch is tried again, in milliseconds.";
    fixed   "sasl.oauthbearer.jwks.endpoint.url" String, NO_AUTHENTICATION, "Where the provider's keys are.";
    fixed   "sasl.oauthbearer.jwt.retriever.class" Class
        = "org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever", NO_AUTHENTICATION,
        "Class that gets tokens.";
    fixed   "sasl.oauthbearer.jwt.validator.class" Class
        = "org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator", NO_AUTHENTICATION,
        "Class that checks tokens.";
    fixed   "sasl.oauthbearer.scope" String, NO_AUTHENTICATION, "Scope of the tokens that are asked for.";
    fixed   "sasl.oauthbearer.scope.claim.name" String = "scope", NO_AUTHENTICATION, "Claim that holds the scope.";
    fixed   "sasl.oauthbearer.sub.claim.name" String = "sub", NO_AUTHENTICATION, "Claim that holds the subject.";
    fixed   "sasl.oauthbearer.token.endpoint.url" String, NO_AUTHENTICATION, "Where tokens come from.";
    fixed   "sasl.server.callback.handler.class" Class, NO_AUTHENTICATION,
        "Class that answers a SASL server's questions.";
    fixed   "sasl.server.max.receive.size" Int = "524288", NO_LOGIN,
        "Largest message before a client is authenticated, in bytes.";
    fixed   "security.inter.broker.protocol" String(OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]))
        = "PLAINTEXT", NO_SECURITY,
        "Protocol among nodes.";
    fixed   "security.providers" String, NO_SECURITY, "Classes that provide security algorithms.";
    hidden  "server.max.startup.time.ms" Long(AtLeast(0)) = "9223372036854775807", OWN_BOUNDS,
        "Longest time that a start may take, in milliseconds.";
    fixed   "share.coordinator.append.linger.ms" Int(AtLeast(0)) = "5", NO_SHARE_GROUPS,
        "How long records of share groups wait for others to share their batch, in milliseconds.";
    hidden  "share.coordinator.cold.partition.snapshot.interval.ms" Int(AtLeast(1)) = "300000", NO_SHARE_GROUPS,
        "Time between two snapshots of partitions at rest, in milliseconds.";
    fixed   "share.coordinator.load.buffer.size" Int(AtLeast(1)) = "5242880", NO_SHARE_GROUPS,
        "Bytes that a loading share coordinator reads at a time.";
    fixed   "share.coordinator.snapshot.update.records.per.snapshot" Int(AtLeast(0)) = "500", NO_SHARE_GROUPS,
        "Records between two snapshots of a share group's state.";
    fixed   "share.coordinator.state.topic.compression.codec" Int = "0", NO_SHARE_GROUPS,
        "Codec of batches of __share_group_state.";
    fixed   "share.coordinator.state.topic.min.isr" Short(AtLeast(1)) = "2", NO_SHARE_GROUPS,
        "min.insync.replicas of __share_group_state.";
    fixed   "share.coordinator.state.topic.num.partitions" Int(AtLeast(1)) = "50", NO_SHARE_GROUPS,
        "Partitions of __share_group_state.";
    hidden  "share.coordinator.state.topic.prune.interval.ms" Int(AtLeast(1)) = "300000", NO_SHARE_GROUPS,
        "Time between two deletions from __share_group_state, in milliseconds.";
    fixed   "share.coordinator.state.topic.replication.factor" Short(AtLeast(1)) = "3", NO_SHARE_GROUPS,
        "Replication factor of __share_group_state.";
    fixed   "share.coordinator.state.topic.segment.bytes" Int(AtLeast(1)) = "104857600", NO_SHARE_GROUPS,
        "segment.bytes of __share_group_state.";
    fixed   "share.coordinator.threads" Int(AtLeast(1)) = "1", NO_SHARE_GROUPS, "Threads that coordinate share groups.";
    fixed   "share.coordinator.write.timeout.ms" Int(AtLeast(1)) = "5000", NO_SHARE_GROUPS,
        "How long the answer of a share coordinator may wait for its records, in milliseconds.";
    fixed   "share.fetch.purgatory.purge.interval.requests" Int = "1000", NO_SHARE_GROUPS,
        "Share fetches between two purges of those that were answered.";
    fixed   "socket.connection.setup.timeout.max.ms" Long = "30000", NO_PEERS,
        "Longest wait for a connection to another node, in milliseconds.";
    fixed   "socket.connection.setup.timeout.ms" Long = "10000", NO_PEERS,
        "First wait for a connection to another node, in milliseconds.";
    fixed   "socket.listen.backlog.size" Int(AtLeast(1)) = "50", OWN_BOUNDS, "Connections that wait to be accepted.";
    fixed   "socket.receive.buffer.bytes" Int = "102400", OWN_BOUNDS,
        "Receive buffer of a connection, in bytes; -1 leaves it to the system.";
    fixed   "socket.request.max.bytes" Int(AtLeast(1)) = "104857600", Full, "Largest request accepted, in bytes.";
    fixed   "socket.send.buffer.bytes" Int = "102400", OWN_BOUNDS,
        "Send buffer of a connection, in bytes; -1 leaves it to the system.";
    fixed   "ssl.allow.dn.changes" Boolean = "false", NO_ENCRYPTION,
        "Whether a new certificate may have another distinguished name.";
    fixed   "ssl.allow.san.changes" Boolean = "false", NO_ENCRYPTION,
        "Whether a new certificate may have other alternative names.";
    node    "ssl.cipher.suites" List = "", NO_ENCRYPTION, "Cipher suites that may be used.";
    node    "ssl.client.auth" String(OneOf(&["required", "requested", "none"])) = "none", NO_ENCRYPTION,
        "Whether clients must show a certificate.";
    node    "ssl.enabled.protocols" List = "TLSv1.2,TLSv1.3", NO_ENCRYPTION, "Versions of TLS that may be used.";
    node    "ssl.endpoint.identification.algorithm" String = "https", NO_ENCRYPTION,
        "How a server's name is checked against its certificate.";
    node    "ssl.engine.factory.class" Class, NO_ENCRYPTION, "Class that makes TLS engines.";
    node    "ssl.key.password" Password, NO_ENCRYPTION, "Password of the private key.";
    node    "ssl.keymanager.algorithm" String = "SunX509", NO_ENCRYPTION, "Algorithm of the key manager.";
    node    "ssl.keystore.certificate.chain" Password, NO_ENCRYPTION, "Certificates of the node.";
    node    "ssl.keystore.key" Password, NO_ENCRYPTION, "Private key of the node.";
    node    "ssl.keystore.location" String, NO_ENCRYPTION, "File of key and certificates.";
    node    "ssl.keystore.password" Password, NO_ENCRYPTION, "Password of that file.";
    node    "ssl.keystore.type" String = "JKS", NO_ENCRYPTION, "Format of that file.";
    fixed   "ssl.principal.mapping.rules" String = "DEFAULT", NO_ENCRYPTION,
        "Rules that make names of distinguished names.";
    node    "ssl.protocol" String = "TLSv1.3", NO_ENCRYPTION, "Newest version of TLS.";
    node    "ssl.provider" String, NO_ENCRYPTION, "Provider of TLS.";
    node    "ssl.secure.random.implementation" String, NO_ENCRYPTION, "Source of random numbers.";
    node    "ssl.trustmanager.algorithm" String = "PKIX", NO_ENCRYPTION, "Algorithm of the trust manager.";
    node    "ssl.truststore.certificates" Password, NO_ENCRYPTION, "Certificates that are trusted.";
    node    "ssl.truststore.location" String, NO_ENCRYPTION, "File of the certificates that are trusted.";
    node    "ssl.truststore.password" Password, NO_ENCRYPTION, "Password of that file.";
    node    "ssl.truststore.type" String = "JKS", NO_ENCRYPTION, "Format of that file.";
    fixed   "telemetry.max.bytes" Int(AtLeast(1)) = "1048576", NO_TELEMETRY,
        "Largest telemetry that a client may send, in bytes.";
    fixed   "transaction.abort.timed.out.transaction.cleanup.interval.ms" Int(AtLeast(1)) = "10000", NO_TRANSACTIONS,
        "Time between two looks for transactions to abort, in milliseconds.";
    fixed   "transaction.max.timeout.ms" Int(AtLeast(1)) = "900000", NO_TRANSACTIONS,
        "Longest timeout that a client may ask for, in milliseconds.";
    dynamic "transaction.partition.verification.enable" Boolean = "true", NO_TRANSACTIONS,
        "Whether a partition must be part of a transaction before it is written to.";
    fixed   "transaction.remove.expired.transaction.cleanup.interval.ms" Int(AtLeast(1)) = "3600000", NO_TRANSACTIONS,
        "Time between two looks for transactional ids to forget, in milliseconds.";
    fixed   "transaction.state.log.load.buffer.size" Int(AtLeast(1)) = "5242880", NO_TRANSACTIONS,
        "Bytes that a loading transaction coordinator reads at a time.";
    fixed   "transaction.state.log.min.isr" Int(AtLeast(1)) = "2", NO_TRANSACTIONS,
        "min.insync.replicas of __transaction_state.";
    fixed   "transaction.state.log.num.partitions" Int(Between(1, 10_000)) = "50", NO_TRANSACTIONS,
        "Partitions of __transaction_state; fixed once it exists.";
    fixed   "transaction.state.log.replication.factor" Short(AtLeast(1)) = "3", NO_TRANSACTIONS,
        "Replication factor of __transaction_state.";
    fixed   "transaction.state.log.segment.bytes" Int(AtLeast(1)) = "104857600", NO_TRANSACTIONS,
        "segment.bytes of __transaction_state.";
    fixed   "transaction.two.phase.commit.enable" Boolean = "false", NO_TRANSACTIONS,
        "Whether transactions may be part of a two-phase commit.";
    fixed   "transactional.id.expiration.ms" Int(AtLeast(1)) = "604800000", NO_TRANSACTIONS,
        "Silence after which a transactional id is forgotten, in milliseconds.";
    dynamic "unclean.leader.election.enable" Boolean = "false", ONE_REPLICA,
        "Whether a replica out of sync may become leader.";
    hidden  "unclean.leader.election.interval.ms" Long(AtLeast(1)) = "300000", ONE_REPLICA,
        "Time between two looks for partitions without a leader, in milliseconds.";
    hidden  "unstable.api.versions.enable" Boolean = "false", OWN_FEATURES,
        "Whether versions of requests that are not final are offered.";
    hidden  "unstable.feature.versions.enable" Boolean = "false", OWN_FEATURES,
        "Whether versions of features that are not final are offered.";
}
