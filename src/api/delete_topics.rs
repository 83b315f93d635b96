//! DeleteTopics (20), versions 1 to 6: by name, and from 6 on by id.
//!
//! - What stands twice, or once by name and once by id, is INVALID_REQUEST and stays.
//! - `delete.topic.enable=false` is TOPIC_DELETION_DISABLED, before version 3 INVALID_REQUEST.
//! - Results come in another order than the request's, as in Kafka.
//! - Every node takes the request; the controller decides. As with CreateTopics the answer waits for the records.

use std::borrow::Cow;
use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::ControlRequest;
use crate::types::TopicId;

/// Handles one request: decodes it here, so that only sound ones reach the controller.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = DeleteTopicsRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let control = ControlRequest::DeleteTopics { version: request.version, body: request.body.clone() };
    request.ask_controller(broker, control, message.timeout_ms, |error, reason| failed(&message, error, &reason)).await
}

/// The answer when the records could not be appended or published in time: the same error for every topic.
fn failed<'a>(request: &DeleteTopicsRequest<'a>, error: ErrorCode, reason: &str) -> DeleteTopicsResponse<'a> {
    let row = |name: Option<Cow<'a, str>>, topic_id| DeletableTopicResult {
        name,
        topic_id,
        error_code: error.code(),
        error_message: Some(Cow::Owned(reason.to_owned())),
    };
    let named = request.topic_names.iter().map(|name| row(Some(name.clone()), TopicId::ZERO));
    let either = request.topics.iter().map(|topic| row(topic.name.clone(), topic.topic_id));
    DeleteTopicsResponse { responses: named.chain(either).collect(), ..DeleteTopicsResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::delete_topics::DeleteTopicState;

    #[test]
    fn a_failure_answers_every_topic() {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: None, topic_id: TopicId::new([1; 16]) }],
            topic_names: vec![Cow::Borrowed("a")],
            ..DeleteTopicsRequest::default()
        };
        let response = failed(&request, ErrorCode::RequestTimedOut, "late");
        assert_eq!(response.responses.len(), 2);
        assert!(response.responses.iter().all(|row| row.error_code == 7));
    }
}
