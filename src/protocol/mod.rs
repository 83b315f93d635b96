//! Kafka's wire protocol: bytes to values and back, pure. No sockets, no state, no policy.
//!
//! [`wire`] reads and writes the primitive types and holds the `message!` macro; [`messages`] has one table per API;
//! [`api_key`] knows which APIs and versions this broker speaks, [`error_code`] what can go wrong, [`frame`] the length
//! prefix and the headers around every message. [`record_batch`] and [`compression`] are what travels inside.
//!
//! Invariants: what is decoded borrows from the frame, except arrays; no length from the wire sizes an allocation before
//! it was checked against the bytes that are left; no input makes decoding panic or recurse deeper than its table.

pub mod api_key;
pub mod compression;
pub mod error_code;
pub mod frame;
pub mod messages;
pub mod record_batch;
pub mod wire;
