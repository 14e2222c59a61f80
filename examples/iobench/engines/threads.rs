//! The threads that engines run their loops on.

use std::io;
use std::thread::{self, Scope, ScopedJoinHandle};

/// Runs `body` on `threads` threads, given their numbers, and waits for all; the first error is the result.
pub(super) fn on_threads(
    threads: usize,
    body: impl Fn(usize) -> io::Result<()> + Sync,
) -> io::Result<()> {
    thread::scope(|scope| {
        let body = &body;
        let running: Vec<_> = (0..threads)
            .map(|index| spawn(scope, move || body(index)))
            .collect();
        running
            .into_iter()
            .map(|thread| thread?.join().expect("a loop panicked"))
            .fold(Ok(()), Result::and)
    })
}

/// A thread, or why there can be none.
pub(super) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    let spawned = thread::Builder::new().spawn_scoped(scope, body);
    spawned.map_err(|error| {
        let text = format!("no further thread can be made: {error}; lower --depth or --threads");
        io::Error::new(error.kind(), text)
    })
}
