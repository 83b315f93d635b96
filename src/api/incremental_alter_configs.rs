//! IncrementalAlterConfigs (44), versions 0 and 1: sets, deletes, appends to and subtracts from single configurations of
//! topics, nodes and groups.
//!
//! Every node takes the request, for any node of the process; the controller decides (`broker::controller::configs`). The
//! answer waits until the records are durable and every shard follows them.

use std::borrow::Cow;
use std::rc::Rc;

use super::reply::Reply;
use super::{NO_TIMEOUT, Request};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::incremental_alter_configs::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::ControlRequest;

/// Handles one request: decodes it here, so that only sound ones reach the controller.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = IncrementalAlterConfigsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let control = ControlRequest::IncrementalAlterConfigs { version: request.version, body: request.body.clone() };
    request.ask_controller(broker, control, NO_TIMEOUT, |error, reason| failed(&message, error, &reason)).await
}

/// The answer when the records could not be appended: the same error for every resource.
fn failed<'a>(
    request: &IncrementalAlterConfigsRequest<'a>,
    error: ErrorCode,
    reason: &str,
) -> IncrementalAlterConfigsResponse<'a> {
    let rows = request.resources.iter().map(|resource| AlterConfigsResourceResponse {
        error_code: error.code(),
        error_message: Some(Cow::Owned(reason.to_owned())),
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
    });
    IncrementalAlterConfigsResponse { throttle_time_ms: 0, responses: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::incremental_alter_configs::AlterConfigsResource;

    #[test]
    fn a_failure_answers_every_resource() {
        let resource = |resource_type, name| AlterConfigsResource {
            resource_type,
            resource_name: Cow::Borrowed(name),
            configs: Vec::new(),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource(2, "t"), resource(4, "1")],
            validate_only: false,
        };
        let response = failed(&request, ErrorCode::KafkaStorageError, "store is full");
        let row = |row: &AlterConfigsResourceResponse<'_>| (row.resource_type, row.error_code);
        assert_eq!(response.responses.iter().map(row).collect::<Vec<_>>(), [(2, 56), (4, 56)]);
    }
}
