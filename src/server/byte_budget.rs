//! A shard's bound on bytes of requests that are received and not yet applied.
//!
//! One core only. A request takes its bytes as they arrive, not as they are announced: a peer that announces much and sends
//! little holds little. So several requests that are half here can fill the budget together, and none could go on; the
//! first of those to ask is then let beyond the bound, one at a time.
//!
//! Grants are in order of asking: first requests that hold something already, then new ones. Of these some go ahead of the
//! others, which have every fourth turn all the same. A large request is not overtaken by small ones of its rank.
//!
//! Invariant: bytes out never exceed the bound by more than one request.

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
    /// True while a grant beyond the bound is out.
    is_overdrawn: Cell<bool>,
    waiting: RefCell<Waiting>,
    next_ticket: Cell<u64>,
}

/// Who waits, in order of asking. At most one entry per [`Claim`].
#[derive(Default)]
struct Waiting {
    /// Those that hold a grant and need more.
    growing: VecDeque<(u64, Waker)>,
    /// Those that hold nothing and go ahead of the others.
    ahead: VecDeque<(u64, Waker)>,
    /// Those that hold nothing.
    new: VecDeque<(u64, Waker)>,
    /// Grants to those that held nothing.
    turns: u64,
}

/// One turn in so many is of those that do not go ahead.
const TURNS_OF_NEW: u64 = 4;

/// In which of the queues somebody waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rank {
    Growing,
    Ahead,
    New,
}

impl ByteBudget {
    /// A budget of `bytes_max`.
    pub fn new(bytes_max: usize) -> ByteBudget {
        assert!(bytes_max > 0);
        let inner = Inner {
            bytes_max,
            bytes_used: Cell::new(0),
            is_overdrawn: Cell::new(false),
            waiting: RefCell::default(),
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
        self.inner.waiting.borrow().first().is_some()
    }

    /// A place to ask from, for one grant at a time.
    pub fn claim(&self) -> Claim {
        Claim { budget: self.clone(), ticket: None, is_ahead: false }
    }

    /// The same, ahead of most of those.
    pub fn claim_ahead(&self) -> Claim {
        Claim { budget: self.clone(), ticket: None, is_ahead: true }
    }
}

impl Waiting {
    /// Whose turn it is.
    fn first(&self) -> Option<&(u64, Waker)> {
        let (ahead, new) = (self.ahead.front(), self.new.front());
        let of_new = if self.is_turn_of_new() { new.or(ahead) } else { ahead.or(new) };
        self.growing.front().or(of_new)
    }

    fn is_turn_of_new(&self) -> bool {
        self.turns % TURNS_OF_NEW == TURNS_OF_NEW - 1
    }

    /// Whether it is the turn of one with this ticket, or with none yet, who comes behind all of its rank.
    fn is_turn_of(&self, rank: Rank, ticket: Option<u64>) -> bool {
        let (queue, is_others) = match rank {
            Rank::Growing => (&self.growing, false),
            Rank::Ahead => (&self.ahead, self.is_turn_of_new() && !self.new.is_empty()),
            Rank::New => (&self.new, !self.is_turn_of_new() && !self.ahead.is_empty()),
        };
        let is_behind_growing = rank != Rank::Growing && !self.growing.is_empty();
        let is_first = queue.front().is_none_or(|(first, _)| Some(*first) == ticket);
        is_first && !is_others && !is_behind_growing
    }

    fn queue(&mut self, rank: Rank) -> &mut VecDeque<(u64, Waker)> {
        match rank {
            Rank::Growing => &mut self.growing,
            Rank::Ahead => &mut self.ahead,
            Rank::New => &mut self.new,
        }
    }

    fn remove(&mut self, ticket: u64) {
        self.growing.retain(|(other, _)| *other != ticket);
        self.ahead.retain(|(other, _)| *other != ticket);
        self.new.retain(|(other, _)| *other != ticket);
    }
}

impl Inner {
    fn wake_first(&self) {
        let first = self.waiting.borrow().first().map(|(_, waker)| waker.clone());
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

/// One asker's place in the queue. Dropping it gives the place up.
pub struct Claim {
    budget: ByteBudget,
    ticket: Option<u64>,
    is_ahead: bool,
}

impl Claim {
    /// True while it waits.
    pub fn is_waiting(&self) -> bool {
        self.ticket.is_some()
    }

    /// Makes `grant` one of at least `bytes`, or waits in the queue for what is missing.
    pub fn poll_take(&mut self, context: &mut Context<'_>, grant: &mut Option<Grant>, bytes: usize) -> Poll<()> {
        let held = grant.as_ref().map_or(0, |grant| grant.bytes);
        if held >= bytes {
            return Poll::Ready(());
        }
        let inner = &self.budget.inner;
        let mut waiting = inner.waiting.borrow_mut();
        let is_growing = grant.is_some();
        let rank = match (is_growing, self.is_ahead) {
            (true, _) => Rank::Growing,
            (false, true) => Rank::Ahead,
            (false, false) => Rank::New,
        };
        let is_first = waiting.is_turn_of(rank, self.ticket);
        let others = inner.bytes_used.get() - held;
        let fits = others == 0 || others.saturating_add(bytes) <= inner.bytes_max;
        // The one that is beyond the bound goes on ahead of all: they wait for it to end.
        let is_overdraft = grant.as_ref().is_some_and(|grant| grant.is_overdraft);
        let may_overdraw = is_growing && !inner.is_overdrawn.get();
        if is_overdraft || is_first && (fits || may_overdraw) {
            if let Some(ticket) = self.ticket.take() {
                waiting.remove(ticket);
            }
            waiting.turns += u64::from(!is_growing);
            drop(waiting);
            inner.bytes_used.set(others + bytes);
            let grant =
                grant.get_or_insert_with(|| Grant { budget: self.budget.clone(), bytes: 0, is_overdraft: false });
            grant.bytes = bytes;
            if !fits {
                grant.is_overdraft = true;
                inner.is_overdrawn.set(true);
            }
            // What is left may be enough for the next.
            inner.wake_first();
            return Poll::Ready(());
        }
        let ticket = *self.ticket.get_or_insert_with(|| {
            let ticket = inner.next_ticket.get();
            inner.next_ticket.set(ticket + 1);
            ticket
        });
        let queue = waiting.queue(rank);
        match queue.iter_mut().find(|(other, _)| *other == ticket) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => queue.push_back((ticket, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.budget.inner.waiting.borrow_mut().remove(ticket);
            self.budget.inner.wake_first();
        }
    }
}

/// Bytes taken from the budget, returned when dropped.
pub struct Grant {
    budget: ByteBudget,
    bytes: usize,
    is_overdraft: bool,
}

impl Grant {
    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let inner = &self.budget.inner;
        inner.bytes_used.set(inner.bytes_used.get() - self.bytes);
        if self.is_overdraft {
            inner.is_overdrawn.set(false);
        }
        inner.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for one grant of `bytes`.
    fn take(claim: &mut Claim, bytes: usize) -> Option<Grant> {
        let mut grant = None;
        let _ = claim.poll_take(&mut Context::from_waker(Waker::noop()), &mut grant, bytes);
        grant
    }

    /// Asks for more; true when it was granted.
    fn grow(claim: &mut Claim, grant: &mut Option<Grant>, bytes: usize) -> bool {
        claim.poll_take(&mut Context::from_waker(Waker::noop()), grant, bytes).is_ready()
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
    fn who_may_go_ahead_overtakes_those_that_hold_nothing_three_times_in_four() {
        let budget = ByteBudget::new(100);
        let mut holder = budget.claim();
        let mut grant = take(&mut holder, 100);
        let mut new: Vec<Claim> = (0..4).map(|_| budget.claim()).collect();
        let mut ahead: Vec<Claim> = (0..8).map(|_| budget.claim_ahead()).collect();
        for claim in new.iter_mut().chain(&mut ahead) {
            assert!(take(claim, 100).is_none());
        }
        let mut order = String::new();
        while !(new.is_empty() && ahead.is_empty()) {
            drop(grant.take());
            for (queue, name) in [(&mut new, 'n'), (&mut ahead, 'a')] {
                if grant.is_some() {
                    continue;
                }
                // All others try too, and none of them may.
                assert!(queue.iter_mut().skip(1).all(|claim| take(claim, 100).is_none()));
                if let Some(first) = queue.first_mut() {
                    grant = take(first, 100);
                }
                if grant.is_some() {
                    queue.remove(0);
                    order.push(name);
                }
            }
            assert!(grant.is_some(), "nobody goes on: {order}");
            assert!(take(&mut budget.claim_ahead(), 1).is_none() && take(&mut budget.claim(), 1).is_none());
        }
        assert_eq!(order, "aanaaanaaann");
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

    #[test]
    fn requests_that_fill_the_budget_together_go_on_one_at_a_time() {
        let budget = ByteBudget::new(100);
        let (mut one, mut two, mut new) = (budget.claim(), budget.claim(), budget.claim());
        let (mut first, mut second) = (take(&mut one, 50), take(&mut two, 50));
        assert!(take(&mut new, 1).is_none());
        // Neither fits any more: the first that asks is let beyond the bound, the second waits for it.
        assert!(grow(&mut one, &mut first, 80));
        assert!(!grow(&mut two, &mut second, 60));
        assert!(grow(&mut one, &mut first, 90));
        assert_eq!(budget.bytes_used(), 140);
        drop(first);
        assert!(take(&mut new, 1).is_none(), "a new request overtook one that is half here");
        assert!(grow(&mut two, &mut second, 60));
        assert!(take(&mut new, 1).is_some());
        drop(second);
        assert_eq!(budget.bytes_used(), 0);
    }

    #[test]
    fn the_bound_is_exceeded_by_one_request_at_most() {
        let budget = ByteBudget::new(100);
        let mut claims: Vec<Claim> = (0..10).map(|_| budget.claim()).collect();
        let mut grants: Vec<Option<Grant>> = claims.iter_mut().map(|claim| take(claim, 10)).collect();
        let grown = (0..10).filter(|index| grow(&mut claims[*index], &mut grants[*index], 1000)).count();
        assert_eq!(grown, 1);
        assert!(budget.bytes_used() <= 100 + 1000);
    }
}
