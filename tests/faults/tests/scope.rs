//! A scope is not left while the kernel has what it borrowed: shown with reads that a file server holds.

mod kit;

use std::fs::File;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiocb::{Aio, AlignedBuf, Dispatch, Scope, ScopedIo};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Gate, SlowFs, Watchdog, need, need_root};
use kit::*;

const ALL: [Dispatch; 3] = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
const FRAMES: usize = 8;

fn of(dispatch: Dispatch, depth: u32) -> Aio {
    Aio::builder()
        .depth(depth)
        .dispatch(dispatch)
        .build()
        .unwrap()
}

/// How the closure ends once its reads are made.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Nobody waits for anything.
    Return,
    /// The handles are forgotten, and so is the closure's idea of them.
    Forget,
    /// Before anything was submitted.
    Panic,
    /// While all is in flight.
    PanicInFlight,
    /// `?` on the first result, which is an error.
    ErrorInTheMiddle,
}

const WAYS: [Way; 5] = [
    Way::Return,
    Way::Forget,
    Way::Panic,
    Way::PanicInFlight,
    Way::ErrorInTheMiddle,
];

/// What the closure does with its handles before it ends.
fn leave<'scope>(scope: &'scope Scope<'scope, '_>, reads: Vec<ScopedIo<'scope>>, way: Way) {
    match way {
        Way::Return => {}
        // Each of them, and not the memory of the list.
        Way::Forget => {
            let _ = reads.into_iter().map(ManuallyDrop::new).last();
        }
        Way::Panic => resume_unwind(Box::new("on purpose")),
        Way::PanicInFlight => {
            scope.submit();
            resume_unwind(Box::new("on purpose"))
        }
        Way::ErrorInTheMiddle => {
            let first = reads.into_iter().next().map(ScopedIo::wait);
            assert_eq!(errno(&first.unwrap()), Some(libc::EIO));
        }
    }
}

/// Reads blocks into frames of its own, and ends the scope in that way. Says that it is outside, and what is
/// in the frames then.
fn read_frames(aio: &Aio, file: &File, way: Way, outside: &AtomicBool) -> Vec<u8> {
    let mut frames = AlignedBuf::zeroed(FRAMES * BLOCK);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        aio.scope(|s| {
            let pages = frames.chunks_mut(BLOCK).zip((0..).step_by(BLOCK));
            let reads = pages
                .map(|(frame, at)| s.read_at(file, frame, at))
                .collect();
            leave(s, reads, way);
        });
    }));
    outside.store(true, Ordering::SeqCst);
    assert_eq!(
        outcome.is_err(),
        matches!(way, Way::Panic | Way::PanicInFlight)
    );
    frames.to_vec()
}

/// Lets all but one go, sees that the thread is still inside, and then lets the last go.
fn let_go_one_by_one(gate: &Gate, outside: &AtomicBool, depth: usize) {
    for left in (1..=FRAMES).rev() {
        gate.wait_for(left.min(depth));
        assert!(
            !outside.load(Ordering::SeqCst),
            "left with {left} in flight"
        );
        gate.let_through(left.min(depth) - 1);
    }
}

#[test]
fn no_way_out_of_a_scope_leaves_memory_to_the_kernel() {
    need_root!();
    let _watchdog = Watchdog::new("ways out of a scope");
    // All in flight at once, and most of them queued.
    for (dispatch, depth) in ALL
        .into_iter()
        .flat_map(|dispatch| [(dispatch, 16), (dispatch, 2)])
    {
        for way in WAYS {
            let fs = need!(SlowFs::new());
            let file = fs.file("f", blocks(FRAMES as u8 + 1));
            let (gate, aio) = (fs.hold_reads(0..u64::MAX), of(dispatch, depth));
            let outside = Arc::new(AtomicBool::new(false));
            let fails = matches!(way, Way::ErrorInTheMiddle);
            let reader = Worker::start({
                let (aio, outside) = (aio.clone(), Arc::clone(&outside));
                move || read_frames(&aio, &file, way, &outside)
            });
            let depth = depth as usize;
            if fails {
                gate.wait_for(FRAMES.min(depth));
                gate.fail_one(0, libc::EIO);
                for left in (1..FRAMES).rev() {
                    gate.wait_for(left.min(depth));
                    assert!(
                        !outside.load(Ordering::SeqCst),
                        "left with {left} in flight"
                    );
                    gate.let_through(0);
                }
            } else {
                let_go_one_by_one(&gate, &outside, depth);
            }
            let frames = reader.join();
            let first = if fails { BLOCK } else { 0 };
            assert!(frames[first..] == blocks(FRAMES as u8)[first..], "{way:?}");
            let stats = aio.stats();
            assert_eq!(
                (stats.accepted, stats.completed),
                (FRAMES as u64, FRAMES as u64)
            );
        }
    }
}

/// Memory that is given away right after the scope, and would be written by a read that is late.
#[test]
fn what_comes_to_live_where_the_frames_were_is_not_touched() {
    need_root!();
    let _watchdog = Watchdog::new("memory after a scope");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let file = fs.file("f", blocks(4));
        let (gate, aio) = (fs.hold_reads(0..u64::MAX), of(dispatch, 8));
        let reader = Worker::start(move || {
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                let mut frames = vec![[0; BLOCK]; 4];
                aio.scope(|s| {
                    for (frame, at) in frames.iter_mut().zip((0..).step_by(BLOCK)) {
                        let _ = s.read_at(&file, frame, at);
                    }
                    s.submit();
                    resume_unwind(Box::new("on purpose"))
                })
            }));
            assert!(panicked.is_err());
            let strangers = vec![[0xAA; BLOCK]; 64];
            let _ = aio.drain();
            strangers.concat()
        });
        gate.wait_for(4);
        gate.release();
        assert!(reader.join().iter().all(|&byte| byte == 0xAA));
    }
}

#[test]
fn a_scope_in_a_callback_holds_until_its_reads_are_done() {
    need_root!();
    let _watchdog = Watchdog::new("scope in a callback");
    let fs = need!(SlowFs::new());
    let file = Arc::new(fs.file("f", blocks(3)));
    // Under Anywhere it might run inside `submit`, on the thread that is to open the gate.
    let (gate, aio) = (fs.hold_reads(B..3 * B), of(Dispatch::Thread, 8));
    let (tell, told) = std::sync::mpsc::channel();
    submit_in_a_callback(&aio, &file, 0, move |aio, file| {
        let mut frames = AlignedBuf::zeroed(2 * BLOCK);
        let pieces = frames.chunks_mut(BLOCK).zip([B, 2 * B]);
        let results = aio.read_many(file, pieces);
        assert!(results.into_iter().all(|result| result.unwrap() == BLOCK));
        tell.send(frames.to_vec()).unwrap();
    });
    gate.wait_for(2);
    gate.let_through(1);
    // Others are served meanwhile, by threads of their own.
    let request = read(&aio, &file, 0);
    verify(&Worker::start(move || request.wait().unwrap()).join(), 0);
    assert!(told.try_recv().is_err());
    gate.release();
    assert!(receive(&told) == blocks(3)[BLOCK..]);
    aio.drain().unwrap();
}

#[test]
fn sixty_four_pages_are_in_flight_at_once_by_one_call() {
    need_root!();
    let _watchdog = Watchdog::new("64 pages");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let file = fs.file("f", blocks(64));
        let (gate, aio) = (fs.hold_reads(0..u64::MAX), of(dispatch, 64));
        let reader = Worker::start({
            let aio = aio.clone();
            move || {
                let mut frames = AlignedBuf::zeroed(64 * BLOCK);
                let pages = frames.chunks_mut(BLOCK).zip((0..).step_by(BLOCK));
                let results = aio.read_many(&file, pages);
                assert!(results.into_iter().all(|result| result.unwrap() == BLOCK));
                frames.to_vec()
            }
        });
        gate.wait_for(64);
        // All were seen before the call was over.
        wait_until("it was one call", || aio.stats().submits == 1);
        assert_eq!(aio.stats().in_flight, 64);
        gate.release();
        assert!(reader.join() == blocks(64));
    }
}

#[test]
fn a_scope_ends_when_the_server_dies() {
    need_root!();
    let _watchdog = Watchdog::new("scope over a dead server");
    for dispatch in ALL {
        let fs = need!(SlowFs::new());
        let file = fs.file("f", blocks(4));
        fs.on_any().never();
        let aio = of(dispatch, 2);
        let reader = Worker::start(move || {
            let mut frames = AlignedBuf::zeroed(4 * BLOCK);
            let pages = frames.chunks_mut(BLOCK).zip((0..).step_by(BLOCK));
            let results = aio.read_many(&file, pages);
            results
                .iter()
                .map(|result| errno(result).unwrap())
                .collect::<Vec<_>>()
        });
        fs.wait_for_seen(2);
        fs.abort();
        let errnos = reader.join();
        assert_eq!(errnos[..2], [libc::ECONNABORTED; 2]);
        assert_eq!(errnos[2..], [libc::ENOTCONN; 2]);
    }
}
