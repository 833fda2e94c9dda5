//! A place beside a value for what somebody else made of it.

use std::{any::Any, fmt};

use crate::sync::{Arc, OnceLock};

/// Holds what an adapter derives from a value, typically its encoding, so that it is made once.
///
/// The engine does not look inside. One memo holds one type.
///
/// # Examples
///
/// ```
/// use configstream_engine::Memo;
///
/// let memo = Memo::default();
/// assert_eq!(memo.get_or_init(|| "made once".len()), &9);
/// assert_eq!(memo.get_or_init::<usize>(|| unreachable!()), &9);
/// ```
#[derive(Default)]
pub struct Memo(OnceLock<Arc<dyn Any + Send + Sync>>);

impl Memo {
    /// What is remembered, made by `make` if nothing is yet.
    ///
    /// # Progress
    /// Wait-free once filled. Threads that come while one of them is in `make` wait for it.
    ///
    /// # Panics
    /// When something of another type is remembered already.
    pub fn get_or_init<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> &T {
        self.0
            .get_or_init(|| Arc::new(make()))
            .downcast_ref()
            .expect("a memo holds one type")
    }

    /// What is remembered, if something of this type is.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.get()?.downcast_ref()
    }

    /// A memo for an equal value: it remembers what this one does by now.
    pub(crate) fn carry_over(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Memo")
            .field(&self.0.get().is_some())
            .finish()
    }
}
