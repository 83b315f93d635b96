//! `consume -G GROUP`: reads what the group's coordinator assigns, commits what was printed, and hands partitions over.
//!
//! Commits happen every few seconds, before a partition is given up, and at the end; always after the output has left, so a
//! crash prints a record twice rather than never. Invariant: a partition is given back only after what was printed of it is
//! committed, or after the coordinator said that it is not ours any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fetcher::TopicPartition;
use super::format::Format;
use super::membership::{Membership, Subscription, is_over};
use super::reader::Reader;
use super::start::{Start, combine};
use super::{ConsumeArguments, ConsumeError, start_positions};
use crate::cli::client::{Client, ClientError, Interrupt, READ_COMMITTED, Retry, check, error_of};
use crate::limits::{CLIENT_COMMIT_INTERVAL_MS, CLIENT_RETRY_PAUSE_MS};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::TopicPartitions;
use crate::protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use crate::types::TopicId;

/// Reads as a member of the group until there is enough, the user interrupts, or something fails; then leaves it.
pub(super) fn run(
    arguments: &ConsumeArguments,
    group: &str,
    format: Format,
    interrupt: &Interrupt,
) -> Result<(), ConsumeError> {
    let start = match combine(&arguments.offset) {
        (None, None) => Start::End,
        (Some(start @ (Start::Beginning | Start::End)), None) => start,
        _ => {
            return Err(ConsumeError::Usage(
                "-o: a group goes on where it committed; where it did not, at `beginning` or `end`. \
                 `corelane group reset` moves it elsewhere"
                    .to_owned(),
            ));
        }
    };
    let mut client = Client::connect(&arguments.bootstrap.bootstrap)?;
    let subscription = Subscription::of(&arguments.topics);
    for name in &subscription.names {
        client.topic(name, false)?;
    }
    let has_pattern = subscription.pattern.is_some();
    let names = (!has_pattern).then(|| subscription.names.clone());
    let mut consumer = GroupConsumer {
        group,
        start,
        isolation_level: arguments.isolation.level(),
        reader: Reader::new(arguments, client, format, None),
        names,
        topics: BTreeMap::new(),
        life: 1,
        unresolved: None,
        committed: BTreeMap::new(),
        next_commit: Instant::now(),
        membership: Membership::join(&arguments.bootstrap.bootstrap, group, subscription)?,
    };
    consumer.reader.tell(format_args!("Waiting for group rebalance"))?;
    consumer.run(interrupt)?;
    consumer.commit()?;
    consumer.revoke_all()
}

/// A member while it reads.
struct GroupConsumer<'a> {
    group: &'a str,
    /// Where to begin what the group has not committed.
    start: Start,
    isolation_level: i8,
    reader: Reader<'a>,
    /// Topics to ask for ids of; `None` for all, since a pattern may match any.
    names: Option<Vec<String>>,
    topics: BTreeMap<TopicId, Arc<str>>,
    /// The life of the membership that the partitions are of.
    life: u64,
    /// An assignment with topics that are not known yet, and when to look again.
    unresolved: Option<(Vec<TopicPartitions>, Instant)>,
    /// What the group is known to have committed of the partitions that are read, or where it began.
    committed: BTreeMap<TopicPartition, i64>,
    next_commit: Instant,
    membership: Membership,
}

impl GroupConsumer<'_> {
    fn run(&mut self, interrupt: &Interrupt) -> Result<(), ConsumeError> {
        while !interrupt.is_raised() && !self.reader.is_done() {
            let (life, assignment) = self.membership.news()?;
            if life != self.life {
                self.abandon()?;
                self.life = life;
            }
            let now = Instant::now();
            let again = self.unresolved.take_if(|(_, when)| *when <= now).map(|(assignment, _)| assignment);
            if let Some(assignment) = assignment.or(again) {
                self.reconcile(assignment)?;
            }
            self.reader.step()?;
            if Instant::now() >= self.next_commit {
                self.commit()?;
            }
        }
        Ok(())
    }

    /// The coordinator has taken this member for gone: its partitions are somebody else's.
    fn abandon(&mut self) -> Result<(), ConsumeError> {
        eprintln!("corelane: group {} took this member for gone; it joins anew", self.group);
        self.unresolved = None;
        self.revoke_all()
    }

    fn revoke_all(&mut self) -> Result<(), ConsumeError> {
        let all: Vec<TopicPartition> = self.reader.positions().keys().cloned().collect();
        self.revoke(&all)
    }

    /// Gives up what is not assigned any more, begins what is new, and tells the coordinator.
    fn reconcile(&mut self, assignment: Vec<TopicPartitions>) -> Result<(), ConsumeError> {
        let is_resolved = self.resolve(&assignment)?;
        let mut wanted = BTreeSet::new();
        let mut owned = Vec::new();
        for topic in &assignment {
            let Some(name) = self.topics.get(&topic.topic_id) else { continue };
            let at = |&partition| TopicPartition { topic: Arc::clone(name), partition };
            wanted.extend(topic.partitions.iter().map(at));
            owned.push(topic.clone());
        }
        let open = self.reader.positions();
        let revoked: Vec<TopicPartition> = open.keys().filter(|at| !wanted.contains(at)).cloned().collect();
        let added: Vec<TopicPartition> = wanted.into_iter().filter(|at| !open.contains_key(at)).collect();
        if !revoked.is_empty() {
            self.commit()?;
            self.revoke(&revoked)?;
        }
        if !added.is_empty() {
            let positions = match self.begin(&added) {
                // The next heartbeat tells the same, and then it is an end of this life.
                Err(ConsumeError::Client(error)) if is_over(&error) => return Ok(()),
                outcome => outcome?,
            };
            self.tell_rebalanced("assigned", &added)?;
            self.committed.extend(positions.clone());
            self.reader.take(positions);
        }
        self.membership.report(self.life, owned);
        if !is_resolved {
            let when = Instant::now() + Duration::from_millis(CLIENT_RETRY_PAUSE_MS);
            self.unresolved = Some((assignment, when));
        }
        Ok(())
    }

    fn revoke(&mut self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        if partitions.is_empty() {
            return Ok(());
        }
        self.reader.give_up(partitions);
        self.committed.retain(|at, _| !partitions.contains(at));
        self.tell_rebalanced("revoked", partitions)
    }

    /// In kcat's words.
    fn tell_rebalanced(&mut self, what: &str, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        let list: Vec<String> = partitions.iter().map(TopicPartition::to_string).collect();
        let (group, id) = (self.group, &self.membership.id);
        self.reader.tell(format_args!("Group {group} rebalanced (memberid {id}): {what}: {}", list.join(", ")))
    }

    /// Learns the names of the topics; false if some are not known yet.
    fn resolve(&mut self, assignment: &[TopicPartitions]) -> Result<bool, ClientError> {
        let topics = &mut self.topics;
        if assignment.iter().all(|topic| topics.contains_key(&topic.topic_id)) {
            return Ok(true);
        }
        let client = &mut self.reader.client;
        let found = Retry::new().run(|| client.metadata(self.names.as_deref(), false))?;
        topics.extend(found.into_iter().flatten().map(|topic| (topic.id, topic.name.into())));
        Ok(assignment.iter().all(|topic| topics.contains_key(&topic.topic_id)))
    }

    /// Where to begin in each partition: where the group committed, or where the user says.
    fn begin(&mut self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>, ConsumeError> {
        let mut positions = self.committed_offsets(partitions)?;
        let missing = by_topic(partitions.iter().filter(|at| !positions.contains_key(at)));
        for (topic, indexes) in missing {
            let client = &mut self.reader.client;
            let described = client.topic(&topic, false)?;
            let found = start_positions(client, described, &indexes, self.start, self.isolation_level)?;
            let at = |(partition, offset)| (TopicPartition { topic: Arc::clone(&topic), partition }, offset);
            positions.extend(found.into_iter().map(at));
        }
        Ok(positions)
    }

    /// What the group committed of these.
    fn committed_offsets(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let topics = by_topic(partitions);
        let request = |epoch| OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: self.group.into(),
                member_id: Some(self.membership.id.as_str().into()),
                member_epoch: epoch,
                topics: Some(
                    topics
                        .iter()
                        .map(|(name, indexes)| OffsetFetchRequestTopics {
                            name: (&**name).into(),
                            partition_indexes: indexes.clone(),
                        })
                        .collect(),
                ),
            }],
            require_stable: self.isolation_level == READ_COMMITTED,
            ..OffsetFetchRequest::default()
        };
        let client = &mut self.reader.client;
        Retry::new().run(|| {
            let node = client.coordinator(self.group)?;
            let answer = client.call_node(node, &request(self.membership.epoch()))?;
            let response: OffsetFetchResponse<'_> = answer.decode()?;
            let mut found = BTreeMap::new();
            for group in &response.groups {
                check(&format!("commits of group {}", self.group), group.error_code, None)?;
                for topic in &group.topics {
                    let Some((name, _)) = topics.get_key_value(&*topic.name) else { continue };
                    for p in &topic.partitions {
                        let at = TopicPartition { topic: Arc::clone(name), partition: p.partition_index };
                        check(&format!("the commit of topic {at}"), p.error_code, None)?;
                        // Below zero stands for none.
                        if p.committed_offset >= 0 {
                            found.insert(at, p.committed_offset);
                        }
                    }
                }
            }
            Ok(found)
        })
    }

    /// Commits what was printed, once it has left. A member that is none any more commits nothing.
    fn commit(&mut self) -> Result<(), ConsumeError> {
        self.next_commit = Instant::now() + Duration::from_millis(CLIENT_COMMIT_INTERVAL_MS);
        self.reader.flush()?;
        let positions = self.reader.positions().iter();
        let moved: BTreeMap<TopicPartition, i64> = positions
            .filter(|(at, offset)| self.committed.get(at) != Some(offset))
            .map(|(at, offset)| (at.clone(), *offset))
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        match self.send_commit(&moved) {
            Ok(()) => self.committed.extend(moved),
            Err(error) if is_over(&error) => {
                eprintln!("corelane: group {}: what was printed last could not be committed: {error}", self.group);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn send_commit(&mut self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), ClientError> {
        let mut topics: Vec<OffsetCommitRequestTopic<'_>> = Vec::new();
        for (at, &committed_offset) in offsets {
            let row =
                OffsetCommitRequestPartition { partition_index: at.partition, committed_offset, ..Default::default() };
            match topics.last_mut() {
                Some(last) if last.name == *at.topic => last.partitions.push(row),
                _ => topics.push(OffsetCommitRequestTopic { name: (&*at.topic).into(), partitions: vec![row] }),
            }
        }
        let mut request = OffsetCommitRequest {
            group_id: self.group.into(),
            member_id: self.membership.id.as_str().into(),
            topics,
            ..OffsetCommitRequest::default()
        };
        let client = &mut self.reader.client;
        Retry::new().run(|| {
            request.generation_id_or_member_epoch = self.membership.epoch();
            let node = client.coordinator(self.group)?;
            let answer = client.call_node(node, &request)?;
            let response: OffsetCommitResponse<'_> = answer.decode()?;
            for topic in &response.topics {
                for partition in &topic.partitions {
                    // Of a topic that was deleted there is nothing to keep.
                    if error_of(partition.error_code) != ErrorCode::UnknownTopicOrPartition {
                        let subject = format!("the commit of topic {} [{}]", topic.name, partition.partition_index);
                        check(&subject, partition.error_code, None)?;
                    }
                }
            }
            Ok(())
        })
    }
}

/// The indexes of partitions, by topic.
fn by_topic<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> BTreeMap<Arc<str>, Vec<i32>> {
    let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        topics.entry(Arc::clone(&at.topic)).or_default().push(at.partition);
    }
    topics
}
