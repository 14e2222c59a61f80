//! Memory that is not there yet: whoever touches it, `io_submit` included, waits until the test fills it
//! (userfaultfd(2)).

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::watchdog::PATIENCE;

// linux/userfaultfd.h.
const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
const UFFDIO_ZEROPAGE: libc::Ioctl = 0xc020_aa04_u32 as libc::Ioctl;
const UFFD_API: u64 = 0xaa;
const REGISTER_MODE_MISSING: u64 = 1;
/// `struct uffd_msg` is 32 bytes; a page fault's address is at 16.
const MESSAGE: usize = 32;
const ADDRESS_AT: usize = 16;

/// Whole pages, zeroed once they are filled, on which every access blocks until then.
///
/// Dropping it fills them first, so nobody is left behind; I/O still in flight then ends in memory that
/// nobody can see (the kernel holds the pages), never in memory that has become somebody else's.
#[derive(Debug)]
pub struct MissingPages {
    faults: OwnedFd,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the pointer is to a mapping that belongs to this value alone and moves with it; `&self` methods
// make system calls only.
unsafe impl Send for MissingPages {}
// SAFETY: as above.
unsafe impl Sync for MissingPages {}

impl MissingPages {
    /// So many pages of memory.
    ///
    /// # Errors
    /// No userfaultfd in this kernel, or no right to one that stops kernel accesses too (root has it).
    pub fn new(pages: usize) -> io::Result<MissingPages> {
        let faults = open()?;
        let len = pages * page_size();
        let missing = MissingPages {
            faults,
            start: map(len)?,
            len,
        };
        let mut register = [
            missing.start.as_ptr() as u64,
            len as u64,
            REGISTER_MODE_MISSING,
            0,
        ];
        missing.ioctl(UFFDIO_REGISTER, &mut register)?;
        Ok(missing)
    }

    /// The first byte.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// How many bytes.
    #[allow(clippy::len_without_is_empty, reason = "there is always a page")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Waits until somebody is blocked on a page and returns that page's offset.
    ///
    /// # Panics
    /// When nobody comes within the lab's patience.
    pub fn wait_for_fault(&self) -> usize {
        let timeout = PollTimeout::try_from(PATIENCE).expect("a minute fits");
        let mut ready = [PollFd::new(self.faults.as_fd(), PollFlags::POLLIN)];
        assert_eq!(
            nix::poll::poll(&mut ready, timeout),
            Ok(1),
            "nobody touched the missing pages"
        );
        let mut message = [0_u8; MESSAGE];
        assert_eq!(nix::unistd::read(&self.faults, &mut message), Ok(MESSAGE));
        let address = u64::from_ne_bytes(
            message[ADDRESS_AT..ADDRESS_AT + 8]
                .try_into()
                .expect("eight bytes"),
        );
        address as usize - self.start.as_ptr() as usize
    }

    /// Fills every page with zeroes: whoever waits goes on.
    ///
    /// # Errors
    /// Those of UFFDIO_ZEROPAGE, except that a page is there already.
    pub fn fill(&self) -> io::Result<()> {
        for offset in (0..self.len).step_by(page_size()) {
            let page = (self.start.as_ptr() as usize + offset) as u64;
            let filled = self.ioctl(UFFDIO_ZEROPAGE, &mut [page, page_size() as u64, 0, 0]);
            if !matches!(&filled, Err(error) if error.raw_os_error() == Some(libc::EEXIST)) {
                filled?;
            }
        }
        Ok(())
    }

    fn ioctl(&self, request: libc::Ioctl, argument: &mut [u64; 4]) -> io::Result<()> {
        // SAFETY: both requests used here take a struct of four u64.
        let done = unsafe { libc::ioctl(self.faults.as_raw_fd(), request, argument.as_mut_ptr()) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

impl Drop for MissingPages {
    fn drop(&mut self) {
        let _ = self.fill();
        // SAFETY: the mapping is ours, made with this length, and not used any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: integers only.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor for us.
    let faults = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut api = [UFFD_API, 0, 0];
    // SAFETY: UFFDIO_API takes a struct of three u64.
    let done = unsafe { libc::ioctl(faults.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) };
    if done == 0 {
        Ok(faults)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn map(len: usize) -> io::Result<NonNull<u8>> {
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping wherever the kernel likes touches nobody's memory.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))
}

fn page_size() -> usize {
    // SAFETY: no memory involved.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).expect("a page size")
}
