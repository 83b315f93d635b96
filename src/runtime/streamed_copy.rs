//! Copying to memory that is not read soon: past the caches, not through them.
//!
//! An ordinary store first reads the line that it writes to. A block of the log was last touched a whole tail ago, so all
//! of its lines come from memory, only to be overwritten; and on their way through the caches they push out the frames
//! that are being received. A streamed store does neither. It must not outrun its announcement: a copy ends with a fence.
#![allow(unsafe_code)]

use std::ptr;

#[cfg(target_arch = "x86_64")]
use crate::limits::STREAMED_COPY_BYTES_MIN;

/// A line of every cache there is on x86-64.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;
// What goes before the first whole line of the target is less than a line, so less than the source.
#[cfg(target_arch = "x86_64")]
const _: () = assert!(STREAMED_COPY_BYTES_MIN >= LINE_BYTES);

/// Copies `source` to `target`: short runs as usual, those of `STREAMED_COPY_BYTES_MIN` and more past the caches where
/// the machine can (x86-64). True when [`fence`] must stand between this copy and any look at the target.
///
/// # Safety
/// `target` is valid for writes of as many bytes as `source` has, and does not overlap it. When this gives true, nobody
/// looks at the target, on this core or by way of the kernel, before this thread has called [`fence`].
pub(super) unsafe fn copy(source: &[u8], target: *mut u8) -> bool {
    #[cfg(target_arch = "x86_64")]
    if source.len() >= STREAMED_COPY_BYTES_MIN {
        // SAFETY: this function's own contract.
        unsafe { stream(source, target) };
        return true;
    }
    // SAFETY: this function's contract.
    unsafe { ptr::copy_nonoverlapping(source.as_ptr(), target, source.len()) };
    false
}

/// Everything that this thread streamed before is visible to whoever is told of it after.
pub(super) fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: part of SSE, which every x86-64 has.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}

/// # Safety
/// As [`copy`]; and `source` is at least a line long.
#[cfg(target_arch = "x86_64")]
unsafe fn stream(source: &[u8], target: *mut u8) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};

    let (head, rest) = source.split_at(target.align_offset(LINE_BYTES));
    let (lines, tail) = rest.as_chunks::<LINE_BYTES>();
    // SAFETY: head, lines and tail are the source in order, so each goes to where it belongs in the target, which is valid
    // that far; after the head it is aligned to a line. The loads need no alignment. Both intrinsics are part of SSE2,
    // which every x86-64 has.
    unsafe {
        ptr::copy_nonoverlapping(head.as_ptr(), target, head.len());
        let mut to = target.add(head.len()).cast::<__m128i>();
        for line in lines {
            let from = line.as_ptr().cast::<__m128i>();
            let parts = [0, 1, 2, 3].map(|part| _mm_loadu_si128(from.add(part)));
            for (part, value) in parts.into_iter().enumerate() {
                _mm_stream_si128(to.add(part), value);
            }
            to = to.add(parts.len());
        }
        ptr::copy_nonoverlapping(tail.as_ptr(), to.cast(), tail.len());
    }
}

#[cfg(test)]
mod tests {
    use super::{copy, fence};
    use crate::limits::STREAMED_COPY_BYTES_MIN;

    #[test]
    fn every_length_and_alignment_copies_just_its_bytes() {
        let source: Vec<u8> = (0..=255).cycle().take(STREAMED_COPY_BYTES_MIN + 300).collect();
        for start in [0, 1, 17, 63] {
            for target_start in [0, 1, 16, 63, 64] {
                for bytes in [0, 1, STREAMED_COPY_BYTES_MIN - 1, STREAMED_COPY_BYTES_MIN, STREAMED_COPY_BYTES_MIN + 200]
                {
                    let from = &source[start..start + bytes];
                    let mut target = vec![0xAA; target_start + bytes + 64];
                    // SAFETY: the target is longer than what is copied into it, and memory of its own; it is looked at after
                    // the fence.
                    let is_streamed = unsafe { copy(from, target[target_start..].as_mut_ptr()) };
                    if is_streamed {
                        fence();
                    }
                    assert!(target[..target_start].iter().all(|byte| *byte == 0xAA));
                    assert_eq!(&target[target_start..target_start + bytes], from);
                    assert!(target[target_start + bytes..].iter().all(|byte| *byte == 0xAA));
                }
            }
        }
    }
}
