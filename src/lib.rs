//! The Linux kernel's native AIO (`io_setup`, `io_submit`, `io_getevents`), made safe, complete and as fast
//! as the raw system calls. For programs that do their own O_DIRECT storage, also where io_uring is refused.
//!
//! # Hello, world
//!
//! ```
//! use kiocb::op::Read;
//! use kiocb::{Aio, AlignedBuf, Iocb};
//!
//! # fn main() -> std::io::Result<()> {
//! let file = std::fs::File::open("/dev/zero")?;
//! Iocb::alloc()
//!     .init_rw(file, Read, AlignedBuf::zeroed(4096), 0)
//!     .init_callback(|done| println!("{:?} bytes, the first is {}", done.result, done.buf[0]))
//!     .submit()?;
//! Aio::global()?.drain()?; // returns when every callback has
//! # Ok(())
//! # }
//! ```
//!
//! # The four verbs
//!
//! [`Iocb::alloc`] makes a blank request. [`init_rw`](Iocb::init_rw) says what it shall do: a file, an
//! operation ([`Read`](op::Read), [`Write`](op::Write), [`ReadV`](op::ReadV), [`WriteV`](op::WriteV)), a
//! buffer, and an offset in bytes; [`init_fsync`](Iocb::init_fsync) and [`init_fdsync`](Iocb::init_fdsync)
//! make it a sync instead. [`init_callback`](Iocb::init_callback) says what is to happen then, and
//! [`submit`](Iocb::submit) passes it on. From here on it is not the caller's any more, with everything in it.
//!
//! What is not ready does not compile: each verb gives the request another type, and only the last has
//! `submit`.
//!
//! The file is anything that is `AsFd + Send + 'static`: a `File`, a [`DirectFile`], an `OwnedFd`. It goes
//! with the request and comes back with the result; to use one file for many requests, put it into an `Arc`.
//!
//! # Buffers
//!
//! The kernel reads or writes the buffer after `submit` has returned, so the request owns it too, until the
//! kernel is done. It comes back in the [`Completion`]. Nothing that a safe program does can free it earlier:
//! not a panic, not `mem::forget`, not a future that is dropped.
//!
//! A `Vec<u8>`, a boxed slice, an array or an [`AlignedBuf`] serves for reads and writes; a `String`, a
//! `&'static [u8]` or an `Arc<[u8]>` for writes alone. The module [`buf`] has the list, and the traits that
//! make memory of your own a buffer; [`buf_slice`](buf::IoBuf::buf_slice) makes a buffer of a part of one;
//! [`ReadV`](op::ReadV) and [`WriteV`](op::WriteV) take an array or `Vec` of buffers. [`BufPool`] keeps
//! aligned buffers for use after use.
//!
//! O_DIRECT wants offset, length and address aligned, and the device decides how: [`DirectFile`] opens a file
//! so, asks what it wants, and hands out buffers that fit.
//!
//! # Errors are in two places
//!
//! - **The request was not submitted**: [`SubmitError`], returned by `submit`, `wait` or `start`. Its
//!   callback will never be called, and it is inside the error, whole. The kernel has looked at the arguments
//!   and refused (`EBADF`: not open for this), or there is nobody to take it: no context could be made
//!   ([`SetupError`]), it was shut down ([`AioError`]).
//! - **The I/O failed**: [`Completion::result`], exactly once for each request for which `submit` said `Ok`.
//!   An errno of the file operation, as `pread(2)` would say it: `EIO`, `ENOSPC`, a misaligned O_DIRECT
//!   transfer's `EINVAL`. A completion that is not looked at is a warning of the compiler;
//!   [`done.ok()?`](Completion::ok) is the short way to look.
//!
//! Fewer bytes than asked for are not an error: a read meets the end of the file, a write a full file system.
//!
//! ```
//! use kiocb::Iocb;
//! use kiocb::op::{Read, Write};
//!
//! # fn main() -> std::io::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("five");
//! std::fs::write(&path, "hello")?;
//! let file = std::fs::File::open(&path)?; // for reading
//!
//! let refused = Iocb::alloc().init_rw(file, Write, *b"bye", 0).wait().unwrap_err();
//! assert_eq!(refused.error().to_string(), "Bad file descriptor (os error 9)");
//! let (file, bye) = refused.into_request().into_parts(); // nothing is lost
//! assert_eq!(bye, *b"bye");
//!
//! let done = Iocb::alloc().init_rw(file, Read, [0; 16], 3).wait()?; // `?`: whether it was submitted
//! let (count, buf, _file) = done.ok()?; // `?`: how it went
//! assert_eq!(&buf[..count], b"lo");
//! # Ok(())
//! # }
//! ```
//!
//! # Choosing how to wait
//!
//! | | who gets the result | choose it |
//! | --- | --- | --- |
//! | [`init_callback`](Iocb::init_callback) and [`submit`](Iocb::submit) | a closure, on the completion thread | to keep many requests in flight: each completion starts the next |
//! | [`wait`](Iocb::wait) | the caller | when the next line needs it. The thread takes the event itself: no change of thread, at the raw calls' speed |
//! | `.await` | the task | in async code. Any executor will do; none is needed beside it |
//! | [`start`](Iocb::start) | whoever has the [`Pending`] | to submit now and wait later, or [with a deadline](Pending::wait_timeout) |
//! | [`Aio::batch`] | a closure or a [`Pending`] for each | when many are known at once: they leave in one system call |
//! | [`Aio::scope`], [`read_at`](Aio::read_at), [`read_many`](Aio::read_many), … | the caller | to fill memory that is borrowed: the frames of a cache, slices of one array. Returns when all are complete |
//! | [`Dispatch::Anywhere`] | a closure, on the thread that finds the event, perhaps inside `submit` | where media answer at once, and no lock is held across `submit` |
//! | [`Dispatch::Manual`] and [`Aio::poll`] | a closure, inside `poll` | for one engine per thread that has a loop of its own: no thread is made |
//!
//! All but the last two go together on any context. Those are chosen when a context is made, by
//! [`Aio::builder`]; `Iocb::alloc` uses the process-wide one, [`Aio::global`], with the builder's defaults.
//!
//! What is fast: with many requests in flight, whatever submits many of them at once (callbacks do, by
//! themselves; batches and scopes), as a system call for each costs as much as the rest. One at a time:
//! whatever stays on its thread (`wait`, `read_at`, `poll`). Tasks that `.await` submit one by one; an
//! executor of one's own can put the requests of a turn into a batch, whose handles are futures too, and
//! sleep in `poll`. `iobench --engine all` measures each on a file of yours; `examples/` has a program for
//! each: `copy` (callbacks), `future`, `tokio`, `thread_per_core`, `poll`.
//!
//! ```
//! use kiocb::op::Read;
//! use kiocb::{Aio, Dispatch, Iocb};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//!
//! # fn main() -> std::io::Result<()> {
//! let file = Arc::new(std::fs::File::open("/dev/zero")?);
//!
//! // Handles: both are in flight before the first is waited for.
//! let first = Iocb::alloc().init_rw(file.clone(), Read, vec![1; 512], 0).start()?;
//! let second = Iocb::alloc().init_rw(file.clone(), Read, vec![1; 512], 512).start()?;
//! assert_eq!(first.wait().result? + second.wait().result?, 1024);
//!
//! // Borrowed memory: both pages in one system call, and both are there when it returns.
//! let mut pages = [[1; 512]; 2];
//! let pieces = pages.iter_mut().map(|page| &mut page[..]).zip((0..).step_by(512));
//! let results = Aio::global()?.read_many(&file, pieces);
//! assert!(results.into_iter().all(|result| result.is_ok()) && pages == [[0; 512]; 2]);
//!
//! // A loop of one's own.
//! let aio = Aio::builder().dispatch(Dispatch::Manual).depth(32).build()?;
//! let bytes = Arc::new(AtomicUsize::new(0));
//! for block in 0..100 {
//!     let bytes = Arc::clone(&bytes);
//!     aio.alloc()
//!         .init_rw(file.clone(), Read, vec![1; 512], block * 512)
//!         .init_callback(move |done| {
//!             bytes.fetch_add(done.result.unwrap_or(0), Ordering::Relaxed);
//!         })
//!         .submit()?;
//! }
//! while aio.stats().completed < 100 {
//!     aio.run_once(None)?;
//! }
//! assert_eq!(bytes.load(Ordering::Relaxed), 51_200);
//! # Ok(())
//! # }
//! ```
//!
//! # Inside a callback
//!
//! Under [`Dispatch::Thread`], the default, the callbacks of one context run one after the other on its
//! completion thread (with [shards](AioBuilder::shards), one thread each). There they may:
//!
//! - **submit**. A request with a callback is gathered with what other callbacks of the same round submit,
//!   and they leave in one system call when the round is over (or 32 have come). It counts as accepted, so
//!   what the kernel would have refused comes as the result, with the same errno.
//! - **wait** for other requests, by [`wait`](Iocb::wait): this thread takes their events meanwhile.
//! - **panic**. It is logged and counted, and the others go on.
//! - **drop the last [`Aio`]**. What is outstanding completes in the background.
//!
//! Under [`Dispatch::Manual`] the same holds for the thread inside `poll`. Under [`Dispatch::Anywhere`]
//! callbacks may also run at the same time, and inside any call on this context that submits or waits: a lock
//! held across one of them must not be taken by a callback.
//!
//! They may not [`drain`](Aio::drain), [`shutdown`](Aio::shutdown) or [`poll`](Aio::poll): that would wait
//! for the callback itself, and is answered with [`AioError::WouldDeadlock`]. They should not block for
//! long, because the callbacks behind them wait: give long work to another thread. All this holds for wakers
//! too, and for destructors of what a request owns.
//!
//! # Order and durability
//!
//! The kernel gets requests in the order in which one thread submitted them, also those that had to queue. It
//! completes them in the device's order: two writes to one place, both in flight, end up in either.
//!
//! **A sync does not wait for writes in flight.** To make writes durable, submit
//! [`init_fdsync`](Iocb::init_fdsync) when their results have come, or give each write [`RwFlags::DSYNC`]. A
//! new file's name needs a sync of its directory, which is a file too. O_DIRECT alone makes nothing durable:
//! the device has a cache.
//!
//! ```
//! use kiocb::op::Write;
//! use kiocb::{Aio, Iocb, RwFlags, SyncGroup, SyncKind};
//!
//! # fn main() -> std::io::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("log");
//! let log = std::fs::File::create(&path)?;
//! let (count, _, log) = Iocb::alloc().init_rw(log, Write, "first record", 0).wait()?.ok()?;
//! assert_eq!(count, 12);
//! Iocb::alloc().init_fdsync(log).wait()?.ok()?; // what has come back is durable now
//!
//! let log = std::fs::File::options().write(true).open(&path)?;
//! let record = Iocb::alloc().init_rw(log, Write, "second record", 12).rw_flags(RwFlags::DSYNC);
//! let done = record.wait()?;
//! assert_eq!(done.result?, 13); // and so is this, by itself
//!
//! let group = SyncGroup::new(&Aio::global()?, done.file);
//! group.write("third record", 25, |done| drop(done.result))?; // in flight
//! group.barrier(SyncKind::Data, |result| result.expect("all three are durable"))?;
//! # Aio::global()?.drain()
//! # }
//! ```
//!
//! A [`SyncGroup`] does the waiting: its [barrier](SyncGroup::barrier) syncs the file when every write
//! submitted before has completed, and then calls back. Barriers that come while a sync runs share the next
//! one. An error stays until the program takes it.
//!
//! # How many at once
//!
//! As many as there is memory for. [`AioBuilder::depth`] of them are with the kernel, 128 unless said
//! otherwise; the others queue in user space, and `submit` neither fails nor blocks for that. The depth
//! counts against `fs.aio-max-nr`, a quota of the whole machine: where it is nearly used up a context takes
//! fewer, and where nothing is left the error says so, with the numbers.
//!
//! # The end
//!
//! [`Aio::drain`] waits until nothing is outstanding. The global context is never dropped, so drain it before
//! the program ends: otherwise no callback is called for what is in flight, and what was still queued is
//! never done. Dropping the last handle of another context drains it too, and so **blocks**;
//! [`Aio::shutdown`] sets a limit to that. Past the limit nothing is freed: what the kernel may still write
//! to leaks rather.
//!
//! After `fork` the child's handles say [`AioError::Forked`], and dropping them does nothing to the
//! parent's requests. A context that the child builds for itself works.
//!
//! # What it does not do
//!
//! - **Make buffered files asynchronous.** Reads and writes through the page cache are carried out by the
//!   kernel inside `io_submit`, as are writes that make a file longer on some file systems: `submit` blocks
//!   for so long. Open with O_DIRECT, and [preallocate](DirectFile::preallocate). Submissions that block for
//!   long are logged.
//!   A read that may be in the page cache can [try first](Iocb::nowait_or_offload).
//! - **Cancel reads and writes.** The kernel can't. Whoever stops waiting leaves the request to itself. A
//!   wait for readiness can be [cancelled](Pending::cancel).
//! - **Go on with a short transfer, unless asked to.** The result says how far it came, and more than 2 GiB
//!   less 4 KiB is always short; [`read_exact`](Iocb::read_exact) and [`write_all`](Iocb::write_all) go on.
//! - **Check alignment.** Devices differ, and accept more than they promise.
//! - **Sockets and pipes.** A transfer that would wait, waits inside `submit`. Their readiness can be waited
//!   for beside file I/O: [`init_poll`](Iocb::init_poll).
//! - **Anything but 64-bit Linux.**
//!
//! # Platforms and features
//!
//! Every 64-bit Linux with AIO in its kernel: syncs and priorities since 4.18, [`RwFlags`] since 4.13. Events
//! are read from the ring that the kernel maps into the process; where that can't be done (gVisor), and
//! under Valgrind, by system calls, which shows in nothing but speed. Operators are told by the
//! [`log`](https://docs.rs/log) facade what they want to know.
//!
//! - `bindgen` (default): generates the raw types from the machine's `<linux/aio_abi.h>`; without libclang,
//!   or without the feature, a committed copy is used, which is the same.
//! - `bytes`: `bytes::Bytes` and `bytes::BytesMut` are buffers.
//!
//! The raw layer, [`sys`], is public: six `unsafe` system calls and their types.
#![doc(test(attr(deny(warnings))))]

pub mod buf;
pub mod direct;
pub mod op;
pub mod sys;

mod aio;
mod batch;
mod cancel_handle;
mod completion;
mod dispatch;
mod engine;
mod error;
mod flags;
mod iocb;
mod pending;
#[cfg(test)]
#[allow(dead_code, reason = "no test in here needs all of it")]
#[path = "../tests/kit/random.rs"]
mod random;
mod scope;
mod stats;
mod submission;
mod sync;
mod sync_group;
mod sync_scheduler;
mod user_code;

pub use aio::{Aio, AioBuilder};
pub use batch::{Batch, BatchErrors, Ticket};
pub use buf::{AlignedBuf, BufPool};
pub use cancel_handle::CancelHandle;
pub use completion::{Completion, CompletionError};
pub use direct::DirectFile;
pub use dispatch::Dispatch;
pub use error::{AioError, SetupError, SubmitError};
pub use flags::{IoPriority, IoPriorityClass, PollFlags, RwFlags};
pub use iocb::Iocb;
pub use op::Readiness;
pub use pending::Pending;
pub use scope::{Scope, ScopedIo};
pub use stats::Stats;
pub use submission::Submission;
pub use sync_group::{BarrierCallback, SyncGroup, TrackedWrite, UnsubmittedWrite};
pub use sync_scheduler::SyncKind;
