//! Everything before the first record: topics, backlog, connections, groups.

use std::error::Error;

use super::bounds::BACKLOG_REQUESTS_IN_FLIGHT;
use super::clock::Clock;
use super::consumer::{self, Consumer, Membership, Purpose, group};
use super::plan::Plan;
use super::producer::Producer;
use super::schedule::Interval;
use super::thread::Team;
use super::topology::Topology;
use super::versions::Versions;
use crate::client::Client;
use crate::lab::cluster::Cluster;
use crate::lab::workload::{Acks, Assignment, Rate, Workload};

/// Creates the topics and finds their leaders.
pub(super) fn plan(workload: &Workload, cluster: &Cluster, topic_prefix: &str) -> Result<Plan, Box<dyn Error>> {
    let (versions, topology) = match *cluster {
        Cluster::Kafka { bootstrap } => {
            let mut client = Client::connect(bootstrap).map_err(|error| format!("{bootstrap}: {error}"))?;
            let versions = Versions::ask(&mut client)?;
            let topology = Topology::create(workload, &mut client, &versions, topic_prefix)?;
            (versions, topology)
        }
        Cluster::Floor { address } => (Versions::of_floor(), Topology::of_floor(workload, address, topic_prefix)?),
    };
    let interval = match workload.rate {
        Rate::PerSecond(rate) => Some(Interval::of_rate(rate / f64::from(workload.producers))),
        Rate::Max => None,
    };
    let Topology { topics, slots, leaders } = topology;
    let (workload, clock) = (workload.clone(), Clock::start());
    Ok(Plan { workload, clock, versions, topics, slots, leaders, interval, records_max: None })
}

/// The plan that stores a backlog of so many bytes of keys and values: the same records, at full speed, by one producer,
/// and nobody reads.
pub(super) fn backlog(plan: &Plan, bytes: u64) -> Plan {
    let workload = Workload {
        rate: Rate::Max,
        producers: 1,
        requests_in_flight: BACKLOG_REQUESTS_IN_FLIGHT,
        acks: Acks::Leader,
        idempotence: false,
        consumer_groups: 0,
        catch_up: None,
        ..plan.workload.clone()
    };
    // A backlog that is smaller than a batch for each partition leaves some of them empty.
    let per_million = plan.payload_bytes(1_000_000).max(1);
    let records = u128::from(bytes) * 1_000_000 / u128::from(per_million);
    Plan {
        workload,
        clock: plan.clock,
        versions: plan.versions.clone(),
        topics: plan.topics.clone(),
        slots: plan.slots.clone(),
        leaders: plan.leaders.clone(),
        interval: None,
        records_max: Some(u64::try_from(records).unwrap_or(u64::MAX).max(1)),
    }
}

/// Connects producers and consumers and spreads them over the threads.
pub(super) fn teams(
    plan: &Plan,
    ends: &[i64],
    topic_prefix: &str,
    threads: usize,
) -> Result<Vec<Team>, Box<dyn Error>> {
    let mut teams: Vec<Team> = (0..threads).map(|_| Team::default()).collect();
    for (index, team) in (0..plan.workload.producers).zip((0..threads).cycle()) {
        teams[team].producers.push(Producer::connect(plan, index)?);
    }
    // From the last thread on, which has the fewest producers.
    for (consumer, team) in consumers(plan, ends, topic_prefix)?.into_iter().zip((0..threads).rev().cycle()) {
        teams[team].consumers.push(consumer);
    }
    Ok(teams)
}

fn consumers(plan: &Plan, ends: &[i64], topic_prefix: &str) -> Result<Vec<Consumer>, Box<dyn Error>> {
    let workload = &plan.workload;
    let mut consumers = match workload.assignment {
        _ if workload.consumer_groups == 0 => Vec::new(),
        Assignment::Direct => assigned(plan, ends)?,
        Assignment::Group => joined(plan, ends, topic_prefix)?,
    };
    if let Some(catch_up) = &workload.catch_up {
        let all = consumer::share(plan, 0, 1);
        for _ in 0..catch_up.readers {
            consumers.push(Consumer::connect(plan, Purpose::CatchUp, &all, ends, None)?);
        }
    }
    Ok(consumers)
}

fn assigned(plan: &Plan, ends: &[i64]) -> Result<Vec<Consumer>, Box<dyn Error>> {
    let members = plan.workload.consumers;
    let mut consumers = Vec::new();
    for _ in 0..plan.workload.consumer_groups {
        for index in 0..members {
            let slots = consumer::share(plan, index, members);
            consumers.push(Consumer::connect(plan, Purpose::Live, &slots, ends, None)?);
        }
    }
    Ok(consumers)
}

fn joined(plan: &Plan, ends: &[i64], topic_prefix: &str) -> Result<Vec<Consumer>, Box<dyn Error>> {
    let names: Vec<String> =
        (0..plan.workload.consumer_groups).map(|index| format!("{topic_prefix}group-{index}")).collect();
    let formed = group::form(plan, &names)?;
    let members = plan.workload.consumers * plan.workload.consumer_groups;
    let mut consumers = Vec::new();
    for (member, index) in formed.members.into_iter().zip(0..) {
        let slots = group::slots(plan, &member.assignment)?;
        let membership = Membership::new(plan, member, index, members)?;
        consumers.push(Consumer::connect(plan, Purpose::Live, &slots, ends, Some(membership))?);
    }
    Ok(consumers)
}
