//! A request in the making: alloc → init → callback → submit. What is not ready does not compile.

mod exact;
mod options;
mod parts;

use crate::aio::Aio;
use crate::buf::{IoBuf, IoBufMut};
use crate::engine::Engine;
use crate::error::SubmitError;
use crate::flags::PollFlags;
use crate::op::{
    Blank, Callback, Fsync, IntoMixed, Job, Mixed, Operation, Options, PollReady, Receive, Request,
    Rw, Submit, Work,
};
use crate::pending::Pending;
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// A request in the making (`struct kiocb`'s user side). Made by [`Iocb::alloc`] or [`Aio::alloc`], given an
/// operation by an `init_…`, a callback by [`init_callback`](Iocb::init_callback), and passed on by
/// [`submit`](Iocb::submit).
///
/// Until then it is a plain value: dropping it frees it and everything it owns, and nothing has happened. It
/// can be made on one thread and submitted on another.
///
/// ```
/// use kiocb::op::Read;
/// use kiocb::{AlignedBuf, Iocb};
/// use std::sync::mpsc;
///
/// # fn main() -> std::io::Result<()> {
/// let (send, receive) = mpsc::channel();
/// let file = std::fs::File::open("/dev/zero")?;
/// Iocb::alloc()
///     .init_rw(file, Read, AlignedBuf::zeroed(4096), 0)
///     .init_callback(move |done| {
///         let _ = send.send(done.result); // on the completion thread
///     })
///     .submit()?;
/// assert_eq!(receive.recv().unwrap()?, 4096);
/// # Ok(())
/// # }
/// ```
#[must_use = "a request does nothing before it is submitted or waited for"]
pub struct Iocb<S = Blank> {
    target: Target,
    options: Options,
    state: S,
}

/// The context it will go to.
#[derive(Clone, Debug)]
enum Target {
    /// Made when the first request is submitted.
    Global,
    Own(Aio),
}

impl Target {
    fn aio(&self) -> io::Result<&Aio> {
        match self {
            Target::Global => Aio::global_ref(),
            Target::Own(aio) => Ok(aio),
        }
    }
}

impl Iocb {
    /// A blank request for the process-wide context ([`Aio::global`]), which is made when the first is
    /// submitted. Never fails, never blocks, allocates nothing.
    pub fn alloc() -> Iocb {
        Iocb {
            target: Target::Global,
            options: Options::default(),
            state: Blank,
        }
    }
}

impl Iocb {
    /// A read or write at `offset`, in bytes from the beginning of the file. Pipes ignore it, and so does a
    /// write to a file opened with O_APPEND.
    ///
    /// `op` is [`Read`](crate::op::Read) or [`Write`](crate::op::Write) for one buffer,
    /// [`ReadV`](crate::op::ReadV) or [`WriteV`](crate::op::WriteV) for an array or `Vec` of buffers. A read
    /// fills the buffer's capacity, a write sends its length; use [`buf_slice`](crate::buf::IoBuf::buf_slice)
    /// for a part. More than 2 GiB less 4 KiB comes back short.
    ///
    /// The request owns `file` and `buf` until it is complete. A file may be shared as `Arc<File>`. With
    /// O_DIRECT the device decides how offset, length and address must be aligned
    /// ([`DirectFile`](crate::DirectFile) knows it), and says EINVAL as the result. What else can go wrong is
    /// listed at [`submit`](Iocb::submit), if it is found at submission, and at
    /// [`Completion::result`](crate::Completion::result).
    ///
    /// Opcodes `IOCB_CMD_PREAD`, `PWRITE` (Linux 2.6), `PREADV`, `PWRITEV` (2.6.19): asynchronous forms of
    /// [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html) and
    /// [`preadv(2)`](https://man7.org/linux/man-pages/man2/preadv.2.html).
    #[doc(alias = "IOCB_CMD_PREAD")]
    #[doc(alias = "IOCB_CMD_PWRITE")]
    #[doc(alias = "IOCB_CMD_PREADV")]
    #[doc(alias = "IOCB_CMD_PWRITEV")]
    pub fn init_rw<F, O, B>(self, file: F, op: O, buf: B, offset: u64) -> Iocb<Rw<F, O, B>>
    where
        F: AsFd + Send + 'static,
        O: Operation<B>,
        B: Send + 'static,
    {
        self.map(|Blank| Rw::new(file, op, buf, offset))
    }

    /// Flushes data and metadata of `file` to its device, as
    /// [`fsync(2)`](https://man7.org/linux/man-pages/man2/fsync.2.html) does, but on a kernel thread:
    /// `submit` does not block for it. Needs no write access; works on directories.
    ///
    /// It is **not ordered** after writes in flight: submit it when their results have come.
    ///
    /// The whole machine shares such threads, so syncs of other files and processes that are blocked may hold
    /// this one up; `docs/operating.md` says how many. A write with [`RwFlags::DSYNC`](crate::RwFlags::DSYNC)
    /// needs none of them.
    ///
    /// From `submit`: EINVAL where the file has no fsync (pipes, sockets), and on every file before Linux
    /// 4.18: there call `File::sync_all` on a thread of your own. As the result: EIO, ENOSPC, EDQUOT if what
    /// was written before could not be stored. Such an error is said once: a second sync may succeed although
    /// the data are gone. Opcode `IOCB_CMD_FSYNC`, Linux 4.18.
    #[doc(alias = "IOCB_CMD_FSYNC")]
    pub fn init_fsync<F: AsFd + Send + 'static>(self, file: F) -> Iocb<Fsync<F>> {
        self.map(|Blank| Fsync::whole(file))
    }

    /// As [`init_fsync`](Iocb::init_fsync), but without metadata that reading the data back does not need
    /// (times): [`fdatasync(2)`](https://man7.org/linux/man-pages/man2/fdatasync.2.html). Opcode
    /// `IOCB_CMD_FDSYNC`, Linux 4.18.
    #[doc(alias = "IOCB_CMD_FDSYNC")]
    pub fn init_fdsync<F: AsFd + Send + 'static>(self, file: F) -> Iocb<Fsync<F>> {
        self.map(|Blank| Fsync::data(file))
    }

    /// Waits until `file` is ready for one of `events`: [`poll(2)`], once, for eventfds, pipes, sockets,
    /// timers beside file I/O. Submitting it does not block. The outcome is a
    /// [`Readiness`](crate::Readiness).
    ///
    /// It occupies one of the kernel's slots until it fires or is cancelled: count it in
    /// [`AioBuilder::depth`](crate::AioBuilder::depth). [`Pending::cancel`](crate::Pending::cancel) takes it
    /// back, and so does dropping its handle or future. With a callback it is cancelled by the
    /// [`CancelHandle`](crate::CancelHandle) that [`submit_cancellable`](Iocb::submit_cancellable) returns.
    /// Closing the descriptor elsewhere does not end it.
    ///
    /// Regular files, directories and block devices are ready at once, for IN and OUT, as `poll(2)` has it.
    ///
    /// From `submit`: EINVAL where the wait would have to begin and the kernel can't (terminals and other
    /// files with more than one wait queue, and regular files for anything but IN and OUT; what is ready at
    /// once is answered even so), for [`rw_flags`](Iocb::rw_flags),
    /// [`nowait_or_offload`](Iocb::nowait_or_offload), and on every file before Linux 4.19. Opcode
    /// `IOCB_CMD_POLL`, Linux 4.19 (before 5.16 an event could be lost).
    ///
    /// ```
    /// use kiocb::{Iocb, PollFlags};
    /// use std::io::Write;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let readable = Iocb::alloc().init_poll(reader, PollFlags::IN).start()?;
    /// writer.write_all(b"x")?;
    /// assert!(readable.wait().result?.contains(PollFlags::IN));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`poll(2)`]: https://man7.org/linux/man-pages/man2/poll.2.html
    #[doc(alias = "IOCB_CMD_POLL")]
    pub fn init_poll<F: AsFd + Send + 'static>(
        self,
        file: F,
        events: PollFlags,
    ) -> Iocb<PollReady<F>> {
        self.map(|Blank| PollReady::new(file, events))
    }
}

impl Aio {
    /// A blank request for this context, of which it keeps a handle until it is submitted.
    pub fn alloc(&self) -> Iocb {
        Iocb {
            target: Target::Own(self.clone()),
            options: Options::default(),
            state: Blank,
        }
    }
}

impl<S> Iocb<S> {
    /// What to do when the request is complete: called exactly once, with the result, the buffer and the
    /// file, on the thread that [`Dispatch`](crate::Dispatch) says (the completion thread, unless chosen
    /// otherwise), as soon as `submit` is entered.
    ///
    /// It may submit further requests, which leave together when the batch of callbacks is done; it may wait
    /// for others, and drop the last `Aio`. It should not block for long, because other callbacks wait behind
    /// it. A panic is logged and counted, and the others go on. A callback that is not `Send` is for a
    /// [`LocalAio`](crate::LocalAio::submit), which belongs to one thread. What the closure has captured
    /// needs no allocation if that is 48 bytes at most, beside an `Arc<File>` and a `Vec`; smaller files and
    /// buffers leave more for it.
    pub fn init_callback<C>(self, callback: C) -> Iocb<Callback<S, C>>
    where
        S: Request,
        C: FnOnce(S::Output) + Send + 'static, // not `Send`? `LocalAio::submit` takes it as it is
    {
        self.init_receiver(callback)
    }

    /// As [`init_callback`](Iocb::init_callback), for callbacks of the crate's own as well.
    pub(crate) fn init_receiver<C>(self, receiver: C) -> Iocb<Callback<S, C>>
    where
        S: Request,
        C: Receive<S::Output> + 'static,
    {
        self.map(|state| Callback::new(state, receiver))
    }

    /// The same request in a type that all kinds of requests on an `F` with buffers of type `B` have in
    /// common: for one `Vec`, one [`Queue`](crate::Queue), one function. Its outcome has a
    /// [`MixedBuf`](crate::op::MixedBuf).
    ///
    /// ```
    /// use kiocb::op::{MixedBuf, Write, WriteV};
    /// use kiocb::{Aio, Iocb};
    /// use std::sync::Arc;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let log = Arc::new(tempfile::tempfile()?);
    /// let mut requests = vec![
    ///     Iocb::alloc().init_rw(log.clone(), Write, b"head".to_vec(), 0).mixed(),
    ///     Iocb::alloc().init_rw(log.clone(), WriteV, vec![b"a".to_vec(), b"b".to_vec()], 4).mixed(),
    /// ];
    /// let queue = Aio::global()?.queue();
    /// for (number, request) in requests.drain(..).enumerate() {
    ///     queue.push(request, number)?;
    /// }
    /// assert_eq!(queue.wait(2, None)?.map(|(_, done)| done.result.unwrap()).sum::<usize>(), 6);
    ///
    /// queue.push(Iocb::alloc().init_fdsync(log).mixed(), 2)?; // both are complete: now they are durable
    /// let (number, done) = queue.wait(1, None)?.next().unwrap();
    /// assert_eq!((number, done.ok()?.1), (2, MixedBuf::None));
    /// # Ok(())
    /// # }
    /// ```
    pub fn mixed<F, B>(self) -> Iocb<Mixed<F, B>>
    where
        S: IntoMixed<F, B>,
        B: IoBuf + IoBufMut,
    {
        self.map(S::into_mixed)
    }

    /// Submits the request and blocks until it is complete. The waiting thread takes the completion from the
    /// kernel itself, without the completion thread; under [`Dispatch::Anywhere`](crate::Dispatch::Anywhere)
    /// other requests' callbacks may run inside. Works on any thread, inside a callback too. Signals do not
    /// interrupt it.
    ///
    /// # Errors
    /// The request was not submitted and is inside the error: see [`submit`](Iocb::submit) for the reasons.
    /// The errno of the I/O itself is in the completion's `result`.
    pub fn wait(self) -> Result<S::Output, SubmitError<Self>>
    where
        S: Request,
    {
        self.send_to(|aio, job| aio.submit_and_wait(job))
    }

    /// Submits the request and returns a handle that stands for it: a future, or something to wait for with a
    /// deadline. Blocks where [`submit`](Iocb::submit) does; under
    /// [`Dispatch::Anywhere`](crate::Dispatch::Anywhere) callbacks may run inside.
    ///
    /// # Errors
    /// As [`submit`](Iocb::submit).
    pub fn start(self) -> Result<Pending<S>, SubmitError<Self>>
    where
        S: Request,
    {
        self.send(|engine, job| {
            let watch = engine.start(job)?;
            Ok(Pending::new(Arc::clone(engine), watch))
        })
    }
}

impl<S> Iocb<S> {
    /// Submits the request. It is not the caller's any more, and its callback will be called exactly once,
    /// whatever happens afterwards. Any thread may call it, inside a callback too.
    ///
    /// It neither blocks nor fails because the kernel's slots are full: then the request queues in user
    /// space, in the order of submission. It *does* block where the kernel carries out the I/O inside
    /// `io_submit`: buffered files, writes that extend a file (ext4), a frozen file system, a full device
    /// queue, an empty pipe. See [`io_submit(2)`](https://man7.org/linux/man-pages/man2/io_submit.2.html).
    ///
    /// # Errors
    /// The request was not submitted, its callback will not be called, and it is inside the error, whole:
    ///
    /// - EBADF: the descriptor is not open for this operation.
    /// - EINVAL: the offset, or offset and length together, are beyond `i64::MAX`; more than 1024 buffers
    ///   (without [`read_exact`](Iocb::read_exact) or [`write_all`](Iocb::write_all)); an operation that this
    ///   kind of file has not (reading a directory, syncing a pipe); flags that exclude each other, or any on
    ///   a sync or a poll, [`nowait_or_offload`](Iocb::nowait_or_offload) included; a bad priority; no
    ///   eventfd.
    /// - EFAULT: a buffer reaches into the kernel's half of the address space. On s390x, where the kernel has
    ///   an address space of its own, that comes as the completion's result.
    /// - EOPNOTSUPP: a flag that the kernel or the file system does not know.
    /// - EPERM: a real-time priority without privilege; [`NOAPPEND`](crate::RwFlags::NOAPPEND) on an
    ///   append-only file.
    /// - a [`SetupError`](crate::SetupError) inside: the process-wide context could not be made.
    /// - an [`AioError`](crate::AioError) inside: after `shutdown`, in a forked child, no memory in the
    ///   kernel, context gone.
    ///
    /// The errno of the file operation itself (EIO, EINVAL for misaligned O_DIRECT, …) comes as the
    /// completion's result. So does a refusal by the kernel after the request was queued, or held back inside
    /// a callback, with the same errnos.
    pub fn submit(self) -> Result<(), SubmitError<Self>>
    where
        S: Submit,
    {
        self.send(|engine, job| engine.submit(job).map(drop))
    }
}

impl<S> Iocb<S> {
    /// The same with another state.
    fn map<T>(self, change: impl FnOnce(S) -> T) -> Iocb<T> {
        Iocb {
            target: self.target,
            options: self.options,
            state: change(self.state),
        }
    }
}

impl<S: Work> Iocb<S> {
    pub(crate) fn into_job(self) -> Job<S> {
        Job {
            state: self.state,
            options: self.options,
        }
    }

    /// As `into_job`, with the state that `change` makes of this one.
    #[inline]
    pub(crate) fn into_job_of<W: Work>(self, change: impl FnOnce(S) -> W) -> Job<W> {
        Job {
            state: change(self.state),
            options: self.options,
        }
    }

    /// The same for this context.
    pub(crate) fn on(self, aio: &Aio) -> Iocb<S> {
        Iocb {
            target: Target::Own(aio.clone()),
            ..self
        }
    }

    pub(crate) fn from_job(aio: &Aio, job: Job<S>) -> Iocb<S> {
        Iocb {
            target: Target::Own(aio.clone()),
            options: job.options,
            state: job.state,
        }
    }

    /// Passes the request on to its engine, or gives it back whole.
    pub(crate) fn send<T>(
        self,
        way: impl FnOnce(&Arc<Engine>, Job<S>) -> Result<T, (io::Error, Job<S>)>,
    ) -> Result<T, SubmitError<Self>> {
        self.send_to(|aio, job| way(aio.engine(), job))
    }

    fn send_to<T>(
        self,
        way: impl FnOnce(&Aio, Job<S>) -> Result<T, (io::Error, Job<S>)>,
    ) -> Result<T, SubmitError<Self>> {
        let Iocb {
            target,
            options,
            state,
        } = self;
        let job = Job { state, options };
        let sent = match target.aio() {
            Ok(aio) => way(aio, job),
            Err(error) => Err((error, job)),
        };
        sent.map_err(|(error, job)| {
            SubmitError::new(
                error,
                Iocb {
                    target,
                    options: job.options,
                    state: job.state,
                },
            )
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for Iocb<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iocb")
            .field("state", &self.state)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
