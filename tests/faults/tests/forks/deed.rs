//! What the child does, in the middle of the user code that forked; and how it tells.

use std::fmt::Debug;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kiocb::op::{Read, Write};
use kiocb::{Aio, AioError, Dispatch, Iocb, PollFlags, SubmitError};

use crate::kit::{block_on, unavailable};
use crate::tools::Tools;
use crate::world::World;

/// The exit code of a child to which everything happened as it should.
pub(crate) const GOOD: i32 = 10;
/// Of one to which something else happened: it has said what.
const BAD: i32 = 99;
/// Longer than any cell may take.
const LONG: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Returns,
    Submits,
    Batches,
    Borrows,
    Waits,
    WaitsWithDeadline,
    Awaits,
    AsksWhatIsThere,
    Drops,
    Drains,
    ShutsDown,
    Polls,
    Looks,
    UsesTheGlobal,
    BuildsItsOwn,
    UsesThePool,
    UsesTheGroup,
    Exits,
}

impl Deed {
    /// All that end the child on the spot.
    pub(crate) const AT_ONCE: [Deed; 17] = [
        Deed::Submits,
        Deed::Batches,
        Deed::Borrows,
        Deed::Waits,
        Deed::WaitsWithDeadline,
        Deed::Awaits,
        Deed::AsksWhatIsThere,
        Deed::Drops,
        Deed::Drains,
        Deed::ShutsDown,
        Deed::Polls,
        Deed::Looks,
        Deed::UsesTheGlobal,
        Deed::BuildsItsOwn,
        Deed::UsesThePool,
        Deed::UsesTheGroup,
        Deed::Exits,
    ];

    /// In the child.
    pub(crate) fn act(self, world: &World) {
        if self != Deed::Returns {
            end(|| self.carry_out(world));
        }
    }

    fn carry_out(self, world: &World) {
        let aio = world.aio();
        // SAFETY (of all reads): the parent's values are in the parent's memory; these are the child's
        // copies, each used once, as the child ends here.
        match self {
            Deed::Returns => {}
            Deed::Submits => submits(world),
            Deed::Batches => batches(world),
            Deed::Borrows => borrows(world, aio),
            Deed::Waits => {
                hears(
                    world.record(CHILDS).wait().map_err(SubmitError::into_parts),
                    whole,
                );
                hears(
                    world
                        .record(CHILDS)
                        .start()
                        .map_err(SubmitError::into_parts),
                    whole,
                );
                let done = copy(&world.held).wait();
                is_forked_or(done.result, PollFlags::IN);
                drop(done.file);
            }
            Deed::WaitsWithDeadline => {
                let done = copy(&world.held).wait_timeout(LONG).unwrap();
                is_forked_or(done.result, PollFlags::IN);
            }
            Deed::Awaits => {
                let request = world.record(CHILDS).into_future();
                hears(block_on(request).map_err(SubmitError::into_parts), whole);
                is_forked_or(block_on(copy(&world.held)).result, PollFlags::IN);
            }
            Deed::AsksWhatIsThere => {
                let ready = copy(&world.ready);
                assert!(ready.is_complete());
                let done = ready.wait();
                assert_eq!(done.result.unwrap(), 1);
                assert!(!copy(&world.held).cancel());
            }
            Deed::Drops => {
                drop(copy(&world.held));
                drop(copy(&world.ready));
                drop(world.record(CHILDS));
                drop(copy(&world.aio));
            }
            Deed::Drains => {
                is_forked(&aio.drain().unwrap_err());
                is_forked(&aio.drain_timeout(LONG).unwrap_err());
            }
            Deed::ShutsDown => is_forked(&aio.shutdown(LONG).unwrap_err()),
            Deed::Polls => {
                is_forked(&aio.poll(1, usize::MAX, None).unwrap_err());
                is_forked(&aio.poll(0, 1, Some(LONG)).unwrap_err());
            }
            Deed::Looks => {
                let _ = aio.stats();
                assert!(!format!("{aio:?} {:?}", world.held).is_empty());
            }
            Deed::UsesTheGlobal => uses_the_global(),
            Deed::BuildsItsOwn => builds_its_own(world),
            Deed::UsesThePool => tools(world).use_pool(),
            Deed::UsesTheGroup => tools(world).use_group(),
            Deed::Exits => std::process::exit(GOOD),
        }
    }
}

fn tools(world: &World) -> Tools {
    copy(&world.tools)
}

/// The child's record, which must not come into the parent's file.
const CHILDS: u8 = 200;

fn copy<T>(value: &Option<T>) -> T {
    // SAFETY: the child's own copy of what the parent has; the original is never used or dropped here, as the
    // child ends by `_exit`.
    unsafe { ptr::read(value) }.expect("the parent had it at the fork")
}

fn whole<T>(_request: T) {}

/// The outcome is the refusal, with the request.
#[track_caller]
pub(crate) fn hears<T, R>(outcome: Result<T, (io::Error, R)>, whole: impl FnOnce(R)) {
    let Err((error, request)) = outcome else {
        panic!("accepted in a child");
    };
    is_forked(&error);
    whole(request);
}

#[track_caller]
pub(crate) fn is_forked(error: &io::Error) {
    assert_eq!(unavailable(error), Some(AioError::Forked), "{error:?}");
}

fn submits(world: &World) {
    let request = world.record(CHILDS).init_callback(|_| unreachable!());
    hears(request.submit().map_err(SubmitError::into_parts), whole);
    let sync = world.aio().alloc().init_fdsync(Arc::clone(&world.file));
    let sync = sync.init_callback(|_| unreachable!());
    hears(sync.submit().map_err(SubmitError::into_parts), whole);
}

fn batches(world: &World) {
    let mut batch = world.aio().batch();
    let ticket = batch.push_callback(world.record(CHILDS).init_callback(|_| unreachable!()));
    let handle = batch.push(world.record(CHILDS));
    let mut refused = batch.submit();
    is_forked(refused.take(ticket).unwrap().error());
    assert!(handle.wait().result.is_err());
    let mut dropped = world.aio().batch();
    let handle = dropped.push(world.record(CHILDS));
    drop(dropped);
    assert!(handle.wait().result.is_err());
}

fn borrows(world: &World, aio: &Aio) {
    is_forked(&aio.write_at(&*world.file, &[CHILDS], 0).unwrap_err());
    is_forked(&aio.read_at(&*world.file, &mut [0], 0).unwrap_err());
    let results = aio.write_many(&*world.file, [(&[CHILDS][..], 0), (&[CHILDS][..], 1)]);
    assert_eq!(results.len(), 2);
    results
        .iter()
        .for_each(|result| is_forked(result.as_ref().unwrap_err()));
    let outcome = aio.scope(|scope| scope.write_at(&world.file, &[CHILDS], 0).wait());
    is_forked(&outcome.unwrap_err());
}

/// The parent has not made it, so this is the child's own.
fn uses_the_global() {
    let shared = Aio::global().unwrap();
    works(&shared);
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let done = Iocb::alloc().init_rw(zero, Read, [1; 3], 0).wait().unwrap();
    assert_eq!((done.result.unwrap(), done.buf), (3, [0; 3]));
}

fn builds_its_own(world: &World) {
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let own = Aio::builder().depth(8).dispatch(dispatch).build().unwrap();
        works(&own);
        is_forked(&world.record(CHILDS).wait().unwrap_err().into());
        own.shutdown(LONG).unwrap();
        drop(own);
    }
}

fn works(aio: &Aio) {
    let file = Arc::new(tempfile::tempfile().unwrap());
    let calls = Arc::new(AtomicU32::new(0));
    for number in 0..20 {
        let calls = Arc::clone(&calls);
        let request = aio.alloc().init_rw(Arc::clone(&file), Write, [7], number);
        let request = request.init_callback(move |done| {
            calls.fetch_add(u32::from(done.result.is_ok()), Ordering::SeqCst);
        });
        request.submit().unwrap();
    }
    aio.drain().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 20);
    let done = aio
        .alloc()
        .init_rw(file, Read, vec![0; 32], 0)
        .wait()
        .unwrap();
    assert_eq!(done.result.unwrap(), 20);
}

/// The child's end: GOOD, unless the body panics.
pub(crate) fn end(body: impl FnOnce()) -> ! {
    let passed = catch_unwind(AssertUnwindSafe(body));
    let code = if passed.is_ok() { GOOD } else { BAD };
    // SAFETY: ends this process without running what belongs to the parent.
    unsafe { libc::_exit(code) }
}

/// For [`call`](crate::call): what came is the refusal, or the result where it was there before the fork.
#[track_caller]
pub(crate) fn is_forked_or<T: Debug + PartialEq>(result: io::Result<T>, before: T) {
    match result {
        Ok(value) => assert_eq!(value, before),
        Err(error) => is_forked(&error),
    }
}
