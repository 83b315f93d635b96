//! The one timer task of a shard: sleeps until the earliest timer of all its coordinators, or until one comes up before.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::{Seat, State};
use crate::limits::GROUP_TIMER_SLEEP_MS_MAX;
use crate::runtime::Runtime;
use crate::shard::Shard;
use crate::types::MonotonicUs;

impl Seat {
    fn next_timer(&self) -> Option<MonotonicUs> {
        match &*self.state.borrow() {
            State::Serving(coordinator) => coordinator.next_timer(),
            State::Loading | State::Failed(_) => None,
        }
    }
}

impl<R: Runtime> Shard<R> {
    /// Wakes the timer task if the coordinator has something due before it would look.
    pub(super) fn arm(&self, seat: &Seat) {
        let Some(next) = seat.next_timer() else { return };
        if self.coordination.next_timer.get().is_none_or(|planned| next < planned) {
            self.coordination.next_timer.set(Some(next));
            self.coordination.rearmed.ring();
        }
    }

    /// Does what is due in one coordinator. True when there is more.
    fn fire(self: &Rc<Self>, seat: &Rc<Seat>, now: MonotonicUs) -> bool {
        if seat.next_timer().is_none_or(|due| due > now) {
            return false;
        }
        let image = self.image();
        let step = match &mut *seat.state.borrow_mut() {
            State::Serving(coordinator) => coordinator.on_timers(self.context(&image)),
            State::Loading | State::Failed(_) => return false,
        };
        self.absorb_alone(seat, step);
        seat.next_timer().is_some_and(|due| due <= now)
    }
}

/// Starts the task.
pub(super) fn start<R: Runtime>(shard: &Rc<Shard<R>>) {
    let shard = Rc::clone(shard);
    shard.runtime.clone().spawn(async move {
        let coordination = &shard.coordination;
        while !shard.is_stopping() {
            let now = shard.runtime.now();
            for seat in coordination.all_seats() {
                while shard.fire(&seat, now) {
                    shard.runtime.yield_now().await;
                }
            }
            let next = coordination.all_seats().iter().filter_map(|seat| seat.next_timer()).min();
            coordination.next_timer.set(next);
            let wait_us = next.map_or(u64::MAX, |next| next.since_us(shard.runtime.now()));
            let wait_us = wait_us.min(GROUP_TIMER_SLEEP_MS_MAX * 1000);
            if wait_us == 0 {
                shard.runtime.yield_now().await;
                continue;
            }
            let mut sleep = pin!(shard.runtime.sleep(Duration::from_micros(wait_us)));
            let is_earlier = || coordination.next_timer.get() != next || shard.is_stopping();
            let mut rearmed = pin!(coordination.rearmed.until(|| is_earlier().then_some(())));
            poll_fn(|context| match (sleep.as_mut().poll(context), rearmed.as_mut().poll(context)) {
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                _ => Poll::Ready(()),
            })
            .await;
        }
    });
}
