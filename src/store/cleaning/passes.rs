//! Compaction passes over logs of which the last record of each key is kept, as jobs of the cleaner.
//!
//! What becomes of a batch is `compaction`'s to say; here its batches are read, row by row, and what is left of them is written
//! into a cold segment that takes the place of the rows. A log that is due is gone over twice:
//!
//! ```text
//! rows of its dirty part ──> keys                    up to the first batch that has no room in the memory for them
//! rows from its start up to there ──> filter ──> output ──> switch
//! ```
//!
//! Whole rows are replaced, since the index knows nothing smaller: of the last one, what lies above the keys stays as it is.
//! The ranges of the moves tile the row, so that offsets of which nothing is left are covered and empty, and nothing older can
//! show through at a recovery.
//!
//! **Crashes.** Outputs of a pass are named in ascending order, so what counts after a crash is a prefix of the log that was
//! compacted and a rest that was not. The last record of a key is in either; a tombstone that is gone was in the prefix, and
//! so was everything older that it deleted. How far the log is clean is the owner's to remember: where it forgets, the pass is
//! made again.
//!
//! One output holds many logs: a job ends when one is half full, or nothing is due any more. There may be less in a row than
//! what becomes of it, where tombstones get their horizons or records were packed better than we do: a row that does not fit is
//! begun again in a larger file.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::builder::{Builder, Built};
use super::outputs::Gives;
use super::rows::{Error, LiveRow, Rows, Sink};
use super::{Ended, Victim};
use crate::compaction::{CollectStep, Collecting, DamagedBatch, FilterStep, Filtering, KeyMap, Outcome, Pass, Tools};
use crate::limits::{
    CLEAN_REST_FACTOR, COMPACTION_BACKLOG_SEGMENTS, COMPACTION_BACKLOG_SEGMENTS_MAX, COMPACTION_ROW_GROWTH_MAX,
    COMPACTION_ROWS_HELD, COMPACTION_TURN_STEPS_MAX, COMPACTION_TURN_US, COMPACTION_WORK_BYTES, COMPACTION_WORK_US,
    EXTENT_BYTES_MAX,
};
use crate::protocol::record_batch::BatchView;
use crate::runtime::Runtime;
use crate::store::format::{DirectoryRow, Entry, StoredBatch};
use crate::store::state::{Core, State, keys_bytes_max};
use crate::store::{DueLog, Owner};
use crate::types::{LogId, MonotonicUs, Offset, SegmentNumber};

/// What a job has in hand.
struct Work<R: Runtime> {
    keys: KeyMap,
    tools: Tools,
    output: Option<Builder<R>>,
    /// Logs whose last row is in the output, or in one before it, and how far they are clean then.
    completed: Vec<(LogId, Offset)>,
    turn: Turn,
}

/// Why a log is not compacted to its end.
enum Stop {
    /// Nothing is.
    Job(Ended),
    /// There is no file for what is left of it: it is tried again when it is due again.
    NoFile,
    /// It was deleted, or all that was due is gone.
    Gone,
    /// A row cannot be read.
    Damaged(SegmentNumber, u32, String),
    /// What a producer had accepted in place of records, or packed as nobody can.
    NoRecords(String),
}

impl Stop {
    /// Of a row that was not gone over to its end.
    fn of<R: Runtime>(core: &Core<R>, error: Error, segment: SegmentNumber, row: u32) -> Stop {
        match error {
            Error::Damaged(what) => Stop::Damaged(segment, row, what),
            Error::NoRecords(what) => Stop::NoRecords(what),
            Error::Write(cause) => Stop::Job(core.output_failed(&cause)),
            Error::NoRoom => {
                let what =
                    format!("what is left of a part of it is more than {COMPACTION_ROW_GROWTH_MAX} times as large");
                Stop::NoRecords(what)
            }
            Error::GivenUp => Stop::Job(Ended::GivenUp),
        }
    }
}

/// How long the job has worked since others had their turn.
struct Turn {
    began: MonotonicUs,
    steps: u32,
    /// Since it rested last: microseconds, and bytes of batches.
    worked_us: u64,
    bytes: u64,
    bytes_per_second: f64,
    /// For how many times as long as it worked it rests.
    rest_factor: u64,
}

impl Turn {
    fn new(now: MonotonicUs, bytes_per_second: f64, dirty_segments: u64) -> Turn {
        // Else what comes faster than it is compacted would grow for ever.
        let rest_factor = match dirty_segments {
            0..COMPACTION_BACKLOG_SEGMENTS => CLEAN_REST_FACTOR,
            COMPACTION_BACKLOG_SEGMENTS..COMPACTION_BACKLOG_SEGMENTS_MAX => 1,
            _ => 0,
        };
        Turn { began: now, steps: 0, worked_us: 0, bytes: 0, bytes_per_second, rest_factor }
    }

    /// A step was taken: lets others run when it is their turn, and rests when enough was done.
    async fn on_step<R: Runtime>(&mut self, core: &Core<R>) -> Result<(), Error> {
        self.steps += 1;
        let took_us = core.runtime.now().since_us(self.began);
        if self.steps < COMPACTION_TURN_STEPS_MAX && took_us < COMPACTION_TURN_US {
            return Ok(());
        }
        self.worked_us += took_us;
        core.go_on().map_err(|_| Error::GivenUp)?;
        if self.worked_us >= COMPACTION_WORK_US || self.bytes >= COMPACTION_WORK_BYTES {
            self.rest(core).await;
        } else {
            core.runtime.yield_now().await;
        }
        (self.began, self.steps) = (core.runtime.now(), 0);
        Ok(())
    }

    /// Leaves the core and the disk to others, as other jobs do, and for as long as `log.cleaner.io.max.bytes.per.second`
    /// wants it.
    async fn rest<R: Runtime>(&mut self, core: &Core<R>) {
        let usual_us = core.rest_us(self.worked_us, self.rest_factor);
        #[expect(clippy::cast_precision_loss, reason = "a rate is no exact number")]
        let at_rate = Duration::try_from_secs_f64(self.bytes as f64 / self.bytes_per_second);
        let rest = Duration::from_micros(usual_us).max(at_rate.unwrap_or(Duration::ZERO));
        (self.worked_us, self.bytes) = (0, 0);
        if rest.is_zero() {
            core.runtime.yield_now().await;
        } else {
            core.runtime.sleep(rest).await;
        }
    }
}

impl<R: Runtime> Core<R> {
    /// Makes the passes that are due, the first ones, until there is enough for a segment.
    pub(super) async fn compact(&self) -> Result<(), Ended> {
        let Some(owner) = self.owner.borrow().clone() else { return Ok(()) };
        self.state.borrow_mut().cleaning.keys_bytes = keys_bytes_max(&self.options);
        let ended = self.compact_for(&owner).await;
        self.state.borrow_mut().cleaning.keys_bytes = 0;
        ended
    }

    async fn compact_for(&self, owner: &Rc<dyn Owner>) -> Result<(), Ended> {
        let (bytes_per_second, dirty_segments) = {
            let cleaning = &self.state.borrow().cleaning;
            let dirty_bytes: u64 = cleaning.due.iter().map(|due| due.candidate.dirty_bytes).sum();
            (cleaning.compaction_bytes_per_second, dirty_bytes / u64::from(self.options.segment_bytes))
        };
        let keys_bytes = usize::try_from(keys_bytes_max(&self.options)).expect("memory fits the address space");
        let mut work = Work {
            keys: KeyMap::new(keys_bytes, [self.runtime.random(), self.runtime.random()]),
            tools: Tools::new(),
            output: None,
            completed: Vec::new(),
            turn: Turn::new(self.runtime.now(), bytes_per_second, dirty_segments),
        };
        let ended = self.compact_due(owner, &mut work).await;
        if let Err(ended) = ended {
            if let Some(builder) = work.output.take() {
                self.close_output(builder, Err(ended)).await?;
            }
            return Err(Ended::GivenUp);
        }
        self.finish_output(owner, &mut work).await
    }

    async fn compact_due(&self, owner: &Rc<dyn Owner>, work: &mut Work<R>) -> Result<(), Ended> {
        loop {
            let due = self.state.borrow_mut().cleaning.due.pop_front();
            let Some(due) = due else { return Ok(()) };
            // Whoever asked knew nothing of what is in the output.
            let is_in_output = work.completed.iter().any(|(log, _)| *log == due.log);
            if is_in_output && !cfg!(corelane_defect = "compacted_twice") {
                continue;
            }
            match self.compact_log(owner, &due, work).await {
                Ok(end) => work.completed.push((due.log, end)),
                Err(Stop::Job(ended)) => return Err(ended),
                Err(Stop::Gone) => {}
                Err(Stop::NoFile) => {
                    self.state.borrow_mut().cleaning.due.clear();
                    // Nothing was done.
                    return if work.output.is_some() { Ok(()) } else { Err(Ended::GivenUp) };
                }
                Err(Stop::Damaged(segment, row, what)) => {
                    let mut state = self.state.borrow_mut();
                    if state.cleaning.on_damaged_row(segment, row) {
                        state.stats.damaged_rows += 1;
                    }
                    drop(state);
                    self.give_up_on(owner, due.log, &what);
                }
                Err(Stop::NoRecords(what)) => self.give_up_on(owner, due.log, &what),
            }
            work.tools.shed();
            let state = self.state.borrow();
            let usual = state.segments.bytes_of_next(self.options.segment_bytes, self.options.segments_before_growth);
            // Space goes first.
            let is_enough = work.output.as_ref().is_some_and(|builder| builder.filled_bytes() >= usual / 2);
            if is_enough || state.space.is_full() || state.is_far_too_large(&self.options) {
                return Ok(());
            }
        }
    }

    /// In this life the log is not tried again.
    fn give_up_on(&self, owner: &Rc<dyn Owner>, log: LogId, why: &str) {
        self.state.borrow_mut().cleaning.uncompactable.insert(log);
        owner.on_not_compacted(log, why);
    }

    /// One pass. Gives the end of what is clean once the output counts.
    async fn compact_log(&self, owner: &Rc<dyn Owner>, due: &DueLog, work: &mut Work<R>) -> Result<Offset, Stop> {
        let (log, bound) = (due.log, due.candidate.bound);
        let log_start = self.state.borrow().index.log_start(log).ok_or(Stop::Gone)?;
        let from = due.candidate.from.max(log_start);
        if from >= bound {
            return Err(Stop::Gone);
        }
        self.collect(owner, due, from, work).await?;
        work.keys.close();
        let end = work.keys.end();
        let mut pass = Pass::new(bound, &due.rules, self.runtime.wall_clock());
        let mut at = log_start;
        while at < end {
            let mut chunk = self.chunk(log, at, end)?;
            let Some(last) = chunk.rows.back() else { break };
            at = last.row.end_offset;
            self.filter(owner, &mut chunk, &mut pass, work).await?;
        }
        let counts = pass.counts();
        let mut state = self.state.borrow_mut();
        state.stats.compaction_passes += 1;
        state.stats.compaction_read_bytes += counts.bytes_before;
        state.stats.compaction_written_bytes += counts.bytes_after;
        drop(state);
        tracing::debug!(shard = %self.options.shard, %log, %from, %end, ?counts, "compacted");
        Ok(end)
    }

    /// The first half: the keys of the dirty part, as many as there is memory for.
    async fn collect(&self, owner: &Rc<dyn Owner>, due: &DueLog, from: Offset, work: &mut Work<R>) -> Result<(), Stop> {
        let (log, bound) = (due.log, due.candidate.bound);
        let Work { keys, tools, turn, .. } = work;
        keys.begin(from, bound);
        while !keys.clear_step() {
            turn.on_step(self).await.map_err(|_| Stop::Job(Ended::GivenUp))?;
        }
        let mut sink = Collect { core: self, owner, log, bound, keys, tools, turn, is_done: false };
        let mut at = from;
        while at < bound && !sink.is_done {
            let chunk = self.chunk(log, at, bound)?;
            let Some(last) = chunk.rows.back() else { break };
            at = last.row.end_offset;
            let (mut rows, mut left) = (Rows::new(&self.cold, &self.runtime), chunk.rows);
            while let Some(row) = left.front().copied()
                && !sink.is_done
            {
                let victim = &chunk.held[row.victim];
                rows.start_ahead(&chunk.held, &left, |number, row| {
                    self.state.borrow().index.unwritten_extents(number, row)
                });
                let given = rows.give_first(victim, &row, from, &mut sink).await;
                given.map_err(|error| Stop::of(self, error, victim.number, row.directory_row))?;
                left.pop_front();
            }
        }
        Ok(())
    }

    /// The second half, for some rows: what is left of them goes into the output, or into another when that is full.
    async fn filter(
        &self,
        owner: &Rc<dyn Owner>,
        chunk: &mut Chunk<R::File>,
        pass: &mut Pass,
        work: &mut Work<R>,
    ) -> Result<(), Stop> {
        let mut rows = Rows::new(&self.cold, &self.runtime);
        let mut growth = 1;
        while let Some(row) = chunk.rows.front().copied() {
            let log = row.row.log;
            let (log_start, partition) = {
                let state = self.state.borrow();
                let log_start = state.index.log_start(log).ok_or(Stop::Gone)?;
                (log_start, *state.partitions.get(&log).ok_or(Stop::Gone)?)
            };
            if row.row.end_offset <= log_start {
                // It died meanwhile.
                rows.forget_first();
                chunk.rows.pop_front();
                continue;
            }
            self.make_room(owner, chunk, growth, work).await?;
            rows.start_ahead(&chunk.held, &chunk.rows, |number, row| {
                self.state.borrow().index.unwritten_extents(number, row)
            });
            let victim = &chunk.held[row.victim];
            let Work { keys, tools, output, turn, .. } = work;
            let builder = output.as_mut().expect("room was made");
            let failed = |cause| Stop::Job(self.output_failed(&cause));
            builder.begin_row(&row, victim.number, log_start, partition).await.map_err(failed)?;
            let before = pass.clone();
            let mut sink =
                Filter { core: self, owner, log, keys, tools, turn, pass: &mut *pass, builder: &mut *builder };
            match rows.give_first(victim, &row, log_start, &mut sink).await {
                Ok(()) => {}
                Err(Error::NoRoom) if growth < COMPACTION_ROW_GROWTH_MAX => {
                    builder.abandon_row();
                    *pass = before;
                    growth *= 4;
                    // In a file of its own, so that no segment has entries of it twice, and read from its beginning.
                    self.finish_output(owner, work).await.map_err(Stop::Job)?;
                    rows = Rows::new(&self.cold, &self.runtime);
                    continue;
                }
                Err(error) => {
                    builder.abandon_row();
                    return Err(Stop::of(self, error, victim.number, row.directory_row));
                }
            }
            builder.end_row(&row).await.map_err(failed)?;
            growth = 1;
            chunk.rows.pop_front();
        }
        Ok(())
    }

    /// Sees to it that the first row fits into the output, `growth` times as large as it is now.
    async fn make_room(
        &self,
        owner: &Rc<dyn Owner>,
        chunk: &Chunk<R::File>,
        growth: u32,
        work: &mut Work<R>,
    ) -> Result<(), Stop> {
        let row = chunk.rows.front().expect("there is a row");
        let bytes = row.bytes_max() * u64::from(growth);
        // Of so many bytes every extent but the last two has a good part of what one may have.
        let extents = u32::try_from(bytes / u64::from(EXTENT_BYTES_MAX) * 2 + 2).unwrap_or(u32::MAX);
        if work.output.as_ref().is_some_and(|builder| builder.fits(bytes, extents)) {
            return Ok(());
        }
        self.finish_output(owner, work).await.map_err(Stop::Job)?;
        let at_least = bytes + u64::from(extents) * 24;
        let wanted = at_least.max(self.expected_bytes(chunk));
        let file = self.output_file(wanted, at_least, Gives::Compaction).await.ok_or(Stop::NoFile)?;
        let builder = self.open_output(file);
        assert!(builder.fits(bytes, extents), "the file was made for it");
        work.output = Some(builder);
        Ok(())
    }

    /// Bytes of all rows that are still to be gone over, in the logs that are due.
    fn expected_bytes(&self, chunk: &Chunk<R::File>) -> u64 {
        let here: u64 = chunk.rows.iter().map(LiveRow::bytes_max).sum();
        let state = self.state.borrow();
        let later = state.cleaning.due.iter().map(|due| state.index.bytes_below(due.log, due.candidate.bound));
        here + later.sum::<u64>()
    }

    /// Lets the output count, and tells the owner which logs are clean now.
    async fn finish_output(&self, owner: &Rc<dyn Owner>, work: &mut Work<R>) -> Result<(), Ended> {
        if let Some(builder) = work.output.take()
            && let Some(built) = self.close_output(builder, Ok(())).await?
        {
            self.go_on()?;
            self.switch_to(Built { is_compacted: true, ..built });
        }
        for (log, end) in work.completed.drain(..) {
            owner.on_compacted(log, end);
        }
        Ok(())
    }

    /// The next rows of a log from `from` on that begin below `below`, their segments held: as many as are soon gone over.
    fn chunk(&self, log: LogId, from: Offset, below: Offset) -> Result<Chunk<R::File>, Stop> {
        let state = self.state.borrow();
        let usual = state.segments.bytes_of_next(self.options.segment_bytes, self.options.segments_before_growth);
        let mut chunk = Chunk { held: Vec::new(), rows: VecDeque::new() };
        let mut bytes: u64 = 0;
        for row in state.index.rows_from(log, from, COMPACTION_ROWS_HELD) {
            if row.base_offset >= below || !state.is_settled(row.segment) {
                break;
            }
            if state.cleaning.is_damaged_row(row.segment, row.directory_row) {
                let what = format!("segment {} is known to be damaged there", row.segment);
                return Err(Stop::Damaged(row.segment, row.directory_row, what));
            }
            bytes += u64::from(row.bytes);
            if !chunk.rows.is_empty() && bytes > u64::from(usual) {
                break;
            }
            let victim = match chunk.held.iter().position(|held: &Victim<R::File>| held.number == row.segment) {
                Some(known) => known,
                None => {
                    chunk.held.push(state.victim(row.segment));
                    chunk.held.len() - 1
                }
            };
            let directory = DirectoryRow {
                log,
                extent_first: 0,
                extent_count: 0,
                base_offset: row.base_offset,
                end_offset: row.end_offset,
                timestamp_max: row.timestamp_max,
                bytes: row.bytes,
                extents_crc: 0,
            };
            chunk.rows.push_back(LiveRow { victim, directory_row: row.directory_row, row: directory, life: 0 });
        }
        Ok(chunk)
    }
}

/// Rows of one log, and the segments that they lie in.
struct Chunk<F> {
    held: Vec<Victim<F>>,
    rows: VecDeque<LiveRow>,
}

impl<R: Runtime> State<R> {
    /// A sealed segment with its file, held.
    pub(super) fn victim(&self, number: SegmentNumber) -> Victim<R::File> {
        let live = &self.segments.live[&number];
        let file = live.file.as_ref().expect("a victim has its file").file.clone();
        Victim { number, file, segment_bytes: live.header.bytes, hold: self.holds.hold(number) }
    }
}

fn damaged(error: DamagedBatch) -> Error {
    match error {
        DamagedBatch::Rotten(_) => Error::Damaged(error.to_string()),
        other => Error::NoRecords(other.to_string()),
    }
}

fn view(batch: StoredBatch<'_>) -> Result<BatchView<'_>, Error> {
    BatchView::parse(batch.bytes()).map_err(|error| Error::NoRecords(error.to_string()))
}

/// Takes the keys of rows.
struct Collect<'a, R: Runtime> {
    core: &'a Core<R>,
    owner: &'a Rc<dyn Owner>,
    log: LogId,
    bound: Offset,
    keys: &'a mut KeyMap,
    tools: &'a mut Tools,
    turn: &'a mut Turn,
    is_done: bool,
}

impl<R: Runtime> Sink for Collect<'_, R> {
    async fn take(&mut self, entry: &Entry<'_>, log_start: Offset, _: Offset) -> Result<(), Error> {
        for batch in entry.batches().filter(|batch| batch.last_offset() >= log_start) {
            if batch.base_offset() >= self.bound {
                self.is_done = true;
                return Ok(());
            }
            self.turn.bytes += u64::try_from(batch.bytes().len()).expect("it lies in memory");
            let view = view(batch)?;
            let facts = self.owner.batch_facts(self.log, &view.header);
            let mut collecting = Collecting::new(view, facts, self.keys, self.tools);
            loop {
                match collecting.step().map_err(damaged)? {
                    CollectStep::More => self.turn.on_step(self.core).await?,
                    CollectStep::Taken => break,
                    CollectStep::Full => {
                        self.is_done = true;
                        return Ok(());
                    }
                }
            }
            self.turn.on_step(self.core).await?;
        }
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), Error> {
        // It rests after batches; of a run there may be none that it looks at.
        self.core.runtime.yield_now().await;
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

/// Writes what is left of rows.
struct Filter<'a, R: Runtime> {
    core: &'a Core<R>,
    owner: &'a Rc<dyn Owner>,
    log: LogId,
    keys: &'a KeyMap,
    tools: &'a mut Tools,
    turn: &'a mut Turn,
    pass: &'a mut Pass,
    builder: &'a mut Builder<R>,
}

impl<R: Runtime> Filter<'_, R> {
    /// What becomes of a batch that begins below the end of the keys.
    async fn outcome(&mut self, batch: StoredBatch<'_>) -> Result<Outcome, Error> {
        let view = view(batch)?;
        let facts = self.owner.batch_facts(self.log, &view.header);
        let mut filtering = Filtering::new(view, facts, self.pass, self.keys, self.tools);
        loop {
            match filtering.step().map_err(damaged)? {
                FilterStep::More => self.turn.on_step(self.core).await?,
                FilterStep::Done(outcome) => return Ok(outcome),
            }
        }
    }
}

/// Adds what is left of what stands for offsets up to `end`.
async fn put<R: Runtime>(builder: &mut Builder<R>, batch: Option<StoredBatch<'_>>, end: Offset) -> Result<(), Error> {
    if !builder.fits_batch(batch.map_or(0, |batch| batch.bytes().len())) {
        return Err(Error::NoRoom);
    }
    builder.put(batch.into_iter(), end).await.map_err(Error::Write)
}

impl<R: Runtime> Sink for Filter<'_, R> {
    async fn take(&mut self, entry: &Entry<'_>, log_start: Offset, end: Offset) -> Result<(), Error> {
        for batch in entry.batches().filter(|batch| batch.last_offset() >= log_start) {
            let batch_end = batch.last_offset().advance(1);
            self.turn.bytes += u64::try_from(batch.bytes().len()).expect("it lies in memory");
            if batch.base_offset() >= self.keys.end() {
                if !batch.crc_matches() {
                    return Err(Error::Damaged("the crc of a batch differs".to_owned()));
                }
                put(self.builder, Some(batch), batch_end).await?;
            } else {
                match self.outcome(batch).await? {
                    Outcome::Verbatim => put(self.builder, Some(batch), batch_end).await?,
                    Outcome::Dropped => put(self.builder, None, batch_end).await?,
                    Outcome::Rebuilt | Outcome::Emptied => {
                        let (batch, _) = StoredBatch::split(self.tools.output()).expect("a batch was rebuilt");
                        put(self.builder, Some(batch), batch_end).await?;
                    }
                }
            }
            self.turn.on_step(self.core).await?;
        }
        if end > log_start {
            put(self.builder, None, end).await?;
        }
        Ok(())
    }

    async fn pause(&mut self) -> Result<(), Error> {
        self.core.runtime.yield_now().await;
        Ok(())
    }
}
