//! Callbacks whose results are there, on their way to the one thread that may run them.

use super::list::List;
use crate::sync::{AtomicUsize, Mutex, Ordering};

#[derive(Debug)]
pub(super) struct Inbox {
    list: Mutex<List>,
    len: AtomicUsize,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox {
            list: Mutex::new(List::new()),
            len: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        // SeqCst: the dispatcher announces that it will sleep and then looks here, and who puts something in
        // looks for the announcement afterwards; one of the two sees the other.
        self.len.load(Ordering::SeqCst) == 0
    }

    /// The caller rouses the dispatcher afterwards.
    pub(super) fn put(&self, list: List) {
        let mut inside = self.list.lock();
        // SeqCst: see `is_empty`.
        self.len.fetch_add(list.len(), Ordering::SeqCst);
        inside.append(list);
    }

    /// The oldest, at most `most`.
    pub(super) fn take(&self, most: usize) -> List {
        if self.is_empty() {
            return List::new();
        }
        let mut inside = self.list.lock();
        let taken = inside.split(most);
        // SeqCst as all of them; by the taker, who alone waits for it to be other than 0.
        self.len.fetch_sub(taken.len(), Ordering::SeqCst);
        taken
    }
}
