//! What a terminal shows while a suite runs: one line, written anew each second. Elsewhere one plain line for each finished
//! trial, on standard error, and nothing else.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use super::estimate::Left;
use crate::lab::result::{Trial, Window};
use crate::lab::workload::{Rate, Workload};
use crate::report::float;

/// Columns of a terminal that does not say how many it has.
const COLUMNS: u16 = 80;

/// Shows how far a suite is.
pub(crate) struct Progress {
    is_terminal: bool,
    began: Instant,
    /// Trials that are finished, those of earlier commands included.
    done: u32,
    /// What this command had to do at first and has to do still, by the estimate.
    at_first_s: f64,
    left: Left,
    /// Seconds that were left when the last trial was finished, and when that was.
    left_then: (f64, Instant),
}

/// What is under way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doing {
    pub(crate) target: String,
    pub(crate) workload: String,
    /// What part of it, for example `warm-up`.
    pub(crate) phase: &'static str,
    /// Records per second that are due; `None` at full speed.
    pub(crate) per_s: Option<f64>,
}

impl Doing {
    pub(crate) fn new(target: &str, workload: &Workload, phase: &'static str) -> Doing {
        let per_s = match workload.rate {
            Rate::Max => None,
            Rate::PerSecond(per_s) => Some(per_s),
        };
        Doing { target: target.to_owned(), workload: workload.name.clone(), phase, per_s }
    }
}

impl Progress {
    pub(crate) fn new(done: u32, left: Left) -> Progress {
        let is_terminal = io::stderr().is_terminal();
        let began = Instant::now();
        Progress { is_terminal, began, done, at_first_s: left.seconds, left, left_then: (left.seconds, began) }
    }

    /// Shows a second of what is under way.
    pub(crate) fn second(&self, doing: &Doing, window: &Window) {
        let figures = figures(doing, window);
        self.show(doing, &figures);
    }

    /// Shows what is under way where there are no figures yet.
    pub(crate) fn begin(&self, doing: &Doing) {
        self.show(doing, "");
    }

    /// Counts a finished trial; `left` is what is still to be done.
    pub(crate) fn finished(&mut self, trial: &Trial, left: Left) {
        self.done += 1;
        self.left = left;
        let left_s = time_left(self.at_first_s, left.seconds, self.began.elapsed().as_secs_f64());
        self.left_then = (left_s, Instant::now());
        self.note(&format!("{} of {}  {}", self.done, self.all(), summary(trial)));
    }

    /// Says something that stays.
    pub(crate) fn note(&self, line: &str) {
        self.clear();
        eprintln!("{line}");
    }

    /// Removes the line.
    pub(crate) fn clear(&self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn show(&self, doing: &Doing, figures: &str) {
        if !self.is_terminal {
            return;
        }
        let (left_s, then) = self.left_then;
        let left = format!("{} left", time(left_s - then.elapsed().as_secs_f64()));
        let count = format!("{} of {}", self.done + 1, self.all());
        let parts = [&count, &doing.target, &doing.workload, doing.phase, figures, &left];
        let line = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<&str>>().join("  ");
        let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(COLUMNS, |size| size.ws_col).max(20);
        let line: String = line.chars().take(usize::from(columns) - 1).collect();
        eprint!("\r\x1b[K{line}");
        // A line that cannot be shown is not worth ending a suite for.
        let _ = io::stderr().flush();
    }

    fn all(&self) -> u32 {
        self.done + self.left.trials
    }
}

/// Seconds that are left, when the estimate was `at_first_s` for all and is `left_s` now, after `elapsed_s`. The estimate is
/// trusted at first and then more and more what was seen.
fn time_left(at_first_s: f64, left_s: f64, elapsed_s: f64) -> f64 {
    let done_s = at_first_s - left_s;
    if done_s <= 0.0 {
        return left_s;
    }
    let trust = (done_s / at_first_s).clamp(0.0, 1.0);
    let pace = (elapsed_s / done_s).clamp(0.25, 4.0);
    left_s * (1.0 - trust + trust * pace)
}

/// Rates and latencies of a second.
fn figures(doing: &Doing, window: &Window) -> String {
    let offered = doing.per_s.map_or_else(|| "max".to_owned(), |per_s| format!("{per_s:.0}/s"));
    let behind = doing.per_s.map_or("", |per_s| {
        // More than a second's records without an answer: the broker does not keep up.
        if float(window.unacknowledged) > per_s { "  behind" } else { "  on schedule" }
    });
    format!(
        "{offered}  {}/s {:.1} MB/s  p50 {} p99 {}{behind}",
        window.produced_records,
        float(window.produced_bytes) / 1e6,
        latency(window.p50_us),
        latency(window.p99_us)
    )
}

/// One line about a finished trial.
pub(crate) fn summary(trial: &Trial) -> String {
    let variant = if trial.target.variant.is_empty() { String::new() } else { format!(" ({})", trial.target.variant) };
    let mut line = format!("{}{variant}  {}  {}", trial.target.name, trial.theme, trial.workload.name);
    if let Some(load) = &trial.load {
        let per_s = |count: u64| float(count) / load.seconds.max(f64::MIN_POSITIVE);
        if load.produced.records > 0 {
            line += &format!("  {:.0}/s {:.1} MB/s", per_s(load.produced.records), per_s(load.produced.bytes) / 1e6);
        }
        if load.consumed.records > 0 {
            line += &format!("  consumed {:.1} MB/s", per_s(load.consumed.bytes) / 1e6);
        }
        if load.caught_up.records > 0 {
            line += &format!("  caught up {:.1} MB/s", per_s(load.caught_up.bytes) / 1e6);
        }
        if let Some(produce) = load.produce_latency.as_ref().filter(|_| trial.workload.rate != Rate::Max) {
            line += &format!(
                "  p50 {} p99 {} p99.9 {}",
                latency(produce.p50_us),
                latency(produce.p99_us),
                latency(produce.p999_us)
            );
        }
    } else if let Some(ready_ms) = trial.ready_ms.filter(|_| trial.theme == "start-time") {
        line += &format!("  ready in {ready_ms:.0} ms");
    }
    if let Some(server) = &trial.server {
        line += &format!("  CPU {:.1} %", 100.0 * server.cpu_s / server.seconds.max(f64::MIN_POSITIVE));
    }
    for objection in &trial.verdict {
        line += &format!("  [{}]", words(objection));
    }
    line
}

/// An objection in words.
fn words(objection: &crate::lab::result::Objection) -> String {
    use crate::lab::result::Objection;
    match objection {
        Objection::GeneratorLimited { cpu_share } => {
            format!("generator-limited: {:.0} % of its CPU", cpu_share * 100.0)
        }
        Objection::BehindSchedule { late_p99_us } => format!("generator late: {}", latency(*late_p99_us)),
        Objection::NotSustained { acknowledged_share } => format!("not sustained: {:.1} %", acknowledged_share * 100.0),
        Objection::Errors { count, first } => format!("{count} errors: {first}"),
        Objection::NotWarm => "not warm".to_owned(),
    }
}

fn latency(us: u64) -> String {
    if us < 1000 { format!("{us} us") } else { format!("{:.1} ms", float(us) / 1000.0) }
}

/// A time as people say it: `1 h 05 min`, `12 min`, `40 s`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn time(seconds: f64) -> String {
    // Below a hundred years.
    let seconds = seconds.clamp(0.0, 3e9).round() as u64;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0 | 1) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doing(per_s: Option<f64>) -> Doing {
        Doing { per_s, ..Doing::default() }
    }

    #[test]
    fn a_broker_is_behind_when_more_than_a_second_of_records_waits_for_it() {
        let window = |unacknowledged| Window {
            produced_records: 900,
            produced_bytes: 1_500_000,
            p50_us: 950,
            p99_us: 12_340,
            unacknowledged,
            ..Window::default()
        };
        let line = figures(&doing(Some(1000.0)), &window(900));
        assert_eq!(line, "1000/s  900/s 1.5 MB/s  p50 950 us p99 12.3 ms  on schedule");
        assert!(figures(&doing(Some(1000.0)), &window(1100)).ends_with("behind"));
        assert!(figures(&doing(None), &window(1_000_000)).ends_with("ms"), "full speed has no schedule");
    }

    #[test]
    fn the_time_left_follows_the_estimate_first_and_then_what_was_seen() {
        assert!((time_left(1000.0, 1000.0, 10.0) - 1000.0).abs() < 1e-9);
        // Half is done in twice the time that was estimated.
        assert!((time_left(1000.0, 500.0, 1000.0) - 750.0).abs() < 1e-9);
        assert!(time_left(1000.0, 0.0, 2000.0).abs() < 1e-9);
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let said: Vec<String> = [0.4, 90.0, 150.0, 3900.0, 7325.0].map(time).into();
        assert_eq!(said, ["0 s", "90 s", "2 min", "1 h 05 min", "2 h 02 min"]);
    }
}
