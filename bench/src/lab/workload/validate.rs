//! Whether a workload makes sense, before anything is started: each fault in one line that names the field.

use super::{Acks, Keys, Rate, RecordBytes, Workload};
use crate::lab::cluster::Cluster;

/// Partitions of one topic that Kafka creates with one request.
const PARTITIONS_PER_TOPIC_MAX: u32 = 10_000;
/// Partitions of a load.
const PARTITIONS_MAX: u32 = 100_000;
/// Producers or consumers of a load; each has a socket for every leader.
const CLIENTS_MAX: u32 = 10_000;
/// Largest record, in bytes, of which several fit into a request of Kafka's largest size.
const RECORD_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// Largest request, in bytes: Kafka's default for `socket.request.max.bytes`.
const REQUEST_BYTES_MAX: u32 = 100 * 1024 * 1024;
/// Rates that the schedule tells apart, in records per second.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=1e9;

impl Workload {
    /// Refuses what makes no sense, or what this server cannot have.
    pub(crate) fn validate(&self, cluster: &Cluster) -> Result<(), String> {
        self.check_name()?;
        self.check_sizes()?;
        self.check_counts()?;
        self.check_keys()?;
        self.check_settings()?;
        match cluster {
            Cluster::Kafka { .. } => Ok(()),
            Cluster::Floor { .. } => self.check_floor(),
        }
    }

    fn check_name(&self) -> Result<(), String> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        check(!self.name.is_empty() && self.name.len() <= 100 && self.name.bytes().all(is_fine), || {
            format!("name = {:?}: up to 100 letters, digits, -, _ and .", self.name)
        })
    }

    fn check_sizes(&self) -> Result<(), String> {
        match &self.record_bytes {
            RecordBytes::Fixed(_) => {}
            RecordBytes::Even { min, max } => {
                check(min <= max, || format!("record_bytes: min = {min} is above max = {max}"))?;
            }
            RecordBytes::Weighted(all) => {
                let weight: u64 = all.iter().map(|one| u64::from(one.weight)).sum();
                let most = u64::from(u32::MAX);
                check((1..=most).contains(&weight), || format!("record_bytes: weights of {weight}: 1 to {most}"))?;
            }
        }
        within("record_bytes", self.record_bytes.largest(), 0..=RECORD_BYTES_MAX)?;
        within("request_bytes", self.request_bytes, 1..=REQUEST_BYTES_MAX)?;
        within("batch_bytes", self.batch_bytes, 1..=self.request_bytes)?;
        check((0.0..=1.0).contains(&self.random_share), || {
            format!("random_share = {}: it must lie between 0 and 1", self.random_share)
        })
    }

    fn check_counts(&self) -> Result<(), String> {
        within("topics", self.topics, 1..=PARTITIONS_MAX)?;
        within("partitions", self.partitions, 1..=PARTITIONS_PER_TOPIC_MAX)?;
        let all = self.topics.saturating_mul(self.partitions);
        check(all <= PARTITIONS_MAX, || format!("topics x partitions = {all}: at most {PARTITIONS_MAX}"))?;
        within("producers", self.producers, 1..=CLIENTS_MAX)?;
        within("consumer_groups", self.consumer_groups, 0..=CLIENTS_MAX)?;
        within("consumers", self.consumers, 1..=CLIENTS_MAX)?;
        let consumers = self.consumer_groups.saturating_mul(self.consumers);
        check(consumers <= CLIENTS_MAX, || {
            format!("consumer_groups x consumers = {consumers}: at most {CLIENTS_MAX}")
        })?;
        if let Some(catch_up) = &self.catch_up {
            within("catch_up.readers", catch_up.readers, 1..=CLIENTS_MAX)?;
            check(catch_up.backlog_bytes > 0, || "catch_up.backlog_bytes = 0: there is nothing to read".to_owned())?;
        }
        within("requests_in_flight", self.requests_in_flight, 1..=64)?;
        within("duration_s", self.duration_s, 1..=86_400)
    }

    fn check_keys(&self) -> Result<(), String> {
        let (count, bytes) = match &self.keys {
            Keys::None => return Ok(()),
            Keys::Uniform { count, bytes } => (*count, *bytes),
            Keys::Zipf { count, bytes, exponent } => {
                check(*exponent > 0.0 && exponent.is_finite(), || {
                    format!("keys.exponent = {exponent}: it must be above 0")
                })?;
                (*count, *bytes)
            }
        };
        check(count > 0 && count <= u64::from(u32::MAX), || format!("keys.count = {count}: 1 to {}", u32::MAX))?;
        within("keys.bytes", bytes, 1..=RECORD_BYTES_MAX)?;
        // Keys are numbers in so many digits: fewer bytes cannot tell them apart.
        let digits = u32::try_from((count - 1).to_string().len()).unwrap_or(u32::MAX);
        check(bytes >= digits, || format!("keys.bytes = {bytes}: {count} keys need {digits}"))
    }

    fn check_settings(&self) -> Result<(), String> {
        if let Rate::PerSecond(rate) = self.rate {
            check(RATES.contains(&rate), || format!("rate = {rate}: {} to {}", RATES.start(), RATES.end()))?;
        }
        check((0.0..=60_000.0).contains(&self.linger_ms), || format!("linger_ms = {}: 0 to 60000", self.linger_ms))?;
        check(!self.idempotence || self.acks == Acks::All, || "idempotence needs acks = \"all\"".to_owned())?;
        check(!self.idempotence || self.requests_in_flight <= 5, || {
            "idempotence allows at most 5 requests_in_flight".to_owned()
        })?;
        within("fetch_wait_ms", self.fetch_wait_ms, 0..=60_000)?;
        let stamp = self.topic_configs.get("message.timestamp.type");
        check(stamp.is_none_or(|stamp| stamp == "CreateTime"), || {
            "topic_configs: the lab times records by their own timestamps, so message.timestamp.type must be CreateTime"
                .to_owned()
        })
    }

    /// A floor takes what producers send to one topic on one connection.
    fn check_floor(&self) -> Result<(), String> {
        let fits = self.producers == 1
            && self.topics == 1
            && self.consumer_groups == 0
            && self.catch_up.is_none()
            && !self.idempotence
            && self.acks == Acks::Leader;
        check(fits, || "a floor takes one producer of one topic with acks = \"1\", and nobody reads from it".to_owned())
    }
}

fn within(field: &str, value: u32, range: std::ops::RangeInclusive<u32>) -> Result<(), String> {
    check(range.contains(&value), || format!("{field} = {value}: {} to {}", range.start(), range.end()))
}

fn check(holds: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fault()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::workload::WeightedBytes;
    use std::net::SocketAddr;

    fn address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    #[test]
    fn the_defaults_are_sound_but_for_the_acks_of_floors() {
        let workload = Workload::default();
        assert_eq!(workload.validate(&Cluster::Kafka { bootstrap: address() }), Ok(()));
        assert!(workload.validate(&Cluster::Floor { address: address() }).is_err());
        let workload = Workload { acks: Acks::Leader, ..workload };
        assert_eq!(workload.validate(&Cluster::Floor { address: address() }), Ok(()));
    }

    /// A field, and what spoils it.
    type Case = (&'static str, fn(&mut Workload));

    #[test]
    fn a_fault_is_one_line_that_names_the_field() {
        let cases: [Case; 12] = [
            ("name", |workload| workload.name = "a b".to_owned()),
            ("partitions", |workload| workload.partitions = 0),
            ("topics x partitions", |workload| (workload.topics, workload.partitions) = (11, 10_000)),
            ("record_bytes", |workload| workload.record_bytes = RecordBytes::Even { min: 2, max: 1 }),
            ("record_bytes", |workload| {
                workload.record_bytes = RecordBytes::Weighted(vec![WeightedBytes { bytes: 1, weight: 0 }]);
            }),
            ("batch_bytes", |workload| workload.batch_bytes = workload.request_bytes + 1),
            ("random_share", |workload| workload.random_share = 1.5),
            ("keys.bytes", |workload| workload.keys = Keys::Uniform { count: 1_001, bytes: 3 }),
            ("keys.exponent", |workload| workload.keys = Keys::Zipf { count: 9, bytes: 9, exponent: 0.0 }),
            ("rate", |workload| workload.rate = Rate::PerSecond(f64::NAN)),
            ("idempotence", |workload| (workload.idempotence, workload.acks) = (true, Acks::Leader)),
            ("message.timestamp.type", |workload| {
                let config = ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
                workload.topic_configs.extend([config]);
            }),
        ];
        for (field, spoil) in cases {
            let mut workload = Workload::default();
            spoil(&mut workload);
            let why = workload.validate(&Cluster::Kafka { bootstrap: address() }).unwrap_err();
            assert!(why.contains(field) && !why.contains('\n'), "{field}: {why}");
        }
    }

    #[test]
    fn a_floor_refuses_readers_and_several_producers() {
        let floor = Cluster::Floor { address: address() };
        let fine = Workload { acks: Acks::Leader, ..Workload::default() };
        let readers = Workload { consumer_groups: 1, ..fine.clone() };
        let producers = Workload { producers: 2, ..fine };
        assert!(readers.validate(&floor).is_err());
        assert!(producers.validate(&floor).is_err());
    }
}
