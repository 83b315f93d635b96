//! What the cluster is: its nodes, topics, partitions, configurations, features and ids given out. Pure, on no core in
//! particular: an image is immutable and shared.
//!
//! The state is a log of Kafka's own metadata records ([`records`]) and what they add up to ([`image::MetadataImage`]).
//! Alone, shard 0 writes that log (`broker::controller`); following a KRaft quorum changes who writes it and nothing else.
//! [`view`] is how clients see the nodes, [`topic_name`] what a topic may be called.

mod buckets;
pub mod image;
pub mod records;
pub mod topic_name;
pub mod view;
