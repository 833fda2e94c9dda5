//! A stream of events as the other side receives it: typed, and checked.
//!
//! # Contract
//! * The first event is a snapshot. The update after a snapshot at n, or after update n, is exactly n + 1. A later
//!   snapshot in the same epoch is beyond all that came before.
//! * Whatever breaks this is an error, not an event, and the stream is over: its reader has to start again.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use configstream_engine::settings::{Key, Setting, SettingUpdate, Source};
use configstream_engine::{Epoch, Sequence};
use configstream_proto::datadog::model::v1 as proto;
use configstream_proto::datadog::model::v1::config_event::Event;
use futures_util::{Stream, StreamExt};
use tonic::{Status, Streaming};

use crate::client::received::Received;
use crate::convert::value_from_proto;

/// The events of one stream.
#[derive(Debug)]
#[must_use = "dropping the events ends the stream"]
pub struct Events {
    messages: Streaming<proto::ConfigEvent>,
    received: Received,
    progress: Progress,
    over: bool,
}

/// What a subscriber receives over the wire.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConfigEvent {
    /// Every setting as of one sequence.
    Snapshot(ConfigSnapshot),
    /// One changed setting.
    Update(ConfigUpdate),
}

/// Every setting as of one sequence.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConfigSnapshot {
    /// The configuration described.
    pub origin: String,
    /// In which epoch the sequence counts; [`Epoch::NONE`] from a server that knows no epochs.
    pub epoch: Epoch,
    /// As of which sequence.
    pub sequence: Sequence,
    /// As the server sent them: by key.
    pub settings: Vec<Arc<Setting>>,
}

/// One changed setting.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConfigUpdate {
    /// The configuration described.
    pub origin: String,
    /// One more than that of the event before.
    pub sequence: Sequence,
    /// What wins now, and which layer was cleared, if that is what happened.
    pub update: SettingUpdate,
    /// How many updates of the same batch follow.
    pub batch_remaining: u32,
}

/// Why there are no more events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StreamError {
    /// The server ended the stream, or the connection broke.
    Status(Status),
    /// The server ended the stream and gave no reason.
    EndedQuietly,
    /// The first event was an update.
    NoSnapshot,
    /// An update did not follow what came before it.
    Discontinuity {
        /// The sequence it should have had.
        expected: Sequence,
        /// The sequence it had.
        found: Sequence,
    },
    /// A later snapshot led back.
    Backwards {
        /// The sequence already reached.
        reached: Sequence,
        /// The snapshot's.
        found: Sequence,
    },
    /// A negative sequence.
    NegativeSequence(i32),
    /// An event that is neither snapshot nor update, or an update without a setting.
    Empty,
    /// A setting that is none.
    Setting {
        /// Its key, as it was sent.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Events {
    pub(crate) fn new(messages: Streaming<proto::ConfigEvent>, received: Received) -> Self {
        Self {
            messages,
            received,
            progress: Progress::default(),
            over: false,
        }
    }

    /// The next event. After an error there is none: it is the last thing to come.
    ///
    /// # Errors
    /// See [`StreamError`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<ConfigEvent, StreamError> {
        StreamExt::next(self)
            .await
            .unwrap_or(Err(StreamError::EndedQuietly))
    }

    /// How long ago bytes of the stream last arrived, or since when it is open. One event can be
    /// many megabytes, which a slow link takes minutes for: a timeout on an event had better
    /// measure this than the wait. Bytes arrive in pieces of up to 16 KiB, and are seen only while
    /// [`next`](Self::next) is polled.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.received.silence()
    }

    pub(crate) fn received(&self) -> &Received {
        &self.received
    }
}

impl Stream for Events {
    type Item = Result<ConfigEvent, StreamError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let event = match ready!(this.messages.poll_next_unpin(cx)) {
            Some(Ok(message)) => this.progress.check(message),
            Some(Err(status)) => Err(StreamError::Status(status)),
            None => Err(StreamError::EndedQuietly),
        };
        this.over = event.is_err();
        Poll::Ready(Some(event))
    }
}

impl ConfigEvent {
    /// The sequence reached with this event.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        match self {
            Self::Snapshot(snapshot) => snapshot.sequence,
            Self::Update(update) => update.sequence,
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{:?}: {}", status.code(), status.message()),
            Self::EndedQuietly => f.write_str("the server ended the stream without a reason"),
            Self::NoSnapshot => f.write_str("the first event was not a snapshot"),
            Self::Discontinuity { expected, found } => {
                write!(f, "update {found} came where {expected} was due")
            }
            Self::Backwards { reached, found } => {
                write!(f, "a snapshot at {found} came after {reached}")
            }
            Self::NegativeSequence(found) => write!(f, "the sequence {found} is negative"),
            Self::Empty => f.write_str("an event was empty"),
            Self::Setting { key, reason } => write!(f, "the setting '{key}' cannot be: {reason}"),
        }
    }
}

impl Error for StreamError {}

/// How far a stream has got.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    reached: Option<(Epoch, Sequence)>,
}

impl Progress {
    pub(crate) fn check(
        &mut self,
        message: proto::ConfigEvent,
    ) -> Result<ConfigEvent, StreamError> {
        match message.event.ok_or(StreamError::Empty)? {
            Event::Snapshot(snapshot) => self.check_snapshot(snapshot).map(ConfigEvent::Snapshot),
            Event::Update(update) => self.check_update(update).map(ConfigEvent::Update),
        }
    }

    fn check_snapshot(
        &mut self,
        message: proto::ConfigSnapshot,
    ) -> Result<ConfigSnapshot, StreamError> {
        let (epoch, sequence) = (
            Epoch::new(message.epoch),
            read_sequence(message.sequence_id)?,
        );
        if let Some((current, reached)) = self.reached
            && current == epoch
            && sequence <= reached
        {
            return Err(StreamError::Backwards {
                reached,
                found: sequence,
            });
        }
        let settings = message
            .settings
            .into_iter()
            .map(|setting| Ok(Arc::new(read_setting(setting)?)));
        let settings = settings.collect::<Result<Vec<_>, _>>()?;
        self.reached = Some((epoch, sequence));
        Ok(ConfigSnapshot {
            origin: message.origin,
            epoch,
            sequence,
            settings,
        })
    }

    fn check_update(&mut self, message: proto::ConfigUpdate) -> Result<ConfigUpdate, StreamError> {
        let found = read_sequence(message.sequence_id)?;
        let (epoch, reached) = self.reached.ok_or(StreamError::NoSnapshot)?;
        let expected = reached.next();
        if found != expected {
            return Err(StreamError::Discontinuity { expected, found });
        }
        let setting = message.setting.ok_or(StreamError::Empty)?;
        let unset = match &setting.unset_source {
            None => None,
            Some(name) => Some(read_source(name, &setting.key)?),
        };
        let update = SettingUpdate::new(read_setting(setting)?, unset);
        self.reached = Some((epoch, found));
        Ok(ConfigUpdate {
            origin: message.origin,
            sequence: found,
            update,
            batch_remaining: message.batch_remaining,
        })
    }
}

fn read_sequence(sequence: i32) -> Result<Sequence, StreamError> {
    u64::try_from(sequence)
        .map(Sequence::new)
        .map_err(|_| StreamError::NegativeSequence(sequence))
}

fn read_setting(message: proto::ConfigSetting) -> Result<Setting, StreamError> {
    let source = read_source(&message.source, &message.key)?;
    let key = Key::parse(&message.key).map_err(|error| bad_setting(&message.key, error))?;
    let value = value_from_proto(message.value.unwrap_or_default());
    let value = value.map_err(|error| bad_setting(&message.key, error))?;
    Setting::new(source, key, value).map_err(|error| bad_setting(&message.key, error))
}

fn read_source(name: &str, key: &str) -> Result<Source, StreamError> {
    name.parse()
        .map_err(|error: configstream_engine::settings::UnknownSource| bad_setting(key, error))
}

fn bad_setting(key: &str, reason: impl fmt::Display) -> StreamError {
    StreamError::Setting {
        key: key.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::ToProto;
    use configstream_engine::settings::Value;

    fn snapshot(epoch: u64, sequence_id: i32) -> proto::ConfigEvent {
        let snapshot = proto::ConfigSnapshot {
            origin: "o".into(),
            sequence_id,
            settings: vec![setting()],
            epoch,
        };
        proto::ConfigEvent {
            event: Some(Event::Snapshot(snapshot)),
        }
    }

    fn update(sequence_id: i32) -> proto::ConfigEvent {
        update_of(sequence_id, Some(setting()))
    }

    fn update_of(sequence_id: i32, setting: Option<proto::ConfigSetting>) -> proto::ConfigEvent {
        let update = proto::ConfigUpdate {
            origin: "o".into(),
            sequence_id,
            setting,
            batch_remaining: 0,
        };
        proto::ConfigEvent {
            event: Some(Event::Update(update)),
        }
    }

    fn setting() -> proto::ConfigSetting {
        Setting::new(Source::File, Key::parse("a.b").unwrap(), Value::Int(1))
            .unwrap()
            .to_proto()
    }

    /// What becomes of the last of `events`, all before which are fine.
    fn last(events: &[proto::ConfigEvent]) -> Result<ConfigEvent, StreamError> {
        let mut progress = Progress::default();
        let (last, before) = events.split_last().unwrap();
        for event in before {
            progress.check(event.clone()).unwrap();
        }
        progress.check(last.clone())
    }

    #[test]
    fn each_event_follows_the_one_before() {
        let event = last(&[
            snapshot(1, 5),
            update(6),
            update(7),
            snapshot(1, 20),
            update(21),
        ])
        .unwrap();
        assert_eq!(event.sequence(), Sequence::new(21));
        last(&[snapshot(1, 5), snapshot(2, 1), update(2)]).unwrap();
    }

    #[test]
    fn what_does_not_follow_is_an_error() {
        let error = |events: &[proto::ConfigEvent]| last(events).unwrap_err();
        assert!(matches!(error(&[update(1)]), StreamError::NoSnapshot));
        for wrong in [4, 5, 7] {
            let StreamError::Discontinuity { expected, found } =
                error(&[snapshot(1, 5), update(wrong)])
            else {
                panic!("{wrong}")
            };
            assert_eq!(
                (expected.get(), found.get()),
                (6, u64::try_from(wrong).unwrap())
            );
        }
        assert!(matches!(
            error(&[snapshot(1, 5), update(6), snapshot(1, 6)]),
            StreamError::Backwards { .. }
        ));
        assert!(matches!(
            error(&[snapshot(1, -1)]),
            StreamError::NegativeSequence(-1)
        ));
        assert!(matches!(
            error(&[proto::ConfigEvent { event: None }]),
            StreamError::Empty
        ));
        assert!(matches!(
            error(&[snapshot(1, 5), update_of(6, None)]),
            StreamError::Empty
        ));
    }

    #[test]
    fn a_setting_that_is_none_is_named() {
        let cases = [
            proto::ConfigSetting {
                value: None,
                ..setting()
            },
            proto::ConfigSetting {
                source: "nowhere".into(),
                ..setting()
            },
            proto::ConfigSetting {
                unset_source: Some("nowhere".into()),
                ..setting()
            },
            proto::ConfigSetting {
                key: "A B".into(),
                ..setting()
            },
        ];
        for wrong in cases {
            let name = wrong.key.clone();
            let error = last(&[snapshot(1, 5), update_of(6, Some(wrong))]).unwrap_err();
            assert!(
                matches!(&error, StreamError::Setting { key, .. } if *key == name),
                "{error}"
            );
        }
    }
}
