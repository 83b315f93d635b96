//! The wish to stop: said once by a signal or a failure, heard by every shard.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use crate::runtime::signals::{Signal, Signals};

/// Exit code of a process that a second signal ended: 128 + SIGINT, as shells report it.
const EXIT_CODE_INTERRUPTED: i32 = 130;

/// The signal to stop. Every clone is the same one, and clones may go to other threads.
#[derive(Clone, Default)]
pub struct Shutdown {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    requested: AtomicBool,
    waiting: Mutex<Waiting>,
}

/// Who waits; a future has at most one entry.
#[derive(Default)]
struct Waiting {
    next_ticket: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Shutdown {
    /// Nobody asked to stop yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Asks everything to stop. Again is no more than once.
    pub fn request(&self) {
        self.inner.requested.store(true, Ordering::SeqCst);
        for (_, waker) in self.inner.waiting().wakers.drain(..) {
            waker.wake();
        }
    }

    /// True once somebody asked.
    pub fn is_requested(&self) -> bool {
        self.inner.requested.load(Ordering::SeqCst)
    }

    /// Ends when somebody asks. May be awaited on any shard, any number of times.
    pub fn requested(&self) -> ShutdownRequested {
        ShutdownRequested { shutdown: self.clone(), ticket: None }
    }
}

impl Inner {
    /// A panic with the lock held would have left the list whole, so poison means nothing.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Shutdown::requested`].
pub struct ShutdownRequested {
    shutdown: Shutdown,
    ticket: Option<u64>,
}

impl Future for ShutdownRequested {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let inner = Arc::clone(&self.shutdown.inner);
        // Registered before the flag is read, so that a request between the two is not missed.
        let mut waiting = inner.waiting();
        let ticket = self.ticket.unwrap_or(waiting.next_ticket);
        match waiting.wakers.iter_mut().find(|(other, _)| *other == ticket) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => waiting.wakers.push((ticket, context.waker().clone())),
        }
        if self.ticket.is_none() {
            waiting.next_ticket += 1;
            self.ticket = Some(ticket);
        }
        if self.shutdown.is_requested() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for ShutdownRequested {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shutdown.inner.waiting().wakers.retain(|(other, _)| *other != ticket);
        }
    }
}

/// Makes SIGTERM, SIGINT and SIGHUP request `shutdown`; a second SIGTERM or SIGINT ends the process at once with code 130.
///
/// For `main`, before any other thread starts: threads inherit that these signals are blocked.
pub fn watch_signals(shutdown: Shutdown) -> io::Result<()> {
    let signals = Signals::block()?;
    let watch = move || {
        let mut stops = 0;
        loop {
            match signals.wait() {
                Ok(Signal::Stop(_)) if stops > 0 => std::process::exit(EXIT_CODE_INTERRUPTED),
                Ok(Signal::Stop(name)) => {
                    tracing::info!("{name}: stopping; a second one stops at once");
                    stops += 1;
                    shutdown.request();
                }
                // The end of a session sends several of these, and SIGTERM besides: none of them is impatience.
                Ok(Signal::HangUp) if shutdown.is_requested() => {}
                Ok(Signal::HangUp) => {
                    tracing::info!("SIGHUP: stopping");
                    shutdown.request();
                }
                Ok(Signal::Other(name)) => tracing::info!("{name} asks for nothing here; SIGTERM stops the broker"),
                Err(error) => {
                    tracing::error!("waiting for signals failed, stopping: {error}");
                    return shutdown.request();
                }
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use crate::runtime::glommio::{Cores, ShardPlan, run_shards};
    use std::time::Duration;

    #[test]
    fn a_request_from_another_thread_reaches_every_shard() {
        let shutdown = Shutdown::new();
        let plan = ShardPlan { count: 2, cpus: Cores::of_this_process().cpus, io_memory_bytes: 65536 };
        let asker = shutdown.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            asker.request();
        });
        let late_us = run_shards(&plan, move |_, runtime| {
            let shutdown = shutdown.clone();
            async move {
                shutdown.requested().await;
                shutdown.requested().await;
                assert!(shutdown.is_requested());
                runtime.now().value()
            }
        })
        .unwrap();
        thread.join().unwrap();
        assert!(late_us.iter().all(|us| *us < 5_000_000), "{late_us:?}");
    }

    #[test]
    fn who_stops_waiting_is_forgotten() {
        let shutdown = Shutdown::new();
        let mut requested = Box::pin(shutdown.requested());
        let mut context = Context::from_waker(Waker::noop());
        assert!(requested.as_mut().poll(&mut context).is_pending());
        assert!(requested.as_mut().poll(&mut context).is_pending());
        assert_eq!(shutdown.inner.waiting().wakers.len(), 1);
        drop(requested);
        assert_eq!(shutdown.inner.waiting().wakers.len(), 0);
    }
}
