//! Which segments a job empties. Pure.
//!
//! A segment is worth the more the more of it is dead, the longer it has been so, and the less is to be moved: cost and
//! benefit as in log-structured file systems. Those whose rest dies by itself before it matters are left alone.
//!
//! Where no space is wanted and hardly anything is appended, segments that hold a little of each of many logs beside what
//! is dead are emptied, too, each once: what is moved lies together by log, and is read so.

use std::collections::BTreeMap;

use crate::limits::{CLEAN_MERGED_SEGMENTS_MIN, CLEAN_THIN_DEAD_DIVISOR, CLEAN_VICTIMS_MAX};
use crate::types::SegmentNumber;

/// A sealed segment in which something lives.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Candidate {
    pub(in crate::store) number: SegmentNumber,
    /// Bytes that it takes on disk.
    pub(in crate::store) bytes: u64,
    /// Bytes of entries that live.
    pub(in crate::store) live_bytes: u64,
    /// Rows of its directory that live.
    pub(in crate::store) live_rows: u64,
    /// As many as there were when a job wrote it, if that was in this life.
    pub(in crate::store) built_bytes: Option<u64>,
    /// How many segments were begun since it was.
    pub(in crate::store) age: u64,
    pub(in crate::store) is_cold: bool,
    /// All that lives in it will be dead soon.
    pub(in crate::store) dies_soon: bool,
    /// Some of what lives in it stays long enough to be worth putting in order.
    pub(in crate::store) stays: bool,
}

/// What a job may take, and what it must give.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Limits {
    /// Size of a small segment.
    pub(in crate::store) segment_bytes: u64,
    pub(in crate::store) block_bytes: u64,
    /// Most bytes that may be moved.
    pub(in crate::store) live_bytes_max: u64,
    /// Bytes on disk above what the store should need.
    pub(in crate::store) excess_bytes: u64,
    /// Nobody can append: what is gained at all counts.
    pub(in crate::store) is_short: bool,
    /// A segment that holds less of each log on average, in bytes, is thin. 0 while more than hardly anything is appended: then
    /// none is put in order.
    pub(in crate::store) thin_row_bytes: u64,
}

impl Candidate {
    /// Bytes that are free when what lives in it was moved: some more than that is written.
    pub(in crate::store) fn gain(&self) -> u64 {
        self.bytes.saturating_sub(self.live_bytes + self.live_bytes / 64)
    }

    /// A job wrote it just so, and little of it died since: nothing would be gained.
    fn is_as_built(&self) -> bool {
        self.built_bytes.is_some_and(|built| self.live_bytes > built / 8 * 7)
    }

    /// A cold segment of less than half the size of a small one.
    fn is_small(&self, limits: &Limits) -> bool {
        self.is_cold && self.bytes <= limits.segment_bytes / 2
    }

    /// A hot segment that holds a little of many logs, and dead bytes between: what one of them has there is read piece by
    /// piece.
    fn is_thin(&self, limits: &Limits) -> bool {
        let is_of_many = self.live_bytes < self.live_rows.saturating_mul(limits.thin_row_bytes);
        !self.is_cold && is_of_many && self.gain() >= self.bytes / CLEAN_THIN_DEAD_DIVISOR
    }

    /// Cheap enough to come along whatever the reason.
    fn is_nearly_dead(&self) -> bool {
        self.live_bytes <= self.bytes / 10
    }
}

impl Limits {
    /// Whether so many bytes are enough for a job to give something back.
    fn is_worth_a_job(&self, gain: u64) -> bool {
        // What is moved takes a file of whole blocks, and its header and footer.
        gain >= self.segment_bytes / 2 + 2 * self.block_bytes
    }
}

/// Whether there is any reason for a job: cheap to ask, unlike which segments die soon.
pub(in crate::store) fn may_be_any(candidates: &[Candidate], limits: &Limits) -> bool {
    let is_too_large = limits.excess_bytes > 0 || limits.is_short;
    is_too_large
        || candidates.iter().any(|candidate| candidate.is_thin(limits))
        || candidates.iter().filter(|candidate| candidate.is_small(limits)).count() >= CLEAN_MERGED_SEGMENTS_MIN
}

/// The segments of the next job, none when there is no reason for one.
pub(in crate::store) fn choose(candidates: Vec<Candidate>, limits: &Limits) -> Vec<SegmentNumber> {
    let merged = choose_small(&candidates, limits);
    if limits.excess_bytes == 0 && !limits.is_short {
        return if merged.is_empty() { choose_thin(candidates, limits) } else { merged };
    }
    let mut worth: Vec<Candidate> = candidates;
    worth.retain(|candidate| {
        candidate.gain() > 0 && !candidate.is_as_built() && (limits.is_short || !candidate.dies_soon)
    });
    // Score: dead bytes × age / bytes to move, the greatest first.
    let score = |candidate: &Candidate| {
        u128::from(candidate.gain()) * u128::from(candidate.age) * 1024
            / u128::from(candidate.live_bytes + limits.block_bytes)
    };
    worth.sort_by_key(|candidate| std::cmp::Reverse((score(candidate), candidate.number)));
    let (mut live, mut gain) = (0, 0);
    let mut chosen = Vec::new();
    for candidate in worth {
        let is_enough = gain >= limits.excess_bytes.max(limits.segment_bytes);
        if chosen.len() == CLEAN_VICTIMS_MAX || (is_enough && !candidate.is_nearly_dead()) {
            break;
        }
        if live + candidate.live_bytes > limits.live_bytes_max {
            continue;
        }
        live += candidate.live_bytes;
        gain += candidate.gain();
        chosen.push(candidate.number);
    }
    if limits.is_worth_a_job(gain) { chosen } else { merged }
}

/// Thin segments, the oldest first: what a log has in those that follow each other becomes one piece.
fn choose_thin(mut candidates: Vec<Candidate>, limits: &Limits) -> Vec<SegmentNumber> {
    candidates.retain(|candidate| candidate.is_thin(limits) && candidate.stays);
    candidates.sort_by_key(|candidate| candidate.number);
    let chosen = those_that_fit(&candidates, limits);
    let gain = chosen.iter().map(|candidate| candidate.gain()).sum();
    if limits.is_worth_a_job(gain) { numbers(chosen) } else { Vec::new() }
}

/// Small cold segments of about one size, when there are many: each job for space leaves one.
fn choose_small(candidates: &[Candidate], limits: &Limits) -> Vec<SegmentNumber> {
    if limits.is_short {
        return Vec::new();
    }
    let mut classes: BTreeMap<u32, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| candidate.is_small(limits) && !candidate.dies_soon) {
        classes.entry(candidate.bytes.max(limits.block_bytes).ilog2()).or_default().push(candidate);
    }
    let Some(class) = classes.into_values().find(|class| class.len() >= CLEAN_MERGED_SEGMENTS_MIN) else {
        return Vec::new();
    };
    numbers(those_that_fit(class, limits))
}

/// The first of them, as many as one job may move.
fn those_that_fit<'a>(candidates: impl IntoIterator<Item = &'a Candidate>, limits: &Limits) -> Vec<&'a Candidate> {
    let mut live = 0;
    let fits = |candidate: &&Candidate| {
        live += candidate.live_bytes;
        live <= limits.live_bytes_max
    };
    candidates.into_iter().take(CLEAN_VICTIMS_MAX).take_while(fits).collect()
}

fn numbers(candidates: Vec<&Candidate>) -> Vec<SegmentNumber> {
    candidates.into_iter().map(|candidate| candidate.number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn candidate(number: u64, live_bytes: u64) -> Candidate {
        Candidate {
            number: SegmentNumber::new(number),
            bytes: 64 * MIB,
            live_bytes,
            live_rows: 1,
            built_bytes: None,
            age: 100 - number,
            is_cold: false,
            dies_soon: false,
            stays: true,
        }
    }

    fn limits(excess_bytes: u64) -> Limits {
        Limits {
            segment_bytes: 64 * MIB,
            block_bytes: MIB,
            live_bytes_max: 256 * MIB,
            excess_bytes,
            is_short: false,
            thin_row_bytes: 0,
        }
    }

    fn sorted(chosen: Vec<SegmentNumber>) -> Vec<u64> {
        let mut numbers: Vec<u64> = chosen.into_iter().map(SegmentNumber::value).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn nothing_is_done_without_a_reason() {
        assert!(choose(vec![candidate(1, 100), candidate(2, 100)], &limits(0)).is_empty());
        let full = vec![candidate(1, 63 * MIB), candidate(2, 63 * MIB)];
        assert!(choose(full, &limits(MIB)).is_empty(), "it would cost more than it gives");
    }

    #[test]
    fn the_emptiest_and_oldest_go_first_and_what_is_nearly_dead_comes_along() {
        let all = vec![candidate(1, 40 * MIB), candidate(2, MIB), candidate(3, 20 * MIB), candidate(4, 2 * MIB)];
        assert_eq!(sorted(choose(all, &limits(MIB))), [2, 4]);
        let all = vec![candidate(1, 40 * MIB), candidate(2, 30 * MIB), candidate(3, 20 * MIB), candidate(4, 2 * MIB)];
        assert_eq!(sorted(choose(all, &limits(MIB))), [3, 4], "until a segment and what is too much are gained");
    }

    #[test]
    fn what_dies_by_itself_is_left_alone_unless_space_is_short() {
        let dying = || (1..5).map(|number| Candidate { dies_soon: true, ..candidate(number, MIB) }).collect::<Vec<_>>();
        assert!(choose(dying(), &limits(100 * MIB)).is_empty());
        let short = Limits { is_short: true, ..limits(0) };
        assert_eq!(choose(dying(), &short).len(), 4);
    }

    #[test]
    fn no_more_is_moved_than_there_is_room_for() {
        let all = (1..9).map(|number| candidate(number, 20 * MIB)).collect();
        let chosen = choose(all, &Limits { live_bytes_max: 56 * MIB, is_short: true, ..limits(0) });
        assert_eq!(sorted(chosen), [1, 2]);
    }

    #[test]
    fn what_is_thin_and_stays_is_put_in_order_while_nothing_else_is_to_be_done() {
        let thin = |number| Candidate { live_rows: 1000, ..candidate(number, 30 * MIB) };
        let quiet = Limits { thin_row_bytes: MIB / 8, ..limits(0) };
        let all = || vec![thin(3), thin(1), thin(2)];
        assert!(may_be_any(&all(), &quiet));
        assert_eq!(sorted(choose(all(), &quiet)), [1, 2, 3]);
        assert!(!may_be_any(&all(), &limits(0)) && choose(all(), &limits(0)).is_empty(), "not while others append");
        let few = Limits { live_bytes_max: 70 * MIB, ..quiet };
        assert_eq!(sorted(choose(all(), &few)), [1, 2], "the oldest first");
        let dying = all().into_iter().map(|candidate| Candidate { stays: false, ..candidate }).collect();
        assert!(choose(dying, &quiet).is_empty());
        let left = [
            Candidate { live_bytes: 50 * MIB, ..thin(1) },
            Candidate { live_rows: 100, ..thin(2) },
            Candidate { is_cold: true, ..thin(3) },
        ];
        assert!(!may_be_any(&left, &quiet), "little is dead, much of each log, in order");
        assert!(choose(vec![thin(1)], &quiet).is_empty(), "it would give nothing back");
    }

    #[test]
    fn many_small_cold_segments_become_one() {
        let small = |number, bytes| Candidate { bytes, is_cold: true, ..candidate(number, bytes - 100_000) };
        let few: Vec<Candidate> = (1..8).map(|number| small(number, 2 * MIB)).collect();
        assert!(choose(few.clone(), &limits(0)).is_empty());
        let many = few.into_iter().chain([small(8, 3 * MIB), small(9, 32 * MIB), small(10, 5 * MIB)]).collect();
        assert_eq!(sorted(choose(many, &limits(0))), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
