//! Reads rows, some ahead, and gives their entries to a [`Sink`], which checks each batch before it is written again: rot is
//! never copied.

use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;

use futures_util::{StreamExt, stream};

use super::Victim;
use crate::limits::{CLEAN_AHEAD_BYTES, CLEAN_READ_BYTES, CLEAN_ROW_AHEAD_BYTES, CLEAN_ROWS_AHEAD, CLEAN_RUNS_AT_ONCE};
use crate::runtime::Runtime;
use crate::runtime::block::Block;
use crate::store::format::{DirectoryRow, Entry, Extent, usize_of};
use crate::store::index::{Place, PlaceExtents};
use crate::store::scan::{damaged_at, entry_of_row};
use crate::store::windows::disk_reads::Pending;
use crate::store::windows::runs::{Run, runs};
use crate::store::windows::{ColdCache, ColdError};
use crate::types::{Offset, SegmentNumber};

/// A row to go over.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveRow {
    /// Which of the segments that are held it lies in.
    pub(super) victim: usize,
    /// Its place in that segment's directory.
    pub(super) directory_row: u32,
    /// What the directory says; without extents where that was not looked at.
    pub(super) row: DirectoryRow,
    /// How long it will live, as a class.
    pub(super) life: u8,
}

/// Why a row was not gone over to its end.
pub(super) enum Error {
    /// It cannot be read: in words.
    Damaged(String),
    /// Its bytes are those that were written, and no records: in words.
    NoRecords(String),
    /// What was built cannot be written.
    Write(std::io::Error),
    /// What becomes of it does not fit into what is built.
    NoRoom,
    /// The store failed, or closes.
    GivenUp,
}

/// What is done with the entries of a row.
pub(super) trait Sink {
    /// Takes an entry that is its row's and stands for offsets up to `end`; its batches were not looked at. Below `log_start`
    /// everything is dead.
    async fn take(&mut self, entry: &Entry<'_>, log_start: Offset, end: Offset) -> Result<(), Error>;

    /// Some of a row was taken, and more of it follows: lets others have the core and the disk.
    async fn pause(&mut self) -> Result<(), Error>;

    /// Nothing more is wanted.
    fn is_done(&self) -> bool {
        false
    }
}

/// A row as far as it was read ahead.
struct Read<B> {
    extents: Rc<[Extent]>,
    /// Its bytes, run by run, when they are few.
    runs: Option<Vec<Rc<Block<B>>>>,
}

impl<B> Clone for Read<B> {
    fn clone(&self) -> Self {
        Read { extents: Rc::clone(&self.extents), runs: self.runs.clone() }
    }
}

type Ahead<B> = Rc<Pending<Result<Read<B>, ColdError>>>;

/// The rows that are read ahead: the first so many of those to copy.
pub(super) struct Rows<'a, R: Runtime> {
    cache: &'a ColdCache<R>,
    runtime: &'a R,
    ahead: VecDeque<Ahead<R::Buffer>>,
}

/// The runs of a row's extents.
fn runs_of(extents: &[Extent]) -> Vec<Run> {
    runs(extents, CLEAN_READ_BYTES / 8, CLEAN_READ_BYTES)
}

impl<'a, R: Runtime> Rows<'a, R> {
    pub(super) fn new(cache: &'a ColdCache<R>, runtime: &'a R) -> Rows<'a, R> {
        Rows { cache, runtime, ahead: VecDeque::new() }
    }

    /// The first row is not wanted any more.
    pub(super) fn forget_first(&mut self) {
        self.ahead.pop_front();
    }

    /// Starts to read the first rows of `copies` that are not being read, of the segments that are held. What
    /// `unwritten_extents` borrows is free when a read is started.
    pub(super) fn start_ahead(
        &mut self,
        held: &[Victim<R::File>],
        copies: &VecDeque<LiveRow>,
        unwritten_extents: impl Fn(SegmentNumber, u32) -> Option<Vec<Extent>>,
    ) {
        for copy in copies.iter().take(CLEAN_ROWS_AHEAD).skip(self.ahead.len()) {
            let victim = &held[copy.victim];
            let extents = match unwritten_extents(victim.number, copy.directory_row) {
                Some(extents) => PlaceExtents::Known(extents),
                None => PlaceExtents::Footer { row: copy.directory_row, bytes: copy.row.bytes },
            };
            let (base_offset, end_offset) = (copy.row.base_offset, copy.row.end_offset);
            let place = Place { segment: victim.number, base_offset, end_offset, extents };
            let pending = Pending::new();
            self.ahead.push_back(Rc::clone(&pending));
            let (cache, file, hold) = (self.cache.clone(), victim.file.clone(), victim.hold.clone());
            let (segment_bytes, row) = (victim.segment_bytes, copy.row);
            self.runtime.spawn(async move {
                let read = async {
                    let extents = match row.extent_count {
                        0 => cache.extents(&file, segment_bytes, &hold, row.log, &place).await?,
                        _ => cache.extents_of_row(&file, segment_bytes, &hold, &row, &place).await?,
                    };
                    let runs = runs_of(&extents);
                    let bytes: u32 = runs.iter().map(|run| run.end - run.start).sum();
                    if bytes > CLEAN_ROW_AHEAD_BYTES {
                        return Ok(Read { extents, runs: None });
                    }
                    let mut blocks = Vec::with_capacity(runs.len());
                    for run in &runs {
                        blocks.push(cache.read_units(&file, &hold, run.start, run.end).await?);
                    }
                    Ok(Read { extents, runs: Some(blocks) })
                };
                pending.complete(read.await);
            });
        }
    }

    /// Gives the entries of the first row to `sink`, in order.
    pub(super) async fn give_first(
        &mut self,
        victim: &Victim<R::File>,
        copy: &LiveRow,
        log_start: Offset,
        sink: &mut impl Sink,
    ) -> Result<(), Error> {
        let ahead = self.ahead.pop_front().expect("it was started");
        let damaged = |error: ColdError| Error::Damaged(error.to_string());
        let read = ahead.wait().await.map_err(damaged)?;
        let runs = runs_of(&read.extents);
        let largest = runs.iter().map(|run| run.end - run.start).max().unwrap_or(0);
        let at_once = usize_of(CLEAN_AHEAD_BYTES / largest.max(1)).clamp(1, CLEAN_RUNS_AT_ONCE);
        let blocks = stream::iter(runs.iter().enumerate()).map(async |(index, run)| match &read.runs {
            Some(blocks) => Ok(Rc::clone(&blocks[index])),
            None => self.cache.read_units(&victim.file, &victim.hold, run.start, run.end).await,
        });
        let mut blocks = pin!(blocks.buffered(at_once));
        for (index, run) in runs.iter().enumerate() {
            if index > 0 {
                sink.pause().await?;
            }
            let block = blocks.next().await.expect("one for each").map_err(damaged)?;
            for extent in &read.extents[run.extents.clone()] {
                let first = usize_of(extent.position - run.start);
                let bytes = &block.as_slice()[first..first + usize_of(extent.bytes)];
                give_extent(victim, copy, log_start, (extent, bytes), sink).await?;
                if sink.is_done() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

async fn give_extent<F>(
    victim: &Victim<F>,
    copy: &LiveRow,
    log_start: Offset,
    (extent, bytes): (&Extent, &[u8]),
    sink: &mut impl Sink,
) -> Result<(), Error> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (entry, indexed) = entry_of_row(victim.number, &copy.row, extent, rest).map_err(Error::Damaged)?;
        rest = &rest[usize_of(indexed.bytes)..];
        match sink.take(&entry, log_start, indexed.last_offset.advance(1)).await {
            Err(Error::Damaged(what)) => {
                return Err(Error::Damaged(damaged_at(victim.number, indexed.position, &what)));
            }
            taken => taken?,
        }
        if sink.is_done() {
            break;
        }
    }
    Ok(())
}
