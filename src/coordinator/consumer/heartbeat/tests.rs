//! The rules of heartbeats, one by one.

use std::borrow::Cow;

use super::*;
use crate::coordinator::assignor::Assignor;
use crate::coordinator::config::GroupConfig;
use crate::coordinator::consumer::ConsumerGroupState;
use crate::coordinator::consumer::testing::{Bench, beat, durable, given, join, owning};
use crate::types::{ConnectionId, ShardId};

/// What a record is, in short: for the order of records.
fn kinds(records: &[Record]) -> Vec<String> {
    let kind = |record: &Record| match record {
        Record::ConsumerGroup(_, value) => format!("epoch {:?}", value.as_ref().map(|value| value.epoch)),
        Record::ConsumerMember(key, value) => format!("member {} {}", key.member_id, sign(value)),
        Record::ConsumerTargetMetadata(_, epoch) => format!("assignment {epoch:?}"),
        Record::ConsumerTargetMember(key, value) => format!("target {} {}", key.member_id, sign(value)),
        Record::ConsumerCurrent(key, value) => format!("current {} {}", key.member_id, sign(value)),
        Record::ConsumerRegularExpression(key, value) => format!("regex {} {}", key.regular_expression, sign(value)),
        Record::Group(_, value) => format!("classic {}", sign(value)),
        Record::OffsetCommit(..) => "offset".to_owned(),
    };
    records.iter().map(kind).collect()
}

fn sign<T>(value: &Option<T>) -> char {
    if value.is_some() { '+' } else { '-' }
}

fn error(response: &Response<'_>) -> (ErrorCode, String) {
    let code = ErrorCode::from_code(response.error_code).unwrap();
    (code, response.error_message.as_deref().unwrap_or_default().to_owned())
}

fn bench(partitions: i32) -> (Bench, crate::types::TopicId) {
    let mut bench = Bench::new();
    let topic = bench.cluster.create("t", partitions);
    (bench, topic)
}

#[test]
fn requests_that_break_a_rule_get_kafkas_message() {
    let valid = || join("g", "m", &["t"]);
    let none: Option<Vec<TopicPartitions>> = None;
    let long = "x".repeat(2000);
    // (version, request, error, message)
    let rows: Vec<(i16, Request<'_>, ErrorCode, &str)> = vec![
        (1, Request { member_id: " ".into(), ..valid() }, ErrorCode::InvalidRequest, "MemberId can't be empty."),
        (0, beat("g", "", 3), ErrorCode::InvalidRequest, "MemberId can't be empty."),
        (0, beat("g", "", -1), ErrorCode::InvalidRequest, "MemberId can't be empty."),
        (0, beat("g", "", -2), ErrorCode::InvalidRequest, "InstanceId can't be null."),
        (1, Request { group_id: "".into(), ..valid() }, ErrorCode::InvalidRequest, "GroupId can't be empty."),
        (
            1,
            Request { instance_id: Some("".into()), ..valid() },
            ErrorCode::InvalidRequest,
            "InstanceId can't be empty.",
        ),
        (1, Request { rack_id: Some("".into()), ..valid() }, ErrorCode::InvalidRequest, "RackId can't be empty."),
        (
            1,
            Request { rebalance_timeout_ms: -1, ..valid() },
            ErrorCode::InvalidRequest,
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            1,
            Request { topic_partitions: none, ..valid() },
            ErrorCode::InvalidRequest,
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            1,
            Request { subscribed_topic_names: None, ..valid() },
            ErrorCode::InvalidRequest,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (1, beat("g", "m", -3), ErrorCode::InvalidRequest, "MemberEpoch is invalid."),
        (
            1,
            Request { server_assignor: Some("sticky".into()), ..valid() },
            ErrorCode::UnsupportedAssignor,
            "ServerAssignor sticky is not supported. Supported assignors: uniform, range.",
        ),
        (
            1,
            Request { subscribed_topic_regex: Some("(".into()), ..valid() },
            ErrorCode::InvalidRegularExpression,
            "SubscribedTopicRegex `(` is not a valid regular expression: missing closing ).",
        ),
        (
            1,
            Request { member_id: (&*long).into(), ..valid() },
            ErrorCode::InvalidRequest,
            "An id of the member is too long.",
        ),
        (
            1,
            Request { subscribed_topic_names: Some(vec![Cow::Borrowed(&*long)]), ..valid() },
            ErrorCode::InvalidRequest,
            "SubscribedTopicNames has too many names, or one that is too long.",
        ),
        (1, beat("g", "m", 1), ErrorCode::GroupIdNotFound, "Consumer group g not found."),
        (1, beat("g", "m", -1), ErrorCode::GroupIdNotFound, "Group g not found."),
    ];
    for (version, request, code, message) in rows {
        let (mut bench, _) = bench(1);
        bench.version = version;
        let (records, response) = bench.step(&request);
        assert_eq!(error(&response), (code, message.to_owned()));
        assert_eq!(records, [], "{message}");
        assert!(bench.coordinator.groups.is_empty(), "{message}");
    }
}

#[test]
fn the_first_join_makes_the_group_with_kafkas_records_in_kafkas_order() {
    let (mut bench, topic) = bench(3);
    let (records, response) = bench.step(&join("g", "m", &["t"]));
    assert_eq!(kinds(&records), ["member m +", "epoch Some(1)", "target m +", "assignment Some(1)", "current m +"]);
    assert_eq!(given(&response), Some(vec![0, 1, 2]));
    assert_eq!(response.assignment.unwrap().topic_partitions[0].topic_id, topic);
    assert_eq!((response.member_epoch, response.heartbeat_interval_ms), (1, 5000));
    assert_eq!(response.member_id.as_deref(), Some("m"));
    assert_eq!(bench.group("g").state(), ConsumerGroupState::Stable);
}

#[test]
fn a_heartbeat_that_says_nothing_new_leaves_no_record_and_no_assignment() {
    let (mut bench, _) = bench(3);
    bench.send(&join("g", "m", &["t"]));
    let (records, response) = bench.step(&beat("g", "m", 1));
    assert_eq!((records.len(), given(&response), response.member_epoch), (0, None, 1));
    // A full request is answered in full.
    let full = Request { member_epoch: 1, ..join("g", "m", &["t"]) };
    let (records, response) = bench.step(&full);
    assert_eq!((records.len(), given(&response)), (0, Some(vec![0, 1, 2])));
}

#[test]
fn members_are_told_their_groups_own_heartbeat_interval() {
    let (mut bench, _) = bench(1);
    let configure = |bench: &mut Bench, value| {
        bench.change_metadata(|cluster| cluster.configure("g", "consumer.heartbeat.interval.ms", value));
    };
    configure(&mut bench, Some("7000"));
    assert_eq!(bench.send(&join("g", "m", &["t"])).heartbeat_interval_ms, 7_000);
    assert_eq!(bench.send(&join("other", "m", &["t"])).heartbeat_interval_ms, 5_000);
    configure(&mut bench, Some("8000"));
    assert_eq!(bench.send(&beat("g", "m", 1)).heartbeat_interval_ms, 8_000);
    configure(&mut bench, None);
    assert_eq!(bench.send(&beat("g", "m", 1)).heartbeat_interval_ms, 5_000);
}

#[test]
fn the_broker_names_members_of_version_0_that_have_no_id() {
    let (mut bench, _) = bench(1);
    bench.version = 0;
    let one = bench.send(&join("g", "", &["t"])).member_id.unwrap().into_owned();
    let other = bench.send(&join("g", "", &["t"])).member_id.unwrap().into_owned();
    assert_eq!((one.len(), other.len()), (22, 22));
    assert_ne!(one, other);
}

#[test]
fn a_partition_is_given_up_before_it_is_given_on() {
    let (mut bench, topic) = bench(4);
    bench.send(&join("g", "a", &["t"]));
    let response = bench.send(&join("g", "b", &["t"]));
    assert_eq!((given(&response), response.member_epoch), (Some(vec![]), 2), "all are held by a");
    assert_eq!(bench.group("g").state(), ConsumerGroupState::Reconciling);
    // a is told, in its epoch, what remains.
    let response = bench.send(&beat("g", "a", 1));
    assert_eq!((given(&response), response.member_epoch), (Some(vec![0, 1]), 1));
    // It keeps saying nothing, or that it still owns them: nothing moves.
    assert_eq!(bench.step(&beat("g", "a", 1)).0, []);
    assert_eq!(bench.step(&owning("g", "a", 1, topic, &[0, 1, 2])).0, []);
    assert_eq!(given(&bench.send(&beat("g", "b", 2))), None);
    // It has given them up.
    let response = bench.send(&owning("g", "a", 1, topic, &[0, 1]));
    assert_eq!((given(&response), response.member_epoch), (None, 2));
    let response = bench.send(&beat("g", "b", 2));
    assert_eq!(given(&response), Some(vec![2, 3]));
    assert_eq!(bench.group("g").state(), ConsumerGroupState::Stable);
    assert_eq!(bench.step(&beat("g", "b", 2)).0, []);
}

#[test]
fn epochs_that_do_not_fit_are_fenced() {
    let (mut bench, topic) = bench(4);
    bench.send(&join("g", "a", &["t"]));
    let (code, message) = error(&bench.send(&beat("g", "a", 9)));
    assert_eq!(code, ErrorCode::FencedMemberEpoch);
    assert_eq!(
        message,
        "The consumer group member has a greater member epoch (9) than the one known by the group coordinator (1). \
         The member must abandon all its partitions and rejoin."
    );
    // The answer to the join may have been lost: it comes again with epoch 0.
    assert_eq!(given(&bench.send(&join("g", "a", &["t"]))), Some(vec![0, 1, 2, 3]));
    // b brings the group to epoch 2, a follows.
    bench.send(&join("g", "b", &["t"]));
    bench.send(&beat("g", "a", 1));
    assert_eq!(bench.send(&owning("g", "a", 1, topic, &[0, 1])).member_epoch, 2);
    // The epoch before is accepted with what it was given, not with more and not without saying.
    assert_eq!(bench.send(&owning("g", "a", 1, topic, &[0])).member_epoch, 2);
    assert_eq!(error(&bench.send(&owning("g", "a", 1, topic, &[0, 2]))).0, ErrorCode::FencedMemberEpoch);
    let (code, message) = error(&bench.send(&beat("g", "a", 1)));
    assert_eq!(code, ErrorCode::FencedMemberEpoch);
    assert!(message.starts_with("The consumer group member has a smaller member epoch (1) than"), "{message}");
    assert_eq!(
        error(&bench.send(&beat("g", "stranger", 2))),
        (ErrorCode::UnknownMemberId, "Member stranger is not a member of group g.".to_owned())
    );
}

#[test]
fn a_member_that_leaves_frees_its_partitions_at_once() {
    let (mut bench, _) = bench(2);
    bench.send(&join("g", "a", &["t"]));
    bench.send(&join("g", "b", &["t"]));
    let (records, response) = bench.step(&beat("g", "a", -1));
    assert_eq!(kinds(&records), ["current a -", "target a -", "member a -", "epoch Some(3)"]);
    assert_eq!((response.member_epoch, response.member_id.as_deref()), (-1, Some("a")));
    assert_eq!(bench.group("g").state(), ConsumerGroupState::Assigning);
    let (records, response) = bench.step(&beat("g", "b", 2));
    assert_eq!(kinds(&records), ["target b +", "assignment Some(3)", "current b +"]);
    assert_eq!((given(&response), response.member_epoch), (Some(vec![0, 1]), 3));
    bench.send(&beat("g", "b", -1));
    assert_eq!(bench.group("g").state(), ConsumerGroupState::Empty);
    assert_eq!(error(&bench.send(&beat("g", "b", -1))).0, ErrorCode::UnknownMemberId);
    // The epoch goes on.
    assert_eq!(bench.send(&join("g", "c", &["t"])).member_epoch, 5);
}

fn static_join<'a>(member: &'a str, instance: &'a str) -> Request<'a> {
    Request { instance_id: Some(instance.into()), ..join("g", member, &["t"]) }
}

fn static_beat<'a>(member: &'a str, instance: &'a str, epoch: i32) -> Request<'a> {
    Request { instance_id: Some(instance.into()), ..beat("g", member, epoch) }
}

#[test]
fn a_static_member_that_is_back_gets_its_place_without_a_rebalance() {
    let (mut bench, _) = bench(2);
    bench.send(&static_join("a", "i"));
    assert_eq!(
        error(&bench.send(&static_join("b", "i"))),
        (
            ErrorCode::UnreleasedInstanceId,
            "Static member b with instance id i cannot join the group because the instance id is owned by a member."
                .to_owned()
        )
    );
    let (records, response) = bench.step(&static_beat("a", "i", -2));
    assert_eq!((kinds(&records), response.member_epoch), (vec!["current a +".to_owned()], -2));
    let (records, response) = bench.step(&static_join("b", "i"));
    let expected =
        ["current a -", "target a -", "member a -", "member b +", "target b +", "current b +", "current b +"];
    assert_eq!(kinds(&records), expected);
    assert_eq!((given(&response), response.member_epoch), (Some(vec![0, 1]), 1), "in the epoch of before");
    assert_eq!(
        error(&bench.send(&static_beat("a", "i", 1))),
        (ErrorCode::FencedInstanceId, "Static member a with instance id i was fenced by member b.".to_owned())
    );
    assert_eq!(
        error(&bench.send(&static_beat("b", "other", 1))),
        (ErrorCode::UnknownMemberId, "Instance id other is unknown.".to_owned())
    );
    // The same member id may come back, too.
    bench.send(&static_beat("b", "i", -2));
    assert_eq!(error(&bench.send(&static_beat("b", "i", 1))).0, ErrorCode::FencedMemberEpoch);
    assert_eq!(given(&bench.send(&static_join("b", "i"))), Some(vec![0, 1]));
    assert_eq!(bench.group("g").members.len(), 1);
    let before = durable(bench.group("g"));
    bench.restart();
    assert_eq!(durable(bench.group("g")), before);
}

#[test]
fn a_static_member_that_does_not_come_back_is_fenced_with_its_session() {
    let (mut bench, _) = bench(2);
    bench.send(&static_join("a", "i"));
    bench.send(&static_beat("a", "i", -2));
    assert_eq!(bench.pass(44_999), []);
    assert_eq!(kinds(&bench.pass(1)), ["current a -", "target a -", "member a -", "epoch Some(2)"]);
    assert_eq!(bench.send(&static_join("b", "i")).error_code, 0, "the instance id is free");
}

#[test]
fn an_instance_id_that_its_member_gave_up_is_free() {
    // A member that joined again under another instance id left the first pointing at itself, and when it was gone, at
    // nobody: the next join under it met no member.
    let (mut bench, _) = bench(2);
    bench.send(&static_join("a", "i"));
    assert_eq!(bench.send(&static_join("a", "j")).error_code, 0);
    assert_eq!(error(&bench.send(&static_beat("a", "i", 1))).0, ErrorCode::UnknownMemberId);
    bench.send(&static_beat("a", "j", -1));
    assert_eq!(bench.send(&static_join("b", "i")).error_code, 0);
    assert_eq!(bench.send(&static_join("c", "j")).error_code, 0);
    let before = durable(bench.group("g"));
    bench.restart();
    assert_eq!(durable(bench.group("g")), before);
}

#[test]
fn a_full_group_takes_its_own_members_only() {
    let mut bench = Bench::with(GroupConfig { consumer_group_size_max: 1, ..Default::default() });
    bench.cluster.create("t", 1);
    bench.send(&join("g", "a", &["t"]));
    assert_eq!(
        error(&bench.send(&join("g", "b", &["t"]))),
        (
            ErrorCode::GroupMaxSizeReached,
            "The consumer group has reached its maximum capacity of 1 members.".to_owned()
        )
    );
    assert_eq!(bench.send(&beat("g", "a", 1)).error_code, 0);
}

#[test]
fn the_assignor_of_most_members_is_taken() {
    let (mut bench, _) = bench(2);
    let with = |member: &'static str, assignor: &'static str| Request {
        server_assignor: Some(assignor.into()),
        ..join("g", member, &["t"])
    };
    bench.send(&join("g", "a", &["t"]));
    assert_eq!(bench.group("g").assignor(), Assignor::Uniform);
    bench.send(&with("b", "range"));
    assert_eq!(bench.group("g").assignor(), Assignor::Range);
    bench.send(&with("c", "uniform"));
    assert_eq!(bench.group("g").assignor(), Assignor::Uniform, "of equals the first");
    bench.send(&with("d", "range"));
    assert_eq!(bench.group("g").assignor(), Assignor::Range);
}

#[test]
fn another_subscription_raises_the_epoch_and_another_client_name_does_not() {
    let (mut bench, _) = bench(1);
    bench.cluster.create("u", 1);
    bench.send(&join("g", "a", &["t"]));
    let changed =
        Request { subscribed_topic_names: Some(vec!["u".into(), "t".into(), "u".into()]), ..beat("g", "a", 1) };
    let (records, response) = bench.step(&changed);
    assert_eq!(kinds(&records)[..2], ["member a +", "epoch Some(2)"]);
    assert_eq!(given(&response).map(|partitions| partitions.len()), Some(2));
    let same = Request { subscribed_topic_names: Some(vec!["t".into(), "u".into()]), ..beat("g", "a", 2) };
    assert_eq!(bench.step(&same).0, []);
    let renamed = Request { rack_id: Some("r".into()), ..beat("g", "a", 2) };
    assert_eq!(kinds(&bench.step(&renamed).0), ["member a +"]);
}

#[test]
fn topics_that_come_grow_and_go_raise_the_epoch_at_the_next_heartbeat() {
    let mut bench = Bench::new();
    let response = bench.send(&join("g", "a", &["t"]));
    assert_eq!((given(&response), response.member_epoch), (Some(vec![]), 1));
    bench.change_metadata(|cluster| _ = cluster.create("unrelated", 9));
    assert_eq!(bench.step(&beat("g", "a", 1)).0, []);
    bench.change_metadata(|cluster| _ = cluster.create("t", 1));
    assert_eq!(given(&bench.send(&beat("g", "a", 1))), Some(vec![0]));
    bench.change_metadata(|cluster| cluster.grow("t", 3));
    assert_eq!(given(&bench.send(&beat("g", "a", 2))), Some(vec![0, 1, 2]));
    bench.change_metadata(|cluster| cluster.delete("t"));
    let response = bench.send(&beat("g", "a", 3));
    assert_eq!((given(&response), response.member_epoch), (Some(vec![]), 3), "it gives up what is gone");
    let response = bench.send(&owning("g", "a", 3, crate::types::TopicId::ZERO, &[]));
    assert_eq!((response.member_epoch, bench.group("g").held.len()), (4, 0));
}

#[test]
fn patterns_are_matched_when_they_come_and_when_topics_change_but_not_too_often() {
    let mut bench = Bench::new();
    bench.cluster.create("a1", 1);
    let pattern = |member: &'static str, pattern: &'static str| Request {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(pattern.into()),
        ..join("g", member, &[])
    };
    let (records, response) = bench.step(&pattern("m", "a.*"));
    let expected = ["member m +", "regex a.* +", "epoch Some(1)", "target m +", "assignment Some(1)", "current m +"];
    assert_eq!(kinds(&records), expected);
    assert_eq!(given(&response).map(|partitions| partitions.len()), Some(1));
    assert!(bench.group("g").is_subscribed_to("a1"));
    bench.change_metadata(|cluster| _ = cluster.create("a2", 1));
    assert_eq!(bench.step(&beat("g", "m", 1)).0, [], "too soon");
    bench.pass(10_000);
    let (records, response) = bench.step(&beat("g", "m", 1));
    assert_eq!(kinds(&records)[..2], ["regex a.* +", "epoch Some(2)"]);
    assert_eq!(given(&response).map(|partitions| partitions.len()), Some(2));
    // A second member of the same pattern: nothing to match, but a new target.
    let (records, _) = bench.step(&pattern("n", "a.*"));
    assert_eq!(kinds(&records)[..2], ["member n +", "epoch Some(3)"]);
    // The last member of a pattern takes it away.
    bench.send(&beat("g", "m", -1));
    let (records, _) = bench.step(&Request { subscribed_topic_regex: Some("b".into()), ..beat("g", "n", 3) });
    assert_eq!(kinds(&records)[..4], ["member n +", "regex a.* -", "regex b +", "epoch Some(5)"]);
    let (records, _) = bench.step(&Request { subscribed_topic_regex: Some("".into()), ..beat("g", "n", 5) });
    assert_eq!(kinds(&records)[..2], ["member n +", "regex b -"]);
    let response = bench.send(&Request { subscribed_topic_regex: Some("c".into()), ..beat("g", "n", 6) });
    assert_eq!(response.error_code, 0);
    let (records, _) = bench.step(&beat("g", "n", -1));
    assert_eq!(kinds(&records)[..4], ["current n -", "target n -", "member n -", "regex c -"]);
    assert_eq!(bench.group("g").subscriptions.pattern_count(), 0);
}

#[test]
fn a_group_takes_a_bounded_number_of_patterns() {
    let (mut bench, _) = bench(1);
    for index in 0..limits::SUBSCRIPTION_PATTERNS_PER_GROUP_MAX {
        let (member, pattern) = (format!("m{index}"), format!("t{index}*"));
        let request = Request { subscribed_topic_regex: Some((&*pattern).into()), ..join("g", &member, &[]) };
        assert_eq!(bench.send(&request).error_code, 0);
    }
    let request = Request { subscribed_topic_regex: Some("one more".into()), ..join("g", "x", &[]) };
    assert_eq!(error(&bench.send(&request)).0, ErrorCode::CoordinatorNotAvailable);
    let request = Request { subscribed_topic_regex: Some("t0*".into()), ..join("g", "x", &[]) };
    assert_eq!(bench.send(&request).error_code, 0, "a known one costs nothing");
}

#[test]
fn commits_and_fetches_must_come_in_the_members_epoch() {
    let (mut bench, _) = bench(1);
    bench.send(&join("g", "a", &["t"]));
    let group = bench.group("g");
    assert_eq!(group.validate_offset_commit("a", None, 1, 9), Ok(()));
    assert_eq!(group.validate_offset_commit("a", None, 1, 8), Err(ErrorCode::UnsupportedVersion));
    assert_eq!(group.validate_offset_commit("a", None, 0, 9), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(group.validate_offset_commit("b", None, 1, 9), Err(ErrorCode::UnknownMemberId));
    assert_eq!(group.validate_offset_commit("", None, -1, 9), Err(ErrorCode::UnknownMemberId));
    assert_eq!(group.validate_offset_fetch(None, -1), Ok(()));
    assert_eq!(group.validate_offset_fetch(Some("a"), 1), Ok(()));
    assert_eq!(group.validate_offset_fetch(Some("a"), 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(group.validate_offset_fetch(Some("b"), 1), Err(ErrorCode::UnknownMemberId));
    assert_eq!(group.validate_offset_fetch(None, 1), Err(ErrorCode::UnknownMemberId));
    assert!(group.is_subscribed_to("t") && !group.is_subscribed_to("u") && !group.is_empty());
    bench.send(&beat("g", "a", -1));
    assert_eq!(bench.group("g").validate_offset_commit("", None, -1, 0), Ok(()), "an admin client, the group is empty");
    assert!(!bench.group("g").is_subscribed_to("t"));
}

#[test]
fn members_of_an_unknown_state_must_come_back_with_nothing() {
    let (mut bench, topic) = bench(1);
    bench.send(&join("g", "a", &["t"]));
    let Some(Record::ConsumerCurrent(key, Some(value))) = bench.log.last().cloned() else { panic!("a standing") };
    let strange = ConsumerGroupCurrentMemberAssignmentValue { state: 9, ..value };
    bench.log.push(Record::ConsumerCurrent(key, Some(strange)));
    bench.restart();
    assert_eq!(
        error(&bench.send(&beat("g", "a", 1))),
        (
            ErrorCode::FencedMemberEpoch,
            "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin."
                .to_owned()
        )
    );
    assert_eq!(bench.send(&owning("g", "a", 1, topic, &[])).error_code, 0);
    assert_eq!(bench.group("g").state(), ConsumerGroupState::Stable);
}

#[test]
fn a_group_is_rebuilt_from_a_compacted_log_whose_records_come_in_another_order() {
    let (mut bench, topic) = bench(4);
    bench.send(&static_join("a", "i"));
    bench.send(&join("g", "b", &["t"]));
    bench.send(&static_beat("a", "i", 1));
    bench.send(&Request { instance_id: Some("i".into()), ..owning("g", "a", 1, topic, &[0, 1]) });
    bench.send(&beat("g", "b", 2));
    // a says something new of itself: its oldest record moves behind all others.
    bench.send(&Request { rack_id: Some("r".into()), ..static_beat("a", "i", 2) });
    let before = durable(bench.group("g"));
    let mut compacted: Vec<Record> = Vec::new();
    for record in bench.log.drain(..) {
        let same_key = |old: &Record| match (old, &record) {
            (Record::ConsumerMember(old, _), Record::ConsumerMember(new, _))
            | (Record::ConsumerTargetMember(old, _), Record::ConsumerTargetMember(new, _))
            | (Record::ConsumerCurrent(old, _), Record::ConsumerCurrent(new, _)) => old == new,
            (Record::ConsumerGroup(..), Record::ConsumerGroup(..)) => true,
            (Record::ConsumerTargetMetadata(..), Record::ConsumerTargetMetadata(..)) => true,
            _ => false,
        };
        compacted.retain(|old| !same_key(old));
        compacted.push(record);
    }
    assert!(kinds(&compacted)[0].starts_with("member b"), "{:?}", kinds(&compacted));
    bench.log = compacted;
    bench.restart();
    assert_eq!(durable(bench.group("g")), before);
}

#[test]
fn tombstones_leave_nothing_of_a_group() {
    let (mut bench, _) = bench(2);
    bench.send(&static_join("a", "i"));
    bench.send(&Request { subscribed_topic_regex: Some("t.*".into()), ..join("g", "b", &[]) });
    let mut tombstones = Vec::new();
    bench.group("g").tombstones(&mut tombstones);
    let expected = [
        "current a -",
        "current b -",
        "target a -",
        "target b -",
        "assignment None",
        "member a -",
        "member b -",
        "regex t.* -",
        "epoch None",
    ];
    assert_eq!(kinds(&tombstones), expected);
    bench.log.extend(tombstones.clone());
    bench.restart();
    assert!(bench.coordinator.groups.is_empty());
    // What a compacted log may leave: tombstones of what never was.
    bench.log = tombstones;
    bench.restart();
    assert!(bench.coordinator.groups.is_empty());
}

#[test]
fn a_thousand_members_join_and_settle() {
    let (mut bench, topic) = bench(1500);
    let names: Vec<String> = (0..1000).map(|index| format!("member-{index:04}")).collect();
    for name in &names {
        assert_eq!(bench.send(&join("g", name, &["t"])).error_code, 0);
    }
    let mut owned: Vec<Vec<i32>> = vec![Vec::new(); names.len()];
    for _ in 0..3 {
        for (name, owned) in names.iter().zip(&mut owned) {
            let epoch = bench.group("g").members[name.as_str()].standing.epoch;
            let response = bench.send(&owning("g", name, epoch, topic, owned));
            if let Some(partitions) = given(&response) {
                *owned = partitions;
            }
        }
    }
    assert_eq!(bench.group("g").state(), ConsumerGroupState::Stable);
    assert!(owned.iter().all(|owned| (1..=2).contains(&owned.len())));
    assert_eq!(bench.group("g").held.len(), 1500);
}

/// librdkafka gives an answer up after the heartbeat interval, connects again and says no more than that it is there. It kept
/// what it should give up, and what it was given nobody read: seen in the soak, for minutes.
#[test]
fn an_assignment_whose_answer_may_be_lost_is_told_again() {
    let (mut bench, topic) = bench(2);
    let over = |bench: &mut Bench, connection: u64| bench.connection = ConnectionId::of(ShardId::new(0), connection);
    bench.send(&join("g", "a", &["t"]));
    bench.send(&owning("g", "a", 1, topic, &[0, 1]));
    bench.send(&join("g", "b", &["t"]));
    let told = bench.send(&beat("g", "a", 1));
    let kept = given(&told).unwrap();
    assert_eq!(kept.len(), 1, "it shall give up one");
    assert!(bench.send(&beat("g", "a", 1)).assignment.is_none(), "it cannot be lost on a connection that goes on");
    over(&mut bench, 2);
    assert_eq!(given(&bench.send(&beat("g", "a", 1))).as_ref(), Some(&kept), "of what it shall give up");
    assert!(bench.send(&beat("g", "a", 1)).assignment.is_none());
    // What it has may be what it had before.
    over(&mut bench, 3);
    assert_eq!(given(&bench.send(&owning("g", "a", 1, topic, &[0, 1]))).as_ref(), Some(&kept));
    bench.send(&owning("g", "a", 1, topic, &kept));
    over(&mut bench, 4);
    assert!(bench.send(&beat("g", "a", 2)).assignment.is_none(), "it said that it has just that");
    let other = given(&bench.send(&beat("g", "b", 2)));
    assert_eq!(other.as_ref().map(Vec::len), Some(1));
    over(&mut bench, 5);
    assert_eq!(given(&bench.send(&beat("g", "b", 2))), other, "of what it was given");
    bench.restart();
    assert_eq!(given(&bench.send(&beat("g", "b", 2))), other, "nobody knows any more what it was told");
    assert!(bench.send(&beat("g", "b", 2)).assignment.is_none());
}
