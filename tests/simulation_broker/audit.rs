//! What a restart gave back, held against the model through the same requests that clients have.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use corelane::partition::offsets::PartitionOffsets;
use corelane::partition::producer_state::ProducerStates;
use corelane::protocol::record_batch::batches;
use corelane::runtime::Runtime;
use corelane::types::{LeaderEpoch, TopicId};

use crate::calls::{EARLIEST, LATEST, TopicRow, epoch_end, list_offset, metadata};
use crate::connection::{Closed, Connection};
use crate::fetching::{Fetch, Wanted};
use crate::machine::{Process, within};
use crate::model::{Found, Key, Topic, is_retained};
use crate::world::Shared;

const OUT_OF_RANGE: i16 = 1;
/// Kafka's special timestamp for the record with the greatest one.
const TIMESTAMP_MAX: i64 = -3;

/// Why an audit could not be finished: the disk fails, or an answer did not come.
#[derive(Debug)]
pub(crate) struct Unfinished(#[allow(dead_code)] pub(crate) String);

impl From<Closed> for Unfinished {
    fn from(_: Closed) -> Unfinished {
        Unfinished("a connection was closed".to_owned())
    }
}

/// Looks at every topic and reads every partition to its end.
///
/// Errors: a request failed, as it may while the disk does.
pub(crate) async fn audit(process: &Process, world: &Shared) -> Result<(), Unfinished> {
    let connection = process.connect_anywhere(&mut world.borrow_mut().random);
    let rows = metadata(&connection, None, false, 13).await?;
    compare_topics(world, &rows);
    for row in &rows {
        for (index, (leader, epoch)) in (0..).zip(&row.partitions) {
            on_epoch(world, row, index, *epoch);
            let shard = usize::try_from(leader - 1).unwrap();
            let misrouted = world.borrow_mut().random.chance(1, 4);
            let reading = match misrouted {
                true => process.connect_anywhere(&mut world.borrow_mut().random),
                false => process.connect(shard),
            };
            while !audit_partition(process, world, &reading, row, index).await? {}
        }
    }
    if !process.is_read_only() {
        compare_logs(process, &rows);
    }
    Ok(())
}

/// Topics that were told to exist do, those that were told to be gone are.
fn compare_topics(world: &Shared, rows: &[TopicRow]) {
    let model = &mut world.borrow_mut().model;
    let found: BTreeMap<&str, &TopicRow> = rows.iter().map(|row| (&*row.name, row)).collect();
    let names: BTreeSet<String> =
        model.topics.keys().cloned().chain(found.keys().map(|name| (*name).to_owned())).collect();
    for name in names {
        match (model.topic(&name), found.get(&*name)) {
            (Topic::Absent | Topic::MayAppear, None) => {
                model.topics.insert(name, Topic::Absent);
            }
            (Topic::MayAppear, Some(row)) => model.on_topic(&name, row.id, row.partitions.len()),
            (Topic::Alive(id), Some(row)) => {
                assert_eq!(row.id, id, "{name} is another topic after a restart");
                let known = model.partitions.keys().filter(|(topic, _)| *topic == id).count();
                assert_eq!(row.partitions.len(), known, "{name}: partitions");
            }
            (Topic::MayVanish(id), Some(row)) => {
                assert_eq!(row.id, id, "{name} is another topic after a restart");
                model.on_topic(&name, id, row.partitions.len());
            }
            (Topic::MayVanish(id), None) => model.on_deleted(&name, id),
            (Topic::Absent, Some(row)) => panic!("{name} came back, or nobody asked for it: {row:?}"),
            (Topic::Alive(id), None) => panic!("{name} ({id}) was told to exist and is gone"),
        }
    }
}

/// The epoch rose since the last life, strictly.
fn on_epoch(world: &Shared, row: &TopicRow, index: i32, epoch: i32) {
    let model = &mut world.borrow_mut().model;
    let partition = model.partitions.get_mut(&(row.id, index)).expect("every topic is known by now");
    assert!(epoch > partition.epoch, "{}-{index}: epoch {epoch} after {}", row.name, partition.epoch);
    partition.epoch = epoch;
}

/// False: retention moved the log start meanwhile.
async fn audit_partition(
    process: &Process,
    world: &Shared,
    connection: &Connection,
    row: &TopicRow,
    index: i32,
) -> Result<bool, Unfinished> {
    let key = (row.id, index);
    let ends = [end(connection, &row.name, index, EARLIEST).await?, end(connection, &row.name, index, LATEST).await?];
    let [log_start, log_end] = ends;
    let mut found = Found { log_start, log_end, batches: Vec::new() };
    // Leader epoch and base offset of every batch.
    let mut epochs = Vec::new();
    let mut offset = log_start;
    while offset < log_end {
        let Some(records) = read(connection, row, key, offset).await? else { return Ok(false) };
        let read = world.borrow_mut().model.on_read(key, offset, log_end, &records);
        let Some((_, last)) = read.last() else { panic!("{}-{index}: nothing at {offset} of {log_end}", row.name) };
        offset = last.last + 1;
        found.batches.extend(&read);
        let headers = batches(&records).map(|batch| batch.unwrap().header);
        epochs.extend(headers.map(|header| (header.leader_epoch.value(), header.base_offset.value())));
    }
    assert!(epochs.is_sorted(), "{}-{index}: epochs fall: {epochs:?}", row.name);
    world.borrow_mut().model.on_recovered(key, &found);
    let now = process.runtime.now();
    world.borrow_mut().model.on_high_watermark(key, log_end, now);
    if !is_retained(&row.name) {
        check_epoch_ends(world, connection, row, index, &epochs, log_end).await?;
        check_times(world, connection, row, index, &found).await?;
    }
    Ok(true)
}

async fn end(connection: &Connection, name: &str, index: i32, which: i64) -> Result<i64, Unfinished> {
    let row = list_offset(connection, name, index, which).await?;
    match row.error_code {
        0 => Ok(row.offset),
        error => Err(Unfinished(format!("{name}-{index}: ListOffsets {which} failed with {error}"))),
    }
}

/// `None`: the log start has passed the offset.
async fn read(connection: &Connection, row: &TopicRow, key: Key, offset: i64) -> Result<Option<Vec<u8>>, Unfinished> {
    let fetch = Fetch {
        version: 17,
        name: &row.name,
        id: key.0,
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 30_000,
        partition_max_bytes: 30_000,
        session: (0, -1),
        partitions: vec![Wanted { partition: key.1, offset, leader_epoch: -1, last_epoch: -1 }],
    };
    let answer = fetch.ask(connection).await?;
    assert_eq!(answer.error, 0);
    let [got] = &answer.partitions[..] else { panic!("one partition was asked for") };
    match got.error {
        0 => Ok(Some(got.records.clone())),
        OUT_OF_RANGE if is_retained(&row.name) => Ok(None),
        error => Err(Unfinished(format!("{}-{}: fetch of {offset} failed with {error}", row.name, key.1))),
    }
}

/// Every epoch ends where the next one that wrote anything begins, the last one at the recovered end.
async fn check_epoch_ends(
    world: &Shared,
    connection: &Connection,
    row: &TopicRow,
    index: i32,
    epochs: &[(i32, i64)],
    log_end: i64,
) -> Result<(), Unfinished> {
    let newest = world.borrow().model.partitions[&(row.id, index)].epoch;
    for epoch in 0..=newest {
        let (error, answered, end) = epoch_end(connection, &row.name, index, epoch).await?;
        if error != 0 {
            return Err(Unfinished(format!("{}-{index}: OffsetForLeaderEpoch failed with {error}", row.name)));
        }
        let expected = epochs.iter().find(|(written, _)| *written > epoch).map_or(log_end, |(_, base)| *base);
        assert_eq!(end, expected, "{}-{index}: end of epoch {epoch}, newest {newest}, log end {log_end}", row.name);
        assert!(answered <= epoch);
    }
    Ok(())
}

/// Lookups by time find what a walk over all records finds.
async fn check_times(
    world: &Shared,
    connection: &Connection,
    row: &TopicRow,
    index: i32,
    found: &Found,
) -> Result<(), Unfinished> {
    let records: Vec<(i64, i64)> = {
        let model = &world.borrow().model;
        let of = |(base, seen): &(i64, crate::model::Seen)| {
            let timestamps = model.sent[&seen.batch].timestamps.clone();
            (*base..).zip(timestamps).collect::<Vec<_>>()
        };
        found.batches.iter().flat_map(of).filter(|(offset, _)| *offset >= found.log_start).collect()
    };
    if records.is_empty() {
        return Ok(());
    }
    let (_, any) = *world.borrow_mut().random.pick(&records);
    for timestamp in [any, any + 1, TIMESTAMP_MAX] {
        let answer = list_offset(connection, &row.name, index, timestamp).await?;
        if answer.error_code != 0 {
            return Err(Unfinished(format!("{}-{index}: lookup by time: {}", row.name, answer.error_code)));
        }
        let told = (answer.offset, answer.timestamp);
        if timestamp == TIMESTAMP_MAX {
            let greatest = records.iter().map(|(_, at)| *at).max().unwrap();
            assert!(told.1 == greatest && records.contains(&told), "{}-{index}: {told:?} for {greatest}", row.name);
        } else {
            let first = records.iter().find(|(_, at)| *at >= timestamp).copied().unwrap_or((-1, -1));
            assert_eq!(told, first, "{}-{index}: the first record at or after {timestamp}", row.name);
        }
    }
    Ok(())
}

/// The stores hold the partitions that there are, and the log of the metadata: what was deleted is gone.
fn compare_logs(process: &Process, rows: &[TopicRow]) {
    let wanted: usize = rows.iter().map(|row| row.partitions.len()).sum::<usize>() + 1;
    let count = || process.nodes.iter().map(|node| node.shard.store.partitions().len()).sum::<usize>();
    assert_eq!(count(), wanted, "logs in the stores, for {} topics", rows.len());
}

/// What one partition is after a recovery, but for its epochs.
#[derive(Debug, PartialEq)]
pub(crate) struct Dump {
    offsets: PartitionOffsets,
    producers: ProducerStates,
    content: u64,
    /// Epochs that something was appended in, and where they begin.
    epochs: Vec<(LeaderEpoch, i64)>,
}

/// All partitions of a process that nobody has written to.
pub(crate) async fn dump(process: &Rc<Process>) -> BTreeMap<Key, Dump> {
    let mut dumps = BTreeMap::new();
    for node in &process.nodes {
        for partition in node.shard.all_partitions() {
            let index = partition.index.value();
            if partition.topic == metadata_topic() {
                continue;
            }
            let (offsets, producers) = {
                let state = partition.state();
                (state.offsets, state.producers.clone())
            };
            let (mut next, end) = (offsets.log_start(), offsets.log_end());
            let (mut content, mut epochs) = (0_u64, Vec::new());
            while next < end {
                let read = node.shard.store.read(partition.log, next, end, 30_000, true).await;
                let read = read.unwrap_or_else(|error| panic!("{partition:?} at {next}: {error}"));
                let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice()).copied().collect();
                for batch in batches(&bytes) {
                    let batch = batch.unwrap();
                    content = content.rotate_left(7) ^ u64::from(crc32c::crc32c(batch.bytes()));
                    let header = batch.header;
                    if epochs.last().is_none_or(|(epoch, _)| *epoch < header.leader_epoch) {
                        epochs.push((header.leader_epoch, header.base_offset.value()));
                    }
                    next = header.last_offset().advance(1);
                }
            }
            dumps.insert((partition.topic, index), Dump { offsets, producers, content, epochs });
        }
    }
    dumps
}

fn metadata_topic() -> TopicId {
    let mut id = [0; 16];
    id[15] = 1;
    TopicId::new(id)
}

/// Waits until nothing is left to flush, as after a while without traffic.
pub(crate) async fn settled(process: &Rc<Process>) {
    let quiet = Rc::clone(process);
    within(&process.runtime, Duration::from_secs(60), "flushing everything", move || {
        quiet.nodes.iter().all(|node| {
            let progress = node.shard.store.progress();
            progress.durable == progress.appended
        })
    })
    .await;
}
