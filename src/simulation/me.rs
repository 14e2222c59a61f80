//! A thread of the program: its dice, and what it has in its hands.

use super::call_out::{self, Place, call_out};
use super::character::{Character, Shape};
use super::held::Held;
use super::things::{FILES, Handle};
use crate::aio::Aio;
use crate::random::Random;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(super) struct Me {
    pub(super) dice: Random,
    pub(super) held: Vec<Box<dyn Held>>,
    /// The requests with a callback that were accepted, and by which engine.
    pub(super) accepted: Vec<(usize, u64)>,
    pub(super) character: Rc<Character>,
}

impl Me {
    pub(super) fn len(&mut self) -> usize {
        1 + self.dice.below(40)
    }

    pub(super) fn time(&mut self) -> Duration {
        Duration::from_millis(self.dice.roll(60))
    }

    pub(super) fn file(&mut self) -> usize {
        self.dice.below(FILES)
    }

    pub(super) fn handle(&mut self) -> Handle {
        Handle::new(self.file())
    }

    /// Where some context is, or will be.
    pub(super) fn place(&mut self) -> usize {
        self.dice.below(self.character.shapes.len())
    }

    /// A handle of some context, which is made if it does not exist.
    pub(super) fn aio(&mut self) -> Option<Aio> {
        let place = self.place();
        call_out::aio(place).or_else(|| {
            let aio = build(self.character.shapes[place]).ok()?;
            let before = call_out::replace_aio(place, Some(aio.clone()));
            drop(before);
            Some(aio)
        })
    }

    /// The requests that this thread's shard of it has accepted.
    pub(super) fn accepted_by(&self, aio: &Aio) -> Vec<u64> {
        let engine = id_of(aio);
        let accepted = self.accepted.iter().filter(|one| one.0 == engine);
        accepted.map(|one| one.1).collect()
    }

    pub(super) fn note_accepted(&mut self, aio: &Aio, name: u64) {
        self.accepted.push((id_of(aio), name));
    }
}

/// This thread's shard of it.
fn id_of(aio: &Aio) -> usize {
    Arc::as_ptr(aio.engine()).addr()
}

/// A context ends with its last handle.
fn build(shape: Shape) -> io::Result<Aio> {
    Aio::builder()
        .dispatch(shape.dispatch)
        .depth(shape.depth)
        .shards(shape.shards)
        .force_syscalls(shape.syscalls)
        .on_thread_start(|| call_out(Place::Hook))
        .build()
}
