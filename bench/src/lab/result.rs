//! What a run of the lab leaves behind: one JSON document with everything that a report draws or a sceptic asks for.
//!
//! Units stand in the names. Histograms are in microseconds and stored raw (HdrHistogram's own V2 format with deflate, in
//! base64, as other tools of that name read it). Fields are only ever added; `schema` rises when one changes its meaning.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::workload::Workload;

/// Version of this document.
pub(crate) const SCHEMA: u32 = 1;

/// One sitting: all trials of a suite, on one host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Run {
    pub(crate) schema: u32,
    /// Name of the suite.
    pub(crate) suite: String,
    /// When it began, RFC 3339 in UTC.
    pub(crate) started: String,
    /// Commit of the broker and of the lab, with `-dirty` where files were changed.
    pub(crate) commit: String,
    /// The command line of the lab.
    pub(crate) command: String,
    pub(crate) host: HostSheet,
    /// The machine's limits, if they were measured.
    pub(crate) probe: Option<Probe>,
    /// What the suite decided on its way, in words: which variant of a server was its best, where the knees were.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
    pub(crate) trials: Vec<Trial>,
}

/// One workload against one server, once.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Trial {
    /// What was sent, whole.
    pub(crate) workload: Workload,
    /// Which row or picture it belongs to, for example `throughput`, `latency`, `ladder`, `partitions`, `catch-up`, `idle`,
    /// `start-time`, `past-recycling`.
    pub(crate) theme: String,
    pub(crate) target: TargetSheet,
    /// 0 for the first of several repeats.
    pub(crate) repeat: u32,
    /// When the seconds that count began (without load: when the server was started), RFC 3339 in UTC with milliseconds. By it
    /// and `load.seconds`, what was observed on the server's host is found.
    pub(crate) started: String,
    /// `None` for a trial without load, such as the time to start.
    pub(crate) load: Option<LoadResult>,
    /// What the server spent over the seconds that count.
    pub(crate) server: Option<Usage>,
    /// What the whole machine spent over the same seconds, the generator included.
    pub(crate) machine: Option<Usage>,
    /// Milliseconds from the start of the server's process to its first answer.
    pub(crate) ready_ms: Option<f64>,
    /// How the server was warmed up before.
    pub(crate) warm_up: Option<WarmUp>,
    /// Why it does not count; empty when it does.
    pub(crate) verdict: Vec<Objection>,
}

/// Why a trial supports no figure, or only some.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Objection {
    /// A maximum while the generator had under a fifth of its CPU left: it shows the generator, and supports no ratio.
    GeneratorLimited {
        /// Share of its CPU that the busiest thread used, 0 to 1.
        cpu_share: f64,
    },
    /// The generator sent later than it meant to by its own fault.
    BehindSchedule {
        /// 99th percentile of how late records were taken up, in microseconds.
        late_p99_us: u64,
    },
    /// The broker did not keep up with the rate: what was not acknowledged grew to the end.
    NotSustained {
        /// Share of the offered records that was acknowledged in time.
        acknowledged_share: f64,
    },
    /// Requests failed.
    Errors {
        /// How many records were not acknowledged for an error, or how many fetches failed.
        count: u64,
        /// The first one, in words.
        first: String,
    },
    /// The warm-up ended by its limit of time, not because the figures had settled.
    NotWarm,
}

/// Which server it was and how it was set up.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct TargetSheet {
    /// Name in tables and pictures, for example `corelane flushed` or `kafka written`.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: TargetKind,
    /// Version or commit.
    pub(crate) version: String,
    pub(crate) durability: Durability,
    /// What sets it apart from others of its kind, for example `all cores, 2 x threads`; empty for the plain one.
    pub(crate) variant: String,
    /// CPUs it may use.
    pub(crate) cpus: Vec<usize>,
    /// CPUs of the generator.
    pub(crate) generator_cpus: Vec<usize>,
    /// Its command line, without paths of the machine.
    pub(crate) command: String,
    /// Every setting that was given to it, and flags of the JVM.
    pub(crate) settings: BTreeMap<String, String>,
}

/// Kinds of servers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TargetKind {
    /// `corelane serve`
    Corelane,
    /// A real Apache Kafka in KRaft mode
    Kafka,
    /// The least on io_uring alone
    FloorRaw,
    /// The least on glommio
    FloorRuntime,
    /// Somebody else's, at an address
    External,
}

/// When an acks=all write is answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Durability {
    /// After the write, before any flush
    Written,
    /// After a flush
    Flushed,
    /// A server of which the lab does not know
    Unknown,
}

/// How a server was warmed up.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct WarmUp {
    /// Seconds under load.
    pub(crate) seconds: f64,
    /// True when two windows of 10 s in a row differed by under 5 % in CPU per byte and in p50.
    pub(crate) settled: bool,
}

/// What the generator saw in the seconds that count.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LoadResult {
    /// Seconds that count.
    pub(crate) seconds: f64,
    /// Records per second that were to be sent; `None` for a maximum.
    pub(crate) offered_per_s: Option<f64>,
    /// Records that were acknowledged (with acks 0: sent).
    pub(crate) produced: Flow,
    /// Records that live consumers received.
    pub(crate) consumed: Flow,
    /// Records that catch-up readers received.
    pub(crate) caught_up: Flow,
    /// From the moment a record was due to its acknowledgement.
    pub(crate) produce_latency: Option<Latency>,
    /// From the moment a record was due to its arrival at a consumer.
    pub(crate) end_to_end_latency: Option<Latency>,
    /// Second by second.
    pub(crate) windows: Vec<Window>,
    pub(crate) generator: GeneratorUsage,
    /// Records that were due and not acknowledged at the end.
    pub(crate) unacknowledged: u64,
    /// Records that failed, or fetches that did.
    pub(crate) errors: u64,
    /// The first error, in words.
    pub(crate) first_error: Option<String>,
}

/// Records and bytes that went one way.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Flow {
    pub(crate) records: u64,
    /// Bytes of keys and values, before compression.
    pub(crate) bytes: u64,
    /// Bytes of batches, as they went over the wire.
    pub(crate) batch_bytes: u64,
    pub(crate) requests: u64,
}

/// A latency over many records.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// All of it: HdrHistogram V2, deflate, base64; microseconds.
    pub(crate) histogram: String,
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) p9999_us: u64,
    pub(crate) p99999_us: u64,
    pub(crate) max_us: u64,
}

/// One second of a trial.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Window {
    /// Seconds from the start of what counts to the window's end.
    pub(crate) second: f64,
    pub(crate) produced_records: u64,
    pub(crate) produced_bytes: u64,
    pub(crate) consumed_records: u64,
    pub(crate) consumed_bytes: u64,
    pub(crate) caught_up_bytes: u64,
    /// Of the records acknowledged in it; 0 where there were none.
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    /// 99th percentile of the end-to-end latency.
    pub(crate) end_to_end_p99_us: u64,
    /// Due and not acknowledged at its end.
    pub(crate) unacknowledged: u64,
}

/// What the load itself cost.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct GeneratorUsage {
    pub(crate) threads: u32,
    pub(crate) connections: u32,
    /// CPU seconds of all threads.
    pub(crate) cpu_s: f64,
    /// Share of its CPU that the busiest thread used, 0 to 1.
    pub(crate) cpu_share_max: f64,
    /// How late records were taken up after they were due, in microseconds.
    pub(crate) late_p99_us: u64,
    pub(crate) late_p999_us: u64,
    pub(crate) late_max_us: u64,
}

/// What a server or a machine spent between two moments.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Usage {
    pub(crate) seconds: f64,
    /// CPU seconds, of all threads, the kernel's workers for its rings included.
    pub(crate) cpu_s: f64,
    pub(crate) cpu_user_s: f64,
    pub(crate) cpu_system_s: f64,
    /// Largest memory in use, page cache included, by the control group; `None` without one.
    pub(crate) memory_peak_bytes: Option<u64>,
    /// Of a server: its largest resident memory so far. Of a machine: what was in use at the end and could not be given back.
    pub(crate) resident_bytes: u64,
    /// Page cache at the end: that of the control group of a server that has one, else that of the whole machine.
    pub(crate) page_cache_bytes: u64,
    /// Of a server: bytes that it wrote directly or made dirty, preparation of files included. Of a machine: bytes that
    /// went to the disk, with what filesystems add.
    pub(crate) disk_written_bytes: u64,
    pub(crate) disk_read_bytes: u64,
    /// Of a machine: all, since the kernel does not tell them apart.
    pub(crate) context_switches_voluntary: u64,
    pub(crate) context_switches_involuntary: u64,
}

/// The host, as far as it matters for the figures.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct HostSheet {
    pub(crate) cpu: String,
    pub(crate) cores: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) kernel: String,
    /// Everything else by name: disk, filesystem, mount options, governor, IRQ affinity, THP, congestion control, virtual
    /// machine, JVM. What a host does not have is left out.
    pub(crate) details: BTreeMap<String, String>,
}

/// What this machine can do at most, by one kind of work after the other.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Probe {
    /// When it was measured, RFC 3339 in UTC.
    pub(crate) measured: String,
    pub(crate) limits: Vec<Limit>,
}

/// One limit.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Limit {
    /// What was done, for example `write`, `write+flush`, `cold read`, `loopback receive`, `memcpy`, `crc32c`.
    pub(crate) work: String,
    /// Bytes of one piece.
    pub(crate) block_bytes: u64,
    /// Pieces in flight.
    pub(crate) depth: u32,
    /// Medians over several rounds.
    pub(crate) bytes_per_s: f64,
    pub(crate) operations_per_s: f64,
    /// Of one piece; `None` where it means nothing.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// CPU nanoseconds per KiB of the side that is measured.
    pub(crate) cpu_ns_per_kib: f64,
}
