//! Frames: the length prefix and the headers around every message.
//!
//! ```text
//! request:   length i32 | api_key i16 | api_version i16 | correlation_id i32 | client_id (i16 length) | [tags] | message
//! response:  length i32 | correlation_id i32 | [tags] | message
//! ```
//!
//! The length counts what follows it, holes included. Tagged fields stand in the headers of flexible versions only; the
//! client id keeps its classic length even there. The server reads the length itself and hands on what follows it.

use std::borrow::Cow;

use super::api_key::ApiKey;
use super::wire::{DecodeError, Message, Reader, Writer};

/// What stands before every request (header versions 1 and 2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestHeader<'a> {
    /// The API, as sent.
    pub api_key: i16,
    /// Version of the request.
    pub api_version: i16,
    /// Returned with the response.
    pub correlation_id: i32,
    /// Name the client gave itself.
    pub client_id: Option<Cow<'a, str>>,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of a frame without its length prefix; the message follows in `reader`.
    ///
    /// A version that we do not speak is no error here, because ApiVersions must be answered even then. An API that
    /// does not exist is: nobody knows which header it has.
    pub fn decode(reader: &mut Reader<'a>) -> Result<RequestHeader<'a>, DecodeError> {
        let api_key = reader.i16()?;
        let api_version = reader.i16()?;
        let key = ApiKey::from_code(api_key).ok_or(DecodeError::UnknownApiKey(api_key))?;
        let correlation_id = reader.i32()?;
        let client_id = reader.nullable_string(false)?;
        if key.request_header_version(api_version) >= 2 {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
    }

    /// Writes the header, without a length prefix. The API must exist.
    pub fn encode(&self, writer: &mut Writer) {
        let key = ApiKey::from_code(self.api_key).expect("only known APIs are sent");
        writer.i16(self.api_key);
        writer.i16(self.api_version);
        writer.i32(self.correlation_id);
        writer.nullable_string(self.client_id.as_deref(), false);
        if key.request_header_version(self.api_version) >= 2 {
            writer.unsigned_varint(0);
        }
    }
}

/// What stands before every response (header versions 0 and 1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ResponseHeader {
    /// As in the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of the answer to a request of `key` and `version`; the message follows in `reader`.
    pub fn decode(reader: &mut Reader<'_>, key: ApiKey, version: i16) -> Result<ResponseHeader, DecodeError> {
        let correlation_id = reader.i32()?;
        if key.response_header_version(version) >= 1 {
            reader.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(ResponseHeader { correlation_id })
    }

    /// Writes the header, without a length prefix.
    pub fn encode(&self, writer: &mut Writer, key: ApiKey, version: i16) {
        writer.i32(self.correlation_id);
        if key.response_header_version(version) >= 1 {
            writer.unsigned_varint(0);
        }
    }
}

/// A whole response frame, length prefix included: `bytes` go out with other bytes in the place of each hole.
pub fn response_frame<M: Message>(correlation_id: i32, version: i16, message: &M) -> Writer {
    let mut writer = begin();
    ResponseHeader { correlation_id }.encode(&mut writer, M::KEY, version);
    end(writer, version, message)
}

/// A whole response frame around a body that was encoded elsewhere, without holes.
pub fn response_frame_around(correlation_id: i32, key: ApiKey, version: i16, body: &[u8]) -> Writer {
    let mut writer = begin();
    ResponseHeader { correlation_id }.encode(&mut writer, key, version);
    writer.bytes.extend_from_slice(body);
    with_length(writer)
}

/// A whole request frame, length prefix included.
pub fn request_frame<M: Message>(correlation_id: i32, client_id: Option<&str>, version: i16, message: &M) -> Writer {
    let mut writer = begin();
    let client_id = client_id.map(Cow::Borrowed);
    RequestHeader { api_key: M::KEY.code(), api_version: version, correlation_id, client_id }.encode(&mut writer);
    end(writer, version, message)
}

/// Bytes of the length prefix.
const PREFIX_BYTES: usize = 4;

/// Room for most frames, in bytes, so that writing them does not grow the buffer.
const FRAME_BYTES_USUAL: usize = 512;

fn begin() -> Writer {
    let mut writer = Writer::with_capacity(FRAME_BYTES_USUAL);
    writer.bytes.extend_from_slice(&[0; PREFIX_BYTES]);
    writer
}

fn end<M: Message>(mut writer: Writer, version: i16, message: &M) -> Writer {
    assert!(M::VERSIONS.contains(&version));
    message.encode_field(&mut writer, M::dialect(version));
    with_length(writer)
}

fn with_length(mut writer: Writer) -> Writer {
    let prefix_bytes = u64::try_from(PREFIX_BYTES).expect("64 bits");
    let length = i32::try_from(writer.frame_bytes() - prefix_bytes).expect("a frame is far below 2 GiB");
    writer.bytes[..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    writer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
    use crate::protocol::messages::fetch::{FetchResponse, FetchableTopicResponse, PartitionData};
    use crate::protocol::wire::{Hole, Records};

    #[test]
    fn client_id_has_a_classic_length_even_in_a_flexible_header() {
        let request = ApiVersionsRequest { client_software_name: "n".into(), client_software_version: "1".into() };
        let frame = request_frame(7, Some("kcat"), 3, &request);
        assert_eq!(frame.bytes, *b"\0\0\0\x14\0\x12\0\x03\0\0\0\x07\0\x04kcat\0\x02n\x021\0");
        let mut reader = Reader::new(&frame.bytes[4..]);
        let header = RequestHeader::decode(&mut reader).unwrap();
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (18, 3, 7));
        assert_eq!(header.client_id.as_deref(), Some("kcat"));
        assert_eq!(ApiVersionsRequest::decode(&mut reader, 3).unwrap(), request);
        assert_eq!(reader.remaining(), 0);
    }

    #[test]
    fn header_of_an_unknown_api_version_can_still_be_read() {
        let mut reader = Reader::new(b"\0\x12\0\x63\0\0\0\x01\xff\xff\0rest");
        let header = RequestHeader::decode(&mut reader).unwrap();
        assert_eq!((header.api_version, header.client_id), (99, None));
        assert_eq!(reader.rest(), b"rest");
    }

    #[test]
    fn header_of_an_unknown_api_is_an_error() {
        let mut reader = Reader::new(b"\x01\0\0\0\0\0\0\x01\xff\xff");
        assert_eq!(RequestHeader::decode(&mut reader), Err(DecodeError::UnknownApiKey(256)));
    }

    #[test]
    fn api_versions_response_header_has_no_tags() {
        let flexible = response_frame(1, 3, &ApiVersionsResponse::default());
        // Length, correlation id, error code, empty compact array, throttle time, no tagged fields.
        assert_eq!(flexible.bytes, *b"\0\0\0\x0c\0\0\0\x01\0\0\x01\0\0\0\0\0");
    }

    #[test]
    fn length_counts_the_holes_and_their_places_are_between_the_bytes() {
        let partition = |records| PartitionData { records, ..PartitionData::default() };
        let filled = |a: Records<'static>, b: Records<'static>| FetchResponse {
            responses: vec![FetchableTopicResponse {
                partitions: vec![partition(a), partition(b)],
                ..FetchableTopicResponse::default()
            }],
            ..FetchResponse::default()
        };
        for version in 4..=18 {
            let whole = response_frame(3, version, &filled(Records::Bytes(&[7; 200]), Records::Bytes(&[8; 5])));
            assert!(whole.holes.is_empty());
            let holed = response_frame(3, version, &filled(Records::Hole(200), Records::Hole(5)));
            let [Hole { at: first, bytes: 200 }, Hole { at: second, bytes: 5 }] = holed.holes[..] else {
                panic!("version {version}: {:?}", holed.holes)
            };
            let filled =
                [&holed.bytes[..first], &[7; 200], &holed.bytes[first..second], &[8; 5], &holed.bytes[second..]];
            assert_eq!(filled.concat(), whole.bytes, "version {version}");
        }
    }
}
