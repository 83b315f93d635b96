//! One life of a store under load: it opens, is compared with the model, and works until it is crashed or closed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use corelane::runtime::{Runtime, is_out_of_space};
use corelane::simulation::random::Random;
use corelane::simulation::{Crash, SimulatedRuntime};
use corelane::store::checkpoint::CheckpointError;
use corelane::store::{OpenError, Owner, ReadError, ScrubOptions, StorageError, Store, StoreOptions};
use corelane::types::{Durability, LogId, LogPosition, Offset, PartitionIndex, ShardId, TopicId};

use crate::batches::Content;
use crate::model::{Change, Logs, Model, Replayed};

/// Virtual time within which everything that was appended to a healthy store is flushed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What stays the same over all lives of one run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) segment_bytes: u32,
    pub(crate) block_bytes: usize,
    pub(crate) memory_bytes: u64,
    pub(crate) budget_bytes: u64,
    pub(crate) checkpoint_interval_ms: u64,
    pub(crate) written_flush_interval_ms: u64,
    /// Logs that exist at one time.
    pub(crate) logs_max: usize,
    pub(crate) appenders: u64,
    pub(crate) readers: u64,
    /// Size of the records part of every batch; random when none.
    pub(crate) records_bytes: Option<usize>,
    pub(crate) flushed_percent: u64,
    /// Segments of one size before new files are larger.
    pub(crate) segments_before_growth: u64,
    /// Segments in use beside live data and its slack: with none the cleaner works whenever it can.
    pub(crate) clean_slack_segments: u64,
    /// Above 0 it puts thin segments in order.
    pub(crate) clean_thin_row_bytes: u64,
    /// How much old data is read again, in bytes per second; 0 for none.
    pub(crate) scrub_bytes_per_second: u64,
    /// How often the administrator deletes, of all it does.
    pub(crate) delete_percent: u64,
    /// Longest pause of a task between two acts, in microseconds.
    pub(crate) pause_us_max: u64,
    /// The device has little room, or none.
    pub(crate) is_short_of_space: bool,
    /// Logs are compacted, and lives end with hours of rest.
    pub(crate) is_compacted: bool,
    /// Some logs keep what they get while others let go of it, so that little lives in many segments.
    pub(crate) is_mixed: bool,
}

impl Plan {
    /// A plan of a kind that depends on the seed.
    pub(crate) fn draw(random: &mut Random) -> Plan {
        let block_bytes = *random.pick(&[8192, 16384, 65536]);
        let blocks_per_segment = *random.pick(&[4, 8]);
        let segment_bytes = u32::try_from(block_bytes * blocks_per_segment).unwrap();
        // With equal batches, what a crash cut off is overwritten by entries that end at the same places.
        let records_bytes = match random.below(3) {
            0 => Some(*random.pick(&[91, 403, 1427, 3987])),
            1 => Some(100),
            _ => None,
        };
        Plan {
            segment_bytes,
            block_bytes,
            memory_bytes: u64::try_from(block_bytes).unwrap() * *random.pick(&[8, 16, 64]),
            budget_bytes: u64::from(segment_bytes) * *random.pick(&[12, 24, 64]),
            checkpoint_interval_ms: *random.pick(&[1, 10, 100, 10_000]),
            written_flush_interval_ms: *random.pick(&[1, 50]),
            logs_max: *random.pick(&[1, 3, 12]),
            appenders: random.range(1..6),
            readers: random.range(0..3),
            records_bytes,
            flushed_percent: *random.pick(&[0, 50, 100]),
            segments_before_growth: *random.pick(&[1, 2, 4, 64]),
            clean_slack_segments: *random.pick(&[0, 1, 6]),
            clean_thin_row_bytes: *random.pick(&[0, 0, 2000, 100_000]),
            scrub_bytes_per_second: *random.pick(&[0, 8 << 20, 256 << 20]),
            delete_percent: *random.pick(&[0, 10, 60]),
            pause_us_max: *random.pick(&[1, 100, 3000]),
            is_short_of_space: false,
            is_mixed: false,
            is_compacted: false,
        }
    }

    /// The same with much for the cleaner to do.
    pub(crate) fn be_mixed(&mut self, random: &mut Random) {
        self.logs_max = *random.pick(&[4, 12, 30]);
        self.delete_percent = *random.pick(&[0, 5]);
        self.clean_slack_segments = *random.pick(&[0, 0, 2, 6]);
        self.checkpoint_interval_ms = *random.pick(&[1, 10, 100]);
        self.budget_bytes = u64::from(self.segment_bytes) * random.pick(&[24, 64, 200]);
        self.pause_us_max = *random.pick(&[1, 100, 1000]);
        self.is_mixed = true;
    }

    /// The same for logs of keyed records.
    pub(crate) fn be_compacted(&mut self, random: &mut Random) {
        self.logs_max = *random.pick(&[1, 2, 5, 12]);
        self.checkpoint_interval_ms = *random.pick(&[20, 100, 1000]);
        self.budget_bytes = u64::from(self.segment_bytes) * random.pick(&[64, 200]);
        self.pause_us_max = *random.pick(&[1, 100, 1000]);
        self.is_compacted = true;
    }

    /// Whether a log keeps what it gets, in a mixed plan.
    fn keeps(&self, log: LogId) -> bool {
        self.is_mixed && log.value().is_multiple_of(3)
    }

    /// The same for a device without room. The reserve is some files of a segment each, so that segments are of a size which
    /// a few dozen deletions and creations, a unit each, do not fill.
    pub(crate) fn be_short_of_space(&mut self, random: &mut Random) {
        self.segment_bytes = u32::try_from(self.block_bytes).unwrap() * if self.block_bytes == 8192 { 32 } else { 16 };
        self.budget_bytes = u64::from(self.segment_bytes) * random.pick(&[4, 12, 64]);
        self.checkpoint_interval_ms = self.checkpoint_interval_ms.min(100);
        self.records_bytes = self.records_bytes.map(|bytes| bytes.max(1427));
        self.pause_us_max = self.pause_us_max.min(100);
        self.is_short_of_space = true;
    }

    /// How a store of this plan is opened.
    pub(crate) fn options(&self, rebuild: bool) -> StoreOptions {
        let directory = PathBuf::from("/data/shard-0");
        let mut options = StoreOptions::new(ShardId::new(0), directory, self.memory_bytes, self.budget_bytes);
        options.segment_bytes = self.segment_bytes;
        options.segments_before_growth = self.segments_before_growth;
        options.clean_slack_segments = self.clean_slack_segments;
        options.clean_thin_row_bytes = self.clean_thin_row_bytes;
        options.block_bytes = self.block_bytes;
        options.checkpoint_interval_ms = self.checkpoint_interval_ms;
        options.checkpoint_appended_bytes = 4 * u64::from(self.segment_bytes);
        options.written_flush_interval_ms = self.written_flush_interval_ms;
        let interval_ms = match self.is_mixed || self.is_short_of_space {
            _ if self.is_compacted => 20_000,
            // These lives end with minutes of rest.
            true => 500,
            false => 20,
        };
        options.scrub = ScrubOptions { bytes_per_second: self.scrub_bytes_per_second, tick_ms: 1, interval_ms };
        options.rebuild = rebuild;
        options
    }
}

/// How a life is to end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// After so many acts, if no crash came first: by this crash.
    Crash(u64, Crash),
    /// After so many acts: closed in good order.
    Close(u64),
}

/// Opens the store and gives what it found.
pub(crate) async fn open(
    runtime: &SimulatedRuntime,
    options: StoreOptions,
) -> Result<(Store<SimulatedRuntime>, Logs), OpenError> {
    let mut replayed = Replayed::default();
    let store = Store::open(runtime.clone(), options, &mut replayed).await?;
    let logs = replayed.logs(&store.partitions());
    Ok((store, logs))
}

/// Reads every log of the model from its log start to its end and compares. `flipped`: a bit on disk is wrong, so a log
/// may be reported damaged from some batch on, but never give other bytes.
pub(crate) async fn check_contents(store: &Store<SimulatedRuntime>, model: &RefCell<Model>, flipped: bool) {
    let logs: Vec<LogId> = model.borrow().logs.keys().copied().collect();
    'logs: for log in logs {
        let batches = model.borrow().batches(log);
        let mut offset = model.borrow().logs[&log].log_start;
        let end = model.borrow().logs[&log].log_end;
        let mut batches = batches.iter();
        while offset < end {
            let read = store.read(log, offset, end, 20_000, true).await;
            if flipped && matches!(read, Err(ReadError::Damaged { .. })) {
                continue 'logs;
            }
            let read = read.unwrap_or_else(|error| panic!("log {log} from {offset} of {end}: {error}"));
            let next_offset = read.next_offset;
            let bytes = joined(read.slices);
            assert!(!bytes.is_empty(), "log {log}: nothing at {offset} though the end is {end}");
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let expected = batches.next().unwrap_or_else(|| panic!("log {log}: more than was appended"));
                let found = &rest[..rest.len().min(expected.bytes.len())];
                assert!(found == expected.bytes, "log {log}: another batch at {}", expected.base);
                rest = &rest[expected.bytes.len()..];
                offset = Offset::new(expected.last.value() + 1);
            }
            assert_eq!(next_offset, offset, "log {log}: a read says where it goes on");
        }
        assert!(batches.next().is_none(), "log {log}: less than was appended");
    }
}

pub(crate) fn joined<B: corelane::runtime::Buffer>(slices: Vec<corelane::runtime::block::Slice<B>>) -> Vec<u8> {
    slices.iter().flat_map(|slice| slice.as_slice().iter().copied()).collect()
}

/// What the tasks of one life share.
struct Life {
    runtime: SimulatedRuntime,
    store: Store<SimulatedRuntime>,
    plan: Plan,
    model: Rc<RefCell<Model>>,
    gate: Rc<Gate>,
    /// Acts so far.
    acts: Cell<u64>,
    stopping: Cell<bool>,
    tasks: Cell<u64>,
}

/// Wakes those who wait for progress, and knows the shard's state for checkpoints.
struct Gate {
    waiting: RefCell<Vec<Waker>>,
    model: Rc<RefCell<Model>>,
}

impl Owner for Gate {
    fn on_progress(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    fn snapshot(&self, log: LogId, out: &mut Vec<u8>) {
        let model = self.model.borrow();
        model.logs.get(&log).expect("a snapshot is asked for logs that exist").shadow.encode(out);
    }

    fn retention_ms(&self, log: LogId) -> Option<i64> {
        // Nothing goes by time here, so none may say that it soon will.
        [None, Some(1 << 33), Some(1 << 40)][usize::try_from(log.value() % 3).expect("a remainder")]
    }
}

/// One life of the store. `faulty`: the disk fails on purpose, so opening may fail and the store may become read-only.
pub(crate) async fn live(
    runtime: SimulatedRuntime,
    plan: Plan,
    model: Rc<RefCell<Model>>,
    mut random: Random,
    ending: Ending,
    faulty: bool,
) {
    let (store, found) = match open(&runtime, plan.options(false)).await {
        Ok(opened) => opened,
        Err(
            OpenError::Io { .. } | OpenError::Unreadable { .. } | OpenError::Checkpoint(CheckpointError::Io { .. }),
        ) if faulty => return,
        // The room went before the reserve was made; where it was, `store::tests::space` starts again and again.
        Err(OpenError::Io { cause, .. }) if plan.is_short_of_space && is_out_of_space(&cause) => return,
        Err(error) => panic!("the store does not open: {error}"),
    };
    let lost = model.borrow_mut().recover(&found);
    runtime.note("recovered", [u64::try_from(found.len()).unwrap(), u64::try_from(lost).unwrap(), 0]);
    model.borrow_mut().observe(store.progress());
    check_contents(&store, &model, false).await;
    let gate = Rc::new(Gate { waiting: RefCell::new(Vec::new()), model: Rc::clone(&model) });
    store.set_owner(Rc::clone(&gate) as Rc<dyn Owner>);
    let life = Rc::new(Life {
        runtime,
        store,
        plan,
        model,
        gate,
        acts: Cell::new(0),
        stopping: Cell::new(false),
        tasks: Cell::new(0),
    });
    life.start(&mut random);
    life.finish(ending, faulty).await;
}

impl Life {
    fn start(self: &Rc<Self>, random: &mut Random) {
        let life = Rc::clone(self);
        let seed = random.split();
        self.task(async move { life.administrate(seed).await });
        for _ in 0..self.plan.appenders {
            let (life, seed) = (Rc::clone(self), random.split());
            self.task(async move { life.append_on_and_on(seed).await });
        }
        for _ in 0..self.plan.readers {
            let (life, seed) = (Rc::clone(self), random.split());
            self.task(async move { life.read_on_and_on(seed).await });
        }
    }

    fn task(self: &Rc<Self>, work: impl Future<Output = ()> + 'static) {
        self.tasks.set(self.tasks.get() + 1);
        let life = Rc::clone(self);
        self.runtime.spawn(async move {
            work.await;
            life.tasks.set(life.tasks.get() - 1);
        });
    }

    async fn finish(&self, ending: Ending, faulty: bool) {
        let (acts_max, crash) = match ending {
            Ending::Crash(acts, crash) => (acts, Some(crash)),
            Ending::Close(acts) => (acts, None),
        };
        while self.acts.get() < acts_max && self.store.failure().is_none() {
            self.runtime.sleep(Duration::from_micros(300)).await;
        }
        if let Some(failure) = self.store.failure() {
            assert!(faulty, "the store failed on a healthy disk: {failure}");
            self.check_read_only().await;
            // What a failed flush gave up can still be read until the power is cut; nothing acknowledged it.
            self.runtime.crash(Crash::Power);
            return std::future::pending().await;
        }
        // Nothing is, whatever was written, moved and used again meanwhile.
        assert_eq!(self.store.stats().damaged_rows, 0, "something is called damaged");
        if let Some(crash) = crash {
            self.runtime.crash(crash);
            return std::future::pending().await;
        }
        self.stopping.set(true);
        while self.tasks.get() > 0 {
            self.runtime.sleep(Duration::from_micros(300)).await;
        }
        if self.plan.is_short_of_space {
            self.heal().await;
        }
        if self.plan.is_mixed && self.store.failure().is_none() {
            self.come_to_rest().await;
        }
        match self.store.close().await {
            Ok(()) => {
                let progress = self.store.progress();
                assert_eq!(progress.durable, progress.appended, "closing leaves nothing behind");
                self.model.borrow_mut().observe(progress);
            }
            Err(error) => assert!(faulty, "closing failed on a healthy disk: {error}"),
        }
    }

    /// Once nobody appends, the store takes no more space than it should, and what is left is all there; then nothing moves.
    async fn come_to_rest(&self) {
        let mut jobs = self.store.stats().cleaning_jobs;
        for _ in 0..200 {
            // A job rests a fifth of a second for each row at the most.
            self.runtime.sleep(Duration::from_secs(60)).await;
            let stats = self.store.stats();
            if self.store.failure().is_some() {
                return;
            }
            if std::mem::replace(&mut jobs, stats.cleaning_jobs) == stats.cleaning_jobs {
                let segment_bytes = u64::from(self.plan.segment_bytes);
                // Header, footer and the rest of a last block are a third of so small a segment.
                let slack = self.plan.clean_slack_segments.max(6) + 2;
                let bound = stats.live_bytes * 2 + slack * segment_bytes;
                // A store whose segments grow counts in the larger ones.
                let grows = self.plan.segments_before_growth < 64;
                assert!(grows || stats.used_bytes <= bound, "space does not come back: {stats:?}");
                if !self.plan.is_short_of_space {
                    check_contents(&self.store, &self.model, false).await;
                }
                return;
            }
        }
        panic!("the cleaner does not end: {:?}", self.store.stats());
    }

    /// Deletes all that there is, which must need no room but the reserve, and finds room for records then: however full the
    /// device is, since everything but a few files was taken by what is deleted. No restart is needed.
    async fn heal(&self) {
        let logs: Vec<LogId> = self.model.borrow().logs.keys().copied().collect();
        // Where the room went before the reserve was made, there is none.
        let has_reserve = self.store.stats().segments_free >= 2;
        // Clients take what they can: no deletion finds room beside them in the open segment.
        let mut random = Random::new(1);
        for records_bytes in [self.plan.block_bytes / 2, 700, 39] {
            for _ in 0..3000 {
                let Some(log) = logs.first() else { break };
                if self.store.reserve(61 + records_bytes).await.is_err() {
                    break;
                }
                self.append(&mut random, *log, records_bytes, Durability::Written);
            }
        }
        for log in logs {
            let end = self.store.delete(log);
            if matches!(end, Err(StorageError::Full { is_device_full: true, .. })) && !has_reserve {
                return;
            }
            let end = end.unwrap_or_else(|error| panic!("{log} is not deleted: {error}: {:?}", self.store.stats()));
            self.model.borrow_mut().change(end, Change::Delete { log });
            self.reached(end, Durability::Flushed).await;
        }
        let files = self.runtime.disk().used_bytes();
        let few = 6 * u64::from(self.plan.segment_bytes) + 1_000_000;
        for _ in 0..600 {
            match self.store.try_reserve(1000) {
                Some(Ok(())) => return,
                Some(Err(StorageError::Full { .. })) if files < few => return,
                Some(Err(StorageError::Full { .. })) | None => self.runtime.sleep(Duration::from_millis(100)).await,
                Some(Err(error)) => panic!("{error}"),
            }
        }
        panic!("there is no room though all was deleted: {files} bytes, {:?}", self.store.stats());
    }

    /// A store that failed says so to everyone and acknowledges nothing more.
    async fn check_read_only(&self) {
        let durable = self.store.progress().durable;
        self.runtime.sleep(Duration::from_secs(1)).await;
        assert_eq!(self.store.progress().durable, durable, "durable moved after a failure");
        assert!(matches!(self.store.try_reserve(100), Some(Err(StorageError::ReadOnly { .. }))));
        let created = self.store.create(TopicId::new([9; 16]), PartitionIndex::new(0));
        assert!(matches!(created, Err(StorageError::ReadOnly { .. })));
    }

    async fn pause(&self, random: &mut Random) {
        self.acts.set(self.acts.get() + 1);
        if random.chance(1, 4) {
            self.runtime.yield_now().await;
        } else {
            self.runtime.sleep(Duration::from_micros(random.below(self.plan.pause_us_max) + 1)).await;
        }
    }

    fn any_log(&self, random: &mut Random) -> Option<LogId> {
        let model = self.model.borrow();
        if model.logs.is_empty() {
            return None;
        }
        let mut log = || model.logs.keys().nth(random.index(model.logs.len())).copied();
        let first = log()?;
        // Those that keep what they get, get little.
        if self.plan.keeps(first) { log() } else { Some(first) }
    }

    /// Ends when the level has reached `end`; false when the store failed instead.
    async fn reached(&self, end: LogPosition, durability: Durability) -> bool {
        let mut patience = pin!(self.runtime.sleep(PATIENCE));
        poll_fn(|context| {
            let progress = self.store.progress();
            self.model.borrow_mut().observe(progress);
            let level = match durability {
                Durability::Written => progress.written,
                Durability::Flushed => progress.durable,
            };
            if level >= end {
                return Poll::Ready(true);
            }
            if self.store.failure().is_some() {
                return Poll::Ready(false);
            }
            self.gate.waiting.borrow_mut().push(context.waker().clone());
            let patient = patience.as_mut().poll(context).is_pending();
            assert!(patient, "{end} is not {} after {PATIENCE:?}: {progress:?}", durability.word());
            Poll::Pending
        })
        .await
    }

    async fn append_on_and_on(&self, mut random: Random) {
        while !self.stopping.get() {
            self.pause(&mut random).await;
            let records_bytes = self.plan.records_bytes.unwrap_or_else(|| self.draw_records_bytes(&mut random));
            if self.store.reserve(records_bytes + 61).await.is_err() {
                continue; // Full, or failed: the main task looks after it.
            }
            // The log is chosen after the wait: it must still exist.
            let Some(log) = self.any_log(&mut random) else { continue };
            let flushed = random.chance(self.plan.flushed_percent, 100);
            let durability = if flushed { Durability::Flushed } else { Durability::Written };
            let Some(end) = self.append(&mut random, log, records_bytes, durability) else { continue };
            if random.chance(9, 10) && !self.reached(end, durability).await {
                return;
            }
        }
    }

    fn draw_records_bytes(&self, random: &mut Random) -> usize {
        match random.below(10) {
            0 => random.index(self.plan.block_bytes),
            1 => random.index(20_000.min(self.plan.block_bytes * 2)),
            _ => random.index(700),
        }
    }

    fn append(
        &self,
        random: &mut Random,
        log: LogId,
        records_bytes: usize,
        durability: Durability,
    ) -> Option<LogPosition> {
        let base = self.model.borrow().logs[&log].log_end;
        // Equal batches are equal in their offsets too: what was cut off fits behind what took its place.
        let count = if self.plan.records_bytes.is_some() { 3 } else { i32::try_from(random.range(1..20)).unwrap() };
        let content = Rc::new(Content::draw(random, log, base, count, records_bytes));
        match self.store.append(log, content.batch(), durability) {
            Ok(end) => {
                self.model.borrow_mut().change(end, Change::Append(content));
                Some(end)
            }
            Err(StorageError::Full { .. } | StorageError::ReadOnly { .. }) => None,
            Err(error) => panic!("an append that must be taken was refused: {error}"),
        }
    }

    /// Creates, deletes, moves log starts.
    async fn administrate(&self, mut random: Random) {
        while !self.stopping.get() {
            let logs = self.model.borrow().logs.len();
            let end = if self.plan.logs_max > 1 && random.chance(1, 30) {
                self.churn(&mut random)
            } else if logs == 0 || (logs < self.plan.logs_max && random.chance(1, 2)) {
                self.create(&mut random)
            } else if random.chance(self.plan.delete_percent, 100) {
                self.delete(&mut random)
            } else {
                self.move_log_start(&mut random)
            };
            if let Some(end) = end
                && random.chance(1, 2)
                && !self.reached(end, Durability::Flushed).await
            {
                return;
            }
            for _ in 0..random.below(6) {
                self.pause(&mut random).await;
            }
            self.pause(&mut random).await;
        }
    }

    /// Creates and deletes many logs in one step, as a broker does with a topic of many partitions: such entries ask for no
    /// room first, so the log may be two segments further before the file of the next one is there.
    fn churn(&self, random: &mut Random) -> Option<LogPosition> {
        let mut end = None;
        for _ in 0..random.range(1..1500) {
            self.create(random)?;
            let newest = *self.model.borrow().logs.keys().next_back().expect("one was just created");
            end = Some(self.delete_log(newest)?);
        }
        end
    }

    fn create(&self, random: &mut Random) -> Option<LogPosition> {
        let mut topic = [0; 16];
        random.bytes(&mut topic);
        let (topic, partition) = (TopicId::new(topic), PartitionIndex::new(i32::try_from(random.below(4)).unwrap()));
        let (log, end) = self.taken(self.store.create(topic, partition))?;
        self.model.borrow_mut().change(end, Change::Create { log, topic, partition });
        Some(end)
    }

    fn delete(&self, random: &mut Random) -> Option<LogPosition> {
        self.delete_log(self.any_log(random)?)
    }

    fn delete_log(&self, log: LogId) -> Option<LogPosition> {
        let end = self.taken(self.store.delete(log))?;
        self.model.borrow_mut().change(end, Change::Delete { log });
        Some(end)
    }

    fn move_log_start(&self, random: &mut Random) -> Option<LogPosition> {
        let log = self.any_log(random)?;
        let (log_start, log_end) = {
            let model = self.model.borrow();
            (model.logs[&log].log_start, model.logs[&log].log_end)
        };
        if self.plan.keeps(log) && random.chance(19, 20) {
            return None;
        }
        let span = u64::try_from(log_end.since(log_start)).unwrap();
        // Mostly nearly everything goes, so that segments die and are reused.
        let step = if random.chance(3, 4) { span - span / 8 } else { random.below(span + 1) };
        if step == 0 {
            return None;
        }
        let offset = Offset::new(log_start.value() + i64::try_from(step).unwrap());
        let end = self.taken(self.store.set_log_start(log, offset))?;
        self.model.borrow_mut().change(end, Change::LogStart { log, offset });
        Some(end)
    }

    fn taken<T>(&self, result: Result<T, StorageError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(StorageError::Full { .. } | StorageError::ReadOnly { .. }) => None,
            Err(error) => panic!("a change that must be taken was refused: {error}"),
        }
    }

    async fn read_on_and_on(&self, mut random: Random) {
        while !self.stopping.get() {
            self.pause(&mut random).await;
            let Some(log) = self.any_log(&mut random) else { continue };
            let (log_start, log_end) = {
                let model = self.model.borrow();
                (model.logs[&log].log_start, model.logs[&log].log_end)
            };
            let span = u64::try_from(log_end.since(log_start)).unwrap();
            let offset = Offset::new(log_start.value() + i64::try_from(random.below(span + 1)).unwrap());
            let expected = self.model.borrow().batch_at(log, offset);
            let bytes_max = *random.pick(&[1, 1000, 30_000]);
            match self.store.read(log, offset, log_end, bytes_max, true).await {
                Ok(read) => self.check_read(log, offset, expected, &joined(read.slices)),
                // It was deleted, or its start moved, while the read was under way.
                Err(ReadError::UnknownLog { .. }) => assert!(!self.model.borrow().logs.contains_key(&log)),
                Err(ReadError::OutOfRange { .. }) => {
                    let now = self.model.borrow().logs.get(&log).map(|state| state.log_start);
                    assert!(now.is_none_or(|start| start > offset), "log {log}: {offset} is in range");
                }
                Err(error) => panic!("log {log} from {offset}: {error}"),
            }
        }
    }

    fn check_read(&self, log: LogId, offset: Offset, expected: Option<Rc<Content>>, bytes: &[u8]) {
        let Some(first) = expected else {
            assert!(bytes.is_empty(), "log {log}: something was read at its end {offset}");
            return;
        };
        assert!(
            bytes.starts_with(&first.bytes),
            "log {log}: another batch at {offset}, or none: {} bytes, {} expected",
            bytes.len(),
            first.bytes.len()
        );
        let mut rest = &bytes[first.bytes.len()..];
        let mut next = Offset::new(first.last.value() + 1);
        while !rest.is_empty() {
            let found = Offset::new(i64::from_be_bytes(rest[..8].try_into().unwrap()));
            let log_start = self.model.borrow().logs.get(&log).map(|state| state.log_start);
            if found > next && log_start.is_none_or(|log_start| log_start > next) {
                // The log start moved while the read was under way, and what lies below it was passed over.
                next = found;
            }
            let batch = self.model.borrow().batch_at(log, next).expect("more was read than appended");
            assert!(
                rest.starts_with(&batch.bytes),
                "log {log}: a read from {offset} gave another batch at {next}: {found} after {} of {} bytes",
                bytes.len() - rest.len(),
                bytes.len()
            );
            rest = &rest[batch.bytes.len()..];
            next = Offset::new(batch.last.value() + 1);
        }
    }
}
