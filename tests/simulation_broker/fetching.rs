//! Fetch as a client speaks it, with or without a session, in every version.

use std::borrow::Cow;

use corelane::protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use corelane::protocol::wire::Records;
use corelane::types::TopicId;

use crate::connection::{Closed, Connection};

const TOPIC_IDS_SINCE: i16 = 13;

/// What a fetch wants of one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// The client's idea of the leader epoch, -1 for none.
    pub(crate) leader_epoch: i32,
    /// Epoch of the last record that the client has, -1 for none.
    pub(crate) last_epoch: i32,
}

/// One fetch of partitions of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Fetch<'a> {
    pub(crate) version: i16,
    pub(crate) name: &'a str,
    pub(crate) id: TopicId,
    pub(crate) max_wait_ms: i32,
    pub(crate) min_bytes: i32,
    pub(crate) max_bytes: i32,
    pub(crate) partition_max_bytes: i32,
    /// Session id and epoch.
    pub(crate) session: (i32, i32),
    pub(crate) partitions: Vec<Wanted>,
}

/// What a fetch got of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) partition: i32,
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
    /// Epoch and end offset where the client's log and the broker's part; -1 when they do not.
    pub(crate) diverging: (i32, i64),
    pub(crate) records: Vec<u8>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) error: i16,
    pub(crate) session_id: i32,
    pub(crate) partitions: Vec<Got>,
}

impl Fetch<'_> {
    pub(crate) async fn ask(&self, connection: &Connection) -> Result<Fetched, Closed> {
        let by_id = self.version >= TOPIC_IDS_SINCE;
        let partitions = self.partitions.iter().map(|wanted| FetchPartition {
            partition: wanted.partition,
            current_leader_epoch: wanted.leader_epoch,
            fetch_offset: wanted.offset,
            last_fetched_epoch: wanted.last_epoch,
            partition_max_bytes: self.partition_max_bytes,
            ..FetchPartition::default()
        });
        let topic = FetchTopic {
            topic: Cow::Borrowed(if by_id { "" } else { self.name }),
            topic_id: if by_id { self.id } else { TopicId::ZERO },
            partitions: partitions.collect(),
        };
        let request = FetchRequest {
            max_wait_ms: self.max_wait_ms,
            min_bytes: self.min_bytes,
            max_bytes: self.max_bytes,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics: if self.partitions.is_empty() { Vec::new() } else { vec![topic] },
            ..FetchRequest::default()
        };
        let answer = connection.ask(&request, self.version).await?;
        let response = FetchResponse::decode(&mut answer.reader(), self.version).unwrap();
        let mut partitions = Vec::new();
        for topic in &response.responses {
            if by_id {
                assert_eq!(topic.topic_id, self.id);
            } else {
                assert_eq!(topic.topic, self.name);
            }
            partitions.extend(topic.partitions.iter().map(|row| Got {
                partition: row.partition_index,
                error: row.error_code,
                high_watermark: row.high_watermark,
                log_start: row.log_start_offset,
                diverging: (row.diverging_epoch.epoch, row.diverging_epoch.end_offset),
                records: match row.records {
                    Records::Bytes(bytes) => bytes.to_vec(),
                    _ => Vec::new(),
                },
            }));
        }
        Ok(Fetched { error: response.error_code, session_id: response.session_id, partitions })
    }
}
