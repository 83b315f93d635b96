//! The administrator: creates, deletes and creates again, and asks what else clients ask.
//!
//! Only one works at a time, so that it is known which topics there are.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelane::protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use corelane::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use corelane::protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use corelane::protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use corelane::runtime::Runtime;
use corelane::types::{Durability, TopicId};

use crate::calls::{EARLIEST, LATEST, epoch_end, init_producer_id, list_offset, metadata};
use crate::connection::Connection;
use crate::machine::Process;
use crate::model::{ALTERED, Key, Topic, durability_of};
use crate::world::{
    AUTOMATIC, CHURNED, RETENTION_BYTES, STABLE, Shared, UNKNOWN_TOPIC, any_topic, configs_of, elapsed, pause, resolve,
};

const STORAGE_ERROR: i16 = 56;
const LOADING: i16 = 14;
const TIMED_OUT: i16 = 7;
const OFFSET_NOT_AVAILABLE: i16 = 78;
/// The topic whose records may go.
const RETAINED: &str = STABLE[2];
const TOPIC_RESOURCE: i8 = 2;
/// Longest that a question waits for a flush.
const PATIENCE: Duration = Duration::from_secs(8);

/// Makes the topics that stay, and then changes and asks until the clients are told to leave.
pub(crate) async fn run(process: Rc<Process>, world: Shared) {
    for name in STABLE {
        while world.borrow().model.topic(name) == Topic::Absent && !world.borrow().stopping {
            create(&process, &world, name).await;
            if process.is_read_only() {
                return;
            }
        }
    }
    while !world.borrow().stopping {
        pause(&process.runtime, &world).await;
        pause(&process.runtime, &world).await;
        let name = *world.borrow_mut().random.pick(&CHURNED);
        let state = world.borrow().model.topic(name);
        let act = world.borrow_mut().random.below(10);
        match (act, state) {
            (0..3, Topic::Absent) => create(&process, &world, name).await,
            (0, Topic::Alive(id)) => delete(&process, &world, name, id).await,
            (1, _) => auto_create(&process, &world).await,
            (2 | 3, _) => latest(&process, &world).await,
            (4, _) => epochs(&process, &world).await,
            (5, _) => describe(&process, &world).await,
            (6, _) => {
                let connection = process.connect_anywhere(&mut world.borrow_mut().random);
                let Ok((error, id)) = init_producer_id(&connection, 5).await else { continue };
                if error == 0 {
                    assert!(world.borrow_mut().model.producer_ids.insert(id), "producer id {id} was given out twice");
                } else {
                    assert!(error == LOADING && world.borrow().faulty);
                }
            }
            (7, _) => delete_records(&process, &world).await,
            (8, _) => alter(&process, &world).await,
            _ => process.runtime.sleep(Duration::from_millis(2)).await,
        }
    }
}

async fn create(process: &Process, world: &Shared, name: &'static str) {
    let (connection, version, partitions) = {
        let random = &mut world.borrow_mut().random;
        (process.connect_anywhere(random), random.range(2..8), random.range(1..5))
    };
    let version = i16::try_from(version).unwrap();
    let configs = configs_of(name)
        .into_iter()
        .map(|(key, value)| CreatableTopicConfig { name: Cow::Borrowed(key), value: Some(Cow::Borrowed(value)) });
    let topic = CreatableTopic {
        name: Cow::Borrowed(name),
        num_partitions: i32::try_from(partitions).unwrap(),
        replication_factor: 1,
        assignments: Vec::new(),
        configs: configs.collect(),
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only: false };
    let before = world.borrow_mut().model.topics.insert(name.to_owned(), Topic::MayAppear);
    assert!(before.is_none_or(|before| before == Topic::Absent));
    let Ok(answer) = connection.ask(&request, version).await else { return on_closed(world) };
    let response = CreateTopicsResponse::decode(&mut answer.reader(), version).unwrap();
    let error = response.topics[0].error_code;
    process.runtime.note("created", [u64::from(error.unsigned_abs()), 0, 0]);
    if error == STORAGE_ERROR {
        return on_closed(world);
    }
    assert_eq!(error, 0, "{name} was not created: {:?}", response.topics[0].error_message);
    found(process, world, name).await;
}

/// A topic was just made: learns its id, and that it is another.
async fn found(process: &Process, world: &Shared, name: &str) {
    let connection = process.connect_anywhere(&mut world.borrow_mut().random);
    let Ok(rows) = metadata(&connection, Some(&[name]), false, 12).await else { return on_closed(world) };
    assert_eq!(rows[0].error, 0, "{name} was created and is not there");
    let model = &mut world.borrow_mut().model;
    model.on_topic(name, rows[0].id, rows[0].partitions.len());
    crate::world::on_epochs(model, &rows[0]);
}

async fn delete(process: &Process, world: &Shared, name: &'static str, id: TopicId) {
    let (connection, version, by_id) = {
        let random = &mut world.borrow_mut().random;
        (process.connect_anywhere(random), i16::try_from(random.range(1..7)).unwrap(), random.chance(1, 2))
    };
    let state = match by_id {
        true => DeleteTopicState { name: None, topic_id: id },
        false => DeleteTopicState { name: Some(Cow::Borrowed(name)), topic_id: TopicId::ZERO },
    };
    let request =
        DeleteTopicsRequest { topics: vec![state], topic_names: vec![Cow::Borrowed(name)], timeout_ms: 60_000 };
    world.borrow_mut().model.topics.insert(name.to_owned(), Topic::MayVanish(id));
    let Ok(answer) = connection.ask(&request, version).await else { return on_closed(world) };
    let response = DeleteTopicsResponse::decode(&mut answer.reader(), version).unwrap();
    let error = response.responses[0].error_code;
    process.runtime.note("deleted", [u64::from(error.unsigned_abs()), 0, 0]);
    if error == STORAGE_ERROR {
        return on_closed(world);
    }
    assert_eq!(error, 0, "{name} was not deleted");
    world.borrow_mut().model.on_deleted(name, id);
}

/// Asks for a topic that need not exist, and until it does.
async fn auto_create(process: &Process, world: &Shared) {
    let name = *world.borrow_mut().random.pick(&AUTOMATIC);
    if world.borrow().model.topic(name) != Topic::Absent {
        return;
    }
    world.borrow_mut().model.topics.insert(name.to_owned(), Topic::MayAppear);
    let version = i16::try_from(world.borrow_mut().random.range(4..14)).unwrap();
    // Until every shard knows it: they learn one after the other.
    let mut shard = 0;
    for _ in 0..2000 {
        let connection = process.connect(shard);
        let Ok(rows) = metadata(&connection, Some(&[name]), true, version).await else { return on_closed(world) };
        if rows[0].error == 0 {
            shard += 1;
            if shard == process.nodes.len() {
                return found(process, world, name).await;
            }
            continue;
        }
        assert_eq!(rows[0].error, UNKNOWN_TOPIC);
        process.runtime.sleep(Duration::from_millis(5)).await;
        if process.is_read_only() || world.borrow().is_short_of_space {
            return;
        }
    }
    panic!("{name} was asked for again and again and is not made");
}

/// The least that the end of a partition may be. What was told with acks=1 and not yet flushed when the store failed may be lost
/// with the next start, so that no consumer sees it: then it is what was seen before.
fn least_end(process: &Process, world: &Shared, key: Key) -> i64 {
    let world = world.borrow();
    let known = world.model.partitions.get(&key);
    known.map_or(0, |known| if process.has_failed(key) { known.high_watermark } else { known.written_end })
}

/// The end that ListOffsets tells is never below what anybody was told before.
async fn latest(process: &Process, world: &Shared) {
    let Some((connection, name, id, count)) = living(process, world).await else { return };
    let partition = i32::try_from(world.borrow_mut().random.below(count)).unwrap();
    let known = least_end(process, world, (id, partition));
    let asked = process.runtime.now();
    let Ok(row) = list_offset(&connection, name, partition, LATEST).await else { return on_closed(world) };
    let now = process.runtime.now();
    let took = elapsed(asked, now);
    assert!(took < PATIENCE || world.borrow().faulty, "{name}: the end of a log took {took:?}");
    match row.error_code {
        0 => {
            let end = row.offset;
            let known = known.min(least_end(process, world, (id, partition)));
            assert!(end >= known, "{name}-{partition}: the end is {end} for one who was told of {known}");
            world.borrow_mut().model.on_high_watermark((id, partition), end, now);
        }
        UNKNOWN_TOPIC => {}
        STORAGE_ERROR | OFFSET_NOT_AVAILABLE => assert!(world.borrow().faulty),
        other => panic!("{name}-{partition}: ListOffsets failed with {other}"),
    }
}

/// The newest epoch ends where the log does.
async fn epochs(process: &Process, world: &Shared) {
    let Some((connection, name, id, count)) = living(process, world).await else { return };
    let partition = i32::try_from(world.borrow_mut().random.below(count)).unwrap();
    let epoch = world.borrow().model.partitions.get(&(id, partition)).map(|known| known.epoch);
    let Some(epoch) = epoch else { return };
    let known = least_end(process, world, (id, partition));
    let Ok((error, answered, end)) = epoch_end(&connection, name, partition, epoch).await else {
        return on_closed(world);
    };
    match error {
        0 => {
            assert_eq!(answered, epoch, "{name}-{partition}");
            let known = known.min(least_end(process, world, (id, partition)));
            assert!(end >= known, "{name}-{partition}: epoch {epoch} ends at {end} for one who was told of {known}");
        }
        UNKNOWN_TOPIC => {}
        STORAGE_ERROR | OFFSET_NOT_AVAILABLE => assert!(world.borrow().faulty),
        other => panic!("{name}-{partition}: OffsetForLeaderEpoch failed with {other}"),
    }
}

/// A topic says the durability that it was made with.
async fn describe(process: &Process, world: &Shared) {
    let Some((connection, name, _, _)) = living(process, world).await else { return };
    let version = i16::try_from(world.borrow_mut().random.range(1..5)).unwrap();
    let resource = DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: Cow::Borrowed(name),
        configuration_keys: Some(vec![Cow::Borrowed("flush.messages")]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let Ok(answer) = connection.ask(&request, version).await else { return on_closed(world) };
    let response = DescribeConfigsResponse::decode(&mut answer.reader(), version).unwrap();
    let result = &response.results[0];
    if result.error_code == UNKNOWN_TOPIC {
        return;
    }
    let value = result.configs[0].value.as_deref().unwrap();
    assert_eq!(value == "1", durability_of(name) == Durability::Flushed, "{name}: flush.messages={value}");
}

/// Deletes records of the topic that may lose them, at most up to what is known to be there. What was answered counts for
/// ever, at once and over every crash.
async fn delete_records(process: &Process, world: &Shared) {
    let connection = process.connect_anywhere(&mut world.borrow_mut().random);
    let Some((id, leaders)) = resolve(process, world, &connection, RETAINED).await else { return };
    let (version, partition, known, offset) = {
        let world = &mut *world.borrow_mut();
        let partition = i32::try_from(world.random.below(u64::try_from(leaders.len()).unwrap())).unwrap();
        let known = world.model.partitions[&(id, partition)].written_end;
        let offset = match world.random.chance(1, 3) {
            true => -1,
            false => i64::try_from(world.random.below(u64::try_from(known + 1).unwrap())).unwrap(),
        };
        (i16::try_from(world.random.below(3)).unwrap(), partition, known, offset)
    };
    let partitions = vec![DeleteRecordsPartition { partition_index: partition, offset }];
    let topics = vec![DeleteRecordsTopic { name: Cow::Borrowed(RETAINED), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 60_000 };
    let Ok(answer) = connection.ask(&request, version).await else { return on_closed(world) };
    let response = DeleteRecordsResponse::decode(&mut answer.reader(), version).unwrap();
    let row = &response.topics[0].partitions[0];
    process.runtime.note("records deleted", [u64::from(row.error_code.unsigned_abs()), 0, 0]);
    match row.error_code {
        0 => {
            let wanted = if offset == -1 { known } else { offset };
            let log_start = row.low_watermark;
            assert!(
                log_start >= wanted,
                "{RETAINED}-{partition}: starts at {log_start} for one who asked for {wanted}"
            );
            let model = &mut world.borrow_mut().model;
            let partition = model.partitions.get_mut(&(id, partition)).expect("a stable topic stays");
            partition.log_start = partition.log_start.max(log_start);
        }
        STORAGE_ERROR | OFFSET_NOT_AVAILABLE | TIMED_OUT => return on_closed(world),
        other => panic!("{RETAINED}-{partition}: DeleteRecords of {offset} failed with {other}, {known} is there"),
    }
    let Ok(row) = list_offset(&connection, RETAINED, partition, EARLIEST).await else { return on_closed(world) };
    let told = world.borrow().model.partitions[&(id, partition)].log_start;
    assert!(row.error_code != 0 || row.offset >= told, "{RETAINED}-{partition}: starts at {} again", row.offset);
}

/// Changes a configuration, and asks for it: an answered change is in force, also after every crash.
async fn alter(process: &Process, world: &Shared) {
    let connection = process.connect_anywhere(&mut world.borrow_mut().random);
    if resolve(process, world, &connection, RETAINED).await.is_none() {
        return;
    }
    let resource = DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: Cow::Borrowed(RETAINED),
        configuration_keys: Some(vec![Cow::Borrowed(ALTERED)]),
    };
    let describe = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let Ok(answer) = connection.ask(&describe, 4).await else { return on_closed(world) };
    let response = DescribeConfigsResponse::decode(&mut answer.reader(), 4).unwrap();
    let found = response.results[0].configs[0].value.as_deref().unwrap();
    let may_be = |world: &Shared| {
        let altered = &world.borrow().model.altered;
        altered.get(RETAINED).cloned().unwrap_or_else(|| vec![RETENTION_BYTES.to_owned()])
    };
    let mut known = may_be(world);
    assert!(known.iter().any(|value| value == found), "{RETAINED}: {ALTERED} is {found}, not one of {known:?}");
    let value = world.borrow_mut().random.range(10_000..60_000).to_string();
    known.push(value.clone());
    world.borrow_mut().model.altered.insert(RETAINED, known);
    let config =
        AlterableConfig { name: Cow::Borrowed(ALTERED), config_operation: 0, value: Some(Cow::Borrowed(&value)) };
    let resource = AlterConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: Cow::Borrowed(RETAINED),
        configs: vec![config],
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let version = i16::try_from(world.borrow_mut().random.below(2)).unwrap();
    let Ok(answer) = connection.ask(&request, version).await else { return on_closed(world) };
    let response = IncrementalAlterConfigsResponse::decode(&mut answer.reader(), version).unwrap();
    let error = response.responses[0].error_code;
    process.runtime.note("altered", [u64::from(error.unsigned_abs()), 0, 0]);
    if error == STORAGE_ERROR {
        return on_closed(world);
    }
    assert_eq!(error, 0, "{:?}", response.responses[0].error_message);
    world.borrow_mut().model.altered.insert(RETAINED, vec![value]);
}

/// A connection to any shard and a topic that exists there.
async fn living(process: &Process, world: &Shared) -> Option<(Connection, &'static str, TopicId, u64)> {
    let name = any_topic(&mut world.borrow_mut().random, false);
    if !matches!(world.borrow().model.topic(name), Topic::Alive(_)) {
        return None;
    }
    let connection = process.connect_anywhere(&mut world.borrow_mut().random);
    let (id, leaders) = resolve(process, world, &connection, name).await?;
    Some((connection, name, id, u64::try_from(leaders.len()).unwrap()))
}

fn on_closed(world: &Shared) {
    assert!(world.borrow().faulty, "a healthy broker closed a connection, or says that its storage failed");
}
