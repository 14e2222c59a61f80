//! Requests that would have blocked their submitter: submitted again, without NOWAIT, by a thread that may
//! block.
//!
//! The thread is made when it is needed and ends when it has nothing to do: blocking I/O is slow enough to
//! pay for that.

use super::Engine;
use super::list::List;
use super::request::Request;
use crate::sync::Mutex;

#[derive(Debug, Default)]
struct Work {
    list: List,
    /// A thread is at it, and looks again before it ends.
    running: bool,
}

#[derive(Debug)]
pub(super) struct Offload(Mutex<Work>);

impl Offload {
    pub(super) fn new() -> Offload {
        Offload(Mutex::new(Work::default()))
    }

    /// Puts work in; says whether a thread is needed.
    fn put(&self, list: List) -> bool {
        let mut work = self.0.lock();
        work.list.append(list);
        !std::mem::replace(&mut work.running, true)
    }

    /// All there is; with nothing left the thread ends.
    fn take(&self) -> Option<List> {
        let mut work = self.0.lock();
        work.running = work.list.len() > 0;
        work.running.then(|| std::mem::take(&mut work.list))
    }
}

impl Engine {
    /// Submits `list` from a thread that may block. It was counted when it came first.
    pub(super) fn offload(&self, list: List) {
        let blocking = list.inspect(Request::allow_blocking);
        if blocking.len() > 0 && self.offload.put(blocking) {
            self.start_helper();
        }
    }

    fn start_helper(&self) {
        let Some(engine) = self.me.upgrade() else {
            return self.help_out();
        };
        let spawned = std::thread::Builder::new()
            .name("kiocb-helper".to_owned())
            .spawn(move || engine.help_out());
        if let Err(error) = spawned {
            log::warn!("no helper thread for requests that block ({error}): submitting them here");
            self.help_out();
        }
    }

    fn help_out(&self) {
        while let Some(list) = self.offload.take() {
            self.go_on(list);
        }
    }
}
