//! Requests that go one by one.

use super::held::cancel_poll;
use super::ledger::{Kind, given_back, open, submitting};
use super::me::Me;
use super::send::{callback, send};
use super::things::{Handle, Memory};
use super::waits::pass_time;
use crate::aio::Aio;
use crate::flags::PollFlags;
use crate::iocb::Iocb;
use crate::op::{Read, ReadV, Rw, Write, WriteV};
use crate::sys::seeded::NAME;

/// What is known of a transfer before it is decided which way it goes.
struct Transfer {
    aio: Aio,
    name: u64,
    len: usize,
    file: usize,
}

impl Transfer {
    fn of(me: &mut Me, kind: Kind) -> Option<Transfer> {
        let aio = me.aio()?;
        let len = me.len();
        let name = open(kind, len);
        let file = me.file();
        Some(Transfer {
            aio,
            name,
            len,
            file,
        })
    }

    fn to_read(&self) -> Iocb<Rw<Handle, Read, Memory>> {
        let (file, memory) = (Handle::new(self.file), Memory::to_read(self.len));
        let blank = self.aio.alloc();
        blank.init_rw(file, Read, memory, self.name << NAME)
    }

    fn to_write(&self) -> Iocb<Rw<Handle, Write, Memory>> {
        let file = Handle::new(self.file);
        let memory = Memory::to_write(self.name, self.len);
        let blank = self.aio.alloc();
        blank.init_rw(file, Write, memory, self.name << NAME)
    }
}

pub(super) fn read(me: &mut Me) {
    if let Some(it) = Transfer::of(me, Kind::Plain) {
        send(me, &it.aio, it.name, it.to_read(), |_| ());
    }
}

pub(super) fn write(me: &mut Me) {
    if let Some(it) = Transfer::of(me, Kind::Plain) {
        send(me, &it.aio, it.name, it.to_write(), |_| ());
    }
}

pub(super) fn exact(me: &mut Me) {
    let Some(it) = Transfer::of(me, Kind::Exact) else {
        return;
    };
    match me.dice.roll(2) {
        0 => send(me, &it.aio, it.name, it.to_read().read_exact(), |_| ()),
        _ => send(me, &it.aio, it.name, it.to_write().write_all(), |_| ()),
    }
}

pub(super) fn offload(me: &mut Me) {
    let Some(it) = Transfer::of(me, Kind::GoesOn) else {
        return;
    };
    match me.dice.roll(2) {
        0 => send(
            me,
            &it.aio,
            it.name,
            it.to_read().nowait_or_offload(),
            |_| (),
        ),
        _ => send(
            me,
            &it.aio,
            it.name,
            it.to_write().nowait_or_offload(),
            |_| (),
        ),
    }
}

pub(super) fn vectored(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let name = open(Kind::Plain, 24);
    let (file, blank, offset) = (me.handle(), aio.alloc(), name << NAME);
    if me.dice.roll(2) == 0 {
        let memory = [Memory::to_read(16), Memory::to_read(8)];
        let request = blank.init_rw(file, ReadV, memory, offset);
        send(me, &aio, name, request, |_| ());
    } else {
        // The second piece goes on where the first one ends.
        let memory = [
            Memory::to_write(name, 16),
            Memory::of_offset(offset + 16, 8),
        ];
        let request = blank.init_rw(file, WriteV, memory, offset);
        send(me, &aio, name, request, |_| ());
    }
}

pub(super) fn fsync(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let name = open(Kind::Sync, 0);
    let request = aio.alloc().init_fdsync(me.handle());
    send(me, &aio, name, request, |_| ());
}

pub(super) fn poll_ready(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let name = open(Kind::Poll, 0);
    let request = aio.alloc().init_poll(me.handle(), PollFlags::IN);
    send(me, &aio, name, request, cancel_poll);
}

pub(super) fn cancellable(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let name = open(Kind::Poll, 0);
    let request = aio.alloc().init_poll(me.handle(), PollFlags::IN);
    let request = request.init_callback(callback(name));
    let now = submitting(&[name], true);
    match request.submit_cancellable() {
        Ok(handle) => {
            drop(now);
            pass_time(me);
            handle.cancel();
        }
        Err(error) => given_back(name, error),
    }
}
