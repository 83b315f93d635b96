//! Kafka's own `kafka-producer-perf-test` and `kafka-consumer-perf-test` against a target: a second opinion from clients that are
//! not ours, on the CPUs of the generator. They say how much went through; their latencies are no open loop's.

use std::error::Error;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::definition::ConfirmationStep;
use super::order::Planned;
use super::progress::Doing;
use super::resume::{TrialKey, Trials};
use super::run::now;
use super::topics::delete_topics;
use super::trial::{Bench, broker};
use crate::client::Client;
use crate::lab::measure::process;
use crate::lab::result::{Flow, GeneratorUsage, LoadResult, Objection, Trial, WarmUp};
use crate::lab::target::Running;
use crate::lab::workload::Workload;
use crate::process::Process;
use crate::report::float;

/// Their classes, in the jars of Kafka.
const PRODUCER: &str = "org.apache.kafka.tools.ProducerPerformance";
const CONSUMER: &str = "org.apache.kafka.tools.ConsumerPerformance";
/// Longest that the consumer waits for a record, in milliseconds.
const CONSUMER_PATIENCE_MS: &str = "30000";
/// Share of its CPUs from which on a client shows itself rather than the server.
const CPU_SHARE_MAX: f64 = 0.8;

/// Both tools against one server.
pub(super) struct Tools<'a, 's> {
    pub(super) bench: &'a Bench<'s>,
    pub(super) step: &'a ConfirmationStep,
    /// The trial of the producer.
    pub(super) planned: &'a Planned<'s>,
    pub(super) running: &'a Running,
    pub(super) warm_up: Option<WarmUp>,
}

/// What a tool said.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    records: u64,
    seconds: f64,
}

/// What a tool cost.
struct Cost {
    cpu_s: f64,
    seconds: f64,
}

impl Tools<'_, '_> {
    /// Sends all records, then reads them: two trials.
    pub(super) fn run(&self, delete: bool) -> Result<Trials, Box<dyn Error>> {
        let address = broker(self.running)?;
        let prefix = self.bench.prefix();
        let topic = format!("{prefix}0");
        Client::connect(address)?.create_topic(&topic, i32::try_from(self.step.partitions)?, &[])?;
        let produced = self.trial(&self.producer(address, &topic), PRODUCER, said_by_producer)?;
        let mut consumed = self.trial(&self.consumer(address, &topic), CONSUMER, said_by_consumer)?;
        if let Some(load) = &mut consumed.load {
            load.consumed = std::mem::take(&mut load.produced);
        }
        consumed.workload =
            Workload { name: "kafka-consumer-perf-test".to_owned(), consumer_groups: 1, ..consumed.workload };
        if delete {
            delete_topics(self.running.cluster, &prefix)?;
        }
        let key = TrialKey { part: "consume".to_owned(), ..self.planned.key.clone() };
        // The producer's is kept last: by it the step is known to be finished.
        Ok(vec![(key, consumed), (self.planned.key.clone(), produced)])
    }

    fn producer(&self, address: SocketAddr, topic: &str) -> Vec<String> {
        let ConfirmationStep { records, record_bytes, .. } = self.step;
        let options =
            ["--topic", topic, "--num-records", &records.to_string(), "--record-size", &record_bytes.to_string()];
        let server = format!("bootstrap.servers={address}");
        let rest = ["--throughput", "-1", "--producer-props", &server, "acks=all"];
        options.iter().chain(&rest).map(|option| (*option).to_owned()).collect()
    }

    fn consumer(&self, address: SocketAddr, topic: &str) -> Vec<String> {
        let (server, records) = (address.to_string(), self.step.records.to_string());
        let options = ["--bootstrap-server", &server, "--topic", topic, "--messages", &records];
        let rest = ["--timeout", CONSUMER_PATIENCE_MS, "--group", topic];
        options.iter().chain(&rest).map(|option| (*option).to_owned()).collect()
    }

    /// Runs a tool and makes a trial of what it says; its records stand under `produced`.
    fn trial(&self, options: &[String], class: &str, read: fn(&str) -> Option<Said>) -> Result<Trial, Box<dyn Error>> {
        let (before, started) = (self.bench.spent(self.running)?, now());
        let (text, cost) = self.output(class, options)?;
        let (server, machine) = self.bench.spent(self.running)?.since(&before);
        let said = read(&text).filter(|said| said.records >= self.step.records);
        let said = said.ok_or_else(|| format!("{class} said: {}", text.trim().lines().last().unwrap_or_default()))?;
        let load = self.load(said, &cost);
        let mut verdict = Vec::new();
        if load.generator.cpu_share_max >= CPU_SHARE_MAX {
            verdict.push(Objection::GeneratorLimited { cpu_share: load.generator.cpu_share_max });
        }
        if self.warm_up.is_some_and(|warm_up| !warm_up.settled) {
            verdict.push(Objection::NotWarm);
        }
        let trial = self.bench.trial(self.planned, self.running, self.warm_up);
        Ok(Trial { started, load: Some(load), server, machine: Some(machine), verdict, ..trial })
    }

    fn load(&self, said: Said, cost: &Cost) -> LoadResult {
        let bytes = said.records * u64::from(self.step.record_bytes);
        let cpus = float(u64::try_from(self.bench.setup.generator_cpus.len()).unwrap_or(u64::MAX));
        LoadResult {
            seconds: said.seconds,
            offered_per_s: None,
            produced: Flow { records: said.records, bytes, ..Flow::default() },
            consumed: Flow::default(),
            caught_up: Flow::default(),
            produce_latency: None,
            end_to_end_latency: None,
            windows: Vec::new(),
            generator: GeneratorUsage {
                // Of threads and connections of a tool nothing is known here, and it keeps to no schedule.
                threads: 0,
                connections: 0,
                cpu_s: cost.cpu_s,
                cpu_share_max: cost.cpu_s / cost.seconds / cpus,
                late_p99_us: 0,
                late_p999_us: 0,
                late_max_us: 0,
            },
            unacknowledged: 0,
            errors: 0,
            first_error: None,
        }
    }

    /// Runs a tool to its end.
    fn output(&self, class: &str, options: &[String]) -> Result<(String, Cost), Box<dyn Error>> {
        self.bench.progress.begin(&Doing::new(&self.running.sheet.name, &self.planned.workload, ""));
        let mut command: Command = self.bench.setup.kafka.tool(class)?;
        command.args(options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let began = Instant::now();
        let mut tool = Process::start(command, &self.bench.setup.generator_cpus, Vec::new())?;
        let out = tool.take_output().ok_or("the output is piped")?;
        // What it prints is read while it runs, so that a full pipe never stops it.
        let reader = std::thread::spawn(move || {
            let (mut out, mut text) = (out, String::new());
            out.read_to_string(&mut text).map(|_| text)
        });
        let mut cpu = Duration::ZERO;
        let status = loop {
            if let Some(status) = tool.ended()? {
                break status;
            }
            // One that has just ended has no CPU time any more.
            cpu = process::cpu_time(tool.pid()).map_or(cpu, |time| time.total);
            self.bench.pause()?;
        };
        let text = reader.join().map_err(|_| "the reader of a tool panicked")??;
        if !status.success() {
            return Err(format!("{class} ended with {status}").into());
        }
        Ok((text, Cost { cpu_s: cpu.as_secs_f64(), seconds: began.elapsed().as_secs_f64() }))
    }
}

/// From its last line: `500000 records sent, 123456.7 records/sec (…`.
fn said_by_producer(text: &str) -> Option<Said> {
    let line = text.lines().rev().find(|line| line.contains(" records sent, "))?;
    let (records, rest) = line.split_once(" records sent, ")?;
    let per_s: f64 = rest.split(' ').next()?.parse().ok()?;
    let records: u64 = records.trim().parse().ok()?;
    Some(Said { records, seconds: float(records) / per_s })
}

/// From its table of one row: names of columns, then values, with commas between.
fn said_by_consumer(text: &str) -> Option<Said> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("start.time"));
    let columns: Vec<&str> = lines.next()?.split(',').map(str::trim).collect();
    let values: Vec<&str> = lines.next()?.split(',').map(str::trim).collect();
    let value = |column: &str| values.get(columns.iter().position(|name| *name == column)?).copied();
    let records: u64 = value("data.consumed.in.nMsg").or_else(|| value("data.consumed.in.nRecords"))?.parse().ok()?;
    let fetch_ms: f64 = value("fetch.time.ms")?.parse().ok()?;
    Some(Said { records, seconds: fetch_ms / 1000.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_the_producer_counts() {
        let text = "2001 records sent, 400.0 records/sec (0.04 MB/sec), 1.0 ms avg latency, 2.0 ms max latency.\n\
                    5000 records sent, 2500.0 records/sec (0.24 MB/sec), 1.2 ms avg latency, 9.0 ms max latency, 1 ms 50th, \
                    2 ms 95th, 3 ms 99th, 4 ms 99.9th.\n";
        assert_eq!(said_by_producer(text), Some(Said { records: 5000, seconds: 2.0 }));
        assert_eq!(said_by_producer("error\n"), None);
    }

    #[test]
    fn the_columns_of_the_consumer_are_found_by_their_names() {
        let text = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, \
                    fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec\n\
                    2026-01-01 00:00:00:000, 2026-01-01 00:00:04:000, 4.7684, 1.1921, 5000, 1250.0, 3500, 500, 9.5, 10000.0\n";
        assert_eq!(said_by_consumer(text), Some(Said { records: 5000, seconds: 0.5 }));
        assert_eq!(said_by_consumer("start.time, end.time\n"), None);
    }
}
