//! Queues: what is pushed comes back once, with its tag, or is dropped with the queue.

use super::call_out::survive;
use super::held::arrived;
use super::ledger::{Kind, given_back, ledger, open, submitting, violate};
use super::me::Me;
use super::things::{Handle, Memory};
use crate::aio::Aio;
use crate::op::{Read, Rw};
use crate::queue::{Queue, QueueDrain};
use crate::sys::seeded::NAME;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;

type Reads = Queue<u64, Rw<Handle, Read, Memory>>;

/// A queue, a few reads in it, and its end: when all have come back, or before.
pub(super) fn line(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let (queue, inside) = (aio.queue(), RefCell::default());
    for _ in 0..2 + me.dice.below(8) {
        survive(|| match me.dice.roll(6) {
            0..=3 => push(me, &aio, &queue, &inside),
            4 => look(queue.wait(1, Some(me.time())), &inside),
            _ => look(Ok(queue.drain()), &inside),
        });
    }
    if me.dice.roll(3) > 0 {
        survive(|| empty(&queue, &inside));
    }
    inside
        .take()
        .into_iter()
        .for_each(|name| ledger(|ledger| ledger.abandon(name)));
    survive(|| drop(queue));
    if aio.engine().is_manual() {
        drop(aio.drain()); // what is under way keeps the context, and nobody would poll any more
    }
}

fn push(me: &mut Me, aio: &Aio, queue: &Reads, inside: &RefCell<BTreeSet<u64>>) {
    let len = me.len();
    let name = open(Kind::Plain, len);
    let read = aio
        .alloc()
        .init_rw(me.handle(), Read, Memory::to_read(len), name << NAME);
    let _now = submitting(&[name], true);
    inside.borrow_mut().insert(name);
    if let Err(error) = queue.push(read, name) {
        inside.borrow_mut().remove(&name);
        given_back(name, error);
    }
}

fn look(
    done: io::Result<QueueDrain<'_, u64, Rw<Handle, Read, Memory>>>,
    inside: &RefCell<BTreeSet<u64>>,
) {
    let Ok(done) = done else { return };
    for (name, outcome) in done {
        if !inside.borrow_mut().remove(&name) {
            violate(format!(
                "request {name} came out of a queue that does not have it"
            ));
        }
        arrived(name, &outcome);
        survive(|| drop(outcome));
    }
}

/// Waits for all, as long as any can come.
fn empty(queue: &Reads, inside: &RefCell<BTreeSet<u64>>) {
    while !queue.is_empty() {
        match queue.wait(1, None) {
            Ok(done) => look(Ok(done), inside),
            Err(_) => return,
        }
    }
}
