//! `io_getevents` and `io_pgetevents`: waiting, timeouts, signals, and buffers that can't be written.

use super::*;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

#[test]
fn more_than_fits_is_einval() {
    let context = Context::new(1);
    assert_eq!(errno(context.events(2, 1, None)), libc::EINVAL);
    // SAFETY: the counts are refused before the buffer is looked at.
    let negative = unsafe { io_getevents(context.0, 0, usize::MAX, ptr::null_mut(), None) };
    assert_eq!(errno(negative), libc::EINVAL);
}

#[test]
fn no_events_need_no_buffer() {
    let context = Context::new(1);
    // SAFETY: room for no event is enough.
    let none = unsafe { io_getevents(context.0, 0, 0, ptr::null_mut(), None) };
    assert_eq!(none.expect("io_getevents"), 0);
}

#[test]
fn a_timeout_ends_the_wait_with_what_is_there() {
    let context = Context::new(2);
    let short = Some(Duration::from_millis(1));
    assert_eq!(context.events(1, 1, short).expect("io_getevents").len(), 0);
    context
        .submit(&mut [bare(IOCB_CMD_PREAD, &null())])
        .expect("io_submit");
    assert_eq!(context.events(2, 2, short).expect("io_getevents").len(), 1);
}

/// A timeout that wraps round to a negative one waits for ever too, but one that is cut off or
/// refused ends at once: the wait must outlive the start of the thread that ends it.
#[test]
fn the_longest_timeout_is_a_wait() {
    let (reader, mut writer) = pipe(0);
    let context = Context::new(1);
    context
        .submit(&mut [poll(&reader, POLLIN)])
        .expect("io_submit");
    let events = thread::scope(|scope| {
        scope.spawn(|| writer.write_all(b"!").expect("written"));
        context.events(1, 1, Some(Duration::MAX))
    });
    assert_eq!(events.expect("io_getevents").len(), 1);
}

#[test]
fn a_wait_for_several_events_gets_them_all() {
    let (reader, mut writer) = pipe(0);
    let context = Context::new(3);
    let file = null();
    let mut requests = [
        bare(IOCB_CMD_PREAD, &file),
        poll(&reader, POLLIN),
        bare(IOCB_CMD_PREAD, &file),
    ];
    context.submit(&mut requests).expect("io_submit");
    thread::scope(|scope| {
        scope.spawn(|| writer.write_all(b"!").expect("written"));
        assert_eq!(context.reap(3).len(), 3);
    });
}

/// The pure wait of which the engine is made: it ends when an event is there, and takes nothing.
#[test]
fn an_unwritable_buffer_waits_and_takes_nothing() {
    let (reader, mut writer) = pipe(0);
    let context = Context::new(1);
    context
        .submit(&mut [poll(&reader, POLLIN)])
        .expect("io_submit");
    let nowhere = KERNEL_HALF.cast::<io_event>().cast_mut();
    let wait = |timeout| {
        // SAFETY: the buffer can't be written, which is allowed.
        unsafe { io_getevents(context.0, 1, 1, nowhere, timeout) }
    };
    assert_eq!(
        wait(Some(Duration::from_millis(1))).expect("nothing to copy"),
        0
    );
    thread::scope(|scope| {
        scope.spawn(|| writer.write_all(b"!").expect("written"));
        assert_eq!(errno(wait(None)), libc::EFAULT);
    });
    assert_eq!(errno(wait(None)), libc::EFAULT, "the event is still there");
    assert!(readable(context.reap(1)[0]));
}

#[test]
fn a_signal_ends_the_wait_with_eintr_although_it_restarts() {
    install_handler();
    let context = Context::new(1);
    let done = AtomicBool::new(false);
    let (tell, waiter) = mpsc::channel();
    let result = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            // SAFETY: has no conditions.
            tell.send(unsafe { libc::pthread_self() })
                .expect("somebody listens");
            let result = context.events(1, 1, None);
            done.store(true, Ordering::Release);
            result
        });
        let waiter = waiter.recv().expect("the thread tells");
        // It may not be asleep yet when a signal comes, so they come until one has worked.
        while !done.load(Ordering::Acquire) {
            // SAFETY: the thread has not been joined.
            unsafe { libc::pthread_kill(waiter, libc::SIGUSR1) };
            thread::yield_now();
        }
        waiting.join().expect("no panic")
    });
    assert_eq!(errno(result), libc::EINTR);
}

/// The signal is sent to this thread, and held until the kernel lets it through for the wait.
#[test]
fn a_signal_mask_holds_during_the_wait_only() {
    install_handler();
    let context = Context::new(1);
    set_blocked(SigmaskHow::SIG_BLOCK);
    // SAFETY: has no conditions.
    let this_thread = unsafe { libc::pthread_self() };
    // SAFETY: this thread is alive.
    unsafe { libc::pthread_kill(this_thread, libc::SIGUSR1) };
    let wait = |mask: Option<&u64>| {
        let mut event = io_event::default();
        let now = Some(Duration::ZERO);
        // SAFETY: room for one event.
        unsafe { io_pgetevents(context.0, 1, 1, &mut event, now, mask) }
    };
    let usr1 = 1 << (libc::SIGUSR1 - 1);
    assert_eq!(wait(None).expect("the thread's own mask holds it"), 0);
    assert_eq!(wait(Some(&usr1)).expect("this mask holds it"), 0);
    assert_eq!(errno(wait(Some(&0))), libc::EINTR);
    assert_eq!(wait(Some(&0)).expect("it has been delivered"), 0);
    set_blocked(SigmaskHow::SIG_UNBLOCK);
}

#[test]
fn the_masked_wait_reaps_as_the_plain_one() {
    let context = Context::new(1);
    context
        .submit(&mut [bare(IOCB_CMD_PREAD, &null())])
        .expect("io_submit");
    let mut event = io_event {
        res: 1,
        ..io_event::default()
    };
    // SAFETY: room for one event.
    let got = unsafe { io_pgetevents(context.0, 1, 1, &mut event, None, Some(&u64::MAX)) };
    assert_eq!(got.expect("io_pgetevents"), 1);
    assert_eq!(event.res, 0);
}

extern "C" fn do_nothing(_: i32) {}

/// A handler that restarts what it interrupts, where the kernel is willing.
fn install_handler() {
    let handler = SigHandler::Handler(do_nothing);
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing, so it may run anywhere.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("sigaction");
}

/// Blocks or unblocks `SIGUSR1` in this thread.
fn set_blocked(how: SigmaskHow) {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    set.thread_swap_mask(how).expect("pthread_sigmask");
}
