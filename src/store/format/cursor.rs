//! Reads little-endian integers from bytes that may end anywhere.

use super::{FormatError, INCARNATION_MAX, NUMBER_MAX};
use crate::types::{Incarnation, SegmentNumber};

/// A `u32` as an index: Linux on 64 bits.
pub(crate) fn usize_of(value: u32) -> usize {
    usize::try_from(value).expect("32 bits fit a usize")
}

/// The bytes end too early.
pub(super) fn truncated(needed: usize) -> FormatError {
    FormatError::Truncated { needed: u64::try_from(needed).expect("64 bits hold a usize") }
}

/// Reads little-endian integers from bytes that may end anywhere.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes, lent.
    pub(crate) fn slice(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let end = self.at.checked_add(count);
        let Some(slice) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            return Err(truncated(self.at.saturating_add(count)));
        };
        self.at += count;
        Ok(slice)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        Ok(*self.slice(N)?.first_chunk().expect("the slice has N bytes"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number that rises by one from life to life or thing to thing.
    ///
    /// Errors: `Field` beyond [`NUMBER_MAX`].
    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, FormatError> {
        let number = self.u64()?;
        if number <= NUMBER_MAX { Ok(number) } else { Err(FormatError::Field { field }) }
    }

    pub(crate) fn segment_number(&mut self) -> Result<SegmentNumber, FormatError> {
        self.number("segment number").map(SegmentNumber::new)
    }

    pub(crate) fn incarnation(&mut self) -> Result<Incarnation, FormatError> {
        let incarnation = self.u32()?;
        if incarnation > INCARNATION_MAX {
            return Err(FormatError::Field { field: "incarnation" });
        }
        Ok(Incarnation::new(incarnation))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, FormatError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_le_bytes)
    }
}
