//! One waker for many subscriptions.

use std::{fmt, task::Waker};

use crate::{
    sync::{Arc, AtomicBool, AtomicUsize, Ordering},
    waiter::Waiter,
};

/// Where one task or thread waits for many subscriptions at once, for the price of one wake-up.
///
/// Given to [`SubscriptionBuilder::wait_set`](crate::SubscriptionBuilder::wait_set), to any number of subscriptions, of
/// any engines. Whatever would wake one of them wakes the set, once until it is [armed](Self::arm) again: a publisher pays
/// for a waker per set in place of one per subscription. What waits at a subscription itself is woken as ever; but once
/// somebody has, publishers to the set look at each of their subscriptions that is in any set.
///
/// # Contract
/// Arm, **then** look into each subscription of the set ([`try_next`](crate::Subscription::try_next) until there is nothing).
/// Who finds nothing in any may rest: the waker is woken when there is something in one. Once it has been woken, arm again
/// before looking again.
///
/// The last waker given is the one that is woken. Clones are the same set.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, task::{Wake, Waker}, thread};
/// use configstream_engine::{Engine, Event, State, Transition, WaitSet};
/// # #[derive(Clone)]
/// # struct Total(i64);
/// # impl State for Total {
/// #     type Change = i64;
/// #     type Update = i64;
/// #     type Rejection = std::convert::Infallible;
/// #     fn apply(&self, change: &i64) -> Result<Transition<Self>, Self::Rejection> {
/// #         Ok(Transition::new(Total(self.0 + change), vec![*change]))
/// #     }
/// # }
///
/// struct Unpark(thread::Thread);
///
/// impl Wake for Unpark {
///     fn wake(self: Arc<Self>) {
///         self.0.unpark();
///     }
/// }
///
/// let (left, right) = (Engine::builder(Total(0)).build()?, Engine::builder(Total(0)).build()?);
/// let set = WaitSet::new();
/// let mut both = [&left, &right].map(|engine| engine.subscription().wait_set(&set).subscribe());
/// let waker = Waker::from(Arc::new(Unpark(thread::current())));
///
/// thread::spawn(move || {
///     left.publish(&3)?;
///     right.publish(&4)
/// });
/// let mut totals = [0, 0];
/// while totals != [3, 4] {
///     set.arm(&waker);
///     for (subscription, total) in both.iter_mut().zip(&mut totals) {
///         while let Ok(event) = subscription.try_next() {
///             match event {
///                 Event::Snapshot(snapshot) => *total = snapshot.state().0,
///                 Event::Update(update) => *total += *update,
///                 _ => {}
///             }
///         }
///     }
///     if totals != [3, 4] {
///         thread::park();
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WaitSet(Arc<Inner>);

struct Inner {
    waiter: Waiter,
    /// Somebody has waited at a subscription of the set itself. Never taken back.
    alone: AtomicBool,
    /// The distributor that is noting whom to wake, and has noted the set; 0 for none.
    noted_by: AtomicUsize,
}

impl WaitSet {
    /// A set that nobody waits at.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            waiter: Waiter::new(),
            alone: AtomicBool::new(false),
            noted_by: AtomicUsize::new(0),
        }))
    }

    /// Asks that `waker` be woken when one of the subscriptions has something to hand out; it stays asked until then.
    ///
    /// # Progress
    /// Waits for nothing, and no publisher waits for it. Where it meets a publisher that takes the
    /// last waker out, or another thread in this call, it wakes `waker` before it returns.
    pub fn arm(&self, waker: &Waker) {
        self.0.waiter.arm(waker);
    }

    /// Takes the request back, and drops the waker.
    pub fn disarm(&self) {
        drop(self.0.waiter.clear());
    }

    pub(crate) fn waiter(&self) -> &Waiter {
        &self.0.waiter
    }

    /// A subscription of the set is about to be armed itself.
    pub(crate) fn wait_alone(&self) {
        // Relaxed: ordered by the fence P that follows in `Waiter::arm`.
        self.0.alone.store(true, Ordering::Relaxed);
    }

    /// Whether a subscription of the set may be armed itself. The caller has passed fence F3.
    pub(crate) fn has_waited_alone(&self) -> bool {
        // Relaxed: ordered by F3, as the `waiting` of that subscription is.
        self.0.alone.load(Ordering::Relaxed)
    }

    /// Whether `distributor`, noting whom to wake, has yet to note this set, which it then has. A hint, so that it is noted about
    /// once: with several engines, each overwrites what the others wrote, and may note it again.
    pub(crate) fn note(&self, distributor: usize) -> bool {
        // Relaxed, here and below: only a distributor itself writes its address, and takes it away when it has noted all.
        let noted = self.0.noted_by.load(Ordering::Relaxed) == distributor;
        if !noted {
            self.0.noted_by.store(distributor, Ordering::Relaxed);
        }
        !noted
    }

    /// The set is to be noted again.
    pub(crate) fn forget(&self) {
        self.0.noted_by.store(0, Ordering::Relaxed);
    }
}

impl Default for WaitSet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitSet").finish_non_exhaustive()
    }
}
