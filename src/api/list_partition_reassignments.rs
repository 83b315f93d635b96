//! ListPartitionReassignments (46), version 0: the partitions on the move. There are none: a partition stays on the core
//! that it was created on.

use super::Request;
use super::reply::Reply;
use crate::protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use crate::protocol::wire::Reader;

/// Handles one request.
pub(super) fn handle<B>(request: &Request) -> Reply<B> {
    let Ok(_) = ListPartitionReassignmentsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    Reply::Now(request.respond(&respond()))
}

/// Kafka's message is null, not empty, when nothing is wrong.
fn respond() -> ListPartitionReassignmentsResponse<'static> {
    ListPartitionReassignmentsResponse { error_message: None, ..ListPartitionReassignmentsResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_and_nothing_is_wrong() {
        let response = respond();
        assert_eq!((response.error_code, response.error_message, response.topics.len()), (0, None, 0));
    }
}
