//! One kernel context as the engine sees it, and the seam behind which a simulated kernel stands in tests.
//!
//! Everything here speaks errno numbers: the engine decides what they mean.
#![allow(unsafe_code, reason = "passes addresses to system calls")]

use super::ring::{Ring, Take};
use super::{aio_context_t, io_event, iocb, syscall};
use crate::user_code;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// The tag of the self-wake: no request has it, because requests are tagged with their address.
pub(crate) const WAKE: u64 = 1;

/// An event buffer that can't be written: in the kernel's half of the address space on every 64-bit Linux.
/// `io_getevents` given it sleeps as ever, wakes, fails to copy (EFAULT) and consumes nothing: a pure wait.
const UNWRITABLE: usize = !0xfff;

/// The errno of a wait for a ring to which other code of the process has written, so that no event can be taken:
/// "structure needs cleaning", which `io_getevents` never says.
pub(crate) const OVERWRITTEN: i32 = libc::EUCLEAN;

/// How many events one system call may bring where the ring can't be read.
const FETCH: usize = 128;

/// How completions are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// From the mapped ring, sleeping by pure wait.
    Ring,
    /// By `io_getevents` alone, one thread at a time.
    Syscalls,
}

/// A system call without which there is no context.
#[derive(Debug)]
pub(crate) struct FailedCall {
    pub(crate) call: &'static str,
    pub(crate) error: io::Error,
}

impl FailedCall {
    /// For `map_err`.
    fn of(call: &'static str) -> impl Fn(io::Error) -> FailedCall {
        move |error| FailedCall { call, error }
    }

    fn with(call: &'static str, errno: i32) -> FailedCall {
        FailedCall::of(call)(io::Error::from_raw_os_error(errno))
    }
}

/// A kernel AIO context.
#[derive(Debug)]
pub(crate) struct Kernel {
    id: aio_context_t,
    ring: Option<Ring>,
    /// A private empty file: reading zero bytes of it completes at once, which wakes a thread that waits for
    /// an event.
    scratch: File,
    /// For the log: a logger may ask for the context that is just being made.
    dont_fork: io::Result<()>,
    is_distrusted: bool,
}

impl Kernel {
    /// Makes a context for `nr` requests at once, and finds out how its completions can be read.
    pub(crate) fn setup(nr: u32, force_syscalls: bool) -> Result<Kernel, FailedCall> {
        refuse_if_calls_are_refused()?;
        let scratch = scratch_file().map_err(FailedCall::of("memfd_create"))?;
        let id = setup_uninterrupted(nr).map_err(FailedCall::of("io_setup"))?;
        let mut kernel = Kernel {
            id,
            ring: None,
            scratch,
            dont_fork: Ok(()),
            is_distrusted: false,
        };
        // SAFETY: made just now, and destroyed only by `destroy`, whose caller promises that no thread reads
        // the ring any more.
        let ring = unsafe { Ring::of(id, &kernel.scratch) };
        if let Some(ring) = &ring {
            // A child that can't see the ring can't harm it. Failing here only loses that second line of
            // defence: handles refuse to work in a child.
            kernel.dont_fork = ring.dont_fork();
        }
        if !force_syscalls {
            kernel.ring = ring;
            kernel.distrust_unless_pure_wait_works();
        }
        match kernel.try_calls() {
            Ok(()) => Ok(kernel),
            Err(failed) => {
                // SAFETY: no other thread has it.
                let _ = unsafe { kernel.destroy() };
                Err(failed)
            }
        }
    }

    /// Logs what an operator may want to know of how the context of this name was made.
    pub(crate) fn log(&self, name: &str) {
        if let Err(error) = &self.dont_fork {
            user_code::debug(format_args!(
                "{name}: madvise(MADV_DONTFORK) on the ring: {error}"
            ));
        }
        if self.is_distrusted {
            user_code::info(format_args!(
                "{name}: pure wait does not work here, reading events by io_getevents"
            ));
        }
    }

    /// The calls as they will be made: better to know now that one fails.
    fn try_calls(&self) -> Result<(), FailedCall> {
        // SAFETY: no iocb is passed.
        unsafe { self.submit(&[]) }.map_err(|errno| FailedCall::with("io_submit", errno))?;
        let waited = match self.mode() {
            Mode::Ring => self.pure_wait(Some(Duration::ZERO), None),
            Mode::Syscalls => {
                // SAFETY: the context is not shared yet, and nothing was submitted.
                unsafe { self.fetch(0, 1, Some(Duration::ZERO), None, |_| Take::Taken) }.map(|_| ())
            }
        };
        match waited {
            // A signal arrived: the call was let through.
            Ok(()) | Err(libc::EINTR) => Ok(()),
            Err(errno) => Err(FailedCall::with("io_getevents", errno)),
        }
    }

    #[inline]
    pub(crate) fn mode(&self) -> Mode {
        if self.ring.is_some() {
            Mode::Ring
        } else {
            Mode::Syscalls
        }
    }

    /// Hands `iocbs` to the kernel: `Ok(k)` means that the first k were accepted.
    ///
    /// # Safety
    /// Each points to an iocb that may be read and written now, and whose buffer, file and iovecs live until
    /// its event has been taken.
    #[inline]
    pub(crate) unsafe fn submit(&self, iocbs: &[*mut iocb]) -> Result<usize, i32> {
        // SAFETY: the caller's promise; the array holds as many pointers as we say.
        let accepted = unsafe { syscall::io_submit(self.id, iocbs.as_ptr(), iocbs.len()) };
        // No count of the kernel's is believed beyond what it was asked for.
        accepted
            .map(|accepted| accepted.min(iocbs.len()))
            .map_err(errno)
    }

    /// Whether the context still exists: a submission of nothing succeeds exactly then.
    pub(crate) fn is_alive(&self) -> bool {
        // SAFETY: no iocb is passed.
        unsafe { syscall::io_submit(self.id, std::ptr::null(), 0) }.is_ok()
    }

    /// Shows the events that are there, oldest first, at most `most` of them; returns how many were taken.
    /// Does not sleep.
    ///
    /// # Safety
    /// One caller at a time, and none while a thread is in [`Kernel::fetch`].
    #[inline]
    pub(crate) unsafe fn take(&self, most: usize, reader: impl FnMut(&io_event) -> Take) -> usize {
        match &self.ring {
            // SAFETY: one caller at a time; in this mode only pure waits are in io_getevents.
            Some(ring) => unsafe { ring.consume(most, reader) },
            // SAFETY: the caller's promise.
            None => unsafe { self.fetch(0, most, Some(Duration::ZERO), None, reader) }.unwrap_or(0),
        }
    }

    /// Waits until there are `min` events, then takes what is there, without a choice. For
    /// [`Mode::Syscalls`].
    ///
    /// # Safety
    /// As [`Kernel::take`].
    pub(crate) unsafe fn fetch(
        &self,
        min: usize,
        most: usize,
        timeout: Option<Duration>,
        mask: Option<u64>,
        mut reader: impl FnMut(&io_event) -> Take,
    ) -> Result<usize, i32> {
        debug_assert!(
            self.ring.is_none(),
            "a real event buffer beside ring readers delivers twice"
        );
        let mut events = [const { MaybeUninit::<io_event>::uninit() }; FETCH];
        let most = most.min(FETCH);
        let room = events.as_mut_ptr().cast();
        // SAFETY: the array has room for `most` events.
        let got = unsafe { self.get_events(min, most, room, timeout, mask) }?;
        // Beyond the room it was given it has filled nothing, whatever it says.
        let got = got.min(most);
        for event in &events[..got] {
            // SAFETY: the kernel filled the first `got`. What was fetched is taken, whatever the reader says:
            // it can't go back.
            reader(unsafe { event.assume_init_ref() });
        }
        Ok(got)
    }

    /// Whether an event is waiting on the ring. Without a ring that is not known, and it returns false.
    #[inline]
    pub(crate) fn has_events(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !ring.is_empty())
    }

    /// A place in the sequence of completions. Without a ring none is known.
    #[inline]
    pub(crate) fn completions(&self) -> Option<u32> {
        self.ring.as_ref().map(Ring::tail)
    }

    /// How many requests have completed since then. Without a ring that is not known: all that is asked for.
    #[inline]
    pub(crate) fn completed_since(&self, then: Option<u32>) -> usize {
        match (&self.ring, then) {
            (Some(ring), Some(then)) => ring.added_since(then) as usize,
            _ => usize::MAX,
        }
    }

    /// Sleeps until the ring is not empty, the time is over or a signal came; takes nothing. For
    /// [`Mode::Ring`]. With a signal mask, which is in force meanwhile, a signal is EINTR. A ring that was
    /// overwritten is [`OVERWRITTEN`].
    pub(crate) fn pure_wait(
        &self,
        timeout: Option<Duration>,
        mask: Option<u64>,
    ) -> Result<(), i32> {
        if self.ring.as_ref().is_some_and(Ring::is_overwritten) {
            return Err(OVERWRITTEN);
        }
        let nowhere = std::ptr::without_provenance_mut::<io_event>(UNWRITABLE);
        // SAFETY: the kernel checks the address and can't write there, which is the point.
        let waited = unsafe { self.get_events(1, 1, nowhere, timeout, mask) };
        match waited {
            Ok(_) | Err(libc::EFAULT) => Ok(()),
            Err(libc::EINTR) if mask.is_none() => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// `io_getevents`, or with a signal mask `io_pgetevents`.
    ///
    /// # Safety
    /// `events` has room for `most`, or the kernel can't write there.
    #[inline]
    unsafe fn get_events(
        &self,
        min: usize,
        most: usize,
        events: *mut io_event,
        timeout: Option<Duration>,
        mask: Option<u64>,
    ) -> Result<usize, i32> {
        if let Some(mask) = mask {
            // SAFETY: the caller's promise.
            return unsafe { self.get_events_masked(min, most, events, timeout, mask) };
        }
        // SAFETY: the caller's promise.
        unsafe { syscall::io_getevents(self.id, min, most, events, timeout) }.map_err(errno)
    }

    /// # Safety
    /// As for `get_events`.
    #[cold]
    #[inline(never)]
    unsafe fn get_events_masked(
        &self,
        min: usize,
        most: usize,
        events: *mut io_event,
        timeout: Option<Duration>,
        mask: u64,
    ) -> Result<usize, i32> {
        // SAFETY: the caller's promise.
        unsafe { syscall::io_pgetevents(self.id, min, most, events, timeout, Some(&mask)) }
            .map_err(errno)
    }

    /// Sleeps for so long, with this signal mask in force. `Err` is EINTR when a signal came.
    pub(crate) fn nap(timeout: Duration, mask: u64) -> Result<(), i32> {
        syscall::sleep_with_mask(timeout, mask).map_err(errno)
    }

    /// Cancels a poll; its event follows. `false`: the kernel has no such request, or can't cancel it.
    ///
    /// # Safety
    /// `iocb` points to the iocb of a request whose cell is not given back meanwhile: the kernel knows
    /// requests by this address alone.
    pub(crate) unsafe fn cancel(&self, iocb: *mut iocb) -> bool {
        let mut unused = io_event::default();
        // SAFETY: the caller's promise; the event is written only by kernels before 3.11, and is ours.
        let cancelled = unsafe { syscall::io_cancel(self.id, iocb, &raw mut unused) };
        match cancelled.map_err(errno) {
            Ok(()) | Err(libc::EINPROGRESS) => true,
            Err(_) => false,
        }
    }

    /// Adds 1 to an eventfd, as the kernel does when an event comes. That it is one was asked before.
    pub(crate) fn raise(&self, eventfd: &OwnedFd) {
        // It can only fail by a signal before anything was written, or where the counter is full: then the
        // thread that waits for it is awake.
        while nix::unistd::write(eventfd, &1u64.to_ne_bytes()) == Err(nix::Error::EINTR) {}
    }

    /// Whether the descriptor is an eventfd. The kernel looks at it before it looks at the flags, which are
    /// such that it then refuses the request for them.
    pub(crate) fn is_eventfd(&self, descriptor: u32) -> bool {
        const UNKNOWN_FLAG: i32 = 1 << 30;
        let mut iocb = iocb {
            aio_flags: super::IOCB_FLAG_RESFD,
            aio_resfd: descriptor,
            aio_rw_flags: UNKNOWN_FLAG,
            ..self.self_wake()
        };
        // SAFETY: the iocb is ours and is only read during the call; no request is made of it, and zero bytes
        // would need no buffer.
        let refused = unsafe { self.submit(&[&raw mut iocb]) };
        debug_assert!(refused.is_err());
        match refused {
            Err(libc::EOPNOTSUPP) => true,
            // All slots are taken, so the kernel did not come to look.
            Err(libc::EAGAIN) => is_eventfd_by_name(descriptor),
            _ => false,
        }
    }

    /// Puts an event tagged [`WAKE`] on the ring. One slot must be kept free for it.
    pub(crate) fn wake(&self) -> Result<(), i32> {
        let mut iocb = self.self_wake();
        // SAFETY: the iocb is ours and is only read during the call; zero bytes need no buffer, and the
        // kernel keeps the file open itself.
        match unsafe { self.submit(&[&raw mut iocb]) }? {
            0 => Err(libc::EAGAIN),
            _ => Ok(()),
        }
    }

    fn self_wake(&self) -> iocb {
        iocb {
            aio_data: WAKE,
            aio_lio_opcode: super::IOCB_CMD_PREAD,
            aio_fildes: self.scratch.as_raw_fd().cast_unsigned(),
            ..iocb::default()
        }
    }

    /// Destroys the context: waits for what is in flight, throws away what was not taken, unmaps the ring.
    /// Tens of milliseconds.
    ///
    /// # Safety
    /// No thread reads the ring or will read it.
    pub(crate) unsafe fn destroy(&self) -> Result<(), i32> {
        // SAFETY: the caller's promise is the one that the call asks for.
        unsafe { syscall::io_destroy(self.id) }.map_err(errno)
    }

    /// The self-test: a waiter with the unwritable buffer must leave the event where it is.
    fn distrust_unless_pure_wait_works(&mut self) {
        if self.ring.is_some() && !self.pure_wait_works() {
            self.is_distrusted = true;
            self.ring = None;
            // SAFETY: the context is not shared yet. What the test left is taken here, so that no thread
            // takes it later.
            unsafe { self.take(FETCH, |_| Take::Taken) };
        }
    }

    fn pure_wait_works(&self) -> bool {
        let empty_wait = self.pure_wait(Some(Duration::ZERO), None);
        if empty_wait.is_err()
            || self.wake().is_err()
            || self.pure_wait(Some(Duration::from_secs(1)), None).is_err()
        {
            return false;
        }
        let mut seen = Vec::new();
        // SAFETY: the context is not shared yet.
        unsafe { self.take(FETCH, |event| (seen.push(event.data), Take::Taken).1) };
        seen == [WAKE]
    }
}

/// A filter may allow `io_setup` and refuse a call that follows, even the one that would take the context
/// down again. So each call is made once with a context that does not exist, or for no requests: the kernel
/// answers EINVAL, a filter or a kernel without AIO something else.
fn refuse_if_calls_are_refused() -> Result<(), FailedCall> {
    let no_time = Some(Duration::ZERO);
    // SAFETY: a context for no requests is refused, so none is made.
    answered("io_setup", unsafe { syscall::io_setup(0) })?;
    // SAFETY: no context has the number 0, and no iocb is passed.
    answered("io_submit", unsafe {
        syscall::io_submit(0, std::ptr::null(), 0)
    })?;
    // SAFETY: as above, and no event is asked for.
    let no_events = unsafe { syscall::io_getevents(0, 0, 0, std::ptr::null_mut(), no_time) };
    answered("io_getevents", no_events)?;
    // SAFETY: no context has the number 0.
    answered("io_destroy", unsafe { syscall::io_destroy(0) })
}

/// Only the errnos of a refusal count: what another kernel answers to such a call is its affair.
fn answered<T>(call: &'static str, result: io::Result<T>) -> Result<(), FailedCall> {
    match result.err().and_then(|error| error.raw_os_error()) {
        Some(errno @ (libc::ENOSYS | libc::EOPNOTSUPP | libc::EPERM | libc::EACCES)) => {
            Err(FailedCall::with(call, errno))
        }
        _ => Ok(()),
    }
}

/// Only a fatal signal while waiting for the address space interrupts io_setup; trying again costs nothing.
fn setup_uninterrupted(nr: u32) -> io::Result<aio_context_t> {
    loop {
        // SAFETY: the context is handed to a Kernel, which destroys it once.
        match unsafe { syscall::io_setup(nr) } {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            made => return made,
        }
    }
}

fn scratch_file() -> io::Result<File> {
    match memfd_create(c"kiocb-wake", MFdFlags::MFD_CLOEXEC) {
        Ok(fd) => Ok(fd.into()),
        // Where a filter refuses memfds any other file does: it can only be read, so the ring stays unchecked
        // and unused.
        Err(_) => File::open("/dev/null").map_err(|error| {
            io::Error::new(error.kind(), format!("no memfd and no /dev/null: {error}"))
        }),
    }
}

fn is_eventfd_by_name(descriptor: u32) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{descriptor}"))
        .is_ok_and(|name| name.as_os_str() == "anon_inode:[eventfd]")
}

/// The number inside an error of a system call; there always is one.
fn errno(error: io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}
