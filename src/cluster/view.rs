//! The nodes as clients see them.
//!
//! `per-core`: every shard is a node of its own. `single`: one node on one port speaks for all of them, for NAT and
//! Kubernetes; the image knows the shards all the same, since leadership decides which core owns a partition.

use super::image::{Broker, MetadataImage, Partition};
use super::records::BrokerEndpoint;
use crate::types::{NodeId, ShardId};

/// The one listener: no encryption, no authentication.
pub const LISTENER: &str = "PLAINTEXT";

/// How many nodes clients see.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Advertise {
    /// One per shard.
    #[default]
    PerCore,
    /// The first shard's, for all.
    Single,
}

/// An image as clients see it.
#[derive(Clone, Copy, Debug)]
pub struct ClientView<'a> {
    /// The state.
    pub image: &'a MetadataImage,
    /// How many nodes clients see of it.
    pub advertise: Advertise,
}

impl<'a> ClientView<'a> {
    /// Nodes that are alive and where they listen, by rising id.
    pub fn nodes(&self) -> impl Iterator<Item = (&'a Broker, &'a BrokerEndpoint)> {
        let advertise = self.advertise;
        let seen = move |broker: &&Broker| advertise == Advertise::PerCore || broker.node() == speaker();
        let alive = self.image.brokers().filter(|broker| !broker.is_fenced()).filter(seen);
        alive.filter_map(|broker| Some((broker, broker.endpoint(LISTENER)?)))
    }

    /// The node that takes administrative requests: the controller's own if it lives, else the first alive. Any node
    /// takes them; this one need not pass them on.
    pub fn controller(&self) -> Option<NodeId> {
        let controller = NodeId::of_shard(ShardId::CONTROLLER);
        let mut nodes = self.nodes().map(|(broker, _)| broker.node()).peekable();
        let first = nodes.peek().copied();
        nodes.find(|node| *node == controller).or(first)
    }

    /// The node that clients know for this one.
    pub fn node(&self, node: NodeId) -> NodeId {
        match self.advertise {
            Advertise::PerCore => node,
            Advertise::Single => speaker(),
        }
    }

    /// The nodes that clients know for these, each once.
    pub fn node_ids(&self, nodes: &[NodeId]) -> Vec<i32> {
        match self.advertise {
            Advertise::PerCore => nodes.iter().map(|node| node.value()).collect(),
            Advertise::Single => nodes.iter().take(1).map(|node| self.node(*node).value()).collect(),
        }
    }

    /// The leader of a partition and where it listens, if it lives: the hint of Produce v10+ and Fetch v16+ (KIP-951).
    pub fn leader(&self, partition: &Partition) -> Option<(&'a Broker, &'a BrokerEndpoint)> {
        let broker = self.image.broker(self.node(partition.leader?)).filter(|broker| !broker.is_fenced())?;
        Some((broker, broker.endpoint(LISTENER)?))
    }

    /// True if clients can reach the node, or the one that speaks for it.
    pub fn is_online(&self, node: NodeId) -> bool {
        let broker = self.image.broker(self.node(node));
        broker.is_some_and(|broker| !broker.is_fenced() && broker.endpoint(LISTENER).is_some())
    }
}

/// The node that speaks for all in `single`.
fn speaker() -> NodeId {
    NodeId::of_shard(ShardId::CONTROLLER)
}
