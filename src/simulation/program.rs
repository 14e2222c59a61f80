//! A program: threads, and the lines that each carries out.

use super::call_out::{self, survive};
use super::character::Character;
use super::me::Me;
use super::verbs::line;
use super::{held, things};
use crate::random::Random;
use std::rc::Rc;

/// The seeds of one thread's lines.
pub(super) type Lines = Vec<u64>;

pub(super) fn lines(character: &Character, dice: &mut Random) -> Vec<Lines> {
    let thread = |_| (0..character.lines).map(|_| dice.next()).collect();
    (0..character.threads).map(thread).collect()
}

/// Threads that carry out their lines; the contexts end when all have.
pub(super) fn carry_out(character: &Character, program: Vec<Lines>) {
    things::eventfds();
    let threads: Vec<_> = program
        .into_iter()
        .map(|lines| {
            let character = character.clone();
            shuttle::thread::spawn(move || thread(&character, &lines))
        })
        .collect();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    call_out::calm_down();
    for place in 0..call_out::aios() {
        drop(call_out::replace_aio(place, None));
    }
}

fn thread(character: &Character, lines: &Lines) {
    let mut me = Me {
        dice: Random(0),
        held: Vec::new(),
        accepted: Vec::new(),
        character: Rc::new(character.clone()),
    };
    for &seed in lines {
        me.dice = Random(seed);
        survive(|| line(&mut me));
    }
    let (held, mut dice) = (std::mem::take(&mut me.held), me.dice.clone());
    for one in held {
        survive(|| held::finish(vec![one], &mut dice));
    }
}
