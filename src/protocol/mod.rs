//! Kafka's wire protocol: bytes to values and back, pure. No sockets, no state, no policy.
//!
//! [`wire`] reads and writes the primitive types; [`messages`] has one table per API, which the macro in `table` turns
//! into structs; [`api_key`] knows which APIs and versions this broker speaks, [`error_code`] what can go wrong,
//! [`frame`] the length prefix and the headers around every message.
//!
//! Invariants: what is decoded borrows from the frame, except arrays; no length from the wire sizes an allocation before
//! it was checked against the bytes that are left; no input makes decoding panic or recurse deeper than its table.

pub mod api_key;
#[cfg(debug_assertions)]
#[doc(hidden)]
pub mod arbitrary;
pub mod compression;
pub mod error_code;
pub mod frame;
pub mod key_partition;
pub mod messages;
pub mod record_batch;
pub(crate) mod table;
pub mod wire;
