//! Many members that do as they please, against what must hold whatever they do.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::simulation::seeds::Seeds;

/// Small and fair enough.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A client: what it believes.
#[derive(Clone, Debug, Default)]
struct Client {
    instance_id: Option<String>,
    version: i16,
    member_id: String,
    generation: i32,
    /// Members that it was told of as leader.
    leads: Option<Vec<String>>,
    waits: Option<(Ticket, bool)>,
    is_assigned: bool,
    /// Acts no more, until it comes back.
    is_gone: bool,
}

struct Play {
    world: World,
    dice: Dice,
    clients: Vec<Client>,
    open: BTreeSet<Ticket>,
    abandoned: BTreeSet<Ticket>,
    /// Who led each generation, and what it gave to whom.
    leaders: BTreeMap<i32, String>,
    owners: BTreeMap<(i32, String), String>,
}

impl Play {
    fn new(seed: u64) -> Play {
        let mut dice = Dice(seed);
        dice.roll(1);
        let delay_ms = if dice.roll(2) == 0 { 0 } else { 500 };
        let group_size_max = if dice.roll(3) == 0 { 5 } else { i32::MAX };
        let config = GroupConfig { initial_rebalance_delay_ms: delay_ms, group_size_max, ..GroupConfig::default() };
        let clients = (0..8)
            .map(|index| Client {
                instance_id: (index % 3 == 0).then(|| format!("i{}", index / 2)),
                version: if index % 2 == 0 { 9 } else { 3 },
                ..Client::default()
            })
            .map(|client| Client { version: if client.instance_id.is_some() { 9 } else { client.version }, ..client })
            .collect();
        Play {
            world: World::with(config),
            dice,
            clients,
            open: BTreeSet::new(),
            abandoned: BTreeSet::new(),
            leaders: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }

    fn join(&mut self, index: usize) {
        let client = &self.clients[index];
        let metadata = if self.dice.roll(4) == 0 { vec![0; 3] } else { subscription::encode(&["t"]) };
        let protocols = match self.dice.roll(8) {
            // Second choice only: a restart knows no protocol but the chosen one, and would refuse who cannot follow it.
            0 => vec![("range", metadata.clone()), ("sticky", metadata)],
            _ => vec![("range", metadata)],
        };
        let joiner = Joiner {
            version: client.version,
            instance_id: client.instance_id.clone(),
            rebalance_timeout_ms: 8_000,
            session_timeout_ms: 6_000,
            protocols,
            ..Joiner::member(&client.member_id)
        };
        let ticket = self.world.send_join(&joiner);
        self.asked(index, ticket, true);
    }

    fn asked(&mut self, index: usize, ticket: Ticket, is_join: bool) {
        self.open.insert(ticket);
        if let Some((before, _)) = self.clients[index].waits.replace((ticket, is_join)) {
            self.abandoned.insert(before);
        }
    }

    fn sync(&mut self, index: usize) {
        let client = self.clients[index].clone();
        let assignments: Vec<(String, String)> =
            client.leads.iter().flatten().map(|id| (id.clone(), id.clone())).collect();
        let request = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: client.generation,
            member_id: client.member_id.as_str().into(),
            group_instance_id: client.instance_id.as_deref().map(Into::into),
            protocol_type: None,
            protocol_name: None,
            assignments: assignments
                .iter()
                .map(|(member_id, part)| SyncGroupRequestAssignment {
                    member_id: member_id.as_str().into(),
                    assignment: part.as_bytes().into(),
                })
                .collect(),
        };
        let ticket = self.world.send_sync_as(4, &request);
        self.asked(index, ticket, false);
    }

    /// What a client of Kafka does with an answer.
    fn hear(&mut self) {
        let answers = std::mem::take(&mut self.world.answers);
        for (ticket, answer) in answers {
            assert!(self.open.remove(&ticket), "{ticket:?} was answered before");
            if self.abandoned.remove(&ticket) {
                continue;
            }
            let Some(client) =
                self.clients.iter_mut().find(|client| client.waits.is_some_and(|(own, _)| own == ticket))
            else {
                continue;
            };
            client.waits = None;
            match answer {
                Answer::Join(response) => match ErrorCode::from_code(response.error_code).unwrap() {
                    ErrorCode::None => {
                        client.member_id = response.member_id.to_string();
                        client.generation = response.generation_id;
                        client.is_assigned = false;
                        client.leads = None;
                        if response.leader == response.member_id && !response.skip_assignment {
                            let ids = response.members.iter().map(|member| member.member_id.to_string());
                            client.leads = Some(ids.collect());
                        }
                        if client.instance_id.is_none() {
                            // Ids of static leaders change within a generation.
                            let leader = response.leader.to_string();
                            let known = self.leaders.entry(response.generation_id).or_insert_with(|| leader.clone());
                            assert!(
                                *known == leader || leader.starts_with('i'),
                                "generation {} is led by {known} and {leader}",
                                response.generation_id
                            );
                        }
                    }
                    ErrorCode::MemberIdRequired => client.member_id = response.member_id.to_string(),
                    ErrorCode::RebalanceInProgress => {}
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId | ErrorCode::GroupMaxSizeReached => {
                        client.member_id.clear();
                        client.generation = -1;
                    }
                    other => panic!("join: {other:?}"),
                },
                Answer::Sync(response) => match ErrorCode::from_code(response.error_code).unwrap() {
                    ErrorCode::None => {
                        client.is_assigned = true;
                        let part = String::from_utf8(response.assignment.to_vec()).unwrap();
                        if !part.is_empty() {
                            // Whoever was given a part of a generation, nobody else is; a static member may have a new id.
                            let owner = client.instance_id.clone().unwrap_or_else(|| client.member_id.clone());
                            let known = self.owners.entry((client.generation, part)).or_insert_with(|| owner.clone());
                            assert_eq!(*known, owner);
                        }
                    }
                    ErrorCode::RebalanceInProgress => client.generation = -1,
                    ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId | ErrorCode::IllegalGeneration => {
                        client.member_id.clear();
                        client.generation = -1;
                    }
                    other => panic!("sync: {other:?}"),
                },
            }
        }
    }

    /// What the client would do next if it did as it should.
    fn behave(&mut self, index: usize) {
        let client = self.clients[index].clone();
        if client.waits.is_some() {
            return;
        }
        if client.member_id.is_empty() || client.generation < 1 {
            self.join(index);
        } else if !client.is_assigned {
            self.sync(index);
        } else {
            match self.world.heartbeat_as(&client.member_id, client.instance_id.as_deref(), client.generation) {
                ErrorCode::None => {}
                ErrorCode::RebalanceInProgress => self.join(index),
                ErrorCode::IllegalGeneration => self.clients[index].generation = -1,
                ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                    self.clients[index].member_id.clear();
                    self.clients[index].generation = -1;
                }
                other => panic!("heartbeat: {other:?}"),
            }
        }
    }

    fn act(&mut self) {
        let index = usize::try_from(self.dice.roll(8)).unwrap();
        if self.clients[index].is_gone && self.dice.roll(4) > 0 {
            return;
        }
        self.clients[index].is_gone = false;
        match self.dice.roll(24) {
            0 => {
                // It crashes, and forgets.
                let client = &mut self.clients[index];
                if let Some((ticket, _)) = client.waits.take() {
                    self.abandoned.insert(ticket);
                }
                client.member_id.clear();
                client.generation = -1;
                client.is_gone = self.dice.roll(2) == 0;
            }
            1 => self.clients[index].is_gone = true,
            2 => {
                let client = self.clients[index].clone();
                if !client.member_id.is_empty() {
                    self.world.leave(3, &[(&client.member_id, client.instance_id.as_deref())]);
                    self.clients[index].member_id.clear();
                    self.clients[index].generation = -1;
                }
            }
            3 => self.join(index),
            4 if !self.clients[index].member_id.is_empty() => self.sync(index),
            5 => {
                self.clients[index].generation += 1;
            }
            _ => self.behave(index),
        }
        self.hear();
    }

    /// The broker starts again: what waited has no connection any more, and a generation that was not recorded has not been.
    fn restart(&mut self) {
        if self.world.records.is_empty() {
            return;
        }
        self.world = self.world.restarted();
        self.open.clear();
        self.abandoned.clear();
        self.clients.iter_mut().for_each(|client| client.waits = None);
        let generation = self.world.record().map_or(0, |record| record.generation);
        self.leaders.retain(|known, _| *known <= generation);
        self.owners.retain(|(known, _), _| *known <= generation);
    }

    /// Replaying gives the same group, as far as the log can know: while it is stable or empty.
    fn check_replay(&self) {
        let state = self.world.state();
        if self.world.records.is_empty() || !matches!(&*state, "Stable" | "Empty") {
            return;
        }
        let again = self.world.restarted();
        if again.state() == "PreparingRebalance" {
            return;
        }
        assert_eq!(again.describe(6, "g"), self.world.describe(6, "g"));
        let commit_base = |world: &World| match world.coordinator.groups.get("g") {
            Some(Group::Classic(group)) => (group.generation, group.is_subscribed_to("t"), group.is_subscribed_to("u")),
            _ => panic!(),
        };
        assert_eq!(commit_base(&again), commit_base(&self.world));
    }

    /// From here on everybody does as it should: the group settles.
    fn settle(&mut self) {
        let crowd = usize::try_from(self.world.config.group_size_max).unwrap().min(self.clients.len());
        self.clients.truncate(crowd);
        // One instance id, one client.
        let mut names = BTreeSet::new();
        self.clients.retain(|client| client.instance_id.as_ref().is_none_or(|name| names.insert(name.clone())));
        for _ in 0..200 {
            for index in 0..self.clients.len() {
                self.clients[index].is_gone = false;
                self.behave(index);
                self.hear();
            }
            self.world.advance(500);
            self.hear();
        }
        assert_eq!(self.world.state(), "Stable");
        assert!(self.open.is_empty(), "without an answer: {:?}", self.open);
        let mut ids: Vec<&str> = self.clients.iter().map(|client| client.member_id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!(self.world.member_ids(), ids);
        assert!(self.clients.iter().all(|client| client.is_assigned));
    }
}

#[test]
fn whatever_members_do_the_group_holds_together() {
    Seeds::from_environment(60).each(|seed| {
        let mut play = Play::new(seed);
        for _ in 0..400 {
            match play.dice.roll(150) {
                0 => play.restart(),
                _ => play.act(),
            }
            let wait_ms = [0, 0, 0, 50, 700, 4_000][usize::try_from(play.dice.roll(6)).unwrap()];
            play.world.advance(wait_ms);
            play.hear();
            play.check_replay();
        }
        play.settle();
        play.check_replay();
    });
}
