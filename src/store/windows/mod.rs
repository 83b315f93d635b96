//! Reads of what is no longer in memory: aligned windows of segments, shared by all partitions of a core.
//!
//! When a thousand partitions lag, their batches lie side by side, so one window serves many: it is read whole once a
//! sixteenth of it was wanted, by one reader or by several, and kept, least recently used first to go. Below that only
//! the units needed are read, and not kept. Who wants a window that is being read waits for that read. Where the cleaner
//! sorted a segment by partition, what one reader wants lies together: of such a window it gets its own, and the window is read
//! whole once others wanted a quarter of it.
//!
//! Every batch that leaves was checked against its entry header: crc, log id, segment number, and the offsets that the
//! index expects; and against its own CRC, which covers the rest. What is damaged is told, never given; what stands before
//! it is given first, so that a read that fails fails for what is damaged alone.
//!
//! It does not know which segments live or what is in memory. One per core. Invariants: the bytes kept are at most the
//! bound; a window is kept only if all of it was final when it was read.

mod answer;
pub mod disk_reads;
mod extents;
pub mod holds;
mod lru;
pub(in crate::store) mod pace;
pub(in crate::store) mod runs;
mod walk;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use self::answer::Answer;
use self::extents::{CachedExtents, ExtentsOf};
use self::walk::{Piece, Source, Step, Walk, WindowPlan, io};
use crate::limits::{
    COLD_EXTENTS_DIVISOR, COLD_READER_BYTES, COLD_READERS_MAX, COLD_READERS_MIN, COLD_SORTED_DENSE_BYTES,
    COLD_SPARSE_WINDOWS_MAX, COLD_WINDOW_BYTES, COLD_WINDOW_DENSE_BYTES, COLD_WINDOW_WEIGHT,
};
use crate::portions::{Portion, Portions};
use crate::runtime::block::{Block, Slice};
use crate::runtime::{File, Runtime};
use crate::store::ReadWithin;
use crate::store::format::{UNIT_BYTES, next_unit, usize_of};
use crate::store::index::{Place, extents_from};
use crate::store::windows::disk_reads::{DiskReads, Pending, ReadResult};
use crate::store::windows::holds::SegmentHold;
use crate::store::windows::lru::Lru;
use crate::types::{LogId, Offset, SegmentNumber};

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
    /// What the segment holds of a log lies together: it was built, not written as the batches came.
    pub is_sorted: bool,
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

type SharedRead<B> = Rc<Pending<ReadResult<B>>>;

/// What readers wanted of a window.
#[derive(Clone, Copy)]
struct Wanted {
    /// The log that was read last, and what was wanted of it since another was.
    log: LogId,
    bytes: u32,
    /// What was wanted of logs before it.
    others_bytes: u32,
    /// What had been read from disk in all when it was wanted last.
    bytes_read: u64,
}

struct State<B> {
    windows: Lru<WindowKey, Rc<Block<B>>>,
    loading: HashMap<WindowKey, SharedRead<B>>,
    footers_loading: HashMap<SegmentNumber, SharedRead<B>>,
    /// What was wanted of windows that are not kept.
    sparse: Lru<WindowKey, Wanted>,
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
            footers_loading: HashMap::new(),
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

    /// Reads the units from `start` to `end` for one reader only.
    ///
    /// Errors: `Io`.
    pub(in crate::store) async fn read_units(
        &self,
        file: &R::File,
        hold: &SegmentHold,
        start: u32,
        end: u32,
    ) -> Result<Rc<Block<R::Buffer>>, ColdError> {
        self.start_sparse(file, hold, start, end).wait().await.map_err(|failure| io(hold, failure))
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
        // Wanted so long ago that it would not have been kept, it says nothing about who else will want it.
        let (kept_bytes, bytes_read) = (state.windows.weight_max(), state.stats.bytes_read);
        let earlier = state.sparse.get(key).filter(|wanted| bytes_read - wanted.bytes_read < kept_bytes);
        // A reader that comes again for more of the same is no other.
        let (own_before, others_before) = match earlier {
            Some(earlier) if earlier.log == read.log => (earlier.bytes, earlier.others_bytes),
            Some(earlier) => (0, earlier.others_bytes.saturating_add(earlier.bytes)),
            None => (0, 0),
        };
        let own = wanted.saturating_add(own_before);
        let is_final = window_end <= read.readable_end;
        let is_dense = match read.is_sorted {
            true => others_before >= COLD_SORTED_DENSE_BYTES || wanted >= window_end - window_start,
            false => own.saturating_add(others_before) >= COLD_WINDOW_DENSE_BYTES,
        };
        if is_final && is_dense {
            state.sparse.remove(key);
            state.stats.windows_read += 1;
            state.stats.bytes_read += u64::from(window_end - window_start);
            drop(state);
            let source = Source::Pending(self.start_whole(read, key, (window_start, window_end)));
            return vec![Piece { start: window_start, end: window_end, source }];
        }
        if is_final {
            let wanted = Wanted { log: read.log, bytes: own, others_bytes: others_before, bytes_read };
            state.sparse.insert(key, wanted, 1);
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

const _: () = assert!(COLD_WINDOW_BYTES.is_multiple_of(UNIT_BYTES));

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::walk::plan;
    use super::*;
    use crate::simulation::disk::Operation;
    use crate::simulation::random::Random;
    use crate::simulation::seeds::Seeds;
    use crate::simulation::{SimulatedBuffer, SimulatedFile, SimulatedRuntime, Simulation};
    use crate::store::format::Extent;
    use crate::store::format::tests::{append, batch};
    use crate::store::format::{ENTRY_HEADER_BYTES, SegmentHeader, Stream, Trailer, entry_position};
    use crate::store::index::PlaceExtents;
    use crate::store::index::{Index, IndexedEntry};
    use crate::store::windows::holds::SegmentHolds;
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
                version: crate::store::format::FORMAT_VERSION,
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
        is_sorted: bool,
        readable_end: u32,
    }

    impl Reader {
        async fn new(runtime: SimulatedRuntime, cache_bytes: u64) -> Reader {
            let file = runtime.open(&path()).await.unwrap();
            let readable_end = u32::try_from(file.bytes()).unwrap();
            let (cache, holds) = (ColdCache::new(runtime, cache_bytes), SegmentHolds::new());
            Reader { cache, file, holds, is_sorted: false, readable_end }
        }

        fn want(&self, index: &Index, log: LogId, from: i64, bytes_max: usize) -> Option<ColdRead<SimulatedFile>> {
            let from = Offset::new(from);
            let place = index.locate(log, from, u64::try_from(bytes_max).unwrap())?;
            Some(ColdRead {
                file: self.file.clone(),
                hold: self.holds.hold(place.segment),
                log,
                place,
                is_sorted: self.is_sorted,
                segment_bytes: u32::try_from(self.file.bytes()).unwrap(),
                readable_end: self.readable_end,
                from,
                bound: Offset::new(i64::MAX),
                within: ReadWithin::new(bytes_max, true),
            })
        }
    }

    impl Reader {
        async fn extents(&self, index: &Index, log: LogId) -> Result<Rc<[Extent]>, ColdError> {
            let ColdRead { file, hold, place, segment_bytes, .. } = self.want(index, log, 0, 1).unwrap();
            self.cache.extents(&file, segment_bytes, &hold, log, &place).await
        }

        async fn directory(&self) -> Result<usize, ColdError> {
            let segment_bytes = u32::try_from(self.file.bytes()).unwrap();
            let rows = self.cache.directory(&self.file, segment_bytes, &self.holds.hold(SEGMENT)).await;
            rows.map(|rows| rows.len())
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
            // With more memory a footer is read, and kept, whole.
            let reader = Reader::new(runtime, 32 << 20).await;
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
    fn wants_that_are_far_apart_do_not_add_up() {
        let mut random = Random::new(5);
        let mut image = Image::new(&mut random, 4 << 20, 3, 2_000);
        image.seal();
        let mut simulation = Simulation::new(5);
        simulation.disk().plant(&path(), &image.bytes);
        simulation.run(|runtime| async move {
            let reader = Reader::new(runtime, 2 << 20).await;
            let bytes_read = async |log: usize, from: i64, bytes_max: usize| {
                let before = reader.cache.stats().bytes_read;
                let read = reader.want(&image.index, image.logs[log].0, from, bytes_max).unwrap();
                reader.cache.read(&read).await.unwrap();
                reader.cache.stats().bytes_read - before
            };
            let third = image.logs[1].1.len() / 3;
            let from = image.logs[1].1[third].0;
            for _ in 0..40 {
                // It lies in the first window, and this in the others, of which one is kept.
                assert!(bytes_read(0, 0, 1).await < 64 << 10);
                assert!(bytes_read(1, from, 4 << 20).await >= 2 << 20);
            }
        });
    }

    #[test]
    fn of_a_sorted_segment_one_reader_gets_its_own_and_many_get_windows() {
        let mut random = Random::new(6);
        let mut image = Image::new(&mut random, 1 << 20, 8, 2_000);
        image.seal();
        let mut simulation = Simulation::new(6);
        simulation.disk().plant(&path(), &image.bytes);
        simulation.run(|runtime| async move {
            let mut reader = Reader::new(runtime, 64 << 20).await;
            reader.is_sorted = true;
            let read_all = async |log: LogId| {
                let found = reader.cache.read(&reader.want(&image.index, log, 0, 4 << 20).unwrap()).await.unwrap();
                (found.bytes, reader.cache.stats())
            };
            let (bytes, first) = read_all(image.logs[0].0).await;
            // Enough for a window of a segment that is not sorted.
            assert!(bytes > usize_of(COLD_WINDOW_DENSE_BYTES));
            assert_eq!(first.windows_read, 0, "{first:?}");
            // However often it comes, as a consumer does whose answers end within what lies together.
            for _ in 0..4 {
                let again = read_all(image.logs[0].0).await.1;
                assert_eq!(again.windows_read, 0, "{again:?}");
            }
            for (log, _) in &image.logs[1..] {
                read_all(*log).await;
            }
            let last = reader.cache.stats();
            assert_eq!(last.windows_read, 1, "{last:?}");
            assert!(last.window_hits >= 3, "{last:?}");
        });
    }

    #[test]
    fn small_footer_is_read_once_for_all_logs() {
        let mut random = Random::new(7);
        let mut image = Image::new(&mut random, 1 << 20, 30, 2_000);
        image.seal();
        let mut simulation = Simulation::new(7);
        simulation.disk().plant(&path(), &image.bytes);
        simulation.run(|runtime| async move {
            let reader = Reader::new(runtime.clone(), 64 << 20).await;
            for (log, _) in &image.logs {
                assert!(!reader.extents(&image.index, *log).await.unwrap().is_empty());
            }
            assert_eq!(reader.cache.stats().sparse_reads, 1);
            // What stands before the footer cannot be read: of no interest here.
            runtime.disk().fail(Operation::Read, "segment", 0);
            let reader = Reader::new(runtime, 64 << 20).await;
            assert!(reader.extents(&image.index, image.logs[3].0).await.is_ok());
        });
    }

    /// The scrub, and the cleaner: for them the footer was taken from memory, rotten as it was on disk.
    #[test]
    fn whoever_goes_over_segments_reads_footers_from_disk_and_keeps_none() {
        let mut random = Random::new(8);
        let mut image = Image::new(&mut random, 1 << 20, 30, 2_000);
        image.seal();
        let trailer = Trailer::decode(&image.bytes, 1 << 20).unwrap();
        let mut simulation = Simulation::new(8);
        simulation.disk().plant(&path(), &image.bytes);
        simulation.run(|runtime| async move {
            let reader = Reader::new(runtime.clone(), 64 << 20).await;
            assert_eq!(reader.directory().await.unwrap(), image.logs.len());
            let kept = reader.cache.extents_bytes();
            assert!(kept < 1000, "{kept} bytes: a trailer");
            reader.extents(&image.index, image.logs[0].0).await.unwrap();
            assert!(reader.cache.extents_bytes() > kept);
            runtime.disk().flip_bit(&path(), u64::from(trailer.directory_position) + 20, 3);
            assert!(matches!(reader.directory().await, Err(ColdError::Damaged { .. })));
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
