//! Benchmarks of a corelane broker: what it costs, beside the least that it could cost on the same machine.
//!
//! Each subcommand prints its figures and judges nothing. The main figure is the CPU time of the server's process per
//! KiB (user and system, with its io_uring workers), because it holds up on a machine where others work too; throughput
//! and latency are shown beside it. What is compared takes turns within one run, and medians over the rounds are given.
//!
//! ```text
//! cargo build --release --workspace
//! cargo run --release -p corelane-bench -- produce-floors
//! ```

mod advertise_modes;
mod client;
mod fetch;
mod floor;
mod flushed_partitions;
mod groups;
mod idle_partitions;
mod lab;
mod load;
mod process;
mod produce_floors;
mod profile;
mod region;
mod report;
mod server;
mod signals;
mod space;
mod start_time;
mod tail_fetch;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures a corelane broker against the machine's floors.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// One workload against a broker that runs: rate, latencies to p99.999, and what speaks against the figures
    Load(lab::load_command::Arguments),
    /// The least that a produce path on glommio costs: serves one connection until killed
    FloorRuntime(floor::Arguments),
    /// The least that a produce path on io_uring costs: serves one connection until killed
    FloorRaw(floor::Arguments),
    /// The broker's produce path beside both floors
    ProduceFloors(produce_floors::Arguments),
    /// Flushed produce to one and to many partitions at the same rate
    FlushedPartitions(flushed_partitions::Arguments),
    /// Memory of idle partitions
    IdlePartitions(idle_partitions::Arguments),
    /// Time to `ready` with a full store, after a clean stop and after a kill
    StartTime(start_time::Arguments),
    /// Disk that mixed lifetimes take over time, and what is written for each byte, by cause
    SpaceOverTime(space::over_time::Arguments),
    /// Reading what the cleaner put together: partitions of many beside a log of one, and the memory of the index
    CleanedReads(space::reads::Arguments),
    /// Fetching the tail beside sending the same bytes from one buffer
    TailFetch(tail_fetch::Arguments),
    /// Sends the same bytes to every request: the floor of tail-fetch; serves until killed
    FloorSend(tail_fetch::FloorArguments),
    /// Two shards as two nodes and as one
    SingleVsPerCore(advertise_modes::Arguments),
    /// Offset commits of one shard's coordinators
    GroupCommits(groups::commits::Arguments),
    /// What committed offsets take once they were compacted, and how soon coordinators answer after a start
    CompactedOffsets(groups::compacted::Arguments),
    /// Time in which a large group settles its first generation
    GroupJoin(groups::join::Arguments),
    /// Memory of groups that nobody uses
    IdleGroups(groups::idle::Arguments),
    /// CPU of many members' heartbeats
    GroupHeartbeats(groups::heartbeats::Arguments),
    /// One HTML page from saved runs of the load lab, or two of them compared
    Report(lab::report::Arguments),
    /// Puts one workload on servers that the lab starts itself, in turn
    Run(lab::suite::run_command::Arguments),
    /// Runs a suite of workloads, or lists what it would run
    Suite(lab::suite::suite_command::Arguments),
    /// Starts a server as the lab does, for tools of one's own, and tells what it spent
    Target(lab::target::hold::Arguments),
    /// Writes down what a server on this host spends while a lab elsewhere loads it
    Observe(lab::measure::observe::Arguments),
    /// What this machine can do at most: disk, loopback, memory, checksums
    Probe(lab::probe::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().benchmark) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelane-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(benchmark: Benchmark) -> Result<(), Box<dyn Error>> {
    match benchmark {
        Benchmark::Load(arguments) => lab::load_command::run(&arguments),
        Benchmark::FloorRuntime(arguments) => floor::runtime::run(&arguments),
        Benchmark::FloorRaw(arguments) => floor::raw::run(&arguments),
        Benchmark::ProduceFloors(arguments) => produce_floors::run(&arguments),
        Benchmark::FlushedPartitions(arguments) => flushed_partitions::run(&arguments),
        Benchmark::IdlePartitions(arguments) => idle_partitions::run(&arguments),
        Benchmark::StartTime(arguments) => start_time::run(&arguments),
        Benchmark::TailFetch(arguments) => tail_fetch::run(&arguments),
        Benchmark::FloorSend(arguments) => tail_fetch::run_floor(&arguments),
        Benchmark::SingleVsPerCore(arguments) => advertise_modes::run(&arguments),
        Benchmark::SpaceOverTime(arguments) => space::over_time::run(&arguments),
        Benchmark::CleanedReads(arguments) => space::reads::run(&arguments),
        Benchmark::GroupCommits(arguments) => groups::commits::run(&arguments),
        Benchmark::CompactedOffsets(arguments) => groups::compacted::run(&arguments),
        Benchmark::GroupJoin(arguments) => groups::join::run(&arguments),
        Benchmark::IdleGroups(arguments) => groups::idle::run(&arguments),
        Benchmark::GroupHeartbeats(arguments) => groups::heartbeats::run(&arguments),
        Benchmark::Report(arguments) => lab::report::run(&arguments),
        Benchmark::Run(arguments) => lab::suite::run_command::run(&arguments),
        Benchmark::Suite(arguments) => lab::suite::suite_command::run(&arguments),
        Benchmark::Target(arguments) => lab::target::hold::run(&arguments),
        Benchmark::Observe(arguments) => lab::measure::observe::run(&arguments),
        Benchmark::Probe(arguments) => lab::probe::run(&arguments),
    }
}
