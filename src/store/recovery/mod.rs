//! From the files of a directory to an open store: which segments make up the log, where it ends, and what it says.
//!
//! Runs once, before anything is served. The newest checkpoint that may be trusted names partitions and segments; what came
//! after it is read entry by entry. The log ends at the first entry that does not count. Whether that is a torn tail or
//! damage is decided by proof: every entry and every segment header says what was durable when it was written, so one
//! that stands anywhere and names a durable position beyond the end proves that something is missing.
//!
//! Invariants: nothing that was cut off can ever count again (a new life writes to a segment with a higher number and
//! incarnation, and the chain of predecessors leads around what was cut); all that was read is flushed before the
//! store opens; a log id, a segment number and a file id are never given twice.

mod cold;
mod damage;
mod files;
mod looking;
mod opening;
mod replay;

pub(in crate::store) use self::looking::{Looked, LookedSegment, look};

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::Path;

use self::cold::Cold;
use self::files::{Chain, ReadLink, find_files, remove_left, remove_unfinished};
use crate::limits::{RECOVERY_TOLD_MS, SCAN_ENTRIES_PER_YIELD, SCAN_SEGMENT_NUMBERS_AHEAD};
use crate::runtime::Runtime;
use crate::store::checkpoint::files::CheckpointFiles;
use crate::store::checkpoint::{CheckpointError, CheckpointHead, CheckpointPartition};
use crate::store::format::{FORMAT_VERSION, Footer, SEGMENT_HEADER_BYTES, SegmentHeader, segment_file_name, usize_of};
use crate::store::index::Index;
use crate::store::state::Core;
use crate::store::state::segments::{SegmentFile, Segments};
use crate::store::{LostOffsets, OpenError, PartitionRecord, Replay, StoreOptions};
use crate::types::{
    FileId, Incarnation, LogId, LogPosition, MonotonicUs, Offset, PartitionIndex, SegmentNumber, TopicId,
};

/// A segment that is part of the log.
struct Link<F> {
    file: SegmentFile<F>,
    header: SegmentHeader,
    /// Where the checkpoint or the next segment says that it ends.
    expected_end: Option<u32>,
}

impl<F> Link<F> {
    /// The file is shorter than the segment. It had its size before its header was written, so it was cut.
    fn is_cut(&self) -> bool {
        self.file.bytes < self.header.bytes
    }

    /// What was cut off may have held entries: all of a segment may that is not known to have ended before.
    fn misses_entries(&self) -> bool {
        self.is_cut() && self.expected_end.is_none_or(|end| end > self.file.bytes)
    }
}

/// What recovery knows of a partition.
struct Known {
    topic: TopicId,
    partition: PartitionIndex,
    /// Entries below are in its state already.
    position: LogPosition,
    /// Offset after the last record that its state has taken in.
    end: Offset,
}

struct Recovery<'a, R: Runtime> {
    runtime: R,
    options: StoreOptions,
    replay: &'a mut dyn Replay,
    index: Index,
    partitions: HashMap<LogId, Known>,
    covered: LogPosition,
    /// Where the log ended when it was closed in good order. A hint: entries may follow if a later checkpoint was lost.
    clean_end: Option<LogPosition>,
    next_log: LogId,
    incarnation: Incarnation,
    /// Above every segment number seen, also in entries whose segment has lost its header: none is given twice.
    next_number: SegmentNumber,
    /// Greatest durable position that anything names.
    proof: LogPosition,
    /// No segment opened since the checkpoint can have been reused: what does not continue its log then proves damage.
    complete: bool,
    /// Segments that the checkpoint names and no file holds, as far as the log was not read beyond them.
    missing: BTreeSet<SegmentNumber>,
    /// Files that were cut, their header with it: each may have been a segment since the checkpoint.
    headless: BTreeSet<FileId>,
    /// Last offset known per log beyond where its log was cut.
    beyond: BTreeMap<LogId, Offset>,
    damage: Option<LogPosition>,
    /// Where logs ended at a hole below the checkpoint, until something of them follows.
    interrupted: HashMap<LogId, Offset>,
    /// What such holes took.
    lost: Vec<LostOffsets>,
    footers: VecDeque<Footer>,
    cold: Cold<R::File>,
    entries: u32,
    /// When it was last said how far it has come.
    told: MonotonicUs,
}

/// What a directory holds, found without changing anything in it.
struct Survey<'a, R: Runtime> {
    recovery: Recovery<'a, R>,
    checkpoints: CheckpointFiles<R>,
    head: CheckpointHead,
    records: Vec<CheckpointPartition>,
    /// Where the log ends, and whether it was closed there in good order.
    end: LogPosition,
    is_clean_end: bool,
    links: Vec<ReadLink<R::File>>,
    cold: Vec<ReadLink<R::File>>,
    suspects: Vec<SegmentFile<R::File>>,
    cut: Vec<SegmentFile<R::File>>,
    free: Vec<SegmentFile<R::File>>,
    next_file: u64,
}

/// Opens the directory and recovers what is in it.
pub(in crate::store) async fn recover<R: Runtime>(
    runtime: R,
    options: StoreOptions,
    replay: &mut dyn Replay,
) -> Result<Core<R>, OpenError> {
    let directory = options.directory.clone();
    runtime.create_directory(&directory).await.map_err(failed("create", &directory))?;
    remove_unfinished(&runtime, &directory).await?;
    let survey = survey(runtime, options, replay).await?;
    let Survey { mut recovery, mut checkpoints, head, records, end, is_clean_end, links, cold, .. } = survey;
    let Survey { mut suspects, cut, free, next_file, .. } = survey;
    recovery.judge_damage(&records)?;
    // Loss that is accepted is accepted once, whatever becomes of this life.
    for file in suspects.extract_if(.., |file| recovery.headless.contains(&file.id)) {
        remove_left(&recovery.runtime, &recovery.options.directory.join(segment_file_name(file.id))).await;
    }
    recovery.end_logs(end)?;

    let (end, links, unused) = without_unused(end, links, &head);
    let stale = cfg!(corelane_defect = "stale_incarnation_accepted");
    // What an earlier program began is sealed: it is not continued in this one's format.
    let is_ours = links.last().is_some_and(|link| link.header.version == FORMAT_VERSION);
    let clean = (is_clean_end || stale) && recovery.damage.is_none() && is_ours;
    let of_no_use = unused.into_iter().chain(free).chain(suspects).chain(cut);
    let mut segments = recovery.segments(next_file, &head, of_no_use);
    recovery.flush(&links).await?;
    for link in links.into_iter().chain(cold) {
        segments.live.insert(link.header.number, link.sealed());
    }
    checkpoints.prepare().await?;
    if clean {
        recovery.go_on(end, segments, checkpoints, &head, &records).await
    } else {
        recovery.begin(end, segments, checkpoints).await
    }
}

/// Reads all that a start has to read, and finds out whether something that was durable is gone.
async fn survey<R: Runtime>(
    runtime: R,
    options: StoreOptions,
    replay: &mut dyn Replay,
) -> Result<Survey<'_, R>, OpenError> {
    assert!(usize_of(options.segment_bytes).is_multiple_of(options.block_bytes));
    let found = find_files(&runtime, &options).await?;
    let (mut checkpoints, newest) = CheckpointFiles::open(runtime.clone(), &options.directory).await?;
    let headers = || found.iter().filter_map(|found| found.header.as_ref());
    let named = headers().map(|header| header.checkpoint_sequence).max().unwrap_or(0);
    checkpoints.raise_sequence(named);
    let mut complete = true;
    let checkpoint = match newest.trust(named) {
        _ if options.rebuild => {
            complete = false;
            None
        }
        Ok(checkpoint) => checkpoint,
        Err(CheckpointError::Lost { named, found }) if options.accept_loss => {
            tracing::warn!(shard = %options.shard, named, ?found, "checkpoint lost: rebuilding from what is left");
            complete = false;
            None
        }
        Err(error) => return Err(error.into()),
    };
    let (head, records) = match checkpoint {
        Some(checkpoint) => (checkpoint.head, checkpoint.partitions),
        None => (nothing(), Vec::new()),
    };
    let next_number = headers().map(|header| header.number.next()).max().unwrap_or(SegmentNumber::new(1));
    let next_file = found.iter().map(|found| found.file.id.value() + 1).max().unwrap_or(1);

    let mut recovery = Recovery {
        index: Index::new(SegmentNumber::new(1)),
        partitions: HashMap::new(),
        covered: head.covered,
        clean_end: head.clean_end,
        next_log: head.next_log,
        incarnation: head.incarnation,
        next_number: next_number.max(head.next_segment),
        // A checkpoint is written when all that it covers is durable.
        proof: head.covered,
        complete,
        missing: BTreeSet::new(),
        headless: BTreeSet::new(),
        beyond: BTreeMap::new(),
        damage: None,
        interrupted: HashMap::new(),
        lost: Vec::new(),
        footers: VecDeque::new(),
        cold: Cold::default(),
        entries: 0,
        told: runtime.now(),
        runtime,
        options,
        replay,
    };
    for partition in &records {
        recovery.know(partition)?;
    }
    let mut chain = recovery.chain(found, &head, complete);
    let cold = recovery.load_cold(std::mem::take(&mut chain.cold)).await?;
    let had_later_segments = chain.links.iter().any(|link| link.header.number >= head.next_segment);
    let (end, links, cut) = recovery.read(chain.links).await?;
    recovery.replay_rest_of_cold().await?;
    recovery.enter_cold()?;
    // After a clean stop nothing can be missing but what the checkpoint knows of: no file needs to be searched.
    let is_clean_end = head.clean_end == Some(end) && !had_later_segments;
    if !is_clean_end {
        let files = chain.suspects.len() + cut.len();
        for (index, file) in chain.suspects.iter().chain(&cut).enumerate() {
            recovery.tell_progress(files - index, "segment files to search for what is missing");
            let range = head.next_segment.value()..=next_number.value() + SCAN_SEGMENT_NUMBERS_AHEAD;
            recovery.survey(file, range, SEGMENT_HEADER_BYTES).await?;
        }
    }
    let is_proven = recovery.proof > end || head.clean_end.is_some_and(|clean| clean > end);
    if is_proven || !recovery.headless.is_empty() {
        recovery.damage.get_or_insert(end);
    }
    let Chain { suspects, free, .. } = chain;
    Ok(Survey { recovery, checkpoints, head, records, end, is_clean_end, links, cold, suspects, cut, free, next_file })
}

/// A life that appended nothing leaves no segment behind: its file is the next one's, or a crash loop would take another
/// each time. What a checkpoint names it keeps until the next one. Gives the end, the segments left, and the files of those.
fn without_unused<F>(
    mut end: LogPosition,
    mut links: Vec<ReadLink<F>>,
    head: &CheckpointHead,
) -> (LogPosition, Vec<ReadLink<F>>, Vec<SegmentFile<F>>) {
    let mut unused = Vec::new();
    while let Some(last) =
        links.pop_if(|link| link.end == SEGMENT_HEADER_BYTES && link.header.number >= head.next_segment)
    {
        unused.push(last.file);
        let before = links.last().map(|link| LogPosition { segment: link.header.number, byte: link.end });
        end = before.unwrap_or_default();
    }
    (end, links, unused)
}

/// The head of a checkpoint that never was.
fn nothing() -> CheckpointHead {
    CheckpointHead {
        incarnation: Incarnation::new(0),
        covered: LogPosition::default(),
        clean_end: None,
        next_log: LogId::new(1),
        next_file: FileId::new(1),
        next_segment: SegmentNumber::new(1),
        segments: Vec::new(),
        free: Vec::new(),
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_path_buf();
    move |cause| OpenError::Unreadable { path, cause }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_path_buf();
    move |cause| OpenError::Io { operation, path, cause }
}

impl<R: Runtime> Recovery<'_, R> {
    /// The files of the store, of which none is live yet.
    fn segments(
        &self,
        next_file: u64,
        head: &CheckpointHead,
        of_no_use: impl Iterator<Item = SegmentFile<R::File>>,
    ) -> Segments<R::File> {
        let mut segments = Segments::new(self.options.segment_bytes);
        segments.next_number = self.next_number;
        segments.next_file = FileId::new(next_file).max(head.next_file);
        of_no_use.for_each(|file| segments.release(file));
        segments
    }

    fn know(&mut self, partition: &CheckpointPartition) -> Result<(), OpenError> {
        let PartitionRecord { log, topic, partition: number, log_start, log_end } = partition.record;
        if self.index.contains(log) {
            return Ok(());
        }
        self.index.create(log, log_start);
        self.proof = self.proof.max(partition.position);
        let known = Known { topic, partition: number, position: partition.position, end: log_end };
        self.partitions.insert(log, known);
        self.replay
            .on_partition(&partition.record, &partition.state)
            .map_err(|cause| OpenError::State { log, cause })?;
        self.next_log = self.next_log.max(LogId::new(log.value() + 1));
        Ok(())
    }

    /// Says from time to time how much is left to do.
    async fn yield_now_and_then(&mut self) {
        self.entries += 1;
        if self.entries.is_multiple_of(SCAN_ENTRIES_PER_YIELD) {
            self.runtime.yield_now().await;
        }
    }

    fn tell_progress(&mut self, left: usize, of_what: &str) {
        let now = self.runtime.now();
        if now.since_us(self.told) >= RECOVERY_TOLD_MS * 1000 {
            tracing::info!(shard = %self.options.shard, "recovering: {left} {of_what}");
            self.told = now;
        }
    }

    fn seal(&mut self, header: &SegmentHeader, end: u32, next: SegmentNumber) -> Result<(), OpenError> {
        let footer =
            self.index.seal(header, header.incarnation, end, next).map_err(|_| self.damaged_at(header.number))?;
        self.footers.extend(footer);
        Ok(())
    }

    fn damaged_at(&self, segment: SegmentNumber) -> OpenError {
        let position = LogPosition { segment, byte: SEGMENT_HEADER_BYTES };
        OpenError::Damage { shard: self.options.shard, position, lost: Vec::new() }
    }
}
