//! Conversions between widths of integers that cannot fail here: 64-bit Linux, counts far below their types' bounds.

/// A count or a size in 64 bits.
pub(crate) fn wide(count: usize) -> u64 {
    u64::try_from(count).expect("a usize has 64 bits")
}

/// A count or an index for memory.
pub(crate) fn size(count: u32) -> usize {
    usize::try_from(count).expect("a usize has 64 bits")
}

/// A count that a bound keeps below 2^32.
pub(crate) fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("the count was bounded before")
}

/// A count as Kafka's protocol has it, which a bound keeps below 2^31.
pub(crate) fn signed(count: usize) -> i32 {
    i32::try_from(count).expect("the count was bounded before")
}
