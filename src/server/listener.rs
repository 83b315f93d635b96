//! The port: taking it, and accepting connections on it.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use super::Server;
use super::connection::{Connection, Ending};
use crate::api::reply::Service;
use crate::limits::{ACCEPT_PAUSE_MS, BIND_PAUSE_MS, BIND_TRIES, TURN_ACCEPTS_MAX};
use crate::runtime::{Listener, Network, Socket};

/// Why a port could not be taken, in words for whoever chose it.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error(
        "port {address} is taken: stop what listens there (`ss -ltnp 'sport = :{}'` names it) or choose another with {option}",
        address.port()
    )]
    Taken {
        /// The address wanted.
        address: SocketAddr,
        /// Which option chose it.
        option: &'static str,
    },
    /// The system refuses the address.
    #[error("cannot listen on {address}: {cause}: choose another address with {option}")]
    Refused {
        /// The address wanted.
        address: SocketAddr,
        /// Which option chose it.
        option: &'static str,
        /// The system's words.
        cause: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, cause: io::Error) -> BindError {
        let option = "--listen";
        match cause.kind() {
            io::ErrorKind::AddrInUse => BindError::Taken { address, option },
            _ => BindError::Refused { address, option, cause },
        }
    }

    /// The same of an address that `option` chose.
    pub fn chosen_by(mut self, name: &'static str) -> BindError {
        let (BindError::Taken { option, .. } | BindError::Refused { option, .. }) = &mut self;
        *option = name;
        self
    }
}

/// Listens on `address`, for this shard alone or `shared` with its siblings. Tries again for a second while it is taken.
///
/// A shared address would also be shared with another process: call [`check_free`] before the first shard binds.
pub async fn bind<N: Network>(runtime: &N, address: SocketAddr, shared: bool) -> Result<N::Listener, BindError> {
    let mut tries = 1;
    loop {
        match runtime.listen(address, shared) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES => tries += 1,
            Err(error) => return Err(BindError::new(address, error)),
        }
        runtime.sleep(Duration::from_millis(BIND_PAUSE_MS)).await;
    }
}

/// Checks that nobody listens on `address`, by listening there for a moment without SO_REUSEPORT, which fails beside any
/// other listener. Tries again for a second. Blocks: for `main`, before the shards start.
pub fn check_free(address: SocketAddr) -> Result<(), BindError> {
    let mut tries = 1;
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES => tries += 1,
            Err(error) => return Err(BindError::new(address, error)),
        }
        thread::sleep(Duration::from_millis(BIND_PAUSE_MS));
    }
}

impl<N: Network, S: Service<N::Buffer>> Server<N, S> {
    /// Accepts connections for ever and starts a task for each.
    pub(super) async fn accept(self: Rc<Self>, listener: &N::Listener) {
        let mut turn_accepts = 0;
        loop {
            match listener.accept().await {
                Ok(socket) => self.start(socket),
                Err(error) => {
                    self.endings.log(&self.runtime, None, &Ending::AcceptFailed(error));
                    self.runtime.sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                }
            }
            turn_accepts += 1;
            if turn_accepts == TURN_ACCEPTS_MAX {
                // When all clients come back at once, those that are here already go on being served.
                turn_accepts = 0;
                self.runtime.yield_now().await;
            }
        }
    }

    fn start(self: &Rc<Self>, socket: N::Socket) {
        // A peer that is gone already has no address; nothing is lost with it.
        let (Ok(peer), Ok(local)) = (socket.peer_address(), socket.local_address()) else { return };
        if self.registry.len() >= self.config.connections_max {
            self.metrics.connections_refused.add(1);
            self.endings.log(&self.runtime, Some(peer), &Ending::TooMany(self.config.connections_max));
            return;
        }
        self.metrics.connections_accepted.add(1);
        let connection = Connection::new(Rc::clone(self), socket, peer, local);
        self.runtime.spawn(connection.run());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use crate::runtime::glommio::{Cores, ShardPlan, run_shards};
    use std::future::Future;

    fn on_shard<F: Future<Output = ()> + 'static>(
        test: impl Fn(crate::runtime::glommio::GlommioRuntime) -> F + Send + Sync + 'static,
    ) {
        let plan = ShardPlan { count: 1, cpus: Cores::of_this_process().cpus, io_memory_bytes: 65536 };
        run_shards(&plan, move |_, runtime| test(runtime)).unwrap();
    }

    #[test]
    fn a_port_is_not_shared_by_accident() {
        on_shard(|runtime| async move {
            let first = bind(&runtime, "127.0.0.1:0".parse().unwrap(), false).await.unwrap();
            let address = first.local_address().unwrap();
            for shared in [false, true] {
                let error = bind(&runtime, address, shared).await.err().unwrap();
                assert!(matches!(error, BindError::Taken { .. }));
                assert!(error.to_string().starts_with(&format!("port {address} is taken")), "{error}");
            }
            assert!(matches!(check_free(address), Err(BindError::Taken { .. })));
        });
    }

    #[test]
    fn a_port_is_shared_on_purpose_and_found_taken_all_the_same() {
        on_shard(|runtime| async move {
            let first = bind(&runtime, "127.0.0.1:0".parse().unwrap(), true).await.unwrap();
            let address = first.local_address().unwrap();
            let second = bind(&runtime, address, true).await.unwrap();
            assert_eq!(second.local_address().unwrap(), address);
            assert!(matches!(check_free(address), Err(BindError::Taken { .. })));
            drop((first, second));
            check_free(address).unwrap();
        });
    }

    #[test]
    fn connections_to_a_shared_port_reach_every_shard() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        check_free(address).unwrap();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let stop = crate::server::Shutdown::new();
        let shutdown = stop.clone();
        let shards = thread::spawn(move || {
            let plan = ShardPlan { count: 2, cpus: Cores::of_this_process().cpus, io_memory_bytes: 65536 };
            run_shards(&plan, move |_, runtime| {
                let (ready, shutdown) = (ready.clone(), shutdown.clone());
                async move {
                    let listener = bind(&runtime, address, true).await.unwrap();
                    ready.send(()).unwrap();
                    let accepted = Rc::new(std::cell::Cell::new(0));
                    let count = Rc::clone(&accepted);
                    runtime.spawn(async move {
                        while listener.accept().await.is_ok() {
                            count.set(count.get() + 1);
                        }
                    });
                    shutdown.requested().await;
                    accepted.get()
                }
            })
            .unwrap()
        });
        is_ready.recv().unwrap();
        is_ready.recv().unwrap();
        let connected: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        thread::sleep(Duration::from_millis(200));
        stop.request();
        let accepted = shards.join().unwrap();
        assert_eq!(accepted.iter().sum::<usize>(), connected.len());
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    }

    #[test]
    fn a_port_let_go_meanwhile_is_taken() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(250));
            drop(holder);
        });
        on_shard(move |runtime| async move {
            bind(&runtime, address, false).await.unwrap();
        });
        thread.join().unwrap();
    }

    #[test]
    fn an_address_of_another_machine_is_refused_in_words() {
        let error = check_free("192.0.2.1:9092".parse().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:9092: "), "{error}");
    }

    #[test]
    fn accepted_sockets_have_nodelay() {
        on_shard(|runtime| async move {
            let listener = bind(&runtime, "127.0.0.1:0".parse().unwrap(), false).await.unwrap();
            let peer = std::net::TcpStream::connect(listener.local_address().unwrap()).unwrap();
            let socket = listener.accept().await.unwrap();
            assert_eq!(socket.peer_address().unwrap(), peer.local_addr().unwrap());
            assert!(socket.has_nodelay_and_keepalive());
        });
    }
}
