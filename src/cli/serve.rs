//! `corelane serve`: options in, a running broker out.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::config::{BrokerConfig, ConfigError};
use crate::server::start::{self, HostPort, ServeOptions, StartError};

/// Options of `corelane serve`.
#[derive(Args, Debug)]
pub(super) struct ServeArguments {
    /// Directory to keep data in; may repeat, one per disk: shard i lives on directory i mod n
    #[arg(long, value_name = "DIR", default_value = "./data")]
    data: Vec<PathBuf>,
    /// Address to listen on; shard i listens on PORT+i (per-core) or all on PORT (single)
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: HostPort,
    /// Address that clients are told; PORT+i for shard i when a port is given
    #[arg(long, value_name = "HOST[:PORT]")]
    advertised_host: Option<String>,
    /// Shards to run, each on a core of its own [default: one per physical core, at most 16]
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Whether every shard is a node with a port of its own, or all are one node on one port
    #[arg(long, value_enum, default_value = "per-core")]
    advertise: Advertise,
    /// Memory for all shards together, for example 2GiB [default: a quarter of RAM, at most 1GiB a shard]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Address of /metrics and /health
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9644")]
    http: HostPort,
    /// Broker settings: a file of key=value lines, by Kafka's names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One broker setting; wins over the file; may repeat
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Start although the log is damaged below what was flushed, or a directory of the store is gone: what was acknowledged
    /// there is lost for good
    #[arg(long)]
    accept_loss: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Advertise {
    /// Every shard a node with a port of its own
    PerCore,
    /// One node, one port
    Single,
}

/// Why the broker did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs the broker until it is told to stop.
pub(super) fn run(arguments: &ServeArguments) -> Result<(), ServeError> {
    let ansi = std::io::stderr().is_terminal();
    // Where nobody reads the log any more, that is no reason to end: the subscriber would complain to the same place and panic.
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).with_ansi(ansi);
    subscriber.log_internal_errors(false).init();
    let config = BrokerConfig::load(arguments.config.as_deref(), &arguments.set)?;
    let options = ServeOptions {
        data: arguments.data.clone(),
        listen: arguments.listen.clone(),
        advertised_host: arguments.advertised_host.clone(),
        shards: arguments.shards,
        advertise: match arguments.advertise {
            Advertise::PerCore => start::Advertise::PerCore,
            Advertise::Single => start::Advertise::Single,
        },
        memory_bytes: arguments.memory,
        http: arguments.http.clone(),
        config,
        accept_loss: arguments.accept_loss,
    };
    start::run(options)?;
    Ok(())
}

/// Bytes, with an optional suffix: k, m, g, or KiB, MiB, GiB, all powers of 1024.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.trim().parse().map_err(|_| format!("`{text}` is no size; write for example 512MiB"))?;
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        unit => return Err(format!("`{unit}` is no unit; write KiB, MiB or GiB")),
    };
    number.checked_mul(unit).ok_or_else(|| format!("`{text}` is more memory than there is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_size("512"), Ok(512));
        assert_eq!(parse_size("64k"), Ok(65536));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert!(parse_size("fast").is_err());
        assert!(parse_size("1PiB").is_err());
        assert!(parse_size("99999999999GiB").is_err());
    }
}
