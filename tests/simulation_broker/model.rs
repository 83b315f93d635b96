//! What must hold, told by what clients were told: which topics there are, which batch stands where, how safe it is.
//!
//! A partition is one sequence, so everything below an offset that was seen safe is safe. *Written* ends survive a crash of the
//! process; *durable* ends survive a power cut. What a recovery no longer has above them is lost, and forgotten here: were
//! it to come back, it would stand in the way of what took its offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use corelane::protocol::compression::{Codec, Scratch};
use corelane::protocol::record_batch::{BATCH_HEADER_BYTES, BatchHeader, BatchView, TimestampType, batches};
use corelane::simulation::Crash;
use corelane::types::{Durability, MonotonicUs, TopicId};

/// A partition of one life of a topic.
pub(crate) type Key = (TopicId, i32);

/// What is known of a topic name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Topic {
    /// There is none.
    Absent,
    /// It was told to exist.
    Alive(TopicId),
    /// A creation was asked for and not answered.
    MayAppear,
    /// A deletion was asked for and not answered.
    MayVanish(TopicId),
}

/// One batch that a producer sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) key: Key,
    pub(crate) bytes: Rc<Vec<u8>>,
    pub(crate) timestamps: Vec<i64>,
    /// Where it stands.
    at: Option<i64>,
}

/// One batch where a client saw it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) batch: u64,
    pub(crate) last: i64,
}

/// One partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) durability: Durability,
    /// The codec that all its batches get; `None`: they stay as they came.
    pub(crate) codec: Option<Codec>,
    seen: BTreeMap<i64, Seen>,
    pub(crate) written_end: i64,
    pub(crate) durable_end: i64,
    /// Greatest leader epoch told.
    pub(crate) epoch: i32,
    /// Greatest high watermark told in this life.
    pub(crate) high_watermark: i64,
    /// Ends that became visible in this life, and when that was known. Both rise.
    visible: Vec<(i64, MonotonicUs)>,
    pub(crate) may_lose_start: bool,
    /// Where somebody was told that the log starts.
    pub(crate) log_start: i64,
}

/// The configuration that is changed while topics are used.
pub(crate) const ALTERED: &str = "retention.bytes";

/// What recovery gave back of a partition.
pub(crate) struct Found {
    pub(crate) log_start: i64,
    pub(crate) log_end: i64,
    /// Base offset and batch, in order.
    pub(crate) batches: Vec<(i64, Seen)>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) topics: BTreeMap<String, Topic>,
    /// Topic ids that were told to be gone.
    pub(crate) dead: BTreeSet<TopicId>,
    pub(crate) partitions: BTreeMap<Key, Partition>,
    pub(crate) sent: BTreeMap<u64, Sent>,
    /// Batches by what no broker changes: the bytes after the header, decompressed.
    by_content: BTreeMap<(u32, usize), u64>,
    pub(crate) producer_ids: BTreeSet<i64>,
    /// Values of [`ALTERED`] that a topic may have: one, and those that were asked for and not answered.
    pub(crate) altered: BTreeMap<&'static str, Vec<String>>,
    pub(crate) acknowledged: u64,
    pub(crate) lost: u64,
}

/// The level that a topic of this name promises: names tell, so that a topic whose creation was not answered is known too.
pub(crate) fn durability_of(name: &str) -> Durability {
    if name.contains("written") { Durability::Written } else { Durability::Flushed }
}

/// The codec that batches get in a topic of this name.
pub(crate) fn codec_of(name: &str) -> Option<Codec> {
    name.contains("zstd").then_some(Codec::Zstd)
}

/// Whether retention may move the log start of a topic of this name.
pub(crate) fn is_retained(name: &str) -> bool {
    name.contains("retained")
}

impl Model {
    pub(crate) fn topic(&self, name: &str) -> Topic {
        self.topics.get(name).cloned().unwrap_or(Topic::Absent)
    }

    /// A topic exists for sure.
    pub(crate) fn on_topic(&mut self, name: &str, id: TopicId, partitions: usize) {
        assert!(!self.dead.contains(&id), "{name}: topic id {id} was deleted");
        self.topics.insert(name.to_owned(), Topic::Alive(id));
        for index in 0..i32::try_from(partitions).unwrap() {
            self.partitions.entry((id, index)).or_insert_with(|| Partition {
                durability: durability_of(name),
                codec: codec_of(name),
                seen: BTreeMap::new(),
                written_end: 0,
                durable_end: 0,
                epoch: -1,
                high_watermark: 0,
                visible: Vec::new(),
                may_lose_start: is_retained(name),
                log_start: 0,
            });
        }
    }

    /// A topic is gone for sure.
    pub(crate) fn on_deleted(&mut self, name: &str, id: TopicId) {
        self.topics.insert(name.to_owned(), Topic::Absent);
        self.dead.insert(id);
        self.partitions.retain(|(topic, _), _| *topic != id);
    }

    /// A batch is about to be sent.
    pub(crate) fn on_send(&mut self, batch: u64, key: Key, bytes: Rc<Vec<u8>>, timestamps: Vec<i64>) {
        let content = content_of(&BatchView::parse(&bytes).unwrap());
        assert!(self.by_content.insert(content, batch).is_none(), "two batches look the same to the test");
        self.sent.insert(batch, Sent { key, bytes, timestamps, at: None });
    }

    /// A batch was acknowledged at a level.
    pub(crate) fn on_acknowledged(&mut self, batch: u64, base: i64, level: Durability, now: MonotonicUs) {
        let sent = &self.sent[&batch];
        let key = sent.key;
        let last = base + i64::try_from(sent.timestamps.len()).unwrap() - 1;
        if !self.partitions.contains_key(&key) {
            return; // Deleted meanwhile.
        }
        self.acknowledged += 1;
        self.place(key, base, Seen { batch, last });
        let partition = self.partitions.get_mut(&key).unwrap();
        if level == Durability::Flushed {
            partition.durable_end = partition.durable_end.max(last + 1);
        }
        partition.written_end = partition.written_end.max(last + 1);
        if level == partition.durability {
            partition.on_visible(last + 1, now);
        }
    }

    /// A client was told how far it may read.
    pub(crate) fn on_high_watermark(&mut self, key: Key, high_watermark: i64, now: MonotonicUs) {
        let Some(partition) = self.partitions.get_mut(&key) else { return };
        partition.high_watermark = partition.high_watermark.max(high_watermark);
        partition.written_end = partition.written_end.max(high_watermark);
        if partition.durability == Durability::Flushed {
            partition.durable_end = partition.durable_end.max(high_watermark);
        }
        partition.on_visible(high_watermark, now);
    }

    /// Checks batches that a client read from `offset` on, below `high_watermark`, and notes where they stand. Gives the
    /// batches.
    pub(crate) fn on_read(&mut self, key: Key, offset: i64, high_watermark: i64, bytes: &[u8]) -> Vec<(i64, Seen)> {
        let mut read = Vec::new();
        let mut next = None;
        let mut epoch = -1;
        for batch in batches(bytes) {
            let batch = batch.unwrap_or_else(|error| panic!("{key:?} at {next:?}: {error}"));
            let header = batch.header;
            assert!(batch.crc_matches(), "{key:?} at {:?}: the batch is not what its CRC says", header.base_offset);
            let (base, last) = (header.base_offset.value(), header.last_offset().value());
            match next {
                None => assert!(base <= offset && offset <= last, "{key:?}: asked for {offset}, got {base}..={last}"),
                Some(next) => assert_eq!(base, next, "{key:?}: offsets are dense"),
            }
            assert!(last < high_watermark, "{key:?}: {last} was handed out beyond the high watermark {high_watermark}");
            assert!(header.leader_epoch.value() >= epoch, "{key:?}: the epoch falls at {base}");
            epoch = header.leader_epoch.value();
            next = Some(last + 1);
            let seen = Seen { batch: self.identify(key, &batch), last };
            read.push((base, seen));
            if self.partitions.contains_key(&key) {
                self.place(key, base, seen);
            }
        }
        if let (Some(end), Some(partition)) = (next, self.partitions.get_mut(&key)) {
            assert!(epoch <= partition.epoch, "{key:?}: epoch {epoch} is above {}", partition.epoch);
            partition.written_end = partition.written_end.max(end);
            if partition.durability == Durability::Flushed {
                partition.durable_end = partition.durable_end.max(end);
            }
        }
        read
    }

    /// Leader epoch of the last batch.
    pub(crate) fn epoch_of(&self, bytes: &[u8]) -> i32 {
        let last = batches(bytes).filter_map(Result::ok).last();
        last.map_or(-1, |batch| batch.header.leader_epoch.value())
    }

    /// Which batch it is: one that was sent to this very partition, unchanged but for what the broker stamps, and for the
    /// codec where the topic wants its own.
    fn identify(&self, key: Key, view: &BatchView<'_>) -> u64 {
        let header = &view.header;
        let at = header.base_offset;
        let batch = self
            .by_content
            .get(&content_of(view))
            .unwrap_or_else(|| panic!("{key:?}: nobody sent what stands at {at}"));
        let sent = &self.sent[batch];
        assert_eq!(sent.key, key, "batch {batch} was sent to {:?} and stands in {key:?} at {at}", sent.key);
        let was = BatchHeader::parse(sent.bytes.first_chunk().unwrap());
        let codec = self.partitions.get(&key).and_then(|partition| partition.codec).or(was.codec());
        assert_eq!(header.codec(), codec, "batch {batch} at {at}");
        if codec == was.codec() {
            assert_eq!(sent.bytes[BATCH_HEADER_BYTES..], *view.records(), "batch {batch} at {at}");
        }
        let of = |header: &BatchHeader| {
            (header.producer_id, header.producer_epoch, header.base_sequence, header.record_count)
        };
        assert_eq!(of(header), of(&was), "batch {batch} at {at}");
        if header.timestamp_type() == TimestampType::CreateTime {
            assert_eq!((header.base_timestamp, header.max_timestamp), (was.base_timestamp, was.max_timestamp));
        }
        *batch
    }

    /// A batch stands at an offset. It stands nowhere else, and nothing else stands there.
    fn place(&mut self, key: Key, base: i64, seen: Seen) {
        let Seen { batch, last } = seen;
        let sent = self.sent.get_mut(&batch).unwrap();
        if let Some(other) = sent.at {
            assert_eq!(other, base, "{key:?}: batch {batch} stands at {other} and again at {base}");
        }
        sent.at = Some(base);
        let partition = self.partitions.get_mut(&key).unwrap();
        if let Some(before) = partition.seen.insert(base, seen) {
            assert_eq!(before, seen, "{key:?}: another batch was seen at {base}");
            return;
        }
        let below = partition.seen.range(..base).next_back();
        assert!(
            below.is_none_or(|(_, below)| below.last < base),
            "{key:?}: batch {batch} at {base} lies over {below:?}"
        );
        let above = partition.seen.range(base + 1..).next();
        assert!(above.is_none_or(|(above, _)| *above > last), "{key:?}: batch {batch} at {base} lies over {above:?}");
    }

    /// A life ended, by a crash or in good order.
    pub(crate) fn on_end(&mut self, crash: Option<Crash>) {
        for partition in self.partitions.values_mut() {
            match crash {
                None => partition.durable_end = partition.written_end,
                Some(Crash::Power) => partition.written_end = partition.durable_end,
                Some(Crash::Process) => {}
            }
            partition.visible.clear();
            partition.high_watermark = 0;
        }
    }

    /// Takes in what a restart found, all of which is durable now.
    pub(crate) fn on_recovered(&mut self, key: Key, found: &Found) {
        let partition = self.partitions.get_mut(&key).expect("the audit told of it");
        let Found { log_start, log_end, batches } = found;
        assert!(*log_start == 0 || partition.may_lose_start, "{key:?}: the log starts at {log_start}");
        let deleted = partition.log_start;
        assert!(
            *log_start >= deleted,
            "{key:?}: the log starts at {log_start}, but what is below {deleted} was deleted"
        );
        let required = partition.written_end;
        assert!(*log_end >= required, "{key:?}: the log ends at {log_end}, but {required} was safe");
        let found: BTreeMap<i64, Seen> = batches.iter().copied().collect();
        for (base, seen) in partition.seen.range(..*log_end).filter(|(_, seen)| seen.last >= *log_start) {
            assert_eq!(found.get(base), Some(seen), "{key:?}: what stood at {base} has changed");
        }
        for (_, gone) in partition.seen.split_off(log_end) {
            self.sent.get_mut(&gone.batch).unwrap().at = None;
            self.lost += 1;
        }
        partition.written_end = *log_end;
        partition.durable_end = *log_end;
    }
}

impl Partition {
    fn on_visible(&mut self, end: i64, now: MonotonicUs) {
        if self.visible.last().is_none_or(|(known, _)| *known < end) {
            self.visible.push((end, now));
        }
    }

    /// Since when it was known that there is something to read at `offset`.
    pub(crate) fn visible_since(&self, offset: i64) -> Option<MonotonicUs> {
        let index = self.visible.partition_point(|(end, _)| *end <= offset);
        self.visible.get(index).map(|(_, at)| *at)
    }
}

fn content_of(view: &BatchView<'_>) -> (u32, usize) {
    let mut out = Vec::new();
    let records = view.decompressed(&mut Scratch::new(), &mut out, usize::MAX).expect("a batch that was sent");
    (crc32c::crc32c(records), records.len())
}
