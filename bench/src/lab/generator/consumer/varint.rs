//! The signed numbers of a record's head.

/// Walks the numbers at the start of some bytes.
pub(super) struct Varints<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Varints<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Varints<'a> {
        Varints { bytes, at: 0 }
    }

    /// Bytes that were read.
    pub(super) fn used(&self) -> usize {
        self.at
    }

    /// Passes over bytes; none if there are not so many.
    pub(super) fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at += bytes;
        (self.at <= self.bytes.len()).then_some(())
    }

    /// The next number; none if it is cut off or longer than 64 bits.
    pub(super) fn next(&mut self) -> Option<i64> {
        let mut zigzag = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        None
    }
}
