//! What a job writes into: a file for it, the segment that it becomes, and the moment from which it counts.

use super::Ended;
use super::builder::{Builder, Built, file_bytes};
use crate::runtime::{Runtime, is_out_of_space};
use crate::store::Purpose;
use crate::store::format::{FORMAT_VERSION, SegmentHeader, Stream};
use crate::store::state::Core;
use crate::store::state::segments::SegmentFile;
use crate::types::{FileId, LogPosition};

/// What a job gives back, and so what it may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gives {
    /// More than it takes, soon: the spare file is for it.
    Space,
    /// Perhaps nothing for a while: it takes only what clients could take, too, and leaves them a segment.
    Compaction,
}

impl<R: Runtime> Core<R> {
    /// A file for `wanted` bytes of rows: one that was used before, if they fill it and there are more than the reserve; else one
    /// of just that size, up to the usual one or what `at_least` so many bytes take; else the spare one. `None` when there is
    /// none for such a job.
    pub(super) async fn output_file(&self, wanted: u64, at_least: u64, gives: Gives) -> Option<SegmentFile<R::File>> {
        let created = {
            let mut state = self.state.borrow_mut();
            let options = &self.options;
            let usual = state.segments.bytes_of_next(options.segment_bytes, options.segments_before_growth);
            let needed = file_bytes(wanted, options.block_bytes);
            let least = file_bytes(at_least, options.block_bytes);
            let room = match gives {
                Gives::Space => u64::MAX,
                Gives::Compaction if state.space.is_full() => 0,
                Gives::Compaction => {
                    let taken = state.segments.disk_bytes() + u64::from(options.segment_bytes);
                    let left = state.space.limit_bytes(options, Purpose::Client).saturating_sub(taken);
                    left - left % u64::try_from(options.block_bytes).expect("a block size fits 64 bits")
                }
            };
            let bytes = u32::try_from(needed.min(u64::from(usual)).min(room).max(least)).ok()?;
            let filled =
                |file: &SegmentFile<R::File>| needed >= u64::from(file.bytes) / 4 * 3 && u64::from(file.bytes) >= least;
            if state.free_files() > state.files_reserved(options)
                && state.segments.without_file().is_none()
                && let Some(file) = state.take_free(filled)
            {
                return Some(file);
            }
            if u64::from(bytes) <= room && !state.segments.out_of_space && state.may_create(options, bytes) {
                let id = state.segments.next_file;
                state.segments.next_file = FileId::new(id.value() + 1);
                state.segments.building_bytes = u64::from(bytes);
                Some((id, bytes))
            } else {
                None
            }
        };
        if let Some((id, bytes)) = created {
            let made = self.create_file(id, bytes).await;
            self.state.borrow_mut().segments.building_bytes = 0;
            match made {
                Ok(file) => return Some(file),
                Err(cause) if is_out_of_space(&cause) => {}
                Err(cause) => {
                    tracing::warn!(shard = %self.options.shard, %cause, "cannot create a file for what is moved");
                    return None;
                }
            }
        }
        let mut state = self.state.borrow_mut();
        if gives == Gives::Space && state.has_spare() { state.take_free(|_| true) } else { None }
    }

    /// Begins a cold segment in a file.
    pub(super) fn open_output(&self, file: SegmentFile<R::File>) -> Builder<R> {
        let mut state = self.state.borrow_mut();
        let number = state.segments.next_number;
        state.segments.next_number = number.next();
        state.segments.building_bytes = u64::from(file.bytes);
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            shard: self.options.shard,
            stream: Stream::Cold,
            number,
            incarnation: state.incarnation,
            bytes: file.bytes,
            predecessor: LogPosition::default(),
            checkpoint_sequence: state.checkpoint_sequence,
            durable: state.durable,
        };
        drop(state);
        Builder::new(header, file, &self.options, &self.runtime)
    }

    /// Writes the rest of what was built. `None` when that is nothing; then, and when filling it failed, nothing names the file.
    pub(super) async fn close_output(
        &self,
        mut builder: Builder<R>,
        filled: Result<(), Ended>,
    ) -> Result<Option<Built<R::File>>, Ended> {
        let finished = match filled {
            Ok(()) if builder.is_empty() => Ok(false),
            Ok(()) => builder.finish().await.map(|()| true).map_err(|cause| self.output_failed(&cause)),
            Err(ended) => Err(ended),
        };
        let mut state = self.state.borrow_mut();
        state.segments.building_bytes = 0;
        match finished {
            Ok(true) => Ok(Some(builder.built())),
            ended => {
                state.segments.release(builder.into_file());
                drop(state);
                self.bells.prepare.ring();
                ended.map(|_| None)
            }
        }
    }

    pub(super) fn output_failed(&self, cause: &std::io::Error) -> Ended {
        self.fail("write of what was moved", cause);
        Ended::GivenUp
    }

    /// Lets the index point to what was built.
    pub(super) fn switch_to(&self, built: Built<R::File>) {
        let mut state = self.state.borrow_mut();
        state.switch(built);
        if cfg!(corelane_defect = "victims_freed_at_switch") {
            let dead = state.dead();
            state.retire(&dead);
            state.free_retired();
        }
        drop(state);
        self.bells.footer.ring();
        // More is in use: perhaps one more file is to be kept.
        self.bells.prepare.ring();
    }
}
