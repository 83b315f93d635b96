//! Snappy in both forms that Kafka's clients send: xerial's framing (Java) and one raw block (librdkafka).
//!
//! Blocks that fit into the window, as all of xerial's do, are decoded whole by the `snap` crate. For larger ones the
//! decoder is our own, because the format has no frames: a raw block of 48 MiB may expand to a gigabyte, and decoders of
//! whole blocks want that at once. Ours keeps at least the last 64 KiB, which is as far as encoders look back, and hands
//! out what it has decoded a window at a time; a copy that reaches behind what is kept is refused. It takes three times
//! as long (measured: 30 against 10 µs for 16 KiB of short copies).
//!
//! ```text
//! xerial   82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version i32 | compatible i32 | ( length i32 | raw block )*     big endian
//! raw      decompressed length, varint | ( literal | copy )*
//! ```

use std::ops::Range;

use super::compressor::Blocks;
use super::{Codec, DecompressError};
use crate::limits::{DECOMPRESS_WINDOW_BYTES, SNAPPY_HISTORY_BYTES};

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Version and least compatible version that xerial's encoder writes.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes per chunk of xerial's encoder.
const XERIAL_CHUNK_BYTES: usize = 32 * 1024;
/// Bytes of an encoder's tables.
const ENCODER_BYTES: usize = 32 * 1024;
/// Longest copy of one element.
const COPY_BYTES_MAX: usize = 64;
/// Short literals and copies move in steps of this many bytes, over the end of what they mean: a step of fixed size is
/// two instructions, a length that varies is a call. The window has room for it.
const STEP_BYTES: usize = 16;

/// What is still to be decoded.
pub(super) struct Stream<'a> {
    /// Behind the current block: more xerial chunks, or nothing.
    rest: &'a [u8],
    /// The current block with its declared length in front, until its first byte is decoded.
    unread: &'a [u8],
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
        let mut stream = Stream { rest: payload, unread: &[], block: &[], owed: 0, history: 0, filled: 0, literal: 0 };
        if payload.starts_with(&XERIAL_MAGIC) {
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
        let window_bytes = SNAPPY_HISTORY_BYTES + DECOMPRESS_WINDOW_BYTES + COPY_BYTES_MAX + STEP_BYTES;
        window.resize(window_bytes.max(window.len()), 0);
        let keep = self.filled.min(SNAPPY_HISTORY_BYTES);
        window.copy_within(self.filled - keep..self.filled, 0);
        self.filled = keep;
        self.history = self.history.min(keep);
        let full = keep + DECOMPRESS_WINDOW_BYTES;
        while self.filled < full {
            if !self.unread.is_empty() {
                let room = full - self.filled;
                let declared = usize::try_from(self.owed).expect("32 bits fit");
                if declared > DECOMPRESS_WINDOW_BYTES {
                    self.unread = &[];
                } else if declared <= room {
                    self.whole_block(window, declared)?;
                } else {
                    break;
                }
            } else if self.literal > 0 {
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

    /// Decodes a block that fits into the window.
    fn whole_block(&mut self, window: &mut [u8], declared: usize) -> Result<(), DecompressError> {
        let target = &mut window[self.filled..self.filled + declared];
        let bytes =
            snap::raw::Decoder::new().decompress(self.unread, target).map_err(|_| corrupt("malformed block"))?;
        assert!(bytes == declared);
        self.filled += bytes;
        self.unread = &[];
        self.block = &[];
        self.owed = 0;
        Ok(())
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
                self.unread = block;
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
        self.pay(bytes)?;
        if bytes <= STEP_BYTES
            && let Some(step) = self.block.first_chunk::<STEP_BYTES>()
        {
            window[self.filled..self.filled + STEP_BYTES].copy_from_slice(step);
            self.block = &self.block[bytes..];
        } else {
            let head = self.block.split_off(..bytes).ok_or(TRUNCATED)?;
            window[self.filled..self.filled + bytes].copy_from_slice(head);
        }
        self.filled += bytes;
        self.history += bytes;
        self.literal -= bytes;
        Ok(())
    }

    /// Repeats `bytes` (at most 64) from `offset` bytes back. Source and target may overlap: then the bytes repeat.
    fn copy(&mut self, window: &mut [u8], offset: usize, bytes: usize) -> Result<(), DecompressError> {
        if offset == 0 || offset > self.history {
            return Err(corrupt("copy from behind what is kept of the block"));
        }
        self.pay(bytes)?;
        let source = self.filled - offset;
        if offset >= STEP_BYTES {
            // The source of each step ends where its target begins, at the latest: it is final when it is read.
            for at in (0..bytes).step_by(STEP_BYTES) {
                let step: [u8; STEP_BYTES] =
                    *window[source + at..].first_chunk().expect("the source lies before the target");
                window[self.filled + at..self.filled + at + STEP_BYTES].copy_from_slice(&step);
            }
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

/// Writes one payload after the other in xerial's framing, chunks of 32 KiB, as Kafka does.
#[derive(Default)]
pub(super) struct Encoder {
    encoder: Option<Box<snap::raw::Encoder>>,
    chunks: Blocks,
    packed: Vec<u8>,
}

impl Encoder {
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        self.encoder.get_or_insert_with(|| Box::new(snap::raw::Encoder::new()));
        self.chunks.clear();
        self.packed.resize(snap::raw::max_compress_len(XERIAL_CHUNK_BYTES), 0);
        out.extend_from_slice(&XERIAL_MAGIC);
        out.extend_from_slice(&XERIAL_VERSIONS);
    }

    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Encoder { encoder: Some(encoder), chunks, packed } = self else { unreachable!("a payload was begun") };
        chunks.write(piece, XERIAL_CHUNK_BYTES, |chunk| put_chunk(chunk, encoder, packed, out));
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let Encoder { encoder: Some(encoder), chunks, packed } = self else { unreachable!("a payload was begun") };
        chunks.finish(|chunk| put_chunk(chunk, encoder, packed, out));
    }

    pub(super) fn held_bytes(&self) -> usize {
        let tables = if self.encoder.is_some() { ENCODER_BYTES } else { 0 };
        tables + self.chunks.held_bytes() + self.packed.capacity()
    }
}

/// Appends one chunk with its length in front. `packed` holds the worst case of the largest.
fn put_chunk(chunk: &[u8], encoder: &mut snap::raw::Encoder, packed: &mut [u8], out: &mut Vec<u8>) {
    let bytes = encoder.compress(chunk, packed).expect("the output holds the worst case");
    let length = i32::try_from(bytes).expect("a chunk is about 32 KiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&packed[..bytes]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::compression::{Scratch, compress_into, decompress_into};

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
        compress_into(Codec::Snappy, b"first, ", &mut packed);
        compress_into(Codec::Snappy, b"second", &mut packed);
        assert_eq!(decode(&packed).unwrap(), b"first, second");
    }

    /// A block too large for the window, so that our own decoder reads it: a literal, then the elements.
    fn large_block(elements: &[u8], element_bytes: u32) -> Vec<u8> {
        const LITERAL_BYTES: u32 = 300_000;
        let declared = LITERAL_BYTES + element_bytes;
        let [low, middle, high, _] =
            [declared & 0x7f, (declared >> 7) & 0x7f, declared >> 14, 0].map(|digit| u8::try_from(digit).unwrap());
        let mut packed = vec![low | 0x80, middle | 0x80, high, 62 << 2];
        packed.extend_from_slice(&(LITERAL_BYTES - 1).to_le_bytes()[..3]);
        packed.extend((0..LITERAL_BYTES).map(|index| u8::try_from(index % 251).unwrap()));
        packed.extend_from_slice(elements);
        packed
    }

    #[test]
    fn a_block_that_lies_about_its_length_is_refused() {
        let mut small = snap::raw::Encoder::new().compress_vec(b"0123456789").unwrap();
        assert_eq!(small[0], 10);
        for declared in [9, 11] {
            small[0] = declared;
            assert_eq!(decode(&small), Err(corrupt("malformed block")));
        }
        assert_eq!(decode(&large_block(&[3 << 2, 1, 2, 3, 4], 4)).unwrap().len(), 300_004);
        assert_eq!(decode(&large_block(&[3 << 2, 1, 2, 3, 4], 3)), Err(corrupt("more bytes than declared")));
        assert_eq!(decode(&large_block(&[3 << 2, 1, 2, 3, 4], 5)), Err(TRUNCATED));
        assert_eq!(decode(&large_block(&[3 << 2, 1, 2, 3], 4)), Err(TRUNCATED));
    }

    #[test]
    fn copies_reach_back_64_kib_and_repeat_what_they_overlap() {
        let last = |elements: &[u8], bytes: u32| {
            decode(&large_block(elements, bytes)).map(|out| out[out.len() - usize::try_from(bytes).unwrap()..].to_vec())
        };
        let value = |at: u32| u8::try_from(at % 251).unwrap();
        // Tag 1: 4 bytes from 1 back; tag 1 with length 11 from 3 back; tag 2: 64 bytes from 16 and 65,535 back.
        assert_eq!(last(&[1, 1], 4).unwrap(), [value(299_999); 4]);
        let three: Vec<u8> = (0..11).map(|index| value(299_997 + index % 3)).collect();
        assert_eq!(last(&[(7 << 2) | 1, 3], 11).unwrap(), three);
        let sixteen: Vec<u8> = (0..64).map(|index| value(299_984 + index % 16)).collect();
        assert_eq!(last(&[(63 << 2) | 2, 16, 0], 64).unwrap(), sixteen);
        let far: Vec<u8> = (0..64).map(|index| value(300_000 - 65_535 + index)).collect();
        assert_eq!(last(&[(63 << 2) | 2, 0xff, 0xff], 64).unwrap(), far);
        // Tag 3 can say more than encoders do: 150,000 back.
        let outside = Err(corrupt("copy from behind what is kept of the block"));
        assert_eq!(last(&[(63 << 2) | 3, 0xf0, 0x49, 0x02, 0x00], 64), outside);
        assert_eq!(last(&[1, 0], 4), outside);
    }
}
