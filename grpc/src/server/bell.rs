//! A waker that tells who is polling anyway from who has to be woken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// Rung by anybody, heard by one task.
///
/// The task registers itself, listens, looks at what the bell is about, and rests. A ring before it listened was about
/// what it then looked at. A ring after that makes `rest` fail, and the task looks again. A ring after it rests wakes it.
#[derive(Default)]
pub(crate) struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Bell {
    pub(crate) fn register(&self, task: &Waker) {
        self.task.register(task);
    }

    pub(crate) fn ring(&self) {
        // AcqRel, here and below: what was there before a ring is seen by who hears it.
        if self.state.swap(RUNG, Ordering::AcqRel) == RESTING {
            self.task.wake();
        }
    }

    /// What rings from now on is heard, and wakes nobody. True when it has rung before.
    pub(crate) fn listen(&self) -> bool {
        self.state.swap(LISTENING, Ordering::AcqRel) == RUNG
    }

    pub(crate) fn has_rung(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNG
    }

    /// Nobody listens any more. False when it has rung.
    pub(crate) fn rest(&self) -> bool {
        let rest =
            self.state
                .compare_exchange(LISTENING, RESTING, Ordering::AcqRel, Ordering::Acquire);
        rest.is_ok()
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

const RESTING: u8 = 0;
const LISTENING: u8 = 1;
const RUNG: u8 = 2;

#[cfg(test)]
mod tests {
    use futures_util::task::noop_waker;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often the task is woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn bell() -> (Arc<Bell>, Waker, Arc<Task>) {
        let (bell, task) = (Arc::new(Bell::default()), Arc::new(Task::default()));
        bell.register(&Waker::from(task.clone()));
        (bell.clone(), Waker::from(bell), task)
    }

    #[test]
    fn a_task_that_rests_is_woken_once_however_often_it_rings() {
        let (bell, ring, task) = bell();
        assert!(!bell.listen());
        assert!(bell.rest());
        ring.wake_by_ref();
        ring.wake_by_ref();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert!(bell.listen());
    }

    #[test]
    fn a_task_that_listens_is_not_woken_and_does_not_get_to_rest() {
        let (bell, ring, task) = bell();
        bell.listen();
        ring.wake_by_ref();
        assert!(bell.has_rung());
        assert!(!bell.rest());
        assert_eq!(task.0.load(Ordering::Relaxed), 0);
        assert!(bell.listen());
        assert!(bell.rest());
    }

    #[test]
    fn the_task_registered_last_is_the_one_woken() {
        let (bell, ring, task) = bell();
        bell.register(&noop_waker());
        bell.listen();
        assert!(bell.rest());
        ring.wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 0);
    }
}
