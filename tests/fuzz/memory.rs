//! Counts the bytes that each thread holds, so that a target can say how much a piece of work took at its peak.
//!
//! A target runs on one thread, and so does everything that it drives. Memory of C libraries (zstd) is not seen.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    static HELD_BYTES: Cell<i64> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: usize, sign: i64) {
    let bytes = sign * i64::try_from(bytes).expect("no allocation has 2^63 bytes");
    let held = HELD_BYTES.get() + bytes;
    HELD_BYTES.set(held);
    PEAK_BYTES.set(PEAK_BYTES.get().max(held));
}

#[allow(unsafe_code, reason = "a global allocator is an unsafe trait")]
// SAFETY: every call goes to the system's allocator unchanged. Counting allocates nothing: the cells are constants that
// need no destructor, so they can be reached at any time of a thread's life.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // At worst both lie side by side for a moment.
        count(bytes, 1);
        count(layout.size(), -1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

/// The most bytes that this thread held at once since a moment, beyond those held then. One at a time.
pub(crate) struct Peak {
    held_before: i64,
}

impl Peak {
    /// From now on.
    pub(crate) fn begin() -> Peak {
        let held_before = HELD_BYTES.get();
        PEAK_BYTES.set(held_before);
        Peak { held_before }
    }

    /// Until now.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(PEAK_BYTES.get() - self.held_before).expect("the peak begins at what was held")
    }
}

/// Does `work` on this thread; also gives the peak of it.
pub(crate) fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let peak = Peak::begin();
    let result = work();
    (result, peak.bytes())
}

#[test]
fn the_peak_of_a_piece_of_work_is_what_it_held_at_once() {
    let (_, peak) = peak_bytes(|| {
        drop(std::hint::black_box(vec![1_u8; 10_000]));
        drop(std::hint::black_box(vec![1_u8; 5_000]));
    });
    assert!((10_000..15_000).contains(&peak), "{peak}");
}
