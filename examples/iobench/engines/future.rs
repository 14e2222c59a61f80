//! kiocb in async code: a task for each request in flight, all on one thread, which reaps for itself when no
//! task can go on.
//!
//! `await` submits each request when it is first polled: no task need know of another one. `future` has an
//! executor that gathers what all tasks ask for in one turn and submits it when it is due, as a program's own
//! executor would.

use std::cell::RefCell;
use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use kiocb::op::{Operation, Read, Write};
use kiocb::{Aio, AlignedBuf, Batch, Completion};

use super::{count_syscalls, manual_contexts, on_threads};
use crate::job::Job;
use crate::slot::Slot;

/// A request that completes at once does not suspend its task. After so many the others have their turn, as
/// executors do it.
const BUDGET: usize = 32;

/// Each request by itself.
pub(crate) fn one_by_one(job: &Arc<Job>) -> io::Result<()> {
    run(job, false)
}

/// The requests of one turn in one system call.
pub(crate) fn together(job: &Arc<Job>) -> io::Result<()> {
    run(job, true)
}

fn run(job: &Arc<Job>, groups: bool) -> io::Result<()> {
    let contexts = manual_contexts(job)?;
    count_syscalls(job, contexts.clone());
    on_threads(job.threads, |index| {
        let gate = Gate::new(&contexts[index], groups);
        if job.rw.writes() {
            let tasks = job.slots(index).map(|slot| drive(job, &gate, Write, slot));
            Executor::new(tasks).run(&gate)
        } else {
            let tasks = job.slots(index).map(|slot| drive(job, &gate, Read, slot));
            Executor::new(tasks).run(&gate)
        }
    })
}

async fn drive(
    job: &Arc<Job>,
    gate: &Gate<'_>,
    op: impl Operation<AlignedBuf>,
    mut slot: Slot,
) -> io::Result<()> {
    let (mut file, mut buffer) = (Arc::clone(&job.file), job.buffer());
    loop {
        for _ in 0..BUDGET {
            if !slot.goes_on() {
                return Ok(());
            }
            let offset = slot.begin(&mut buffer);
            let done = gate.transfer(op, file, buffer, offset).await?;
            slot.end(done.result, &done.buf);
            (file, buffer) = (done.file, done.buf);
        }
        yield_now().await;
    }
}

/// The way to the kernel that the tasks of one thread share.
struct Gate<'a> {
    aio: &'a Aio,
    /// What they asked for since the last submission.
    batch: RefCell<Batch<'a>>,
    groups: bool,
}

impl<'a> Gate<'a> {
    fn new(aio: &'a Aio, groups: bool) -> Gate<'a> {
        Gate {
            aio,
            batch: RefCell::new(aio.batch()),
            groups,
        }
    }

    async fn transfer(
        &self,
        op: impl Operation<AlignedBuf>,
        file: Arc<File>,
        buffer: AlignedBuf,
        offset: u64,
    ) -> io::Result<Completion<Arc<File>, AlignedBuf>> {
        let request = self.aio.alloc().init_rw(file, op, buffer, offset);
        if !self.groups {
            return Ok(request.await?);
        }
        let pending = self.batch.borrow_mut().push(request);
        if self.batch.borrow().is_due() {
            self.submit();
        }
        Ok(pending.await)
    }

    /// No task can go on: submits what they asked for, or sleeps until a request is complete.
    fn wait(&self) -> io::Result<()> {
        if self.batch.borrow().is_empty() {
            self.aio.poll(1, usize::MAX, None)?;
        }
        self.submit();
        Ok(())
    }

    fn submit(&self) {
        let refused = self.batch.replace(self.aio.batch()).submit();
        debug_assert!(refused.is_empty()); // a future's refusal is its result
    }
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// As small as an executor can be: tasks by number, and the numbers of those that were woken.
struct Executor<F> {
    tasks: Vec<Option<(Pin<Box<F>>, Waker)>>,
    awake: Arc<Mutex<Vec<usize>>>,
}

/// One task's waker.
struct Number {
    number: usize,
    awake: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Number {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut awake = self.awake.lock().expect("no panic while locked");
        awake.push(self.number);
    }
}

impl<F: Future<Output = io::Result<()>>> Executor<F> {
    fn new(tasks: impl Iterator<Item = F>) -> Self {
        let awake = Arc::new(Mutex::new(Vec::new()));
        let with_waker = |(number, task)| {
            let awake = Arc::clone(&awake);
            Some((
                Box::pin(task),
                Waker::from(Arc::new(Number { number, awake })),
            ))
        };
        let tasks: Vec<_> = tasks.enumerate().map(with_waker).collect();
        Executor { tasks, awake }
    }

    /// Until every task is at its end, or one has failed.
    fn run(mut self, gate: &Gate<'_>) -> io::Result<()> {
        let mut left = self.tasks.len();
        let mut turn: Vec<usize> = (0..left).collect();
        while left > 0 {
            for number in turn.drain(..) {
                if let Poll::Ready(outcome) = poll(&mut self.tasks[number]) {
                    outcome?;
                    left -= 1;
                }
            }
            std::mem::swap(
                &mut turn,
                &mut self.awake.lock().expect("no panic while locked"),
            );
            if turn.is_empty() && left > 0 {
                gate.wait()?; // what wakes them is delivered in here
            }
        }
        Ok(())
    }
}

/// A task that has ended may still be woken.
fn poll<F: Future<Output = io::Result<()>>>(
    place: &mut Option<(Pin<Box<F>>, Waker)>,
) -> Poll<io::Result<()>> {
    let Some((task, waker)) = place else {
        return Poll::Pending;
    };
    let outcome = task.as_mut().poll(&mut Context::from_waker(waker));
    if outcome.is_ready() {
        *place = None;
    }
    outcome
}
