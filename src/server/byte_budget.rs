//! A shard's bound on bytes of requests that are received and not yet applied.
//!
//! One core only. Grants are in order of asking, so a large request is not starved by small ones. A grant larger than the
//! whole budget is given when nothing else is out, so that every request of an allowed size passes in the end.
//!
//! Invariant: bytes out never exceed the greater of the bound and one grant.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The budget. Every clone is the same one.
#[derive(Clone)]
pub struct ByteBudget {
    inner: Rc<Inner>,
}

struct Inner {
    bytes_max: usize,
    bytes_used: Cell<usize>,
    /// Who waits, in order of asking. At most one entry per [`Claim`].
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    next_ticket: Cell<u64>,
}

impl ByteBudget {
    /// A budget of `bytes_max`.
    pub fn new(bytes_max: usize) -> ByteBudget {
        assert!(bytes_max > 0);
        let inner = Inner {
            bytes_max,
            bytes_used: Cell::new(0),
            waiting: RefCell::new(VecDeque::new()),
            next_ticket: Cell::new(0),
        };
        ByteBudget { inner: Rc::new(inner) }
    }

    /// Bytes granted and not returned.
    pub fn bytes_used(&self) -> usize {
        self.inner.bytes_used.get()
    }

    /// True when somebody waits.
    pub fn is_contended(&self) -> bool {
        !self.inner.waiting.borrow().is_empty()
    }

    /// A place to ask from, for one grant at a time.
    pub fn claim(&self) -> Claim {
        Claim { budget: self.clone(), ticket: None }
    }
}

impl Inner {
    fn fits(&self, bytes: usize) -> bool {
        let used = self.bytes_used.get();
        used == 0 || used.saturating_add(bytes) <= self.bytes_max
    }

    fn wake_first(&self) {
        if let Some((_, waker)) = self.waiting.borrow().front() {
            waker.wake_by_ref();
        }
    }
}

/// One asker's place in the queue. Dropping it gives the place up.
pub struct Claim {
    budget: ByteBudget,
    ticket: Option<u64>,
}

impl Claim {
    /// Takes `bytes`, or waits in the queue. The same number must be asked for until it is granted.
    pub fn poll_take(&mut self, context: &mut Context<'_>, bytes: usize) -> Poll<Grant> {
        let inner = &self.budget.inner;
        let mut waiting = inner.waiting.borrow_mut();
        let is_first = waiting.front().is_none_or(|(ticket, _)| Some(*ticket) == self.ticket);
        if is_first && inner.fits(bytes) {
            if self.ticket.take().is_some() {
                waiting.pop_front();
            }
            drop(waiting);
            inner.bytes_used.set(inner.bytes_used.get() + bytes);
            // What is left may be enough for the next.
            inner.wake_first();
            return Poll::Ready(Grant { budget: self.budget.clone(), bytes });
        }
        match self.ticket {
            Some(own) => {
                let place = waiting.iter_mut().find(|(ticket, _)| *ticket == own);
                let (_, waker) = place.expect("a ticket is in the queue until it is granted");
                waker.clone_from(context.waker());
            }
            None => {
                let ticket = inner.next_ticket.get();
                inner.next_ticket.set(ticket + 1);
                waiting.push_back((ticket, context.waker().clone()));
                self.ticket = Some(ticket);
            }
        }
        Poll::Pending
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(own) = self.ticket {
            self.budget.inner.waiting.borrow_mut().retain(|(ticket, _)| *ticket != own);
            self.budget.inner.wake_first();
        }
    }
}

/// Bytes taken from the budget, returned when dropped.
pub struct Grant {
    budget: ByteBudget,
    bytes: usize,
}

impl Drop for Grant {
    fn drop(&mut self) {
        let inner = &self.budget.inner;
        inner.bytes_used.set(inner.bytes_used.get() - self.bytes);
        inner.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(claim: &mut Claim, bytes: usize) -> Option<Grant> {
        match claim.poll_take(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(grant) => Some(grant),
            Poll::Pending => None,
        }
    }

    #[test]
    fn grants_end_at_the_bound_and_return_when_dropped() {
        let budget = ByteBudget::new(100);
        let (mut one, mut two) = (budget.claim(), budget.claim());
        let grant = take(&mut one, 60).unwrap();
        assert!(take(&mut two, 50).is_none());
        assert!(budget.is_contended());
        drop(grant);
        let _grant = take(&mut two, 50).unwrap();
        assert_eq!(budget.bytes_used(), 50);
        assert!(!budget.is_contended());
    }

    #[test]
    fn a_small_request_does_not_overtake_a_large_one() {
        let budget = ByteBudget::new(100);
        let (mut one, mut large, mut small) = (budget.claim(), budget.claim(), budget.claim());
        let grant = take(&mut one, 60).unwrap();
        assert!(take(&mut large, 100).is_none());
        assert!(take(&mut small, 1).is_none());
        drop(grant);
        assert!(take(&mut small, 1).is_none());
        let grant = take(&mut large, 100).unwrap();
        assert!(take(&mut small, 1).is_none());
        drop(grant);
        assert!(take(&mut small, 1).is_some());
    }

    #[test]
    fn a_request_above_the_whole_budget_passes_alone() {
        let budget = ByteBudget::new(100);
        let (mut one, mut huge) = (budget.claim(), budget.claim());
        let grant = take(&mut one, 1).unwrap();
        assert!(take(&mut huge, 1000).is_none());
        drop(grant);
        assert!(take(&mut huge, 1000).is_some());
    }

    #[test]
    fn who_gives_up_waiting_lets_the_next_pass() {
        let budget = ByteBudget::new(100);
        let (mut one, mut large, mut small) = (budget.claim(), budget.claim(), budget.claim());
        let _grant = take(&mut one, 60).unwrap();
        assert!(take(&mut large, 100).is_none());
        assert!(take(&mut small, 1).is_none());
        drop(large);
        assert!(take(&mut small, 1).is_some());
    }
}
