//! The configstream programs: the core agent, its tools, and the documented test client.

#![forbid(unsafe_code)]

mod atomic_file;
pub mod backend;
pub mod claim;
pub mod cli;
pub mod command_line;
pub mod credentials;
pub mod duration;
pub mod environment;
pub mod exit;
pub mod granted;
pub mod guides;
pub mod http;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
pub mod json;
pub mod known;
mod last_changed;
pub mod listen;
pub mod log;
mod narration;
mod open_files;
pub mod persisted;
pub mod problems;
pub mod recent;
pub mod resolver;
pub mod run;
pub mod run_dir;
pub mod scalar;
pub mod secrets;
pub mod sequence_file;
pub mod service_manager;
pub mod sources;
pub mod status;
pub mod telemetry;
pub mod test_client;
pub mod yaml;
