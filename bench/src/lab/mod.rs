//! The load lab: the same load, from outside, against any Kafka-compatible broker, and an honest account of what came of it.
//!
//! ```text
//! suite ──► target (starts a server)      generator (the load)  ──► result (JSON) ──► report (HTML)
//!       ──► measure (what the server spends, the host sheet) ─────►
//!       ──► probe (what this machine can do at most) ────────────►
//! ```
//!
//! `workload` says what is sent, `result` what was seen; everything else stands between these two. Nothing below judges:
//! a trial that does not count says why, in its `verdict`.

pub(crate) mod cluster;
pub(crate) mod generator;
pub(crate) mod load_command;
pub(crate) mod measure;
pub(crate) mod number;
pub(crate) mod probe;
pub(crate) mod report;
pub(crate) mod result;
pub(crate) mod suite;
pub(crate) mod target;
pub(crate) mod workload;
