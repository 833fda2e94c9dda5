//! The documented test client.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    configstream_agent::test_client::main(std::env::args_os().collect())
}
