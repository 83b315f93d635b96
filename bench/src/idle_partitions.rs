//! `idle-partitions`: what partitions cost that nobody uses: resident memory and CPU.

use std::error::Error;
use std::time::Duration;

use clap::Args;

use crate::client::Client;
use crate::report::float;
use crate::server::{BrokerArguments, Server, raise_locked_memory};

/// Options of `idle-partitions`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: BrokerArguments,
    /// Topics to create
    #[arg(long, default_value_t = 10)]
    topics: i32,
    /// Partitions of each
    #[arg(long, default_value_t = 1000)]
    partitions: i32,
    /// Shards
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Seconds to idle
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    raise_locked_memory();
    let broker = &arguments.broker;
    let data = broker.empty_directory("idle-partitions")?;
    let start = || Server::start(broker.serve(&data, arguments.shards, &[])?, None);
    let server = start()?;
    let empty = idle(arguments, &server, "empty")?;
    let mut client = Client::connect(broker.address())?;
    for topic in 0..arguments.topics {
        client.create_topic(&format!("idle-{topic}"), arguments.partitions, &[])?;
    }
    drop(client);
    let count = arguments.topics * arguments.partitions;
    let created = idle(arguments, &server, &format!("{count} partitions just created"))?;
    server.stop()?;
    let server = start()?;
    println!("{}", server.ready);
    let started = idle(arguments, &server, &format!("{count} partitions after a restart"))?;
    server.stop()?;
    let each = |bytes: f64| bytes / f64::from(count);
    println!(
        "cost of {count} partitions: {:.1} MiB when created ({:.0} bytes each), {:.1} MiB after a restart ({:.0} bytes each)",
        mib(created - empty),
        each(created - empty),
        mib(started - empty),
        each(started - empty)
    );
    Ok(())
}

fn idle(arguments: &Arguments, server: &Server, what: &str) -> Result<f64, Box<dyn Error>> {
    // What creating or starting set in motion comes to rest.
    std::thread::sleep(Duration::from_secs(2));
    let before = server.cpu()?;
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let cpu = (server.cpu()?.total - before.total).as_secs_f64() / float(arguments.seconds);
    let resident = float(server.resident_bytes()?);
    println!("{what:<36} {:>7.1} MiB resident, {:.2} % of a core", mib(resident), cpu * 100.0);
    Ok(resident)
}

fn mib(bytes: f64) -> f64 {
    bytes / 1024.0 / 1024.0
}
