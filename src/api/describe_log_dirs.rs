//! DescribeLogDirs (35), versions 1 to 4: the directory of the node that is asked, and the bytes of its partitions.
//!
//! - A node has one directory, its shard's. In `single` one node speaks for all and tells the directories of all shards.
//! - Sizes are the bytes that live in the log, entry headers included, not those of files: all partitions share them.
//! - Version 3 adds an error for the whole answer, 4 the size of the volume: only the machine's first node tells it, or one
//!   disk would count once per core. The others say -1, unknown.
//! - A directory whose store has failed is KAFKA_STORAGE_ERROR.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::cluster::image::MetadataImage;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::LogDirectory;
use crate::types::TopicId;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = DescribeLogDirsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let image = broker.shard.image();
    let wanted = message.topics.as_ref().map(|topics| Arc::new(partitions(&image, topics)));
    let Ok(directories) = broker.log_directories(wanted).await else { return Reply::Close };
    let results = directories.iter().map(|directory| result(&image, directory));
    let response = DescribeLogDirsResponse { throttle_time_ms: 0, error_code: 0, results: results.collect() };
    Reply::Now(request.respond(&response))
}

/// The partitions that are asked for; what does not exist is passed over.
fn partitions(image: &MetadataImage, topics: &[DescribableLogDirTopic<'_>]) -> BTreeSet<(TopicId, i32)> {
    let known = topics.iter().filter_map(|topic| Some((image.topic(&topic.topic)?.id(), &topic.partitions)));
    known.flat_map(|(id, partitions)| partitions.iter().map(move |index| (id, *index))).collect()
}

fn result<'a>(image: &'a MetadataImage, directory: &'a LogDirectory) -> DescribeLogDirsResult<'a> {
    let log_dir = Cow::Borrowed(&*directory.path);
    if directory.failed {
        let error_code = ErrorCode::KafkaStorageError.code();
        return DescribeLogDirsResult { error_code, log_dir, ..DescribeLogDirsResult::default() };
    }
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for ((topic, partition_index), bytes) in &directory.partitions {
        // A topic may have gone since the shard was asked.
        let Some(topic) = image.topic_by_id(*topic) else { continue };
        topics.entry(topic.name()).or_default().push(DescribeLogDirsPartition {
            partition_index: *partition_index,
            partition_size: saturated(*bytes),
            offset_lag: 0,
            is_future_key: false,
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| DescribeLogDirsTopic { name: name.into(), partitions });
    DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir,
        topics: topics.collect(),
        total_bytes: directory.volume.map_or(-1, |volume| saturated(volume.total_bytes)),
        usable_bytes: directory.volume.map_or(-1, |volume| saturated(volume.usable_bytes)),
    }
}

fn saturated(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::records::TopicRecord;
    use crate::runtime::Volume;

    fn image() -> MetadataImage {
        let topic =
            |(id, name): (u8, &str)| TopicRecord { name: Arc::from(name), topic_id: TopicId::new([id; 16]) }.into();
        let records: Vec<_> = [(1, "b"), (2, "a")].into_iter().map(topic).collect();
        MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ").apply(&records).unwrap()
    }

    fn directory() -> LogDirectory {
        let id = |id| TopicId::new([id; 16]);
        let partitions = [((id(1), 0), 10), ((id(1), 1), u64::MAX), ((id(2), 0), 0), ((id(3), 0), 5)];
        let volume = Some(Volume { total_bytes: 100, usable_bytes: 40 });
        LogDirectory { path: "/d".to_owned(), failed: false, volume, partitions: partitions.into() }
    }

    #[test]
    fn partitions_stand_under_their_topics_and_what_is_gone_is_left_out() {
        let (image, directory) = (image(), directory());
        let result = result(&image, &directory);
        let rows: Vec<_> = result
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|it| (&*topic.name, it.partition_index, it.partition_size)))
            .collect();
        assert_eq!(rows, [("a", 0, 0), ("b", 0, 10), ("b", 1, i64::MAX)]);
        assert_eq!((&*result.log_dir, result.total_bytes, result.usable_bytes), ("/d", 100, 40));
    }

    #[test]
    fn a_failed_directory_and_an_unknown_volume_say_so() {
        let image = image();
        let failed = LogDirectory { failed: true, ..directory() };
        let failed = result(&image, &failed);
        assert_eq!((failed.error_code, failed.topics.len()), (ErrorCode::KafkaStorageError.code(), 0));
        let sibling = LogDirectory { volume: None, ..directory() };
        assert_eq!(result(&image, &sibling).total_bytes, -1);
    }

    #[test]
    fn partitions_of_unknown_topics_are_passed_over() {
        let topic = |name, partitions: &[i32]| DescribableLogDirTopic {
            topic: Cow::Borrowed(name),
            partitions: partitions.to_vec(),
        };
        let wanted = partitions(&image(), &[topic("a", &[0, 0, 7]), topic("gone", &[0])]);
        assert_eq!(wanted.into_iter().map(|(_, index)| index).collect::<Vec<_>>(), [0, 7]);
    }
}
