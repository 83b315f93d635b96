//! A loss that an administrator accepted: whoever reads over the hole that it left gets to the other end.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use corelane::broker::metadata_log::SnapshotOptions;
use corelane::cluster::view::Advertise;
use corelane::protocol::compression::Codec;
use corelane::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use corelane::protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse};
use corelane::protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use corelane::protocol::record_batch::{BatchBuilder, batches};
use corelane::protocol::wire::Records;
use corelane::runtime::Runtime;
use corelane::simulation::disk::{Disk, Operation};
use corelane::simulation::{SimulatedRuntime, Simulation};
use corelane::types::TimestampMs;

use crate::audit::settled;
use crate::calls::{EARLIEST, LATEST, epoch_end, list_offset, metadata};
use crate::connection::Connection;
use crate::fetching::{Fetch, Got, Wanted};
use crate::group_calls::{LOADING, NOT_AVAILABLE, NOT_COORDINATOR};
use crate::machine::{Plan, Process};

const TOPIC: &str = "t";
const STORAGE_ERROR: i16 = 56;

fn plan(accept_loss: bool) -> Plan {
    Plan {
        segment_bytes: 1024 * 1024,
        block_bytes: 65536,
        memory_bytes: 4 * 1024 * 1024,
        checkpoint_interval_ms: 10_000,
        written_flush_interval_ms: 50,
        snapshots: SnapshotOptions::default(),
        advertise: Advertise::PerCore,
        settings: vec![
            ("num.partitions".to_owned(), "1".to_owned()),
            ("offsets.topic.num.partitions".to_owned(), "1".to_owned()),
        ],
        accept_loss,
    }
}

/// Flips a bit in the last place of any segment where `content` stands.
fn damage(disk: &Disk, content: &[u8]) {
    let mut hit = None;
    for path in disk.paths().into_iter().filter(|path| path.to_string_lossy().contains("segment")) {
        let bytes = disk.content(&path).unwrap();
        let at = bytes.windows(content.len()).rposition(|window| window == content);
        hit = at.map(|at| (path, at)).or(hit);
    }
    let (path, at) = hit.expect("it was written");
    disk.flip_bit(&path, u64::try_from(at).unwrap(), 0);
}

/// One life that stops in good order, or the words with which it does not start.
fn life<T: 'static>(
    simulation: &mut Simulation,
    accept_loss: bool,
    work: impl AsyncFnOnce(&Rc<Process>) -> T + 'static,
) -> Result<T, String> {
    let living = simulation.run(move |runtime: SimulatedRuntime| async move {
        let process = Process::start(&runtime, &plan(accept_loss), 1).await?;
        let result = work(&process).await;
        settled(&process).await;
        process.stop().await.expect("the disk works");
        Ok(result)
    });
    living.finished()
}

async fn create(process: &Process, connection: &Connection, name: &str) {
    let mut error = 0;
    for _ in 0..100 {
        error = metadata(connection, Some(&[name]), true, 12).await.unwrap()[0].error;
        if error == 0 {
            return;
        }
        process.runtime.sleep(Duration::from_millis(5)).await;
    }
    panic!("{name} is not created: {error}");
}

async fn produce(connection: &Connection, value: &[u8]) -> i64 {
    let (error, base_offset) = produce_at(connection, value, -1).await;
    assert_eq!(error, 0);
    base_offset
}

/// Error and base offset.
async fn produce_at(connection: &Connection, value: &[u8], acks: i16) -> (i16, i64) {
    let bytes = BatchBuilder::new(Codec::None).append(TimestampMs::new(1), None, Some(value), &[]).build();
    let partition_data = vec![PartitionProduceData { index: 0, records: Records::Bytes(&bytes) }];
    let topic_data =
        vec![TopicProduceData { name: Cow::Borrowed(TOPIC), partition_data, ..TopicProduceData::default() }];
    let request = ProduceRequest { acks, timeout_ms: 30_000, topic_data, transactional_id: None };
    let answer = connection.ask(&request, 9).await.unwrap();
    let response = ProduceResponse::decode(&mut answer.reader(), 9).unwrap();
    let row = &response.responses[0].partition_responses[0];
    (row.error_code, row.base_offset)
}

async fn fetch(connection: &Connection, offset: i64) -> Got {
    let id = metadata(connection, Some(&[TOPIC]), false, 12).await.unwrap()[0].id;
    let fetch = Fetch {
        version: 12,
        name: TOPIC,
        id,
        max_wait_ms: 10,
        min_bytes: 1,
        max_bytes: 1_000_000,
        partition_max_bytes: 1_000_000,
        session: (0, -1),
        partitions: vec![Wanted { partition: 0, offset, leader_epoch: -1, last_epoch: -1 }],
    };
    fetch.ask(connection).await.unwrap().partitions.remove(0)
}

/// Reads as a consumer does, from the end of one batch to the next: the offsets of the records that came, and where it
/// stands when an answer brings nothing more.
async fn consume(connection: &Connection) -> (Vec<i64>, i64) {
    let (mut next, mut seen) = (0, Vec::new());
    loop {
        let got = fetch(connection, next).await;
        assert_eq!(got.error, 0);
        if got.records.is_empty() {
            return (seen, next);
        }
        for batch in batches(&got.records).map(Result::unwrap) {
            assert!(batch.crc_matches());
            let header = batch.header;
            assert!(header.last_offset().value() >= next, "a batch that was read before comes again");
            seen.extend((0..header.record_count).map(|delta| header.offset_of(delta).value()));
            next = header.last_offset().value() + 1;
        }
    }
}

/// With the last records of a partition lost, and that accepted, the log end lay above its data, and whoever read up to
/// the log end got empty answers for ever, until somebody produced: `kcat -e`, Kafka Streams restoring a table and
/// Connect reading its topics hung without an error.
#[test]
fn a_consumer_gets_to_the_log_end_over_a_hole_at_the_tail() {
    let mut simulation = Simulation::new(1);
    life(&mut simulation, false, async |process| {
        let connection = process.connect(0);
        create(process, &connection, TOPIC).await;
        for number in 0..10 {
            assert_eq!(produce(&connection, format!("record number {number}").as_bytes()).await, number);
        }
    })
    .unwrap();
    damage(&simulation.disk(), b"record number 7");
    let refused = life(&mut simulation, false, async |_| {}).unwrap_err();
    assert!(refused.contains("--accept-loss"), "{refused}");
    for accept_loss in [true, false] {
        let consumed = life(&mut simulation, accept_loss, async |process| {
            let connection = process.connect(0);
            assert_eq!(list_offset(&connection, TOPIC, 0, LATEST).await.unwrap().offset, 10);
            for offset in 7..10 {
                let records = fetch(&connection, offset).await.records;
                let hole = batches(&records).next().expect("the hole is told").unwrap();
                let ends = (hole.header.base_offset.value(), hole.header.last_offset().value());
                assert_eq!((ends, hole.header.record_count, hole.crc_matches()), ((offset, 9), 0, true));
            }
            consume(&connection).await
        });
        assert_eq!(consumed.unwrap(), ((0..7).collect(), 10));
    }
    let consumed = life(&mut simulation, false, async |process| {
        let connection = process.connect(0);
        assert_eq!(produce(&connection, b"the next").await, 10);
        consume(&connection).await
    });
    assert_eq!(consumed.unwrap(), ((0..7).chain([10]).collect(), 11));
}

/// A hole at the end of the metadata, once accepted, was read again and again for ever, so that the broker never started.
#[test]
fn a_start_gets_over_a_hole_in_the_metadata_and_the_next_finds_none() {
    let mut simulation = Simulation::new(1);
    life(&mut simulation, false, async |process| {
        let connection = process.connect(0);
        create(process, &connection, TOPIC).await;
        produce(&connection, b"record").await;
        create(process, &connection, "gone").await;
    })
    .unwrap();
    damage(&simulation.disk(), b"gone");
    let refused = life(&mut simulation, false, async |_| {}).unwrap_err();
    assert!(refused.contains("--accept-loss"), "{refused}");
    let epoch_before = 0;
    for accept_loss in [true, false] {
        let (topics, consumed) = life(&mut simulation, accept_loss, async |process| {
            let connection = process.connect(0);
            (metadata(&connection, None, false, 12).await.unwrap(), consume(&connection).await)
        })
        .unwrap();
        let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
        assert_eq!(names, [TOPIC]);
        assert!(topics[0].partitions[0].1 > epoch_before, "leader epochs never go back");
        assert_eq!(consumed, (vec![0], 1));
    }
}

async fn commit(process: &Process, connection: &Connection, offset: i64) {
    for _ in 0..100 {
        match commit_once(connection, offset).await {
            0 => return,
            LOADING | NOT_AVAILABLE | NOT_COORDINATOR => {}
            error => panic!("OffsetCommit: {error}"),
        }
        process.runtime.sleep(Duration::from_millis(5)).await;
    }
    panic!("the coordinator does not serve");
}

async fn commit_once(connection: &Connection, offset: i64) -> i16 {
    let row = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some(Cow::Owned(format!("commit of {offset}"))),
    };
    let topics = vec![OffsetCommitRequestTopic { name: Cow::Borrowed(TOPIC), partitions: vec![row] }];
    let request = OffsetCommitRequest {
        group_id: Cow::Borrowed("g"),
        generation_id_or_member_epoch: -1,
        topics,
        ..OffsetCommitRequest::default()
    };
    let answer = connection.ask(&request, 8).await.unwrap();
    let response = OffsetCommitResponse::decode(&mut answer.reader(), 8).unwrap();
    response.topics[0].partitions[0].error_code
}

/// The error of the group, or the offset that it committed.
async fn committed(process: &Rc<Process>) -> Result<i64, i16> {
    let connection = process.connect(0);
    let topics = vec![OffsetFetchRequestTopic { name: Cow::Borrowed(TOPIC), partition_indexes: vec![0] }];
    let request =
        OffsetFetchRequest { group_id: Cow::Borrowed("g"), topics: Some(topics), ..OffsetFetchRequest::default() };
    let mut error = 0;
    for _ in 0..100 {
        let answer = connection.ask(&request, 5).await.unwrap();
        let response = OffsetFetchResponse::decode(&mut answer.reader(), 5).unwrap();
        error = response.error_code;
        if error == 0 {
            return Ok(response.topics[0].partitions[0].committed_offset);
        }
        process.runtime.sleep(Duration::from_millis(50)).await;
    }
    Err(error)
}

/// A coordinator whose partition ended in a hole that was accepted failed to load, and never tried again: every group of
/// that partition was out of order for good.
#[test]
fn a_coordinator_loads_over_a_hole() {
    let mut simulation = Simulation::new(1);
    life(&mut simulation, false, async |process| {
        let connection = process.connect(0);
        create(process, &connection, TOPIC).await;
        create(process, &connection, "__consumer_offsets").await;
        for offset in [3, 5] {
            commit(process, &connection, offset).await;
        }
    })
    .unwrap();
    damage(&simulation.disk(), b"commit of 5");
    for accept_loss in [true, false] {
        let committed = life(&mut simulation, accept_loss, async |process| committed(process).await);
        assert_eq!(committed.unwrap(), Ok(3));
    }
}

/// Fills the open segment, so that what was written before is in a sealed one, which no start reads.
async fn seal(process: &Rc<Process>, connection: &Connection) {
    let before = process.nodes[0].shard.store.progress().appended.segment;
    for number in 0..5 {
        // Nothing that compresses, and nothing twice.
        let value: Vec<u8> =
            (0..70_000_u32).flat_map(|index| crc32c::crc32c(&(index + number).to_le_bytes()).to_le_bytes()).collect();
        produce(connection, &value).await;
    }
    assert!(process.nodes[0].shard.store.progress().appended.segment > before);
}

/// One flipped bit in a sealed segment renamed a topic: a start reads no more of such a segment than its footer, and nobody
/// looked at the batch's checksum again. Where the bit hit a length, the broker asked for a newer corelane.
#[test]
fn damaged_metadata_is_refused_or_left_out_and_never_believed() {
    let mut simulation = Simulation::new(1);
    life(&mut simulation, false, async |process| {
        let connection = process.connect(0);
        create(process, &connection, "first").await;
        create(process, &connection, "gone").await;
        create(process, &connection, TOPIC).await;
        seal(process, &connection).await;
    })
    .unwrap();
    damage(&simulation.disk(), b"gone");
    let refused = life(&mut simulation, false, async |_| {}).unwrap_err();
    assert!(
        refused.contains("the metadata log is damaged at offset") && refused.contains("--accept-loss"),
        "{refused}"
    );
    for accept_loss in [true, false] {
        let (mut names, consumed) = life(&mut simulation, accept_loss, async |process| {
            let connection = process.connect(0);
            let topics = metadata(&connection, None, false, 12).await.unwrap();
            let names: Vec<String> = topics.into_iter().map(|topic| topic.name).collect();
            (names, consume(&connection).await.1)
        })
        .unwrap();
        names.sort();
        assert_eq!((names, consumed), (vec!["first".to_owned(), TOPIC.to_owned()], 5));
    }
}

/// A flipped bit in a sealed segment moved a committed offset, and a consumer went on from the wrong place.
#[test]
fn a_damaged_commit_is_never_believed() {
    let mut simulation = Simulation::new(1);
    life(&mut simulation, false, async |process| {
        let connection = process.connect(0);
        create(process, &connection, TOPIC).await;
        create(process, &connection, "__consumer_offsets").await;
        for offset in [3, 5] {
            commit(process, &connection, offset).await;
        }
        seal(process, &connection).await;
    })
    .unwrap();
    damage(&simulation.disk(), b"commit of 5");
    let asked = async |process: &Rc<Process>| {
        let committed = committed(process).await;
        (committed, process.nodes[0].shard.metrics.damaged_reads.value())
    };
    let (refused, damaged_reads) = life(&mut simulation, false, asked).unwrap();
    assert!(refused.is_err() && damaged_reads > 0, "{refused:?}, {damaged_reads}");
    let (accepted, _) = life(&mut simulation, true, asked).unwrap();
    assert_eq!(accepted, Ok(3));
}

/// Damage is told of for what is damaged, and everything around it is served.
#[test]
fn a_damaged_record_is_an_error_and_its_neighbours_are_not() {
    let mut simulation = Simulation::new(1);
    life(&mut simulation, false, async |process| {
        let connection = process.connect(0);
        create(process, &connection, TOPIC).await;
        for number in 0..10 {
            produce(&connection, format!("record number {number}").as_bytes()).await;
        }
        seal(process, &connection).await;
    })
    .unwrap();
    damage(&simulation.disk(), b"record number 4");
    life(&mut simulation, false, async |process| {
        let connection = process.connect(0);
        let offsets =
            |got: &Got| batches(&got.records).map(|it| it.unwrap().header.base_offset.value()).collect::<Vec<_>>();
        let before = fetch(&connection, 1).await;
        assert_eq!((before.error, offsets(&before)), (0, vec![1, 2, 3]));
        assert_eq!(process.nodes[0].shard.metrics.damaged_reads.value(), 0);
        let damaged = fetch(&connection, 4).await;
        assert_eq!((damaged.error, damaged.records.len()), (STORAGE_ERROR, 0));
        assert_eq!(process.nodes[0].shard.metrics.damaged_reads.value(), 1);
        let behind = fetch(&connection, 5).await;
        assert_eq!((behind.error, &offsets(&behind)[..5]), (0, &[5, 6, 7, 8, 9][..]));
    })
    .unwrap();
}

/// When a flush failed, ListOffsets of the end and OffsetForLeaderEpoch were storage errors although Fetch went on: a
/// consumer without a committed offset could not begin to read what is there.
#[test]
fn a_read_only_shard_tells_where_its_partitions_end() {
    let mut simulation = Simulation::new(1);
    let ended = simulation.run(|runtime: SimulatedRuntime| async move {
        let process = Process::start(&runtime, &plan(false), 1).await.unwrap();
        let connection = process.connect(0);
        create(&process, &connection, TOPIC).await;
        for number in 0..3 {
            assert_eq!(produce(&connection, b"record").await, number);
        }
        let epoch = metadata(&connection, Some(&[TOPIC]), false, 12).await.unwrap()[0].partitions[0].1;
        runtime.disk().fail(Operation::Flush, "segment", 0);
        // It is written, and no flush makes it visible any more.
        assert_eq!(produce_at(&connection, b"unseen", 1).await, (0, 3));
        while process.nodes[0].shard.store.failure().is_none() {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        let shard = &process.nodes[0].shard;
        let offsets = shard.partition(metadata(&connection, Some(&[TOPIC]), false, 12).await.unwrap()[0].id, 0);
        let offsets = offsets.unwrap().state().offsets;
        assert_eq!((offsets.log_end().value(), offsets.high_watermark().value()), (4, 3));
        for timestamp in [LATEST, EARLIEST, 0] {
            let found = list_offset(&connection, TOPIC, 0, timestamp).await.unwrap();
            let expected = if timestamp == LATEST { 3 } else { 0 };
            assert_eq!((found.error_code, found.offset), (0, expected), "at {timestamp}");
        }
        let end = epoch_end(&connection, TOPIC, 0, epoch).await.unwrap();
        assert_eq!(end, (0, epoch, 3));
        assert_eq!(consume(&connection).await, (vec![0, 1, 2], 3));
        assert_eq!(produce_at(&connection, b"refused", -1).await.0, STORAGE_ERROR);
    });
    ended.finished();
}

/// It was said that a read-only shard goes on answering OffsetFetch from memory. It does while nobody wants anything written:
/// the first commit that fails ends the coordinator, since its state tells of what no disk has. A restart brings back
/// what was acknowledged.
#[test]
fn a_read_only_shard_tells_what_was_committed_until_a_commit_fails() {
    let mut simulation = Simulation::new(1);
    let ended = simulation.run(|runtime: SimulatedRuntime| async move {
        let process = Rc::new(Process::start(&runtime, &plan(false), 1).await.unwrap());
        let connection = process.connect(0);
        create(&process, &connection, TOPIC).await;
        create(&process, &connection, "__consumer_offsets").await;
        commit(&process, &connection, 3).await;
        runtime.disk().fail(Operation::Flush, "segment", 0);
        assert_eq!(produce_at(&connection, b"unseen", 1).await, (0, 0));
        while process.nodes[0].shard.store.failure().is_none() {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(committed(&process).await, Ok(3));
        assert_eq!(commit_once(&connection, 5).await, NOT_COORDINATOR);
        assert_eq!(committed(&process).await, Err(NOT_COORDINATOR));
        assert_eq!(commit_once(&connection, 6).await, NOT_COORDINATOR);
    });
    ended.finished();
    assert_eq!(life(&mut simulation, false, committed).unwrap(), Ok(3));
}
