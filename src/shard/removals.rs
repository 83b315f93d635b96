//! Which removed topics this shard may find again.
//!
//! A topic's logs are deleted when an image says that it was removed. That holds over a crash once the entries are durable;
//! until then, or while there is no room for them, somebody must remember the removal: the metadata log, which asks here
//! before it forgets one.

use std::collections::{BTreeSet, VecDeque};

use super::Shard;
use crate::runtime::Runtime;
use crate::types::{LogPosition, TopicId};

/// Deleted logs whose entries were not durable when somebody looked last, in log order.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    pending: VecDeque<(LogPosition, TopicId)>,
}

impl Deletions {
    /// A log of the topic was deleted by the entry that ends at `position`; the log is durable up to `durable`.
    pub(super) fn add(&mut self, topic: TopicId, position: LogPosition, durable: LogPosition) {
        self.advance(durable);
        self.pending.push_back((position, topic));
    }

    fn advance(&mut self, durable: LogPosition) {
        while self.pending.front().is_some_and(|(position, _)| *position <= durable) {
            self.pending.pop_front();
        }
    }
}

impl<R: Runtime> Shard<R> {
    /// Those of the removed topics of which a log is here, or would be here again after a crash.
    pub fn removals_needed(&self, removed: &BTreeSet<TopicId>) -> BTreeSet<TopicId> {
        if cfg!(corelane_defect = "removal_forgotten_too_early") {
            return BTreeSet::new();
        }
        let mut deletions = self.deletions.borrow_mut();
        deletions.advance(self.store.progress().durable);
        let partitions = self.partitions.borrow();
        let here = partitions.values().map(|partition| partition.topic);
        let deleted = deletions.pending.iter().map(|(_, topic)| *topic);
        here.chain(deleted).filter(|topic| removed.contains(topic)).collect()
    }
}
