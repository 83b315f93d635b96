//! Limits of one TCP connection over loopback: what the receiving end costs, and what the sending one does.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::round::{Clock, Pace, Work};
use crate::lab::result::Limit;
use crate::load::pin;

pub(super) const RECEIVE: &str = "loopback receive";
const SEND: &str = "loopback send";
/// Bytes of one receive or send.
const BLOCK_BYTES: [usize; 2] = [16 * 1024, 256 * 1024];
/// Bytes that the other end sends or receives at once: enough that it is not what limits.
const OTHER_BYTES: usize = 1024 * 1024;

/// Measures the calling thread; the other end is on `other_cpu`.
pub(super) fn measure(other_cpu: usize, pace: Pace) -> Result<Vec<Limit>, Box<dyn Error>> {
    let mut limits = Vec::new();
    for block_bytes in BLOCK_BYTES {
        limits.push(receive(other_cpu, block_bytes, pace)?);
    }
    for block_bytes in BLOCK_BYTES {
        limits.push(send(other_cpu, block_bytes, pace)?);
    }
    Ok(limits)
}

/// How long a single call takes says more about the other end than about this one, so calls are not timed.
fn work(name: &'static str, block_bytes: usize) -> Work {
    Work { name, block_bytes, depth: 1, clock: Clock::Thread, is_timed: false }
}

fn receive(other_cpu: usize, block_bytes: usize, pace: Pace) -> Result<Limit, Box<dyn Error>> {
    let mut block = vec![0; block_bytes];
    let sender = |mut stream: TcpStream| -> io::Result<()> {
        let bytes = vec![0x5a; OTHER_BYTES];
        loop {
            stream.write_all(&bytes)?;
        }
    };
    against(other_cpu, sender, |stream| {
        work(RECEIVE, block_bytes).measure(pace, |meter| {
            while !meter.is_over() {
                let began = meter.now();
                // Filled by as many receives as it takes: a fast receiver finds less than a block at a time.
                stream.read_exact(&mut block)?;
                meter.count(began);
            }
            Ok(())
        })
    })
}

fn send(other_cpu: usize, block_bytes: usize, pace: Pace) -> Result<Limit, Box<dyn Error>> {
    let block = vec![0x5a; block_bytes];
    let receiver = |mut stream: TcpStream| -> io::Result<()> {
        let mut bytes = vec![0; OTHER_BYTES];
        while stream.read(&mut bytes)? > 0 {}
        Ok(())
    };
    against(other_cpu, receiver, |stream| {
        work(SEND, block_bytes).measure(pace, |meter| {
            while !meter.is_over() {
                let began = meter.now();
                stream.write_all(&block)?;
                meter.count(began);
            }
            Ok(())
        })
    })
}

/// Measures one end of a connection while `other` has the other one, until that one hangs up.
fn against(
    other_cpu: usize,
    other: impl FnOnce(TcpStream) -> io::Result<()> + Send,
    measured: impl FnOnce(&mut TcpStream) -> Result<Limit, Box<dyn Error>>,
) -> Result<Limit, Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    let (accepted, _) = listener.accept()?;
    std::thread::scope(|scope| {
        let other = scope.spawn(move || {
            pin(Some(other_cpu));
            other(accepted)
        });
        let limit = measured(&mut stream);
        // A sender ends by this alone; if the connection broke before, that is the error of `measured`.
        let _ = stream.shutdown(Shutdown::Both);
        drop(stream);
        // It ends by our hanging up, which it may see as an error.
        let _ = other.join().map_err(|_| "the other end panicked")?;
        limit
    })
}
