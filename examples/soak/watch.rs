//! The bar on stderr, and the list of what is outstanding while nothing completes.

use crate::ledger::Ledger;
use crate::options::Options;
use crate::units::grouped;
use indicatif::{ProgressBar, ProgressStyle};
use kiocb::Aio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(250);
/// Nothing completes for so long: a stall.
const STALL: Duration = Duration::from_secs(5);

pub(crate) struct Watch {
    inside: Arc<Inside>,
    thread: JoinHandle<()>,
}

struct Inside {
    /// The context of this round.
    watched: Mutex<Option<Aio>>,
    ledger: Arc<Ledger>,
    bar: ProgressBar,
    over: AtomicBool,
}

impl Watch {
    pub(crate) fn start(options: &Options, ledger: &Arc<Ledger>) -> Watch {
        let style = ProgressStyle::with_template("[{bar:40}] {msg}").expect("a valid template");
        let bar = ProgressBar::new(options.time.as_millis() as u64)
            .with_style(style.progress_chars("=> "));
        let inside = Arc::new(Inside {
            watched: Mutex::default(),
            ledger: Arc::clone(ledger),
            bar,
            over: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&inside);
        let thread = std::thread::spawn(move || theirs.look_on());
        Watch { inside, thread }
    }

    /// From now on this context's; `None`: it is about to end.
    pub(crate) fn look_at(&self, aio: Option<&Aio>) {
        *self.inside.watched.lock().expect("no panic inside") = aio.cloned();
    }

    pub(crate) fn end(self) {
        self.inside.over.store(true, Relaxed);
        self.inside.bar.finish_and_clear();
        let _ = self.thread.join();
    }
}

impl Inside {
    fn look_on(&self) {
        let begin = Instant::now();
        let (mut known, mut since) = (0, begin);
        while !self.over.load(Relaxed) {
            std::thread::sleep(LOOK);
            let completed = self.completed();
            if completed != known {
                (known, since) = (completed, Instant::now());
            } else if since.elapsed() > STALL {
                self.tell_what_is_outstanding();
                since = Instant::now();
            }
            self.bar.set_position(begin.elapsed().as_millis() as u64);
            let rate = completed as f64 / begin.elapsed().as_secs_f64();
            self.bar.set_message(format!(
                "{} requests, {} a second",
                grouped(completed as f64),
                grouped(rate)
            ));
        }
    }

    fn completed(&self) -> u64 {
        let watched = self.watched.lock().expect("no panic inside");
        let now = watched.as_ref().map_or(0, |aio| aio.stats().completed);
        self.ledger.completed() + now
    }

    fn tell_what_is_outstanding(&self) {
        let watched = self.watched.lock().expect("no panic inside");
        let Some(aio) = watched.as_ref() else { return };
        let text = match aio.dump() {
            Ok(dump) => dump.to_string(),
            Err(error) => error.to_string(),
        };
        self.bar.suspend(|| {
            eprintln!(
                "nothing has completed for {STALL:?}:\n{text}\n{:?}",
                aio.stats()
            )
        });
    }
}
