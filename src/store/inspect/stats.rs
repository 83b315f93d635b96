//! Where the space goes: by partition, by segment, and what the cleaner would make of it.

use std::collections::BTreeMap;

use super::Inspection;
use crate::runtime::Runtime;
use crate::store::PartitionRecord;
use crate::store::cleaning::victims::{self, Candidate, Limits};
use crate::store::format::{Stream, segment_file_name};
use crate::types::{LogId, LogPosition, SegmentNumber};

/// What a store is like.
#[derive(Clone, Debug)]
pub struct StoreReport {
    /// Bytes that segments in use take on disk.
    pub used_bytes: u64,
    /// Bytes of entries that live, headers included.
    pub live_bytes: u64,
    /// Bytes that free files take on disk.
    pub free_bytes: u64,
    /// Files that wait to be used again.
    pub free_files: usize,
    /// The most that segments should take.
    pub budget_bytes: u64,
    /// Where the log ends.
    pub log_end: LogPosition,
    /// The newest checkpoint, 0 without one.
    pub checkpoint_sequence: u64,
    /// By log id.
    pub partitions: Vec<PartitionReport>,
    /// By number.
    pub segments: Vec<SegmentReport>,
    /// What the cleaner would do next.
    pub cleaner: CleanerReport,
}

/// What a partition takes.
#[derive(Clone, Copy, Debug)]
pub struct PartitionReport {
    /// Which it is, and which offsets it has.
    pub record: PartitionRecord,
    /// Bytes of its entries that live, headers included.
    pub live_bytes: u64,
    /// Segments that it keeps from being free.
    pub segments: usize,
}

/// A segment in use.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// Its number.
    pub number: SegmentNumber,
    /// Name of its file.
    pub file: String,
    /// What it is for.
    pub usage: SegmentUse,
    /// Size of the file.
    pub bytes: u64,
    /// What of that takes space on disk.
    pub allocated_bytes: u64,
    /// Bytes of entries that live.
    pub live_bytes: u64,
    /// Bytes that are taken and hold nothing that lives: dead entries, header, footer. Of the open segment as far as it is filled.
    pub dead_bytes: u64,
    /// Whose the live entries are, the largest share first.
    pub shares: Vec<(LogId, u64)>,
}

/// What a segment is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SegmentUse {
    /// The log ends in it.
    Open,
    /// It holds what was appended.
    Hot,
    /// It holds what the cleaner moved.
    Cold,
}

/// What the cleaner would do next, if what is there stays as it is. A running broker knows more: what will soon be dead by itself
/// it leaves alone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CleanerReport {
    /// Empties segments.
    Empties {
        /// These.
        segments: Vec<SegmentNumber>,
        /// Bytes that it would move.
        moved_bytes: u64,
        /// Bytes of disk that would be free in the end.
        gained_bytes: u64,
        /// Bytes that the segments take above what they should.
        excess_bytes: u64,
    },
    /// Nothing: the segments take no more than what lives, and what the store may have beside it.
    NoExcess,
    /// Nothing: they take more, but to move what lives would cost more than it gives.
    NotWorthIt {
        /// Bytes that they take above what they should.
        excess_bytes: u64,
    },
    /// Nothing: there is no file for what would be moved.
    NoFile,
}

impl<R: Runtime> Inspection<R> {
    /// Where the space goes.
    pub fn stats(&self) -> StoreReport {
        let core = &self.looked.core;
        let state = core.state.borrow();
        let mut shares = state.index.live_shares();
        let mut segments_of: BTreeMap<LogId, usize> = BTreeMap::new();
        for log in shares.values().flat_map(BTreeMap::keys) {
            *segments_of.entry(*log).or_default() += 1;
        }
        let log_end = state.writer.appended();
        let segments = state.segments.live.iter().map(|(number, live)| {
            let file = live.file.as_ref().expect("what was looked at has its file");
            let mut shares: Vec<(LogId, u64)> = shares.remove(number).unwrap_or_default().into_iter().collect();
            shares.sort_by_key(|(log, bytes)| (std::cmp::Reverse(*bytes), *log));
            let live_bytes: u64 = shares.iter().map(|(_, bytes)| bytes).sum();
            let allocated_bytes = file.allocated_bytes();
            let usage = match (live.sealed_end, live.header.stream) {
                (None, _) => SegmentUse::Open,
                (Some(_), Stream::Hot) => SegmentUse::Hot,
                (Some(_), Stream::Cold) => SegmentUse::Cold,
            };
            let filled_bytes = if usage == SegmentUse::Open { u64::from(log_end.byte) } else { allocated_bytes };
            SegmentReport {
                number: *number,
                file: segment_file_name(file.id),
                usage,
                bytes: u64::from(file.bytes),
                allocated_bytes,
                live_bytes,
                dead_bytes: filled_bytes.saturating_sub(live_bytes),
                shares,
            }
        });
        let segments: Vec<SegmentReport> = segments.collect();
        let free = state.segments.free.iter().chain(&state.segments.unwanted);
        let partitions = state.index.logs().into_iter().filter_map(|log| {
            let segments = segments_of.get(&log).copied().unwrap_or_default();
            Some(PartitionReport { record: state.partition(log)?, live_bytes: state.index.log_bytes(log), segments })
        });
        StoreReport {
            used_bytes: state.segments.used_bytes(),
            live_bytes: segments.iter().map(|segment| segment.live_bytes).sum(),
            free_bytes: free.clone().map(|file| file.allocated_bytes()).sum(),
            free_files: free.count(),
            budget_bytes: core.options.budget_bytes,
            log_end,
            checkpoint_sequence: state.checkpoint_sequence,
            partitions: partitions.collect(),
            segments,
            cleaner: cleaner_report(state.limits(&core.options), state.candidates()),
        }
    }
}

/// What the cleaner's own rules say.
fn cleaner_report(limits: Option<Limits>, candidates: Vec<Candidate>) -> CleanerReport {
    let Some(limits) = limits else { return CleanerReport::NoFile };
    let excess_bytes = limits.excess_bytes;
    let chosen = victims::choose(candidates.clone(), &limits);
    if chosen.is_empty() && excess_bytes == 0 {
        return CleanerReport::NoExcess;
    }
    if chosen.is_empty() {
        return CleanerReport::NotWorthIt { excess_bytes };
    }
    let of_chosen = || candidates.iter().filter(|candidate| chosen.contains(&candidate.number));
    let moved_bytes = of_chosen().map(|candidate| candidate.live_bytes).sum();
    let gained_bytes = of_chosen().map(Candidate::gain).sum();
    let mut segments = chosen.clone();
    segments.sort_unstable();
    CleanerReport::Empties { segments, moved_bytes, gained_bytes, excess_bytes }
}
