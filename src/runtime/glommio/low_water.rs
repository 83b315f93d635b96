//! SO_RCVLOWAT, for which no crate has a safe call. See tcp(7) and `tcp_set_rcvlowat` of Linux: it raises the receive buffer
//! with it, up to the greatest one of `net.ipv4.tcp_rmem`, which SO_RCVBUF may not.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Asks for `bytes`, above 0, and returns what the system settled for.
pub(super) fn set(socket: impl AsFd, bytes: usize) -> io::Result<usize> {
    let descriptor = socket.as_fd().as_raw_fd();
    let mut value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).expect("four bytes");
    // SAFETY: the descriptor is borrowed from its owner, and the pointer is to a live integer of the length given.
    let code =
        unsafe { libc::setsockopt(descriptor, libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const value).cast(), length) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the same, and `length` says how much may be written there.
    let code = unsafe {
        libc::getsockopt(descriptor, libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw mut value).cast(), &raw mut length)
    };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(value).unwrap_or(0))
}
