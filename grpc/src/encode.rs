//! Events as bytes, each made once however many streams send it.
//!
//! A setting's message is kept in the setting's memo, an update's frame in the update's, a snapshot's in the
//! version's. So an update costs one encoding whatever the number of streams, and a snapshot after one changed setting
//! costs one setting's encoding and a concatenation. A *frame* is a whole gRPC message, its five bytes of prefix
//! included: what a stream puts into a body as it is.
//!
//! The bytes are those that the generated types would encode to; a test compares them.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use configstream_engine::settings::{Resolution, Setting, SettingUpdate};
use configstream_engine::{Epoch, Memo, Sequence, State, Update, Version};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::convert::ToProto;
use crate::status::Refusal;

/// Makes frames for one origin.
#[derive(Debug)]
pub(crate) struct Encoder {
    origin: Arc<str>,
    limit: usize,
    snapshots: AtomicU64,
    updates: AtomicU64,
    settings: AtomicU64,
}

/// How many encodings were made so far. A memo that was filled already is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) snapshots: u64,
    pub(crate) updates: u64,
    pub(crate) settings: u64,
}

impl Encoder {
    /// `origin` is not empty; `limit` is the size of a message in bytes.
    pub(crate) fn new(origin: Arc<str>, limit: usize) -> Self {
        debug_assert!(!origin.is_empty());
        Self {
            origin,
            limit,
            snapshots: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            settings: AtomicU64::new(0),
        }
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn made(&self) -> Made {
        // Relaxed, all: statistics.
        Made {
            snapshots: self.snapshots.load(Ordering::Relaxed),
            updates: self.updates.load(Ordering::Relaxed),
            settings: self.settings.load(Ordering::Relaxed),
        }
    }

    /// The frame of a version as a snapshot. Cost when it is the first of its version: one concatenation.
    pub(crate) fn snapshot<'v, S: Resolution>(
        &self,
        version: &'v Version<S>,
    ) -> Result<Cow<'v, Bytes>, Refusal> {
        self.once(version.memo(), || {
            let frame = self.make_snapshot(version.sequence(), version.epoch(), version.state())?;
            self.snapshots.fetch_add(1, Ordering::Relaxed);
            Ok(frame)
        })
    }

    /// Likewise, kept nowhere: the place is for who serves the version.
    pub(crate) fn snapshot_apart<S: Resolution>(
        &self,
        version: &Version<S>,
    ) -> Result<Bytes, Refusal> {
        self.make_snapshot(version.sequence(), version.epoch(), version.state())
    }

    /// The frame of an update.
    pub(crate) fn update<'u, S: State<Update = SettingUpdate>>(
        &self,
        update: &'u Update<S>,
    ) -> Result<Cow<'u, Bytes>, Refusal> {
        self.once(update.memo(), || {
            let frame = self.make_update(update.sequence(), update.batch_remaining(), update)?;
            self.updates.fetch_add(1, Ordering::Relaxed);
            Ok(frame)
        })
    }

    /// What the memo holds, or what `make` makes of it. Streams that come while one makes it wait for that one. Borrowed,
    /// since streams on several threads that count references to one frame are in each other's way.
    fn once<'m>(
        &self,
        memo: &'m Memo,
        make: impl Fn() -> Result<Bytes, Refusal>,
    ) -> Result<Cow<'m, Bytes>, Refusal> {
        let kept = memo.get_or_init(|| Kept {
            origin: self.origin.clone(),
            limit: self.limit,
            frame: make(),
        });
        // Another server over the same engine may describe it under another origin, or allow for less.
        if *kept.origin == *self.origin && kept.limit == self.limit {
            kept.frame.as_ref().map(Cow::Borrowed).map_err(Clone::clone)
        } else {
            make().map(Cow::Owned)
        }
    }

    /// The message of a setting, made once in its life.
    fn setting<'a>(&self, setting: &'a Setting) -> &'a [u8] {
        setting.memo().get_or_init::<Bytes>(|| {
            self.settings.fetch_add(1, Ordering::Relaxed);
            setting.to_proto().encode_to_vec().into()
        })
    }

    fn make_snapshot<S: Resolution>(
        &self,
        sequence: Sequence,
        epoch: Epoch,
        state: &S,
    ) -> Result<Bytes, Refusal> {
        let sequence = wire_sequence(sequence)?;
        let settings: usize = state
            .resolved()
            .iter()
            .map(|setting| delimited_len(SNAPSHOT_SETTINGS, self.setting(setting).len()))
            .sum();
        let body = string_len(ORIGIN, &self.origin)
            + int_len(SEQUENCE_ID, sequence)
            + settings
            + int_len(SNAPSHOT_EPOCH, epoch.get());
        let mut frame = self.begin(EVENT_SNAPSHOT, body)?;
        put_string(ORIGIN, &self.origin, &mut frame);
        put_int(SEQUENCE_ID, sequence, &mut frame);
        for setting in state.resolved().iter() {
            put_delimited(SNAPSHOT_SETTINGS, self.setting(setting), &mut frame);
        }
        put_int(SNAPSHOT_EPOCH, epoch.get(), &mut frame);
        Ok(frame.freeze())
    }

    fn make_update(
        &self,
        sequence: Sequence,
        batch_remaining: u32,
        update: &SettingUpdate,
    ) -> Result<Bytes, Refusal> {
        let sequence = wire_sequence(sequence)?;
        let setting = self.setting(update.setting());
        let unset = update.unset().map(|source| source.as_str());
        let setting_len = setting.len()
            + unset.map_or(0, |unset| present_string_len(SETTING_UNSET_SOURCE, unset));
        let body = string_len(ORIGIN, &self.origin)
            + int_len(SEQUENCE_ID, sequence)
            + delimited_len(UPDATE_SETTING, setting_len)
            + int_len(UPDATE_BATCH_REMAINING, batch_remaining.into());
        let mut frame = self.begin(EVENT_UPDATE, body)?;
        put_string(ORIGIN, &self.origin, &mut frame);
        put_int(SEQUENCE_ID, sequence, &mut frame);
        put_head(UPDATE_SETTING, setting_len, &mut frame);
        frame.put_slice(setting);
        if let Some(unset) = unset {
            put_delimited(SETTING_UNSET_SOURCE, unset.as_bytes(), &mut frame);
        }
        put_int(UPDATE_BATCH_REMAINING, batch_remaining.into(), &mut frame);
        Ok(frame.freeze())
    }

    /// The prefix of a frame, and the head of an event whose body takes `len` bytes.
    fn begin(&self, event: u32, len: usize) -> Result<BytesMut, Refusal> {
        let message = delimited_len(event, len);
        let too_large = Refusal::EventTooLarge {
            size: message,
            limit: self.limit,
        };
        if message > self.limit {
            return Err(too_large);
        }
        let prefix = u32::try_from(message).map_err(|_| too_large)?;
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message);
        frame.put_u8(NOT_COMPRESSED);
        frame.put_u32(prefix);
        put_head(event, len, &mut frame);
        Ok(frame)
    }
}

/// The sequence as the wire has it: `int32`, never negative. Past its end streams cannot go on, and say so; the host
/// then begins a new epoch.
pub(crate) fn wire_sequence(sequence: Sequence) -> Result<u64, Refusal> {
    match i32::try_from(sequence.get()) {
        Ok(_) => Ok(sequence.get()),
        Err(_) => Err(Refusal::SequencesUsedUp),
    }
}

/// What the memos of updates and versions hold.
struct Kept {
    origin: Arc<str>,
    limit: usize,
    frame: Result<Bytes, Refusal>,
}

fn delimited_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

fn present_string_len(tag: u32, text: &str) -> usize {
    delimited_len(tag, text.len())
}

/// As all plain fields: absent when it has the default.
fn string_len(tag: u32, text: &str) -> usize {
    if text.is_empty() {
        0
    } else {
        present_string_len(tag, text)
    }
}

fn int_len(tag: u32, number: u64) -> usize {
    if number == 0 {
        0
    } else {
        key_len(tag) + encoded_len_varint(number)
    }
}

fn put_head(tag: u32, len: usize, frame: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, frame);
    encode_varint(len as u64, frame);
}

fn put_delimited(tag: u32, bytes: &[u8], frame: &mut BytesMut) {
    put_head(tag, bytes.len(), frame);
    frame.put_slice(bytes);
}

fn put_string(tag: u32, text: &str, frame: &mut BytesMut) {
    if !text.is_empty() {
        put_delimited(tag, text.as_bytes(), frame);
    }
}

fn put_int(tag: u32, number: u64, frame: &mut BytesMut) {
    if number != 0 {
        encode_key(tag, WireType::Varint, frame);
        encode_varint(number, frame);
    }
}

/// What a frame has before its message.
pub(crate) const PREFIX_BYTES: usize = 5;
const NOT_COMPRESSED: u8 = 0;

// Tags, as in `datadog/model/v1/model.proto`.
const EVENT_SNAPSHOT: u32 = 1;
const EVENT_UPDATE: u32 = 2;
const ORIGIN: u32 = 1;
const SEQUENCE_ID: u32 = 2;
const SNAPSHOT_SETTINGS: u32 = 3;
const SNAPSHOT_EPOCH: u32 = 100;
const UPDATE_SETTING: u32 = 3;
const UPDATE_BATCH_REMAINING: u32 = 100;
const SETTING_UNSET_SOURCE: u32 = 4;

#[cfg(test)]
mod tests {
    use configstream_engine::settings::{Change, Key, Settings, Source};
    use configstream_engine::{Engine, Event};

    use super::*;

    fn encoder(origin: &str) -> Encoder {
        Encoder::new(origin.into(), usize::MAX)
    }

    fn set(key: &str, value: i64) -> Change {
        Change::set(Source::File, Key::parse(key).unwrap(), value)
    }

    /// An engine, and the frames that `encoder` makes of what each of `streams` subscriptions gets from `change`.
    fn frames(encoder: &Encoder, streams: usize, change: &Change) -> Vec<[Bytes; 2]> {
        let engine = Engine::builder(Settings::new()).build().unwrap();
        let mut subscriptions: Vec<_> = (0..streams).map(|_| engine.subscribe()).collect();
        engine.publish(&set("first", 1)).unwrap();
        let joined: Vec<_> = subscriptions
            .iter_mut()
            .map(|s| s.try_next().unwrap())
            .collect();
        engine.publish(change).unwrap();
        let frame = |event| match event {
            Event::Snapshot(snapshot) => encoder.snapshot(snapshot.version()).unwrap().into_owned(),
            Event::Update(update) => encoder.update(&update).unwrap().into_owned(),
            _ => panic!("an event"),
        };
        joined
            .into_iter()
            .zip(&mut subscriptions)
            .map(|(first, subscription)| [frame(first), frame(subscription.try_next().unwrap())])
            .collect()
    }

    #[test]
    fn all_streams_send_the_same_bytes_in_the_same_place() {
        let encoder = encoder("x");
        let frames = frames(&encoder, 3, &set("second", 2));
        for stream in &frames[1..] {
            for (one, other) in frames[0].iter().zip(stream) {
                assert_eq!(one.as_ptr(), other.as_ptr());
                assert_eq!(one.len(), other.len());
            }
        }
        let made = Made {
            snapshots: 1,
            updates: 1,
            settings: 2,
        };
        assert_eq!(encoder.made(), made);
    }

    #[test]
    fn threads_that_meet_encode_once() {
        let engine = Engine::builder(Settings::new()).build().unwrap();
        for number in 0..100 {
            engine
                .publish(&set(&format!("key{number}"), number))
                .unwrap();
            let (encoder, version) = (encoder("x"), engine.head());
            let encode = || encoder.snapshot(&version).unwrap().as_ptr() as usize;
            std::thread::scope(|scope| {
                let other = scope.spawn(encode);
                assert_eq!(encode(), other.join().unwrap());
            });
            assert_eq!(encoder.made().snapshots, 1);
        }
    }

    #[test]
    fn a_limit_is_each_servers_own() {
        let engine = Engine::builder(Settings::new()).build().unwrap();
        engine.publish(&set("a", 1)).unwrap();
        let version = engine.head();
        let narrow = Encoder::new("x".into(), 3);
        assert!(matches!(
            narrow.snapshot(&version),
            Err(Refusal::EventTooLarge { limit: 3, .. })
        ));
        encoder("x").snapshot(&version).unwrap();
        narrow.snapshot(&version).unwrap_err();
        assert_eq!(narrow.made().snapshots, 0);
    }
}
