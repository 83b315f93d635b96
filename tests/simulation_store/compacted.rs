//! Compacted logs: keyed records of all codecs, passes at random moments, crashes, and what readers must find at any time.
//!
//! Checked after every opening and now and then: every record that is found is one that was appended at its offset; the last
//! value of each key is there, and no key that was deleted comes back; below the end of the clean part no key has two
//! records; a log that is at rest is compacted to the open segment.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use corelane::compaction::{Candidate, CompactionRules};
use corelane::protocol::compression::{Codec, Scratch};
use corelane::protocol::record_batch::{BatchBuilder, BatchView, RecordsIter, stamp};
use corelane::runtime::Runtime;
use corelane::simulation::random::Random;
use corelane::simulation::{Crash, SimulatedRuntime};
use corelane::store::{
    BATCH_HEADER_BYTES, Batch, DueLog, Owner, PartitionRecord, Replay, StateError, StorageError, Store,
};
use corelane::types::{Durability, LeaderEpoch, LogId, LogPosition, Offset, PartitionIndex, TimestampMs, TopicId};

use crate::workload::{Ending, Plan, joined};

/// A record as it was appended.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Row {
    key: u32,
    value: Option<Vec<u8>>,
    /// Where the log must reach for it to be safe.
    end: LogPosition,
}

/// One log: its records by offset, from the first ever on.
#[derive(Clone, Debug, Default)]
struct Log {
    rows: Vec<Row>,
    log_start: usize,
    /// Log starts and when each is safe.
    starts: Vec<(LogPosition, usize)>,
    /// As its owner knows it.
    clean_end: Offset,
}

/// All logs, and what was seen safe of them.
#[derive(Clone, Default)]
pub(crate) struct Model {
    logs: BTreeMap<LogId, Log>,
    written: LogPosition,
    durable: LogPosition,
    power_was_cut: bool,
}

impl Model {
    pub(crate) fn on_end(&mut self, crash: Option<Crash>) {
        self.power_was_cut |= crash == Some(Crash::Power);
    }

    fn observe(&mut self, store: &Store<SimulatedRuntime>) {
        let progress = store.progress();
        (self.written, self.durable) = (progress.written, progress.durable);
    }

    /// Takes in what is left after a crash: no less than what was safe.
    fn recover(&mut self, store: &Store<SimulatedRuntime>, clean_ends: &BTreeMap<LogId, Offset>) {
        let safe = if self.power_was_cut { self.durable } else { self.written };
        for (id, log) in &mut self.logs {
            let Some(found) = store.partition(*id) else {
                assert!(log.rows.iter().all(|row| row.end > safe), "log {id} is gone");
                *log = Log::default();
                continue;
            };
            let end = index(found.log_end);
            let lost = log.rows.iter().skip(end).find(|row| row.end <= safe);
            assert!(lost.is_none(), "log {id} ends at {end}: {lost:?} is lost");
            log.rows.truncate(end);
            assert_eq!(log.rows.len(), end, "log {id} has more than was appended");
            let safe_start = log.starts.iter().filter(|(end, _)| *end <= safe).map(|(_, start)| *start).max();
            log.log_start = index(found.log_start);
            assert!(log.log_start >= safe_start.unwrap_or(0), "log {id}: its start went back");
            log.clean_end = clean_ends.get(id).copied().unwrap_or_default();
            for row in &mut log.rows {
                row.end = LogPosition::default();
            }
            log.starts.clear();
        }
        (self.written, self.durable, self.power_was_cut) = (LogPosition::default(), LogPosition::default(), false);
    }
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset.value()).unwrap()
}

fn offset(index: usize) -> Offset {
    Offset::new(i64::try_from(index).unwrap())
}

/// Hears how far each log was clean.
#[derive(Default)]
struct Heard {
    clean_ends: BTreeMap<LogId, Offset>,
    ends: BTreeMap<LogId, Offset>,
}

impl Replay for Heard {
    fn on_partition(&mut self, partition: &PartitionRecord, state: &[u8]) -> Result<(), StateError> {
        let clean_end = state.try_into().map_or(0, i64::from_le_bytes);
        self.clean_ends.insert(partition.log, Offset::new(clean_end));
        self.ends.insert(partition.log, partition.log_end);
        Ok(())
    }

    fn on_batch(&mut self, log: LogId, header: &[u8; BATCH_HEADER_BYTES]) {
        let batch = corelane::protocol::record_batch::BatchHeader::parse(header);
        let end = self.ends.get_mut(&log).expect("a partition is told before its batches");
        // A rebuild finds gaps where compaction left nothing.
        assert!(batch.base_offset >= *end, "log {log}: {} was told already", batch.base_offset);
        *end = batch.last_offset().advance(1);
    }

    fn on_log_start(&mut self, _: LogId, _: Offset) {}

    fn on_delete(&mut self, log: LogId) {
        self.ends.remove(&log);
    }
}

struct Life {
    runtime: SimulatedRuntime,
    store: Store<SimulatedRuntime>,
    plan: Plan,
    model: Rc<RefCell<Model>>,
    rules: CompactionRules,
    keys: u64,
    acts: Cell<u64>,
}

struct LifeOwner {
    model: Rc<RefCell<Model>>,
    store: Store<SimulatedRuntime>,
}

impl Owner for LifeOwner {
    fn on_progress(&self) {
        self.model.borrow_mut().observe(&self.store);
    }

    fn snapshot(&self, log: LogId, out: &mut Vec<u8>) {
        let clean_end = self.model.borrow().logs.get(&log).map(|log| log.clean_end).unwrap_or_default();
        out.extend_from_slice(&clean_end.value().to_le_bytes());
    }

    fn on_compacted(&self, log: LogId, end: Offset) {
        let mut model = self.model.borrow_mut();
        let log = model.logs.get_mut(&log).expect("a known log");
        assert!(end >= log.clean_end || index(end) <= log.log_start, "the clean part grows");
        log.clean_end = log.clean_end.max(end);
    }

    fn on_not_compacted(&self, log: LogId, why: &str) {
        panic!("log {log} is whole, and was not compacted: {why}");
    }
}

/// Opens a copy: whether it does, and what every log holds is right.
pub(crate) async fn check_copy(runtime: SimulatedRuntime, plan: Plan, model: Rc<RefCell<Model>>, rebuild: bool) {
    let mut heard = Heard::default();
    let store = Store::open(runtime, plan.options(rebuild), &mut heard).await.expect("a copy opens");
    for partition in store.partitions() {
        assert_eq!(heard.ends[&partition.log], partition.log_end, "log {}", partition.log);
    }
    let mut copy = model.borrow().clone();
    copy.recover(&store, &heard.clean_ends);
    check_all(&store, &copy.logs, !rebuild).await;
}

/// One life of a store whose logs are compacted.
pub(crate) async fn live(
    runtime: SimulatedRuntime,
    plan: Plan,
    model: Rc<RefCell<Model>>,
    mut random: Random,
    ending: Ending,
) {
    let mut heard = Heard::default();
    let store = Store::open(runtime.clone(), plan.options(false), &mut heard).await.expect("the store opens");
    model.borrow_mut().recover(&store, &heard.clean_ends);
    let logs = model.borrow().logs.clone();
    check_all(&store, &logs, true).await;
    store.set_owner(Rc::new(LifeOwner { model: Rc::clone(&model), store: store.clone() }));
    let rules = CompactionRules {
        segment_bytes: 1,
        segment_ms: 1,
        segment_jitter_ms: 0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        dirty_ratio_min: 0.0,
        delete_retention_ms: *random.pick(&[0, 1, 20, 1 << 40]),
    };
    let keys = *random.pick(&[1, 7, 60, 1000]);
    let life = Life { runtime, store, plan, model, rules, keys, acts: Cell::new(0) };
    life.work(&mut random, ending).await;
}

impl Life {
    async fn work(&self, random: &mut Random, ending: Ending) {
        let (acts_max, crash) = match ending {
            Ending::Crash(acts, crash) => (acts, Some(crash)),
            Ending::Close(acts) => (acts, None),
        };
        while self.acts.get() < acts_max {
            self.acts.set(self.acts.get() + 1);
            self.act(random).await;
            if random.chance(1, 3) {
                self.runtime.sleep(Duration::from_micros(random.below(self.plan.pause_us_max) + 1)).await;
            }
        }
        assert_eq!(self.store.stats().damaged_rows, 0, "something is called damaged");
        if let Some(crash) = crash {
            self.runtime.crash(crash);
            return std::future::pending().await;
        }
        self.come_to_rest().await;
        self.store.close().await.expect("closing a healthy store");
        self.model.borrow_mut().observe(&self.store);
    }

    async fn act(&self, random: &mut Random) {
        let ids: Vec<LogId> = self.model.borrow().logs.keys().copied().collect();
        if ids.len() < self.plan.logs_max && random.chance(1, 4) {
            if let Ok((log, _)) = self.store.create(TopicId::new([7; 16]), PartitionIndex::new(0)) {
                self.model.borrow_mut().logs.insert(log, Log::default());
            }
            return;
        }
        if ids.is_empty() {
            return;
        }
        let log = *random.pick(&ids);
        if self.store.partition(log).is_none() {
            // Its creation was lost.
            self.model.borrow_mut().logs.remove(&log);
            return;
        }
        match random.below(40) {
            0 => self.look(),
            1 => drop(self.store.seal_open_segment()),
            2 => self.move_log_start(random, log),
            3 => {
                let state = self.model.borrow().logs[&log].clone();
                self.check_now(log, &state).await;
            }
            _ => self.append(random, log).await,
        }
    }

    /// Has all logs compacted of which anything is dirty.
    fn look(&self) {
        let model = self.model.borrow();
        let due = model.logs.iter().filter_map(|(id, log)| {
            let bound = self.store.settled_end(*id)?;
            let from = log.clean_end.max(offset(log.log_start));
            let candidate = Candidate { from, bound, dirty_bytes: 1, dirty_ratio: 1.0, is_due: false };
            (from < bound).then_some(DueLog { log: *id, candidate, rules: self.rules })
        });
        let due: Vec<DueLog> = due.collect();
        drop(model);
        self.store.compact(due, f64::MAX);
    }

    fn move_log_start(&self, random: &mut Random, id: LogId) {
        let mut model = self.model.borrow_mut();
        let log = model.logs.get_mut(&id).expect("a known log");
        let span = u64::try_from(log.rows.len() - log.log_start).unwrap();
        let to = log.log_start + usize::try_from(random.below(span / 4 + 1)).unwrap();
        if let Ok(end) = self.store.set_log_start(id, offset(to)) {
            log.log_start = to;
            log.starts.push((end, to));
        }
    }

    async fn append(&self, random: &mut Random, id: LogId) {
        let codec = *random.pick(&[Codec::None, Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]);
        let mut builder = BatchBuilder::new(codec);
        let mut rows = Vec::new();
        let value_bytes_max = *random.pick(&[3, 30, 700]);
        for _ in 0..random.range(1..30) {
            let key = u32::try_from(random.below(self.keys)).unwrap();
            let value = random.chance(4, 5).then(|| {
                let mut value = vec![0; random.index(value_bytes_max)];
                random.bytes(&mut value);
                value
            });
            let timestamp = TimestampMs::new(1_000_000 + i64::try_from(random.below(1000)).unwrap());
            builder.append(timestamp, Some(&key.to_be_bytes()), value.as_deref(), &[]);
            rows.push(Row { key, value, end: LogPosition::default() });
        }
        let mut bytes = builder.build();
        if self.store.reserve(bytes.len()).await.is_err() {
            return;
        }
        let base_offset = self.store.partition(id).expect("nobody deletes logs").log_end;
        stamp(bytes.first_chunk_mut().unwrap(), base_offset, LeaderEpoch::new(0));
        let view = BatchView::parse(&bytes).unwrap();
        let (header, records) = bytes.split_first_chunk().unwrap();
        let last_offset = view.header.last_offset();
        let batch = Batch { header, records, base_offset, last_offset, timestamp_max: view.header.max_timestamp };
        let durability = if random.chance(1, 2) { Durability::Flushed } else { Durability::Written };
        match self.store.append(id, batch, durability) {
            Ok(end) => {
                let mut model = self.model.borrow_mut();
                let log = model.logs.get_mut(&id).expect("a known log");
                assert_eq!(offset(log.rows.len()), base_offset);
                log.rows.extend(rows.into_iter().map(|row| Row { end, ..row }));
            }
            Err(StorageError::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// What a log holds while it is being compacted.
    async fn check_now(&self, id: LogId, log: &Log) {
        let found = read(&self.store, id, offset(log.log_start), offset(log.rows.len())).await;
        let now = self.model.borrow().logs[&id].clone();
        if now.log_start != log.log_start {
            return;
        }
        // A reader that is slower than delete.retention.ms may miss a tombstone, in Kafka too.
        let tombstones_go = self.rules.delete_retention_ms < 1 << 40;
        // What came while it read may have taken the place of what it did not get to.
        let mut later: BTreeSet<u32> = now.rows[log.rows.len()..].iter().map(|row| row.key).collect();
        if tombstones_go {
            later.extend(log.rows.iter().filter(|row| row.value.is_none()).map(|row| row.key));
        }
        check(id, log, &found, &later, None);
    }

    /// Once nobody appends, everything that can be is compacted, and then nothing is done.
    async fn come_to_rest(&self) {
        for _ in 0..3 {
            let mut tries = 0;
            while !self.store.seal_open_segment() && !self.is_settled() {
                self.runtime.sleep(Duration::from_secs(1)).await;
                let is_full = matches!(self.store.try_reserve(1000), Some(Err(StorageError::Full { .. })));
                // Something still fits into the open segment, but there may not be another.
                let used = self.store.stats().used_bytes;
                if is_full || used + u64::from(self.plan.segment_bytes) > self.plan.budget_bytes {
                    break;
                }
                tries += 1;
                assert!(tries < 1000, "neither full nor room: {:?}", self.store.stats());
            }
            self.runtime.sleep(Duration::from_secs(1)).await;
            self.look();
            // A job for space, which goes first, rests a fifth of a second for each row at the most.
            let done = || (self.store.stats().compaction_passes, self.store.stats().cleaning_jobs);
            let mut before = (u64::MAX, 0);
            while std::mem::replace(&mut before, done()) != done() {
                self.runtime.sleep(Duration::from_secs(300)).await;
                self.look();
            }
        }
        let logs = self.model.borrow().logs.clone();
        // Where space is short, clients and the cleaner go first.
        let stats = self.store.stats();
        // Free files of a store that grew may be too large for what is compacted, and take the room of a smaller one.
        let mut largest = u64::from(self.plan.segment_bytes);
        while largest * 2 * self.plan.segments_before_growth <= stats.used_bytes {
            largest *= 2;
        }
        let is_crowded = largest > u64::from(self.plan.segment_bytes)
            && stats.used_bytes + (stats.segments_free + 2) * largest > self.plan.budget_bytes;
        let is_short = self.store.is_full() || stats.used_bytes > self.plan.budget_bytes / 2 || is_crowded;
        for (id, log) in logs.iter().filter(|_| !is_short) {
            let settled = self.store.settled_end(*id);
            let is_clean = settled.is_none_or(|end| log.clean_end >= end.max(offset(log.log_start)));
            let stats = self.store.stats();
            assert!(is_clean, "log {id} is clean to {} of {settled:?}: {stats:?}", log.clean_end);
        }
    }

    fn is_settled(&self) -> bool {
        let model = self.model.borrow();
        model.logs.iter().all(|(id, log)| self.store.settled_end(*id) == Some(offset(log.rows.len())))
    }
}

async fn check_all(store: &Store<SimulatedRuntime>, logs: &BTreeMap<LogId, Log>, is_compacted: bool) {
    for (id, log) in logs {
        if store.partition(*id).is_some() {
            let found = read(store, *id, offset(log.log_start), offset(log.rows.len())).await;
            // What was compacted in an earlier life is read from disk.
            check(*id, log, &found, &BTreeSet::new(), is_compacted.then_some(index(log.clean_end)));
        }
    }
}

/// All records of a log from `from` to `end`, by offset.
async fn read(store: &Store<SimulatedRuntime>, log: LogId, from: Offset, end: Offset) -> Vec<(usize, Row)> {
    let (mut next, mut found, mut scratch, mut plain) = (from, Vec::new(), Scratch::new(), Vec::new());
    while next < end {
        let read = match store.read(log, next, end, 5000, true).await {
            Ok(read) => read,
            Err(corelane::store::ReadError::OutOfRange { .. }) => return found,
            Err(error) => panic!("log {log} from {next}: {error}"),
        };
        let bytes = joined(read.slices);
        assert!(read.next_offset > next, "log {log}: a reader stays at {next} of {end}");
        next = read.next_offset;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let view = BatchView::parse(rest).expect("whole batches");
            rest = &rest[view.bytes().len()..];
            assert!(view.crc_matches());
            plain.clear();
            let records = view.decompressed(&mut scratch, &mut plain, 10_000_000).expect("it decompresses");
            for record in RecordsIter::new(records, view.header.record_count) {
                let record = record.expect("well formed");
                let key = u32::from_be_bytes(record.key.expect("a key").try_into().unwrap());
                let at = view.header.offset_of(record.offset_delta);
                let value = record.value.map(<[u8]>::to_vec);
                found.push((index(at), Row { key, value, end: LogPosition::default() }));
            }
        }
    }
    found.retain(|(at, _)| offset(*at) >= from);
    found
}

/// Of the keys in `unsure` nothing is known. `clean_end`: below it no key has two records.
fn check(id: LogId, log: &Log, found: &[(usize, Row)], unsure: &BTreeSet<u32>, clean_end: Option<usize>) {
    for pair in found.windows(2) {
        assert!(pair[0].0 < pair[1].0, "log {id}: offsets ascend");
    }
    for (at, row) in found {
        let appended = log.rows.get(*at).unwrap_or_else(|| panic!("log {id}: nothing was appended at {at}"));
        assert_eq!((appended.key, &appended.value), (row.key, &row.value), "log {id} at {at}");
    }
    let last = |rows: &mut dyn Iterator<Item = (usize, &Row)>| -> BTreeMap<u32, (usize, Option<Vec<u8>>)> {
        rows.map(|(at, row)| (row.key, (at, row.value.clone()))).collect()
    };
    let living = |last: BTreeMap<u32, (usize, Option<Vec<u8>>)>| -> BTreeMap<u32, (usize, Option<Vec<u8>>)> {
        last.into_iter().filter(|(key, (_, value))| value.is_some() && !unsure.contains(key)).collect()
    };
    let appended = living(last(&mut log.rows.iter().enumerate().skip(log.log_start)));
    let read = living(last(&mut found.iter().map(|(at, row)| (*at, row))));
    for (key, (at, _)) in &appended {
        assert_eq!(read.get(key).map(|(at, _)| *at), Some(*at), "log {id}: the last value of {key} is gone");
    }
    for (key, (at, _)) in &read {
        assert!(appended.contains_key(key), "log {id}: {key} was deleted and is back, at {at}");
    }
    if let Some(clean_end) = clean_end {
        let mut seen = BTreeMap::new();
        for (at, row) in found.iter().filter(|(at, _)| *at < clean_end) {
            let earlier = seen.insert(row.key, *at);
            assert!(earlier.is_none(), "log {id}: key {} has records at {earlier:?} and {at}", row.key);
        }
    }
}
