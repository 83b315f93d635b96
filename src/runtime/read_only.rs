//! A runtime for tools that look at a directory and change nothing: files are opened for reading alone and never locked, and
//! every operation ends in the call that begins it.
//!
//! One thread only, without an executor: [`block_on`] runs what is written for one. Reads are direct where the filesystem can do
//! that, so that they neither go through the page cache nor drive anything out of it. A broker may write to the files meanwhile.
//!
//! Invariant: no call changes anything on disk. What would is refused ([`io::ErrorKind::ReadOnlyFilesystem`]); a flush has
//! nothing to do.

use std::cell::Cell;
use std::fs::{self, OpenOptions};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::meter::Meter;
use super::{Buffer, File, Runtime, written_from};
use crate::limits::IO_ALIGNMENT;
use crate::types::{MonotonicUs, TimestampMs};

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct ReadOnlyRuntime {
    inner: Rc<Inner>,
}

struct Inner {
    started: Instant,
    random_key: RandomState,
    random_count: Cell<u64>,
    /// Counts what is read and holds it to a rate.
    meter: Arc<Meter>,
}

impl ReadOnlyRuntime {
    /// One of this thread; all of its reads go by `meter`, which other threads may share.
    pub fn new(meter: Arc<Meter>) -> ReadOnlyRuntime {
        let (started, random_key) = (Instant::now(), RandomState::new());
        ReadOnlyRuntime { inner: Rc::new(Inner { started, random_key, random_count: Cell::new(0), meter }) }
    }
}

/// Runs a future to its end on this thread.
///
/// Panics when it waits for anything but operations of a [`ReadOnlyRuntime`], which never make it wait.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("what reads alone waits for nobody"),
    }
}

/// A file open for reading. Every clone is the same file.
#[derive(Clone)]
pub struct ReadOnlyFile {
    inner: Rc<OpenFile>,
}

struct OpenFile {
    file: fs::File,
    bytes: u64,
    allocated_bytes: u64,
    meter: Arc<Meter>,
}

/// Memory aligned for direct reads: a vector that is a unit too long, used from its first aligned byte on.
pub struct AlignedBuffer {
    memory: Vec<u8>,
    first: usize,
    bytes: usize,
}

impl AlignedBuffer {
    fn new(bytes: usize) -> AlignedBuffer {
        assert!(bytes > 0 && bytes.is_multiple_of(IO_ALIGNMENT));
        let memory = vec![0; bytes + IO_ALIGNMENT];
        let first = memory.as_ptr().align_offset(IO_ALIGNMENT);
        assert!(first < IO_ALIGNMENT);
        AlignedBuffer { memory, first, bytes }
    }
}

impl Buffer for AlignedBuffer {
    fn as_ptr(&self) -> *const u8 {
        self.as_slice().as_ptr()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn as_slice(&self) -> &[u8] {
        &self.memory[self.first..self.first + self.bytes]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.first..self.first + self.bytes]
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

fn open(path: &Path, meter: &Arc<Meter>) -> io::Result<ReadOnlyFile> {
    let direct = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path);
    let file = match direct {
        // A filesystem without direct I/O: a copy of a directory may lie anywhere.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => fs::File::open(path)?,
        other => other?,
    };
    let metadata = file.metadata()?;
    let bytes = metadata.len();
    let allocated_bytes = metadata.blocks().saturating_mul(512).min(bytes);
    Ok(ReadOnlyFile { inner: Rc::new(OpenFile { file, bytes, allocated_bytes, meter: Arc::clone(meter) }) })
}

impl OpenFile {
    fn read(&self, position: u64, bytes: usize) -> io::Result<AlignedBuffer> {
        self.meter.take(bytes);
        let mut buffer = AlignedBuffer::new(bytes);
        let mut filled = 0;
        while filled < bytes {
            let at = position + u64::try_from(filled).expect("64 bits hold a usize");
            match self.file.read_at(&mut buffer.as_mut_slice()[filled..], at) {
                Ok(read) => {
                    filled += read;
                    // Direct reads end on an aligned byte unless the file does.
                    if read == 0 || !filled.is_multiple_of(IO_ALIGNMENT) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(buffer)
    }
}

impl File for ReadOnlyFile {
    type Buffer = AlignedBuffer;

    fn bytes(&self) -> u64 {
        self.inner.bytes
    }

    fn write_at(&self, _: Rc<AlignedBuffer>, _: u64) -> impl Future<Output = io::Result<()>> + 'static {
        std::future::ready(refused())
    }

    fn read_at(&self, position: u64, bytes: usize) -> impl Future<Output = io::Result<AlignedBuffer>> + 'static {
        let inner = Rc::clone(&self.inner);
        async move { inner.read(position, bytes) }
    }

    fn reserve(&self, _: u64) -> impl Future<Output = io::Result<()>> + 'static {
        std::future::ready(refused())
    }

    fn give_back(&self, _: u64, _: u64) -> impl Future<Output = io::Result<()>> + 'static {
        std::future::ready(refused())
    }

    fn allocated_bytes(&self) -> u64 {
        self.inner.allocated_bytes
    }

    fn written_from(&self, position: u64) -> io::Result<Option<u64>> {
        written_from(&self.inner.file, position)
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static {
        std::future::ready(Ok(()))
    }
}

impl Runtime for ReadOnlyRuntime {
    type Buffer = AlignedBuffer;
    type File = ReadOnlyFile;

    /// Runs it to its end at once.
    fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        block_on(future);
    }

    /// Sleeps in the call itself.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        std::thread::sleep(duration);
        std::future::ready(())
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        std::future::ready(())
    }

    fn now(&self) -> MonotonicUs {
        MonotonicUs::new(
            u64::try_from(self.inner.started.elapsed().as_micros()).expect("a process does not live so long"),
        )
    }

    fn wall_clock(&self) -> TimestampMs {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        TimestampMs::new(i64::try_from(since.as_millis()).expect("milliseconds of this age fit 63 bits"))
    }

    fn random(&self) -> u64 {
        self.inner.random_count.set(self.inner.random_count.get().wrapping_add(1));
        self.inner.random_key.hash_one(self.inner.random_count.get())
    }

    fn allocate(&self, bytes: usize) -> AlignedBuffer {
        AlignedBuffer::new(bytes)
    }

    fn buffer_bytes(&self) -> u64 {
        0
    }

    async fn create(&self, _: &Path, _: u64) -> io::Result<ReadOnlyFile> {
        refused()
    }

    async fn open(&self, path: &Path) -> io::Result<ReadOnlyFile> {
        open(path, &self.inner.meter)
    }

    async fn create_directory(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    async fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        entries.collect()
    }

    async fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    /// Nothing was created or removed.
    async fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> ReadOnlyRuntime {
        ReadOnlyRuntime::new(Arc::new(Meter::new(None)))
    }

    #[test]
    fn a_file_is_read_to_its_end_and_never_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        fs::write(&path, &content).unwrap();
        let runtime = runtime();
        block_on(async {
            let file = runtime.open(&path).await.unwrap();
            assert_eq!(file.bytes(), 40_000);
            let read = file.read_at(4096, 65_536).await.unwrap();
            assert_eq!(read.as_slice()[..40_000 - 4096], content[4096..]);
            assert!(read.as_slice()[40_000 - 4096..].iter().all(|byte| *byte == 0));
            assert_eq!(runtime.inner.meter.taken_bytes(), 65_536);
            let kind = |outcome: io::Result<()>| outcome.unwrap_err().kind();
            let refusals = [
                kind(file.write_at(Rc::new(runtime.allocate(4096)), 0).await),
                kind(file.reserve(100_000).await),
                kind(file.give_back(0, 4096).await),
                kind(runtime.remove(&path).await),
                kind(runtime.create_directory(directory.path()).await),
                kind(runtime.create(&directory.path().join("new"), 4096).await.map(|_| ())),
            ];
            assert_eq!(refusals, [io::ErrorKind::ReadOnlyFilesystem; 6]);
            assert_eq!(runtime.list(directory.path()).await.unwrap(), ["file"]);
        });
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}
