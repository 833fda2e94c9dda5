//! What the engine replicates: a value that changes by steps.

use std::fmt;

/// The value that an [`Engine`](crate::Engine) publishes, and how it changes.
///
/// `Clone` must be cheap: versions are immutable, so a change makes a new value. A persistent structure (`rpds`, `im`)
/// shares all but the path that changed.
///
/// # Examples
///
/// ```
/// use configstream_engine::{State, Transition};
///
/// /// A counter that refuses to go below zero.
/// #[derive(Clone)]
/// struct Stock(u32);
///
/// impl State for Stock {
///     type Change = i64;
///     type Update = i64;
///     type Rejection = &'static str;
///
///     fn apply(&self, change: &i64) -> Result<Transition<Self>, &'static str> {
///         let next = i64::from(self.0) + change;
///         let next = u32::try_from(next).map_err(|_| "out of stock, or too much of it")?;
///         Ok(match change {
///             0 => Transition::unobservable(self.clone()),
///             _ => Transition::new(Stock(next), vec![*change]),
///         })
///     }
/// }
/// ```
///
/// Any thread may read a version, and any thread may be the last to let go of it, so a state is `Send + Sync`:
///
/// ```
/// # use configstream_engine::{State, Transition};
/// #[derive(Clone)]
/// struct Name(std::sync::Arc<str>);
///
/// impl State for Name {
///     // ...
/// #   type Change = String;
/// #   type Update = ();
/// #   type Rejection = ();
/// #   fn apply(&self, name: &String) -> Result<Transition<Self>, ()> {
/// #       Ok(Transition::new(Name(name.as_str().into()), vec![()]))
/// #   }
/// }
/// ```
///
/// ```compile_fail,E0277
/// # use configstream_engine::{State, Transition};
/// #[derive(Clone)]
/// struct Name(std::rc::Rc<str>);
///
/// impl State for Name {
///     // ...
/// #   type Change = String;
/// #   type Update = ();
/// #   type Rejection = ();
/// #   fn apply(&self, name: &String) -> Result<Transition<Self>, ()> {
/// #       Ok(Transition::new(Name(name.as_str().into()), vec![()]))
/// #   }
/// }
/// ```
pub trait State: Clone + Send + Sync + 'static {
    /// What a publisher asks for.
    type Change;
    /// What subscribers receive.
    type Update: Send + Sync + 'static;
    /// Why a change cannot be.
    type Rejection;

    /// The state after `change`, and the updates that lead there.
    ///
    /// Called once per attempt to commit, so perhaps more than once per publish: it must have no
    /// effect but its result. A publish in it, to whichever engine, panics.
    ///
    /// # Errors
    /// The state's own reason to refuse; nothing changes then.
    fn apply(&self, change: &Self::Change) -> Result<Transition<Self>, Self::Rejection>;
}

/// A state that can follow another one by the updates which that one published.
pub trait Replica: State {
    /// The state after an update that was accepted elsewhere, and so cannot be refused here.
    #[must_use]
    fn absorb(&self, update: &Self::Update) -> Self;
}

/// What a change leads to.
pub struct Transition<S: State> {
    /// The next state.
    pub state: S,
    /// The updates that lead there, in order. Each spends one sequence.
    pub updates: Vec<S::Update>,
    /// Updates cannot say it all: every subscription gets a snapshot instead. This spends one sequence of its own.
    pub needs_snapshot: bool,
}

impl<S: State> Transition<S> {
    /// A state that subscribers cannot tell from the one before: no sequence is spent.
    #[must_use]
    pub fn unobservable(state: S) -> Self {
        Self::new(state, Vec::new())
    }

    /// A state reached by `updates`.
    #[must_use]
    pub fn new(state: S, updates: Vec<S::Update>) -> Self {
        Self {
            state,
            updates,
            needs_snapshot: false,
        }
    }

    /// A state that no update leads to.
    #[must_use]
    pub fn snapshot(state: S) -> Self {
        Self {
            state,
            updates: Vec::new(),
            needs_snapshot: true,
        }
    }
}

impl<S: State> fmt::Debug for Transition<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transition")
            .field("updates", &self.updates.len())
            .field("needs_snapshot", &self.needs_snapshot)
            .finish_non_exhaustive()
    }
}
