//! One function for each system call, through libc's `syscall`: arguments in, `errno` out, nothing
//! in between. None of them is retried, none allocates, each may be called from any thread.

#![allow(unsafe_code, reason = "the system calls themselves")]

use super::abi::{SIGSET_WORDS, SYS_IO_PGETEVENTS, aio_context_t, io_event, iocb};
use libc::{c_long, syscall, timespec};
use std::io;
use std::ptr;
use std::time::Duration;

/// `int io_setup(unsigned nr_events, aio_context_t *ctx_idp)`: makes a context that can hold at
/// least `nr_events` requests ([io_setup(2)](https://man7.org/linux/man-pages/man2/io_setup.2.html),
/// Linux 2.5).
///
/// The event ring is larger than asked for, but `fs.aio-max-nr`, a limit of the whole machine, is
/// charged with `nr_events`. Does not block, except for memory.
///
/// # Safety
///
/// * The context's ring is mapped into this process, at the address that the returned number is.
///   Nothing may unmap, remap or write that memory before [`io_destroy`], except to consume events
///   as the ring's protocol has it.
/// * A forked child shares the ring on kernels before 7.1: it must not touch it.
///
/// # Errors
///
/// | errno | when, and what to do |
/// | --- | --- |
/// | `EAGAIN` | `fs.aio-nr` + `nr_events` would pass `fs.aio-max-nr`: ask for less, or raise the limit |
/// | `EINVAL` | `nr_events` is 0, or so large (millions) that the ring's size overflows |
/// | `ENOMEM` | no memory, or no address space (`RLIMIT_AS`), for the ring |
/// | `EINTR` | the thread is being killed |
/// | `ENOSYS` | a kernel without `CONFIG_AIO`, or a sandbox that hides it |
/// | `EPERM` | forbidden by a seccomp filter |
#[inline]
pub unsafe fn io_setup(nr_events: u32) -> io::Result<aio_context_t> {
    // The kernel refuses a handle that is not zero, so that none is overwritten by mistake.
    let mut ctx: aio_context_t = 0;
    // SAFETY: `ctx` is valid for the write of one `aio_context_t`; the ring is the caller's affair.
    let result = unsafe { syscall(libc::SYS_io_setup, nr_events, &raw mut ctx) };
    count(result).map(|_| ctx)
}

/// `int io_destroy(aio_context_t ctx_id)`: ends a context
/// ([io_destroy(2)](https://man7.org/linux/man-pages/man2/io_destroy.2.html), Linux 2.5).
///
/// Cancels what can be cancelled (polls), **blocks, uninterruptibly, until all requests in flight are
/// complete**, and throws their events away, with those that were not reaped. Takes some 30 ms even on an
/// idle context. Calls of other threads on this context return `EINVAL` from then on.
///
/// # Safety
///
/// * No thread reads the ring during or after the call: its memory is unmapped.
/// * No thread uses the number `ctx` afterwards: a later context may get the same one.
///
/// # Errors
///
/// | errno | when |
/// | --- | --- |
/// | `EINVAL` | not a context of this process (never was, destroyed already, inherited over `fork`) |
/// | `ENOSYS`, `EPERM` | as for [`io_setup`] |
#[inline]
pub unsafe fn io_destroy(ctx: aio_context_t) -> io::Result<()> {
    // SAFETY: no pointer is passed; what becomes of the ring is in this function's contract.
    let result = unsafe { syscall(libc::SYS_io_destroy, ctx) };
    count(result).map(|_| ())
}

/// `int io_submit(aio_context_t ctx_id, long nr, struct iocb **iocbpp)`: starts requests
/// ([io_submit(2)](https://man7.org/linux/man-pages/man2/io_submit.2.html), Linux 2.5).
///
/// Returns how many of the `nr` requests were accepted, from the first one on; there will be one
/// event for each of these. It may be fewer than `nr`: then the next one was refused, and the rest
/// was not looked at. Call again from the refused one to learn its errno. With `nr` 0 it tells
/// whether the context is valid.
///
/// A request can be complete, and its event reaped by another thread, before this returns. May
/// block for as long as the file takes: reads and writes through the page cache, writes that
/// allocate, a congested device, an empty pipe.
///
/// # Safety
///
/// * `iocbs` points to `nr` readable pointers, each to an [`iocb`] that is readable and writable
///   during the call: although it looks like input, the kernel sets its `aio_key`.
/// * Of each: `aio_fildes` (and `aio_resfd`, if used) is a descriptor that the caller may use.
/// * Of each accepted one: the memory at `aio_buf` (at each iovec) is valid, for writes if it is a
///   read, and not accessed otherwise, until its event has been reaped or [`io_destroy`] has
///   returned. The iovec array itself is only read during the call.
///
/// # Errors
///
/// All of them are about the first of the requests, or about the call as a whole; nothing was
/// started. Errors of the operation itself (`EIO`, `ENOSPC`, `EFBIG`, `EFAULT` for an unmapped
/// buffer, `EINVAL` for misaligned `O_DIRECT` …) come in its event.
///
/// | errno | when, and what to do |
/// | --- | --- |
/// | `EAGAIN` | no free slot in the ring (or no kernel memory): reap an event, then try again |
/// | `EBADF` | `aio_fildes` is closed, `O_PATH`, or not open for this direction; `aio_resfd` is closed |
/// | `EFAULT` | `iocbs` or the request can't be read or written; the buffer is not in user space (on s390x, where an address does not say so, its event has the error) |
/// | `EINVAL` | the request is malformed (a negative or overflowing offset, a field that must be 0), or its file can't do it; or `ctx` is not a valid context (find out with `nr` 0), or `nr` does not fit a `long` |
/// | `EOPNOTSUPP` | an `RWF_*` flag that this kernel or this file doesn't know |
/// | `EPERM` | a real-time `aio_reqprio` without privilege; a seccomp filter |
/// | `ENOSYS` | as for [`io_setup`] |
#[inline]
pub unsafe fn io_submit(
    ctx: aio_context_t,
    iocbs: *const *mut iocb,
    nr: usize,
) -> io::Result<usize> {
    // SAFETY: the pointers are valid by this function's contract.
    let result = unsafe { syscall(libc::SYS_io_submit, ctx, nr, iocbs) };
    count(result)
}

/// `int io_getevents(aio_context_t ctx_id, long min_nr, long nr, struct io_event *events, struct
/// timespec *timeout)`: reaps events
/// ([io_getevents(2)](https://man7.org/linux/man-pages/man2/io_getevents.2.html), Linux 2.5).
///
/// Blocks until `min_nr` events are there or `timeout` has passed (`None`: for ever), then returns
/// how many, up to `nr`, it has put into `events`. A zero timeout only looks. It may return fewer
/// than `min_nr`, also when a signal arrives after some events have been taken.
///
/// # Safety
///
/// * `events` is valid for writes of `nr` [`io_event`]s, **or** is an address that user space can't write (in
///   the kernel half): then this waits as usual, fails with `EFAULT`, and takes nothing.
/// * No other thread reads the ring in user space at the same time, unless `events` is unwritable: the same
///   event would be delivered twice.
///
/// # Errors
///
/// | errno | when, and what to do |
/// | --- | --- |
/// | `EINTR` | a signal came before any event; `SA_RESTART` does not help. Call again |
/// | `EFAULT` | `events` can't be written. No event is lost |
/// | `EINVAL` | `ctx` is not a valid context (or was destroyed meanwhile), `min_nr` > `nr`, or one does not fit a `long` |
/// | `ENOSYS`, `EPERM` | as for [`io_setup`] |
#[inline]
pub unsafe fn io_getevents(
    ctx: aio_context_t,
    min_nr: usize,
    nr: usize,
    events: *mut io_event,
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let timeout = timeout.map(kernel_time);
    let timeout = pointer(timeout.as_ref());
    // SAFETY: `events` is valid by this function's contract; `timeout` is null or outlives the call.
    let result = unsafe { syscall(libc::SYS_io_getevents, ctx, min_nr, nr, events, timeout) };
    count(result)
}

/// `int io_pgetevents(aio_context_t ctx_id, long min_nr, long nr, struct io_event *events, struct
/// timespec *timeout, const struct __aio_sigset *usig)`: [`io_getevents`] with a signal mask in
/// force while it waits, as `ppoll` is to `poll`
/// ([io_getevents(2)](https://man7.org/linux/man-pages/man2/io_getevents.2.html), Linux 4.18).
///
/// Bit `n - 1` of `sigmask` blocks signal `n`; `None` leaves the thread's mask alone. (On MIPS,
/// which has 128 signals, those above 64 are not blocked.)
///
/// # Safety
///
/// As for [`io_getevents`].
///
/// # Errors
///
/// As for [`io_getevents`], where `ENOSYS` can also mean a kernel before 4.18, and `EPERM` a seccomp
/// profile that lets the other calls pass (old ones of container runtimes did).
#[inline]
pub unsafe fn io_pgetevents(
    ctx: aio_context_t,
    min_nr: usize,
    nr: usize,
    events: *mut io_event,
    timeout: Option<Duration>,
    sigmask: Option<&u64>,
) -> io::Result<usize> {
    let timeout = timeout.map(kernel_time);
    let timeout = pointer(timeout.as_ref());
    let set = sigmask.map(|&mask| kernel_sigset(mask));
    let usig = AioSigset {
        sigmask: pointer(set.as_ref()),
        sigsetsize: size_of::<Sigset>(),
    };
    // SAFETY: `events` is valid by this function's contract; the other pointers are null or point
    // to locals that outlive the call.
    let result = unsafe {
        syscall(
            SYS_IO_PGETEVENTS,
            ctx,
            min_nr,
            nr,
            events,
            timeout,
            &raw const usig,
        )
    };
    count(result)
}

/// `int io_cancel(aio_context_t ctx_id, struct iocb *iocb, struct io_event *result)`: asks for the
/// end of a request in flight
/// ([io_cancel(2)](https://man7.org/linux/man-pages/man2/io_cancel.2.html), Linux 2.5).
///
/// Only polls, and files of a few drivers (USB gadgets), can be cancelled: never reads or writes of
/// ordinary files and devices. **The usual success is the error `EINPROGRESS`**: the request was
/// found and will complete, with an event in the ring as always (a poll's `res` is then 0).
///
/// The request is found by the *address* `iocb`, the one it had when it was submitted; with two in
/// flight from one address the older one is hit. `result` is not used by kernels since 3.11.
///
/// # Safety
///
/// * `iocb` is readable (the kernel reads its `aio_key`) and `result` valid for the write of an
///   [`io_event`].
/// * The buffer and the file of the request stay in use: they are free only when its event has been reaped.
///
/// # Errors
///
/// | errno | when |
/// | --- | --- |
/// | `EINPROGRESS` | cancelled; its event follows |
/// | `EINVAL` | no such request in flight, or one that can't be cancelled; `ctx` is not valid; `aio_key` is not 0 |
/// | `EFAULT` | `iocb` can't be read |
/// | `EAGAIN` | the driver could not cancel it |
/// | `ENOSYS`, `EPERM` | as for [`io_setup`] |
#[inline]
pub unsafe fn io_cancel(
    ctx: aio_context_t,
    iocb: *mut iocb,
    result: *mut io_event,
) -> io::Result<()> {
    // SAFETY: the pointers are valid by this function's contract.
    let result = unsafe { syscall(libc::SYS_io_cancel, ctx, iocb, result) };
    count(result).map(|_| ())
}

/// `ppoll(NULL, 0, timeout, sigmask)` ([ppoll(2)](https://man7.org/linux/man-pages/man2/ppoll.2.html)): sleeps
/// with a signal mask in force. EINTR when a signal came.
pub(crate) fn sleep_with_mask(timeout: Duration, mask: u64) -> io::Result<()> {
    let mut left = kernel_time(timeout);
    let set = kernel_sigset(mask);
    let nothing = ptr::null_mut::<libc::pollfd>();
    // SAFETY: no descriptors are passed; the other pointers point to locals that outlive the call. The kernel
    // writes the time that is left to `left`, which is ours to be written and is not read again.
    let result = unsafe {
        syscall(
            libc::SYS_ppoll,
            nothing,
            0_usize,
            &raw mut left,
            &raw const set,
            size_of::<Sigset>(),
        )
    };
    count(result).map(|_| ())
}

/// `clock_gettime(CLOCK_MONOTONIC_COARSE, …)`
/// ([clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html), Linux 2.6.32): in the
/// vDSO, so not really a system call. Zero where there is no such clock.
#[inline]
#[cfg_attr(
    all(test, any(loom, shuttle)),
    allow(dead_code, reason = "models and the simulation have their own clocks")
)]
pub(crate) fn clock_coarse() -> timespec {
    let mut now = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for the write of one `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now
}

/// The kernel's `sigset_t`, which is smaller than libc's.
type Sigset = [u64; SIGSET_WORDS];

/// `struct __aio_sigset` of fs/aio.c.
#[repr(C)]
struct AioSigset {
    sigmask: *const Sigset,
    sigsetsize: usize,
}

/// A system call's result: -1 means that `errno` is set, everything else is a count.
#[inline]
fn count(result: c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Never negative, which the kernel takes for "for ever"; what does not fit is 292 billion years.
#[inline]
fn kernel_time(duration: Duration) -> timespec {
    timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[inline]
fn kernel_sigset(mask: u64) -> Sigset {
    let mut set = [0; SIGSET_WORDS];
    set[0] = mask;
    set
}

#[inline]
fn pointer<T>(value: Option<&T>) -> *const T {
    value.map_or(ptr::null(), ptr::from_ref)
}
