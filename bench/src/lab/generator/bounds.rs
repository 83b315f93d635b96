//! Every bound of the generator, with its unit and its reason.

/// Bytes of a thread's receive buffer, shared by its connections. A fetch answer streams through it, so it needs not hold
/// one; large enough that a full socket buffer takes few calls.
pub(super) const RECEIVE_BYTES: usize = 256 * 1024;

/// Largest answer other than to a fetch, in bytes: 10,000 partitions take about 300 KiB.
pub(super) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Batches that are ready and wait for a connection, of one producer. What is due beyond stays a number in the schedule:
/// it costs no memory, is not lost, and its latency grows. Above what one request of 10,000 partitions takes.
pub(super) const READY_BATCHES_MAX: usize = 16 * 1024;

/// Bytes of encoded batches that one producer holds, as `buffer.memory` of Kafka's producer: 32 MiB.
pub(super) const PRODUCER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Pieces of one gathered write: the kernel's `UIO_MAXIOV`.
pub(super) const WRITE_PIECES_MAX: usize = 1024;

/// Events taken from the kernel at a time.
pub(super) const EVENTS_MAX: usize = 256;

/// Nanoseconds in which answers are awaited after the last record: Kafka's own `request.timeout.ms` is longer, but what
/// takes a load test 10 s was lost.
pub(super) const DRAIN_NS: u64 = 10_000_000_000;

/// Longest latency that a histogram tells apart, in microseconds: one hour.
pub(super) const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Significant decimal digits of a histogram: 0.1 %.
pub(super) const LATENCY_DIGITS: u8 = 3;

/// Timestamp of the moment at which a run starts. Not 0, so that a record due right then has one like any other.
pub(super) const TIMESTAMP_BASE: u64 = 1_000;

/// Bytes of compressed batches that a template keeps. At an even rate few lengths occur, so this is not reached there.
pub(super) const TEMPLATE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of random data from which values are cut. Beyond the window of gzip, snappy and lz4, so that they do not find
/// one value in another more often than the workload says.
pub(super) const RANDOM_BYTES: usize = 4 * 1024 * 1024;

/// Nanoseconds from the last preparation to the first record: enough for every thread to be awake.
pub(super) const START_AHEAD_NS: u64 = 10_000_000;

/// Keys whose partitions are computed beforehand: 4 MiB of table for each thread.
pub(super) const KEY_TABLE_MAX: u64 = 1024 * 1024;

/// Nanoseconds between a member's heartbeats: `heartbeat.interval.ms` of Kafka's consumer, 3 s.
pub(super) const HEARTBEAT_NS: u64 = 3_000_000_000;

/// Nanoseconds between a member's commits: `auto.commit.interval.ms` of Kafka's consumer, 5 s.
pub(super) const COMMIT_NS: u64 = 5_000_000_000;

/// Nanoseconds to the next fetch after one that failed, so that a partition in trouble is not asked for in a circle.
pub(super) const FETCH_PAUSE_NS: u64 = 100_000_000;

/// Seconds in which nothing of a backlog is acknowledged until it is given up.
pub(super) const BACKLOG_IDLE_S_MAX: u32 = 10;

/// Batches of a backlog that are unanswered on one connection, so that it is stored at full speed.
pub(super) const BACKLOG_REQUESTS_IN_FLIGHT: u32 = 5;
