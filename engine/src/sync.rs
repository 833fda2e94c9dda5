//! The one door to primitives: atomics, locks, cells and parking, real ones or `loom`'s.
//!
//! No other file of this crate names `std::sync`, `parking_lot`, `arc_swap` or `loom` (a test scans the sources), so
//! that the models run the same engine on primitives which `loom` can see. Both halves have identical faces.
//!
//! | name | real | under `--cfg loom` |
//! | --- | --- | --- |
//! | atomics, [`fence`] | `std` | `loom` |
//! | [`Arc`], [`OnceLock`] | `std` | `std`: taken as correct, and adding no order that a model could lean on |
//! | [`HandedArc`], whose drop uses what other holders did | `std`'s `Arc` | `loom`'s: its count orders as `std`'s does |
//! | `thread_local` | `std` | `loom` |
//! | [`pause`], where a thread may have to wait for another | `std::thread::yield_now` | gives the turn to another thread |
//! | [`UnsafeCell`] | `std` | `loom`: an unordered access is an error |
//! | [`PointerCell`] | `std`'s `AtomicPtr` | `loom`'s; a look that is not ordered with a plain write is an error |
//! | [`Mutex`] | `parking_lot` | `loom` |
//! | [`ColdMutex`] | `parking_lot` | `std`, invisible to the model: the registry takes no part in the protocol |
//! | [`ColdU64`], which may be written under a `ColdMutex` | `std`'s `AtomicU64` | the same: `loom` must not switch threads under a lock that it does not see |
//! | [`TryMutex`], which no thread waits for | `parking_lot`'s, only tried | `loom`'s, only tried |
//! | [`Exclusive`] | a [`TryMutex`] that is always free | an access that `loom` checks, ordering nothing |
//! | [`ArcCell`] | `arc_swap` | an atomic index into an arena: Acquire loads, AcqRel exchanges, nothing stronger |
//! | [`Parker`] | `std`'s `park` and `unpark` | `loom`'s `Notify` |

#[cfg(not(loom))]
#[path = "sync/real.rs"]
mod primitives;

#[cfg(loom)]
#[path = "sync/modelled.rs"]
mod primitives;

pub(crate) use primitives::{
    Arc, ArcCell, AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, ColdMutex, ColdU64,
    Exclusive, HandedArc, Mutex, MutexGuard, OnceLock, Ordering, Parker, PointerCell, TryMutex,
    UnsafeCell, fence, pause, this_thread, thread_local, unlock_fair,
};

/// A value that one thread sets, once, and other threads see from then on.
///
/// The flag alone hands the value over: a Release store, Acquire loads. `OnceLock` would do by
/// itself, but neither `loom` nor ThreadSanitizer sees the ordering inside it; both see the flag,
/// and report a reader that does not go by it.
pub(crate) struct SetOnce<T> {
    is_set: AtomicBool,
    value: OnceLock<T>,
}

impl<T> SetOnce<T> {
    pub(crate) fn new() -> Self {
        Self {
            is_set: AtomicBool::new(false),
            value: OnceLock::new(),
        }
    }

    /// # Errors
    /// When it has been set before: gives `value` back.
    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        // Pairs with the Acquire load in `get`.
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn get(&self) -> Option<&T> {
        // Pairs with the Release store in `set`.
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        self.value.get()
    }
}

#[cfg(loom)]
pub(crate) use primitives::never_waits;

/// A value on cache lines of its own, so that the writer of one word does not slow the writer of the next.
///
/// 64 bytes is the line of every machine we measured; the pairs that some x86 prefetchers fetch would want 128, which
/// would cost each idle subscription another 128 bytes for no gain that we could measure.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> std::ops::Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
