//! What a consumer's task writes and everybody else reads.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use configstream_engine::settings::Resolved;
use configstream_engine::{Engine, Epoch, Sequence};

use crate::consumer::state::{ConsumerState, Current, Disconnection, NotReady};
use crate::lock::Mutex;
use crate::server::Server;

/// The local engine, and how the consumer is.
#[derive(Debug)]
pub(super) struct Replica {
    /// There is none before there is something to read, so that nobody can mistake "not known" for "empty".
    engine: OnceLock<Engine<Resolved>>,
    ring_capacity: usize,
    states: Engine<Current>,
    origin: Mutex<Arc<str>>,
}

impl Replica {
    /// `ring_capacity` is not 0.
    pub(super) fn new(ring_capacity: usize) -> Self {
        let state = ConsumerState::Connecting {
            cause: None,
            retry_in: Duration::ZERO,
        };
        let states = Engine::builder(Current(state))
            .ring_capacity(STATES)
            .build()
            .expect("it has a ring, and starts at 0");
        Self {
            engine: OnceLock::new(),
            ring_capacity,
            states,
            origin: Mutex::new("".into()),
        }
    }

    /// Wait-free.
    pub(super) fn engine(&self) -> Option<&Engine<Resolved>> {
        self.engine.get()
    }

    pub(super) fn ready_engine(&self) -> Result<&Engine<Resolved>, NotReady> {
        self.engine().ok_or_else(|| NotReady {
            state: self.state(),
        })
    }

    /// Makes the engine, with this as its first version.
    pub(super) fn begin(&self, state: Resolved, epoch: Epoch, sequence: Sequence) {
        let engine = Engine::builder(state)
            .ring_capacity(self.ring_capacity)
            .start_at(epoch, sequence)
            .build()
            .expect("the capacity is one there can be, and there is no limit to the sequence");
        // Only the task begins, and only where there is none.
        let _ = self.engine.set(engine);
    }

    pub(super) fn origin(&self) -> Arc<str> {
        self.origin.lock().clone()
    }

    /// Says what is described; a server that does not say is a core agent.
    pub(super) fn describe(&self, origin: String) {
        let origin = if origin.is_empty() {
            Server::<Resolved>::DEFAULT_ORIGIN.to_owned()
        } else {
            origin
        };
        let mut current = self.origin.lock();
        if **current != *origin {
            *current = origin.into();
        }
    }

    pub(super) fn state(&self) -> ConsumerState {
        self.states.read_head(|head| head.state().0.clone())
    }

    pub(super) fn states(&self) -> &Engine<Current> {
        &self.states
    }

    pub(super) fn set_ready(&self) {
        self.set(ConsumerState::Ready);
    }

    /// There is no stream, or not any more.
    pub(super) fn set_disconnected(&self, cause: Disconnection, retry_in: Duration) {
        let since = match self.state() {
            ConsumerState::Stale { since, .. } => since,
            _ => SystemTime::now(),
        };
        self.set(match self.engine() {
            Some(_) => ConsumerState::Stale {
                cause,
                since,
                retry_in,
            },
            None => ConsumerState::Connecting {
                cause: Some(cause),
                retry_in,
            },
        });
    }

    /// What there is was saved at a time in the past.
    pub(super) fn set_restored(&self, since: SystemTime) {
        self.set(ConsumerState::Stale {
            cause: Disconnection::Starting,
            since,
            retry_in: Duration::ZERO,
        });
    }

    /// The last thing to be told. Subscriptions of the replica end too.
    pub(super) fn stop(&self) {
        self.set(ConsumerState::Stopped);
        self.states.close();
        if let Some(engine) = self.engine() {
            engine.close();
        }
    }

    fn set(&self, state: ConsumerState) {
        // Refused only once it is closed: nothing is told after the last thing.
        let _ = self.states.publish(&state);
    }
}

/// States that an observer may be behind before it is told the newest only.
const STATES: usize = 16;
