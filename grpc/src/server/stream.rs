//! One subscriber's stream: the engine's events as frames, until there is a reason to end.
//!
//! # Contract
//! * First a snapshot, then each update at the sequence after the one before; who falls behind gets a snapshot. All of
//!   that is the reader's doing: this file knows nothing of lag or order.
//! * The stream never ends with OK: `PermissionDenied` when its session has gone, `Unavailable` when the server or the
//!   engine closes, when a new epoch begins, and when the sequences are used up.
//! * What a stream holds, beside the ring of its connection, is two frames, which it shares with every other stream: the end
//!   of one may stay with HTTP/2 for want of a window, and the next one has begun.

use std::borrow::Cow;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use configstream_engine::settings::Resolution;
use configstream_engine::{Event, Reader, Sequence, Snapshot, SnapshotReason, TryNextError};

use crate::lock::Held;
use crate::server::core::Core;
use crate::server::open_stream::OpenStream;
use crate::server::progress::Position;
use crate::server::sparing::Shown;
use crate::status::Refusal;

/// Frames for one subscriber. Ends after its first error. Dropping it unsubscribes.
pub(crate) struct EventStream<S: Resolution> {
    reader: Reader<S>,
    frames: Frames<S>,
    /// What the registry knows it by.
    number: u64,
    ended: bool,
}

/// What makes frames of events.
struct Frames<S: Resolution> {
    core: Arc<Core<S>>,
    open: Arc<OpenStream>,
    /// Of the newest frame; `None` before the first snapshot.
    position: Option<Position>,
    /// Size of the newest snapshot.
    snapshot_bytes: usize,
    /// Handed out since the metric heard of any: all streams add to that, so not for each.
    updates: u64,
}

/// A snapshot that stands in for updates.
struct Resync {
    missed: u64,
    sequence: Sequence,
}

impl<S: Resolution> EventStream<S> {
    /// Enters a reader into the registry as a stream.
    pub(crate) fn open(
        core: Arc<Core<S>>,
        reader: Reader<S>,
        open: Arc<OpenStream>,
    ) -> Result<Self, Refusal> {
        let number = core.registry.attach(open.clone())?;
        core.telemetry.subscribers.increment(1.0);
        if let Some(unsaid) = core.subscriber_log.admit() {
            tracing::info!(
                subscriber = %Shown::name(&open.name),
                unsaid,
                "New subscriber '{}' joining the config stream",
                Shown::name(&open.name)
            );
        }
        Ok(Self {
            reader,
            frames: Frames {
                core,
                open,
                position: None,
                snapshot_bytes: 0,
                updates: 0,
            },
            number,
            ended: false,
        })
    }

    /// `piece` of the frames handed out, for the transport: all of them with those before, or there is a rest.
    pub(crate) fn give(&mut self, piece: Bytes, all: bool) -> Bytes {
        let frames = &mut self.frames;
        let updates = std::mem::take(&mut frames.updates);
        frames.core.telemetry.updates_sent.increment(updates);
        frames.open.give(piece, frames.position.filter(|_| all))
    }

    /// Gives the next frames to `take`, as long as that goes on, or says the reason to end. Pending without a waker: updates, and
    /// reasons to end, give every stream of the connection a turn (`together.rs`).
    ///
    /// Several at a time, since the streams of a connection take turns under a lock.
    pub(crate) fn next(
        &mut self,
        mut take: impl FnMut(&Bytes) -> ControlFlow<()>,
    ) -> Poll<Option<Result<(), Refusal>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(reason) = self.frames.open.end_reason() {
            let reason = reason.clone();
            return self.end(reason);
        }
        let frames = &mut self.frames;
        let mut resyncs = Vec::new();
        let read = self.reader.read(|event| {
            let _under_the_lock_of_the_connection = Held::begin();
            match frames.frame(event, &mut resyncs) {
                Ok(frame) => take(&frame).map_break(Ok),
                Err(reason) => ControlFlow::Break(Err(reason)),
            }
        });
        for resync in &resyncs {
            frames.log_resync(resync);
        }
        match read {
            Ok(Ok(())) => Poll::Ready(Some(Ok(()))),
            Ok(Err(reason)) => self.end(reason),
            Err(TryNextError::Empty) => Poll::Pending,
            Err(_) => self.end(Refusal::EngineClosed),
        }
    }

    fn end(&mut self, reason: Refusal) -> Poll<Option<Result<(), Refusal>>> {
        self.ended = true;
        let name = Shown::name(&self.frames.open.name);
        tracing::debug!(subscriber = %name, %reason, "config stream ends");
        Poll::Ready(Some(Err(reason)))
    }
}

impl<S: Resolution> Frames<S> {
    /// Also adds to what is to be logged after the lock.
    fn frame<'e>(
        &mut self,
        event: &'e Event<S>,
        resyncs: &mut Vec<Resync>,
    ) -> Result<Cow<'e, Bytes>, Refusal> {
        match event {
            Event::Snapshot(snapshot) => {
                let next = Position {
                    epoch: snapshot.epoch(),
                    sequence: snapshot.sequence(),
                };
                // Sequences compare within an epoch only, and clients in the field compare across streams of theirs. Where
                // there are no epochs, as over a replica of a server that has none, a step back begins one.
                if self
                    .position
                    .is_some_and(|last| last.epoch != next.epoch || last >= next)
                {
                    return Err(Refusal::NewEpoch);
                }
                let frame = self.core.encoder.snapshot(snapshot.version())?;
                self.position = Some(next);
                self.snapshot_bytes = frame.len();
                resyncs.extend(self.report_snapshot(snapshot));
                Ok(frame)
            }
            Event::Update(update) => {
                let frame = self.core.encoder.update(update)?;
                if let Some(position) = &mut self.position {
                    position.sequence = update.sequence();
                }
                self.updates += 1;
                Ok(frame)
            }
            _ => Err(Refusal::EngineClosed),
        }
    }

    fn report_snapshot(&self, snapshot: &Snapshot<S>) -> Option<Resync> {
        self.core.telemetry.snapshots_sent.increment(1);
        if snapshot.reason() != SnapshotReason::Lagged {
            return None;
        }
        self.core.telemetry.discontinuities.increment(1);
        self.open
            .report_dropped(&self.core.telemetry.dropped_updates);
        Some(Resync {
            missed: snapshot.missed(),
            sequence: snapshot.sequence(),
        })
    }

    fn log_resync(&self, resync: &Resync) {
        let &Resync { missed, sequence } = resync;
        let Some(unsaid) = self.core.resync_log.admit() else {
            return;
        };
        let name = Shown::name(&self.open.name);
        tracing::warn!(
            subscriber = %name,
            missed,
            unsaid,
            "Dropping config update for subscriber '{name}': {missed} did not fit its buffer"
        );
        tracing::warn!(
            subscriber = %name,
            missed,
            "Discontinuity detected for subscriber '{name}': resyncing with a snapshot at sequence {sequence}"
        );
    }
}

impl<S: Resolution> Frames<S> {
    /// A client that takes smaller messages refuses a snapshot without a word: all that shows here
    /// is that its stream is gone, with nothing taken since.
    fn report_unwanted_snapshot(&self) {
        let figures = self.open.figures();
        if self.snapshot_bytes <= USUAL_MESSAGE_BYTES
            || figures.delivered > 0
            || self.open.has_ended()
            || self.open.link().hang_up.is_cancelled()
        {
            return;
        }
        self.core.telemetry.unwanted_snapshots.increment(1);
        if let Some(unsaid) = self.core.resync_log.admit() {
            let name = Shown::name(&self.open.name);
            let bytes = self.snapshot_bytes;
            tracing::warn!(
                subscriber = %name,
                unsaid,
                "Subscriber '{name}' left at its snapshot of {bytes} bytes: if it comes back and leaves again, \
                 let it take messages of up to 128 MiB (libraries take 4 MiB unless told otherwise)"
            );
        }
    }
}

/// What libraries take of a message by default.
const USUAL_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

impl<S: Resolution> Drop for EventStream<S> {
    fn drop(&mut self) {
        let Frames { core, open, .. } = &self.frames;
        core.registry.detach(self.number);
        open.progress.finish();
        core.telemetry.subscribers.decrement(1.0);
        self.frames.report_unwanted_snapshot();
        open.report_dropped(&core.telemetry.dropped_updates);
    }
}

impl<S: Resolution> fmt::Debug for EventStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("open", &self.frames.open)
            .finish_non_exhaustive()
    }
}
