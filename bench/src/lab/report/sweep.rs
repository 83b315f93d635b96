//! One thing raised step by step: the rate of a ladder, or the number of partitions.

use maud::Markup;

use super::super::result::TargetKind;
use super::super::workload::Rate;
use super::chart::axis::Axis;
use super::chart::line::{LineChart, Point, Series};
use super::figure::P99;
use super::group::{Group, by_workload, same_but_partitions, same_but_rate};
use super::look::Look;
use super::number;
use super::pictures::{mark, rate_words, section, values};
use super::statistics::{Knee, Outcome, Rung, knee};
use super::verdict;

/// p99 by the rate that was offered, with the knee of each target.
pub(super) fn ladder(groups: &[Group<'_>]) -> Markup {
    let mut charts = Vec::new();
    for family in by_workload(groups, "ladder", same_but_rate) {
        let series: Vec<Series> = by_target(&family).into_iter().filter_map(|rungs| ladder_series(&rungs)).collect();
        if series.is_empty() {
            continue;
        }
        let rates = series.iter().flat_map(|series| &series.points).map(|point| point.x);
        let x = Axis::logarithmic("offered records/s", rates, number::short);
        let y = Axis::logarithmic("produce p99", values(&series), number::duration_us_short);
        let knees: Vec<String> =
            series.iter().filter_map(|series| Some(format!("{}: {}", series.name, series.flag.as_ref()?.1))).collect();
        let title = family[0].workload.name.clone();
        charts.push(LineChart { title, note: knees.join("; "), x, y, series }.draw());
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
    match objections.any(verdict::server_failed) {
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
    Some(Point { x, y: figure.spread.median, words: Some(words), marker: mark(figure.counts), joined: true })
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
