//! What every client of a group asks in the same way, and how long it waits.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use corelane::protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelane::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelane::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use corelane::protocol::wire::Message;
use corelane::runtime::Runtime;

use crate::connection::{Answer, Closed, Connection};
use crate::groups::{Groups, TOPICS};
use crate::machine::Process;

pub(crate) const UNKNOWN_TOPIC: i16 = 3;
pub(crate) const LOADING: i16 = 14;
pub(crate) const NOT_AVAILABLE: i16 = 15;
pub(crate) const NOT_COORDINATOR: i16 = 16;
pub(crate) const ILLEGAL_GENERATION: i16 = 22;
pub(crate) const UNKNOWN_MEMBER: i16 = 25;
pub(crate) const REBALANCE: i16 = 27;
pub(crate) const GROUP_NOT_FOUND: i16 = 69;
pub(crate) const MEMBER_ID_REQUIRED: i16 = 79;
pub(crate) const FENCED_INSTANCE: i16 = 82;
pub(crate) const FENCED_EPOCH: i16 = 110;
pub(crate) const UNRELEASED_INSTANCE: i16 = 111;
pub(crate) const STALE_EPOCH: i16 = 113;

/// Longest rebalance timeout of any member, in milliseconds.
pub(crate) const REBALANCE_MS_MAX: u64 = 3000;
/// Longest wait for an answer: that of a group for its members, twice since a static one may be waited for, and slow flushes.
const PATIENCE: Duration = Duration::from_millis(2 * REBALANCE_MS_MAX + 10_000);

/// Who commits: member id, instance id, generation or epoch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Credentials<'a> {
    pub(crate) member: &'a str,
    pub(crate) instance: Option<&'a str>,
    pub(crate) generation: i32,
}

/// Of those that are no members.
pub(crate) const NOBODY: Credentials<'static> = Credentials { member: "", instance: None, generation: -1 };

/// The coordinator is not there, or not yet: ask again.
pub(crate) fn is_absent(error: i16) -> bool {
    [LOADING, NOT_AVAILABLE, NOT_COORDINATOR].contains(&error)
}

/// Sends a request and waits for its answer. `None`: the client gave up, or the connection is closed; it must connect again.
pub(crate) async fn ask<M: Message>(
    process: &Process,
    groups: &Groups,
    connection: &Connection,
    message: &M,
    version: i16,
) -> Option<Answer> {
    let gives_up = {
        let mut groups = groups.borrow_mut();
        let us = groups.random.below(60_000);
        (!groups.settling && groups.random.chance(1, 25)).then_some(Duration::from_micros(us))
    };
    let mut answer = pin!(connection.ask(message, version));
    let mut sleep = pin!(process.runtime.sleep(gives_up.unwrap_or(PATIENCE)));
    let answer = poll_fn(|context| match answer.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => sleep.as_mut().poll(context).map(|()| None),
    })
    .await;
    match answer {
        Some(Ok(answer)) => Some(answer),
        Some(Err(Closed)) => {
            assert!(groups.borrow().faulty, "a healthy broker closed the connection of a group's client");
            None
        }
        None => {
            assert!(gives_up.is_some(), "{:?} {version} was not answered within {PATIENCE:?}", M::KEY);
            None
        }
    }
}

/// Connects to the coordinator of a group, as FindCoordinator tells, or to any shard. `None`: there is none yet.
pub(crate) async fn connect(process: &Process, groups: &Groups, group: &str) -> Option<Connection> {
    let (asking, version, anywhere) = {
        let mut groups = groups.borrow_mut();
        let (single, random) = (groups.single, &mut groups.random);
        let version = i16::try_from(random.below(7)).unwrap();
        (process.connect_anywhere(random), version, single || random.chance(1, 4))
    };
    let mut request = FindCoordinatorRequest::default();
    match version {
        0..4 => request.key = Cow::Borrowed(group),
        _ => request.coordinator_keys = vec![Cow::Borrowed(group)],
    }
    let answer = ask(process, groups, &asking, &request, version).await?;
    let response = FindCoordinatorResponse::decode(&mut answer.reader(), version).unwrap();
    let (error, node) = match version {
        0..4 => (response.error_code, response.node_id),
        _ => (response.coordinators[0].error_code, response.coordinators[0].node_id),
    };
    match error {
        0 if anywhere => Some(process.connect_anywhere(&mut groups.borrow_mut().random)),
        0 => Some(process.connect(usize::try_from(node - 1).unwrap())),
        NOT_AVAILABLE => None,
        other => panic!("FindCoordinator of {group}: {other}"),
    }
}

/// Commits new offsets of some partitions, each a number of [`TOPICS`] and an index. `None`: connect again. Otherwise the
/// error of the first row that has one other than UNKNOWN_TOPIC_OR_PARTITION; that one when all rows have it, since their
/// topic is gone and the group was not asked.
pub(crate) async fn commit(
    process: &Process,
    groups: &Groups,
    connection: &Connection,
    group: &'static str,
    who: Credentials<'_>,
    rows: &[(usize, i32)],
) -> Option<i16> {
    let version_min = match (who.instance, who.generation) {
        _ if groups.borrow().is_consumer(group) => 9,
        (Some(_), _) => 7,
        _ => 2,
    };
    let version = i16::try_from(groups.borrow_mut().random.range(version_min..10)).unwrap();
    let mut writes = Vec::new();
    let mut request = OffsetCommitRequest {
        group_id: Cow::Borrowed(group),
        generation_id_or_member_epoch: who.generation,
        member_id: Cow::Borrowed(who.member),
        group_instance_id: who.instance.map(Cow::Borrowed),
        ..OffsetCommitRequest::default()
    };
    for (topic, partition) in rows {
        let number = groups.borrow_mut().begin(group, (*topic, *partition), true);
        writes.push(((*topic, *partition), number));
        let row = OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: i64::try_from(number).unwrap(),
            committed_leader_epoch: 7,
            committed_metadata: number.is_multiple_of(3).then(|| Cow::Owned(number.to_string())),
        };
        let partitions = vec![row];
        request.topics.push(OffsetCommitRequestTopic { name: Cow::Borrowed(TOPICS[*topic].name), partitions });
    }
    let answer = ask(process, groups, connection, &request, version).await?;
    let response = OffsetCommitResponse::decode(&mut answer.reader(), version).unwrap();
    let mut worst = UNKNOWN_TOPIC;
    assert_eq!(response.topics.len(), rows.len());
    for ((partition, number), topic) in writes.into_iter().zip(&response.topics) {
        assert_eq!((&*topic.name, topic.partitions[0].partition_index), (TOPICS[partition.0].name, partition.1));
        let error = topic.partitions[0].error_code;
        process.runtime.note("committed", [number, u64::from(error.unsigned_abs()), 0]);
        groups.borrow_mut().end(group, partition, number, error);
        if [0, UNKNOWN_TOPIC].contains(&worst) && error != UNKNOWN_TOPIC {
            worst = error;
        }
    }
    Some(worst)
}

/// Reads all offsets of a group and holds them against the model. `None`: connect again. Otherwise the group's error.
pub(crate) async fn fetch(
    process: &Process,
    groups: &Groups,
    connection: &Connection,
    group: &'static str,
    who: Option<Credentials<'_>>,
) -> Option<i16> {
    let version = match who {
        Some(_) => 9,
        None => i16::try_from(groups.borrow_mut().random.range(1..10)).unwrap(),
    };
    let all = version >= 2 && groups.borrow_mut().random.chance(1, 2);
    let indexes = |topic: usize| (0..TOPICS[topic].partitions).collect::<Vec<i32>>();
    let mut request = OffsetFetchRequest::default();
    if version >= 8 {
        let of = |topic: usize| OffsetFetchRequestTopics {
            name: Cow::Borrowed(TOPICS[topic].name),
            partition_indexes: indexes(topic),
        };
        request.topics = None;
        request.groups = vec![OffsetFetchRequestGroup {
            group_id: Cow::Borrowed(group),
            member_id: who.map(|who| Cow::Owned(who.member.to_owned())),
            member_epoch: who.map_or(-1, |who| who.generation),
            topics: (!all).then(|| (0..TOPICS.len()).map(of).collect()),
        }];
    } else {
        let of = |topic: usize| OffsetFetchRequestTopic {
            name: Cow::Borrowed(TOPICS[topic].name),
            partition_indexes: indexes(topic),
        };
        request.group_id = Cow::Borrowed(group);
        request.topics = (!all).then(|| (0..TOPICS.len()).map(of).collect());
    }
    let sent = groups.borrow_mut().moment();
    let answer = ask(process, groups, connection, &request, version).await?;
    let response = OffsetFetchResponse::decode(&mut answer.reader(), version).unwrap();
    // Name, partition, offset, metadata, error.
    let mut rows: Vec<(String, i32, i64, String, i16)> = Vec::new();
    let mut error = response.error_code;
    for topic in &response.topics {
        rows.extend(topic.partitions.iter().map(|row| {
            let metadata = row.metadata.as_deref().unwrap_or_default().to_owned();
            (topic.name.to_string(), row.partition_index, row.committed_offset, metadata, row.error_code)
        }));
    }
    for row in &response.groups {
        error = row.error_code;
        for topic in &row.topics {
            rows.extend(topic.partitions.iter().map(|row| {
                let metadata = row.metadata.as_deref().unwrap_or_default().to_owned();
                (topic.name.to_string(), row.partition_index, row.committed_offset, metadata, row.error_code)
            }));
        }
    }
    if error == 0 {
        error = rows.iter().map(|row| row.4).find(|error| *error != 0).unwrap_or(0);
    }
    if error != 0 {
        return Some(error);
    }
    let mut groups = groups.borrow_mut();
    for (name, _, offset, metadata, _) in &rows {
        let noted = *offset > 0 && offset % 3 == 0;
        let expected = if noted { offset.to_string() } else { String::new() };
        assert_eq!(*metadata, expected, "{group}: metadata of {name} at {offset}");
    }
    for (number, topic) in TOPICS.iter().enumerate() {
        for partition in 0..topic.partitions {
            let row = rows.iter().find(|(name, index, ..)| name == topic.name && *index == partition);
            let value = row.map(|row| row.2).filter(|offset| *offset != -1);
            groups.read(group, (number, partition), value, sent);
        }
    }
    Some(0)
}
