//! CreatePartitions: how topics grow.
//!
//! `__consumer_offsets` and its like do not: their records are found by the number of partitions that they were made with.
//! Kafka lets it happen, and loses sight of groups at its next start.

use std::borrow::Cow;

use super::{Placement, Random, Refusal, check_assignment, refuse, times};
use crate::cluster::image::{MetadataImage, Topic};
use crate::cluster::records::{PartitionRecord, Record};
use crate::cluster::topic_name;
use crate::config::BrokerConfig;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult,
};
use crate::protocol::messages::create_topics::CreatableReplicaAssignment;
use crate::types::{NodeId, TopicId};

/// CreatePartitions: one result for each topic of the request; names that stand twice come first, as in Kafka.
///
/// With `validate_only` the answer is the same and the records are none.
pub fn create_partitions(
    image: &MetadataImage,
    config: &BrokerConfig,
    request: &CreatePartitionsRequest<'_>,
    random: Random<'_>,
) -> (Vec<Record>, CreatePartitionsResponse<'static>) {
    let seen = times(request.topics.iter().map(|topic| &*topic.name));
    let mut results = Vec::new();
    for (name, _) in seen.iter().filter(|(_, times)| **times > 1) {
        let message = "Duplicate topic name.".to_owned();
        results.push(result(name, Err(Refusal { error: ErrorCode::InvalidRequest, message })));
    }
    let mut placement = Placement::new(image, random);
    let mut records = Vec::new();
    for topic in request.topics.iter().filter(|topic| seen[&*topic.name] == 1) {
        let grown = grow(image, config, topic, &mut placement);
        results.push(result(&topic.name, grown.map(|grown| records.extend(grown))));
    }
    if request.validate_only {
        records.clear();
    }
    (records, CreatePartitionsResponse { throttle_time_ms: 0, results })
}

fn result(name: &str, outcome: Result<(), Refusal>) -> CreatePartitionsTopicResult<'static> {
    let (error, message) = outcome.err().map_or((ErrorCode::None, String::new()), |it| (it.error, it.message));
    CreatePartitionsTopicResult {
        name: Cow::Owned(name.to_owned()),
        error_code: error.code(),
        error_message: (!message.is_empty()).then_some(Cow::Owned(message)),
    }
}

/// Decides whether and how a topic grows. Checks in Kafka's order.
fn grow(
    image: &MetadataImage,
    config: &BrokerConfig,
    request: &CreatePartitionsTopic<'_>,
    placement: &mut Placement<'_>,
) -> Result<Vec<Record>, Refusal> {
    let Some(topic) = image.topic(&request.name) else {
        return refuse(ErrorCode::UnknownTopicOrPartition, "");
    };
    let (name, count) = (&request.name, request.count);
    let before = i32::try_from(topic.partition_count()).expect("bounded by PARTITIONS_MAX");
    if count == before {
        return refuse(ErrorCode::InvalidPartitions, format!("Topic already has {before} partition(s)."));
    }
    let Some(additional) = usize::try_from(i64::from(count) - i64::from(before)).ok() else {
        return refuse(
            ErrorCode::InvalidPartitions,
            format!("The topic {name} currently has {before} partition(s); {count} would not be an increase."),
        );
    };
    if topic_name::is_internal(name) {
        return refuse(
            ErrorCode::InvalidPartitions,
            format!("The number of partitions of {name} is fixed: what it holds is found by it."),
        );
    }
    let told = request.assignments.as_ref();
    if let Some(assigned) = told.map(Vec::len).filter(|assigned| *assigned != additional) {
        return refuse(
            ErrorCode::InvalidReplicaAssignment,
            format!(
                "Attempted to add {additional} additional partition(s), but only {assigned} assignment(s) were specified."
            ),
        );
    }
    let leaders = match told {
        Some(assignments) => assigned(image, config, before, assignments, placement)?,
        None => {
            placement.take_room(additional)?;
            placement.spread_beside(leaders_of(topic), additional)
        }
    };
    if leaders.is_empty() {
        let message = "Unable to replicate the partition 1 time(s): All brokers are currently fenced.";
        return refuse(ErrorCode::InvalidReplicationFactor, message);
    }
    Ok((before..).zip(leaders).map(|(index, leader)| partition(topic.id(), index, leader)).collect())
}

fn leaders_of(topic: &Topic) -> impl Iterator<Item = NodeId> {
    topic.partitions().filter_map(|(_, partition)| partition.leader)
}

/// The request names the nodes: one for each new partition, or as many as one likes where the operator said so.
fn assigned(
    image: &MetadataImage,
    config: &BrokerConfig,
    first: i32,
    assignments: &[CreatePartitionsAssignment],
    placement: &mut Placement<'_>,
) -> Result<Vec<NodeId>, Refusal> {
    let mut leaders = Vec::with_capacity(assignments.len());
    for (partition_index, assignment) in (first..).zip(assignments) {
        let broker_ids = assignment.broker_ids.clone();
        let replicas = if config.allow_same_machine_replicas { broker_ids.len() } else { 1 };
        let assignment = CreatableReplicaAssignment { partition_index, broker_ids };
        leaders.push(check_assignment(image, &assignment, replicas, placement)?);
    }
    placement.take_room(leaders.len())?;
    placement.count(&leaders);
    Ok(leaders)
}

fn partition(topic_id: TopicId, partition_id: i32, leader: NodeId) -> Record {
    PartitionRecord {
        partition_id,
        topic_id,
        replicas: vec![leader.value()],
        isr: vec![leader.value()],
        leader: leader.value(),
        leader_epoch: 0,
        partition_epoch: 0,
        ..PartitionRecord::default()
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assigned as assigned_topic, cluster, create, leaders, stream, topic};
    use super::*;
    use crate::limits;

    fn want(name: &'static str, count: i32, nodes: Option<&[&[i32]]>) -> CreatePartitionsTopic<'static> {
        let assignment = |nodes: &&[i32]| CreatePartitionsAssignment { broker_ids: nodes.to_vec() };
        let assignments = nodes.map(|nodes| nodes.iter().map(assignment).collect());
        CreatePartitionsTopic { name: Cow::Borrowed(name), count, assignments }
    }

    fn ask(
        image: &MetadataImage,
        topics: Vec<CreatePartitionsTopic<'static>>,
    ) -> (MetadataImage, Vec<(i16, Option<String>)>) {
        let request = CreatePartitionsRequest { topics, ..CreatePartitionsRequest::default() };
        let (records, response) = create_partitions(image, &BrokerConfig::default(), &request, &mut stream(3));
        let row =
            |row: &CreatePartitionsTopicResult<'_>| (row.error_code, row.error_message.as_deref().map(str::to_owned));
        (image.apply(&records).unwrap(), response.results.iter().map(row).collect())
    }

    #[test]
    fn a_topic_grows_where_it_has_least() {
        let config = BrokerConfig::default();
        let (image, _) = create(&cluster(3), &config, vec![assigned_topic("t", &[(0, &[1]), (1, &[1])])]);
        let (image, rows) = ask(&image, vec![want("t", 6, None)]);
        assert_eq!(rows, [(0, None)]);
        let mut leaders = leaders(&image, "t");
        leaders.sort_unstable();
        assert_eq!(leaders, [1, 1, 2, 2, 3, 3]);
        let before = image.clone();
        let request = CreatePartitionsRequest {
            topics: vec![want("t", 7, None)],
            validate_only: true,
            ..CreatePartitionsRequest::default()
        };
        let (records, response) = create_partitions(&before, &config, &request, &mut stream(3));
        assert_eq!((records.len(), response.results[0].error_code), (0, 0));
    }

    #[test]
    fn nodes_that_are_named_get_the_new_partitions() {
        let (image, _) = create(&cluster(3), &BrokerConfig::default(), vec![topic("t", 1, 1)]);
        let (image, rows) = ask(&image, vec![want("t", 3, Some(&[&[3], &[2]]))]);
        assert_eq!(rows, [(0, None)]);
        assert_eq!(leaders(&image, "t")[1..], [3, 2]);
    }

    /// What Apache Kafka 4.1.1 answered.
    #[test]
    fn what_is_no_growth_is_refused_in_kafkas_words() {
        let config = BrokerConfig::default();
        let (image, _) = create(&cluster(2), &config, vec![topic("t", 2, 1), topic("__consumer_offsets", 2, 1)]);
        let refusal = |topic| {
            let (after, mut rows) = ask(&image, vec![topic]);
            assert_eq!(after, image, "what is refused leaves no trace");
            let (error, message) = rows.remove(0);
            (error, message.unwrap_or_default())
        };
        let told = |error: ErrorCode, message: &str| (error.code(), message.to_owned());
        let invalid = |message| told(ErrorCode::InvalidPartitions, message);
        assert_eq!(refusal(want("t", 2, None)), invalid("Topic already has 2 partition(s)."));
        let less = "The topic t currently has 2 partition(s); -1 would not be an increase.";
        assert_eq!(refusal(want("t", -1, None)), invalid(less));
        assert_eq!(refusal(want("absent", 3, None)), told(ErrorCode::UnknownTopicOrPartition, ""));
        let misassigned = |message| told(ErrorCode::InvalidReplicaAssignment, message);
        let few = "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.";
        assert_eq!(refusal(want("t", 4, Some(&[&[1]]))), misassigned(few));
        let stranger = "The manual partition assignment includes broker 7, but no such broker is registered.";
        assert_eq!(refusal(want("t", 3, Some(&[&[7]]))), misassigned(stranger));
        let several = "The manual partition assignment includes a partition with 2 replica(s), but this is not \
                       consistent with previous partitions, which have 1 replica(s).";
        assert_eq!(refusal(want("t", 3, Some(&[&[1, 2]]))), misassigned(several));
        assert_eq!(refusal(want("__consumer_offsets", 3, None)).0, ErrorCode::InvalidPartitions.code());
        let max = i32::try_from(limits::NEW_PARTITIONS_PER_REQUEST_MAX).unwrap();
        assert_eq!(refusal(want("t", max + 3, None)).0, ErrorCode::PolicyViolation.code());
        assert_eq!(refusal(want("t", i32::MAX, None)).0, ErrorCode::InvalidPartitions.code());
    }

    #[test]
    fn a_name_that_stands_twice_does_not_grow() {
        let (image, _) = create(&cluster(1), &BrokerConfig::default(), vec![topic("t", 1, 1), topic("u", 1, 1)]);
        let (after, rows) = ask(&image, vec![want("t", 2, None), want("u", 2, None), want("t", 3, None)]);
        let duplicate = (ErrorCode::InvalidRequest.code(), Some("Duplicate topic name.".to_owned()));
        assert_eq!(rows, [duplicate, (0, None)]);
        assert_eq!((leaders(&after, "t").len(), leaders(&after, "u").len()), (1, 2));
    }

    #[test]
    fn names_that_stand_twice_are_answered_in_one_order() {
        let names = ["e", "b", "d", "a", "c"];
        let topics = names.iter().chain(&names).map(|name| want(name, 2, None)).collect();
        let request = CreatePartitionsRequest { topics, ..CreatePartitionsRequest::default() };
        let (_, response) = create_partitions(&cluster(1), &BrokerConfig::default(), &request, &mut stream(3));
        let answered: Vec<&str> = response.results.iter().map(|row| &*row.name).collect();
        assert_eq!(answered, ["a", "b", "c", "d", "e"]);
    }
}
