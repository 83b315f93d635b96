//! The segment files of one store: which are live, which are free, and the next one made ready before it is needed.
//!
//! A file has a name for ever (its id); a segment is one life of a file, under a number that never comes back. Invariant:
//! a file is in exactly one place: live, retired (dead, but the newest durable checkpoint may name it or a read holds
//! it), free, unwanted, ready, or with the task that prepares, fills or removes it.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::SEGMENT_BYTES_MAX;
use crate::runtime::File;
use crate::store::format::SegmentHeader;
use crate::store::windows::holds::SegmentHolds;
use crate::types::{FileId, SegmentNumber};

/// A file of the store.
#[derive(Clone, Debug)]
pub(in crate::store) struct SegmentFile<F> {
    /// Its name.
    pub(in crate::store) id: FileId,
    /// Its size.
    pub(in crate::store) bytes: u32,
    /// Up to here it was written at some time, by entries or with zeroes. All of it, once it was a segment.
    pub(in crate::store) prepared: u32,
    /// Open for direct I/O.
    pub(in crate::store) file: F,
}

impl<F: File> SegmentFile<F> {
    /// Bytes that it takes on disk, without what it gave back.
    pub(in crate::store) fn allocated_bytes(&self) -> u64 {
        self.file.allocated_bytes().min(u64::from(self.bytes))
    }
}

/// A segment with entries.
pub(in crate::store) struct LiveSegment<F> {
    /// What its header block says.
    pub(in crate::store) header: SegmentHeader,
    /// Where it lies; `None` while the file is still being made ready.
    pub(in crate::store) file: Option<SegmentFile<F>>,
    /// End of its last entry, once nothing more is appended.
    pub(in crate::store) sealed_end: Option<u32>,
}

/// A dead segment on its way to reuse.
pub(in crate::store) struct RetiredSegment<F> {
    /// Its number: what reads hold it by.
    pub(in crate::store) number: SegmentNumber,
    /// Its file.
    pub(in crate::store) file: SegmentFile<F>,
    /// Sequence of the first checkpoint that does not name it.
    pub(in crate::store) checkpoint_sequence: u64,
}

/// All files of the store.
pub(in crate::store) struct Segments<F> {
    /// The smallest that is used again.
    segment_bytes: u32,
    /// By number: the order of the log.
    pub(in crate::store) live: BTreeMap<SegmentNumber, LiveSegment<F>>,
    /// Dead, not yet to be reused.
    pub(in crate::store) retired: Vec<RetiredSegment<F>>,
    /// May be reused at once.
    pub(in crate::store) free: VecDeque<SegmentFile<F>>,
    /// To be removed: more free ones than are soon needed, and those that gave space back, where a write might find none.
    pub(in crate::store) unwanted: Vec<SegmentFile<F>>,
    /// Next in line.
    pub(in crate::store) ready: Option<SegmentFile<F>>,
    /// The file with the task that prepares it, in bytes.
    pub(in crate::store) preparing_bytes: u64,
    /// The file that the cleaner fills, in bytes.
    pub(in crate::store) building_bytes: u64,
    /// Given to the next file created.
    pub(in crate::store) next_file: FileId,
    /// Given to the next segment opened.
    pub(in crate::store) next_number: SegmentNumber,
    /// The device refused a new file; cleared when one was made.
    pub(in crate::store) out_of_space: bool,
}

impl<F: File> Segments<F> {
    /// No files at all; those of less than `segment_bytes` bytes are not used again.
    pub(in crate::store) fn new(segment_bytes: u32) -> Segments<F> {
        Segments {
            segment_bytes,
            live: BTreeMap::new(),
            retired: Vec::new(),
            free: VecDeque::new(),
            unwanted: Vec::new(),
            ready: None,
            preparing_bytes: 0,
            building_bytes: 0,
            next_file: FileId::new(1),
            next_number: SegmentNumber::new(1),
            out_of_space: false,
        }
    }

    /// The file of a live segment, when it is there.
    pub(in crate::store) fn file(&self, number: SegmentNumber) -> Option<F> {
        Some(self.live.get(&number)?.file.as_ref()?.file.clone())
    }

    /// Bytes that cannot be given to a new segment: live and retired ones, without what they gave back, and what is being
    /// built.
    pub(in crate::store) fn used_bytes(&self) -> u64 {
        let space = SegmentFile::allocated_bytes;
        let of_live = |segment: &LiveSegment<F>| segment.file.as_ref().map_or(u64::from(segment.header.bytes), space);
        let live: u64 = self.live.values().map(of_live).sum();
        let retired: u64 = self.retired.iter().map(|segment| space(&segment.file)).sum();
        live + retired + self.building_bytes
    }

    /// A file is of no more use as it is: the next segment's, if it is as large as one and has all of its space.
    pub(in crate::store) fn release(&mut self, file: SegmentFile<F>) {
        let is_unwanted = file.file.is_sparse() || file.bytes < self.segment_bytes;
        if is_unwanted { self.unwanted.push(file) } else { self.free.push_back(file) }
    }

    /// Lets go of so many free files. Those that were never full go first: the others are written faster.
    pub(in crate::store) fn let_go(&mut self, count: usize) {
        for _ in 0..count {
            let free = self.free.iter().enumerate();
            let Some((index, _)) = free.max_by_key(|(_, file)| file.bytes - file.prepared) else { return };
            self.unwanted.extend(self.free.remove(index));
        }
    }

    /// Bytes of all files.
    pub(in crate::store) fn disk_bytes(&self) -> u64 {
        let free: u64 = self.free.iter().map(|file| u64::from(file.bytes)).sum();
        let ready = self.ready.as_ref().map_or(0, |file| u64::from(file.bytes));
        self.used_bytes() + free + ready + self.preparing_bytes
    }

    /// Size of the next new file: as small as `segment_bytes` in a small store, larger in a large one, so that the number
    /// of segments stays small. At 64 MiB segments: 128 MiB from 8 GiB on, 1 GiB from 64 GiB on.
    pub(in crate::store) fn bytes_of_next(&self, segment_bytes: u32, segments_before_growth: u64) -> u32 {
        let mut bytes = segment_bytes;
        while u64::from(bytes) * 2 * segments_before_growth <= self.used_bytes() && bytes <= SEGMENT_BYTES_MAX / 2 {
            bytes *= 2;
        }
        bytes
    }

    /// Files that another segment may be opened in at once: those of at least `bytes` bytes for which none waits.
    pub(in crate::store) fn spare_files(&self, bytes: u32) -> usize {
        let files = self.ready.iter().chain(&self.free).filter(|file| file.bytes >= bytes).count();
        files.saturating_sub(self.live.values().filter(|segment| segment.file.is_none()).count())
    }

    /// A file for the next segment, which has from `bytes_min` to `bytes_max` bytes: the one that was made ready if it
    /// fits, else the smallest free one that does.
    pub(in crate::store) fn take_spare(&mut self, bytes_min: u64, bytes_max: u64) -> Option<SegmentFile<F>> {
        let fits = |file: &SegmentFile<F>| (bytes_min..=bytes_max).contains(&u64::from(file.bytes));
        if self.ready.as_ref().is_some_and(fits) {
            return self.ready.take();
        }
        let fitting = self.free.iter().enumerate().filter(|(_, file)| fits(file));
        let (index, _) = fitting.min_by_key(|(_, file)| (file.bytes, file.bytes - file.prepared))?;
        self.free.remove(index)
    }

    /// The first live segment that still waits for its file.
    pub(in crate::store) fn without_file(&self) -> Option<SegmentNumber> {
        self.live.iter().find(|(_, segment)| segment.file.is_none()).map(|(number, _)| *number)
    }

    /// Frees the retired segments that `checkpoint_sequence`, now durable, no longer names and that no read holds.
    pub(in crate::store) fn free_retired(&mut self, checkpoint_sequence: u64, holds: &SegmentHolds) -> usize {
        let before = self.retired.len();
        let (free, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.retired).into_iter().partition(|segment| {
            segment.checkpoint_sequence <= checkpoint_sequence
                && (cfg!(corelane_defect = "hold_ignored") || !holds.is_held(segment.number))
        });
        self.retired = kept;
        free.into_iter().for_each(|segment| self.release(segment.file));
        before - self.retired.len()
    }
}
