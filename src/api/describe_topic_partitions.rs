//! DescribeTopicPartitions (75), version 0: topics page by page, in order of their names.
//!
//! - No names are all topics. A page ends at the client's limit of partitions, or at Kafka's own
//!   (`max.request.partition.size.limit`), at least one; `next_cursor` says where the next begins.
//! - The topic of a cursor must be among those asked for, unless all are: INVALID_REQUEST for every topic.
//! - Nobody is asked for by name twice: a name that stands twice is answered once.
//! - Eligible leader replicas are none: a partition has one replica.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;

use super::reply::Reply;
use super::{Request, operations};
use crate::broker::Broker;
use crate::cluster::image::Topic;
use crate::cluster::topic_name;
use crate::cluster::view::ClientView;
use crate::limits::DESCRIBED_PARTITIONS_MAX;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::types::{NodeId, PartitionIndex, TopicId};

/// Handles one request.
pub(super) fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: &Request) -> Reply<R::Buffer> {
    let Ok(message) = DescribeTopicPartitionsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let image = broker.shard.image();
    Reply::Now(request.respond(&respond(broker.view(&image), &message)))
}

/// Answers the request.
fn respond<'a>(
    view: ClientView<'a>,
    request: &'a DescribeTopicPartitionsRequest<'a>,
) -> DescribeTopicPartitionsResponse<'a> {
    let cursor = request.cursor.as_ref();
    let first = cursor.map_or("", |cursor| &*cursor.topic_name);
    let all = request.topics.is_empty();
    let names: BTreeSet<&str> = match all {
        true => view.image.topics().map(|topic| &**topic.name()).filter(|name| *name >= first).collect(),
        false => request.topics.iter().map(|topic| &*topic.name).filter(|name| *name >= first).collect(),
    };
    let strays = cursor.is_some_and(|cursor| cursor.partition_index < 0 || (!all && !names.contains(first)));
    if strays {
        return invalid(request);
    }
    let limit = usize::try_from(request.response_partition_limit.max(1)).unwrap_or(DESCRIBED_PARTITIONS_MAX);
    let mut page = Page { view, left: limit.min(DESCRIBED_PARTITIONS_MAX), topics: Vec::new(), next_cursor: None };
    for name in names {
        let start = cursor.filter(|cursor| cursor.topic_name == name).map_or(0, |cursor| cursor.partition_index);
        page.add(name, start);
        if page.next_cursor.is_some() {
            break;
        }
    }
    DescribeTopicPartitionsResponse { throttle_time_ms: 0, topics: page.topics, next_cursor: page.next_cursor }
}

/// What every topic of a request gets whose cursor leads nowhere.
fn invalid<'a>(request: &'a DescribeTopicPartitionsRequest<'a>) -> DescribeTopicPartitionsResponse<'a> {
    let topics = request.topics.iter().map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(Cow::Borrowed(&*topic.name)),
        ..DescribeTopicPartitionsResponseTopic::default()
    });
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..DescribeTopicPartitionsResponse::default() }
}

/// One page as it fills.
struct Page<'a> {
    view: ClientView<'a>,
    /// Partitions that still fit.
    left: usize,
    topics: Vec<DescribeTopicPartitionsResponseTopic<'a>>,
    next_cursor: Option<Cursor<'a>>,
}

impl<'a> Page<'a> {
    /// Adds a topic from partition `start` on, as much of it as fits.
    fn add(&mut self, name: &'a str, start: i32) {
        if self.left == 0 {
            self.next_cursor = Some(Cursor { topic_name: Cow::Borrowed(name), partition_index: 0 });
            return;
        }
        let Some(topic) = self.view.image.topic(name) else {
            let valid = topic_name::validate(name).is_ok();
            let error = if valid { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
            self.row(error, name, TopicId::ZERO, Vec::new());
            return;
        };
        let count = i32::try_from(topic.partition_count()).expect("bounded by PARTITIONS_MAX");
        let end =
            start.saturating_add(i32::try_from(self.left).expect("bounded by DESCRIBED_PARTITIONS_MAX")).min(count);
        let partitions: Vec<_> = (start..end).filter_map(|index| self.partition(topic, index)).collect();
        self.left -= partitions.len();
        self.row(ErrorCode::None, name, topic.id(), partitions);
        if end < count {
            self.next_cursor = Some(Cursor { topic_name: Cow::Borrowed(name), partition_index: end });
        }
    }

    fn row(
        &mut self,
        error: ErrorCode,
        name: &'a str,
        topic_id: TopicId,
        partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    ) {
        self.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: error.code(),
            name: Some(Cow::Borrowed(name)),
            topic_id,
            is_internal: topic_name::is_internal(name),
            partitions,
            topic_authorized_operations: operations::TOPIC,
        });
    }

    fn partition(&self, topic: &Topic, index: i32) -> Option<DescribeTopicPartitionsResponsePartition> {
        let partition = topic.partition(PartitionIndex::new(index))?;
        let replica_nodes = self.view.node_ids(&partition.replicas);
        let down = |node: &i32| !self.view.is_online(NodeId::new(*node));
        Some(DescribeTopicPartitionsResponsePartition {
            error_code: ErrorCode::None.code(),
            partition_index: index,
            leader_id: self.view.leader(partition).map_or(-1, |(broker, _)| broker.node().value()),
            leader_epoch: partition.leader_epoch.value(),
            isr_nodes: self.view.node_ids(&partition.isr),
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: replica_nodes.iter().copied().filter(down).collect(),
            replica_nodes,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::image::MetadataImage;
    use crate::cluster::records::{PartitionRecord, Record, TopicRecord};
    use crate::cluster::view::Advertise;
    use crate::protocol::messages::describe_topic_partitions::TopicRequest;

    /// `a` and `b` with three partitions each.
    fn image() -> MetadataImage {
        let topic = |(id, name): (u8, &str)| {
            let topic_id = TopicId::new([id; 16]);
            let partition = |partition_id| -> Record {
                let (replicas, isr) = (vec![1], vec![1]);
                PartitionRecord { partition_id, topic_id, replicas, isr, leader: 1, ..PartitionRecord::default() }
                    .into()
            };
            let topic: Record = TopicRecord { name: Arc::from(name), topic_id }.into();
            std::iter::once(topic).chain((0..3).map(partition)).collect::<Vec<_>>()
        };
        let records: Vec<Record> = [(1, "a"), (2, "b")].into_iter().flat_map(topic).collect();
        MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ").apply(&records).unwrap()
    }

    /// Each topic as `name error partitions`, and the cursor.
    fn ask(names: &[&'static str], cursor: Option<(&'static str, i32)>, limit: i32) -> (Vec<String>, Option<String>) {
        let image = image();
        let request = DescribeTopicPartitionsRequest {
            topics: names.iter().map(|name| TopicRequest { name: Cow::Borrowed(*name) }).collect(),
            response_partition_limit: limit,
            cursor: cursor.map(|(name, partition_index)| Cursor { topic_name: Cow::Borrowed(name), partition_index }),
        };
        let view = ClientView { image: &image, advertise: Advertise::PerCore };
        let response = respond(view, &request);
        let row = |topic: &DescribeTopicPartitionsResponseTopic<'_>| {
            let indexes: Vec<i32> = topic.partitions.iter().map(|it| it.partition_index).collect();
            format!("{} {} {indexes:?}", topic.name.as_deref().unwrap_or_default(), topic.error_code)
        };
        let next = response.next_cursor.as_ref().map(|next| format!("{} {}", next.topic_name, next.partition_index));
        (response.topics.iter().map(row).collect(), next)
    }

    fn page(rows: &[&str], next: Option<&str>) -> (Vec<String>, Option<String>) {
        (rows.iter().map(|row| (*row).to_owned()).collect(), next.map(str::to_owned))
    }

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        assert_eq!(ask(&[], None, 2), page(&["a 0 [0, 1]"], Some("a 2")));
        assert_eq!(ask(&[], Some(("a", 2)), 2), page(&["a 0 [2]", "b 0 [0]"], Some("b 1")));
        assert_eq!(ask(&[], Some(("b", 1)), 2), page(&["b 0 [1, 2]"], None));
        assert_eq!(ask(&[], None, 3), page(&["a 0 [0, 1, 2]"], Some("b 0")));
        assert_eq!(ask(&[], None, 0), page(&["a 0 [0]"], Some("a 1")), "at least one partition");
        assert_eq!(ask(&[], Some(("aa", 0)), 9), page(&["b 0 [0, 1, 2]"], None), "the cursor's topic is gone");
        assert_eq!(ask(&[], Some(("a", i32::MAX)), 9), page(&["a 0 []", "b 0 [0, 1, 2]"], None));
    }

    #[test]
    fn topics_by_name_come_sorted_and_once() {
        let rows = ["a 0 [0, 1, 2]", "a/b 17 []", "b 0 [0, 1, 2]", "c 3 []"];
        assert_eq!(ask(&["c", "b", "a", "b", "a/b"], None, 2000), page(&rows, None));
    }

    #[test]
    fn a_cursor_that_leads_nowhere_is_invalid() {
        assert_eq!(ask(&["a"], Some(("z", 0)), 9), page(&["a 42 []"], None));
        assert_eq!(ask(&["a"], Some(("a", -1)), 9), page(&["a 42 []"], None));
    }
}
