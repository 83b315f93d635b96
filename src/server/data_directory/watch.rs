//! Whether the directories of the shards are still the ones that were opened, looked at once a second.
//!
//! A store keeps its files open, so one whose directory was removed, replaced or unmounted goes on writing into files that no
//! start will find again; and on a filesystem that was remounted read-only a flush can succeed without doing anything. No write
//! fails then, so somebody has to look. A thread of its own, because looking at a device that hangs blocks.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;

use crate::limits::{DIRECTORY_CHECK_MS, DIRECTORY_CHECKS_FAILED_MAX};
use crate::types::ShardId;

/// The directories to look at.
#[derive(Debug)]
pub struct Watch {
    opened: Vec<Opened>,
}

/// The `meta.properties` of a shard's directory as it was opened.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Which shards lost their directory, and how. Every clone is the same one.
#[derive(Clone, Debug)]
pub struct Loss {
    /// By shard.
    causes: Arc<Vec<OnceLock<String>>>,
}

impl Loss {
    /// Why the shard's directory is not the one that was opened; `None` as long as it is.
    pub fn of(&self, shard: ShardId) -> Option<&str> {
        self.causes[shard.index()].get().map(String::as_str)
    }
}

impl Watch {
    /// Remembers the files as they are, one per shard.
    pub(super) fn new(paths: impl Iterator<Item = PathBuf>) -> io::Result<Watch> {
        let open = |path: PathBuf| {
            let metadata = fs::metadata(&path)?;
            Ok(Opened { path, device: metadata.dev(), inode: metadata.ino() })
        };
        Ok(Watch { opened: paths.map(open).collect::<io::Result<_>>()? })
    }

    /// Looks for the rest of the process's life.
    pub fn start(self) -> io::Result<Loss> {
        let loss = Loss { causes: Arc::new(self.opened.iter().map(|_| OnceLock::new()).collect()) };
        let found = loss.clone();
        let mut failed = vec![0; self.opened.len()];
        let look = move || {
            loop {
                thread::sleep(Duration::from_millis(DIRECTORY_CHECK_MS));
                self.look(&mut failed, &found);
            }
        };
        thread::Builder::new().name("directories".to_owned()).spawn(look)?;
        Ok(loss)
    }

    /// Looks once. A shard is lost when it was not found as it was some times in a row.
    fn look(&self, failed: &mut [u32], loss: &Loss) {
        for ((opened, failed), cause) in self.opened.iter().zip(failed).zip(loss.causes.iter()) {
            match opened.check() {
                Ok(()) => *failed = 0,
                Err(_) if *failed + 1 < DIRECTORY_CHECKS_FAILED_MAX => *failed += 1,
                // Only the first cause is kept.
                Err(found) => drop(cause.set(found)),
            }
        }
    }
}

impl Opened {
    fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        let metadata = fs::metadata(&self.path).map_err(|cause| format!("{path}: {cause}"))?;
        let volume = rustix::fs::statvfs(&self.path).map_err(|cause| format!("{path}: {cause}"))?;
        self.compare(metadata.dev(), metadata.ino(), volume.f_flag)
    }

    fn compare(&self, device: u64, inode: u64, mounted: StatVfsMountFlags) -> Result<(), String> {
        let path = self.path.display();
        if (device, inode) != (self.device, self.inode) {
            return Err(format!("{path} is not the file that it was at the start"));
        }
        if mounted.contains(StatVfsMountFlags::RDONLY) {
            return Err(format!("the filesystem of {path} is mounted read-only"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::tests::scratch;
    use super::*;

    fn watch(directory: &Path) -> (Watch, Loss) {
        let paths = [directory.join("a"), directory.join("b")];
        for path in &paths {
            fs::write(path, "x").unwrap();
        }
        let causes = Arc::new(vec![OnceLock::new(), OnceLock::new()]);
        (Watch::new(paths.into_iter()).unwrap(), Loss { causes })
    }

    fn look(watch: &Watch, loss: &Loss, times: u32) -> [Option<String>; 2] {
        let mut failed = [0; 2];
        for _ in 0..times {
            watch.look(&mut failed, loss);
        }
        [0, 1].map(|shard| loss.of(ShardId::new(shard)).map(str::to_owned))
    }

    #[test]
    fn a_file_that_is_gone_or_replaced_is_a_lost_shard_and_the_others_are_not() {
        let scratch = scratch();
        let (watch, loss) = watch(scratch.path());
        assert_eq!(look(&watch, &loss, 5), [None, None]);
        fs::remove_file(scratch.path().join("b")).unwrap();
        assert_eq!(look(&watch, &loss, 1), [None, None], "once is not enough");
        let [first, second] = look(&watch, &loss, DIRECTORY_CHECKS_FAILED_MAX);
        assert_eq!(first, None);
        assert!(second.unwrap().contains("No such file"));
        fs::write(scratch.path().join("new"), "x").unwrap();
        fs::rename(scratch.path().join("new"), scratch.path().join("a")).unwrap();
        let [first, _] = look(&watch, &loss, DIRECTORY_CHECKS_FAILED_MAX);
        assert!(first.unwrap().contains("is not the file that it was"));
    }

    #[test]
    fn a_file_that_comes_back_in_time_is_none() {
        let scratch = scratch();
        let (watch, loss) = watch(scratch.path());
        let (path, aside) = (scratch.path().join("a"), scratch.path().join("aside"));
        let mut failed = [0; 2];
        for _ in 0..5 {
            fs::rename(&path, &aside).unwrap();
            watch.look(&mut failed, &loss);
            fs::rename(&aside, &path).unwrap();
            watch.look(&mut failed, &loss);
        }
        assert_eq!(loss.of(ShardId::new(0)), None);
    }

    /// Nobody can remount a filesystem under open files but the kernel, at an error.
    #[test]
    fn a_filesystem_mounted_read_only_is_found() {
        let opened = Opened { path: PathBuf::from("p"), device: 1, inode: 2 };
        opened.compare(1, 2, StatVfsMountFlags::NOATIME | StatVfsMountFlags::NOSUID).unwrap();
        let cause = opened.compare(1, 2, StatVfsMountFlags::NOATIME | StatVfsMountFlags::RDONLY).unwrap_err();
        assert_eq!(cause, "the filesystem of p is mounted read-only");
        for (device, inode) in [(1, 3), (3, 2)] {
            assert!(opened.compare(device, inode, StatVfsMountFlags::empty()).is_err());
        }
    }
}
