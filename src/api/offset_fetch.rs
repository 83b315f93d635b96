//! OffsetFetch (9), versions 1 to 9: how far groups have read.
//!
//! - One group in the message itself before version 8, many from then on. Coordinators know the newer form only.
//! - Null topics (2+) are all topics. The empty group id is allowed, as old clients use it.
//! - Version 1 has no place for an error of the group: every partition asked for has it instead.
//! - COORDINATOR_NOT_AVAILABLE becomes NOT_COORDINATOR, since consumers before 3.9 do not know the former here, as in Kafka.
//! - Where the store has failed it is answered from memory while the coordinator has nothing to write; what it then cannot
//!   write ends it, and the answer is NOT_COORDINATOR until a restart, as Kafka's is for a failed disk.

use std::borrow::Cow;
use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::GroupReply;

/// Version from which many groups are asked for at once.
const GROUPS_SINCE: i16 = 8;
/// Version from which a group can have an error of its own.
const GROUP_ERROR_SINCE: i16 = 2;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = OffsetFetchRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let require_stable = message.require_stable;
    let wanted = wanted(message, request.version);
    let part = |places: &[usize]| OffsetFetchRequest {
        groups: places.iter().map(|place| wanted[*place].clone()).collect(),
        require_stable,
        ..OffsetFetchRequest::default()
    };
    let names = wanted.iter().map(|group| &*group.group_id);
    let parts = groups::split(broker, &request, request.version.max(GROUPS_SINCE), names, part).await;
    let Some(parts) = parts else { return Reply::Close };
    groups::gather::<R>(request.clone(), parts, merge)
}

/// The groups of a request of any version.
fn wanted(request: OffsetFetchRequest<'_>, version: i16) -> Vec<OffsetFetchRequestGroup<'_>> {
    if version >= GROUPS_SINCE {
        return request.groups;
    }
    let topics = request.topics.map(|topics| {
        let topics = topics
            .into_iter()
            .map(|topic| OffsetFetchRequestTopics { name: topic.name, partition_indexes: topic.partition_indexes });
        topics.collect()
    });
    vec![OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() }]
}

fn merge<B>(request: &Request, replies: Vec<(Vec<usize>, GroupReply)>) -> Response<B> {
    let version = request.version;
    let message = OffsetFetchRequest::decode(&mut Reader::new(&request.body), version)
        .expect("it was decoded before it was split");
    let wanted = wanted(message, version);
    let decode = |body| {
        let part = OffsetFetchResponse::decode(&mut Reader::new(body), version.max(GROUPS_SINCE));
        part.expect("the coordinator encoded it").groups
    };
    let failed = |place: usize, error| failed(&wanted[place], error);
    let rows = groups::rows(wanted.len(), &replies, decode, failed);
    request.respond(&respond(rows, &wanted, version))
}

fn failed<'a>(group: &OffsetFetchRequestGroup<'a>, error: ErrorCode) -> OffsetFetchResponseGroup<'a> {
    let error = match error {
        ErrorCode::CoordinatorNotAvailable => ErrorCode::NotCoordinator,
        other => other,
    };
    OffsetFetchResponseGroup {
        group_id: group.group_id.clone(),
        error_code: error.code(),
        ..OffsetFetchResponseGroup::default()
    }
}

/// The answer as the version has it.
fn respond<'a>(
    mut rows: Vec<OffsetFetchResponseGroup<'a>>,
    wanted: &[OffsetFetchRequestGroup<'a>],
    version: i16,
) -> OffsetFetchResponse<'a> {
    if version >= GROUPS_SINCE {
        return OffsetFetchResponse { groups: rows, ..OffsetFetchResponse::default() };
    }
    let row = rows.pop().expect("an older request names one group");
    let mut topics = row.topics;
    if version < GROUP_ERROR_SINCE && row.error_code != ErrorCode::None.code() {
        topics = wanted
            .iter()
            .flat_map(|group| group.topics.iter().flatten())
            .map(|it| no_topic(it, row.error_code))
            .collect();
    }
    OffsetFetchResponse {
        topics: topics.into_iter().map(old_topic).collect(),
        error_code: row.error_code,
        ..OffsetFetchResponse::default()
    }
}

fn no_topic<'a>(topic: &OffsetFetchRequestTopics<'a>, error_code: i16) -> OffsetFetchResponseTopics<'a> {
    let partitions = topic.partition_indexes.iter().map(|index| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Cow::Borrowed("")),
        error_code,
    });
    OffsetFetchResponseTopics { name: topic.name.clone(), partitions: partitions.collect() }
}

fn old_topic(topic: OffsetFetchResponseTopics<'_>) -> OffsetFetchResponseTopic<'_> {
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::offset_fetch::OffsetFetchRequestTopic;

    fn old_request() -> OffsetFetchRequest<'static> {
        let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0, 3] };
        OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..OffsetFetchRequest::default() }
    }

    #[test]
    fn older_versions_become_one_group_and_back() {
        let groups = wanted(old_request(), 7);
        assert_eq!((&*groups[0].group_id, groups[0].topics.as_ref().unwrap().len()), ("g", 1));
        let all = OffsetFetchRequest { topics: None, ..old_request() };
        assert_eq!(wanted(all, 7)[0].topics, None);
        let row = OffsetFetchResponseGroup {
            group_id: "g".into(),
            topics: vec![no_topic(&groups[0].topics.as_ref().unwrap()[0], 0)],
            error_code: 0,
        };
        let response = respond(vec![row], &groups, 7);
        assert_eq!((response.error_code, response.topics[0].partitions[1].partition_index), (0, 3));
        assert!(response.groups.is_empty());
    }

    #[test]
    fn version_1_tells_an_error_of_the_group_with_every_partition() {
        let groups = wanted(old_request(), 1);
        let old = respond(vec![failed(&groups[0], ErrorCode::CoordinatorLoadInProgress)], &groups, 1);
        let rows: Vec<_> = old.topics[0]
            .partitions
            .iter()
            .map(|it| (it.partition_index, it.committed_offset, it.error_code))
            .collect();
        assert_eq!(rows, [(0, -1, 14), (3, -1, 14)]);
        let newer = respond(vec![failed(&groups[0], ErrorCode::CoordinatorLoadInProgress)], &groups, 2);
        assert_eq!((newer.error_code, newer.topics.len()), (14, 0));
    }

    #[test]
    fn an_unavailable_coordinator_is_told_as_one_that_is_none() {
        let groups = wanted(old_request(), 7);
        assert_eq!(failed(&groups[0], ErrorCode::CoordinatorNotAvailable).error_code, 16);
    }
}
