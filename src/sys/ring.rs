//! The completion ring that the kernel maps into the process: checked once, then read without a system call.
//!
//! The kernel appends events and moves `tail`; the reader takes them and moves `head`. A context's id *is*
//! the ring's address. Only the kernel's own `nr` counts for wrapping: the ring is larger than what was asked
//! of `io_setup`.
#![allow(unsafe_code, reason = "reads memory that the kernel writes")]

use super::{aio_context_t, io_event};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// `AIO_RING_MAGIC` of fs/aio.c.
const MAGIC: u32 = 0xa10a_10a1;
/// Bytes before the first event: `struct aio_ring` of fs/aio.c.
const HEADER_LENGTH: u32 = 32;
/// The kernel refuses a ring of more than 256 MiB.
const MOST_EVENTS: u32 = (256 << 20) / 32;

/// `struct aio_ring` of fs/aio.c. It is no part of the kernel's promised interface, hence the checks in
/// [`Ring::of`].
#[repr(C)]
struct Header {
    id: u32,
    nr: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
    compat_features: u32,
    incompat_features: u32,
    header_length: u32,
}

const _: () = assert!(size_of::<Header>() == HEADER_LENGTH as usize);
const _: () = assert!(size_of::<io_event>() == 32);

/// What a reader wants done with the event it was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// It is mine: go on with the next.
    Taken,
    /// Leave it, and everything behind it, in the ring.
    Leave,
}

/// A checked view of one context's ring.
#[derive(Debug)]
pub(crate) struct Ring {
    header: NonNull<Header>,
    nr: u32,
}

// SAFETY: the ring is memory of the process, not of a thread; its shared words are atomics, and `consume`
// demands one caller at a time.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

/// Whether Valgrind runs this program. Its tools take the ring for as long as what was asked of `io_setup`,
/// and report invalid reads where the kernel made it longer.
///
/// Valgrind has the dynamic linker load a library of its own, and takes this out of the environment of the
/// programs that it lets go.
fn is_under_valgrind() -> bool {
    std::env::var_os("LD_PRELOAD")
        .is_some_and(|names| names.to_string_lossy().contains("vgpreload_core"))
}

impl Ring {
    /// The ring of `context`, or `None` where it is not the ring we know (gVisor has none; a kernel may change
    /// it), and under Valgrind.
    ///
    /// `scratch` is an empty private file: the header is first copied through it, so that an address that
    /// isn't mapped is an error and not a crash.
    ///
    /// # Safety
    /// - `context` came from `io_setup` in this process and has not been destroyed.
    /// - It is not destroyed while the result is in use.
    pub(crate) unsafe fn of(context: aio_context_t, scratch: &File) -> Option<Ring> {
        let address = usize::try_from(context).ok()?;
        let header = NonNull::new(std::ptr::with_exposed_provenance_mut::<Header>(address))?;
        if is_under_valgrind() || !header.is_aligned() || !readable(address, scratch) {
            return None;
        }
        // SAFETY: aligned and readable (just checked); mapped as long as the context lives, which the caller
        // promises.
        let view = unsafe { header.as_ref() };
        let nr = view.nr;
        view.is_known().then_some(Ring { header, nr })
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: `of` checked the address, and its caller keeps the context alive.
        unsafe { self.header.as_ref() }
    }

    /// Whether there was nothing to take at this moment.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        let header = self.header();
        // Relaxed and Acquire: as in `consume`; the answer is old when it arrives.
        let head = header.head.load(Ordering::Relaxed);
        let tail = header.tail.load(Ordering::Acquire);
        head == tail || !self.holds(head, tail)
    }

    /// Whether other code of the process has written to the ring's header: no event can be taken any more.
    pub(crate) fn is_overwritten(&self) -> bool {
        let header = self.header();
        // Relaxed: no event is read because of it.
        let head = header.head.load(Ordering::Relaxed);
        !self.holds(head, header.tail.load(Ordering::Relaxed))
    }

    #[inline]
    fn holds(&self, head: u32, tail: u32) -> bool {
        head < self.nr && tail < self.nr
    }

    /// Where the kernel will put its next event.
    #[inline]
    pub(crate) fn tail(&self) -> u32 {
        // Relaxed: no event is read because of it.
        self.header().tail.load(Ordering::Relaxed)
    }

    /// How many events the kernel has added since the tail was there; fewer where it has been round.
    #[inline]
    pub(crate) fn added_since(&self, tail: u32) -> u32 {
        let now = self.tail();
        if now >= tail {
            now - tail
        } else {
            (now + self.nr).saturating_sub(tail)
        }
    }

    /// Shows at most `most` events, oldest first, until `reader` leaves one; returns how many were taken.
    ///
    /// # Safety
    /// One caller at a time, and no thread in `io_getevents` with a writable event buffer: either would
    /// deliver events twice.
    #[inline]
    pub(crate) unsafe fn consume(
        &self,
        most: usize,
        mut reader: impl FnMut(&io_event) -> Take,
    ) -> usize {
        let header = self.header();
        // Relaxed: only the reader writes head, and there is one reader.
        let mut head = header.head.load(Ordering::Relaxed);
        // Acquire: pairs with the kernel's barrier between storing an event and storing tail.
        let tail = header.tail.load(Ordering::Acquire);
        if !self.holds(head, tail) {
            return 0; // overwritten: the next wait says so
        }
        let mut taken = 0;
        while head != tail && taken < most {
            // SAFETY: the ring holds nr events behind its header (`of` checked the header's length), and
            // head < nr. Those between head and tail are valid, and the kernel does not touch them before
            // head moves past them.
            let event = unsafe { &*self.event(head) };
            if reader(event) == Take::Leave {
                break;
            }
            taken += 1;
            head = if head + 1 == self.nr { 0 } else { head + 1 };
        }
        if taken > 0 {
            // Release: the events are read before the kernel may use their slots again.
            header.head.store(head, Ordering::Release);
        }
        taken
    }

    /// Where an event lies.
    #[inline]
    fn event(&self, index: u32) -> *const io_event {
        debug_assert!(index < self.nr);
        let events = self.header.as_ptr().wrapping_add(1).cast::<io_event>();
        events.wrapping_add(index as usize)
    }

    /// Keeps the ring out of a forked child: a child that read it would take its parent's events.
    pub(crate) fn dont_fork(&self) -> std::io::Result<()> {
        let bytes = HEADER_LENGTH as usize + self.nr as usize * size_of::<io_event>();
        // SAFETY: the range is the ring's own mapping (the kernel rounds it up to whole pages); the advice
        // changes nothing in this process.
        let code =
            unsafe { libc::madvise(self.header.as_ptr().cast(), bytes, libc::MADV_DONTFORK) };
        if code == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    }
}

impl Header {
    /// Whether this is the layout that fs/aio.c has had since 2013, with nothing in it that a reader must
    /// know about.
    fn is_known(&self) -> bool {
        self.magic == MAGIC
            && self.incompat_features == 0
            && self.header_length == HEADER_LENGTH
            && (2..=MOST_EVENTS).contains(&self.nr)
            // Relaxed: no other thread uses the ring yet.
            && self.head.load(Ordering::Relaxed) < self.nr
            && self.tail.load(Ordering::Relaxed) < self.nr
    }
}

/// Whether `HEADER_LENGTH` bytes at `address` can be read: the kernel tries it, and says EFAULT where we
/// would crash.
fn readable(address: usize, scratch: &File) -> bool {
    use std::os::fd::AsRawFd;
    let bytes = std::ptr::with_exposed_provenance::<libc::c_void>(address);
    // SAFETY: pwrite only reads the bytes, in the kernel, which checks the address.
    let copied = unsafe { libc::pwrite(scratch.as_raw_fd(), bytes, HEADER_LENGTH as usize, 0) };
    copied == HEADER_LENGTH as isize && scratch.read_at(&mut [0; HEADER_LENGTH as usize], 0).is_ok()
}
