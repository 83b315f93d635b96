//! The data directories before any shard opens its store: the lock, `meta.properties`, and whether the filesystem will do.
//!
//! Runs once, on the main thread, before an executor exists. Everything that an operator can have got wrong about a
//! directory ends here, in one line that says what to do.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use uuid::Uuid;

use crate::limits::SHARDS_MAX;
use crate::types::{ShardId, TopicId};

/// Version of the directory layout that this program writes; a higher one is refused.
const LAYOUT_VERSION: u32 = 1;

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
    /// `meta.properties` is damaged, or the directories do not belong together.
    #[error("{path}: {reason}")]
    Meta {
        /// The file or directory.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
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
    paths: Vec<PathBuf>,
    /// Kafka's cluster id: 22 characters of base64, made at the first start.
    pub cluster_id: String,
    /// How many shards the store has: as many as at any start so far.
    pub shard_count: u16,
    _locks: Vec<File>,
}

impl DataDirectories {
    /// Creates what is missing, locks every directory, and settles cluster id and shard count: the count never falls,
    /// since each shard's log must be served.
    pub fn open(paths: &[PathBuf], shards_wanted: u16) -> Result<DataDirectories, DirectoryError> {
        assert!(!paths.is_empty());
        let mut locks = Vec::new();
        let mut metas = Vec::new();
        for path in paths {
            fs::create_dir_all(path).map_err(io(path, "create the directory"))?;
            check_filesystem(path)?;
            locks.push(lock(path)?);
            metas.push(Meta::read(path)?);
        }
        let known: Vec<&Meta> = metas.iter().flatten().collect();
        let cluster_id = known
            .first()
            .map_or_else(|| TopicId::new(*Uuid::new_v4().as_bytes()).to_string(), |meta| meta.cluster_id.clone());
        for (index, (path, meta)) in paths.iter().zip(&metas).enumerate() {
            let Some(meta) = meta else { continue };
            let reason = if meta.cluster_id != cluster_id {
                format!("belongs to cluster {}, another --data directory to {cluster_id}", meta.cluster_id)
            } else if meta.directory_index != index || meta.directory_count != paths.len() {
                format!(
                    "is directory {} of {}: give the same --data options in the same order as before",
                    meta.directory_index + 1,
                    meta.directory_count
                )
            } else {
                continue;
            };
            return Err(DirectoryError::Meta { path: path.display().to_string(), reason });
        }
        if !known.is_empty() && known.len() < paths.len() {
            let missing = paths.iter().zip(&metas).find(|(_, meta)| meta.is_none()).expect("one is missing").0;
            let reason =
                "has no meta.properties though others have: adding a --data directory to a store is not possible";
            return Err(DirectoryError::Meta { path: missing.display().to_string(), reason: reason.to_owned() });
        }
        let shard_count = known.iter().map(|meta| meta.shard_count).max().unwrap_or(0).max(shards_wanted);
        for (directory_index, path) in paths.iter().enumerate() {
            let meta =
                Meta { cluster_id: cluster_id.clone(), shard_count, directory_index, directory_count: paths.len() };
            if metas[directory_index].as_ref() != Some(&meta) {
                meta.write(path)?;
            }
        }
        Ok(DataDirectories { paths: paths.to_vec(), cluster_id, shard_count, _locks: locks })
    }

    /// Where a shard keeps its log: shard *i* lives on directory *i* mod *n*.
    pub fn of_shard(&self, shard: ShardId) -> PathBuf {
        self.paths[shard.index() % self.paths.len()].join(format!("shard-{shard}"))
    }

    /// How many shards share the device of a shard, as far as the directories tell.
    pub fn shards_beside(&self, shard: ShardId) -> u16 {
        let count = u16::try_from(self.paths.len()).expect("few directories");
        let index = shard.value() % count;
        (self.shard_count - index).div_ceil(count)
    }
}

#[derive(Debug, Eq, PartialEq)]
struct Meta {
    cluster_id: String,
    shard_count: u16,
    directory_index: usize,
    directory_count: usize,
}

impl Meta {
    fn path(directory: &Path) -> PathBuf {
        directory.join("meta.properties")
    }

    fn read(directory: &Path) -> Result<Option<Meta>, DirectoryError> {
        let path = Meta::path(directory);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&path, "read it")(error)),
        };
        Meta::parse(&text, directory).map(Some)
    }

    fn parse(text: &str, directory: &Path) -> Result<Meta, DirectoryError> {
        let values: BTreeMap<&str, &str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let damaged = |key: &str| DirectoryError::Meta {
            path: Meta::path(directory).display().to_string(),
            reason: format!("`{key}` is missing or damaged: restore the file from a backup of this directory"),
        };
        let value = |key: &str| values.get(key).copied().ok_or_else(|| damaged(key));
        let version: u32 = value("version")?.parse().map_err(|_| damaged("version"))?;
        if version > LAYOUT_VERSION {
            return Err(DirectoryError::NewerVersion { path: directory.display().to_string(), found: version });
        }
        let shard_count: u16 = value("shards")?.parse().map_err(|_| damaged("shards"))?;
        if shard_count == 0 || shard_count > SHARDS_MAX {
            return Err(damaged("shards"));
        }
        Ok(Meta {
            cluster_id: value("cluster.id")?.to_owned(),
            shard_count,
            directory_index: value("directory.index")?.parse().map_err(|_| damaged("directory.index"))?,
            directory_count: value("directory.count")?.parse().map_err(|_| damaged("directory.count"))?,
        })
    }

    /// Written to a new file and renamed, with both flushed, so that a crash leaves the old or the new one.
    fn write(&self, directory: &Path) -> Result<(), DirectoryError> {
        let path = Meta::path(directory);
        let new = directory.join("meta.properties.new");
        let text = format!(
            "# Written by corelane. Do not edit.\nversion={LAYOUT_VERSION}\ncluster.id={}\nshards={}\ndirectory.index={}\ndirectory.count={}\n",
            self.cluster_id, self.shard_count, self.directory_index, self.directory_count
        );
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(io(&path, "write it"))
    }
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> DirectoryError + use<> {
    let path = path.display().to_string();
    move |cause| DirectoryError::Io { path, action, cause }
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io(&path, "create the lock file"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(DirectoryError::InUse { path: directory.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(io(&path, "lock it")(error)),
    }
}

fn check_filesystem(directory: &Path) -> Result<(), DirectoryError> {
    let filesystem = filesystem_of(directory);
    let refuse = |reason| DirectoryError::Filesystem {
        path: directory.display().to_string(),
        filesystem: filesystem.clone(),
        reason,
    };
    match filesystem.as_str() {
        "tmpfs" | "ramfs" => return Err(refuse("keeps nothing across a restart of the machine")),
        "overlayfs" | "overlay" => {
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

/// The filesystem's name as `stat -f` knows it; "unknown" where that program is missing, and then only the probe decides.
fn filesystem_of(directory: &Path) -> String {
    let output = Command::new("stat").args(["-f", "-c", "%T"]).arg(directory).output();
    output
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside the test binary: the build directory is on a real disk even where /tmp is not.
    fn scratch() -> tempfile::TempDir {
        let binary = std::env::current_exe().unwrap();
        tempfile::tempdir_in(binary.parent().unwrap()).unwrap()
    }

    #[test]
    fn cluster_id_and_shards_survive_and_shards_never_fall() {
        let scratch = scratch();
        let paths = vec![scratch.path().join("a"), scratch.path().join("b")];
        let first = DataDirectories::open(&paths, 3).unwrap();
        let id = first.cluster_id.clone();
        assert_eq!(id.len(), 22);
        assert_eq!(first.of_shard(ShardId::new(2)), paths[0].join("shard-2"));
        assert_eq!((first.shards_beside(ShardId::new(0)), first.shards_beside(ShardId::new(1))), (2, 1));
        drop(first);
        let again = DataDirectories::open(&paths, 1).unwrap();
        assert_eq!((again.cluster_id.as_str(), again.shard_count), (id.as_str(), 3));
        drop(again);
        assert_eq!(DataDirectories::open(&paths, 5).unwrap().shard_count, 5);
    }

    #[test]
    fn a_second_process_is_refused() {
        let scratch = scratch();
        let paths = vec![scratch.path().to_owned()];
        let _held = DataDirectories::open(&paths, 1).unwrap();
        assert!(matches!(DataDirectories::open(&paths, 1), Err(DirectoryError::InUse { .. })));
    }

    #[test]
    fn a_newer_layout_and_swapped_directories_are_refused() {
        let scratch = scratch();
        let paths = vec![scratch.path().join("a"), scratch.path().join("b")];
        drop(DataDirectories::open(&paths, 1).unwrap());
        let swapped = vec![paths[1].clone(), paths[0].clone()];
        assert!(matches!(DataDirectories::open(&swapped, 1), Err(DirectoryError::Meta { .. })));
        let text = fs::read_to_string(Meta::path(&paths[0])).unwrap().replace("version=1", "version=2");
        fs::write(Meta::path(&paths[0]), text).unwrap();
        assert!(matches!(DataDirectories::open(&paths, 1), Err(DirectoryError::NewerVersion { found: 2, .. })));
    }

    #[test]
    fn a_tmpfs_is_refused() {
        if filesystem_of(Path::new("/dev/shm")) == "tmpfs" {
            let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
            let paths = vec![scratch.path().to_owned()];
            assert!(matches!(DataDirectories::open(&paths, 1), Err(DirectoryError::Filesystem { .. })));
        }
    }
}
