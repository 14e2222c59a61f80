//! A wait takes nothing of the program's own: not the token of `unpark`, nor the peace of a thread's end.

use crate::common::modes::in_both_modes;
use crate::common::*;
use crate::hostile::*;
use kiocb::{Aio, Dispatch};
use std::cell::RefCell;
use std::io::{self, PipeWriter};
use std::sync::mpsc::{Sender, channel};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A manual context, on which a thread waits in the kernel already: others that wait are parked.
struct Led {
    aio: Aio,
    leader: JoinHandle<()>,
    /// Ends the leader's wait.
    writer: PipeWriter,
}

/// One, and other waits on it.
fn led<const N: usize>() -> (Led, [Readable; N]) {
    let aio = build(Aio::builder().dispatch(Dispatch::Manual));
    let Readable { pending, writer } = readable(&aio);
    let others = [(); N].map(|()| readable(&aio));
    let leader = named("leader", move || drop(pending.wait().result));
    until_leading("leader");
    let led = Led {
        aio,
        leader,
        writer,
    };
    (led, others)
}

#[test]
fn a_wait_leaves_the_programs_own_unpark_token() {
    in_both_modes(|| {
        let (led, [mine]) = led();
        let waiter = named("waiter", move || {
            thread::current().unpark(); // the program's own
            mine.pending.wait().result.unwrap();
            thread::park(); // finds it
        });
        until_parked("waiter");
        poke(&mine.writer);
        waiter.join().unwrap();
        poke(&led.writer);
        led.leader.join().unwrap();
    });
}

#[test]
fn a_wait_in_time_leaves_the_programs_own_unpark_token() {
    in_both_modes(|| {
        let (led, [mine]) = led();
        let waiter = named("waiter", move || {
            thread::current().unpark();
            let unfinished = mine.pending.wait_timeout(Duration::from_millis(50));
            thread::park();
            unfinished.expect_err("it is not ready")
        });
        let unfinished = waiter.join().unwrap();
        poke(&mine.writer);
        poke(&led.writer);
        unfinished.wait().result.unwrap();
        led.leader.join().unwrap();
    });
}

#[test]
fn a_poll_leaves_the_programs_own_unpark_token() {
    in_both_modes(|| {
        let (led, [mine]) = led();
        let poller = {
            let aio = led.aio.clone();
            named("poller", move || {
                thread::current().unpark();
                aio.poll(1, 1, Some(Duration::from_millis(50))).unwrap();
                thread::park();
            })
        };
        poller.join().unwrap();
        poke(&mine.writer);
        poke(&led.writer);
        led.leader.join().unwrap();
        mine.pending.wait().result.unwrap();
    });
}

#[test]
fn block_on_works_after_a_wait() {
    in_both_modes(|| {
        let (led, [mine, others]) = led();
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
        poke(&led.writer);
        led.leader.join().unwrap();
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

/// Drains it, which polls, on a thread that has no memory any more.
#[track_caller]
fn drain_in_a_threads_last_moments(aio: Aio) {
    let (end, drained) = channel();
    let last = AtTheEnd(aio, end);
    thread::spawn(move || in_its_last_moments(last))
        .join()
        .unwrap();
    drained.recv().unwrap().unwrap();
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
        let (inner, refused) = channel();
        let mine = aio.clone();
        let request = nothing(&aio).init_callback(move |_| {
            inner.send(mine.drain()).unwrap();
        });
        request.submit().unwrap();
        drain_in_a_threads_last_moments(aio);
        assert!(would_deadlock(&refused.recv().unwrap()));
    });
}

#[test]
fn a_waker_in_a_threads_last_moments_may_not_drain() {
    in_both_modes(|| {
        let aio = build(Aio::builder().dispatch(Dispatch::Manual));
        let (inner, refused) = channel();
        let Readable {
            mut pending,
            writer,
        } = readable(&aio);
        let mine = aio.clone();
        let deed = once(move || inner.send(mine.drain()).unwrap());
        leave(&mut pending, &waker(deed));
        nothing(&aio).init_callback(|_| ()).submit().unwrap();
        poke(&writer);
        drain_in_a_threads_last_moments(aio);
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
