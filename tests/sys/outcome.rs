//! What accepted requests do, and what their events say.

use super::setup::set_limit;
use super::*;
use std::ffi::CStr;
use std::io::Read;
use std::os::unix::fs::FileExt;

#[test]
fn a_read_fills_the_buffer_and_a_write_the_file() {
    let file = file_with(b"0123456789");
    let mut buf = [b'-'; 8];
    let context = Context::new(1);
    let write = rw(IOCB_CMD_PWRITE, &file, b"abc".as_ptr(), 3, 4);
    assert_eq!(context.run(write), 3);
    let read = rw(IOCB_CMD_PREAD, &file, buf.as_mut_ptr(), 6, 2);
    assert_eq!(context.run(read), 6);
    assert_eq!(&buf, b"23abc7--");
}

#[test]
fn vectored_requests_go_through_their_buffers_in_order() {
    let file = file_with(b"");
    let context = Context::new(1);
    let parts: [&[u8]; 3] = [b"one ", b"", b"two"];
    let iovecs = parts.map(|part| libc::iovec {
        iov_base: part.as_ptr().cast_mut().cast(),
        iov_len: part.len(),
    });
    assert_eq!(
        context.run(rw(IOCB_CMD_PWRITEV, &file, iovecs.as_ptr().cast(), 3, 2)),
        7
    );

    let (mut front, mut back) = ([0u8; 5], [0u8; 9]);
    let iovecs = [&mut front[..], &mut back[..]].map(|part| libc::iovec {
        iov_base: part.as_mut_ptr().cast(),
        iov_len: part.len(),
    });
    assert_eq!(
        context.run(rw(IOCB_CMD_PREADV, &file, iovecs.as_ptr().cast(), 2, 0)),
        9
    );
    assert_eq!((&front, &back), (b"\0\0one", b" two\0\0\0\0\0"));
}

#[test]
fn an_event_carries_the_tag_and_the_address() {
    let file = null();
    let mut requests = [iocb {
        aio_data: u64::MAX - 1,
        ..bare(IOCB_CMD_PREAD, &file)
    }];
    let address = requests.as_ptr() as u64;
    let context = Context::new(1);
    context.submit(&mut requests).expect("io_submit");
    let event = context.reap(1)[0];
    assert_eq!((event.data, event.obj), (u64::MAX - 1, address));
    assert_eq!((event.res, event.res2), (0, 0));
}

#[test]
fn a_read_beyond_the_end_is_short_or_nothing() {
    let file = file_with(b"0123");
    let mut buf = [0u8; 8];
    let context = Context::new(1);
    assert_eq!(
        context.run(rw(IOCB_CMD_PREAD, &file, buf.as_mut_ptr(), 8, 2)),
        2
    );
    assert_eq!(
        context.run(rw(IOCB_CMD_PREAD, &file, buf.as_mut_ptr(), 8, 4)),
        0
    );
    assert_eq!(
        context.run(rw(IOCB_CMD_PREAD, &file, buf.as_mut_ptr(), 8, 1 << 40)),
        0
    );
    assert_eq!(
        context.run(rw(IOCB_CMD_PREAD, &file, buf.as_mut_ptr(), 0, 0)),
        0
    );
}

#[test]
fn both_syncs_complete() {
    let file = file_with(b"content");
    let context = Context::new(2);
    let mut requests = [bare(IOCB_CMD_FSYNC, &file), bare(IOCB_CMD_FDSYNC, &file)];
    assert_eq!(context.submit(&mut requests).expect("io_submit"), 2);
    assert!(context.reap(2).iter().all(|event| event.res == 0));
}

#[test]
fn a_poll_completes_when_its_file_is_ready() {
    let (reader, mut writer) = pipe(0);
    let context = Context::new(1);
    context
        .submit(&mut [poll(&reader, POLLIN)])
        .expect("io_submit");
    assert_eq!(context.look().len(), 0);
    writer.write_all(b"!").expect("written");
    assert!(readable(context.reap(1)[0]));
}

#[test]
fn an_eventfd_counts_completions() {
    // SAFETY: takes no pointer.
    let mut counter = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) });
    let file = null();
    let request = iocb {
        aio_flags: IOCB_FLAG_RESFD,
        aio_resfd: counter.as_raw_fd() as u32,
        ..bare(IOCB_CMD_PREAD, &file)
    };
    let context = Context::new(2);
    context.submit(&mut [request; 2]).expect("io_submit");
    context.reap(2);
    let mut count = [0; 8];
    counter.read_exact(&mut count).expect("the count");
    assert_eq!(u64::from_ne_bytes(count), 2);
}

#[test]
fn a_priority_with_its_flag_is_taken() {
    let file = null();
    let best_effort_7 = 2 << 13 | 7;
    let request = iocb {
        aio_flags: IOCB_FLAG_IOPRIO,
        aio_reqprio: best_effort_7,
        ..bare(IOCB_CMD_PREAD, &file)
    };
    assert_eq!(Context::new(1).run(request), 0);
}

#[test]
fn an_appending_write_ignores_its_offset() {
    let file = file_with(b"0123");
    let request = rw(IOCB_CMD_PWRITE, &file, b"45".as_ptr(), 2, 0);
    let request = iocb {
        aio_rw_flags: RWF_APPEND,
        ..request
    };
    assert_eq!(Context::new(1).run(request), 2);
    let mut content = [0; 6];
    file.read_exact_at(&mut content, 0).expect("read");
    assert_eq!(&content, b"012345");
}

#[test]
fn synchronous_writes_complete() {
    let file = file_with(b"");
    let context = Context::new(1);
    for flag in [RWF_DSYNC, RWF_SYNC, RWF_DSYNC | RWF_SYNC] {
        let request = rw(IOCB_CMD_PWRITE, &file, b"x".as_ptr(), 1, 0);
        assert_eq!(
            context.run(iocb {
                aio_rw_flags: flag,
                ..request
            }),
            1
        );
    }
}

#[test]
fn a_file_may_be_closed_in_flight() {
    let (reader, mut writer) = pipe(0);
    let context = Context::new(1);
    context
        .submit(&mut [poll(&reader, POLLIN)])
        .expect("io_submit");
    drop(reader);
    writer
        .write_all(b"!")
        .expect("the pipe has a reader: the request");
    assert!(readable(context.reap(1)[0]));
}

#[test]
fn an_unmapped_buffer_is_efault_in_the_event() {
    let file = file_with(b"content");
    let context = Context::new(1);
    let efault = -i64::from(libc::EFAULT);
    assert_eq!(
        context.run(rw(IOCB_CMD_PREAD, &file, UNMAPPED, 4, 0)),
        efault
    );
    assert_eq!(
        context.run(rw(IOCB_CMD_PWRITE, &file, UNMAPPED, 4, 0)),
        efault
    );
}

#[test]
fn an_empty_pipe_that_must_not_block_is_eagain_in_the_event() {
    let (reader, _writer) = pipe(libc::O_NONBLOCK);
    let mut buf = [0u8; 4];
    let request = rw(IOCB_CMD_PREAD, &reader, buf.as_mut_ptr(), 4, 0);
    assert_eq!(Context::new(1).run(request), -i64::from(libc::EAGAIN));
}

#[test]
fn a_broken_pipe_is_epipe_in_the_event() {
    let (reader, writer) = pipe(0);
    drop(reader);
    let request = rw(IOCB_CMD_PWRITE, &writer, b"!".as_ptr(), 1, 0);
    assert_eq!(Context::new(1).run(request), -i64::from(libc::EPIPE));
}

#[test]
fn a_sealed_file_is_eperm_in_the_event() {
    const NAME: &CStr = c"sealed";
    // SAFETY: the name is a C string.
    let fd =
        unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    let file = owned(fd);
    // SAFETY: takes numbers only.
    let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE) };
    assert_eq!(sealed, 0, "{}", io::Error::last_os_error());
    let request = rw(IOCB_CMD_PWRITE, &file, b"!".as_ptr(), 1, 0);
    assert_eq!(Context::new(1).run(request), -i64::from(libc::EPERM));
}

#[test]
fn a_write_past_the_size_limit_is_efbig_in_the_event() {
    if alone("outcome::a_write_past_the_size_limit_is_efbig_in_the_event") {
        let file = file_with(b"");
        // SAFETY: ignoring a signal installs no handler.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        let before = set_limit(libc::RLIMIT_FSIZE, 4);
        let context = Context::new(1);
        let results = [0, 4]
            .map(|offset| context.run(rw(IOCB_CMD_PWRITE, &file, b"012345".as_ptr(), 6, offset)));
        set_limit(libc::RLIMIT_FSIZE, before);
        assert_eq!(results, [4, -i64::from(libc::EFBIG)]);
    }
}
