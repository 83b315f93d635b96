//! The cluster's metadata as a log: the one writer of it, on shard 0.
//!
//! The log is an ordinary partition of shard 0, `__cluster_metadata`, in Kafka's own record formats. A change is decided by
//! `broker::controller` (pure), appended as one batch (so it is there whole or not at all), flushed, applied to the image,
//! and published to every shard before whoever asked is answered. Replaying the log gives the same image.
//!
//! What the log holds stays within a few times the image: see `snapshot`.
//!
//! Invariants: changes are made one after the other by one task; nothing is published before it is durable; nothing that was
//! appended is given up, unless the store is read-only until a restart, which then finds it or not.

mod replay;
mod snapshot;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use self::replay::Replayed;
use self::snapshot::Contents;
pub use self::snapshot::SnapshotOptions;
use super::controller;
use super::{Lanes, ShuttingDown, inbox};
use crate::cluster::image::{ApplyError, BROKER_RESOURCE, MetadataImage};
use crate::cluster::records::{Record, RecordError};
use crate::cluster::topic_name::{CLUSTER_METADATA, CLUSTER_METADATA_ID};
use crate::config::topic::{CleanupPolicy, Dynamic, TopicConfig};
use crate::protocol::compression::Codec;
use crate::protocol::messages::alter_configs::AlterConfigsRequest;
use crate::protocol::messages::create_partitions::CreatePartitionsRequest;
use crate::protocol::messages::create_topics::CreateTopicsRequest;
use crate::protocol::messages::delete_topics::DeleteTopicsRequest;
use crate::protocol::messages::incremental_alter_configs::IncrementalAlterConfigsRequest;
use crate::protocol::record_batch::BatchBuilder;
use crate::protocol::wire::{self, Reader, Writer};
use crate::runtime::Runtime;
use crate::shard::Shard;
use crate::shard::mesh::{Lane, ReplySender, reply_slot};
use crate::shard::message::{ControlReply, ControlRequest, Message, Published};
use crate::shard::partition::Partition;
use crate::store::{Purpose, ReadError, StorageError};
use crate::types::{Durability, LeaderEpoch, LogPosition, MonotonicUs, NodeId, Offset, ShardId, TopicId};

/// Why the metadata cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The log cannot be appended to.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log cannot be read.
    #[error("metadata log: {0}")]
    Read(#[from] ReadError),
    /// A record that this version does not understand. It is never skipped.
    #[error("metadata log: {0}: use the newer corelane that wrote it")]
    Record(#[from] RecordError),
    /// Records that do not add up.
    #[error("metadata log: {0}")]
    Apply(#[from] ApplyError),
    /// A part of the log is gone.
    #[error(
        "the metadata log is damaged at offset {offset} ({cause}): restore it, or start with --accept-loss to go on \
         without it"
    )]
    Damaged {
        /// First offset that is gone.
        offset: Offset,
        /// How it shows.
        cause: String,
    },
    /// A batch that is no batch, though its entry was intact.
    #[error("metadata log: the batch at offset {0} cannot be read")]
    Batch(Offset),
}

type Job = (ControlRequest, ReplySender<ControlReply>);

/// The writer of the metadata.
pub struct MetadataLog<R: Runtime> {
    shard: Rc<Shard<R>>,
    partition: Rc<Partition>,
    lanes: Lanes,
    image: RefCell<Arc<MetadataImage>>,
    /// Topics that were removed, as far as a shard may find something of them after a crash.
    removed: RefCell<BTreeSet<TopicId>>,
    contents: Cell<Contents>,
    options: SnapshotOptions,
    /// Not before then is it tried again.
    next_snapshot: Cell<MonotonicUs>,
    /// A part of the log is lost, and that was accepted: it is to begin anew with what is left.
    has_hole: bool,
    jobs: Lane<Job>,
}

impl<R: Runtime> MetadataLog<R> {
    /// Replays the log of a recovered shard 0, or begins it.
    pub async fn open(
        shard: Rc<Shard<R>>,
        lanes: Lanes,
        empty: MetadataImage,
        options: SnapshotOptions,
    ) -> Result<Rc<MetadataLog<R>>, MetadataError> {
        assert!(shard.id == ShardId::CONTROLLER);
        // Nothing of it is discarded but what a snapshot has made worthless: no setting that topics inherit counts.
        let config = TopicConfig {
            durability: Durability::Flushed,
            retention_ms: None,
            retention_bytes: None,
            cleanup_policy: CleanupPolicy { delete: false, compact: false },
            ..TopicConfig::resolve(&shard.config, Dynamic::NONE)
        };
        // The log has one writer for ever, so its epoch tells nobody anything.
        let partition =
            shard.serve_internal(CLUSTER_METADATA_ID, CLUSTER_METADATA, LeaderEpoch::new(0), Rc::new(config))?;
        let Replayed { image, removed, lost, contents } = replay::replay(&shard.store, &partition, &empty).await?;
        let image = if lost > 0 { replay::raised(&image, lost)? } else { image };
        Ok(Rc::new(MetadataLog {
            shard,
            partition,
            lanes,
            image: RefCell::new(Arc::new(image)),
            removed: RefCell::new(removed),
            contents: Cell::new(contents),
            options,
            next_snapshot: Cell::default(),
            has_hole: lost > 0,
            jobs: Lane::default(),
        }))
    }

    /// The newest image.
    pub fn image(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.image.borrow())
    }

    /// Starts the task that makes changes, one at a time.
    pub fn start(self: &Rc<Self>) {
        let log = Rc::clone(self);
        self.shard.runtime.spawn(async move {
            log.begin_anew_if_due().await;
            while let Some((request, reply)) = log.jobs.receive().await {
                reply.send(log.serve(request).await);
                log.begin_anew_if_due().await;
            }
        });
    }

    /// Ends that task.
    pub fn stop(&self) {
        self.jobs.close();
    }

    /// Queues a request, waiting while the queue is full.
    pub async fn enqueue(&self, request: ControlRequest, reply: ReplySender<ControlReply>) -> Result<(), ShuttingDown> {
        self.jobs.send((request, reply)).await.map_err(|_| ShuttingDown)
    }

    async fn serve(&self, request: ControlRequest) -> ControlReply {
        let purpose = purpose_of(&request);
        let Some((records, reply)) = self.decide(request) else {
            return ControlReply::Failed("all producer ids are given out".to_owned());
        };
        match self.commit(purpose, records).await {
            Ok(()) => reply,
            Err(error) => {
                tracing::error!("cannot change the metadata: {error}");
                ControlReply::Failed(format!("The metadata cannot be changed: {error}."))
            }
        }
    }

    /// What a request changes, and what it is answered with once that is durable.
    fn decide(&self, request: ControlRequest) -> Option<(Vec<Record>, ControlReply)> {
        let image = self.image();
        let config = &self.shard.config;
        let mut random = || self.shard.runtime.random();
        match request {
            ControlRequest::CreateTopics { version, body } => {
                let request = CreateTopicsRequest::decode(&mut Reader::new(&body), version)
                    .expect("the API decoded it before it was sent here");
                let (records, response) = controller::create_topics(&image, config, &request, &mut random);
                Some((records, body_of(&response, version)))
            }
            ControlRequest::DeleteTopics { version, body } => {
                let request = DeleteTopicsRequest::decode(&mut Reader::new(&body), version)
                    .expect("the API decoded it before it was sent here");
                let (records, response) = controller::delete_topics(&image, config, &request, version);
                Some((records, body_of(&response, version)))
            }
            ControlRequest::CreatePartitions { version, body } => {
                let request = CreatePartitionsRequest::decode(&mut Reader::new(&body), version)
                    .expect("the API decoded it before it was sent here");
                let (records, response) =
                    controller::partitions::create_partitions(&image, config, &request, &mut random);
                Some((records, body_of(&response, version)))
            }
            ControlRequest::AlterConfigs { version, body } => {
                let request = AlterConfigsRequest::decode(&mut Reader::new(&body), version)
                    .expect("the API decoded it before it was sent here");
                let (records, response) = controller::configs::alter_configs(&image, config, &request);
                Some((records, body_of(&response, version)))
            }
            ControlRequest::IncrementalAlterConfigs { version, body } => {
                let request = IncrementalAlterConfigsRequest::decode(&mut Reader::new(&body), version)
                    .expect("the API decoded it before it was sent here");
                let (records, response) = controller::configs::incremental_alter_configs(&image, config, &request);
                Some((records, body_of(&response, version)))
            }
            ControlRequest::AutoCreate { names } => {
                let records = controller::auto_create_topics(&image, config, &names, &mut random);
                Some((records, ControlReply::Done))
            }
            ControlRequest::MetadataEnd => {
                let end = self.partition.state().offsets.high_watermark();
                Some((Vec::new(), ControlReply::MetadataEnd(end)))
            }
            ControlRequest::ProducerIds => {
                let node = NodeId::of_shard(ShardId::CONTROLLER);
                let (record, block) = controller::allocate_producer_ids(&image, node).ok()?;
                #[cfg(not(corelane_defect = "producer_ids_not_recorded"))]
                let records = vec![record];
                #[cfg(corelane_defect = "producer_ids_not_recorded")]
                let records = vec![record].split_off(1);
                Some((records, ControlReply::ProducerIds(block)))
            }
        }
    }

    /// Appends records as one batch, waits until they are durable, applies and publishes them.
    async fn commit(&self, purpose: Purpose, records: Vec<Record>) -> Result<(), MetadataError> {
        if records.is_empty() {
            return Ok(());
        }
        self.append(purpose, &records).await?;
        log_node_configs(&records);
        let removed = removed_topics(&records);
        self.removed.borrow_mut().extend(&removed);
        self.publish(removed).await;
        Ok(())
    }

    /// Appends the first records of this life and publishes the image for the first time, with every removal that is
    /// remembered: a shard may have missed one when it stopped. A broker that did not start could free no space, so these
    /// records may use all of the reserve.
    pub async fn begin(&self, records: &[Record]) -> Result<(), MetadataError> {
        if self.has_hole {
            let position = self.begin_anew(Purpose::FreesSpace).await?;
            self.shard.wait_for_good(Durability::Flushed, position).await?;
            let log_start = self.partition.state().offsets.log_start();
            tracing::warn!("the metadata log begins anew at offset {log_start} with what is left of it");
        }
        self.append(Purpose::FreesSpace, records).await?;
        let removed = self.removed.borrow().clone();
        self.publish(removed).await;
        Ok(())
    }

    async fn append(&self, purpose: Purpose, records: &[Record]) -> Result<(), MetadataError> {
        let image = Arc::new(self.image().apply(records)?);
        self.write(purpose, records).await?;
        *self.image.borrow_mut() = image;
        Ok(())
    }

    /// Appends records as one batch and waits until they are durable, however long a disk stands still: what is in the log is
    /// part of it from then on. Who asked is answered by the API when its time is over.
    async fn write(&self, purpose: Purpose, records: &[Record]) -> Result<(), MetadataError> {
        let now = self.shard.runtime.wall_clock();
        let mut builder = BatchBuilder::new(Codec::None);
        if self.contents.get().is_torn {
            builder.append(now, None, Some(&snapshot::abort().encode()), &[]);
        }
        for record in records {
            builder.append(now, None, Some(&record.encode()), &[]);
        }
        let position = self.append_batch(purpose, &builder.build()).await?;
        self.change_contents(|contents| contents.is_torn = false);
        #[cfg(not(corelane_defect = "image_before_durable"))]
        self.shard.wait_for_good(Durability::Flushed, position).await?;
        #[cfg(corelane_defect = "image_before_durable")]
        let _ = position;
        Ok(())
    }

    /// Appends a batch and gives the end of its entry.
    async fn append_batch(&self, purpose: Purpose, batch: &[u8]) -> Result<LogPosition, MetadataError> {
        let position = self.shard.append_internal(purpose, &self.partition, batch).await?;
        self.change_contents(|contents| contents.bytes += u64::try_from(batch.len()).expect("a size fits 64 bits"));
        Ok(position)
    }

    fn change_contents(&self, change: impl FnOnce(&mut Contents)) {
        let mut contents = self.contents.get();
        change(&mut contents);
        self.contents.set(contents);
    }

    /// Hands the newest image to every shard and waits until all have taken it in.
    pub async fn publish(&self, removed: BTreeSet<TopicId>) {
        let published = Published { image: self.image(), removed: Arc::new(removed) };
        let mut taken = Vec::new();
        for lane in &self.lanes[1..] {
            let (reply, receiver) = reply_slot();
            // A shard that is shutting down needs no image.
            if lane.send(Message::Image(published.clone(), reply)).await.is_ok() {
                taken.push(receiver);
            }
        }
        inbox::take_in(&self.shard, &published);
        for receiver in taken {
            let _ = receiver.receive().await;
        }
    }
}

/// How far a request may go when room is short: what deletes topics, or may keep records for less time, all the way.
fn purpose_of(request: &ControlRequest) -> Purpose {
    match request {
        ControlRequest::DeleteTopics { .. }
        | ControlRequest::AlterConfigs { .. }
        | ControlRequest::IncrementalAlterConfigs { .. } => Purpose::FreesSpace,
        ControlRequest::CreateTopics { .. }
        | ControlRequest::CreatePartitions { .. }
        | ControlRequest::AutoCreate { .. }
        | ControlRequest::MetadataEnd
        | ControlRequest::ProducerIds => Purpose::Metadata,
    }
}

fn body_of<M: wire::Message>(response: &M, version: i16) -> ControlReply {
    let mut writer = Writer::new();
    response.encode_field(&mut writer, M::dialect(version));
    ControlReply::Body(writer.bytes)
}

/// Says what was set for nodes: it is set for all nodes of the machine, whichever was named.
fn log_node_configs(records: &[Record]) {
    for record in records {
        if let Record::Config(set) = record
            && set.resource_type == BROKER_RESOURCE
        {
            let value = set.value.as_deref().unwrap_or("nothing of its own");
            match &*set.resource_name {
                "" => tracing::info!("all nodes: {} is now {value}", set.name),
                node => tracing::info!("node {node}: {} is now {value}", set.name),
            }
        }
    }
}

fn removed_topics(records: &[Record]) -> BTreeSet<TopicId> {
    let removed = records.iter().filter_map(|record| match record {
        Record::RemoveTopic(removed) => Some(removed.topic_id),
        _ => None,
    });
    removed.collect()
}
