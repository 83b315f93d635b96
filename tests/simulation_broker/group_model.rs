//! What must hold of groups, told by what their members were told.
//!
//! A committed offset is a register: a write takes effect somewhere between its request and its answer, or until the end of the
//! process when there was none, and a read sees the last that took effect. Every write has a value of its own, so that a
//! read tells which one it saw.
//!
//! Moments are numbers that rise with everything that clients do, over all lives.

use std::collections::{BTreeMap, BTreeSet};

use corelane::types::{MonotonicUs, TopicId};

/// A write that may be what the register holds.
#[derive(Clone, Copy, Debug)]
struct Write {
    /// `None`: the offset is deleted, or was never there.
    value: Option<i64>,
    /// Took effect before this moment. `None`: that is still open.
    done: Option<u64>,
    /// Who asks after this moment must see a later one.
    superseded: Option<u64>,
}

/// One committed offset.
#[derive(Clone, Debug)]
pub(crate) struct Register {
    /// By number: the moment a write was sent.
    candidates: BTreeMap<u64, Write>,
}

impl Default for Register {
    fn default() -> Register {
        let never = Write { value: None, done: Some(0), superseded: None };
        Register { candidates: BTreeMap::from([(0, never)]) }
    }
}

impl Register {
    /// A write is about to be sent. Its number is that of the moment.
    pub(crate) fn begin(&mut self, value: Option<i64>, now: u64) {
        self.candidates.insert(now, Write { value, done: None, superseded: None });
    }

    /// It was acknowledged: what was done before it was sent is gone.
    pub(crate) fn applied(&mut self, number: u64, now: u64) {
        let write = self.candidates.get_mut(&number).expect("a write of this life is kept");
        write.done = Some(write.done.map_or(now, |done| done.min(now)));
        self.supersede(number, now, &[]);
    }

    /// What took effect before `before` is gone for those who ask after `now`, but for some.
    fn supersede(&mut self, before: u64, now: u64, but: &[u64]) {
        for (number, other) in &mut self.candidates {
            if !but.contains(number) && other.done.is_some_and(|done| done < before) {
                other.superseded.get_or_insert(now);
            }
        }
    }

    /// It was refused, for sure.
    pub(crate) fn refused(&mut self, number: u64) {
        let write = self.candidates.remove(&number).expect("a write of this life is kept");
        assert!(write.done.is_none(), "{write:?} was refused, but somebody has read it");
    }

    /// Somebody asked at `sent` and was told this at `now`.
    ///
    /// Errors: nothing that may be there has this value.
    pub(crate) fn read(&mut self, value: Option<i64>, sent: u64, now: u64) -> Result<(), String> {
        let may_be = |it: &Write| it.value == value && it.superseded.is_none_or(|superseded| superseded >= sent);
        let seen: Vec<u64> = self.candidates.iter().filter(|(_, it)| may_be(it)).map(|it| *it.0).collect();
        match &seen[..] {
            [] => return Err(format!("{value:?} was read by who asked at {sent}: {:?}", self.candidates)),
            [one] => {
                let write = self.candidates.get_mut(one).expect("it was just found");
                write.done = Some(write.done.map_or(now, |done| done.min(now)));
            }
            // Several deletions: any of them.
            _ => {}
        }
        self.supersede(sent, now, &seen);
        Ok(())
    }

    /// The life ended: what has not taken effect never will.
    pub(crate) fn on_end(&mut self, now: u64) {
        self.candidates.retain(|_, write| write.superseded.is_none());
        for write in self.candidates.values_mut() {
            write.done.get_or_insert(now);
        }
    }
}

/// A group of the classic protocol.
#[derive(Debug, Default)]
pub(crate) struct ClassicGroup {
    /// Newest generation that anybody was told of in this life, or that is known to be durable.
    pub(crate) told: i32,
    /// Newest generation that somebody has an assignment of.
    durable: i32,
    /// Which assignment a generation has: there is one only.
    assignments: BTreeMap<i32, u64>,
    /// Who was told to read a partition in a generation.
    owners: BTreeMap<(i32, i32), String>,
    /// The member of an instance id, since when.
    instances: BTreeMap<String, (String, u64)>,
    /// Members that left, since when.
    left: BTreeMap<String, u64>,
}

impl ClassicGroup {
    /// A member was told that it is in a generation; it asked when `told` was the newest.
    pub(crate) fn on_joined(&mut self, member: &str, instance: Option<&str>, generation: i32, told: i32, now: u64) {
        assert!(generation >= told, "{member} joined generation {generation}, but {told} had begun before");
        self.told = self.told.max(generation);
        if let Some(instance) = instance {
            self.instances.insert(instance.to_owned(), (member.to_owned(), now));
        }
    }

    /// A member was told what to read. `identity` outlives its id, if it is static.
    pub(crate) fn on_assigned(&mut self, identity: &str, generation: i32, assignment: u64, partitions: &[i32]) {
        let known = *self.assignments.entry(generation).or_insert(assignment);
        assert_eq!(known, assignment, "{identity}: generation {generation} has two assignments");
        for partition in partitions {
            let owner = self.owners.entry((generation, *partition)).or_insert_with(|| identity.to_owned());
            assert_eq!(owner, identity, "generation {generation}: {partition} has two owners");
        }
        self.durable = self.durable.max(generation);
        self.told = self.told.max(generation);
    }

    /// Something that a member asked for was done, at `sent` or later.
    pub(crate) fn on_accepted(
        &self,
        what: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        at: (i32, u64),
    ) {
        let (told, sent) = at;
        assert!(
            generation >= told,
            "{what} of {member} in generation {generation} was accepted after {told} had begun"
        );
        if let Some((current, since)) = instance.and_then(|instance| self.instances.get(instance)) {
            assert!(current == member || *since > sent, "{what} of {member} was accepted, but {current} has its place");
        }
        let gone = self.left.get(member).is_some_and(|since| *since < sent);
        assert!(!gone, "{what} of {member} was accepted, but it has left");
    }

    pub(crate) fn on_left(&mut self, member: &str, now: u64) {
        self.left.insert(member.to_owned(), now);
    }

    /// Only what was assigned is in the log for sure.
    pub(crate) fn on_end(&mut self) {
        self.told = self.durable;
        self.instances.clear();
        self.left.clear();
    }
}

/// A partition as KIP-848 names it.
pub(crate) type Partition = (TopicId, i32);

/// A KIP-848 group.
#[derive(Debug, Default)]
pub(crate) struct ConsumerGroup {
    /// Greatest epoch that anybody was told of: all that is told is durable.
    pub(crate) told: i32,
    /// Who reads a partition, and until when nobody else may be told to.
    claims: BTreeMap<Partition, (String, MonotonicUs)>,
}

impl ConsumerGroup {
    /// A member was told that it has partitions, which it has until then without being heard of again.
    pub(crate) fn claim(&mut self, member: &str, has: &BTreeSet<Partition>, until: MonotonicUs, now: MonotonicUs) {
        if until <= now {
            return; // Too late an answer to count on.
        }
        for partition in has {
            if let Some((other, valid)) = self.claims.get(partition) {
                let is_free = other == member || *valid <= now;
                assert!(is_free, "{partition:?} is given to {member}, and {other} still has it");
            }
            self.claims.insert(*partition, (member.to_owned(), until));
        }
    }

    /// A member no longer reads these.
    pub(crate) fn give_up(&mut self, member: &str, what: impl Fn(&Partition) -> bool) {
        self.claims.retain(|partition, (owner, _)| owner != member || !what(partition));
    }

    /// The life ended before this moment. The clock starts anew, and so does every session, when the next process has loaded
    /// the group.
    pub(crate) fn on_end(&mut self, end: MonotonicUs, least: MonotonicUs) {
        self.claims.retain(|_, (_, valid)| *valid > end);
        for (_, valid) in self.claims.values_mut() {
            *valid = least;
        }
    }
}
