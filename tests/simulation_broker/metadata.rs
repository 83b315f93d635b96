//! The metadata over many lives: topics come and go, the process is killed or the power cut at any point, also while the log
//! of the metadata begins anew.
//!
//! Every life finds the image that the one before left, but for the change that was under way; no shard keeps a log of a topic
//! that is gone; and the log of the metadata stays within a few times what it has to say.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corelane::broker::metadata_log::{MetadataLog, SnapshotOptions};
use corelane::cluster::image::MetadataImage;
use corelane::cluster::records::{EndTransactionRecord, PartitionRecord, Record};
use corelane::limits::{METADATA_LOG_SNAPSHOTS_MAX, METADATA_SNAPSHOT_RETRY_MS};
use corelane::protocol::compression::Codec;
use corelane::protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use corelane::protocol::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use corelane::protocol::record_batch::BatchBuilder;
use corelane::runtime::Runtime;
use corelane::simulation::disk::{Moment, Operation};
use corelane::simulation::random::Random;
use corelane::simulation::seeds::Seeds;
use corelane::simulation::{Crash, Ended, SimulatedRuntime, Simulation};
use corelane::store::Purpose;
use corelane::types::{TimestampMs, TopicId};

use crate::arm_crash;
use crate::connection::Connection;
use crate::machine::{Plan, Process, within};

/// Topics of one request, at most.
const TOPICS_PER_CHANGE: u64 = 5;
/// Topics above which some are deleted.
const TOPICS_MAX: usize = 60;
const PATIENCE: Duration = Duration::from_secs(60);

/// What outlives the process.
struct Known {
    random: Random,
    /// The newest image that somebody saw.
    image: Option<Arc<MetadataImage>>,
    /// Names that a change under way creates or deletes.
    changing: BTreeSet<String>,
    topics_made: u64,
}

impl Known {
    /// Holds the image of a new life against the last one. Starts raise epochs; that is all that may differ.
    fn compare(&mut self, found: &Arc<MetadataImage>) {
        if let Some(before) = &self.image {
            assert_eq!(self.settled(found), self.settled(before), "the metadata of this life and of the last");
            for topic in before.topics() {
                let Some(now) = found.topic_by_id(topic.id()) else { continue };
                for ((_, before), (_, now)) in topic.partitions().zip(now.partitions()) {
                    assert!(now.leader_epoch > before.leader_epoch, "{}: a start raises epochs", topic.name());
                }
            }
        }
        self.changing.clear();
        self.image = Some(Arc::clone(found));
    }

    /// The records of an image without what is changing, and what starts change.
    fn settled(&self, image: &MetadataImage) -> Vec<Record> {
        let changing: Vec<TopicId> =
            self.changing.iter().filter_map(|name| image.topic(name)).map(|topic| topic.id()).collect();
        let settled = |record: Record| match record {
            Record::RegisterBroker(_) => None,
            Record::Topic(topic) => Some(topic).filter(|it| !changing.contains(&it.topic_id)).map(Record::from),
            Record::Partition(partition) => {
                let settled = PartitionRecord { leader_epoch: 0, partition_epoch: 0, ..partition };
                Some(settled).filter(|it| !changing.contains(&it.topic_id)).map(Record::from)
            }
            Record::Config(config) => {
                Some(config).filter(|it| !self.changing.contains(&*it.resource_name)).map(Record::from)
            }
            other => Some(other),
        };
        image.snapshot_records().filter_map(settled).collect()
    }
}

/// Bytes of a batch of records.
fn batch_bytes(records: impl Iterator<Item = Record>) -> u64 {
    let mut builder = BatchBuilder::new(Codec::None);
    for record in records {
        builder.append(TimestampMs::new(0), None, Some(&record.encode()), &[]);
    }
    u64::try_from(builder.build().len()).unwrap()
}

/// Most bytes that the log of an image may take once it has begun anew where that was due. Removals may still be in it, of
/// as many topics as one change deletes, and the image itself has grown or shrunk by as many since the last snapshot.
fn log_bytes_max(image: &MetadataImage, plan: &Plan) -> u64 {
    let change = 200 * TOPICS_PER_CHANGE;
    let transaction = std::iter::once(EndTransactionRecord {}.into());
    let SnapshotOptions { log_bytes_min, batch_bytes: bytes_of_batch } = plan.snapshots;
    let bytes = batch_bytes(image.snapshot_records().chain(transaction)) + change;
    // Every batch has a header.
    let bytes_of_batch = u64::try_from(bytes_of_batch).unwrap();
    let bytes = bytes * bytes_of_batch / (bytes_of_batch - 61);
    log_bytes_min + METADATA_LOG_SNAPSHOTS_MAX * bytes
}

async fn one_life(runtime: SimulatedRuntime, plan: Plan, shards: u16, known: Rc<RefCell<Known>>, changes: u64) {
    let process = Process::start(&runtime, &plan, shards).await.expect("the disk works");
    let log = process.nodes[0].log.clone().expect("the controller has it");
    known.borrow_mut().compare(&log.image());
    check_logs(&process, &log.image());
    for _ in 0..changes {
        let connection = process.connect_anywhere(&mut known.borrow_mut().random);
        change(&connection, &log.image(), &known).await;
        {
            let mut known = known.borrow_mut();
            known.image = Some(log.image());
            known.changing.clear();
        }
        if known.borrow_mut().random.chance(1, 3) {
            settle(&process, &log, &plan).await;
        }
    }
    settle(&process, &log, &plan).await;
    check_logs(&process, &log.image());
    process.stop().await.expect("the disk works");
}

/// Waits until the log of the metadata is as small as it is to be.
async fn settle(process: &Process, log: &Rc<MetadataLog<SimulatedRuntime>>, plan: &Plan) {
    let max = log_bytes_max(&log.image(), plan);
    let settling = Rc::clone(log);
    within(&process.runtime, PATIENCE, "beginning anew", move || settling.log_bytes() <= max).await;
}

/// Every partition has its log, and there is no other but that of the metadata.
fn check_logs(process: &Process, image: &MetadataImage) {
    let logs: usize = process.nodes.iter().map(|node| node.shard.store.partitions().len()).sum();
    assert_eq!(logs, image.partition_count() + 1, "logs of {} topics", image.topic_count());
}

/// Creates some topics, or deletes some.
async fn change(connection: &Connection, image: &MetadataImage, known: &Rc<RefCell<Known>>) {
    let names: Vec<String> = image.topics().map(|topic| topic.name().to_string()).collect();
    let (creates, count) = {
        let random = &mut known.borrow_mut().random;
        let creates = names.is_empty() || (names.len() < TOPICS_MAX && random.chance(1, 2));
        (creates, usize::try_from(random.range(1..TOPICS_PER_CHANGE + 1)).unwrap())
    };
    if creates { create(connection, count, known).await } else { delete(connection, &names, count, known).await }
}

async fn create(connection: &Connection, count: usize, known: &Rc<RefCell<Known>>) {
    let topics: Vec<CreatableTopic<'_>> = (0..count)
        .map(|_| {
            let known = &mut *known.borrow_mut();
            known.topics_made += 1;
            let name = format!("topic-{}", known.topics_made);
            known.changing.insert(name.clone());
            let config =
                CreatableTopicConfig { name: Cow::Borrowed("retention.ms"), value: Some(Cow::Borrowed("3600000")) };
            CreatableTopic {
                name: Cow::Owned(name),
                num_partitions: i32::try_from(known.random.range(1..5)).unwrap(),
                replication_factor: 1,
                assignments: Vec::new(),
                configs: if known.random.chance(1, 2) { vec![config] } else { Vec::new() },
            }
        })
        .collect();
    let request = CreateTopicsRequest { topics, timeout_ms: 60_000, validate_only: false };
    let answer = connection.ask(&request, 5).await.expect("a healthy broker answers");
    let response = CreateTopicsResponse::decode(&mut answer.reader(), 5).unwrap();
    assert!(response.topics.iter().all(|topic| topic.error_code == 0));
}

async fn delete(connection: &Connection, names: &[String], count: usize, known: &Rc<RefCell<Known>>) {
    let topic_names: BTreeSet<String> = {
        let known = &mut *known.borrow_mut();
        let names = (0..count).map(|_| known.random.pick(names).clone()).collect();
        known.changing.clone_from(&names);
        names
    };
    let topic_names = topic_names.into_iter().map(Cow::Owned).collect();
    let request = DeleteTopicsRequest { topics: Vec::new(), topic_names, timeout_ms: 60_000 };
    let answer = connection.ask(&request, 5).await.expect("a healthy broker answers");
    let response = DeleteTopicsResponse::decode(&mut answer.reader(), 5).unwrap();
    assert!(response.responses.iter().all(|topic| topic.error_code == 0));
}

/// Most of the log of the metadata was of topics that were long gone and of starts, and every start read all of it.
#[test]
fn metadata_over_many_lives_is_what_it_was_and_stays_small() {
    Seeds::from_environment(10).each(|seed| {
        let mut random = Random::new(seed).split();
        let mut plan = Plan::draw(&mut random);
        plan.snapshots.log_bytes_min = *random.pick(&[0, 500, 5000]);
        let mut shards = u16::try_from(random.range(1..4)).unwrap();
        let known = Known { random: random.split(), image: None, changing: BTreeSet::new(), topics_made: 0 };
        let known = Rc::new(RefCell::new(known));
        let mut simulation = Simulation::new(seed);
        for _ in 0..random.range(10..40) {
            if shards < 4 && random.chance(1, 10) {
                shards += 1;
            }
            // Now and then nothing but a start.
            let changes = if random.chance(1, 3) { 0 } else { random.range(1..25) };
            let crash = *random.pick(&[Crash::Process, Crash::Power]);
            if random.chance(1, 4) {
                arm_crash(&mut simulation, &mut random, crash);
            } else if random.chance(1, 2) {
                // Often while the log begins anew, which takes a few writes, at a start too.
                let writes = *random.pick(&[8, 40]);
                let writes = random.below(writes);
                simulation.disk().crash_at(Operation::Write, Moment::Completed, "shard-0/segment", writes, crash);
            }
            let slow_us = *random.pick(&[0, 0, 5_000]);
            simulation.disk().change(|options| options.flush_delay_us = slow_us);
            let (planned, shared) = (plan.clone(), Rc::clone(&known));
            let ended = simulation.run(move |runtime| one_life(runtime, planned, shards, shared, changes));
            simulation.disk().clear_traps();
            if matches!(ended, Ended::Finished(())) && random.chance(1, 4) {
                simulation.cut_power();
            }
        }
    });
}

/// Room may be missing for long: a log that cannot begin anew goes on as it is, and does it later.
#[test]
fn without_room_the_log_of_the_metadata_begins_anew_later() {
    let mut simulation = Simulation::new(1);
    let mut plan = Plan::draw(&mut Random::new(1));
    plan.snapshots = SnapshotOptions { log_bytes_min: 0, ..SnapshotOptions::default() };
    let ended = simulation.run(|runtime: SimulatedRuntime| async move {
        let process = Process::start(&runtime, &plan, 1).await.unwrap();
        let log = process.nodes[0].log.clone().unwrap();
        let known = Known { random: Random::new(1), image: None, changing: BTreeSet::new(), topics_made: 0 };
        let known = Rc::new(RefCell::new(known));
        let connection = process.connect(0);
        for _ in 0..20 {
            create(&connection, 3, &known).await;
        }
        settle(&process, &log, &plan).await;

        let (capacity_bytes, shard) = (runtime.disk().used_bytes(), &process.nodes[0].shard);
        runtime.disk().change(|options| options.capacity_bytes = capacity_bytes);
        let topic = log.image().topics().next().unwrap().id();
        let partition = shard.partition(topic, 0).unwrap();
        // What is dead is freed once room is wanted, so once more.
        for bytes in [10_000, 100, 10_000, 100] {
            let value = vec![7; bytes];
            let now = runtime.wall_clock();
            let batch = BatchBuilder::new(Codec::None).append(now, None, Some(&value), &[]).build();
            while shard.append_internal(Purpose::Client, &partition, &batch).await.is_ok() {}
            runtime.sleep(Duration::from_secs(15)).await;
        }
        // Deletions have room, and leave little to say.
        let names = |log: &MetadataLog<SimulatedRuntime>| -> Vec<String> {
            let image = log.image();
            image.topics().filter(|it| it.id() != topic).map(|it| it.name().to_string()).collect()
        };
        let before = log.log_bytes();
        let mut changes = 0;
        while names(&log).len() > 3 {
            delete(&connection, &names(&log), 1, &known).await;
            changes += 1;
        }
        assert!(log.log_bytes() > log_bytes_max(&log.image(), &plan), "{} bytes", log.log_bytes());
        assert!(log.log_bytes() < before + changes * 200, "what was tried leaves nothing behind");

        runtime.disk().change(|options| options.capacity_bytes = u64::MAX);
        runtime.sleep(Duration::from_millis(METADATA_SNAPSHOT_RETRY_MS)).await;
        delete(&connection, &names(&log), 1, &known).await;
        settle(&process, &log, &plan).await;
        process.stop().await.unwrap();
    });
    ended.finished();
}

/// The log of the metadata took its retention from the broker's settings, as topics do: a week after it was written down, or a
/// minute where `log.retention.ms` said so, a topic was gone with the next start, and its records were there for nobody.
#[test]
fn no_retention_discards_metadata() {
    for settings in [("log.retention.ms", "1000"), ("log.retention.bytes", "0"), ("log.cleanup.policy", "compact")] {
        let mut plan = Plan::draw(&mut Random::new(1));
        plan.snapshots = SnapshotOptions::default();
        for (key, value) in [("log.retention.check.interval.ms", "100"), settings] {
            plan.settings.push((key.to_owned(), value.to_owned()));
        }
        let mut simulation = Simulation::new(1);
        let known = Known { random: Random::new(1), image: None, changing: BTreeSet::new(), topics_made: 0 };
        let known = Rc::new(RefCell::new(known));
        for is_first in [true, false] {
            let (plan, known) = (plan.clone(), Rc::clone(&known));
            let ended = simulation.run(move |runtime: SimulatedRuntime| async move {
                let process = Process::start(&runtime, &plan, 1).await.unwrap();
                let log = process.nodes[0].log.clone().unwrap();
                known.borrow_mut().compare(&log.image());
                if is_first {
                    create(&process.connect(0), 3, &known).await;
                    known.borrow_mut().image = Some(log.image());
                    known.borrow_mut().changing.clear();
                }
                runtime.sleep(Duration::from_secs(10)).await;
                process.stop().await.unwrap();
            });
            ended.finished();
        }
    }
}
