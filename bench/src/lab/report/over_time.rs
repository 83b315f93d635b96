//! Second by second: latency, throughput, and catch-up reads beside live traffic.

use maud::Markup;

use super::super::result::Window;
use super::super::workload::Rate;
use super::chart::axis::Axis;
use super::chart::line::{LineChart, Mark, Point, Series};
use super::figure::{Better, CAUGHT_UP_MB_PER_S, MB_PER_S, Metric, P99};
use super::group::{Group, by_workload, families, speakers};
use super::look::Look;
use super::number;
use super::pictures::{rate_words, section, values, void_words};
use crate::report::float;

/// Something that is read off one second.
type OfWindow = fn(&Window) -> f64;

/// p50, p99 and the maximum of every second, one picture for each target.
pub(super) fn latency(groups: &[Group<'_>]) -> Markup {
    let mut charts = Vec::new();
    for family in families(groups) {
        let shown = speakers(&family, &P99);
        let middles: Vec<_> = shown.iter().filter_map(|group| Some((group, group.middle(&P99)?))).collect();
        // One scale for all targets of a workload, or no one could compare them.
        let all = middles.iter().flat_map(|(_, (_, load))| &load.windows);
        let all = all.flat_map(|window| [window.p50_us, window.p99_us, window.max_us]).map(float);
        let y = Axis::logarithmic("latency", all, number::duration_us_short);
        for (group, (numbered, load)) in middles {
            let lines: [(&str, OfWindow); 3] =
                [("max", |w| float(w.max_us)), ("p99", |w| float(w.p99_us)), ("p50", |w| float(w.p50_us))];
            let look = Look::of(group.target);
            let lines = lines.map(|(name, of)| over_time(name, &look, &load.windows, of, &P99));
            let series: Vec<Series> = lines.into_iter().filter(|line| !line.points.is_empty()).collect();
            if series.is_empty() {
                continue;
            }
            let title = format!("{}: {}", group.workload.name, group.label());
            let note = format!("{}, repeat {}", rate_words(group.workload), numbered.trial.repeat + 1);
            charts.push(LineChart { title, note, x: seconds(&load.windows), y: y.clone(), series }.draw());
        }
    }
    section(
        "Latency over time",
        "Second by second, of the repeat in the middle by p99. Pictures of one workload share their scale.",
        charts,
    )
}

/// MB/s of every second at a maximum.
pub(super) fn throughput(groups: &[Group<'_>]) -> Markup {
    let charts = families(groups)
        .into_iter()
        .filter(|family| family[0].workload.rate == Rate::Max)
        .filter_map(|family| windows_chart(&family, &MB_PER_S, "MB/s", |window| float(window.produced_bytes) / 1e6));
    section(
        "Throughput over time",
        "Second by second, of the repeat in the middle. Bytes are keys and values before compression.",
        charts.collect(),
    )
}

/// Catch-up readers and the live latency beside them.
pub(super) fn catch_up(groups: &[Group<'_>]) -> Markup {
    let mut charts = Vec::new();
    for family in by_workload(groups, "catch-up", |a, b| a == b) {
        let caught_up = |window: &Window| float(window.caught_up_bytes) / 1e6;
        charts.extend(windows_chart(&family, &CAUGHT_UP_MB_PER_S, "catch-up MB/s", caught_up));
        charts.extend(windows_chart(&family, &P99, "live p99", |window| float(window.p99_us)));
    }
    section(
        "Catch-up reads beside live traffic",
        "Readers of old data begin with the oldest while producers go on at their rate: left what they get, right what it \
         does to the live p99.",
        charts,
    )
}

/// All targets of a workload over time, each by its repeat in the middle; `None` where nothing was seen.
fn windows_chart(family: &[&Group<'_>], metric: &Metric, label: &str, of: OfWindow) -> Option<Markup> {
    let shown = speakers(family, metric);
    let middles: Vec<_> = shown.iter().filter_map(|group| Some((group, group.middle(metric)?.1))).collect();
    let series = middles
        .iter()
        .map(|(group, load)| over_time(&group.target.name, &Look::of(group.target), &load.windows, of, metric));
    let series: Vec<Series> = series.filter(|series| !series.points.is_empty()).collect();
    let longest = middles.iter().map(|(_, load)| load.windows.as_slice()).max_by_key(|windows| windows.len())?;
    let y = match metric.name == P99.name {
        true => Axis::logarithmic(label, values(&series), number::duration_us_short),
        false => Axis::linear(label, values(&series), number::short),
    };
    let title = family[0].workload.name.clone();
    let note = format!("{}{}", rate_words(family[0].workload), void_words(&shown));
    (!series.is_empty()).then(|| LineChart { title, note, x: seconds(longest), y, series }.draw())
}

/// A line over the seconds of a trial. Of several seconds in one point the worst is shown: an average would hide what the
/// picture is for. Where no latency was seen the line has a gap; where no byte went through it is at zero.
fn over_time(name: &str, look: &Look, windows: &[Window], of: OfWindow, metric: &Metric) -> Series {
    let every = windows.len().div_ceil(POINTS_MAX).max(1);
    let mut points = Vec::new();
    let mut joined = false;
    for chunk in windows.chunks(every) {
        let by_value = |a: &&Window, b: &&Window| of(a).total_cmp(&of(b));
        let worst = match metric.better {
            Better::Less => chunk.iter().max_by(by_value),
            Better::More => chunk.iter().min_by(by_value),
        };
        let seen = worst.filter(|window| metric.better == Better::More || of(window) > 0.0);
        if let Some(window) = seen {
            let words = format!("{} at {} s", (metric.notation)(of(window)), number::plain(window.second));
            points.push(Point { x: window.second, y: of(window), words: Some(words), marker: Mark::Hidden, joined });
        }
        joined = seen.is_some();
    }
    Series { name: name.to_owned(), look: look.clone(), points, flag: None }
}

fn seconds(windows: &[Window]) -> Axis {
    Axis::linear("seconds", windows.iter().map(|window| window.second), number::short)
}

/// Points of a line over time at most.
const POINTS_MAX: usize = 240;

#[cfg(test)]
mod tests {
    use super::super::super::result::{Durability, TargetKind};
    use super::super::fixture::target;
    use super::*;

    fn line(of: impl Fn(u32) -> u64, seconds: u32, metric: &Metric) -> Vec<(f64, bool)> {
        let windows: Vec<Window> = (1..=seconds)
            .map(|second| Window { second: f64::from(second), p99_us: of(second), ..Window::default() })
            .collect();
        let look = Look::of(&target(TargetKind::Corelane, Durability::Written, ""));
        let series = over_time("one", &look, &windows, |window| float(window.p99_us), metric);
        series.points.iter().map(|point| (point.y, point.joined)).collect()
    }

    #[test]
    fn a_second_without_latencies_is_a_gap_and_one_without_bytes_is_zero() {
        let stalled = |second| if second == 2 { 0 } else { 5 };
        assert_eq!(line(stalled, 4, &P99), [(5.0, false), (5.0, false), (5.0, true)]);
        assert_eq!(line(stalled, 4, &MB_PER_S), [(5.0, false), (0.0, true), (5.0, true), (5.0, true)]);
    }

    #[test]
    fn of_seconds_in_one_point_the_worst_is_shown() {
        let spike = |second| if second == 501 { 900 } else { 5 };
        let shown = line(spike, 1000, &P99);
        assert!(shown.len() <= POINTS_MAX && shown.iter().any(|(y, _)| (*y - 900.0).abs() < 1e-9));
        let dip = |second| if second == 501 { 1 } else { 5 };
        assert!(line(dip, 1000, &MB_PER_S).iter().any(|(y, _)| (*y - 1.0).abs() < 1e-9));
    }
}
