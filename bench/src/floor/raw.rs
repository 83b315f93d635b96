//! `floor-raw`: the floor on io_uring alone: one thread, one ring, multishot receive into provided buffers, registered
//! blocks.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::error::Error;
use std::fs::OpenOptions;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::stream::ProduceStream;
use super::{Arguments, BLOCK_BYTES, Block, Log, bind_patiently, prepare_file, print_ready, to_u64};
use crate::region::Region;

/// Blocks of the log: those in flight, the open one, and room for what a client sends ahead.
const BLOCKS: usize = 64;
/// Bytes of all receive buffers: small, so that they stay in the cache, yet the kernel never lacks one for long.
const RECEIVE_BYTES_ALL: usize = 1024 * 1024;
/// Buffer group of the receive buffers.
const GROUP: u16 = 0;

/// What a completion belongs to.
const RECEIVE: u64 = 1 << 56;
const SEND: u64 = 2 << 56;
const WRITE: u64 = 3 << 56;
const KIND: u64 = 0xff << 56;

/// Serves until killed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    prepare_file(&arguments.data, arguments.data_bytes())?;
    core_affinity::set_for_current(core_affinity::CoreId { id: arguments.cpu });
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(&arguments.data)?;
    let listener = bind_patiently(|| TcpListener::bind(arguments.listen))?;
    print_ready(arguments.listen)?;
    loop {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut connection = Connection::new(&socket, file.as_raw_fd(), arguments)?;
        match connection.serve() {
            // The load hangs up while answers are on their way.
            Err(error) if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                return Err(error.into());
            }
            _ => {}
        }
    }
}

/// One of the registered blocks. Whoever holds it owns its memory.
struct RawBlock {
    index: usize,
    memory: NonNull<u8>,
}

impl Block for RawBlock {
    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the region outlives all blocks, and no two blocks have the same memory.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), BLOCK_BYTES) }
    }
}

/// One connection. The ring stands first: it is dropped before the memory that the kernel may use.
struct Connection {
    ring: IoUring,
    socket: Fd,
    file: Fd,
    receive: ReceiveBuffers,
    _blocks: Region,
    spares: Vec<RawBlock>,
    writing: Vec<Option<(RawBlock, usize, u64)>>,
    log: Log<RawBlock>,
    stream: ProduceStream,
    /// Answers with the length of the log that each waits for.
    waiting: VecDeque<(u64, Vec<u8>)>,
    out: Vec<u8>,
    /// What is being sent; does not change until it is.
    sending: Vec<u8>,
}

impl Connection {
    fn new(socket: &TcpStream, file: i32, arguments: &Arguments) -> io::Result<Connection> {
        let ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().build(256)?;
        let blocks = Region::new(BLOCKS * BLOCK_BYTES)?;
        let iovecs: Vec<libc::iovec> = (0..BLOCKS)
            .map(|index| libc::iovec { iov_base: blocks.at(index * BLOCK_BYTES).cast(), iov_len: BLOCK_BYTES })
            .collect();
        // SAFETY: the blocks are mapped until after the ring is dropped.
        unsafe { ring.submitter().register_buffers(&iovecs)? };
        let spares = (0..BLOCKS).rev().map(|index| {
            let memory = NonNull::new(blocks.at(index * BLOCK_BYTES)).expect("a mapping is not at zero");
            RawBlock { index, memory }
        });
        let spares = spares.collect();
        let receive = ReceiveBuffers::new(&ring, arguments.receive_bytes)?;
        Ok(Connection {
            ring,
            socket: Fd(socket.as_raw_fd()),
            file: Fd(file),
            receive,
            _blocks: blocks,
            spares,
            writing: (0..BLOCKS).map(|_| None).collect(),
            log: Log::new(arguments.data_bytes()),
            stream: ProduceStream::new(),
            waiting: VecDeque::new(),
            out: Vec::new(),
            sending: Vec::new(),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        self.submit(opcode::RecvMulti::new(self.socket, GROUP).build().user_data(RECEIVE));
        loop {
            self.ring.submit_and_wait(1)?;
            let mut is_receive_over = false;
            while let Some(entry) = self.next_completion() {
                match entry.user_data() & KIND {
                    RECEIVE => {
                        if !self.on_received(&entry)? {
                            return Ok(());
                        }
                        is_receive_over |= !cqueue::more(entry.flags());
                    }
                    SEND => {
                        let sent = usize::try_from(entry.result()).map_err(|_| error_of(&entry))?;
                        self.sending.drain(..sent);
                        if !self.sending.is_empty() {
                            self.send();
                        }
                    }
                    _ => self.on_written(&entry)?,
                }
                self.start_writes(false);
            }
            if is_receive_over {
                self.submit(opcode::RecvMulti::new(self.socket, GROUP).build().user_data(RECEIVE));
            }
            self.start_writes(true);
            self.answer();
        }
    }

    fn next_completion(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    fn submit(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entry points to belongs to `self` and stays in place until its completion was seen, or the
        // ring is dropped: blocks and receive buffers are mapped, `sending` is left alone while it is sent.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("fewer operations are in flight than the queue has places");
    }

    /// Appends what came. False at the end of the connection.
    fn on_received(&mut self, entry: &cqueue::Entry) -> io::Result<bool> {
        if entry.result() == -libc::ENOBUFS {
            return Ok(true);
        }
        let received = usize::try_from(entry.result()).map_err(|_| error_of(entry))?;
        let Some(buffer) = cqueue::buffer_select(entry.flags()) else { return Ok(false) };
        let Connection { receive, stream, log, spares, waiting, .. } = self;
        let log = std::cell::RefCell::new(log);
        let mut allocate = || spares.pop().expect("a client sends fewer blocks ahead than there are");
        let fed = stream.feed(
            receive.bytes(buffer, received),
            |bytes| log.borrow_mut().append(bytes, &mut allocate),
            |arrived| {
                let mut answer = Vec::new();
                arrived.answer(&mut answer);
                waiting.push_back((log.borrow().appended, answer));
            },
        );
        fed.map_err(io::Error::other)?;
        self.receive.give_back(buffer);
        Ok(true)
    }

    /// Starts writes of closed blocks; of the open one only `idle`, when nothing else is to do.
    fn start_writes(&mut self, idle: bool) {
        while idle || !self.log.closed.is_empty() {
            let Some(mut piece) = self.log.next_write() else { return };
            let index = piece.block.index;
            let memory = piece.block.bytes().as_ptr();
            let bytes = u32::try_from(piece.bytes).expect("a block is small");
            let fixed = u16::try_from(index).expect("there are few blocks");
            let entry = opcode::WriteFixed::new(self.file, memory, bytes, fixed).offset(piece.position).build();
            self.writing[index] = Some((piece.block, piece.bytes, piece.id));
            self.submit(entry.user_data(WRITE | to_u64(index)));
        }
    }

    fn on_written(&mut self, entry: &cqueue::Entry) -> io::Result<()> {
        let index = usize::try_from(entry.user_data() & !KIND).expect("an index of few blocks");
        let (block, bytes, id) = self.writing[index].take().expect("each write completes once");
        let written = usize::try_from(entry.result()).map_err(|_| error_of(entry))?;
        if written != bytes {
            return Err(io::Error::other(format!("wrote {written} of {bytes} bytes")));
        }
        self.spares.push(block);
        self.log.on_written(id);
        Ok(())
    }

    /// Sends the answers whose bytes are written.
    fn answer(&mut self) {
        while self.waiting.front().is_some_and(|(end, _)| *end <= self.log.written) {
            let (_, answer) = self.waiting.pop_front().expect("it was just seen");
            self.out.extend_from_slice(&answer);
        }
        if self.sending.is_empty() && !self.out.is_empty() {
            std::mem::swap(&mut self.sending, &mut self.out);
            self.send();
        }
    }

    fn send(&mut self) {
        let bytes = u32::try_from(self.sending.len()).expect("answers are small");
        self.submit(opcode::Send::new(self.socket, self.sending.as_ptr(), bytes).build().user_data(SEND));
    }
}

fn error_of(entry: &cqueue::Entry) -> io::Error {
    io::Error::from_raw_os_error(-entry.result())
}

/// Buffers that the kernel receives into, and the ring in which they are given to it.
struct ReceiveBuffers {
    ring: Region,
    memory: Region,
    buffer_bytes: usize,
    count: u16,
    tail: u16,
}

impl ReceiveBuffers {
    fn new(ring: &IoUring, buffer_bytes: usize) -> io::Result<ReceiveBuffers> {
        let count = (RECEIVE_BYTES_ALL / buffer_bytes).next_power_of_two().max(2);
        let count = u16::try_from(count).map_err(io::Error::other)?;
        let mut buffers = ReceiveBuffers {
            ring: Region::new(usize::from(count) * size_of::<BufRingEntry>())?,
            memory: Region::new(usize::from(count) * buffer_bytes)?,
            buffer_bytes,
            count,
            tail: 0,
        };
        let address = to_u64(buffers.ring.at(0).addr());
        // SAFETY: the region is page-aligned, holds `count` entries, and is mapped until after the ring is dropped.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0)? };
        for buffer in 0..count {
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    fn bytes(&self, buffer: u16, received: usize) -> &[u8] {
        assert!(received <= self.buffer_bytes);
        let start = self.memory.at(usize::from(buffer) * self.buffer_bytes);
        // SAFETY: inside the region; the kernel handed this buffer out and does not write to it until it is given back.
        unsafe { std::slice::from_raw_parts(start, received) }
    }

    fn give_back(&mut self, buffer: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let entries = self.ring.at(0).cast::<BufRingEntry>();
        let memory = to_u64(self.memory.at(usize::from(buffer) * self.buffer_bytes).addr());
        let bytes = u32::try_from(self.buffer_bytes).expect("a receive buffer is small");
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `slot` is one of `count` entries, which the kernel does not read before the tail passes it; the tail
        // is a u16 inside of the first entry that the kernel only reads.
        unsafe {
            let entry = &mut *entries.add(slot);
            entry.set_addr(memory);
            entry.set_len(bytes);
            entry.set_bid(buffer);
            let tail = BufRingEntry::tail(entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
