//! `corelane-bench load`: one workload against a broker that runs already. The simplest way to use the lab.

use std::error::Error;
use std::fs;
use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::cluster::Cluster;
use super::generator::{Load, objections};
use super::result::{Flow, Latency, LoadResult, Objection, Window};
use super::workload::{self, Translation, Workload};
use crate::report::float;

/// Options of `load`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The workload: a TOML file, or a workload of the OpenMessaging Benchmark (.yaml)
    #[arg(value_name = "WORKLOAD")]
    workload: PathBuf,
    /// With a workload of the OpenMessaging Benchmark: its driver file for Kafka
    #[arg(long, value_name = "FILE")]
    driver: Option<PathBuf>,
    /// A node of the cluster
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// The address is that of a floor (`floor-raw`, `floor-runtime`), which only takes what is produced
    #[arg(long)]
    floor: bool,
    /// CPUs of the generator, one thread on each
    #[arg(long, value_name = "CPU,...", value_delimiter = ',', default_value = "1")]
    cpus: Vec<usize>,
    /// Topics are called so, with a number behind [default: the workload's name and the time]
    #[arg(long, value_name = "NAME")]
    topic_prefix: Option<String>,
    /// Writes the result with its raw histograms
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let Translation { workload, notes } = workload::read(&arguments.workload, arguments.driver.as_deref())?;
    for note in notes {
        println!("{:<12} {note}", "note");
    }
    let address = address(&arguments.bootstrap)?;
    let cluster = if arguments.floor { Cluster::Floor { address } } else { Cluster::Kafka { bootstrap: address } };
    let prefix = match &arguments.topic_prefix {
        Some(prefix) => prefix.clone(),
        None => {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
            format!("{}-{seconds}-", workload.name)
        }
    };
    let mut load = Load::start(&workload, &cluster, &arguments.cpus, &prefix)?;
    let mut progress = Progress { is_terminal: std::io::stderr().is_terminal() };
    for second in 0..workload.warm_up_s {
        progress.show("warm-up", &load.next_window()?, workload.warm_up_s - second - 1);
    }
    load.begin()?;
    for second in 0..workload.duration_s {
        progress.show(&workload.name, &load.next_window()?, workload.duration_s - second - 1);
    }
    let result = load.finish()?;
    progress.clear();
    let objections = objections(&workload, &result);
    print(&workload, &result, &objections);
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_string_pretty(&result)?)?;
    }
    Ok(())
}

fn address(text: &str) -> Result<SocketAddr, Box<dyn Error>> {
    let mut all: Vec<SocketAddr> = text.to_socket_addrs().map_err(|error| format!("{text}: {error}"))?.collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    Ok(*all.first().ok_or_else(|| format!("{text} has no address"))?)
}

/// One line on a terminal that is written again each second; nothing where nobody looks.
struct Progress {
    is_terminal: bool,
}

impl Progress {
    fn show(&mut self, what: &str, window: &Window, seconds_left: u32) {
        if !self.is_terminal {
            return;
        }
        let mut out = std::io::stderr();
        // Nobody is harmed by a line that is not shown.
        let _ = write!(
            out,
            "\r\x1b[K{what}: {} records/s, {:.1} MB/s, p50 {}, p99 {}, waiting {}, {seconds_left} s left",
            window.produced_records,
            float(window.produced_bytes) / 1e6,
            time(window.p50_us),
            time(window.p99_us),
            window.unacknowledged,
        );
        let _ = out.flush();
    }

    fn clear(&mut self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn print(workload: &Workload, result: &LoadResult, objections: &[Objection]) {
    println!("{}: {:.1} s", workload.name, result.seconds);
    print_flow("produced", &result.produced, result.seconds);
    print_flow("consumed", &result.consumed, result.seconds);
    print_flow("caught up", &result.caught_up, result.seconds);
    if let Some(rate) = result.offered_per_s {
        println!("{:<12} {rate:.0} records/s, unacknowledged at the end {}", "offered", result.unacknowledged);
    }
    println!(
        "{:<12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "latency", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999", "max"
    );
    print_latency("produce", result.produce_latency.as_ref());
    print_latency("end to end", result.end_to_end_latency.as_ref());
    let generator = &result.generator;
    println!(
        "{:<12} {:.0} % of its busiest CPU ({} threads, {} connections), late p99 {}, p99.9 {}, max {}",
        "generator",
        generator.cpu_share_max * 100.0,
        generator.threads,
        generator.connections,
        time(generator.late_p99_us),
        time(generator.late_p999_us),
        time(generator.late_max_us),
    );
    for objection in objections {
        println!("{:<12} {}", "OBJECTION", words(objection));
    }
}

fn print_flow(name: &str, flow: &Flow, seconds: f64) {
    if flow.records > 0 {
        println!(
            "{name:<12} {:.0} records/s, {:.1} MB/s ({:.1} MB/s on the wire), {:.0} requests/s",
            float(flow.records) / seconds,
            float(flow.bytes) / 1e6 / seconds,
            float(flow.batch_bytes) / 1e6 / seconds,
            float(flow.requests) / seconds,
        );
    }
}

fn print_latency(name: &str, latency: Option<&Latency>) {
    let Some(latency) = latency else { return };
    let Latency { p50_us, p90_us, p99_us, p999_us, p9999_us, p99999_us, max_us, .. } = *latency;
    print!("{name:<12}");
    for us in [p50_us, p90_us, p99_us, p999_us, p9999_us, p99999_us, max_us] {
        print!(" {:>9}", time(us));
    }
    println!();
}

/// Microseconds in the unit that suits them.
fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.2} ms", float(us) / 1e3),
        _ => format!("{:.2} s", float(us) / 1e6),
    }
}

fn words(objection: &Objection) -> String {
    match objection {
        Objection::GeneratorLimited { cpu_share } => {
            format!(
                "generator-limited: it used {:.0} % of its CPU, so this is no maximum of the broker",
                cpu_share * 100.0
            )
        }
        Objection::BehindSchedule { late_p99_us } => {
            format!("behind schedule: the generator itself was late by {} at p99", time(*late_p99_us))
        }
        Objection::NotSustained { acknowledged_share } => {
            format!(
                "not sustained: {:.1} % of the offered records were acknowledged in time",
                acknowledged_share * 100.0
            )
        }
        Objection::Errors { count, first } => format!("{count} errors, the first: {first}"),
        Objection::NotWarm => "the warm-up ended before the figures had settled".to_owned(),
    }
}
