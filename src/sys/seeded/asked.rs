//! What an iocb asks for.
#![allow(unsafe_code, reason = "reads what an iocb points to, as a kernel does")]

use super::super::kernel::WAKE;
use super::super::{
    IOCB_CMD_FDSYNC, IOCB_CMD_FSYNC, IOCB_CMD_POLL, IOCB_CMD_PREAD, IOCB_CMD_PREADV,
    IOCB_CMD_PWRITEV, IOCB_FLAG_RESFD, RWF_NOWAIT, iocb,
};

/// The bits of an offset that are below a request's name.
pub(crate) const NAME: u32 = 12;

pub(super) fn is_read(iocb: &iocb) -> bool {
    matches!(iocb.aio_lio_opcode, IOCB_CMD_PREAD | IOCB_CMD_PREADV)
}

pub(super) fn is_sync(iocb: &iocb) -> bool {
    matches!(iocb.aio_lio_opcode, IOCB_CMD_FSYNC | IOCB_CMD_FDSYNC)
}

/// Of a transfer: nothing else has an offset.
pub(super) fn name_of(iocb: &iocb) -> Option<u64> {
    let has_name = iocb.aio_data != WAKE && !is_sync(iocb) && !is_poll(iocb);
    has_name.then(|| iocb.aio_offset.cast_unsigned() >> NAME)
}

/// Addresses and lengths of the memory that a transfer names.
pub(super) fn pieces_of(iocb: &iocb) -> Vec<(usize, usize)> {
    let address = usize::try_from(iocb.aio_buf).expect("64 bits");
    let len = usize::try_from(iocb.aio_nbytes).expect("64 bits");
    let is_vectored = matches!(iocb.aio_lio_opcode, IOCB_CMD_PREADV | IOCB_CMD_PWRITEV);
    if !is_vectored {
        return vec![(address, len)];
    }
    let vectors = std::ptr::with_exposed_provenance::<libc::iovec>(address);
    let piece = |at| {
        // SAFETY: the request says that there are so many.
        let vector = unsafe { vectors.wrapping_add(at).read() };
        (vector.iov_base.addr(), vector.iov_len)
    };
    (0..len).map(piece).collect()
}

pub(super) fn is_poll(iocb: &iocb) -> bool {
    iocb.aio_lio_opcode == IOCB_CMD_POLL
}

pub(super) fn is_nowait(iocb: &iocb) -> bool {
    iocb.aio_rw_flags & RWF_NOWAIT != 0
}

pub(super) fn has_eventfd(iocb: &iocb) -> bool {
    iocb.aio_flags & IOCB_FLAG_RESFD != 0
}
