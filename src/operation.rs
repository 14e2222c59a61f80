//! What may be asked of the kernel, typed, and how it becomes a raw iocb.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory its request owns"
)]

use crate::buffer::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec};
use crate::completion::{Completion, outcome};
use crate::flags::{IoPriority, RwFlags};
use crate::sys::{self, iocb};
use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// Something that the engine can carry to the kernel and back.
///
/// # Safety
/// - After [`describe`](Work::describe), what the iocb points to, and the descriptor it names, are valid as
///   long as the value is not moved, not touched and not dropped: the kernel may use them until the event
///   arrives.
/// - `describe` leaves `aio_data` alone.
pub unsafe trait Work: Send {
    /// What comes back.
    type Output;

    /// What the engine has to know of it beforehand.
    fn traits(&self) -> Traits {
        Traits::default()
    }

    /// Fills in the iocb. Called once, when the value has reached the address at which it will stay until it
    /// is complete.
    fn describe(&mut self, iocb: &mut iocb);

    /// Whether the kernel's answer is the end, or the operation goes on with what it changed in the iocb; the
    /// answer may be changed too. Asked only of what [`Traits::may_go_on`].
    fn proceed(&mut self, iocb: &mut iocb, result: &mut i64) -> Progress {
        let _ = (iocb, result);
        Progress::Done
    }

    /// Makes the kernel's answer into what the user gets.
    ///
    /// # Safety
    /// `result` is the kernel's answer to the iocb that this value described, or a negative errno.
    unsafe fn finish(self, result: i64) -> Self::Output;
}

/// What the engine has to know of an operation beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Its first answer may not be its last: ask [`Work::proceed`].
    pub may_go_on: bool,
    /// The kernel can cancel it.
    pub cancellable: bool,
    /// It has NOWAIT set, and should go on without, on a thread that may block, where it would have.
    pub offload: bool,
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Deliver it.
    Done,
    /// Submit the iocb again.
    Again,
}

/// What [`init_rw`](crate::Iocb::init_rw) does with a buffer of type `B`: [`Read`], [`Write`], [`ReadV`] or
/// [`WriteV`].
pub trait Operation<B>: Transfer<B> + Copy + Send + fmt::Debug + 'static {}

/// The inside of [`Operation`].
///
/// # Safety
/// What `lend` answers is valid, for reads or writes as the opcode does them, as long as buffer and pieces
/// are not moved, touched or dropped.
pub unsafe trait Transfer<B> {
    /// An iovec array, where one is needed.
    type Pieces: Default + Send + 'static;

    /// `IOCB_CMD_…`.
    const OPCODE: u16;

    /// Address and length (or number of pieces).
    fn lend(buf: &mut B, pieces: &mut Self::Pieces) -> (u64, u64);

    /// The iovec array, where there is one.
    fn io_vecs(pieces: &Self::Pieces) -> &[IoVec] {
        let _ = pieces;
        &[]
    }

    /// # Safety
    /// The kernel transferred `count` bytes by this operation.
    unsafe fn transferred(buf: &mut B, count: usize) {
        let _ = (buf, count);
    }
}

/// Read into one buffer: `pread(2)`.
#[derive(Clone, Copy, Debug)]
pub struct Read;

/// Write from one buffer: `pwrite(2)`.
#[derive(Clone, Copy, Debug)]
pub struct Write;

/// Read into several buffers, one after the other: `preadv(2)`. At most 1024 of them (`IOV_MAX`), else
/// EINVAL.
#[derive(Clone, Copy, Debug)]
pub struct ReadV;

/// Write from several buffers, one after the other: `pwritev(2)`. At most 1024 of them (`IOV_MAX`), else
/// EINVAL.
#[derive(Clone, Copy, Debug)]
pub struct WriteV;

impl<B: IoBufMut> Operation<B> for Read {}
impl<B: IoBuf> Operation<B> for Write {}
impl<B: IoBufsMut> Operation<B> for ReadV {}
impl<B: IoBufs> Operation<B> for WriteV {}

// SAFETY: IoBufMut promises `capacity` writable bytes.
unsafe impl<B: IoBufMut> Transfer<B> for Read {
    type Pieces = ();
    const OPCODE: u16 = sys::IOCB_CMD_PREAD;

    fn lend(buf: &mut B, _: &mut ()) -> (u64, u64) {
        let capacity = buf.capacity() as u64;
        (buf.as_mut_ptr().expose_provenance() as u64, capacity)
    }

    unsafe fn transferred(buf: &mut B, count: usize) {
        debug_assert!(count <= buf.capacity());
        // SAFETY: the kernel wrote the first `count` bytes, and no more than it was lent.
        unsafe { buf.set_init(count) }
    }
}

// SAFETY: IoBuf promises `len` readable bytes.
unsafe impl<B: IoBuf> Transfer<B> for Write {
    type Pieces = ();
    const OPCODE: u16 = sys::IOCB_CMD_PWRITE;

    fn lend(buf: &mut B, _: &mut ()) -> (u64, u64) {
        let len = buf.len() as u64;
        (buf.as_ptr().expose_provenance() as u64, len)
    }
}

// SAFETY: IoBufsMut promises that each piece is writable; the array lies in `pieces`, or is owned by it.
unsafe impl<B: IoBufsMut> Transfer<B> for ReadV {
    type Pieces = Option<B::IoVecs>;
    const OPCODE: u16 = sys::IOCB_CMD_PREADV;

    fn lend(buf: &mut B, pieces: &mut Self::Pieces) -> (u64, u64) {
        let vecs = buf.io_vecs_mut();
        place(pieces.insert(vecs))
    }

    fn io_vecs(pieces: &Self::Pieces) -> &[IoVec] {
        pieces.as_deref().unwrap_or_default()
    }

    unsafe fn transferred(buf: &mut B, count: usize) {
        // SAFETY: the kernel filled the pieces in order with `count` bytes in all.
        unsafe { buf.set_init(count) }
    }
}

// SAFETY: IoBufs promises that each piece is readable; the array lies in `pieces`, or is owned by it.
unsafe impl<B: IoBufs> Transfer<B> for WriteV {
    type Pieces = Option<B::IoVecs>;
    const OPCODE: u16 = sys::IOCB_CMD_PWRITEV;

    fn lend(buf: &mut B, pieces: &mut Self::Pieces) -> (u64, u64) {
        place(pieces.insert(buf.io_vecs()))
    }

    fn io_vecs(pieces: &Self::Pieces) -> &[IoVec] {
        pieces.as_deref().unwrap_or_default()
    }
}

fn place(vecs: &impl Deref<Target = [IoVec]>) -> (u64, u64) {
    (vecs.as_ptr().expose_provenance() as u64, vecs.len() as u64)
}

/// A read or write, ready: made by [`init_rw`](crate::Iocb::init_rw).
pub struct Rw<F, O: Operation<B>, B> {
    file: F,
    buf: B,
    offset: u64,
    pieces: O::Pieces,
}

impl<F, O: Operation<B>, B> Rw<F, O, B> {
    pub(crate) fn new(file: F, _: O, buf: B, offset: u64) -> Self {
        Rw {
            file,
            buf,
            offset,
            pieces: O::Pieces::default(),
        }
    }

    pub(crate) fn into_parts(self) -> (F, B) {
        (self.file, self.buf)
    }

    pub(crate) fn pieces(&self) -> &[IoVec] {
        O::io_vecs(&self.pieces)
    }
}

impl<F, O: Operation<B>, B> fmt::Debug for Rw<F, O, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rw")
            .field("opcode", &O::OPCODE)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

// SAFETY: file, buffer and iovec array are fields, so they stay where they are as long as the value does, and
// `Transfer` and `AsFd` make the same promise for what they point to and name: a BorrowedFd is good as long
// as its owner is borrowed, and nobody touches it meanwhile.
unsafe impl<F: AsFd + Send, O: Operation<B>, B: Send> Work for Rw<F, O, B> {
    type Output = Completion<F, B>;

    fn describe(&mut self, iocb: &mut iocb) {
        let (address, length) = O::lend(&mut self.buf, &mut self.pieces);
        iocb.aio_lio_opcode = O::OPCODE;
        iocb.aio_buf = address;
        iocb.aio_nbytes = length;
        // The kernel's offset is signed: it refuses what is beyond i64::MAX with EINVAL.
        iocb.aio_offset = self.offset.cast_signed();
        iocb.aio_fildes = descriptor(&self.file);
    }

    unsafe fn finish(mut self, result: i64) -> Self::Output {
        let result = outcome(result);
        if let Ok(count) = result {
            // SAFETY: the kernel's own answer, by the caller's promise.
            unsafe { O::transferred(&mut self.buf, count) }
        }
        Completion {
            result,
            buf: self.buf,
            file: self.file,
        }
    }
}

fn descriptor(file: &impl AsFd) -> u32 {
    // Never negative: that is what a BorrowedFd is.
    file.as_fd().as_raw_fd().cast_unsigned()
}

/// An `fsync(2)` or `fdatasync(2)`, ready: made by [`init_fsync`](crate::Iocb::init_fsync) and
/// [`init_fdsync`](crate::Iocb::init_fdsync).
#[derive(Debug)]
pub struct Fsync<F> {
    file: F,
    opcode: u16,
}

impl<F> Fsync<F> {
    pub(crate) fn whole(file: F) -> Self {
        Fsync {
            file,
            opcode: sys::IOCB_CMD_FSYNC,
        }
    }

    pub(crate) fn data(file: F) -> Self {
        Fsync {
            file,
            opcode: sys::IOCB_CMD_FDSYNC,
        }
    }

    pub(crate) fn into_file(self) -> F {
        self.file
    }
}

// SAFETY: no memory is lent; the descriptor as in `Rw`.
unsafe impl<F: AsFd + Send> Work for Fsync<F> {
    type Output = Completion<F, ()>;

    fn describe(&mut self, iocb: &mut iocb) {
        iocb.aio_lio_opcode = self.opcode;
        iocb.aio_fildes = descriptor(&self.file);
    }

    unsafe fn finish(self, result: i64) -> Self::Output {
        Completion {
            result: outcome(result),
            buf: (),
            file: self.file,
        }
    }
}

/// What may be asked of any operation besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub(crate) rw_flags: RwFlags,
    pub(crate) priority: Option<IoPriority>,
    /// Kept open until the request is complete: the kernel looks it up only when it takes the request.
    pub(crate) eventfd: Option<Arc<OwnedFd>>,
    /// Try with NOWAIT, and go on without on a helper thread.
    pub(crate) offload: bool,
}

impl Options {
    fn apply(&self, iocb: &mut iocb) {
        // Only reads and writes can say that they would block.
        let transfers = matches!(
            iocb.aio_lio_opcode,
            sys::IOCB_CMD_PREAD
                | sys::IOCB_CMD_PREADV
                | sys::IOCB_CMD_PWRITE
                | sys::IOCB_CMD_PWRITEV
        );
        let nowait = if self.offload && transfers {
            RwFlags::NOWAIT
        } else {
            RwFlags::empty()
        };
        iocb.aio_rw_flags = (self.rw_flags | nowait).bits();
        if let Some(priority) = self.priority {
            iocb.aio_flags |= sys::IOCB_FLAG_IOPRIO;
            iocb.aio_reqprio = priority.raw().cast_signed();
        }
        if let Some(eventfd) = &self.eventfd {
            iocb.aio_flags |= sys::IOCB_FLAG_RESFD;
            iocb.aio_resfd = descriptor(eventfd);
        }
    }
}

/// An operation with its options: what is submitted.
#[derive(Debug)]
pub(crate) struct Job<S> {
    pub(crate) state: S,
    pub(crate) options: Options,
}

// SAFETY: the state's own promise; the eventfd is held by the options.
unsafe impl<S: Work> Work for Job<S> {
    type Output = S::Output;

    fn traits(&self) -> Traits {
        Traits {
            offload: self.options.offload,
            ..self.state.traits()
        }
    }

    fn describe(&mut self, iocb: &mut iocb) {
        self.state.describe(iocb);
        self.options.apply(iocb);
    }

    fn proceed(&mut self, iocb: &mut iocb, result: &mut i64) -> Progress {
        self.state.proceed(iocb, result)
    }

    unsafe fn finish(self, result: i64) -> Self::Output {
        // SAFETY: passed on.
        unsafe { self.state.finish(result) }
    }
}

/// What is called with the outcome of a request: the user's closure, or a callback of the crate's own, which
/// can be named and taken apart again.
pub trait Receive<T>: Send {
    /// Called once, with what came back.
    fn receive(self, output: T);
}

impl<T, C: FnOnce(T) + Send> Receive<T> for C {
    fn receive(self, output: T) {
        self(output);
    }
}

/// An operation with its callback: made by [`init_callback`](crate::Iocb::init_callback).
#[derive(Debug)]
pub struct Callback<S, C> {
    state: S,
    callback: C,
}

impl<S, C> Callback<S, C> {
    pub(crate) fn new(state: S, callback: C) -> Self {
        Callback { state, callback }
    }

    pub(crate) fn into_parts(self) -> (S, C) {
        (self.state, self.callback)
    }
}

// SAFETY: the state's own promise.
unsafe impl<S: Work, C: Receive<S::Output>> Work for Callback<S, C> {
    type Output = ();

    fn traits(&self) -> Traits {
        self.state.traits()
    }

    fn describe(&mut self, iocb: &mut iocb) {
        self.state.describe(iocb);
    }

    fn proceed(&mut self, iocb: &mut iocb, result: &mut i64) -> Progress {
        self.state.proceed(iocb, result)
    }

    unsafe fn finish(self, result: i64) {
        // SAFETY: passed on.
        let output = unsafe { self.state.finish(result) };
        self.callback.receive(output);
    }
}
