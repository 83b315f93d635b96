//! SyncGroup (14), versions 0 to 5: the leader's assignment comes in, everyone's own goes out.
//!
//! Followers wait for the leader's. An empty group id is INVALID_GROUP_ID. Large requests are refused as in `join_group`.

use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups};
use crate::broker::Broker;
use crate::limits::GROUP_REQUEST_BYTES_MAX;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let body = request.body.clone();
    let Ok(message) = SyncGroupRequest::decode(&mut Reader::new(&body), request.version) else {
        return Reply::Close;
    };
    // From this version on both must be there, whatever the group (KIP-559).
    let lacks_protocol = request.version >= 5 && (message.protocol_type.is_none() || message.protocol_name.is_none());
    if lacks_protocol {
        return Reply::Now(refused(&request, ErrorCode::InconsistentGroupProtocol));
    }
    if message.group_id.is_empty() {
        return Reply::Now(refused(&request, ErrorCode::InvalidGroupId));
    }
    if body.len() > GROUP_REQUEST_BYTES_MAX {
        return Reply::Now(refused(&request, ErrorCode::UnknownServerError));
    }
    groups::one(broker, request, &message.group_id, refused).await
}

fn refused<B>(request: &Request, error: ErrorCode) -> Response<B> {
    request.respond(&SyncGroupResponse { error_code: error.code(), ..SyncGroupResponse::default() })
}
