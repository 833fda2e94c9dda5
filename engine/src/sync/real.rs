//! The primitives of an ordinary build.

pub(crate) use std::sync::atomic::AtomicU64 as ColdU64;
pub(crate) use std::sync::{
    Arc, Arc as HandedArc, OnceLock,
    atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering, fence},
};
pub(crate) use std::{hint::spin_loop as pause, thread_local};
use std::{sync::atomic::AtomicPtr, task::Wake, time::Instant};

use arc_swap::ArcSwap;
use parking_lot::Condvar;
pub(crate) use parking_lot::{Mutex, Mutex as ColdMutex};

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

/// Data that a protocol elsewhere gives to one thread at a time.
///
/// The mutex is never contended while that protocol holds; it is here because `unsafe` would buy 5 ns a round.
pub(crate) struct Exclusive<T>(Mutex<T>);

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock())
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

/// Parks one thread until somebody wakes it. A wake before the park is kept.
#[derive(Default)]
pub(crate) struct Parker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parker {
    pub(crate) fn park(&self) {
        let mut woken = self.woken.lock();
        while !*woken {
            self.changed.wait(&mut woken);
        }
        *woken = false;
    }

    /// `false` when `deadline` passed without a wake.
    pub(crate) fn park_until(&self, deadline: Instant) -> bool {
        let mut woken = self.woken.lock();
        while !*woken {
            if self.changed.wait_until(&mut woken, deadline).timed_out() {
                break;
            }
        }
        std::mem::take(&mut *woken)
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
}
