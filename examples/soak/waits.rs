//! Requests that are waited for: at once, by handles, as futures; and handles that are dropped. Waits for
//! readiness, too, and their ends.

use crate::store::Lease;
use crate::worker::{Either, Worker, end};
use kiocb::op::Rw;
use kiocb::op::{Operation, PollReady};
use kiocb::{AlignedBuf, Pending, PollFlags};
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

type Handle<O> = Pending<Rw<Lease, O, AlignedBuf>>;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: IntoFuture>(future: F) -> F::Output {
    let mut future = pin!(future.into_future());
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

impl Worker<'_> {
    pub(crate) fn wait(&mut self) {
        for _ in 0..self.below(16) {
            let Some(lease) = self.lease() else { return };
            match self.request(lease) {
                Either::Read(read) => self.ended(read.wait()),
                Either::Write(write) => self.ended(write.wait()),
            }
        }
    }

    fn ended<E>(&self, done: Result<kiocb::Completion<Lease, AlignedBuf>, kiocb::SubmitError<E>>) {
        match done {
            Ok(done) => end(done),
            Err(refused) => self.refused(refused.error()),
        }
    }

    /// All at once, and then one handle after the other, some with little patience.
    pub(crate) fn start(&mut self) {
        let (reads, writes) = self.handles();
        for read in reads {
            self.see(read);
        }
        for write in writes {
            self.see(write);
        }
    }

    fn handles(&mut self) -> (Vec<Handle<kiocb::op::Read>>, Vec<Handle<kiocb::op::Write>>) {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for lease in self.leases() {
            match self.request(lease) {
                Either::Read(read) => reads.extend(self.started(read.start())),
                Either::Write(write) => writes.extend(self.started(write.start())),
            }
        }
        (reads, writes)
    }

    fn started<T, E>(&self, handle: Result<T, kiocb::SubmitError<E>>) -> Option<T> {
        handle
            .inspect_err(|refused| self.refused(refused.error()))
            .ok()
    }

    fn see<O: Operation<AlignedBuf>>(&mut self, mut handle: Handle<O>) {
        while self.below(2) == 0 {
            match handle.wait_timeout(Duration::from_micros(50)) {
                Ok(done) => return end(done),
                Err(again) => handle = again,
            }
        }
        end(handle.wait());
    }

    pub(crate) fn await_all(&mut self) {
        let (reads, writes) = self.handles();
        block_on(async {
            for read in reads {
                end(read.await);
            }
            for write in writes {
                end(write.await);
            }
        });
    }

    /// Their ends come when they come.
    pub(crate) fn abandon(&mut self) {
        drop(self.handles());
    }

    pub(crate) fn readiness(&mut self) {
        let Ok((reader, writer)) = io::pipe() else {
            return;
        };
        self.round.ledger.polls.fetch_add(1, Relaxed);
        let poll = self.blank().init_poll(OwnedFd::from(reader), PollFlags::IN);
        if self.below(4) == 0 {
            let sent = poll
                .init_callback(|done| drop(done.result))
                .submit_cancellable();
            let handle = self.started(sent);
            drop(writer);
            let _ = handle.is_some_and(|handle| handle.cancel());
            return;
        }
        if let Some(pending) = self.started(poll.start()) {
            self.end_wait(pending, writer);
        }
    }

    fn end_wait(&mut self, pending: Pending<PollReady<OwnedFd>>, mut writer: PipeWriter) {
        let was_ready = match self.below(3) {
            0 => return drop(pending),
            1 => {
                pending.cancel();
                return drop(pending.wait().result);
            }
            _ => writer.write_all(b"!").is_ok(),
        };
        let ready = if self.below(2) == 0 {
            pending.wait()
        } else {
            block_on(pending)
        };
        if was_ready && ready.result.is_err() {
            self.round
                .ledger
                .fault(format!("a wait for readiness: {:?}", ready.result));
        }
    }
}
