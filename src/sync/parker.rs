//! A thread's place to sleep, apart from the one that the program's own `park` and `unpark` use: a wait must
//! not eat a token that the program's own code waits for.

use super::{Condvar, Mutex, now};
use std::sync::Arc;
use std::task::Wake;
use std::time::Instant;

/// One thread sleeps in it; any thread may wake that one. A wake-up that comes first is kept.
#[derive(Debug)]
pub(crate) struct Parker {
    woken: Mutex<bool>,
    came: Condvar,
}

impl Parker {
    fn new() -> Parker {
        Parker {
            woken: Mutex::new(false),
            came: Condvar::new(),
        }
    }

    /// This thread's.
    pub(crate) fn current() -> Arc<Parker> {
        imp::current()
    }

    /// Wakes the thread, or keeps it from falling asleep next time.
    pub(crate) fn unpark(&self) {
        *self.woken.lock() = true;
        self.came.notify_all();
    }

    /// Sleeps until it is woken, or until the deadline. Returns `false` once the time is over.
    pub(crate) fn park(&self, deadline: Option<Instant>) -> bool {
        let mut woken = self.woken.lock();
        while !*woken {
            match deadline {
                None => self.came.wait(&mut woken),
                Some(deadline) if now() >= deadline => return false,
                Some(deadline) => {
                    self.came.wait_until(&mut woken, deadline);
                }
            }
        }
        *woken = false;
        true
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.unpark();
    }
}

#[cfg(not(loom))]
mod imp {
    use super::{Arc, Parker};
    use crate::origin::Origin;
    use std::cell::RefCell;

    crate::sync::thread_local! {
        static MINE: RefCell<Option<(Origin, Arc<Parker>)>> = const { RefCell::new(None) };
    }

    /// A thread that is ending has no memory for one any more: it gets one for this once. In a forked child
    /// it gets a new one: a thread of the parent's may have had the old one's lock.
    pub(super) fn current() -> Arc<Parker> {
        MINE.try_with(|mine| kept(&mut mine.borrow_mut()))
            .unwrap_or_else(|_| Arc::new(Parker::new()))
    }

    fn kept(mine: &mut Option<(Origin, Arc<Parker>)>) -> Arc<Parker> {
        if let Some((origin, parker)) = mine
            && origin.is_here()
        {
            return Arc::clone(parker);
        }
        let parker = Arc::new(Parker::new());
        *mine = Some((Origin::here(), Arc::clone(&parker)));
        parker
    }
}

#[cfg(loom)]
mod imp {
    use super::{Arc, Parker};

    loom::thread_local! {
        static MINE: Arc<Parker> = Arc::new(Parker::new());
    }

    pub(super) fn current() -> Arc<Parker> {
        MINE.with(Arc::clone)
    }
}
