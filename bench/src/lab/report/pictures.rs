//! Pictures of latency and throughput: by percentile, over time, by rate and by partitions.

use std::error::Error;

use maud::{Markup, html};

use super::super::result::{Latency, Objection, TargetKind, Trial, Window};
use super::super::workload::{Rate, Workload};
use super::chart::axis::Axis;
use super::chart::line::{LineChart, Mark, Point, Series};
use super::curve::{merged, percentiles};
use super::figure::{CAUGHT_UP_MB_PER_S, MB_PER_S, Metric, P99, end_to_end, leading, produce};
use super::group::{Group, by_workload, same_but_partitions, same_but_rate, speakers};
use super::look::Look;
use super::number;
use super::statistics::{Knee, Outcome, Rung, knee};
use crate::report::float;

/// Themes with a fixed rate whose latencies are worth a picture each.
const LATENCY_THEMES: [&str; 3] = ["latency", "catch-up", "past-recycling"];
/// Themes whose throughput is worth a picture over time.
const THROUGHPUT_THEMES: [&str; 2] = ["throughput", "past-recycling"];
/// Points of a line over time at most.
const POINTS_MAX: usize = 240;

/// Something that is read off one second.
type OfWindow = fn(&Window) -> f64;

/// Latency by percentile, over all repeats that count.
///
/// Errors: a histogram that cannot be read.
pub(super) fn latency_by_percentile(groups: &[Group<'_>]) -> Result<Markup, Box<dyn Error>> {
    let mut charts = Vec::new();
    for family in LATENCY_THEMES.iter().flat_map(|theme| by_workload(groups, theme, |a, b| a == b)) {
        let shown = speakers(&family, &P99);
        for (title, of) in [("produce", produce as fn(&Trial) -> Option<&Latency>), ("end to end", end_to_end)] {
            let curves =
                shown.iter().filter_map(|group| percentile_series(group, group.target.name.clone(), of).transpose());
            let curves = curves.collect::<Result<Vec<_>, _>>()?;
            let note = format!("{}, {title}{}", rate_words(family[0].workload), void_words(&shown));
            charts.extend(percentile_chart(family[0].workload.name.clone(), note, curves));
        }
    }
    Ok(section(
        "Latency by percentile",
        "From the moment a record was due, whatever the server did before. Every step to the right leaves a tenth of the \
         records. All repeats that count, merged.",
        charts,
    ))
}

/// One target's curve; `None` where it has no such latency.
///
/// Errors: a histogram that cannot be read.
pub(super) fn percentile_series(
    group: &Group<'_>,
    name: String,
    of: fn(&Trial) -> Option<&Latency>,
) -> Result<Option<Series>, Box<dyn Error>> {
    let histogram = merged(group.speaking().into_iter().filter_map(of))?;
    if histogram.is_empty() {
        return Ok(None);
    }
    let marker = mark(group.counting().next().is_some());
    let points = percentiles(&histogram).into_iter().map(|point| {
        let whole = (point.nines - point.nines.round()).abs() < 1e-6 && point.nines > 0.5;
        let quarter = (point.nines * 4.0 - (point.nines * 4.0).round()).abs() < 1e-6;
        let words = format!("{} of records within {}", share(point.share), number::duration_us(point.us));
        Point {
            x: point.nines,
            y: point.us,
            words: quarter.then_some(words),
            marker: if whole { marker } else { Mark::Hidden },
        }
    });
    Ok(Some(Series { name, look: Look::of(group.target), points: points.collect(), flag: None }))
}

/// Curves over one axis; `None` without any.
pub(super) fn percentile_chart(title: String, note: String, series: Vec<Series>) -> Option<Markup> {
    let ends = series.iter().filter_map(|series| series.points.last()).map(|last| last.x);
    let nines_max = ends.max_by(f64::total_cmp)?;
    let x = Axis::nines("share of records, %", nines_max);
    let y = Axis::logarithmic("latency", values(&series), number::duration_us_short);
    Some(LineChart { title, note, x, y, series }.draw())
}

/// A share with as many nines as it has.
fn share(share: f64) -> String {
    let percent = format!("{:.4}", share * 100.0);
    format!("{} %", percent.trim_end_matches('0').trim_end_matches('.'))
}

/// p50, p99 and the maximum of every second, one picture for each target.
pub(super) fn latency_over_time(groups: &[Group<'_>]) -> Markup {
    let mut charts = Vec::new();
    for family in LATENCY_THEMES.iter().flat_map(|theme| by_workload(groups, theme, |a, b| a == b)) {
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
            let lines = lines.map(|(name, of)| over_time(name, &look, &load.windows, of, number::duration_us));
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
pub(super) fn throughput_over_time(groups: &[Group<'_>]) -> Markup {
    let families = THROUGHPUT_THEMES.iter().flat_map(|theme| by_workload(groups, theme, |a, b| a == b));
    let charts = families.filter(|family| family[0].workload.rate == Rate::Max).filter_map(|family| {
        windows_chart(&family, &MB_PER_S, "MB/s", |window| float(window.produced_bytes) / 1e6, number::plain)
    });
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
        charts.extend(windows_chart(&family, &CAUGHT_UP_MB_PER_S, "catch-up MB/s", caught_up, number::plain));
        charts.extend(windows_chart(&family, &P99, "live p99", |window| float(window.p99_us), number::duration_us));
    }
    section(
        "Catch-up reads beside live traffic",
        "Readers of old data begin with the oldest while producers go on at their rate: left what they get, right what it \
         does to the live p99.",
        charts,
    )
}

/// All targets of a workload over time, each by its repeat in the middle; `None` where nothing was seen.
fn windows_chart(
    family: &[&Group<'_>],
    metric: &Metric,
    label: &str,
    of: OfWindow,
    notation: fn(f64) -> String,
) -> Option<Markup> {
    let shown = speakers(family, metric);
    let middles: Vec<_> = shown.iter().filter_map(|group| Some((group, group.middle(metric)?.1))).collect();
    let series = middles
        .iter()
        .map(|(group, load)| over_time(&group.target.name, &Look::of(group.target), &load.windows, of, notation));
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

/// p99 by the rate that was offered, with the knee of each target.
pub(super) fn ladder(groups: &[Group<'_>]) -> Markup {
    let mut charts = Vec::new();
    for family in by_workload(groups, "ladder", same_but_rate) {
        let series: Vec<Series> = by_target(&family).into_iter().filter_map(|rungs| ladder_series(&rungs)).collect();
        if series.is_empty() {
            continue;
        }
        let rates = series.iter().flat_map(|series| &series.points).map(|point| point.x);
        let x = Axis::linear("offered records/s", rates, number::short);
        let y = Axis::logarithmic("produce p99", values(&series), number::duration_us_short);
        let knees: Vec<String> =
            series.iter().filter_map(|series| Some(format!("{}: {}", series.name, series.flag.as_ref()?.1))).collect();
        let title = family[0].workload.name.clone();
        charts.push(html! {
            (LineChart { title, note: knees.join("; "), x, y, series }.draw())
        });
    }
    section(
        "Rate ladder",
        "The flag on the axis is the knee: the highest rate up to which the server kept up. Crossed-out points do not count.",
        charts,
    )
}

/// The rungs of one target as a line; `None` where no rung has a latency.
fn ladder_series(rungs: &[&Group<'_>]) -> Option<Series> {
    let rate = |group: &Group<'_>| match group.workload.rate {
        Rate::PerSecond(rate) => rate,
        Rate::Max => f64::INFINITY,
    };
    let mut rungs = rungs.to_vec();
    rungs.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    let tried: Vec<Rung> = rungs.iter().map(|group| Rung { rate: rate(group), outcome: outcome(group) }).collect();
    let flag = match knee(&tried) {
        Some(Knee::At(rate)) => Some((rate, format!("knee {}/s", number::short(rate)))),
        Some(Knee::AtLeast(rate)) => Some((rate, format!("knee at least {}/s", number::short(rate)))),
        Some(Knee::BelowAll) | None => None,
    };
    let points: Vec<Point> = rungs.iter().filter_map(|group| point(group, rate(group), "records/s")).collect();
    let target = rungs.first()?.target;
    (!points.is_empty()).then(|| Series { name: target.name.clone(), look: Look::of(target), points, flag })
}

/// What became of a rate over its repeats: the server's failure in any of them is a failure.
fn outcome(group: &Group<'_>) -> Outcome {
    let mut objections = group.trials.iter().flat_map(|numbered| &numbered.trial.verdict).peekable();
    if objections.peek().is_none() {
        return Outcome::Kept;
    }
    match objections.any(|one| matches!(one, Objection::NotSustained { .. } | Objection::Errors { .. })) {
        true => Outcome::Lost,
        false => Outcome::Open,
    }
}

/// p99 by the number of partitions.
pub(super) fn partitions(groups: &[Group<'_>]) -> Markup {
    let count = |group: &Group<'_>| f64::from(group.workload.topics) * f64::from(group.workload.partitions);
    let charts = by_workload(groups, "partitions", same_but_partitions).into_iter().filter_map(|family| {
        let series: Vec<Series> = by_target(&family)
            .into_iter()
            .filter_map(|mut groups| {
                groups.sort_by(|a, b| count(a).total_cmp(&count(b)));
                let points: Vec<Point> = groups.iter().filter_map(|g| point(g, count(g), "partitions")).collect();
                let target = groups.first()?.target;
                (!points.is_empty()).then(|| Series {
                    name: target.name.clone(),
                    look: Look::of(target),
                    points,
                    flag: None,
                })
            })
            .collect();
        let x = Axis::logarithmic("partitions", family.iter().map(|group| count(group)), number::short);
        let y = Axis::logarithmic("produce p99", values(&series), number::duration_us_short);
        let note = rate_words(family[0].workload);
        (!series.is_empty()).then(|| LineChart { title: "p99 by partitions".to_owned(), note, x, y, series }.draw())
    });
    let charts = charts.collect();
    section(
        "Partitions",
        "The same rate, spread over more and more partitions. Crossed-out points do not count.",
        charts,
    )
}

/// The p99 of a group as a point at `x`.
fn point(group: &Group<'_>, x: f64, of: &str) -> Option<Point> {
    let figure = group.figure(&P99)?;
    let words = format!("{} at {} {of}", number::duration_us(figure.spread.median), number::plain(x));
    Some(Point { x, y: figure.spread.median, words: Some(words), marker: mark(figure.counts) })
}

/// Groups of one family apart by target: one for each kind and durability.
fn by_target<'g, 'a>(family: &[&'g Group<'a>]) -> Vec<Vec<&'g Group<'a>>> {
    let mut targets: Vec<Vec<&Group<'_>>> = Vec::new();
    for group in family {
        match targets.iter_mut().find(|groups| groups[0].same_target(group.target)) {
            Some(groups) => groups.push(group),
            None => targets.push(vec![group]),
        }
    }
    // Of Kafka the variant that keeps the most rates, then the one with the least p99 over them; of others the plain one.
    let rank = |groups: &[&Group<'_>]| {
        let plain = groups[0].target.kind == TargetKind::Kafka || groups[0].target.variant.is_empty();
        let counting = groups.iter().filter_map(|group| group.figure(&P99)).filter(|figure| figure.counts);
        let medians: Vec<f64> = counting.map(|figure| figure.spread.median).collect();
        (plain, medians.len(), -medians.iter().sum::<f64>())
    };
    let mut chosen: Vec<Vec<&Group<'_>>> = Vec::new();
    for groups in targets {
        let alike = |other: &&mut Vec<&Group<'_>>| {
            let (a, b) = (other[0].target, groups[0].target);
            a.name == b.name && a.kind == b.kind && a.durability == b.durability
        };
        match chosen.iter_mut().find(alike) {
            Some(other) if rank(&groups) > rank(other) => *other = groups,
            Some(_) => {}
            None => chosen.push(groups),
        }
    }
    chosen
}

/// A line over the seconds of a trial, without those in which nothing was seen.
fn over_time(name: &str, look: &Look, windows: &[Window], of: OfWindow, notation: fn(f64) -> String) -> Series {
    let every = windows.len().div_ceil(POINTS_MAX).max(1);
    // Of several seconds in one point the worst is shown: an average would hide what the picture is for.
    let points = windows.chunks(every).filter_map(|chunk| {
        let worst = chunk.iter().max_by(|a, b| of(a).total_cmp(&of(b)))?;
        let words = format!("{} at {} s", notation(of(worst)), number::plain(worst.second));
        (of(worst) > 0.0).then(|| Point { x: worst.second, y: of(worst), words: Some(words), marker: Mark::Hidden })
    });
    Series { name: name.to_owned(), look: look.clone(), points: points.collect(), flag: None }
}

fn seconds(windows: &[Window]) -> Axis {
    Axis::linear("seconds", windows.iter().map(|window| window.second), number::short)
}

fn values(series: &[Series]) -> Vec<f64> {
    series.iter().flat_map(|series| &series.points).map(|point| point.y).collect()
}

fn mark(counts: bool) -> Mark {
    if counts { Mark::Full } else { Mark::Void }
}

/// The rate of a workload in words.
pub(super) fn rate_words(workload: &Workload) -> String {
    match workload.rate {
        Rate::Max => "as fast as answers come".to_owned(),
        Rate::PerSecond(rate) => format!("{} records/s", number::plain(rate)),
    }
}

/// Which of the targets shown do not count.
fn void_words(shown: &[&Group<'_>]) -> String {
    let void = shown.iter().filter(|group| group.figure(leading(group.workload)).is_some_and(|figure| !figure.counts));
    let names: Vec<&str> = void.map(|group| group.target.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("; does not count: {}", names.join(", ")) }
}

/// A section of pictures; nothing at all where there are none.
pub(super) fn section(title: &str, text: &str, charts: Vec<Markup>) -> Markup {
    html! {
        @if !charts.is_empty() {
            section.pictures {
                h2 { (title) }
                p { (text) }
                div.charts { @for chart in charts { (chart) } }
            }
        }
    }
}
