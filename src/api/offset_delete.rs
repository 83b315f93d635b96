//! OffsetDelete (47), version 0: offsets of a group are forgotten.
//!
//! Refused per topic that a member reads (GROUP_SUBSCRIBED_TO_TOPIC). An empty group id is INVALID_GROUP_ID.

use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let body = request.body.clone();
    let Ok(message) = OffsetDeleteRequest::decode(&mut Reader::new(&body), request.version) else {
        return Reply::Close;
    };
    if message.group_id.is_empty() {
        return Reply::Now(refused(&request, ErrorCode::InvalidGroupId));
    }
    groups::one(broker, request, &message.group_id, refused).await
}

fn refused<B>(request: &Request, error: ErrorCode) -> Response<B> {
    request.respond(&OffsetDeleteResponse { error_code: error.code(), ..OffsetDeleteResponse::default() })
}
