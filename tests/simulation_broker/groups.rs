//! Groups: members of both protocols and those that only commit, over several lives of the broker, with a model beside them.
//!
//! Members outlive the process, as clients on other machines do. They join, read, commit, leave, fall silent and come back,
//! give up requests whose answers are on the way, and ask with what they were before; one topic comes and goes. Held
//! against what they were told:
//!
//! - an acknowledged commit is there until a later one, or the end of its topic, over every crash; no reader goes back
//! - a generation has one assignment, and a partition one owner in it; no two members of a KIP-848 group have a partition
//! - generations and epochs that somebody has an assignment of never come again
//! - what was, does not count: old generations, old epochs, members that left, static members whose place is taken
//! - a group's own heartbeat interval is what its members are told, once its change was answered
//! - every request is answered within the rebalance timeout, and some slack
//! - when everybody behaves, every group settles: each partition is read by one member

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use corelane::cluster::view::Advertise;
use corelane::protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest, CreateTopicsResponse};
use corelane::protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use corelane::runtime::Runtime;
use corelane::simulation::random::Random;
use corelane::simulation::seeds::Seeds;
use corelane::simulation::{Crash, Ended, SimulatedRuntime, Simulation};
use corelane::types::{MonotonicUs, TopicId};

use crate::calls::metadata;
use crate::group_calls::{REBALANCE_MS_MAX, UNKNOWN_TOPIC, connect, fetch, is_absent};
use crate::group_committer as committer;
use crate::group_consumer::{self as consumer, Consumer};
use crate::group_member::{self as member, Member};
use crate::group_model::{ClassicGroup, ConsumerGroup, Register};
use crate::group_settings::{self as settings, Intervals};
use crate::machine::{Plan, Process, within};
use crate::{Course, Outcome, Theme, arm_crash, draw_course};

/// A topic that groups read.
pub(crate) struct TopicOf {
    pub(crate) name: &'static str,
    pub(crate) partitions: i32,
}

/// One topic stays, one comes and goes.
pub(crate) const TOPICS: [TopicOf; 2] =
    [TopicOf { name: "read-always", partitions: 3 }, TopicOf { name: "read-sometimes", partitions: 2 }];
const CHURNED: usize = 1;

const CLASSIC: [&str; 2] = ["classic-a", "classic-b"];
const CONSUMER: [&str; 2] = ["consumer-a", "consumer-b"];
const SIMPLE: [&str; 2] = ["simple-a", "simple-b"];

pub(crate) const STORAGE_ERROR: i16 = 56;
/// Longest that a group whose members all behave takes to settle: those that fell silent are out, and then some rounds.
const SETTLED_WITHIN: Duration = Duration::from_millis(10 * REBALANCE_MS_MAX + 30_000);
/// Longest that clients take to leave.
const LEFT_WITHIN: Duration = Duration::from_secs(120);
/// Longest that a coordinator takes to learn that a topic is gone.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// How often the end of a life is looked for, in milliseconds.
const TICK_MS: u64 = 5;

/// One partition of one of [`TOPICS`].
pub(crate) type Place = (usize, i32);

/// What is known of a topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Topic {
    Absent,
    Alive(TopicId),
    /// A change was asked for and not answered.
    Unknown,
}

/// What outlives the process.
pub(crate) struct GroupWorld {
    pub(crate) random: Random,
    /// Clients finish what they are at and leave.
    pub(crate) stopping: bool,
    /// Everybody behaves from now on.
    pub(crate) settling: bool,
    /// The disk may fail in this life.
    pub(crate) faulty: bool,
    /// Any connection may reach any shard.
    pub(crate) single: bool,
    pub(crate) consumer_session_ms: u64,
    pub(crate) classic: BTreeMap<&'static str, ClassicGroup>,
    pub(crate) consumer: BTreeMap<&'static str, ConsumerGroup>,
    pub(crate) intervals: BTreeMap<&'static str, Intervals>,
    pub(crate) members: Vec<Member>,
    pub(crate) consumers: Vec<Consumer>,
    /// Clients at work.
    busy: u32,
    committers: u64,
    pause_us_max: u64,
    now: u64,
    /// What the clock of this life shows, or showed [`TICK_MS`] ago.
    clock: MonotonicUs,
    registers: BTreeMap<(&'static str, Place), Register>,
    topics: [Topic; TOPICS.len()],
}

/// A world that all tasks of a run share.
pub(crate) type Groups = Rc<RefCell<GroupWorld>>;

impl GroupWorld {
    fn new(mut random: Random, plan: &Plan, consumer_session_ms: u64) -> GroupWorld {
        let mut members = Vec::new();
        let mut consumers = Vec::new();
        for group in CLASSIC.into_iter().take(usize::try_from(random.range(1..3)).unwrap()) {
            for index in 0..random.range(1..5) {
                members.push(Member::draw(&mut random, group, index));
            }
        }
        for group in CONSUMER.into_iter().take(usize::try_from(random.range(1..3)).unwrap()) {
            for index in 0..random.range(1..5) {
                consumers.push(Consumer::draw(&mut random, group, index));
            }
        }
        GroupWorld {
            stopping: false,
            settling: false,
            faulty: false,
            single: plan.advertise == Advertise::Single,
            consumer_session_ms,
            classic: CLASSIC.into_iter().map(|group| (group, ClassicGroup::default())).collect(),
            consumer: CONSUMER.into_iter().map(|group| (group, ConsumerGroup::default())).collect(),
            intervals: CONSUMER.into_iter().map(|group| (group, Intervals::default())).collect(),
            members,
            consumers,
            busy: 0,
            committers: random.range(1..4),
            pause_us_max: 1,
            now: 0,
            clock: MonotonicUs::new(0),
            registers: BTreeMap::new(),
            topics: [Topic::Absent; TOPICS.len()],
            random,
        }
    }

    /// The next moment.
    pub(crate) fn moment(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    pub(crate) fn is_consumer(&self, group: &str) -> bool {
        self.consumer.contains_key(group)
    }

    /// A commit is about to be sent, or a deletion: its number, which is also the offset.
    pub(crate) fn begin(&mut self, group: &'static str, place: Place, commits: bool) -> u64 {
        let number = self.moment();
        let value = commits.then(|| i64::try_from(number).unwrap());
        self.registers.entry((group, place)).or_default().begin(value, number);
        number
    }

    /// It was answered. Without a coordinator, or one that goes away, nobody knows.
    pub(crate) fn end(&mut self, group: &'static str, place: Place, number: u64, error: i16) {
        let now = self.moment();
        let register = self.registers.get_mut(&(group, place)).expect("it has begun");
        match error {
            0 => register.applied(number, now),
            error if is_absent(error) => {}
            _ => register.refused(number),
        }
    }

    /// An offset was read by a request sent at that moment.
    pub(crate) fn read(&mut self, group: &'static str, place: Place, value: Option<i64>, sent: u64) {
        let now = self.moment();
        let read = self.registers.entry((group, place)).or_default().read(value, sent, now);
        read.unwrap_or_else(|why| panic!("{group}: {}-{}: {why}", TOPICS[place.0].name, place.1));
    }

    /// Which of [`TOPICS`] has this id, as far as is known.
    pub(crate) fn topic_of(&self, id: TopicId) -> Option<usize> {
        self.topics.iter().position(|topic| *topic == Topic::Alive(id))
    }

    /// A partition of any of [`TOPICS`].
    pub(crate) fn any_place(&mut self) -> Place {
        let topic = self.random.index(TOPICS.len());
        (topic, i32::try_from(self.random.below(TOPICS[topic].partitions.unsigned_abs().into())).unwrap())
    }

    /// A life ended.
    fn on_end(&mut self) {
        let now = self.moment();
        self.registers.values_mut().for_each(|register| register.on_end(now));
        self.classic.values_mut().for_each(ClassicGroup::on_end);
        let least = MonotonicUs::new(0).plus_ms(consumer::claimed_ms(self.consumer_session_ms));
        let end = self.clock.plus_ms(2 * TICK_MS);
        self.consumer.values_mut().for_each(|group| group.on_end(end, least));
        self.consumers.iter_mut().for_each(Consumer::on_end);
        self.busy = 0;
    }

    fn is_settled(&self) -> bool {
        let alive: Vec<(TopicId, i32)> = (self.topics.iter().zip(&TOPICS))
            .filter_map(|(topic, of)| match topic {
                Topic::Alive(id) => Some((*id, of.partitions)),
                Topic::Absent | Topic::Unknown => None,
            })
            .flat_map(|(id, partitions)| (0..partitions).map(move |partition| (id, partition)))
            .collect();
        CLASSIC.iter().all(|group| member::is_settled(self.members.iter().filter(|it| it.group == *group)))
            && CONSUMER
                .iter()
                .all(|group| consumer::is_settled(self.consumers.iter().filter(|it| it.group == *group), &alive))
    }
}

/// Pauses a client.
pub(crate) async fn pause(runtime: &SimulatedRuntime, groups: &Groups) {
    let us = {
        let mut groups = groups.borrow_mut();
        let max = if groups.settling { 50_000 } else { groups.pause_us_max };
        200 + groups.random.below(max)
    };
    runtime.sleep(Duration::from_micros(us)).await;
}

/// Runs one seed and gives the trace.
fn run(seed: u64, theme: Theme) -> u64 {
    let mut random = Random::new(seed).split();
    let mut plan = Plan::draw(&mut random);
    let consumer_session_ms = random.range(1000..4000);
    let mut set = |key: &str, value: u64| plan.settings.push((key.to_owned(), value.to_string()));
    set("offsets.topic.num.partitions", random.range(1..5));
    set("group.initial.rebalance.delay.ms", *random.pick(&[0, 50, 1000]));
    set("group.min.session.timeout.ms", 100);
    set("group.consumer.min.heartbeat.interval.ms", 10);
    set("group.consumer.heartbeat.interval.ms", u64::from(settings::BROKER_INTERVAL_MS.unsigned_abs()));
    set("group.consumer.min.session.timeout.ms", 100);
    set("group.consumer.session.timeout.ms", consumer_session_ms);
    let groups = Rc::new(RefCell::new(GroupWorld::new(random.split(), &plan, consumer_session_ms)));
    let mut simulation = Simulation::new(seed);
    let mut shards = u16::try_from(random.range(1..4)).unwrap();
    for life in 0..random.range(2..6) {
        if life > 0 && shards < 3 && random.chance(1, 4) {
            shards += 1;
        }
        let mut course = draw_course(&mut random, theme, shards);
        course.duration = course.duration.min(Duration::from_secs(2));
        {
            let mut groups = groups.borrow_mut();
            (groups.stopping, groups.settling) = (false, false);
            groups.faulty = course.fault.is_some();
            groups.pause_us_max = *random.pick(&[5_000, 20_000, 100_000]);
        }
        let slow_us = *random.pick(&[0, 0, 0, 5_000, 200_000]);
        simulation.disk().change(|options| options.flush_delay_us = slow_us);
        if let Some(crash) = course.crash {
            arm_crash(&mut simulation, &mut random, crash);
        }
        let (shared, plan_now) = (Rc::clone(&groups), plan.clone());
        let ended = simulation.run(|runtime| live(runtime, plan_now, shared, course));
        simulation.disk().clear_traps();
        simulation.disk().change(|options| options.flush_delay_us = 0);
        groups.borrow_mut().on_end();
        if course.fault.is_some() || ended == Ended::Crashed(Crash::Power) || random.chance(1, 4) {
            simulation.cut_power();
        }
        simulation.move_wall_clock(i64::try_from(random.below(600_000)).unwrap() - 300_000);
    }
    groups.borrow_mut().faulty = false;
    (groups.borrow_mut().stopping, groups.borrow_mut().settling) = (false, false);
    let course = Course { shards, duration: Duration::from_millis(100), crash: None, fault: None, bytes_left: None };
    let shared = Rc::clone(&groups);
    let ended = simulation.run(|runtime| live(runtime, plan, shared, course));
    assert_eq!(ended, Ended::Finished(Outcome::Stopped));
    if std::env::var_os("CORELANE_TRACE").is_some() {
        let groups = groups.borrow();
        let classic: Vec<i32> = groups.classic.values().map(|group| group.told).collect();
        let consumer: Vec<i32> = groups.consumer.values().map(|group| group.told).collect();
        eprintln!("{} moments, generations {classic:?}, epochs {consumer:?}", groups.now);
    }
    simulation.trace()
}

/// One life: starts, is held against the model, works, and ends as the course says.
async fn live(runtime: SimulatedRuntime, plan: Plan, groups: Groups, course: Course) -> Outcome {
    let arm = || course.fault.iter().for_each(|it| runtime.disk().fail(it.operation, it.path, it.skip));
    let at_start = course.fault.is_some_and(|fault| fault.at_start);
    if at_start {
        arm();
    }
    let process = match Process::start(&runtime, &plan, course.shards).await {
        Ok(process) => process,
        Err(error) => {
            assert!(course.fault.is_some(), "the process does not start: {error}");
            return Outcome::Failed;
        }
    };
    let (clock, ticking) = (runtime.clone(), Rc::clone(&groups));
    runtime.spawn(async move {
        loop {
            ticking.borrow_mut().clock = clock.now();
            clock.sleep(Duration::from_millis(TICK_MS)).await;
        }
    });
    if !find_topics(&process, &groups).await || !audit(&process, &groups).await {
        assert!(course.fault.is_some(), "the offsets could not be read");
        return Outcome::Failed;
    }
    if !at_start {
        arm();
    }
    start_clients(&process, &groups);
    runtime.sleep(course.duration).await;
    if let Some(crash) = course.crash {
        runtime.crash(crash);
        std::future::pending::<()>().await;
    }
    if course.fault.is_none() {
        settle(&runtime, &groups).await;
    }
    groups.borrow_mut().stopping = true;
    if groups.borrow_mut().random.chance(1, 2) {
        // A shutdown begins while requests wait.
        process.nodes.iter().for_each(|node| node.shard.stop_coordination());
    }
    let leaving = Rc::clone(&groups);
    within(&runtime, LEFT_WITHIN, "the work of the groups' clients", move || leaving.borrow().busy == 0).await;
    match process.stop().await {
        Ok(()) => Outcome::Stopped,
        Err(error) => {
            assert!(course.fault.is_some(), "the process does not stop in good order: {error}");
            Outcome::Failed
        }
    }
}

/// Everybody behaves until every group has settled.
async fn settle(runtime: &SimulatedRuntime, groups: &Groups) {
    groups.borrow_mut().settling = true;
    let deadline = runtime.now().plus_us(u64::try_from(SETTLED_WITHIN.as_micros()).unwrap());
    while !groups.borrow().is_settled() {
        let world = groups.borrow();
        assert!(runtime.now() < deadline, "not settled: {:?} {:?} {:?}", world.members, world.consumers, world.topics);
        drop(world);
        runtime.sleep(Duration::from_millis(1)).await;
    }
}

/// Learns which topics there are. What is gone when coordinators load has no offsets. False: the disk fails.
async fn find_topics(process: &Process, groups: &Groups) -> bool {
    let connection = process.connect(0);
    for (number, of) in TOPICS.iter().enumerate() {
        let Ok(rows) = metadata(&connection, Some(&[of.name]), false, 12).await else { return false };
        let mut groups = groups.borrow_mut();
        let found = match rows[0].error {
            0 => Topic::Alive(rows[0].id),
            UNKNOWN_TOPIC => Topic::Absent,
            other => panic!("{}: {other}", of.name),
        };
        let before = groups.topics[number];
        assert!(before == found || before == Topic::Unknown, "{} was {before:?} and is {found:?}", of.name);
        groups.topics[number] = found;
        if found == Topic::Absent {
            for (group, place, write) in begin_deletion(&mut groups, number) {
                groups.end(group, place, write, 0);
            }
        }
    }
    true
}

/// Reads the offsets of every group. False: the disk fails.
async fn audit(process: &Process, groups: &Groups) -> bool {
    for group in CLASSIC.into_iter().chain(CONSUMER).chain(SIMPLE) {
        let deadline = process.runtime.now().plus_ms(60_000);
        loop {
            assert!(process.runtime.now() < deadline || groups.borrow().faulty, "{group}: no coordinator");
            if process.runtime.now() >= deadline || process.is_read_only() {
                return false;
            }
            if let Some(connection) = connect(process, groups, group).await
                && let Some(error) = fetch(process, groups, &connection, group, None).await
            {
                if error == 0 {
                    break;
                }
                assert!(is_absent(error), "{group}: OffsetFetch failed with {error}");
            }
            process.runtime.sleep(Duration::from_millis(5)).await;
        }
    }
    true
}

fn start_clients(process: &Rc<Process>, groups: &Groups) {
    let (members, consumers, committers) = {
        let groups = groups.borrow();
        (groups.members.len(), groups.consumers.len(), groups.committers)
    };
    for index in 0..members {
        start_client(process, groups, member::run(Rc::clone(process), Rc::clone(groups), index));
    }
    for index in 0..consumers {
        start_client(process, groups, consumer::run(Rc::clone(process), Rc::clone(groups), index));
    }
    for _ in 0..committers {
        start_client(process, groups, committer::run(Rc::clone(process), Rc::clone(groups), SIMPLE));
    }
    start_client(process, groups, administrate(Rc::clone(process), Rc::clone(groups)));
}

fn start_client(process: &Rc<Process>, groups: &Groups, client: impl Future<Output = ()> + 'static) {
    groups.borrow_mut().busy += 1;
    let groups = Rc::clone(groups);
    process.runtime.spawn(async move {
        client.await;
        groups.borrow_mut().busy -= 1;
    });
}

/// Makes the topics, and then deletes and creates the one that comes and goes, and changes settings of groups, until
/// everybody is to behave.
async fn administrate(process: Rc<Process>, groups: Groups) {
    for number in 0..TOPICS.len() {
        if groups.borrow().topics[number] == Topic::Absent && create(&process, &groups, number).await.is_none() {
            return;
        }
    }
    while !groups.borrow().settling && !groups.borrow().stopping {
        let us = groups.borrow_mut().random.below(300_000);
        process.runtime.sleep(Duration::from_micros(us)).await;
        if groups.borrow_mut().random.chance(1, 3) {
            let group = *groups.borrow_mut().random.pick(&CONSUMER);
            if settings::change(&process, &groups, group).await.is_none() {
                return;
            }
            continue;
        }
        let changed = match groups.borrow().topics[CHURNED] {
            Topic::Absent => true,
            Topic::Alive(_) => false,
            Topic::Unknown => return,
        };
        let changed = match changed {
            true => create(&process, &groups, CHURNED).await,
            false => delete(&process, &groups, CHURNED).await,
        };
        if changed.is_none() {
            return;
        }
    }
}

/// `None`: the disk fails.
async fn create(process: &Process, groups: &Groups, number: usize) -> Option<()> {
    let of = &TOPICS[number];
    let topic = CreatableTopic {
        name: Cow::Borrowed(of.name),
        num_partitions: of.partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, validate_only: false };
    groups.borrow_mut().topics[number] = Topic::Unknown;
    let connection = process.connect(0);
    let answer = connection.ask(&request, 7).await.ok()?;
    let response = CreateTopicsResponse::decode(&mut answer.reader(), 7).unwrap();
    if response.topics[0].error_code == STORAGE_ERROR && groups.borrow().faulty {
        return None;
    }
    assert_eq!(response.topics[0].error_code, 0, "{}: {:?}", of.name, response.topics[0].error_message);
    groups.borrow_mut().topics[number] = Topic::Alive(response.topics[0].topic_id);
    Some(())
}

/// `None`: the disk fails.
async fn delete(process: &Process, groups: &Groups, number: usize) -> Option<()> {
    let of = &TOPICS[number];
    let state = DeleteTopicState { name: Some(Cow::Borrowed(of.name)), topic_id: TopicId::ZERO };
    let request = DeleteTopicsRequest { topics: vec![state], topic_names: Vec::new(), timeout_ms: 60_000 };
    let writes = {
        let mut groups = groups.borrow_mut();
        groups.topics[number] = Topic::Unknown;
        begin_deletion(&mut groups, number)
    };
    let connection = process.connect(0);
    let answer = connection.ask(&request, 6).await.ok()?;
    let response = DeleteTopicsResponse::decode(&mut answer.reader(), 6).unwrap();
    if response.responses[0].error_code == STORAGE_ERROR && groups.borrow().faulty {
        return None;
    }
    assert_eq!(response.responses[0].error_code, 0, "{} was not deleted", of.name);
    groups.borrow_mut().topics[number] = Topic::Absent;
    let waits = groups.borrow_mut().random.chance(1, 2);
    if waits {
        process.runtime.sleep(KNOWN_WITHIN).await;
        if !groups.borrow().faulty {
            let mut groups = groups.borrow_mut();
            writes.into_iter().for_each(|(group, place, write)| groups.end(group, place, write, 0));
        }
    }
    Some(())
}

/// All offsets of a topic are about to go.
fn begin_deletion(groups: &mut GroupWorld, topic: usize) -> Vec<(&'static str, Place, u64)> {
    let mut writes = Vec::new();
    for group in CLASSIC.into_iter().chain(CONSUMER).chain(SIMPLE) {
        for partition in 0..TOPICS[topic].partitions {
            let place = (topic, partition);
            writes.push((group, place, groups.begin(group, place, false)));
        }
    }
    writes
}

#[test]
fn what_members_of_groups_were_told_holds_over_crashes() {
    Seeds::from_environment(20).each(|seed| {
        run(seed, Theme::Crashes);
    });
}

#[test]
fn what_members_of_groups_were_told_holds_over_failing_disks() {
    Seeds::from_environment(20).each(|seed| {
        run(seed, Theme::Faults);
    });
}

#[test]
fn one_seed_of_groups_gives_one_trace() {
    Seeds::from_environment(2).each(|seed| assert_eq!(run(seed, Theme::Faults), run(seed, Theme::Faults)));
}
