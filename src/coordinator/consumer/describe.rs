//! ConsumerGroupDescribe of one group.

use std::borrow::Cow;

use super::ConsumerGroup;
use super::member::Member;
use crate::cluster::image::MetadataImage;
use crate::coordinator::assignor::Partitions;
use crate::coordinator::{Context, Coordinator, Group};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_describe as wire;

/// A member of the consumer protocol (`member_type`).
const CONSUMER_MEMBER: i8 = 1;

impl Coordinator {
    /// One group of ConsumerGroupDescribe.
    pub fn consumer_describe(&self, context: Context<'_>, group: &str) -> wire::DescribedGroup<'static> {
        let message = match self.groups.get(group) {
            Some(Group::Consumer(known)) => return known.describe(context.image),
            Some(Group::Classic(_)) => format!("Group {group} is not a consumer group."),
            None => format!("Group {group} not found."),
        };
        wire::DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(message.into()),
            group_id: group.to_owned().into(),
            ..Default::default()
        }
    }
}

impl ConsumerGroup {
    fn describe(&self, image: &MetadataImage) -> wire::DescribedGroup<'static> {
        wire::DescribedGroup {
            group_id: self.id.to_string().into(),
            group_state: self.state().name().into(),
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: self.assignor().name().into(),
            members: self.members.iter().map(|(id, member)| self.describe_member(id, member, image)).collect(),
            ..Default::default()
        }
    }

    fn describe_member(&self, id: &str, member: &Member, image: &MetadataImage) -> wire::Member<'static> {
        let metadata = &member.metadata;
        let target = self.targets.get(id).cloned().unwrap_or_default();
        wire::Member {
            member_id: id.to_owned().into(),
            instance_id: metadata.instance_id.clone().map(Cow::Owned),
            rack_id: metadata.rack_id.clone().map(Cow::Owned),
            member_epoch: member.standing.epoch,
            client_id: metadata.client_id.clone().into(),
            client_host: metadata.client_host.clone().into(),
            subscribed_topic_names: metadata.subscribed_topic_names.iter().cloned().map(Cow::Owned).collect(),
            subscribed_topic_regex: metadata.subscribed_topic_regex.clone().map(Cow::Owned),
            assignment: describe_partitions(&member.standing.assigned, image),
            target_assignment: describe_partitions(&target, image),
            member_type: CONSUMER_MEMBER,
        }
    }
}

/// Partitions with the names of their topics. Deleted topics have none and are left out, as in Kafka.
fn describe_partitions(partitions: &Partitions, image: &MetadataImage) -> wire::Assignment<'static> {
    let described = partitions.topics().iter().filter_map(|topic| {
        Some(wire::TopicPartitions {
            topic_id: topic.topic_id,
            topic_name: image.topic_by_id(topic.topic_id)?.name().to_string().into(),
            partitions: topic.partitions.clone(),
        })
    });
    wire::Assignment { topic_partitions: described.collect() }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::consumer::testing::{Bench, beat, join};
    use crate::protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest as Request;
    use crate::types::{MonotonicUs, TimestampMs};

    fn describe(bench: &Bench, group: &str) -> wire::DescribedGroup<'static> {
        let image = bench.cluster.image();
        let context = Context { now: MonotonicUs::new(0), wall: TimestampMs::new(0), image, random: [0; 16] };
        bench.coordinator.consumer_describe(context, group)
    }

    #[test]
    fn a_group_is_described_with_what_members_have_and_should_have() {
        let mut bench = Bench::new();
        let topic_id = bench.cluster.create("t", 2);
        let join_a = Request { instance_id: Some("i".into()), rack_id: Some("r".into()), ..join("g", "a", &["t"]) };
        bench.send(&join_a);
        bench.send(&join("g", "b", &["t"]));
        let group = describe(&bench, "g");
        assert_eq!((group.error_code, group.error_message, &*group.group_state), (0, None, "Reconciling"));
        assert_eq!((group.group_epoch, group.assignment_epoch, &*group.assignor_name), (2, 2, "uniform"));
        let partitions = |partitions: &[i32]| wire::Assignment {
            topic_partitions: vec![wire::TopicPartitions {
                topic_id,
                topic_name: "t".into(),
                partitions: partitions.to_vec(),
            }],
        };
        assert_eq!(
            group.members[0],
            wire::Member {
                member_id: "a".into(),
                instance_id: Some("i".into()),
                rack_id: Some("r".into()),
                member_epoch: 1,
                client_id: "client".into(),
                client_host: "/127.0.0.1".into(),
                subscribed_topic_names: vec!["t".into()],
                subscribed_topic_regex: Some("".into()),
                assignment: partitions(&[0, 1]),
                target_assignment: partitions(&[0]),
                member_type: 1,
            }
        );
        assert_eq!(group.members[1].assignment, wire::Assignment::default());
        assert_eq!(group.members[1].target_assignment, partitions(&[1]));
    }

    #[test]
    fn states_have_kafkas_names() {
        let mut bench = Bench::new();
        bench.cluster.create("t", 2);
        bench.send(&join("g", "a", &["t"]));
        assert_eq!(describe(&bench, "g").group_state, "Stable");
        bench.send(&join("g", "b", &["t"]));
        bench.send(&beat("g", "b", -1));
        assert_eq!(describe(&bench, "g").group_state, "Assigning");
        bench.send(&beat("g", "a", -1));
        assert_eq!(describe(&bench, "g").group_state, "Empty");
    }

    #[test]
    fn an_unknown_group_is_an_error_of_its_own() {
        let group = describe(&Bench::new(), "g");
        assert_eq!(group.error_code, ErrorCode::GroupIdNotFound.code());
        assert_eq!(group.error_message.as_deref(), Some("Group g not found."));
        assert_eq!((&*group.group_state, group.authorized_operations), ("", i32::MIN));
    }
}
