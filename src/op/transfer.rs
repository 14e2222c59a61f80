//! What a read or write does with its buffers: [`Read`], [`Write`], [`ReadV`], [`WriteV`].
#![allow(
    unsafe_code,
    reason = "promises that an address stays good as long as its buffer does"
)]

use super::rest::{Pieces, View};
use crate::buf::{IoBuf, IoBufMut, IoBufs, IoBufsMut, IoVec};
use crate::sys;
use std::fmt;
use std::ops::Deref;

/// What [`init_rw`](crate::Iocb::init_rw) does with a buffer of type `B`: [`Read`], [`Write`], [`ReadV`] or
/// [`WriteV`].
pub trait Operation<B>: Transfer<B> + Copy + Send + fmt::Debug + 'static {}

/// The inside of [`Operation`].
///
/// # Safety
/// What `memory` returns is valid, for reads or writes as the opcode does them, as long as buffer and pieces
/// are not moved, touched or dropped.
pub unsafe trait Transfer<B> {
    /// An iovec array, where one is needed.
    type Pieces: View;

    /// `IOCB_CMD_…`.
    const OPCODE: u16;

    /// Address and length (or number of pieces).
    fn memory(buf: &mut B, pieces: &mut Self::Pieces) -> (u64, u64);

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

// SAFETY: IoBufMut promises `buf_capacity` writable bytes.
unsafe impl<B: IoBufMut> Transfer<B> for Read {
    type Pieces = ();
    const OPCODE: u16 = sys::IOCB_CMD_PREAD;

    fn memory(buf: &mut B, _: &mut ()) -> (u64, u64) {
        let capacity = buf.buf_capacity() as u64;
        (buf.buf_mut_ptr().expose_provenance() as u64, capacity)
    }

    unsafe fn transferred(buf: &mut B, count: usize) {
        debug_assert!(count <= buf.buf_capacity());
        // SAFETY: the kernel wrote the first `count` bytes, and no more than it was given.
        unsafe { buf.set_init(count) }
    }
}

// SAFETY: IoBuf promises `buf_len` readable bytes.
unsafe impl<B: IoBuf> Transfer<B> for Write {
    type Pieces = ();
    const OPCODE: u16 = sys::IOCB_CMD_PWRITE;

    fn memory(buf: &mut B, _: &mut ()) -> (u64, u64) {
        let len = buf.buf_len() as u64;
        (buf.buf_ptr().expose_provenance() as u64, len)
    }
}

// SAFETY: IoBufsMut promises that each piece is writable; the array lies in `pieces`, or is owned by it.
unsafe impl<B: IoBufsMut> Transfer<B> for ReadV {
    type Pieces = Pieces<B::IoVecs>;
    const OPCODE: u16 = sys::IOCB_CMD_PREADV;

    fn memory(buf: &mut B, pieces: &mut Self::Pieces) -> (u64, u64) {
        let vecs = buf.io_vecs_mut();
        place(pieces.insert(vecs))
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

    fn memory(buf: &mut B, pieces: &mut Self::Pieces) -> (u64, u64) {
        place(pieces.insert(buf.io_vecs()))
    }
}

fn place(vecs: &impl Deref<Target = [IoVec]>) -> (u64, u64) {
    (vecs.as_ptr().expose_provenance() as u64, vecs.len() as u64)
}
