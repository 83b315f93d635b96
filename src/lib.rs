//! Corelane: a Kafka-wire-compatible broker for Linux. One core, one lane.
//!
//! Layers, lowest first; each may use what stands before it (checked by `tests/tidy.rs`):
//! `types`, `limits`, `portions`, `metrics` → `protocol` → `partition`, `compaction`, `cluster`, `coordinator`, `store`
//! (over `runtime`) → `shard` → `broker` → `api` → `server` → the binary. `simulation` implements `runtime` for tests.

pub mod api;
pub mod broker;
pub mod cli;
pub mod cluster;
pub mod compaction;
pub mod config;
pub mod coordinator;
pub mod limits;
pub mod log_limiter;
pub mod metrics;
pub mod partition;
pub mod portions;
pub mod protocol;
pub mod runtime;
pub mod server;
pub mod shard;
/// For tests only: nothing outside `simulation` and tests may import it.
pub mod simulation;
pub mod store;
pub mod types;
