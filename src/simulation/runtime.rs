//! The runtime's traits over the seeded executor and the simulated disk.
//!
//! Where the traits leave room, this takes the side that is worse for the caller: a flush covers what had completed
//! when it was *called*, not when it was first polled; a buffer must not change from the *call* of a write on; an
//! operation whose future is dropped goes on in the kernel; fresh memory holds rubbish.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Crash;
use super::buffer::SimulatedBuffer;
use super::disk::{Begun, Disk, FileId, Outcome};
use super::executor::Executor;
use super::random::Random;
use super::trace::Trace;
use crate::runtime::{Buffer, File, Runtime};
use crate::types::{MonotonicUs, TimestampMs};

/// One life of the simulated process, as its tasks see it. Clones are the same life: several shards may share it, each
/// in a directory of its own.
#[derive(Clone)]
pub struct SimulatedRuntime {
    life: Rc<Life>,
}

pub(super) struct Life {
    pub(super) executor: Executor,
    pub(super) disk: Disk,
    pub(super) trace: Trace,
    /// When this life began, in virtual microseconds: the monotonic clock starts anew at each boot.
    pub(super) booted_us: u64,
    /// The wall clock at virtual time 0.
    pub(super) wall_clock_ms: i64,
    pub(super) random: RefCell<Random>,
    pub(super) crash: RefCell<Option<Crash>>,
}

impl SimulatedRuntime {
    pub(super) fn new(life: Rc<Life>) -> SimulatedRuntime {
        SimulatedRuntime { life }
    }

    /// The disk under this life.
    pub fn disk(&self) -> Disk {
        self.life.disk.clone()
    }

    /// Ends this life as soon as the task that calls it waits for anything.
    pub fn crash(&self, crash: Crash) {
        self.life.crash.borrow_mut().get_or_insert(crash);
    }

    /// Adds an event to the trace: what a test saw counts for "the same seed gives the same trace".
    pub fn note(&self, what: &'static str, values: [u64; 3]) {
        self.life.trace.add(what, values);
    }

    /// Begins an operation of the disk and ends with it.
    fn perform(&self, begin: impl FnOnce(&Disk) -> Begun) -> InFlight {
        let begun = begin(&self.life.disk);
        let shared = Rc::new(RefCell::new(Landing { outcome: None, waker: None }));
        let (disk, landing) = (self.life.disk.clone(), Rc::clone(&shared));
        let executor = &self.life.executor;
        executor.at(executor.now_us() + begun.latency_us, move || {
            let outcome = disk.complete(begun.operation);
            let mut landing = landing.borrow_mut();
            landing.outcome = Some(outcome);
            if let Some(waker) = landing.waker.take() {
                waker.wake();
            }
        });
        InFlight { landing: shared }
    }

    fn file(&self, file: FileId) -> SimulatedFile {
        SimulatedFile { runtime: self.clone(), file }
    }
}

/// Where the outcome of an operation waits for the one who asked.
struct Landing {
    outcome: Option<io::Result<Outcome>>,
    waker: Option<Waker>,
}

struct InFlight {
    landing: Rc<RefCell<Landing>>,
}

impl Future for InFlight {
    type Output = io::Result<Outcome>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<Outcome>> {
        let mut landing = self.landing.borrow_mut();
        match landing.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                landing.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Runtime for SimulatedRuntime {
    type Buffer = SimulatedBuffer;
    type File = SimulatedFile;

    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.life.executor.spawn(future);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.life.executor.sleep(duration)
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        self.life.executor.yield_now()
    }

    fn now(&self) -> MonotonicUs {
        MonotonicUs::new(self.life.executor.now_us() - self.life.booted_us)
    }

    fn wall_clock(&self) -> TimestampMs {
        let elapsed_ms = i64::try_from(self.life.executor.now_us() / 1000).expect("virtual time is short");
        TimestampMs::new(self.life.wall_clock_ms + elapsed_ms)
    }

    fn random(&self) -> u64 {
        self.life.random.borrow_mut().next()
    }

    fn allocate(&self, bytes: usize) -> SimulatedBuffer {
        // Rubbish that differs from run to run, so that whoever relies on it is found.
        let [rubbish, ..] = self.life.random.borrow_mut().next().to_le_bytes();
        SimulatedBuffer::new(bytes, rubbish)
    }

    fn buffer_bytes(&self) -> u64 {
        super::buffer::bytes_out()
    }

    async fn create(&self, path: &Path, bytes: u64) -> io::Result<SimulatedFile> {
        match self.perform(|disk| disk.begin_create(path, bytes)).await? {
            Outcome::Opened(file) => Ok(self.file(file)),
            other => unreachable!("creating gives a file, not {other:?}"),
        }
    }

    async fn open(&self, path: &Path) -> io::Result<SimulatedFile> {
        match self.perform(|disk| disk.begin_open(path)).await? {
            Outcome::Opened(file) => Ok(self.file(file)),
            other => unreachable!("opening gives a file, not {other:?}"),
        }
    }

    async fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.perform(|disk| disk.begin_create_directory(path)).await.map(|_| ())
    }

    async fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        match self.perform(|disk| disk.begin_list(directory)).await? {
            Outcome::Names(names) => Ok(names),
            other => unreachable!("listing gives names, not {other:?}"),
        }
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.perform(|disk| disk.begin_remove(path)).await.map(|_| ())
    }

    async fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.perform(|disk| disk.begin_sync_directory(directory)).await.map(|_| ())
    }
}

/// An open file of the simulated disk.
#[derive(Clone)]
pub struct SimulatedFile {
    runtime: SimulatedRuntime,
    file: FileId,
}

impl File for SimulatedFile {
    type Buffer = SimulatedBuffer;

    fn bytes(&self) -> u64 {
        self.runtime.life.disk.bytes(self.file)
    }

    fn write_at(&self, buffer: Rc<SimulatedBuffer>, position: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let checksum = crc32c::crc32c(buffer.as_slice());
        let (runtime, file) = (self.runtime.clone(), self.file);
        async move { runtime.perform(|disk| disk.begin_write(file, position, buffer, checksum)).await.map(|_| ()) }
    }

    fn read_at(&self, position: u64, bytes: usize) -> impl Future<Output = io::Result<SimulatedBuffer>> + 'static {
        let (runtime, file) = (self.runtime.clone(), self.file);
        async move {
            match runtime.perform(|disk| disk.begin_read(file, position, bytes)).await? {
                Outcome::Content(buffer) => Ok(buffer),
                other => unreachable!("reading gives content, not {other:?}"),
            }
        }
    }

    fn reserve(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let (runtime, file) = (self.runtime.clone(), self.file);
        async move { runtime.perform(|disk| disk.begin_reserve(file, bytes)).await.map(|_| ()) }
    }

    fn give_back(&self, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let (runtime, file) = (self.runtime.clone(), self.file);
        async move { runtime.perform(|disk| disk.begin_give_back(file, position, bytes)).await.map(|_| ()) }
    }

    fn allocated_bytes(&self) -> u64 {
        self.runtime.life.disk.allocated_bytes(self.file)
    }

    fn written_from(&self, position: u64) -> io::Result<Option<u64>> {
        Ok(self.runtime.life.disk.written_from(self.file, position))
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let last = self.runtime.life.disk.write_last();
        let (runtime, file) = (self.runtime.clone(), self.file);
        async move { runtime.perform(|disk| disk.begin_flush(file, last)).await.map(|_| ()) }
    }
}
