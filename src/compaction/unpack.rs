//! The records of an intact batch in memory, a step at a time.

use crate::limits::COMPACTED_BATCH_BYTES_MAX;
use crate::protocol::compression::{Codec, DecompressError, Decompressor, Scratch};
use crate::protocol::record_batch::{BatchHeader, CODEC_MASK, IntactBatch, RecordsError, RottenBatch};
use crate::types::Offset;

/// Why a batch cannot be looked into. It ends the pass: what to do with the log is the caller's to decide.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DamagedBatch {
    /// Its bytes are not those that were written.
    #[error(transparent)]
    Rotten(#[from] RottenBatch),
    /// It covers offsets that no log has. Its base offset is not in its CRC.
    #[error("batch at offset {base_offset} has last offset delta {last_offset_delta}")]
    Offsets {
        /// Where it begins.
        base_offset: Offset,
        /// Its last offset, from there.
        last_offset_delta: i32,
    },
    /// It was written by nobody's codec.
    #[error("batch at offset {base_offset} has codec {codec}, which nobody has defined")]
    UnknownCodec {
        /// Where it begins.
        base_offset: Offset,
        /// The codec's number.
        codec: i16,
    },
    /// What it holds are not the records that it declares.
    #[error("batch at offset {base_offset}: {cause}")]
    Records {
        /// Where it begins.
        base_offset: Offset,
        /// What is wrong with them.
        cause: RecordsError,
    },
    /// A record's offset is not after the one before, or not in the batch.
    #[error("batch at offset {base_offset}: record {index} has offset delta {offset_delta}")]
    OffsetDelta {
        /// Where it begins.
        base_offset: Offset,
        /// Which record, from 0.
        index: i32,
        /// Its offset, from the batch's.
        offset_delta: i32,
    },
}

impl DamagedBatch {
    pub(super) fn records(batch: &IntactBatch<'_>, cause: impl Into<RecordsError>) -> DamagedBatch {
        DamagedBatch::Records { base_offset: batch.header().base_offset, cause: cause.into() }
    }

    /// The offsets that a batch covers are some that a log can have.
    pub(super) fn check_range(batch: &IntactBatch<'_>) -> Result<(), DamagedBatch> {
        let &BatchHeader { base_offset, last_offset_delta, .. } = batch.header();
        let last = base_offset.value().checked_add(i64::from(last_offset_delta));
        if base_offset >= Offset::ZERO && last_offset_delta >= 0 && last.is_some_and(|last| last < i64::MAX) {
            return Ok(());
        }
        Err(DamagedBatch::Offsets { base_offset, last_offset_delta })
    }

    /// Offsets ascend inside a batch, and none is outside of it.
    pub(super) fn check_offset(
        batch: &IntactBatch<'_>,
        index: i32,
        before: i32,
        offset_delta: i32,
    ) -> Result<(), DamagedBatch> {
        let header = batch.header();
        if before < offset_delta && offset_delta <= header.last_offset_delta {
            return Ok(());
        }
        Err(DamagedBatch::OffsetDelta { base_offset: header.base_offset, index, offset_delta })
    }
}

/// How far the records are in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unpacked {
    Part,
    Whole,
    TooLarge,
}

/// A batch on its way into memory. One that is not compressed is there already.
pub(super) struct Unpacking<'a> {
    batch: IntactBatch<'a>,
    /// `None` for a batch that is not compressed.
    stream: Option<Decompressor<'a>>,
}

impl<'a> Unpacking<'a> {
    pub(super) fn new(
        batch: IntactBatch<'a>,
        scratch: &'a mut Scratch,
        plain: &mut Vec<u8>,
    ) -> Result<Unpacking<'a>, DamagedBatch> {
        plain.clear();
        let header = batch.header();
        let codec = header.codec().ok_or(DamagedBatch::UnknownCodec {
            base_offset: header.base_offset,
            codec: header.attributes & CODEC_MASK,
        })?;
        let stream = match codec {
            Codec::None => None,
            _ => {
                let stream = Decompressor::new(codec, batch.view().records(), scratch);
                Some(stream.map_err(|error| DamagedBatch::records(&batch, error))?)
            }
        };
        Ok(Unpacking { batch, stream })
    }

    pub(super) fn batch(&self) -> IntactBatch<'a> {
        self.batch
    }

    /// The next window of a decompressor.
    pub(super) fn step(&mut self, plain: &mut Vec<u8>) -> Result<Unpacked, DamagedBatch> {
        let Some(stream) = &mut self.stream else { return Ok(Unpacked::Whole) };
        let window = match stream.fill() {
            Ok(window) => window,
            Err(DecompressError::TooLarge { .. }) => return Ok(Unpacked::TooLarge),
            Err(error) => return Err(DamagedBatch::records(&self.batch, error)),
        };
        let bytes = window.len();
        if bytes == 0 {
            return Ok(Unpacked::Whole);
        }
        if bytes > COMPACTED_BATCH_BYTES_MAX - plain.len() {
            return Ok(Unpacked::TooLarge);
        }
        plain.extend_from_slice(window);
        stream.consume(bytes);
        Ok(Unpacked::Part)
    }
}

/// The records of a batch that was unpacked to `plain`.
pub(super) fn records<'a>(batch: &IntactBatch<'a>, plain: &'a [u8]) -> &'a [u8] {
    match batch.header().codec() {
        Some(Codec::None) => batch.view().records(),
        _ => plain,
    }
}
