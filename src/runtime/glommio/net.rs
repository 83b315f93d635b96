//! TCP over glommio.
//!
//! One core only. A socket is polled by one task for reading and writing, so nothing is split and nothing is shared.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockAddr, TcpKeepalive, Type};

use crate::limits::{KEEPALIVE_SECONDS, LISTEN_BACKLOG};
use crate::runtime::{Listener, Socket};

/// A listening socket of this core.
pub struct GlommioListener {
    listener: TcpListener,
}

impl GlommioListener {
    /// Binds and listens. glommio's own `bind` always sets SO_REUSEPORT, which would let two brokers share a port
    /// without either noticing; this one sets it only for `shared`.
    pub(super) fn bind(address: SocketAddr, shared: bool) -> io::Result<GlommioListener> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier life in TIME_WAIT do not hold the port.
        socket.set_reuse_address(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        // Linux hands these on to accepted sockets, which saves two system calls for each.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(KEEPALIVE_SECONDS)))?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(LISTEN_BACKLOG)?;
        // SAFETY: the descriptor was just created, is open, and its ownership moves into the listener.
        let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
        Ok(GlommioListener { listener })
    }
}

impl Listener for GlommioListener {
    type Socket = GlommioSocket;

    async fn accept(&self) -> io::Result<GlommioSocket> {
        let stream = self.listener.accept().await?;
        Ok(GlommioSocket { stream })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }
}

/// A connected socket of this core.
pub struct GlommioSocket {
    stream: TcpStream,
}

impl Socket for GlommioSocket {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        futures_io::AsyncRead::poll_read(Pin::new(&mut self.stream), context, buffer)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        futures_io::AsyncWrite::poll_write_vectored(Pin::new(&mut self.stream), context, pieces)
    }

    fn peer_address(&self) -> io::Result<SocketAddr> {
        Ok(self.stream.peer_addr()?)
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }
}

#[cfg(test)]
impl GlommioSocket {
    /// True when both options were handed on by the listener.
    pub(crate) fn has_nodelay_and_keepalive(&self) -> bool {
        use std::os::fd::{AsRawFd, BorrowedFd};
        // SAFETY: the stream owns the descriptor and outlives the borrow.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) };
        let socket = socket2::SockRef::from(&descriptor);
        socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap()
    }
}
