//! The checksum of a batch whose records were checksummed before: only its header is left to do.

/// CRC-32C of records that follow something else. CRCs are linear: that of two parts is that of the first, moved over the
/// length of the second, plus that of the second. The move is kept as a matrix of bits.
#[derive(Clone, Debug)]
pub(super) struct Suffix {
    crc: u32,
    /// What each bit of the first part's CRC becomes.
    columns: [u32; 32],
}

impl Suffix {
    pub(super) fn new(records: &[u8]) -> Suffix {
        let columns = std::array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, records.len()));
        Suffix { crc: crc32c::crc32c(records), columns }
    }

    /// CRC-32C of `first` and the records behind it.
    pub(super) fn after(&self, first: &[u8]) -> u32 {
        let mut left = crc32c::crc32c(first);
        let mut crc = self.crc;
        while left != 0 {
            crc ^= self.columns[crate::lab::number::size(left.trailing_zeros())];
            left &= left - 1;
        }
        crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_give_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..20_000_u32).map(|index| (index * index).to_le_bytes()[1]).collect();
        for (first, end) in [(0, 1), (40, 41), (40, 1_000), (40, 20_000), (1, 17_000)] {
            let suffix = Suffix::new(&bytes[first..end]);
            assert_eq!(suffix.after(&bytes[..first]), crc32c::crc32c(&bytes[..end]));
        }
    }
}
