//! The generator: an open loop that sends records when they are due, whatever the broker does, and says what came of it.
//!
//! ```text
//!            ┌ thread (CPU 1): event loop ─ producers ─ links, one per leader ─┐
//! main: Load ┤                            └ consumers ─ links, one per leader ─┼─ sockets
//!            └ thread (CPU 2): ...                                             ┘
//!      ◄── a report of each thread per second: counters and histograms
//! ```
//!
//! *Time.* Record i of a producer is due at start + i / rate. Its latency counts from that moment: a broker that answers
//! late, or a socket that takes nothing, delays no clock. What is due and cannot be sent stays a number in the schedule,
//! so an overloaded broker costs the generator no memory and hides nothing.
//!
//! *End to end.* A record's timestamp *is* the moment at which it was due, in microseconds since the run began (all threads
//! share one monotonic clock). So a consumer knows the latency of every record, also of compressed batches, with payloads
//! untouched. Brokers take these numbers for milliseconds, that is for dates in January 1970, which they accept for topics
//! with `message.timestamp.type=CreateTime`; topics are made with `retention.ms=-1` so that none is deleted for its age.
//! Of a compressed batch only the first and the last time are read, and those between are taken as even.
//!
//! *Cost.* One pinned thread per CPU, which sleeps whenever there is nothing to do.

mod batch;
mod bounds;
mod checksum;
mod clock;
mod connection;
mod consumer;
mod context;
mod encode;
mod ends;
mod keys;
mod load;
mod meter;
mod mixture;
mod objections;
mod payload;
mod plan;
mod preparation;
mod producer;
mod random;
mod schedule;
mod supply;
mod template;
mod thread;
mod topology;
mod versions;

pub(crate) use load::Load;
pub(crate) use objections::objections;
