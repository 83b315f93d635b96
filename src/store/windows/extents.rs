//! Where the entries of one log stand in a sealed segment: from its footer, or from its entries where that is damaged.

use std::borrow::Cow;
use std::rc::Rc;

use super::{ColdCache, ColdError, ExtentsKey, SharedRead};
use crate::limits::{COLD_FOOTER_BYTES, COLD_FOOTERS_MIN, SCAN_ENTRIES_PER_YIELD};
use crate::runtime::{File, Runtime};
use crate::store::format::{DirectoryRow, Extent, ROW_BYTES, SEGMENT_HEADER_BYTES, Trailer, UNIT_BYTES, usize_of};
use crate::store::index::open_segment::OpenSegmentIndex;
use crate::store::index::{Place, PlaceExtents};
use crate::store::scan::{Scanner, indexed_entry};
use crate::store::windows::disk_reads::ReadResult;
use crate::store::windows::holds::SegmentHold;
use crate::types::{Incarnation, LogId, Offset, SegmentNumber};

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum ExtentsOf {
    Trailer,
    SmallFooter,
    Row(u32),
    /// The footer as a whole, when it is damaged.
    Footer,
}

#[derive(Clone)]
pub(super) enum CachedExtents {
    Trailer(Trailer),
    SmallFooter(Rc<SmallFooter>),
    Row(Rc<[Extent]>),
    /// Neither the footer nor the entries tell them.
    Gone(ColdError),
    /// That the footer is damaged was said.
    Told,
}

/// A footer that is small, as read: the directory, and what stands behind it.
pub(super) struct SmallFooter {
    /// Where in the segment it begins.
    position: u32,
    bytes: Vec<u8>,
}

impl SmallFooter {
    fn part(&self, position: u32, length: u32) -> Option<&[u8]> {
        let first = usize_of(position.checked_sub(self.position)?);
        self.bytes.get(first..first.checked_add(usize_of(length))?)
    }
}

impl<R: Runtime> ColdCache<R> {
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
    pub(super) async fn read_extents(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
        log: LogId,
        place: &Place,
        row: u32,
    ) -> Result<Rc<[Extent]>, ColdError> {
        let footer = self.small_footer(file, segment_bytes, hold, place.end_offset).await?;
        let trailer = self.trailer(file, segment_bytes, hold, place.end_offset).await?;
        let (segment, next_offset) = (place.segment, place.end_offset);
        let damaged =
            |position: u32, what: &str| ColdError::Damaged { segment, position, what: what.to_owned(), next_offset };
        if row >= trailer.rows {
            return Err(damaged(trailer.directory_position, "the directory is shorter than the index says"));
        }
        let row_bytes = u32::try_from(ROW_BYTES).expect("48 fits");
        let row_position = trailer.directory_position + row * row_bytes;
        let bytes = self.read_footer(file, hold, footer.as_deref(), row_position, row_bytes).await?;
        let bytes: &[u8; ROW_BYTES] = bytes.as_ref().try_into().expect("as long as asked");
        let found = trailer.decode_row(bytes).map_err(|error| damaged(row_position, &error.to_string()))?;
        if found.log != log || found.base_offset != place.base_offset {
            return Err(damaged(row_position, "the row is another log's"));
        }
        let range = trailer.extents_range(&found);
        let (position, length) = range.ok_or_else(|| damaged(row_position, "extents beyond the footer"))?;
        let bytes = self.read_footer(file, hold, footer.as_deref(), position, length).await?;
        let extents = found.decode_extents(&bytes, trailer.data_end);
        Ok(extents.map_err(|error| damaged(position, &error.to_string()))?.into())
    }

    /// The directory of a sealed segment, as its footer has it on disk; not kept.
    ///
    /// Errors: `Io`; `Damaged`.
    pub(in crate::store) async fn directory(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
    ) -> Result<Vec<DirectoryRow>, ColdError> {
        let trailer = self.trailer(file, segment_bytes, hold, Offset::ZERO).await?;
        if trailer.rows == 0 {
            return Ok(Vec::new());
        }
        let (position, length) = (trailer.directory_position, trailer.directory_bytes());
        let bytes = self.read_bytes(file, hold, position, length).await?;
        trailer.decode_directory(&bytes).map_err(|error| ColdError::Damaged {
            segment: hold.segment(),
            position,
            what: error.to_string(),
            next_offset: Offset::ZERO,
        })
    }

    /// The extents of a row of which all is known but those; not kept. As [`ColdCache::extents`] where the footer is damaged.
    ///
    /// Errors: as [`ColdCache::extents`].
    pub(in crate::store) async fn extents_of_row(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
        row: &DirectoryRow,
        place: &Place,
    ) -> Result<Rc<[Extent]>, ColdError> {
        if matches!(place.extents, PlaceExtents::Footer { .. }) {
            let trailer = self.trailer(file, segment_bytes, hold, place.end_offset).await?;
            if let Some((position, length)) = trailer.extents_range(row)
                && let Ok(extents) =
                    row.decode_extents(&self.read_bytes(file, hold, position, length).await?, trailer.data_end)
            {
                return Ok(extents.into());
            }
        }
        self.extents(file, segment_bytes, hold, row.log, place).await
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
            // A cold segment may have several rows of a log.
            if scanned.entry.header.log == log
                && let Some(indexed) = indexed_entry(scanned.position, &scanned.entry)
                && indexed.last_offset >= place.base_offset
                && indexed.base_offset < place.end_offset
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

    /// Reads a part of a footer, from memory if it is there.
    async fn read_footer<'a>(
        &self,
        file: &R::File,
        hold: &SegmentHold,
        footer: Option<&'a SmallFooter>,
        position: u32,
        length: u32,
    ) -> Result<Cow<'a, [u8]>, ColdError> {
        match footer.and_then(|footer| footer.part(position, length)) {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None => self.read_bytes(file, hold, position, length).await.map(Cow::Owned),
        }
    }

    /// Starts to read the end of a segment, once for all who want it.
    fn start_footer(&self, file: &R::File, hold: &SegmentHold, start: u32, end: u32) -> SharedRead<R::Buffer> {
        let mut state = self.state.borrow_mut();
        let segment = hold.segment();
        if let Some(loading) = state.footers_loading.get(&segment) {
            return Rc::clone(loading);
        }
        state.stats.sparse_reads += 1;
        state.stats.bytes_read += u64::from(end - start);
        drop(state);
        let shared = Rc::clone(&self.state);
        let is_here = move |_: &ReadResult<R::Buffer>| drop(shared.borrow_mut().footers_loading.remove(&segment));
        let pending = self.reads.start(file, hold, (start, usize_of(end - start)), 1, is_here);
        self.state.borrow_mut().footers_loading.insert(segment, Rc::clone(&pending));
        pending
    }

    /// The footer, where it is small and there is memory to keep it: one read for all rows of the segment instead of two for each.
    /// For readers alone: whoever goes over segments reads what is on disk, and drives nothing out.
    ///
    /// Errors: `Damaged`.
    async fn small_footer(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
        next_offset: Offset,
    ) -> Result<Option<Rc<SmallFooter>>, ColdError> {
        let segment = hold.segment();
        let key = (segment, ExtentsOf::SmallFooter);
        let first = segment_bytes.saturating_sub(COLD_FOOTER_BYTES);
        {
            let extents = &mut self.state.borrow_mut().extents;
            if let Some(CachedExtents::SmallFooter(footer)) = extents.get(key) {
                return Ok(Some(Rc::clone(footer)));
            }
            // Where little is kept, a footer would drive out the extents of many.
            let is_kept = extents.weight_max() >= COLD_FOOTERS_MIN * u64::from(COLD_FOOTER_BYTES);
            let trailer = extents.get((segment, ExtentsOf::Trailer));
            let is_large =
                matches!(trailer, Some(CachedExtents::Trailer(trailer)) if trailer.directory_position < first);
            if !is_kept || is_large {
                return Ok(None);
            }
        }
        // What lies before the footer is of no interest here: without it the parts that are needed are read.
        let Ok(block) = self.start_footer(file, hold, first, segment_bytes).wait().await else { return Ok(None) };
        if let Some(CachedExtents::SmallFooter(footer)) = self.state.borrow_mut().extents.get(key) {
            // Others waited for the same read.
            return Ok(Some(Rc::clone(footer)));
        }
        let bytes = block.as_slice();
        let trailer =
            self.keep_trailer(&bytes[bytes.len() - usize_of(UNIT_BYTES)..], segment_bytes, segment, next_offset)?;
        let Some(skipped) = trailer.directory_position.checked_sub(first) else { return Ok(None) };
        let bytes = bytes[usize_of(skipped)..].to_vec();
        let weight = u64::try_from(size_of::<(ExtentsKey, CachedExtents)>() + bytes.len()).expect("small");
        let footer = Rc::new(SmallFooter { position: trailer.directory_position, bytes });
        self.state.borrow_mut().extents.insert(key, CachedExtents::SmallFooter(Rc::clone(&footer)), weight);
        Ok(Some(footer))
    }

    async fn trailer(
        &self,
        file: &R::File,
        segment_bytes: u32,
        hold: &SegmentHold,
        next_offset: Offset,
    ) -> Result<Trailer, ColdError> {
        let segment = hold.segment();
        if let Some(CachedExtents::Trailer(trailer)) =
            self.state.borrow_mut().extents.get((segment, ExtentsOf::Trailer))
        {
            return Ok(*trailer);
        }
        let unit = self.read_bytes(file, hold, segment_bytes - UNIT_BYTES, UNIT_BYTES).await?;
        self.keep_trailer(&unit, segment_bytes, segment, next_offset)
    }

    /// Decodes the trailer from the last unit of a segment, and keeps it.
    ///
    /// Errors: `Damaged`.
    fn keep_trailer(
        &self,
        unit: &[u8],
        segment_bytes: u32,
        segment: SegmentNumber,
        next_offset: Offset,
    ) -> Result<Trailer, ColdError> {
        let position = segment_bytes - UNIT_BYTES;
        let damaged = |what: String| ColdError::Damaged { segment, position, what, next_offset };
        let trailer = Trailer::decode(unit, segment_bytes).map_err(|error| damaged(format!("footer: {error}")))?;
        if trailer.number != segment {
            return Err(damaged(format!("the footer is of segment {}", trailer.number)));
        }
        let weight = u64::try_from(size_of::<(ExtentsKey, Trailer)>()).expect("small");
        let key = (segment, ExtentsOf::Trailer);
        self.state.borrow_mut().extents.insert(key, CachedExtents::Trailer(trailer), weight);
        Ok(trailer)
    }
}
