//! Rounds of one kind of work, and the limit that they amount to.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::to_u64;
use crate::lab::measure::process;
use crate::lab::result::Limit;
use crate::report::{float, median};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Rounds of each kind of work.
    pub(super) rounds: usize,
    /// Length of a round.
    pub(super) time: Duration,
    /// Size of the file that is written to and read from.
    pub(super) file_bytes: u64,
}

impl Pace {
    /// Well under a minute in all.
    pub(crate) const THOROUGH: Pace =
        Pace { rounds: 5, time: Duration::from_millis(200), file_bytes: 512 * 1024 * 1024 };
    /// Under ten seconds in all.
    pub(crate) const QUICK: Pace = Pace { rounds: 3, time: Duration::from_millis(40), file_bytes: 128 * 1024 * 1024 };
}

/// Whose CPU time counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    /// That of the calling thread: the other end of the work is in this process too.
    Thread,
    /// That of the process: the kernel's workers for a ring are threads of it.
    Process,
}

impl Clock {
    fn read(self) -> Result<Duration, Box<dyn Error>> {
        match self {
            Clock::Thread => Ok(process::thread_clock()?),
            Clock::Process => Ok(process::cpu_time(std::process::id())?.total),
        }
    }
}

/// One kind of work.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) name: &'static str,
    pub(super) block_bytes: usize,
    pub(super) depth: usize,
    pub(super) clock: Clock,
    /// Whether the time of one piece means something.
    pub(super) is_timed: bool,
}

/// Counts pieces of work within one round.
pub(super) struct Meter {
    end: Instant,
    /// When the last piece was done. The clock is read once for each piece: that of a small one takes little longer.
    now: Instant,
    operations: u64,
    /// In nanoseconds.
    latencies: Histogram<u64>,
}

impl Meter {
    /// Whether the round was over when the last piece was done.
    pub(super) fn is_over(&self) -> bool {
        self.now >= self.end
    }

    /// When the last piece was done, or the round began.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// One piece is done, which was begun at this moment.
    pub(super) fn count(&mut self, began: Instant) {
        self.now = Instant::now();
        self.operations += 1;
        let time = self.now.duration_since(began);
        self.latencies.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
    }
}

/// What one round came to.
struct Round {
    bytes: u64,
    operations: u64,
    elapsed: Duration,
    cpu: Duration,
    p50_us: f64,
    p99_us: f64,
}

impl Work {
    /// Repeats `round`, which does pieces of work until its meter says that it is over, and gives the medians. A round before
    /// them does not count.
    pub(super) fn measure(
        self,
        pace: Pace,
        mut round: impl FnMut(&mut Meter) -> io::Result<()>,
    ) -> Result<Limit, Box<dyn Error>> {
        self.round(pace.time / 4, &mut round)?;
        let mut rounds = Vec::new();
        for _ in 0..pace.rounds {
            rounds.push(self.round(pace.time, &mut round)?);
        }
        Ok(self.limit(&rounds))
    }

    fn round(
        self,
        time: Duration,
        round: &mut impl FnMut(&mut Meter) -> io::Result<()>,
    ) -> Result<Round, Box<dyn Error>> {
        let latencies = Histogram::new_with_bounds(1, 60_000_000_000, 3)?;
        let (cpu_before, began) = (self.clock.read()?, Instant::now());
        let mut meter = Meter { end: began + time, now: began, operations: 0, latencies };
        round(&mut meter).map_err(|error| format!("{} of {} bytes: {error}", self.name, self.block_bytes))?;
        let (elapsed, cpu) = (began.elapsed(), self.clock.read()? - cpu_before);
        let quantile = |share| float(meter.latencies.value_at_quantile(share)) / 1000.0;
        Ok(Round {
            bytes: meter.operations * to_u64(self.block_bytes),
            operations: meter.operations,
            elapsed,
            cpu,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
        })
    }

    fn limit(self, rounds: &[Round]) -> Limit {
        let of = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure));
        let timed = |us: f64| self.is_timed.then_some(us);
        Limit {
            work: self.name.to_owned(),
            block_bytes: to_u64(self.block_bytes),
            depth: u32::try_from(self.depth).expect("depths are small"),
            bytes_per_s: of(&|round| float(round.bytes) / round.elapsed.as_secs_f64()),
            operations_per_s: of(&|round| float(round.operations) / round.elapsed.as_secs_f64()),
            p50_us: timed(of(&|round| round.p50_us)),
            p99_us: timed(of(&|round| round.p99_us)),
            cpu_ns_per_kib: of(&|round| crate::report::ns_per_kib(round.cpu, round.bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(is_timed: bool) -> Work {
        Work { name: "write", block_bytes: 1024, depth: 4, clock: Clock::Thread, is_timed }
    }

    fn round(operations: u64, cpu_us: u64, p50_us: f64) -> Round {
        let (elapsed, cpu) = (Duration::from_secs(2), Duration::from_micros(cpu_us));
        Round { bytes: operations * 1024, operations, elapsed, cpu, p50_us, p99_us: 2.0 * p50_us }
    }

    #[test]
    fn a_limit_is_the_median_of_its_rounds() {
        let limit = work(true).limit(&[round(100, 50, 7.0), round(300, 60, 5.0), round(200, 1000, 9.0)]);
        assert!((limit.operations_per_s - 100.0).abs() < 1e-9);
        assert!((limit.bytes_per_s - 102_400.0).abs() < 1e-9);
        // 500, 200 and 5,000 ns per KiB.
        assert!((limit.cpu_ns_per_kib - 500.0).abs() < 1e-9);
        assert_eq!((limit.p50_us, limit.p99_us), (Some(7.0), Some(14.0)));
        assert_eq!(work(false).limit(&[round(1, 1, 1.0)]).p50_us, None);
    }

    #[test]
    fn a_round_counts_what_was_done_until_its_end() {
        let pace = Pace { rounds: 1, time: Duration::from_millis(5), file_bytes: 0 };
        let limit = work(true).measure(pace, |meter| {
            while !meter.is_over() {
                let began = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                meter.count(began);
            }
            Ok(())
        });
        let limit = limit.expect("nothing fails");
        assert!(limit.operations_per_s > 0.0 && limit.operations_per_s <= 1000.0);
        assert!(limit.p50_us.expect("it is timed") >= 1000.0);
    }
}
