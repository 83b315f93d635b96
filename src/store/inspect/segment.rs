//! Reads all of one segment that counts: its header, its entries one after the other, and its footer.
//!
//! Knows one file and nothing of what lives in it. Holds the longest entry and the extents of one segment in memory.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::cross::{Cross, FooterContent, whole_row};
use crate::limits::{INSPECT_PAUSE_MS, SCAN_ENTRIES_PER_YIELD, SEGMENT_FAULTS_MAX};
use crate::runtime::{Buffer, File, Runtime};
use crate::store::checkpoint::files::CheckpointFiles;
use crate::store::checkpoint::{CheckpointError, Found};
use crate::store::format::{
    ABORTED_ROW_BYTES, DirectoryRow, EXTENT_BYTES, Extent, SEGMENT_HEADER_BYTES, SegmentHeader, Trailer, UNIT_BYTES,
    entry_position, next_unit, segment_file_name, usize_of,
};
use crate::store::scan::{Scanned, Scanner, indexed_entry};
use crate::types::{FileId, Incarnation, LogId, Offset, SegmentNumber};

/// What to read of one segment.
#[derive(Clone, Copy, Debug)]
pub struct SegmentTask {
    /// Its number.
    pub number: SegmentNumber,
    pub(super) file: FileId,
    pub(super) incarnation: Incarnation,
    /// Size of the segment.
    pub(super) bytes: u32,
    /// Up to here there must be entries.
    pub(super) until: u32,
    /// It must have a footer.
    pub(super) has_footer: bool,
    /// More stands behind there than can be reached entry by entry: what does tells where the hole ends.
    pub(super) is_broken: bool,
}

/// What was found in one segment.
#[derive(Clone, Debug)]
pub struct SegmentCheck {
    pub(super) task: SegmentTask,
    pub(super) faults: Vec<Fault>,
    /// The rows that the parts of faults name.
    pub(super) rows: Vec<DirectoryRow>,
}

/// What is wrong with some bytes of a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) bytes: Range<u64>,
    pub(super) what: String,
    /// Records that cannot be read for it.
    pub(super) parts: Vec<FaultPart>,
}

/// Records of one log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct FaultPart {
    /// The row of the segment's directory that they belong to, if that is known.
    pub(super) row: Option<u32>,
    pub(super) log: LogId,
    pub(super) base: Offset,
    /// The offset after the last.
    pub(super) end: Offset,
}

impl SegmentTask {
    /// Bytes that will be read.
    pub fn bytes_to_read(&self) -> u64 {
        u64::from(self.until)
    }

    /// Reads the segment in the store's `directory`. `None` when it is no longer part of the store: a broker freed it meanwhile.
    /// What seems damaged is read again before it is told.
    ///
    /// Errors: what the system says when the file, or a checkpoint, cannot be opened.
    pub async fn check<R: Runtime>(
        &self,
        runtime: &R,
        directory: &Path,
    ) -> Result<Option<SegmentCheck>, CheckpointError> {
        let mut before: Option<SegmentCheck> = None;
        loop {
            let checked = self.read(runtime, directory).await;
            if checked.as_ref().is_ok_and(|checked| checked.faults.is_empty()) {
                return checked.map(Some).map_err(|cause| CheckpointError::Io { operation: "open a segment", cause });
            }
            if !self.counts(runtime, directory).await? {
                return Ok(None);
            }
            let checked = checked.map_err(|cause| CheckpointError::Io { operation: "open a segment", cause })?;
            if before.is_some_and(|before| before.faults == checked.faults) {
                return Ok(Some(checked));
            }
            before = Some(checked);
            runtime.sleep(Duration::from_millis(INSPECT_PAUSE_MS)).await;
        }
    }

    /// Whether the segment is still part of the store: the newest checkpoint names it, or it came later.
    async fn counts<R: Runtime>(&self, runtime: &R, directory: &Path) -> Result<bool, CheckpointError> {
        let (_, found) = CheckpointFiles::open(runtime.clone(), directory).await?;
        let Found::Newest(checkpoint) = found else { return Ok(true) };
        let is_named =
            checkpoint.head.segments.iter().any(|segment| (segment.number, segment.file) == (self.number, self.file));
        Ok(is_named || self.number >= checkpoint.head.next_segment)
    }

    async fn read<R: Runtime>(&self, runtime: &R, directory: &Path) -> io::Result<SegmentCheck> {
        let file = runtime.open(&directory.join(segment_file_name(self.file))).await?;
        let mut reading = Reading { task: *self, file, faults: Vec::new() };
        reading.header().await;
        let footer = match self.has_footer {
            true => reading.footer().await,
            false => None,
        };
        let mut cross = Cross::new(footer.as_ref().unwrap_or(&FooterContent::default()));
        let are_whole = reading.entries(runtime, &mut cross).await;
        let Reading { mut faults, .. } = reading;
        let mut rows = Vec::new();
        if let Some(footer) = footer {
            for part in cross.finish() {
                let own = footer.own_extents(part.row.expect("it is a row's"));
                let bytes = own.first().map_or(0, |first| first.position)..own.last().map_or(0, Extent::end);
                let bytes = wide(&bytes);
                push(&mut faults, bytes, "the footer counts more or less than there is", vec![part]);
            }
            for (index, bytes) in &footer.broken {
                // Readers find the entries without it, as far as all before them are whole.
                let row = &footer.rows[usize_of(*index)];
                let parts = if are_whole { Vec::new() } else { vec![whole_row(*index, row)] };
                let what = format!("of the footer, where the entries of log {} stand", row.log);
                push(&mut faults, wide(bytes), &what, parts);
            }
            if !faults.is_empty() {
                rows = footer.rows;
            }
        }
        Ok(SegmentCheck { task: *self, faults, rows })
    }
}

/// Bytes of so many of a footer's pieces, which lie within a segment.
fn bytes_of(count: u32, each: usize) -> u32 {
    count.saturating_mul(u32::try_from(each).expect("a few dozen"))
}

fn wide(bytes: &Range<u32>) -> Range<u64> {
    u64::from(bytes.start)..u64::from(bytes.end)
}

/// Adds a fault; beyond the bound the last one grows instead.
fn push(faults: &mut Vec<Fault>, bytes: Range<u64>, what: &str, parts: Vec<FaultPart>) {
    if faults.len() < SEGMENT_FAULTS_MAX {
        faults.push(Fault { bytes, what: what.to_owned(), parts });
        return;
    }
    let last = faults.last_mut().expect("the bound is above 0");
    last.bytes = last.bytes.start.min(bytes.start)..last.bytes.end.max(bytes.end);
    last.parts.extend(parts);
}

struct Reading<F> {
    task: SegmentTask,
    file: F,
    faults: Vec<Fault>,
}

impl<F: File> Reading<F> {
    fn fault(&mut self, bytes: Range<u32>, what: &str, parts: Vec<FaultPart>) {
        push(&mut self.faults, wide(&bytes), what, parts);
    }

    async fn header(&mut self) {
        let of_file = u32::try_from(self.file.bytes()).unwrap_or(u32::MAX);
        if of_file < self.task.bytes {
            self.fault(of_file..self.task.bytes, "the file was cut", Vec::new());
        }
        if of_file < SEGMENT_HEADER_BYTES {
            return;
        }
        let what = match self.file.read_at(0, usize_of(SEGMENT_HEADER_BYTES)).await {
            Ok(block) => match SegmentHeader::decode(block.as_slice()) {
                Ok(header) if header.number == self.task.number => return,
                Ok(header) => format!("the segment's header is that of segment {}", header.number),
                Err(error) => format!("the segment's header: {error}"),
            },
            Err(cause) => format!("the segment's header cannot be read: {cause}"),
        };
        self.fault(0..SEGMENT_HEADER_BYTES, &what, Vec::new());
    }

    /// Reads the footer. What cannot be read of it is a fault, by which nothing is lost as long as the entries are whole.
    async fn footer(&mut self) -> Option<FooterContent> {
        let SegmentTask { bytes, until, number, .. } = self.task;
        let trailer_at = bytes - UNIT_BYTES..bytes;
        let trailer = match self
            .piece(&trailer_at)
            .await
            .map(|unit| Trailer::decode(&unit, bytes).map_err(|error| error.to_string()))
        {
            Ok(Ok(trailer)) if trailer.number == number && trailer.data_end == until => trailer,
            Ok(Ok(_)) => {
                self.fault(trailer_at, "the footer is not that of this segment", Vec::new());
                return None;
            }
            Ok(Err(what)) | Err(what) => {
                self.fault(trailer_at, &format!("the footer: {what}"), Vec::new());
                return None;
            }
        };
        let directory_at = trailer.directory_position..trailer.extents_position;
        let directory = match self.piece(&directory_at).await {
            Ok(directory) => trailer.decode_directory(&directory).map_err(|error| error.to_string()),
            Err(what) => Err(what),
        };
        let rows = match directory {
            Ok(rows) => rows,
            Err(what) => {
                self.fault(directory_at, &format!("the directory in the footer: {what}"), Vec::new());
                return None;
            }
        };
        let mut content = FooterContent { rows, extents: Vec::new(), broken: Vec::new() };
        let extents_at = trailer.extents_position..trailer.extents_position + bytes_of(trailer.extents, EXTENT_BYTES);
        let all = self.piece(&extents_at).await;
        for (index, row) in (0..).zip(&content.rows) {
            let (position, length) = trailer.extents_range(row).expect("the directory was checked");
            let first = usize_of(position - extents_at.start);
            let own = all.as_ref().ok().and_then(|all| all.get(first..first + usize_of(length)));
            match own.and_then(|own| row.decode_extents(own, trailer.data_end).ok()) {
                Some(mut extents) => content.extents.append(&mut extents),
                None => content.broken.push((index, position..position + length)),
            }
        }
        if trailer.aborted > 0 {
            let first = trailer.aborted_position;
            let aborted_at = first..first + bytes_of(trailer.aborted, ABORTED_ROW_BYTES);
            let aborted = self.piece(&aborted_at).await;
            if !aborted.is_ok_and(|bytes| trailer.decode_aborted(&bytes).is_ok()) {
                self.fault(aborted_at, "the aborted transactions in the footer", Vec::new());
            }
        }
        Some(content)
    }

    /// Bytes of the file, which its size bounds.
    async fn piece(&self, range: &Range<u32>) -> Result<Vec<u8>, String> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        if u64::from(range.end) > self.file.bytes() {
            return Err("the file ends before it".to_owned());
        }
        let start = range.start - range.start % UNIT_BYTES;
        let bytes = usize_of(next_unit(range.end) - start);
        let read = self.file.read_at(u64::from(start), bytes).await.map_err(|cause| cause.to_string())?;
        let first = usize_of(range.start - start);
        Ok(read.as_slice()[first..first + usize_of(range.end - range.start)].to_vec())
    }

    /// Reads entry by entry to where they must end. False when some are missing.
    async fn entries<R: Runtime>(&mut self, runtime: &R, cross: &mut Cross) -> bool {
        let SegmentTask { number, until, is_broken, bytes, .. } = self.task;
        let until = if is_broken { bytes } else { until };
        let numbers = number.value()..=number.value();
        let mut scanner =
            Scanner::new(self.file.clone(), until.min(u32::try_from(self.file.bytes()).unwrap_or(u32::MAX)));
        let (mut end, mut incarnation) = (SEGMENT_HEADER_BYTES, self.task.incarnation);
        let mut are_whole = true;
        let mut count: u32 = 0;
        while end < until {
            count = count.wrapping_add(1);
            if count.is_multiple_of(SCAN_ENTRIES_PER_YIELD) {
                runtime.yield_now().await;
            }
            match scanner.next(end, number, incarnation).await {
                Ok(Some(scanned)) => {
                    (end, incarnation) = (scanned.end, scanned.entry.header.incarnation);
                    let wrong = indexed_entry(scanned.position, &scanned.entry)
                        .and_then(|entry| cross.on_entry(scanned.entry.header.log, &entry));
                    if let Some((what, part)) = wrong {
                        let bytes = scanned.position..scanned.end;
                        self.fault(bytes, what, vec![part]);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(cause) => {
                    let parts = cross.on_hole(&(end..until));
                    self.fault(end..until, &format!("cannot be read: {cause}"), parts);
                    return false;
                }
            }
            are_whole = false;
            let hole = match scanner.resume(end, &numbers).await {
                Ok(Some(found)) => Hole::before(&found, end, incarnation),
                // Nobody knows how much more there was.
                Ok(None) if is_broken => return false,
                Ok(None) => Hole::Bytes { bytes: end..until, next: until },
                Err(cause) => {
                    let parts = cross.on_hole(&(end..until));
                    self.fault(end..until, &format!("cannot be read: {cause}"), parts);
                    return false;
                }
            };
            match hole {
                Hole::Bytes { bytes, next } => {
                    let parts = cross.on_hole(&bytes);
                    self.fault(bytes, "no entry that is whole stands there", parts);
                    end = next;
                }
                Hole::Batches { position, log, batches, next } => {
                    for (bytes, base, end) in batches {
                        let part = cross.on_damaged_batch(position, log, base, end);
                        self.fault(bytes, "the crc of the batch differs", vec![part]);
                    }
                    cross.on_hole(&(position..next));
                    end = next;
                }
            }
        }
        are_whole
    }
}

/// What stands where an entry should.
enum Hole {
    /// Nothing that is whole; the search goes on behind the entry that ends at `next`.
    Bytes { bytes: Range<u32>, next: u32 },
    /// The entry, in which these batches are not whole.
    Batches { position: u32, log: LogId, batches: Vec<(Range<u32>, Offset, Offset)>, next: u32 },
}

impl Hole {
    /// What lies between `end`, where the last whole entry ended, and the one that was `found` behind it.
    fn before(found: &Scanned<'_>, end: u32, incarnation_min: Incarnation) -> Hole {
        let header = &found.entry.header;
        let follows_at = entry_position(end);
        let is_next = header.previous_end == end
            && (found.position == follows_at || found.position == next_unit(follows_at))
            && header.incarnation >= incarnation_min;
        if !is_next {
            // Those between it and the hole, if any, are gone with the hole.
            let is_ahead = header.previous_end > end;
            let next = if is_ahead { header.previous_end } else { found.end };
            return Hole::Bytes { bytes: end..if is_ahead { found.position } else { found.end }, next };
        }
        let entry_bytes = found.entry.payload.as_ptr().addr();
        let payload_at = found.end - header.payload_bytes;
        let damaged = found.entry.batches().filter(|batch| !batch.crc_matches()).map(|batch| {
            let within = u32::try_from(batch.bytes().as_ptr().addr() - entry_bytes).expect("within an entry");
            let bytes = u32::try_from(batch.bytes().len()).expect("within an entry");
            let at = payload_at + within;
            (at..at + bytes, batch.base_offset(), batch.last_offset().advance(1))
        });
        Hole::Batches { position: found.position, log: header.log, batches: damaged.collect(), next: found.end }
    }
}
