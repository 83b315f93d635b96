//! DescribeClientQuotas (48): tells quotas. Versions 0 to 1.
//!
//! 1 is flexible.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks for quotas.
    pub struct DescribeClientQuotasRequest<'a> (DescribeClientQuotas, 0..=1, flexible 1) {
        /// What entities must look like.
        components: Vec<ComponentData<'a>> [0..];
        /// Whether entities with other parts are left out.
        strict: bool [0..];
    }

    /// What an entity must look like.
    pub struct ComponentData<'a> {
        /// `user`, `client-id` or `ip`.
        entity_type: Cow<'a, str> [0..];
        /// 0 exactly this name, 1 the default, 2 any name.
        match_type: i8 [0..];
        /// The name, if exact.
        r#match: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
    }

    /// The quotas.
    pub struct DescribeClientQuotasResponse<'a> (DescribeClientQuotas, 0..=1, flexible 1) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// 0, or what is wrong.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
        /// The quotas; null with an error.
        entries: Option<Vec<EntryData<'a>>> [0..] default(Some(Vec::new()));
    }

    /// Quotas of one entity.
    pub struct EntryData<'a> {
        /// Whose quotas.
        entity: Vec<EntityData<'a>> [0..];
        /// The quotas.
        values: Vec<ValueData<'a>> [0..];
    }

    /// Part of an entity: a user, a client id or an address.
    pub struct EntityData<'a> {
        /// `user`, `client-id` or `ip`.
        entity_type: Cow<'a, str> [0..];
        /// Its name, null for the default.
        entity_name: Option<Cow<'a, str>> [0..] default(Some(Cow::Borrowed("")));
    }

    /// One quota.
    pub struct ValueData<'a> {
        /// Key of the quota.
        key: Cow<'a, str> [0..];
        /// The value.
        value: f64 [0..];
    }
}
