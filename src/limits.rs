//! Every bound of the broker, with its unit and its reason. A number that limits memory, time or work lives here.
//!
//! Constants that depend on each other say so to the compiler.

/// Largest request accepted, in bytes after the length prefix. Kafka's default for `socket.request.max.bytes`.
pub const REQUEST_BYTES_MAX: u32 = 100 * 1024 * 1024;

/// Unit of direct I/O: positions, lengths and addresses are multiples of it. Covers 512 B and 4 KiB sectors.
pub const IO_ALIGNMENT: usize = 4096;

/// Size of one block of the log in memory, in bytes. Measured: 1 MiB writes saturate where 16 KiB ones reach a third.
pub const BLOCK_BYTES: usize = 1024 * 1024;

/// Runs of at least this many bytes are copied to a block past the caches. Measured with batches of 16 KiB in requests of
/// 1 MiB: 377 -> 327 ns of CPU per KiB produced; fetches of the tail by eight consumers cost what they did. The bound itself
/// is chosen, not measured: small batches, which whoever waits for them reads at once, stay in the caches.
pub const STREAMED_COPY_BYTES_MIN: usize = 4096;

/// Shortest buffer for direct I/O that gets the memory of a whole block, of which it uses a part: where the system's
/// allocator begins to give memory back.
pub const PART_OF_BLOCK_BYTES_MIN: usize = 128 * 1024;

/// Writes of one shard's log in flight. More gains nothing measurable and lengthens every flush.
pub const WRITES_IN_FLIGHT_MAX: usize = 4;

/// How long a block that is more than half full of new bytes may wait to become full before it is copied and written, in
/// microseconds: a fraction of what the write before it took, in which that much came.
pub const PART_WRITE_PATIENCE_US: u64 = 100;

/// Bytes in flight before a flush that somebody waits for: keeps a flush behind at most two blocks.
pub const FLUSH_BYTES_AHEAD_MAX: usize = 2 * BLOCK_BYTES;

/// Size of a segment file at first, in bytes.
pub const SEGMENT_BYTES_MIN: u32 = 64 * 1024 * 1024;

/// Size of a segment file in a large store, in bytes: fewer files and fewer index rows.
pub const SEGMENT_BYTES_MAX: u32 = 1024 * 1024 * 1024;

/// Largest record batch that a topic may allow, in bytes: it must fit into the smallest segment with its entry header,
/// the segment's own header and the footer. Kafka's default for `max.message.bytes` is 1,048,588.
pub const BATCH_BYTES_MAX: u32 = 48 * 1024 * 1024;
const _: () = assert!(BATCH_BYTES_MAX < SEGMENT_BYTES_MIN - 1024 * 1024);
const _: () = assert!(BATCH_BYTES_MAX < REQUEST_BYTES_MAX);

/// Most memory of one shard unless `--memory` says otherwise, in bytes.
pub const SHARD_MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Least memory of one shard, in bytes: the blocks in flight, a few for the tail cache, and the request buffers.
pub const SHARD_MEMORY_BYTES_MIN: u64 = 32 * 1024 * 1024;

/// Batches up to this size, in bytes, are copied into a fetch answer; larger ones are sent from their block.
/// Measured: below it a copy costs less than one more piece of a gathered send, and it pins no block.
pub const FETCH_COPY_BYTES_MAX: usize = 4096;

/// An answer to a fetch takes at most one part in so many of the memory for answers, so that at least so many fewer one are
/// read and sent beside each other; the last part is for small answers. A batch above it is read by one answer at a time.
pub const ANSWER_SHARES: usize = 8;

/// Least share of one answer, in bytes: a window of a cold read, or a block of the tail.
pub const ANSWER_SHARE_BYTES_MIN: usize = 1024 * 1024;
const _: () = assert!(ANSWER_SHARE_BYTES_MIN >= BLOCK_BYTES);

/// Records of an answer that is copied out of memory while others wait for a share, in bytes: a few microseconds of copying.
pub const ANSWER_SMALL_BYTES: usize = 64 * 1024;

/// Memory behind the copied batches of an answer that may stay unused, in bytes; more is given back.
pub const COPY_WASTE_BYTES_MAX: usize = 64 * 1024;

/// Pieces of one gathered send: Linux's IOV_MAX.
pub const SEND_PIECES_MAX: usize = 1024;

/// Most bytes of one fetch answer, whatever the client asks. Kafka's default for `fetch.max.bytes`.
pub const FETCH_BYTES_MAX: u32 = 55 * 1024 * 1024;

/// Requests of one connection that were applied and wait for their answer. When full, the socket is not read.
/// Kafka's producers keep at most 5 in flight; 64 leaves room for raw clients.
pub const REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX: usize = 64;

/// Most shards of one process: every one is a node to every client.
pub const SHARDS_MAX: u16 = 64;

/// Most partitions of one topic and of the whole cluster: bounds the metadata image.
pub const PARTITIONS_MAX: usize = 100_000;

/// Longest topic name, in characters. Kafka's `Topic.MAX_NAME_LENGTH`.
pub const TOPIC_NAME_LENGTH_MAX: usize = 249;

/// Bytes a decompressor hands out at a time. Large enough that the cost per window vanishes, small enough for L2.
pub const DECOMPRESS_WINDOW_BYTES: usize = 64 * 1024;

/// Most bytes that one batch may decompress to. Decompression streams, so this bounds time on the core, not memory: a
/// batch of 1 MiB can claim 32 GiB. No client can hold a batch near it: Java's producer builds one in one byte buffer.
pub const DECOMPRESSED_BATCH_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Largest zstd window held while decompressing, as a power of two: 8 MiB, which RFC 8878 asks every decoder to support
/// and which zstd's levels up to 19 stay within. Frames that declare more but never look further back are accepted.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Largest zstd window that the broker compresses with, as a power of two: 2 MiB, that of the default level. Higher levels
/// would take up to 128 MiB for it, and tables in proportion, for batches beyond any default size.
pub const ZSTD_ENCODER_WINDOW_LOG_MAX: u32 = 21;
const _: () = assert!(ZSTD_ENCODER_WINDOW_LOG_MAX <= ZSTD_WINDOW_LOG_MAX);

/// Most memory that a zstd encoder then takes, at its highest levels, in bytes. Measured: 36 MiB.
pub const ZSTD_ENCODER_BYTES_MAX: usize = 40 * 1024 * 1024;

/// Memory of a zstd encoder that is kept for the next batch, in bytes: what the default level needs.
pub const ZSTD_ENCODER_BYTES_KEPT: usize = 4 * 1024 * 1024;

/// Bytes of records that are recompressed in one step, before the clock is looked at. gzip takes 100 to 200 µs for as much.
pub const RECOMPRESS_STEP_BYTES: usize = 4096;

/// How long recompression works before other tasks of the core run, in microseconds.
pub const RECOMPRESS_TURN_US: u64 = 100;

/// The same, at most, in steps: where the clock stands still meanwhile, as in simulation, others run all the same.
pub const RECOMPRESS_TURN_STEPS_MAX: u32 = 16;

/// Memory of recompressed records that is kept for the next batch, in bytes: Kafka's default for `max.message.bytes`.
pub const RECOMPRESSED_BYTES_KEPT: usize = 1024 * 1024 + 12;

/// Batches that decompress to at most so many bytes are recompressed beside larger ones instead of after them: with gzip one
/// takes two or three milliseconds of the core, so they do not wait long for each other. Producers of Kafka's default
/// `batch.size` stay within.
pub const RECOMPRESS_SMALL_BYTES_MAX: u64 = 64 * 1024;

/// Memory for the keys of one compaction pass, in bytes per shard: at 24 bytes a key and nine tenths full some 629,000 keys.
/// What does not fit waits for the next pass. Kafka's default for `log.cleaner.dedupe.buffer.size` is 128 MiB a broker.
pub const COMPACTION_KEYS_BYTES: u64 = 16 * 1024 * 1024;

/// Most bytes that a batch may decompress to for compaction to look into it: its records are held in memory whole. What is
/// larger stays as it is. Below it lies whatever a topic with Kafka's default `max.message.bytes` holds of real data.
pub const COMPACTED_BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;
const _: () = assert!(COMPACTED_BATCH_BYTES_MAX > BATCH_BYTES_MAX as usize, "what is not compressed always fits");

/// Records that compaction looks at in one step, before the clock is looked at. Measured: some 50 µs, of which most is
/// waiting for the memory of the keys.
pub const COMPACTION_STEP_RECORDS: usize = 256;

/// Bytes that compaction sums up or clears in one step: some 40 µs.
pub const COMPACTION_STEP_BYTES: usize = 256 * 1024;

/// Bytes of records after which compaction ends a block of zstd, whose own are of 128 KiB and take half a millisecond.
pub const COMPACTION_BLOCK_BYTES: usize = 16 * 1024;

/// How long compaction works before other tasks of the core run, in microseconds; and at most, in steps, where the clock
/// stands still meanwhile, as in simulation.
pub const COMPACTION_TURN_US: u64 = 100;
/// See [`COMPACTION_TURN_US`].
pub const COMPACTION_TURN_STEPS_MAX: u32 = 16;

/// After so much work, in microseconds, or so many bytes of batches, compaction rests as other jobs of the cleaner do.
pub const COMPACTION_WORK_US: u64 = 5000;
/// See [`COMPACTION_WORK_US`].
pub const COMPACTION_WORK_BYTES: u64 = 1024 * 1024;

/// Segments of dirty bytes that wait from which on compaction rests as long as it works, instead of three times as long.
pub const COMPACTION_BACKLOG_SEGMENTS: u64 = 4;
/// The same from which on it only lets others run.
pub const COMPACTION_BACKLOG_SEGMENTS_MAX: u64 = 16;

/// Rows whose segments are held at once by compaction.
pub const COMPACTION_ROWS_HELD: usize = 256;

/// So many times as large as a row what is left of it may be. An uncompressed tombstone grows from 7 bytes to 16 when it gets
/// its horizon; a producer may compress better than we do, but not by much more.
pub const COMPACTION_ROW_GROWTH_MAX: u32 = 64;

/// A look for logs to compact may end the open segment, so that what is in it can be compacted: after so many times
/// `log.cleaner.backoff.ms` (a minute) where so many bytes wait in it, or something that must not wait, and else after so
/// many times it (ten minutes).
pub const COMPACTION_SEAL_BACKOFFS: u32 = 4;
/// See [`COMPACTION_SEAL_BACKOFFS`].
pub const COMPACTION_SEAL_BYTES: u64 = 1024 * 1024;
/// See [`COMPACTION_SEAL_BACKOFFS`].
pub const COMPACTION_SEAL_BACKOFFS_MAX: u32 = 40;

/// Partitions that a look for logs to compact goes over before it lets others run.
pub const COMPACTION_PARTITIONS_PER_YIELD: usize = 64;

/// Least time between two looks for logs to compact, in milliseconds, whatever `log.cleaner.backoff.ms` says: an idle core
/// should be idle.
pub const COMPACTION_BACKOFF_MS_MIN: u64 = 100;

/// Greatest size of a virtual segment of `__consumer_offsets`, in bytes: the newest one is not compacted, and nobody but
/// coordinators reads it, so it need not be Kafka's 100 MiB, which would be 5 GiB over fifty partitions.
pub const GROUP_SEGMENT_BYTES_MAX: u32 = 512 * 1024;

/// Memory of a batch's decompressed records, and of what it becomes, that compaction keeps for the next batch, in bytes.
pub const COMPACTION_BYTES_KEPT: usize = 2 * 1024 * 1024;

/// Segments that are told apart in the part of a compacted log that waits for compaction; beyond it neighbours are merged. At
/// 32 bytes each, 10,000 compacted partitions of one shard that all wait take 20 MiB of a checkpoint.
pub const VIRTUAL_SEGMENTS_MAX: usize = 64;

/// Largest block that an LZ4 frame may declare, in bytes: the format's own limit.
pub const LZ4_BLOCK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How far back a snappy copy may reach, in bytes. Every snappy encoder cuts its input into blocks of 64 KiB.
pub const SNAPPY_HISTORY_BYTES: usize = 64 * 1024;

/// Records of one batch that a produce answer explains one by one; the batch is refused whole in any case.
pub const RECORD_ERRORS_MAX: usize = 128;

/// Producers remembered per partition. The one that wrote longest ago is forgotten first; all it loses is the detection
/// of its duplicates. A producer costs about 200 bytes in memory and at most 159 in a checkpoint.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 4096;

/// Producers remembered per shard, over all partitions, by the time of their last batch. At 159 bytes each they are a third of
/// [`CHECKPOINT_BYTES_MAX`]: beyond that no checkpoint could be written and nothing be freed. To find the oldest of them
/// holds the core for some ten milliseconds, once for each eighth of them that comes.
pub const PRODUCERS_PER_SHARD_MAX: usize = 1_000_000;
const _: () = assert!(159 * PRODUCERS_PER_SHARD_MAX as u64 <= CHECKPOINT_BYTES_MAX / 3);

/// Batches remembered per producer, to recognise duplicates. Kafka's `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`: clients
/// keep at most so many requests in flight.
pub const PRODUCER_BATCHES_RETAINED: usize = 5;

/// Leader epochs remembered per partition, one per restart that was followed by an append. When the oldest is forgotten,
/// the epochs below the first known one are answered as if their records were gone, as Kafka does after retention.
pub const LEADER_EPOCHS_PER_PARTITION_MAX: usize = 1024;
/// Freed blocks that a shard keeps for the next ones instead of returning them to the allocator. Covers the writes in
/// flight and one burst of the tail cache letting go.
pub const SPARE_BLOCKS_MAX: usize = 16;
const _: () = assert!(SPARE_BLOCKS_MAX >= WRITES_IN_FLIGHT_MAX);

/// How often an operation is submitted again when the kernel says EAGAIN, EINTR or ENOMEM, a millisecond apart.
pub const IO_RESUBMITS_MAX: u32 = 100;

/// How often a busy shard wakes without a reason, in milliseconds: ends a stall of glommio's executor (see
/// `runtime::glommio`).
pub const TICK_MS: u64 = 5;

/// As [`TICK_MS`], for a shard where nothing happens: half a percent of its core.
pub const TICK_IDLE_MS: u64 = 20;

/// Tasks run between two ticks of a shard where nothing happens: the tick itself and what other timers wake.
pub const TICK_IDLE_TASKS_MAX: u64 = 4;

/// How long news of patient sockets wait for company at most, in milliseconds (see `runtime::glommio`): far below any
/// session timeout, and a wake-up serves 8 heartbeats of 5,000 members instead of one.
pub const PATIENT_PAUSE_MS: u64 = 5;

/// Heartbeats in a row, and nothing else, after which a connection is patient. A member that also commits is not.
pub const PATIENT_AFTER_HEARTBEATS: u32 = 3;

/// Sockets that one look at an epoll tells of.
pub const READY_EVENTS_MAX: usize = 256;

/// How long tasks run before glommio looks at I/O again, in milliseconds. Below 10 its executor can park beside runnable
/// tasks; a task waiting for I/O beside busy ones waits up to this long.
pub const PREEMPT_MS: u64 = 10;

/// Locked memory below which no executor starts, in bytes: glommio's own bound.
pub const EXECUTOR_MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Least I/O memory of an executor, in bytes: glommio's own bound.
pub const IO_MEMORY_BYTES_MIN: usize = 64 * 1024;

/// Connections that wait to be accepted on one port. Kafka's default for `socket.listen.backlog.size` is 50, too few
/// when thousands of clients come back at once.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Silence on a connection after which the kernel asks whether the peer is still there, in seconds.
pub const KEEPALIVE_SECONDS: u64 = 60;

/// Kafka API keys that metrics have room for. The greatest key of Kafka 4.1 is 92.
pub const API_KEYS_MAX: usize = 96;
/// Largest run of entries that one extent of a segment's footer stands for, in bytes: what a cold read that wants one
/// batch reads at most beside it, against 24 bytes of footer per run.
pub const EXTENT_BYTES_MAX: u32 = 64 * 1024;

/// How often a data directory's lock is tried before it counts as taken: for a second, as a port.
pub const DIRECTORY_LOCK_TRIES: u32 = 50;

/// Pause between two tries, in milliseconds.
pub const DIRECTORY_LOCK_PAUSE_MS: u64 = 20;

/// What is read of a `meta.properties`, in bytes: one that names the most shards has under 8 KiB.
pub const PROPERTIES_BYTES_MAX: u64 = 64 * 1024;

/// How often the directories of the shards are looked at, in milliseconds: what is acknowledged into a directory that is
/// gone is lost, so soon; two system calls a shard.
pub const DIRECTORY_CHECK_MS: u64 = 1000;

/// After so many looks in a row that find a directory gone the shard is read-only: one may have met somebody's rename.
pub const DIRECTORY_CHECKS_FAILED_MAX: u32 = 2;

/// Largest checkpoint of one shard, in bytes: 10,000 partitions with 400 producers each take about half of it. Bounds
/// what start-up reads into memory.
pub const CHECKPOINT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A checkpoint is read and written in pieces of so many bytes, with the core free for others between them.
pub const CHECKPOINT_CHUNK_BYTES: usize = 256 * 1024;
const _: () = assert!(CHECKPOINT_CHUNK_BYTES.is_multiple_of(IO_ALIGNMENT));

/// Size of both checkpoint files at first, in bytes: they are made when a store is opened for the first time. About 500
/// partitions; beyond it they grow by powers of two.
pub const CHECKPOINT_FILE_BYTES_MIN: u64 = 64 * 1024;

/// Wait before a checkpoint for which there was no space is tried again, in milliseconds.
pub const CHECKPOINT_RETRY_MS: u64 = 500;

/// Of a sealed segment the unused rest is given back to the filesystem where it is at least one part in so many: a crash
/// leaves 32 MiB of 64 on average, and nothing is appended there any more.
pub const GIVE_BACK_DIVISOR: u32 = 16;

/// Free segment files that were not needed for so long are removed, in milliseconds: three rounds of retention, which frees
/// them, at its default interval. Until then they are the next segments, which is faster than making new ones.
pub const FREE_FILES_KEPT_MS: u64 = 15 * 60 * 1000;

/// Space that a store may take beside what lives in it, in percent of that: the more, the less has to be moved to keep it.
/// Simulated: 1.0 bytes written per byte ingested for equal retention, 1.1 to 1.7 for mixes.
pub const CLEAN_SLACK_PERCENT: u64 = 30;

/// Segments that a store may use beside that: the open one, the next one, the reserve, and what a moment's traffic leaves.
pub const CLEAN_SLACK_SEGMENTS: u64 = 6;

/// Segments in use from which on one more free file is kept, so that the cleaner finds one where nobody else does.
pub const CLEAN_SPARE_FROM_SEGMENTS: u64 = 4;

/// Most that one job of the cleaner moves, in segments of the usual size. Sources stay until what is made of them is whole.
pub const CLEAN_LIVE_SEGMENTS_MAX: u64 = 4;

/// Most segments that one job empties, and most rows that it moves: 80 bytes of memory each.
pub const CLEAN_VICTIMS_MAX: usize = 64;
/// See [`CLEAN_VICTIMS_MAX`].
pub const CLEAN_ROWS_MAX: usize = 65_536;

/// Small cold segments of about one size that become one.
pub const CLEAN_MERGED_SEGMENTS_MIN: usize = 8;

/// Rows of one log that follow each other become one of at most so many bytes: retention drops whole rows, so this is how much
/// longer records may stay, in bytes of their partition. Kafka's segment, by which it does, has a GiB.
pub const CLEAN_MERGED_ROW_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Bytes appended per second up to which a shard is quiet: then the cleaner also empties segments that hold little of each
/// of many logs (less than so many bytes on average) when so great a part of them is dead, if what lives in them stays for
/// so many milliseconds. It is moved once, which costs at most three bytes for one that is free. Measured with 1,000
/// partitions of which a third lay so: an old one is read at 0.78 × a log of one instead of 0.52 ×.
pub const CLEAN_QUIET_BYTES_PER_SECOND: u64 = 1_000_000;
/// See [`CLEAN_QUIET_BYTES_PER_SECOND`].
pub const CLEAN_THIN_ROW_BYTES: u64 = 128 * 1024;
/// See [`CLEAN_QUIET_BYTES_PER_SECOND`].
pub const CLEAN_THIN_DEAD_DIVISOR: u64 = 4;
/// See [`CLEAN_QUIET_BYTES_PER_SECOND`].
pub const CLEAN_THIN_STAYS_MS: i64 = 24 * 60 * 60 * 1000;
/// The same only while files take no more than this of what they may, in percent: a job takes room before it gives any back.
pub const CLEAN_THIN_USED_PERCENT_MAX: u64 = 80;

/// Rows of a directory that the cleaner looks at before it lets others run.
pub const CLEAN_ROWS_PER_YIELD: usize = 256;

/// Largest read of the cleaner, in bytes, but for a single entry that is larger.
pub const CLEAN_READ_BYTES: u32 = 512 * 1024;

/// Rows that are read ahead of the one that is moved, and up to how many bytes each: what a thousand thin rows need.
pub const CLEAN_ROWS_AHEAD: usize = 8;
/// See [`CLEAN_ROWS_AHEAD`].
pub const CLEAN_ROW_AHEAD_BYTES: u32 = 128 * 1024;

/// Of a row with more: reads in flight, and their bytes, unless a single one has more. Where a segment was written as batches of a
/// thousand partitions came, each is of one batch.
pub const CLEAN_RUNS_AT_ONCE: usize = 8;
/// See [`CLEAN_RUNS_AT_ONCE`].
pub const CLEAN_AHEAD_BYTES: u32 = 1024 * 1024;

/// After moving a row the cleaner rests so many times as long as that took, longer while flushes are slow, but not for
/// longer than so many milliseconds: a quarter of the disk's time, and of the core's, at the most. It does not rest where
/// space is short.
pub const CLEAN_REST_FACTOR: u64 = 3;
/// See [`CLEAN_REST_FACTOR`].
pub const CLEAN_REST_MS_MAX: u64 = 200;

/// Bytes that the scrub reads in a second, if nobody says otherwise: 88 GB a day and shard, a terabyte in twelve days, and less
/// than a thousandth of what a solid-state disk gives.
pub const SCRUB_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// How often the scrub reads something, in milliseconds: one wake-up a second costs an idle core nothing.
pub const SCRUB_TICK_MS: u64 = 1000;

/// A round of the scrub begins at most so often, in milliseconds: a small store is read once a day, not all the time.
pub const SCRUB_INTERVAL_MS: u64 = 24 * 60 * 60 * 1000;

/// Largest read of the scrub, in bytes, but for a single entry that is larger: short enough to stand in nobody's way.
pub const SCRUB_READ_BYTES: u32 = 128 * 1024;

/// Extents of live rows that are gone over at once, but for those of a single row: 2 MiB of memory.
pub const SCRUB_EXTENTS_MAX: usize = 64 * 1024;

/// How often it is looked how many of them so much time at the present traffic needs, in milliseconds: the others are removed.
pub const FREE_FILES_TRAFFIC_MS: u64 = 60 * 1000;
const _: () = assert!(FREE_FILES_KEPT_MS.is_multiple_of(FREE_FILES_TRAFFIC_MS));

/// Room in a 4 KiB unit of the log below which the next entry starts at the next unit, in bytes: rewriting a nearly
/// full unit for so little costs a write, leaving it costs at most this much space.
pub const UNIT_ROOM_BYTES_MIN: u32 = 512;

/// Segments beyond the budget that only what frees space may open, deletions and log starts above all. Changes of the
/// metadata leave it one of them, what group coordinators write two: at 200 bytes a commit, 600,000 commits while the
/// store is full.
pub const SEGMENTS_RESERVED: u32 = 4;

/// Files kept beside the one made ready for the log, of the smallest size: what deletions and the next start need where the
/// device has no room. With the open segment and the ready one they are what a new shard takes, 256 MiB.
pub const FILES_RESERVED: usize = 2;

/// Share of a store's memory for the tail cache; the rest is for windows of sealed segments. In quarters.
pub const TAIL_MEMORY_QUARTERS: u64 = 3;

/// Wait before a segment file that could not be created is tried again, in milliseconds.
pub const PREPARE_RETRY_MS: u64 = 200;

/// Bytes of one read of a recovery scan: large reads, since it reads everything in order.
pub const SCAN_READ_BYTES: usize = 1024 * 1024;

/// How often over recovery may read a file in vain, while it looks behind a hole for entries and finds what only looks
/// like their headers. One flipped length costs less than once; only records made for the purpose cost more.
pub const SCAN_DOUBT_FACTOR: u64 = 4;

/// Time that recovery works before other tasks of the core run, in entries.
pub const SCAN_ENTRIES_PER_YIELD: u32 = 256;

/// How often a start that takes long says how many files it still has to look at, in milliseconds.
pub const RECOVERY_TOLD_MS: u64 = 5_000;

/// How far beyond the numbers known a segment number may lie that recovery looks for in files without a readable
/// header: rolls of one life since the newest header that survived.
pub const SCAN_SEGMENT_NUMBERS_AHEAD: u64 = 1024;

/// Partitions that a checkpoint adds before other tasks of the core run: about 100 µs of work.
pub const CHECKPOINT_PARTITIONS_PER_YIELD: usize = 64;

/// Records of one metadata transaction that wait for its end: bounds what an unfinished one holds. Room for every
/// partition of the largest cluster, twice.
pub const METADATA_TRANSACTION_RECORDS_MAX: usize = 2 * PARTITIONS_MAX;

/// Size below which the metadata log does not begin anew, in bytes: some ten thousand changes, which a start replays in
/// milliseconds.
pub const METADATA_LOG_BYTES_MIN: u64 = 1024 * 1024;

/// Snapshots' worth of bytes beyond that at which it does: of four bytes written to the log one is of a snapshot, at most.
pub const METADATA_LOG_SNAPSHOTS_MAX: u64 = 4;

/// Bytes of one batch of a metadata snapshot, one record more at most: the core is others' after each.
pub const METADATA_SNAPSHOT_BATCH_BYTES: usize = 32 * 1024;
const _: () = assert!(METADATA_SNAPSHOT_BATCH_BYTES + CONFIG_VALUE_BYTES_MAX < BATCH_BYTES_MAX as usize);

/// Wait before a metadata snapshot for which the store had no room is tried again, in milliseconds.
pub const METADATA_SNAPSHOT_RETRY_MS: u64 = 10_000;

/// Producer ids that the controller gives out at once, as in Kafka. A restart skips what is left of a block.
pub const PRODUCER_ID_BLOCK: i64 = 1000;

/// Wait before a shard tries again to create or delete logs for which its store had no room, in milliseconds.
pub const IMAGE_RETRY_MS: u64 = 500;

/// Log ends that retention remembers of a partition whose records have no timestamp: over twice the retention time, so that
/// they are discarded an eighth of it late at most.
pub const LOG_ENDS_REMEMBERED_MAX: i64 = 16;

/// Wait before the records of group coordinators for which the store had no room are tried again, in milliseconds.
pub const GROUP_RETRY_MS: u64 = 200;

/// Messages queued into one shard by its siblings. Full lanes make the sending request wait, not the lane grow.
pub const LANE_MESSAGES_MAX: usize = 1024;

/// Bytes of requests queued into one shard by its siblings, one message excepted: eight of Kafka's default `max.request.size`.
pub const LANE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Fetch sessions kept per shard. Kafka's `max.incremental.fetch.session.cache.slots`, which it shares by 8 cache shards.
pub const FETCH_SESSIONS_MAX: usize = 1000;

/// Partitions over all fetch sessions of one shard: bounds the memory of sessions whatever their number.
pub const FETCH_SESSION_PARTITIONS_MAX: usize = 200_000;

/// A fetch session unused this long may be evicted for a new one, in milliseconds. Kafka's
/// `min.incremental.fetch.session.eviction.ms`.
pub const FETCH_SESSION_EVICTION_MS: u64 = 120_000;

/// Bytes of memory for each partition of a fetch that waits: its place in the request, in the waiting room, and at the
/// partition. Measured as resident bytes with 100, 200 and 400 fetches of 1,000 partitions: 126 each time.
pub const FETCH_WAITING_PARTITION_BYTES: usize = 128;

/// Fetches that wait take at most one part in so many of a shard's memory.
pub const FETCH_WAITING_DIVISOR: usize = 8;

/// How long a fetch waits that finds the waiting room full, in milliseconds. Then it is answered with what there is, and the
/// client asks again.
pub const FETCH_CROWDED_WAIT_MS: u64 = 100;

/// Longest that one shard watches partitions for a fetch on another, in milliseconds; the asking shard asks again.
/// Bounds what a fetch that went away leaves behind.
pub const REMOTE_WATCH_MS_MAX: u64 = 1000;

/// How long a request that changes metadata is waited for when it does not say, or says 0 as old clients do that do not want
/// to wait for what Kafka's nodes learn later, in milliseconds. Kafka's default of `request.timeout.ms`.
pub const CONTROL_WAIT_MS: u64 = 30_000;

/// How long ListOffsets and its kin wait for a flush in flight, in milliseconds, before the client is told to ask again.
pub const LOG_END_WAIT_MS: u64 = 10_000;

/// Bytes of the metadata log that are read at a time at start, first batch excepted.
pub const METADATA_READ_BYTES: usize = 1024 * 1024;
/// Unit of the cold cache, in bytes: what a dense want of old data reads at once. Measured: a scan shared by a thousand
/// lagging partitions reads 1-2 GB/s this way, a thousand separate ones 0.1.
pub const COLD_WINDOW_BYTES: u32 = 1024 * 1024;

/// A window is read whole once a 16th of it was wanted, by one reader or by several; below that only the units needed.
pub const COLD_WINDOW_DENSE_BYTES: u32 = COLD_WINDOW_BYTES / 16;

/// Cold reads of single units in flight on one core. Unlimited reads raised write + flush from 0.1 to 1.8 ms.
pub const COLD_READ_DEPTH: u32 = 16;

/// What a whole window counts for in `COLD_READ_DEPTH`: two in flight.
pub const COLD_WINDOW_WEIGHT: u32 = 8;

/// Bytes that one cold read starts ahead of what it has looked at: two windows, or sixteen small reads.
pub const COLD_BYTES_AHEAD_MAX: u32 = 2 * COLD_WINDOW_BYTES;

/// Segments in which one read of a partition looks at once, at most, where each holds little of it: every one costs two small reads
/// before its own. So many of those that were written as batches came, each with a window that it looks at and
/// [`COLD_BYTES_AHEAD_MAX`], are what a reader may hold ([`COLD_READER_BYTES`]).
pub const COLD_PLACES_AT_ONCE: usize = (COLD_READER_BYTES / (COLD_BYTES_AHEAD_MAX + COLD_WINDOW_BYTES) as u64) as usize;

/// The same where all of them are sorted by partition: what lies together touches two windows at most.
pub const COLD_SORTED_PLACES_AT_ONCE: usize = (COLD_READER_BYTES / (2 * COLD_WINDOW_BYTES) as u64) as usize;

/// Places whose extents are looked up at once: a unit or two each.
pub const COLD_EXTENTS_AT_ONCE: usize = 8;

/// Places that are found, and held, before the first of them is read.
pub const COLD_PLACES_FOUND_MAX: usize = 32;

/// What a place may hold of a partition to be read at the same time as others, in bytes.
pub const COLD_THIN_BYTES: u32 = COLD_WINDOW_BYTES / 4;

/// The same in a segment that is sorted by partition, where it lies together: two windows at most.
pub const COLD_SORTED_THIN_BYTES: u32 = COLD_WINDOW_BYTES;

/// Read of a segment's end at once, in bytes: the whole footer where the cleaner built it, which is kept then like extents.
/// One read for all its partitions instead of two for each.
pub const COLD_FOOTER_BYTES: u32 = 128 * 1024;
/// If so many could be kept. With less memory only what is needed of it is read.
pub const COLD_FOOTERS_MIN: u64 = 64;

/// A window of a segment that is sorted by partition is read whole once others wanted so much of it, in bytes: they go over all
/// partitions. One reader alone gets what is its own and no more, since that lies together.
pub const COLD_SORTED_DENSE_BYTES: u32 = COLD_WINDOW_BYTES / 4;

/// Answers of one core that are read from disk at once, at most: each has a window that it looks at and
/// [`COLD_BYTES_AHEAD_MAX`], of as many places as [`COLD_PLACES_AT_ONCE`] says. Two keep [`COLD_READ_DEPTH`] full where windows
/// are read.
pub const COLD_READERS_MAX: usize = 16;

/// The same, at least, whatever the memory.
pub const COLD_READERS_MIN: usize = 2;

/// Memory of the cold cache for each of them between these bounds, in bytes: the partitions of an answer lie in the same
/// windows, which must still be there when the next partition is read.
pub const COLD_READER_BYTES: u64 = 12 * COLD_WINDOW_BYTES as u64;

/// Windows of which the cold cache remembers how much was wanted while it holds none of their bytes.
pub const COLD_SPARSE_WINDOWS_MAX: u64 = 4096;

/// Share of the cold cache that extents of sealed segments may take: one part in so many.
pub const COLD_EXTENTS_DIVISOR: u64 = 8;

/// Bytes of requests that one shard holds between reading and applying them, at least, whatever its memory. One request of
/// the greatest size passes all the same (see `server::byte_budget`).
pub const REQUEST_BYTES_IN_FLIGHT_MIN: usize = 8 * 1024 * 1024;

/// Requests up to this size are small, in bytes: they are received before memory is granted for them, and never wait for
/// one that is not whole.
pub const REQUEST_SMALL_BYTES: usize = 64 * 1024;

/// Bytes of small requests that are not whole, over all connections of a shard, beyond which those that fell silent are let
/// go: at least this, whatever the shard's memory.
pub const ARRIVING_BYTES_MIN: usize = 1024 * 1024;

/// Most bytes of a request that the system takes in while the request waits for memory: with a fifth more, half of the
/// greatest receive buffer that a socket has by Linux's default. Where the system has less, only smaller requests are.
pub const GATHERED_BYTES_MAX: usize = 5 * 1024 * 1024 / 2;

/// Bytes of requests that the system may take in at once for the connections of one shard, at least: as much as the shard's
/// bound on requests in flight if that is more. It is memory of the kernel, beside `--memory`, and only while requests wait.
/// With [`GATHERING_SWEEP_INTERVAL_MS`] and [`GATHERING_LOOKS_MAX`] some 1,200 peers that send a part of 1 MiB pass in a second
/// if they never asked anything, 350 if they did.
pub const LENT_BYTES_MIN: usize = 128 * 1024 * 1024;

/// Bytes received of a request when its socket got room for the rest, at most.
pub const GATHERING_RECEIVE_BYTES: usize = 4096;

/// How often so much is received besides, when the peer has used up the room that it knew of: else it learns of more only by
/// asking, after 200 ms, and is taken for silent meanwhile.
pub const GATHERING_RECEIVES_MAX: u8 = 4;

/// Buffer that all connections of a shard receive into, in bytes: a connection owns memory only for what it received.
/// Measured with 16 KiB requests on one connection: 4.3 GB per CPU second with 64 KiB, 5.5 with 256.
pub const RECEIVE_BYTES: usize = 256 * 1024;

/// Bytes asked of a socket at once while others wait for memory: enough to learn what the next request wants.
pub const RECEIVE_CONTENDED_BYTES: usize = 4096;

/// Memory granted to a request of which little is here, in bytes. With a budget of 64 MiB, a thousand peers that announce
/// requests and send nothing leave everybody else served.
pub const RECEIVE_GRANT_BYTES_MIN: usize = 64 * 1024;

/// Frames from this size on are received in place, in bytes; smaller ones gain nothing by it.
pub const FRAME_IN_PLACE_BYTES_MIN: usize = 128 * 1024;

/// Memory of one large frame that is kept for the next, in bytes: a request of 1 MiB, Kafka's default `max.request.size`,
/// with its headers. Up to it a request is of usual size (`server::request_memory`).
pub const FRAME_POOLED_BYTES: usize = 1024 * 1024 + 128 * 1024;

/// Such frames kept per core: what the connections of a saturated core have in flight.
pub const FRAMES_POOLED_MAX: usize = 8;

/// Bytes asked of a socket at first after a large frame: enough for the next one's length, and little to copy.
pub const RECEIVE_AFTER_LARGE_BYTES: usize = 4096;

/// Bytes one connection may receive, or requests it may have applied, before others get their turn: about 300 µs.
pub const TURN_BYTES_MAX: usize = 1024 * 1024;

/// See [`TURN_BYTES_MAX`].
pub const TURN_REQUESTS_MAX: usize = 64;

/// Connections accepted before others get their turn: about 300 µs.
pub const TURN_ACCEPTS_MAX: u32 = 32;

/// Bytes of finished answers at which they are sent before further requests are applied.
pub const SEND_BYTES_EAGER: usize = 256 * 1024;

/// Connections of one shard at most, whatever the limit of open files: each costs the kernel some 10 KiB.
pub const CONNECTIONS_PER_SHARD_MAX: usize = 65_536;

/// File descriptors kept for what is not a connection: rings, segments, listeners.
pub const FILE_DESCRIPTORS_RESERVED: u64 = 512;

/// Silence after which a connection is closed, in milliseconds. Kafka's default for `connections.max.idle.ms`.
pub const CONNECTION_IDLE_MS: u64 = 600_000;

/// Time in which a connection has to ask something once a sixteenth of the connections that a shard may have is all that is
/// left, in milliseconds: silent peers would keep everyone else out until they are idle.
pub const CONNECTION_UNUSED_MS: u64 = 5_000;

/// How often connections are looked over for idle ones, in milliseconds.
pub const SWEEP_INTERVAL_MS: u64 = 1000;

/// How often they are while somebody waits for memory that others hold, in milliseconds. With [`SILENT_SWEEPS_MAX`] a peer
/// that sends a part of a large request and falls silent holds memory for half a second at most. Who waits for whom:
/// `server::request_memory`. The aim is that beside any number of peers that send a part of 20 MiB and come again, 99 of 100
/// requests are answered within a second, also beside those that send half of 1 MiB. Seen beside 300 on one shard, the worse of
/// both: 12 ms for small ones, 10 ms for 700 KB on connections known for it; for the first on a connection that asked something
/// before 65 ms, for 19 MB 121 ms; on one that never did 201 and 795 ms. Beside 1,200: 23, 23, 113, 90 and 1,096, 105 ms.
pub const SWEEP_PRESSED_INTERVAL_MS: u64 = 250;
const _: () = assert!(SWEEP_INTERVAL_MS.is_multiple_of(SWEEP_PRESSED_INTERVAL_MS));

/// How often those are looked over for which the system takes requests in, while others wait for that, in milliseconds. With
/// [`SILENT_SWEEPS_MAX`] one that never asked anything and falls silent is let go after a twelfth of a second.
pub const GATHERING_SWEEP_INTERVAL_MS: u64 = 20;

/// Looks in a row that find nothing more of a request on a connection that asked something before: a third of a second, which
/// a segment that was lost on the way and sent again does not take.
pub const GATHERING_LOOKS_MAX: u8 = 15;

/// Sweeps in a row that find nothing arriving of a request, while others wait for the memory it holds, before its connection
/// is closed.
pub const SILENT_SWEEPS_MAX: u8 = 2;

/// The same of a request that arrives slower than [`STALL_BYTES_MIN`] a sweep: five seconds.
pub const STALL_SWEEPS_MAX: u8 = 20;

/// See [`STALL_SWEEPS_MAX`]: 64 KiB a second.
pub const STALL_BYTES_MIN: u64 = 16 * 1024;

/// Sweeps in a row that find a peer taking nothing of its answer, while others wait for memory of answers, before its
/// connection is closed: a second. Longer than for requests, since a consumer may be at work on what it has.
pub const UNREAD_SWEEPS_MAX: u8 = 4;

/// Bytes of answers that a connection may keep behind one that is waited for while others wait for memory of answers: as
/// with a peer that takes nothing, it is closed after [`UNREAD_SWEEPS_MAX`]. What dozens of answered produce requests come to
/// is less.
pub const ANSWERS_KEPT_BYTES_MAX: usize = 16 * 1024;

/// Seconds for which the answers of a peer that sends no more are waited for. Kafka closes at once; a peer that only closed
/// its sending side gets what comes soon.
pub const HUNG_UP_SWEEPS_MAX: u8 = 5;

/// How long a shutdown waits for answers in progress, in milliseconds. Longer than the wait of Kafka's default fetch (500).
pub const DRAIN_MS: u64 = 5000;

/// Tries to bind a port that is taken, [`BIND_PAUSE_MS`] apart: an instance that is just ending lets go within a second.
pub const BIND_TRIES: u32 = 10;

/// See [`BIND_TRIES`].
pub const BIND_PAUSE_MS: u64 = 100;

/// Pause after accepting failed for want of descriptors or memory, in milliseconds.
pub const ACCEPT_PAUSE_MS: u64 = 100;

/// Log lines about one cause are at least this far apart, in microseconds.
pub const LOG_INTERVAL_US: u64 = 1_000_000;

/// Longest head of an HTTP request, in bytes.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * 1024;

/// HTTP connections served at once. One scraper needs one; when one more comes, the oldest goes.
pub const HTTP_CONNECTIONS_MAX: usize = 16;

/// Time for an HTTP request and its answer, in milliseconds.
pub const HTTP_TIMEOUT_MS: u64 = 10_000;

/// Most shards that are started unless asked for more: each is a node, a connection and a thread to every client.
pub const SHARDS_DEFAULT_MAX: u16 = 16;

/// Address space of a process that runs no shard yet, in bytes: the program, its libraries, the helpers' stacks and arenas.
pub const ADDRESS_SPACE_BYTES: u64 = 256 * 1024 * 1024;

/// Address space of a shard beside its memory, in bytes: two threads with an arena of 64 MiB each, I/O memory, rings. An idle
/// broker of four shards took 885 MB in all.
pub const ADDRESS_SPACE_BYTES_PER_SHARD: u64 = 256 * 1024 * 1024;

/// Threads of a process beside those of its shards: main, signals, directories, block memory.
pub const THREADS_MIN: u16 = 4;

/// Threads of a shard: its own, the one for what blocks, and two workers that the kernel starts for its rings.
pub const THREADS_PER_SHARD_MIN: u16 = 4;

/// File descriptors of a process beside those of its shards, with a few for connections.
pub const FILE_DESCRIPTORS_MIN: u64 = 32;

/// File descriptors of a shard beside its segments: three rings, polling, listener, checkpoints, the next segments.
pub const FILE_DESCRIPTORS_PER_SHARD_MIN: u64 = 16;

/// Memory registered with the rings of one shard, in bytes: above all blocks in flight. Registered three times against
/// RLIMIT_MEMLOCK.
pub const IO_MEMORY_BYTES: usize = 32 * 1024 * 1024;

/// How often a stopping shard looks whether its siblings have drained, in milliseconds.
pub const STOP_POLL_MS: u64 = 2;
/// Most elements of all arrays of one message together. An element of a request takes up to 80 bytes in memory and as few
/// as three on the wire, so this bounds what a hostile request costs to about 40 MiB. A message about every partition
/// there may be, each of its own topic and with its leader, replicas and in-sync replicas, still fits.
pub const ARRAY_ELEMENTS_PER_MESSAGE_MAX: usize = 500_000;
const _: () = assert!(5 * PARTITIONS_MAX <= ARRAY_ELEMENTS_PER_MESSAGE_MAX);
/// A segment that was sealed makes a checkpoint due, but not sooner than this part of the interval after the last one:
/// at full speed segments are sealed faster than checkpoints are worth.
pub const CHECKPOINT_PAUSE_DIVISOR: u64 = 10;
/// But after so many bytes at once, in whole segments: what a start after a crash reads again. A disk gives them back in half
/// a second; a checkpoint of 10,000 partitions takes some 15 ms, a few percent of the time that a core takes to fill them.
pub const CHECKPOINT_APPENDED_BYTES: u64 = 1024 * 1024 * 1024;

/// How often a shard publishes the numbers of its store, in milliseconds.
pub const METRICS_INTERVAL_MS: u64 = 1000;

/// Longest answer that the client commands read, in bytes: the largest batch that any broker's default lets through.
pub const CLIENT_RESPONSE_BYTES_MAX: u32 = REQUEST_BYTES_MAX;

/// Bytes that `consume` asks of one node at a time, first batch excepted, and of one partition.
pub const CLIENT_FETCH_BYTES: i32 = 4 * 1024 * 1024;
/// Bytes of one partition in one fetch: four full partitions share an answer.
pub const CLIENT_PARTITION_FETCH_BYTES: i32 = CLIENT_FETCH_BYTES / 4;

/// Answers that wait for `consume` to print them, whatever the number of nodes. Bounds memory to about so many and one
/// per node times [`CLIENT_FETCH_BYTES`].
pub const CLIENT_FETCHES_QUEUED_MAX: usize = 2;

/// How long a fetch of `consume` may wait for records, in milliseconds. librdkafka's default for `fetch.wait.max.ms`.
pub const CLIENT_FETCH_WAIT_MS: i32 = 500;

/// Most bytes that `consume` decompresses one batch to: it holds them in memory.
pub const CLIENT_DECOMPRESSED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Longest record that `produce` reads, in bytes; no topic may allow more.
pub const CLIENT_RECORD_BYTES_MAX: usize = 48 * 1024 * 1024 - 1024;

/// Bytes of records at which `produce` gives records without key another partition.
pub const CLIENT_STICKY_BYTES: usize = 64 * 1024;

/// Bytes of records at which `produce` sends a batch: half of Kafka's default for `max.message.bytes`.
pub const CLIENT_BATCH_BYTES: usize = 512 * 1024;

/// Bytes of records that `produce` holds for all partitions before it sends them.
pub const CLIENT_BUFFERED_BYTES: usize = 1024 * 1024;

/// Records that `produce` puts into one batch, which bounds what the bookkeeping of tiny records costs.
pub const CLIENT_BATCH_RECORDS: usize = 20_000;

/// Longest that `produce` holds a record back to fill a batch, in milliseconds. Java's default for `linger.ms` is 5.
pub const CLIENT_LINGER_MS: u64 = 5;

/// Bytes that `produce` reads from stdin at a time.
pub const CLIENT_INPUT_CHUNK_BYTES: usize = 64 * 1024;
/// Such chunks read ahead.
pub const CLIENT_INPUT_CHUNKS_MAX: usize = 16;

/// Longest that opening a connection may take, in milliseconds.
pub const CLIENT_CONNECT_MS: u64 = 5_000;

/// Longest that a broker may work on a request of the client commands, in milliseconds: what they tell the broker.
pub const CLIENT_REQUEST_MS: i32 = 30_000;
/// Longest that they wait for the answer, in milliseconds: the broker's own time-out should come first.
pub const CLIENT_ANSWER_MS: u64 = 35_000;

/// Longest that the client commands try again after a failure that may pass, in milliseconds.
pub const CLIENT_RETRY_MS: u64 = 10_000;
/// Pause between two tries, in milliseconds.
pub const CLIENT_RETRY_PAUSE_MS: u64 = 100;

/// How often `consume -G` commits what it printed, in milliseconds. librdkafka's default for `auto.commit.interval.ms`.
pub const CLIENT_COMMIT_INTERVAL_MS: u64 = 5_000;

/// How long a group waits for `consume -G` to give up partitions, in milliseconds: a reader of its output may be that slow.
/// librdkafka's default for `max.poll.interval.ms`.
pub const CLIENT_REBALANCE_MS: i32 = 300_000;

/// Shortest pause between two heartbeats of `consume -G`, in milliseconds, whatever the coordinator says.
pub const CLIENT_HEARTBEAT_MS_MIN: u64 = 100;

/// How often a waiting command looks whether it was interrupted, in milliseconds.
pub const CLIENT_INTERRUPT_POLL_MS: u64 = 100;

/// Segments of one size before the next size up is used for new ones: the largest then holds a few percent of the store,
/// which is what recycling whole segments wastes at most.
pub const SEGMENTS_BEFORE_GROWTH: u64 = 64;

/// A flush that takes so many times what the quickest took of late halves the reads allowed beside the log; each one that
/// does not allows one more.
pub const COLD_FLUSH_SLOWDOWN: u64 = 8;

/// Space prepared ahead of the log, at least, in blocks: 8 MiB, which takes a quick disk some ten milliseconds.
pub const FILL_AHEAD_BLOCKS_MIN: u32 = 8;
/// The same, at most, in blocks: 64 MiB, the smallest segment.
pub const FILL_AHEAD_BLOCKS_MAX: u32 = 64;
/// Traffic of how long is prepared for between those bounds, in milliseconds.
pub const FILL_AHEAD_MS: u64 = 250;
/// Rest after a block of zeroes, in times of what it took: a quarter of the disk's time at most.
pub const FILL_REST_FACTOR: u64 = 3;
/// The same, at most, in milliseconds: a disk that stalled once is not left alone for long.
pub const FILL_REST_MS_MAX: u64 = 250;

/// Longest that opening a file waits for the last writes of a process that was killed, in milliseconds.
pub const FILE_LOCK_WAIT_MS_MAX: u64 = 10_000;
/// Names of topics that one shard has created at a time because somebody asked for them. At most 2.5 MB of names: who asks
/// gets an answer at once, so nothing else slows one who asks for ever new ones.
pub const AUTO_CREATE_NAMES_MAX: usize = 10_000;

/// Partitions that one CreateTopics may make. Bounds the batch of records that it becomes, and its answer, which tells every
/// configuration of every topic: about 60 MB. Kafka allows as many records.
pub const NEW_PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// Records of changed configurations that one request may make, as many as Kafka allows.
pub const CONFIG_RECORDS_PER_REQUEST_MAX: usize = 10_000;

/// Bytes of their names, of their values and of the names of their resources: they become one batch.
pub const CONFIG_BYTES_PER_REQUEST_MAX: usize = 16 * 1024 * 1024;

/// Longest value of a configuration, in bytes: what Kafka's strings could carry before they became compact. No list of
/// throttled replicas comes near it where a partition has one replica.
pub const CONFIG_VALUE_BYTES_MAX: usize = 32_767;

/// Configurations of a node that nobody knows, which Kafka keeps when they are set: plugins of tools have such keys. Nothing
/// else bounds how many names a client can think of.
pub const UNKNOWN_CONFIGS_MAX: usize = 64;

/// Longest of them, in bytes of name and value: all of them are in the metadata once for each node: 16 MiB for the most nodes.
pub const UNKNOWN_CONFIG_BYTES_MAX: usize = 4096;
const _: () =
    assert!(UNKNOWN_CONFIGS_MAX * UNKNOWN_CONFIG_BYTES_MAX * SHARDS_MAX as usize <= CONFIG_BYTES_PER_REQUEST_MAX);

/// Groups that may have settings of their own. There need be no group of that name, so nothing else bounds what the metadata
/// carries of them: about 10 MB with names of common length.
pub const CONFIGURED_GROUPS_MAX: usize = 10_000;

/// Longest name of a group that may have settings of its own, in bytes: four times what a topic may have.
pub const CONFIGURED_GROUP_NAME_BYTES_MAX: usize = 1_000;

/// Groups that one DescribeConfigs may ask about: about 25 MB with documentation. Any name has a configuration, so a small
/// request could ask for a huge answer.
pub const DESCRIBED_GROUPS_MAX: usize = 10_000;
const _: () = assert!(DESCRIBED_GROUPS_MAX >= CONFIGURED_GROUPS_MAX);

/// Partitions of one page of DescribeTopicPartitions. Kafka's default for `max.request.partition.size.limit`.
pub const DESCRIBED_PARTITIONS_MAX: usize = 2000;

/// Producers that one shard tells in one answer to DescribeProducers: about 4 MB. One partition may remember
/// [`PRODUCERS_PER_PARTITION_MAX`], and a request may name every partition there is.
pub const DESCRIBED_PRODUCERS_MAX: usize = 100_000;
const _: () = assert!(DESCRIBED_PRODUCERS_MAX >= PRODUCERS_PER_PARTITION_MAX);
const _: () = assert!(NEW_PARTITIONS_PER_REQUEST_MAX <= PARTITIONS_MAX);

/// Address space that blocks of the log are cut from at a time, in bytes.
pub const BLOCK_REGION_BYTES: usize = 64 * 1024 * 1024;
/// Fresh blocks that are kept ready while the tail of some shard grows: 32 MiB, some ten milliseconds of a shard at full
/// speed, in which the thread that prepares gets its turn.
pub const BLOCKS_READY: usize = 32;
/// Freed blocks of a process that keep their memory for the next, beside those that its shards keep; others give it back.
/// Covers windows of cold reads that go as others come.
pub const BLOCKS_FREED_MAX: usize = 16;

/// When a shard has so many bytes less of data in memory than it had at most of late, the system's allocator is asked to
/// give back what it kept of them.
pub const GIVE_BACK_BYTES: u64 = 16 * 1024 * 1024;
/// Timers of groups handled before requests get their turn again.
pub const TIMERS_PER_STEP_MAX: usize = 256;

/// Bytes of one batch of group records beyond which further steps begin another: Kafka's default for `max.message.bytes`,
/// which is also what its coordinator fills.
pub const GROUP_BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that the records of one step of a coordinator may have: the generation of a group whose members carry large
/// metadata is one record. Kafka's bound is `max.message.bytes` of `__consumer_offsets`, a megabyte.
pub const GROUP_STEP_BYTES_MAX: usize = 32 * 1024 * 1024;
const _: () = assert!(GROUP_BATCH_BYTES_MAX <= GROUP_STEP_BYTES_MAX);
const _: () = assert!(GROUP_STEP_BYTES_MAX + 1024 * 1024 < 48 * 1024 * 1024, "below BATCH_BYTES_MAX, header included");

/// Bytes of group records that one shard queues before requests wait: some flushes' worth of commits.
pub const GROUP_QUEUE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Body of one JoinGroup or SyncGroup, in bytes. Kafka's coordinator fails a group record above a megabyte later on; refused
/// at once, a request cannot take a coordinator's memory.
pub const GROUP_REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that a loading coordinator reads at a time, first batch excepted.
pub const GROUP_LOAD_READ_BYTES: usize = 1024 * 1024;

/// Records that a loading coordinator replays before other tasks of the core run: about 100 µs.
pub const GROUP_LOAD_RECORDS_PER_YIELD: u64 = 128;

/// Group coordinators that a shard loads at once. They share its one core, so more would only hold more memory at once.
pub const GROUP_LOADS_MAX: usize = 1;

/// Bytes that one batch of `__consumer_offsets` may decompress to. Corelane writes none compressed; a mirror may.
pub const DECOMPRESSED_GROUP_BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest sleep of the timer task of a shard's coordinators, in milliseconds: nothing is missed by it.
pub const GROUP_TIMER_SLEEP_MS_MAX: u64 = 60_000;
/// Groups of one partition of `__consumer_offsets`: with about 2 KiB for an idle one, 40 MiB. Beyond it a JoinGroup that
/// needs a new group gets COORDINATOR_LOAD_IN_PROGRESS, on which clients wait and ask again without looking for another
/// coordinator.
pub const GROUPS_PER_COORDINATOR_MAX: usize = 20_000;

/// Members of one classic group, whatever `group.max.size`: bounds the work of one rebalance to some ten milliseconds. As
/// with that setting, the next one gets GROUP_MAX_SIZE_REACHED, which clients report instead of trying again at once.
pub const GROUP_MEMBERS_MAX: usize = 10_000;

/// Member ids of one group that were handed out and not yet joined with. Beyond it: COORDINATOR_LOAD_IN_PROGRESS, since
/// they go away with their session timeout.
pub const GROUP_PENDING_MEMBERS_MAX: usize = GROUP_MEMBERS_MAX;

/// What the members of one classic group told about themselves and were assigned, in bytes: it becomes one record. A member
/// that does not fit gets GROUP_MAX_SIZE_REACHED; an assignment that does not, UNKNOWN_SERVER_ERROR, as from Kafka when
/// the record is too large.
pub const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;
const _: () = assert!(GROUP_BYTES_MAX < BATCH_BYTES_MAX as usize);

/// The same over all classic groups of one partition of `__consumer_offsets`, in bytes. A member that does not fit gets
/// COORDINATOR_LOAD_IN_PROGRESS: another group may go.
pub const GROUP_BYTES_PER_COORDINATOR_MAX: usize = 64 * 1024 * 1024;
const _: () = assert!(GROUP_BYTES_MAX <= GROUP_BYTES_PER_COORDINATOR_MAX);

/// How long a new member may wait in its first JoinGroup, in milliseconds. Kafka's `CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`.
pub const NEW_MEMBER_JOIN_MS: u64 = 5 * 60 * 1000;

/// Furthest ahead that a classic group enters itself into its coordinator's timers, in milliseconds. Later deadlines are
/// reached in steps, so that entries which lost their purpose do not pile up.
pub const GROUP_TIMER_AHEAD_MS_MAX: u64 = 60_000;

/// Least time before a rebalance for which nobody came back is looked at again, in milliseconds: members may set a rebalance
/// timeout of 0.
pub const REBALANCE_RETRY_MS_MIN: u64 = 100;
/// What the committed offsets of one coordinator may count for in memory, in bytes: about 400,000 offsets without metadata, four
/// times as many as one group can have. The fifty coordinators of a broker share the memory of a few shards, so this is not more.
pub const OFFSET_BYTES_PER_COORDINATOR_MAX: usize = 32 * 1024 * 1024;

/// Records of offsets that one request may leave, or one portion of tombstones, in bytes: with the batch around them they fit
/// Kafka's default for `max.message.bytes`, 1,048,588. A larger commit fails there too.
pub const OFFSET_STEP_BYTES_MAX: usize = 1_048_588 - 61;

/// Tombstones of expired offsets or deleted topics that come at once: a millisecond of work.
pub const OFFSET_TOMBSTONES_PER_STEP_MAX: usize = 2_000;

/// Groups and offsets that are looked through for expired ones at once, one whole group at least: about a millisecond of work
/// where nothing has expired.
pub const OFFSETS_CHECKED_PER_STEP_MAX: usize = 10_000;
/// Members of one KIP-848 group. Each join plans the whole group anew, so a group that fills up costs the square of this:
/// ten thousand joins cost about ten seconds of one core. Lower bounds are set by `group.consumer.max.size`.
pub const CONSUMER_GROUP_MEMBERS_MAX: usize = 10_000;

/// Topics that one member of a KIP-848 group may name. Its record names them all: at most 2.5 MB.
pub const SUBSCRIBED_TOPICS_MAX: usize = 10_000;

/// Longest id of a member of a KIP-848 group, instance id, rack or client id, in bytes. Kafka's own ids have 36; strings of
/// the protocol end at 32 KiB, and a thousand members of that size would be 100 MB.
pub const MEMBER_STRING_BYTES_MAX: usize = 1024;

/// Longest regular expression that a member may subscribe with, in bytes: some hundred topics by name.
pub const SUBSCRIPTION_PATTERN_BYTES_MAX: usize = 4096;

/// Memory that one compiled regular expression may take, in bytes, and again its cache while it is matched. Both are freed
/// once its topics are known.
pub const SUBSCRIPTION_PATTERN_COMPILED_BYTES_MAX: usize = 1024 * 1024;

/// Different regular expressions in one group. When the metadata changes each is matched against every topic: with 10,000
/// topics that is about 30 ms of the core.
pub const SUBSCRIPTION_PATTERNS_PER_GROUP_MAX: usize = 32;

/// How soon after a group's regular expressions were matched a change of the metadata has them matched again, in
/// milliseconds. Kafka's `REGEX_BATCH_REFRESH_MIN_INTERVAL_MS`.
pub const SUBSCRIPTION_PATTERN_REFRESH_MS: u64 = 10_000;

/// How often a tool looks again at a store that seems damaged while a broker writes to it, and the pause before it does, in
/// milliseconds: twice the same is enough, more only where a checkpoint came between.
pub const INSPECT_TRIES: usize = 50;
/// See [`INSPECT_TRIES`].
pub const INSPECT_PAUSE_MS: u64 = 100;

/// Faults of one segment that a tool tells apart; what is found beyond them is told as a part of the last. Each is a line.
pub const SEGMENT_FAULTS_MAX: usize = 10_000;

/// Threads that read segments for `corelane log verify`, at most: four sum up more than a disk gives.
pub const VERIFY_THREADS_MAX: usize = 4;
