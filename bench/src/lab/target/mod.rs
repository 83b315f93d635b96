//! Servers that the lab starts itself, each in an empty directory, and one that somebody else runs.
//!
//! One is alive at a time. What a target is made of stands in its [`TargetSheet`]: every setting that it was given and its
//! command line. When it is stopped, its directory and its control group are removed; the kernel kills it when the lab
//! ends in whatever way, and the next start removes what a killed lab left.

mod corelane;
mod external;
mod floor;
pub(crate) mod hold;
mod kafka;
mod running;
mod setup;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use self::running::Running;
pub(crate) use self::setup::{Setup, SetupArguments};
use super::result::{Durability, TargetKind, TargetSheet};

/// Broker setting that decides on durability.
const FLUSH_INTERVAL: &str = "log.flush.interval.messages";
/// Broker setting of Corelane for how it looks at batches.
const VALIDATION: &str = "corelane.validation";
/// Value of `log.flush.interval.messages` that flushes before every answer.
const FLUSH_EVERY: &str = "1";
/// Kafka's own default of it: no flush on account of messages.
const FLUSH_NEVER: &str = "9223372036854775807";

/// A server to start, as a suite says it. What is left out has the value of [`TargetSpec::default`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TargetSpec {
    /// What it is.
    pub(crate) kind: TargetKind,
    /// Flushes before it answers, or not. A floor never flushes, of an external one nothing is known.
    pub(crate) durability: Durability,
    /// How Corelane looks at batches.
    pub(crate) validation: Validation,
    /// May use the CPUs of the generator too.
    pub(crate) all_cores: bool,
    /// Network and I/O threads of Kafka.
    pub(crate) threads: Threads,
    /// Heap of Kafka's JVM in MiB, least and most at once.
    pub(crate) heap_mib: u32,
    /// `--memory` of Corelane in MiB; its own default if missing.
    pub(crate) memory_mib: Option<u32>,
    /// Shards of Corelane; one for each of its CPUs if missing.
    pub(crate) shards: Option<u16>,
    /// Where an external one is.
    pub(crate) address: Option<SocketAddr>,
    /// Further broker settings, by Kafka's names; they win over those of the lab. Durability and validation are not among
    /// them: a target must not be other than its name says.
    pub(crate) settings: BTreeMap<String, String>,
}

impl Default for TargetSpec {
    fn default() -> TargetSpec {
        TargetSpec {
            kind: TargetKind::Corelane,
            durability: Durability::Flushed,
            validation: Validation::Full,
            all_cores: false,
            threads: Threads::Default,
            heap_mib: 1024,
            memory_mib: None,
            shards: None,
            address: None,
            settings: BTreeMap::new(),
        }
    }
}

/// `corelane.validation`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Validation {
    /// Every record is looked at, as Kafka does.
    Full,
    /// Headers and checksums only.
    Header,
}

/// Threads of Kafka.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Threads {
    /// One network thread and one I/O thread for each CPU that it may use.
    Single,
    /// Kafka's defaults: 3 and 8.
    Default,
    /// Twice as many as the defaults: 6 and 16.
    Double,
}

impl TargetSpec {
    /// Name in tables and pictures; [`TargetSpec::variant`] tells those of one name apart.
    pub(crate) fn name(&self) -> String {
        match (self.kind, self.durability) {
            (TargetKind::Corelane, durability) => format!("corelane {}", word(durability)),
            (TargetKind::Kafka, durability) => format!("kafka {}", word(durability)),
            (TargetKind::FloorRaw, _) => "floor on io_uring".to_owned(),
            (TargetKind::FloorRuntime, _) => "floor on glommio".to_owned(),
            (TargetKind::External, _) => "external".to_owned(),
        }
    }

    /// What sets it apart from the plain one of its kind and durability.
    pub(crate) fn variant(&self) -> String {
        let plain = TargetSpec::default();
        let mut parts = Vec::new();
        if self.kind == TargetKind::Corelane && self.validation == Validation::Header {
            parts.push("validation header".to_owned());
        }
        if self.all_cores {
            parts.push("all cores".to_owned());
        }
        match self.threads {
            Threads::Single => parts.push("1 x threads".to_owned()),
            Threads::Default => {}
            Threads::Double => parts.push("2 x threads".to_owned()),
        }
        if self.kind == TargetKind::Kafka && self.heap_mib != plain.heap_mib {
            parts.push(format!("heap {} MiB", self.heap_mib));
        }
        parts.extend(self.memory_mib.map(|mib| format!("memory {mib} MiB")));
        parts.extend(self.shards.map(|shards| format!("{shards} shards")));
        parts.extend(self.settings.iter().map(|(key, value)| format!("{key}={value}")));
        parts.join(", ")
    }

    /// Starts it and waits for its first answer. It lives as long as the calling thread at most.
    ///
    /// Errors: it is not installed, ends at once or does not answer; its last words are part of the error.
    pub(crate) fn start(&self, setup: &Setup) -> Result<Running, Box<dyn Error>> {
        self.check_settings()?;
        match self.kind {
            TargetKind::Corelane => corelane::start(self, setup),
            TargetKind::Kafka => kafka::start(self, setup),
            TargetKind::FloorRaw => floor::start(self, setup, "floor-raw"),
            TargetKind::FloorRuntime => floor::start(self, setup, "floor-runtime"),
            TargetKind::External => external::start(self, setup),
        }
    }

    fn check_settings(&self) -> Result<(), Box<dyn Error>> {
        for (setting, field) in [(FLUSH_INTERVAL, "durability"), (VALIDATION, "validation")] {
            if self.settings.contains_key(setting) {
                return Err(format!("{setting} is said by `{field}`, not among the settings").into());
            }
        }
        Ok(())
    }

    /// CPUs that it may use.
    fn cpus(&self, setup: &Setup) -> Vec<usize> {
        let mut cpus = setup.server_cpus.clone();
        if self.all_cores {
            cpus.extend(&setup.generator_cpus);
            cpus.sort_unstable();
            cpus.dedup();
        }
        cpus
    }

    /// `log.flush.interval.messages` of both brokers.
    ///
    /// Errors: the durability is not known.
    fn flush_interval(&self) -> Result<&'static str, Box<dyn Error>> {
        match self.durability {
            Durability::Flushed => Ok(FLUSH_EVERY),
            Durability::Written => Ok(FLUSH_NEVER),
            Durability::Unknown => Err(format!("a {:?} is flushed or written", self.kind).into()),
        }
    }

    fn sheet(
        &self,
        setup: &Setup,
        version: String,
        command: String,
        settings: BTreeMap<String, String>,
    ) -> TargetSheet {
        TargetSheet {
            name: self.name(),
            kind: self.kind,
            version,
            durability: self.durability,
            variant: self.variant(),
            cpus: self.cpus(setup),
            generator_cpus: setup.generator_cpus.clone(),
            command,
            settings,
        }
    }
}

fn word(durability: Durability) -> &'static str {
    match durability {
        Durability::Written => "written",
        Durability::Flushed => "flushed",
        Durability::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_target_has_no_variant() {
        for kind in [TargetKind::Corelane, TargetKind::Kafka, TargetKind::FloorRaw] {
            assert_eq!(TargetSpec { kind, ..TargetSpec::default() }.variant(), "");
        }
    }

    #[test]
    fn a_setting_cannot_belie_the_name() {
        let with = |key: &str| {
            let settings = BTreeMap::from([(key.to_owned(), "1".to_owned())]);
            TargetSpec { settings, ..TargetSpec::default() }.check_settings()
        };
        assert!(with(FLUSH_INTERVAL).is_err());
        assert!(with(VALIDATION).is_err());
        assert!(with("num.io.threads").is_ok());
    }

    #[test]
    fn a_variant_names_all_that_differs() {
        let spec = TargetSpec {
            kind: TargetKind::Kafka,
            durability: Durability::Written,
            all_cores: true,
            threads: Threads::Double,
            heap_mib: 4096,
            settings: BTreeMap::from([("num.replica.fetchers".to_owned(), "2".to_owned())]),
            ..TargetSpec::default()
        };
        assert_eq!(spec.name(), "kafka written");
        assert_eq!(spec.variant(), "all cores, 2 x threads, heap 4096 MiB, num.replica.fetchers=2");
    }

    #[test]
    fn a_spec_says_only_what_is_not_the_default() {
        let spec: TargetSpec =
            serde_json::from_str(r#"{"kind": "floor-raw", "durability": "written"}"#).expect("valid");
        assert_eq!(
            spec,
            TargetSpec { kind: TargetKind::FloorRaw, durability: Durability::Written, ..TargetSpec::default() }
        );
        assert!(serde_json::from_str::<TargetSpec>(r#"{"kind": "kafka", "heap": 1}"#).is_err());
    }
}
