//! What a node was given by the command line and by the machine, told by Kafka's keys: its number, its addresses, its
//! directories. DescribeConfigs shows it beside the settings.

use std::collections::BTreeMap;

use super::data_directory::DataDirectories;
use super::start::{Advertise, HostPort};
use crate::broker::controller::NodeStart;
use crate::config::Configs;
use crate::types::{NodeId, ShardId};

/// The values of every node. `listen` is the address of the first one.
pub(super) fn of_nodes(
    nodes: &[NodeStart],
    listen: &HostPort,
    advertise: Advertise,
    directories: &DataDirectories,
) -> BTreeMap<NodeId, Configs> {
    let shards = || (0..directories.shard_count()).map(ShardId::new);
    let directory = |shard: ShardId| directories.of_shard(shard).to_string_lossy().into_owned();
    let of_node = |(shard, node): (ShardId, &NodeStart)| {
        // One node that speaks for all has the port and the directories of all.
        let (plus, log_dirs) = match advertise {
            Advertise::PerCore => (shard.value(), directory(shard)),
            Advertise::Single => (0, shards().map(directory).collect::<Vec<_>>().join(",")),
        };
        let roles = if shard == ShardId::CONTROLLER { "broker,controller" } else { "broker" };
        let values = [
            ("advertised.listeners", endpoint(&node.host, node.port)),
            ("broker.id", node.node.to_string()),
            ("listeners", endpoint(&listen.host, listen.port.saturating_add(plus))),
            ("log.dirs", log_dirs),
            ("node.id", node.node.to_string()),
            ("process.roles", roles.to_owned()),
        ];
        let rack = node.rack.clone().map(|rack| ("broker.rack", rack));
        let values = values.into_iter().chain(rack).map(|(name, value)| (name.to_owned(), value));
        (node.node, values.collect())
    };
    shards().zip(nodes).map(of_node).collect()
}

/// A listener in Kafka's form.
fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("PLAINTEXT://[{host}]:{port}") } else { format!("PLAINTEXT://{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::broker::BrokerKey;
    use crate::server::data_directory::Wanted;

    fn told(advertise: Advertise) -> BTreeMap<NodeId, Configs> {
        let place = tempfile::tempdir().unwrap();
        let wanted = Wanted { shards: Some(2), shards_default: 2, accept_loss: false };
        let directories = DataDirectories::open(&[place.path().to_owned()], wanted).unwrap();
        let node = |shard: u16| NodeStart {
            node: NodeId::of_shard(ShardId::new(shard)),
            host: "outside".to_owned(),
            port: 19_092 + shard,
            rack: Some("machine".to_owned()),
        };
        let listen = HostPort { host: "::1".to_owned(), port: 9_092 };
        of_nodes(&[node(0), node(1)], &listen, advertise, &directories)
    }

    #[test]
    fn every_node_tells_its_own_number_port_and_directory() {
        let nodes = told(Advertise::PerCore);
        let (first, second) = (&nodes[&NodeId::new(1)], &nodes[&NodeId::new(2)]);
        assert_eq!((&*first["node.id"], &*second["broker.id"]), ("1", "2"));
        assert_eq!((&*first["process.roles"], &*second["process.roles"]), ("broker,controller", "broker"));
        assert_eq!(second["listeners"], "PLAINTEXT://[::1]:9093");
        assert_eq!(second["advertised.listeners"], "PLAINTEXT://outside:19093");
        assert_eq!(second["broker.rack"], "machine");
        assert!(first["log.dirs"].ends_with("/shard-0") && second["log.dirs"].ends_with("/shard-1"));
    }

    #[test]
    fn one_node_for_all_has_one_port_and_all_directories() {
        let nodes = told(Advertise::Single);
        let first = &nodes[&NodeId::new(1)];
        assert_eq!(first["listeners"], "PLAINTEXT://[::1]:9092");
        assert_eq!(first["log.dirs"].split(',').count(), 2);
    }

    #[test]
    fn what_is_told_are_keys_that_no_setting_decides() {
        for name in told(Advertise::PerCore)[&NodeId::new(1)].keys() {
            assert!(!BrokerKey::named(name).unwrap().is_dynamic(), "{name}");
        }
    }
}
