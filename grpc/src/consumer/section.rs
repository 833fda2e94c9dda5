//! The changes below one key: what a component that owns a section of the configuration listens to.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use configstream_engine::settings::{Key, Resolved, Setting};
use configstream_engine::{
    Epoch, Event, NextTimeoutError, Replica, Sequence, Subscription, TryNextError,
};

/// The changes of one section of a replica, one version at a time.
///
/// # Contract
/// * The first event has all settings of the section, and comes even if there are none.
/// * Each later event is the difference of one version to what was handed out before: applying it leads to exactly the
///   section as of its sequence. A batch is one event. What does not touch the section makes no event.
/// * Whoever falls behind gets one event that covers all that was missed, with only what differs.
#[derive(Debug)]
#[must_use = "dropping it unsubscribes"]
pub struct SectionSubscription {
    section: Box<str>,
    subscription: Subscription<Resolved>,
    /// The state as of the last version taken whole; `None` before the first.
    known: Option<Resolved>,
    /// The batch under way: the state so far, and the section's settings in it, by key.
    reached: Resolved,
    batch: Vec<Arc<Setting>>,
}

/// What one version changed in a section.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SectionChange {
    /// The epoch in which the sequence counts.
    pub epoch: Epoch,
    /// As of which sequence.
    pub sequence: Sequence,
    /// What is new or has another value or source, each key once, by key.
    pub set: Vec<Arc<Setting>>,
    /// What is there no more, by key.
    pub removed: Vec<Key>,
}

impl SectionSubscription {
    pub(super) fn new(section: &str, subscription: Subscription<Resolved>) -> Self {
        Self {
            // As people write it, too: no key ends with a dot.
            section: section.trim_end_matches('.').into(),
            subscription,
            known: None,
            reached: Resolved::new(),
            batch: Vec::new(),
        }
    }

    /// The next change, if there is one now.
    ///
    /// # Errors
    /// [`TryNextError::Empty`] when there is none yet, [`TryNextError::Closed`] when there will be none.
    pub fn try_next(&mut self) -> Result<SectionChange, TryNextError> {
        loop {
            let event = self.subscription.try_next()?;
            if let Some(change) = self.take(event) {
                return Ok(change);
            }
        }
    }

    /// The next change. `None`: the consumer is gone, and all has been handed out.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<SectionChange> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next change, or a promise to wake `cx` when there is one. Needs no runtime.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<SectionChange>> {
        while let Some(event) = ready!(self.subscription.poll_next(cx)) {
            if let Some(change) = self.take(event) {
                return Poll::Ready(Some(change));
            }
        }
        Poll::Ready(None)
    }

    /// Waits for the next change for at most `timeout`, blocking the thread.
    ///
    /// # Errors
    /// [`NextTimeoutError::Timeout`] when none came in time, [`NextTimeoutError::Closed`] when none will.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<SectionChange, NextTimeoutError> {
        let begun = Instant::now();
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            let event = self.subscription.next_timeout(left)?;
            if let Some(change) = self.take(event) {
                return Ok(change);
            }
        }
    }

    /// What an event changes in the section, if it completes a version and there is something.
    fn take(&mut self, event: Event<Resolved>) -> Option<SectionChange> {
        let (epoch, sequence) = (event.epoch(), event.sequence());
        let mut first = false;
        let (set, removed) = match event {
            Event::Snapshot(snapshot) => {
                self.batch.clear();
                self.reached = snapshot.state().clone();
                let before = self.known.replace(self.reached.clone());
                first = before.is_none();
                difference(&self.section, &before.unwrap_or_default(), &self.reached)
            }
            Event::Update(update) => {
                self.reached = self.reached.absorb(&update);
                self.collect(update.setting());
                if update.batch_remaining() > 0 {
                    return None;
                }
                let before = self.known.replace(self.reached.clone()).unwrap_or_default();
                let mut set = std::mem::take(&mut self.batch);
                set.retain(|setting| before.get(setting.key()) != Some(setting));
                (set, Vec::new())
            }
            _ => return None,
        };
        let counts = first || !set.is_empty() || !removed.is_empty();
        counts.then_some(SectionChange {
            epoch,
            sequence,
            set,
            removed,
        })
    }

    /// Enters a setting into the batch, if it belongs to the section. Of two with one key the last one counts.
    fn collect(&mut self, setting: &Arc<Setting>) {
        let key = setting.key();
        if !(self.section.is_empty() || **key == *self.section || key.is_below(&self.section)) {
            return;
        }
        match self.batch.binary_search_by(|other| other.key().cmp(key)) {
            Ok(place) => self.batch[place] = setting.clone(),
            Err(place) => self.batch.insert(place, setting.clone()),
        }
    }
}

/// What leads from one state's section to the other's: both are in the order of the keys.
fn difference(section: &str, before: &Resolved, after: &Resolved) -> (Vec<Arc<Setting>>, Vec<Key>) {
    let set = after
        .prefix(section)
        .filter(|new| before.get(new.key()) != Some(new))
        .cloned();
    let removed = before
        .prefix(section)
        .filter(|old| after.get(old.key()).is_none())
        .map(|old| old.key().clone());
    (set.collect(), removed.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use configstream_engine::Engine;
    use configstream_engine::settings::{ResolvedChange, SettingUpdate, Source, Value};

    fn setting(key: &str, value: impl Into<Value>) -> Arc<Setting> {
        Arc::new(Setting::new(Source::File, Key::parse(key).unwrap(), value).unwrap())
    }

    fn set(key: &str, value: i64) -> ResolvedChange {
        ResolvedChange::Set(SettingUpdate::new(setting(key, value), None))
    }

    fn engine(keys: &[&str]) -> Engine<Resolved> {
        let state = Resolved::from_settings(keys.iter().map(|key| setting(key, 0))).unwrap();
        Engine::builder(state).ring_capacity(4).build().unwrap()
    }

    fn watch(engine: &Engine<Resolved>, section: &str) -> SectionSubscription {
        SectionSubscription::new(section, engine.subscribe())
    }

    /// `key=value` of what was set, `-key` of what was removed.
    fn told(change: &SectionChange) -> Vec<String> {
        let set = change
            .set
            .iter()
            .map(|setting| format!("{}={}", setting.key(), setting.value()));
        let removed = change.removed.iter().map(|key| format!("-{key}"));
        set.chain(removed).collect()
    }

    #[test]
    fn it_begins_with_the_whole_section_even_if_that_is_empty() {
        let engine = engine(&["a", "a.b", "a.c", "ab"]);
        let first = watch(&engine, "a").try_next().unwrap();
        assert_eq!(told(&first), ["a=0", "a.b=0", "a.c=0"]);
        assert_eq!(watch(&engine, "").try_next().unwrap().set.len(), 4);
        let dotted = watch(&engine, "a.").try_next().unwrap();
        assert_eq!(told(&dotted), told(&first));
        let nothing = watch(&engine, "z").try_next().unwrap();
        assert!(told(&nothing).is_empty());
    }

    #[test]
    fn what_lies_elsewhere_makes_no_event() {
        let engine = engine(&["a.b", "z"]);
        let mut watch = watch(&engine, "a");
        watch.try_next().unwrap();
        engine.publish(&set("z", 1)).unwrap();
        engine.publish(&set("ab", 1)).unwrap();
        assert_eq!(watch.try_next(), Err(TryNextError::Empty));
        engine.publish(&set("a.b", 1)).unwrap();
        let change = watch.try_next().unwrap();
        assert_eq!(
            (told(&change), change.sequence.get()),
            (vec!["a.b=1".into()], 3)
        );
    }

    #[test]
    fn a_batch_is_one_event_with_each_key_once() {
        let engine = engine(&["a.b"]);
        let mut watch = watch(&engine, "a");
        watch.try_next().unwrap();
        let batch = [set("a.c", 1), set("a.b", 2), set("z", 3), set("a.c", 4)];
        engine.publish_batch(&batch).unwrap();
        let change = watch.try_next().unwrap();
        assert_eq!(told(&change), ["a.b=2", "a.c=4"]);
        assert_eq!(change.sequence.get(), 4);
        let there_and_back = [set("a.b", 3), set("a.b", 2)];
        engine.publish_batch(&there_and_back).unwrap();
        assert_eq!(watch.try_next(), Err(TryNextError::Empty));
    }

    #[test]
    fn after_falling_behind_only_the_difference_comes() {
        let engine = engine(&["a.b", "a.c", "a.d"]);
        let mut watch = watch(&engine, "a");
        watch.try_next().unwrap();
        for value in 1..=20 {
            engine.publish(&set("a.c", value)).unwrap();
        }
        engine
            .publish(&ResolvedChange::Remove(Key::parse("a.d").unwrap()))
            .unwrap();
        let mut changes = Vec::new();
        while let Ok(change) = watch.try_next() {
            changes.push(told(&change));
        }
        assert_eq!(changes.len(), 5, "four from the ring, one for the rest");
        assert_eq!(changes[4], ["a.c=20", "-a.d"]);
    }

    #[test]
    fn a_snapshot_that_changes_nothing_here_makes_no_event() {
        let engine = engine(&["a.b", "z"]);
        let mut watch = watch(&engine, "a");
        watch.try_next().unwrap();
        engine
            .publish(&ResolvedChange::Remove(Key::parse("z").unwrap()))
            .unwrap();
        assert_eq!(watch.try_next(), Err(TryNextError::Empty));
    }
}
