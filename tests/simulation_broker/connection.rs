//! A client's connection to one shard, without a socket: frames go straight to the handlers, as `server::connection` passes
//! them. One request is applied at a time and in order; answers leave in the order of their requests.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use corelane::api::reply::{LocalFuture, Reply, Response, Service};
use corelane::api::{Api, Peer};
use corelane::limits::REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::frame::{ResponseHeader, request_frame};
use corelane::protocol::wire::{Message, Reader};
use corelane::runtime::{Buffer, Runtime};
use corelane::simulation::SimulatedRuntime;

type BufferOf = <SimulatedRuntime as Runtime>::Buffer;

/// The server closed the connection, or its process is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Closed;

/// One answer, still to be decoded.
pub(crate) struct Answer {
    key: ApiKey,
    version: i16,
    frame: Vec<u8>,
}

impl Answer {
    /// A reader that stands at the message.
    pub(crate) fn reader(&self) -> Reader<'_> {
        let mut reader = Reader::new(&self.frame[4..]);
        ResponseHeader::decode(&mut reader, self.key, self.version).expect("an answer has a header");
        reader
    }
}

/// The client's end. Dropping it closes the connection; a request that is being applied runs to its end all the same.
pub(crate) struct Connection {
    pipe: Rc<RefCell<Pipe>>,
}

/// What both ends share.
#[derive(Default)]
struct Pipe {
    requests: VecDeque<Bytes>,
    answers: VecDeque<Vec<u8>>,
    /// Requests that will be answered, in order.
    expected: VecDeque<(i32, ApiKey, i16)>,
    correlation_id: i32,
    closed_by_client: bool,
    closed_by_server: bool,
    server: Option<Waker>,
    client: Option<Waker>,
}

impl Connection {
    /// Connects to a shard.
    pub(crate) fn open(runtime: &SimulatedRuntime, api: &Rc<Api<SimulatedRuntime>>) -> Connection {
        let pipe = Rc::new(RefCell::new(Pipe::default()));
        let mut serving = Serving {
            runtime: runtime.clone(),
            peer: Rc::new(api.connected(([127, 0, 0, 1], 0).into(), ([127, 0, 0, 1], 0).into())),
            api: Rc::clone(api),
            pipe: Rc::clone(&pipe),
            handling: None,
            answers: VecDeque::new(),
            closing: false,
        };
        runtime.spawn(async move { poll_fn(|context| serving.poll(context)).await });
        Connection { pipe }
    }

    /// Sends a request that is answered.
    pub(crate) fn send<M: Message>(&self, message: &M, version: i16) {
        let correlation_id = self.put(message, version);
        self.pipe.borrow_mut().expected.push_back((correlation_id, M::KEY, version));
    }

    /// Sends a request that is not.
    pub(crate) fn send_unanswered<M: Message>(&self, message: &M, version: i16) {
        self.put(message, version);
    }

    fn put<M: Message>(&self, message: &M, version: i16) -> i32 {
        let mut pipe = self.pipe.borrow_mut();
        pipe.correlation_id += 1;
        let frame = request_frame(pipe.correlation_id, Some("simulated"), version, message);
        assert!(frame.holes.is_empty());
        pipe.requests.push_back(Bytes::from(frame.bytes).slice(4..));
        if let Some(server) = pipe.server.take() {
            server.wake();
        }
        pipe.correlation_id
    }

    /// The next answer. Checks that it belongs to the oldest request that has none.
    pub(crate) async fn receive(&self) -> Result<Answer, Closed> {
        poll_fn(|context| {
            let mut pipe = self.pipe.borrow_mut();
            if let Some(frame) = pipe.answers.pop_front() {
                let (correlation_id, key, version) = pipe.expected.pop_front().expect("an answer nobody asked for");
                let length = i32::from_be_bytes(frame[..4].try_into().unwrap());
                assert_eq!(usize::try_from(length).unwrap(), frame.len() - 4, "length of the answer to {key:?}");
                let got = i32::from_be_bytes(frame[4..8].try_into().unwrap());
                assert_eq!(got, correlation_id, "answers leave in the order of their requests ({key:?})");
                return Poll::Ready(Ok(Answer { key, version, frame }));
            }
            if pipe.closed_by_server {
                return Poll::Ready(Err(Closed));
            }
            pipe.client = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Sends a request and waits for its answer; nothing else is under way.
    pub(crate) async fn ask<M: Message>(&self, message: &M, version: i16) -> Result<Answer, Closed> {
        self.send(message, version);
        self.receive().await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut pipe = self.pipe.borrow_mut();
        pipe.closed_by_client = true;
        if let Some(server) = pipe.server.take() {
            server.wake();
        }
    }
}

/// The server's end.
struct Serving {
    runtime: SimulatedRuntime,
    api: Rc<Api<SimulatedRuntime>>,
    peer: Rc<Peer>,
    pipe: Rc<RefCell<Pipe>>,
    handling: Option<LocalFuture<Reply<BufferOf>>>,
    answers: VecDeque<Slot>,
    /// No further request is applied.
    closing: bool,
}

enum Slot {
    Waiting(LocalFuture<Option<Response<BufferOf>>>),
    Ready(Vec<u8>),
    Close,
}

impl Serving {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.pipe.borrow().closed_by_client {
            return self.end();
        }
        for slot in &mut self.answers {
            slot.poll(context);
        }
        self.apply(context);
        loop {
            match self.answers.front() {
                Some(Slot::Ready(_)) => {
                    let Some(Slot::Ready(frame)) = self.answers.pop_front() else { unreachable!() };
                    self.deliver(|pipe| pipe.answers.push_back(frame));
                }
                Some(Slot::Close) => {
                    self.deliver(|pipe| pipe.closed_by_server = true);
                    return self.end();
                }
                Some(Slot::Waiting(_)) | None => break,
            }
        }
        self.pipe.borrow_mut().server = Some(context.waker().clone());
        Poll::Pending
    }

    fn apply(&mut self, context: &mut Context<'_>) {
        loop {
            if let Some(handling) = &mut self.handling {
                let Poll::Ready(reply) = handling.as_mut().poll(context) else { return };
                self.handling = None;
                let mut slot = match reply {
                    Reply::Now(response) => Slot::Ready(whole(&response)),
                    Reply::Later(future) => Slot::Waiting(future),
                    Reply::Nothing => continue,
                    Reply::Close => {
                        self.closing = true;
                        Slot::Close
                    }
                };
                slot.poll(context);
                self.answers.push_back(slot);
            }
            if self.closing || self.answers.len() >= REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX {
                return;
            }
            let Some(frame) = self.pipe.borrow_mut().requests.pop_front() else { return };
            self.handling = Some(Rc::clone(&self.api).handle(Rc::clone(&self.peer), frame));
        }
    }

    fn deliver(&self, change: impl FnOnce(&mut Pipe)) {
        let mut pipe = self.pipe.borrow_mut();
        change(&mut pipe);
        if let Some(client) = pipe.client.take() {
            client.wake();
        }
    }

    /// The connection is gone, but a request that is half applied runs to its end.
    fn end(&mut self) -> Poll<()> {
        self.answers.clear();
        if let Some(handling) = self.handling.take() {
            self.runtime.spawn(async move { drop(handling.await) });
        }
        Poll::Ready(())
    }
}

impl Slot {
    fn poll(&mut self, context: &mut Context<'_>) {
        let Slot::Waiting(future) = self else { return };
        if let Poll::Ready(response) = future.as_mut().poll(context) {
            *self = response.map_or(Slot::Close, |response| Slot::Ready(whole(&response)));
        }
    }
}

/// The frame as it goes out, slices of the log in their places.
fn whole(response: &Response<BufferOf>) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut from = 0;
    for piece in &response.pieces {
        frame.extend_from_slice(&response.bytes[from..piece.at]);
        frame.extend_from_slice(piece.slice.as_slice());
        from = piece.at;
    }
    frame.extend_from_slice(&response.bytes[from..]);
    frame
}

// The slices' memory is the simulated runtime's.
const _: fn(&BufferOf) -> usize = <BufferOf as Buffer>::bytes;
