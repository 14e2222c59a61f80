//! `io_setup` and `io_destroy`.

use super::*;
use std::fs;

fn setup(nr_events: u32) -> io::Result<aio_context_t> {
    // SAFETY: nobody touches the ring.
    unsafe { io_setup(nr_events) }
}

fn destroy(context: aio_context_t) -> io::Result<()> {
    // SAFETY: nobody reads the ring; the tests below run alone, so the number is not reused.
    unsafe { io_destroy(context) }
}

#[test]
fn a_context_can_be_destroyed_once() {
    if alone("setup::a_context_can_be_destroyed_once") {
        let context = setup(1).expect("io_setup");
        assert_ne!(context, 0);
        destroy(context).expect("io_destroy");
        assert_eq!(errno(destroy(context)), libc::EINVAL);
    }
}

#[test]
fn what_never_was_a_context_is_einval() {
    assert_eq!(errno(destroy(0)), libc::EINVAL);
    assert_eq!(errno(destroy(8)), libc::EINVAL);
}

#[test]
fn every_call_on_a_destroyed_context_is_einval() {
    if alone("setup::every_call_on_a_destroyed_context_is_einval") {
        let context = setup(1).expect("io_setup");
        destroy(context).expect("io_destroy");
        let context = Destroyed(context);
        assert_eq!(errno(context.submit(0)), libc::EINVAL);
        assert_eq!(errno(context.submit(1)), libc::EINVAL);
        assert_eq!(errno(context.getevents()), libc::EINVAL);
        assert_eq!(errno(context.pgetevents()), libc::EINVAL);
        assert_eq!(errno(context.cancel()), libc::EINVAL);
    }
}

/// The number of a context that is no more. With pointers to no request and no event: it has to be
/// looked at first.
struct Destroyed(aio_context_t);

impl Destroyed {
    fn submit(&self, nr: usize) -> io::Result<usize> {
        // SAFETY: the kernel can't read the array.
        unsafe { io_submit(self.0, ptr::null(), nr) }
    }

    fn getevents(&self) -> io::Result<usize> {
        // SAFETY: the kernel can't write the buffer.
        unsafe { io_getevents(self.0, 1, 1, ptr::null_mut(), None) }
    }

    fn pgetevents(&self) -> io::Result<usize> {
        // SAFETY: the kernel can't write the buffer.
        unsafe { io_pgetevents(self.0, 1, 1, ptr::null_mut(), None, None) }
    }

    fn cancel(&self) -> io::Result<()> {
        let mut request = iocb::default();
        // SAFETY: the request is valid, and its result is never written.
        unsafe { io_cancel(self.0, &mut request, ptr::null_mut()) }
    }
}

#[test]
fn no_events_or_too_many_are_einval() {
    assert_eq!(errno(setup(0)), libc::EINVAL);
    // Its ring would pass 256 MiB; refused before the machine's limit is looked at.
    assert_eq!(errno(setup(0x7fff_ffff)), libc::EINVAL);
}

#[test]
fn more_than_the_machine_allows_is_eagain() {
    let limit = fs::read_to_string("/proc/sys/fs/aio-max-nr").expect("aio-max-nr");
    let limit: u32 = limit.trim().parse().expect("a number");
    // Above four million the ring's size is refused first.
    let (nr_events, expected) = match limit {
        0..4_000_000 => (limit + 1, libc::EAGAIN),
        _ => (0x7fff_ffff, libc::EINVAL),
    };
    assert_eq!(errno(setup(nr_events)), expected);
}

#[test]
fn no_address_space_is_enomem() {
    if alone("setup::no_address_space_is_enomem") {
        let status = fs::read_to_string("/proc/self/statm").expect("statm");
        let pages: u64 = status
            .split(' ')
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number");
        // 32 bytes for each of 2 × 60 000 events: more than is left.
        let before = set_limit(libc::RLIMIT_AS, pages * 4096 + (1 << 20));
        let result = setup(60_000);
        set_limit(libc::RLIMIT_AS, before);
        assert_eq!(errno(result), libc::ENOMEM);
    }
}

/// Sets the soft limit alone, so that it can be raised again, and returns what it was.
pub(crate) fn set_limit(which: libc::__rlimit_resource_t, value: u64) -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for writes.
    let result = unsafe { libc::getrlimit(which, &raw mut limit) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    let before = std::mem::replace(&mut limit.rlim_cur, value);
    // SAFETY: `limit` is valid for reads.
    let result = unsafe { libc::setrlimit(which, &raw const limit) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    before
}

#[test]
fn a_forked_child_has_no_context() {
    let context = Context::new(1);
    // SAFETY: the child of a process with threads makes system calls only.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no request is passed.
        let error = unsafe { io_submit(context.0, ptr::null(), 0) }.err();
        let code = error.and_then(|error| error.raw_os_error()).unwrap_or(0);
        // SAFETY: ends the process without running anything of its parent's.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), libc::EINVAL);
    assert_eq!(
        context.run(bare(IOCB_CMD_PREAD, &null())),
        0,
        "the parent's is as it was"
    );
}

#[test]
fn destroying_waits_for_nobody_who_polls() {
    let (reader, _writer) = pipe(0);
    let context = Context::new(1);
    assert_eq!(
        context
            .submit(&mut [poll(&reader, POLLIN)])
            .expect("io_submit"),
        1
    );
    drop(context); // returns, although the event never came
}

/// What a sandbox does: the calls exist, and a filter refuses them.
#[test]
fn a_filters_errno_is_passed_on() {
    if alone("setup::a_filters_errno_is_passed_on") {
        let context = setup(1).expect("io_setup");
        seccomp::refuse(libc::SYS_io_setup, libc::ENOSYS);
        seccomp::refuse(libc::SYS_io_submit, libc::EPERM);
        assert_eq!(errno(setup(1)), libc::ENOSYS);
        // SAFETY: no request is passed.
        let forbidden = unsafe { io_submit(context, ptr::null(), 0) };
        assert_eq!(errno(forbidden), libc::EPERM);
        destroy(context).expect("io_destroy");
    }
}
