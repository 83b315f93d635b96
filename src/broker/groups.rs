//! Which coordinator a group belongs to, and the way to it.
//!
//! A group belongs to one partition of `__consumer_offsets`, by Java's hash of its name, and is coordinated by the shard that
//! leads that partition. Any shard takes a request about any group of this process: one that a sibling coordinates goes over
//! its lane and is counted as a crossing; NOT_COORDINATOR is for groups that nobody here coordinates.

use std::rc::Rc;

use super::{Broker, ShuttingDown};
use crate::cluster::image::Partition;
use crate::cluster::topic_name::CONSUMER_OFFSETS;
use crate::protocol::error_code::ErrorCode;
use crate::runtime::Runtime;
use crate::shard::coordination::GroupAnswer;
use crate::shard::mesh::{ReplyReceiver, reply_slot};
use crate::shard::message::{GroupCall, GroupReply, Message};
use crate::types::{PartitionIndex, ShardId};

/// A request about groups whose step is taken, or on its way: nothing that is sent later overtakes it.
#[derive(Debug)]
pub enum GroupCalled {
    /// It was taken here.
    Here(GroupAnswer),
    /// It is on its way to a sibling.
    There(ReplyReceiver<GroupReply>),
}

impl GroupCalled {
    /// The answer, if it is here already.
    pub fn now(self) -> Result<GroupReply, GroupCalled> {
        match self {
            GroupCalled::Here(GroupAnswer::Now(reply)) => Ok(reply),
            later => Err(later),
        }
    }

    /// Waits for the answer. `None`: a shard has shut down.
    pub async fn finish(self) -> Option<GroupReply> {
        match self {
            GroupCalled::Here(answer) => answer.finish().await,
            GroupCalled::There(receiver) => receiver.receive().await,
        }
    }
}

impl<R: Runtime> Broker<R> {
    /// Index of the partition of `__consumer_offsets` that a group belongs to; what it would be, while there is no such topic.
    pub fn group_partition(&self, group: &str) -> i32 {
        let image = self.shard.image();
        let count = image.topic(CONSUMER_OFFSETS).and_then(|topic| i32::try_from(topic.partition_count()).ok());
        partition_of(group, count.filter(|count| *count > 0).unwrap_or(self.shard.config.offsets_topic_num_partitions))
    }

    /// Brings a request to its coordinator.
    pub async fn call_group(&self, call: GroupCall) -> Result<GroupCalled, ShuttingDown> {
        let leader = {
            let image = self.shard.image();
            let partition: Option<&Partition> =
                image.topic(CONSUMER_OFFSETS).and_then(|it| it.partition(PartitionIndex::new(call.partition)));
            partition.and_then(|partition| partition.leader)
        };
        match leader {
            Some(leader) => self.call_groups_of(leader.shard(), call).await,
            None => Ok(GroupCalled::Here(GroupAnswer::Now(GroupReply::Refused(ErrorCode::NotCoordinator)))),
        }
    }

    /// Brings a request to a shard, whatever it coordinates.
    pub async fn call_groups_of(&self, shard: ShardId, call: GroupCall) -> Result<GroupCalled, ShuttingDown> {
        if shard == self.shard.id {
            return Ok(GroupCalled::Here(self.shard.begin_group_call(&call).await));
        }
        let (reply, receiver) = reply_slot();
        self.shard.metrics.crossings.add(1);
        self.send(shard, Message::Group(call, reply)).await?;
        Ok(GroupCalled::There(receiver))
    }

    /// All shards, this one first.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        let count = u16::try_from(self.lanes.len()).expect("shards are counted in 16 bits");
        let own = self.shard.id;
        std::iter::once(own).chain((0..count).map(ShardId::new).filter(move |shard| *shard != own))
    }

    /// Has `__consumer_offsets` created, beside the answer, if it is not there.
    pub fn ensure_group_topic(self: &Rc<Self>) {
        if self.shard.image().topic(CONSUMER_OFFSETS).is_none() {
            self.auto_create(vec![CONSUMER_OFFSETS.to_owned()]);
        }
    }
}

/// Kafka's `GroupCoordinator.partitionFor`: Java's `String.hashCode`, over UTF-16 units, through `Utils.abs`, which is 0 for
/// the one number that has no absolute value.
fn partition_of(group: &str, count: i32) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_spread_as_javas_hash_has_it() {
        // `Utils.abs("...".hashCode()) % 50` of a JVM.
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("hello", 50), 99_162_322 % 50);
        // A negative hash: its absolute value counts, not what is left without the sign bit.
        assert_eq!(partition_of("console-consumer", 50), 648_006_740 % 50);
        // The hash of this one is Integer.MIN_VALUE.
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        // Beyond the basic plane: two units, D83D and DE00.
        assert_eq!(partition_of("\u{1f600}", i32::MAX), 0xd83d * 31 + 0xde00);
    }
}
