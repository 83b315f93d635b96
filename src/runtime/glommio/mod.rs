//! Production's runtime: one glommio executor per shard.
//!
//! This directory is the only place that names glommio. Three of its traits shape what stands here:
//!
//! - The executor can park while tasks are runnable, when its preempt timer fires just before a scheduling pass. With a
//!   preempt interval of 10 ms that was not seen in 1.28 million operations; a tick of a few milliseconds per shard ends
//!   such a stall if it happens all the same.
//! - Its `spawn_local` polls the new task before it returns, and a timer may be over at its first poll: the task then runs
//!   through in the middle of its spawner's step. [`Runtime::spawn`] puts it into the queue instead.
//! - Nothing interrupts a task. Long work yields by its own time budget. And a plain yield keeps the task queue full, so
//!   glommio would not look at I/O until its preempt timer fires: every millisecond a yield waits for a timer instead.

mod buffer;
mod executors;
mod file;
mod low_water;
mod machine;
mod net;
mod readiness;

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use glommio::TaskQueueHandle;
use glommio::timer::Timer;

use crate::limits::{TICK_IDLE_MS, TICK_IDLE_TASKS_MAX, TICK_MS};
use crate::runtime::{Network, Runtime, Volume};
use crate::types::{MonotonicUs, TimestampMs};

pub use buffer::GlommioBuffer;
pub use executors::{ShardPlan, StartError, abort_on_panic, run_shards};
pub use file::GlommioFile;
pub use machine::{
    Cores, LimitError, Needs, check_limits, check_threads, device_bytes, machine_memory_bytes, polled_devices,
    raise_file_limit,
};
pub use net::{GlommioListener, GlommioSocket};

use buffer::Spares;
use readiness::Readiness;

/// One core's glommio executor. Every clone is the same executor.
#[derive(Clone)]
pub struct GlommioRuntime {
    inner: Rc<Inner>,
}

struct Inner {
    /// Zero of the monotonic clock, the same for all shards of a process.
    started: Instant,
    /// A keyed hash over a counter: unpredictable, and no state to share.
    random_key: RandomState,
    random_count: Cell<u64>,
    spares: Rc<Spares>,
    /// When the next task that yields must let the executor look at I/O.
    io_due: Cell<Instant>,
    /// Where tasks run, and new ones are put.
    queue: TaskQueueHandle,
    /// Made with the first listener: most executors of tests have none.
    readiness: OnceCell<Rc<Readiness>>,
}

impl GlommioRuntime {
    /// The runtime of the executor that runs the caller, with its clock at zero. Starts the tick.
    ///
    /// Panics outside an executor.
    pub fn on_executor() -> GlommioRuntime {
        GlommioRuntime::with(Instant::now(), IO_MEMORY_BYTES_DEFAULT)
    }

    /// As [`on_executor`](Self::on_executor), with a given zero of the clock, on an executor with that much I/O memory.
    fn with(started: Instant, io_memory_bytes: usize) -> GlommioRuntime {
        glommio::spawn_local(tick()).detach();
        let inner = Inner {
            started,
            random_key: RandomState::new(),
            random_count: Cell::new(0),
            spares: Rc::new(Spares::new(io_memory_bytes)),
            io_due: Cell::new(Instant::now() + IO_INTERVAL),
            queue: glommio::executor().current_task_queue(),
            readiness: OnceCell::new(),
        };
        GlommioRuntime { inner: Rc::new(inner) }
    }
}

/// How long tasks may yield among themselves before I/O gets its turn. A turn costs about 30 µs, a plain yield 0.2.
const IO_INTERVAL: Duration = Duration::from_millis(1);

/// I/O memory of an executor that was not told otherwise: glommio's default.
const IO_MEMORY_BYTES_DEFAULT: usize = 10 * 1024 * 1024;

/// The shortest sleep that passes through the executor's loop: shorter ones are over before they begin.
const SLEEP_MIN: Duration = Duration::from_micros(1);

/// Wakes the executor now and then, so that one that parked beside runnable tasks finds them. Less often where nothing
/// happens: a wake costs about 100 µs on a sleeping core.
async fn tick() {
    let tasks_run = || glommio::executor().executor_stats().tasks_executed();
    let mut interval_ms = TICK_IDLE_MS;
    loop {
        let before = tasks_run();
        Timer::new(Duration::from_millis(interval_ms)).await;
        interval_ms = if tasks_run() - before > TICK_IDLE_TASKS_MAX { TICK_MS } else { TICK_IDLE_MS };
    }
}

impl Runtime for GlommioRuntime {
    type Buffer = GlommioBuffer;
    type File = GlommioFile;

    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        // Not `spawn_local`: that polls the future before it returns, within whatever the caller has borrowed.
        let spawned = glommio::spawn_local_into(future, self.inner.queue);
        spawned.expect("a runtime is used on its own executor, whose queue is never removed").detach();
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let timer = Timer::new(duration);
        async move {
            timer.await;
        }
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        let inner = Rc::clone(&self.inner);
        async move {
            if Instant::now() < inner.io_due.get() {
                return glommio::executor().yield_task_queue_now().await;
            }
            // Until the first of them returns, every task that yields comes here, so the queue runs empty.
            Timer::new(SLEEP_MIN).await;
            inner.io_due.set(Instant::now() + IO_INTERVAL);
        }
    }

    fn now(&self) -> MonotonicUs {
        let elapsed_us = self.inner.started.elapsed().as_micros();
        MonotonicUs::new(u64::try_from(elapsed_us).expect("a process lives less than 500,000 years"))
    }

    fn wall_clock(&self) -> TimestampMs {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimestampMs::new(i64::try_from(since_epoch.as_millis()).expect("the clock shows a year below 292,000,000"))
    }

    fn random(&self) -> u64 {
        let count = self.inner.random_count.get();
        self.inner.random_count.set(count.wrapping_add(1));
        self.inner.random_key.hash_one(count)
    }

    fn allocate(&self, bytes: usize) -> GlommioBuffer {
        GlommioBuffer::allocate(bytes, &self.inner.spares)
    }

    fn buffer_bytes(&self) -> u64 {
        u64::try_from(self.inner.spares.out_bytes()).expect("a size in memory fits 64 bits")
    }

    async fn create(&self, path: &Path, bytes: u64) -> io::Result<GlommioFile> {
        GlommioFile::create(path, bytes, &self.inner.spares).await
    }

    async fn open(&self, path: &Path) -> io::Result<GlommioFile> {
        GlommioFile::open(path, &self.inner.spares).await
    }

    async fn create_directory(&self, path: &Path) -> io::Result<()> {
        blocking("create directory", path, |path| std::fs::create_dir_all(path)).await
    }

    async fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        blocking("list", directory, list_files).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        blocking("remove", path, |path| std::fs::remove_file(path)).await
    }

    async fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        blocking("sync directory", directory, |path| std::fs::File::open(path)?.sync_all()).await
    }

    fn volume(&self, directory: &Path) -> Option<Volume> {
        machine::volume(directory)
    }
}

impl Network for GlommioRuntime {
    type Listener = GlommioListener;
    type Socket = GlommioSocket;

    fn listen(&self, address: SocketAddr, shared: bool) -> io::Result<GlommioListener> {
        let readiness = match self.inner.readiness.get() {
            Some(readiness) => Rc::clone(readiness),
            None => {
                let readiness = Rc::new(Readiness::start()?);
                Rc::clone(self.inner.readiness.get_or_init(|| readiness))
            }
        };
        GlommioListener::bind(address, shared, readiness)
    }
}

/// Runs what may block on the executor's helper thread; names operation and path in an error, and keeps its kind.
async fn blocking<T: Send + 'static>(
    operation: &'static str,
    path: &Path,
    act: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = PathBuf::from(path);
    let run = move || act(&path).map_err(|e| io::Error::new(e.kind(), format!("{operation} {}: {e}", path.display())));
    glommio::executor().spawn_blocking(run).await
}

/// Names of the plain files of a directory. A name that is not UTF-8 is none of ours and is left out.
fn list_files(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::limits::{BLOCK_BYTES, IO_ALIGNMENT};
    use crate::runtime::block::Block;
    use crate::runtime::{Buffer, File, unfinished_name};

    /// Runs a test on an executor of its own.
    fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce(GlommioRuntime) -> F) {
        let executor = glommio::LocalExecutorBuilder::default().make().unwrap();
        executor.run(async { test(GlommioRuntime::on_executor()).await });
    }

    fn filled(runtime: &GlommioRuntime, bytes: usize, value: u8) -> Rc<GlommioBuffer> {
        let mut buffer = runtime.allocate(bytes);
        buffer.as_mut_slice().fill(value);
        Rc::new(buffer)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            let file = runtime.create(&path, 1 << 20).await.unwrap();
            assert_eq!(file.bytes(), 1 << 20);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
            file.write_at(filled(&runtime, 8192, 7), 4096).await.unwrap();
            file.flush().await.unwrap();
            drop(file);

            let file = runtime.open(&path).await.unwrap();
            assert_eq!(file.bytes(), 1 << 20);
            let read = file.read_at(0, 4 * IO_ALIGNMENT).await.unwrap();
            assert!(read.as_slice()[..4096].iter().all(|byte| *byte == 0));
            assert!(read.as_slice()[4096..12288].iter().all(|byte| *byte == 7));
            assert!(read.as_slice()[12288..].iter().all(|byte| *byte == 0));
        });
    }

    /// A task spawned by a step that had the store's state borrowed ran at once and borrowed it too: its timer of 100 µs was
    /// over when it was first looked at, on a machine that had given the core to somebody else meanwhile.
    #[test]
    fn a_spawned_task_is_not_polled_before_spawn_returns() {
        on_executor(|runtime| async move {
            let borrowed = Rc::new(RefCell::new(0));
            {
                let (now, seen) = (runtime.sleep(Duration::ZERO), Rc::clone(&borrowed));
                let mut state = borrowed.borrow_mut();
                runtime.spawn(async move {
                    now.await;
                    *seen.borrow_mut() += 1;
                });
                *state += 1;
            }
            while *borrowed.borrow() < 2 {
                runtime.yield_now().await;
            }
        });
    }

    #[test]
    fn a_file_opens_only_once_it_is_closed_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            let file = runtime.create(&path, 4096).await.unwrap();
            let closed = Rc::new(Cell::new(false));
            let (now_closed, slept) = (Rc::clone(&closed), runtime.sleep(Duration::from_millis(20)));
            runtime.spawn(async move {
                slept.await;
                now_closed.set(true);
                drop(file);
            });
            runtime.open(&path).await.unwrap();
            assert!(closed.get());
        });
    }

    #[test]
    fn space_is_reserved_at_creation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            runtime.create(&path, 1 << 20).await.unwrap();
            use std::os::unix::fs::MetadataExt;
            assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
        });
    }

    #[test]
    fn space_is_given_back_and_reserved_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            use std::os::unix::fs::MetadataExt;
            let allocated = || std::fs::metadata(&path).unwrap().blocks() * 512;
            let file = runtime.create(&path, 1 << 20).await.unwrap();
            file.write_at(filled(&runtime, 1 << 20, 9), 0).await.unwrap();
            assert!(!file.is_sparse());
            file.give_back(8192, (1 << 20) - 16384).await.unwrap();
            assert!(file.is_sparse() && allocated() < 1 << 19, "{}", allocated());
            assert_eq!(file.bytes(), 1 << 20);
            let read = file.read_at(4096, 8192).await.unwrap();
            assert!(read.as_slice()[..4096].iter().all(|byte| *byte == 9));
            assert!(read.as_slice()[4096..].iter().all(|byte| *byte == 0));
            drop(file);
            let file = runtime.open(&path).await.unwrap();
            assert!(file.is_sparse());
            file.reserve(1 << 19).await.unwrap();
            assert_eq!((file.bytes(), file.is_sparse()), (1 << 20, false), "no file is made shorter");
            file.reserve(1 << 21).await.unwrap();
            assert_eq!((file.bytes(), file.is_sparse()), (1 << 21, false));
            assert!(allocated() >= 1 << 21);
            assert!(file.read_at(4096, 4096).await.unwrap().as_slice().iter().all(|byte| *byte == 9));
        });
    }

    #[test]
    fn reading_past_the_end_gives_zeroes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            let file = runtime.create(&path, 4096).await.unwrap();
            file.write_at(filled(&runtime, 4096, 9), 0).await.unwrap();
            let read = file.read_at(0, 16384).await.unwrap();
            assert_eq!(read.bytes(), 16384);
            assert!(read.as_slice()[..4096].iter().all(|byte| *byte == 9));
            assert!(read.as_slice()[4096..].iter().all(|byte| *byte == 0));
            let beyond = file.read_at(1 << 20, 4096).await.unwrap();
            assert!(beyond.as_slice().iter().all(|byte| *byte == 0));
        });
    }

    #[test]
    fn an_unaligned_end_of_file_reads_as_zeroes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![5; 4096 + 100]).unwrap();
        on_executor(|runtime| async move {
            let file = runtime.open(&path).await.unwrap();
            assert_eq!(file.bytes(), 4196);
            let read = file.read_at(0, 12288).await.unwrap();
            assert!(read.as_slice()[..4196].iter().all(|byte| *byte == 5));
            assert!(read.as_slice()[4196..].iter().all(|byte| *byte == 0));
        });
    }

    #[test]
    fn a_write_behind_the_end_grows_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            let file = runtime.create(&path, 0).await.unwrap();
            file.write_at(filled(&runtime, 4096, 1), 8192).await.unwrap();
            assert_eq!(file.bytes(), 12288);
        });
    }

    #[test]
    fn creating_an_existing_file_fails_and_opening_a_missing_one_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            runtime.create(&path, 4096).await.unwrap();
            let error = runtime.create(&path, 4096).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            let error = runtime.open(&path.with_file_name("missing")).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains("missing"), "{error}");
        });
    }

    #[test]
    fn a_creation_without_space_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            // Larger than any device here, so fallocate refuses it.
            runtime.create(&path, 1 << 50).await.err().unwrap();
        });
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_of_a_creation_is_no_hindrance() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(directory.path().join(unfinished_name("file")), [7; 10_000]).unwrap();
        let created = path.clone();
        on_executor(|runtime| async move {
            let file = runtime.create(&created, 8192).await.unwrap();
            assert_eq!(runtime.list(created.parent().unwrap()).await.unwrap(), ["file"]);
            assert!(file.read_at(0, 8192).await.unwrap().as_slice().iter().all(|byte| *byte == 0));
        });
        assert_eq!(std::fs::metadata(path).unwrap().len(), 8192);
    }

    #[test]
    fn a_filesystem_without_direct_io_is_named() {
        on_executor(|runtime| async move {
            let error = runtime.open(Path::new("/proc/self/comm")).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(error.to_string().contains("does not support direct I/O"), "{error}");
        });
    }

    #[test]
    fn directories_are_created_listed_and_synced() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a/b");
        on_executor(|runtime| async move {
            runtime.create_directory(&inner).await.unwrap();
            runtime.create_directory(&inner).await.unwrap();
            runtime.create(&inner.join("one"), 4096).await.unwrap();
            runtime.create_directory(&inner.join("not-a-file")).await.unwrap();
            assert_eq!(runtime.list(&inner).await.unwrap(), ["one"]);
            runtime.sync_directory(&inner).await.unwrap();
            runtime.remove(&inner.join("one")).await.unwrap();
            assert!(runtime.list(&inner).await.unwrap().is_empty());
            let error = runtime.remove(&inner.join("one")).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        });
    }

    #[test]
    fn a_block_goes_on_where_a_read_left_off() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            let file = runtime.create(&path, 8192).await.unwrap();
            file.write_at(filled(&runtime, 8192, 3), 0).await.unwrap();
            let block = Block::new(file.read_at(0, 8192).await.unwrap(), 5000);
            block.append(&[4; 3192]);
            file.write_at(block.full_memory(), 0).await.unwrap();
            let read = file.read_at(0, 8192).await.unwrap();
            assert!(read.as_slice()[..5000].iter().all(|byte| *byte == 3));
            assert!(read.as_slice()[5000..].iter().all(|byte| *byte == 4));
        });
    }

    #[test]
    fn freed_blocks_are_used_again() {
        on_executor(|runtime| async move {
            let first = runtime.allocate(BLOCK_BYTES);
            let address = first.as_ptr();
            drop(first);
            assert_eq!(runtime.allocate(BLOCK_BYTES).as_ptr(), address);
        });
    }

    #[test]
    fn many_writes_in_flight_all_arrive() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        on_executor(|runtime| async move {
            let file = runtime.create(&path, 64 * 4096).await.unwrap();
            let done = Rc::new(Cell::new(0));
            for index in 0..64u8 {
                let write = file.write_at(filled(&runtime, 4096, index), u64::from(index) * 4096);
                let done = Rc::clone(&done);
                runtime.spawn(async move {
                    write.await.unwrap();
                    done.set(done.get() + 1);
                });
            }
            while done.get() < 64 {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            file.flush().await.unwrap();
            let read = file.read_at(0, 64 * 4096).await.unwrap();
            for index in 0..64u8 {
                let start = usize::from(index) * 4096;
                assert!(read.as_slice()[start..start + 4096].iter().all(|byte| *byte == index));
            }
        });
    }

    #[test]
    fn yielding_tasks_let_io_through_within_milliseconds() {
        on_executor(|runtime| async move {
            let fired = Rc::new(Cell::new(false));
            let slept = runtime.sleep(Duration::from_millis(1));
            let seen = Rc::clone(&fired);
            runtime.spawn(async move {
                slept.await;
                seen.set(true);
            });
            // Two tasks that do nothing but yield keep each other runnable.
            let (other, stop) = (runtime.clone(), Rc::clone(&fired));
            runtime.spawn(async move {
                while !stop.get() {
                    other.yield_now().await;
                }
            });
            let started = runtime.now();
            while !fired.get() {
                runtime.yield_now().await;
            }
            // The default preempt interval is 100 ms: without the turns for I/O it takes that long.
            assert!(runtime.now().since_us(started) < 50_000);
        });
    }

    #[test]
    fn random_numbers_differ() {
        on_executor(|runtime| async move {
            let numbers: std::collections::HashSet<u64> = (0..1000).map(|_| runtime.random()).collect();
            assert_eq!(numbers.len(), 1000);
        });
    }
}
