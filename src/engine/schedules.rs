//! What a true kernel can't be made to do on demand: counts that are too small, EAGAIN now and then, signals
//! in every wait, completions in any order. The engine is the real one, the kernel is simulated, and nothing
//! depends on time.

use super::Engine;
use super::request::{List, OwnedCell, Watch};
use super::testing::{Count, TestCallback, TestOp, engine};
use crate::dispatch::Dispatch;
use crate::error::AioError;
use crate::observe::Place;
use crate::op::{Job, Options, Read, Rw};
use crate::random::Random;
use crate::sys::Mode;
use crate::sys::simulated::{Answer, Behaviour, Next};
use std::sync::{Arc, Mutex, PoisonError};

const BOTH: [Mode; 2] = [Mode::Ring, Mode::Syscalls];

/// The names of requests in the order in which their callbacks came.
#[derive(Clone, Debug, Default)]
struct Names(Arc<Mutex<Vec<u64>>>);

impl Names {
    fn put(&self, name: u64) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.push(name);
    }

    fn get(&self) -> Vec<u64> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.clone()
    }

    /// A request that puts its name here; a negative result puts the errno instead.
    fn tell(&self, ask: TestOp) -> TestCallback<impl FnOnce(i64) + Send + use<>> {
        let names = self.clone();
        ask.then(move |result| names.put(result.unsigned_abs()))
    }
}

/// All of them, to leave in one go.
fn list(names: &Names, asks: impl IntoIterator<Item = TestOp>) -> List {
    let mut list = List::new();
    for ask in asks {
        let (request, _receipt) = OwnedCell::with_callback(names.tell(ask));
        list.push(request);
    }
    list
}

fn start(engine: &Engine, ask: TestOp) -> Watch<TestOp> {
    engine.start(ask).expect("accepted")
}

fn finish(engine: &Engine, mut watch: Watch<TestOp>) -> i64 {
    assert!(engine.wait(&mut watch, None));
    watch.take().expect("done")
}

/// Whether `io_submit`'s errors are told apart is seen by what this says.
fn unavailable(error: &std::io::Error) -> Option<AioError> {
    error.get_ref()?.downcast_ref().copied()
}

#[test]
fn a_list_that_is_taken_bit_by_bit_arrives_whole_and_in_order() {
    for mode in BOTH {
        let (ends, names) = (Count::new(), Names::default());
        let engine = engine(Dispatch::Manual, mode, 8);
        engine
            .kernel
            .script([Answer::Most(2), Answer::Most(1), Answer::Most(3)]);
        let asks = (1..=8).map(|name| TestOp::new(Behaviour::AtOnce, name, &ends));
        assert!(engine.submit_list(list(&names, asks)).is_empty());
        engine.drain(None).expect("idle");
        assert_eq!(engine.kernel.accepted(), (1..=8).collect::<Vec<_>>());
        assert_eq!((names.get(), ends.get()), ((1..=8).collect(), 8));
    }
}

#[test]
fn a_refusal_concerns_one_of_a_list() {
    for mode in BOTH {
        let (ends, names) = (Count::new(), Names::default());
        let engine = engine(Dispatch::Manual, mode, 8);
        let asks = (1..=5).map(|name| {
            let ask = TestOp::new(Behaviour::AtOnce, name, &ends);
            if name == 3 {
                ask.refused(libc::EBADF)
            } else {
                ask
            }
        });
        let mut refused = engine.submit_list(list(&names, asks));
        let (error, request) = refused.pop().expect("one is refused");
        assert_eq!(
            (error.raw_os_error(), refused.len()),
            (Some(libc::EBADF), 0)
        );
        request.discard();
        engine.drain(None).expect("idle");
        assert_eq!((names.get(), ends.get()), (vec![1, 2, 4, 5], 5));
    }
}

#[test]
fn an_observed_request_for_which_the_kernel_has_no_room_is_queued_again() {
    for mode in BOTH {
        let (ends, names) = (Count::new(), Names::default());
        let engine = engine(Dispatch::Manual, mode, 8);
        engine.observe(1);
        engine.kernel.limit(2);
        let asks = (1..=4).map(|name| TestOp::new(Behaviour::Held, name, &ends));
        assert!(engine.submit_list(list(&names, asks)).is_empty());
        let mut places: Vec<_> = engine.states(0).iter().map(|state| state.place).collect();
        places.sort_by_key(|place| *place == Place::Queued);
        let (kernel, queued) = (Place::Kernel, Place::Queued);
        assert_eq!(places, [kernel, kernel, queued, queued]);
        (0..2).for_each(|_| engine.kernel.complete(Next::Oldest));
        assert_eq!(engine.poll(2, 9, None), Ok(2));
        (0..2).for_each(|_| engine.kernel.complete(Next::Oldest));
        engine.drain(None).expect("idle");
        assert_eq!((names.get(), engine.states(0).len()), (vec![1, 2, 3, 4], 0));
    }
}

#[test]
fn what_a_callback_submits_and_the_kernel_refuses_ends_with_the_errno() {
    for mode in BOTH {
        let (ends, names) = (Count::new(), Names::default());
        let engine = engine(Dispatch::Manual, mode, 8);
        let (again, inner, ended) = (Arc::clone(&engine), names.clone(), ends.clone());
        let outer = TestOp::new(Behaviour::AtOnce, 100, &ends).then(move |_| {
            for name in 101..=103 {
                let ask = TestOp::new(Behaviour::AtOnce, name, &ended);
                let ask = if name == 102 {
                    ask.refused(libc::EINVAL)
                } else {
                    ask
                };
                assert!(again.submit(inner.tell(ask)).is_ok());
            }
        });
        assert!(engine.submit(outer).is_ok());
        engine.drain(None).expect("idle");
        let mut names = names.get();
        names.sort_unstable();
        assert_eq!(names, [libc::EINVAL.unsigned_abs().into(), 101, 103]);
        assert_eq!((ends.get(), engine.stats().refused_late), (4, 1));
    }
}

#[test]
fn eagain_behind_something_in_flight_waits_for_it_in_order() {
    for mode in BOTH {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, mode, 8);
        let first = start(&engine, TestOp::new(Behaviour::Held, 1, &ends));
        engine.kernel.limit(1);
        let second = start(&engine, TestOp::new(Behaviour::AtOnce, 2, &ends));
        let third = start(&engine, TestOp::new(Behaviour::AtOnce, 3, &ends));
        assert_eq!((engine.stats().queued, engine.stats().in_flight), (2, 1));
        engine.kernel.complete(Next::Oldest);
        for (watch, name) in [(third, 3), (first, 1), (second, 2)] {
            assert_eq!(finish(&engine, watch), name);
        }
        assert_eq!(engine.kernel.accepted(), [1, 2, 3]);
        assert_eq!((ends.get(), engine.outstanding()), (3, 0));
    }
}

#[test]
fn eagain_with_nothing_in_flight_is_tried_again() {
    let ends = Count::new();
    let engine = engine(Dispatch::Thread, Mode::Ring, 8);
    engine.kernel.script([libc::EAGAIN; 3].map(Answer::Errno));
    let answer = engine.submit_and_wait(TestOp::new(Behaviour::AtOnce, 1, &ends));
    assert_eq!(answer.expect("accepted at last"), 1);
}

#[test]
fn eagain_for_ever_gives_the_request_back() {
    let ends = Count::new();
    let engine = engine(Dispatch::Thread, Mode::Ring, 8);
    engine.kernel.script([libc::EAGAIN; 10].map(Answer::Errno));
    let (error, ask) = engine
        .submit_and_wait(TestOp::new(Behaviour::AtOnce, 1, &ends))
        .expect_err("there is no memory");
    assert_eq!(unavailable(&error), Some(AioError::Stalled));
    assert_eq!((ends.get(), engine.outstanding()), (0, 0));
    // The kernel has recovered.
    assert_eq!(engine.submit_and_wait(ask).expect("accepted"), 1);
}

#[test]
fn einval_is_one_requests_own_unless_the_context_is_gone() {
    for mode in BOTH {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, mode, 8);
        let ask = TestOp::new(Behaviour::AtOnce, 1, &ends).refused(libc::EINVAL);
        let (error, ask) = engine.submit_and_wait(ask).expect_err("refused");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        engine.tear_down();
        let (error, _) = engine.submit_and_wait(ask).expect_err("nowhere to go");
        assert_eq!(unavailable(&error), Some(AioError::ContextGone));
        assert_eq!(engine.outstanding(), 0);
    }
}

#[test]
fn an_answer_beyond_what_was_lent_is_cut_down() {
    for mode in BOTH {
        let engine = engine(Dispatch::Thread, mode, 8);
        engine.kernel.exaggerate(1000);
        let file = std::fs::File::open("/dev/null").expect("readable");
        let read = Job {
            state: Rw::new(file, Read, vec![7; 8], 0),
            options: Options::default(),
        };
        let done = engine.submit_and_wait(read).map_err(|(error, _)| error);
        let (count, buf, _) = done.expect("accepted").ok().expect("read");
        assert_eq!((count, buf), (8, vec![7; 8])); // in release builds too
        assert!(engine.stats().excesses > 0);
    }
}

#[test]
fn signals_in_every_sleep_disturb_nobody() {
    for mode in BOTH {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, mode, 8);
        engine.kernel.interrupt(100);
        let device = {
            let engine = Arc::clone(&engine);
            std::thread::spawn(move || engine.kernel.complete(Next::Oldest))
        };
        let answer = engine.submit_and_wait(TestOp::new(Behaviour::Held, 1, &ends));
        assert_eq!(answer.expect("accepted"), 1);
        device.join().expect("the device ends well");
    }
}

#[test]
fn completions_in_reverse_find_their_waiters() {
    for mode in BOTH {
        let ends = Count::new();
        let engine = engine(Dispatch::Thread, mode, 8);
        let watches: Vec<_> = (1..=5)
            .map(|name| start(&engine, TestOp::new(Behaviour::Held, name, &ends)))
            .collect();
        for _ in 0..5 {
            engine.kernel.complete(Next::Newest);
        }
        let results: Vec<_> = watches
            .into_iter()
            .map(|watch| finish(&engine, watch))
            .collect();
        assert_eq!((results, ends.get()), (vec![1, 2, 3, 4, 5], 5));
    }
}

/// A program of one thread, made by dice: requests of all kinds, and a kernel in all moods.
struct Program {
    dice: Random,
    engine: Arc<Engine>,
    ends: Count,
    names: Names,
    submitted: u64,
    refused: Vec<u64>,
    abandoned: Vec<u64>,
}

impl Program {
    fn new(seed: u64) -> Program {
        let mut dice = Random(seed);
        let mode = BOTH[usize::from(dice.roll(2) == 0)];
        let depth = u32::try_from(1 + dice.roll(4)).expect("small");
        Program {
            engine: engine(Dispatch::Manual, mode, depth),
            dice,
            ends: Count::new(),
            names: Names::default(),
            submitted: 0,
            refused: Vec::new(),
            abandoned: Vec::new(),
        }
    }

    fn ask(&mut self) -> TestOp {
        // Above all errnos, so that the two can't be mixed up.
        self.submitted += 1;
        let name = 10_000 + self.submitted;
        let fate = if self.dice.roll(2) == 0 {
            Behaviour::AtOnce
        } else {
            Behaviour::Held
        };
        let ask = TestOp::new(fate, name, &self.ends);
        if self.dice.roll(8) == 0 {
            self.refused.push(name);
            ask.refused(libc::EBADF)
        } else {
            ask
        }
    }

    fn step(&mut self) {
        match self.dice.roll(7) {
            0 | 1 => self.submit(),
            2 => self.submit_several(),
            3 => self.abandon(),
            4 => self.change_the_kernels_mood(),
            5 => self.complete_one(),
            _ => {
                self.engine.poll(0, usize::MAX, None).expect("manual");
            }
        }
    }

    fn submit(&mut self) {
        let ask = self.ask();
        let refused = self.engine.submit(self.names.tell(ask)).is_err();
        if refused {
            self.names.put(libc::EBADF.unsigned_abs().into());
        }
    }

    fn submit_several(&mut self) {
        let asks: Vec<_> = (0..1 + self.dice.roll(6)).map(|_| self.ask()).collect();
        for (_, request) in self.engine.submit_list(list(&self.names, asks)) {
            request.discard();
            self.names.put(libc::EBADF.unsigned_abs().into());
        }
    }

    /// Nobody waits for its result, but it counts.
    fn abandon(&mut self) {
        let ask = self.ask();
        self.abandoned.push(10_000 + self.submitted);
        drop(self.engine.start(ask));
    }

    fn change_the_kernels_mood(&mut self) {
        // EAGAIN only while something is in flight: else the engine would, rightly, sleep.
        let answer = match self.dice.roll(4) {
            0 if self.engine.kernel.held() > 0 => Answer::Errno(libc::EAGAIN),
            1 => Answer::Errno(libc::EINTR),
            sides => Answer::Most(1 + usize::try_from(sides).expect("small")),
        };
        self.engine.kernel.script([answer]);
    }

    fn complete_one(&mut self) {
        if self.engine.kernel.held() > 0 {
            let next = if self.dice.roll(2) == 0 {
                Next::Oldest
            } else {
                Next::Newest
            };
            self.engine.kernel.complete(next);
        }
    }

    fn end(&mut self) {
        while self.engine.outstanding() > 0 {
            self.complete_one();
            self.engine.poll(0, usize::MAX, None).expect("manual");
        }
    }

    fn check(&self) {
        let all = 10_001..=10_000 + self.submitted;
        let accepted: Vec<_> = all
            .clone()
            .filter(|name| !self.refused.contains(name))
            .collect();
        assert_eq!(
            self.engine.kernel.accepted(),
            accepted,
            "first in, first out"
        );
        let mut told: Vec<_> = all
            .filter(|name| !self.abandoned.contains(name))
            .map(|name| {
                let refused = self.refused.contains(&name);
                if refused {
                    libc::EBADF.unsigned_abs().into()
                } else {
                    name
                }
            })
            .collect();
        told.sort_unstable();
        let mut names = self.names.get();
        names.sort_unstable();
        assert_eq!(names, told, "each exactly once");
        assert_eq!(self.ends.get() as u64, self.submitted, "nothing leaks");
        let stats = self.engine.stats();
        assert_eq!(
            (stats.accepted, stats.in_flight, stats.queued),
            (stats.completed, 0, 0)
        );
    }
}

#[test]
fn whatever_happens_each_request_ends_once_and_in_order() {
    for seed in 0..1000 {
        let mut program = Program::new(seed);
        for _ in 0..40 {
            program.step();
        }
        program.end();
        println!("seed {seed}"); // shown when it fails
        program.check();
    }
}

/// Rounds of four callbacks that each submit a request. Returns how many of the last round's the kernel had when
/// each of its callbacks began.
fn submitted_before(behaviour: Behaviour) -> Vec<usize> {
    let (ends, seen) = (Count::new(), Names::default());
    let engine = engine(Dispatch::Manual, Mode::Ring, 64);
    for _ in 0..100 {
        let before = engine.kernel.accepted().len() + 4;
        seen.0.lock().expect("no panic").clear();
        let asks = (0..4).map(|_| {
            let (again, seen, inner) = (Arc::clone(&engine), seen.clone(), ends.clone());
            TestOp::new(Behaviour::AtOnce, 1, &ends).then(move |_| {
                seen.put((again.kernel.accepted().len() - before) as u64);
                let ask = TestOp::new(behaviour, 2, &inner);
                assert!(again.submit(ask.then(|_| ())).is_ok());
            })
        });
        let mut list = List::new();
        asks.for_each(|ask| list.push(OwnedCell::with_callback(ask).0));
        assert!(engine.submit_list(list).is_empty());
        assert_eq!(engine.poll(4, 4, None), Ok(4));
        if behaviour == Behaviour::Held {
            (0..4).for_each(|_| engine.kernel.complete(Next::Oldest));
        }
        engine.drain(None).expect("idle");
    }
    let counts = seen.get().into_iter();
    counts
        .map(|count| usize::try_from(count).expect("few"))
        .collect()
}

#[test]
fn a_device_has_the_first_resubmission_before_the_second_callback() {
    assert_eq!(submitted_before(Behaviour::Held), [0, 1, 2, 3]);
}

#[test]
fn files_that_answer_inside_the_call_have_all_of_a_round_at_once() {
    assert_eq!(submitted_before(Behaviour::AtOnce), [0, 0, 0, 0]);
}

/// No thread sleeps in the kernel that would hear of it.
#[test]
fn a_cancellation_in_a_context_that_is_gone_ends() {
    let ends = Count::new();
    let engine = engine(Dispatch::Manual, Mode::Ring, 2);
    let poll = |name| TestOp::new(Behaviour::Held, name, &ends).cancellable();
    let watch = start(&engine, poll(1));
    let id = engine.submit(poll(2).then(drop)).ok().expect("accepted");
    engine.kernel.lose();
    assert!(!engine.cancel(&watch));
    assert!(!engine.cancel_by_id(id));
    assert_eq!(ends.get(), 0, "the kernel may still write");
}
