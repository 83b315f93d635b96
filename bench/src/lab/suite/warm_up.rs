//! Whether a server is warm: two windows in a row of 10 s each alike in CPU per byte and in p50.

use super::definition::WarmUpRule;
use crate::lab::result::Window;
use crate::report::median;

/// Length of a window, in seconds.
pub(crate) const WINDOW_S: u32 = 10;
/// By how much two windows may differ, as a share of the earlier.
const TOLERANCE: f64 = 0.05;

/// What a window under load looked like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    /// CPU time of the server per byte of records, in seconds.
    pub(crate) cpu_s_per_byte: f64,
    /// Median of the seconds' medians of the produce latency, in microseconds.
    pub(crate) p50_us: f64,
}

/// What to do after a second under load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Warmth {
    /// Go on.
    Warming,
    /// It has settled.
    Settled,
    /// Its time is over and it has not.
    Unsettled,
}

impl Figures {
    /// Of the seconds of a window, in which the server spent `cpu_s`; `None` if nothing was produced in it.
    pub(crate) fn of(seconds: &[Window], cpu_s: f64) -> Option<Figures> {
        let bytes: u64 = seconds.iter().map(|second| second.produced_bytes).sum();
        let p50s = seconds.iter().map(|second| second.p50_us).filter(|p50_us| *p50_us > 0);
        let p50_us = median(p50s.map(crate::report::float));
        (bytes > 0 && p50_us > 0.0).then(|| Figures { cpu_s_per_byte: cpu_s / crate::report::float(bytes), p50_us })
    }

    /// True when both figures changed by no more than the tolerance. A server whose CPU time is not known spends none.
    pub(crate) fn is_like(&self, earlier: &Figures) -> bool {
        let is_close = |now: f64, before: f64| (now - before).abs() <= before * TOLERANCE;
        is_close(self.cpu_s_per_byte, earlier.cpu_s_per_byte) && is_close(self.p50_us, earlier.p50_us)
    }
}

/// Judges after `elapsed_s` seconds under load, of whose whole windows `windows` are the figures.
pub(crate) fn judge(rule: WarmUpRule, elapsed_s: u32, windows: &[Option<Figures>]) -> Warmth {
    let is_alike = match windows {
        [.., Some(earlier), Some(last)] => last.is_like(earlier),
        _ => false,
    };
    if elapsed_s >= rule.at_least_s && is_alike {
        Warmth::Settled
    } else if elapsed_s >= rule.at_most_s {
        Warmth::Unsettled
    } else {
        Warmth::Warming
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: WarmUpRule = WarmUpRule { at_least_s: 60, at_most_s: 180 };

    fn figures(cpu: f64, p50_us: f64) -> Option<Figures> {
        Some(Figures { cpu_s_per_byte: cpu, p50_us })
    }

    #[test]
    fn a_server_has_settled_when_two_windows_in_a_row_are_alike() {
        assert_eq!(judge(RULE, 70, &[figures(2.0, 900.0), figures(1.0, 500.0), figures(0.96, 520.0)]), Warmth::Settled);
        assert_eq!(judge(RULE, 70, &[figures(1.0, 500.0), figures(0.94, 500.0)]), Warmth::Warming);
        assert_eq!(judge(RULE, 70, &[figures(1.0, 500.0), figures(1.0, 530.0)]), Warmth::Warming);
    }

    #[test]
    fn alike_windows_do_not_end_the_warm_up_before_its_least_time() {
        assert_eq!(judge(RULE, 50, &[figures(1.0, 500.0), figures(1.0, 500.0)]), Warmth::Warming);
    }

    #[test]
    fn a_server_that_never_settles_is_not_waited_for() {
        assert_eq!(judge(RULE, 180, &[figures(1.0, 500.0), figures(2.0, 500.0)]), Warmth::Unsettled);
        assert_eq!(judge(RULE, 180, &[None, None]), Warmth::Unsettled);
    }

    #[test]
    fn a_warm_up_shorter_than_two_windows_never_settles() {
        let short = WarmUpRule { at_least_s: 3, at_most_s: 3 };
        assert_eq!(judge(short, 3, &[]), Warmth::Unsettled);
    }

    #[test]
    fn figures_are_per_byte_and_leave_out_seconds_without_an_answer() {
        let second = |produced_bytes, p50_us| Window { produced_bytes, p50_us, ..Window::default() };
        let figures = Figures::of(&[second(100, 7), second(0, 0), second(300, 9)], 2.0).unwrap();
        assert!((figures.cpu_s_per_byte - 0.005).abs() < 1e-12);
        assert!((figures.p50_us - 7.0).abs() < 1e-12);
        assert_eq!(Figures::of(&[second(0, 0)], 2.0), None);
    }
}
