//! `floor-runtime`: the floor on the runtime that the broker uses, glommio.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use glommio::io::{DmaBuffer, DmaFile, OpenOptions};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement, allocate_dma_buffer};

use super::stream::ProduceStream;
use super::{Arguments, BLOCK_BYTES, Block, Log, Piece, bind_patiently, prepare_file, print_ready};
use corelane::limits::{IO_MEMORY_BYTES, PREEMPT_MS, TURN_BYTES_MAX};

impl Block for Rc<DmaBuffer> {
    fn bytes(&mut self) -> &mut [u8] {
        Rc::get_mut(self).expect("no write of it is in flight").as_bytes_mut()
    }
}

/// What the connection and its writes share.
struct Shared {
    log: Log<Rc<DmaBuffer>>,
    /// Blocks whose writes completed; the last one is the warmest.
    spares: Vec<Rc<DmaBuffer>>,
    connection: Option<Waker>,
    failure: Option<String>,
}

/// Serves until killed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    prepare_file(&arguments.data, arguments.data_bytes())?;
    let executor = LocalExecutorBuilder::new(Placement::Fixed(arguments.cpu))
        .io_memory(IO_MEMORY_BYTES)
        .preempt_timer(Duration::from_millis(PREEMPT_MS))
        .make()?;
    executor.run(async {
        let file = Rc::new(OpenOptions::new().read(true).write(true).dma_open(&arguments.data).await?);
        let listener = bind_patiently(|| TcpListener::bind(arguments.listen))?;
        print_ready(arguments.listen)?;
        loop {
            let mut socket = listener.accept().await?;
            socket.set_nodelay(true)?;
            let mut connection = Connection::new(Rc::clone(&file), arguments);
            match poll_fn(|context| connection.poll(context, &mut socket)).await {
                // The load hangs up while answers are on their way.
                Err(error) if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    })
}

struct Connection {
    file: Rc<DmaFile>,
    shared: Rc<RefCell<Shared>>,
    stream: ProduceStream,
    receive: Vec<u8>,
    /// Answers with the length of the log that each waits for.
    waiting: VecDeque<(u64, Vec<u8>)>,
    out: Vec<u8>,
}

impl Connection {
    fn new(file: Rc<DmaFile>, arguments: &Arguments) -> Connection {
        let log = Log::new(arguments.data_bytes());
        let shared = Shared { log, spares: Vec::new(), connection: None, failure: None };
        Connection {
            file,
            shared: Rc::new(RefCell::new(shared)),
            stream: ProduceStream::new(),
            receive: vec![0; arguments.receive_bytes],
            waiting: VecDeque::new(),
            out: Vec::new(),
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, socket: &mut TcpStream) -> Poll<io::Result<()>> {
        self.shared.borrow_mut().connection = Some(context.waker().clone());
        let mut turn_bytes = 0;
        loop {
            self.poll_send(context, socket)?;
            if turn_bytes >= TURN_BYTES_MAX {
                // Completed writes get their turn.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Poll::Ready(received) = Pin::new(&mut *socket).poll_read(context, &mut self.receive)? else {
                self.start_writes();
                return Poll::Pending;
            };
            if received == 0 {
                return Poll::Ready(Ok(()));
            }
            turn_bytes += received;
            self.take(received)?;
            if self.shared.borrow().log.closed.is_empty() {
                continue;
            }
            self.start_writes();
        }
    }

    /// Appends what was received.
    fn take(&mut self, received: usize) -> io::Result<()> {
        let Connection { stream, shared, receive, waiting, .. } = self;
        let mut shared = shared.borrow_mut();
        let shared = &mut *shared;
        if let Some(failure) = shared.failure.take() {
            return Err(io::Error::other(failure));
        }
        let (log, spares) = (RefCell::new(&mut shared.log), &mut shared.spares);
        let allocate = || spares.pop().unwrap_or_else(|| Rc::new(allocate_dma_buffer(BLOCK_BYTES)));
        let mut allocate = allocate;
        stream
            .feed(
                &receive[..received],
                |bytes| log.borrow_mut().append(bytes, &mut allocate),
                |arrived| {
                    let mut answer = Vec::new();
                    arrived.answer(&mut answer);
                    waiting.push_back((log.borrow().appended, answer));
                },
            )
            .map_err(io::Error::other)
    }

    fn start_writes(&self) {
        loop {
            let Some(piece) = self.shared.borrow_mut().log.next_write() else { return };
            let (file, shared) = (Rc::clone(&self.file), Rc::clone(&self.shared));
            glommio::spawn_local(write(file, shared, piece)).detach();
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>, socket: &mut TcpStream) -> io::Result<()> {
        let written = self.shared.borrow().log.written;
        while self.waiting.front().is_some_and(|(end, _)| *end <= written) {
            let (_, answer) = self.waiting.pop_front().expect("it was just seen");
            self.out.extend_from_slice(&answer);
        }
        while !self.out.is_empty() {
            let Poll::Ready(sent) = Pin::new(&mut *socket).poll_write(context, &self.out)? else { break };
            self.out.drain(..sent);
        }
        Ok(())
    }
}

/// Writes a block, or the beginning of one.
async fn write(file: Rc<DmaFile>, shared: Rc<RefCell<Shared>>, piece: Piece<Rc<DmaBuffer>>) {
    let Piece { mut block, position, bytes, id } = piece;
    if bytes < BLOCK_BYTES {
        let mut part = allocate_dma_buffer(bytes);
        part.as_bytes_mut().copy_from_slice(&block.bytes()[..bytes]);
        shared.borrow_mut().spares.push(std::mem::replace(&mut block, Rc::new(part)));
    }
    let written = file.write_rc_at(Rc::clone(&block), position).await;
    let mut shared = shared.borrow_mut();
    match written {
        Ok(count) if count == bytes => shared.log.on_written(id),
        Ok(count) => shared.failure = Some(format!("wrote {count} of {bytes} bytes")),
        Err(error) => shared.failure = Some(error.to_string()),
    }
    if bytes == BLOCK_BYTES {
        shared.spares.push(block);
    }
    if let Some(connection) = &shared.connection {
        connection.wake_by_ref();
    }
}
