//! A kernel without a kernel, for tests of the engine: the same methods as [`super::kernel::Kernel`], and a
//! mind of its own about when a request completes, what is refused and how much of an `io_submit` is
//! accepted.
//!
//! What a request wants done with it stands in its iocb: the descriptor is a [`Behaviour`]'s number, the
//! priority the errno with which it is refused, the length the result; one with NOWAIT would block. What whole calls do is said beforehand
//! by [`Kernel::script`].
#![allow(unsafe_code, reason = "reads iocbs, as a kernel does")]

use super::kernel::{FailedCall, Mode, WAKE};
use super::ring::Take;
use super::{RWF_NOWAIT, io_event, iocb};
use crate::sync::{AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, now};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// What becomes of a request that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It is complete before `io_submit` returns.
    AtOnce = 0,
    /// It is complete when the test says so: [`Kernel::complete`].
    Held = 1,
}

/// What one call of `io_submit` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "of the schedules, not of the models")]
pub(crate) enum Answer {
    /// Accepts at most so many.
    Most(usize),
    /// Accepts none.
    Errno(i32),
}

/// Who is next among those that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Oldest,
    Newest,
}

#[derive(Debug)]
pub(crate) struct Kernel {
    mode: Mode,
    inside: Mutex<Inside>,
    /// There may be something for the thread that sleeps in `inside`.
    news: Condvar,
    /// Events ever completed, and ever taken: the ring's tail and head, which are read without the lock.
    tail: AtomicUsize,
    head: AtomicUsize,
    /// Somebody is taking events: two at once would take the same ones.
    reading: AtomicBool,
    unmapped: AtomicBool,
}

#[derive(Debug, Default)]
struct Inside {
    capacity: usize,
    held: VecDeque<io_event>,
    events: VecDeque<io_event>,
    script: VecDeque<Answer>,
    /// The results asked for by the requests accepted, in order: in tests, their names.
    accepted: Vec<u64>,
    interruptions: usize,
    /// Events ever.
    completed: u32,
    /// What it adds to every result.
    exaggeration: i64,
    destroyed: bool,
}

impl Kernel {
    /// For `nr` requests, the wake-up included; one more event fits, as the true ring always has room.
    pub(crate) fn setup(nr: u32, force_syscalls: bool) -> Result<Kernel, FailedCall> {
        let mode = if force_syscalls {
            Mode::Syscalls
        } else {
            Mode::Ring
        };
        Ok(Kernel {
            mode,
            inside: Mutex::new(Inside {
                capacity: nr as usize + 1,
                ..Inside::default()
            }),
            news: Condvar::new(),
            tail: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
            reading: AtomicBool::new(false),
            unmapped: AtomicBool::new(false),
        })
    }

    pub(crate) fn log(&self, _: &str) {}

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// # Safety
    /// Each points to an iocb that may be read.
    pub(crate) unsafe fn submit(&self, iocbs: &[*mut iocb]) -> Result<usize, i32> {
        let mut inside = self.inside.lock();
        if inside.destroyed {
            // SAFETY: the caller's promise.
            let is_wake = |&iocb: &*mut iocb| unsafe { iocb.read() }.aio_data == WAKE;
            assert!(!iocbs.iter().any(is_wake), "a wake-up after io_destroy");
            return Err(libc::EINVAL);
        }
        let most = match inside.script.pop_front() {
            Some(Answer::Errno(errno)) => return Err(errno),
            Some(Answer::Most(most)) => most.min(iocbs.len()),
            None => iocbs.len(),
        };
        for (at, &iocb) in iocbs[..most].iter().enumerate() {
            // SAFETY: the caller's promise.
            let iocb = unsafe { iocb.read() };
            if let Err(errno) = self.accept(&mut inside, &iocb) {
                return if at == 0 { Err(errno) } else { Ok(at) };
            }
        }
        Ok(most)
    }

    fn accept(&self, inside: &mut MutexGuard<'_, Inside>, iocb: &iocb) -> Result<(), i32> {
        if iocb.aio_reqprio != 0 {
            return Err(iocb.aio_reqprio.into());
        }
        let taken = self.head.load(Ordering::Relaxed);
        let completed = self.tail.load(Ordering::Relaxed);
        if inside.held.len() + (completed - taken) >= inside.capacity {
            return Err(libc::EAGAIN);
        }
        let would_block = iocb.aio_rw_flags & RWF_NOWAIT != 0;
        let event = io_event {
            data: iocb.aio_data,
            res: match would_block {
                true => -i64::from(libc::EAGAIN),
                false => iocb.aio_nbytes.cast_signed() + inside.exaggeration,
            },
            ..io_event::default()
        };
        if iocb.aio_data != WAKE {
            inside.accepted.push(iocb.aio_nbytes);
        }
        if iocb.aio_fildes == Behaviour::Held as u32 {
            inside.held.push_back(event);
            self.news.notify_all();
        } else {
            self.publish(inside, event);
        }
        Ok(())
    }

    fn publish(&self, inside: &mut MutexGuard<'_, Inside>, event: io_event) {
        inside.events.push_back(event);
        inside.completed += 1;
        self.tail.fetch_add(1, Ordering::Release);
        self.news.notify_all();
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.inside.lock().destroyed
    }

    /// # Safety
    /// None is needed here: a second caller is found out.
    pub(crate) unsafe fn take(&self, most: usize, reader: impl FnMut(&io_event) -> Take) -> usize {
        if self.mode == Mode::Ring {
            self.consume(most, reader)
        } else {
            // SAFETY: none is needed.
            unsafe { self.fetch(0, most, Some(Duration::ZERO), None, reader) }.unwrap_or(0)
        }
    }

    fn consume(&self, most: usize, mut reader: impl FnMut(&io_event) -> Take) -> usize {
        if self.is_ring_empty() {
            return 0;
        }
        let reading = Reading::begin(self);
        let events: Vec<_> = self
            .inside
            .lock()
            .events
            .iter()
            .copied()
            .take(most)
            .collect();
        let mut taken = 0;
        for event in &events {
            if reader(event) == Take::Leave {
                break;
            }
            taken += 1;
        }
        self.forget(&mut self.inside.lock(), taken);
        drop(reading);
        taken
    }

    fn is_ring_empty(&self) -> bool {
        assert!(
            !self.unmapped.load(Relaxed),
            "the ring was read after io_destroy"
        );
        self.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Acquire)
    }

    fn forget(&self, inside: &mut MutexGuard<'_, Inside>, taken: usize) {
        assert!(!inside.destroyed, "events were taken after io_destroy");
        inside.events.drain(..taken);
        self.head.fetch_add(taken, Ordering::Release);
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
        let reading = Reading::begin(self);
        let mut inside = self.inside.lock();
        if min > 0 {
            self.sleep(&mut inside, timeout)?;
        }
        let most = most.min(inside.events.len());
        let events: Vec<_> = inside.events.iter().copied().take(most).collect();
        self.forget(&mut inside, most);
        drop((inside, reading));
        events.iter().for_each(|event| {
            reader(event);
        });
        Ok(most)
    }

    pub(crate) fn has_events(&self) -> bool {
        self.mode == Mode::Ring && !self.is_ring_empty()
    }

    /// Not modelled: it decides only how many submissions leave together.
    pub(crate) fn completions(&self) -> Option<u32> {
        (self.mode == Mode::Ring && cfg!(not(loom))).then(|| self.inside.lock().completed)
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
        match self.sleep(&mut self.inside.lock(), timeout) {
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
    fn sleep(
        &self,
        inside: &mut MutexGuard<'_, Inside>,
        timeout: Option<Duration>,
    ) -> Result<(), i32> {
        let deadline = timeout.map(|timeout| now() + timeout);
        while inside.events.is_empty() {
            if inside.destroyed {
                return Err(libc::EINVAL);
            }
            if inside.interruptions > 0 {
                inside.interruptions -= 1;
                return Err(libc::EINTR);
            }
            match deadline {
                None => self.news.wait(inside),
                Some(deadline) if now() >= deadline => return Ok(()),
                Some(deadline) => {
                    self.news.wait_until(inside, deadline);
                }
            }
        }
        Ok(())
    }

    /// # Safety
    /// `iocb` points to an iocb that may be read.
    pub(crate) unsafe fn cancel(&self, iocb: *mut iocb) -> bool {
        // SAFETY: the caller's promise.
        let tag = unsafe { iocb.read() }.aio_data;
        let mut inside = self.inside.lock();
        if inside.destroyed {
            return false;
        }
        let Some(at) = inside.held.iter().position(|event| event.data == tag) else {
            return false;
        };
        let mut event = inside.held.remove(at).expect("found");
        event.res = 0; // no events
        self.publish(&mut inside, event);
        true
    }

    pub(crate) fn raise(&self, _: &std::os::fd::OwnedFd) {}

    pub(crate) fn is_eventfd(&self, _: u32) -> bool {
        true
    }

    pub(crate) fn wake(&self) -> Result<(), i32> {
        let mut iocb = iocb {
            aio_data: WAKE,
            ..iocb::default()
        };
        // SAFETY: the iocb is ours.
        unsafe { self.submit(&[&raw mut iocb]) }.map(|_| ())
    }

    /// # Safety
    /// None is needed here: who reads afterwards is found out.
    pub(crate) unsafe fn destroy(&self) -> Result<(), i32> {
        let mut inside = self.inside.lock();
        assert!(inside.held.is_empty(), "io_destroy would wait");
        inside.destroyed = true;
        self.unmapped.store(true, Relaxed);
        self.news.notify_all();
        Ok(())
    }
}

/// What a test does to it.
impl Kernel {
    /// Completes a request that is held; waits until there is one.
    pub(crate) fn complete(&self, next: Next) {
        let mut inside = self.inside.lock();
        while inside.held.is_empty() {
            self.news.wait(&mut inside);
        }
        let event = match next {
            Next::Oldest => inside.held.pop_front(),
            Next::Newest => inside.held.pop_back(),
        };
        let event = event.expect("not empty");
        self.publish(&mut inside, event);
    }

    /// Completes the oldest that is held, if there is one.
    #[allow(dead_code, reason = "of the models, not of the schedules")]
    pub(crate) fn complete_if_held(&self) -> bool {
        let mut inside = self.inside.lock();
        let event = inside.held.pop_front();
        event
            .map(|event| self.publish(&mut inside, event))
            .is_some()
    }

    /// Another part of the process destroys it. Its ring stays mapped.
    #[allow(dead_code, reason = "of the schedules, not of the models")]
    pub(crate) fn lose(&self) {
        self.inside.lock().destroyed = true;
    }

    /// What the next calls of `io_submit` do; afterwards they accept everything.
    #[allow(dead_code, reason = "of the schedules, not of the models")]
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inside.lock().script.extend(answers);
    }

    /// From now on it has room for so many: more meet EAGAIN.
    #[allow(dead_code, reason = "of the schedules, not of the models")]
    pub(crate) fn limit(&self, capacity: usize) {
        self.inside.lock().capacity = capacity;
    }

    /// The next sleeps are interrupted by a signal.
    #[allow(dead_code, reason = "of the schedules, not of the models")]
    pub(crate) fn interrupt(&self, sleeps: usize) {
        self.inside.lock().interruptions += sleeps;
        self.news.notify_all();
    }

    /// From now on its answers are larger than what was asked for.
    #[allow(dead_code, reason = "of the schedules, not of the models")]
    pub(crate) fn exaggerate(&self, by: i64) {
        self.inside.lock().exaggeration = by;
    }

    /// The results that the accepted requests asked for, in the order of acceptance.
    pub(crate) fn accepted(&self) -> Vec<u64> {
        self.inside.lock().accepted.clone()
    }

    /// How many are held.
    #[allow(dead_code, reason = "of the schedules, not of the models")]
    pub(crate) fn held(&self) -> usize {
        self.inside.lock().held.len()
    }
}

/// While it lives, no other thread may take events.
struct Reading<'a>(&'a Kernel);

impl Reading<'_> {
    fn begin(kernel: &Kernel) -> Reading<'_> {
        assert!(
            !kernel.reading.swap(true, Relaxed),
            "two consumers at once: events would be delivered twice"
        );
        Reading(kernel)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.store(false, Relaxed);
    }
}
