//! Key compaction of one log, the pure parts: no clock, no disk, no log of its own. Runs on the core that owns the log.
//!
//! - [`rules`]: what a topic's configuration says of it
//! - [`segments`]: how far a log may be compacted, and whether that is worth a pass
//! - [`keys`]: which offset is the last of each key
//! - [`filter`]: what becomes of one batch
//! - [`pass`]: what the batches of one pass have in common
//!
//! The rules are those of Kafka 4.1 (`Cleaner`, `LogCleanerManager`, `MemoryRecords.filterTo`, `LogSegment.shouldRoll`), record
//! for record; `tests/compaction` holds them against a real one. A pass goes over the log twice:
//!
//! ```text
//! Candidate { from, bound, .. } = segments.candidate(..)   what to clean, if it is worth it
//! keys.begin(from, bound), keys.clear_step() until done
//! batches from `from` on, ascending:    Collecting::new(..).step() until Taken; at Full the first half ends
//! keys.close()
//! batches from the log's start up to keys.end(), ascending:    Filtering::new(..).step() until Done
//! segments.on_cleaned(keys.end())
//! ```
//!
//! Every `step` is some tens of microseconds of work, so that the caller looks at the clock between two of them and lets
//! others run. Between steps nothing is half done but what the object stepped on owns; to give up is to drop it.
//!
//! **What must hold for deletes to stay deletes:** the second half is ascending and begins at the log's start, so that what a
//! tombstone deleted is gone from the new content wherever the tombstone itself is.
//!
//! Where we are not as Kafka is: keys are taken from whole batches, so that a pass ends between two batches (Kafka's ends
//! inside of one when its memory is full; ours does only in a batch with more keys than fit at all); batches that decompress to
//! more than `COMPACTED_BATCH_BYTES_MAX` stay as they are (see [`pass`]); a delete.retention.ms beyond the end of time sets no
//! delete horizon, where Kafka rewrites the batch in every pass without one.

pub mod filter;
pub mod keys;
pub mod pass;
pub mod rules;
pub mod segments;
mod unpack;

pub use filter::{BatchFacts, FilterStep, Filtering, LastOfProducer, Outcome};
pub use keys::{CollectStep, Collecting, KeyMap};
pub use pass::{Counts, Pass, Tools};
pub use rules::CompactionRules;
pub use segments::{Candidate, SegmentsError, VirtualSegments};
pub use unpack::DamagedBatch;
