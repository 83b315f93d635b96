//! What the whole machine spent, whoever did: the server, the generator, the kernel's own threads and others.
//!
//! CPU comes from `/proc/stat` in ticks of 10 ms, without idle time, waiting for disks and what a hypervisor took away.
//! Disk bytes are those of the block device that holds a given directory, filesystem journal and written-back page cache
//! included. Context switches are known as one sum, which stands under the voluntary ones.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::process::CpuTime;
use super::{Snapshot, Switches};

/// Bytes of a sector in the kernel's figures, whatever the device's own are.
const SECTOR_BYTES: u64 = 512;
/// Ticks of a second in `/proc/stat`: `USER_HZ`, which is 100 on every architecture that Linux still runs on.
const TICKS_PER_S: f64 = 100.0;

/// What the machine spent since it started; the disk is that of `data`.
///
/// Errors: `/proc` cannot be read or is in another notation. A directory on no block device has no disk figures: zeros.
pub(crate) fn snapshot(data: &Path) -> Result<Snapshot, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/stat")?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let disk = device(data)
        .and_then(|device| sectors(&fs::read_to_string("/proc/diskstats").ok()?, device))
        .unwrap_or_default();
    let switches = Switches { voluntary: number(&stat, "ctxt").ok_or("no context switches")?, involuntary: 0 };
    Ok(Snapshot {
        cpu: cpu(&stat).ok_or("no CPU times")?,
        resident_bytes: resident_bytes(&memory).ok_or("no memory in use")?,
        page_cache_bytes: page_cache_bytes(&memory).ok_or("no page cache")?,
        disk_written_bytes: disk.written * SECTOR_BYTES,
        disk_read_bytes: disk.read * SECTOR_BYTES,
        switches: BTreeMap::from([(0, switches)]),
        ..Snapshot::of_now()
    })
}

/// Page cache of the machine, in bytes.
pub(super) fn page_cache() -> Option<u64> {
    page_cache_bytes(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// Number of the block device that holds `path`: major and minor.
pub(super) fn device(path: &Path) -> Option<(u32, u32)> {
    let device = path.metadata().ok()?.dev();
    Some((libc::major(device), libc::minor(device)))
}

/// The number after a name that begins a line; a colon after the name is none of it.
pub(super) fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', ':', '\t']))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn cpu(stat: &str) -> Option<CpuTime> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line.split_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, interrupts, soft_interrupts, ..] = ticks[..] else { return None };
    let (user, system) = (user + nice, system + interrupts + soft_interrupts);
    Some(CpuTime { total: Duration::from_secs_f64((user + system) / TICKS_PER_S), user, system })
}

/// What could not be given back at once.
fn resident_bytes(memory: &str) -> Option<u64> {
    let kib = number(memory, "MemTotal")?.checked_sub(number(memory, "MemAvailable")?)?;
    Some(kib * 1024)
}

fn page_cache_bytes(memory: &str) -> Option<u64> {
    Some((number(memory, "Cached")? + number(memory, "Buffers")?) * 1024)
}

/// Sectors that went to and came from a device.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Sectors {
    read: u64,
    written: u64,
}

fn sectors(diskstats: &str, (major, minor): (u32, u32)) -> Option<Sectors> {
    let fields = diskstats.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let (major, minor) = (major.to_string(), minor.to_string());
    let line = fields.into_iter().find(|fields| fields.get(..2) == Some(&[major.as_str(), minor.as_str()]))?;
    Some(Sectors { read: line.get(5)?.parse().ok()?, written: line.get(9)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_no_cpu_time() {
        let stat = "cpu  100 20 30 4000 500 6 7 80 9 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nctxt 12345\nprocesses 9\n";
        let time = cpu(stat).expect("a whole line");
        assert_eq!(time.total, Duration::from_millis(1_630));
        assert!((time.user - 120.0).abs() < 1e-9);
        assert!((time.system - 43.0).abs() < 1e-9);
        assert_eq!(number(stat, "ctxt"), Some(12345));
        assert!(cpu("cpu  1 2 3\n").is_none());
    }

    #[test]
    fn memory_is_told_from_the_page_cache() {
        let memory = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\nBuffers:          10 kB\n\
                      Cached:          300 kB\nSwapCached:       50 kB\n";
        assert_eq!(resident_bytes(memory), Some(400 * 1024));
        assert_eq!(page_cache_bytes(memory), Some(310 * 1024));
        assert_eq!(resident_bytes("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn a_device_is_found_by_its_numbers() {
        let diskstats = "   7       0 loop0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n \
                         254       0 vda 164498 9904 8436554 208357 23135 64487 36117192 151597 0 22712 362197\n";
        assert_eq!(sectors(diskstats, (254, 0)), Some(Sectors { read: 8_436_554, written: 36_117_192 }));
        assert_eq!(sectors(diskstats, (254, 1)), None);
    }
}
