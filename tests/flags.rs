//! The flags and priorities of a request: their numbers, their names, and what the running kernel makes of
//! each.
//!
//! The requests go through [`kiocb::sys`], so that what is tested is the number and the field it goes into,
//! and then through the safe layer, which has to put it there. A flag that the kernel or the file system does
//! not have is skipped with the reason, or fails where `KIOCB_CI` is set.
#![allow(unsafe_code, reason = "submits through the raw layer")]
#![allow(
    clippy::multiple_unsafe_ops_per_block,
    reason = "sequences of system calls that belong together"
)]

mod common;

use kiocb::op::{Read, Request, Write};
use kiocb::sys;
use kiocb::{Completion, IoPriority, IoPriorityClass, Iocb, PollFlags, RwFlags, SubmitError};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// Through what a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Raw,
    Safe,
}

thread_local! {
    static LAYER: Cell<Layer> = const { Cell::new(Layer::Raw) };
}

/// Runs the test once through each layer, each on a thread of its own: signals are pending for a thread.
fn through_both(test: impl Fn() + Sync) {
    for layer in [Layer::Raw, Layer::Safe] {
        let named = thread::Builder::new().name(format!("{layer:?}"));
        thread::scope(|scope| {
            let run = || {
                LAYER.set(layer);
                test();
            };
            let over = named.spawn_scoped(scope, run).unwrap().join();
            assert!(over.is_ok(), "through the layer {layer:?}");
        });
    }
}

/// What a completion says, as the raw layer says it.
fn said<F, B, S>(
    outcome: Result<Completion<F, B>, SubmitError<S>>,
) -> io::Result<(Result<usize, i32>, B)> {
    let done = outcome.map_err(|refused| refused.into_parts().0)?;
    let result = done
        .result
        .map_err(|error| error.raw_os_error().expect("an errno"));
    Ok((result, done.buf))
}

fn safe_write(
    file: &impl AsFd,
    bytes: &[u8],
    at: i64,
    flags: RwFlags,
) -> io::Result<Result<usize, i32>> {
    let (file, at) = (file.as_fd().try_clone_to_owned()?, at.cast_unsigned());
    let write = Iocb::alloc().init_rw(file, Write, bytes.to_vec(), at);
    said(write.rw_flags(flags).wait()).map(|(result, _)| result)
}

fn safe_read(
    file: &impl AsFd,
    bytes: &mut [u8],
    at: i64,
    flags: RwFlags,
) -> io::Result<Result<usize, i32>> {
    let (file, at) = (file.as_fd().try_clone_to_owned()?, at.cast_unsigned());
    let read = Iocb::alloc().init_rw(file, Read, bytes.to_vec(), at);
    let (result, buf) = said(read.rw_flags(flags).wait())?;
    bytes.copy_from_slice(&buf);
    Ok(result)
}

/// One request through a context of its own: refused by the submission (`Err`), or completed with this
/// result.
fn run(mut request: sys::iocb) -> io::Result<Result<usize, i32>> {
    let mut event = sys::io_event::default();
    // SAFETY: a context of its own, destroyed once; whoever made the request keeps its memory until this
    // returns.
    unsafe {
        let context = sys::io_setup(1)?;
        let submitted = sys::io_submit(context, [&raw mut request].as_ptr(), 1);
        if submitted.is_ok() {
            while !matches!(sys::io_getevents(context, 1, 1, &mut event, None), Ok(1)) {}
        }
        sys::io_destroy(context)?;
        assert_eq!(submitted?, 1);
    }
    Ok(usize::try_from(event.res).map_err(|_| i32::try_from(-event.res).unwrap()))
}

fn request(file: &impl AsRawFd, opcode: u16, flags: RwFlags) -> sys::iocb {
    sys::iocb {
        aio_fildes: u32::try_from(file.as_raw_fd()).unwrap(),
        aio_lio_opcode: opcode,
        aio_rw_flags: flags.bits(),
        ..Default::default()
    }
}

fn write(
    file: &(impl AsRawFd + AsFd),
    bytes: &[u8],
    at: i64,
    flags: RwFlags,
) -> io::Result<Result<usize, i32>> {
    if LAYER.get() == Layer::Safe {
        return safe_write(file, bytes, at, flags);
    }
    run(sys::iocb {
        aio_buf: bytes.as_ptr() as u64,
        aio_nbytes: bytes.len() as u64,
        aio_offset: at,
        ..request(file, sys::IOCB_CMD_PWRITE, flags)
    })
}

fn read(
    file: &(impl AsRawFd + AsFd),
    bytes: &mut [u8],
    at: i64,
    flags: RwFlags,
) -> io::Result<Result<usize, i32>> {
    if LAYER.get() == Layer::Safe {
        return safe_read(file, bytes, at, flags);
    }
    run(sys::iocb {
        aio_buf: bytes.as_mut_ptr() as u64,
        aio_nbytes: bytes.len() as u64,
        aio_offset: at,
        ..request(file, sys::IOCB_CMD_PREAD, flags)
    })
}

/// The errno of a request that the submission refused.
fn refused(outcome: io::Result<Result<usize, i32>>) -> i32 {
    outcome
        .expect_err("refused by the submission")
        .raw_os_error()
        .unwrap()
}

/// `None`, with the reason said, where the kernel does not have the flag or the file can't take it.
fn supported(what: &str, outcome: io::Result<Result<usize, i32>>) -> Option<Result<usize, i32>> {
    match outcome {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            skip(&format!("{what} is not supported here"));
            None
        }
        outcome => Some(outcome.unwrap()),
    }
}

/// Says why a test proves nothing here, and fails where everything is expected to be there; the file system
/// that `KIOCB_TEST_DIR` chooses need not have everything.
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    let strict =
        std::env::var_os("KIOCB_CI").is_some() && std::env::var_os("KIOCB_TEST_DIR").is_none();
    assert!(!strict, "skipped in CI: {reason}");
}

/// A file on a real file system: beside the build, or where `KIOCB_TEST_DIR` says.
fn disk_file() -> File {
    let place = std::env::var_os("KIOCB_TEST_DIR");
    tempfile::tempfile_in(place.unwrap_or(env!("CARGO_TARGET_TMPDIR").into())).unwrap()
}

/// A file on tmpfs.
fn memory_file() -> File {
    // SAFETY: the name is a C string; the descriptor is new and nobody else's.
    unsafe { File::from_raw_fd(libc::memfd_create(c"flags".as_ptr(), 0)) }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which are new and nobody else's.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

fn contents(mut file: &File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn text_file(path: &Path, text: &str, append: bool) -> File {
    std::fs::write(path, text).unwrap();
    File::options()
        .read(true)
        .write(true)
        .append(append)
        .open(path)
        .unwrap()
}

#[test]
fn flags_have_the_numbers_of_the_kernel() {
    let named = [
        (RwFlags::HIPRI, 0x1),
        (RwFlags::DSYNC, 0x2),
        (RwFlags::SYNC, 0x4),
        (RwFlags::NOWAIT, 0x8),
        (RwFlags::APPEND, 0x10),
        (RwFlags::NOAPPEND, 0x20),
        (RwFlags::ATOMIC, 0x40),
        (RwFlags::DONTCACHE, 0x80),
        (RwFlags::NOSIGNAL, 0x100),
    ];
    for (flag, bits) in named {
        assert_eq!(flag.bits(), bits, "{flag:?}");
    }
    assert_eq!(PollFlags::IN.bits(), 1);
    assert_eq!(
        i32::from(PollFlags::RDHUP.bits()),
        i32::from(libc::POLLRDHUP)
    );
}

#[test]
fn flags_combine_as_sets() {
    let mut flags = RwFlags::DSYNC | RwFlags::APPEND;
    assert!(flags.contains(RwFlags::DSYNC) && flags.contains(RwFlags::empty()));
    assert!(!flags.contains(RwFlags::DSYNC | RwFlags::NOWAIT));
    assert!(
        flags.intersects(RwFlags::DSYNC | RwFlags::NOWAIT) && !flags.intersects(RwFlags::NOWAIT)
    );
    flags |= RwFlags::NOWAIT;
    assert_eq!(
        flags.difference(RwFlags::APPEND | RwFlags::HIPRI),
        RwFlags::DSYNC.union(RwFlags::NOWAIT)
    );
    assert!(RwFlags::default().is_empty() && !flags.is_empty());
    assert_eq!(
        PollFlags::from_bits_retain(0x5),
        PollFlags::IN | PollFlags::OUT
    );
}

#[test]
fn flags_are_shown_by_their_c_names() {
    assert_eq!(
        format!("{:?}", RwFlags::NOWAIT | RwFlags::HIPRI),
        "RwFlags(RWF_HIPRI | RWF_NOWAIT)"
    );
    assert_eq!(format!("{:?}", RwFlags::empty()), "RwFlags(0x0)");
    assert_eq!(
        format!("{:?}", RwFlags::from_bits_retain(0x4002)),
        "RwFlags(RWF_DSYNC | 0x4000)"
    );
    assert_eq!(
        format!("{:?}", PollFlags::OUT | PollFlags::ERR),
        "PollFlags(POLLOUT | POLLERR)"
    );
}

#[test]
fn append_ignores_the_offset() {
    through_both(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = text_file(&dir.path().join("f"), "first ", false);
        let outcome = write(&file, b"second", 0, RwFlags::APPEND);
        assert_eq!(outcome.unwrap(), Ok(6));
        assert_eq!(contents(&file), "first second");
    });
}

#[test]
fn noappend_honours_the_offset_of_a_file_open_for_appending() {
    through_both(|| {
        let dir = tempfile::tempdir().unwrap();
        let file = text_file(&dir.path().join("f"), "first second", true);
        let Some(result) = supported(
            "RWF_NOAPPEND (6.9)",
            write(&file, b"FIRST", 0, RwFlags::NOAPPEND),
        ) else {
            return;
        };
        assert_eq!(result, Ok(5));
        assert_eq!(contents(&file), "FIRST second");
    });
}

#[test]
fn append_and_noappend_together_are_refused() {
    through_both(|| {
        let errno = refused(write(
            &disk_file(),
            b"x",
            0,
            RwFlags::APPEND | RwFlags::NOAPPEND,
        ));
        assert!(
            [libc::EINVAL, libc::EOPNOTSUPP].contains(&errno),
            "errno {errno}"
        );
    });
}

#[test]
fn a_bit_that_the_kernel_does_not_know_is_refused() {
    through_both(|| {
        let unknown = RwFlags::from_bits_retain(1 << 30);
        assert_eq!(
            refused(write(&disk_file(), b"x", 0, unknown)),
            libc::EOPNOTSUPP
        );
    });
}

#[test]
fn hipri_is_accepted_and_changes_nothing() {
    through_both(|| {
        let file = disk_file();
        assert_eq!(write(&file, b"hello", 0, RwFlags::HIPRI).unwrap(), Ok(5));
        assert_eq!(read(&file, &mut [0; 5], 0, RwFlags::HIPRI).unwrap(), Ok(5));
    });
}

#[test]
fn nowait_is_refused_by_a_file_that_cannot_tell() {
    through_both(|| {
        assert_eq!(
            refused(read(&memory_file(), &mut [0; 1], 0, RwFlags::NOWAIT)),
            libc::EOPNOTSUPP
        );
    });
}

#[test]
fn nowait_completes_with_eagain_where_it_would_block() {
    let _watchdog = common::watchdog(); // without the flag it does block
    through_both(|| {
        let (reader, _writer) = pipe();
        let Some(result) = supported(
            "RWF_NOWAIT on a pipe",
            read(&reader, &mut [0; 1], 0, RwFlags::NOWAIT),
        ) else {
            return;
        };
        assert_eq!(result, Err(libc::EAGAIN));
    });
}

#[test]
fn dsync_and_sync_writes_have_their_blocks_when_they_complete() {
    through_both(|| {
        for flags in [RwFlags::DSYNC, RwFlags::SYNC, RwFlags::empty()] {
            let file = disk_file();
            assert_eq!(write(&file, &[1; 8192], 0, flags).unwrap(), Ok(8192));
            let Some(delayed) = has_delayed_extents(&file) else {
                return skip("the file system below target does not tell about delayed allocation");
            };
            // Without a flag the blocks are chosen later, at write-back: that is what the flags are compared
            // with.
            assert_eq!(delayed, flags.is_empty(), "{flags:?}");
        }
    });
}

/// Whether any of the file's extents waits to be allocated, asked of the file system without making it write
/// back.
fn has_delayed_extents(file: &File) -> Option<bool> {
    const FS_IOC_FIEMAP: libc::Ioctl = 0xc020_660b;
    const FIEMAP_EXTENT_DELALLOC: u32 = 0x4;
    #[repr(C)]
    #[derive(Default)]
    struct Fiemap {
        start: u64,
        length: u64,
        flags: u32,
        mapped: u32,
        room: u32,
        reserved: u32,
        extents: [Extent; 8],
    }
    #[repr(C)]
    #[derive(Default)]
    struct Extent {
        logical: u64,
        physical: u64,
        length: u64,
        reserved64: [u64; 2],
        flags: u32,
        reserved: [u32; 3],
    }
    let mut map = Fiemap {
        length: u64::MAX,
        room: 8,
        ..Default::default()
    };
    // SAFETY: the layout of `struct fiemap` with room for eight extents, as `room` says.
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) } != 0;
    let extents = &map.extents[..map.mapped as usize];
    (!failed && !extents.is_empty()).then(|| {
        extents
            .iter()
            .any(|e| e.flags & FIEMAP_EXTENT_DELALLOC != 0)
    })
}

#[test]
fn dontcache_leaves_nothing_in_the_page_cache() {
    through_both(|| {
        let file = disk_file();
        let dontcache = |bytes: &mut [u8]| {
            let outcome = read(&file, bytes, 0, RwFlags::DONTCACHE);
            supported("RWF_DONTCACHE (6.14)", outcome)
        };
        if dontcache(&mut [0; 1]).is_none() {
            return;
        }
        assert_eq!(
            write(&file, &[1; 65536], 0, RwFlags::empty()).unwrap(),
            Ok(65536)
        );
        file.sync_all().unwrap();
        drop_cache(&file);
        assert_eq!(dontcache(&mut [0; 65536]), Some(Ok(65536)));
        assert_eq!(cached_pages(&file, 65536), 0);
        assert_eq!(
            read(&file, &mut [0; 65536], 0, RwFlags::empty()).unwrap(),
            Ok(65536)
        );
        assert!(
            cached_pages(&file, 65536) > 0,
            "a plain read leaves its pages in the cache"
        );
    });
}

fn drop_cache(file: &File) {
    // SAFETY: numbers only.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(cached_pages(file, 65536), 0);
}

fn cached_pages(file: &File, len: usize) -> usize {
    let mut pages = vec![0u8; len / 4096];
    // SAFETY: a mapping of its own, looked at by `mincore` only and unmapped before it is forgotten; a byte
    // for each page.
    unsafe {
        let map = libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(map, libc::MAP_FAILED);
        assert_eq!(libc::mincore(map, len, pages.as_mut_ptr()), 0);
        libc::munmap(map, len);
    }
    pages.iter().filter(|&&page| page & 1 != 0).count()
}

#[test]
fn dontcache_is_refused_by_a_file_system_without_it() {
    through_both(|| {
        assert_eq!(
            refused(read(&memory_file(), &mut [0; 1], 0, RwFlags::DONTCACHE)),
            libc::EOPNOTSUPP
        );
    });
}

#[test]
fn atomic_is_refused_for_reads_and_for_files_that_cannot() {
    through_both(|| {
        assert_eq!(
            refused(read(&disk_file(), &mut [0; 512], 0, RwFlags::ATOMIC)),
            libc::EOPNOTSUPP
        );
        assert_eq!(
            refused(write(&memory_file(), &[0; 4096], 0, RwFlags::ATOMIC)),
            libc::EOPNOTSUPP
        );
        // A file system that could is the one to notice that this file was not opened for direct I/O.
        match write(&disk_file(), &[0; 4096], 0, RwFlags::ATOMIC) {
            Ok(result) => assert_eq!(result, Err(libc::EOPNOTSUPP)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP)),
        }
    });
}

#[test]
fn nosignal_keeps_a_broken_pipe_from_signalling() {
    through_both(|| {
        let pending = block_sigpipe();
        let broken_write = |flags| {
            let (reader, writer) = pipe();
            drop(reader);
            write(&writer, b"x", 0, flags)
        };
        let Some(result) = supported("RWF_NOSIGNAL (6.18)", broken_write(RwFlags::NOSIGNAL)) else {
            return;
        };
        assert_eq!(result, Err(libc::EPIPE));
        assert!(!pending());
        assert_eq!(broken_write(RwFlags::empty()).unwrap(), Err(libc::EPIPE));
        assert!(pending(), "without the flag the submitter gets the signal");
    });
}

/// Blocks `SIGPIPE` for this thread, which keeps it pending even while it is ignored; answers how to see
/// whether it is.
fn block_sigpipe() -> impl Fn() -> bool {
    fn call(f: impl FnOnce(*mut libc::sigset_t)) -> libc::sigset_t {
        let mut set = std::mem::MaybeUninit::uninit();
        f(set.as_mut_ptr());
        // SAFETY: `sigemptyset` or `sigpending` has filled it.
        unsafe { set.assume_init() }
    }
    // SAFETY: the set is initialised by the first call, and its address good for the others.
    let set = call(|set| unsafe {
        libc::sigemptyset(set);
        libc::sigaddset(set, libc::SIGPIPE);
    });
    // SAFETY: an initialised set; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    || {
        // SAFETY: room for a set, which the call fills.
        let pending = call(|set| unsafe {
            libc::sigpending(set);
        });
        // SAFETY: an initialised set.
        unsafe { libc::sigismember(&raw const pending, libc::SIGPIPE) == 1 }
    }
}

#[test]
fn a_poll_or_sync_with_flags_is_refused() {
    let file = disk_file();
    let sync = request(&file, sys::IOCB_CMD_FSYNC, RwFlags::DSYNC);
    assert_eq!(refused(run(sync)), libc::EINVAL);
    let (reader, _writer) = pipe();
    let poll = request(&reader, sys::IOCB_CMD_POLL, RwFlags::DSYNC);
    assert_eq!(refused(run(poll)), libc::EINVAL);
}

#[test]
fn a_poll_reports_what_it_waited_for_and_hang_ups_always() {
    let (reader, writer) = pipe();
    let poll = |fd: &OwnedFd, events: PollFlags| {
        let found = run(sys::iocb {
            aio_buf: events.bits().into(),
            ..request(fd, sys::IOCB_CMD_POLL, RwFlags::empty())
        });
        PollFlags::from_bits_retain(u16::try_from(found.unwrap().unwrap()).unwrap())
    };
    assert_eq!(
        poll(&writer, PollFlags::OUT | PollFlags::WRNORM),
        PollFlags::OUT | PollFlags::WRNORM
    );
    drop(writer);
    assert_eq!(poll(&reader, PollFlags::IN), PollFlags::HUP);
    let (reader, writer) = pipe();
    drop(reader);
    assert_eq!(poll(&writer, PollFlags::empty()), PollFlags::ERR);
}

#[test]
fn a_priority_is_encoded_as_ioprio_set_has_it() {
    assert_eq!(IoPriority::NONE.bits(), 0);
    assert_eq!(IoPriority::real_time(0).bits(), 1 << 13);
    assert_eq!(IoPriority::best_effort(4).bits(), 2 << 13 | 4);
    assert_eq!(IoPriority::IDLE.bits(), 3 << 13);
    assert_eq!(
        IoPriority::best_effort(7).with_hint(3).bits(),
        2 << 13 | 3 << 3 | 7
    );
    assert_eq!(
        IoPriority::best_effort(7)
            .with_hint(1023)
            .with_hint(1)
            .hint(),
        1
    );
    assert_eq!(IoPriority::default(), IoPriority::NONE);
}

#[test]
fn a_priority_comes_apart_as_it_was_put_together() {
    for raw in 0..=u16::MAX {
        let priority = IoPriority::from_bits_retain(raw);
        assert_eq!(priority.bits(), raw);
        let class = match priority.class() {
            Some(class) => class as u16,
            None => raw >> 13,
        };
        assert_eq!(
            class << 13 | priority.hint() << 3 | u16::from(priority.level()),
            raw
        );
    }
    assert_eq!(
        IoPriority::real_time(2).class(),
        Some(IoPriorityClass::RealTime)
    );
    assert_eq!(IoPriority::from_bits_retain(0xffff).class(), None);
}

#[test]
fn a_priority_out_of_range_panics() {
    for level in [8, 255] {
        assert!(catch_unwind(|| IoPriority::best_effort(level)).is_err());
        assert!(catch_unwind(|| IoPriority::real_time(level)).is_err());
    }
    assert!(catch_unwind(|| IoPriority::IDLE.with_hint(1024)).is_err());
}

#[test]
fn a_priority_is_shown_by_class_level_and_hint() {
    assert_eq!(
        format!("{:?}", IoPriority::best_effort(4)),
        "IoPriority(IOPRIO_CLASS_BE, level 4)"
    );
    let hinted = IoPriority::real_time(1).with_hint(2);
    assert_eq!(
        format!("{hinted:?}"),
        "IoPriority(IOPRIO_CLASS_RT, level 1, hint 2)"
    );
    assert_eq!(
        format!("{:?}", IoPriority::from_bits_retain(0xe000)),
        "IoPriority(0xe000)"
    );
}

#[test]
fn the_kernel_takes_good_priorities_and_refuses_bad_ones() {
    through_both(|| {
        let file = disk_file();
        let with = |priority: IoPriority| {
            if LAYER.get() == Layer::Safe {
                let read = Iocb::alloc().init_rw(file.try_clone().unwrap(), Read, [0; 0], 0);
                return said(read.priority(priority).wait()).map(|(result, _)| result);
            }
            let raw = i16::from_ne_bytes(priority.bits().to_ne_bytes());
            let request = request(&file, sys::IOCB_CMD_PREAD, RwFlags::empty());
            run(sys::iocb {
                aio_flags: sys::IOCB_FLAG_IOPRIO,
                aio_reqprio: raw,
                ..request
            })
        };
        for good in [
            IoPriority::NONE,
            IoPriority::IDLE,
            IoPriority::best_effort(0),
            IoPriority::best_effort(7),
        ] {
            assert_eq!(with(good).unwrap(), Ok(0), "{good:?}");
        }
        let nonsense = IoPriority::from_bits_retain(0xe000);
        assert_eq!(refused(with(nonsense)), libc::EINVAL);
        assert_eq!(
            refused(with(IoPriority::from_bits_retain(1))),
            libc::EINVAL,
            "a level without a class"
        );
        match with(IoPriority::real_time(0)) {
            Ok(result) => assert_eq!(result, Ok(0)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EPERM), "without privilege"),
        }
        match with(IoPriority::best_effort(4).with_hint(1)) {
            Ok(result) => assert_eq!(result, Ok(0)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "before 6.5"),
        }
    });
}

const FLAGS: [RwFlags; 9] = [
    RwFlags::HIPRI,
    RwFlags::DSYNC,
    RwFlags::SYNC,
    RwFlags::NOWAIT,
    RwFlags::APPEND,
    RwFlags::NOAPPEND,
    RwFlags::ATOMIC,
    RwFlags::DONTCACHE,
    RwFlags::NOSIGNAL,
];

/// The errno with which `request` is refused.
fn refusal<S: Request>(request: Iocb<S>) -> Option<i32> {
    let refused = request.start().expect_err("refused by the submission");
    refused.error().raw_os_error()
}

/// The kernel takes no flag of any kind with a sync or a poll: so each can be seen to arrive in the field it
/// belongs in, also those that have no other effect here.
#[test]
fn every_flag_goes_where_a_sync_is_refused_for_it() {
    for flag in FLAGS {
        let sync = || Iocb::alloc().init_fsync(disk_file());
        assert_eq!(
            refusal(sync().rw_flags(flag)),
            Some(libc::EINVAL),
            "{flag:?}"
        );
        let none = sync().rw_flags(flag).rw_flags(RwFlags::empty());
        assert!(
            none.wait().unwrap().result.is_ok(),
            "the last setting counts"
        );
        let poll = Iocb::alloc().init_poll(pipe().1, PollFlags::OUT);
        assert_eq!(refusal(poll.rw_flags(flag)), Some(libc::EINVAL), "{flag:?}");
    }
}

fn eventfd() -> EventFd {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    EventFd::from_value_and_flags(0, flags).unwrap()
}

/// Each has a bit in the same field, and takes nothing from the other.
#[test]
fn an_eventfd_and_a_priority_go_together() {
    let counter = Arc::new(OwnedFd::from(eventfd()));
    let bad = IoPriority::from_bits_retain(0xe000);
    let write = || {
        let write = Iocb::alloc().init_rw(disk_file(), Write, *b"bytes", 0);
        write.eventfd(Arc::clone(&counter))
    };
    assert_eq!(refusal(write().priority(bad)), Some(libc::EINVAL));
    let write = write().priority(IoPriority::IDLE).rw_flags(RwFlags::DSYNC);
    assert_eq!(write.wait().unwrap().result.unwrap(), 5);
    assert_eq!(count(&counter), 1);
}

fn count(counter: &OwnedFd) -> u64 {
    let mut bytes = [0; 8];
    File::from(counter.try_clone().unwrap())
        .read_exact(&mut bytes)
        .unwrap();
    u64::from_ne_bytes(bytes)
}

#[test]
fn an_eventfd_counts_reads_syncs_and_polls_and_nothing_that_was_refused() {
    let counter = Arc::new(OwnedFd::from(eventfd()));
    let sync = Iocb::alloc().init_fdsync(disk_file());
    assert!(
        sync.eventfd(Arc::clone(&counter))
            .wait()
            .unwrap()
            .result
            .is_ok()
    );
    let poll = Iocb::alloc().init_poll(pipe().1, PollFlags::OUT);
    assert!(
        poll.eventfd(Arc::clone(&counter))
            .wait()
            .unwrap()
            .result
            .is_ok()
    );
    let read = Iocb::alloc().init_rw(disk_file(), Read, [0; 1], 0);
    assert!(
        read.eventfd(Arc::clone(&counter))
            .wait()
            .unwrap()
            .result
            .is_ok()
    );
    let refused = Iocb::alloc().init_fsync(pipe().0);
    assert_eq!(
        refusal(refused.eventfd(Arc::clone(&counter))),
        Some(libc::EINVAL)
    );
    assert_eq!(count(&counter), 3);
    assert_eq!(
        Arc::strong_count(&counter),
        1,
        "the requests have let go of it"
    );
}

#[test]
fn what_is_no_eventfd_is_refused() {
    let file = Arc::new(OwnedFd::from(disk_file()));
    let read = Iocb::alloc().init_rw(disk_file(), Read, [0; 1], 0);
    assert_eq!(refusal(read.eventfd(file)), Some(libc::EINVAL));
}

/// For this thread alone, which is to end soon.
fn give_up_capabilities() {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let none = [0_u32; 6];
    // SAFETY: capset(2) reads a header and two sets of three words.
    let failed = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) } != 0;
    assert!(!failed, "{}", io::Error::last_os_error());
}

#[test]
fn real_time_needs_a_privilege() {
    let unprivileged = thread::spawn(|| {
        give_up_capabilities();
        let read = Iocb::alloc().init_rw(disk_file(), Read, [0; 1], 0);
        assert_eq!(
            refusal(read.priority(IoPriority::real_time(0))),
            Some(libc::EPERM)
        );
        let read = Iocb::alloc().init_rw(disk_file(), Read, [0; 1], 0);
        let best_effort = read.priority(IoPriority::best_effort(0));
        assert_eq!(best_effort.wait().unwrap().result.unwrap(), 0);
    });
    unprivileged.join().unwrap();
}
