//! What a topic may be called, and which names are Kafka's own.

use crate::limits::TOPIC_NAME_LENGTH_MAX;
use crate::types::TopicId;

/// Offsets and members of consumer groups.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// States of transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";
/// States of share groups.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";
/// The metadata log itself: never a topic.
pub const CLUSTER_METADATA: &str = "__cluster_metadata";
/// The id of the metadata log: Kafka's `Uuid.METADATA_TOPIC_ID`.
pub const CLUSTER_METADATA_ID: TopicId = TopicId::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// True for topics that the broker writes itself; `is_internal` of Metadata.
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// Why a name is no topic name: INVALID_TOPIC_EXCEPTION.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidName {
    /// It is empty.
    #[error("Topic name is invalid: it is empty")]
    Empty,
    /// It is `.` or `..`.
    #[error("Topic name is invalid: '{0}' is not allowed")]
    Dots(String),
    /// It is longer than Kafka allows.
    #[error("Topic name is invalid: its length {0} is above {TOPIC_NAME_LENGTH_MAX}")]
    TooLong(usize),
    /// It has other characters than ASCII letters and digits, `.`, `_` and `-`.
    #[error("Topic name is invalid: '{0}' has characters other than ASCII alphanumerics, '.', '_' and '-'")]
    Characters(String),
}

/// Checks a name by Kafka's rules.
pub fn validate(name: &str) -> Result<(), InvalidName> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" => Err(InvalidName::Empty),
        "." | ".." => Err(InvalidName::Dots(name.to_owned())),
        _ if name.len() > TOPIC_NAME_LENGTH_MAX => Err(InvalidName::TooLong(name.chars().count())),
        _ if !name.bytes().all(legal) => Err(InvalidName::Characters(name.to_owned())),
        _ => Ok(()),
    }
}

/// What names that differ in nothing but `.` and `_` have in common: Kafka lets only one of them exist, because its metric
/// names confuse them. `None` for a name that has neither and collides with none.
pub fn collision_form(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        assert_eq!(validate(""), Err(InvalidName::Empty));
        assert_eq!(validate(".."), Err(InvalidName::Dots("..".to_owned())));
        assert_eq!(validate(&"x".repeat(250)), Err(InvalidName::TooLong(250)));
        for bad in ["a b", "a/b", "ä", "a\0"] {
            assert_eq!(validate(bad), Err(InvalidName::Characters(bad.to_owned())));
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert_eq!(collision_form("a.b_c"), collision_form("a_b.c"));
        assert_ne!(collision_form("a.b"), collision_form("a.bc"));
        assert_eq!(collision_form("a-b"), None);
    }

    #[test]
    fn only_kafkas_own_topics_are_internal() {
        assert!(is_internal("__consumer_offsets"));
        assert!(!is_internal("__cluster_metadata"));
        assert!(!is_internal("orders"));
    }
}
