//! `corelane log stats|verify`: what takes space in data directories, and whether every byte of them that counts is what was
//! written. Reads alone, also while a broker runs on them.

mod bytes;
mod names;
mod progress;
mod stats;
mod verify;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};

use self::stats::StatsArguments;
use self::verify::{Verdict, VerifyArguments};
use crate::runtime::glommio::raise_file_limit;
use crate::runtime::meter::Meter;
use crate::runtime::read_only::{ReadOnlyRuntime, block_on};
use crate::server::data_directory::{DirectoryError, ShardDirectory, shards_in};
use crate::store::StoreOptions;
use crate::store::inspect::{InspectError, Inspection};

/// Memory for footers that are read again and again, in bytes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Options of `corelane log`.
#[derive(Args, Debug)]
pub(super) struct LogArguments {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Print which topics and segments take how much space, and what the cleaner would do about it
    Stats(StatsArguments),
    /// Read all that counts and list what is damaged; exits with 1 if anything is, with 2 if it could not look
    Verify(VerifyArguments),
}

/// The directories to look at.
#[derive(Args, Debug)]
struct DataArguments {
    /// Data directory, as given to `serve`; may repeat. Its broker may be running
    #[arg(long, value_name = "DIR", default_value = "./data", num_args = 1..)]
    data: Vec<PathBuf>,
}

/// Why a command could not look.
#[derive(Debug, thiserror::Error)]
enum LogError {
    /// A directory is not what it should be.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A store cannot be looked at.
    #[error("{}: {cause}", path.display())]
    Inspect { path: PathBuf, cause: InspectError },
    /// A file of a store cannot be read.
    #[error("{}: {cause}", path.display())]
    Read { path: PathBuf, cause: String },
    /// No thread, or no more open files.
    #[error("cannot {action}: {cause}")]
    System { action: &'static str, cause: io::Error },
    /// Stdout took nothing more.
    #[error("cannot write to stdout: {0}")]
    Output(#[from] io::Error),
}

/// A store of a shard, and where it lies.
struct Shard {
    found: ShardDirectory,
    inspection: Inspection<ReadOnlyRuntime>,
}

/// Runs one of the commands. Codes: 0 for well, 1 for damage, 2 when it could not look.
pub(super) fn run(arguments: &LogArguments) -> ExitCode {
    let outcome = match &arguments.command {
        LogCommand::Stats(options) => stats::run(options).map(|()| Verdict::Well),
        LogCommand::Verify(options) => verify::run(options),
    };
    match outcome {
        Ok(Verdict::Well) => ExitCode::SUCCESS,
        Ok(Verdict::Damaged) => ExitCode::from(1),
        Ok(Verdict::Unseen) => ExitCode::from(2),
        // A reader that has seen enough, as in `| head`.
        Err(LogError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corelane: {error}");
            ExitCode::from(2)
        }
    }
}

impl DataArguments {
    /// The shards that there are. Each of their files will be held open.
    fn shards(&self) -> Result<Vec<ShardDirectory>, LogError> {
        raise_file_limit().map_err(|cause| LogError::System { action: "raise the file limit", cause })?;
        Ok(shards_in(&self.data)?)
    }
}

/// Looks at a shard's store, reading by `meter`.
fn inspect(
    found: &ShardDirectory,
    meter: &Arc<Meter>,
    accept_loss: bool,
) -> Result<Inspection<ReadOnlyRuntime>, InspectError> {
    let options = StoreOptions::new(found.shard, found.path.clone(), CACHE_BYTES, found.budget_bytes);
    block_on(Inspection::open(ReadOnlyRuntime::new(Arc::clone(meter)), StoreOptions { accept_loss, ..options }))
}
