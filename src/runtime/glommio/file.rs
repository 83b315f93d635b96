//! Files over glommio's direct I/O.
//!
//! One core only: a file belongs to the executor that opened it. What may be resubmitted is resubmitted here, so an
//! error that leaves this file is final.
//!
//! Every file is locked while it is open, and the lock is the kernel's witness that nobody else writes to it: a process
//! that was killed keeps it until its last write in flight has ended, which is later than the end of the process. What
//! comes after it therefore never meets a write of an earlier life.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use glommio::GlommioError;
use glommio::io::{DmaFile, OpenOptions};
use glommio::timer::Timer;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::blocking;
use super::buffer::{GlommioBuffer, Spares};
use crate::limits::{FILE_LOCK_WAIT_MS_MAX, IO_ALIGNMENT, IO_RESUBMITS_MAX};
use crate::runtime::{Buffer, File, unfinished_name, written_from};

/// How long to wait before an operation that the kernel had no memory for is submitted again.
const RESUBMIT_PAUSE: Duration = Duration::from_millis(1);

/// An open file of this core.
#[derive(Clone)]
pub struct GlommioFile {
    inner: Rc<Inner>,
}

struct Inner {
    file: DmaFile,
    path: PathBuf,
    bytes: Cell<u64>,
    /// Space that it has, at most its size.
    allocated_bytes: Cell<u64>,
    spares: Rc<Spares>,
}

impl GlommioFile {
    /// Creates a file that must not exist and reserves `bytes` for it, under another name until its size is durable. On
    /// failure no file is left behind.
    pub(super) async fn create(path: &Path, bytes: u64, spares: &Rc<Spares>) -> io::Result<GlommioFile> {
        let name = path.file_name().and_then(|name| name.to_str()).expect("the broker's file names are text");
        let unfinished = path.with_file_name(unfinished_name(name));
        let left = unfinished.clone();
        blocking("create", path, move |path| {
            if path.try_exists()? {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            match std::fs::remove_file(left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        let file = options.dma_open(&unfinished).await.map_err(|error| open_error(path, error))?;
        let created = GlommioFile { inner: Rc::new(Inner::new(file, path, bytes, spares)?) };
        match created.inner.finish(path, bytes).await {
            Ok(()) => Ok(created),
            Err(error) => {
                // The file is ours alone and empty: a failed removal leaves an empty file, which the next creation removes.
                let _ = created.inner.file.remove().await;
                Err(error)
            }
        }
    }

    /// Opens a file that exists.
    pub(super) async fn open(path: &Path, spares: &Rc<Spares>) -> io::Result<GlommioFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options.dma_open(path).await.map_err(|error| open_error(path, error))?;
        let opened = GlommioFile { inner: Rc::new(Inner::new(file, path, 0, spares)?) };
        opened.inner.lock().await?;
        let bytes = opened.inner.file.file_size().await.map_err(io::Error::from)?;
        opened.inner.bytes.set(bytes);
        opened.inner.measure_space().await?;
        Ok(opened)
    }
}

impl File for GlommioFile {
    type Buffer = GlommioBuffer;

    fn bytes(&self) -> u64 {
        self.inner.bytes.get()
    }

    fn write_at(&self, buffer: Rc<GlommioBuffer>, position: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inner = Rc::clone(&self.inner);
        async move { inner.write_at(&buffer, position).await }
    }

    fn read_at(&self, position: u64, bytes: usize) -> impl Future<Output = io::Result<GlommioBuffer>> + 'static {
        let inner = Rc::clone(&self.inner);
        async move { inner.read_at(position, bytes).await }
    }

    fn reserve(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inner = Rc::clone(&self.inner);
        async move {
            let bytes = bytes.max(inner.bytes.get());
            inner.reserve(bytes).await.map_err(|error| inner.error("reserve space for", error))?;
            inner.bytes.set(bytes);
            inner.allocated_bytes.set(bytes);
            Ok(())
        }
    }

    fn give_back(&self, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inner = Rc::clone(&self.inner);
        async move { inner.give_back(position, bytes).await }
    }

    fn allocated_bytes(&self) -> u64 {
        self.inner.allocated_bytes.get()
    }

    fn written_from(&self, position: u64) -> io::Result<Option<u64>> {
        written_from(&self.inner.file, position)
    }

    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let inner = Rc::clone(&self.inner);
        async move { inner.flush().await }
    }
}

impl Inner {
    fn new(file: DmaFile, path: &Path, bytes: u64, spares: &Rc<Spares>) -> io::Result<Inner> {
        if file.alignment() > to_u64(IO_ALIGNMENT) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!(
                    "the device under {} wants direct I/O in units of {} bytes, more than the {IO_ALIGNMENT} used here",
                    path.display(),
                    file.alignment()
                ),
            ));
        }
        Ok(Inner {
            file,
            path: path.to_path_buf(),
            bytes: Cell::new(bytes),
            allocated_bytes: Cell::new(bytes),
            spares: Rc::clone(spares),
        })
    }

    /// Gives a new file its space, and then its name.
    async fn finish(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.lock().await?;
        self.reserve(bytes).await.map_err(|error| self.error("reserve space for", error))?;
        self.file.fdatasync().await.map_err(|error| self.error("flush", error))?;
        self.file.rename(path).await.map_err(|error| self.error("name", error))
    }

    /// Locks the file for as long as it is open, once nobody else has it open.
    async fn lock(&self) -> io::Result<()> {
        for _ in 0..FILE_LOCK_WAIT_MS_MAX {
            match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => Timer::new(Duration::from_millis(1)).await,
                // A filesystem without locks cannot say more.
                Ok(()) | Err(_) => return Ok(()),
            };
        }
        let text = format!("{} is in use: a process that was stopped still writes to it", self.path.display());
        Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
    }

    /// Allocates the blocks and sets the size. Filesystems without fallocate get the size alone.
    async fn reserve(&self, bytes: u64) -> Result<(), GlommioError<()>> {
        if bytes == 0 {
            return Ok(());
        }
        match self.file.pre_allocate(bytes, false).await {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => other?,
        }
        self.file.truncate(bytes).await
    }

    async fn give_back(&self, position: u64, bytes: u64) -> io::Result<()> {
        assert!(position.is_multiple_of(to_u64(IO_ALIGNMENT)) && bytes.is_multiple_of(to_u64(IO_ALIGNMENT)));
        match self.file.deallocate(position, bytes).await {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            Err(error) => Err(self.error("give back space of", error)),
            Ok(()) => self.measure_space().await,
        }
    }

    async fn measure_space(&self) -> io::Result<()> {
        let stat = self.file.stat().await.map_err(io::Error::from)?;
        self.allocated_bytes.set(stat.allocated_file_size.min(self.bytes.get()));
        Ok(())
    }

    async fn write_at(&self, buffer: &GlommioBuffer, position: u64) -> io::Result<()> {
        assert!(position.is_multiple_of(to_u64(IO_ALIGNMENT)));
        let mut resubmits = 0;
        // Writing the same unchanged bytes at the same place again is the same write, whatever became of the first.
        let written = loop {
            match self.file.write_rc_at(buffer.share(), position).await {
                Err(error) if may_resubmit(&error) && resubmits < IO_RESUBMITS_MAX => resubmits += 1,
                other => break other,
            }
            Timer::new(RESUBMIT_PAUSE).await;
        };
        let what = || format!("write {} bytes at {position} of", buffer.bytes());
        let written = written.map_err(|error| self.error(&what(), error))?;
        if written != buffer.bytes() {
            let text = format!("{} {}: only {written} bytes were written", what(), self.path.display());
            return Err(io::Error::new(io::ErrorKind::WriteZero, text));
        }
        let end = position + to_u64(written);
        let grown = end.saturating_sub(self.bytes.get());
        self.bytes.set(self.bytes.get() + grown);
        self.allocated_bytes.set(self.allocated_bytes.get() + grown);
        Ok(())
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<GlommioBuffer> {
        assert!(position.is_multiple_of(to_u64(IO_ALIGNMENT)));
        assert!(bytes > 0);
        assert!(bytes.is_multiple_of(IO_ALIGNMENT));
        let first = self.read_once(position, bytes).await?;
        if first.len() == bytes {
            return Ok(GlommioBuffer::from_read(first, &self.spares));
        }
        // Short: the end of the file, or a read that the kernel cut. Direct reads end on an aligned byte unless the
        // file does, so an unaligned end is the end of the file.
        let mut buffer = GlommioBuffer::allocate(bytes, &self.spares);
        let target = buffer.as_mut_slice();
        let mut filled = first.len();
        target[..filled].copy_from_slice(&first);
        while filled > 0 && filled < bytes && filled.is_multiple_of(IO_ALIGNMENT) {
            let more = self.read_once(position + to_u64(filled), bytes - filled).await?;
            if more.is_empty() {
                break;
            }
            target[filled..filled + more.len()].copy_from_slice(&more);
            filled += more.len();
        }
        target[filled..].fill(0);
        Ok(buffer)
    }

    async fn read_once(&self, position: u64, bytes: usize) -> io::Result<glommio::io::ReadResult> {
        let mut resubmits = 0;
        loop {
            match self.file.read_at_aligned(position, bytes).await {
                Ok(read) => return Ok(read),
                Err(error) if may_resubmit(&error) && resubmits < IO_RESUBMITS_MAX => resubmits += 1,
                Err(error) => return Err(self.error(&format!("read {bytes} bytes at {position} of"), error)),
            }
            Timer::new(RESUBMIT_PAUSE).await;
        }
    }

    async fn flush(&self) -> io::Result<()> {
        let mut resubmits = 0;
        loop {
            match self.file.fdatasync().await {
                Ok(()) => return Ok(()),
                // ENOMEM is final here: the flush may have begun, and a flush that failed is never repeated.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR))
                        && resubmits < IO_RESUBMITS_MAX =>
                {
                    resubmits += 1;
                }
                Err(error) => return Err(self.error("flush", error)),
            }
            Timer::new(RESUBMIT_PAUSE).await;
        }
    }

    /// The error with the operation and the path in its words; its kind stays.
    fn error(&self, operation: &str, error: GlommioError<()>) -> io::Error {
        let cause = system_error(error);
        io::Error::new(cause.kind(), format!("{operation} {}: {cause}", self.path.display()))
    }
}

/// True for errors after which the same read or write may be submitted again.
fn may_resubmit(error: &GlommioError<()>) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENOMEM))
}

/// The system's own error without glommio's wrapping.
fn system_error(error: GlommioError<()>) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.into(),
    }
}

/// Names the path, and turns the EINVAL of a filesystem without direct I/O into words.
fn open_error(path: &Path, error: GlommioError<()>) -> io::Error {
    let cause = system_error(error);
    if cause.raw_os_error() == Some(libc::EINVAL) {
        return io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the filesystem of {} does not support direct I/O (O_DIRECT): put the data on ext4 or xfs on a local disk",
                path.display()
            ),
        );
    }
    io::Error::new(cause.kind(), format!("open {}: {cause}", path.display()))
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a size in memory fits 64 bits")
}
