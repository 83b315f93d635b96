//! Limits of writing: direct, one block behind the other as a log does it, and with a flush behind each.

use std::error::Error;
use std::os::unix::fs::FileExt;

use super::blocks::{Act, Blocks, TestFile};
use super::round::{Clock, Pace, Work};
use crate::lab::result::Limit;
use crate::region::Region;

/// Into a file that was written before.
pub(super) const WRITE: &str = "write";
/// Into a file that grows with each write.
const WRITE_GROWING: &str = "write, growing";
const WRITE_FLUSH: &str = "write+flush";

const BLOCK_BYTES: [usize; 4] = [4 * 1024, 16 * 1024, 128 * 1024, 1024 * 1024];
const DEPTHS: [usize; 3] = [1, 4, 16];
const FLUSHED_BYTES: [usize; 3] = [4 * 1024, 64 * 1024, 1024 * 1024];

pub(super) fn measure(file: &TestFile, pace: Pace) -> Result<Vec<Limit>, Box<dyn Error>> {
    let mut limits = Vec::new();
    for block_bytes in BLOCK_BYTES {
        for depth in DEPTHS {
            limits.push(written_before(file, work(WRITE, block_bytes, depth), pace)?);
            limits.push(growing(file, work(WRITE_GROWING, block_bytes, depth), pace)?);
        }
    }
    for block_bytes in FLUSHED_BYTES {
        limits.push(flushed(file, work(WRITE_FLUSH, block_bytes, 1), pace)?);
    }
    Ok(limits)
}

fn work(name: &'static str, block_bytes: usize, depth: usize) -> Work {
    Work { name, block_bytes, depth, clock: Clock::Process, is_timed: true }
}

fn written_before(file: &TestFile, work: Work, pace: Pace) -> Result<Limit, Box<dyn Error>> {
    let mut blocks = Blocks::new(file.file(), work.block_bytes, work.depth)?;
    let mut places = (0..file.blocks(work.block_bytes)).cycle();
    work.measure(pace, |meter| blocks.run(Act::Write, places.by_ref(), meter))
}

/// Each round begins with an empty file; one that is full ends it.
fn growing(file: &TestFile, work: Work, pace: Pace) -> Result<Limit, Box<dyn Error>> {
    let file = file.growing()?;
    let mut blocks = Blocks::new(file.file(), work.block_bytes, work.depth)?;
    work.measure(pace, |meter| {
        file.file().set_len(0)?;
        blocks.run(Act::Write, 0..file.blocks(work.block_bytes), meter)
    })
}

/// A write and the flush behind it are one operation.
fn flushed(file: &TestFile, work: Work, pace: Pace) -> Result<Limit, Box<dyn Error>> {
    let mut block = Region::new(work.block_bytes)?;
    let mut places = (0..file.blocks(work.block_bytes)).cycle();
    work.measure(pace, |meter| {
        while let (false, Some(place)) = (meter.is_over(), places.next()) {
            let began = meter.now();
            file.file().write_all_at(block.bytes(), place * super::to_u64(work.block_bytes))?;
            file.file().sync_data()?;
            meter.count(began);
        }
        Ok(())
    })
}
