//! The cleaner: gives back the space of what is dead beside what lives.
//!
//! A segment is freed when nothing in it is live, and one record of an eternal topic keeps a whole one. So one task per core
//! moves what is live out of segments in which little is: a *job* picks victims (`victims`), reads their live rows (`rows`),
//! writes them into cold segments by remaining life and log (`builder`), and only when such a segment is whole lets the
//! index point to it (`switch`).
//!
//! ```text
//! victims ──rows──> builder ──> written ──> switch: the index points there ──> footer, flushed ──> the next checkpoint
//!    └───────────── live until the switch, named until that checkpoint, held until the job ends ────> names it: they are free
//! ```
//!
//! A cold segment counts if and only if the checkpoint that is trusted names it. So a crash at any point before that loses
//! work and nothing else: the sources are named still, and what was being built is a free file. Between the switch and the
//! checkpoint both are whole, and hold the same.
//!
//! Invariants: one job at a time, so that of two cold segments with the same offsets the later one is right; a row moves as
//! one, so that no row of a segment is ever live in part; what is read was checked before it is written again, and what is
//! damaged stays where it is; every job frees more than it takes, or makes many small segments one, so the cleaner ends.
//! What is only put in order (thin segments, while it is quiet) is moved once, since cold segments never are thin, and
//! frees a quarter of their bytes or more, too.
//!
//! Compaction (`passes`) is done by the same task, with the same builder and switch, when no space is to be given back.

mod builder;
mod outputs;
mod passes;
mod rows;
mod switch;
pub(in crate::store) mod victims;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use self::builder::{Builder, Built};
use self::outputs::Gives;
use self::rows::{LiveRow, Rows, Sink};
use self::victims::{Candidate, Limits};
use crate::limits::{
    CLEAN_LIVE_SEGMENTS_MAX, CLEAN_READ_BYTES, CLEAN_REST_FACTOR, CLEAN_REST_MS_MAX, CLEAN_ROWS_MAX,
    CLEAN_ROWS_PER_YIELD, CLEAN_SLACK_PERCENT, CLEAN_THIN_STAYS_MS, CLEAN_THIN_USED_PERCENT_MAX, COLD_READ_DEPTH,
    FILES_RESERVED,
};
use crate::runtime::Runtime;
use crate::store::format::{Entry, Stream};
use crate::store::state::segments::SegmentFile;
use crate::store::state::{Core, State, Step};
use crate::store::windows::holds::SegmentHold;
use crate::store::{Purpose, StoreOptions};
use crate::types::{LogId, LogPosition, MonotonicUs, Offset, SegmentNumber, TimestampMs};

/// What is to be done.
enum Work<F> {
    /// Give space back.
    Space(Job<F>),
    /// Compact logs that are due.
    Compaction,
}

/// Segments to empty, held.
struct Job<F> {
    victims: Vec<Victim<F>>,
    /// Bytes of entries that may be moved.
    live_bytes_max: u64,
}

/// A segment whose live rows are moved.
struct Victim<F> {
    number: SegmentNumber,
    file: F,
    segment_bytes: u32,
    hold: SegmentHold,
}

/// Why a job ended before its end.
enum Ended {
    /// The store failed or closes, or there is no file for what is moved: the victims stay as they are.
    GivenUp,
    /// A row of a segment cannot be read.
    Damaged(SegmentNumber, u32, String),
}

impl<R: Runtime> Core<R> {
    /// Does one job after the other while there are any, until the store stops.
    pub(in crate::store) async fn run_cleaner(self: Rc<Self>) {
        loop {
            let step = self.bells.clean.until(|| self.state.borrow_mut().next_job(&self)).await;
            let Step::Do(work) = step else { return };
            let (victims, ended) = match work {
                Work::Space(mut job) => {
                    let ended = self.clean(&mut job).await;
                    (job.victims.iter().map(|victim| victim.number).collect(), ended)
                }
                Work::Compaction => (Vec::new(), self.compact().await),
            };
            let mut state = self.state.borrow_mut();
            state.cleaning.is_running = false;
            match ended {
                Ok(()) => {
                    state.stats.cleaning_jobs += 1;
                    // What is left in them stays there.
                    let is_left = |number: &SegmentNumber| state.index.live_bytes(*number) > 0;
                    let stuck: Vec<SegmentNumber> = victims.into_iter().filter(is_left).collect();
                    state.cleaning.stuck.extend(stuck);
                    // Logs may be left that are due.
                    state.cleaning.is_wanted |= !state.cleaning.due.is_empty();
                }
                Err(Ended::GivenUp) => {}
                Err(Ended::Damaged(number, row, what)) => {
                    // The scrub may have told it meanwhile.
                    if state.cleaning.on_damaged_row(number, row) {
                        tracing::error!(shard = %self.options.shard, "{what}: it stays where it is, and so does segment {number}");
                        state.stats.damaged_rows += 1;
                    }
                    state.cleaning.is_wanted = true;
                }
            }
            // What was emptied is free once a checkpoint names what took its place.
            state.checkpoint_wanted |= std::mem::take(&mut state.cleaning.has_switched);
            drop(state);
            self.bells.checkpoint.ring();
            self.bells.footer.ring();
            self.bells.progress.ring();
        }
    }

    async fn clean(&self, job: &mut Job<R::File>) -> Result<(), Ended> {
        let mut copies = self.plan(job).await?;
        // The next output is as large as what is left, so that little of it stays unused.
        while !copies.is_empty() {
            self.go_on()?;
            let wanted: u64 = copies.iter().map(LiveRow::bytes_max).sum();
            let Some(file) = self.output_file(wanted, 0, Gives::Space).await else { return Err(Ended::GivenUp) };
            let built = self.build(job, file, &mut copies).await?;
            if let Some(built) = built {
                self.go_on()?;
                self.switch_to(built);
            }
        }
        Ok(())
    }

    /// Whether the job may go on.
    fn go_on(&self) -> Result<(), Ended> {
        let state = self.state.borrow();
        if state.failure.is_some() || state.cleaning.is_closing { Err(Ended::GivenUp) } else { Ok(()) }
    }

    /// The live rows of the victims, in the order in which they are written: by remaining life, log and offset. Those for which
    /// there is no room are no victims any more.
    async fn plan(&self, job: &mut Job<R::File>) -> Result<VecDeque<LiveRow>, Ended> {
        let mut copies = Vec::new();
        let mut left = job.live_bytes_max;
        let mut planned = job.victims.len();
        for (index, victim) in job.victims.iter().enumerate() {
            let unwritten = self.state.borrow().index.unwritten_rows(victim.number);
            let rows = match unwritten {
                Some(rows) => rows,
                None => match self.cold.directory(&victim.file, victim.segment_bytes, &victim.hold).await {
                    Ok(rows) => rows,
                    // Its readers find what it holds by its entries.
                    Err(error) => {
                        tracing::warn!(shard = %self.options.shard, "{error}: what is live there stays");
                        self.state.borrow_mut().cleaning.stuck.insert(victim.number);
                        continue;
                    }
                },
            };
            let mut of_victim = Vec::new();
            for (count, row) in rows.iter().enumerate() {
                if (count + 1) % CLEAN_ROWS_PER_YIELD == 0 {
                    self.runtime.yield_now().await;
                }
                let directory_row = u32::try_from(count).expect("rows fit a segment");
                let state = self.state.borrow();
                let is_damaged = state.cleaning.is_damaged_row(victim.number, directory_row);
                if state.index.has_row(victim.number, directory_row, row) && !is_damaged {
                    of_victim.push(LiveRow { victim: index, directory_row, row: *row, life: 0 });
                }
            }
            let bytes: u64 = of_victim.iter().map(LiveRow::bytes_max).sum();
            let is_first = copies.is_empty();
            if !is_first && (bytes > left || copies.len() + of_victim.len() > CLEAN_ROWS_MAX) {
                planned = index;
                break;
            }
            left = left.saturating_sub(bytes);
            copies.append(&mut of_victim);
            self.go_on()?;
        }
        job.victims.truncate(planned);
        let now = self.runtime.wall_clock();
        for copy in &mut copies {
            copy.life = self.life_class(copy.row.log, copy.row.timestamp_max, now);
        }
        copies.sort_by_key(|copy| (copy.life, copy.row.log, copy.row.base_offset));
        Ok(copies.into())
    }

    /// How long what has this timestamp will stay, roughly: what dies together should lie together.
    fn life_class(&self, log: LogId, timestamp: TimestampMs, now: TimestampMs) -> u8 {
        const MINUTES: [i64; 4] = [10, 60, 24 * 60, 7 * 24 * 60];
        let owner = self.owner.borrow().clone();
        let Some(retention_ms) = owner.and_then(|owner| owner.retention_ms(log)) else { return 4 };
        let left_ms = timestamp.value().saturating_add(retention_ms).saturating_sub(now.value());
        let class = MINUTES.iter().position(|minutes| left_ms <= minutes * 60_000).unwrap_or(MINUTES.len());
        u8::try_from(class).expect("a handful of classes")
    }

    /// Writes as many of the copies as fit into the file. `None` when none does, and none is left.
    async fn build(
        &self,
        job: &Job<R::File>,
        file: SegmentFile<R::File>,
        copies: &mut VecDeque<LiveRow>,
    ) -> Result<Option<Built<R::File>>, Ended> {
        let mut builder = self.open_output(file);
        let filled = self.fill(job, &mut builder, copies).await;
        self.close_output(builder, filled).await
    }

    async fn fill(
        &self,
        job: &Job<R::File>,
        builder: &mut Builder<R>,
        copies: &mut VecDeque<LiveRow>,
    ) -> Result<(), Ended> {
        let mut rows = Rows::new(&self.cold, &self.runtime);
        let is_in_a_hurry = self.state.borrow().is_far_too_large(&self.options);
        while let Some(copy) = copies.front() {
            let is_moved =
                self.state.borrow().index.log_start(copy.row.log).is_some_and(|start| copy.row.end_offset > start);
            if !is_moved {
                // It died meanwhile.
                rows.forget_first();
                copies.pop_front();
                continue;
            }
            if !builder.has_room(copy) && builder.is_empty() {
                // Hardly anything in its segment is dead.
                self.state.borrow_mut().cleaning.stuck.insert(job.victims[copy.victim].number);
                rows.forget_first();
                copies.pop_front();
                continue;
            }
            if !builder.has_room(copy) {
                return Ok(());
            }
            let (copy, victim) = (*copy, &job.victims[copy.victim]);
            let began = self.runtime.now();
            rows.start_ahead(&job.victims, copies, |number, row| {
                self.state.borrow().index.unwritten_extents(number, row)
            });
            let log_start = self.state.borrow().index.log_start(copy.row.log).expect("it lives");
            let partition = self.state.borrow().partitions.get(&copy.row.log).copied().expect("a log has a partition");
            let failed = |cause| self.output_failed(&cause);
            builder.begin_row(&copy, victim.number, log_start, partition).await.map_err(failed)?;
            let mut mover = Mover { core: self, builder, began, bytes: 0, is_in_a_hurry };
            let given = rows.give_first(victim, &copy, log_start, &mut mover).await;
            let began = mover.began;
            given.map_err(|error| match error {
                rows::Error::Damaged(what) | rows::Error::NoRecords(what) => {
                    Ended::Damaged(victim.number, copy.directory_row, what)
                }
                rows::Error::Write(cause) => failed(cause),
                rows::Error::NoRoom => unreachable!("the builder had room for the row"),
                rows::Error::GivenUp => Ended::GivenUp,
            })?;
            builder.end_row(&copy).await.map_err(failed)?;
            copies.pop_front();
            self.state.borrow_mut().stats.moved_bytes += u64::from(copy.row.bytes);
            self.go_on()?;
            self.rest(self.runtime.now().since_us(began), is_in_a_hurry).await;
        }
        Ok(())
    }

    /// Leaves the disk and the core to others for a while: longer while the log's flushes are slow, not at all when space is
    /// short.
    async fn rest(&self, worked_us: u64, is_in_a_hurry: bool) {
        let is_short = is_in_a_hurry || self.state.borrow().space.is_full();
        let rest_us = if is_short { 0 } else { self.rest_us(worked_us, CLEAN_REST_FACTOR) };
        match rest_us {
            0 => self.runtime.yield_now().await,
            _ => self.runtime.sleep(Duration::from_micros(rest_us)).await,
        }
    }

    /// How long a job rests that worked so long, in microseconds: `factor` times as long, longer while flushes are slow.
    fn rest_us(&self, worked_us: u64, factor: u64) -> u64 {
        let slowdown = u64::from(COLD_READ_DEPTH / self.state.borrow().pace.depth());
        worked_us.saturating_mul(factor * slowdown).min(CLEAN_REST_MS_MAX * 1000)
    }
}

/// Moves what lives of a row as it is.
struct Mover<'a, R: Runtime> {
    core: &'a Core<R>,
    builder: &'a mut Builder<R>,
    /// Since when it has worked without a rest, and on how many bytes.
    began: MonotonicUs,
    bytes: u64,
    is_in_a_hurry: bool,
}

impl<R: Runtime> Sink for Mover<'_, R> {
    async fn take(&mut self, entry: &Entry<'_>, log_start: Offset, end: Offset) -> Result<(), rows::Error> {
        self.bytes += entry.header.entry_bytes();
        if !entry.batches().all(|batch| batch.crc_matches()) {
            return Err(rows::Error::Damaged("the crc of a batch differs".to_owned()));
        }
        if end <= log_start {
            return Ok(());
        }
        // Of what lies below the log start only whole batches go.
        let live = entry.batches().filter(|batch| batch.last_offset() >= log_start);
        self.builder.put(live, end).await.map_err(rows::Error::Write)
    }

    async fn pause(&mut self) -> Result<(), rows::Error> {
        self.core.go_on().map_err(|_| rows::Error::GivenUp)?;
        // A rest costs a timer: not for each of many small runs.
        if self.bytes < u64::from(CLEAN_READ_BYTES) {
            self.core.runtime.yield_now().await;
            return Ok(());
        }
        self.core.rest(self.core.runtime.now().since_us(self.began), self.is_in_a_hurry).await;
        (self.began, self.bytes) = (self.core.runtime.now(), 0);
        Ok(())
    }
}

impl<R: Runtime> State<R> {
    /// The next job; `None` while there is nothing to do. Space goes before compaction.
    fn next_job(&mut self, core: &Core<R>) -> Option<Step<Work<R::File>>> {
        if self.failure.is_some() || self.stopping {
            return Some(Step::Stop);
        }
        if self.cleaning.is_closing || !std::mem::take(&mut self.cleaning.is_wanted) {
            return None;
        }
        let work = match self.next_space_job(core) {
            Some(job) => Work::Space(job),
            None if !self.cleaning.due.is_empty() => Work::Compaction,
            None => return None,
        };
        self.cleaning.is_running = true;
        Some(Step::Do(work))
    }

    fn next_space_job(&mut self, core: &Core<R>) -> Option<Job<R::File>> {
        // What was looked at in vain looks the same until something is appended, dies, or is freed.
        let is_full = self.space.is_full();
        let seen =
            (self.stats.appended_bytes, self.live_bytes(), self.checkpoint_sequence, is_full, self.cleaning.is_quiet);
        if self.cleaning.seen_in_vain == Some(seen) {
            return None;
        }
        if cfg!(debug_assertions) {
            self.index.check();
        }
        let options = &core.options;
        let limits = self.limits(options)?;
        let mut candidates = self.candidates();
        if victims::may_be_any(&candidates, &limits) {
            self.foresee(core, &mut candidates);
        } else {
            candidates.clear();
        }
        let chosen = victims::choose(candidates, &limits);
        if chosen.is_empty() {
            self.cleaning.seen_in_vain = Some(seen);
            return None;
        }
        let victims = chosen.into_iter().map(|number| self.victim(number)).collect();
        Some(Job { victims, live_bytes_max: limits.live_bytes_max })
    }

    /// What the next job may take, and what it must give; `None` when there is no file for anything that is moved.
    pub(in crate::store) fn limits(&self, options: &StoreOptions) -> Option<Limits> {
        // What only puts things in order takes no room that clients may need before it gives it back.
        let room = self.space.limit_bytes(options, Purpose::Client) / 100 * CLEAN_THIN_USED_PERCENT_MAX;
        let puts_in_order = self.cleaning.is_quiet && self.segments.disk_bytes() <= room;
        Some(Limits {
            segment_bytes: u64::from(options.segment_bytes),
            block_bytes: u64::try_from(options.block_bytes).expect("a block size fits 64 bits"),
            live_bytes_max: self.movable_bytes(options)?,
            excess_bytes: self.excess_bytes(options),
            is_short: self.space.is_full(),
            thin_row_bytes: if puts_in_order { options.clean_thin_row_bytes } else { 0 },
        })
    }

    /// Bytes of rows that one job may move: what fits into the files that it can get.
    fn movable_bytes(&self, options: &StoreOptions) -> Option<u64> {
        let segment_bytes = u64::from(options.segment_bytes);
        let usual = self.segments.bytes_of_next(options.segment_bytes, options.segments_before_growth);
        let has_more = self.free_files() > self.files_reserved(options)
            || (!self.segments.out_of_space && self.may_create(options, usual));
        if has_more {
            return Some(CLEAN_LIVE_SEGMENTS_MAX * u64::from(usual));
        }
        // One file is kept for this: as much as fits into it.
        self.has_spare().then(|| segment_bytes - segment_bytes / 8)
    }

    /// Sealed segments in which something lives.
    pub(in crate::store) fn candidates(&self) -> Vec<Candidate> {
        let open = self.writer.appended().segment;
        let is_movable = |number: &SegmentNumber| self.is_settled(*number) && !self.cleaning.stuck.contains(number);
        let sealed = self.segments.live.iter().filter(|(number, _)| is_movable(number));
        let candidates = sealed.map(|(number, live)| {
            let file = live.file.as_ref().expect("just asked");
            Candidate {
                number: *number,
                bytes: file.allocated_bytes(),
                live_bytes: self.index.live_bytes(*number),
                live_rows: self.index.live_rows(*number),
                built_bytes: self.cleaning.built.get(number).copied(),
                age: open.value().saturating_sub(number.value()) + 1,
                is_cold: live.header.stream == Stream::Cold,
                dies_soon: false,
                stays: true,
            }
        });
        // What is dead is freed without a job.
        candidates.filter(|candidate| candidate.live_bytes > 0).collect()
    }

    /// Whether a segment is sealed and all of it is durable, in its file: nothing will be written there but its footer.
    pub(in crate::store) fn is_settled(&self, number: SegmentNumber) -> bool {
        let Some(live) = self.segments.live.get(&number).filter(|live| live.file.is_some()) else { return false };
        let is_durable = |byte| LogPosition { segment: number, byte } <= self.durable;
        live.sealed_end.is_some_and(|end| live.header.stream == Stream::Cold || is_durable(end))
    }

    /// Says of each candidate how soon all that lives in it is dead. Goes over all rows.
    fn foresee(&self, core: &Core<R>, candidates: &mut [Candidate]) {
        let Some(owner) = core.owner.borrow().clone() else { return };
        let dead_at = self.index.segments_dead_at(|log| owner.retention_ms(log));
        let now = core.runtime.wall_clock().value();
        let soon = now.saturating_add(self.soon_ms(core));
        let lasting = now.saturating_add(CLEAN_THIN_STAYS_MS);
        for candidate in candidates {
            let dead_at = dead_at.get(&candidate.number).map(|at| at.value());
            candidate.dies_soon = dead_at.is_some_and(|at| at <= soon);
            candidate.stays = dead_at.is_none_or(|at| at > lasting);
        }
    }

    /// In how many milliseconds the store grows by a tenth: to wait so long costs nothing.
    fn soon_ms(&self, core: &Core<R>) -> i64 {
        let growth = self.live_bytes() / 10 + u64::from(core.options.segment_bytes);
        let rate = self.preparation.bytes_per_second(core.runtime.now());
        let soon_ms = growth.saturating_mul(1000).checked_div(rate).unwrap_or(u64::MAX).min(600_000);
        i64::try_from(soon_ms).expect("ten minutes")
    }

    /// Bytes of entries that are live, those of the open segment with them.
    pub(in crate::store) fn live_bytes(&self) -> u64 {
        self.index.all_live_bytes()
    }

    /// Bytes of disk above what the store should need: live data with some slack, and a number of segments.
    pub(in crate::store) fn excess_bytes(&self, options: &StoreOptions) -> u64 {
        let live = self.live_bytes();
        let usual = self.segments.bytes_of_next(options.segment_bytes, options.segments_before_growth);
        let kept = u64::try_from(1 + self.files_reserved(options)).expect("a few");
        let used = self.needed_bytes() + kept * u64::from(options.segment_bytes);
        used.saturating_sub(live + live / 100 * CLEAN_SLACK_PERCENT + options.clean_slack_segments * u64::from(usual))
    }

    /// So much above that the cleaner does not rest.
    fn is_far_too_large(&self, options: &StoreOptions) -> bool {
        self.excess_bytes(options) > self.live_bytes() / 4 + 8 * u64::from(options.segment_bytes)
    }

    /// Bytes of segments in which something lives, or that are not sealed: the others are free as soon as a checkpoint says so.
    fn needed_bytes(&self) -> u64 {
        let needed = self
            .segments
            .live
            .iter()
            .filter(|(number, live)| live.sealed_end.is_none() || self.index.live_bytes(**number) > 0);
        needed
            .map(|(_, live)| live.file.as_ref().map_or(u64::from(live.header.bytes), SegmentFile::allocated_bytes))
            .sum()
    }

    fn free_files(&self) -> usize {
        self.segments.free.len()
    }

    /// Whether a free file is left beside the reserve of the hot log. Of that none is taken: what was moved frees its sources
    /// only with a checkpoint, which waits for the hot log, which would wait for a file.
    fn has_spare(&self) -> bool {
        self.free_files() > FILES_RESERVED && self.segments.without_file().is_none()
    }

    /// A free file that is wanted, the smallest.
    fn take_free(&mut self, is_wanted: impl Fn(&SegmentFile<R::File>) -> bool) -> Option<SegmentFile<R::File>> {
        let wanted = self.segments.free.iter().enumerate().filter(|(_, file)| is_wanted(file));
        let (index, _) = wanted.min_by_key(|(_, file)| (file.bytes, file.bytes - file.prepared))?;
        self.segments.free.remove(index)
    }
}
