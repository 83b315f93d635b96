//! The simulated disk: files and directories that remember what is durable, and a seeded will of its own.
//!
//! An operation is begun, takes a drawn time, and is completed; what the disk does to it is decided here, when it
//! happens is the executor's business. The disk outlives the process: after a crash the next life boots over it.
//!
//! What it does that a friendly disk would not: operations end in any order; unflushed writes survive a power cut
//! whole, in part (by 512-byte sectors) or not at all, in any order; so do creations and removals before
//! `sync_directory`; a failed write may have happened; after a failed flush the writes before it are held for clean
//! and no later flush saves them. What it holds against its users: two writes in flight that share an `IO_ALIGNMENT`
//! unit, and memory that changes while it is being written, end the run.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::Crash;
use super::buffer::SimulatedBuffer;
use super::image::{Content, Image, SECTOR_BYTES, WriteNumber, zeroes};
use super::random::Random;
use super::trace::Trace;
use crate::limits::IO_ALIGNMENT;
use crate::runtime::{Buffer, unfinished_name};

/// Parts of a million, for rare faults.
const MILLION: u64 = 1_000_000;

/// How the disk behaves. Chances are in parts per million and 0 by default.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Time of a read.
    pub read: Latency,
    /// Time of a write.
    pub write: Latency,
    /// Time of a flush.
    pub flush: Latency,
    /// Time of everything that has to do with names.
    pub names: Latency,
    /// Added to every flush, in microseconds.
    pub flush_delay_us: u64,
    /// A write fails with EIO and may have happened wholly, in part or not at all.
    pub write_error_ppm: u64,
    /// A read fails with EIO.
    pub read_error_ppm: u64,
    /// A flush fails with EIO.
    pub flush_error_ppm: u64,
    /// A creation fails with ENOSPC.
    pub full_ppm: u64,
    /// Space that all files may take together: above it a creation, a reservation, and a write where a file has no space
    /// yet fail with ENOSPC.
    pub capacity_bytes: u64,
}

/// How long an operation takes, in microseconds.
#[derive(Clone, Debug)]
pub struct Latency {
    /// The usual time.
    pub usual_us: Range<u64>,
    /// How many of a thousand take much longer.
    pub spikes_per_mille: u64,
    /// How long those take.
    pub spike_us: Range<u64>,
}

impl Latency {
    fn draw(&self, random: &mut Random) -> u64 {
        if random.chance(self.spikes_per_mille, 1000) {
            random.range(self.spike_us.clone())
        } else {
            random.range(self.usual_us.clone())
        }
    }

    /// A distribution around one of a few magnitudes, so that runs differ in kind and not only in detail.
    fn any(random: &mut Random) -> Latency {
        let magnitude = *random.pick(&[1, 20, 150, 1000]);
        let spikes_per_mille = *random.pick(&[0, 5, 50]);
        Latency { usual_us: magnitude..magnitude * 4 + 1, spikes_per_mille, spike_us: 2_000..40_000 }
    }
}

impl DiskOptions {
    /// A disk without faults whose speed depends on the seed.
    pub fn any(random: &mut Random) -> DiskOptions {
        DiskOptions {
            read: Latency::any(random),
            write: Latency::any(random),
            flush: Latency::any(random),
            names: Latency::any(random),
            flush_delay_us: 0,
            write_error_ppm: 0,
            read_error_ppm: 0,
            flush_error_ppm: 0,
            full_ppm: 0,
            capacity_bytes: u64::MAX,
        }
    }
}

/// The kinds of operation, to aim a failure or a crash at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// `File::read_at`.
    Read,
    /// `File::write_at`.
    Write,
    /// `File::flush`.
    Flush,
    /// `Runtime::create`.
    Create,
    /// `File::reserve`.
    Reserve,
    /// `File::give_back`.
    GiveBack,
    /// `Runtime::remove`.
    Remove,
    /// `Runtime::sync_directory`.
    SyncDirectory,
}

/// When within an operation a crash comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// It was begun: it may have happened or not.
    Begun,
    /// It has just happened and nobody was told.
    Completed,
}

/// What the disk counted since it was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DiskStats {
    /// Writes begun.
    pub writes: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Flushes begun.
    pub flushes: u64,
    /// Reads begun.
    pub reads: u64,
    /// Bytes of those.
    pub read_bytes: u64,
}

/// Identity of a file, whatever it is called.
pub(super) type FileId = u64;

/// Identity of an operation under way.
pub(super) type OperationId = u64;

/// An operation was begun and should be completed so much later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) operation: OperationId,
    pub(super) latency_us: u64,
}

/// What a completed operation gives.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    Opened(FileId),
    Names(Vec<String>),
    Content(SimulatedBuffer),
}

/// Why the run cannot go on.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// A rule of the runtime was broken.
    Violation(String),
    /// A crash that was asked for is due.
    Crash(Crash),
}

/// A disk. Clones are the same disk; see [`Disk::fork`] for a copy.
#[derive(Clone)]
pub struct Disk {
    state: Rc<RefCell<State>>,
}

#[derive(Clone)]
struct State {
    options: DiskOptions,
    random: Random,
    trace: Trace,
    stats: DiskStats,
    files: BTreeMap<FileId, SimulatedDiskFile>,
    /// Names as a process sees them.
    names: BTreeMap<PathBuf, FileId>,
    /// Names that survive a power cut for sure.
    durable_names: BTreeMap<PathBuf, FileId>,
    /// Changes of names that are not durable, in order.
    name_changes: Vec<NameChange>,
    directories: BTreeSet<PathBuf>,
    under_way: BTreeMap<OperationId, UnderWay>,
    operation_next: OperationId,
    file_next: FileId,
    write_last: WriteNumber,
    change_last: u64,
    traps: Vec<Trap>,
    verdict: Option<Verdict>,
}

#[derive(Clone)]
struct SimulatedDiskFile {
    /// What it was created as: for messages, and to aim traps.
    path: PathBuf,
    image: Image,
}

#[derive(Clone)]
struct NameChange {
    number: u64,
    path: PathBuf,
    /// The file that carries the name from now on, or none.
    file: Option<FileId>,
}

#[derive(Clone)]
struct UnderWay {
    kind: Kind,
    fails: bool,
}

#[derive(Clone)]
enum Kind {
    Read { file: FileId, position: u64, bytes: usize, before: Vec<Option<Content>> },
    Write { file: FileId, position: u64, buffer: Rc<SimulatedBuffer>, checksum: u32 },
    Flush { file: FileId, last: WriteNumber },
    Reserve { file: FileId, bytes: u64 },
    GiveBack { file: FileId, position: u64, bytes: u64 },
    Create { path: PathBuf, bytes: u64 },
    Open { path: PathBuf },
    CreateDirectory { path: PathBuf },
    List { directory: PathBuf },
    Remove { path: PathBuf },
    SyncDirectory { directory: PathBuf, last: u64 },
}

#[derive(Clone)]
struct Trap {
    operation: Operation,
    path_contains: String,
    /// How many matching operations pass before this one.
    skip: u64,
    act: Act,
}

#[derive(Clone, Copy)]
enum Act {
    Fail,
    Crash(Moment, Crash),
}

/// Which of the unflushed things a power cut leaves. Drawn once per cut: independent coins alone would almost never
/// lose everything, keep everything, or tear just one write.
enum Persistence {
    Nothing,
    Everything,
    /// Each write as a whole.
    Writes {
        percent: u64,
    },
    /// Each sector of each write by itself.
    Sectors {
        percent: u64,
    },
    /// All writes before this one, and this one in part.
    Prefix {
        torn: WriteNumber,
    },
}

/// The face for tests.
impl Disk {
    pub(super) fn new(options: DiskOptions, random: Random, trace: Trace) -> Disk {
        let state = State {
            options,
            random,
            trace,
            stats: DiskStats::default(),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            directories: BTreeSet::from([PathBuf::from("/")]),
            under_way: BTreeMap::new(),
            operation_next: 0,
            file_next: 0,
            write_last: 0,
            change_last: 0,
            traps: Vec::new(),
            verdict: None,
        };
        Disk { state: Rc::new(RefCell::new(state)) }
    }

    /// A copy that goes its own way, to recover the same state twice. Only between two lives: nothing is under way.
    /// Traps are not copied.
    pub fn fork(&self) -> Disk {
        let mut original = self.state.borrow_mut();
        assert!(original.under_way.is_empty(), "a disk is copied between lives");
        let random = original.random.split();
        let mut copy = original.clone();
        copy.random = random;
        copy.traps = Vec::new();
        Disk { state: Rc::new(RefCell::new(copy)) }
    }

    pub(super) fn set_trace(&self, trace: Trace) {
        self.state.borrow_mut().trace = trace;
    }

    /// Changes how the disk behaves from now on.
    pub fn change(&self, change: impl FnOnce(&mut DiskOptions)) {
        change(&mut self.state.borrow_mut().options);
    }

    /// What was counted so far.
    pub fn stats(&self) -> DiskStats {
        self.state.borrow().stats
    }

    /// Makes an operation on a path that contains `path_contains` fail: the next one after `skip` that pass.
    pub fn fail(&self, operation: Operation, path_contains: &str, skip: u64) {
        self.add_trap(operation, path_contains, skip, Act::Fail);
    }

    /// Ends the life of the process at an operation on a path that contains `path_contains`: the next one after `skip`
    /// that pass.
    pub fn crash_at(&self, operation: Operation, moment: Moment, path_contains: &str, skip: u64, crash: Crash) {
        self.add_trap(operation, path_contains, skip, Act::Crash(moment, crash));
    }

    /// Takes back all failures and crashes that were asked for and did not happen yet.
    pub fn clear_traps(&self) {
        self.state.borrow_mut().traps.clear();
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.state.borrow().names.keys().cloned().collect()
    }

    /// Space that all files have together, in bytes.
    pub fn used_bytes(&self) -> u64 {
        let state = self.state.borrow();
        state.names.values().map(|file| state.files[file].image.allocated_bytes()).sum()
    }

    /// The newest content of a file, as a process would read it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state.borrow();
        let image = &state.files[state.names.get(path)?].image;
        let mut content = Vec::new();
        while wide(content.len()) < image.bytes() {
            content.extend_from_slice(&image.newest(wide(content.len())).unwrap_or_else(zeroes));
        }
        content.truncate(usize::try_from(image.bytes()).expect("simulated files fit into memory"));
        Some(content)
    }

    /// Puts a file there, durably, in place of what the path held. Its directory comes with it.
    pub fn plant(&self, path: &Path, content: &[u8]) {
        let mut state = self.state.borrow_mut();
        for ancestor in path.ancestors().skip(1) {
            state.directories.insert(ancestor.to_path_buf());
        }
        let mut image = Image::default();
        image.plant(content);
        let file = state.add_file(path, image);
        state.name_changes.retain(|change| change.path != path);
        state.names.insert(path.to_path_buf(), file);
        state.durable_names.insert(path.to_path_buf(), file);
    }

    /// Takes a file away, durably.
    pub fn uproot(&self, path: &Path) {
        let mut state = self.state.borrow_mut();
        state.name_changes.retain(|change| change.path != path);
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// Flips one bit of an existing file at rest.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) {
        let mut state = self.state.borrow_mut();
        let file = *state.names.get(path).expect("the file exists");
        state.trace.add("bit flipped", [file, position, u64::from(bit)]);
        state.file(file).image.flip_bit(position, bit);
    }

    fn add_trap(&self, operation: Operation, path_contains: &str, skip: u64, act: Act) {
        let trap = Trap { operation, path_contains: path_contains.to_string(), skip, act };
        self.state.borrow_mut().traps.push(trap);
    }
}

/// The face for the runtime.
impl Disk {
    pub(super) fn begin_read(&self, file: FileId, position: u64, bytes: usize) -> Begun {
        assert_aligned(position, bytes);
        let mut state = self.state.borrow_mut();
        let image = &state.files[&file].image;
        let before = pages(position, bytes).map(|page| image.newest(page)).collect();
        state.stats.reads += 1;
        state.stats.read_bytes += wide(bytes);
        state.begin(Kind::Read { file, position, bytes, before })
    }

    /// `checksum` was taken when the caller handed the buffer over.
    pub(super) fn begin_write(&self, file: FileId, position: u64, buffer: Rc<SimulatedBuffer>, checksum: u32) -> Begun {
        assert_aligned(position, buffer.bytes());
        let mut state = self.state.borrow_mut();
        let end = position + wide(buffer.bytes());
        let overlap = state.under_way.values().find_map(|other| match &other.kind {
            Kind::Write { file: other_file, position: other_position, buffer: other_buffer, .. } => {
                let other_end = other_position + wide(other_buffer.bytes());
                (*other_file == file && *other_position < end && position < other_end)
                    .then_some((*other_position, other_end))
            }
            Kind::GiveBack { file: other_file, position: other_position, bytes } => {
                let other_end = other_position + bytes;
                (*other_file == file && *other_position < end && position < other_end)
                    .then_some((*other_position, other_end))
            }
            _ => None,
        });
        if let Some((other_position, other_end)) = overlap {
            let path = state.files[&file].path.display().to_string();
            state.violate(format!(
                "two writes in flight share a block of {path}: {position}..{end} and {other_position}..{other_end}"
            ));
        }
        state.stats.writes += 1;
        state.stats.written_bytes += wide(buffer.bytes());
        state.begin(Kind::Write { file, position, buffer, checksum })
    }

    /// The number of the last write completed so far: what a flush that is asked for now must make durable.
    pub(super) fn write_last(&self) -> WriteNumber {
        self.state.borrow().write_last
    }

    pub(super) fn begin_flush(&self, file: FileId, last: WriteNumber) -> Begun {
        let mut state = self.state.borrow_mut();
        state.stats.flushes += 1;
        let mut begun = state.begin(Kind::Flush { file, last });
        begun.latency_us += state.options.flush_delay_us;
        begun
    }

    pub(super) fn begin_reserve(&self, file: FileId, bytes: u64) -> Begun {
        self.state.borrow_mut().begin(Kind::Reserve { file, bytes })
    }

    pub(super) fn begin_give_back(&self, file: FileId, position: u64, bytes: u64) -> Begun {
        assert_aligned(position, narrow(bytes));
        let mut state = self.state.borrow_mut();
        let end = position + bytes;
        let is_written =
            |(other, buffer): &(u64, Rc<SimulatedBuffer>)| *other < end && position < other + wide(buffer.bytes());
        if state.writes_in_flight(file).iter().any(is_written) {
            let path = state.files[&file].path.display().to_string();
            state.violate(format!("space of {path} is given back under a write: {position}..{end}"));
        }
        state.begin(Kind::GiveBack { file, position, bytes })
    }

    /// Space that a file has, in bytes.
    pub(super) fn allocated_bytes(&self, file: FileId) -> u64 {
        self.state.borrow().files[&file].image.allocated_bytes()
    }

    /// Where the first byte at or behind `position` stands that was written.
    pub(super) fn written_from(&self, file: FileId, position: u64) -> Option<u64> {
        self.state.borrow().files[&file].image.written_from(position)
    }

    pub(super) fn begin_create(&self, path: &Path, bytes: u64) -> Begun {
        self.state.borrow_mut().begin(Kind::Create { path: path.to_path_buf(), bytes })
    }

    pub(super) fn begin_open(&self, path: &Path) -> Begun {
        self.state.borrow_mut().begin(Kind::Open { path: path.to_path_buf() })
    }

    pub(super) fn begin_create_directory(&self, path: &Path) -> Begun {
        self.state.borrow_mut().begin(Kind::CreateDirectory { path: path.to_path_buf() })
    }

    pub(super) fn begin_list(&self, directory: &Path) -> Begun {
        self.state.borrow_mut().begin(Kind::List { directory: directory.to_path_buf() })
    }

    pub(super) fn begin_remove(&self, path: &Path) -> Begun {
        self.state.borrow_mut().begin(Kind::Remove { path: path.to_path_buf() })
    }

    pub(super) fn begin_sync_directory(&self, directory: &Path) -> Begun {
        let mut state = self.state.borrow_mut();
        let last = state.change_last;
        state.begin(Kind::SyncDirectory { directory: directory.to_path_buf(), last })
    }

    /// Makes an operation happen.
    pub(super) fn complete(&self, operation: OperationId) -> io::Result<Outcome> {
        let mut state = self.state.borrow_mut();
        let under_way = state.under_way.remove(&operation).expect("an operation is completed once");
        let kind = under_way.kind.operation();
        let path = state.path_of(&under_way.kind);
        let outcome = state.happen(under_way);
        state.trace.add(
            if outcome.is_ok() { "completed" } else { "failed" },
            [operation, state.write_last, state.change_last],
        );
        if let Some(kind) = kind {
            state.spring_crash(kind, Moment::Completed, &path);
        }
        outcome
    }

    /// Size of a file in bytes.
    pub(super) fn bytes(&self, file: FileId) -> u64 {
        self.state.borrow().files[&file].image.bytes()
    }

    /// Why the run must end now, if it must.
    pub(super) fn take_verdict(&self) -> Option<Verdict> {
        self.state.borrow_mut().verdict.take()
    }

    /// The process is gone. What was under way happens, or does not, or a write does in part.
    pub(super) fn stop_process(&self) {
        let mut state = self.state.borrow_mut();
        for (operation, under_way) in std::mem::take(&mut state.under_way) {
            state.abandon(operation, under_way);
        }
        let state = &mut *state;
        let named: BTreeSet<FileId> = state.names.values().chain(state.durable_names.values()).copied().collect();
        let changing: BTreeSet<FileId> = state.name_changes.iter().filter_map(|change| change.file).collect();
        state.files.retain(|file, _| named.contains(file) || changing.contains(file));
    }

    /// The power is gone too: only what is durable stays for sure. After `stop_process`.
    pub(super) fn cut_power(&self) {
        let mut state = self.state.borrow_mut();
        assert!(state.under_way.is_empty());
        let persistence = state.draw_persistence();
        state.settle_names(&persistence);
        state.settle_files(&persistence);
    }
}

impl State {
    fn begin(&mut self, kind: Kind) -> Begun {
        let operation = self.operation_next;
        self.operation_next += 1;
        let latency_us = self.latency(&kind).draw(&mut self.random);
        let path = self.path_of(&kind);
        self.trace.add(kind.name(), kind.trace_values(operation));
        let mut fails = self.fails_by_chance(&kind);
        if let Some(aim) = kind.operation() {
            fails |= self.spring_failure(aim, &path);
            self.spring_crash(aim, Moment::Begun, &path);
        }
        self.under_way.insert(operation, UnderWay { kind, fails });
        Begun { operation, latency_us }
    }

    fn latency(&self, kind: &Kind) -> Latency {
        match kind {
            Kind::Read { .. } => self.options.read.clone(),
            Kind::Write { .. } => self.options.write.clone(),
            Kind::Flush { .. } => self.options.flush.clone(),
            _ => self.options.names.clone(),
        }
    }

    fn fails_by_chance(&mut self, kind: &Kind) -> bool {
        let ppm = match kind {
            Kind::Read { .. } => self.options.read_error_ppm,
            Kind::Write { .. } => self.options.write_error_ppm,
            Kind::Flush { .. } => self.options.flush_error_ppm,
            Kind::Create { .. } => self.options.full_ppm,
            _ => 0,
        };
        self.random.chance(ppm, MILLION)
    }

    fn path_of(&self, kind: &Kind) -> PathBuf {
        match kind {
            Kind::Read { file, .. }
            | Kind::Write { file, .. }
            | Kind::Flush { file, .. }
            | Kind::Reserve { file, .. }
            | Kind::GiveBack { file, .. } => self.files[file].path.clone(),
            Kind::Create { path, .. }
            | Kind::Open { path }
            | Kind::CreateDirectory { path }
            | Kind::Remove { path }
            | Kind::List { directory: path }
            | Kind::SyncDirectory { directory: path, .. } => path.clone(),
        }
    }

    fn spring_failure(&mut self, operation: Operation, path: &Path) -> bool {
        self.spring(operation, path, |act| matches!(act, Act::Fail)).is_some()
    }

    fn spring_crash(&mut self, operation: Operation, moment: Moment, path: &Path) {
        let sprung = self.spring(operation, path, |act| matches!(act, Act::Crash(at, _) if *at == moment));
        if let Some(Act::Crash(_, crash)) = sprung {
            self.judge(Verdict::Crash(crash));
        }
    }

    /// Counts an operation down in the traps it matches, and gives one that is due.
    fn spring(&mut self, operation: Operation, path: &Path, wanted: impl Fn(&Act) -> bool) -> Option<Act> {
        let path = path.to_string_lossy();
        let mut sprung = None;
        self.traps.retain_mut(|trap| {
            let matches = trap.operation == operation && wanted(&trap.act) && path.contains(&trap.path_contains);
            if matches && trap.skip == 0 {
                sprung = Some(trap.act);
                return false;
            }
            if matches {
                trap.skip -= 1;
            }
            true
        });
        sprung
    }

    fn judge(&mut self, verdict: Verdict) {
        // A broken rule counts more than a crash, and the first of its kind more than the next.
        let broken = matches!(self.verdict, Some(Verdict::Violation(_)));
        if self.verdict.is_none() || (!broken && matches!(verdict, Verdict::Violation(_))) {
            self.verdict = Some(verdict);
        }
    }

    fn violate(&mut self, message: String) {
        self.judge(Verdict::Violation(message));
    }

    fn happen(&mut self, under_way: UnderWay) -> io::Result<Outcome> {
        let fails = under_way.fails;
        match under_way.kind {
            Kind::Read { file, position, bytes, before } => {
                if fails {
                    return Err(error(libc::EIO));
                }
                Ok(Outcome::Content(self.read(file, position, bytes, &before)))
            }
            Kind::Write { file, position, buffer, checksum } => {
                self.check_unchanged(file, position, &buffer, checksum);
                if fails {
                    self.write_in_part(file, position, buffer.as_slice());
                    return Err(error(libc::EIO));
                }
                let missing_bytes = self.files[&file].image.missing_bytes(position, wide(buffer.bytes()));
                if missing_bytes > 0 {
                    self.check_room(missing_bytes)?;
                }
                self.write(file, position, buffer.as_slice(), |_| true);
                Ok(Outcome::Done)
            }
            Kind::Reserve { file, bytes } => {
                let image = &self.files[&file].image;
                let missing_bytes = bytes.max(image.bytes()) - image.allocated_bytes();
                if fails {
                    return Err(error(libc::ENOSPC));
                }
                if missing_bytes > 0 {
                    self.check_room(missing_bytes)?;
                }
                self.file(file).image.reserve(bytes);
                Ok(Outcome::Done)
            }
            Kind::GiveBack { file, position, bytes } => {
                if fails {
                    return Err(error(libc::EIO));
                }
                self.write(file, position, &vec![0; narrow(bytes)], |_| true);
                self.file(file).image.punch(position, bytes);
                Ok(Outcome::Done)
            }
            Kind::Flush { file, last } => {
                let image = &mut self.file(file).image;
                if fails {
                    image.give_up(last);
                    return Err(error(libc::EIO));
                }
                image.make_durable(last);
                image.make_size_durable();
                Ok(Outcome::Done)
            }
            Kind::Create { path, bytes } => self.create(&path, bytes, fails),
            Kind::Open { path } => match self.names.get(&path) {
                Some(file) => Ok(Outcome::Opened(*file)),
                None => Err(error(libc::ENOENT)),
            },
            Kind::CreateDirectory { path } => {
                for ancestor in path.ancestors() {
                    self.directories.insert(ancestor.to_path_buf());
                }
                Ok(Outcome::Done)
            }
            Kind::List { directory } => self.list(&directory),
            Kind::Remove { path } => {
                if fails {
                    return Err(error(libc::EIO));
                }
                if self.names.remove(&path).is_none() {
                    return Err(error(libc::ENOENT));
                }
                self.change_name(path, None);
                Ok(Outcome::Done)
            }
            Kind::SyncDirectory { directory, last } => {
                if fails {
                    return Err(error(libc::EIO));
                }
                if !self.directories.contains(&directory) {
                    return Err(error(libc::ENOENT));
                }
                self.sync_names(&directory, last);
                Ok(Outcome::Done)
            }
        }
    }

    /// An operation loses its process: whether it still happens is open.
    fn abandon(&mut self, operation: OperationId, under_way: UnderWay) {
        let happens = self.random.chance(1, 2);
        self.trace.add("abandoned", [operation, u64::from(happens), 0]);
        if let Kind::Write { file, position, buffer, checksum } = &under_way.kind {
            self.check_unchanged(*file, *position, buffer, *checksum);
            self.write_in_part(*file, *position, buffer.as_slice());
        } else if happens && !under_way.fails {
            // Nobody is left to be told how it ended.
            let _ = self.happen(under_way);
        } else if let Kind::Create { path, bytes } = &under_way.kind {
            let bytes = self.random.below(bytes + 1);
            let _ = self.create(&unfinished(path), bytes, false);
        }
    }

    fn read(&mut self, file: FileId, position: u64, bytes: usize, before: &[Option<Content>]) -> SimulatedBuffer {
        let mut buffer = SimulatedBuffer::new(bytes, 0);
        let target = buffer.as_mut_slice();
        for ((page, old), target) in pages(position, bytes).zip(before).zip(target.chunks_mut(IO_ALIGNMENT)) {
            let new = self.files[&file].image.newest(page);
            // While the read was under way, a write may have completed: each sector is from before or after it.
            let same = match (old, &new) {
                (Some(old), Some(new)) => Rc::ptr_eq(old, new) || old == new,
                (None, None) => true,
                _ => false,
            };
            let new = new.unwrap_or_else(zeroes);
            target.copy_from_slice(&new);
            if !same {
                let old = old.clone().unwrap_or_else(zeroes);
                self.mix_sectors(target, &old);
            }
        }
        for (other_position, other) in self.writes_in_flight(file) {
            // A write under way may already be visible, sector by sector.
            let start = other_position.max(position);
            let end = (other_position + wide(other.bytes())).min(position + wide(bytes));
            if start < end {
                let from = narrow(start - other_position)..narrow(end - other_position);
                let to = narrow(start - position)..narrow(end - position);
                self.mix_sectors(&mut buffer.as_mut_slice()[to], &other.as_slice()[from]);
            }
        }
        let beyond = narrow((self.files[&file].image.bytes().saturating_sub(position)).min(wide(bytes)));
        buffer.as_mut_slice()[beyond..].fill(0);
        buffer
    }

    fn writes_in_flight(&self, file: FileId) -> Vec<(u64, Rc<SimulatedBuffer>)> {
        let in_flight = self.under_way.values().filter_map(|other| match &other.kind {
            Kind::Write { file: other_file, position, buffer, .. } if *other_file == file => {
                Some((*position, Rc::clone(buffer)))
            }
            _ => None,
        });
        in_flight.collect()
    }

    /// Replaces a random half of the sectors.
    fn mix_sectors(&mut self, target: &mut [u8], source: &[u8]) {
        for (target, source) in target.chunks_mut(SECTOR_BYTES).zip(source.chunks(SECTOR_BYTES)) {
            if self.random.chance(1, 2) {
                target.copy_from_slice(source);
            }
        }
    }

    fn check_unchanged(&mut self, file: FileId, position: u64, buffer: &SimulatedBuffer, checksum: u32) {
        if crc32c::crc32c(buffer.as_slice()) != checksum {
            let path = self.files[&file].path.display().to_string();
            self.violate(format!("memory changed while it was being written to {path} at {position}"));
        }
    }

    fn write(&mut self, file: FileId, position: u64, bytes: &[u8], reaches: impl FnMut(usize) -> bool) {
        self.write_last += 1;
        let number = self.write_last;
        self.file(file).image.apply(number, position, bytes, reaches);
    }

    /// A write that failed or lost its process: it happened, or did not, or some of its sectors did.
    fn write_in_part(&mut self, file: FileId, position: u64, bytes: &[u8]) {
        match self.random.below(3) {
            0 => {}
            1 => self.write(file, position, bytes, |_| true),
            _ => {
                let mut random = self.random.split();
                self.write(file, position, bytes, |_| random.chance(1, 2));
            }
        }
    }

    fn create(&mut self, path: &Path, bytes: u64, fails: bool) -> io::Result<Outcome> {
        if self.names.contains_key(path) {
            return Err(error(libc::EEXIST));
        }
        if !path.parent().is_some_and(|parent| self.directories.contains(parent)) {
            return Err(error(libc::ENOENT));
        }
        if fails {
            return Err(error(libc::ENOSPC));
        }
        self.check_room(bytes)?;
        let file = self.add_file(path, Image::new(bytes));
        self.names.insert(path.to_path_buf(), file);
        self.change_name(path.to_path_buf(), Some(file));
        let unfinished = unfinished(path);
        if self.names.remove(&unfinished).is_some() {
            self.change_name(unfinished, None);
        }
        Ok(Outcome::Opened(file))
    }

    /// Whether there is space for so many bytes more.
    fn check_room(&self, bytes: u64) -> io::Result<()> {
        let used_bytes: u64 = self.names.values().map(|file| self.files[file].image.allocated_bytes()).sum();
        let fits = used_bytes.saturating_add(bytes) <= self.options.capacity_bytes;
        if fits { Ok(()) } else { Err(error(libc::ENOSPC)) }
    }

    fn add_file(&mut self, path: &Path, image: Image) -> FileId {
        let file = self.file_next;
        self.file_next += 1;
        self.files.insert(file, SimulatedDiskFile { path: path.to_path_buf(), image });
        file
    }

    fn file(&mut self, file: FileId) -> &mut SimulatedDiskFile {
        self.files.get_mut(&file).expect("an open file exists until the process ends")
    }

    fn change_name(&mut self, path: PathBuf, file: Option<FileId>) {
        self.change_last += 1;
        self.name_changes.push(NameChange { number: self.change_last, path, file });
    }

    fn list(&mut self, directory: &Path) -> io::Result<Outcome> {
        if !self.directories.contains(directory) {
            return Err(error(libc::ENOENT));
        }
        let inside = self.names.keys().filter(|path| path.parent() == Some(directory));
        let mut names: Vec<String> =
            inside.filter_map(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned()).collect();
        self.random.shuffle(&mut names);
        Ok(Outcome::Names(names))
    }

    fn sync_names(&mut self, directory: &Path, last: u64) {
        let (synced, open) = std::mem::take(&mut self.name_changes)
            .into_iter()
            .partition(|change| change.number <= last && change.path.parent() == Some(directory));
        self.name_changes = open;
        for change in synced {
            self.make_name_durable(change);
        }
    }

    fn make_name_durable(&mut self, change: NameChange) {
        match change.file {
            Some(file) => {
                self.file(file).image.make_size_durable();
                self.durable_names.insert(change.path, file);
            }
            None => {
                self.durable_names.remove(&change.path);
            }
        }
    }

    fn draw_persistence(&mut self) -> Persistence {
        match self.random.below(6) {
            0 => Persistence::Nothing,
            1 => Persistence::Everything,
            2 => Persistence::Writes { percent: self.random.range(10..91) },
            3 => Persistence::Sectors { percent: self.random.range(10..91) },
            4 => Persistence::Sectors { percent: *self.random.pick(&[2, 98]) },
            _ => {
                // Somewhere in the last few writes: only those can be unflushed in a store that does its work.
                let back = self.random.below(16);
                Persistence::Prefix { torn: self.write_last.saturating_sub(back) }
            }
        }
    }

    /// Of the changes to one name, the first few persist: each may or may not, but not a later one alone.
    fn settle_names(&mut self, persistence: &Persistence) {
        let mut stopped = BTreeSet::new();
        for change in std::mem::take(&mut self.name_changes) {
            let persists = match persistence {
                Persistence::Nothing => false,
                Persistence::Everything => true,
                _ => self.random.chance(1, 2),
            };
            if stopped.contains(&change.path) || !persists {
                stopped.insert(change.path);
                continue;
            }
            self.make_name_durable(change);
        }
        self.names = self.durable_names.clone();
        let named: BTreeSet<FileId> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
    }

    fn settle_files(&mut self, persistence: &Persistence) {
        let mut random = self.random.split();
        let mut whole: BTreeMap<WriteNumber, bool> = BTreeMap::new();
        for file in self.files.values_mut() {
            let grown = random.chance(1, 2);
            file.image.settle(grown, |write| match *persistence {
                Persistence::Nothing => false,
                Persistence::Everything => true,
                Persistence::Writes { percent } => *whole.entry(write).or_insert_with(|| random.chance(percent, 100)),
                Persistence::Sectors { percent } => random.chance(percent, 100),
                Persistence::Prefix { torn } => write < torn || (write == torn && random.chance(1, 2)),
            });
        }
    }
}

/// What `path` is called while it is being created.
fn unfinished(path: &Path) -> PathBuf {
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    path.with_file_name(unfinished_name(&name))
}

impl Kind {
    fn operation(&self) -> Option<Operation> {
        match self {
            Kind::Read { .. } => Some(Operation::Read),
            Kind::Write { .. } => Some(Operation::Write),
            Kind::Flush { .. } => Some(Operation::Flush),
            Kind::Reserve { .. } => Some(Operation::Reserve),
            Kind::GiveBack { .. } => Some(Operation::GiveBack),
            Kind::Create { .. } => Some(Operation::Create),
            Kind::Remove { .. } => Some(Operation::Remove),
            Kind::SyncDirectory { .. } => Some(Operation::SyncDirectory),
            Kind::Open { .. } | Kind::CreateDirectory { .. } | Kind::List { .. } => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Kind::Read { .. } => "read",
            Kind::Write { .. } => "write",
            Kind::Flush { .. } => "flush",
            Kind::Reserve { .. } => "reserve",
            Kind::GiveBack { .. } => "give back",
            Kind::Create { .. } => "create",
            Kind::Open { .. } => "open",
            Kind::CreateDirectory { .. } => "create directory",
            Kind::List { .. } => "list",
            Kind::Remove { .. } => "remove",
            Kind::SyncDirectory { .. } => "sync directory",
        }
    }

    /// The operation and what tells two of its kind apart; of a write also its content.
    fn trace_values(&self, operation: OperationId) -> [u64; 3] {
        match self {
            Kind::Read { file, position, bytes, .. } => [operation, *file, position + wide(*bytes)],
            Kind::Write { file, position, checksum, .. } => {
                [operation, (*file << 32) | u64::from(*checksum), *position]
            }
            Kind::Flush { file, last } => [operation, *file, *last],
            Kind::Reserve { file, bytes } => [operation, *file, *bytes],
            Kind::GiveBack { file, position, bytes } => [operation, *file, position + bytes],
            Kind::Create { path, bytes } => [operation, path_hash(path), *bytes],
            Kind::SyncDirectory { directory, last } => [operation, path_hash(directory), *last],
            Kind::Open { path }
            | Kind::CreateDirectory { path }
            | Kind::List { directory: path }
            | Kind::Remove { path } => [operation, path_hash(path), 0],
        }
    }
}

fn path_hash(path: &Path) -> u64 {
    u64::from(crc32c::crc32c(path.as_os_str().as_encoded_bytes()))
}

fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

fn assert_aligned(position: u64, bytes: usize) {
    assert!(position.is_multiple_of(wide(IO_ALIGNMENT)), "position {position} is not aligned for direct I/O");
    assert!(bytes > 0 && bytes.is_multiple_of(IO_ALIGNMENT), "{bytes} bytes are not aligned for direct I/O");
}

/// Positions of the pages of a range.
fn pages(position: u64, bytes: usize) -> impl Iterator<Item = u64> {
    (position..position + wide(bytes)).step_by(IO_ALIGNMENT)
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).expect("sizes fit into 64 bits")
}

fn narrow(value: u64) -> usize {
    usize::try_from(value).expect("simulated sizes fit into memory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::block::Block;
    use crate::runtime::{File, Runtime};
    use crate::simulation::{Ended, Failure, SimulatedFile, SimulatedRuntime, Simulation};

    const PATH: &str = "/data/segment";

    /// Runs for so many seeds where a thing that may happen must be seen, and one that must not is never seen.
    const SEEDS: u64 = 300;

    fn buffer(runtime: &SimulatedRuntime, bytes: usize, content: u8) -> Rc<SimulatedBuffer> {
        let mut buffer = runtime.allocate(bytes);
        buffer.as_mut_slice().fill(content);
        Rc::new(buffer)
    }

    /// A file whose name and size are durable.
    async fn durable_file(runtime: &SimulatedRuntime, bytes: u64) -> SimulatedFile {
        runtime.create_directory(Path::new("/data")).await.unwrap();
        let file = runtime.create(Path::new(PATH), bytes).await.unwrap();
        runtime.sync_directory(Path::new("/data")).await.unwrap();
        file
    }

    fn content(simulation: &Simulation) -> Option<Vec<u8>> {
        simulation.disk().content(Path::new(PATH))
    }

    #[test]
    fn space_is_counted_where_there_is_some() {
        let mut simulation = Simulation::new(1);
        simulation.disk().change(|options| options.capacity_bytes = 5 * 4096);
        simulation
            .run(|runtime| async move {
                let is_full =
                    |result: io::Result<()>| result.is_err_and(|cause| cause.kind() == io::ErrorKind::StorageFull);
                let file = durable_file(&runtime, 4 * 4096).await;
                file.write_at(buffer(&runtime, 4 * 4096, 7), 0).await.unwrap();
                assert!(is_full(file.write_at(buffer(&runtime, 8192, 7), 4 * 4096).await), "behind the end");
                assert!(is_full(file.reserve(6 * 4096).await));
                file.give_back(4096, 8192).await.unwrap();
                assert!(file.is_sparse());
                let other = runtime.create(Path::new("/data/other"), 3 * 4096).await.unwrap();
                assert!(is_full(file.write_at(buffer(&runtime, 4096, 7), 4096).await), "its space was taken");
                assert!(is_full(file.reserve(4 * 4096).await));
                other.give_back(0, 4096).await.unwrap();
                file.write_at(buffer(&runtime, 4096, 7), 4096).await.unwrap();
                let read = file.read_at(0, 4 * 4096).await.unwrap();
                assert_eq!([read.as_slice()[4096], read.as_slice()[8192], read.as_slice()[12_288]], [7, 0, 7]);
                runtime.remove(Path::new("/data/other")).await.unwrap();
                file.reserve(4 * 4096).await.unwrap();
                assert!(!file.is_sparse());
            })
            .finished();
    }

    /// The first byte of each sector.
    fn sectors(content: &[u8]) -> Vec<u8> {
        content.iter().step_by(SECTOR_BYTES).copied().collect()
    }

    /// What a file of one 64 KiB write holds after the given kind of crash, for many seeds.
    fn outcomes(crash: Crash, flushed: bool) -> BTreeSet<Vec<u8>> {
        let mut outcomes = BTreeSet::new();
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            let ended: Ended<()> = simulation.run(|runtime| async move {
                let file = durable_file(&runtime, 65536).await;
                file.write_at(buffer(&runtime, 65536, 1), 0).await.unwrap();
                if flushed {
                    file.flush().await.unwrap();
                }
                runtime.crash(crash);
                std::future::pending().await
            });
            assert_eq!(ended, Ended::Crashed(crash));
            outcomes.insert(sectors(&content(&simulation).unwrap()));
        }
        outcomes
    }

    #[test]
    fn unflushed_writes_survive_a_power_cut_wholly_partly_or_not() {
        let outcomes = outcomes(Crash::Power, false);
        assert!(outcomes.contains(&vec![0; 128]));
        assert!(outcomes.contains(&vec![1; 128]));
        // Torn inside one 4 KiB page.
        assert!(outcomes.iter().any(|sectors| sectors[..8].contains(&0) && sectors[..8].contains(&1)));
    }

    #[test]
    fn flushed_writes_survive_a_power_cut() {
        assert_eq!(outcomes(Crash::Power, true), BTreeSet::from([vec![1; 128]]));
    }

    #[test]
    fn completed_writes_survive_a_process_crash() {
        assert_eq!(outcomes(Crash::Process, false), BTreeSet::from([vec![1; 128]]));
    }

    #[test]
    fn a_write_in_flight_at_a_process_crash_happens_wholly_partly_or_not() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            simulation.disk().crash_at(Operation::Write, Moment::Begun, "segment", 0, Crash::Process);
            let ended = simulation.run(|runtime| async move {
                let file = durable_file(&runtime, 4096).await;
                file.write_at(buffer(&runtime, 4096, 1), 0).await.unwrap();
            });
            assert!(ended.is_crash());
            outcomes.insert(sectors(&content(&simulation).unwrap()));
        }
        assert!(outcomes.contains(&vec![0; 8]));
        assert!(outcomes.contains(&vec![1; 8]));
        assert!(outcomes.len() > 2);
    }

    #[test]
    fn writes_complete_in_any_order() {
        let mut orders = BTreeSet::new();
        for seed in 0..SEEDS {
            let order = Simulation::new(seed).run(|runtime| async move {
                let file = durable_file(&runtime, 16384).await;
                let order = Rc::new(RefCell::new(Vec::new()));
                for unit in 0..4 {
                    let (file, runtime, order) = (file.clone(), runtime.clone(), Rc::clone(&order));
                    runtime.clone().spawn(async move {
                        file.write_at(buffer(&runtime, 4096, 1), unit * 4096).await.unwrap();
                        order.borrow_mut().push(unit);
                    });
                }
                while order.borrow().len() < 4 {
                    runtime.sleep(std::time::Duration::from_millis(1)).await;
                }
                order.take()
            });
            orders.insert(order.finished());
        }
        assert!(orders.len() > 12, "{} of 24 orders seen", orders.len());
    }

    #[test]
    fn a_flush_covers_what_completed_before_it_was_asked_for_and_nothing_else() {
        let mut late_lost = false;
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            let ended: Ended<()> = simulation.run(|runtime| async move {
                let file = durable_file(&runtime, 8192).await;
                runtime.disk().change(|options| options.flush_delay_us = 1_000_000);
                file.write_at(buffer(&runtime, 4096, 1), 0).await.unwrap();
                let flush = file.flush();
                file.write_at(buffer(&runtime, 4096, 2), 4096).await.unwrap();
                flush.await.unwrap();
                runtime.crash(Crash::Power);
                std::future::pending().await
            });
            assert!(ended.is_crash());
            let content = content(&simulation).unwrap();
            assert_eq!(sectors(&content)[..8], [1; 8]);
            late_lost |= sectors(&content)[8..] == [0; 8];
        }
        assert!(late_lost);
    }

    #[test]
    fn of_two_unflushed_rewrites_a_sector_holds_any_one() {
        let mut seen = BTreeSet::new();
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            let ended: Ended<()> = simulation.run(|runtime| async move {
                let file = durable_file(&runtime, 4096).await;
                file.write_at(buffer(&runtime, 4096, 1), 0).await.unwrap();
                file.write_at(buffer(&runtime, 4096, 2), 0).await.unwrap();
                runtime.crash(Crash::Power);
                std::future::pending().await
            });
            assert!(ended.is_crash());
            seen.extend(sectors(&content(&simulation).unwrap()));
        }
        assert_eq!(seen, BTreeSet::from([0, 1, 2]));
    }

    fn failure_of<F>(main: impl FnOnce(SimulatedRuntime) -> F) -> Failure
    where
        F: Future<Output = ()> + 'static,
    {
        Simulation::new(1).try_run(main).expect_err("the run fails")
    }

    #[test]
    fn overlapping_writes_in_flight_fail_the_run() {
        let failure = failure_of(|runtime| async move {
            let file = durable_file(&runtime, 16384).await;
            let (other, other_runtime) = (file.clone(), runtime.clone());
            runtime.spawn(async move {
                other.write_at(buffer(&other_runtime, 8192, 1), 4096).await.unwrap();
            });
            file.write_at(buffer(&runtime, 8192, 2), 0).await.unwrap();
            runtime.sleep(std::time::Duration::from_secs(1)).await;
        });
        assert!(failure.message.contains("two writes in flight share a block of /data/segment"), "{failure}");
    }

    #[test]
    fn neighbouring_writes_in_flight_are_fine() {
        Simulation::new(1).run(|runtime| async move {
            let file = durable_file(&runtime, 16384).await;
            let (other, other_runtime) = (file.clone(), runtime.clone());
            runtime.spawn(async move {
                other.write_at(buffer(&other_runtime, 8192, 1), 8192).await.unwrap();
            });
            file.write_at(buffer(&runtime, 8192, 2), 0).await.unwrap();
            runtime.sleep(std::time::Duration::from_secs(1)).await;
        });
    }

    /// A second way to memory that is being written: the mistake to be found.
    struct Alias(Rc<SimulatedBuffer>);

    impl Buffer for Alias {
        fn as_ptr(&self) -> *const u8 {
            self.0.as_ptr()
        }
        fn bytes(&self) -> usize {
            self.0.bytes()
        }
        fn as_slice(&self) -> &[u8] {
            self.0.as_slice()
        }
        fn as_mut_slice(&mut self) -> &mut [u8] {
            // A block asks for it once, so that the memory is its own, and then fills it through its pointer.
            &mut []
        }
    }

    #[test]
    fn memory_that_changes_in_flight_fails_the_run() {
        let failure = failure_of(|runtime| async move {
            let file = durable_file(&runtime, 4096).await;
            let memory = buffer(&runtime, 4096, 1);
            let block = Block::new(Alias(Rc::clone(&memory)), 0);
            let write = file.write_at(memory, 0);
            block.append(b"more");
            write.await.unwrap();
        });
        assert!(failure.message.contains("memory changed while it was being written to /data/segment"), "{failure}");
    }

    #[test]
    fn a_removal_without_sync_may_come_back_and_a_synced_one_never() {
        let comes_back = |seed, synced| {
            let mut simulation = Simulation::new(seed);
            let ended: Ended<()> = simulation.run(move |runtime| async move {
                let file = durable_file(&runtime, 4096).await;
                file.write_at(buffer(&runtime, 4096, 1), 0).await.unwrap();
                file.flush().await.unwrap();
                runtime.remove(Path::new(PATH)).await.unwrap();
                if synced {
                    runtime.sync_directory(Path::new("/data")).await.unwrap();
                }
                runtime.crash(Crash::Power);
                std::future::pending().await
            });
            assert!(ended.is_crash());
            content(&simulation)
        };
        let back: Vec<_> = (0..SEEDS).filter_map(|seed| comes_back(seed, false)).collect();
        assert!(!back.is_empty() && back.len() < 300);
        assert!(back.iter().all(|content| content == &vec![1; 4096]));
        assert!((0..SEEDS).all(|seed| comes_back(seed, true).is_none()));
    }

    #[test]
    fn a_creation_without_sync_may_vanish_but_never_has_less_than_its_size() {
        let mut sizes = BTreeSet::new();
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            let ended: Ended<()> = simulation.run(|runtime| async move {
                runtime.create_directory(Path::new("/data")).await.unwrap();
                runtime.create(Path::new(PATH), 4096).await.unwrap();
                runtime.crash(Crash::Power);
                std::future::pending().await
            });
            assert!(ended.is_crash());
            sizes.insert(content(&simulation).map(|content| content.len()));
        }
        assert_eq!(sizes, BTreeSet::from([None, Some(4096)]));
    }

    #[test]
    fn a_creation_that_a_crash_interrupts_may_leave_what_the_next_one_removes() {
        let left = |simulation: &Simulation| {
            let names = [unfinished(Path::new(PATH)), PathBuf::from(PATH)];
            names.map(|path| simulation.disk().content(&path).map(|content| content.len()))
        };
        let (mut unfinished_ones, mut finished_ones) = (0, 0);
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            let ended: Ended<()> = simulation.run(|runtime| async move {
                runtime.create_directory(Path::new("/data")).await.unwrap();
                let creating = runtime.clone();
                runtime.spawn(async move {
                    let _ = creating.create(Path::new(PATH), 4096).await;
                });
                runtime.yield_now().await;
                runtime.crash(Crash::Process);
                std::future::pending().await
            });
            assert!(ended.is_crash());
            match left(&simulation) {
                [Some(bytes), None] => {
                    assert!(bytes <= 4096);
                    unfinished_ones += 1;
                }
                [None, Some(4096)] => {
                    finished_ones += 1;
                    continue;
                }
                [None, None] => {}
                other => panic!("{other:?}"),
            }
            let create = |runtime: SimulatedRuntime| async move {
                runtime.create(Path::new(PATH), 8192).await.unwrap();
            };
            simulation.run(create).finished();
            assert_eq!(left(&simulation), [None, Some(8192)]);
        }
        assert!(unfinished_ones > 0 && finished_ones > 0, "{unfinished_ones}, {finished_ones}");
    }

    #[test]
    fn names_follow_their_own_order_at_a_power_cut() {
        // Removed and created again: the old file, none, or the new one, but never the new one's name without its turn.
        let mut seen = BTreeSet::new();
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            let ended: Ended<()> = simulation.run(|runtime| async move {
                durable_file(&runtime, 4096).await;
                runtime.remove(Path::new(PATH)).await.unwrap();
                let file = runtime.create(Path::new(PATH), 8192).await.unwrap();
                file.flush().await.unwrap();
                runtime.crash(Crash::Power);
                std::future::pending().await
            });
            assert!(ended.is_crash());
            seen.insert(content(&simulation).map(|content| content.len()));
        }
        assert_eq!(seen, BTreeSet::from([None, Some(4096), Some(8192)]));
    }

    #[test]
    fn reads_see_writes_in_flight_by_sector() {
        let mut seen = BTreeSet::new();
        for seed in 0..SEEDS {
            let first = Simulation::new(seed).run(|runtime| async move {
                let file = durable_file(&runtime, 4096).await;
                let write = file.write_at(buffer(&runtime, 4096, 1), 0);
                runtime.spawn(async move { write.await.unwrap() });
                runtime.yield_now().await;
                file.read_at(0, 4096).await.unwrap().as_slice().to_vec()
            });
            seen.insert(sectors(&first.finished()));
        }
        assert!(seen.contains(&vec![1; 8]));
        assert!(seen.iter().any(|sectors| sectors.contains(&0) && sectors.contains(&1)));
    }

    #[test]
    fn reads_see_completed_writes_and_zeroes_after_the_end() {
        let read = Simulation::new(1).run(|runtime| async move {
            let file = durable_file(&runtime, 8192).await;
            file.write_at(buffer(&runtime, 4096, 1), 4096).await.unwrap();
            file.read_at(0, 16384).await.unwrap().as_slice().to_vec()
        });
        let mut expected = vec![0; 16384];
        expected[4096..8192].fill(1);
        assert_eq!(read.finished(), expected);
    }

    #[test]
    fn after_a_failed_flush_a_later_one_saves_nothing() {
        let mut lost = false;
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            simulation.disk().fail(Operation::Flush, "segment", 0);
            let ended: Ended<()> = simulation.run(|runtime| async move {
                let file = durable_file(&runtime, 4096).await;
                file.write_at(buffer(&runtime, 4096, 1), 0).await.unwrap();
                assert_eq!(file.flush().await.unwrap_err().raw_os_error(), Some(libc::EIO));
                file.flush().await.unwrap();
                assert_eq!(file.read_at(0, 4096).await.unwrap().as_slice(), [1; 4096]);
                runtime.crash(Crash::Power);
                std::future::pending().await
            });
            assert!(ended.is_crash());
            lost |= content(&simulation).unwrap() == [0; 4096];
        }
        assert!(lost);
    }

    #[test]
    fn a_failed_write_may_have_happened() {
        let mut seen = BTreeSet::new();
        for seed in 0..SEEDS {
            let mut simulation = Simulation::new(seed);
            simulation.disk().fail(Operation::Write, "segment", 1);
            simulation
                .run(|runtime| async move {
                    let file = durable_file(&runtime, 8192).await;
                    file.write_at(buffer(&runtime, 4096, 1), 4096).await.unwrap();
                    assert!(file.write_at(buffer(&runtime, 4096, 1), 0).await.is_err());
                })
                .finished();
            seen.insert(sectors(&content(&simulation).unwrap()[..4096]));
        }
        assert!(seen.contains(&vec![0; 8]) && seen.contains(&vec![1; 8]) && seen.len() > 2);
    }

    #[test]
    fn a_full_disk_refuses_creations_until_something_is_removed() {
        Simulation::new(1)
            .run(|runtime| async move {
                runtime.disk().change(|options| options.capacity_bytes = 10_000);
                durable_file(&runtime, 8192).await;
                let full = runtime.create(Path::new("/data/other"), 4096).await;
                assert_eq!(full.err().unwrap().raw_os_error(), Some(libc::ENOSPC));
                runtime.remove(Path::new(PATH)).await.unwrap();
                runtime.create(Path::new("/data/other"), 4096).await.unwrap();
            })
            .finished();
    }

    #[test]
    fn names_behave_as_in_a_file_system() {
        Simulation::new(1)
            .run(|runtime| async move {
                let missing = runtime.create(Path::new(PATH), 4096).await;
                assert_eq!(missing.err().unwrap().raw_os_error(), Some(libc::ENOENT));
                durable_file(&runtime, 4096).await;
                let twice = runtime.create(Path::new(PATH), 4096).await;
                assert_eq!(twice.err().unwrap().raw_os_error(), Some(libc::EEXIST));
                assert_eq!(runtime.list(Path::new("/data")).await.unwrap(), ["segment"]);
                assert_eq!(runtime.open(Path::new(PATH)).await.unwrap().bytes(), 4096);
                runtime.remove(Path::new(PATH)).await.unwrap();
                assert!(runtime.open(Path::new(PATH)).await.is_err());
                assert!(runtime.list(Path::new("/data")).await.unwrap().is_empty());
            })
            .finished();
    }

    #[test]
    fn flipped_bits_are_read_and_a_fork_does_not_see_later_ones() {
        let mut simulation = Simulation::new(1);
        let path = Path::new(PATH);
        simulation.disk().plant(path, &[0; 8192]);
        simulation.disk().flip_bit(path, 4097, 0);
        let fork = simulation.disk().fork();
        simulation.disk().flip_bit(path, 0, 7);
        let read = |simulation: &mut Simulation| {
            let read = simulation.run(|runtime| async move {
                let file = runtime.open(Path::new(PATH)).await.unwrap();
                file.read_at(0, 8192).await.unwrap().as_slice().to_vec()
            });
            let read = read.finished();
            (read[0], read[4097])
        };
        assert_eq!(read(&mut simulation), (128, 1));
        assert_eq!(read(&mut Simulation::with_disk(2, fork)), (0, 1));
    }

    #[test]
    fn a_slow_flush_takes_its_delay() {
        let waited_us = Simulation::new(1).run(|runtime| async move {
            let file = durable_file(&runtime, 4096).await;
            runtime.disk().change(|options| options.flush_delay_us = 200_000);
            let before = runtime.now();
            file.flush().await.unwrap();
            runtime.now().since_us(before)
        });
        assert!(waited_us.finished() >= 200_000);
    }

    #[test]
    fn a_crash_can_be_aimed_at_the_end_of_an_operation() {
        let mut simulation = Simulation::new(1);
        simulation.disk().crash_at(Operation::Flush, Moment::Completed, "segment", 1, Crash::Power);
        let ended = simulation.run(|runtime| async move {
            let file = durable_file(&runtime, 4096).await;
            for round in 1..4 {
                file.write_at(buffer(&runtime, 4096, round), 0).await.unwrap();
                file.flush().await.unwrap();
            }
        });
        assert_eq!(ended, Ended::Crashed(Crash::Power));
        assert_eq!(content(&simulation).unwrap(), [2; 4096]);
    }
}
