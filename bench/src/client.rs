//! The little of a Kafka client that the benchmarks need, blocking.

use std::borrow::Cow;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::{ResponseHeader, request_frame};
use corelane::protocol::messages::create_topics::CreateTopicsResponse;
use corelane::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use corelane::protocol::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelane::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelane::protocol::wire::{Message, Reader};
use corelane::types::TopicId;

const DELETE_VERSION: i16 = 4;
/// How long deleting may take, in milliseconds.
const DELETE_PATIENCE_MS: i32 = 60_000;

/// What the benchmarks call themselves.
pub(crate) const CLIENT_ID: &str = "corelane-bench";

/// A topic's partitions by the address of their leader, in the order of first appearance.
pub(crate) type Leaders = Vec<(SocketAddr, Vec<i32>)>;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, correlation_id: 0 })
    }

    /// Bounds how long an answer is waited for.
    pub(crate) fn wait_at_most(&self, time: Duration) -> std::io::Result<()> {
        self.stream.set_read_timeout(Some(time))
    }

    /// Sends a request and returns the frame of its answer, of which `answer_body` is the message.
    pub(crate) fn ask<M: Message>(&mut self, version: i16, request: &M) -> std::io::Result<Vec<u8>> {
        self.send(version, request)?;
        self.receive()
    }

    /// Sends a request whose answer `receive` returns, after those to the requests before.
    pub(crate) fn send<M: Message>(&mut self, version: i16, request: &M) -> std::io::Result<()> {
        self.correlation_id += 1;
        let frame = request_frame(self.correlation_id, Some(CLIENT_ID), version, request);
        self.stream.write_all(&frame.bytes)
    }

    /// The frame of the next answer.
    pub(crate) fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut answer = Vec::new();
        read_frame(&mut self.stream, &mut answer)?;
        Ok(answer)
    }

    /// The connection alone, with nothing unread.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Creates a topic.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), Box<dyn Error>> {
        let configs = configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) })
            .collect();
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: -1,
            configs,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let answer = self.ask(5, &request)?;
        let response =
            CreateTopicsResponse::decode(&mut answer_body(&answer, ApiKey::CreateTopics, 5)?, 5).map_err(debug)?;
        match response.topics.first() {
            Some(topic) if topic.error_code == 0 => Ok(()),
            Some(topic) => Err(format!("create {name}: {} {:?}", topic.error_code, topic.error_message).into()),
            None => Err("no answer about the topic".into()),
        }
    }

    /// Deletes topics, of which there may be none.
    ///
    /// Errors: a topic that is not deleted, with the broker's code.
    pub(crate) fn delete_topics(&mut self, names: Vec<Cow<'_, str>>) -> Result<(), Box<dyn Error>> {
        let request = DeleteTopicsRequest {
            topic_names: names,
            timeout_ms: DELETE_PATIENCE_MS,
            ..DeleteTopicsRequest::default()
        };
        let answer = self.ask(DELETE_VERSION, &request)?;
        let body = &mut answer_body(&answer, ApiKey::DeleteTopics, DELETE_VERSION)?;
        let deleted = DeleteTopicsResponse::decode(body, DELETE_VERSION).map_err(debug)?;
        match deleted.responses.iter().find(|topic| topic.error_code != 0) {
            None => Ok(()),
            Some(topic) => Err(format!("deleting {:?}: error {}", topic.name, topic.error_code).into()),
        }
    }

    /// The topic's id, and its partitions by leader.
    pub(crate) fn leaders(&mut self, name: &str) -> Result<(TopicId, Leaders), Box<dyn Error>> {
        let topic = MetadataRequestTopic { name: Some(name.into()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
        let answer = self.ask(12, &request)?;
        let response = MetadataResponse::decode(&mut answer_body(&answer, ApiKey::Metadata, 12)?, 12).map_err(debug)?;
        let topic = response.topics.first().ok_or("no answer about the topic")?;
        if topic.error_code != 0 {
            return Err(format!("metadata of {name}: error {}", topic.error_code).into());
        }
        let mut leaders: Leaders = Vec::new();
        for partition in &topic.partitions {
            let node = response.brokers.iter().find(|node| node.node_id == partition.leader_id);
            let node = node.ok_or("a leader that is no node")?;
            let address = SocketAddr::new(node.host.parse()?, u16::try_from(node.port)?);
            match leaders.iter_mut().find(|(leader, _)| *leader == address) {
                Some((_, partitions)) => partitions.push(partition.partition_index),
                None => leaders.push((address, vec![partition.partition_index])),
            }
        }
        for (_, partitions) in &mut leaders {
            partitions.sort_unstable();
        }
        Ok((topic.topic_id, leaders))
    }
}

/// Reads one frame, without its length, into `frame`.
pub(crate) fn read_frame(stream: &mut impl Read, frame: &mut Vec<u8>) -> std::io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(std::io::Error::other)?;
    frame.resize(length, 0);
    stream.read_exact(frame)
}

/// The message of an answer.
pub(crate) fn answer_body(frame: &[u8], key: ApiKey, version: i16) -> Result<Reader<'_>, Box<dyn Error>> {
    let mut reader = Reader::new(frame);
    ResponseHeader::decode(&mut reader, key, version).map_err(debug)?;
    Ok(reader)
}

/// An error of the protocol module as text.
pub(crate) fn debug(error: impl std::fmt::Debug) -> String {
    format!("{error:?}")
}
