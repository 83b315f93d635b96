//! What a suite may not say: parts that contradict each other, each refused with one line that names them.

use super::definition::{Best, LatencyStep, Session, Step, Suite, WarmUpRule};
use super::ladder::LadderRule;
use super::order::{for_floor, is_floor};
use crate::lab::workload::Workload;

/// Refuses a suite that contradicts itself.
pub(crate) fn suite(suite: &Suite) -> Result<(), String> {
    require(suite.repeats > 0, || "repeats must be 1 or more".to_owned())?;
    for (kind, rule) in [("kafka", suite.warm_up.kafka), ("corelane", suite.warm_up.corelane)] {
        warm_up(kind, rule)?;
    }
    for name in suite.targets.keys().chain(suite.best.keys()) {
        is_name("target", name)?;
        let is_once = !(suite.targets.contains_key(name) && suite.best.contains_key(name));
        require(is_once, || format!("{name} is a target and a choice"))?;
    }
    for (name, best) in &suite.best {
        choice(suite, name, best)?;
    }
    require(!suite.sessions.is_empty(), || "a suite needs [[sessions]]".to_owned())?;
    for (index, one) in suite.sessions.iter().enumerate() {
        let is_first = suite.sessions[..index].iter().all(|earlier| earlier.name != one.name);
        require(is_first, || format!("two sessions are named {}", one.name))?;
        session(suite, index, one).map_err(|error| format!("session {}: {error}", one.name))?;
    }
    Ok(())
}

/// A name that can stand in the name of a file and of a topic.
pub(crate) fn is_name(what: &str, name: &str) -> Result<(), String> {
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    require(!name.is_empty() && name.chars().all(is_good), || {
        format!("{what} \"{name}\" must consist of letters, digits, '-', '_' and '.'")
    })
}

fn warm_up(kind: &str, rule: WarmUpRule) -> Result<(), String> {
    require(rule.at_least_s <= rule.at_most_s, || format!("warm_up.{kind}: at_least_s is above at_most_s"))
}

fn choice(suite: &Suite, name: &str, best: &Best) -> Result<(), String> {
    let unknown = best.among.iter().find(|target| !suite.targets.contains_key(*target));
    require(unknown.is_none() && !best.among.is_empty(), || format!("best.{name}: among must name targets"))?;
    match (&best.session, &best.like) {
        (Some(session), None) => {
            let session = suite.session(session);
            let has_all = session.is_some_and(|held| best.among.iter().all(|target| held.targets.contains(target)));
            require(has_all, || format!("best.{name}: its session must exist and be held with all targets among"))
        }
        (None, Some(like)) => {
            let fits =
                suite.best.get(like).is_some_and(|other| other.like.is_none() && other.among.len() == best.among.len());
            require(fits, || format!("best.{name}: like must name a choice by a session, with as many targets"))
        }
        _ => Err(format!("best.{name}: give either session or like")),
    }
}

fn session(suite: &Suite, index: usize, session: &Session) -> Result<(), String> {
    is_name("session", &session.name)?;
    require(session.repeats != Some(0), || "repeats must be 1 or more".to_owned())?;
    require(!session.targets.is_empty() && !session.steps.is_empty(), || "targets and steps must be given".to_owned())?;
    for name in &session.targets {
        let is_known = suite.targets.contains_key(name) || suite.best.contains_key(name);
        require(is_known, || format!("there is no target {name}"))?;
    }
    if let Some(load) = &session.warm_up {
        workload(load)?;
    }
    let wants_warmth = |step: &Step| matches!(step, Step::Ladder(_) | Step::Latency(_) | Step::Confirmation(_));
    let is_warm = session.warm_up_load().is_some() || !session.steps.iter().any(wants_warmth);
    require(is_warm, || "its steps need a warm_up".to_owned())?;
    for (place, one) in session.steps.iter().enumerate() {
        let others = one.targets().unwrap_or_default();
        let stranger = others.iter().find(|target| !session.targets.contains(target));
        require(stranger.is_none(), || format!("step {place} names a target that is not the session's"))?;
        let is_last = place + 1 == session.steps.len();
        step(suite, index, one, is_last).map_err(|error| format!("step {place}: {error}"))?;
        floors(suite, session, one).map_err(|error| format!("step {place}: {error}"))?;
    }
    Ok(())
}

fn step(suite: &Suite, session: usize, step: &Step, is_last: bool) -> Result<(), String> {
    if let Some(load) = step.workload() {
        workload(load)?;
    }
    match step {
        Step::Load(load) => is_name("theme", &load.theme),
        Step::Ladder(step) => ladder(&step.ladder),
        Step::Latency(step) => latency(suite, session, step),
        Step::Idle(step) => require(step.topics > 0 && step.partitions > 0 && step.seconds > 0, || {
            "topics, partitions and seconds must be 1 or more".to_owned()
        }),
        Step::StartTime(_) => require(is_last, || "start-time must be the last step of its session".to_owned()),
        Step::Confirmation(step) => require(step.partitions > 0 && step.records > 0 && step.record_bytes > 0, || {
            "partitions, records and record_bytes must be 1 or more".to_owned()
        }),
    }
}

fn ladder(rule: &LadderRule) -> Result<(), String> {
    let rises = rule.first_per_s >= 1.0 && rule.last_per_s >= rule.first_per_s && rule.factor > 1.0;
    require(rises && rule.precision > 1.0 && rule.p99_ms_max > 0.0, || {
        "a ladder needs 1 <= first_per_s <= last_per_s, factor > 1, precision > 1 and p99_ms_max > 0".to_owned()
    })
}

fn latency(suite: &Suite, session: usize, step: &LatencyStep) -> Result<(), String> {
    let shares = !step.shares.is_empty() && step.shares.iter().all(|share| *share > 0.0 && *share <= 1.0);
    require(shares, || "shares must be above 0 and at most 1".to_owned())?;
    let ladder = suite.sessions[..session].iter().find(|earlier| earlier.name == step.ladder);
    let climbed = ladder.filter(|earlier| earlier.ladder().is_some());
    let climbed = climbed.ok_or_else(|| format!("no session {} with a ladder comes before", step.ladder))?;
    let wanted = step.targets.as_ref().unwrap_or(&suite.sessions[session].targets);
    let missing = wanted.iter().chain(&step.reference).find(|target| !climbed.targets.contains(target));
    require(missing.is_none(), || {
        format!("session {} climbs no ladder with {}", step.ladder, missing.map_or("", |name| name))
    })
}

/// The floors answer one producer and know nothing else.
fn floors(suite: &Suite, session: &Session, step: &Step) -> Result<(), String> {
    let targets = step.targets().unwrap_or(&session.targets);
    let floor = targets.iter().find(|name| suite.targets.get(*name).is_some_and(|target| is_floor(target.kind)));
    let Some(floor) = floor else { return Ok(()) };
    let is_simple = matches!(step, Step::Load(_))
        && step.workload().is_some_and(|load| {
            // Only acks may differ: to a floor they mean the same.
            let understood = for_floor(load);
            !load.idempotence && Workload { acks: load.acks, ..understood } == *load
        });
    require(is_simple, || {
        format!("{floor} takes only load steps of one producer to one topic without readers: give the step targets")
    })
}

fn workload(workload: &Workload) -> Result<(), String> {
    is_name("workload", &workload.name)?;
    require(workload.duration_s > 0, || format!("workload {}: duration_s must be 1 or more", workload.name))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "good"
        [targets.a]
        kind = "corelane"
        durability = "written"
        [targets.floor]
        kind = "floor-raw"
        [[sessions]]
        name = "one"
        targets = ["a", "floor"]
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
        workload = { name = "w" }
        [[sessions]]
        name = "two"
        targets = ["a"]
        warm_up = {}
        [[sessions.steps]]
        kind = "ladder"
        ladder = { first_per_s = 10, last_per_s = 100, factor = 2, precision = 1.2, p99_ms_max = 50 }
        [[sessions.steps]]
        kind = "start-time"
        fill_bytes = 10
    "#;

    #[test]
    fn each_contradiction_is_refused_with_its_reason() {
        Suite::parse(GOOD).unwrap();
        for (from, to, reason) in [
            ("name = \"two\"", "name = \"one\"", "two sessions are named one"),
            ("targets = [\"a\"]", "targets = [\"b\"]", "no target b"),
            ("name = \"w\"", "name = \"w\", producers = 2", "floor takes only load steps of one producer"),
            ("factor = 2", "factor = 1", "factor > 1"),
            ("name = \"w\"", "name = \"w/w\"", "must consist of letters"),
            ("name = \"good\"", "name = \"good\"\nrepeats = 0", "repeats must be 1 or more"),
            ("warm_up = {}", "", "its steps need a warm_up"),
            ("kind = \"ladder\"", "kind = \"start-time\"\nfill_bytes = 1", "unknown field"),
            ("name = \"good\"", "name = \"good\"\nbest.c = { among = [\"a\"] }", "either session or like"),
            (
                "name = \"good\"",
                "name = \"good\"\nwarm_up.kafka = { at_least_s = 2, at_most_s = 1 }",
                "above at_most_s",
            ),
        ] {
            let error = Suite::parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(reason), "{to}: {error}");
        }
    }

    #[test]
    fn a_server_is_cold_after_start_time_so_nothing_may_follow_it() {
        let more = format!("{GOOD}\n[[sessions.steps]]\nkind = \"load\"\ntheme = \"late\"\n");
        let error = Suite::parse(&more).unwrap_err().to_string();
        assert!(error.contains("start-time must be the last"), "{error}");
    }
}
