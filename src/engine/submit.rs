//! From an accepted request to the kernel: slots, backlog, partial acceptance.
//!
//! The short way, for a request that finds a slot and nobody queued: one `io_submit` on the submitter's thread. The long way: behind the
//! backlog, from where whoever frees a slot pumps. Inside a callback: gathered, then the short way for all of them at once.
//!
//! `io_submit` may block for as long as the file system likes (buffered or extending I/O, a frozen file system). While it does, its
//! caller holds slots and, when pumping, the pump; no lock and no reaper's role.

use super::reap::MOST;
use super::request::{Batch, List, Request, Watch};
use super::sleep::NOBODY;
use super::{Engine, clock, gather};
use crate::error::Unavailable;
use crate::operation::Work;
use crate::sync::Ordering;
use std::io;
use std::time::Duration;

/// Requests in one `io_submit`: beyond this a larger group gains nothing measurable (DESIGN.md, "Numbers").
const BATCH: usize = 64;
/// A callback's submissions leave when so many have gathered, without waiting for the end of the dispatched batch.
const GATHER: usize = 32;
/// How often a submission is tried that meets EAGAIN with nothing in flight: 1 + 2 + … + 256 ms in all.
const TRIES: u32 = 9;

/// Why the kernel did not take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `io_submit` said so.
    Errno(i32),
    /// The context is gone.
    ContextGone,
    /// EAGAIN again and again, with nothing in flight that could free a slot: the kernel has no memory for requests.
    Stalled,
}

impl Refusal {
    /// As the result of a request that was accepted before the kernel refused it.
    fn errno(self) -> i32 {
        match self {
            Refusal::Errno(errno) => errno,
            Refusal::ContextGone => libc::ECANCELED,
            Refusal::Stalled => libc::ENOMEM,
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal {
            Refusal::Errno(errno) => io::Error::from_raw_os_error(errno),
            Refusal::ContextGone => Unavailable::ContextGone.into(),
            Refusal::Stalled => Unavailable::Stalled.into(),
        }
    }
}

impl Engine {
    /// Submits a request with a callback. `Err` gives the work back, and its callback will never be called.
    pub(crate) fn submit<W: Work<Output = ()>>(&self, work: W) -> Result<(), (io::Error, W)> {
        if let Err(error) = self.check() {
            return Err((error.into(), work));
        }
        Request::offer(work, |request| self.gather_or_send(request))?;
        self.after_submission(self.runs_callbacks_anywhere());
        Ok(())
    }

    /// Submits a request whose result will be asked for.
    pub(crate) fn start<W: Work>(&self, work: W) -> Result<Watch<W>, (io::Error, W)> {
        if let Err(error) = self.check() {
            return Err((error.into(), work));
        }
        let watch = Request::offer_watched(work, false, |request| self.gather_or_send(request))?;
        self.after_submission(true);
        Ok(watch)
    }

    /// Submits a request and blocks until it is complete.
    pub(crate) fn submit_and_wait<W: Work>(&self, work: W) -> Result<W::Output, (io::Error, W)> {
        if let Err(error) = self.check() {
            return Err((error.into(), work));
        }
        self.flush(); // first what this thread submitted first
        let mut watch = Request::offer_watched(work, true, |request| self.send_one(request, 0))?;
        loop {
            self.wait_for(&mut watch, None);
            match watch.take() {
                Ok(output) => return Ok(output),
                Err(unfinished) => watch = unfinished,
            }
        }
    }

    /// A look at the ring in passing.
    pub(crate) fn help(&self) {
        if self.check_origin().is_ok() {
            self.flush();
            self.reap(NOBODY, MOST);
        }
    }

    fn gather_or_send(&self, request: Request) -> Result<(), (io::Error, Request)> {
        match gather::push(self.id(), request) {
            Ok(gathered) if gathered < GATHER => Ok(()),
            Ok(_) => {
                self.flush();
                Ok(())
            }
            Err(request) => self.send_one(request, 1),
        }
    }

    /// The submitter's own `io_submit`, or the backlog.
    fn send_one(&self, request: Request, unattended: usize) -> Result<(), (io::Error, Request)> {
        if self.tally.enter(1, unattended).is_err() {
            return Err((Unavailable::ShutDown.into(), request));
        }
        let mut refused = None;
        self.send::<1>(List::of(request), |request, why| {
            refused = Some((why.into(), request))
        });
        let Some(refused) = refused else {
            return Ok(());
        };
        self.tally.leave(1, unattended);
        self.report_silence(self.tally.is_quiet_for_listeners());
        Err(refused)
    }

    /// What was submitted may be finished already, then it needs nobody else (`help`). What is not needs the dispatcher, which may be
    /// parked because it had nothing to wait for.
    fn after_submission(&self, help: bool) {
        if gather::is_dispatching(self.id()) {
            return;
        }
        if help {
            self.reap(NOBODY, MOST);
        }
        if self.tally.unattended() > 0 {
            self.call_idle_dispatcher();
        }
    }

    /// Sends what this thread's callbacks have gathered. It was accepted: what the kernel refuses now completes with the errno.
    pub(super) fn flush(&self) {
        let gathered = gather::take(self.id());
        if gathered.len() == 0 {
            return;
        }
        self.tally.count_in(gathered.len(), gathered.len());
        let mut late = List::new();
        match gathered.len() {
            1 => self.send::<1>(gathered, |request, why| late.push(refuse(request, why))),
            2..=8 => self.send::<8>(gathered, |request, why| late.push(refuse(request, why))),
            _ => self.send::<BATCH>(gathered, |request, why| late.push(refuse(request, why))),
        }
        self.fail(late);
    }

    /// Submits in order, as far as there are slots; the rest goes behind the backlog.
    fn send<const N: usize>(&self, mut list: List, mut refused: impl FnMut(Request, Refusal)) {
        while list.len() > 0 && self.backlog.len() == 0 {
            let slots = self.slots.take(list.len().min(N));
            if slots == 0 {
                break;
            }
            let mut rest = self.hand_over(Batch::<N>::of(&mut list, slots), &mut refused);
            if rest.len() > 0 {
                rest.append(list);
                list = rest;
                break;
            }
        }
        if list.len() > 0 {
            self.backlog.push(list);
            // The last reaper may have looked at the backlog just before, and with nothing in flight nobody else would.
            self.pump();
        }
    }

    /// Submits from the backlog while there are slots, unless another thread is at it already.
    pub(super) fn pump(&self) {
        while let Some(mut list) = self.backlog.begin(BATCH, |wanted| self.slots.take(wanted)) {
            let taken = list.len();
            let mut late = List::new();
            let rest = self.hand_over(Batch::<BATCH>::of(&mut list, taken), &mut |request, why| {
                late.push(refuse(request, why))
            });
            let stuck = rest.len() > 0;
            self.backlog.end(taken - rest.len(), rest);
            self.fail(late);
            // Stuck behind what is in flight: its reaper pumps. It may have come while we were at it, and gone: then we go on.
            if stuck && self.slots.in_use() > 0 {
                return;
            }
        }
    }

    /// Hands a batch, for which slots were taken, to the kernel in order. Whom it refuses goes to `refused`; what met EAGAIN comes back.
    fn hand_over<const N: usize>(
        &self,
        mut batch: Batch<N>,
        refused: &mut impl FnMut(Request, Refusal),
    ) -> List {
        let offered = batch.len();
        let mut accepted = 0;
        let mut tries = 0;
        while batch.len() > 0 {
            // After an EAGAIN one at a time: the kernel may have memory for one request, or some filter a dislike of many.
            match self.io_submit(&mut batch, if tries == 0 { N } else { 1 }) {
                Ok(count) if count > 0 => {
                    accepted += count;
                    tries = 0;
                }
                Ok(_) | Err(libc::EAGAIN) => {
                    if self.slots.in_use() > (offered - accepted) as u64 {
                        break;
                    }
                    tries += 1;
                    self.wait_for_memory(tries, &mut batch, refused);
                }
                Err(libc::EINTR) => {}
                Err(libc::EINVAL) if !self.kernel.is_alive() => {
                    refuse_all(&mut batch, Refusal::ContextGone, refused)
                }
                Err(errno) => refuse_head(&mut batch, Refusal::Errno(errno), refused),
            }
        }
        self.refund(offered - accepted);
        batch.rest()
    }

    /// EAGAIN with nothing in flight: no completion will come to wait for, so give the kernel some time, and up at last.
    fn wait_for_memory<const N: usize>(
        &self,
        tries: u32,
        batch: &mut Batch<N>,
        refused: &mut impl FnMut(Request, Refusal),
    ) {
        if tries <= TRIES {
            std::thread::sleep(Duration::from_millis(1 << (tries - 1)));
        } else {
            log::error!(
                "io_submit says EAGAIN with nothing in flight, {TRIES} times: the kernel has no memory for requests"
            );
            refuse_head(batch, Refusal::Stalled, refused);
        }
    }

    fn refund(&self, slots: usize) {
        if slots > 0 {
            self.slots.refund(slots);
            // Somebody may have queued because these slots were taken. (Inside the pump this finds the pump busy, and the pump looks again.)
            self.pump_if_queued();
        }
    }

    pub(super) fn pump_if_queued(&self) {
        if self.backlog.len() > 0 {
            self.pump();
        }
    }

    fn io_submit<const N: usize>(&self, batch: &mut Batch<N>, most: usize) -> Result<usize, i32> {
        self.tally.submits.fetch_add(1, Ordering::Relaxed);
        let head = batch.head();
        let started = clock::coarse();
        let submitted = batch.submit(&self.kernel, most);
        clock::report_if_slow(started, head);
        submitted
    }
}

/// The request with the refusal as its result.
fn refuse(mut request: Request, why: Refusal) -> Request {
    request.set_result(-i64::from(why.errno()));
    request
}

fn refuse_head<const N: usize>(
    batch: &mut Batch<N>,
    why: Refusal,
    refused: &mut impl FnMut(Request, Refusal),
) {
    if let Some(request) = batch.pop() {
        refused(request, why);
    }
}

fn refuse_all<const N: usize>(
    batch: &mut Batch<N>,
    why: Refusal,
    refused: &mut impl FnMut(Request, Refusal),
) {
    while let Some(request) = batch.pop() {
        refused(request, why);
    }
}
