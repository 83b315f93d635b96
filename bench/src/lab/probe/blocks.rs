//! Direct I/O on one file through a ring, always as many operations in flight as asked for.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode};

use super::round::Meter;
use super::to_u64;
use crate::region::Region;

/// Pieces in which the file is filled.
const FILL_BYTES: usize = 1024 * 1024;

/// A file of the probe, open for direct I/O. Removed when dropped.
pub(super) struct TestFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl TestFile {
    /// A file of which every byte was written and flushed.
    pub(super) fn prepare(directory: &Path, bytes: u64) -> Result<TestFile, Box<dyn Error>> {
        let test = TestFile::empty(directory, "probe.data", bytes)?;
        let mut block = Region::new(FILL_BYTES)?;
        block.bytes().fill(0x5a);
        for piece in 0..bytes / to_u64(FILL_BYTES) {
            test.file.write_all_at(block.bytes(), piece * to_u64(FILL_BYTES))?;
        }
        test.file.sync_all()?;
        Ok(test)
    }

    /// A file without content beside this one, which may grow to the same size.
    pub(super) fn growing(&self) -> Result<TestFile, Box<dyn Error>> {
        let directory = self.path.parent().ok_or("a file is in a directory")?;
        TestFile::empty(directory, "probe.growing", self.bytes)
    }

    fn empty(directory: &Path, name: &str, bytes: u64) -> Result<TestFile, Box<dyn Error>> {
        let path = directory.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
        let file = options.open(&path).map_err(|error| format!("direct I/O in {}: {error}", directory.display()))?;
        Ok(TestFile { path, file, bytes })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How many whole blocks of this size it has, or may grow to.
    pub(super) fn blocks(&self, block_bytes: usize) -> u64 {
        self.bytes / to_u64(block_bytes)
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        // It lies in a directory for such files; one that stays is overwritten by the next probe.
        let _ = fs::remove_file(&self.path);
    }
}

/// What is done with blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    Read,
    Write,
}

/// Operations on one file. The ring stands first: it is dropped before the memory that the kernel may use.
pub(super) struct Blocks<'a> {
    ring: IoUring,
    memory: Region,
    /// Whether the ring knows the memory beforehand, for which it must be locked.
    is_registered: bool,
    file: &'a File,
    block_bytes: usize,
    /// When the operation of each place began.
    began: Vec<Instant>,
}

impl Blocks<'_> {
    /// Places for `depth` operations. Their memory is registered as that of the broker is, where the host allows that.
    pub(super) fn new(file: &File, block_bytes: usize, depth: usize) -> io::Result<Blocks<'_>> {
        let ring = IoUring::new(u32::try_from(depth).map_err(io::Error::other)?)?;
        let memory = Region::new(block_bytes * depth)?;
        let whole = libc::iovec { iov_base: memory.at(0).cast(), iov_len: block_bytes * depth };
        // SAFETY: the mapping is ours and is dropped after the ring.
        let is_registered = unsafe { ring.submitter().register_buffers(&[whole]) }.is_ok();
        Ok(Blocks { ring, memory, is_registered, file, block_bytes, began: vec![Instant::now(); depth] })
    }

    /// Does one operation after the other, each at the next of `blocks`, until the round is over or the blocks are.
    pub(super) fn run(&mut self, act: Act, mut blocks: impl Iterator<Item = u64>, meter: &mut Meter) -> io::Result<()> {
        let mut in_flight = 0_u32;
        for place in 0..self.began.len() {
            if let Some(block) = blocks.next() {
                self.submit(act, place, block);
                in_flight += 1;
            }
        }
        while in_flight > 0 {
            self.ring.submit_and_wait(1)?;
            while let Some(entry) = self.next_completion() {
                in_flight -= 1;
                self.check(entry.result())?;
                let place = usize::try_from(entry.user_data()).map_err(io::Error::other)?;
                meter.count(self.began[place]);
                if meter.is_over() {
                    continue;
                }
                if let Some(block) = blocks.next() {
                    self.submit(act, place, block);
                    in_flight += 1;
                }
            }
        }
        Ok(())
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn submit(&mut self, act: Act, place: usize, block: u64) {
        let memory = self.memory.at(place * self.block_bytes);
        let bytes = u32::try_from(self.block_bytes).expect("a block is small");
        let position = block * to_u64(self.block_bytes);
        let file = Fd(self.file.as_raw_fd());
        let entry = match (act, self.is_registered) {
            (Act::Read, true) => opcode::ReadFixed::new(file, memory, bytes, 0).offset(position).build(),
            (Act::Read, false) => opcode::Read::new(file, memory, bytes).offset(position).build(),
            (Act::Write, true) => opcode::WriteFixed::new(file, memory, bytes, 0).offset(position).build(),
            (Act::Write, false) => opcode::Write::new(file, memory, bytes).offset(position).build(),
        };
        self.began[place] = Instant::now();
        // SAFETY: the place's memory is mapped until after the ring is dropped, and no other operation in flight uses it.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(to_u64(place))) };
        pushed.expect("a queue has room for as many operations as there are places");
    }

    fn check(&self, result: i32) -> io::Result<()> {
        let bytes = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))?;
        if bytes == self.block_bytes {
            Ok(())
        } else {
            Err(io::Error::other(format!("{bytes} of {} bytes", self.block_bytes)))
        }
    }
}
