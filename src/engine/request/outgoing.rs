//! A request in the form in which `io_submit` takes it.
#![allow(unsafe_code, reason = "passes the addresses of iocbs to the kernel")]

use super::cell::Cell;
use super::marks::OBSERVED;
use super::owned::OwnedCell;
use crate::sync::UnsafeCell;
use crate::sys::{Kernel, iocb};
use std::ptr::NonNull;

/// The raw pointer for `io_submit`: the address of a request's iocb. Having it is owning the cell.
#[derive(Debug)]
#[repr(transparent)]
pub(in crate::engine) struct Outgoing(NonNull<iocb>);

impl Outgoing {
    #[inline]
    pub(in crate::engine) fn of(request: OwnedCell) -> Outgoing {
        let place = NonNull::new(request.header().iocb.get());
        Outgoing(place.expect("a part of the cell"))
    }

    fn iocb(&self) -> &iocb {
        // SAFETY: it was made of an OwnedCell, and is the cell's one owner since.
        unsafe { self.0.as_ref() }
    }

    /// Descriptor and opcode, for the log.
    pub(in crate::engine) fn name(&self) -> (u32, u16) {
        (self.iocb().aio_fildes, self.iocb().aio_lio_opcode)
    }

    /// The number by which the request is known, if it is observed.
    pub(in crate::engine) fn observed(&self) -> Option<u64> {
        let tag = self.iocb().aio_data;
        // SAFETY: `Cell::new` put the tag there, and the cell is not emptied before this is taken apart.
        let cell = unsafe { Cell::from_tag(tag) };
        cell.header().marks.has(OBSERVED).then_some(tag)
    }

    /// The request again.
    #[inline]
    pub(in crate::engine) fn into_request(self) -> OwnedCell {
        // SAFETY: `Cell::new` put the tag there, and this is the cell's owner.
        OwnedCell(unsafe { Cell::from_tag(self.iocb().aio_data) })
    }

    /// One `io_submit`. What it accepts is taken out of the slice, from the front on; it was the kernel's
    /// from before the call returned (I3).
    #[inline]
    pub(in crate::engine) fn submit(
        batch: &mut [Option<Outgoing>],
        kernel: &Kernel,
    ) -> Result<usize, i32> {
        // SAFETY: an Option of a transparent NonNull is laid out as a pointer that may be null.
        let iocbs = unsafe { &*(std::ptr::from_ref(batch) as *const [*mut iocb]) };
        // SAFETY: the iocbs are of requests that we own and that were described at their final address; their
        // bodies own what they point to, and are not touched before their event is taken (I2). Null would be
        // EFAULT.
        let accepted = unsafe { kernel.submit(iocbs) }?;
        debug_assert!(accepted <= batch.len());
        batch
            .iter_mut()
            .take(accepted)
            .for_each(|sent| *sent = None);
        Ok(accepted)
    }
}

impl Cell {
    /// Asks the kernel to cancel the request. Returns `false` if the kernel does not have it, any more or
    /// yet.
    pub(in crate::engine) fn cancel_in(&self, kernel: &Kernel) -> bool {
        // The address alone: a thread that submits the request may be using the iocb.
        let iocb = UnsafeCell::raw_get(&raw const self.header().iocb);
        // SAFETY: a Cell is of a live cell: it is not given back meanwhile, so its address is this request's
        // and no other's.
        unsafe { kernel.cancel(iocb) }
    }
}
