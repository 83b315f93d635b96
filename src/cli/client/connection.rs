//! One connection to one node: a request out, its answer back, nothing shared and nothing asynchronous.
//!
//! Versions are negotiated when the connection opens: of every API the highest that both sides speak, except that Produce,
//! Fetch, OffsetCommit and OffsetFetch stay where topics go by name. Invariants: no answer is read beyond `CLIENT_RESPONSE_BYTES_MAX`, and memory
//! for it grows only as its bytes arrive.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use super::ClientError;
use crate::limits::{CLIENT_ANSWER_MS, CLIENT_CONNECT_MS, CLIENT_RESPONSE_BYTES_MAX};
use crate::protocol::api_key::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::{ResponseHeader, request_frame};
use crate::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::protocol::wire::{Decode, Message, Reader};

/// Name that the client commands give themselves.
const CLIENT_ID: &str = "corelane";

/// Port of an address that names none: Kafka's own.
const DEFAULT_PORT: u16 = 9092;

/// Where a node listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// An address as a broker advertises it; `None` if the port is none.
    pub(crate) fn advertised(host: &str, port: i32) -> Option<Address> {
        Some(Address { host: host.to_owned(), port: u16::try_from(port).ok()? })
    }
}

impl FromStr for Address {
    type Err = String;

    /// `HOST`, `HOST:PORT`, or an IPv6 address in brackets with or without a port.
    fn from_str(text: &str) -> Result<Address, String> {
        let complain = || format!("`{text}` is no address; write HOST:PORT, for example 127.0.0.1:9092");
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(complain)?)),
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| complain())?,
            None => DEFAULT_PORT,
        };
        if host.is_empty() {
            return Err(complain());
        }
        Ok(Address { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An open connection. After an error it is of no more use: whoever holds it drops it.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    address: Address,
    /// Lowest and highest version of every API that the node speaks.
    versions: Vec<(i16, i16, i16)>,
    last_correlation_id: i32,
}

/// A request that was sent and whose answer must be read next.
#[derive(Debug)]
#[must_use]
pub(crate) struct Sent {
    key: ApiKey,
    version: i16,
    correlation_id: i32,
}

/// An answer as it came. Messages that are decoded from it borrow from it.
#[derive(Debug)]
pub(crate) struct Answer {
    bytes: Vec<u8>,
    sent: Sent,
    address: Address,
}

impl Connection {
    /// Connects to a node and asks what it speaks.
    pub(crate) fn open(address: &Address) -> Result<Connection, ClientError> {
        let stream = connect(address)?;
        let failed = |error| ClientError::io(address, &error);
        let wait = Some(Duration::from_millis(CLIENT_ANSWER_MS));
        stream.set_read_timeout(wait).map_err(failed)?;
        stream.set_write_timeout(wait).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let mut connection =
            Connection { stream, address: address.clone(), versions: Vec::new(), last_correlation_id: 0 };
        connection.learn_versions()?;
        Ok(connection)
    }

    /// The version in which requests of this type are sent on this connection.
    pub(crate) fn version<Q: Message>(&self) -> Result<i16, ClientError> {
        let code = Q::KEY.code();
        let theirs = self.versions.iter().find(|(key, _, _)| *key == code).map(|&(_, min, max)| (min, max));
        let max = (*Q::VERSIONS.end()).min(version_cap(Q::KEY));
        let min = *Q::VERSIONS.start();
        theirs
            .map(|(their_min, their_max)| (their_min.max(min), their_max.min(max)))
            .filter(|(min, max)| min <= max)
            .map(|(_, max)| max)
            .ok_or_else(|| ClientError::Unsupported {
                address: self.address.clone(),
                api: Q::KEY.name(),
                min,
                max,
                theirs: theirs.map_or_else(|| "none".to_owned(), |(min, max)| format!("{min} to {max}")),
            })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call<Q: Message>(&mut self, request: &Q) -> Result<Answer, ClientError> {
        let sent = self.send(request)?;
        self.receive(sent)
    }

    /// Sends a request. Unless it asks for no answer, [`Connection::receive`] follows.
    pub(crate) fn send<Q: Message>(&mut self, request: &Q) -> Result<Sent, ClientError> {
        let version = self.version::<Q>()?;
        self.send_as(request, version)
    }

    /// Reads the answer to the request sent before.
    pub(crate) fn receive(&mut self, sent: Sent) -> Result<Answer, ClientError> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).map_err(|error| ClientError::io(&self.address, &error))?;
        let length = u32::try_from(i32::from_be_bytes(prefix)).unwrap_or(u32::MAX);
        if length > CLIENT_RESPONSE_BYTES_MAX {
            return Err(ClientError::ResponseTooLarge { address: self.address.clone(), bytes: length });
        }
        let mut bytes = Vec::new();
        (&self.stream)
            .take(u64::from(length))
            .read_to_end(&mut bytes)
            .map_err(|error| ClientError::io(&self.address, &error))?;
        if u32::try_from(bytes.len()) != Ok(length) {
            return Err(ClientError::Closed(self.address.clone()));
        }
        let answer = Answer { bytes, sent, address: self.address.clone() };
        answer.body()?;
        Ok(answer)
    }

    /// Sends a request that the node does not answer. An error if the node has hung up: the only way it has to say that
    /// an earlier one was refused.
    pub(crate) fn send_unanswered<Q: Message>(&mut self, request: &Q) -> Result<(), ClientError> {
        self.expect_open()?;
        self.send(request).map(drop)
    }

    /// Ends the connection after the node has read everything that was sent. For requests without an answer: closing at
    /// once could throw away what the node has not read yet.
    pub(crate) fn finish(mut self) -> Result<(), ClientError> {
        self.expect_open()?;
        let mut ended = || -> std::io::Result<()> {
            self.stream.shutdown(Shutdown::Write)?;
            let mut rest = [0; 64];
            while self.stream.read(&mut rest)? > 0 {}
            Ok(())
        };
        ended().map_err(|error| ClientError::io(&self.address, &error))
    }

    /// An error if the node has hung up already. Nothing else can have come: no answer is awaited.
    fn expect_open(&self) -> Result<(), ClientError> {
        let look = || -> std::io::Result<bool> {
            self.stream.set_nonblocking(true)?;
            let peeked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            match peeked {
                Ok(bytes) => Ok(bytes > 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
                Err(error) => Err(error),
            }
        };
        match look() {
            Ok(true) => Ok(()),
            Ok(false) => Err(ClientError::Closed(self.address.clone())),
            Err(error) => Err(ClientError::io(&self.address, &error)),
        }
    }

    fn send_as<Q: Message>(&mut self, request: &Q, version: i16) -> Result<Sent, ClientError> {
        self.last_correlation_id = self.last_correlation_id.wrapping_add(1);
        let correlation_id = self.last_correlation_id;
        let frame = request_frame(correlation_id, Some(CLIENT_ID), version, request);
        self.stream.write_all(&frame.bytes).map_err(|error| ClientError::io(&self.address, &error))?;
        Ok(Sent { key: Q::KEY, version, correlation_id })
    }

    /// A node that does not speak our version of ApiVersions says so in version 0, and with the versions it does speak.
    fn learn_versions(&mut self) -> Result<(), ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: CLIENT_ID.into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        };
        let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
        let mut sent = self.send_as(&request, 3)?;
        let correlation_id = sent.correlation_id;
        let mut answer = self.receive(sent)?;
        if answer.body()?.rest().starts_with(&unsupported) {
            sent = Sent { key: ApiKey::ApiVersions, version: 0, correlation_id };
            answer = Answer { sent, ..answer };
        }
        let mut response: ApiVersionsResponse<'_> = answer.decode()?;
        if response.api_keys.is_empty() && response.error_code == ErrorCode::UnsupportedVersion.code() {
            let sent = self.send_as(&request, 0)?;
            answer = self.receive(sent)?;
            response = answer.decode()?;
        }
        self.versions = response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        Ok(())
    }
}

impl Answer {
    /// The message.
    pub(crate) fn decode<'a, R: Message + Decode<'a>>(&'a self) -> Result<R, ClientError> {
        assert!(R::KEY == self.sent.key);
        let mut reader = self.body()?;
        R::decode_field(&mut reader, R::dialect(self.sent.version)).map_err(|error| self.garbage(error.to_string()))
    }

    /// The answer behind its header, whose correlation id must be the request's.
    fn body(&self) -> Result<Reader<'_>, ClientError> {
        let mut reader = Reader::new(&self.bytes);
        let header = ResponseHeader::decode(&mut reader, self.sent.key, self.sent.version)
            .map_err(|error| self.garbage(error.to_string()))?;
        if header.correlation_id != self.sent.correlation_id {
            return Err(self.garbage("it belongs to another request".to_owned()));
        }
        Ok(reader)
    }

    fn garbage(&self, cause: String) -> ClientError {
        ClientError::Garbage { address: self.address.clone(), api: self.sent.key.name(), cause }
    }
}

/// Tries every address that the name stands for.
fn connect(address: &Address) -> Result<TcpStream, ClientError> {
    let unreachable =
        |error: &std::io::Error| ClientError::Unreachable { address: address.clone(), cause: cause(error) };
    let mut failure = None;
    let resolved = (address.host.as_str(), address.port).to_socket_addrs().map_err(|error| unreachable(&error))?;
    for candidate in resolved {
        match TcpStream::connect_timeout(&candidate, Duration::from_millis(CLIENT_CONNECT_MS)) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.map_or_else(
        || ClientError::Unreachable { address: address.clone(), cause: "the name has no address".to_owned() },
        |error| unreachable(&error),
    ))
}

/// What went wrong, in words without the system's numbers, and what to look at.
fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused: is the broker running?".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            "no answer: is the address right, and the way to it open?".to_owned()
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "no route: is the address right?".to_owned(),
        _ => error.to_string(),
    }
}

/// From Produce 13, Fetch 13, OffsetCommit 10 and OffsetFetch 10 on topics go by id; the commands know them by name.
fn version_cap(key: ApiKey) -> i16 {
    match key {
        ApiKey::Produce | ApiKey::Fetch => 12,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        _ => i16::MAX,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::protocol::frame::response_frame;
    use crate::protocol::messages::api_versions::ApiVersion;
    use crate::protocol::messages::metadata::{MetadataRequest, MetadataResponse};
    use crate::protocol::messages::produce::ProduceRequest;

    /// A node that answers one request after the other with these frames, whatever is asked.
    fn node(answers: Vec<Vec<u8>>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                let mut prefix = [0; 4];
                stream.read_exact(&mut prefix).unwrap();
                let mut request = vec![0; usize::try_from(u32::from_be_bytes(prefix)).unwrap()];
                stream.read_exact(&mut request).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        Address { host: "127.0.0.1".into(), port }
    }

    fn versions(error_code: i16, apis: &[(ApiKey, i16, i16)]) -> ApiVersionsResponse<'static> {
        let api_keys = apis.iter().map(|&(key, min_version, max_version)| ApiVersion {
            api_key: key.code(),
            min_version,
            max_version,
        });
        ApiVersionsResponse { error_code, api_keys: api_keys.collect(), ..Default::default() }
    }

    #[test]
    fn addresses_have_a_host_and_may_leave_out_the_port() {
        for (text, shown) in [
            ("a.example:1", "a.example:1"),
            ("a.example", "a.example:9092"),
            ("[::1]:7", "[::1]:7"),
            ("[::1]", "[::1]:9092"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for text in ["", ":9092", "a:b", "a:70000", "[::1]x", "::1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn highest_common_version_is_spoken_and_names_are_kept() {
        let apis = [(ApiKey::Metadata, 0, 9), (ApiKey::Produce, 0, 99)];
        let address = node(vec![response_frame(1, 3, &versions(0, &apis)).bytes]);
        let connection = Connection::open(&address).unwrap();
        assert_eq!(connection.version::<MetadataRequest<'_>>().unwrap(), 9);
        assert_eq!(connection.version::<ProduceRequest<'_>>().unwrap(), 12);
        let missing = connection.version::<crate::protocol::messages::fetch::FetchRequest<'_>>().unwrap_err();
        assert!(missing.to_string().contains("Fetch"), "{missing}");
    }

    #[test]
    fn a_node_that_knows_only_old_api_versions_is_understood() {
        let apis = [(ApiKey::Metadata, 0, 1)];
        let refusal = versions(ErrorCode::UnsupportedVersion.code(), &apis);
        let connection = Connection::open(&node(vec![response_frame(1, 0, &refusal).bytes])).unwrap();
        assert_eq!(connection.version::<MetadataRequest<'_>>().unwrap(), 1);

        let bare = versions(ErrorCode::UnsupportedVersion.code(), &[]);
        let answers = vec![response_frame(1, 0, &bare).bytes, response_frame(2, 0, &versions(0, &apis)).bytes];
        let connection = Connection::open(&node(answers)).unwrap();
        assert_eq!(connection.version::<MetadataRequest<'_>>().unwrap(), 1);
    }

    #[test]
    fn an_answer_that_is_too_long_or_no_answer_is_refused() {
        let hello = || response_frame(1, 3, &versions(0, &[(ApiKey::Metadata, 0, 1)])).bytes;
        let ask = |second: Vec<u8>| {
            let mut connection = Connection::open(&node(vec![hello(), second])).unwrap();
            connection.call(&MetadataRequest::default()).and_then(|answer| {
                let response: MetadataResponse<'_> = answer.decode()?;
                Ok(response.controller_id)
            })
        };
        assert!(matches!(ask(b"\x7f\xff\xff\xff".to_vec()), Err(ClientError::ResponseTooLarge { .. })));
        assert!(matches!(ask(b"\xff\xff\xff\xff".to_vec()), Err(ClientError::ResponseTooLarge { .. })));
        assert!(matches!(ask(b"\0\0\0\x08\0\0\0\x02".to_vec()), Err(ClientError::Closed(_))));
        assert!(matches!(ask(b"\0\0\0\x04\0\0\0\x02".to_vec()), Err(ClientError::Garbage { .. })));
        assert!(matches!(ask(b"\0\0\0\x04\0\0\0\x09".to_vec()), Err(ClientError::Garbage { .. })));
        let good = MetadataResponse { controller_id: 5, ..Default::default() };
        assert_eq!(ask(response_frame(2, 1, &good).bytes).unwrap(), 5);
    }

    #[test]
    fn a_port_without_a_broker_is_named_with_what_to_do() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let error = Connection::open(&Address { host: "127.0.0.1".into(), port }).unwrap_err();
        let expected = format!("cannot reach 127.0.0.1:{port}: connection refused: is the broker running?");
        assert_eq!(error.to_string(), expected);
    }
}
