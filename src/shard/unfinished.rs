//! What of the metadata a shard could not take in for want of space, until it can.
//!
//! A topic is created or deleted by the metadata; the log of each of its partitions follows, here. When the store has no room
//! for the entry that says so, the topic is noted and tried again: its partitions are served, or their space is freed, as
//! soon as there is room, also when no further image comes.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Shard;
use crate::limits::IMAGE_RETRY_MS;
use crate::runtime::Runtime;
use crate::types::{MonotonicUs, TopicId};

/// Topics that are to be tried again.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// Some of their partitions have no log yet.
    created: BTreeSet<TopicId>,
    /// Some of their partitions still have one.
    removed: BTreeSet<TopicId>,
    next_try: MonotonicUs,
}

impl Unfinished {
    /// A partition of a topic has no log yet.
    pub(super) fn add_created(&mut self, topic: TopicId) {
        if !cfg!(corelane_defect = "image_half_taken") {
            self.created.insert(topic);
        }
    }

    /// A partition of a removed topic still has its log.
    pub(super) fn add_removed(&mut self, topic: TopicId) {
        self.created.remove(&topic);
        if !cfg!(corelane_defect = "image_half_taken") {
            self.removed.insert(topic);
        }
    }

    fn is_due(&self, now: MonotonicUs) -> bool {
        now >= self.next_try && !(self.created.is_empty() && self.removed.is_empty())
    }
}

impl<R: Runtime> Shard<R> {
    /// Tries again what no room was found for, when that is due.
    pub(super) fn finish_image_on_tick(self: &Rc<Self>, now: MonotonicUs) {
        if !self.unfinished.borrow().is_due(now) || self.store.failure().is_some() || self.stopping.get() {
            return;
        }
        let (created, removed) = {
            let mut unfinished = self.unfinished.borrow_mut();
            unfinished.next_try = now.plus_ms(IMAGE_RETRY_MS);
            (std::mem::take(&mut unfinished.created), std::mem::take(&mut unfinished.removed))
        };
        // What there is still no room for notes itself again.
        let image = self.image();
        let mut is_served = false;
        for topic in created.iter().filter_map(|topic| image.topic_by_id(*topic)) {
            is_served |= self.serve_topic(&image, topic).is_ok();
        }
        let _ = self.delete_topics(&removed);
        if is_served {
            // A partition of `__consumer_offsets` may have its coordinator now.
            self.coordinate(&image, std::iter::empty());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::broker::controller::{self, NodeStart};
    use crate::cluster::image::MetadataImage;
    use crate::cluster::records::RemoveTopicRecord;
    use crate::config::BrokerConfig;
    use crate::metrics::ShardMetrics;
    use crate::protocol::compression::Codec;
    use crate::protocol::record_batch::BatchBuilder;
    use crate::shard::message::Published;
    use crate::shard::recovery::Recovered;
    use crate::simulation::{SimulatedRuntime, Simulation};
    use crate::store::{Purpose, StorageError, Store, StoreOptions};
    use crate::types::{NodeId, ShardId};

    /// A shard of small segments over the machine's disk.
    pub(in crate::shard) async fn start(runtime: &SimulatedRuntime) -> Rc<Shard<SimulatedRuntime>> {
        let id = ShardId::new(0);
        let options = StoreOptions {
            segment_bytes: 64 * 1024,
            block_bytes: 16 * 1024,
            checkpoint_interval_ms: 1000,
            ..StoreOptions::new(id, PathBuf::from("/data/shard-0"), 1 << 20, 1 << 30)
        };
        let mut recovered = Recovered::default();
        let store = Store::open(runtime.clone(), options, &mut recovered).await.unwrap();
        let empty = Arc::new(MetadataImage::empty("c2ltdWxhdGVkLWNsdXN0ZQ"));
        let (config, metrics) = (Arc::new(BrokerConfig::default()), ShardMetrics::new(id));
        let shard = Shard::new(id, runtime.clone(), store, recovered, empty, config, metrics);
        shard.start();
        shard
    }

    #[test]
    fn an_image_half_taken_in_is_completed_once_there_is_room() {
        // The first log that could not be created ended the taking in of an image, and the next image found its topics
        // unchanged: until a restart some partitions were advertised and not served, and removed ones kept their space.
        let mut simulation = Simulation::new(1);
        simulation
            .run(|runtime| async move {
                let shard = start(&runtime).await;
                let mut seed = 0;
                let mut random = || {
                    seed += 1;
                    seed
                };
                let node = NodeStart { node: NodeId::new(1), host: "h".to_owned(), port: 9092, rack: None };
                let empty = shard.image();
                let image = empty.apply(&controller::register_nodes(&empty, &[node], &mut random)).unwrap();
                let config = BrokerConfig::default();
                let mut with = |image: &MetadataImage, name: &str| {
                    let names = [name.to_owned()];
                    image.apply(&controller::auto_create_topics(image, &config, &names, &mut random)).unwrap()
                };
                let image = with(&image, "stays");
                let image = with(&image, "goes");
                let publish = |image: &MetadataImage, removed: BTreeSet<TopicId>| {
                    shard.on_image(&Published { image: Arc::new(image.clone()), removed: Arc::new(removed) })
                };
                publish(&image, BTreeSet::new()).unwrap();
                let id = |image: &MetadataImage, name: &str| image.topic(name).unwrap().id();
                let (stays, goes) = (id(&image, "stays"), id(&image, "goes"));
                runtime.sleep(Duration::from_secs(1)).await;

                // Not even what frees space finds any.
                runtime.disk().change(|options| options.capacity_bytes = 0);
                let partition = shard.partition(stays, 0).unwrap();
                for bytes in [30_000, 3000, 100, 1] {
                    let mut builder = BatchBuilder::new(Codec::None);
                    builder.append(runtime.wall_clock(), None, Some(&vec![7; bytes]), &[]);
                    let batch = builder.build();
                    while shard.append_internal(Purpose::FreesSpace, &partition, &batch).await.is_ok() {
                        runtime.sleep(Duration::from_millis(50)).await;
                    }
                }
                let image = with(&image, "late");
                let image = with(&image, "later");
                assert!(matches!(publish(&image, BTreeSet::new()), Err(StorageError::Full { .. })));
                let image = image.apply(&[RemoveTopicRecord { topic_id: goes }.into()]).unwrap();
                assert!(matches!(publish(&image, BTreeSet::from([goes])), Err(StorageError::Full { .. })));
                let new = ["late", "later"].map(|name| id(&image, name));
                runtime.sleep(Duration::from_secs(2)).await;
                assert!(new.iter().all(|topic| shard.partition(*topic, 0).is_none()));
                assert!(shard.partition(goes, 0).is_none(), "nobody finds what was removed");
                let has_log = || shard.store.partitions().iter().any(|partition| partition.topic == goes);
                assert!(has_log());

                runtime.disk().change(|options| options.capacity_bytes = u64::MAX);
                runtime.sleep(Duration::from_secs(2)).await;
                assert!(new.iter().all(|topic| shard.partition(*topic, 0).is_some()));
                assert!(!has_log());
                shard.stop();
            })
            .finished();
    }

    #[test]
    fn retention_goes_on_after_a_log_start_that_found_no_room() {
        // Its task ended with its first error, for good.
        let mut simulation = Simulation::new(1);
        simulation
            .run(|runtime| async move {
                let shard = start(&runtime).await;
                let node = NodeStart { node: NodeId::new(1), host: "h".to_owned(), port: 9092, rack: None };
                let empty = shard.image();
                let image = empty.apply(&controller::register_nodes(&empty, &[node], &mut || 1)).unwrap();
                let names = ["t".to_owned()];
                let config = BrokerConfig::default();
                let image = image.apply(&controller::auto_create_topics(&image, &config, &names, &mut || 2)).unwrap();
                let topic = image.topic("t").unwrap().id();
                shard.on_image(&Published { image: Arc::new(image), removed: Arc::default() }).unwrap();
                runtime.sleep(Duration::from_secs(1)).await;
                runtime.disk().change(|options| options.capacity_bytes = 0);
                let partition = shard.partition(topic, 0).unwrap();
                for bytes in [30_000, 3000, 100, 1] {
                    let mut builder = BatchBuilder::new(Codec::None);
                    // A week and more ago.
                    builder.append(crate::types::TimestampMs::new(1), None, Some(&vec![7; bytes]), &[]);
                    let batch = builder.build();
                    while shard.append_internal(Purpose::FreesSpace, &partition, &batch).await.is_ok() {
                        runtime.sleep(Duration::from_millis(50)).await;
                    }
                }
                let interval = Duration::from_millis(shard.config.log_retention_check_interval_ms.unsigned_abs());
                runtime.sleep(2 * interval).await;
                assert_eq!(partition.state().offsets.log_start().value(), 0);
                runtime.disk().change(|options| options.capacity_bytes = u64::MAX);
                runtime.sleep(2 * interval).await;
                assert!(partition.state().offsets.log_start().value() > 0);
                shard.stop();
            })
            .finished();
    }
}
