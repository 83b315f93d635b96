//! ListConfigResources (74), versions 0 and 1: what has configurations.
//!
//! Version 0 lists telemetry subscriptions only, of which there are none; 1 lists the kinds asked for, all when none is
//! named: topics (2), nodes (4), and the groups (32) that something is set on. Loggers (8) and telemetry subscriptions (16)
//! cannot be configured here, so none is listed. A kind that Kafka does not know is UNSUPPORTED_VERSION.
//!
//! Kafka lists a group until its next start when all that was set on it is deleted; nothing set and never set are the same
//! here.

use std::borrow::Cow;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::cluster::image::{
    BROKER_LOGGER_RESOURCE, BROKER_RESOURCE, CLIENT_METRICS_RESOURCE, GROUP_RESOURCE, TOPIC_RESOURCE,
};
use crate::cluster::view::ClientView;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

/// Handles one request.
pub(super) fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: &Request) -> Reply<R::Buffer> {
    let Ok(message) = ListConfigResourcesRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let image = broker.shard.image();
    Reply::Now(request.respond(&respond(broker.view(&image), &message, request.version)))
}

fn respond<'a>(
    view: ClientView<'a>,
    request: &ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse<'a> {
    const KNOWN: [i8; 5] =
        [TOPIC_RESOURCE, BROKER_RESOURCE, BROKER_LOGGER_RESOURCE, CLIENT_METRICS_RESOURCE, GROUP_RESOURCE];
    if request.resource_types.iter().any(|kind| !KNOWN.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse { error_code, ..ListConfigResourcesResponse::default() };
    }
    let wanted = |kind| version > 0 && (request.resource_types.is_empty() || request.resource_types.contains(&kind));
    let mut config_resources = Vec::new();
    if wanted(BROKER_RESOURCE) {
        config_resources.extend(view.nodes().map(|(broker, _)| ConfigResource {
            resource_name: Cow::Owned(broker.node().to_string()),
            resource_type: BROKER_RESOURCE,
        }));
    }
    if wanted(TOPIC_RESOURCE) {
        config_resources.extend(view.image.topics().map(|topic| ConfigResource {
            resource_name: Cow::Borrowed(&**topic.name()),
            resource_type: TOPIC_RESOURCE,
        }));
    }
    if wanted(GROUP_RESOURCE) {
        config_resources.extend(
            view.image
                .configured_groups()
                .map(|group| ConfigResource { resource_name: Cow::Borrowed(&**group), resource_type: GROUP_RESOURCE }),
        );
    }
    ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::controller::{self, NodeStart};
    use crate::cluster::image::MetadataImage;
    use crate::cluster::records::{ConfigRecord, TopicRecord};
    use crate::cluster::view::Advertise;
    use crate::types::{NodeId, TopicId};

    fn ask(resource_types: &[i8], version: i16) -> (i16, Vec<(String, i8)>) {
        let empty = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ");
        let start = |node| NodeStart { node: NodeId::new(node), host: "h".to_owned(), port: 9092, rack: None };
        let mut records = controller::register_nodes(&empty, &[start(1), start(2)], &mut || 1);
        records.push(TopicRecord { name: Arc::from("t"), topic_id: TopicId::new([1; 16]) }.into());
        let set = ConfigRecord {
            resource_type: GROUP_RESOURCE,
            resource_name: Arc::from("g"),
            name: Arc::from("consumer.session.timeout.ms"),
            value: Some(Arc::from("50000")),
        };
        records.push(set.into());
        let image = empty.apply(&records).unwrap();
        let view = ClientView { image: &image, advertise: Advertise::PerCore };
        let request = ListConfigResourcesRequest { resource_types: resource_types.to_vec() };
        let response = respond(view, &request, version);
        let row = |row: &ConfigResource<'_>| (row.resource_name.to_string(), row.resource_type);
        (response.error_code, response.config_resources.iter().map(row).collect())
    }

    #[test]
    fn topics_and_nodes_are_listed_and_groups_with_settings() {
        let (topic, group) = (("t".to_owned(), 2), ("g".to_owned(), 32));
        let nodes = [("1".to_owned(), 4), ("2".to_owned(), 4)];
        assert_eq!(ask(&[2, 2], 1), (0, vec![topic.clone()]));
        assert_eq!(ask(&[4], 1), (0, nodes.to_vec()));
        assert_eq!(ask(&[32], 1), (0, vec![group.clone()]));
        assert_eq!(ask(&[], 1), (0, [nodes.to_vec(), vec![topic, group]].concat()));
        assert_eq!(ask(&[8, 16], 1), (0, vec![]));
    }

    #[test]
    fn version_0_lists_telemetry_subscriptions_alone() {
        assert_eq!(ask(&[], 0), (0, vec![]));
    }

    #[test]
    fn a_strange_kind_is_unsupported() {
        assert_eq!(ask(&[2, 99], 1), (35, vec![]));
    }
}
