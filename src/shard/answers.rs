//! How much memory unsent answers of one shard hold, and the bound on it.
//!
//! A fetch answer points into blocks of the log, and a block stays in memory as long as an answer does: 16 KiB that a slow
//! reader does not take may keep a whole mebibyte. So what counts here are blocks, not bytes sent. When the bound is
//! reached a fetch still gives one batch, as Kafka promises, and no more: readers slow down, memory does not grow.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use crate::runtime::Buffer;
use crate::runtime::block::{Block, Slice};

/// Memory that unsent answers may hold.
#[derive(Debug)]
pub struct AnswerMemory {
    held: Cell<usize>,
    bytes_max: usize,
}

impl AnswerMemory {
    /// Nothing is held yet.
    pub fn new(bytes_max: usize) -> Rc<AnswerMemory> {
        Rc::new(AnswerMemory { held: Cell::new(0), bytes_max })
    }

    /// Bytes of memory that unsent answers hold now.
    pub fn held_bytes(&self) -> usize {
        self.held.get()
    }

    /// Bytes that another answer may hold before it is one too many.
    pub fn room_bytes(&self) -> usize {
        self.bytes_max.saturating_sub(self.held.get())
    }

    /// Counts the memory behind the slices of one answer until the hold is dropped, which is when the answer is sent.
    pub fn hold<'a, B: Buffer>(self: &Rc<Self>, slices: impl Iterator<Item = &'a Slice<B>>) -> AnswerHold {
        let mut bytes = 0;
        let mut last: Option<&Rc<Block<B>>> = None;
        for slice in slices {
            match slice {
                // Slices come in the order of the log, so those of one block stand beside each other.
                Slice::Block { block, .. } if last.is_some_and(|last| Rc::ptr_eq(last, block)) => {}
                Slice::Block { block, .. } => {
                    bytes += block.capacity();
                    last = Some(block);
                }
                Slice::Bytes(copied) => bytes += copied.len(),
            }
        }
        self.held.set(self.held.get() + bytes);
        AnswerHold { memory: Rc::clone(self), bytes }
    }
}

/// One answer's part of the memory.
pub struct AnswerHold {
    memory: Rc<AnswerMemory>,
    bytes: usize,
}

impl fmt::Debug for AnswerHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnswerHold({})", self.bytes)
    }
}

impl Drop for AnswerHold {
    fn drop(&mut self) {
        self.memory.held.set(self.memory.held.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Memory(Vec<u8>);

    impl Buffer for Memory {
        fn as_ptr(&self) -> *const u8 {
            self.0.as_ptr()
        }
        fn bytes(&self) -> usize {
            self.0.len()
        }
        fn as_slice(&self) -> &[u8] {
            &self.0
        }
        fn as_mut_slice(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    #[test]
    fn a_block_counts_once_and_whole_until_the_answer_is_gone() {
        let memory = AnswerMemory::new(10_000);
        let block = Rc::new(Block::new(Memory(vec![0; 4096]), 4096));
        let slice = |range| Slice::Block { block: Rc::clone(&block), range };
        let slices = [slice(0..10), slice(10..20), Slice::Bytes(bytes::Bytes::from_static(b"abc"))];
        let hold = memory.hold(slices.iter());
        assert_eq!(memory.held_bytes(), 4096 + 3);
        assert_eq!(memory.room_bytes(), 10_000 - 4099);
        drop(hold);
        assert_eq!(memory.held_bytes(), 0);
    }
}
