//! How much cold reads may do beside the log: less while they slow its flushes down.
//!
//! Unlimited reads raised write + flush from 0.1 to 1.8 ms. Additive increase, multiplicative decrease, as in congestion
//! control, against the quickest flush of late. Pure.

use crate::limits::{COLD_FLUSH_SLOWDOWN, COLD_READ_DEPTH};

/// Watches flushes and says how many reads may be in flight.
#[derive(Debug)]
pub(in crate::store) struct Pace {
    /// The quickest flush of late, in 1/256 of a microsecond; it drifts up, so that a device that became slower counts
    /// as usual after some hundred flushes.
    quickest: u64,
    depth: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { quickest: u64::MAX, depth: COLD_READ_DEPTH }
    }
}

impl Pace {
    /// Reads that may be in flight.
    pub(in crate::store) fn depth(&self) -> u32 {
        self.depth
    }

    /// A flush took `flush_us`. Returns the reads that may be in flight from now on.
    pub(in crate::store) fn on_flush(&mut self, flush_us: u64) -> u32 {
        let flush = flush_us.saturating_mul(256).max(256);
        if self.quickest < u64::MAX {
            self.quickest += self.quickest / 128 + 1;
        }
        self.quickest = self.quickest.min(flush);
        let is_slow = flush > self.quickest.saturating_mul(COLD_FLUSH_SLOWDOWN);
        self.depth = if is_slow { (self.depth / 2).max(1) } else { (self.depth + 1).min(COLD_READ_DEPTH) };
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_flushes_take_reads_away_and_quick_ones_give_them_back() {
        let mut pace = Pace::default();
        assert_eq!(pace.on_flush(100), COLD_READ_DEPTH);
        assert_eq!(pace.on_flush(500), COLD_READ_DEPTH);
        assert_eq!(pace.on_flush(2000), COLD_READ_DEPTH / 2);
        assert_eq!(pace.on_flush(2000), COLD_READ_DEPTH / 4);
        assert_eq!(pace.on_flush(100), COLD_READ_DEPTH / 4 + 1);
    }

    #[test]
    fn some_read_is_always_allowed_and_a_slower_device_becomes_the_usual() {
        let mut pace = Pace::default();
        pace.on_flush(0);
        for _ in 0..10 {
            assert!(pace.on_flush(100_000) >= 1);
        }
        for _ in 0..2000 {
            pace.on_flush(100_000);
        }
        assert_eq!(pace.on_flush(100_000), COLD_READ_DEPTH);
    }
}
