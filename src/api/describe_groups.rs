//! DescribeGroups (15), versions 0 to 6: what classic groups do, and who their members are.
//!
//! Groups are answered in the order of the request, each by its own coordinator, the empty group id too. Authorized operations
//! (3+) are told for groups without error.

use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups, operations};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::GroupReply;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = DescribeGroupsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let part = |places: &[usize]| DescribeGroupsRequest {
        groups: places.iter().map(|place| message.groups[*place].clone()).collect(),
        include_authorized_operations: false,
    };
    let names = message.groups.iter().map(|name| &**name);
    let parts = groups::split(broker, &request, request.version, names, part).await;
    let Some(parts) = parts else { return Reply::Close };
    groups::gather::<R>(request.clone(), parts, merge)
}

fn merge<B>(request: &Request, replies: Vec<(Vec<usize>, GroupReply)>) -> Response<B> {
    let message = DescribeGroupsRequest::decode(&mut Reader::new(&request.body), request.version)
        .expect("it was decoded before it was split");
    let decode = |body| {
        let part = DescribeGroupsResponse::decode(&mut Reader::new(body), request.version);
        part.expect("the coordinator encoded it").groups
    };
    let failed = |place: usize, error: ErrorCode| DescribedGroup {
        error_code: error.code(),
        group_id: message.groups[place].clone(),
        ..DescribedGroup::default()
    };
    let mut rows = groups::rows(message.groups.len(), &replies, decode, failed);
    if message.include_authorized_operations {
        for row in rows.iter_mut().filter(|row| row.error_code == ErrorCode::None.code()) {
            row.authorized_operations = operations::GROUP;
        }
    }
    request.respond(&DescribeGroupsResponse { groups: rows, ..DescribeGroupsResponse::default() })
}
