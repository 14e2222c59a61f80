//! A gate: requests wait before it until the test lets them through.

use std::sync::Arc;

use super::state::{Answer, Seen, Shared, State};

/// Holds the requests of one rule; made by [`When::hold`](super::When::hold). Dropping it opens it.
#[derive(Debug)]
#[must_use = "dropping a gate opens it"]
pub struct Gate {
    shared: Arc<Shared>,
    rule: usize,
}

impl Gate {
    pub(super) fn new(shared: Arc<Shared>, rule: usize) -> Gate {
        Gate { shared, rule }
    }

    /// The requests that wait now, in the order in which they came.
    pub fn held(&self) -> Vec<Seen> {
        waiting(&self.shared.lock(), self.rule)
    }

    /// Waits until at least so many requests wait: they are then in flight, and stay so.
    ///
    /// # Panics
    /// When they do not come within the lab's patience.
    pub fn wait_for(&self, count: usize) {
        let what = format!("{count} requests to be held");
        self.shared
            .wait(&what, |state| waiting(state, self.rule).len() >= count);
    }

    /// Opens the gate: everything that waits is carried out, in the order in which it came, and nothing is
    /// held any more.
    pub fn release(self) {}

    /// Lets the request at `index` (see [`held`](Gate::held)) through; the gate stays. With index 0 the
    /// oldest; from the last to the first for completions in reverse.
    ///
    /// # Panics
    /// When nothing waits there.
    pub fn let_through(&self, index: usize) {
        self.answer_one(index, Answer::Proceed);
    }

    /// Fails the request at `index` with any errno; the gate stays.
    ///
    /// # Panics
    /// When nothing waits there.
    pub fn fail_one(&self, index: usize, errno: i32) {
        self.answer_one(index, Answer::Fail(errno));
    }

    /// Transfers at most so many bytes of the request at `index`; the gate stays.
    ///
    /// # Panics
    /// When nothing waits there.
    pub fn cut_one(&self, index: usize, bytes: usize) {
        self.answer_one(index, Answer::Short(bytes));
    }

    /// Fails everything that waits with this errno and opens the gate.
    pub fn fail(self, errno: i32) {
        self.open(Answer::Fail(errno));
    }

    fn answer_one(&self, index: usize, answer: Answer) {
        let mut state = self.shared.lock();
        let held = state.held.get_mut(&self.rule).expect("nothing is held");
        let job = held.remove(index);
        state.answer(job, answer);
    }

    fn open(&self, answer: Answer) {
        let mut state = self.shared.lock();
        state.rules.retain(|rule| rule.number != self.rule);
        for job in state.held.remove(&self.rule).unwrap_or_default() {
            state.answer(job, answer);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open(Answer::Proceed);
    }
}

fn waiting(state: &State, rule: usize) -> Vec<Seen> {
    state
        .held
        .get(&rule)
        .into_iter()
        .flatten()
        .map(|job| job.seen.clone())
        .collect()
}
