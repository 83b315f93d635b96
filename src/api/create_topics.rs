//! CreateTopics (19), versions 2 to 7: topics with their partitions and configurations.
//!
//! - -1 partitions or replicas (4+) are the broker's defaults; with a manual assignment both must be -1.
//! - Names that stand twice are not created at all. Topics fail one by one.
//! - From version 5 on the answer tells partitions, replicas and every configuration in force; 7 adds the topic id.
//! - `validate_only` answers as if, and creates nothing.
//! - Only the controller decides (`broker::controller`); every node takes the request. The answer waits until the records
//!   are durable and the shards know of them, at most `timeout_ms`; after that it is [`failed`] with REQUEST_TIMED_OUT,
//!   and the topics exist all the same, as in Kafka.

use std::borrow::Cow;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::ControlRequest;

/// Handles one request: decodes it here, so that only sound ones reach the controller.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = CreateTopicsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let control = ControlRequest::CreateTopics { version: request.version, body: request.body.clone() };
    request.ask_controller(broker, control, message.timeout_ms, |error, reason| failed(&message, error, &reason)).await
}

/// The answer when the records could not be appended or published in time: the same error for every topic.
fn failed<'a>(request: &CreateTopicsRequest<'a>, error: ErrorCode, reason: &str) -> CreateTopicsResponse<'a> {
    let rows = request.topics.iter().map(|topic| CreatableTopicResult {
        name: topic.name.clone(),
        error_code: error.code(),
        error_message: Some(Cow::Owned(reason.to_owned())),
        ..CreatableTopicResult::default()
    });
    CreateTopicsResponse { topics: rows.collect(), ..CreateTopicsResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::create_topics::CreatableTopic;

    #[test]
    fn a_failure_answers_every_topic() {
        let topic = |name| CreatableTopic { name: Cow::Borrowed(name), ..CreatableTopic::default() };
        let request = CreateTopicsRequest { topics: vec![topic("a"), topic("b")], ..CreateTopicsRequest::default() };
        let response = failed(&request, ErrorCode::RequestTimedOut, "late");
        let row = |row: &CreatableTopicResult<'_>| {
            (row.name.to_string(), row.error_code, row.error_message.as_ref().map(ToString::to_string))
        };
        let rows: Vec<_> = response.topics.iter().map(row).collect();
        assert_eq!(rows, ["a", "b"].map(|name| (name.to_owned(), 7, Some("late".to_owned()))));
    }
}
