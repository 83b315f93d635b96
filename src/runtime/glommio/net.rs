//! TCP: system calls that never block, beside an executor that says when to call again.
//!
//! One core only. A socket is polled by one task for reading and writing, so nothing is split and nothing is shared.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};
use socket2::{Domain, Protocol, SockAddr, SockRef, TcpKeepalive, Type};

use super::low_water;
use super::readiness::{Readiness, Registered};
use crate::limits::{KEEPALIVE_SECONDS, LISTEN_BACKLOG};
use crate::runtime::{Here, Listener, Socket};

/// A listening socket of this core.
pub struct GlommioListener {
    readiness: Rc<Readiness>,
    socket: Registered,
}

impl GlommioListener {
    /// Binds and listens. SO_REUSEPORT would let two brokers share a port without either noticing: it is set only for
    /// `shared`.
    pub(super) fn bind(address: SocketAddr, shared: bool, readiness: Rc<Readiness>) -> io::Result<GlommioListener> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of an earlier life in TIME_WAIT do not hold the port.
        socket.set_reuse_address(true)?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        // Linux hands these on to accepted sockets, which saves two system calls for each.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(KEEPALIVE_SECONDS)))?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(address))?;
        socket.listen(LISTEN_BACKLOG)?;
        let socket = readiness.register(socket.into())?;
        Ok(GlommioListener { readiness, socket })
    }

    fn poll_accept(&self, context: &Context<'_>) -> Poll<io::Result<GlommioSocket>> {
        let interest = self.socket.interest();
        while interest.may_read(context) {
            match rustix::net::accept_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    return Poll::Ready(self.readiness.register(socket).map(|socket| GlommioSocket { socket }));
                }
                Err(Errno::AGAIN) => interest.on_emptied(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Pending
    }
}

impl Listener for GlommioListener {
    type Socket = GlommioSocket;

    async fn accept(&self) -> io::Result<GlommioSocket> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        address(SockRef::from(&self.socket).local_addr())
    }
}

/// A connected socket of this core.
pub struct GlommioSocket {
    socket: Registered,
}

impl Socket for GlommioSocket {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let wanted = buffer.len();
        let interest = self.socket.interest();
        while interest.may_read(context) {
            match rustix::net::recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((_, received)) => {
                    if received < wanted {
                        // That was all, so the next call need not ask the kernel to learn it.
                        interest.on_emptied();
                    }
                    return Poll::Ready(Ok(received));
                }
                Err(Errno::AGAIN) => interest.on_emptied(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Pending
    }

    fn poll_write(&mut self, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let interest = self.socket.interest();
        // A peer that is gone is an error to handle, not a signal.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while interest.may_write(context) {
            match rustix::net::sendmsg(&self.socket, pieces, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => return Poll::Ready(Ok(sent)),
                Err(Errno::AGAIN) => interest.on_filled(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Pending
    }

    fn is_hung_up(&self) -> bool {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut asked = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A refusal says nothing of the peer.
        rustix::event::poll(&mut asked, Some(&now)).is_ok_and(|count| count > 0 && asked[0].revents().intersects(gone))
    }

    fn bytes_here(&self) -> io::Result<usize> {
        Ok(usize::try_from(rustix::io::ioctl_fionread(&self.socket)?).expect("a size in memory"))
    }

    fn set_low_water(&self, bytes: usize) -> io::Result<usize> {
        low_water::set(&self.socket, bytes)
    }

    fn poll_here(&mut self, context: &Context<'_>) -> Poll<io::Result<Here>> {
        if !self.socket.interest().may_read(context) {
            return Poll::Pending;
        }
        // In this order: what is there once nothing more comes is all.
        let is_all = self.socket.interest().is_hung_up();
        Poll::Ready(self.bytes_here().map(|bytes| Here { bytes, is_all }))
    }

    fn look_away(&mut self) {
        self.socket.interest().on_emptied();
    }

    fn set_patient(&mut self, is_patient: bool) {
        if let Err(error) = self.socket.set_patient(is_patient) {
            tracing::debug!("a socket cannot move between epolls: {error}");
        }
    }

    fn peer_address(&self) -> io::Result<SocketAddr> {
        address(SockRef::from(&self.socket).peer_addr())
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        address(SockRef::from(&self.socket).local_addr())
    }
}

fn address(told: io::Result<SockAddr>) -> io::Result<SocketAddr> {
    told?.as_socket().ok_or_else(|| io::Error::other("a TCP socket without an internet address"))
}

#[cfg(test)]
impl GlommioSocket {
    /// True when both options were handed on by the listener.
    pub(crate) fn has_nodelay_and_keepalive(&self) -> bool {
        let socket = SockRef::from(&self.socket);
        socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap()
    }
}
