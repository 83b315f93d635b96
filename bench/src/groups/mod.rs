//! Benchmarks of groups, and what they share: the brokers they ask, and members.
//!
//! A real Kafka can be measured beside ours, with the same load: `--kafka tests/clients/kafka-as-corelane`. Both have the
//! same one CPU. The JVM gets the flags that Kafka's own start script gives it, and is warmed up before anything counts.

pub(crate) mod commits;
pub(crate) mod compacted;
pub(crate) mod heartbeats;
pub(crate) mod idle;
pub(crate) mod join;
pub(crate) mod member;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use corelane::protocol::api_key::ApiKey;
use corelane::protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use corelane::protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};

use crate::client::{Client, answer_body, debug};
use crate::profile::{ProfileArguments, Recording};
use crate::server::{BrokerArguments, Server};

/// `KAFKA_JVM_PERFORMANCE_OPTS` of Kafka's `kafka-run-class.sh`.
const KAFKA_JVM_FLAGS: &str = "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \
                               -XX:+ExplicitGCInvokesConcurrent";
/// How long coordinators may take to be there.
const COORDINATOR_PATIENCE: Duration = Duration::from_secs(30);

/// Options of every benchmark that can measure Kafka too.
#[derive(Args, Clone)]
pub(crate) struct KafkaArguments {
    /// A program that starts a real Kafka when called like `corelane serve`: measured too
    #[arg(long, value_name = "FILE")]
    kafka: Option<PathBuf>,
    /// A further setting of Kafka alone; may repeat
    #[arg(long, value_name = "KEY=VALUE", requires = "kafka")]
    kafka_set: Vec<String>,
}

/// A broker under load.
pub(crate) struct Target {
    name: &'static str,
    is_kafka: bool,
    broker: BrokerArguments,
    server: Server,
}

impl Target {
    /// Starts a Corelane of one shard, with coordinators that answer.
    fn corelane(broker: &BrokerArguments, settings: &[&str]) -> Result<Target, Box<dyn Error>> {
        let data = broker.empty_directory("groups-corelane")?;
        let server = Server::start(broker.serve(&data, 1, &set(settings))?, Some(broker.server_cpu))?;
        Target::start("corelane", false, broker, server)
    }

    /// Starts Kafka, if it is to be measured.
    fn kafka(
        kafka: &KafkaArguments,
        broker: &BrokerArguments,
        settings: &[&str],
    ) -> Result<Option<Target>, Box<dyn Error>> {
        let Some(program) = &kafka.kafka else { return Ok(None) };
        let data = std::path::absolute(broker.empty_directory("groups-kafka")?)?;
        let all: Vec<&str> = settings.iter().copied().chain(kafka.kafka_set.iter().map(String::as_str)).collect();
        let mut command = broker.serve_with(program, &data, &set(&all));
        command.env("CORELANE_JVM_FLAGS", KAFKA_JVM_FLAGS);
        let server = Server::start(command, Some(broker.server_cpu))?;
        Target::start("kafka", true, broker, server).map(Some)
    }

    fn start(
        name: &'static str,
        is_kafka: bool,
        broker: &BrokerArguments,
        server: Server,
    ) -> Result<Target, Box<dyn Error>> {
        await_coordinators(broker.address())?;
        Ok(Target { name, is_kafka, broker: broker.clone(), server })
    }

    fn address(&self) -> SocketAddr {
        self.broker.address()
    }

    /// Records it as `ProfileArguments::record` does, if it is ours: Kafka's code has no names that perf knows.
    fn record(
        &self,
        profile: &ProfileArguments,
        subject: Option<&str>,
        seconds: u64,
    ) -> Result<Recording, Box<dyn Error>> {
        profile.record(&self.server, subject.filter(|_| !self.is_kafka), seconds)
    }

    fn cpu(&self) -> Result<Duration, Box<dyn Error>> {
        Ok(self.server.cpu()?.total + self.server.children_cpu()?)
    }
}

fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    settings.iter().flat_map(|setting| ["--set", setting]).collect()
}

/// Has the topic of the groups created, and waits until its coordinators answer.
fn await_coordinators(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut client = Client::connect(address)?;
    let find = FindCoordinatorRequest { coordinator_keys: vec!["anybody".into()], ..FindCoordinatorRequest::default() };
    let began = Instant::now();
    // Those of the other partitions may come a moment after the first.
    let mut answered = 0;
    while answered < 2 {
        if began.elapsed() > COORDINATOR_PATIENCE {
            return Err("the group coordinators do not answer".into());
        }
        std::thread::sleep(Duration::from_millis(300));
        let answer = client.ask(4, &find)?;
        let body = &mut answer_body(&answer, ApiKey::FindCoordinator, 4)?;
        let found = FindCoordinatorResponse::decode(body, 4).map_err(debug)?;
        let answer = client.ask(4, &ListGroupsRequest::default())?;
        let body = &mut answer_body(&answer, ApiKey::ListGroups, 4)?;
        let listed = ListGroupsResponse::decode(body, 4).map_err(debug)?;
        let is_ready = found.coordinators.iter().all(|found| found.error_code == 0) && listed.error_code == 0;
        answered = if is_ready { answered + 1 } else { 0 };
    }
    Ok(())
}

/// An error unless the code is 0.
fn check(what: &str, error_code: i16) -> Result<(), Box<dyn Error>> {
    if error_code == 0 { Ok(()) } else { Err(format!("{what}: error {error_code}").into()) }
}
