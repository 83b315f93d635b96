//! `corelane group list|describe|reset|delete`: consumer groups of both protocols, of any Kafka-compatible cluster.

mod coordinator;
mod describe;
mod reset;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::json;

use self::describe::DescribeArguments;
use self::reset::ResetArguments;
use super::client::{BootstrapArguments, Client, ClientError};
use super::output::{Format, FormatArguments, write_table};

/// Options of `corelane group`.
#[derive(Args, Debug)]
pub(super) struct GroupArguments {
    #[command(flatten)]
    bootstrap: BootstrapArguments,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// Print all groups with their state
    List(FormatArguments),
    /// Print lag, rates and owner of each partition
    Describe(DescribeArguments),
    /// Move what a group without members committed; only tells what it would do unless given --execute
    Reset(ResetArguments),
    /// Delete groups without members, and what they committed
    Delete(DeleteArguments),
}

#[derive(Args, Debug)]
struct DeleteArguments {
    /// Names of the groups
    #[arg(required = true)]
    names: Vec<String>,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    /// The cluster could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody joined or committed by this name.
    #[error("there is no group {0}; `corelane group list` names those there are")]
    NoGroup(String),
    /// Commits of a group with members are the members' to make.
    #[error("group {name} has members (it is {state}); stop them before its offsets are reset")]
    HasMembers { name: String, state: String },
    /// `reset` was given something that is not there.
    #[error("{0}")]
    Reset(String),
    /// Some groups were refused; each was named on stderr.
    #[error("{failed} of {all} groups were not deleted")]
    Partly { failed: usize, all: usize },
    /// Stdout took nothing more.
    #[error("cannot write to stdout: {0}")]
    Output(#[from] io::Error),
}

/// Runs one of the commands.
pub(super) fn run(arguments: &GroupArguments) -> Result<(), GroupError> {
    let mut client = Client::connect(&arguments.bootstrap.bootstrap)?;
    let outcome = match &arguments.command {
        GroupCommand::List(options) => list(&mut client, options.format),
        GroupCommand::Describe(options) => describe::run(&mut client, options),
        GroupCommand::Reset(options) => reset::run(&mut client, options),
        GroupCommand::Delete(options) => delete(&mut client, &options.names),
    };
    match outcome {
        // A reader that has seen enough, as in `| head`.
        Err(GroupError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

fn list(client: &mut Client, format: Format) -> Result<(), GroupError> {
    let groups = coordinator::list(client)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    match format {
        Format::Text => {
            let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let mut rows = vec![["group", "protocol", "state", "type"].map(str::to_owned)];
            rows.extend(groups.iter().map(|group| {
                [group.name.clone(), or_dash(&group.kind), or_dash(&group.state), or_dash(&group.protocol_type)]
            }));
            write_table(&mut out, &rows)?;
        }
        Format::Json => {
            let rows = groups.iter().map(|group| {
                json!({
                    "group": group.name,
                    "protocol": group.kind,
                    "state": group.state,
                    "type": group.protocol_type,
                })
            });
            writeln!(out, "{}", serde_json::Value::from_iter(rows))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn delete(client: &mut Client, names: &[String]) -> Result<(), GroupError> {
    let mut failed = 0;
    for name in names {
        match coordinator::delete(client, name) {
            Ok(()) => writeln!(io::stdout(), "group {name} deleted")?,
            Err(error @ ClientError::Refused { .. }) => {
                failed += 1;
                eprintln!("corelane: {error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    if failed == 0 { Ok(()) } else { Err(GroupError::Partly { failed, all: names.len() }) }
}
