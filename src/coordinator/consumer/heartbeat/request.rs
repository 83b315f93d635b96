//! What a heartbeat says, by itself: whether it is one, and what of it is news.

use super::Refusal;
use crate::coordinator::Caller;
use crate::coordinator::assignor::{ASSIGNORS, Assignor, Partitions};
use crate::coordinator::consumer::member::{LEAVE, LEAVE_FOR_A_WHILE, sorted_names};
use crate::coordinator::records::ConsumerGroupMemberMetadataValue;
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest as Request, TopicPartitions};
use crate::types::TopicId;

/// Whether the request keeps the rules (`throwIfConsumerGroupHeartbeatRequestIsInvalid`, in its order), and our bounds.
pub(super) fn check_request(caller: Caller<'_>, request: &Request<'_>) -> Result<(), Refusal> {
    let epoch = request.member_epoch;
    if caller.version >= 1 || epoch > 0 || epoch == LEAVE {
        require(!is_blank(&request.member_id), "MemberId can't be empty.")?;
    }
    require(!is_blank(&request.group_id), "GroupId can't be empty.")?;
    require(!request.instance_id.as_deref().is_some_and(is_blank), "InstanceId can't be empty.")?;
    require(!request.rack_id.as_deref().is_some_and(is_blank), "RackId can't be empty.")?;
    if epoch == 0 {
        require(request.rebalance_timeout_ms != -1, "RebalanceTimeoutMs must be provided in first request.")?;
        let owns_nothing = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
        require(owns_nothing, "TopicPartitions must be empty when (re-)joining.")?;
        let message = "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.";
        require(request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some(), message)?;
    } else if epoch == LEAVE_FOR_A_WHILE {
        require(request.instance_id.is_some(), "InstanceId can't be null.")?;
    } else {
        require(epoch >= LEAVE, "MemberEpoch is invalid.")?;
    }
    if let Some(name) = request.server_assignor.as_deref().filter(|name| Assignor::from_name(name).is_none()) {
        let known = ASSIGNORS.map(Assignor::name).join(", ");
        let message = format!("ServerAssignor {name} is not supported. Supported assignors: {known}.");
        return Err(Refusal::new(ErrorCode::UnsupportedAssignor, message));
    }
    check_bounds(caller, request)
}

fn check_bounds(caller: Caller<'_>, request: &Request<'_>) -> Result<(), Refusal> {
    let strings = [Some(&*request.member_id), request.instance_id.as_deref(), request.rack_id.as_deref()];
    let longest = strings.into_iter().flatten().chain([caller.client_id]).map(str::len).max().unwrap_or(0);
    require(longest <= limits::MEMBER_STRING_BYTES_MAX, "An id of the member is too long.")?;
    let names = request.subscribed_topic_names.as_deref().unwrap_or_default();
    require(
        names.len() <= limits::SUBSCRIBED_TOPICS_MAX
            && names.iter().all(|name| name.len() <= limits::TOPIC_NAME_LENGTH_MAX),
        "SubscribedTopicNames has too many names, or one that is too long.",
    )
}

fn require(holds: bool, message: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::new(ErrorCode::InvalidRequest, message)) }
}

/// Java's `trim().isEmpty()`.
fn is_blank(string: &str) -> bool {
    string.chars().all(|letter| letter <= ' ')
}

/// Whether the member leaves, for good or for a while.
pub(super) fn is_leave(request: &Request<'_>) -> bool {
    [LEAVE, LEAVE_FOR_A_WHILE].contains(&request.member_epoch)
}

/// Whether the request says everything, as one does to join or after an error: then the answer does, too.
pub(super) fn is_full(request: &Request<'_>) -> bool {
    let subscribes = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    request.rebalance_timeout_ms != -1 && subscribes && request.topic_partitions.is_some()
}

/// Whether these are all of the partitions, and no others. Whoever names one twice deceives only itself.
pub(super) fn is_all(owned: &[TopicPartitions], partitions: &Partitions) -> bool {
    let count: usize = owned.iter().map(|topic| topic.partitions.len()).sum();
    let is_one =
        |topic: &TopicPartitions| topic.partitions.iter().all(|index| partitions.contains(topic.topic_id, *index));
    count == partitions.len() && owned.iter().all(is_one)
}

/// Whether anything in the request is news. What it leaves out is not.
pub(super) fn differs(known: &ConsumerGroupMemberMetadataValue, caller: Caller<'_>, request: &Request<'_>) -> bool {
    let optional = |said: Option<&str>, known: Option<&str>| said.is_some() && said != known;
    optional(request.instance_id.as_deref(), known.instance_id.as_deref())
        || optional(request.rack_id.as_deref(), known.rack_id.as_deref())
        || optional(request.server_assignor.as_deref(), known.server_assignor.as_deref())
        || optional(request.subscribed_topic_regex.as_deref(), known.subscribed_topic_regex.as_deref())
        || (request.rebalance_timeout_ms != -1 && request.rebalance_timeout_ms != known.rebalance_timeout_ms)
        || caller.client_id != known.client_id
        || caller.client_host != known.client_host
        || request
            .subscribed_topic_names
            .as_ref()
            .is_some_and(|names| sorted_names(names.iter().map(|name| &**name)) != known.subscribed_topic_names)
}

/// Takes over what the request says.
pub(super) fn update(metadata: &mut ConsumerGroupMemberMetadataValue, caller: Caller<'_>, request: &Request<'_>) {
    let optional = |said: Option<&str>, known: &mut Option<String>| {
        if said.is_some() {
            *known = said.map(str::to_owned);
        }
    };
    optional(request.instance_id.as_deref(), &mut metadata.instance_id);
    optional(request.rack_id.as_deref(), &mut metadata.rack_id);
    optional(request.server_assignor.as_deref(), &mut metadata.server_assignor);
    optional(request.subscribed_topic_regex.as_deref(), &mut metadata.subscribed_topic_regex);
    if request.rebalance_timeout_ms != -1 {
        metadata.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if let Some(names) = &request.subscribed_topic_names {
        metadata.subscribed_topic_names = sorted_names(names.iter().map(|name| &**name));
    }
    caller.client_id.clone_into(&mut metadata.client_id);
    caller.client_host.clone_into(&mut metadata.client_host);
}

/// An id as Kafka's `Uuid.randomUuid` makes them: a random UUID in its 22 letters, never with a dash in front.
pub(super) fn random_id(mut bits: [u8; 16]) -> String {
    bits[6] = bits[6] & 0x0f | 0x40;
    bits[8] = bits[8] & 0x3f | 0x80;
    let id = TopicId::new(bits).to_string();
    if id.starts_with('-') {
        bits[0] ^= 0x80;
        return TopicId::new(bits).to_string();
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_look_like_kafkas() {
        assert_eq!(random_id([0; 16]), "AAAAAAAAQACAAAAAAAAAAA");
        // 0xf8 in front would be a dash.
        assert_eq!(random_id([0xf8; 16]).chars().next(), Some('e'));
        assert_eq!(random_id([0xff; 16]).len(), 22);
    }

    #[test]
    fn blank_is_what_java_trims_away() {
        assert!(is_blank("") && is_blank(" \t\u{1}") && !is_blank(" a") && !is_blank("\u{a0}"));
    }
}
