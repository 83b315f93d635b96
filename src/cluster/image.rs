//! The cluster's state at one point of the metadata log: immutable, shared by `Arc`, replaced whole.
//!
//! It changes only by applying metadata records. Applying copies what a record touches and a few
//! pointers around it; everything else is shared with the image before.
//!
//! Two things are not as in Kafka:
//! - **A restart raises epochs by itself.** A [`RegisterBrokerRecord`] of a known node with a new incarnation raises leader
//!   epoch and partition epoch of every partition that node leads by one. Kafka's controller writes a record for each of
//!   them; with one process and 10,000 partitions that would be 10,000 records at every start, for the same epochs.
//! - Records between Begin and EndTransaction wait in the image itself, so that a snapshot carries them.
//!
//! Invariants: leader epochs and partition epochs of a topic id never go back, nor do producer ids; both maps of topics
//! hold the same topics; there are at most [`limits::PARTITIONS_MAX`] partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::buckets::Buckets;
use super::records::{
    BrokerEndpoint, BrokerRegistrationChangeRecord, ConfigRecord, FeatureLevelRecord, NO_LEADER, NO_LEADER_CHANGE,
    PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, Record, RegisterBrokerRecord, RemoveTopicRecord,
    TopicRecord, UnregisterBrokerRecord, Uuid,
};
use super::topic_name;
use crate::config::Configs;
use crate::limits;
use crate::types::{LeaderEpoch, NodeId, PartitionEpoch, PartitionIndex, TopicId};

/// Kafka's feature that says which metadata records there are.
pub const METADATA_VERSION: &str = "metadata.version";
/// Lowest level of it that Kafka 4.1 reads.
pub const METADATA_VERSION_MIN: i16 = 7;
/// Kafka 4.1's level of it, and ours.
pub const METADATA_VERSION_LEVEL: i16 = 27;

/// Kafka's feature that says which groups there are.
pub const GROUP_VERSION: &str = "group.version";
/// Kafka 4.1's level of it: groups of the consumer protocol (KIP-848).
pub const GROUP_VERSION_LEVEL: i16 = 1;

/// Kafka's `ConfigResource.Type` of topics.
pub const TOPIC_RESOURCE: i8 = 2;
/// Kafka's `ConfigResource.Type` of nodes, and of all nodes under an empty name.
pub const BROKER_RESOURCE: i8 = 4;
/// Kafka's `ConfigResource.Type` of the loggers of a node.
pub const BROKER_LOGGER_RESOURCE: i8 = 8;
/// Kafka's `ConfigResource.Type` of telemetry subscriptions.
pub const CLIENT_METRICS_RESOURCE: i8 = 16;
/// Kafka's `ConfigResource.Type` of groups.
pub const GROUP_RESOURCE: i8 = 32;

static NO_CONFIGS: Configs = Configs::new();

/// One state of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataImage {
    cluster_id: Arc<str>,
    brokers: Arc<BTreeMap<NodeId, Arc<Broker>>>,
    topic_ids: Buckets<Arc<str>, TopicId>,
    topics: Buckets<TopicId, Arc<Topic>>,
    /// Names with a dot or an underscore by what they would be confused in.
    collisions: Buckets<Arc<str>, BTreeSet<Arc<str>>>,
    partition_count: usize,
    /// Partitions led by each node that leads any.
    leader_counts: Arc<BTreeMap<NodeId, usize>>,
    configs: Arc<BTreeMap<i8, BTreeMap<Arc<str>, Configs>>>,
    features: Arc<BTreeMap<Arc<str>, i16>>,
    next_producer_id: i64,
    transaction: Option<Arc<Vec<Record>>>,
}

// It crosses cores as it is.
const _: () = {
    const fn crosses_cores<T: Send + Sync>() {}
    crosses_cores::<MetadataImage>();
};

/// A node: what it said when it registered, and what changed since.
#[derive(Clone, Debug, PartialEq)]
pub struct Broker {
    registration: RegisterBrokerRecord,
}

/// One life of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Topic {
    id: TopicId,
    name: Arc<str>,
    /// By index. Empty places are partitions whose record has not come: a controller may write them in any order.
    partitions: Vec<Option<Partition>>,
}

/// A partition: who holds it and who leads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// The node that leads it.
    pub leader: Option<NodeId>,
    /// Rises with every leader, and with every restart of the leader.
    pub leader_epoch: LeaderEpoch,
    /// Rises with every change.
    pub partition_epoch: PartitionEpoch,
    /// Nodes that hold it, the preferred leader first.
    pub replicas: Arc<[NodeId]>,
    /// Replicas in sync.
    pub isr: Arc<[NodeId]>,
    rare: Option<Arc<Rare>>,
}

/// What a partition of Corelane alone never has.
#[derive(Clone, Debug, Default, PartialEq)]
struct Rare {
    removing_replicas: Vec<i32>,
    adding_replicas: Vec<i32>,
    leader_recovery_state: i8,
    directories: Vec<Uuid>,
    eligible_leader_replicas: Option<Vec<i32>>,
    last_known_elr: Option<Vec<i32>>,
}

/// Why a record does not fit the state that it came upon. The broker stops: its state would no longer be its log's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// The node was never registered, or has been unregistered.
    #[error("{record} of node {node}, which is not registered")]
    UnknownBroker {
        /// The record.
        record: &'static str,
        /// The node.
        node: NodeId,
    },
    /// The registration that is meant is not the one in force.
    #[error("{record} of node {node} at broker epoch {got}, its registration has {known}")]
    BrokerEpoch {
        /// The record.
        record: &'static str,
        /// The node.
        node: NodeId,
        /// Epoch of the record.
        got: i64,
        /// Epoch in force.
        known: i64,
    },
    /// There is no topic of that id.
    #[error("{record} of topic id {topic}, which does not exist")]
    UnknownTopic {
        /// The record.
        record: &'static str,
        /// The topic.
        topic: TopicId,
    },
    /// A topic of that name or id exists already.
    #[error("TopicRecord of {name} with id {topic}, one of which exists already")]
    DuplicateTopic {
        /// Its name.
        name: Arc<str>,
        /// Its id.
        topic: TopicId,
    },
    /// There is no such partition.
    #[error("PartitionChangeRecord of {topic}-{partition}, which does not exist")]
    UnknownPartition {
        /// Name of the topic.
        topic: Arc<str>,
        /// Index of the partition.
        partition: i32,
    },
    /// An index below zero or above what one cluster may hold.
    #[error("partition {partition} of {topic} is not between 0 and {}", limits::PARTITIONS_MAX - 1)]
    PartitionIndex {
        /// Name of the topic.
        topic: Arc<str>,
        /// Index of the partition.
        partition: i32,
    },
    /// More partitions than one cluster may hold.
    #[error("more than {} partitions", limits::PARTITIONS_MAX)]
    TooManyPartitions,
    /// Leader epoch or partition epoch would go back, or past the end of its type.
    #[error("an epoch of {topic}-{partition} would go back")]
    EpochWentBack {
        /// Name of the topic.
        topic: Arc<str>,
        /// Index of the partition.
        partition: i32,
    },
    /// Producer ids would be given out twice.
    #[error("producer ids would go back from {known} to {got}")]
    ProducerIdWentBack {
        /// The next id before.
        known: i64,
        /// The next id of the record.
        got: i64,
    },
    /// The cluster uses a metadata version that this broker does not read.
    #[error(
        "metadata.version {0} is not one of {METADATA_VERSION_MIN} to {METADATA_VERSION_LEVEL}: this broker is too old"
    )]
    MetadataVersion(i16),
    /// A transaction begins inside another.
    #[error("a metadata transaction begins inside another")]
    NestedTransaction,
    /// A transaction ends that never began.
    #[error("{0} outside of a metadata transaction")]
    NoTransaction(&'static str),
    /// A transaction has more records than may wait.
    #[error("a metadata transaction of more than {} records", limits::METADATA_TRANSACTION_RECORDS_MAX)]
    TransactionTooLarge,
}

impl MetadataImage {
    /// The state before the first record. `cluster_id` is Kafka's 22 characters; it lives beside the log, not in it.
    pub fn empty(cluster_id: &str) -> MetadataImage {
        MetadataImage {
            cluster_id: Arc::from(cluster_id),
            brokers: Arc::default(),
            topic_ids: Buckets::new(),
            topics: Buckets::new(),
            collisions: Buckets::new(),
            partition_count: 0,
            leader_counts: Arc::default(),
            configs: Arc::default(),
            features: Arc::default(),
            next_producer_id: 0,
            transaction: None,
        }
    }

    /// The state after `records`, or why they cannot follow this state.
    pub fn apply(&self, records: &[Record]) -> Result<MetadataImage, ApplyError> {
        let mut next = self.clone();
        for record in records {
            next.apply_one(record)?;
        }
        Ok(next)
    }

    /// Changes this state by one record, without a copy of what it shares with nobody. After an error the state may be
    /// changed in part.
    pub fn apply_one(&mut self, record: &Record) -> Result<(), ApplyError> {
        if let Some(open) = &mut self.transaction {
            match record {
                Record::BeginTransaction(_) => return Err(ApplyError::NestedTransaction),
                Record::AbortTransaction(_) => self.transaction = None,
                Record::EndTransaction(_) => {
                    let open = self.transaction.take().expect("matched above");
                    for record in &open[1..] {
                        self.publish(record)?;
                    }
                }
                _ if open.len() > limits::METADATA_TRANSACTION_RECORDS_MAX => {
                    return Err(ApplyError::TransactionTooLarge);
                }
                _ => Arc::make_mut(open).push(record.clone()),
            }
            return Ok(());
        }
        match record {
            Record::BeginTransaction(_) => {
                // The begin itself is kept too: a snapshot starts with it.
                self.transaction = Some(Arc::new(vec![record.clone()]));
                Ok(())
            }
            record => self.publish(record),
        }
    }

    /// Records that lead from the empty state to this one, each made when it is asked for: they may be many. The same state
    /// gives the same records, in an order that means nothing to those who read them.
    pub fn snapshot_records(&self) -> impl Iterator<Item = Record> {
        let features = self.features.iter();
        let features =
            features.map(|(name, level)| FeatureLevelRecord { name: Arc::clone(name), feature_level: *level }.into());
        let brokers = self.brokers.values().map(|broker| broker.registration.clone().into());
        let topics = self.topics.values().flat_map(|topic| {
            let partitions = topic.partitions().map(|(index, partition)| partition.record(topic.id, index).into());
            let record = TopicRecord { name: Arc::clone(&topic.name), topic_id: topic.id };
            std::iter::once(record.into()).chain(partitions)
        });
        let resources = self.configs.iter();
        let resources = resources.flat_map(|(of_type, resources)| resources.iter().map(move |one| (*of_type, one)));
        let configs = resources.flat_map(|(resource_type, (resource_name, configs))| {
            configs.iter().map(move |(name, value)| {
                let (name, value) = (Arc::from(name.as_str()), Some(Arc::from(value.as_str())));
                ConfigRecord { resource_type, resource_name: Arc::clone(resource_name), name, value }.into()
            })
        });
        let next_producer_id = Some(self.next_producer_id).filter(|next| *next > 0);
        let producer_ids = next_producer_id
            .into_iter()
            .map(|next_producer_id| ProducerIdsRecord { broker_id: -1, broker_epoch: -1, next_producer_id }.into());
        let transaction = self.transaction.iter().flat_map(|open| open.iter().cloned());
        features.chain(brokers).chain(topics).chain(configs).chain(producer_ids).chain(transaction)
    }

    /// Id of the cluster: 22 characters.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// A node by its id, fenced or not.
    pub fn broker(&self, node: NodeId) -> Option<&Broker> {
        self.brokers.get(&node).map(Arc::as_ref)
    }

    /// All nodes by rising id, fenced or not.
    pub fn brokers(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values().map(Arc::as_ref)
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topic_ids.get(name).and_then(|id| self.topics.get(id))
    }

    /// A topic by id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// All topics by name. Sorts them: not for every request.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        let mut topics: Vec<&Arc<Topic>> = self.topics.values().collect();
        topics.sort_unstable_by(|left, right| left.name.cmp(&right.name));
        topics.into_iter()
    }

    /// Another topic whose name differs in nothing but `.` and `_`.
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        let names = self.collisions.get(topic_name::collision_form(name)?.as_str())?;
        names.iter().find(|other| &***other != name)
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.topic_ids.len()
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// How many partitions a node leads.
    pub fn leader_count(&self, node: NodeId) -> usize {
        self.leader_counts.get(&node).copied().unwrap_or(0)
    }

    /// What is set on a topic, by topic configuration.
    pub fn topic_configs(&self, name: &str) -> &Configs {
        self.configs_of(TOPIC_RESOURCE, name)
    }

    /// What is set on one node, by broker key.
    pub fn broker_configs(&self, node: NodeId) -> &Configs {
        self.configs_of(BROKER_RESOURCE, &node.to_string())
    }

    /// What is set for all nodes, by broker key.
    pub fn cluster_configs(&self) -> &Configs {
        self.configs_of(BROKER_RESOURCE, "")
    }

    /// What is set on a group, by group configuration. The group itself need not be there.
    pub fn group_configs(&self, group: &str) -> &Configs {
        self.configs_of(GROUP_RESOURCE, group)
    }

    /// Names of the groups that something is set on.
    pub fn configured_groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.configs.get(&GROUP_RESOURCE).into_iter().flat_map(BTreeMap::keys)
    }

    /// Number of the groups that something is set on.
    pub fn configured_group_count(&self) -> usize {
        self.configs.get(&GROUP_RESOURCE).map_or(0, BTreeMap::len)
    }

    /// The features in use, with their levels.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (&**name, *level))
    }

    /// The level of a feature; 0 when it is not in use.
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// The first producer id that nobody was given.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    fn configs_of(&self, resource_type: i8, name: &str) -> &Configs {
        self.configs.get(&resource_type).and_then(|resources| resources.get(name)).unwrap_or(&NO_CONFIGS)
    }

    fn publish(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::RegisterBroker(record) => self.register_broker(record),
            Record::UnregisterBroker(record) => self.unregister_broker(record),
            Record::BrokerRegistrationChange(record) => self.change_registration(record),
            Record::Topic(record) => self.create_topic(record),
            Record::Partition(record) => self.set_partition(record),
            Record::PartitionChange(record) => self.change_partition(record),
            Record::RemoveTopic(record) => self.remove_topic(record),
            Record::Config(record) => {
                self.set_config(record);
                Ok(())
            }
            Record::FeatureLevel(record) => self.set_feature(record),
            Record::ProducerIds(record) => self.set_next_producer_id(record),
            Record::NoOp(_) => Ok(()),
            Record::BeginTransaction(_) => Err(ApplyError::NestedTransaction),
            Record::EndTransaction(_) | Record::AbortTransaction(_) => Err(ApplyError::NoTransaction(record.name())),
        }
    }

    fn register_broker(&mut self, record: &RegisterBrokerRecord) -> Result<(), ApplyError> {
        let node = NodeId::new(record.broker_id);
        let mut restarted = false;
        if let Some(known) = self.brokers.get(&node) {
            let (known_epoch, got) = (known.epoch(), record.broker_epoch);
            restarted = known.incarnation() != record.incarnation_id;
            if got < known_epoch || (restarted && got == known_epoch) {
                let record = "RegisterBrokerRecord";
                return Err(ApplyError::BrokerEpoch { record, node, got, known: known_epoch });
            }
        }
        #[cfg(corelane_defect = "epoch_not_raised")]
        let restarted = restarted && false;
        let broker = Broker { registration: record.clone() };
        Arc::make_mut(&mut self.brokers).insert(node, Arc::new(broker));
        if restarted { self.raise_epochs_of(node) } else { Ok(()) }
    }

    /// A leader has restarted: clients and followers must notice.
    fn raise_epochs_of(&mut self, node: NodeId) -> Result<(), ApplyError> {
        let led = |partition: &Option<Partition>| partition.as_ref().is_some_and(|it| it.leader == Some(node));
        let led_any = |topic: &Arc<Topic>| topic.partitions.iter().any(led);
        self.topics.change_where(led_any, |topic| {
            let topic = Arc::make_mut(topic);
            for (index, place) in topic.partitions.iter_mut().enumerate().filter(|(_, place)| led(place)) {
                let partition = place.as_mut().expect("only led partitions are left");
                let raised = (raise(partition.leader_epoch.value()), raise(partition.partition_epoch.value()));
                let (Some(leader_epoch), Some(partition_epoch)) = raised else {
                    return Err(went_back(&topic.name, index_of(index)));
                };
                partition.leader_epoch = LeaderEpoch::new(leader_epoch);
                partition.partition_epoch = PartitionEpoch::new(partition_epoch);
            }
            Ok(())
        })
    }

    fn unregister_broker(&mut self, record: &UnregisterBrokerRecord) -> Result<(), ApplyError> {
        let node = NodeId::new(record.broker_id);
        self.registration_at("UnregisterBrokerRecord", node, record.broker_epoch)?;
        Arc::make_mut(&mut self.brokers).remove(&node);
        Ok(())
    }

    fn change_registration(&mut self, record: &BrokerRegistrationChangeRecord) -> Result<(), ApplyError> {
        let node = NodeId::new(record.broker_id);
        let broker = self.registration_at("BrokerRegistrationChangeRecord", node, record.broker_epoch)?;
        let mut registration = broker.registration.clone();
        match record.fenced {
            -1 => registration.fenced = false,
            1 => registration.fenced = true,
            _ => {}
        }
        if record.in_controlled_shutdown == 1 {
            registration.in_controlled_shutdown = true;
        }
        if !record.log_dirs.is_empty() {
            registration.log_dirs.clone_from(&record.log_dirs);
        }
        Arc::make_mut(&mut self.brokers).insert(node, Arc::new(Broker { registration }));
        Ok(())
    }

    /// The registration that a record means, if it is the one in force.
    fn registration_at(&self, record: &'static str, node: NodeId, epoch: i64) -> Result<&Broker, ApplyError> {
        let broker = self.broker(node).ok_or(ApplyError::UnknownBroker { record, node })?;
        match broker.epoch() {
            known if known == epoch => Ok(broker),
            known => Err(ApplyError::BrokerEpoch { record, node, got: epoch, known }),
        }
    }

    fn create_topic(&mut self, record: &TopicRecord) -> Result<(), ApplyError> {
        let (name, id) = (&record.name, record.topic_id);
        if self.topic_ids.get(name).is_some() || self.topics.get(&id).is_some() {
            return Err(ApplyError::DuplicateTopic { name: Arc::clone(name), topic: id });
        }
        let topic = Topic { id, name: Arc::clone(name), partitions: Vec::new() };
        self.topic_ids.insert(Arc::clone(name), id);
        self.topics.insert(id, Arc::new(topic));
        if let Some(form) = topic_name::collision_form(name) {
            let mut names = self.collisions.get(form.as_str()).cloned().unwrap_or_default();
            names.insert(Arc::clone(name));
            self.collisions.insert(Arc::from(form), names);
        }
        Ok(())
    }

    fn set_partition(&mut self, record: &PartitionRecord) -> Result<(), ApplyError> {
        let partition_count = self.partition_count;
        let topic = self.topic_mut("PartitionRecord", record.topic_id)?;
        let index = usize::try_from(record.partition_id)
            .ok()
            .filter(|index| *index < limits::PARTITIONS_MAX)
            .ok_or_else(|| ApplyError::PartitionIndex { topic: topic.name.clone(), partition: record.partition_id })?;
        let partition = Partition::of(record);
        let (after, mut before) = (partition.leader, None);
        match topic.partitions.get(index).and_then(Option::as_ref) {
            Some(known) => {
                if partition.leader_epoch < known.leader_epoch || partition.partition_epoch < known.partition_epoch {
                    return Err(went_back(&topic.name, record.partition_id));
                }
                before = known.leader;
            }
            None if partition_count == limits::PARTITIONS_MAX => return Err(ApplyError::TooManyPartitions),
            None => self.partition_count += 1,
        }
        let topic = self.topic_mut("PartitionRecord", record.topic_id)?;
        if topic.partitions.len() <= index {
            topic.partitions.resize(index + 1, None);
        }
        topic.partitions[index] = Some(partition);
        self.count_leader(before, after);
        Ok(())
    }

    fn change_partition(&mut self, record: &PartitionChangeRecord) -> Result<(), ApplyError> {
        let topic = self.topic_mut("PartitionChangeRecord", record.topic_id)?;
        let place = usize::try_from(record.partition_id).ok().and_then(|index| topic.partitions.get_mut(index));
        let Some(Some(partition)) = place else {
            return Err(ApplyError::UnknownPartition { topic: topic.name.clone(), partition: record.partition_id });
        };
        let before = partition.leader;
        partition.change(record).ok_or_else(|| went_back(&topic.name, record.partition_id))?;
        let after = partition.leader;
        self.count_leader(before, after);
        Ok(())
    }

    /// A partition has passed from one leader to another.
    fn count_leader(&mut self, before: Option<NodeId>, after: Option<NodeId>) {
        if before == after {
            return;
        }
        let counts = Arc::make_mut(&mut self.leader_counts);
        if let Some(node) = before {
            let count = counts.get_mut(&node).expect("counted when it became leader");
            *count -= 1;
            if *count == 0 {
                counts.remove(&node);
            }
        }
        if let Some(node) = after {
            *counts.entry(node).or_default() += 1;
        }
    }

    fn remove_topic(&mut self, record: &RemoveTopicRecord) -> Result<(), ApplyError> {
        let topic = record.topic_id;
        let gone = self.topics.remove(&topic).ok_or(ApplyError::UnknownTopic { record: "RemoveTopicRecord", topic })?;
        self.topic_ids.remove(&gone.name);
        if let Some(form) = topic_name::collision_form(&gone.name) {
            let names = self.collisions.get_mut(form.as_str()).expect("entered when the topic was created");
            names.remove(&gone.name);
            if names.is_empty() {
                self.collisions.remove(form.as_str());
            }
        }
        self.partition_count -= gone.partition_count();
        for (_, partition) in gone.partitions() {
            self.count_leader(partition.leader, None);
        }
        if !self.topic_configs(&gone.name).is_empty() {
            let configs = Arc::make_mut(&mut self.configs);
            let resources = configs.entry(TOPIC_RESOURCE).or_default();
            resources.remove(&gone.name);
            if resources.is_empty() {
                configs.remove(&TOPIC_RESOURCE);
            }
        }
        Ok(())
    }

    fn set_config(&mut self, record: &ConfigRecord) {
        let configs = Arc::make_mut(&mut self.configs);
        let resources = configs.entry(record.resource_type).or_default();
        let resource = resources.entry(Arc::clone(&record.resource_name)).or_default();
        match &record.value {
            Some(value) => {
                resource.insert(record.name.to_string(), value.to_string());
            }
            None => {
                resource.remove(&*record.name);
            }
        }
        // Nothing set and never set are the same state.
        if resource.is_empty() {
            resources.remove(&record.resource_name);
        }
        if resources.is_empty() {
            configs.remove(&record.resource_type);
        }
    }

    fn set_feature(&mut self, record: &FeatureLevelRecord) -> Result<(), ApplyError> {
        let level = record.feature_level;
        if &*record.name == METADATA_VERSION && !(METADATA_VERSION_MIN..=METADATA_VERSION_LEVEL).contains(&level) {
            return Err(ApplyError::MetadataVersion(level));
        }
        let features = Arc::make_mut(&mut self.features);
        match level {
            0 => features.remove(&record.name),
            level => features.insert(Arc::clone(&record.name), level),
        };
        Ok(())
    }

    fn set_next_producer_id(&mut self, record: &ProducerIdsRecord) -> Result<(), ApplyError> {
        let (known, got) = (self.next_producer_id, record.next_producer_id);
        if got < known {
            return Err(ApplyError::ProducerIdWentBack { known, got });
        }
        self.next_producer_id = got;
        Ok(())
    }

    fn topic_mut(&mut self, record: &'static str, topic: TopicId) -> Result<&mut Topic, ApplyError> {
        self.topics.get_mut(&topic).map(Arc::make_mut).ok_or(ApplyError::UnknownTopic { record, topic })
    }
}

impl Broker {
    /// The node.
    pub fn node(&self) -> NodeId {
        NodeId::new(self.registration.broker_id)
    }

    /// Epoch of its registration.
    pub fn epoch(&self) -> i64 {
        self.registration.broker_epoch
    }

    /// This life of its process.
    pub fn incarnation(&self) -> Uuid {
        self.registration.incarnation_id
    }

    /// Its machine.
    pub fn rack(&self) -> Option<&str> {
        self.registration.rack.as_deref()
    }

    /// True while it may not lead.
    pub fn is_fenced(&self) -> bool {
        self.registration.fenced
    }

    /// Where it listens under a listener's name.
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.registration.end_points.iter().find(|endpoint| &*endpoint.name == listener)
    }
}

impl Topic {
    /// Its id: another for every life of the same name.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// One of its partitions.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        usize::try_from(index.value()).ok().and_then(|index| self.partitions.get(index)).and_then(Option::as_ref)
    }

    /// Its partitions by rising index.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &Partition)> {
        let places = self.partitions.iter().enumerate();
        places.filter_map(|(index, place)| Some((PartitionIndex::new(index_of(index)), place.as_ref()?)))
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> usize {
        self.partitions.iter().flatten().count()
    }
}

impl Partition {
    /// The partition that a record describes.
    fn of(record: &PartitionRecord) -> Partition {
        let replicas = nodes(&record.replicas);
        // With one replica both lists are the same memory.
        let isr = if record.isr == record.replicas { Arc::clone(&replicas) } else { nodes(&record.isr) };
        let rare = Rare {
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            leader_recovery_state: record.leader_recovery_state,
            directories: record.directories.clone(),
            eligible_leader_replicas: record.eligible_leader_replicas.clone(),
            last_known_elr: record.last_known_elr.clone(),
        };
        Partition {
            leader: Some(record.leader).filter(|leader| *leader != NO_LEADER).map(NodeId::new),
            leader_epoch: LeaderEpoch::new(record.leader_epoch),
            partition_epoch: PartitionEpoch::new(record.partition_epoch),
            replicas,
            isr,
            rare: Some(rare).filter(|rare| *rare != Rare::default()).map(Arc::new),
        }
    }

    /// The record that describes the partition.
    fn record(&self, topic_id: TopicId, index: PartitionIndex) -> PartitionRecord {
        let rare = self.rare.as_deref().cloned().unwrap_or_default();
        PartitionRecord {
            partition_id: index.value(),
            topic_id,
            replicas: numbers(&self.replicas),
            isr: numbers(&self.isr),
            removing_replicas: rare.removing_replicas,
            adding_replicas: rare.adding_replicas,
            leader: self.leader.map_or(NO_LEADER, NodeId::value),
            leader_recovery_state: rare.leader_recovery_state,
            leader_epoch: self.leader_epoch.value(),
            partition_epoch: self.partition_epoch.value(),
            directories: rare.directories,
            eligible_leader_replicas: rare.eligible_leader_replicas,
            last_known_elr: rare.last_known_elr,
        }
    }

    /// Lays a change over the partition, as Kafka's `PartitionRegistration.merge` does. `None`: an epoch is at its end.
    fn change(&mut self, change: &PartitionChangeRecord) -> Option<()> {
        let mut rare = self.rare.as_deref().cloned().unwrap_or_default();
        if change.leader != NO_LEADER_CHANGE {
            self.leader_epoch = LeaderEpoch::new(raise(self.leader_epoch.value())?);
            self.leader = Some(change.leader).filter(|leader| *leader != NO_LEADER).map(NodeId::new);
        }
        self.partition_epoch = PartitionEpoch::new(raise(self.partition_epoch.value())?);
        if let Some(replicas) = &change.replicas {
            self.replicas = nodes(replicas);
        }
        if let Some(isr) = &change.isr {
            self.isr = nodes(isr);
        }
        if let Some(removing) = &change.removing_replicas {
            rare.removing_replicas.clone_from(removing);
        }
        if let Some(adding) = &change.adding_replicas {
            rare.adding_replicas.clone_from(adding);
        }
        if change.leader_recovery_state != -1 {
            rare.leader_recovery_state = change.leader_recovery_state;
        }
        if let Some(directories) = &change.directories {
            rare.directories.clone_from(directories);
        }
        if change.eligible_leader_replicas.is_some() {
            rare.eligible_leader_replicas.clone_from(&change.eligible_leader_replicas);
        }
        if change.last_known_elr.is_some() {
            rare.last_known_elr.clone_from(&change.last_known_elr);
        }
        self.rare = Some(rare).filter(|rare| *rare != Rare::default()).map(Arc::new);
        Some(())
    }
}

fn nodes(numbers: &[i32]) -> Arc<[NodeId]> {
    numbers.iter().copied().map(NodeId::new).collect()
}

fn numbers(nodes: &[NodeId]) -> Vec<i32> {
    nodes.iter().map(|node| node.value()).collect()
}

/// The epoch after this one; `None` at the end of its type.
fn raise(epoch: i32) -> Option<i32> {
    epoch.checked_add(1)
}

fn index_of(index: usize) -> i32 {
    i32::try_from(index).expect("bounded by PARTITIONS_MAX")
}

fn went_back(topic: &Arc<str>, partition: i32) -> ApplyError {
    ApplyError::EpochWentBack { topic: Arc::clone(topic), partition }
}

#[cfg(test)]
mod tests {
    use super::super::records::{AbortTransactionRecord, BeginTransactionRecord, EndTransactionRecord};
    use super::*;

    const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

    fn id(number: u8) -> TopicId {
        TopicId::new([number; 16])
    }

    fn register(node: i32, incarnation: u8, epoch: i64) -> Record {
        let end_point = BrokerEndpoint {
            name: Arc::from("PLAINTEXT"),
            host: Arc::from("localhost"),
            port: 9092,
            security_protocol: 0,
        };
        let record = RegisterBrokerRecord {
            broker_id: node,
            incarnation_id: id(incarnation),
            broker_epoch: epoch,
            end_points: vec![end_point],
            fenced: false,
            ..RegisterBrokerRecord::default()
        };
        record.into()
    }

    fn topic(number: u8, name: &str) -> Record {
        TopicRecord { name: Arc::from(name), topic_id: id(number) }.into()
    }

    fn partition(topic: u8, index: i32, leader: i32, epoch: i32) -> Record {
        let record = PartitionRecord {
            partition_id: index,
            topic_id: id(topic),
            replicas: vec![leader],
            isr: vec![leader],
            leader,
            leader_epoch: epoch,
            partition_epoch: epoch,
            ..PartitionRecord::default()
        };
        record.into()
    }

    fn config(resource_type: i8, resource: &str, name: &str, value: Option<&str>) -> Record {
        let (resource_name, name, value) = (Arc::from(resource), Arc::from(name), value.map(Arc::from));
        ConfigRecord { resource_type, resource_name, name, value }.into()
    }

    fn image(records: &[Record]) -> MetadataImage {
        MetadataImage::empty(CLUSTER).apply(records).unwrap()
    }

    fn epochs(image: &MetadataImage, name: &str, index: i32) -> (i32, i32) {
        let partition = image.topic(name).unwrap().partition(PartitionIndex::new(index)).unwrap();
        (partition.leader_epoch.value(), partition.partition_epoch.value())
    }

    #[test]
    fn topics_are_found_by_name_and_by_id() {
        let image = image(&[register(1, 1, 1), topic(7, "b"), partition(7, 0, 1, 0), topic(8, "a")]);
        assert_eq!(image.topic("b").unwrap().id(), id(7));
        assert_eq!(&**image.topic_by_id(id(8)).unwrap().name(), "a");
        assert_eq!(image.topics().map(|topic| topic.name().to_string()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((image.topic_count(), image.partition_count()), (2, 1));
        assert!(image.topic("c").is_none());
    }

    #[test]
    fn an_image_does_not_change_when_the_next_is_derived() {
        let before = image(&[register(1, 1, 1), topic(7, "a"), partition(7, 0, 1, 0)]);
        let copy = before.clone();
        let after = before.apply(&[partition(7, 1, 1, 0), topic(8, "b")]).unwrap();
        assert_eq!(before, copy);
        assert_eq!((before.partition_count(), after.partition_count()), (1, 2));
        assert!(Arc::ptr_eq(&before.brokers, &after.brokers));
    }

    #[test]
    fn a_restart_raises_the_epochs_of_what_the_node_leads() {
        let records =
            [register(1, 1, 1), register(2, 2, 1), topic(7, "a"), partition(7, 0, 1, 0), partition(7, 1, 2, 4)];
        let before = image(&records);
        let same_life = before.apply(&[register(1, 1, 2)]).unwrap();
        assert_eq!(epochs(&same_life, "a", 0), (0, 0));
        let restarted = before.apply(&[register(1, 9, 2)]).unwrap();
        assert_eq!(epochs(&restarted, "a", 0), (1, 1));
        assert_eq!(epochs(&restarted, "a", 1), (4, 4));
        let again = restarted.apply(&[register(1, 10, 3), register(2, 11, 2)]).unwrap();
        assert_eq!((epochs(&again, "a", 0), epochs(&again, "a", 1)), ((2, 2), (5, 5)));
    }

    #[test]
    fn a_registration_of_an_earlier_life_is_refused() {
        let image = image(&[register(1, 1, 5)]);
        let refused =
            ApplyError::BrokerEpoch { record: "RegisterBrokerRecord", node: NodeId::new(1), got: 5, known: 5 };
        assert_eq!(image.apply(&[register(1, 2, 5)]), Err(refused));
        assert!(image.apply(&[register(1, 1, 4)]).is_err());
    }

    #[test]
    fn standing_of_a_node_changes_at_its_epoch_only() {
        let image = image(&[register(1, 1, 5)]);
        let fence = |epoch, fenced| BrokerRegistrationChangeRecord {
            broker_id: 1,
            broker_epoch: epoch,
            fenced,
            ..BrokerRegistrationChangeRecord::default()
        };
        let fenced = image.apply(&[fence(5, 1).into()]).unwrap();
        assert!(fenced.broker(NodeId::new(1)).unwrap().is_fenced());
        let unfenced = fenced.apply(&[fence(5, -1).into()]).unwrap();
        assert!(!unfenced.broker(NodeId::new(1)).unwrap().is_fenced());
        assert!(image.apply(&[fence(4, 1).into()]).is_err());
        let gone = image.apply(&[UnregisterBrokerRecord { broker_id: 1, broker_epoch: 5 }.into()]).unwrap();
        assert!(gone.broker(NodeId::new(1)).is_none());
        assert!(gone.apply(&[fence(5, 1).into()]).is_err());
    }

    #[test]
    fn epochs_and_producer_ids_never_go_back() {
        let image = image(&[register(1, 1, 1), topic(7, "a"), partition(7, 0, 1, 5)]);
        assert_eq!(
            image.apply(&[partition(7, 0, 1, 4)]),
            Err(ApplyError::EpochWentBack { topic: Arc::from("a"), partition: 0 })
        );
        let ids = |next_producer_id| ProducerIdsRecord { next_producer_id, ..ProducerIdsRecord::default() }.into();
        let given = image.apply(&[ids(1000)]).unwrap();
        assert_eq!(given.next_producer_id(), 1000);
        assert_eq!(given.apply(&[ids(999)]), Err(ApplyError::ProducerIdWentBack { known: 1000, got: 999 }));
        let end = image.apply(&[partition(7, 1, 1, i32::MAX)]).unwrap();
        assert!(matches!(end.apply(&[register(1, 2, 2)]), Err(ApplyError::EpochWentBack { .. })));
    }

    #[test]
    fn a_change_of_leader_raises_both_epochs_and_any_other_change_one() {
        let image = image(&[register(1, 1, 1), topic(7, "a"), partition(7, 0, 1, 0)]);
        let change = PartitionChangeRecord { partition_id: 0, topic_id: id(7), ..PartitionChangeRecord::default() };
        let isr = PartitionChangeRecord { isr: Some(vec![1, 2]), ..change.clone() };
        let changed = image.apply(&[isr.into()]).unwrap();
        assert_eq!(epochs(&changed, "a", 0), (0, 1));
        let led = PartitionChangeRecord { leader: 2, ..change.clone() };
        let changed = changed.apply(&[led.into()]).unwrap();
        assert_eq!(epochs(&changed, "a", 0), (1, 2));
        let leaderless = PartitionChangeRecord { leader: NO_LEADER, ..change.clone() };
        let changed = changed.apply(&[leaderless.into()]).unwrap();
        let partition = changed.topic("a").unwrap().partition(PartitionIndex::new(0)).unwrap();
        assert_eq!((partition.leader, partition.isr.len()), (None, 2));
        let unknown = PartitionChangeRecord { partition_id: 1, ..change };
        assert!(matches!(image.apply(&[unknown.into()]), Err(ApplyError::UnknownPartition { .. })));
    }

    #[test]
    fn partitions_may_come_in_any_order_within_bounds() {
        let image = image(&[register(1, 1, 1), topic(7, "a"), partition(7, 2, 1, 0), partition(7, 0, 1, 0)]);
        let topic = image.topic("a").unwrap();
        let indexes: Vec<i32> = topic.partitions().map(|(index, _)| index.value()).collect();
        assert_eq!((indexes, topic.partition_count(), image.partition_count()), (vec![0, 2], 2, 2));
        for index in [-1, i32::MAX, i32::try_from(limits::PARTITIONS_MAX).unwrap()] {
            assert!(matches!(image.apply(&[partition(7, index, 1, 0)]), Err(ApplyError::PartitionIndex { .. })));
        }
    }

    #[test]
    fn a_removed_topic_takes_its_partitions_and_configs_along() {
        let records = [topic(7, "a"), partition(7, 0, 1, 0), config(TOPIC_RESOURCE, "a", "retention.ms", Some("1"))];
        let image = image(&records);
        assert_eq!(image.topic_configs("a").len(), 1);
        let gone = image.apply(&[RemoveTopicRecord { topic_id: id(7) }.into()]).unwrap();
        assert_eq!(gone, MetadataImage::empty(CLUSTER));
        assert!(gone.topic_configs("a").is_empty());
        assert!(matches!(
            gone.apply(&[RemoveTopicRecord { topic_id: id(7) }.into()]),
            Err(ApplyError::UnknownTopic { .. })
        ));
    }

    #[test]
    fn names_and_ids_are_taken_once() {
        let image = image(&[topic(7, "a")]);
        assert!(matches!(image.apply(&[topic(8, "a")]), Err(ApplyError::DuplicateTopic { .. })));
        assert!(matches!(image.apply(&[topic(7, "b")]), Err(ApplyError::DuplicateTopic { .. })));
    }

    #[test]
    fn names_that_metrics_confuse_find_each_other_while_they_exist() {
        let both = image(&[topic(7, "a.b"), topic(8, "a_b"), topic(9, "a-b")]);
        assert_eq!(both.colliding_topic("a.b").map(|name| &**name), Some("a_b"));
        let one = both.apply(&[RemoveTopicRecord { topic_id: id(8) }.into()]).unwrap();
        assert_eq!((one.colliding_topic("a.b"), one.colliding_topic("a_b").is_some()), (None, true));
        assert_eq!(one.colliding_topic("a-b"), None);
        assert_eq!(image(&both.snapshot_records().collect::<Vec<_>>()), both);
    }

    #[test]
    fn configs_are_set_and_unset_per_resource() {
        let image = image(&[
            config(BROKER_RESOURCE, "", "log.retention.ms", Some("1")),
            config(BROKER_RESOURCE, "3", "log.retention.ms", Some("2")),
        ]);
        assert_eq!(image.cluster_configs().get("log.retention.ms").map(String::as_str), Some("1"));
        assert_eq!(image.broker_configs(NodeId::new(3)).get("log.retention.ms").map(String::as_str), Some("2"));
        let unset = image.apply(&[config(BROKER_RESOURCE, "3", "log.retention.ms", None)]).unwrap();
        assert!(unset.broker_configs(NodeId::new(3)).is_empty());
    }

    #[test]
    fn a_transaction_is_published_at_its_end_or_never() {
        let begin = Record::from(BeginTransactionRecord::default());
        let open = image(&[begin.clone(), topic(7, "a")]);
        assert!(open.topic("a").is_none());
        assert_eq!(open.apply(std::slice::from_ref(&begin)), Err(ApplyError::NestedTransaction));
        let ended = open.apply(&[EndTransactionRecord {}.into()]).unwrap();
        assert!(ended.topic("a").is_some());
        let aborted = open.apply(&[AbortTransactionRecord::default().into()]).unwrap();
        assert_eq!(aborted, MetadataImage::empty(CLUSTER));
        assert_eq!(
            ended.apply(&[EndTransactionRecord {}.into()]),
            Err(ApplyError::NoTransaction("EndTransactionRecord"))
        );
        // A snapshot taken inside carries what waits.
        assert_eq!(image(&open.snapshot_records().collect::<Vec<_>>()), open);
    }

    #[test]
    fn a_metadata_version_above_ours_is_refused() {
        let level = |feature_level| FeatureLevelRecord { name: Arc::from(METADATA_VERSION), feature_level }.into();
        let image = image(&[level(METADATA_VERSION_LEVEL)]);
        assert_eq!(image.feature(METADATA_VERSION), 27);
        assert_eq!(image.apply(&[level(28)]), Err(ApplyError::MetadataVersion(28)));
    }

    #[test]
    fn a_snapshot_keeps_everything_a_partition_has() {
        let full = PartitionRecord {
            partition_id: 0,
            topic_id: id(7),
            replicas: vec![1, 2],
            isr: vec![1],
            removing_replicas: vec![2],
            adding_replicas: vec![3],
            leader: 1,
            leader_recovery_state: 1,
            leader_epoch: 3,
            partition_epoch: 4,
            directories: vec![id(1), id(2)],
            eligible_leader_replicas: Some(vec![2]),
            last_known_elr: Some(vec![1]),
        };
        let image = image(&[topic(7, "a"), full.clone().into()]);
        assert!(image.snapshot_records().any(|record| record == full.clone().into()));
    }
}
