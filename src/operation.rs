//! What may be asked of the kernel, typed, and how it becomes a raw iocb.
#![allow(
    unsafe_code,
    reason = "promises that an iocb points to memory its request owns"
)]

use crate::buffer::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec};
use crate::completion::{Completion, transferred};
use crate::flags::RwFlags;
use crate::rest::{self, Pieces, Rest};
use crate::sys::{self, iocb, statx};
use std::fmt;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

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
    /// is complete. What was asked for besides (flags, priority, eventfd) stands in it already.
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

    /// How many bytes are left of the transfer that `iocb` describes.
    fn left(iocb: &iocb, pieces: &Self::Pieces) -> u64 {
        let _ = pieces;
        iocb.aio_nbytes
    }

    /// How many of them the kernel is asked for at once.
    fn asked(iocb: &iocb, pieces: &Self::Pieces) -> u64 {
        Self::left(iocb, pieces)
    }

    /// The pieces that are left, to be shortened, where there is an iovec array.
    fn rest(pieces: &mut Self::Pieces) -> Option<&mut Rest> {
        let _ = pieces;
        None
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
/// EINVAL; any number with [`read_exact`](crate::Iocb::read_exact).
#[derive(Clone, Copy, Debug)]
pub struct ReadV;

/// Write from several buffers, one after the other: `pwritev(2)`. At most 1024 of them (`IOV_MAX`), else
/// EINVAL; any number with [`write_all`](crate::Iocb::write_all).
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
    type Pieces = Pieces<B::IoVecs>;
    const OPCODE: u16 = sys::IOCB_CMD_PREADV;

    fn lend(buf: &mut B, pieces: &mut Self::Pieces) -> (u64, u64) {
        let vecs = buf.io_vecs_mut();
        place(pieces.insert(vecs))
    }

    fn io_vecs(pieces: &Self::Pieces) -> &[IoVec] {
        pieces.lent()
    }

    fn left(_: &iocb, pieces: &Self::Pieces) -> u64 {
        pieces.left()
    }

    fn asked(_: &iocb, pieces: &Self::Pieces) -> u64 {
        pieces.asked()
    }

    fn rest(pieces: &mut Self::Pieces) -> Option<&mut Rest> {
        Some(pieces.rest())
    }

    unsafe fn transferred(buf: &mut B, count: usize) {
        // SAFETY: the kernel filled the pieces in order with `count` bytes in all.
        unsafe { buf.set_init(count) }
    }
}

// SAFETY: IoBufs promises that each piece is readable; the array lies in `pieces`, or is owned by it.
unsafe impl<B: IoBufs> Transfer<B> for WriteV {
    type Pieces = Pieces<B::IoVecs>;
    const OPCODE: u16 = sys::IOCB_CMD_PWRITEV;

    fn lend(buf: &mut B, pieces: &mut Self::Pieces) -> (u64, u64) {
        place(pieces.insert(buf.io_vecs()))
    }

    fn io_vecs(pieces: &Self::Pieces) -> &[IoVec] {
        pieces.lent()
    }

    fn left(_: &iocb, pieces: &Self::Pieces) -> u64 {
        pieces.left()
    }

    fn asked(_: &iocb, pieces: &Self::Pieces) -> u64 {
        pieces.asked()
    }

    fn rest(pieces: &mut Self::Pieces) -> Option<&mut Rest> {
        Some(pieces.rest())
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
    /// Bytes that the kernel was lent in all, once it is described.
    lent: u64,
    pieces: O::Pieces,
}

impl<F, O: Operation<B>, B> Rw<F, O, B> {
    pub(crate) fn new(file: F, _: O, buf: B, offset: u64) -> Self {
        Rw {
            file,
            buf,
            offset,
            lent: 0,
            pieces: O::Pieces::default(),
        }
    }

    pub(crate) fn into_parts(self) -> (F, B) {
        (self.file, self.buf)
    }

    pub(crate) fn pieces(&self) -> &[IoVec] {
        O::io_vecs(&self.pieces)
    }

    /// Bytes that the kernel was lent in all.
    pub(crate) fn lent(&self) -> u64 {
        self.lent
    }

    pub(crate) const READS: bool = matches!(O::OPCODE, sys::IOCB_CMD_PREAD | sys::IOCB_CMD_PREADV);

    /// How many bytes are left of the transfer that `iocb` describes.
    pub(crate) fn left(&self, iocb: &iocb) -> u64 {
        O::left(iocb, &self.pieces)
    }

    /// How many of them the kernel is asked for at once.
    pub(crate) fn asked(&self, iocb: &iocb) -> u64 {
        O::asked(iocb, &self.pieces)
    }

    /// Points the iocb to what lies `step` bytes further on in memory.
    pub(crate) fn advance(&mut self, iocb: &mut iocb, step: u64) {
        rest::advance(iocb, O::rest(&mut self.pieces), step);
    }

    /// Whether a plain call would go on after a short transfer with NOWAIT: it reads a stored file to its end,
    /// and writes all; but of a pipe it reads what there is.
    fn goes_on(kind: u32) -> bool {
        !Self::READS || matches!(kind, libc::S_IFREG | libc::S_IFBLK)
    }

    /// After NOWAIT transferred `count` bytes and not all: points the iocb to the rest, where a plain call
    /// would go on with it.
    fn go_on(&mut self, iocb: &mut iocb, count: u64) -> bool {
        // SAFETY: the request owns the file, so the descriptor is open.
        let fd = unsafe { BorrowedFd::borrow_raw(iocb.aio_fildes.cast_signed()) };
        // Cached: the reaper may not wait for a file server.
        let Some(kind) = statx::cached_kind(fd).filter(|&kind| Self::goes_on(kind)) else {
            return false;
        };
        if !matches!(kind, libc::S_IFIFO | libc::S_IFSOCK) {
            iocb.aio_offset = iocb.aio_offset.wrapping_add_unsigned(count);
        }
        self.advance(iocb, count);
        true
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
        self.pieces = O::Pieces::default(); // it may have been refused before
        let (address, length) = O::lend(&mut self.buf, &mut self.pieces);
        iocb.aio_lio_opcode = O::OPCODE;
        iocb.aio_buf = address;
        iocb.aio_nbytes = length;
        // The kernel's offset is signed: it refuses what is beyond i64::MAX with EINVAL.
        iocb.aio_offset = self.offset.cast_signed();
        iocb.aio_fildes = descriptor(&self.file);
        self.lent = self.left(iocb);
    }

    /// Asked where NOWAIT is only the first try: it may have come short where a plain call goes on.
    fn proceed(&mut self, iocb: &mut iocb, answer: &mut i64) -> Progress {
        let left = self.left(iocb);
        let done = self.lent - left;
        let tried = iocb.aio_rw_flags & RwFlags::NOWAIT.bits() != 0;
        match u64::try_from(*answer) {
            Ok(count) if tried && count > 0 && count < left && self.go_on(iocb, count) => {
                return Progress::Again;
            }
            // What was transferred before the error is the answer, as it is in a plain call.
            Err(_) if done > 0 => *answer = 0,
            _ => {}
        }
        *answer = answer.saturating_add_unsigned(done);
        Progress::Done
    }

    unsafe fn finish(mut self, result: i64) -> Self::Output {
        let result = transferred(result, self.lent);
        if let Ok(count) = result {
            // SAFETY: the kernel's own answer, by the caller's promise, and not more than it was lent.
            unsafe { O::transferred(&mut self.buf, count) }
        }
        Completion {
            result,
            buf: self.buf,
            file: self.file,
        }
    }
}

pub(crate) fn descriptor(file: &impl AsFd) -> u32 {
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
            result: transferred(result, 0),
            buf: (),
            file: self.file,
        }
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
unsafe impl<S: Work, C: FnOnce(S::Output) + Send> Work for Callback<S, C> {
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
        (self.callback)(output);
    }
}
