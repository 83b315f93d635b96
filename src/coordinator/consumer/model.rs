//! Random groups: members that follow the protocol over a network that loses and a broker that restarts.
//!
//! A model member owns what it was given until it heartbeats without it. Some say everything again when an answer is lost, as
//! KIP-848 has it, some do not. Checked after every event: nothing is owned twice,
//! epochs do not go back, and the log replays to the same group. In the end everybody behaves, and the group must settle
//! with every partition owned.

use std::collections::{BTreeMap, BTreeSet};

use super::ConsumerGroupState;
use super::testing::{Bench, durable};
use crate::protocol::arbitrary::Source;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest as Request, ConsumerGroupHeartbeatResponse as Response, TopicPartitions,
};
use crate::types::{ConnectionId, ShardId, TopicId};

const GROUP: &str = "g";
const TOPICS: [&str; 4] = ["alpha", "beta", "gamma", "alpine"];
const PATTERNS: [&str; 3] = ["al.*", ".*a", "beta|gamma"];
const SESSION_MS: u64 = 45_000;

#[derive(Debug)]
struct Client {
    id: String,
    instance: Option<String>,
    epoch: i32,
    owned: BTreeSet<(TopicId, i32)>,
    /// What it was last told to own; differs from `owned` until it has given up the rest.
    wanted: BTreeSet<(TopicId, i32)>,
    names: Vec<&'static str>,
    pattern: Option<&'static str>,
    assignor: Option<&'static str>,
    /// It must say everything again.
    full: bool,
    /// It does not when an answer is lost, and says what it owns only when that has changed, as librdkafka.
    is_terse: bool,
    /// What it said last, and that was answered.
    said: Option<BTreeSet<(TopicId, i32)>>,
    /// Its connection, which ends when something is lost.
    connection: u64,
    /// When it last heard from the broker; after a session without it owns nothing.
    heard_ms: u64,
    /// Static and away.
    away: bool,
}

struct World<'a> {
    source: &'a mut Source,
    bench: Bench,
    clients: Vec<Client>,
    born: usize,
    connections: u64,
    epochs: BTreeMap<String, i32>,
    group_epoch: i32,
    story: String,
}

impl World<'_> {
    fn birth(&mut self) {
        let id = format!("m{}", self.born);
        self.born += 1;
        let instance = (self.source.below(4) == 0).then(|| format!("i{}", self.born));
        let mut client = Client {
            id,
            instance,
            epoch: 0,
            owned: BTreeSet::new(),
            wanted: BTreeSet::new(),
            names: Vec::new(),
            pattern: None,
            assignor: [None, None, Some("range"), Some("uniform")][self.source.below(4)],
            full: true,
            is_terse: self.source.below(2) == 0,
            said: None,
            connection: 0,
            heard_ms: self.bench.now_ms,
            away: false,
        };
        self.subscribe(&mut client);
        self.clients.push(client);
    }

    fn subscribe(&mut self, client: &mut Client) {
        client.names = TOPICS.into_iter().filter(|_| self.source.below(2) == 0).collect();
        client.pattern = (self.source.below(3) == 0).then(|| PATTERNS[self.source.below(3)]);
        client.full = true;
    }

    /// One heartbeat of one member, which may be lost on either way.
    fn beat(&mut self, index: usize, lossy: bool) {
        let client = &mut self.clients[index];
        if client.away {
            return;
        }
        if self.bench.now_ms - client.heard_ms >= SESSION_MS {
            // Nobody has heard of it for so long that it must think itself fenced.
            client.lose_all();
        }
        // It gives up what it must, sometimes at once.
        if self.source.below(3) > 0 {
            client.owned = client.owned.intersection(&client.wanted).copied().collect();
        }
        if client.connection == 0 {
            self.connections += 1;
            client.connection = self.connections;
        }
        self.bench.connection = ConnectionId::of(ShardId::new(0), client.connection);
        let request = client.request();
        let lost = lossy && self.source.below(8) == 0;
        let answer_lost = lossy && self.source.below(8) == 0;
        if lost {
            client.on_loss();
            return;
        }
        let said = request.topic_partitions.is_some().then(|| client.owned.clone());
        let response = self.bench.send(&request);
        let client = &mut self.clients[index];
        if answer_lost {
            client.on_loss();
        } else {
            client.said = said.or(client.said.take());
            client.on_response(&response, self.bench.now_ms, &self.story);
        }
        self.check();
    }

    fn check(&mut self) {
        let story = &self.story;
        let mut owned = BTreeSet::new();
        let now = self.bench.now_ms;
        for client in self.clients.iter_mut().filter(|client| now - client.heard_ms >= SESSION_MS) {
            client.lose_all();
        }
        for client in &self.clients {
            for partition in &client.owned {
                assert!(owned.insert(*partition), "{story}: {partition:?} is owned twice: {:?}", self.clients);
            }
        }
        let Some(super::Group::Consumer(group)) = self.bench.coordinator.groups.get(GROUP) else { return };
        assert!(group.epoch >= self.group_epoch, "{story}: the group's epoch went back");
        assert!(group.assignment_epoch <= group.epoch, "{story}");
        self.group_epoch = group.epoch;
        for (id, member) in &group.members {
            let epoch = member.standing.epoch;
            let before = self.epochs.insert(id.to_string(), epoch).unwrap_or(0);
            // A static member that left for a while starts again at 0, as does who was fenced.
            assert!(epoch >= before || epoch <= 0 || before < 0, "{story}: {id} went from {before} to {epoch}");
            assert!(epoch <= group.epoch, "{story}");
        }
        self.epochs.retain(|id, _| group.members.contains_key(id.as_str()));
        let standings = group.members.values().map(|member| &member.standing);
        let held: usize = standings.map(|standing| standing.assigned.len() + standing.pending_revocation.len()).sum();
        assert_eq!(held, group.held.len(), "{story}: two members hold a partition");
    }

    fn check_replay(&mut self) {
        let before = durable(self.bench.group(GROUP));
        self.bench.restart();
        assert_eq!(durable(self.bench.group(GROUP)), before, "{}: another group after a replay", self.story);
        let all = self.bench.log.len();
        for (clean, drops_tombstones) in [(all, true), (all, false), (self.source.below(all + 1), true)] {
            self.bench.restart_compacted(clean, drops_tombstones);
            let story = format!("{}: clean to {clean} of {all}, tombstones gone: {drops_tombstones}", self.story);
            assert_eq!(durable(self.bench.group(GROUP)), before, "{story}: another group after compaction");
        }
        self.bench.restart();
    }
}

impl Client {
    fn lose_all(&mut self) {
        self.owned.clear();
        self.wanted.clear();
        self.epoch = 0;
        self.full = true;
        self.said = None;
    }

    /// No answer came, and a new connection is made.
    fn on_loss(&mut self) {
        self.full |= !self.is_terse;
        self.connection = 0;
    }

    fn request(&self) -> Request<'static> {
        let full = self.full || self.epoch == 0;
        let mut owned: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        self.owned.iter().for_each(|&(topic, partition)| owned.entry(topic).or_default().push(partition));
        let owned = owned.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect();
        // Most clients say what they own when it has changed; saying it always is as good.
        let says = full || !self.is_terse || self.said.as_ref() != Some(&self.owned);
        Request {
            group_id: GROUP.into(),
            member_id: self.id.clone().into(),
            member_epoch: self.epoch,
            instance_id: self.instance.clone().map(Into::into),
            rebalance_timeout_ms: if full { 300_000 } else { -1 },
            subscribed_topic_names: full.then(|| self.names.iter().map(|&name| name.into()).collect()),
            subscribed_topic_regex: full.then(|| self.pattern.unwrap_or_default().into()),
            server_assignor: self.assignor.filter(|_| full).map(Into::into),
            topic_partitions: says.then_some(owned),
            ..Default::default()
        }
    }

    fn on_response(&mut self, response: &Response<'_>, now_ms: u64, story: &str) {
        match ErrorCode::from_code(response.error_code).unwrap() {
            ErrorCode::None => {}
            ErrorCode::UnknownMemberId
            | ErrorCode::FencedMemberEpoch
            | ErrorCode::GroupIdNotFound
            | ErrorCode::FencedInstanceId
            | ErrorCode::UnreleasedInstanceId => return self.lose_all(),
            other => panic!("{story}: {other:?} {:?}", response.error_message),
        }
        assert!(response.member_epoch >= self.epoch, "{story}: {} was sent back", self.id);
        self.heard_ms = now_ms;
        self.epoch = response.member_epoch;
        self.full = false;
        if let Some(assignment) = &response.assignment {
            let topics = assignment.topic_partitions.iter();
            self.wanted = topics
                .flat_map(|topic| topic.partitions.iter().map(|&partition| (topic.topic_id, partition)))
                .collect();
            // New ones are its own at once; old ones until it has given them up.
            self.owned.extend(&self.wanted);
        }
    }
}

fn run(seed: u64) {
    let mut source = Source::new(seed);
    let mut world = World {
        source: &mut source,
        bench: Bench::new(),
        clients: Vec::new(),
        born: 0,
        connections: 0,
        epochs: BTreeMap::new(),
        group_epoch: 0,
        story: format!("seed {seed}"),
    };
    world.bench.change_metadata(|cluster| {
        cluster.create("alpha", 5);
        cluster.create("beta", 3);
    });
    world.birth();
    for event in 0..300 {
        world.story = format!("seed {seed}, event {event}");
        let any = world.source.below(world.clients.len().max(1));
        match world.source.below(40) {
            0 if world.clients.len() < 8 => world.birth(),
            // Crash.
            1 if world.clients.len() > 1 => drop(world.clients.swap_remove(any)),
            // Leave.
            2 if world.clients.len() > 1 => {
                let client = world.clients.swap_remove(any);
                let request = Request { member_epoch: -1, topic_partitions: None, ..client.request() };
                world.bench.send(&request);
            }
            // A static member leaves for a while, and comes back under another id.
            3 => {
                if let Some(client) = world.clients.get_mut(any).filter(|client| client.instance.is_some()) {
                    if !client.away {
                        let request = Request { member_epoch: -2, ..client.request() };
                        client.lose_all();
                        world.bench.send(&request);
                    } else {
                        client.id = format!("m{}", world.born);
                        world.born += 1;
                    }
                    client.away = !client.away;
                }
            }
            4 if !world.clients.is_empty() => {
                let mut client = world.clients.swap_remove(any);
                world.subscribe(&mut client);
                world.clients.push(client);
            }
            5 => change_topics(&mut world),
            6 => world.check_replay_if_any(),
            7 => {
                let ms = [100, 2_000, 11_000, 50_000][world.source.below(4)];
                world.bench.pass(ms);
            }
            _ if !world.clients.is_empty() => {
                world.bench.pass(50);
                world.beat(any, true);
            }
            _ => {}
        }
        world.check();
    }
    settle(&mut world, seed);
}

impl World<'_> {
    fn check_replay_if_any(&mut self) {
        if self.bench.coordinator.groups.contains_key(GROUP) {
            self.check_replay();
        }
    }
}

fn change_topics(world: &mut World<'_>) {
    let name = TOPICS[world.source.below(4)];
    let delete = world.source.below(3) == 0;
    let partitions = i32::try_from(1 + world.source.below(5)).unwrap();
    world.bench.change_metadata(|cluster| match cluster.image().topic(name).map(|topic| topic.partition_count()) {
        None => _ = cluster.create(name, partitions),
        Some(_) if delete => cluster.delete(name),
        Some(count) => cluster.grow(name, i32::try_from(count).unwrap() + partitions),
    });
}

/// Everybody behaves: soon the group is stable and every partition that somebody subscribes to has an owner.
fn settle(world: &mut World<'_>, seed: u64) {
    world.story = format!("seed {seed}, settling");
    if world.clients.iter().all(|client| client.away) {
        world.birth();
    }
    for _ in 0..60 {
        world.bench.pass(5_000);
        for index in 0..world.clients.len() {
            world.beat(index, false);
        }
    }
    let story = &world.story;
    let group = world.bench.group(GROUP);
    assert_eq!(group.state(), ConsumerGroupState::Stable, "{story}: {group:#?}");
    let owned: BTreeSet<(TopicId, i32)> =
        world.clients.iter().flat_map(|client| client.owned.iter().copied()).collect();
    let image = world.bench.cluster.image();
    let mut wanted = BTreeSet::new();
    for topic in image.topics() {
        let reads = |client: &&Client| {
            let matches = |pattern: &str| super::pattern::compile(pattern).unwrap().is_match(topic.name());
            client.names.contains(&&**topic.name()) || client.pattern.is_some_and(matches)
        };
        if world.clients.iter().filter(|client| !client.away).any(|client| reads(&client)) {
            wanted.extend(topic.partitions().map(|(index, _)| (topic.id(), index.value())));
        }
    }
    assert_eq!(owned, wanted, "{story}");
    for client in world.clients.iter().filter(|client| !client.away) {
        assert_eq!(client.owned, client.wanted, "{story}");
        assert_eq!(client.epoch, group.members[client.id.as_str()].standing.epoch, "{story}");
    }
    world.check_replay();
}

#[test]
fn random_groups_give_nothing_twice_and_settle() {
    for seed in 0..300 {
        run(seed);
    }
}
