//! One connection: frames out in gathered writes, bytes in. Never blocks, and never asks the kernel for what an event has
//! not announced.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use corelane::protocol::record_batch::BATCH_HEADER_BYTES;
use corelane::protocol::wire::Writer;

use super::bounds::{ANSWER_BYTES_MAX, WRITE_PIECES_MAX};
use crate::lab::number::size;

/// A connection to one node.
pub(super) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    frames: VecDeque<Frame>,
    /// Bytes of the first frame that are written.
    written: usize,
    is_writable: bool,
    /// Whether the last read may have left something, of which no event will tell.
    has_more: bool,
    /// The beginning of an answer whose end has not come.
    partial: Vec<u8>,
    correlation_id: i32,
}

/// A request: what the protocol module wrote, and batches in its holes.
pub(super) struct Frame {
    head: Writer,
    batches: Vec<([u8; BATCH_HEADER_BYTES], Bytes)>,
}

impl Frame {
    /// A request of which all was written by the protocol module.
    pub(super) fn plain(head: Writer) -> Frame {
        Frame::with_batches(head, Vec::new())
    }

    /// A request with a batch in each hole.
    pub(super) fn with_batches(head: Writer, batches: Vec<([u8; BATCH_HEADER_BYTES], Bytes)>) -> Frame {
        assert_eq!(head.holes.len(), batches.len());
        Frame { head, batches }
    }

    fn bytes(&self) -> usize {
        usize::try_from(self.head.frame_bytes()).expect("a usize has 64 bits")
    }

    fn pieces<'a>(&'a self, into: &mut Vec<IoSlice<'a>>) {
        let mut start = 0;
        for (hole, (header, records)) in self.head.holes.iter().zip(&self.batches) {
            into.push(IoSlice::new(&self.head.bytes[start..hole.at]));
            into.push(IoSlice::new(header));
            into.push(IoSlice::new(records));
            start = hole.at;
        }
        if start < self.head.bytes.len() {
            into.push(IoSlice::new(&self.head.bytes[start..]));
        }
    }
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Connection::from_stream(stream)
    }

    /// Takes over a connection on which nothing is unread.
    pub(super) fn from_stream(stream: TcpStream) -> std::io::Result<Connection> {
        stream.set_nonblocking(true)?;
        let address = stream.peer_addr()?;
        Ok(Connection {
            stream,
            address,
            frames: VecDeque::new(),
            written: 0,
            is_writable: true,
            has_more: false,
            partial: Vec::new(),
            correlation_id: 0,
        })
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new number for a request.
    pub(super) fn next_correlation_id(&mut self) -> i32 {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        self.correlation_id
    }

    /// Sends a frame after those before it, as soon as `flush` can.
    pub(super) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    /// Forgets what is not sent.
    pub(super) fn abandon(&mut self) {
        self.frames.clear();
        self.has_more = false;
        self.written = 0;
    }

    /// The kernel has room again.
    pub(super) fn on_writable(&mut self) {
        self.is_writable = true;
    }

    /// Writes what the kernel takes. Returns how many frames went out whole.
    pub(super) fn flush(&mut self) -> std::io::Result<u32> {
        let mut done = 0;
        while self.is_writable && !self.frames.is_empty() {
            let mut pieces = Vec::with_capacity(16);
            for frame in &self.frames {
                if pieces.len() >= WRITE_PIECES_MAX {
                    break;
                }
                frame.pieces(&mut pieces);
            }
            let mut rest = &mut pieces[..];
            IoSlice::advance_slices(&mut rest, self.written);
            let rest = &rest[..rest.len().min(WRITE_PIECES_MAX)];
            let offered: usize = rest.iter().map(|piece| piece.len()).sum();
            match (&self.stream).write_vectored(rest) {
                Ok(count) => {
                    self.is_writable = count == offered;
                    self.written += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            while let Some(first) = self.frames.front()
                && self.written >= first.bytes()
            {
                self.written -= first.bytes();
                self.frames.pop_front();
                done += 1;
            }
        }
        Ok(done)
    }

    /// Whether `receive` has to be called again before an event says so.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Hands on what has come, as far as it fits into the buffer: one connection does not keep the others waiting. The
    /// end of the stream is an error.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        mut arrived: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        self.has_more = false;
        match (&self.stream).read(buffer) {
            Ok(0) => Err(format!("{} closed the connection", self.address)),
            Ok(count) => {
                // Less than there was room for: there is no more, or another event will tell.
                self.has_more = count == buffer.len();
                arrived(&buffer[..count])
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.has_more = true;
                Ok(())
            }
            Err(error) => Err(format!("{}: {error}", self.address)),
        }
    }

    /// Hands on the answers that have come whole, without their lengths.
    pub(super) fn answers(
        &mut self,
        buffer: &mut [u8],
        mut answer: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut partial = std::mem::take(&mut self.partial);
        let received = self.receive(buffer, |bytes| {
            if partial.is_empty() {
                let used = whole_answers(bytes, &mut answer)?;
                partial.extend_from_slice(&bytes[used..]);
            } else {
                partial.extend_from_slice(bytes);
                let used = whole_answers(&partial, &mut answer)?;
                partial.drain(..used);
            }
            Ok(())
        });
        self.partial = partial;
        received
    }
}

/// Hands on the whole answers at the start of `bytes`; returns how long they are.
fn whole_answers(bytes: &[u8], answer: &mut impl FnMut(&[u8]) -> Result<(), String>) -> Result<usize, String> {
    let mut used = 0;
    while let Some(prefix) = bytes[used..].first_chunk() {
        let length = u32::from_be_bytes(*prefix);
        if size(length) > ANSWER_BYTES_MAX {
            return Err(format!("an answer of {length} bytes"));
        }
        let Some(body) = bytes[used + prefix.len()..].get(..size(length)) else { break };
        answer(body)?;
        used += prefix.len() + body.len();
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_answers_are_handed_on() {
        let bytes = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x03xy";
        let mut seen = Vec::new();
        let used = whole_answers(bytes, &mut |answer| {
            seen.push(answer.to_vec());
            Ok(())
        });
        assert_eq!(used, Ok(10));
        assert_eq!(seen, [b"ab".to_vec(), Vec::new()]);
    }

    #[test]
    fn an_absurd_answer_is_refused_before_it_is_awaited() {
        assert!(whole_answers(b"\xff\xff\xff\xff", &mut |_| Ok(())).is_err());
    }

    #[test]
    fn a_frame_is_its_head_with_batches_in_the_holes() {
        let mut head = Writer::new();
        head.u8(1);
        head.hole(63, true);
        head.u8(2);
        let frame = Frame::with_batches(head, vec![([7; BATCH_HEADER_BYTES], Bytes::from_static(b"rs"))]);
        let mut pieces = Vec::new();
        frame.pieces(&mut pieces);
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        assert_eq!(all.len(), frame.bytes());
        assert_eq!((all[0], all[2], &all[63..]), (1, 7, &b"rs\x02"[..]));
    }
}
