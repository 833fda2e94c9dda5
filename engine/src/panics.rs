//! Panics of foreign code: wakers, and the drops of states, updates and panic payloads.
//!
//! Two panics at a time abort the process, and one that leaves a loop leaves the rest undone. So
//! foreign code runs in [`FirstPanic::run`], and what is dropped is dropped one by one.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

/// The first panic of what was [run](Self::run). Dropping it resumes that panic, unless its thread
/// is panicking already.
#[derive(Default)]
pub(crate) struct FirstPanic(Option<Box<dyn Any + Send>>);

impl FirstPanic {
    /// Runs foreign code. Whether it returned.
    pub(crate) fn run(&mut self, foreign: impl FnOnce()) -> bool {
        match catch_unwind(AssertUnwindSafe(foreign)) {
            Ok(()) => true,
            Err(payload) => {
                match self.0 {
                    None => self.0 = Some(payload),
                    Some(_) => discard(payload),
                }
                false
            }
        }
    }

    /// Runs a loop over foreign code, and again from where it panicked until it returns: each item
    /// must be out of its place before its code runs.
    pub(crate) fn run_through(&mut self, mut rest: impl FnMut()) {
        while !self.run(&mut rest) {}
    }
}

impl Drop for FirstPanic {
    fn drop(&mut self) {
        if let Some(payload) = self.0.take() {
            if thread::panicking() {
                discard(payload);
            } else {
                resume_unwind(payload);
            }
        }
    }
}

/// Drops the payload of a panic, which is foreign code, too. What that panics with, if it does, is
/// left alone.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        mem::forget(second);
    }
}
