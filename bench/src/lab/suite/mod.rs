//! Suites: which trials are made in which order, against which servers, until when; and what is kept of them.
//!
//! What is decided is decided in plain functions of the suite and of what is finished (`order`, `ladder`, `best`,
//! `warm_up`, `estimate`); `run` alone starts servers and loads. That is why a suite that was stopped goes on as if it had not
//! been: what comes next never depends on anything but the files in its directory.

mod best;
mod definition;
mod estimate;
mod ladder;
mod order;
mod progress;
mod provenance;
mod readiness;
mod resume;
mod run;
pub(crate) mod run_command;
#[cfg(test)]
mod samples;
pub(crate) mod suite_command;
mod tools;
mod topics;
mod trial;
mod validate;
mod warm_up;
