//! How long a suite takes and how much disk it needs, before it begins. Rough, and rather too much than too little.

use super::definition::{ProbePace, Session, Step, Suite};
use super::order::{Sitting, Standing, is_floor};
use crate::lab::result::TargetKind;
use crate::lab::workload::{Rate, Workload};
use crate::report::float;

/// Seconds in which a server starts and stops, by kind.
const KAFKA_START_S: f64 = 9.0;
const OTHER_START_S: f64 = 1.5;
/// Seconds around a load: topics, connections, the last answers.
const LOAD_EDGES_S: f64 = 1.5;
/// Seconds for each partition to be created and led.
const PARTITION_S: f64 = 0.003;
/// What a fill or a backlog is taken to store in a second, in bytes.
const FILL_BYTES_PER_S: f64 = 150e6;
/// What Kafka's tools are taken to send or read in a second, in bytes, and seconds for both to start.
const TOOLS_BYTES_PER_S: f64 = 40e6;
const TOOLS_EDGES_S: f64 = 6.0;
/// `segment.bytes` where a workload does not say.
const SEGMENT_BYTES: u64 = 1 << 30;
/// Disk that a server needs with no data: prepared segments, indexes, its own topics.
const SERVER_BYTES: u64 = 1 << 30;

/// What of a step is still to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Left {
    pub(crate) trials: u32,
    pub(crate) seconds: f64,
}

impl Standing<'_, '_> {
    /// Seconds of the probe, if it is still to be made.
    pub(crate) fn probe_s(self) -> f64 {
        match self.suite.probe {
            Some(ProbePace::Quick) if self.finished.is_empty() => 8.0,
            Some(ProbePace::Thorough) if self.finished.is_empty() => 60.0,
            _ => 0.0,
        }
    }

    /// What is left of a sitting, the start and the warm-up of its server included.
    pub(crate) fn left_of_sitting(self, sitting: &Sitting<'_>) -> Left {
        let steps = sitting.session.steps.iter().enumerate();
        let wanted = steps.filter(|(_, step)| self.is_wanted(sitting, step));
        let lefts = wanted.map(|(index, step)| self.left_of_step(sitting, index, step));
        let sum = lefts.fold(Left { trials: 0, seconds: 0.0 }, Left::and);
        let edges = if sum.trials > 0 { self.edges_s(sitting) } else { 0.0 };
        Left { seconds: sum.seconds + edges, ..sum }
    }

    /// What is left of the whole suite.
    pub(crate) fn left(self) -> Left {
        let lefts = self.sittings().map(|sitting| self.left_of_sitting(&sitting));
        lefts.fold(Left { trials: 0, seconds: 0.0 }, Left::and)
    }

    /// Bytes of disk that what is left of the suite needs at once: those of its largest session.
    pub(crate) fn disk_bytes(self) -> u64 {
        let sittings = self.sittings().filter(|sitting| self.next_trial(sitting).is_some());
        let needs = sittings.map(|sitting| self.sitting_bytes(&sitting));
        needs.max().map_or(0, |bytes| SERVER_BYTES.saturating_add(bytes))
    }

    fn left_of_step(self, sitting: &Sitting<'_>, index: usize, step: &Step) -> Left {
        let is_done = |part: &str| self.finished.contains_key(&super::order::key(sitting, index, part));
        let trials = match step {
            Step::Load(_) | Step::StartTime(_) | Step::Idle(_) => u32::from(!is_done("")),
            Step::Confirmation(_) => 2 * u32::from(!is_done("produce")),
            Step::Ladder(ladder) => {
                let rungs = self.rungs(sitting, index, ladder);
                let tried = u32::try_from(rungs.len()).unwrap_or(u32::MAX);
                match ladder.ladder.next(&rungs) {
                    super::ladder::Next::Done(_) => 0,
                    super::ladder::Next::Try(_) => ladder.ladder.tries_max().saturating_sub(tried).max(1),
                }
            }
            Step::Latency(latency) => {
                let rates = self.latency_rates(sitting, latency);
                let known = rates.iter().filter(|rate| !is_done(&rate.part)).count();
                let is_climbed = self.is_climbed(&latency.ladder);
                // While the knees are unknown each share is taken to be measured by both.
                let kinds = 1 + usize::from(latency.reference.is_some());
                let trials = if is_climbed { known } else { latency.shares.len() * kinds };
                u32::try_from(trials).unwrap_or(u32::MAX)
            }
        };
        Left { trials, seconds: f64::from(trials) * trial_s(step) }
    }

    /// True when nothing is left to climb in a session.
    fn is_climbed(self, session: &str) -> bool {
        let mut sittings = self.sittings().filter(|sitting| sitting.session.name == session);
        let everything = Standing { only: None, ..self };
        sittings.all(|sitting| everything.next_trial(&sitting).is_none())
    }

    /// Bytes that a server stores in a sitting.
    fn sitting_bytes(self, sitting: &Sitting<'_>) -> u64 {
        let (suite, session) = (self.suite, sitting.session);
        let kind = self.kind(sitting);
        if is_floor(kind) {
            // Its one file is made beforehand.
            return 0;
        }
        let warm_up_s = suite.warm_up.rule(kind).at_most_s;
        let warm_up = session.warm_up_load().map_or(0, |load| stored_bytes(suite, load, load.rate, warm_up_s, 0));
        let steps = session.steps.iter().filter(|step| self.is_wanted(sitting, step));
        let steps = steps.map(|step| step_bytes(suite, step, session.delete_topics));
        let all: u64 = if session.delete_topics {
            // The last topics may still be on their way out while the next begin to fill.
            steps.max().map_or(0, |bytes| bytes + bytes / 4)
        } else {
            steps.sum()
        };
        warm_up.saturating_add(all)
    }

    fn kind(self, sitting: &Sitting<'_>) -> TargetKind {
        self.suite.targets.get(sitting.target).map_or(TargetKind::External, |target| target.kind)
    }

    /// Seconds of start, warm-up and stop.
    fn edges_s(self, sitting: &Sitting<'_>) -> f64 {
        let kind = self.kind(sitting);
        let start_s = if kind == TargetKind::Kafka { KAFKA_START_S } else { OTHER_START_S };
        let rule = self.suite.warm_up.rule(kind);
        // Some servers need a window or two more than the least.
        let extra_s = f64::from(rule.at_most_s - rule.at_least_s).min(10.0);
        let warm_up_s = sitting
            .session
            .warm_up_load()
            .map_or(0.0, |load| LOAD_EDGES_S + partitions_s(load) + f64::from(rule.at_least_s) + extra_s);
        start_s + warm_up_s
    }
}

impl Left {
    fn and(self, other: Left) -> Left {
        Left { trials: self.trials.saturating_add(other.trials), seconds: self.seconds + other.seconds }
    }
}

/// Seconds of one trial of a step.
fn trial_s(step: &Step) -> f64 {
    match step {
        Step::Load(step) => load_s(&step.workload) + float(step.fill_bytes) / FILL_BYTES_PER_S,
        Step::Ladder(step) => load_s(&step.workload),
        Step::Latency(step) => load_s(&step.workload),
        Step::Idle(step) => {
            let partitions = f64::from(step.topics) * f64::from(step.partitions);
            LOAD_EDGES_S + partitions * PARTITION_S + 2.0 * f64::from(step.seconds)
        }
        Step::StartTime(step) => {
            LOAD_EDGES_S + partitions_s(&step.workload) + float(step.fill_bytes) / FILL_BYTES_PER_S + KAFKA_START_S
        }
        Step::Confirmation(step) => {
            float(step.records) * f64::from(step.record_bytes) / TOOLS_BYTES_PER_S + TOOLS_EDGES_S / 2.0
        }
    }
}

fn load_s(load: &Workload) -> f64 {
    let backlog = load.catch_up.as_ref().map_or(0, |catch_up| catch_up.backlog_bytes);
    // A warm-up that has not settled goes on for as long again: half of them are taken to do so.
    let seconds = 1.5 * f64::from(load.warm_up_s) + f64::from(load.duration_s);
    LOAD_EDGES_S + partitions_s(load) + float(backlog) / FILL_BYTES_PER_S + seconds
}

fn partitions_s(load: &Workload) -> f64 {
    f64::from(load.topics) * f64::from(load.partitions) * PARTITION_S
}

fn step_bytes(suite: &Suite, step: &Step, one_trial: bool) -> u64 {
    let trials = |count: u32| if one_trial { 1 } else { u64::from(count) };
    let load_bytes = |load: &Workload, rate: Rate, fill_bytes: u64| {
        let backlog = load.catch_up.as_ref().map_or(0, |catch_up| catch_up.backlog_bytes);
        stored_bytes(suite, load, rate, 2 * load.warm_up_s + load.duration_s, fill_bytes + backlog)
    };
    match step {
        Step::Load(step) => load_bytes(&step.workload, step.workload.rate, step.fill_bytes),
        Step::Ladder(step) => {
            // Rates double: together they store as much as a few of the highest.
            let highest = load_bytes(&step.workload, Rate::PerSecond(step.ladder.last_per_s), 0);
            highest * trials(step.ladder.tries_max())
        }
        Step::Latency(step) => {
            let count = 2 * u32::try_from(step.shares.len()).unwrap_or(u32::MAX / 2);
            let highest = suite.session(&step.ladder).and_then(Session::ladder).map(|ladder| ladder.ladder.last_per_s);
            load_bytes(&step.workload, highest.map_or(Rate::Max, Rate::PerSecond), 0) * trials(count)
        }
        Step::Idle(_) => 0,
        Step::StartTime(step) => load_bytes(&step.workload, Rate::PerSecond(0.0), step.fill_bytes),
        Step::Confirmation(step) => step.records * u64::from(step.record_bytes),
    }
}

/// Bytes that a load stores in so many seconds and beforehand, of which its retention keeps only a part.
fn stored_bytes(suite: &Suite, load: &Workload, rate: Rate, seconds: u32, before_bytes: u64) -> u64 {
    let per_s = match rate {
        Rate::Max => suite.stored_bytes_per_s_max,
        Rate::PerSecond(per_s) => whole(per_s * load.record_bytes.mean()).min(suite.stored_bytes_per_s_max),
    };
    let stored = per_s.saturating_mul(u64::from(seconds)).saturating_add(before_bytes);
    let config = |name: &str| load.topic_configs.get(name).and_then(|value| value.parse::<u64>().ok());
    match config("retention.bytes") {
        None => stored,
        Some(retention) => {
            let kept = retention.saturating_add(2 * config("segment.bytes").unwrap_or(SEGMENT_BYTES));
            stored.min(kept.saturating_mul(u64::from(load.topics) * u64::from(load.partitions)))
        }
    }
}

/// A whole number of bytes; what is too much for it counts as its greatest.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::suite::order::Finished;
    use crate::lab::suite::samples::{suite, trial};

    const SUITE: &str = r#"
        name = "small"
        stored_bytes_per_s_max = 1000
        warm_up.corelane = { at_least_s = 20, at_most_s = 20 }
        warm_up.kafka = { at_least_s = 20, at_most_s = 20 }
        [targets.a]
        kind = "corelane"
        durability = "written"
        [[sessions]]
        name = "one"
        targets = ["a"]
        workload = { warm_up_s = 10, duration_s = 30, partitions = 1 }
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
    "#;

    #[test]
    fn the_estimate_falls_with_each_finished_trial_and_ends_at_zero() {
        let suite = suite(SUITE);
        let mut finished = Finished::new();
        let left = |finished: &Finished| Standing { suite: &suite, only: None, finished }.left();
        let all = left(&finished);
        assert_eq!(all.trials, 2);
        assert!((all.seconds - (1.5 + 1.5 + 20.0 + 2.0 * 46.5)).abs() < 0.1, "{all:?}");
        for trials in [1, 0] {
            let standing = Standing { suite: &suite, only: None, finished: &finished };
            let planned = standing.next_trial(&standing.next_sitting().unwrap()).unwrap();
            let trial = trial(&planned);
            finished.insert(planned.key, trial);
            assert_eq!(left(&finished).trials, trials);
        }
        assert!(left(&finished).seconds.abs() < 1e-9);
    }

    fn disk_bytes(text: &str) -> u64 {
        Standing { suite: &suite(text), only: None, finished: &Finished::new() }.disk_bytes()
    }

    #[test]
    fn the_disk_holds_what_retention_keeps_and_no_more() {
        let full = disk_bytes(SUITE) - SERVER_BYTES;
        assert_eq!(full, 1000 * (20 + 2 * 50));
        let kept =
            SUITE.replace("partitions = 1", "topic_configs = { 'retention.bytes' = '100', 'segment.bytes' = '10' }");
        assert_eq!(disk_bytes(&kept) - SERVER_BYTES, 120 * 3);
        let deleted = SUITE.replace("targets = [\"a\"]", "targets = [\"a\"]\ndelete_topics = true");
        assert_eq!(disk_bytes(&deleted) - SERVER_BYTES, 1000 * 20 + 1000 * 50 * 5 / 4);
    }
}
