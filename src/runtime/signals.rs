//! Signals, taken by a thread of their own so that a busy or stuck shard cannot delay the second one.
//!
//! Linux only, like the rest. [`Signals::block`] comes first, in `main`, before any other thread exists: the mask is
//! inherited, and a thread without it would die of the signal. What a broker that is left alone may meet:
//!
//! | signal | here | why |
//! |---|---|---|
//! | SIGTERM, SIGINT, SIGHUP | ask for a stop | as a JVM does; SIGHUP comes with the end of a terminal |
//! | SIGHUP under `nohup` | ignored | it was ignored when the process began, and that was meant |
//! | SIGQUIT, SIGUSR1, SIGUSR2 | heard and nothing else | a habit from other programs (thread dumps, rotated logs) must not end it |
//! | SIGPIPE | ignored | by Rust's own start: a write says EPIPE |
//! | SIGXFSZ | ignored | a write says EFBIG |
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// The signals that are waited for.
pub struct Signals {
    set: libc::sigset_t,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// Somebody asks for a stop: SIGTERM or SIGINT.
    Stop(&'static str),
    /// The terminal is gone: SIGHUP. May come in a row with others at the end of a session.
    HangUp,
    /// One that asks for nothing.
    Other(&'static str),
}

impl Signals {
    /// Blocks them on this thread and on every thread it starts from now on.
    pub fn block() -> io::Result<Signals> {
        let mut signals = vec![libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];
        if !is_ignored(libc::SIGHUP)? {
            signals.push(libc::SIGHUP);
        }
        let set = set_of(&signals);
        // SAFETY: `set` is initialised, and a null third argument is documented to mean "do not report the old mask".
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        // SAFETY: the signal number is valid, and ignoring one installs no handler.
        if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        Ok(Signals { set })
    }

    /// Waits, blocking the calling thread, for the next one.
    pub fn wait(&self) -> io::Result<Signal> {
        let mut signal = 0;
        // SAFETY: both arguments point to live values of the right types.
        let code = unsafe { libc::sigwait(&self.set, &mut signal) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(match signal {
            libc::SIGTERM => Signal::Stop("SIGTERM"),
            libc::SIGINT => Signal::Stop("SIGINT"),
            libc::SIGHUP => Signal::HangUp,
            libc::SIGQUIT => Signal::Other("SIGQUIT"),
            libc::SIGUSR1 => Signal::Other("SIGUSR1"),
            _ => Signal::Other("SIGUSR2"),
        })
    }
}

/// Ends the process, by SIGALRM, unless it has ended otherwise by then.
pub fn end_within(seconds: u32) {
    // SAFETY: a plain system call. Nobody here handles, blocks or ignores SIGALRM.
    unsafe { libc::alarm(seconds) };
}

fn is_ignored(signal: i32) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null second argument changes nothing; the third points to memory for what is reported.
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the action was written.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set that the others change; the signal numbers are valid, so none fails.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}
