//! DescribeCluster (60), versions 0 to 2: the nodes, and which of them takes administrative requests.
//!
//! Version 1 adds the type of endpoint asked for: this is a broker (1); controllers (2) are MISMATCHED_ENDPOINT_TYPE, anything
//! else UNSUPPORTED_ENDPOINT_TYPE. Version 2 can list nodes that are fenced.

use std::borrow::Cow;
use std::rc::Rc;

use super::reply::Reply;
use super::{Request, operations};
use crate::broker::Broker;
use crate::cluster::image;
use crate::cluster::records::BrokerEndpoint;
use crate::cluster::view::{Advertise, ClientView, LISTENER};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Handles one request.
pub(super) fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: &Request) -> Reply<R::Buffer> {
    let Ok(message) = DescribeClusterRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let image = broker.shard.image();
    Reply::Now(request.respond(&respond(broker.view(&image), &message, request.version)))
}

/// Answers the request.
fn respond<'a>(view: ClientView<'a>, request: &DescribeClusterRequest, version: i16) -> DescribeClusterResponse<'a> {
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message =
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            return error(version, ErrorCode::MismatchedEndpointType, Cow::Borrowed(message));
        }
        other => {
            let message = format!("Unsupported endpoint type {other}");
            return error(version, ErrorCode::UnsupportedEndpointType, Cow::Owned(message));
        }
    }
    let mut brokers: Vec<_> = view.nodes().map(|(broker, endpoint)| row(broker, endpoint)).collect();
    if request.include_fenced_brokers && view.advertise == Advertise::PerCore {
        let fenced = view.image.brokers().filter(|broker| broker.is_fenced());
        brokers.extend(fenced.filter_map(|broker| Some(row(broker, broker.endpoint(LISTENER)?))));
        brokers.sort_by_key(|broker| broker.broker_id);
    }
    DescribeClusterResponse {
        throttle_time_ms: 0,
        error_code: ErrorCode::None.code(),
        error_message: None,
        endpoint_type: BROKERS,
        cluster_id: Cow::Borrowed(view.image.cluster_id()),
        controller_id: view.controller().map_or(-1, |node| node.value()),
        brokers,
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => operations::CLUSTER,
            false => operations::NOT_ASKED,
        },
    }
}

fn row<'a>(broker: &'a image::Broker, endpoint: &'a BrokerEndpoint) -> DescribeClusterBroker<'a> {
    DescribeClusterBroker {
        broker_id: broker.node().value(),
        host: Cow::Borrowed(&endpoint.host),
        port: i32::from(endpoint.port),
        rack: broker.rack().map(Cow::Borrowed),
        is_fenced: broker.is_fenced(),
    }
}

/// Version 0 knows neither of the codes.
fn error(version: i16, error: ErrorCode, message: Cow<'_, str>) -> DescribeClusterResponse<'_> {
    let error = if version == 0 { ErrorCode::InvalidRequest } else { error };
    DescribeClusterResponse {
        error_code: error.code(),
        error_message: Some(message),
        ..DescribeClusterResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::controller::{self, NodeStart};
    use crate::cluster::image::MetadataImage;
    use crate::types::{NodeId, ShardId};

    fn image() -> MetadataImage {
        let empty = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ");
        let start = |shard: u16| NodeStart {
            node: NodeId::of_shard(ShardId::new(shard)),
            host: "h".to_owned(),
            port: 9092 + shard,
            rack: Some("m".to_owned()),
        };
        let records = controller::register_nodes(&empty, &[start(0), start(1)], &mut || 1);
        empty.apply(&records).unwrap()
    }

    #[test]
    fn all_nodes_are_listed_per_core_and_one_in_single() {
        let image = image();
        let mut view = ClientView { image: &image, advertise: Advertise::PerCore };
        let response = respond(view, &DescribeClusterRequest::default(), 0);
        let rows: Vec<_> = response.brokers.iter().map(|row| (row.broker_id, row.port)).collect();
        assert_eq!((rows, response.controller_id), (vec![(1, 9092), (2, 9093)], 1));
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
        view.advertise = Advertise::Single;
        assert_eq!(respond(view, &DescribeClusterRequest::default(), 2).brokers.len(), 1);
    }

    #[test]
    fn controllers_are_not_found_at_a_broker() {
        let image = image();
        let view = ClientView { image: &image, advertise: Advertise::PerCore };
        let ask = |endpoint_type, version| {
            let request = DescribeClusterRequest { endpoint_type, ..DescribeClusterRequest::default() };
            respond(view, &request, version).error_code
        };
        assert_eq!(ask(2, 1), ErrorCode::MismatchedEndpointType.code());
        assert_eq!(ask(7, 1), ErrorCode::UnsupportedEndpointType.code());
        assert_eq!(ask(7, 0), ErrorCode::InvalidRequest.code());
    }
}
