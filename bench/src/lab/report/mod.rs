//! From saved runs to one HTML page that needs nothing else: figures with what speaks against them, pictures, every setting.
//!
//! ```text
//! run (JSON) ─► group (repeats together, who speaks for Kafka) ─► headline, floors, percentile, over_time, sweep, … ─► page
//!                                                                   figure, statistics, curve      chart (SVG)
//! ```
//!
//! Nothing is measured here. A trial with objections supports no ratio, here or anywhere; its figures are shown struck out.
//! Text from the JSON enters the page only through `maud`, which escapes it.

mod appendix;
mod chart;
mod compare;
mod curve;
mod figure;
#[cfg(test)]
mod fixture;
mod floors;
mod group;
mod headline;
mod look;
mod markdown;
mod number;
mod over_time;
mod page;
mod percentile;
mod pictures;
mod resources;
mod settings;
mod statistics;
mod sweep;
mod verdict;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use super::measure::merge::merge;
use super::result::{Run, SCHEMA, Trial};
use group::Numbered;

/// What to report.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Saved runs; several stand on one page, each for itself
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Compares exactly two runs: the older first
    #[arg(long, conflicts_with = "markdown")]
    compare: bool,
    /// Where the page goes; by default beside the first run, with .html instead of .json
    #[arg(long)]
    out: Option<PathBuf>,
    /// What `observe` wrote down on the host of an external server, merged into the runs
    #[arg(long)]
    observed: Option<PathBuf>,
    /// Also prints the headline tables as Markdown
    #[arg(long)]
    markdown: bool,
}

/// Writes the page and says where.
///
/// Errors: a file cannot be read or written, is no run, or is of a newer version of the document.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let mut runs = arguments.runs.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(observed) = &arguments.observed {
        observe(observed, &mut runs)?;
    }
    let html = match (arguments.compare, runs.as_slice()) {
        (true, [a, b]) => page::comparison(a, b)?,
        (true, _) => return Err("--compare takes two runs".into()),
        (false, runs) => page::report(runs)?,
    };
    let out = arguments.out.clone().unwrap_or_else(|| arguments.runs[0].with_extension("html"));
    write(&out, html)?;
    if arguments.markdown {
        for run in &runs {
            println!(
                "{}",
                markdown::table(&group::groups(numbered(&run.trials, 0)), &run.commit, &run.command, &run.host.cpu)
            );
        }
    }
    // Not on the standard output, where the Markdown is.
    eprintln!("wrote {}", out.display());
    Ok(())
}

/// Writes the page of one run beside it, and returns where.
///
/// Errors: as of [`run`].
pub(crate) fn write_beside(run: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let out = run.with_extension("html");
    write(&out, page::report(&[read(run)?])?)?;
    Ok(out)
}

fn write(out: &Path, html: String) -> Result<(), Box<dyn Error>> {
    fs::write(out, html).map_err(|error| format!("{}: {error}", out.display()).into())
}

/// Fills in what was observed.
///
/// Errors: the file cannot be read, or fits no trial of any run.
fn observe(observed: &Path, runs: &mut [Run]) -> Result<(), Box<dyn Error>> {
    let mut filled = 0;
    for run in runs {
        filled += merge(observed, run)?;
    }
    if filled == 0 {
        return Err(format!("{}: no trial against an external server falls into it", observed.display()).into());
    }
    Ok(())
}

fn read(path: &Path) -> Result<Run, Box<dyn Error>> {
    let named = |error: &dyn Error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| named(&error))?;
    let run: Run = serde_json::from_str(&text).map_err(|error| named(&error))?;
    if run.schema > SCHEMA {
        return Err(
            format!("{}: version {} of the document, this reads up to {SCHEMA}", path.display(), run.schema).into()
        );
    }
    Ok(run)
}

/// Trials with the numbers by which links of one page find them, from `first` on.
fn numbered(trials: &[Trial], first: usize) -> Vec<Numbered<'_>> {
    trials.iter().enumerate().map(|(index, trial)| Numbered { number: first + index, trial }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::result::Usage;
    use super::*;

    fn saved(directory: &Path, name: &str, run: &Run) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, serde_json::to_string(run).expect("a run is JSON")).expect("the directory is there");
        path
    }

    fn arguments(runs: Vec<PathBuf>) -> Arguments {
        Arguments { runs, compare: false, out: None, observed: None, markdown: false }
    }

    #[test]
    fn a_saved_run_becomes_a_page_beside_it() {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let path = saved(directory.path(), "single.json", &fixture::single());
        run(&arguments(vec![path])).expect("the run is sound");
        let html = fs::read_to_string(directory.path().join("single.html")).expect("it stands beside the run");
        assert!(html.starts_with("<!DOCTYPE html>"));
    }

    #[test]
    fn what_was_observed_elsewhere_stands_in_the_page_or_is_an_error() {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let run = fixture::single();
        let began = humantime::parse_rfc3339(&run.trials[0].started).expect("the fixture says when it began");
        let began = began.duration_since(std::time::UNIX_EPOCH).expect("it lies in the future").as_secs();
        let observed_from = |began: u64| {
            let line = |second: u64| {
                let spent = Usage { cpu_s: crate::report::float(second) * 0.5, ..Usage::default() };
                let moment =
                    serde_json::json!({ "unix_ms": (began + second) * 1000, "server": spent, "machine": spent });
                serde_json::json!({ "observation": moment }).to_string() + "\n"
            };
            serde_json::json!({ "host": run.host }).to_string() + "\n" + &(0..40).map(line).collect::<String>()
        };
        let observed = directory.path().join("observed");
        let path = saved(directory.path(), "run.json", &run);
        let with = || Arguments { observed: Some(observed.clone()), ..arguments(vec![path.clone()]) };

        fs::write(&observed, observed_from(began - 1000)).expect("the directory is there");
        let error = super::run(&with()).expect_err("it ended before the trial began").to_string();
        assert!(error.contains("no trial against an external server"), "{error}");
        assert!(!directory.path().join("run.html").exists(), "no page without what it was asked to hold");

        fs::write(&observed, observed_from(began)).expect("the directory is there");
        super::run(&with()).expect("it fits");
        let html = fs::read_to_string(directory.path().join("run.html")).expect("it stands beside the run");
        // 15 CPU seconds in the 30 that count, for 30.7 MB.
        assert!(html.contains("CPU s/GB") && html.contains("488"), "half a core was spent");
    }

    #[test]
    fn two_runs_become_a_comparison_where_it_was_asked_for() {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let path = saved(directory.path(), "run.json", &fixture::run());
        let out = Some(directory.path().join("out.html"));
        let both = Arguments { compare: true, out: out.clone(), ..arguments(vec![path.clone(), path.clone()]) };
        run(&both).expect("both are sound");
        let html = fs::read_to_string(out.as_ref().expect("it was given")).expect("it was written");
        assert!(html.contains("B ÷ A"));
        assert!(run(&Arguments { compare: true, ..arguments(vec![path]) }).is_err(), "one run has nothing beside it");
    }

    #[test]
    fn a_newer_document_and_no_document_are_refused() {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let newer = saved(directory.path(), "newer.json", &Run { schema: SCHEMA + 1, ..fixture::single() });
        let none = directory.path().join("none.json");
        fs::write(&none, "{}").expect("the directory is there");
        for (path, words) in
            [(newer, "version 2"), (none, "missing field"), (directory.path().join("gone.json"), "No such file")]
        {
            let error = run(&arguments(vec![path])).expect_err("it is refused").to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
