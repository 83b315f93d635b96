//! The coordinators of one simulated shard: what they keep, when they answer, and what they do when they cannot.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::broker::controller::{self, NodeStart};
use crate::cluster::records::RemoveTopicRecord;
use crate::coordinator::records::{GroupMember, GroupMetadataValue, Record};
use crate::limits::{GROUP_QUEUE_BYTES_MAX, GROUP_STEP_BYTES_MAX};
use crate::metrics::ShardMetrics;
use crate::protocol::api_key::ApiKey;
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse};
use crate::protocol::wire::Reader;
use crate::shard::message::{GroupCall, Published};
use crate::shard::recovery::Recovered;
use crate::simulation::{SimulatedRuntime, Simulation};
use crate::store::{Purpose, Store, StoreOptions};
use crate::types::{ConnectionId, Durability, ShardId};

type TestShard = Shard<SimulatedRuntime>;

const TOPIC: &str = "read";

/// A shard over the machine's disk that leads `__consumer_offsets`, with two partitions, and a topic to commit for.
async fn start(runtime: &SimulatedRuntime) -> Rc<TestShard> {
    let shard = start_empty(runtime).await;
    publish(&shard, image(&shard.image()));
    shard
}

async fn start_empty(runtime: &SimulatedRuntime) -> Rc<TestShard> {
    start_within(runtime, 1 << 30).await
}

/// The same with another budget, in bytes.
async fn start_within(runtime: &SimulatedRuntime, budget_bytes: u64) -> Rc<TestShard> {
    let id = ShardId::new(0);
    let block_bytes = 16 * 1024;
    let options = StoreOptions {
        segment_bytes: 1024 * 1024,
        block_bytes,
        checkpoint_interval_ms: 1000,
        ..StoreOptions::new(id, PathBuf::from("/data/shard-0"), 1 << 20, budget_bytes)
    };
    let mut recovered = Recovered::default();
    let store = Store::open(runtime.clone(), options, &mut recovered).await.unwrap();
    let config = BrokerConfig::from_settings([("offsets.topic.num.partitions", "2")]).unwrap();
    let empty = Arc::new(MetadataImage::empty("c2ltdWxhdGVkLWNsdXN0ZQ"));
    let metrics = ShardMetrics::new(id);
    let shard = Shard::new(id, runtime.clone(), store, recovered, empty, Arc::new(config), metrics);
    shard.start();
    shard
}

/// The same topics with the same ids in every life.
fn image(before: &MetadataImage) -> MetadataImage {
    let mut seed = 0;
    let mut random = || {
        seed += 1;
        seed
    };
    let node = NodeStart { node: NodeId::new(1), host: "h".to_owned(), port: 9092, rack: None };
    let image = before.apply(&controller::register_nodes(before, &[node], &mut random)).unwrap();
    let config = BrokerConfig::from_settings([("offsets.topic.num.partitions", "2")]).unwrap();
    let names = [CONSUMER_OFFSETS, TOPIC].map(str::to_owned);
    image.apply(&controller::auto_create_topics(&image, &config, &names, &mut random)).unwrap()
}

fn publish(shard: &Rc<TestShard>, image: MetadataImage) {
    shard.on_image(&Published { image: Arc::new(image), removed: Arc::default() }).unwrap();
}

fn remove(shard: &Rc<TestShard>, name: &str) {
    let image = shard.image();
    let topic_id = image.topic(name).unwrap().id();
    let image = Arc::new(image.apply(&[RemoveTopicRecord { topic_id }.into()]).unwrap());
    shard.on_image(&Published { image, removed: Arc::new(BTreeSet::from([topic_id])) }).unwrap();
}

fn call<M: wire::Message>(key: ApiKey, partition: i32, version: i16, message: &M) -> GroupCall {
    GroupCall {
        partition,
        key,
        version,
        client_id: "test".to_owned(),
        client_host: "/127.0.0.1".into(),
        connection: ConnectionId::NONE,
        body: wire::body(message, version).into(),
    }
}

fn commit(group: &str, offset: i64) -> GroupCall {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![partition] };
    let request =
        OffsetCommitRequest { group_id: Cow::Owned(group.to_owned()), topics: vec![topic], ..Default::default() };
    call(ApiKey::OffsetCommit, 0, 9, &request)
}

/// The error of the one partition that was committed.
fn committed(reply: Option<GroupReply>) -> Result<i16, ErrorCode> {
    match reply.expect("the shard lives") {
        GroupReply::Body(body) => {
            let response = OffsetCommitResponse::decode(&mut Reader::new(&body), 9).unwrap();
            Ok(response.topics[0].partitions[0].error_code)
        }
        GroupReply::Refused(error) => Err(error),
    }
}

async fn fetched(shard: &Rc<TestShard>, group: &str) -> Result<Vec<i64>, ErrorCode> {
    let wanted = OffsetFetchRequestGroup {
        group_id: Cow::Owned(group.to_owned()),
        topics: None,
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest { groups: vec![wanted], ..OffsetFetchRequest::default() };
    let answer = shard.begin_group_call(&call(ApiKey::OffsetFetch, 0, 9, &request)).await;
    match answer.finish().await.expect("the shard lives") {
        GroupReply::Body(body) => {
            let response = OffsetFetchResponse::decode(&mut Reader::new(&body), 9).unwrap();
            let topics = response.groups[0].topics.iter();
            Ok(topics.flat_map(|topic| topic.partitions.iter().map(|it| it.committed_offset)).collect())
        }
        GroupReply::Refused(error) => Err(error),
    }
}

async fn until_loaded(shard: &Rc<TestShard>) {
    while fetched(shard, "nobody").await == Err(ErrorCode::CoordinatorLoadInProgress) {
        shard.runtime.sleep(Duration::from_millis(1)).await;
    }
}

fn batches(shard: &TestShard, index: i32) -> i64 {
    let seat = shard.coordination.seat(index).unwrap();
    seat.partition.state().offsets.log_end().value()
}

#[test]
fn a_coordinator_loads_serves_and_keeps_what_it_answered_over_a_power_cut() {
    let seen_loading = Rc::new(Cell::new(0));
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed);
        let seen = Rc::clone(&seen_loading);
        let first = simulation.run(|runtime| async move {
            let shard = start(&runtime).await;
            // An empty log may be loaded before anybody asks.
            let early = fetched(&shard, "g").await;
            let was_loading = early == Err(ErrorCode::CoordinatorLoadInProgress);
            assert!(was_loading || early == Ok(Vec::new()), "{early:?}");
            seen.set(seen.get() + u32::from(was_loading));
            until_loaded(&shard).await;
            for offset in [5, 7] {
                let answer = shard.begin_group_call(&commit("g", offset)).await;
                assert!(matches!(answer, GroupAnswer::Durable(..)), "nothing is durable in no time");
                assert_eq!(committed(answer.finish().await), Ok(0));
                let seat = shard.coordination.seat(0).unwrap();
                let offsets = seat.partition.state().offsets;
                assert_eq!(offsets.high_watermark(), offsets.log_end());
            }
            assert_eq!(fetched(&shard, "g").await, Ok(vec![7]));
            assert_eq!(shard.coordination.group_count(), 1);
            runtime.crash(crate::simulation::Crash::Power);
            std::future::pending::<()>().await;
        });
        assert!(first.is_crash());
        simulation
            .run(|runtime| async move {
                let shard = start(&runtime).await;
                until_loaded(&shard).await;
                assert_eq!(fetched(&shard, "g").await, Ok(vec![7]));
                assert_eq!(fetched(&shard, "other").await, Ok(vec![]));
                // The other one's log has nothing.
                while shard.metrics.group_loads.value() < 2 {
                    shard.runtime.sleep(Duration::from_millis(1)).await;
                }
            })
            .finished();
    }
    assert!(seen_loading.get() > 10, "{} of 20 were asked while they loaded", seen_loading.get());
}

#[test]
fn commits_that_come_together_share_one_batch() {
    Simulation::new(3)
        .run(|runtime| async move {
            let shard = start(&runtime).await;
            until_loaded(&shard).await;
            let before = shard.store.stats().appended_bytes;
            let mut answers = Vec::new();
            for number in 0..200 {
                answers.push(shard.begin_group_call(&commit(&format!("group-{number}"), number)).await);
            }
            // A question in between waits for what it may tell of.
            let fetch = fetched(&shard, "group-0");
            for answer in answers {
                assert_eq!(committed(answer.finish().await), Ok(0));
            }
            assert_eq!(fetch.await, Ok(vec![0]));
            // 200 batches would have a header of 61 bytes each, and an entry around it.
            let bytes = shard.store.stats().appended_bytes - before;
            assert!(bytes < 200 * 110, "{bytes}");
            assert_eq!(shard.metrics.group_commits.value(), 200);
        })
        .finished();
}

#[test]
fn requests_wait_while_the_queue_is_full() {
    Simulation::new(4)
        .run(|runtime| async move {
            let shard = start(&runtime).await;
            until_loaded(&shard).await;
            shard.coordination.queued_bytes.set(GROUP_QUEUE_BYTES_MAX);
            let (waiting, done) = (Rc::clone(&shard), Rc::new(Cell::new(false)));
            let seen = Rc::clone(&done);
            runtime.spawn(async move {
                let answer = waiting.begin_group_call(&commit("g", 1)).await;
                assert_eq!(committed(answer.finish().await), Ok(0));
                seen.set(true);
            });
            runtime.sleep(Duration::from_secs(1)).await;
            assert!(!done.get());
            shard.coordination.queued_bytes.set(0);
            shard.coordination.room.ring();
            runtime.sleep(Duration::from_secs(1)).await;
            assert!(done.get());
        })
        .finished();
}

#[test]
fn a_step_beyond_every_batch_sends_the_coordinator_back_to_its_log() {
    Simulation::new(5)
        .run(|runtime| async move {
            let shard = start(&runtime).await;
            until_loaded(&shard).await;
            let answer = shard.begin_group_call(&commit("g", 1)).await;
            let seat = shard.coordination.seat(0).unwrap();
            let member = GroupMember {
                member_id: "m".into(),
                group_instance_id: None,
                client_id: "c".into(),
                client_host: "/h".into(),
                rebalance_timeout_ms: 0,
                session_timeout_ms: 0,
                subscription: Vec::new(),
                assignment: vec![0; GROUP_STEP_BYTES_MAX],
            };
            let generation = GroupMetadataValue {
                protocol_type: "consumer".into(),
                generation: 1,
                protocol: None,
                leader: None,
                current_state_timestamp: -1,
                members: vec![member],
            };
            let step = Step { records: vec![Record::Group("g".into(), Some(generation))], answers: Vec::new() };
            assert_eq!(shard.absorb(&seat, step), Err(ErrorCode::UnknownServerError));
            assert_eq!(fetched(&shard, "g").await, Err(ErrorCode::CoordinatorLoadInProgress));
            // What was queued before is kept.
            assert_eq!(committed(answer.finish().await), Ok(0));
            until_loaded(&shard).await;
            assert_eq!(fetched(&shard, "g").await, Ok(vec![1]));
        })
        .finished();
}

#[test]
fn a_damaged_record_ends_its_coordinator_and_no_other() {
    Simulation::new(6)
        .run(|runtime| async move {
            let shard = start(&runtime).await;
            until_loaded(&shard).await;
            let seat = shard.coordination.seat(0).unwrap();
            let mut builder =
                crate::protocol::record_batch::BatchBuilder::new(crate::protocol::compression::Codec::None);
            builder.append(runtime.wall_clock(), Some(&[0, 1, 0]), Some(&[0, 3]), &[]);
            shard.append_internal(Purpose::Group, &seat.partition, &builder.build()).await.unwrap();
            load::start(&shard, seat);
            until_loaded(&shard).await;
            assert_eq!(fetched(&shard, "g").await, Err(ErrorCode::CoordinatorNotAvailable));
            let other = GroupCall { partition: 1, ..commit("g", 4) };
            assert_eq!(committed(shard.begin_group_call(&other).await.finish().await), Ok(0));
        })
        .finished();
}

#[test]
fn offsets_of_a_deleted_topic_are_forgotten_also_when_the_deletion_was_missed() {
    let mut simulation = Simulation::new(7);
    simulation
        .run(|runtime| async move {
            let shard = start(&runtime).await;
            until_loaded(&shard).await;
            for group in ["a", "b"] {
                assert_eq!(committed(shard.begin_group_call(&commit(group, 3)).await.finish().await), Ok(0));
            }
            shard.stop();
            shard.store.close().await.unwrap();
        })
        .finished();
    simulation
        .run(|runtime| async move {
            let shard = start_empty(&runtime).await;
            let whole = image(&shard.image());
            let topic_id = whole.topic(TOPIC).unwrap().id();
            publish(&shard, whole.apply(&[RemoveTopicRecord { topic_id }.into()]).unwrap());
            until_loaded(&shard).await;
            assert_eq!(fetched(&shard, "a").await, Ok(vec![]));
        })
        .finished();
    simulation
        .run(|runtime| async move {
            let shard = start(&runtime).await;
            until_loaded(&shard).await;
            assert_eq!(committed(shard.begin_group_call(&commit("a", 3)).await.finish().await), Ok(0));
            remove(&shard, TOPIC);
            assert_eq!(fetched(&shard, "a").await, Ok(vec![]));
        })
        .finished();
}

#[test]
fn without_its_topic_or_its_shard_nothing_is_coordinated() {
    Simulation::new(8)
        .run(|runtime| async move {
            let shard = start(&runtime).await;
            until_loaded(&shard).await;
            let beyond = GroupCall { partition: 2, ..commit("g", 1) };
            assert_eq!(committed(shard.begin_group_call(&beyond).await.finish().await), Err(ErrorCode::NotCoordinator));
            let under_way = shard.begin_group_call(&commit("g", 1)).await;
            remove(&shard, CONSUMER_OFFSETS);
            assert_eq!(committed(under_way.finish().await), Err(ErrorCode::NotCoordinator));
            assert_eq!(fetched(&shard, "g").await, Err(ErrorCode::NotCoordinator));
            shard.stop_coordination();
            assert_eq!(fetched(&shard, "g").await, Err(ErrorCode::CoordinatorNotAvailable));
        })
        .finished();
}

#[test]
fn the_list_has_the_groups_of_all_coordinators_and_waits_for_those_that_load() {
    Simulation::new(9)
        .run(|runtime| async move {
            let shard = start(&runtime).await;
            let list = call(ApiKey::ListGroups, 0, 5, &ListGroupsRequest::default());
            let loading = shard.begin_group_call(&list).await.finish().await;
            assert!(matches!(loading, Some(GroupReply::Refused(ErrorCode::CoordinatorLoadInProgress))));
            until_loaded(&shard).await;
            let _ = shard.begin_group_call(&commit("a", 1)).await;
            let _ = shard.begin_group_call(&GroupCall { partition: 1, ..commit("b", 1) }).await;
            let Some(GroupReply::Body(body)) = shard.begin_group_call(&list).await.finish().await else {
                panic!("both are loaded")
            };
            let response = ListGroupsResponse::decode(&mut Reader::new(&body), 5).unwrap();
            let names: Vec<&str> = response.groups.iter().map(|group| &*group.group_id).collect();
            assert_eq!(names, ["a", "b"]);
            assert!(batches(&shard, 0) > 0 && batches(&shard, 1) > 0);
        })
        .finished();
}

#[test]
fn the_defaults_of_groups_are_those_of_the_settings() {
    assert_eq!(group_config(&BrokerConfig::default()), GroupConfig::default());
}

/// Appends to a partition until there is no room for `purpose`.
async fn fill(shard: &Rc<TestShard>, partition: &Rc<Partition>, purpose: Purpose) {
    let mut builder = crate::protocol::record_batch::BatchBuilder::new(crate::protocol::compression::Codec::None);
    builder.append(shard.runtime.wall_clock(), None, Some(&[7; 100_000]), &[]);
    let batch = builder.build();
    while let Ok(position) = shard.append_internal(purpose, partition, &batch).await {
        let deadline = shard.runtime.now().plus_ms(10_000);
        shard.wait(Durability::Written, position, deadline).await.unwrap();
    }
}

#[test]
fn a_full_store_takes_commits_then_refuses_them_and_takes_them_again_without_a_restart() {
    // At the budget of clients commits failed too, and the first one ended its coordinator until the next start.
    let mut simulation = Simulation::new(1);
    simulation
        .run(|runtime| async move {
            let shard = start_within(&runtime, 4 << 20).await;
            publish(&shard, image(&shard.image()));
            runtime.sleep(Duration::from_secs(1)).await;
            let topic = shard.image().topic(TOPIC).unwrap().id();
            let partition = shard.partition(topic, 0).unwrap();
            let committing =
                async |offset| committed(shard.begin_group_call(&commit("g", offset)).await.finish().await);
            assert_eq!(committing(1).await, Ok(0));
            fill(&shard, &partition, Purpose::Client).await;
            assert_eq!(committing(2).await, Ok(0));
            fill(&shard, &partition, Purpose::Group).await;
            let mut offset = 3;
            // What is left of the open segment.
            while committing(offset).await == Ok(0) {
                offset += 1;
                assert!(offset < 100_000);
            }
            assert_eq!(committing(offset).await, Err(ErrorCode::NotCoordinator));
            runtime.sleep(Duration::from_secs(20)).await;
            assert_eq!(committing(offset).await, Err(ErrorCode::NotCoordinator));
            let end = partition.state().offsets.high_watermark();
            shard.move_log_start(&partition, end).unwrap();
            runtime.sleep(Duration::from_secs(20)).await;
            assert_eq!(committing(offset).await, Ok(0));
            shard.stop();
        })
        .finished();
}
