//! JoinGroup (11), versions 0 to 9: a member comes into a classic group, and waits for the others.
//!
//! The answer comes when the generation begins, up to minutes later. An empty group id is INVALID_GROUP_ID. A request larger
//! than any group record may be is refused at once with UNKNOWN_SERVER_ERROR, which Kafka gives when it writes the record.

use std::borrow::Cow;
use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups};
use crate::broker::Broker;
use crate::limits::GROUP_REQUEST_BYTES_MAX;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

/// Version from which an error has no protocol name.
const PROTOCOL_NAME_NULL_SINCE: i16 = 7;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let body = request.body.clone();
    let Ok(message) = JoinGroupRequest::decode(&mut Reader::new(&body), request.version) else {
        return Reply::Close;
    };
    if message.group_id.is_empty() {
        let failed = failed(request.version, ErrorCode::InvalidGroupId);
        let response = JoinGroupResponse { member_id: message.member_id, ..failed };
        return Reply::Now(request.respond(&response));
    }
    if body.len() > GROUP_REQUEST_BYTES_MAX {
        return Reply::Now(refused(&request, ErrorCode::UnknownServerError));
    }
    groups::one(broker, request, &message.group_id, refused).await
}

fn refused<B>(request: &Request, error: ErrorCode) -> Response<B> {
    request.respond(&failed(request.version, error))
}

fn failed(version: i16, error: ErrorCode) -> JoinGroupResponse<'static> {
    JoinGroupResponse {
        error_code: error.code(),
        // Null since it can be.
        protocol_name: (version < PROTOCOL_NAME_NULL_SINCE).then_some(Cow::Borrowed("")),
        ..JoinGroupResponse::default()
    }
}
