//! The whole of it: the real programs over real sockets, from a changed file to a client that has it.
//!
//! One module per behaviour. What clients see comes from `configstream watch --json` and `config-stream-client` where
//! the programs matter, and from the client of `configstream-grpc` where a status has to be looked at.

#[path = "../support/mod.rs"]
mod support;

mod authentication;
mod bad_input;
mod file_reload;
mod lifecycle;
mod log;
mod own_settings;
mod peer;
mod persisted;
mod proxy;
mod restart;
mod runtime_changes;
mod service_manager;
mod sessions;
mod slow_client;
mod telemetry;
mod test_client;
mod thousand;
mod verbs;
mod view;
mod wait;
mod watching;
