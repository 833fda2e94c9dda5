//! Settings over gRPC: a thin adapter between the configstream engine and the wire.
//!
//! # Contract
//! * **Order and loss** are the engine's: a stream starts with a complete snapshot, goes on with each sequence, and is
//!   repaired by a snapshot when its reader falls behind. Nothing here decides about either.
//! * **Ending.** A stream never ends with OK: `PermissionDenied` when its session has gone, `Unavailable` otherwise.
//! * **Trust.** TLS 1.3 with one certificate, pinned on both sides, and proof of its key; a token on every call but one; a
//!   live session for every stream.
//! * **Bounds.** Connections, handshakes, streams, sessions, headers, messages and buffers are bounded: see [`Limits`]
//!   and [`Sessions`], which [`ServerBounds`] changes while the server runs. A connection costs a
//!   ring and a window of updates, a stream one piece of a frame, and frames are shared.
//!
//! # The parts
//! * [`Server`] offers an [`Engine`](configstream_engine::Engine) of settings, or a replica's, on TCP and Unix sockets.
//! * [`Connector`] and [`Client`] make single calls; [`Events`] is one stream, checked.
//! * [`Consumer`] is a replica that heals by itself: see [`consumer`].
//! * [`Identity`] and [`Token`] are what both sides share.
//!
//! Metrics go through the `metrics` facade, log lines through `tracing`; the host picks where they end up, and installs
//! its recorder before it builds a [`Server`].
//!
//! # Examples
//!
//! ```
//! use configstream_engine::{Engine, settings::{Change, Key, Settings, Source}};
//! use configstream_grpc::{Connector, Consumer, Identity, Registration, Server, Token};
//! use std::time::Duration;
//!
//! # async fn example(identity: Identity, token: Token) -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::builder(Settings::new()).build()?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?.to_string().parse()?;
//! let server = Server::builder(engine.clone(), identity.clone(), token.clone()).build().serve_tcp(listener);
//!
//! let connector = Connector::new(address, &identity, token);
//! let consumer = Consumer::builder(connector, Registration::new("example")).start();
//! consumer.wait_ready(Duration::from_secs(5)).await?;
//! engine.publish(&Change::set(Source::File, Key::parse("log.level")?, "debug"))?;
//! let mut changes = consumer.subscribe_section("log")?;
//! while let Some(change) = changes.next().await {
//!     for setting in &change.set {
//!         println!("{} = {} as of {}", setting.key(), setting.value(), change.sequence);
//!     }
//! }
//! server.shutdown(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod address;
mod client;
pub mod consumer;
mod convert;
pub mod docs;
mod encode;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
#[doc(hidden)]
pub mod lock;
mod metrics;
mod printable;
pub mod safe_file;
mod server;
mod status;
mod tls;
mod token;

pub use address::{Address, AddressError};
pub use client::{
    Client, ConfigEvent, ConfigSnapshot, ConfigUpdate, ConnectError, Connector, Events, Session,
    StreamError,
};
pub use consumer::Consumer;
pub use printable::{Printable, is_printable, printable};
pub use server::{
    AUDIT_LOG, AdminBackend, AdminError, AgentReport, Applied, ChangeRequest, Conditions,
    Difference, Edit, Explanation, HostStatus, Limits, Listener, Registration, Replaced, Server,
    ServerBounds, ServerBuilder, ServerCredentials, ServerHandle, ServerObserver, ServerStats,
    Sessions, SourceReport, StreamReport, UnixTransport,
};
pub use tls::{Identity, IdentityError};
pub use token::{Token, TokenError};
