//! How far a long read has come: a bar with the time that is left on a terminal, else a line now and then. On stderr.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::bytes;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Progress {
    bar: ProgressBar,
    all_bytes: u64,
    is_terminal: bool,
    began: Instant,
    told: Instant,
}

impl Progress {
    /// Of a read of so many bytes.
    pub(super) fn new(all_bytes: u64) -> Progress {
        const TEMPLATE: &str =
            "{bar:30} {percent:>3} %  {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
        let is_terminal = std::io::stderr().is_terminal();
        let target = if is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(all_bytes), target);
        bar.set_style(ProgressStyle::with_template(TEMPLATE).expect("the template is one"));
        let now = Instant::now();
        Progress { bar, all_bytes, is_terminal, began: now, told: now }
    }

    /// So many bytes were read.
    pub(super) fn on_read(&mut self, read_bytes: u64) {
        let read_bytes = read_bytes.min(self.all_bytes);
        self.bar.set_position(read_bytes);
        if self.is_terminal || self.told.elapsed() < LINE_EVERY {
            return;
        }
        self.told = Instant::now();
        let left = time_left(self.began.elapsed(), read_bytes, self.all_bytes);
        eprintln!("read {} of {}, {} s left", bytes::text(read_bytes), bytes::text(self.all_bytes), left.as_secs());
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// If the rest goes on as it went so far.
fn time_left(elapsed: Duration, read_bytes: u64, all_bytes: u64) -> Duration {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let left_ms = u128::from(elapsed_ms) * u128::from(all_bytes - read_bytes) / u128::from(read_bytes.max(1));
    Duration::from_millis(u64::try_from(left_ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_part_before_it() {
        assert_eq!(time_left(Duration::from_secs(10), 100, 400), Duration::from_secs(30));
        assert_eq!(time_left(Duration::from_secs(10), 400, 400), Duration::ZERO);
    }
}
