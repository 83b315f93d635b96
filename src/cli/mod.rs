//! The command line: `serve`, small tools for topics, groups and records that speak Kafka's protocol to any broker, and `log`,
//! which looks at what a broker of ours has on disk.
//!
//! Results go to stdout, everything else to stderr. An error is one line that says what to do.

mod client;
mod consume;
mod group;
mod log;
mod output;
mod produce;
mod serve;
mod topic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The version and where the build came from: see `build.rs`.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CORELANE_COMMIT"), ")");

/// A Kafka-compatible broker for Linux: io_uring, thread per core, one log per core.
#[derive(Debug, Parser)]
#[command(version = VERSION, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    Serve(serve::ServeArguments),
    /// Create, list, describe or delete topics
    Topic(topic::TopicArguments),
    /// List, describe, reset or delete consumer groups
    Group(group::GroupArguments),
    /// Send lines from stdin, one record each
    Produce(produce::ProduceArguments),
    /// Print records
    Consume(consume::ConsumeArguments),
    /// Show what takes space in data directories, or read every byte of them that counts
    Log(log::LogArguments),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments).map_err(|error| error.to_string()),
        Command::Topic(arguments) => topic::run(&arguments).map_err(|error| error.to_string()),
        Command::Group(arguments) => group::run(&arguments).map_err(|error| error.to_string()),
        Command::Produce(arguments) => produce::run(&arguments).map_err(|error| error.to_string()),
        Command::Consume(arguments) => consume::run(&arguments).map_err(|error| error.to_string()),
        Command::Log(arguments) => return log::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("corelane: {message}");
            ExitCode::FAILURE
        }
    }
}
