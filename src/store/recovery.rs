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

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::limits::{RECOVERY_TOLD_MS, SCAN_ENTRIES_PER_YIELD, SCAN_SEGMENT_NUMBERS_AHEAD};
use crate::runtime::{Buffer, File, Runtime, created_name, is_out_of_space};
use crate::store::checkpoint::{
    CheckpointError, CheckpointFiles, CheckpointHead, CheckpointPartition, CheckpointWriter,
};
use crate::store::cold::ColdCache;
use crate::store::disk_reads::SegmentHolds;
use crate::store::flush::unused;
use crate::store::format::{
    Control, Entry, EntryKind, Footer, FormatError, SEGMENT_HEADER_BYTES, SegmentHeader, Stream, Trailer, UNIT_BYTES,
    parse_segment_file_name, segment_file_name, usize_of,
};
use crate::store::index::Index;
use crate::store::log::{Core, State, cold_bytes_max};
use crate::store::notify::Bells;
use crate::store::pace::Pace;
use crate::store::preparation::Preparation;
use crate::store::scan::{Scanner, indexed_entry};
use crate::store::segment_writer::SegmentWriter;
use crate::store::segments::{LiveSegment, SegmentFile, Segments};
use crate::store::space::Space;
use crate::store::tail::Tail;
use crate::store::{LostOffsets, OpenError, PartitionRecord, Replay, StoreOptions, StoreStats};
use crate::types::{
    FileId, Incarnation, LogId, LogPosition, MonotonicUs, Offset, PartitionIndex, SegmentNumber, TopicId,
};

/// A file as found.
struct FoundFile<F> {
    file: SegmentFile<F>,
    header: Option<SegmentHeader>,
}

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
    entries: u32,
    /// When it was last said how far it has come.
    told: MonotonicUs,
}

/// Opens the directory and recovers what is in it.
pub(super) async fn recover<R: Runtime>(
    runtime: R,
    options: StoreOptions,
    replay: &mut dyn Replay,
) -> Result<Core<R>, OpenError> {
    assert!(usize_of(options.segment_bytes).is_multiple_of(options.block_bytes));
    let directory = options.directory.clone();
    runtime.create_directory(&directory).await.map_err(failed("create", &directory))?;
    let found = find_files(&runtime, &options).await?;
    let (mut checkpoints, newest) = CheckpointFiles::open(runtime.clone(), &directory).await?;
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
    let had_later_segments = chain.links.iter().any(|link| link.header.number >= head.next_segment);
    let (end, links, cut) = recovery.read(chain.links).await?;
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
    recovery.judge_damage(&records)?;
    // Loss that is accepted is accepted once, whatever becomes of this life.
    for file in chain.suspects.extract_if(.., |file| recovery.headless.contains(&file.id)) {
        remove_left(&recovery.runtime, &recovery.options.directory.join(segment_file_name(file.id))).await;
    }
    recovery.end_logs(end)?;

    // A life that appended nothing leaves no segment behind: its file is the next one's, or a crash loop would take another
    // each time. What a checkpoint names it keeps until the next one.
    let (mut end, mut links, mut unused) = (end, links, Vec::new());
    while let Some(last) =
        links.pop_if(|link| link.end == SEGMENT_HEADER_BYTES && link.header.number >= head.next_segment)
    {
        unused.push(last.file);
        let before = links.last().map(|link| LogPosition { segment: link.header.number, byte: link.end });
        end = before.unwrap_or_default();
    }

    let stale = cfg!(corelane_defect = "stale_incarnation_accepted");
    let clean = (is_clean_end || stale) && recovery.damage.is_none() && !links.is_empty();
    let mut segments = Segments::new(recovery.options.segment_bytes);
    segments.next_number = recovery.next_number;
    segments.next_file = FileId::new(next_file).max(head.next_file);
    let of_no_use = unused.into_iter().chain(chain.free).chain(chain.suspects).chain(cut);
    of_no_use.for_each(|file| segments.release(file));
    recovery.flush(&links).await?;
    for link in links {
        let sealed_end = Some(link.end);
        let live = LiveSegment { header: link.header, file: Some(link.file), sealed_end };
        segments.live.insert(link.header.number, live);
    }
    checkpoints.prepare().await?;
    if clean {
        recovery.go_on(end, segments, checkpoints, &head, &records).await
    } else {
        recovery.begin(end, segments, checkpoints).await
    }
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

async fn find_files<R: Runtime>(runtime: &R, options: &StoreOptions) -> Result<Vec<FoundFile<R::File>>, OpenError> {
    let directory = &options.directory;
    let mut names = runtime.list(directory).await.map_err(failed("list", directory))?;
    names.sort();
    let mut found = Vec::new();
    for name in &names {
        let Some(id) = parse_segment_file_name(name) else {
            if created_name(name).and_then(parse_segment_file_name).is_some() {
                remove_left(runtime, &directory.join(name)).await;
            }
            continue;
        };
        let path = directory.join(name);
        let file = runtime.open(&path).await.map_err(unreadable(&path))?;
        let bytes = u32::try_from(file.bytes()).unwrap_or(u32::MAX) / UNIT_BYTES * UNIT_BYTES;
        let block = file.read_at(0, usize_of(SEGMENT_HEADER_BYTES)).await.map_err(unreadable(&path))?;
        let header = match SegmentHeader::decode(block.as_slice()) {
            Ok(header) if header.shard != options.shard => {
                let (expected, found) = (options.shard, header.shard);
                return Err(OpenError::WrongShard { path, expected, found });
            }
            Ok(header) => {
                if file.bytes() != u64::from(header.bytes) {
                    let (found, expected) = (file.bytes(), header.bytes);
                    tracing::warn!("{} has {found} bytes instead of {expected}", path.display());
                }
                Some(header)
            }
            Err(FormatError::Version(found)) => return Err(OpenError::NewerFormat { path, found }),
            Err(_) => None,
        };
        // One that never became a segment holds nothing but what was prepared, if that.
        let prepared = if is_zero(block.as_slice()) { 0 } else { bytes };
        found.push(FoundFile { file: SegmentFile { id, bytes, prepared, file }, header });
    }
    Ok(found)
}

/// Removes what a crash left of a creation, or a file that was cut.
async fn remove_left<R: Runtime>(runtime: &R, path: &Path) {
    if let Err(cause) = runtime.remove(path).await {
        tracing::warn!("cannot remove {}, which is of no use: {cause}", path.display());
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

/// How the files make up the log.
struct Chain<F> {
    /// The log, in order.
    links: Vec<Link<F>>,
    /// Not part of it, but perhaps of what is missing: to be surveyed, then free.
    suspects: Vec<SegmentFile<F>>,
    /// Of no more use.
    free: Vec<SegmentFile<F>>,
}

/// A segment that was read, and where it ends.
struct ReadLink<F> {
    file: SegmentFile<F>,
    header: SegmentHeader,
    end: u32,
}

impl<R: Runtime> Recovery<'_, R> {
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

    /// Orders the files: those that the checkpoint names, then those opened after it, found by going back from the
    /// newest header along the predecessors. What no such path visits was cut off by an earlier recovery.
    fn chain(&mut self, found: Vec<FoundFile<R::File>>, head: &CheckpointHead, complete: bool) -> Chain<R::File> {
        let mut links = Vec::new();
        let mut later: BTreeMap<SegmentNumber, Link<R::File>> = BTreeMap::new();
        let mut chain = Chain { links: Vec::new(), suspects: Vec::new(), free: Vec::new() };
        let listed: HashMap<FileId, _> = head.segments.iter().map(|segment| (segment.file, segment)).collect();
        let listed_free: HashMap<FileId, u32> = head.free.iter().map(|free| (free.file, free.bytes)).collect();
        for FoundFile { file, header } in found {
            if let Some(header) = &header {
                self.proof = self.proof.max(header.durable);
                self.incarnation = self.incarnation.max(header.incarnation);
            } else {
                // A file has all of its size when it gets its name.
                let bytes_min = listed_free.get(&file.id).copied().unwrap_or(2 * SEGMENT_HEADER_BYTES);
                if file.bytes < bytes_min {
                    self.headless.insert(file.id);
                }
            }
            match (listed.get(&file.id), header) {
                // Cut to less than a segment can be: as good as missing.
                (Some(_), None) if file.bytes < 2 * SEGMENT_HEADER_BYTES => chain.suspects.push(file),
                (Some(segment), header) if header.is_none_or(|header| header.number == segment.number) => {
                    // The checkpoint knows all that matters of a header that cannot be read.
                    let header = header.unwrap_or(SegmentHeader {
                        shard: self.options.shard,
                        stream: Stream::Hot,
                        number: segment.number,
                        incarnation: segment.incarnation,
                        bytes: segment.bytes,
                        predecessor: LogPosition::default(),
                        checkpoint_sequence: 0,
                        durable: LogPosition::default(),
                    });
                    let link = Link { file, header, expected_end: segment.data_end };
                    // An earlier program named segments behind one whose file was not there yet.
                    if segment.number < head.next_segment {
                        links.push(link);
                    } else {
                        later.insert(segment.number, link);
                    }
                }
                (_, Some(header)) if header.number >= head.next_segment => {
                    if let Some(twice) = later.insert(header.number, Link { file, header, expected_end: None }) {
                        chain.suspects.push(twice.file);
                    }
                }
                (_, Some(_)) => chain.free.push(file),
                (_, None) => chain.suspects.push(file),
            }
        }
        links.sort_by_key(|link| link.header.number);
        let path = path_back(&later, head.next_segment, complete);
        for number in &path {
            links.extend(later.remove(number));
        }
        for segment in &head.segments {
            if !links.iter().any(|link| link.header.number == segment.number) {
                self.damage.get_or_insert(LogPosition { segment: segment.number, byte: SEGMENT_HEADER_BYTES });
                self.missing.insert(segment.number);
            }
        }
        chain.suspects.extend(later.into_values().map(|link| link.file));
        for index in 1..links.len() {
            let predecessor = links[index].header.predecessor;
            if predecessor.segment == links[index - 1].header.number {
                // A checkpoint may name less: what was lost and accepted.
                links[index - 1].expected_end.get_or_insert(predecessor.byte);
            }
        }
        chain.links = links;
        chain
    }

    /// Reads the log from its first segment to its end. Returns the end, the segments that count, and the files of those
    /// that do not because the log ends before them.
    async fn read(
        &mut self,
        links: Vec<Link<R::File>>,
    ) -> Result<(LogPosition, Vec<ReadLink<R::File>>, Vec<SegmentFile<R::File>>), OpenError> {
        let mut end = LogPosition::default();
        let mut kept = Vec::new();
        let mut cut = Vec::new();
        let mut ended = false;
        let mut links = links.into_iter().peekable();
        while let Some(link) = links.next() {
            if ended {
                cut.push(link.file);
                continue;
            }
            let number = link.header.number;
            self.tell_progress(1 + links.len(), "segments to read");
            let is_last = links.peek().is_none();
            let behind = self.missing.split_off(&number);
            if !std::mem::replace(&mut self.missing, behind).is_empty() {
                self.interrupt();
            }
            let below_covered = number < self.covered.segment;
            if below_covered
                && !is_last
                && !link.is_cut()
                && let Some(data_end) = self.read_footer(&link).await?
            {
                end = LogPosition { segment: number, byte: data_end };
                kept.push(ReadLink { file: link.file, header: link.header, end: data_end });
                continue;
            }
            self.index.set_open(number).map_err(|_| self.damaged_at(number))?;
            let byte = self.scan(&link).await?;
            end = LogPosition { segment: number, byte };
            let is_short = link.expected_end.is_some_and(|expected| byte < expected);
            let misses_entries = link.misses_entries();
            if is_short || (link.expected_end.is_none() && self.clean_end != Some(end)) {
                self.survey(&link.file, number.value()..=number.value(), byte).await?;
            }
            if misses_entries || (is_short && end < self.covered) {
                self.damage.get_or_insert(end);
            }
            // A hole in a sealed segment below the checkpoint costs that segment's rest; above it the log ends there.
            ended = is_short && !below_covered && !cfg!(corelane_defect = "forgotten_truncation");
            if is_short && !ended {
                self.interrupt();
            }
            if let Some(next) = links.peek().filter(|_| !ended) {
                self.seal(&link.header, byte, next.header.number)?;
            }
            kept.push(ReadLink { file: link.file, header: link.header, end: byte });
        }
        Ok((end, kept, cut))
    }

    /// Says from time to time how much is left to do.
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

    /// Enters a sealed segment by its footer; `None` when it has none that fits.
    async fn read_footer(&mut self, link: &Link<R::File>) -> Result<Option<u32>, OpenError> {
        let path = self.options.directory.join(segment_file_name(link.file.id));
        let (file, bytes) = (&link.file.file, link.header.bytes);
        let last = u64::from(bytes - UNIT_BYTES);
        let unit = file.read_at(last, usize_of(UNIT_BYTES)).await.map_err(unreadable(&path))?;
        let Ok(trailer) = Trailer::decode(unit.as_slice(), bytes) else { return Ok(None) };
        if trailer.number != link.header.number || link.expected_end != Some(trailer.data_end) {
            return Ok(None);
        }
        let directory_bytes = usize_of(trailer.directory_bytes());
        let read_bytes = directory_bytes.next_multiple_of(usize_of(UNIT_BYTES));
        let position = u64::from(trailer.directory_position);
        // A segment of control entries alone has no rows, and direct I/O no read of nothing.
        let mut directory = Vec::new();
        if read_bytes > 0 {
            let read = file.read_at(position, read_bytes).await.map_err(unreadable(&path))?;
            directory.extend_from_slice(&read.as_slice()[..directory_bytes]);
        }
        let Ok(rows) = trailer.decode_directory(&directory) else { return Ok(None) };
        for row in &rows {
            self.resume(row.log, row.base_offset, row.end_offset);
        }
        match self.index.add_sealed(trailer.number, &rows) {
            Ok(()) => Ok(Some(trailer.data_end)),
            Err(_) => Err(self.damaged_at(trailer.number)),
        }
    }

    /// Reads a segment's entries to where they end, which it returns.
    async fn scan(&mut self, link: &Link<R::File>) -> Result<u32, OpenError> {
        let path = self.options.directory.join(segment_file_name(link.file.id));
        let number = link.header.number;
        let limit = link.expected_end.unwrap_or(link.header.bytes).min(link.header.bytes).min(link.file.bytes);
        let mut scanner = Scanner::new(link.file.file.clone(), limit);
        let mut incarnation = link.header.incarnation;
        let mut end = SEGMENT_HEADER_BYTES;
        while end < limit {
            let next = scanner.next(end, number, incarnation).await.map_err(unreadable(&path))?;
            let Some(scanned) = next else { break };
            let position = LogPosition { segment: number, byte: scanned.position };
            if !self.apply(position, &scanned.entry) {
                break;
            }
            incarnation = scanned.entry.header.incarnation;
            end = scanned.end;
            self.entries += 1;
            if self.entries.is_multiple_of(SCAN_ENTRIES_PER_YIELD) {
                self.runtime.yield_now().await;
            }
        }
        self.incarnation = self.incarnation.max(incarnation);
        Ok(end)
    }

    /// Takes in one entry; false when it contradicts what came before, so that it cannot count.
    fn apply(&mut self, position: LogPosition, entry: &Entry<'_>) -> bool {
        let log = entry.header.log;
        self.proof = self.proof.max(entry.header.durable);
        self.next_log = self.next_log.max(LogId::new(log.value().saturating_add(1)));
        match entry.header.kind {
            EntryKind::Append => self.apply_batches(position, entry),
            EntryKind::Control => {
                let Ok(control) = Control::decode(entry.payload) else { return false };
                self.apply_control(position, log, control);
                true
            }
            EntryKind::Move | EntryKind::Padding => true,
        }
    }

    fn apply_batches(&mut self, position: LogPosition, entry: &Entry<'_>) -> bool {
        let log = entry.header.log;
        let Some(Known { position: known_from, end: known_end, .. }) = self.partitions.get(&log) else { return true };
        let (replayed, known_end) = (position >= *known_from, *known_end);
        let Some(indexed) = indexed_entry(position.byte, entry) else { return false };
        let continues = if replayed { indexed.base_offset >= known_end } else { indexed.last_offset < known_end };
        if !continues {
            return false;
        }
        let end = indexed.last_offset.advance(1);
        self.resume(log, indexed.base_offset, end);
        if self.index.add(log, &indexed).is_err() {
            return false;
        }
        if replayed {
            for batch in entry.batches() {
                self.replay.on_batch(log, batch.header());
            }
            self.come_to(position, log, indexed.base_offset, end);
        }
        true
    }

    /// What stands at `position` says that its log had come to `base`, and takes it to `end`. If its state had not come
    /// so far, batches are missing.
    fn come_to(&mut self, position: LogPosition, log: LogId, base: Offset, end: Offset) {
        let known = self.partitions.get_mut(&log).expect("only entries of known logs are taken in");
        if known.end < base && self.complete {
            self.damage.get_or_insert(position);
            let last = Offset::new(base.value() - 1);
            if self.lost.last().is_none_or(|lost| lost.log != log || lost.last < last) {
                self.lost.push(LostOffsets { log, first: known.end, last });
            }
        }
        known.end = known.end.max(end);
    }

    fn apply_control(&mut self, position: LogPosition, log: LogId, control: Control) {
        let known = self.partitions.get(&log).map(|known| known.position);
        match control {
            // Below the checkpoint a log that it does not name was deleted again.
            Control::Create { topic, partition } if known.is_none() && position >= self.covered => {
                let (log_start, log_end) = (Offset::ZERO, Offset::ZERO);
                let record = PartitionRecord { log, topic, partition, log_start, log_end };
                self.index.create(log, log_start);
                self.partitions.insert(log, Known { topic, partition, position, end: log_end });
                self.replay.on_partition(&record, &[]).expect("an empty state is that of a new partition");
            }
            Control::Delete if cfg!(corelane_defect = "delete_forgotten") => {}
            Control::Delete if known.is_some_and(|known| position >= known) => {
                self.index.delete(log);
                self.partitions.remove(&log);
                self.replay.on_delete(log);
            }
            Control::LogStart { offset } if known.is_some_and(|known| position >= known) => {
                self.index.set_log_start(log, offset);
                self.replay.on_log_start(log, offset);
                self.come_to(position, log, offset, offset);
            }
            Control::Create { .. } | Control::Delete | Control::LogStart { .. } => {}
        }
    }

    /// Looks for entries behind the end of the log, for what they prove and for what is lost.
    async fn survey(
        &mut self,
        file: &SegmentFile<R::File>,
        numbers: std::ops::RangeInclusive<u64>,
        from: u32,
    ) -> Result<(), OpenError> {
        let path = self.options.directory.join(segment_file_name(file.id));
        let mut scanner = Scanner::new(file.file.clone(), file.bytes);
        let mut at = from;
        while let Some(scanned) = scanner.resume(at, &numbers).await.map_err(unreadable(&path))? {
            at = scanned.end;
            let header = &scanned.entry.header;
            self.proof = self.proof.max(header.durable);
            self.incarnation = self.incarnation.max(header.incarnation);
            self.next_number = self.next_number.max(header.segment.next());
            self.next_log = self.next_log.max(LogId::new(header.log.value().saturating_add(1)));
            if let Some(indexed) = indexed_entry(scanned.position, &scanned.entry) {
                let last = self.beyond.entry(header.log).or_insert(indexed.last_offset);
                *last = (*last).max(indexed.last_offset);
            }
            self.entries += 1;
            if self.entries.is_multiple_of(SCAN_ENTRIES_PER_YIELD) {
                self.runtime.yield_now().await;
            }
        }
        Ok(())
    }

    /// The log goes on behind a hole: what logs miss shows in what follows of them.
    fn interrupt(&mut self) {
        for log in self.partitions.keys() {
            let end = self.index.log_end(*log).expect("a known partition is in the index");
            self.interrupted.entry(*log).or_insert(end);
        }
    }

    /// Offsets from `base` to `end` of a log follow.
    fn resume(&mut self, log: LogId, base: Offset, end: Offset) {
        let Some(interrupted_at) = self.interrupted.get(&log).copied() else { return };
        if end <= interrupted_at {
            return;
        }
        self.interrupted.remove(&log);
        if base > interrupted_at {
            self.lost.push(LostOffsets { log, first: interrupted_at, last: Offset::new(base.value() - 1) });
        }
    }

    /// Every log ends where its state does, also when its last batches are gone: an offset is never given twice.
    fn end_logs(&mut self, end: LogPosition) -> Result<(), OpenError> {
        for (log, known) in &self.partitions {
            if self.index.log_end(*log).is_some_and(|found| found > known.end) {
                // A footer that says more than the checkpoint above it.
                return Err(self.damaged_at(end.segment));
            }
            self.index.raise_end(*log, known.end);
        }
        Ok(())
    }

    /// Ends recovery when something that was durable is gone, unless that is accepted.
    fn judge_damage(&mut self, records: &[CheckpointPartition]) -> Result<(), OpenError> {
        let Some(position) = self.damage else { return Ok(()) };
        for PartitionRecord { log, log_end, .. } in records.iter().map(|partition| partition.record) {
            if log_end > Offset::ZERO {
                let last = self.beyond.entry(log).or_insert(Offset::ZERO);
                *last = (*last).max(Offset::new(log_end.value() - 1));
            }
        }
        let mut lost = std::mem::take(&mut self.lost);
        for (log, last) in &self.beyond {
            if let Some(first) = self.index.log_end(*log).filter(|end| end <= last) {
                lost.push(LostOffsets { log: *log, first, last: *last });
            }
        }
        lost.sort_by_key(|lost| (lost.log, lost.first));
        let shard = self.options.shard;
        if !self.options.accept_loss {
            return Err(OpenError::Damage { shard, position, lost });
        }
        tracing::warn!(%shard, %position, ?lost, "the log is damaged, and that was accepted");
        Ok(())
    }

    /// Makes durable what was read: a process that was killed may have written it without a flush.
    async fn flush(&self, links: &[ReadLink<R::File>]) -> Result<(), OpenError> {
        if cfg!(corelane_defect = "recovered_unflushed") {
            return Ok(());
        }
        for link in links.iter().filter(|link| link.header.number >= self.covered.segment) {
            let path = self.options.directory.join(segment_file_name(link.file.id));
            link.file.file.flush().await.map_err(failed("flush", &path))?;
        }
        Ok(())
    }

    /// Goes on in the segment where an earlier life ended in good order. The new incarnation is made durable by a
    /// checkpoint that says the same but is not clean.
    async fn go_on(
        mut self,
        end: LogPosition,
        mut segments: Segments<R::File>,
        mut checkpoints: CheckpointFiles<R>,
        head: &CheckpointHead,
        records: &[CheckpointPartition],
    ) -> Result<Core<R>, OpenError> {
        let mut writer = CheckpointWriter::new();
        for partition in records {
            writer.add_partition(&partition.record, partition.position, &partition.state);
        }
        let incarnation = self.incarnation.next();
        match checkpoints.write(writer, &CheckpointHead { incarnation, clean_end: None, ..head.clone() }).await {
            // A fresh segment does as well.
            Err(error) if error.is_out_of_space() => return self.begin(end, segments, checkpoints).await,
            written => written?,
        };
        self.incarnation = incarnation;
        let open = segments.live.get_mut(&end.segment).expect("the log ends in a live segment");
        open.sealed_end = None;
        let block_bytes = u32::try_from(self.options.block_bytes).expect("a block is smaller than a segment");
        let block_start = end.byte / block_bytes * block_bytes;
        let content_bytes = usize_of(end.byte - block_start);
        let file = open.file.as_mut().expect("a recovered segment has its file");
        let path = self.options.directory.join(segment_file_name(file.id));
        // Without a footer from an earlier segment the file was hardly ever full: its rest may be unwritten space.
        let last = u64::from(open.header.bytes - UNIT_BYTES);
        let last_unit = file.file.read_at(last, usize_of(UNIT_BYTES)).await.map_err(unreadable(&path))?;
        if is_zero(last_unit.as_slice()) {
            file.prepared = end.byte;
        }
        let mut content = Vec::new();
        if content_bytes > 0 {
            let bytes = content_bytes.next_multiple_of(usize_of(UNIT_BYTES));
            let read = file.file.read_at(u64::from(block_start), bytes).await.map_err(unreadable(&path))?;
            content.extend_from_slice(&read.as_slice()[..content_bytes]);
        }
        Ok(self.finish(end, &content, segments, checkpoints))
    }

    /// Begins a fresh segment whose header makes the new incarnation durable and says where the log before it ended.
    async fn begin(
        mut self,
        end: LogPosition,
        mut segments: Segments<R::File>,
        checkpoints: CheckpointFiles<R>,
    ) -> Result<Core<R>, OpenError> {
        self.incarnation = self.incarnation.next();
        let number = segments.next_number;
        segments.next_number = number.next();
        match segments.live.get(&end.segment).map(|live| live.header) {
            Some(header) if self.index.open_number() == header.number => self.seal(&header, end.byte, number)?,
            _ => self.index.set_open(number).map_err(|_| self.damaged_at(number))?,
        }
        let mut bytes = self.options.segment_bytes;
        let directory = self.options.directory.clone();
        let file = match segments.free.iter().position(|file| file.bytes == bytes) {
            Some(index) => segments.free.remove(index).expect("the position was just found"),
            None => {
                let id = segments.next_file;
                segments.next_file = FileId::new(id.value() + 1);
                let path = directory.join(segment_file_name(id));
                let mut created = self.runtime.create(&path, u64::from(bytes)).await;
                if created.as_ref().is_err_and(is_out_of_space) {
                    self.give_back_rest(&segments, end.segment).await;
                }
                // A small one does as well: the next is of the usual size again.
                let block_bytes = u32::try_from(self.options.block_bytes).expect("a block is smaller than a segment");
                while created.as_ref().is_err_and(is_out_of_space) && bytes / 2 >= 2 * block_bytes {
                    bytes = bytes / 2 / block_bytes * block_bytes;
                    created = self.runtime.create(&path, u64::from(bytes)).await;
                }
                SegmentFile { id, bytes, prepared: 0, file: created.map_err(failed("create", &path))? }
            }
        };
        // Also for a file that an earlier life created and whose name it did not live to make durable.
        self.runtime.sync_directory(&directory).await.map_err(failed("sync", &directory))?;
        let header = SegmentHeader {
            shard: self.options.shard,
            stream: Stream::Hot,
            number,
            incarnation: self.incarnation,
            bytes,
            predecessor: end,
            checkpoint_sequence: checkpoints.durable_sequence(),
            durable: end,
        };
        let content = header.encode();
        let mut block = self.runtime.allocate(content.len());
        block.as_mut_slice().copy_from_slice(&content);
        let path = directory.join(segment_file_name(file.id));
        file.file.write_at(Rc::new(block), 0).await.map_err(failed("write", &path))?;
        file.file.flush().await.map_err(failed("flush", &path))?;
        let live = LiveSegment { header, file: Some(file), sealed_end: None };
        segments.live.insert(number, live);
        let start = LogPosition { segment: number, byte: SEGMENT_HEADER_BYTES };
        // In blocks of one unit the header is a block of its own.
        let filled = content.len() % self.options.block_bytes;
        Ok(self.finish(start, &content[..filled], segments, checkpoints))
    }

    /// Makes room for the next segment: by what the one that ended did not use.
    async fn give_back_rest(&self, segments: &Segments<R::File>, number: SegmentNumber) {
        let footer = self.footers.iter().find(|footer| footer.trailer.number == number);
        let Some((footer, live)) = footer.zip(segments.live.get(&number)) else { return };
        let Some((rest, file)) = unused(footer, live.header.bytes).zip(live.file.as_ref()) else { return };
        // What there is then still no room for says so itself.
        let _ = file.file.give_back(u64::from(rest.start), u64::from(rest.end - rest.start)).await;
    }

    /// The store, whose log ends durably at `end`; `content` is what the block there holds so far.
    fn finish(
        self,
        end: LogPosition,
        content: &[u8],
        segments: Segments<R::File>,
        checkpoints: CheckpointFiles<R>,
    ) -> Core<R> {
        let Recovery { runtime, options, index, partitions, footers, next_log, incarnation, .. } = self;
        // Those first whose segment has not given its unused space back: also a short life gets to them.
        let is_sparse = |footer: &Footer| {
            let file = segments.live.get(&footer.trailer.number).and_then(|live| live.file.as_ref());
            file.is_some_and(|file| file.file.is_sparse())
        };
        let (later, first): (Vec<Footer>, Vec<Footer>) = footers.into_iter().partition(is_sparse);
        let footers = first.into_iter().chain(later).collect();
        let mut writer = SegmentWriter::new(options.block_bytes, end);
        let mut tail = Tail::new(options.block_bytes);
        let block = writer.continue_segment(content, runtime.allocate(options.block_bytes));
        tail.push(block.segment, block.start, block.block);
        let partitions = partitions.into_iter().map(|(log, known)| (log, (known.topic, known.partition))).collect();
        let space = Space::new(segments.used_bytes());
        let state = State {
            writer,
            tail,
            index,
            partitions,
            segments,
            holds: SegmentHolds::new(),
            durable: end,
            flush_ends: VecDeque::new(),
            flush_forced: false,
            footers,
            footers_unflushed: BTreeSet::new(),
            failure: None,
            checkpoint_wanted: false,
            space_wanted: false,
            space,
            sealed: 0,
            appended_at_checkpoint: 0,
            checkpointed_at: runtime.now(),
            next_log,
            incarnation,
            checkpoint_sequence: checkpoints.durable_sequence(),
            stopping: false,
            part_waiting: None,
            pace: Pace::default(),
            preparation: Preparation::default(),
            stats: StoreStats::default(),
        };
        Core {
            cold: ColdCache::new(runtime.clone(), cold_bytes_max(&options)),
            runtime,
            options,
            state: RefCell::new(state),
            owner: RefCell::new(None),
            checkpoints: RefCell::new(Some(checkpoints)),
            bells: Bells::default(),
        }
    }
}

/// The segments opened since the checkpoint, in order: back from the newest whose path is whole. `complete`: no segment
/// of theirs can have been reused. Else a predecessor that is gone is passed over if something proves it was durable.
fn path_back<F>(later: &BTreeMap<SegmentNumber, Link<F>>, base: SegmentNumber, complete: bool) -> Vec<SegmentNumber> {
    for newest in later.keys().rev() {
        let mut path = vec![*newest];
        let mut proof = LogPosition::default();
        let mut at = &later[newest].header;
        loop {
            proof = proof.max(at.durable);
            let predecessor = at.predecessor;
            let before = if predecessor.segment < base {
                None
            } else if later.contains_key(&predecessor.segment) {
                Some(predecessor.segment)
            } else if !complete && proof >= predecessor {
                later.range(..predecessor.segment).next_back().map(|(number, _)| *number)
            } else {
                path.clear();
                None
            };
            // Numbers fall along the path; a header that says otherwise ends it.
            let Some(before) = before.filter(|before| *before < at.number) else { break };
            path.push(before);
            at = &later[&before].header;
        }
        if !path.is_empty() {
            path.reverse();
            return path;
        }
    }
    Vec::new()
}
