//! ConsumerGroupDescribe (69), versions 0 to 1: what KIP-848 groups do, and who their members are.
//!
//! Groups are answered in the order of the request, each by its own coordinator. An empty group id is INVALID_GROUP_ID.
//! Authorized operations are told for groups without error.

use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups, operations};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::GroupReply;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = ConsumerGroupDescribeRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let part = |places: &[usize]| ConsumerGroupDescribeRequest {
        group_ids: places.iter().map(|place| message.group_ids[*place].clone()).collect(),
        include_authorized_operations: false,
    };
    let names = message.group_ids.iter().map(|name| &**name);
    let parts = groups::split(broker, &request, request.version, names, part).await;
    let Some(parts) = parts else { return Reply::Close };
    groups::gather::<R>(request.clone(), parts, merge)
}

fn merge<B>(request: &Request, replies: Vec<(Vec<usize>, GroupReply)>) -> Response<B> {
    let message = ConsumerGroupDescribeRequest::decode(&mut Reader::new(&request.body), request.version)
        .expect("it was decoded before it was split");
    let decode = |body| {
        let part = ConsumerGroupDescribeResponse::decode(&mut Reader::new(body), request.version);
        part.expect("the coordinator encoded it").groups
    };
    let failed = |place: usize, error: ErrorCode| DescribedGroup {
        error_code: error.code(),
        group_id: message.group_ids[place].clone(),
        ..DescribedGroup::default()
    };
    let mut rows = groups::rows(message.group_ids.len(), &replies, decode, failed);
    for row in &mut rows {
        if row.group_id.is_empty() {
            *row = DescribedGroup { error_code: ErrorCode::InvalidGroupId.code(), ..DescribedGroup::default() };
        } else if message.include_authorized_operations && row.error_code == ErrorCode::None.code() {
            row.authorized_operations = operations::GROUP;
        }
    }
    request.respond(&ConsumerGroupDescribeResponse { groups: rows, ..ConsumerGroupDescribeResponse::default() })
}
