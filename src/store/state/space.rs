//! What the store knows of its room, and how far each [`Purpose`] may go. Pure. The rules stand in `space::room`.

use crate::limits::{FILES_RESERVED, SEGMENTS_RESERVED};
use crate::store::{Purpose, StoreOptions};
use crate::types::MonotonicUs;

/// What the store knows of its room.
#[derive(Debug, Default)]
pub(in crate::store) struct Space {
    /// Bytes of segments in use when the store was opened.
    pub(in crate::store) used_bytes_at_open: u64,
    /// Whom the open segment was opened for: those before it append only where the reserve is whole without it.
    pub(in crate::store) opened_for: Option<Purpose>,
    /// Something was refused, and no room for it has come since.
    pub(in crate::store) is_full: bool,
    /// The last checkpoint found no space.
    pub(in crate::store) is_checkpoint_waiting: bool,
    /// Fewest free files since `free_since`: so many were not needed.
    pub(in crate::store) free_files_min: usize,
    pub(in crate::store) free_since: MonotonicUs,
    /// Bytes appended by `traffic_since`.
    pub(in crate::store) traffic_from: u64,
    pub(in crate::store) traffic_since: MonotonicUs,
}

/// Whether another segment may be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::store) enum Room {
    /// Yes.
    Now,
    /// Once a file that is being made is there.
    Soon,
    /// No.
    None,
}

impl Purpose {
    /// Segments beyond the budget that it may open.
    pub(in crate::store) fn segments_reserved(self) -> u64 {
        if cfg!(corelane_defect = "reserve_eaten_by_appends") {
            return u64::from(SEGMENTS_RESERVED);
        }
        u64::from(match self {
            Purpose::Client => 0,
            Purpose::Group => SEGMENTS_RESERVED - 2,
            Purpose::Metadata => SEGMENTS_RESERVED - 1,
            Purpose::FreesSpace => SEGMENTS_RESERVED,
        })
    }

    /// Files that it leaves to others.
    pub(in crate::store) fn files_left(self) -> usize {
        if cfg!(corelane_defect = "reserve_eaten_by_appends") {
            return 0;
        }
        match self {
            Purpose::Client => FILES_RESERVED,
            Purpose::Group | Purpose::Metadata => FILES_RESERVED - 1,
            Purpose::FreesSpace => 0,
        }
    }
}

impl Space {
    /// Of a store that uses so many bytes as it is opened.
    pub(in crate::store) fn new(used_bytes: u64, now: MonotonicUs) -> Space {
        Space { used_bytes_at_open: used_bytes, traffic_since: now, ..Space::default() }
    }

    /// Whether the open segment is part of a reserve that is not for `purpose`. After a start it is, since nobody knows what
    /// it was opened for, until the reserve is seen to be whole.
    pub(in crate::store) fn keeps_open_segment_from(&self, purpose: Purpose) -> bool {
        purpose < self.opened_for.unwrap_or(Purpose::FreesSpace)
    }

    /// The open segment is for `purpose` and those after it.
    pub(in crate::store) fn open_for(&mut self, purpose: Purpose) {
        self.opened_for = Some(purpose);
    }

    /// Something was refused, and no room for it has come since.
    pub(in crate::store) fn is_full(&self) -> bool {
        self.is_full
    }

    /// The last checkpoint found no space.
    pub(in crate::store) fn is_checkpoint_waiting(&self) -> bool {
        self.is_checkpoint_waiting
    }

    /// A checkpoint was written, or found no space.
    pub(in crate::store) fn on_checkpoint(&mut self, is_written: bool) {
        self.is_checkpoint_waiting = !is_written;
    }

    /// Up to where segments may be opened for a purpose, in bytes.
    pub(in crate::store) fn limit_bytes(&self, options: &StoreOptions, purpose: Purpose) -> u64 {
        let base = match purpose {
            Purpose::Client => options.budget_bytes,
            _ => options.budget_bytes.max(self.used_bytes_at_open),
        };
        base.saturating_add(purpose.segments_reserved() * u64::from(options.segment_bytes))
    }
}
