//! InitProducerId (22): hands out producer ids. Versions 0 to 5; 6 is unstable in Kafka 4.1 and stays hidden.
//!
//! 2 is flexible, 3 lets a producer name the id and epoch it has.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for a producer id, or for the next epoch of one.
    pub struct InitProducerIdRequest<'a> (InitProducerId, 0..=5, flexible 2) {
        /// Null from producers that are idempotent only.
        transactional_id: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
        /// How long a transaction may stay idle.
        transaction_timeout_ms: i32 [0..];
        /// The id the producer has, -1 for none.
        producer_id: i64 [3..] default(-1);
        /// The epoch it has, -1 for none.
        producer_epoch: i16 [3..] default(-1);
    }

    /// A producer id.
    pub struct InitProducerIdResponse (InitProducerId, 0..=5, flexible 2) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// 0, or why there is none.
        error_code: i16 [0..];
        /// The id.
        producer_id: i64 [0..] default(-1);
        /// Its epoch.
        producer_epoch: i16 [0..];
    }
}
