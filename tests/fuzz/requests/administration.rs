//! Requests of administrators, as [`Requests`] draws them.
//!
//! Settings of nodes are drawn so that what the broker serves afterwards is not changed by what was accepted.

use std::borrow::Cow;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use corelane::protocol::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use corelane::protocol::messages::describe_client_quotas::{ComponentData, DescribeClientQuotasRequest};
use corelane::protocol::messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use corelane::protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumRequestPartition, DescribeQuorumRequestTopic,
};
use corelane::protocol::messages::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use corelane::protocol::messages::list_config_resources::ListConfigResourcesRequest;
use corelane::protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use corelane::protocol::messages::{
    alter_configs, describe_producers, describe_topic_partitions, incremental_alter_configs,
};

use super::Requests;

impl Requests<'_> {
    /// A frame without its length, of an API for administrators.
    pub(super) fn administration(&mut self, key: ApiKey, version: i16) -> Vec<u8> {
        match key {
            ApiKey::CreatePartitions => self.create_partitions(version),
            ApiKey::DeleteRecords => self.delete_records(version),
            ApiKey::AlterConfigs => self.alter_configs(version),
            ApiKey::IncrementalAlterConfigs => self.incremental_alter_configs(version),
            ApiKey::DescribeLogDirs => {
                let row = |this: &mut Self| DescribableLogDirTopic { topic: this.name(), partitions: this.indexes() };
                let topics = self.random.one_in(2).then(|| self.rows(3, row));
                self.frame(version, &DescribeLogDirsRequest { topics })
            }
            ApiKey::DescribeProducers => {
                let topics = self.rows(3, |this| describe_producers::TopicRequest {
                    name: this.name(),
                    partition_indexes: this.indexes(),
                });
                self.frame(version, &describe_producers::DescribeProducersRequest { topics })
            }
            ApiKey::ElectLeaders => {
                let row = |this: &mut Self| TopicPartitions { topic: this.name(), partitions: this.indexes() };
                let topic_partitions = self.random.one_in(2).then(|| self.rows(3, row));
                let election_type = *self.pick(&[0, 0, 1, 7]);
                self.frame(version, &ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 1000 })
            }
            ApiKey::ListPartitionReassignments => {
                let row = |this: &mut Self| ListPartitionReassignmentsTopics {
                    name: this.name(),
                    partition_indexes: this.indexes(),
                };
                let topics = self.random.one_in(2).then(|| self.rows(3, row));
                self.frame(version, &ListPartitionReassignmentsRequest { timeout_ms: 1000, topics })
            }
            ApiKey::DescribeClientQuotas => {
                let components = self.rows(3, |this| ComponentData {
                    entity_type: this.pick(&["user", "client-id", "ip", "tenant", ""])[..].into(),
                    match_type: *this.pick(&[0, 1, 2, 3]),
                    r#match: this.random.one_in(2).then(|| "name".into()),
                });
                self.frame(version, &DescribeClientQuotasRequest { components, strict: false })
            }
            ApiKey::ListConfigResources => {
                let resource_types = self.rows(3, |this| *this.pick(&[2, 4, 8, 16, 32, 99]));
                self.frame(version, &ListConfigResourcesRequest { resource_types })
            }
            ApiKey::DescribeTopicPartitions => self.describe_topic_partitions(version),
            ApiKey::DescribeQuorum => {
                let topics = self.rows(2, |this| DescribeQuorumRequestTopic {
                    topic_name: if this.random.one_in(2) { "__cluster_metadata".into() } else { this.name() },
                    partitions: this
                        .rows(2, |this| DescribeQuorumRequestPartition { partition_index: *this.pick(&[0, 0, 0, 1]) }),
                });
                self.frame(version, &DescribeQuorumRequest { topics })
            }
            other => panic!("{other:?} is served: draw requests of it here"),
        }
    }

    fn indexes(&mut self) -> Vec<i32> {
        self.rows(4, Requests::index)
    }

    fn create_partitions(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(2, |this| {
            let told = this.random.one_in(4);
            let assignment = |this: &mut Self| CreatePartitionsAssignment {
                broker_ids: this.rows(2, |this| *this.pick(&[1, 2, -1])),
            };
            CreatePartitionsTopic {
                name: this.name(),
                count: *this.pick(&[1, 2, 3, 4, 5, 0, -1, i32::MAX, i32::MIN, 100_001]),
                assignments: told.then(|| this.rows(3, assignment)),
            }
        });
        let validate_only = self.random.one_in(3);
        self.frame(version, &CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only })
    }

    fn delete_records(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(3, |this| DeleteRecordsTopic {
            name: this.name(),
            partitions: this
                .rows(4, |this| DeleteRecordsPartition { partition_index: this.index(), offset: this.offset() }),
        });
        self.frame(version, &DeleteRecordsRequest { topics, timeout_ms: 1000 })
    }

    /// Type and name of a resource, and a setting of it.
    fn resource(&mut self) -> (i8, Cow<'static, str>) {
        let kind = *self.pick(&[2, 2, 2, 4, 4, 8, 16, 32, 99]);
        let name = match kind {
            2 => self.name(),
            _ => self.pick(&["1", "2", "", "9", "-1", "x"])[..].into(),
        };
        (kind, name)
    }

    fn setting(&mut self, kind: i8) -> (Cow<'static, str>, Option<Cow<'static, str>>) {
        let name = match kind {
            2 => &self.pick(&["cleanup.policy", "flush.messages", "retention.ms", "segment.bytes", "nonsense"])[..],
            _ => &self.pick(&["log.retention.bytes", "num.partitions", "nonsense"])[..],
        };
        let value = match self.random.below(6) {
            0 => None,
            1 => Some("compact".into()),
            2 => Some("-1".into()),
            3 => Some("99999999999999999999".into()),
            _ => Some("1000000000".into()),
        };
        (name.to_owned().into(), value)
    }

    fn alter_configs(&mut self, version: i16) -> Vec<u8> {
        let resources = self.rows(3, |this| {
            let (resource_type, resource_name) = this.resource();
            let configs = this.rows(3, |this| {
                let (name, value) = this.setting(resource_type);
                alter_configs::AlterableConfig { name, value }
            });
            alter_configs::AlterConfigsResource { resource_type, resource_name, configs }
        });
        let validate_only = self.random.one_in(3);
        self.frame(version, &alter_configs::AlterConfigsRequest { resources, validate_only })
    }

    fn incremental_alter_configs(&mut self, version: i16) -> Vec<u8> {
        let resources = self.rows(3, |this| {
            let (resource_type, resource_name) = this.resource();
            let configs = this.rows(3, |this| {
                let (name, value) = this.setting(resource_type);
                let config_operation = *this.pick(&[0, 0, 1, 2, 3, 4]);
                incremental_alter_configs::AlterableConfig { name, config_operation, value }
            });
            incremental_alter_configs::AlterConfigsResource { resource_type, resource_name, configs }
        });
        let validate_only = self.random.one_in(3);
        self.frame(version, &incremental_alter_configs::IncrementalAlterConfigsRequest { resources, validate_only })
    }

    fn describe_topic_partitions(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(3, |this| describe_topic_partitions::TopicRequest { name: this.name() });
        let cursor = self
            .random
            .one_in(3)
            .then(|| describe_topic_partitions::Cursor { topic_name: self.name(), partition_index: self.index() });
        let response_partition_limit = *self.pick(&[2000, 1, 0, -1, i32::MAX]);
        let request =
            describe_topic_partitions::DescribeTopicPartitionsRequest { topics, response_partition_limit, cursor };
        self.frame(version, &request)
    }
}
