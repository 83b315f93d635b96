//! What one process spent, from `/proc`.
//!
//! - CPU: the process's own clock, which counts all threads, also those that ended and the kernel's workers for its rings.
//!   How it divides into user and system comes from the ticks of its stat line.
//! - Disk: `/proc/PID/io`. A direct write counts when it is submitted, a buffered one when it makes a page dirty, so what
//!   the kernel writes back later counts to its originator and without delay. Pages that were dropped before they were
//!   written are taken off. What the filesystem adds (journal, metadata) is not in it: the machine's figures have that.
//! - Context switches: those of the threads that live at the end. What a thread did that ended meanwhile is lost.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::time::Duration;

use super::{Snapshot, Switches};

/// What the process spent since it started.
///
/// Disk figures are zero where `/proc/PID/io` cannot be read (a process of somebody else), memory is without a peak.
///
/// Errors: there is no such process, or it has ended and nobody waited for it yet.
pub(crate) fn snapshot(pid: u32) -> Result<Snapshot, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let disk = fs::read_to_string(format!("/proc/{pid}/io")).map_or_else(|_| Disk::default(), |text| disk(&text));
    Ok(Snapshot {
        cpu: cpu_time(pid)?,
        resident_bytes: status_bytes(&status, "VmHWM").ok_or("the process has ended")?,
        disk_written_bytes: disk.written_bytes,
        disk_read_bytes: disk.read_bytes,
        switches: thread_switches(pid)?,
        ..Snapshot::of_now()
    })
}

/// CPU time of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    /// User and system.
    pub(crate) total: Duration,
    /// Ticks outside of the kernel.
    pub(super) user: f64,
    /// Ticks in the kernel.
    pub(super) system: f64,
}

impl CpuTime {
    /// Share of the time since `before` that was spent outside of the kernel.
    pub(crate) fn user_share_since(&self, before: &CpuTime) -> f64 {
        let (user, system) = (self.user - before.user, self.system - before.system);
        user / (user + system).max(1.0)
    }
}

/// CPU time of all threads of a process so far, with the kernel's workers for its rings.
pub(crate) fn cpu_time(pid: u32) -> Result<CpuTime, Box<dyn Error>> {
    let [user, system] = stat_fields(pid, [14, 15])?.map(|field| field.parse::<f64>());
    Ok(CpuTime { total: process_clock(pid)?, user: user?, system: system? })
}

/// CPU time so far of the processes that a process started, such as the broker of a start script.
pub(crate) fn children_cpu_time(pid: u32) -> Result<Duration, Box<dyn Error>> {
    let mut total = Duration::ZERO;
    for entry in fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end meanwhile: then it is none of ours, which last.
        let Ok([parent]) = stat_fields(child, [4]) else { continue };
        if parent.parse() == Ok(pid) {
            total += process_clock(child)?;
        }
    }
    Ok(total)
}

/// Memory that a process has resident, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(status_bytes(&status, "VmRSS").ok_or("no VmRSS")?)
}

/// An amount of memory in `/proc/PID/status`, which has it in KiB.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    status_number(status, name).map(|kib| kib * 1024)
}

fn status_number(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Fields of a process's stat line, by their numbers in `man proc_pid_stat`.
fn stat_fields<const COUNT: usize>(pid: u32, numbers: [usize; COUNT]) -> Result<[String; COUNT], Box<dyn Error>> {
    fields_of(&fs::read_to_string(format!("/proc/{pid}/stat"))?, numbers)
}

fn fields_of<const COUNT: usize>(stat: &str, numbers: [usize; COUNT]) -> Result<[String; COUNT], Box<dyn Error>> {
    // The first after the name, which may hold anything, is field 3.
    let after_name = stat.rsplit_once(')').ok_or("a stat line without a name")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).map(|field| (*field).to_owned());
    if numbers.iter().any(|number| field(*number).is_none()) {
        return Err("a short stat line".into());
    }
    Ok(numbers.map(|number| field(number).unwrap_or_default()))
}

/// The process's CPU clock: utime and stime of `/proc/PID/stat`, in nanoseconds rather than ticks.
fn process_clock(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    // SAFETY: writes only to the given local.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if error == 0 { read_clock(clock) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// CPU time of the calling thread.
pub(crate) fn thread_clock() -> io::Result<Duration> {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn read_clock(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes only to the given local.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    Ok(Duration::from_nanos(u64::try_from(nanoseconds).map_err(io::Error::other)?))
}

/// Bytes between a process and the block layer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Disk {
    written_bytes: u64,
    read_bytes: u64,
}

/// Reads `/proc/PID/io`.
fn disk(text: &str) -> Disk {
    let number = |name| status_number(text, name).unwrap_or(0);
    Disk {
        written_bytes: number("write_bytes").saturating_sub(number("cancelled_write_bytes")),
        read_bytes: number("read_bytes"),
    }
}

/// Context switches by thread.
fn thread_switches(pid: u32) -> io::Result<BTreeMap<u32, Switches>> {
    let mut switches = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A thread may end meanwhile.
        if let Ok(status) = fs::read_to_string(entry.path().join("status")) {
            switches.insert(thread, switches_of(&status));
        }
    }
    Ok(switches)
}

fn switches_of(status: &str) -> Switches {
    Switches {
        voluntary: status_number(status, "voluntary_ctxt_switches").unwrap_or(0),
        involuntary: status_number(status, "nonvoluntary_ctxt_switches").unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_a_name_that_holds_anything() {
        let stat = "812 (a) 1 (b) R 77 812 1 0 -1 4194560 5 0 0 0 314 15 9 9 20 0 41 0 100 2000 300";
        assert_eq!(fields_of(stat, [4, 14, 15]).expect("all are there"), ["77", "314", "15"].map(str::to_owned));
        assert!(fields_of("812 (a) R 77", [14]).is_err());
        assert!(fields_of("no name", [4]).is_err());
    }

    #[test]
    fn memory_and_switches_are_read_from_a_status() {
        let status = "Name:\tVmHWM\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nvoluntary_ctxt_switches:\t31\n\
                      nonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(status_bytes(status, "VmHWM"), Some(2048 * 1024));
        assert_eq!(status_bytes(status, "VmRSS"), Some(1024 * 1024));
        assert_eq!(status_bytes(status, "VmSwap"), None);
        assert_eq!(switches_of(status), Switches { voluntary: 31, involuntary: 7 });
    }

    #[test]
    fn pages_dropped_before_they_were_written_are_no_disk_writes() {
        let io = "rchar: 9\nwchar: 9\nsyscr: 1\nsyscw: 1\nread_bytes: 4096\nwrite_bytes: 16384\n\
                  cancelled_write_bytes: 8192\n";
        assert_eq!(disk(io), Disk { written_bytes: 8192, read_bytes: 4096 });
    }

    #[test]
    fn this_process_spends_cpu_while_it_works() {
        let pid = std::process::id();
        let before = snapshot(pid).expect("it lives");
        let sum = (0..5_000_000_u64).fold(0_u64, |sum, number| sum.wrapping_add(number * number));
        assert!(std::hint::black_box(sum) > 0);
        let usage = snapshot(pid).expect("it lives").usage_since(&before);
        assert!(usage.cpu_s > 0.0);
        assert!(usage.resident_bytes > 0);
    }
}
