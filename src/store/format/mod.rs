//! The bytes on disk: segment headers, entries, control payloads and footers. All integers little endian.
//!
//! Pure and of no particular core. It is not a reader or a writer of files. What it decodes is input: every length is
//! checked against what is there, every structure carries a CRC-32C, nothing panics.
//!
//! ```text
//! segment-<file id, 16 hex>          fixed size; the name never changes, recycling writes a new header
//! 0        4096                                          data end         directory            size
//! | header | entry | entry | 0… | entry | entry … | 0…      | (anything)     | rows | extents | 0… trailer |
//!
//! header   0 magic 8 · 8 version u32 · 12 shard u16 · 14 stream u8 · 15 zero u8 · 16 segment number u64
//!          24 incarnation u32 · 28 size u32 · 32 predecessor number u64 · 40 predecessor end u32 · 44 zero u32
//!          48 checkpoint sequence u64 · 56 durable segment u64 · 64 durable byte u32 · 68 zeroes
//!          4092 crc u32 over all before it
//! entry    0 crc u32 · 4 payload length u32 · 8 kind u8 · 9 zero u8 · 10 batch count u16 · 12 incarnation u32
//!          16 log id u64 · 24 segment number u64 · 32 durable segment u64 · 40 durable byte u32 · 44 previous end u32
//!          48 payload
//! row      0 log id u64 · 8 first extent u32 · 12 extent count u32 · 16 base offset i64 · 24 end offset i64 (exclusive)
//!          32 timestamp max i64 · 40 bytes u32 · 44 crc u32 over the row's extents
//! extent   0 base offset i64 · 8 timestamp max i64 · 16 position u32 · 20 length u32; offsets and positions ascend
//! aborted  0 log id u64 · 8 producer id i64 · 16 first offset i64 · 24 last offset i64 · 32 last stable offset i64
//! trailer  0 magic 8 · 8 segment number u64 · 16 incarnation u32 · 20 data end u32 · 24 rows u32 · 28 extents u32
//!          32 aborted rows u32 · 36 directory position u32 · 40 extents position u32 · 44 aborted position u32
//!          48 crc u32 over the rows · 52 crc u32 over the aborted rows · 56 zero u32 · 60 crc u32 over 0..60
//!
//! payloads append: batches
//!          move: source segment u64 · base offset i64 · end offset i64 (exclusive) · batches, of which there may be none
//!          control: 1 create: topic id 16 · partition i32
//!                   2 delete
//!                   3 log start: offset i64
//!                   4 successor: topic id 16 · partition i32 · from offset i64 · continued log id u64 (0: none)
//!          marker: first offset of its transaction i64 · last stable offset behind it i64 · one batch
//!          moved marker: as a move · as a marker
//! ```
//!
//! **Hot and cold.** A hot segment holds entries as they were appended, in the order of the log. A cold one was written whole
//! by one job of the cleaner, of moves alone, and counts if and only if the checkpoint that is trusted names it: what it holds
//! takes the place of what older segments hold of the same offsets. The ranges of its moves tile each of its rows without a
//! hole, so a move without batches says that nothing is left of its range.
//!
//! **Versions.** Version 1 had hot segments only, one row per log in a directory, no aborted rows (its trailer had 48 bytes:
//! directory position at 32, extents position at 36, crcs at 40 and 44), entries of the kinds 1, 3 and 4 and the controls 1 to
//! 3. Its segments are read and never continued; a footer that one still lacks is written as that version has it. In what
//! is read of version 2, markers and successors are understood as bytes; what they mean is for a later program, and a store
//! that holds them is refused.
//!
//! Entries stand back to back from byte 4096. An entry header never crosses a 4 KiB unit: where fewer than 48 bytes are
//! left in the unit, or where the kind is zero, the next entry starts at the next unit ([`entry_position`]). A zero kind
//! at the start of a unit is the end, and so is an entry whose *previous end* is not where the last one ended.
//!
//! The crc of an entry covers its header behind the crc, and of the payload what nothing else covers: of an append the
//! first 61 bytes of each batch (offset and leader epoch lie outside the batch's own CRC, which covers the rest), of a
//! move, a marker and a moved marker their prefix of 24, 16 and 40 bytes as well, of a control entry everything, of padding nothing.
//!
//! A row carries the crc of its own extents, so that one partition's extents can be read and trusted without the rest
//! of the footer, and recovery reads directories only. The price: a footer torn by a crash may show a sound trailer and
//! directory above torn extents. So recovery believes a footer only where it is known to have been durable (a checkpoint
//! calls the segment sealed), and scans the segment otherwise.

mod control;
mod cursor;
mod entry;
mod footer;
mod segment;

pub use control::Control;
pub(crate) use cursor::{Cursor, usize_of};
pub use entry::{Entry, EntryHeader, EntryKind, MovePrefix, StoredBatch};
pub use footer::{AbortedRow, DirectoryRow, Extent, Footer, Trailer, footer_bytes};
pub use segment::{SegmentHeader, Stream};

use crate::limits::IO_ALIGNMENT;
use crate::types::FileId;

/// Version of everything on this page.
pub const FORMAT_VERSION: u32 = 2;

/// The oldest version that is read.
pub const FORMAT_VERSION_MIN: u32 = 1;

/// Size of a segment's header block, and so the position of its first entry.
pub const SEGMENT_HEADER_BYTES: u32 = 4096;

/// The unit of direct I/O, as a position.
pub const UNIT_BYTES: u32 = 4096;

/// Size of an entry's header.
pub const ENTRY_HEADER_BYTES: usize = 48;

/// Where the kind of an entry stands in its header; a zero follows.
pub(in crate::store) const ENTRY_KIND_AT: usize = 8;

/// The greatest code of a kind, from 1.
pub(in crate::store) const ENTRY_KIND_MAX: u8 = 6;

/// Where the segment number stands in an entry's header.
pub(in crate::store) const ENTRY_SEGMENT_AT: usize = 24;

/// Where the end of the entry before stands in an entry's header.
pub(in crate::store) const ENTRY_PREVIOUS_END_AT: usize = 44;

/// Size of one row of a footer's directory.
pub const ROW_BYTES: usize = 48;

/// Size of one extent in a footer.
pub const EXTENT_BYTES: usize = 24;

/// Size of one aborted transaction's row in a footer.
pub const ABORTED_ROW_BYTES: usize = 40;

/// Size of a footer's trailer: the last bytes of a sealed segment.
pub const TRAILER_BYTES: usize = 64;

/// What stands before the batches of a move entry: source segment u64, base offset i64, end offset i64.
pub const MOVE_PREFIX_BYTES: usize = 24;

/// What stands before the batch of a marker entry: first offset of its transaction i64, last stable offset behind it i64.
pub const MARKER_PREFIX_BYTES: usize = 16;

const _: () = assert!(IO_ALIGNMENT == 4096);

/// Where the next entry may start when the last one ended at `position`: there, or at the next unit when no entry
/// header fits into what is left of this one. At 4090 the next entry starts at 4096.
pub fn entry_position(position: u32) -> u32 {
    let used = position % UNIT_BYTES;
    let header = u32::try_from(ENTRY_HEADER_BYTES).expect("48 fits");
    if used != 0 && UNIT_BYTES - used < header { next_unit(position) } else { position }
}

/// The first unit boundary above `position - 1`: a boundary stays where it is. Positions lie within a segment, whose
/// size is a multiple of the unit, so this cannot overflow.
pub fn next_unit(position: u32) -> u32 {
    position.next_multiple_of(UNIT_BYTES)
}

/// Name of a segment file.
pub fn segment_file_name(file: FileId) -> String {
    format!("segment-{:016x}", file.value())
}

/// Greatest number that counts as one of ours: segment numbers, file and log ids and checkpoint sequences rise by one, so
/// half the range is beyond any real one, and leaves room to go on from.
pub const NUMBER_MAX: u64 = u64::MAX / 2;

/// As [`NUMBER_MAX`], for incarnations.
pub const INCARNATION_MAX: u32 = u32::MAX / 2;

/// The file id in a segment file's name; `None` for every other file.
pub fn parse_segment_file_name(name: &str) -> Option<FileId> {
    let digits = name.strip_prefix("segment-")?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 16 || !digits.bytes().all(lower_hex) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|id| *id <= NUMBER_MAX).map(FileId::new)
}

/// Why bytes from the disk are not what stands on this page.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end too early; with so many from the start of the structure it could be decided.
    #[error("{needed} bytes needed")]
    Truncated {
        /// Bytes needed, counted from the start of the structure.
        needed: u64,
    },
    /// The first bytes are not ours.
    #[error("magic differs")]
    Magic,
    /// A later program wrote it.
    #[error("format version {0} is not supported, this program writes {FORMAT_VERSION}")]
    Version(u32),
    /// The checksum differs.
    #[error("crc differs")]
    Crc,
    /// The kind of an entry is zero: nothing stands here.
    #[error("no entry")]
    NoEntry,
    /// It is sound, and what it means is for a later program.
    #[error("{what} are not supported by this program")]
    Unsupported {
        /// What stands there.
        what: &'static str,
    },
    /// A field holds what it must not.
    #[error("{field} is out of range")]
    Field {
        /// Which one.
        field: &'static str,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::segment::SEGMENT_CRC_AT;
    use super::*;
    use crate::simulation::random::Random;
    use crate::store::BATCH_HEADER_BYTES;
    use crate::types::{
        Incarnation, LogId, LogPosition, Offset, PartitionIndex, ProducerId, SegmentNumber, ShardId, TimestampMs,
        TopicId,
    };

    /// A record batch of `bytes` in all, with the fields that the store reads and a CRC that matches.
    pub(crate) fn batch(base: i64, last: i64, timestamp: i64, bytes: usize, fill: u8) -> Vec<u8> {
        let mut out = vec![fill; bytes];
        out[..8].copy_from_slice(&base.to_be_bytes());
        out[8..12].copy_from_slice(&i32::try_from(bytes - 12).unwrap().to_be_bytes());
        out[16] = 2;
        out[23..27].copy_from_slice(&i32::try_from(last - base).unwrap().to_be_bytes());
        out[35..43].copy_from_slice(&timestamp.to_be_bytes());
        let crc = crc32c::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out
    }

    /// An append entry of these batches.
    pub(crate) fn append(log: LogId, segment: SegmentNumber, batches: &[Vec<u8>]) -> Vec<u8> {
        let payload_bytes = u32::try_from(batches.iter().map(Vec::len).sum::<usize>()).unwrap();
        let header = EntryHeader {
            kind: EntryKind::Append,
            payload_bytes,
            batch_count: u16::try_from(batches.len()).unwrap(),
            incarnation: Incarnation::new(3),
            log,
            segment,
            durable: LogPosition { segment, byte: 4096 },
            previous_end: 4096,
        };
        let mut out = header.encode(batches.iter().map(|batch| &batch[..BATCH_HEADER_BYTES])).to_vec();
        batches.iter().for_each(|batch| out.extend_from_slice(batch));
        out
    }

    fn header() -> SegmentHeader {
        SegmentHeader {
            version: FORMAT_VERSION,
            shard: ShardId::new(3),
            stream: Stream::Cold,
            number: SegmentNumber::new(9),
            incarnation: Incarnation::new(4),
            bytes: 1 << 20,
            predecessor: LogPosition { segment: SegmentNumber::new(8), byte: 77_777 },
            checkpoint_sequence: 12,
            durable: LogPosition { segment: SegmentNumber::new(8), byte: 70_000 },
        }
    }

    fn control_entry(control: Control) -> Vec<u8> {
        let payload = control.encode();
        let header = EntryHeader {
            kind: EntryKind::Control,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            batch_count: 0,
            incarnation: Incarnation::new(1),
            log: LogId::new(5),
            segment: SegmentNumber::new(2),
            durable: LogPosition::default(),
            previous_end: 4096,
        };
        let mut out = header.encode([payload.as_slice()]).to_vec();
        out.extend_from_slice(&payload);
        out
    }

    #[test]
    fn segment_file_names_round_trip_and_nothing_else_is_one() {
        let file = FileId::new(0x1f);
        assert_eq!(segment_file_name(file), "segment-000000000000001f");
        assert_eq!(parse_segment_file_name("segment-000000000000001f"), Some(file));
        for other in ["segment-1f", "segment-000000000000001F", "segment-+00000000000001f", "checkpoint-0", ""] {
            assert_eq!(parse_segment_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn entry_header_never_crosses_a_unit() {
        assert_eq!(entry_position(4096), 4096);
        assert_eq!(entry_position(8192 - 48), 8192 - 48);
        assert_eq!(entry_position(8192 - 47), 8192);
        assert_eq!(entry_position(8191), 8192);
    }

    #[test]
    fn segment_header_round_trips_and_each_flipped_bit_is_found() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
        assert_eq!(SegmentHeader::decode(&[0; 4096]), Err(FormatError::Magic));
        assert_eq!(SegmentHeader::decode(&bytes[..4095]), Err(FormatError::Truncated { needed: 4096 }));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 64 { FormatError::Magic } else { FormatError::Crc };
            assert_eq!(SegmentHeader::decode(&flipped), Err(expected), "bit {bit}");
        }
    }

    #[test]
    fn later_version_is_named() {
        let mut bytes = header().encode();
        bytes[8] = 3;
        let crc = crc32c::crc32c(&bytes[..SEGMENT_CRC_AT]);
        bytes[SEGMENT_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(FormatError::Version(3)));
    }

    #[test]
    fn append_entry_round_trips_with_several_batches() {
        let batches = [batch(10, 19, 5, 200, 1), batch(20, 20, 9, 61, 2), batch(21, 30, 7, 3000, 3)];
        let mut bytes = append(LogId::new(5), SegmentNumber::new(9), &batches);
        let entry_bytes = bytes.len();
        bytes.extend_from_slice(&[0xee; 100]);
        let entry = Entry::decode(&bytes).unwrap();
        assert_eq!(entry.header.entry_bytes(), u64::try_from(entry_bytes).unwrap());
        let found: Vec<(i64, i64, i64, bool)> = entry
            .batches()
            .map(|b| (b.base_offset().value(), b.last_offset().value(), b.timestamp_max().value(), b.crc_matches()))
            .collect();
        assert_eq!(found, [(10, 19, 5, true), (20, 20, 9, true), (21, 30, 7, true)]);
        let needed = u64::try_from(entry_bytes).unwrap();
        assert_eq!(Entry::decode(&bytes[..entry_bytes - 1]).unwrap_err(), FormatError::Truncated { needed });
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_found_by_one_crc_or_the_other() {
        let batches = [batch(10, 19, 5, 100, 1), batch(20, 20, 9, 90, 2)];
        let bytes = append(LogId::new(5), SegmentNumber::new(9), &batches);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let intact = match Entry::decode(&flipped) {
                Ok(entry) => entry.batches().all(|batch| batch.crc_matches()),
                Err(_) => false,
            };
            assert!(!intact, "bit {bit}");
        }
    }

    fn successor(continues: Option<LogId>) -> Control {
        let (topic, partition) = (TopicId::new([8; 16]), PartitionIndex::new(5));
        Control::Successor { topic, partition, from: Offset::new(1 << 33), continues }
    }

    #[test]
    fn control_entries_round_trip_and_their_payload_is_covered() {
        for control in [
            Control::Create { topic: TopicId::new([7; 16]), partition: PartitionIndex::new(3) },
            Control::Delete,
            Control::LogStart { offset: Offset::new(1 << 40) },
            successor(Some(LogId::new(77))),
            successor(None),
        ] {
            let bytes = control_entry(control);
            assert_eq!(Control::decode(Entry::decode(&bytes).unwrap().payload), Ok(control));
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Entry::decode(&flipped).is_err(), "bit {bit}");
            }
        }
        assert_eq!(Control::decode(&[2, 0]), Err(FormatError::Field { field: "control length" }));
        assert_eq!(Control::decode(&[9]), Err(FormatError::Field { field: "control tag" }));
    }

    #[test]
    fn moves_and_markers_cover_their_prefixes_and_a_move_may_be_empty() {
        let range =
            MovePrefix { source: SegmentNumber::new(4), base_offset: Offset::new(5), end_offset: Offset::new(30) };
        let marker = [7; MARKER_PREFIX_BYTES];
        let moved_marker = [&range.encode()[..], &marker[..]].concat();
        for (kind, prefix, batches) in [
            (EntryKind::Move, range.encode().to_vec(), 0),
            (EntryKind::Move, range.encode().to_vec(), 2),
            (EntryKind::Marker, marker.to_vec(), 1),
            (EntryKind::MovedMarker, moved_marker, 1),
        ] {
            let all: Vec<Vec<u8>> = (0..batches).map(|n| batch(10 * (n + 1), 10 * (n + 1) + 9, 5, 100, 1)).collect();
            let payload = [prefix.clone(), all.concat()].concat();
            let header = EntryHeader {
                kind,
                payload_bytes: u32::try_from(payload.len()).unwrap(),
                batch_count: u16::try_from(all.len()).unwrap(),
                incarnation: Incarnation::new(1),
                log: LogId::new(5),
                segment: SegmentNumber::new(2),
                durable: LogPosition::default(),
                previous_end: 4096,
            };
            let covered = std::iter::once(&prefix[..]).chain(all.iter().map(|batch| &batch[..BATCH_HEADER_BYTES]));
            let bytes = [&header.encode(covered)[..], &payload].concat();
            let entry = Entry::decode(&bytes).unwrap();
            assert_eq!(entry.batches().count(), all.len());
            assert_eq!(entry.move_prefix(), kind.is_moved().then_some(Ok(range)));
            for bit in 0..(ENTRY_HEADER_BYTES + prefix.len()) * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(Entry::decode(&flipped).is_err(), "{kind:?}: bit {bit}");
            }
        }
        let backwards = MovePrefix { end_offset: Offset::new(5), ..range };
        assert!(MovePrefix::decode(&backwards.encode()).is_err());
    }

    #[test]
    fn move_entry_covers_its_prefix() {
        let moved = batch(10, 19, 5, 100, 1);
        let header = EntryHeader {
            kind: EntryKind::Move,
            payload_bytes: 124,
            batch_count: 1,
            incarnation: Incarnation::new(1),
            log: LogId::new(5),
            segment: SegmentNumber::new(2),
            durable: LogPosition::default(),
            previous_end: 4096,
        };
        let prefix = [9; MOVE_PREFIX_BYTES];
        let mut bytes = header.encode([&prefix[..], &moved[..BATCH_HEADER_BYTES]]).to_vec();
        bytes.extend_from_slice(&prefix);
        bytes.extend_from_slice(&moved);
        assert_eq!(Entry::decode(&bytes).unwrap().batches().count(), 1);
        bytes[ENTRY_HEADER_BYTES] ^= 1;
        assert_eq!(Entry::decode(&bytes).unwrap_err(), FormatError::Crc);
    }

    #[test]
    fn zero_kind_is_no_entry() {
        assert_eq!(Entry::decode(&[0; 64]).unwrap_err(), FormatError::NoEntry);
    }

    fn aborted() -> Vec<AbortedRow> {
        let row = |producer: i64| AbortedRow {
            log: LogId::new(3),
            producer: ProducerId::new(producer),
            first_offset: Offset::new(producer * 10),
            last_offset: Offset::new(producer * 10 + 9),
            last_stable_offset: Offset::new(producer * 10 + 10),
        };
        (1..=7).map(row).collect()
    }

    fn footer() -> (Vec<DirectoryRow>, Vec<Extent>, Footer) {
        let mut rows = Vec::new();
        let mut extents = Vec::new();
        for log in 1..=90 {
            let count = 1 + u32::try_from(log).unwrap() % 5;
            for extent in 0..count {
                extents.push(Extent {
                    base_offset: Offset::new(100 + i64::from(extent) * 10),
                    timestamp_max: TimestampMs::new(i64::from(extent)),
                    position: 4096 + extent * 1000,
                    bytes: 1000,
                });
            }
            rows.push(DirectoryRow {
                log: LogId::new(log),
                extent_first: 0,
                extent_count: count,
                base_offset: Offset::new(100),
                end_offset: Offset::new(100 + i64::from(count) * 10),
                timestamp_max: TimestampMs::new(i64::from(count) - 1),
                bytes: count * 1000,
                extents_crc: 0,
            });
        }
        let footer = Footer::encode(&header(), Incarnation::new(4), 20_000, &mut rows, &extents, &aborted()).unwrap();
        (rows, extents, footer)
    }

    #[test]
    fn footer_round_trips_row_by_row() {
        let (rows, extents, footer) = footer();
        assert_eq!(u64::from(footer.position) + u64::try_from(footer.bytes.len()).unwrap(), 1 << 20);
        let last_unit = &footer.bytes[footer.bytes.len() - 4096..];
        let trailer = Trailer::decode(last_unit, 1 << 20).unwrap();
        assert_eq!(trailer, footer.trailer);
        assert_eq!((trailer.number, trailer.data_end), (SegmentNumber::new(9), 20_000));
        let directory = &footer.bytes[..usize_of(trailer.directory_bytes())];
        assert_eq!(trailer.decode_directory(directory).unwrap(), rows);
        for (index, row) in rows.iter().enumerate() {
            let bytes = directory[index * ROW_BYTES..][..ROW_BYTES].try_into().unwrap();
            assert_eq!(trailer.decode_row(bytes).unwrap(), *row);
            let (position, length) = trailer.extents_range(row).unwrap();
            let first = usize_of(position - footer.position);
            let found = row.decode_extents(&footer.bytes[first..first + usize_of(length)], 20_000).unwrap();
            let expected = &extents[usize_of(row.extent_first)..][..usize_of(row.extent_count)];
            assert_eq!(found, expected);
        }
        let aborted_range = usize_of(trailer.aborted_position - footer.position)..;
        let found = &footer.bytes[aborted_range][..7 * ABORTED_ROW_BYTES];
        assert_eq!(trailer.decode_aborted(found), Ok(aborted()));
        assert_eq!(Trailer::decode(last_unit, 2 << 20), Err(FormatError::Field { field: "footer position" }));
    }

    #[test]
    fn every_flipped_bit_of_a_footer_is_found() {
        let (_, _, footer) = footer();
        let read = |bytes: &[u8]| -> Result<(), FormatError> {
            let trailer = Trailer::decode(bytes, 1 << 20)?;
            let first_extent = usize_of(trailer.directory_bytes());
            for row in trailer.decode_directory(&bytes[..first_extent])? {
                let (position, length) = trailer.extents_range(&row).unwrap();
                let first = usize_of(position - footer.position);
                row.decode_extents(&bytes[first..first + usize_of(length)], trailer.data_end)?;
            }
            let aborted = usize_of(trailer.aborted_position - footer.position);
            trailer.decode_aborted(&bytes[aborted..][..7 * ABORTED_ROW_BYTES])?;
            Ok(())
        };
        assert_eq!(read(&footer.bytes), Ok(()));
        let content = 90 * ROW_BYTES + usize_of(footer.trailer.extents) * EXTENT_BYTES + 7 * ABORTED_ROW_BYTES;
        let trailer = footer.bytes.len() - TRAILER_BYTES..footer.bytes.len();
        for byte in (0..content).chain(trailer) {
            let mut flipped = footer.bytes.clone();
            flipped[byte] ^= 1 << (byte % 8);
            assert!(read(&flipped).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn footer_that_does_not_fit_is_refused() {
        let small = SegmentHeader { bytes: 8192, ..header() };
        assert_eq!(Footer::encode(&small, Incarnation::new(1), 4097, &mut [], &[], &[]), None);
        assert!(Footer::encode(&small, Incarnation::new(1), 4096, &mut [], &[], &[]).is_some());
    }

    /// What an earlier program left open gets the footer that it made room for.
    #[test]
    fn segment_of_version_1_gets_a_footer_of_version_1() {
        let (mut rows, extents, _) = footer();
        let old = SegmentHeader { version: 1, ..header() };
        let written = Footer::encode(&old, Incarnation::new(4), 20_000, &mut rows, &extents, &[]).unwrap();
        assert_eq!(&written.bytes[written.bytes.len() - 48..][..8], b"CORELFTR");
        let last_unit = &written.bytes[written.bytes.len() - 4096..];
        let trailer = Trailer::decode(last_unit, 1 << 20).unwrap();
        assert_eq!((trailer, trailer.aborted), (written.trailer, 0));
        let directory = &written.bytes[..usize_of(trailer.directory_bytes())];
        assert_eq!(trailer.decode_directory(directory).unwrap(), rows);
    }

    #[test]
    fn rows_of_one_log_may_be_several_but_must_not_overlap() {
        let row = |base: i64, end: i64| DirectoryRow {
            log: LogId::new(1),
            extent_first: 0,
            extent_count: 1,
            base_offset: Offset::new(base),
            end_offset: Offset::new(end),
            timestamp_max: TimestampMs::new(1),
            bytes: 100,
            extents_crc: 0,
        };
        let extent = |base: i64, position| Extent {
            base_offset: Offset::new(base),
            timestamp_max: TimestampMs::new(1),
            position,
            bytes: 100,
        };
        let read = |mut rows: [DirectoryRow; 2]| {
            let extents = [extent(rows[0].base_offset.value(), 4096), extent(rows[1].base_offset.value(), 4196)];
            let footer = Footer::encode(&header(), Incarnation::new(4), 5000, &mut rows, &extents, &[]).unwrap();
            let directory = &footer.bytes[..usize_of(footer.trailer.directory_bytes())];
            footer.trailer.decode_directory(directory).map(|found| found == rows)
        };
        assert_eq!(read([row(0, 10), row(10, 20)]), Ok(true));
        assert_eq!(read([row(0, 10), row(50, 60)]), Ok(true));
        assert_eq!(read([row(0, 11), row(10, 20)]), Err(FormatError::Field { field: "directory order" }));
        assert_eq!(read([row(50, 60), row(0, 10)]), Err(FormatError::Field { field: "directory order" }));
    }

    #[test]
    fn rubbish_is_refused_without_a_panic() {
        let mut random = Random::new(11);
        let (_, _, footer) = footer();
        for _ in 0..20_000 {
            let mut bytes = vec![0; random.index(300)];
            random.bytes(&mut bytes);
            if random.chance(1, 2) && bytes.len() > 12 {
                bytes[8] = u8::try_from(random.below(6)).unwrap();
                bytes[4..8].copy_from_slice(&u32::try_from(random.below(400)).unwrap().to_le_bytes());
            }
            assert!(Entry::decode(&bytes).is_err());
            assert!(SegmentHeader::decode(&bytes).is_err());
            let _ = Control::decode(&bytes);
            assert!(Trailer::decode(&bytes, 1 << 20).is_err());
            if let Some(row) = bytes.first_chunk() {
                let _ = footer.trailer.decode_row(row);
            }
            // The lengths of a batch are input too, whatever the CRCs say.
            let _ = StoredBatch::split(&bytes).map(|(batch, _)| (batch.last_offset(), batch.crc_matches()));
        }
    }
}
