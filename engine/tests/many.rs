//! Ten thousand subscriptions that join, read, stall and leave at random, while two threads publish.
//!
//! What a call costs among so many: `benches/subscribe.rs`, and in allocations `memory.rs`. That joining holds up no
//! publisher: the unit test in `engine.rs`.

mod ledger;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use configstream_engine::{Engine, Subscription};
use ledger::{Change, Dice, Ledger, Replay};

/// A subscription, with what was made of its events.
struct Guest {
    subscription: Subscription<Ledger>,
    replay: Replay,
}

impl Guest {
    fn join(engine: &Engine<Ledger>, dice: &mut Dice) -> Self {
        let capacity = usize::try_from(1 + dice.roll(8)).unwrap();
        Self {
            subscription: engine.subscription().capacity(capacity).subscribe(),
            replay: Replay::default(),
        }
    }

    fn read(&mut self, events: u64) {
        for _ in 0..events {
            match self.subscription.try_next() {
                Ok(event) => self.replay.take(&event),
                Err(_) => return,
            }
        }
    }
}

/// Keeps about `crowd` subscriptions, of which at each step one reads, stalls, leaves or joins.
fn host(engine: &Engine<Ledger>, seed: u64, crowd: usize, steps: u64) -> Vec<Guest> {
    let mut dice = Dice::new(seed);
    let mut guests: Vec<Guest> = (0..crowd).map(|_| Guest::join(engine, &mut dice)).collect();
    for _ in 0..steps {
        let chosen = usize::try_from(dice.roll(guests.len() as u64)).unwrap();
        match dice.roll(4) {
            0 => guests[chosen] = Guest::join(engine, &mut dice),
            1 => drop(guests.swap_remove(chosen)),
            2 => guests.push(Guest::join(engine, &mut dice)),
            _ => guests[chosen].read(dice.roll(10)),
        }
    }
    guests
}

fn crowd_of(guests: usize, steps: u64) {
    let engine = ledger::engine(4);
    let over = AtomicBool::new(false);
    let crowds: Vec<_> = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    engine.publish(&Change::Put(1)).unwrap();
                }
            });
        }
        let hosts: Vec<_> = (1..=2)
            .map(|seed| {
                let engine = &engine;
                scope.spawn(move || host(engine, seed, guests / 2, steps))
            })
            .collect();
        // Whoever panics must not leave the publishers at it.
        let crowds: Vec<_> = hosts.into_iter().map(|host| host.join()).collect();
        over.store(true, Ordering::Relaxed);
        crowds.into_iter().map(Result::unwrap).collect()
    });
    let mut guests: Vec<Guest> = crowds.into_iter().flatten().collect();
    assert_eq!(engine.stats().subscriptions, guests.len() as u64);
    assert_eq!(engine.subscriptions().len(), guests.len());
    for guest in &mut guests {
        guest.read(u64::MAX);
        guest.replay.check_end(&guest.subscription);
    }
    drop(guests);
    assert_eq!(engine.stats().subscriptions, 0);
    assert_eq!(engine.subscriptions(), []);
}

#[test]
fn ten_thousand_come_and_go_and_each_is_right() {
    crowd_of(10_000, 50_000);
}

#[test]
#[ignore = "long: a minute"]
fn ten_thousand_come_and_go_for_long() {
    crowd_of(10_000, 1_000_000);
}
