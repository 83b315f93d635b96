//! Which trial comes next. Plain decisions on the suite and on what is finished, so that a suite that was stopped goes on
//! exactly as if it had not been.
//!
//! ```text
//! session 1, repeat 0: target A, target B    (each a sitting: one life of a server, all steps of the session)
//!            repeat 1: target A, target B
//! session 2, repeat 0: …
//! ```

use std::collections::BTreeMap;

use super::best;
use super::definition::{ConfirmationStep, IdleStep, LadderStep, LatencyStep, Session, Step, Suite};
use super::ladder::{Next, Rung};
use super::resume::TrialKey;
use crate::lab::result::{TargetKind, Trial};
use crate::lab::workload::{Acks, Rate, RecordBytes, Workload};
use crate::report::median;

/// What is finished.
pub(crate) type Finished = BTreeMap<TrialKey, Trial>;

/// What of a suite is wanted, and in which state it is.
#[derive(Clone, Copy)]
pub(crate) struct Standing<'s, 'f> {
    pub(crate) suite: &'s Suite,
    /// Only steps in whose session, theme or workload this word occurs.
    pub(crate) only: Option<&'s str>,
    pub(crate) finished: &'f Finished,
}

/// One life of a server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sitting<'a> {
    pub(crate) session: &'a Session,
    /// Name of the target, of a choice the chosen one.
    pub(crate) target: &'a str,
    pub(crate) repeat: u32,
}

/// A trial that is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned<'a> {
    pub(crate) key: TrialKey,
    pub(crate) theme: String,
    pub(crate) workload: Workload,
    pub(crate) act: Act<'a>,
}

/// What is done in a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act<'a> {
    /// Puts the server under the load, after so many bytes of it.
    Load { fill_bytes: u64 },
    /// Watches a server that nobody uses.
    Idle(&'a IdleStep),
    /// Stores so many bytes, stops the server and starts it again.
    StartTime { fill_bytes: u64 },
    /// Runs Kafka's own tools: two trials.
    Confirmation(&'a ConfirmationStep),
}

impl<'s, 'f> Standing<'s, 'f> {
    /// All sittings in their order, finished or not.
    pub(crate) fn sittings(self) -> impl Iterator<Item = Sitting<'s>> + use<'s, 'f> {
        self.suite.sessions.iter().flat_map(move |session| {
            (0..self.suite.repeats(session)).flat_map(move |repeat| {
                session.targets.iter().map(move |target| {
                    let target = best::resolve(self.suite, target, self.finished);
                    Sitting { session, target, repeat }
                })
            })
        })
    }

    /// The first sitting with a trial that is not finished.
    pub(crate) fn next_sitting(self) -> Option<Sitting<'s>> {
        self.sittings().find(|sitting| self.next_trial(sitting).is_some())
    }

    /// The first trial of a sitting that is not finished.
    pub(crate) fn next_trial(self, sitting: &Sitting<'s>) -> Option<Planned<'s>> {
        let steps = sitting.session.steps.iter().enumerate();
        let wanted = steps.filter(|(_, step)| self.is_wanted(sitting, step));
        wanted.into_iter().find_map(|(index, step)| self.next_of_step(sitting, index, step))
    }

    /// True when the target takes this step and the words given ask for it.
    pub(crate) fn is_wanted(self, sitting: &Sitting<'s>, step: &Step) -> bool {
        let takes = step.targets().is_none_or(|targets| {
            targets.iter().any(|target| best::resolve(self.suite, target, self.finished) == sitting.target)
        });
        let is_asked_for = self.only.is_none_or(|word| {
            let workload = step.workload().map_or("", |workload| &workload.name);
            [&sitting.session.name, step.theme(), workload].iter().any(|text| text.contains(word))
        });
        // A server that somebody else runs is not stopped from here.
        let is_theirs =
            self.suite.targets.get(sitting.target).is_some_and(|target| target.kind == TargetKind::External);
        takes && is_asked_for && !(is_theirs && matches!(step, Step::StartTime(_)))
    }

    fn next_of_step(self, sitting: &Sitting<'s>, index: usize, step: &'s Step) -> Option<Planned<'s>> {
        let key = |part: &str| key(sitting, index, part);
        let single = |name: &str, workload: Workload, act: Act<'s>| {
            let key = key(name);
            let theme = step.theme().to_owned();
            let kind = self.suite.targets.get(sitting.target).map(|target| target.kind);
            let workload = if kind.is_some_and(is_floor) { for_floor(&workload) } else { workload };
            (!self.finished.contains_key(&key)).then_some(Planned { key, theme, workload, act })
        };
        match step {
            Step::Load(load) => single("", load.workload.clone(), Act::Load { fill_bytes: load.fill_bytes }),
            Step::StartTime(start) => {
                single("", start.workload.clone(), Act::StartTime { fill_bytes: start.fill_bytes })
            }
            Step::Idle(idle) => single("", idle_workload(idle), Act::Idle(idle)),
            Step::Confirmation(tools) => single("produce", tools_workload(tools), Act::Confirmation(tools)),
            Step::Ladder(ladder) => {
                let rungs = self.rungs(sitting, index, ladder);
                let Next::Try(per_s) = ladder.ladder.next(&rungs) else { return None };
                let name = format!("{}-ladder", ladder.workload.name);
                single(
                    &format!("{:02}", rungs.len()),
                    at_rate(&ladder.workload, name, per_s),
                    Act::Load { fill_bytes: 0 },
                )
            }
            Step::Latency(latency) => self.next_latency(sitting, index, latency),
        }
    }

    fn next_latency(self, sitting: &Sitting<'s>, index: usize, step: &LatencyStep) -> Option<Planned<'s>> {
        self.latency_rates(sitting, step).into_iter().find_map(|rate| {
            let key = key(sitting, index, &rate.part);
            let name = format!("{}-{}", step.workload.name, rate.part);
            let workload = at_rate(&step.workload, name, rate.per_s);
            let act = Act::Load { fill_bytes: 0 };
            let theme = rate.theme.to_owned();
            (!self.finished.contains_key(&key)).then_some(Planned { key, theme, workload, act })
        })
    }

    /// The rates of a latency step; none while the knees are not known.
    pub(crate) fn latency_rates(self, sitting: &Sitting<'s>, step: &LatencyStep) -> Vec<LatencyRate> {
        let reference = step.reference.as_ref().map(|target| best::resolve(self.suite, target, self.finished));
        let knee = self.knee(&step.ladder, sitting.target);
        let mut rates = Vec::new();
        for share in &step.shares {
            let mut add = |knee: Option<f64>, theme, prefix: &str| {
                let percent = share * 100.0;
                let part = format!("{prefix}{percent:.0}");
                rates.extend(knee.map(|knee| LatencyRate { theme, part, per_s: (knee * share).round().max(1.0) }));
            };
            match reference {
                None => add(knee, "latency", ""),
                Some(reference) => {
                    add(self.knee(&step.ladder, reference), "latency", "");
                    if reference != sitting.target {
                        add(knee, "latency-own-knee", "own-");
                    }
                }
            }
        }
        rates
    }

    /// The knee that a session's ladder found for a target: the median over the repeats that are finished.
    pub(crate) fn knee(self, session: &str, target: &str) -> Option<f64> {
        let knee = median(self.knees(session, target).into_iter().flatten());
        knee.is_finite().then_some(knee)
    }

    /// What a session's ladder found for a target in each repeat that is finished: `None` where the lowest rate failed.
    pub(crate) fn knees(self, session: &str, target: &str) -> Vec<Option<f64>> {
        let Some(session) = self.suite.session(session) else { return Vec::new() };
        let Some((index, ladder)) = session.ladder_at() else { return Vec::new() };
        let ends = (0..self.suite.repeats(session)).map(|repeat| {
            let sitting = Sitting { session, target, repeat };
            ladder.ladder.next(&self.rungs(&sitting, index, ladder))
        });
        let knees = ends.filter_map(|end| match end {
            Next::Done(knee) => Some(knee),
            Next::Try(_) => None,
        });
        knees.collect()
    }

    /// The tries of a ladder so far, in their order.
    pub(crate) fn rungs(self, sitting: &Sitting<'_>, index: usize, step: &LadderStep) -> Vec<Rung> {
        let trials = (0..).map_while(|rung| self.finished.get(&key(sitting, index, &format!("{rung:02}"))));
        trials.filter_map(|trial| step.ladder.rung(trial)).collect()
    }
}

/// A rate of a latency step.
pub(crate) struct LatencyRate {
    pub(crate) theme: &'static str,
    /// What tells it from the others, for example `own-25`.
    pub(crate) part: String,
    pub(crate) per_s: f64,
}

/// The key of a trial.
pub(crate) fn key(sitting: &Sitting<'_>, index: usize, part: &str) -> TrialKey {
    TrialKey {
        session: sitting.session.name.clone(),
        repeat: sitting.repeat,
        target: sitting.target.to_owned(),
        step: index,
        part: part.to_owned(),
    }
}

/// True of servers that answer one producer and know nothing else.
pub(crate) fn is_floor(kind: TargetKind) -> bool {
    matches!(kind, TargetKind::FloorRaw | TargetKind::FloorRuntime)
}

/// The part of a load that a floor understands. It answers when the bytes are written, which brokers whose durability is
/// *written* do with any acks.
pub(crate) fn for_floor(load: &Workload) -> Workload {
    Workload { producers: 1, topics: 1, consumer_groups: 0, catch_up: None, acks: Acks::Leader, ..load.clone() }
}

fn at_rate(workload: &Workload, name: String, per_s: f64) -> Workload {
    Workload { name, rate: Rate::PerSecond(per_s), ..workload.clone() }
}

fn idle_workload(step: &IdleStep) -> Workload {
    Workload {
        name: "idle".to_owned(),
        topics: step.topics,
        partitions: step.partitions,
        producers: step.connections,
        rate: Rate::PerSecond(0.0),
        warm_up_s: step.seconds,
        duration_s: step.seconds,
        ..Workload::default()
    }
}

fn tools_workload(step: &ConfirmationStep) -> Workload {
    Workload {
        name: "kafka-producer-perf-test".to_owned(),
        partitions: step.partitions,
        record_bytes: RecordBytes::Fixed(step.record_bytes),
        warm_up_s: 0,
        duration_s: 0,
        ..Workload::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::suite::samples::{suite, trial};

    const TWO: &str = r#"
        name = "two"
        repeats = 2
        [targets.a]
        kind = "corelane"
        durability = "written"
        [targets.b]
        kind = "kafka"
        durability = "written"
        [[sessions]]
        name = "throughput"
        targets = ["a", "b"]
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
        workload = { name = "small" }
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
        targets = ["a"]
        workload = { name = "large" }
    "#;

    const LADDER: &str = r#"
        name = "ladder"
        [targets.a]
        kind = "corelane"
        durability = "written"
        [targets.b]
        kind = "kafka"
        durability = "written"
        [[sessions]]
        name = "knees"
        targets = ["a", "b"]
        warm_up = {}
        [[sessions.steps]]
        kind = "ladder"
        ladder = { first_per_s = 1000, last_per_s = 8000, factor = 2, precision = 2, p99_ms_max = 50 }
        [[sessions]]
        name = "latency"
        targets = ["a", "b"]
        warm_up = {}
        [[sessions.steps]]
        kind = "latency"
        ladder = "knees"
        reference = "b"
        shares = [0.25, 0.5]
    "#;

    /// Does all trials, each with the result that `result` makes of it, and lists target, repeat and workload.
    fn done(suite: &Suite, only: Option<&str>, result: impl Fn(&Planned<'_>) -> Trial) -> Vec<String> {
        let (mut finished, mut order) = (Finished::new(), Vec::new());
        loop {
            let standing = Standing { suite, only, finished: &finished };
            let Some(sitting) = standing.next_sitting() else { return order };
            let planned = standing.next_trial(&sitting).unwrap();
            let rate = match planned.workload.rate {
                Rate::Max => String::new(),
                Rate::PerSecond(per_s) => format!(" {per_s}"),
            };
            order.push(format!("{}{} {}{rate}", sitting.target, sitting.repeat, planned.workload.name));
            let trial = result(&planned);
            finished.insert(planned.key, trial);
        }
    }

    #[test]
    fn targets_take_turns_within_each_repeat() {
        let order = done(&suite(TWO), None, trial);
        assert_eq!(order, ["a0 small", "a0 large", "b0 small", "a1 small", "a1 large", "b1 small"]);
    }

    #[test]
    fn only_what_is_asked_for_is_done() {
        assert_eq!(done(&suite(TWO), Some("large"), trial), ["a0 large", "a1 large"]);
        assert_eq!(done(&suite(TWO), Some("nothing"), trial), [""; 0]);
    }

    #[test]
    fn a_suite_that_was_stopped_goes_on_where_it_was() {
        let suite = suite(TWO);
        let mut finished = Finished::new();
        for _ in 0..3 {
            let standing = Standing { suite: &suite, only: None, finished: &finished };
            let planned = standing.next_trial(&standing.next_sitting().unwrap()).unwrap();
            let trial = trial(&planned);
            finished.insert(planned.key, trial);
        }
        let standing = Standing { suite: &suite, only: None, finished: &finished };
        let sitting = standing.next_sitting().unwrap();
        assert_eq!((sitting.target, sitting.repeat), ("a", 1));
    }

    #[test]
    fn latencies_are_measured_at_shares_of_the_knee_of_the_reference_and_of_the_own() {
        let sustained = |planned: &Planned<'_>| {
            let limit = if planned.key.target == "a" { 8000.0 } else { 2500.0 };
            let mut trial = trial(planned);
            if matches!(planned.workload.rate, Rate::PerSecond(per_s) if per_s > limit) {
                trial.verdict = vec![crate::lab::result::Objection::NotSustained { acknowledged_share: 0.5 }];
            }
            trial
        };
        let order = done(&suite(LADDER), None, sustained);
        let latencies: Vec<&str> = order.iter().filter(|line| !line.contains("ladder")).map(String::as_str).collect();
        assert_eq!(
            latencies,
            [
                "a0 unnamed-25 500",
                "a0 unnamed-own-25 2000",
                "a0 unnamed-50 1000",
                "a0 unnamed-own-50 4000",
                "b0 unnamed-25 500",
                "b0 unnamed-50 1000",
            ]
        );
    }

    #[test]
    fn latencies_are_left_out_where_there_is_no_knee() {
        let failing = |planned: &Planned<'_>| Trial {
            verdict: vec![crate::lab::result::Objection::NotSustained { acknowledged_share: 0.5 }],
            ..trial(planned)
        };
        let order = done(&suite(LADDER), None, failing);
        assert!(order.iter().all(|line| line.contains("ladder")), "{order:?}");
    }
}
