//! The one writer of metadata, on shard 0: the part that decides.
//!
//! Every function is pure: the image as it is and a request, to the records that would change it and the answer to give
//! once they are durable and published. Appending them, waiting and telling the other shards is done elsewhere. Records of
//! one call go into one batch, so that they are kept or lost together.
//!
//! A partition has one replica. Copies inside one process protect from nothing and cost their number, so a replication
//! factor above 1 is refused, unless `allow.same.machine.replicas` says that some tool insists; then one replica is kept
//! all the same, and reported.

pub mod configs;
pub mod partitions;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::cluster::image::{
    GROUP_VERSION, GROUP_VERSION_LEVEL, METADATA_VERSION, METADATA_VERSION_LEVEL, METADATA_VERSION_MIN, MetadataImage,
    TOPIC_RESOURCE,
};
use crate::cluster::records::{
    BrokerEndpoint, BrokerFeature, ConfigRecord, FeatureLevelRecord, PartitionRecord, ProducerIdsRecord, Record,
    RegisterBrokerRecord, RemoveTopicRecord, TopicRecord, Uuid,
};
use crate::cluster::topic_name;
use crate::cluster::view::LISTENER;
use crate::config::topic::{self, Dynamic, TOPIC_KEYS};
use crate::config::{BrokerConfig, Configs};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicConfigs, CreatableTopicResult,
    CreateTopicsRequest, CreateTopicsResponse,
};
use crate::protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use crate::shard::message::ProducerIdBlock;
use crate::types::{NodeId, ShardId, TopicId};

/// Random bits, from the runtime.
pub type Random<'a> = &'a mut dyn FnMut() -> u64;

/// A node of this process as it starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeStart {
    /// The node.
    pub node: NodeId,
    /// Host that clients are told.
    pub host: String,
    /// Port that clients are told.
    pub port: u16,
    /// Its machine.
    pub rack: Option<String>,
}

/// The records of a start: every node registers with a new incarnation, which raises the epochs of what it leads. Must
/// be durable before the first answer.
pub fn register_nodes(image: &MetadataImage, nodes: &[NodeStart], random: Random<'_>) -> Vec<Record> {
    let mut records = Vec::with_capacity(nodes.len() + 2);
    if image.feature(METADATA_VERSION) == 0 {
        // A metadata log begins with the version that reads it.
        let name = Arc::from(METADATA_VERSION);
        records.push(FeatureLevelRecord { name, feature_level: METADATA_VERSION_LEVEL }.into());
    }
    if image.feature(GROUP_VERSION) == 0 {
        // Also where an older version began the log: groups of the consumer protocol need no other state of it.
        records.push(FeatureLevelRecord { name: Arc::from(GROUP_VERSION), feature_level: GROUP_VERSION_LEVEL }.into());
    }
    for node in nodes {
        let known_epoch = image.broker(node.node).map_or(0, |broker| broker.epoch());
        let registration = RegisterBrokerRecord {
            broker_id: node.node.value(),
            incarnation_id: random_uuid(random),
            broker_epoch: known_epoch + 1,
            end_points: vec![BrokerEndpoint {
                name: Arc::from(LISTENER),
                host: Arc::from(node.host.as_str()),
                port: node.port,
                security_protocol: 0,
            }],
            features: vec![
                BrokerFeature {
                    name: Arc::from(GROUP_VERSION),
                    min_supported_version: 0,
                    max_supported_version: GROUP_VERSION_LEVEL,
                },
                BrokerFeature {
                    name: Arc::from(METADATA_VERSION),
                    min_supported_version: METADATA_VERSION_MIN,
                    max_supported_version: METADATA_VERSION_LEVEL,
                },
            ],
            rack: node.rack.as_deref().map(Arc::from),
            fenced: false,
            ..RegisterBrokerRecord::default()
        };
        records.push(registration.into());
        if image.broker(node.node).is_none() {
            records.extend(configs::inherited(image, NodeId::of_shard(ShardId::CONTROLLER), node.node));
        }
    }
    records
}

/// Why one topic of a request is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Refusal {
    error: ErrorCode,
    message: String,
}

fn refuse<T>(error: ErrorCode, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { error, message: message.into() })
}

/// How often each thing stands in a request; in their order, so that an answer follows from its request.
fn times<K: Ord>(things: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut times = BTreeMap::new();
    for thing in things {
        *times.entry(thing).or_default() += 1;
    }
    times
}

/// CreateTopics: one result for each topic of the request, in its order; names that stand twice come last.
///
/// With `validate_only` the answer is the same and the records are none.
pub fn create_topics(
    image: &MetadataImage,
    config: &BrokerConfig,
    request: &CreateTopicsRequest<'_>,
    random: Random<'_>,
) -> (Vec<Record>, CreateTopicsResponse<'static>) {
    let mut seen = times(request.topics.iter().map(|topic| &*topic.name));
    let mut placement = Placement::new(image, random);
    let mut records = Vec::new();
    let mut results = Vec::new();
    for topic in request.topics.iter().filter(|topic| seen[&*topic.name] == 1) {
        results.push(match plan_topic(image, config, topic, &mut placement) {
            Ok(plan) => {
                let result = plan.result(image, config);
                records.extend(plan.records());
                result
            }
            Err(refusal) => refused(&topic.name, refusal),
        });
    }
    for topic in &request.topics {
        if seen.get(&*topic.name).is_some_and(|times| *times > 1) {
            seen.remove(&*topic.name);
            let message = "Duplicate topic name.".to_owned();
            results.push(refused(&topic.name, Refusal { error: ErrorCode::InvalidRequest, message }));
        }
    }
    if request.validate_only {
        records.clear();
    }
    (records, CreateTopicsResponse { topics: results, ..CreateTopicsResponse::default() })
}

/// The topics that were asked for and do not exist: the records that create those that can be, with the broker's
/// defaults. The broker's own topics get the partitions and the configuration that their readers expect.
pub fn auto_create_topics(
    image: &MetadataImage,
    config: &BrokerConfig,
    names: &[String],
    random: Random<'_>,
) -> Vec<Record> {
    let mut placement = Placement::new(image, random);
    let mut seen = HashSet::new();
    let mut records = Vec::new();
    for name in names.iter().filter(|name| seen.insert(name.as_str())) {
        if let Ok(plan) = plan_topic(image, config, &default_topic(config, name), &mut placement) {
            records.extend(plan.records());
        }
    }
    records
}

/// DeleteTopics, by name or by id (v6+). The order of the results is not that of the request, as in Kafka.
pub fn delete_topics(
    image: &MetadataImage,
    config: &BrokerConfig,
    request: &DeleteTopicsRequest<'_>,
    version: i16,
) -> (Vec<Record>, DeleteTopicsResponse<'static>) {
    let mut deletion = Deletion::default();
    if !config.delete_topic_enable {
        deletion.disabled(request, version);
    } else {
        deletion.collect(request);
        deletion.resolve(image);
    }
    let records = deletion.doomed.keys().map(|id| RemoveTopicRecord { topic_id: *id }.into()).collect();
    for (id, name) in std::mem::take(&mut deletion.doomed) {
        deletion.answer(Some(&name), id, ErrorCode::None, None);
    }
    (records, DeleteTopicsResponse { responses: deletion.results, ..DeleteTopicsResponse::default() })
}

/// There are no producer ids left: 2^63 have been given out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("all producer ids have been given out")]
pub struct ProducerIdsExhausted;

/// The next block of producer ids for a node, and the record that must be durable before one of them is given out.
pub fn allocate_producer_ids(
    image: &MetadataImage,
    node: NodeId,
) -> Result<(Record, ProducerIdBlock), ProducerIdsExhausted> {
    let next = image.next_producer_id();
    let end = next.checked_add(limits::PRODUCER_ID_BLOCK).ok_or(ProducerIdsExhausted)?;
    let broker_epoch = image.broker(node).map_or(-1, |broker| broker.epoch());
    let record = ProducerIdsRecord { broker_id: node.value(), broker_epoch, next_producer_id: end };
    Ok((record.into(), ProducerIdBlock::new(next..end)))
}

/// Where new partitions go, with what this request has placed already.
struct Placement<'a> {
    /// Partitions led by each node that is alive, in the order in which equals are chosen.
    loads: Vec<(NodeId, usize)>,
    partition_count: usize,
    /// Partitions that this request may still make.
    left: usize,
    random: Random<'a>,
}

impl<'a> Placement<'a> {
    fn new(image: &MetadataImage, random: Random<'a>) -> Placement<'a> {
        let alive = image.brokers().filter(|broker| !broker.is_fenced());
        let mut loads: Vec<(NodeId, usize)> =
            alive.map(|broker| (broker.node(), image.leader_count(broker.node()))).collect();
        // Equals are chosen from a random one on, or the first node would lead all first partitions.
        if let Some(start) = u64::try_from(loads.len()).ok().and_then(|count| random().checked_rem(count)) {
            loads.rotate_left(usize::try_from(start).expect("below a length"));
        }
        let left = limits::NEW_PARTITIONS_PER_REQUEST_MAX;
        Placement { loads, partition_count: image.partition_count(), left, random }
    }

    fn is_alive(&self, node: NodeId) -> bool {
        self.loads.iter().any(|(alive, _)| *alive == node)
    }

    /// Leaders for the partitions of a new topic. A topic spreads over all nodes first, whatever else they lead; among
    /// nodes that hold as much of it, the one that leads the least is next. Empty: no node is alive.
    fn spread(&mut self, partitions: usize) -> Vec<NodeId> {
        self.spread_beside(std::iter::empty(), partitions)
    }

    /// The same for a topic that has partitions already, led by `present`.
    fn spread_beside(&mut self, present: impl Iterator<Item = NodeId>, partitions: usize) -> Vec<NodeId> {
        let mut own = vec![0_usize; self.loads.len()];
        for leader in present {
            if let Some(index) = self.loads.iter().position(|(node, _)| *node == leader) {
                own[index] += 1;
            }
        }
        let mut leaders = Vec::new();
        for _ in 0..partitions {
            let least = (0..self.loads.len()).min_by_key(|index| (own[*index], self.loads[*index].1));
            let Some(index) = least else { break };
            own[index] += 1;
            self.loads[index].1 += 1;
            leaders.push(self.loads[index].0);
        }
        leaders
    }

    /// Counts partitions that the request placed itself.
    fn count(&mut self, leaders: &[NodeId]) {
        for leader in leaders {
            if let Some((_, load)) = self.loads.iter_mut().find(|(node, _)| node == leader) {
                *load += 1;
            }
        }
    }

    /// Counts partitions against what the cluster and what one request may have. Kafka refuses a request of too many
    /// records (10,000) as a whole; here the topics that go beyond the bound are refused.
    fn take_room(&mut self, partitions: usize) -> Result<(), Refusal> {
        let after = self.partition_count.saturating_add(partitions);
        if after > limits::PARTITIONS_MAX {
            let max = limits::PARTITIONS_MAX;
            return refuse(
                ErrorCode::InvalidPartitions,
                format!("The cluster would have {after} partitions, more than the {max} that it may have."),
            );
        }
        let Some(left) = self.left.checked_sub(partitions) else {
            return refuse(ErrorCode::PolicyViolation, "Unable to perform excessively large batch operation.");
        };
        self.left = left;
        self.partition_count = after;
        Ok(())
    }
}

/// A topic that can be created.
struct Plan {
    name: Arc<str>,
    id: TopicId,
    configs: Configs,
    leaders: Vec<NodeId>,
}

/// Decides whether and how a topic can be created. Checks in Kafka's order.
fn plan_topic(
    image: &MetadataImage,
    config: &BrokerConfig,
    topic: &CreatableTopic<'_>,
    placement: &mut Placement<'_>,
) -> Result<Plan, Refusal> {
    check_name(image, &topic.name)?;
    let configs = check_configs(config, &topic.configs)?;
    let leaders = match topic.assignments.is_empty() {
        true => place_freely(config, topic, placement)?,
        false => place_as_told(image, config, topic, placement)?,
    };
    let id = loop {
        let id = random_uuid(placement.random);
        if image.topic_by_id(id).is_none() {
            break id;
        }
    };
    Ok(Plan { name: Arc::from(&*topic.name), id, configs, leaders })
}

fn check_name(image: &MetadataImage, name: &str) -> Result<(), Refusal> {
    if name == topic_name::CLUSTER_METADATA {
        return refuse(ErrorCode::InvalidRequest, format!("Creation of internal topic {name} is prohibited."));
    }
    if let Err(invalid) = topic_name::validate(name) {
        return refuse(ErrorCode::InvalidTopicException, invalid.to_string());
    }
    if image.topic(name).is_some() {
        return refuse(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists."));
    }
    match image.colliding_topic(name) {
        None => Ok(()),
        Some(other) => {
            refuse(ErrorCode::InvalidTopicException, format!("Topic '{name}' collides with existing topic: {other}"))
        }
    }
}

fn check_configs(config: &BrokerConfig, configs: &[CreatableTopicConfig<'_>]) -> Result<Configs, Refusal> {
    let nulls: Vec<&str> = configs.iter().filter(|it| it.value.is_none()).map(|it| &*it.name).collect();
    if !nulls.is_empty() {
        let names = nulls.join(",");
        return refuse(ErrorCode::InvalidConfig, format!("Null value not supported for topic configs: {names}"));
    }
    let given = configs.iter().filter_map(|it| Some((&*it.name, it.value.as_deref()?)));
    topic::validate(config, given).or_else(|error| refuse(ErrorCode::InvalidConfig, error.to_string()))
}

/// The broker chooses the nodes.
fn place_freely(
    config: &BrokerConfig,
    topic: &CreatableTopic<'_>,
    placement: &mut Placement<'_>,
) -> Result<Vec<NodeId>, Refusal> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        return refuse(
            ErrorCode::InvalidReplicationFactor,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        );
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        return refuse(ErrorCode::InvalidPartitions, "Number of partitions was set to an invalid non-positive value.");
    }
    let wanted = match topic.replication_factor {
        -1 => config.default_replication_factor,
        wanted => wanted,
    };
    check_replicas(config, i64::from(wanted))?;
    let partitions = match topic.num_partitions {
        -1 => config.num_partitions,
        partitions => partitions,
    };
    let partitions = usize::try_from(partitions).expect("checked to be above zero");
    placement.take_room(partitions)?;
    let leaders = placement.spread(partitions);
    if leaders.is_empty() {
        return refuse(
            ErrorCode::InvalidReplicationFactor,
            format!("Unable to replicate the partition {wanted} time(s): All brokers are currently fenced."),
        );
    }
    Ok(leaders)
}

/// The request names the nodes.
fn place_as_told(
    image: &MetadataImage,
    config: &BrokerConfig,
    topic: &CreatableTopic<'_>,
    placement: &mut Placement<'_>,
) -> Result<Vec<NodeId>, Refusal> {
    if topic.replication_factor != -1 {
        return refuse(
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        );
    }
    if topic.num_partitions != -1 {
        return refuse(
            ErrorCode::InvalidRequest,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        );
    }
    let mut leaders = BTreeMap::new();
    let replicas = topic.assignments[0].broker_ids.len();
    for assignment in &topic.assignments {
        let leader = check_assignment(image, assignment, replicas, placement)?;
        if leaders.insert(assignment.partition_index, leader).is_some() {
            let index = assignment.partition_index;
            return refuse(
                ErrorCode::InvalidReplicaAssignment,
                format!("Found multiple manual partition assignments for partition {index}"),
            );
        }
    }
    if !leaders.keys().copied().eq((0..).take(leaders.len())) {
        return refuse(
            ErrorCode::InvalidReplicaAssignment,
            "partitions should be a consecutive 0-based integer sequence",
        );
    }
    check_replicas(config, i64::try_from(replicas).unwrap_or(i64::MAX))?;
    placement.take_room(leaders.len())?;
    let leaders: Vec<NodeId> = leaders.into_values().collect();
    placement.count(&leaders);
    Ok(leaders)
}

/// Checks the nodes of one partition and returns the one that will hold it: the first that is alive.
fn check_assignment(
    image: &MetadataImage,
    assignment: &CreatableReplicaAssignment,
    replicas: usize,
    placement: &Placement<'_>,
) -> Result<NodeId, Refusal> {
    let told = |message: String| refuse(ErrorCode::InvalidReplicaAssignment, message);
    let ids = &assignment.broker_ids;
    if ids.is_empty() {
        return told("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut seen = HashSet::new();
    for id in ids {
        if !seen.insert(id) {
            return told(format!("The manual partition assignment includes the broker {id} more than once."));
        }
        if image.broker(NodeId::new(*id)).is_none() {
            return told(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
    }
    if ids.len() != replicas {
        return told(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             previous partitions, which have {replicas} replica(s).",
            ids.len()
        ));
    }
    let alive = ids.iter().copied().map(NodeId::new).find(|node| placement.is_alive(*node));
    alive.map_or_else(
        || {
            let index = assignment.partition_index;
            told(format!("All brokers specified in the manual partition assignment for partition {index} are fenced."))
        },
        Ok,
    )
}

/// One replica, or as many as one likes where the operator has said that they need not exist.
fn check_replicas(config: &BrokerConfig, wanted: i64) -> Result<(), Refusal> {
    if wanted > 1 && !config.allow_same_machine_replicas {
        return refuse(
            ErrorCode::InvalidReplicationFactor,
            format!(
                "Unable to replicate the partition {wanted} time(s): all nodes of this cluster are cores of one process \
                 on one machine, where further copies protect from nothing. Ask for 1 (or -1), or set \
                 allow.same.machine.replicas=true on the broker to have it accept the number and keep one replica."
            ),
        );
    }
    Ok(())
}

impl Plan {
    fn records(self) -> Vec<Record> {
        let mut records = Vec::with_capacity(1 + self.configs.len() + self.leaders.len());
        records.push(TopicRecord { name: Arc::clone(&self.name), topic_id: self.id }.into());
        for (name, value) in &self.configs {
            let record = ConfigRecord {
                resource_type: TOPIC_RESOURCE,
                resource_name: Arc::clone(&self.name),
                name: Arc::from(name.as_str()),
                value: Some(Arc::from(value.as_str())),
            };
            records.push(record.into());
        }
        for (partition_id, leader) in (0..).zip(&self.leaders) {
            let record = PartitionRecord {
                partition_id,
                topic_id: self.id,
                replicas: vec![leader.value()],
                isr: vec![leader.value()],
                leader: leader.value(),
                leader_epoch: 0,
                partition_epoch: 0,
                ..PartitionRecord::default()
            };
            records.push(record.into());
        }
        records
    }

    fn result(&self, image: &MetadataImage, config: &BrokerConfig) -> CreatableTopicResult<'static> {
        let dynamic = Dynamic {
            topic: &self.configs,
            node: image.broker_configs(NodeId::of_shard(ShardId::CONTROLLER)),
            cluster: image.cluster_configs(),
        };
        let configs = TOPIC_KEYS.iter().map(|key| {
            let (value, source) = key.effective(config, dynamic);
            CreatableTopicConfigs {
                name: Cow::Borrowed(key.name),
                value: Some(Cow::Owned(value)),
                read_only: false,
                config_source: source.id(),
                is_sensitive: false,
            }
        });
        CreatableTopicResult {
            name: Cow::Owned(self.name.to_string()),
            topic_id: self.id,
            error_code: ErrorCode::None.code(),
            error_message: None,
            topic_config_error_code: ErrorCode::None.code(),
            num_partitions: i32::try_from(self.leaders.len()).expect("bounded by PARTITIONS_MAX"),
            replication_factor: 1,
            configs: Some(configs.collect()),
        }
    }
}

fn refused(name: &str, refusal: Refusal) -> CreatableTopicResult<'static> {
    CreatableTopicResult {
        name: Cow::Owned(name.to_owned()),
        error_code: refusal.error.code(),
        error_message: Some(Cow::Owned(refusal.message)),
        ..CreatableTopicResult::default()
    }
}

/// What a topic gets that is created because somebody asked for it.
fn default_topic(config: &BrokerConfig, name: &str) -> CreatableTopic<'static> {
    let text = |value: String| Some(Cow::Owned(value));
    let row = |name, value| CreatableTopicConfig { name: Cow::Borrowed(name), value };
    let (num_partitions, replication_factor, configs) = match name {
        topic_name::CONSUMER_OFFSETS => {
            let segment = text(config.offsets_topic_segment_bytes.to_string());
            // Kafka's `OffsetConfig`.
            let configs = vec![
                row("cleanup.policy", text("compact".to_owned())),
                row("compression.type", text("producer".to_owned())),
                row("segment.bytes", segment),
            ];
            (config.offsets_topic_num_partitions, 1, configs)
        }
        topic_name::TRANSACTION_STATE => {
            let configs = vec![row("cleanup.policy", text("compact".to_owned()))];
            (config.transaction_state_log_num_partitions, 1, configs)
        }
        _ => (-1, -1, Vec::new()),
    };
    CreatableTopic {
        name: Cow::Owned(name.to_owned()),
        num_partitions,
        replication_factor,
        assignments: Vec::new(),
        configs,
    }
}

/// The work of one DeleteTopics.
#[derive(Default)]
struct Deletion<'a> {
    names: Vec<&'a str>,
    ids: Vec<TopicId>,
    duplicate_ids: HashSet<TopicId>,
    doomed: BTreeMap<TopicId, Arc<str>>,
    results: Vec<DeletableTopicResult<'static>>,
}

impl<'a> Deletion<'a> {
    /// `delete.topic.enable=false`: every topic gets the same error. Versions before 3 do not know its proper code.
    fn disabled(&mut self, request: &'a DeleteTopicsRequest<'a>, version: i16) {
        let error = if version < 3 { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        let message = "Topic deletion is disabled.";
        for name in &request.topic_names {
            self.answer(Some(name), TopicId::ZERO, error, Some(message));
        }
        for topic in &request.topics {
            self.answer(topic.name.as_deref(), topic.topic_id, error, Some(message));
        }
    }

    /// Sorts out what is asked for; what stands twice is not deleted at all.
    fn collect(&mut self, request: &'a DeleteTopicsRequest<'a>) {
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ids: BTreeMap<TopicId, usize> = BTreeMap::new();
        for name in &request.topic_names {
            *names.entry(name).or_default() += 1;
        }
        for topic in &request.topics {
            match (topic.name.as_deref(), topic.topic_id) {
                (None, TopicId::ZERO) => {
                    let message = "Neither topic name nor id were specified.";
                    self.answer(None, TopicId::ZERO, ErrorCode::InvalidRequest, Some(message));
                }
                (None, id) => *ids.entry(id).or_default() += 1,
                (Some(name), TopicId::ZERO) => *names.entry(name).or_default() += 1,
                (Some(name), id) => {
                    let message = "You may not specify both topic name and topic id.";
                    self.answer(Some(name), id, ErrorCode::InvalidRequest, Some(message));
                }
            }
        }
        for (name, times) in names {
            match times {
                1 => self.names.push(name),
                _ => self.answer(Some(name), TopicId::ZERO, ErrorCode::InvalidRequest, Some("Duplicate topic name.")),
            }
        }
        for (id, times) in ids {
            if times > 1 {
                self.duplicate_ids.insert(id);
                self.answer(None, id, ErrorCode::InvalidRequest, Some("Duplicate topic id."));
            } else {
                self.ids.push(id);
            }
        }
    }

    /// Finds the topics.
    fn resolve(&mut self, image: &MetadataImage) {
        for id in std::mem::take(&mut self.ids) {
            match image.topic_by_id(id) {
                Some(topic) => {
                    self.doomed.insert(id, Arc::clone(topic.name()));
                }
                None => self.answer(None, id, ErrorCode::UnknownTopicId, None),
            }
        }
        for name in std::mem::take(&mut self.names) {
            let Some(topic) = image.topic(name) else {
                self.answer(Some(name), TopicId::ZERO, ErrorCode::UnknownTopicOrPartition, None);
                continue;
            };
            let id = topic.id();
            if self.duplicate_ids.contains(&id) || self.doomed.insert(id, Arc::clone(topic.name())).is_some() {
                self.duplicate_ids.insert(id);
                self.doomed.remove(&id);
                let message = "The provided topic name maps to an ID that was already supplied.";
                self.answer(Some(name), id, ErrorCode::InvalidRequest, Some(message));
            }
        }
    }

    /// Adds a result; an error without words of its own gets those of its code.
    fn answer(&mut self, name: Option<&str>, topic_id: TopicId, error: ErrorCode, message: Option<&str>) {
        let words = message.or((error != ErrorCode::None).then(|| error.message()));
        self.results.push(DeletableTopicResult {
            name: name.map(|name| Cow::Owned(name.to_owned())),
            topic_id,
            error_code: error.code(),
            error_message: words.map(|words| Cow::Owned(words.to_owned())),
        });
    }
}

/// A random UUID as Kafka draws them: version 4, and never one whose text begins with a dash, which command lines would
/// take for an option.
fn random_uuid(random: Random<'_>) -> Uuid {
    const DASH: u8 = 62;
    loop {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&random().to_be_bytes());
        bytes[8..].copy_from_slice(&random().to_be_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        if bytes[0] >> 2 != DASH {
            return Uuid::new(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::delete_topics::DeleteTopicState;
    use crate::types::PartitionIndex;

    const CLUSTER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

    /// A small random stream (SplitMix64): the same seed, the same stream.
    pub(super) fn stream(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = state;
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^ (bits >> 31)
        }
    }

    pub(super) fn starts(nodes: u16) -> Vec<NodeStart> {
        let start = |shard| NodeStart {
            node: NodeId::of_shard(ShardId::new(shard)),
            host: "localhost".to_owned(),
            port: 9092 + shard,
            rack: Some("m".to_owned()),
        };
        (0..nodes).map(start).collect()
    }

    pub(super) fn cluster(nodes: u16) -> MetadataImage {
        let empty = MetadataImage::empty(CLUSTER);
        let records = register_nodes(&empty, &starts(nodes), &mut stream(1));
        empty.apply(&records).unwrap()
    }

    pub(super) fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic<'static> {
        CreatableTopic {
            name: Cow::Owned(name.to_owned()),
            num_partitions,
            replication_factor,
            ..CreatableTopic::default()
        }
    }

    pub(super) fn assigned(name: &str, rows: &[(i32, &[i32])]) -> CreatableTopic<'static> {
        let row = |(index, nodes): &(i32, &[i32])| CreatableReplicaAssignment {
            partition_index: *index,
            broker_ids: nodes.to_vec(),
        };
        CreatableTopic { assignments: rows.iter().map(row).collect(), ..topic(name, -1, -1) }
    }

    pub(super) fn create(
        image: &MetadataImage,
        config: &BrokerConfig,
        topics: Vec<CreatableTopic<'static>>,
    ) -> (MetadataImage, CreateTopicsResponse<'static>) {
        let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
        let (records, response) = create_topics(image, config, &request, &mut stream(2));
        (image.apply(&records).unwrap(), response)
    }

    fn refusal(image: &MetadataImage, config: &BrokerConfig, topic: CreatableTopic<'static>) -> (ErrorCode, String) {
        let (after, response) = create(image, config, vec![topic]);
        assert_eq!(&after, image, "a refused topic leaves no trace");
        let result = &response.topics[0];
        let error = ErrorCode::from_code(result.error_code).unwrap();
        (error, result.error_message.as_deref().unwrap_or_default().to_owned())
    }

    pub(super) fn leaders(image: &MetadataImage, name: &str) -> Vec<i32> {
        image.topic(name).unwrap().partitions().map(|(_, it)| it.leader.unwrap().value()).collect()
    }

    #[test]
    fn one_request_makes_a_bounded_number_of_partitions() {
        // 40,000 small topics in one request of 600 KB were answered with all their configurations: 227 MB.
        let image = cluster(1);
        let ask = |topics: Vec<CreatableTopic<'static>>| {
            let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
            let config = BrokerConfig::from_settings(Vec::<(String, String)>::new()).unwrap();
            let (records, response) = create_topics(&image, &config, &request, &mut stream(1));
            (records.len(), response.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>())
        };
        let max = limits::NEW_PARTITIONS_PER_REQUEST_MAX;
        let most = i32::try_from(max).unwrap();
        assert_eq!(ask(vec![topic("a", most, 1)]), (1 + max, vec![0]));
        let policy_violation = ErrorCode::PolicyViolation.code();
        assert_eq!(ask(vec![topic("a", most, 1), topic("b", 1, 1)]).1, [0, policy_violation]);
        // What is refused takes no room from what comes after it.
        assert_eq!(ask(vec![topic("a", most + 1, 1), topic("b", 1, 1)]).1, [policy_violation, 0]);
    }

    #[test]
    fn a_start_registers_every_node_anew() {
        let first = cluster(2);
        assert_eq!(first.brokers().count(), 2);
        let (image, _) = create(&first, &BrokerConfig::default(), vec![topic("t", 2, 1)]);
        let again = image.apply(&register_nodes(&image, &starts(3), &mut stream(9))).unwrap();
        assert_eq!(again.brokers().map(|broker| broker.epoch()).collect::<Vec<_>>(), [2, 2, 1]);
        for index in 0..2 {
            let partition = again.topic("t").unwrap().partition(PartitionIndex::new(index)).unwrap();
            assert_eq!(partition.leader_epoch.value(), 1);
        }
    }

    #[test]
    fn a_created_topic_is_reported_as_it_is() {
        let (image, response) = create(&cluster(3), &BrokerConfig::default(), vec![topic("t", 7, -1)]);
        let result = &response.topics[0];
        assert_eq!((result.error_code, result.num_partitions, result.replication_factor), (0, 7, 1));
        assert_eq!(result.topic_id, image.topic("t").unwrap().id());
        assert_eq!(result.error_message, None);
        assert_eq!(result.configs.as_ref().unwrap().len(), 33);
        assert_eq!(image.partition_count(), 7);
    }

    #[test]
    fn a_topic_spreads_over_all_nodes_and_topics_balance_each_other() {
        let config = BrokerConfig::default();
        let (image, _) = create(&cluster(4), &config, vec![assigned("skewed", &[(0, &[1]), (1, &[1]), (2, &[1])])]);
        // Node 1 leads three already; a topic of four still has one partition on each.
        let (image, _) = create(&image, &config, vec![topic("even", 4, 1)]);
        let mut even = leaders(&image, "even");
        even.sort_unstable();
        assert_eq!(even, [1, 2, 3, 4]);
        let singles = (0..9).map(|number| topic(&format!("single-{number}"), 1, 1)).collect();
        let (image, _) = create(&image, &config, singles);
        let loads: Vec<usize> = (1..=4).map(|node| image.leader_count(NodeId::new(node))).collect();
        assert_eq!(loads, [4, 4, 4, 4]);
    }

    #[test]
    fn a_topic_is_not_placed_on_a_fenced_node() {
        use crate::cluster::records::BrokerRegistrationChangeRecord;
        let image = cluster(2);
        let fence = |node| BrokerRegistrationChangeRecord {
            broker_id: node,
            broker_epoch: 1,
            fenced: 1,
            ..BrokerRegistrationChangeRecord::default()
        };
        let image = image.apply(&[fence(1).into()]).unwrap();
        let config = BrokerConfig::default();
        let (after, _) = create(&image, &config, vec![topic("t", 3, 1)]);
        assert_eq!(leaders(&after, "t"), [2, 2, 2]);
        assert_eq!(refusal(&image, &config, assigned("u", &[(0, &[1])])).0, ErrorCode::InvalidReplicaAssignment);
        let none = image.apply(&[fence(2).into()]).unwrap();
        assert_eq!(refusal(&none, &config, topic("t", 3, 1)).0, ErrorCode::InvalidReplicationFactor);
    }

    #[test]
    fn more_than_one_replica_is_refused_unless_the_operator_lets_it_pass() {
        let image = cluster(3);
        let (error, message) = refusal(&image, &BrokerConfig::default(), topic("t", 1, 3));
        assert_eq!(error, ErrorCode::InvalidReplicationFactor);
        assert!(message.contains("allow.same.machine.replicas=true") && message.contains("one machine"), "{message}");
        let (error, _) = refusal(&image, &BrokerConfig::default(), assigned("t", &[(0, &[1, 2])]));
        assert_eq!(error, ErrorCode::InvalidReplicationFactor);

        let insists = BrokerConfig::from_settings([("allow.same.machine.replicas", "true")]).unwrap();
        let (after, response) = create(&image, &insists, vec![topic("t", 1, 3), assigned("u", &[(0, &[2, 3])])]);
        assert!(response.topics.iter().all(|result| (result.error_code, result.replication_factor) == (0, 1)));
        assert_eq!(leaders(&after, "u"), [2]);
    }

    #[test]
    fn partitions_and_replicas_must_be_positive_or_default() {
        let (image, config) = (cluster(1), BrokerConfig::default());
        for partitions in [0, -2, i32::MIN] {
            assert_eq!(refusal(&image, &config, topic("t", partitions, 1)).0, ErrorCode::InvalidPartitions);
        }
        for replicas in [0, -2, i16::MIN] {
            assert_eq!(refusal(&image, &config, topic("t", 1, replicas)).0, ErrorCode::InvalidReplicationFactor);
        }
        let many = BrokerConfig::from_settings([("num.partitions", "5")]).unwrap();
        assert_eq!(create(&image, &many, vec![topic("t", -1, -1)]).0.partition_count(), 5);
    }

    #[test]
    fn the_cluster_never_has_more_partitions_than_its_bound() {
        let (image, config) = (cluster(2), BrokerConfig::default());
        let max = i32::try_from(limits::PARTITIONS_MAX).unwrap();
        assert_eq!(refusal(&image, &config, topic("t", max + 1, 1)).0, ErrorCode::InvalidPartitions);
        assert_eq!(refusal(&image, &config, topic("t", i32::MAX, 1)).0, ErrorCode::InvalidPartitions);
        // As many requests as it takes, the last one a partition short.
        let each = i32::try_from(limits::NEW_PARTITIONS_PER_REQUEST_MAX).unwrap();
        let mut nearly_full = image;
        for number in 0..max / each {
            let count = each - i32::from(number == 0);
            nearly_full = create(&nearly_full, &config, vec![topic(&format!("t{number}"), count, 1)]).0;
        }
        assert_eq!(nearly_full.partition_count(), limits::PARTITIONS_MAX - 1);
        let (full, response) = create(&nearly_full, &config, vec![topic("b", 2, 1), topic("c", 1, 1)]);
        let codes: Vec<i16> = response.topics.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ErrorCode::InvalidPartitions.code(), 0]);
        assert_eq!(full.partition_count(), limits::PARTITIONS_MAX);
    }

    #[test]
    fn names_are_checked_against_rules_topics_and_the_request() {
        let config = BrokerConfig::default();
        let (image, _) = create(&cluster(1), &config, vec![topic("a.b", 1, 1)]);
        assert_eq!(refusal(&image, &config, topic("a b", 1, 1)).0, ErrorCode::InvalidTopicException);
        assert_eq!(refusal(&image, &config, topic("a.b", 1, 1)).0, ErrorCode::TopicAlreadyExists);
        assert_eq!(refusal(&image, &config, topic("a_b", 1, 1)).0, ErrorCode::InvalidTopicException);
        assert_eq!(refusal(&image, &config, topic("__cluster_metadata", 1, 1)).0, ErrorCode::InvalidRequest);
        let (after, response) = create(&image, &config, vec![topic("x", 1, 1), topic("y", 1, 1), topic("x", 2, 1)]);
        let rows: Vec<_> = response.topics.iter().map(|result| (&*result.name, result.error_code)).collect();
        assert_eq!(rows, [("y", 0), ("x", ErrorCode::InvalidRequest.code())]);
        assert!(after.topic("x").is_none());
    }

    #[test]
    fn manual_assignments_follow_kafkas_rules() {
        let (image, config) = (cluster(3), BrokerConfig::default());
        let (after, _) = create(&image, &config, vec![assigned("t", &[(1, &[3]), (0, &[2])])]);
        assert_eq!(leaders(&after, "t"), [2, 3]);
        let bad: &[&[(i32, &[i32])]] = &[
            &[(0, &[])],
            &[(0, &[9])],
            &[(0, &[1, 1])],
            &[(0, &[1]), (0, &[2])],
            &[(1, &[1])],
            &[(0, &[1]), (1, &[1, 2])],
            &[(-1, &[1]), (0, &[1])],
        ];
        for rows in bad {
            assert_eq!(
                refusal(&image, &config, assigned("u", rows)).0,
                ErrorCode::InvalidReplicaAssignment,
                "{rows:?}"
            );
        }
        let mixed = CreatableTopic { num_partitions: 1, ..assigned("u", &[(0, &[1])]) };
        assert_eq!(refusal(&image, &config, mixed).0, ErrorCode::InvalidRequest);
        let mixed = CreatableTopic { replication_factor: 1, ..assigned("u", &[(0, &[1])]) };
        assert_eq!(refusal(&image, &config, mixed).0, ErrorCode::InvalidRequest);
    }

    #[test]
    fn configurations_are_checked_and_kept() {
        let (image, config) = (cluster(1), BrokerConfig::default());
        let with = |name: &'static str, value: Option<&'static str>| CreatableTopic {
            configs: vec![CreatableTopicConfig { name: Cow::Borrowed(name), value: value.map(Cow::Borrowed) }],
            ..topic("t", 1, 1)
        };
        assert_eq!(refusal(&image, &config, with("retention.ms", None)).0, ErrorCode::InvalidConfig);
        assert_eq!(refusal(&image, &config, with("retention.mss", Some("1"))).0, ErrorCode::InvalidConfig);
        assert_eq!(refusal(&image, &config, with("retention.ms", Some("soon"))).0, ErrorCode::InvalidConfig);
        let (after, response) = create(&image, &config, vec![with("retention.ms", Some(" 5 "))]);
        assert_eq!(after.topic_configs("t").get("retention.ms").map(String::as_str), Some("5"));
        let rows = response.topics[0].configs.as_ref().unwrap();
        let row = rows.iter().find(|row| row.name == "retention.ms").unwrap();
        assert_eq!((row.value.as_deref(), row.config_source), (Some("5"), 1));
    }

    #[test]
    fn validate_only_answers_and_changes_nothing() {
        let request = CreateTopicsRequest {
            topics: vec![topic("t", 3, 1)],
            validate_only: true,
            ..CreateTopicsRequest::default()
        };
        let (records, response) = create_topics(&cluster(1), &BrokerConfig::default(), &request, &mut stream(1));
        assert!(records.is_empty());
        assert_eq!((response.topics[0].error_code, response.topics[0].num_partitions), (0, 3));
    }

    #[test]
    fn topics_are_created_because_somebody_asked() {
        let (image, config) = (cluster(2), BrokerConfig::default());
        let names = ["t", "t", "bad name", topic_name::CONSUMER_OFFSETS].map(str::to_owned);
        let after = image.apply(&auto_create_topics(&image, &config, &names, &mut stream(3))).unwrap();
        assert_eq!(after.topic_count(), 2);
        assert_eq!(after.topic("t").unwrap().partition_count(), 1);
        assert_eq!(after.topic(topic_name::CONSUMER_OFFSETS).unwrap().partition_count(), 50);
        let configs = after.topic_configs(topic_name::CONSUMER_OFFSETS);
        assert_eq!(configs.get("cleanup.policy").map(String::as_str), Some("compact"));
        // Asked for twice at once: the second request finds it there.
        assert!(auto_create_topics(&after, &config, &["t".to_owned()], &mut stream(3)).is_empty());
    }

    #[test]
    fn topics_are_deleted_by_name_and_by_id() {
        let config = BrokerConfig::default();
        let (image, _) = create(&cluster(1), &config, ["a", "b", "c"].map(|name| topic(name, 1, 1)).to_vec());
        let by_name = DeleteTopicsRequest {
            topic_names: ["a", "missing", "b", "b"].map(Cow::Borrowed).to_vec(),
            ..DeleteTopicsRequest::default()
        };
        let (records, response) = delete_topics(&image, &config, &by_name, 5);
        let mut rows: Vec<_> =
            response.responses.iter().map(|it| (it.name.as_deref().unwrap(), it.error_code)).collect();
        rows.sort_unstable();
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(rows, [("a", 0), ("b", ErrorCode::InvalidRequest.code()), ("missing", unknown)]);
        let image = image.apply(&records).unwrap();
        assert!(image.topic("a").is_none() && image.topic("b").is_some());

        let state = |name: Option<&'static str>, topic_id| DeleteTopicState { name: name.map(Cow::Borrowed), topic_id };
        let (b, c) = (image.topic("b").unwrap().id(), image.topic("c").unwrap().id());
        let by_id = DeleteTopicsRequest {
            topics: vec![
                state(None, b),
                state(None, TopicId::new([9; 16])),
                state(None, TopicId::ZERO),
                state(Some("b"), TopicId::ZERO),
                state(Some("c"), c),
                state(None, c),
            ],
            ..DeleteTopicsRequest::default()
        };
        let (records, response) = delete_topics(&image, &config, &by_id, 6);
        let mut codes: Vec<i16> = response.responses.iter().map(|it| it.error_code).collect();
        codes.sort_unstable();
        // `b` stood there by id and by name: told once and kept. `c` stood there by id, beside a row with both.
        assert_eq!(codes, [0, 42, 42, 42, 100]);
        let image = image.apply(&records).unwrap();
        assert!(image.topic("b").is_some() && image.topic("c").is_none());
    }

    #[test]
    fn deletion_can_be_forbidden() {
        let config = BrokerConfig::from_settings([("delete.topic.enable", "false")]).unwrap();
        let request = DeleteTopicsRequest { topic_names: vec![Cow::Borrowed("a")], ..DeleteTopicsRequest::default() };
        for (version, error) in [(2, ErrorCode::InvalidRequest), (3, ErrorCode::TopicDeletionDisabled)] {
            let (records, response) = delete_topics(&cluster(1), &config, &request, version);
            assert!(records.is_empty());
            assert_eq!(response.responses[0].error_code, error.code());
        }
    }

    #[test]
    fn producer_ids_never_repeat_and_end_with_their_type() {
        let image = cluster(2);
        let (record, mut block) = allocate_producer_ids(&image, NodeId::new(1)).unwrap();
        let image = image.apply(&[record]).unwrap();
        let (record, mut other) = allocate_producer_ids(&image, NodeId::new(2)).unwrap();
        assert_eq!((block.take().unwrap().value(), other.take().unwrap().value()), (0, 1000));
        let image = image.apply(&[record]).unwrap();
        assert_eq!(image.next_producer_id(), 2000);
        let last = ProducerIdsRecord { next_producer_id: i64::MAX, ..ProducerIdsRecord::default() };
        let image = image.apply(&[last.into()]).unwrap();
        assert_eq!(allocate_producer_ids(&image, NodeId::new(1)), Err(ProducerIdsExhausted));
    }

    #[test]
    fn topic_ids_are_random_uuids_whose_text_is_no_option() {
        let mut values = [0xf800_0000_0000_0000, 0, 0x1234_5678_9abc_def0, 0].into_iter();
        let id = random_uuid(&mut || values.next().unwrap());
        assert!(!id.to_string().starts_with('-'));
        assert_eq!((id.bytes()[6] >> 4, id.bytes()[8] >> 6), (4, 2));
    }

    /// Random operations, as a cluster would see them: what they add up to is the same when the records are applied one
    /// by one, all at once, through their encoding, or from a snapshot.
    #[test]
    fn replay_and_snapshot_rebuild_the_image() {
        for seed in 0..60 {
            let mut random = stream(seed);
            let config = BrokerConfig::from_settings([("num.partitions", "2")]).unwrap();
            let empty = MetadataImage::empty(CLUSTER);
            let mut image = empty.clone();
            let mut log = Vec::new();
            let mut names: Vec<String> = Vec::new();
            for step in 0..60 {
                let records = random_operation(&image, &config, step, &mut names, &mut random);
                image = image.apply(&records).unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
                log.extend(records);
            }
            assert_eq!(empty.apply(&log).as_ref(), Ok(&image), "seed {seed}: all at once");
            let read: Vec<Record> = log.iter().map(|record| Record::decode(&record.encode()).unwrap()).collect();
            assert_eq!(empty.apply(&read).as_ref(), Ok(&image), "seed {seed}: through the encoding");
            let snapshot: Vec<Record> = image.snapshot_records().collect();
            assert_eq!(empty.apply(&snapshot).as_ref(), Ok(&image), "seed {seed}: from a snapshot");
            let counted: usize = image.topics().map(|topic| topic.partition_count()).sum();
            assert_eq!(counted, image.partition_count(), "seed {seed}");
            let led: usize = image.brokers().map(|broker| image.leader_count(broker.node())).sum();
            assert_eq!(led, counted, "seed {seed}: every partition has a leader and is counted once");
        }
    }

    fn random_operation(
        image: &MetadataImage,
        config: &BrokerConfig,
        step: u64,
        names: &mut Vec<String>,
        random: Random<'_>,
    ) -> Vec<Record> {
        if step == 0 || random().is_multiple_of(8) {
            let nodes = u16::try_from(1 + random() % 4).unwrap();
            return register_nodes(image, &starts(nodes), random);
        }
        match random() % 5 {
            0 => {
                names.push(format!("auto-{step}"));
                auto_create_topics(image, config, &names[names.len() - 1..], random)
            }
            1 if !names.is_empty() => {
                let at = usize::try_from(random()).unwrap() % names.len();
                let topic_names = vec![Cow::Owned(names[at].clone())];
                let request = DeleteTopicsRequest { topic_names, ..DeleteTopicsRequest::default() };
                delete_topics(image, config, &request, 5).0
            }
            2 => vec![allocate_producer_ids(image, NodeId::new(1)).unwrap().0],
            _ => {
                let name = format!("topic-{step}");
                names.push(name.clone());
                let value = Some(Cow::Owned((random() % 1000).to_string()));
                let row = CreatableTopicConfig { name: Cow::Borrowed("retention.ms"), value };
                let partitions = i32::try_from(random() % 9).unwrap();
                let created = CreatableTopic { configs: vec![row], ..topic(&name, partitions, 1) };
                let request = CreateTopicsRequest { topics: vec![created], ..CreateTopicsRequest::default() };
                create_topics(image, config, &request, random).0
            }
        }
    }
}
