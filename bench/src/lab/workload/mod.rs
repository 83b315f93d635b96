//! What a load consists of, as a TOML file says it. Plain values: no connection, clock or broker is known here.

mod file;
mod open_messaging;
mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use self::file::read;
pub(crate) use self::open_messaging::Translation;

/// One load: topics, producers, consumers and a rate. What a file leaves out has the value of [`Workload::default`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Workload {
    /// Names the load in reports, file names and topics: letters, digits, `-`, `_` and `.`.
    pub(crate) name: String,
    /// Topics; producers and consumers use all of them.
    pub(crate) topics: u32,
    /// Partitions of each topic.
    pub(crate) partitions: u32,
    /// Topic configs beside those that the durability sets.
    pub(crate) topic_configs: BTreeMap<String, String>,
    /// Size of a record's value.
    pub(crate) record_bytes: RecordBytes,
    /// Keys of records, by which their partition is chosen; without keys each batch goes to the next partition.
    pub(crate) keys: Keys,
    /// A batch is sent at the latest when it has this size, as `batch.size` of Kafka's producer.
    pub(crate) batch_bytes: u32,
    /// A batch is sent at the latest this long after its first record was due, as `linger.ms`; fractions are fine.
    pub(crate) linger_ms: f64,
    /// Bytes of one Produce request at most, as `max.request.size`; batches for one leader share a request.
    pub(crate) request_bytes: u32,
    /// Requests of one connection without an answer, as `max.in.flight.requests.per.connection`.
    pub(crate) requests_in_flight: u32,
    /// How batches are compressed.
    pub(crate) compression: Compression,
    /// Share of a value that is random bytes; the rest is one repeated byte. 1 cannot be compressed.
    pub(crate) random_share: f64,
    /// When the broker answers.
    pub(crate) acks: Acks,
    /// Sends with a producer id and sequences, as `enable.idempotence`.
    pub(crate) idempotence: bool,
    /// Producers; each has a connection to every leader.
    pub(crate) producers: u32,
    /// Groups that each read everything.
    pub(crate) consumer_groups: u32,
    /// Consumers of each group; each has a connection to every leader of its partitions.
    pub(crate) consumers: u32,
    /// How consumers get their partitions.
    pub(crate) assignment: Assignment,
    /// As `fetch.min.bytes`.
    pub(crate) fetch_min_bytes: u32,
    /// As `fetch.max.wait.ms`.
    pub(crate) fetch_wait_ms: u32,
    /// As `fetch.max.bytes`.
    pub(crate) fetch_bytes: u32,
    /// As `max.partition.fetch.bytes`.
    pub(crate) partition_fetch_bytes: u32,
    /// Readers of old data beside the live traffic.
    pub(crate) catch_up: Option<CatchUp>,
    /// How fast records are sent.
    pub(crate) rate: Rate,
    /// Seconds under the load before anything counts.
    pub(crate) warm_up_s: u32,
    /// Seconds that count.
    pub(crate) duration_s: u32,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            name: "unnamed".to_owned(),
            topics: 1,
            partitions: 1,
            topic_configs: BTreeMap::new(),
            record_bytes: RecordBytes::Fixed(1024),
            keys: Keys::None,
            batch_bytes: 16 * 1024,
            linger_ms: 5.0,
            request_bytes: 1024 * 1024,
            requests_in_flight: 5,
            compression: Compression::None,
            random_share: 1.0,
            acks: Acks::All,
            idempotence: false,
            producers: 1,
            consumer_groups: 0,
            consumers: 1,
            assignment: Assignment::Direct,
            fetch_min_bytes: 1,
            fetch_wait_ms: 500,
            fetch_bytes: 50 * 1024 * 1024,
            partition_fetch_bytes: 1024 * 1024,
            catch_up: None,
            rate: Rate::Max,
            warm_up_s: 5,
            duration_s: 10,
        }
    }
}

/// Size of records' values, in bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum RecordBytes {
    /// All alike: `record_bytes = 1024`.
    Fixed(u32),
    /// Even between two bounds, both included: `record_bytes = { min = 100, max = 2000 }`.
    Even {
        /// Least.
        min: u32,
        /// Most.
        max: u32,
    },
    /// Sizes with weights: `record_bytes = [{ bytes = 100, weight = 9 }, { bytes = 10000, weight = 1 }]`.
    Weighted(Vec<WeightedBytes>),
}

impl RecordBytes {
    /// The largest size that occurs.
    pub(crate) fn largest(&self) -> u32 {
        match self {
            RecordBytes::Fixed(bytes) => *bytes,
            RecordBytes::Even { max, .. } => *max,
            RecordBytes::Weighted(all) => all.iter().map(|one| one.bytes).max().unwrap_or(0),
        }
    }

    /// The mean size.
    pub(crate) fn mean(&self) -> f64 {
        match self {
            RecordBytes::Fixed(bytes) => f64::from(*bytes),
            RecordBytes::Even { min, max } => f64::midpoint(f64::from(*min), f64::from(*max)),
            RecordBytes::Weighted(all) => {
                let weights: f64 = all.iter().map(|one| f64::from(one.weight)).sum();
                all.iter().map(|one| f64::from(one.bytes) * f64::from(one.weight)).sum::<f64>() / weights
            }
        }
    }
}

/// A size and how often it occurs beside the others.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WeightedBytes {
    /// The size.
    pub(crate) bytes: u32,
    /// Its weight.
    pub(crate) weight: u32,
}

/// Keys of records.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Keys {
    /// No keys: `keys = { kind = "none" }`.
    None,
    /// Every key as often as any other.
    Uniform {
        /// How many there are.
        count: u64,
        /// Size of each.
        bytes: u32,
    },
    /// The n-th most frequent key with a share of 1 / n^exponent.
    Zipf {
        /// How many there are.
        count: u64,
        /// Size of each.
        bytes: u32,
        /// 0.99 is usual.
        exponent: f64,
    },
}

/// Codec of batches.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// `acks` of Kafka's producer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Acks {
    /// `acks = "0"`: no answer at all.
    #[serde(rename = "0")]
    None,
    /// `acks = "1"`.
    #[serde(rename = "1")]
    Leader,
    /// `acks = "all"`.
    #[serde(rename = "all")]
    All,
}

/// How consumers get their partitions.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Assignment {
    /// Consumer i of n reads every n-th partition; no coordinator is asked.
    Direct,
    /// A consumer group of the classic protocol with heartbeats and a commit every 5 s.
    Group,
}

/// Readers that begin with the oldest of a backlog while the load goes on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatchUp {
    /// How many; each reads every partition.
    pub(crate) readers: u32,
    /// Bytes that are stored before the load begins, over all partitions.
    pub(crate) backlog_bytes: u64,
}

/// How fast records are sent, over all producers.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Rate {
    /// Records per second, each due at its own moment whatever the broker does: `rate = 50000`.
    PerSecond(f64),
    /// As fast as answers come: `rate = "max"`. Gives throughput and no latency that means anything.
    #[serde(with = "max_word")]
    Max,
}

mod max_word {
    //! The word `max` for [`super::Rate::Max`].

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("max")
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "max" => Ok(()),
            other => Err(D::Error::custom(format!("a rate is a number or \"max\", not \"{other}\""))),
        }
    }
}
