//! Space: which segments are dead and when their files are free, who may open another segment, and where its file comes from.
//!
//! ```text
//! live ── nothing live in it: dead ── a durable checkpoint leaves it out: retired ── no read holds it: free ─┬─> ready ──> live
//!                                                                            more than is soon needed: removed ┘
//! ```
//!
//! Why was a segment not freed? `dead` says when it may be, `checkpoints` when that is looked at; `room` says what happens
//! meanwhile, `files` what becomes of its file.

mod checkpoints;
mod dead;
mod files;
mod room;
