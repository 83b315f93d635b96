//! The scripts below `tuning/` on machines that are made of files: what they report, change, and change back.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use corelane::limits::{IO_MEMORY_BYTES, LISTEN_BACKLOG, SHARDS_DEFAULT_MAX};
use tempfile::TempDir;

/// Where apply.sh keeps what was there before.
const STATE: &str = "run/corelane/tuning";
const GOVERNOR: &str = "sys/devices/system/cpu/cpufreq/policy0/scaling_governor";
const SCHEDULER: &str = "sys/block/nvme0n1/queue/scheduler";
const CONGESTION_CONTROL: &str = "proc/sys/net/ipv4/tcp_congestion_control";

/// A directory that stands for the root of a machine.
struct Machine(TempDir);

impl Machine {
    /// One on which nothing of what the scripts look for is there, as on a small virtual machine.
    fn bare() -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        machine.write("proc/cpuinfo", "model name\t: A Processor\nflags\t\t: fpu hypervisor\n");
        machine
    }

    /// Two cores with two threads each, an NVMe disk with a partition, a card with two queues, all of it as nobody wants it.
    fn untuned() -> Machine {
        let machine = Machine(tempfile::tempdir().unwrap());
        machine.write("proc/cpuinfo", "model name\t: A Processor\nflags\t\t: fpu sse2\n");
        machine.write("proc/self/status", "Name:\tbash\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-3\n");
        machine.write(
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max locked memory         65536                8388608              bytes     \n\
             Max open files            1024                 4096                 files     \n",
        );
        machine.write("proc/self/cgroup", "0::/service\n");
        machine.write("sys/fs/cgroup/service/cpu.max", "150000 100000\n");
        machine.write(
            "proc/self/mountinfo",
            "22 1 259:2 / / rw,relatime - ext4 /dev/nvme1n1 rw\n\
             23 22 259:1 / /srv/the\\040data rw,noatime - ext4 /dev/nvme0n1p1 rw,nobarrier\n",
        );
        machine.write("proc/swaps", "Filename Type Size Used Priority\n/swapfile file 1048572 0 -2\n");
        machine.write("proc/1/comm", "systemd\n");
        machine
            .write("proc/interrupts", "      CPU0 CPU1\n 40: 1 0 PCI-MSI eth0-TxRx-0\n 41: 1 0 PCI-MSI eth0-TxRx-1\n");
        for interrupt in ["40", "41"] {
            machine.write(&format!("proc/irq/{interrupt}/smp_affinity_list"), "0\n");
            machine.write(&format!("sys/devices/pci0/msi_irqs/{interrupt}"), "msix\n");
        }
        for (name, value) in [
            ("vm/swappiness", "60"),
            ("kernel/io_uring_disabled", "2"),
            ("kernel/osrelease", "6.12.0"),
            ("net/core/somaxconn", "128"),
            ("net/ipv4/tcp_available_congestion_control", "reno bbr cubic"),
        ] {
            machine.write(&format!("proc/sys/{name}"), &format!("{value}\n"));
        }
        machine.write(CONGESTION_CONTROL, "bbr\n");
        for cpu in 0..4 {
            let directory = format!("sys/devices/system/cpu/cpu{cpu}");
            machine.write(
                &format!("{directory}/topology/thread_siblings_list"),
                &format!("{},{}\n", cpu % 2, cpu % 2 + 2),
            );
            machine.write(&format!("{directory}/cpuidle/state0/name"), "C6\n");
            machine.write(&format!("{directory}/cpuidle/state0/latency"), "133\n");
            machine.write(&format!("{directory}/cpuidle/state0/disable"), "0\n");
        }
        machine.write("sys/devices/system/cpu/online", "0-3\n");
        machine.write("sys/devices/system/cpu/smt/active", "1\n");
        machine.write("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n");
        for policy in ["policy0", "policy1"] {
            let directory = format!("sys/devices/system/cpu/cpufreq/{policy}");
            machine.write(&format!("{directory}/scaling_available_governors"), "performance powersave schedutil\n");
            machine.write(&format!("{directory}/scaling_governor"), "schedutil\n");
        }
        machine.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
        machine.write("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
        machine.write("sys/kernel/mm/transparent_hugepage/defrag", "[always] defer defer+madvise madvise never\n");
        for (name, value) in [("write_cache", "write back"), ("fua", "1"), ("io_poll", "1"), ("rotational", "0")] {
            machine.write(&format!("sys/block/nvme0n1/queue/{name}"), &format!("{value}\n"));
        }
        machine.write(SCHEDULER, "none [mq-deadline] kyber\n");
        machine.write("sys/devices/nvme0/nvme0n1/nvme0n1p1/partition", "1\n");
        machine.link("sys/dev/block/259:1", "../../devices/nvme0/nvme0n1/nvme0n1p1");
        machine.link("sys/class/net/eth0/device", "../../../devices/pci0");
        for queue in ["rx-0", "tx-0"] {
            machine.write(&format!("sys/class/net/eth0/queues/{queue}/rps_cpus"), "0\n");
        }
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).unwrap()
    }

    /// Every file with its text; of alternatives only the one that is chosen, as a plain file does not choose by itself.
    fn files(&self) -> BTreeMap<String, String> {
        fn walk(directory: &Path, files: &mut BTreeMap<String, String>) {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), files);
                } else if entry.file_type().unwrap().is_file() {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
                    let text = chosen.map_or(text.clone(), |(chosen, _)| format!("{chosen}\n"));
                    files.insert(entry.path().display().to_string(), text);
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(self.0.path(), &mut files);
        files
    }

    /// Runs a script on it, and gives what it printed.
    fn run(&self, script: &str, arguments: &[&str]) -> String {
        let (status, text) = run(script, arguments, Some(self.0.path()));
        assert_eq!(status, Some(0), "{script}: {text}");
        text
    }
}

/// Exit status and both outputs.
fn run(script: &str, arguments: &[&str], root: Option<&Path>) -> (Option<i32>, String) {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(script));
    command.args(arguments).env_remove("TUNING_ROOT");
    if let Some(root) = root {
        command.env("TUNING_ROOT", root);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), text)
}

/// The block of one item.
fn block<'a>(report: &'a str, item: &str) -> &'a str {
    let name = format!("({item}): ");
    report.split("\n\n").find(|block| block.contains(&name)).unwrap_or_else(|| panic!("{item} in {report}"))
}

/// Text without the line breaks that are there for the width of a screen.
fn unfolded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

const DATA: [&str; 2] = ["--data", "/srv/the data/corelane"];

#[test]
fn check_finds_what_is_wrong_and_changes_nothing() {
    let machine = Machine::untuned();
    let before = machine.files();
    let report = machine.run("check.sh", &DATA);
    for (item, found) in [
        ("cpu-governor", "schedutil (2 policies)"),
        ("cpu-boost", "off"),
        ("cpu-idle", "C6, 133 µs"),
        ("cpu-limit", "150000 of every 100000 µs in /service"),
        ("clock", "hpet"),
        ("disk-scheduler", "nvme0n1: mq-deadline"),
        ("disk-polling", "nvme.poll_queues=0"),
        ("mount-options", "DANGER: nobarrier"),
        ("locked-memory", "8192 KiB in this shell, 196608 KiB wanted for 2 shards"),
        ("open-files", "4096 in this shell"),
        ("huge-pages", "enabled: always, defrag: always"),
        ("swap", "vm.swappiness 60"),
        ("io-uring", "switched off"),
        ("interrupts", "eth0: 2 interrupts on CPUs 0"),
        ("nic-queues", "eth0: 1 to receive, 1 to send"),
        ("congestion-control", "echo cubic > /proc/sys/net/ipv4/tcp_congestion_control"),
        ("listen-backlog", "128"),
    ] {
        let block = block(&report, item);
        assert!(block.lines().next().unwrap().ends_with(": advice"), "{block}");
        assert!(unfolded(block).contains(found), "{found} in {block}");
    }
    for (item, found) in [
        ("smt", "on; 2 shards"),
        ("disk-write-cache", "nvme0n1: write back, single writes through it possible"),
        ("filesystem", "ext4 on /srv/the data, disk nvme0n1"),
    ] {
        let block = block(&report, item);
        assert!(block.lines().next().unwrap().ends_with(": ok"), "{block}");
        assert!(unfolded(block).contains(found), "{found} in {block}");
    }
    assert_eq!(machine.files(), before);
}

#[test]
fn apply_changes_what_check_names_and_revert_restores_it() {
    let machine = Machine::untuned();
    let before = machine.files();
    let dry = machine.run("apply.sh", &[DATA[0], DATA[1], "--dry-run"]);
    assert!(dry.contains("would write none to /sys/block/nvme0n1/queue/scheduler, where mq-deadline is"), "{dry}");
    assert!(dry.contains("7 values would be changed, none was"), "{dry}");
    assert_eq!(machine.files(), before);

    machine.run("apply.sh", &DATA);
    assert_eq!(machine.read(GOVERNOR), "performance\n");
    assert_eq!(machine.read(SCHEDULER), "none\n");
    assert_eq!(machine.read("sys/kernel/mm/transparent_hugepage/enabled"), "madvise\n");
    assert_eq!(machine.read("proc/sys/vm/swappiness"), "1\n");
    assert_eq!(machine.read("proc/sys/net/core/somaxconn"), "4096\n");
    // These only when asked for.
    assert_eq!(machine.read(CONGESTION_CONTROL), "bbr\n");
    assert_eq!(machine.read("proc/irq/41/smp_affinity_list"), "0\n");
    assert_eq!(machine.read("proc/sys/kernel/io_uring_disabled"), "2\n");
    let report = machine.run("check.sh", &DATA);
    assert!(report.contains("apply.sh would change: nothing"), "{report}");
    assert!(report.contains("revert.sh takes it back"), "{report}");

    let state = machine.read(STATE);
    assert!(machine.run("apply.sh", &DATA).contains("nothing to change"));
    assert_eq!(machine.read(STATE), state);

    let dry = machine.run("revert.sh", &["--dry-run"]);
    assert!(dry.contains("would write mq-deadline to /sys/block/nvme0n1/queue/scheduler, where none is"), "{dry}");
    assert_eq!(machine.read(SCHEDULER), "none\n");
    machine.run("revert.sh", &[]);
    assert_eq!(machine.files(), before);
    assert!(machine.run("revert.sh", &[]).contains("nothing to revert"));
}

#[test]
fn what_is_asked_for_is_changed_too() {
    let machine = Machine::untuned();
    let before = machine.files();
    let also = ["congestion-control", "interrupts", "cpu-idle", "io-uring"];
    let mut arguments = DATA.to_vec();
    for item in also {
        arguments.extend(["--also", item]);
    }
    machine.run("apply.sh", &arguments);
    assert_eq!(machine.read(CONGESTION_CONTROL), "cubic\n");
    assert_eq!(machine.read("proc/irq/40/smp_affinity_list"), "0\n");
    assert_eq!(machine.read("proc/irq/41/smp_affinity_list"), "1\n");
    assert_eq!(machine.read("sys/devices/system/cpu/cpu3/cpuidle/state0/disable"), "1\n");
    assert_eq!(machine.read("proc/sys/kernel/io_uring_disabled"), "0\n");
    machine.run("revert.sh", &[]);
    assert_eq!(machine.files(), before);

    for (item, why) in [("disk-scheduler", "needs no --also"), ("everything", "no item is called everything")] {
        let (status, text) = run("apply.sh", &["--also", item], Some(machine.0.path()));
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains(why), "{text}");
    }
    assert_eq!(machine.files(), before);
}

#[test]
fn the_first_values_are_kept_and_those_of_others_left_alone() {
    let machine = Machine::untuned();
    machine.run("apply.sh", &DATA);
    // A power daemon takes the governor back, and apply.sh runs again: what was there at first is still what returns.
    machine.write(GOVERNOR, "powersave\n");
    machine.run("apply.sh", &DATA);
    assert_eq!(machine.read(GOVERNOR), "performance\n");
    // Somebody chooses another scheduler later: that is theirs.
    machine.write(SCHEDULER, "kyber\n");
    let text = machine.run("revert.sh", &[]);
    assert!(text.contains("left alone, somebody changed it from none to kyber"), "{text}");
    assert_eq!(machine.read(SCHEDULER), "kyber\n");
    assert_eq!(machine.read(GOVERNOR), "schedutil\n");
    assert!(!machine.0.path().join(STATE).exists());
}

#[test]
fn irqbalance_is_to_be_stopped_first() {
    let machine = Machine::untuned();
    machine.write("proc/812/comm", "irqbalance\n");
    let report = machine.run("check.sh", &DATA);
    assert!(block(&report, "interrupts").contains("Stop irqbalance first"), "{report}");
    machine.run("apply.sh", &[DATA[0], DATA[1], "--also", "interrupts"]);
    assert_eq!(machine.read("proc/irq/41/smp_affinity_list"), "0\n");
}

#[test]
fn what_a_machine_does_not_have_is_reported_not_failed() {
    let machine = Machine::bare();
    let before = machine.files();
    let report = machine.run("check.sh", &[]);
    assert!(report.starts_with("A broker with its data in ./data, on a virtual machine"), "{report}");
    assert!(report.contains("items: 0 ok, 0 with advice"), "{report}");
    assert!(block(&report, "cpu-governor").contains("not present here"), "{report}");
    assert!(machine.run("apply.sh", &[]).contains("nothing to change"));
    assert!(machine.run("revert.sh", &[]).contains("nothing to revert"));
    assert_eq!(machine.files(), before);
}

#[test]
fn this_machine_can_be_checked() {
    let (status, report) = run("check.sh", &[], None);
    assert_eq!(status, Some(0), "{report}");
    let (status, plan) = run("apply.sh", &["--dry-run"], None);
    assert_eq!(status, Some(0), "{plan}");
    let (status, usage) = run("check.sh", &["--unknown"], None);
    assert_eq!(status, Some(1), "{usage}");
}

#[test]
fn numbers_of_the_scripts_are_those_of_the_broker() {
    let items = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning/items.sh")).unwrap();
    for line in [
        // Three rings register it each.
        format!("locked_kib_per_shard={}", 3 * IO_MEMORY_BYTES / 1024),
        format!("shards_default_max={SHARDS_DEFAULT_MAX}"),
        format!("listen_backlog={LISTEN_BACKLOG}"),
    ] {
        assert!(items.lines().any(|item| item == line), "{line}");
    }
}
