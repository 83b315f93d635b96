//! The lanes between shards: bounded queues into each shard, and one-shot replies out of it.
//!
//! The only thing that two cores share on the way of a request. A lane carries requests; a reply has a slot of its own
//! that never blocks its sender, so lanes cannot deadlock. Values that cross are in `shard::message` and nowhere else.
//!
//! A lane is a mutex around a queue and the wakers of both sides. The lock is held for a push or a pop; the price of a
//! crossing is the wake-up of a sleeping core (tens of microseconds), not the lock.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use crate::limits::{LANE_BYTES_MAX, LANE_MESSAGES_MAX};

/// A bounded queue into one shard. Any core sends, one task of the owning shard receives.
#[derive(Debug)]
pub struct Lane<T> {
    state: Mutex<LaneState<T>>,
}

#[derive(Debug)]
struct LaneState<T> {
    /// Each message with the bytes that it counts for.
    queue: VecDeque<(T, usize)>,
    /// Their sum.
    queued_bytes: usize,
    receiver: Option<Waker>,
    senders: VecDeque<Waker>,
    closed: bool,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        let state = LaneState {
            queue: VecDeque::new(),
            queued_bytes: 0,
            receiver: None,
            senders: VecDeque::new(),
            closed: false,
        };
        Lane { state: Mutex::new(state) }
    }
}

impl<T> Lane<T> {
    fn lock(&self) -> MutexGuard<'_, LaneState<T>> {
        self.state.lock().expect("a panic stops the process, so no lock is ever poisoned")
    }

    /// Queues a message, waiting while the lane is full. Gives it back when the receiving shard has shut down.
    pub async fn send(&self, message: T) -> Result<(), T> {
        self.send_with_bytes(message, 0).await
    }

    /// As [`Lane::send`], of a message that carries so many bytes of a request: the sender's shard counts them until they are
    /// queued, and a lane holds at most [`LANE_BYTES_MAX`] of them, or one message.
    pub async fn send_with_bytes(&self, message: T, bytes: usize) -> Result<(), T> {
        let mut message = Some(message);
        poll_fn(|cx| {
            let mut state = self.lock();
            let taken = message.take().expect("polled after completion");
            if state.closed {
                return Poll::Ready(Err(taken));
            }
            let is_heavy = !state.queue.is_empty() && state.queued_bytes.saturating_add(bytes) > LANE_BYTES_MAX;
            if state.queue.len() >= LANE_MESSAGES_MAX || is_heavy {
                message = Some(taken);
                if !state.senders.iter().any(|waker| waker.will_wake(cx.waker())) {
                    state.senders.push_back(cx.waker().clone());
                }
                return Poll::Pending;
            }
            state.queue.push_back((taken, bytes));
            state.queued_bytes += bytes;
            let receiver = state.receiver.take();
            drop(state);
            if let Some(waker) = receiver {
                waker.wake();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// The next message, in the order they were queued; `None` once the lane is closed and empty.
    pub async fn receive(&self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if let Some((message, bytes)) = state.queue.pop_front() {
                state.queued_bytes -= bytes;
                // All of them: one who waits for more room than there is, or has given up, must not keep the others.
                let senders = std::mem::take(&mut state.senders);
                drop(state);
                senders.into_iter().for_each(Waker::wake);
                return Poll::Ready(Some(message));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.receiver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Lets go of what is queued, for a receiver that will never receive: whoever waits for a reply learns that none comes.
    pub fn abandon(&self) {
        self.close();
        let mut state = self.lock();
        let abandoned = std::mem::take(&mut state.queue);
        state.queued_bytes = 0;
        drop(state);
        // Dropped without the lock, since dropping a reply slot wakes its receiver.
        drop(abandoned);
    }

    /// Refuses new messages and wakes both sides.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let wakers: Vec<Waker> = state.senders.drain(..).collect();
        let receiver = state.receiver.take();
        drop(state);
        wakers.into_iter().chain(receiver).for_each(Waker::wake);
    }
}

/// Makes the two ends of a one-shot reply.
pub fn reply_slot<T>() -> (ReplySender<T>, ReplyReceiver<T>) {
    let slot = Arc::new(Mutex::new(SlotState { value: None, receiver: None, sender_gone: false }));
    (ReplySender { slot: Arc::clone(&slot) }, ReplyReceiver { slot })
}

#[derive(Debug)]
struct SlotState<T> {
    value: Option<T>,
    receiver: Option<Waker>,
    sender_gone: bool,
}

/// Sends one reply, never waits. Dropped without sending, it tells the receiver so.
#[derive(Debug)]
pub struct ReplySender<T> {
    slot: Arc<Mutex<SlotState<T>>>,
}

impl<T> ReplySender<T> {
    /// Hands the reply over. If nobody waits any more it is dropped.
    pub fn send(self, value: T) {
        self.slot.lock().expect("a panic stops the process").value = Some(value);
    }
}

impl<T> Drop for ReplySender<T> {
    fn drop(&mut self) {
        let mut state = self.slot.lock().expect("a panic stops the process");
        state.sender_gone = true;
        let receiver = state.receiver.take();
        drop(state);
        if let Some(waker) = receiver {
            waker.wake();
        }
    }
}

/// Waits for one reply.
#[derive(Debug)]
pub struct ReplyReceiver<T> {
    slot: Arc<Mutex<SlotState<T>>>,
}

impl<T> ReplyReceiver<T> {
    /// The reply; `None` when the other shard shut down before it answered.
    pub async fn receive(self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = self.slot.lock().expect("a panic stops the process");
            if let Some(value) = state.value.take() {
                return Poll::Ready(Some(value));
            }
            if state.sender_gone {
                return Poll::Ready(None);
            }
            state.receiver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_full_lane_makes_the_sender_wait() {
        let lane = Lane::default();
        for i in 0..LANE_MESSAGES_MAX {
            assert!(matches!(poll_once(pin!(lane.send(i))), Poll::Ready(Ok(()))));
        }
        let mut late = pin!(lane.send(usize::MAX));
        assert!(poll_once(late.as_mut()).is_pending());
        assert_eq!(poll_once(pin!(lane.receive())), Poll::Ready(Some(0)));
        assert!(poll_once(late.as_mut()).is_ready());
    }

    /// A shard whose disk was slow had a thousand requests of a mebibyte each in its lane, which nobody counted.
    #[test]
    fn a_lane_full_of_bytes_makes_the_sender_wait_and_nobody_is_forgotten() {
        let lane = Lane::default();
        let half = LANE_BYTES_MAX / 2;
        let send = |number, bytes| poll_once(pin!(lane.send_with_bytes(number, bytes))).is_ready();
        assert!(send(1, half) && send(2, half) && send(3, 0));
        let mut large = pin!(lane.send_with_bytes(4, 10 * LANE_BYTES_MAX));
        let mut small = pin!(lane.send_with_bytes(5, half));
        assert!(poll_once(large.as_mut()).is_pending() && poll_once(small.as_mut()).is_pending());
        assert_eq!(poll_once(pin!(lane.receive())), Poll::Ready(Some(1)));
        assert!(lane.lock().senders.is_empty(), "each was woken");
        assert!(poll_once(large.as_mut()).is_pending());
        assert!(poll_once(small.as_mut()).is_ready());
        for number in [2, 3, 5] {
            assert!(poll_once(large.as_mut()).is_pending());
            assert_eq!(poll_once(pin!(lane.receive())), Poll::Ready(Some(number)));
        }
        assert!(poll_once(large.as_mut()).is_ready(), "one message is never too much");
        assert_eq!(poll_once(pin!(lane.receive())), Poll::Ready(Some(4)));
        assert_eq!(lane.lock().queued_bytes, 0);
    }

    #[test]
    fn a_closed_lane_gives_the_message_back() {
        let lane = Lane::default();
        lane.close();
        assert_eq!(poll_once(pin!(lane.send(7))), Poll::Ready(Err(7)));
        assert_eq!(poll_once(pin!(lane.receive())), Poll::Ready(None));
    }

    /// A shard that could not start left what had been sent to it in its lane, and shard 0 waited for the reply for ever.
    #[test]
    fn an_abandoned_lane_answers_nobody_and_keeps_nobody_waiting() {
        let lane = Lane::default();
        let (sender, receiver) = reply_slot::<u8>();
        assert!(matches!(poll_once(pin!(lane.send(sender))), Poll::Ready(Ok(()))));
        let mut wait = pin!(receiver.receive());
        lane.close();
        assert!(poll_once(wait.as_mut()).is_pending());
        lane.abandon();
        assert_eq!(poll_once(wait.as_mut()), Poll::Ready(None));
    }

    #[test]
    fn a_dropped_reply_is_noticed() {
        let (sender, receiver) = reply_slot::<u8>();
        let mut wait = pin!(receiver.receive());
        assert!(poll_once(wait.as_mut()).is_pending());
        drop(sender);
        assert_eq!(poll_once(wait.as_mut()), Poll::Ready(None));
    }
}
