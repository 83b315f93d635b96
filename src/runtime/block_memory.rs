//! Where blocks of the log get their memory: huge pages, made ready by a thread of their own.
//!
//! A direct write outside the registered pool pins its pages, one by one: 38 of 287 ns per KiB produced went there. Two
//! blocks to a huge page pin as two. And the first touch of fresh memory, a fault and 4 KiB of zeroes each time, cost a
//! shard more than the copy it made the memory for, until its tail was full; here another thread touches it first.
//!
//! It is the program's allocator, since the memory of a glommio buffer can come from nowhere else: requests of exactly one
//! block, aligned for direct I/O, are served from here, everything else goes to the system. What was a block stays one, as
//! address space; of those that are free, [`BLOCKS_FREED_MAX`] keep their memory and the rest give it back to the system.
//!
//! The system's allocator keeps what was freed too, and the more the larger it was. [`give_back`] has it give up what it can.
//!
//! Where the machine has no huge pages it all works as well, and pins 4 KiB at a time. Measured: 312 -> 250 ns of CPU per KiB
//! produced. On a virtual machine whose host gives memory only when it is touched, a huge page costs 0.8 ms once, while
//! the tail fills; where memory is there, 0.09 ms instead of the 0.6 of its 512 small ones.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::{BLOCK_BYTES, BLOCK_REGION_BYTES, BLOCKS_FREED_MAX, BLOCKS_READY, IO_ALIGNMENT};

/// A huge page of x86-64 and, with 4 KiB pages, of arm64.
const HUGE_PAGE_BYTES: usize = 2 * 1024 * 1024;
// A page is cut into two.
const _: () = assert!(HUGE_PAGE_BYTES == 2 * BLOCK_BYTES);
const _: () = assert!(BLOCK_REGION_BYTES.is_multiple_of(HUGE_PAGE_BYTES));

/// The program's allocator.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockMemory;

static BLOCKS: Mutex<Blocks> = Mutex::new(Blocks::new());
static WANTED: Condvar = Condvar::new();

/// A stack of free blocks: each holds the address of the next in its first bytes.
struct Stack {
    top: *mut u8,
    count: usize,
}

impl Stack {
    const fn new() -> Stack {
        Stack { top: ptr::null_mut(), count: 0 }
    }

    /// # Safety
    /// `block` is a block that nobody else uses.
    unsafe fn push(&mut self, block: *mut u8) {
        // SAFETY: a block is longer than a pointer and aligned to far more; by this function's contract it is ours.
        unsafe { block.cast::<*mut u8>().write(self.top) };
        self.top = block;
        self.count += 1;
    }

    fn pop(&mut self) -> Option<*mut u8> {
        if self.top.is_null() {
            return None;
        }
        let block = self.top;
        // SAFETY: what is on the stack was pushed, so its first bytes hold the address of the next.
        self.top = unsafe { block.cast::<*mut u8>().read() };
        self.count -= 1;
        Some(block)
    }
}

struct Blocks {
    /// Used before: the last freed is likely still in a cache.
    freed: Stack,
    /// Touched by the thread that prepares, and by nobody since.
    ready: Stack,
    /// Given back but for the first page of each, which holds the stack together.
    returned: Stack,
    /// The rest of the region that is being cut up.
    rest: *mut u8,
    rest_bytes: usize,
    /// A thread prepares blocks.
    prepares: bool,
    /// Somebody took fresh memory: what was taken once is likely to be taken on.
    is_growing: bool,
    /// Somebody asked for what the system's allocator keeps.
    gives_back: bool,
}

// SAFETY: the pointers are addresses of memory that only the holder of the lock touches.
unsafe impl Send for Blocks {}

impl Blocks {
    const fn new() -> Blocks {
        Blocks {
            freed: Stack::new(),
            ready: Stack::new(),
            returned: Stack::new(),
            rest: ptr::null_mut(),
            rest_bytes: 0,
            prepares: false,
            is_growing: false,
            gives_back: false,
        }
    }

    /// # Safety
    /// `block` is a block whose owner gives it up.
    unsafe fn free(&mut self, block: *mut u8) {
        if self.freed.count < BLOCKS_FREED_MAX {
            // SAFETY: this function's contract.
            return unsafe { self.freed.push(block) };
        }
        // SAFETY: nobody uses the block, and it is pages of a mapping of our own. Refused, it only keeps its memory.
        unsafe {
            let _ = libc::madvise(block.cast(), BLOCK_BYTES, libc::MADV_DONTNEED);
            self.returned.push(block);
        }
    }

    fn take(&mut self) -> Option<*mut u8> {
        if let Some(block) = self.freed.pop() {
            return Some(block);
        }
        self.is_growing = true;
        if self.prepares && self.ready.count <= BLOCKS_READY / 2 {
            WANTED.notify_one();
        }
        if let Some(block) = self.ready.pop().or_else(|| self.returned.pop()) {
            return Some(block);
        }
        let page = self.cut()?;
        // SAFETY: the page was just cut and is two blocks long; its second half is given to nobody else.
        unsafe { self.freed.push(page.add(BLOCK_BYTES)) };
        Some(page)
    }

    /// Untouched memory of one huge page.
    fn cut(&mut self) -> Option<*mut u8> {
        if self.rest_bytes == 0 {
            self.rest = map_region()?;
            self.rest_bytes = BLOCK_REGION_BYTES;
        }
        let page = self.rest;
        // SAFETY: the rest is a multiple of a huge page, and not empty, so this stays within the region or at its end.
        self.rest = unsafe { page.add(HUGE_PAGE_BYTES) };
        self.rest_bytes -= HUGE_PAGE_BYTES;
        Some(page)
    }
}

/// Address space for a region of blocks, aligned to huge pages. No memory yet.
fn map_region() -> Option<*mut u8> {
    let bytes = BLOCK_REGION_BYTES + HUGE_PAGE_BYTES;
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a fresh anonymous mapping touches no memory that exists.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    let mapped = mapped.cast::<u8>();
    // SAFETY: the mapping is a huge page longer than the region, so the aligned region lies within it.
    let region = unsafe { mapped.add(mapped.align_offset(HUGE_PAGE_BYTES)) };
    // SAFETY: advice over memory of our own. It may be refused where there are no huge pages; 4 KiB pages do as well.
    let _ = unsafe { libc::madvise(region.cast(), BLOCK_REGION_BYTES, libc::MADV_HUGEPAGE) };
    Some(region)
}

fn lock() -> MutexGuard<'static, Blocks> {
    // Nothing that holds the lock can panic half way; an allocator must not panic in any case.
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that has fresh blocks ready before they are wanted. It does nothing until the first one is, and a
/// program that does not call this has its blocks made ready by whoever touches them first.
pub fn start_preparing() {
    let mut blocks = lock();
    if std::mem::replace(&mut blocks.prepares, true) {
        return;
    }
    drop(blocks);
    let started = std::thread::Builder::new().name("block-memory".into()).spawn(prepare);
    if started.is_err() {
        lock().prepares = false;
    }
}

/// Has the system's allocator give memory that nobody uses back to the system: after much of it was freed. Returns at once;
/// the thread that prepares blocks does it, since it takes milliseconds where much was freed.
pub fn give_back() {
    lock().gives_back = true;
    WANTED.notify_one();
}

fn prepare() {
    let mut blocks = lock();
    loop {
        if std::mem::take(&mut blocks.gives_back) {
            drop(blocks);
            // SAFETY: it takes the locks that it needs, and nothing that is in use moves.
            unsafe { libc::malloc_trim(0) };
            blocks = lock();
        }
        if !blocks.is_growing || blocks.ready.count >= BLOCKS_READY {
            blocks.is_growing = false;
            blocks = WANTED.wait(blocks).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        if let Some(block) = blocks.returned.pop() {
            drop(blocks);
            // SAFETY: the block was on the stack, so it is nobody's but this thread's.
            let _ = unsafe { libc::madvise(block.cast(), BLOCK_BYTES, libc::MADV_POPULATE_WRITE) };
            blocks = lock();
            // SAFETY: as above.
            unsafe { blocks.ready.push(block) };
            continue;
        }
        let Some(page) = blocks.cut() else {
            // No address space: whoever wants a block is told.
            blocks.is_growing = false;
            continue;
        };
        drop(blocks);
        // SAFETY: the page was cut for this thread alone. A refusal (an old kernel, no memory) only leaves it untouched.
        let _ = unsafe { libc::madvise(page.cast(), HUGE_PAGE_BYTES, libc::MADV_POPULATE_WRITE) };
        blocks = lock();
        for block in [BLOCK_BYTES, 0] {
            // SAFETY: the two halves of the page are blocks that nobody has yet.
            unsafe { blocks.ready.push(page.add(block)) };
        }
    }
}

fn is_block(layout: Layout) -> bool {
    layout.size() == BLOCK_BYTES && layout.align() == IO_ALIGNMENT
}

// SAFETY: a block comes from a mapping of our own, is `BLOCK_BYTES` long, aligned to more than `IO_ALIGNMENT`, and on no
// stack while it is out; everything else is the system allocator's. The same layout decides at both ends.
unsafe impl GlobalAlloc for BlockMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_block(layout) {
            return lock().take().unwrap_or(ptr::null_mut());
        }
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_block(layout) {
            // SAFETY: memory of this layout came from `take`, and its owner gives it up.
            return unsafe { lock().free(memory) };
        }
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_block(layout) {
            let block = lock().take().unwrap_or(ptr::null_mut());
            if !block.is_null() {
                // SAFETY: a block is that long, and nobody else has it.
                unsafe { block.write_bytes(0, BLOCK_BYTES) };
            }
            return block;
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(bytes, layout.align()) else { return ptr::null_mut() };
        if !is_block(layout) && !is_block(wanted) {
            // SAFETY: as above.
            return unsafe { System.realloc(memory, layout, bytes) };
        }
        // SAFETY: the new memory is distinct from the old; both are at least as long as what is copied; the old one is
        // given up with the layout it came with.
        unsafe {
            let target = self.alloc(wanted);
            if !target.is_null() {
                ptr::copy_nonoverlapping(memory, target, layout.size().min(bytes));
                self.dealloc(memory, layout);
            }
            target
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Layout = match Layout::from_size_align(BLOCK_BYTES, IO_ALIGNMENT) {
        Ok(layout) => layout,
        Err(_) => panic!("a block has a layout"),
    };

    fn fill(memory: *mut u8, bytes: usize, value: u8) {
        // SAFETY: the tests below pass memory of that length that is theirs.
        unsafe { memory.write_bytes(value, bytes) };
    }

    fn holds(memory: *mut u8, bytes: usize, value: u8) -> bool {
        // SAFETY: as above, and filled before.
        unsafe { std::slice::from_raw_parts(memory, bytes) }.iter().all(|byte| *byte == value)
    }

    #[test]
    fn blocks_are_aligned_and_no_two_share_a_byte() {
        start_preparing();
        let blocks: Vec<*mut u8> = (0..3 * BLOCKS_READY).map(|_| unsafe { BlockMemory.alloc(BLOCK) }).collect();
        for (value, block) in (0..).zip(&blocks) {
            assert!(!block.is_null() && block.addr().is_multiple_of(IO_ALIGNMENT));
            fill(*block, BLOCK_BYTES, value);
        }
        for (value, block) in (0..).zip(&blocks) {
            assert!(holds(*block, BLOCK_BYTES, value));
            // SAFETY: allocated above with this layout.
            unsafe { BlockMemory.dealloc(*block, BLOCK) };
        }
    }

    /// What a hundred large answers had once was the process's for good.
    #[test]
    fn freed_blocks_beyond_a_few_give_their_memory_back_and_are_blocks_again() {
        let count = 3 * BLOCKS_FREED_MAX;
        let blocks: Vec<*mut u8> = (0..count).map(|_| unsafe { BlockMemory.alloc(BLOCK) }).collect();
        for block in &blocks {
            fill(*block, BLOCK_BYTES, 3);
        }
        for block in &blocks {
            // SAFETY: allocated above with this layout.
            unsafe { BlockMemory.dealloc(*block, BLOCK) };
        }
        let resident: usize = blocks.iter().map(|block| resident_bytes(*block)).sum();
        // Tests beside this one take and free blocks too: a few of these may be theirs by now.
        assert!(resident < (BLOCKS_FREED_MAX + BLOCKS_READY) * BLOCK_BYTES, "{resident} bytes of {count} freed blocks");
        let again: Vec<*mut u8> = (0..count).map(|_| unsafe { BlockMemory.alloc(BLOCK) }).collect();
        for (value, block) in (0..).zip(&again) {
            fill(*block, BLOCK_BYTES, value);
        }
        for (value, block) in (0..).zip(&again) {
            assert!(holds(*block, BLOCK_BYTES, value));
            // SAFETY: allocated above with this layout.
            unsafe { BlockMemory.dealloc(*block, BLOCK) };
        }
    }

    /// Bytes of a block that are in memory.
    fn resident_bytes(block: *mut u8) -> usize {
        let mut pages = [0u8; BLOCK_BYTES / 4096];
        // SAFETY: a block is mapped and aligned to pages, and there is room for a byte of each.
        let told = unsafe { libc::mincore(block.cast(), BLOCK_BYTES, pages.as_mut_ptr()) };
        assert_eq!(told, 0);
        4096 * pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn memory_keeps_its_content_when_it_becomes_a_block_and_back() {
        let small = Layout::from_size_align(IO_ALIGNMENT, IO_ALIGNMENT).unwrap();
        // SAFETY: each layout is the one that the memory has at that moment.
        unsafe {
            let memory = BlockMemory.alloc(small);
            fill(memory, small.size(), 7);
            let block = BlockMemory.realloc(memory, small, BLOCK_BYTES);
            assert!(holds(block, small.size(), 7));
            let memory = BlockMemory.realloc(block, BLOCK, small.size());
            assert!(holds(memory, small.size(), 7));
            BlockMemory.dealloc(memory, small);
            let zeroed = BlockMemory.alloc_zeroed(BLOCK);
            assert!(holds(zeroed, BLOCK_BYTES, 0));
            BlockMemory.dealloc(zeroed, BLOCK);
        }
    }
}
