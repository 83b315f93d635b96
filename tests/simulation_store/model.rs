//! What the store should hold: every change in the order of the log, and how far it was seen to be safe.
//!
//! The log is one sequence, so after a crash the store must equal the model after *some* prefix of the changes, and the
//! prefix must hold everything that was seen written (process crash) or durable (power cut). What lies after the prefix
//! is forgotten here too: were it to come back in a later life, it would stand in the way of what took its offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane::simulation::Crash;
use corelane::store::{BATCH_HEADER_BYTES, PartitionRecord, Progress, Replay, StateError};
use corelane::types::{LogId, LogPosition, Offset, PartitionIndex, TopicId};

use crate::batches::Content;

/// The shard's own state of one partition, as far as a test needs one: it counts and folds every batch ever appended,
/// so that a batch replayed twice, or not at all, is noticed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Shadow {
    /// Batches since the creation of the log.
    pub(crate) batches: u64,
    /// All their headers, in order.
    pub(crate) hash: u64,
}

impl Shadow {
    /// One batch more.
    pub(crate) fn add(&mut self, header: &[u8; BATCH_HEADER_BYTES]) {
        self.batches += 1;
        self.hash = (self.hash ^ u64::from(crc32c::crc32c(header))).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(9);
    }

    /// For the checkpoint.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.batches.to_le_bytes());
        out.extend_from_slice(&self.hash.to_le_bytes());
    }

    /// From a checkpoint, or of a new log.
    pub(crate) fn decode(state: &[u8]) -> Shadow {
        if state.is_empty() {
            return Shadow::default();
        }
        assert_eq!(state.len(), 16, "the store gives back the state that it was given");
        let word = |at: usize| u64::from_le_bytes(state[at..at + 8].try_into().unwrap());
        Shadow { batches: word(0), hash: word(8) }
    }
}

/// One change of the log.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A log begins.
    Create { log: LogId, topic: TopicId, partition: PartitionIndex },
    /// A batch follows.
    Append(Rc<Content>),
    /// What lies below the offset may go.
    LogStart { log: LogId, offset: Offset },
    /// A log ends.
    Delete { log: LogId },
}

/// One log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LogState {
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionIndex,
    pub(crate) log_start: Offset,
    pub(crate) log_end: Offset,
    pub(crate) shadow: Shadow,
}

/// All logs at one point of the sequence of changes.
pub(crate) type Logs = BTreeMap<LogId, LogState>;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Model {
    /// What the last recovery found; nothing of it may be lost any more.
    base: Logs,
    /// Changes since, with the position at which each is safe.
    changes: Vec<(LogPosition, Change)>,
    /// Of each change, what was seen durable when it was made: its entry names at least that.
    named: Vec<LogPosition>,
    /// `base` and all changes.
    pub(crate) logs: Logs,
    /// Every batch of a log that is not forgotten, also of deleted ones, for readers that are still under way.
    contents: BTreeMap<(LogId, Offset), Rc<Content>>,
    /// Every log id ever given whose creation was not lost.
    given: BTreeSet<LogId>,
    seen: Progress,
    /// Since the last recovery.
    power_was_cut: bool,
}

impl Model {
    /// A change was taken by the store; it is safe at `end`.
    pub(crate) fn change(&mut self, end: LogPosition, change: Change) {
        if let Some((last, _)) = self.changes.last() {
            assert!(end > *last, "the log grows: {end} after {last}");
        }
        if let Change::Create { log, .. } = &change {
            assert!(self.given.insert(*log), "log id {log} was given to an earlier log");
        }
        if let Change::Append(content) = &change {
            self.contents.insert((content.log, content.base), Rc::clone(content));
        }
        apply(&mut self.logs, &change);
        self.changes.push((end, change));
        self.named.push(self.seen.durable);
    }

    /// The store said how far it is.
    pub(crate) fn observe(&mut self, progress: Progress) {
        assert!(progress.durable <= progress.written, "{progress:?}");
        assert!(progress.written <= progress.appended, "{progress:?}");
        assert!(progress.written >= self.seen.written, "written went back: {progress:?} after {:?}", self.seen);
        assert!(progress.durable >= self.seen.durable, "durable went back: {progress:?} after {:?}", self.seen);
        self.seen = progress;
    }

    /// A life ended, by a crash or by itself.
    pub(crate) fn on_end(&mut self, crash: Option<Crash>) {
        self.power_was_cut |= crash == Some(Crash::Power);
    }

    /// Changes that the next recovery must find.
    pub(crate) fn required(&self) -> usize {
        let limit = if self.power_was_cut { self.seen.durable } else { self.seen.written };
        self.changes.iter().take_while(|(end, _)| *end <= limit).count()
    }

    /// Finds the prefix of changes that recovery found, forgets the rest, and gives how many changes were lost.
    pub(crate) fn recover(&mut self, found: &Logs) -> usize {
        let required = self.required();
        // Of prefixes that differ only in logs that were created and deleted again, the shortest.
        let count = self.prefixes(found).into_iter().find(|count| *count >= required);
        let Some(count) = count else { panic!("{}", self.explain(found, required)) };
        self.forget_behind(count, found)
    }

    /// As `recover`, after a bit was flipped on a disk that held the first `survivors` changes. The log may end where
    /// the flipped entry stood if nothing behind it proves that it was durable; else it should have been reported.
    pub(crate) fn recover_flipped(&mut self, found: &Logs, survivors: usize) {
        // The longest: what left no trace need not be gone.
        let count = self.prefixes(found).pop();
        let Some(count) = count else { panic!("{}", self.explain(found, 0)) };
        if let Some((end, _)) = self.changes.get(count) {
            let proof = (count + 1..survivors).find(|later| self.named[*later] >= *end);
            let proof = proof.map(|later| (self.changes[later].0, self.named[later]));
            assert!(proof.is_none(), "the log was cut before {end}, but a later entry says otherwise: {proof:?}");
        }
        self.forget_behind(count, found);
    }

    /// Changes since the last recovery.
    pub(crate) fn changes(&self) -> usize {
        self.changes.len()
    }

    /// How many changes may have been found, ascending: a log that was created and deleted again leaves no trace.
    fn prefixes(&self, found: &Logs) -> Vec<usize> {
        let mut logs = self.base.clone();
        let mut counts = Vec::new();
        for count in 0..=self.changes.len() {
            if count > 0 {
                apply(&mut logs, &self.changes[count - 1].1);
            }
            if logs == *found {
                counts.push(count);
            }
        }
        counts
    }

    /// The first `count` changes were found, and made `found`. Gives how many were not.
    fn forget_behind(&mut self, count: usize, found: &Logs) -> usize {
        let lost = self.changes.split_off(count);
        for (_, change) in &lost {
            match change {
                Change::Append(content) => drop(self.contents.remove(&(content.log, content.base))),
                Change::Create { log, .. } => assert!(self.given.remove(log)),
                Change::LogStart { .. } | Change::Delete { .. } => {}
            }
        }
        self.changes.clear();
        self.named.clear();
        self.base = found.clone();
        self.logs = found.clone();
        self.power_was_cut = false;
        self.seen = Progress::default();
        lost.len()
    }

    /// The batches of a log from the one that contains its log start to its end.
    pub(crate) fn batches(&self, log: LogId) -> Vec<Rc<Content>> {
        let state = &self.logs[&log];
        let range = (log, Offset::ZERO)..(log, state.log_end);
        self.contents
            .range(range)
            .map(|(_, content)| Rc::clone(content))
            .filter(|c| c.last >= state.log_start)
            .collect()
    }

    /// The batch that contains `offset`, also of a deleted log.
    pub(crate) fn batch_at(&self, log: LogId, offset: Offset) -> Option<Rc<Content>> {
        let (_, content) = self.contents.range((log, Offset::ZERO)..=(log, offset)).next_back()?;
        (content.last >= offset).then(|| Rc::clone(content))
    }

    fn explain(&self, found: &Logs, required: usize) -> String {
        let mut least = self.base.clone();
        for (_, change) in &self.changes[..required] {
            apply(&mut least, change);
        }
        let mut text = format!(
            "recovery found no state that the log ever had; {required} of {} changes are required ({} and {:?})\n",
            self.changes.len(),
            if self.power_was_cut { "power was cut" } else { "the process ended" },
            self.seen,
        );
        let differing = |log: &&LogId| found.get(log) != least.get(log) || found.get(log) != self.logs.get(log);
        let all: BTreeSet<&LogId> = found.keys().chain(least.keys()).chain(self.logs.keys()).collect();
        for log in all.iter().copied().filter(differing).take(12) {
            let show = |logs: &Logs| logs.get(log).map(|s| (s.log_start, s.log_end, s.shadow.batches));
            text += &format!(
                "  log {log}: found {:?}, required {:?}, appended {:?} (start, end, batches)\n",
                show(found),
                show(&least),
                show(&self.logs)
            );
        }
        text
    }
}

fn apply(logs: &mut Logs, change: &Change) {
    match change {
        Change::Create { log, topic, partition } => {
            let state = LogState {
                topic: *topic,
                partition: *partition,
                log_start: Offset::ZERO,
                log_end: Offset::ZERO,
                shadow: Shadow::default(),
            };
            assert!(logs.insert(*log, state).is_none(), "log id {log} was given twice");
        }
        Change::Append(content) => {
            let state = logs.get_mut(&content.log).expect("appends go to logs that exist");
            assert_eq!(state.log_end, content.base);
            state.log_end = Offset::new(content.last.value() + 1);
            state.shadow.add(content.header());
        }
        Change::LogStart { log, offset } => {
            logs.get_mut(log).expect("log starts move in logs that exist").log_start = *offset;
        }
        Change::Delete { log } => {
            logs.remove(log).expect("a log is deleted once");
        }
    }
}

/// What recovery tells, folded as a shard would.
#[derive(Default)]
pub(crate) struct Replayed {
    shadows: BTreeMap<LogId, (Shadow, Offset)>,
    log_starts: BTreeMap<LogId, Offset>,
    /// Batches before which others are missing.
    gaps: usize,
}

impl Replayed {
    /// What was told, joined with what the open store knows.
    pub(crate) fn logs(&self, partitions: &[PartitionRecord]) -> Logs {
        let mut logs = Logs::new();
        for record in partitions {
            let (shadow, end) = *self.shadows.get(&record.log).expect("each partition was told");
            assert_eq!(end, record.log_end, "log {}: replay ends elsewhere than the log", record.log);
            assert_eq!(
                self.log_starts[&record.log], record.log_start,
                "log {}: another log start was told",
                record.log
            );
            let state = LogState {
                topic: record.topic,
                partition: record.partition,
                log_start: record.log_start,
                log_end: record.log_end,
                shadow,
            };
            logs.insert(record.log, state);
        }
        assert_eq!(self.gaps, 0, "offsets are dense");
        assert_eq!(logs.len(), self.shadows.len(), "a partition was told that the store does not know");
        logs
    }
}

impl Replay for Replayed {
    fn on_partition(&mut self, partition: &PartitionRecord, state: &[u8]) -> Result<(), StateError> {
        let told = self.shadows.insert(partition.log, (Shadow::decode(state), partition.log_end));
        assert!(told.is_none(), "partition {} was told twice", partition.log);
        self.log_starts.insert(partition.log, partition.log_start);
        Ok(())
    }

    fn on_batch(&mut self, log: LogId, header: &[u8; BATCH_HEADER_BYTES]) {
        let (shadow, end) = self.shadows.get_mut(&log).expect("a batch follows its partition");
        let base = i64::from_be_bytes(header[..8].try_into().unwrap());
        let delta = i32::from_be_bytes(header[23..27].try_into().unwrap());
        assert!(base >= end.value(), "log {log}: offsets go back");
        // Where batches are lost the store does not open, which is seen when it does.
        self.gaps += usize::from(base > end.value());
        *end = Offset::new(base + i64::from(delta) + 1);
        shadow.add(header);
    }

    fn on_log_start(&mut self, log: LogId, log_start: Offset) {
        let start = self.log_starts.get_mut(&log).expect("a log start follows its partition");
        assert!(log_start >= *start, "log {log}: the log start went back");
        *start = log_start;
    }

    fn on_delete(&mut self, log: LogId) {
        self.shadows.remove(&log).expect("a delete follows its partition");
        self.log_starts.remove(&log);
    }
}
