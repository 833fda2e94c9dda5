//! The configstream programs: the core agent, its tools, and the documented test client.

#![forbid(unsafe_code)]

pub mod credentials;
pub mod duration;
pub mod exit;
pub mod run_dir;
pub mod sequence_file;
