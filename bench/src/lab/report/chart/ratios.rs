//! Ratios on a logarithmic axis around 1: a dot for the median, a line from the least to the most.

use maud::{Markup, html};

use super::super::number;
use super::super::statistics::Ratio;
use super::axis::Axis;
use super::shortened;

const WIDTH: f64 = 480.0;
const ROW: f64 = 23.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 20.0;
/// Room for the names.
const LEFT: f64 = 216.0;
/// Room for half of the last mark.
const RIGHT: f64 = 20.0;
/// Letters of a name at most, with the metric behind it.
const NAME_LETTERS: usize = 32;
/// Room that a value takes.
const VALUE_WIDTH: f64 = 60.0;

/// A picture of ratios.
pub(in super::super) struct RatioChart {
    pub(in super::super) title: String,
    pub(in super::super) rows: Vec<RatioRow>,
    /// Values that the axis must hold, so that several pictures have the same.
    pub(in super::super) ends: Vec<f64>,
}

/// One of them.
pub(in super::super) struct RatioRow {
    pub(in super::super) name: String,
    pub(in super::super) metric: &'static str,
    pub(in super::super) ratio: Ratio,
}

impl RatioChart {
    /// The picture; names stand left of their lines.
    pub(in super::super) fn draw(&self) -> Markup {
        let ends = self.ends.iter().copied().chain([0.5, 2.0]);
        let axis = Axis::logarithmic("", ends, |value| format!("{} ×", number::short(value)));
        let rows_height = self.rows.iter().fold(0.0, |height, _| height + ROW);
        let height = TOP + rows_height + BOTTOM;
        let x = |value: f64| LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT);
        html! {
            figure.chart.ratios {
                svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(self.title) {
                    text.mark.end x=(format!("{:.1}", x(1.0) - 8.0)) y="12" { "Kafka is better ←" }
                    text.mark x=(format!("{:.1}", x(1.0) + 8.0)) y="12" { "→ Corelane is better" }
                    @for (value, name) in &axis.marks {
                        path.grid.one[(value - 1.0).abs() < 1e-9] d=(format!("M{:.1} {TOP}v{rows_height}", x(*value))) {}
                        text.mark.middle x=(format!("{:.1}", x(*value))) y=(height - 5.0) { (name) }
                    }
                    @for (row, top) in self.rows.iter().zip((0_u32..).map(|row| TOP + f64::from(row) * ROW)) {
                        (row.draw(top, x))
                    }
                }
            }
        }
    }
}

impl RatioRow {
    fn draw(&self, top: f64, x: impl Fn(f64) -> f64) -> Markup {
        let (y, median) = (top + ROW / 2.0, x(self.ratio.median));
        let name = shortened(&self.name, NAME_LETTERS.saturating_sub(self.metric.len()));
        // The value stands between its dot and 1 where there is room for it, and else on the other side.
        let inside = median - x(1.0) > VALUE_WIDTH;
        html! {
            g.ratio.corelane {
                title { (self.name) ", " (self.metric) ": " (number::times_with_range(self.ratio)) }
                text.name x="1" y=(format!("{:.1}", y + 4.0)) { (name) " " tspan.remark { (self.metric) } }
                path.whisker d=(format!("M{:.1} {y:.1}H{:.1}", x(self.ratio.min), x(self.ratio.max))) {}
                circle.fill cx=(format!("{median:.1}")) cy=(format!("{y:.1}")) r="4.5" {}
                @if inside {
                    text.value.end x=(format!("{:.1}", x(self.ratio.min) - 6.0)) y=(format!("{:.1}", y + 4.0)) {
                        (number::times(self.ratio))
                    }
                } @else {
                    text.value x=(format!("{:.1}", x(self.ratio.max) + 8.0)) y=(format!("{:.1}", y + 4.0)) {
                        (number::times(self.ratio))
                    }
                }
            }
        }
    }
}
