//! Leader and followers: which thread sleeps in the kernel, and which are parked meanwhile.

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, Parker};
use std::sync::Arc;

/// The tag of a thread that reaps in passing; and the leader's, if no thread leads.
pub(super) const NO_LEADER: u64 = 0;
/// The tag of the dispatcher: the completion thread, or the thread in `poll`. Waiters have their request's
/// tag, which is never 1.
pub(super) const DISPATCHER: u64 = 1;

/// The role in which a thread reaps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Role {
    pub(super) tag: u64,
    pub(super) submits: Submits,
}

/// What a thread passes to `io_submit` itself while it reaps. That may block, so a thread with a deadline
/// leaves it to the helper thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Submits {
    Everything,
    /// What the callbacks that it runs submit, as if they were functions that it calls.
    OfCallbacks,
    Nothing,
}

impl Role {
    /// A thread that reaps in passing and does not sleep.
    pub(super) const BYSTANDER: Role = Role {
        tag: NO_LEADER,
        submits: Submits::Everything,
    };

    pub(super) const DISPATCHER: Role = Role {
        tag: DISPATCHER,
        submits: Submits::Everything,
    };

    pub(super) fn waiter(tag: u64, has_deadline: bool) -> Role {
        Role {
            tag,
            ..Role::BYSTANDER
        }
        .before(has_deadline, Submits::Nothing)
    }

    /// The same role of a thread that, if it has a deadline, submits no more than this.
    pub(super) fn before(self, has_deadline: bool, submits: Submits) -> Role {
        if has_deadline {
            Role { submits, ..self }
        } else {
            self
        }
    }
}

/// Leader and followers.
#[derive(Debug)]
pub(super) struct Roles {
    leader: AtomicU64,
    followers: Mutex<Vec<(u64, Arc<Parker>)>>,
    /// How many followers there are, for a thread that only needs to know whether there are any.
    following: AtomicUsize,
    /// A wake-up is on the ring, or was submitted.
    wake_sent: AtomicBool,
}

impl Roles {
    pub(super) fn new() -> Roles {
        Roles {
            leader: AtomicU64::new(NO_LEADER),
            followers: Mutex::new(Vec::new()),
            following: AtomicUsize::new(0),
            wake_sent: AtomicBool::new(false),
        }
    }

    /// SeqCst: a thread that has made something true looks here afterwards. The leader announces itself and
    /// then looks at what is true.
    #[inline]
    pub(super) fn leader(&self) -> u64 {
        self.leader.load(Ordering::SeqCst)
    }

    /// Makes `tag` the leader and returns true, or makes it a follower that sleeps in `parker`.
    pub(super) fn lead_or_follow(&self, tag: u64, parker: &Arc<Parker>) -> bool {
        let mut followers = self.followers.lock();
        if self.leader() != NO_LEADER {
            if !followers.iter().any(|follower| follower.0 == tag) {
                followers.push((tag, Arc::clone(parker)));
                // SeqCst: a follower is counted and then looks for the leader, before it parks; a leader
                // steps down and then looks here.
                self.following.store(followers.len(), Ordering::SeqCst);
            }
            return false;
        }
        self.remove(&mut followers, tag);
        self.leader.store(tag, Ordering::SeqCst);
        true
    }

    /// The leader is awake again. It either leads again soon, or calls `pass_lead`.
    pub(super) fn step_down(&self) {
        // Only the leader itself stores here while there is one. SeqCst: see `pass_lead`.
        self.leader.store(NO_LEADER, Ordering::SeqCst);
    }

    /// The thread with this tag will not sleep for now: it has its result, or it is about to run user code or
    /// to submit, which may block. If no thread leads, this wakes a follower, which then leads.
    #[inline]
    pub(super) fn pass_lead(&self, tag: u64) {
        // SeqCst: the leader has stepped down before; see `lead_or_follow`.
        if self.following.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut followers = self.followers.lock();
        // Removes the thread's own entry before: a thread that is not asleep can't take the lead.
        self.remove(&mut followers, tag);
        if self.leader() == NO_LEADER
            && let Some((_, parker)) = followers.first()
        {
            parker.unpark();
        }
    }

    /// Removes a follower that is awake again: a leader that goes must not wake it in place of one that
    /// sleeps.
    pub(super) fn remove_follower(&self, tag: u64) {
        self.remove(&mut self.followers.lock(), tag);
    }

    fn remove(&self, followers: &mut Vec<(u64, Arc<Parker>)>, tag: u64) {
        if tag != NO_LEADER {
            followers.retain(|follower| follower.0 != tag);
            // SeqCst as in `lead_or_follow`; that there are fewer may be seen late.
            self.following.store(followers.len(), Ordering::SeqCst);
        }
    }

    /// Returns whether the caller must send the wake-up. SeqCst: a thread that finds a wake-up on its way
    /// made its own thing true before. The leader takes the wake-up off the ring, clears the flag, and then
    /// looks at what is true.
    pub(super) fn begin_wake(&self) -> bool {
        !self.wake_sent.swap(true, Ordering::SeqCst)
    }

    /// The wake-up was taken off the ring, or could not be sent.
    pub(super) fn wake_arrived(&self) {
        // SeqCst: see `begin_wake`.
        self.wake_sent.store(false, Ordering::SeqCst);
    }
}
