//! A replica that takes the bytes of events without a connection, for fuzzing: see
//! [`crate::internals`].

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use configstream_engine::settings::{Resolved, Value};
use configstream_engine::{Engine, Version};
use configstream_proto::datadog::model::v1::ConfigEvent as ConfigEventMessage;
use prost::Message;

use crate::client::{ConfigSnapshot, Progress};
use crate::consumer::follower::Follower;
use crate::consumer::replica::Replica;
use crate::consumer::saved;
use crate::convert::{ToProto, value_from_proto};

/// A replica, and the stream that feeds it. It checks and applies events with the consumer's own
/// code.
#[allow(missing_debug_implementations)]
pub struct Replay {
    replica: Arc<Replica>,
    stream: Option<(Progress, Follower)>,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            replica: Arc::new(Replica::new(RING_CAPACITY)),
            stream: None,
        }
    }
}

impl Replay {
    /// Decodes one `ConfigEvent`, checks it and applies it. After an error the next event begins a
    /// new stream.
    ///
    /// # Errors
    /// What the consumer would report as the cause of its disconnection.
    pub fn feed(&mut self, event: &[u8]) -> Result<(), String> {
        let (mut progress, mut follower) = self
            .stream
            .take()
            .unwrap_or_else(|| (Progress::default(), Follower::new(self.replica.clone())));
        let message = ConfigEventMessage::decode(event).map_err(|error| error.to_string())?;
        let event = progress.check(message).map_err(|error| error.to_string())?;
        follower.take(event).map_err(|error| error.to_string())?;
        self.stream = Some((progress, follower));
        Ok(())
    }

    /// What the replica holds; `None` before the first snapshot.
    #[must_use]
    pub fn head(&self) -> Option<Arc<Version<Resolved>>> {
        self.replica.engine().map(Engine::head)
    }
}

/// Reads the bytes of a saved snapshot's file.
///
/// # Errors
/// Why the file is refused.
pub fn saved_snapshot(file: &[u8]) -> Result<ConfigSnapshot, String> {
    saved::parse(file)
        .map(|(snapshot, _)| snapshot)
        .map_err(|reason| format!("{reason:?}"))
}

/// The bytes of a file that holds `message`, with the right length and checksum.
///
/// # Errors
/// `message` is longer than a file can be.
pub fn saved_file(message: &[u8]) -> io::Result<Vec<u8>> {
    let mut file = saved::head(message, SystemTime::UNIX_EPOCH)?;
    file.extend(message);
    Ok(file)
}

/// A value as a reader receives it over the wire.
///
/// # Errors
/// Why a reader refuses it.
pub fn over_the_wire(value: &Value) -> Result<Value, String> {
    let message = prost_types::Value::decode(value.to_proto().encode_to_vec().as_slice());
    let message = message.map_err(|error| error.to_string())?;
    value_from_proto(message).map_err(|error| error.to_string())
}

const RING_CAPACITY: usize = 16;
