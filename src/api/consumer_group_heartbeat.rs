//! ConsumerGroupHeartbeat (68), versions 0 to 1: all that a member of a KIP-848 group ever sends.
//!
//! The coordinator checks the whole request, the empty group id (INVALID_REQUEST) too.

use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let body = request.body.clone();
    let Ok(message) = ConsumerGroupHeartbeatRequest::decode(&mut Reader::new(&body), request.version) else {
        return Reply::Close;
    };
    groups::one(broker, request, &message.group_id, refused).await
}

fn refused<B>(request: &Request, error: ErrorCode) -> Response<B> {
    request.respond(&ConsumerGroupHeartbeatResponse {
        error_code: error.code(),
        ..ConsumerGroupHeartbeatResponse::default()
    })
}
