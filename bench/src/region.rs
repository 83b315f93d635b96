//! Memory of one's own for direct I/O and rings.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

/// Anonymous memory, aligned to pages. A ring that uses it must be dropped before it.
pub(crate) struct Region {
    memory: NonNull<u8>,
    bytes: usize,
}

impl Region {
    /// Zeros.
    pub(crate) fn new(bytes: usize) -> io::Result<Region> {
        // SAFETY: a new private mapping; no address is asked for, so none that exists is touched.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
                -1,
                0,
            )
        };
        match NonNull::new(memory.cast::<u8>()) {
            Some(memory) if memory.as_ptr().cast() != libc::MAP_FAILED => Ok(Region { memory, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where a byte is.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.bytes);
        // SAFETY: within the mapping.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    /// All of it. No ring may be using it.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is ours, readable, writable and of this length.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.bytes) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and a ring that used it was dropped before.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.bytes) };
    }
}
