//! The primitives of an ordinary build.

pub(crate) use std::sync::atomic::AtomicU64 as ColdU64;
pub(crate) use std::sync::{
    Arc, Arc as HandedArc, OnceLock,
    atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
};
use std::{
    sync::atomic::AtomicPtr,
    thread::{self, Thread},
    time::Duration,
};
pub(crate) use std::{thread::yield_now as pause, thread_local};

use arc_swap::ArcSwap;
pub(crate) use parking_lot::{Mutex, Mutex as ColdMutex, MutexGuard};

/// `std::cell::UnsafeCell` with the face of `loom`'s.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// An atomic pointer that may be written plainly besides, by whom a protocol elsewhere keeps others from looking meanwhile.
pub(crate) struct PointerCell<T>(AtomicPtr<T>);

impl<T> PointerCell<T> {
    pub(crate) fn new(pointer: *mut T) -> Self {
        Self(AtomicPtr::new(pointer))
    }

    #[inline(always)]
    pub(crate) fn load(&self, order: Ordering) -> *mut T {
        self.0.load(order)
    }

    #[inline(always)]
    pub(crate) fn store(&self, pointer: *mut T, order: Ordering) {
        self.0.store(pointer, order);
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut *mut T) -> R) -> R {
        f(self.0.as_ptr())
    }
}

/// Gives a lock back to the thread that has waited longest for it, if one waits.
pub(crate) fn unlock_fair<T>(guard: MutexGuard<'_, T>) {
    MutexGuard::unlock_fair(guard);
}

/// A number that no other thread has while this one lives; never 0.
pub(crate) fn this_thread() -> usize {
    thread_local! {
        static MARK: u8 = const { 0 };
    }
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

/// A lock that is only ever tried, so no thread waits for it, neither to take it nor to give it
/// back.
///
/// A `parking_lot` mutex that a thread waits for is unlocked under the lock of a queue, which the
/// waiting thread holds as it enters: a publisher must not unlock one. Without a call of `lock` no
/// thread is ever in that queue.
pub(crate) struct TryMutex<T>(Mutex<T>);

impl<T> TryMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Lock-free, and so is dropping the guard.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }
}

/// Data that a protocol elsewhere gives to one thread at a time.
///
/// The lock is never found taken while that protocol holds; it is here because `unsafe` would buy 5
/// ns a round. It is only tried: a protocol that fails is a panic, and no publisher ever waits
/// here.
pub(crate) struct Exclusive<T>(TryMutex<T>);

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(TryMutex::new(value))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.try_lock();
        f(value
            .as_mut()
            .expect("two threads in one exclusive section"))
    }
}

/// A shared pointer that threads load, swap and compare-and-swap: `arc_swap::ArcSwap`.
pub(crate) struct ArcCell<T>(ArcSwap<T>);

impl<T> ArcCell<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    /// The current value, owned. Wait-free but for the first load of a thread, which takes a node.
    pub(crate) fn load(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// The current value, borrowed for a moment: half the price of [`load`](Self::load). `f` must not block.
    pub(crate) fn peek<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.0.load())
    }

    pub(crate) fn swap(&self, new: Arc<T>) -> Arc<T> {
        self.0.swap(new)
    }

    /// Makes `new` the value if `current` still is. `false`: somebody else was faster, and nothing changed.
    pub(crate) fn compare_exchange(&self, current: &Arc<T>, new: Arc<T>) -> bool {
        Arc::ptr_eq(&self.0.compare_and_swap(current, new), current)
    }
}

/// Parks the thread that made it: `std`'s `park` and `unpark` of that thread.
///
/// Contract: [`unpark`](Self::unpark) before or during a [`park`](Self::park) ends it, and what
/// precedes it is seen after that. A park may also end by itself. `unpark` is an exchange of one
/// atomic word and, for a thread that is parked, a system call: on Linux, Android, the BSDs, macOS
/// and Windows it takes no lock. On other systems `std` takes a lock of the thread.
pub(crate) struct Parker(Thread);

impl Parker {
    /// Parks the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        Self(thread::current())
    }

    pub(crate) fn is_of_this_thread(&self) -> bool {
        self.0.id() == thread::current().id()
    }

    /// Of the thread that made it only.
    pub(crate) fn park(&self) {
        thread::park();
    }

    /// As [`park`](Self::park), for at most so long. `false` if that time has passed for sure.
    pub(crate) fn park_for(&self, time: Duration) -> bool {
        thread::park_timeout(time);
        true
    }

    pub(crate) fn unpark(&self) {
        self.0.unpark();
    }
}
