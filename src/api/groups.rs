//! What the requests about groups have in common: the way to their coordinators and back.
//!
//! The step of a request is taken when `handle` ends, so that requests of a connection are applied in order; an answer that
//! waits, for the log or in a group, follows later and holds up only the answers behind it.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::Request;
use super::reply::{Reply, Response};
use crate::broker::Broker;
use crate::broker::groups::GroupCalled;
use crate::protocol::api_key::ApiKey;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::wire;
use crate::runtime::Runtime;
use crate::shard::message::{GroupCall, GroupReply};

/// The call that a request is, for the coordinator of one group.
pub(super) fn call_of(request: &Request, partition: i32) -> GroupCall {
    GroupCall {
        partition,
        key: request.key,
        version: request.version,
        client_id: request.client_id.clone().unwrap_or_default(),
        client_host: Arc::clone(&request.peer.host),
        connection: request.peer.connection,
        body: request.body.clone(),
    }
}

/// Has a request about one group answered by its coordinator. `failed` makes the answer of a request that no coordinator
/// could take.
pub(super) async fn one<R: Runtime>(
    broker: &Rc<Broker<R>>,
    request: Request,
    group: &str,
    failed: fn(&Request, ErrorCode) -> Response<R::Buffer>,
) -> Reply<R::Buffer> {
    let call = call_of(&request, broker.group_partition(group));
    let Ok(called) = broker.call_group(call).await else { return Reply::Close };
    let mut request = request;
    if matches!(request.key, ApiKey::JoinGroup | ApiKey::SyncGroup) {
        // They may wait for minutes, and nothing asks for their body any more: its memory is free for others.
        request.body = Bytes::new();
    }
    let answer = move |request: &Request, reply: GroupReply| match reply {
        GroupReply::Body(body) => request.respond_with(&body),
        GroupReply::Refused(error) => failed(request, error),
    };
    match called.now() {
        Ok(reply) => Reply::Now(answer(&request, reply)),
        Err(called) => Reply::Later(Box::pin(async move {
            let reply = called.finish().await?;
            Some(answer(&request, reply))
        })),
    }
}

/// A part of a request about many groups: what one coordinator has of them.
pub(super) struct Part {
    /// Places of its groups in the request.
    pub(super) places: Vec<usize>,
    called: GroupCalled,
}

/// Splits a request by coordinator and calls each: `body` makes the body, of version `version`, with the groups at some places.
/// `None`: a shard has shut down.
pub(super) async fn split<'a, R: Runtime, M: wire::Message>(
    broker: &Rc<Broker<R>>,
    request: &Request,
    version: i16,
    groups: impl Iterator<Item = &'a str>,
    body: impl Fn(&[usize]) -> M,
) -> Option<Vec<Part>> {
    let mut coordinators: Vec<(i32, Vec<usize>)> = Vec::new();
    for (place, group) in groups.enumerate() {
        let partition = broker.group_partition(group);
        match coordinators.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, places)) => places.push(place),
            None => coordinators.push((partition, vec![place])),
        }
    }
    let whole = GroupCall { version, ..call_of(request, 0) };
    let mut parts = Vec::with_capacity(coordinators.len());
    for (partition, places) in coordinators {
        let call = whole.for_coordinator(partition, wire::body(&body(&places), version));
        let called = broker.call_group(call).await.ok()?;
        parts.push(Part { places, called });
    }
    Some(parts)
}

/// Waits for the answers of all parts, and has them put together: the places of each, and what its coordinator said.
pub(super) fn gather<R: Runtime>(
    request: Request,
    parts: Vec<Part>,
    merge: impl FnOnce(&Request, Vec<(Vec<usize>, GroupReply)>) -> Response<R::Buffer> + 'static,
) -> Reply<R::Buffer> {
    Reply::Later(Box::pin(async move {
        let mut replies = Vec::with_capacity(parts.len());
        for part in parts {
            replies.push((part.places, part.called.finish().await?));
        }
        Some(merge(&request, replies))
    }))
}

/// The rows of an answer, in the order of the request: `decode` reads those of one coordinator, `failed` makes the row of a
/// group whose coordinator could not answer.
pub(super) fn rows<'a, T>(
    count: usize,
    replies: &'a [(Vec<usize>, GroupReply)],
    decode: impl Fn(&'a [u8]) -> Vec<T>,
    failed: impl Fn(usize, ErrorCode) -> T,
) -> Vec<T> {
    let mut rows: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for (places, reply) in replies {
        match reply {
            GroupReply::Body(body) => {
                let own = decode(body);
                assert!(own.len() == places.len());
                for (place, row) in places.iter().zip(own) {
                    rows[*place] = Some(row);
                }
            }
            GroupReply::Refused(error) => places.iter().for_each(|place| rows[*place] = Some(failed(*place, *error))),
        }
    }
    rows.into_iter().map(|row| row.expect("every group has a coordinator")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_order_of_the_request() {
        let replies = [
            (vec![0, 3], GroupReply::Body(vec![7, 8])),
            (vec![2], GroupReply::Refused(ErrorCode::NotCoordinator)),
            (vec![1], GroupReply::Body(vec![9])),
        ];
        let rows = rows(
            4,
            &replies,
            |body| body.iter().map(|byte| (i16::from(*byte), 0)).collect(),
            |place, error| (i16::try_from(place).unwrap(), error.code()),
        );
        assert_eq!(rows, [(7, 0), (9, 0), (2, 16), (8, 0)]);
    }
}
