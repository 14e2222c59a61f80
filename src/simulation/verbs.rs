//! One line of a program: what it asks of the crate.

use super::call_out::{self, Place, call_out, check_stats};
use super::character::{Character, Shape};
use super::executor::{block_on, poll_once};
use super::held::{Handed, Held, Outcome, arrived, cancel_poll};
use super::ledger::{self, Kind, given_back, ledger, submitting, violate};
use super::things::{Handle, Known, Memory, eventfds, number_of};
use crate::aio::Aio;
use crate::error::{AioError, SubmitError, errno_of};
use crate::flags::PollFlags;
use crate::iocb::Iocb;
use crate::op::{Read, ReadV, Request, Write, WriteV};
use crate::pending::Pending;
use crate::random::Random;
use crate::sync::{self, now, yield_now};
use crate::sys::seeded::NAME;
use std::io;
use std::rc::Rc;
use std::time::Duration;

/// A thread of the program while it carries out a line.
pub(super) struct Me {
    pub(super) dice: Random,
    pub(super) held: Vec<Box<dyn Held>>,
    /// The requests with a callback that were accepted, and by which engine.
    pub(super) accepted: Vec<(usize, u64)>,
    pub(super) character: Rc<Character>,
}

/// How its result is asked for.
#[derive(Clone, Copy, Debug)]
enum Way {
    Callback,
    Wait,
    Await,
    Hold,
}

impl Me {
    fn way(&mut self) -> Way {
        if self.character.mood.dies > 0 {
            return Way::Callback;
        }
        [
            Way::Callback,
            Way::Callback,
            Way::Wait,
            Way::Await,
            Way::Hold,
        ][self.dice.below(5)]
    }

    pub(super) fn len(&mut self) -> usize {
        1 + self.dice.below(40)
    }

    pub(super) fn time(&mut self) -> Duration {
        Duration::from_millis(self.dice.roll(60))
    }

    pub(super) fn handle(&mut self) -> Handle {
        Handle::new(self.dice.below(4))
    }

    fn place(&mut self) -> usize {
        self.dice.below(self.character.shapes.len())
    }

    fn keep(&mut self, handed: Box<dyn Held>, awaits: bool) {
        if awaits {
            handed.block_on();
        } else {
            self.held.push(handed);
        }
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

/// Something that the thread does.
pub(super) fn line(me: &mut Me) {
    let roll = me.dice.roll(20);
    // What a dead context has never completes, and who waits for it waits for ever.
    let waits = [9, 10, 11, 17, 19].contains(&roll);
    if waits && me.character.mood.dies > 0 {
        return read(me);
    }
    match roll {
        0 | 1 => read(me),
        2 => write(me),
        3 => exact(me),
        4 => offload(me),
        5 => vectored(me),
        6 => fsync(me),
        7 => poll_ready(me),
        8 => cancellable(me),
        9 => batch(me),
        10 => scope(me),
        11 => many(me),
        12 | 13 => get_result(me),
        14 => drain(me),
        15 => turn(me),
        16 => end(me),
        17 => super::groups::line(me),
        18 => me.aio().iter().for_each(check_stats),
        19 if me.dice.roll(3) > 0 => super::queues::line(me),
        _ => pass_time(me),
    }
}

/// Sends the request in one of the ways.
fn send<S: Request>(me: &mut Me, aio: &Aio, name: u64, request: Iocb<S>, cancel: fn(&Pending<S>))
where
    S::Output: Outcome,
    Pending<S>: Future<Output = S::Output> + Unpin,
{
    let request = with_eventfd(me, name, request);
    let way = me.way();
    let is_ordered =
        ledger(|ledger| !matches!(ledger.entry(name).kind, Kind::GoesOn | Kind::Exact));
    let now = submitting(&[name], is_ordered);
    match way {
        Way::Callback => {
            let request = request.init_callback(move |outcome| {
                arrived(name, &outcome);
                call_out(Place::Callback);
            });
            match request.submit() {
                Ok(()) => me.accepted.push((id_of(aio), name)),
                Err(error) => given_back(name, error),
            }
        }
        Way::Wait => match request.wait() {
            Ok(outcome) => arrived(name, &outcome),
            Err(error) => given_back(name, error),
        },
        Way::Await | Way::Hold => match start(aio, name, request, cancel) {
            Ok(handed) => {
                drop(now);
                me.keep(handed, matches!(way, Way::Await));
            }
            Err(error) => given_back(name, error),
        },
    }
}

fn start<S: Request>(
    aio: &Aio,
    name: u64,
    request: Iocb<S>,
    cancel: fn(&Pending<S>),
) -> Result<Box<dyn Held>, SubmitError<Iocb<S>>>
where
    S::Output: Outcome,
    Pending<S>: Future<Output = S::Output> + Unpin,
{
    let pending = request.start()?;
    let is_manual = aio.engine().is_manual();
    Ok(Box::new(Handed {
        name,
        is_manual,
        pending,
        cancel,
    }))
}

fn with_eventfd<S: Request>(me: &mut Me, name: u64, request: Iocb<S>) -> Iocb<S> {
    if me.dice.roll(6) > 0 {
        return request;
    }
    let eventfd = &eventfds()[me.dice.below(2)];
    ledger(|ledger| ledger.entry(name).eventfd = Some(number_of(eventfd)));
    request.eventfd(std::sync::Arc::clone(eventfd))
}

fn open(kind: Kind, len: usize) -> u64 {
    ledger(|ledger| ledger.open(kind, len))
}

fn read(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let len = me.len();
    let name = open(Kind::Plain, len);
    let request = aio
        .alloc()
        .init_rw(me.handle(), Read, Memory::to_read(len), name << NAME);
    send(me, &aio, name, request, |_| ());
}

fn write(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let len = me.len();
    let name = open(Kind::Plain, len);
    let memory = Memory::to_write(name, len);
    let request = aio
        .alloc()
        .init_rw(me.handle(), Write, memory, name << NAME);
    send(me, &aio, name, request, |_| ());
}

fn exact(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let len = me.len();
    let name = open(Kind::Exact, len);
    let (file, blank) = (me.handle(), aio.alloc());
    if me.dice.roll(2) == 0 {
        let request = blank.init_rw(file, Read, Memory::to_read(len), name << NAME);
        send(me, &aio, name, request.read_exact(), |_| ());
    } else {
        let request = blank.init_rw(file, Write, Memory::to_write(name, len), name << NAME);
        send(me, &aio, name, request.write_all(), |_| ());
    }
}

fn offload(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let len = me.len();
    let name = open(Kind::GoesOn, len);
    let (file, blank) = (me.handle(), aio.alloc());
    if me.dice.roll(2) == 0 {
        let request = blank.init_rw(file, Read, Memory::to_read(len), name << NAME);
        send(me, &aio, name, request.nowait_or_offload(), |_| ());
    } else {
        let request = blank.init_rw(file, Write, Memory::to_write(name, len), name << NAME);
        send(me, &aio, name, request.nowait_or_offload(), |_| ());
    }
}

fn vectored(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let name = open(Kind::Plain, 24);
    let (file, blank) = (me.handle(), aio.alloc());
    if me.dice.roll(2) == 0 {
        let memory = [Memory::to_read(16), Memory::to_read(8)];
        send(
            me,
            &aio,
            name,
            blank.init_rw(file, ReadV, memory, name << NAME),
            |_| (),
        );
    } else {
        // The second piece goes on where the first one ends.
        let memory = [
            Memory::to_write(name, 16),
            Memory::of_offset((name << NAME) + 16, 8),
        ];
        send(
            me,
            &aio,
            name,
            blank.init_rw(file, WriteV, memory, name << NAME),
            |_| (),
        );
    }
}

fn fsync(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let name = open(Kind::Sync, 0);
    let request = aio.alloc().init_fdsync(me.handle());
    send(me, &aio, name, request, |_| ());
}

fn poll_ready(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let name = open(Kind::Poll, 0);
    let request = aio.alloc().init_poll(me.handle(), PollFlags::IN);
    send(me, &aio, name, request, cancel_poll);
}

fn cancellable(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let name = open(Kind::Poll, 0);
    let request = aio.alloc().init_poll(me.handle(), PollFlags::IN);
    let request = request.init_callback(move |outcome| {
        arrived(name, &outcome);
        call_out(Place::Callback);
    });
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

fn batch(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let mut batch = aio.batch();
    let mut tickets = Vec::new();
    let mut handles: Vec<Box<dyn Held>> = Vec::new();
    let mut names = Vec::new();
    for _ in 0..1 + me.dice.below(6) {
        let len = me.len();
        let name = open(Kind::Plain, len);
        names.push(name);
        let request = aio
            .alloc()
            .init_rw(me.handle(), Read, Memory::to_read(len), name << NAME);
        if me.dice.roll(2) == 0 {
            let pending = batch.push(request);
            handles.push(Box::new(Handed {
                name,
                is_manual: aio.engine().is_manual(),
                pending,
                cancel: |_| (),
            }));
        } else {
            let request = request.init_callback(move |outcome| {
                arrived(name, &outcome);
                call_out(Place::Callback);
            });
            tickets.push((name, batch.push_callback(request)));
        }
    }
    let now = submitting(&names, true);
    let mut errors = batch.submit();
    drop(now);
    me.held.extend(handles);
    for (name, ticket) in tickets {
        if let Some(error) = errors.take(ticket) {
            given_back(name, error);
        }
    }
}

fn scope(me: &mut Me) {
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
                settle(name, &handle.wait());
            } else {
                ledger(|ledger| ledger.abandon(name));
            }
        }
    });
    check_pages(&names, &pages);
}

/// In borrowed memory a refusal is a result like others.
fn settle(name: u64, result: &io::Result<usize>) {
    ledger::ended(name, result);
}

fn check_pages(names: &[u64], pages: &[[u8; 16]]) {
    for (&name, page) in names.iter().zip(pages) {
        let count = page
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        if !super::things::holds(page, name, count) {
            violate(format!("request {name} has other bytes in borrowed memory"));
        }
    }
}

fn many(me: &mut Me) {
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
        .for_each(|(&name, result)| settle(name, result));
    check_pages(&names, &pages);
}

fn get_result(me: &mut Me) {
    if me.held.is_empty() {
        return;
    }
    let place = me.dice.below(me.held.len());
    let held = me.held.swap_remove(place);
    match me.dice.roll(6) {
        0 | 1 => held.wait(),
        2 => {
            let time = me.time();
            let left = in_time(me, time, || held.wait_timeout(time), Option::is_some);
            me.held.extend(left);
        }
        3 => held.block_on(),
        4 => me.held.extend(held.poll()),
        _ => {
            held.cancel();
            held.abandon();
        }
    }
}

/// A call with a deadline returns in time, and not before the time is over.
fn in_time<R>(
    me: &Me,
    time: Duration,
    call: impl FnOnce() -> R,
    is_too_late: impl Fn(&R) -> bool,
) -> R {
    let began = now();
    let answer = call();
    let took = now() - began;
    if is_too_late(&answer) && took < time {
        violate(format!("a wait for {time:?} was over after {took:?}"));
    }
    if took > time && me.character.is_punctual() {
        violate(format!("a wait for {time:?} took {took:?}"));
    }
    answer
}

fn drain(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let timed_out = |answer: &io::Result<()>| {
        answer
            .as_ref()
            .is_err_and(|error| errno_of(error) == AioError::TimedOut.errno())
    };
    // By then, so that what callbacks submit meanwhile is another matter.
    let engine = id_of(&aio);
    let accepted = me.accepted.iter().filter(|one| one.0 == engine);
    let names: Vec<_> = accepted.map(|one| one.1).collect();
    let drained = match me.dice.roll(3) {
        0 => aio.drain(),
        1 => drain_in_a_task(&aio),
        _ => {
            let time = me.time();
            in_time(me, time, || aio.drain_timeout(time), timed_out)
        }
    };
    // What a dead context had never completes, nor what one had whose end found no thread; and the address of
    // such a one may be another one's.
    let all_end = me.character.mood.dies == 0 && me.character.refused_threads == 0;
    if drained.is_ok() && all_end {
        names.iter().for_each(|&name| ledger::must_have_ended(name));
    }
}

/// This thread's shard of it.
fn id_of(aio: &Aio) -> usize {
    std::sync::Arc::as_ptr(aio.engine()).addr()
}

/// Under `Dispatch::Manual` another thread would have to poll.
fn drain_in_a_task(aio: &Aio) -> io::Result<()> {
    if aio.engine().is_manual() {
        return poll_once(&mut aio.drain_async()).unwrap_or(Err(io::ErrorKind::WouldBlock.into()));
    }
    block_on(aio.drain_async())
}

/// Dropped after its first poll, it goes on in the background.
fn shut_down_in_a_task(aio: &Aio) -> io::Result<()> {
    if aio.engine().is_manual() {
        return poll_once(&mut aio.shutdown_async()).unwrap_or(Ok(()));
    }
    block_on(aio.shutdown_async())
}

/// A turn of the program's own loop.
fn turn(me: &mut Me) {
    let Some(aio) = me.aio() else { return };
    let time = me.time();
    let never = |_: &io::Result<usize>| false;
    drop(in_time(me, time, || aio.poll(1, 4, Some(time)), never));
}

fn end(me: &mut Me) {
    let place = me.place();
    let Some(aio) = call_out::replace_aio(place, None) else {
        return;
    };
    match me.dice.roll(4) {
        0 => drop(aio.shutdown(me.time())),
        1 => drop(shut_down_in_a_task(&aio)),
        2 => call_out::replace_aio(place, Some(aio))
            .into_iter()
            .for_each(drop),
        _ => drop(aio),
    }
}

fn pass_time(me: &mut Me) {
    match me.dice.roll(3) {
        0 => sync::sleep(me.time()),
        _ => yield_now(),
    }
}
