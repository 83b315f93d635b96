//! The pieces of an answer: small batches are copied together, large ones stay where they are.

use std::ops::Range;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::limits::COPY_WASTE_BYTES_MAX;
use crate::runtime::Buffer;
use crate::runtime::block::{Block, Slice};

/// Collects a fetch answer: small batches are copied together, large ones stay where they are.
pub(in crate::store) struct Pieces<B> {
    done: Vec<Slice<B>>,
    copied: BytesMut,
}

impl<B> Default for Pieces<B> {
    fn default() -> Self {
        Pieces { done: Vec::new(), copied: BytesMut::new() }
    }
}

impl<B: Buffer> Pieces<B> {
    /// True while nothing was collected.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.copied.is_empty()
    }

    /// Adds a range of a block, copied when `copy`.
    pub(in crate::store) fn push(&mut self, block: &Rc<Block<B>>, range: Range<usize>, copy: bool) {
        if copy {
            self.copied.extend_from_slice(&block.as_slice()[range]);
        } else {
            self.cut();
            self.done.push(Slice::Block { block: Rc::clone(block), range });
        }
    }

    fn cut(&mut self) {
        if !self.copied.is_empty() {
            self.done.push(Slice::Bytes(taken(&mut self.copied)));
        }
    }

    /// The answer's pieces in order.
    pub(in crate::store) fn finish(mut self) -> Vec<Slice<B>> {
        self.cut();
        self.done
    }
}

/// Takes what was collected. A vector that doubles has up to half of its memory unused: what is much of it goes back, or an
/// answer would have twice the memory that it counts for.
pub(in crate::store) fn taken(copied: &mut BytesMut) -> Bytes {
    if copied.capacity() - copied.len() < COPY_WASTE_BYTES_MAX {
        return copied.split().freeze();
    }
    let mut bytes = Vec::from(std::mem::take(copied));
    bytes.shrink_to_fit();
    Bytes::from(bytes)
}
