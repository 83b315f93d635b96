//! Limits of reading what is in no cache of this host: direct, anywhere in a file. What is below the host may have it cached.

use std::error::Error;

use super::Sequence;
use super::blocks::{Act, Blocks, TestFile};
use super::round::{Clock, Pace, Work};
use crate::lab::result::Limit;

/// Block sizes with their depths.
const READS: [(usize, usize); 3] = [(4 * 1024, 16), (128 * 1024, 4), (1024 * 1024, 2)];

pub(super) fn measure(file: &TestFile, pace: Pace) -> Result<Vec<Limit>, Box<dyn Error>> {
    let read = |(block_bytes, depth)| {
        let work = Work { name: "cold read", block_bytes, depth, clock: Clock::Process, is_timed: true };
        let mut blocks = Blocks::new(file.file(), block_bytes, depth)?;
        let (mut sequence, count) = (Sequence(1), file.blocks(block_bytes));
        work.measure(pace, |meter| blocks.run(Act::Read, std::iter::repeat_with(|| sequence.below(count)), meter))
    };
    READS.into_iter().map(read).collect()
}
