//! Room: who may open another segment, and what is told when nobody may.
//!
//! Two things can run out, the shard's budget and the device. Both are shared by purpose ([`Purpose`]): records of clients
//! stop first, what group coordinators must remember goes on into a reserve, changes of the metadata go further, and what
//! frees space may use all of it. The reserve is a number of segments beyond the budget, and, since a device may be full
//! at any budget, a number of files that are made while there is room and kept: so a broker can start, serve reads and
//! delete where not one byte is free.
//!
//! A budget may be smaller than what is used already (more shards on the device than before). Then all but clients go by
//! what was used when the store was opened: what frees space must never wait for space.
//!
//! A segment that was opened out of the reserve is part of it to its end: one commit of a group opens it, and clients who
//! could then fill it would have all of the reserve, one segment after the other. So clients, and others in their order,
//! append nothing to a segment that was opened for others until the reserve is whole without it.
//!
//! Invariant: a segment is opened only where a file for it is there or can be expected.

use crate::limits::{CLEAN_SPARE_FROM_SEGMENTS, FILES_RESERVED, FREE_FILES_KEPT_MS, FREE_FILES_TRAFFIC_MS};
use crate::runtime::Runtime;
use crate::store::format::usize_of;
use crate::store::state::space::Room;
use crate::store::state::{Core, State};
use crate::store::{Purpose, StorageError, StoreOptions};
use crate::types::MonotonicUs;

impl<R: Runtime> State<R> {
    /// Bytes that the next segment may have, when it is opened for `purpose`.
    pub(in crate::store) fn bytes_left(&self, options: &StoreOptions, purpose: Purpose) -> u64 {
        self.space.limit_bytes(options, purpose).saturating_sub(self.segments.used_bytes())
    }

    /// Whether another segment may be opened for `purpose`.
    pub(in crate::store) fn room(&self, options: &StoreOptions, purpose: Purpose) -> Room {
        self.room_with(options, purpose, 1)
    }

    /// Whether the open segment is for `purpose`, though it was opened for others or nobody knows for whom.
    pub(in crate::store) fn room_in_open(&self, options: &StoreOptions, purpose: Purpose) -> Room {
        self.room_with(options, purpose, 0)
    }

    /// Whether the reserve is whole for `purpose` with so many segments more.
    fn room_with(&self, options: &StoreOptions, purpose: Purpose, segments: u32) -> Room {
        let more_bytes = u64::from(segments) * u64::from(options.segment_bytes);
        let used_bytes = self.segments.used_bytes();
        if used_bytes + more_bytes > self.space.limit_bytes(options, purpose) {
            return Room::None;
        }
        let files = purpose.files_left() + usize::from(is_large(options, used_bytes)) + usize_of(segments);
        if self.segments.spare_files(options.segment_bytes) >= files {
            return Room::Now;
        }
        let is_made = self.segments.preparing_bytes > 0 || self.may_create(options, options.segment_bytes);
        if is_made && !self.segments.out_of_space { Room::Soon } else { Room::None }
    }

    /// Whom the next segment is opened for when an entry for `purpose` opens it: all who might open it now, at least that.
    pub(in crate::store) fn next_is_for(&self, options: &StoreOptions, purpose: Purpose) -> Purpose {
        let mut all = [Purpose::Client, Purpose::Group, Purpose::Metadata].into_iter();
        all.find(|other| self.room(options, *other) == Room::Now).map_or(purpose, |first| first.min(purpose))
    }

    /// Whether one more free file is kept than the reserve: the cleaner's, so that it finds one where nobody else does. A small
    /// store has nothing to clean.
    pub(in crate::store) fn keeps_spare(&self, options: &StoreOptions) -> bool {
        is_large(options, self.segments.used_bytes())
    }

    /// Free files that are kept for those who cannot wait.
    pub(in crate::store) fn files_reserved(&self, options: &StoreOptions) -> usize {
        FILES_RESERVED + usize::from(self.keeps_spare(options))
    }

    /// Whether a file of so many bytes, that nothing waits for yet, stays within the limits.
    pub(in crate::store) fn may_create(&self, options: &StoreOptions, bytes: u32) -> bool {
        let spare_bytes = u64::from(self.keeps_spare(options)) * u64::from(options.segment_bytes);
        let limit_bytes = self.space.limit_bytes(options, Purpose::FreesSpace).saturating_add(spare_bytes);
        self.segments.disk_bytes() + u64::from(bytes) <= limit_bytes
    }

    /// Once in a while lets go of free files beside the reserve: of those that nobody needed since, and sooner of those that the
    /// traffic of late will not need.
    pub(in crate::store) fn let_go_of_free_files(&mut self, options: &StoreOptions, now: MonotonicUs) {
        let free_files = self.segments.free.len();
        self.space.free_files_min = self.space.free_files_min.min(free_files);
        if now.since_us(self.space.free_since) >= FREE_FILES_KEPT_MS * 1000 {
            self.segments.let_go(self.space.free_files_min.saturating_sub(self.files_reserved(options)));
            (self.space.free_files_min, self.space.free_since) = (self.segments.free.len(), now);
        }
        if now.since_us(self.space.traffic_since) >= FREE_FILES_TRAFFIC_MS * 1000 {
            let appended = self.stats.appended_bytes;
            let soon = (appended - self.space.traffic_from) * (FREE_FILES_KEPT_MS / FREE_FILES_TRAFFIC_MS);
            let needed = usize::try_from(soon / u64::from(options.segment_bytes) + 1).unwrap_or(usize::MAX);
            let kept = needed.saturating_add(self.files_reserved(options));
            self.segments.let_go(self.segments.free.len().saturating_sub(kept));
            (self.space.traffic_from, self.space.traffic_since) = (appended, now);
        }
    }

    /// What somebody is told for whom there is no room.
    pub(in crate::store) fn full(&self, options: &StoreOptions) -> StorageError {
        let (used_bytes, budget_bytes) = (self.segments.used_bytes(), options.budget_bytes);
        let is_within_budget = used_bytes + u64::from(options.segment_bytes) <= budget_bytes;
        StorageError::Full { used_bytes, budget_bytes, is_device_full: is_within_budget }
    }
}

/// Whether a store that uses so many bytes may have something to clean.
fn is_large(options: &StoreOptions, used_bytes: u64) -> bool {
    used_bytes >= CLEAN_SPARE_FROM_SEGMENTS * u64::from(options.segment_bytes)
}

impl<R: Runtime> Core<R> {
    /// Something was refused because there is no room: what is dead is freed at once, and the first refusal is told.
    pub(in crate::store) fn on_full(&self, error: &StorageError) {
        let mut state = self.state.borrow_mut();
        state.space_wanted = true;
        let was_full = std::mem::replace(&mut state.space.is_full, true);
        drop(state);
        if !was_full {
            tracing::warn!(
                shard = %self.options.shard,
                "{error}: records are refused until there is room again: delete topics or records, keep them for less \
                 time, or make the device larger"
            );
        }
        self.bells.checkpoint.ring();
        self.want_cleaning();
    }

    /// Something changed: perhaps there is something to clean.
    pub(in crate::store) fn want_cleaning(&self) {
        self.state.borrow_mut().cleaning.is_wanted = true;
        self.bells.clean.ring();
    }

    /// A file became free or was made: perhaps there is room again.
    pub(in crate::store) fn on_more_space(&self) {
        let mut state = self.state.borrow_mut();
        if state.space.is_full && state.room(&self.options, Purpose::Client) == Room::Now {
            state.space.is_full = false;
            tracing::info!(shard = %self.options.shard, "there is room again: records are taken");
        }
    }
}
