//! How appended bytes reach the disk: the tasks that write, flush, and make segment files ready.
//!
//! One write task gives out writes: at once when nothing is in flight, else full blocks only, so that what comes meanwhile leaves
//! together; a block that filled up by more than half during the last write has a moment to become full. One flush task serves everyone who waits. Invariants: `durable <= written <= appended`; *durable* moves
//! only to what was written when a successful flush began; after the first failed write or flush nothing moves again.

use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use crate::limits::{
    FILES_RESERVED, FLUSH_BYTES_AHEAD_MAX, GIVE_BACK_DIVISOR, IO_ALIGNMENT, PART_WRITE_PATIENCE_US, PREPARE_RETRY_MS,
    WRITES_IN_FLIGHT_MAX,
};
use crate::runtime::{Buffer, File, Runtime};
use crate::store::disk_reads::SegmentHold;
use crate::store::format::{Footer, UNIT_BYTES, segment_file_name};
use crate::store::log::{Core, State};
use crate::store::segment_writer::Write;
use crate::store::segments::SegmentFile;
use crate::store::{StorageError, StoreOptions};
use crate::types::{FileId, LogPosition, SegmentNumber};

/// A flush to perform: when all of `files` are flushed, `target` is durable.
struct Flush<F> {
    files: Vec<F>,
    target: LogPosition,
}

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

/// A large part of a block that has a moment to become a full one.
#[derive(Clone, Copy)]
pub(super) struct PartWaiting {
    /// Where it begins.
    start: LogPosition,
    /// The moment has passed.
    is_over: bool,
}

/// Whether a block that is not full may be written now.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Part {
    /// It may.
    Goes,
    /// Not before something else has happened.
    Stays,
    /// The block that begins here gets a moment first, which nobody has begun to count.
    Waits(LogPosition),
}

/// Where the next segment's file comes from.
enum Source<F> {
    /// An earlier life's file.
    Recycled(SegmentFile<F>),
    /// A new one.
    Created { id: FileId, bytes: u32 },
    /// None: this one is to be removed.
    Removed(SegmentFile<F>),
}

/// A write of the log, and the file that it goes to.
type FileWrite<R> = (<R as Runtime>::File, Write<<R as Runtime>::Buffer>);

/// What the write task does next.
enum NextWrite<R: Runtime> {
    /// Gives out this write.
    Write(FileWrite<R>),
    /// Waits a moment for the block that begins here to become full, unless something else is to be done.
    Wait(LogPosition),
}

/// What a task does next; `None` from the condition means that it waits.
pub(super) enum Step<T> {
    Do(T),
    Stop,
}

impl<R: Runtime> Core<R> {
    /// Starts the tasks of an open store.
    pub(super) fn start_tasks(self: &Rc<Self>) {
        self.runtime.spawn(Rc::clone(self).run_writes());
        self.runtime.spawn(Rc::clone(self).run_footers());
        self.runtime.spawn(Rc::clone(self).run_flushes());
        self.runtime.spawn(Rc::clone(self).run_idle_flushes());
        self.runtime.spawn(Rc::clone(self).run_preparations());
        self.runtime.spawn(Rc::clone(self).run_fills());
    }

    /// The store is read-only from here on.
    pub(super) fn fail(&self, operation: &'static str, cause: &io::Error) {
        let mut state = self.state.borrow_mut();
        if state.failure.is_none() {
            tracing::error!(shard = %self.options.shard, %cause, "{operation} failed: the store is read-only");
            state.failure = Some(StorageError::failed(operation, cause));
        }
        drop(state);
        self.bells.ring_all();
        self.tell_owner();
    }

    fn tell_owner(&self) {
        let owner = self.owner.borrow().clone();
        if let Some(owner) = owner {
            owner.on_progress();
        }
    }

    async fn run_writes(self: Rc<Self>) {
        loop {
            let step = self.bells.write.until(|| self.state.borrow_mut().next_write(&self)).await;
            let Step::Do(next) = step else { return };
            let (file, write) = match next {
                NextWrite::Write(write) => write,
                NextWrite::Wait(start) => {
                    self.runtime.spawn(Rc::clone(&self).end_patience(start));
                    continue;
                }
            };
            if cfg!(corelane_defect = "lost_block") && write.id % 64 == 63 {
                self.on_written(write.id);
                continue;
            }
            let core = Rc::clone(&self);
            let done = file.write_at(write.buffer, u64::from(write.position));
            self.runtime.spawn(async move {
                match done.await {
                    Ok(()) => core.on_written(write.id),
                    Err(cause) => core.fail("write", &cause),
                }
            });
        }
    }

    /// Ends the moment that the block which begins at `start` has to become full.
    async fn end_patience(self: Rc<Self>, start: LogPosition) {
        self.runtime.sleep(Duration::from_micros(PART_WRITE_PATIENCE_US)).await;
        let mut state = self.state.borrow_mut();
        if let Some(waiting) = state.part_waiting.as_mut().filter(|waiting| waiting.start == start) {
            waiting.is_over = true;
        }
        drop(state);
        self.bells.write.ring();
    }

    fn on_written(&self, id: u64) {
        let mut state = self.state.borrow_mut();
        state.stats.writes += 1;
        let moved = state.writer.on_written(id);
        if cfg!(corelane_defect = "answer_before_flush") {
            state.durable = state.writer.written();
        }
        assert!(state.durable <= state.writer.written());
        if moved {
            state.evict(&self.options);
        }
        drop(state);
        self.bells.write.ring();
        if moved {
            self.bells.fill.ring();
            self.bells.flush.ring();
            self.bells.room.ring();
            self.bells.progress.ring();
            self.tell_owner();
        }
    }

    /// Writes the footers of sealed segments, one after the other beside the log. Only checkpoints wait for them.
    async fn run_footers(self: Rc<Self>) {
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
    pub(super) async fn give_back(&self, file: &R::File, rest: Range<u32>) {
        if let Err(cause) = file.give_back(u64::from(rest.start), u64::from(rest.end - rest.start)).await {
            tracing::warn!(shard = %self.options.shard, %cause, "cannot give space back: going on with it");
        }
        self.on_more_space();
    }

    /// Waits until the footers of `segments` are durable: a checkpoint that calls a segment sealed promises that. A
    /// footer has several checksums, so that a torn one could pass at first sight.
    ///
    /// Errors: `ReadOnly`.
    pub(super) async fn flush_footers(&self, segments: &[SegmentNumber]) -> Result<(), StorageError> {
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

    async fn run_flushes(self: Rc<Self>) {
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
    async fn run_idle_flushes(self: Rc<Self>) {
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

    /// Keeps the file of the next segment ready, and the reserve whole.
    async fn run_preparations(self: Rc<Self>) {
        loop {
            let step = self.bells.prepare.until(|| self.state.borrow_mut().next_preparation(&self)).await;
            let Step::Do(source) = step else { return };
            let made = match source {
                Source::Recycled(file) => Ok(file),
                Source::Created { id, bytes } => self.create_file(id, bytes).await,
                Source::Removed(file) => {
                    self.remove_file(file.id).await;
                    continue;
                }
            };
            match made {
                Ok(file) => {
                    self.state.borrow_mut().on_prepared(Some(file));
                    self.on_more_space();
                    self.bells.write.ring();
                    self.bells.footer.ring();
                    self.bells.fill.ring();
                    self.bells.room.ring();
                }
                Err(cause) => {
                    if !self.state.borrow().segments.out_of_space {
                        tracing::warn!(shard = %self.options.shard, %cause, "cannot create a segment file");
                    }
                    self.state.borrow_mut().on_prepared(None);
                    self.bells.room.ring();
                    self.runtime.sleep(Duration::from_millis(PREPARE_RETRY_MS)).await;
                }
            }
        }
    }

    /// Removes a file that no checkpoint and no read needs. It may come back with a power cut, to be removed again.
    async fn remove_file(&self, id: FileId) {
        let path = self.options.directory.join(segment_file_name(id));
        if let Err(cause) = self.runtime.remove(&path).await {
            tracing::warn!(shard = %self.options.shard, %cause, "cannot remove {}", path.display());
        }
        self.on_more_space();
        self.bells.room.ring();
    }

    /// Creates a segment file whose name is durable. On failure no file is left: the next try gives it another id, and
    /// nobody would know of this one until the next start.
    pub(super) async fn create_file(&self, id: FileId, bytes: u32) -> io::Result<SegmentFile<R::File>> {
        let path = self.options.directory.join(segment_file_name(id));
        let file = self.runtime.create(&path, u64::from(bytes)).await?;
        if let Err(cause) = self.runtime.sync_directory(&self.options.directory).await {
            self.remove_file(id).await;
            return Err(cause);
        }
        Ok(SegmentFile { id, bytes, prepared: 0, file })
    }

    /// Waits until everything appended by now is durable, asking for a flush.
    ///
    /// Errors: `ReadOnly`.
    pub(super) async fn flush_all(&self) -> Result<(), StorageError> {
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

/// What lies between the data of a sealed segment and its footer, when it is worth giving back: mostly what a crash left.
pub(super) fn unused(footer: &Footer, segment_bytes: u32) -> Option<Range<u32>> {
    let rest = footer.trailer.data_end.next_multiple_of(UNIT_BYTES)..footer.position;
    (rest.end.saturating_sub(rest.start) >= segment_bytes / GIVE_BACK_DIVISOR).then_some(rest)
}

impl<R: Runtime> State<R> {
    fn next_write(&mut self, core: &Rc<Core<R>>) -> Option<Step<NextWrite<R>>> {
        if self.failure.is_some() || (self.stopping && self.is_idle()) {
            return Some(Step::Stop);
        }
        let in_flight = self.writer.in_flight();
        if in_flight >= WRITES_IN_FLIGHT_MAX {
            return None;
        }
        if !self.flush_ends.is_empty() && in_flight > 0 && self.writer.in_flight_bytes() >= FLUSH_BYTES_AHEAD_MAX {
            return None;
        }
        let (number, range) = self.writer.next_write_range()?;
        let file = self.segments.live.get(&number)?.file.as_ref()?;
        let collides = self.preparation.touches(file.id, range.start, range.end.next_multiple_of(UNIT_BYTES));
        if collides && !cfg!(corelane_defect = "prepared_under_writer") {
            return None;
        }
        let file = file.file.clone();
        let part = if in_flight == 0 { self.part(&core.options, number, &range) } else { Part::Stays };
        if let Some(write) = self.writer.next_write(part == Part::Goes, |bytes| core.runtime.allocate(bytes)) {
            assert!(write.buffer.bytes().is_multiple_of(IO_ALIGNMENT));
            return Some(Step::Do(NextWrite::Write((file, write))));
        }
        let Part::Waits(start) = part else { return None };
        self.part_waiting = Some(PartWaiting { start, is_over: false });
        if cfg!(corelane_defect = "spawned_under_borrow") {
            core.runtime.spawn(Rc::clone(core).end_patience(start));
            return None;
        }
        Some(Step::Do(NextWrite::Wait(start)))
    }

    /// What becomes of a block that is not full. A large part would have to be copied, and at the rate at which it came it is
    /// soon a full block, which has not: it waits for that as long as [`PART_WRITE_PATIENCE_US`].
    fn part(&self, options: &StoreOptions, segment: SegmentNumber, range: &Range<u32>) -> Part {
        let block_bytes = u32::try_from(options.block_bytes).expect("a block is smaller than a segment");
        if range.end - range.start < block_bytes / 2 || range.end.is_multiple_of(block_bytes) {
            return Part::Goes;
        }
        let start = LogPosition { segment, byte: range.start };
        match self.part_waiting.filter(|waiting| waiting.start == start) {
            Some(waiting) if waiting.is_over => Part::Goes,
            Some(_) => Part::Stays,
            None => Part::Waits(start),
        }
    }

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
        let rest = unused(footer, segment.header.bytes);
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

    fn next_flush(&self) -> Option<Step<Flush<R::File>>> {
        if self.failure.is_some() || (self.stopping && self.is_idle()) {
            return Some(Step::Stop);
        }
        let target = self.writer.written();
        let awaited = self.flush_ends.front().is_some_and(|end| *end <= target);
        if self.durable >= target || !(awaited || self.flush_forced) {
            return None;
        }
        // At a segment switch both files are flushed, the older one first. A retired one holds nothing of worth.
        let touched = self.segments.live.range(self.durable.segment..=target.segment);
        let files = touched.filter_map(|(_, segment)| Some(segment.file.as_ref()?.file.clone())).collect();
        Some(Step::Do(Flush { files, target }))
    }

    fn wants_idle_flush(&self) -> Option<Step<()>> {
        if self.failure.is_some() || (self.stopping && self.is_idle()) {
            return Some(Step::Stop);
        }
        if self.durable < self.writer.written() { Some(Step::Do(())) } else { None }
    }

    fn next_preparation(&mut self, core: &Core<R>) -> Option<Step<Source<R::File>>> {
        if self.failure.is_some() || (self.stopping && self.is_idle()) {
            return Some(Step::Stop);
        }
        let waiting = self.segments.without_file();
        if waiting.is_none() && self.stopping {
            return None;
        }
        // First of all: what comes next may want its space.
        if let Some(file) = self.segments.unwanted.pop() {
            return Some(Step::Do(Source::Removed(file)));
        }
        let StoreOptions { segment_bytes, segments_before_growth, .. } = core.options;
        let free = &self.segments.free;
        let usable = |file: &SegmentFile<R::File>| file.bytes >= segment_bytes;
        let free_files = free.iter().filter(|file| usable(file)).count();
        let (bytes, recycled) = match waiting.map(|number| self.segments.live[&number].header.bytes) {
            Some(bytes) => (bytes, free.iter().position(|file| file.bytes == bytes)),
            None if self.segments.ready.is_some() => {
                if free_files >= FILES_RESERVED || !self.may_create(&core.options, segment_bytes) {
                    return None;
                }
                (segment_bytes, None)
            }
            None => {
                let bytes = self.segments.bytes_of_next(segment_bytes, segments_before_growth);
                // A file kept ready is a convenience and stays within the budget, and beside the reserve if it can.
                let may_create = !self.segments.out_of_space && self.may_create(&core.options, bytes);
                let recycles = free_files > FILES_RESERVED || !may_create;
                // One that was written is written faster.
                let candidates = free.iter().enumerate().filter(|(_, file)| recycles && usable(file));
                let recycled = candidates.min_by_key(|(_, file)| file.bytes - file.prepared).map(|(index, _)| index);
                if recycled.is_none() && !self.may_create(&core.options, bytes) {
                    return None;
                }
                (bytes, recycled)
            }
        };
        if let Some(index) = recycled {
            self.stats.segments_recycled += 1;
            return Some(Step::Do(Source::Recycled(self.segments.free.remove(index)?)));
        }
        let id = self.segments.next_file;
        self.segments.next_file = FileId::new(id.value() + 1);
        self.segments.preparing_bytes = u64::from(bytes);
        Some(Step::Do(Source::Created { id, bytes }))
    }

    /// A preparation ended: gives the file to the segment that waits for one, or keeps it ready.
    fn on_prepared(&mut self, file: Option<SegmentFile<R::File>>) {
        self.segments.preparing_bytes = 0;
        self.segments.out_of_space = file.is_none();
        let Some(file) = file else { return };
        let waiting: Option<SegmentNumber> = self.segments.without_file();
        match waiting.and_then(|number| self.segments.live.get_mut(&number)) {
            Some(live) if live.header.bytes == file.bytes => {
                // The file may have been freed by a checkpoint that came after the segment was opened.
                if live.header.checkpoint_sequence < self.checkpoint_sequence {
                    live.header.checkpoint_sequence = self.checkpoint_sequence;
                    self.writer.replace_header(live.header.number, &live.header.encode());
                }
                live.file = Some(file);
            }
            _ if self.segments.ready.is_none() => self.segments.ready = Some(file),
            _ => self.segments.free.push_back(file),
        }
    }

    /// Everything appended is durable, no footer is left to write, and no zeroes are in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.durable >= self.writer.appended() && self.footers.is_empty() && self.preparation.is_idle()
    }
}
