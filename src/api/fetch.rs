//! Fetch (1), versions 4 to 18: whole batches as they are stored, from the cache or the disk, without a copy.
//!
//! Short of `min_bytes` the request waits, never the data: it reads again when enough became visible. Sessions (version 7)
//! let an answer leave out what did not change; topic ids replace names from version 13 on. Without transactions the last
//! stable offset is the high watermark. Versions below 10 get zstd batches as they are, as from Kafka 4.1 (older ones refused
//! them on topics whose `compression.type` says zstd).

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::Request;
use super::reply::{Piece, Reply, Response};
use crate::broker::fetch_session::{FetchPartition, SessionFetch, Told, TopicRef};
use crate::broker::{Broker, ShuttingDown};
use crate::cluster::image::MetadataImage;
use crate::cluster::view::ClientView;
use crate::limits::{FETCH_BYTES_MAX, FETCH_CROWDED_WAIT_MS, REMOTE_WATCH_MS_MAX};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::response_frame;
use crate::protocol::messages::fetch::{
    EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use crate::protocol::wire::{Reader, Records};
use crate::runtime::Runtime;
use crate::shard::RecordSlice;
use crate::shard::answers::AnswerHold;
use crate::shard::message::{ReadLimits, ReadOutcome, ReadPart, ReadPartition};
use crate::types::{MonotonicUs, PartitionIndex, TopicId};

/// Version from which topics are named by id.
const TOPIC_IDS_SINCE: i16 = 13;
/// Version from which a fenced client is told who leads.
const LEADER_HINTS_SINCE: i16 = 16;

/// What does not change while a fetch waits.
struct Wanted {
    version: i16,
    min_bytes: i64,
    bytes_max: u32,
    deadline: MonotonicUs,
    read_committed: bool,
}

/// Outcomes in the order of the session's partitions.
type Outcomes<R> = Vec<ReadOutcome<RecordSlice<R>>>;

/// What was read, and the memory that it holds.
struct Read<R: Runtime> {
    outcomes: Outcomes<R>,
    hold: AnswerHold,
}

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = FetchRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let now = broker.shard.runtime.now();
    let uses_ids = request.version >= TOPIC_IDS_SINCE;
    let forgotten = message.forgotten_topics_data.iter().flat_map(|topic| {
        let name = topic_ref(uses_ids, &topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |partition| (name.clone(), *partition))
    });
    let begun = broker.sessions.borrow_mut().begin(
        message.session_id,
        message.session_epoch,
        uses_ids,
        partitions(&message, uses_ids),
        forgotten,
        now,
    );
    let fetch = match begun {
        Ok(fetch) => fetch,
        Err(error) => {
            let message = FetchResponse { error_code: error.code(), ..FetchResponse::default() };
            return Reply::Now(request.respond(&message));
        }
    };
    let wanted = Wanted {
        version: request.version,
        min_bytes: i64::from(message.min_bytes),
        bytes_max: u32::try_from(message.max_bytes)
            .unwrap_or(0)
            .min(broker.shard.config.fetch_max_bytes)
            .min(FETCH_BYTES_MAX),
        deadline: now.plus_ms(u64::try_from(message.max_wait_ms).unwrap_or(0)),
        read_committed: message.isolation_level == 1,
    };
    let correlation_id = request.correlation_id;
    let broker = Rc::clone(broker);
    // The request has been applied: its memory is free while it waits, and all of it goes when the peer does.
    Reply::Later(Box::pin(async move {
        match read_or_wait(&broker, &fetch, &wanted).await {
            Ok(read) => Some(answer(&broker, correlation_id, &fetch, &wanted, read)),
            Err(ShuttingDown) => None,
        }
    }))
}

fn topic_ref(uses_ids: bool, name: &str, id: TopicId) -> TopicRef {
    if uses_ids { TopicRef::Id(id) } else { TopicRef::Name(name.into()) }
}

fn partitions(message: &FetchRequest<'_>, uses_ids: bool) -> Vec<FetchPartition> {
    let mut partitions = Vec::new();
    for topic in &message.topics {
        let name = topic_ref(uses_ids, &topic.topic, topic.topic_id);
        partitions.extend(topic.partitions.iter().map(|partition| FetchPartition {
            topic: name.clone(),
            partition: partition.partition,
            fetch_offset: partition.fetch_offset,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            max_bytes: partition.partition_max_bytes,
        }));
    }
    partitions
}

/// Reads until there is enough, something else to tell, or no time left.
async fn read_or_wait<R: Runtime>(
    broker: &Rc<Broker<R>>,
    fetch: &SessionFetch,
    wanted: &Wanted,
) -> Result<Read<R>, ShuttingDown> {
    let mut is_last = false;
    loop {
        let read = read(broker, fetch, wanted).await?;
        let outcomes = &read.outcomes;
        let bytes: i64 = outcomes.iter().map(|outcome| i64::from(outcome.bytes)).sum();
        let has_more_to_tell =
            outcomes.iter().any(|outcome| outcome.error != ErrorCode::None || outcome.diverging.is_some());
        let now = broker.shard.runtime.now();
        let is_late = is_last || now >= wanted.deadline;
        // More than half of what there was room for is as much as whole batches may come to.
        let min_bytes = wanted.min_bytes.min(i64::try_from(read.hold.bytes_max() / 2).unwrap_or(i64::MAX));
        if bytes >= min_bytes || has_more_to_tell || is_late || outcomes.is_empty() {
            return Ok(read);
        }
        let seen: Vec<i64> = outcomes.iter().map(|outcome| outcome.high_watermark).collect();
        // The request waits, never the data.
        drop(read);
        if broker.shard.is_waiting_room_full() {
            let wait_us = wanted.deadline.since_us(now).min(FETCH_CROWDED_WAIT_MS * 1000);
            broker.shard.runtime.sleep(Duration::from_micros(wait_us)).await;
            is_last = true;
            continue;
        }
        wait_for_news(broker, fetch, wanted, &seen, min_bytes - bytes).await?;
    }
}

/// Reads, with memory held for what comes from before it is read. Where others wait for memory, an answer that the log's tail
/// can give in a few KiB passes them.
async fn read<R: Runtime>(
    broker: &Rc<Broker<R>>,
    fetch: &SessionFetch,
    wanted: &Wanted,
) -> Result<Read<R>, ShuttingDown> {
    let answers = &broker.shard.answers;
    let of_partitions = fetch.partitions.iter().map(|partition| i64::from(partition.max_bytes.max(0))).sum::<i64>();
    let usual = usize::try_from(of_partitions.min(i64::from(wanted.bytes_max))).expect("within 32 bits");
    let mut needed = usual.min(answers.share_bytes());
    let mut hold = answers.try_share(needed).or_else(|| answers.try_small());
    loop {
        let held = match hold.take() {
            Some(hold) => hold,
            None => answers.room(needed).await,
        };
        let read = read_into(broker, fetch, wanted, held).await?;
        let first_needs = read.outcomes.iter().map(|outcome| outcome.needed_bytes).find(|bytes| *bytes > 0);
        let has_records = read.outcomes.iter().any(|outcome| outcome.bytes > 0);
        match first_needs {
            Some(bytes) if !has_records => {
                // Small room says nothing of what a share could hold.
                if !read.hold.is_small() {
                    needed = usize::try_from(bytes).expect("32 bits fit");
                }
            }
            _ => return Ok(read),
        }
    }
}

/// Reads once, within the room that is held.
async fn read_into<R: Runtime>(
    broker: &Rc<Broker<R>>,
    fetch: &SessionFetch,
    wanted: &Wanted,
    mut hold: AnswerHold,
) -> Result<Read<R>, ShuttingDown> {
    let image = broker.shard.image();
    let resolved = resolve_all(&image, fetch);
    let mut partitions = Vec::with_capacity(resolved.len());
    partitions.extend(fetch.partitions.iter().zip(&resolved).filter_map(|(partition, topic)| {
        topic.ok().map(|topic| ReadPartition {
            topic,
            partition: partition.partition,
            fetch_offset: partition.fetch_offset,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            bytes_max: u32::try_from(partition.max_bytes).unwrap_or(0),
        })
    }));
    let room = u32::try_from(hold.bytes_max()).unwrap_or(u32::MAX);
    let limits =
        ReadLimits { bytes_max: wanted.bytes_max.min(room), first_bytes_max: room, memory_only: hold.is_small() };
    let mut read = broker.read(&ReadPart { limits, partitions }).await?;
    let mut records: Vec<_> = read.iter_mut().map(|outcome| &mut outcome.records).collect();
    hold.settle(&mut records);
    if resolved.iter().all(Result::is_ok) {
        return Ok(Read { outcomes: read, hold });
    }
    let mut read = read.into_iter();
    let outcomes = resolved.into_iter().map(|topic| match topic {
        Ok(_) => read.next().expect("one outcome for every partition"),
        Err(error) => ReadOutcome::failed(error),
    });
    Ok(Read { outcomes: outcomes.collect(), hold })
}

/// The topics of all partitions. Those of one topic stand together, so most are the one before.
fn resolve_all(image: &MetadataImage, fetch: &SessionFetch) -> Vec<Result<TopicId, ErrorCode>> {
    let mut last: Option<(&TopicRef, Result<TopicId, ErrorCode>)> = None;
    let resolved = fetch.partitions.iter().map(|partition| match last {
        Some((topic, resolved)) if *topic == partition.topic => resolved,
        _ => last.insert((&partition.topic, resolve(image, &partition.topic))).1,
    });
    resolved.collect()
}

fn resolve(image: &MetadataImage, topic: &TopicRef) -> Result<TopicId, ErrorCode> {
    match topic {
        TopicRef::Id(id) => image.topic_by_id(*id).map(|topic| topic.id()).ok_or(ErrorCode::UnknownTopicId),
        TopicRef::Name(name) => image.topic(name).map(|topic| topic.id()).ok_or(ErrorCode::UnknownTopicOrPartition),
    }
}

/// Waits until `needed_bytes` more may have become visible than the high watermarks `seen`, or the time is over.
async fn wait_for_news<R: Runtime>(
    broker: &Rc<Broker<R>>,
    fetch: &SessionFetch,
    wanted: &Wanted,
    seen: &[i64],
    needed_bytes: i64,
) -> Result<(), ShuttingDown> {
    let image = broker.shard.image();
    let keys: Vec<(TopicId, i32)> = resolve_all(&image, fetch)
        .into_iter()
        .zip(&fetch.partitions)
        .filter_map(|(topic, partition)| Some((topic.ok()?, partition.partition)))
        .collect();
    let here = broker.shard.watch(needed_bytes, wanted.deadline, &keys);
    // What became visible between the read and this line woke nobody. Every partition read had no error, so that keys
    // and what was seen pair up.
    let moved = keys.iter().zip(seen).any(|((topic, partition), seen)| {
        let partition = broker.shard.partition(*topic, *partition);
        partition.is_some_and(|partition| partition.state().offsets.high_watermark().value() > *seen)
    });
    if moved {
        return Ok(());
    }
    let rest_ms = wanted.deadline.since_us(broker.shard.runtime.now()) / 1000 + 1;
    let seen = keys.iter().zip(seen).map(|((topic, partition), seen)| (*topic, *partition, *seen));
    let siblings = broker.watch_siblings(needed_bytes, rest_ms.min(REMOTE_WATCH_MS_MAX), seen.collect()).await?;
    #[cfg(corelane_defect = "sibling_not_watched")]
    let siblings = siblings.into_iter().take(0).collect::<Vec<_>>();
    let mut here = pin!(here.satisfied());
    if siblings.is_empty() {
        here.await;
        return Ok(());
    }
    let mut siblings: Vec<Pin<Box<dyn Future<Output = Option<()>>>>> =
        siblings.into_iter().map(|receiver| Box::pin(receiver.receive()) as Pin<Box<_>>).collect();
    std::future::poll_fn(|cx| {
        if here.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        for sibling in &mut siblings {
            if let Poll::Ready(answer) = sibling.as_mut().poll(cx) {
                return Poll::Ready(answer.ok_or(ShuttingDown));
            }
        }
        Poll::Pending
    })
    .await
}

/// Builds the frame: the records are holes in it, filled by slices of the log when it is sent.
fn answer<R: Runtime>(
    broker: &Rc<Broker<R>>,
    correlation_id: i32,
    fetch: &SessionFetch,
    wanted: &Wanted,
    Read { outcomes, hold }: Read<R>,
) -> Response<R::Buffer> {
    let shard = &broker.shard;
    let told: Vec<Told> = outcomes.iter().map(tell).collect();
    let (session_id, included) =
        broker.sessions.borrow_mut().finish(fetch, &told, shard.runtime.now(), || shard.runtime.random());
    let image = shard.image();
    let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
    let mut slices = Vec::new();
    let mut hints = Vec::new();
    let rows = fetch.partitions.iter().zip(outcomes).zip(included);
    for ((partition, outcome), _) in rows.filter(|(_, included)| *included) {
        let mut data = partition_data(partition.partition, &outcome, wanted.read_committed);
        if outcome.error == ErrorCode::FencedLeaderEpoch && wanted.version >= LEADER_HINTS_SINCE {
            hint(&broker.view(&image), partition, &mut data, &mut hints);
        }
        if outcome.bytes > 0 {
            slices.push(outcome.records);
        }
        match responses.last_mut() {
            Some(last) if is_topic(last, &partition.topic) => last.partitions.push(data),
            _ => responses.push(topic_response(&partition.topic, data)),
        }
    }
    let message = FetchResponse { session_id, responses, node_endpoints: hints, ..FetchResponse::default() };
    let writer = response_frame(correlation_id, wanted.version, &message);
    assert!(writer.holes.len() == slices.len());
    let pieces = writer.holes.iter().zip(slices).flat_map(|(hole, slices)| {
        let at = hole.at;
        slices.into_iter().map(move |slice| Piece { at, slice })
    });
    let pieces: Vec<Piece<R::Buffer>> = pieces.collect();
    Response { pieces, bytes: writer.bytes, hold: Some(hold) }
}

fn tell<S>(outcome: &ReadOutcome<S>) -> Told {
    Told {
        high_watermark: outcome.high_watermark,
        log_start_offset: outcome.log_start_offset,
        has_news: outcome.diverging.is_some(),
        has_records: outcome.bytes > 0,
        has_error: outcome.error != ErrorCode::None,
    }
}

fn partition_data<S>(index: i32, outcome: &ReadOutcome<S>, read_committed: bool) -> PartitionData<'static> {
    let diverging = outcome.diverging.map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset });
    PartitionData {
        partition_index: index,
        error_code: outcome.error.code(),
        high_watermark: outcome.high_watermark,
        last_stable_offset: outcome.last_stable_offset,
        log_start_offset: outcome.log_start_offset,
        diverging_epoch: diverging.unwrap_or_default(),
        aborted_transactions: read_committed.then(Vec::new),
        records: if outcome.bytes > 0 { Records::Hole(outcome.bytes) } else { Records::Bytes(&[]) },
        ..PartitionData::default()
    }
}

/// Tells a fenced client who leads, and where (KIP-951).
fn hint<'a>(
    view: &ClientView<'a>,
    partition: &FetchPartition,
    data: &mut PartitionData<'_>,
    hints: &mut Vec<NodeEndpoint<'a>>,
) {
    let Ok(topic) = resolve(view.image, &partition.topic) else { return };
    let index = PartitionIndex::new(partition.partition);
    let Some(found) = view.image.topic_by_id(topic).and_then(|topic| topic.partition(index)) else { return };
    let Some((node, endpoint)) = view.leader(found) else { return };
    let leader_id = node.node().value();
    data.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch: found.leader_epoch.value() };
    if hints.iter().all(|hint| hint.node_id != leader_id) {
        hints.push(NodeEndpoint {
            node_id: leader_id,
            host: (&*endpoint.host).into(),
            port: i32::from(endpoint.port),
            rack: node.rack().map(Into::into),
        });
    }
}

fn is_topic(response: &FetchableTopicResponse<'_>, topic: &TopicRef) -> bool {
    match topic {
        TopicRef::Id(id) => response.topic_id == *id,
        TopicRef::Name(name) => *response.topic == **name,
    }
}

fn topic_response<'a>(topic: &'a TopicRef, first: PartitionData<'a>) -> FetchableTopicResponse<'a> {
    let (name, topic_id) = match topic {
        TopicRef::Id(id) => ("", *id),
        TopicRef::Name(name) => (&**name, TopicId::ZERO),
    };
    FetchableTopicResponse { topic: name.into(), topic_id, partitions: vec![first] }
}
