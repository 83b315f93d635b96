//! A cluster and a coordinator for the tests of groups.

use std::rc::Rc;
use std::sync::Arc;

use super::ConsumerGroup;
use super::member::Name;
use crate::cluster::image::{GROUP_RESOURCE, MetadataImage};
use crate::cluster::records::{self, BrokerEndpoint, ConfigRecord, PartitionRecord, RegisterBrokerRecord, TopicRecord};
use crate::coordinator::config::GroupConfig;
use crate::coordinator::records::{Record, compacted};
use crate::coordinator::{Caller, Context, Coordinator, Group, Step};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest as Request, ConsumerGroupHeartbeatResponse as Response, TopicPartitions,
};
use crate::types::{ConnectionId, MonotonicUs, ShardId, TimestampMs, TopicId};

/// The metadata, and how it changes.
#[derive(Debug)]
pub(super) struct Cluster {
    image: MetadataImage,
    lives: u8,
}

/// The id of the n-th topic, which has this name.
pub(super) fn id(name: &str, life: u8) -> TopicId {
    let mut bytes = [life; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(byte, letter)| *byte = letter);
    TopicId::new(bytes)
}

impl Default for Cluster {
    fn default() -> Cluster {
        let mut cluster = Cluster { image: MetadataImage::empty("cluster"), lives: 0 };
        cluster.register(None, 1);
        cluster
    }
}

impl Cluster {
    pub(super) fn image(&self) -> &MetadataImage {
        &self.image
    }

    pub(super) fn create(&mut self, name: &str, partition_count: i32) -> TopicId {
        self.lives += 1;
        let topic_id = id(name, self.lives);
        self.create_with_id(name, topic_id, partition_count);
        topic_id
    }

    pub(super) fn create_with_id(&mut self, name: &str, topic_id: TopicId, partition_count: i32) {
        self.apply(&[TopicRecord { name: Arc::from(name), topic_id }.into()]);
        self.add(topic_id, 0, partition_count);
    }

    pub(super) fn grow(&mut self, name: &str, partition_count: i32) {
        let topic = self.image.topic(name).unwrap();
        let (topic_id, first) = (topic.id(), topic.partition_count());
        self.add(topic_id, i32::try_from(first).unwrap(), partition_count);
    }

    pub(super) fn delete(&mut self, name: &str) {
        let topic_id = self.image.topic(name).unwrap().id();
        self.apply(&[records::RemoveTopicRecord { topic_id }.into()]);
    }

    pub(super) fn set_rack(&mut self, rack: &str) {
        self.register(Some(rack.into()), 2);
    }

    /// Sets a configuration of a group, or deletes it.
    pub(super) fn configure(&mut self, group: &str, name: &str, value: Option<&str>) {
        let (resource_name, name, value) = (Arc::from(group), Arc::from(name), value.map(Arc::from));
        self.apply(&[ConfigRecord { resource_type: GROUP_RESOURCE, resource_name, name, value }.into()]);
    }

    fn register(&mut self, rack: Option<Arc<str>>, life: u8) {
        let end_points = vec![BrokerEndpoint { name: "L".into(), host: "h".into(), port: 1, security_protocol: 0 }];
        let record = RegisterBrokerRecord {
            broker_id: 1,
            incarnation_id: TopicId::new([life; 16]),
            broker_epoch: i64::from(life),
            end_points,
            rack,
            fenced: false,
            ..Default::default()
        };
        self.apply(&[record.into()]);
    }

    fn add(&mut self, topic_id: TopicId, from: i32, to: i32) {
        let partition = |partition_id: i32| PartitionRecord {
            partition_id,
            topic_id,
            replicas: vec![1],
            isr: vec![1],
            leader: 1,
            leader_epoch: 0,
            partition_epoch: 0,
            directories: vec![TopicId::default()],
            ..Default::default()
        };
        let records: Vec<records::Record> = (from..to).map(|index| partition(index).into()).collect();
        self.apply(&records);
    }

    fn apply(&mut self, records: &[records::Record]) {
        self.image = self.image.apply(records).unwrap();
    }
}

/// A coordinator, its clock and its log.
pub(super) struct Bench {
    pub(super) cluster: Cluster,
    pub(super) coordinator: Coordinator,
    pub(super) log: Vec<Record>,
    pub(super) now_ms: u64,
    pub(super) version: i16,
    /// What the next request comes over.
    pub(super) connection: ConnectionId,
    config: Rc<GroupConfig>,
    random: u8,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(GroupConfig::default())
    }

    pub(super) fn with(config: GroupConfig) -> Bench {
        let config = Rc::new(config);
        Bench {
            cluster: Cluster::default(),
            coordinator: Coordinator::new(Rc::clone(&config)),
            log: Vec::new(),
            now_ms: 1000,
            version: 1,
            connection: ConnectionId::of(ShardId::new(0), 1),
            config,
            random: 0,
        }
    }

    pub(super) fn send(&mut self, request: &Request<'_>) -> Response<'static> {
        self.step(request).1
    }

    /// The records of a heartbeat, and its answer.
    pub(super) fn step(&mut self, request: &Request<'_>) -> (Vec<Record>, Response<'static>) {
        let connection = self.connection;
        let caller = Caller { version: self.version, client_id: "client", client_host: "/127.0.0.1", connection };
        self.random = self.random.wrapping_add(1);
        let context = context(self.now_ms, &self.cluster, self.random);
        let (step, response) = self.coordinator.consumer_heartbeat(context, caller, request);
        (self.keep(step), response)
    }

    /// A LeaveGroup of these members, by member id and instance id.
    pub(super) fn take_out(&mut self, id: &str, leavers: &[(&str, Option<&str>)]) -> Vec<Result<(), ErrorCode>> {
        let context = context(self.now_ms, &self.cluster, 0);
        let mut step = Step::default();
        let Some(Group::Consumer(group)) = self.coordinator.groups.get_mut(id) else {
            panic!("there is no group {id}")
        };
        let results = group.take_out(context.image, &mut step, leavers.iter().copied());
        self.keep(step);
        results
    }

    fn keep(&mut self, step: Step) -> Vec<Record> {
        assert!(step.answers.is_empty());
        self.log.extend_from_slice(&step.records);
        step.records
    }

    /// Lets time pass, with whatever is due then.
    pub(super) fn pass(&mut self, ms: u64) -> Vec<Record> {
        self.now_ms += ms;
        let context = context(self.now_ms, &self.cluster, 0);
        let mut step = Step::default();
        let Coordinator { groups, timers, .. } = &mut self.coordinator;
        while let Some((id, timer)) = timers.pop(context.now) {
            let Some(Group::Consumer(group)) = groups.get_mut(&id) else { continue };
            let mut environment =
                crate::coordinator::Environment { context, config: &self.config, timers, step: &mut step };
            group.on_timer(&mut environment, &timer);
        }
        self.keep(step)
    }

    pub(super) fn change_metadata(&mut self, change: impl FnOnce(&mut Cluster)) {
        change(&mut self.cluster);
        self.coordinator.on_metadata_consumer();
    }

    pub(super) fn group(&self, id: &str) -> &ConsumerGroup {
        match self.coordinator.groups.get(id) {
            Some(Group::Consumer(group)) => group,
            other => panic!("{id} is {other:?}"),
        }
    }

    /// The process starts again: everything comes from the log.
    pub(super) fn restart(&mut self) {
        self.restart_from(&self.log.clone());
    }

    /// The same where compaction went over the first so many records before.
    pub(super) fn restart_compacted(&mut self, clean: usize, drops_tombstones: bool) {
        self.restart_from(&compacted(&self.log, clean, drops_tombstones));
    }

    fn restart_from(&mut self, log: &[Record]) {
        let mut coordinator = Coordinator::new(Rc::clone(&self.config));
        log.iter().for_each(|record| coordinator.replay_consumer(record));
        let context = context(self.now_ms, &self.cluster, 0);
        let mut step = Step::default();
        let Coordinator { groups, timers, .. } = &mut coordinator;
        for group in groups.values_mut() {
            let Group::Consumer(group) = group else { continue };
            let mut environment =
                crate::coordinator::Environment { context, config: &self.config, timers, step: &mut step };
            group.on_loaded(&mut environment);
        }
        assert!(step.records.is_empty());
        self.coordinator = coordinator;
    }
}

fn context(now_ms: u64, cluster: &Cluster, random: u8) -> Context<'_> {
    Context {
        now: MonotonicUs::new(now_ms * 1000),
        wall: TimestampMs::new(1_700_000_000_000 + i64::try_from(now_ms).unwrap()),
        image: cluster.image(),
        random: [random; 16],
    }
}

/// A member's first heartbeat.
pub(super) fn join<'a>(group: &'a str, member: &'a str, topics: &[&'a str]) -> Request<'a> {
    Request {
        group_id: group.into(),
        member_id: member.into(),
        rebalance_timeout_ms: 5000,
        subscribed_topic_names: Some(topics.iter().map(|&topic| topic.into()).collect()),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

/// A heartbeat with nothing to say.
pub(super) fn beat<'a>(group: &'a str, member: &'a str, member_epoch: i32) -> Request<'a> {
    Request { group_id: group.into(), member_id: member.into(), member_epoch, ..Default::default() }
}

/// The same, with what the member owns.
pub(super) fn owning<'a>(group: &'a str, member: &'a str, epoch: i32, topic: TopicId, owned: &[i32]) -> Request<'a> {
    let owned = if owned.is_empty() {
        Vec::new()
    } else {
        vec![TopicPartitions { topic_id: topic, partitions: owned.to_vec() }]
    };
    Request { topic_partitions: Some(owned), ..beat(group, member, epoch) }
}

/// Partitions of the answer's assignment, over all topics; `None` without one.
pub(super) fn given(response: &Response<'_>) -> Option<Vec<i32>> {
    assert_eq!(response.error_code, 0, "{:?}", response.error_message);
    let topics = &response.assignment.as_ref()?.topic_partitions;
    Some(topics.iter().flat_map(|topic| topic.partitions.iter().copied()).collect())
}

/// Everything of a group that its records tell.
pub(super) fn durable(group: &ConsumerGroup) -> String {
    let members: Vec<_> = group.members.iter().map(|(id, member)| (id, &member.metadata, &member.standing)).collect();
    let mut statics: Vec<(&Name, &Name)> = group.static_members.iter().collect();
    statics.sort();
    let mut held: Vec<_> = group.held.iter().collect();
    held.sort();
    let ConsumerGroup { epoch, metadata_hash, assignment_epoch, targets, subscriptions, .. } = group;
    format!("{epoch} {metadata_hash} {assignment_epoch} {members:?} {targets:?} {statics:?} {held:?} {subscriptions:?}")
}
