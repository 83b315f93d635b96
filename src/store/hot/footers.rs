//! The footers of sealed segments: written one after the other beside the log. Only checkpoints wait for them.

use std::ops::Range;
use std::rc::Rc;

use crate::runtime::{Buffer, File, Runtime};
use crate::store::StorageError;
use crate::store::state::{Core, State, Step};
use crate::store::windows::holds::SegmentHold;
use crate::types::SegmentNumber;

/// A footer to write.
struct FooterWrite<R: Runtime> {
    file: R::File,
    /// Until it is written the segment is not reused, even if it dies.
    hold: SegmentHold,
    number: SegmentNumber,
    position: u64,
    buffer: Rc<R::Buffer>,
    /// What lies between the data and the footer, when it is worth giving back.
    rest: Option<Range<u32>>,
}

impl<R: Runtime> Core<R> {
    /// Writes the footers of sealed segments, one after the other beside the log. Only checkpoints wait for them.
    pub(in crate::store) async fn run_footers(self: Rc<Self>) {
        loop {
            let step = self.bells.footer.until(|| self.state.borrow_mut().next_footer(&self)).await;
            let Step::Do(write) = step else { return };
            let FooterWrite { file, hold, number, position, buffer, rest } = write;
            if let Err(cause) = file.write_at(buffer, position).await {
                self.fail("write of a footer", &cause);
                return;
            }
            // Before any checkpoint calls the segment sealed: a start after that looks at it no more.
            if let Some(rest) = rest {
                self.give_back(&file, rest).await;
            }
            drop(hold);
            let mut state = self.state.borrow_mut();
            state.footers.pop_front();
            state.footers_unflushed.insert(number);
            state.index.footer_written(number);
            drop(state);
            self.bells.progress.ring();
        }
    }

    /// Gives the space of a part of a segment back that nothing will ever be written to.
    pub(in crate::store) async fn give_back(&self, file: &R::File, rest: Range<u32>) {
        if let Err(cause) = file.give_back(u64::from(rest.start), u64::from(rest.end - rest.start)).await {
            tracing::warn!(shard = %self.options.shard, %cause, "cannot give space back: going on with it");
        }
        self.on_more_space();
    }

    /// Waits until the footers of `segments` are durable: a checkpoint that calls a segment sealed promises that. A
    /// footer has several checksums, so that a torn one could pass at first sight.
    ///
    /// Errors: `ReadOnly`.
    pub(in crate::store) async fn flush_footers(&self, segments: &[SegmentNumber]) -> Result<(), StorageError> {
        if cfg!(corelane_defect = "footer_unflushed") {
            return Ok(());
        }
        self.bells
            .progress
            .until(|| {
                let state = self.state.borrow();
                if let Some(failure) = &state.failure {
                    return Some(Err(failure.clone()));
                }
                let waits = state.footers.iter().any(|footer| segments.contains(&footer.trailer.number));
                (!waits).then_some(Ok(()))
            })
            .await?;
        for number in segments {
            let (file, _hold) = {
                let mut state = self.state.borrow_mut();
                if !state.footers_unflushed.remove(number) {
                    continue;
                }
                let Some(file) = state.segments.file(*number) else { continue };
                (file, state.holds.hold(*number))
            };
            if let Err(cause) = file.flush().await {
                self.fail("flush of a footer", &cause);
                return Err(StorageError::failed("flush of a footer", &cause));
            }
        }
        Ok(())
    }
}

impl<R: Runtime> State<R> {
    fn next_footer(&mut self, core: &Core<R>) -> Option<Step<FooterWrite<R>>> {
        if self.failure.is_some() || (self.stopping && self.is_idle()) {
            return Some(Step::Stop);
        }
        // A segment that was retired meanwhile needs none.
        while let Some(footer) = self.footers.front()
            && !self.segments.live.contains_key(&footer.trailer.number)
        {
            self.footers.pop_front();
        }
        let footer = self.footers.front()?;
        let number = footer.trailer.number;
        let segment = self.segments.live.get(&number)?;
        let file = segment.file.as_ref()?;
        let end = footer.position + u32::try_from(footer.bytes.len()).expect("a footer fits its segment");
        let rest = footer.unused(segment.header.bytes);
        let start = rest.as_ref().map_or(footer.position, |rest| rest.start);
        if self.preparation.touches(file.id, start, end) {
            return None;
        }
        let file = file.file.clone();
        let mut buffer = core.runtime.allocate(footer.bytes.len());
        buffer.as_mut_slice().copy_from_slice(&footer.bytes);
        let position = u64::from(footer.position);
        Some(Step::Do(FooterWrite {
            file,
            hold: self.holds.hold(number),
            number,
            position,
            buffer: Rc::new(buffer),
            rest,
        }))
    }
}
