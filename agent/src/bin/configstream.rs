//! The core agent and its tools.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// What a publish takes is given back by the threads that serve connections, which costs less with this one than with the C
/// library's. Figures: `configstream_grpc::docs::performance`.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    configstream_agent::cli::main(std::env::args_os().collect())
}
