//! Requests that go together: batches, scopes, and reads into many pieces of borrowed memory.

use super::held::Handed;
use super::ledger::{Kind, ended, given_back, ledger, open, submitting, violate};
use super::me::Me;
use super::send::callback;
use super::things::{Handle, Known, Memory, holds};
use crate::aio::Aio;
use crate::iocb::Iocb;
use crate::op::{Read, Rw};
use crate::sys::seeded::NAME;

pub(super) fn batch(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let mut batch = aio.batch();
    let (mut names, mut tickets) = (Vec::new(), Vec::new());
    let mut handles = Vec::new();
    for _ in 0..1 + me.dice.below(6) {
        let (name, request) = read(me, &aio);
        names.push(name);
        if me.dice.roll(2) == 0 {
            handles.push(Handed::boxed(&aio, name, batch.push(request), |_| ()));
        } else {
            let request = request.init_callback(callback(name));
            tickets.push((name, batch.push_callback(request)));
        }
    }
    let now = submitting(&names, true);
    let mut errors = batch.submit();
    drop(now);
    me.held.extend(handles);
    for (name, ticket) in tickets {
        let error = errors.take(ticket);
        error.into_iter().for_each(|error| given_back(name, error));
    }
}

fn read(me: &mut Me, aio: &Aio) -> (u64, Iocb<Rw<Handle, Read, Memory>>) {
    let len = me.len();
    let name = open(Kind::Plain, len);
    let blank = aio.alloc();
    let request = blank.init_rw(me.handle(), Read, Memory::to_read(len), name << NAME);
    (name, request)
}

pub(super) fn scope(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let count = 1 + me.dice.below(4);
    let names: Vec<_> = (0..count).map(|_| open(Kind::Plain, 16)).collect();
    let mut pages = vec![[0; 16]; count];
    let _known = Known::of(pages.iter().map(<[u8; 16]>::as_slice));
    let file = me.handle();
    let early = me.dice.below(count + 1);
    let asks = me.dice.roll(2) == 0;
    let pieces = pages.iter_mut().zip(&names);
    let _now = submitting(&names, true);
    aio.scope(|scope| {
        let mut handles = Vec::new();
        for (place, (page, &name)) in pieces.enumerate() {
            handles.push((name, scope.read_at(&file, page, name << NAME)));
            if place == early {
                scope.submit();
            }
        }
        for (name, handle) in handles {
            if asks {
                ended(name, &handle.wait());
            } else {
                ledger(|ledger| ledger.abandon(name));
            }
        }
    });
    check_pages(&names, &pages);
}

pub(super) fn many(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let count = 1 + me.dice.below(4);
    let names: Vec<_> = (0..count).map(|_| open(Kind::Plain, 16)).collect();
    let mut pages = vec![[0; 16]; count];
    let _known = Known::of(pages.iter().map(<[u8; 16]>::as_slice));
    let file = me.handle();
    let _now = submitting(&names, true);
    let offsets = names.iter().map(|name| name << NAME);
    let pieces = pages.iter_mut().map(<[u8; 16]>::as_mut_slice).zip(offsets);
    let results = aio.read_many(&file, pieces);
    names
        .iter()
        .zip(&results)
        .for_each(|(&name, result)| ended(name, result));
    check_pages(&names, &pages);
}

fn check_pages(names: &[u64], pages: &[[u8; 16]]) {
    for (&name, page) in names.iter().zip(pages) {
        let count = page
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        if !holds(page, name, count) {
            violate(format!("request {name} has other bytes in borrowed memory"));
        }
    }
}
