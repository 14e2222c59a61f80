//! The Linux kernel's native AIO (`io_setup`, `io_submit`, `io_getevents`), made safe and complete. It adds 1
//! to 18 % to the processor time of the raw system calls on media in memory, and less on a disk (README,
//! “Numbers”). It is for programs that do their own O_DIRECT storage, also where io_uring is refused.
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
//! [`Iocb::alloc`] makes a blank request. [`init_rw`](Iocb::init_rw) says what it does: a file, an operation
//! ([`Read`](op::Read), [`Write`](op::Write), [`ReadV`](op::ReadV), [`WriteV`](op::WriteV)), a buffer, and an
//! offset in bytes. [`init_fsync`](Iocb::init_fsync) and [`init_fdsync`](Iocb::init_fdsync) make it a sync
//! instead, and [`init_poll`](Iocb::init_poll) a wait for readiness. [`init_callback`](Iocb::init_callback)
//! says what happens when it is complete, and [`submit`](Iocb::submit) passes it to the kernel. From then on
//! the request is not the caller's any more, with everything in it.
//!
//! What is not ready does not compile: each verb gives the request another type, and only the last type has
//! `submit`.
//!
//! The file is anything that is `AsFd + Send + 'static`: a `File`, a [`DirectFile`], an `OwnedFd`. It goes
//! with the request and comes back with the result. To use one file for many requests, put it into an `Arc`.
//!
//! # Buffers
//!
//! The kernel reads or writes the buffer after `submit` has returned, so the request owns the buffer too,
//! until the kernel is done. It comes back in the [`Completion`]. Nothing that a safe program does can free
//! it earlier: not a panic, not `mem::forget`, not a future that is dropped.
//!
//! A `Vec<u8>`, a boxed slice, an array or an [`AlignedBuf`] serves for reads and writes; a `String`, a
//! `&'static [u8]` or an `Arc<[u8]>` for writes alone. The module [`buf`] has the list, and the traits that
//! make memory of your own a buffer. [`buf_slice`](buf::IoBuf::buf_slice) makes a buffer of a part of one.
//! [`ReadV`](op::ReadV) and [`WriteV`](op::WriteV) take an array or `Vec` of buffers. [`BufPool`] keeps
//! aligned buffers and lends them again and again.
//!
//! O_DIRECT needs offset, length and address aligned, and the device decides how. A misaligned transfer has
//! `EINVAL` as its result, or on some file systems goes through the page cache. [`DirectFile`] opens a file
//! so, asks for its alignments, and hands out buffers that fit.
//!
//! # Errors are in two places
//!
//! - **The request was not submitted**: [`SubmitError`], returned by `submit`, `wait` or `start`. The
//!   request's callback will never be called, and the request is inside the error, whole. The reason is an
//!   errno with which the kernel refused the arguments (`EBADF`: not open for this operation), or there is no
//!   context to take the request: none could be made ([`SetupError`]), or it was shut down ([`AioError`]).
//! - **The I/O failed**: [`Completion::result`], exactly once for each request for which `submit` returned
//!   `Ok`. It is an errno of the file operation, as `pread(2)` would return it: `EIO`, `ENOSPC`, `EINVAL` for
//!   a misaligned O_DIRECT transfer (where the file system does not do it through the page cache). The
//!   compiler warns where a completion is not looked at; [`done.ok()?`](Completion::ok) is the short way to
//!   look.
//!
//! Fewer bytes than asked for are not an error: a read meets the end of the file, a write meets a full file
//! system.
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
//! | | what gets the result | choose it |
//! | --- | --- | --- |
//! | [`init_callback`](Iocb::init_callback) and [`submit`](Iocb::submit) | a closure, on the completion thread | to keep many requests in flight: each completion starts the next |
//! | [`wait`](Iocb::wait) | the calling thread | when the next line needs the result. The thread takes the event itself: no change of thread, 0.90 to 1.01 of the raw calls' speed |
//! | `.await` | the task | in async code. Any executor will do; none is needed |
//! | [`start`](Iocb::start) | the holder of the [`Pending`] | to submit now and wait later, or [with a deadline](Pending::wait_timeout) |
//! | [`Aio::queue`] | the calling thread, as values with [tags](Queue) | for a loop that keeps many in flight, of [mixed](Iocb::mixed) kinds, and asks what is done: no closures |
//! | [`Aio::batch`] | a [`Pending`] ([`push`](Batch::push)) or a closure ([`push_callback`](Batch::push_callback)) for each | when many are known at once: they leave in one system call |
//! | [`Aio::scope`], [`read_exact_at`](Aio::read_exact_at), [`fsync`](Aio::fsync), [`read_many`](Aio::read_many), … | the calling thread | for memory that is borrowed: the pages of a cache, slices of one array. Returns when all are complete |
//! | [`Dispatch::Anywhere`] | a closure, on the thread that finds the event, perhaps inside `submit` | where media answer at once, and no lock is held across `submit` |
//! | [`Dispatch::Manual`] and [`Aio::poll`] | a closure, inside `poll` | for one engine per thread with a loop of its own: no completion thread is made |
//! | [`LocalAio`] | a closure or a [`Queue`] of the thread's own | the same where closures and tags are not `Send`: an `Rc`, a `Cell` |
//!
//! A whole file from one end to the other, bytes in any pieces, is a [`stream`]: it reads ahead or writes
//! behind, for blocking and for async code.
//!
//! All but the last three go together on any context. Those three are chosen when a context is made, by
//! [`Aio::builder`]. `Iocb::alloc` uses the process-wide context, [`Aio::global`], with the builder's
//! defaults.
//!
//! What is fast? With many requests in flight, submit many of them at once: a system call for each costs as
//! much as the rest. Callbacks do that by themselves; batches and scopes do it too. With one request at a
//! time, stay on one thread: `wait`, `read_at`, `poll`. A queue gathers what is pushed by itself. Tasks that
//! `.await` submit one by one. An executor of your own can put the requests of one turn into a batch, whose
//! handles are futures too, submit it when it [is due](Batch::is_due), and sleep in `poll`. `iobench --engine
//! all` measures most ways on a file of yours.
//! `examples/` has a program for each: `copy` (streams), `future`, `tokio`, `thread_per_core` (queues),
//! `poll`, `frames` (borrowed memory); `wal_callbacks`, `wal_async` and `wal_per_core` are the same
//! write-ahead log three times; `pagestore` is a transactional page store. The [`guide`] goes from `cargo add` to
//! a store with a log that survives crashes; its pages say [where AIO does not pay at all](guide::choosing), with
//! figures, have [libaio's calls beside these](guide::from_libaio), and are for [whoever operates the
//! program](guide::operating).
//!
//! The handles of a batch stand for requests that are not submitted yet. As futures they may be polled at
//! once. [`wait`](Pending::wait) on such a handle takes the request out of the batch and returns
//! [`AioError::NotSubmitted`]; it does not hang.
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
//! completion thread (with [shards](AioBuilder::shards), on one thread each). There they may:
//!
//! - **submit**. A request with a callback is held back with what other callbacks of the same round submit,
//!   and they leave in one system call when the round is over, when 32 are held back, or before the callback
//!   waits for something. (While callbacks may be slow, they leave after each callback: in a context's first
//!   64 rounds, and for 8 rounds after one that took long.) Such a request counts as accepted: a refusal by
//!   the kernel comes as its result, with the same errno.
//! - **wait** for other requests, by [`wait`](Iocb::wait): the thread takes their events meanwhile.
//! - **panic**. The panic is logged and counted, and the other callbacks go on.
//! - **drop the last [`Aio`]**. What is outstanding completes in the background.
//!
//! Under [`Dispatch::Manual`] the same holds for the thread inside `poll`. Under [`Dispatch::Anywhere`]
//! callbacks may also run at the same time, and inside any call on this context that submits, waits, cancels
//! or polls a handle: a callback must not take a lock that a thread holds across such a call.
//!
//! They may not [`drain`](Aio::drain), [`shutdown`](Aio::shutdown) or [`poll`](Aio::poll), on this context or
//! any other: two contexts whose callbacks wait for each other would never end. These calls return
//! [`AioError::WouldDeadlock`] there. Callbacks should not block for long, because the callbacks behind them
//! wait: give long work to another thread. All this holds for wakers too, for loggers, and for destructors of
//! what a request owns, but for one thing: what they submit is not held back and leaves at once.
//!
//! # Threads
//!
//! An [`Aio`] has one kernel context for each of its [shards](AioBuilder::shards), and one shard unless its
//! builder was told otherwise. Under [`Dispatch::Thread`] and [`Dispatch::Anywhere`] each context has a
//! completion thread. Any context may have a helper thread for a while, for I/O that would block a thread
//! that must not ([`nowait_or_offload`](Iocb::nowait_or_offload), waits with a deadline), and a thread on
//! which it ends in the background. A new thread inherits affinity and scheduling from the thread that starts
//! it, and blocks every signal but those of faults and of the profiler. [`AioBuilder::on_thread_start`] is
//! the place to change any of this.
//!
//! # Order and durability
//!
//! A context gets requests in the order in which one thread submitted them, also those that had to queue,
//! except those with [`nowait_or_offload`](Iocb::nowait_or_offload), which later ones may overtake. With
//! [shards](AioBuilder::shards) a batch goes to the shard of the thread that made it. The device completes
//! them in its own order: of two writes to one place, both in flight, either may be the last.
//!
//! **A sync does not wait for writes in flight.** To make writes durable, submit
//! [`init_fdsync`](Iocb::init_fdsync) when their results have come, or give each write [`RwFlags::DSYNC`].
//! The name of a new file needs a sync of its directory, which is a file too. O_DIRECT alone makes nothing
//! durable: the device has a cache.
//!
//! One line for the thread that waits: `aio.with(RwFlags::DSYNC).write_all_at(&file, record, offset)?`, or
//! `aio.fdatasync(&file)?` after several writes.
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
//! A [`SyncGroup`] does the waiting. Its [barrier](SyncGroup::barrier) syncs the file when every write
//! submitted before has completed, and then calls back. Barriers that come while a sync runs share the next
//! one. An error stays until the program takes it. [`commit`](SyncGroup::commit) is a write and its barrier
//! as one handle: `group.commit(record, offset).await?`, or `.wait()?`.
//!
//! # How many at once
//!
//! As many as there is memory for. [`AioBuilder::depth`] of them are with the kernel, 128 unless chosen
//! otherwise. The others queue in user space, and `submit` neither fails nor blocks for that. Each shard
//! charges its depth plus one to `fs.aio-max-nr`, a quota of the whole machine. Where it is nearly used up a
//! context is made with a smaller depth, and where nothing is left the error has the numbers.
//!
//! A wait for readiness occupies one of these places until it fires: count it in the depth, or give polls a
//! context of their own.
//!
//! # Cancelling
//!
//! The kernel can cancel waits for readiness, and nothing else. [`Pending::cancel`] does it by the handle,
//! and so does dropping the handle or the future. A wait that has a callback is cancelled by the
//! [`CancelHandle`] that [`submit_cancellable`](Iocb::submit_cancellable) returns. The result is `ECANCELED`,
//! unless an event came first.
//!
//! # The end
//!
//! [`Aio::drain`] waits until nothing is outstanding. The global context is never dropped, so drain it before
//! the program ends: otherwise the callbacks of requests in flight are not called, and requests that are
//! still queued are never carried out.
//!
//! Dropping the last handle of another context drains it too, and so **blocks**. [`Aio::shutdown`] limits
//! that by a timeout. Both refuse new requests and cancel waits for readiness (`ECANCELED`). After the
//! timeout, memory that the kernel may still write is leaked, not freed; the requests go on in the
//! background, and no later drop blocks.
//!
//! Under [`Dispatch::Manual`] the last drop and `shutdown` poll, so callbacks run inside them. Where the last
//! drop may not block, because it happens inside a callback or after a shutdown that timed out, the context
//! ends on a thread that is made for it.
//!
//! # In async code
//!
//! A request is a future, and dropping it at any time is safe: the request goes on, and keeps its file and
//! buffer until the kernel is done. So the runtime's `timeout` and `select!` work as with any other future
//! (`examples/tokio.rs` has both); what they drop has to be made again, buffer included. Futures that stay
//! the caller's (`&mut pending`) are only polled by `select!`, and go on afterwards.
//!
//! [`drain`](Aio::drain), [`shutdown`](Aio::shutdown) and the last drop of an [`Aio`] block, and so have
//! their async forms: [`drain_async`](Aio::drain_async) and [`shutdown_async`](Aio::shutdown_async). They
//! take no timeout: the runtime has one. A shutdown that is dropped after its first poll goes on in the
//! background, and no later drop blocks; otherwise the last drop blocks in async code as well.
//!
//! ```
//! use kiocb::{Aio, op::Read};
//! use std::time::Duration;
//! use tokio::time::timeout;
//!
//! # fn main() -> std::io::Result<()> {
//! # tokio::runtime::Builder::new_multi_thread().enable_time().build()?.block_on(async {
//! let (aio, patience) = (Aio::builder().build()?, Duration::from_secs(5));
//! let mut read = aio.alloc().init_rw(std::fs::File::open("/dev/zero")?, Read, vec![1; 512], 0).start()?;
//! let done = loop {
//!     tokio::select! {
//!         done = &mut read => break done,
//!         () = tokio::time::sleep(patience) => eprintln!("a slow device"), // and the read goes on
//!     }
//! };
//! assert_eq!(done.result?, 512);
//! if timeout(patience, aio.shutdown_async()).await.is_err() {
//!     eprintln!("what is left ends in the background");
//! }
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # After fork
//!
//! In a forked child the parent's contexts are out of reach. Every call returns [`AioError::Forked`],
//! dropping a handle does nothing to the parent's requests, and no call waits for a lock that a thread of the
//! parent held. A [`Pending`] gives buffer and file back: with the result if that was there at the fork,
//! otherwise with `Forked`. A [`Queue`] refuses, and hands nothing out. A context that the child builds for itself works.
//!
//! # What it does not do
//!
//! - **Make buffered files asynchronous.** The kernel carries out reads and writes through the page cache
//!   inside `io_submit`, and on some file systems also writes that make a file longer: `submit` blocks for so
//!   long. Open with O_DIRECT, and [preallocate](DirectFile::preallocate). Submissions that block for long
//!   are logged. A read that may be in the page cache can [try first](Iocb::nowait_or_offload).
//! - **Cancel reads and writes.** The kernel can't. A request whose handle is dropped goes on, and its buffer
//!   is dropped when it is complete.
//! - **Go on with a short transfer, unless asked to.** The result says how far the transfer came, and more
//!   than 2 GiB less 4 KiB is always short. [`read_exact`](Iocb::read_exact) and
//!   [`write_all`](Iocb::write_all) go on.
//! - **Check alignment.** Devices differ, and accept more than they promise.
//! - **Sockets and pipes.** A transfer that would wait blocks inside `submit`. Their readiness can be waited
//!   for beside file I/O: [`init_poll`](Iocb::init_poll).
//! - **Anything but 64-bit Linux.**
//!
//! # Platforms and features
//!
//! Every 64-bit Linux with AIO in its kernel: syncs and priorities since 4.18, [`RwFlags`] since 4.13, polls
//! since 4.19. Events are read from the ring that the kernel maps into the process. Where the ring can't be
//! trusted (gVisor, Valgrind) they are taken by system calls, which costs some speed and changes nothing else.
//! `KIOCB_FORCE_SYSCALLS=1` in the environment chooses that for every context of the process. What an operator should see is logged by the
//! [`log`](https://docs.rs/log) facade.
//!
//! - `bindgen` (default): generates the raw types from the machine's `<linux/aio_abi.h>`. Without libclang,
//!   or without the feature, a committed copy is used, which is the same.
//! - `bytes`: `bytes::Bytes` and `bytes::BytesMut` are buffers.
//! - `futures-io`, `tokio`: a [`stream`] is a reader or writer of that crate. Of tokio nothing but the traits is
//!   compiled.
//!
//! The raw layer, [`sys`], is public: six `unsafe` system calls and their types.
#![doc(test(attr(deny(warnings))))]

pub mod buf;
pub mod direct;
pub mod observe;
pub mod op;
pub mod stream;
pub mod sys;

// A page's links to the other pages lead to files, where the page is read as a file. Here the first definition
// of a link counts, which leads to a module.
/// [choosing]: crate::guide::choosing
/// [operating]: crate::guide::operating
/// [from_libaio]: crate::guide::from_libaio
/// [where]: https://docs.rs/crate/kiocb/latest
/// [sandbox]: https://docs.rs/crate/kiocb/latest
///
#[cfg(any(doc, doctest))]
#[doc = include_str!("../docs/guide.md")]
pub mod guide {
    #[doc = include_str!("../docs/choosing.md")]
    pub mod choosing {}
    #[doc = include_str!("../docs/from-libaio.md")]
    pub mod from_libaio {}
    #[doc = include_str!("../docs/operating.md")]
    pub mod operating {}
}

mod aio;
mod batch;
mod cache_padded;
mod cancel_handle;
mod completion;
mod dispatch;
mod engine;
mod error;
mod flags;
mod iocb;
mod local_aio;
mod origin;
mod pending;
mod queue;
#[cfg(test)]
#[allow(dead_code, reason = "no test in here needs all of it")]
#[path = "../tests/kit/random.rs"]
mod random;
mod scope;
#[cfg(all(test, shuttle))]
mod simulation;
mod stats;
mod submission;
mod sync;
mod sync_group;
mod sync_scheduler;
mod thread_bound;
mod user_code;

pub use aio::{Aio, AioBuilder, Drain, Shutdown};
pub use batch::{Batch, BatchErrors, Ticket};
pub use buf::{AlignedBuf, BufPool};
pub use cancel_handle::CancelHandle;
pub use completion::{Completion, CompletionError};
pub use direct::DirectFile;
pub use dispatch::Dispatch;
pub use error::{AioError, SetupError, SubmitError};
pub use flags::{IoPriority, IoPriorityClass, PollFlags, RwFlags, SignalMask};
pub use iocb::Iocb;
pub use local_aio::LocalAio;
pub use op::Readiness;
pub use pending::Pending;
pub use queue::{Queue, QueueDrain};
pub use scope::{AioWith, IoOptions, Scope, ScopeWith, ScopedIo};
pub use stats::Stats;
pub use submission::Submission;
pub use sync_group::{
    BarrierCallback, CommitError, PendingCommit, PendingSync, SyncGroup, TrackedWrite,
    UnsubmittedWrite,
};
pub use sync_scheduler::SyncKind;
