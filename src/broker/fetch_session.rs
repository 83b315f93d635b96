//! Incremental fetch sessions (KIP-227) of one shard: what a consumer fetches, kept between its requests.
//!
//! Pure. A session is a list of partitions in fetch order and what the client was last told of each; an incremental
//! answer leaves out a partition of which there is nothing new. Follows Kafka's `FetchSession`, `FetchManager` and
//! `IncrementalFetchContext`. Sessions cost memory, so their number and their partitions are bounded; a client that gets
//! no session (id 0) sends full requests, which is always legal.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use crate::limits::{FETCH_SESSION_EVICTION_MS, FETCH_SESSION_PARTITIONS_MAX, FETCH_SESSIONS_MAX};
use crate::protocol::error_code::ErrorCode;
use crate::types::{MonotonicUs, TopicId};

/// How a fetch names a topic: by id from version 13 on, by name before.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum TopicRef {
    /// Version 13 and later.
    Id(TopicId),
    /// Version 12 and earlier.
    Name(Rc<str>),
}

/// One partition that a fetch asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FetchPartition {
    /// The topic.
    pub topic: TopicRef,
    /// Index within the topic.
    pub partition: i32,
    /// First offset wanted.
    pub fetch_offset: i64,
    /// The client's idea of the leader epoch, -1 for none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record the client has, -1 for none.
    pub last_fetched_epoch: i32,
    /// Most bytes of this partition.
    pub max_bytes: i32,
}

/// What an answer says of one partition, as far as a session looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// High watermark, -1 with an error.
    pub high_watermark: i64,
    /// Log start offset, -1 with an error.
    pub log_start_offset: i64,
    /// True when there are records, a diverging epoch, or anything else that the client must see.
    pub has_news: bool,
    /// True when there are records.
    pub has_records: bool,
    /// True for any error.
    pub has_error: bool,
}

/// Which kind of fetch this is, once its session was looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Context {
    Sessionless,
    Full,
    Incremental { id: i32 },
}

/// One fetch on its way: what to read, and how to answer.
#[derive(Debug)]
pub struct SessionFetch {
    context: Context,
    uses_ids: bool,
    /// What to read, in fetch order.
    pub partitions: Vec<FetchPartition>,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    uses_ids: bool,
    last_used: MonotonicUs,
    partitions: BTreeMap<u64, (FetchPartition, Cached)>,
    orders: HashMap<(TopicRef, i32), u64>,
    next_order: u64,
}

#[derive(Clone, Copy, Debug)]
struct Cached {
    high_watermark: i64,
    log_start_offset: i64,
}

impl Session {
    fn upsert(&mut self, partition: FetchPartition) {
        let key = (partition.topic.clone(), partition.partition);
        if let Some(order) = self.orders.get(&key) {
            self.partitions.get_mut(order).expect("both maps hold the same partitions").0 = partition;
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        self.orders.insert(key, order);
        self.partitions.insert(order, (partition, Cached { high_watermark: -1, log_start_offset: -1 }));
    }

    fn remove(&mut self, topic: &TopicRef, partition: i32) {
        if let Some(order) = self.orders.remove(&(topic.clone(), partition)) {
            self.partitions.remove(&order);
        }
    }

    fn move_to_end(&mut self, topic: &TopicRef, partition: i32) {
        let Some(order) = self.orders.get_mut(&(topic.clone(), partition)) else { return };
        let entry = self.partitions.remove(order).expect("both maps hold the same partitions");
        *order = self.next_order;
        self.next_order += 1;
        self.partitions.insert(*order, entry);
    }
}

/// All sessions of one shard.
#[derive(Debug)]
pub struct FetchSessions {
    sessions: HashMap<i32, Session>,
    sessions_max: usize,
    partition_count: usize,
}

/// Kafka's final epoch: closes the session.
const EPOCH_FINAL: i32 = -1;
/// Kafka's initial epoch: a full request that may open a session.
const EPOCH_INITIAL: i32 = 0;

impl Default for FetchSessions {
    fn default() -> Self {
        FetchSessions::new(FETCH_SESSIONS_MAX)
    }
}

impl FetchSessions {
    /// No session yet, and at most `sessions_max` later.
    pub fn new(sessions_max: usize) -> FetchSessions {
        FetchSessions { sessions: HashMap::new(), sessions_max, partition_count: 0 }
    }

    /// Number of sessions kept.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// True when no session is kept.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Takes in a request: finds out what it wants to read.
    ///
    /// Errors, for the whole answer: FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH, FETCH_SESSION_TOPIC_ID_ERROR.
    pub fn begin(
        &mut self,
        session_id: i32,
        session_epoch: i32,
        uses_ids: bool,
        partitions: Vec<FetchPartition>,
        forgotten: impl IntoIterator<Item = (TopicRef, i32)>,
        now: MonotonicUs,
    ) -> Result<SessionFetch, ErrorCode> {
        if session_epoch == EPOCH_INITIAL || session_epoch == EPOCH_FINAL {
            if session_id != 0 {
                self.close(session_id);
            }
            let context = if session_epoch == EPOCH_FINAL { Context::Sessionless } else { Context::Full };
            return Ok(SessionFetch { context, uses_ids, partitions: once_each(partitions) });
        }
        let session = self.sessions.get_mut(&session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.uses_ids != uses_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if session.epoch != session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        let before = session.partitions.len();
        for (topic, partition) in forgotten {
            session.remove(&topic, partition);
        }
        for partition in partitions {
            session.upsert(partition);
        }
        session.last_used = now;
        session.epoch = next_epoch(session.epoch);
        let after = session.partitions.len();
        let wanted = session.partitions.values().map(|(partition, _)| partition.clone()).collect();
        self.partition_count = self.partition_count + after - before;
        if after == 0 {
            self.close(session_id);
            return Ok(SessionFetch { context: Context::Sessionless, uses_ids, partitions: Vec::new() });
        }
        Ok(SessionFetch { context: Context::Incremental { id: session_id }, uses_ids, partitions: wanted })
    }

    /// Decides what the answer holds. `told[i]` belongs to `fetch.partitions[i]`. Gives the session id for the answer and,
    /// for every partition, whether it goes in. `random` is asked for the id of a new session.
    pub fn finish(
        &mut self,
        fetch: &SessionFetch,
        told: &[Told],
        now: MonotonicUs,
        random: impl FnMut() -> u64,
    ) -> (i32, Vec<bool>) {
        assert!(told.len() == fetch.partitions.len());
        match fetch.context {
            Context::Sessionless => (0, vec![true; told.len()]),
            Context::Full => (self.open(fetch, told, now, random), vec![true; told.len()]),
            Context::Incremental { id } => (id, self.update(id, fetch, told)),
        }
    }

    fn open(&mut self, fetch: &SessionFetch, told: &[Told], now: MonotonicUs, mut random: impl FnMut() -> u64) -> i32 {
        let wanted = fetch.partitions.len();
        if wanted == 0 || self.partition_count + wanted > FETCH_SESSION_PARTITIONS_MAX {
            return 0;
        }
        if self.sessions.len() >= self.sessions_max && !self.evict_one(now) {
            return 0;
        }
        let id = loop {
            let bytes = random().to_le_bytes();
            let id = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & i32::MAX;
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            epoch: next_epoch(EPOCH_INITIAL),
            uses_ids: fetch.uses_ids,
            last_used: now,
            partitions: BTreeMap::new(),
            orders: HashMap::new(),
            next_order: 0,
        };
        for (partition, told) in fetch.partitions.iter().zip(told) {
            session.upsert(partition.clone());
            let key = (partition.topic.clone(), partition.partition);
            let cached = &mut session.partitions.get_mut(&session.orders[&key]).expect("just inserted").1;
            remember(cached, told);
        }
        self.partition_count += session.partitions.len();
        self.sessions.insert(id, session);
        id
    }

    fn update(&mut self, id: i32, fetch: &SessionFetch, told: &[Told]) -> Vec<bool> {
        let Some(session) = self.sessions.get_mut(&id) else { return vec![true; told.len()] };
        let mut included = Vec::with_capacity(told.len());
        for (partition, told) in fetch.partitions.iter().zip(told) {
            let key = (partition.topic.clone(), partition.partition);
            let Some((_, cached)) = session.orders.get(&key).and_then(|order| session.partitions.get_mut(order)) else {
                included.push(true);
                continue;
            };
            let changed =
                cached.high_watermark != told.high_watermark || cached.log_start_offset != told.log_start_offset;
            included.push(told.has_news || told.has_records || told.has_error || changed);
            remember(cached, told);
            // Partitions that had data go to the end, or a big one would starve those behind it.
            if told.has_records {
                session.move_to_end(&partition.topic, partition.partition);
            }
        }
        included
    }

    fn close(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partition_count -= session.partitions.len();
        }
    }

    fn evict_one(&mut self, now: MonotonicUs) -> bool {
        let Some((&id, session)) = self.sessions.iter().min_by_key(|(id, session)| (session.last_used, **id)) else {
            return false;
        };
        if now.since_us(session.last_used) < FETCH_SESSION_EVICTION_MS * 1000 {
            return false;
        }
        self.close(id);
        true
    }
}

/// Each partition once, where it was named first and as it was named last: Kafka's `FetchRequest.fetchData` is a map in order
/// of insertion. A request of 2 MB can name one partition a hundred thousand times, and wait with all of them.
fn once_each(mut partitions: Vec<FetchPartition>) -> Vec<FetchPartition> {
    if are_all_different(&partitions) {
        return partitions;
    }
    let mut last: HashMap<(TopicRef, i32), FetchPartition> = HashMap::new();
    for partition in &partitions {
        last.insert((partition.topic.clone(), partition.partition), partition.clone());
    }
    partitions = partitions.into_iter().filter_map(|named| last.remove(&(named.topic, named.partition))).collect();
    partitions.shrink_to_fit();
    partitions
}

/// True when no partition is named twice. What clients send is mostly seen to be so at a glance.
fn are_all_different(partitions: &[FetchPartition]) -> bool {
    const PAIRWISE_MAX: usize = 16;
    let are_same =
        |one: &FetchPartition, other: &FetchPartition| one.partition == other.partition && one.topic == other.topic;
    if partitions.len() <= PAIRWISE_MAX {
        let mut others = partitions;
        while let Some((one, rest)) = others.split_first() {
            if rest.iter().any(|other| are_same(one, other)) {
                return false;
            }
            others = rest;
        }
        return true;
    }
    let is_ascending =
        |pair: &[FetchPartition]| pair[0].partition < pair[1].partition && pair[0].topic == pair[1].topic;
    if partitions.windows(2).all(is_ascending) {
        return true;
    }
    let mut seen = HashSet::with_capacity(partitions.len());
    partitions.iter().all(|partition| seen.insert((&partition.topic, partition.partition)))
}

fn remember(cached: &mut Cached, told: &Told) {
    // After an error the next good answer must be sent even when it equals the last good one.
    cached.high_watermark = if told.has_error { -1 } else { told.high_watermark };
    cached.log_start_offset = told.log_start_offset;
}

/// Kafka's `FetchMetadata.nextEpoch`: the largest value is followed by 1, since 0 opens a session.
fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicUs = MonotonicUs::new(1_000_000);

    fn partition(index: i32) -> FetchPartition {
        FetchPartition {
            topic: TopicRef::Name("t".into()),
            partition: index,
            fetch_offset: 0,
            current_leader_epoch: -1,
            last_fetched_epoch: -1,
            max_bytes: 1024,
        }
    }

    #[test]
    fn a_partition_named_twice_is_fetched_once_as_it_was_named_last() {
        let mut sessions = FetchSessions::default();
        for count in [3, 40] {
            let others = (0..count).rev().map(partition);
            let again = FetchPartition { fetch_offset: 7, max_bytes: 1, ..partition(1) };
            let named: Vec<FetchPartition> = others.clone().chain([again.clone(), partition(count)]).collect();
            for epoch in [0, -1] {
                let fetch = sessions.begin(0, epoch, false, named.clone(), [], NOW).unwrap();
                let expected = others.clone().map(|one| if one.partition == 1 { again.clone() } else { one });
                assert_eq!(fetch.partitions, expected.chain([partition(count)]).collect::<Vec<_>>());
            }
            // The same index in another topic is another partition.
            let elsewhere = FetchPartition { topic: TopicRef::Name("u".into()), ..partition(1) };
            let different: Vec<FetchPartition> = others.clone().chain([elsewhere]).collect();
            assert_eq!(sessions.begin(0, 0, false, different.clone(), [], NOW).unwrap().partitions, different);
        }
        let many = vec![partition(3); 100_000];
        let fetch = sessions.begin(0, 0, false, many, [], NOW).unwrap();
        assert_eq!(fetch.partitions, [partition(3)]);
        assert!(fetch.partitions.capacity() < 100);
    }

    fn told(high_watermark: i64, has_records: bool) -> Told {
        Told { high_watermark, log_start_offset: 0, has_news: false, has_records, has_error: false }
    }

    fn open(sessions: &mut FetchSessions, count: i32) -> i32 {
        let fetch = sessions.begin(0, 0, false, (0..count).map(partition).collect(), [], NOW).unwrap();
        let told = vec![told(0, false); usize::try_from(count).unwrap()];
        let mut next = 0;
        let (id, included) = sessions.finish(&fetch, &told, NOW, || {
            next += 1;
            next
        });
        assert!(included.iter().all(|included| *included));
        id
    }

    #[test]
    fn incremental_answer_leaves_out_what_did_not_change() {
        let mut sessions = FetchSessions::default();
        let id = open(&mut sessions, 3);
        assert_ne!(id, 0);
        let fetch = sessions.begin(id, 1, false, vec![], [], NOW).unwrap();
        assert_eq!(fetch.partitions.len(), 3);
        let (_, included) = sessions.finish(&fetch, &[told(0, false), told(5, true), told(0, false)], NOW, || 0);
        assert_eq!(included, [false, true, false]);
        // The partition that had data is asked last next time.
        let fetch = sessions.begin(id, 2, false, vec![], [], NOW).unwrap();
        let order: Vec<i32> = fetch.partitions.iter().map(|partition| partition.partition).collect();
        assert_eq!(order, [0, 2, 1]);
    }

    #[test]
    fn an_error_is_followed_by_an_answer_even_without_change() {
        let mut sessions = FetchSessions::default();
        let id = open(&mut sessions, 1);
        let fetch = sessions.begin(id, 1, false, vec![], [], NOW).unwrap();
        let error =
            Told { high_watermark: -1, log_start_offset: -1, has_news: false, has_records: false, has_error: true };
        assert_eq!(sessions.finish(&fetch, &[error], NOW, || 0).1, [true]);
        let fetch = sessions.begin(id, 2, false, vec![], [], NOW).unwrap();
        assert_eq!(sessions.finish(&fetch, &[told(0, false)], NOW, || 0).1, [true]);
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused() {
        let mut sessions = FetchSessions::default();
        let id = open(&mut sessions, 1);
        let begin = |sessions: &mut FetchSessions, id, epoch, ids| {
            sessions.begin(id, epoch, ids, vec![], [], NOW).map(|_| ()).unwrap_err()
        };
        assert_eq!(begin(&mut sessions, id + 1, 1, false), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(begin(&mut sessions, id, 2, false), ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(begin(&mut sessions, id, 1, true), ErrorCode::FetchSessionTopicIdError);
    }

    #[test]
    fn forgetting_everything_closes_the_session() {
        let mut sessions = FetchSessions::default();
        let id = open(&mut sessions, 1);
        let fetch = sessions.begin(id, 1, false, vec![], [(TopicRef::Name("t".into()), 0)], NOW).unwrap();
        assert!(fetch.partitions.is_empty());
        assert!(sessions.is_empty());
        assert_eq!(sessions.partition_count, 0);
    }

    #[test]
    fn a_full_cache_grants_no_session_until_one_is_old() {
        let mut sessions = FetchSessions::default();
        for i in 0..FETCH_SESSIONS_MAX {
            let fetch = sessions.begin(0, 0, false, vec![partition(0)], [], NOW).unwrap();
            let id = sessions.finish(&fetch, &[told(0, false)], NOW, || u64::try_from(i + 1).unwrap()).0;
            assert_ne!(id, 0);
        }
        let later = |sessions: &mut FetchSessions, now| {
            let fetch = sessions.begin(0, 0, false, vec![partition(0)], [], now).unwrap();
            sessions.finish(&fetch, &[told(0, false)], now, || 77_777).0
        };
        assert_eq!(later(&mut sessions, NOW), 0);
        assert_eq!(later(&mut sessions, NOW.plus_ms(FETCH_SESSION_EVICTION_MS)), 77_777);
        assert_eq!(sessions.len(), FETCH_SESSIONS_MAX);
    }

    #[test]
    fn epoch_wraps_to_one() {
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
