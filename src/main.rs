//! The `corelane` binary: reads the command line and runs one command.

use std::process::ExitCode;

fn main() -> ExitCode {
    corelane::cli::run()
}
