//! Keeps a replica's file up with it: soon, but not often, and never on the way of an event.

use std::error::Error;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use configstream_engine::settings::Resolved;
use configstream_engine::{Epoch, Sequence};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::consumer::replica::Replica;
use crate::consumer::saved::{SavedError, SavedErrorReason, SnapshotFile};
use crate::consumer::state::ConsumerState;
use crate::encode::Encoder;

/// Saves a replica while it runs, at most once per interval.
pub(super) struct Saver {
    file: SnapshotFile,
    interval: Duration,
    replica: Arc<Replica>,
    /// What is in the file, and when it was known to be true.
    saved: Option<(Epoch, Sequence, SystemTime)>,
    failing: bool,
}

impl Saver {
    pub(super) fn new(file: SnapshotFile, interval: Duration, replica: Arc<Replica>) -> Self {
        Self {
            file,
            interval,
            replica,
            saved: None,
            failing: false,
        }
    }

    /// Begins the replica with what the file holds, if that is of use.
    pub(super) fn restore(&mut self) -> Result<(), SavedError> {
        let Some((snapshot, known_at)) = self.file.load()? else {
            return Ok(());
        };
        let (epoch, sequence) = (snapshot.epoch, snapshot.sequence);
        let settings = Resolved::from_settings(snapshot.settings)
            .map_err(|error| self.file.refuse(SavedErrorReason::Duplicate(error)))?;
        self.replica.describe(snapshot.origin);
        self.replica.begin(settings, epoch, sequence);
        self.replica.set_restored(known_at);
        self.saved = Some((epoch, sequence, known_at));
        Ok(())
    }

    /// Never ends. May be dropped at any await: a write under way is finished all the same.
    pub(super) async fn run(&mut self) {
        let mut states = self.replica.states().subscribe();
        while !self.replica.state().is_ready() {
            if poll_fn(|cx| states.poll_next(cx)).await.is_none() {
                return pending().await;
            }
        }
        let Some(engine) = self.replica.engine() else {
            return pending().await;
        };
        // One place: only that there is something new matters, and who lags costs publishers next to nothing.
        let changes = engine.subscription().name("saver").capacity(1);
        let mut changes = changes.subscribe();
        loop {
            while changes.try_next().is_ok() {}
            self.save().await;
            sleep(self.interval).await;
            // A change is a reason to save, and so is that time has passed without one.
            let changed = poll_fn(|cx| changes.poll_next(cx));
            if let Ok(None) = timeout(self.renewal(), changed).await {
                return pending().await;
            }
        }
    }

    /// Saves what is not in the file yet.
    pub(super) async fn save(&mut self) {
        let Some(engine) = self.replica.engine() else {
            return;
        };
        let known_at = match self.replica.state() {
            ConsumerState::Stale { since, .. } => since,
            _ => SystemTime::now(),
        };
        let head = engine.head();
        let (epoch, sequence) = (head.epoch(), head.sequence());
        if let Some((saved_epoch, saved_sequence, saved_at)) = self.saved
            && (saved_epoch, saved_sequence) == (epoch, sequence)
            && known_at.duration_since(saved_at).unwrap_or_default() < self.renewal()
        {
            return;
        }
        let (file, origin) = (self.file.clone(), self.replica.origin());
        let written = spawn_blocking(move || -> Result<(), Box<dyn Error + Send + Sync>> {
            let encoder = Encoder::new(origin, Client::MESSAGE_BYTES);
            let frame = encoder
                .snapshot_apart(&head)
                .map_err(|error| error.to_string())?;
            Ok(file.save(&frame, known_at)?)
        });
        match written.await.unwrap_or_else(|error| Err(error.into())) {
            Ok(()) => {
                self.saved = Some((epoch, sequence, known_at));
                self.failing = false;
            }
            // Said once: the disk is full for a while, not for one write.
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                tracing::warn!(
                    path = %self.file.path.display(),
                    %error,
                    "cannot save the configuration"
                );
            }
            Err(_) => {}
        }
    }

    /// What is still true has to look young, though nothing changes.
    fn renewal(&self) -> Duration {
        self.file.max_age / 4
    }
}
