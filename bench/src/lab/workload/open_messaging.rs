//! Workloads of the OpenMessaging Benchmark, with the settings of a driver file for Kafka beside them.
//!
//! What the lab does in another way is noted, so that it can be printed; what it cannot do is an error. Fields are those of
//! OMB's `Workload` and of its Kafka driver; a field that is not known is an error too.
//!
//! Of several topics OMB has producers and consumers of their own for each; here all of them use all topics, with the same
//! numbers in total.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Acks, Assignment, CatchUp, Compression, Keys, Rate, RecordBytes, Workload};

/// Keys that OMB's distributors know, and their size.
const KEY_COUNT: u64 = 10_000;
const KEY_BYTES: u32 = 7;
/// OMB's gigabyte.
const GIGABYTE: u64 = 1024 * 1024 * 1024;

/// A workload, and in what it differs from what OMB would do.
#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) workload: Workload,
    /// One sentence each.
    pub(crate) notes: Vec<String>,
}

/// Reads a workload file and, if given, a driver file, both YAML.
///
/// Errors: what is malformed, unknown or cannot be expressed, in one line.
pub(crate) fn read(workload: &str, driver: Option<&str>) -> Result<Translation, String> {
    let source: Source = parse("workload", workload)?;
    let mut notes = Vec::new();
    let mut translated = source.translate(&mut notes)?;
    if let Some(driver) = driver {
        let driver: Driver = parse("driver", driver)?;
        driver.apply(&mut translated, &mut notes)?;
    }
    if source.payload_file.is_some() && translated.compression != Compression::None {
        return Err("payloadFile with compression: how well it compresses is unknown; give randomBytesRatio".to_owned());
    }
    Ok(Translation { workload: translated, notes })
}

fn parse<'a, T: Deserialize<'a>>(what: &str, text: &'a str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.to_string();
        format!("{what}: {}", line.lines().next().unwrap_or("malformed"))
    })
}

/// OMB's workload.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Source {
    name: Option<String>,
    topics: u32,
    partitions_per_topic: u32,
    message_size: Option<u32>,
    payload_file: Option<String>,
    #[serde(default)]
    use_randomized_payloads: bool,
    #[serde(default)]
    random_bytes_ratio: f64,
    randomized_payload_pool_size: Option<u32>,
    #[serde(default)]
    key_distributor: KeyDistributor,
    producers_per_topic: u32,
    producer_rate: f64,
    subscriptions_per_topic: u32,
    consumer_per_subscription: u32,
    #[serde(default, rename = "consumerBacklogSizeGB")]
    consumer_backlog_size_gb: u64,
    #[serde(default = "one")]
    warmup_duration_minutes: u32,
    test_duration_minutes: u32,
}

/// OMB warms up for a minute unless it is told otherwise.
fn one() -> u32 {
    1
}

#[derive(Clone, Copy, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum KeyDistributor {
    #[default]
    NoKey,
    KeyRoundRobin,
    RandomNano,
}

impl Source {
    fn translate(&self, notes: &mut Vec<String>) -> Result<Workload, String> {
        if self.producer_rate <= 0.0 {
            return Err(
                "producerRate = 0 has OMB look for the greatest rate: give a rate, or a ladder in a suite".to_owned()
            );
        }
        let groups = self.subscriptions_per_topic;
        let workload = Workload {
            name: name(self.name.as_deref().unwrap_or("open-messaging")),
            topics: self.topics,
            partitions: self.partitions_per_topic,
            record_bytes: RecordBytes::Fixed(self.message_size.ok_or("messageSize is missing")?),
            keys: self.keys(notes),
            random_share: self.random_share(notes),
            producers: self.topics.saturating_mul(self.producers_per_topic),
            consumer_groups: if self.consumer_backlog_size_gb > 0 { 0 } else { groups },
            consumers: self.topics.saturating_mul(self.consumer_per_subscription).max(1),
            assignment: if self.topics == 1 { Assignment::Group } else { Assignment::Direct },
            catch_up: self.catch_up(notes)?,
            rate: Rate::PerSecond(self.producer_rate),
            warm_up_s: self.warmup_duration_minutes.saturating_mul(60),
            duration_s: self.test_duration_minutes.saturating_mul(60),
            ..Workload::default()
        };
        if self.topics > 1 {
            notes.push("all producers and consumers use all topics, not one topic each".to_owned());
            notes.push("consumers get their partitions directly, without a coordinator".to_owned());
        }
        Ok(workload)
    }

    fn keys(&self, notes: &mut Vec<String>) -> Keys {
        if self.key_distributor == KeyDistributor::NoKey {
            return Keys::None;
        }
        if self.key_distributor == KeyDistributor::KeyRoundRobin {
            notes.push("KEY_ROUND_ROBIN: each key comes as often as any other, but at random".to_owned());
        }
        Keys::Uniform { count: KEY_COUNT, bytes: KEY_BYTES }
    }

    fn random_share(&self, notes: &mut Vec<String>) -> f64 {
        if self.payload_file.is_some() {
            notes.push("payloadFile: random bytes of the same size are sent".to_owned());
        }
        if let Some(pool) = self.randomized_payload_pool_size {
            notes.push(format!("randomizedPayloadPoolSize = {pool}: values are cut from one stock of random bytes"));
        }
        if self.use_randomized_payloads { self.random_bytes_ratio } else { 1.0 }
    }

    /// OMB holds its subscriptions back until all of them together lag by the size given.
    fn catch_up(&self, notes: &mut Vec<String>) -> Result<Option<CatchUp>, String> {
        if self.consumer_backlog_size_gb == 0 {
            return Ok(None);
        }
        let readers = self.subscriptions_per_topic;
        if readers == 0 {
            return Err("consumerBacklogSizeGB without subscriptionsPerTopic: nobody would read it".to_owned());
        }
        notes.push(
            "consumerBacklogSizeGB: one reader for each subscription reads the backlog again and again".to_owned(),
        );
        let bytes = self.consumer_backlog_size_gb.checked_mul(GIGABYTE).ok_or("consumerBacklogSizeGB is too large")?;
        Ok(Some(CatchUp { readers, backlog_bytes: bytes / u64::from(readers) }))
    }
}

/// OMB's names are free text.
fn name(text: &str) -> String {
    let fit =
        |letter: char| if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.') { letter } else { '-' };
    text.chars().map(fit).take(100).collect()
}

/// OMB's Kafka driver. The settings of clients and topics are properties in a text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Driver {
    #[serde(rename = "name")]
    _name: Option<String>,
    driver_class: String,
    replication_factor: Option<i16>,
    #[serde(default)]
    topic_config: String,
    #[serde(default)]
    common_config: String,
    #[serde(default)]
    producer_config: String,
    #[serde(default)]
    consumer_config: String,
    /// Whether older topics are deleted first: the lab never meets any.
    #[serde(rename = "reset")]
    _reset: Option<bool>,
}

/// Settings that change nothing here: the generator does not retry, and its memory has bounds of its own.
const WITHOUT_EFFECT: &[&str] = &[
    "auto.offset.reset",
    "bootstrap.servers",
    "buffer.memory",
    "client.id",
    "default.api.timeout.ms",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "key.serializer",
    "request.timeout.ms",
    "retries",
    "value.serializer",
];

impl Driver {
    fn apply(&self, workload: &mut Workload, notes: &mut Vec<String>) -> Result<(), String> {
        if !self.driver_class.ends_with(".KafkaBenchmarkDriver") {
            return Err(format!("driverClass = {}: only Kafka's driver is understood", self.driver_class));
        }
        if let Some(factor @ (..=-2 | 0 | 2..)) = self.replication_factor {
            return Err(format!("replicationFactor = {factor}: topics get the broker's default; leave it out"));
        }
        workload.topic_configs.extend(properties(&self.topic_config)?);
        for (key, value) in properties(&self.common_config)? {
            without_effect(&key, &value, notes)?;
        }
        for (key, value) in properties(&self.producer_config)? {
            set_producer(workload, &key, &value, notes)?;
        }
        for (key, value) in properties(&self.consumer_config)? {
            set_consumer(workload, &key, &value, notes)?;
        }
        Ok(())
    }
}

fn set_producer(workload: &mut Workload, key: &str, value: &str, notes: &mut Vec<String>) -> Result<(), String> {
    match key {
        "acks" => workload.acks = acks(value)?,
        "batch.size" => workload.batch_bytes = number(key, value)?,
        "compression.type" => workload.compression = compression(value)?,
        "enable.idempotence" => workload.idempotence = number(key, value)?,
        "linger.ms" => workload.linger_ms = number(key, value)?,
        "max.in.flight.requests.per.connection" => workload.requests_in_flight = number(key, value)?,
        "max.request.size" => workload.request_bytes = number(key, value)?,
        _ => return without_effect(key, value, notes),
    }
    Ok(())
}

fn set_consumer(workload: &mut Workload, key: &str, value: &str, notes: &mut Vec<String>) -> Result<(), String> {
    match key {
        "fetch.max.bytes" => workload.fetch_bytes = number(key, value)?,
        "fetch.max.wait.ms" => workload.fetch_wait_ms = number(key, value)?,
        "fetch.min.bytes" => workload.fetch_min_bytes = number(key, value)?,
        "max.partition.fetch.bytes" => workload.partition_fetch_bytes = number(key, value)?,
        _ => return without_effect(key, value, notes),
    }
    Ok(())
}

fn without_effect(key: &str, value: &str, notes: &mut Vec<String>) -> Result<(), String> {
    if !WITHOUT_EFFECT.contains(&key) {
        return Err(format!("driver: {key} = {value} is not understood"));
    }
    notes.push(format!("{key} = {value} has no effect here"));
    Ok(())
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("driver: {key} = {value} makes no sense"))
}

fn acks(value: &str) -> Result<Acks, String> {
    match value {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err(format!("driver: acks = {value} makes no sense")),
    }
}

fn compression(value: &str) -> Result<Compression, String> {
    match value {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err(format!("driver: compression.type = {value} makes no sense")),
    }
}

/// `key=value` lines as Java's properties have them, without escapes.
fn properties(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').ok_or_else(|| format!("driver: {line} is no key=value"))?;
        Ok((key.trim().to_owned(), value.trim().to_owned()))
    };
    lines.map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKLOAD: &str = "
name: 1 topic / 16 partitions
topics: 1
partitionsPerTopic: 16
keyDistributor: \"NO_KEY\"
messageSize: 1024
payloadFile: \"payload/payload-1Kb.data\"
subscriptionsPerTopic: 2
producersPerTopic: 4
consumerPerSubscription: 3
producerRate: 50000
consumerBacklogSizeGB: 0
warmupDurationMinutes: 2
testDurationMinutes: 15
";

    const DRIVER: &str = "
name: Kafka
driverClass: io.openmessaging.benchmark.driver.kafka.KafkaBenchmarkDriver
replicationFactor: 1
topicConfig: |
  flush.messages=1
commonConfig: |
  bootstrap.servers=localhost:9092
producerConfig: |
  # As fast as it gets.
  acks=all
  linger.ms=1
  batch.size=1048576
  max.request.size=2097152
  enable.idempotence=true
consumerConfig: |
  auto.offset.reset=earliest
  max.partition.fetch.bytes=10485760
";

    fn refused(workload: &str, driver: Option<&str>) -> String {
        let why = read(workload, driver).unwrap_err();
        assert!(!why.contains('\n'), "{why}");
        why
    }

    #[test]
    fn a_workload_and_its_driver_say_the_same_here() {
        let Translation { workload, notes } = read(WORKLOAD, Some(DRIVER)).unwrap();
        let expected = Workload {
            name: "1-topic---16-partitions".to_owned(),
            partitions: 16,
            topic_configs: BTreeMap::from([("flush.messages".to_owned(), "1".to_owned())]),
            batch_bytes: 1_048_576,
            linger_ms: 1.0,
            request_bytes: 2_097_152,
            idempotence: true,
            producers: 4,
            consumer_groups: 2,
            consumers: 3,
            assignment: Assignment::Group,
            partition_fetch_bytes: 10_485_760,
            rate: Rate::PerSecond(50_000.0),
            warm_up_s: 120,
            duration_s: 900,
            ..Workload::default()
        };
        assert_eq!(workload, expected);
        assert_eq!(notes.len(), 3, "{notes:?}");
    }

    #[test]
    fn keys_and_payloads_are_translated() {
        let keyed = WORKLOAD.replace("NO_KEY", "KEY_ROUND_ROBIN");
        let keys = read(&keyed, None).unwrap().workload.keys;
        assert_eq!(keys, Keys::Uniform { count: 10_000, bytes: 7 });
        let random = format!("{WORKLOAD}useRandomizedPayloads: true\nrandomBytesRatio: 0.25\n");
        assert_eq!(read(&random, None).unwrap().workload.random_share.to_string(), "0.25");
    }

    #[test]
    fn a_backlog_is_read_by_each_subscription() {
        let backlog = WORKLOAD.replace("SizeGB: 0", "SizeGB: 10");
        let workload = read(&backlog, None).unwrap().workload;
        assert_eq!(workload.catch_up, Some(CatchUp { readers: 2, backlog_bytes: 5 * GIGABYTE }));
        assert_eq!(workload.consumer_groups, 0);
    }

    #[test]
    fn what_cannot_be_expressed_is_refused_in_one_line() {
        assert!(refused(&WORKLOAD.replace("50000", "0"), None).contains("producerRate"));
        assert!(refused(&format!("{WORKLOAD}producerStartRate: 7\n"), None).contains("producerStartRate"));
        assert!(refused(&WORKLOAD.replace("messageSize: 1024\n", ""), None).contains("messageSize"));
        let driver = |from, to| refused(WORKLOAD, Some(&DRIVER.replace(from, to)));
        assert!(driver("replicationFactor: 1", "replicationFactor: 3").contains("replicationFactor"));
        assert!(driver("linger.ms=1", "transactional.id=x").contains("transactional.id"));
        assert!(driver("linger.ms=1", "linger.ms=soon").contains("linger.ms"));
        assert!(driver("linger.ms=1", "compression.type=lz4").contains("payloadFile"));
        assert!(driver("KafkaBenchmarkDriver", "PulsarBenchmarkDriver").contains("PulsarBenchmarkDriver"));
    }
}
