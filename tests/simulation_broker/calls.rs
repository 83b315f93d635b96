//! What every client asks in the same way.

use std::borrow::Cow;

use corelane::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use corelane::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use corelane::protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use corelane::protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use corelane::types::TopicId;

use crate::connection::{Closed, Connection};

pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;

/// A topic as Metadata tells it.
#[derive(Clone, Debug)]
pub(crate) struct TopicRow {
    pub(crate) error: i16,
    pub(crate) name: String,
    pub(crate) id: TopicId,
    /// Leader and leader epoch, by partition.
    pub(crate) partitions: Vec<(i32, i32)>,
}

/// Metadata of all topics (`None`), or of some by name.
pub(crate) async fn metadata(
    connection: &Connection,
    names: Option<&[&str]>,
    auto_create: bool,
    version: i16,
) -> Result<Vec<TopicRow>, Closed> {
    let topics = names.map(|names| {
        let row = |name: &&str| MetadataRequestTopic {
            name: Some(Cow::Owned((*name).to_owned())),
            ..MetadataRequestTopic::default()
        };
        names.iter().map(row).collect()
    });
    let request = MetadataRequest { topics, allow_auto_topic_creation: auto_create, ..MetadataRequest::default() };
    let answer = connection.ask(&request, version).await?;
    let response = MetadataResponse::decode(&mut answer.reader(), version).unwrap();
    let rows = response.topics.iter().map(|topic| {
        let mut partitions: Vec<_> =
            topic.partitions.iter().map(|it| (it.partition_index, it.leader_id, it.leader_epoch)).collect();
        partitions.sort_unstable();
        assert!((0..).zip(&partitions).all(|(index, (partition, _, _))| index == *partition), "{partitions:?}");
        TopicRow {
            error: topic.error_code,
            name: topic.name.as_deref().unwrap_or_default().to_owned(),
            id: topic.topic_id,
            partitions: partitions.into_iter().map(|(_, leader, epoch)| (leader, epoch)).collect(),
        }
    });
    Ok(rows.collect())
}

/// ListOffsets for one partition.
pub(crate) async fn list_offset(
    connection: &Connection,
    topic: &str,
    partition: i32,
    timestamp: i64,
) -> Result<ListOffsetsPartitionResponse, Closed> {
    let version = 10;
    let partitions =
        vec![ListOffsetsPartition { partition_index: partition, timestamp, ..ListOffsetsPartition::default() }];
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: Cow::Borrowed(topic), partitions }],
        ..ListOffsetsRequest::default()
    };
    let answer = connection.ask(&request, version).await?;
    let response = ListOffsetsResponse::decode(&mut answer.reader(), version).unwrap();
    let [topic] = &response.topics[..] else { panic!("one topic was asked for") };
    let [partition] = &topic.partitions[..] else { panic!("one partition was asked for") };
    Ok(partition.clone())
}

/// OffsetForLeaderEpoch for one partition: error, epoch, end offset.
pub(crate) async fn epoch_end(
    connection: &Connection,
    topic: &str,
    partition: i32,
    epoch: i32,
) -> Result<(i16, i32, i64), Closed> {
    let version = 4;
    let partitions =
        vec![OffsetForLeaderPartition { partition, leader_epoch: epoch, ..OffsetForLeaderPartition::default() }];
    let request = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic { topic: Cow::Borrowed(topic), partitions }],
        ..OffsetForLeaderEpochRequest::default()
    };
    let answer = connection.ask(&request, version).await?;
    let response = OffsetForLeaderEpochResponse::decode(&mut answer.reader(), version).unwrap();
    let row = &response.topics[0].partitions[0];
    Ok((row.error_code, row.leader_epoch, row.end_offset))
}

/// InitProducerId without a transactional id: error and id.
pub(crate) async fn init_producer_id(connection: &Connection, version: i16) -> Result<(i16, i64), Closed> {
    let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
    let answer = connection.ask(&request, version).await?;
    let response = InitProducerIdResponse::decode(&mut answer.reader(), version).unwrap();
    Ok((response.error_code, response.producer_id))
}
