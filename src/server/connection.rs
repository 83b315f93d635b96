//! One connection: one task, one state machine, so that all wake-ups converge.
//!
//! A turn of it applies every request that is here, sends all answers that are ready in one gathered send, and receives
//! again. Requests are applied one at a time and in order; answers leave in the order of their requests.
//!
//! Nothing is received while a request is being applied, while the answers fill their queue or are not taken by the peer, or
//! while the next request waits for memory or for its turn. Then a peer that is gone is noticed by the registry's sweep.
//!
//! A fetch waits for its turn: it is applied when no answer before it is waited for. What it reads holds memory until it is
//! sent, so behind one that waits for that memory it would never be sent, nor let the other have it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::Server;
use super::byte_budget::{Claim, Grant};
use super::gathering::{Gathered, Gathering};
use super::receive::{API_KEY_BYTES, BadLength, ReceiveBuffer};
use super::registry::{Doing, Order, Watch};
use super::request_memory::{Class, Counted, known_by};
use super::send::Outgoing;
use crate::api::reply::{LocalFuture, Reply, Response, Service};
use crate::limits::{
    ANSWERS_KEPT_BYTES_MAX, GATHERING_RECEIVE_BYTES, PATIENT_AFTER_HEARTBEATS, RECEIVE_BYTES, RECEIVE_CONTENDED_BYTES,
    REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX, SEND_BYTES_EAGER, SEND_PIECES_MAX, TURN_BYTES_MAX, TURN_REQUESTS_MAX,
};
use crate::log_limiter::LogLimiter;
use crate::protocol::api_key::ApiKey;
use crate::runtime::{Network, Runtime, Socket};
use crate::types::MonotonicUs;

/// Why a connection ended, or never began.
#[derive(Debug)]
pub(super) enum Ending {
    /// The peer closed it between two requests.
    PeerClosed,
    /// The peer closed it within a request.
    HalfRequest,
    /// The peer announced a request of a length that none has.
    BadLength(i32),
    /// A handler asked for it.
    Service,
    /// From outside.
    Ordered(Order),
    /// The shard stops, and all answers are out.
    Stopping,
    /// The socket failed.
    Io(io::Error),
    /// The shard has as many connections as it may.
    TooMany(usize),
    /// No connection could be accepted.
    AcceptFailed(io::Error),
}

/// What a request still needs.
struct Handling<B> {
    reply: LocalFuture<Reply<B>>,
    request: Request,
    /// The request's bytes count until it was applied.
    grant: Grant,
}

/// What is remembered of a request for the metrics.
#[derive(Clone, Copy)]
struct Request {
    api_key: i16,
    received: MonotonicUs,
}

/// The place of one answer in the order of answers.
enum Answer<B> {
    Waiting(LocalFuture<Option<Response<B>>>, Request),
    Ready(Outgoing<B>),
    Close,
}

/// A connection and all it owns.
pub(super) struct Connection<N: Network, S: Service<N::Buffer>> {
    server: Rc<Server<N, S>>,
    socket: N::Socket,
    peer: SocketAddr,
    state: Rc<S::Connection>,
    watch: Rc<Watch>,
    number: u64,
    received: ReceiveBuffer,
    /// What is here and was not granted.
    arriving: Counted,
    /// Where the next request asks for its memory, and what it was granted.
    class: Class,
    claim: Claim,
    grant: Option<Grant>,
    /// What was granted before, of another class, until this one grants as much.
    outgrown: Option<Grant>,
    /// The other way to it, while it waits.
    gathering: Option<Gathering>,
    /// Requests up to this size may come from here: one of its kind came whole, or much of one.
    known_bytes: usize,
    handling: Option<Handling<N::Buffer>>,
    answers: VecDeque<Answer<N::Buffer>>,
    /// Bytes of answers that are ready at the front or behind waiting ones.
    ready_bytes: usize,
    /// True while the peer does not take what is sent.
    is_send_blocked: bool,
    /// Heartbeats since the last request of another kind.
    heartbeats: u32,
    /// Set when no further request will be applied.
    ending: Option<Ending>,
    /// Others' turn.
    pause: Option<LocalFuture<()>>,
}

/// How far one step came.
enum Step {
    /// Something changed: look at everything again.
    Moved,
    /// Nothing to do until woken.
    Blocked,
}

impl<N: Network, S: Service<N::Buffer>> Connection<N, S> {
    pub(super) fn new(
        server: Rc<Server<N, S>>,
        socket: N::Socket,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Connection<N, S> {
        let (number, watch) = server.registry.add(server.runtime.now().value() / 1000);
        let connection = Connection {
            state: Rc::new(server.service.connected(peer, local)),
            arriving: server.requests.arriving(),
            class: Class::Small,
            claim: server.requests.claim(Class::Small, false),
            known_bytes: 0,
            server,
            socket,
            peer,
            watch,
            number,
            received: ReceiveBuffer::default(),
            grant: None,
            outgrown: None,
            gathering: None,
            handling: None,
            answers: VecDeque::new(),
            ready_bytes: 0,
            is_send_blocked: false,
            heartbeats: 0,
            ending: None,
            pause: None,
        };
        connection.count();
        connection
    }

    /// Serves the connection until it ends.
    pub(super) async fn run(mut self) {
        let ending = poll_fn(|context| self.poll(context)).await;
        self.server.endings.log(&self.server.runtime, Some(self.peer), &ending);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ending> {
        if let Some(order) = self.watch.order() {
            return Poll::Ready(Ending::Ordered(order));
        }
        if self.server.draining.get() && self.ending.is_none() {
            self.end(Ending::Stopping);
        }
        if self.watch.is_progress_asked()
            && let Some(gathering) = &mut self.gathering
            && gathering.has_moved(&self.socket)
        {
            self.watch.on_gathered();
        }
        if self.watch.is_looked_after() && self.socket.is_hung_up() {
            self.watch.on_deserted();
        }
        let mut turn = Turn::default();
        self.poll_answers(context);
        loop {
            self.apply(context, &mut turn);
            let was_full = !self.may_apply();
            if let Err(error) = self.poll_send(context) {
                return Poll::Ready(Ending::Io(error));
            }
            if was_full && self.may_apply() {
                // Only `apply` asks for the next request's memory. What it was not allowed to look at it must see before
                // this task sleeps: nothing else may ever wake it.
                continue;
            }
            if let Some(ending) = self.take_ending() {
                return Poll::Ready(ending);
            }
            match self.poll_receive(context, &mut turn) {
                Step::Moved => {}
                Step::Blocked => break,
            }
        }
        if self.claim.is_waiting() && !self.may_apply() {
            // Whoever comes behind could go on. It asks again when it may.
            self.claim = self.server.requests.claim(self.class, self.watch.has_asked());
            self.end_gathering();
        }
        let is_waiting = self.handling.is_some() || self.answers.iter().any(|a| matches!(a, Answer::Waiting(..)));
        let arriving = self.received.bytes_here().saturating_sub(self.held_bytes());
        if self.arriving.bytes() != arriving {
            self.arriving.set(arriving);
            self.count();
        }
        let doing = Doing {
            is_waiting,
            arriving: self.arriving_class(),
            is_send_blocked: self.is_send_blocked,
            keeps_answers: self.ready_bytes >= ANSWERS_KEPT_BYTES_MAX,
            is_deaf: !self.may_apply(),
            is_gathering: self.gathering.as_ref().is_some_and(Gathering::is_waiting_for_peer),
        };
        self.watch.on_pending(context, doing);
        Poll::Pending
    }

    /// Of which class the request is that holds memory while it is the peer's turn: to send more of it, or to take the
    /// answers before it, without which no more of it is received.
    fn arriving_class(&self) -> Option<Class> {
        let wants_more = self.may_apply() && !self.claim.is_waiting() && !self.has_frame();
        if !wants_more && !self.is_send_blocked {
            return None;
        }
        if self.grant.is_some() {
            return Some(self.class);
        }
        (!self.received.is_empty()).then_some(Class::Small)
    }

    /// Polls every answer that is waited for: any of them may be what woke the task, and each runs on only when polled.
    fn poll_answers(&mut self, context: &mut Context<'_>) {
        for answer in &mut self.answers {
            let Answer::Waiting(future, request) = answer else { continue };
            let Poll::Ready(response) = future.as_mut().poll(context) else { continue };
            let request = *request;
            *answer = match response {
                Some(response) => {
                    let outgoing = Outgoing::new(response, &self.server.unsent);
                    self.ready_bytes += outgoing.bytes();
                    Answer::Ready(outgoing)
                }
                None => Answer::Close,
            };
            self.server.on_answered(request);
        }
    }

    /// Applies the requests that are here, in order, as far as the bounds allow.
    fn apply(&mut self, context: &mut Context<'_>, turn: &mut Turn) {
        loop {
            if let Some(handling) = &mut self.handling {
                let Poll::Ready(reply) = handling.reply.as_mut().poll(context) else { return };
                let Handling { request, grant, .. } = self.handling.take().expect("it was just polled");
                drop(grant);
                self.count();
                self.on_reply(context, reply, request);
            }
            if !self.may_apply() || turn.is_over() || !self.next_request(context, turn) {
                return;
            }
            turn.requests += 1;
        }
    }

    /// True when the bounds allow one more request.
    fn may_apply(&self) -> bool {
        self.ending.is_none()
            && self.handling.is_none()
            && !self.is_send_blocked
            && self.ready_bytes < SEND_BYTES_EAGER
            && self.answers.len() < REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX
            && !self.waits_for_its_turn()
    }

    /// True when the next request is a fetch and an answer before it is waited for.
    fn waits_for_its_turn(&self) -> bool {
        self.received.api_key().and_then(ApiKey::from_code) == Some(ApiKey::Fetch)
            && self.answers.iter().any(|answer| matches!(answer, Answer::Waiting(..)))
    }

    /// True when the next request is here whole.
    fn has_frame(&self) -> bool {
        let bytes_max = self.server.config.request_bytes_max;
        self.received.frame_bytes(bytes_max).is_ok_and(|bytes| bytes.is_some_and(|bytes| self.received.has(bytes)))
    }

    /// Hands the next request to the service if it is here and its memory is granted. False when it is not.
    fn next_request(&mut self, context: &mut Context<'_>, turn: &mut Turn) -> bool {
        let frame_bytes = match self.received.frame_bytes(self.server.config.request_bytes_max) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return false,
            Err(BadLength(length)) => {
                self.end(Ending::BadLength(length));
                return false;
            }
        };
        if !self.received.has(frame_bytes.min(API_KEY_BYTES)) {
            // Whether it must wait for its turn is not known yet.
            return false;
        }
        if self.grant.is_none() && !self.claim.is_waiting() {
            let class = Class::of(frame_bytes, self.known_bytes);
            if class != self.class {
                self.class = class;
                self.claim = self.server.requests.claim(class, self.watch.has_asked());
            }
        }
        let bytes = match self.class {
            Class::Small if !self.received.has(frame_bytes) => return false,
            Class::Small => frame_bytes,
            Class::Usual | Class::Large | Class::Known => self.received.needs(frame_bytes),
        };
        if self.granted_bytes() < bytes {
            let is_granted = self.claim.poll_take(context, &mut self.grant, bytes).is_ready();
            if is_granted {
                self.outgrown = None;
                self.end_gathering();
            } else if self.class == Class::Small || !self.gather(context, turn, frame_bytes) {
                return false;
            }
            self.count();
        }
        let Some(frame) = self.received.cut(frame_bytes) else { return false };
        self.known_bytes = self.known_bytes.max(known_by(frame_bytes));
        let request = Request {
            api_key: frame.first_chunk::<2>().map_or(-1, |key| i16::from_be_bytes(*key)),
            received: self.server.runtime.now(),
        };
        self.on_request(request.api_key);
        self.watch.on_request();
        let grant = self.grant.take().expect("it was granted above");
        let reply = Rc::clone(&self.server.service).handle(Rc::clone(&self.state), frame);
        self.handling = Some(Handling { reply, request, grant });
        true
    }

    /// Goes on with a request that waits for memory, by the system's help. True when it is here whole, and granted.
    fn gather(&mut self, context: &mut Context<'_>, turn: &mut Turn, frame_bytes: usize) -> bool {
        let gathering =
            self.gathering.get_or_insert_with(|| Gathering::new(&self.server.requests, self.watch.has_asked()));
        let missing = self.received.missing(frame_bytes);
        // A known connection is in the line already that is not for peers which send little.
        let much = self.class != Class::Known;
        let Poll::Ready(gathered) = gathering.poll(context, &mut self.socket, frame_bytes, missing, much) else {
            return false;
        };
        match gathered {
            Gathered::Room => {
                let _ = self.receive(context, turn, GATHERING_RECEIVE_BYTES, 0);
                // A few times at most.
                self.ending.is_none() && self.gather(context, turn, frame_bytes)
            }
            Gathered::Whole(grant) => {
                self.end_gathering();
                self.claim = self.server.requests.claim(self.class, self.watch.has_asked());
                self.grant = Some(grant);
                self.outgrown = None;
                while self.ending.is_none() && !self.received.has(frame_bytes) {
                    if let Step::Blocked = self.receive(context, turn, RECEIVE_BYTES, frame_bytes) {
                        break;
                    }
                }
                self.ending.is_none()
            }
            Gathered::Much => {
                self.end_gathering();
                self.known_bytes = usize::MAX;
                self.outgrown = self.grant.take();
                self.claim = self.server.requests.claim(Class::Known, self.watch.has_asked());
                self.next_request(context, turn)
            }
            Gathered::Never => {
                self.end(Ending::HalfRequest);
                self.watch.on_hung_up();
                false
            }
            Gathered::Failed(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn end_gathering(&mut self) {
        if let Some(mut gathering) = self.gathering.take() {
            gathering.end(&self.socket);
        }
    }

    /// A member that only says that it is alive may wait for others that do: see `PATIENT_PAUSE_MS`.
    fn on_request(&mut self, api_key: i16) {
        let is_heartbeat =
            matches!(ApiKey::from_code(api_key), Some(ApiKey::Heartbeat | ApiKey::ConsumerGroupHeartbeat));
        self.heartbeats = if is_heartbeat { self.heartbeats.saturating_add(1) } else { 0 };
        self.socket.set_patient(self.heartbeats >= PATIENT_AFTER_HEARTBEATS);
    }

    /// Applies nothing further. What was applied is still answered; what was received beyond it is let go.
    fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.received = ReceiveBuffer::default();
        self.class = Class::Small;
        self.claim = self.server.requests.claim(Class::Small, false);
        (self.grant, self.outgrown, self.gathering) = (None, None, None);
        self.arriving.set(0);
        self.count();
    }

    /// Nobody is there to take the answers.
    fn fail(&mut self, error: io::Error) {
        self.answers.clear();
        self.end(Ending::Io(error));
    }

    /// Bytes of memory that the next request holds.
    fn granted_bytes(&self) -> usize {
        self.grant.as_ref().map_or(0, Grant::bytes)
    }

    /// The same, while it moves from one class to another too.
    fn held_bytes(&self) -> usize {
        self.granted_bytes().max(self.outgrown.as_ref().map_or(0, Grant::bytes))
    }

    /// Gives the answer its place.
    fn on_reply(&mut self, context: &mut Context<'_>, reply: Reply<N::Buffer>, request: Request) {
        match reply {
            Reply::Now(response) => {
                let outgoing = Outgoing::new(response, &self.server.unsent);
                self.ready_bytes += outgoing.bytes();
                self.answers.push_back(Answer::Ready(outgoing));
                self.server.on_answered(request);
            }
            Reply::Later(mut future) => match future.as_mut().poll(context) {
                Poll::Ready(Some(response)) => self.on_reply(context, Reply::Now(response), request),
                Poll::Ready(None) => self.on_reply(context, Reply::Close, request),
                Poll::Pending => self.answers.push_back(Answer::Waiting(future, request)),
            },
            Reply::Nothing => self.server.on_answered(request),
            Reply::Close => {
                self.answers.push_back(Answer::Close);
                self.end(Ending::Service);
                self.server.on_answered(request);
            }
        }
    }

    /// Sends the answers that are ready, up to the first that is not.
    fn poll_send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            while matches!(self.answers.front(), Some(Answer::Ready(outgoing)) if outgoing.is_sent()) {
                self.answers.pop_front();
            }
            let mut pieces: Vec<IoSlice<'_>> = Vec::new();
            for answer in &self.answers {
                let Answer::Ready(outgoing) = answer else { break };
                if pieces.len() == SEND_PIECES_MAX {
                    break;
                }
                outgoing.gather(&mut pieces);
            }
            if pieces.is_empty() {
                self.is_send_blocked = false;
                return Ok(());
            }
            let sent = match self.socket.poll_write(context, &pieces) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => {
                    self.is_send_blocked = true;
                    return Ok(());
                }
            };
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.on_sent(sent);
        }
    }

    fn on_sent(&mut self, sent: usize) {
        self.watch.on_moved(sent);
        self.server.metrics.network_bytes_out.add(to_u64(sent));
        self.ready_bytes -= sent;
        let mut left = sent;
        for answer in &mut self.answers {
            let Answer::Ready(outgoing) = answer else { break };
            left = outgoing.advance(left);
            if left == 0 {
                break;
            }
        }
        assert!(left == 0);
    }

    /// The end, when there is nothing left to do before it.
    fn take_ending(&mut self) -> Option<Ending> {
        match self.answers.front() {
            // Whatever was asked after it goes unanswered, as the protocol has it for a closed connection.
            Some(Answer::Close) => Some(self.ending.take().unwrap_or(Ending::Service)),
            None if self.handling.is_none() => self.ending.take(),
            _ => None,
        }
    }

    /// Receives what the socket has, if a further request may be applied.
    fn poll_receive(&mut self, context: &mut Context<'_>, turn: &mut Turn) -> Step {
        if !self.may_apply() {
            return Step::Blocked;
        }
        if turn.is_over() {
            self.pause = Some(Box::pin(self.server.runtime.yield_now()));
            *turn = Turn::default();
        }
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(context).is_pending() {
                return Step::Blocked;
            }
            self.pause = None;
            return Step::Moved;
        }
        let granted_bytes = self.granted_bytes();
        match self.received.frame_bytes(self.server.config.request_bytes_max) {
            // `apply` asked for the memory and is in the queue.
            Ok(Some(_)) if self.claim.is_waiting() => return Step::Blocked,
            Ok(_) => {}
            Err(BadLength(length)) => {
                self.end(Ending::BadLength(length));
                return Step::Moved;
            }
        }
        let window = if self.server.requests.is_contended() { RECEIVE_CONTENDED_BYTES } else { RECEIVE_BYTES };
        self.receive(context, turn, window, granted_bytes)
    }

    /// Receives what the socket has: at most `window` bytes, or what is missing of a request that is received in place.
    fn receive(&mut self, context: &mut Context<'_>, turn: &mut Turn, window: usize, granted_bytes: usize) -> Step {
        let polled = {
            let mut scratch = self.server.scratch.borrow_mut();
            self.received.poll_receive(context, &mut self.socket, &mut scratch[..window], granted_bytes)
        };
        match polled {
            Poll::Pending => Step::Blocked,
            Poll::Ready(Ok(0)) => {
                self.end(if self.received.is_empty() { Ending::PeerClosed } else { Ending::HalfRequest });
                self.watch.on_hung_up();
                Step::Moved
            }
            Poll::Ready(Ok(count)) => {
                turn.bytes += count;
                self.watch.on_moved(count);
                self.server.metrics.network_bytes_in.add(to_u64(count));
                Step::Moved
            }
            Poll::Ready(Err(error)) => {
                self.fail(error);
                Step::Moved
            }
        }
    }

    /// Shows the shard's gauges what changed.
    fn count(&self) {
        self.server.metrics.connections.set(to_u64(self.server.registry.len()));
        self.server.metrics.request_bytes_in_flight.set(to_u64(self.server.requests.bytes_used()));
    }
}

impl<N: Network, S: Service<N::Buffer>> Drop for Connection<N, S> {
    fn drop(&mut self) {
        self.server.registry.remove(self.number);
        (self.grant, self.outgrown) = (None, None);
        self.arriving.set(0);
        if let Some(Handling { reply, grant, .. }) = self.handling.take() {
            // The peer is gone, but its request is half applied: it runs to its end as if the peer were there.
            self.server.runtime.spawn(async move {
                let _applied = reply.await;
                drop(grant);
            });
        }
        self.count();
    }
}

impl<N: Network, S: Service<N::Buffer>> Server<N, S> {
    fn on_answered(&self, request: Request) {
        self.metrics.on_request(request.api_key, self.runtime.now().since_us(request.received));
    }
}

/// What one connection did since others last had their turn.
#[derive(Default)]
struct Turn {
    bytes: usize,
    requests: usize,
}

impl Turn {
    fn is_over(&self) -> bool {
        self.bytes >= TURN_BYTES_MAX || self.requests >= TURN_REQUESTS_MAX
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).expect("a size in memory fits 64 bits")
}

/// Writes endings to the log, at most one line a second for each cause.
#[derive(Default)]
pub(super) struct Endings {
    half_request: LogLimiter,
    bad_length: LogLimiter,
    stalled: LogLimiter,
    unread: LogLimiter,
    unused: LogLimiter,
    io: LogLimiter,
    too_many: LogLimiter,
    accept_failed: LogLimiter,
}

impl Endings {
    pub(super) fn log<R: Runtime>(&self, runtime: &R, peer: Option<SocketAddr>, ending: &Ending) {
        let (limiter, text) = match ending {
            // What peers do all the time, and what we do ourselves, is no news.
            Ending::PeerClosed | Ending::Service | Ending::Stopping => return,
            Ending::Ordered(Order::Idle | Order::HungUp | Order::Stop) => return,
            Ending::Io(error) if is_hang_up(error) => return,
            Ending::HalfRequest => (&self.half_request, "the peer hung up within a request".to_owned()),
            Ending::BadLength(length) => (&self.bad_length, format!("no request is {length} bytes long")),
            Ending::Ordered(Order::Stalled) => {
                (&self.stalled, "its request did not arrive while others waited for the memory".to_owned())
            }
            Ending::Ordered(Order::Unused) => {
                (&self.unused, "it asked nothing, and there are nearly as many connections as there may be".to_owned())
            }
            Ending::Ordered(Order::Unread) => {
                (&self.unread, "it did not take its answer while others waited for the memory".to_owned())
            }
            Ending::Io(error) => (&self.io, error.to_string()),
            Ending::TooMany(count) => (&self.too_many, format!("this shard serves {count} connections already")),
            Ending::AcceptFailed(error) => (&self.accept_failed, format!("accepting failed: {error}")),
        };
        let Some(suppressed) = limiter.allow(runtime.now()) else { return };
        let peer = peer.map_or_else(|| "a connection".to_owned(), |peer| peer.to_string());
        match suppressed {
            0 => tracing::warn!("closed {peer}: {text}"),
            more => tracing::warn!("closed {peer}: {text} (and {more} more for this reason)"),
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reply::Piece;
    use crate::limits::LENT_BYTES_MIN;
    use crate::metrics::ShardMetrics;
    use crate::runtime::block::Slice;
    use crate::runtime::glommio::{Cores, GlommioBuffer, GlommioRuntime, ShardPlan, raise_file_limit, run_shards};
    use crate::server::{ServerConfig, Shutdown};
    use crate::types::ShardId;
    use bytes::Bytes;
    use std::io::{Read, Write};
    use std::net::{Shutdown as Direction, TcpStream};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::sync::{Arc, mpsc};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    /// Answers each request with its own bytes, after what its first byte asks for.
    struct Echo {
        runtime: GlommioRuntime,
        shared: Arc<Shared>,
    }

    #[derive(Default)]
    struct Shared {
        /// Requests whose application began.
        begun: AtomicU64,
        /// Requests whose application ended.
        applied: AtomicU64,
        /// Lets requests of kind `HELD` be applied.
        gate: AtomicBool,
        /// Lets requests of kinds `AWAITED` and `BESIDE` be answered.
        answers: AtomicBool,
    }

    const NOW: u8 = 0;
    const LATER: u8 = 1;
    const NOTHING: u8 = 2;
    const CLOSE: u8 = 3;
    const LARGE: u8 = 4;
    const LATER_NONE: u8 = 5;
    const HELD: u8 = 6;
    const PIECES: u8 = 7;
    const NEVER: u8 = 8;
    const AWAITED: u8 = 9;
    const BESIDE: u8 = 10;

    /// Bytes of a request larger than usual.
    const TWICE_USUAL: usize = 2 << 20;

    /// Bytes of the answer to a request of kind `LARGE`.
    const LARGE_BYTES: usize = 1 << 20;

    /// What answers to requests of kind `AWAITED` are made of.
    static RECORDS: [u8; 32 * LARGE_BYTES] = [0; 32 * LARGE_BYTES];

    fn respond(frame: &[u8]) -> Response<GlommioBuffer> {
        let mut bytes = i32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        Response { bytes, pieces: Vec::new(), hold: None }
    }

    impl Service<GlommioBuffer> for Echo {
        type Connection = ();

        fn connected(&self, _: SocketAddr, _: SocketAddr) {}

        fn handle(self: Rc<Self>, _: Rc<()>, frame: Bytes) -> LocalFuture<Reply<GlommioBuffer>> {
            Box::pin(async move {
                let shared = Arc::clone(&self.shared);
                shared.begun.fetch_add(1, Ordering::SeqCst);
                let runtime = self.runtime.clone();
                let reply = match frame[0] {
                    LATER => Reply::Later(Box::pin(async move {
                        runtime.sleep(Duration::from_millis(u64::from(frame[1]))).await;
                        Some(respond(&frame))
                    })),
                    NOTHING => Reply::Nothing,
                    CLOSE => Reply::Close,
                    LARGE => Reply::Now(respond(&vec![frame[1]; LARGE_BYTES])),
                    NEVER => Reply::Later(Box::pin(std::future::pending())),
                    LATER_NONE => Reply::Later(Box::pin(async move { None })),
                    // An answer of as many MiB as the second byte says.
                    AWAITED => Reply::Later(Box::pin(async move {
                        while !self.shared.answers.load(Ordering::SeqCst) {
                            runtime.sleep(Duration::from_millis(1)).await;
                        }
                        // As records are: bytes of a piece, which the answer does not own.
                        let piece = &RECORDS[..usize::from(frame[1]) * LARGE_BYTES];
                        let mut response = respond(&frame[..1]);
                        response.bytes[..4].copy_from_slice(&i32::try_from(piece.len() + 1).unwrap().to_be_bytes());
                        response.pieces = vec![Piece { at: 5, slice: Slice::Bytes(Bytes::from_static(piece)) }];
                        Some(response)
                    })),
                    // It wakes nobody: it is found to be ready when an `AWAITED` before it is.
                    BESIDE => {
                        let beside = Arc::clone(&shared);
                        Reply::Later(Box::pin(poll_fn(move |_| match beside.answers.load(Ordering::SeqCst) {
                            true => Poll::Ready(Some(respond(&frame))),
                            false => Poll::Pending,
                        })))
                    }
                    HELD => {
                        while !self.shared.gate.load(Ordering::SeqCst) {
                            runtime.sleep(Duration::from_millis(1)).await;
                        }
                        Reply::Now(respond(&frame))
                    }
                    PIECES => {
                        // 3,000 pieces of three bytes, each after one byte of the answer's own.
                        let mut response = respond(&vec![b'-'; 3000]);
                        response.bytes[..4].copy_from_slice(&12_000i32.to_be_bytes());
                        let slice = |_| Slice::Bytes(Bytes::from_static(b"abc"));
                        response.pieces = (0..3000).map(|at| Piece { at: at + 5, slice: slice(at) }).collect();
                        Reply::Now(response)
                    }
                    _ => Reply::Now(respond(&frame)),
                };
                shared.applied.fetch_add(1, Ordering::SeqCst);
                reply
            })
        }
    }

    /// A server on a port of its own.
    struct Rig {
        address: SocketAddr,
        shared: Arc<Shared>,
        metrics: Arc<ShardMetrics>,
        shutdown: Shutdown,
        thread: Option<JoinHandle<()>>,
    }

    fn rig(change: impl FnOnce(&mut ServerConfig)) -> Rig {
        let mut config = ServerConfig::new(64 << 20, 20_000, 1);
        change(&mut config);
        let (send, receive) = mpsc::channel();
        let shutdown = Shutdown::new();
        let shared = Arc::new(Shared::default());
        let metrics = ShardMetrics::new(ShardId::new(0));
        let given = (shutdown.clone(), Arc::clone(&shared), Arc::clone(&metrics));
        let thread = std::thread::spawn(move || {
            let plan = ShardPlan { count: 1, cpus: Cores::of_this_process().cpus, io_memory_bytes: 65536 };
            run_shards(&plan, move |_, runtime: GlommioRuntime| {
                let (send, (shutdown, shared, metrics), config) = (send.clone(), given.clone(), config.clone());
                async move {
                    let listener = crate::server::bind(&runtime, "127.0.0.1:0".parse().unwrap(), false).await.unwrap();
                    send.send(crate::runtime::Listener::local_address(&listener).unwrap()).unwrap();
                    let service = Rc::new(Echo { runtime: runtime.clone(), shared });
                    Server::new(runtime, service, config, metrics).serve(listener, shutdown).await;
                }
            })
            .unwrap();
        });
        let address = receive.recv().unwrap();
        Rig { address, shared, metrics, shutdown, thread: Some(thread) }
    }

    impl Rig {
        fn connect(&self) -> TcpStream {
            let socket = TcpStream::connect(self.address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket
        }

        /// Requests begun so far, once the shard had a turn, itself one request.
        fn served(&self) -> u64 {
            let socket = self.connect();
            send(&socket, &[NOW]);
            assert_eq!(receive(&socket), [NOW]);
            self.shared.begun.load(Ordering::SeqCst)
        }

        fn wait_until(&self, what: &str, fact: impl Fn(&Rig) -> bool) {
            let started = Instant::now();
            while !fact(self) {
                assert!(started.elapsed() < Duration::from_secs(20), "never happened: {what}");
                std::thread::sleep(Duration::from_millis(2));
            }
        }

        fn stop(&mut self) {
            self.shutdown.request();
            self.thread.take().unwrap().join().unwrap();
            assert_eq!(self.metrics.connections.value(), 0);
            assert_eq!(self.metrics.request_bytes_in_flight.value(), 0);
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            if self.thread.is_some() {
                self.shared.gate.store(true, Ordering::SeqCst);
                self.shared.answers.store(true, Ordering::SeqCst);
                self.stop();
            }
        }
    }

    fn send(mut socket: &TcpStream, frame: &[u8]) {
        let mut bytes = i32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(frame);
        socket.write_all(&bytes).unwrap();
    }

    fn receive(mut socket: &TcpStream) -> Vec<u8> {
        let mut length = [0; 4];
        socket.read_exact(&mut length).unwrap();
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        socket.read_exact(&mut frame).unwrap();
        frame
    }

    /// True when the peer closed without a further byte.
    fn is_closed(mut socket: &TcpStream) -> bool {
        match socket.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn answers_leave_in_the_order_of_requests() {
        let rig = rig(|_| ());
        let socket = rig.connect();
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for index in 0..250u8 {
            // Slow ones before fast ones, and large ones that outgrow the scratch buffer between small ones.
            let kind = if index % 3 == 0 { LATER } else { NOW };
            let length = if index % 50 == 7 { 200_000 } else { 5 + usize::from(index) };
            let mut frame = vec![index; length];
            (frame[0], frame[1]) = (kind, 30 - index % 30);
            frames.push(frame);
        }
        let writer = socket.try_clone().unwrap();
        let sent = frames.clone();
        let thread = std::thread::spawn(move || sent.iter().for_each(|frame| send(&writer, frame)));
        for frame in &frames {
            assert_eq!(&receive(&socket), frame);
        }
        thread.join().unwrap();
        assert!(rig.metrics.network_bytes_in.value() > 1_000_000);
        // The last send is counted after it, so after the peer has it.
        rig.wait_until("as much went out as came in", |rig| {
            rig.metrics.network_bytes_in.value() == rig.metrics.network_bytes_out.value()
        });
    }

    #[test]
    fn a_request_without_an_answer_leaves_no_gap() {
        let rig = rig(|_| ());
        let socket = rig.connect();
        for frame in [&[NOW, 1][..], &[NOTHING], &[NOTHING], &[NOW, 2]] {
            send(&socket, frame);
        }
        assert_eq!(receive(&socket), [NOW, 1]);
        assert_eq!(receive(&socket), [NOW, 2]);
    }

    #[test]
    fn a_connection_of_heartbeats_is_served_on_and_anything_else_too() {
        let rig = rig(|_| ());
        let sockets = [rig.connect(), rig.connect()];
        // The key of Heartbeat, which the service answers at once.
        let heartbeat = [NOW, 12];
        for round in 0..20u8 {
            for socket in &sockets {
                send(socket, &heartbeat);
            }
            for socket in &sockets {
                assert_eq!(receive(socket), heartbeat);
            }
            // Every fifth round one of them is more than alive.
            if round % 5 == 4 {
                let other = [NOW, 1, round].repeat(100_000);
                send(&sockets[0], &other);
                assert_eq!(receive(&sockets[0]), other);
            }
        }
        drop(sockets);
        rig.wait_until("both are gone", |rig| rig.metrics.connections.value() == 0);
    }

    #[test]
    fn pieces_beyond_one_send_arrive_in_their_places() {
        let rig = rig(|_| ());
        let socket = rig.connect();
        for _ in 0..3 {
            send(&socket, &[PIECES]);
        }
        for _ in 0..3 {
            assert_eq!(receive(&socket), "-abc".repeat(3000).as_bytes());
        }
    }

    #[test]
    fn a_length_that_no_request_has_closes_after_earlier_answers() {
        let rig = rig(|_| ());
        for length in [100 * 1024 * 1024 + 1, 0, -1, i32::MIN, i32::MAX] {
            let socket = rig.connect();
            let mut bytes = 2i32.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[NOW, 9]);
            bytes.extend_from_slice(&length.to_be_bytes());
            (&socket).write_all(&bytes).unwrap();
            assert_eq!(receive(&socket), [NOW, 9]);
            assert!(is_closed(&socket), "{length}");
        }
        rig.wait_until("all are closed", |rig| rig.metrics.connections.value() == 0);
    }

    #[test]
    fn half_a_request_and_a_hang_up_frees_what_it_held() {
        let rig = rig(|config| config.request_bytes_in_flight_max = 1 << 20);
        for count in [1, 3, 4, 5, 6, 100_000] {
            let socket = rig.connect();
            let mut bytes = 200_000i32.to_be_bytes().to_vec();
            bytes.resize(100_000, 0);
            (&socket).write_all(&bytes[..count]).unwrap();
            rig.wait_until("it was accepted", |rig| rig.metrics.connections.value() == 1);
            let here = u64::try_from(count).unwrap();
            let counted = match here {
                0..6 => here,
                // With its length and its API key here it is granted that and as much again, at least 64 KiB.
                6..100_000 => 65_536 + here,
                _ => 200_000,
            };
            rig.wait_until("it is granted", |rig| rig.metrics.request_bytes_in_flight.value() == counted);
            drop(socket);
            rig.wait_until("it is gone", |rig| rig.metrics.connections.value() == 0);
            assert_eq!(rig.metrics.request_bytes_in_flight.value(), 0);
        }
    }

    #[test]
    fn a_peer_that_sends_no_more_still_gets_its_answers() {
        let rig = rig(|_| ());
        let socket = rig.connect();
        send(&socket, &[LATER, 20]);
        send(&socket, &[NOW, 1]);
        socket.shutdown(Direction::Write).unwrap();
        assert_eq!(receive(&socket), [LATER, 20]);
        assert_eq!(receive(&socket), [NOW, 1]);
        assert!(is_closed(&socket));
    }

    #[test]
    fn a_peer_that_hung_up_while_its_answer_is_waited_for_is_forgotten() {
        let rig = rig(|_| ());
        let socket = rig.connect();
        send(&socket, &[NEVER]);
        (&socket).write_all(&[0, 0, 1, 0, 1, 2, 3]).unwrap();
        rig.wait_until("half a request is here", |rig| rig.metrics.request_bytes_in_flight.value() == 7);
        drop(socket);
        rig.wait_until("its memory is free", |rig| rig.metrics.request_bytes_in_flight.value() == 0);
        rig.wait_until("it is gone", |rig| rig.metrics.connections.value() == 0);
    }

    #[test]
    fn a_handler_closes_after_earlier_answers_and_before_later_ones() {
        let rig = rig(|_| ());
        for close in [CLOSE, LATER_NONE] {
            let socket = rig.connect();
            for frame in [&[LATER, 10][..], &[close, 0], &[NOW, 3]] {
                send(&socket, frame);
            }
            assert_eq!(receive(&socket), [LATER, 10]);
            assert!(is_closed(&socket));
        }
    }

    #[test]
    fn a_peer_that_does_not_read_is_not_read() {
        let rig = rig(|_| ());
        let socket = rig.connect();
        let writer = socket.try_clone().unwrap();
        const COUNT: u8 = 200;
        let thread = std::thread::spawn(move || (0..COUNT).for_each(|index| send(&writer, &[LARGE, index])));
        // What the kernel buffers for a socket is some megabytes; the rest of the 200 stays unapplied.
        std::thread::sleep(Duration::from_millis(500));
        let applied = rig.shared.applied.load(Ordering::SeqCst);
        assert!(applied < 50, "{applied} answers of 1 MiB for a peer that reads none");
        let other = rig.connect();
        send(&other, &[NOW, 1]);
        assert_eq!(receive(&other), [NOW, 1]);
        for index in 0..COUNT {
            assert_eq!(receive(&socket), vec![index; LARGE_BYTES]);
        }
        thread.join().unwrap();
    }

    #[test]
    fn requests_beyond_the_budget_wait_until_others_are_applied() {
        let rig = rig(|config| config.request_bytes_in_flight_max = 1000);
        let mut frame = vec![0; 600];
        frame[0] = HELD;
        let sockets = [rig.connect(), rig.connect(), rig.connect()];
        for socket in &sockets {
            send(socket, &frame);
        }
        rig.wait_until("one is being applied", |rig| rig.shared.begun.load(Ordering::SeqCst) == 1);
        // One is granted its 600 bytes; the others are here whole, with their lengths, and wait.
        rig.wait_until("the others are here", |rig| rig.metrics.request_bytes_in_flight.value() == 600 + 2 * 604);
        assert_eq!(rig.shared.begun.load(Ordering::SeqCst), 1);
        rig.shared.gate.store(true, Ordering::SeqCst);
        for socket in &sockets {
            assert_eq!(receive(socket), frame);
        }
    }

    /// A producer with dozens of requests in flight was never read again, with megabytes in the socket and nothing to do:
    /// the answers to as many requests as may be in flight left at once, with a part of the next request here. It had not
    /// asked for memory while they were waited for, and did not receive, as if it had and waited.
    #[test]
    fn a_part_of_a_request_behind_as_many_as_may_be_in_flight_is_received_further() {
        let rig = rig(|_| ());
        for rest in [5000, 1 << 20] {
            rig.shared.answers.store(false, Ordering::SeqCst);
            let begun = rig.shared.begun.load(Ordering::SeqCst);
            let socket = rig.connect();
            let mut bytes = Vec::new();
            for index in 0..REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX {
                let kind = if index == 0 { AWAITED } else { BESIDE };
                bytes.extend_from_slice(&[0, 0, 0, 2, kind, 0]);
            }
            bytes.extend_from_slice(&i32::try_from(rest).unwrap().to_be_bytes());
            let last = vec![NOW; rest];
            bytes.extend_from_slice(&last[..1000]);
            (&socket).write_all(&bytes).unwrap();
            rig.wait_until("all are applied, and a part of the next is here", |rig| {
                rig.shared.begun.load(Ordering::SeqCst) - begun == 64
                    && rig.metrics.request_bytes_in_flight.value() == 1004
            });
            rig.shared.answers.store(true, Ordering::SeqCst);
            assert_eq!(receive(&socket), [AWAITED]);
            for _ in 1..REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX {
                assert_eq!(receive(&socket), [BESIDE, 0]);
            }
            (&socket).write_all(&last[1000..]).unwrap();
            assert_eq!(receive(&socket), last);
        }
    }

    /// A fetch, as far as the server looks: it is answered at once.
    const FETCH: [u8; 2] = [NOW, 1];

    /// Fetches that a peer sent without waiting for their answers held all memory of answers, ready but behind an earlier
    /// one that waited for it: reads of old data stopped for good.
    #[test]
    fn a_fetch_is_not_begun_behind_an_answer_that_is_waited_for() {
        let rig = rig(|_| ());
        let socket = rig.connect();
        // One after the other here, and its first byte alone.
        (&socket).write_all(&[0, 0, 0, 2, AWAITED, 0, 0, 0, 0, 2, NOW, 2, 0, 0, 0, 2, FETCH[0]]).unwrap();
        assert_eq!(rig.served(), 3, "what is no fetch is begun behind it");
        (&socket).write_all(&FETCH[1..]).unwrap();
        (&socket).write_all(&[0, 0, 0, 2, NOW, 3]).unwrap();
        for served in 4..10 {
            assert_eq!(rig.served(), served, "the fetch or what comes after it was begun");
        }
        rig.shared.answers.store(true, Ordering::SeqCst);
        assert_eq!(receive(&socket), [AWAITED]);
        for expected in [[NOW, 2], FETCH, [NOW, 3]] {
            assert_eq!(receive(&socket), expected);
        }
    }

    /// Nobody looked: they stayed for as long as what they waited for.
    #[test]
    fn peers_that_are_gone_are_noticed_though_nothing_is_received_from_them() {
        let rig = rig(|_| ());
        for rest in [&FETCH, &[NEVER, 0]] {
            let socket = rig.connect();
            send(&socket, &[NEVER, 0]);
            (0..REQUESTS_IN_FLIGHT_PER_CONNECTION_MAX + 1).for_each(|_| send(&socket, rest));
            let here = rig.connect();
            send(&here, &[NEVER, 0]);
            rig.wait_until("both are here", |rig| rig.metrics.connections.value() == 2);
            drop(socket);
            rig.wait_until("the one is gone", |rig| rig.metrics.connections.value() == 1);
            drop(here);
            rig.wait_until("both are gone", |rig| rig.metrics.connections.value() == 0);
        }
    }

    /// A connection whose large request waits for memory that another has, and whose peer does not take its answer. Returns
    /// both, the one that waits first.
    fn waiting_behind_an_answer(rig: &Rig) -> (TcpStream, TcpStream) {
        let holder = rig.connect();
        let mut held = vec![0; 2 << 20];
        held[0] = HELD;
        send(&holder, &held);
        rig.wait_until("it has all memory", |rig| rig.shared.begun.load(Ordering::SeqCst) == 1);
        let waiting = rig.connect();
        send(&waiting, &[AWAITED, 32]);
        (&waiting).write_all(&i32::try_from(TWICE_USUAL).unwrap().to_be_bytes()).unwrap();
        (&waiting).write_all(&[NOW; 1000]).unwrap();
        rig.wait_until("a part of its request is here", |rig| {
            rig.metrics.request_bytes_in_flight.value() == (2 << 20) + 1004
        });
        rig.shared.answers.store(true, Ordering::SeqCst);
        // More than the kernel keeps for a socket, so the rest of it waits for the peer.
        rig.wait_until("its answer is on its way", |rig| rig.metrics.network_bytes_out.value() > 0);
        (waiting, holder)
    }

    /// The memory became free while the peer did not take its answers, and nothing told of it again when it had.
    #[test]
    fn memory_that_came_while_the_peer_took_no_answers_is_found_when_it_has() {
        let rig = rig(|config| {
            config.request_bytes_in_flight_max = 8 << 20;
            config.sweep_pressed_interval_ms = 1_000_000;
        });
        let (waiting, holder) = waiting_behind_an_answer(&rig);
        rig.shared.gate.store(true, Ordering::SeqCst);
        assert_eq!(receive(&holder).len(), 2 << 20);
        assert_eq!(receive(&waiting).len(), 32 * LARGE_BYTES + 1);
        waiting.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        (&waiting).write_all(&vec![NOW; TWICE_USUAL - 1000]).unwrap();
        assert_eq!(receive(&waiting), vec![NOW; TWICE_USUAL]);
    }

    /// Memory was free, and whoever came for it stood behind a connection that could not take it.
    #[test]
    fn who_takes_no_answers_keeps_nobody_from_memory_that_is_free() {
        let rig = rig(|config| {
            config.request_bytes_in_flight_max = 8 << 20;
            config.sweep_pressed_interval_ms = 1_000_000;
        });
        let (waiting, holder) = waiting_behind_an_answer(&rig);
        rig.shared.gate.store(true, Ordering::SeqCst);
        assert_eq!(receive(&holder).len(), 2 << 20);
        let other = rig.connect();
        other.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let large = vec![NOW; TWICE_USUAL];
        send(&other, &large);
        assert_eq!(receive(&other), large);
        drop(waiting);
    }

    /// Parts of requests were let go when they were too many, but not those whose peer took no answers: they were not waited
    /// for, since nothing was received there, and stayed as long as they liked.
    #[test]
    fn parts_of_requests_behind_answers_that_nobody_takes_are_let_go_too() {
        let rig = rig(|config| config.request_bytes_in_flight_max = 8 << 20);
        let half_request = |socket: &TcpStream| {
            (&*socket).write_all(&60_000i32.to_be_bytes()).unwrap();
            (&*socket).write_all(&[0; 50_000]).unwrap();
        };
        let is_here = |rig: &Rig, count: u64| rig.metrics.request_bytes_in_flight.value() == count * 50_004;
        // Below the bound of one MiB, so nobody minds.
        let unread: Vec<TcpStream> = (0..15)
            .map(|_| {
                let socket = rig.connect();
                send(&socket, &[AWAITED, 32]);
                half_request(&socket);
                socket
            })
            .collect();
        rig.wait_until("their parts are here", |rig| is_here(rig, 15));
        rig.shared.answers.store(true, Ordering::SeqCst);
        rig.wait_until("their answers wait for them", |rig| rig.metrics.network_bytes_out.value() > 15 * 100_000);
        let silent: Vec<TcpStream> = (0..15)
            .map(|_| {
                let socket = rig.connect();
                half_request(&socket);
                socket
            })
            .collect();
        rig.wait_until("not only those that wait for no answer are let go", |rig| {
            rig.metrics.connections_accepted.value() == 30 && rig.metrics.connections.value() < 15
        });
        drop((unread, silent));
    }

    #[test]
    fn large_requests_that_stall_do_not_keep_others_from_being_served() {
        let rig = rig(|config| config.request_bytes_in_flight_max = 16 << 20);
        let stalled: Vec<TcpStream> = (0..100)
            .map(|_| {
                let socket = rig.connect();
                (&socket).write_all(&(100i32 << 20).to_be_bytes()).unwrap();
                (&socket).write_all(&[0; 50_000]).unwrap();
                socket
            })
            .collect();
        let socket = rig.connect();
        for index in 0..100 {
            send(&socket, &[NOW, index]);
            assert_eq!(receive(&socket), [NOW, index]);
        }
        drop(stalled);
    }

    /// Connects, and sends the first MiB of a request of 20.
    fn half_sender(rig: &Rig) -> TcpStream {
        part_sender(rig, 20 << 20, 1 << 20)
    }

    /// Connects, and sends a part of a request.
    fn part_sender(rig: &Rig, announced: i32, sent: usize) -> TcpStream {
        let socket = rig.connect();
        socket.set_nonblocking(true).unwrap();
        // What the broker does not receive, the kernel keeps or refuses: all the same to this peer.
        let _ = (&socket).write_all(&announced.to_be_bytes());
        let _ = (&socket).write_all(&vec![0; sent]);
        socket
    }

    /// Sixty peers that sent 1 of 20 MiB and fell silent stopped everyone until they were let go, 11 to 16 seconds; a hundred
    /// that came again each time, for as long as they liked. Here none is ever let go.
    #[test]
    fn half_sent_requests_take_nothing_from_those_of_usual_size_and_from_known_connections() {
        let rig = rig(|config| {
            config.request_bytes_in_flight_max = 8 << 20;
            config.sweep_pressed_interval_ms = 1_000_000;
        });
        let known = rig.connect();
        let large = [NOW].repeat(1 << 20);
        send(&known, &large);
        assert_eq!(receive(&known), large);
        let silent: Vec<TcpStream> = (0..60).map(|_| half_sender(&rig)).collect();
        rig.wait_until("they have all that is for them", |rig| {
            rig.metrics.connections.value() == 61 && rig.metrics.request_bytes_in_flight.value() >= 2 << 20
        });
        for index in 0..20 {
            let (new, small) = (rig.connect(), [NOW, index].repeat(1 + 1500 * usize::from(index)));
            send(&new, &small);
            assert_eq!(receive(&new), small);
            let usual = [NOW].repeat(700_000);
            send(&new, &usual);
            assert_eq!(receive(&new), usual);
            send(&known, &large);
            assert_eq!(receive(&known), large);
        }
        assert!(rig.metrics.request_bytes_in_flight.value() <= (8 << 20) + (20 << 20));
        drop(silent);
    }

    /// Sends a request as a stock client may, while its answer is read, and expects its echo.
    fn ask(socket: &TcpStream, request: &[u8]) {
        std::thread::scope(|scope| {
            scope.spawn(|| send(socket, request));
            assert!(receive(socket) == request);
        });
    }

    /// A first request on a new connection stood in line with those that send a part of one, for minutes: with peers that
    /// send 1 of 20 MiB if it was above 1 MiB, with those that send half of 1 MiB if it was up to that. Here none is let go.
    #[test]
    fn first_requests_do_not_stand_in_line_with_half_sent_ones() {
        for (announced, sent) in [(20 << 20, 1 << 20), (1 << 20, 500_000), (2 << 20, 1 << 20)] {
            let rig = rig(|config| {
                config.request_bytes_in_flight_max = 8 << 20;
                config.sweep_pressed_interval_ms = 1_000_000;
            });
            let silent: Vec<TcpStream> = (0..40).map(|_| part_sender(&rig, announced, sent)).collect();
            rig.wait_until("they have all that is for them", |rig| {
                rig.metrics.connections.value() == 40 && rig.metrics.request_bytes_in_flight.value() >= 1 << 20
            });
            for _ in 0..3 {
                for length in [700_000, 1 << 20, TWICE_USUAL, 3 << 20, 20 << 20] {
                    ask(&rig.connect(), &vec![NOW; length]);
                }
            }
            drop(silent);
        }
    }

    /// What the system takes in is bounded: then those that fell silent go, and soon.
    #[test]
    fn half_sent_requests_are_let_go_when_the_system_takes_in_no_more() {
        let rig = rig(|config| {
            config.request_bytes_in_flight_max = 8 << 20;
            config.sweep_pressed_interval_ms = 50;
        });
        let count = LENT_BYTES_MIN / (1 << 20) + 20;
        let silent: Vec<TcpStream> = (0..count).map(|_| part_sender(&rig, 1 << 20, 100_000)).collect();
        rig.wait_until("all have come", |rig| {
            rig.metrics.connections_accepted.value() == u64::try_from(count).unwrap()
        });
        ask(&rig.connect(), &vec![NOW; 1 << 20]);
        drop(silent);
    }

    #[test]
    fn half_sent_requests_are_let_go_when_their_memory_is_wanted() {
        let rig = rig(|config| config.request_bytes_in_flight_max = 8 << 20);
        let silent: Vec<TcpStream> = (0..5).map(|_| half_sender(&rig)).collect();
        // A new connection's first large request wants what they hold.
        let socket = rig.connect();
        let large = [NOW].repeat(1 << 20);
        let (writer, sent) = (socket.try_clone().unwrap(), large.clone());
        let thread = std::thread::spawn(move || send(&writer, &sent));
        assert_eq!(receive(&socket), large);
        thread.join().unwrap();
        drop(silent);
    }

    #[test]
    fn parts_of_small_requests_beyond_their_bound_are_let_go() {
        let rig = rig(|config| config.request_bytes_in_flight_max = 8 << 20);
        // 3 MiB are here of requests that are small and never whole; one MiB may be.
        let silent: Vec<TcpStream> = (0..60)
            .map(|_| {
                let socket = rig.connect();
                (&socket).write_all(&60_000i32.to_be_bytes()).unwrap();
                (&socket).write_all(&[0; 50_000]).unwrap();
                socket
            })
            .collect();
        rig.wait_until("they are let go", |rig| {
            rig.metrics.connections_accepted.value() == 60 && rig.metrics.request_bytes_in_flight.value() <= 1 << 20
        });
        let socket = rig.connect();
        send(&socket, &[NOW, 1]);
        assert_eq!(receive(&socket), [NOW, 1]);
        drop(silent);
    }

    #[test]
    fn answers_that_nobody_takes_are_let_go_when_they_are_too_many() {
        let rig = rig(|config| config.request_bytes_in_flight_max = 8 << 20);
        let silent: Vec<TcpStream> = (0..8)
            .map(|_| {
                let socket = rig.connect();
                // More than the kernel keeps for a socket: a few MiB stay with the broker each time.
                let writer = socket.try_clone().unwrap();
                writer.set_nonblocking(true).unwrap();
                (0..20).for_each(|index| send(&writer, &[LARGE, index]));
                socket
            })
            .collect();
        rig.wait_until("they are let go", |rig| {
            rig.metrics.connections_accepted.value() == 8 && rig.metrics.connections.value() <= 2
        });
        drop(silent);
    }

    #[test]
    fn large_requests_that_fill_the_budget_together_all_arrive() {
        // Eight of 20 MiB, sent at the same time, through a budget of 8.
        let rig = rig(|config| config.request_bytes_in_flight_max = 8 << 20);
        let senders: Vec<JoinHandle<()>> = (0..8)
            .map(|_| {
                let socket = rig.connect();
                std::thread::spawn(move || {
                    let mut frame = vec![1; 20 << 20];
                    frame[0] = NOW;
                    let writer = socket.try_clone().unwrap();
                    let sent = frame.clone();
                    let thread = std::thread::spawn(move || send(&writer, &sent));
                    assert_eq!(receive(&socket), frame);
                    thread.join().unwrap();
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
    }

    #[test]
    fn a_request_begun_is_applied_though_its_peer_is_gone() {
        let rig = rig(|config| config.connection_idle_ms = 1);
        let socket = rig.connect();
        send(&socket, &[LARGE, 0]);
        for _ in 0..20 {
            send(&socket, &[LARGE, 0]);
        }
        send(&socket, &[HELD]);
        // The reset makes the next send fail while the last request is being applied.
        let _ = receive(&socket);
        drop(socket);
        rig.wait_until("it is gone", |rig| rig.metrics.connections.value() == 0);
        rig.shared.gate.store(true, Ordering::SeqCst);
        rig.wait_until("all that began was applied", |rig| {
            rig.shared.begun.load(Ordering::SeqCst) == rig.shared.applied.load(Ordering::SeqCst)
        });
    }

    #[test]
    fn thousands_that_say_nothing_hurt_nobody() {
        let files = raise_file_limit().unwrap();
        let count = usize::try_from(files.saturating_sub(500) / 2).unwrap().min(2000);
        let rig = rig(|_| ());
        let silent: Vec<TcpStream> = (0..count).map(|_| rig.connect()).collect();
        rig.wait_until("all are accepted", |rig| rig.metrics.connections.value() == u64::try_from(count).unwrap());
        let socket = rig.connect();
        for index in 0..100 {
            send(&socket, &[NOW, index]);
            assert_eq!(receive(&socket), [NOW, index]);
        }
        drop(silent);
        rig.wait_until("all are gone", |rig| rig.metrics.connections.value() == 1);
    }

    #[test]
    fn connections_beyond_the_bound_are_closed_at_once() {
        let rig = rig(|config| config.connections_max = 2);
        let kept = [rig.connect(), rig.connect()];
        rig.wait_until("two are accepted", |rig| rig.metrics.connections.value() == 2);
        assert!(is_closed(&rig.connect()));
        assert_eq!(rig.metrics.connections_refused.value(), 1);
        drop(kept);
        rig.wait_until("both are gone", |rig| rig.metrics.connections.value() == 0);
        let socket = rig.connect();
        send(&socket, &[NOW]);
        assert_eq!(receive(&socket), [NOW]);
    }

    #[test]
    fn a_silent_connection_is_closed_after_its_time() {
        let rig = rig(|config| config.connection_idle_ms = 100);
        let socket = rig.connect();
        assert!(is_closed(&socket));
    }

    #[test]
    fn a_shutdown_lets_what_was_applied_be_answered() {
        let mut rig = rig(|_| ());
        let (waiting, idle) = (rig.connect(), rig.connect());
        send(&waiting, &[LATER, 200]);
        rig.wait_until("it was applied", |rig| rig.shared.applied.load(Ordering::SeqCst) == 1);
        let started = Instant::now();
        rig.stop();
        assert!(started.elapsed() < Duration::from_secs(3));
        assert_eq!(receive(&waiting), [LATER, 200]);
        assert!(is_closed(&waiting));
        assert!(is_closed(&idle));
        assert!(TcpStream::connect(rig.address).is_err());
    }
}
