//! When records are due: evenly spaced from a start on, computed and never counted down, so that nothing drifts.

use super::clock::SECOND_NS;

/// Femtoseconds of a nanosecond.
const NANOSECOND_FS: u128 = 1_000_000;

/// The even spacing of the records of one producer. In femtoseconds, so that a day at a million records per second is
/// off by less than a microsecond a minute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Interval {
    fs: u64,
}

impl Interval {
    /// Of records at this rate per second: above a thousandth, at most a thousand million.
    pub(super) fn of_rate(per_second: f64) -> Interval {
        // The time of a million records in nanoseconds is the time of one in femtoseconds.
        let million = std::time::Duration::from_secs_f64(1e6 / per_second);
        Interval { fs: u64::try_from(million.as_nanos()).unwrap_or(u64::MAX).max(1) }
    }

    /// Nanoseconds from one record to the `count`-th after it.
    pub(super) fn times(self, count: u64) -> u64 {
        u64::try_from(u128::from(count) * u128::from(self.fs) / NANOSECOND_FS).unwrap_or(u64::MAX)
    }

    /// Records that fit into a time, the one at its start included.
    fn records_in(self, time_ns: u64) -> u64 {
        let fs = (u128::from(time_ns) + 1) * NANOSECOND_FS - 1;
        u64::try_from(fs / u128::from(self.fs)).unwrap_or(u64::MAX - 1) + 1
    }
}

/// The records of one producer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start_ns: u64,
    pub(super) interval: Interval,
}

impl Schedule {
    /// Of producer `index` of `producers`, of which the first begins at `start_ns`: the others begin evenly within one
    /// interval, so that all together are as even as each.
    pub(super) fn staggered(start_ns: u64, interval: Interval, index: u32, producers: u32) -> Schedule {
        let share = interval.times(u64::from(index)) / u64::from(producers);
        Schedule { start_ns: start_ns + share, interval }
    }

    /// When record `index` is due.
    pub(super) fn due(&self, index: u64) -> u64 {
        self.start_ns + self.interval.times(index)
    }

    /// How many records are due by `now_ns`.
    pub(super) fn due_by(&self, now_ns: u64) -> u64 {
        now_ns.checked_sub(self.start_ns).map_or(0, |time| self.interval.records_in(time))
    }
}

/// Nanoseconds of so many seconds, for bounds that are given in seconds or fractions.
pub(super) fn nanoseconds(seconds: f64) -> u64 {
    u64::try_from(std::time::Duration::from_secs_f64(seconds).as_nanos()).unwrap_or(u64::MAX).min(SECOND_NS * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_records_are_due_as_the_rate_says() {
        for rate in [0.5, 1.0, 3.0, 7_777.7, 50_000.0, 700_000.0, 3_000_000.0] {
            let schedule = Schedule::staggered(5, Interval::of_rate(rate), 0, 1);
            assert_eq!(schedule.due_by(4), 0);
            assert_eq!(schedule.due_by(5), 1);
            let minute = crate::report::float(schedule.due_by(60 * SECOND_NS));
            assert!((minute / 60.0 / rate - 1.0).abs() < 1e-6 + 1.0 / (60.0 * rate), "{rate}: {minute}");
        }
    }

    #[test]
    fn a_record_is_counted_exactly_from_the_moment_it_is_due() {
        let schedule = Schedule::staggered(0, Interval::of_rate(700_001.0), 2, 5);
        for index in [0, 1, 2, 1000, 123_456_789] {
            let due = schedule.due(index);
            assert_eq!(schedule.due_by(due), index + 1, "{index}");
            assert_eq!(schedule.due_by(due - 1), index, "{index}");
        }
    }

    #[test]
    fn producers_begin_evenly_within_one_interval() {
        let interval = Interval::of_rate(1000.0);
        let starts: Vec<u64> = (0..4).map(|index| Schedule::staggered(0, interval, index, 4).due(0)).collect();
        assert_eq!(starts, [0, 250_000, 500_000, 750_000]);
    }
}
