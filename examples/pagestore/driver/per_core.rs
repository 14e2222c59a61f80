//! The same with [`Dispatch::Manual`]: a thread has an engine and a context for itself, and the callbacks run in
//! its own loop. No other thread is woken. A program for many cores has a store for each.

use super::callbacks::Running;
use super::{Clients, Counts};
use crate::Result;
use crate::store::Store;
use kiocb::Dispatch;

pub(super) fn run(store: Store, clients: Clients) -> Result<Counts> {
    let running = Running::start(store, clients, Dispatch::Manual)?;
    while !running.is_over() {
        running.aio().run_once(None)?;
    }
    running.end()
}
