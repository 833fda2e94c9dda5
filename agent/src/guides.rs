//! The guides that hold Rust, so that their code is compiled.
//!
//! The others stand beside them in `agent/guides`.

#[doc = include_str!("../guides/remote-agent-rust.md")]
pub mod remote_agent_rust {}
