//! Recovery of directories that disks, administrators and broken programs may leave behind.
//!
//! A store is written in simulation over several lives with crashes, checkpoints, deletions and recycled segments; every
//! batch ever appended is remembered. Then its files are damaged: bits, lengths, whole files swapped, doubled, taken away
//! or put back as they were in an earlier life. *Forged* damage has its checksums repaired, as no disk would do it.
//!
//! Opening ends in a store or in an error that says something, within bounded steps and memory. What a store then gives is
//! only what was once appended at that offset of that log, densely, up to its end or to an error.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::compression::Codec;
use corelane::protocol::record_batch::{BATCH_HEADER_BYTES, BatchBuilder, BatchHeader, batches, stamp};
use corelane::runtime::Runtime;
use corelane::shard::partition::Partition;
use corelane::shard::recovery::Recovered;
use corelane::simulation::disk::Disk;
use corelane::simulation::{Crash, SimulatedRuntime, Simulation};
use corelane::store::{Batch, OpenError, Owner, ReadError, StorageError, Store, StoreOptions};
use corelane::types::{
    Durability, LeaderEpoch, LogId, LogPosition, Offset, PartitionIndex, ProducerEpoch, ProducerId, Sequence, ShardId,
    TimestampMs, TopicId,
};

use crate::fuzz;
use crate::memory::Peak;
use crate::random::{Random, mutate};

const SHARD: ShardId = ShardId::new(3);
const DIRECTORY: &str = "/data/shard-3";
const SEGMENT_BYTES: u32 = 64 * 1024;
/// Greatest size of a batch here, so that a few make a segment.
const BATCH_BYTES_MAX: usize = 6000;
/// Memory that opening may hold: the files once as checkpoints and once as scans read them, and what they decode to.
const OPEN_BYTES_MAX: usize = 24 * 1024 * 1024;

#[test]
fn damaged_directories_open_truly_or_not_at_all() {
    fuzz("recovery", 40, |random| recovery(random, false));
}

#[test]
fn forged_directories_do_no_harm() {
    fuzz("forged recovery", 40, |random| recovery(random, true));
}

fn recovery(random: &mut Random, forged: bool) {
    let written = write(random);
    for _ in 0..4 {
        let disk = written.disk.fork();
        for _ in 0..1 + random.below(4) {
            if forged && random.one_in(2) {
                forge(random, &disk);
            } else {
                damage(random, &disk, &written.earlier);
            }
        }
        let seed = random.next();
        let accept_loss = random.one_in(2);
        let check = Check { history: Rc::clone(&written.history), forged, accept_loss, may_have_gaps: accept_loss };
        if let Some(ends) = open(&disk, seed, &check) {
            // What was cut off stays cut off, and nothing that was kept is lost.
            let again = open(&disk, seed + 1, &Check { accept_loss: forged && accept_loss, ..check });
            if !forged {
                let again = again.unwrap_or_else(|| panic!("the second opening fails after ends {ends:?}"));
                assert!(ends.iter().all(|(log, end)| again.get(log) >= Some(end)), "{ends:?} then {again:?}");
            }
        }
    }
}

/// Every batch ever appended, by log and base offset: after a crash an offset may be given again.
type History = Rc<RefCell<HashMap<LogId, BTreeMap<i64, Vec<Vec<u8>>>>>>;

/// The files of a directory at some moment.
type Files = BTreeMap<PathBuf, Vec<u8>>;

struct Written {
    disk: Disk,
    history: History,
    /// The files at the end of each life before the last.
    earlier: Vec<Files>,
}

/// Writes a store over some lives.
fn write(random: &mut Random) -> Written {
    let history = History::default();
    let mut simulation = Simulation::new(random.next());
    let mut earlier = Vec::new();
    for life in 0..1 + random.below(3) {
        let mut random = Random::new(random.next());
        let options = StoreOptions {
            budget_bytes: [14, 64][random.below(2)] * u64::from(SEGMENT_BYTES),
            checkpoint_interval_ms: [2, 20, 10_000][random.below(3)],
            ..options()
        };
        if life > 0 {
            earlier.push(files(&simulation.disk()));
        }
        let history = Rc::clone(&history);
        simulation.run(move |runtime| async move {
            let mut recovered = Recovered::default();
            let store = Store::open(runtime.clone(), options, &mut recovered).await.expect("no damage yet");
            let keeper = Keeper::new(&store, recovered);
            live(&runtime, &keeper, &mut random, &history).await;
        });
    }
    Written { disk: simulation.disk(), history, earlier }
}

/// One life: batches, deletions, log starts; then a clean end, a kill or a power cut.
async fn live(runtime: &SimulatedRuntime, keeper: &Rc<Keeper>, random: &mut Random, history: &History) {
    let mut end = LogPosition::default();
    for _ in 0..random.below(160) {
        let logs = keeper.logs();
        let acted = match random.below(40) {
            _ if logs.len() < 2 => keeper.create(random),
            0 if logs.len() < 6 => keeper.create(random),
            1 if logs.len() > 3 => keeper.delete(logs[random.below(logs.len())]),
            2..=4 => keeper.move_log_start(logs[random.below(logs.len())], random),
            5 => {
                runtime.sleep(Duration::from_micros(u64::try_from(random.below(8000)).unwrap())).await;
                continue;
            }
            _ => {
                let _ = keeper.store.reserve(BATCH_BYTES_MAX).await;
                keeper.append(logs[random.below(logs.len())], random, history)
            }
        };
        match acted {
            Ok(position) => end = end.max(position),
            Err(StorageError::Full { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    if random.one_in(2) {
        while keeper.store.progress().durable < end {
            runtime.sleep(Duration::from_micros(100)).await;
        }
    }
    match random.below(3) {
        0 => keeper.store.close().await.expect("no faults"),
        1 => runtime.crash(Crash::Process),
        _ => runtime.crash(Crash::Power),
    }
    runtime.sleep(Duration::from_millis(1)).await;
}

/// A shard as the store knows it: partitions by log.
struct Keeper {
    store: Store<SimulatedRuntime>,
    partitions: RefCell<HashMap<LogId, Partition>>,
}

impl Keeper {
    fn new(store: &Store<SimulatedRuntime>, recovered: Recovered) -> Rc<Keeper> {
        let partitions = recovered.into_partitions().map(|partition| (partition.log, partition)).collect();
        let keeper = Rc::new(Keeper { store: store.clone(), partitions: RefCell::new(partitions) });
        store.set_owner(Rc::clone(&keeper) as Rc<dyn Owner>);
        keeper
    }

    fn logs(&self) -> Vec<LogId> {
        self.store.partitions().iter().map(|partition| partition.log).collect()
    }

    fn create(&self, random: &mut Random) -> Result<LogPosition, StorageError> {
        let topic = TopicId::new([random.bytes(1)[0]; 16]);
        let (log, end) = self.store.create(topic, PartitionIndex::new(0))?;
        self.partitions.borrow_mut().insert(log, Partition::new(log, topic, PartitionIndex::new(0)));
        Ok(end)
    }

    fn delete(&self, log: LogId) -> Result<LogPosition, StorageError> {
        self.partitions.borrow_mut().remove(&log);
        self.store.delete(log)
    }

    fn move_log_start(&self, log: LogId, random: &mut Random) -> Result<LogPosition, StorageError> {
        let partitions = self.partitions.borrow();
        let mut state = partitions[&log].state_mut();
        let (start, end) = (state.offsets.log_start().value(), state.offsets.log_end().value());
        let further = i64::try_from(random.below(usize::try_from(end - start).unwrap() + 1)).unwrap();
        let log_start = Offset::new(start + further);
        let position = self.store.set_log_start(log, log_start)?;
        state.advance_log_start(log_start);
        Ok(position)
    }

    fn append(&self, log: LogId, random: &mut Random, history: &History) -> Result<LogPosition, StorageError> {
        let mut bytes = batch(random);
        let partitions = self.partitions.borrow();
        let mut state = partitions[&log].state_mut();
        let base_offset = state.offsets.log_end();
        let header: &mut [u8; BATCH_HEADER_BYTES] = bytes.first_chunk_mut().expect("a whole batch");
        stamp(header, base_offset, LeaderEpoch::new(0));
        let fields = BatchHeader::parse(header);
        let entry = Batch {
            header: bytes.first_chunk().expect("a whole batch"),
            records: &bytes[BATCH_HEADER_BYTES..],
            base_offset,
            last_offset: fields.last_offset(),
            timestamp_max: fields.max_timestamp,
        };
        let durability = if random.one_in(3) { Durability::Written } else { Durability::Flushed };
        let end = self.store.append(log, entry, durability)?;
        state.replay(entry.header);
        history.borrow_mut().entry(log).or_default().entry(base_offset.value()).or_default().push(bytes);
        Ok(end)
    }
}

impl Owner for Keeper {
    fn on_progress(&self) {}

    fn snapshot(&self, log: LogId, out: &mut Vec<u8>) {
        self.partitions.borrow()[&log].snapshot(out);
    }
}

fn batch(random: &mut Random) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    let records = 1 + random.below(3);
    for _ in 0..records {
        let value = random.compressible(BATCH_BYTES_MAX / 4);
        let time = 1_700_000_000_000 + i64::try_from(random.below(1000)).unwrap();
        builder.append(TimestampMs::new(time), None, Some(&value), &[]);
    }
    if random.one_in(2) {
        let id = ProducerId::new(i64::try_from(random.below(4)).unwrap());
        let sequence = Sequence::new(i32::try_from(random.below(1000)).unwrap());
        builder.producer(id, ProducerEpoch::new(0), sequence);
    }
    builder.build()
}

fn options() -> StoreOptions {
    StoreOptions {
        segment_bytes: SEGMENT_BYTES,
        block_bytes: 16 * 1024,
        checkpoint_interval_ms: 20,
        ..StoreOptions::new(SHARD, PathBuf::from(DIRECTORY), 512 * 1024, 128 * u64::from(SEGMENT_BYTES))
    }
}

fn files(disk: &Disk) -> Files {
    disk.paths().into_iter().map(|path| (path.clone(), disk.content(&path).expect("it is listed"))).collect()
}

/// Damage without knowledge of what the bytes mean.
fn damage(random: &mut Random, disk: &Disk, earlier: &[Files]) {
    const NAMES: [&str; 8] = [
        "segment-ffffffffffffffff",
        "segment-fffffffffffffffe",
        "segment-0000000000000000",
        "segment-00000000000000aa",
        "segment-zz",
        "checkpoint-0",
        "checkpoint-1",
        "checkpoint-2",
    ];
    let paths = disk.paths();
    if paths.is_empty() {
        return;
    }
    let path = paths[random.below(paths.len())].clone();
    let other = paths[random.below(paths.len())].clone();
    let content = |path: &Path| disk.content(path).expect("it is listed");
    let mut bytes = content(&path);
    match random.below(10) {
        0 | 1 => {
            // Damage in one place, often where much hangs on it: the first or the last unit.
            let start = match random.below(3) {
                0 => 0,
                1 => bytes.len().saturating_sub(4096),
                _ => random.below(bytes.len().max(1)) / 4096 * 4096,
            };
            let end = bytes.len().min(start + 4096);
            let mut part = bytes[start..end].to_vec();
            mutate(random, &mut part);
            part.resize(end - start, 0);
            bytes[start..end].copy_from_slice(&part);
            disk.plant(&path, &bytes);
        }
        2 => {
            mutate(random, &mut bytes);
            disk.plant(&path, &bytes);
        }
        3 => {
            bytes.truncate(random.below(bytes.len() / 512 + 1) * 512);
            disk.plant(&path, &bytes);
        }
        4 => {
            let start = random.below(bytes.len() + 1);
            let end = bytes.len().min(start + random.below(20_000));
            let noise = if random.one_in(2) { vec![0; end - start] } else { random.bytes(end - start) };
            bytes[start..end].copy_from_slice(&noise);
            disk.plant(&path, &bytes);
        }
        5 => {
            let swapped = content(&other);
            disk.plant(&other, &bytes);
            disk.plant(&path, &swapped);
        }
        6 => disk.plant(&other, &bytes),
        7 => disk.plant(&Path::new(DIRECTORY).join(NAMES[random.below(NAMES.len())]), &bytes),
        8 => disk.uproot(&path),
        _ => {
            // A file comes back as it was, or one that is gone.
            let Some(files) = (!earlier.is_empty()).then(|| &earlier[random.below(earlier.len())]) else { return };
            if let Some((path, bytes)) = files.iter().nth(random.below(files.len())) {
                disk.plant(path, bytes);
            }
        }
    }
}

/// Changes fields of a structure to edge values and makes its checksums right again.
fn forge(random: &mut Random, disk: &Disk) {
    let paths = disk.paths();
    if paths.is_empty() {
        return;
    }
    let path = &paths[random.below(paths.len())];
    let mut bytes = disk.content(path).expect("it is listed");
    if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint")) {
        forge_checkpoint(random, &mut bytes);
    } else if random.one_in(3) {
        forge_trailer(random, &mut bytes);
    } else if random.one_in(2) {
        forge_header(random, &mut bytes);
    } else {
        forge_entry(random, &mut bytes);
    }
    disk.plant(path, &bytes);
}

/// Overwrites a field somewhere in `range`, of 1 to 8 bytes, by an edge value, a small step or a small number.
fn forge_field(random: &mut Random, bytes: &mut [u8], range: std::ops::Range<usize>) {
    if range.end > bytes.len() || range.is_empty() {
        return;
    }
    let at = range.start + random.below(range.len());
    // Fields are aligned more often than not.
    let at = if random.one_in(4) { at } else { at / 4 * 4 };
    let width = [1, 4, 4, 8][random.below(4)].min(range.end.saturating_sub(at));
    let Some(field) = bytes.get_mut(at..at + width).filter(|field| !field.is_empty()) else { return };
    match random.below(5) {
        0 => field.fill(0),
        1 => field.fill(0xff),
        2 => {
            field.fill(0xff);
            field[width - 1] = 0x7f;
        }
        3 => field[0] = field[0].wrapping_add([1, 0xff][random.below(2)]),
        _ => {
            field.fill(0);
            field[0] = random.bytes(1)[0];
        }
    }
}

fn put_crc(bytes: &mut [u8], at: usize, covered: std::ops::Range<usize>) {
    let crc = crc32c::crc32c(&bytes[covered]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

fn forge_header(random: &mut Random, bytes: &mut [u8]) {
    if bytes.len() >= 4096 {
        forge_field(random, bytes, 8..72);
        put_crc(bytes, 4092, 0..4092);
    }
}

/// The directory and the trailer of a footer, if there is one. Extents keep their own checksum.
fn forge_trailer(random: &mut Random, bytes: &mut [u8]) {
    let Some(start) = bytes.len().checked_sub(48) else { return };
    let field = |bytes: &[u8], at: usize| u32::from_le_bytes(*bytes[start + at..].first_chunk().unwrap());
    let (rows, directory) = (field(bytes, 24), field(bytes, 32));
    let directory = usize::try_from(directory).unwrap();
    let end = directory.saturating_add(usize::try_from(rows).unwrap().saturating_mul(48));
    if random.one_in(2) && end <= start {
        forge_field(random, bytes, directory..end);
        put_crc(bytes, start + 40, directory..end);
    } else {
        forge_field(random, bytes, start + 8..start + 40);
    }
    put_crc(bytes, start + 44, start..start + 44);
}

/// One of the first entries of a segment: its header, a batch's header, or a control entry's payload.
fn forge_entry(random: &mut Random, bytes: &mut [u8]) {
    let mut at = 4096;
    for _ in 0..random.below(12) {
        let Some(head) = bytes.get(at..at + 48) else { return };
        let payload = u32::from_le_bytes(*head[4..].first_chunk().unwrap());
        let next = at + 48 + usize::try_from(payload).unwrap();
        let next = if 4096 - next % 4096 < 48 { next.next_multiple_of(4096) } else { next };
        if head[8] == 0 || next + 48 > bytes.len() {
            break;
        }
        at = next;
    }
    let Some(head) = bytes.get(at..at + 48) else { return };
    let payload = usize::try_from(u32::from_le_bytes(*head[4..].first_chunk().unwrap())).unwrap();
    let covered = match head[8] {
        1 => 61.min(payload),
        3 => payload,
        _ => 0,
    };
    if at + 48 + covered > bytes.len() {
        return;
    }
    if random.one_in(2) {
        forge_field(random, bytes, at + 8..at + 48);
    } else {
        forge_field(random, bytes, at + 48..at + 48 + covered);
    }
    if covered == 61 && at + 48 + payload <= bytes.len() {
        // The batch's own checksum, big endian.
        let crc = crc32c::crc32c(&bytes[at + 48 + 21..at + 48 + payload]);
        bytes[at + 48 + 17..at + 48 + 21].copy_from_slice(&crc.to_be_bytes());
    }
    put_crc(bytes, at, at + 4..at + 48 + covered);
}

fn forge_checkpoint(random: &mut Random, bytes: &mut [u8]) {
    let Some(length) = bytes.get(24..32).map(|field| u64::from_le_bytes(*field.first_chunk().unwrap())) else { return };
    let end = usize::try_from(length).ok().and_then(|length| length.checked_add(4096));
    let Some(end) = end.filter(|end| *end <= bytes.len()) else { return };
    for _ in 0..1 + random.below(2) {
        match random.below(4) {
            0 => forge_field(random, bytes, 12..40),
            // The head stands last: it names the segments.
            1 => forge_field(random, bytes, end.saturating_sub(200).max(4096)..end),
            _ => forge_field(random, bytes, 4096..end),
        }
    }
    put_crc(bytes, 40, 4096..end);
    put_crc(bytes, 44, 0..44);
}

/// What is asked of an opening.
#[derive(Clone)]
struct Check {
    history: History,
    /// Checksums lie, so content proves nothing.
    forged: bool,
    accept_loss: bool,
    /// What was lost stays lost.
    may_have_gaps: bool,
}

/// Opens, looks at everything, appends, and ends in good order or by a kill. The log ends, or `None` when it does not
/// open.
fn open(disk: &Disk, seed: u64, check: &Check) -> Option<BTreeMap<LogId, Offset>> {
    let check = check.clone();
    let mut simulation = Simulation::with_disk(seed, disk.clone());
    let ends = Rc::new(RefCell::new(None));
    let told = Rc::clone(&ends);
    simulation.run(move |runtime| async move {
        let mut recovered = Recovered::default();
        let options = StoreOptions { accept_loss: check.accept_loss, ..options() };
        let peak = Peak::begin();
        let opened = Store::open(runtime.clone(), options, &mut recovered).await;
        let held = peak.bytes();
        assert!(held <= OPEN_BYTES_MAX, "{held} bytes held to open");
        let store = match opened {
            Ok(store) => store,
            Err(error) => {
                let is_refused = !check.accept_loss || !matches!(error, OpenError::Damage { .. });
                assert!(is_refused || check.forged, "accepted loss and still: {error}");
                assert!(!error.to_string().is_empty());
                return;
            }
        };
        let keeper = Keeper::new(&store, recovered);
        let known: BTreeSet<LogId> = keeper.partitions.borrow().keys().copied().collect();
        assert_eq!(known, keeper.logs().into_iter().collect(), "the store and its shard know the same logs");
        for partition in store.partitions() {
            let offsets = keeper.partitions.borrow()[&partition.log].state().offsets;
            assert_eq!((offsets.log_start(), offsets.log_end()), (partition.log_start, partition.log_end));
            read_all(&store, partition.log, &check).await;
        }
        go_on(&runtime, &keeper, seed, &check, &told).await;
    });
    ends.take()
}

/// Reads a log from its start to its end.
async fn read_all(store: &Store<SimulatedRuntime>, log: LogId, check: &Check) {
    let partition = store.partition(log).expect("it is listed");
    let (start, end) = (partition.log_start, partition.log_end);
    assert!(Offset::ZERO <= start && start <= end);
    let mut next = start;
    while next < end {
        let read = match store.read(log, next, end, 20_000, true).await {
            Ok(read) => read,
            Err(ReadError::Damaged { next_offset, .. }) => {
                assert!(next_offset > next, "log {log}: damage at {next} ends nowhere");
                next = next_offset;
                continue;
            }
            Err(error) => panic!("log {log} at {next}: {error}"),
        };
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice()).copied().collect();
        let before = next;
        for view in batches(&bytes) {
            let Ok(view) = view else {
                assert!(check.forged, "log {log} at {next}: the store gives whole batches");
                return;
            };
            let (base, last) = (view.header.base_offset, view.header.last_offset());
            assert!(last >= next, "log {log}: offsets go back from {next} to {base}..={last}");
            if !check.forged && !check.may_have_gaps {
                assert!(base <= next, "log {log}: offsets {next} to {base} are missing");
            }
            if !check.forged {
                assert!(view.crc_matches(), "log {log}: a damaged batch at {base} is given");
                let history = check.history.borrow();
                let appended = history.get(&log).and_then(|log| log.get(&base.value()));
                let whole = [&view.header_bytes()[..], view.records()].concat();
                assert!(appended.is_some_and(|all| all.contains(&whole)), "log {log}: foreign bytes at {base}");
            }
            next = last.advance(1);
        }
        if next == before {
            // The last batches may be what was lost: then the read says so, and goes on at the end.
            assert!(check.forged || check.may_have_gaps, "log {log}: nothing to read from {next} to {end}");
        }
        // A batch whose header is forged may say that it ends anywhere.
        assert!(check.forged || read.next_offset >= next, "log {log}: {} behind {next}", read.next_offset);
        assert!(read.next_offset > before, "log {log}: a reader at {before} of {end} gets no further");
        next = next.max(read.next_offset);
    }
    // Lookups walk the same bytes by another way.
    let _ = store.batch_at_timestamp(log, TimestampMs::new(1_700_000_000_500)).await;
    let _ = store.batch_with_timestamp_max(log).await;
}

/// A store that opened works: it takes batches and gives them back. Tells its ends when all is durable.
async fn go_on(
    runtime: &SimulatedRuntime,
    keeper: &Rc<Keeper>,
    seed: u64,
    check: &Check,
    told: &RefCell<Option<BTreeMap<LogId, Offset>>>,
) {
    let mut random = Random::new(seed);
    // With an accepted loss on record, nothing more is refused.
    let is_killed = random.one_in(3);
    if is_killed {
        keeper.store.checkpoint().await.expect("the disk works");
    }
    let mut appended = LogPosition::default();
    for log in keeper.logs() {
        let next = keeper.store.partition(log).expect("it is listed").log_end;
        let _ = keeper.store.reserve(BATCH_BYTES_MAX).await;
        if random.one_in(3) {
            continue;
        }
        match keeper.append(log, &mut random, &check.history) {
            Ok(position) => appended = position,
            Err(StorageError::Full { .. }) => continue,
            Err(error) => panic!("log {log}: {error}"),
        }
        let end = keeper.store.partition(log).expect("it is listed").log_end;
        let read = keeper.store.read(log, next, end, 20_000, true).await.expect("just appended");
        assert!(read.slices.iter().map(|slice| slice.as_slice().len()).sum::<usize>() > BATCH_HEADER_BYTES);
    }
    let partitions = keeper.store.partitions();
    let ends = partitions.iter().map(|partition| (partition.log, partition.log_end)).collect();
    if is_killed {
        while keeper.store.progress().durable < appended {
            runtime.sleep(Duration::from_micros(100)).await;
        }
        *told.borrow_mut() = Some(ends);
        runtime.crash(Crash::Process);
        runtime.sleep(Duration::from_millis(1)).await;
    } else {
        keeper.store.close().await.expect("the disk works");
        *told.borrow_mut() = Some(ends);
    }
}
