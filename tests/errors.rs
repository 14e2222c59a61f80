//! Every error in its place: what `io_submit` refuses comes from `submit`, whole; what the file operation
//! says comes as the result; what is refused after it had to queue comes as the result too. And the requests
//! around it never notice.
#![allow(
    unsafe_code,
    reason = "buffers that lie about their memory, and limits of the process"
)]

mod common;

use common::*;
use kiocb::buf::{IoBuf, IoBufMut};
use kiocb::op::{Read, ReadV, Request, Write};
use kiocb::{Aio, AlignedBuf, Completion, DirectFile, Dispatch, IoPriority, Iocb, RwFlags};
use nix::sys::resource::Resource;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Arc, mpsc};

type Report = Box<dyn FnOnce(io::Result<usize>) + Send>;

/// Memory that is not what its owner says: the kernel finds out.
struct Wrong {
    address: usize,
    len: usize,
}

impl Wrong {
    /// In the kernel's half of the address space.
    fn in_the_kernel() -> Wrong {
        let address = usize::MAX << 16;
        Wrong { address, len: 64 }
    }

    /// A page that may not be touched.
    fn unmapped() -> Wrong {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let address = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0)
        };
        assert_ne!(address, libc::MAP_FAILED);
        let address = address.addr();
        Wrong { address, len: 64 }
    }
}

// SAFETY: it breaks the promise on purpose; the kernel only says EFAULT, and nobody else looks.
unsafe impl IoBuf for Wrong {
    fn buf_ptr(&self) -> *const u8 {
        std::ptr::without_provenance(self.address)
    }

    fn buf_len(&self) -> usize {
        self.len
    }
}

// SAFETY: as above.
unsafe impl IoBufMut for Wrong {
    fn buf_mut_ptr(&mut self) -> *mut u8 {
        std::ptr::without_provenance_mut(self.address)
    }

    fn buf_capacity(&self) -> usize {
        self.len
    }

    unsafe fn set_init(&mut self, _: usize) {}
}

/// What `io_submit` refuses.
#[derive(Clone, Copy, Debug)]
enum Refused {
    PathOnly,
    WriteToReadOnly,
    ReadFromWriteOnly,
    EmptyWriteToReadOnly,
    Directory,
    FullDevice,
    OffsetTooLarge,
    EndTooLarge,
    TooManyBuffers,
    #[cfg_attr(
        target_arch = "s390x",
        expect(dead_code, reason = "every address is in user space there")
    )]
    KernelMemory,
    UnknownFlag,
    BadPriority,
    NoEventfd,
    SyncOfPipe,
    SyncWithFlags,
}

use Refused::*;

const REFUSED: &[(Refused, i32)] = &[
    (PathOnly, libc::EBADF),
    (WriteToReadOnly, libc::EBADF),
    (ReadFromWriteOnly, libc::EBADF),
    (EmptyWriteToReadOnly, libc::EBADF),
    (Directory, libc::EINVAL),
    (FullDevice, libc::EINVAL),
    (OffsetTooLarge, libc::EINVAL),
    (EndTooLarge, libc::EINVAL),
    (TooManyBuffers, libc::EINVAL),
    // There an address does not tell whose it is: `memory_of_the_kernel_is_no_buffer`.
    #[cfg(not(target_arch = "s390x"))]
    (KernelMemory, libc::EFAULT),
    (UnknownFlag, libc::EOPNOTSUPP),
    (BadPriority, libc::EINVAL),
    (NoEventfd, libc::EINVAL),
    (SyncOfPipe, libc::EINVAL),
    (SyncWithFlags, libc::EINVAL),
];

fn open(path: &str, options: &mut std::fs::OpenOptions) -> File {
    options.open(path).unwrap()
}

fn for_writing(path: &str) -> File {
    open(path, File::options().write(true))
}

fn send<F, B>(
    request: Iocb<impl Request<Output = Completion<F, B>>>,
    report: Report,
) -> io::Result<()> {
    let request = request.init_callback(|done| report(done.result));
    Ok(request.submit()?)
}

impl Refused {
    fn submit(self, request: Iocb, report: Report) -> io::Result<()> {
        match self {
            PathOnly => {
                let file = open("/", File::options().read(true).custom_flags(libc::O_PATH));
                let request = request.init_rw(file, Read, [0; 64], 0);
                send(request, report)
            }
            WriteToReadOnly | EmptyWriteToReadOnly => {
                let len = if matches!(self, WriteToReadOnly) {
                    64
                } else {
                    0
                };
                let file = File::open("/dev/null").unwrap();
                let request = request.init_rw(file, Write, vec![0; len], 0);
                send(request, report)
            }
            ReadFromWriteOnly => {
                let request = request.init_rw(for_writing("/dev/null"), Read, [0; 64], 0);
                send(request, report)
            }
            Directory => {
                let request = request.init_rw(File::open("/").unwrap(), Read, [0; 64], 0);
                send(request, report)
            }
            FullDevice => {
                let request = request.init_rw(for_writing("/dev/full"), Write, [0; 64], 0);
                send(request, report)
            }
            OffsetTooLarge => {
                let request = request.init_rw(scratch(), Read, [0; 64], 1 << 63);
                send(request, report)
            }
            EndTooLarge => {
                let offset = i64::MAX.cast_unsigned() - 10;
                let request = request.init_rw(scratch(), Read, [0; 64], offset);
                send(request, report)
            }
            TooManyBuffers => {
                let bufs: Vec<[u8; 1]> = vec![[0]; 1025];
                let request = request.init_rw(scratch(), ReadV, bufs, 0);
                send(request, report)
            }
            KernelMemory => {
                let request = request.init_rw(scratch(), Write, Wrong::in_the_kernel(), 0);
                send(request, report)
            }
            UnknownFlag => {
                let request = request.init_rw(scratch(), Read, [0; 64], 0);
                let request = request.rw_flags(RwFlags::from_bits_retain(1 << 30));
                send(request, report)
            }
            BadPriority => {
                let request = request.init_rw(scratch(), Read, [0; 64], 0);
                let request = request.priority(IoPriority::from_bits_retain(7 << 13));
                send(request, report)
            }
            NoEventfd => {
                let request = request.init_rw(scratch(), Read, [0; 64], 0);
                let request = request.eventfd(Arc::new(new_null().into()));
                send(request, report)
            }
            SyncOfPipe => {
                let request = request.init_fsync(OwnedFd::from(io::pipe().unwrap().0));
                send(request, report)
            }
            SyncWithFlags => {
                let request = request.init_fdsync(scratch()).rw_flags(RwFlags::DSYNC);
                send(request, report)
            }
        }
    }
}

/// A good request, whose result is checked.
fn neighbour(aio: &Aio, file: &Arc<File>, right: &Counter) {
    let right = right.clone();
    aio.alloc()
        .init_rw(file.clone(), Read, [0; 64], 0)
        .init_callback(move |done| {
            assert_eq!(done.result.unwrap(), 64);
            assert_eq!(done.buf[..], pattern(1, 64));
            right.add();
        })
        .submit()
        .unwrap();
}

/// Reports are errnos here.
fn report_to(send: &mpsc::Sender<i32>) -> Report {
    let send = send.clone();
    Box::new(move |result| {
        send.send(result.unwrap_err().raw_os_error().unwrap())
            .unwrap()
    })
}

fn never() -> Report {
    Box::new(|result| panic!("a refused request completed with {result:?}"))
}

#[test]
fn what_the_kernel_refuses_comes_from_submit_and_is_never_called_back() {
    let _watchdog = watchdog();
    let (aio, right) = (aio(), Counter::default());
    let file = Arc::new(file_of(&pattern(1, 64)));
    for &(case, errno) in REFUSED {
        neighbour(&aio, &file, &right);
        let refused = case.submit(aio.alloc(), never());
        neighbour(&aio, &file, &right);
        let errno_seen = refused.map_err(|error| error.raw_os_error());
        assert_eq!(errno_seen, Err(Some(errno)), "{case:?}");
    }
    aio.drain().unwrap();
    assert_eq!(right.get(), 2 * REFUSED.len());
    let stats = aio.stats();
    assert_eq!(
        (stats.accepted, stats.completed),
        (2 * REFUSED.len() as u64, 2 * REFUSED.len() as u64),
        "what is refused is not accepted"
    );
    assert_eq!((stats.refused_late, stats.panics), (0, 0));
}

#[test]
fn what_is_refused_after_it_queued_comes_as_the_result() {
    let _watchdog = watchdog();
    let aio = build(Aio::builder().depth(1));
    let (right, (send, receive)) = (Counter::default(), mpsc::channel());
    let file = Arc::new(file_of(&pattern(1, 64)));
    let occupied = occupy(&aio);
    for &(case, _) in REFUSED {
        neighbour(&aio, &file, &right);
        case.submit(aio.alloc(), report_to(&send)).unwrap();
    }
    neighbour(&aio, &file, &right);
    drop(occupied);
    for &(case, errno) in REFUSED {
        assert_eq!(receive.recv().unwrap(), errno, "{case:?}");
    }
    aio.drain().unwrap();
    let count = REFUSED.len();
    assert_eq!(right.get(), count + 1);
    assert_eq!(aio.stats().refused_late, count as u64);
    assert_eq!(aio.stats().panics, 0);
}

/// Bad requests at the head, in the middle and at the tail of one group; more of them than there are slots.
#[test]
fn what_is_refused_in_a_group_harms_nobody_in_it() {
    let _watchdog = watchdog();
    for depth in [1, 4, 64] {
        let aio = build(Aio::builder().depth(depth));
        let file = Arc::new(file_of(&pattern(1, 64)));
        for bad in [
            &[0][..],
            &[5],
            &[9],
            &[0, 1, 5, 8, 9],
            &[0, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            for &(case, errno) in REFUSED {
                let (right, (send, receive)) = (Counter::default(), mpsc::channel());
                let (inner, file, counted) = (aio.clone(), file.clone(), right.clone());
                // What a callback submits is one group.
                aio.alloc()
                    .init_rw(null(), Read, Vec::new(), 0)
                    .init_callback(move |_| {
                        for index in 0..10 {
                            if bad.contains(&index) {
                                case.submit(inner.alloc(), report_to(&send)).unwrap();
                            } else {
                                neighbour(&inner, &file, &counted);
                            }
                        }
                    })
                    .submit()
                    .unwrap();
                let errnos: Vec<i32> = receive.iter().collect();
                assert_eq!(errnos, vec![errno; bad.len()], "{case:?} at {bad:?}");
                right.until(10 - bad.len());
            }
        }
        aio.drain().unwrap();
        assert_eq!(aio.stats().panics, 0);
    }
}

#[test]
fn an_error_brings_the_very_same_file_buffer_and_closure_back() {
    let _watchdog = watchdog();
    let aio = aio();
    let file = File::open("/dev/null").unwrap();
    let (fd, buf, secret) = (file.as_raw_fd(), pattern(3, 100), Arc::new(5));
    let (address, captured) = (buf.as_ptr(), secret.clone());
    let request = aio.alloc().init_rw(file, Write, buf, 77);
    let refused = request
        .init_callback(move |_| {
            assert_eq!(*captured, 5);
        })
        .submit()
        .unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EBADF));
    assert_eq!(refused.to_string(), "the request was not submitted");
    let reason = std::error::Error::source(&refused).expect("the errno");
    assert_eq!(reason.to_string(), "Bad file descriptor (os error 9)");
    assert_eq!(Arc::strong_count(&secret), 2);
    // As it was: submitted again it is refused again.
    let refused = refused.into_request().submit().unwrap_err();
    let (error, request) = refused.into_parts();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    let (request, callback) = request.into_parts();
    assert_eq!(Arc::strong_count(&secret), 2);
    let (file, buf) = request.into_parts();
    assert_eq!((file.as_raw_fd(), buf.as_ptr()), (fd, address));
    assert_eq!(buf, pattern(3, 100));
    // It can even be used: in a request that is right.
    let request = aio.alloc().init_rw(new_null(), Write, buf, 77);
    request.init_callback(callback).submit().unwrap();
    aio.drain().unwrap();
    assert_eq!(Arc::strong_count(&secret), 1);
}

#[test]
fn waits_and_starts_are_refused_with_the_request_as_well() {
    let _watchdog = watchdog();
    let fates = Fates::default();
    let request = || {
        let file = fates.file(File::open("/dev/null").unwrap());
        Iocb::alloc().init_rw(file, Write, fates.buffer(pattern(1, 10)), 0)
    };
    let refused = request().wait().unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EBADF));
    let (_, buf) = refused.into_request().into_parts();
    assert_eq!(buf.0, pattern(1, 10));
    let refused = request().start().unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EBADF));
    let (_, buf) = refused.into_request().into_parts();
    assert_eq!(buf.0, pattern(1, 10));
    let refused = Iocb::alloc().init_fsync(OwnedFd::from(io::pipe().unwrap().0));
    let refused = refused.wait().unwrap_err();
    assert_eq!(refused.error().raw_os_error(), Some(libc::EINVAL));
    refused.into_request().into_file();
}

/// `submit` refuses it; on s390x, where the kernel's addresses are no others than the process's, it is memory
/// that is not mapped.
#[test]
fn memory_of_the_kernel_is_no_buffer() {
    let _watchdog = watchdog();
    let request = aio().alloc();
    let done = request
        .init_rw(scratch(), Write, Wrong::in_the_kernel(), 0)
        .wait();
    let (is_accepted, error) = match done {
        Ok(done) => (true, done.result.unwrap_err()),
        Err(refused) => (false, refused.into_parts().0),
    };
    assert_eq!(is_accepted, cfg!(target_arch = "s390x"));
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
}

#[test]
fn memory_that_is_not_mapped_says_efault_in_the_result() {
    let _watchdog = watchdog();
    let (aio, right) = (aio(), Counter::default());
    let file = Arc::new(file_of(&pattern(1, 64)));
    neighbour(&aio, &file, &right);
    let done = aio
        .alloc()
        .init_rw(file.clone(), Read, Wrong::unmapped(), 0);
    let (send, receive) = mpsc::channel();
    done.init_callback(move |done| send.send(done.result).unwrap())
        .submit()
        .unwrap();
    neighbour(&aio, &file, &right);
    let error = receive.recv().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    let done = aio
        .alloc()
        .init_rw(file, Write, Wrong::unmapped(), 0)
        .wait();
    let error = done.unwrap().result.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    aio.drain().unwrap();
    assert_eq!(right.get(), 2);
}

#[test]
fn misaligned_direct_requests_say_einval_in_the_result() {
    let _watchdog = watchdog();
    let dir = disk_dir();
    let mut options = DirectFile::options();
    let opened = options.read(true).write(true).create_new(true);
    let file = match opened.open(dir.path().join("direct")) {
        Ok(file) => Arc::new(file),
        Err(error) => return skip(&error.to_string()),
    };
    let request = Iocb::alloc().init_rw(file.clone(), Write, AlignedBuf::zeroed(8192), 0);
    assert_eq!(request.wait().unwrap().result.unwrap(), 8192);
    let request = Iocb::alloc().init_rw(file.clone(), Read, AlignedBuf::zeroed(4096), 1);
    if request.wait().unwrap().result.is_ok() {
        return skip("this file system (tmpfs?) takes direct I/O at any offset");
    }
    let aio = aio();
    let (send, receive) = mpsc::channel();
    for index in 0..9_usize {
        let (len, offset) = match index % 3 {
            0 => (4096, 0),
            1 => (4096, 1),
            _ => (4095, 4096),
        };
        let send = send.clone();
        aio.alloc()
            .init_rw(file.clone(), Read, AlignedBuf::zeroed(len), offset)
            .init_callback(move |done| send.send((index, done.result)).unwrap())
            .submit()
            .unwrap();
    }
    for _ in 0..9 {
        match receive.recv().unwrap() {
            (0 | 3 | 6, result) => assert_eq!(result.unwrap(), 4096),
            (_, result) => assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL)),
        }
    }
}

#[test]
fn a_write_past_the_file_size_limit_is_short_and_then_says_efbig() {
    let name = "a_write_past_the_file_size_limit_is_short_and_then_says_efbig";
    alone(name, || {
        // SAFETY: an exception that the kernel sends as a signal, ignored; no handler runs.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        limit(Resource::RLIMIT_FSIZE, 10_000);
        let file = Arc::new(scratch());
        let write = |offset| {
            let request = Iocb::alloc().init_rw(file.clone(), Write, vec![1; 4096], offset);
            request.wait().unwrap().result
        };
        assert_eq!(write(0).unwrap(), 4096);
        assert_eq!(write(8192).unwrap(), 10_000 - 8192);
        assert_eq!(write(10_000).unwrap_err().raw_os_error(), Some(libc::EFBIG));
        assert_eq!(
            write(1 << 20).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
        assert_eq!(write(4096).unwrap(), 4096);
        assert_eq!(file.metadata().unwrap().len(), 10_000);
    });
}

#[test]
fn a_broken_pipe_says_epipe_in_the_result() {
    let _watchdog = watchdog();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let done = Iocb::alloc()
        .init_rw(OwnedFd::from(writer), Write, [1; 8], 0)
        .wait();
    assert_eq!(
        done.unwrap().result.unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[test]
fn a_sealed_file_says_eperm_in_the_result() {
    let _watchdog = watchdog();
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"sealed".as_ptr(), libc::MFD_ALLOW_SEALING) };
    // SAFETY: a new descriptor that nobody else has.
    let file = unsafe { File::from_raw_fd(fd) };
    file.write_all_at(b"sealed", 0).unwrap();
    // SAFETY: numbers only.
    let sealed = unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE) };
    assert_eq!(sealed, 0);
    let done = Iocb::alloc()
        .init_rw(file, Write, [1; 8], 0)
        .wait()
        .unwrap();
    assert_eq!(done.result.unwrap_err().raw_os_error(), Some(libc::EPERM));
    let done = Iocb::alloc()
        .init_rw(done.file, Read, [0; 6], 0)
        .wait()
        .unwrap();
    assert_eq!(done.buf, *b"sealed");
}

#[test]
fn nowait_on_tmpfs_is_refused_as_unsupported() {
    let _watchdog = watchdog();
    let Ok(file) = tempfile::tempfile_in("/dev/shm") else {
        return skip("no tmpfs at /dev/shm");
    };
    let request = Iocb::alloc().init_rw(file, Read, [0; 8], 0);
    match request.rw_flags(RwFlags::NOWAIT).wait() {
        Err(refused) => assert_eq!(refused.error().raw_os_error(), Some(libc::EOPNOTSUPP)),
        // A later kernel may have learnt it.
        Ok(done) => assert_eq!(done.result.unwrap(), 0),
    }
}

#[test]
fn errors_come_in_their_places_under_every_dispatch() {
    let _watchdog = watchdog();
    for dispatch in [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual] {
        let aio = build(Aio::builder().depth(1).dispatch(dispatch));
        for &(case, errno) in REFUSED {
            let refused = case.submit(aio.alloc(), never()).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(errno), "{case:?}");
        }
        let occupied = occupy(&aio);
        let (send, receive) = mpsc::channel();
        for &(case, _) in REFUSED {
            case.submit(aio.alloc(), report_to(&send)).unwrap();
        }
        drop(occupied);
        aio.drain().unwrap();
        let errnos: Vec<i32> = receive.try_iter().collect();
        let expected: Vec<i32> = REFUSED.iter().map(|case| case.1).collect();
        assert_eq!(errnos, expected, "{dispatch:?}");
    }
}
