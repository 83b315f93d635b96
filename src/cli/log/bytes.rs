//! Sizes in words, as `du -h` has them.

/// Bytes with a unit and one decimal: `1.5 GiB`.
pub(super) fn text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (bytes.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal() {
        let all = [0, 1023, 1024, 1536, 64 << 20, (1 << 30) - 1, u64::MAX].map(text);
        assert_eq!(all, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "64.0 MiB", "1023.9 MiB", "1638.3 PiB"]);
    }
}
