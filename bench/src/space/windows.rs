//! The time of a load cut into windows, each with its cost and latencies: those before the store moved anything, and those since.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::{float, median, quantile_us};

/// What happened in one window.
pub(crate) struct Window {
    /// Bytes of the load's batches that were answered.
    pub(crate) acknowledged: u64,
    /// Bytes that the store moved.
    pub(crate) moved: f64,
    /// That the server took.
    pub(crate) cpu: Duration,
    /// Latencies of the load, written.
    pub(crate) written: Histogram<u64>,
    /// Of the small flushed batches beside it, from when they were due.
    pub(crate) flushed: Option<Histogram<u64>>,
}

type LatenciesOf = fn(&Window) -> Option<&Histogram<u64>>;

/// Prints both kinds of windows and their ratios: sums of what was moved and spent, medians of the latencies that each window
/// had, so that one pause of the machine is one window's. The first window warms up and is left out, as is the one with the first
/// move.
pub(crate) fn print_comparison(windows: &[Window]) {
    let first_move = windows.iter().position(|window| window.moved > 0.0).unwrap_or(windows.len());
    let before = windows.get(1..first_move).unwrap_or(&[]);
    let since = windows.get(first_move + 1..).unwrap_or(&[]);
    if before.is_empty() || since.is_empty() {
        println!("nothing to compare: {} windows before the first move, {} since", before.len(), since.len());
        return;
    }
    println!(
        "windows: {} before anything was moved, {} since; figure, before, since, ratio",
        before.len(),
        since.len()
    );
    let row = |name: &str, figure: &dyn Fn(&[Window]) -> f64| {
        let (before, since) = (figure(before), figure(since));
        println!("{name:<32} {before:>9.2} {since:>9.2} {:>6.2}", since / before);
    };
    row("MB moved per MB produced", &|windows| {
        windows.iter().map(|window| window.moved).sum::<f64>() / acknowledged(windows)
    });
    row("server CPU, ns per KiB produced", &|windows| {
        windows.iter().map(|window| window.cpu.as_secs_f64() * 1e9).sum::<f64>() / (acknowledged(windows) / 1024.0)
    });
    let kinds: [(&str, LatenciesOf); 2] =
        [("written", |window| Some(&window.written)), ("flushed", |window| window.flushed.as_ref())];
    for (kind, of) in kinds {
        for (quantile, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            if windows.iter().any(|window| of(window).is_some()) {
                let figure = |windows: &[Window]| {
                    median(windows.iter().filter_map(of).map(|latencies| quantile_us(latencies, share)))
                };
                row(&format!("{kind}, {quantile}, us"), &figure);
            }
        }
    }
}

fn acknowledged(windows: &[Window]) -> f64 {
    float(windows.iter().map(|window| window.acknowledged).sum())
}
