//! What a thread took off the ring in one round, and what is left to do without the consumer's lock.

use super::observer::Observer;
use super::polls::Polls;
use super::request::{Arrivals, Ended, List, OwnedCell, Put, Settled};
use super::wakers::Wakers;
use crate::op::Progress;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Waker;

#[derive(Debug, Default)]
pub(super) struct Harvest {
    pub(super) callbacks: List,
    /// Watched requests whose watcher has gone.
    pub(super) abandoned: List,
    /// The wakers count as one request that is completing, until they are where the dispatcher finds them.
    pub(super) are_wakers_counted: bool,
    /// Requests of one queue that are to be put there, together: each round takes the queue's lock once.
    pub(super) arriving: Option<(Arc<Arrivals>, List)>,
    /// Requests that go on: to be submitted again.
    pub(super) again: List,
    /// Requests that go on and may block: for the helper thread.
    pub(super) offload: List,
    /// Wakers of futures and tasks: user code.
    pub(super) wakers: Wakers,
    /// Wakers of threads that wait in this crate.
    pub(super) threads: Wakers,
    /// eventfds that the engine raises.
    pub(super) eventfds: Vec<Arc<OwnedFd>>,
    /// Watched requests whose result was stored; and how many of them no waiting thread would have reaped, so
    /// that the dispatcher watched the ring for them.
    pub(super) settled: usize,
    pub(super) for_dispatcher: isize,
    /// Wake-ups among the events.
    pub(super) wakes: usize,
}

impl Harvest {
    /// Adds a request whose event was taken.
    #[inline]
    pub(super) fn add_event(
        &mut self,
        mut request: OwnedCell,
        result: i64,
        (polls, observer): (&Polls, &Observer),
        spare: &mut Vec<Waker>,
    ) {
        if request.is_plain() {
            return self.add_ended(request, spare);
        }
        if result < 0 && i32::try_from(-result).is_ok_and(|errno| request.wants_offload(errno)) {
            observer.resume(&request);
            return self.offload.push(request);
        }
        if request.proceed() == Progress::Done {
            return self.add_end(request, Ended::ByEvent, (polls, observer), spare);
        }
        observer.resume(&request);
        match request.was_offloaded() {
            true => self.offload.push(request),
            false => self.again.push(request),
        }
    }

    /// Adds a request that is at its end, with its result stored.
    #[inline]
    pub(super) fn add_end(
        &mut self,
        request: OwnedCell,
        ended: Ended,
        (polls, observer): (&Polls, &Observer),
        spare: &mut Vec<Waker>,
    ) {
        polls.remove(&request);
        observer.complete(&request);
        if let Some(eventfd) = request.eventfd_to_raise(ended) {
            self.eventfds.push(eventfd);
        }
        self.add_ended(request, spare);
    }

    /// As `add_end`, for a request with nothing else to it.
    #[inline]
    fn add_ended(&mut self, request: OwnedCell, spare: &mut Vec<Waker>) {
        if request.is_callback() {
            self.callbacks.push(request);
            return;
        }
        self.settled += 1;
        self.for_dispatcher += isize::from(!request.reaps_itself());
        if request.is_queued() {
            return self.add_arriving(request, spare);
        }
        match request.settle_watched() {
            Settled::Quiet => {}
            Settled::Unpark(waker) => self.threads.push(waker, spare),
            Settled::Wake(waker) => self.wakers.push(waker, spare),
            Settled::Abandoned(request) => self.abandoned.push(request),
        }
    }

    #[inline(never)]
    fn add_arriving(&mut self, mut request: OwnedCell, spare: &mut Vec<Waker>) {
        let queue = request.take_queue();
        match &mut self.arriving {
            Some((same, list)) if Arc::ptr_eq(same, &queue) => list.push(request),
            _ => {
                self.put_arriving(spare);
                self.arriving = Some((queue, List::of(request)));
            }
        }
    }

    /// Puts requests into their queue. To be called before the consumer's lock is released.
    #[inline]
    pub(super) fn put_arriving(&mut self, spare: &mut Vec<Waker>) {
        if self.arriving.is_some() {
            self.put_some(spare);
        }
    }

    #[inline(never)]
    fn put_some(&mut self, spare: &mut Vec<Waker>) {
        let Some((queue, list)) = self.arriving.take() else {
            return;
        };
        match queue.put(list) {
            Put::Quiet => {}
            Put::Unpark(waker) => self.threads.push(waker, spare),
            Put::Closed(list) => self.abandoned.append(list),
        }
    }

    /// Requests that are neither in flight any more nor at their end.
    pub(super) fn completing(&self) -> usize {
        self.callbacks.len() + self.abandoned.len() + self.again.len() + self.offload.len()
    }

    /// Requests at their end: each counts once, however many events it took (I14).
    pub(super) fn ended(&self) -> usize {
        self.callbacks.len() + self.settled
    }

    /// Its end, when all that was in it has gone where it belongs, for a caller that does not drop it. Most
    /// hold nothing that has a destructor; wakers of watched requests may have left the memory of a vector.
    #[inline]
    pub(super) fn end(&mut self) {
        debug_assert!(self.wakers.is_empty() && self.threads.is_empty() && self.arriving.is_none());
        if self.settled > 0 {
            drop(std::mem::take(&mut self.wakers));
            drop(std::mem::take(&mut self.threads));
        }
        if self.eventfds.capacity() > 0 {
            drop(std::mem::take(&mut self.eventfds));
        }
    }
}
