//! Fetch answers as a stream of bytes: read as they arrive, in whatever pieces, never held as a whole.
//!
//! Knows versions 4 to 11, whose lengths have a fixed size:
//!
//! ```text
//! length i32 | correlation id i32 | throttle i32 | [7: error i16 | session i32] | topics i32
//!   topic:      name (i16 length) | partitions i32
//!   partition:  index i32 | error i16 | high watermark i64 | last stable i64 | [5: log start i64]
//!               | aborted i32 x (i64 i64) | [11: replica i32] | bytes i32 of batches
//! ```

use corelane::protocol::compression::Codec;
use corelane::protocol::record_batch::{BATCH_HEADER_BYTES, BatchHeader, LENGTH_OVERHEAD_BYTES};

use super::varint::Varints;
use crate::lab::generator::encode::varint_bytes;
use crate::lab::number::wide;

/// Longest part that is put together before it is read: a topic's name has at most 249 bytes.
const PART_BYTES_MAX: usize = 512;
/// Bytes in which the lengths of a record are found: five numbers, the longest of 10 bytes, and its attributes.
const RECORD_HEAD_BYTES: usize = 32;

/// What is in an answer, in its order.
#[derive(Debug, PartialEq)]
pub(super) enum Item<'a> {
    /// The answer begins.
    Head { error_code: i16, session_id: i32 },
    /// What follows is about this topic.
    Topic(&'a [u8]),
    /// What follows is about this partition.
    Partition { index: i32, error_code: i16 },
    /// A whole batch follows; of `bytes` with its header.
    Batch { header: BatchHeader, bytes: u64 },
    /// A record of an uncompressed batch: its distance in time from the batch's first, and the bytes of key and value.
    Record { after: i64, payload_bytes: u64 },
    /// The answer ends.
    End,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Head,
    TopicOrEnd,
    Topic { name_bytes: usize },
    Partition,
    AfterAborted,
    Batch,
    Record,
}

/// The state between two pieces.
#[derive(Debug)]
pub(super) struct FetchStream {
    version: i16,
    part: Part,
    /// The beginning of a part whose end has not come.
    pending: Vec<u8>,
    /// Bytes to pass over before the next part.
    skip: usize,
    topics_left: i32,
    partitions_left: i32,
    /// Bytes of the partition's batches that are left.
    batches_left: usize,
    /// Bytes of the batch's records that are left.
    records_left: usize,
}

impl FetchStream {
    pub(super) fn new(version: i16) -> FetchStream {
        FetchStream {
            version,
            part: Part::Head,
            pending: Vec::with_capacity(PART_BYTES_MAX),
            skip: 0,
            topics_left: 0,
            partitions_left: 0,
            batches_left: 0,
            records_left: 0,
        }
    }

    /// Reads the next bytes of the connection.
    ///
    /// Errors: bytes that are no answer, after which nothing of the connection can be understood.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut found: impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            // An end needs no bytes.
            if self.skip == 0 && self.part == Part::TopicOrEnd && self.topics_left == 0 {
                found(Item::End)?;
                self.part = Part::Head;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            bytes = self.feed_part(bytes, &mut found)?;
        }
    }

    /// Reads one part, or keeps its beginning. Returns what is left.
    fn feed_part<'b>(
        &mut self,
        bytes: &'b [u8],
        found: &mut impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<&'b [u8], String> {
        if self.pending.is_empty()
            && let Some(used) = self.read(bytes, found)?
        {
            return Ok(&bytes[used..]);
        }
        let mut pending = std::mem::take(&mut self.pending);
        let before = pending.len();
        let added = bytes.len().min(PART_BYTES_MAX - before);
        pending.extend_from_slice(&bytes[..added]);
        let used = self.read(&pending, found)?;
        let rest = match used {
            None if pending.len() == PART_BYTES_MAX => return Err("a fetch answer makes no sense".to_owned()),
            None => {
                self.pending = pending;
                return Ok(&bytes[added..]);
            }
            // A part whose beginning was kept is longer than what was kept.
            Some(used) => {
                used.checked_sub(before).and_then(|new| bytes.get(new..)).ok_or("an answer makes no sense")?
            }
        };
        pending.clear();
        self.pending = pending;
        Ok(rest)
    }

    /// Reads the part that is next, if `bytes` holds all of it. Returns its length.
    fn read(
        &mut self,
        bytes: &[u8],
        found: &mut impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<Option<usize>, String> {
        match self.part {
            Part::Head => self.read_head(bytes, found),
            Part::TopicOrEnd => {
                let Some(length) = bytes.first_chunk() else { return Ok(None) };
                let name_bytes = usize::try_from(i16::from_be_bytes(*length)).map_err(|_| "a topic without a name")?;
                self.part = Part::Topic { name_bytes };
                Ok(Some(length.len()))
            }
            Part::Topic { name_bytes } => {
                let Some(part) = bytes.get(..name_bytes + 4) else { return Ok(None) };
                found(Item::Topic(&part[..name_bytes]))?;
                self.topics_left -= 1;
                self.partitions_left = i32_at(part, name_bytes);
                self.go_to_next_partition();
                Ok(Some(part.len()))
            }
            Part::Partition => self.read_partition(bytes, found),
            Part::AfterAborted => self.read_after_aborted(bytes),
            Part::Batch => self.read_batch(bytes, found),
            Part::Record => self.read_record(bytes, found),
        }
    }

    fn read_head(
        &mut self,
        bytes: &[u8],
        found: &mut impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<Option<usize>, String> {
        let has_session = self.version >= 7;
        let Some(part) = bytes.get(..if has_session { 22 } else { 16 }) else { return Ok(None) };
        let (error_code, session_id) = if has_session { (i16_at(part, 12), i32_at(part, 14)) } else { (0, 0) };
        found(Item::Head { error_code, session_id })?;
        self.topics_left = i32_at(part, part.len() - 4);
        if self.topics_left < 0 {
            return Err("a fetch answer without topics".to_owned());
        }
        self.part = Part::TopicOrEnd;
        Ok(Some(part.len()))
    }

    fn read_partition(
        &mut self,
        bytes: &[u8],
        found: &mut impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<Option<usize>, String> {
        let Some(part) = bytes.get(..if self.version >= 5 { 34 } else { 26 }) else { return Ok(None) };
        found(Item::Partition { index: i32_at(part, 0), error_code: i16_at(part, 4) })?;
        self.partitions_left -= 1;
        // Null is -1. Our consumers read uncommitted records and are told of none.
        let aborted = usize::try_from(i32_at(part, part.len() - 4).max(0)).map_err(|error| error.to_string())?;
        self.skip = aborted.checked_mul(16).ok_or("an answer makes no sense")?;
        self.part = Part::AfterAborted;
        Ok(Some(part.len()))
    }

    fn read_after_aborted(&mut self, bytes: &[u8]) -> Result<Option<usize>, String> {
        let Some(part) = bytes.get(..if self.version >= 11 { 8 } else { 4 }) else { return Ok(None) };
        self.batches_left = usize::try_from(i32_at(part, part.len() - 4).max(0)).map_err(|error| error.to_string())?;
        self.go_to_next_batch();
        Ok(Some(part.len()))
    }

    fn read_batch(
        &mut self,
        bytes: &[u8],
        found: &mut impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<Option<usize>, String> {
        let Some(head) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else { return Ok(None) };
        let header = BatchHeader::parse(head);
        let length = usize::try_from(header.length).map_err(|_| "a batch of negative length")? + LENGTH_OVERHEAD_BYTES;
        let records = length.checked_sub(head.len()).ok_or("a batch that is shorter than its header")?;
        if length > self.batches_left {
            // Cut off at the answer's limit: it comes again.
            self.skip = self.batches_left - head.len();
            self.batches_left = 0;
            self.go_to_next_partition();
            return Ok(Some(head.len()));
        }
        found(Item::Batch { header, bytes: wide(length) })?;
        self.batches_left -= length;
        if header.codec() == Some(Codec::None) && records > 0 {
            self.records_left = records;
            self.part = Part::Record;
        } else {
            self.skip = records;
            self.go_to_next_batch();
        }
        Ok(Some(head.len()))
    }

    /// Reads the lengths at the start of a record and passes over the rest.
    fn read_record(
        &mut self,
        bytes: &[u8],
        found: &mut impl FnMut(Item<'_>) -> Result<(), String>,
    ) -> Result<Option<usize>, String> {
        let head = &bytes[..bytes.len().min(self.records_left).min(RECORD_HEAD_BYTES)];
        let is_whole = head.len() == self.records_left.min(RECORD_HEAD_BYTES);
        let Some((record, after, payload_bytes)) = record_head(head) else {
            // The last records of a batch may be shorter than what a head takes at most.
            return if is_whole { Err("a record makes no sense".to_owned()) } else { Ok(None) };
        };
        if record > self.records_left {
            return Err("a record is longer than its batch".to_owned());
        }
        found(Item::Record { after, payload_bytes })?;
        self.records_left -= record;
        if self.records_left == 0 {
            self.go_to_next_batch();
        }
        let used = record.min(bytes.len());
        self.skip = record - used;
        Ok(Some(used))
    }

    fn go_to_next_batch(&mut self) {
        if self.batches_left >= BATCH_HEADER_BYTES {
            self.part = Part::Batch;
        } else {
            // The rest is a batch that was cut off.
            self.skip += self.batches_left;
            self.batches_left = 0;
            self.go_to_next_partition();
        }
    }

    fn go_to_next_partition(&mut self) {
        self.part = if self.partitions_left > 0 { Part::Partition } else { Part::TopicOrEnd };
    }
}

/// Length of a record with its own length, its distance in time, and the bytes of its key and value; none if `head` does
/// not reach that far. Headers count as value: the generator sends none.
fn record_head(head: &[u8]) -> Option<(usize, i64, u64)> {
    let mut varints = Varints::new(head);
    let body_bytes = usize::try_from(varints.next()?).ok()?;
    let length_bytes = varints.used();
    varints.skip(1)?;
    let after = varints.next()?;
    varints.next()?;
    let key_bytes = usize::try_from(varints.next()?.max(0)).ok()?;
    let left = (length_bytes + body_bytes).checked_sub(varints.used() + key_bytes)?;
    // What is left is the value's length, the value and the number of headers: the length takes 1 to 5 bytes.
    let value_bytes = (1..=5_usize).find_map(|length| {
        let value = left.checked_sub(length + 1)?;
        (varint_bytes(wide(value)) == length).then_some(value)
    });
    Some((length_bytes + body_bytes, after, wide(key_bytes + value_bytes.unwrap_or(0))))
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(*bytes[at..].first_chunk().expect("the part was checked to be whole"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(*bytes[at..].first_chunk().expect("the part was checked to be whole"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane::protocol::frame::response_frame;
    use corelane::protocol::messages::fetch::{
        AbortedTransaction, FetchResponse, FetchableTopicResponse, PartitionData,
    };
    use corelane::protocol::record_batch::BatchBuilder;
    use corelane::protocol::wire::Records;
    use corelane::types::TimestampMs;

    /// What is seen of an answer, in words.
    fn items(stream: &mut FetchStream, bytes: &[u8], piece: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for piece in bytes.chunks(piece) {
            stream
                .feed(piece, |item| {
                    seen.push(format!("{item:?}"));
                    Ok(())
                })
                .unwrap();
        }
        seen
    }

    fn batch(codec: Codec, values: &[usize]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for (index, bytes) in (0..).zip(values) {
            let key = (index % 2 == 1).then_some(&b"key"[..]);
            builder.append(TimestampMs::new(1_000 + 77 * index), key, Some(&vec![7; *bytes]), &[]);
        }
        builder.build()
    }

    fn answer(version: i16) -> Vec<u8> {
        let mut records = batch(Codec::None, &[0, 1, 63, 64, 100, 9_000]);
        records.extend_from_slice(&batch(Codec::Zstd, &[500, 500]));
        let cut = batch(Codec::None, &[100]);
        let mut truncated = batch(Codec::None, &[1]);
        truncated.extend_from_slice(&cut[..cut.len() - 1]);
        let partition = |index, records| PartitionData {
            partition_index: index,
            high_watermark: 99,
            records: Records::Bytes(records),
            ..PartitionData::default()
        };
        let aborted = vec![AbortedTransaction { producer_id: 1, first_offset: 2 }];
        let aborted = PartitionData { aborted_transactions: Some(aborted), ..partition(2, &truncated) };
        let failed = PartitionData { error_code: 3, records: Records::Null, ..partition(7, &[]) };
        let topic = |name: &'static str, partitions| FetchableTopicResponse {
            topic: name.into(),
            partitions,
            ..FetchableTopicResponse::default()
        };
        let responses = vec![topic("a", vec![partition(0, &records), aborted]), topic("b", vec![failed])];
        let response = FetchResponse { session_id: 5, responses, ..FetchResponse::default() };
        let mut bytes = response_frame(3, version, &response).bytes;
        bytes.extend_from_slice(&response_frame(4, version, &FetchResponse::default()).bytes);
        bytes
    }

    #[test]
    fn answers_are_read_alike_in_pieces_of_any_size() {
        for version in 4..=11 {
            let bytes = answer(version);
            let whole = items(&mut FetchStream::new(version), &bytes, bytes.len());
            // Two heads and ends, two topics, three partitions, three whole batches, seven plain records.
            assert_eq!(whole.len(), 2 + 2 + 2 + 3 + 3 + 7, "{whole:#?}");
            assert_eq!(whole.last().unwrap(), "End");
            for piece in [1, 2, 3, 7, 33, 61, 100, 1_000] {
                assert_eq!(items(&mut FetchStream::new(version), &bytes, piece), whole, "version {version}, {piece}");
            }
        }
    }

    #[test]
    fn records_tell_their_times_and_sizes() {
        let bytes = answer(11);
        let seen = items(&mut FetchStream::new(11), &bytes, 1_000_000);
        let records: Vec<&String> = seen.iter().filter(|item| item.starts_with("Record")).collect();
        let expected = [(0, 0), (77, 4), (154, 63), (231, 67), (308, 100), (385, 9_003), (0, 1)];
        for (record, (after, payload_bytes)) in records.iter().zip(expected) {
            assert_eq!(**record, format!("{:?}", Item::Record { after, payload_bytes }));
        }
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        let bytes = answer(11);
        for at in 0..bytes.len().min(400) {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut wrong = bytes.clone();
                wrong[at] = value;
                // Whatever it makes of it.
                let _ = FetchStream::new(11).feed(&wrong, |_| Ok(()));
            }
        }
    }
}
