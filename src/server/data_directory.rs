//! The data directories before any shard opens its store: the lock, whether the filesystem will do, and whether they are the
//! ones meant.
//!
//! Runs once, on the main thread, before an executor exists; only the last step, that every shard is in use, is taken by the
//! first shard before anything is served. Everything that an operator can have got wrong about a directory ends here, in one
//! line that says what to do.

mod belonging;
mod looking;
mod properties;
mod watch;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use belonging::{FoundDirectory, FoundShard, Plan, Step, judge, shard_path};
use properties::{DirectoryProperties, LAYOUT_VERSION, ShardProperties, random_id};

use crate::limits::{DIRECTORY_LOCK_PAUSE_MS, DIRECTORY_LOCK_TRIES, SHARDS_MAX};
use crate::store::format::{SEGMENT_HEADER_BYTES, SegmentHeader, parse_segment_file_name};
use crate::types::ShardId;

pub use belonging::Wanted;
pub use looking::{ShardDirectory, shards_in};
pub use watch::{Loss, Watch};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Another process holds the lock.
    #[error(
        "{path} is in use by another corelane (its lock file is held): stop it, or choose another --data directory"
    )]
    InUse {
        /// The directory.
        path: String,
    },
    /// Written by a later version.
    #[error(
        "{path} has layout version {found}, this corelane knows {LAYOUT_VERSION}: use the newer corelane that wrote it"
    )]
    NewerVersion {
        /// The directory.
        path: String,
        /// Its version.
        found: u32,
    },
    /// The filesystem cannot do direct I/O, or keeps nothing.
    #[error("{path} is on {filesystem}, which {reason}: choose a --data directory on ext4 or XFS")]
    Filesystem {
        /// The directory.
        path: String,
        /// Its filesystem's name.
        filesystem: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `--data` names something else.
    #[error("{path} is not a directory: choose another --data")]
    NotADirectory {
        /// What it names.
        path: String,
    },
    /// A tool was given something else.
    #[error("{path} holds no store: give the --data directories of `corelane serve`")]
    Nothing {
        /// The directory.
        path: String,
    },
    /// This user may not use it.
    #[error("{path}: cannot {action}: {cause}: let the user that runs corelane write there, or choose another --data")]
    NotWritable {
        /// The file or directory.
        path: String,
        /// What was tried.
        action: &'static str,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Two of them are one, or one lies inside of another.
    #[error("--data {path} is {what} --data {other}: give every directory once, none inside of another")]
    Overlap {
        /// The later one.
        path: String,
        /// "the same directory as" or "inside of".
        what: &'static str,
        /// The earlier one.
        other: String,
    },
    /// A `meta.properties` is damaged.
    #[error(
        "{path}: `{key}` is missing or damaged: restore the file from a backup of this directory, or remove it and start \
         with --accept-loss, which takes the directory as it is"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Which line.
        key: String,
    },
    /// Directories of two stores.
    #[error(
        "{path} belongs to cluster {found}, another --data directory to {expected}: give the directories of one store"
    )]
    Cluster {
        /// The directory.
        path: String,
        /// Its cluster.
        found: String,
        /// That of the others.
        expected: String,
    },
    /// Too many or too few directories.
    #[error(
        "{path} is data directory {number} of {count} of its store, and {given} were given: give all {count} with --data; \
         the number never changes", number = index + 1
    )]
    DirectoryCount {
        /// The directory.
        path: String,
        /// Its place, from 0.
        index: usize,
        /// How many the store has.
        count: usize,
        /// How many were given.
        given: usize,
    },
    /// A copy of another.
    #[error("{path} and {other} are both data directory {number} of their store: one is a copy, leave it out", number = index + 1)]
    SameDirectory {
        /// The directory.
        path: String,
        /// The other.
        other: String,
        /// Their place, from 0.
        index: usize,
    },
    /// A whole data directory is empty.
    #[error(
        "{path} has no meta.properties and no shards, though its store was in use: is its disk mounted? Put the directory \
         back; or start with --accept-loss, and what its shards ({shards}) had acknowledged is lost"
    )]
    LostDirectory {
        /// The directory.
        path: String,
        /// The shards that should be there.
        shards: String,
    },
    /// Shards without the file that says which there should be.
    #[error(
        "{path} is missing, though there are shards beside it: restore it from a backup of this directory; or start with \
         --accept-loss, which takes the shards that are there for all there were"
    )]
    NoProperties {
        /// The file.
        path: String,
    },
    /// A shard's directory is gone or empty.
    #[error(
        "{path} {what}, though shard {shard} was in use: is its disk mounted? Put the directory back; or start with \
         --accept-loss, and all that shard {shard} had acknowledged is lost"
    )]
    LostShard {
        /// The directory.
        path: String,
        /// "is missing" or "holds no log".
        what: &'static str,
        /// Whose it is.
        shard: ShardId,
    },
    /// A shard's directory does not say whose it is.
    #[error(
        "{path} is missing, so nothing says that the log there is that of shard {shard}: restore it from a backup of this \
         directory; or start with --accept-loss, which takes the log as it is"
    )]
    Unproven {
        /// The file.
        path: String,
        /// Whose it should be.
        shard: ShardId,
    },
    /// A directory of something else.
    #[error(
        "{path} holds {holds}, not {wanted}: put the right directory there; if that one is lost for good, move this one away \
         and start with --accept-loss"
    )]
    Foreign {
        /// The directory.
        path: String,
        /// What it says it is.
        holds: String,
        /// What should be there.
        wanted: String,
    },
    /// A shard that nothing knows of.
    #[error("{path} holds a log, but the store has no such shard there: move it out of the data directory")]
    Unlisted {
        /// The directory.
        path: String,
    },
    /// The store has more.
    #[error(
        "--shards {asked} is less than the {shards} that the store has, and each holds data: give --shards {shards} or leave it out"
    )]
    TooFewShards {
        /// What was asked for.
        asked: u16,
        /// What there is.
        shards: u16,
    },
    /// Any other failure of the system.
    #[error("{path}: cannot {action}: {cause}")]
    Io {
        /// The file or directory.
        path: String,
        /// What was tried.
        action: &'static str,
        /// The system's words.
        cause: std::io::Error,
    },
}

/// The data directories of this process, locked as long as this value lives.
#[derive(Debug)]
pub struct DataDirectories {
    plan: Plan,
    segment_files: u64,
    _locks: Vec<File>,
}

impl DataDirectories {
    /// Creates the directories that are missing, locks them, and makes sure that they are those of one store, all of it.
    /// Nothing of the store is changed before [`DataDirectories::prepare`].
    pub fn open(paths: &[PathBuf], wanted: Wanted) -> Result<DataDirectories, DirectoryError> {
        assert!(!paths.is_empty());
        for path in paths {
            create_durably(path)?;
        }
        check_overlap(paths)?;
        let mut locks = Vec::new();
        let mut found = Vec::new();
        for path in paths {
            check_filesystem(path)?;
            locks.push(lock(path)?);
            found.push(find(path)?);
        }
        let segment_files = found.iter().flat_map(|found| found.shards.values()).map(|shard| shard.segment_files).sum();
        Ok(DataDirectories { plan: judge(found, wanted, &mut random_id)?, segment_files, _locks: locks })
    }

    /// Makes the directories ready for their stores to be opened, and says what was accepted.
    pub fn prepare(&self) -> Result<(), DirectoryError> {
        for warning in &self.plan.warnings {
            tracing::warn!("{warning}");
        }
        if self.plan.is_new {
            let paths: Vec<String> = self.plan.directories.iter().map(|(path, _)| path.display().to_string()).collect();
            tracing::info!("a new store begins in {}, cluster {}", paths.join(", "), self.plan.cluster_id);
        }
        self.plan.steps.iter().try_for_each(Step::run)
    }

    /// Whether [`DataDirectories::enter_use`] has anything to say.
    pub fn has_unused_shards(&self) -> bool {
        !self.plan.steps_to_used().is_empty()
    }

    /// Says durably that every shard is in use: from now on none may be missing. When all stores are open, and before anything
    /// is served. Blocks for a few flushes where there is something to say: at the first start, and after shards were added.
    pub fn enter_use(&self) -> Result<(), DirectoryError> {
        self.plan.steps_to_used().iter().try_for_each(Step::run)
    }

    /// What tells whether the shards' directories stay the ones that they are now.
    pub fn watch(&self) -> Result<Watch, DirectoryError> {
        let paths = (0..self.shard_count()).map(|shard| properties::path_in(&self.of_shard(ShardId::new(shard))));
        Watch::new(paths).map_err(io(&self.plan.directories[0].0, "look at the directories of the shards in it"))
    }

    /// Kafka's cluster id: 22 characters of base64, made at the first start.
    pub fn cluster_id(&self) -> &str {
        &self.plan.cluster_id
    }

    /// How many shards the store has: as many as at any start so far.
    pub fn shard_count(&self) -> u16 {
        self.plan.shard_count
    }

    /// Segment files of all shards: each is held open.
    pub fn segment_files(&self) -> u64 {
        self.segment_files
    }

    /// Where a shard keeps its log: shard *i* lives on directory *i* mod *n*.
    pub fn of_shard(&self, shard: ShardId) -> PathBuf {
        let (path, _) = &self.plan.directories[shard.index() % self.plan.directories.len()];
        shard_path(path, shard)
    }

    /// How many shards share the device of a shard, as far as the directories tell.
    pub fn shards_beside(&self, shard: ShardId) -> u16 {
        let count = u16::try_from(self.plan.directories.len()).expect("few directories");
        let index = shard.value() % count;
        (self.plan.shard_count - index).div_ceil(count)
    }
}

impl Step {
    fn run(&self) -> Result<(), DirectoryError> {
        match self {
            Step::Create(path) => create_durably(path),
            Step::Write(directory, text) => {
                properties::replace(directory, text).map_err(io(&properties::path_in(directory), "write it"))
            }
        }
    }
}

/// Creates a directory and its missing parents; a crash later does not take them away.
fn create_durably(path: &Path) -> Result<(), DirectoryError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => return Err(DirectoryError::NotADirectory { path: path.display().to_string() }),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(DirectoryError::NotADirectory { path: path.display().to_string() });
        }
        Err(error) => return Err(io(path, "look at it")(error)),
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_durably(parent)?;
    let create = || {
        fs::create_dir(path)?;
        File::open(parent)?.sync_all()
    };
    create().map_err(io(path, "create the directory"))
}

/// The shards of one process share nothing on disk, and neither do directories.
fn check_overlap(paths: &[PathBuf]) -> Result<(), DirectoryError> {
    let mut real = Vec::new();
    for path in paths {
        real.push(fs::canonicalize(path).map_err(io(path, "look at it"))?);
    }
    for (index, path) in real.iter().enumerate() {
        for (other_index, other) in real.iter().enumerate().filter(|(other_index, _)| *other_index != index) {
            let what = match path == other {
                true => "the same directory as",
                false if path.starts_with(other) => "inside of",
                false => continue,
            };
            let (path, other) = (paths[index].display().to_string(), paths[other_index].display().to_string());
            return Err(DirectoryError::Overlap { path, what, other });
        }
    }
    Ok(())
}

/// Looks at a data directory and the shards in it.
fn find(path: &Path) -> Result<FoundDirectory, DirectoryError> {
    let mut shards = BTreeMap::new();
    for shard in (0..SHARDS_MAX).map(ShardId::new) {
        let directory = shard_path(path, shard);
        if let Some(found) = find_shard(&directory)? {
            shards.insert(shard, found);
        }
    }
    Ok(FoundDirectory { path: path.to_path_buf(), properties: DirectoryProperties::read(path)?, shards })
}

/// Looks at a shard's directory; `None` where there is none.
fn find_shard(directory: &Path) -> Result<Option<FoundShard>, DirectoryError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(directory, "list it")(error)),
    };
    let mut found = FoundShard { properties: ShardProperties::read(directory)?, ..FoundShard::default() };
    for entry in entries {
        let entry = entry.map_err(io(directory, "list it"))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        found.has_checkpoints |= name.starts_with("checkpoint-");
        if parse_segment_file_name(&name).is_none() {
            continue;
        }
        found.segment_files += 1;
        // Where the directory says whose it is, a look at the segments is the store's own affair.
        if found.properties.is_none() && found.segments_of.is_none() {
            found.segments_of = segment_of(&entry.path())?;
        }
    }
    Ok(Some(found))
}

/// The shard that the header of a segment file names, if it has one that can be read.
fn segment_of(path: &Path) -> Result<Option<ShardId>, DirectoryError> {
    let mut header = Vec::new();
    let file = File::open(path).map_err(io(path, "read it"))?;
    file.take(u64::from(SEGMENT_HEADER_BYTES)).read_to_end(&mut header).map_err(io(path, "read it"))?;
    Ok(SegmentHeader::decode(&header).ok().map(|header| header.shard))
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> DirectoryError + use<> {
    let path = path.display().to_string();
    move |cause| match cause.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            DirectoryError::NotWritable { path, action, cause }
        }
        _ => DirectoryError::Io { path, action, cause },
    }
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io(&path, "create the lock file"))?;
    // One that was killed holds it until its last thread has ended.
    for _ in 0..DIRECTORY_LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(DIRECTORY_LOCK_PAUSE_MS)),
            Err(TryLockError::Error(error)) => return Err(io(&path, "lock it")(error)),
        }
    }
    Err(DirectoryError::InUse { path: directory.display().to_string() })
}

fn check_filesystem(directory: &Path) -> Result<(), DirectoryError> {
    let filesystem = filesystem_of(directory);
    let refuse = |reason| DirectoryError::Filesystem {
        path: directory.display().to_string(),
        filesystem: filesystem.to_owned(),
        reason,
    };
    match filesystem {
        "tmpfs" | "ramfs" => return Err(refuse("keeps nothing across a restart of the machine")),
        "overlayfs" => {
            return Err(refuse("copies files behind a broker's back (in a container, mount a volume)"));
        }
        "btrfs" | "zfs" => tracing::warn!(
            "{} is on {filesystem}, which copies on write: direct writes there are slower and a full device fails late",
            directory.display()
        ),
        _ => {}
    }
    let probe = directory.join(".direct-io-probe");
    let opened = OpenOptions::new().create(true).truncate(true).write(true).custom_flags(libc::O_DIRECT).open(&probe);
    let outcome = match opened {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(refuse("cannot do direct I/O")),
        Err(error) => Err(io(&probe, "create a file")(error)),
    };
    // A probe that could not be created cannot be removed either; its absence is what is wanted.
    let _ = fs::remove_file(&probe);
    outcome
}

/// The filesystem's name as far as it matters here; "unknown" for all others, and then only the probe decides.
fn filesystem_of(directory: &Path) -> &'static str {
    // The numbers are those of the kernel's `magic.h`, and of OpenZFS.
    let magic = rustix::fs::statfs(directory).map_or(0, |filesystem| u64::try_from(filesystem.f_type).unwrap_or(0));
    match magic {
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0x794c_7630 => "overlayfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        _ => "unknown",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Beside the test binary: the build directory is on a real disk even where /tmp is not.
    pub(super) fn scratch() -> tempfile::TempDir {
        let binary = std::env::current_exe().unwrap();
        tempfile::tempdir_in(binary.parent().unwrap()).unwrap()
    }

    const DEFAULT: Wanted = Wanted { shards: None, shards_default: 1, accept_loss: false };

    fn asked(shards: u16) -> Wanted {
        Wanted { shards: Some(shards), ..DEFAULT }
    }

    /// What the stores of a start leave behind first: a segment each.
    fn open_stores(directories: &DataDirectories) {
        for shard in (0..directories.shard_count()).map(ShardId::new) {
            let segment = directories.of_shard(shard).join("segment-0000000000000001");
            if !segment.exists() {
                fs::write(segment, segment_header(shard)).unwrap();
            }
        }
    }

    fn segment_header(shard: ShardId) -> Vec<u8> {
        use crate::store::format::Stream;
        use crate::types::{Incarnation, LogPosition, SegmentNumber};
        let header = SegmentHeader {
            version: crate::store::format::FORMAT_VERSION,
            shard,
            stream: Stream::Hot,
            number: SegmentNumber::new(1),
            incarnation: Incarnation::new(1),
            bytes: 1 << 20,
            predecessor: LogPosition::default(),
            checkpoint_sequence: 0,
            durable: LogPosition::default(),
        };
        header.encode()
    }

    /// A whole start. Gives the cluster id and the number of shards.
    fn start(paths: &[PathBuf], wanted: Wanted) -> Result<(String, u16), DirectoryError> {
        let directories = DataDirectories::open(paths, wanted)?;
        directories.prepare()?;
        open_stores(&directories);
        directories.enter_use()?;
        assert!(!find(&paths[0]).unwrap().properties.unwrap().shards.is_empty());
        Ok((directories.cluster_id().to_owned(), directories.shard_count()))
    }

    /// All files below, with their content: what a crash leaves is held against it.
    fn content(paths: &[PathBuf]) -> String {
        let mut text = String::new();
        let mut left: Vec<PathBuf> = paths.iter().rev().cloned().collect();
        while let Some(path) = left.pop() {
            if path.is_dir() {
                let mut below: Vec<PathBuf> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
                below.sort();
                left.extend(below.into_iter().rev());
            } else if path.exists() && path.file_name().unwrap() != ".lock" {
                let content = fs::read(&path).unwrap();
                writeln!(text, "{}: {}", path.display(), String::from_utf8_lossy(&content)).unwrap();
            }
        }
        text
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    /// Takes the store back to version 1 of the layout, which knew no ids of directories.
    fn downgrade(paths: &[PathBuf], shards: u16) {
        for (index, path) in paths.iter().enumerate() {
            let found = find(path).unwrap();
            let text = format!(
                "version=1\ncluster.id={}\nshards={shards}\ndirectory.index={index}\ndirectory.count={}\n",
                found.properties.unwrap().cluster_id,
                paths.len()
            );
            fs::write(properties::path_in(path), text).unwrap();
            for shard in found.shards.keys() {
                fs::remove_file(properties::path_in(&shard_path(path, *shard))).unwrap();
            }
        }
    }

    fn two(scratch: &tempfile::TempDir) -> Vec<PathBuf> {
        vec![scratch.path().join("a"), scratch.path().join("b")]
    }

    #[test]
    fn cluster_id_and_shards_survive_and_shards_never_fall() {
        let scratch = scratch();
        let paths = two(&scratch);
        let (id, count) = start(&paths, asked(3)).unwrap();
        assert_eq!((id.len(), count), (22, 3));
        let directories = DataDirectories::open(&paths, DEFAULT).unwrap();
        assert_eq!(directories.shard_count(), 3, "as many as there are, where nothing is asked for");
        assert_eq!(directories.of_shard(ShardId::new(2)), paths[0].join("shard-2"));
        assert_eq!((directories.shards_beside(ShardId::new(0)), directories.shards_beside(ShardId::new(1))), (2, 1));
        assert!(!directories.has_unused_shards());
        drop(directories);
        let before = content(&paths);
        let error = start(&paths, asked(2)).unwrap_err();
        assert!(matches!(error, DirectoryError::TooFewShards { asked: 2, shards: 3 }), "{error}");
        assert_eq!(start(&paths, asked(3)).unwrap(), (id.clone(), 3));
        assert_eq!(content(&paths), before, "a start that finds all in place writes nothing");
        assert_eq!(start(&paths, asked(5)).unwrap(), (id, 5));
    }

    #[test]
    fn the_order_of_data_directories_does_not_matter() {
        let scratch = scratch();
        let paths = two(&scratch);
        let first = start(&paths, asked(2)).unwrap();
        let swapped = vec![paths[1].clone(), paths[0].clone()];
        let directories = DataDirectories::open(&swapped, DEFAULT).unwrap();
        assert_eq!(directories.of_shard(ShardId::new(1)), paths[1].join("shard-1"));
        drop(directories);
        assert_eq!(start(&swapped, DEFAULT).unwrap(), first);
    }

    #[test]
    fn a_second_process_is_refused() {
        let scratch = scratch();
        let paths = vec![scratch.path().to_owned()];
        let _held = DataDirectories::open(&paths, asked(1)).unwrap();
        assert!(matches!(DataDirectories::open(&paths, asked(1)), Err(DirectoryError::InUse { .. })));
    }

    #[test]
    fn what_is_no_directory_of_its_own_is_refused() {
        let scratch = scratch();
        let (a, file) = (scratch.path().join("a"), scratch.path().join("file"));
        fs::write(&file, "").unwrap();
        let refused = |paths: &[PathBuf]| DataDirectories::open(paths, DEFAULT).unwrap_err().to_string();
        assert!(refused(std::slice::from_ref(&file)).ends_with("file is not a directory: choose another --data"));
        assert!(refused(&[file.join("below")]).contains("file/below is not a directory"));
        assert!(refused(&[a.clone(), a.join(".")]).contains(" is the same directory as --data "));
        assert!(refused(&[a.clone(), a.join("b")]).contains("a/b is inside of --data "));
        assert!(refused(&[a.join("b"), a.clone()]).contains("a/b is inside of --data "));
    }

    #[test]
    fn a_tmpfs_is_refused() {
        if filesystem_of(Path::new("/dev/shm")) == "tmpfs" {
            let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
            let paths = vec![scratch.path().to_owned()];
            assert!(matches!(DataDirectories::open(&paths, DEFAULT), Err(DirectoryError::Filesystem { .. })));
        }
    }

    #[test]
    fn a_newer_layout_is_refused() {
        let scratch = scratch();
        let paths = two(&scratch);
        start(&paths, asked(1)).unwrap();
        let properties = properties::path_in(&paths[0]);
        let text = fs::read_to_string(&properties).unwrap().replace("version=2", "version=3");
        fs::write(&properties, text).unwrap();
        assert!(matches!(DataDirectories::open(&paths, DEFAULT), Err(DirectoryError::NewerVersion { found: 3, .. })));
    }

    /// A store of four shards on two directories that was in use, and what an operator or a disk did to it since.
    type Mishap = (&'static str, fn(&[PathBuf]), &'static str, Past);

    /// What `--accept-loss` makes of it.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Past {
        /// A start, of which it says so many things.
        Warnings(usize),
        /// Nothing: what is there belongs elsewhere.
        Refused,
    }
    use Past::{Refused, Warnings};

    fn remove(path: PathBuf) {
        fs::remove_dir_all(path).unwrap();
    }

    fn empty(path: PathBuf) {
        fs::remove_dir_all(&path).unwrap();
        fs::create_dir(path).unwrap();
    }

    fn swap(a: PathBuf, b: PathBuf) {
        let aside = a.with_extension("aside");
        fs::rename(&a, &aside).unwrap();
        fs::rename(&b, &a).unwrap();
        fs::rename(&aside, &b).unwrap();
    }

    /// Another store's directory with the same names.
    fn other_store(paths: &[PathBuf]) -> Vec<PathBuf> {
        let others: Vec<PathBuf> = paths.iter().map(|path| path.with_extension("other")).collect();
        start(&others, asked(4)).unwrap();
        others
    }

    const MISHAPS: &[Mishap] = &[
        (
            "a shard is missing",
            |d| remove(d[1].join("shard-1")),
            "b/shard-1 is missing, though shard 1 was in use",
            Warnings(1),
        ),
        ("a shard's disk is not mounted", |d| empty(d[1].join("shard-1")), "b/shard-1 holds no log", Warnings(1)),
        (
            "a shard's disk is new",
            |d| {
                empty(d[0].join("shard-2"));
                fs::create_dir(d[0].join("shard-2/lost+found")).unwrap();
            },
            "a/shard-2 holds no log",
            Warnings(1),
        ),
        ("the metadata's shard is missing", |d| remove(d[0].join("shard-0")), "a/shard-0 is missing", Warnings(1)),
        (
            "a shard was emptied but for its name",
            |d| fs::remove_file(d[1].join("shard-3/segment-0000000000000001")).unwrap(),
            "b/shard-3 holds no log",
            Warnings(1),
        ),
        (
            "a shard's name is gone",
            |d| fs::remove_file(d[1].join("shard-3/meta.properties")).unwrap(),
            "b/shard-3/meta.properties is missing, so nothing says that the log there is that of shard 3",
            Warnings(1),
        ),
        (
            "two shards are exchanged",
            |d| swap(d[0].join("shard-0"), d[1].join("shard-1")),
            "holds shard 1 of this store",
            Refused,
        ),
        (
            "a shard is another's, without names",
            |d| {
                remove(d[0].join("shard-0"));
                copy(&d[1].join("shard-1"), &d[0].join("shard-0"));
                fs::remove_file(d[0].join("shard-0/meta.properties")).unwrap();
            },
            "a/shard-0 holds the log of shard 1, not shard 0",
            Refused,
        ),
        (
            "a shard is another broker's",
            |d| swap(d[1].join("shard-1"), other_store(d)[1].join("shard-1")),
            "b/shard-1 holds shard 1 of cluster ",
            Refused,
        ),
        (
            "a data directory is another broker's",
            |d| swap(d[1].clone(), other_store(d)[1].clone()),
            "belongs to cluster ",
            Refused,
        ),
        (
            "a shard was copied in",
            |d| copy(&d[0].join("shard-0"), &d[0].join("shard-4")),
            "a/shard-4 holds a log, but the store has no such shard there",
            Refused,
        ),
        (
            "a shard lies where none should",
            |d| copy(&d[0].join("shard-0"), &d[1].join("shard-0")),
            "b/shard-0 holds a log, but the store has no such shard there",
            Refused,
        ),
        ("a disk is not mounted", |d| empty(d[1].clone()), "b has no meta.properties and no shards", Warnings(3)),
        (
            "a disk is new",
            |d| {
                empty(d[1].clone());
                fs::create_dir(d[1].join("lost+found")).unwrap();
            },
            "its shards (1, 3)",
            Warnings(3),
        ),
        (
            "a data directory is missing",
            |d| remove(d[0].clone()),
            "a has no meta.properties and no shards",
            Warnings(3),
        ),
        (
            "the list of shards is gone",
            |d| fs::remove_file(properties::path_in(&d[0])).unwrap(),
            "a/meta.properties is missing, though there are shards beside it",
            Warnings(1),
        ),
        (
            "both lists of shards are gone",
            |d| d.iter().for_each(|path| fs::remove_file(properties::path_in(path)).unwrap()),
            "meta.properties is missing, though there are shards beside it",
            Warnings(2),
        ),
        (
            "the list of shards is damaged",
            |d| fs::write(properties::path_in(&d[0]), "").unwrap(),
            "a/meta.properties: `version` is missing or damaged",
            Refused,
        ),
        (
            "one directory is a copy of the other",
            |d| {
                remove(d[1].clone());
                copy(&d[0], &d[1]);
            },
            "are both data directory 1 of their store",
            Refused,
        ),
    ];

    /// A missing shard was served as an empty one, an exchanged one as what it was not: every directory now proves that it is
    /// the one meant, and a start says in one line what is wrong and what to do.
    #[test]
    fn a_store_that_is_not_whole_is_refused_unless_its_loss_is_accepted() {
        for (what, happens, words, past) in MISHAPS {
            let scratch = scratch();
            let paths = two(&scratch);
            let (cluster, _) = start(&paths, asked(4)).unwrap();
            happens(&paths);
            let before = content(&paths);
            for wanted in [DEFAULT, asked(4), asked(6)] {
                let error = start(&paths, wanted).expect_err(what).to_string();
                assert!(error.contains(words) || wanted.shards == Some(6), "{what}: {error}");
                assert!(!error.contains('\n'), "{what}: {error}");
            }
            assert_eq!(content(&paths), before, "{what}: a start that is refused writes nothing");
            let accepting = Wanted { accept_loss: true, ..asked(4) };
            let opened = DataDirectories::open(&paths, accepting);
            match past {
                Refused => {
                    let error = opened.expect_err(what).to_string();
                    assert!(error.contains(words), "{what}: {error}");
                    assert_eq!(content(&paths), before, "{what}");
                }
                Warnings(count) => {
                    let warnings = opened.unwrap_or_else(|error| panic!("{what}: {error}")).plan.warnings;
                    assert_eq!(warnings.len(), *count, "{what}: {warnings:?}");
                    assert_eq!(start(&paths, accepting).unwrap(), (cluster.clone(), 4), "{what}");
                    let again =
                        DataDirectories::open(&paths, DEFAULT).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(again.plan.steps, [], "{what}: accepted once is enough");
                }
            }
        }
    }

    /// After its loss was accepted, an old disk that comes back is not the one that the store has now.
    #[test]
    fn what_was_lost_and_comes_back_is_not_taken() {
        for lost in ["b", "b/shard-1"] {
            let scratch = scratch();
            let paths = two(&scratch);
            start(&paths, asked(2)).unwrap();
            let (lost, aside) = (scratch.path().join(lost), scratch.path().join("aside"));
            fs::rename(&lost, &aside).unwrap();
            start(&paths, Wanted { accept_loss: true, ..DEFAULT }).unwrap();
            swap(lost, aside);
            for accept_loss in [false, true] {
                let error = start(&paths, Wanted { accept_loss, ..DEFAULT }).unwrap_err();
                assert!(matches!(error, DirectoryError::Foreign { .. }), "{error}");
                assert!(error.to_string().contains("of another time"), "{error}");
            }
        }
    }

    #[test]
    fn stores_of_version_1_are_taken_in() {
        for directories in [1, 2] {
            let scratch = scratch();
            let paths = two(&scratch)[..directories].to_vec();
            let first = start(&paths, asked(4)).unwrap();
            downgrade(&paths, 4);
            assert_eq!(start(&paths, DEFAULT).unwrap(), first);
            let again = DataDirectories::open(&paths, DEFAULT).unwrap();
            assert_eq!(again.plan.steps, []);
            assert!(again.plan.directories.iter().all(|(_, known)| known.shards.values().all(|entry| entry.is_used)));
        }
    }

    #[test]
    fn shards_of_version_1_that_are_missing_or_exchanged_are_refused() {
        let scratch = scratch();
        let paths = vec![scratch.path().join("a")];
        let (cluster, _) = start(&paths, asked(2)).unwrap();
        downgrade(&paths, 2);
        swap(paths[0].join("shard-0"), paths[0].join("shard-1"));
        let error = start(&paths, DEFAULT).unwrap_err().to_string();
        assert!(error.contains("a/shard-0 holds the log of shard 1, not shard 0"), "{error}");
        swap(paths[0].join("shard-0"), paths[0].join("shard-1"));
        remove(paths[0].join("shard-1"));
        let error = start(&paths, DEFAULT).unwrap_err();
        assert!(matches!(error, DirectoryError::LostShard { .. }), "{error}");
        assert_eq!(start(&paths, Wanted { accept_loss: true, ..DEFAULT }).unwrap(), (cluster.clone(), 2));
        assert_eq!(start(&paths, DEFAULT).unwrap(), (cluster, 2));
    }

    #[test]
    fn a_first_start_of_version_1_that_came_to_no_log_is_a_first_start() {
        let scratch = scratch();
        let paths = vec![scratch.path().join("a")];
        start(&paths, asked(1)).unwrap();
        downgrade(&paths, 7);
        remove(paths[0].join("shard-0"));
        assert_eq!(start(&paths, asked(2)).unwrap().1, 2);
    }

    /// What a crash test starts from, and what is done then.
    type Way = (&'static str, usize, fn(&[PathBuf]), Wanted);

    const WAYS: &[Way] = &[
        ("first start", 1, |_| {}, Wanted { shards: Some(3), ..DEFAULT }),
        ("first start on two disks", 2, |_| {}, Wanted { shards: Some(3), ..DEFAULT }),
        ("shards are added", 2, |d| drop(start(d, asked(2)).unwrap()), Wanted { shards: Some(5), ..DEFAULT }),
        (
            "version 1 is taken in",
            2,
            |d| {
                start(d, asked(3)).unwrap();
                downgrade(d, 3);
            },
            DEFAULT,
        ),
        (
            "version 1 is taken in and shards are added",
            1,
            |d| {
                start(d, asked(2)).unwrap();
                downgrade(d, 2);
            },
            Wanted { shards: Some(4), ..DEFAULT },
        ),
        (
            "the loss of a shard is accepted",
            2,
            |d| {
                start(d, asked(4)).unwrap();
                remove(d[1].join("shard-3"));
            },
            Wanted { accept_loss: true, ..DEFAULT },
        ),
    ];

    /// A start may end after each of its steps, and in the middle of one. The next finds its way without `--accept-loss`,
    /// the store keeps its name, and a shard that was in use stays the one that it was.
    #[test]
    fn a_start_that_crashed_at_any_step_can_be_started_again() {
        for (what, count, before, wanted) in WAYS {
            let mut crash_at = 0;
            loop {
                let scratch = scratch();
                let paths = two(&scratch)[..*count].to_vec();
                before(&paths);
                let known = paths
                    .iter()
                    .filter(|path| path.exists())
                    .map(|path| find(path).unwrap().shards.len())
                    .sum::<usize>();
                let directories = DataDirectories::open(&paths, *wanted).unwrap();
                let cluster = directories.cluster_id().to_owned();
                let (first, last) = (directories.plan.steps.clone(), directories.plan.steps_to_used());
                let done = crash_at.min(first.len() + 1 + last.len());
                for step in 0..done {
                    match step {
                        step if step < first.len() => first[step].run().unwrap(),
                        step if step == first.len() => open_stores(&directories),
                        step => last[step - first.len() - 1].run().unwrap(),
                    }
                }
                let next =
                    if done < first.len() { first.get(done) } else { last.get(done.wrapping_sub(first.len() + 1)) };
                if let Some(Step::Write(directory, text)) = next {
                    fs::write(directory.join("meta.properties.new"), &text[..text.len() / 2]).unwrap();
                }
                drop(directories);
                let was_written = done > 0 || known > 0;
                // The very first step of accepting a loss is the one that makes it so.
                let accept_loss = wanted.accept_loss && done == 0;
                let again = start(&paths, Wanted { accept_loss, ..*wanted });
                let (found, shards) = again.unwrap_or_else(|error| panic!("{what}, step {done}: {error}"));
                assert!(found == cluster || !was_written, "{what}, step {done}");
                assert_eq!(start(&paths, DEFAULT).unwrap(), (found, shards), "{what}, step {done}");
                if done < crash_at {
                    break;
                }
                crash_at += 1;
            }
            assert!(crash_at > 2, "{what}");
        }
    }

    /// Only the last step makes a shard one that must be there; after it, every shard must.
    #[test]
    fn a_shard_may_be_missing_until_the_store_enters_use_and_not_after() {
        let scratch = scratch();
        let paths = two(&scratch);
        for shard in 0..3 {
            let directories = DataDirectories::open(&paths, asked(3)).unwrap();
            directories.prepare().unwrap();
            open_stores(&directories);
            drop(directories);
            remove(paths[shard % 2].join(format!("shard-{shard}")));
        }
        start(&paths, asked(3)).unwrap();
        for shard in 0..3 {
            let (path, aside) = (paths[shard % 2].join(format!("shard-{shard}")), scratch.path().join("aside"));
            fs::rename(&path, &aside).unwrap();
            assert!(matches!(start(&paths, DEFAULT), Err(DirectoryError::LostShard { .. })));
            fs::rename(&aside, &path).unwrap();
        }
    }
}
