//! Offsets that end without a request: because they expire, or because their topic was deleted.

use std::ops::Bound;
use std::rc::Rc;

use super::super::records::Record;
use super::super::timers::Timer;
use super::super::{Context, Coordinator, Group, Step};
use super::table::{Offsets, Row};
use super::{is_subscribed, key_bytes, tombstone};
use crate::limits;
use crate::types::MonotonicUs;

/// How far one step may go.
struct Portion {
    records_left: usize,
    bytes_left: usize,
    visits_left: usize,
}

impl Portion {
    fn new() -> Portion {
        Portion {
            records_left: limits::OFFSET_TOMBSTONES_PER_STEP_MAX,
            bytes_left: limits::OFFSET_STEP_BYTES_MAX,
            visits_left: limits::OFFSETS_CHECKED_PER_STEP_MAX,
        }
    }

    /// No more tombstones.
    fn is_full(&self) -> bool {
        self.records_left == 0 || self.bytes_left == 0
    }

    /// Looked through so many groups and offsets.
    fn visit(&mut self, count: usize) {
        self.visits_left = self.visits_left.saturating_sub(count);
    }

    fn add(&mut self, step: &mut Step, bytes: usize, record: Record) {
        self.records_left = self.records_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        step.records.push(record);
    }
}

/// What a check left of a group's offsets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Left {
    Nothing,
    Some,
    /// The portion ended before the group did.
    Unchecked,
}

impl Coordinator {
    /// Has [`Coordinator::on_expiry`] called an interval from now, unless that is arranged already. Every request about offsets
    /// does; so must who has replayed the log.
    pub(in crate::coordinator) fn arm_expiry(&mut self, context: Context<'_>) {
        if self.offsets.expiry.armed.is_none() {
            let next_check = context.now.plus_ms(self.check_interval_ms());
            self.offsets.expiry.next_check = Some(next_check);
            self.arm_expiry_at(next_check);
        }
    }

    /// The timer of expiry came up: takes the next portion of tombstones (Kafka's
    /// `GroupCoordinatorShard.cleanupGroupMetadata`).
    ///
    /// Offsets expire as KIP-211 has it: a retention after their commit where the group is simple, after the group became empty
    /// otherwise; in a stable consumer group those of topics that no member reads; by their own time where versions 2 to 4 of
    /// OffsetCommit gave one. A group without members and offsets goes too. The timer belongs to no group.
    pub(in crate::coordinator) fn on_expiry(&mut self, context: Context<'_>, step: &mut Step) {
        if self.offsets.expiry.armed.is_some_and(|armed| armed > context.now) {
            return;
        }
        self.offsets.expiry.armed = None;
        let mut portion = Portion::new();
        self.write_tombstones(&mut portion, step);
        let is_due = self.offsets.expiry.next_check.is_none_or(|next_check| next_check <= context.now);
        if is_due {
            self.check_groups(context, &mut portion, step);
        }
        if is_due && self.offsets.expiry.cursor.is_none() {
            self.offsets.expiry.next_check = Some(context.now.plus_ms(self.check_interval_ms()));
        }
        self.arm_rest(context);
    }

    /// Topics were deleted: so are their offsets (Kafka's `OffsetMetadataManager.onPartitionsDeleted`). They are gone at once, and
    /// their tombstones come in portions, the first with this step. After a crash between two of them the rest is back.
    pub(in crate::coordinator) fn on_topics_deleted(&mut self, context: Context<'_>, topics: &[&str], step: &mut Step) {
        for topic in topics {
            let Some(number) = self.offsets.topic(topic) else { continue };
            #[cfg(not(corelane_defect = "offsets_outlive_topic"))]
            for (group, partition) in self.offsets.of_topic(number) {
                let name = self.offsets.remove(&group, number, partition);
                self.offsets.tombstones.insert((group, name, partition));
            }
        }
        self.arm_expiry(context);
        self.write_tombstones(&mut Portion::new(), step);
        if !self.offsets.tombstones.is_empty() {
            self.arm_rest(context);
        }
    }

    fn check_interval_ms(&self) -> u64 {
        u64::try_from(self.config.offsets_retention_check_interval_ms).unwrap_or(0).max(1)
    }

    /// Arms for what is left of a check or of tombstones, or else for the next check. What is left waits a moment, so that it
    /// becomes a step of its own with requests before it.
    fn arm_rest(&mut self, context: Context<'_>) {
        let expiry = &self.offsets.expiry;
        let is_done = self.offsets.tombstones.is_empty() && expiry.cursor.is_none();
        self.arm_expiry_at(expiry.next_check.filter(|_| is_done).unwrap_or(context.now.plus_ms(1)));
    }

    fn arm_expiry_at(&mut self, deadline: MonotonicUs) {
        let expiry = &mut self.offsets.expiry;
        if expiry.armed.is_none_or(|armed| deadline < armed) {
            expiry.armed = Some(deadline);
            self.timers.arm(deadline, &expiry.nobody, Timer::Expiry);
        }
    }

    fn write_tombstones(&mut self, portion: &mut Portion, step: &mut Step) {
        while !portion.is_full()
            && let Some((group, topic, partition)) = self.offsets.tombstones.pop_first()
        {
            portion.add(step, key_bytes(&group, &topic), tombstone(&group, &topic, partition));
        }
    }

    /// Goes on with the check, or begins one.
    fn check_groups(&mut self, context: Context<'_>, portion: &mut Portion, step: &mut Step) {
        let mut from = match self.offsets.expiry.cursor.take() {
            Some(id) => Bound::Included(id),
            None => Bound::Unbounded,
        };
        while let Some((id, group)) = self.groups.range::<Rc<str>, _>((from, Bound::Unbounded)).next() {
            let id = Rc::clone(id);
            if portion.is_full() || portion.visits_left == 0 {
                self.offsets.expiry.cursor = Some(id);
                return;
            }
            let retention_ms = self.config.offsets_retention_ms;
            let left = self.offsets.expire(&id, group, context.wall.value(), retention_ms, portion, step);
            if left == Left::Unchecked {
                self.offsets.expiry.cursor = Some(id);
                return;
            }
            if left == Left::Nothing && is_empty(group) {
                for record in group_tombstones(group, &id) {
                    portion.add(step, key_bytes(&id, ""), record);
                }
                self.groups.remove(&id);
            }
            from = Bound::Excluded(id);
        }
    }
}

impl Offsets {
    fn expire(
        &mut self,
        id: &Rc<str>,
        group: &Group,
        wall: i64,
        retention_ms: i64,
        portion: &mut Portion,
        step: &mut Step,
    ) -> Left {
        let mut left = Left::Nothing;
        let rows = self.rows_of(id);
        portion.visit(1 + rows.len());
        for (topic, partition) in rows {
            // Every portion that ends here has deleted something, so the group comes to an end.
            if portion.is_full() {
                return Left::Unchecked;
            }
            let row = self.row(id, topic, partition).expect("listed above");
            if is_expired(group, row, wall, retention_ms) && !is_subscribed(group, self.topic_name(topic)) {
                let name = self.remove(id, topic, partition);
                portion.add(step, key_bytes(id, &name), tombstone(id, &name, partition));
            } else {
                left = Left::Some;
            }
        }
        left
    }
}

/// Kafka's `OffsetExpirationConditionImpl`.
fn is_expired(group: &Group, row: &Row, wall: i64, retention_ms: i64) -> bool {
    let base = match group {
        Group::Classic(group) => group.expiry_base(row.commit_timestamp),
        Group::Consumer(group) => group.expiry_base(row.commit_timestamp),
    };
    match (base, row.expire_timestamp()) {
        (None, _) => false,
        (Some(_), Some(expire_timestamp)) => wall >= expire_timestamp,
        (Some(base), None) => wall.saturating_sub(base) >= retention_ms,
    }
}

fn is_empty(group: &Group) -> bool {
    match group {
        Group::Classic(group) => group.is_empty(),
        Group::Consumer(group) => group.is_empty(),
    }
}

/// What deletes a group without members (`Group.createGroupTombstoneRecords`).
fn group_tombstones(group: &Group, id: &str) -> Vec<Record> {
    match group {
        Group::Classic(_) => vec![Record::Group(id.to_owned(), None)],
        Group::Consumer(_) => {
            vec![Record::ConsumerTargetMetadata(id.to_owned(), None), Record::ConsumerGroup(id.to_owned(), None)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::records::{OffsetCommitKey, OffsetCommitValue};
    use super::super::fixture::{RETENTION_MS, START_MS, World, commit};
    use super::*;
    use crate::protocol::messages::offset_commit::OffsetCommitRequest;

    /// Kafka's default for `offsets.retention.check.interval.ms`.
    const CHECK_MS: i64 = 600_000;

    fn end_of(group: &str) -> Record {
        Record::Group(group.into(), None)
    }

    #[test]
    fn an_offset_of_a_simple_group_expires_a_retention_after_its_commit_and_the_group_with_the_last() {
        let mut world = World::new();
        world.commit_simple("g", "a", 0, 1);
        assert_eq!(world.pass(CHECK_MS), Vec::<Vec<Record>>::new());
        world.commit_simple("g", "a", 1, 1);
        assert_eq!(world.pass(RETENTION_MS - CHECK_MS), [[tombstone("g", "a", 0)]]);
        assert_eq!(world.all("g").len(), 1);
        assert_eq!(world.pass(CHECK_MS), [[tombstone("g", "a", 1), end_of("g")]]);
        assert!(world.coordinator.groups.is_empty());
        assert_eq!(world.coordinator.offset_count_and_bytes(), (0, 0));
    }

    #[test]
    fn a_commit_renews_the_retention() {
        let mut world = World::new();
        world.commit_simple("g", "a", 0, 1);
        for _ in 0..5 {
            assert_eq!(world.pass(RETENTION_MS - 1), Vec::<Vec<Record>>::new());
            world.commit_simple("g", "a", 0, 1);
        }
        assert_eq!(world.all("g").len(), 1);
    }

    #[test]
    fn offsets_of_a_group_that_became_empty_expire_together_counted_from_then() {
        let mut world = World::new();
        world.replay_offset("g", "a", 0, 1);
        if let Some(Record::OffsetCommit(_, Some(value))) = world.log.first_mut() {
            value.commit_timestamp = START_MS - 3 * RETENTION_MS;
        }
        let mut world = world.restarted();
        world.replay_empty_group("g");
        assert_eq!(world.all("g").len(), 1);
        assert_eq!(world.pass(RETENTION_MS - 1), Vec::<Vec<Record>>::new());
        assert_eq!(world.pass(1), [[tombstone("g", "a", 0), end_of("g")]]);
    }

    #[test]
    fn in_a_stable_group_of_consumers_only_topics_that_nobody_reads_expire() {
        let mut world = World::new();
        world.replay_group("g", "consumer");
        world.replay_offset("g", "a", 0, 1);
        world.replay_offset("g", "b", 0, 1);
        assert_eq!(world.all("g").len(), 2);
        assert_eq!(world.pass(RETENTION_MS + CHECK_MS), [[tombstone("g", "b", 0)]]);
        assert_eq!(world.pass(3 * RETENTION_MS), Vec::<Vec<Record>>::new());
        assert_eq!(world.all("g").len(), 1);
    }

    #[test]
    fn while_others_than_consumers_are_members_nothing_expires() {
        let mut world = World::new();
        world.replay_group("g", "connect");
        world.replay_offset("g", "b", 0, 1);
        assert_eq!(world.all("g").len(), 1);
        assert_eq!(world.pass(3 * RETENTION_MS), Vec::<Vec<Record>>::new());
        assert_eq!(world.all("g").len(), 1);
    }

    #[test]
    fn an_offset_with_an_expiry_of_its_own_goes_by_that() {
        let mut world = World::new();
        for (group, retention_time_ms) in [("soon", CHECK_MS + 1), ("late", 2 * RETENTION_MS)] {
            let request = OffsetCommitRequest { retention_time_ms, ..commit(group, "a", 0, 1) };
            assert_eq!(world.commit(2, &request), [0]);
        }
        let mut world = world.restarted();
        assert_eq!(world.all("soon").len(), 1);
        assert_eq!(world.pass(CHECK_MS), Vec::<Vec<Record>>::new());
        assert_eq!(world.pass(CHECK_MS), [[tombstone("soon", "a", 0), end_of("soon")]]);
        assert_eq!(world.pass(2 * RETENTION_MS - 2 * CHECK_MS - 1), Vec::<Vec<Record>>::new());
        assert_eq!(world.pass(CHECK_MS), [[tombstone("late", "a", 0), end_of("late")]]);
    }

    #[test]
    fn a_group_without_members_and_offsets_goes_at_the_next_check() {
        let mut world = World::new();
        world.replay_empty_group("g");
        assert!(world.all("g").is_empty());
        assert_eq!(world.pass(CHECK_MS), [[end_of("g")]]);
        assert!(world.restarted().coordinator.groups.is_empty());
    }

    #[test]
    fn requests_do_not_multiply_the_timer() {
        let mut world = World::new();
        for partition in 0..3 {
            world.commit_simple("g", "a", partition, 1);
            world.pass(CHECK_MS / 2);
            world.create(&format!("t{partition}"), 1);
            world.commit_simple("g", &format!("t{partition}"), 0, 1);
            world.delete_topic(&format!("t{partition}"));
        }
        world.pass(10 * CHECK_MS);
        assert!(world.coordinator.timers.pop(MonotonicUs::new(u64::MAX)).is_some());
        assert_eq!(world.coordinator.timers.pop(MonotonicUs::new(u64::MAX)), None);
    }

    #[test]
    fn offsets_of_a_deleted_topic_go_in_every_group_and_the_group_stays() {
        let mut world = World::new();
        for group in ["g", "h"] {
            for (topic, partition) in [("a", 0), ("a", 2), ("b", 0)] {
                world.commit_simple(group, topic, partition, 1);
            }
        }
        let step = world.delete_topic("a");
        let expected: Vec<_> =
            ["g", "h"].into_iter().flat_map(|group| [0, 2].map(|partition| tombstone(group, "a", partition))).collect();
        assert_eq!(step.records, expected);
        for group in ["g", "h"] {
            assert_eq!(world.all(group).into_keys().collect::<Vec<_>>(), [("b".to_owned(), 0)]);
        }
        assert_eq!(world.delete_topic("b").records.len(), 2);
        assert_eq!(world.coordinator.groups.len(), 2);
        assert_eq!(world.coordinator.offset_count_and_bytes(), (0, 0));
        world.create("c", 1);
        assert_eq!(world.delete_topic("c").records, []);
    }

    #[test]
    fn many_tombstones_come_in_portions_and_none_hits_an_offset_committed_meanwhile() {
        let mut world = World::new();
        world.create("c", 1_000);
        let groups = 2 * limits::OFFSET_TOMBSTONES_PER_STEP_MAX / 1_000 + 1;
        for group in 0..groups {
            for partition in 0..1_000 {
                world.replay_offset(&format!("g{group}"), "c", partition, 1);
            }
        }
        let first = world.delete_topic("c").records.len();
        assert_eq!(first, limits::OFFSET_TOMBSTONES_PER_STEP_MAX);
        world.create("c", 1_000);
        let last = format!("g{}", groups - 1);
        world.commit_simple(&last, "c", 999, 77);
        let steps = world.pass(100);
        let sizes: Vec<_> = steps.iter().map(Vec::len).collect();
        assert_eq!(sizes, [limits::OFFSET_TOMBSTONES_PER_STEP_MAX, 999]);
        let mut restarted = world.restarted();
        for group in 0..groups {
            let all = world.all(&format!("g{group}"));
            assert_eq!(all.len(), usize::from(group == groups - 1));
            assert_eq!(restarted.all(&format!("g{group}")), all);
        }
    }

    #[test]
    fn many_groups_expire_in_portions() {
        let mut world = World::new();
        let groups = limits::OFFSET_TOMBSTONES_PER_STEP_MAX + 5;
        for group in 0..groups {
            world.replay_offset(&format!("g{group:05}"), "a", 0, 1);
        }
        assert_eq!(world.all("g00000").len(), 1);
        let steps = world.pass(RETENTION_MS + CHECK_MS);
        assert!(steps.len() >= 3, "{}", steps.len());
        assert!(steps.iter().all(|step| step.len() <= limits::OFFSET_TOMBSTONES_PER_STEP_MAX + 1));
        assert_eq!(steps.iter().map(Vec::len).sum::<usize>(), 2 * groups);
        assert!(world.coordinator.groups.is_empty() && world.restarted().coordinator.groups.is_empty());
    }

    #[test]
    fn a_check_of_many_groups_goes_on_where_it_paused() {
        let mut world = World::new();
        for group in 0..limits::OFFSETS_CHECKED_PER_STEP_MAX {
            world.replay_offset(&format!("g{group:05}"), "a", 0, 1);
        }
        assert_eq!(world.all("g00000").len(), 1);
        world.pass(CHECK_MS);
        // A group and its offset are two to look at.
        let half = format!("g{:05}", limits::OFFSETS_CHECKED_PER_STEP_MAX / 2);
        assert_eq!(world.coordinator.offsets.expiry.cursor.as_deref(), Some(&*half));
        world.pass(1);
        assert_eq!(world.coordinator.offsets.expiry.cursor, None);
        assert_eq!(world.coordinator.groups.len(), limits::OFFSETS_CHECKED_PER_STEP_MAX);
        let next_check = START_MS + 2 * CHECK_MS + 1;
        assert_eq!(world.coordinator.offsets.expiry.armed, Some(super::super::fixture::monotonic(next_check)));
    }

    #[test]
    fn one_group_larger_than_a_portion_is_continued() {
        let mut world = World::new();
        let partitions = i32::try_from(limits::OFFSET_TOMBSTONES_PER_STEP_MAX).unwrap() + 7;
        world.create("c", partitions);
        for partition in 0..partitions {
            world.replay_offset("g", "c", partition, 1);
        }
        // The name of the group is long enough for the bytes to end a portion before the count.
        let long = "x".repeat(2_000);
        for partition in 0..1_000 {
            world.replay_offset(&long, "c", partition, 1);
        }
        assert_eq!(world.fetch("g", None).error_code, 0);
        let steps = world.pass(RETENTION_MS + 100);
        assert_eq!(steps.iter().map(Vec::len).sum::<usize>(), usize::try_from(partitions).unwrap() + 1_000 + 2);
        for step in &steps {
            let bytes: usize = step.iter().map(|record| record.key().len() + 21).sum();
            assert!(bytes <= limits::OFFSET_STEP_BYTES_MAX + 2_100, "{bytes}");
        }
        assert!(world.coordinator.groups.is_empty());
    }

    #[test]
    fn a_restart_in_the_middle_of_a_check_loses_nothing_that_has_not_expired() {
        let mut world = World::new();
        let value = OffsetCommitValue { commit_timestamp: START_MS, ..Default::default() };
        let key = OffsetCommitKey { group: "g".into(), topic: "a".into(), partition: 0 };
        world.replay(Record::OffsetCommit(key, Some(value)));
        world.commit_simple("h", "a", 0, 1);
        world.pass(RETENTION_MS - 1);
        world.commit_simple("h", "a", 0, 2);
        let mut world = world.restarted();
        assert_eq!(world.all("h").len(), 1);
        world.pass(CHECK_MS);
        assert!(world.all("g").is_empty());
        assert_eq!(world.all("h").len(), 1);
    }
}
