//! What a group's coordinator knows and does, asked in both protocols.
//!
//! Every question finds the coordinator anew and waits for it as long as patience lasts: a group moves when its
//! coordinator restarts, and before the first group of a cluster there is none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::cli::client::{Answer, Client, ClientError, Retry, check, error_of};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_describe::{
    self, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use crate::protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use crate::protocol::messages::describe_groups::{self, DescribeGroupsRequest, DescribeGroupsResponse};
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseTopic,
};
use crate::protocol::wire::{DecodeError, Message, Reader};

/// A topic and one of its partitions.
pub(super) type TopicPartition = (String, i32);

/// How the members of a group come to their partitions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    /// JoinGroup and SyncGroup: the members assign.
    Classic,
    /// KIP-848: the coordinator assigns.
    Consumer,
}

impl Protocol {
    /// Kafka's word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Protocol::Classic => "classic",
            Protocol::Consumer => "consumer",
        }
    }
}

/// A group as its coordinator describes it.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    /// Kafka's word, for example `Stable`.
    pub(super) state: String,
    /// Empty while there is none.
    pub(super) assignor: String,
    /// Only groups of the consumer protocol tell theirs.
    pub(super) epoch: Option<i32>,
    /// Node id.
    pub(super) coordinator: i32,
    pub(super) members: Vec<Member>,
}

/// One member of a group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: String,
    /// Of a static member.
    pub(super) instance: Option<String>,
    pub(super) client: String,
    pub(super) host: String,
    pub(super) partitions: Vec<TopicPartition>,
}

/// What a group committed in one partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Commit {
    pub(super) offset: i64,
    /// -1 if the member did not say.
    pub(super) leader_epoch: i32,
    pub(super) metadata: String,
}

/// A group as the list has it.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    /// `consumer`, `connect` and the like; empty if the group has only commits.
    pub(super) protocol_type: String,
    /// Empty from brokers that do not say.
    pub(super) state: String,
    /// `classic` or `consumer` in lower case; empty from brokers that do not say.
    pub(super) kind: String,
}

/// All groups of all nodes, by name.
pub(super) fn list(client: &mut Client) -> Result<Vec<Listed>, ClientError> {
    Retry::new().run(|| {
        client.metadata(Some(&[]), false)?;
        let mut groups = BTreeMap::new();
        for node in client.node_ids() {
            let answer = client.call_node(node, &ListGroupsRequest::default())?;
            let response: ListGroupsResponse<'_> = answer.decode()?;
            check("the list of groups", response.error_code, None)?;
            for group in &response.groups {
                let listed = Listed {
                    name: group.group_id.clone().into_owned(),
                    protocol_type: group.protocol_type.clone().into_owned(),
                    state: group.group_state.clone().into_owned(),
                    kind: group.group_type.to_lowercase(),
                };
                groups.insert(listed.name.clone(), listed);
            }
        }
        Ok(groups.into_values().collect())
    })
}

/// Describes a group. `None` if there is none of this name: Kafka then knows no commits of it either.
pub(super) fn describe(client: &mut Client, name: &str) -> Result<Option<Group>, ClientError> {
    Retry::new().run(|| {
        let node = client.coordinator(name)?;
        match describe_consumer(client, node, name) {
            Ok(Some(group)) => Ok(Some(group)),
            // A broker from before KIP-848 has classic groups only.
            Ok(None) | Err(ClientError::Unsupported { .. }) => describe_classic(client, node, name),
            Err(error) => Err(error),
        }
    })
}

fn describe_consumer(client: &mut Client, node: i32, name: &str) -> Result<Option<Group>, ClientError> {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![name.into()], include_authorized_operations: false };
    let answer = client.call_node(node, &request)?;
    let response: ConsumerGroupDescribeResponse<'_> = answer.decode()?;
    let group = response.groups.into_iter().next().unwrap_or_default();
    if error_of(group.error_code) == ErrorCode::GroupIdNotFound {
        return Ok(None);
    }
    check(&format!("group {name}"), group.error_code, group.error_message.as_deref())?;
    let member = |member: consumer_group_describe::Member<'_>| Member {
        id: member.member_id.into_owned(),
        instance: member.instance_id.map(Cow::into_owned),
        client: member.client_id.into_owned(),
        host: host_of(&member.client_host),
        partitions: partitions_of(
            member.assignment.topic_partitions.into_iter().map(|topic| (topic.topic_name, topic.partitions)),
        ),
    };
    Ok(Some(Group {
        name: name.to_owned(),
        protocol: Protocol::Consumer,
        state: group.group_state.into_owned(),
        assignor: group.assignor_name.into_owned(),
        epoch: Some(group.group_epoch),
        coordinator: node,
        members: group.members.into_iter().map(member).collect(),
    }))
}

fn describe_classic(client: &mut Client, node: i32, name: &str) -> Result<Option<Group>, ClientError> {
    let request = DescribeGroupsRequest { groups: vec![name.into()], include_authorized_operations: false };
    let answer = client.call_node(node, &request)?;
    let response: DescribeGroupsResponse<'_> = answer.decode()?;
    let group = response.groups.into_iter().next().unwrap_or_default();
    // Before version 6 a group that is not there is told as a dead one.
    if error_of(group.error_code) == ErrorCode::GroupIdNotFound
        || (group.error_code == 0 && group.group_state == "Dead")
    {
        return Ok(None);
    }
    check(&format!("group {name}"), group.error_code, group.error_message.as_deref())?;
    // Others, for example the workers of Kafka Connect, assign something else.
    let of_consumers = group.protocol_type == "consumer";
    let member = |member: describe_groups::DescribedGroupMember<'_>| Member {
        id: member.member_id.into_owned(),
        instance: member.group_instance_id.map(Cow::into_owned),
        client: member.client_id.into_owned(),
        host: host_of(&member.client_host),
        partitions: if of_consumers {
            // What a client of its own making put there is no reason to tell nothing of the group.
            assignment_of(&member.member_assignment).unwrap_or_default()
        } else {
            Vec::new()
        },
    };
    Ok(Some(Group {
        name: name.to_owned(),
        protocol: Protocol::Classic,
        state: group.group_state.into_owned(),
        assignor: group.protocol_data.into_owned(),
        epoch: None,
        coordinator: node,
        members: group.members.into_iter().map(member).collect(),
    }))
}

/// Everything that a group committed.
pub(super) fn commits(client: &mut Client, name: &str) -> Result<BTreeMap<TopicPartition, Commit>, ClientError> {
    let request = OffsetFetchRequest {
        group_id: name.into(),
        topics: None,
        groups: vec![OffsetFetchRequestGroup { group_id: name.into(), topics: None, ..Default::default() }],
        require_stable: false,
    };
    Retry::new().run(|| {
        let answer = ask(client, name, &request)?;
        let response: OffsetFetchResponse<'_> = answer.decode()?;
        let mut commits = BTreeMap::new();
        // Up to version 7 there is one group and no list.
        check(&format!("commits of group {name}"), response.error_code, None)?;
        for topic in &response.topics {
            let OffsetFetchResponseTopic { name: topic, partitions, .. } = topic;
            for p in partitions {
                let epoch = p.committed_leader_epoch;
                insert_commit(
                    &mut commits,
                    topic,
                    p.partition_index,
                    p.error_code,
                    p.committed_offset,
                    epoch,
                    &p.metadata,
                )?;
            }
        }
        for group in &response.groups {
            check(&format!("commits of group {name}"), group.error_code, None)?;
            for topic in &group.topics {
                for p in &topic.partitions {
                    let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                    insert_commit(
                        &mut commits,
                        &topic.name,
                        p.partition_index,
                        p.error_code,
                        offset,
                        epoch,
                        &p.metadata,
                    )?;
                }
            }
        }
        Ok(commits)
    })
}

fn insert_commit(
    commits: &mut BTreeMap<TopicPartition, Commit>,
    topic: &str,
    partition: i32,
    error_code: i16,
    offset: i64,
    leader_epoch: i32,
    metadata: &Option<Cow<'_, str>>,
) -> Result<(), ClientError> {
    check(&format!("{topic}-{partition}"), error_code, None)?;
    // Below zero stands for none.
    if offset >= 0 {
        let metadata = metadata.as_deref().unwrap_or_default().to_owned();
        commits.insert((topic.to_owned(), partition), Commit { offset, leader_epoch, metadata });
    }
    Ok(())
}

/// Commits offsets for a group without members, all of them or, with an error, perhaps some.
pub(super) fn commit(
    client: &mut Client,
    name: &str,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<(), ClientError> {
    let mut topics: Vec<OffsetCommitRequestTopic<'_>> = Vec::new();
    for ((topic, partition), &committed_offset) in offsets {
        let row = OffsetCommitRequestPartition { partition_index: *partition, committed_offset, ..Default::default() };
        match topics.last_mut() {
            Some(last) if last.name == topic.as_str() => last.partitions.push(row),
            _ => topics.push(OffsetCommitRequestTopic { name: topic.as_str().into(), partitions: vec![row] }),
        }
    }
    let request = OffsetCommitRequest { group_id: name.into(), topics, ..Default::default() };
    Retry::new().run(|| {
        let answer = ask(client, name, &request)?;
        let response: OffsetCommitResponse<'_> = answer.decode()?;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let subject = format!("{}-{}", topic.name, partition.partition_index);
                let hint = (error_of(partition.error_code) == ErrorCode::UnknownMemberId)
                    .then_some("the group has members again; stop them first");
                check(&subject, partition.error_code, hint)?;
            }
        }
        Ok(())
    })
}

/// Deletes a group with all its commits.
pub(super) fn delete(client: &mut Client, name: &str) -> Result<(), ClientError> {
    let request = DeleteGroupsRequest { groups_names: vec![name.into()] };
    Retry::new().run(|| {
        let answer = ask(client, name, &request)?;
        let response: DeleteGroupsResponse<'_> = answer.decode()?;
        let result = response.results.first().cloned().unwrap_or_default();
        let hint = (error_of(result.error_code) == ErrorCode::NonEmptyGroup)
            .then_some("the group has members; stop them first");
        check(&format!("group {name}"), result.error_code, hint)
    })
}

/// Finds a group's coordinator and asks it.
fn ask<Q: Message>(client: &mut Client, name: &str, request: &Q) -> Result<Answer, ClientError> {
    let node = client.coordinator(name)?;
    client.call_node(node, request)
}

/// Java prints an address after the name that it did not look up.
fn host_of(text: &str) -> String {
    text.trim_start_matches('/').to_owned()
}

fn partitions_of<'a>(topics: impl Iterator<Item = (Cow<'a, str>, Vec<i32>)>) -> Vec<TopicPartition> {
    let mut all: Vec<TopicPartition> = topics
        .flat_map(|(topic, partitions)| partitions.into_iter().map(move |partition| (topic.to_string(), partition)))
        .collect();
    all.sort();
    all
}

/// The partitions in a member's assignment, as consumers write it: Kafka's ConsumerProtocolAssignment, of which every
/// version begins alike.
fn assignment_of(bytes: &[u8]) -> Result<Vec<TopicPartition>, DecodeError> {
    if bytes.is_empty() {
        // Not assigned yet.
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    let _version = reader.i16()?;
    let mut topics = Vec::new();
    for _ in 0..reader.array_length(false)?.unwrap_or(0) {
        let topic = reader.nullable_string(false)?.unwrap_or_default();
        let mut partitions = Vec::new();
        for _ in 0..reader.array_length(false)?.unwrap_or(0) {
            partitions.push(reader.i32()?);
        }
        topics.push((topic, partitions));
    }
    Ok(partitions_of(topics.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_as_consumers_write_it() {
        let bytes = b"\0\x03\0\0\0\x02\0\x01b\0\0\0\x01\0\0\0\x07\0\x01a\0\0\0\x02\0\0\0\x02\0\0\0\x01\xff\xff\xff\xff";
        let expected = [("a", 1), ("a", 2), ("b", 7)].map(|(topic, partition)| (topic.to_owned(), partition));
        assert_eq!(assignment_of(bytes).unwrap(), expected);
        assert_eq!(assignment_of(b"").unwrap(), []);
    }

    #[test]
    fn an_assignment_that_lies_about_its_length_is_refused() {
        assert!(assignment_of(b"\0\x03\x7f\xff\xff\xff").is_err());
        assert!(assignment_of(b"\0").is_err());
        assert!(assignment_of(b"\0\x03\0\0\0\x01\0\x01b\0\0\0\x09\0\0\0\x07").is_err());
    }

    #[test]
    fn hosts_lose_the_slash_of_java() {
        assert_eq!(host_of("/127.0.0.1"), "127.0.0.1");
        assert_eq!(host_of("10.0.0.1"), "10.0.0.1");
    }
}
