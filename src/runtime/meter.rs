//! Counts bytes over several threads, and holds them to a rate.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub struct Meter {
    taken_bytes: AtomicU64,
    rate: Option<Rate>,
}

#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    /// When the next bytes may be taken.
    next: Mutex<Instant>,
}

impl Meter {
    /// Counts, and with a rate, in bytes per second and above 0, makes whoever takes more wait.
    pub fn new(bytes_per_second: Option<u64>) -> Meter {
        let rate = bytes_per_second.map(|bytes_per_second| {
            assert!(bytes_per_second > 0);
            Rate { bytes_per_second, next: Mutex::new(Instant::now()) }
        });
        Meter { taken_bytes: AtomicU64::new(0), rate }
    }

    /// Bytes taken so far.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes.load(Ordering::Relaxed)
    }

    /// Takes `bytes`. With a rate it blocks the thread until they are due.
    pub fn take(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).expect("64 bits hold a usize");
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        let Some(rate) = &self.rate else { return };
        let takes_us = bytes.saturating_mul(1_000_000) / rate.bytes_per_second;
        let due = {
            let mut next = rate.next.lock().expect("nothing panics while it is held");
            let due = (*next).max(Instant::now());
            *next = due + Duration::from_micros(takes_us);
            due
        };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_makes_all_wait_who_share_it() {
        let (meter, began) = (Meter::new(Some(1_000_000)), Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..3).for_each(|_| meter.take(20_000)));
            }
        });
        // The first goes at once, the last waits for the five before it.
        assert!(began.elapsed() >= Duration::from_millis(95), "{:?}", began.elapsed());
        assert_eq!(meter.taken_bytes(), 120_000);
    }
}
