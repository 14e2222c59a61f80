//! The kernel's types and constants: documented, each constant with the type of the field it goes
//! into, and checked at compile time against what this file's author read in the kernel, so that
//! generator and author must agree.

use super::bindings;
use core::ffi::{c_long, c_uint};
use core::mem::{align_of, offset_of, size_of};

// build.rs says the same, earlier: cargo then stops there, before errors that follow from this one.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("kiocb needs 64-bit Linux: kernel AIO exists nowhere else in this form");

/// A kernel AIO context: what [`io_setup`](super::io_setup) returns and every other call takes.
///
/// It is the address of the context's event ring in this process, and means nothing in another, a
/// forked child included.
#[allow(non_camel_case_types, reason = "the kernel's name")]
pub type aio_context_t = u64;

/// One request, 64 bytes: `struct iocb` of `<linux/aio_abi.h>`
/// ([io_submit(2)](https://man7.org/linux/man-pages/man2/io_submit.2.html)).
///
/// `Default` is all zeroes. The kernel copies it during [`io_submit`](super::io_submit), so it may
/// be reused as soon as that call has returned; what its fields point to must live until the
/// request's event has been reaped.
///
/// | field | meaning |
/// | --- | --- |
/// | `aio_data` | the caller's own; comes back in [`io_event::data`] |
/// | `aio_key` | set to 0 by the kernel during submission; [`io_cancel`](super::io_cancel) wants it so |
/// | `aio_rw_flags` | `RWF_*`, for reads and writes; 0 for everything else |
/// | `aio_lio_opcode` | `IOCB_CMD_*` |
/// | `aio_reqprio` | an I/O priority ([ioprio_set(2)](https://man7.org/linux/man-pages/man2/ioprio_set.2.html)), used with [`IOCB_FLAG_IOPRIO`] |
/// | `aio_fildes` | the file descriptor; the kernel holds the open file until the request is complete, so it may be closed before |
/// | `aio_buf` | address of the buffer, or of an array of `struct iovec` (which is read during the call); for [`IOCB_CMD_POLL`] the event mask |
/// | `aio_nbytes` | bytes, or number of iovecs; at most 0x7fff_f000 bytes are transferred |
/// | `aio_offset` | position in the file, in bytes, not negative |
/// | `aio_reserved2` | 0 |
/// | `aio_flags` | `IOCB_FLAG_*` |
/// | `aio_resfd` | an eventfd that counts the completion, used with [`IOCB_FLAG_RESFD`] |
///
/// `aio_key` and `aio_rw_flags` change places on big-endian machines.
#[doc(inline)]
pub use bindings::iocb;

/// One completion, 32 bytes: `struct io_event` of `<linux/aio_abi.h>`
/// ([io_getevents(2)](https://man7.org/linux/man-pages/man2/io_getevents.2.html)).
///
/// | field | meaning |
/// | --- | --- |
/// | `data` | [`iocb::aio_data`] of the request |
/// | `obj` | the address that the [`iocb`] had at submission |
/// | `res` | bytes transferred, or 0; of a poll its events, of which some may come unasked; negative: `-errno` |
/// | `res2` | 0 |
#[doc(inline)]
pub use bindings::io_event;

/// `aio_lio_opcode`: read into a buffer, as [pread(2)](https://man7.org/linux/man-pages/man2/pread.2.html).
pub const IOCB_CMD_PREAD: u16 = opcode(bindings::IOCB_CMD_PREAD);
/// `aio_lio_opcode`: write a buffer, as [pwrite(2)](https://man7.org/linux/man-pages/man2/pwrite.2.html).
pub const IOCB_CMD_PWRITE: u16 = opcode(bindings::IOCB_CMD_PWRITE);
/// `aio_lio_opcode`: as [fsync(2)](https://man7.org/linux/man-pages/man2/fsync.2.html). Since Linux
/// 4.18. Does not wait for writes that are still in flight.
pub const IOCB_CMD_FSYNC: u16 = opcode(bindings::IOCB_CMD_FSYNC);
/// `aio_lio_opcode`: as [fdatasync(2)](https://man7.org/linux/man-pages/man2/fdatasync.2.html).
/// Since Linux 4.18. Does not wait for writes that are still in flight.
pub const IOCB_CMD_FDSYNC: u16 = opcode(bindings::IOCB_CMD_FDSYNC);
/// `aio_lio_opcode`: wait, once, for the events in `aio_buf`, as
/// [poll(2)](https://man7.org/linux/man-pages/man2/poll.2.html). Since Linux 4.19.
pub const IOCB_CMD_POLL: u16 = opcode(bindings::IOCB_CMD_POLL);
/// `aio_lio_opcode`: named in the header, but refused by the kernel (`EINVAL`).
pub const IOCB_CMD_NOOP: u16 = opcode(bindings::IOCB_CMD_NOOP);
/// `aio_lio_opcode`: read into an array of `struct iovec`, as
/// [preadv(2)](https://man7.org/linux/man-pages/man2/preadv.2.html).
pub const IOCB_CMD_PREADV: u16 = opcode(bindings::IOCB_CMD_PREADV);
/// `aio_lio_opcode`: write an array of `struct iovec`, as
/// [pwritev(2)](https://man7.org/linux/man-pages/man2/pwritev.2.html).
pub const IOCB_CMD_PWRITEV: u16 = opcode(bindings::IOCB_CMD_PWRITEV);

/// `aio_flags`: [`iocb::aio_resfd`] is an
/// [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html) to be signalled.
pub const IOCB_FLAG_RESFD: u32 = bindings::IOCB_FLAG_RESFD;
/// `aio_flags`: [`iocb::aio_reqprio`] is valid. Since Linux 4.18; without it the field is ignored.
pub const IOCB_FLAG_IOPRIO: u32 = bindings::IOCB_FLAG_IOPRIO;

/// `aio_rw_flags`: high priority. Kernel AIO takes it and does not poll the device. Since Linux 4.13.
pub const RWF_HIPRI: i32 = bindings::RWF_HIPRI;
/// `aio_rw_flags`: this write as if the file had `O_DSYNC`. Since Linux 4.13.
pub const RWF_DSYNC: i32 = bindings::RWF_DSYNC;
/// `aio_rw_flags`: this write as if the file had `O_SYNC`. Since Linux 4.13.
pub const RWF_SYNC: i32 = bindings::RWF_SYNC;
/// `aio_rw_flags`: complete with `EAGAIN` rather than block. Since Linux 4.13; `EOPNOTSUPP` from the
/// submission where the file can't tell (tmpfs).
pub const RWF_NOWAIT: i32 = bindings::RWF_NOWAIT;
/// `aio_rw_flags`: this write as if the file had `O_APPEND`; the offset is ignored. Since Linux 4.16.
pub const RWF_APPEND: i32 = bindings::RWF_APPEND;
/// `aio_rw_flags`: this write at its offset although the file has `O_APPEND`. Since Linux 6.9.
pub const RWF_NOAPPEND: i32 = bindings::RWF_NOAPPEND;
/// `aio_rw_flags`: this write wholly or not at all, also across a power loss. Since Linux 6.11, where
/// device and file system can.
pub const RWF_ATOMIC: i32 = bindings::RWF_ATOMIC;
/// `aio_rw_flags`: buffered, but dropped from the page cache afterwards. Since Linux 6.14, where the
/// file system can.
pub const RWF_DONTCACHE: i32 = bindings::RWF_DONTCACHE;
/// `aio_rw_flags`: no `SIGPIPE` from writing to a pipe or socket whose other end is closed. Since
/// Linux 6.18.
pub const RWF_NOSIGNAL: i32 = bindings::RWF_NOSIGNAL;

/// The system call's number, which libc lacks for glibc targets: from the kernel's `syscall.tbl`
/// files. Every architecture since 2012 has the generic table.
pub(super) const SYS_IO_PGETEVENTS: c_long = if cfg!(target_arch = "x86_64") {
    333
} else if cfg!(target_arch = "powerpc64") {
    388
} else if cfg!(target_arch = "s390x") {
    382
} else if cfg!(target_arch = "sparc64") {
    361
} else if MIPS {
    5328
} else {
    292
};

/// Words of 64 signals in the kernel's `sigset_t`: MIPS has 128 signals.
pub(super) const SIGSET_WORDS: usize = if MIPS { 2 } else { 1 };

const MIPS: bool = cfg!(any(target_arch = "mips64", target_arch = "mips64r6"));

/// A constant of the header's enum, as the 16 bits that `aio_lio_opcode` has.
const fn opcode(command: c_uint) -> u16 {
    assert!(command <= 0xffff);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "asserted in the line above, at compile time"
    )]
    let opcode = command as u16;
    opcode
}

// From here on: the checks. The numbers are written by hand from the kernel's uapi headers
// (linux/aio_abi.h, linux/fs.h) and know nothing of the generated file.

const _: fn(bindings::aio_context_t) -> aio_context_t = |context| context;

const _: () = {
    const LITTLE_ENDIAN: bool = cfg!(target_endian = "little");

    assert!(size_of::<aio_context_t>() == 8);

    assert!(size_of::<iocb>() == 64 && align_of::<iocb>() == 8);
    assert!(offset_of!(iocb, aio_data) == 0);
    // One 64-bit word to old kernels: its halves follow the byte order.
    assert!(offset_of!(iocb, aio_key) == if LITTLE_ENDIAN { 8 } else { 12 });
    assert!(offset_of!(iocb, aio_rw_flags) == if LITTLE_ENDIAN { 12 } else { 8 });
    assert!(offset_of!(iocb, aio_lio_opcode) == 16);
    assert!(offset_of!(iocb, aio_reqprio) == 18);
    assert!(offset_of!(iocb, aio_fildes) == 20);
    assert!(offset_of!(iocb, aio_buf) == 24);
    assert!(offset_of!(iocb, aio_nbytes) == 32);
    assert!(offset_of!(iocb, aio_offset) == 40);
    assert!(offset_of!(iocb, aio_reserved2) == 48);
    assert!(offset_of!(iocb, aio_flags) == 56);
    assert!(offset_of!(iocb, aio_resfd) == 60);

    assert!(size_of::<io_event>() == 32 && align_of::<io_event>() == 8);
    assert!(offset_of!(io_event, data) == 0);
    assert!(offset_of!(io_event, obj) == 8);
    assert!(offset_of!(io_event, res) == 16);
    assert!(offset_of!(io_event, res2) == 24);
};

/// Every field with its type: fails to compile when one is missing, new, or of another type.
const _: fn(iocb, io_event) = |request, event| {
    let iocb {
        aio_data,
        aio_key,
        aio_rw_flags,
        aio_lio_opcode,
        aio_reqprio,
        aio_fildes,
        aio_buf,
        aio_nbytes,
        aio_offset,
        aio_reserved2,
        aio_flags,
        aio_resfd,
    } = request;
    let _: [u64; 4] = [aio_data, aio_buf, aio_nbytes, aio_reserved2];
    let _: [u32; 4] = [aio_key, aio_fildes, aio_flags, aio_resfd];
    let _: (i32, u16, i16, i64) = (aio_rw_flags, aio_lio_opcode, aio_reqprio, aio_offset);
    let io_event {
        data,
        obj,
        res,
        res2,
    } = event;
    let _: ([u64; 2], [i64; 2]) = ([data, obj], [res, res2]);
};

const _: () = {
    assert!(
        IOCB_CMD_PREAD == 0 && IOCB_CMD_PWRITE == 1 && IOCB_CMD_FSYNC == 2 && IOCB_CMD_FDSYNC == 3
    );
    assert!(
        IOCB_CMD_POLL == 5 && IOCB_CMD_NOOP == 6 && IOCB_CMD_PREADV == 7 && IOCB_CMD_PWRITEV == 8
    );
    assert!(IOCB_FLAG_RESFD == 1 && IOCB_FLAG_IOPRIO == 2);
    assert!(
        RWF_HIPRI == 0x1
            && RWF_DSYNC == 0x2
            && RWF_SYNC == 0x4
            && RWF_NOWAIT == 0x8
            && RWF_APPEND == 0x10
    );
    assert!(
        RWF_NOAPPEND == 0x20
            && RWF_ATOMIC == 0x40
            && RWF_DONTCACHE == 0x80
            && RWF_NOSIGNAL == 0x100
    );
};
