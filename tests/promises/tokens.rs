//! A wait takes nothing of the program's own: not the token of `unpark`, nor the peace of a thread's end.

use crate::common::*;
use crate::hostile::*;
use crate::modes::in_both_modes;
use kiocb::{Aio, Dispatch};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

#[test]
fn a_wait_leaves_the_programs_own_unpark_token() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let [first, mine] = [(), ()].map(|()| readable(&aio));
        let leading = first.pending;
        let leader = named("leader", move || drop(leading.wait().result));
        until_leading("leader");
        let waiter = named("waiter", move || {
            thread::current().unpark(); // the program's own
            mine.pending.wait().result.unwrap();
            thread::park(); // finds it
        });
        until_parked("waiter");
        poke(&mine.writer);
        waiter.join().unwrap();
        poke(&first.writer);
        leader.join().unwrap();
    });
}

#[test]
fn a_wait_in_time_leaves_the_programs_own_unpark_token() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let [first, mine] = [(), ()].map(|()| readable(&aio));
        let leading = first.pending;
        let leader = named("leader", move || drop(leading.wait().result));
        until_leading("leader");
        let waiter = named("waiter", move || {
            thread::current().unpark();
            let unfinished = mine.pending.wait_timeout(Duration::from_millis(50));
            thread::park();
            unfinished.expect_err("it is not ready")
        });
        let unfinished = waiter.join().unwrap();
        poke(&mine.writer);
        poke(&first.writer);
        unfinished.wait().result.unwrap();
        leader.join().unwrap();
    });
}

#[test]
fn a_poll_leaves_the_programs_own_unpark_token() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let [first, mine] = [(), ()].map(|()| readable(&aio));
        let leading = first.pending;
        let leader = named("leader", move || drop(leading.wait().result));
        until_leading("leader");
        let poller = {
            let aio = aio.clone();
            named("poller", move || {
                thread::current().unpark();
                aio.poll(1, 1, Some(Duration::from_millis(50))).unwrap();
                thread::park();
            })
        };
        poller.join().unwrap();
        poke(&mine.writer);
        poke(&first.writer);
        leader.join().unwrap();
        mine.pending.wait().result.unwrap();
    });
}

/// As the documentation of `std::task::Wake` has it.
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn block_on_works_after_a_wait() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let [first, mine, others] = [(), (), ()].map(|()| readable(&aio));
        let leading = first.pending;
        let leader = named("leader", move || drop(leading.wait().result));
        until_leading("leader");
        let executor = named("executor", move || {
            let mut mine = Some(mine);
            // A future that is woken while it waits for something inline.
            block_on(std::future::poll_fn(move |context| {
                let Some(mine) = mine.take() else {
                    return Poll::Ready(());
                };
                context.waker().wake_by_ref();
                let poked = named("poker", move || {
                    until_parked("executor");
                    poke(&mine.writer);
                });
                mine.pending.wait().result.unwrap();
                poked.join().unwrap();
                Poll::Pending
            }));
        });
        executor.join().unwrap();
        poke(&others.writer);
        poke(&first.writer);
        leader.join().unwrap();
        others.pending.wait().result.unwrap();
    });
}

#[test]
fn block_on_on_a_future_of_ours_works_beside_waits() {
    in_both_modes(|| {
        let aio = build(Aio::builder().depth(4));
        let threads = (0..4).map(|_| {
            let aio = aio.clone();
            thread::spawn(move || {
                for _ in 0..500 {
                    let done = block_on(nothing(&aio).into_future()).unwrap();
                    assert_eq!(done.result.unwrap(), 0);
                    assert_eq!(nothing(&aio).wait().unwrap().result.unwrap(), 0);
                }
            })
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

/// Drains a context when the thread ends, and tells how that went.
struct AtTheEnd(Aio, Sender<io::Result<()>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.drain());
    }
}

thread_local! {
    static LAST: RefCell<Option<AtTheEnd>> = const { RefCell::new(None) };
}

/// What the thread remembers of the crate's is destroyed before `last`: it came later.
fn in_its_last_moments(last: AtTheEnd) {
    LAST.set(Some(last));
    let aio = build(Aio::builder().dispatch(Dispatch::Manual));
    nothing(&aio).init_callback(|_| ()).submit().unwrap();
    aio.drain().unwrap();
}

#[test]
fn a_callback_in_a_threads_last_moments_may_not_drain() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let ((outer, drained), (inner, refused)) = (channel(), channel());
        let mine = aio.clone();
        let request = nothing(&aio).init_callback(move |_| {
            inner.send(mine.drain()).unwrap();
        });
        request.submit().unwrap();
        let last = AtTheEnd(aio, outer);
        thread::spawn(move || in_its_last_moments(last))
            .join()
            .unwrap();
        drained.recv().unwrap().unwrap(); // it polled, on a thread that has no memory any more
        assert!(would_deadlock(&refused.recv().unwrap()));
    });
}

#[test]
fn a_waker_in_a_threads_last_moments_may_not_drain() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let ((outer, drained), (inner, refused)) = (channel(), channel());
        let Readable {
            mut pending,
            writer,
        } = readable(&aio);
        let mine = aio.clone();
        let deed = once(move || inner.send(mine.drain()).unwrap());
        leave(&mut pending, &waker(deed));
        nothing(&aio).init_callback(|_| ()).submit().unwrap();
        let last = AtTheEnd(aio, outer);
        poke(&writer);
        thread::spawn(move || in_its_last_moments(last))
            .join()
            .unwrap();
        drained.recv().unwrap().unwrap();
        assert!(would_deadlock(&refused.recv().unwrap()));
        pending.wait().result.unwrap();
    });
}

#[test]
fn the_completion_threads_last_moments_may_not_drain() {
    in_both_modes(|| {
        for dispatch in [Dispatch::Thread, Dispatch::Anywhere] {
            let aio = build(Aio::builder().dispatch(dispatch).thread_name("completions"));
            until_asleep("completions"); // so that the callback runs there and nowhere else
            let (end, ended) = channel();
            let (reader, writer) = io::pipe().unwrap();
            let poll = aio.alloc().init_poll(reader, kiocb::PollFlags::IN);
            let mine = aio.clone();
            let poll = poll.init_callback(move |_| LAST.set(Some(AtTheEnd(mine, end))));
            poll.submit().unwrap();
            poke(&writer);
            aio.shutdown(Duration::from_secs(3600)).unwrap();
            assert!(would_deadlock(&ended.recv().unwrap()));
            drop(aio);
        }
    });
}
