//! Kafka's messages: one file per API, one table per struct, every version that Kafka 4.1 speaks.
//!
//! Structs and fields carry the names of Kafka's own schemas (`clients/src/main/resources/common/message/*.json`), which
//! say what a name means where nothing is added here. Ids are plain integers on this layer; times are milliseconds.
//! The macro behind the tables is `message!` in [`wire`](super::wire).

pub mod api_versions;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod fetch;
pub mod find_coordinator;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;
