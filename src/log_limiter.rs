//! At most one log line a second per cause, so that a peer cannot fill the disk with our words.

use std::cell::Cell;

use crate::limits::LOG_INTERVAL_US;
use crate::types::MonotonicUs;

/// Decides whether a line about one cause may be written now, and counts what was kept back.
#[derive(Debug, Default)]
pub struct LogLimiter {
    last: Cell<Option<MonotonicUs>>,
    suppressed: Cell<u64>,
}

impl LogLimiter {
    /// `Some` when the line may be written, with how many were kept back since the last one.
    pub fn allow(&self, now: MonotonicUs) -> Option<u64> {
        if self.last.get().is_some_and(|last| now.since_us(last) < LOG_INTERVAL_US) {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.last.set(Some(now));
        Some(self.suppressed.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_the_rest_counted() {
        let limiter = LogLimiter::default();
        let at = |us| MonotonicUs::new(us);
        assert_eq!(limiter.allow(at(5)), Some(0));
        assert_eq!(limiter.allow(at(6)), None);
        assert_eq!(limiter.allow(at(1_000_004)), None);
        assert_eq!(limiter.allow(at(1_000_005)), Some(2));
        assert_eq!(limiter.allow(at(2_000_005)), Some(0));
    }
}
