//! IncrementalAlterConfigs and AlterConfigs: configurations that change while the broker runs.
//!
//! - **Topics** take effect with the image. APPEND and SUBTRACT work on lists, from the default when nothing is set.
//! - **Nodes** are cores of one process on one machine, so what is set on one of them is set on all of them; the empty name
//!   is all nodes of the cluster. A key that Kafka changes while it runs is accepted, also if it has no effect here, as at a
//!   start; one that somebody would rely on in vain, and one of a single listener, is refused. A key that nobody has ever
//!   heard of is kept, as in Kafka, but not without a bound.
//! - **Groups** take effect with the image too, whether or not there is a group of that name.
//! - **Loggers, telemetry subscriptions** have no configurations here.
//!
//! Checks in the order of Kafka's `ConfigAdminManager`, `ConfigurationControlManager` and `ControllerConfigurationValidator`.
//! A resource is changed whole or not at all.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Refusal, refuse, times};
use crate::cluster::image::{
    BROKER_LOGGER_RESOURCE, BROKER_RESOURCE, CLIENT_METRICS_RESOURCE, GROUP_RESOURCE, MetadataImage, TOPIC_RESOURCE,
};
use crate::cluster::records::{ConfigRecord, Record};
use crate::cluster::topic_name;
use crate::config::broker::{BrokerKey, Effect, LISTENER_PREFIX, NO_LISTENER_SETTINGS, Update};
use crate::config::group;
use crate::config::topic::{self, TopicKey};
use crate::config::value::Kind;
use crate::config::{BrokerConfig, Configs};
use crate::limits;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::{alter_configs as whole, incremental_alter_configs as incremental};
use crate::types::NodeId;

/// Kafka's `AlterConfigOp.OpType`.
mod operation {
    pub(super) const SET: i8 = 0;
    pub(super) const DELETE: i8 = 1;
    pub(super) const APPEND: i8 = 2;
    pub(super) const SUBTRACT: i8 = 3;
}

/// IncrementalAlterConfigs: one result for each resource of the request, in its order.
///
/// With `validate_only` the answer is the same and the records are none.
pub fn incremental_alter_configs(
    image: &MetadataImage,
    config: &BrokerConfig,
    request: &incremental::IncrementalAlterConfigsRequest<'_>,
) -> (Vec<Record>, incremental::IncrementalAlterConfigsResponse<'static>) {
    let resources: Vec<Resource<'_>> = request
        .resources
        .iter()
        .map(|resource| Resource {
            kind: resource.resource_type,
            name: &resource.resource_name,
            replaces: false,
            changes: resource
                .configs
                .iter()
                .map(|it| Change { name: &it.name, operation: it.config_operation, value: it.value.as_deref() })
                .collect(),
        })
        .collect();
    let (records, rows) = decide(image, config, &resources, request.validate_only);
    let row = |(resource_type, resource_name, error_code, error_message)| incremental::AlterConfigsResourceResponse {
        error_code,
        error_message,
        resource_type,
        resource_name,
    };
    let responses = rows.into_iter().map(row).collect();
    (records, incremental::IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses })
}

/// AlterConfigs: what is not named is taken away. One result for each resource of the request, in its order.
///
/// With `validate_only` the answer is the same and the records are none.
pub fn alter_configs(
    image: &MetadataImage,
    config: &BrokerConfig,
    request: &whole::AlterConfigsRequest<'_>,
) -> (Vec<Record>, whole::AlterConfigsResponse<'static>) {
    let resources: Vec<Resource<'_>> = request
        .resources
        .iter()
        .map(|resource| Resource {
            kind: resource.resource_type,
            name: &resource.resource_name,
            replaces: true,
            changes: resource
                .configs
                .iter()
                .map(|it| Change { name: &it.name, operation: operation::SET, value: it.value.as_deref() })
                .collect(),
        })
        .collect();
    let (records, rows) = decide(image, config, &resources, request.validate_only);
    let row = |(resource_type, resource_name, error_code, error_message)| whole::AlterConfigsResourceResponse {
        error_code,
        error_message,
        resource_type,
        resource_name,
    };
    let responses = rows.into_iter().map(row).collect();
    (records, whole::AlterConfigsResponse { throttle_time_ms: 0, responses })
}

/// What is set on the nodes of this machine, for one that is new: all of them have the same.
pub(super) fn inherited(image: &MetadataImage, from: NodeId, to: NodeId) -> impl Iterator<Item = Record> {
    let name: Arc<str> = Arc::from(to.to_string());
    image.broker_configs(from).iter().map(move |(key, value)| record(BROKER_RESOURCE, &name, key, Some(value)))
}

/// One resource of a request.
struct Resource<'a> {
    kind: i8,
    name: &'a str,
    /// Whether what is not named goes.
    replaces: bool,
    changes: Vec<Change<'a>>,
}

/// One configuration of a request.
struct Change<'a> {
    name: &'a str,
    operation: i8,
    value: Option<&'a str>,
}

fn told(outcome: Result<(), Refusal>) -> (i16, Option<Cow<'static, str>>) {
    match outcome {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(refusal) => (refusal.error.code(), Some(Cow::Owned(refusal.message))),
    }
}

/// What is answered for one resource: its type, its name, an error code and words for it.
type Row = (i8, Cow<'static, str>, i16, Option<Cow<'static, str>>);

fn decide(
    image: &MetadataImage,
    config: &BrokerConfig,
    resources: &[Resource<'_>],
    validate_only: bool,
) -> (Vec<Record>, Vec<Row>) {
    let (mut records, outcomes) = alter(image, config, resources);
    if validate_only {
        records.clear();
    }
    let row = |(resource, outcome): (&Resource<'_>, Result<(), Refusal>)| {
        let (error_code, error_message) = told(outcome);
        (resource.kind, Cow::Owned(resource.name.to_owned()), error_code, error_message)
    };
    (records, resources.iter().zip(outcomes).map(row).collect())
}

fn alter(
    image: &MetadataImage,
    config: &BrokerConfig,
    resources: &[Resource<'_>],
) -> (Vec<Record>, Vec<Result<(), Refusal>>) {
    let times = times(resources.iter().map(|resource| (resource.kind, resource.name)));
    let mut records = Records::default();
    let mut room = limits::CONFIGURED_GROUPS_MAX.saturating_sub(image.configured_group_count());
    let alter_one = |resource: &Resource<'_>| {
        if times[&(resource.kind, resource.name)] > 1 {
            return refuse(ErrorCode::InvalidRequest, "Each resource must appear at most once.");
        }
        check_form(resource)?;
        let changed = match resource.kind {
            TOPIC_RESOURCE => alter_topic(image, config, resource)?,
            BROKER_RESOURCE => alter_nodes(image, resource)?,
            GROUP_RESOURCE => alter_group(image, config, resource, &mut room)?,
            kind => return refuse(ErrorCode::InvalidRequest, unsupported(kind)),
        };
        records.take(changed)
    };
    let outcomes = resources.iter().map(alter_one).collect();
    (records.all, outcomes)
}

fn check_form(resource: &Resource<'_>) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    if !resource.changes.iter().all(|change| names.insert(change.name)) {
        return refuse(ErrorCode::InvalidRequest, "Error due to duplicate config keys");
    }
    let null = |change: &&Change<'_>| change.operation != operation::DELETE && change.value.is_none();
    let nulls: Vec<&str> = resource.changes.iter().filter(null).map(|change| change.name).collect();
    if !nulls.is_empty() {
        return refuse(ErrorCode::InvalidRequest, format!("Null value not supported for : {}", nulls.join(", ")));
    }
    Ok(())
}

fn unsupported(kind: i8) -> String {
    match kind {
        BROKER_LOGGER_RESOURCE => "Unsupported resource type: BROKER_LOGGER".to_owned(),
        CLIENT_METRICS_RESOURCE => "Unsupported resource type: CLIENT_METRICS".to_owned(),
        _ => format!("Unknown resource type {kind}"),
    }
}

fn alter_topic(image: &MetadataImage, config: &BrokerConfig, resource: &Resource<'_>) -> Result<Vec<Record>, Refusal> {
    let name = resource.name;
    let before = image.topic_configs(name);
    let list = |key: &str| TopicKey::named(key).filter(|key| key.kind == Kind::List).map(|key| Some(key.default));
    let wanted = changed(before, resource, list, not_a_list)?;
    if name.is_empty() {
        return refuse(ErrorCode::InvalidRequest, "Default topic resources are not allowed.");
    }
    if let Err(invalid) = topic_name::validate(name) {
        return refuse(ErrorCode::InvalidTopicException, invalid.to_string());
    }
    let given = wanted.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let valid = topic::validate(config, given).or_else(|error| refuse(ErrorCode::InvalidConfig, error.to_string()))?;
    if image.topic(name).is_none() {
        return refuse(ErrorCode::UnknownTopicOrPartition, format!("The topic '{name}' does not exist."));
    }
    Ok(difference(TOPIC_RESOURCE, name, before, &valid))
}

fn not_a_list(key: &str, word: &str) -> (ErrorCode, String) {
    (ErrorCode::InvalidConfig, format!("Can't {word} to key {key} because its type is not LIST."))
}

/// `room` is how many groups may still get their first setting.
fn alter_group(
    image: &MetadataImage,
    config: &BrokerConfig,
    resource: &Resource<'_>,
    room: &mut usize,
) -> Result<Vec<Record>, Refusal> {
    let name = resource.name;
    let before = image.group_configs(name);
    // No configuration of a group is a list.
    let wanted = changed(before, resource, |_| None, not_a_list)?;
    if name.is_empty() {
        return refuse(ErrorCode::InvalidRequest, "Default group resources are not allowed.");
    }
    let given = wanted.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let valid = group::validate(config, given).or_else(|error| refuse(ErrorCode::InvalidConfig, error.to_string()))?;
    if before.is_empty() && !valid.is_empty() {
        if name.len() > limits::CONFIGURED_GROUP_NAME_BYTES_MAX {
            let most = limits::CONFIGURED_GROUP_NAME_BYTES_MAX;
            let message = format!("A group with settings of its own has a name of at most {most} bytes.");
            return refuse(ErrorCode::PolicyViolation, message);
        }
        if *room == 0 {
            let most = limits::CONFIGURED_GROUPS_MAX;
            let message = format!("At most {most} groups have settings of their own: delete those of others first.");
            return refuse(ErrorCode::PolicyViolation, message);
        }
        *room -= 1;
    }
    Ok(difference(GROUP_RESOURCE, name, before, &valid))
}

/// All nodes of the machine when one is named, or what counts for all nodes of the cluster.
fn alter_nodes(image: &MetadataImage, resource: &Resource<'_>) -> Result<Vec<Record>, Refusal> {
    let names = node_names(image, resource.name)?;
    let before = match resource.name {
        "" => image.cluster_configs(),
        name => image.broker_configs(NodeId::new(name.parse().expect("node_names found the node"))),
    };
    let list = |key: &str| BrokerKey::named(key).filter(|key| key.kind == Kind::List).map(|key| key.default);
    let wanted = changed(before, resource, list, |key, word| {
        let word = word.to_lowercase();
        (ErrorCode::InvalidConfig, format!("Config value {word} is not allowed for config key: {key}"))
    })?;
    let valid = check_nodes_configs(&wanted, resource.name.is_empty())?;
    let of_node = |name: &String| match name.parse() {
        Ok(node) => difference(BROKER_RESOURCE, name, image.broker_configs(NodeId::new(node)), &valid),
        Err(_) => difference(BROKER_RESOURCE, name, image.cluster_configs(), &valid),
    };
    Ok(names.iter().flat_map(of_node).collect())
}

/// The resources that a name stands for.
fn node_names(image: &MetadataImage, name: &str) -> Result<Vec<String>, Refusal> {
    if name.is_empty() {
        return Ok(vec![String::new()]);
    }
    let Ok(node) = name.parse() else {
        return refuse(ErrorCode::InvalidRequest, format!("Node id must be an integer, but it is: {name}"));
    };
    if image.broker(NodeId::new(node)).is_none() {
        return refuse(
            ErrorCode::InvalidRequest,
            format!("Unexpected broker id, expected a node of this process, but received {name}"),
        );
    }
    Ok(image.brokers().map(|broker| broker.node().to_string()).collect())
}

/// Kafka answers INVALID_REQUEST, not INVALID_CONFIG, for what is wrong with a node's configuration. The order of the checks is
/// that of its `DynamicBrokerConfig`. `of_all`: it is to count for all nodes of the cluster.
fn check_nodes_configs(wanted: &Configs, of_all: bool) -> Result<Configs, Refusal> {
    let invalid = |message| refuse(ErrorCode::InvalidRequest, message);
    let fixed = set_of(wanted, |key| {
        matches!(key.update, Update::Fixed | Update::Hidden) || matches!(key.effect, Effect::Elsewhere(_))
    });
    if let Some(fixed) = fixed {
        return invalid(format!("Cannot update these configs dynamically: {fixed}"));
    }
    let mut valid = Configs::new();
    for (name, value) in wanted {
        valid.insert(name.clone(), check_node_config(name, value)?);
    }
    let of_one = set_of(wanted, |key| key.update == Update::PerNode).filter(|_| of_all);
    if let Some(of_one) = of_one {
        return invalid(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: {of_one}"
        ));
    }
    let unknown_count = wanted.keys().filter(|name| BrokerKey::named(name).is_none()).count();
    if unknown_count > limits::UNKNOWN_CONFIGS_MAX {
        let most = limits::UNKNOWN_CONFIGS_MAX;
        let message = format!("At most {most} configurations that nobody knows are kept: delete others first.");
        return refuse(ErrorCode::PolicyViolation, message);
    }
    Ok(valid)
}

/// The known keys of that kind, as Scala prints a set of them; nothing if there are none.
fn set_of(configs: &Configs, is_meant: impl Fn(&BrokerKey) -> bool) -> Option<String> {
    let meant: Vec<&str> = configs
        .keys()
        .filter_map(|name| BrokerKey::named(name))
        .filter(|key| is_meant(key))
        .map(|key| key.name)
        .collect();
    (!meant.is_empty()).then(|| format!("Set({})", meant.join(", ")))
}

/// The canonical text of one value; of a key that nobody knows it stays as it is.
fn check_node_config(name: &str, value: &str) -> Result<String, Refusal> {
    let refused = |value: &str, reason: &dyn std::fmt::Display| {
        refuse(ErrorCode::InvalidRequest, format!("Invalid value {value} for configuration {name}: {reason}"))
    };
    if let Some(key) = BrokerKey::named(name) {
        let shown = if key.is_sensitive() { "[hidden]" } else { value };
        return key.check(value).or_else(|reason| refused(shown, &reason));
    }
    if name.starts_with(LISTENER_PREFIX) {
        return refused("[hidden]", &NO_LISTENER_SETTINGS);
    }
    if name.is_empty() || name.len() + value.len() > limits::UNKNOWN_CONFIG_BYTES_MAX {
        let most = limits::UNKNOWN_CONFIG_BYTES_MAX;
        let message = format!("A configuration that nobody knows has a name, and with its value at most {most} bytes.");
        return refuse(ErrorCode::PolicyViolation, message);
    }
    Ok(value.to_owned())
}

/// What a resource would have after its changes. `list` is the default of a key that is a list; `no_list` says what to answer
/// to an operation on one that is not.
fn changed<'d>(
    before: &Configs,
    resource: &Resource<'_>,
    list: impl Fn(&str) -> Option<Option<&'d str>>,
    no_list: impl Fn(&str, &str) -> (ErrorCode, String),
) -> Result<Configs, Refusal> {
    let mut wanted = if resource.replaces { Configs::new() } else { before.clone() };
    for change in &resource.changes {
        let value = change.value.unwrap_or_default();
        let appends = match change.operation {
            operation::SET => {
                wanted.insert(change.name.to_owned(), value.to_owned());
                continue;
            }
            operation::DELETE => {
                wanted.remove(change.name);
                continue;
            }
            operation::APPEND => true,
            operation::SUBTRACT => false,
            other => return refuse(ErrorCode::InvalidRequest, format!("Unknown operations type {other}")),
        };
        let Some(default) = list(change.name) else {
            let (error, message) = no_list(change.name, if appends { "APPEND" } else { "SUBTRACT" });
            return refuse(error, message);
        };
        let current = wanted.get(change.name).map(String::as_str).or(default).unwrap_or_default();
        let mut items: Vec<&str> = items(current).collect();
        for item in self::items(value) {
            match items.iter().position(|known| *known == item) {
                None if appends => items.push(item),
                Some(place) if !appends => drop(items.remove(place)),
                _ => {}
            }
        }
        let joined = items.join(",");
        wanted.insert(change.name.to_owned(), joined);
    }
    Ok(wanted)
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The records that lead from one configuration to another.
fn difference(kind: i8, name: &str, before: &Configs, after: &Configs) -> Vec<Record> {
    let name: Arc<str> = Arc::from(name);
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| record(kind, &name, key, None));
    let set = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    gone.chain(set.map(|(key, value)| record(kind, &name, key, Some(value)))).collect()
}

fn record(resource_type: i8, name: &Arc<str>, key: &str, value: Option<&str>) -> Record {
    let (resource_name, name) = (Arc::clone(name), Arc::from(key));
    ConfigRecord { resource_type, resource_name, name, value: value.map(Arc::from) }.into()
}

/// The records of one request, bounded: they become one batch.
#[derive(Default)]
struct Records {
    all: Vec<Record>,
    bytes: usize,
}

impl Records {
    fn take(&mut self, more: Vec<Record>) -> Result<(), Refusal> {
        let bytes: usize = more.iter().map(record_bytes).sum();
        let too_many = self.all.len() + more.len() > limits::CONFIG_RECORDS_PER_REQUEST_MAX;
        if too_many || self.bytes + bytes > limits::CONFIG_BYTES_PER_REQUEST_MAX {
            return refuse(ErrorCode::PolicyViolation, "Unable to perform excessively large batch operation.");
        }
        self.bytes += bytes;
        self.all.extend(more);
        Ok(())
    }
}

/// What is long in a record that a client had made.
fn record_bytes(record: &Record) -> usize {
    match record {
        Record::Config(record) => {
            record.resource_name.len() + record.name.len() + record.value.as_ref().map_or(0, |value| value.len())
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster, create, topic};
    use super::*;

    type Set<'a> = (&'a str, i8, Option<&'a str>);

    fn image() -> MetadataImage {
        create(&cluster(2), &BrokerConfig::default(), vec![topic("t", 1, 1), topic("u", 1, 1)]).0
    }

    fn resource(kind: i8, name: &str, configs: &[Set<'_>]) -> incremental::AlterConfigsResource<'static> {
        let config = |(name, config_operation, value): &Set<'_>| incremental::AlterableConfig {
            name: Cow::Owned((*name).to_owned()),
            config_operation: *config_operation,
            value: value.map(|value| Cow::Owned(value.to_owned())),
        };
        incremental::AlterConfigsResource {
            resource_type: kind,
            resource_name: Cow::Owned(name.to_owned()),
            configs: configs.iter().map(config).collect(),
        }
    }

    fn ask(
        image: &MetadataImage,
        resources: Vec<incremental::AlterConfigsResource<'static>>,
    ) -> (MetadataImage, Vec<(i16, String)>) {
        let request = incremental::IncrementalAlterConfigsRequest { resources, validate_only: false };
        let (records, response) = incremental_alter_configs(image, &BrokerConfig::default(), &request);
        let told = response.responses.into_iter().map(|row| {
            assert_eq!(row.error_message.is_none(), row.error_code == 0);
            (row.error_code, row.error_message.unwrap_or_default().into_owned())
        });
        (image.apply(&records).unwrap(), told.collect())
    }

    fn alter_one(image: &MetadataImage, kind: i8, name: &str, configs: &[Set<'_>]) -> MetadataImage {
        let (after, rows) = ask(image, vec![resource(kind, name, configs)]);
        assert_eq!(rows, [(0, String::new())]);
        after
    }

    fn refusal(kind: i8, name: &str, configs: &[Set<'_>]) -> (i16, String) {
        let image = image();
        let (after, mut rows) = ask(&image, vec![resource(kind, name, configs)]);
        assert_eq!(after, image, "what is refused leaves no trace");
        rows.remove(0)
    }

    fn text(configs: &Configs) -> String {
        configs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_topics_configurations_are_set_and_deleted() {
        let image = alter_one(&image(), 2, "t", &[("retention.ms", 0, Some(" 5")), ("segment.ms", 0, Some("7"))]);
        assert_eq!(text(image.topic_configs("t")), "retention.ms=5 segment.ms=7");
        let image = alter_one(&image, 2, "t", &[("retention.ms", 1, None), ("never.known", 1, None)]);
        assert_eq!(text(image.topic_configs("t")), "segment.ms=7");
        assert_eq!(text(image.topic_configs("u")), "");
    }

    #[test]
    fn lists_grow_and_shrink_from_their_default_on() {
        let image = alter_one(&image(), 2, "t", &[("cleanup.policy", 2, Some("compact,delete"))]);
        assert_eq!(text(image.topic_configs("t")), "cleanup.policy=delete,compact");
        let image = alter_one(&image, 2, "t", &[("cleanup.policy", 3, Some("delete"))]);
        assert_eq!(text(image.topic_configs("t")), "cleanup.policy=compact");
        let image = alter_one(&image, 4, "", &[("log.cleanup.policy", 2, Some("compact"))]);
        assert_eq!(text(image.cluster_configs()), "log.cleanup.policy=delete,compact");
    }

    #[test]
    fn what_is_set_on_one_node_is_set_on_all_of_the_machine_and_on_those_to_come() {
        let image = alter_one(&image(), 4, "2", &[("log.retention.ms", 0, Some("5"))]);
        for node in [1, 2] {
            assert_eq!(text(image.broker_configs(NodeId::new(node))), "log.retention.ms=5");
        }
        let later = cluster_of(&image, 3);
        assert_eq!(text(later.broker_configs(NodeId::new(3))), "log.retention.ms=5");
        let image = alter_one(&later, 4, "1", &[("log.retention.ms", 1, None)]);
        assert_eq!(text(image.broker_configs(NodeId::new(3))), "");
    }

    fn cluster_of(image: &MetadataImage, nodes: u16) -> MetadataImage {
        let records = super::super::register_nodes(image, &super::super::tests::starts(nodes), &mut || 7);
        image.apply(&records).unwrap()
    }

    #[test]
    fn the_whole_configuration_is_replaced_by_the_older_request() {
        let image = alter_one(&image(), 2, "t", &[("retention.ms", 0, Some("5")), ("segment.ms", 0, Some("7"))]);
        let config = whole::AlterableConfig { name: Cow::Borrowed("retention.ms"), value: Some(Cow::Borrowed("6")) };
        let resource =
            whole::AlterConfigsResource { resource_type: 2, resource_name: Cow::Borrowed("t"), configs: vec![config] };
        let mut request = whole::AlterConfigsRequest { resources: vec![resource], validate_only: true };
        let (records, response) = alter_configs(&image, &BrokerConfig::default(), &request);
        assert_eq!((records.len(), response.responses[0].error_code), (0, 0));
        request.validate_only = false;
        let (records, _) = alter_configs(&image, &BrokerConfig::default(), &request);
        assert_eq!(text(image.apply(&records).unwrap().topic_configs("t")), "retention.ms=6");
    }

    /// Codes and words of Apache Kafka 4.1.1, but where the values themselves are named.
    #[test]
    fn refusals_are_kafkas() {
        let told = |error: ErrorCode, message: &str| (error.code(), message.to_owned());
        let invalid = |message| told(ErrorCode::InvalidRequest, message);
        let set = |name, value| [(name, 0, Some(value))];
        assert_eq!(
            refusal(4, "1", &set("num.partitions", "3")),
            invalid("Cannot update these configs dynamically: Set(num.partitions)")
        );
        let both = [("num.partitions", 0, Some("3")), ("node.id", 0, Some("x"))];
        assert_eq!(
            refusal(4, "1", &both),
            invalid("Cannot update these configs dynamically: Set(node.id, num.partitions)")
        );
        for name in ["advertised.listeners", "log.dirs", "broker.rack", "process.roles", "unstable.api.versions.enable"]
        {
            let words = format!("Cannot update these configs dynamically: Set({name})");
            assert_eq!(refusal(4, "", &set(name, "1")), (ErrorCode::InvalidRequest.code(), words));
        }
        assert_eq!(
            refusal(4, "", &set("sasl.kerberos.kinit.cmd", "/bin/kinit")),
            invalid(
                "Cannot update these configs at default cluster level, broker id must be specified: \
                 Set(sasl.kerberos.kinit.cmd)"
            )
        );
        assert_eq!(
            refusal(4, "", &set("sasl.kerberos.ticket.renew.jitter", "z")),
            invalid("Invalid value z for configuration sasl.kerberos.ticket.renew.jitter: Not a number of type DOUBLE")
        );
        assert_eq!(
            refusal(4, "1", &set("background.threads", "0")),
            invalid("Invalid value 0 for configuration background.threads: Value must be at least 1")
        );
        assert_eq!(refusal(4, "1", &set("log.retention.ms", "x")).0, 42);
        assert_eq!(refusal(4, "x", &set("log.retention.ms", "1")), invalid("Node id must be an integer, but it is: x"));
        assert_eq!(refusal(4, "7", &set("log.retention.ms", "1")).0, 42);
        assert_eq!(
            refusal(4, "1", &[("log.retention.ms", 2, Some("1"))]),
            told(ErrorCode::InvalidConfig, "Config value append is not allowed for config key: log.retention.ms")
        );
        assert_eq!(refusal(4, "1", &[("log.cleanup.policy", 9, Some("1"))]), invalid("Unknown operations type 9"));
        assert_eq!(
            refusal(2, "t", &[("retention.ms", 2, Some("1"))]),
            told(ErrorCode::InvalidConfig, "Can't APPEND to key retention.ms because its type is not LIST.")
        );
        assert_eq!(refusal(2, "t", &set("retention.ms", "soon")).0, 40);
        assert_eq!(refusal(2, "t", &set("retention.mss", "1")).0, 40);
        assert_eq!(
            refusal(2, "t", &[("retention.ms", 0, None)]),
            invalid("Null value not supported for : retention.ms")
        );
        let twice = [("retention.ms", 0, Some("1")), ("retention.ms", 1, None)];
        assert_eq!(refusal(2, "t", &twice), invalid("Error due to duplicate config keys"));
        assert_eq!(refusal(2, "", &set("retention.ms", "1")), invalid("Default topic resources are not allowed."));
        assert_eq!(refusal(2, "a/b", &set("retention.ms", "1")).0, 17);
        assert_eq!(refusal(2, "absent", &set("retention.ms", "x")).0, 40);
        assert_eq!(
            refusal(2, "absent", &set("retention.ms", "1")),
            told(ErrorCode::UnknownTopicOrPartition, "The topic 'absent' does not exist.")
        );
        let of_groups = set("consumer.session.timeout.ms", "50000");
        assert_eq!(refusal(32, "", &of_groups), invalid("Default group resources are not allowed."));
        assert_eq!(
            refusal(32, "", &[("consumer.session.timeout.ms", 2, Some("1"))]),
            told(
                ErrorCode::InvalidConfig,
                "Can't APPEND to key consumer.session.timeout.ms because its type is not LIST."
            )
        );
        assert_eq!(
            refusal(32, "g", &set("no.such", "1")),
            told(ErrorCode::InvalidConfig, "Unknown group config name: no.such")
        );
        assert_eq!(refusal(32, "g", &set("consumer.session.timeout.ms", "44999")).0, 40);
        for kind in [8, 16, 0, 3, 99, -1] {
            assert_eq!(refusal(kind, "1", &set("x", "y")).0, 42, "{kind}");
        }
    }

    /// They were called unknown, although a start with them is accepted with a warning.
    #[test]
    fn keys_that_kafka_changes_at_run_time_change_here_too_if_only_in_what_is_told() {
        let values = [
            ("background.threads", "12"),
            ("num.io.threads", "9"),
            ("log.cleaner.threads", "2"),
            ("log.cleaner.io.max.bytes.per.second", "5.0"),
            ("log.cleanup.policy", "compact"),
            ("sasl.kerberos.kinit.cmd", "/bin/kinit"),
            ("remote.log.reader.threads", "11"),
            ("transaction.partition.verification.enable", "false"),
        ];
        for (name, value) in values {
            let image = alter_one(&image(), 4, "1", &[(name, 0, Some(value))]);
            assert_eq!(text(image.broker_configs(NodeId::new(2))), format!("{name}={value}"));
            assert_eq!(alter_one(&image, 4, "1", &[(name, 1, None)]).broker_configs(NodeId::new(1)), &Configs::new());
        }
    }

    /// Kafka takes them; here somebody would rely on them in vain.
    #[test]
    fn what_would_deceive_is_refused_with_the_reason_and_without_secrets() {
        let refused = |name, value| {
            let (error, message) = refusal(4, "1", &[(name, 0, Some(value))]);
            assert_eq!(error, ErrorCode::InvalidRequest.code(), "{name}");
            message
        };
        assert_eq!(
            refused("max.connections.per.ip", "5"),
            "Invalid value 5 for configuration max.connections.per.ip: there are no connection quotas yet"
        );
        assert!(refused("sasl.enabled.mechanisms", "PLAIN").contains("no authentication"));
        assert!(refused("listeners", "PLAINTEXT://h:1").contains("Cannot update these configs dynamically"));
        for name in ["ssl.keystore.password", "listener.name.plaintext.ssl.keystore.password"] {
            assert!(!refused(name, "hunter2").contains("hunter2"));
        }
        alter_one(&image(), 4, "1", &[("max.connections.per.ip", 0, Some("2147483647"))]);
    }

    /// As Kafka does, but with an end.
    #[test]
    fn keys_that_nobody_knows_are_kept_up_to_a_bound() {
        let image = alter_one(&image(), 4, "1", &[("foo.bar", 0, Some(" 3"))]);
        assert_eq!(text(image.broker_configs(NodeId::new(2))), "foo.bar= 3");
        let names: Vec<String> = (0..=limits::UNKNOWN_CONFIGS_MAX).map(|number| format!("x.{number}")).collect();
        let sets: Vec<Set<'_>> = names.iter().map(|name| (name.as_str(), 0, Some("1"))).collect();
        let (most, one_more) = sets.split_at(limits::UNKNOWN_CONFIGS_MAX);
        let full = alter_one(&self::image(), 4, "", most);
        let (_, rows) = ask(&full, vec![resource(4, "", one_more)]);
        assert_eq!(rows[0].0, ErrorCode::PolicyViolation.code());
        alter_one(&full, 4, "", &[("x.0", 1, None), one_more[0], ("num.io.threads", 0, Some("9"))]);
        let long = "v".repeat(limits::UNKNOWN_CONFIG_BYTES_MAX);
        assert_eq!(refusal(4, "1", &[("x", 0, Some(&long))]).0, ErrorCode::PolicyViolation.code());
        assert_eq!(refusal(4, "1", &[(&long, 0, Some("v"))]).0, ErrorCode::PolicyViolation.code());
        alter_one(&self::image(), 4, "1", &[("x", 0, Some(&long[1..]))]);
    }

    #[test]
    fn a_resource_that_stands_twice_is_not_changed_and_the_others_are() {
        let image = image();
        let of = |name, value: &'static str| resource(2, name, &[("retention.ms", 0, Some(value))]);
        let (after, rows) = ask(&image, vec![of("t", "1"), of("u", "2"), of("t", "3")]);
        assert_eq!(rows.iter().map(|(error, _)| *error).collect::<Vec<_>>(), [42, 0, 42]);
        assert_eq!(
            (text(after.topic_configs("t")), text(after.topic_configs("u"))),
            (String::new(), "retention.ms=2".to_owned())
        );
    }

    #[test]
    fn a_groups_configurations_are_set_and_deleted_whether_it_is_there_or_not() {
        let (session, heartbeat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
        let image = alter_one(&image(), 32, "g", &[(session, 0, Some("+50000")), (heartbeat, 0, Some("6000"))]);
        assert_eq!(text(image.group_configs("g")), format!("{heartbeat}=6000 {session}=50000"));
        let image = alter_one(&image, 32, "g", &[(session, 1, None), ("never.known", 1, None)]);
        assert_eq!(text(image.group_configs("g")), format!("{heartbeat}=6000"));
        assert_eq!(image.configured_groups().map(|name| &**name).collect::<Vec<_>>(), ["g"]);
        let image = alter_one(&image, 32, "g", &[(heartbeat, 1, None)]);
        assert_eq!(image.configured_group_count(), 0);
    }

    #[test]
    fn groups_with_settings_and_their_names_are_bounded() {
        let set = |name: &str| resource(32, name, &[("consumer.session.timeout.ms", 0, Some("50000"))]);
        let names = |range: std::ops::Range<usize>| range.map(|number| set(&format!("g{number}"))).collect::<Vec<_>>();
        let errors = |rows: &[(i16, String)]| rows.iter().map(|(error, _)| *error).collect::<Vec<_>>();
        let full = limits::CONFIGURED_GROUPS_MAX;
        let (image, _) = ask(&image(), names(0..full - 1));
        assert_eq!(image.configured_group_count(), full - 1);
        let refused = ErrorCode::PolicyViolation.code();
        // One more fits, and those that are there may change.
        let (image, rows) = ask(&image, [names(full - 1..full + 1), vec![set("g0")]].concat());
        assert_eq!(errors(&rows), [0, refused, 0]);
        let (image, rows) = ask(&image, vec![set("another")]);
        assert_eq!(errors(&rows), [refused]);
        let image = alter_one(&image, 32, "g0", &[("consumer.session.timeout.ms", 1, None)]);
        let (_, rows) =
            ask(&image, vec![set(&"n".repeat(limits::CONFIGURED_GROUP_NAME_BYTES_MAX + 1)), set("another")]);
        assert_eq!(errors(&rows), [refused, 0]);
    }

    #[test]
    fn one_request_makes_a_bounded_number_of_records() {
        let record = |_| record(2, &Arc::from("t"), "k", Some("v"));
        let many = |count| (0..count).map(record).collect::<Vec<_>>();
        let mut records = Records::default();
        records.take(many(limits::CONFIG_RECORDS_PER_REQUEST_MAX - 1)).unwrap();
        assert_eq!(records.take(many(2)).unwrap_err().error, ErrorCode::PolicyViolation);
        records.take(many(1)).unwrap();
        assert_eq!(records.all.len(), limits::CONFIG_RECORDS_PER_REQUEST_MAX);
    }
}
