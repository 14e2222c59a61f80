//! `io_cancel`: polls can be cancelled, nothing else can.

use super::*;

fn cancel(context: &Context, request: *mut iocb) -> i32 {
    let mut unused = io_event::default();
    // SAFETY: the kernel reads a key at `request`, or answers EFAULT; it writes to no result.
    errno(unsafe { io_cancel(context.0, request, &mut unused) })
}

#[test]
fn a_cancelled_poll_has_an_event_of_its_own() {
    let (reader, _writer) = pipe(0);
    let mut requests = [iocb {
        aio_data: 5,
        ..poll(&reader, POLLIN)
    }];
    let context = Context::new(1);
    context.submit(&mut requests).expect("io_submit");
    assert_eq!(cancel(&context, &mut requests[0]), libc::EINPROGRESS);
    let event = context.reap(1)[0];
    assert_eq!((event.data, event.res), (5, 0));
    assert_eq!(
        cancel(&context, &mut requests[0]),
        libc::EINVAL,
        "it is complete"
    );
}

#[test]
fn a_request_is_known_by_its_address_and_key() {
    let (reader, _writer) = pipe(0);
    let mut requests = [poll(&reader, POLLIN)];
    let mut copy = requests[0];
    let context = Context::new(1);
    context.submit(&mut requests).expect("io_submit");
    assert_eq!(cancel(&context, &mut copy), libc::EINVAL);
    requests[0].aio_key = 1;
    assert_eq!(cancel(&context, &mut requests[0]), libc::EINVAL);
    requests[0].aio_key = 0;
    assert_eq!(cancel(&context, &mut requests[0]), libc::EINPROGRESS);
    context.reap(1);
}

#[test]
fn an_unreadable_request_is_efault() {
    let context = Context::new(1);
    assert_eq!(cancel(&context, ptr::null_mut()), libc::EFAULT);
    assert_eq!(
        cancel(&context, KERNEL_HALF.cast::<iocb>().cast_mut()),
        libc::EFAULT
    );
}

#[test]
fn a_read_cannot_be_cancelled() {
    let file = null();
    let mut requests = [bare(IOCB_CMD_PREAD, &file)];
    let context = Context::new(1);
    context.submit(&mut requests).expect("io_submit");
    assert_eq!(cancel(&context, &mut requests[0]), libc::EINVAL);
    context.reap(1);
}
