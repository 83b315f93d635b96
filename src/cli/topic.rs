//! `corelane topic create|list|describe|alter|delete`: topics of any Kafka-compatible cluster.

mod alter;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::json;

use super::client::{
    BootstrapArguments, Client, ClientError, EARLIEST, LATEST, Partition, READ_UNCOMMITTED, Refusal, Retry, Topic,
    is_unknown_topic,
};
use super::output::{Format, FormatArguments, write_table};
use crate::limits::CLIENT_REQUEST_MS;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use crate::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use crate::types::Durability;

/// Options of `corelane topic`.
#[derive(Args, Debug)]
pub(super) struct TopicArguments {
    #[command(flatten)]
    bootstrap: BootstrapArguments,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic
    Create(CreateArguments),
    /// Print the names of all topics
    List(FormatArguments),
    /// Print partitions, leaders, offsets, durability and configuration
    Describe(DescribeArguments),
    /// Add partitions, change settings
    Alter(alter::AlterArguments),
    /// Delete topics and their records
    Delete(DeleteArguments),
}

#[derive(Args, Debug)]
struct CreateArguments {
    /// Name of the topic
    name: String,
    /// Partitions [default: the broker's num.partitions]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Copies of each partition [default: the broker's default.replication.factor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// One setting of the topic, by Kafka's name; may repeat
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    config: Vec<(String, String)>,
    /// Succeed if the topic exists already, whatever its partitions and settings
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Args, Debug)]
struct DescribeArguments {
    /// Name of the topic [default: all]
    name: Option<String>,
    #[command(flatten)]
    format: FormatArguments,
}

#[derive(Args, Debug)]
struct DeleteArguments {
    /// Names of the topics
    #[arg(required = true)]
    names: Vec<String>,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TopicError {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Some topics were refused; each was named on stderr.
    #[error("{failed} of {all} topics were not deleted")]
    Partly { failed: usize, all: usize },
    /// Stdout took nothing more.
    #[error("cannot write to stdout: {0}")]
    Output(#[from] io::Error),
}

/// Kafka's config resource type of a topic.
const RESOURCE_TOPIC: i8 = 2;
/// Kafka's config source of a value that nobody set.
const SOURCE_DEFAULT: i8 = 5;
/// The key that decides how durable an acknowledged record is.
const FLUSH_MESSAGES: &str = "flush.messages";

/// Runs one of the commands.
pub(super) fn run(arguments: &TopicArguments) -> Result<(), TopicError> {
    let mut client = Client::connect(&arguments.bootstrap.bootstrap)?;
    let outcome = match &arguments.command {
        TopicCommand::Create(options) => create(&mut client, options),
        TopicCommand::List(options) => list(&mut client, options.format),
        TopicCommand::Describe(options) => describe(&mut client, options),
        TopicCommand::Alter(options) => alter::run(&mut client, options),
        TopicCommand::Delete(options) => delete(&mut client, &options.names),
    };
    match outcome {
        // A reader that has seen enough, as in `| head`.
        Err(TopicError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn create(client: &mut Client, options: &CreateArguments) -> Result<(), TopicError> {
    let configs = options
        .config
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name: Cow::Borrowed(name), value: Some(Cow::Borrowed(value)) });
    let topic = CreatableTopic {
        name: Cow::Borrowed(&options.name),
        num_partitions: options.partitions.unwrap_or(-1),
        replication_factor: options.replication_factor.unwrap_or(-1),
        assignments: Vec::new(),
        configs: configs.collect(),
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: CLIENT_REQUEST_MS, validate_only: false };
    let created = Retry::new().run(|| {
        client.metadata(Some(&[]), false)?;
        let answer = client.call_controller(&request)?;
        let response: CreateTopicsResponse<'_> = answer.decode()?;
        let result = response.topics.first().cloned().unwrap_or_default();
        match ErrorCode::from_code(result.error_code) {
            Some(ErrorCode::None) => Ok(true),
            Some(ErrorCode::TopicAlreadyExists) if options.if_not_exists => Ok(false),
            _ => {
                let subject = format!("topic {}", options.name);
                Err(ClientError::refused(subject, result.error_code, result.error_message.as_deref()))
            }
        }
    })?;
    let outcome = if created { "created" } else { "exists already" };
    writeln!(io::stdout(), "topic {} {outcome}", options.name)?;
    Ok(())
}

fn list(client: &mut Client, format: Format) -> Result<(), TopicError> {
    let mut topics = all_topics(client)?;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = io::BufWriter::new(io::stdout().lock());
    match format {
        Format::Text => topics.iter().try_for_each(|topic| writeln!(out, "{}", topic.name))?,
        Format::Json => {
            let rows = topics.iter().map(|topic| {
                json!({
                    "topic": topic.name,
                    "id": topic_id(topic),
                    "internal": topic.is_internal,
                    "partitions": topic.partitions.len(),
                })
            });
            writeln!(out, "{}", serde_json::Value::from_iter(rows))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn delete(client: &mut Client, names: &[String]) -> Result<(), TopicError> {
    let mut failed = 0;
    // One request per topic, so that a broker's slow deletion of one is not mistaken for a failure of all.
    for name in names {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(Cow::Borrowed(name)), ..DeleteTopicState::default() }],
            topic_names: vec![Cow::Borrowed(name)],
            timeout_ms: CLIENT_REQUEST_MS,
        };
        let deleted = Retry::new().run(|| {
            client.metadata(Some(&[]), false)?;
            let answer = client.call_controller(&request)?;
            let response: DeleteTopicsResponse<'_> = answer.decode()?;
            let result = response.responses.first().cloned().unwrap_or_default();
            match ErrorCode::from_code(result.error_code) {
                Some(ErrorCode::None) => Ok(Ok(())),
                // Another try would not find it either.
                Some(ErrorCode::UnknownTopicOrPartition) => {
                    Ok(Err(Refusal::new(result.error_code, Some("there is no such topic"))))
                }
                _ => {
                    let message = result.error_message.as_deref();
                    Err(ClientError::refused(format!("topic {name}"), result.error_code, message))
                }
            }
        });
        match deleted {
            Ok(Ok(())) => writeln!(io::stdout(), "topic {name} deleted")?,
            Ok(Err(refusal)) => {
                failed += 1;
                eprintln!("corelane: topic {name}: {refusal}");
            }
            Err(error @ ClientError::Refused { .. }) => {
                failed += 1;
                eprintln!("corelane: {error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    if failed == 0 { Ok(()) } else { Err(TopicError::Partly { failed, all: names.len() }) }
}

/// What `describe` tells of one topic.
struct Description {
    topic: Topic,
    /// By partition; none where the leader did not say.
    starts: BTreeMap<i32, i64>,
    ends: BTreeMap<i32, i64>,
    /// The word for what an acknowledgement means, if the broker told.
    durability: Option<Durability>,
    /// Settings that differ from Kafka's defaults, by name.
    configs: BTreeMap<String, String>,
}

fn describe(client: &mut Client, options: &DescribeArguments) -> Result<(), TopicError> {
    let mut topics = match &options.name {
        Some(name) => vec![client.topic(name, false)?],
        None => all_topics(client)?,
    };
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let mut settings = Retry::new().run(|| settings_of(client, &topics))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut rows = Vec::new();
    for (index, topic) in topics.into_iter().enumerate() {
        let (durability, configs) = settings.remove(&topic.name).unwrap_or_default();
        let starts = known_offsets(client, &topic, EARLIEST);
        let ends = known_offsets(client, &topic, LATEST);
        let description = Description { topic, starts, ends, durability, configs };
        match options.format.format {
            Format::Text => {
                if index > 0 {
                    writeln!(out)?;
                }
                write_text(&mut out, client, &description)?;
            }
            Format::Json => rows.push(to_json(client, &description)),
        }
    }
    if options.format.format == Format::Json {
        writeln!(out, "{}", serde_json::Value::from(rows))?;
    }
    out.flush()?;
    Ok(())
}

/// All topics that can be told about; the others are named on stderr.
fn all_topics(client: &mut Client) -> Result<Vec<Topic>, ClientError> {
    let mut topics = Vec::new();
    for topic in Retry::new().run(|| client.metadata(None, false))? {
        match topic {
            Ok(topic) => topics.push(topic),
            // Deleted between the broker's list and its look at it.
            Err(error) if is_unknown_topic(&error) => {}
            Err(error) => eprintln!("corelane: {error}"),
        }
    }
    Ok(topics)
}

type Settings = BTreeMap<String, (Option<Durability>, BTreeMap<String, String>)>;

/// Durability and settings of each topic. One that is refused is missing from the answer.
fn settings_of(client: &mut Client, topics: &[Topic]) -> Result<Settings, ClientError> {
    let resources = topics.iter().map(|topic| DescribeConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: Cow::Borrowed(&topic.name),
        configuration_keys: None,
    });
    let request = DescribeConfigsRequest {
        resources: resources.collect(),
        include_synonyms: false,
        include_documentation: false,
    };
    let answer = client.call_any(&request)?;
    let response: DescribeConfigsResponse<'_> = answer.decode()?;
    let described = response.results.iter().filter(|result| result.error_code == 0).map(|result| {
        let mut durability = None;
        let mut configs = BTreeMap::new();
        for config in &result.configs {
            let value = config.value.as_deref();
            if config.name == FLUSH_MESSAGES {
                durability = value.map(durability_of);
            }
            if config.config_source != SOURCE_DEFAULT {
                configs.insert(config.name.clone().into_owned(), value.unwrap_or("(hidden)").to_owned());
            }
        }
        (result.resource_name.clone().into_owned(), (durability, configs))
    });
    Ok(described.collect())
}

/// An acknowledged record survives a power cut only if every single one is flushed.
fn durability_of(flush_messages: &str) -> Durability {
    if flush_messages == "1" { Durability::Flushed } else { Durability::Written }
}

/// Offsets of those partitions whose leader can say.
fn known_offsets(client: &mut Client, topic: &Topic, timestamp: i64) -> BTreeMap<i32, i64> {
    let indexes: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
    match client.offsets(topic, &indexes, timestamp, READ_UNCOMMITTED) {
        Ok(found) => found.into_iter().filter_map(|(index, offset)| Some((index, offset.ok()?))).collect(),
        Err(error) => {
            eprintln!("corelane: topic {}: {error}", topic.name);
            BTreeMap::new()
        }
    }
}

fn write_text(out: &mut impl Write, client: &Client, description: &Description) -> io::Result<()> {
    let Description { topic, starts, ends, durability, configs } = description;
    let replicas = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
    writeln!(
        out,
        "topic {}  id {}  partitions {}  replicas {replicas}  durability {}",
        topic.name,
        topic.id,
        topic.partitions.len(),
        durability.map_or("unknown", Durability::word),
    )?;
    let settings: Vec<String> = configs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if !settings.is_empty() {
        writeln!(out, "  {}", settings.join("  "))?;
    }
    let mut rows =
        vec![["partition", "leader", "epoch", "log start", "log end", "replicas", "in sync"].map(str::to_owned)];
    for partition in &topic.partitions {
        let offset = |offsets: &BTreeMap<i32, i64>| {
            offsets.get(&partition.index).map_or_else(|| "?".to_owned(), ToString::to_string)
        };
        rows.push([
            partition.index.to_string(),
            leader_of(client, partition),
            partition.leader_epoch.to_string(),
            offset(starts),
            offset(ends),
            node_list(&partition.replicas),
            node_list(&partition.in_sync),
        ]);
    }
    write_table(out, &rows)
}

/// Node id and address of the leader.
fn leader_of(client: &Client, partition: &Partition) -> String {
    if partition.leader < 0 {
        return "none".to_owned();
    }
    match client.address(partition.leader) {
        Ok(address) => format!("{} ({address})", partition.leader),
        Err(_) => partition.leader.to_string(),
    }
}

fn node_list(nodes: &[i32]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn to_json(client: &Client, description: &Description) -> serde_json::Value {
    let Description { topic, starts, ends, durability, configs } = description;
    let partitions = topic.partitions.iter().map(|partition| {
        json!({
            "partition": partition.index,
            "leader": partition.leader,
            "address": client.address(partition.leader).ok().map(ToString::to_string),
            "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas,
            "in_sync": partition.in_sync,
            "log_start": starts.get(&partition.index),
            "log_end": ends.get(&partition.index),
        })
    });
    json!({
        "topic": topic.name,
        "id": topic_id(topic),
        "internal": topic.is_internal,
        "durability": durability.map(Durability::word),
        "configs": configs,
        "partitions": serde_json::Value::from_iter(partitions),
    })
}

/// The id in Kafka's text form; null from brokers that know none.
fn topic_id(topic: &Topic) -> Option<String> {
    (!topic.id.is_zero()).then(|| topic.id.to_string())
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no setting; write KEY=VALUE, for example retention.ms=86400000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flush_per_record_is_called_flushed() {
        assert_eq!(durability_of("1").word(), "flushed");
        assert_eq!(durability_of("2").word(), "written");
        assert_eq!(durability_of("9223372036854775807").word(), "written");
    }

    #[test]
    fn settings_may_hold_further_equals_signs_and_empty_values() {
        assert_eq!(parse_setting("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_setting("a="), Ok(("a".to_owned(), String::new())));
        assert!(parse_setting("a").is_err());
        assert!(parse_setting("=b").is_err());
    }
}
