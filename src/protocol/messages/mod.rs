//! Kafka's messages: one file per API, one table per struct, every version that Kafka 4.1 speaks.
//!
//! Structs and fields carry the names of Kafka's own schemas (`clients/src/main/resources/common/message/*.json`), which
//! say what a name means where nothing is added here. Ids are plain integers on this layer; times are milliseconds.
//! The macro behind the tables is `message!` in `table.rs`.
//!
//! To add an API: copy `heartbeat.rs`, add the module here and its two messages to `tests/oracle.rs`. When it is served,
//! and not before, add it to [`SUPPORTED`](super::api_key::SUPPORTED).

pub mod alter_configs;
pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sync_group;
