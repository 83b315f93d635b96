//! Heartbeat (12), versions 0 to 4: a member of a classic group is alive.
//!
//! While its coordinator loads a member is told that all is well, as in Kafka: it will learn the rest with its next one. An
//! empty group id is INVALID_GROUP_ID.

use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let body = request.body.clone();
    let Ok(message) = HeartbeatRequest::decode(&mut Reader::new(&body), request.version) else {
        return Reply::Close;
    };
    if message.group_id.is_empty() {
        return Reply::Now(refused(&request, ErrorCode::InvalidGroupId));
    }
    groups::one(broker, request, &message.group_id, refused).await
}

fn refused<B>(request: &Request, error: ErrorCode) -> Response<B> {
    request.respond(&failed(error))
}

fn failed(error: ErrorCode) -> HeartbeatResponse {
    let error = if error == ErrorCode::CoordinatorLoadInProgress { ErrorCode::None } else { error };
    HeartbeatResponse { error_code: error.code(), ..HeartbeatResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_whose_coordinator_loads_is_told_that_all_is_well() {
        assert_eq!(failed(ErrorCode::CoordinatorLoadInProgress).error_code, 0);
        assert_eq!(failed(ErrorCode::NotCoordinator).error_code, 16);
    }
}
