//! What was written becomes durable: one task flushes for everyone who waits, another what nobody waits for.
//!
//! Invariants: `durable <= written`; *durable* moves only to what was written when a successful flush began; after the first
//! failed flush nothing moves again.

use std::rc::Rc;
use std::time::Duration;

use crate::runtime::{File, Runtime};
use crate::store::StorageError;
use crate::store::format::Stream;
use crate::store::state::{Core, State, Step};
use crate::types::LogPosition;

/// A flush to perform: when all of `files` are flushed, `target` is durable.
struct Flush<F> {
    files: Vec<F>,
    target: LogPosition,
}

impl<R: Runtime> Core<R> {
    pub(in crate::store) async fn run_flushes(self: Rc<Self>) {
        loop {
            let step = self.bells.flush.until(|| self.state.borrow().next_flush()).await;
            let Step::Do(mut flush) = step else { return };
            self.state.borrow_mut().flush_forced = false;
            let began = self.runtime.now();
            for file in &flush.files {
                if let Err(cause) = file.flush().await {
                    self.fail("flush", &cause);
                    return;
                }
            }
            let mut state = self.state.borrow_mut();
            if state.failure.is_some() {
                return;
            }
            if cfg!(corelane_defect = "durable_at_flush_end") {
                flush.target = state.writer.written();
            }
            state.stats.flushes += 1;
            let flush_us = self.runtime.now().since_us(began);
            state.stats.flush_us = flush_us;
            assert!(state.durable <= flush.target);
            assert!(flush.target <= state.writer.written());
            state.durable = flush.target;
            while state.flush_ends.front().is_some_and(|end| *end <= flush.target) {
                state.flush_ends.pop_front();
            }
            let depth = state.pace.on_flush(flush_us);
            drop(state);
            self.cold.set_depth(depth);
            self.bells.progress.ring();
            self.tell_owner();
        }
    }

    /// Flushes what nobody waits for, after a while.
    pub(in crate::store) async fn run_idle_flushes(self: Rc<Self>) {
        loop {
            let step = self.bells.progress.until(|| self.state.borrow().wants_idle_flush()).await;
            let Step::Do(()) = step else { return };
            self.runtime.sleep(Duration::from_millis(self.options.written_flush_interval_ms)).await;
            let mut state = self.state.borrow_mut();
            state.flush_forced = state.durable < state.writer.written();
            drop(state);
            self.bells.flush.ring();
        }
    }
    /// Waits until everything appended by now is durable, asking for a flush.
    ///
    /// Errors: `ReadOnly`.
    pub(in crate::store) async fn flush_all(&self) -> Result<(), StorageError> {
        let target = self.state.borrow().writer.appended();
        self.bells
            .progress
            .until(|| {
                let mut state = self.state.borrow_mut();
                if let Some(failure) = &state.failure {
                    return Some(Err(failure.clone()));
                }
                if state.durable >= target || state.durable >= state.writer.appended() {
                    return Some(Ok(()));
                }
                state.flush_forced = true;
                drop(state);
                self.bells.flush.ring();
                None
            })
            .await
    }
}

impl<R: Runtime> State<R> {
    fn next_flush(&self) -> Option<Step<Flush<R::File>>> {
        if self.failure.is_some() || (self.stopping && self.is_idle()) {
            return Some(Step::Stop);
        }
        let target = self.writer.written();
        let awaited = self.flush_ends.front().is_some_and(|end| *end <= target);
        if self.durable >= target || !(awaited || self.flush_forced) {
            return None;
        }
        // At a segment switch both files are flushed, the older one first. A retired one holds nothing of worth, and a cold
        // one is flushed with its footer.
        let touched = self.segments.live.range(self.durable.segment..=target.segment);
        let touched = touched.filter(|(_, segment)| segment.header.stream == Stream::Hot);
        let files = touched.filter_map(|(_, segment)| Some(segment.file.as_ref()?.file.clone())).collect();
        Some(Step::Do(Flush { files, target }))
    }

    fn wants_idle_flush(&self) -> Option<Step<()>> {
        if self.failure.is_some() || (self.stopping && self.is_idle()) {
            return Some(Step::Stop);
        }
        if self.durable < self.writer.written() { Some(Step::Do(())) } else { None }
    }
}
