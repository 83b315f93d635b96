//! What a server and the machine spend, and what the machine is. Read from outside; nothing here starts or loads anything.

pub(crate) mod control_group;
pub(crate) mod host;
pub(crate) mod machine;
pub(crate) mod merge;
pub(crate) mod observe;
pub(crate) mod process;

use std::collections::BTreeMap;
use std::time::Instant;

use self::control_group::ControlGroup;
use self::process::CpuTime;
use super::result::Usage;

/// What a process or the machine has spent up to one moment, counted from a beginning of its own.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    taken: Instant,
    cpu: CpuTime,
    memory_peak_bytes: Option<u64>,
    resident_bytes: u64,
    page_cache_bytes: u64,
    disk_written_bytes: u64,
    disk_read_bytes: u64,
    /// By thread; the machine is one.
    switches: BTreeMap<u32, Switches>,
}

/// Context switches.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Switches {
    voluntary: u64,
    involuntary: u64,
}

impl Snapshot {
    /// Nothing spent, at this moment.
    fn of_now() -> Snapshot {
        Snapshot {
            taken: Instant::now(),
            cpu: CpuTime::default(),
            memory_peak_bytes: None,
            resident_bytes: 0,
            page_cache_bytes: 0,
            disk_written_bytes: 0,
            disk_read_bytes: 0,
            switches: BTreeMap::new(),
        }
    }

    /// The same with what only the control group of the process knows, if it has one. The page cache is the group's then, else
    /// that of the whole machine.
    pub(crate) fn with_group(self, group: Option<&ControlGroup>) -> Snapshot {
        let page_cache_bytes = group.and_then(ControlGroup::page_cache_bytes).or_else(machine::page_cache).unwrap_or(0);
        Snapshot { memory_peak_bytes: group.and_then(ControlGroup::memory_peak_bytes), page_cache_bytes, ..self }
    }

    /// What was spent between `before` and this one, of the same process or machine. Memory is that of this one.
    pub(crate) fn usage_since(&self, before: &Snapshot) -> Usage {
        let cpu_s = self.cpu.total.saturating_sub(before.cpu.total).as_secs_f64();
        let user_share = self.cpu.user_share_since(&before.cpu);
        let switches = self.switches_since(before);
        Usage {
            seconds: self.taken.duration_since(before.taken).as_secs_f64(),
            cpu_s,
            cpu_user_s: cpu_s * user_share,
            cpu_system_s: cpu_s * (1.0 - user_share),
            memory_peak_bytes: self.memory_peak_bytes,
            resident_bytes: self.resident_bytes,
            page_cache_bytes: self.page_cache_bytes,
            disk_written_bytes: self.disk_written_bytes.saturating_sub(before.disk_written_bytes),
            disk_read_bytes: self.disk_read_bytes.saturating_sub(before.disk_read_bytes),
            context_switches_voluntary: switches.voluntary,
            context_switches_involuntary: switches.involuntary,
        }
    }

    fn switches_since(&self, before: &Snapshot) -> Switches {
        let mut sum = Switches::default();
        for (thread, now) in &self.switches {
            let then = before.switches.get(thread).copied().unwrap_or_default();
            // The number of a thread that ended may have been given to another.
            sum.voluntary += now.voluntary.saturating_sub(then.voluntary);
            sum.involuntary += now.involuntary.saturating_sub(then.involuntary);
        }
        sum
    }
}
