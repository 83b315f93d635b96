//! What a suite consists of, as a TOML file says it: servers, sessions and the steps of each. Plain values; what a file
//! leaves out has a default, what contradicts itself is refused with one line.
//!
//! A *session* is one life of a server, in a clean directory: started, warmed up once, taken through all steps, stopped.
//! Each session is held with each of its targets in turn, and that as often as it has repeats: A B A B.

use std::collections::BTreeMap;
use std::error::Error;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::ladder::LadderRule;
use super::validate;
use crate::lab::result::TargetKind;
use crate::lab::target::TargetSpec;
use crate::lab::workload::Workload;

/// A whole suite.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Suite {
    /// Names it in reports.
    pub(crate) name: String,
    /// How often each session is held with each target, unless the session says otherwise.
    #[serde(default = "one")]
    pub(crate) repeats: u32,
    /// Measures the machine's limits before the first session.
    pub(crate) probe: Option<ProbePace>,
    /// How servers are warmed up after their start.
    #[serde(default)]
    pub(crate) warm_up: WarmUpRules,
    /// What no server here is expected to store in a second, in bytes: by it the need of disk is reckoned.
    #[serde(default = "stored_bytes_per_s_max")]
    pub(crate) stored_bytes_per_s_max: u64,
    /// Broker settings of all servers that are started here, by Kafka's names; a target's own win. As all have them, they set
    /// none apart as a variant.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
    /// The servers, by the names that sessions use.
    pub(crate) targets: BTreeMap<String, TargetSpec>,
    /// Names that stand for the best of several targets.
    #[serde(default)]
    pub(crate) best: BTreeMap<String, Best>,
    /// What is held, in this order.
    pub(crate) sessions: Vec<Session>,
}

/// How thoroughly the machine's limits are measured.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProbePace {
    /// Under ten seconds.
    Quick,
    /// About a minute.
    Thorough,
}

/// A choice among variants of one server, made by what was measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Best {
    /// The targets to choose from. The first is taken where nothing was measured.
    pub(crate) among: Vec<String>,
    /// The session, held with all of them, whose maxima decide.
    pub(crate) session: Option<String>,
    /// Instead of a session: another choice with as many targets; the one at the same place as its choice is taken.
    pub(crate) like: Option<String>,
}

/// One life of a server.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// Names it: letters, digits, `-`, `_` and `.`.
    pub(crate) name: String,
    /// Targets or choices that take turns.
    pub(crate) targets: Vec<String>,
    /// Instead of the suite's.
    pub(crate) repeats: Option<u32>,
    /// The load by which a server is warmed up; without it, that of the first `load` step. A session without either is cold.
    pub(crate) warm_up: Option<Workload>,
    /// Deletes the topics of each step after it, for want of disk. Corelane then writes to segments that are free again.
    #[serde(default)]
    pub(crate) delete_topics: bool,
    pub(crate) steps: Vec<Step>,
}

/// A part of a session.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Step {
    /// One workload, once.
    Load(LoadStep),
    /// Rising rates up to the knee.
    Ladder(LadderStep),
    /// Shares of a knee that was found before.
    Latency(LatencyStep),
    /// What a server costs that nobody uses.
    Idle(IdleStep),
    /// Fills, stops cleanly and starts again. The last of its session, as the server is cold afterwards.
    StartTime(StartTimeStep),
    /// Kafka's own tools.
    Confirmation(ConfirmationStep),
}

/// One workload, once.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadStep {
    /// The row or picture that it belongs to.
    pub(crate) theme: String,
    /// Only these of the session's targets.
    pub(crate) targets: Option<Vec<String>>,
    /// Bytes of records that are stored under this load before its warm-up, for a store past its recycling point.
    #[serde(default)]
    pub(crate) fill_bytes: u64,
    pub(crate) workload: Workload,
}

/// Rising rates; the workload's own rate does not matter.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LadderStep {
    /// Only these of the session's targets.
    pub(crate) targets: Option<Vec<String>>,
    pub(crate) ladder: LadderRule,
    pub(crate) workload: Workload,
}

/// One workload at several shares of a knee; its own rate does not matter.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LatencyStep {
    /// Only these of the session's targets.
    pub(crate) targets: Option<Vec<String>>,
    /// Session whose ladder found the knees.
    pub(crate) ladder: String,
    /// Shares of the knee, above 0 and at most 1.
    pub(crate) shares: Vec<f64>,
    /// The target by whose knee all are measured, at equal rates (theme `latency`); the others are then also measured by
    /// their own (theme `latency-own-knee`). Without it each by its own only (theme `latency`).
    pub(crate) reference: Option<String>,
    pub(crate) workload: Workload,
}

/// Partitions and connections that nobody uses.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdleStep {
    /// Only these of the session's targets.
    pub(crate) targets: Option<Vec<String>>,
    pub(crate) topics: u32,
    /// Of each topic.
    pub(crate) partitions: u32,
    /// Open, without a request.
    pub(crate) connections: u32,
    /// Seconds that count, after as many in which things come to rest.
    pub(crate) seconds: u32,
}

/// Time from the start of the process to its first answer, with data.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartTimeStep {
    /// Only these of the session's targets.
    pub(crate) targets: Option<Vec<String>>,
    /// Bytes of records to store before the stop.
    pub(crate) fill_bytes: u64,
    /// The load that stores them.
    pub(crate) workload: Workload,
}

/// `kafka-producer-perf-test`, then `kafka-consumer-perf-test` on the same topic: two trials.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmationStep {
    /// Only these of the session's targets.
    pub(crate) targets: Option<Vec<String>>,
    pub(crate) partitions: u32,
    /// How many are sent, then read.
    pub(crate) records: u64,
    /// Size of each.
    pub(crate) record_bytes: u32,
}

/// How long servers are warmed up, by their kind.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WarmUpRules {
    /// A server on a JVM compiles while it works, so it needs a minute at least. Also for `external`.
    pub(crate) kafka: WarmUpRule,
    /// Compiled ahead: what has to settle is its memory and its files. Also for the floors.
    pub(crate) corelane: WarmUpRule,
}

/// How long a server is warmed up: until it has settled, within these bounds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WarmUpRule {
    pub(crate) at_least_s: u32,
    /// Then it counts as not warm.
    pub(crate) at_most_s: u32,
}

impl Default for WarmUpRules {
    fn default() -> WarmUpRules {
        WarmUpRules {
            kafka: WarmUpRule { at_least_s: 60, at_most_s: 180 },
            corelane: WarmUpRule { at_least_s: 20, at_most_s: 90 },
        }
    }
}

impl WarmUpRules {
    /// The rule for a server of this kind.
    pub(crate) fn rule(&self, kind: TargetKind) -> WarmUpRule {
        match kind {
            TargetKind::Kafka | TargetKind::External => self.kafka,
            TargetKind::Corelane | TargetKind::FloorRaw | TargetKind::FloorRuntime => self.corelane,
        }
    }
}

impl Suite {
    /// Reads a suite file. A table `[workload]` in it is what all its workloads begin with, a table `workload` of a session
    /// what those of its steps and its warm-up do; what is nearer wins.
    ///
    /// Errors: what TOML or a field is wrong about, or which two parts contradict each other.
    pub(crate) fn parse(text: &str) -> Result<Suite, Box<dyn Error>> {
        let mut table: Table = text.parse()?;
        let base = take_table(&mut table, "workload")?;
        for session in tables(&mut table, "sessions") {
            let mut session_base = take_table(session, "workload")?;
            fill_in(&mut session_base, &base);
            if let Some(Value::Table(warm_up)) = session.get_mut("warm_up") {
                fill_in(warm_up, &session_base);
            }
            for step in tables(session, "steps") {
                if step.get("kind").and_then(Value::as_str).is_some_and(has_workload) {
                    let workload = step.entry("workload").or_insert_with(|| Value::Table(Table::new()));
                    if let Value::Table(workload) = workload {
                        fill_in(workload, &session_base);
                    }
                }
            }
        }
        let suite: Suite = table.try_into()?;
        validate::suite(&suite)?;
        Ok(suite)
    }

    /// How often a session is held with each of its targets.
    pub(crate) fn repeats(&self, session: &Session) -> u32 {
        session.repeats.unwrap_or(self.repeats)
    }

    /// The session of that name.
    pub(crate) fn session(&self, name: &str) -> Option<&Session> {
        self.sessions.iter().find(|session| session.name == name)
    }
}

impl Session {
    /// The load by which a server is warmed up, if there is one.
    pub(crate) fn warm_up_load(&self) -> Option<&Workload> {
        let first = self.steps.iter().find_map(|step| match step {
            Step::Load(step) => Some(&step.workload),
            _ => None,
        });
        self.warm_up.as_ref().or(first)
    }

    /// Its ladder, if it has one: the first.
    pub(crate) fn ladder(&self) -> Option<&LadderStep> {
        self.ladder_at().map(|(_, ladder)| ladder)
    }

    /// Its ladder with its place among the steps.
    pub(crate) fn ladder_at(&self) -> Option<(usize, &LadderStep)> {
        self.steps.iter().enumerate().find_map(|(place, step)| match step {
            Step::Ladder(ladder) => Some((place, ladder)),
            _ => None,
        })
    }
}

impl Step {
    /// The only targets of the session that take it, if not all do.
    pub(crate) fn targets(&self) -> Option<&[String]> {
        match self {
            Step::Load(step) => step.targets.as_deref(),
            Step::Ladder(step) => step.targets.as_deref(),
            Step::Latency(step) => step.targets.as_deref(),
            Step::Idle(step) => step.targets.as_deref(),
            Step::StartTime(step) => step.targets.as_deref(),
            Step::Confirmation(step) => step.targets.as_deref(),
        }
    }

    /// Has a further target of the session take it.
    pub(crate) fn add_target(&mut self, name: &str) {
        let targets = match self {
            Step::Load(step) => &mut step.targets,
            Step::Ladder(step) => &mut step.targets,
            Step::Latency(step) => &mut step.targets,
            Step::Idle(step) => &mut step.targets,
            Step::StartTime(step) => &mut step.targets,
            Step::Confirmation(step) => &mut step.targets,
        };
        targets.iter_mut().for_each(|targets| targets.push(name.to_owned()));
    }

    /// The load that it consists of, if it is one.
    pub(crate) fn workload(&self) -> Option<&Workload> {
        match self {
            Step::Load(step) => Some(&step.workload),
            Step::Ladder(step) => Some(&step.workload),
            Step::Latency(step) => Some(&step.workload),
            Step::StartTime(step) => Some(&step.workload),
            Step::Idle(_) | Step::Confirmation(_) => None,
        }
    }

    /// The row or picture that it belongs to.
    pub(crate) fn theme(&self) -> &str {
        match self {
            Step::Load(step) => &step.theme,
            Step::Ladder(_) => "ladder",
            Step::Latency(_) => "latency",
            Step::Idle(_) => "idle",
            Step::StartTime(_) => "start-time",
            Step::Confirmation(_) => "confirmation",
        }
    }
}

fn has_workload(kind: &str) -> bool {
    matches!(kind, "load" | "ladder" | "latency" | "start-time")
}

/// Removes and returns a table; an empty one where there is none.
fn take_table(table: &mut Table, key: &str) -> Result<Table, String> {
    match table.remove(key) {
        None => Ok(Table::new()),
        Some(Value::Table(found)) => Ok(found),
        Some(_) => Err(format!("{key} must be a table")),
    }
}

/// The tables of an array, if it is one; what else stands there is refused when the suite is read from the result.
fn tables<'a>(table: &'a mut Table, key: &str) -> impl Iterator<Item = &'a mut Table> {
    let array = table.get_mut(key).and_then(Value::as_array_mut);
    array.into_iter().flatten().filter_map(Value::as_table_mut)
}

/// Adds what is missing in `table`; topic configs are joined one by one.
fn fill_in(table: &mut Table, base: &Table) {
    for (key, value) in base {
        match (table.get_mut(key), value) {
            (None, value) => {
                table.insert(key.clone(), value.clone());
            }
            (Some(Value::Table(own)), Value::Table(base)) if key == "topic_configs" => fill_in(own, base),
            (Some(_), _) => {}
        }
    }
}

fn one() -> u32 {
    1
}

pub(crate) fn stored_bytes_per_s_max() -> u64 {
    500_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        name = "small"
        [workload]
        producers = 4
        topic_configs = { "retention.bytes" = "1" }
        [targets.a]
        kind = "corelane"
        durability = "written"
        [[sessions]]
        name = "throughput"
        targets = ["a"]
        workload = { partitions = 7 }
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
        workload = { name = "large", partitions = 8, topic_configs = { "segment.bytes" = "2" } }
    "#;

    #[test]
    fn what_a_workload_leaves_out_comes_from_the_session_and_then_from_the_suite() {
        let suite = Suite::parse(SMALL).unwrap();
        let workload = suite.sessions[0].steps[0].workload().unwrap();
        assert_eq!((workload.producers, workload.partitions), (4, 8));
        assert_eq!(workload.topic_configs.len(), 2, "topic configs are joined");
        assert_eq!(suite.sessions[0].warm_up_load(), Some(workload));
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = Suite::parse(&SMALL.replace("producers", "producer")).unwrap_err().to_string();
        assert!(error.contains("producer"), "{error}");
        assert!(Suite::parse(&SMALL.replace("theme =", "topic =")).is_err());
    }
}
