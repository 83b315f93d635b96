//! Where a load goes.

use std::net::SocketAddr;

/// A server as the generator sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cluster {
    /// Any Kafka-compatible broker, by one of its addresses.
    Kafka { bootstrap: SocketAddr },
    /// One of the floors: answers Produce alone, on one connection, and knows no topics.
    Floor { address: SocketAddr },
}
