//! A logger of the test's own.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::cell::Cell;
use std::sync::{Arc, Mutex, Once};

type Hook = Arc<dyn Fn(Level, &str) + Send + Sync>;

static HOOK: Mutex<Option<Hook>> = Mutex::new(None);

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // What the hook does may be logged again.
        if INSIDE.replace(true) {
            return;
        }
        let _leave = Leave;
        let hook = HOOK.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook(record.level(), &record.args().to_string());
        }
    }

    fn flush(&self) {}
}

struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// From now on `hook` sees what this process logs, on the thread that logs it. It may do anything.
pub(crate) fn install(hook: impl Fn(Level, &str) + Send + Sync + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    *HOOK.lock().unwrap() = Some(Arc::new(hook));
}

/// As [`install`], for messages that contain `text`.
pub(crate) fn on(text: &'static str, hook: impl Fn() + Send + Sync + 'static) {
    install(move |_, message| {
        if message.contains(text) {
            hook();
        }
    });
}
