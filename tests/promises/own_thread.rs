//! User code that runs on a thread of the program's own, in the middle of a call: destructors, barriers and
//! loggers. It is told what it would be told on the completion thread, and may do the same.

use crate::common::modes::{in_a_child, in_both_modes};
use crate::common::*;
use crate::hostile::*;
use crate::logger;
use crate::seccomp;
use kiocb::buf::IoBuf;
use kiocb::op::Read;
use kiocb::{Aio, Dispatch, SyncGroup, SyncKind};
use nix::sys::resource::Resource;
use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

fn manual(depth: u32) -> Aio {
    build(
        Aio::builder()
            .dispatch(Dispatch::Manual)
            .depth(depth)
            .shards(1),
    )
}

/// What it hears when it waits for `aio`, in the middle of something.
fn tell_of_drain(aio: &Aio) -> (Deed, std::sync::mpsc::Receiver<bool>) {
    let (aio, (tell, heard)) = (aio.clone(), channel());
    let deed = once(move || tell.send(would_deadlock(&aio.drain())).unwrap());
    (deed, heard)
}

#[test]
fn a_commits_buffer_that_its_handle_drops_may_not_wait() {
    in_both_modes(|| {
        let aio = build(Aio::builder());
        let group = SyncGroup::new(&aio, scratch());
        let (deed, heard) = tell_of_drain(&aio);
        let buf = DeedBuf::new(At::Dropped, deed);
        assert_eq!(buf.buf_len(), 64);
        let commit = group.commit(buf, 0);
        until(|| commit.is_complete());
        drop(commit);
        assert_eq!(heard.recv(), Ok(true));
    });
}

#[test]
fn a_barrier_called_by_a_write_may_not_wait_for_the_next_one() {
    in_both_modes(|| {
        let aio = build(Aio::builder());
        let group = SyncGroup::new(&aio, scratch());
        let write = group.track();
        let next = Arc::new(Mutex::new(None::<kiocb::PendingSync<_>>));
        let (inside, (tell, heard)) = (next.clone(), channel());
        let wait_for_next = move |_| {
            let next = inside.lock().unwrap().take().unwrap();
            tell.send(would_deadlock(&next.wait())).unwrap();
        };
        group.barrier(SyncKind::Data, wait_for_next).unwrap();
        *next.lock().unwrap() = Some(group.sync(SyncKind::Data));
        write.end(&Err::<(), _>(io::Error::from_raw_os_error(libc::EIO)));
        assert_eq!(heard.recv(), Ok(true));
    });
}

/// The logger is called in the middle of `start`, and both processes come back from it.
#[test]
fn a_fork_in_the_logger_of_a_submission_leaves_both_processes_whole() {
    in_both_modes(|| {
        let aio = manual(1);
        let blocker = readable(&aio);
        let child = Arc::new(Mutex::new(None));
        let forked = child.clone();
        let fork_once = once(move || {
            // SAFETY: the child goes on in this test, and ends by `_exit`.
            *forked.lock().unwrap() = Some(unsafe { libc::fork() });
        });
        logger::on("waits for readiness", move || fork_once());
        let next = readable(&aio);
        let child = child.lock().unwrap().take().expect("it was logged");
        if child == 0 {
            let result = next.pending.wait().result;
            let code = i32::from(result.is_ok());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) };
        }
        poke(&blocker.writer);
        poke(&next.writer);
        blocker.pending.wait().result.unwrap();
        next.pending.wait().result.unwrap();
        let mut status = 0;
        // SAFETY: the child of above, and a status on this stack.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0, "the child hears Forked, and ends");
    });
}

#[test]
fn a_wakers_destructor_may_wait_for_a_thread_that_follows() {
    in_both_modes(|| {
        let aio = manual(8);
        let [leader, mut second, third] = [(), (), ()].map(|()| readable(&aio));
        let over = Latch::default();
        let until_over = over.clone();
        let slow_to_go = waker_with_drop(once(move || until_over.wait()));
        leave(&mut second.pending, &slow_to_go);
        drop(slow_to_go);
        let leading = named("leader", move || leader.pending.wait().result.unwrap());
        until_leading("leader");
        let second_waits = named("second", move || second.pending.wait().result.unwrap());
        // The second thread is in its waker's destructor now, and not yet asleep for its request.
        thread::sleep(Duration::from_millis(20));
        let third_waits = named("third", move || {
            third.pending.wait().result.unwrap();
            over.open();
        });
        until_asleep("third");
        poke(&leader.writer);
        leading.join().unwrap();
        poke(&third.writer);
        third_waits.join().unwrap();
        poke(&second.writer);
        second_waits.join().unwrap();
    });
}

/// A file of `/proc` knows no NOWAIT: `io_submit` refuses the request, which is then the helper thread's.
#[test]
fn a_logger_may_wait_for_what_is_queued_where_no_helper_can_start() {
    in_a_child(|| {
        let aio = manual(1);
        let blocker = readable(&aio);
        let file = std::fs::File::open("/proc/version").unwrap();
        let read = aio.alloc().init_rw(file, Read, vec![0; 64], 0);
        let first = read.nowait_or_offload().start().unwrap();
        let behind = Arc::new(Mutex::new(Some(nothing(&aio).start().unwrap())));
        let (tell, heard) = channel();
        logger::on("no helper thread", move || {
            let behind = behind.lock().unwrap().take();
            if let Some(behind) = behind {
                tell.send(behind.wait().result.is_ok()).unwrap();
            }
        });
        poke(&blocker.writer);
        let before = limit(Resource::RLIMIT_AS, 1 << 20); // less than there is: no thread gets a stack
        let ended = first.wait();
        limit(Resource::RLIMIT_AS, before);
        assert!(ended.result.unwrap() > 0);
        assert_eq!(heard.try_recv(), Ok(true), "it was logged");
        blocker.pending.wait().result.unwrap();
    });
}

#[test]
fn a_logger_may_use_the_global_context_that_is_being_made() {
    in_a_child(|| {
        seccomp::refuse(libc::SYS_madvise, libc::EPERM);
        let (tell, heard) = channel();
        let tell = Mutex::new(tell);
        logger::on("MADV_DONTFORK", move || {
            let read = Aio::global()
                .unwrap()
                .alloc()
                .init_rw(null(), Read, Vec::new(), 0);
            let done = read.wait().unwrap();
            tell.lock().unwrap().send(done.result.unwrap()).unwrap();
        });
        Aio::global().unwrap().drain().unwrap();
        assert_eq!(heard.try_recv(), Ok(0));
    });
}
