//! The one writer of metadata, on shard 0: the part that decides.
//!
//! Every function is pure: the image as it is and a request, to the records that would change it and the answer to give
//! once they are durable and published. Appending them, waiting and telling the other shards is done elsewhere. Records of
//! one call go into one batch, so that they are kept or lost together.
//!
//! A partition has one replica. Copies inside one process protect from nothing and cost their number, so a replication
//! factor above 1 is refused, unless `allow.same.machine.replicas` says that some tool insists; then one replica is kept
//! all the same, and reported.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::cluster::image::{
    METADATA_VERSION, METADATA_VERSION_LEVEL, METADATA_VERSION_MIN, MetadataImage, TOPIC_RESOURCE,
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
    let mut records = Vec::with_capacity(nodes.len() + 1);
    if image.feature(METADATA_VERSION) == 0 {
        // A metadata log begins with the version that reads it.
        let name = Arc::from(METADATA_VERSION);
        records.push(FeatureLevelRecord { name, feature_level: METADATA_VERSION_LEVEL }.into());
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
            features: vec![BrokerFeature {
                name: Arc::from(METADATA_VERSION),
                min_supported_version: METADATA_VERSION_MIN,
                max_supported_version: METADATA_VERSION_LEVEL,
            }],
            rack: node.rack.as_deref().map(Arc::from),
            fenced: false,
            ..RegisterBrokerRecord::default()
        };
        records.push(registration.into());
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

/// CreateTopics: one result for each topic of the request, in its order; names that stand twice come last.
///
/// With `validate_only` the answer is the same and the records are none.
pub fn create_topics(
    image: &MetadataImage,
    config: &BrokerConfig,
    request: &CreateTopicsRequest<'_>,
    random: Random<'_>,
) -> (Vec<Record>, CreateTopicsResponse<'static>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *seen.entry(&topic.name).or_default() += 1;
    }
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
    random: Random<'a>,
}

impl<'a> Placement<'a> {
    fn new(image: &MetadataImage, random: Random<'a>) -> Placement<'a> {
        let alive = |node: &NodeId| image.broker(*node).is_some_and(|broker| !broker.is_fenced());
        let mut loads: Vec<(NodeId, usize)> =
            image.leader_counts().into_iter().filter(|(node, _)| alive(node)).collect();
        // Equals are chosen from a random one on, or the first node would lead all first partitions.
        if let Some(start) = u64::try_from(loads.len()).ok().and_then(|count| random().checked_rem(count)) {
            loads.rotate_left(usize::try_from(start).expect("below a length"));
        }
        Placement { loads, partition_count: image.partition_count(), random }
    }

    fn is_alive(&self, node: NodeId) -> bool {
        self.loads.iter().any(|(alive, _)| *alive == node)
    }

    /// Leaders for the partitions of a new topic. A topic spreads over all nodes first, whatever else they lead; among
    /// nodes that hold as much of it, the one that leads the least is next. Empty: no node is alive.
    fn spread(&mut self, partitions: usize) -> Vec<NodeId> {
        let mut own = vec![0_usize; self.loads.len()];
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

    fn take_room(&mut self, partitions: usize) -> Result<(), Refusal> {
        let after = self.partition_count.saturating_add(partitions);
        if after > limits::PARTITIONS_MAX {
            let max = limits::PARTITIONS_MAX;
            return refuse(
                ErrorCode::InvalidPartitions,
                format!("The cluster would have {after} partitions, more than the {max} that it may have."),
            );
        }
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
    if let Some(other) = image.topics().find(|topic| topic_name::collides(name, topic.name())) {
        return refuse(
            ErrorCode::InvalidTopicException,
            format!("Topic '{name}' collides with existing topic: {}", other.name()),
        );
    }
    Ok(())
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
    for leader in &leaders {
        if let Some((_, load)) = placement.loads.iter_mut().find(|(node, _)| node == leader) {
            *load += 1;
        }
    }
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
            let configs = vec![row("cleanup.policy", text("compact".to_owned())), row("segment.bytes", segment)];
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
