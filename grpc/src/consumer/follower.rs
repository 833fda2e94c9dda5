//! One stream's events, applied to the replica: what was checked on the wire is checked against the replica too.
//!
//! # Contract
//! * A snapshot becomes the head, unless it is the head already. One that is older than the head, in the same epoch, is
//!   refused: nobody who reads the replica ever sees a step back.
//! * Nobody else writes to the replica's engine, so its head is the last thing a server gave, and what comes is compared
//!   with that.
//! * An update becomes one version. A batch becomes one version when its last update is in; until then it is collected,
//!   within bounds, and forgotten with the stream.
//! * After an error the follower is of no use: the next stream has its own, and begins with a snapshot.

use std::sync::Arc;

use configstream_engine::settings::{Resolved, ResolvedChange, SettingUpdate};
use configstream_engine::{Engine, Epoch, FollowError, Sequence, State};

use crate::client::{Client, ConfigEvent, ConfigSnapshot, ConfigUpdate, StreamError};
use crate::consumer::replica::Replica;
use crate::consumer::state::Disconnection;

/// Takes the events of one stream.
pub(super) struct Follower {
    replica: Arc<Replica>,
    batch: Batch,
}

/// The part of a batch that is in.
#[derive(Default)]
struct Batch {
    updates: Vec<SettingUpdate>,
    first: Sequence,
    bytes: u64,
    remaining: u32,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The head is what the server had when it sent the event.
    Applied,
    /// The rest of the batch is due.
    Collected,
    /// The engine is closed: there is nothing left to do.
    Closed,
}

impl Follower {
    pub(super) fn new(replica: Arc<Replica>) -> Self {
        Self {
            replica,
            batch: Batch::default(),
        }
    }

    pub(super) fn take(&mut self, event: ConfigEvent) -> Result<Taken, Disconnection> {
        match event {
            ConfigEvent::Snapshot(snapshot) => self.snapshot(snapshot),
            ConfigEvent::Update(update) => self.update(update),
        }
    }

    fn snapshot(&mut self, snapshot: ConfigSnapshot) -> Result<Taken, Disconnection> {
        // A server that has to resynchronise within a batch sends what the batch led to.
        self.batch = Batch::default();
        let (epoch, sequence) = (snapshot.epoch, snapshot.sequence);
        let state = Resolved::from_settings(snapshot.settings).map_err(Disconnection::Duplicate)?;
        let head = self.replica.engine().map(Engine::head);
        // A server without epochs counts from the start again whenever it starts again.
        if let Some(head) = &head
            && head.epoch() == epoch
            && sequence < head.sequence()
            && epoch != Epoch::NONE
        {
            return Err(Disconnection::Behind {
                reached: head.sequence(),
                found: sequence,
            });
        }
        self.replica.describe(snapshot.origin);
        let Some((engine, head)) = self.replica.engine().zip(head) else {
            self.replica.begin(state, epoch, sequence);
            return Ok(Taken::Applied);
        };
        if (head.epoch(), head.sequence()) == (epoch, sequence) && state == *head.state() {
            return Ok(Taken::Applied);
        }
        // What stays the same keeps its encoding, for whoever serves the replica again.
        let Ok(next) = head.state().apply(&ResolvedChange::ReplaceAll(state));
        Ok(match engine.adopt(next.state, epoch, sequence) {
            Ok(_) => Taken::Applied,
            Err(_) => Taken::Closed,
        })
    }

    fn update(&mut self, update: ConfigUpdate) -> Result<Taken, Disconnection> {
        let batch = &mut self.batch;
        if batch.updates.is_empty() {
            batch.first = update.sequence;
        } else if update.batch_remaining != batch.remaining - 1 {
            return Err(Disconnection::Batch {
                sequence: update.sequence,
                expected: batch.remaining - 1,
                found: update.batch_remaining,
            });
        }
        batch.remaining = update.batch_remaining;
        let bytes = update.update.setting().encoded_len();
        batch.bytes = batch.bytes.saturating_add(bytes);
        if batch.remaining >= LARGEST_BATCH || batch.bytes > Client::MESSAGE_BYTES as u64 {
            return Err(Disconnection::BatchTooLarge {
                sequence: update.sequence,
            });
        }
        batch.updates.push(update.update);
        if batch.remaining > 0 {
            return Ok(Taken::Collected);
        }
        let Batch { updates, first, .. } = std::mem::take(batch);
        let Some(engine) = self.replica.engine() else {
            // The stream's own check refuses an update before a snapshot.
            return Ok(Taken::Closed);
        };
        follow(engine, updates, first)
    }
}

fn follow(
    engine: &Engine<Resolved>,
    updates: Vec<SettingUpdate>,
    first: Sequence,
) -> Result<Taken, Disconnection> {
    match engine.follow(updates, first) {
        Ok(_) => Ok(Taken::Applied),
        Err(FollowError::Discontinuity { expected, found }) => {
            Err(Disconnection::Stream(StreamError::Discontinuity {
                expected,
                found,
            }))
        }
        // The wire's sequences are 31 bits, so they are not what ends.
        Err(_) => Ok(Taken::Closed),
    }
}

/// Updates in a batch, at most: twice as many as the largest configurations have settings. A larger one is worth a
/// snapshot.
const LARGEST_BATCH: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;
    use configstream_engine::settings::{Key, Setting, Source};
    use configstream_engine::{Event, Subscription, TryNextError};

    fn setting(key: &str, value: i64) -> Arc<Setting> {
        Arc::new(Setting::new(Source::File, Key::parse(key).unwrap(), value).unwrap())
    }

    fn snapshot(epoch: u64, sequence: u64, values: &[(&str, i64)]) -> ConfigEvent {
        ConfigEvent::Snapshot(ConfigSnapshot {
            origin: "o".into(),
            epoch: Epoch::new(epoch),
            sequence: Sequence::new(sequence),
            settings: values
                .iter()
                .map(|(key, value)| setting(key, *value))
                .collect(),
        })
    }

    fn update(sequence: u64, value: i64, batch_remaining: u32) -> ConfigEvent {
        ConfigEvent::Update(ConfigUpdate {
            origin: "o".into(),
            sequence: Sequence::new(sequence),
            update: SettingUpdate::new(setting("a", value), None),
            batch_remaining,
        })
    }

    struct Case {
        replica: Arc<Replica>,
        follower: Follower,
    }

    impl Case {
        /// With a replica at sequence 5 of epoch 1.
        fn new() -> Self {
            let replica = Arc::new(Replica::new(8));
            let mut case = Self {
                follower: Follower::new(replica.clone()),
                replica,
            };
            case.applied(snapshot(1, 5, &[("a", 0)]));
            case
        }

        fn applied(&mut self, event: ConfigEvent) {
            assert_eq!(self.follower.take(event).unwrap(), Taken::Applied);
        }

        fn collected(&mut self, event: ConfigEvent) {
            assert_eq!(self.follower.take(event).unwrap(), Taken::Collected);
        }

        fn refused(&mut self, event: ConfigEvent) -> Disconnection {
            self.follower.take(event).unwrap_err()
        }

        /// Another stream.
        fn reconnect(&mut self) {
            self.follower = Follower::new(self.replica.clone());
        }

        fn subscribe(&self) -> Subscription<Resolved> {
            let mut subscription = self.replica.engine().unwrap().subscribe();
            subscription.try_next().unwrap();
            subscription
        }

        fn head(&self) -> (u64, u64, i64) {
            let head = self.replica.engine().unwrap().head();
            let value = head.state().get("a").unwrap().value().as_i64().unwrap();
            (head.epoch().get(), head.sequence().get(), value)
        }
    }

    #[test]
    fn updates_follow_a_snapshot() {
        let mut case = Case::new();
        case.applied(update(6, 1, 0));
        case.applied(update(7, 2, 0));
        assert_eq!(case.head(), (1, 7, 2));
    }

    #[test]
    fn a_batch_is_one_version() {
        let mut case = Case::new();
        let mut subscription = case.subscribe();
        case.collected(update(6, 1, 2));
        case.collected(update(7, 2, 1));
        assert_eq!(case.head(), (1, 5, 0), "half a batch is not there");
        case.applied(update(8, 3, 0));
        assert_eq!(case.head(), (1, 8, 3));
        for remaining in [2, 1, 0] {
            let Ok(Event::Update(update)) = subscription.try_next() else {
                panic!("no update")
            };
            assert_eq!(update.batch_remaining(), remaining);
        }
    }

    #[test]
    fn a_batch_that_never_ends_is_forgotten_with_its_stream() {
        let mut case = Case::new();
        case.collected(update(6, 1, 2));
        case.reconnect();
        case.applied(snapshot(1, 8, &[("a", 3)]));
        case.applied(update(9, 4, 0));
        assert_eq!(case.head(), (1, 9, 4));
        // A repair within a batch counts as its end too.
        case.collected(update(10, 5, 1));
        case.applied(snapshot(1, 11, &[("a", 6)]));
        case.applied(update(12, 7, 0));
        assert_eq!(case.head(), (1, 12, 7));
    }

    #[test]
    fn a_batch_that_does_not_count_down_is_refused() {
        for wrong in [0, 2, 3, u32::MAX] {
            let mut case = Case::new();
            case.collected(update(6, 1, 2));
            let refusal = case.refused(update(7, 2, wrong));
            assert!(
                matches!(refusal, Disconnection::Batch { expected: 1, found, .. } if found == wrong),
                "{refusal}"
            );
            assert_eq!(case.head(), (1, 5, 0));
        }
    }

    #[test]
    fn a_batch_beyond_all_bounds_is_refused_at_once() {
        for remaining in [LARGEST_BATCH, u32::MAX] {
            let refusal = Case::new().refused(update(6, 1, remaining));
            assert!(matches!(refusal, Disconnection::BatchTooLarge { .. }));
        }
        let mut case = Case::new();
        let text = "x".repeat(50 * 1024 * 1024);
        let large = |sequence, batch_remaining| {
            let key = Key::parse("a").unwrap();
            let setting = Setting::new(Source::File, key, text.as_str()).unwrap();
            ConfigEvent::Update(ConfigUpdate {
                origin: "o".into(),
                sequence: Sequence::new(sequence),
                update: SettingUpdate::new(setting, None),
                batch_remaining,
            })
        };
        case.collected(large(6, 9));
        case.collected(large(7, 8));
        let refusal = case.refused(large(8, 7));
        assert!(matches!(refusal, Disconnection::BatchTooLarge { .. }));
    }

    #[test]
    fn a_snapshot_of_what_is_there_already_is_no_event() {
        let mut case = Case::new();
        let mut subscription = case.subscribe();
        case.reconnect();
        case.applied(snapshot(1, 5, &[("a", 0)]));
        assert!(matches!(subscription.try_next(), Err(TryNextError::Empty)));
        // But it is the server that is right about what stands at a sequence.
        case.reconnect();
        case.applied(snapshot(1, 5, &[("a", 9)]));
        assert!(matches!(subscription.try_next(), Ok(Event::Snapshot(_))));
        assert_eq!(case.head(), (1, 5, 9));
    }

    #[test]
    fn an_older_snapshot_of_the_same_epoch_is_refused() {
        let mut case = Case::new();
        case.reconnect();
        let refusal = case.refused(snapshot(1, 4, &[("a", 9)]));
        assert!(refusal.is_stale_event());
        assert_eq!(
            refusal.to_string(),
            "the server is behind: it is at sequence 4, where 5 of the same epoch has been reached"
        );
        assert_eq!(case.head(), (1, 5, 0));
    }

    #[test]
    fn only_what_is_taken_says_what_is_described() {
        let mut case = Case::new();
        let mut described = |sequence, value, origin: &str| {
            let ConfigEvent::Snapshot(mut snapshot) = snapshot(1, sequence, &[("a", value)]) else {
                panic!("no snapshot")
            };
            snapshot.origin = origin.into();
            case.reconnect();
            let _ = case.follower.take(ConfigEvent::Snapshot(snapshot));
            case.replica.origin()
        };
        assert_eq!(&*described(4, 9, "refused"), "o");
        assert_eq!(&*described(5, 0, "the same settings"), "the same settings");
        assert_eq!(&*described(6, 1, "others"), "others");
    }

    #[test]
    fn another_epoch_may_begin_anywhere() {
        let mut case = Case::new();
        case.reconnect();
        case.applied(snapshot(2, 1, &[("a", 9)]));
        assert_eq!(case.head(), (2, 1, 9));
        // As does each start of a server that knows no epochs.
        for sequence in [7, 3] {
            case.reconnect();
            case.applied(snapshot(0, sequence, &[("a", 1)]));
            assert_eq!(case.head(), (0, sequence, 1));
        }
    }

    #[test]
    fn a_key_twice_is_refused() {
        let refusal = Case::new().refused(snapshot(1, 6, &[("a", 1), ("a", 2)]));
        assert!(
            refusal.to_string().contains("`a` is there twice"),
            "{refusal}"
        );
    }

    #[test]
    fn an_update_that_does_not_follow_the_head_is_refused() {
        let mut case = Case::new();
        for sequence in [5, 7] {
            let refusal = case.refused(update(sequence, 1, 0));
            let expected = format!("the stream ended: update {sequence} came where 6 was due");
            assert_eq!(refusal.to_string(), expected);
            case.reconnect();
        }
        case.applied(snapshot(1, 6, &[("a", 1)]));
        assert_eq!(case.head(), (1, 6, 1));
    }

    #[test]
    fn a_closed_replica_follows_nothing() {
        let mut case = Case::new();
        case.replica.engine().unwrap().close();
        assert_eq!(case.follower.take(update(6, 1, 0)).unwrap(), Taken::Closed);
        let later = snapshot(1, 9, &[("a", 1)]);
        assert_eq!(case.follower.take(later).unwrap(), Taken::Closed);
    }

    #[test]
    fn settings_that_stay_keep_what_was_made_of_them() {
        let mut case = Case::new();
        let before = case.replica.engine().unwrap().head();
        case.reconnect();
        case.applied(snapshot(1, 9, &[("a", 0), ("b", 1)]));
        let after = case.replica.engine().unwrap().head();
        assert!(Arc::ptr_eq(
            before.state().get("a").unwrap(),
            after.state().get("a").unwrap()
        ));
    }
}
