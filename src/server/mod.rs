//! Sockets: connections in, answers out, and nothing about Kafka beyond the length in front of a frame.
//!
//! One [`Server`] per shard serves one port over any [`Service`]. It lives on its shard's core; only [`Shutdown`] and the
//! metrics cross. What bounds it:
//!
//! - requests between reading and applying: the shard's `RequestMemory`, granted before memory is allocated;
//! - requests applied and unanswered: a number per connection;
//! - answers: nothing is read from a peer that does not read, and those with records hold memory from before they are read.
//!
//! Who holds memory that others wait for and does not go on, sending or taking, is let go.
//!
//! At a bound the socket is not read, and TCP slows the peer.

mod byte_budget;
mod connection;
pub mod data_directory;
mod frame_memory;
mod gathering;
mod http;
mod listener;
mod node_settings;
mod receive;
mod registry;
mod request_memory;
mod send;
mod shutdown;
pub mod start;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::api::reply::Service;
use crate::limits::{
    CONNECTION_IDLE_MS, CONNECTIONS_PER_SHARD_MAX, DRAIN_MS, FILE_DESCRIPTORS_RESERVED, GATHERING_SWEEP_INTERVAL_MS,
    RECEIVE_BYTES, REQUEST_BYTES_IN_FLIGHT_MIN, REQUEST_BYTES_MAX, SWEEP_INTERVAL_MS, SWEEP_PRESSED_INTERVAL_MS,
};
use crate::metrics::ShardMetrics;
use crate::runtime::Network;

pub use byte_budget::{ByteBudget, Claim, Grant};
pub use http::serve_http;
pub use listener::{BindError, bind, check_free};
pub use shutdown::{Shutdown, ShutdownRequested, watch_signals};

use connection::Endings;
use registry::{Registry, Sweep};
use request_memory::{ByteCount, RequestMemory};

/// The bounds of one shard's server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Largest request accepted, in bytes after its length field.
    pub request_bytes_max: u32,
    /// Bytes of requests between reading and applying.
    pub request_bytes_in_flight_max: usize,
    /// Connections open at once.
    pub connections_max: usize,
    /// Silence after which a connection is closed, in milliseconds.
    pub connection_idle_ms: u64,
    /// How often connections are looked over while memory is waited for, in milliseconds.
    pub sweep_pressed_interval_ms: u64,
}

impl ServerConfig {
    /// The bounds that follow from what a shard may use: `memory_bytes` of its own, and its part of `files_max` open files
    /// of the process, which `shards` share.
    pub fn new(memory_bytes: u64, files_max: u64, shards: u16) -> ServerConfig {
        let quarter = usize::try_from(memory_bytes / 4).unwrap_or(usize::MAX);
        let files = files_max.saturating_sub(FILE_DESCRIPTORS_RESERVED).max(files_max / 2);
        let connections = usize::try_from(files / u64::from(shards.max(1))).unwrap_or(usize::MAX);
        ServerConfig {
            request_bytes_max: REQUEST_BYTES_MAX,
            request_bytes_in_flight_max: quarter.max(REQUEST_BYTES_IN_FLIGHT_MIN),
            connections_max: connections.clamp(1, CONNECTIONS_PER_SHARD_MAX),
            connection_idle_ms: CONNECTION_IDLE_MS,
            sweep_pressed_interval_ms: SWEEP_PRESSED_INTERVAL_MS,
        }
    }
}

/// One shard's server. Held by every connection of the shard.
pub struct Server<N: Network, S: Service<N::Buffer>> {
    runtime: N,
    service: Rc<S>,
    config: ServerConfig,
    metrics: Arc<ShardMetrics>,
    requests: RequestMemory,
    /// Bytes that unsent answers own themselves.
    unsent: ByteCount,
    /// What every connection receives into; borrowed only while one of them is polled.
    scratch: RefCell<Vec<u8>>,
    registry: Registry,
    endings: Endings,
    /// True once the shard stops: no further request is applied.
    draining: Cell<bool>,
}

impl<N: Network, S: Service<N::Buffer>> Server<N, S> {
    /// A server without connections.
    pub fn new(runtime: N, service: Rc<S>, config: ServerConfig, metrics: Arc<ShardMetrics>) -> Rc<Server<N, S>> {
        assert!(config.connections_max > 0);
        let requests = RequestMemory::new(config.request_bytes_in_flight_max);
        Rc::new(Server {
            runtime,
            service,
            config,
            metrics,
            requests,
            unsent: ByteCount::default(),
            scratch: RefCell::new(vec![0; RECEIVE_BYTES]),
            registry: Registry::default(),
            endings: Endings::default(),
            draining: Cell::new(false),
        })
    }

    /// Accepts connections and serves them until `shutdown`. Then stops accepting, lets what was applied be answered, and
    /// returns when every connection is closed; those that take longer than `DRAIN_MS` are closed as they are.
    pub async fn serve(self: Rc<Self>, listener: N::Listener, shutdown: Shutdown) {
        let accepting = Rc::clone(&self);
        {
            let mut accept = pin!(accepting.accept(&listener));
            let mut stop = pin!(shutdown.requested());
            let mut sweep = pin!(Rc::clone(&self).sweep());
            poll_fn(|context| {
                if stop.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
                assert!(accept.as_mut().poll(context).is_pending());
                assert!(sweep.as_mut().poll(context).is_pending());
                Poll::Pending
            })
            .await;
        }
        drop(listener);
        self.drain().await;
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.registry.len()
    }

    /// Looks over all connections now and then, for ever.
    async fn sweep(self: Rc<Self>) {
        // When connections were looked over for idle ones, and for who is in the way.
        let (mut full_ms, mut pressed_ms) = (0, 0);
        let pressed_interval_ms = self.config.sweep_pressed_interval_ms;
        loop {
            let is_lent_short = self.requests.is_lent_out();
            let pause_ms = if is_lent_short { GATHERING_SWEEP_INTERVAL_MS } else { pressed_interval_ms };
            self.runtime.sleep(Duration::from_millis(pause_ms)).await;
            let now_ms = self.runtime.now().value() / 1000;
            if is_lent_short {
                self.registry.sweep_gathering();
                if now_ms < pressed_ms + pressed_interval_ms {
                    continue;
                }
            }
            pressed_ms = now_ms;
            let mut pressure = self.requests.pressure();
            let is_unsent_much = self.unsent.bytes() > self.config.request_bytes_in_flight_max / 4;
            pressure.answers = self.service.wants_answer_memory() || is_unsent_much;
            let connections_max = self.config.connections_max;
            pressure.connections = self.registry.len() >= connections_max - connections_max / 16;
            let is_full = now_ms >= full_ms + SWEEP_INTERVAL_MS;
            if !is_full && !pressure.is_any() {
                continue;
            }
            if is_full {
                full_ms = now_ms;
            }
            let idle_ms = self.config.connection_idle_ms;
            self.registry.sweep(&Sweep { now_ms, idle_ms, pressure, is_full });
        }
    }

    async fn drain(&self) {
        const STEP_MS: u64 = 10;
        self.draining.set(true);
        self.registry.wake_all();
        let mut waited_ms = 0;
        while self.registry.len() > 0 {
            if waited_ms == DRAIN_MS {
                tracing::warn!("closing {} connections whose answers did not come in time", self.registry.len());
                self.registry.close_all();
            }
            self.runtime.sleep(Duration::from_millis(STEP_MS)).await;
            waited_ms += STEP_MS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_from_memory_and_files() {
        let config = ServerConfig::new(1 << 30, 20_000, 2);
        assert_eq!(config.request_bytes_in_flight_max, 1 << 28);
        assert_eq!(config.connections_max, (20_000 - 512) / 2);
        let small = ServerConfig::new(1 << 20, 600, 64);
        assert_eq!(small.request_bytes_in_flight_max, REQUEST_BYTES_IN_FLIGHT_MIN);
        assert_eq!(small.connections_max, 300 / 64);
        assert_eq!(ServerConfig::new(1 << 30, u64::MAX, 1).connections_max, CONNECTIONS_PER_SHARD_MAX);
    }
}
