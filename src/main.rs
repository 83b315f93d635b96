//! The `corelane` binary: reads the command line and runs one command.

use std::process::ExitCode;

use corelane::runtime::block_memory::BlockMemory;

#[global_allocator]
static ALLOCATOR: BlockMemory = BlockMemory;

fn main() -> ExitCode {
    corelane::cli::run()
}
