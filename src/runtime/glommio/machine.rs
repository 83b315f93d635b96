//! What the machine grants this process: cores, locked memory, open files; and what its devices would do to us.
//!
//! Asked once, before the shards start.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use rlimit::Resource;

use crate::limits::{
    ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES_PER_SHARD, FILE_DESCRIPTORS_MIN, FILE_DESCRIPTORS_PER_SHARD_MIN,
    SEGMENT_BYTES_MAX, THREADS_MIN, THREADS_PER_SHARD_MIN,
};
use crate::runtime::Volume;

/// The cores that this process may use, in the order in which shards should take them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cores {
    /// CPU numbers: one of each physical core first, their hyper-thread siblings after all of those.
    pub cpus: Vec<usize>,
    /// How many of them are physical cores of their own.
    pub physical: usize,
}

impl Cores {
    /// Asks the scheduler's affinity mask and `/sys`. Never empty: when nothing can be learnt it is CPU 0.
    pub fn of_this_process() -> Cores {
        let allowed: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
        let allowed = if allowed.is_empty() { vec![0] } else { allowed };
        order_by_sibling(&allowed, |cpu| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            fs::read_to_string(path).map(|list| list.trim().to_owned()).unwrap_or_default()
        })
    }
}

/// Puts the first allowed CPU of each physical core before all others. `siblings` names a CPU's physical core; an empty
/// name stands for a core of its own.
fn order_by_sibling(allowed: &[usize], siblings: impl Fn(usize) -> String) -> Cores {
    let mut seen = BTreeSet::new();
    let mut first = Vec::new();
    let mut later = Vec::new();
    for cpu in allowed {
        let core = siblings(*cpu);
        if core.is_empty() || seen.insert(core) { first.push(*cpu) } else { later.push(*cpu) }
    }
    let physical = first.len();
    first.append(&mut later);
    Cores { cpus: first, physical }
}

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_file_limit() -> io::Result<u64> {
    let (soft, hard) = Resource::NOFILE.get()?;
    if soft < hard {
        Resource::NOFILE.set(hard, hard)?;
    }
    Ok(hard)
}

/// A limit of this process that is too low for what it was asked to do.
#[derive(Debug, thiserror::Error)]
#[error(
    "the limit of {what} is {limit}, and {shards} shards need {needed}: raise it (`{command}`, `{setting}` in a systemd \
     unit){or}"
)]
pub struct LimitError {
    /// What is limited.
    pub what: &'static str,
    /// The limit.
    pub limit: u64,
    /// How many shards were to be run.
    pub shards: u16,
    /// What they need.
    pub needed: u64,
    /// The shell's command that raises it.
    pub command: &'static str,
    /// The setting of systemd that does.
    pub setting: &'static str,
    /// What else would do.
    pub or: &'static str,
}

/// What a process of so many shards is going to need of the system.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Shards to run.
    pub shards: u16,
    /// Memory of each, in bytes.
    pub memory_per_shard: u64,
    /// Segment files to be held open from the start.
    pub segment_files: u64,
}

/// Compares what is needed with the limits of this process: what is refused later is refused at a worse moment, some of it to a
/// runtime that panics.
pub fn check_limits(needs: Needs) -> Result<(), LimitError> {
    // A limit that cannot be asked for does not hold.
    let soft = |resource: Resource| resource.get().map_or(u64::MAX, |(soft, _)| soft);
    needs.check(soft(Resource::NOFILE), soft(Resource::FSIZE), soft(Resource::AS), soft(Resource::DATA))
}

/// Starts as many threads at once as `shards` need with their helpers and the kernel's workers, and ends them: where they are
/// refused later, opening a file times out.
pub fn check_threads(shards: u16) -> io::Result<()> {
    let mut threads = Vec::new();
    for _ in 0..THREADS_MIN + THREADS_PER_SHARD_MIN * shards {
        let (ends, end) = mpsc::channel::<()>();
        let wait = move || {
            // Ends when the sender is dropped.
            let _ = end.recv();
        };
        threads.push((ends, thread::Builder::new().name("probe".to_owned()).spawn(wait)?));
    }
    for (ends, thread) in threads {
        drop(ends);
        thread.join().expect("it does nothing");
    }
    Ok(())
}

impl Needs {
    fn check(self, files: u64, file_bytes: u64, address_bytes: u64, data_bytes: u64) -> Result<(), LimitError> {
        let shards = self.shards;
        let fewer = " or give fewer --shards";
        let less = ", or give less --memory or fewer --shards";
        let memory = ADDRESS_SPACE_BYTES
            .saturating_add(self.memory_per_shard.saturating_add(ADDRESS_SPACE_BYTES_PER_SHARD) * u64::from(shards));
        let descriptors =
            FILE_DESCRIPTORS_MIN + FILE_DESCRIPTORS_PER_SHARD_MIN * u64::from(shards) + self.segment_files;
        let table = [
            ("open files", files, descriptors, "ulimit -n 100000", "LimitNOFILE=100000", fewer),
            (
                "the size of a file",
                file_bytes,
                SEGMENT_BYTES_MAX.into(),
                "ulimit -f unlimited",
                "LimitFSIZE=infinity",
                "",
            ),
            ("address space", address_bytes, memory, "ulimit -v unlimited", "LimitAS=infinity", less),
            ("data memory", data_bytes, memory, "ulimit -d unlimited", "LimitDATA=infinity", less),
        ];
        match table.into_iter().find(|(_, limit, needed, ..)| limit < needed) {
            Some((what, limit, needed, command, setting, or)) => {
                Err(LimitError { what, limit, shards, needed, command, setting, or })
            }
            None => Ok(()),
        }
    }
}

/// Memory that this process may use, in bytes: the machine's, or less where a control group says so.
pub fn machine_memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let total = total_kib.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(0, |kib| kib * 1024);
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    limit.map_or(total, |limit: u64| limit.min(total))
}

/// Size of the device that holds `path`, in bytes; 0 when the system does not say.
pub fn device_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |device| device.f_frsize * device.f_blocks)
}

/// The volume that holds `path`.
pub(super) fn volume(path: &Path) -> Option<Volume> {
    let device = rustix::fs::statvfs(path).ok()?;
    let total_bytes = device.f_frsize.saturating_mul(device.f_blocks);
    Some(Volume { total_bytes, usable_bytes: device.f_frsize.saturating_mul(device.f_bavail) })
}

/// Names of block devices with poll queues. glommio polls those and burns a core while I/O is in flight.
pub fn polled_devices() -> Vec<String> {
    let Ok(devices) = fs::read_dir("/sys/block") else { return Vec::new() };
    let mut names: Vec<String> = devices
        .flatten()
        .filter(|device| fs::read_to_string(device.path().join("queue/io_poll")).is_ok_and(|value| value.trim() == "1"))
        .filter_map(|device| device.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// How much memory this process may lock, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LockedMemory {
    /// The soft limit as the executor reads it; `u64::MAX` means unlimited.
    pub(super) limit_bytes: u64,
    /// True when the kernel does not charge this process (CAP_IPC_LOCK).
    pub(super) uncharged: bool,
}

impl LockedMemory {
    /// Raises the soft limit to the hard one where that is allowed, and asks.
    pub(super) fn of_this_process() -> io::Result<LockedMemory> {
        let (soft, hard) = Resource::MEMLOCK.get()?;
        let raised = soft < hard && Resource::MEMLOCK.set(hard, hard).is_ok();
        let limit_bytes = if raised { hard } else { soft };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Ok(LockedMemory { limit_bytes, uncharged: has_ipc_lock(&status) })
    }
}

/// Reads CAP_IPC_LOCK (bit 14) from the effective set in the text of `/proc/self/status`.
fn has_ipc_lock(status: &str) -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .is_some_and(|set| set & CAP_IPC_LOCK != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_cores_come_before_their_siblings() {
        // Two cores with two threads each, numbered as on most Intel machines.
        let cores = order_by_sibling(&[0, 1, 2, 3], |cpu| format!("{},{}", cpu % 2, cpu % 2 + 2));
        assert_eq!(cores, Cores { cpus: vec![0, 1, 2, 3], physical: 2 });
        // And as on most AMD virtual machines.
        let cores = order_by_sibling(&[0, 1, 2, 3], |cpu| format!("{}-{}", cpu / 2 * 2, cpu / 2 * 2 + 1));
        assert_eq!(cores, Cores { cpus: vec![0, 2, 1, 3], physical: 2 });
    }

    #[test]
    fn unknown_topology_counts_every_cpu_as_a_core() {
        assert_eq!(order_by_sibling(&[4, 5], |_| String::new()), Cores { cpus: vec![4, 5], physical: 2 });
    }

    #[test]
    fn this_process_may_use_a_core() {
        let cores = Cores::of_this_process();
        assert!(!cores.cpus.is_empty());
        assert!(cores.physical >= 1);
        assert!(cores.physical <= cores.cpus.len());
    }

    #[test]
    fn ipc_lock_is_read_from_the_effective_set() {
        assert!(has_ipc_lock("Name:\tx\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n"));
        assert!(has_ipc_lock("CapEff:\t0000000000004000\n"));
        assert!(!has_ipc_lock("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n"));
        assert!(!has_ipc_lock(""));
    }

    #[test]
    fn limits_that_are_too_low_are_named_with_what_is_needed() {
        const NONE: u64 = u64::MAX;
        let needs = Needs { shards: 2, memory_per_shard: 1 << 30, segment_files: 5 };
        needs.check(NONE, NONE, NONE, NONE).unwrap();
        needs.check(1024, 1 << 30, 4 << 30, 4 << 30).unwrap();
        let words = |error: Result<(), LimitError>| error.unwrap_err().to_string();
        let files = words(needs.check(68, NONE, NONE, NONE));
        assert!(
            files.starts_with("the limit of open files is 68, and 2 shards need 69: raise it (`ulimit -n"),
            "{files}"
        );
        let size = words(needs.check(NONE, 64 << 20, NONE, NONE));
        assert!(size.contains("the size of a file is 67108864") && size.contains("ulimit -f unlimited"), "{size}");
        for (address, data) in [(1 << 30, NONE), (NONE, 1 << 30)] {
            let memory = words(needs.check(NONE, NONE, address, data));
            assert!(
                memory.contains("1073741824, and 2 shards need 2952790016") && memory.contains("--memory"),
                "{memory}"
            );
        }
    }

    #[test]
    fn the_file_limit_rises_to_the_hard_one() {
        let (_, hard) = Resource::NOFILE.get().unwrap();
        assert_eq!(raise_file_limit().unwrap(), hard);
        assert_eq!(Resource::NOFILE.get().unwrap(), (hard, hard));
    }
}
