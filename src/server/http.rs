//! Two pages over HTTP/1.1: `/metrics` for Prometheus and `/health` for whoever restarts us.
//!
//! Lives on shard 0. One request per connection, GET and HEAD only, and little of everything: it serves a scraper.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Shutdown;
use crate::limits::{ACCEPT_PAUSE_MS, HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_TIMEOUT_MS};
use crate::runtime::{Listener, Network, Socket};

/// Serves both pages until `shutdown`. `metrics` renders the first; `health` is `Err` with the reason when the broker
/// cannot do its work, which answers 503, and else a word: "ok", or what it cannot do although it serves.
pub async fn serve_http<N: Network>(
    runtime: N,
    listener: N::Listener,
    shutdown: Shutdown,
    metrics: impl Fn() -> String + 'static,
    health: impl Fn() -> Result<String, String> + 'static,
) {
    let pages = Rc::new(Pages { metrics, health });
    let open = Rc::new(Open::default());
    let accept = async {
        loop {
            let Ok(mut socket) = listener.accept().await else {
                runtime.sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                continue;
            };
            let (pages, timeout) = (Rc::clone(&pages), runtime.sleep(timeout()));
            let place = open.enter();
            runtime.spawn(async move {
                let mut exchange = pin!(exchange(&mut socket, &pages));
                let mut timeout = pin!(timeout);
                // Errors and slowness concern the scraper, which will come again.
                poll_fn(|context| {
                    let is_over = exchange.as_mut().poll(context).is_ready()
                        || timeout.as_mut().poll(context).is_ready()
                        || place.is_let_go(context);
                    if is_over { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            });
            // Whoever has its request here already is answered before the next can take its place.
            runtime.yield_now().await;
        }
    };
    let mut accept = pin!(accept);
    let mut stop = pin!(shutdown.requested());
    poll_fn(|context| {
        assert!(accept.as_mut().poll(context).is_pending());
        stop.as_mut().poll(context)
    })
    .await;
}

/// The connections open, oldest first. Those who come always get a place: the oldest makes room, which with so many is a
/// slow one, since an exchange takes a millisecond.
#[derive(Default)]
struct Open {
    places: RefCell<VecDeque<Rc<Mark>>>,
}

/// One connection as others see it.
#[derive(Default)]
struct Mark {
    is_let_go: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A place among the open connections, until it is dropped.
struct Place {
    open: Rc<Open>,
    mark: Rc<Mark>,
}

impl Open {
    fn enter(self: &Rc<Self>) -> Place {
        let mark = Rc::new(Mark::default());
        let mut places = self.places.borrow_mut();
        places.push_back(Rc::clone(&mark));
        let oldest = if places.len() > HTTP_CONNECTIONS_MAX { places.pop_front() } else { None };
        drop(places);
        if let Some(oldest) = oldest {
            oldest.is_let_go.set(true);
            let waker = oldest.waker.take();
            waker.into_iter().for_each(Waker::wake);
        }
        Place { open: Rc::clone(self), mark }
    }
}

impl Place {
    fn is_let_go(&self, context: &Context<'_>) -> bool {
        if !self.mark.is_let_go.get() {
            self.mark.waker.replace(Some(context.waker().clone()));
        }
        self.mark.is_let_go.get()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.places.borrow_mut().retain(|mark| !Rc::ptr_eq(mark, &self.mark));
    }
}

fn timeout() -> Duration {
    Duration::from_millis(HTTP_TIMEOUT_MS)
}

/// What the pages show.
struct Pages<M, H> {
    metrics: M,
    health: H,
}

impl<M: Fn() -> String, H: Fn() -> Result<String, String>> Pages<M, H> {
    /// The whole answer to a request whose head is `head`.
    fn answer(&self, head: &[u8]) -> Vec<u8> {
        let line = head.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target, version) = (words.next(), words.next(), words.next());
        if !version.is_some_and(|version| version.starts_with(b"HTTP/1.")) || words.next().is_some() {
            return answer("400 Bad Request", "not an HTTP/1.1 request\n", true);
        }
        let with_body = match method {
            Some(b"GET") => true,
            Some(b"HEAD") => false,
            _ => return answer("405 Method Not Allowed", "GET only\n", true),
        };
        let path = target.and_then(|target| target.split(|byte| *byte == b'?').next());
        match path {
            Some(b"/metrics") => answer("200 OK", &(self.metrics)(), with_body),
            Some(b"/health") => match (self.health)() {
                Ok(word) => answer("200 OK", &format!("{word}\n"), with_body),
                Err(reason) => answer("503 Service Unavailable", &format!("{reason}\n"), with_body),
            },
            _ => answer("404 Not Found", "there are /metrics and /health\n", with_body),
        }
    }
}

fn answer(status: &str, body: &str, with_body: bool) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: \
         close\r\n\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    if with_body {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

/// Reads one request's head and answers it. A body is not read: neither page has one.
async fn exchange<S: Socket, M: Fn() -> String, H: Fn() -> Result<String, String>>(
    socket: &mut S,
    pages: &Pages<M, H>,
) -> io::Result<()> {
    let mut head = vec![0; HTTP_HEAD_BYTES_MAX];
    let mut filled = 0;
    while !has_end(&head[..filled]) {
        if filled == head.len() {
            return send(socket, &answer("431 Request Header Fields Too Large", "", true)).await;
        }
        let count = poll_fn(|context| socket.poll_read(context, &mut head[filled..])).await?;
        if count == 0 {
            return Ok(());
        }
        filled += count;
    }
    send(socket, &pages.answer(&head[..filled])).await
}

/// True when the empty line that ends a head is there.
fn has_end(head: &[u8]) -> bool {
    head.windows(4).any(|bytes| bytes == b"\r\n\r\n") || head.windows(2).any(|bytes| bytes == b"\n\n")
}

async fn send<S: Socket>(socket: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = poll_fn(|context| socket.poll_write(context, &[IoSlice::new(bytes)])).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[count..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use crate::runtime::glommio::{Cores, GlommioRuntime, ShardPlan, run_shards};
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::mpsc;

    fn text(answer: &[u8]) -> &str {
        std::str::from_utf8(answer).unwrap()
    }

    #[test]
    fn pages_are_chosen_by_path() {
        let pages = Pages { metrics: || "a 1\n".to_owned(), health: || Err("store is read-only".to_owned()) };
        let metrics = pages.answer(b"GET /metrics?x=y HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(text(&metrics).starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(text(&metrics).contains("Content-Length: 4\r\n"));
        assert!(text(&metrics).ends_with("\r\n\r\na 1\n"));
        assert!(text(&pages.answer(b"HEAD /metrics HTTP/1.0\r\n\r\n")).ends_with("\r\n\r\n"));
        let health = pages.answer(b"GET /health HTTP/1.1\r\n\r\n");
        assert!(text(&health).starts_with("HTTP/1.1 503 "));
        assert!(text(&health).ends_with("store is read-only\n"));
        assert!(text(&pages.answer(b"GET / HTTP/1.1\r\n\r\n")).starts_with("HTTP/1.1 404 "));
        assert!(text(&pages.answer(b"POST /metrics HTTP/1.1\r\n\r\n")).starts_with("HTTP/1.1 405 "));
        for rubbish in [&b"\r\n\r\n"[..], b"GET /metrics\r\n\r\n", b"GET /metrics HTTP/1.1 x\r\n\r\n", b"\xff\x00 \n\n"]
        {
            assert!(text(&pages.answer(rubbish)).starts_with("HTTP/1.1 400 "));
        }
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(request).unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is how a server refuses what it will not read.
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    /// Sixteen clients that opened a connection and sent nothing had everyone else turned away, for ten seconds at a time.
    #[test]
    fn slow_clients_do_not_keep_others_out() {
        with_server(|address| {
            let slow: Vec<TcpStream> = (0..4 * HTTP_CONNECTIONS_MAX)
                .map(|index| {
                    let mut socket = TcpStream::connect(address).unwrap();
                    if index % 2 == 0 {
                        socket.write_all(b"GET /health HT").unwrap();
                    }
                    socket
                })
                .collect();
            for _ in 0..3 * HTTP_CONNECTIONS_MAX {
                assert!(ask(address, b"GET /health HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nok\n"));
            }
            drop(slow);
        });
    }

    #[test]
    fn a_scraper_is_served_and_an_endless_head_is_not() {
        with_server(|address| {
            assert!(ask(address, b"GET /health HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nok\n"));
            let metrics = ask(address, b"GET /metrics HTTP/1.1\r\n\r\n");
            assert!(metrics.ends_with(&"x".repeat(300_000)));
            assert!(ask(address, &[b'a'; HTTP_HEAD_BYTES_MAX]).starts_with("HTTP/1.1 431 "));
        });
    }

    /// Runs `check` beside a server of its own.
    fn with_server(check: impl FnOnce(SocketAddr)) {
        let (send, receive) = mpsc::channel();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let server = std::thread::spawn(move || {
            let plan = ShardPlan { count: 1, cpus: Cores::of_this_process().cpus, io_memory_bytes: 65536 };
            run_shards(&plan, move |_, runtime: GlommioRuntime| {
                let (send, shutdown) = (send.clone(), shutdown.clone());
                async move {
                    let listener = runtime.listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
                    send.send(listener.local_address().unwrap()).unwrap();
                    let pause = runtime.clone();
                    serve_http(runtime, listener, shutdown, || "x".repeat(300_000), || Ok("ok".to_owned())).await;
                    pause.sleep(Duration::from_millis(1)).await;
                }
            })
            .unwrap();
        });
        let address = receive.recv().unwrap();
        check(address);
        stop.request();
        server.join().unwrap();
    }
}
