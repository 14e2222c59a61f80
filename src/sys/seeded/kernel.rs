//! A context as the engine sees it: each call is a point at which another thread may go on.
#![allow(unsafe_code, reason = "reads iocbs, as a kernel does")]

use super::super::kernel::{FailedCall, Mode, WAKE};
use super::super::ring::Take;
use super::super::{io_event, iocb};
use super::asked::is_poll;
use super::context::{Context, InFlight, wake_all};
use super::machine::machine;
use crate::sync::{Sleeper, now, point, sleep};
use std::sync::Arc;
use std::time::Duration;

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
            let (wanted, address) = (unsafe { iocb.read() }, iocb.addr());
            match machine(|machine| machine.accept(self.number, wanted, address, at)) {
                Ok(sleepers) => {
                    wake_all(&sleepers);
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
        wake_all(&sleepers);
    }

    fn block_perhaps(&self) {
        let time = machine(|machine| {
            let blocks = machine.dice(machine.mood.blocks);
            blocks.then(|| Duration::from_millis(machine.dice.roll(150)))
        });
        time.into_iter().for_each(sleep);
    }

    pub(crate) fn is_alive(&self) -> bool {
        point();
        self.context(|context| context.is_alive())
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
        (self.mode == Mode::Ring).then(|| machine(|machine| machine.events))
    }

    pub(crate) fn completed_since(&self, then: Option<u32>) -> usize {
        let now = self.completions();
        now.zip(then)
            .map_or(usize::MAX, |(now, then)| (now - then) as usize)
    }

    pub(crate) fn pure_wait(&self, time: Option<Duration>, mask: Option<u64>) -> Result<(), i32> {
        point();
        match self.sleep(time) {
            Err(libc::EINTR) if mask.is_none() => Ok(()),
            slept => slept,
        }
    }

    /// No signal comes.
    pub(crate) fn nap(timeout: Duration, _: u64) -> Result<(), i32> {
        sleep(timeout);
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
            if !context.is_alive() {
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
            let is_it = |other: &InFlight| other.address == iocb.addr() && is_poll(&other.iocb);
            let place = pending.iter().position(is_it)?;
            let operation = pending.swap_remove(place);
            Some(machine.publish(self.number, &operation, 0))
        });
        sleepers.iter().for_each(wake_all);
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
            let (is_dead, is_read) = (context.is_dead, context.is_read);
            let in_flight = context.pending.len();
            let sleepers = std::mem::take(&mut context.sleepers);
            if is_second {
                return Err(libc::EINVAL);
            }
            if is_read && !is_dead {
                machine.violate("io_destroy while a thread reads the ring");
            }
            // A dead context has none.
            if in_flight > 0 {
                machine.violate(format!("io_destroy with {in_flight} requests in flight"));
            }
            Ok(sleepers)
        })?;
        wake_all(&sleepers);
        Ok(())
    }
}
