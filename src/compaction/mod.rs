//! Key compaction of one log, the pure parts: no clock, no disk, no log of its own. Runs on the core that owns the log.
//!
//! - [`rules`]: what a topic's configuration says of it
//! - [`segments`]: how far a log may be compacted, and whether that is worth a pass
//!
//! The rules are those of Kafka 4.1 (`LogCleanerManager`, `LogSegment.shouldRoll`).

pub mod rules;
pub mod segments;

pub use rules::CompactionRules;
pub use segments::{Candidate, SegmentsError, VirtualSegments};
