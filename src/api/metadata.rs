//! Metadata (3), versions 0 to 13: the nodes, the topics, who leads their partitions.
//!
//! - **All topics**: a null list, and in version 0 an empty one. All topics never creates any.
//! - **By id** (12+): one id in the list makes it a list of ids; rows without one are passed over. An unknown id is
//!   UNKNOWN_TOPIC_ID with a null name. Versions 10 and 11 have the fields but must not use them: every row is
//!   INVALID_REQUEST.
//! - **Missing topics**: INVALID_TOPIC_EXCEPTION for what can be no topic name; else UNKNOWN_TOPIC_OR_PARTITION, and if both
//!   sides allow it the topic is created meanwhile: clients ask again. Names to create stand beside the response.
//! - A name that stands twice is answered once, as Kafka's set does.
//! - **No leader**: -1 and LEADER_NOT_AVAILABLE. From version 6 on a living leader that does not listen for clients is
//!   LISTENER_NOT_FOUND. Version 0 leaves out replicas that are down and says REPLICA_NOT_AVAILABLE.
//! - The controller is any node that takes administrative requests, -1 if none lives. Kafka names one at random; ours is
//!   always the one that need not pass them on.

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use super::reply::Reply;
use super::{Request, operations};
use crate::broker::Broker;
use crate::cluster::image::{Partition, Topic};
use crate::cluster::topic_name;
use crate::cluster::view::ClientView;
use crate::config::BrokerConfig;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::types::{PartitionIndex, TopicId};

/// An answer, and what is to be created because of it.
#[derive(Debug)]
struct Metadata<'a> {
    /// The answer. It need not wait for the creation.
    response: MetadataResponse<'a>,
    /// Names of topics to create (`broker::controller::auto_create_topics`). Empty almost always.
    create: Vec<String>,
}

/// Handles one request. Topics that it makes are created beside the answer.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = MetadataRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let image = broker.shard.image();
    let answer = respond(broker.view(&image), &broker.shard.config, &message, request.version);
    if !answer.create.is_empty() {
        broker.auto_create(answer.create);
    }
    Reply::Now(request.respond(&answer.response))
}

/// Answers the request.
fn respond<'a>(
    view: ClientView<'a>,
    config: &BrokerConfig,
    request: &MetadataRequest<'a>,
    version: i16,
) -> Metadata<'a> {
    let mut answer = Answer { view, version, topics: Vec::new(), create: Vec::new() };
    match &request.topics {
        None => answer.all(),
        Some(topics) if topics.is_empty() && version == 0 => answer.all(),
        Some(topics) if version < 12 && topics.iter().any(names_an_id) => {
            let topics = topics.iter().map(invalid_row).collect();
            return Metadata {
                response: MetadataResponse { topics, ..MetadataResponse::default() },
                create: Vec::new(),
            };
        }
        Some(topics) if topics.iter().any(|topic| !topic.topic_id.is_zero()) => answer.by_id(topics),
        Some(topics) => {
            let may_create = config.auto_create_topics_enable && request.allow_auto_topic_creation;
            answer.by_name(topics, may_create);
        }
    }
    if request.include_topic_authorized_operations {
        // Not for ids that nobody knows: there is no topic to do something to.
        for topic in answer.topics.iter_mut().filter(|topic| topic.name.is_some()) {
            topic.topic_authorized_operations = operations::TOPIC;
        }
    }
    let brokers = view.nodes().map(|(broker, endpoint)| MetadataResponseBroker {
        node_id: broker.node().value(),
        host: Cow::Borrowed(&*endpoint.host),
        port: i32::from(endpoint.port),
        rack: broker.rack().map(Cow::Borrowed),
    });
    let response = MetadataResponse {
        throttle_time_ms: 0,
        brokers: brokers.collect(),
        cluster_id: Some(Cow::Borrowed(view.image.cluster_id())),
        controller_id: view.controller().map_or(-1, |node| node.value()),
        topics: answer.topics,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::NOT_ASKED,
        },
        error_code: ErrorCode::None.code(),
    };
    Metadata { response, create: answer.create }
}

/// True for what versions 10 and 11 can write but must not.
fn names_an_id(topic: &MetadataRequestTopic<'_>) -> bool {
    topic.name.is_none() || !topic.topic_id.is_zero()
}

/// What every row of such a request gets.
fn invalid_row<'a>(topic: &MetadataRequestTopic<'a>) -> MetadataResponseTopic<'a> {
    MetadataResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(topic.name.clone().unwrap_or_default()),
        topic_id: topic.topic_id,
        ..MetadataResponseTopic::default()
    }
}

/// The topics of one answer as they are found.
struct Answer<'a> {
    view: ClientView<'a>,
    version: i16,
    topics: Vec<MetadataResponseTopic<'a>>,
    create: Vec<String>,
}

impl<'a> Answer<'a> {
    fn all(&mut self) {
        for topic in self.view.image.topics() {
            self.known(topic);
        }
    }

    fn by_id(&mut self, topics: &[MetadataRequestTopic<'a>]) {
        let mut seen = HashSet::new();
        let mut ids = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_zero());
        let mut known = Vec::new();
        // Kafka puts the unknown first.
        for id in ids.by_ref().filter(|id| seen.insert(*id)) {
            match self.view.image.topic_by_id(id) {
                Some(topic) => known.push(topic),
                None => self.topics.push(MetadataResponseTopic {
                    error_code: ErrorCode::UnknownTopicId.code(),
                    name: None,
                    topic_id: id,
                    ..MetadataResponseTopic::default()
                }),
            }
        }
        for topic in known {
            self.known(topic);
        }
    }

    fn by_name(&mut self, topics: &[MetadataRequestTopic<'a>], may_create: bool) {
        let mut seen: HashSet<&str> = HashSet::new();
        let names = topics.iter().filter_map(|topic| topic.name.as_ref());
        for name in names.filter(|name| seen.insert(name)) {
            match self.view.image.topic(name) {
                Some(topic) => self.known(topic),
                None => self.missing(name.clone(), may_create),
            }
        }
    }

    fn missing(&mut self, name: Cow<'a, str>, may_create: bool) {
        let valid = topic_name::validate(&name).is_ok();
        if valid && may_create {
            self.create.push(name.to_string());
        }
        let error = if valid { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
        self.topics.push(MetadataResponseTopic {
            error_code: error.code(),
            is_internal: topic_name::is_internal(&name),
            name: Some(name),
            topic_id: TopicId::ZERO,
            ..MetadataResponseTopic::default()
        });
    }

    fn known(&mut self, topic: &'a Topic) {
        let partitions = topic.partitions().map(|(index, partition)| self.partition(index, partition));
        let partitions = partitions.collect();
        self.topics.push(MetadataResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(Cow::Borrowed(topic.name())),
            topic_id: topic.id(),
            is_internal: topic_name::is_internal(topic.name()),
            partitions,
            ..MetadataResponseTopic::default()
        });
    }

    fn partition(&self, index: PartitionIndex, partition: &Partition) -> MetadataResponsePartition {
        let mut replica_nodes = self.view.node_ids(&partition.replicas);
        let mut isr_nodes = self.view.node_ids(&partition.isr);
        let down = |node: &i32| !self.view.is_online(crate::types::NodeId::new(*node));
        let offline_replicas: Vec<i32> = replica_nodes.iter().copied().filter(down).collect();
        let mut incomplete = false;
        if self.version == 0 {
            let before = replica_nodes.len() + isr_nodes.len();
            replica_nodes.retain(|node| !down(node));
            isr_nodes.retain(|node| !down(node));
            incomplete = replica_nodes.len() + isr_nodes.len() < before;
        }
        let (leader_id, error) = match self.view.leader(partition) {
            Some(_) if incomplete => (self.leader_id(partition), ErrorCode::ReplicaNotAvailable),
            Some(_) => (self.leader_id(partition), ErrorCode::None),
            None => (-1, self.leaderless(partition)),
        };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: index.value(),
            leader_id,
            leader_epoch: partition.leader_epoch.value(),
            replica_nodes,
            isr_nodes,
            offline_replicas,
        }
    }

    fn leader_id(&self, partition: &Partition) -> i32 {
        partition.leader.map_or(-1, |leader| self.view.node(leader).value())
    }

    /// Why the leader cannot be told: there is none that lives, or it does not listen for clients.
    fn leaderless(&self, partition: &Partition) -> ErrorCode {
        let leader = partition.leader.and_then(|leader| self.view.image.broker(self.view.node(leader)));
        match leader {
            Some(broker) if !broker.is_fenced() && self.version >= 6 => ErrorCode::ListenerNotFound,
            _ => ErrorCode::LeaderNotAvailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::controller::{self, NodeStart};
    use crate::cluster::image::MetadataImage;
    use crate::cluster::records::BrokerRegistrationChangeRecord;
    use crate::cluster::view::Advertise;
    use crate::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
    use crate::types::{NodeId, ShardId};

    /// Two nodes and the topics `a` (three partitions) and `b`.
    fn image() -> MetadataImage {
        let empty = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ");
        let start = |shard: u16| NodeStart {
            node: NodeId::of_shard(ShardId::new(shard)),
            host: "h".to_owned(),
            port: 9092 + shard,
            rack: None,
        };
        let mut seed = 0;
        let mut random = || {
            seed += 1;
            seed
        };
        let image = empty.apply(&controller::register_nodes(&empty, &[start(0), start(1)], &mut random)).unwrap();
        let topic = |name, num_partitions| CreatableTopic {
            name: Cow::Borrowed(name),
            num_partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic("a", 3), topic("b", 1)], ..CreateTopicsRequest::default() };
        let (records, _) = controller::create_topics(&image, &BrokerConfig::default(), &request, &mut random);
        image.apply(&records).unwrap()
    }

    fn named<'a>(names: &[&'a str]) -> MetadataRequest<'a> {
        let row = |name: &&'a str| MetadataRequestTopic { topic_id: TopicId::ZERO, name: Some(Cow::Borrowed(*name)) };
        MetadataRequest { topics: Some(names.iter().map(row).collect()), ..MetadataRequest::default() }
    }

    fn identified(ids: &[TopicId]) -> MetadataRequest<'static> {
        let row = |id: &TopicId| MetadataRequestTopic { topic_id: *id, name: None };
        MetadataRequest { topics: Some(ids.iter().map(row).collect()), ..MetadataRequest::default() }
    }

    fn ask<'a>(image: &'a MetadataImage, request: &MetadataRequest<'a>, version: i16) -> Metadata<'a> {
        let view = ClientView { image, advertise: Advertise::PerCore };
        respond(view, &BrokerConfig::default(), request, version)
    }

    fn rows(metadata: &Metadata<'_>) -> Vec<(Option<String>, i16)> {
        let row = |topic: &MetadataResponseTopic<'_>| (topic.name.as_ref().map(|it| it.to_string()), topic.error_code);
        metadata.response.topics.iter().map(row).collect()
    }

    #[test]
    fn null_is_all_topics_and_empty_is_none_but_in_version_0() {
        let image = image();
        let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
        assert_eq!(rows(&ask(&image, &all, 1)).len(), 2);
        assert_eq!(rows(&ask(&image, &named(&[]), 1)).len(), 0);
        assert_eq!(rows(&ask(&image, &named(&[]), 0)).len(), 2);
    }

    #[test]
    fn nodes_and_leaders_are_told() {
        let image = image();
        let metadata = ask(&image, &named(&["a"]), 9);
        let nodes: Vec<_> = metadata.response.brokers.iter().map(|it| (it.node_id, it.port)).collect();
        assert_eq!((nodes, metadata.response.controller_id), (vec![(1, 9092), (2, 9093)], 1));
        let partitions = &metadata.response.topics[0].partitions;
        let mut leaders: Vec<_> = partitions.iter().map(|it| it.leader_id).collect();
        leaders.sort_unstable();
        leaders.dedup();
        assert_eq!((partitions.len(), leaders), (3, vec![1, 2]));
        assert!(partitions.iter().all(|it| it.replica_nodes == [it.leader_id] && it.offline_replicas.is_empty()));
    }

    #[test]
    fn in_single_one_node_leads_everything() {
        let image = image();
        let view = ClientView { image: &image, advertise: Advertise::Single };
        let metadata = respond(view, &BrokerConfig::default(), &named(&["a"]), 9);
        assert_eq!(metadata.response.brokers.len(), 1);
        let partitions = &metadata.response.topics[0].partitions;
        assert!(partitions.iter().all(|it| (it.leader_id, &*it.replica_nodes, it.error_code) == (1, &[1][..], 0)));
    }

    #[test]
    fn missing_topics_are_created_when_both_sides_allow_it() {
        let image = image();
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        let mut request = named(&["new", "a", "new", "bad name"]);
        let metadata = ask(&image, &request, 4);
        assert_eq!(metadata.create, ["new"]);
        let invalid = ErrorCode::InvalidTopicException.code();
        let expected = [(Some("new"), unknown), (Some("a"), 0), (Some("bad name"), invalid)];
        assert_eq!(rows(&metadata), expected.map(|(name, code)| (name.map(str::to_owned), code)));
        request.allow_auto_topic_creation = false;
        assert!(ask(&image, &request, 4).create.is_empty());
        request.allow_auto_topic_creation = true;
        let config = BrokerConfig::from_settings([("auto.create.topics.enable", "false")]).unwrap();
        let view = ClientView { image: &image, advertise: Advertise::PerCore };
        assert!(respond(view, &config, &request, 4).create.is_empty());
    }

    #[test]
    fn topics_are_found_by_id_from_version_12_on() {
        let image = image();
        let (known, stranger) = (image.topic("b").unwrap().id(), TopicId::new([9; 16]));
        let metadata = ask(&image, &identified(&[known, stranger, known]), 12);
        assert_eq!(rows(&metadata), [(None, ErrorCode::UnknownTopicId.code()), (Some("b".to_owned()), 0)]);
        assert!(metadata.create.is_empty());
        let metadata = ask(&image, &identified(&[known]), 11);
        assert_eq!(rows(&metadata), [(Some(String::new()), ErrorCode::InvalidRequest.code())]);
        assert!(metadata.response.brokers.is_empty());
    }

    #[test]
    fn a_null_name_without_an_id_is_passed_over() {
        let image = image();
        assert!(rows(&ask(&image, &identified(&[TopicId::ZERO]), 12)).is_empty());
    }

    #[test]
    fn a_partition_whose_leader_is_down_has_none() {
        let image = image();
        let broker_epoch = image.broker(NodeId::new(1)).unwrap().epoch();
        let fence = BrokerRegistrationChangeRecord {
            broker_id: 1,
            broker_epoch,
            fenced: 1,
            ..BrokerRegistrationChangeRecord::default()
        };
        let image = image.apply(&[fence.into()]).unwrap();
        for version in [0, 5, 13] {
            let metadata = ask(&image, &named(&["a"]), version);
            assert_eq!(metadata.response.controller_id, 2);
            let down: Vec<_> = metadata.response.topics[0].partitions.iter().filter(|it| it.leader_id == -1).collect();
            assert!(!down.is_empty());
            for partition in down {
                assert_eq!(partition.error_code, ErrorCode::LeaderNotAvailable.code());
                assert_eq!(partition.offline_replicas, [1]);
                assert_eq!(partition.replica_nodes.is_empty(), version == 0);
            }
        }
    }

    #[test]
    fn operations_are_told_when_asked_for() {
        let image = image();
        let mut request = named(&["a", "missing"]);
        assert_eq!(ask(&image, &request, 8).response.topics[0].topic_authorized_operations, i32::MIN);
        request.include_topic_authorized_operations = true;
        request.include_cluster_authorized_operations = true;
        let response = ask(&image, &request, 8).response;
        assert!(response.topics.iter().all(|topic| topic.topic_authorized_operations == 3576));
        assert_eq!(response.cluster_authorized_operations, 8096);
    }
}
