//! `group-join`: how long a large group takes to settle.
//!
//! Classic: every member joins at once, on a connection of its own; settled when the last of them has its assignment. Kafka
//! gathers the first members of a group for `group.initial.rebalance.delay.ms`, and that long again when more came
//! meanwhile, so two delays pass by rule; what is beyond them is the broker's time.
//!
//! KIP-848: no delay. Every member sends heartbeats one after the other without the interval that clients keep between
//! them, and reports what it owns at once; settled when all are in the newest epoch, and all partitions owned by one. So
//! it is the time of the broker's work, where a real group takes intervals.

use std::collections::BTreeSet;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};

use super::{KafkaArguments, Target, check, member};
use crate::client::{Client, answer_body, debug};
use crate::report::median;
use crate::server::{BrokerArguments, raise_locked_memory};

const HEARTBEAT_VERSION: i16 = 1;
const TOPIC: &str = "joined";
/// Heartbeats that are sent before their answers are read.
const WINDOW: usize = 50;
/// Rounds of heartbeats after which the group should long have settled.
const BEATS_MAX: u32 = 100;

/// Options of `group-join`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    /// Members of the group
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// Partitions of the topic that members of the KIP-848 group read
    #[arg(long, default_value_t = 1000)]
    partitions: i32,
    /// The initial delay, in milliseconds
    #[arg(long, default_value_t = 3000)]
    delay_ms: u32,
    /// Groups, one after the other
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let delay = format!("group.initial.rebalance.delay.ms={}", arguments.delay_ms);
    println!("a group of {} members, initial delay {} ms, 1 shard", arguments.members, arguments.delay_ms);
    measure(arguments, Target::corelane(&arguments.broker, &[&delay])?)?;
    match Target::kafka(&arguments.kafka, &arguments.broker, &[&delay])? {
        Some(kafka) => measure(arguments, kafka),
        None => Ok(()),
    }
}

fn measure(arguments: &Arguments, target: Target) -> Result<(), Box<dyn Error>> {
    let (mut classic, mut consumer) = (Vec::new(), Vec::new());
    let by_rule = 2.0 * f64::from(arguments.delay_ms);
    for round in 1..=arguments.rounds {
        let before = target.cpu()?;
        let group = format!("joined-{round}");
        let formed = member::form(target.address(), &[group], arguments.members)?;
        let beyond = ms(formed.settled) - by_rule;
        println!(
            "{:<9} classic, round {round}: joined after {:.0} ms, settled after {:.0} ms: {beyond:.0} ms beyond 2 delays, \
             {:.0} ms CPU",
            target.name,
            ms(formed.joined),
            ms(formed.settled),
            ms(target.cpu()? - before)
        );
        classic.push(beyond);
    }
    Client::connect(target.address())?.create_topic(TOPIC, arguments.partitions, &[])?;
    for round in 1..=arguments.rounds {
        let (before, began) = (target.cpu()?, Instant::now());
        let beats = settle(arguments, target.address(), &format!("consumer-{round}"))?;
        let settled = ms(began.elapsed());
        println!(
            "{:<9} KIP-848, round {round}: settled after {settled:.0} ms and {beats} heartbeats of each member, {:.0} ms CPU",
            target.name,
            ms(target.cpu()? - before)
        );
        consumer.push(settled);
    }
    println!(
        "{:<9} medians: classic {:.0} ms beyond the delays, KIP-848 {:.0} ms",
        target.name,
        median(classic),
        median(consumer)
    );
    target.server.stop()
}

/// What a member of a KIP-848 group knows.
#[derive(Default)]
struct Consumer {
    id: String,
    epoch: i32,
    owned: Vec<TopicPartitions>,
}

/// Has a group of new members settle. Returns how many heartbeats each of them sent.
fn settle(arguments: &Arguments, address: SocketAddr, group: &str) -> Result<u32, Box<dyn Error>> {
    let mut client = Client::connect(address)?;
    // A member chooses its id, 16 bytes in text.
    let id = |member: usize| format!("{group}-member-{member:04}");
    let mut members: Vec<Consumer> =
        (0..arguments.members).map(|member| Consumer { id: id(member), ..Consumer::default() }).collect();
    for beats in 1..=BEATS_MAX {
        let mut is_changed = false;
        for members in members.chunks_mut(WINDOW) {
            for member in &*members {
                client.send(HEARTBEAT_VERSION, &heartbeat(group, member))?;
            }
            for member in members {
                is_changed |= hear(member, &client.receive()?)?;
            }
        }
        if !is_changed && is_settled(&members, arguments.partitions) {
            return Ok(beats);
        }
    }
    Err(format!("the group has not settled after {BEATS_MAX} heartbeats of each member").into())
}

fn heartbeat<'a>(group: &'a str, member: &'a Consumer) -> ConsumerGroupHeartbeatRequest<'a> {
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: (&*member.id).into(),
        member_epoch: member.epoch,
        rebalance_timeout_ms: 300_000,
        subscribed_topic_names: Some(vec![TOPIC.into()]),
        topic_partitions: Some(member.owned.clone()),
        ..ConsumerGroupHeartbeatRequest::default()
    }
}

/// Takes in an answer. Returns whether it changed something.
fn hear(member: &mut Consumer, answer: &[u8]) -> Result<bool, Box<dyn Error>> {
    let body = &mut answer_body(answer, ApiKey::ConsumerGroupHeartbeat, HEARTBEAT_VERSION)?;
    let response = ConsumerGroupHeartbeatResponse::decode(body, HEARTBEAT_VERSION).map_err(debug)?;
    check("ConsumerGroupHeartbeat", response.error_code)?;
    let assigned = response.assignment.map(|assignment| assignment.topic_partitions);
    let is_changed = member.epoch != response.member_epoch || assigned.as_ref().is_some_and(|it| *it != member.owned);
    member.epoch = response.member_epoch;
    if let Some(assigned) = assigned {
        member.owned = assigned;
    }
    Ok(is_changed)
}

/// Whether all are in the same epoch, and every partition has one owner.
fn is_settled(members: &[Consumer], partitions: i32) -> bool {
    let owned = || members.iter().flat_map(|member| &member.owned).flat_map(|topic| &topic.partitions);
    let distinct: BTreeSet<i32> = owned().copied().collect();
    let count = usize::try_from(partitions).unwrap_or(0);
    members.iter().all(|member| member.epoch == members[0].epoch) && owned().count() == count && distinct.len() == count
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
