//! Members of KIP-848 groups: all they send is a heartbeat, which says what they have and brings what they shall have.
//!
//! A member reads a partition from the answer that gives it on, for as long as its session lasts without another answer.
//! What an answer no longer gives it gives up, perhaps later, before it says so.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use corelane::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use corelane::runtime::Runtime;
use corelane::simulation::random::Random;
use corelane::types::TopicId;

use crate::connection::Connection;
use crate::group_calls::{
    Credentials, FENCED_EPOCH, FENCED_INSTANCE, GROUP_NOT_FOUND, REBALANCE_MS_MAX, STALE_EPOCH, UNKNOWN_MEMBER,
    UNKNOWN_TOPIC, UNRELEASED_INSTANCE, ask, commit, connect, fetch, is_absent,
};
use crate::group_model::Partition;
use crate::groups::{Groups, TOPICS, pause};
use crate::machine::Process;

/// Rebalance timeout of every member.
const REBALANCE_MS: u64 = REBALANCE_MS_MAX;
const LEAVE: i32 = -1;
const LEAVE_FOR_A_WHILE: i32 = -2;

/// How long after its last answered heartbeat was sent nobody else can have what a member has: until then neither its session
/// nor its time to give something up has run out.
pub(crate) fn claimed_ms(session_ms: u64) -> u64 {
    session_ms.min(REBALANCE_MS)
}

/// A member, over all lives.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) group: &'static str,
    instance: Option<String>,
    by_pattern: bool,
    assignor: Option<&'static str>,
    id: String,
    /// 0 while it is to join.
    epoch: i32,
    has: BTreeSet<Partition>,
    /// What it shall have, as last told.
    target: BTreeSet<Partition>,
    /// The last heartbeat has no answer, so that the next one says everything.
    is_unsure: bool,
    /// It is not when it gave up waiting for one, and says no more than it must, as librdkafka.
    is_terse: bool,
    /// What it said to have, last.
    said: BTreeSet<Partition>,
    /// Ids that it had before, and their epochs.
    before: Option<(String, i32)>,
}

impl Consumer {
    pub(crate) fn draw(random: &mut Random, group: &'static str, index: u64) -> Consumer {
        Consumer {
            group,
            instance: random.chance(1, 3).then(|| format!("static-{index}")),
            by_pattern: random.chance(1, 4),
            assignor: *random.pick(&[None, Some("uniform"), Some("range")]),
            id: String::new(),
            epoch: 0,
            has: BTreeSet::new(),
            target: BTreeSet::new(),
            is_unsure: true,
            is_terse: random.chance(1, 2),
            said: BTreeSet::new(),
            before: None,
        }
    }

    /// The broker is gone.
    pub(crate) fn on_end(&mut self) {
        self.is_unsure = true;
    }
}

/// Whether the members of a group share these partitions.
pub(crate) fn is_settled<'a>(members: impl Iterator<Item = &'a Consumer>, all: &[Partition]) -> bool {
    let members: Vec<&Consumer> = members.collect();
    let mut has: Vec<Partition> = members.iter().flat_map(|member| &member.has).copied().collect();
    has.sort_unstable();
    let mut all = all.to_vec();
    all.sort_unstable();
    members.is_empty()
        || (has == all && members.iter().all(|member| member.epoch == members[0].epoch && member.epoch > 0))
}

/// A member where it lives.
struct Held {
    groups: Groups,
    index: usize,
}

impl Held {
    fn with<T>(&self, act: impl FnOnce(&mut Consumer) -> T) -> T {
        act(&mut self.groups.borrow_mut().consumers[self.index])
    }

    fn chance(&self, numerator: u64, denominator: u64) -> bool {
        let mut groups = self.groups.borrow_mut();
        !groups.settling && groups.random.chance(numerator, denominator)
    }

    /// Reads none of these any more.
    fn give_up(&self, what: impl Fn(&Partition) -> bool) {
        let groups = &mut *self.groups.borrow_mut();
        let consumer = &mut groups.consumers[self.index];
        let model = groups.consumer.get_mut(consumer.group).expect("it is one of them");
        model.give_up(&consumer.id, &what);
        consumer.has.retain(|partition| !what(partition));
    }

    /// Has nothing and joins again, under a new id.
    fn start_over(&self) {
        self.give_up(|_| true);
        self.with(|it| {
            if it.epoch > 0 {
                it.before = Some((std::mem::take(&mut it.id), it.epoch));
            }
            it.id.clear();
            it.epoch = 0;
            it.target.clear();
            it.said.clear();
            it.is_unsure = true;
        });
    }
}

/// Works until the clients are told to leave.
pub(crate) async fn run(process: Rc<Process>, groups: Groups, index: usize) {
    let held = Held { groups: Rc::clone(&groups), index };
    let group = held.with(|it| it.group);
    while !groups.borrow().stopping {
        pause(&process.runtime, &groups).await;
        if held.chance(1, 10) {
            vanish(&process, &held).await;
        }
        let Some(connection) = connect(&process, &groups, group).await else { continue };
        while !groups.borrow().stopping {
            if act(&process, &held, &connection).await.is_none() {
                break;
            }
            pause(&process.runtime, &groups).await;
        }
    }
}

/// Falls silent, for so long that it may be out. What it has it reads on, or it comes back as another.
async fn vanish(process: &Process, held: &Held) {
    let forgets = held.chance(1, 2);
    if forgets {
        held.start_over();
    }
    let ms = held.groups.borrow().consumer_session_ms;
    let ms = held.groups.borrow_mut().random.below(2 * ms);
    process.runtime.sleep(Duration::from_millis(ms)).await;
}

/// One act. `None`: connect again.
async fn act(process: &Process, held: &Held, connection: &Connection) -> Option<()> {
    let act = {
        let mut groups = held.groups.borrow_mut();
        if groups.settling { groups.random.below(14) } else { groups.random.below(20) }
    };
    let joins = held.with(|it| it.epoch) == 0;
    match act {
        _ if joins => heartbeat(process, held, connection).await,
        0..8 => {
            // What it shall no longer have it gives up now, or with one of the next.
            if !held.chance(1, 2) {
                let target = held.with(|it| it.target.clone());
                held.give_up(|partition| !target.contains(partition));
            }
            heartbeat(process, held, connection).await
        }
        8..14 => commit_own(process, held, connection, 0).await,
        14 => commit_own(process, held, connection, 1).await,
        15 => {
            let (group, id, epoch) = held.with(|it| (it.group, it.id.clone(), it.epoch));
            let who = Credentials { member: &id, instance: None, generation: epoch };
            let who = held.chance(1, 2).then_some(who);
            let is_member = who.is_some();
            let error = fetch(process, &held.groups, connection, group, who).await?;
            let is_news = is_member && [STALE_EPOCH, UNKNOWN_MEMBER].contains(&error);
            assert!(error == 0 || is_news || is_absent(error), "{group}: OffsetFetch failed with {error}");
            (!is_absent(error)).then_some(())
        }
        16 => old(process, held, connection).await,
        17 if held.chance(1, 3) => leave(process, held, connection).await,
        18 => None,
        _ => Some(()),
    }
}

fn to_rows(partitions: &BTreeSet<Partition>) -> Vec<TopicPartitions> {
    let mut rows: Vec<TopicPartitions> = Vec::new();
    for (topic_id, partition) in partitions {
        match rows.last_mut() {
            Some(row) if row.topic_id == *topic_id => row.partitions.push(*partition),
            _ => rows.push(TopicPartitions { topic_id: *topic_id, partitions: vec![*partition] }),
        }
    }
    rows
}

/// Says what it has; takes in what it shall have.
async fn heartbeat(process: &Process, held: &Held, connection: &Connection) -> Option<()> {
    let session_ms = held.groups.borrow().consumer_session_ms;
    if held.with(|it| it.epoch == 0 && it.id.is_empty()) {
        // From version 1 on a member makes its id itself.
        let number = held.groups.borrow_mut().moment();
        held.with(|it| it.id = format!("member-{number}"));
    }
    let version = i16::from(held.with(|it| it.by_pattern) || held.chance(1, 2));
    let says_all = held.with(|it| it.epoch == 0 || it.is_unsure) || (!held.with(|it| it.is_terse) && held.chance(1, 5));
    let (group, id, instance, epoch, has, said) =
        held.with(|it| (it.group, it.id.clone(), it.instance.clone(), it.epoch, it.has.clone(), it.said.clone()));
    let (by_pattern, assignor) = held.with(|it| (it.by_pattern, it.assignor));
    let names = TOPICS.iter().map(|topic| Cow::Borrowed(topic.name)).collect();
    let request = ConsumerGroupHeartbeatRequest {
        group_id: Cow::Borrowed(group),
        member_id: Cow::Borrowed(&id),
        member_epoch: epoch,
        instance_id: instance.as_deref().map(Cow::Borrowed),
        rebalance_timeout_ms: if says_all { i32::try_from(REBALANCE_MS).unwrap() } else { -1 },
        subscribed_topic_names: (says_all && !by_pattern).then_some(names),
        subscribed_topic_regex: (says_all && by_pattern).then_some(Cow::Borrowed("read-.*")),
        server_assignor: assignor.map(Cow::Borrowed),
        topic_partitions: (says_all || has != said).then(|| to_rows(&has)),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    held.with(|it| it.is_unsure |= !it.is_terse);
    let told = held.groups.borrow().consumer[group].told;
    let answered = held.groups.borrow().intervals[group].answered();
    let until = process.runtime.now().plus_ms(claimed_ms(session_ms));
    let answer = ask(process, &held.groups, connection, &request, version).await?;
    let response = ConsumerGroupHeartbeatResponse::decode(&mut answer.reader(), version).unwrap();
    let error = response.error_code;
    process.runtime.note(
        "consumer heartbeat",
        [u64::from(error.unsigned_abs()), u64::from(response.member_epoch.unsigned_abs()), 0],
    );
    match error {
        0 => {}
        FENCED_EPOCH if epoch == 0 => {
            // An earlier join of this id was done, and not answered.
            held.start_over();
            return Some(());
        }
        FENCED_EPOCH | UNKNOWN_MEMBER | FENCED_INSTANCE => {
            held.start_over();
            return Some(());
        }
        UNRELEASED_INSTANCE if instance.is_some() && epoch == 0 => return Some(()),
        error if is_absent(error) => return None,
        other => panic!("{group}: heartbeat of {id} in epoch {epoch} failed: {other} {:?}", response.error_message),
    }
    assert_eq!(response.member_id.as_deref(), Some(&*id));
    let least = if epoch == 0 { told } else { epoch };
    let got = response.member_epoch;
    assert!(got >= least, "{group}: {id} of epoch {epoch} was told of epoch {got} after {least}");
    let interval_ms = response.heartbeat_interval_ms;
    let is_known = held.groups.borrow().intervals[group].may_be(interval_ms, answered);
    assert!(is_known, "{group}: {id} shall beat every {interval_ms} ms: {:?}", held.groups.borrow().intervals[group]);
    if says_all {
        assert!(response.assignment.is_some(), "{group}: a full heartbeat is answered in full");
    }
    let target = response.assignment.as_ref().map(|assignment| {
        let of = |row: &TopicPartitions| {
            let topic = row.topic_id;
            row.partitions.iter().map(|partition| (topic, *partition)).collect::<Vec<_>>()
        };
        assignment.topic_partitions.iter().flat_map(of).collect::<BTreeSet<Partition>>()
    });
    let groups = &mut *held.groups.borrow_mut();
    let consumer = &mut groups.consumers[held.index];
    consumer.epoch = got;
    consumer.is_unsure = false;
    consumer.said = has;
    if let Some(target) = target {
        consumer.target = target;
    }
    consumer.has.extend(&consumer.target);
    let model = groups.consumer.get_mut(group).expect("it is one of them");
    model.told = model.told.max(got);
    model.claim(&id, &consumer.target, until, process.runtime.now());
    Some(())
}

/// Commits as what it is, or as what it was so many epochs ago.
async fn commit_own(process: &Process, held: &Held, connection: &Connection, ago: i32) -> Option<()> {
    let (group, id, epoch, has) = held.with(|it| (it.group, it.id.clone(), it.epoch, it.has.clone()));
    let mut places: Vec<(usize, i32)> = {
        let groups = held.groups.borrow();
        let place = |(topic, partition): &(TopicId, i32)| Some((groups.topic_of(*topic)?, *partition));
        has.iter().filter_map(place).collect()
    };
    places.truncate(2);
    if places.is_empty() {
        return Some(());
    }
    let who = Credentials { member: &id, instance: None, generation: epoch - ago };
    let error = commit(process, &held.groups, connection, group, who, &places).await?;
    match error {
        0 => assert_eq!(ago, 0, "{group}: {id} is in epoch {epoch}, and an earlier one was accepted"),
        UNKNOWN_TOPIC => {}
        STALE_EPOCH => held.with(|it| it.is_unsure |= !it.is_terse),
        UNKNOWN_MEMBER => held.start_over(),
        error => {
            assert!(is_absent(error), "{group}: OffsetCommit of {id} failed with {error}");
            return None;
        }
    }
    Some(())
}

/// A heartbeat as what it was before: nobody is that any more, if another has its place.
async fn old(process: &Process, held: &Held, connection: &Connection) -> Option<()> {
    let (group, instance, before) = held.with(|it| (it.group, it.instance.clone(), it.before.clone()));
    let (Some(instance), Some((id, epoch))) = (instance, before) else { return Some(()) };
    let request = ConsumerGroupHeartbeatRequest {
        group_id: Cow::Borrowed(group),
        member_id: Cow::Borrowed(&id),
        member_epoch: epoch,
        instance_id: Some(Cow::Borrowed(&instance)),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    let answer = ask(process, &held.groups, connection, &request, 1).await?;
    let response = ConsumerGroupHeartbeatResponse::decode(&mut answer.reader(), 1).unwrap();
    assert_ne!(response.error_code, 0, "{group}: {id} is accepted, but another has the place of {instance}");
    Some(())
}

async fn leave(process: &Process, held: &Held, connection: &Connection) -> Option<()> {
    let (group, id, instance) = held.with(|it| (it.group, it.id.clone(), it.instance.clone()));
    let for_a_while = instance.is_some() && !held.chance(1, 3);
    let member_epoch = if for_a_while { LEAVE_FOR_A_WHILE } else { LEAVE };
    let request = ConsumerGroupHeartbeatRequest {
        group_id: Cow::Borrowed(group),
        member_id: Cow::Borrowed(&id),
        member_epoch,
        instance_id: instance.as_deref().map(Cow::Borrowed),
        ..ConsumerGroupHeartbeatRequest::default()
    };
    held.start_over();
    let answer = ask(process, &held.groups, connection, &request, 1).await?;
    let response = ConsumerGroupHeartbeatResponse::decode(&mut answer.reader(), 1).unwrap();
    match response.error_code {
        0 => assert_eq!(response.member_epoch, member_epoch),
        UNKNOWN_MEMBER | FENCED_INSTANCE | GROUP_NOT_FOUND => {}
        error => assert!(is_absent(error), "{group}: {id} could not leave: {error}"),
    }
    Some(())
}
