//! CreatePartitions (37), versions 0 to 3: topics get more partitions, never fewer.
//!
//! - The broker chooses the nodes, as for a new topic, or the request names one for each new partition.
//! - Topics fail one by one; a name that stands twice does not grow at all. `validate_only` answers as if.
//! - Every node takes the request; the controller decides (`broker::controller::partitions`). As with CreateTopics the
//!   answer waits for the records.

use std::borrow::Cow;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::ControlRequest;

/// Handles one request: decodes it here, so that only sound ones reach the controller.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = CreatePartitionsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let control = ControlRequest::CreatePartitions { version: request.version, body: request.body.clone() };
    request.ask_controller(broker, control, message.timeout_ms, |error, reason| failed(&message, error, &reason)).await
}

/// The answer when the records could not be appended: the same error for every topic.
fn failed<'a>(request: &CreatePartitionsRequest<'a>, error: ErrorCode, reason: &str) -> CreatePartitionsResponse<'a> {
    let rows = request.topics.iter().map(|topic| CreatePartitionsTopicResult {
        name: topic.name.clone(),
        error_code: error.code(),
        error_message: Some(Cow::Owned(reason.to_owned())),
    });
    CreatePartitionsResponse { throttle_time_ms: 0, results: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::create_partitions::CreatePartitionsTopic;

    #[test]
    fn a_failure_answers_every_topic() {
        let topic = |name| CreatePartitionsTopic { name: Cow::Borrowed(name), ..CreatePartitionsTopic::default() };
        let request =
            CreatePartitionsRequest { topics: vec![topic("a"), topic("b")], ..CreatePartitionsRequest::default() };
        let response = failed(&request, ErrorCode::KafkaStorageError, "store is full");
        let rows: Vec<_> = response.results.iter().map(|row| (&*row.name, row.error_code)).collect();
        assert_eq!(rows, [("a", 56), ("b", 56)]);
    }
}
