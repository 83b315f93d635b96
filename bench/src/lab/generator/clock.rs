//! The one clock of a run: nanoseconds since the run began, the same for all threads.

use std::time::Instant;

use super::bounds::TIMESTAMP_BASE;

/// Nanoseconds of a second.
pub(super) const SECOND_NS: u64 = 1_000_000_000;
/// Nanoseconds of a microsecond.
pub(super) const MICROSECOND_NS: u64 = 1_000;

/// The clock. Monotonic; not steered by the machine's date.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    zero: Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { zero: Instant::now() }
    }

    /// Nanoseconds since the start. 64 bits last for centuries.
    pub(super) fn now(self) -> u64 {
        u64::try_from(self.zero.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The timestamp of a record that is due at this moment.
pub(super) fn timestamp(due_ns: u64) -> i64 {
    i64::try_from(due_ns / MICROSECOND_NS + TIMESTAMP_BASE).unwrap_or(i64::MAX)
}

/// Microseconds from when a record with this timestamp was due until `now_ns`; none for one that no run of ours sent.
pub(super) fn since_timestamp(timestamp: i64, now_ns: u64) -> Option<u64> {
    let due_us = u64::try_from(timestamp).ok()?.checked_sub(TIMESTAMP_BASE)?;
    (now_ns / MICROSECOND_NS).checked_sub(due_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_tells_when_its_record_was_due() {
        assert_eq!(since_timestamp(timestamp(7_000_000), 9_500_000), Some(2_500));
        assert_eq!(since_timestamp(timestamp(0), 0), Some(0));
    }

    #[test]
    fn foreign_timestamps_give_no_latency() {
        assert_eq!(since_timestamp(-1, 5), None);
        assert_eq!(since_timestamp(1_764_000_000_000, 9_000_000_000), None);
    }
}
