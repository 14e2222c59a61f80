//! Requests over borrowed files and memory, all complete before the scope is left.
//!
//! Sound as `std::thread::scope` is: the kernel has borrowed memory only while `Aio::scope` is on the stack,
//! and it is not left, by return or by panic, before every request is complete. Handles may be dropped or
//! forgotten: what is waited for is in the scope itself.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory that is borrowed long enough"
)]

use crate::aio::Aio;
use crate::completion::transferred;
use crate::engine::{Engine, List, OwnedCell, Watch};
use crate::op::Work;
use crate::sys::{IOCB_CMD_PREAD, IOCB_CMD_PWRITE, iocb};
use crate::user_code;
use std::cell::RefCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

/// A read or write over borrowed memory. The borrow is the scope's affair: here are only the numbers.
#[derive(Debug)]
struct BorrowedOp {
    opcode: u16,
    descriptor: u32,
    address: u64,
    length: u64,
    offset: u64,
}

impl BorrowedOp {
    fn new(
        opcode: u16,
        file: BorrowedFd<'_>,
        (address, length): (usize, usize),
        offset: u64,
    ) -> BorrowedOp {
        let descriptor = file.as_raw_fd().cast_unsigned();
        BorrowedOp {
            opcode,
            descriptor,
            address: address as u64,
            length: length as u64,
            offset,
        }
    }
}

// SAFETY: file and memory are borrowed for longer than the request takes: `Scope::add` takes the borrows for
// the scope's lifetime, and `Scope::finish` waits for the request within it; `Aio::run_borrowed` waits itself.
unsafe impl Work for BorrowedOp {
    type Output = io::Result<usize>;

    fn describe(&mut self, iocb: &mut iocb) {
        iocb.aio_lio_opcode = self.opcode;
        iocb.aio_fildes = self.descriptor;
        iocb.aio_buf = self.address;
        iocb.aio_nbytes = self.length;
        iocb.aio_offset = self.offset.cast_signed();
    }

    unsafe fn finish(self, result: i64) -> io::Result<usize> {
        transferred(result, self.length)
    }
}

/// Where borrowed requests are made: what the closure of [`Aio::scope`] gets, where there is an example. Not
/// `Sync`: its requests are made, and waited for, on one thread.
pub struct Scope<'scope, 'env: 'scope> {
    engine: &'env Arc<Engine>,
    requests: RefCell<Requests>,
    /// Both lifetimes as they are, neither shortened nor lengthened: see `std::thread::Scope`.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

#[derive(Default)]
struct Requests {
    /// Made and not yet submitted.
    unsent: List,
    all: Vec<State>,
}

enum State {
    Waiting(Watch<BorrowedOp>),
    Done(io::Result<usize>),
    Taken,
}

/// Stands for one request of a [`Scope`]. It may be dropped: the scope waits for the request all the same.
#[must_use = "the request may fail, and only `wait` returns its result"]
pub struct ScopedIo<'scope> {
    place: usize,
    wait: &'scope dyn WaitFor,
}

/// A scope, without its second lifetime.
trait WaitFor {
    fn wait_for(&self, place: usize) -> io::Result<usize>;
}

impl Aio {
    /// Runs `body`, which may make any number of requests over what it borrows, and returns when all of them
    /// are complete: also when `body` panics or returns early. The requests are submitted together, in one
    /// `io_submit` where there are slots: when the first is waited for, when `body` ends, or by
    /// [`Scope::submit`].
    ///
    /// The calling thread waits, and takes the completions itself. Works inside a callback.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let file = std::fs::File::open("/dev/zero")?;
    /// let mut frames = vec![1u8; 64 * 4096];
    /// kiocb::Aio::global()?.scope(|s| {
    ///     let pages = frames.chunks_mut(4096).zip(0..);
    ///     let reads: Vec<_> = pages.map(|(frame, page)| s.read_at(&file, frame, page * 4096)).collect();
    ///     reads.into_iter().try_for_each(|read| read.wait().map(|count| assert_eq!(count, 4096)))
    /// })?;
    /// assert!(frames.iter().all(|&byte| byte == 0));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If `body` does, afterwards.
    pub fn scope<'env, R>(
        &'env self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> R,
    ) -> R {
        let scope = Scope {
            engine: self.engine(),
            requests: RefCell::default(),
            scope: PhantomData,
            env: PhantomData,
        };
        let never_left_early = AbortOnUnwind;
        let outcome = user_code::try_run(|| body(&scope));
        scope.finish();
        std::mem::forget(never_left_early);
        outcome.unwrap_or_else(|panic| panic.resume())
    }

    /// Reads into borrowed memory at `offset`: `pread(2)`. Blocks; the thread takes the completion itself.
    /// May return fewer bytes than asked for.
    ///
    /// # Errors
    /// As [`Iocb::submit`](crate::Iocb::submit) and [`Completion::result`](crate::Completion::result).
    pub fn read_at(&self, file: &impl AsFd, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let memory = (buf.as_mut_ptr().expose_provenance(), buf.len());
        self.run_borrowed(BorrowedOp::new(
            IOCB_CMD_PREAD,
            file.as_fd(),
            memory,
            offset,
        ))
    }

    /// Writes borrowed memory at `offset`: `pwrite(2)`. Otherwise as [`read_at`](Aio::read_at).
    ///
    /// # Errors
    /// As `read_at`.
    pub fn write_at(&self, file: &impl AsFd, buf: &[u8], offset: u64) -> io::Result<usize> {
        let memory = (buf.as_ptr().expose_provenance(), buf.len());
        self.run_borrowed(BorrowedOp::new(
            IOCB_CMD_PWRITE,
            file.as_fd(),
            memory,
            offset,
        ))
    }

    /// Submits what is borrowed for the time of this call, and waits for it.
    fn run_borrowed(&self, op: BorrowedOp) -> io::Result<usize> {
        let never_left_early = AbortOnUnwind;
        let result = self.engine().submit_and_wait(op);
        std::mem::forget(never_left_early);
        result.unwrap_or_else(|(refused, _)| Err(refused))
    }

    /// Reads many pieces of one file at once, by as few system calls as there are slots for: each piece is a
    /// buffer and its offset, in the order of [`read_at`](Aio::read_at), each result is in the place of its
    /// piece, with the errnos of `read_at`. Blocks until all are complete.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let file = std::fs::File::open("/dev/zero")?;
    /// let mut pages = [[1; 512]; 2];
    /// let pieces = pages.iter_mut().map(|page| &mut page[..]).zip([0, 512]);
    /// for count in kiocb::Aio::global()?.read_many(&file, pieces) {
    ///     assert_eq!(count?, 512);
    /// }
    /// assert_eq!(pages, [[0; 512]; 2]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "each read may have failed: its result is its only sign"]
    pub fn read_many<'b>(
        &self,
        file: &impl AsFd,
        pieces: impl IntoIterator<Item = (&'b mut [u8], u64)>,
    ) -> Vec<io::Result<usize>> {
        let pieces = pieces.into_iter();
        self.scope(|s| s.wait_for_all(pieces.map(|(buf, offset)| s.read_at(file, buf, offset))))
    }

    /// Writes many pieces of one file at once. Otherwise as [`read_many`](Aio::read_many).
    #[must_use = "each write may have failed: its result is its only sign"]
    pub fn write_many<'b>(
        &self,
        file: &impl AsFd,
        pieces: impl IntoIterator<Item = (&'b [u8], u64)>,
    ) -> Vec<io::Result<usize>> {
        let pieces = pieces.into_iter();
        self.scope(|s| s.wait_for_all(pieces.map(|(buf, offset)| s.write_at(file, buf, offset))))
    }
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// A read into borrowed memory. Nothing is submitted yet: see [`Aio::scope`].
    pub fn read_at<F: AsFd>(
        &'scope self,
        file: &'scope F,
        buf: &'scope mut [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.add(
            IOCB_CMD_PREAD,
            file.as_fd(),
            (buf.as_mut_ptr().expose_provenance(), buf.len()),
            offset,
        )
    }

    /// A write of borrowed memory. Nothing is submitted yet: see [`Aio::scope`].
    pub fn write_at<F: AsFd>(
        &'scope self,
        file: &'scope F,
        buf: &'scope [u8],
        offset: u64,
    ) -> ScopedIo<'scope> {
        self.add(
            IOCB_CMD_PWRITE,
            file.as_fd(),
            (buf.as_ptr().expose_provenance(), buf.len()),
            offset,
        )
    }

    /// The memory, address and length, is borrowed for the scope's lifetime as well, by the two callers.
    fn add(
        &'scope self,
        opcode: u16,
        file: BorrowedFd<'scope>,
        memory: (usize, usize),
        offset: u64,
    ) -> ScopedIo<'scope> {
        let op = BorrowedOp::new(opcode, file, memory, offset);
        let (cell, watch) = OwnedCell::watched(op, false);
        let mut requests = self.requests.borrow_mut();
        requests.unsent.push(cell);
        requests.all.push(State::Waiting(watch));
        ScopedIo {
            place: requests.all.len() - 1,
            wait: self,
        }
    }

    /// Submits what was made so far, so that it runs while the closure does something else. Blocks where
    /// [`Iocb::submit`](crate::Iocb::submit) does.
    pub fn submit(&self) {
        self.send(false);
    }

    /// `reaps_itself`: this thread will do nothing but wait.
    fn send(&self, reaps_itself: bool) {
        let unsent = std::mem::take(&mut self.requests.borrow_mut().unsent);
        let list = unsent.inspect(|cell| cell.set_reaps_itself(reaps_itself));
        if list.len() > 0 {
            for (error, cell) in self.engine.submit_list(list) {
                self.engine.settle_refused(cell, &error);
            }
        }
    }

    fn wait_for_all(
        &self,
        requests: impl Iterator<Item = ScopedIo<'scope>>,
    ) -> Vec<io::Result<usize>> {
        let requests: Vec<_> = requests.collect();
        self.send(true);
        requests.into_iter().map(ScopedIo::wait).collect()
    }

    /// Waits for everything. Nothing of the scope's is with the kernel afterwards.
    fn finish(&self) {
        self.send(true);
        let count = self.requests.borrow().all.len();
        for place in 0..count {
            self.complete(place);
        }
    }

    fn complete(&self, place: usize) {
        let state = std::mem::replace(&mut self.requests.borrow_mut().all[place], State::Taken);
        let state = match state {
            State::Waiting(watch) => State::Done(self.wait_until_done(watch)),
            done => done,
        };
        self.requests.borrow_mut().all[place] = state;
    }

    /// In a forked child the request is the parent's: here nothing will ever write to the memory.
    fn wait_until_done(&self, mut watch: Watch<BorrowedOp>) -> io::Result<usize> {
        if self.engine.is_here() {
            self.engine.wait(&mut watch, None);
        }
        if !self.engine.is_here() {
            return watch.take_in_child();
        }
        watch.take().expect("without a deadline there is a result")
    }
}

impl WaitFor for Scope<'_, '_> {
    fn wait_for(&self, place: usize) -> io::Result<usize> {
        self.send(false);
        self.complete(place);
        match std::mem::replace(&mut self.requests.borrow_mut().all[place], State::Taken) {
            State::Done(result) => result,
            State::Waiting(_) | State::Taken => {
                unreachable!("completed just now, and a handle waits once")
            }
        }
    }
}

impl ScopedIo<'_> {
    /// Blocks until the request is complete; submits it first, with all others of the scope, if that has not
    /// been done.
    ///
    /// # Errors
    /// As [`Iocb::submit`](crate::Iocb::submit) and [`Completion::result`](crate::Completion::result).
    pub fn wait(self) -> io::Result<usize> {
        self.wait.wait_for(self.place)
    }
}

/// The kernel may still have the memory: better no process than one whose memory changes under its feet.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl fmt::Debug for ScopedIo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedIo")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_borrowed_memory_is_cut_down_to_it() {
        let (file, memory) = (std::io::stdin(), [0u8; 16]);
        for answer in [17, i64::MAX] {
            let place = (memory.as_ptr().expose_provenance(), memory.len());
            let read = BorrowedOp::new(IOCB_CMD_PREAD, file.as_fd(), place, 0);
            // SAFETY: the memory is initialised, whatever the kernel did.
            assert_eq!(unsafe { read.finish(answer) }.unwrap(), 16);
        }
    }
}
