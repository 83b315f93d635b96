//! Records in bytes, written straight to where they are sent from.

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

fn varint_bytes(value: u64) -> usize {
    let bits = size(u64::BITS - (value << 1).leading_zeros()).max(1);
    bits.div_ceil(7)
}

use crate::lab::number::{size, wide};
