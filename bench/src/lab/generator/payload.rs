//! What values consist of: random bytes and one repeated byte, in the workload's proportion.

use super::bounds::RANDOM_BYTES;
use super::random::Random;
use crate::lab::number::{size, wide};

/// Cuts values from a stock of bytes.
pub(super) struct Payload {
    random: Random,
    noise: Vec<u8>,
    filler: Vec<u8>,
    random_share: f64,
}

impl Payload {
    /// For values of at most `value_bytes_max`, of which `random_share` is random.
    pub(super) fn new(value_bytes_max: u32, random_share: f64, seed: u64) -> Payload {
        let mut random = Random::new(seed);
        let bytes = RANDOM_BYTES.max(2 * size(value_bytes_max));
        let noise = std::iter::repeat_with(|| random.next().to_le_bytes()).flatten().take(bytes).collect();
        Payload { random, noise, filler: vec![b'x'; size(value_bytes_max)], random_share }
    }

    /// A value of `bytes`, in two pieces.
    pub(super) fn value(&mut self, bytes: u32) -> (&[u8], &[u8]) {
        let random = size(share(bytes, self.random_share));
        let start = size(self.random.below(wide(self.noise.len() - random)));
        (&self.noise[start..start + random], &self.filler[..size(bytes) - random])
    }
}

/// The part of a size, rounded to the nearest.
fn share(bytes: u32, share: f64) -> u32 {
    // A share lies between 0 and 1, so the product is a u32 again.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let part = (f64::from(bytes) * share).round() as u32;
    part.min(bytes)
}
