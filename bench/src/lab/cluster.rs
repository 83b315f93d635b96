//! Where a load goes: what a generator must know of a server, and no more.

use std::net::SocketAddr;

/// A running server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cluster {
    /// Anything that speaks Kafka's protocol.
    Kafka {
        /// One of its nodes, which names the others.
        bootstrap: SocketAddr,
    },
    /// A floor: answers Produce of [`crate::load::PRODUCE_VERSION`] on one connection, and knows no topics.
    Floor {
        /// Its address.
        address: SocketAddr,
    },
}
