//! The seam between Corelane and the machine: what a shard may ask of its executor, its clock and its disk.
//!
//! Production implements it once over glommio (`runtime::glommio`, the only file that names that crate); the simulation
//! implements it over a seeded executor, a virtual clock and a disk that tears, loses and fails; tools that only look
//! implement it over plain reads (`runtime::read_only`). Everything above is written against these traits and runs
//! unchanged on all.
//!
//! Invariants: a runtime belongs to one thread and nothing it hands out leaves it; memory given to a write does not
//! change until the write completes; a completed write is durable only after a flush that began after it has ended.

pub mod block;
pub mod block_memory;
pub mod glommio;
pub mod meter;
pub mod read_only;
pub mod signals;
mod streamed_copy;

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::types::{MonotonicUs, TimestampMs};

/// One core's executor, clock, randomness and disk. Cheap to clone: every clone is the same executor.
pub trait Runtime: Clone + 'static {
    /// Memory for direct I/O.
    type Buffer: Buffer;
    /// An open file, direct I/O only.
    type File: File<Buffer = Self::Buffer>;

    /// Runs a future on this core until it ends. A panic in it stops the process.
    ///
    /// Production never polls it before this returns. Nothing may rely on that, nor on the contrary: spawn with nothing
    /// borrowed. The simulation polls some at once, as a glommio of its own would, so that a borrow is found.
    fn spawn(&self, future: impl Future<Output = ()> + 'static);

    /// Ends after `duration`; late by as long as another task, or the machine, holds the core. So it may be over at its first
    /// poll, whatever the duration.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;

    /// Lets every other runnable task of this core run once. Long work calls it about every 100 µs.
    fn yield_now(&self) -> impl Future<Output = ()> + 'static;

    /// The monotonic clock.
    fn now(&self) -> MonotonicUs;

    /// The wall clock, for record timestamps and retention only.
    fn wall_clock(&self) -> TimestampMs;

    /// Sixty-four random bits; a seeded stream in simulation.
    fn random(&self) -> u64;

    /// Allocates `bytes` (a multiple of `IO_ALIGNMENT`) of memory aligned to `IO_ALIGNMENT`, with unspecified content:
    /// clearing a block that is about to be filled would cost as much as filling it.
    fn allocate(&self, bytes: usize) -> Self::Buffer;

    /// Bytes of memory for direct I/O that this core holds: what was allocated and what reads returned, until it was dropped,
    /// and what is kept for the next.
    fn buffer_bytes(&self) -> u64;

    /// Creates a file that must not exist yet, with `bytes` of space reserved and its size set to `bytes`.
    /// Its content reads as zeroes. It gets its name when its size is durable, so that whatever crash comes, a file of that
    /// name never had less; until then it is called [`unfinished_name`], which a crash may leave behind. The name is
    /// durable only after `sync_directory`.
    fn create(&self, path: &Path, bytes: u64) -> impl Future<Output = io::Result<Self::File>>;

    /// Opens an existing file for direct reads and writes.
    fn open(&self, path: &Path) -> impl Future<Output = io::Result<Self::File>>;

    /// Creates a directory and its missing parents; success when it exists.
    fn create_directory(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Names of the files directly in a directory, unordered.
    fn list(&self, directory: &Path) -> impl Future<Output = io::Result<Vec<String>>>;

    /// Removes a file. Durable only after `sync_directory`.
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;

    /// Makes creations and removals in a directory durable.
    fn sync_directory(&self, directory: &Path) -> impl Future<Output = io::Result<()>>;

    /// The volume that holds a directory; `None` when the system does not say.
    fn volume(&self, _directory: &Path) -> Option<Volume> {
        None
    }
}

/// Follows the name of a file that is being created.
const UNFINISHED_SUFFIX: &str = ".new";

/// What a file is called while it is being created. Creating it again takes the place of what a crash left.
pub fn unfinished_name(name: &str) -> String {
    format!("{name}{UNFINISHED_SUFFIX}")
}

/// The name that an unfinished file was to get; `None` for every other file.
pub fn created_name(unfinished: &str) -> Option<&str> {
    unfinished.strip_suffix(UNFINISHED_SUFFIX)
}

/// Room on a volume, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Volume {
    /// All of it.
    pub total_bytes: u64,
    /// What this process may still use.
    pub usable_bytes: u64,
}

/// A file open for direct I/O. Cheap to clone: every clone is the same file.
///
/// Errors: any error of a write or flush is final for its caller; the implementation has already resubmitted what may
/// be resubmitted (EAGAIN, EINTR, ENOMEM before submission). A short write is an error.
pub trait File: Clone + 'static {
    /// Memory for direct I/O.
    type Buffer: Buffer;

    /// Size of the file in bytes when it was opened or created, or as grown by writes since.
    fn bytes(&self) -> u64;

    /// Writes the whole buffer at `position` (a multiple of `IO_ALIGNMENT`). The buffer must not change until then.
    /// Two writes in flight must not touch the same `IO_ALIGNMENT` unit of the file.
    fn write_at(&self, buffer: Rc<Self::Buffer>, position: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// Reads `bytes` from `position`, both multiples of `IO_ALIGNMENT`. At the end of the file the result is shorter
    /// in content but not in length: the rest is zero.
    fn read_at(&self, position: u64, bytes: usize) -> impl Future<Output = io::Result<Self::Buffer>> + 'static;

    /// Makes the file at least `bytes` bytes long, with space for all of them, so that no write below fails for want of it.
    /// What it holds stays, the rest reads as zeroes. The new size is durable after a flush.
    fn reserve(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// Gives the space of `bytes` from `position`, both multiples of `IO_ALIGNMENT`, back to the filesystem, where it can
    /// take it; they read as zeroes then. The file keeps its size. No write may be in flight there.
    fn give_back(&self, position: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static;

    /// Space that it has, in bytes.
    fn allocated_bytes(&self) -> u64;

    /// Whether some of its bytes have no space, so that a write there may find none.
    fn is_sparse(&self) -> bool {
        self.allocated_bytes() < self.bytes()
    }

    /// Where the first byte at or behind `position` may stand that is not known to have never been written since the file
    /// was created or its space given back; `None` when there is none. What lies before it reads as zeroes. A filesystem may
    /// know less than there is to know.
    fn written_from(&self, position: u64) -> io::Result<Option<u64>>;

    /// fdatasync: every write that completed before the call is durable when it ends with success.
    fn flush(&self) -> impl Future<Output = io::Result<()>> + 'static;
}

/// What [`File::written_from`] says of a file of the system. Moves the file's own position, which reads and writes that name
/// theirs do not go by.
fn written_from(file: impl AsFd, position: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(position)) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NXIO) => Ok(None),
        // The filesystem does not tell.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(position)),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether an error says that the device, or this process's share of it, has no space left.
pub fn is_out_of_space(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Aligned memory for direct I/O.
pub trait Buffer: 'static {
    /// The memory. Stays put for the life of the buffer, also when the buffer itself moves.
    fn as_ptr(&self) -> *const u8;

    /// Size in bytes, a multiple of `IO_ALIGNMENT`.
    fn bytes(&self) -> usize;

    /// The content.
    fn as_slice(&self) -> &[u8];

    /// The content, to fill while nobody else holds the buffer.
    fn as_mut_slice(&mut self) -> &mut [u8];
}

/// A runtime with sockets: what the server needs beyond [`Runtime`]. The simulation calls handlers directly and has none.
pub trait Network: Runtime {
    /// A listening TCP socket.
    type Listener: Listener<Socket = Self::Socket>;
    /// A connected TCP socket.
    type Socket: Socket;

    /// Listens on `address`; port 0 chooses a free one. Connections accepted have TCP_NODELAY and keepalive set.
    ///
    /// Without `shared` nobody else may listen there (`AddrInUse`). With it, several shards of this process bind the
    /// same address and the kernel spreads the connections over them; so would a second process of the same user.
    fn listen(&self, address: SocketAddr, shared: bool) -> io::Result<Self::Listener>;
}

/// A listening TCP socket. Dropping it refuses further connections.
pub trait Listener: 'static {
    /// What it accepts.
    type Socket: Socket;

    /// The next connection. An error concerns that connection or the moment (out of descriptors), not the listener.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Socket>>;

    /// The address it listens on, with the port that port 0 became.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// What a socket has that was not received yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Here {
    /// How much.
    pub bytes: usize,
    /// The peer will send no more.
    pub is_all: bool,
}

/// A connected TCP socket, polled by one task for reading and writing alike. Dropping it closes the connection.
pub trait Socket: 'static {
    /// Receives into `buffer` (not empty). Zero bytes mean that the peer will send no more.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Sends from `pieces` with one system call; at most `SEND_PIECES_MAX` of them. Fewer bytes than given may go out.
    fn poll_write(&mut self, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// True when the peer has closed its side, whatever of what it sent is still to be received. Asks the system.
    fn is_hung_up(&self) -> bool;

    /// Bytes that were sent to this socket and are still to be received. Asks the system.
    fn bytes_here(&self) -> io::Result<usize>;

    /// Lets the system keep at least `bytes` (above 0) for this socket, if it keeps so much for any, and say that it is
    /// readable only when so much is there. Returns what it settled for. The peer may learn of the room only by the next
    /// `poll_read`.
    fn set_low_water(&self, bytes: usize) -> io::Result<usize>;

    /// How much is there, without receiving any of it. Waits while nothing has become readable since a `poll_read` fell short,
    /// or since [`Socket::look_away`]. By what the system calls readable it may be less than the low water: the peer has used
    /// up its room, and learns of more only when something is received.
    fn poll_here(&mut self, context: &Context<'_>) -> Poll<io::Result<Here>>;

    /// What is there is known: only more is news.
    fn look_away(&mut self);

    /// Lets news of this socket wait a few milliseconds when other patient ones had some just now, so that many of them
    /// share a wake-up; or no longer. Where the system refuses, it stays as it was.
    fn set_patient(&mut self, is_patient: bool);

    /// The other end.
    fn peer_address(&self) -> io::Result<SocketAddr>;

    /// This end.
    fn local_address(&self) -> io::Result<SocketAddr>;
}
