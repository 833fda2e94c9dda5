//! The core agent and its tools.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    configstream_agent::cli::main(std::env::args_os().collect())
}
