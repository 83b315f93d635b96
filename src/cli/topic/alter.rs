//! `corelane topic alter`: more partitions, and settings that change while the topic is used.

use std::borrow::Cow;
use std::io::{self, Write};

use clap::Args;

use super::{RESOURCE_TOPIC, TopicError, parse_setting};
use crate::cli::client::{Client, ClientError, Retry};
use crate::limits::CLIENT_REQUEST_MS;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};

/// Kafka's `AlterConfigOp.OpType`.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// Options of `corelane topic alter`.
#[derive(Args, Debug)]
pub(super) struct AlterArguments {
    /// Name of the topic
    name: String,
    /// Partitions that the topic shall have in all: more than it has
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    #[arg(required_unless_present_any = ["set", "delete"])]
    partitions: Option<i32>,
    /// One setting of the topic, by Kafka's name; may repeat
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    set: Vec<(String, String)>,
    /// One setting that shall be the broker's own again; may repeat
    #[arg(short, long, value_name = "KEY")]
    delete: Vec<String>,
}

/// Changes the settings, all or none, and then the partitions; says what was done as it is done.
pub(super) fn run(client: &mut Client, options: &AlterArguments) -> Result<(), TopicError> {
    let name = &options.name;
    // One that is not there is not waited for.
    client.topic(name, false)?;
    if !options.set.is_empty() || !options.delete.is_empty() {
        alter_settings(client, options)?;
        let set = options.set.iter().map(|(key, value)| format!("{key}={value}"));
        let deleted = options.delete.iter().map(|key| format!("{key} deleted"));
        let changes: Vec<String> = set.chain(deleted).collect();
        writeln!(io::stdout(), "topic {name} altered: {}", changes.join(", "))?;
    }
    if let Some(count) = options.partitions {
        grow(client, name, count)?;
        writeln!(io::stdout(), "topic {name} has {count} partitions")?;
    }
    Ok(())
}

fn alter_settings(client: &mut Client, options: &AlterArguments) -> Result<(), ClientError> {
    let set = options.set.iter().map(|(key, value)| (key, SET, Some(Cow::Borrowed(value.as_str()))));
    let deleted = options.delete.iter().map(|key| (key, DELETE, None));
    let config = |(key, config_operation, value): (&'_ String, i8, _)| AlterableConfig {
        name: Cow::Owned(key.clone()),
        config_operation,
        value,
    };
    let resource = AlterConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: Cow::Borrowed(&options.name),
        configs: set.chain(deleted).map(config).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    Retry::new().run(|| {
        client.metadata(Some(&[]), false)?;
        let answer = client.call_controller(&request)?;
        let response: IncrementalAlterConfigsResponse<'_> = answer.decode()?;
        let result = response.responses.first().cloned().unwrap_or_default();
        match ErrorCode::from_code(result.error_code) {
            Some(ErrorCode::None) => Ok(()),
            _ => Err(refused(&options.name, result.error_code, result.error_message.as_deref())),
        }
    })
}

fn grow(client: &mut Client, name: &str, count: i32) -> Result<(), ClientError> {
    let topic = CreatePartitionsTopic { name: Cow::Borrowed(name), count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: CLIENT_REQUEST_MS, validate_only: false };
    let mut tries = 0;
    Retry::new().run(|| {
        tries += 1;
        client.metadata(Some(&[]), false)?;
        let answer = client.call_controller(&request)?;
        let response: CreatePartitionsResponse<'_> = answer.decode()?;
        let result = response.results.first().cloned().unwrap_or_default();
        match ErrorCode::from_code(result.error_code) {
            Some(ErrorCode::None) => Ok(()),
            // A try whose answer was lost has done it.
            Some(ErrorCode::InvalidPartitions) if tries > 1 && has_partitions(client, name, count)? => Ok(()),
            _ => Err(refused(name, result.error_code, result.error_message.as_deref())),
        }
    })
}

fn has_partitions(client: &mut Client, name: &str, count: i32) -> Result<bool, ClientError> {
    Ok(i32::try_from(client.topic(name, false)?.partitions.len()) == Ok(count))
}

fn refused(name: &str, code: i16, message: Option<&str>) -> ClientError {
    ClientError::refused(format!("topic {name}"), code, message)
}
