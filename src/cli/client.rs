//! A blocking client of any Kafka-compatible cluster, as far as the commands need one.
//!
//! Not the broker's: no part of it runs on a shard. A client belongs to one thread and has one request in flight per
//! connection. It knows nodes from Metadata, opens a connection to a node when something is to be asked of it, and
//! forgets the connection when it fails. Who may try again decides for how long, by [`Retry`].

mod connection;
mod interrupt;
#[cfg(test)]
pub(crate) mod scripted;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use clap::Args;

pub(crate) use self::connection::{Address, Answer, Connection};
pub(crate) use self::interrupt::Interrupt;
use crate::limits::{CLIENT_REQUEST_MS, CLIENT_RESPONSE_BYTES_MAX, CLIENT_RETRY_MS, CLIENT_RETRY_PAUSE_MS};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use crate::protocol::wire::Message;
use crate::types::TopicId;

/// Option of every command that talks to a cluster.
#[derive(Args, Clone, Debug)]
pub(crate) struct BootstrapArguments {
    /// Nodes to ask first for the others
    #[arg(
        short = 'b',
        long,
        value_name = "HOST:PORT[,..]",
        value_delimiter = ',',
        default_value = "127.0.0.1:9092",
        global = true
    )]
    pub(crate) bootstrap: Vec<Address>,
}

/// ListOffsets' timestamp for the end of a log.
pub(crate) const LATEST: i64 = -1;
/// ListOffsets' timestamp for the start of a log.
pub(crate) const EARLIEST: i64 = -2;

/// Isolation level that leaves out records of open and aborted transactions, as kcat's default does.
pub(crate) const READ_COMMITTED: i8 = 1;
/// Isolation level that reads up to the high watermark.
pub(crate) const READ_UNCOMMITTED: i8 = 0;

/// Why a request got no answer that helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No connection.
    #[error("cannot reach {address}: {cause}")]
    Unreachable { address: Address, cause: String },
    /// The connection ended before the answer did.
    #[error("{0} closed the connection before it answered; see the broker's log")]
    Closed(Address),
    /// Nothing came for too long.
    #[error("{0} did not answer in time; is the broker overloaded, or the address not a Kafka listener?")]
    Silent(Address),
    /// The connection broke otherwise.
    #[error("the connection to {address} broke: {cause}")]
    Broken { address: Address, cause: String },
    /// The answer is longer than any we accept.
    #[error(
        "{address} announced an answer of {bytes} bytes, more than {CLIENT_RESPONSE_BYTES_MAX}; is it a Kafka listener without TLS?"
    )]
    ResponseTooLarge { address: Address, bytes: u32 },
    /// The answer is no message of Kafka's.
    #[error("{address} answered {api} with something that cannot be read: {cause}")]
    Garbage { address: Address, api: &'static str, cause: String },
    /// The node speaks no version of the API that we do.
    #[error("{address} does not speak {api} in versions {min} to {max} (it speaks {theirs}); use a newer broker")]
    Unsupported { address: Address, api: &'static str, min: i16, max: i16, theirs: String },
    /// The node said no.
    #[error("{subject}: {refusal}")]
    Refused { subject: String, refusal: Refusal },
    /// A leader that Metadata names is not among its nodes.
    #[error("node {0} is named as a leader but not listed; is it down?")]
    UnknownNode(i32),
}

impl ClientError {
    /// A failed read or write as the user should hear of it.
    fn io(address: &Address, error: &std::io::Error) -> ClientError {
        let address = address.clone();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => ClientError::Silent(address),
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::BrokenPipe => ClientError::Closed(address),
            _ => ClientError::Broken { address, cause: error.to_string() },
        }
    }

    /// A refusal of something, by its error code and what the broker added to it.
    pub(crate) fn refused(subject: impl Into<String>, code: i16, message: Option<&str>) -> ClientError {
        ClientError::Refused { subject: subject.into(), refusal: Refusal::new(code, message) }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) fn is_retriable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. }
            | ClientError::Closed(_)
            | ClientError::Silent(_)
            | ClientError::Broken { .. }
            | ClientError::UnknownNode(_) => true,
            ClientError::Refused { refusal, .. } => is_retriable(refusal.error),
            ClientError::ResponseTooLarge { .. } | ClientError::Garbage { .. } | ClientError::Unsupported { .. } => {
                false
            }
        }
    }
}

/// An error code with what the broker said about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) error: ErrorCode,
    message: Option<String>,
}

impl Refusal {
    /// From the wire. A code that we do not know counts as an unknown error of the server.
    pub(crate) fn new(code: i16, message: Option<&str>) -> Refusal {
        let error = error_of(code);
        let message = message.filter(|message| !message.is_empty()).map(str::to_owned);
        Refusal { error, message }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message.as_deref().unwrap_or(self.error.message()), self.error.name())
    }
}

/// The error of a code; one that we do not know counts as an unknown error of the server.
pub(crate) fn error_of(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError)
}

/// An error if the code is one.
pub(crate) fn check(subject: &str, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    if code == 0 { Ok(()) } else { Err(ClientError::refused(subject, code, message)) }
}

/// Whether the same request may succeed a little later, perhaps at another node.
pub(crate) fn is_retriable(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::RequestTimedOut
            | ErrorCode::BrokerNotAvailable
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::NetworkException
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::NotController
            | ErrorCode::KafkaStorageError
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::OffsetNotAvailable
            | ErrorCode::UnknownTopicId
            | ErrorCode::ThrottlingQuotaExceeded
            | ErrorCode::UnstableOffsetCommit
            | ErrorCode::StaleMemberEpoch
    )
}

/// Patience: from the first failure on, pauses between tries and ends them after `CLIENT_RETRY_MS`.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    deadline: Option<Instant>,
}

impl Retry {
    /// No failure yet.
    pub(crate) fn new() -> Retry {
        Retry::default()
    }

    /// Waits before the next try; false, at once, when there should be none.
    pub(crate) fn pause(&mut self) -> bool {
        let now = Instant::now();
        let deadline = *self.deadline.get_or_insert(now + Duration::from_millis(CLIENT_RETRY_MS));
        if now >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(CLIENT_RETRY_PAUSE_MS).min(deadline - now));
        true
    }

    /// Repeats `attempt` until it succeeds, fails for good, or patience ends.
    pub(crate) fn run<T>(mut self, mut attempt: impl FnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
        loop {
            match attempt() {
                Err(error) if error.is_retriable() && self.pause() => {}
                outcome => return outcome,
            }
        }
    }
}

/// A topic as Metadata describes it.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    pub(crate) is_internal: bool,
    /// By rising index.
    pub(crate) partitions: Vec<Partition>,
}

/// A partition as Metadata describes it.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    /// Node id of the leader, -1 for none.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
}

/// The cluster, as far as it is known.
#[derive(Debug)]
pub(crate) struct Client {
    bootstrap: Vec<Address>,
    nodes: BTreeMap<i32, Address>,
    /// Node that takes administrative requests, -1 for any.
    controller: i32,
    connections: HashMap<i32, Connection>,
    /// A connection to whichever node answered first.
    any: Option<Connection>,
}

impl Client {
    /// Connects to the first node that answers.
    pub(crate) fn connect(bootstrap: &[Address]) -> Result<Client, ClientError> {
        let mut client = Client {
            bootstrap: bootstrap.to_vec(),
            nodes: BTreeMap::new(),
            controller: -1,
            connections: HashMap::new(),
            any: None,
        };
        client.any = Some(client.open_any()?);
        Ok(client)
    }

    /// Where a node listens, if it is known.
    pub(crate) fn address(&self, node: i32) -> Result<&Address, ClientError> {
        self.nodes.get(&node).ok_or(ClientError::UnknownNode(node))
    }

    /// The ids of all nodes that Metadata listed, ordered.
    pub(crate) fn node_ids(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }

    /// The connection to a node, opened if there is none.
    pub(crate) fn node(&mut self, node: i32) -> Result<&mut Connection, ClientError> {
        let address = self.nodes.get(&node).ok_or(ClientError::UnknownNode(node))?;
        match self.connections.entry(node) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => Ok(entry.insert(Connection::open(address)?)),
        }
    }

    /// Forgets the connection to a node, because it failed.
    pub(crate) fn disconnect(&mut self, node: i32) {
        self.connections.remove(&node);
    }

    /// Ends every connection after its node has read everything; returns the nodes that may not have.
    pub(crate) fn finish(&mut self) -> Vec<(i32, ClientError)> {
        self.connections.drain().filter_map(|(node, connection)| Some((node, connection.finish().err()?))).collect()
    }

    /// Asks one node.
    pub(crate) fn call_node<Q: Message>(&mut self, node: i32, request: &Q) -> Result<Answer, ClientError> {
        let outcome = self.node(node)?.call(request);
        if outcome.is_err() {
            self.disconnect(node);
        }
        outcome
    }

    /// Asks whichever node answers.
    pub(crate) fn call_any<Q: Message>(&mut self, request: &Q) -> Result<Answer, ClientError> {
        // The connection at hand may have died of age; a fresh one tells whether the cluster is there.
        if let Some(connection) = &mut self.any {
            match connection.call(request) {
                Err(error) if error.is_retriable() => self.any = None,
                outcome => return outcome,
            }
        }
        let connection = self.open_any()?;
        self.any.insert(connection).call(request)
    }

    /// Asks the node that takes administrative requests.
    pub(crate) fn call_controller<Q: Message>(&mut self, request: &Q) -> Result<Answer, ClientError> {
        if self.nodes.contains_key(&self.controller) {
            self.call_node(self.controller, request)
        } else {
            self.call_any(request)
        }
    }

    /// The topics of these names, or all, each with the error that stands in its way; learns the nodes on the way.
    pub(crate) fn metadata(
        &mut self,
        names: Option<&[String]>,
        create: bool,
    ) -> Result<Vec<Result<Topic, ClientError>>, ClientError> {
        let topic = |name: &String| MetadataRequestTopic {
            name: Some(Cow::Owned(name.clone())),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: names.map(|names| names.iter().map(topic).collect()),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        let answer = self.call_any(&request)?;
        let response: MetadataResponse<'_> = answer.decode()?;
        if response.error_code != 0 {
            return Err(ClientError::refused("the cluster", response.error_code, None));
        }
        self.controller = response.controller_id;
        self.nodes = response
            .brokers
            .iter()
            .filter_map(|broker| Some((broker.node_id, Address::advertised(&broker.host, broker.port)?)))
            .collect();
        let nodes = &self.nodes;
        self.connections.retain(|node, _| nodes.contains_key(node));
        Ok(response.topics.into_iter().map(topic_of).collect())
    }

    /// One topic, waiting for it and for the leaders of its partitions as long as patience lasts.
    ///
    /// With `create` a missing topic is created if the broker does that by itself; without, it is an error at once.
    pub(crate) fn topic(&mut self, name: &str, create: bool) -> Result<Topic, ClientError> {
        let names = [name.to_owned()];
        let mut retry = Retry::new();
        loop {
            let found = self.metadata(Some(&names), create).and_then(|topics| {
                topics.into_iter().next().unwrap_or_else(|| {
                    Err(ClientError::refused(format!("topic {name}"), ErrorCode::UnknownTopicOrPartition.code(), None))
                })
            });
            match found {
                Ok(topic) if topic.partitions.iter().all(|partition| partition.leader >= 0) => return Ok(topic),
                // Some partitions have no leader. Waiting may help; if not, the others still work.
                Ok(topic) if !retry.pause() => return Ok(topic),
                Ok(_) => {}
                Err(error) if !create && is_unknown_topic(&error) => return Err(error),
                Err(error) if error.is_retriable() && retry.pause() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks up one offset in each of some partitions of a topic, by time or by `LATEST` and `EARLIEST`: -1 for none.
    /// The outer error says that no answer came; the inner one, that a partition could not say.
    pub(crate) fn offsets(
        &mut self,
        topic: &Topic,
        partitions: &[i32],
        timestamp: i64,
        isolation_level: i8,
    ) -> Result<BTreeMap<i32, Result<i64, ErrorCode>>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for &index in partitions {
            match topic.partitions.iter().find(|partition| partition.index == index) {
                Some(partition) if partition.leader >= 0 => by_leader.entry(partition.leader).or_default().push(index),
                Some(_) => drop(found.insert(index, Err(ErrorCode::LeaderNotAvailable))),
                None => drop(found.insert(index, Err(ErrorCode::UnknownTopicOrPartition))),
            }
        }
        for (leader, indexes) in by_leader {
            let partitions = indexes.iter().map(|&partition_index| ListOffsetsPartition {
                partition_index,
                timestamp,
                ..Default::default()
            });
            let name = Cow::Borrowed(topic.name.as_str());
            let request = ListOffsetsRequest {
                replica_id: -1,
                isolation_level,
                topics: vec![ListOffsetsTopic { name, partitions: partitions.collect() }],
                timeout_ms: CLIENT_REQUEST_MS,
            };
            let answer = self.call_node(leader, &request)?;
            let response: ListOffsetsResponse<'_> = answer.decode()?;
            for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
                let outcome = match error_of(partition.error_code) {
                    ErrorCode::None => Ok(partition.offset),
                    error => Err(error),
                };
                found.insert(partition.partition_index, outcome);
            }
            for index in indexes {
                found.entry(index).or_insert(Err(ErrorCode::UnknownServerError));
            }
        }
        Ok(found)
    }

    /// The node that coordinates a group. Learns where the nodes listen on the way.
    pub(crate) fn coordinator(&mut self, group: &str) -> Result<i32, ClientError> {
        self.metadata(Some(&[]), false)?;
        let request = FindCoordinatorRequest { key: group.into(), key_type: 0, coordinator_keys: vec![group.into()] };
        let answer = self.call_any(&request)?;
        let response: FindCoordinatorResponse<'_> = answer.decode()?;
        let (node, code, message) = match response.coordinators.first() {
            Some(found) => (found.node_id, found.error_code, found.error_message.as_deref()),
            None => (response.node_id, response.error_code, response.error_message.as_deref()),
        };
        check(&format!("the coordinator of group {group}"), code, message)?;
        Ok(node)
    }

    /// A connection to the first node that answers, known ones before those of the command line.
    fn open_any(&self) -> Result<Connection, ClientError> {
        let mut failure = None;
        for address in self.nodes.values().chain(&self.bootstrap) {
            match Connection::open(address) {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.expect("clap demands at least one bootstrap address"))
    }
}

/// Whether the topic is not there.
pub(crate) fn is_unknown_topic(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { refusal: Refusal { error: ErrorCode::UnknownTopicOrPartition, .. }, .. })
}

fn topic_of(topic: MetadataResponseTopic<'_>) -> Result<Topic, ClientError> {
    let name = topic.name.unwrap_or_default().into_owned();
    match error_of(topic.error_code) {
        ErrorCode::None => {}
        ErrorCode::UnknownTopicOrPartition => {
            let hint = format!("there is no such topic; `corelane topic create {name}` makes one");
            return Err(ClientError::refused(format!("topic {name}"), topic.error_code, Some(&hint)));
        }
        _ => return Err(ClientError::refused(format!("topic {name}"), topic.error_code, None)),
    }
    let partitions = topic.partitions.into_iter().map(|partition| Partition {
        index: partition.partition_index,
        leader: partition.leader_id,
        leader_epoch: partition.leader_epoch,
        replicas: partition.replica_nodes,
        in_sync: partition.isr_nodes,
    });
    let mut partitions: Vec<Partition> = partitions.collect();
    partitions.sort_by_key(|partition| partition.index);
    Ok(Topic { name, id: topic.topic_id, is_internal: topic.is_internal, partitions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_prefers_the_words_of_the_broker() {
        let bare = ClientError::refused("topic t", ErrorCode::TopicAlreadyExists.code(), None);
        assert_eq!(bare.to_string(), "topic t: a topic of this name exists (TOPIC_ALREADY_EXISTS)");
        let explained = ClientError::refused("topic t", ErrorCode::InvalidConfig.code(), Some("no key x"));
        assert_eq!(explained.to_string(), "topic t: no key x (INVALID_CONFIG)");
        assert_eq!(error_of(9999), ErrorCode::UnknownServerError);
    }

    #[test]
    fn retry_gives_a_lasting_error_back_at_once() {
        let mut tries = 0;
        let outcome: Result<(), ClientError> = Retry::new().run(|| {
            tries += 1;
            let code = if tries < 3 { ErrorCode::NotLeaderOrFollower } else { ErrorCode::InvalidRequest };
            Err(ClientError::refused("t", code.code(), None))
        });
        assert!(
            matches!(outcome, Err(ClientError::Refused { refusal, .. }) if refusal.error == ErrorCode::InvalidRequest)
        );
        assert_eq!(tries, 3);
    }
}
