//! Axes: from a value to a place between 0 and 1, with marks at round values.

/// One axis.
#[derive(Clone, Debug)]
pub(in super::super) struct Axis {
    /// What it shows, with its unit.
    pub(in super::super) label: String,
    /// Where it begins and ends; exponents of ten on a logarithmic one.
    begin: f64,
    end: f64,
    logarithmic: bool,
    /// Values and what is written beside them.
    pub(in super::super) marks: Vec<(f64, String)>,
}

/// How a value is written at an axis.
pub(in super::super) type Notation = fn(f64) -> String;

impl Axis {
    /// From zero to a little beyond the largest of `values`.
    pub(in super::super) fn linear(label: &str, values: impl IntoIterator<Item = f64>, notation: Notation) -> Axis {
        let largest = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max);
        let largest = if largest > 0.0 { largest } else { 1.0 };
        let step = round_up(largest / 5.0);
        let steps = (largest / step).ceil();
        let marks = (0..=20).map(f64::from).take_while(|&index| index <= steps).map(|index| index * step);
        let marks = marks.map(|value| (value, notation(value))).collect();
        Axis { label: label.to_owned(), begin: 0.0, end: steps * step, logarithmic: false, marks }
    }

    /// Over all of `values` that are above zero, between 1, 2 or 5 times powers of ten.
    pub(in super::super) fn logarithmic(
        label: &str,
        values: impl IntoIterator<Item = f64>,
        notation: Notation,
    ) -> Axis {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite() && *value > 0.0).collect();
        let smallest = values.iter().copied().min_by(f64::total_cmp).unwrap_or(1.0);
        let largest = values.iter().copied().max_by(f64::total_cmp).unwrap_or(10.0);
        let mut end = round_up(largest);
        let begin = round_down(smallest);
        if end < begin * 2.5 {
            end = round_up(begin * 2.5);
        }
        let decades = (end / begin).log10();
        let between: &[f64] = match decades {
            decades if decades > 3.3 => &[1.0],
            decades if decades > 1.8 => &[1.0, 3.0],
            _ => &[1.0, 2.0, 5.0],
        };
        let powers = (exponent(begin)..=exponent(end)).map(|power| 10_f64.powi(power));
        let marks = powers.flat_map(|power| between.iter().map(move |factor| factor * power));
        let marks = marks.filter(|value| (begin * 0.999..=end * 1.001).contains(value));
        let marks = marks.map(|value| (value, notation(value))).collect();
        Axis { label: label.to_owned(), begin: begin.log10(), end: end.log10(), logarithmic: true, marks }
    }

    /// Nines from 50 % on, see [`super::super::curve::Percentile`]: nine in ten of the records beyond one mark lie before the next.
    pub(in super::super) fn nines(label: &str, nines_max: f64) -> Axis {
        let named = [(2_f64.log10(), "50"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")];
        let (begin, end) = (2_f64.log10(), nines_max.max(1.0));
        let marks = named.into_iter().filter(|(nines, _)| *nines <= end + 1e-9);
        let marks = marks.map(|(nines, name)| (nines, name.to_owned())).collect();
        Axis { label: label.to_owned(), begin, end, logarithmic: false, marks }
    }

    /// Where `value` lies: 0 at the beginning, 1 at the end, and never beyond.
    pub(in super::super) fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        ((value - self.begin) / (self.end - self.begin)).clamp(0.0, 1.0)
    }
}

/// The exponent of the power of ten at or below.
fn exponent(value: f64) -> i32 {
    let text = format!("{value:e}");
    text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

/// The next of 1, 2 and 5 times a power of ten, at or above.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powi(exponent(value));
    [1.0, 2.0, 5.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|round| *round >= value * 0.999_999)
        .unwrap_or(10.0 * power)
}

/// The next of 1, 2 and 5 times a power of ten, at or below.
fn round_down(value: f64) -> f64 {
    let power = 10_f64.powi(exponent(value));
    [5.0, 2.0].map(|factor| factor * power).into_iter().find(|round| *round <= value * 1.000_001).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::super::super::number;
    use super::*;

    fn names(axis: &Axis) -> Vec<&str> {
        axis.marks.iter().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn linear_axes_begin_at_zero_and_end_at_a_round_value() {
        let axis = Axis::linear("MB/s", [30.0, 1_730.0], number::short);
        assert_eq!(names(&axis), ["0", "500", "1 k", "1.5 k", "2 k"]);
        assert!((axis.place(1_000.0) - 0.5).abs() < 1e-9);
        assert!((axis.place(9_000.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn logarithmic_axes_hold_all_values() {
        let axis = Axis::logarithmic("latency", [230.0, 90_000.0], number::duration_us_short);
        assert_eq!(names(&axis), ["300 µs", "1 ms", "3 ms", "10 ms", "30 ms", "100 ms"]);
        assert!(axis.place(230.0) > 0.0 && axis.place(90_000.0) < 1.0);
        assert!((axis.place(0.0)).abs() < 1e-9, "what is not above zero stands at the edge");
    }

    #[test]
    fn axes_without_values_are_axes_all_the_same() {
        for axis in [Axis::linear("", [], number::short), Axis::logarithmic("", [0.0], number::short)] {
            assert!(axis.place(1.0).is_finite());
            assert!(!axis.marks.is_empty());
        }
    }

    #[test]
    fn every_nine_is_as_wide_as_the_one_before() {
        let axis = Axis::nines("records", 5.0);
        assert_eq!(names(&axis), ["50", "90", "99", "99.9", "99.99", "99.999"]);
        assert!((axis.place(3.0) - axis.place(2.0) - (axis.place(2.0) - axis.place(1.0))).abs() < 1e-9);
        assert!((axis.place(5.0) - 1.0).abs() < 1e-9);
    }
}
