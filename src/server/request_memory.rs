//! Memory of requests between their first byte and their application, so divided that peers which send a part of a request
//! and fall silent hold nothing that others need.
//!
//! - *small* requests are received without asking: little is here of each. They take their memory when they are whole, and
//!   then wait only for others that are whole. What is here of the others is counted as *arriving*.
//! - larger ones take memory as they arrive. Connections that sent one of such a size before have a share of their own; a
//!   peer that comes anew, however often, finds only the others: one for requests of *usual* size, as producers send them
//!   unless they are told otherwise, and one for those beyond it.
//!
//! A larger one that must wait is received by the system meanwhile, if it is not too large (`gathering`): when it is whole it
//! goes the way of small ones.
//!
//! What is short of memory is told to the registry, which lets go those who hold it and do not go on.

use std::cell::Cell;
use std::rc::Rc;

use super::byte_budget::{ByteBudget, Claim};
use crate::limits::{ARRIVING_BYTES_MIN, FRAME_POOLED_BYTES, LENT_BYTES_MIN, REQUEST_SMALL_BYTES};

/// How a request gets its memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Class {
    /// Up to `REQUEST_SMALL_BYTES`.
    Small,
    /// Larger and up to `FRAME_POOLED_BYTES`, on a connection that sent no such request yet.
    Usual,
    /// Larger still, on a connection that sent no such request yet.
    Large,
    /// Larger than small, on a connection that sent one of its size before.
    Known,
}

impl Class {
    /// The class of a request of `frame_bytes` on a connection that is known up to `known_bytes`.
    pub(super) fn of(frame_bytes: usize, known_bytes: usize) -> Class {
        match frame_bytes {
            bytes if bytes <= REQUEST_SMALL_BYTES => Class::Small,
            bytes if bytes <= known_bytes => Class::Known,
            bytes if bytes <= FRAME_POOLED_BYTES => Class::Usual,
            _ => Class::Large,
        }
    }
}

/// Up to which size a connection is known by a request of `frame_bytes` that came whole.
pub(super) fn known_by(frame_bytes: usize) -> usize {
    match Class::of(frame_bytes, 0) {
        Class::Small => 0,
        Class::Usual => FRAME_POOLED_BYTES,
        Class::Large | Class::Known => usize::MAX,
    }
}

/// What others wait for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Pressure {
    /// Too much is here of small requests that are not whole.
    pub(super) arriving: bool,
    /// A request of usual size waits on a connection that is not known for it.
    pub(super) usual: bool,
    /// A larger one does.
    pub(super) large: bool,
    /// A request waits on a connection that is known for its size.
    pub(super) known: bool,
    /// Memory of unsent answers is waited for, or there is too much of it.
    pub(super) answers: bool,
    /// There are nearly as many connections as there may be.
    pub(super) connections: bool,
}

impl Pressure {
    /// True when anything is short.
    pub(super) fn is_any(self) -> bool {
        self != Pressure::default()
    }
}

/// All memory of one shard's requests.
pub(super) struct RequestMemory {
    small: ByteBudget,
    usual: ByteBudget,
    large: ByteBudget,
    known: ByteBudget,
    /// The system's, not ours.
    lent: ByteBudget,
    arriving: ByteCount,
    arriving_max: usize,
}

impl RequestMemory {
    /// A bound of `bytes_max` for all of it. Beyond it goes one request of each class that is larger than the class's share.
    pub(super) fn new(bytes_max: usize) -> RequestMemory {
        let (quarter, eighth) = ((bytes_max / 4).max(1), (bytes_max / 8).max(1));
        RequestMemory {
            small: ByteBudget::new(quarter),
            usual: ByteBudget::new(eighth),
            large: ByteBudget::new(eighth),
            known: ByteBudget::new(quarter + eighth),
            lent: ByteBudget::new(bytes_max.max(LENT_BYTES_MIN)),
            arriving: ByteCount::default(),
            arriving_max: eighth.max(ARRIVING_BYTES_MIN),
        }
    }

    /// A place to ask from for a request of such a class. Connections that had a request applied before go ahead, except
    /// for small ones: a peer that only ever sends parts of requests never has.
    pub(super) fn claim(&self, class: Class, has_asked: bool) -> Claim {
        claim(self.of(class), has_asked && class != Class::Small)
    }

    /// The same for memory that the system lends to a request which waits for ours.
    pub(super) fn loan(&self, has_asked: bool) -> Claim {
        claim(&self.lent, has_asked)
    }

    /// True when somebody waits for that.
    pub(super) fn is_lent_out(&self) -> bool {
        self.lent.is_contended()
    }

    fn of(&self, class: Class) -> &ByteBudget {
        match class {
            Class::Small => &self.small,
            Class::Usual => &self.usual,
            Class::Large => &self.large,
            Class::Known => &self.known,
        }
    }

    /// A count of what is here of one connection's next request without having been granted.
    pub(super) fn arriving(&self) -> Counted {
        self.arriving.count(0)
    }

    /// Bytes of all requests that are here or granted.
    pub(super) fn bytes_used(&self) -> usize {
        let classes = [&self.small, &self.usual, &self.large, &self.known];
        self.arriving.bytes() + classes.iter().map(|class| class.bytes_used()).sum::<usize>()
    }

    /// True when somebody waits.
    pub(super) fn is_contended(&self) -> bool {
        self.small.is_contended() || self.pressure().is_any()
    }

    /// Who should go on or go.
    pub(super) fn pressure(&self) -> Pressure {
        Pressure {
            arriving: self.arriving.bytes() > self.arriving_max,
            usual: self.usual.is_contended(),
            large: self.large.is_contended(),
            known: self.known.is_contended(),
            ..Pressure::default()
        }
    }
}

fn claim(budget: &ByteBudget, has_asked: bool) -> Claim {
    if has_asked { budget.claim_ahead() } else { budget.claim() }
}

/// A sum of bytes over all connections of a shard. Every clone is the same one.
#[derive(Clone, Default)]
pub(super) struct ByteCount {
    sum: Rc<Cell<usize>>,
}

impl ByteCount {
    /// The sum.
    pub(super) fn bytes(&self) -> usize {
        self.sum.get()
    }

    /// Adds a part of it.
    pub(super) fn count(&self, bytes: usize) -> Counted {
        let mut counted = Counted { count: self.clone(), bytes: 0 };
        counted.set(bytes);
        counted
    }
}

/// A part of the sum, until it is dropped.
pub(super) struct Counted {
    count: ByteCount,
    bytes: usize,
}

impl Counted {
    /// How much it is.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// So much it is now.
    pub(super) fn set(&mut self, bytes: usize) {
        let sum = &self.count.sum;
        sum.set(sum.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::byte_budget::Grant;
    use std::task::{Context, Waker};

    fn take(claim: &mut Claim, bytes: usize) -> Option<Grant> {
        let mut grant = None;
        let _ = claim.poll_take(&mut Context::from_waker(Waker::noop()), &mut grant, bytes);
        grant
    }

    #[test]
    fn half_sent_requests_leave_room_for_small_ones_and_for_known_connections() {
        let memory = RequestMemory::new(32 << 20);
        let mut held = Vec::new();
        let mut waiting: Vec<Claim> = Vec::new();
        for _ in 0..1000 {
            let mut claim = memory.claim(Class::of(20 << 20, known_by(1 << 20)), true);
            held.extend(take(&mut claim, 2 << 20));
            waiting.push(claim);
        }
        assert_eq!(memory.pressure(), Pressure { large: true, ..Pressure::default() });
        for (bytes, known_bytes) in [(64 << 10, 0), (1 << 20, 0), (1 << 20, known_by(70_000)), (20 << 20, usize::MAX)] {
            let taken = take(&mut memory.claim(Class::of(bytes, known_bytes), false), bytes);
            assert!(taken.is_some(), "{bytes} bytes, known up to {known_bytes}");
        }
        assert!(memory.bytes_used() <= 32 << 20);
    }

    #[test]
    fn a_connection_is_known_for_the_sizes_that_it_sent_whole() {
        let (small, usual, large) = (64 << 10, 1 << 20, 100 << 20);
        assert_eq!([small, usual, large].map(|bytes| Class::of(bytes, 0)), [Class::Small, Class::Usual, Class::Large]);
        assert_eq!(Class::of(usual, known_by(small)), Class::Usual);
        assert_eq!([usual, large].map(|bytes| Class::of(bytes, known_by(70_000))), [Class::Known, Class::Large]);
        assert_eq!(
            [small, usual, large].map(|bytes| Class::of(bytes, known_by(2 << 20))),
            [Class::Small, Class::Known, Class::Known]
        );
    }

    #[test]
    fn what_is_here_of_small_requests_is_counted_until_it_is_gone() {
        let memory = RequestMemory::new(32 << 20);
        let mut many: Vec<Counted> = (0..100).map(|_| memory.arriving()).collect();
        many.iter_mut().for_each(|arriving| arriving.set(40_000));
        assert!(!memory.pressure().is_any());
        many.iter_mut().for_each(|arriving| arriving.set(60_000));
        assert!(memory.pressure().arriving);
        many.truncate(1);
        assert!(!memory.pressure().is_any());
        assert_eq!(memory.bytes_used(), 60_000);
    }
}
