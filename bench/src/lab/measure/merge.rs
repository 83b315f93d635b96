//! Joins what `observe` wrote on a server's host with the trials that ran against it.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::observe::{self, Observation};
use crate::lab::result::{Run, TargetKind, Usage};

/// Fills in what the server and its machine spent in each trial against an external target that was observed from its
/// first second that counts to its last, and gives how many these were. The host's sheet joins that of the run, its names after
/// `server's host: `.
///
/// Errors: the file is not of `observe`, or a trial does not say when it began.
pub(crate) fn merge(observations: &Path, run: &mut Run) -> Result<usize, Box<dyn Error>> {
    let (host, observed) = observe::read(observations)?;
    let mut filled = 0;
    for trial in run.trials.iter_mut().filter(|trial| trial.target.kind == TargetKind::External) {
        let Some(load) = &trial.load else { continue };
        let began = humantime::parse_rfc3339(&trial.started)?.duration_since(UNIX_EPOCH)?;
        let end = began + Duration::try_from_secs_f64(load.seconds)?;
        if let Some((before, after)) = at(&observed, began).zip(at(&observed, end)) {
            trial.server = Some(difference(&before.server, &after.server));
            trial.machine = Some(difference(&before.machine, &after.machine));
            filled += 1;
        }
    }
    let plain = [("CPU", host.cpu), ("cores", host.cores.to_string()), ("kernel", host.kernel)];
    let memory = ("memory bytes".to_owned(), host.memory_bytes.to_string());
    let named = plain.map(|(name, value)| (name.to_owned(), value)).into_iter().chain([memory]).chain(host.details);
    run.host.details.extend(named.map(|(name, value)| (format!("server's host: {name}"), value)));
    Ok(filled)
}

/// Sums at a moment since 1970; in proportion to time between two observations.
fn at(observed: &[Observation], moment: Duration) -> Option<Observation> {
    let unix_ms = u64::try_from(moment.as_millis()).ok()?;
    let later = observed.partition_point(|observation| observation.unix_ms < unix_ms);
    let after = observed.get(later)?;
    if after.unix_ms == unix_ms {
        return Some(*after);
    }
    let before = observed.get(later.checked_sub(1)?)?;
    let part = Part { of_ms: unix_ms - before.unix_ms, in_ms: after.unix_ms - before.unix_ms };
    let server = part.between(&before.server, &after.server);
    let machine = part.between(&before.machine, &after.machine);
    Some(Observation { unix_ms, server, machine })
}

/// How far a moment is between two observations.
#[derive(Clone, Copy)]
struct Part {
    of_ms: u64,
    in_ms: u64,
}

impl Part {
    /// Sums in proportion; memory as it was seen next.
    fn between(self, before: &Usage, after: &Usage) -> Usage {
        Usage {
            seconds: self.float(before.seconds, after.seconds),
            cpu_s: self.float(before.cpu_s, after.cpu_s),
            cpu_user_s: self.float(before.cpu_user_s, after.cpu_user_s),
            cpu_system_s: self.float(before.cpu_system_s, after.cpu_system_s),
            disk_written_bytes: self.count(before.disk_written_bytes, after.disk_written_bytes),
            disk_read_bytes: self.count(before.disk_read_bytes, after.disk_read_bytes),
            context_switches_voluntary: self.count(before.context_switches_voluntary, after.context_switches_voluntary),
            context_switches_involuntary: self
                .count(before.context_switches_involuntary, after.context_switches_involuntary),
            ..*after
        }
    }

    fn float(self, before: f64, after: f64) -> f64 {
        let share = Duration::from_millis(self.of_ms).div_duration_f64(Duration::from_millis(self.in_ms));
        before + (after - before) * share
    }

    fn count(self, before: u64, after: u64) -> u64 {
        before + after.saturating_sub(before).saturating_mul(self.of_ms) / self.in_ms
    }
}

/// What was spent between two sums. Memory is that of the later one.
fn difference(before: &Usage, after: &Usage) -> Usage {
    Usage {
        seconds: after.seconds - before.seconds,
        cpu_s: after.cpu_s - before.cpu_s,
        cpu_user_s: after.cpu_user_s - before.cpu_user_s,
        cpu_system_s: after.cpu_system_s - before.cpu_system_s,
        disk_written_bytes: after.disk_written_bytes.saturating_sub(before.disk_written_bytes),
        disk_read_bytes: after.disk_read_bytes.saturating_sub(before.disk_read_bytes),
        context_switches_voluntary: after.context_switches_voluntary.saturating_sub(before.context_switches_voluntary),
        context_switches_involuntary: after
            .context_switches_involuntary
            .saturating_sub(before.context_switches_involuntary),
        ..*after
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lab::result::{Durability, HostSheet, LoadResult, SCHEMA, TargetSheet, Trial};
    use crate::lab::workload::Workload;

    /// 2026-11-28T12:00:00Z.
    const NOON_MS: u64 = 1_795_867_200_000;

    /// A server that uses half a CPU and writes 1,000 bytes a second, observed each second for ten.
    fn observations() -> String {
        let line = |second: u32| {
            let spent = Usage {
                seconds: f64::from(second),
                cpu_s: f64::from(second) / 2.0,
                disk_written_bytes: u64::from(second) * 1_000,
                resident_bytes: 77,
                ..Usage::default()
            };
            let unix_ms = NOON_MS + u64::from(second) * 1_000;
            let observation = Observation { unix_ms, server: spent, machine: spent };
            serde_json::to_string(&observe::Line::Observation(observation)).expect("plain") + "\n"
        };
        let host = observe::Line::Host(HostSheet { cpu: "Some CPU".to_owned(), ..HostSheet::default() });
        let host = serde_json::to_string(&host).expect("plain") + "\n";
        host + &(0..=10).map(line).collect::<String>()
    }

    fn trial(kind: TargetKind, started: &str, seconds: f64) -> Trial {
        let load: LoadResult = serde_json::from_value(serde_json::json!({
            "seconds": seconds, "offered_per_s": null,
            "produced": { "records": 1, "bytes": 1, "batch_bytes": 1, "requests": 1 },
            "consumed": { "records": 0, "bytes": 0, "batch_bytes": 0, "requests": 0 },
            "caught_up": { "records": 0, "bytes": 0, "batch_bytes": 0, "requests": 0 },
            "produce_latency": null, "end_to_end_latency": null, "windows": [],
            "generator": { "threads": 1, "connections": 1, "cpu_s": 0.1, "cpu_share_max": 0.1, "late_p99_us": 1,
                           "late_p999_us": 1, "late_max_us": 1 },
            "unacknowledged": 0, "errors": 0, "first_error": null
        }))
        .expect("every field is there");
        Trial {
            workload: Workload::default(),
            theme: "throughput".to_owned(),
            target: TargetSheet {
                name: "some".to_owned(),
                kind,
                version: String::new(),
                durability: Durability::Unknown,
                variant: String::new(),
                cpus: Vec::new(),
                generator_cpus: Vec::new(),
                command: String::new(),
                settings: BTreeMap::new(),
            },
            repeat: 0,
            started: started.to_owned(),
            load: Some(load),
            server: None,
            machine: None,
            ready_ms: None,
            warm_up: None,
            verdict: Vec::new(),
        }
    }

    fn merged(trials: Vec<Trial>) -> (usize, Run) {
        let mut run = Run {
            schema: SCHEMA,
            suite: String::new(),
            started: String::new(),
            commit: String::new(),
            command: String::new(),
            host: HostSheet::default(),
            probe: None,
            notes: Vec::new(),
            trials,
        };
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("observed");
        std::fs::write(&file, observations()).expect("it can be written");
        (merge(&file, &mut run).expect("all is well"), run)
    }

    #[test]
    fn a_trial_gets_what_was_spent_in_its_seconds() {
        let (filled, run) = merged(vec![trial(TargetKind::External, "2026-11-28T12:00:02.500Z", 4.0)]);
        assert_eq!(filled, 1);
        let server = run.trials[0].server.expect("it was observed");
        assert!((server.seconds - 4.0).abs() < 1e-9);
        assert!((server.cpu_s - 2.0).abs() < 1e-9);
        assert_eq!((server.disk_written_bytes, server.resident_bytes), (4_000, 77));
        assert_eq!(run.trials[0].machine, Some(server));
        assert_eq!(run.host.details["server's host: CPU"], "Some CPU");
    }

    #[test]
    fn a_trial_that_was_observed_in_part_or_by_the_lab_itself_gets_nothing() {
        let (filled, run) = merged(vec![
            trial(TargetKind::External, "2026-11-28T12:00:08Z", 4.0),
            trial(TargetKind::External, "2026-11-28T11:59:59Z", 4.0),
            trial(TargetKind::Kafka, "2026-11-28T12:00:02Z", 4.0),
        ]);
        assert_eq!(filled, 0);
        assert!(run.trials.iter().all(|trial| trial.server.is_none()));
    }
}
