//! What benches measure and fuzz targets call: behind the feature `internals`, and without any
//! promise.

use std::borrow::Cow;

use bytes::Bytes;
use configstream_engine::{Update, Version, settings::Resolution};
use configstream_proto::datadog::model::v1::{ConfigEvent, ConfigSnapshot, config_event::Event};
use prost::Message;

use crate::{
    convert::ToProto,
    encode::{Encoder, wire_sequence},
};

pub use crate::consumer::replay::{Replay, over_the_wire, saved_file, saved_snapshot};

/// The frames of one server.
#[derive(Debug)]
pub struct Frames(Encoder);

impl Frames {
    /// Of a server that describes this.
    #[must_use]
    pub fn of(origin: &str) -> Self {
        Self(Encoder::new(origin.into(), usize::MAX))
    }

    /// As a stream gets it: made once for a version.
    #[must_use]
    pub fn snapshot<S: Resolution>(&self, version: &Version<S>) -> Option<Bytes> {
        self.0.snapshot(version).ok().map(Cow::into_owned)
    }

    /// As a stream gets it: made once for an update.
    #[must_use]
    pub fn update<S: Resolution>(&self, update: &Update<S>) -> Option<Bytes> {
        self.0.update(update).ok().map(Cow::into_owned)
    }

    /// A snapshot built of the generated types and encoded, as one does without memos. Not framed.
    #[must_use]
    pub fn naive_snapshot<S: Resolution>(&self, version: &Version<S>) -> Option<Vec<u8>> {
        let settings = version.state().resolved().iter();
        let snapshot = ConfigSnapshot {
            origin: self.0.origin().to_owned(),
            sequence_id: i32::try_from(wire_sequence(version.sequence()).ok()?).ok()?,
            settings: settings.map(|setting| setting.to_proto()).collect(),
            epoch: version.epoch().get(),
        };
        let event = ConfigEvent {
            event: Some(Event::Snapshot(snapshot)),
        };
        Some(event.encode_to_vec())
    }
}
