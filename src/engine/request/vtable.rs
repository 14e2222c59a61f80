//! The operations on a cell that depend on the type of its body, which is known where the cell is made.
#![allow(unsafe_code, reason = "type-erased bodies")]

use super::cell::{Cell, VTable};
use crate::op::{Progress, Work};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The functions of a request with a callback.
pub(super) struct Callbacks<W>(PhantomData<W>);

impl<W: Work<Output = ()>> Callbacks<W> {
    pub(super) const VTABLE: VTable = VTable {
        run: run_callback::<W>,
        discard: drop_body::<W>,
        proceed: proceed::<W>,
        eventfd: eventfd::<W>,
    };
}

/// The functions of a request with a watcher.
pub(super) struct Watched<W>(PhantomData<W>);

impl<W: Work> Watched<W> {
    pub(super) const VTABLE: VTable = VTable {
        run: drop_body::<W>,
        discard: drop_body::<W>,
        proceed: proceed::<W>,
        eventfd: eventfd::<W>,
    };
}

/// # Safety
/// As [`Cell::empty`]; the result is stored.
unsafe fn run_callback<W: Work<Output = ()>>(cell: Cell) {
    // SAFETY: the caller owns the cell, so the result is not being written.
    let result = unsafe { *cell.header().result.get() };
    // SAFETY: the caller's promise. The cell is free before the callback runs: the request that it submits
    // finds it warm.
    let work = unsafe { cell.empty::<W>() };
    // SAFETY: the result is what the kernel said of this very request, or the errno with which it refused it.
    unsafe { work.finish(result) }
}

/// # Safety
/// As [`Cell::empty`].
unsafe fn drop_body<W: Work>(cell: Cell) {
    // SAFETY: the caller's promise.
    drop(unsafe { cell.empty::<W>() });
}

/// # Safety
/// The caller owns the cell, which was filled with this `W`; the result is stored.
unsafe fn proceed<W: Work>(cell: &Cell) -> Progress {
    // SAFETY: the caller owns the cell.
    let iocb = unsafe { &mut *cell.header().iocb.get() };
    // SAFETY: as above.
    let result = unsafe { &mut *cell.header().result.get() };
    // SAFETY: the caller's promise.
    let home = unsafe { cell.body::<W>() };
    // SAFETY: the kernel is done with it, so the body may be touched; it overlaps with neither of the two.
    unsafe { &mut *home.as_ptr() }.proceed(iocb, result)
}

/// # Safety
/// The caller owns the cell, which was filled with this `W`.
unsafe fn eventfd<W: Work>(cell: &Cell) -> Option<Arc<OwnedFd>> {
    // SAFETY: the caller's promise.
    let home = unsafe { cell.body::<W>() };
    // SAFETY: the caller owns the cell, so the body does not change meanwhile.
    unsafe { home.as_ref() }.eventfd().cloned()
}
