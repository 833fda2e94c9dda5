//! A stack that any thread pushes to without a lock, and that is taken whole.
//!
//! # Sync points
//! * J: `top`, pushed to by a compare-and-swap (Release), taken by a swap (Acquire). Hands over the
//!   items.
//!
//! Models: `loom-tests/tests/delivery.rs` (joiners), `distributed.rs` (waiting threads).

use crate::sync::{Arc, ArcCell, Exclusive};

pub(crate) struct Stack<T> {
    top: ArcCell<Node<T>>,
    /// The end of every list of nodes.
    end: Arc<Node<T>>,
}

struct Node<T> {
    /// `None` in the list's end, and once it has been taken.
    item: Exclusive<Option<T>>,
    next: Option<Arc<Node<T>>>,
}

impl<T> Stack<T> {
    pub(crate) fn new() -> Self {
        let end = Arc::new(Node {
            item: Exclusive::new(None),
            next: None,
        });
        Self {
            top: ArcCell::new(end.clone()),
            end,
        }
    }

    /// Lock-free; O(1).
    pub(crate) fn push(&self, item: T) {
        let mut current = self.top.load();
        let mut node = Arc::new(Node {
            item: Exclusive::new(Some(item)),
            next: Some(current.clone()),
        });
        // Sync point J: pairs with the swap in `take`.
        while !self.top.compare_exchange(&current, node.clone()) {
            current = self.top.load();
            Arc::get_mut(&mut node)
                .expect("not in the list yet, so no other thread has it")
                .next = Some(current.clone());
        }
    }

    /// Whether nothing is there, as far as this thread has been told.
    pub(crate) fn is_empty(&self) -> bool {
        self.top.peek(|top| top.next.is_none())
    }

    /// Takes all items, the newest first.
    pub(crate) fn take(&self, mut each: impl FnMut(T)) {
        // Sync point J: pairs with the compare-and-swap in `push`.
        let mut node = self.top.swap(self.end.clone());
        while let Some(next) = node.next.clone() {
            if let Some(item) = node.item.with(Option::take) {
                each(item);
            }
            node = next;
        }
    }
}

impl<T> Drop for Node<T> {
    /// One by one, as for versions: the list is as long as pushes were made between two takes.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(node) = next {
            next = Arc::into_inner(node).and_then(|mut node| node.next.take());
        }
    }
}
