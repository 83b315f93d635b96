//! Reads: from the tail in memory when it holds the answer, else from windows of segments on disk.
//!
//! An answer may begin on disk and end in memory. Segments are held from the step that finds them in the index until the
//! read has ended, so none is reused under a read.

use std::pin::pin;
use std::rc::Rc;

use futures_util::{StreamExt, stream};

use crate::limits::{
    COLD_EXTENTS_AT_ONCE, COLD_PLACES_AT_ONCE, COLD_PLACES_FOUND_MAX, COLD_SORTED_PLACES_AT_ONCE,
    COLD_SORTED_THIN_BYTES, COLD_THIN_BYTES,
};
use crate::portions::Portion;
use crate::runtime::Runtime;
use crate::store::format::{Extent, StoredBatch, Stream, usize_of};
use crate::store::index::{Place, PlaceExtents};
use crate::store::state::tail::Want;
use crate::store::state::{State, Store};
use crate::store::windows::holds::SegmentHold;
use crate::store::windows::{ColdBatches, ColdError, ColdRead};
use crate::store::{Read, ReadError, ReadWithin, Slices};
use crate::types::{LogId, Offset, TimestampMs};

/// The right to read old data from disk, taken when the first read of an answer needs it and kept until the answer is read.
#[derive(Debug, Default)]
pub struct ColdTurn(Option<Portion>);

/// Where what is wanted stands.
enum Whereabouts<F> {
    OnDisk(Located<F>),
    /// In memory only, for the moment.
    NotYetOnDisk,
    /// Nothing of the log follows: its last batches are gone.
    Nowhere,
}

/// A place on disk, held, with what is needed to read it.
struct Located<F> {
    file: F,
    hold: SegmentHold,
    place: Place,
    is_sorted: bool,
    segment_bytes: u32,
    readable_end: u32,
}

/// How a read goes on.
enum ReadOn {
    /// With the next place.
    Further,
    /// Not at all.
    Complete,
    /// The first batch is too large; about so many bytes.
    TooLarge(usize),
}

impl<R: Runtime> Store<R> {
    /// Whole batches from the one that contains `start`, or from the next behind a hole, as stored, below `bound` (exclusive), up to `bytes_max` bytes;
    /// with `at_least_one` the first is given even when it alone is larger. Small batches are copied together, larger
    /// ones are slices of blocks. `None` when memory does not hold the answer: ask [`Store::read`].
    pub fn read_tail(
        &self,
        log: LogId,
        start: Offset,
        bound: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Option<Read<R::Buffer>> {
        self.read_tail_within(log, start, bound, ReadWithin::new(bytes_max, at_least_one))
    }

    /// As [`Store::read_tail`], with a bound on the first batch too.
    pub fn read_tail_within(
        &self,
        log: LogId,
        start: Offset,
        bound: Offset,
        within: ReadWithin,
    ) -> Option<Read<R::Buffer>> {
        let mut state = self.core.state.borrow_mut();
        let found = state.read_tail(log, &Want { from: start, bound, within })?;
        state.stats.tail_reads += 1;
        Some(found)
    }

    /// As [`Store::read_tail`], from disk where memory does not hold the answer.
    ///
    /// Errors: `OutOfRange`, `UnknownLog`; `Damaged` and `Io` when the disk does not give back what was written.
    pub async fn read(
        &self,
        log: LogId,
        start: Offset,
        bound: Offset,
        bytes_max: usize,
        at_least_one: bool,
    ) -> Result<Read<R::Buffer>, ReadError> {
        let within = ReadWithin::new(bytes_max, at_least_one);
        self.read_within(log, start, bound, within, &mut ColdTurn::default()).await
    }

    /// As [`Store::read`], with a bound on the first batch too. `turn` is one for all reads of an answer.
    ///
    /// Errors: as [`Store::read`].
    pub async fn read_within(
        &self,
        log: LogId,
        start: Offset,
        bound: Offset,
        within: ReadWithin,
        turn: &mut ColdTurn,
    ) -> Result<Read<R::Buffer>, ReadError> {
        if let Some(found) = self.read_tail_within(log, start, bound, within) {
            return Ok(found);
        }
        let partition = self.partition(log).ok_or(ReadError::UnknownLog { log })?;
        let (log_start, log_end) = (partition.log_start, partition.log_end);
        if start < log_start || start > log_end {
            return Err(ReadError::OutOfRange { start, log_start, log_end });
        }
        self.core.state.borrow_mut().stats.cold_reads += 1;
        let mut slices = Slices::new();
        let mut want = Want { from: start, bound: bound.min(log_end), within };
        while want.from < want.bound {
            let whereabouts = {
                let state = self.core.state.borrow();
                // The log start moved, or the log was deleted, while the disk was read: no gaps in an answer.
                if state.index.log_start(log).is_none_or(|log_start| want.from < log_start) {
                    break;
                }
                // Behind what was read from disk, memory may hold the rest.
                if !slices.is_empty()
                    && let Some(rest) = state.read_tail(log, &want)
                {
                    slices.extend(rest.slices);
                    want.from = rest.next_offset;
                    break;
                }
                state.locate(log, &want)
            };
            let located = match whereabouts {
                Whereabouts::OnDisk(located) => located,
                Whereabouts::NotYetOnDisk => break,
                Whereabouts::Nowhere => {
                    want.from = want.bound;
                    break;
                }
            };
            if turn.0.is_none() {
                turn.0 = Some(self.core.cold.turn().await);
            }
            match self.read_places(log, located, &mut want, &mut slices).await {
                Ok(ReadOn::Further) => {}
                Ok(ReadOn::Complete) => break,
                Ok(ReadOn::TooLarge(needed_bytes)) => {
                    return Ok(Read { slices, next_offset: want.from, needed_bytes });
                }
                // What is whole comes first; the next read begins with what is not.
                Err(_) if !slices.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Read { slices, next_offset: want.from, needed_bytes: 0 })
    }

    /// Reads what is wanted of `located`, and of the places that follow it where each holds little, several at once. What came
    /// is added to `slices` and taken from `want`.
    async fn read_places(
        &self,
        log: LogId,
        located: Located<R::File>,
        want: &mut Want,
        slices: &mut Slices<R::Buffer>,
    ) -> Result<ReadOn, ReadError> {
        let first = want.from;
        let places = self.core.state.borrow().places_from(log, located, want);
        let are_sorted = places.iter().all(|(located, _)| located.is_sorted);
        let at_once = if are_sorted { COLD_SORTED_PLACES_AT_ONCE } else { COLD_PLACES_AT_ONCE };
        let (cold, are_several) = (&self.core.cold, places.len() > 1);
        // Where the entries stand, in what is small, is looked up further ahead. Whether it was found shows when they are read.
        let looked_up = stream::iter(places).map(async |(located, want)| {
            let Located { file, hold, place, segment_bytes, .. } = &located;
            if are_several {
                let _ = cold.extents(file, *segment_bytes, hold, log, place).await;
            }
            (located, want)
        });
        let reads = looked_up
            .buffered(COLD_EXTENTS_AT_ONCE)
            .map(async |(located, want)| (want.from, self.read_cold(log, located, want).await));
        let mut found = pin!(reads.buffered(at_once));
        while let Some((from, batches)) = found.next().await {
            // The place before was not read to its end, or held nothing: then the first batch may be any larger, which this read
            // did not know.
            if from != want.from || (from != first && slices.is_empty()) {
                return Ok(ReadOn::Further);
            }
            let batches = batches?;
            if batches.needed_bytes > 0 {
                return Ok(ReadOn::TooLarge(batches.needed_bytes));
            }
            let next_offset = batches.next_offset;
            if batches.bytes == 0 && next_offset <= want.from {
                return Ok(ReadOn::Complete);
            }
            // Without a batch the segment holds nothing from there on, or begins later: behind the hole the log goes on.
            want.from = next_offset;
            if batches.bytes > 0 {
                slices.extend(batches.slices);
                want.within.first_bytes_max = 0;
                want.within.bytes_max = want.within.bytes_max.saturating_sub(batches.bytes);
                if want.within.bytes_max == 0 {
                    return Ok(ReadOn::Complete);
                }
            }
        }
        Ok(ReadOn::Further)
    }

    async fn read_cold(
        &self,
        log: LogId,
        located: Located<R::File>,
        want: Want,
    ) -> Result<ColdBatches<R::Buffer>, ReadError> {
        let Located { file, hold, place, is_sorted, segment_bytes, readable_end } = located;
        let Want { from, bound, within } = want;
        let read = ColdRead { file, hold, log, place, is_sorted, segment_bytes, readable_end, from, bound, within };
        self.core.cold.read(&read).await.map_err(ReadError::from)
    }

    /// The first batch with a timestamp of at least `timestamp`, as stored.
    ///
    /// Errors: as [`Store::read`].
    pub async fn batch_at_timestamp(&self, log: LogId, timestamp: TimestampMs) -> Result<Option<Vec<u8>>, ReadError> {
        let mut from = self.partition(log).ok_or(ReadError::UnknownLog { log })?.log_start;
        loop {
            let place = self.core.state.borrow().index.timestamp_at_or_after(log, timestamp, from);
            let Some(place) = place else { return Ok(None) };
            let end = place.end_offset;
            let extents = self.extents(log, &place).await?;
            for (range, extent) in extent_ranges(&extents, end) {
                if extent.timestamp_max < timestamp || range.end <= from {
                    continue;
                }
                let batches = self.batches(log, range.start.max(from)..range.end).await?;
                let mut all = batches.iter().flat_map(|bytes| split(bytes));
                if let Some(found) = all.find(|batch| batch.has_records() && batch.timestamp_max() >= timestamp) {
                    return Ok(Some(found.bytes().to_vec()));
                }
            }
            from = end;
        }
    }

    /// The first of the batches with the log's greatest timestamp, as stored.
    ///
    /// Errors: as [`Store::read`].
    pub async fn batch_with_timestamp_max(&self, log: LogId) -> Result<Option<Vec<u8>>, ReadError> {
        let log_start = self.partition(log).ok_or(ReadError::UnknownLog { log })?.log_start;
        let places = self.core.state.borrow().index.timestamp_max_places(log);
        let mut best: Option<(TimestampMs, Vec<u8>)> = None;
        for (_, place) in places {
            let extents = self.extents(log, &place).await?;
            for (range, extent) in extent_ranges(&extents, place.end_offset) {
                let can_win = best.as_ref().is_none_or(|(timestamp, _)| *timestamp < extent.timestamp_max);
                if !can_win || range.end <= log_start {
                    continue;
                }
                for bytes in self.batches(log, range.start.max(log_start)..range.end).await? {
                    for batch in split(&bytes).filter(StoredBatch::has_records) {
                        let timestamp = batch.timestamp_max();
                        if best.as_ref().is_none_or(|(best, _)| *best < timestamp) {
                            best = Some((timestamp, batch.bytes().to_vec()));
                        }
                    }
                }
            }
        }
        Ok(best.map(|(_, bytes)| bytes))
    }

    /// All extents of a place. Those of a segment that was retired meanwhile are of no interest any more.
    async fn extents(&self, log: LogId, place: &Place) -> Result<Rc<[Extent]>, ReadError> {
        if let PlaceExtents::Known(extents) = &place.extents {
            return Ok(Rc::from(extents.as_slice()));
        }
        let located = self.core.state.borrow().hold(place.clone());
        let Some(Located { file, hold, place, segment_bytes, .. }) = located else { return Ok(Rc::from([])) };
        Ok(self.core.cold.extents(&file, segment_bytes, &hold, log, &place).await?)
    }

    /// All batches of an extent's offsets: at most an extent's bytes.
    async fn batches(&self, log: LogId, range: std::ops::Range<Offset>) -> Result<Vec<Vec<u8>>, ReadError> {
        match self.read(log, range.start, range.end, usize::MAX, true).await {
            // One vector, because batches may go over several slices.
            Ok(read) => Ok(vec![read.slices.iter().flat_map(|slice| slice.as_slice()).copied().collect()]),
            // The log start moved on meanwhile.
            Err(ReadError::OutOfRange { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

/// Each extent with the offsets that it covers, given where the last one ends.
fn extent_ranges(extents: &[Extent], end: Offset) -> impl Iterator<Item = (std::ops::Range<Offset>, &Extent)> {
    let ends = extents.iter().skip(1).map(|extent| extent.base_offset).chain([end]);
    extents.iter().zip(ends).map(|(extent, end)| (extent.base_offset..end, extent))
}

/// The batches that stand back to back in `bytes`.
fn split(bytes: &[u8]) -> impl Iterator<Item = StoredBatch<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (batch, behind) = StoredBatch::split(rest).ok()?;
        rest = behind;
        Some(batch)
    })
}

impl<F> Located<F> {
    /// Bytes of the log's entries in the place, when they are few and the footer holds their extents.
    fn thin_bytes(&self) -> Option<usize> {
        let thin_bytes = if self.is_sorted { COLD_SORTED_THIN_BYTES } else { COLD_THIN_BYTES };
        match &self.place.extents {
            PlaceExtents::Footer { bytes, .. } if *bytes <= thin_bytes => Some(usize_of(*bytes)),
            _ => None,
        }
    }
}

impl<R: Runtime> State<R> {
    fn read_tail(&self, log: LogId, want: &Want) -> Option<Read<R::Buffer>> {
        let (log_start, log_end) = (self.index.log_start(log)?, self.index.log_end(log)?);
        if want.from < log_start || want.from > log_end {
            return None;
        }
        let bound = want.bound.min(log_end);
        if want.from >= bound {
            return Some(Read { slices: Vec::new(), next_offset: want.from, needed_bytes: 0 });
        }
        let batches = self.index.tail(log, want.from)?;
        Some(self.tail.read(batches, &Want { bound, ..*want }))
    }

    fn locate(&self, log: LogId, want: &Want) -> Whereabouts<R::File> {
        let bytes = u64::try_from(want.within.bytes_max).expect("usize fits 64 bits");
        match self.index.locate(log, want.from, bytes) {
            Some(place) => self.hold(place).map_or(Whereabouts::NotYetOnDisk, Whereabouts::OnDisk),
            None => Whereabouts::Nowhere,
        }
    }

    /// What to read: `first`, and what follows it on disk alone, as long as all of it is wanted and each place holds little.
    fn places_from(&self, log: LogId, first: Located<R::File>, want: &Want) -> Vec<(Located<R::File>, Want)> {
        let mut held = first.thin_bytes();
        let mut next = *want;
        next.from = first.place.end_offset;
        let mut places = vec![(first, *want)];
        while let Some(bytes) = held.filter(|bytes| *bytes < want.within.bytes_max)
            && next.from < want.bound
            && places.len() < COLD_PLACES_FOUND_MAX
        {
            // Entry headers are not given, so a little more than is counted here may be wanted: the next read gets that.
            next.within = ReadWithin { bytes_max: want.within.bytes_max - bytes, first_bytes_max: 0 };
            if self.index.tail(log, next.from).is_some() {
                break;
            }
            let Whereabouts::OnDisk(located) = self.locate(log, &next) else { break };
            let own = located.thin_bytes();
            if own.is_none() || located.place.base_offset != next.from {
                break;
            }
            held = own.map(|own| own + bytes);
            let end_offset = located.place.end_offset;
            places.push((located, next));
            next.from = end_offset;
        }
        places
    }

    /// Holds the segment of a place; `None` while it has no file, when all of it is in memory.
    fn hold(&self, place: Place) -> Option<Located<R::File>> {
        let live = self.segments.live.get(&place.segment)?;
        let file = live.file.as_ref()?.file.clone();
        let written = self.writer.written();
        // A segment before the one that is being written is on disk for good, and so is a cold one when it is live.
        let readable_end = match place.segment.cmp(&written.segment) {
            _ if live.header.stream == Stream::Cold => live.header.bytes,
            std::cmp::Ordering::Less => live.header.bytes,
            std::cmp::Ordering::Equal => written.byte,
            std::cmp::Ordering::Greater => 0,
        };
        let (segment_bytes, is_sorted) = (live.header.bytes, live.header.stream == Stream::Cold);
        Some(Located { file, hold: self.holds.hold(place.segment), place, is_sorted, segment_bytes, readable_end })
    }
}

impl From<ColdError> for ReadError {
    fn from(error: ColdError) -> ReadError {
        match error {
            ColdError::Io { segment, cause } => ReadError::Io { segment, cause: cause.to_string() },
            ColdError::Damaged { segment, position, what, next_offset } => {
                ReadError::Damaged { segment, cause: format!("at byte {position}: {what}"), next_offset }
            }
        }
    }
}
