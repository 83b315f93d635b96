//! `target`: one target as a suite starts it, for tools of one's own; tells at the end what it spent.

use std::error::Error;
use std::time::Duration;

use clap::Args;

use super::{SetupArguments, TargetSpec, Threads, Validation};
use crate::lab::measure::{Snapshot, machine};
use crate::lab::result::{Durability, TargetKind, Usage};
use crate::report::float;
use crate::server::raise_locked_memory;
use crate::signals::Signals;

/// Options of `target`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// What to start
    #[arg(value_enum)]
    kind: TargetKind,
    #[command(flatten)]
    setup: SetupArguments,
    /// Flushes before it answers, or not
    #[arg(long, value_enum, default_value = "flushed")]
    durability: Durability,
    /// How Corelane looks at batches
    #[arg(long, value_enum, default_value = "full")]
    validation: Validation,
    /// May use the CPUs of the generator too
    #[arg(long)]
    all_cores: bool,
    /// Network and I/O threads of Kafka
    #[arg(long, value_enum, default_value = "default")]
    threads: Threads,
    /// Heap of Kafka's JVM in MiB
    #[arg(long, default_value_t = 1024)]
    heap_mib: u32,
    /// Memory of Corelane in MiB [default: its own]
    #[arg(long)]
    memory_mib: Option<u32>,
    /// Shards of Corelane [default: one for each of its CPUs]
    #[arg(long)]
    shards: Option<u16>,
    /// Address of an external one
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<std::net::SocketAddr>,
    /// A further broker setting; may repeat
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Seconds to run [default: until interrupted]
    #[arg(long)]
    seconds: Option<f64>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text}: no =VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Arguments {
    fn spec(&self) -> TargetSpec {
        TargetSpec {
            kind: self.kind,
            durability: self.durability,
            validation: self.validation,
            all_cores: self.all_cores,
            threads: self.threads,
            heap_mib: self.heap_mib,
            memory_mib: self.memory_mib,
            shards: self.shards,
            address: self.address,
            settings: self.set.iter().cloned().collect(),
        }
    }
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let signals = Signals::listen()?;
    let setup = arguments.setup.setup()?;
    let running = arguments.spec().start(&setup)?;
    let before = (running.snapshot()?, machine::snapshot(&setup.data)?);
    println!("{}", serde_json::to_string_pretty(&running.sheet)?);
    let ready = running.ready.map_or_else(String::new, |ready| format!(" after {:.0} ms", ready.as_secs_f64() * 1e3));
    println!("{} answers{ready} at {:?}", running.sheet.name, running.cluster);
    signals.wait(arguments.seconds.map(Duration::from_secs_f64));
    let after = (running.snapshot()?, machine::snapshot(&setup.data)?);
    if let (Some(after), Some(before)) = (after.0, before.0) {
        print_usage("server", &after, &before);
    }
    print_usage("machine", &after.1, &before.1);
    running.stop()
}

fn print_usage(name: &str, after: &Snapshot, before: &Snapshot) {
    let usage: Usage = after.usage_since(before);
    let mib = |bytes: u64| float(bytes) / 1024.0 / 1024.0;
    println!(
        "{name:<8}{:.1} s, CPU {:.3} s ({:.3} user, {:.3} system), memory {:.1} MiB, page cache {:.1} MiB, peak {}, \
         written {:.1} MiB, read {:.1} MiB, context switches {} + {} involuntary",
        usage.seconds,
        usage.cpu_s,
        usage.cpu_user_s,
        usage.cpu_system_s,
        mib(usage.resident_bytes),
        mib(usage.page_cache_bytes),
        usage.memory_peak_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.1} MiB", mib(bytes))),
        mib(usage.disk_written_bytes),
        mib(usage.disk_read_bytes),
        usage.context_switches_voluntary,
        usage.context_switches_involuntary
    );
}
