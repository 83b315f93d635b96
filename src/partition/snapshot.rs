//! Reading and writing the bytes of a partition's state in a checkpoint: little endian, no checksum of their own.
//!
//! The bytes come from disk under the checkpoint's CRC. They are read with care all the same: a count is held against
//! the bytes that are left before anything is reserved for it.

use crate::compaction::{SegmentsError, VirtualSegments};

/// Why state from a checkpoint cannot be restored.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes end inside a field.
    #[error("state ends too early")]
    Truncated,
    /// Bytes follow the last field.
    #[error("{0} bytes follow the state")]
    Trailing(usize),
    /// Written by a newer version of this program.
    #[error("state has version {0}, newer than this program")]
    Version(u16),
    /// A value that no partition can have.
    #[error("state holds an impossible {0}")]
    Impossible(&'static str),
}

/// Takes values off the front of a state's bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(super) fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(SnapshotError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, SnapshotError> {
        self.take().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, SnapshotError> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn i16(&mut self) -> Result<i16, SnapshotError> {
        self.take().map(i16::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, SnapshotError> {
        self.take().map(i32::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, SnapshotError> {
        self.take().map(i64::from_le_bytes)
    }

    /// A count of things that take at least `bytes_each`, of which no more than `count_max` may exist.
    pub(super) fn count(&mut self, bytes_each: usize, count_max: usize) -> Result<usize, SnapshotError> {
        let count = usize::try_from(u32::from_le_bytes(self.take()?)).expect("32 bits fit");
        if count > count_max {
            return Err(SnapshotError::Impossible("count"));
        }
        if count > self.rest.len() / bytes_each {
            return Err(SnapshotError::Truncated);
        }
        Ok(count)
    }

    pub(super) fn segments(&mut self) -> Result<VirtualSegments, SnapshotError> {
        VirtualSegments::decode(&mut self.rest).map_err(|error| match error {
            SegmentsError::Truncated => SnapshotError::Truncated,
            SegmentsError::Version(version) => SnapshotError::Version(version),
            SegmentsError::Impossible(what) => SnapshotError::Impossible(what),
        })
    }

    pub(super) fn end(self) -> Result<(), SnapshotError> {
        if self.rest.is_empty() { Ok(()) } else { Err(SnapshotError::Trailing(self.rest.len())) }
    }
}

/// Appends a count as [`Reader::count`] reads it.
pub(super) fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("bounded far below 32 bits");
    out.extend_from_slice(&count.to_le_bytes());
}
