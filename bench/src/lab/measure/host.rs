//! The host sheet: what a reader must know of a machine to judge figures from it. No host names, addresses or paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::{device, number};
use crate::lab::result::HostSheet;

/// What this host is; the disk and the filesystem are those that hold `data`. What it does not have is left out.
pub(crate) fn sheet(data: &Path) -> HostSheet {
    let cpus = read("/proc/cpuinfo").unwrap_or_default();
    let memory = read("/proc/meminfo").and_then(|memory| number(&memory, "MemTotal")).unwrap_or(0);
    let mut details = BTreeMap::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            details.insert(name.to_owned(), value);
        }
    };
    add("virtual machine", Some(if is_virtual(&cpus) { "yes" } else { "no" }.to_owned()));
    add("governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"));
    add("CPU caches", caches());
    add("transparent huge pages", read("/sys/kernel/mm/transparent_hugepage/enabled").and_then(|text| chosen(&text)));
    add("TCP congestion control", read("/proc/sys/net/ipv4/tcp_congestion_control"));
    add("interrupts", interrupt_affinity());
    add("locked memory", read("/proc/self/limits").and_then(|limits| locked_memory(&limits)));
    add("JVM", first_line(Command::new("java").arg("-version")));
    add("rustc", first_line(Command::new("rustc").arg("-V")));
    for (name, value) in disk(data).into_iter().chain(filesystem(data)) {
        add(name, Some(value));
    }
    HostSheet {
        cpu: cpu_model(&cpus).unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: u32::try_from(cpu_count()).unwrap_or(u32::MAX),
        memory_bytes: memory * 1024,
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
        details,
    }
}

/// A file of one short text, without the line end.
fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// CPUs that the kernel has.
fn cpu_count() -> usize {
    let online = read("/sys/devices/system/cpu/online");
    online
        .and_then(|list| cpus_of(&list))
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |cpus| cpus.len())
}

/// Numbers of a list as the kernel writes it: `0-3,8`.
fn cpus_of(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

fn cpu_model(cpus: &str) -> Option<String> {
    cpus.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()))
}

/// Whether a hypervisor says that it is there.
fn is_virtual(cpus: &str) -> bool {
    let flags = cpus.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

/// Level and size of each cache of the first CPU.
fn caches() -> Option<String> {
    let indices = (0..8).map(|index| PathBuf::from(format!("/sys/devices/system/cpu/cpu0/cache/index{index}")));
    let cache = |path: PathBuf| {
        let kind = match read(path.join("type"))?.as_str() {
            "Instruction" => "i",
            "Data" => "d",
            _ => "",
        };
        Some(format!("L{}{kind} {}", read(path.join("level"))?, read(path.join("size"))?))
    };
    Some(indices.map_while(cache).collect::<Vec<_>>().join(", "))
}

/// The choice in a list as `always [madvise] never`; the whole text where none is marked.
fn chosen(text: &str) -> Option<String> {
    let marked = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(choice, _)| choice);
    Some(marked.unwrap_or(text).to_owned())
}

/// How many interrupts may go to which CPUs: `4 on 0-1, 1 on 0`.
fn interrupt_affinity() -> Option<String> {
    let directories = fs::read_dir("/proc/irq").ok()?.flatten().map(|entry| entry.path());
    let lists =
        directories.filter_map(|path| read(path.join("effective_affinity_list")).filter(|list| !list.is_empty()));
    Some(affinity_summary(lists))
}

fn affinity_summary(lists: impl Iterator<Item = String>) -> String {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for list in lists {
        *counts.entry(list).or_default() += 1;
    }
    let texts = counts.iter().map(|(list, count)| format!("{count} on CPU {list}"));
    texts.collect::<Vec<_>>().join(", ")
}

/// The soft limit in `/proc/self/limits`.
fn locked_memory(limits: &str) -> Option<String> {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?.split_whitespace().next()?;
    Some(if soft == "unlimited" { soft.to_owned() } else { format!("{soft} bytes") })
}

/// The first line that a program prints, on either of its outputs. A JVM says before it which options it picked up.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().find(|line| !line.starts_with("Picked up")).map(str::to_owned)
}

/// The block device below a directory.
fn disk(data: &Path) -> Vec<(&'static str, String)> {
    let Some((major, minor)) = device(data) else { return Vec::new() };
    let Ok(mut device) = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")) else { return Vec::new() };
    // A partition has no queue of its own: the disk is the directory around it.
    if !device.join("queue").exists() && !device.pop() {
        return Vec::new();
    }
    let name = device.file_name().map(|name| name.to_string_lossy().into_owned());
    let queue = |name: &str| read(device.join("queue").join(name));
    let rotational = queue("rotational").map(|flag| if flag == "0" { "no" } else { "yes" }.to_owned());
    let driver = fs::canonicalize(device.join("device/driver")).ok();
    let driver = driver.and_then(|driver| driver.file_name().map(|name| name.to_string_lossy().into_owned()));
    let queues = fs::read_dir(device.join("mq")).ok().map(|queues| queues.count().to_string());
    let facts = [
        ("disk", name),
        ("disk model", read(device.join("device/model"))),
        ("disk driver", driver),
        ("disk says that it is rotational", rotational),
        ("disk scheduler", queue("scheduler").and_then(|text| chosen(&text))),
        ("disk write cache", queue("write_cache")),
        ("disk queues", queues),
        ("disk requests per queue", queue("nr_requests")),
        ("disk block bytes", queue("logical_block_size")),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Kind and options of the filesystem that holds a directory.
fn filesystem(data: &Path) -> Vec<(&'static str, String)> {
    let mount = device(data).zip(read("/proc/self/mountinfo"));
    let found = mount.and_then(|((major, minor), mounts)| mount_on(&mounts, &format!("{major}:{minor}")));
    found.map_or_else(Vec::new, |(kind, options)| vec![("filesystem", kind), ("mount options", options)])
}

/// Kind and options of the filesystem on a device, from `/proc/self/mountinfo`. Options that name a path are left out.
fn mount_on(mounts: &str, device: &str) -> Option<(String, String)> {
    mounts.lines().find_map(|line| {
        let (front, behind) = line.split_once(" - ")?;
        let mut front = front.split(' ');
        if front.nth(2) != Some(device) {
            return None;
        }
        let own = front.nth(2).unwrap_or_default();
        let mut behind = behind.split(' ');
        let (kind, shared) = (behind.next()?, behind.nth(1).unwrap_or_default());
        let mut options: Vec<&str> = own.split(',').chain(shared.split(',')).collect();
        options.retain(|option| !option.contains('/'));
        options.sort_unstable();
        options.dedup();
        Some((kind.to_owned(), options.join(",")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_cpus_has_ranges_and_single_ones() {
        assert_eq!(cpus_of("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cpus_of(""), None);
    }

    #[test]
    fn cpu_and_hypervisor_are_read_from_cpuinfo() {
        let cpus = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu hypervisor sse\n";
        assert_eq!(cpu_model(cpus).as_deref(), Some("Some CPU @ 3 GHz"));
        assert!(is_virtual(cpus));
        assert!(!is_virtual("flags\t\t: fpu sse\n"));
    }

    #[test]
    fn the_marked_choice_counts() {
        assert_eq!(chosen("always [madvise] never").as_deref(), Some("madvise"));
        assert_eq!(chosen("none").as_deref(), Some("none"));
    }

    #[test]
    fn interrupts_are_counted_by_where_they_may_go() {
        let lists = ["0", "1", "0", "0-1"].map(str::to_owned);
        assert_eq!(affinity_summary(lists.into_iter()), "2 on CPU 0, 1 on CPU 0-1, 1 on CPU 1");
    }

    #[test]
    fn a_limit_of_locked_memory_has_its_unit() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max locked memory         8388608              8388608              bytes     \n";
        assert_eq!(locked_memory(limits).as_deref(), Some("8388608 bytes"));
        assert_eq!(locked_memory("Max locked memory         unlimited unlimited bytes").as_deref(), Some("unlimited"));
    }

    #[test]
    fn mount_options_that_name_a_path_are_left_out() {
        let mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                      27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard,journal_path=/somewhere\n";
        let expected = ("ext4".to_owned(), "discard,relatime,rw".to_owned());
        assert_eq!(mount_on(mounts, "254:0"), Some(expected));
        assert_eq!(mount_on(mounts, "8:1"), None);
    }
}
