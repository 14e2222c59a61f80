//! Groups of writes: what a barrier says must be true of the kernel.
//!
//! A barrier that ends well was preceded by a sync that began when every write before it had completed, and
//! none of those writes had failed. After a failure each barrier fails until the program takes the error.

use super::call_out::{Place, call_out, survive};
use super::held::arrived;
use super::ledger::{Kind, given_back, ledger, open, submitting, violate};
use super::me::Me;
use super::things::{Handle, Memory};
use crate::completion::Completion;
use crate::sync_group::SyncGroup;
use crate::sync_scheduler::SyncKind;
use crate::sys::seeded::{NAME, machine};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// What one thread's group has been through. No other thread uses it.
struct History {
    file: u32,
    /// Writes that were accepted, in order.
    writes: Vec<u64>,
    /// A barrier has told of a failure.
    failed: bool,
}

/// A group, a few writes and barriers on it, and its end.
pub(super) fn line(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let file = Handle::new(me.dice.below(4));
    let history = Rc::new(RefCell::new(History {
        file: file.number(),
        writes: Vec::new(),
        failed: false,
    }));
    let group = SyncGroup::new(&aio, file);
    for _ in 0..1 + me.dice.below(6) {
        survive(|| match me.dice.roll(5) {
            0 | 1 => write(me, &group, &history),
            2 => commit(me, &group, &history),
            3 => sync(&group, &history),
            _ => barrier(&group, &history),
        });
    }
    survive(|| take_error(&group, &history));
    if aio.engine().is_manual() {
        drop(aio.drain()); // what is under way keeps the context, and nobody would poll any more
    }
}

impl super::held::Outcome for Completion<Arc<Handle>, Memory> {
    fn result(&self) -> io::Result<usize> {
        super::held::copy_of(&self.result)
    }
}

fn write(me: &mut Me, group: &SyncGroup<Handle>, history: &RefCell<History>) {
    let len = 1 + me.dice.below(20);
    let name = open(Kind::Exact, len);
    let _now = submitting(&[name], false);
    let written = group.write(Memory::to_write(name, len), name << NAME, move |done| {
        arrived(name, &done);
        call_out(Place::Callback);
    });
    match written {
        Ok(()) => history.borrow_mut().writes.push(name),
        Err(error) => given_back(name, error),
    }
}

/// Its write has no callback of the program's: the kernel's word is all there is.
fn commit(me: &mut Me, group: &SyncGroup<Handle>, history: &RefCell<History>) {
    let len = 1 + me.dice.below(20);
    let name = open(Kind::Exact, len);
    let before = history.borrow().writes.clone();
    let pending = group.commit(Memory::to_write(name, len), name << NAME);
    let outcome = pending.wait();
    let result = match &outcome {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::from_raw_os_error(error.errno().unwrap_or(0))),
    };
    let mut writes = before;
    writes.push(name);
    check(history, &writes, &result);
    history.borrow_mut().writes.push(name);
    drop(outcome);
}

fn sync(group: &SyncGroup<Handle>, history: &RefCell<History>) {
    let writes = history.borrow().writes.clone();
    let result = group.sync(SyncKind::Data).wait();
    check(history, &writes, &result);
}

/// Its callback may come long after.
fn barrier(group: &SyncGroup<Handle>, history: &RefCell<History>) {
    let (file, writes) = {
        let history = history.borrow();
        (history.file, history.writes.clone())
    };
    let had_failed = history.borrow().failed;
    let name = open(Kind::Sync, 0);
    let _now = submitting(&[name], false);
    let made = group.barrier(SyncKind::All, move |result| {
        check_durable(file, &writes, &result);
        super::ledger::ended(name, &result.map(|()| 0));
        call_out(Place::Callback);
    });
    match made {
        Ok(()) if had_failed => violate("a barrier was accepted after an error that was not taken"),
        Ok(()) => {}
        Err(error) => given_back(name, error),
    }
}

fn check(history: &RefCell<History>, writes: &[u64], result: &io::Result<()>) {
    let (file, had_failed) = (history.borrow().file, history.borrow().failed);
    if had_failed && result.is_ok() {
        violate("a sync ended well after an error that was not taken");
    }
    check_durable(file, writes, result);
    // Not those of a context that ends.
    let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
    history.borrow_mut().failed |= matches!(errno, Some(libc::EIO | libc::ENOSPC));
}

fn check_durable(file: u32, writes: &[u64], result: &io::Result<()>) {
    if result.is_err() {
        return;
    }
    let ends = writes
        .iter()
        .map(|&name| machine(|machine| machine.known(name).ended));
    let last = ends.max().unwrap_or(0);
    let is_synced = machine(|machine| {
        let mut syncs = machine.syncs().iter();
        syncs.any(|sync| sync.file == file && sync.began > last)
    });
    if !is_synced {
        violate(format!(
            "no sync of file {file} began after the writes {writes:?}"
        ));
    }
    for &name in writes {
        let len = ledger(|ledger| ledger.entry(name).len);
        if super::ledger::came_over(name) != len {
            violate(format!(
                "write {name} came short, and its barrier ended well"
            ));
        }
    }
}

/// Afterwards barriers are accepted again.
fn take_error(group: &SyncGroup<Handle>, history: &RefCell<History>) {
    let had_failed = history.borrow().failed;
    if had_failed && group.take_error().is_none() {
        violate("the error of a group was gone before it was taken");
    }
}
