//! The LZ4 frame format as Kafka reads it: version 1, independent blocks, no dictionary, one frame.
//!
//! Block checksums are verified; what follows the end mark (the content checksum, or anything else) is not read, as in
//! Kafka's `Lz4BlockInputStream`. Linked blocks are refused because every Java consumer refuses them.

use std::ops::Range;

use twox_hash::XxHash32;

use super::compressor::Blocks;
use super::{Codec, DecompressError, LZ4_LEVEL_DEFAULT};
use crate::limits::LZ4_BLOCK_BYTES_MAX;

/// First bytes of a frame: 0x184D2204, little endian.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Upper bit of a block's size: the block is stored as it is.
const STORED: u32 = 0x8000_0000;
/// Descriptor byte of version 1 with independent blocks and nothing else.
const FLAGS_PLAIN: u8 = 0x60;
/// Descriptor byte of 64 KiB blocks, Kafka's default.
const BLOCKS_64_KIB: u8 = 0x40;
/// Bytes of a block that Kafka's producer fills before it compresses it.
const BLOCK_BYTES: usize = 64 * 1024;

/// The blocks of one frame that are still to come.
pub(super) struct Stream<'a> {
    rest: &'a [u8],
    block_bytes_max: usize,
    block_checksums: bool,
    ended: bool,
}

impl<'a> Stream<'a> {
    /// Reads the frame's header: magic, flags, block size, perhaps the content size, and the checksum of the three.
    pub(super) fn new(payload: &'a [u8]) -> Result<Stream<'a>, DecompressError> {
        let mut rest = payload;
        if take(&mut rest, MAGIC.len())? != MAGIC {
            return Err(corrupt("not an LZ4 frame"));
        }
        let descriptor = rest;
        let &[flags, blocks] = take(&mut rest, 2)? else { unreachable!("two bytes were taken") };
        if flags >> 6 != 1 {
            return Err(corrupt("unknown version"));
        }
        if flags & 0x23 != 0x20 {
            return Err(corrupt("linked blocks, a dictionary or reserved flags"));
        }
        let block_bytes_max = match blocks {
            0x40 => 64 * 1024,
            0x50 => 256 * 1024,
            0x60 => 1024 * 1024,
            0x70 => LZ4_BLOCK_BYTES_MAX,
            _ => return Err(corrupt("unknown block size")),
        };
        let mut descriptor_bytes = 2;
        if flags & 0x08 != 0 {
            take(&mut rest, 8)?;
            descriptor_bytes += 8;
        }
        let &[checksum] = take(&mut rest, 1)? else { unreachable!("one byte was taken") };
        if checksum != descriptor_checksum(&descriptor[..descriptor_bytes]) {
            return Err(corrupt("descriptor checksum mismatch"));
        }
        Ok(Stream { rest, block_bytes_max, block_checksums: flags & 0x10 != 0, ended: false })
    }

    /// Decodes the next block that holds anything into the window.
    pub(super) fn refill(&mut self, window: &mut Vec<u8>) -> Result<Range<usize>, DecompressError> {
        while !self.ended {
            let size = u32::from_le_bytes(take_chunk(&mut self.rest)?);
            let bytes = usize::try_from(size & !STORED).expect("31 bits fit");
            if bytes == 0 {
                self.ended = true;
                break;
            }
            if bytes > self.block_bytes_max {
                return Err(corrupt("block larger than declared"));
            }
            let block = take(&mut self.rest, bytes)?;
            if self.block_checksums && u32::from_le_bytes(take_chunk(&mut self.rest)?) != XxHash32::oneshot(0, block) {
                return Err(corrupt("block checksum mismatch"));
            }
            let produced = if size & STORED != 0 {
                window.clear();
                window.extend_from_slice(block);
                bytes
            } else {
                // One byte of LZ4 adds at most 255 bytes to a match: a small block cannot ask for a large window.
                let bytes_max = self.block_bytes_max.min(bytes * 255 + 64);
                window.resize(bytes_max.max(window.len()), 0);
                lz4_flex::block::decompress_into(block, &mut window[..bytes_max])
                    .map_err(|_| corrupt("malformed block"))?
            };
            if produced > 0 {
                return Ok(0..produced);
            }
        }
        Ok(0..0)
    }
}

/// Second byte of the descriptor's hash.
fn descriptor_checksum(descriptor: &[u8]) -> u8 {
    XxHash32::oneshot(0, descriptor).to_le_bytes()[1]
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a [u8], DecompressError> {
    rest.split_off(..bytes).ok_or(DecompressError::Truncated(Codec::Lz4))
}

fn take_chunk<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DecompressError> {
    let (chunk, tail) = rest.split_first_chunk().ok_or(DecompressError::Truncated(Codec::Lz4))?;
    *rest = tail;
    Ok(*chunk)
}

fn corrupt(cause: &'static str) -> DecompressError {
    DecompressError::Corrupt { codec: Codec::Lz4, cause }
}

/// Writes one frame after the other: independent 64 KiB blocks without checksums of blocks or content, as Kafka does.
///
/// As there, the default level is the quick encoder, and every other one is LZ4 HC at that level, also where the number is
/// lower.
#[derive(Default)]
pub(super) struct Encoder {
    level: i32,
    blocks: Blocks,
    packed: Vec<u8>,
}

impl Encoder {
    pub(super) fn begin(&mut self, level: i32, out: &mut Vec<u8>) {
        self.level = level;
        self.blocks.clear();
        self.packed.resize(lz4_flex::block::get_maximum_output_size(BLOCK_BYTES), 0);
        let descriptor = [FLAGS_PLAIN, BLOCKS_64_KIB];
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&descriptor);
        out.push(descriptor_checksum(&descriptor));
    }

    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let Encoder { level, blocks, packed } = self;
        blocks.write(piece, BLOCK_BYTES, |block| put_block(block, *level, packed, out));
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let Encoder { level, blocks, packed } = self;
        blocks.finish(|block| put_block(block, *level, packed, out));
        out.extend_from_slice(&0_u32.to_le_bytes());
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.blocks.held_bytes() + self.packed.capacity()
    }
}

/// Appends one block, stored if it does not shrink. `packed` holds the worst case of the largest.
fn put_block(block: &[u8], level: i32, packed: &mut [u8], out: &mut Vec<u8>) {
    const WORST: &str = "the output holds the worst case";
    let bytes = if level == LZ4_LEVEL_DEFAULT {
        lz4_flex::block::compress_into(block, packed).expect(WORST)
    } else {
        let mode = lz4::block::CompressionMode::HIGHCOMPRESSION(level);
        lz4::block::compress_to_buffer(block, Some(mode), false, packed).expect(WORST)
    };
    let (bytes, flag) = if bytes < block.len() { (&packed[..bytes], 0) } else { (block, STORED) };
    let size = u32::try_from(bytes.len()).expect("a block is at most 64 KiB");
    out.extend_from_slice(&(size | flag).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

    use super::*;
    use crate::protocol::compression::{Compression, Compressor, Scratch, compress_into, decompress_into};

    fn other_encoder(info: FrameInfo, payload: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(payload).unwrap();
        encoder.finish().unwrap()
    }

    fn payload() -> Vec<u8> {
        (0..100_000_u32).flat_map(|i| (i % 777).to_le_bytes()).collect()
    }

    #[test]
    fn frames_of_another_encoder_are_read() {
        let payload = payload();
        for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
            let info = FrameInfo::new()
                .block_size(size)
                .block_mode(BlockMode::Independent)
                .block_checksums(true)
                .content_checksum(true)
                .content_size(Some(u64::try_from(payload.len()).unwrap()));
            let mut out = Vec::new();
            let packed = other_encoder(info, &payload);
            decompress_into(Codec::Lz4, &packed, &mut Scratch::new(), &mut out, payload.len()).unwrap();
            assert!(out == payload);
        }
    }

    #[test]
    fn another_decoder_reads_ours() {
        let payload = payload();
        let mut packed = Vec::new();
        compress_into(Codec::Lz4, &payload, &mut packed);
        let mut out = Vec::new();
        FrameDecoder::new(packed.as_slice()).read_to_end(&mut out).unwrap();
        assert!(out == payload);
    }

    #[test]
    fn every_level_is_read_by_others_and_high_ones_shrink_more() {
        let payload: Vec<u8> =
            (0..60_000_u32).flat_map(|i| (i.wrapping_mul(i) % 1009 + i / 100).to_le_bytes()).collect();
        let mut sizes = Vec::new();
        for level in 1..=17 {
            let mut packed = Vec::new();
            let mut compressor = Compressor::new();
            compressor.begin(Compression::lz4(level), u64::try_from(payload.len()).unwrap(), &mut packed);
            compressor.write(&payload, &mut packed);
            compressor.finish(&mut packed);
            let mut out = Vec::new();
            FrameDecoder::new(packed.as_slice()).read_to_end(&mut out).unwrap();
            assert!(out == payload, "level {level}");
            sizes.push(packed.len());
        }
        // Level 9 is the quick encoder, all others HC.
        assert!(sizes[7] < sizes[8] && sizes[9] < sizes[8], "{sizes:?}");
        assert!(sizes[16] < sizes[2], "{sizes:?}");
    }

    #[test]
    fn linked_blocks_are_refused_as_kafka_does() {
        let packed = other_encoder(FrameInfo::new().block_mode(BlockMode::Linked), &payload());
        let result = decompress_into(Codec::Lz4, &packed, &mut Scratch::new(), &mut Vec::new(), 1000);
        assert_eq!(result, Err(corrupt("linked blocks, a dictionary or reserved flags")));
    }

    #[test]
    fn a_flipped_bit_under_a_block_checksum_is_seen() {
        let info = FrameInfo::new().block_mode(BlockMode::Independent).block_checksums(true);
        let mut packed = other_encoder(info, &payload());
        let middle = packed.len() / 2;
        packed[middle] ^= 1;
        let result = decompress_into(Codec::Lz4, &packed, &mut Scratch::new(), &mut Vec::new(), 1_000_000);
        assert!(matches!(result, Err(DecompressError::Corrupt { .. })), "{result:?}");
    }

    #[test]
    fn a_tiny_block_cannot_ask_for_a_large_window() {
        let mut packed =
            other_encoder(FrameInfo::new().block_size(BlockSize::Max4MB), b"tiny tiny tiny tiny tiny tiny");
        packed[5] = 0x70;
        packed[6] = descriptor_checksum(&packed[4..6]);
        let mut scratch = Scratch::new();
        decompress_into(Codec::Lz4, &packed, &mut scratch, &mut Vec::new(), 1000).unwrap();
        assert!(scratch.window_bytes() < 64 * 1024);
    }
}
