//! A shared pointer whose count is raised by many at once.
//!
//! Handing one update to n rings with `Arc::clone` costs n read-modify-writes on one cache line (2 ns each, measured);
//! [`Batch`] raises the count by n once, and hands out the n handles as plain copies of the pointer.
//!
//! # Sync points
//! * C: `count`, Release in every drop to the Acquire load of the last one. Hands over all use of the value to the
//!   thread that frees it.
//!
//! Models: `loom-tests/tests/shared.rs`.

use std::{
    fmt,
    marker::PhantomData,
    mem::{self, ManuallyDrop, MaybeUninit},
    ops::Deref,
    ptr::NonNull,
};

use smallvec::SmallVec;

use crate::sync::{AtomicUsize, Ordering, UnsafeCell};

/// A counted reference to an immutable value. Cloning is one relaxed increment; dropping, one decrement.
pub(crate) struct Shared<T> {
    pointer: NonNull<Counted<T>>,
}

#[repr(C)] // in this order
pub(crate) struct Counted<T> {
    /// How many `Shared` handles exist or are promised by a [`Batch`].
    count: AtomicUsize,
    /// Keeps the value off the line of the count: each receiver reads the one, and the others, on their cores, lower the other
    /// at the same time. Padding, since an aligned allocation takes 140 instructions more.
    _apart: MaybeUninit<[u8; 64 - size_of::<AtomicUsize>()]>,
    /// Read by every handle, written only when it is created and when it is freed. In a cell so that `loom` sees both.
    value: UnsafeCell<T>,
}

// SAFETY: a `Shared` gives `&T` to whoever holds it (so `T: Sync`), and the last one to go, on any thread, drops the
// value (so `T: Send`); the count is atomic.
unsafe impl<T: Send + Sync> Send for Shared<T> {}

// SAFETY: `&Shared<T>` gives `&T`, and `clone` makes of it a handle that can move; as above.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        let counted = Box::new(Counted {
            count: AtomicUsize::new(1),
            _apart: MaybeUninit::uninit(),
            value: UnsafeCell::new(value),
        });
        Self {
            pointer: NonNull::from(Box::leak(counted)),
        }
    }

    /// The handle as a pointer, which stays counted.
    pub(crate) fn into_raw(self) -> *mut Counted<T> {
        ManuallyDrop::new(self).pointer.as_ptr()
    }

    /// The handle that [`into_raw`](Self::into_raw) made this pointer of.
    ///
    /// # Safety
    /// Once for each call of `into_raw`.
    #[inline]
    pub(crate) unsafe fn from_raw(pointer: *mut Counted<T>) -> Self {
        // SAFETY: it came from a handle, whose pointer is not null.
        let pointer = unsafe { NonNull::new_unchecked(pointer) };
        Self { pointer }
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: this handle is counted, so the allocation lives at least as long as `&self`.
        unsafe { self.pointer.as_ref() }
    }

    fn raise(&self, by: usize) {
        // Relaxed: whoever is counted already holds a handle, so the value cannot go; as for `Arc::clone`.
        let before = self.counted().count.fetch_add(by, Ordering::Relaxed);
        // As `Arc` does: a count that wrapped would free the value under its holders.
        if before > MAX_COUNT - by.min(MAX_COUNT) {
            std::process::abort();
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        self.raise(1);
        Self {
            pointer: self.pointer,
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.counted().value.with(|value| {
            // SAFETY: nobody writes the value between its creation and the drop of the last handle, and this is one.
            unsafe { &*value }
        })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Sync point C: Release, so that the last one sees all use of the value as over.
        if self.counted().count.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // Sync point C: pairs with the Release decrements of all the others: zero ends the release sequence of each. A
        // load and not a fence, since ThreadSanitizer does not see fences.
        self.counted().count.load(Ordering::Acquire);
        self.counted().value.with_mut(|_| ());
        // SAFETY: the count is zero, so no other handle exists, and none can come to be; the allocation came from a box.
        drop(unsafe { Box::from_raw(self.pointer.as_ptr()) });
    }
}

impl<T: fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(f)
    }
}

/// Some shared values on their way to a stated number of receivers, each of which gets a handle to every one of them.
///
/// All handles are paid for in advance, by one read-modify-write per value; those not handed out are given back on drop.
pub(crate) struct Batch<'a, T> {
    /// Copies of handles that are borrowed for `'a`; most often one.
    pointers: SmallVec<[NonNull<Counted<T>>; 1]>,
    /// Receivers that have not been served yet.
    left: usize,
    handles: PhantomData<&'a Shared<T>>,
}

/// A [`Batch`] of one value. Less work for each receiver: it has no values to walk along, and a loop has all of it in registers.
pub(crate) struct Single<'a, T> {
    pointer: NonNull<Counted<T>>,
    left: usize,
    handles: PhantomData<&'a Shared<T>>,
}

impl<'a, T> Batch<'a, T> {
    /// Of `items`, about `count` of them.
    pub(crate) fn new(
        items: impl IntoIterator<Item = &'a Shared<T>>,
        count: usize,
        receivers: usize,
    ) -> Self {
        let mut pointers = SmallVec::with_capacity(count);
        pointers.extend(items.into_iter().map(|item| {
            item.raise(receivers);
            item.pointer
        }));
        Self {
            pointers,
            left: receivers,
            handles: PhantomData,
        }
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.pointers.len()
    }

    /// One more handle to each of the values, in order: for one receiver. What of it is not taken, leaks.
    ///
    /// # Panics
    /// When all receivers have been served.
    #[inline]
    pub(crate) fn hand_out(&mut self) -> impl ExactSizeIterator<Item = Shared<T>> + use<'_, 'a, T> {
        serve(&mut self.left);
        self.pointers.iter().map(|&pointer| Shared {
            // The count of this handle was raised in `new`, and `left` says that it has not been handed out.
            pointer,
        })
    }

    /// As one value, for the receivers that are left, if it is one.
    pub(crate) fn into_single(mut self) -> Result<Single<'a, T>, Self> {
        let [pointer] = self.pointers[..] else {
            return Err(self);
        };
        Ok(Single {
            pointer,
            left: mem::take(&mut self.left),
            handles: PhantomData,
        })
    }
}

impl<T> Single<'_, T> {
    /// One more handle: for one receiver.
    ///
    /// # Panics
    /// When all receivers have been served.
    #[inline]
    pub(crate) fn hand_out(&mut self) -> Shared<T> {
        serve(&mut self.left);
        // As in `Batch::hand_out`.
        Shared {
            pointer: self.pointer,
        }
    }
}

/// One receiver less is left.
#[inline]
fn serve(left: &mut usize) {
    assert!(*left > 0, "more receivers than were paid for");
    *left -= 1;
}

impl<T> Drop for Batch<'_, T> {
    fn drop(&mut self) {
        for &pointer in &self.pointers {
            // SAFETY: for `'a` there is a handle, and `left` more are counted that have not been handed out.
            unsafe { give_back(pointer, self.left) };
        }
    }
}

impl<T> Drop for Single<'_, T> {
    fn drop(&mut self) {
        // SAFETY: as in `Batch::drop`.
        unsafe { give_back(self.pointer, self.left) };
    }
}

/// Lowers a count by handles that nobody got.
///
/// # Safety
/// So many are counted, and one that stays.
unsafe fn give_back<T>(pointer: NonNull<Counted<T>>, handles: usize) {
    if handles == 0 {
        return;
    }
    // SAFETY: a counted handle stays, so the allocation is there, and this cannot free the value.
    let counted = unsafe { pointer.as_ref() };
    // Relaxed would do: the value was not used through what is given back, and a handle stays. Release tells ThreadSanitizer
    // so, wherever that handle goes.
    counted.count.fetch_sub(handles, Ordering::Release);
}

/// Far from wrapping, however many threads add at once before one of them notices.
const MAX_COUNT: usize = isize::MAX as usize;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Arc;

    /// A value, and what counts how often it is there: one more than that.
    fn witnessed() -> (Arc<()>, [Shared<Arc<()>>; 1]) {
        let witness = Arc::new(());
        (witness.clone(), [Shared::new(witness)])
    }

    #[test]
    fn the_last_handle_frees_the_value() {
        let witness = Arc::new(());
        let first = Shared::new(witness.clone());
        let second = first.clone();
        drop(first);
        assert_eq!(Arc::strong_count(&witness), 2);
        drop(second);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn what_was_not_handed_out_is_given_back() {
        let (witness, items) = witnessed();
        let mut batch = Batch::new(&items, 1, 3);
        let handles: Vec<_> = batch.hand_out().collect();
        drop(batch);
        drop(items);
        assert_eq!(Arc::strong_count(&witness), 2);
        drop(handles);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    fn single<'a, T>(batch: Batch<'a, T>) -> Single<'a, T> {
        batch.into_single().ok().expect("it is one")
    }

    #[test]
    fn one_value_goes_to_the_receivers_that_are_left_and_what_they_leave_is_given_back() {
        let (witness, items) = witnessed();
        let mut batch = Batch::new(&items, 1, 4);
        let first: Vec<_> = batch.hand_out().collect();
        let mut one = single(batch);
        let second = one.hand_out();
        drop(one);
        drop((items, first));
        assert_eq!(Arc::strong_count(&witness), 2);
        drop(second);
        assert_eq!(Arc::strong_count(&witness), 1);
    }

    #[test]
    fn several_values_stay_a_batch() {
        let items = [Shared::new(1), Shared::new(2)];
        let batch = Batch::new(&items, 2, 1).into_single();
        let mut batch = batch.err().expect("they are two");
        let numbers: Vec<_> = batch.hand_out().map(|item| *item).collect();
        assert_eq!(numbers, [1, 2]);
    }

    #[test]
    #[should_panic(expected = "more receivers than were paid for")]
    fn no_more_handles_to_one_value_come_than_were_paid_for() {
        let items = [Shared::new(1)];
        let mut one = single(Batch::new(&items, 1, 1));
        let _first = one.hand_out();
        let _second = one.hand_out();
    }

    #[test]
    #[should_panic(expected = "more receivers than were paid for")]
    fn no_more_handles_come_than_were_paid_for() {
        let items = [Shared::new(1)];
        let mut batch = Batch::new(&items, 1, 1);
        let _first: Vec<_> = batch.hand_out().collect();
        let _second: Vec<_> = batch.hand_out().collect();
    }
}
