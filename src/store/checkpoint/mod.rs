//! The checkpoint: partitions and live segments, so that recovery need not read the whole log. Never extents.
//!
//! Two files, `checkpoint-0` and `checkpoint-1`, written in turn; the newer that reads whole counts. On this core only.
//! It does not decide what is live or when a checkpoint is due; the store does. Little endian:
//!
//! ```text
//! header  0 magic 8 · 8 version u32 · 12 partitions u32 · 16 sequence u64 · 24 content length u64
//!         32 partitions length u64 · 40 crc u32 over the content · 44 crc u32 over 0..44 · zeroes to 4096
//! content partitions, one after the other, then the head
//! partition  log id u64 · topic id 16 · partition i32 · log start i64 · log end i64
//!            true at: segment u64, byte u32 · logs that it continues u32, each: log id u64 · cut i64 · state length u32 · state
//! head       incarnation u32 · clean u8 · covered: segment u64, byte u32 · end when clean: segment u64, byte u32
//!            next log id u64 · next file id u64 · next segment number u64
//!            live segments u32, each: file id u64 · number u64 · size u32 · data end u32 (0: open) · incarnation u32
//!            · stream u8
//!            free segments u32, each: file id u64 · size u32
//! ```
//!
//! Version 1 had no logs that continue others and no streams: all its segments are hot. A partition that continues others is
//! for a later program; a checkpoint that has one is refused.
//!
//! **Which file counts, and when neither may.** A checkpoint is durable once its file is flushed. A crash while one is
//! written leaves its file unreadable and the other, older one complete: since the new one never was durable, no segment
//! that the old one names was reused. That is the normal case, and the older one is right. If on the other hand a durable
//! checkpoint is damaged later, the older one may name segments that were reused since. What tells the two cases apart is
//! the log: reusing a segment writes its header, and each segment header carries the sequence of the newest durable
//! checkpoint at that time. So: when a header names a newer sequence than can be read, the readable one is refused
//! ([`Found::trust`]). When none does, no segment was reused since the readable one, and it is still complete, even if
//! a newer one was durable and is gone. The same rule with no readable checkpoint at all: if no header names one, nothing
//! was ever reused and a scan of all segments finds everything; else the store refuses.
//!
//! *Clean* is a hint, not a proof: a clean checkpoint may be the older one of two. It holds only if no valid entry stands
//! at its end and no segment has a higher number than it knows; recovery checks both, which costs one read.

pub mod files;

use bytes::Bytes;

use crate::limits::{CHECKPOINT_BYTES_MAX, CHECKPOINT_CHUNK_BYTES, IO_ALIGNMENT};
use crate::runtime::is_out_of_space;
use crate::store::PartitionRecord;
use crate::store::format::{Cursor, FormatError, NUMBER_MAX, Stream, usize_of};
use crate::types::{FileId, Incarnation, LogId, LogPosition, Offset, PartitionIndex, SegmentNumber, TopicId};

const MAGIC: [u8; 8] = *b"CORELCKP";
const VERSION: u32 = 2;
/// The oldest version that is read.
const VERSION_MIN: u32 = 1;
const HEADER_CRC_AT: usize = 44;

/// A segment that holds live data or is being filled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LiveSegment {
    /// What it is part of. A cold segment counts because it stands here.
    pub stream: Stream,
    /// Its file.
    pub file: FileId,
    /// Its number.
    pub number: SegmentNumber,
    /// Size of the file in bytes.
    pub bytes: u32,
    /// Position behind its last entry once it is sealed.
    pub data_end: Option<u32>,
    /// The life of the store that opened it.
    pub incarnation: Incarnation,
}

/// A file that waits for its next segment number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FreeSegment {
    /// The file.
    pub file: FileId,
    /// Its size in bytes.
    pub bytes: u32,
}

/// What a checkpoint says of the store as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckpointHead {
    /// The life of the store that wrote it.
    pub incarnation: Incarnation,
    /// Everything below is in the partitions' records. The least of their positions, or the end of the log when the
    /// checkpoint began.
    pub covered: LogPosition,
    /// The end of the log, when the store was closed in good order and nothing follows.
    pub clean_end: Option<LogPosition>,
    /// The next log id to give.
    pub next_log: LogId,
    /// The next file id to give.
    pub next_file: FileId,
    /// The next segment number to give.
    pub next_segment: SegmentNumber,
    /// Segments that must not be reused, by number.
    pub segments: Vec<LiveSegment>,
    /// Files to reuse.
    pub free: Vec<FreeSegment>,
}

/// One partition in a checkpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckpointPartition {
    /// What the store knows of it.
    pub record: PartitionRecord,
    /// The position at which record and state are true: replay skips its entries below.
    pub position: LogPosition,
    /// What its owner knows of it.
    pub state: Bytes,
}

/// A checkpoint as read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// Its place among all checkpoints of this store, from 1.
    pub sequence: u64,
    /// The store as a whole.
    pub head: CheckpointHead,
    /// Every partition, in no order.
    pub partitions: Vec<CheckpointPartition>,
}

/// Why no checkpoint was read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The system refused.
    #[error("checkpoint: {operation} failed: {cause}")]
    Io {
        /// What was asked of it.
        operation: &'static str,
        /// Its answer.
        cause: std::io::Error,
    },
    /// A later program wrote it.
    #[error("checkpoint has format version {0}, this program reads {VERSION}: start a newer one")]
    Version(u32),
    /// A later program wrote something that this one would have to understand.
    #[error("checkpoint holds {0}: use the newer program that wrote it")]
    Unsupported(&'static str),
    /// The log names a durable checkpoint that cannot be read, so segments of the readable one may have been reused.
    #[error("checkpoint {named} was durable and cannot be read; the newest readable is {found:?}")]
    Lost {
        /// The sequence that a segment names.
        named: u64,
        /// The newest that could be read.
        found: Option<u64>,
    },
    /// It would be larger than may be read again.
    #[error("checkpoint of {bytes} bytes exceeds {CHECKPOINT_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
}

/// What the two files held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    /// Neither exists: a new store, or one that never lived for a checkpoint.
    Nothing,
    /// The newer of those that read whole.
    Newest(Checkpoint),
    /// At least one exists and none reads whole.
    Unreadable,
}

impl Found {
    /// The checkpoint to recover from, given the greatest checkpoint sequence in any segment header. `None`: none ever
    /// freed a segment, so a scan of all segments finds everything.
    ///
    /// Errors: `Lost` when a checkpoint that was durable cannot be read.
    pub fn trust(self, named: u64) -> Result<Option<Checkpoint>, CheckpointError> {
        match self {
            Found::Newest(checkpoint) if checkpoint.sequence >= named => Ok(Some(checkpoint)),
            Found::Newest(checkpoint) => Err(CheckpointError::Lost { named, found: Some(checkpoint.sequence) }),
            Found::Nothing | Found::Unreadable if named == 0 => Ok(None),
            Found::Nothing | Found::Unreadable => Err(CheckpointError::Lost { named, found: None }),
        }
    }
}

impl CheckpointError {
    /// There is no space for it: nothing is wrong, and the next attempt may find some.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            CheckpointError::Io { operation, cause } => {
                // After a flush that failed nothing is known of any write before it.
                *operation != "flush" && is_out_of_space(cause)
            }
            _ => false,
        }
    }
}

/// Bytes in pieces of [`CHECKPOINT_CHUNK_BYTES`]: one vector that grows would be copied again and again, hundreds of MiB in
/// one step.
#[derive(Debug, Default)]
struct Chunks {
    chunks: Vec<Vec<u8>>,
    bytes: u64,
}

impl Chunks {
    fn extend(&mut self, mut bytes: &[u8]) {
        self.bytes += u64_of(bytes.len());
        while !bytes.is_empty() {
            if self.chunks.last().is_none_or(|last| last.len() == CHECKPOINT_CHUNK_BYTES) {
                self.chunks.push(Vec::with_capacity(CHECKPOINT_CHUNK_BYTES));
            }
            let last = self.chunks.last_mut().expect("one was just added");
            let (now, later) = bytes.split_at(bytes.len().min(CHECKPOINT_CHUNK_BYTES - last.len()));
            last.extend_from_slice(now);
            bytes = later;
        }
    }
}

/// Collects the partitions of the next checkpoint; the caller yields between them as it likes.
#[derive(Debug, Default)]
pub struct CheckpointWriter {
    content: Chunks,
    /// The fixed part of one partition.
    fixed: Vec<u8>,
    /// CRC over the content so far: taken as it comes, so that finishing a large one holds the core for no longer.
    crc: u32,
    partitions: u32,
}

impl CheckpointWriter {
    /// An empty checkpoint.
    pub fn new() -> CheckpointWriter {
        CheckpointWriter::default()
    }

    /// Adds a partition as it is at `position`: everything of it below is in `record` and `state`.
    ///
    /// Panics when the state of one partition exceeds 4 GiB, which its owner bounds.
    pub fn add_partition(&mut self, record: &PartitionRecord, position: LogPosition, state: &[u8]) {
        let out = &mut self.fixed;
        out.clear();
        out.extend_from_slice(&record.log.value().to_le_bytes());
        out.extend_from_slice(&record.topic.bytes());
        out.extend_from_slice(&record.partition.value().to_le_bytes());
        out.extend_from_slice(&record.log_start.value().to_le_bytes());
        out.extend_from_slice(&record.log_end.value().to_le_bytes());
        encode_position(position, out);
        // Logs that it continues.
        out.extend_from_slice(&0_u32.to_le_bytes());
        let state_bytes = u32::try_from(state.len()).expect("a partition's state is bounded");
        out.extend_from_slice(&state_bytes.to_le_bytes());
        for part in [&self.fixed[..], state] {
            self.crc = crc32c::crc32c_append(self.crc, part);
            // What is too large is refused at the end and need not be held.
            if self.content.bytes <= CHECKPOINT_BYTES_MAX {
                self.content.extend(part);
            }
        }
        self.partitions = self.partitions.checked_add(1).expect("partitions are bounded");
    }

    /// Bytes collected.
    pub fn bytes(&self) -> u64 {
        self.content.bytes
    }

    /// Header and content of the finished file.
    fn finish(self, sequence: u64, head: &CheckpointHead) -> Result<(Vec<u8>, Chunks), CheckpointError> {
        let CheckpointWriter { mut content, crc, partitions, .. } = self;
        let begin = content.bytes;
        let mut encoded = Vec::new();
        encode_head(head, &mut encoded);
        content.extend(&encoded);
        let content_crc = crc32c::crc32c_append(crc, &encoded);
        let bytes = content.bytes;
        if bytes > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::TooLarge { bytes });
        }
        let mut header = Vec::with_capacity(IO_ALIGNMENT);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&partitions.to_le_bytes());
        header.extend_from_slice(&sequence.to_le_bytes());
        header.extend_from_slice(&bytes.to_le_bytes());
        header.extend_from_slice(&begin.to_le_bytes());
        header.extend_from_slice(&content_crc.to_le_bytes());
        let crc = crc32c::crc32c(&header);
        header.extend_from_slice(&crc.to_le_bytes());
        header.resize(IO_ALIGNMENT, 0);
        Ok((header, content))
    }
}

/// The header of a checkpoint file, its own crc checked.
#[derive(Clone, Copy, Debug)]
struct FileHeader {
    version: u32,
    partitions: u32,
    sequence: u64,
    content_bytes: u64,
    partitions_bytes: u64,
    content_crc: u32,
}

impl FileHeader {
    fn decode(block: &[u8]) -> Result<FileHeader, FormatError> {
        let mut cursor = Cursor::new(block);
        if cursor.array::<8>()? != MAGIC {
            return Err(FormatError::Magic);
        }
        let version = cursor.u32()?;
        let header = FileHeader {
            version,
            partitions: cursor.u32()?,
            sequence: cursor.u64()?,
            content_bytes: cursor.u64()?,
            partitions_bytes: cursor.u64()?,
            content_crc: cursor.u32()?,
        };
        // The crc stands at the same place in every version, so a damaged version number is not taken for a later one.
        if cursor.u32()? != crc32c::crc32c(&block[..HEADER_CRC_AT]) {
            return Err(FormatError::Crc);
        }
        if version > VERSION {
            return Err(FormatError::Version(version));
        }
        if version < VERSION_MIN {
            return Err(FormatError::Field { field: "version" });
        }
        if header.sequence == 0 || header.sequence > NUMBER_MAX {
            return Err(FormatError::Field { field: "sequence" });
        }
        if header.content_bytes > CHECKPOINT_BYTES_MAX || header.partitions_bytes > header.content_bytes {
            return Err(FormatError::Field { field: "content length" });
        }
        Ok(header)
    }
}

/// Decodes the content that stands behind `header`.
fn decode_content(header: &FileHeader, content: &Bytes) -> Result<Checkpoint, FormatError> {
    if u64_of(content.len()) != header.content_bytes {
        return Err(FormatError::Truncated { needed: header.content_bytes });
    }
    if crc32c::crc32c(content) != header.content_crc {
        return Err(FormatError::Crc);
    }
    let split = usize::try_from(header.partitions_bytes).map_err(|_| FormatError::Field { field: "content length" })?;
    let partitions_content = content.slice(..split);
    let mut cursor = Cursor::new(&partitions_content);
    let mut partitions = Vec::new();
    while cursor.left() > 0 {
        partitions.push(decode_partition(header.version, &mut cursor, &partitions_content)?);
    }
    if u64_of(partitions.len()) != u64::from(header.partitions) {
        return Err(FormatError::Field { field: "partition count" });
    }
    let head = decode_head(header.version, &content[split..])?;
    Ok(Checkpoint { sequence: header.sequence, head, partitions })
}

fn decode_partition(
    version: u32,
    cursor: &mut Cursor<'_>,
    content: &Bytes,
) -> Result<CheckpointPartition, FormatError> {
    let record = PartitionRecord {
        log: LogId::new(cursor.number("log id")?),
        topic: TopicId::new(cursor.array()?),
        partition: PartitionIndex::new(cursor.i32()?),
        log_start: Offset::new(cursor.i64()?),
        log_end: Offset::new(cursor.i64()?),
    };
    let position = decode_position(cursor)?;
    if version > VERSION_MIN && cursor.u32()? > 0 {
        return Err(FormatError::Unsupported { what: "truncated logs" });
    }
    let state_bytes = usize_of(cursor.u32()?);
    let state = content.slice_ref(cursor.slice(state_bytes)?);
    if record.log_start < Offset::ZERO || record.log_end < record.log_start {
        return Err(FormatError::Field { field: "log start" });
    }
    Ok(CheckpointPartition { record, position, state })
}

fn encode_head(head: &CheckpointHead, out: &mut Vec<u8>) {
    out.extend_from_slice(&head.incarnation.value().to_le_bytes());
    out.push(u8::from(head.clean_end.is_some()));
    encode_position(head.covered, out);
    encode_position(head.clean_end.unwrap_or_default(), out);
    out.extend_from_slice(&head.next_log.value().to_le_bytes());
    out.extend_from_slice(&head.next_file.value().to_le_bytes());
    out.extend_from_slice(&head.next_segment.value().to_le_bytes());
    out.extend_from_slice(&u32_of(head.segments.len()).to_le_bytes());
    for segment in &head.segments {
        out.extend_from_slice(&segment.file.value().to_le_bytes());
        out.extend_from_slice(&segment.number.value().to_le_bytes());
        out.extend_from_slice(&segment.bytes.to_le_bytes());
        out.extend_from_slice(&segment.data_end.unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&segment.incarnation.value().to_le_bytes());
        out.push(segment.stream.code());
    }
    out.extend_from_slice(&u32_of(head.free.len()).to_le_bytes());
    for free in &head.free {
        out.extend_from_slice(&free.file.value().to_le_bytes());
        out.extend_from_slice(&free.bytes.to_le_bytes());
    }
}

fn decode_head(version: u32, bytes: &[u8]) -> Result<CheckpointHead, FormatError> {
    let mut cursor = Cursor::new(bytes);
    let incarnation = cursor.incarnation()?;
    let clean = match cursor.u8()? {
        0 => false,
        1 => true,
        _ => return Err(FormatError::Field { field: "clean" }),
    };
    let covered = decode_position(&mut cursor)?;
    let end = decode_position(&mut cursor)?;
    let mut head = CheckpointHead {
        incarnation,
        covered,
        clean_end: clean.then_some(end),
        next_log: LogId::new(cursor.number("log id")?),
        next_file: FileId::new(cursor.number("file id")?),
        next_segment: cursor.segment_number()?,
        segments: Vec::new(),
        free: Vec::new(),
    };
    // Counts are not believed: the vectors grow by what is really there.
    for _ in 0..cursor.u32()? {
        let mut segment = LiveSegment {
            stream: Stream::Hot,
            file: FileId::new(cursor.number("file id")?),
            number: cursor.segment_number()?,
            bytes: cursor.u32()?,
            data_end: Some(cursor.u32()?).filter(|end| *end != 0),
            incarnation: cursor.incarnation()?,
        };
        if version > VERSION_MIN {
            segment.stream = Stream::of_code(cursor.u8()?)?;
        }
        if segment.stream == Stream::Cold && segment.data_end.is_none() {
            return Err(FormatError::Field { field: "data end" });
        }
        if head.segments.last().is_some_and(|last| last.number >= segment.number) {
            return Err(FormatError::Field { field: "segment order" });
        }
        head.segments.push(segment);
    }
    for _ in 0..cursor.u32()? {
        head.free.push(FreeSegment { file: FileId::new(cursor.number("file id")?), bytes: cursor.u32()? });
    }
    if cursor.left() != 0 {
        return Err(FormatError::Field { field: "head length" });
    }
    Ok(head)
}

fn encode_position(position: LogPosition, out: &mut Vec<u8>) {
    out.extend_from_slice(&position.segment.value().to_le_bytes());
    out.extend_from_slice(&position.byte.to_le_bytes());
}

fn decode_position(cursor: &mut Cursor<'_>) -> Result<LogPosition, FormatError> {
    Ok(LogPosition { segment: SegmentNumber::new(cursor.u64()?), byte: cursor.u32()? })
}

/// Counts of partitions and segments, far below 2³².
fn u32_of(count: usize) -> u32 {
    u32::try_from(count).expect("counts of segments fit 32 bits")
}

fn u64_of(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("64 bits hold a usize")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::rc::Rc;

    use super::files::{CheckpointFiles, NAMES};
    use super::*;
    use crate::runtime::Runtime;
    use crate::simulation::disk::{Moment, Operation};
    use crate::simulation::random::Random;
    use crate::simulation::seeds::Seeds;
    use crate::simulation::{Crash, Ended, SimulatedRuntime, Simulation};
    use crate::types::FileId;

    fn position(segment: u64, byte: u32) -> LogPosition {
        LogPosition { segment: SegmentNumber::new(segment), byte }
    }

    fn head(random: &mut Random) -> CheckpointHead {
        let mut number = 0;
        let segments = (0..random.below(20)).map(|file| {
            number += 1 + random.below(3);
            let stream = if random.chance(1, 3) { Stream::Cold } else { Stream::Hot };
            LiveSegment {
                stream,
                file: FileId::new(file),
                number: SegmentNumber::new(number),
                bytes: 1 << 26,
                data_end: (stream == Stream::Cold || random.chance(1, 2)).then_some(4096),
                incarnation: Incarnation::new(1),
            }
        });
        CheckpointHead {
            segments: segments.collect(),
            incarnation: Incarnation::new(7),
            covered: position(3, 4200),
            clean_end: random.chance(1, 2).then(|| position(5, 9000)),
            next_log: LogId::new(random.next() / 2),
            next_file: FileId::new(20),
            next_segment: SegmentNumber::new(99),
            free: (0..random.below(5)).map(|file| FreeSegment { file: FileId::new(file), bytes: 1 << 20 }).collect(),
        }
    }

    fn partitions(random: &mut Random) -> Vec<CheckpointPartition> {
        let partition = |index: u64, random: &mut Random| {
            let mut state = vec![0; random.index(3000)];
            random.bytes(&mut state);
            let log_start = i64::try_from(random.below(1000)).unwrap();
            let record = PartitionRecord {
                log: LogId::new(index + 1),
                topic: TopicId::new([u8::try_from(index % 256).unwrap(); 16]),
                partition: PartitionIndex::new(4),
                log_start: Offset::new(log_start),
                log_end: Offset::new(log_start + 10),
            };
            CheckpointPartition { record, position: position(3, 5000), state: Bytes::from(state) }
        };
        (0..random.below(600)).map(|index| partition(index, random)).collect()
    }

    fn writer(partitions: &[CheckpointPartition]) -> CheckpointWriter {
        let mut writer = CheckpointWriter::new();
        partitions.iter().for_each(|p| writer.add_partition(&p.record, p.position, &p.state));
        writer
    }

    fn file_bytes(random: &mut Random) -> (Vec<u8>, Checkpoint) {
        let (partitions, head) = (partitions(random), head(random));
        let (mut bytes, content) = writer(&partitions).finish(4, &head).unwrap();
        bytes.extend_from_slice(&content.chunks.concat());
        (bytes, Checkpoint { sequence: 4, head, partitions })
    }

    fn decode(bytes: &[u8]) -> Result<Checkpoint, FormatError> {
        let block = bytes.get(..IO_ALIGNMENT).ok_or(FormatError::Truncated { needed: 4096 })?;
        let header = FileHeader::decode(block)?;
        decode_content(&header, &Bytes::copy_from_slice(&bytes[IO_ALIGNMENT..]))
    }

    #[test]
    fn checkpoint_round_trips() {
        for seed in 0..20 {
            let (bytes, checkpoint) = file_bytes(&mut Random::new(seed));
            assert_eq!(decode(&bytes), Ok(checkpoint), "seed {seed}");
        }
    }

    #[test]
    fn flipped_bits_and_truncations_are_found() {
        let mut random = Random::new(5);
        let (bytes, _) = file_bytes(&mut random);
        for round in 0..400 {
            let mut flipped = bytes.clone();
            let at =
                if round % 2 == 0 { random.index(48) } else { IO_ALIGNMENT + random.index(bytes.len() - IO_ALIGNMENT) };
            flipped[at] ^= 1 << random.below(8);
            assert!(decode(&flipped).is_err(), "byte {at}");
            assert!(decode(&bytes[..random.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn content_with_a_right_crc_and_wrong_counts_is_refused_without_a_panic() {
        let mut random = Random::new(6);
        let (bytes, _) = file_bytes(&mut random);
        let mut refused = 0;
        for _ in 0..3_000 {
            let mut content = bytes[IO_ALIGNMENT..].to_vec();
            let last = content.len();
            content.truncate(last - random.index(last.min(200)));
            for _ in 0..1 + random.below(4) {
                let at = random.index(content.len());
                let value = *random.pick(&[0, 1, 0x7f, 0x80, 0xff]);
                content[at] = value;
            }
            let mut header = FileHeader::decode(&bytes).unwrap();
            header.content_bytes = u64_of(content.len());
            header.partitions_bytes = header.partitions_bytes.min(random.below(header.content_bytes + 1));
            header.content_crc = crc32c::crc32c(&content);
            refused += u64::from(decode_content(&header, &Bytes::from(content)).is_err());
        }
        assert!(refused > 2_000, "{refused}");
    }

    #[test]
    fn older_checkpoint_is_trusted_only_while_no_segment_names_a_newer() {
        let (_, checkpoint) = file_bytes(&mut Random::new(1));
        let newest = || Found::Newest(checkpoint.clone());
        assert!(matches!(newest().trust(0), Ok(Some(_))));
        assert!(matches!(newest().trust(4), Ok(Some(_))));
        assert!(matches!(newest().trust(5), Err(CheckpointError::Lost { named: 5, found: Some(4) })));
        assert!(matches!(Found::Nothing.trust(0), Ok(None)));
        assert!(matches!(Found::Unreadable.trust(0), Ok(None)));
        assert!(matches!(Found::Unreadable.trust(1), Err(CheckpointError::Lost { named: 1, found: None })));
        assert!(matches!(Found::Nothing.trust(1), Err(CheckpointError::Lost { .. })));
    }

    fn directory() -> PathBuf {
        PathBuf::from("/data/shard-0")
    }

    async fn open(runtime: SimulatedRuntime) -> (CheckpointFiles<SimulatedRuntime>, Found) {
        runtime.create_directory(&directory()).await.unwrap();
        CheckpointFiles::open(runtime, &directory()).await.unwrap()
    }

    #[test]
    fn crash_at_any_step_leaves_the_last_durable_checkpoint_or_the_one_being_written() {
        Seeds::from_environment(60).each(|seed| {
            let mut random = Random::new(seed);
            let mut simulation = Simulation::new(seed);
            // What was reported durable, and everything that was ever begun, over several lives.
            let durable = Rc::new(std::cell::RefCell::new(0_u64));
            let begun = Rc::new(std::cell::RefCell::new(Vec::<Checkpoint>::new()));
            for _ in 0..6 {
                let crash = if random.chance(1, 2) { Crash::Power } else { Crash::Process };
                simulation.crash_after(random.below(400), crash);
                let (durable, begun) = (Rc::clone(&durable), Rc::clone(&begun));
                let mut life = random.split();
                let _: Ended<()> = simulation.run(|runtime| async move {
                    let (mut files, found) = open(runtime).await;
                    match found.trust(*durable.borrow()) {
                        Ok(Some(checkpoint)) => assert!(begun.borrow().contains(&checkpoint)),
                        Ok(None) => assert_eq!(*durable.borrow(), 0),
                        Err(error) => panic!("{error}"),
                    }
                    let found = files.durable_sequence();
                    *durable.borrow_mut() = found;
                    begun.borrow_mut().retain(|checkpoint| checkpoint.sequence <= found);
                    for _ in 0..life.below(4) {
                        let (partitions, head) = (partitions(&mut life), head(&mut life));
                        let sequence = files.sequence + 1;
                        let writer = writer(&partitions);
                        begun.borrow_mut().push(Checkpoint { sequence, head: head.clone(), partitions });
                        assert_eq!(files.write(writer, &head).await.unwrap(), sequence);
                        assert_eq!(files.durable_sequence(), sequence);
                        *durable.borrow_mut() = sequence;
                    }
                });
            }
        });
    }

    #[test]
    fn checkpoint_read_after_a_kill_survives_a_power_cut_even_if_it_never_was_flushed() {
        let mut simulation = Simulation::new(3);
        let empty = |incarnation| CheckpointHead {
            incarnation: Incarnation::new(incarnation),
            clean_end: None,
            ..head(&mut Random::new(1))
        };
        let first = empty(1);
        simulation.run(|runtime| async move {
            let (mut files, found) = open(runtime).await;
            assert_eq!(found, Found::Nothing);
            files.write(CheckpointWriter::new(), &first).await.unwrap();
        });
        simulation.disk().crash_at(Operation::Flush, Moment::Begun, "checkpoint-1", 0, Crash::Process);
        let second = empty(2);
        let ended = simulation.run(|runtime| async move {
            let (mut files, _) = open(runtime).await;
            files.write(CheckpointWriter::new(), &second).await.unwrap();
        });
        assert!(ended.is_crash());
        let sequence = |runtime| async move {
            match open(runtime).await.1 {
                Found::Newest(checkpoint) => checkpoint.sequence,
                other => panic!("{other:?}"),
            }
        };
        let read = simulation.run(sequence).finished();
        simulation.cut_power();
        assert_eq!(simulation.run(sequence).finished(), read);
        assert_eq!(read, 2);
    }

    #[test]
    fn arbitrary_files_are_unreadable_and_the_next_checkpoint_replaces_them() {
        Seeds::from_environment(50).each(|seed| {
            let mut random = Random::new(seed);
            let mut simulation = Simulation::new(seed);
            for name in NAMES {
                let mut content = vec![0; IO_ALIGNMENT * random.index(4)];
                random.bytes(&mut content);
                if random.chance(1, 2) && content.len() > 48 {
                    content[..8].copy_from_slice(&MAGIC);
                    content[8..12].copy_from_slice(&VERSION.to_le_bytes());
                    let crc = crc32c::crc32c(&content[..HEADER_CRC_AT]);
                    content[HEADER_CRC_AT..48].copy_from_slice(&crc.to_le_bytes());
                }
                simulation.disk().plant(&directory().join(name), &content);
            }
            let head = head(&mut random);
            simulation.run(|runtime| async move {
                let (mut files, found) = open(runtime.clone()).await;
                assert_eq!(found, Found::Unreadable);
                let sequence = files.write(CheckpointWriter::new(), &head).await.unwrap();
                let expected = Checkpoint { sequence, head, partitions: Vec::new() };
                assert_eq!(open(runtime).await.1, Found::Newest(expected));
            });
        });
    }
}
