//! Futures and handles at every stage of their requests, and everything that can be done to them: dropped,
//! forgotten, polled again, given other wakers, wakers that panic, given up. On a file server that keeps each
//! request where the test wants it. `.ci/sanitize` runs this under AddressSanitizer and Valgrind.

mod kit;

use std::any::Any;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use kiocb::op::{Read, Rw};
use kiocb::{Aio, AlignedBuf, Batch, Completion, Dispatch, Pending, Submission};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Gate, SlowFs, Watchdog, need, need_root};
use kit::*;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];

type State = Rw<Arc<File>, Read, Tracked>;
type Done = Completion<Arc<File>, Tracked>;

/// Where the request is when something is done to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not submitted: a future not yet polled, a handle of a batch not yet submitted.
    Ready,
    /// In user space, behind the only slot.
    Queued,
    /// With the kernel.
    InFlight,
    /// Its result is stored, and nobody has looked.
    Completed,
}

const STAGES: [Stage; 4] = [
    Stage::Ready,
    Stage::Queued,
    Stage::InFlight,
    Stage::Completed,
];

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Drop,
    Forget,
    PollAgain,
    ChangeWaker,
    PanickingWaker,
    /// A waker is left, and then its owner goes.
    LeaveWakerAndDrop,
    /// Handles only, as the next.
    TimeOutAndWait,
    TimeOutAndDrop,
}

const ACTS: [Act; 8] = [
    Act::Drop,
    Act::Forget,
    Act::PollAgain,
    Act::ChangeWaker,
    Act::PanickingWaker,
    Act::LeaveWakerAndDrop,
    Act::TimeOutAndWait,
    Act::TimeOutAndDrop,
];

/// Who stands for the request.
enum Owner {
    Future(Submission<State>),
    Handle(Pending<State>),
}

impl Owner {
    /// The completion, once.
    fn poll(&mut self, waker: &Waker) -> Option<Done> {
        let mut context = Context::from_waker(waker);
        match self {
            Owner::Future(future) => match Pin::new(future).poll(&mut context) {
                Poll::Ready(done) => Some(done.unwrap()),
                Poll::Pending => None,
            },
            Owner::Handle(handle) => match Pin::new(handle).poll(&mut context) {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            },
        }
    }

    fn finish(self) -> Done {
        match self {
            Owner::Future(future) => block_on(future).unwrap(),
            Owner::Handle(handle) => handle.wait(),
        }
    }
}

/// Forgotten, as `mem::forget` does it, but where leak checkers see that somebody still has it.
fn forget(owner: Owner) {
    static FORGOTTEN: Mutex<Vec<Box<dyn Any + Send>>> = Mutex::new(Vec::new());
    FORGOTTEN
        .lock()
        .unwrap()
        .push(Box::new(ManuallyDrop::new(owner)));
}

/// What is thrown: of no size, because the engine lets go of a payload without running its destructor.
struct OnPurpose;

/// Counts, or panics, when it is woken.
struct Bell {
    rung: AtomicUsize,
    panics: bool,
}

impl Bell {
    fn new(panics: bool) -> (Arc<Bell>, Waker) {
        let rung = AtomicUsize::new(0);
        let bell = Arc::new(Bell { rung, panics });
        (Arc::clone(&bell), Waker::from(bell))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.fetch_add(1, Ordering::SeqCst);
        if self.panics {
            resume_unwind(Box::new(OnPurpose));
        }
    }
}

/// What is left after the act.
struct Left {
    owner: Option<Owner>,
    done: Option<Done>,
    bells: Vec<Arc<Bell>>,
}

fn act(mut owner: Owner, act: Act) -> Left {
    let mut left = Left {
        owner: None,
        done: None,
        bells: Vec::new(),
    };
    match act {
        Act::Drop => {
            drop(owner);
            return left;
        }
        Act::Forget => {
            forget(owner);
            return left;
        }
        Act::PollAgain => {
            for _ in 0..10 {
                left.done = left.done.or_else(|| owner.poll(Waker::noop()));
            }
        }
        Act::ChangeWaker | Act::LeaveWakerAndDrop => {
            for _ in 0..5 {
                let (bell, waker) = Bell::new(false);
                left.done = left.done.or_else(|| owner.poll(&waker));
                left.bells.push(bell);
            }
            if act == Act::LeaveWakerAndDrop {
                drop(owner);
                left.done = None;
                return left;
            }
        }
        Act::PanickingWaker => {
            let (bell, waker) = Bell::new(true);
            left.done = owner.poll(&waker);
            left.bells.push(bell);
        }
        Act::TimeOutAndWait | Act::TimeOutAndDrop => match owner {
            Owner::Future(_) => unreachable!("futures have no timeouts"),
            Owner::Handle(handle) => match handle.wait_timeout(Duration::from_millis(1)) {
                Ok(done) => {
                    left.done = Some(done);
                    return left;
                }
                Err(_) if act == Act::TimeOutAndDrop => return left,
                Err(handle) => owner = Owner::Handle(handle),
            },
        },
    }
    if left.done.is_none() {
        left.owner = Some(owner);
    }
    left
}

/// One request, brought to its stage.
struct Case<'a> {
    aio: &'a Aio,
    file: Arc<File>,
    gate: Gate,
    /// Has the only slot, where the request is queued.
    ahead: Option<Pending<ReadingState>>,
    batch: Option<Batch<'a>>,
    owner: Option<Owner>,
    /// Whether the buffer still exists.
    alive: Arc<()>,
}

impl<'a> Case<'a> {
    fn new(aio: &'a Aio, fs: &SlowFs, stage: Stage, handle: bool) -> Case<'a> {
        let file = Arc::new(fs.file("f", blocks(2)));
        let gate = fs.hold_reads(0..u64::MAX);
        let ahead = (stage == Stage::Queued).then(|| read(aio, &file, 0).start().unwrap());
        let (buf, alive) = Tracked::block();
        let request = aio.alloc().init_rw(Arc::clone(&file), Read, buf, B);
        let mut case = Case {
            aio,
            file,
            gate,
            ahead,
            batch: None,
            owner: None,
            alive,
        };
        case.owner = Some(match (handle, stage) {
            (false, _) => Owner::Future(request.into_future()),
            (true, Stage::Ready) => Owner::Handle(case.batch.insert(aio.batch()).push(request)),
            (true, _) => Owner::Handle(request.start().unwrap()),
        });
        case.advance(stage);
        case
    }

    fn advance(&mut self, stage: Stage) {
        if stage == Stage::Ready {
            return;
        }
        let owner = self.owner.as_mut().unwrap();
        assert!(owner.poll(Waker::noop()).is_none());
        self.gate.wait_for(1);
        match stage {
            Stage::Queued => assert_eq!(self.aio.stats().queued, 1),
            Stage::Completed => {
                self.gate.let_through(0);
                wait_until("its result is stored", || {
                    let _ = self.aio.poll(0, 8, None); // under `Manual` nobody else does
                    self.aio.stats().completed == 1
                });
            }
            _ => {}
        }
    }
}

/// Brings a request to its stage, does it, and lets everything go on to its end.
fn run(dispatch: Dispatch, stage: Stage, deed: Act, handle: bool) {
    let what = format!("{dispatch:?}, {stage:?}, {deed:?}, handle: {handle}");
    let fs = SlowFs::new().unwrap();
    let depth = if stage == Stage::Queued { 1 } else { 4 };
    let aio = Aio::builder()
        .depth(depth)
        .dispatch(dispatch)
        .build()
        .unwrap();
    let mut case = Case::new(&aio, &fs, stage, handle);
    let left = act(case.owner.take().unwrap(), deed);
    let bystanders: Vec<_> = (0..32).map(|_| AlignedBuf::from(&[0xAA; BLOCK])).collect();
    if let Some(batch) = case.batch.take() {
        assert!(batch.submit().is_empty());
    }
    case.gate.release();
    if let Some(ahead) = case.ahead.take() {
        verify(&ahead.wait(), 0);
    }
    aio.drain().unwrap();
    let done = left.done.or_else(|| left.owner.map(Owner::finish));
    if let Some(done) = done {
        assert_eq!(done.result.as_ref().unwrap(), &BLOCK, "{what}");
        assert!(done.buf.bytes().iter().all(|&byte| byte == 2), "{what}");
    }
    aio.drain().unwrap();
    // A waker may have been rung just before it was replaced; the last has been, and none twice.
    let rung: Vec<usize> = left
        .bells
        .iter()
        .map(|bell| bell.rung.load(Ordering::SeqCst))
        .collect();
    assert!(rung.iter().all(|&count| count <= 1), "{what}: {rung:?}");
    let forgotten = deed == Act::Forget;
    assert_eq!(is_alone(&case.alive), !forgotten, "{what}: the buffer");
    assert_eq!(
        Arc::strong_count(&case.file),
        1 + usize::from(forgotten),
        "{what}: the file"
    );
    assert!(
        bystanders
            .iter()
            .all(|buf| buf.iter().all(|&byte| byte == 0xAA)),
        "{what}"
    );
    let stats = aio.stats();
    assert_eq!(
        (stats.completed, stats.in_flight, stats.queued),
        (stats.accepted, 0, 0),
        "{what}"
    );
    let panicked = deed == Act::PanickingWaker && rung == [1];
    assert_eq!(stats.panics, u64::from(panicked), "{what}");
}

#[test]
fn everything_may_be_done_to_futures_at_every_stage() {
    need_root!();
    need!(SlowFs::new());
    for dispatch in ALL {
        for stage in STAGES {
            let _watchdog = Watchdog::new(&format!("futures, {dispatch:?}, {stage:?}"));
            for deed in &ACTS[..6] {
                run(dispatch, stage, *deed, false);
            }
        }
    }
}

#[test]
fn everything_may_be_done_to_handles_at_every_stage() {
    need_root!();
    need!(SlowFs::new());
    for dispatch in ALL {
        for stage in STAGES {
            let _watchdog = Watchdog::new(&format!("handles, {dispatch:?}, {stage:?}"));
            for deed in ACTS {
                run(dispatch, stage, deed, true);
            }
        }
    }
}

/// Nobody has to be woken: an answer that is there when the request is submitted is the first poll's. Without
/// the ring it may be the completion thread's, which is asleep in `io_getevents`.
#[test]
fn a_request_that_completes_at_once_is_ready_at_its_first_poll() {
    let _watchdog = Watchdog::new("first poll");
    let without_ring = std::env::var_os("KIOCB_FORCE_SYSCALLS").is_some_and(|value| value == "1");
    for dispatch in ALL {
        let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
        for round in 0..200 {
            let zero = File::open("/dev/zero").unwrap();
            let mut future = aio.alloc().init_rw(zero, Read, [1; 8], 0).into_future();
            let done = match poll_once(&mut future) {
                Poll::Ready(done) => done,
                Poll::Pending if without_ring => block_on(future),
                Poll::Pending => panic!("{dispatch:?}, round {round}: not ready"),
            };
            assert_eq!(done.unwrap().buf, [0; 8]);
        }
    }
}

/// A clone that panics leaves no waker and no other harm: the owner of the future has the panic, and the
/// request goes on.
#[test]
fn a_future_dropped_by_its_wakers_panic_leaves_its_request_to_the_engine() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::{RawWaker, RawWakerVTable};
    const VTABLE: RawWakerVTable = RawWakerVTable::new(
        |_| resume_unwind(Box::new(OnPurpose)),
        |_| {},
        |_| {},
        |_| {},
    );
    need_root!();
    let _watchdog = Watchdog::new("panicking clone");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
        let mut case = Case::new(&aio, &fs, Stage::Ready, false);
        let mut owner = case.owner.take().unwrap();
        // SAFETY: the functions do nothing with the pointer.
        let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &VTABLE)) };
        assert!(catch_unwind(AssertUnwindSafe(|| owner.poll(&waker))).is_err());
        case.gate.wait_for(1);
        drop(owner);
        assert!(!is_alone(&case.alive));
        case.gate.release();
        aio.drain().unwrap();
        assert!(is_alone(&case.alive));
        assert_eq!(aio.stats().completed, 1);
    }
}
