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

    fn follow(&mut self, event: &Event<Resolved>) -> Result<(), String> {
        match event {
            Event::Snapshot(snapshot) => {
                let next = Self::at(snapshot.version());
                if next.epoch == self.epoch && next.sequence <= self.sequence {
                    return Err(format!(
                        "a snapshot at {} after {}",
                        next.sequence, self.sequence
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
