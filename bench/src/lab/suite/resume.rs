//! What a suite has finished, on disk, so that the same command goes on where it was stopped.
//!
//! ```text
//! OUT/suite.json           what was begun: suite file, commit, host, probe
//! OUT/trials/KEY.json      one file for each finished trial, written at once and whole
//! OUT/run.json             all of it as one document, written anew after each trial
//! ```
//!
//! A file is written beside its place, flushed and renamed, so that it is there whole or not at all.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::order::Finished;
use crate::lab::result::{Run, Trial};

/// Names a trial within its suite.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct TrialKey {
    pub(crate) session: String,
    pub(crate) repeat: u32,
    pub(crate) target: String,
    /// Place of its step in the session.
    pub(crate) step: usize,
    /// Which of several trials of the step; empty for a single one.
    pub(crate) part: String,
}

impl fmt::Display for TrialKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TrialKey { session, repeat, target, step, part } = self;
        write!(formatter, "{session}~{repeat}~{target}~{step}")?;
        if part.is_empty() { Ok(()) } else { write!(formatter, "~{part}") }
    }
}

/// Trials that were finished together.
pub(crate) type Trials = Vec<(TrialKey, Trial)>;

/// What was begun: a later command must mean the same.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Opening {
    /// The suite file, whole.
    pub(crate) suite: String,
    /// What else decides what is measured: CPUs, version of Kafka, an external address.
    pub(crate) settings: String,
    /// The run without its trials.
    pub(crate) run: Run,
}

/// A finished trial.
#[derive(Deserialize, Serialize)]
struct Record {
    key: TrialKey,
    trial: Trial,
}

/// The directory of a suite.
pub(crate) struct State {
    out: PathBuf,
    pub(crate) opening: Opening,
    pub(crate) finished: Finished,
}

impl State {
    /// Opens a directory, which is created where it is missing; `begin` makes the run of a new one, without trials.
    ///
    /// Errors: one line that says what to do where the directory belongs to another suite, other settings or another commit.
    pub(crate) fn open(
        out: &Path,
        suite: &str,
        settings: &str,
        commit: &str,
        begin: impl FnOnce() -> Result<Run, Box<dyn Error>>,
    ) -> Result<State, Box<dyn Error>> {
        let trials = out.join("trials");
        fs::create_dir_all(&trials).map_err(|error| format!("{}: {error}", trials.display()))?;
        let opening = match read::<Opening>(&out.join("suite.json"))? {
            Some(opening) => {
                if let Some(change) = change(&opening, suite, settings, commit) {
                    return Err(format!("{} was begun with {change}: give another --out", out.display()).into());
                }
                opening
            }
            None => {
                let opening = Opening { suite: suite.to_owned(), settings: settings.to_owned(), run: begin()? };
                write(&out.join("suite.json"), &opening)?;
                opening
            }
        };
        let finished = read_trials(&trials)?;
        Ok(State { out: out.to_owned(), opening, finished })
    }

    /// What is finished in a directory, without opening it; nothing where there is none.
    pub(crate) fn peek(out: &Path) -> Result<Finished, Box<dyn Error>> {
        let trials = out.join("trials");
        if trials.exists() { read_trials(&trials) } else { Ok(Finished::new()) }
    }

    /// Keeps a finished trial, and writes the run anew with what the suite decided so far.
    pub(crate) fn keep(&mut self, key: TrialKey, trial: Trial) -> Result<(), Box<dyn Error>> {
        let path = self.out.join("trials").join(format!("{key}.json"));
        write(&path, &Record { key: key.clone(), trial: trial.clone() })?;
        self.finished.insert(key, trial);
        Ok(())
    }

    /// Writes the run, with what the suite decided, and says where.
    pub(crate) fn write_run(&self, notes: Vec<String>) -> Result<PathBuf, Box<dyn Error>> {
        let mut trials: Vec<Trial> = self.finished.values().cloned().collect();
        trials.sort_by(|a, b| a.started.cmp(&b.started));
        let path = self.out.join("run.json");
        write(&path, &Run { trials, notes, ..self.opening.run.clone() })?;
        Ok(path)
    }
}

/// What is not as it was when a suite was begun.
fn change(opening: &Opening, suite: &str, settings: &str, commit: &str) -> Option<String> {
    let Opening { run, .. } = opening;
    if opening.suite != suite {
        Some("a suite file that was changed since".to_owned())
    } else if run.commit != commit {
        Some(format!("commit {} and this is {commit}", run.commit))
    } else if opening.settings != settings {
        Some(format!("other settings ({}; now {settings})", opening.settings))
    } else {
        None
    }
}

fn read_trials(directory: &Path) -> Result<Finished, Box<dyn Error>> {
    let mut finished = Finished::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(record) = read::<Record>(&path)?
        {
            finished.insert(record.key, record.trial);
        }
    }
    Ok(finished)
}

/// Reads a file; `None` where there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Box<dyn Error>> {
    match fs::read(path) {
        Ok(bytes) => {
            let value = serde_json::from_slice(&bytes);
            value.map(Some).map_err(|error| format!("{}: {error}", path.display()).into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display()).into()),
    }
}

/// Writes a file as a whole.
fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), Box<dyn Error>> {
    let beside = path.with_extension("partial");
    let written = || -> Result<(), Box<dyn Error>> {
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        Ok(fs::rename(&beside, path)?)
    };
    written().map_err(|error| format!("{}: {error}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::suite::order::Standing;
    use crate::lab::suite::samples::{run, suite, trial};

    const SUITE: &str = r#"
        name = "small"
        repeats = 2
        [targets.a]
        kind = "corelane"
        durability = "written"
        [[sessions]]
        name = "one"
        targets = ["a"]
        [[sessions.steps]]
        kind = "load"
        theme = "throughput"
    "#;

    #[test]
    fn what_was_kept_is_there_again_and_a_half_written_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let suite = suite(SUITE);
        let open = || State::open(directory.path(), SUITE, "cpus 0", "abc", || Ok(run("abc"))).unwrap();
        let mut state = open();
        let standing = Standing { suite: &suite, only: None, finished: &state.finished };
        let planned = standing.next_trial(&standing.next_sitting().unwrap()).unwrap();
        let key = planned.key.clone();
        state.keep(key.clone(), trial(&planned)).unwrap();
        fs::write(directory.path().join("trials/one~1~a~0.partial"), b"{\"key\":").unwrap();
        let again = open();
        assert_eq!(again.finished.keys().collect::<Vec<_>>(), [&key]);
        assert_eq!(State::peek(directory.path()).unwrap().len(), 1);
        let run: Run = read(&again.write_run(vec!["a note".to_owned()]).unwrap()).unwrap().unwrap();
        assert_eq!((run.trials.len(), run.notes.len()), (1, 1));
    }

    #[test]
    fn another_suite_commit_or_setting_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let open = |suite: &str, settings: &str, commit: &str| {
            State::open(directory.path(), suite, settings, commit, || Ok(run("abc"))).map(drop)
        };
        open(SUITE, "cpus 0", "abc").unwrap();
        open(SUITE, "cpus 0", "abc").unwrap();
        for (changed, what) in [
            (open("name = 'other'", "cpus 0", "abc"), "changed since"),
            (open(SUITE, "cpus 1", "abc"), "other settings (cpus 0; now cpus 1)"),
            (open(SUITE, "cpus 0", "abd"), "commit abc and this is abd"),
        ] {
            let error = changed.unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("give another --out"), "{error}");
        }
    }
}
