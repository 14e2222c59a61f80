//! A number for each thread.

use std::num::NonZeroU64;

/// The number of this thread. No other thread of the process ever has it, so it outlives its thread. The one thread
/// of a forked child has the number of the thread that it is a copy of.
#[cfg(not(shuttle))]
#[inline]
pub(crate) fn thread_number() -> NonZeroU64 {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        // Without a destructor, so that a thread that is ending still knows its number.
        static MINE: Cell<Option<NonZeroU64>> = const { Cell::new(None) };
    }
    MINE.with(|mine| {
        mine.get().unwrap_or_else(|| {
            // Relaxed: only that numbers differ matters.
            let next = NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed));
            mine.set(next);
            next.expect("fewer than 2^64 threads")
        })
    })
}

/// A simulation numbers its threads anew each time.
#[cfg(shuttle)]
pub(crate) fn thread_number() -> NonZeroU64 {
    let number: usize = shuttle::thread::current().id().into();
    NonZeroU64::MIN.saturating_add(number as u64)
}

/// Which one of so many things, at least one, is this thread's: always the same.
#[inline]
pub(crate) fn place_of_thread(count: usize) -> usize {
    let place = thread_number().get() % count as u64;
    usize::try_from(place).expect("less than the count")
}
