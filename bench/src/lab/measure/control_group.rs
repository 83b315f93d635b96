//! A control group for one server, so that its memory is counted with the page cache that it fills.
//!
//! Version 2 or, on older hosts, version 1 with its memory controller. The group stands beside that of the lab (version 2
//! allows no processes in a group with children that have controllers) or below it (version 1), so every limit that holds
//! for the lab holds for the server; no limit is set and no controller is switched on. Where there is no right to do so, or
//! no memory controller, there is no group: that is no error.
//!
//! Groups are named after the lab's process. Those of a lab that was killed are removed when another one makes its own,
//! and when it removes that.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::machine::number;

/// Begins the name of a group; the number of the lab's process follows.
const PREFIX: &str = "corelane-lab-";
/// How often the removal of a group is tried: the kernel takes a moment to let go of processes that ended.
const REMOVAL_TRIES: u32 = 50;
/// Between two of them.
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);

/// A control group; removed when dropped, which needs its processes to have ended.
pub(crate) struct ControlGroup {
    directory: PathBuf,
    version: Version,
}

/// Which of the kernel's interfaces a group has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Version {
    One,
    Two,
}

impl ControlGroup {
    /// Makes a group, if this process may.
    pub(crate) fn new() -> Option<ControlGroup> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        places(&mounts, &own).into_iter().find_map(|(version, parent)| ControlGroup::below(version, &parent))
    }

    fn below(version: Version, parent: &Path) -> Option<ControlGroup> {
        remove_abandoned(parent);
        let directory = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&directory).ok()?;
        let group = ControlGroup { directory, version };
        // Without these it tells nothing about memory; dropped, it is removed.
        (group.memory_peak_bytes().is_some() && group.page_cache_bytes().is_some()).then_some(group)
    }

    /// The file by which a process that writes `0` to it becomes a member.
    pub(crate) fn door(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.directory.join("cgroup.procs"))
    }

    /// Largest memory of all members so far, with the page cache that they filled.
    pub(crate) fn memory_peak_bytes(&self) -> Option<u64> {
        let name = match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        };
        fs::read_to_string(self.directory.join(name)).ok()?.trim().parse().ok()
    }

    /// Page cache that its members filled.
    pub(crate) fn page_cache_bytes(&self) -> Option<u64> {
        let stat = fs::read_to_string(self.directory.join("memory.stat")).ok()?;
        number(&stat, page_cache_name(self.version))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for _ in 0..REMOVAL_TRIES {
            if !matches!(fs::remove_dir(&self.directory), Err(error) if error.kind() == io::ErrorKind::ResourceBusy) {
                break;
            }
            std::thread::sleep(REMOVAL_PAUSE);
        }
        // A server of a killed lab may still have been ending when this group was made.
        if let Some(parent) = self.directory.parent() {
            remove_abandoned(parent);
        }
    }
}

fn page_cache_name(version: Version) -> &'static str {
    match version {
        Version::One => "total_cache",
        Version::Two => "file",
    }
}

/// Removes the groups of labs that are no more.
fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let lab = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if lab.is_some_and(|lab| !Path::new(&format!("/proc/{lab}")).exists()) {
            // Refused while it has members; then it is not abandoned after all.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Directories in which a group may be made, the best first, from this process's mounts and groups.
fn places(mounts: &str, own: &str) -> Vec<(Version, PathBuf)> {
    let two = mount_of(mounts, "cgroup2", None).zip(group_of(own, ""));
    let one = mount_of(mounts, "cgroup", Some("memory")).zip(group_of(own, "memory"));
    let beside = two.map(|(mount, group)| {
        let parent = Path::new(group).parent().unwrap_or(Path::new("/"));
        (Version::Two, below(mount, parent))
    });
    let within = one.map(|(mount, group)| (Version::One, below(mount, Path::new(group))));
    beside.into_iter().chain(within).collect()
}

fn below(mount: &str, group: &Path) -> PathBuf {
    Path::new(mount).join(group.strip_prefix("/").unwrap_or(group))
}

/// Where a filesystem of this kind is mounted, one with this option only.
fn mount_of<'a>(mounts: &'a str, kind: &str, option: Option<&str>) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        // Fields in front of the dash: ids, device, root, mount point; behind it: kind, source, options of the filesystem.
        let (front, behind) = line.split_once(" - ")?;
        let mut behind = behind.split(' ');
        let is_kind = behind.next() == Some(kind);
        let mut options = behind.nth(1).unwrap_or_default().split(',');
        let has_option = option.is_none_or(|option| options.any(|other| other == option));
        (is_kind && has_option).then(|| front.split(' ').nth(4)).flatten()
    })
}

/// The group of this process in the hierarchy of a controller; the nameless one is that of version 2.
fn group_of<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|other| other == controller).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::process::Process;

    #[test]
    fn a_group_of_version_two_stands_beside_its_own() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/user.slice/user-0.slice/session-1.scope\n";
        let expected = PathBuf::from("/sys/fs/cgroup/user.slice/user-0.slice");
        assert_eq!(places(mounts, own), [(Version::Two, expected)]);
        assert_eq!(places(mounts, "0::/\n"), [(Version::Two, PathBuf::from("/sys/fs/cgroup/"))]);
    }

    #[test]
    fn a_group_of_version_one_stands_below_its_own() {
        let mounts = "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/jobs/7\n2:cpu,cpuacct:/\n0::/\n";
        let expected = [
            (Version::Two, PathBuf::from("/sys/fs/cgroup/unified/")),
            (Version::One, PathBuf::from("/sys/fs/cgroup/memory/jobs/7")),
        ];
        assert_eq!(places(mounts, own), expected);
    }

    #[test]
    fn a_host_without_control_groups_has_no_place_for_one() {
        assert_eq!(places("22 27 0:21 / /proc rw - proc proc rw\n", ""), []);
    }

    #[test]
    fn page_cache_is_found_in_the_figures_of_both_versions() {
        let one = "cache 1\nrss 2\ntotal_cache 40960\ntotal_rss 9\n";
        let two = "anon 5\nfile 8192\nfile_mapped 1\n";
        assert_eq!(number(one, page_cache_name(Version::One)), Some(40960));
        assert_eq!(number(two, page_cache_name(Version::Two)), Some(8192));
    }

    /// Where this process may make no group, there is nothing to see.
    #[test]
    fn a_group_has_the_memory_of_its_member_and_goes_with_it() {
        let Some(group) = ControlGroup::new() else { return };
        let mut command = Command::new("sleep");
        command.arg("100");
        let door = group.door().expect("a new group has a door");
        let member = Process::start(command, &[], vec![door]).expect("sleep is there");
        let members = fs::read_to_string(group.directory.join("cgroup.procs")).expect("it can be read");
        assert_eq!(members.trim(), member.pid().to_string());
        assert!(group.memory_peak_bytes().is_some_and(|bytes| bytes > 0));
        member.kill().expect("it runs");
        let directory = group.directory.clone();
        drop(group);
        assert!(!directory.exists());
    }
}
