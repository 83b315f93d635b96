//! Runs a suite: opens or resumes its directory, then one sitting after the other, each trial kept as soon as it is finished.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use super::definition::{ProbePace, Session, Suite};
use super::order::{Act, Finished, Planned, Sitting, Standing, for_floor, is_floor};
use super::progress::{Doing, Progress, time};
use super::resume::{State, TrialKey, Trials};
use super::tools::Tools;
use super::trial::Bench;
use super::{best, provenance, readiness};
use crate::lab::measure::host;
use crate::lab::probe::{self, Pace};
use crate::lab::report;
use crate::lab::result::{Objection, Probe, Run, SCHEMA, TargetKind, Trial, WarmUp};
use crate::lab::target::{Running, Setup, TargetSpec};
use crate::server::raise_locked_memory;
use crate::signals::Signals;

/// What is to be run, and where.
pub(crate) struct Wanted<'s> {
    pub(crate) suite: &'s Suite,
    /// The file that the suite was read from, whole.
    pub(crate) text: &'s str,
    pub(crate) only: Option<&'s str>,
    pub(crate) setup: &'s Setup,
    pub(crate) out: &'s Path,
}

/// The user asked to stop.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("stopped; the same command goes on from here")
    }
}

impl Error for Stopped {}

/// Runs what is not finished yet, and writes `OUT/run.json` and, when nothing is left, `OUT/run.html`.
///
/// Errors: one line that says what to do, where something is missing or in the way, or the suite was stopped. A load that fails
/// ends nothing: its trial is kept with an objection, and at the end it is an error that there was one.
pub(crate) fn run(wanted: &Wanted<'_>) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    rlimit::increase_nofile_limit(u64::MAX)?;
    let signals = Signals::listen()?;
    let Wanted { suite, text, only, setup, out } = *wanted;
    let settings = provenance::settings(suite, setup);
    let check = |finished: &Finished| readiness::check(&Standing { suite, only, finished }, setup);
    let state = State::open(out, text, &settings, &provenance::commit(), || {
        check(&Finished::new())?;
        begin(suite, setup)
    })?;
    check(&state.finished)?;
    let left = Standing { suite, only, finished: &state.finished }.left();
    let done = u32::try_from(state.finished.len())?;
    let progress = Progress::new(done, left);
    if left.trials > 0 {
        progress.note(&format!("{}: {done} trials are done, about {} left", suite.name, time(left.seconds)));
    }
    let bench = Bench::new(setup, signals, progress);
    let mut lab = Lab { suite, only, setup, bench, state };
    let outcome = lab.hold_all();
    let path = lab.state.write_run(lab.notes())?;
    lab.bench.progress.clear();
    outcome?;
    let page = report::write_beside(&path)?;
    lab.bench.progress.note(&format!("{}: done, results in {} and {}", suite.name, path.display(), page.display()));
    failures(&lab.state.finished)
}

/// An error if any trial failed.
fn failures(finished: &Finished) -> Result<(), Box<dyn Error>> {
    let first = |trial: &Trial| {
        trial.verdict.iter().find_map(|objection| match objection {
            Objection::Errors { first, .. } => Some(format!("{} {}: {first}", trial.target.name, trial.workload.name)),
            _ => None,
        })
    };
    let failures: Vec<String> = finished.values().filter_map(first).collect();
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} trials had errors, the first of them {first}", failures.len()).into()),
    }
}

/// The run of a new directory, without trials.
fn begin(suite: &Suite, setup: &Setup) -> Result<Run, Box<dyn Error>> {
    let probe = suite.probe.map(|pace| measure_limits(pace, setup)).transpose()?;
    Ok(Run {
        schema: SCHEMA,
        suite: suite.name.clone(),
        started: now(),
        commit: provenance::commit(),
        command: provenance::command(),
        host: host::sheet(&setup.data),
        probe,
        notes: Vec::new(),
        trials: Vec::new(),
    })
}

fn measure_limits(pace: ProbePace, setup: &Setup) -> Result<Probe, Box<dyn Error>> {
    let pace = match pace {
        ProbePace::Quick => Pace::QUICK,
        ProbePace::Thorough => Pace::THOROUGH,
    };
    let first =
        |cpus: &[usize]| cpus.first().copied().ok_or("the probe needs a CPU of the server and one of the generator");
    probe::measure(&setup.data, first(&setup.server_cpus)?, first(&setup.generator_cpus)?, pace)
}

/// This moment, RFC 3339 in UTC with milliseconds.
pub(super) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// A suite under way.
struct Lab<'s> {
    suite: &'s Suite,
    only: Option<&'s str>,
    setup: &'s Setup,
    bench: Bench<'s>,
    state: State,
}

impl<'s> Lab<'s> {
    fn standing(&self) -> Standing<'s, '_> {
        Standing { suite: self.suite, only: self.only, finished: &self.state.finished }
    }

    fn hold_all(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(sitting) = self.standing().next_sitting() {
            if self.bench.signals.came() {
                return Err(Stopped.into());
            }
            if let Err(error) = self.hold(&sitting) {
                return Err(if self.bench.signals.came() { Stopped.into() } else { error });
            }
        }
        Ok(())
    }

    /// Starts the server of a sitting, takes it through all that is left of the session and stops it.
    ///
    /// A trial that fails, or a warm-up before it, is kept with an objection and ends the sitting: what is left of it gets a
    /// server afresh.
    fn hold(&mut self, sitting: &Sitting<'s>) -> Result<(), Box<dyn Error>> {
        let mut running = self.start(sitting)?;
        let Some(first) = self.standing().next_trial(sitting) else { return running.stop() };
        let failed = self.bench.trial(&first, &running, None);
        let warm_up = match self.warm_up(sitting, &running) {
            Ok(warm_up) => warm_up,
            Err(error) => return self.keep_failed(first.key, failed, error),
        };
        while let Some(planned) = self.standing().next_trial(sitting) {
            let failed = self.bench.trial(&planned, &running, warm_up);
            match self.perform(sitting.session, &planned, running, warm_up) {
                Err(error) => return self.keep_failed(planned.key, failed, error),
                Ok((same, trials)) => {
                    running = same;
                    for (key, trial) in trials {
                        self.keep(key, trial)?;
                    }
                }
            }
        }
        if let Err(error) = running.stop() {
            self.bench.progress.note(&format!("{}: {error}", sitting.target));
        }
        Ok(())
    }

    fn start(&self, sitting: &Sitting<'_>) -> Result<Running, Box<dyn Error>> {
        let spec =
            self.suite.targets.get(sitting.target).ok_or_else(|| format!("there is no target {}", sitting.target))?;
        let doing = Doing { target: spec.name(), phase: "start", ..Doing::default() };
        self.bench.progress.begin(&doing);
        let mut running = with_settings(spec, self.suite).start(self.setup)?;
        // What all have alike sets none apart.
        running.sheet.variant = spec.variant();
        Ok(running)
    }

    fn warm_up(&self, sitting: &Sitting<'_>, running: &Running) -> Result<Option<WarmUp>, Box<dyn Error>> {
        let Some(load) = sitting.session.warm_up_load() else { return Ok(None) };
        let kind = running.sheet.kind;
        let load = if is_floor(kind) { for_floor(load) } else { load.clone() };
        self.bench.warm_up(&load, running, self.suite.warm_up.rule(kind)).map(Some)
    }

    /// Does a trial, of Kafka's tools two; returns the server, which may have been started anew.
    fn perform(
        &self,
        session: &Session,
        planned: &Planned<'s>,
        running: Running,
        warm_up: Option<WarmUp>,
    ) -> Result<(Running, Trials), Box<dyn Error>> {
        let single = |trial: Trial| vec![(planned.key.clone(), trial)];
        let delete = session.delete_topics || running.sheet.kind == TargetKind::External;
        match planned.act {
            Act::Load { fill_bytes } => {
                let trial = self.bench.load(planned, &running, warm_up, fill_bytes, delete)?;
                Ok((running, single(trial)))
            }
            Act::Idle(step) => {
                let trial = self.bench.idle(planned, step, &running, warm_up, delete)?;
                Ok((running, single(trial)))
            }
            Act::StartTime { fill_bytes } => {
                let (running, trial) = self.bench.start_time(planned, running, fill_bytes)?;
                Ok((running, single(trial)))
            }
            Act::Confirmation(step) => {
                let tools = Tools { bench: &self.bench, step, planned, running: &running, warm_up };
                let trials = tools.run(delete)?;
                Ok((running, trials))
            }
        }
    }

    fn keep(&mut self, key: TrialKey, trial: Trial) -> Result<(), Box<dyn Error>> {
        self.state.keep(key, trial.clone())?;
        self.state.write_run(self.notes())?;
        let left = self.standing().left();
        self.bench.progress.finished(&trial, left);
        Ok(())
    }

    /// Keeps a trial that failed, unless it only failed because the user wants to stop.
    fn keep_failed(&mut self, key: TrialKey, mut trial: Trial, error: Box<dyn Error>) -> Result<(), Box<dyn Error>> {
        if self.bench.signals.came() {
            return Err(error);
        }
        trial.verdict.push(Objection::Errors { count: 1, first: error.to_string() });
        self.keep(key, trial)
    }

    /// What the suite decided so far: the best variants, then the knees.
    fn notes(&self) -> Vec<String> {
        let mut notes = best::notes(self.suite, &self.state.finished);
        for session in &self.suite.sessions {
            let Some(ladder) = session.ladder() else { continue };
            for target in &session.targets {
                let target = best::resolve(self.suite, target, &self.state.finished);
                let limit_ms = ladder.ladder.p99_ms_max;
                let knees = self.standing().knees(&session.name, target);
                notes.extend(match self.standing().knee(&session.name, target) {
                    Some(knee) => Some(format!(
                        "knee of {target}: {knee:.0} records per second at a p99 of at most {limit_ms} ms"
                    )),
                    None if knees.is_empty() => None,
                    None => Some(format!(
                        "no knee of {target}: the lowest rate had a p99 above {limit_ms} ms or was not kept up"
                    )),
                });
            }
        }
        notes
    }
}

/// The target with the settings of all.
fn with_settings(spec: &TargetSpec, suite: &Suite) -> TargetSpec {
    let mut spec = spec.clone();
    if matches!(spec.kind, TargetKind::Corelane | TargetKind::Kafka) {
        for (key, value) in &suite.settings {
            spec.settings.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    spec
}
