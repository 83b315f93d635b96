//! What a request is answered with, and the one interface between connections (`server`) and handlers (`api`).

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;

use crate::runtime::block::Slice;
use crate::shard::answers::AnswerHold;

/// A future of this core.
pub type LocalFuture<T> = Pin<Box<dyn Future<Output = T> + 'static>>;

/// One response frame: bytes of its own, and slices of the log that are sent from where they lie.
#[derive(Debug)]
pub struct Response<B> {
    /// The frame without its slices, the 4-byte length prefix first (the prefix counts the slices too).
    pub bytes: Vec<u8>,
    /// Slices to send before byte `at` of `bytes`, in ascending order of `at`. Empty but for fetch answers.
    pub pieces: Vec<Piece<B>>,
    /// Counts the memory behind the slices until they are sent. None without slices.
    pub hold: Option<AnswerHold>,
}

/// A slice of the log and its place in the response frame.
#[derive(Debug)]
pub struct Piece<B> {
    /// How many bytes of `Response::bytes` go out before it.
    pub at: usize,
    /// The bytes, kept in memory until they are sent.
    pub slice: Slice<B>,
}

/// How a request was answered, once it has been applied.
pub enum Reply<B> {
    /// Here is the answer.
    Now(Response<B>),
    /// Applied; the answer follows when the future ends (`None`: close the connection). The next request of the
    /// connection may be handled meanwhile; answers leave in the order of their requests.
    Later(LocalFuture<Option<Response<B>>>),
    /// Nothing is sent: produce with acks=0.
    Nothing,
    /// The peer broke the protocol, or has no other way to learn of an error: close after earlier answers are out.
    Close,
}

/// What a connection needs from the layers below it.
pub trait Service<B>: 'static {
    /// What is kept per connection.
    type Connection: 'static;

    /// A connection was accepted from `peer` on `local`.
    fn connected(&self, peer: SocketAddr, local: SocketAddr) -> Self::Connection;

    /// True while somebody waits for memory that unsent answers hold.
    fn wants_answer_memory(&self) -> bool {
        false
    }

    /// Handles one frame (without its length prefix). The future ends when the request has been applied, which is when
    /// the connection may pass the next one; it passes one at a time, in order.
    fn handle(self: Rc<Self>, connection: Rc<Self::Connection>, frame: Bytes) -> LocalFuture<Reply<B>>;
}
