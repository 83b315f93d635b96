//! OffsetCommit (8), versions 2 to 9: how far a group has read.
//!
//! Errors are per partition: the coordinator's own, and the same for all when there is none. The empty group id is allowed, as
//! old clients use it. The answer leaves when the offsets are durable.

use std::rc::Rc;

use super::reply::{Reply, Response};
use super::{Request, groups};
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let body = request.body.clone();
    let Ok(message) = OffsetCommitRequest::decode(&mut Reader::new(&body), request.version) else {
        return Reply::Close;
    };
    groups::one(broker, request, &message.group_id, refused).await
}

fn refused<B>(request: &Request, error: ErrorCode) -> Response<B> {
    let message = OffsetCommitRequest::decode(&mut Reader::new(&request.body), request.version)
        .expect("it was decoded before it was passed on");
    request.respond(&failed(&message, error))
}

/// The same error for every partition.
fn failed<'a>(request: &OffsetCommitRequest<'a>, error: ErrorCode) -> OffsetCommitResponse<'a> {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: error.code(),
        });
        OffsetCommitResponseTopic { name: topic.name.clone(), partitions: partitions.collect() }
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};

    #[test]
    fn without_a_coordinator_every_partition_has_the_error() {
        let partition = |partition_index| OffsetCommitRequestPartition { partition_index, ..Default::default() };
        let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition(1), partition(4)] };
        let request = OffsetCommitRequest { topics: vec![topic], ..OffsetCommitRequest::default() };
        let response = failed(&request, ErrorCode::NotCoordinator);
        let rows: Vec<_> =
            response.topics[0].partitions.iter().map(|row| (row.partition_index, row.error_code)).collect();
        assert_eq!(rows, [(1, 16), (4, 16)]);
    }
}
