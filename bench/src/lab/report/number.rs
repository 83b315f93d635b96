//! Figures as text: three significant digits, thousands apart, units that fit.

use super::statistics::{Ratio, Spread};

/// What stands where there is no figure.
pub(super) const NONE: &str = "–";

/// Three significant digits, thousands apart: `1,230,000`, `259`, `1.23`, `0.0123`.
pub(super) fn plain(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    // Rounding comes first: 999.6 has four digits before the point once it is rounded.
    let rounded = format!("{value:.2e}").parse().unwrap_or(value);
    let decimals = (0..6).find(|&decimals| rounded.abs() * 10_f64.powi(decimals) >= 99.95).unwrap_or(6);
    grouped(&format!("{rounded:.*}", usize::try_from(decimals).unwrap_or(0)))
}

/// All digits of a count, thousands apart.
pub(super) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// Three significant digits and a letter for thousands: `1.23 M`; for axes.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e9 => format!("{} G", trimmed(value / 1e9)),
        size if size >= 1e6 => format!("{} M", trimmed(value / 1e6)),
        size if size >= 1e3 => format!("{} k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

/// A duration given in microseconds: `259 µs`, `1.26 ms`, `2.10 s`.
pub(super) fn duration_us(us: f64) -> String {
    match us {
        us if us >= 999_500.0 => format!("{} s", plain(us / 1e6)),
        us if us >= 999.5 => format!("{} ms", plain(us / 1e3)),
        _ => format!("{} µs", plain(us)),
    }
}

/// The same for axes: `10 ms`.
pub(super) fn duration_us_short(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", trimmed(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", trimmed(us / 1e3)),
        _ => format!("{} µs", trimmed(us)),
    }
}

/// A size in bytes, in powers of 1024: `1.5 GiB`, `16 KiB`.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes {
        size if size >= 1_073_741_824.0 => format!("{} GiB", trimmed(size / 1_073_741_824.0)),
        size if size >= 1_048_576.0 => format!("{} MiB", trimmed(size / 1_048_576.0)),
        size if size >= 1024.0 => format!("{} KiB", trimmed(size / 1024.0)),
        size => format!("{} B", trimmed(size)),
    }
}

/// A share of 0 to 1 in percent.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", trimmed(share * 100.0))
}

/// How far repeats lie apart: `1.20 – 1.31 ms`; empty for one alone.
pub(super) fn range(spread: Spread, notation: fn(f64) -> String) -> String {
    if spread.count < 2 {
        return String::new();
    }
    let (min, max) = (notation(spread.min), notation(spread.max));
    match (min.rsplit_once(' '), max.rsplit_once(' ')) {
        // Where the line is too long it breaks at the dash and not before the unit.
        (Some((min, unit)), Some((max, other))) if unit == other => format!("{min} – {max}\u{a0}{unit}"),
        _ => format!("{min} – {max}"),
    }
}

/// `2.01 ×`.
pub(super) fn times(ratio: Ratio) -> String {
    format!("{} ×", plain(ratio.median))
}

/// How far it may be off by the repeats: `1.90 – 2.11`; empty where there was one of each.
pub(super) fn times_range(ratio: Ratio) -> String {
    if ratio.min < ratio.max { format!("{} – {}", plain(ratio.min), plain(ratio.max)) } else { String::new() }
}

/// Both: `2.01 × (1.90 – 2.11)`.
pub(super) fn times_with_range(ratio: Ratio) -> String {
    match times_range(ratio) {
        range if range.is_empty() => times(ratio),
        range => format!("{} ({range})", times(ratio)),
    }
}

/// Three significant digits without zeros at the end: `1.5`, `20`.
fn trimmed(value: f64) -> String {
    let text = plain(value);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, rest)| (whole, Some(rest)));
    let mut out = String::from(sign);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_significant_digits() {
        let texts = [1_234_567.0, 259.3, 1.2345, 0.012_34, 999.6, -1234.0, 99.96, 0.0, f64::NAN].map(plain);
        assert_eq!(texts, ["1,230,000", "259", "1.23", "0.0123", "1,000", "-1,230", "100", "0", "–"]);
    }

    #[test]
    fn durations_choose_their_unit() {
        assert_eq!([259.0, 999.7, 1260.0, 2_100_000.0].map(duration_us), ["259 µs", "1.00 ms", "1.26 ms", "2.10 s"]);
        assert_eq!([1.0, 10_000.0, 5_000_000.0].map(duration_us_short), ["1 µs", "10 ms", "5 s"]);
    }

    #[test]
    fn sizes_and_shares_have_no_empty_digits() {
        assert_eq!([100.0, 16_384.0, 1_610_612_736.0].map(bytes), ["100 B", "16 KiB", "1.5 GiB"]);
        assert_eq!([0.254, 1.0].map(percent), ["25.4 %", "100 %"]);
        assert_eq!([1_500_000.0, 50.0, 2000.0].map(short), ["1.5 M", "50", "2 k"]);
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn one_value_has_no_range() {
        let one = Spread { median: 2.0, min: 2.0, max: 2.0, count: 1 };
        assert_eq!(range(one, plain), "");
        assert_eq!(range(Spread { max: 3.0, count: 2, ..one }, plain), "2.00 – 3.00");
    }

    #[test]
    fn a_ratio_of_single_trials_has_no_range() {
        let one = Ratio { median: 2.0, min: 2.0, max: 2.0 };
        assert_eq!(times_with_range(one), "2.00 ×");
        assert_eq!(times_with_range(Ratio { min: 1.5, ..one }), "2.00 × (1.50 – 2.00)");
    }

    #[test]
    fn a_range_names_its_unit_once() {
        let range_of = |min, max| range(Spread { median: min, min, max, count: 2 }, duration_us);
        assert_eq!(range_of(1_100.0, 1_200.0), "1.10 – 1.20\u{a0}ms");
        assert_eq!(range_of(900.0, 1_200.0), "900 µs – 1.20 ms");
    }
}
