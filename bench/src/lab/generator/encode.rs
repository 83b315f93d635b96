//! Records in bytes, written straight to where they are sent from.

use crate::lab::number::{size, wide};

/// Appends a record: due `after_us` after the first of its batch, the `index`-th of it, its value in two pieces.
pub(super) fn record(out: &mut Vec<u8>, after_us: u64, index: u32, key: Option<&[u8]>, value: &[u8], value_end: &[u8]) {
    let value_bytes = value.len() + value_end.len();
    let body_bytes = 1
        + varint_bytes(after_us)
        + varint_bytes(u64::from(index))
        + key.map_or(1, |key| varint_bytes(wide(key.len())) + key.len())
        + varint_bytes(wide(value_bytes))
        + value_bytes
        + 1;
    varint(out, wide(body_bytes));
    out.push(0);
    varint(out, after_us);
    varint(out, u64::from(index));
    match key {
        // A length of -1.
        None => out.push(1),
        Some(key) => {
            varint(out, wide(key.len()));
            out.extend_from_slice(key);
        }
    }
    varint(out, wide(value_bytes));
    out.extend_from_slice(value);
    out.extend_from_slice(value_end);
    // No headers.
    out.push(0);
}

/// Most bytes that a record adds to its key and value.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 32;

/// Appends a number that is not negative, in zigzag.
fn varint(out: &mut Vec<u8>, value: u64) {
    let mut zigzag = value << 1;
    while zigzag >= 0x80 {
        out.push(zigzag.to_le_bytes()[0] | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag.to_le_bytes()[0]);
}

/// Bytes of such a number.
pub(super) fn varint_bytes(value: u64) -> usize {
    let bits = size(u64::BITS - (value << 1).leading_zeros()).max(1);
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corelane::protocol::record_batch::RecordsIter;

    #[test]
    fn records_decode_to_what_was_written() {
        let mut out = Vec::new();
        record(&mut out, 0, 0, None, b"", b"");
        record(&mut out, 63, 1, Some(b"key"), b"ab", b"cd");
        record(&mut out, 70_000_000, 2, Some(b""), &[7; 5_000], &[8; 60]);
        let records: Vec<_> = RecordsIter::new(&out, 3).map(Result::unwrap).collect();
        assert_eq!(records.iter().map(|record| record.timestamp_delta).collect::<Vec<_>>(), [0, 63, 70_000_000]);
        assert_eq!(records.iter().map(|record| record.offset_delta).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(records[0].key, None);
        assert_eq!((records[1].key, records[1].value), (Some(&b"key"[..]), Some(&b"abcd"[..])));
        assert_eq!(records[2].value.map(<[u8]>::len), Some(5_060));
    }

    #[test]
    fn a_record_adds_no_more_than_its_overhead() {
        let mut out = Vec::new();
        record(&mut out, u64::from(u32::MAX), u32::MAX, Some(&[1; 1_000]), &[1; 100_000], b"");
        assert!(out.len() <= 101_000 + RECORD_OVERHEAD_BYTES);
    }
}
