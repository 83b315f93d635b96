//! Snappy in both forms that Kafka's clients send: xerial's framing (Java) and one raw block (librdkafka).
//!
//! The decoder is our own because the format has no frames: a raw block of 48 MiB may expand to a gigabyte, and decoders
//! of whole blocks want that at once. This one keeps the last 64 KiB, which is as far as encoders look back, and hands
//! out what it has decoded a window at a time. A copy that reaches further is refused.
//!
//! ```text
//! xerial   82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version i32 | compatible i32 | ( length i32 | raw block )*     big endian
//! raw      decompressed length, varint | ( literal | copy )*
//! ```

use std::ops::Range;

use super::{Codec, DecompressError};
use crate::limits::{DECOMPRESS_WINDOW_BYTES, SNAPPY_HISTORY_BYTES};

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Version and least compatible version that xerial's encoder writes.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes per chunk of xerial's encoder.
const XERIAL_CHUNK_BYTES: usize = 32 * 1024;
/// Longest copy of one element.
const COPY_BYTES_MAX: usize = 64;

/// What is still to be decoded.
pub(super) struct Stream<'a> {
    /// Behind the current block: more xerial chunks, or nothing.
    rest: &'a [u8],
    framed: bool,
    /// Elements of the current block.
    block: &'a [u8],
    /// Bytes that the current block still owes, of those it declared.
    owed: u32,
    /// Bytes of the current block at the end of the window: how far a copy may reach.
    history: usize,
    /// Bytes of the window that hold decoded data.
    filled: usize,
    /// Bytes of a literal that did not fit into the last window.
    literal: usize,
}

impl<'a> Stream<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Result<Stream<'a>, DecompressError> {
        let mut stream =
            Stream { rest: payload, framed: false, block: &[], owed: 0, history: 0, filled: 0, literal: 0 };
        if payload.starts_with(&XERIAL_MAGIC) {
            stream.framed = true;
            let header_bytes = XERIAL_MAGIC.len() + XERIAL_VERSIONS.len();
            stream.rest = payload.get(header_bytes..).ok_or(TRUNCATED)?;
        } else {
            stream.begin_block(payload)?;
            stream.rest = &[];
        }
        Ok(stream)
    }

    /// Decodes until a window is full or the payload ends. The window keeps the history in front of what is new.
    pub(super) fn refill(&mut self, window: &mut Vec<u8>) -> Result<Range<usize>, DecompressError> {
        let window_bytes = SNAPPY_HISTORY_BYTES + DECOMPRESS_WINDOW_BYTES + COPY_BYTES_MAX;
        window.resize(window_bytes.max(window.len()), 0);
        let keep = self.filled.min(SNAPPY_HISTORY_BYTES);
        window.copy_within(self.filled - keep..self.filled, 0);
        self.filled = keep;
        self.history = self.history.min(keep);
        let full = keep + DECOMPRESS_WINDOW_BYTES;
        while self.filled < full {
            if self.literal > 0 {
                self.literal(window, full)?;
            } else if !self.block.is_empty() {
                self.element(window, full)?;
            } else if self.owed > 0 {
                return Err(TRUNCATED);
            } else if !self.next_block()? {
                break;
            }
        }
        Ok(keep..self.filled)
    }

    /// Moves on to the next xerial chunk; false when there is none.
    fn next_block(&mut self) -> Result<bool, DecompressError> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        let (length, rest) = self.rest.split_first_chunk().ok_or(TRUNCATED)?;
        if self.rest.starts_with(&XERIAL_MAGIC) {
            // Streams may be concatenated: xerial's reader skips a header between chunks.
            self.rest = self.rest.get(XERIAL_MAGIC.len() + XERIAL_VERSIONS.len()..).ok_or(TRUNCATED)?;
            return Ok(true);
        }
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| corrupt("negative chunk length"))?;
        let (block, rest) = rest.split_at_checked(length).ok_or(TRUNCATED)?;
        self.rest = rest;
        self.begin_block(block)?;
        Ok(true)
    }

    /// Reads the declared length in front of a raw block. Nothing is reserved for it; it is only held against the block.
    fn begin_block(&mut self, block: &'a [u8]) -> Result<(), DecompressError> {
        let mut declared = 0_u64;
        let mut rest = block;
        for shift in [0, 7, 14, 21, 28] {
            let byte = *rest.split_off_first().ok_or(TRUNCATED)?;
            declared |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                self.owed = u32::try_from(declared).map_err(|_| corrupt("declared length over 32 bits"))?;
                self.block = rest;
                self.history = 0;
                return Ok(());
            }
        }
        Err(corrupt("declared length over 32 bits"))
    }

    /// Decodes one element; a long literal may be left for the next window.
    fn element(&mut self, window: &mut [u8], full: usize) -> Result<(), DecompressError> {
        let tag = *self.block.split_off_first().ok_or(TRUNCATED)?;
        let upper = usize::from(tag >> 2);
        match tag & 3 {
            0 => {
                let length = if upper < 60 { upper } else { self.little_endian(upper - 59)? };
                self.literal = length + 1;
                if self.literal > self.block.len() {
                    return Err(TRUNCATED);
                }
                self.literal(window, full)
            }
            1 => {
                let low = self.little_endian(1)?;
                self.copy(window, (usize::from(tag >> 5) << 8) | low, (upper & 7) + 4)
            }
            2 => {
                let offset = self.little_endian(2)?;
                self.copy(window, offset, upper + 1)
            }
            _ => {
                let offset = self.little_endian(4)?;
                self.copy(window, offset, upper + 1)
            }
        }
    }

    /// The next `bytes` (at most 4) of the block as a number.
    fn little_endian(&mut self, bytes: usize) -> Result<usize, DecompressError> {
        let head = self.block.split_off(..bytes).ok_or(TRUNCATED)?;
        let mut number = [0; 4];
        number[..bytes].copy_from_slice(head);
        Ok(usize::try_from(u32::from_le_bytes(number)).expect("32 bits fit"))
    }

    /// Copies what fits of the pending literal.
    fn literal(&mut self, window: &mut [u8], full: usize) -> Result<(), DecompressError> {
        let bytes = self.literal.min(full - self.filled);
        let head = self.block.split_off(..bytes).ok_or(TRUNCATED)?;
        self.pay(bytes)?;
        window[self.filled..self.filled + bytes].copy_from_slice(head);
        self.filled += bytes;
        self.history += bytes;
        self.literal -= bytes;
        Ok(())
    }

    /// Repeats `bytes` (at most 64) from `offset` bytes back. Source and target may overlap: then the bytes repeat.
    fn copy(&mut self, window: &mut [u8], offset: usize, bytes: usize) -> Result<(), DecompressError> {
        if offset == 0 || offset > self.history {
            return Err(corrupt("copy from outside the block's last 64 KiB"));
        }
        self.pay(bytes)?;
        let source = self.filled - offset;
        if offset >= bytes {
            window.copy_within(source..source + bytes, self.filled);
        } else {
            for index in 0..bytes {
                window[self.filled + index] = window[source + index];
            }
        }
        self.filled += bytes;
        self.history += bytes;
        Ok(())
    }

    /// Counts decoded bytes against the length that the block declared.
    fn pay(&mut self, bytes: usize) -> Result<(), DecompressError> {
        let bytes = u32::try_from(bytes).map_err(|_| corrupt("more bytes than declared"))?;
        self.owed = self.owed.checked_sub(bytes).ok_or(corrupt("more bytes than declared"))?;
        Ok(())
    }
}

const TRUNCATED: DecompressError = DecompressError::Truncated(Codec::Snappy);

const fn corrupt(cause: &'static str) -> DecompressError {
    DecompressError::Corrupt { codec: Codec::Snappy, cause }
}

/// Appends the payload in xerial's framing, chunks of 32 KiB, as Kafka's producer writes it.
pub(super) fn compress(payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    let mut packed = vec![0; snap::raw::max_compress_len(XERIAL_CHUNK_BYTES)];
    for chunk in payload.chunks(XERIAL_CHUNK_BYTES) {
        let bytes = encoder.compress(chunk, &mut packed).expect("the output holds the worst case");
        let length = i32::try_from(bytes).expect("a chunk is about 32 KiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&packed[..bytes]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::{Scratch, decompress_into};

    fn decode(packed: &[u8]) -> Result<Vec<u8>, DecompressError> {
        let mut out = Vec::new();
        decompress_into(Codec::Snappy, packed, &mut Scratch::new(), &mut out, 64 * 1024 * 1024).map(|()| out)
    }

    /// Bytes with matches at every distance up to 64 KiB, and runs that overlap themselves.
    fn payload(bytes: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut out = Vec::new();
        while out.len() < bytes {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let back = usize::try_from(state >> 8).unwrap() % 70_000;
            if state.is_multiple_of(3) || back >= out.len() {
                out.extend_from_slice(&state.to_le_bytes());
            } else {
                let start = out.len() - 1 - back;
                let end = (start + 1 + back % 300).min(out.len());
                out.extend_from_within(start..end);
            }
        }
        out.truncate(bytes);
        out
    }

    #[test]
    fn raw_blocks_of_any_size_decode_as_the_snap_crate_does() {
        for bytes in [0, 1, 59, 60, 61, 1000, 65_536, 65_537, 200_000, 1_000_000] {
            let payload = payload(bytes);
            let packed = snap::raw::Encoder::new().compress_vec(&payload).unwrap();
            assert!(decode(&packed).unwrap() == payload, "{bytes} bytes");
        }
    }

    #[test]
    fn incompressible_literals_span_windows() {
        let mut state = 7_u64;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        // One literal longer than the window, with its length in three bytes.
        let length = u32::try_from(noise.len()).unwrap();
        let mut packed = vec![0xe0 | 0x80, 0xa7, 0x12];
        assert_eq!(length, 0x60 | (0x27 << 7) | (0x12 << 14));
        packed.push(62 << 2);
        packed.extend_from_slice(&(length - 1).to_le_bytes()[..3]);
        packed.extend_from_slice(&noise);
        assert!(decode(&packed).unwrap() == noise);
    }

    #[test]
    fn concatenated_xerial_streams_are_one_payload() {
        let mut packed = Vec::new();
        compress(b"first, ", &mut packed);
        compress(b"second", &mut packed);
        assert_eq!(decode(&packed).unwrap(), b"first, second");
    }

    #[test]
    fn a_block_that_lies_about_its_length_is_refused() {
        let mut packed = snap::raw::Encoder::new().compress_vec(b"0123456789").unwrap();
        assert_eq!(packed[0], 10);
        packed[0] = 9;
        assert_eq!(decode(&packed), Err(corrupt("more bytes than declared")));
        packed[0] = 11;
        assert_eq!(decode(&packed), Err(TRUNCATED));
    }

    #[test]
    fn copies_stay_inside_their_block() {
        // Declared 8 bytes: literal of 4, then a copy of 4 from 5 back.
        assert_eq!(
            decode(&[8, 3 << 2, b'a', b'b', b'c', b'd', 1, 5]),
            Err(corrupt("copy from outside the block's last 64 KiB"))
        );
        assert_eq!(decode(&[8, 3 << 2, b'a', b'b', b'c', b'd', 1, 4]).unwrap(), b"abcdabcd");
        assert_eq!(decode(&[8, 3 << 2, b'a', b'b', b'c', b'd', 1, 1]).unwrap(), b"abcddddd");
    }
}
