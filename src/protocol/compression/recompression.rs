//! A payload of one codec becomes a payload of another, a step at a time: between steps the core is free for others.

use super::{Codec, Compression, Compressor, DecompressError, Decompressor, Scratch};
use crate::limits::{RECOMPRESS_STEP_BYTES, RECOMPRESSED_BYTES_KEPT};

/// Why a payload was not recompressed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RecompressionError {
    /// The payload does not decompress.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// What comes out is larger than the caller allows.
    #[error("compressed with {codec} it has more than {bytes_max} bytes")]
    TooLarge {
        /// The codec that the payload was to get.
        codec: Codec,
        /// The bound.
        bytes_max: usize,
    },
}

/// The memory that recompression works in, kept from payload to payload.
#[derive(Default)]
pub struct RecompressionTools {
    scratch: Scratch,
    compressor: Compressor,
    out: Vec<u8>,
}

impl RecompressionTools {
    /// Holds nothing yet.
    pub fn new() -> RecompressionTools {
        RecompressionTools::default()
    }

    /// What the last payload became.
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// Bytes of memory held, without what decompresses zstd (whose window is at most 2^`ZSTD_WINDOW_LOG_MAX`).
    pub fn held_bytes(&self) -> usize {
        self.scratch.window_bytes() + self.compressor.held_bytes() + self.out.capacity()
    }

    /// Forgets the last payload, and gives memory back that is more than what payloads of common size need.
    pub fn shed(&mut self) {
        self.out.clear();
        self.out.shrink_to(RECOMPRESSED_BYTES_KEPT);
        self.compressor.shed();
    }
}

/// One payload under way.
pub struct Recompression<'a> {
    source: Decompressor<'a>,
    compressor: &'a mut Compressor,
    out: &'a mut Vec<u8>,
    to: Compression,
    /// Bytes of the decompressed payload that are still to come.
    left: u64,
    bytes_max: usize,
}

impl<'a> Recompression<'a> {
    /// Begins. `payload` is known to decompress to exactly `payload_bytes`; `bytes_max` bounds what it becomes, which then
    /// is the tools' [`output`](RecompressionTools::output).
    pub fn new(
        from: Codec,
        payload: &'a [u8],
        payload_bytes: u64,
        to: Compression,
        bytes_max: usize,
        tools: &'a mut RecompressionTools,
    ) -> Result<Recompression<'a>, RecompressionError> {
        let RecompressionTools { scratch, compressor, out } = tools;
        let source = Decompressor::new(from, payload, scratch)?;
        out.clear();
        compressor.begin(to, payload_bytes, out);
        Ok(Recompression { source, compressor, out, to, left: payload_bytes, bytes_max })
    }

    /// Goes on with the next `RECOMPRESS_STEP_BYTES` of the decompressed payload at most, some tens of microseconds; a step
    /// that completes a block of the codec takes what the block takes. Returns whether this was the last.
    pub fn step(&mut self) -> Result<bool, RecompressionError> {
        let window = self.source.fill()?;
        let bytes = window.len().min(RECOMPRESS_STEP_BYTES);
        let taken = u64::try_from(bytes).expect("a step fits 64 bits");
        assert!(taken <= self.left && (taken > 0 || self.left == 0), "a payload decompresses to what it did before");
        self.compressor.write(&window[..bytes], self.out);
        self.source.consume(bytes);
        self.left -= taken;
        let is_last = self.left == 0;
        if is_last {
            self.compressor.finish(self.out);
        }
        if self.out.len() > self.bytes_max {
            return Err(RecompressionError::TooLarge { codec: self.to.codec(), bytes_max: self.bytes_max });
        }
        Ok(is_last)
    }
}
