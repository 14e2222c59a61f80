//! In the steady state nothing is allocated. Alone in its program: the allocator counts for all threads.

#[path = "../examples/iobench/alloc_count.rs"]
#[allow(dead_code, reason = "no thread is exempt here")]
mod alloc_count;
mod common;

use common::*;
use kiocb::op::Read;
use kiocb::stream::StreamOptions;
use kiocb::{Aio, AlignedBuf, DirectFile, Dispatch, RwFlags, SyncGroup, SyncKind};
use std::cell::Cell;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

#[global_allocator]
static ALLOCATOR: alloc_count::Counting = alloc_count::Counting;

fn allocations() -> usize {
    usize::try_from(alloc_count::total()).expect("fits")
}

/// Everything that one request hands to the next.
struct Chain {
    aio: Aio,
    left: usize,
    meter: Option<Meter>,
    round: Arc<Round>,
}

/// Chains that run at the same time.
#[derive(Default)]
struct Round {
    all_started: AtomicBool,
    ended: AtomicUsize,
    over: Latch,
    measured: AtomicUsize,
}

/// One of the chains has it: counts while it does the second half of its requests.
struct Meter {
    half: usize,
    before: usize,
}

impl Chain {
    /// Reads, and reads again in the callback.
    fn go(mut self, file: Arc<File>, buf: AlignedBuf) {
        let request = self.aio.alloc().init_rw(file, Read, buf, 0);
        let submitted = request.init_callback(move |done| {
            assert_eq!(done.result.unwrap(), 4096);
            self.count();
            if self.left > 0 {
                self.go(done.file, done.buf);
            } else {
                self.end();
            }
        });
        submitted.submit().unwrap();
    }

    fn count(&mut self) {
        if !self.round.all_started.load(Ordering::SeqCst) {
            return;
        }
        self.left -= 1;
        if let Some(meter) = &mut self.meter
            && self.left == meter.half
        {
            meter.before = allocations();
        }
    }

    fn end(self) {
        if let Some(meter) = &self.meter {
            let count = allocations() - meter.before;
            self.round.measured.store(count, Ordering::SeqCst);
        }
        self.round.ended.fetch_add(1, Ordering::SeqCst);
        self.round.over.open();
    }
}

/// How many allocations `count` requests cost, in so many chains at once, after as many to warm up.
fn allocations_of_callbacks(aio: &Aio, chains: usize, count: usize) -> usize {
    let file = Arc::new(File::open("/dev/zero").unwrap());
    let round = Arc::new(Round::default());
    let is_manual = aio.poll(0, 0, None).is_ok();
    let half = count / chains;
    for index in 0..chains {
        let chain = Chain {
            aio: aio.clone(),
            left: 2 * half,
            meter: (index == 0).then_some(Meter { half, before: 0 }),
            round: round.clone(),
        };
        chain.go(file.clone(), AlignedBuf::zeroed(4096));
    }
    round.all_started.store(true, Ordering::SeqCst);
    while is_manual && round.ended.load(Ordering::SeqCst) < chains {
        aio.poll(1, usize::MAX, None).unwrap();
    }
    round.over.wait();
    aio.drain().unwrap();
    round.measured.load(Ordering::SeqCst)
}

/// One thread submits, another completes and drops.
fn allocations_of_a_stream(aio: &Aio, count: usize) -> usize {
    let file = Arc::new(File::open("/dev/zero").unwrap());
    let (give, take) = mpsc::sync_channel::<AlignedBuf>(64);
    for _ in 0..64 {
        give.send(AlignedBuf::zeroed(4096)).unwrap();
    }
    let mut before = 0;
    for index in 0..2 * count {
        if index == count {
            before = allocations();
        }
        let give = give.clone();
        let request = aio
            .alloc()
            .init_rw(file.clone(), Read, take.recv().unwrap(), 0);
        request
            .init_callback(move |done| give.send(done.buf).unwrap())
            .submit()
            .unwrap();
    }
    aio.drain().unwrap();
    allocations() - before
}

fn allocations_of_waits(aio: &Aio, count: usize) -> usize {
    let mut file = Arc::new(File::open("/dev/zero").unwrap());
    let mut buf = AlignedBuf::zeroed(4096);
    let mut before = 0;
    for index in 0..2 * count {
        if index == count {
            before = allocations();
        }
        let done = aio.alloc().init_rw(file, Read, buf, 0).wait().unwrap();
        (file, buf) = (done.file, done.buf);
    }
    allocations() - before
}

/// A queue of mixed requests in a closed loop: each completion is the next request. Its tags fill what is
/// left of a cell.
fn allocations_of_a_queue(aio: &Aio, under_way: usize, count: usize) -> usize {
    let (file, queue) = (Arc::new(File::open("/dev/zero").unwrap()), aio.queue());
    let read = |file, buf| aio.alloc().init_rw(file, Read, buf, 0).mixed();
    for _ in 0..under_way {
        queue
            .push(read(file.clone(), vec![1; 512]), [7u64; 4])
            .unwrap();
    }
    let (mut before, mut done_so_far) = (0, 0);
    while !queue.is_empty() {
        for (tag, done) in queue.wait(1, None).unwrap() {
            done_so_far += 1;
            if done_so_far == count {
                before = allocations();
            }
            if done_so_far == 2 * count {
                before = allocations() - before;
            }
            if done_so_far < 2 * count {
                let buf = done.buf.one().unwrap();
                queue.push(read(done.file, buf), tag).unwrap();
            }
        }
    }
    before
}

/// Callbacks and tags of a context that is bound to its thread: what is bound is no larger than a closure may
/// be.
fn allocations_of_a_local_context(count: usize) -> usize {
    let aio = Aio::builder().depth(4).build_local().unwrap();
    let (file, sum) = (
        Arc::new(File::open("/dev/zero").unwrap()),
        Rc::new(Cell::new(0)),
    );
    let queue = aio.queue();
    let mut buf = vec![1; 512];
    let landed = Rc::new(Cell::new(None));
    let mut before = 0;
    for index in 0..2 * count {
        if index == count {
            before = allocations();
        }
        let read = aio.alloc().init_rw(file.clone(), Read, buf, 0);
        let (sum, back) = (sum.clone(), landed.clone());
        let padding = [index; 3];
        aio.submit(read, move |done| {
            sum.set(sum.get() + padding[0] + done.result.unwrap_or(0));
            back.set(Some(done.buf));
        })
        .unwrap();
        aio.run_once(None).unwrap();
        let read = aio
            .alloc()
            .init_rw(file.clone(), Read, landed.take().unwrap(), 0);
        queue.push(read, Rc::clone(&landed)).unwrap();
        buf = queue.wait(1, None).unwrap().next().unwrap().1.buf;
    }
    allocations() - before
}

/// Calls over borrowed memory: one at a time, in scopes, and scopes of many.
fn allocations_of_borrowed_calls(aio: &Aio, count: usize) -> usize {
    let (zeroes, null) = (File::open("/dev/zero").unwrap(), null());
    let (mut pages, mut results) = ([[1; 512]; 32], Vec::new());
    let mut before = 0;
    for index in 0..2 * count {
        if index == count {
            before = allocations();
        }
        aio.read_exact_at(&zeroes, &mut pages[0], 0).unwrap();
        aio.with(RwFlags::DSYNC)
            .write_all_at(&null, &pages[0], 0)
            .unwrap();
        aio.scope(|s| {
            let (first, rest) = pages.split_at_mut(1);
            let reads = [
                s.read_exact_at(&zeroes, &mut first[0], 0),
                s.read_at(&zeroes, &mut rest[0], 0),
            ];
            assert!(reads.into_iter().all(|read| read.wait().is_ok()));
        });
        let pieces = pages.iter_mut().map(|page| &mut page[..]).zip(0..);
        aio.read_many_into(&zeroes, pieces, &mut results);
        assert!(results.iter().all(Result::is_ok));
    }
    allocations() - before
}

/// For each of so many: a barrier with a callback, one with a handle; a write and a barrier, a commit.
fn allocations_of_barriers(aio: &Aio, count: usize) -> [usize; 4] {
    let group = SyncGroup::new(aio, scratch());
    let (send, receive) = mpsc::sync_channel(1);
    let callback = || {
        let send = send.clone();
        move |result: std::io::Result<()>| send.send(result).unwrap()
    };
    let measure = |what: &mut dyn FnMut()| {
        (0..count).for_each(|_| what());
        let before = allocations();
        (0..count).for_each(|_| what());
        allocations() - before
    };
    [
        measure(&mut || {
            group.barrier(SyncKind::Data, callback()).unwrap();
            receive.recv().unwrap().unwrap();
        }),
        measure(&mut || group.sync(SyncKind::Data).wait().unwrap()),
        measure(&mut || {
            group.write([7; 64], 0, |done| drop(done.result)).unwrap();
            group.barrier(SyncKind::Data, callback()).unwrap();
            receive.recv().unwrap().unwrap();
        }),
        measure(&mut || assert_eq!(group.commit([7; 64], 0).wait().unwrap(), [7; 64])),
    ]
}

/// For so many blocks written and read back, as streams, after as many to warm up.
fn allocations_of_file_streams(aio: &Aio, count: usize) -> [usize; 2] {
    let mut file = DirectFile::options();
    let place = disk_dir();
    let path = place.path().join("file");
    let file = file
        .read(true)
        .write(true)
        .create(true)
        .open_or_buffered(&path);
    let (file, options) = (
        Arc::new(file.unwrap()),
        StreamOptions::new().depth(4).block(4096),
    );
    let measure = |what: &mut dyn FnMut()| {
        (0..count).for_each(|_| what());
        let before = allocations();
        (0..count).for_each(|_| what());
        allocations() - before
    };
    let mut writer = options.writer(aio, Arc::clone(&file)).unwrap();
    let written = measure(&mut || {
        writer.write_all(&[7; 4096]).unwrap();
        writer.flush().unwrap();
    });
    writer.finish().unwrap();
    let (mut reader, mut buf) = (options.reader(aio, file).unwrap(), [0; 4096]);
    let read = measure(&mut || reader.read_exact(&mut buf).unwrap());
    [written, read]
}

/// What is allocated for each request is allocated every time. What a thread needs when it first blocks, the
/// test's own included, is not.
fn least_of_three(mut count: impl FnMut() -> usize) -> usize {
    (0..3).map(|_| count()).min().unwrap_or(0)
}

/// A handle costs no more than a callback.
fn handles_allocate_no_more_than_callbacks() {
    let aio = aio();
    let counts = || allocations_of_barriers(&aio, 100);
    let all: Vec<_> = (0..3).map(|_| counts()).collect();
    let least = |which: usize| all.iter().map(|counts| counts[which]).min().unwrap();
    let [barrier, sync, write, commit] = [0, 1, 2, 3].map(least);
    assert!(sync <= barrier, "{sync} and {barrier} allocations");
    assert!(commit <= write, "{commit} and {write} allocations");
}

/// One test, because another one's allocations would be counted too.
#[test]
fn nothing_is_allocated_in_the_steady_state() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        for depth in [4, 128] {
            let aio = build(Aio::builder().depth(depth).dispatch(dispatch));
            for chains in [1, 32] {
                let count = least_of_three(|| allocations_of_callbacks(&aio, chains, 8_000));
                assert_eq!(count, 0, "{dispatch:?}, depth {depth}, {chains} chains");
            }
            let count = least_of_three(|| allocations_of_waits(&aio, 2000));
            assert_eq!(count, 0, "waits, {dispatch:?}, depth {depth}");
            for under_way in [1, 32, 200] {
                let count = least_of_three(|| allocations_of_a_queue(&aio, under_way, 4000));
                assert_eq!(
                    count, 0,
                    "a queue, {dispatch:?}, {depth}, {under_way} requests"
                );
            }
            let count = least_of_three(|| allocations_of_borrowed_calls(&aio, 500));
            assert_eq!(count, 0, "borrowed memory, {dispatch:?}, depth {depth}");
            let counts = [0; 3].map(|_| allocations_of_file_streams(&aio, 200));
            for which in [0, 1] {
                let count = counts.iter().map(|counts| counts[which]).min();
                assert_eq!(count, Some(0), "streams, {dispatch:?}, depth {depth}");
            }
            if dispatch != Dispatch::Manual {
                let count = allocations_of_a_stream(&aio, 20_000);
                // The two threads may trade more cells than ever before at any moment, but not for every
                // request.
                assert!(
                    count <= 200,
                    "{count} allocations, {dispatch:?}, depth {depth}"
                );
            }
        }
    }
    let count = least_of_three(|| allocations_of_a_local_context(2000));
    assert_eq!(count, 0, "a local context");
    handles_allocate_no_more_than_callbacks();
}
