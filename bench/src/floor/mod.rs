//! The floors of the produce path: servers that do only what no broker can leave out.
//!
//! Receive Produce requests, check the CRC-32C of each batch, copy the batches into 1 MiB aligned blocks, write the blocks
//! directly to a file that was written before (wrapping around), answer a request when its bytes are written. Bytes go
//! through as they arrive: checksummed and copied straight from the receive buffer while they are in the cache; a request
//! is never put together in memory. No topics, offsets, index or recovery; one connection at a time; a fault ends it.

use std::collections::VecDeque;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use corelane::limits::{BIND_PAUSE_MS, BIND_TRIES};

pub(crate) mod raw;
pub(crate) mod runtime;
mod stream;

/// Size of a block, as in the broker.
const BLOCK_BYTES: usize = corelane::limits::BLOCK_BYTES;
/// Unit of direct I/O.
const UNIT_BYTES: usize = 4096;
/// Writes in flight, as in the broker.
const WRITES_IN_FLIGHT_MAX: usize = corelane::limits::WRITES_IN_FLIGHT_MAX;

/// Options of a floor.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// File to write to; created and filled when missing
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Size of the file in MiB; writes wrap around at its end
    #[arg(long, default_value_t = 512)]
    data_mib: u64,
    /// CPU to run on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Bytes of one receive buffer
    #[arg(long, default_value_t = 256 * 1024)]
    receive_bytes: usize,
}

impl Arguments {
    fn data_bytes(&self) -> u64 {
        self.data_mib * 1024 * 1024
    }
}

/// Creates the file and writes all of it once, so that no write of the measurement allocates.
fn prepare_file(path: &Path, bytes: u64) -> Result<(), Box<dyn Error>> {
    if path.metadata().is_ok_and(|file| file.len() == bytes) {
        return Ok(());
    }
    let file = File::create(path)?;
    let block = vec![0x5a; BLOCK_BYTES];
    let mut position = 0;
    while position < bytes {
        file.write_all_at(&block, position)?;
        position += u64::try_from(BLOCK_BYTES)?;
    }
    file.sync_all()?;
    Ok(())
}

/// Repeats `bind` while a server that was just stopped still holds the port.
fn bind_patiently<T, E>(mut bind: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 0..BIND_TRIES {
        match bind() {
            Ok(listener) => return Ok(listener),
            Err(_) => std::thread::sleep(Duration::from_millis(BIND_PAUSE_MS)),
        }
    }
    bind()
}

fn print_ready(listen: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "ready {listen}")?;
    out.flush()
}

/// A block's memory.
trait Block {
    fn bytes(&mut self) -> &mut [u8];
}

/// A write to perform.
struct Piece<B> {
    block: B,
    /// Where in the file.
    position: u64,
    /// How much of the block, in whole units.
    bytes: usize,
    /// Names it to `on_written`.
    id: u64,
}

/// Bytes on their way to the disk.
struct Log<B> {
    file_bytes: u64,
    position: u64,
    /// The block being filled.
    open: Option<(B, usize)>,
    /// Blocks to write, with the log's length at their ends.
    closed: VecDeque<(Piece<B>, u64)>,
    /// Ends of the writes in flight in their order, and whether they completed.
    in_flight: VecDeque<(u64, bool)>,
    first_id: u64,
    appended: u64,
    written: u64,
}

impl<B: Block> Log<B> {
    fn new(file_bytes: u64) -> Log<B> {
        Log {
            file_bytes,
            position: 0,
            open: None,
            closed: VecDeque::new(),
            in_flight: VecDeque::new(),
            first_id: 0,
            appended: 0,
            written: 0,
        }
    }

    /// Copies bytes to the end.
    fn append(&mut self, mut bytes: &[u8], mut allocate: impl FnMut() -> B) {
        self.appended += to_u64(bytes.len());
        while !bytes.is_empty() {
            let (block, filled) = self.open.get_or_insert_with(|| (allocate(), 0));
            let count = bytes.len().min(BLOCK_BYTES - *filled);
            block.bytes()[*filled..*filled + count].copy_from_slice(&bytes[..count]);
            *filled += count;
            bytes = &bytes[count..];
            if *filled == BLOCK_BYTES {
                self.close(to_u64(bytes.len()));
            }
        }
    }

    /// Closes the open block, of which the last unit may be incomplete. `beyond` bytes count as appended, but come after it.
    fn close(&mut self, beyond: u64) {
        let Some((mut block, filled)) = self.open.take() else { return };
        let bytes = filled.next_multiple_of(UNIT_BYTES);
        block.bytes()[filled..bytes].fill(0);
        if self.position + to_u64(bytes) > self.file_bytes {
            self.position = 0;
        }
        let piece = Piece { block, position: self.position, bytes, id: 0 };
        self.position += to_u64(bytes);
        self.closed.push_back((piece, self.appended - beyond));
    }

    /// The next write, if one may begin. When the disk is idle, what there is of an open block is written too.
    fn next_write(&mut self) -> Option<Piece<B>> {
        let busy = self.in_flight.iter().filter(|(_, done)| !done).count();
        if busy >= WRITES_IN_FLIGHT_MAX {
            return None;
        }
        if busy == 0 && self.closed.is_empty() {
            self.close(0);
        }
        let (mut piece, end) = self.closed.pop_front()?;
        piece.id = self.first_id + to_u64(self.in_flight.len());
        self.in_flight.push_back((end, false));
        Some(piece)
    }

    fn on_written(&mut self, id: u64) {
        let index = usize::try_from(id - self.first_id).expect("few writes are in flight");
        self.in_flight[index].1 = true;
        while let Some((end, true)) = self.in_flight.front() {
            self.written = *end;
            self.in_flight.pop_front();
            self.first_id += 1;
        }
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).expect("64 bits")
}
