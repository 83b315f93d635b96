//! A request that waits for memory, while the system takes in the rest of it.
//!
//! A peer that sends a part of a request and falls silent asks for memory like any other, and enough of them make a queue in
//! which nobody else's turn comes. What they never have is all of the request. So the system is lent to a request that
//! waits: its socket may take in the rest of it, up to `GATHERED_BYTES_MAX`. One that is here whole does not wait in that
//! queue any longer, but only for others that are whole. It is received in the same turn of its connection in which its
//! memory is granted, so it holds none while it is anybody's turn but ours. And of one that is larger, so much came that its
//! connection counts as known.
//!
//! How much is lent at once is bounded. While others wait for that too, whoever falls silent is let go soon: nothing of it is
//! in our memory, and it lost nothing but its place.

use std::io;
use std::task::{Context, Poll, ready};

use super::byte_budget::{Claim, Grant};
use super::request_memory::{Class, RequestMemory};
use crate::limits::GATHERED_BYTES_MAX;
use crate::runtime::Socket;

/// One request's place beside the queue of its class.
pub(super) struct Gathering {
    loan: Claim,
    lent: Option<Grant>,
    /// Where the system says that enough of it is here; 0 while it is not asked.
    low_water: usize,
    /// The system does not keep so much for a socket.
    is_refused: bool,
    whole: Claim,
    /// What was here when somebody looked.
    seen_bytes: usize,
}

/// What came of it.
pub(super) enum Gathered {
    /// The socket has room for all of the rest. Something must be received of it, or the peer does not learn of it.
    Room,
    /// All of the rest is here, and this is the memory for the whole request.
    Whole(Grant),
    /// As much of it is here as the system takes in.
    Much,
    /// It will never be whole.
    Never,
    /// The socket failed.
    Failed(io::Error),
}

impl Gathering {
    pub(super) fn new(memory: &RequestMemory, has_asked: bool) -> Gathering {
        Gathering {
            loan: memory.loan(has_asked),
            lent: None,
            low_water: 0,
            is_refused: false,
            whole: memory.claim(Class::Small, false),
            seen_bytes: 0,
        }
    }

    /// Goes on with a request of `frame_bytes`, of which `missing_bytes` are not received. With `much` it ends also when as
    /// much is here as the system takes in.
    pub(super) fn poll<S: Socket>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
        frame_bytes: usize,
        missing_bytes: usize,
        much: bool,
    ) -> Poll<Gathered> {
        if missing_bytes > 0 {
            if self.is_refused || (missing_bytes > GATHERED_BYTES_MAX && !much) {
                return Poll::Pending;
            }
            let wanted_bytes = missing_bytes.min(GATHERED_BYTES_MAX);
            match ready!(self.poll_here(context, socket, wanted_bytes)) {
                Ok(None) => return Poll::Ready(Gathered::Room),
                Ok(Some(here)) if here < wanted_bytes => return Poll::Ready(Gathered::Never),
                Ok(Some(_)) if wanted_bytes < missing_bytes => return Poll::Ready(Gathered::Much),
                Ok(Some(_)) => {}
                Err(error) => return Poll::Ready(Gathered::Failed(error)),
            }
        }
        let mut grant = None;
        ready!(self.whole.poll_take(context, &mut grant, frame_bytes));
        Poll::Ready(Gathered::Whole(grant.expect("it is ready")))
    }

    /// Waits until so much is here and returns how much is; nothing when the socket just got its room.
    fn poll_here<S: Socket>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
        wanted_bytes: usize,
    ) -> Poll<io::Result<Option<usize>>> {
        let is_new = self.lent.is_none();
        if is_new {
            ready!(self.loan.poll_take(context, &mut self.lent, wanted_bytes));
        }
        if self.low_water != wanted_bytes {
            self.low_water = wanted_bytes;
            if socket.set_low_water(wanted_bytes)? < wanted_bytes {
                self.is_refused = true;
                self.end(socket);
                return Poll::Pending;
            }
        }
        if is_new {
            return Poll::Ready(Ok(None));
        }
        socket.poll_here(context, wanted_bytes).map_ok(Some)
    }

    /// True while something is lent and it is the peer's turn.
    pub(super) fn is_waiting_for_peer(&self) -> bool {
        self.lent.is_some() && !self.whole.is_waiting()
    }

    /// Looks how much is here. True when it is more than last time.
    pub(super) fn has_moved<S: Socket>(&mut self, socket: &S) -> bool {
        // A failure is found by whoever receives.
        let here = socket.bytes_here().unwrap_or(0);
        here > std::mem::replace(&mut self.seen_bytes, here)
    }

    /// Gives back what was lent. The socket is as before, except that its receive buffer stays large.
    pub(super) fn end<S: Socket>(&mut self, socket: &S) {
        if self.low_water > 0
            && let Err(error) = socket.set_low_water(1)
        {
            // The peer is gone. Reading says so, if the socket is read.
            tracing::debug!("a low water cannot be taken back: {error}");
        }
        self.low_water = 0;
        self.lent = None;
    }
}
