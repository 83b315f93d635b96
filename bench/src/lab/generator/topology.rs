//! The topics of a load on a server: created, waited for, found.

use std::error::Error;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::error_code::ErrorCode;
use corelane::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelane::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

use super::plan::Slot;
use super::versions::Versions;
use crate::client::{Client, answer_body, debug};
use crate::lab::number::{narrow, size};
use crate::lab::workload::Workload;

/// How long all partitions may take to have leaders.
pub(super) const LEADER_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
pub(super) const LEADER_PAUSE: Duration = Duration::from_millis(50);
/// How long the server may take to create a topic, in milliseconds.
const CREATE_TIMEOUT_MS: i32 = 60_000;

/// Partitions with the addresses of their leaders.
type Leaders = Vec<(i32, SocketAddr)>;

/// Where the partitions of a load are.
pub(super) struct Topology {
    pub(super) topics: Vec<String>,
    pub(super) slots: Vec<Slot>,
    pub(super) leaders: Vec<SocketAddr>,
}

impl Topology {
    /// A floor: one leader that takes everything.
    pub(super) fn of_floor(workload: &Workload, address: SocketAddr, prefix: &str) -> Result<Topology, Box<dyn Error>> {
        let partitions = i32::try_from(workload.partitions)?;
        let slots = (0..partitions).map(|partition| Slot { topic: 0, partition, leader: 0 }).collect();
        Ok(Topology { topics: vec![format!("{prefix}0")], slots, leaders: vec![address] })
    }

    /// Creates the topics, one request each, and waits until every partition has a leader.
    ///
    /// Errors: what the server refused, in its words; a topic that exists; leaders that do not come within a minute.
    pub(super) fn create(
        workload: &Workload,
        client: &mut Client,
        versions: &Versions,
        prefix: &str,
    ) -> Result<Topology, Box<dyn Error>> {
        let topics: Vec<String> = (0..workload.topics).map(|index| format!("{prefix}{index}")).collect();
        for topic in &topics {
            create(workload, client, versions, topic)?;
        }
        let mut topology = Topology { topics: topics.clone(), slots: Vec::new(), leaders: Vec::new() };
        for (index, topic) in topics.iter().enumerate() {
            topology.await_leaders(workload, client, versions, narrow(index), topic)?;
        }
        Ok(topology)
    }

    fn await_leaders(
        &mut self,
        workload: &Workload,
        client: &mut Client,
        versions: &Versions,
        index: u32,
        topic: &str,
    ) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        loop {
            match leaders(client, versions, topic)? {
                Some(found) if found.len() == size(workload.partitions) => {
                    for (partition, address) in found {
                        let leader = self.leader(address);
                        self.slots.push(Slot { topic: index, partition, leader });
                    }
                    return Ok(());
                }
                _ if began.elapsed() > LEADER_PATIENCE => {
                    return Err(format!("{topic} has partitions without leaders after a minute").into());
                }
                _ => std::thread::sleep(LEADER_PAUSE),
            }
        }
    }

    fn leader(&mut self, address: SocketAddr) -> u32 {
        let known = self.leaders.iter().position(|leader| *leader == address);
        narrow(known.unwrap_or_else(|| {
            self.leaders.push(address);
            self.leaders.len() - 1
        }))
    }
}

/// Creates one topic. Records carry their due times, which look like dates of 1970: none may be deleted for its age.
fn create(workload: &Workload, client: &mut Client, versions: &Versions, topic: &str) -> Result<(), Box<dyn Error>> {
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: name.to_owned().into(),
        value: Some(value.to_owned().into()),
    };
    let mut configs: Vec<_> = workload.topic_configs.iter().map(|(name, value)| config(name, value)).collect();
    if !workload.topic_configs.contains_key("retention.ms") {
        configs.push(config("retention.ms", "-1"));
    }
    let topic = CreatableTopic {
        name: topic.into(),
        num_partitions: i32::try_from(workload.partitions)?,
        replication_factor: -1,
        configs,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: CREATE_TIMEOUT_MS, validate_only: false };
    let version = versions.of::<CreateTopicsRequest<'_>>()?;
    let answer = client.ask(version, &request)?;
    let body = &mut answer_body(&answer, ApiKey::CreateTopics, version)?;
    let response = CreateTopicsResponse::decode(body, version).map_err(debug)?;
    match response.topics.first() {
        Some(result) if result.error_code == 0 => Ok(()),
        Some(result) => {
            let words = result.error_message.as_deref().unwrap_or_default();
            Err(format!("creating {}: {} {words}", result.name, error_name(result.error_code)).into())
        }
        None => Err("the server says nothing about the topic that it was to create".into()),
    }
}

/// Partitions of a topic with their leaders, in order; none while one has no leader.
fn leaders(client: &mut Client, versions: &Versions, topic: &str) -> Result<Option<Leaders>, Box<dyn Error>> {
    let wanted = MetadataRequestTopic { name: Some(topic.into()), ..MetadataRequestTopic::default() };
    let request =
        MetadataRequest { topics: Some(vec![wanted]), allow_auto_topic_creation: false, ..MetadataRequest::default() };
    let version = versions.of::<MetadataRequest<'_>>()?;
    let answer = client.ask(version, &request)?;
    let body = &mut answer_body(&answer, ApiKey::Metadata, version)?;
    let response = MetadataResponse::decode(body, version).map_err(debug)?;
    let topic = response.topics.first().ok_or("the server says nothing about the topic")?;
    if topic.error_code != 0 || topic.partitions.iter().any(|partition| partition.error_code != 0) {
        return Ok(None);
    }
    let mut found = Vec::new();
    for partition in &topic.partitions {
        let node = response.brokers.iter().find(|node| node.node_id == partition.leader_id);
        let Some(node) = node else { return Ok(None) };
        found.push((partition.partition_index, address(&node.host, node.port)?));
    }
    found.sort_unstable_by_key(|(partition, _)| *partition);
    Ok(Some(found))
}

/// The address of a node, IPv4 first.
pub(super) fn address(host: &str, port: i32) -> Result<SocketAddr, Box<dyn Error>> {
    let mut all: Vec<SocketAddr> = (host, u16::try_from(port)?).to_socket_addrs()?.collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    Ok(*all.first().ok_or_else(|| format!("{host} has no address"))?)
}

/// An error as Kafka calls it.
pub(super) fn error_name(code: i16) -> String {
    ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |code| code.name().to_owned())
}
