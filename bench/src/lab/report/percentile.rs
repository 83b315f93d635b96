//! Latency by percentile: where the tails of targets part.

use std::error::Error;

use maud::Markup;

use super::super::result::{Latency, Trial};
use super::chart::axis::Axis;
use super::chart::line::{LineChart, Mark, Point, Series};
use super::curve::{merged, percentiles};
use super::figure::{P99, end_to_end, produce};
use super::group::{Group, families, speakers};
use super::look::Look;
use super::number;
use super::pictures::{mark, rate_words, section, values, void_words};

/// Latency by percentile, over all repeats that count.
///
/// Errors: a histogram that cannot be read.
pub(super) fn by_percentile(groups: &[Group<'_>]) -> Result<Markup, Box<dyn Error>> {
    let mut charts = Vec::new();
    for family in families(groups) {
        let shown = speakers(&family, &P99);
        for (title, of) in [("produce", produce as fn(&Trial) -> Option<&Latency>), ("end to end", end_to_end)] {
            let curves = shown.iter().filter_map(|group| series(group, group.target.name.clone(), of).transpose());
            let curves = curves.collect::<Result<Vec<_>, _>>()?;
            let note = format!("{}, {title}{}", rate_words(family[0].workload), void_words(&shown));
            charts.extend(chart(family[0].workload.name.clone(), note, curves));
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
pub(super) fn series(
    group: &Group<'_>,
    name: String,
    of: fn(&Trial) -> Option<&Latency>,
) -> Result<Option<Series>, Box<dyn Error>> {
    let histogram = merged(group.speaking().into_iter().filter_map(of))?;
    if histogram.is_empty() {
        return Ok(None);
    }
    let marker = mark(!group.is_void());
    let points = percentiles(&histogram).into_iter().enumerate().map(|(index, point)| {
        let whole = index == 0 || (point.nines - point.nines.round()).abs() < 1e-6;
        let quarter = index == 0 || (point.nines * 4.0 - (point.nines * 4.0).round()).abs() < 1e-6;
        let words = format!("{} of records within {}", share(point.share), number::duration_us(point.us));
        Point {
            x: point.nines,
            y: point.us,
            words: quarter.then_some(words),
            marker: if whole { marker } else { Mark::Hidden },
            joined: index > 0,
        }
    });
    Ok(Some(Series { name, look: Look::of(group.target), points: points.collect(), flag: None }))
}

/// Curves over one axis; `None` without any.
pub(super) fn chart(title: String, note: String, series: Vec<Series>) -> Option<Markup> {
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
