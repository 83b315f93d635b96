//! `group-heartbeats`: what it costs that members of classic groups say they are alive.
//!
//! Every member has a connection of its own and sends a heartbeat per interval, all of them spread evenly over it, as
//! members that started at different times do. Before, heartbeats at full speed warm a JVM up.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::member::{self, Member};
use super::{KafkaArguments, Target, check};
use crate::client::{answer_body, debug};
use crate::load::pin;
use crate::profile::ProfileArguments;
use crate::report::float;
use crate::server::{BrokerArguments, raise_locked_memory};

const HEARTBEAT_VERSION: i16 = 4;

/// Options of `group-heartbeats`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    #[command(flatten)]
    kafka: KafkaArguments,
    #[command(flatten)]
    profile: ProfileArguments,
    /// Groups
    #[arg(long, default_value_t = 100)]
    groups: u32,
    /// Members of each
    #[arg(long, default_value_t = 50)]
    members: u32,
    /// Milliseconds between a member's heartbeats
    #[arg(long, default_value_t = 3000)]
    interval_ms: u64,
    /// Seconds of heartbeats at full speed that do not count
    #[arg(long, default_value_t = 10)]
    warm_up: u64,
    /// Seconds to measure; whole intervals are best
    #[arg(long, default_value_t = 12)]
    seconds: u64,
}

/// What one broker spent.
struct Spent {
    share_of_core: f64,
    us_per_heartbeat: f64,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    println!(
        "{} members in groups of {}, a heartbeat each per {} ms, {} s after {} s at full speed",
        arguments.groups * arguments.members,
        arguments.members,
        arguments.interval_ms,
        arguments.seconds,
        arguments.warm_up
    );
    let settings = ["group.initial.rebalance.delay.ms=3000"];
    let ours = measure(arguments, Target::corelane(&arguments.broker, &settings)?)?;
    if let Some(kafka) = Target::kafka(&arguments.kafka, &arguments.broker, &settings)? {
        let theirs = measure(arguments, kafka)?;
        println!("corelane / kafka: {:.2} of its CPU per heartbeat", ours.us_per_heartbeat / theirs.us_per_heartbeat);
    }
    Ok(())
}

fn measure(arguments: &Arguments, target: Target) -> Result<Spent, Box<dyn Error>> {
    let idle_before = target.cpu()?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = (target.cpu()? - idle_before).as_secs_f64() / 2.0;
    let groups: Vec<String> = (0..arguments.groups).map(|group| format!("beating-{group}")).collect();
    let formed = member::form(target.address(), &groups, usize::try_from(arguments.members)?)?;
    let warm = Arc::new(Barrier::new(groups.len() + 1));
    let beats = Arc::new(AtomicU64::new(0));
    let threads = start(arguments, formed.members, &warm, &beats);
    warm.wait();
    // The first heartbeats at the rate.
    std::thread::sleep(Duration::from_millis(500));
    let recording = target.record(&arguments.profile, Some("members"), arguments.seconds)?;
    let (began, before, beats_before) = (Instant::now(), target.cpu()?, beats.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), (target.cpu()? - before).as_secs_f64());
    // What was sent, not what was meant: a load that gets too little CPU must not make a broker look cheap.
    let beats = float(beats.load(Ordering::Relaxed) - beats_before);
    recording.finish()?;
    let mut warming = 0;
    for thread in threads {
        warming += thread.join().map_err(|_| "a thread of the load panicked")??;
    }
    let meant = f64::from(arguments.groups * arguments.members) * 1000.0 / float(arguments.interval_ms);
    let spent = Spent { share_of_core: cpu / elapsed, us_per_heartbeat: cpu / beats * 1e6 };
    println!(
        "{:<9} {:>6.2} % of a core ({:.2} % idle), {:>6.1} µs CPU/heartbeat at {:.0}/s of {meant:.0}; at full speed {:.0}/s",
        target.name,
        spent.share_of_core * 100.0,
        idle * 100.0,
        spent.us_per_heartbeat,
        beats / elapsed,
        float(warming) / float(arguments.warm_up)
    );
    target.server.stop()?;
    Ok(spent)
}

/// A thread for the members of each group; it returns how many heartbeats it took to warm up.
fn start(
    arguments: &Arguments,
    members: Vec<Member>,
    warm: &Arc<Barrier>,
    beats: &Arc<AtomicU64>,
) -> Vec<JoinHandle<Result<u64, String>>> {
    let size = arguments.members;
    let (cpu, seconds) = (arguments.broker.load_cpu, arguments.seconds);
    let warm_up = Duration::from_secs(arguments.warm_up);
    let interval = Duration::from_millis(arguments.interval_ms);
    let mut members = members.into_iter();
    let start = |group: u32| {
        let mut own: Vec<Member> = members.by_ref().take(usize::try_from(size).unwrap_or(usize::MAX)).collect();
        let (warm, beats, groups) = (Arc::clone(warm), Arc::clone(beats), arguments.groups);
        std::thread::spawn(move || {
            pin(Some(cpu));
            let warmed = beat_at_full_speed(&mut own, warm_up).map_err(|error| error.to_string());
            // The others wait even if this one has failed.
            warm.wait();
            let warmed = warmed?;
            let (began, end) = (Instant::now(), Duration::from_secs(seconds + 1));
            let step = interval / size;
            let first = step * group / groups;
            for (member, due) in (0..).map(|index| first + step * index).enumerate() {
                if due > end {
                    break;
                }
                std::thread::sleep(due.saturating_sub(began.elapsed()));
                let count = own.len();
                beat(&mut own[member % count]).map_err(|error| error.to_string())?;
                beats.fetch_add(1, Ordering::Relaxed);
            }
            Ok(warmed)
        })
    };
    (0..arguments.groups).map(start).collect()
}

fn beat_at_full_speed(members: &mut [Member], time: Duration) -> Result<u64, Box<dyn Error>> {
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < time {
        for member in &mut *members {
            beat(member)?;
            count += 1;
        }
    }
    Ok(count)
}

fn beat(member: &mut Member) -> Result<(), Box<dyn Error>> {
    let request = HeartbeatRequest {
        group_id: (&*member.group).into(),
        generation_id: member.generation,
        member_id: (&*member.id).into(),
        group_instance_id: None,
    };
    let answer = member.client.ask(HEARTBEAT_VERSION, &request)?;
    let body = &mut answer_body(&answer, ApiKey::Heartbeat, HEARTBEAT_VERSION)?;
    check("Heartbeat", HeartbeatResponse::decode(body, HEARTBEAT_VERSION).map_err(debug)?.error_code)
}
