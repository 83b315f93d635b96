//! Lines over an axis, each named at its end.

use std::fmt::Write;

use maud::{Markup, html};

use super::super::look::Look;
use super::axis::Axis;
use super::{shortened, spread_apart};

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
/// Room for the marks of the vertical axis.
const LEFT: f64 = 58.0;
/// Room for the names of the lines.
const RIGHT: f64 = 124.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 46.0;
/// Height of one name.
const NAME_HEIGHT: f64 = 16.0;
/// Letters of a name at most.
const NAME_LETTERS: usize = 17;

/// A picture of lines.
pub(in super::super) struct LineChart {
    pub(in super::super) title: String,
    /// What a reader must know of it.
    pub(in super::super) note: String,
    pub(in super::super) x: Axis,
    pub(in super::super) y: Axis,
    pub(in super::super) series: Vec<Series>,
}

/// One line.
pub(in super::super) struct Series {
    pub(in super::super) name: String,
    pub(in super::super) look: Look,
    pub(in super::super) points: Vec<Point>,
    /// A value of x that deserves a flag on the horizontal axis, with its words.
    pub(in super::super) flag: Option<(f64, String)>,
}

/// One point of a line.
pub(in super::super) struct Point {
    pub(in super::super) x: f64,
    pub(in super::super) y: f64,
    /// Its figures in words; without them it is but a part of the line.
    pub(in super::super) words: Option<String>,
    pub(in super::super) marker: Mark,
    /// Whether the line comes here from the point before.
    pub(in super::super) joined: bool,
}

/// How a point is marked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) enum Mark {
    /// Not at all.
    Hidden,
    /// As one that counts.
    Full,
    /// As one that does not.
    Void,
}

impl LineChart {
    /// The picture with its title and note.
    pub(in super::super) fn draw(&self) -> Markup {
        html! {
            figure.chart {
                figcaption { strong { (self.title) } @if !self.note.is_empty() { br; span.note { (self.note) } } }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                    (self.axes())
                    @for series in &self.series { (self.line(series)) }
                    (self.names())
                }
            }
        }
    }

    fn axes(&self) -> Markup {
        html! {
            g.axes {
                @for (value, text) in &self.y.marks {
                    @let y = self.y(*value);
                    path.grid d=(format!("M{LEFT} {y:.1}H{:.1}", WIDTH - RIGHT)) {}
                    text.mark.end x=(LEFT - 6.0) y=(format!("{:.1}", y + 4.0)) { (text) }
                }
                @for (value, text) in &self.x.marks {
                    @let x = self.x(*value);
                    path.grid.faint d=(format!("M{x:.1} {TOP}V{:.1}", HEIGHT - BOTTOM)) {}
                    text.mark.middle x=(format!("{x:.1}")) y=(HEIGHT - BOTTOM + 16.0) { (text) }
                }
                path.base d=(format!("M{LEFT} {:.1}H{:.1}", HEIGHT - BOTTOM, WIDTH - RIGHT)) {}
                text.axis x="4" y="14" { (self.y.label) }
                text.axis.middle x=((LEFT + WIDTH - RIGHT) / 2.0) y=(HEIGHT - 8.0) { (self.x.label) }
            }
        }
    }

    fn line(&self, series: &Series) -> Markup {
        let mut path = String::new();
        for point in &series.points {
            // A line of no length is a dot, by its round ends: a point between two gaps can be seen.
            let (command, end) = if point.joined && !path.is_empty() { ("L", "") } else { ("M", "h0") };
            let _ = write!(path, "{command}{:.1} {:.1}{end}", self.x(point.x), self.y(point.y));
        }
        html! {
            g.series.(series.look.class) {
                path.line d=(path) {}
                @if let Some((value, words)) = &series.flag {
                    @let x = self.x(*value);
                    path.flag d=(format!("M{x:.1} {:.1}v-12", HEIGHT - BOTTOM)) { title { (words) } }
                    path.flag.top d=(format!("M{x:.1} {:.1}l7 3.5l-7 3.5Z", HEIGHT - BOTTOM - 12.0)) {}
                }
                @for point in &series.points {
                    @let (x, y) = (self.x(point.x), self.y(point.y));
                    @if let Some(words) = &point.words {
                        g.point {
                            title { (series.name) ": " (words) }
                            @if point.marker != Mark::Hidden { (series.look.marker(x, y, point.marker == Mark::Full)) }
                            circle.touch cx=(format!("{x:.1}")) cy=(format!("{y:.1}")) r="6" {}
                        }
                    }
                }
            }
        }
    }

    /// The names right of the lines' ends, apart from each other, each tied to its end.
    fn names(&self) -> Markup {
        let named: Vec<(&Series, &Point)> =
            self.series.iter().filter_map(|series| Some((series, series.points.last()?))).collect();
        let wanted: Vec<f64> = named.iter().map(|(_, last)| self.y(last.y)).collect();
        let placed = spread_apart(&wanted, NAME_HEIGHT, HEIGHT - BOTTOM);
        let edge = WIDTH - RIGHT;
        html! {
            @for ((series, last), y) in named.iter().zip(placed) {
                g.name.(series.look.class) {
                    path.tie d=(format!("M{:.1} {:.1}L{:.1} {y:.1}", self.x(last.x), self.y(last.y), edge + 6.0)) {}
                    (series.look.marker(edge + 11.0, y, true))
                    text x=(edge + 18.0) y=(format!("{:.1}", y + 4.0)) { (shortened(&series.name, NAME_LETTERS)) }
                }
            }
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }
}
