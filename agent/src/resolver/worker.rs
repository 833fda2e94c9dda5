//! What the resolver's thread does, one request after the other.

use std::sync::Arc;
use std::time::SystemTime;

use configstream_engine::settings::{Change, Settings};
use configstream_engine::{Engine, PublishError, Sequence, State};
use configstream_grpc::lock::RwLock;
use crossbeam_channel::Receiver;

use super::{Answer, Outcome, Request, ResolveError, Wish};
use crate::last_changed::LastChanged;
use crate::persisted::{PersistError, Persisted, Plan};
use crate::sequence_file::{SequenceFile, SequenceFileError};

pub(super) struct Worker {
    pub(super) engine: Engine<Settings>,
    pub(super) file: SequenceFile,
    pub(super) last_changed: Arc<RwLock<LastChanged>>,
    pub(super) persisted: Option<Persisted>,
}

impl Worker {
    pub(super) fn run(mut self, queue: &Receiver<Request>) -> SequenceFile {
        // Nobody waiting for an answer is no reason to stop.
        loop {
            match queue.recv() {
                Ok(Request::Publish { change, answer }) => {
                    let _ = answer.send(self.publish(&change));
                }
                Ok(Request::Grant { wish, answer }) => {
                    let _ = answer.send(self.grant(&wish));
                }
                Ok(Request::Ping(answer)) => {
                    let _ = answer.send(());
                }
                Ok(Request::Stop) | Err(_) => return self.file,
            }
        }
    }

    /// Nobody else publishes, so what is true of the head here stays true until the change is made.
    fn grant(&mut self, wish: &Wish) -> Result<Outcome, ResolveError> {
        let before = self.engine.head();
        self.last_changed
            .read()
            .check(&before, &wish.conditions)
            .map_err(ResolveError::Conflict)?;
        let head = before;
        let before = head.state().clone();
        let tried = before.apply(&wish.change).map_err(ResolveError::Rejected)?;
        let plan = match wish.persist {
            true => Some(self.plan(&wish.change)?),
            false => None,
        };
        let persisted = plan.as_ref().is_some_and(Plan::changes_something);
        if wish.dry_run {
            return Ok(Outcome {
                epoch: head.epoch(),
                sequence: head.sequence(),
                updates: match tried.needs_snapshot {
                    true => 0,
                    false => tried.updates.len() as u64,
                },
                needs_snapshot: tried.needs_snapshot,
                before,
                after: tried.state,
                persisted,
            });
        }
        let committed = match plan {
            Some(plan) => self.persist(plan, &wish.change)?,
            None => self.publish(&wish.change)?,
        };
        Ok(Outcome {
            epoch: committed.epoch,
            sequence: committed.sequence,
            updates: committed.updates,
            needs_snapshot: committed.needs_snapshot,
            before,
            after: self.engine.head().state().clone(),
            persisted,
        })
    }

    /// What is to be kept of a change, if it can be.
    fn plan(&self, change: &Change) -> Result<Plan, ResolveError> {
        let Some(persisted) = &self.persisted else {
            let why = "this agent keeps no changes; do without --persist";
            return Err(ResolveError::NotPersisted(why.to_owned()));
        };
        persisted
            .plan(change, SystemTime::now())
            .map_err(not_persisted)
    }

    /// Keeps, then publishes, what can be applied; the module says why in this order.
    fn persist(&mut self, plan: Plan, change: &Change) -> Answer {
        let kept = plan.keep().map_err(not_persisted)?;
        let answer = self.publish(change);
        if let Err(error) = &answer
            && let Err(stays) = kept.take_back()
        {
            let ResolveError::NotPersisted(why) = not_persisted(stays) else {
                return answer;
            };
            return Err(ResolveError::NotPersisted(format!(
                "{error}; and what was kept of it cannot be taken back, so a restart may bring it: {why}"
            )));
        }
        answer
    }

    fn publish(&mut self, change: &Change) -> Answer {
        loop {
            let before = self.engine.head();
            match self.engine.publish(change) {
                Ok(committed) => {
                    self.last_changed
                        .write()
                        .note(&before, &self.engine.head(), change);
                    tracing::debug!(
                        sequence = committed.sequence.get(),
                        updates = committed.updates,
                        "committed a change"
                    );
                    return Ok(committed);
                }
                Err(PublishError::Rejected(rejection)) => {
                    return Err(ResolveError::Rejected(rejection));
                }
                // Each turn either fails or raises the limit to what is needed, so the next one passes: nobody else
                // publishes.
                Err(PublishError::SequenceLimit { needed }) => self.make_room(needed)?,
                Err(_) => return Err(ResolveError::Closed),
            }
        }
    }

    fn make_room(&mut self, needed: Sequence) -> Result<(), ResolveError> {
        let failed = |error: SequenceFileError| {
            let why = format!("{error}; {}", error.mend());
            tracing::error!("{why}");
            metrics::counter!("configstream_sequence_save_errors_total").increment(1);
            ResolveError::Sequence(why)
        };
        if let Some(limit) = self.file.reserve(needed).map_err(failed)? {
            self.engine.set_sequence_limit(limit);
            return Ok(());
        }
        let (epoch, start) = self.file.next_epoch().map_err(failed)?;
        tracing::warn!(
            epoch = epoch.get(),
            "the sequences of this epoch are used up, the next one begins; streams end and start anew"
        );
        self.engine.set_sequence_limit(self.file.limit());
        let state = self.engine.head().state().clone();
        self.engine
            .adopt(state, epoch, start)
            .map_err(|_| ResolveError::Closed)?;
        Ok(())
    }
}

fn not_persisted(error: PersistError) -> ResolveError {
    let why = format!("{error}; {}", error.mend());
    // Anything else is for who asked.
    if matches!(error, PersistError::Unwritable { .. }) {
        tracing::error!("a change cannot persist: {why}");
        metrics::counter!("configstream_persist_errors_total").increment(1);
    }
    ResolveError::NotPersisted(why)
}
