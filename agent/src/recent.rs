//! What changed lately, for people: which key, by which source, at which sequence, when. Never a value.
//!
//! A subscriber like any other, and the least demanding one: it looks fifty times a second and a tenth of the
//! time at most, whatever is published meanwhile. What it misses by that it makes good as everybody does, by a snapshot, which it
//! compares with the state it knew: each key that differs is one change then, however often it changed.
//!
//! What is kept is bounded: [`MAX_CHANGES`], whose keys take [`MAX_KEY_BYTES`] at most. The oldest go first.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use configstream_engine::settings::{
    Key, Resolved, ResolvedChange, SettingUpdate, Settings, Source,
};
use configstream_engine::{Engine, Epoch, Event, Replica, Sequence, State, Subscription};
use configstream_grpc::lock::Mutex;

/// How many changes are kept.
pub const MAX_CHANGES: usize = 100;

/// How many bytes the keys of all changes that are kept may take.
pub const MAX_KEY_BYTES: usize = 32 * 1024;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// A source set it.
    Set,
    /// A layer let it go, so that a lower one shows.
    Unset {
        /// The layer that was cleared.
        cleared: Source,
    },
    /// The last layer that held it let it go.
    Vanished,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentChange {
    /// What changed.
    pub key: Key,
    /// How.
    pub kind: ChangeKind,
    /// The source that wins now; of a key that vanished, the one that won last.
    pub source: Source,
    /// At which sequence.
    pub sequence: Sequence,
    /// Whether it was that very sequence, or one up to there.
    pub exact: bool,
    /// When it was seen.
    pub at: SystemTime,
}

/// The latest changes of an engine: shared by the task that follows it and who shows them.
#[derive(Clone, Debug, Default)]
pub struct RecentChanges(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Oldest first.
    changes: VecDeque<RecentChange>,
    key_bytes: usize,
    total: u64,
}

impl RecentChanges {
    /// Follows an engine from its head on, until it closes, in a task of the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn follow(engine: &Engine<Settings>) -> Self {
        let recent = Self::default();
        let mut follower = Follower::new(engine, recent.clone());
        tokio::spawn(async move {
            while let Some(event) = follower.next().await {
                let begun = Instant::now();
                follower.take(&event);
                while let Ok(event) = follower.subscription.try_next() {
                    follower.take(&event);
                }
                tokio::time::sleep(PAUSE.max(begun.elapsed() * 9)).await;
            }
        });
        recent
    }

    /// The changes that are kept, newest first, and how many there have been.
    #[must_use]
    pub fn latest(&self) -> (Vec<RecentChange>, u64) {
        let kept = self.0.lock();
        (kept.changes.iter().rev().cloned().collect(), kept.total)
    }

    fn add(&self, change: RecentChange) {
        let mut kept = self.0.lock();
        kept.total += 1;
        kept.key_bytes += change.key.as_str().len();
        kept.changes.push_back(change);
        while kept.changes.len() > MAX_CHANGES || kept.key_bytes > MAX_KEY_BYTES {
            let Some(oldest) = kept.changes.pop_front() else {
                break;
            };
            kept.key_bytes -= oldest.key.as_str().len();
        }
    }
}

/// What compares one event with the one before.
struct Follower {
    subscription: Subscription<Settings>,
    state: Resolved,
    reached: (Epoch, Sequence),
    recent: RecentChanges,
}

impl Follower {
    fn new(engine: &Engine<Settings>, recent: RecentChanges) -> Self {
        let subscription = engine.subscription().name("recent changes").subscribe();
        // Its first snapshot is this version or a later one; what differs then has changed meanwhile.
        let head = engine.head();
        Self {
            subscription,
            state: head.state().resolved().clone(),
            reached: (head.epoch(), head.sequence()),
            recent,
        }
    }

    async fn next(&mut self) -> Option<Event<Settings>> {
        poll_fn(|context| self.subscription.poll_next(context)).await
    }

    fn take(&mut self, event: &Event<Settings>) {
        let reached = (event.epoch(), event.sequence());
        match event {
            Event::Update(update) => {
                self.state = self.state.absorb(update);
                self.record_update(update, reached.1, true);
            }
            Event::Snapshot(snapshot) => {
                let (epoch, sequence) = self.reached;
                let exact = reached == (epoch, sequence.next());
                self.compare(snapshot.state().resolved(), reached.1, exact);
            }
            _ => return,
        }
        self.reached = reached;
    }

    fn compare(&mut self, now: &Resolved, sequence: Sequence, exact: bool) {
        let change = ResolvedChange::ReplaceAll(now.clone());
        let Ok(difference) = self.state.apply(&change);
        for update in &difference.updates {
            self.record_update(update, sequence, exact);
        }
        if difference.needs_snapshot {
            let vanished = |key: &Key| now.get(key.as_str()).is_none();
            for old in self.state.iter().filter(|old| vanished(old.key())) {
                self.record(
                    old.key(),
                    ChangeKind::Vanished,
                    old.source(),
                    sequence,
                    exact,
                );
            }
        }
        self.state = difference.state;
    }

    fn record_update(&self, update: &SettingUpdate, sequence: Sequence, exact: bool) {
        let kind = match update.unset() {
            Some(cleared) => ChangeKind::Unset { cleared },
            None => ChangeKind::Set,
        };
        let setting = update.setting();
        self.record(setting.key(), kind, setting.source(), sequence, exact);
    }

    fn record(&self, key: &Key, kind: ChangeKind, source: Source, sequence: Sequence, exact: bool) {
        self.recent.add(RecentChange {
            key: key.clone(),
            kind,
            source,
            sequence,
            exact,
            at: SystemTime::now(),
        });
    }
}

/// How long it looks away at least, so that publishers wake it fifty times a second at most.
const PAUSE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use configstream_engine::settings::{Change, Value};

    use super::*;

    fn key(text: &str) -> Key {
        Key::parse(text).unwrap()
    }

    fn set(source: Source, name: &str, value: impl Into<Value>) -> Change {
        Change::set(source, key(name), value)
    }

    fn engine() -> (Engine<Settings>, Follower) {
        let engine = Engine::builder(Settings::new()).build().unwrap();
        engine.publish(&set(Source::Default, "a", 0)).unwrap();
        let follower = Follower::new(&engine, RecentChanges::default());
        (engine, follower)
    }

    fn shown(follower: &mut Follower) -> Vec<(String, ChangeKind, Source, u64, bool)> {
        while let Ok(event) = follower.subscription.try_next() {
            follower.take(&event);
        }
        let (changes, _) = follower.recent.latest();
        let show = |change: RecentChange| {
            let key = change.key.as_str().to_owned();
            let sequence = change.sequence.get();
            (key, change.kind, change.source, sequence, change.exact)
        };
        changes.into_iter().map(show).collect()
    }

    #[test]
    fn what_was_set_unset_and_vanished_is_told_newest_first() {
        let (engine, mut follower) = engine();
        assert_eq!(shown(&mut follower), []);
        for change in [
            set(Source::AgentRuntime, "a", 1),
            set(Source::File, "b", 1),
            Change::unset(Source::AgentRuntime, key("a")),
            Change::unset(Source::File, key("b")),
        ] {
            engine.publish(&change).unwrap();
            shown(&mut follower);
        }
        let cleared = Source::AgentRuntime;
        let expected = [
            ("b", ChangeKind::Vanished, Source::File, 5, true),
            ("a", ChangeKind::Unset { cleared }, Source::Default, 4, true),
            ("b", ChangeKind::Set, Source::File, 3, true),
            ("a", ChangeKind::Set, Source::AgentRuntime, 2, true),
        ];
        let expected = expected.map(|(key, kind, source, sequence, exact)| {
            (key.to_owned(), kind, source, sequence, exact)
        });
        assert_eq!(shown(&mut follower), expected);
    }

    #[test]
    fn a_change_between_the_start_and_the_first_snapshot_is_told() {
        let (engine, mut follower) = engine();
        engine.publish(&set(Source::File, "b", 1)).unwrap();
        let expected = ("b".to_owned(), ChangeKind::Set, Source::File, 2, true);
        assert_eq!(shown(&mut follower), [expected]);
    }

    #[test]
    fn what_was_missed_is_told_by_comparing_up_to_a_sequence() {
        let (engine, mut follower) = engine();
        shown(&mut follower);
        for value in 1..=1_000 {
            engine.publish(&set(Source::File, "a", value)).unwrap();
        }
        let told = shown(&mut follower);
        let last = engine.head().sequence().get();
        let expected = ("a".to_owned(), ChangeKind::Set, Source::File, last, false);
        assert_eq!(told[0], expected);
        assert!(told[1..].iter().all(|told| told.3 < last && told.4));
    }

    #[test]
    fn what_is_kept_is_bounded_in_changes_and_in_bytes() {
        let (engine, mut follower) = engine();
        for value in 1..=500 {
            engine.publish(&set(Source::File, "a", value)).unwrap();
        }
        assert_eq!(shown(&mut follower).len(), 1, "one comparison");
        for value in 501..=1_000 {
            engine.publish(&set(Source::File, "a", value)).unwrap();
            shown(&mut follower);
        }
        let told = shown(&mut follower);
        assert_eq!((told.len(), told[0].3), (MAX_CHANGES, 1_001));
        assert_eq!(follower.recent.latest().1, 501);

        for number in 0..MAX_CHANGES {
            let long = format!("{}{number}", "x".repeat(1_000));
            engine.publish(&set(Source::File, &long, 1)).unwrap();
        }
        let told = shown(&mut follower);
        let bytes: usize = told.iter().map(|told| told.0.len()).sum();
        assert!(told.len() < MAX_CHANGES && bytes <= MAX_KEY_BYTES);
        assert!(bytes > MAX_KEY_BYTES - 2_000);
        assert_eq!(follower.recent.0.lock().key_bytes, bytes);
    }
}
