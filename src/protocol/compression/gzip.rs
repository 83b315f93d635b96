//! Gzip members (RFC 1952), written a piece at a time: ten bytes of header, deflate, then the CRC-32 and the length of what
//! went in.

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Magic number, deflate, no flags, no time, no hints, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// Bytes of an encoder's tables and window: of flate2's own backend, which does not tell.
const STATE_BYTES: usize = 320 * 1024;
/// Room that the output gets before each step, in bytes.
const STEP_BYTES: usize = 4096;

/// Writes one member after the other.
#[derive(Default)]
pub(super) struct Encoder {
    /// The state of the last member, with its level.
    deflate: Option<(i32, Compress)>,
    crc: Crc,
}

impl Encoder {
    /// Begins a member. `level` is 1 to 9, or -1 for the default.
    pub(super) fn begin(&mut self, level: i32, out: &mut Vec<u8>) {
        self.crc.reset();
        match &mut self.deflate {
            Some((known, deflate)) if *known == level => deflate.reset(),
            _ => {
                let flate2_level = u32::try_from(level).map_or(Compression::default(), Compression::new);
                self.deflate = Some((level, Compress::new(flate2_level, false)));
            }
        }
        out.extend_from_slice(&HEADER);
    }

    pub(super) fn write(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.crc.update(piece);
        let (_, deflate) = self.deflate.as_mut().expect("a member was begun");
        let mut rest = piece;
        while !rest.is_empty() {
            out.reserve(STEP_BYTES);
            let before = deflate.total_in();
            deflate.compress_vec(rest, out, FlushCompress::None).expect("deflate takes any bytes");
            let taken = usize::try_from(deflate.total_in() - before).expect("at most what was given");
            rest = &rest[taken..];
        }
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let (_, deflate) = self.deflate.as_mut().expect("a member was begun");
        loop {
            out.reserve(STEP_BYTES);
            let status = deflate.compress_vec(&[], out, FlushCompress::Finish).expect("deflate takes any bytes");
            if status == flate2::Status::StreamEnd {
                break;
            }
        }
        out.extend_from_slice(&self.crc.sum().to_le_bytes());
        out.extend_from_slice(&self.crc.amount().to_le_bytes());
    }

    pub(super) fn held_bytes(&self) -> usize {
        if self.deflate.is_some() { STATE_BYTES } else { 0 }
    }
}
