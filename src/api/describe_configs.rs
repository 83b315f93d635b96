//! DescribeConfigs (32), versions 1 to 4: the configurations of topics, nodes and groups, with their sources.
//!
//! - **Topic** (2): all of Kafka's topic configurations. Its own value comes first among the synonyms, then the broker's
//!   keys of that meaning. Kafka lists the synonyms only from the topic's first broker key on: with `log.retention.hours`
//!   alone there are none, and the source reads as default although the value is the hours'. The same here.
//! - **Broker** (4): an empty name is what is set for all nodes; a node id is everything of that node: all of Kafka's keys,
//!   whether or not they do something here. All nodes are cores of one process with one set of settings, so any of them
//!   answers for any other. Read-only is what does not change while the broker runs. A key that nobody knows is kept when
//!   it is set, and shown without its value and type, as is a password's value, for it may be a secret.
//! - **Group** (32): all of Kafka's configurations of groups, whether or not there is a group of that name. Each has one
//!   synonym, itself: what the broker's own settings give counts as a default, as in Kafka. One request asks about
//!   [`DESCRIBED_GROUPS_MAX`](limits::DESCRIBED_GROUPS_MAX) at most.
//! - **Broker logger** (8): checked as in Kafka, then INVALID_REQUEST: no logger is configured through the protocol. The
//!   same for client metrics (16), which are not there yet.
//! - A type that Kafka does not know fails the whole request. A resource that stands twice is described once.
//! - Documentation (3+) says of a configuration without effect here that it has none, and why.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::cluster::image::{
    BROKER_LOGGER_RESOURCE, BROKER_RESOURCE, CLIENT_METRICS_RESOURCE, GROUP_RESOURCE, MetadataImage, TOPIC_RESOURCE,
};
use crate::cluster::topic_name;
use crate::config::broker::{BROKER_KEYS, BrokerKey, Update};
use crate::config::group::{GROUP_KEYS, GroupKey};
use crate::config::topic::{Dynamic, TOPIC_KEYS, TopicKey};
use crate::config::{BrokerConfig, Configs, Source};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::types::NodeId;

/// The type of a configuration that nobody knows.
const UNKNOWN_TYPE: i8 = 0;

/// Handles one request.
pub(super) fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: &Request) -> Reply<R::Buffer> {
    let Ok(message) = DescribeConfigsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let shard = &broker.shard;
    let image = shard.image();
    let answer = respond(&image, &shard.config, NodeId::of_shard(shard.id), &message);
    Reply::Now(request.respond(&answer))
}

/// Answers the request at `node`.
fn respond<'a>(
    image: &'a MetadataImage,
    config: &'a BrokerConfig,
    node: NodeId,
    request: &DescribeConfigsRequest<'a>,
) -> DescribeConfigsResponse<'a> {
    let own = NodeConfigs { id: node, configs: image.broker_configs(node) };
    let describer = Describer { image, config, node, own, request };
    let known = |resource: &DescribeConfigsResource<'_>| type_name(resource.resource_type).is_some();
    let stranger = request.resources.iter().find(|resource| !known(resource));
    // A resource that stands twice is described once: clients take the rows by name, and a small request must not grow
    // into a huge answer.
    let mut seen = HashSet::new();
    let mut first = |resource: &&DescribeConfigsResource<'_>| {
        seen.insert((resource.resource_type, resource.resource_name.to_string()))
    };
    let mut group_count = 0;
    let results = request.resources.iter().filter(|resource| first(resource)).map(|resource| {
        if let Some(stranger) = stranger {
            let message = format!("Unexpected resource type {}", stranger.resource_type);
            return failed(resource, Refusal::invalid(message));
        }
        group_count += usize::from(resource.resource_type == GROUP_RESOURCE);
        if resource.resource_type == GROUP_RESOURCE && group_count > limits::DESCRIBED_GROUPS_MAX {
            let message = format!("One request tells of at most {} groups.", limits::DESCRIBED_GROUPS_MAX);
            return failed(resource, Refusal { error: ErrorCode::PolicyViolation, message });
        }
        describer.describe(resource)
    });
    DescribeConfigsResponse { throttle_time_ms: 0, results: results.collect() }
}

/// Kafka's name of a resource type.
fn type_name(resource_type: i8) -> Option<&'static str> {
    match resource_type {
        TOPIC_RESOURCE => Some("TOPIC"),
        BROKER_RESOURCE => Some("BROKER"),
        BROKER_LOGGER_RESOURCE => Some("BROKER_LOGGER"),
        CLIENT_METRICS_RESOURCE => Some("CLIENT_METRICS"),
        GROUP_RESOURCE => Some("GROUP"),
        _ => None,
    }
}

/// Why a resource is not described. Where Kafka has nothing to say, its message is empty, not null.
struct Refusal {
    error: ErrorCode,
    message: String,
}

impl Refusal {
    fn invalid(message: impl Into<String>) -> Refusal {
        Refusal { error: ErrorCode::InvalidRequest, message: message.into() }
    }
}

fn failed<'a>(resource: &DescribeConfigsResource<'a>, refusal: Refusal) -> DescribeConfigsResult<'a> {
    DescribeConfigsResult {
        error_code: refusal.error.code(),
        error_message: Some(Cow::Owned(refusal.message)),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        configs: Vec::new(),
    }
}

/// What was set for one node while it ran.
#[derive(Clone, Copy)]
struct NodeConfigs<'a> {
    id: NodeId,
    configs: &'a Configs,
}

struct Describer<'a, 'r> {
    image: &'a MetadataImage,
    config: &'a BrokerConfig,
    node: NodeId,
    own: NodeConfigs<'a>,
    request: &'r DescribeConfigsRequest<'a>,
}

impl<'a> Describer<'a, '_> {
    fn describe(&self, resource: &DescribeConfigsResource<'a>) -> DescribeConfigsResult<'a> {
        let described = match resource.resource_type {
            TOPIC_RESOURCE => self.topic(resource),
            BROKER_RESOURCE => self.broker(resource),
            GROUP_RESOURCE => self.group(resource),
            BROKER_LOGGER_RESOURCE => self.broker_logger(resource),
            other => {
                let name = type_name(other).unwrap_or("UNKNOWN");
                Err(Refusal::invalid(format!("Unsupported resource type: {name}")))
            }
        };
        match described {
            Ok(configs) => DescribeConfigsResult {
                error_code: ErrorCode::None.code(),
                error_message: Some(Cow::Borrowed("")),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
                configs,
            },
            Err(refusal) => failed(resource, refusal),
        }
    }

    fn topic(&self, resource: &DescribeConfigsResource<'a>) -> Result<Vec<DescribeConfigsResourceResult<'a>>, Refusal> {
        let name = &*resource.resource_name;
        topic_name::validate(name)
            .map_err(|invalid| Refusal { error: ErrorCode::InvalidTopicException, message: invalid.to_string() })?;
        if self.image.topic(name).is_none() {
            return Err(Refusal { error: ErrorCode::UnknownTopicOrPartition, message: String::new() });
        }
        let dynamic = Dynamic {
            topic: self.image.topic_configs(name),
            node: self.own.configs,
            cluster: self.image.cluster_configs(),
        };
        let wanted = Wanted::of(resource);
        let keys = TOPIC_KEYS.iter().filter(|key| wanted.contains(key.name));
        Ok(keys.map(|key| self.topic_row(key, dynamic)).collect())
    }

    fn topic_row(&self, key: &'static TopicKey, dynamic: Dynamic<'_>) -> DescribeConfigsResourceResult<'a> {
        let (value, _) = key.effective(self.config, dynamic);
        let mut synonyms = Vec::new();
        if let Some(own) = dynamic.topic.get(key.name) {
            synonyms.push(synonym(key.name, own.clone(), Source::Topic));
        }
        let names: Vec<&'static str> = key.synonyms.iter().map(|synonym| synonym.name).collect();
        if let Some(first) = names.first() {
            synonyms.extend(self.broker_synonyms(first, &names, self.own));
        }
        self.row(key.name, Some(value), key.kind.id(), synonyms, false, || key.documentation())
    }

    fn broker(
        &self,
        resource: &DescribeConfigsResource<'a>,
    ) -> Result<Vec<DescribeConfigsResourceResult<'a>>, Refusal> {
        let wanted = Wanted::of(resource);
        let keys = BROKER_KEYS.iter().filter(|key| wanted.contains(key.name));
        let cluster = self.image.cluster_configs();
        if resource.resource_name.is_empty() {
            let known = keys.filter_map(|key| self.cluster_row(key, cluster));
            return Ok(known.chain(self.unknown_rows(&wanted, &[(cluster, Source::DynamicDefaultBroker)])).collect());
        }
        let node = NodeId::new(broker_id(&resource.resource_name)?);
        if node != self.node && self.image.broker(node).is_none() {
            return Err(Refusal::invalid(format!(
                "Unexpected broker id, expected {} or another node of this process or empty string, but received {node}",
                self.node
            )));
        }
        let node = NodeConfigs { id: node, configs: self.image.broker_configs(node) };
        let known = keys.filter_map(|key| self.broker_row(key, node));
        let layers = [(node.configs, Source::DynamicBroker), (cluster, Source::DynamicDefaultBroker)];
        Ok(known.chain(self.unknown_rows(&wanted, &layers)).collect())
    }

    /// Nothing of what is hidden and not set.
    fn broker_row(&self, key: &'static BrokerKey, node: NodeConfigs<'a>) -> Option<DescribeConfigsResourceResult<'a>> {
        let set = self.layers(node, key.name).into_iter().find_map(|(value, _)| value);
        if key.update == Update::Hidden && set.is_none() {
            return None;
        }
        let synonyms = self.broker_synonyms(key.name, family(key.name), node);
        Some(self.broker_key_row(key, set.or(key.default), synonyms))
    }

    /// What is set for all nodes; nothing of what is not.
    fn cluster_row(&self, key: &'static BrokerKey, cluster: &'a Configs) -> Option<DescribeConfigsResourceResult<'a>> {
        let value = cluster.get(key.name)?;
        let synonyms = vec![synonym(key.name, value.as_str(), Source::DynamicDefaultBroker)];
        Some(self.broker_key_row(key, Some(value), synonyms))
    }

    fn broker_key_row(
        &self,
        key: &'static BrokerKey,
        value: Option<&'a str>,
        synonyms: Vec<DescribeConfigsSynonym<'a>>,
    ) -> DescribeConfigsResourceResult<'a> {
        let value = value.map(str::to_owned);
        let row = self.row(key.name, value, key.kind.id(), synonyms, !key.is_dynamic(), || key.documentation());
        if key.is_sensitive() { without_values(row) } else { row }
    }

    /// Keys that are set while nobody knows what they are.
    fn unknown_rows(
        &self,
        wanted: &Wanted<'_>,
        layers: &[(&'a Configs, Source)],
    ) -> Vec<DescribeConfigsResourceResult<'a>> {
        let mut unknown: BTreeMap<&'a str, Vec<DescribeConfigsSynonym<'a>>> = BTreeMap::new();
        for (configs, source) in layers {
            let strangers =
                configs.iter().filter(|(name, _)| BrokerKey::named(name).is_none() && wanted.contains(name));
            for (name, value) in strangers {
                unknown.entry(name).or_default().push(synonym(name, value.as_str(), *source));
            }
        }
        let row = |(name, synonyms)| without_values(self.row(name, None, UNKNOWN_TYPE, synonyms, true, String::new));
        unknown.into_iter().map(row).collect()
    }

    fn group(&self, resource: &DescribeConfigsResource<'a>) -> Result<Vec<DescribeConfigsResourceResult<'a>>, Refusal> {
        if resource.resource_name.is_empty() {
            return Err(Refusal::invalid("Group name must not be empty"));
        }
        let own = self.image.group_configs(&resource.resource_name);
        let wanted = Wanted::of(resource);
        let keys = GROUP_KEYS.iter().filter(|key| wanted.contains(key.name));
        Ok(keys.map(|key| self.group_row(key, own)).collect())
    }

    fn group_row(&self, key: &'static GroupKey, own: &Configs) -> DescribeConfigsResourceResult<'a> {
        let (value, source) = key.effective(self.config, own);
        let synonyms = vec![synonym(key.name, value.clone(), source)];
        self.row(key.name, Some(value), key.kind.id(), synonyms, false, || key.documentation())
    }

    fn broker_logger(
        &self,
        resource: &DescribeConfigsResource<'a>,
    ) -> Result<Vec<DescribeConfigsResourceResult<'a>>, Refusal> {
        if resource.resource_name.is_empty() {
            return Err(Refusal::invalid("Broker id must not be empty"));
        }
        let id = broker_id(&resource.resource_name)?;
        if id != self.node.value() {
            return Err(Refusal::invalid(format!("Unexpected broker id, expected {} but received {id}", self.node)));
        }
        Err(Refusal::invalid("Unsupported resource type: BROKER_LOGGER"))
    }

    /// What is set of a broker key, the strongest layer first.
    fn layers(&self, node: NodeConfigs<'a>, name: &str) -> [(Option<&'a str>, Source); 3] {
        let set = |configs: &'a Configs| configs.get(name).map(String::as_str);
        [
            (set(node.configs), Source::DynamicBroker),
            (set(self.image.cluster_configs()), Source::DynamicDefaultBroker),
            (self.config.at_start(node.id, name), Source::StaticBroker),
        ]
    }

    /// Where broker keys are set, the strongest first: by layer, then by key. What comes before the first mention of
    /// `name`, the key that is asked about, is left out, as in Kafka.
    fn broker_synonyms(
        &self,
        name: &str,
        names: &[&'static str],
        node: NodeConfigs<'a>,
    ) -> Vec<DescribeConfigsSynonym<'a>> {
        let layers: Vec<_> = names.iter().map(|name| (*name, self.layers(node, name))).collect();
        let mut synonyms = Vec::new();
        for place in 0..3 {
            let set = layers.iter().filter_map(|(name, layers)| {
                let (value, source) = layers[place];
                Some(synonym(name, value?, source))
            });
            synonyms.extend(set);
        }
        let default = |name: &&'static str| {
            let value = BrokerKey::named(name).and_then(|key| key.default)?;
            Some(synonym(name, value, Source::Default))
        };
        synonyms.extend(names.iter().filter_map(default));
        synonyms.into_iter().skip_while(|synonym| synonym.name != name).collect()
    }

    /// One configuration; its source is that of its strongest synonym.
    fn row(
        &self,
        name: &'a str,
        value: Option<String>,
        config_type: i8,
        synonyms: Vec<DescribeConfigsSynonym<'a>>,
        read_only: bool,
        documentation: impl FnOnce() -> String,
    ) -> DescribeConfigsResourceResult<'a> {
        DescribeConfigsResourceResult {
            name: Cow::Borrowed(name),
            value: value.map(Cow::Owned),
            read_only,
            config_source: synonyms.first().map_or(Source::Default.id(), |strongest| strongest.source),
            is_sensitive: false,
            synonyms: if self.request.include_synonyms { synonyms } else { Vec::new() },
            config_type,
            documentation: self.request.include_documentation.then(|| Cow::Owned(documentation())),
        }
    }
}

/// Broker keys that stand for the same thing in other units, the strongest first; the key alone for all others.
fn family(name: &'static str) -> &'static [&'static str] {
    const FAMILIES: &[&[&str]] = &[
        &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
        &["log.roll.ms", "log.roll.hours"],
        &["log.roll.jitter.ms", "log.roll.jitter.hours"],
        &["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
    ];
    let member = FAMILIES.iter().find(|family| family.contains(&name)).copied();
    member.unwrap_or_else(|| {
        let at = BROKER_KEYS.binary_search_by_key(&name, |key| key.name).expect("only keys of the table are described");
        std::slice::from_ref(&BROKER_KEYS[at].name)
    })
}

fn synonym<'a>(name: &'a str, value: impl Into<Cow<'a, str>>, source: Source) -> DescribeConfigsSynonym<'a> {
    DescribeConfigsSynonym { name: Cow::Borrowed(name), value: Some(value.into()), source: source.id() }
}

/// A row that may hold a secret.
fn without_values(row: DescribeConfigsResourceResult<'_>) -> DescribeConfigsResourceResult<'_> {
    let mut synonyms = row.synonyms;
    synonyms.iter_mut().for_each(|synonym| synonym.value = None);
    DescribeConfigsResourceResult { value: None, is_sensitive: true, synonyms, ..row }
}

fn broker_id(name: &str) -> Result<i32, Refusal> {
    name.parse().map_err(|_| Refusal::invalid(format!("Broker id must be an integer, but it is: {name}")))
}

/// Which configurations of a resource are asked for; null and empty are all.
struct Wanted<'a>(Option<HashSet<&'a str>>);

impl<'a> Wanted<'a> {
    fn of(resource: &'a DescribeConfigsResource<'_>) -> Wanted<'a> {
        let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
        Wanted(keys.map(|keys| keys.iter().map(|key| &**key).collect()))
    }

    fn contains(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::records::{ConfigRecord, Record, TopicRecord};
    use crate::config::value::Kind;
    use crate::types::TopicId;

    fn config(resource_type: i8, resource: &str, name: &str, value: &str) -> Record {
        let (resource_name, name, value) = (Arc::from(resource), Arc::from(name), Some(Arc::from(value)));
        ConfigRecord { resource_type, resource_name, name, value }.into()
    }

    fn image(more: &[Record]) -> MetadataImage {
        let topic = TopicRecord { name: Arc::from("t"), topic_id: TopicId::new([1; 16]) };
        MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ").apply(&[topic.into()]).unwrap().apply(more).unwrap()
    }

    fn describe(
        image: &MetadataImage,
        config: &BrokerConfig,
        resource_type: i8,
        name: &str,
        keys: &[&str],
    ) -> DescribeConfigsResult<'static> {
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: Cow::Owned(name.to_owned()),
            configuration_keys: Some(keys.iter().map(|key| Cow::Owned((*key).to_owned())).collect()),
        };
        let request =
            DescribeConfigsRequest { resources: vec![resource], include_synonyms: true, include_documentation: true };
        let response = respond(image, config, NodeId::new(1), &request);
        let result = &response.results[0];
        let owned = |text: &Cow<'_, str>| Cow::<'static, str>::Owned(text.to_string());
        let rows = result.configs.iter().map(|row| DescribeConfigsResourceResult {
            name: owned(&row.name),
            value: row.value.as_ref().map(owned),
            read_only: row.read_only,
            config_source: row.config_source,
            is_sensitive: row.is_sensitive,
            synonyms: row
                .synonyms
                .iter()
                .map(|it| DescribeConfigsSynonym {
                    name: owned(&it.name),
                    value: it.value.as_ref().map(owned),
                    source: it.source,
                })
                .collect(),
            config_type: row.config_type,
            documentation: row.documentation.as_ref().map(owned),
        });
        DescribeConfigsResult {
            error_code: result.error_code,
            error_message: result.error_message.as_ref().map(owned),
            resource_type: result.resource_type,
            resource_name: owned(&result.resource_name),
            configs: rows.collect(),
        }
    }

    fn sources(row: &DescribeConfigsResourceResult<'_>) -> Vec<(String, i8)> {
        row.synonyms.iter().map(|it| (it.name.to_string(), it.source)).collect()
    }

    #[test]
    fn a_topic_has_all_of_kafkas_configurations() {
        let result = describe(&image(&[]), &BrokerConfig::default(), TOPIC_RESOURCE, "t", &[]);
        assert_eq!((result.error_code, result.configs.len()), (0, 33));
        let flush = result.configs.iter().find(|row| row.name == "flush.messages").unwrap();
        assert_eq!((flush.value.as_deref(), flush.config_source, flush.config_type), (Some("1"), 5, 5));
        assert_eq!(sources(flush), [("log.flush.interval.messages".to_owned(), 5)]);
        let idle = result.configs.iter().find(|row| row.name == "segment.jitter.ms").unwrap();
        assert!(idle.documentation.as_ref().unwrap().contains("No effect in Corelane"));
    }

    #[test]
    fn synonyms_tell_every_layer_from_the_strongest_down() {
        let broker = BrokerConfig::from_settings([("log.retention.ms", "3"), ("log.retention.hours", "1")]).unwrap();
        let image = image(&[
            config(TOPIC_RESOURCE, "t", "retention.ms", "1"),
            config(BROKER_RESOURCE, "", "log.retention.ms", "2"),
        ]);
        let result = describe(&image, &broker, TOPIC_RESOURCE, "t", &["retention.ms"]);
        let row = &result.configs[0];
        assert_eq!((result.configs.len(), row.value.as_deref(), row.config_source), (1, Some("1"), 1));
        let expected = [
            ("retention.ms", 1),
            ("log.retention.ms", 3),
            ("log.retention.ms", 4),
            ("log.retention.hours", 4),
            ("log.retention.hours", 5),
        ];
        assert_eq!(sources(row), expected.map(|(name, source)| (name.to_owned(), source)));
    }

    #[test]
    fn hours_alone_show_no_synonyms_as_in_kafka() {
        let broker = BrokerConfig::from_settings([("log.retention.hours", "1")]).unwrap();
        let result = describe(&image(&[]), &broker, TOPIC_RESOURCE, "t", &["retention.ms"]);
        let row = &result.configs[0];
        assert_eq!((row.value.as_deref(), row.config_source, row.synonyms.len()), (Some("3600000"), 5, 0));
    }

    #[test]
    fn unknown_topics_are_told_apart_from_invalid_names() {
        let (image, broker) = (image(&[]), BrokerConfig::default());
        let code = |name| describe(&image, &broker, TOPIC_RESOURCE, name, &[]).error_code;
        assert_eq!(code("missing"), ErrorCode::UnknownTopicOrPartition.code());
        assert_eq!(code("bad name"), ErrorCode::InvalidTopicException.code());
    }

    #[test]
    fn a_node_tells_its_settings_and_where_they_were_set() {
        let broker = BrokerConfig::from_settings([("num.partitions", "4")]).unwrap();
        let result = describe(&image(&[]), &broker, BROKER_RESOURCE, "1", &[]);
        let hidden = BROKER_KEYS.iter().filter(|key| key.update == Update::Hidden).count();
        assert_eq!(result.configs.len(), BROKER_KEYS.len() - hidden);
        let row = result.configs.iter().find(|row| row.name == "num.partitions").unwrap();
        assert_eq!((row.value.as_deref(), row.config_source, row.read_only), (Some("4"), 4, true));
        assert_eq!(sources(row), [("num.partitions".to_owned(), 4), ("num.partitions".to_owned(), 5)]);
        let changeable = result.configs.iter().find(|row| row.name == "log.retention.ms").unwrap();
        assert!(!changeable.read_only);
    }

    /// What Apache Kafka 4.1.1 answered with the same two settings.
    #[test]
    fn keys_in_other_units_show_what_is_set_from_their_own_mention_on() {
        let broker = BrokerConfig::from_settings([("log.retention.hours", "1"), ("log.roll.ms", "7000000")]).unwrap();
        let result = describe(&image(&[]), &broker, BROKER_RESOURCE, "1", &[]);
        let told = |name: &str| {
            let row = result.configs.iter().find(|row| row.name == name).unwrap();
            let synonyms =
                sources(row).into_iter().map(|(name, source)| format!("{name}:{source}")).collect::<Vec<_>>();
            (row.value.as_deref().map(str::to_owned), row.config_source, synonyms.join(" "))
        };
        let row = |value: Option<&str>, source, synonyms: &str| (value.map(str::to_owned), source, synonyms.to_owned());
        assert_eq!(told("log.retention.hours"), row(Some("1"), 4, "log.retention.hours:4 log.retention.hours:5"));
        assert_eq!(told("log.retention.minutes"), row(None, 5, ""));
        assert_eq!(told("log.retention.ms"), row(None, 5, ""));
        assert_eq!(told("log.roll.ms"), row(Some("7000000"), 4, "log.roll.ms:4 log.roll.hours:5"));
        assert_eq!(told("log.roll.hours"), row(Some("168"), 5, "log.roll.hours:5"));
    }

    /// `listeners`, `log.dirs` and the like were missing, and altering them said "unknown".
    #[test]
    fn what_the_command_line_gave_a_node_is_told_read_only() {
        let given = |value: &str| Configs::from([("listeners".to_owned(), value.to_owned())]);
        let nodes = [(NodeId::new(1), given("PLAINTEXT://h:1")), (NodeId::new(2), given("PLAINTEXT://h:2"))];
        let broker = BrokerConfig::default().with_nodes(nodes.into());
        let result = describe(&image(&[]), &broker, BROKER_RESOURCE, "1", &["listeners"]);
        let row = &result.configs[0];
        assert_eq!((row.value.as_deref(), row.config_source, row.read_only), (Some("PLAINTEXT://h:1"), 4, true));
        assert_eq!(sources(row), [("listeners".to_owned(), 4), ("listeners".to_owned(), 5)]);
    }

    #[test]
    fn what_is_hidden_is_told_when_it_is_set() {
        let told = |broker: &BrokerConfig| {
            let keys = ["producer.id.expiration.check.interval.ms"];
            describe(&image(&[]), broker, BROKER_RESOURCE, "1", &keys).configs.len()
        };
        assert_eq!(told(&BrokerConfig::default()), 0);
        let set = BrokerConfig::from_settings([("producer.id.expiration.check.interval.ms", "5")]).unwrap();
        assert_eq!(told(&set), 1);
    }

    /// As Apache Kafka 4.1.1: whatever it is, it may be a secret.
    #[test]
    fn a_key_that_nobody_knows_is_told_without_its_value() {
        let image = image(&[
            config(BROKER_RESOURCE, "1", "foo.bar", "secret"),
            config(BROKER_RESOURCE, "", "foo.bar", "secret"),
        ]);
        for (node, expected) in [("1", vec![2, 3]), ("", vec![3])] {
            let result = describe(&image, &BrokerConfig::default(), BROKER_RESOURCE, node, &["foo.bar"]);
            let row = &result.configs[0];
            assert_eq!((row.value.as_deref(), row.config_type, row.read_only, row.is_sensitive), (None, 0, true, true));
            assert_eq!(sources(row).into_iter().map(|(_, source)| source).collect::<Vec<_>>(), expected);
            assert!(row.synonyms.iter().all(|synonym| synonym.value.is_none()));
        }
    }

    #[test]
    fn the_value_of_a_password_is_never_told() {
        // No version of ours stores it, but one that comes may, and this one may follow it.
        let image = image(&[config(BROKER_RESOURCE, "1", "ssl.key.password", "hunter2")]);
        let result = describe(&image, &BrokerConfig::default(), BROKER_RESOURCE, "1", &["ssl.key.password"]);
        let row = &result.configs[0];
        assert_eq!((row.value.as_deref(), row.is_sensitive, row.config_type), (None, true, Kind::Password.id()));
        assert!(row.synonyms.iter().all(|synonym| synonym.value.is_none()));
    }

    #[test]
    fn the_empty_broker_is_what_is_set_for_all() {
        let image = image(&[config(BROKER_RESOURCE, "", "log.retention.ms", "2")]);
        let result = describe(&image, &BrokerConfig::default(), BROKER_RESOURCE, "", &[]);
        let rows: Vec<_> = result.configs.iter().map(|row| (&*row.name, row.config_source)).collect();
        assert_eq!(rows, [("log.retention.ms", 3)]);
    }

    #[test]
    fn a_group_has_kafkas_configurations_before_it_is_there() {
        let broker = BrokerConfig::from_settings([("group.consumer.session.timeout.ms", "50000")]).unwrap();
        let image = image(&[config(GROUP_RESOURCE, "g", "consumer.heartbeat.interval.ms", "6000")]);
        let told = |group| {
            let keys = ["consumer.heartbeat.interval.ms", "consumer.session.timeout.ms"];
            let result = describe(&image, &broker, GROUP_RESOURCE, group, &keys);
            let row = |row: &DescribeConfigsResourceResult<'_>| {
                assert_eq!(sources(row), [(row.name.to_string(), row.config_source)]);
                assert_eq!((row.read_only, row.config_type), (false, Kind::Int.id()));
                (row.value.as_deref().unwrap().to_owned(), row.config_source)
            };
            result.configs.iter().map(row).collect::<Vec<_>>()
        };
        assert_eq!(told("g"), [("6000".to_owned(), 8), ("50000".to_owned(), 5)]);
        assert_eq!(told("absent"), [("5000".to_owned(), 5), ("50000".to_owned(), 5)]);
        let all = describe(&image, &broker, GROUP_RESOURCE, "g", &[]);
        assert_eq!(all.configs.len(), GROUP_KEYS.len());
        let idle = all.configs.iter().find(|row| row.name == "share.session.timeout.ms").unwrap();
        assert!(idle.documentation.as_ref().unwrap().contains("No effect in Corelane"));
    }

    #[test]
    fn one_request_tells_of_a_bounded_number_of_groups() {
        let (image, config) = (image(&[]), BrokerConfig::default());
        let group = |number: usize| DescribeConfigsResource {
            resource_type: GROUP_RESOURCE,
            resource_name: Cow::Owned(number.to_string()),
            configuration_keys: Some(vec![Cow::Borrowed("consumer.session.timeout.ms")]),
        };
        let resources = (0..=limits::DESCRIBED_GROUPS_MAX).map(group).collect();
        let request = DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() };
        let response = respond(&image, &config, NodeId::new(1), &request);
        let (last, others) = response.results.split_last().unwrap();
        assert!(others.iter().all(|it| it.error_code == 0 && it.configs.len() == 1));
        assert_eq!((last.error_code, last.configs.len()), (ErrorCode::PolicyViolation.code(), 0));
    }

    #[test]
    fn a_resource_that_stands_twice_is_described_once() {
        let (image, config) = (image(&[]), BrokerConfig::default());
        let resource = |name| DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: Cow::Borrowed(name),
            configuration_keys: None,
        };
        let resources = vec![resource("t"), resource("u"), resource("t")];
        let request = DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() };
        let response = respond(&image, &config, NodeId::new(1), &request);
        let rows: Vec<_> = response.results.iter().map(|it| (&*it.resource_name, it.configs.len())).collect();
        assert_eq!(rows, [("t", 33), ("u", 0)]);
        assert_eq!(response.results[0].configs[0].documentation, None);
    }

    #[test]
    fn strangers_and_loggers_are_invalid() {
        let (image, broker) = (image(&[]), BrokerConfig::default());
        for (resource_type, name) in [
            (BROKER_RESOURCE, "9"),
            (BROKER_RESOURCE, "x"),
            (8, ""),
            (8, "1"),
            (8, "2"),
            (16, "m"),
            (32, ""),
            (99, "t"),
        ] {
            let result = describe(&image, &broker, resource_type, name, &[]);
            assert_eq!(result.error_code, ErrorCode::InvalidRequest.code(), "{resource_type} {name}");
            assert!(result.configs.is_empty() && result.error_message.is_some());
        }
    }
}
