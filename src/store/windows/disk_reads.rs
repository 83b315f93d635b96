//! Reads of segments: bounded in flight, shared by who wants the same, and each holding its segment.
//!
//! A read runs as a task of its own, so that a caller who gives up neither cancels it for others nor frees the segment
//! under it. One per core. Invariant: while a [`SegmentHold`] lives, its segment's file is not reused.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::limits::COLD_READ_DEPTH;
use crate::runtime::block::Block;
use crate::runtime::{Buffer, File, Runtime};
use crate::store::windows::holds::SegmentHold;

/// Why a read brought nothing: the system's words.
#[derive(Clone, Debug)]
pub(crate) struct ReadFailure {
    pub(crate) cause: Rc<std::io::Error>,
}

/// What a read ends with.
pub(crate) type ReadResult<B> = Result<Rc<Block<B>>, ReadFailure>;

/// A value that several tasks wait for.
pub(crate) struct Pending<T> {
    value: RefCell<Option<T>>,
    wakers: RefCell<Vec<Waker>>,
}

impl<T: Clone> Pending<T> {
    pub(crate) fn new() -> Rc<Pending<T>> {
        Rc::new(Pending { value: RefCell::new(None), wakers: RefCell::new(Vec::new()) })
    }

    pub(crate) fn complete(&self, value: T) {
        let earlier = self.value.borrow_mut().replace(value);
        assert!(earlier.is_none());
        // Taken first: a waker may run code that waits again.
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The value, once it is there.
    pub(crate) async fn wait(&self) -> T {
        poll_fn(|context| match &*self.value.borrow() {
            Some(value) => Poll::Ready(value.clone()),
            None => {
                let mut wakers = self.wakers.borrow_mut();
                if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                    wakers.push(context.waker().clone());
                }
                Poll::Pending
            }
        })
        .await
    }
}

/// The reads of one core. Cheap to clone.
pub(crate) struct DiskReads<R: Runtime> {
    runtime: R,
    depth: Rc<Depth>,
}

impl<R: Runtime> Clone for DiskReads<R> {
    fn clone(&self) -> Self {
        DiskReads { runtime: self.runtime.clone(), depth: Rc::clone(&self.depth) }
    }
}

impl<R: Runtime> DiskReads<R> {
    pub(crate) fn new(runtime: R) -> DiskReads<R> {
        let depth = Depth { limit: Cell::new(COLD_READ_DEPTH), used: Cell::new(0), queue: RefCell::default() };
        DiskReads { runtime, depth: Rc::new(depth) }
    }

    /// Changes how much may be in flight, from the next read on: less when reads slow the log down.
    pub(crate) fn set_depth(&self, depth: u32) {
        self.depth.limit.set(depth.clamp(1, COLD_READ_DEPTH));
        self.depth.grant();
    }

    /// Starts a read of `bytes` at `position`, both whole units, that counts for `weight` of the depth; `then` sees the
    /// result before those who wait for it.
    pub(crate) fn start(
        &self,
        file: &R::File,
        hold: &SegmentHold,
        (position, bytes): (u32, usize),
        weight: u32,
        then: impl FnOnce(&ReadResult<R::Buffer>) + 'static,
    ) -> Rc<Pending<ReadResult<R::Buffer>>> {
        let pending = Pending::new();
        let (file, hold, depth, result) = (file.clone(), hold.clone(), Rc::clone(&self.depth), Rc::clone(&pending));
        self.runtime.spawn(async move {
            let weight = depth.acquire(weight).await;
            let read = file.read_at(u64::from(position), bytes).await;
            depth.release(weight);
            drop(hold);
            let read = match read {
                Ok(buffer) => {
                    let filled = buffer.bytes();
                    Ok(Rc::new(Block::new(buffer, filled)))
                }
                Err(cause) => Err(ReadFailure { cause: Rc::new(cause) }),
            };
            then(&read);
            result.complete(read);
        });
        pending
    }
}

/// How much is in flight, and who waits, in order. Acquired by tasks that always run to their end.
struct Depth {
    limit: Cell<u32>,
    used: Cell<u32>,
    queue: RefCell<VecDeque<(u32, Rc<Pending<u32>>)>>,
}

impl Depth {
    /// Waits for room for `weight`, or for all of it when the limit is lower. Returns what was taken.
    async fn acquire(&self, weight: u32) -> u32 {
        let pending = Pending::new();
        self.queue.borrow_mut().push_back((weight, Rc::clone(&pending)));
        self.grant();
        pending.wait().await
    }

    fn release(&self, taken: u32) {
        self.used.set(self.used.get() - taken);
        self.grant();
    }

    fn grant(&self) {
        loop {
            let mut queue = self.queue.borrow_mut();
            let Some((weight, _)) = queue.front() else { return };
            let taken = (*weight).min(self.limit.get());
            if self.used.get() + taken > self.limit.get() {
                return;
            }
            self.used.set(self.used.get() + taken);
            let (_, pending) = queue.pop_front().expect("looked at");
            drop(queue);
            pending.complete(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_wait_in_order_and_none_passes_a_heavier_one() {
        let depth = Depth { limit: Cell::new(16), used: Cell::new(0), queue: RefCell::default() };
        let ask = |weight| {
            let pending = Pending::new();
            depth.queue.borrow_mut().push_back((weight, Rc::clone(&pending)));
            depth.grant();
            pending
        };
        let granted = |pending: &Rc<Pending<u32>>| *pending.value.borrow();
        let (first, second, third) = (ask(10), ask(8), ask(1));
        assert_eq!((granted(&first), granted(&second), granted(&third)), (Some(10), None, None));
        depth.limit.set(4);
        depth.release(10);
        assert_eq!((granted(&second), granted(&third)), (Some(4), None));
        depth.release(4);
        assert_eq!(granted(&third), Some(1));
    }
}
