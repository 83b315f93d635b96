//! Bars from zero, one below the other, each named above and valued at its end.

use maud::{Markup, html};

use super::super::look::Look;
use super::super::statistics::Spread;

const WIDTH: f64 = 480.0;
/// From one bar to the next.
const ROW: f64 = 38.0;
/// Room for the value at a bar's end.
const RIGHT: f64 = 96.0;
const BAR: f64 = 13.0;
/// Where the name's baseline lies in a row, and where the bar begins.
const NAME_Y: f64 = 13.0;
const BAR_Y: f64 = 19.0;

/// A picture of bars; less is better or more is, as the title says.
pub(in super::super) struct BarChart {
    pub(in super::super) title: String,
    pub(in super::super) note: String,
    pub(in super::super) bars: Vec<Bar>,
}

/// One bar.
pub(in super::super) struct Bar {
    pub(in super::super) name: String,
    pub(in super::super) look: Look,
    pub(in super::super) spread: Spread,
    /// What it is made of, from left to right; empty for one piece.
    pub(in super::super) parts: Vec<f64>,
    pub(in super::super) counts: bool,
    /// The value as text.
    pub(in super::super) value: String,
    /// Smaller, behind the name.
    pub(in super::super) remark: String,
}

impl BarChart {
    /// The picture with its title and note.
    pub(in super::super) fn draw(&self) -> Markup {
        let largest = self.bars.iter().map(|bar| bar.spread.max).fold(f64::MIN_POSITIVE, f64::max);
        let scale = (WIDTH - RIGHT) / largest;
        let height = self.bars.iter().fold(4.0, |height, _| height + ROW);
        html! {
            figure.chart {
                figcaption { strong { (self.title) } @if !self.note.is_empty() { br; span.note { (self.note) } } }
                svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(self.title) {
                    @for (bar, top) in self.bars.iter().zip((0_u32..).map(|row| f64::from(row) * ROW)) {
                        (bar.draw(top, scale))
                    }
                }
            }
        }
    }
}

impl Bar {
    fn draw(&self, top: f64, scale: f64) -> Markup {
        let (end, y) = (self.spread.median * scale, top + BAR_Y);
        html! {
            g.bar.(self.look.class) {
                title { (self.name) ": " (self.value) " " (self.remark) }
                text.name x="1" y=(format!("{:.1}", top + NAME_Y)) {
                    (self.name)
                    @if !self.remark.is_empty() { tspan.remark { "  " (self.remark) } }
                }
                rect.fill.void[!self.counts] x="1" y=(format!("{y:.1}")) width=(format!("{end:.1}")) height=(BAR) {}
                (self.joints(y, scale))
                @if self.spread.count > 1 { (self.whisker(y, scale)) }
                text.value.struck-text[!self.counts]
                    x=(format!("{:.1}", self.spread.max * scale + 8.0)) y=(format!("{:.1}", y + BAR - 2.0)) { (self.value) }
            }
        }
    }

    /// Where one part ends and the next begins.
    fn joints(&self, y: f64, scale: f64) -> Markup {
        let ends = self.parts.iter().scan(0.0, |end, value| {
            *end += value;
            Some(*end)
        });
        html! {
            @for end in ends { path.joint d=(format!("M{:.1} {y:.1}v{BAR}", end * scale)) {} }
        }
    }

    /// From the smallest to the largest repeat.
    fn whisker(&self, y: f64, scale: f64) -> Markup {
        let (from, to, middle) = (self.spread.min * scale, self.spread.max * scale, y + BAR / 2.0);
        html! {
            path.whisker d=(format!("M{from:.1} {:.1}v6m0 -3H{to:.1}m0 -3v6", middle - 3.0)) {}
        }
    }
}
