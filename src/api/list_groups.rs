//! ListGroups (16), versions 0 to 5: the groups that a node coordinates. Clients ask every node and put the lists together.
//!
//! As `per-core` node a shard lists its own groups; where one node speaks for all shards (`single`), it lists those of all. A
//! shard whose coordinators load refuses with COORDINATOR_LOAD_IN_PROGRESS, as in Kafka.

use std::rc::Rc;

use super::reply::Reply;
use super::{Request, groups};
use crate::broker::Broker;
use crate::cluster::view::Advertise;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::GroupReply;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    if ListGroupsRequest::decode(&mut Reader::new(&request.body), request.version).is_err() {
        return Reply::Close;
    }
    let count = match broker.advertise {
        Advertise::PerCore => 1,
        Advertise::Single => usize::MAX,
    };
    let mut called = Vec::new();
    for shard in broker.shards().take(count) {
        let Ok(part) = broker.call_groups_of(shard, groups::call_of(&request, 0)).await else { return Reply::Close };
        called.push(part);
    }
    Reply::Later(Box::pin(async move {
        let mut replies = Vec::with_capacity(called.len());
        for part in called {
            replies.push(part.finish().await?);
        }
        Some(request.respond(&merge(&replies, request.version)))
    }))
}

fn merge(replies: &[GroupReply], version: i16) -> ListGroupsResponse<'_> {
    let mut all = ListGroupsResponse::default();
    for reply in replies {
        match reply {
            GroupReply::Body(body) => {
                let part = ListGroupsResponse::decode(&mut Reader::new(body), version);
                all.groups.extend(part.expect("the coordinator encoded it").groups);
            }
            GroupReply::Refused(error) => return failed(*error),
        }
    }
    all
}

fn failed(error: ErrorCode) -> ListGroupsResponse<'static> {
    ListGroupsResponse { error_code: error.code(), ..ListGroupsResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::list_groups::ListedGroup;
    use crate::protocol::wire;

    #[test]
    fn the_groups_of_all_shards_are_one_list_or_an_error() {
        let part = |name: &'static str| {
            let groups = vec![ListedGroup { group_id: name.into(), ..ListedGroup::default() }];
            GroupReply::Body(wire::body(&ListGroupsResponse { groups, ..ListGroupsResponse::default() }, 5))
        };
        let replies = [part("a"), part("b")];
        let all = merge(&replies, 5);
        assert_eq!(all.groups.iter().map(|group| &*group.group_id).collect::<Vec<_>>(), ["a", "b"]);
        let replies = [part("a"), GroupReply::Refused(ErrorCode::CoordinatorLoadInProgress)];
        let refused = merge(&replies, 5);
        assert_eq!((refused.error_code, refused.groups.len()), (14, 0));
    }
}
