//! Reads of what is no longer in memory: aligned windows of segments, shared by all partitions of a core.
//!
//! When a thousand partitions lag, their batches lie side by side, so one window serves many: it is read whole once a
//! sixteenth of it was wanted, by one reader or by several, and kept, least recently used first to go. Below that only
//! the units needed are read, and not kept. Who wants a window that is being read waits for that read.
//!
//! Every batch that leaves was checked against its entry header: crc, log id, segment number, and the offsets that the
//! index expects; and against its own CRC, which covers the rest. What is damaged is told, never given; what stands before
//! it is given first, so that a read that fails fails for what is damaged alone.
//!
//! It does not know which segments live or what is in memory. One per core. Invariants: the bytes kept are at most the
//! bound; a window is kept only if all of it was final when it was read.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};

use bytes::{Bytes, BytesMut};

use crate::limits::{
    COLD_BYTES_AHEAD_MAX, COLD_EXTENTS_DIVISOR, COLD_READ_DEPTH, COLD_READER_BYTES, COLD_READERS_MAX, COLD_READERS_MIN,
    COLD_SPARSE_WINDOWS_MAX, COLD_WINDOW_BYTES, COLD_WINDOW_DENSE_BYTES, COLD_WINDOW_WEIGHT, FETCH_COPY_BYTES_MAX,
    SCAN_ENTRIES_PER_YIELD,
};
use crate::portions::{Portion, Portions};
use crate::runtime::block::{Block, Slice};
use crate::runtime::{File, Runtime};
use crate::store::ReadWithin;
use crate::store::disk_reads::{DiskReads, Pending, ReadFailure, ReadResult, SegmentHold};
use crate::store::format::{
    Entry, EntryHeader, EntryKind, Extent, FormatError, ROW_BYTES, SEGMENT_HEADER_BYTES, Trailer, UNIT_BYTES,
    next_unit, usize_of,
};
use crate::store::index::{Place, PlaceExtents, extents_from};
use crate::store::lru::Lru;
use crate::store::open_segment::OpenSegmentIndex;
use crate::store::scan::{Scanner, indexed_entry};
use crate::store::tail::taken;
use crate::types::{Incarnation, LogId, Offset, SegmentNumber};

/// Why a cold read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ColdError {
    /// The system refused.
    #[error("reading segment {segment}: {cause}")]
    Io {
        /// The segment.
        segment: SegmentNumber,
        /// Its answer.
        cause: Rc<std::io::Error>,
    },
    /// The bytes are not what was written.
    #[error("segment {segment} is damaged at byte {position}: {what}")]
    Damaged {
        /// The segment.
        segment: SegmentNumber,
        /// Where in it.
        position: u32,
        /// What does not fit.
        what: String,
        /// Where the log goes on behind what is damaged, as far as that is known.
        next_offset: Offset,
    },
}

/// What to read: whole batches of one log from one segment.
#[derive(Clone)]
pub struct ColdRead<F> {
    /// The segment's file.
    pub file: F,
    /// Keeps the segment; taken in the step that located `place`.
    pub hold: SegmentHold,
    /// The log.
    pub log: LogId,
    /// Where the index found it.
    pub place: Place,
    /// Size of the segment; the file may be longer, and end behind its footer.
    pub segment_bytes: u32,
    /// Position in the segment up to which entries are on disk for good: the size of a sealed segment, what is written
    /// of an open one.
    pub readable_end: u32,
    /// The first batch is the one that holds this offset, or the next one.
    pub from: Offset,
    /// Batches that end at or above it stay behind.
    pub bound: Offset,
    /// Most bytes of batches, and of the first.
    pub within: ReadWithin,
}

/// What was read.
#[derive(Debug)]
pub struct ColdBatches<B> {
    /// Whole batches, back to back, without entry headers; a slice may hold several, and one may go over several.
    pub slices: Vec<Slice<B>>,
    /// Their bytes.
    pub bytes: usize,
    /// Where to go on: behind the last batch. Without one: where the next batch begins that the place holds, or where the
    /// place ends when it holds none, at most the bound; or where was asked, when that is held back or not on disk yet.
    pub next_offset: Offset,
    /// Above 0 when nothing was read because the first batch is too large.
    pub needed_bytes: usize,
}

/// What the cache did, since it began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ColdStats {
    /// Windows found in memory.
    pub window_hits: u64,
    /// Windows read whole.
    pub windows_read: u64,
    /// Reads of single units, batches and extents.
    pub sparse_reads: u64,
    /// Bytes read from disk.
    pub bytes_read: u64,
    /// Segments read whole for one log, because their footer is damaged.
    pub segments_scanned: u64,
}

type WindowKey = (SegmentNumber, u32);
type ExtentsKey = (SegmentNumber, ExtentsOf);

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum ExtentsOf {
    Trailer,
    Row(u32),
    /// The footer as a whole, when it is damaged.
    Footer,
}

#[derive(Clone)]
enum CachedExtents {
    Trailer(Trailer),
    Row(Rc<[Extent]>),
    /// Neither the footer nor the entries tell them.
    Gone(ColdError),
    /// That the footer is damaged was said.
    Told,
}

type SharedRead<B> = Rc<Pending<ReadResult<B>>>;

struct State<B> {
    windows: Lru<WindowKey, Rc<Block<B>>>,
    loading: HashMap<WindowKey, SharedRead<B>>,
    /// Bytes wanted of windows that are not kept.
    sparse: Lru<WindowKey, u32>,
    extents: Lru<ExtentsKey, CachedExtents>,
    /// Windows that left the cache while an answer held them: memory still.
    pinned: Vec<Weak<Block<B>>>,
    stats: ColdStats,
}

/// The cold cache of one core. Cheap to clone.
pub struct ColdCache<R: Runtime> {
    runtime: R,
    reads: DiskReads<R>,
    state: Rc<RefCell<State<R::Buffer>>>,
    bytes_max: u64,
    /// Each reader holds windows that it looks at or has started to read, whatever is kept.
    turns: Portions,
}

impl<R: Runtime> Clone for ColdCache<R> {
    fn clone(&self) -> Self {
        ColdCache {
            runtime: self.runtime.clone(),
            reads: self.reads.clone(),
            state: Rc::clone(&self.state),
            bytes_max: self.bytes_max,
            turns: self.turns.clone(),
        }
    }
}

impl<R: Runtime> ColdCache<R> {
    /// A cache of at most `bytes_max` bytes of windows and extents. What readers look at and read ahead comes on top, a few
    /// windows for each turn, and what answers hold.
    pub fn new(runtime: R, bytes_max: u64) -> ColdCache<R> {
        let extents_max = bytes_max / COLD_EXTENTS_DIVISOR;
        let state = State {
            windows: Lru::new(bytes_max - extents_max),
            loading: HashMap::new(),
            sparse: Lru::new(COLD_SPARSE_WINDOWS_MAX),
            extents: Lru::new(extents_max),
            pinned: Vec::new(),
            stats: ColdStats::default(),
        };
        let readers = usize::try_from(bytes_max / COLD_READER_BYTES).unwrap_or(COLD_READERS_MAX);
        ColdCache {
            reads: DiskReads::new(runtime.clone()),
            runtime,
            state: Rc::new(RefCell::new(state)),
            bytes_max,
            turns: Portions::new(readers.clamp(COLD_READERS_MIN, COLD_READERS_MAX)),
        }
    }

    /// Changes how many reads may be in flight (1 to `COLD_READ_DEPTH`): less when they slow the log down.
    pub fn set_depth(&self, depth: u32) {
        self.reads.set_depth(depth);
    }

    /// Waits in line to read what an answer needs of old data, all of its partitions one after the other. Whoever has a turn
    /// waits for the disk alone, never for a peer. More readers at once would drive each other's windows out.
    pub async fn turn(&self) -> Portion {
        self.turns.take(1).await
    }

    /// What it did.
    pub fn stats(&self) -> ColdStats {
        self.state.borrow().stats
    }

    /// Bytes of windows and extents kept, and of windows that answers still hold.
    pub fn memory_bytes(&self) -> u64 {
        let mut state = self.state.borrow_mut();
        state.windows.weight() + state.extents.weight() + state.pinned_bytes()
    }

    /// Bytes of extents kept.
    pub fn extents_bytes(&self) -> u64 {
        self.state.borrow().extents.weight()
    }

    /// Forgets a segment that is gone. Not needed for correctness: its number never comes back.
    pub fn forget(&self, segment: SegmentNumber) {
        let mut state = self.state.borrow_mut();
        let windows: Vec<WindowKey> = state.windows.keys().filter(|key| key.0 == segment).collect();
        for key in windows {
            let gone = state.windows.remove(key);
            state.left(gone);
        }
        let extents: Vec<ExtentsKey> = state.extents.keys().filter(|key| key.0 == segment).collect();
        extents.into_iter().for_each(|key| drop(state.extents.remove(key)));
    }

    /// Reads whole batches of `read.log` from `read.from` on, as far as `read.place` reaches.
    ///
    /// Whoever reads has a [turn](ColdCache::turn).
    ///
    /// Errors: `Io`; `Damaged` when an entry is not what the index says stands there.
    pub async fn read(&self, read: &ColdRead<R::File>) -> Result<ColdBatches<R::Buffer>, ColdError> {
        let all = self.extents(&read.file, read.segment_bytes, &read.hold, read.log, &read.place).await?;
        let wanted = u64::try_from(read.within.bytes_max).expect("64 bits hold a usize");
        let extents = extents_from(&all, read.from, wanted);
        let mut walk = Walk::new(self, read, extents);
        let mut answer = Answer::new(read);
        let mut is_exhausted = true;
        // An extent above the bounds is one large entry: do not read it to find that out.
        let first = extents.first().filter(|_| read.within.first_bytes_max > 0);
        if let Some(first) = first
            && usize_of(first.bytes) > read.within.first_bytes_max.max(read.within.bytes_max)
        {
            answer.needed_bytes = usize_of(first.bytes);
            return Ok(answer.finish());
        }
        'extents: for (index, extent) in extents.iter().enumerate() {
            walk.next_offset = extents.get(index + 1).map_or(read.place.end_offset, |next| next.base_offset);
            let mut position = extent.position;
            let mut expected = Some(extent.base_offset);
            while position < extent.end() {
                let step = walk.step(position, extent.end(), &mut answer, &mut expected).await;
                match step {
                    Ok(Step::To(next)) => position = next,
                    Ok(Step::Complete) => {
                        is_exhausted = false;
                        break 'extents;
                    }
                    // What is whole comes first; the next read begins with what is not.
                    Err(_) if answer.bytes > 0 => {
                        is_exhausted = false;
                        break 'extents;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if is_exhausted {
            answer.step_to(read.place.end_offset);
        }
        Ok(answer.finish())
    }

    /// All extents of a log in one segment, by offset: known already, kept, or read from the footer. Of a place whose
    /// extents are known they are those that the index was asked for.
    ///
    /// Errors: `Io`; `Damaged` when neither the footer nor the entries tell them.
    pub async fn extents(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
        log: LogId,
        place: &Place,
    ) -> Result<Rc<[Extent]>, ColdError> {
        let (row, entries_bytes) = match &place.extents {
            PlaceExtents::Known(extents) => return Ok(Rc::from(extents.as_slice())),
            PlaceExtents::Footer { row, bytes } => (*row, *bytes),
        };
        let key = (place.segment, ExtentsOf::Row(row));
        match self.state.borrow_mut().extents.get(key) {
            Some(CachedExtents::Row(extents)) => return Ok(Rc::clone(extents)),
            Some(CachedExtents::Gone(damage)) => return Err(damage.clone()),
            _ => {}
        }
        let found = match self.read_extents(file, segment_bytes, hold, log, place, row).await {
            Err(damage @ ColdError::Damaged { .. }) => {
                self.on_damaged_footer(&damage);
                match self.scan_extents(file, segment_bytes, hold, log, place).await? {
                    Some((extents, bytes)) if bytes == entries_bytes => Ok(extents),
                    _ => Err(damage),
                }
            }
            found => Ok(found?),
        };
        let extents = found.as_ref().map_or(0, |extents| extents.len());
        let weight = size_of::<(ExtentsKey, CachedExtents)>() + extents * size_of::<Extent>();
        let cached = found.clone().map_or_else(CachedExtents::Gone, CachedExtents::Row);
        let weight = u64::try_from(weight).expect("64 bits hold a usize");
        self.state.borrow_mut().extents.insert(key, cached, weight);
        found
    }

    /// Reads the extents from the footer.
    ///
    /// Errors: as [`ColdCache::extents`].
    async fn read_extents(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
        log: LogId,
        place: &Place,
        row: u32,
    ) -> Result<Rc<[Extent]>, ColdError> {
        let trailer = self.trailer(file, segment_bytes, hold, place.end_offset).await?;
        let (segment, next_offset) = (place.segment, place.end_offset);
        let damaged =
            |position: u32, what: &str| ColdError::Damaged { segment, position, what: what.to_owned(), next_offset };
        if row >= trailer.rows {
            return Err(damaged(trailer.directory_position, "the directory is shorter than the index says"));
        }
        let row_bytes = u32::try_from(ROW_BYTES).expect("48 fits");
        let row_position = trailer.directory_position + row * row_bytes;
        let bytes = self.read_bytes(file, hold, row_position, row_bytes).await?;
        let bytes: &[u8; ROW_BYTES] = bytes.as_slice().try_into().expect("as long as asked");
        let found = trailer.decode_row(bytes).map_err(|error| damaged(row_position, &error.to_string()))?;
        if found.log != log || found.base_offset != place.base_offset {
            return Err(damaged(row_position, "the row is another log's"));
        }
        let range = trailer.extents_range(&found);
        let (position, length) = range.ok_or_else(|| damaged(row_position, "extents beyond the footer"))?;
        let bytes = self.read_bytes(file, hold, position, length).await?;
        let extents = found.decode_extents(&bytes, trailer.data_end);
        Ok(extents.map_err(|error| damaged(position, &error.to_string()))?.into())
    }

    /// A footer may be damaged where the data is whole: recovery writes one anew that was, and a crash may tear that. What
    /// it said is then found in the entries: the extents of `log`, and the bytes of its entries. They end where the first
    /// entry of the segment, of whatever log, is damaged; `None` when none were found that fit the place.
    ///
    /// Errors: `Io`.
    async fn scan_extents(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
        log: LogId,
        place: &Place,
    ) -> Result<Option<(Rc<[Extent]>, u32)>, ColdError> {
        let segment = place.segment;
        self.state.borrow_mut().stats.segments_scanned += 1;
        let file_bytes = u32::try_from(file.bytes()).unwrap_or(u32::MAX);
        let mut scanner = Scanner::new(file.clone(), segment_bytes.min(file_bytes));
        let mut found = OpenSegmentIndex::new();
        let mut next_offset = place.base_offset;
        let (mut end, mut incarnation) = (SEGMENT_HEADER_BYTES, Incarnation::new(0));
        let mut entries: u32 = 0;
        loop {
            let next = scanner.next(end, segment, incarnation).await;
            let next = next.map_err(|cause| ColdError::Io { segment: hold.segment(), cause: Rc::new(cause) })?;
            let Some(scanned) = next else { break };
            (end, incarnation) = (scanned.end, scanned.entry.header.incarnation);
            if scanned.entry.header.log == log
                && let Some(indexed) = indexed_entry(scanned.position, &scanned.entry)
            {
                if indexed.base_offset < next_offset || indexed.last_offset >= place.end_offset {
                    return Ok(None);
                }
                next_offset = indexed.last_offset.advance(1);
                found.add(log, &indexed);
            }
            entries += 1;
            if entries.is_multiple_of(SCAN_ENTRIES_PER_YIELD) {
                self.runtime.yield_now().await;
            }
        }
        let run = found.run(log).filter(|run| run.base_offset() == place.base_offset);
        Ok(run.map(|run| (Rc::from(run.extents.as_slice()), run.bytes)))
    }

    /// Tells it once for a segment, unless the cache is so full that it forgets that it did.
    fn on_damaged_footer(&self, damage: &ColdError) {
        let ColdError::Damaged { segment, .. } = damage else { return };
        let mut state = self.state.borrow_mut();
        let key = (*segment, ExtentsOf::Footer);
        if state.extents.get(key).is_none() {
            tracing::warn!("{damage}: its entries are read instead, which takes longer");
            let weight = u64::try_from(size_of::<(ExtentsKey, CachedExtents)>()).expect("small");
            state.extents.insert(key, CachedExtents::Told, weight);
        }
    }

    async fn trailer(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
        next_offset: Offset,
    ) -> Result<Trailer, ColdError> {
        let segment = hold.segment();
        let key = (segment, ExtentsOf::Trailer);
        if let Some(CachedExtents::Trailer(trailer)) = self.state.borrow_mut().extents.get(key) {
            return Ok(*trailer);
        }
        let position = segment_bytes - UNIT_BYTES;
        let damaged = |what: String| ColdError::Damaged { segment, position, what, next_offset };
        let bytes = self.read_bytes(file, hold, position, UNIT_BYTES).await?;
        let trailer = Trailer::decode(&bytes, segment_bytes).map_err(|error| damaged(format!("footer: {error}")))?;
        if trailer.number != segment {
            return Err(damaged(format!("the footer is of segment {}", trailer.number)));
        }
        let weight = u64::try_from(size_of::<(ExtentsKey, Trailer)>()).expect("small");
        self.state.borrow_mut().extents.insert(key, CachedExtents::Trailer(trailer), weight);
        Ok(trailer)
    }

    /// Reads any range of bytes by whole units. The range lies in the file, so what it allocates is bounded by that.
    async fn read_bytes(
        &self,
        file: &R::File,
        hold: &SegmentHold,
        position: u32,
        length: u32,
    ) -> Result<Vec<u8>, ColdError> {
        let start = position - position % UNIT_BYTES;
        let end = next_unit(position + length);
        let pending = self.start_sparse(file, hold, start, end);
        let block = pending.wait().await.map_err(|failure| io(hold, failure))?;
        let first = usize_of(position - start);
        Ok(block.as_slice()[first..first + usize_of(length)].to_vec())
    }

    /// Starts a read of the units from `start` to `end` for one reader only.
    fn start_sparse(&self, file: &R::File, hold: &SegmentHold, start: u32, end: u32) -> SharedRead<R::Buffer> {
        let mut state = self.state.borrow_mut();
        state.stats.sparse_reads += 1;
        state.stats.bytes_read += u64::from(end - start);
        drop(state);
        let window = end - start >= COLD_WINDOW_DENSE_BYTES * COLD_WINDOW_WEIGHT;
        let weight = if window { COLD_WINDOW_WEIGHT } else { 1 };
        self.reads.start(file, hold, (start, usize_of(end - start)), weight, |_| {})
    }

    /// Starts what is missing of one window, and says where its bytes will be.
    fn start_window(&self, read: &ColdRead<R::File>, plan: &WindowPlan) -> Vec<Piece<R::Buffer>> {
        let key = (read.hold.segment(), plan.window);
        let window_start = plan.window * COLD_WINDOW_BYTES;
        let file_end = u32::try_from(read.file.bytes()).unwrap_or(u32::MAX);
        let window_end = window_start.saturating_add(COLD_WINDOW_BYTES).min(file_end - file_end % UNIT_BYTES);
        if window_end <= window_start {
            return Vec::new();
        }
        let mut state = self.state.borrow_mut();
        if let Some(block) = state.windows.get(key) {
            let block = Rc::clone(block);
            state.stats.window_hits += 1;
            return vec![Piece { start: window_start, end: window_end, source: Source::Ready(block) }];
        }
        if let Some(loading) = state.loading.get(&key) {
            let source = Source::Pending(Rc::clone(loading));
            state.stats.window_hits += 1;
            return vec![Piece { start: window_start, end: window_end, source }];
        }
        let wanted: u32 = plan.runs.iter().map(|(start, end)| end - start).sum();
        let wanted_before = state.sparse.get(key).copied().unwrap_or(0);
        let is_final = window_end <= read.readable_end;
        if is_final && wanted.saturating_add(wanted_before) >= COLD_WINDOW_DENSE_BYTES {
            state.sparse.remove(key);
            state.stats.windows_read += 1;
            state.stats.bytes_read += u64::from(window_end - window_start);
            drop(state);
            let source = Source::Pending(self.start_whole(read, key, (window_start, window_end)));
            return vec![Piece { start: window_start, end: window_end, source }];
        }
        if is_final {
            state.sparse.insert(key, wanted + wanted_before, 1);
        }
        drop(state);
        let start = |&(start, end): &(u32, u32)| {
            let source = Source::Pending(self.start_sparse(&read.file, &read.hold, start, end));
            Piece { start, end, source }
        };
        plan.runs.iter().map(start).collect()
    }

    fn start_whole(&self, read: &ColdRead<R::File>, key: WindowKey, (start, end): (u32, u32)) -> SharedRead<R::Buffer> {
        let shared = Rc::clone(&self.state);
        let weight = u64::from(end - start);
        let keep = move |result: &ReadResult<R::Buffer>| {
            let mut state = shared.borrow_mut();
            state.loading.remove(&key);
            if let Ok(block) = result {
                let gone = state.windows.insert(key, Rc::clone(block), weight);
                state.left(gone);
            }
        };
        let bytes = usize_of(end - start);
        let pending = self.reads.start(&read.file, &read.hold, (start, bytes), COLD_WINDOW_WEIGHT, keep);
        self.state.borrow_mut().loading.insert(key, Rc::clone(&pending));
        pending
    }
}

impl<B> State<B> {
    /// Windows leave the cache; those that answers hold are remembered.
    fn left(&mut self, gone: impl IntoIterator<Item = Rc<Block<B>>>) {
        let held = gone.into_iter().filter(|block| Rc::strong_count(block) > 1);
        self.pinned.extend(held.map(|block| Rc::downgrade(&block)));
        // Bounded by what answers hold; checked only as it grows, so that its cost is shared.
        if self.pinned.len().is_multiple_of(64) {
            self.pinned.retain(|block| block.strong_count() > 0);
        }
    }

    fn pinned_bytes(&mut self) -> u64 {
        self.pinned.retain(|block| block.strong_count() > 0);
        let windows = u64::try_from(self.pinned.len()).expect("64 bits hold a usize");
        windows * u64::from(COLD_WINDOW_BYTES)
    }
}

/// What is wanted of one window: runs of whole units, ascending.
#[derive(Debug, Eq, PartialEq)]
struct WindowPlan {
    window: u32,
    runs: Vec<(u32, u32)>,
}

/// Splits extents (ascending) into windows and each window into runs of units, up to `readable_end`.
fn plan(extents: &[Extent], readable_end: u32) -> Vec<WindowPlan> {
    let mut plans: Vec<WindowPlan> = Vec::new();
    for extent in extents {
        let mut start = extent.position - extent.position % UNIT_BYTES;
        let end = next_unit(extent.end().min(readable_end));
        while start < end {
            let window = start / COLD_WINDOW_BYTES;
            let run_end = end.min((window + 1).saturating_mul(COLD_WINDOW_BYTES));
            match plans.last_mut() {
                Some(plan) if plan.window == window => match plan.runs.last_mut() {
                    Some(run) if run.1 >= start => run.1 = run.1.max(run_end),
                    _ => plan.runs.push((start, run_end)),
                },
                _ => plans.push(WindowPlan { window, runs: vec![(start, run_end)] }),
            }
            start = run_end;
        }
    }
    plans
}

/// Bytes of a segment from `start` to `end`, in memory or on their way.
struct Piece<B> {
    start: u32,
    end: u32,
    source: Source<B>,
}

enum Source<B> {
    Ready(Rc<Block<B>>),
    Pending(SharedRead<B>),
}

/// The bytes of one entry: where they lie, or joined because they cross pieces.
enum EntryBytes<B> {
    Lent(Rc<Block<B>>, std::ops::Range<usize>),
    Joined(Bytes),
}

impl<B: crate::runtime::Buffer> EntryBytes<B> {
    fn as_slice(&self) -> &[u8] {
        match self {
            EntryBytes::Lent(block, range) => &block.as_slice()[range.clone()],
            EntryBytes::Joined(bytes) => bytes,
        }
    }
}

/// One pass over the entries of some extents, with reads started a bounded way ahead.
struct Walk<'a, R: Runtime> {
    cache: &'a ColdCache<R>,
    read: &'a ColdRead<R::File>,
    plans: VecDeque<WindowPlan>,
    pieces: VecDeque<Piece<R::Buffer>>,
    /// Where the piece that was looked at last starts, and whether that was noticed.
    piece_start: Option<u32>,
    is_elsewhere: bool,
    /// Where the log goes on behind the extent that is walked.
    next_offset: Offset,
}

/// How a walk goes on.
enum Step {
    /// With the entry at this position.
    To(u32),
    /// No further: the answer is complete, or the rest is not on disk yet.
    Complete,
}

impl<'a, R: Runtime> Walk<'a, R> {
    fn new(cache: &'a ColdCache<R>, read: &'a ColdRead<R::File>, extents: &[Extent]) -> Walk<'a, R> {
        let plans = plan(extents, read.readable_end).into();
        let next_offset = read.place.end_offset;
        Walk { cache, read, plans, pieces: VecDeque::new(), piece_start: None, is_elsewhere: false, next_offset }
    }

    /// True once after each step to another piece.
    fn is_elsewhere(&mut self) -> bool {
        std::mem::take(&mut self.is_elsewhere)
    }

    /// Adds what is wanted of the entry at `position`.
    async fn step(
        &mut self,
        position: u32,
        end: u32,
        answer: &mut Answer<'_, R::Buffer, R::File>,
        expected: &mut Option<Offset>,
    ) -> Result<Step, ColdError> {
        let Some(bytes) = self.entry(position, end).await? else { return Ok(Step::Complete) };
        if self.is_elsewhere() {
            answer.copy_always = self.cache.memory_bytes() > self.cache.bytes_max + self.cache.bytes_max / 2;
        }
        let entry = Entry::decode(bytes.as_slice()).map_err(|error| self.damaged(position, error))?;
        match answer.add_entry(&bytes, &entry, expected) {
            Ok(true) => Ok(Step::Complete),
            Ok(false) => {
                let entry_bytes = u32::try_from(entry.header.entry_bytes()).expect("it lies within an extent");
                Ok(Step::To(position + entry_bytes))
            }
            Err(fault) => {
                // The entry's crc vouches for where a damaged batch ends.
                let next_offset = fault.batch_end.unwrap_or(self.next_offset);
                let (segment, what) = (self.read.hold.segment(), fault.what.to_owned());
                Err(ColdError::Damaged { segment, position, what, next_offset })
            }
        }
    }

    /// The bytes from the entry at `position` on: at least the whole entry, at most to `end`. `None` when the entry goes
    /// beyond what is readable. Positions ascend.
    async fn entry(&mut self, position: u32, end: u32) -> Result<Option<EntryBytes<R::Buffer>>, ColdError> {
        let limit = end.min(self.read.readable_end);
        if position >= limit {
            return Ok(None);
        }
        let (block, piece_start, piece_end) = self.block_at(position).await?;
        let first = usize_of(position - piece_start);
        let lent = first..usize_of(limit.min(piece_end) - piece_start);
        let needed = match EntryHeader::decode_unchecked(&block.as_slice()[lent.clone()]) {
            Ok(header) => header.entry_bytes(),
            Err(FormatError::Truncated { needed }) => needed,
            Err(error) => return Err(self.damaged(position, error)),
        };
        if needed <= u64::try_from(lent.len()).expect("64 bits hold a usize") {
            return Ok(Some(EntryBytes::Lent(block, lent)));
        }
        if needed > u64::from(end - position) {
            return Err(self.damaged(position, "the entry goes beyond its extent"));
        }
        if needed > u64::from(limit - position) {
            return Ok(None);
        }
        // The entry crosses into the next piece: join it. At most an extent's bytes, as checked.
        let needed = usize::try_from(needed).expect("at most an extent");
        let mut joined = BytesMut::with_capacity(needed);
        joined.extend_from_slice(&block.as_slice()[lent]);
        let mut next = piece_end;
        while joined.len() < needed {
            let (block, piece_start, piece_end) = self.block_at(next).await?;
            let first = usize_of(next - piece_start);
            let last = usize_of(piece_end - piece_start).min(first + needed - joined.len());
            joined.extend_from_slice(&block.as_slice()[first..last]);
            next = piece_end;
        }
        Ok(Some(EntryBytes::Joined(joined.freeze())))
    }

    /// The piece that holds `position`: its memory, start and end.
    async fn block_at(&mut self, position: u32) -> Result<(Rc<Block<R::Buffer>>, u32, u32), ColdError> {
        while self.pieces.front().is_some_and(|piece| piece.end <= position) {
            self.pieces.pop_front();
        }
        self.start_ahead();
        let piece = self.pieces.front_mut().filter(|piece| piece.start <= position && position < piece.end);
        let Some(piece) = piece else {
            return Err(self.damaged(position, "the segment ends before the extent"));
        };
        let block = match &piece.source {
            Source::Ready(block) => Rc::clone(block),
            Source::Pending(pending) => {
                let block = pending.wait().await.map_err(|failure| io(&self.read.hold, failure))?;
                piece.source = Source::Ready(Rc::clone(&block));
                block
            }
        };
        if self.piece_start.replace(piece.start) != Some(piece.start) {
            self.is_elsewhere = true;
        }
        Ok((block, piece.start, piece.end))
    }

    fn start_ahead(&mut self) {
        let depth = usize_of(COLD_READ_DEPTH);
        while self.pieces.len() < depth {
            let ahead: u32 = self.pieces.iter().map(|piece| piece.end - piece.start).sum();
            if !self.pieces.is_empty() && ahead >= COLD_BYTES_AHEAD_MAX {
                return;
            }
            let Some(plan) = self.plans.pop_front() else { return };
            self.pieces.extend(self.cache.start_window(self.read, &plan));
        }
    }

    fn damaged(&self, position: u32, what: impl ToString) -> ColdError {
        let (segment, what) = (self.read.hold.segment(), what.to_string());
        ColdError::Damaged { segment, position, what, next_offset: self.next_offset }
    }
}

fn io(hold: &SegmentHold, failure: ReadFailure) -> ColdError {
    ColdError::Io { segment: hold.segment(), cause: failure.cause }
}

/// Why an entry, or a batch in it, is not what was written.
struct Fault {
    what: &'static str,
    /// Offset after the batch, when it alone is damaged.
    batch_end: Option<Offset>,
}

impl Fault {
    fn of_entry(what: &'static str) -> Fault {
        Fault { what, batch_end: None }
    }
}

/// Collects the batches of an answer.
struct Answer<'a, B, F> {
    read: &'a ColdRead<F>,
    slices: Vec<Slice<B>>,
    /// Small batches since the last slice.
    copied: BytesMut,
    bytes: usize,
    next_offset: Offset,
    needed_bytes: usize,
    /// Answers pin so many windows beside those kept that nothing more is lent.
    copy_always: bool,
}

impl<'a, B: crate::runtime::Buffer, F> Answer<'a, B, F> {
    fn new(read: &'a ColdRead<F>) -> Answer<'a, B, F> {
        Answer {
            read,
            slices: Vec::new(),
            copied: BytesMut::new(),
            bytes: 0,
            next_offset: read.from,
            needed_bytes: 0,
            copy_always: false,
        }
    }

    /// Adds those batches of a checked entry that are wanted. True when the answer is complete. `expected` is the offset
    /// that the entry starts with, if the index says so.
    fn add_entry(
        &mut self,
        bytes: &EntryBytes<B>,
        entry: &Entry<'_>,
        expected: &mut Option<Offset>,
    ) -> Result<bool, Fault> {
        let header = &entry.header;
        if !matches!(header.kind, EntryKind::Append | EntryKind::Move) {
            return Err(Fault::of_entry("the entry holds no batches"));
        }
        if header.log != self.read.log || header.segment != self.read.hold.segment() {
            return Err(Fault::of_entry("the entry is another log's or of another life of the file"));
        }
        for batch in entry.batches() {
            if expected.take().is_some_and(|expected| batch.base_offset() != expected) {
                return Err(Fault::of_entry("the entry starts at another offset than the index says"));
            }
            let last_offset = batch.last_offset();
            if last_offset < batch.base_offset() {
                return Err(Fault::of_entry("the batch ends before it starts"));
            }
            if last_offset < self.read.from {
                continue;
            }
            if self.bytes > 0 && batch.base_offset() < self.next_offset {
                return Err(Fault::of_entry("offsets go back"));
            }
            let bytes_after = self.bytes + batch.bytes().len();
            if last_offset >= self.read.bound {
                self.step_to(batch.base_offset());
                return Ok(true);
            }
            let first_bytes_max = if self.bytes == 0 { self.read.within.first_bytes_max } else { 0 };
            if bytes_after > self.read.within.bytes_max.max(first_bytes_max) {
                self.needed_bytes = if first_bytes_max > 0 { bytes_after } else { 0 };
                self.step_to(batch.base_offset());
                return Ok(true);
            }
            if !batch.crc_matches() {
                let what = "the crc of the batch differs";
                return Err(Fault { what, batch_end: Some(last_offset.advance(1)) });
            }
            self.add_batch(bytes, batch.bytes());
            self.bytes = bytes_after;
            self.next_offset = last_offset.advance(1);
        }
        Ok(false)
    }

    /// Nothing of the log lies below `offset` but what was given.
    fn step_to(&mut self, offset: Offset) {
        if self.bytes == 0 {
            self.next_offset = self.next_offset.max(offset.min(self.read.bound));
        }
    }

    fn add_batch(&mut self, whole: &EntryBytes<B>, batch: &[u8]) {
        if self.copy_always || batch.len() <= FETCH_COPY_BYTES_MAX {
            self.copied.extend_from_slice(batch);
            return;
        }
        self.flush_copied();
        let at = offset_within(whole.as_slice(), batch);
        match whole {
            EntryBytes::Joined(bytes) => self.slices.push(Slice::Bytes(bytes.slice(at..at + batch.len()))),
            EntryBytes::Lent(block, range) => {
                let start = range.start + at;
                if let Some(Slice::Block { block: last, range }) = self.slices.last_mut()
                    && Rc::ptr_eq(last, block)
                    && range.end == start
                {
                    range.end = start + batch.len();
                    return;
                }
                let range = start..start + batch.len();
                self.slices.push(Slice::Block { block: Rc::clone(block), range });
            }
        }
    }

    fn flush_copied(&mut self) {
        if !self.copied.is_empty() {
            self.slices.push(Slice::Bytes(taken(&mut self.copied)));
        }
    }

    fn finish(mut self) -> ColdBatches<B> {
        self.flush_copied();
        ColdBatches {
            slices: self.slices,
            bytes: self.bytes,
            next_offset: self.next_offset,
            needed_bytes: self.needed_bytes,
        }
    }
}

/// Where `part`, a subslice of `whole`, begins in it.
fn offset_within(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

const _: () = assert!(COLD_WINDOW_BYTES.is_multiple_of(UNIT_BYTES));

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::simulation::disk::Operation;
    use crate::simulation::random::Random;
    use crate::simulation::seeds::Seeds;
    use crate::simulation::{SimulatedBuffer, SimulatedFile, SimulatedRuntime, Simulation};
    use crate::store::disk_reads::SegmentHolds;
    use crate::store::format::tests::{append, batch};
    use crate::store::format::{ENTRY_HEADER_BYTES, SegmentHeader, Stream, entry_position};
    use crate::store::index::{Index, IndexedEntry};
    use crate::types::{Incarnation, LogPosition, ShardId, TimestampMs};

    const SEGMENT: SegmentNumber = SegmentNumber::new(6);

    /// A batch of the model: its last offset and its bytes.
    type Batches = Vec<(i64, i64, Vec<u8>)>;

    /// A segment as the writer would leave it, and what it holds.
    struct Image {
        index: Index,
        bytes: Vec<u8>,
        data_end: u32,
        logs: Vec<(LogId, Batches)>,
    }

    impl Image {
        /// Fills a segment of `segment_bytes` with batches of up to `batch_bytes_max` of `logs` logs.
        fn new(random: &mut Random, segment_bytes: u32, logs: u64, batch_bytes_max: u64) -> Image {
            let mut index = Index::new(SEGMENT);
            let mut model: Vec<(LogId, Batches)> = (1..=logs).map(|log| (LogId::new(log), Vec::new())).collect();
            model.iter().for_each(|(log, _)| index.create(*log, Offset::ZERO));
            let mut bytes = vec![0; usize_of(segment_bytes)];
            let mut position = 4096;
            loop {
                let chosen = random.index(model.len());
                let (log, batches) = &mut model[chosen];
                let mut entry = Vec::new();
                let base = batches.last().map_or(0, |(_, last, _)| last + 1);
                let mut next = base;
                for _ in 0..1 + random.below(3) {
                    let last = next + i64::try_from(random.below(5)).unwrap();
                    let length = 61 + usize::try_from(random.below(batch_bytes_max)).unwrap();
                    entry.push((next, last, batch(next, last, last, length, u8::try_from(random.below(256)).unwrap())));
                    next = last + 1;
                }
                let parts: Vec<Vec<u8>> = entry.iter().map(|(_, _, batch)| batch.clone()).collect();
                let encoded = append(*log, SEGMENT, &parts);
                let entry_bytes = u32::try_from(encoded.len()).unwrap();
                let footer = index.open().footer_bytes_with(*log, position, entry_bytes);
                let data_end = u64::from(position) + u64::from(entry_bytes);
                if data_end.next_multiple_of(4096) + footer > u64::from(segment_bytes) {
                    return Image { index, bytes, data_end: position, logs: model };
                }
                let added = IndexedEntry {
                    position,
                    bytes: entry_bytes,
                    base_offset: Offset::new(base),
                    last_offset: Offset::new(next - 1),
                    timestamp_max: TimestampMs::new(next - 1),
                };
                index.add(*log, &added).unwrap();
                bytes[usize_of(position)..][..encoded.len()].copy_from_slice(&encoded);
                batches.append(&mut entry);
                position = entry_position(position + entry_bytes);
                if random.chance(1, 4) {
                    position = next_unit(position);
                }
            }
        }

        fn seal(&mut self) {
            let header = SegmentHeader {
                shard: ShardId::new(0),
                stream: Stream::Hot,
                number: SEGMENT,
                incarnation: Incarnation::new(3),
                bytes: u32::try_from(self.bytes.len()).unwrap(),
                predecessor: LogPosition::default(),
                checkpoint_sequence: 0,
                durable: LogPosition::default(),
            };
            self.bytes[..4096].copy_from_slice(&header.encode());
            let sealed = self.index.seal(&header, Incarnation::new(3), self.data_end, SEGMENT.next());
            let footer = sealed.unwrap().unwrap();
            self.bytes[usize_of(footer.position)..].copy_from_slice(&footer.bytes);
            self.index.footer_written(SEGMENT);
        }
    }

    fn path() -> PathBuf {
        PathBuf::from("/data/segment")
    }

    struct Reader {
        cache: ColdCache<SimulatedRuntime>,
        file: SimulatedFile,
        holds: SegmentHolds,
        readable_end: u32,
    }

    impl Reader {
        async fn new(runtime: SimulatedRuntime, cache_bytes: u64) -> Reader {
            let file = runtime.open(&path()).await.unwrap();
            let readable_end = u32::try_from(file.bytes()).unwrap();
            Reader { cache: ColdCache::new(runtime, cache_bytes), file, holds: SegmentHolds::new(), readable_end }
        }

        fn want(&self, index: &Index, log: LogId, from: i64, bytes_max: usize) -> Option<ColdRead<SimulatedFile>> {
            let from = Offset::new(from);
            let place = index.locate(log, from, u64::try_from(bytes_max).unwrap())?;
            Some(ColdRead {
                file: self.file.clone(),
                hold: self.holds.hold(place.segment),
                log,
                place,
                segment_bytes: u32::try_from(self.file.bytes()).unwrap(),
                readable_end: self.readable_end,
                from,
                bound: Offset::new(i64::MAX),
                within: ReadWithin::new(bytes_max, true),
            })
        }
    }

    fn joined(batches: &ColdBatches<SimulatedBuffer>) -> Vec<u8> {
        let joined: Vec<u8> = batches.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
        assert_eq!(joined.len(), batches.bytes);
        joined
    }

    /// What a read has to bring.
    fn expected(batches: &Batches, from: i64, bound: i64, bytes_max: usize, at_least_one: bool) -> Vec<u8> {
        let mut out: Vec<u8> = Vec::new();
        for (_, last, bytes) in batches.iter().filter(|(_, last, _)| *last >= from) {
            let first = out.is_empty() && at_least_one;
            if *last >= bound || (out.len() + bytes.len() > bytes_max && !first) {
                break;
            }
            out.extend_from_slice(bytes);
        }
        out
    }

    fn random_offset(random: &mut Random, batches: &Batches) -> i64 {
        let end = batches.last().map_or(0, |(_, last, _)| last + 1);
        i64::try_from(random.below(u64::try_from(end).unwrap() + 1)).unwrap()
    }

    #[test]
    fn cold_reads_agree_with_what_was_written() {
        Seeds::from_environment(12).each(|seed| {
            let mut random = Random::new(seed);
            let batch_bytes_max = *random.pick(&[300, 5_000, 100_000, 1_500_000]);
            let logs = 1 + random.below(30);
            let mut image = Image::new(&mut random, 6 << 20, logs, batch_bytes_max);
            let sealed = random.chance(2, 3);
            if sealed {
                image.seal();
            }
            let mut simulation = Simulation::new(seed);
            simulation.disk().plant(&path(), &image.bytes);
            let cache_bytes = *random.pick(&[0, 3 << 20, 100 << 20]);
            simulation.run(|runtime| async move {
                let mut reader = Reader::new(runtime, cache_bytes).await;
                if !sealed {
                    reader.readable_end = image.data_end;
                }
                for _ in 0..150 {
                    let (log, batches) = random.pick(&image.logs);
                    let from = random_offset(&mut random, batches);
                    let bytes_max = *random.pick(&[0, 100, 5_000, 300_000, 10_000_000]);
                    let Some(mut read) = reader.want(&image.index, *log, from, bytes_max) else {
                        assert!(batches.last().is_none_or(|(_, last, _)| from > *last));
                        continue;
                    };
                    let bound = if random.chance(1, 3) { random_offset(&mut random, batches) } else { i64::MAX };
                    read.bound = Offset::new(bound);
                    let at_least_one = random.chance(1, 2);
                    read.within = ReadWithin::new(bytes_max, at_least_one);
                    let found = reader.cache.read(&read).await.unwrap();
                    let wanted = expected(batches, from, bound, bytes_max, at_least_one);
                    // A read may stop at the extents that were asked for, but never empty-handed.
                    let joined = joined(&found);
                    assert!(wanted.starts_with(&joined));
                    assert_eq!(wanted.is_empty(), joined.is_empty());
                    // Entry headers count against the extents asked for: at most half of an entry here.
                    assert!(joined.len() * 2 >= wanted.len().min(bytes_max));
                    if !joined.is_empty() {
                        let rest = expected(batches, found.next_offset.value(), bound, usize::MAX, false);
                        let all = expected(batches, from, bound, usize::MAX, false);
                        assert_eq!(joined.len() + rest.len(), all.len());
                    }
                    drop(found);
                    assert!(reader.cache.memory_bytes() <= cache_bytes.max(1) + 3 * u64::from(COLD_WINDOW_BYTES));
                }
            });
        });
    }

    #[test]
    fn window_wanted_by_several_is_read_once() {
        let mut random = Random::new(2);
        let mut image = Image::new(&mut random, 4 << 20, 40, 2_000);
        image.seal();
        let mut simulation = Simulation::new(2);
        simulation.disk().plant(&path(), &image.bytes);
        let stats = simulation.run(|runtime| async move {
            let reader = Rc::new(Reader::new(runtime.clone(), 64 << 20).await);
            let image = Rc::new(image);
            let done = Rc::new(std::cell::Cell::new(0));
            for log in 0..image.logs.len() {
                let (reader, image, done) = (Rc::clone(&reader), Rc::clone(&image), Rc::clone(&done));
                runtime.spawn(async move {
                    let (log, batches) = &image.logs[log];
                    let read = reader.want(&image.index, *log, 0, 100 << 20).unwrap();
                    let found = reader.cache.read(&read).await.unwrap();
                    assert_eq!(joined(&found), expected(batches, 0, i64::MAX, 100 << 20, true));
                    done.set(done.get() + 1);
                });
            }
            while done.get() < image.logs.len() {
                runtime.sleep(std::time::Duration::from_millis(1)).await;
            }
            reader.cache.stats()
        });
        let stats = stats.finished();
        assert_eq!(stats.windows_read, 4, "{stats:?}");
        // The first few found the windows thinly wanted; the other 37 logs found them in memory.
        assert!(stats.window_hits >= 37 * 4, "{stats:?}");
        assert!(stats.bytes_read < 5 << 20, "{stats:?}");
    }

    #[test]
    fn thin_wants_read_units_until_they_add_up() {
        let mut random = Random::new(4);
        let mut image = Image::new(&mut random, 1 << 20, 60, 200);
        image.seal();
        let mut simulation = Simulation::new(4);
        simulation.disk().plant(&path(), &image.bytes);
        simulation.run(|runtime| async move {
            let reader = Reader::new(runtime, 64 << 20).await;
            let (log, _) = image.logs[0];
            let read = reader.want(&image.index, log, 0, 1).unwrap();
            reader.cache.read(&read).await.unwrap();
            let first = reader.cache.stats();
            assert_eq!(first.windows_read, 0);
            assert!(first.bytes_read < 64 * 1024, "{first:?}");
            for _ in 0..20 {
                reader.cache.read(&read).await.unwrap();
            }
            let last = reader.cache.stats();
            assert_eq!(last.windows_read, 1);
            assert!(last.window_hits > 0);
        });
    }

    #[test]
    fn flipped_bits_are_reported_and_never_served() {
        let damaged = Rc::new(std::cell::Cell::new(0));
        Seeds::from_environment(30).each(|seed| {
            let mut random = Random::new(seed);
            let mut image = Image::new(&mut random, 1 << 20, 5, 3_000);
            image.seal();
            let clean = image.bytes.clone();
            for _ in 0..40 {
                let at = 4096 + random.index(image.bytes.len() - 4096);
                image.bytes[at] ^= 1 << random.below(8);
            }
            let mut simulation = Simulation::new(seed);
            simulation.disk().plant(&path(), &image.bytes);
            assert_ne!(clean, image.bytes);
            let damaged = Rc::clone(&damaged);
            simulation.run(|runtime| async move {
                let reader = Reader::new(runtime, 16 << 20).await;
                for (log, batches) in &image.logs {
                    let Some(read) = reader.want(&image.index, *log, 0, 10 << 20) else { continue };
                    // What is damaged is passed over as an administrator would who accepts the loss.
                    let mut next = Offset::ZERO;
                    while next < read.place.end_offset {
                        let before = next;
                        match reader.cache.read(&ColdRead { from: next, ..read.clone() }).await {
                            Ok(found) => {
                                let wanted = expected(batches, next.value(), i64::MAX, 10 << 20, true);
                                let found_bytes = joined(&found);
                                assert!(wanted.starts_with(&found_bytes) && !found_bytes.is_empty());
                                next = found.next_offset;
                            }
                            Err(ColdError::Damaged { segment, next_offset, .. }) => {
                                assert_eq!(segment, SEGMENT);
                                damaged.set(damaged.get() + 1);
                                next = next_offset;
                            }
                            Err(error) => panic!("{error}"),
                        }
                        assert!(next > before, "{before}: no step forward");
                    }
                }
            });
        });
        assert!(damaged.get() > 30, "{} reads met damage", damaged.get());
    }

    #[test]
    fn failed_read_is_reported_and_tried_again_by_the_next() {
        let mut random = Random::new(9);
        let image = Image::new(&mut random, 2 << 20, 1, 30_000);
        let mut simulation = Simulation::new(9);
        simulation.disk().plant(&path(), &image.bytes);
        simulation.disk().fail(Operation::Read, "segment", 0);
        simulation.run(|runtime| async move {
            let reader = Reader::new(runtime, 16 << 20).await;
            let (log, batches) = &image.logs[0];
            let read = reader.want(&image.index, *log, 0, 100_000).unwrap();
            assert!(matches!(reader.cache.read(&read).await, Err(ColdError::Io { segment: SEGMENT, .. })));
            let found = reader.cache.read(&read).await.unwrap();
            assert_eq!(joined(&found), expected(batches, 0, i64::MAX, 100_000, true));
        });
    }

    #[test]
    fn reader_that_gives_up_keeps_its_segment_until_its_reads_end() {
        let mut random = Random::new(10);
        let image = Image::new(&mut random, 2 << 20, 1, 30_000);
        let mut simulation = Simulation::new(10);
        simulation.disk().plant(&path(), &image.bytes);
        simulation.run(|runtime| async move {
            let reader = Reader::new(runtime.clone(), 16 << 20).await;
            let read = reader.want(&image.index, image.logs[0].0, 0, 1 << 20).unwrap();
            {
                let mut future = Box::pin(reader.cache.read(&read));
                let polled = std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context)));
                assert!(polled.await.is_pending());
            }
            drop(read);
            assert!(reader.holds.is_held(SEGMENT));
            runtime.sleep(std::time::Duration::from_secs(1)).await;
            assert!(!reader.holds.is_held(SEGMENT));
        });
    }

    #[test]
    fn another_lives_bytes_are_not_served() {
        let mut random = Random::new(12);
        let mut image = Image::new(&mut random, 1 << 20, 2, 1_000);
        let entry = append(LogId::new(1), SegmentNumber::new(5), &[batch(0, 0, 0, 100, 0)]);
        image.bytes[4096..4096 + ENTRY_HEADER_BYTES + 100].copy_from_slice(&entry);
        let first = image.logs.iter().position(|(log, _)| {
            let place = image.index.locate(*log, Offset::ZERO, 1).unwrap();
            matches!(place.extents, PlaceExtents::Known(extents) if extents[0].position == 4096)
        });
        let (log, _) = image.logs[first.unwrap()];
        let mut simulation = Simulation::new(12);
        simulation.disk().plant(&path(), &image.bytes);
        simulation.run(|runtime| async move {
            let reader = Reader::new(runtime, 16 << 20).await;
            let read = reader.want(&image.index, log, 0, 1).unwrap();
            assert!(matches!(reader.cache.read(&read).await, Err(ColdError::Damaged { position: 4096, .. })));
        });
    }

    #[test]
    fn extents_become_runs_of_units_by_window() {
        let extent =
            |position, bytes| Extent { base_offset: Offset::ZERO, timestamp_max: TimestampMs::NONE, position, bytes };
        let window = COLD_WINDOW_BYTES;
        let plans =
            plan(&[extent(5000, 100), extent(5100, 4000), extent(window - 10, 20), extent(window + 9000, 1)], u32::MAX);
        let expected = [
            WindowPlan { window: 0, runs: vec![(4096, 12288), (window - 4096, window)] },
            WindowPlan { window: 1, runs: vec![(window, window + 4096), (window + 8192, window + 12288)] },
        ];
        assert_eq!(plans, expected);
    }
}
