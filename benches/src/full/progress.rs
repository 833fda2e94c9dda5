//! How far it is: a bar on a terminal, lines elsewhere.

use std::{
    io::{IsTerminal, stderr},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::Step;

#[derive(Debug)]
pub(super) struct Progress {
    /// In seconds as expected; none where nobody looks.
    bar: Option<ProgressBar>,
    steps: usize,
    /// Begun, or measured before.
    nth: usize,
    /// Of steps that are not done.
    left: u64,
}

impl Progress {
    pub(super) fn new(steps: &[Step], missing: &[&Step]) -> Self {
        let all: u64 = steps.iter().map(|step| step.seconds).sum();
        let left: u64 = missing.iter().map(|step| step.seconds).sum();
        let bar = stderr().is_terminal().then(|| {
            let template = "{bar:32} {percent:>3} %  {msg}, {elapsed} gone";
            let style = ProgressStyle::with_template(template).expect("a well-formed template");
            ProgressBar::new(all)
                .with_position(all - left)
                .with_style(style)
        });
        Self {
            bar,
            steps: steps.len(),
            nth: steps.len() - missing.len(),
            left,
        }
    }

    pub(super) fn begin(&mut self, step: &Step) {
        self.nth += 1;
        let (nth, steps, name) = (self.nth, self.steps, &step.name);
        let minutes = self.left.div_ceil(60);
        let text = format!("{nth} of {steps}: {name}, about {minutes} min to go");
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => eprintln!("{text}"),
        }
    }

    /// Runs a step in this thread; meanwhile the bar moves, once a second so as not to disturb what is measured, and as
    /// far as that step is expected to take.
    pub(super) fn during<T>(&self, step: &Step, run: impl FnOnce() -> T) -> T {
        let Some(bar) = &self.bar else {
            return run();
        };
        let (running, ended) = mpsc::channel::<()>();
        let begun = bar.position();
        let advance = move || {
            while ended.recv_timeout(SECOND) == Err(RecvTimeoutError::Timeout) {
                bar.set_position((bar.position() + 1).min(begun + step.seconds));
                bar.tick();
            }
            bar.set_position(begun + step.seconds);
        };
        thread::scope(|scope| {
            scope.spawn(advance);
            let done = run();
            drop(running);
            done
        })
    }

    pub(super) fn done(&mut self, step: &Step, took: Duration) {
        self.say(&format!(
            "{}: done in {:.0} s",
            step.name,
            took.as_secs_f64()
        ));
        self.ended(step);
    }

    pub(super) fn failed(&mut self, step: &Step, why: &str) {
        self.say(&format!("{}: failed: {why}", step.name));
        self.ended(step);
    }

    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn ended(&mut self, step: &Step) {
        self.left -= step.seconds;
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
