//! DeleteGroups (42), versions 0 to 2: groups without members are deleted, with their offsets.
//!
//! Each by its own coordinator, the empty group id too. A name that stands twice is answered once, as in Kafka.

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::GroupReply;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = DeleteGroupsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let names = distinct(&message);
    let part = |places: &[usize]| DeleteGroupsRequest {
        groups_names: places.iter().map(|place| names[*place].clone()).collect(),
    };
    let parts = groups::split(broker, &request, request.version, names.iter().map(|name| &**name), part).await;
    let Some(parts) = parts else { return Reply::Close };
    groups::gather::<R>(request.clone(), parts, merge)
}

/// The names of the request, each once, in their order.
fn distinct<'a>(request: &DeleteGroupsRequest<'a>) -> Vec<Cow<'a, str>> {
    let mut seen = HashSet::new();
    request.groups_names.iter().filter(|name| seen.insert(&***name)).cloned().collect()
}

fn merge<B>(request: &Request, replies: Vec<(Vec<usize>, GroupReply)>) -> Response<B> {
    let message = DeleteGroupsRequest::decode(&mut Reader::new(&request.body), request.version)
        .expect("it was decoded before it was split");
    let names = distinct(&message);
    let decode = |body| {
        let part = DeleteGroupsResponse::decode(&mut Reader::new(body), request.version);
        part.expect("the coordinator encoded it").results
    };
    let failed = |place: usize, error: ErrorCode| DeletableGroupResult {
        group_id: names[place].clone(),
        error_code: error.code(),
    };
    let results = groups::rows(names.len(), &replies, decode, failed);
    request.respond(&DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_counts_once() {
        let request = DeleteGroupsRequest { groups_names: ["b", "a", "b"].map(Cow::Borrowed).to_vec() };
        assert_eq!(distinct(&request), ["b", "a"]);
    }
}
