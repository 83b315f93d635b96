//! The files of segments: the next one made ready before it is needed, the reserve kept whole, what is too much removed.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::limits::PREPARE_RETRY_MS;
use crate::runtime::Runtime;
use crate::store::StoreOptions;
use crate::store::format::segment_file_name;
use crate::store::state::segments::SegmentFile;
use crate::store::state::{Core, State, Step};
use crate::types::{FileId, SegmentNumber};

/// Where the next segment's file comes from.
enum Source<F> {
    /// An earlier life's file.
    Recycled(SegmentFile<F>),
    /// A new one.
    Created { id: FileId, bytes: u32 },
    /// None: this one is to be removed.
    Removed(SegmentFile<F>),
}

impl<R: Runtime> Core<R> {
    /// Keeps the file of the next segment ready, and the reserve whole.
    pub(in crate::store) async fn run_preparations(self: Rc<Self>) {
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
    pub(in crate::store) async fn create_file(&self, id: FileId, bytes: u32) -> io::Result<SegmentFile<R::File>> {
        let path = self.options.directory.join(segment_file_name(id));
        let file = self.runtime.create(&path, u64::from(bytes)).await?;
        if let Err(cause) = self.runtime.sync_directory(&self.options.directory).await {
            self.remove_file(id).await;
            return Err(cause);
        }
        Ok(SegmentFile { id, bytes, prepared: 0, file })
    }
}

impl<R: Runtime> State<R> {
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
                if free_files >= self.files_reserved(&core.options) || !self.may_create(&core.options, segment_bytes) {
                    return None;
                }
                (segment_bytes, None)
            }
            None => {
                // Near the budget there may be room for a small one only: whoever waits was told that one comes.
                let usual = self.segments.bytes_of_next(segment_bytes, segments_before_growth);
                let bytes = if self.may_create(&core.options, usual) { usual } else { segment_bytes };
                // A file kept ready is a convenience and stays within the budget, and beside the reserve if it can.
                let may_create = !self.segments.out_of_space && self.may_create(&core.options, bytes);
                let recycles = free_files > self.files_reserved(&core.options) || !may_create;
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
}
