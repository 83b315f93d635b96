//! What the machine grants this process: cores, locked memory, open files; and what its devices would do to us.
//!
//! Asked once, before the shards start.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rlimit::Resource;

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
    fn the_file_limit_rises_to_the_hard_one() {
        let (_, hard) = Resource::NOFILE.get().unwrap();
        assert_eq!(raise_file_limit().unwrap(), hard);
        assert_eq!(Resource::NOFILE.get().unwrap(), (hard, hard));
    }
}
