//! The primitive types of Kafka's protocol, and how the fields of messages are made of them.
//!
//! A [`Reader`] walks one frame and lends strings and bytes from it; a [`Writer`] builds one frame and may leave [`Hole`]s,
//! places where bytes from elsewhere (the log) are sent. Numbers are big-endian. A message is encoded in a [`Dialect`]:
//! its version, and whether that version is *flexible* (KIP-482: compact lengths and tagged fields).
//!
//! Invariants: a reader never reads behind its frame; memory taken while decoding is bounded by the bytes left and by
//! [`limits::ARRAY_ELEMENTS_PER_MESSAGE_MAX`]; recursion is as deep as the types nest, whatever the bytes say.

use std::borrow::Cow;

use crate::limits;
use crate::types::TopicId;

/// Why bytes are not the message they claim to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a value.
    #[error("the message ends inside a value")]
    Truncated,
    /// A length is below zero where only -1 (null) may be.
    #[error("length {0} is negative")]
    NegativeLength(i64),
    /// A string is longer than Kafka's 32,767 bytes.
    #[error("a string of {0} bytes is longer than 32767")]
    StringTooLong(u32),
    /// An array announces more elements than bytes are left, or all arrays together more than the limit.
    #[error("an array of {0} elements is larger than its message may hold")]
    TooManyElements(u32),
    /// A varint has more bits than its type.
    #[error("a varint has more bits than its type")]
    VarintTooLong,
    /// Null where this version allows none.
    #[error("null where the version allows none")]
    UnexpectedNull,
    /// A tagged field is longer than its value.
    #[error("{0} bytes are left over in a tagged field")]
    LeftOver(usize),
    /// The request is of an API that does not exist.
    #[error("api key {0} is unknown")]
    UnknownApiKey(i16),
    /// The message does not exist in this version.
    #[error("version {0} is not supported")]
    UnsupportedVersion(i16),
}

/// How one message is written: its version, and whether that version is flexible.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dialect {
    /// Version of the whole message.
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
}

/// Walks one frame from its start.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    elements_left: usize,
}

/// Generates the fixed-width readers.
macro_rules! read_fixed {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(&mut self) -> Result<$name, DecodeError> {
            Ok($name::from_be_bytes(*self.chunk()?))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes, elements_left: limits::ARRAY_ELEMENTS_PER_MESSAGE_MAX }
    }

    /// Bytes not read yet.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes not read yet, without reading them.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    read_fixed! {
        /// Reads a signed byte.
        i8,
        /// Reads a byte.
        u8,
        /// Reads two bytes, signed.
        i16,
        /// Reads two bytes.
        u16,
        /// Reads four bytes, signed.
        i32,
        /// Reads four bytes.
        u32,
        /// Reads eight bytes, signed.
        i64,
        /// Reads an IEEE double.
        f64
    }

    /// Reads a boolean: any byte but zero is true, as in Kafka's own codec.
    #[inline]
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.u8()? != 0)
    }

    /// Reads the sixteen bytes of a UUID.
    #[inline]
    pub fn uuid(&mut self) -> Result<TopicId, DecodeError> {
        Ok(TopicId::new(*self.chunk()?))
    }

    /// Lends the next `bytes` bytes.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Reads an unsigned varint of at most 32 bits.
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let first = self.u8()?;
        // Nearly every length and count of a flexible message fits seven bits.
        if first < 0x80 { Ok(u32::from(first)) } else { self.unsigned_varint_from(first) }
    }

    /// Reads a zigzag varint of at most 32 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        let zigzag = self.unsigned_varint()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    /// Reads a zigzag varint of at most 64 bits.
    #[inline]
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::VarintTooLong);
            }
            zigzag |= bits << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// Lends a string that may be null; `flexible` chooses the compact length. Where it is not UTF-8 it has replacement
    /// characters, as Java puts them there.
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Cow<'a, str>>, DecodeError> {
        let length = if flexible { self.compact_length()? } else { length_from_i64(i64::from(self.i16()?))? };
        let Some(length) = length else { return Ok(None) };
        if length > STRING_BYTES_MAX {
            return Err(DecodeError::StringTooLong(length));
        }
        Ok(Some(String::from_utf8_lossy(self.take(usize_from(length))?)))
    }

    /// Lends bytes that may be null; `flexible` chooses the compact length.
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, DecodeError> {
        let length = if flexible { self.compact_length()? } else { length_from_i64(i64::from(self.i32()?))? };
        match length {
            Some(length) => self.take(usize_from(length)).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the length of an array that may be null, checked against the bytes left (an element has at least one) and
    /// against what all arrays of one message may hold.
    #[inline]
    pub fn array_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        let length = if flexible { self.compact_length()? } else { length_from_i64(i64::from(self.i32()?))? };
        let Some(length) = length else { return Ok(None) };
        let count = usize_from(length);
        if count > self.remaining() {
            return Err(DecodeError::TooManyElements(length));
        }
        self.elements_left = self.elements_left.checked_sub(count).ok_or(DecodeError::TooManyElements(length))?;
        Ok(Some(count))
    }

    /// Reads the tagged fields that end every flexible struct. `field` gets a tag and a reader over exactly that field's
    /// bytes and says whether it knows the tag; unknown ones are skipped.
    #[inline]
    pub fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        // Each round reads at least two bytes, so a lying count ends with the frame.
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let bytes = self.unsigned_varint()?;
            let mut inner = Reader { rest: self.take(usize_from(bytes))?, elements_left: self.elements_left };
            let known = field(tag, &mut inner)?;
            self.elements_left = inner.elements_left;
            if known && inner.remaining() > 0 {
                return Err(DecodeError::LeftOver(inner.remaining()));
            }
        }
        Ok(())
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Continues an unsigned varint whose first byte says that more follow.
    fn unsigned_varint_from(&mut self, first: u8) -> Result<u32, DecodeError> {
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.u8()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return Err(DecodeError::VarintTooLong);
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong)
    }

    /// A compact length counts from one; zero is null.
    #[inline]
    fn compact_length(&mut self) -> Result<Option<u32>, DecodeError> {
        Ok(self.unsigned_varint()?.checked_sub(1))
    }
}

/// A signed length: -1 is null, anything below is an error.
#[inline]
fn length_from_i64(length: i64) -> Result<Option<u32>, DecodeError> {
    match u32::try_from(length) {
        Ok(length) => Ok(Some(length)),
        Err(_) if length == -1 => Ok(None),
        Err(_) => Err(DecodeError::NegativeLength(length)),
    }
}

#[inline]
fn usize_from(length: u32) -> usize {
    usize::try_from(length).expect("Linux on 64 bits")
}

/// A place in a frame where bytes that lie elsewhere are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hole {
    /// How many of the writer's own bytes go out before it.
    pub at: usize,
    /// How many bytes of elsewhere are sent there.
    pub bytes: u32,
}

/// Builds one frame.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    /// The frame without its holes.
    pub bytes: Vec<u8>,
    /// Where bytes of elsewhere belong, ascending.
    pub holes: Vec<Hole>,
}

/// Generates the fixed-width writers.
macro_rules! write_fixed {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[inline]
        pub fn $name(&mut self, value: $name) {
            self.bytes.extend_from_slice(&value.to_be_bytes());
        }
    )*};
}

impl Writer {
    /// An empty frame.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty frame with room for `bytes` bytes.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { bytes: Vec::with_capacity(bytes), holes: Vec::new() }
    }

    /// Bytes of the frame when its holes are filled.
    pub fn frame_bytes(&self) -> u64 {
        let own = u64::try_from(self.bytes.len()).expect("64 bits");
        own + self.holes.iter().map(|hole| u64::from(hole.bytes)).sum::<u64>()
    }

    write_fixed! {
        /// Writes a signed byte.
        i8,
        /// Writes a byte.
        u8,
        /// Writes two bytes, signed.
        i16,
        /// Writes two bytes.
        u16,
        /// Writes four bytes, signed.
        i32,
        /// Writes four bytes.
        u32,
        /// Writes eight bytes, signed.
        i64,
        /// Writes an IEEE double.
        f64
    }

    /// Writes a boolean as one byte.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// Writes the sixteen bytes of a UUID.
    #[inline]
    pub fn uuid(&mut self, value: TopicId) {
        self.bytes.extend_from_slice(&value.bytes());
    }

    /// Writes an unsigned varint.
    #[inline]
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }

    /// Writes a zigzag varint.
    #[inline]
    pub fn varint(&mut self, value: i32) {
        self.unsigned_varint(((value << 1) ^ (value >> 31)).cast_unsigned());
    }

    /// Writes a zigzag varint of 64 bits.
    #[inline]
    pub fn varlong(&mut self, value: i64) {
        let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while zigzag >= 0x80 {
            self.bytes.push(zigzag.to_le_bytes()[0] | 0x80);
            zigzag >>= 7;
        }
        self.bytes.push(zigzag.to_le_bytes()[0]);
    }

    /// Writes a string or null. Kafka's strings have at most 32,767 bytes: a longer one (an error message that quotes its
    /// cause) is cut at the last character that fits.
    pub fn nullable_string(&mut self, value: Option<&str>, flexible: bool) {
        let value = value.map(|text| &text[..text.floor_char_boundary(usize_from(STRING_BYTES_MAX))]);
        let length = value.map(|text| u16::try_from(text.len()).expect("cut above"));
        if flexible {
            self.compact_length(length.map(u32::from));
        } else {
            self.i16(length.map_or(-1, u16::cast_signed));
        }
        self.bytes.extend_from_slice(value.unwrap_or_default().as_bytes());
    }

    /// Writes bytes or null.
    pub fn nullable_bytes(&mut self, value: Option<&[u8]>, flexible: bool) {
        self.length(value.map(<[u8]>::len), flexible);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    /// Writes the length of an array, or null.
    #[inline]
    pub fn array_length(&mut self, length: Option<usize>, flexible: bool) {
        self.length(length, flexible);
    }

    /// Writes the length of `bytes` bytes that are sent from elsewhere, and remembers their place.
    pub fn hole(&mut self, bytes: u32, flexible: bool) {
        self.length(Some(usize_from(bytes)), flexible);
        if bytes > 0 {
            self.holes.push(Hole { at: self.bytes.len(), bytes });
        }
    }

    /// Writes one tagged field: its tag, its size and what `value` writes.
    pub fn tagged_field(&mut self, tag: u32, value: impl FnOnce(&mut Writer)) {
        self.unsigned_varint(tag);
        let start = self.bytes.len();
        let holes = self.holes.len();
        value(self);
        assert!(self.holes.len() == holes, "no tagged field of Kafka's carries records");
        // The size goes before the value and its own width depends on it: written behind, then turned to the front.
        let bytes = self.bytes.len() - start;
        self.unsigned_varint(u32::try_from(bytes).expect("a tagged field is far below 4 GiB"));
        self.bytes[start..].rotate_left(bytes);
    }

    /// Lengths above `i32::MAX` cannot be said on the wire, and no frame of ours comes near.
    #[inline]
    fn length(&mut self, length: Option<usize>, flexible: bool) {
        let length = length.map(|length| i32::try_from(length).expect("a frame is far below 2 GiB"));
        if flexible {
            self.compact_length(length.map(i32::cast_unsigned));
        } else {
            self.i32(length.unwrap_or(-1));
        }
    }

    #[inline]
    fn compact_length(&mut self, length: Option<u32>) {
        self.unsigned_varint(length.map_or(0, |length| length + 1));
    }
}

/// A value that can be written as a field of a message.
pub trait Encode {
    /// Writes the value.
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect);

    /// Writes the value, or null. The default is that of structs: a byte -1 for null, 1 before a value.
    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, dialect: Dialect) {
        match value {
            Some(value) => {
                writer.i8(1);
                value.encode_field(writer, dialect);
            }
            None => writer.i8(-1),
        }
    }

    /// Writes the value in a version that knows no null here: null becomes the empty value.
    #[inline]
    fn encode_present(&self, writer: &mut Writer, dialect: Dialect) {
        self.encode_field(writer, dialect);
    }
}

/// A value that can be read as a field of a message. `'de` is the life of the frame.
pub trait Decode<'de>: Sized {
    /// Reads the value.
    fn decode_field(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError>;

    /// Reads the value, or null. The default is that of structs: a negative byte for null, another before a value.
    fn decode_nullable(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Option<Self>, DecodeError> {
        if reader.i8()? < 0 { Ok(None) } else { Self::decode_field(reader, dialect).map(Some) }
    }

    /// Reads the value in a version that knows no null here.
    #[inline]
    fn decode_present(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError> {
        Self::decode_field(reader, dialect)
    }
}

/// A request or response of one API.
pub trait Message: Encode {
    /// The API it belongs to.
    const KEY: crate::protocol::api_key::ApiKey;
    /// Versions that can be encoded and decoded.
    const VERSIONS: std::ops::RangeInclusive<i16>;
    /// First flexible version.
    const FLEXIBLE_SINCE: i16;

    /// How `version` is written.
    fn dialect(version: i16) -> Dialect {
        Dialect { version, flexible: version >= Self::FLEXIBLE_SINCE }
    }
}

/// The body of a message, for those that travel without a frame of their own.
pub fn body<M: Message>(message: &M, version: i16) -> Vec<u8> {
    assert!(M::VERSIONS.contains(&version));
    let mut writer = Writer::new();
    message.encode_field(&mut writer, M::dialect(version));
    assert!(writer.holes.is_empty());
    writer.bytes
}

/// Implements the field traits for types that a reader and a writer know by name.
macro_rules! fixed_fields {
    ($($ty:ty: $name:ident),*) => {$(
        impl Encode for $ty {
            #[inline]
            fn encode_field(&self, writer: &mut Writer, _: Dialect) {
                writer.$name(*self);
            }
        }

        impl<'de> Decode<'de> for $ty {
            #[inline]
            fn decode_field(reader: &mut Reader<'de>, _: Dialect) -> Result<Self, DecodeError> {
                reader.$name()
            }
        }
    )*};
}

fixed_fields! { bool: bool, i8: i8, i16: i16, u16: u16, i32: i32, u32: u32, i64: i64, f64: f64, TopicId: uuid }

impl Encode for Cow<'_, str> {
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_string(Some(self), dialect.flexible);
    }

    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_string(value.map(|text| &**text), dialect.flexible);
    }
}

impl<'de: 'a, 'a> Decode<'de> for Cow<'a, str> {
    #[inline]
    fn decode_field(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError> {
        reader.nullable_string(dialect.flexible)?.ok_or(DecodeError::UnexpectedNull)
    }

    #[inline]
    fn decode_nullable(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Option<Self>, DecodeError> {
        reader.nullable_string(dialect.flexible)
    }
}

impl Encode for Cow<'_, [u8]> {
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_bytes(Some(self), dialect.flexible);
    }

    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, dialect: Dialect) {
        writer.nullable_bytes(value.map(|bytes| &**bytes), dialect.flexible);
    }
}

impl<'de: 'a, 'a> Decode<'de> for Cow<'a, [u8]> {
    #[inline]
    fn decode_field(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError> {
        reader.nullable_bytes(dialect.flexible)?.map(Cow::Borrowed).ok_or(DecodeError::UnexpectedNull)
    }

    #[inline]
    fn decode_nullable(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Option<Self>, DecodeError> {
        Ok(reader.nullable_bytes(dialect.flexible)?.map(Cow::Borrowed))
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        Self::encode_nullable(Some(self), writer, dialect);
    }

    fn encode_nullable(value: Option<&Self>, writer: &mut Writer, dialect: Dialect) {
        writer.array_length(value.map(Vec::len), dialect.flexible);
        for element in value.into_iter().flatten() {
            element.encode_field(writer, dialect);
        }
    }
}

impl<'de, T: Decode<'de>> Decode<'de> for Vec<T> {
    fn decode_field(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError> {
        Self::decode_nullable(reader, dialect)?.ok_or(DecodeError::UnexpectedNull)
    }

    fn decode_nullable(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Option<Self>, DecodeError> {
        let Some(count) = reader.array_length(dialect.flexible)? else { return Ok(None) };
        // At first no more memory than bytes are left, or a few elements; more only as elements really arrive.
        let room = (reader.remaining() / size_of::<T>().max(1)).max(4).min(count);
        let mut elements = Vec::with_capacity(room);
        for _ in 0..count {
            elements.push(T::decode_field(reader, dialect)?);
        }
        Ok(Some(elements))
    }
}

impl<T: Encode + Default> Encode for Option<T> {
    #[inline]
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        T::encode_nullable(self.as_ref(), writer, dialect);
    }

    fn encode_present(&self, writer: &mut Writer, dialect: Dialect) {
        match self {
            Some(value) => value.encode_field(writer, dialect),
            None => T::default().encode_field(writer, dialect),
        }
    }
}

impl<'de, T: Decode<'de>> Decode<'de> for Option<T> {
    #[inline]
    fn decode_field(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError> {
        T::decode_nullable(reader, dialect)
    }

    #[inline]
    fn decode_present(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError> {
        T::decode_field(reader, dialect).map(Some)
    }
}

/// Record batches as a field of a message: opaque here, `record_batch` looks inside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Records<'a> {
    /// No records at all, told apart from an empty field.
    Null,
    /// The batches, one after another, where they lie in the frame.
    Bytes(&'a [u8]),
    /// So many bytes of batches that are sent from elsewhere. Never decoded.
    Hole(u32),
}

impl Default for Records<'_> {
    /// Empty rather than null: what Kafka's broker answers to a fetch that found nothing.
    fn default() -> Self {
        Records::Bytes(&[])
    }
}

impl Encode for Records<'_> {
    #[inline]
    fn encode_field(&self, writer: &mut Writer, dialect: Dialect) {
        match *self {
            Records::Null => writer.nullable_bytes(None, dialect.flexible),
            Records::Bytes(bytes) => writer.nullable_bytes(Some(bytes), dialect.flexible),
            Records::Hole(bytes) => writer.hole(bytes, dialect.flexible),
        }
    }
}

impl<'de: 'a, 'a> Decode<'de> for Records<'a> {
    #[inline]
    fn decode_field(reader: &mut Reader<'de>, dialect: Dialect) -> Result<Self, DecodeError> {
        Ok(reader.nullable_bytes(dialect.flexible)?.map_or(Records::Null, Records::Bytes))
    }
}

/// Longest string on the wire, in bytes: its classic length is an `i16`, and Kafka holds compact strings to the same.
const STRING_BYTES_MAX: u32 = 32_767;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::{fetch, metadata, produce};

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new();
        write(&mut writer);
        writer.bytes
    }

    #[test]
    fn varints_are_those_of_protocol_buffers() {
        for (value, bytes) in [
            (0, &[0_u8][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u32::MAX, &[255, 255, 255, 255, 15]),
        ] {
            assert_eq!(written(|writer| writer.unsigned_varint(value)), bytes);
            assert_eq!(Reader::new(bytes).unsigned_varint(), Ok(value));
        }
        for (value, bytes) in
            [(0, &[0_u8][..]), (-1, &[1]), (1, &[2]), (-65, &[0x81, 1]), (i32::MIN, &[255, 255, 255, 255, 15])]
        {
            assert_eq!(written(|writer| writer.varint(value)), bytes);
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
        }
        for value in [0, -1, 1, i64::MAX, i64::MIN, 1 << 40] {
            assert_eq!(Reader::new(&written(|writer| writer.varlong(value))).varlong(), Ok(value));
        }
    }

    #[test]
    fn varints_that_do_not_end_are_refused() {
        assert_eq!(Reader::new(&[0x80; 5]).unsigned_varint(), Err(DecodeError::VarintTooLong));
        assert_eq!(Reader::new(&[255, 255, 255, 255, 16]).unsigned_varint(), Err(DecodeError::VarintTooLong));
        assert_eq!(Reader::new(&[0x80; 4]).unsigned_varint(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[255; 10]).varlong(), Err(DecodeError::VarintTooLong));
        assert_eq!(
            Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]).varlong(),
            Err(DecodeError::VarintTooLong)
        );
    }

    #[test]
    fn strings_know_null_and_refuse_what_is_none() {
        assert_eq!(Reader::new(b"\xff\xff").nullable_string(false), Ok(None));
        assert_eq!(Reader::new(b"\0").nullable_string(true), Ok(None));
        assert_eq!(Reader::new(b"\0\x02hi").nullable_string(false), Ok(Some("hi".into())));
        assert_eq!(Reader::new(b"\x03hi").nullable_string(true), Ok(Some("hi".into())));
        assert_eq!(Reader::new(b"\xff\xfehi").nullable_string(false), Err(DecodeError::NegativeLength(-2)));
        assert_eq!(Reader::new(b"\x03h").nullable_string(true), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(b"\x02\xff").nullable_string(true), Ok(Some("\u{fffd}".into())));
        assert_eq!(Reader::new(b"\x81\x80\x02").nullable_string(true), Err(DecodeError::StringTooLong(32_768)));
        let text = Cow::<str>::decode_field(&mut Reader::new(b"\0"), Dialect { version: 0, flexible: true });
        assert_eq!(text, Err(DecodeError::UnexpectedNull));
    }

    #[test]
    fn a_string_too_long_for_the_wire_is_cut_between_characters() {
        let long = "ß".repeat(20_000);
        for flexible in [false, true] {
            let bytes = written(|writer| writer.nullable_string(Some(&long), flexible));
            let read = Reader::new(&bytes).nullable_string(flexible).unwrap().unwrap();
            assert_eq!(read.len(), 32_766);
            assert!(long.starts_with(&*read));
        }
    }

    #[test]
    fn an_array_that_announces_more_than_the_frame_holds_is_refused_before_it_costs_memory() {
        let dialect = Dialect { version: 0, flexible: false };
        let announced = Vec::<i32>::decode_field(&mut Reader::new(b"\x7f\xff\xff\xff\0\0\0\x01"), dialect);
        assert_eq!(announced, Err(DecodeError::TooManyElements(0x7fff_ffff)));
        let negative = Vec::<i32>::decode_field(&mut Reader::new(b"\xff\xff\xff\xfe"), dialect);
        assert_eq!(negative, Err(DecodeError::NegativeLength(-2)));
        assert_eq!(Option::<Vec<i32>>::decode_field(&mut Reader::new(b"\xff\xff\xff\xff"), dialect), Ok(None));
    }

    #[test]
    fn the_elements_of_all_arrays_of_a_message_count_together() {
        let dialect = Dialect { version: 0, flexible: false };
        let half = u32::try_from(limits::ARRAY_ELEMENTS_PER_MESSAGE_MAX / 2 + 1).unwrap();
        let bytes = written(|writer| writer.array_length(Some(usize_from(half)), false));
        let frame = [&bytes[..], &vec![0; usize_from(half)], &bytes, &vec![0; usize_from(half)]].concat();
        let mut reader = Reader::new(&frame);
        assert_eq!(Vec::<i8>::decode_field(&mut reader, dialect).unwrap().len(), usize_from(half));
        assert_eq!(Vec::<i8>::decode_field(&mut reader, dialect), Err(DecodeError::TooManyElements(half)));
    }

    #[test]
    fn unknown_tagged_fields_are_skipped_and_known_ones_must_fit() {
        // FetchRequest 15 with every number zero and no topics; then the tagged fields.
        let body = [&[0_u8; 21][..], &[1, 1, 1]].concat();
        let cluster_id = |tags: &[u8]| {
            let frame = [&body[..], tags].concat();
            let request = fetch::FetchRequest::decode(&mut Reader::new(&frame), 15)?;
            Ok(request.cluster_id.map(Cow::into_owned))
        };
        assert_eq!(cluster_id(&[0]), Ok(None));
        assert_eq!(cluster_id(&[2, 9, 2, 77, 77, 0, 2, 2, b'c']), Ok(Some("c".into())));
        assert_eq!(cluster_id(&[1, 0, 3, 2, b'c', 0]), Err(DecodeError::LeftOver(1)));
        assert_eq!(cluster_id(&[1, 0, 1, 2, b'c']), Err(DecodeError::Truncated));
        assert_eq!(cluster_id(&[255, 255, 255, 255, 15, 9, 0]), Err(DecodeError::Truncated));
    }

    #[test]
    fn null_is_refused_and_written_as_empty_where_the_version_knows_none() {
        let all = metadata::MetadataRequest { topics: None, ..Default::default() };
        assert_eq!(written(|writer| all.encode(writer, 0)), [0; 4]);
        assert_eq!(written(|writer| all.encode(writer, 1)), [255; 4]);
        let refused = metadata::MetadataRequest::decode(&mut Reader::new(&[255; 4]), 0);
        assert_eq!(refused, Err(DecodeError::UnexpectedNull));
    }

    #[test]
    fn a_field_the_version_lacks_reads_as_its_default() {
        let request = fetch::FetchRequest { session_epoch: 5, max_bytes: 9, ..Default::default() };
        let bytes = written(|writer| request.encode(writer, 4));
        let read = fetch::FetchRequest::decode(&mut Reader::new(&bytes), 4).unwrap();
        assert_eq!((read.session_epoch, read.max_bytes), (-1, 9));
    }

    #[test]
    fn records_are_borrowed_from_the_frame() {
        let partition = produce::PartitionProduceData { index: 1, records: Records::Bytes(b"batch") };
        let topic =
            produce::TopicProduceData { name: "t".into(), partition_data: vec![partition], ..Default::default() };
        let request = produce::ProduceRequest { topic_data: vec![topic], ..Default::default() };
        let frame = written(|writer| request.encode(writer, 3));
        let read = produce::ProduceRequest::decode(&mut Reader::new(&frame), 3).unwrap();
        let Records::Bytes(records) = read.topic_data[0].partition_data[0].records else { panic!("no records") };
        assert!(frame.as_ptr_range().contains(&records.as_ptr()));
        assert!(matches!(read.topic_data[0].name, Cow::Borrowed("t")));
    }

    #[test]
    fn a_version_that_does_not_exist_is_refused() {
        let refused = produce::ProduceRequest::decode(&mut Reader::new(&[0; 99]), 2);
        assert_eq!(refused, Err(DecodeError::UnsupportedVersion(2)));
    }
}
