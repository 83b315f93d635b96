//! OffsetForLeaderEpoch (23), versions 2 to 4: where an epoch ended, so that a consumer sees whether its log was cut.

use std::rc::Rc;

use super::Request;
use super::reply::Reply;
use crate::broker::Broker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use crate::protocol::wire::Reader;
use crate::runtime::Runtime;
use crate::shard::message::{EpochEnd, EpochEndOutcome};
use crate::types::TopicId;

/// Handles one request.
pub(super) async fn handle<R: Runtime>(broker: &Rc<Broker<R>>, request: Request) -> Reply<R::Buffer> {
    let Ok(message) = OffsetForLeaderEpochRequest::decode(&mut Reader::new(&request.body), request.version) else {
        return Reply::Close;
    };
    let image = broker.shard.image();
    let ids: Vec<Option<TopicId>> =
        message.topics.iter().map(|topic| image.topic(&topic.topic).map(|topic| topic.id())).collect();
    let known = message.topics.iter().zip(&ids).filter_map(|(topic, id)| id.map(|id| (topic, id)));
    let wanted = known.flat_map(|(topic, id)| {
        topic.partitions.iter().map(move |partition| EpochEnd {
            topic: id,
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            leader_epoch: partition.leader_epoch,
        })
    });
    let Ok(outcomes) = broker.epoch_ends(wanted.collect()).await else { return Reply::Close };
    let mut outcomes = outcomes.into_iter();
    let topics = message.topics.iter().zip(&ids).map(|(topic, id)| {
        let mut outcome = || match id {
            Some(_) => outcomes.next().expect("one outcome for every partition asked"),
            None => EpochEndOutcome { error: ErrorCode::UnknownTopicOrPartition, leader_epoch: -1, end_offset: -1 },
        };
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = outcome();
            EpochEndOffset {
                error_code: outcome.error.code(),
                partition: partition.partition,
                leader_epoch: outcome.leader_epoch,
                end_offset: outcome.end_offset,
            }
        });
        OffsetForLeaderTopicResult { topic: topic.topic.clone(), partitions: partitions.collect() }
    });
    let response = OffsetForLeaderEpochResponse { topics: topics.collect(), ..OffsetForLeaderEpochResponse::default() };
    Reply::Now(request.respond(&response))
}
