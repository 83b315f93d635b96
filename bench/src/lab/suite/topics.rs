//! Deletes topics of the lab, to give their disk back.

use std::error::Error;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::metadata::{MetadataRequest, MetadataResponse};

use crate::client::{Client, answer_body, debug};
use crate::lab::cluster::Cluster;

const METADATA_VERSION: i16 = 7;

/// Deletes all topics whose names begin so. A floor has none.
///
/// Errors: a topic that is not deleted, with the broker's code.
pub(super) fn delete_topics(cluster: Cluster, prefix: &str) -> Result<(), Box<dyn Error>> {
    let Cluster::Kafka { bootstrap } = cluster else { return Ok(()) };
    let mut client = Client::connect(bootstrap)?;
    let answer = client.ask(METADATA_VERSION, &MetadataRequest { topics: None, ..MetadataRequest::default() })?;
    let body = &mut answer_body(&answer, ApiKey::Metadata, METADATA_VERSION)?;
    let metadata = MetadataResponse::decode(body, METADATA_VERSION).map_err(debug)?;
    let names = metadata.topics.into_iter().filter_map(|topic| topic.name);
    client.delete_topics(names.filter(|name| name.starts_with(prefix)).collect())
}
