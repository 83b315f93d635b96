//! Starts one pinned executor per shard and waits for all of them.
//!
//! Either every executor starts or none runs anything. A panic on a shard's thread stops the process: the others could
//! not tell what became of the requests they sent it.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Write};
use std::panic;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use glommio::{GlommioError, LocalExecutor, LocalExecutorBuilder, Placement, ReactorErrorKind};

use super::GlommioRuntime;
use super::machine::{LockedMemory, polled_devices};
use crate::limits::{EXECUTOR_MEMLOCK_BYTES_MIN, IO_ALIGNMENT, IO_MEMORY_BYTES_MIN, PREEMPT_MS};
use crate::runtime::signals;
use crate::types::ShardId;

/// Rings of one executor; each registers the I/O memory, and each registration counts against RLIMIT_MEMLOCK.
const RINGS_PER_EXECUTOR: u64 = 3;

/// How long a panic may take to print where it came from, in seconds. What reads that from the program itself may wait for
/// ever, on a lock that it holds, when no memory is left.
const BACKTRACE_SECONDS_MAX: u32 = 10;

thread_local! {
    /// The shard, and its CPU, that this thread is making an executor for.
    static STARTING: Cell<Option<(ShardId, usize)>> = const { Cell::new(None) };
}

/// How many shards, and where.
#[derive(Clone, Debug)]
pub struct ShardPlan {
    /// Shards to start, at least one.
    pub count: u16,
    /// CPU numbers; shard *i* is pinned to `cpus[i mod n]`, so shards share cores when there are fewer.
    pub cpus: Vec<usize>,
    /// Memory per shard to register with its rings, in bytes. Blocks beyond it come from the allocator and are mapped
    /// anew by the kernel for every write.
    pub io_memory_bytes: usize,
}

/// Why the shards did not start, in words for whoever started them.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The limit of locked memory is below what any executor starts with.
    #[error(
        "the limit of locked memory is {limit_bytes} bytes and an executor needs {}: raise it (`ulimit -l unlimited`, \
         `LimitMEMLOCK=infinity` in a systemd unit, `--ulimit memlock=-1` for docker)",
        EXECUTOR_MEMLOCK_BYTES_MIN
    )]
    LockedMemory {
        /// RLIMIT_MEMLOCK.
        limit_bytes: u64,
    },
    /// The kernel or its policy refuses io_uring.
    #[error(
        "{cause}. Corelane needs io_uring: set the sysctl kernel.io_uring_disabled=0, and in a container allow \
         io_uring_setup, io_uring_enter and io_uring_register (docker: `--security-opt seccomp=unconfined`)"
    )]
    IoUring {
        /// The system's words.
        cause: String,
    },
    /// An executor or its thread could not be made.
    #[error(
        "shard {shard} cannot start on cpu {cpu}: {cause}: look at the limits of threads (`ulimit -u`, TasksMax in a systemd \
         unit), memory (`ulimit -v`) and open files (`ulimit -n`)"
    )]
    Executor {
        /// The shard.
        shard: ShardId,
        /// The CPU it was meant for.
        cpu: usize,
        /// The system's words.
        cause: String,
    },
    /// A limit of this process could not be read.
    #[error("the limits of this process cannot be read: {0}")]
    Limits(#[from] io::Error),
}

/// Runs `shard` on one executor per shard and returns what each gave back, in the order of shards.
///
/// Blocks the caller until all have ended. Nothing runs before every executor exists.
pub fn run_shards<T, F, Fut>(plan: &ShardPlan, shard: F) -> Result<Vec<T>, StartError>
where
    T: Send + 'static,
    F: Fn(ShardId, GlommioRuntime) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = T> + 'static,
{
    assert!(plan.count > 0);
    assert!(!plan.cpus.is_empty());
    let io_memory_bytes = affordable_io_memory(plan, LockedMemory::of_this_process()?)?;
    let polled = polled_devices();
    if !polled.is_empty() {
        tracing::warn!(
            "{} have poll queues: with data there, a core is busy whenever I/O is in flight. Turn them off with \
             `nvme.poll_queues=0` on the kernel's command line",
            polled.join(", ")
        );
    }
    let clock_started = Instant::now();
    let shard = Arc::new(shard);
    let mut threads = Vec::new();
    let mut failure = None;
    for index in 0..plan.count {
        let id = ShardId::new(index);
        let cpu = plan.cpus[id.index() % plan.cpus.len()];
        let (made, is_made) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let shard = Arc::clone(&shard);
        let body = move || {
            STARTING.set(Some((id, cpu)));
            let executor = make_executor(cpu, io_memory_bytes);
            STARTING.set(None);
            let executor = match executor {
                Ok(executor) => executor,
                Err(error) => return made.send(Err(error)).map_or(None, |()| None),
            };
            made.send(Ok(())).ok()?;
            // A closed channel means that a sibling did not start.
            may_go.recv().ok()?;
            Some(run_or_abort(id, || {
                executor.run(async { shard(id, GlommioRuntime::with(clock_started, io_memory_bytes)).await })
            }))
        };
        let thread = match thread::Builder::new().name(format!("shard-{id}")).spawn(body) {
            Ok(thread) => thread,
            Err(error) => {
                failure = Some(StartError::Executor { shard: id, cpu, cause: error.to_string() });
                break;
            }
        };
        threads.push((go, thread));
        match is_made.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failure = Some(start_error(id, cpu, error)),
            Err(_) => failure = Some(StartError::Executor { shard: id, cpu, cause: "its thread died".to_owned() }),
        }
        if failure.is_some() {
            break;
        }
    }
    if failure.is_none() {
        for (go, _) in &threads {
            go.send(()).expect("a shard waits for its start");
        }
    }
    let mut outputs = Vec::new();
    for (go, thread) in threads {
        drop(go);
        // A panic inside the shard has aborted the process already; one while making the executor was seen above.
        outputs.extend(thread.join().ok().flatten());
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(outputs),
    }
}

fn make_executor(cpu: usize, io_memory_bytes: usize) -> Result<LocalExecutor, GlommioError<()>> {
    LocalExecutorBuilder::new(Placement::Fixed(cpu))
        .io_memory(io_memory_bytes)
        .preempt_timer(Duration::from_millis(PREEMPT_MS))
        .make()
}

/// Runs a shard; a panic that reaches here ends the process with its cause, whatever hook is installed.
fn run_or_abort<T>(shard: ShardId, run: impl FnOnce() -> T) -> T {
    match panic::catch_unwind(panic::AssertUnwindSafe(run)) {
        Ok(output) => output,
        Err(cause) => {
            // Not by `eprintln`, whose words a test would keep for its end, which does not come.
            let _ = writeln!(io::stderr(), "corelane: shard {shard} panicked: {}", panic_text(&*cause));
            std::process::abort()
        }
    }
}

/// From now on a panic on any thread prints one line with its cause and aborts the process.
///
/// For `main`. Without it, only a panic on a shard's own thread does. The one panic that is no defect is the runtime's where
/// it is refused what it makes an executor of (memory, threads): that ends the process with code 1.
pub fn abort_on_panic() {
    panic::set_hook(Box::new(|info| {
        // What is written may find nobody to read it.
        let mut stderr = io::stderr();
        if let Some((shard, cpu)) = STARTING.get() {
            let cause = panic_text(info.payload()).to_owned();
            let _ = writeln!(stderr, "corelane: {}", StartError::Executor { shard, cpu, cause });
            std::process::exit(1);
        }
        signals::end_within(BACKTRACE_SECONDS_MAX);
        let thread = thread::current();
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let name = thread.name().unwrap_or("without a name");
        let _ = writeln!(stderr, "corelane: thread {name} panicked at {place}: {}", panic_text(info.payload()));
        let _ = match std::env::var_os("RUST_BACKTRACE") {
            Some(_) => writeln!(stderr, "{}", std::backtrace::Backtrace::force_capture()),
            None => writeln!(stderr, "corelane: this is a defect; run with RUST_BACKTRACE=1 to see where it came from"),
        };
        std::process::abort()
    }));
}

fn panic_text(cause: &(dyn std::any::Any + Send)) -> &str {
    match (cause.downcast_ref::<&str>(), cause.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "without a message",
    }
}

/// The I/O memory per shard that RLIMIT_MEMLOCK lets all rings register. Warns once when that is less than planned.
fn affordable_io_memory(plan: &ShardPlan, locked: LockedMemory) -> Result<usize, StartError> {
    if locked.limit_bytes < EXECUTOR_MEMLOCK_BYTES_MIN {
        return Err(StartError::LockedMemory { limit_bytes: locked.limit_bytes });
    }
    let alignment = u64::try_from(IO_ALIGNMENT).expect("a page size fits 64 bits");
    let registrations = u64::from(plan.count) * RINGS_PER_EXECUTOR;
    let affordable = locked.limit_bytes / registrations / alignment * alignment;
    let wanted = u64::try_from(plan.io_memory_bytes).expect("a size in memory fits 64 bits");
    if locked.uncharged || wanted <= affordable {
        return Ok(plan.io_memory_bytes);
    }
    let wanted_limit = wanted.saturating_mul(registrations);
    tracing::warn!(
        "the limit of locked memory is {} KiB, registering all buffers takes {} KiB: writes will cost more CPU. Raise it \
         with `ulimit -l {}`, LimitMEMLOCK in a systemd unit, or `--ulimit memlock=-1` for docker",
        locked.limit_bytes / 1024,
        wanted_limit / 1024,
        wanted_limit / 1024
    );
    let reduced = usize::try_from(affordable).expect("less than what was planned, which fits");
    Ok(reduced.max(IO_MEMORY_BYTES_MIN))
}

fn start_error(shard: ShardId, cpu: usize, error: GlommioError<()>) -> StartError {
    match error {
        GlommioError::ReactorError(ReactorErrorKind::MemLockLimit(limit_bytes, _)) => {
            StartError::LockedMemory { limit_bytes }
        }
        // glommio probes io_uring first and reports what it found as `Unsupported`, in words.
        GlommioError::IoError(error) if error.kind() == io::ErrorKind::Unsupported => {
            StartError::IoUring { cause: error.to_string() }
        }
        GlommioError::IoError(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            StartError::IoUring { cause: error.to_string() }
        }
        other => StartError::Executor { shard, cpu, cause: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;

    const MIB: u64 = 1024 * 1024;

    fn plan(count: u16, io_memory_bytes: usize) -> ShardPlan {
        ShardPlan { count, cpus: super::super::Cores::of_this_process().cpus, io_memory_bytes }
    }

    #[test]
    fn shards_run_on_their_own_named_threads_and_wrap_around_the_cores() {
        // More shards than this machine may have cores is allowed: they share.
        let outputs = run_shards(&plan(3, 65536), |shard, runtime| async move {
            runtime.sleep(Duration::from_millis(2)).await;
            assert!(runtime.now().value() >= 2000);
            (shard, thread::current().name().map(str::to_owned))
        })
        .unwrap();
        let expected: Vec<_> = (0..3).map(|i| (ShardId::new(i), Some(format!("shard-{i}")))).collect();
        assert_eq!(outputs, expected);
    }

    #[test]
    fn no_shard_runs_when_one_cannot_start() {
        let plan = ShardPlan { count: 2, cpus: vec![0, 100_000], io_memory_bytes: 65536 };
        let ran = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = Arc::clone(&ran);
        let error = run_shards(&plan, move |_, _| {
            seen.store(true, std::sync::atomic::Ordering::SeqCst);
            async {}
        })
        .unwrap_err();
        assert!(error.to_string().starts_with("shard 1 cannot start on cpu 100000"), "{error}");
        assert!(!ran.load(std::sync::atomic::Ordering::SeqCst));
    }

    /// Runs one of the tests below in a process of its own, with the variable set that makes it fail.
    fn run_apart(test: &str, variable: &str) -> std::process::Output {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args([&format!("runtime::glommio::executors::tests::{test}"), "--exact", "--nocapture"])
            .env(variable, "1")
            .env_remove("RUST_BACKTRACE")
            .output()
            .unwrap()
    }

    fn assert_aborted(output: &std::process::Output, cause: &str) {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.lines().any(|line| line.starts_with("corelane: ") && line.contains(cause)), "{stderr}");
    }

    /// One shard waits for ever, the other panics in a task that nobody waits for.
    fn panic_in_a_task() {
        let _ = run_shards(&plan(2, 65536), |shard, runtime| async move {
            if shard == ShardId::new(1) {
                let late = runtime.sleep(Duration::from_millis(10));
                runtime.spawn(async move {
                    late.await;
                    panic!("planted in a task");
                });
            }
            runtime.sleep(Duration::from_secs(3600)).await;
        });
    }

    #[test]
    fn a_panic_in_a_task_aborts_the_process() {
        const VARIABLE: &str = "CORELANE_TEST_PANIC_IN_TASK";
        if std::env::var_os(VARIABLE).is_some() {
            return panic_in_a_task();
        }
        let output = run_apart("a_panic_in_a_task_aborts_the_process", VARIABLE);
        assert_aborted(&output, "shard 1 panicked: planted in a task");
    }

    #[test]
    fn a_panic_anywhere_aborts_the_process_once_the_hook_is_set() {
        const VARIABLE: &str = "CORELANE_TEST_PANIC_ANYWHERE";
        if std::env::var_os(VARIABLE).is_some() {
            abort_on_panic();
            let thread = thread::Builder::new().name("aside".to_owned()).spawn(|| panic!("planted {}", "aside"));
            let _ = thread.unwrap().join();
            return;
        }
        let output = run_apart("a_panic_anywhere_aborts_the_process_once_the_hook_is_set", VARIABLE);
        assert_aborted(&output, "thread aside panicked at src/runtime/glommio/executors.rs");
        assert!(String::from_utf8_lossy(&output.stderr).contains(": planted aside"), "{output:?}");
    }

    #[test]
    fn io_memory_shrinks_to_what_may_be_locked() {
        let wanted = 32 * 1024 * 1024;
        let limit = |limit_bytes, uncharged| LockedMemory { limit_bytes, uncharged };
        assert_eq!(affordable_io_memory(&plan(2, wanted), limit(u64::MAX, false)).unwrap(), wanted);
        assert_eq!(affordable_io_memory(&plan(2, wanted), limit(192 * MIB, false)).unwrap(), wanted);
        assert_eq!(affordable_io_memory(&plan(2, wanted), limit(8 * MIB, true)).unwrap(), wanted);
        // 8 MiB / (2 shards x 3 rings) = 1,398,101 bytes, rounded down to whole pages.
        assert_eq!(affordable_io_memory(&plan(2, wanted), limit(8 * MIB, false)).unwrap(), 341 * 4096);
        assert_eq!(affordable_io_memory(&plan(16, wanted), limit(MIB, false)).unwrap(), IO_MEMORY_BYTES_MIN);
    }

    #[test]
    fn too_little_locked_memory_is_an_error_that_says_what_to_do() {
        let locked = LockedMemory { limit_bytes: 65536, uncharged: false };
        let error = affordable_io_memory(&plan(1, 65536), locked).unwrap_err();
        assert!(matches!(error, StartError::LockedMemory { limit_bytes: 65536 }));
        assert!(error.to_string().contains("ulimit -l"), "{error}");
    }

    #[test]
    fn refused_io_uring_is_an_error_that_says_what_to_do() {
        for code in [libc::ENOSYS, libc::EPERM] {
            let error = start_error(ShardId::new(0), 0, io::Error::from_raw_os_error(code).into());
            assert!(error.to_string().contains("kernel.io_uring_disabled=0"), "{error}");
        }
    }
}
