//! AlterConfigs (33), versions 0 to 2: replaces the whole configuration of topics, nodes and groups. Deprecated in favour of
//! IncrementalAlterConfigs, and without a way to leave a configuration as it is.
//!
//! Every node takes the request; the controller decides (`broker::controller::configs`). The answer waits until the records
//! are durable and every shard follows them.

use std::borrow::Cow;
use std::rc::Rc;

use super::reply::Reply;
use super::{NO_TIMEOUT, Request};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::ControlRequest;

/// Handles one request: decodes it here, so that only sound ones reach the controller.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = AlterConfigsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let control = ControlRequest::AlterConfigs { version: request.version, body: request.body.clone() };
    request.ask_controller(broker, control, NO_TIMEOUT, |error, reason| failed(&message, error, &reason)).await
}

/// The answer when the records could not be appended: the same error for every resource.
fn failed<'a>(request: &AlterConfigsRequest<'a>, error: ErrorCode, reason: &str) -> AlterConfigsResponse<'a> {
    let rows = request.resources.iter().map(|resource| AlterConfigsResourceResponse {
        error_code: error.code(),
        error_message: Some(Cow::Owned(reason.to_owned())),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    });
    AlterConfigsResponse { throttle_time_ms: 0, responses: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::alter_configs::AlterConfigsResource;

    #[test]
    fn a_failure_answers_every_resource() {
        let resource = |resource_type, name| AlterConfigsResource {
            resource_type,
            resource_name: Cow::Borrowed(name),
            configs: Vec::new(),
        };
        let request = AlterConfigsRequest { resources: vec![resource(2, "t"), resource(4, "1")], validate_only: false };
        let response = failed(&request, ErrorCode::KafkaStorageError, "store is full");
        let row = |row: &AlterConfigsResourceResponse<'_>| (row.resource_type, row.error_code);
        assert_eq!(response.responses.iter().map(row).collect::<Vec<_>>(), [(2, 56), (4, 56)]);
    }
}
