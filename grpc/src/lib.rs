//! The thin adapter between the configstream engine and gRPC.
#![forbid(unsafe_code)]

mod address;
mod client;
mod consumer;
mod convert;
mod encode;
mod metrics;
mod server;
mod status;
mod tls;
mod token;

pub use address::{Address, AddressError};
pub use client::{
    Client, ConfigEvent, ConfigSnapshot, ConfigUpdate, ConnectError, Connector, Events, Session,
    StreamError,
};
pub use consumer::{Consumer, ConsumerBuilder, ConsumerEvent, Disconnection};
pub use server::{
    AdminBackend, AdminError, AgentReport, Explanation, HostStatus, Limits, Listener, Registration,
    Server, ServerBuilder, ServerHandle, ServerObserver, ServerStats, Sessions, SourceReport,
    StreamReport,
};
pub use tls::{Identity, IdentityError};
pub use token::{Token, TokenError};
