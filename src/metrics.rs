//! What a shard counts: plain counters, gauges and histograms, and their Prometheus text.
//!
//! One [`ShardMetrics`] per shard. **Only its shard writes it**: a write is a relaxed load and a relaxed store, which
//! costs what a plain addition costs, and would lose counts with a second writer. Any thread may read; a reader sees each
//! number whole, but numbers of different moments. Nothing here locks or allocates on the hot path.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::limits::API_KEYS_MAX;
use crate::types::ShardId;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. For the owning shard only.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The number so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the number. For the owning shard only.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Buckets of a histogram: two per power of two, from 1 µs to beyond a minute.
const BUCKETS: usize = 54;

/// Durations in microseconds, in buckets that are at most a third (upwards) apart: 1, 2, 3, 4, 6, 8, 12, 16, 24 …
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    beyond: Counter,
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            beyond: Counter::default(),
            sum_us: Counter::default(),
        }
    }
}

impl Histogram {
    /// Counts one duration. For the owning shard only.
    pub fn record(&self, us: u64) {
        match self.buckets.get(bucket_of(us)) {
            Some(bucket) => bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed),
            None => self.beyond.add(1),
        }
        self.sum_us.add(us);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum::<u64>() + self.beyond.value()
    }

    /// The upper bound, in microseconds, of the bucket that holds the given share (0 to 1) of all durations; 0 without any.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let total = counts.iter().sum::<u64>() + self.beyond.value();
        let mut seen = 0;
        for (index, count) in counts.iter().enumerate() {
            seen += count;
            // The share is a display value: the loss of precision of a count above 2^53 does not show.
            #[allow(clippy::cast_precision_loss)]
            let reached = seen as f64 >= share * total as f64;
            if reached && total > 0 {
                return bucket_bound_us(index);
            }
        }
        if total == 0 { 0 } else { u64::MAX }
    }

    /// Appends the buckets, sum and count of Prometheus' histogram, in seconds. `labels` is without braces.
    fn render(&self, name: &str, labels: &str, out: &mut String) {
        let mut below = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            below += bucket.load(Ordering::Relaxed);
            let bound = Seconds(bucket_bound_us(index));
            line(out, format_args!("{name}_bucket{{{labels},le=\"{bound}\"}} {below}"));
        }
        let count = below + self.beyond.value();
        line(out, format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"));
        line(out, format_args!("{name}_sum{{{labels}}} {}", Seconds(self.sum_us.value())));
        line(out, format_args!("{name}_count{{{labels}}} {count}"));
    }
}

/// The bucket of a duration: the first whose bound is not below it.
fn bucket_of(us: u64) -> usize {
    if us <= 2 {
        return usize::from(us == 2);
    }
    // The power of two below `us`, and which half of the way to the next: 3 → (2, lower), 4 → (2, upper), 5 → (4, lower).
    let power = (us - 1).ilog2();
    let upper = u32::from(us > (3 << power) / 2);
    usize::try_from(2 * power + upper).expect("at most 127")
}

/// The greatest duration of a bucket.
fn bucket_bound_us(index: usize) -> u64 {
    match index {
        0 => 1,
        1 => 2,
        _ if index.is_multiple_of(2) => (3 << (index / 2)) / 2,
        _ => 2 << (index / 2),
    }
}

/// Microseconds, written as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// All that one shard counts.
#[derive(Debug)]
pub struct ShardMetrics {
    shard: ShardId,
    /// Bytes received from clients.
    pub network_bytes_in: Counter,
    /// Bytes sent to clients.
    pub network_bytes_out: Counter,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections closed at once because the shard had its number.
    pub connections_refused: Counter,
    /// Connections open.
    pub connections: Gauge,
    /// Bytes of requests received and not yet applied.
    pub request_bytes_in_flight: Gauge,
    /// Bytes of record batches appended.
    pub produce_bytes: Counter,
    /// Record batches appended.
    pub produce_batches: Counter,
    /// Records appended.
    pub produce_records: Counter,
    /// Record batches recompressed, because their topic stores another codec than they came with.
    pub produce_recompressed_batches: Counter,
    /// Bytes of record batches given to consumers.
    pub fetch_bytes: Counter,
    /// Requests whose data came from or went to another core.
    pub crossings: Counter,
    /// Groups that the shard coordinates.
    pub groups: Gauge,
    /// Offsets committed by groups, one for each partition of a commit.
    pub group_commits: Counter,
    /// Assignments made: generations of classic groups, target assignments of others.
    pub group_rebalances: Counter,
    /// Group coordinators loaded.
    pub group_loads: Counter,
    /// Time that loading them took, in microseconds.
    pub group_load_us: Counter,
    /// Time of each flush.
    pub flush_time: Histogram,
    /// Reads answered from the blocks in memory.
    pub cache_hits: Counter,
    /// Reads that had to go to the disk.
    pub cache_misses: Counter,
    /// Bytes of memory in use for blocks, cold reads, requests and answers: what was allocated for data.
    pub memory_bytes: Gauge,
    /// Bytes of memory the shard may use.
    pub memory_bytes_max: Gauge,
    /// Bytes of log entries appended since the store was opened, headers included.
    pub log_appended_bytes: Gauge,
    /// Bytes given to disk writes since the store was opened: above `log_appended_bytes` by what was written again.
    pub disk_written_bytes: Gauge,
    /// Disk writes completed since the store was opened.
    pub disk_writes: Gauge,
    /// Checkpoints written since the store was opened.
    pub checkpoints: Gauge,
    /// Segments with live data, the open one included.
    pub segments: Gauge,
    /// Segment files ready for reuse.
    pub segments_free: Gauge,
    /// 1 when the store is read-only after a failed write or flush.
    pub store_read_only: Gauge,
    /// 1 while records are refused for want of space.
    pub store_full: Gauge,
    /// Reads of what is stored that failed: the disk gave an error, or other bytes than were written.
    pub damaged_reads: Counter,
    /// Segments read whole for one partition since the start, because their footer is damaged.
    pub segments_scanned: Gauge,
    /// Bytes of entries in segments that are live.
    pub store_live_bytes: Gauge,
    /// Bytes of segments in use.
    pub store_used_bytes: Gauge,
    /// Bytes of entries that the cleaner moved since the start.
    pub store_moved_bytes: Gauge,
    /// Memory of the store's index.
    pub store_index_bytes: Gauge,
    /// Parts of partitions that the cleaner or the scrub found damaged since the start, and left where they are.
    pub store_damaged_rows: Gauge,
    /// Compaction passes that came to their end.
    pub compaction_passes: Gauge,
    /// Bytes of batches that they went over.
    pub compaction_read_bytes: Gauge,
    /// Bytes of batches that were left of them.
    pub compaction_written_bytes: Gauge,
    /// Logs that cannot be compacted.
    pub uncompactable_logs: Gauge,
    /// Bytes of old data that the scrub read since the start.
    pub store_scrubbed_bytes: Gauge,
    /// When the scrub had last read all of it once over, in seconds since 1970; 0 before.
    pub store_scrubbed_at_seconds: Gauge,
    /// Partitions the shard owns.
    pub partitions: Gauge,
    requests: [OnceLock<Box<Histogram>>; API_KEYS_MAX],
}

impl ShardMetrics {
    /// All zero.
    pub fn new(shard: ShardId) -> Arc<ShardMetrics> {
        Arc::new(ShardMetrics {
            shard,
            network_bytes_in: Counter::default(),
            network_bytes_out: Counter::default(),
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections: Gauge::default(),
            request_bytes_in_flight: Gauge::default(),
            produce_bytes: Counter::default(),
            produce_batches: Counter::default(),
            produce_records: Counter::default(),
            produce_recompressed_batches: Counter::default(),
            fetch_bytes: Counter::default(),
            crossings: Counter::default(),
            groups: Gauge::default(),
            group_commits: Counter::default(),
            group_rebalances: Counter::default(),
            group_loads: Counter::default(),
            group_load_us: Counter::default(),
            flush_time: Histogram::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            memory_bytes: Gauge::default(),
            memory_bytes_max: Gauge::default(),
            log_appended_bytes: Gauge::default(),
            disk_written_bytes: Gauge::default(),
            disk_writes: Gauge::default(),
            checkpoints: Gauge::default(),
            segments: Gauge::default(),
            segments_free: Gauge::default(),
            store_read_only: Gauge::default(),
            store_full: Gauge::default(),
            damaged_reads: Counter::default(),
            segments_scanned: Gauge::default(),
            store_live_bytes: Gauge::default(),
            store_used_bytes: Gauge::default(),
            store_moved_bytes: Gauge::default(),
            store_index_bytes: Gauge::default(),
            store_damaged_rows: Gauge::default(),
            compaction_passes: Gauge::default(),
            compaction_read_bytes: Gauge::default(),
            compaction_written_bytes: Gauge::default(),
            uncompactable_logs: Gauge::default(),
            store_scrubbed_bytes: Gauge::default(),
            store_scrubbed_at_seconds: Gauge::default(),
            partitions: Gauge::default(),
            requests: [const { OnceLock::new() }; API_KEYS_MAX],
        })
    }

    /// The shard that writes here.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Counts one answered request: its Kafka API key and the time from its last byte to its answer.
    pub fn on_request(&self, api_key: i16, us: u64) {
        // The key comes from the peer; one beyond the table is counted nowhere, since it is not served either.
        let slot = usize::try_from(api_key).ok().and_then(|key| self.requests.get(key));
        if let Some(slot) = slot {
            slot.get_or_init(Box::default).record(us);
        }
    }

    /// The times of one API's requests, when there were any.
    pub fn requests(&self, api_key: i16) -> Option<&Histogram> {
        self.requests.get(usize::try_from(api_key).ok()?)?.get().map(|histogram| &**histogram)
    }
}

/// The numbers of all shards in Prometheus' text format.
pub fn render(shards: &[Arc<ShardMetrics>]) -> String {
    let mut out = String::with_capacity(32 * 1024);
    for metric in METRICS {
        head(&mut out, metric.name, metric.kind, metric.help);
        for shard in shards {
            line(&mut out, format_args!("{}{{shard=\"{}\"}} {}", metric.name, shard.shard, (metric.value)(shard)));
        }
    }
    let name = "corelane_flush_seconds";
    head(&mut out, name, "histogram", "Time of one flush (fdatasync) of the shard's log.");
    for shard in shards {
        shard.flush_time.render(name, &format!("shard=\"{}\"", shard.shard), &mut out);
    }
    let name = "corelane_request_seconds";
    head(&mut out, name, "histogram", "Time from the last byte of a request to its answer being ready.");
    for shard in shards {
        for (key, histogram) in shard.requests.iter().enumerate() {
            if let Some(histogram) = histogram.get() {
                let labels = format!("shard=\"{}\",api=\"{}\"", shard.shard, ApiName(key));
                histogram.render(name, &labels, &mut out);
            }
        }
    }
    out
}

/// One line of the table of plain numbers.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&ShardMetrics) -> u64,
}

/// Shorthand for a row that only grows.
const fn counter(name: &'static str, help: &'static str, value: fn(&ShardMetrics) -> u64) -> Metric {
    Metric { name, kind: "counter", help, value }
}

/// Shorthand for a row that goes up and down.
const fn gauge(name: &'static str, help: &'static str, value: fn(&ShardMetrics) -> u64) -> Metric {
    Metric { name, kind: "gauge", help, value }
}

#[rustfmt::skip]
const METRICS: &[Metric] = &[
    counter("corelane_network_bytes_in_total", "Bytes received from clients.", |m| m.network_bytes_in.value()),
    counter("corelane_network_bytes_out_total", "Bytes sent to clients.", |m| m.network_bytes_out.value()),
    counter("corelane_connections_accepted_total", "Connections accepted.", |m| m.connections_accepted.value()),
    counter("corelane_connections_refused_total", "Connections closed at once: the shard had its number.", |m| m.connections_refused.value()),
    gauge("corelane_connections", "Connections open.", |m| m.connections.value()),
    gauge("corelane_request_bytes_in_flight", "Bytes of requests received and not yet applied.", |m| m.request_bytes_in_flight.value()),
    counter("corelane_produce_bytes_total", "Bytes of record batches appended.", |m| m.produce_bytes.value()),
    counter("corelane_produce_batches_total", "Record batches appended.", |m| m.produce_batches.value()),
    counter("corelane_produce_records_total", "Records appended.", |m| m.produce_records.value()),
    counter("corelane_produce_recompressed_batches_total", "Record batches recompressed for their topic.", |m| {
        m.produce_recompressed_batches.value()
    }),
    counter("corelane_fetch_bytes_total", "Bytes of record batches given to consumers.", |m| m.fetch_bytes.value()),
    counter("corelane_crossings_total", "Requests whose data crossed a core.", |m| m.crossings.value()),
    counter("corelane_cache_hits_total", "Reads answered from memory.", |m| m.cache_hits.value()),
    counter("corelane_cache_misses_total", "Reads that went to the disk.", |m| m.cache_misses.value()),
    gauge("corelane_memory_bytes", "Memory in use for blocks, cold reads, requests and answers.", |m| m.memory_bytes.value()),
    gauge("corelane_memory_bytes_max", "Memory the shard may use.", |m| m.memory_bytes_max.value()),
    gauge("corelane_log_appended_bytes", "Log bytes appended since the start.", |m| m.log_appended_bytes.value()),
    gauge("corelane_disk_written_bytes", "Bytes given to writes since the start.", |m| m.disk_written_bytes.value()),
    gauge("corelane_disk_writes", "Writes completed since the start.", |m| m.disk_writes.value()),
    gauge("corelane_checkpoints", "Checkpoints written since the start.", |m| m.checkpoints.value()),
    gauge("corelane_segments", "Segments with live data.", |m| m.segments.value()),
    gauge("corelane_segments_free", "Segment files ready for reuse.", |m| m.segments_free.value()),
    gauge("corelane_store_read_only", "1 after a failed write or flush.", |m| m.store_read_only.value()),
    gauge("corelane_store_full", "1 while records are refused for want of space.", |m| m.store_full.value()),
    counter("corelane_damaged_reads_total", "Reads that met a disk error or other bytes than were written.", |m| m.damaged_reads.value()),
    gauge("corelane_segments_scanned", "Segments read whole for one partition since the start, because their footer is damaged.", |m| m.segments_scanned.value()),
    gauge("corelane_store_live_bytes", "Log bytes of records that are kept.", |m| m.store_live_bytes.value()),
    gauge("corelane_store_used_bytes", "Bytes of segments in use: live records and what died beside them.", |m| m.store_used_bytes.value()),
    gauge("corelane_store_moved_bytes", "Log bytes moved to give back the space beside them, since the start.", |m| m.store_moved_bytes.value()),
    gauge("corelane_store_index_bytes", "Memory of the log's index, which is part of corelane_memory_bytes.", |m| m.store_index_bytes.value()),
    gauge("corelane_store_damaged_rows", "Parts of partitions found damaged since the start, by the check of old data or when they were to be moved.", |m| m.store_damaged_rows.value()),
    gauge("corelane_compaction_passes", "Compaction passes over a partition that came to their end, since the start.", |m| m.compaction_passes.value()),
    gauge("corelane_compaction_read_bytes", "Bytes of batches that compaction went over, since the start.", |m| m.compaction_read_bytes.value()),
    gauge("corelane_compaction_written_bytes", "Bytes of batches that were left of those, and written again.", |m| m.compaction_written_bytes.value()),
    gauge("corelane_uncompactable_partitions", "Partitions that are not compacted until a restart: a part is damaged, or holds no records.", |m| m.uncompactable_logs.value()),
    gauge("corelane_store_scrubbed_bytes", "Bytes of old data that were read again to check them, since the start.", |m| m.store_scrubbed_bytes.value()),
    gauge("corelane_store_scrubbed_at_seconds", "Unix time at which all old data had last been checked once over; 0 before.", |m| m.store_scrubbed_at_seconds.value()),
    gauge("corelane_groups", "Groups that the shard coordinates.", |m| m.groups.value()),
    counter("corelane_group_commits_total", "Offsets committed, one for each partition of a commit.", |m| m.group_commits.value()),
    counter("corelane_group_rebalances_total", "Assignments made: generations and target assignments.", |m| m.group_rebalances.value()),
    counter("corelane_group_loads_total", "Group coordinators loaded.", |m| m.group_loads.value()),
    counter("corelane_group_load_microseconds_total", "Time that loading group coordinators took.", |m| m.group_load_us.value()),
    gauge("corelane_partitions", "Partitions the shard owns.", |m| m.partitions.value()),
];

/// Kafka's name of an API key, for a label; the number where Corelane does not serve it.
struct ApiName(usize);

impl std::fmt::Display for ApiName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.0 {
            0 => "Produce",
            1 => "Fetch",
            2 => "ListOffsets",
            3 => "Metadata",
            8 => "OffsetCommit",
            9 => "OffsetFetch",
            10 => "FindCoordinator",
            11 => "JoinGroup",
            12 => "Heartbeat",
            13 => "LeaveGroup",
            14 => "SyncGroup",
            15 => "DescribeGroups",
            16 => "ListGroups",
            17 => "SaslHandshake",
            18 => "ApiVersions",
            19 => "CreateTopics",
            20 => "DeleteTopics",
            21 => "DeleteRecords",
            22 => "InitProducerId",
            23 => "OffsetForLeaderEpoch",
            32 => "DescribeConfigs",
            33 => "AlterConfigs",
            36 => "SaslAuthenticate",
            37 => "CreatePartitions",
            42 => "DeleteGroups",
            44 => "IncrementalAlterConfigs",
            47 => "OffsetDelete",
            60 => "DescribeCluster",
            61 => "DescribeProducers",
            68 => "ConsumerGroupHeartbeat",
            69 => "ConsumerGroupDescribe",
            75 => "DescribeTopicPartitions",
            other => return write!(f, "{other}"),
        };
        f.write_str(name)
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lies_between_the_bounds_of_its_bucket() {
        for us in (0..5000).chain([65_535, 65_536, 65_537, 1_000_000, 60_000_000]) {
            let bucket = bucket_of(us);
            assert!(bucket < BUCKETS, "{us}");
            assert!(us <= bucket_bound_us(bucket), "{us} above {}", bucket_bound_us(bucket));
            assert!(bucket == 0 || us > bucket_bound_us(bucket - 1), "{us} not above {}", bucket_bound_us(bucket - 1));
        }
    }

    #[test]
    fn a_duration_beyond_all_buckets_is_counted() {
        let histogram = Histogram::default();
        histogram.record(u64::MAX);
        histogram.record(1 << 40);
        assert_eq!(histogram.count(), 2);
        assert_eq!(histogram.quantile_us(0.5), u64::MAX);
    }

    #[test]
    fn quantiles_name_the_bucket_that_holds_them() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), 0);
        for _ in 0..99 {
            histogram.record(100);
        }
        histogram.record(5000);
        assert_eq!(histogram.quantile_us(0.5), 128);
        assert_eq!(histogram.quantile_us(0.99), 128);
        assert_eq!(histogram.quantile_us(1.0), 6144);
    }

    #[test]
    fn unknown_api_keys_are_counted_nowhere() {
        let metrics = ShardMetrics::new(ShardId::new(0));
        metrics.on_request(-1, 10);
        metrics.on_request(i16::MAX, 10);
        metrics.on_request(18, 10);
        assert_eq!(metrics.requests(18).unwrap().count(), 1);
        assert!(metrics.requests(0).is_none());
        assert!(metrics.requests(-1).is_none());
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let shards = [ShardMetrics::new(ShardId::new(0)), ShardMetrics::new(ShardId::new(1))];
        shards[1].crossings.add(3);
        shards[1].connections.set(2);
        shards[0].on_request(0, 1500);
        shards[0].flush_time.record(90);
        let text = render(&shards);
        assert!(text.contains("# TYPE corelane_crossings_total counter\ncorelane_crossings_total{shard=\"0\"} 0\n"));
        assert!(text.contains("corelane_crossings_total{shard=\"1\"} 3\n"));
        assert!(text.contains("corelane_connections{shard=\"1\"} 2\n"));
        assert!(text.contains("corelane_request_seconds_bucket{shard=\"0\",api=\"Produce\",le=\"0.001024\"} 0\n"));
        assert!(text.contains("corelane_request_seconds_bucket{shard=\"0\",api=\"Produce\",le=\"0.001536\"} 1\n"));
        assert!(text.contains("corelane_request_seconds_sum{shard=\"0\",api=\"Produce\"} 0.001500\n"));
        assert!(text.contains("corelane_flush_seconds_bucket{shard=\"0\",le=\"+Inf\"} 1\n"));
        // Every sample belongs to a family announced before it, and every line is a comment or `name{labels} value`.
        let mut families: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                families.push(rest.split(' ').next().unwrap());
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').unwrap();
                value.parse::<f64>().unwrap();
                assert!(series.starts_with(families.last().unwrap()), "{line}");
                assert!(series.ends_with('}'), "{line}");
            }
        }
    }
}
