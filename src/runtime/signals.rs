//! Termination signals, taken by a thread of their own so that a busy or stuck shard cannot delay the second one.
//!
//! Linux only, like the rest. [`block`] comes first, in `main`, before any other thread exists: the mask is inherited,
//! and a thread without it would die of the signal.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;

/// Blocks SIGTERM and SIGINT on this thread and on every thread it starts from now on.
pub fn block() -> io::Result<()> {
    let set = termination_signals();
    // SAFETY: `set` is initialised, and a null third argument is documented to mean "do not report the old mask".
    let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Waits, blocking the calling thread, for SIGTERM or SIGINT and returns its number.
pub fn wait() -> io::Result<i32> {
    let set = termination_signals();
    let mut signal = 0;
    // SAFETY: both arguments point to live values of the right types.
    let code = unsafe { libc::sigwait(&set, &mut signal) };
    if code == 0 { Ok(signal) } else { Err(io::Error::from_raw_os_error(code)) }
}

fn termination_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set that the others change; the signal numbers are valid, so none fails.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        set.assume_init()
    }
}
