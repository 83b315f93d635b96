//! Which sockets of one executor may be read or written again.
//!
//! Sockets are registered with an epoll, once, and the executor's ring waits for the epoll alone. glommio's own way is a
//! poll in the ring per socket and wait: armed anew for every request, and in the way of each cancellation, because the
//! kernel looks for what to cancel among all polls of a ring in a few lists. With 5,000 connections that search was 40 % of
//! the shard's CPU, and a heartbeat cost 130 µs.
//!
//! A socket is *prompt* or *patient*. Prompt ones wake the executor as soon as something is there. News of patient ones
//! waits for company: after the executor has looked at them, it does not look again for [`PATIENT_PAUSE_MS`]. So the first
//! after a silence is seen at once, and where thousands say a little all the time they share their wake-ups.
//!
//! One core only. Registrations are edge-triggered: a socket is told of once, and is ready until a call on it falls short.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use glommio::io::PollableFd;
use glommio::timer::Timer;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use slab::Slab;

use crate::limits::{PATIENT_PAUSE_MS, READY_EVENTS_MAX};

/// All sockets of an executor that is to be told of them.
pub(super) struct Readiness {
    prompt: Rc<Epoll>,
    patient: Rc<Epoll>,
    interests: Rc<RefCell<Slab<Rc<Interest>>>>,
}

impl Readiness {
    /// Makes both epolls of the executor that runs the caller, and starts to wait for them.
    pub(super) fn start() -> io::Result<Readiness> {
        let interests = Rc::default();
        let prompt = Epoll::start(Duration::ZERO, &interests)?;
        let patient = Epoll::start(Duration::from_millis(PATIENT_PAUSE_MS), &interests)?;
        Ok(Readiness { prompt, patient, interests })
    }

    /// Registers a non-blocking socket, promptly. It counts as ready until a call on it says otherwise.
    pub(super) fn register(self: &Rc<Readiness>, socket: OwnedFd) -> io::Result<Registered> {
        let interest = Rc::new(Interest::new());
        let key = self.interests.borrow_mut().insert(Rc::clone(&interest));
        if let Err(error) = self.prompt.add(socket.as_fd(), key) {
            self.interests.borrow_mut().remove(key);
            return Err(error);
        }
        Ok(Registered { readiness: Rc::clone(self), interest, key, socket, is_patient: Cell::new(false) })
    }
}

/// A socket with its registration. Dropping it ends the registration and closes the socket.
pub(super) struct Registered {
    readiness: Rc<Readiness>,
    interest: Rc<Interest>,
    key: usize,
    socket: OwnedFd,
    is_patient: Cell<bool>,
}

impl Registered {
    /// What is known of the socket.
    pub(super) fn interest(&self) -> &Interest {
        &self.interest
    }

    /// Lets news of it wait for company, or no longer. On an error it stays as it was.
    pub(super) fn set_patient(&self, is_patient: bool) -> io::Result<()> {
        if self.is_patient.get() == is_patient {
            return Ok(());
        }
        let (from, to) = match is_patient {
            true => (&self.readiness.prompt, &self.readiness.patient),
            false => (&self.readiness.patient, &self.readiness.prompt),
        };
        // What is there already is news to the other epoll, so nothing is lost in between.
        to.add(self.as_fd(), self.key)?;
        from.remove(self.as_fd());
        self.is_patient.set(is_patient);
        Ok(())
    }
}

impl AsFd for Registered {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        // Closing it is not enough: a child process holds a copy of it between fork and exec.
        let epoll = if self.is_patient.get() { &self.readiness.patient } else { &self.readiness.prompt };
        epoll.remove(self.as_fd());
        self.readiness.interests.borrow_mut().remove(self.key);
    }
}

/// What is known of one socket, and the task that waits for it.
pub(super) struct Interest {
    is_readable: Cell<bool>,
    is_writable: Cell<bool>,
    /// The peer will send no more, or the connection failed: reading never waits again.
    is_hung_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Interest {
    fn new() -> Interest {
        Interest {
            is_readable: Cell::new(true),
            is_writable: Cell::new(true),
            is_hung_up: Cell::new(false),
            waker: RefCell::default(),
        }
    }

    /// False when a read would find nothing; the task is woken when it would.
    pub(super) fn may_read(&self, context: &Context<'_>) -> bool {
        self.is_readable.get() || self.wait(context)
    }

    /// False when a write would not be taken; the task is woken when it would.
    pub(super) fn may_write(&self, context: &Context<'_>) -> bool {
        self.is_writable.get() || self.wait(context)
    }

    /// A read took all that was there. What comes later, the end included, is news.
    pub(super) fn on_emptied(&self) {
        self.is_readable.set(self.is_hung_up.get());
    }

    /// True when the peer will send no more than what is there.
    pub(super) fn is_hung_up(&self) -> bool {
        self.is_hung_up.get()
    }

    /// A write was not taken.
    pub(super) fn on_filled(&self) {
        self.is_writable.set(false);
    }

    fn wait(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        false
    }

    fn on_event(&self, flags: EventFlags) {
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            self.is_hung_up.set(true);
        }
        if self.is_hung_up.get() || flags.contains(EventFlags::IN) {
            self.is_readable.set(true);
        }
        if flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            self.is_writable.set(true);
        }
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// One epoll, with a task that hands on what it says.
struct Epoll {
    descriptor: OwnedFd,
}

impl Epoll {
    /// Makes it and starts its task, which looks, and looks again after `pause` at the earliest.
    fn start(pause: Duration, interests: &Rc<RefCell<Slab<Rc<Interest>>>>) -> io::Result<Rc<Epoll>> {
        let epoll = Rc::new(Epoll { descriptor: epoll::create(CreateFlags::CLOEXEC)? });
        let pollable = PollableFd::new(Rc::clone(&epoll))?;
        let interests = Rc::clone(interests);
        glommio::spawn_local(async move {
            let mut events = Vec::with_capacity(READY_EVENTS_MAX);
            loop {
                pollable.readable().await.expect("the ring of a running executor waits for an open descriptor");
                pollable.get_ref().hand_on(&interests.borrow(), &mut events);
                if !pause.is_zero() {
                    Timer::new(pause).await;
                }
            }
        })
        .detach();
        Ok(epoll)
    }

    fn add(&self, socket: BorrowedFd<'_>, key: usize) -> io::Result<()> {
        let key = u64::try_from(key).expect("a key fits 64 bits");
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.descriptor, socket, EventData::new_u64(key), flags)?)
    }

    fn remove(&self, socket: BorrowedFd<'_>) {
        epoll::delete(&self.descriptor, socket).expect("it was added");
    }

    /// Wakes every task whose socket is ready. Runs none of them, so no socket goes away meanwhile.
    fn hand_on(&self, interests: &Slab<Rc<Interest>>, events: &mut Vec<Event>) {
        const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            events.clear();
            match epoll::wait(&self.descriptor, spare_capacity(events), Some(&AT_ONCE)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => unreachable!("an epoll of our own does not answer: {error}"),
            }
            for event in &*events {
                let key = usize::try_from(event.data.u64()).expect("it was a usize");
                interests[key].on_event(event.flags);
            }
            if events.len() < READY_EVENTS_MAX {
                return;
            }
        }
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::task::Poll;

    /// Runs a test on an executor of its own, with a registered socket and its peer.
    fn with_pair<F: Future<Output = ()> + 'static>(test: impl FnOnce(Rc<Registered>, UnixStream) -> F) {
        let executor = glommio::LocalExecutorBuilder::default().make().unwrap();
        executor.run(async {
            let readiness = Rc::new(Readiness::start().unwrap());
            let (ours, theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            test(Rc::new(readiness.register(ours.into()).unwrap()), theirs).await;
            assert!(readiness.interests.borrow().is_empty());
        });
    }

    async fn readable(socket: &Registered) {
        poll_fn(|context| if socket.interest().may_read(context) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    async fn writable(socket: &Registered) {
        poll_fn(|context| if socket.interest().may_write(context) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn read(socket: &Registered) -> rustix::io::Result<usize> {
        rustix::io::read(socket, &mut [0; 100])
    }

    /// Lets the executor hand on what is there.
    async fn settle() {
        Timer::new(Duration::from_millis(2 * PATIENT_PAUSE_MS)).await;
    }

    #[test]
    fn what_arrives_wakes_whoever_waits_prompt_or_patient() {
        with_pair(|socket, mut peer| async move {
            for is_patient in [false, true, true, false] {
                socket.set_patient(is_patient).unwrap();
                for _ in 0..3 {
                    settle().await;
                    while read(&socket) != Err(rustix::io::Errno::AGAIN) {}
                    socket.interest().on_emptied();
                    peer.write_all(b"news").unwrap();
                    readable(&socket).await;
                    assert_eq!(read(&socket), Ok(4));
                }
            }
        });
    }

    #[test]
    fn what_arrives_while_it_moves_between_prompt_and_patient_is_not_lost() {
        with_pair(|socket, mut peer| async move {
            settle().await;
            for is_patient in [true, false] {
                socket.interest().on_emptied();
                peer.write_all(b"news").unwrap();
                socket.set_patient(is_patient).unwrap();
                readable(&socket).await;
                assert_eq!(read(&socket), Ok(4));
            }
        });
    }

    #[test]
    fn an_end_that_came_with_the_last_bytes_is_found_after_them() {
        with_pair(|socket, mut peer| async move {
            settle().await;
            socket.interest().on_emptied();
            peer.write_all(b"last").unwrap();
            drop(peer);
            readable(&socket).await;
            assert_eq!(read(&socket), Ok(4));
            // A short read, and no further news will come.
            socket.interest().on_emptied();
            readable(&socket).await;
            assert_eq!(read(&socket), Ok(0));
        });
    }

    /// An abort of the shard that only came when another thread started a process at that moment: the child's copy kept
    /// the registration of a socket that was gone here.
    #[test]
    fn a_socket_that_a_child_process_still_holds_is_forgotten() {
        with_pair(|socket, mut peer| async move {
            for is_patient in [false, true] {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                ours.set_nonblocking(true).unwrap();
                let copy = ours.try_clone().unwrap();
                let closed = socket.readiness.register(ours.into()).unwrap();
                closed.set_patient(is_patient).unwrap();
                drop(closed);
                theirs.write_all(b"to nobody").unwrap();
                settle().await;
                drop(copy);
            }
            socket.interest().on_emptied();
            peer.write_all(b"news").unwrap();
            readable(&socket).await;
        });
    }

    #[test]
    fn a_full_socket_is_writable_again_once_its_peer_has_read() {
        with_pair(|socket, mut peer| async move {
            settle().await;
            while rustix::io::write(&socket, &[0; 4096]).is_ok() {}
            socket.interest().on_filled();
            let reader = std::thread::spawn(move || {
                // More than half, so that the kernel says that there is room.
                peer.read_exact(&mut [0; 150_000]).unwrap();
                peer
            });
            writable(&socket).await;
            reader.join().unwrap();
        });
    }
}
