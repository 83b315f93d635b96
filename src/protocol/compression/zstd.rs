//! Zstandard frames, streamed with a window of at most 2^`ZSTD_WINDOW_LOG_MAX` bytes.
//!
//! A frame declares the window that its encoder *may* have used, not the one it needed: a producer at level 22 that
//! streams declares 128 MiB for a batch of 16 KiB. A decoder reserves what is declared, so a larger declaration is
//! lowered to our bound on the way in (the header carries no checksum). Content within the bound decodes as ever;
//! only a match that really reaches further back than 8 MiB is refused, by zstd itself.

use std::ops::Range;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, SafeResult};

use super::{Codec, DecompressError};
use crate::limits::{
    DECOMPRESS_WINDOW_BYTES, ZSTD_ENCODER_BYTES_KEPT, ZSTD_ENCODER_WINDOW_LOG_MAX, ZSTD_WINDOW_LOG_MAX,
};

/// Magic number, frame header descriptor, window descriptor.
const HEAD_BYTES: usize = 6;
/// First bytes of a frame: 0xFD2FB528, little endian.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Bit of the frame header descriptor: no window descriptor follows, the content size is the window.
const SINGLE_SEGMENT: u8 = 0x20;
/// The window descriptor of exactly 2^`ZSTD_WINDOW_LOG_MAX`: exponent over ten in the upper five bits.
const WINDOW_DESCRIPTOR_MAX: u8 = window_descriptor(ZSTD_WINDOW_LOG_MAX);

/// The descriptor of a window of exactly 2^`log` bytes.
const fn window_descriptor(log: u32) -> u8 {
    assert!(log >= 10 && log < 10 + 32);
    ((log - 10).to_le_bytes()[0]) << 3
}

/// Frames one after the other, and the context that decodes them.
pub(super) struct Stream<'a> {
    context: &'a mut DCtx<'static>,
    /// The first bytes of the payload, with the window lowered; not decoded from `head_at` on.
    head: [u8; HEAD_BYTES],
    head_at: usize,
    rest: &'a [u8],
    /// Whether the last frame is complete, so that the payload may end here.
    at_frame_end: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        payload: &'a [u8],
        context: &'a mut Option<DCtx<'static>>,
    ) -> Result<Stream<'a>, DecompressError> {
        let context = context.get_or_insert_with(DCtx::create);
        context
            .reset(ResetDirective::SessionOnly)
            .and_then(|_| context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)))
            .map_err(corrupt)?;
        let Some((head, rest)) = payload.split_first_chunk::<HEAD_BYTES>() else {
            return Err(DecompressError::Truncated(Codec::Zstd));
        };
        let mut head = *head;
        if head[..4] == MAGIC && head[4] & SINGLE_SEGMENT == 0 {
            // Descriptors order as the windows they describe, so the smaller byte is the smaller window.
            head[5] = head[5].min(WINDOW_DESCRIPTOR_MAX);
        }
        Ok(Stream { context, head, head_at: 0, rest, at_frame_end: false })
    }

    pub(super) fn refill(&mut self, window: &mut Vec<u8>) -> Result<Range<usize>, DecompressError> {
        window.resize(DECOMPRESS_WINDOW_BYTES.max(window.len()), 0);
        loop {
            let in_head = self.head_at < HEAD_BYTES;
            let source = if in_head { &self.head[self.head_at..] } else { self.rest };
            if source.is_empty() && self.at_frame_end {
                return Ok(0..0);
            }
            let source_is_empty = source.is_empty();
            let mut input = InBuffer::around(source);
            let mut output = OutBuffer::around(&mut window[..DECOMPRESS_WINDOW_BYTES]);
            let hint = self.context.decompress_stream(&mut output, &mut input).map_err(corrupt)?;
            let produced = output.pos();
            let consumed = input.pos;
            if in_head {
                self.head_at += consumed;
            } else {
                self.rest = &self.rest[consumed..];
            }
            self.at_frame_end = hint == 0;
            if produced > 0 {
                return Ok(0..produced);
            }
            if source_is_empty && !self.at_frame_end {
                return Err(DecompressError::Truncated(Codec::Zstd));
            }
            if consumed == 0 && !self.at_frame_end {
                return Err(DecompressError::Corrupt { codec: Codec::Zstd, cause: "no progress" });
            }
        }
    }
}

fn corrupt(code: usize) -> DecompressError {
    DecompressError::Corrupt { codec: Codec::Zstd, cause: zstd::zstd_safe::get_error_name(code) }
}

/// Level from which an encoder's own window may exceed `ZSTD_ENCODER_WINDOW_LOG_MAX`.
const LARGE_WINDOW_LEVEL_MIN: i32 = 9;
/// Room that the output gets before each step, in bytes.
const STEP_BYTES: usize = 16 * 1024;

/// Writes one frame after the other, each with its content size.
#[derive(Default)]
pub(super) struct Encoder {
    context: Option<CCtx<'static>>,
}

impl Encoder {
    /// Begins a frame of exactly `payload_bytes`, at any level that zstd has. What is told here keeps the tables small, and
    /// tells librdkafka how much memory to reserve: without, it guesses, and may give up.
    pub(super) fn begin(&mut self, level: i32, payload_bytes: u64) {
        const OURS: &str = "level, window and size are within zstd's bounds";
        let context = self.context.get_or_insert_with(CCtx::create);
        context.reset(ResetDirective::SessionAndParameters).expect(OURS);
        context.set_parameter(CParameter::CompressionLevel(level)).expect(OURS);
        if level >= LARGE_WINDOW_LEVEL_MIN && payload_bytes > 1 << ZSTD_ENCODER_WINDOW_LOG_MAX {
            context.set_parameter(CParameter::WindowLog(ZSTD_ENCODER_WINDOW_LOG_MAX)).expect(OURS);
        }
        context.set_pledged_src_size(Some(payload_bytes)).expect(OURS);
    }

    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let context = self.context.as_mut().expect("a frame was begun");
        let mut input = InBuffer::around(piece);
        while input.pos() < piece.len() {
            out.reserve(STEP_BYTES);
            let end = out.len();
            let mut output = OutBuffer::around_pos(out, end);
            context.compress_stream(&mut output, &mut input).expect("a payload is as long as was told");
        }
    }

    /// Ends the block, not the frame: what was written so far is compressed.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        self.drain(out, |context, output| context.flush_stream(output));
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.drain(out, |context, output| context.end_stream(output));
    }

    fn drain(
        &mut self,
        out: &mut Vec<u8>,
        step: impl Fn(&mut CCtx<'static>, &mut OutBuffer<'_, Vec<u8>>) -> SafeResult,
    ) {
        let context = self.context.as_mut().expect("a frame was begun");
        loop {
            out.reserve(STEP_BYTES);
            let end = out.len();
            let mut output = OutBuffer::around_pos(out, end);
            if step(context, &mut output).expect("a payload is as long as was told") == 0 {
                break;
            }
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.context.as_ref().map_or(0, CCtx::sizeof)
    }

    /// Gives up a context larger than what the default level needs.
    pub(super) fn shed(&mut self) {
        if self.held_bytes() > ZSTD_ENCODER_BYTES_KEPT {
            self.context = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::limits::ZSTD_ENCODER_BYTES_MAX;
    use crate::protocol::compression::{Scratch, decompress_into};

    /// A frame as Kafka's Java producer streams it: content size unknown, so the window of the level is declared.
    fn streamed(level: i32, payload: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).unwrap();
        for piece in payload.chunks(1000) {
            encoder.write_all(piece).unwrap();
        }
        encoder.finish().unwrap()
    }

    #[test]
    fn level_22_declares_a_huge_window_and_is_read_all_the_same() {
        let payload: Vec<u8> = (0..200_000_u32).flat_map(|i| (i / 50).to_be_bytes()).collect();
        let packed = streamed(22, &payload);
        assert_eq!(packed[4] & SINGLE_SEGMENT, 0);
        assert!(packed[5] > WINDOW_DESCRIPTOR_MAX, "the frame declares {}", packed[5]);
        let mut out = Vec::new();
        decompress_into(Codec::Zstd, &packed, &mut Scratch::new(), &mut out, payload.len()).unwrap();
        assert!(out == payload);
    }

    #[test]
    fn an_encoder_holds_no_more_than_its_bound_whatever_the_level_and_gives_it_back() {
        // A mebibyte more than two windows, so that the window counts and not the payload.
        let payload: Vec<u8> = (0..5 * 256 * 1024_u32).flat_map(|i| (i.wrapping_mul(i) / 3).to_be_bytes()).collect();
        let mut encoder = Encoder::default();
        for level in [-131_072, 3, 9, 19, 22] {
            let mut packed = Vec::new();
            encoder.begin(level, u64::try_from(payload.len()).unwrap());
            // Tables are made with the first byte; what is given up now is forgotten by the next frame.
            encoder.write(&payload[..1], &mut packed);
            let held = encoder.held_bytes();
            assert!(held <= ZSTD_ENCODER_BYTES_MAX, "level {level}: {held}");
            encoder.shed();
            assert!(encoder.held_bytes() <= ZSTD_ENCODER_BYTES_KEPT, "level {level}");
        }
        let mut packed = Vec::new();
        encoder.begin(3, u64::try_from(payload.len()).unwrap());
        encoder.write(&payload, &mut packed);
        encoder.finish(&mut packed);
        let kept = encoder.held_bytes();
        encoder.shed();
        assert_eq!(encoder.held_bytes(), kept, "the default level's memory is kept");
        let told = zstd::zstd_safe::get_frame_content_size(&packed).unwrap();
        assert_eq!(told, Some(u64::try_from(payload.len()).unwrap()));
        assert!(zstd::bulk::decompress(&packed, payload.len()).unwrap() == payload);
    }

    #[test]
    fn concatenated_frames_are_one_payload() {
        let mut packed = streamed(3, b"one");
        packed.extend(streamed(3, b"two"));
        let mut out = Vec::new();
        decompress_into(Codec::Zstd, &packed, &mut Scratch::new(), &mut out, 100).unwrap();
        assert_eq!(out, b"onetwo");
    }

    #[test]
    fn a_single_segment_claim_of_gigabytes_is_refused() {
        // Magic, descriptor with an 8-byte content size and single segment, the size 2^40, one empty last raw block.
        let mut frame = MAGIC.to_vec();
        frame.push(0xe0);
        frame.extend_from_slice(&(1_u64 << 40).to_le_bytes());
        frame.extend_from_slice(&[1, 0, 0]);
        let result = decompress_into(Codec::Zstd, &frame, &mut Scratch::new(), &mut Vec::new(), 100);
        assert!(matches!(result, Err(DecompressError::Corrupt { .. })), "{result:?}");
    }
}
