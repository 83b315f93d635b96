//! Members that are gone: their session or their time to give up partitions has run out, or they left.

use super::ConsumerGroup;
use super::member::{Due, MemberState, Name};
use crate::cluster::image::MetadataImage;
use crate::coordinator::records::Record;
use crate::coordinator::timers::Timer;
use crate::coordinator::{Environment, Step};
use crate::protocol::error_code::ErrorCode;
use crate::types::MonotonicUs;

impl ConsumerGroup {
    /// A timer of this group came up. Fences the member that it is about if its deadline has passed.
    pub fn on_timer(&mut self, environment: &mut Environment<'_>, timer: &Timer) {
        let now = environment.context.now;
        let (Timer::Session(id) | Timer::Revocation(id)) = timer else { return };
        let Some(member) = self.members.get_mut(id) else { return };
        let deadline = if matches!(timer, Timer::Session(_)) { &mut member.session } else { &mut member.revocation };
        match deadline.on_entry(now) {
            Due::Nothing => {}
            Due::ArmAt(at) => environment.timers.arm(at, &self.id, timer.clone()),
            Due::Passed => self.fence(environment.step, environment.context.image, id),
        }
    }

    /// The log was replayed: every member gets a whole session, and the time to give up what it must.
    pub fn on_loaded(&mut self, environment: &mut Environment<'_>) {
        let ids: Vec<Name> = self.members.keys().cloned().collect();
        for id in ids {
            self.renew_session(environment, &id);
            let member = &self.members[&id];
            if member.standing.state == MemberState::UnrevokedPartitions {
                self.expect_revocation(environment, &id);
            }
        }
    }

    /// Removes a member, and raises the epoch so that the others get its partitions (`consumerGroupFenceMember`).
    pub(super) fn fence(&mut self, step: &mut Step, image: &MetadataImage, member_id: &str) {
        self.remove_with_pattern(step, member_id);
        self.bump_without(step, image);
    }

    /// Removes members that a LeaveGroup names by member id, by instance id (then the member id is empty), or by both, and
    /// says for each how that went. The epoch rises once (`classicGroupLeaveToConsumerGroup`).
    pub fn take_out<'a>(
        &mut self,
        image: &MetadataImage,
        step: &mut Step,
        leavers: impl Iterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Vec<Result<(), ErrorCode>> {
        let results: Vec<_> =
            leavers.map(|(member_id, instance)| self.take_out_one(step, member_id, instance)).collect();
        if results.iter().any(Result::is_ok) {
            self.bump_without(step, image);
        }
        results
    }

    fn take_out_one(&mut self, step: &mut Step, member_id: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        let id = match instance {
            None => self.members.get_key_value(member_id).map(|(id, _)| id),
            Some(instance) => self.static_members.get(instance),
        };
        let id = Name::clone(id.ok_or(ErrorCode::UnknownMemberId)?);
        if !member_id.is_empty() && *id != *member_id {
            return Err(ErrorCode::FencedInstanceId);
        }
        self.remove_with_pattern(step, &id);
        Ok(())
    }

    fn remove_with_pattern(&mut self, step: &mut Step, member_id: &str) {
        let pattern = self.members.get(member_id).and_then(|member| member.pattern()).map(str::to_owned);
        self.remove(step, member_id);
        if let Some(pattern) = pattern {
            self.forget_unused_pattern(step, &pattern);
        }
    }

    /// Raises the epoch after members were removed.
    fn bump_without(&mut self, step: &mut Step, image: &MetadataImage) {
        if self.topics_stale {
            let hash = self.subscriptions.metadata_hash(image);
            self.topics_stale = false;
            self.bump(step, hash);
        } else {
            self.bump(step, self.metadata_hash);
        }
    }

    /// Deletes what a pattern was matched to, if no member has it any more.
    pub(super) fn forget_unused_pattern(&mut self, step: &mut Step, pattern: &str) {
        if self.subscriptions.pattern(pattern).is_some_and(|pattern| pattern.members == 0) {
            self.emit(step, Record::ConsumerRegularExpression(self.pattern_key(pattern), None));
        }
    }

    /// A member was heard of.
    pub(super) fn renew_session(&mut self, environment: &mut Environment<'_>, member_id: &str) {
        let at = deadline(environment.context.now, environment.consumer_session_timeout_ms(&self.id));
        let Some(member) = self.members.get_mut(member_id) else { return };
        if let Some(entry) = member.session.set(at) {
            environment.timers.arm(entry, &self.id, Timer::Session(self.name_of(member_id)));
        }
    }

    /// A member was told to give up partitions.
    pub(super) fn expect_revocation(&mut self, environment: &mut Environment<'_>, member_id: &str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let at = deadline(environment.context.now, member.metadata.rebalance_timeout_ms);
        if let Some(entry) = member.revocation.set(at) {
            environment.timers.arm(entry, &self.id, Timer::Revocation(self.name_of(member_id)));
        }
    }
}

fn deadline(now: MonotonicUs, timeout_ms: i32) -> MonotonicUs {
    now.plus_ms(u64::try_from(timeout_ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordinator::consumer::testing::{Bench, beat, durable, join, owning};
    use crate::protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest as Request;

    fn bench() -> (Bench, crate::types::TopicId) {
        let mut bench = Bench::new();
        let topic = bench.cluster.create("t", 2);
        (bench, topic)
    }

    #[test]
    fn a_silent_member_is_fenced_and_a_heartbeat_starts_its_session_anew() {
        let (mut bench, _) = bench();
        bench.send(&join("g", "a", &["t"]));
        assert_eq!(bench.pass(40_000), []);
        bench.send(&beat("g", "a", 1));
        assert_eq!(bench.pass(44_999), []);
        let records = bench.pass(1);
        assert!(matches!(records.last(), Some(Record::ConsumerGroup(_, Some(value))) if value.epoch == 2));
        assert!(bench.group("g").is_empty());
        assert_eq!(bench.pass(100_000), []);
    }

    #[test]
    fn a_groups_own_session_timeout_counts_from_the_next_heartbeat_on() {
        const SESSION: &str = "consumer.session.timeout.ms";
        let (mut bench, _) = bench();
        bench.send(&join("g", "a", &["t"]));
        bench.change_metadata(|cluster| cluster.configure("g", SESSION, Some("60000")));
        bench.send(&beat("g", "a", 1));
        assert_eq!(bench.pass(59_999), []);
        bench.send(&beat("g", "a", 1));
        // Shorter, but not before the member speaks.
        bench.change_metadata(|cluster| cluster.configure("g", SESSION, Some("5000")));
        assert_eq!(bench.pass(30_000), []);
        bench.send(&beat("g", "a", 1));
        bench.change_metadata(|cluster| cluster.configure("other", SESSION, Some("60000")));
        assert_eq!(bench.pass(4_999), []);
        assert!(!bench.pass(1).is_empty());
        assert!(bench.group("g").is_empty());
        // What is set outlives members and restarts.
        bench.send(&join("g", "b", &["t"]));
        bench.restart();
        assert_eq!(bench.pass(4_999), []);
        assert!(!bench.pass(1).is_empty());
        bench.change_metadata(|cluster| cluster.configure("g", SESSION, None));
        bench.send(&join("g", "c", &["t"]));
        assert_eq!(bench.pass(44_999), []);
        assert!(!bench.pass(1).is_empty());
    }

    #[test]
    fn a_leave_group_takes_members_out_by_either_id_and_raises_the_epoch_once() {
        let (mut bench, _) = bench();
        for (member, instance) in [("a", None), ("b", Some("i")), ("c", Some("j")), ("d", None)] {
            bench.send(&Request { instance_id: instance.map(Into::into), ..join("g", member, &["t"]) });
        }
        let epoch = bench.group("g").epoch;
        let leavers = [("a", None), ("who", None), ("", Some("i")), ("x", Some("j")), ("", Some("z")), ("", None)];
        let unknown = Err(ErrorCode::UnknownMemberId);
        let results = [Ok(()), unknown, Ok(()), Err(ErrorCode::FencedInstanceId), unknown, unknown];
        assert_eq!(bench.take_out("g", &leavers), results);
        assert_eq!(bench.group("g").members.keys().map(|id| &**id).collect::<Vec<_>>(), ["c", "d"]);
        assert_eq!(bench.group("g").epoch, epoch + 1);
        // Nobody was removed: nothing changes.
        let before = durable(bench.group("g"));
        assert_eq!(bench.take_out("g", &leavers[4..]), [unknown, unknown]);
        assert_eq!(durable(bench.group("g")), before);
        bench.restart();
        assert_eq!(durable(bench.group("g")), before);
    }

    #[test]
    fn a_refused_heartbeat_does_not_keep_a_session_alive() {
        let (mut bench, _) = bench();
        bench.send(&join("g", "a", &["t"]));
        bench.pass(40_000);
        assert_ne!(bench.send(&beat("g", "a", 7)).error_code, 0);
        bench.pass(5_000);
        assert!(bench.group("g").is_empty());
    }

    #[test]
    fn a_member_that_does_not_give_up_partitions_is_fenced_after_its_rebalance_timeout() {
        let (mut bench, topic) = bench();
        bench.send(&join("g", "a", &["t"]));
        bench.send(&join("g", "b", &["t"]));
        bench.send(&beat("g", "a", 1));
        // 5 s, of which heartbeats that acknowledge nothing do not add any.
        assert_eq!(bench.pass(4_000), []);
        bench.send(&beat("g", "a", 1));
        assert_eq!(bench.pass(999), []);
        assert!(!bench.pass(1).is_empty());
        assert_eq!(bench.group("g").members.keys().map(|id| &**id).collect::<Vec<_>>(), ["b"]);
        // Who acknowledges in time stays.
        bench.send(&beat("g", "b", 2));
        bench.send(&join("g", "c", &["t"]));
        bench.send(&beat("g", "b", 3));
        bench.pass(4_000);
        bench.send(&owning("g", "b", 3, topic, &[0]));
        assert_eq!(bench.pass(10_000), []);
        assert_eq!(bench.group("g").members.len(), 2);
    }

    #[test]
    fn after_a_restart_members_have_a_whole_session_and_must_still_give_up_partitions() {
        let (mut bench, _) = bench();
        bench.send(&join("g", "a", &["t"]));
        bench.send(&join("g", "b", &["t"]));
        bench.send(&beat("g", "a", 1));
        bench.now_ms += 60_000;
        let before = durable(bench.group("g"));
        bench.restart();
        assert_eq!(durable(bench.group("g")), before);
        assert_eq!(bench.pass(4_999), []);
        assert!(!bench.pass(1).is_empty(), "a's rebalance timeout");
        assert_eq!(bench.group("g").members.len(), 1);
        assert_eq!(bench.pass(39_999), []);
        assert!(!bench.pass(1).is_empty(), "b's session");
        assert!(bench.group("g").is_empty());
    }

    #[test]
    fn timers_do_not_pile_up_with_heartbeats() {
        let (mut bench, _) = bench();
        for _ in 0..50 {
            bench.send(&join("g", "a", &["t"]));
            let epoch = bench.group("g").members["a"].standing.epoch;
            (0..20).for_each(|_| drop(bench.send(&beat("g", "a", epoch))));
            bench.send(&beat("g", "a", -1));
        }
        bench.send(&join("g", "a", &["t"]));
        // Entries of earlier lives go without a trace.
        bench.pass(44_000);
        bench.send(&beat("g", "a", bench.group("g").members["a"].standing.epoch));
        bench.pass(1_000);
        let mut left = 0;
        while bench.coordinator.timers.pop(crate::types::MonotonicUs::new(u64::MAX)).is_some() {
            left += 1;
        }
        assert_eq!(left, 1);
    }
}
