//! The machine's quota of AIO requests, `fs.aio-max-nr`, used up. A test of its own: for a moment nobody else
//! can make a context.

mod kit;

use std::fs::read_to_string;
use std::io;
use std::sync::Arc;

use kiocb::op::Read;
use kiocb::{Aio, Iocb, SetupError};
use kiocb_faults::raw::Driver;
use kiocb_faults::{in_child, need_root};
use kit::*;

fn sysctl(name: &str) -> u64 {
    read_to_string(format!("/proc/sys/fs/{name}"))
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Takes the quota but for exactly `left` requests. Others on the machine may make contexts or end them
/// meanwhile: then again.
fn hold_all_but(left: u64) -> Vec<Driver> {
    let mut held = Vec::new();
    wait_until("the quota is as wanted", || {
        held.clear();
        let free = sysctl("aio-max-nr") - sysctl("aio-nr");
        let mut wanted = free.saturating_sub(left);
        while wanted > 0 {
            let Ok(driver) = Driver::new(wanted.min(65_536) as u32) else {
                return false;
            };
            held.push(driver);
            wanted -= wanted.min(65_536);
        }
        sysctl("aio-nr") + left == sysctl("aio-max-nr")
    });
    held
}

#[test]
fn a_used_up_quota_halves_the_depth_and_at_last_is_an_error_with_numbers() {
    need_root!(); // aio-max-nr may be used up by others, whom only root can hold back
    let test = "a_used_up_quota_halves_the_depth_and_at_last_is_an_error_with_numbers";
    in_child(test, || {
        listen_to_log();
        let before = sysctl("aio-nr");
        let file = Arc::new(tempfile::tempfile().unwrap());

        // 128 and one for the wake-up, 64 and one, 32 and one.
        let held = hold_all_but(40);
        let aio = Aio::builder().depth(128).build().unwrap();
        let exact = |depth| Aio::builder().depth(depth).exact_depth(true).build();
        drop(aio);
        assert_eq!(exact(39).unwrap().stats().depth, 39);
        let refused = exact(128).unwrap_err();
        let refused = refused.get_ref().and_then(|inner| inner.downcast_ref());
        let is_exact = matches!(refused, Some(SetupError::QuotaExhausted { asked: 128, .. }));
        assert!(is_exact, "{refused:?}");
        // Of two shards one would fit: none is left.
        let both = Aio::builder().depth(30).shards(2).exact_depth(true).build();
        assert!(both.is_err());
        assert_eq!(exact(39).unwrap().stats().depth, 39);

        let aio = Aio::builder().depth(128).build().unwrap();
        drop(held);
        assert_eq!(aio.stats().depth, 32);
        wait_for_log(
            "WARN: kiocb: fs.aio-max-nr is nearly used up: 32 requests in flight instead of 128",
        );
        wait_for_log("asked for 128 requests in flight, got 32");
        for block in 0..100 {
            assert_eq!(read(&aio, &file, block).wait().unwrap().result.unwrap(), 0);
        }
        drop(aio);

        // One, and one for the wake-up.
        let held = hold_all_but(2);
        let aio = Aio::builder().depth(100).build().unwrap();
        drop(held);
        assert_eq!(aio.stats().depth, 1);
        drop(aio);

        let held = hold_all_but(1);
        let refused = Iocb::alloc()
            .init_rw(Arc::clone(&file), Read, vec![0; 1], 0)
            .wait()
            .unwrap_err();
        let (error, request) = refused.into_parts();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        let inner = error.get_ref().unwrap().downcast_ref().unwrap();
        let max = sysctl("aio-max-nr");
        let SetupError::QuotaExhausted {
            asked: 128,
            in_use: Some(in_use),
            max: Some(said),
            ..
        } = inner
        else {
            panic!("{inner:?}");
        };
        assert_eq!((*said, *in_use), (max, max - 1));
        assert!(
            error
                .to_string()
                .contains(&format!("{max} and {} are in use", max - 1)),
            "{error}"
        );
        drop(held);
        // And when there is room again the same request goes through.
        assert_eq!(request.wait().unwrap().result.unwrap(), 0);

        let own = sysctl("aio-nr");
        let aio = Aio::builder().depth(1000).build().unwrap();
        assert!(sysctl("aio-nr") > own || own > before + 128);
        drop(aio);
        wait_until("the quota is back", || sysctl("aio-nr") <= before + 129); // the process-wide one stays
    })
    .success();
}
