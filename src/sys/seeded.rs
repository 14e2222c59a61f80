//! A kernel whose every answer comes from a seed, for the simulation: the same methods as
//! [`super::kernel::Kernel`].
//!
//! It accepts in part, refuses, answers late, in any order, short, or with an error; inside the call of
//! `io_submit` or after it. It uses the memory that a request names as a kernel does: at the end of the
//! request, and only if it is still there. What no kernel may be asked for it writes down as a
//! [violation](Machine::violate).
//!
//! Bytes are what [`pattern`] says of their offset, and an offset is a request's *name* and what lies behind it:
//! `name << NAME`. So whoever looks at memory, kernel or user, knows what it must hold.
#![allow(unsafe_code, reason = "reads iocbs and uses memory, as a kernel does")]

use super::kernel::{FailedCall, Mode, WAKE};
use super::ring::Take;
use super::{io_event, iocb};
use crate::random::Random;
use crate::sync::{Sleeper, Wake, now, point, sleep};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bits of an offset that are below a request's name.
pub(crate) const NAME: u32 = 12;

/// The byte at an offset of every file.
pub(crate) fn pattern(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_le_bytes()[7]
}

/// How often the kernel does what: once in so many; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mood {
    /// Completes inside `io_submit`.
    pub(crate) at_once: u64,
    /// Refuses a request.
    pub(crate) refuses: u64,
    /// Ends `io_submit` before all of it is accepted.
    pub(crate) partly: u64,
    /// EAGAIN although there is room.
    pub(crate) hoards: u64,
    /// Blocks in `io_submit`.
    pub(crate) blocks: u64,
    /// Transfers fewer bytes.
    pub(crate) short: u64,
    /// Fails a transfer.
    pub(crate) fails: u64,
    /// Answers more than was asked for.
    pub(crate) exaggerates: u64,
    /// NOWAIT would have blocked.
    pub(crate) would_block: u64,
    /// A signal ends a sleep.
    pub(crate) interrupts: u64,
    /// A context dies with a submission.
    pub(crate) dies: u64,
    /// `io_setup` has no room for so many.
    pub(crate) scarce: u64,
    /// The longest time that a request takes.
    pub(crate) latency: u64,
}

/// What the kernel answered about a request, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Refused(i32),
    Event(i64),
}

/// What the kernel knows of the requests of one name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Where it first arrived: context, and place in the order of all arrivals.
    pub(crate) arrival: Option<(usize, u64)>,
    pub(crate) answers: Vec<Answer>,
    /// When the last event came, in the order of all events and syncs.
    pub(crate) ended: u64,
}

/// A sync that ended well: when it was accepted, in the same order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Synced {
    pub(crate) file: u32,
    pub(crate) began: u64,
}

#[derive(Debug)]
struct InFlight {
    iocb: iocb,
    address: usize,
    due: Instant,
    began: u64,
}

#[derive(Debug, Default)]
struct Context {
    capacity: usize,
    pending: Vec<InFlight>,
    ring: VecDeque<io_event>,
    sleepers: Vec<Arc<Sleeper>>,
    is_dead: bool,
    is_destroyed: bool,
    is_read: bool,
}

/// All of the kernel: contexts, memory that it may use, and what it remembers.
#[derive(Debug)]
pub(crate) struct Machine {
    dice: Random,
    pub(crate) mood: Mood,
    contexts: Vec<Context>,
    /// Memory that exists: where it begins, and where it ends.
    memory: BTreeMap<usize, usize>,
    known: BTreeMap<u64, Known>,
    syncs: Vec<Synced>,
    /// Of each eventfd, how often it was raised.
    eventfds: BTreeMap<u32, u64>,
    violations: Vec<String>,
    order: u64,
    pub(crate) events: u64,
}

std::thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::new(Machine::new(0, Mood::default()));
}

/// Not across a point: another thread would find it borrowed.
pub(crate) fn machine<R>(what: impl FnOnce(&mut Machine) -> R) -> R {
    MACHINE.with_borrow_mut(what)
}

/// Whether the fault of this name is to be there: see tests/simulation.
#[allow(dead_code, reason = "of a copy of the sources with faults")]
pub(crate) fn is_planted(name: &str) -> bool {
    static FAULT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let fault = FAULT.get_or_init(|| std::env::var("KIOCB_FAULT").unwrap_or_default());
    fault == name
}

/// Something happened that must not, perhaps while the machine is in use.
pub(crate) fn violated(what: String) {
    let noted = MACHINE.try_with(|machine| {
        if let Ok(mut machine) = machine.try_borrow_mut() {
            machine.violations.push(what.clone());
        } else {
            eprintln!("{what}");
        }
    });
    if noted.is_err() {
        eprintln!("{what}");
    }
}

/// What the simulation asks and does.
impl Machine {
    pub(crate) fn new(seed: u64, mood: Mood) -> Machine {
        Machine {
            dice: Random(seed),
            mood,
            contexts: Vec::new(),
            memory: BTreeMap::new(),
            known: BTreeMap::new(),
            syncs: Vec::new(),
            eventfds: BTreeMap::new(),
            violations: Vec::new(),
            order: 0,
            events: 0,
        }
    }

    /// Something happened that must not.
    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn known(&self, name: u64) -> Known {
        self.known.get(&name).cloned().unwrap_or_default()
    }

    pub(crate) fn all_known(&self) -> &BTreeMap<u64, Known> {
        &self.known
    }

    pub(crate) fn syncs(&self) -> &[Synced] {
        &self.syncs
    }

    pub(crate) fn raised(&self, eventfd: u32) -> u64 {
        self.eventfds.get(&eventfd).copied().unwrap_or(0)
    }

    pub(crate) fn add_eventfd(&mut self, eventfd: u32) {
        self.eventfds.insert(eventfd, 0);
    }

    /// Whether a context died of itself.
    pub(crate) fn has_deaths(&self) -> bool {
        self.contexts.iter().any(|context| context.is_dead)
    }

    /// Contexts that were made and not destroyed.
    pub(crate) fn living(&self) -> usize {
        let is_there = |context: &&Context| !context.is_destroyed && !context.is_dead;
        self.contexts.iter().filter(is_there).count()
    }

    /// Memory that requests may name begins to exist.
    pub(crate) fn add_memory(&mut self, address: usize, len: usize) {
        self.memory.insert(address, address + len);
    }

    pub(crate) fn remove_memory(&mut self, address: usize) {
        if self.memory.remove(&address).is_none() {
            self.violate("memory was given back twice");
        }
    }

    pub(crate) fn memory_left(&self) -> usize {
        self.memory.len()
    }

    fn dice(&mut self, once_in: u64) -> bool {
        once_in > 0 && self.dice.roll(once_in) == 0
    }

    fn tick(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// When the next request is to complete.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let pending = self.contexts.iter().flat_map(|context| &context.pending);
        pending.map(|operation| operation.due).min()
    }

    /// Completes one request whose time has come, any of them. Returns who is to be woken for it.
    fn complete_one(&mut self) -> Option<Vec<Arc<Sleeper>>> {
        let now = now();
        let mut due = Vec::new();
        for (number, context) in self.contexts.iter().enumerate() {
            for (place, operation) in context.pending.iter().enumerate() {
                if operation.due <= now {
                    due.push((number, place));
                }
            }
        }
        if due.is_empty() {
            return None;
        }
        let (number, place) = due[self.dice.below(due.len())];
        let operation = self.contexts[number].pending.swap_remove(place);
        Some(self.complete(number, &operation))
    }

    fn complete(&mut self, number: usize, operation: &InFlight) -> Vec<Arc<Sleeper>> {
        let result = self.carry_out(operation);
        self.publish(number, operation, result)
    }

    fn publish(&mut self, number: usize, operation: &InFlight, result: i64) -> Vec<Arc<Sleeper>> {
        let ended = self.tick();
        if let Some(name) = name_of(&operation.iocb) {
            let known = self.known.entry(name).or_default();
            known.answers.push(Answer::Event(result));
            known.ended = ended;
        }
        if is_sync(&operation.iocb) && result == 0 {
            self.syncs.push(Synced {
                file: operation.iocb.aio_fildes,
                began: operation.began,
            });
        }
        if operation.iocb.aio_flags & super::IOCB_FLAG_RESFD != 0 {
            *self.eventfds.entry(operation.iocb.aio_resfd).or_default() += 1;
        }
        self.events += 1;
        let context = &mut self.contexts[number];
        context.ring.push_back(io_event {
            data: operation.iocb.aio_data,
            res: result,
            ..io_event::default()
        });
        std::mem::take(&mut context.sleepers)
    }

    /// What the request does, and its result.
    fn carry_out(&mut self, operation: &InFlight) -> i64 {
        let iocb = &operation.iocb;
        if iocb.aio_data == WAKE {
            return 0;
        }
        let nowait = iocb.aio_rw_flags & super::RWF_NOWAIT != 0;
        if nowait && self.dice(self.mood.would_block) {
            return -i64::from(libc::EAGAIN);
        }
        match iocb.aio_lio_opcode {
            super::IOCB_CMD_POLL => libc::POLLIN.into(),
            super::IOCB_CMD_FSYNC | super::IOCB_CMD_FDSYNC => self.dice_failure().unwrap_or(0),
            _ => self.transfer(iocb),
        }
    }

    fn dice_failure(&mut self) -> Option<i64> {
        self.dice(self.mood.fails)
            .then(|| [-i64::from(libc::EIO), -i64::from(libc::ENOSPC)][self.dice.below(2)])
    }

    fn transfer(&mut self, iocb: &iocb) -> i64 {
        let pieces = pieces_of(iocb);
        let whole: usize = pieces.iter().map(|piece| piece.1).sum();
        if !self.may_use(&pieces) {
            self.violate("the kernel used memory of a request that was freed");
            return -i64::from(libc::EFAULT);
        }
        if let Some(failure) = self.dice_failure() {
            return failure;
        }
        let count = if whole > 0 && self.dice(self.mood.short) {
            self.dice.below(whole)
        } else {
            whole
        };
        let is_read = is_read(iocb);
        let mut offset = iocb.aio_offset.cast_unsigned();
        let mut left = count;
        for (address, len) in pieces {
            let len = len.min(left);
            // SAFETY: the memory exists, as was just seen, and the request says that it is the kernel's.
            let is_right = unsafe { move_bytes(is_read, address, len, offset) };
            if !is_right {
                self.violate(format!("memory to be written was changed: offset {offset}"));
            }
            offset += len as u64;
            left -= len;
        }
        let more = i64::from(count == whole && self.dice(self.mood.exaggerates)) * 100_000;
        i64::try_from(count).expect("small") + more
    }

    /// Whether all pieces lie in memory that exists.
    fn may_use(&self, pieces: &[(usize, usize)]) -> bool {
        pieces.iter().all(|&(address, len)| {
            let before = self.memory.range(..=address).next_back();
            len == 0 || before.is_some_and(|(_, &end)| address + len <= end)
        })
    }
}

fn is_read(iocb: &iocb) -> bool {
    matches!(
        iocb.aio_lio_opcode,
        super::IOCB_CMD_PREAD | super::IOCB_CMD_PREADV
    )
}

fn is_sync(iocb: &iocb) -> bool {
    matches!(
        iocb.aio_lio_opcode,
        super::IOCB_CMD_FSYNC | super::IOCB_CMD_FDSYNC
    )
}

fn name_of(iocb: &iocb) -> Option<u64> {
    let has_name =
        iocb.aio_data != WAKE && !is_sync(iocb) && iocb.aio_lio_opcode != super::IOCB_CMD_POLL;
    has_name.then(|| iocb.aio_offset.cast_unsigned() >> NAME)
}

/// Addresses and lengths of the memory that a transfer names.
fn pieces_of(iocb: &iocb) -> Vec<(usize, usize)> {
    let address = usize::try_from(iocb.aio_buf).expect("64 bits");
    let len = usize::try_from(iocb.aio_nbytes).expect("64 bits");
    let is_vectored = matches!(
        iocb.aio_lio_opcode,
        super::IOCB_CMD_PREADV | super::IOCB_CMD_PWRITEV
    );
    if !is_vectored {
        return vec![(address, len)];
    }
    let vectors = std::ptr::with_exposed_provenance::<libc::iovec>(address);
    let piece = |at| {
        // SAFETY: the request says that there are so many.
        let vector = unsafe { vectors.wrapping_add(at).read() };
        (vector.iov_base.addr(), vector.iov_len)
    };
    (0..len).map(piece).collect()
}

/// Fills the memory, or returns whether it holds what it must.
///
/// # Safety
/// The memory exists, and is the kernel's for the request.
unsafe fn move_bytes(is_read: bool, address: usize, len: usize, offset: u64) -> bool {
    let memory = std::ptr::with_exposed_provenance_mut::<u8>(address);
    (0..len).all(|at| {
        let byte = pattern(offset + at as u64);
        if is_read {
            // SAFETY: the caller's promise.
            unsafe { memory.wrapping_add(at).write(byte) };
            return true;
        }
        // SAFETY: the caller's promise.
        byte == unsafe { memory.wrapping_add(at).read() }
    })
}

/// Does what the world does while the program waits: completes a request, or lets time pass where nothing else
/// can happen. Returns `false` where nothing ever will.
pub(crate) fn go_on(is_alone: bool) -> bool {
    if let Some(sleepers) = machine(Machine::complete_one) {
        sleepers
            .iter()
            .for_each(|sleeper| sleeper.wake(Wake::Notified));
        return true;
    }
    if !is_alone {
        return true;
    }
    let next = [
        machine(|machine| machine.next_due()),
        crate::sync::next_timer(),
    ];
    let next = next.into_iter().flatten().min();
    next.into_iter().for_each(crate::sync::pass_time);
    next.is_some()
}

#[derive(Debug)]
pub(crate) struct Kernel {
    number: usize,
    mode: Mode,
}

impl Kernel {
    pub(crate) fn setup(nr: u32, force_syscalls: bool) -> Result<Kernel, FailedCall> {
        point();
        machine(|machine| {
            if machine.dice(machine.mood.scarce) {
                let error = std::io::Error::from_raw_os_error(libc::EAGAIN);
                let call = "io_setup";
                return Err(FailedCall { call, error });
            }
            machine.contexts.push(Context {
                capacity: nr as usize,
                ..Context::default()
            });
            let mode = if force_syscalls {
                Mode::Syscalls
            } else {
                Mode::Ring
            };
            let number = machine.contexts.len() - 1;
            Ok(Kernel { number, mode })
        })
    }

    pub(crate) fn log(&self, _name: &str) {}

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    fn context<R>(&self, what: impl FnOnce(&mut Context) -> R) -> R {
        machine(|machine| what(&mut machine.contexts[self.number]))
    }

    /// # Safety
    /// Each points to an iocb that may be read.
    pub(crate) unsafe fn submit(&self, iocbs: &[*mut iocb]) -> Result<usize, i32> {
        point();
        self.die_perhaps(iocbs);
        for (at, &iocb) in iocbs.iter().enumerate() {
            // SAFETY: the caller's promise.
            match self.accept(unsafe { iocb.read() }, iocb.addr(), at) {
                Ok(sleepers) => {
                    sleepers
                        .iter()
                        .for_each(|sleeper| sleeper.wake(Wake::Notified));
                    point();
                }
                Err(errno) if at == 0 => return Err(errno),
                Err(_) => return Ok(at),
            }
        }
        self.block_perhaps();
        match iocbs.is_empty() && !self.is_alive() {
            true => Err(libc::EINVAL),
            false => Ok(iocbs.len()),
        }
    }

    fn die_perhaps(&self, iocbs: &[*mut iocb]) {
        let sleepers = machine(|machine| {
            if iocbs.is_empty() || !machine.dice(machine.mood.dies) {
                return Vec::new();
            }
            let context = &mut machine.contexts[self.number];
            context.is_dead = true;
            context.pending.clear();
            std::mem::take(&mut context.sleepers)
        });
        sleepers
            .iter()
            .for_each(|sleeper| sleeper.wake(Wake::Notified));
    }

    fn block_perhaps(&self) {
        let time = machine(|machine| {
            let blocks = machine.dice(machine.mood.blocks);
            blocks.then(|| Duration::from_millis(machine.dice.roll(150)))
        });
        time.into_iter().for_each(sleep);
    }

    fn accept(&self, iocb: iocb, address: usize, at: usize) -> Result<Vec<Arc<Sleeper>>, i32> {
        machine(|machine| {
            let context = &machine.contexts[self.number];
            if context.is_destroyed {
                machine.violate("io_submit after io_destroy");
                return Err(libc::EINVAL);
            }
            if context.is_dead {
                return Err(libc::EINVAL);
            }
            if context.pending.len() + context.ring.len() >= context.capacity {
                machine.violate("more requests at once than the context was made for");
                return Err(libc::EAGAIN);
            }
            machine.refuse_perhaps(&iocb, at)?;
            Ok(machine.begin(self.number, iocb, address))
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        point();
        self.context(|context| !context.is_dead && !context.is_destroyed)
    }

    /// # Safety
    /// None is needed here: a second caller is found out.
    pub(crate) unsafe fn take(&self, most: usize, reader: impl FnMut(&io_event) -> Take) -> usize {
        point();
        if self.mode == Mode::Ring {
            self.consume(most, reader)
        } else {
            // SAFETY: none is needed.
            unsafe { self.fetch(0, most, Some(Duration::ZERO), None, reader) }.unwrap_or(0)
        }
    }

    fn consume(&self, most: usize, mut reader: impl FnMut(&io_event) -> Take) -> usize {
        self.begin_reading();
        let events = self.oldest(most);
        let mut taken = 0;
        for event in &events {
            if reader(event) == Take::Leave {
                break;
            }
            taken += 1;
        }
        point();
        self.context(|context| context.ring.drain(..taken.min(context.ring.len())).count());
        self.end_reading();
        taken
    }

    fn oldest(&self, most: usize) -> Vec<io_event> {
        self.context(|context| context.ring.iter().copied().take(most).collect())
    }

    fn begin_reading(&self) {
        machine(|machine| {
            let context = &mut machine.contexts[self.number];
            let is_second = std::mem::replace(&mut context.is_read, true);
            let is_destroyed = context.is_destroyed;
            if is_second {
                machine.violate("two consumers at once: events would be delivered twice");
            }
            if is_destroyed {
                machine.violate("the ring was read after io_destroy");
            }
        });
        point();
    }

    fn end_reading(&self) {
        self.context(|context| context.is_read = false);
    }

    /// # Safety
    /// None is needed here: a second caller is found out.
    pub(crate) unsafe fn fetch(
        &self,
        min: usize,
        most: usize,
        timeout: Option<Duration>,
        _: Option<u64>,
        mut reader: impl FnMut(&io_event) -> Take,
    ) -> Result<usize, i32> {
        self.begin_reading();
        let slept = if min > 0 { self.sleep(timeout) } else { Ok(()) };
        let events = match slept {
            Ok(()) => self.oldest(most),
            Err(_) => Vec::new(),
        };
        self.context(|context| context.ring.drain(..events.len()).count());
        self.end_reading();
        slept?;
        events.iter().for_each(|event| {
            reader(event);
        });
        Ok(events.len())
    }

    pub(crate) fn has_events(&self) -> bool {
        point();
        self.mode == Mode::Ring && self.context(|context| !context.ring.is_empty())
    }

    pub(crate) fn completions(&self) -> Option<u32> {
        point();
        let events = || u32::try_from(machine(|machine| machine.events)).expect("few");
        (self.mode == Mode::Ring).then(events)
    }

    pub(crate) fn completed_since(&self, then: Option<u32>) -> usize {
        let now = self.completions();
        now.zip(then)
            .map_or(usize::MAX, |(now, then)| (now - then) as usize)
    }

    pub(crate) fn pure_wait(
        &self,
        timeout: Option<Duration>,
        mask: Option<u64>,
    ) -> Result<(), i32> {
        point();
        match self.sleep(timeout) {
            Err(libc::EINTR) if mask.is_none() => Ok(()),
            slept => slept,
        }
    }

    /// No signal comes.
    pub(crate) fn nap(timeout: Duration, _: u64) -> Result<(), i32> {
        crate::sync::sleep(timeout);
        Ok(())
    }

    /// Until there is an event, or the time is over.
    fn sleep(&self, timeout: Option<Duration>) -> Result<(), i32> {
        if self.context(|context| context.is_destroyed) {
            machine(|machine| machine.violate("io_getevents after io_destroy"));
        }
        let deadline = timeout.map(|timeout| now() + timeout);
        loop {
            if let Some(result) = self.awake() {
                return result;
            }
            if deadline.is_some_and(|deadline| now() >= deadline) {
                return Ok(());
            }
            let sleeper = Arc::new(Sleeper::new());
            self.context(|context| context.sleepers.push(Arc::clone(&sleeper)));
            sleeper.sleep(deadline);
            self.context(|context| {
                context
                    .sleepers
                    .retain(|other| !Arc::ptr_eq(other, &sleeper))
            });
        }
    }

    fn awake(&self) -> Option<Result<(), i32>> {
        machine(|machine| {
            let interrupted = machine.dice(machine.mood.interrupts);
            let context = &machine.contexts[self.number];
            if context.is_dead || context.is_destroyed {
                return Some(Err(libc::EINVAL));
            }
            if !context.ring.is_empty() {
                return Some(Ok(()));
            }
            interrupted.then_some(Err(libc::EINTR))
        })
    }

    /// # Safety
    /// `iocb` is the address that was submitted.
    pub(crate) unsafe fn cancel(&self, iocb: *mut iocb) -> bool {
        point();
        let sleepers = machine(|machine| {
            let pending = &mut machine.contexts[self.number].pending;
            let is_it = |operation: &InFlight| {
                operation.address == iocb.addr()
                    && operation.iocb.aio_lio_opcode == super::IOCB_CMD_POLL
            };
            let place = pending.iter().position(is_it)?;
            let operation = pending.swap_remove(place);
            Some(machine.publish(self.number, &operation, 0))
        });
        sleepers
            .iter()
            .flatten()
            .for_each(|sleeper| sleeper.wake(Wake::Notified));
        sleepers.is_some()
    }

    pub(crate) fn raise(&self, eventfd: &std::os::fd::OwnedFd) {
        use std::os::fd::AsRawFd;
        point();
        let number = eventfd.as_raw_fd().cast_unsigned();
        machine(|machine| *machine.eventfds.entry(number).or_default() += 1);
    }

    pub(crate) fn is_eventfd(&self, descriptor: u32) -> bool {
        machine(|machine| machine.eventfds.contains_key(&descriptor))
    }

    pub(crate) fn wake(&self) -> Result<(), i32> {
        let mut iocb = iocb {
            aio_data: WAKE,
            ..iocb::default()
        };
        // SAFETY: the iocb is ours.
        match unsafe { self.submit(&[&raw mut iocb]) }? {
            0 => Err(libc::EAGAIN),
            _ => Ok(()),
        }
    }

    /// # Safety
    /// None is needed here: who reads afterwards is found out.
    pub(crate) unsafe fn destroy(&self) -> Result<(), i32> {
        point();
        let sleepers = machine(|machine| {
            let context = &mut machine.contexts[self.number];
            let is_second = std::mem::replace(&mut context.is_destroyed, true);
            let (is_read, in_flight) = (context.is_read, context.pending.len());
            let is_dead = context.is_dead;
            let sleepers = std::mem::take(&mut context.sleepers);
            if is_second || is_dead {
                return (is_dead && !is_second)
                    .then_some(sleepers)
                    .ok_or(libc::EINVAL);
            }
            if is_read {
                machine.violate("io_destroy while a thread reads the ring");
            }
            if in_flight > 0 {
                machine.violate(format!("io_destroy with {in_flight} requests in flight"));
            }
            Ok(sleepers)
        })?;
        sleepers
            .iter()
            .for_each(|sleeper| sleeper.wake(Wake::Notified));
        Ok(())
    }
}

/// Taking a request in.
impl Machine {
    /// `at`: its place in the call.
    fn refuse_perhaps(&mut self, iocb: &iocb, at: usize) -> Result<(), i32> {
        if iocb.aio_data == WAKE {
            return Ok(());
        }
        if self.dice(self.mood.hoards) || (at > 0 && self.dice(self.mood.partly)) {
            return Err(libc::EAGAIN);
        }
        let nowait = iocb.aio_rw_flags & super::RWF_NOWAIT != 0;
        let refusal = if nowait && self.dice(self.mood.would_block) {
            Some(libc::EOPNOTSUPP)
        } else {
            let refuses = self.dice(self.mood.refuses);
            refuses.then(|| [libc::EBADF, libc::EINVAL, libc::ENOBUFS][self.dice.below(3)])
        };
        let Some(errno) = refusal else {
            return Ok(());
        };
        // Only the first of a call has its errno told: the others are submitted again.
        if at == 0 {
            self.arrive(iocb, None);
            if let Some(name) = name_of(iocb) {
                let known = self.known.entry(name).or_default();
                known.answers.push(Answer::Refused(errno));
            }
        }
        Err(errno)
    }

    fn arrive(&mut self, iocb: &iocb, number: Option<usize>) {
        let order = self.tick();
        if let (Some(name), Some(number)) = (name_of(iocb), number) {
            let known = self.known.entry(name).or_default();
            known.arrival.get_or_insert((number, order));
        }
    }

    fn begin(&mut self, number: usize, iocb: iocb, address: usize) -> Vec<Arc<Sleeper>> {
        self.arrive(&iocb, Some(number));
        let began = self.order;
        let latency = Duration::from_millis(self.latency_of(&iocb));
        let operation = InFlight {
            iocb,
            address,
            due: now() + latency,
            began,
        };
        let is_poll = iocb.aio_lio_opcode == super::IOCB_CMD_POLL;
        if iocb.aio_data == WAKE || !is_poll && self.dice(self.mood.at_once) {
            return self.complete(number, &operation);
        }
        if !is_poll && !is_sync(&iocb) && !self.may_use(&pieces_of(&iocb)) {
            self.violate("a request names memory that does not exist");
        }
        self.contexts[number].pending.push(operation);
        Vec::new()
    }

    fn latency_of(&mut self, iocb: &iocb) -> u64 {
        match iocb.aio_lio_opcode {
            super::IOCB_CMD_POLL => self.dice.roll(200),
            _ if self.mood.latency == 0 => 0,
            _ => self.dice.roll(self.mood.latency),
        }
    }
}
