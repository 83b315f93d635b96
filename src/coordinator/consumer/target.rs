//! The target assignment of a group: Kafka's `TargetAssignmentBuilder`.

use std::rc::Rc;

use super::ConsumerGroup;
use super::member::Name;
use crate::cluster::image::MetadataImage;
use crate::coordinator::Step;
use crate::coordinator::assignor::{self, Partitions};
use crate::coordinator::records::{ConsumerGroupMemberMetadataValue, Record};
use crate::types::TopicId;

impl ConsumerGroup {
    /// Makes a target for the group's epoch: records for the members whose target changes, and one for the epoch.
    pub(super) fn update_target(&mut self, step: &mut Step, image: &MetadataImage) {
        for (id, partitions) in self.new_targets(image) {
            self.emit(step, Record::ConsumerTargetMember(self.member_key(&id), Some(partitions.to_list())));
        }
        self.emit(step, Record::ConsumerTargetMetadata(self.id.to_string(), Some(self.epoch)));
    }

    /// The members whose target is another than before.
    fn new_targets(&self, image: &MetadataImage) -> Vec<(Name, Partitions)> {
        let mut resolver = Resolver { group: self, image, last: None };
        let wanted: Vec<Rc<[TopicId]>> =
            self.members.values().map(|member| resolver.topics_of(&member.metadata)).collect();
        let mut ids: Vec<TopicId> = Vec::new();
        let mut last: Option<&Rc<[TopicId]>> = None;
        for list in &wanted {
            // Most members subscribe to what the one before them does.
            if last.is_none_or(|last| !Rc::ptr_eq(last, list)) {
                ids.extend(list.iter());
            }
            last = Some(list);
        }
        ids.sort_unstable();
        ids.dedup();
        let topic = |&id: &TopicId| assignor::Topic {
            id,
            partition_count: image.topic_by_id(id).expect("ids are of topics of the image").partition_count(),
        };
        let topics: Vec<assignor::Topic> = ids.iter().map(topic).collect();
        let index = |id: &TopicId| ids.binary_search(id).expect("every id is in the table");
        let mut members: Vec<assignor::Member<'_>> = Vec::with_capacity(self.members.len());
        for (place, (id, member)) in self.members.iter().enumerate() {
            let topics = match members.last() {
                Some(last) if Rc::ptr_eq(&wanted[place - 1], &wanted[place]) => Rc::clone(&last.topics),
                _ => wanted[place].iter().map(index).collect(),
            };
            let instance_id = member.metadata.instance_id.as_deref();
            let current = self.targets.get(id).cloned().unwrap_or_default();
            members.push(assignor::Member { id, instance_id, topics, current });
        }
        let given = self.assignor().assign(&topics, &members);
        let changed =
            self.members.keys().zip(given).filter(|(id, partitions)| self.targets.get(*id) != Some(partitions));
        changed.map(|(id, partitions)| (Name::clone(id), partitions)).collect()
    }
}

/// Finds the ids of subscribed topics; remembers the last answer, since most members of a group subscribe alike.
struct Resolver<'a> {
    group: &'a ConsumerGroup,
    image: &'a MetadataImage,
    last: Option<(&'a ConsumerGroupMemberMetadataValue, Rc<[TopicId]>)>,
}

impl<'a> Resolver<'a> {
    /// Ids of the topics that a member reads and that exist, ascending.
    fn topics_of(&mut self, metadata: &'a ConsumerGroupMemberMetadataValue) -> Rc<[TopicId]> {
        if let Some((of, topics)) = &self.last
            && of.subscribed_topic_names == metadata.subscribed_topic_names
            && of.subscribed_topic_regex == metadata.subscribed_topic_regex
        {
            return Rc::clone(topics);
        }
        let pattern = super::member::pattern_of(metadata).and_then(|pattern| self.group.subscriptions.pattern(pattern));
        let matched = pattern.into_iter().flat_map(|pattern| pattern.topics.iter().flatten()).map(|name| &**name);
        let names = metadata.subscribed_topic_names.iter().map(String::as_str).chain(matched);
        let mut ids: Vec<TopicId> = names.filter_map(|name| Some(self.image.topic(name)?.id())).collect();
        ids.sort_unstable();
        ids.dedup();
        let topics: Rc<[TopicId]> = ids.into();
        self.last = Some((metadata, Rc::clone(&topics)));
        topics
    }
}
