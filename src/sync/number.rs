//! A number for each thread.

/// Threads are numbered as they come.
#[cfg(not(shuttle))]
pub(crate) fn thread_number() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        // Relaxed: only that numbers differ matters.
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    MINE.try_with(|mine| *mine).unwrap_or(0)
}

/// A simulation numbers its threads anew each time.
#[cfg(shuttle)]
pub(crate) fn thread_number() -> usize {
    shuttle::thread::current().id().into()
}
