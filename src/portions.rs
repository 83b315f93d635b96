//! A bounded amount of something, memory or turns, that tasks of one core take portions of, in order of asking.
//!
//! Nobody overtakes one who waits, so a large portion is not starved by small ones. A portion above the whole amount is given
//! out alone. Invariant: what is out exceeds the amount only by one such portion, or by what portions were resized to.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The whole amount. Every clone is the same one.
#[derive(Clone)]
pub struct Portions {
    inner: Rc<Inner>,
}

struct Inner {
    amount: usize,
    taken: Cell<usize>,
    /// Who waits, in order of asking.
    waiting: RefCell<VecDeque<(u64, Waker)>>,
    next_ticket: Cell<u64>,
}

impl Portions {
    /// `amount`, none of it taken.
    pub fn new(amount: usize) -> Portions {
        assert!(amount > 0);
        let inner = Inner { amount, taken: Cell::new(0), waiting: RefCell::default(), next_ticket: Cell::new(0) };
        Portions { inner: Rc::new(inner) }
    }

    /// All there is.
    pub fn amount(&self) -> usize {
        self.inner.amount
    }

    /// What is out.
    pub fn taken(&self) -> usize {
        self.inner.taken.get()
    }

    /// True while somebody waits.
    pub fn is_contended(&self) -> bool {
        !self.inner.waiting.borrow().is_empty()
    }

    /// A portion of `amount`, if it is there and nobody waits.
    pub fn try_take(&self, amount: usize) -> Option<Portion> {
        (!self.is_contended() && self.inner.has(amount)).then(|| self.inner.give(amount))
    }

    /// Waits for a portion of `amount`. Dropping the future gives the place in the queue up.
    pub async fn take(&self, amount: usize) -> Portion {
        let mut place = Place { inner: Rc::clone(&self.inner), ticket: None };
        poll_fn(|context| place.poll(context, amount)).await
    }
}

impl Inner {
    fn has(&self, amount: usize) -> bool {
        self.taken.get() == 0 || self.taken.get().saturating_add(amount) <= self.amount
    }

    fn give(self: &Rc<Self>, amount: usize) -> Portion {
        self.taken.set(self.taken.get() + amount);
        Portion { inner: Rc::clone(self), amount }
    }

    fn wake_first(&self) {
        // Cloned, so that no borrow is held while foreign code runs.
        let first = self.waiting.borrow().front().map(|(_, waker)| waker.clone());
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

/// One asker's place in the queue, once it had to wait.
struct Place {
    inner: Rc<Inner>,
    ticket: Option<u64>,
}

impl Place {
    fn poll(&mut self, context: &mut Context<'_>, amount: usize) -> Poll<Portion> {
        let inner = Rc::clone(&self.inner);
        let mut waiting = inner.waiting.borrow_mut();
        let is_first = waiting.front().is_none_or(|(ticket, _)| Some(*ticket) == self.ticket);
        if is_first && inner.has(amount) {
            if self.ticket.take().is_some() {
                waiting.pop_front();
            }
            drop(waiting);
            let portion = inner.give(amount);
            // What is left may be enough for the next.
            inner.wake_first();
            return Poll::Ready(portion);
        }
        match self.ticket {
            Some(ticket) => {
                let entry = waiting.iter_mut().find(|(other, _)| *other == ticket);
                entry.expect("who has a ticket is in the queue").1.clone_from(context.waker());
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

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.inner.waiting.borrow_mut().retain(|(other, _)| *other != ticket);
            self.inner.wake_first();
        }
    }
}

/// A part of the amount, given back when dropped.
pub struct Portion {
    inner: Rc<Inner>,
    amount: usize,
}

impl Portion {
    /// How much.
    pub fn amount(&self) -> usize {
        self.amount
    }

    /// Makes it what it turned out to be, more or less than what was asked for.
    pub fn resize(&mut self, amount: usize) {
        let is_less = amount < self.amount;
        self.inner.taken.set(self.inner.taken.get() - self.amount + amount);
        self.amount = amount;
        if is_less {
            self.inner.wake_first();
        }
    }
}

impl fmt::Debug for Portion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Portion({})", self.amount)
    }
}

impl fmt::Debug for Portions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Portions({} of {})", self.taken(), self.inner.amount)
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.inner.taken.set(self.inner.taken.get() - self.amount);
        self.inner.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;

    type Asking = Pin<Box<dyn Future<Output = Portion>>>;

    fn ask(portions: &Portions, amount: usize) -> Asking {
        let portions = portions.clone();
        Box::pin(async move { portions.take(amount).await })
    }

    fn poll(asking: &mut Asking) -> Option<Portion> {
        match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(portion) => Some(portion),
            Poll::Pending => None,
        }
    }

    #[test]
    fn portions_are_given_in_order_of_asking_and_never_beyond_the_amount() {
        let portions = Portions::new(100);
        let first = portions.try_take(60).unwrap();
        let (mut large, mut small) = (ask(&portions, 90), ask(&portions, 10));
        assert!(poll(&mut large).is_none() && poll(&mut small).is_none());
        assert!(portions.is_contended());
        assert!(portions.try_take(1).is_none(), "nobody overtakes who waits");
        drop(first);
        assert!(poll(&mut small).is_none(), "the small one overtook the large one");
        let large = poll(&mut large).unwrap();
        let small = poll(&mut small).unwrap();
        assert_eq!((large.amount(), small.amount(), portions.taken()), (90, 10, 100));
        drop((large, small));
        assert_eq!(portions.taken(), 0);
    }

    #[test]
    fn a_portion_above_the_whole_is_given_alone() {
        let portions = Portions::new(100);
        let one = portions.try_take(1).unwrap();
        let (mut huge, mut next) = (ask(&portions, 1000), ask(&portions, 1));
        assert!(poll(&mut huge).is_none() && poll(&mut next).is_none());
        drop(one);
        let huge = poll(&mut huge).unwrap();
        assert!(poll(&mut next).is_none());
        drop(huge);
        assert!(poll(&mut next).is_some());
    }

    #[test]
    fn who_gives_up_lets_the_next_pass() {
        let portions = Portions::new(100);
        let _first = portions.try_take(60).unwrap();
        let (mut large, mut small) = (ask(&portions, 90), ask(&portions, 40));
        assert!(poll(&mut large).is_none() && poll(&mut small).is_none());
        drop(large);
        assert!(poll(&mut small).is_some());
    }

    #[test]
    fn what_turns_out_smaller_makes_room_for_others() {
        let portions = Portions::new(100);
        let mut first = portions.try_take(100).unwrap();
        let mut second = ask(&portions, 70);
        assert!(poll(&mut second).is_none());
        first.resize(30);
        let _second = poll(&mut second).unwrap();
        first.resize(50);
        assert_eq!(portions.taken(), 120, "what is there is counted, also beyond the bound");
        assert!(portions.try_take(1).is_none());
    }
}
