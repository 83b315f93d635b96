//! What is taken of the entries that are walked over: whole batches, checked, lent or copied.

use std::rc::Rc;

use super::walk::EntryBytes;
use super::{ColdBatches, ColdRead};
use bytes::BytesMut;

use crate::limits::FETCH_COPY_BYTES_MAX;
use crate::runtime::block::Slice;
use crate::store::format::Entry;
use crate::store::pieces::taken;
use crate::types::Offset;

/// Why an entry, or a batch in it, is not what was written.
pub(super) struct Fault {
    pub(super) what: &'static str,
    /// Offset after the batch, when it alone is damaged.
    pub(super) batch_end: Option<Offset>,
}

impl Fault {
    pub(super) fn of_entry(what: &'static str) -> Fault {
        Fault { what, batch_end: None }
    }
}

/// Collects the batches of an answer.
pub(super) struct Answer<'a, B, F> {
    pub(super) read: &'a ColdRead<F>,
    pub(super) slices: Vec<Slice<B>>,
    /// Small batches since the last slice.
    pub(super) copied: BytesMut,
    pub(super) bytes: usize,
    pub(super) next_offset: Offset,
    pub(super) needed_bytes: usize,
    /// Answers pin so many windows beside those kept that nothing more is lent.
    pub(super) copy_always: bool,
}

impl<'a, B: crate::runtime::Buffer, F> Answer<'a, B, F> {
    pub(super) fn new(read: &'a ColdRead<F>) -> Answer<'a, B, F> {
        Answer {
            read,
            slices: Vec::new(),
            copied: BytesMut::new(),
            bytes: 0,
            next_offset: read.from,
            needed_bytes: 0,
            copy_always: false,
        }
    }

    /// Adds those batches of a checked entry that are wanted. True when the answer is complete. `expected` is the offset
    /// that the entry starts with, if the index says so.
    pub(super) fn add_entry(
        &mut self,
        bytes: &EntryBytes<B>,
        entry: &Entry<'_>,
        expected: &mut Option<Offset>,
    ) -> Result<bool, Fault> {
        let header = &entry.header;
        if !header.kind.has_batches() {
            return Err(Fault::of_entry("the entry holds no batches"));
        }
        if header.log != self.read.log || header.segment != self.read.hold.segment() {
            return Err(Fault::of_entry("the entry is another log's or of another life of the file"));
        }
        // A move begins where its range does, of which the first batches may be gone.
        let moved = entry.move_prefix().transpose().map_err(|_| Fault::of_entry("the move has no sane range"))?;
        let first = moved.map(|moved| moved.base_offset).or_else(|| Some(entry.batches().next()?.base_offset()));
        if expected.take().is_some_and(|expected| first != Some(expected)) {
            return Err(Fault::of_entry("the entry starts at another offset than the index says"));
        }
        for batch in entry.batches() {
            if moved
                .is_some_and(|moved| batch.base_offset() < moved.base_offset || batch.last_offset() >= moved.end_offset)
            {
                return Err(Fault::of_entry("the batch lies outside of the range that was moved"));
            }
            let last_offset = batch.last_offset();
            if last_offset < batch.base_offset() {
                return Err(Fault::of_entry("the batch ends before it starts"));
            }
            if last_offset < self.read.from {
                continue;
            }
            if self.bytes > 0 && batch.base_offset() < self.next_offset {
                return Err(Fault::of_entry("offsets go back"));
            }
            let bytes_after = self.bytes + batch.bytes().len();
            if last_offset >= self.read.bound {
                self.step_to(batch.base_offset());
                return Ok(true);
            }
            let first_bytes_max = if self.bytes == 0 { self.read.within.first_bytes_max } else { 0 };
            if bytes_after > self.read.within.bytes_max.max(first_bytes_max) {
                self.needed_bytes = if first_bytes_max > 0 { bytes_after } else { 0 };
                self.step_to(batch.base_offset());
                return Ok(true);
            }
            if !batch.crc_matches() {
                let what = "the crc of the batch differs";
                return Err(Fault { what, batch_end: Some(last_offset.advance(1)) });
            }
            self.add_batch(bytes, batch.bytes());
            self.bytes = bytes_after;
            self.next_offset = last_offset.advance(1);
        }
        Ok(false)
    }

    /// Nothing of the log lies below `offset` but what was given.
    pub(super) fn step_to(&mut self, offset: Offset) {
        if self.bytes == 0 {
            self.next_offset = self.next_offset.max(offset.min(self.read.bound));
        }
    }

    fn add_batch(&mut self, whole: &EntryBytes<B>, batch: &[u8]) {
        if self.copy_always || batch.len() <= FETCH_COPY_BYTES_MAX {
            self.copied.extend_from_slice(batch);
            return;
        }
        self.flush_copied();
        let at = offset_within(whole.as_slice(), batch);
        match whole {
            EntryBytes::Joined(bytes) => self.slices.push(Slice::Bytes(bytes.slice(at..at + batch.len()))),
            EntryBytes::Lent(block, range) => {
                let start = range.start + at;
                if let Some(Slice::Block { block: last, range }) = self.slices.last_mut()
                    && Rc::ptr_eq(last, block)
                    && range.end == start
                {
                    range.end = start + batch.len();
                    return;
                }
                let range = start..start + batch.len();
                self.slices.push(Slice::Block { block: Rc::clone(block), range });
            }
        }
    }

    fn flush_copied(&mut self) {
        if !self.copied.is_empty() {
            self.slices.push(Slice::Bytes(taken(&mut self.copied)));
        }
    }

    pub(super) fn finish(mut self) -> ColdBatches<B> {
        self.flush_copied();
        ColdBatches {
            slices: self.slices,
            bytes: self.bytes,
            next_offset: self.next_offset,
            needed_bytes: self.needed_bytes,
        }
    }
}

/// Where `part`, a subslice of `whole`, begins in it.
pub(super) fn offset_within(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}
