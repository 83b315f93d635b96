//! Ratios on a logarithmic axis around 1: a dot for the median, a line from the least to the most.

use maud::{Markup, html};

use super::super::number;
use super::super::statistics::Ratio;
use super::axis::Axis;

const WIDTH: f64 = 480.0;
const ROW: f64 = 34.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 20.0;
/// Margin within which the axis lies.
const SIDE: f64 = 24.0;

/// A picture of ratios.
pub(in super::super) struct RatioChart {
    pub(in super::super) title: String,
    pub(in super::super) rows: Vec<RatioRow>,
}

/// One of them.
pub(in super::super) struct RatioRow {
    pub(in super::super) name: String,
    pub(in super::super) ratio: Ratio,
}

impl RatioChart {
    /// The picture; names stand above their lines.
    pub(in super::super) fn draw(&self) -> Markup {
        let ends = self.rows.iter().flat_map(|row| [row.ratio.min, row.ratio.max]);
        let axis = Axis::logarithmic("", ends.chain([0.5, 2.0]), |value| format!("{} ×", number::short(value)));
        let rows_height = self.rows.iter().fold(0.0, |height, _| height + ROW);
        let height = TOP + rows_height + BOTTOM;
        let x = |value: f64| SIDE + axis.place(value) * (WIDTH - 2.0 * SIDE);
        html! {
            figure.chart.ratios {
                svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(self.title) {
                    text.mark x="1" y="12" { "← Kafka is better" }
                    text.mark.end x=(WIDTH - 1.0) y="12" { "Corelane is better →" }
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
        let (y, median) = (top + 25.0, x(self.ratio.median));
        // The value stands on the side of its dot on which there is more room.
        let on_left = median > WIDTH / 2.0;
        html! {
            g.ratio.corelane {
                title { (self.name) ": " (number::times(self.ratio)) " (" (number::times_range(self.ratio)) ")" }
                text.name x="1" y=(format!("{:.1}", top + 14.0)) { (self.name) }
                path.whisker d=(format!("M{:.1} {y:.1}H{:.1}", x(self.ratio.min), x(self.ratio.max))) {}
                circle.fill cx=(format!("{median:.1}")) cy=(format!("{y:.1}")) r="4.5" {}
                @if on_left {
                    text.value.end x=(format!("{:.1}", x(self.ratio.min).min(median) - 8.0)) y=(format!("{:.1}", y + 4.0)) {
                        (number::times(self.ratio))
                    }
                } @else {
                    text.value x=(format!("{:.1}", x(self.ratio.max).max(median) + 8.0)) y=(format!("{:.1}", y + 4.0)) {
                        (number::times(self.ratio))
                    }
                }
            }
        }
    }
}
