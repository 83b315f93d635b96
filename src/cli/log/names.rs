//! What topics are called, as the metadata log says, which is a partition of the first shard's store.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Shard;
use crate::cluster::records::Record;
use crate::cluster::topic_name::{CLUSTER_METADATA, CLUSTER_METADATA_ID};
use crate::protocol::record_batch::{RecordsIter, batches};
use crate::runtime::read_only::block_on;
use crate::types::TopicId;

/// The names of topics, by id.
#[derive(Debug, Default)]
pub(super) struct Names {
    names: BTreeMap<TopicId, Arc<str>>,
}

impl Names {
    /// Reads them. What is damaged of the metadata is passed over: a name that cannot be learnt is an id.
    pub(super) fn read<'a>(shards: impl Iterator<Item = &'a Shard>) -> Names {
        let mut names = BTreeMap::from([(CLUSTER_METADATA_ID, Arc::from(CLUSTER_METADATA))]);
        for shard in shards {
            let partitions = shard.inspection.partitions();
            let Some(metadata) = partitions.iter().find(|record| record.topic == CLUSTER_METADATA_ID) else { continue };
            block_on(shard.inspection.for_each_batch(metadata.log, |batch| {
                for batch in batches(batch.bytes()).flatten() {
                    let records = RecordsIter::new(batch.records(), batch.header.record_count).flatten();
                    for record in records.filter_map(|record| Record::decode(record.value?).ok()) {
                        if let Record::Topic(topic) = record {
                            names.insert(topic.topic_id, topic.name);
                        }
                    }
                }
            }));
        }
        Names { names }
    }

    /// The topic's name, or its id where that is not known.
    pub(super) fn name(&self, topic: TopicId) -> String {
        self.names.get(&topic).map_or_else(|| topic.to_string(), |name| name.to_string())
    }
}
