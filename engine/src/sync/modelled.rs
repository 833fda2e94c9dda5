//! The same primitives as `loom` sees them. Each stand-in is no stronger than the contract of what it stands for.

use std::{cell::Cell, sync::PoisonError, time::Duration};

pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc as HandedArc, MutexGuard,
        atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
    },
};
use loom::{
    sync::{Notify, atomic::AtomicPtr},
    thread::{self, ThreadId},
};
pub(crate) use std::sync::{Arc, OnceLock, atomic::AtomicU64 as ColdU64};

loom::thread_local! {
    /// This thread is in [`never_waits`].
    static MUST_NOT_WAIT: Cell<bool> = Cell::new(false);
}

/// Runs `f`, in which this thread must not wait for another: a lock taken, a park or a [`pause`] is
/// a failure of the model, whether or not another thread is in the way just then. So `f` goes on
/// wherever the other threads have stopped.
pub(crate) fn never_waits<R>(f: impl FnOnce() -> R) -> R {
    let before = MUST_NOT_WAIT.with(|must_not| must_not.replace(true));
    let result = f();
    MUST_NOT_WAIT.with(|must_not| must_not.set(before));
    result
}

/// This thread is about to do what may take until another thread goes on.
fn may_wait(how: &str) {
    // Not while a model fails: its drops may take locks.
    let must_not = !std::thread::panicking() && MUST_NOT_WAIT.with(Cell::get);
    assert!(!must_not, "waits for another thread: {how}");
}

pub(crate) fn pause() {
    may_wait("tries again in a loop");
    loom::hint::spin_loop();
}

/// `loom`'s mutex without poisoning.
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        may_wait("a lock");
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// To whom a lock is given next is for the model to choose.
pub(crate) fn unlock_fair<T>(guard: MutexGuard<'_, T>) {
    drop(guard);
}

/// A number that no other thread has while this one lives; never 0.
pub(crate) fn this_thread() -> usize {
    loom::thread_local! {
        static MARK: Box<u8> = Box::new(0);
    }
    MARK.with(|mark| std::ptr::from_ref::<u8>(mark).addr())
}

/// A lock that is only ever tried.
pub(crate) struct TryMutex<T>(loom::sync::Mutex<T>);

impl<T> TryMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock that the model does not see, for what takes no part in the protocol.
pub(crate) struct ColdMutex<T>(std::sync::Mutex<T>);

impl<T> ColdMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        may_wait("a cold lock");
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An atomic pointer whose plain writes `loom` reports where a look is not ordered with them.
pub(crate) struct PointerCell<T> {
    pointer: AtomicPtr<T>,
    /// Each look and each plain write touch this cell as well.
    access: UnsafeCell<()>,
}

#[allow(unsafe_code)]
// SAFETY: `access` guards no memory (its content is `()`), and the pointer is atomic.
unsafe impl<T> Sync for PointerCell<T> {}

#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl<T> Send for PointerCell<T> {}

impl<T> PointerCell<T> {
    pub(crate) fn new(pointer: *mut T) -> Self {
        Self {
            pointer: AtomicPtr::new(pointer),
            access: UnsafeCell::new(()),
        }
    }

    pub(crate) fn load(&self, order: Ordering) -> *mut T {
        self.access.with(|_| self.pointer.load(order))
    }

    pub(crate) fn store(&self, pointer: *mut T, order: Ordering) {
        self.pointer.store(pointer, order);
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut *mut T) -> R) -> R {
        self.access.with_mut(|_| {
            let mut pointer = self.pointer.load(Ordering::Relaxed);
            let result = f(&raw mut pointer);
            self.pointer.store(pointer, Ordering::Relaxed);
            result
        })
    }
}

/// Data that a protocol elsewhere gives to one thread at a time: `loom` reports it when the protocol does not.
pub(crate) struct Exclusive<T> {
    /// Each access touches this cell, which orders nothing and objects to whatever is unordered.
    access: UnsafeCell<()>,
    value: std::sync::Mutex<T>,
}

#[allow(unsafe_code)]
// SAFETY: `access` guards no memory (its content is `()`); the value is behind a mutex.
unsafe impl<T: Send> Sync for Exclusive<T> {}

#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl<T: Send> Send for Exclusive<T> {}

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            access: UnsafeCell::new(()),
            value: std::sync::Mutex::new(value),
        }
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.access.with_mut(|_| {
            let mut value = self
                .value
                .try_lock()
                .expect("two threads in one exclusive section");
            f(&mut value)
        })
    }
}

/// Stands for `arc_swap`: an atomic index into an arena that lives as long as the model.
///
/// Loads are Acquire and exchanges AcqRel, which is what `arc_swap` promises; a mutex here would order more, and hide
/// a missing fence. What is stored is freed with the cell, so frees of versions are not modelled.
pub(crate) struct ArcCell<T> {
    index: AtomicUsize,
    arena: std::sync::Mutex<Vec<Arc<T>>>,
}

impl<T> ArcCell<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self {
            index: AtomicUsize::new(0),
            arena: std::sync::Mutex::new(vec![value]),
        }
    }

    pub(crate) fn load(&self) -> Arc<T> {
        self.at(self.index.load(Ordering::Acquire))
    }

    pub(crate) fn peek<R>(&self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.load())
    }

    pub(crate) fn swap(&self, new: Arc<T>) -> Arc<T> {
        let new = self.store(new);
        self.at(self.index.swap(new, Ordering::AcqRel))
    }

    pub(crate) fn compare_exchange(&self, current: &Arc<T>, new: Arc<T>) -> bool {
        let seen = self.index.load(Ordering::Relaxed);
        if !Arc::ptr_eq(&self.at(seen), current) {
            return false;
        }
        let new = self.store(new);
        let exchanged = self
            .index
            .compare_exchange(seen, new, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if !exchanged {
            // The refused value goes, as it does in `arc_swap`; its place in the arena stays.
            self.arena()[new] = current.clone();
        }
        exchanged
    }

    fn at(&self, index: usize) -> Arc<T> {
        self.arena()[index].clone()
    }

    fn store(&self, value: Arc<T>) -> usize {
        let mut arena = self.arena();
        arena.push(value);
        arena.len() - 1
    }

    fn arena(&self) -> std::sync::MutexGuard<'_, Vec<Arc<T>>> {
        self.arena.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parking by `Notify`, which keeps a wake before the park, hands over what precedes it, and ends a
/// park by itself once: `loom`'s `unpark` misbehaves towards threads that wait in a join or for a
/// mutex.
pub(crate) struct Parker {
    notify: Notify,
    thread: ThreadId,
}

impl Parker {
    pub(crate) fn of_this_thread() -> Self {
        Self {
            notify: Notify::new(),
            thread: thread::current().id(),
        }
    }

    pub(crate) fn is_of_this_thread(&self) -> bool {
        self.thread == thread::current().id()
    }

    pub(crate) fn park(&self) {
        may_wait("parks");
        assert!(self.is_of_this_thread(), "parks another thread");
        self.notify.wait();
    }

    /// A model has no clock: the time has always passed.
    pub(crate) fn park_for(&self, _time: Duration) -> bool {
        may_wait("parks");
        false
    }

    pub(crate) fn unpark(&self) {
        self.notify.notify();
    }
}

/// `loom`'s, which knows no `const`.
macro_rules! loom_thread_local {
    (static $name:ident: $type:ty = const $init:block;) => {
        loom::thread_local! {
            static $name: $type = $init;
        }
    };
}

pub(crate) use loom_thread_local as thread_local;
