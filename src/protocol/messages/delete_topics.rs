//! DeleteTopics (20). Versions 1 to 6.
//!
//! 4 is flexible, 5 adds error messages, 6 deletes by name or id.

use std::borrow::Cow;

use crate::protocol::table::message;
use crate::types::TopicId;

message! {
    /// Asks for topics to be deleted.
    pub struct DeleteTopicsRequest<'a> (DeleteTopics, 1..=6, flexible 4) {
        /// The topics, from version 6 on.
        topics: Vec<DeleteTopicState<'a>> [6..];
        /// Names of the topics, before version 6.
        topic_names: Vec<Cow<'a, str>> [0..=5];
        /// How long the answer may take.
        timeout_ms: i32 [0..];
    }

    /// One topic, by name or by id.
    pub struct DeleteTopicState<'a> {
        /// Its name, null if given by id.
        name: Option<Cow<'a, str>> [6..];
        /// Its id, zero if given by name.
        topic_id: TopicId [6..];
    }

    /// What became of the topics.
    pub struct DeleteTopicsResponse<'a> (DeleteTopics, 1..=6, flexible 4) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [1..];
        /// The results.
        responses: Vec<DeletableTopicResult<'a>> [0..];
    }

    /// What became of one topic.
    pub struct DeletableTopicResult<'a> {
        /// Its name, null if given by an id that is unknown.
        name: Option<Cow<'a, str>> [0..] null [6..] default(Some(Cow::Borrowed("")));
        /// Its id.
        topic_id: TopicId [6..];
        /// 0, or why it was not deleted.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [5..];
    }
}
