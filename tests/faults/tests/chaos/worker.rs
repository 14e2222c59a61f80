//! A thread's part: one thing after the other, of all that can be asked of a context.

use super::kit::Random;
use super::memory::{Memory, NastyWaker};
use super::pages::Lease;
use super::world::{DEED, DEEDS, Shared, is_meant, mischief};
use kiocb::op::{PollReady, Read, ReadV, Rw, Write, WriteV};
use kiocb::{AlignedBuf, Completion, Iocb, Pending, PollFlags, SyncKind};
use kiocb_faults::raw::BLOCK;
use std::fs::File;
use std::io::{self, PipeWriter, Write as _};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Polls until it answers. Under Manual another thread polls the context.
pub(super) fn block_on<F: Future + Unpin>(world: &Shared, mut future: F) -> F::Output {
    loop {
        let nasty = Arc::new(NastyWaker {
            thread: thread::current(),
            woken: AtomicBool::new(false),
            world: Arc::clone(world),
        });
        let waker = Waker::from(Arc::clone(&nasty));
        let polled = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        drop(waker); // while `polled` is a value of ours: should this panic, it is dropped
        if let std::task::Poll::Ready(output) = polled {
            drop(nasty);
            return output;
        }
        while !nasty.woken.load(Ordering::SeqCst) {
            thread::park();
        }
    }
}

pub(super) type Reading = Iocb<Rw<Arc<File>, Read, Memory>>;
pub(super) type Writing = Iocb<Rw<Arc<File>, Write, Memory>>;
pub(super) type Done = Completion<Arc<File>, Memory>;

/// A thread's part.
pub(super) struct Worker {
    pub(super) world: Shared,
    pub(super) dice: Random,
    pub(super) waits: Vec<(Pending<PollReady<OwnedFd>>, PipeWriter)>,
}

impl Worker {
    fn lease(&mut self, write: bool) -> Option<Lease> {
        let store = &self.world.stores[self.dice.below(self.world.stores.len())];
        Lease::take(store, &mut self.dice, write)
    }

    fn reading(&mut self) -> Option<Reading> {
        let lease = self.lease(false)?;
        let file = Arc::clone(&lease.store.file);
        let memory = Memory::new(&self.world, lease, false);
        let offset = memory.offset();
        Some(self.world.aio.alloc().init_rw(file, Read, memory, offset))
    }

    fn writing(&mut self) -> Option<Writing> {
        let lease = self.lease(true)?;
        let file = Arc::clone(&lease.store.file);
        let memory = Memory::new(&self.world, lease, true);
        let offset = memory.offset();
        Some(self.world.aio.alloc().init_rw(file, Write, memory, offset))
    }

    /// One thing, or nothing where a page is taken.
    fn act(&mut self) -> Option<()> {
        let world = Arc::clone(&self.world);
        let look = |what: &'static str| move |done: Done| done.buf.check(&done.result, what);
        DEED.set(self.dice.below(DEEDS));
        match DEED.get() {
            0 => world.accept(
                self.reading()?
                    .init_callback(world.callback(look("read")))
                    .submit()
                    .map_err(drop),
            ),
            1 => world.accept(
                self.writing()?
                    .init_callback(world.callback(look("write")))
                    .submit()
                    .map_err(drop),
            ),
            2 => look("wait")(self.reading()?.wait().map_err(drop).expect("taken")),
            3 => look("wait")(self.writing()?.wait().map_err(drop).expect("taken")),
            4 => look("handle")(self.reading()?.start().map_err(drop).expect("taken").wait()),
            5 => self.patiently()?,
            6 => look("await")(
                block_on(&world, self.reading()?.into_future())
                    .map_err(drop)
                    .expect("taken"),
            ),
            7 => look("await")(
                block_on(&world, self.writing()?.into_future())
                    .map_err(drop)
                    .expect("taken"),
            ),
            8 => drop(self.reading()?.start()),
            9 => drop(self.writing()?.start()),
            10 => self.batch(),
            11 => self.scope(),
            12 => self.borrow()?,
            13 => self.readiness(),
            14 => self.barrier(),
            15 => {
                let read = self.reading()?.read_exact().nowait_or_offload();
                world.accept(
                    read.init_callback(world.callback(look("exact")))
                        .submit()
                        .map_err(drop),
                );
            }
            16 => {
                let write = self.writing()?.write_all().nowait_or_offload();
                look("all")(write.wait().map_err(drop).expect("taken"));
            }
            17 => self.vectored()?,
            18 => self.abandon_with_a_waker()?,
            _ => mischief(&world),
        }
        Some(())
    }

    fn patiently(&mut self) -> Option<()> {
        let mut handle = self.writing()?.start().map_err(drop).expect("taken");
        let done = loop {
            match handle.wait_timeout(Duration::from_micros(100)) {
                Ok(done) => break done,
                Err(again) => handle = again,
            }
        };
        done.buf.check(&done.result, "patience");
        Some(())
    }

    fn batch(&mut self) {
        let world = Arc::clone(&self.world);
        let (mut batch, mut handles, mut pushed) = (world.aio.batch(), Vec::new(), 0);
        for _ in 0..self.dice.below(12) {
            if let Some(read) = self.reading() {
                handles.push(batch.push(read));
            }
            if let Some(write) = self.writing() {
                let look = |done: Done| done.buf.check(&done.result, "batch");
                let _ = batch.push_callback(write.init_callback(world.callback(look)));
                pushed += 1;
            }
        }
        assert!(batch.submit().is_empty());
        world.accepted.fetch_add(pushed, Ordering::SeqCst);
        for handle in handles {
            let done = handle.wait();
            done.buf.check(&done.result, "batch");
        }
    }

    fn scope(&mut self) {
        let leases: Vec<_> = (0..self.dice.below(12))
            .filter_map(|_| self.lease(false))
            .collect();
        let mut memory: Vec<_> = leases.iter().map(|_| AlignedBuf::zeroed(BLOCK)).collect();
        let forget = self.dice.below(2) == 0;
        self.world.aio.scope(|s| {
            for (lease, memory) in leases.iter().zip(&mut memory) {
                let read = s.read_at(&lease.store.file, memory, lease.offset());
                if !forget {
                    assert_eq!(read.wait().expect("read"), BLOCK);
                }
            }
        });
        for (lease, memory) in leases.iter().zip(&memory) {
            self.world.hear(|| lease.check(&Ok(BLOCK), memory, "scope"));
        }
    }

    fn borrow(&mut self) -> Option<()> {
        let lease = self.lease(true)?;
        let memory = AlignedBuf::from(&lease.bytes()[..]);
        let written = self
            .world
            .aio
            .write_at(&lease.store.file, &memory, lease.offset());
        let mut again = AlignedBuf::zeroed(BLOCK);
        let read = self
            .world
            .aio
            .read_at(&lease.store.file, &mut again, lease.offset());
        self.world
            .hear(|| lease.check(&written, &memory, "write_at"));
        self.world.hear(|| lease.check(&read, &again, "read_at"));
        Some(())
    }

    fn vectored(&mut self) -> Option<()> {
        let lease = self.lease(true)?;
        let (bytes, file) = (lease.bytes(), Arc::clone(&lease.store.file));
        let halves = bytes
            .chunks(BLOCK / 2)
            .map(AlignedBuf::from)
            .collect::<Vec<_>>();
        let write =
            self.world
                .aio
                .alloc()
                .init_rw(Arc::clone(&file), WriteV, halves, lease.offset());
        let done = write.wait().expect("taken");
        assert_eq!(done.result.expect("written"), BLOCK);
        let empty = vec![AlignedBuf::zeroed(BLOCK / 2), AlignedBuf::zeroed(BLOCK / 2)];
        let read = self
            .world
            .aio
            .alloc()
            .init_rw(file, ReadV, empty, lease.offset());
        let done = read.start().expect("taken").wait();
        let all: Vec<u8> = done.buf.iter().flat_map(|half| half.to_vec()).collect();
        self.world
            .hear(|| lease.check(&done.result, &all, "vectored"));
        Some(())
    }

    /// A handle that has been polled, and is dropped while it may be woken.
    fn abandon_with_a_waker(&mut self) -> Option<()> {
        let mut handle = self.writing()?.start().map_err(drop).expect("taken");
        let nasty = NastyWaker {
            thread: thread::current(),
            woken: AtomicBool::new(false),
            world: Arc::clone(&self.world),
        };
        let waker = Waker::from(Arc::new(nasty));
        let _ = std::pin::Pin::new(&mut handle).poll(&mut Context::from_waker(&waker));
        Some(())
    }

    /// Begins a wait for readiness, or ends one in one of the ways there are.
    fn readiness(&mut self) {
        if self.waits.len() < 2 {
            let (reader, writer) = io::pipe().expect("a pipe");
            let poll = self
                .world
                .aio
                .alloc()
                .init_poll(OwnedFd::from(reader), PollFlags::IN);
            self.waits.push((poll.start().expect("taken"), writer));
            return;
        }
        let (pending, mut writer) = self.waits.swap_remove(0);
        match self.dice.below(4) {
            0 => drop(pending),
            1 => {
                pending.cancel();
                let _ = pending.wait().result;
            }
            2 => {
                writer.write_all(b"!").expect("a byte");
                pending.wait().result.expect("readable");
            }
            _ => {
                writer.write_all(b"!").expect("a byte");
                let _ = block_on(&self.world, pending).result.expect("readable");
            }
        }
    }

    fn barrier(&mut self) {
        let (world, place) = (&self.world, self.dice.next() % 64 * BLOCK as u64);
        let memory = AlignedBuf::from(&[7; BLOCK]);
        let written =
            |done: Completion<_, AlignedBuf>| assert_eq!(done.result.expect("written"), BLOCK);
        let write = world.log.write(memory, place, world.callback(written));
        world.accept(write.map_err(drop));
        let synced = |result: io::Result<()>| result.expect("synced");
        world.accept(
            world
                .log
                .barrier(SyncKind::Data, world.callback(synced))
                .map_err(drop),
        );
    }

    pub(super) fn run(mut self, end: Instant) {
        while Instant::now() < end {
            // What is dropped in here may do mischief to us.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.act())) {
                if !is_meant(&*panic) {
                    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                    self.world.fault(format!("a thread panicked: {text}"));
                }
                std::mem::forget(panic);
            }
            self.world.ops.fetch_add(1, Ordering::Relaxed);
        }
        for (pending, writer) in self.waits.drain(..) {
            drop((writer, pending));
        }
    }
}
