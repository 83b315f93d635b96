//! Key compaction: against a model, and against what a real Apache Kafka 4.1 left of the same logs.
//!
//! `oracle` reads captures (`tests/golden/compaction`; `judge` makes others, and shows that the kept one is no accident);
//! `model` makes logs up. `defects` proves that together they find what can go wrong. `driver` is one pass in memory, driven
//! as a store drives it; `steps` looks how long the core is held.

mod driver;
mod model;
mod oracle;
mod steps;
mod transactions;
