//! `io_submit`: what the kernel takes, how many, and what it refuses with which errno.

use super::*;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;

#[test]
fn nothing_can_be_submitted() {
    let context = Context::new(1);
    assert_eq!(context.submit(&mut []).expect("a valid context"), 0);
}

#[test]
fn a_refused_request_stops_the_call_and_has_its_errno_alone() {
    let file = null();
    let good = bare(IOCB_CMD_PREAD, &file);
    let bad = iocb {
        aio_fildes: u32::MAX,
        ..good
    };
    let mut requests = [good, good, bad, good];
    let context = Context::new(4);
    assert_eq!(context.submit(&mut requests).expect("io_submit"), 2);
    assert_eq!(errno(context.submit(&mut requests[2..])), libc::EBADF);
    assert_eq!(context.submit(&mut requests[3..]).expect("io_submit"), 1);
    assert_eq!(context.reap(3).len(), 3);
    assert_eq!(context.look().len(), 0);
}

#[test]
fn a_full_ring_is_eagain_until_an_event_is_reaped() {
    let file = null();
    let context = Context::new(1);
    let mut taken = 0;
    let refused = loop {
        match context.submit(&mut [bare(IOCB_CMD_PREAD, &file)]) {
            Ok(n) => taken += n,
            Err(error) => break error.raw_os_error(),
        }
    };
    assert_eq!(refused, Some(libc::EAGAIN));
    assert!(taken >= 1, "io_setup(1) promises one");
    context.reap(1);
    assert_eq!(
        context
            .submit(&mut [bare(IOCB_CMD_PREAD, &file)])
            .expect("a slot"),
        1
    );
    context.reap(taken);
}

#[test]
fn the_kernel_clears_the_key() {
    let file = null();
    let mut requests = [iocb {
        aio_key: 77,
        ..bare(IOCB_CMD_PREAD, &file)
    }];
    let context = Context::new(1);
    context.submit(&mut requests).expect("io_submit");
    context.reap(1);
    assert_eq!(requests[0].aio_key, 0);
}

#[test]
fn bad_pointers_are_efault() {
    static READ_ONLY: iocb = iocb {
        aio_data: 0,
        aio_key: 1,
        aio_rw_flags: 0,
        aio_lio_opcode: IOCB_CMD_PREAD,
        aio_reqprio: 0,
        aio_fildes: 0,
        aio_buf: 0,
        aio_nbytes: 0,
        aio_offset: 0,
        aio_reserved2: 0,
        aio_flags: 0,
        aio_resfd: 0,
    };
    let context = Context::new(1);
    let no_array = ptr::null();
    let no_request: *mut iocb = ptr::null_mut();
    let request_in_the_kernel = KERNEL_HALF.cast::<iocb>().cast_mut();
    let read_only = ptr::from_ref(&READ_ONLY).cast_mut();
    for pointer in [no_request, request_in_the_kernel, read_only] {
        // SAFETY: what is under test: the kernel reads and writes through it, and answers EFAULT.
        let result = unsafe { io_submit(context.0, [pointer].as_ptr(), 1) };
        assert_eq!(errno(result), libc::EFAULT, "{pointer:?}");
    }
    // SAFETY: as above.
    let result = unsafe { io_submit(context.0, no_array, 1) };
    assert_eq!(errno(result), libc::EFAULT);
}

#[test]
fn a_negative_count_is_einval() {
    let context = Context::new(1);
    // SAFETY: the kernel looks at the count before the array.
    let result = unsafe { io_submit(context.0, ptr::null(), usize::MAX) };
    assert_eq!(errno(result), libc::EINVAL);
}

#[test]
fn the_wrong_descriptor_is_ebadf_even_for_no_bytes() {
    let open = |options: &mut OpenOptions| options.open("/dev/null").expect("/dev/null");
    let path = open(OpenOptions::new().read(true).custom_flags(libc::O_PATH));
    let reader = open(OpenOptions::new().read(true));
    let writer = open(OpenOptions::new().write(true));
    let context = Context::new(1);
    let closed = iocb {
        aio_fildes: i32::MAX as u32,
        ..bare(IOCB_CMD_PREAD, &reader)
    };
    let negative = iocb {
        aio_fildes: u32::MAX,
        ..closed
    };
    for request in [
        closed,
        negative,
        bare(IOCB_CMD_PREAD, &path),
        bare(IOCB_CMD_PREAD, &writer),
        bare(IOCB_CMD_PREADV, &writer),
        bare(IOCB_CMD_PWRITE, &reader),
        bare(IOCB_CMD_PWRITEV, &reader),
        iocb {
            aio_fildes: i32::MAX as u32,
            ..bare(IOCB_CMD_FSYNC, &reader)
        },
        iocb {
            aio_fildes: i32::MAX as u32,
            ..poll(&reader, POLLIN)
        },
    ] {
        assert_eq!(context.refusal(request), libc::EBADF, "{request:?}");
    }
}

#[test]
fn a_malformed_request_is_einval() {
    let file = file_with(b"content");
    let buf = [0u8; 2];
    let good = rw(IOCB_CMD_PREAD, &file, buf.as_ptr(), 2, 0);
    let context = Context::new(1);
    for request in [
        iocb {
            aio_reserved2: 1,
            ..good
        },
        iocb {
            aio_lio_opcode: 4,
            ..good
        },
        iocb {
            aio_lio_opcode: IOCB_CMD_NOOP,
            ..good
        },
        iocb {
            aio_lio_opcode: 99,
            ..good
        },
        iocb {
            aio_nbytes: u64::MAX,
            ..good
        },
        iocb {
            aio_offset: -1,
            ..good
        },
        iocb {
            aio_offset: i64::MAX,
            ..good
        },
        iocb {
            aio_flags: IOCB_FLAG_IOPRIO,
            aio_reqprio: -1,
            ..good
        },
        iocb {
            aio_flags: IOCB_FLAG_RESFD,
            aio_resfd: file.as_raw_fd() as u32,
            ..good
        },
        poll(&file, 0x1_0000),
    ] {
        assert_eq!(context.refusal(request), libc::EINVAL, "{request:?}");
    }
    assert_eq!(context.run(good), 2, "the one they were made from");
}

#[test]
fn a_sync_takes_no_arguments() {
    let file = file_with(b"");
    let good = bare(IOCB_CMD_FSYNC, &file);
    let context = Context::new(1);
    for request in [
        iocb { aio_buf: 8, ..good },
        iocb {
            aio_offset: 8,
            ..good
        },
        iocb {
            aio_nbytes: 8,
            ..good
        },
        iocb {
            aio_rw_flags: RWF_DSYNC,
            ..good
        },
    ] {
        assert_eq!(context.refusal(request), libc::EINVAL, "{request:?}");
    }
    assert_eq!(context.run(good), 0, "the one they were made from");
}

#[test]
fn a_file_that_cannot_do_it_is_einval() {
    let directory = File::open(".").expect("a directory");
    let full = OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let (reader, _writer) = pipe(0);
    let context = Context::new(1);
    for request in [
        bare(IOCB_CMD_PREAD, &directory),
        bare(IOCB_CMD_PWRITE, &full),
        bare(IOCB_CMD_FSYNC, &reader),
        bare(IOCB_CMD_FDSYNC, &null()),
    ] {
        assert_eq!(context.refusal(request), libc::EINVAL, "{request:?}");
    }
}

#[test]
fn a_buffer_outside_user_space_is_efault() {
    let file = file_with(b"content");
    let context = Context::new(1);
    // Begins in the process's half and ends in the kernel's.
    let border = ptr::without_provenance(0x7fff_ffff_ffff_f000);
    let outside = iovec(KERNEL_HALF, 1);
    for request in [
        rw(IOCB_CMD_PREAD, &file, KERNEL_HALF, 1, 0),
        rw(IOCB_CMD_PWRITE, &file, KERNEL_HALF, 1, 0),
        rw(IOCB_CMD_PREAD, &file, border, 1 << 20, 0),
        rw(IOCB_CMD_PREADV, &file, outside.as_ptr().cast(), 1, 0),
    ] {
        // There an address does not tell whose it is, and the operation finds out.
        if cfg!(target_arch = "s390x") {
            assert_eq!(
                context.run(request),
                -i64::from(libc::EFAULT),
                "{request:?}"
            );
        } else {
            assert_eq!(context.refusal(request), libc::EFAULT, "{request:?}");
        }
    }
    for array in [KERNEL_HALF, UNMAPPED] {
        let request = rw(IOCB_CMD_PREADV, &file, array, 1, 0);
        assert_eq!(context.refusal(request), libc::EFAULT, "{request:?}");
    }
}

fn iovec(base: *const u8, len: usize) -> [libc::iovec; 1] {
    [libc::iovec {
        iov_base: base.cast_mut().cast(),
        iov_len: len,
    }]
}

#[test]
fn too_many_iovecs_or_a_negative_one_are_einval() {
    let file = file_with(b"content");
    let byte = [0u8; 1];
    let many = vec![iovec(byte.as_ptr(), 1)[0]; 1025];
    let negative = iovec(byte.as_ptr(), usize::MAX);
    let context = Context::new(1);
    for request in [
        rw(IOCB_CMD_PREADV, &file, many.as_ptr().cast(), many.len(), 0),
        rw(IOCB_CMD_PWRITEV, &file, many.as_ptr().cast(), many.len(), 0),
        rw(IOCB_CMD_PREADV, &file, negative.as_ptr().cast(), 1, 0),
    ] {
        assert_eq!(context.refusal(request), libc::EINVAL, "{request:?}");
    }
}

#[test]
fn an_unknown_flag_is_eopnotsupp() {
    let file = file_with(b"content");
    let request = iocb {
        aio_rw_flags: 1 << 30,
        ..bare(IOCB_CMD_PREAD, &file)
    };
    assert_eq!(Context::new(1).refusal(request), libc::EOPNOTSUPP);
}

#[test]
fn appending_and_not_appending_is_refused() {
    let file = file_with(b"content");
    let flags = RWF_APPEND | RWF_NOAPPEND;
    let request = iocb {
        aio_rw_flags: flags,
        ..bare(IOCB_CMD_PWRITE, &file)
    };
    // EINVAL since 6.9, whose RWF_NOAPPEND is; older kernels don't know the flag.
    let refused = Context::new(1).refusal(request);
    assert!(
        [libc::EINVAL, libc::EOPNOTSUPP].contains(&refused),
        "{refused}"
    );
}

#[test]
fn a_closed_eventfd_is_ebadf() {
    let file = null();
    let request = iocb {
        aio_flags: IOCB_FLAG_RESFD,
        aio_resfd: i32::MAX as u32,
        ..bare(IOCB_CMD_PREAD, &file)
    };
    assert_eq!(Context::new(1).refusal(request), libc::EBADF);
}

#[test]
fn a_priority_without_its_flag_and_unknown_flags_are_ignored() {
    let file = null();
    let request = iocb {
        aio_reqprio: -1,
        aio_flags: 1 << 31,
        ..bare(IOCB_CMD_PREAD, &file)
    };
    assert_eq!(Context::new(1).run(request), 0);
}
