//! Whoever reads a replica, and keeps count.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use configstream_engine::settings::Resolved;
use configstream_engine::{Epoch, Event, Replica, Sequence, Subscription, Update};
use configstream_grpc::consumer::Consumer;

use crate::core::BATCH_KEYS;

/// A thread that takes every event, and checks it against what it took before.
pub(crate) struct Observer {
    name: &'static str,
    thread: JoinHandle<()>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    updates: u64,
    batches: u64,
    snapshots: u64,
    fault: Option<String>,
}

impl Observer {
    /// `pause` is what it takes to digest an event.
    pub(crate) fn start(replica: &Consumer, name: &'static str, pause: Duration) -> Self {
        let subscription = replica.subscribe().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = seen.clone();
        let thread = thread::spawn(move || observe(subscription, &shared, pause));
        Self { name, thread, seen }
    }

    pub(crate) fn demand_no_fault(&self, after: &str) {
        let fault = self.seen.lock().unwrap().fault.clone();
        assert!(
            fault.is_none(),
            "after {after}, the {} observer saw {fault:?}",
            self.name
        );
    }

    /// Once the replica is gone: what it has seen, to the end.
    pub(crate) fn end(self) -> String {
        let Self { name, thread, seen } = self;
        thread.join().unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen.fault, None, "the {name} observer at the end");
        assert!(seen.updates > 0 && seen.snapshots > 0);
        format!(
            "the {name} observer took {} updates, {} of batches, and {} snapshots",
            seen.updates, seen.batches, seen.snapshots
        )
    }
}

fn observe(mut subscription: Subscription<Resolved>, seen: &Mutex<Seen>, pause: Duration) {
    let mut reached = None;
    while let Some(event) = subscription.next() {
        let checked = match &mut reached {
            None => match &event {
                Event::Snapshot(snapshot) => {
                    reached = Some(Reached::at(snapshot.version()));
                    Ok(())
                }
                _ => Err("an update before any snapshot".to_owned()),
            },
            Some(reached) => reached.follow(&event),
        };
        let mut seen = seen.lock().unwrap();
        match event {
            Event::Snapshot(_) => seen.snapshots += 1,
            Event::Update(update) if update.batch_remaining() > 0 => seen.batches += 1,
            _ => seen.updates += 1,
        }
        if let Err(fault) = checked {
            seen.fault.get_or_insert(fault);
        }
        drop(seen);
        thread::park_timeout(pause);
    }
}

/// What an observer knows.
struct Reached {
    epoch: Epoch,
    sequence: Sequence,
    state: Resolved,
}

impl Reached {
    fn at(version: &configstream_engine::Version<Resolved>) -> Self {
        Self {
            epoch: version.epoch(),
            sequence: version.sequence(),
            state: version.state().clone(),
        }
    }

    fn label(&self) -> (Epoch, Sequence) {
        (self.epoch, self.sequence)
    }

    fn follow(&mut self, event: &Event<Resolved>) -> Result<(), String> {
        match event {
            Event::Snapshot(snapshot) => {
                let next = Self::at(snapshot.version());
                // The agent's epochs only grow: one that is left does not come back.
                if next.label() <= self.label() {
                    return Err(format!(
                        "a snapshot at {} of epoch {} after {} of epoch {}",
                        next.sequence, next.epoch, self.sequence, self.epoch
                    ));
                }
                *self = next;
                self.check_batch()
            }
            Event::Update(update) => self.update(update),
            other => Err(format!("an unknown event: {other:?}")),
        }
    }

    fn update(&mut self, update: &Update<Resolved>) -> Result<(), String> {
        if update.epoch() != self.epoch || update.sequence() != self.sequence.next() {
            return Err(format!(
                "update {} of epoch {} after {} of epoch {}",
                update.sequence(),
                update.epoch(),
                self.sequence,
                self.epoch
            ));
        }
        self.sequence = update.sequence();
        self.state = self.state.absorb(update);
        if update.batch_remaining() == 0 {
            self.check_batch()?;
        }
        Ok(())
    }

    /// A file's keys have one value, at every version.
    fn check_batch(&self) -> Result<(), String> {
        let value = |key: &&str| {
            let setting = self.state.get(&format!("batch.{key}"));
            setting.and_then(|setting| setting.value().as_i64())
        };
        let values: Vec<_> = BATCH_KEYS.iter().map(value).collect();
        if values.contains(&None) {
            return Err(format!("no batch at {}: {values:?}", self.sequence));
        }
        if values.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("half a batch at {}: {values:?}", self.sequence));
        }
        Ok(())
    }
}

/// What the chaos rests on: an observer that finds nothing wrong with these would find nothing at all.
mod tests {
    use configstream_engine::Engine;
    use configstream_engine::settings::{Key, Setting, Source};

    use super::*;

    fn state(values: [i64; BATCH_KEYS.len()]) -> Resolved {
        let settings = BATCH_KEYS.iter().zip(values).map(|(key, value)| {
            let key = Key::parse(&format!("batch.{key}")).unwrap();
            Setting::new(Source::File, key, value).unwrap()
        });
        Resolved::from_settings(settings).unwrap()
    }

    /// What an observer at sequence 5 of epoch 2 says to a snapshot.
    fn verdict(epoch: u64, sequence: u64, values: [i64; BATCH_KEYS.len()]) -> Result<(), String> {
        let engine = Engine::builder(state([0; BATCH_KEYS.len()]))
            .start_at(Epoch::new(2), Sequence::new(5))
            .build()
            .unwrap();
        let mut reached = Reached::at(&engine.head());
        let mut subscription = engine.subscribe();
        subscription.try_next().unwrap();
        engine
            .adopt(state(values), Epoch::new(epoch), Sequence::new(sequence))
            .unwrap();
        reached.follow(&subscription.try_next().unwrap())
    }

    #[test]
    fn a_snapshot_is_a_step_back_within_its_epoch_and_when_its_epoch_is_an_older_one() {
        for (epoch, sequence) in [(2, 6), (3, 1)] {
            verdict(epoch, sequence, [1; 3]).unwrap();
        }
        for (epoch, sequence) in [(2, 5), (2, 4), (1, 6), (1, 5)] {
            assert_eq!(
                verdict(epoch, sequence, [1; 3]).unwrap_err(),
                format!("a snapshot at {sequence} of epoch {epoch} after 5 of epoch 2")
            );
        }
    }

    #[test]
    fn half_a_batch_is_noticed() {
        assert_eq!(
            verdict(2, 6, [2, 2, 1]).unwrap_err(),
            "half a batch at 6: [Some(2), Some(2), Some(1)]"
        );
    }
}
