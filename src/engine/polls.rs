//! Waits for readiness that are under way: the requests that can be cancelled.
//!
//! The kernel knows a request by the address of its iocb. A request in this list keeps its cell: the reaping
//! thread takes it out, under the same lock, before the cell ends. So an address that is found here belongs
//! to that request and to no other.
#![allow(unsafe_code, reason = "keeps a second reference to each cell")]

use super::backlog::Backlog;
use super::request::{Cell, OwnedCell};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, Ordering};
use crate::sys::Kernel;
use std::collections::HashMap;

#[derive(Debug)]
pub(super) struct Polls {
    entries: Mutex<Entries>,
    /// How many of them are to be cancelled and could not be yet, because a thread was inside `io_submit`
    /// with them.
    unfinished: AtomicUsize,
    count: AtomicUsize,
    warned: AtomicBool,
}

#[derive(Debug, Default)]
struct Entries {
    by_tag: HashMap<u64, Entry>,
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    cell: Cell,
    /// A tag is used again by a later request; a serial number is not.
    serial: u64,
    is_wanted_gone: bool,
}

/// What became of an attempt to cancel.
#[derive(Debug)]
pub(super) enum Cancelled {
    /// It was in the backlog, and the caller owns it now.
    Queued(OwnedCell),
    /// The kernel agreed: its event follows.
    InKernel,
    /// Another thread is inside `io_submit` with it, or its event is on the ring. When that thread comes out,
    /// it tries to cancel it.
    Later,
    /// There is no such request any more.
    Over,
}

impl Polls {
    pub(super) fn new() -> Polls {
        Polls {
            entries: Mutex::new(Entries::default()),
            unfinished: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
            warned: AtomicBool::new(false),
        }
    }

    /// Returns true the first time: polls that hold all slots are logged once.
    pub(super) fn is_first_warning(&self) -> bool {
        // Relaxed: of several threads one gets `true`.
        !self.warned.swap(true, Ordering::Relaxed)
    }

    /// How many are under way.
    pub(super) fn count(&self) -> usize {
        // Relaxed: a number for the log.
        self.count.load(Ordering::Relaxed)
    }

    /// Adds a request before it is submitted, if it can be cancelled. Returns its serial number, or 0.
    #[inline]
    pub(super) fn add(&self, request: &OwnedCell) -> u64 {
        if request.is_cancellable() {
            self.put(request)
        } else {
            0
        }
    }

    #[inline(never)]
    fn put(&self, request: &OwnedCell) -> u64 {
        // SAFETY: `remove` drops it before the request ends.
        let cell = unsafe { request.share() };
        let mut entries = self.entries.lock();
        let serial = entries.serial + 1;
        let new = || Entry {
            cell,
            serial,
            is_wanted_gone: false,
        };
        // A request of a batch may be in the list already.
        let serial = entries
            .by_tag
            .entry(request.tag())
            .or_insert_with(new)
            .serial;
        entries.serial = entries.serial.max(serial);
        self.count.store(entries.by_tag.len(), Ordering::Relaxed);
        serial
    }

    /// Removes a request that is about to end, or goes back to its owner.
    #[inline]
    pub(super) fn remove(&self, request: &OwnedCell) {
        if request.is_cancellable() {
            self.take_out(request.tag());
        }
    }

    #[inline(never)]
    fn take_out(&self, tag: u64) {
        self.forget(&mut self.entries.lock(), tag);
    }

    fn forget(&self, entries: &mut Entries, tag: u64) {
        if let Some(entry) = entries.by_tag.remove(&tag)
            && entry.is_wanted_gone
        {
            // SeqCst as in `want_gone`; that there are fewer may be seen late.
            self.unfinished.fetch_sub(1, Ordering::SeqCst);
        }
        self.count.store(entries.by_tag.len(), Ordering::Relaxed);
    }

    /// Tries to cancel a request. With `serial`, only the request that has this number: the tag may be
    /// another request's by now.
    pub(super) fn cancel(
        &self,
        tag: u64,
        serial: Option<u64>,
        backlog: &Backlog,
        kernel: &Kernel,
    ) -> Cancelled {
        let mut entries = self.entries.lock();
        match entries.by_tag.get_mut(&tag) {
            Some(entry) if serial.is_none_or(|serial| serial == entry.serial) => {
                self.want_gone(entry);
            }
            _ => return Cancelled::Over,
        }
        self.try_entry(&mut entries, tag, backlog, kernel)
    }

    fn want_gone(&self, entry: &mut Entry) {
        if !std::mem::replace(&mut entry.is_wanted_gone, true) {
            // SeqCst: the canceller stores this, and then looks for the request in the backlog and in the
            // kernel. A submitting thread moves the request from one to the other, and then looks here. One
            // of the two threads sees the other.
            self.unfinished.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn try_entry(
        &self,
        entries: &mut Entries,
        tag: u64,
        backlog: &Backlog,
        kernel: &Kernel,
    ) -> Cancelled {
        let Some(entry) = entries.by_tag.get_mut(&tag) else {
            return Cancelled::Over;
        };
        if let Some(request) = backlog.remove(&entry.cell) {
            self.forget(entries, tag);
            return Cancelled::Queued(request);
        }
        if entry.cell.cancel_in(kernel) {
            entry.is_wanted_gone = false;
            // SeqCst as in `want_gone`; that there are fewer may be seen late.
            self.unfinished.fetch_sub(1, Ordering::SeqCst);
            return Cancelled::InKernel;
        }
        Cancelled::Later
    }

    /// Whether a thread that comes out of `io_submit`, or has queued requests, must call `retry`.
    #[inline]
    pub(super) fn has_unfinished(&self) -> bool {
        // SeqCst: see `want_gone`.
        self.unfinished.load(Ordering::SeqCst) > 0
    }

    /// Tries again to cancel those that could not be cancelled at once; with `all`, every one. Returns those
    /// that were queued.
    pub(super) fn retry(&self, all: bool, backlog: &Backlog, kernel: &Kernel) -> Vec<OwnedCell> {
        let mut entries = self.entries.lock();
        let mut tags = Vec::new();
        for (&tag, entry) in &mut entries.by_tag {
            if all {
                self.want_gone(entry);
            }
            if entry.is_wanted_gone {
                tags.push((entry.serial, tag));
            }
        }
        tags.sort_unstable(); // oldest first
        let mut queued = Vec::new();
        for (_, tag) in tags {
            if let Cancelled::Queued(request) = self.try_entry(&mut entries, tag, backlog, kernel) {
                queued.push(request);
            }
        }
        queued
    }
}
