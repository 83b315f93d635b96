//! The segments that a compacted log would have in Kafka. Here segments are the core's, and hold every partition; what
//! Kafka compacts, when, and up to where goes by the segments of one log, so they are kept as numbers.
//!
//! Listed are the dirty ones: those that hold, or come after, the end of the clean part. The last one is *active*: appends
//! go to it, and it is never compacted. Segments end where Kafka's would (`LogSegment.shouldRoll`), but for the sizes of
//! Kafka's index files, which are not imitated: at their defaults they are full later than the segment.
//!
//! There are at most `VIRTUAL_SEGMENTS_MAX`. One more, and the two neighbours that are smallest together become one: its
//! first timestamp is the earlier, its greatest the later, its bytes are both's. So what is due is due when it was; the
//! dirty bytes are the same; and what is too young keeps its neighbour waiting, so that a record is compacted later than in
//! Kafka, but never sooner than `min.compaction.lag.ms`. Since the smallest are merged, none grows to much more than its share, a
//! sixty-fourth of the dirty bytes or two, and the wait with it: were the oldest merged, they would become one that is
//! always too young.
//!
//! ```text
//! in a partition's state, little endian, under the checkpoint's CRC
//! version u16 = 1 | end of the clean part i64
//! sealed u32, each: base offset i64 | bytes u64 | first timestamp i64 | greatest timestamp i64
//! active:           the same | opened at i64 | last append at i64 | jitter i64
//! ```

use std::collections::VecDeque;

use crate::compaction::rules::CompactionRules;
use crate::limits::VIRTUAL_SEGMENTS_MAX;
use crate::protocol::record_batch::BatchHeader;
use crate::types::{Offset, TimestampMs};

/// Version of the format.
const VERSION: u16 = 1;
/// Bytes of a sealed segment in it.
const SEGMENT_BYTES: usize = 4 * 8;

/// What is known of a segment that has ended, and most of what is known of one that has not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Segment {
    base: Offset,
    bytes: u64,
    /// Greatest timestamp of its first batch, from which its age counts; negative where it has none.
    first_timestamp: TimestampMs,
    /// Greatest timestamp. Once sealed not negative: where no record has one it is the time of the last append.
    timestamp_max: TimestampMs,
}

/// The segment that is appended to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Active {
    segment: Segment,
    /// From which the age counts where the first batch has no timestamp.
    opened_at: TimestampMs,
    appended_at: TimestampMs,
    /// Taken off the age at which it ends, in milliseconds.
    jitter_ms: i64,
}

/// The dirty segments of one compacted log, and the end of its clean part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualSegments {
    clean_end: Offset,
    sealed: VecDeque<Segment>,
    active: Active,
}

/// What a pass could clean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Where the dirty part begins: the pass takes keys from here.
    pub from: Offset,
    /// Where it ends for now, exclusive.
    pub bound: Offset,
    /// Bytes of the segments from one to the other.
    pub dirty_bytes: u64,
    /// Share of them in all bytes below the bound: Kafka cleans the log with the largest first.
    pub dirty_ratio: f64,
    /// Something in the dirty part has waited for longer than `max.compaction.lag.ms`.
    pub is_due: bool,
}

/// Why bytes are not segments.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SegmentsError {
    /// They end inside of a field.
    #[error("virtual segments end too early")]
    Truncated,
    /// Written by a newer version of this program.
    #[error("virtual segments have version {0}, newer than this program")]
    Version(u16),
    /// A value that no segment can have.
    #[error("virtual segments hold an impossible {0}")]
    Impossible(&'static str),
}

impl VirtualSegments {
    /// Those of a log that is empty, or of which nothing is to be compacted: it begins at `start`.
    pub fn new(start: Offset, now: TimestampMs) -> VirtualSegments {
        VirtualSegments { clean_end: start, sealed: VecDeque::new(), active: Active::new(start, now, 0) }
    }

    /// Those of a log that was filled before it was compacted: what it holds, from `start` to `end`, is one segment.
    pub fn adopt(
        start: Offset,
        end: Offset,
        bytes: u64,
        timestamp_max: TimestampMs,
        now: TimestampMs,
    ) -> VirtualSegments {
        assert!(start <= end);
        let mut segments = VirtualSegments::new(end, now);
        segments.clean_end = start;
        if start < end {
            let timestamp_max = if timestamp_max < TimestampMs::new(0) { now } else { timestamp_max };
            segments.sealed.push_back(Segment { base: start, bytes, first_timestamp: timestamp_max, timestamp_max });
        }
        segments
    }

    /// Below it the log is clean: no key there has two records.
    pub fn clean_end(&self) -> Offset {
        self.clean_end
    }

    /// Where each listed segment begins, ascending; the last is the active one.
    pub fn bases(&self) -> impl Iterator<Item = Offset> {
        self.sealed.iter().map(|segment| segment.base).chain([self.active.segment.base])
    }

    /// Notes a batch that is appended at the log's end: the header is stamped and has `bytes` with its records. `random` is
    /// asked where a segment begins and has jitter.
    pub fn append(
        &mut self,
        batch: &BatchHeader,
        bytes: u32,
        rules: &CompactionRules,
        now: TimestampMs,
        random: impl FnOnce() -> u32,
    ) {
        if self.active.must_end_before(batch, bytes, rules, now) {
            let jitter_ms = match rules.segment_jitter_ms {
                0 => 0,
                below => i64::from(random() >> 1) % below,
            };
            self.seal();
            self.active = Active::new(batch.base_offset, now, jitter_ms);
        }
        let Active { segment, appended_at, .. } = &mut self.active;
        if segment.bytes == 0 {
            segment.first_timestamp = batch.max_timestamp;
        }
        segment.bytes += u64::from(bytes);
        segment.timestamp_max = segment.timestamp_max.max(batch.max_timestamp);
        *appended_at = now;
    }

    /// Notes a batch that a recovery found behind the state: by no rules, since they are not known yet, so that no segment ends
    /// there. What is in it is compacted later for that, never sooner.
    pub fn replay(&mut self, batch: &BatchHeader, bytes: u32) {
        let Active { segment, appended_at, .. } = &mut self.active;
        if segment.bytes == 0 {
            segment.first_timestamp = batch.max_timestamp;
        }
        segment.bytes += u64::from(bytes);
        segment.timestamp_max = segment.timestamp_max.max(batch.max_timestamp);
        *appended_at = (*appended_at).max(batch.max_timestamp);
    }

    fn seal(&mut self) {
        let Active { mut segment, appended_at, .. } = self.active;
        if segment.bytes == 0 {
            return;
        }
        if segment.timestamp_max < TimestampMs::new(0) {
            segment.timestamp_max = appended_at;
        }
        self.sealed.push_back(segment);
        if self.sealed.len() == VIRTUAL_SEGMENTS_MAX {
            self.merge();
        }
    }

    /// Makes one of the two neighbours that are smallest together, of several the oldest.
    fn merge(&mut self) {
        let together = |at: &usize| self.sealed[*at].bytes + self.sealed[at + 1].bytes;
        let at = (0..self.sealed.len() - 1).min_by_key(together).expect("there are many");
        let later = self.sealed.remove(at + 1).expect("it has a neighbour");
        let earlier = &mut self.sealed[at];
        earlier.bytes += later.bytes;
        earlier.timestamp_max = earlier.timestamp_max.max(later.timestamp_max);
        earlier.first_timestamp = match (earlier.due_from(), later.due_from()) {
            (Some(a), Some(b)) => a.min(b),
            (a, b) => a.or(b).unwrap_or(TimestampMs::NONE),
        };
    }

    /// What to clean, if a pass is worth it. `last_stable` bounds it from above: without transactions the high watermark.
    /// `clean_bytes` are those of the log's batches below [`clean_end`](VirtualSegments::clean_end), as they are stored now.
    pub fn candidate(
        &self,
        last_stable: Offset,
        clean_bytes: u64,
        rules: &CompactionRules,
        now: TimestampMs,
    ) -> Option<Candidate> {
        let bound = self.bound(last_stable, rules, now);
        if bound <= self.clean_end {
            return None;
        }
        let dirty = self.sealed.iter().take_while(|segment| segment.base < bound);
        let dirty_bytes: u64 = dirty.map(|segment| segment.bytes).sum();
        let dirty_ratio = ratio(dirty_bytes, clean_bytes);
        let is_due = self.is_due(rules, now);
        let is_worth_it = (is_due && dirty_bytes > 0) || dirty_ratio > rules.dirty_ratio_min;
        is_worth_it.then_some(Candidate { from: self.clean_end, bound, dirty_bytes, dirty_ratio, is_due })
    }

    /// The first offset that may not be compacted: where the first segment begins that is active, is too young, or reaches
    /// above the last stable offset. Below the end of the clean part if that is inside of such a segment.
    pub fn bound(&self, last_stable: Offset, rules: &CompactionRules, now: TimestampMs) -> Offset {
        let until = rules.compactable_until(now);
        let ends = self.bases().skip(1);
        let uncleanable = self
            .sealed
            .iter()
            .zip(ends)
            .find(|(segment, end)| *end > last_stable || (rules.min_lag_ms > 0 && segment.timestamp_max > until));
        uncleanable.map_or(self.active.segment.base, |(segment, _)| segment.base)
    }

    /// Whether the oldest first timestamp of the dirty segments, but for the active one, is too long ago.
    fn is_due(&self, rules: &CompactionRules, now: TimestampMs) -> bool {
        let oldest = self.sealed.iter().filter_map(Segment::due_from).min();
        oldest.is_some_and(|oldest| oldest < rules.due_until(now))
    }

    /// Notes that the log is clean up to `end`, where a pass has ended.
    pub fn on_cleaned(&mut self, end: Offset) {
        assert!(end <= self.active.segment.base);
        self.advance(end);
    }

    /// Notes that records before `log_start` are gone: what is not there is clean.
    pub fn on_log_start(&mut self, log_start: Offset) {
        self.advance(log_start);
    }

    fn advance(&mut self, to: Offset) {
        self.clean_end = self.clean_end.max(to);
        let clean = self.bases().skip(1).take_while(|end| *end <= self.clean_end).count();
        self.sealed.drain(..clean);
    }

    /// Appends them to a partition's state.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.clean_end.value().to_le_bytes());
        let count = u32::try_from(self.sealed.len()).expect("at most VIRTUAL_SEGMENTS_MAX");
        out.extend_from_slice(&count.to_le_bytes());
        for segment in self.sealed.iter().chain([&self.active.segment]) {
            out.extend_from_slice(&segment.base.value().to_le_bytes());
            out.extend_from_slice(&segment.bytes.to_le_bytes());
            out.extend_from_slice(&segment.first_timestamp.value().to_le_bytes());
            out.extend_from_slice(&segment.timestamp_max.value().to_le_bytes());
        }
        let Active { opened_at, appended_at, jitter_ms, .. } = self.active;
        for number in [opened_at.value(), appended_at.value(), jitter_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Takes what [`encode`](VirtualSegments::encode) wrote off the front of `bytes`. Nothing is reserved for what they claim.
    pub fn decode(bytes: &mut &[u8]) -> Result<VirtualSegments, SegmentsError> {
        let version = u16::from_le_bytes(take(bytes)?);
        if version != VERSION {
            return Err(SegmentsError::Version(version));
        }
        let clean_end = Offset::new(i64::from_le_bytes(take(bytes)?));
        let count = usize::try_from(u32::from_le_bytes(take(bytes)?)).expect("32 bits fit");
        if count >= VIRTUAL_SEGMENTS_MAX {
            return Err(SegmentsError::Impossible("count"));
        }
        if count > bytes.len() / SEGMENT_BYTES {
            return Err(SegmentsError::Truncated);
        }
        let sealed = (0..count).map(|_| Segment::decode(bytes)).collect::<Result<_, _>>()?;
        let active = Active {
            segment: Segment::decode(bytes)?,
            opened_at: TimestampMs::new(i64::from_le_bytes(take(bytes)?)),
            appended_at: TimestampMs::new(i64::from_le_bytes(take(bytes)?)),
            jitter_ms: i64::from_le_bytes(take(bytes)?),
        };
        let segments = VirtualSegments { clean_end, sealed, active };
        segments.check().map(|()| segments)
    }

    fn check(&self) -> Result<(), SegmentsError> {
        let ascend = self.bases().zip(self.bases().skip(1)).all(|(earlier, later)| earlier < later);
        let second = self.bases().nth(1);
        match () {
            () if self.clean_end < Offset::ZERO || self.bases().any(|base| base < Offset::ZERO) => {
                Err(SegmentsError::Impossible("offset"))
            }
            () if !ascend || second.is_some_and(|second| second <= self.clean_end) => {
                Err(SegmentsError::Impossible("order of offsets"))
            }
            () if self.active.jitter_ms < 0 => Err(SegmentsError::Impossible("jitter")),
            // Sums are made of them.
            () if self.sealed.iter().chain([&self.active.segment]).any(|segment| segment.bytes > u64::MAX >> 16) => {
                Err(SegmentsError::Impossible("size"))
            }
            () => Ok(()),
        }
    }
}

impl Segment {
    /// From when on it waits for compaction, if that is known. Zero is no time either, as in Kafka.
    fn due_from(&self) -> Option<TimestampMs> {
        (self.first_timestamp > TimestampMs::new(0)).then_some(self.first_timestamp)
    }

    fn decode(bytes: &mut &[u8]) -> Result<Segment, SegmentsError> {
        Ok(Segment {
            base: Offset::new(i64::from_le_bytes(take(bytes)?)),
            bytes: u64::from_le_bytes(take(bytes)?),
            first_timestamp: TimestampMs::new(i64::from_le_bytes(take(bytes)?)),
            timestamp_max: TimestampMs::new(i64::from_le_bytes(take(bytes)?)),
        })
    }
}

impl Active {
    fn new(base: Offset, now: TimestampMs, jitter_ms: i64) -> Active {
        let (first_timestamp, timestamp_max) = (TimestampMs::NONE, TimestampMs::NONE);
        let segment = Segment { base, bytes: 0, first_timestamp, timestamp_max };
        Active { segment, opened_at: now, appended_at: now, jitter_ms }
    }

    /// As Kafka's `LogSegment.shouldRoll`: the batch would not fit, the segment is too old for it, or its offsets would
    /// not fit into an index.
    fn must_end_before(&self, batch: &BatchHeader, bytes: u32, rules: &CompactionRules, now: TimestampMs) -> bool {
        let segment = &self.segment;
        let is_full = segment.bytes + u64::from(bytes) > u64::from(rules.segment_bytes);
        let age_max_ms = rules.segment_ms.saturating_sub(self.jitter_ms);
        let is_old = segment.bytes > 0 && self.age_ms(batch, now) > age_max_ms;
        let is_far = batch.last_offset().since(segment.base) > i64::from(i32::MAX);
        is_full || is_old || is_far
    }

    /// By the records' own time if they have one.
    fn age_ms(&self, batch: &BatchHeader, now: TimestampMs) -> i64 {
        let first = self.segment.first_timestamp;
        if first >= TimestampMs::new(0) {
            batch.max_timestamp.value().saturating_sub(first.value())
        } else {
            now.value().saturating_sub(self.opened_at.value())
        }
    }
}

/// The share of the first in both together; 0 where there is nothing.
fn ratio(dirty_bytes: u64, clean_bytes: u64) -> f64 {
    // A ratio of sizes needs no more digits than an f64 has.
    let [dirty, clean] = [dirty_bytes as f64, clean_bytes as f64];
    if dirty == 0.0 { 0.0 } else { dirty / (clean + dirty) }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], SegmentsError> {
    let (head, rest) = bytes.split_first_chunk().ok_or(SegmentsError::Truncated)?;
    *bytes = rest;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::record_batch::BATCH_HEADER_BYTES;
    use crate::simulation::random::Random;

    const RULES: CompactionRules = CompactionRules {
        segment_bytes: 1000,
        segment_ms: 500,
        segment_jitter_ms: 0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
        dirty_ratio_min: 0.5,
        delete_retention_ms: 100,
    };

    fn at(timestamp: i64) -> TimestampMs {
        TimestampMs::new(timestamp)
    }

    fn batch(base: i64, records: i32, timestamp_max: i64) -> BatchHeader {
        let mut header = BatchHeader::parse(&[0; BATCH_HEADER_BYTES]);
        header.base_offset = Offset::new(base);
        header.last_offset_delta = records - 1;
        header.max_timestamp = at(timestamp_max);
        header
    }

    fn no_jitter() -> u32 {
        unreachable!("there is no jitter")
    }

    fn bases(segments: &VirtualSegments) -> Vec<i64> {
        segments.bases().map(Offset::value).collect()
    }

    /// Ten records and 400 bytes each, at these times.
    fn filled(times: &[i64], rules: &CompactionRules) -> VirtualSegments {
        let mut segments = VirtualSegments::new(Offset::ZERO, at(0));
        for (index, time) in (0..).zip(times) {
            segments.append(&batch(index * 10, 10, *time), 400, rules, at(*time), no_jitter);
        }
        segments
    }

    #[test]
    fn a_segment_ends_before_the_batch_that_does_not_fit() {
        let mut segments = VirtualSegments::new(Offset::ZERO, at(0));
        segments.append(&batch(0, 1, 1), 600, &RULES, at(1), no_jitter);
        segments.append(&batch(1, 1, 1), 400, &RULES, at(1), no_jitter);
        assert_eq!(bases(&segments), [0]);
        segments.append(&batch(2, 1, 1), 1, &RULES, at(1), no_jitter);
        assert_eq!(bases(&segments), [0, 2]);
    }

    #[test]
    fn age_counts_from_the_first_batch_by_the_records_time() {
        assert_eq!(bases(&filled(&[1000, 1500], &RULES)), [0]);
        assert_eq!(bases(&filled(&[1000, 1501], &RULES)), [0, 10]);
        assert_eq!(bases(&filled(&[1000, 400], &RULES)), [0], "time that goes back is no age");
        // Without a timestamp in the first batch, by the clock since the segment was opened.
        let mut segments = VirtualSegments::new(Offset::ZERO, at(0));
        segments.append(&batch(0, 1, -1), 1, &RULES, at(400), no_jitter);
        segments.append(&batch(1, 1, 9999), 1, &RULES, at(500), no_jitter);
        assert_eq!(bases(&segments), [0]);
        segments.append(&batch(2, 1, 9999), 1, &RULES, at(501), no_jitter);
        assert_eq!(bases(&segments), [0, 2]);
    }

    #[test]
    fn jitter_is_drawn_for_each_segment_and_ends_it_earlier() {
        let rules = CompactionRules { segment_jitter_ms: 300, ..RULES };
        let mut segments = VirtualSegments::new(Offset::ZERO, at(0));
        segments.append(&batch(0, 1, 1000), 1000, &rules, at(0), no_jitter);
        segments.append(&batch(1, 1, 1000), 1, &rules, at(0), || 1401);
        assert_eq!(segments.active.jitter_ms, 100);
        segments.append(&batch(2, 1, 1400), 1, &rules, at(0), no_jitter);
        assert_eq!(bases(&segments), [0, 1]);
        segments.append(&batch(3, 1, 1401), 1, &rules, at(0), || u32::MAX);
        assert_eq!(bases(&segments), [0, 1, 3]);
    }

    #[test]
    fn a_segment_holds_no_offset_further_than_an_index_can_say() {
        let mut segments = VirtualSegments::new(Offset::ZERO, at(0));
        segments.append(&batch(0, 1, 1), 1, &RULES, at(1), no_jitter);
        segments.append(&batch(i64::from(i32::MAX), 1, 1), 1, &RULES, at(1), no_jitter);
        assert_eq!(bases(&segments), [0]);
        segments.append(&batch(i64::from(i32::MAX) + 1, 1, 1), 1, &RULES, at(1), no_jitter);
        assert_eq!(bases(&segments), [0, i64::from(i32::MAX) + 1]);
    }

    #[test]
    fn the_bound_is_where_the_first_segment_begins_that_must_stay() {
        // Segments at 0, 20, 40 and the active one at 60.
        let segments = filled(&[10, 20, 30, 40, 50, 60, 70], &RULES);
        assert_eq!(bases(&segments), [0, 20, 40, 60]);
        let bound = |last_stable, min_lag_ms, now| {
            let rules = CompactionRules { min_lag_ms, ..RULES };
            segments.bound(Offset::new(last_stable), &rules, at(now)).value()
        };
        assert_eq!(bound(70, 0, 70), 60);
        assert_eq!(bound(60, 0, 70), 60);
        assert_eq!(bound(59, 0, 70), 40, "a segment of which a part is not stable stays whole");
        assert_eq!(bound(0, 0, 70), 0);
        // The second segment's greatest timestamp is 40.
        assert_eq!(bound(70, 30, 69), 20);
        assert_eq!(bound(70, 30, 70), 40);
        assert_eq!(bound(70, i64::MAX, 70), 0);
    }

    #[test]
    fn a_segment_without_timestamps_is_as_young_as_its_last_append() {
        let mut segments = VirtualSegments::new(Offset::ZERO, at(0));
        segments.append(&batch(0, 1, -1), 1000, &RULES, at(77), no_jitter);
        segments.append(&batch(1, 1, -1), 1000, &RULES, at(99), no_jitter);
        let rules = CompactionRules { min_lag_ms: 10, ..RULES };
        assert_eq!(segments.bound(Offset::new(2), &rules, at(86)), Offset::ZERO);
        assert_eq!(segments.bound(Offset::new(2), &rules, at(87)), Offset::new(1));
        assert!(!segments.is_due(&CompactionRules { max_lag_ms: 1, ..RULES }, at(1000)), "nor is it ever due");
    }

    #[test]
    fn a_pass_is_worth_it_by_the_share_of_dirty_bytes_or_when_it_is_due() {
        let segments = filled(&[10, 20, 30, 40, 50], &RULES);
        let candidate = |clean_bytes, max_lag_ms, now| {
            let rules = CompactionRules { max_lag_ms, ..RULES };
            segments.candidate(Offset::new(50), clean_bytes, &rules, at(now))
        };
        assert_eq!(candidate(1600, i64::MAX, 60), None, "as much is clean as is dirty");
        let wanted = Candidate {
            from: Offset::ZERO,
            bound: Offset::new(40),
            dirty_bytes: 1600,
            dirty_ratio: 0.8,
            is_due: false,
        };
        assert_eq!(candidate(400, i64::MAX, 60), Some(wanted));
        assert_eq!(candidate(6400, 50, 60), None);
        let wanted = Candidate { dirty_ratio: 0.2, is_due: true, ..wanted };
        assert_eq!(candidate(6400, 50, 61), Some(wanted));
    }

    #[test]
    fn what_is_clean_or_gone_is_no_longer_listed() {
        let mut segments = filled(&[10, 20, 30, 40, 50, 60, 70], &RULES);
        // A map of keys that was full ended a pass inside of a segment, which stays dirty.
        segments.on_cleaned(Offset::new(25));
        assert_eq!((bases(&segments), segments.clean_end()), (vec![20, 40, 60], Offset::new(25)));
        assert_eq!(segments.bound(Offset::new(39), &RULES, at(0)), Offset::new(20));
        assert_eq!(segments.candidate(Offset::new(39), 0, &RULES, at(0)), None);
        segments.on_cleaned(Offset::new(60));
        assert_eq!((bases(&segments), segments.clean_end()), (vec![60], Offset::new(60)));
        assert_eq!(segments.candidate(Offset::new(70), 0, &RULES, at(0)), None);
        segments.on_log_start(Offset::new(65));
        assert_eq!((bases(&segments), segments.clean_end()), (vec![60], Offset::new(65)));
    }

    #[test]
    fn a_log_that_was_filled_before_is_one_dirty_segment() {
        let mut segments = VirtualSegments::adopt(Offset::new(5), Offset::new(50), 700, at(30), at(90));
        assert_eq!((bases(&segments), segments.clean_end()), (vec![5, 50], Offset::new(5)));
        segments.append(&batch(50, 10, 100), 10, &RULES, at(100), no_jitter);
        let candidate = segments.candidate(Offset::new(60), 0, &RULES, at(100)).unwrap();
        assert_eq!((candidate.from, candidate.bound, candidate.dirty_bytes), (Offset::new(5), Offset::new(50), 700));
        let empty = VirtualSegments::adopt(Offset::new(5), Offset::new(5), 0, at(-1), at(90));
        assert_eq!(empty, VirtualSegments::new(Offset::new(5), at(90)));
    }

    #[test]
    fn merged_segments_answer_later_but_never_sooner_and_lose_nothing() {
        // A day of lag, a segment each minute: the list is far too short for it. What counts is that the bound goes on.
        let rules = CompactionRules { min_lag_ms: 1440, segment_bytes: 1, ..RULES };
        let mut segments = VirtualSegments::new(Offset::ZERO, at(0));
        let mut times = Vec::new();
        for minute in 0..20_000_i64 {
            segments.append(&batch(minute, 1, minute), 100, &rules, at(minute), no_jitter);
            times.push(minute);
            assert!(segments.sealed.len() < VIRTUAL_SEGMENTS_MAX);
            let clean_end = segments.clean_end().value();
            let dirty_bytes: u64 = segments.sealed.iter().map(|segment| segment.bytes).sum();
            assert!(dirty_bytes >= 100 * u64::try_from(minute - clean_end).unwrap(), "no byte is forgotten");
            let bound = segments.bound(Offset::new(minute), &rules, at(minute)).value();
            let kafkas = (minute - 1440 + 1).max(0);
            assert!(bound <= kafkas, "at {minute}: {bound} is too young, {kafkas} is the first that stays");
            // Four of sixty-four segments.
            assert!(kafkas - bound <= 1440 / 16 || minute < 3000, "at {minute}: {bound} instead of {kafkas}");
            let due = CompactionRules { max_lag_ms: minute - clean_end.max(1), ..rules };
            assert!(!segments.is_due(&due, at(minute)), "at {minute} the oldest is of {clean_end}");
            if minute % 500 == 0 && bound > clean_end {
                segments.on_cleaned(Offset::new(bound));
            }
        }
    }

    #[test]
    fn state_round_trips_and_damage_is_an_error() {
        let mut random = Random::new(3);
        for round in 0..50_i64 {
            let times: Vec<i64> = (0..round * 4).map(|step| step * 300).collect();
            let mut segments = filled(&times, &RULES);
            segments.on_log_start(Offset::new(i64::try_from(random.below(1 + 2 * round.unsigned_abs())).unwrap()));
            let mut bytes = b"before".to_vec();
            segments.encode(&mut bytes);
            let end = bytes.len();
            bytes.extend_from_slice(b"behind");
            let mut rest = &bytes[6..];
            assert_eq!(VirtualSegments::decode(&mut rest), Ok(segments.clone()));
            assert_eq!(rest, b"behind");
            for cut in 6..end {
                assert_eq!(VirtualSegments::decode(&mut &bytes[6..cut]), Err(SegmentsError::Truncated));
            }
            let flipped = 6 + random.index(end - 6);
            bytes[flipped] ^= 1 << random.below(8);
            if let Ok(mut other) = VirtualSegments::decode(&mut &bytes[6..]) {
                assert_ne!(other, segments, "byte {flipped}");
                let end = other.active.segment.base.value().saturating_add(5);
                other.append(&batch(end, 1, 5), 7, &RULES, at(5), no_jitter);
                other.candidate(Offset::new(end), 0, &RULES, at(5));
            }
        }
    }
}
