//! States and updates are somebody else's code, and may panic when they are dropped, or applied: whoever called the
//! engine gets the panic, and nobody else is harmed.

use std::{
    convert::Infallible,
    mem::forget,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
};

use configstream_engine::{Engine, Event, State, Subscription, Transition, TryNextError, WaitSet};

/// Panics when it is dropped, if its fuse is lit.
#[derive(Clone, Debug)]
struct Bomb {
    lit: bool,
    number: u64,
}

/// The last bomb. Its own drop does not panic.
#[derive(Clone)]
struct Arsenal {
    number: u64,
    /// Panics when the state goes.
    bomb: Option<Arc<Bomb>>,
    dropped: Arc<AtomicU64>,
}

enum Order {
    Quiet,
    LitUpdate,
    LitState,
    /// Panics as it is applied.
    Dud,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.lit, "bomb {}", self.number);
    }
}

impl Drop for Arsenal {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl State for Arsenal {
    type Change = Order;
    type Update = Bomb;
    type Rejection = Infallible;

    fn apply(&self, order: &Order) -> Result<Transition<Self>, Infallible> {
        let number = self.number + 1;
        let bomb = |lit| Bomb { lit, number };
        let state = Self {
            number,
            bomb: matches!(order, Order::LitState).then(|| Arc::new(bomb(true))),
            dropped: self.dropped.clone(),
        };
        assert!(!matches!(order, Order::Dud), "a dud");
        let lit = matches!(order, Order::LitUpdate);
        Ok(Transition::new(state, vec![bomb(lit)]))
    }
}

fn engine() -> Engine<Arsenal> {
    let state = Arsenal {
        number: 0,
        bomb: None,
        dropped: Arc::default(),
    };
    Engine::builder(state).ring_capacity(4).build().unwrap()
}

fn subscribe(engine: &Engine<Arsenal>) -> Subscription<Arsenal> {
    let mut subscription = engine.subscribe();
    assert!(matches!(subscription.try_next(), Ok(Event::Snapshot(_))));
    subscription
}

fn numbers(subscription: &mut Subscription<Arsenal>) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match subscription.try_next() {
            Ok(event) => numbers.push(event.sequence().get()),
            Err(TryNextError::Empty) => return numbers,
            Err(error) => panic!("{error}"),
        }
    }
}

fn panics(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => payload.downcast_ref::<&str>().copied().unwrap().into(),
    }
}

fn publish(engine: &Engine<Arsenal>, order: Order) {
    engine.publish(&order).unwrap();
}

#[test]
fn a_change_that_panics_as_it_is_applied_changes_nothing() {
    let engine = engine();
    let mut subscription = subscribe(&engine);
    assert_eq!(panics(|| publish(&engine, Order::Dud)), "a dud");
    publish(&engine, Order::Quiet);
    assert_eq!(numbers(&mut subscription), [1]);
}

#[test]
fn an_update_that_panics_as_it_goes_panics_after_everybody_was_served() {
    let engine = engine();
    let mut subscription = subscribe(&engine);
    (1..=4).for_each(|_| publish(&engine, Order::Quiet));
    // It does not fit the ring, so it goes with its round.
    assert_eq!(panics(|| publish(&engine, Order::LitUpdate)), "bomb 5");
    assert_eq!(engine.head().sequence().get(), 5);
    assert_eq!(numbers(&mut subscription), [1, 2, 3, 4, 5]);
    publish(&engine, Order::Quiet);
    assert_eq!(numbers(&mut subscription), [6]);
}

#[test]
fn a_state_that_panics_as_it_goes_panics_after_everybody_was_served() {
    let engine = engine();
    let mut subscription = subscribe(&engine);
    publish(&engine, Order::LitState);
    assert!(engine.head().state().bomb.is_some());
    assert_eq!(numbers(&mut subscription), [1]);
    assert_eq!(panics(|| publish(&engine, Order::Quiet)), "bomb 1");
    assert_eq!(numbers(&mut subscription), [2]);
    publish(&engine, Order::Quiet);
    assert_eq!(numbers(&mut subscription), [3]);
}

#[test]
fn a_state_that_panics_as_it_goes_does_not_leak_the_others() {
    let engine = engine();
    let dropped = engine.read_head(|head| head.state().dropped.clone());
    publish(&engine, Order::LitState);
    assert_eq!(panics(|| publish(&engine, Order::Quiet)), "bomb 1");
    publish(&engine, Order::Quiet);
    drop(engine);
    // The first, one by each publish, and the one that closed.
    assert_eq!(dropped.load(Ordering::Relaxed), 5);
}

/// Panics when it is woken.
struct Alarm;

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        panic!("alarm");
    }
}

/// Panics when it is woken, with what panics when it is dropped.
struct Trap;

impl Wake for Trap {
    fn wake(self: Arc<Self>) {
        panic_any(Bomb {
            lit: true,
            number: 0,
        });
    }
}

/// A subscription that has caught up, and panics when it is woken.
fn alarmed(engine: &Engine<Arsenal>) -> Subscription<Arsenal> {
    armed(engine, Waker::from(Arc::new(Alarm)))
}

fn armed(engine: &Engine<Arsenal>, waker: Waker) -> Subscription<Arsenal> {
    let mut subscription = subscribe(engine);
    let polled = subscription.poll_next(&mut Context::from_waker(&waker));
    assert!(polled.is_pending());
    subscription
}

#[test]
fn of_two_panics_the_first_reaches_the_publisher() {
    let engine = engine();
    publish(&engine, Order::LitState);
    let _alarmed = alarmed(&engine);
    // The waker's, then that of the state that goes with the version before.
    assert_eq!(panics(|| publish(&engine, Order::Quiet)), "alarm");
    publish(&engine, Order::Quiet);
}

#[test]
fn panics_that_panic_as_they_go_keep_no_set_asleep() {
    struct Count(AtomicU64);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let engine = engine();
    let set = WaitSet::new();
    let mut waiting = engine.subscription().wait_set(&set).subscribe();
    assert!(waiting.try_next().is_ok());
    let woken = Arc::new(Count(AtomicU64::new(0)));
    for times in 1..=2 {
        let _traps = [(), ()].map(|()| armed(&engine, Waker::from(Arc::new(Trap))));
        set.arm(&Waker::from(woken.clone()));
        let panic = catch_unwind(AssertUnwindSafe(|| publish(&engine, Order::Quiet)));
        forget(panic.unwrap_err());
        assert_eq!(woken.0.load(Ordering::Relaxed), times);
    }
}

#[test]
fn a_drop_that_panics_while_its_thread_does_does_not_abort() {
    let engine = engine();
    let _alarmed = alarmed(&engine);
    let last = engine;
    let message = panics(|| {
        let _last = last;
        panic!("the reason");
    });
    assert_eq!(message, "the reason");
}

#[test]
fn of_two_drops_that_panic_in_one_round_one_reaches_the_publisher() {
    let engine = engine();
    let mut subscription = subscribe(&engine);
    // Five do not fit a ring of four, so all of them go with their round; and so does the state
    // before.
    publish(&engine, Order::LitState);
    let batch = || {
        let lit = [(); 5].map(|()| Order::LitUpdate);
        engine.publish_batch(&lit).unwrap();
    };
    assert!(panics(batch).starts_with("bomb"));
    assert_eq!(engine.head().sequence().get(), 6);
    assert_eq!(numbers(&mut subscription), [1, 6]);
    publish(&engine, Order::Quiet);
    assert_eq!(numbers(&mut subscription), [7]);
}

#[test]
fn a_round_over_many_versions_that_panic_as_they_go_goes_on() {
    let engine = engine();
    let alarmed = armed(&engine, Waker::from(Arc::new(Publishes(engine.clone()))));
    // The waker commits versions that the next round takes, all of them.
    assert!(panics(|| publish(&engine, Order::Quiet)).starts_with("bomb"));
    assert_eq!(engine.stats().distributed, engine.stats().published);
    drop(alarmed);
}

/// Publishes many times when it is woken: a chain, since the round that wakes it holds the role.
struct Publishes(Engine<Arsenal>);

impl Wake for Publishes {
    fn wake(self: Arc<Self>) {
        for _ in 0..8 {
            for order in [Order::LitState, Order::LitUpdate] {
                let published = catch_unwind(AssertUnwindSafe(|| publish(&self.0, order)));
                if let Err(panic) = published {
                    forget(panic);
                }
            }
        }
    }
}

#[test]
fn a_publish_within_apply_panics_and_says_why() {
    #[derive(Clone)]
    struct Nested(Arc<Mutex<Option<Engine<Nested>>>>);

    impl State for Nested {
        type Change = bool;
        type Update = ();
        type Rejection = Infallible;

        fn apply(&self, nested: &bool) -> Result<Transition<Self>, Infallible> {
            if *nested {
                let engine = self.0.lock().unwrap().clone().unwrap();
                engine.publish(&false).unwrap();
            }
            Ok(Transition::new(self.clone(), vec![()]))
        }
    }

    let place = Arc::new(Mutex::new(None));
    let engine = Engine::builder(Nested(place.clone())).build().unwrap();
    *place.lock().unwrap() = Some(engine.clone());
    let message = panics(|| {
        let _ = engine.publish(&true);
    });
    assert!(
        message.starts_with("publish within `State::apply`"),
        "{message}"
    );
    assert_eq!(engine.head().sequence().get(), 0);
    // The thread can publish as ever.
    engine.publish(&false).unwrap();
    assert_eq!(engine.head().sequence().get(), 1);
    // The state holds its own engine, which would keep both.
    let own = place.lock().unwrap().take();
    drop(own);
}

#[test]
fn a_payload_that_panics_as_it_goes_does_not_abort_a_thread_that_panics() {
    let engine = engine();
    let _trapped = armed(&engine, Waker::from(Arc::new(Trap)));
    let last = engine;
    let message = panics(|| {
        let _last = last;
        panic!("the reason");
    });
    assert_eq!(message, "the reason");
}

#[test]
fn a_reader_whose_update_panics_as_it_goes_can_go_on() {
    let engine = engine();
    let mut subscription = subscribe(&engine);
    publish(&engine, Order::LitUpdate);
    publish(&engine, Order::Quiet);
    let event = subscription.try_next().unwrap();
    assert_eq!(panics(|| drop(event)), "bomb 1");
    assert_eq!(numbers(&mut subscription), [2]);
}

#[test]
fn a_subscription_leaves_even_if_an_update_in_its_ring_panics_as_it_goes() {
    let engine = engine();
    let subscription = subscribe(&engine);
    publish(&engine, Order::LitUpdate);
    publish(&engine, Order::Quiet);
    publish(&engine, Order::LitUpdate);
    // The ring holds the last handles to the updates.
    assert_eq!(panics(|| drop(subscription)), "bomb 1");
    assert_eq!(engine.stats().subscriptions, 0);
    assert_eq!(engine.subscriptions().len(), 0);
    publish(&engine, Order::Quiet);
}
