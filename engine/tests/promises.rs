//! What the types promise to the compiler, and what they print. Absences are doctests beside the types.

use std::{error::Error, fmt::Debug, hash::Hash, sync::Arc};

use configstream_engine::{
    BuildError, Closed, Committed, Engine, EngineBuilder, EngineStats, Epoch, Event, FollowError,
    Memo, NextTimeoutError, NotDistributed, PublishError, Sequence, Snapshot, SnapshotReason,
    Subscription, SubscriptionBuilder, SubscriptionObserver, SubscriptionStats, Transition,
    TryNextError, Update, Version, WaitSet,
};

mod ledger;
use ledger::{Change, Ledger, Refused};

const fn shared_by_threads<T: Send + Sync>() {}
const fn free_of_borrows<T: 'static>() {}
const fn movable<T: Unpin>() {}
const fn cheap_handle<T: Clone + Debug>() {}
const fn plain_value<T: Copy + Eq + Debug>() {}
const fn number<T: Copy + Ord + Hash + Default + Debug>() {}
const fn failure<T: Error + Eq + Send + Sync + 'static>() {}
const fn iterator<T: Iterator<Item = Event<Ledger>>>() {}

const _: () = {
    shared_by_threads::<Engine<Ledger>>();
    shared_by_threads::<EngineBuilder<Ledger>>();
    shared_by_threads::<SubscriptionBuilder<'static, Ledger>>();
    shared_by_threads::<Subscription<Ledger>>();
    shared_by_threads::<SubscriptionObserver<Ledger>>();
    shared_by_threads::<Event<Ledger>>();
    shared_by_threads::<Snapshot<Ledger>>();
    shared_by_threads::<Update<Ledger>>();
    shared_by_threads::<Version<Ledger>>();
    shared_by_threads::<Memo>();
    free_of_borrows::<Subscription<Ledger>>();
    movable::<Subscription<Ledger>>();
    movable::<Engine<Ledger>>();
    cheap_handle::<Engine<Ledger>>();
    cheap_handle::<SubscriptionObserver<Ledger>>();
    cheap_handle::<Event<Ledger>>();
    cheap_handle::<Snapshot<Ledger>>();
    cheap_handle::<Update<Ledger>>();
    cheap_handle::<WaitSet>();
    shared_by_threads::<WaitSet>();
    cheap_handle::<EngineStats>();
    cheap_handle::<SubscriptionStats>();
    plain_value::<Committed>();
    plain_value::<SnapshotReason>();
    number::<Sequence>();
    number::<Epoch>();
    failure::<BuildError>();
    failure::<FollowError>();
    failure::<Closed>();
    failure::<NotDistributed>();
    failure::<TryNextError>();
    failure::<NextTimeoutError>();
    iterator::<Subscription<Ledger>>();
};

#[cfg(feature = "stream")]
const _: () = {
    const fn stream<T: futures_util::Stream<Item = Event<Ledger>>>() {}
    stream::<Subscription<Ledger>>();
};

#[test]
fn every_type_prints_without_printing_the_state() {
    // A state or an update may be private, and need not be `Debug`.
    #[derive(Clone)]
    struct Secret;
    impl configstream_engine::State for Secret {
        type Change = ();
        type Update = Secret;
        type Rejection = ();
        fn apply(&self, _: &()) -> Result<Transition<Self>, ()> {
            Ok(Transition::new(Secret, vec![Secret]))
        }
    }
    let builder = Engine::builder(Secret);
    let mut printed = vec![format!("{builder:?}")];
    let engine = builder.build().unwrap();
    printed.push(format!("{:?}", engine.subscription().name("visible")));
    let mut subscription = engine.subscription().name("visible").subscribe();
    let snapshot = subscription.next().unwrap();
    engine.publish(&()).unwrap();
    let update = subscription.next().unwrap();
    printed.push(format!("{engine:?}"));
    printed.push(format!("{subscription:?}"));
    printed.push(format!("{:?}", subscription.observer()));
    printed.push(format!("{snapshot:?}"));
    printed.push(format!("{update:?}"));
    printed.push(format!("{:?}", engine.head()));
    printed.push(format!("{:?}", engine.head().memo()));
    printed.push(format!("{:?}", Transition::snapshot(Secret)));
    printed.push(format!("{:?}", engine.stats()));
    printed.push(format!("{:?}", engine.subscriptions()));
    for line in printed {
        assert!(!line.is_empty());
        assert!(!line.contains("Secret"), "{line}");
    }
}

#[test]
fn printing_does_not_wait_for_anybody() {
    // From inside a round, which holds everything that can be held.
    struct Prints(Engine<Ledger>);
    impl std::task::Wake for Prints {
        fn wake(self: Arc<Self>) {
            assert!(format!("{:?}", self.0).contains("sequence: 1"));
        }
    }
    let engine = ledger::engine(1);
    let mut subscription = engine.subscribe();
    ledger::take(&mut subscription);
    let waker = std::task::Waker::from(Arc::new(Prints(engine.clone())));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(subscription.poll_next(&mut cx).is_pending());
    ledger::put(&engine, [1]);
}

#[test]
fn errors_read_as_parts_of_a_sentence() {
    let sequence = Sequence::new(7);
    let discontinuity = FollowError::Discontinuity {
        expected: sequence,
        found: Sequence::new(9),
    };
    let all = [
        BuildError::StartPastLimit.to_string(),
        PublishError::<u8>::SequenceLimit { needed: sequence }.to_string(),
        PublishError::Rejected("out of stock").to_string(),
        PublishError::<u8>::Exhausted.to_string(),
        PublishError::<u8>::Closed.to_string(),
        discontinuity.to_string(),
        FollowError::SequenceLimit { needed: sequence }.to_string(),
        FollowError::Exhausted.to_string(),
        FollowError::Closed.to_string(),
        Closed.to_string(),
        NotDistributed.to_string(),
        TryNextError::Empty.to_string(),
        TryNextError::Closed.to_string(),
        NextTimeoutError::Timeout.to_string(),
        NextTimeoutError::Closed.to_string(),
    ];
    for line in all {
        assert!(line.starts_with(char::is_lowercase), "{line}");
        assert!(!line.ends_with('.'), "{line}");
    }
    assert_eq!(discontinuity.to_string(), "expected sequence 7, found 9");
}

#[test]
fn a_rejection_comes_back() {
    let engine = ledger::engine(1);
    let error = engine.publish(&Change::Refuse).unwrap_err();
    assert!(!error.is_closed());
    assert_eq!(error.into_rejection(), Some(Refused));
}

#[test]
#[should_panic(expected = "a memo holds one type")]
fn a_memo_holds_one_type() {
    let memo = Memo::default();
    memo.get_or_init(|| 1_u8);
    memo.get_or_init(|| 1_u16);
}
