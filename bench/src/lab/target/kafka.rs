//! A real Apache Kafka: one node in KRaft mode, broker and controller in one process, as `kafka-server-start.sh` starts it.
//!
//! The JVM has the flags of Kafka's own scripts and a heap of 1 GiB unless a suite says otherwise; JMX and the garbage
//! collector's log are left out. Its log is quiet (warnings only). Settings are Kafka's defaults but for those of the lab:
//! listeners, one copy of internal topics, no topics out of nothing, and what durability and threads ask for.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::running::{Own, Running, Sign, log_of};
use super::setup::{ServerDirectory, Setup};
use super::{FLUSH_INTERVAL, TargetSpec, Threads};
use crate::lab::cluster::Cluster;

/// Names the cluster: 16 bytes in base64, as Kafka wants it.
const CLUSTER_ID: &str = "bGFiLW9mLWNvcmVsYW5lIQ";
/// What `kafka-run-class.sh` gives the JVM for speed.
const JVM_FLAGS: [&str; 6] = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
];
/// Kafka's defaults of `num.network.threads` and `num.io.threads`.
const THREADS_DEFAULT: (usize, usize) = (3, 8);

/// Where jars of Apache Kafka are.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    /// Where `bench/kafka/install` put them: one directory for each version.
    pub(crate) directory: PathBuf,
    /// Which one; the newest if missing.
    pub(crate) version: Option<String>,
}

impl Installation {
    /// Version and directory of the jars.
    ///
    /// Errors: it is not installed.
    pub(crate) fn find(&self) -> Result<(String, PathBuf), Box<dyn Error>> {
        let installed = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut versions: Vec<String> = installed
            .filter(|entry| entry.path().join("lib").is_dir())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|version| self.version.as_ref().is_none_or(|wanted| wanted == version))
            .collect();
        versions.sort_by_cached_key(|version| Reverse(parts(version)));
        let Some(version) = versions.into_iter().next() else {
            let wanted = self.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
            let directory = self.directory.display();
            return Err(format!("no Apache Kafka{wanted} in {directory}: run bench/kafka/install{wanted}").into());
        };
        let lib = self.directory.join(&version).join("lib").canonicalize()?;
        Ok((version, lib))
    }

    /// A JVM with one of Kafka's own tools, by its class.
    ///
    /// Errors: it is not installed.
    pub(crate) fn tool(&self, class: &str) -> Result<Command, Box<dyn Error>> {
        let (_, lib) = self.find()?;
        let mut command = Command::new("java");
        command.arg("-cp").arg(lib.join("*")).arg(class);
        Ok(command)
    }
}

/// Numbers of a version, to sort by.
fn parts(version: &str) -> Vec<u32> {
    version.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

pub(super) fn start(spec: &TargetSpec, setup: &Setup) -> Result<Running, Box<dyn Error>> {
    let (version, lib) = setup.kafka.find()?;
    let directory = ServerDirectory::new(setup)?;
    let cpus = spec.cpus(setup);
    let settings = settings(spec, setup, cpus.len())?;
    let properties = directory.file("server.properties");
    fs::write(&properties, properties_text(&settings, &directory.data()))?;
    fs::write(directory.file("log4j2.properties"), log_configuration(&log_of(&directory)))?;
    format_storage(&lib, &directory, &properties)?;
    let mut flags: Vec<String> = vec![format!("-Xms{}m", spec.heap_mib), format!("-Xmx{}m", spec.heap_mib)];
    flags.extend(JVM_FLAGS.map(str::to_owned));
    let mut shown = settings;
    shown.insert("JVM flags".to_owned(), flags.join(" "));
    let line = format!("java {} -cp LIB/* kafka.Kafka server.properties", flags.join(" "));
    let sheet = spec.sheet(setup, version, line, shown);
    let mut command = java(&lib, &directory);
    command.args(flags).arg("kafka.Kafka").arg(&properties);
    let (own, ready) = Own::start(command, &cpus, directory, Sign::Metadata(setup.address()))?;
    let cluster = Cluster::Kafka { bootstrap: setup.address() };
    Ok(Running { sheet, cluster, ready: Some(ready), own: Some(own) })
}

/// A JVM with Kafka's classes and the lab's configuration of its log.
fn java(lib: &Path, directory: &ServerDirectory) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(lib.join("*"));
    let log4j = directory.file("log4j2.properties");
    command.arg(format!("-Dlog4j2.configurationFile={}", log4j.display()));
    command
}

/// Prepares the data directory, without which no Kafka starts; no part of its time to start.
fn format_storage(lib: &Path, directory: &ServerDirectory, properties: &Path) -> Result<(), Box<dyn Error>> {
    let mut command = java(lib, directory);
    command.args(["kafka.tools.StorageTool", "format", "--standalone", "--cluster-id", CLUSTER_ID, "--config"]);
    let output = command.arg(properties).stdin(Stdio::null()).output().map_err(|error| format!("java: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Err(format!("Kafka's StorageTool failed: {}", said.concat()).into())
}

/// Settings of the broker without the directory of its data.
fn settings(spec: &TargetSpec, setup: &Setup, cpu_count: usize) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let broker = setup.address();
    let controller = setup.port.checked_add(1).ok_or("the port is too high")?;
    let (network, io) = match spec.threads {
        Threads::Single => (cpu_count, cpu_count),
        Threads::Default => THREADS_DEFAULT,
        Threads::Double => (2 * THREADS_DEFAULT.0, 2 * THREADS_DEFAULT.1),
    };
    let own = [
        ("process.roles", "broker,controller".to_owned()),
        ("node.id", "1".to_owned()),
        ("controller.quorum.bootstrap.servers", format!("127.0.0.1:{controller}")),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("listeners", format!("PLAINTEXT://{broker},CONTROLLER://127.0.0.1:{controller}")),
        ("auto.create.topics.enable", "false".to_owned()),
        ("offsets.topic.replication.factor", "1".to_owned()),
        ("transaction.state.log.replication.factor", "1".to_owned()),
        ("transaction.state.log.min.isr", "1".to_owned()),
        ("share.coordinator.state.topic.replication.factor", "1".to_owned()),
        ("share.coordinator.state.topic.min.isr", "1".to_owned()),
        (FLUSH_INTERVAL, spec.flush_interval()?.to_owned()),
        ("num.network.threads", network.to_string()),
        ("num.io.threads", io.to_string()),
    ];
    let mut settings: BTreeMap<String, String> = own.map(|(key, value)| (key.to_owned(), value)).into();
    settings.extend(spec.settings.clone());
    Ok(settings)
}

fn properties_text(settings: &BTreeMap<String, String>, data: &Path) -> String {
    let lines = settings.iter().map(|(key, value)| format!("{key}={value}\n"));
    lines.chain([format!("log.dirs={}\n", data.display())]).collect()
}

/// A log of warnings in one file.
fn log_configuration(file: &Path) -> String {
    format!(
        "status = error\n\
         appender.file.type = File\n\
         appender.file.name = file\n\
         appender.file.fileName = {}\n\
         appender.file.layout.type = PatternLayout\n\
         appender.file.layout.pattern = [%d] %p %m (%c)%n\n\
         rootLogger.level = warn\n\
         rootLogger.appenderRef.file.ref = file\n",
        file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::result::{Durability, TargetKind};

    fn setup() -> Setup {
        Setup {
            corelane: None,
            data: PathBuf::new(),
            port: 9092,
            server_cpus: vec![0, 1],
            generator_cpus: vec![2, 3],
            kafka: Installation { directory: PathBuf::new(), version: None },
        }
    }

    fn kafka(durability: Durability, threads: Threads) -> TargetSpec {
        TargetSpec { kind: TargetKind::Kafka, durability, threads, ..TargetSpec::default() }
    }

    #[test]
    fn durability_and_threads_are_settings() {
        let flushed = settings(&kafka(Durability::Flushed, Threads::Double), &setup(), 2).expect("known");
        assert_eq!(flushed["log.flush.interval.messages"], "1");
        assert_eq!((flushed["num.network.threads"].as_str(), flushed["num.io.threads"].as_str()), ("6", "16"));
        let written = settings(&kafka(Durability::Written, Threads::Single), &setup(), 2).expect("known");
        assert_eq!(written["log.flush.interval.messages"], "9223372036854775807");
        assert_eq!((written["num.network.threads"].as_str(), written["num.io.threads"].as_str()), ("2", "2"));
        assert!(settings(&kafka(Durability::Unknown, Threads::Default), &setup(), 2).is_err());
    }

    #[test]
    fn a_suite_has_the_last_word_on_a_setting() {
        let mut spec = kafka(Durability::Written, Threads::Default);
        spec.settings.insert("num.io.threads".to_owned(), "5".to_owned());
        assert_eq!(settings(&spec, &setup(), 1).expect("known")["num.io.threads"], "5");
    }

    #[test]
    fn the_newest_version_is_that_of_the_greatest_numbers() {
        let mut versions = ["4.1.1", "4.10.0", "4.2.0"];
        versions.sort_by_key(|version| Reverse(parts(version)));
        assert_eq!(versions, ["4.10.0", "4.2.0", "4.1.1"]);
    }
}
