//! What the engine counts: for its own decisions (is anything outstanding? must the dispatcher stay awake?) and for `Stats`.

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Line, Ordering};

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Requests accepted, less those that were given back after all.
    accepted: Line<AtomicU64>,
    /// Requests whose result was delivered: the callback has returned, or the watcher can see it.
    completed: Line<AtomicU64>,
    /// Outstanding requests that nobody reaps for but the dispatcher.
    unattended: Line<AtomicUsize>,
    /// No new requests.
    closing: AtomicBool,
    /// End when nothing is outstanding.
    stopping: AtomicBool,
    /// Threads that want to hear when nothing is outstanding.
    listeners: AtomicUsize,
    pub(super) panics: AtomicU64,
    pub(super) refused_late: AtomicU64,
    pub(super) submits: Line<AtomicU64>,
    pub(super) waits: AtomicU64,
}

/// The engine takes no new requests.
#[derive(Debug)]
pub(super) struct Closing;

impl Tally {
    /// Counts new requests in, of which `unattended` wait for the dispatcher; refused once the engine is closing.
    pub(super) fn enter(&self, count: usize, unattended: usize) -> Result<(), Closing> {
        self.count_in(count, unattended);
        // SeqCst, after counting: who closes stores the flag and then waits for what was counted. One of the two sees the other.
        if self.closing.load(Ordering::SeqCst) {
            self.leave(count, unattended);
            return Err(Closing);
        }
        Ok(())
    }

    /// As `enter`, for requests from inside a callback: its own request is outstanding, so nobody has finished closing.
    pub(super) fn count_in(&self, count: usize, unattended: usize) {
        if unattended > 0 {
            // SeqCst: the dispatcher announces that it parks and then looks here; see `sleep`.
            self.unattended.fetch_add(unattended, Ordering::SeqCst);
        }
        self.accepted.fetch_add(count as u64, Ordering::SeqCst);
    }

    /// Takes back what `enter` counted, for a request that goes back to its owner.
    pub(super) fn leave(&self, count: usize, unattended: usize) {
        self.accepted.fetch_sub(count as u64, Ordering::SeqCst);
        self.unattended.fetch_sub(unattended, Ordering::SeqCst);
    }

    /// Counts requests out. Says whether somebody listens and nothing is outstanding now.
    #[must_use = "somebody may be waiting to hear it"]
    pub(super) fn complete(&self, count: usize, unattended: usize) -> bool {
        if unattended > 0 {
            self.unattended.fetch_sub(unattended, Ordering::SeqCst);
        }
        // SeqCst: a listener registers and then looks whether anything is outstanding; one of us sees the other.
        self.completed.fetch_add(count as u64, Ordering::SeqCst);
        self.is_quiet_for_listeners()
    }

    pub(super) fn is_quiet_for_listeners(&self) -> bool {
        self.listeners.load(Ordering::SeqCst) > 0 && self.outstanding() == 0
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn completed(&self) -> u64 {
        self.completed.load(Ordering::SeqCst)
    }

    /// Accepted and not completed. Completed is read first, so that the answer is never too small.
    pub(super) fn outstanding(&self) -> u64 {
        let completed = self.completed();
        self.accepted().saturating_sub(completed)
    }

    pub(super) fn unattended(&self) -> usize {
        self.unattended.load(Ordering::SeqCst)
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// From now on the dispatcher hears of silence, and ends at it. Says whether that was so before.
    pub(super) fn stop(&self) -> bool {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        self.stopping.swap(true, Ordering::SeqCst)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    pub(super) fn listen(&self) -> Listening<'_> {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        Listening(self)
    }
}

/// While it lives, `complete` reports silence.
#[derive(Debug)]
pub(super) struct Listening<'a>(&'a Tally);

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}
