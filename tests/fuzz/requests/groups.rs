//! Requests about groups: few names, few members, so that they meet.

use std::borrow::Cow;

use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use corelane::protocol::messages::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, TopicPartitions};
use corelane::protocol::messages::delete_groups::DeleteGroupsRequest;
use corelane::protocol::messages::describe_groups::DescribeGroupsRequest;
use corelane::protocol::messages::find_coordinator::FindCoordinatorRequest;
use corelane::protocol::messages::heartbeat::HeartbeatRequest;
use corelane::protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use corelane::protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use corelane::protocol::messages::list_groups::ListGroupsRequest;
use corelane::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane::protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use corelane::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use corelane::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

use super::Requests;

type Text = Cow<'static, str>;

impl Requests<'_> {
    /// A frame of a request about groups, `None` for other APIs.
    pub(super) fn about_groups(&mut self, key: ApiKey, version: i16) -> Option<Vec<u8>> {
        Some(match key {
            ApiKey::FindCoordinator => {
                let request = FindCoordinatorRequest {
                    key: self.group(),
                    key_type: *self.pick(&[0, 0, 0, 0, 1, 2, 3, -1]),
                    coordinator_keys: self.rows(3, Requests::group),
                };
                self.frame(version, &request)
            }
            ApiKey::JoinGroup => self.join_group(version),
            ApiKey::SyncGroup => self.sync_group(version),
            ApiKey::Heartbeat => {
                let request = HeartbeatRequest {
                    group_id: self.group(),
                    generation_id: self.generation(),
                    member_id: self.member(),
                    group_instance_id: self.instance(),
                };
                self.frame(version, &request)
            }
            ApiKey::LeaveGroup => {
                let request = LeaveGroupRequest {
                    group_id: self.group(),
                    member_id: self.member(),
                    members: self.rows(3, |this| MemberIdentity {
                        member_id: this.member(),
                        group_instance_id: this.instance(),
                        reason: None,
                    }),
                };
                self.frame(version, &request)
            }
            ApiKey::OffsetCommit => self.offset_commit(version),
            ApiKey::OffsetFetch => self.offset_fetch(version),
            ApiKey::OffsetDelete => {
                let topics = self.rows(2, |this| OffsetDeleteRequestTopic {
                    name: this.name(),
                    partitions: this.rows(2, |this| OffsetDeleteRequestPartition { partition_index: this.index() }),
                });
                let request = OffsetDeleteRequest { group_id: self.group(), topics };
                self.frame(version, &request)
            }
            ApiKey::ListGroups => {
                let request = ListGroupsRequest {
                    states_filter: self.rows(1, |this| this.pick(&["Empty", "stable", "Dead", "x"])[..].into()),
                    types_filter: self.rows(1, |this| this.pick(&["classic", "Consumer", "share", ""])[..].into()),
                };
                self.frame(version, &request)
            }
            ApiKey::DescribeGroups => {
                let include_authorized_operations = self.random.one_in(2);
                let groups = self.rows(4, Requests::group);
                self.frame(version, &DescribeGroupsRequest { groups, include_authorized_operations })
            }
            ApiKey::DeleteGroups => {
                let groups_names = self.rows(2, Requests::group);
                self.frame(version, &DeleteGroupsRequest { groups_names })
            }
            ApiKey::ConsumerGroupDescribe => {
                let include_authorized_operations = self.random.one_in(2);
                let group_ids = self.rows(4, Requests::group);
                self.frame(version, &ConsumerGroupDescribeRequest { group_ids, include_authorized_operations })
            }
            ApiKey::ConsumerGroupHeartbeat => self.consumer_group_heartbeat(version),
            _ => return None,
        })
    }

    fn join_group(&mut self, version: i16) -> Vec<u8> {
        let request = JoinGroupRequest {
            group_id: self.group(),
            // Short where they are valid, or answers would come later than the storm waits.
            session_timeout_ms: *self.pick(&[6_000, 6_000, 8_000, 0, -1, i32::MAX]),
            rebalance_timeout_ms: *self.pick(&[0, 100, 5_000, -1, i32::MIN]),
            member_id: self.member(),
            group_instance_id: self.instance(),
            protocol_type: self.pick(&["consumer", "consumer", "consumer", "connect", ""])[..].into(),
            protocols: self.rows(2, |this| JoinGroupRequestProtocol {
                name: this.pick(&["range", "range", "sticky", ""])[..].into(),
                metadata: this.pick(&[&b""[..], b"\0\x01\0\0\0\x01\0\x09lasting-0\xff\xff\xff\xff", b"\0"])[..].into(),
            }),
            reason: None,
        };
        self.frame(version, &request)
    }

    fn sync_group(&mut self, version: i16) -> Vec<u8> {
        let request = SyncGroupRequest {
            group_id: self.group(),
            generation_id: self.generation(),
            member_id: self.member(),
            group_instance_id: self.instance(),
            protocol_type: self.random.one_in(3).then(|| "consumer".into()),
            protocol_name: self.random.one_in(3).then(|| "range".into()),
            assignments: self.rows(2, |this| SyncGroupRequestAssignment {
                member_id: this.member(),
                assignment: b"assigned"[..].into(),
            }),
        };
        self.frame(version, &request)
    }

    fn offset_commit(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(3, |this| OffsetCommitRequestTopic {
            name: this.name(),
            partitions: this.rows(4, |this| OffsetCommitRequestPartition {
                partition_index: this.index(),
                committed_offset: this.offset(),
                committed_leader_epoch: this.epoch(),
                committed_metadata: match this.random.below(8) {
                    0 => None,
                    1 => Some("m".repeat(4_000 + this.random.below(200)).into()),
                    _ => Some("note".into()),
                },
            }),
        });
        let outside = self.random.one_in(2);
        let request = OffsetCommitRequest {
            group_id: self.group(),
            generation_id_or_member_epoch: if outside { -1 } else { self.generation() },
            member_id: if outside { "".into() } else { self.member() },
            group_instance_id: if outside { None } else { self.instance() },
            retention_time_ms: *self.pick(&[-1, 0, 1000, i64::MAX, i64::MIN]),
            topics,
        };
        self.frame(version, &request)
    }

    fn offset_fetch(&mut self, version: i16) -> Vec<u8> {
        let topics = self.rows(3, |this| OffsetFetchRequestTopic {
            name: this.name(),
            partition_indexes: this.rows(4, Requests::index),
        });
        let groups = self.rows(3, |this| OffsetFetchRequestGroup {
            group_id: this.group(),
            member_id: if this.random.one_in(2) { None } else { Some(this.member()) },
            member_epoch: this.generation(),
            topics: if this.random.one_in(3) {
                None
            } else {
                Some(this.rows(2, |this| OffsetFetchRequestTopics {
                    name: this.name(),
                    partition_indexes: this.rows(4, Requests::index),
                }))
            },
        });
        let request = OffsetFetchRequest {
            group_id: self.group(),
            topics: if version >= 2 && self.random.one_in(3) { None } else { Some(topics) },
            groups,
            require_stable: self.random.one_in(2),
        };
        self.frame(version, &request)
    }

    fn consumer_group_heartbeat(&mut self, version: i16) -> Vec<u8> {
        let is_full = self.random.one_in(2);
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group(),
            member_id: self.member(),
            member_epoch: if is_full { 0 } else { *self.pick(&[0, 1, 2, 3, -1, -2, -3, i32::MAX]) },
            instance_id: self.instance(),
            rack_id: self.random.one_in(4).then(|| "rack".into()),
            rebalance_timeout_ms: *self.pick(&[100, 5_000, -1, 0, i32::MAX]),
            subscribed_topic_names: self.random.one_in(2).then(|| self.rows(3, Requests::name)),
            subscribed_topic_regex: self
                .random
                .one_in(4)
                .then(|| self.pick(&["lasting-.*", "(", "", "[a-z]+-0", "(a*)*b"])[..].into()),
            server_assignor: self.random.one_in(3).then(|| self.pick(&["uniform", "range", "none"])[..].into()),
            topic_partitions: is_full.then(|| {
                self.rows(2, |this| TopicPartitions {
                    topic_id: this.topic().1,
                    partitions: this.rows(3, Requests::index),
                })
            }),
        };
        self.frame(version, &request)
    }

    fn group(&mut self) -> Text {
        self.pick(&["g", "g", "h", "c", "c", "group-3", "", "ß", "\u{1f600}"])[..].into()
    }

    fn member(&mut self) -> Text {
        self.pick(&["", "", "", "m", "fuzz-1", "AAAAAAAAAAAAAAAAAAAAAQ"])[..].into()
    }

    fn instance(&mut self) -> Option<Text> {
        self.random.one_in(3).then(|| self.pick(&["i", "j", ""])[..].into())
    }

    fn generation(&mut self) -> i32 {
        *self.pick(&[-1, 0, 1, 1, 1, 2, 3, i32::MAX, i32::MIN])
    }
}
