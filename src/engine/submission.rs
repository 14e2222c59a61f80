//! One array of requests, for which slots were taken, and the kernel: what it takes, what it refuses, and what is
//! left to do then. No user code runs here: the caller may hold the pump.

use super::Engine;
use super::clock::{self, Trouble};
use super::iocb_array::IocbArray;
use super::refusal::Refusal;
use super::request::{List, OwnedCell};
use crate::sync::sleep;
use std::time::Duration;

/// How often a submission is tried again that meets EAGAIN with nothing in flight, after 1, 2, … 256 ms: 511
/// ms in all.
const TRIES: u32 = 9;

/// What the first `io_submit` for an array said.
#[derive(Debug)]
pub(super) struct FirstCall {
    submitted: Result<usize, i32>,
    pub(super) took_all: bool,
    pub(super) trouble: Option<Trouble>,
}

/// What is left to do after one or more calls of `io_submit`.
#[derive(Debug)]
pub(super) struct SubmitOutcome {
    /// Requests that met EAGAIN while others are in flight.
    pub(super) rest: List,
    /// Slots that were taken and not used: those of the rest and of refused requests.
    pub(super) unused: usize,
    /// Requests that would block, for the helper thread. They count as completing.
    pub(super) offload: List,
    pub(super) trouble: Option<Trouble>,
    /// A request in the array can be cancelled, and a canceller may have looked for it meanwhile.
    pub(super) may_be_cancelled: bool,
}

impl Engine {
    /// Makes the first call for an array, for which slots were taken. As a rule it takes all.
    #[inline]
    pub(super) fn begin_submission<const N: usize>(&self, array: &mut IocbArray<N>) -> FirstCall {
        let mut trouble = None;
        let submitted = self.io_submit(array, N, &mut trouble);
        FirstCall {
            took_all: array.len() == 0,
            submitted,
            trouble,
        }
    }

    /// Submits, in order, what the first call for the array did not take (I6): if `io_submit` took k of its
    /// requests, the kernel has those k, request k gets the errno, and the rest is submitted next. A request
    /// that the kernel refuses goes to `refused`; those that met EAGAIN are returned as the rest.
    pub(super) fn end_submission<const N: usize>(
        &self,
        first: FirstCall,
        array: &mut IocbArray<N>,
        refused: &mut impl FnMut(OwnedCell, Refusal),
    ) -> SubmitOutcome {
        let mut outcome = SubmitOutcome {
            rest: List::new(),
            unused: 0,
            offload: List::new(),
            trouble: first.trouble,
            may_be_cancelled: array.is_followed(),
        };
        let mut submitted = Some(first.submitted);
        let mut tries = 0;
        while array.len() > 0 {
            let before = array.len();
            // After an EAGAIN one at a time: the kernel may have memory for one request, or a filter may
            // refuse calls with many.
            let most = if tries == 0 { N } else { 1 };
            let answer = submitted.take();
            match answer.unwrap_or_else(|| self.io_submit(array, most, &mut outcome.trouble)) {
                Ok(count) if count > 0 => {
                    tries = 0;
                    continue;
                }
                Ok(_) | Err(libc::EAGAIN)
                    if self.slots.in_use() > (outcome.unused + before) as u64 =>
                {
                    break;
                }
                Ok(_) | Err(libc::EAGAIN) if tries < TRIES => {
                    // Nothing is in flight, so no completion will free memory: give the kernel some time.
                    sleep(Duration::from_millis(1 << tries));
                    tries += 1;
                }
                Ok(_) | Err(libc::EAGAIN) => {
                    outcome.trouble = Some(Trouble::Stalled);
                    let head = array.pop().into_iter();
                    head.for_each(|request| refused(request, Refusal::Stalled));
                    array.refuse_behind(refused);
                }
                Err(libc::EINTR) => {}
                Err(errno) => self.refuse(errno, array, &mut outcome.offload, refused),
            }
            outcome.unused += before - array.len();
        }
        outcome.unused += array.len();
        outcome.rest = array.rest();
        outcome
    }

    /// Refuses the head of the array (I6), or all of it if the context is gone: EINVAL can mean either, and a
    /// submission of nothing tells them apart. Where a file system does not know NOWAIT (EOPNOTSUPP), the
    /// helper thread submits the request without it.
    fn refuse<const N: usize>(
        &self,
        errno: i32,
        array: &mut IocbArray<N>,
        offload: &mut List,
        refused: &mut impl FnMut(OwnedCell, Refusal),
    ) {
        if errno == libc::EINVAL && !self.kernel.is_alive() {
            while let Some(request) = array.pop() {
                refused(request, Refusal::ContextGone);
            }
            return;
        }
        match array.pop() {
            Some(request) if request.wants_offload(errno) => {
                self.counters.begin_completing_without_event(1);
                self.observer.resume(&request);
                offload.push(request);
            }
            Some(request) => {
                refused(request, Refusal::Errno(errno));
                array.refuse_behind(refused);
            }
            None => {}
        }
    }

    #[inline]
    fn io_submit<const N: usize>(
        &self,
        array: &mut IocbArray<N>,
        most: usize,
        trouble: &mut Option<Trouble>,
    ) -> Result<usize, i32> {
        if array.is_followed() {
            return self.io_submit_followed(array, most, trouble);
        }
        self.io_submit_timed(array, most, trouble)
    }

    /// Tells the observer, before and after, of those that are observed.
    #[cold]
    #[inline(never)]
    fn io_submit_followed<const N: usize>(
        &self,
        array: &mut IocbArray<N>,
        most: usize,
        trouble: &mut Option<Trouble>,
    ) -> Result<usize, i32> {
        self.observer.send(array.observed());
        let submitted = self.io_submit_timed(array, most, trouble);
        self.observer.come_back(array.observed());
        submitted
    }

    #[inline]
    fn io_submit_timed<const N: usize>(
        &self,
        array: &mut IocbArray<N>,
        most: usize,
        trouble: &mut Option<Trouble>,
    ) -> Result<usize, i32> {
        let head = array.head();
        let started = clock::now();
        let submitted = array.submit(&self.kernel, most);
        if let Some(millis) = clock::slow_since(started) {
            *trouble = Some(Trouble::Blocked { millis, head });
            self.counters.count_blocked(millis);
        }
        self.counters.count_call(submitted.unwrap_or(0));
        submitted
    }

    /// Begins to complete a request for which `Ok` was returned, with the refusal as its result.
    pub(super) fn refuse_late(&self, mut request: OwnedCell, why: Refusal) -> OwnedCell {
        request.set_result(-i64::from(why.errno()));
        self.counters.begin_completing_without_event(1);
        self.counters.refused_late.add(1);
        request
    }
}
