//! Consumers: fetch with and without sessions, long polls, every version; follow their partitions over restarts.
//!
//! Held against the model: every batch read (see [`Model::on_read`](crate::model::Model::on_read)), a high watermark that never
//! goes back within a life, and that no fetch sleeps beside data that somebody else was told of.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use corelane::runtime::Runtime;
use corelane::simulation::random::Random;
use corelane::types::{Durability, MonotonicUs, TopicId};

use crate::calls::{EARLIEST, list_offset};
use crate::connection::{Closed, Connection};
use crate::fetching::{Fetch, Fetched, Got, Wanted};
use crate::machine::Process;
use crate::model::{Key, Topic, durability_of, is_retained};
use crate::world::{Shared, any_topic, elapsed, pause, resolve};

const OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC: i16 = 3;
const STORAGE_ERROR: i16 = 56;
const SESSION_NOT_FOUND: i16 = 70;
const UNKNOWN_EPOCH: i16 = 75;
const UNSUPPORTED_COMPRESSION: i16 = 76;
const FENCED_EPOCH: i16 = 74;
const UNKNOWN_TOPIC_ID: i16 = 100;

const SESSIONS_SINCE: i16 = 7;
const LAST_EPOCH_SINCE: i16 = 12;
const ZSTD_SINCE: i16 = 10;
/// How long a fetch may go on once somebody was told of what it waits for.
pub(crate) const WAKE_MAX: Duration = Duration::from_millis(900);
/// How much later than asked an empty answer may come.
const LATE_MAX: Duration = Duration::from_secs(2);

/// A consumer, over all lives.
#[derive(Debug)]
pub(crate) struct Consumer {
    topic: &'static str,
    version: i16,
    sessions: bool,
    misrouted_percent: u64,
    max_wait_ms: i32,
    min_bytes: i32,
    partition_max_bytes: i32,
    tells_epochs: bool,
    /// Where it stands, and the epoch of the last batch it has.
    positions: BTreeMap<Key, (i64, i32)>,
}

impl Consumer {
    pub(crate) fn draw(random: &mut Random) -> Consumer {
        let by_name = random.chance(1, 2);
        let version = if by_name { random.range(4..13) } else { random.range(13..19) };
        Consumer {
            topic: any_topic(random, by_name),
            version: i16::try_from(version).unwrap(),
            sessions: random.chance(1, 2),
            misrouted_percent: *random.pick(&[0, 30, 100]),
            max_wait_ms: *random.pick(&[0, 20, 5000, 20_000]),
            min_bytes: *random.pick(&[0, 1, 1, 3000]),
            partition_max_bytes: *random.pick(&[1, 1000, 1_000_000]),
            tells_epochs: random.chance(1, 2),
            positions: BTreeMap::new(),
        }
    }
}

/// Runs a consumer until the clients are told to leave.
pub(crate) async fn run(process: Rc<Process>, world: Shared, index: usize) {
    while !world.borrow().stopping {
        session(&process, &world, index).await;
        pause(&process.runtime, &world).await;
        process.runtime.sleep(Duration::from_millis(1)).await;
    }
}

/// What one connection asks for, all the time.
struct Asking {
    name: &'static str,
    topic: TopicId,
    version: i16,
    partitions: Vec<i32>,
    /// Epochs by partition.
    epochs: Vec<i32>,
}

/// One connection's work; it ends when it can go no further.
async fn session(process: &Process, world: &Shared, index: usize) -> Option<()> {
    let name = world.borrow().consumers[index].topic;
    if !matches!(world.borrow().model.topic(name), Topic::Alive(_)) {
        let us = world.borrow_mut().random.below(20_000);
        process.runtime.sleep(Duration::from_micros(us)).await;
        return None;
    }
    let asking = process.connect_anywhere(&mut world.borrow_mut().random);
    let (topic, leaders) = resolve(process, world, &asking, name).await?;
    drop(asking);
    let (shard, asking) = {
        let world = &mut *world.borrow_mut();
        let consumer = &mut world.consumers[index];
        consumer.positions.retain(|key, _| key.0 == topic);
        let all: Vec<i32> = (0..i32::try_from(leaders.len()).unwrap()).collect();
        let epochs = leaders.iter().map(|(_, epoch)| *epoch).collect();
        let (shard, partitions) = if world.random.chance(consumer.misrouted_percent, 100) {
            (world.random.index(process.nodes.len()), all)
        } else {
            let (leader, _) = *world.random.pick(&leaders);
            let led = |partition: &i32| leaders[usize::try_from(*partition).unwrap()].0 == leader;
            (usize::try_from(leader - 1).unwrap(), all.into_iter().filter(led).collect())
        };
        (shard, Asking { name, topic, version: consumer.version, partitions, epochs })
    };
    let connection = process.connect(shard);
    let mut fetch_session = (0, if world.borrow().consumers[index].sessions { 0 } else { -1 });
    let mut told: BTreeMap<i32, i64> = BTreeMap::new();
    loop {
        if world.borrow().stopping {
            return None;
        }
        let fetch = next_fetch(world, index, &asking, fetch_session, &mut told);
        let before: BTreeMap<i32, i64> = asking
            .partitions
            .iter()
            .map(|partition| {
                let world = world.borrow();
                let known = world.model.partitions.get(&(topic, *partition)).map_or(0, |it| it.high_watermark);
                (*partition, known)
            })
            .collect();
        let sent_at = process.runtime.now();
        let waited_for = positions(world, index, &asking);
        let answer = match fetch.ask(&connection).await {
            Ok(answer) => answer,
            Err(Closed) => {
                assert!(world.borrow().faulty, "a healthy broker closed a consumer's connection");
                return None;
            }
        };
        check_time(process, world, &fetch, topic, &waited_for, sent_at);
        if answer.error != 0 {
            assert_eq!(answer.error, SESSION_NOT_FOUND, "{name}: fetch failed");
            return None;
        }
        if fetch_session.1 >= 0 && asking.version >= SESSIONS_SINCE {
            fetch_session = if answer.session_id == 0 { (0, 0) } else { (answer.session_id, fetch_session.1 + 1) };
            if fetch_session == (0, 0) {
                told.clear();
            }
        }
        let go_on = take_in(process, world, index, &asking, &connection, answer, &before).await;
        if !go_on || world.borrow_mut().random.chance(1, 15) {
            return None;
        }
        pause(&process.runtime, world).await;
    }
}

/// Where the consumer stands in each of the partitions.
fn positions(world: &Shared, index: usize, asking: &Asking) -> Vec<(i32, i64)> {
    let world = world.borrow();
    let positions = &world.consumers[index].positions;
    let of = |partition: &i32| positions.get(&(asking.topic, *partition)).map_or(0, |(offset, _)| *offset);
    asking.partitions.iter().map(|partition| (*partition, of(partition))).collect()
}

/// The next fetch: in a session only what changed since it was told.
fn next_fetch<'a>(
    world: &Shared,
    index: usize,
    asking: &'a Asking,
    session: (i32, i32),
    told: &mut BTreeMap<i32, i64>,
) -> Fetch<'a> {
    let positions = positions(world, index, asking);
    let mut world = world.borrow_mut();
    let tells = world.consumers[index].tells_epochs;
    let version = asking.version;
    let in_session = session.1 > 0 && version >= SESSIONS_SINCE;
    let mut partitions = Vec::new();
    for (partition, offset) in positions {
        if in_session && told.get(&partition) == Some(&offset) {
            continue;
        }
        told.insert(partition, offset);
        let last = world.consumers[index].positions.get(&(asking.topic, partition)).map_or(-1, |(_, epoch)| *epoch);
        partitions.push(Wanted {
            partition,
            offset,
            leader_epoch: if tells { asking.epochs[usize::try_from(partition).unwrap()] } else { -1 },
            last_epoch: if tells && version >= LAST_EPOCH_SINCE { last } else { -1 },
        });
    }
    world.random.shuffle(&mut partitions);
    let consumer = &world.consumers[index];
    Fetch {
        version,
        name: asking.name,
        id: asking.topic,
        max_wait_ms: consumer.max_wait_ms,
        min_bytes: consumer.min_bytes,
        max_bytes: 1_000_000,
        partition_max_bytes: consumer.partition_max_bytes,
        session: if version >= SESSIONS_SINCE { session } else { (0, -1) },
        partitions,
    }
}

/// No fetch takes much longer than it may, nor sleeps beside data that somebody was told of.
fn check_time(
    process: &Process,
    world: &Shared,
    fetch: &Fetch<'_>,
    topic: TopicId,
    waited_for: &[(i32, i64)],
    sent_at: MonotonicUs,
) {
    let now = process.runtime.now();
    let took = elapsed(sent_at, now);
    let max_wait = Duration::from_millis(u64::try_from(fetch.max_wait_ms).unwrap());
    assert!(took <= max_wait + LATE_MAX, "{}: a fetch that may wait {max_wait:?} took {took:?}", fetch.name);
    if fetch.min_bytes > 1 {
        return;
    }
    for (partition, offset) in waited_for {
        let world = world.borrow();
        let Some(known) = world.model.partitions.get(&(topic, *partition)) else { continue };
        let Some(since) = known.visible_since(*offset) else { continue };
        let slept = elapsed(since.max(sent_at), now);
        assert!(
            slept <= WAKE_MAX,
            "{}-{partition}: a fetch slept for {slept:?} beside what is visible at {offset}",
            fetch.name
        );
    }
}

/// Checks an answer and moves the positions. False: connect anew.
async fn take_in(
    process: &Process,
    world: &Shared,
    index: usize,
    asking: &Asking,
    connection: &Connection,
    answer: Fetched,
    before: &BTreeMap<i32, i64>,
) -> bool {
    let mut go_on = true;
    for got in answer.partitions {
        let key = (asking.topic, got.partition);
        let error = got.error;
        process.runtime.note("fetched", [u64::from(error.unsigned_abs()), got.high_watermark.unsigned_abs(), 0]);
        match error {
            0 => go_on &= on_records(process, world, index, asking, &got, before),
            OUT_OF_RANGE => {
                let (offset, _) = world.borrow().consumers[index].positions.get(&key).copied().unwrap_or((0, -1));
                check_may_be_gone(world, asking.name, key, offset);
                let Ok(earliest) = list_offset(connection, asking.name, got.partition, EARLIEST).await else {
                    return false;
                };
                if earliest.error_code == 0 {
                    world.borrow_mut().consumers[index].positions.insert(key, (earliest.offset, -1));
                }
                go_on = false;
            }
            // Deleted, or this shard does not know of it yet.
            UNKNOWN_TOPIC | UNKNOWN_TOPIC_ID => go_on = false,
            UNSUPPORTED_COMPRESSION => {
                assert!(asking.version < ZSTD_SINCE, "{}: version {} may carry zstd", asking.name, asking.version);
                world.borrow_mut().consumers[index].version = ZSTD_SINCE;
                go_on = false;
            }
            FENCED_EPOCH | UNKNOWN_EPOCH => panic!("{}: the epoch of this life is refused with {error}", asking.name),
            STORAGE_ERROR => {
                assert!(world.borrow().faulty, "{}: storage error on a healthy disk", asking.name);
                go_on = false;
            }
            other => panic!("{}-{}: fetch failed with {other}", asking.name, got.partition),
        }
    }
    go_on
}

fn on_records(
    process: &Process,
    world: &Shared,
    index: usize,
    asking: &Asking,
    got: &Got,
    before: &BTreeMap<i32, i64>,
) -> bool {
    let world = &mut *world.borrow_mut();
    let key = (asking.topic, got.partition);
    if !world.model.partitions.contains_key(&key) {
        return false; // Deleted meanwhile.
    }
    let (offset, _) = world.consumers[index].positions.get(&key).copied().unwrap_or((0, -1));
    let high_watermark = got.high_watermark;
    assert!(got.log_start <= high_watermark);
    let known = before.get(&got.partition).copied().unwrap_or(0);
    assert!(
        high_watermark >= known,
        "{}-{}: the high watermark went back to {high_watermark} from {known}",
        asking.name,
        got.partition
    );
    if got.diverging != (-1, -1) {
        let (_, end) = got.diverging;
        assert!(durability_of(asking.name) == Durability::Written, "{}: the log of a consumer diverges", asking.name);
        world.consumers[index].positions.insert(key, (end.min(offset), -1));
        return true;
    }
    world.model.on_high_watermark(key, high_watermark, process.runtime.now());
    let read = world.model.on_read(key, offset, high_watermark, &got.records);
    if let Some((_, last)) = read.last() {
        let epoch = world.model.epoch_of(&got.records);
        world.consumers[index].positions.insert(key, (last.last + 1, epoch));
    }
    true
}

/// A consumer stands where the log no longer, or not yet again, is.
fn check_may_be_gone(world: &Shared, name: &str, key: Key, offset: i64) {
    let world = world.borrow();
    let Some(partition) = world.model.partitions.get(&key) else { return };
    let may_shrink = partition.durability == Durability::Written || is_retained(name);
    assert!(may_shrink, "{name}-{}: offset {offset}, which a consumer reached, is out of range", key.1);
}
