//! A node for tests: speaks the protocol over a real socket and answers as the test says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::connection::Address;
use crate::protocol::api_key::{ApiKey, SUPPORTED};
use crate::protocol::frame::{RequestHeader, response_frame};
use crate::protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::protocol::messages::init_producer_id::InitProducerIdResponse;
use crate::protocol::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::protocol::wire::{Decode, Message, Reader};

/// One request as the test sees it.
pub(crate) struct Asked {
    pub(crate) key: ApiKey,
    version: i16,
    correlation_id: i32,
    frame: Vec<u8>,
}

/// What the node does with a request.
pub(crate) enum Reply {
    /// Sends these bytes, if any.
    Send(Vec<u8>),
    /// Hangs up without an answer.
    HangUp,
}

impl Asked {
    /// The request.
    pub(crate) fn decode<'a, Q: Message + Decode<'a>>(&'a self) -> Q {
        let mut reader = Reader::new(&self.frame);
        RequestHeader::decode(&mut reader).unwrap();
        Q::decode_field(&mut reader, Q::dialect(self.version)).unwrap()
    }

    /// An answer to it.
    pub(crate) fn answer<R: Message>(&self, response: &R) -> Reply {
        Reply::Send(response_frame(self.correlation_id, self.version, response).bytes)
    }
}

/// Starts node 1 of a cluster of one with topic `t` of `partition_count` partitions. ApiVersions, Metadata and
/// InitProducerId are answered here, the rest by the script.
pub(crate) fn node(partition_count: i32, script: impl FnMut(&Asked) -> Reply + Send + 'static) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(Mutex::new(script));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let script = Arc::clone(&script);
            thread::spawn(move || {
                serve(&mut stream.unwrap(), |asked| match asked.key {
                    ApiKey::ApiVersions => asked.answer(&versions()),
                    ApiKey::Metadata => asked.answer(&metadata(port, partition_count)),
                    ApiKey::InitProducerId => {
                        asked.answer(&InitProducerIdResponse { producer_id: 7, ..Default::default() })
                    }
                    _ => (script.lock().unwrap())(asked),
                });
            });
        }
    });
    Address::advertised("127.0.0.1", i32::from(port)).unwrap()
}

fn serve(stream: &mut TcpStream, mut answer: impl FnMut(&Asked) -> Reply) {
    let mut prefix = [0; 4];
    while stream.read_exact(&mut prefix).is_ok() {
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(prefix)).unwrap()];
        stream.read_exact(&mut frame).unwrap();
        let header = RequestHeader::decode(&mut Reader::new(&frame)).unwrap();
        let (version, correlation_id) = (header.api_version, header.correlation_id);
        let key = ApiKey::from_code(header.api_key).unwrap();
        match answer(&Asked { key, version, correlation_id, frame }) {
            Reply::Send(bytes) => stream.write_all(&bytes).unwrap(),
            Reply::HangUp => return,
        }
    }
}

fn versions() -> ApiVersionsResponse<'static> {
    let api_keys = SUPPORTED.iter().map(|api| ApiVersion {
        api_key: api.key.code(),
        min_version: api.accepted_min,
        max_version: api.max,
    });
    ApiVersionsResponse { api_keys: api_keys.collect(), ..Default::default() }
}

fn metadata(port: u16, partition_count: i32) -> MetadataResponse<'static> {
    let partition = |partition_index| MetadataResponsePartition { partition_index, leader_id: 1, ..Default::default() };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: "127.0.0.1".into(),
            port: i32::from(port),
            rack: None,
        }],
        topics: vec![MetadataResponseTopic {
            name: Some("t".into()),
            partitions: (0..partition_count).map(partition).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}
