//! What the program calls: I/O by this library's copy of kiocb. Returns 0, or a number that says what failed.

use kiocb::op::Write;
use kiocb::{Aio, AioError, Dispatch};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Writes with waits, handles and callbacks on a context of its own, which is gone when it returns.
#[unsafe(no_mangle)]
pub extern "C" fn kiocb_plugin_own() -> i32 {
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let Ok(aio) = Aio::builder().dispatch(dispatch).build() else {
            return 1;
        };
        let code = write_on(&aio);
        drop(aio);
        if code != 0 {
            return code;
        }
    }
    0
}

/// The same on this copy's process-wide context, which stays. 9: it is the parent's.
#[unsafe(no_mangle)]
pub extern "C" fn kiocb_plugin_global() -> i32 {
    match Aio::global() {
        Ok(aio) => write_on(&aio),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(AioError::Forked) => 9,
            _ => 1,
        },
    }
}

fn write_on(aio: &Aio) -> i32 {
    let Ok(null) = File::options().write(true).open("/dev/null").map(Arc::new) else {
        return 2;
    };
    let write = || aio.alloc().init_rw(Arc::clone(&null), Write, [0; 4], 0);
    let called = Arc::new(AtomicUsize::new(0));
    for _ in 0..200 {
        let called = Arc::clone(&called);
        let request = write().init_callback(move |done| {
            called.fetch_add(done.result.unwrap_or(0), Ordering::SeqCst);
        });
        let started = write().start();
        let waited = write().wait().map(|done| done.result.ok());
        let finished = started.map(|handle| handle.wait().result.ok());
        if request.submit().is_err() || !matches!((waited, finished), (Ok(Some(4)), Ok(Some(4)))) {
            return 3;
        }
    }
    match aio.drain() {
        Ok(()) if called.load(Ordering::SeqCst) == 800 => 0,
        _ => 4,
    }
}
