//! Limits of memory and of checksums, in the processor's cache and out of it.

use std::error::Error;
use std::hint::black_box;

use super::round::{Clock, Pace, Work};
use crate::lab::result::Limit;
use crate::region::Region;

pub(super) const COPY: &str = "memcpy";
pub(super) const CHECKSUM: &str = "crc32c";
/// Bytes of a copy within the cache.
pub(super) const COPY_CACHED_BYTES: usize = 1024 * 1024;
/// Bytes of a checksum within the cache.
pub(super) const CHECKSUM_CACHED_BYTES: usize = 16 * 1024;
/// Bytes that no cache keeps beside a second piece of as many.
const UNCACHED_BYTES: usize = 64 * 1024 * 1024;

pub(super) fn measure(pace: Pace) -> Result<Vec<Limit>, Box<dyn Error>> {
    let (mut source, mut target) = (Region::new(UNCACHED_BYTES)?, Region::new(UNCACHED_BYTES)?);
    let (source, target) = (source.bytes(), target.bytes());
    // Pages of zeros alone might all be the same one.
    source.fill(0x5a);
    target.fill(0xa5);
    let mut limits = Vec::new();
    for bytes in [COPY_CACHED_BYTES, UNCACHED_BYTES] {
        let copy = || black_box(&mut target[..bytes]).copy_from_slice(black_box(&source[..bytes]));
        limits.push(repeat(COPY, bytes, pace, copy)?);
    }
    for bytes in [CHECKSUM_CACHED_BYTES, UNCACHED_BYTES] {
        let checksum = || crc32c::crc32c(black_box(&source[..bytes]));
        limits.push(repeat(CHECKSUM, bytes, pace, checksum)?);
    }
    Ok(limits)
}

fn repeat<Output>(
    name: &'static str,
    block_bytes: usize,
    pace: Pace,
    mut act: impl FnMut() -> Output,
) -> Result<Limit, Box<dyn Error>> {
    let work = Work { name, block_bytes, depth: 1, clock: Clock::Thread, is_timed: true };
    work.measure(pace, |meter| {
        while !meter.is_over() {
            let began = meter.now();
            black_box(act());
            meter.count(began);
        }
        Ok(())
    })
}
