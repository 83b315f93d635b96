//! The records inside a batch: read whole from memory, or walked over while they are decompressed.
//!
//! ```text
//! body length varint | attributes i8 | timestamp delta varlong | offset delta varint
//! | key length varint, key | value length varint, value | header count varint | ( key length, key | value length, value )*
//! ```
//!
//! Varints are zigzag. A negative length of a key or a value means null. Nothing is allocated per record.

use crate::protocol::compression::{Codec, DecompressError, Decompressor, Scratch};

/// Why records cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecordsError {
    /// A record is not built as the format wants.
    #[error("record {index} is malformed: {cause}")]
    Malformed {
        /// Which record, from 0.
        index: i32,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// Bytes follow the last declared record.
    #[error("bytes follow the last of {record_count} records")]
    Trailing {
        /// How many records the batch declares.
        record_count: i32,
    },
    /// The records do not decompress.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
}

/// A record header: a name and a value that may be null.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header<'a> {
    /// The name, UTF-8 by contract.
    pub key: &'a [u8],
    /// The value.
    pub value: Option<&'a [u8]>,
}

/// One record, borrowed from its (decompressed) batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Unused by Kafka so far.
    pub attributes: i8,
    /// Milliseconds from the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Offset from the batch's base offset.
    pub offset_delta: i32,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; null deletes the key from a compacted topic.
    pub value: Option<&'a [u8]>,
    header_count: i32,
    /// The headers' bytes, found well formed.
    header_bytes: &'a [u8],
    /// The record from its offset delta on: what stays as it is when its timestamp is counted from elsewhere.
    tail: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record's bytes from its offset delta on.
    pub(super) fn tail(&self) -> &'a [u8] {
        self.tail
    }

    /// The headers, in their order.
    pub fn headers(&self) -> Headers<'a> {
        Headers { left: self.header_count, source: SliceSource::new(self.header_bytes) }
    }
}

/// Iterator over the headers of one record.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    left: i32,
    source: SliceSource<'a>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let key = self.source.data().ok()??;
        let value = self.source.data().ok()?;
        Some(Header { key, value })
    }
}

/// Iterator over the records of uncompressed bytes. Ends after `record_count` records or the first error; bytes behind
/// the last record are an error.
#[derive(Clone, Debug)]
pub struct RecordsIter<'a> {
    source: SliceSource<'a>,
    index: i32,
    record_count: i32,
}

impl<'a> RecordsIter<'a> {
    /// Reads `record_count` records (as the batch's header declares) from `bytes`.
    pub fn new(bytes: &'a [u8], record_count: i32) -> RecordsIter<'a> {
        RecordsIter::resume(bytes, record_count, RecordsPosition::default())
    }

    /// Goes on where another iterator over the same bytes stood.
    pub fn resume(bytes: &'a [u8], record_count: i32, position: RecordsPosition) -> RecordsIter<'a> {
        RecordsIter { source: SliceSource { bytes, at: position.at }, index: position.index, record_count }
    }

    /// Where the iterator stands. Means nothing after an error.
    pub fn position(&self) -> RecordsPosition {
        RecordsPosition { at: self.source.at, index: self.index }
    }
}

/// A place between two records, to go on from later: an iterator borrows the records, this does not.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecordsPosition {
    at: usize,
    index: i32,
}

impl RecordsPosition {
    /// Records before it.
    pub fn index(self) -> i32 {
        self.index
    }

    /// Bytes before it.
    pub(super) fn at(self) -> usize {
        self.at
    }
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = Result<Record<'a>, RecordsError>;

    fn next(&mut self) -> Option<Result<Record<'a>, RecordsError>> {
        if self.index >= self.record_count {
            if self.source.rest().is_empty() {
                return None;
            }
            self.source = SliceSource::new(&[]);
            return Some(Err(RecordsError::Trailing { record_count: self.record_count }));
        }
        let index = self.index;
        self.index += 1;
        Some(read_record(&mut self.source).map_err(|fault| {
            self.index = self.record_count;
            self.source = SliceSource::new(&[]);
            fault.at(index, &mut self.source)
        }))
    }
}

/// What validation and lookups want to know of a record: everything but its content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordMeta {
    /// Which record of its batch, from 0.
    pub index: i32,
    /// Milliseconds from the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Offset from the batch's base offset.
    pub offset_delta: i32,
    /// Whether the key is null.
    pub key_is_null: bool,
}

/// Visits every record of a batch without reading keys, values and headers, decompressing as it goes.
///
/// `visit` returns whether to go on. When it always does, the walk has also seen that exactly `record_count` records are
/// there and nothing behind them. Returns the bytes walked over, decompressed.
pub fn walk(
    codec: Codec,
    payload: &[u8],
    record_count: i32,
    scratch: &mut Scratch,
    visit: impl FnMut(RecordMeta) -> bool,
) -> Result<u64, RecordsError> {
    match codec {
        Codec::None => walk_source(&mut SliceSource::new(payload), record_count, visit),
        _ => {
            let mut source =
                StreamSource { stream: Decompressor::new(codec, payload, scratch)?, position: 0, failure: None };
            walk_source(&mut source, record_count, visit)
        }
    }
}

fn walk_source<S: Source>(
    source: &mut S,
    record_count: i32,
    mut visit: impl FnMut(RecordMeta) -> bool,
) -> Result<u64, RecordsError> {
    for index in 0..record_count {
        let meta = source.record(index).map_err(|fault| fault.at(index, source))?;
        if !visit(meta) {
            return Ok(source.position());
        }
    }
    match source.is_at_end() {
        Ok(true) => Ok(source.position()),
        Ok(false) => Err(RecordsError::Trailing { record_count }),
        Err(fault) => Err(fault.at(record_count, source)),
    }
}

/// What went wrong inside a record. One byte, so that what each step over a record gives back fits registers: with the
/// causes in it each went through memory, and the walk of a produced batch took 22 ns per record, not 10.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    EarlyEnd,
    LongVarint,
    NegativeLength,
    NegativeHeaderCount,
    NullHeaderKey,
    WrongSize,
    /// The source keeps the cause.
    Decompress,
}

impl Fault {
    fn at(self, index: i32, source: &mut impl Source) -> RecordsError {
        let cause = match self {
            Fault::EarlyEnd => "ends too early",
            Fault::LongVarint => "varint too long",
            Fault::NegativeLength => "negative length",
            Fault::NegativeHeaderCount => "negative header count",
            Fault::NullHeaderKey => "null header key",
            Fault::WrongSize => "parts do not add up to the declared length",
            Fault::Decompress => return RecordsError::Decompress(source.take_failure()),
        };
        RecordsError::Malformed { index, cause }
    }
}

/// Where records come from: memory, or a decompressor.
trait Source {
    /// Bytes read so far.
    fn position(&self) -> u64;
    fn byte(&mut self) -> Result<u8, Fault>;
    fn skip(&mut self, bytes: u32) -> Result<(), Fault>;
    fn is_at_end(&mut self) -> Result<bool, Fault>;

    /// Why the last step was `Fault::Decompress`.
    fn take_failure(&mut self) -> DecompressError;

    /// The next record.
    #[inline(always)]
    fn record(&mut self, index: i32) -> Result<RecordMeta, Fault>
    where
        Self: Sized,
    {
        read_meta(self, index)
    }

    /// Unsigned, at most five bytes; bits above the 32nd are dropped, as Kafka's `ByteUtils` does.
    #[inline(always)]
    fn varint(&mut self) -> Result<i32, Fault> {
        let first = self.byte()?;
        if first & 0x80 == 0 {
            return Ok(unzigzag(u32::from(first)));
        }
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(unzigzag(value));
            }
        }
        Err(Fault::LongVarint)
    }

    /// As `varint`, at most ten bytes.
    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, Fault> {
        let mut value = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Fault::LongVarint)
    }

    /// Steps over nullable data and says whether it was null.
    #[inline(always)]
    fn skip_data(&mut self) -> Result<bool, Fault> {
        match u32::try_from(self.varint()?) {
            Ok(bytes) => self.skip(bytes).map(|()| false),
            Err(_) => Ok(true),
        }
    }
}

fn unzigzag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Inlined, as its steps are, into each of its walks: shared, the plain walk takes twice as long (7 against 15 ns per
/// record where all is in the cache).
#[inline(always)]
fn read_meta<S: Source>(source: &mut S, index: i32) -> Result<RecordMeta, Fault> {
    let body_bytes = u64::try_from(source.varint()?).map_err(|_| Fault::NegativeLength)?;
    let body_end = source.position() + body_bytes;
    source.byte()?;
    let timestamp_delta = source.varlong()?;
    let offset_delta = source.varint()?;
    let key_is_null = source.skip_data()?;
    source.skip_data()?;
    let header_count = source.varint()?;
    if header_count < 0 {
        return Err(Fault::NegativeHeaderCount);
    }
    for _ in 0..header_count {
        if source.skip_data()? {
            return Err(Fault::NullHeaderKey);
        }
        source.skip_data()?;
    }
    if source.position() != body_end {
        return Err(Fault::WrongSize);
    }
    Ok(RecordMeta { index, timestamp_delta, offset_delta, key_is_null })
}

fn read_record<'a>(source: &mut SliceSource<'a>) -> Result<Record<'a>, Fault> {
    let body_bytes = u64::try_from(source.varint()?).map_err(|_| Fault::NegativeLength)?;
    let body_end = source.position() + body_bytes;
    let attributes = i8::from_be_bytes([source.byte()?]);
    let timestamp_delta = source.varlong()?;
    let tail = source.rest();
    let offset_delta = source.varint()?;
    let key = source.data()?;
    let value = source.data()?;
    let header_count = source.varint()?;
    if header_count < 0 {
        return Err(Fault::NegativeHeaderCount);
    }
    let headers = source.rest();
    for _ in 0..header_count {
        if source.skip_data()? {
            return Err(Fault::NullHeaderKey);
        }
        source.skip_data()?;
    }
    if source.position() != body_end {
        return Err(Fault::WrongSize);
    }
    let header_bytes = &headers[..headers.len() - source.rest().len()];
    let tail = &tail[..tail.len() - source.rest().len()];
    Ok(Record { attributes, timestamp_delta, offset_delta, key, value, header_count, header_bytes, tail })
}

/// Records in memory.
#[derive(Clone, Debug)]
struct SliceSource<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> SliceSource<'a> {
    fn new(bytes: &'a [u8]) -> SliceSource<'a> {
        SliceSource { bytes, at: 0 }
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn data(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        let Ok(bytes) = u32::try_from(self.varint()?) else { return Ok(None) };
        let start = self.at;
        self.skip(bytes)?;
        Ok(Some(&self.bytes[start..self.at]))
    }
}

impl Source for SliceSource<'_> {
    fn position(&self) -> u64 {
        u64::try_from(self.at).expect("a position in memory fits 64 bits")
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::EarlyEnd)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, bytes: u32) -> Result<(), Fault> {
        let bytes = usize::try_from(bytes).expect("32 bits fit");
        if bytes > self.bytes.len() - self.at {
            return Err(Fault::EarlyEnd);
        }
        self.at += bytes;
        Ok(())
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.at == self.bytes.len())
    }

    fn take_failure(&mut self) -> DecompressError {
        unreachable!("memory does not decompress")
    }
}

/// Records on their way out of a decompressor.
struct StreamSource<'a> {
    stream: Decompressor<'a>,
    position: u64,
    /// Why the stream gave nothing.
    failure: Option<DecompressError>,
}

impl StreamSource<'_> {
    /// What is decompressed and not yet read; empty at the end.
    fn window(&mut self) -> Result<&[u8], Fault> {
        match self.stream.fill() {
            Ok(window) => Ok(window),
            Err(error) => {
                self.failure = Some(error);
                Err(Fault::Decompress)
            }
        }
    }
}

impl Source for StreamSource<'_> {
    fn position(&self) -> u64 {
        self.position
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        let byte = *self.window()?.first().ok_or(Fault::EarlyEnd)?;
        self.stream.consume(1);
        self.position += 1;
        Ok(byte)
    }

    fn skip(&mut self, bytes: u32) -> Result<(), Fault> {
        let mut left = usize::try_from(bytes).expect("32 bits fit");
        while left > 0 {
            let step = self.window()?.len().min(left);
            if step == 0 {
                return Err(Fault::EarlyEnd);
            }
            self.stream.consume(step);
            left -= step;
        }
        self.position += u64::from(bytes);
        Ok(())
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.window()?.is_empty())
    }

    fn take_failure(&mut self) -> DecompressError {
        self.failure.take().expect("a source that fails to decompress says why")
    }

    /// Most records lie whole in the window and are read there; one that does not, or is malformed, is read byte by byte.
    fn record(&mut self, index: i32) -> Result<RecordMeta, Fault> {
        let mut window = SliceSource::new(self.window()?);
        match read_meta(&mut window, index) {
            Ok(meta) => {
                let bytes = window.at;
                self.position += window.position();
                self.stream.consume(bytes);
                Ok(meta)
            }
            Err(_) => read_meta(self, index),
        }
    }
}

/// Bytes of a value as zigzag varint.
pub(super) fn varint_bytes(value: i32) -> usize {
    varlong_bytes(i64::from(value))
}

/// Bytes of a value as zigzag varint of up to ten bytes.
pub(super) fn varlong_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = u64::BITS - zigzag.leading_zeros();
    usize::try_from(bits.div_ceil(7).max(1)).expect("at most ten")
}

/// Appends a zigzag varint.
pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Appends a zigzag varint of up to ten bytes. A 32-bit value has the same bytes in both widths.
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::compress_into;

    fn one_record(body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, i32::try_from(body.len()).unwrap());
        bytes.extend_from_slice(body);
        bytes
    }

    fn walk_count(codec: Codec, records: &[u8], record_count: i32) -> Result<i32, RecordsError> {
        let mut packed = Vec::new();
        compress_into(codec, records, &mut packed);
        let mut seen = 0;
        walk(codec, &packed, record_count, &mut Scratch::new(), |_| {
            seen += 1;
            true
        })?;
        Ok(seen)
    }

    #[test]
    fn varints_round_trip_at_their_edges() {
        for value in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MIN), i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_varlong(&mut bytes, value);
            assert_eq!(bytes.len(), varlong_bytes(value), "{value}");
            assert_eq!(SliceSource::new(&bytes).varlong().unwrap(), value);
            if let Ok(small) = i32::try_from(value) {
                assert_eq!(SliceSource::new(&bytes).varint().unwrap(), small);
            }
        }
        assert!(SliceSource::new(&[0xff; 11]).varlong().is_err());
        assert!(SliceSource::new(&[0xff; 6]).varint().is_err());
    }

    #[test]
    fn malformed_records_are_named_alike_with_and_without_compression() {
        // attributes, timestamp delta, offset delta, null key, null value, then the header count.
        let good = one_record(&[0, 0, 0, 1, 1, 0]);
        let cases: [(Vec<u8>, &str); 6] = [
            (one_record(&[0, 0, 0, 1, 1, 1]), "negative header count"),
            (one_record(&[0, 0, 0, 1, 1, 2, 1, 1]), "null header key"),
            (one_record(&[0, 0, 0, 1, 1, 0, 0]), "parts do not add up to the declared length"),
            (one_record(&[0, 0, 0, 1, 100, 0]), "ends too early"),
            (vec![1], "negative length"),
            (vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "varint too long"),
        ];
        for codec in Codec::ALL {
            assert_eq!(walk_count(codec, &good, 1), Ok(1));
            assert_eq!(
                walk_count(codec, &[good.clone(), good.clone()].concat(), 1),
                Err(RecordsError::Trailing { record_count: 1 })
            );
            let error = walk_count(codec, &good, 2).unwrap_err();
            assert_eq!(error, RecordsError::Malformed { index: 1, cause: "ends too early" });
            for (bytes, cause) in &cases {
                let error = walk_count(codec, bytes, 1).unwrap_err();
                assert_eq!(error, RecordsError::Malformed { index: 0, cause }, "{codec} {bytes:?}");
                let read = RecordsIter::new(bytes, 1).next().unwrap();
                assert_eq!(read, Err(RecordsError::Malformed { index: 0, cause }));
            }
        }
    }

    #[test]
    fn an_iteration_goes_on_where_another_stood() {
        let good = one_record(&[0, 0, 0, 1, 1, 0]);
        let bytes = [good.clone(), good.clone(), good].concat();
        let all: Vec<_> = RecordsIter::new(&bytes, 3).collect();
        let mut first = RecordsIter::new(&bytes, 3);
        assert_eq!(first.next(), Some(all[0].clone()));
        assert_eq!(first.position().index(), 1);
        let rest: Vec<_> = RecordsIter::resume(&bytes, 3, first.position()).collect();
        assert_eq!(rest, all[1..]);
        assert_eq!(all[0].as_ref().unwrap().tail(), [0, 1, 1, 0]);
    }

    #[test]
    fn an_iterator_ends_after_its_error() {
        let mut records = RecordsIter::new(&[1, 1, 1], 3);
        assert!(records.next().unwrap().is_err());
        assert_eq!(records.next(), None);
        let good = one_record(&[0, 0, 0, 1, 1, 0]);
        let bytes = [good, vec![9]].concat();
        let mut records = RecordsIter::new(&bytes, 1);
        assert!(records.next().unwrap().is_ok());
        assert_eq!(records.next(), Some(Err(RecordsError::Trailing { record_count: 1 })));
        assert_eq!(records.next(), None);
    }

    #[test]
    fn a_huge_header_count_costs_no_memory_and_ends_with_the_bytes() {
        let mut body = vec![0, 0, 0, 1, 1];
        put_varint(&mut body, i32::MAX);
        let error = walk_count(Codec::None, &one_record(&body), 1).unwrap_err();
        assert_eq!(error, RecordsError::Malformed { index: 0, cause: "ends too early" });
    }
}
