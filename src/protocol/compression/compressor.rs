//! Compression a piece at a time, with memory that is kept from payload to payload.

use super::{Codec, Compression, gzip, lz4, snappy, zstd};

/// Compresses one payload after the other, each with its own codec and level.
///
/// Between `begin` and `finish` the payload is written in pieces of any size; a payload that is given up is forgotten by
/// the next `begin`. What it holds is bounded: see [`held_bytes`](Compressor::held_bytes).
pub struct Compressor {
    codec: Codec,
    gzip: gzip::Encoder,
    snappy: snappy::Encoder,
    lz4: lz4::Encoder,
    zstd: zstd::Encoder,
}

impl Default for Compressor {
    fn default() -> Compressor {
        Compressor {
            codec: Codec::None,
            gzip: gzip::Encoder::default(),
            snappy: snappy::Encoder::default(),
            lz4: lz4::Encoder::default(),
            zstd: zstd::Encoder::default(),
        }
    }
}

impl Compressor {
    /// Holds nothing yet; grows with the first payload of each codec.
    pub fn new() -> Compressor {
        Compressor::default()
    }

    /// Begins a payload of exactly `payload_bytes`. All output is appended to `out`.
    pub fn begin(&mut self, compression: Compression, payload_bytes: u64, out: &mut Vec<u8>) {
        self.codec = compression.codec();
        match self.codec {
            Codec::None => {}
            Codec::Gzip => self.gzip.begin(compression.level(), out),
            Codec::Snappy => self.snappy.begin(out),
            Codec::Lz4 => self.lz4.begin(compression.level(), out),
            Codec::Zstd => self.zstd.begin(compression.level(), payload_bytes),
        }
    }

    /// Takes the next piece of the payload.
    pub fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match self.codec {
            Codec::None => out.extend_from_slice(piece),
            Codec::Gzip => self.gzip.write(piece, out),
            Codec::Snappy => self.snappy.write(piece, out),
            Codec::Lz4 => self.lz4.write(piece, out),
            Codec::Zstd => self.zstd.write(piece, out),
        }
    }

    /// Ends the codec's block where that saves work later: zstd keeps up to 128 KiB, and takes half a millisecond for it all at
    /// once. Costs a few bytes. The other codecs' blocks are small, or theirs to end.
    pub fn end_block(&mut self, out: &mut Vec<u8>) {
        if self.codec == Codec::Zstd {
            self.zstd.flush(out);
        }
    }

    /// Ends the payload. As many bytes were written as `begin` was told.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.codec {
            Codec::None => {}
            Codec::Gzip => self.gzip.finish(out),
            Codec::Snappy => self.snappy.finish(out),
            Codec::Lz4 => self.lz4.finish(out),
            Codec::Zstd => self.zstd.finish(out),
        }
    }

    /// Bytes of memory that the encoders hold: some hundred kibibytes each, and for zstd what level and payload ask for, at
    /// most `ZSTD_ENCODER_BYTES_MAX`.
    pub fn held_bytes(&self) -> usize {
        self.gzip.held_bytes() + self.snappy.held_bytes() + self.lz4.held_bytes() + self.zstd.held_bytes()
    }

    /// Gives memory back that is more than what payloads of common size and level need.
    pub fn shed(&mut self) {
        self.zstd.shed();
    }
}

/// Cuts what is written into blocks of one size; only the last may be shorter.
#[derive(Default)]
pub(super) struct Blocks {
    pending: Vec<u8>,
}

impl Blocks {
    /// Forgets what a payload before has left.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
    }

    /// Hands out every block that `piece` completes.
    pub(super) fn write(&mut self, piece: &[u8], block_bytes: usize, mut on_block: impl FnMut(&[u8])) {
        let mut rest = piece;
        if !self.pending.is_empty() {
            let missing = block_bytes - self.pending.len();
            let (head, tail) = rest.split_at(missing.min(rest.len()));
            self.pending.extend_from_slice(head);
            rest = tail;
            if self.pending.len() < block_bytes {
                return;
            }
            on_block(&self.pending);
            self.pending.clear();
        }
        let mut blocks = rest.chunks_exact(block_bytes);
        for block in &mut blocks {
            on_block(block);
        }
        self.pending.extend_from_slice(blocks.remainder());
    }

    /// Hands out what is left.
    pub(super) fn finish(&mut self, mut on_block: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            on_block(&self.pending);
            self.pending.clear();
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.pending.capacity()
    }
}
