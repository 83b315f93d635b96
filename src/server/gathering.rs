//! A request that waits for memory, while the system takes in the rest of it.
//!
//! A peer that sends a part of a request and falls silent asks for memory like any other, and enough of them make a queue in
//! which nobody else's turn comes. What they never have is all of the request. So the system is lent to a request that
//! waits: its socket may take in the rest of it, up to `GATHERED_BYTES_MAX`. One that is here whole does not wait in that
//! queue any longer, but only for others that are whole. It is received in the same turn of its connection in which its
//! memory is granted, so it holds none while it is anybody's turn but ours. And of one that is larger, so much came that its
//! connection counts as known.
//!
//! How much is lent at once is bounded. While others wait for that too, whoever falls silent is let go soon: little of it is in
//! our memory, and it lost nothing but its place.

use std::io;
use std::task::{Context, Poll, ready};

use super::byte_budget::{Claim, Grant};
use super::request_memory::{Class, RequestMemory};
use crate::limits::{GATHERED_BYTES_MAX, GATHERING_RECEIVES_MAX};
use crate::runtime::{Here, Socket};

/// One request's place beside the queue of its class.
pub(super) struct Gathering {
    loan: Claim,
    lent: Option<Grant>,
    /// The system was asked to say when enough of it is here.
    has_low_water: bool,
    /// What was missing then.
    missing_bytes: usize,
    /// How often something may still be received because the peer has used up its room.
    receives_left: u8,
    /// The system does not keep so much for a socket.
    is_refused: bool,
    whole: Claim,
    /// What was here when somebody looked.
    seen_bytes: usize,
}

/// What came of it.
pub(super) enum Gathered {
    /// The socket has room for more than its peer knows: something must be received. Then comes the next poll.
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
            has_low_water: false,
            missing_bytes: 0,
            receives_left: GATHERING_RECEIVES_MAX,
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
            match ready!(self.poll_here(context, socket, wanted_bytes, missing_bytes)) {
                Ok(None) => return Poll::Ready(Gathered::Room),
                Ok(Some(here)) if here.bytes < wanted_bytes => return Poll::Ready(Gathered::Never),
                Ok(Some(_)) if wanted_bytes < missing_bytes => return Poll::Ready(Gathered::Much),
                Ok(Some(_)) => {}
                Err(error) => return Poll::Ready(Gathered::Failed(error)),
            }
        }
        let mut grant = None;
        ready!(self.whole.poll_take(context, &mut grant, frame_bytes));
        Poll::Ready(Gathered::Whole(grant.expect("it is ready")))
    }

    /// Waits until so much is here, or no more will be. `None` when something must be received for that.
    fn poll_here<S: Socket>(
        &mut self,
        context: &mut Context<'_>,
        socket: &mut S,
        wanted_bytes: usize,
        missing_bytes: usize,
    ) -> Poll<io::Result<Option<Here>>> {
        let is_new = self.lent.is_none();
        if is_new {
            ready!(self.loan.poll_take(context, &mut self.lent, wanted_bytes));
        }
        let was_received = self.missing_bytes != missing_bytes;
        if was_received {
            (self.has_low_water, self.missing_bytes) = (true, missing_bytes);
            // The system counts its own descriptors of segments too, so a buffer for just so much would end short of it.
            let room_bytes = wanted_bytes + wanted_bytes / 5;
            let has_room = !is_new || socket.set_low_water(room_bytes)? == room_bytes;
            if !has_room || socket.set_low_water(wanted_bytes)? < wanted_bytes {
                self.is_refused = true;
                self.end(socket);
                return Poll::Pending;
            }
        }
        if is_new {
            return Poll::Ready(Ok(None));
        }
        loop {
            let here = ready!(socket.poll_here(context))?;
            if here.bytes >= wanted_bytes || here.is_all {
                return Poll::Ready(Ok(Some(here)));
            }
            if !was_received && self.receives_left > 0 {
                // Readable, and not enough: the peer is at the end of the room that it knows of.
                self.receives_left -= 1;
                return Poll::Ready(Ok(None));
            }
            socket.look_away();
        }
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
        if self.has_low_water
            && let Err(error) = socket.set_low_water(1)
        {
            // The peer is gone. Reading says so, if the socket is read.
            tracing::debug!("a low water cannot be taken back: {error}");
        }
        self.has_low_water = false;
        self.lent = None;
    }
}
