//! What makes shards one broker: who owns a partition, how a request is split and gathered, who changes the cluster.

pub mod controller;
