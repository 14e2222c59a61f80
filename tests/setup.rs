//! Making a context: what can be asked for, what is refused and why.
mod common;

use common::*;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AioBuilder, Dispatch, Iocb, SetupError};
use nix::sys::resource::Resource;
use std::io;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

fn refusal(builder: AioBuilder) -> (io::ErrorKind, SetupError) {
    let error = builder.build().unwrap_err();
    let kind = error.kind();
    let inner = error.into_inner().expect("not an errno but a reason");
    (kind, *inner.downcast().expect("a reason of ours"))
}

fn assert_works(aio: &Aio) {
    let request = aio.alloc().init_rw(null(), Write, [0; 4], 0);
    assert_eq!(request.wait().unwrap().result.unwrap(), 4);
}

#[test]
fn depths_that_make_no_sense_are_refused() {
    let _watchdog = watchdog();
    for depth in [0, 65_536, u32::MAX] {
        let (kind, reason) = refusal(Aio::builder().depth(depth));
        assert!(
            matches!(reason, SetupError::InvalidDepth(refused) if refused == depth),
            "{reason}"
        );
        assert_eq!(kind, io::ErrorKind::InvalidInput);
        assert!(reason.to_string().contains(&depth.to_string()));
    }
}

#[test]
fn numbers_of_shards_that_make_no_sense_are_refused() {
    let _watchdog = watchdog();
    for shards in [1 << 42, usize::MAX] {
        let (kind, reason) = refusal(Aio::builder().shards(shards));
        assert!(
            matches!(reason, SetupError::TooManyShards(refused) if refused == shards),
            "{reason}"
        );
        assert_eq!(kind, io::ErrorKind::InvalidInput);
        assert!(reason.to_string().contains(&shards.to_string()));
    }
}

#[test]
fn the_depth_is_what_was_asked_for() {
    let _watchdog = watchdog();
    assert_eq!(aio().stats().depth, 128);
    for depth in [1, 2, 100, 1000] {
        let aio = build(Aio::builder().depth(depth));
        assert_eq!(aio.stats().depth, u64::from(depth));
        assert_works(&aio);
    }
}

/// One request more than the depth is queued, whatever the depth: the kernel's ring would take more.
#[test]
fn no_more_requests_are_in_flight_than_the_depth() {
    let _watchdog = watchdog();
    for depth in [1, 5, 127, 128, 300] {
        let aio = build(Aio::builder().depth(depth).dispatch(Dispatch::Manual));
        for _ in 0..depth + 3 {
            let request = aio.alloc().init_rw(null(), Read, Vec::new(), 0);
            request.init_callback(drop).submit().unwrap();
        }
        let stats = aio.stats();
        assert_eq!((stats.in_flight, stats.queued), (depth.into(), 3));
    }
}

#[test]
fn too_little_address_space_says_no_memory() {
    alone("too_little_address_space_says_no_memory", || {
        let before = build(Aio::builder().depth(1));
        assert_works(&before);
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        // A megabyte more than there is: the ring of so large a depth takes more.
        limit(Resource::RLIMIT_AS, pages * 4096 + (1 << 20));
        let (kind, reason) = refusal(Aio::builder().depth(40_000).dispatch(Dispatch::Manual));
        match reason {
            SetupError::NoMemory => assert_eq!(kind, io::ErrorKind::OutOfMemory),
            // Somebody else has so much of the machine's quota that a smaller ring fitted, or none.
            other => panic!("{other}"),
        }
        assert_works(&before);
    });
}

#[test]
fn no_descriptor_left_is_an_error_and_no_leak() {
    alone("no_descriptor_left_is_an_error_and_no_leak", || {
        let contexts = count_contexts();
        let mut files = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
            if files.len() > 100_000 {
                return skip("this process may open any number of files");
            }
        }
        let error = Aio::builder().shards(3).build().unwrap_err();
        let reason = error.get_ref().unwrap().downcast_ref::<SetupError>();
        let Some(SetupError::Other { call, error }) = reason else {
            panic!("{error}");
        };
        assert_eq!(*call, "memfd_create");
        assert!(error.to_string().contains("Too many open files"), "{error}");
        // Enough for one shard, not for three: the first is taken down again.
        files.truncate(files.len() - 1);
        Aio::builder().shards(3).build().unwrap_err();
        files.clear();
        assert_eq!(count_contexts(), contexts);
        assert_works(&aio());
    });
}

#[test]
fn the_shared_context_is_made_once_however_many_ask() {
    alone("the_shared_context_is_made_once_however_many_ask", || {
        let (contexts, start) = (count_contexts(), Barrier::new(8));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let request = Iocb::alloc().init_rw(null(), Write, [0; 4], 0);
                    assert_eq!(request.wait().unwrap().result.unwrap(), 4);
                });
            }
        });
        assert_eq!(count_contexts(), contexts + 1);
        assert_eq!(Aio::global().unwrap().stats().accepted, 8);
    });
}

#[test]
fn a_request_that_is_made_makes_no_context() {
    alone("a_request_that_is_made_makes_no_context", || {
        let (contexts, threads) = (count_contexts(), count_threads());
        drop(Iocb::alloc().init_rw(null(), Write, [0; 4], 0));
        assert_eq!((count_contexts(), count_threads()), (contexts, threads));
    });
}

/// Where the shared context can't be made, the request comes back with the reason; and the next one tries
/// again.
#[test]
fn a_request_without_a_context_comes_back_with_the_reason() {
    alone(
        "a_request_without_a_context_comes_back_with_the_reason",
        || {
            let (file, fates) = (null(), Fates::default());
            let before = limit(Resource::RLIMIT_NOFILE, 3);
            let request = Iocb::alloc().init_rw(file, Write, fates.buffer(vec![0; 4]), 0);
            let refused = request
                .init_callback(fates.callback())
                .submit()
                .unwrap_err();
            let reason = refused.error().get_ref().unwrap().downcast_ref();
            assert!(
                matches!(reason, Some(SetupError::Other { .. })),
                "{refused}"
            );
            assert_eq!(fates.seen(), [0; 4]);
            limit(Resource::RLIMIT_NOFILE, before);
            refused.into_request().submit().unwrap();
            Aio::global().unwrap().drain().unwrap();
            assert_eq!(fates.seen(), [0, 1, 1, 1]);
        },
    );
}

#[test]
fn the_thread_has_the_name_it_was_given_up_to_a_nul() {
    let _watchdog = watchdog();
    let long = "a name longer than the fifteen bytes that the kernel shows";
    for (given, seen) in [
        ("pages", "pages"),
        ("wal\0junk", "wal"),
        (long, long),
        ("", ""),
    ] {
        let aio = build(Aio::builder().thread_name(given));
        let (send, receive) = mpsc::channel();
        let request = aio.alloc().init_rw(null(), Read, Vec::new(), 0);
        let submitted = request.init_callback(move |_| {
            let name = thread::current().name().unwrap_or_default().to_owned();
            send.send(name).unwrap();
        });
        submitted.submit().unwrap();
        assert_eq!(receive.recv().unwrap(), seen);
    }
}

#[test]
fn handles_and_requests_may_go_to_other_threads() {
    let _watchdog = watchdog();
    fn assert_send_and_sync<T: Send + Sync>(_: &T) {}
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let aio = Arc::new(aio());
    assert_send_and_sync(&*aio);
    let request = assert_send(aio.alloc().init_rw(null(), Write, [0; 4], 0));
    let pending = thread::spawn(move || request.start().unwrap())
        .join()
        .unwrap();
    assert_send_and_sync(&pending);
    let done = thread::spawn(move || pending.wait()).join().unwrap();
    assert_eq!(done.result.unwrap(), 4);
}
