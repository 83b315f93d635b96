//! DescribeCluster (60). Versions 0 to 2, all flexible.
//!
//! 1 adds the kind of endpoint, 2 fenced brokers.

use std::borrow::Cow;

use crate::protocol::table::message;

message! {
    /// Asks who belongs to the cluster.
    pub struct DescribeClusterRequest (DescribeCluster, 0..=2, flexible 0) {
        /// Whether to tell what the client may do to the cluster.
        include_cluster_authorized_operations: bool [0..];
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [1..] default(1);
        /// Whether to list brokers that are registered but fenced.
        include_fenced_brokers: bool [2..];
    }

    /// Who belongs to the cluster.
    pub struct DescribeClusterResponse<'a> (DescribeCluster, 0..=2, flexible 0) {
        /// How long the client was throttled.
        throttle_time_ms: i32 [0..];
        /// 0, or why there is no answer.
        error_code: i16 [0..];
        /// What the error code does not say.
        error_message: Option<Cow<'a, str>> [0..];
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [1..] default(1);
        /// Id of the cluster.
        cluster_id: Cow<'a, str> [0..];
        /// A node that takes administrative requests, -1 for none.
        controller_id: i32 [0..] default(-1);
        /// The nodes.
        brokers: Vec<DescribeClusterBroker<'a>> [0..];
        /// Bits of what the client may do to the cluster; the minimum if not asked.
        cluster_authorized_operations: i32 [0..] default(i32::MIN);
    }

    /// Where a node listens.
    pub struct DescribeClusterBroker<'a> {
        /// Id of the node.
        broker_id: i32 [0..];
        /// Host name or address.
        host: Cow<'a, str> [0..];
        /// Port.
        port: i32 [0..];
        /// Rack of the node.
        rack: Option<Cow<'a, str>> [0..];
        /// Whether it is fenced.
        is_fenced: bool [2..];
    }
}
