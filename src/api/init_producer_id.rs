//! InitProducerId (22), versions 0 to 5: an identity for an idempotent producer. Any node gives it.
//!
//! - Without a transactional id: always a fresh producer id at epoch 0, whatever id and epoch the client had (3+). The Java
//!   producer asks for one by default.
//! - Exactly one of producer id and epoch given: INVALID_REQUEST.
//! - An empty transactional id: INVALID_REQUEST, as in Kafka.
//! - **A transactional id: TRANSACTIONAL_ID_AUTHORIZATION_FAILED.** There are no transactions yet, and this is the only error
//!   that every client takes for final at once. UNSUPPORTED_VERSION says more, but librdkafka retries it for ever, as all do
//!   with the errors of coordinators. FindCoordinator names a node all the same: refused there, some clients look on for
//!   seconds and then speak of a missing coordinator.
//!
//! Ids come from blocks that the controller gives to each shard; a block is used only after its record is durable, so that
//! no id is ever given twice.

use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::{Broker, ShuttingDown};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::ProducerIdBlock;

const NO_PRODUCER_ID: i64 = -1;
const NO_PRODUCER_EPOCH: i16 = -1;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = InitProducerIdRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    loop {
        let outcome = respond(&mut broker.producer_ids.borrow_mut(), &message);
        let answer = match outcome {
            Outcome::Answer(answer) => answer,
            Outcome::NeedsBlock => match broker.refill_producer_ids().await {
                Ok(true) => continue,
                Ok(false) => failed(ErrorCode::CoordinatorLoadInProgress),
                Err(ShuttingDown) => return Reply::Close,
            },
        };
        return Reply::Now(request.respond(&answer));
    }
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    /// Here is the answer.
    Answer(InitProducerIdResponse),
    /// The shard has no ids left: fetch a block (`broker::controller::allocate_producer_ids`), then ask again.
    NeedsBlock,
}

/// Answers the request from the shard's block of ids.
fn respond(block: &mut Option<ProducerIdBlock>, request: &InitProducerIdRequest<'_>) -> Outcome {
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_PRODUCER_EPOCH) {
        return Outcome::Answer(failed(ErrorCode::InvalidRequest));
    }
    match request.transactional_id.as_deref() {
        Some("") => Outcome::Answer(failed(ErrorCode::InvalidRequest)),
        Some(_) => Outcome::Answer(failed(ErrorCode::TransactionalIdAuthorizationFailed)),
        None => match block.as_mut().and_then(ProducerIdBlock::take) {
            Some(id) => Outcome::Answer(InitProducerIdResponse {
                throttle_time_ms: 0,
                error_code: ErrorCode::None.code(),
                producer_id: id.value(),
                producer_epoch: 0,
            }),
            None => Outcome::NeedsBlock,
        },
    }
}

/// An answer without an id. When no block can be had: COORDINATOR_LOAD_IN_PROGRESS, which clients retry, as in Kafka.
fn failed(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        throttle_time_ms: 0,
        error_code: error.code(),
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::broker::controller;
    use crate::cluster::image::MetadataImage;
    use crate::limits;
    use crate::types::NodeId;

    fn plain() -> InitProducerIdRequest<'static> {
        InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() }
    }

    #[test]
    fn ids_are_fresh_and_blocks_run_out() {
        let image = MetadataImage::empty("AAAAAAAAAAAAAAAAAAAAAQ");
        let mut block = None;
        assert_eq!(respond(&mut block, &plain()), Outcome::NeedsBlock);
        let (record, first) = controller::allocate_producer_ids(&image, NodeId::new(1)).unwrap();
        block = Some(first);
        for expected in 0..limits::PRODUCER_ID_BLOCK {
            // A client that had an id before gets a new one all the same.
            let request = InitProducerIdRequest { producer_id: 7, producer_epoch: 3, ..plain() };
            let Outcome::Answer(answer) = respond(&mut block, &request) else { panic!("block ended at {expected}") };
            assert_eq!((answer.error_code, answer.producer_id, answer.producer_epoch), (0, expected, 0));
        }
        assert_eq!(respond(&mut block, &plain()), Outcome::NeedsBlock);
        let image = image.apply(&[record]).unwrap();
        let (_, mut second) = controller::allocate_producer_ids(&image, NodeId::new(2)).unwrap();
        assert_eq!(second.take().unwrap().value(), limits::PRODUCER_ID_BLOCK);
    }

    #[test]
    fn transactional_ids_are_refused_for_good() {
        let ask = |id: &'static str| {
            let request = InitProducerIdRequest { transactional_id: Some(Cow::Borrowed(id)), ..plain() };
            respond(&mut None, &request)
        };
        assert_eq!(ask("t"), Outcome::Answer(failed(ErrorCode::TransactionalIdAuthorizationFailed)));
        assert_eq!(ask(""), Outcome::Answer(failed(ErrorCode::InvalidRequest)));
    }

    #[test]
    fn an_id_without_its_epoch_is_invalid() {
        for (producer_id, producer_epoch) in [(5, -1), (-1, 5)] {
            let request = InitProducerIdRequest { producer_id, producer_epoch, ..plain() };
            assert_eq!(respond(&mut None, &request), Outcome::Answer(failed(ErrorCode::InvalidRequest)));
        }
    }
}
