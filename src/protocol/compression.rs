//! The codecs of a record batch, both ways. A batch is stored and served as it came, unless its topic names another codec;
//! decompression is also for validation, lookups by time and our own consumers.
//!
//! Decompression streams through one reusable [`Scratch`]: whatever a batch claims to expand to, memory stays within
//! the windows of `limits.rs`, and time within `DECOMPRESSED_BATCH_BYTES_MAX`. One scratch per core is enough, since a
//! batch is walked without an await. Formats are what Kafka's Java client reads and writes: gzip (RFC 1952), snappy in
//! xerial's framing or raw (librdkafka), the LZ4 frame format with independent blocks, zstd frames.

mod compressor;
mod gzip;
mod lz4;
mod recompression;
mod snappy;
mod zstd;

pub use compressor::Compressor;
pub use recompression::{Recompression, RecompressionError, RecompressionTools};

use std::fmt;
use std::io::Read;

use flate2::bufread::MultiGzDecoder;

use crate::limits::{DECOMPRESS_WINDOW_BYTES, DECOMPRESSED_BATCH_BYTES_MAX};

/// A compression codec; its number is what bits 0 to 2 of a batch's attributes hold.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Codec {
    /// 0: records as they are.
    None,
    /// 1: gzip.
    Gzip,
    /// 2: snappy.
    Snappy,
    /// 3: LZ4 frame.
    Lz4,
    /// 4: Zstandard.
    Zstd,
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec with this number; `None` for 5 to 7 and beyond, which nobody has defined.
    pub fn from_id(id: i16) -> Option<Codec> {
        Codec::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Its number in a batch's attributes.
    pub fn id(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// Its name in `compression.type`, of producers and of topics.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// The codec of a name; topics say `uncompressed` where producers say `none`.
    pub fn from_name(name: &str) -> Option<Codec> {
        if name == "uncompressed" {
            return Some(Codec::None);
        }
        Codec::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// gzip's default level: zlib's own, which is 6.
pub const GZIP_LEVEL_DEFAULT: i32 = -1;
/// LZ4's default level, which stands for its quick encoder: see `lz4`.
pub const LZ4_LEVEL_DEFAULT: i32 = 9;
/// zstd's default level.
pub const ZSTD_LEVEL_DEFAULT: i32 = 3;

/// What to compress with: a codec, and how hard it tries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Compression {
    codec: Codec,
    level: i32,
}

impl Compression {
    /// A codec at the level that Kafka has as its default.
    pub fn new(codec: Codec) -> Compression {
        let level = match codec {
            Codec::None | Codec::Snappy => 0,
            Codec::Gzip => GZIP_LEVEL_DEFAULT,
            Codec::Lz4 => LZ4_LEVEL_DEFAULT,
            Codec::Zstd => ZSTD_LEVEL_DEFAULT,
        };
        Compression { codec, level }
    }

    /// gzip at a level of 1 to 9, or -1 for the default.
    pub fn gzip(level: i32) -> Compression {
        assert!(level == GZIP_LEVEL_DEFAULT || (1..=9).contains(&level));
        Compression { codec: Codec::Gzip, level }
    }

    /// LZ4 at a level of 1 to 17. What the encoder has no more levels for is its last, which is 12.
    pub fn lz4(level: i32) -> Compression {
        assert!((1..=17).contains(&level));
        Compression { codec: Codec::Lz4, level }
    }

    /// zstd at a level of -131072 to 22.
    pub fn zstd(level: i32) -> Compression {
        assert!((-131_072..=22).contains(&level));
        Compression { codec: Codec::Zstd, level }
    }

    /// The codec.
    pub fn codec(self) -> Codec {
        self.codec
    }

    /// Its level; 0 for codecs that have none.
    pub fn level(self) -> i32 {
        self.level
    }
}

/// Why bytes did not decompress.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecompressError {
    /// The bytes are not what the codec's format allows.
    #[error("{codec} data is corrupt: {cause}")]
    Corrupt {
        /// The codec that the batch names.
        codec: Codec,
        /// What was wrong, in the decoder's words.
        cause: &'static str,
    },
    /// The bytes end before the format does.
    #[error("{0} data ends too early")]
    Truncated(Codec),
    /// More comes out than a bound allows.
    #[error("{codec} data expands to more than {bytes_max} bytes")]
    TooLarge {
        /// The codec that the batch names.
        codec: Codec,
        /// The bound.
        bytes_max: u64,
    },
}

/// The memory that decompression works in, kept from batch to batch. At most `LZ4_BLOCK_BYTES_MAX` for the window and
/// one zstd context with its own.
#[derive(Default)]
pub struct Scratch {
    window: Vec<u8>,
    zstd: Option<::zstd::zstd_safe::DCtx<'static>>,
}

impl Scratch {
    /// Holds nothing yet; grows with the first compressed batch.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// Bytes held, without the zstd context (whose window is at most 2^`ZSTD_WINDOW_LOG_MAX`).
    pub fn window_bytes(&self) -> usize {
        self.window.capacity()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").field("window_bytes", &self.window_bytes()).finish_non_exhaustive()
    }
}

/// A compressed payload, handed out window by window.
pub struct Decompressor<'a> {
    codec: Codec,
    stream: Stream<'a>,
    window: &'a mut Vec<u8>,
    /// Bytes of the window not consumed yet: `start..end`.
    start: usize,
    end: usize,
    /// Bytes produced so far.
    produced: u64,
}

/// What remains of a payload, by codec. Each refills the window and says which part of it is new; none means the end.
enum Stream<'a> {
    Stored(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(snappy::Stream<'a>),
    Lz4(lz4::Stream<'a>),
    Zstd(zstd::Stream<'a>),
}

impl<'a> Decompressor<'a> {
    /// Begins to decompress `payload`, the records part of one batch.
    pub fn new(codec: Codec, payload: &'a [u8], scratch: &'a mut Scratch) -> Result<Decompressor<'a>, DecompressError> {
        let Scratch { window, zstd } = scratch;
        let stream = match codec {
            Codec::None => Stream::Stored(payload),
            Codec::Gzip => Stream::Gzip(Box::new(MultiGzDecoder::new(payload))),
            Codec::Snappy => Stream::Snappy(snappy::Stream::new(payload)?),
            Codec::Lz4 => Stream::Lz4(lz4::Stream::new(payload)?),
            Codec::Zstd => Stream::Zstd(zstd::Stream::new(payload, zstd)?),
        };
        Ok(Decompressor { codec, stream, window, start: 0, end: 0, produced: 0 })
    }

    /// The next decompressed bytes, as many as are at hand; empty at the end and only there.
    pub fn fill(&mut self) -> Result<&[u8], DecompressError> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(&self.window[self.start..self.end])
    }

    /// Steps over `bytes` of what `fill` lent.
    pub fn consume(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start);
        self.start += bytes;
    }

    fn refill(&mut self) -> Result<(), DecompressError> {
        let new = match &mut self.stream {
            Stream::Stored(rest) => {
                let bytes = rest.len().min(DECOMPRESS_WINDOW_BYTES);
                let (head, tail) = rest.split_at(bytes);
                self.window.clear();
                self.window.extend_from_slice(head);
                *rest = tail;
                0..bytes
            }
            Stream::Gzip(decoder) => {
                self.window.resize(DECOMPRESS_WINDOW_BYTES.max(self.window.len()), 0);
                // What a large block of another codec has left of memory is not used, or the window would be as large.
                let bytes = decoder.read(&mut self.window[..DECOMPRESS_WINDOW_BYTES]).map_err(gzip_error)?;
                0..bytes
            }
            Stream::Snappy(stream) => stream.refill(self.window)?,
            Stream::Lz4(stream) => stream.refill(self.window)?,
            Stream::Zstd(stream) => stream.refill(self.window)?,
        };
        self.start = new.start;
        self.end = new.end;
        self.produced += u64::try_from(new.len()).expect("a window's length fits 64 bits");
        if self.produced > DECOMPRESSED_BATCH_BYTES_MAX {
            return Err(DecompressError::TooLarge { codec: self.codec, bytes_max: DECOMPRESSED_BATCH_BYTES_MAX });
        }
        Ok(())
    }
}

fn gzip_error(error: std::io::Error) -> DecompressError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => DecompressError::Truncated(Codec::Gzip),
        _ => DecompressError::Corrupt { codec: Codec::Gzip, cause: "not a gzip stream" },
    }
}

/// Appends the whole of a decompressed payload to `out`, which may grow by at most `bytes_max` bytes.
///
/// For readers that need the records themselves; validation and lookups stream instead.
pub fn decompress_into(
    codec: Codec,
    payload: &[u8],
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), DecompressError> {
    let mut left = bytes_max;
    let mut stream = Decompressor::new(codec, payload, scratch)?;
    loop {
        let window = stream.fill()?;
        let bytes = window.len();
        if bytes == 0 {
            return Ok(());
        }
        if bytes > left {
            let bytes_max = u64::try_from(bytes_max).expect("a length fits 64 bits");
            return Err(DecompressError::TooLarge { codec, bytes_max });
        }
        out.extend_from_slice(window);
        left -= bytes;
        stream.consume(bytes);
    }
}

/// Appends the compressed form of `payload` to `out`, as Kafka's Java producer writes it at its default level.
pub fn compress_into(codec: Codec, payload: &[u8], out: &mut Vec<u8>) {
    let bytes = u64::try_from(payload.len()).expect("a length fits 64 bits");
    let mut compressor = Compressor::new();
    compressor.begin(Compression::new(codec), bytes, out);
    compressor.write(payload, out);
    compressor.finish(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text-like bytes: repetitive enough to compress, with runs longer than any window.
    fn sample(bytes: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_u32;
        let mut out = Vec::with_capacity(bytes);
        while out.len() < bytes {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            if state.is_multiple_of(7) {
                out.extend_from_slice(&state.to_be_bytes());
            } else {
                out.extend_from_slice(&b"corelane keeps one log per core; "[..usize::try_from(state % 33).unwrap()]);
            }
        }
        out.truncate(bytes);
        out
    }

    fn round_trip(codec: Codec, payload: &[u8]) {
        let mut packed = Vec::new();
        compress_into(codec, payload, &mut packed);
        let mut scratch = Scratch::new();
        let mut out = Vec::new();
        decompress_into(codec, &packed, &mut scratch, &mut out, payload.len()).unwrap();
        assert!(out == payload, "{codec} of {} bytes", payload.len());
    }

    #[test]
    fn every_codec_round_trips_every_size_class() {
        for codec in Codec::ALL {
            for bytes in [0, 1, 13, 1000, 32 * 1024, 64 * 1024, 64 * 1024 + 1, 300_000, 3_000_000] {
                round_trip(codec, &sample(bytes));
            }
            round_trip(codec, &vec![0; 1_000_000]);
        }
    }

    #[test]
    fn a_compressor_takes_any_pieces_and_one_payload_after_the_other() {
        // The pieces do not show, nor what was given up before, nor the codec before.
        let mut compressor = Compressor::new();
        let mut scratch = Scratch::new();
        let compressions = [
            Compression::new(Codec::None),
            Compression::new(Codec::Snappy),
            Compression::gzip(1),
            Compression::gzip(9),
            Compression::lz4(9),
            Compression::lz4(3),
            Compression::zstd(-5),
            Compression::zstd(19),
        ];
        for round in 0..2 {
            for compression in compressions {
                for (bytes, piece_bytes) in [(0, 1), (1, 1), (40_000, 999), (100_000, 64 * 1024), (300_000, 4096)] {
                    let payload = sample(bytes);
                    let mut whole = Vec::new();
                    let mut given_up = Vec::new();
                    compressor.begin(compression, 1_000_000, &mut given_up);
                    compressor.write(&payload, &mut given_up);
                    let told = u64::try_from(bytes).unwrap();
                    compressor.begin(compression, told, &mut whole);
                    compressor.write(&payload, &mut whole);
                    compressor.finish(&mut whole);
                    let mut pieces = Vec::new();
                    compressor.begin(compression, told, &mut pieces);
                    for piece in payload.chunks(piece_bytes) {
                        compressor.write(piece, &mut pieces);
                    }
                    compressor.finish(&mut pieces);
                    for packed in [&whole, &pieces] {
                        let mut out = Vec::new();
                        decompress_into(compression.codec(), packed, &mut scratch, &mut out, bytes).unwrap();
                        assert!(out == payload, "{compression:?}, {bytes} in pieces of {piece_bytes}, round {round}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_block_of_one_codec_does_not_widen_the_windows_of_others() {
        let payload = sample(3_000_000);
        let mut scratch = Scratch::new();
        scratch.window.resize(crate::limits::LZ4_BLOCK_BYTES_MAX, 0);
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut packed = Vec::new();
            compress_into(codec, &payload, &mut packed);
            let mut stream = Decompressor::new(codec, &packed, &mut scratch).unwrap();
            let mut out = Vec::new();
            loop {
                let window = stream.fill().unwrap();
                let bytes = window.len();
                assert!(bytes <= DECOMPRESS_WINDOW_BYTES, "{codec}: {bytes}");
                if bytes == 0 {
                    break;
                }
                out.extend_from_slice(window);
                stream.consume(bytes);
            }
            assert!(out == payload);
        }
    }

    #[test]
    fn truncation_is_an_error_or_a_prefix_but_never_a_panic() {
        let payload = sample(100_000);
        let mut scratch = Scratch::new();
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut packed = Vec::new();
            compress_into(codec, &payload, &mut packed);
            for cut in (0..packed.len()).step_by(997) {
                let mut out = Vec::new();
                let result = decompress_into(codec, &packed[..cut], &mut scratch, &mut out, payload.len());
                assert!(payload.starts_with(&out), "{codec} cut at {cut}");
                assert!(result.is_err() || out.len() < payload.len(), "{codec} cut at {cut}");
            }
            // The scratch survives the errors.
            let mut out = Vec::new();
            decompress_into(codec, &packed, &mut scratch, &mut out, payload.len()).unwrap();
            assert!(out == payload);
        }
    }

    #[test]
    fn a_bomb_stops_at_the_bound_of_the_caller_and_holds_only_windows() {
        let bomb = vec![0; 16 * 1024 * 1024];
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let mut packed = Vec::new();
            compress_into(codec, &bomb, &mut packed);
            let mut scratch = Scratch::new();
            let mut out = Vec::new();
            let result = decompress_into(codec, &packed, &mut scratch, &mut out, 1_000_000);
            assert_eq!(result, Err(DecompressError::TooLarge { codec, bytes_max: 1_000_000 }));
            assert!(out.len() <= 1_000_000);
            assert!(scratch.window_bytes() <= 4 * DECOMPRESS_WINDOW_BYTES, "{codec}: {}", scratch.window_bytes());
        }
    }

    #[test]
    fn names_and_numbers_are_kafkas() {
        for codec in Codec::ALL {
            assert_eq!(Codec::from_id(codec.id()), Some(codec));
            assert_eq!(Codec::from_name(codec.name()), Some(codec));
        }
        assert_eq!(Codec::from_name("uncompressed"), Some(Codec::None));
        for id in [5, 6, 7, -1] {
            assert_eq!(Codec::from_id(id), None);
        }
    }
}
