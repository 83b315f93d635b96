//! The broker as one shard sees it: which shard owns a partition, and how a request is split over owners and gathered.
//!
//! In per-core mode stock clients ask the owner, so nothing is split and no data crosses; in `single` mode, or when a client
//! asks the wrong node, a sibling's part goes over its lane and is counted as a crossing.

pub mod controller;
pub mod fetch_session;
pub mod groups;
pub mod inbox;
pub mod metadata_log;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use self::fetch_session::FetchSessions;
use self::metadata_log::MetadataLog;
use crate::cluster::image::{MetadataImage, Topic};
use crate::cluster::view::{Advertise, ClientView};
use crate::limits::AUTO_CREATE_NAMES_MAX;
use crate::runtime::Runtime;
use crate::runtime::block::Slice;
use crate::shard::mesh::{Lane, ReplyReceiver, ReplySender, reply_slot};
use crate::shard::message::{
    ControlReply, ControlRequest, DeleteRecords, DeleteRecordsOutcome, DescribedProducers, EpochEnd, EpochEndOutcome,
    ListOffset, ListOffsetOutcome, LogDirectory, Message, ProduceOutcome, ProducePart, ProducerIdBlock, ReadOutcome,
    ReadPart, WatchPart,
};
use crate::shard::{Applied, RecordSlice, Shard};
use crate::types::{NodeId, PartitionIndex, ShardId, TopicId};

/// The lanes into every shard, shared by all of them.
pub type Lanes = Arc<[Lane<Message>]>;

/// One shard's view of the whole broker.
pub struct Broker<R: Runtime> {
    /// The shard on this core.
    pub shard: Rc<Shard<R>>,
    /// How nodes are advertised.
    pub advertise: Advertise,
    /// Fetch sessions opened at this shard.
    pub sessions: RefCell<FetchSessions>,
    lanes: Lanes,
    /// The one metadata writer; on shard 0 only.
    metadata_log: Option<Rc<MetadataLog<R>>>,
    /// Producer ids that this shard may give out.
    pub producer_ids: RefCell<Option<ProducerIdBlock>>,
    /// Names of topics that are being created because somebody asked for them here.
    auto_creating: Cell<usize>,
    first_image: RefCell<Option<ReplyReceiver<()>>>,
    on_first_image: RefCell<Option<ReplySender<()>>>,
}

/// The sibling that was asked is shutting down: the connection closes and its client asks again.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a shard is shutting down")]
pub struct ShuttingDown;

/// A produce request that was applied on every shard it concerns, in the order of its connection.
#[derive(Debug)]
pub struct Produced {
    count: usize,
    local: Option<(Vec<usize>, Applied)>,
    remote: Vec<(Vec<usize>, ReplyReceiver<Vec<ProduceOutcome>>)>,
}

impl<R: Runtime> Broker<R> {
    /// The broker of one shard. `metadata_log` belongs to shard 0.
    pub fn new(
        shard: Rc<Shard<R>>,
        advertise: Advertise,
        lanes: Lanes,
        metadata_log: Option<Rc<MetadataLog<R>>>,
    ) -> Rc<Broker<R>> {
        assert!(metadata_log.is_some() == (shard.id == ShardId::CONTROLLER));
        let (on_first_image, first_image) = reply_slot();
        let sessions = FetchSessions::new(shard.config.fetch_session_slots);
        Rc::new(Broker {
            shard,
            advertise,
            sessions: RefCell::new(sessions),
            lanes,
            metadata_log,
            producer_ids: RefCell::default(),
            auto_creating: Cell::new(0),
            first_image: RefCell::new(Some(first_image)),
            on_first_image: RefCell::new(Some(on_first_image)),
        })
    }

    /// Ends when the controller's first image was taken in. Awaited once, before serving.
    pub async fn first_image(&self) -> Result<(), ShuttingDown> {
        let receiver = self.first_image.borrow_mut().take().expect("awaited once");
        receiver.receive().await.ok_or(ShuttingDown)
    }

    /// The lane into this shard.
    fn own_lane(&self) -> &Lane<Message> {
        &self.lanes[self.shard.id.index()]
    }

    /// Refuses new messages; those that wait are still handled.
    pub fn close_lane(&self) {
        self.own_lane().close();
    }

    /// An image as this broker's clients see it.
    pub fn view<'a>(&self, image: &'a MetadataImage) -> ClientView<'a> {
        ClientView { image, advertise: self.advertise }
    }

    /// Groups items by owner, keeping their order; every group knows the places of its items.
    fn split<T>(&self, items: Vec<T>, key: impl Fn(&T) -> (TopicId, i32)) -> Vec<(ShardId, Vec<usize>, Vec<T>)> {
        let mut groups: Vec<(ShardId, Vec<usize>, Vec<T>)> = Vec::new();
        let image = self.shard.image();
        let mut owners = Owners::new(&image, self.shard.id);
        for (place, item) in items.into_iter().enumerate() {
            let (topic, partition) = key(&item);
            let owner = owners.of(topic, partition);
            match groups.iter_mut().find(|(shard, _, _)| *shard == owner) {
                Some((_, places, items)) => {
                    places.push(place);
                    items.push(item);
                }
                None => groups.push((owner, vec![place], vec![item])),
            }
        }
        groups
    }

    async fn send(&self, shard: ShardId, message: Message) -> Result<(), ShuttingDown> {
        assert!(shard != self.shard.id);
        let bytes = message.request_bytes();
        self.lanes[shard.index()].send_with_bytes(message, bytes).await.map_err(|_| ShuttingDown)
    }

    /// Appends the partitions of a produce request wherever they live. When it ends, the next request of the connection
    /// may be applied: here everything is appended, and lanes keep the order.
    pub async fn produce(&self, part: ProducePart) -> Result<Produced, ShuttingDown> {
        let mut produced = Produced { count: part.partitions.len(), local: None, remote: Vec::new() };
        for (shard, places, partitions) in self.split(part.partitions, |one| (one.topic, one.partition)) {
            let part = ProducePart { partitions, ..part };
            if shard == self.shard.id {
                produced.local = Some((places, self.shard.produce(part).await));
            } else {
                let (reply, receiver) = reply_slot();
                self.shard.metrics.crossings.add(1);
                self.send(shard, Message::Produce(part, reply)).await?;
                produced.remote.push((places, receiver));
            }
        }
        Ok(produced)
    }

    /// Waits until every batch is at its level, and gives the outcomes in the order of the request.
    pub async fn settle(&self, produced: Produced) -> Result<Vec<ProduceOutcome>, ShuttingDown> {
        let mut outcomes: Vec<Option<ProduceOutcome>> = vec![None; produced.count];
        if let Some((places, applied)) = produced.local {
            place(&mut outcomes, places, self.shard.settle(applied).await);
        }
        for (places, receiver) in produced.remote {
            place(&mut outcomes, places, receiver.receive().await.ok_or(ShuttingDown)?);
        }
        Ok(filled(outcomes))
    }

    /// Reads the partitions of a fetch wherever they live, in order of their owners, within one limit for all.
    pub async fn read(&self, part: &ReadPart) -> Result<Vec<ReadOutcome<RecordSlice<R>>>, ShuttingDown> {
        let image = self.shard.image();
        let mut owners = Owners::new(&image, self.shard.id);
        if part.partitions.iter().all(|one| owners.of(one.topic, one.partition) == self.shard.id) {
            return Ok(self.shard.read(part, std::convert::identity).await);
        }
        let mut outcomes: Vec<Option<ReadOutcome<RecordSlice<R>>>> = part.partitions.iter().map(|_| None).collect();
        let mut limits = part.limits;
        for (shard, places, partitions) in self.split(part.partitions.clone(), |one| (one.topic, one.partition)) {
            let part = ReadPart { limits, partitions };
            let read: Vec<_> = if shard == self.shard.id {
                self.shard.read(&part, std::convert::identity).await
            } else {
                let (reply, receiver) = reply_slot();
                self.shard.metrics.crossings.add(1);
                self.send(shard, Message::Read(part, reply)).await?;
                receiver.receive().await.ok_or(ShuttingDown)?.into_iter().map(at_home).collect()
            };
            limits.on_read(&read);
            place(&mut outcomes, places, read);
        }
        Ok(filled(outcomes))
    }

    /// Asks the siblings among the owners to watch their partitions for a fetch; gives what to wait for.
    pub async fn watch_siblings(
        &self,
        needed_bytes: i64,
        wait_ms: u64,
        partitions: Vec<(TopicId, i32, i64)>,
    ) -> Result<Vec<ReplyReceiver<()>>, ShuttingDown> {
        let mut receivers = Vec::new();
        for (shard, _, partitions) in self.split(partitions, |(topic, partition, _)| (*topic, *partition)) {
            if shard != self.shard.id {
                let (reply, receiver) = reply_slot();
                self.send(shard, Message::Watch(WatchPart { needed_bytes, wait_ms, partitions }, reply)).await?;
                receivers.push(receiver);
            }
        }
        Ok(receivers)
    }

    /// ListOffsets, wherever the partitions live.
    pub async fn list_offsets(&self, wanted: Vec<ListOffset>) -> Result<Vec<ListOffsetOutcome>, ShuttingDown> {
        let mut outcomes = vec![None; wanted.len()];
        for (shard, places, part) in self.split(wanted, |one| (one.topic, one.partition)) {
            let answers = if shard == self.shard.id {
                self.shard.list_offsets(&part).await
            } else {
                let (reply, receiver) = reply_slot();
                self.send(shard, Message::ListOffsets(part, reply)).await?;
                receiver.receive().await.ok_or(ShuttingDown)?
            };
            place(&mut outcomes, places, answers);
        }
        Ok(filled(outcomes))
    }

    /// OffsetForLeaderEpoch, wherever the partitions live.
    pub async fn epoch_ends(&self, wanted: Vec<EpochEnd>) -> Result<Vec<EpochEndOutcome>, ShuttingDown> {
        let mut outcomes = vec![None; wanted.len()];
        for (shard, places, part) in self.split(wanted, |one| (one.topic, one.partition)) {
            let answers = if shard == self.shard.id {
                self.shard.epoch_ends(&part).await
            } else {
                let (reply, receiver) = reply_slot();
                self.send(shard, Message::EpochEnds(part, reply)).await?;
                receiver.receive().await.ok_or(ShuttingDown)?
            };
            place(&mut outcomes, places, answers);
        }
        Ok(filled(outcomes))
    }

    /// DeleteRecords, wherever the partitions live.
    pub async fn delete_records(&self, wanted: Vec<DeleteRecords>) -> Result<Vec<DeleteRecordsOutcome>, ShuttingDown> {
        let mut outcomes = vec![None; wanted.len()];
        for (shard, places, part) in self.split(wanted, |one| (one.topic, one.partition)) {
            let answers = if shard == self.shard.id {
                self.shard.delete_records(&part).await
            } else {
                let (reply, receiver) = reply_slot();
                self.send(shard, Message::DeleteRecords(part, reply)).await?;
                receiver.receive().await.ok_or(ShuttingDown)?
            };
            place(&mut outcomes, places, answers);
        }
        Ok(filled(outcomes))
    }

    /// DescribeProducers, wherever the partitions live.
    pub async fn describe_producers(
        &self,
        wanted: Vec<(TopicId, i32)>,
    ) -> Result<Vec<DescribedProducers>, ShuttingDown> {
        let mut outcomes = vec![None; wanted.len()];
        for (shard, places, part) in self.split(wanted, |one| *one) {
            let answers = if shard == self.shard.id {
                self.shard.describe_producers(&part)
            } else {
                let (reply, receiver) = reply_slot();
                self.send(shard, Message::DescribeProducers(part, reply)).await?;
                receiver.receive().await.ok_or(ShuttingDown)?
            };
            place(&mut outcomes, places, answers);
        }
        Ok(filled(outcomes))
    }

    /// The log directories of the node that was asked: its own, or those of all shards when one speaks for all.
    pub async fn log_directories(
        &self,
        wanted: Option<Arc<BTreeSet<(TopicId, i32)>>>,
    ) -> Result<Vec<LogDirectory>, ShuttingDown> {
        if self.advertise == Advertise::PerCore {
            return Ok(vec![self.shard.log_directory(wanted.as_deref())]);
        }
        let mut directories = Vec::with_capacity(self.lanes.len());
        for shard in (0..).take(self.lanes.len()).map(ShardId::new) {
            directories.push(if shard == self.shard.id {
                self.shard.log_directory(wanted.as_deref())
            } else {
                let (reply, receiver) = reply_slot();
                self.send(shard, Message::LogDirectory(wanted.clone(), reply)).await?;
                receiver.receive().await.ok_or(ShuttingDown)?
            });
        }
        Ok(directories)
    }

    /// Asks the controller, on whichever core it lives.
    pub async fn control(&self, request: ControlRequest) -> Result<ControlReply, ShuttingDown> {
        let (reply, receiver) = reply_slot();
        match &self.metadata_log {
            Some(log) => log.enqueue(request, reply).await?,
            None => self.send(ShardId::CONTROLLER, Message::Control(request, reply)).await?,
        }
        receiver.receive().await.ok_or(ShuttingDown)
    }

    /// Has topics created that somebody asked for, beside the answer. Who asks does not wait for it and may ask faster
    /// than topics are made, so names beyond [`AUTO_CREATE_NAMES_MAX`] are passed over: clients ask again.
    pub fn auto_create(self: &Rc<Self>, mut names: Vec<String>) {
        let under_way = self.auto_creating.get();
        names.truncate(AUTO_CREATE_NAMES_MAX - under_way);
        if names.is_empty() {
            return;
        }
        let count = names.len();
        self.auto_creating.set(under_way + count);
        let broker = Rc::clone(self);
        self.shard.runtime.spawn(async move {
            // An error shows when the client asks again.
            let _ = broker.control(ControlRequest::AutoCreate { names }).await;
            broker.auto_creating.set(broker.auto_creating.get() - count);
        });
    }

    /// Gets a block of producer ids for this shard. False when the metadata log cannot be written.
    ///
    /// Two requests may both ask for one; the ids of the block that is overwritten are skipped, never repeated.
    pub async fn refill_producer_ids(&self) -> Result<bool, ShuttingDown> {
        match self.control(ControlRequest::ProducerIds).await? {
            ControlReply::ProducerIds(block) => {
                *self.producer_ids.borrow_mut() = Some(block);
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Finds the shards that own partitions. Those of one topic come one after the other, so it keeps the last topic.
struct Owners<'a> {
    image: &'a MetadataImage,
    here: ShardId,
    last: Option<(TopicId, Option<&'a Topic>)>,
}

impl<'a> Owners<'a> {
    fn new(image: &'a MetadataImage, here: ShardId) -> Owners<'a> {
        Owners { image, here, last: None }
    }

    /// The owner of a partition. One that does not exist is "owned" here, where asking for it gives the error.
    fn of(&mut self, topic: TopicId, partition: i32) -> ShardId {
        let found = match self.last {
            Some((id, found)) if id == topic => found,
            _ => self.last.insert((topic, self.image.topic_by_id(topic).map(|topic| &**topic))).1,
        };
        let partition = found.and_then(|topic| topic.partition(PartitionIndex::new(partition)));
        partition.and_then(|partition| partition.leader).map_or(self.here, NodeId::shard)
    }
}

/// Records that crossed are bytes of their own here.
fn at_home<B>(outcome: ReadOutcome<bytes::Bytes>) -> ReadOutcome<Slice<B>> {
    outcome.map_records(|records| records.into_iter().map(Slice::Bytes).collect())
}

fn place<T>(outcomes: &mut [Option<T>], places: Vec<usize>, values: Vec<T>) {
    assert!(places.len() == values.len());
    for (place, value) in places.into_iter().zip(values) {
        outcomes[place] = Some(value);
    }
}

fn filled<T>(outcomes: Vec<Option<T>>) -> Vec<T> {
    outcomes.into_iter().map(|outcome| outcome.expect("every partition was asked of its owner")).collect()
}
