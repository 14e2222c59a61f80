//! A sandbox that lets through exactly what README says kiocb needs.

mod kit;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, Dispatch, PollFlags, SignalMask};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Child, Filter};
use kit::*;

type Calls = &'static [(&'static str, libc::c_long)];

macro_rules! calls {
    ($($name:ident = $number:ident),* $(,)?) => { &[$((stringify!($name), libc::$number)),*] };
}

/// Without these there is no context.
const NEEDED: Calls = calls![
    io_setup = SYS_io_setup,
    io_submit = SYS_io_submit,
    io_getevents = SYS_io_getevents,
    io_destroy = SYS_io_destroy,
];

/// With these it is faster, or can do more.
const WANTED: Calls = calls![
    memfd_create = SYS_memfd_create,
    pread64 = SYS_pread64,
    pwrite64 = SYS_pwrite64,
    madvise = SYS_madvise,
    io_cancel = SYS_io_cancel,
];

/// `Aio::poll_with_mask` alone calls these. libc does not have the first number everywhere.
const MASKED: Calls = &[
    (
        "io_pgetevents",
        if cfg!(target_arch = "x86_64") {
            333
        } else {
            292
        },
    ),
    ("ppoll", libc::SYS_ppoll),
];

/// Those of any program of several threads.
const THREADS: Calls = calls![
    brk = SYS_brk,
    clone3 = SYS_clone3,
    close = SYS_close,
    exit = SYS_exit,
    exit_group = SYS_exit_group,
    futex = SYS_futex,
    getrandom = SYS_getrandom,
    gettid = SYS_gettid,
    mmap = SYS_mmap,
    mprotect = SYS_mprotect,
    mremap = SYS_mremap,
    munmap = SYS_munmap,
    prctl = SYS_prctl,
    rseq = SYS_rseq,
    rt_sigaction = SYS_rt_sigaction,
    rt_sigprocmask = SYS_rt_sigprocmask,
    sched_getaffinity = SYS_sched_getaffinity,
    sched_yield = SYS_sched_yield,
    set_robust_list = SYS_set_robust_list,
    sigaltstack = SYS_sigaltstack,
    write = SYS_write,
];

/// What `DirectFile` asks, beside opening the file, and what looks at a file before an exact or offloaded
/// transfer.
const FILES: Calls = calls![
    fcntl = SYS_fcntl,
    statx = SYS_statx,
    newfstatat = SYS_newfstatat
];

const README: &str = include_str!("../../../README.md");
const GUIDE: &str = include_str!("../../../docs/guide.md");

/// The files are there before the filter.
struct Files {
    file: Arc<std::fs::File>,
    pipe: (std::io::PipeReader, std::io::PipeWriter),
}

fn files() -> Files {
    let file = Arc::new(tempfile::tempfile().unwrap());
    Files {
        file,
        pipe: std::io::pipe().unwrap(),
    }
}

/// Transfers with callbacks and handles, an exact one, an offloaded one, and a wait for readiness that is
/// cancelled or, where it can't be, fires.
fn everything_works(dispatch: Dispatch, files: Files, can_cancel: bool) {
    let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
    for block in 0..20 {
        let done = write(&aio, &files.file, block, block as u8 + 1).wait();
        assert_eq!(done.unwrap().result.unwrap(), BLOCK);
    }
    let (done, completions) = channel();
    (0..20).for_each(|block| read_to(&aio, &files.file, block, &done));
    aio.drain().unwrap();
    receive_blocks(&completions, 20);
    let buf = AlignedBuf::from(&[1; BLOCK]);
    let whole = aio.alloc().init_rw(files.file.clone(), Write, buf, 0);
    assert_eq!(whole.write_all().wait().unwrap().result.unwrap(), BLOCK);
    let offloaded = aio.alloc().init_rw(files.file, Read, vec![0; 1], 0);
    let offloaded = offloaded.nowait_or_offload().wait().unwrap();
    assert_eq!(offloaded.result.unwrap(), 1);
    let (reader, writer) = files.pipe;
    let poll = aio.alloc().init_poll(OwnedFd::from(reader), PollFlags::IN);
    let poll = poll.start().unwrap();
    if can_cancel {
        assert!(poll.cancel());
    }
    drop(writer);
    let _ = poll.wait();
    aio.shutdown(Duration::from_secs(30)).unwrap();
}

/// Behind this filter everything works, in a child for each way of taking events.
#[track_caller]
fn sandboxed(test: &str, case: &str, filter: impl Fn() -> Filter, can_cancel: bool) {
    for dispatch in [Dispatch::Thread, Dispatch::Manual] {
        let exit = Child::of(test)
            .case(&format!("{case}, {dispatch:?}"))
            .run(|| {
                let files = files();
                filter().install();
                everything_works(dispatch, files, can_cancel);
            });
        exit.success();
    }
}

#[test]
fn the_calls_that_readme_lists_are_enough() {
    const TEST: &str = "the_calls_that_readme_lists_are_enough";
    let all = || Filter::only(&[NEEDED, WANTED, THREADS, FILES].concat());
    sandboxed(TEST, "all", all, true);
}

#[test]
fn a_poll_with_a_signal_mask_needs_two_calls_more() {
    const TEST: &str = "a_poll_with_a_signal_mask_needs_two_calls_more";
    let exit = Child::of(TEST).case("masked").run(|| {
        let builder = Aio::builder().dispatch(Dispatch::Manual);
        let (aio, pipe) = (builder.build().unwrap(), std::io::pipe().unwrap());
        Filter::only(&[NEEDED, WANTED, MASKED, THREADS, FILES].concat()).install();
        let poll = aio.alloc().init_poll(pipe.0, PollFlags::IN);
        let poll = poll.start().unwrap();
        let moment = Some(Duration::from_millis(1));
        let polled = aio.poll_with_mask(1, 9, moment, SignalMask::all());
        assert_eq!(polled.unwrap(), 0);
        assert!(poll.cancel());
        drop(poll);
        aio.shutdown(Duration::from_secs(30)).unwrap();
    });
    exit.success();
}

/// A sandbox that answers EPERM to what is only wanted.
#[test]
fn the_calls_that_are_only_wanted_may_be_refused() {
    const TEST: &str = "the_calls_that_are_only_wanted_may_be_refused";
    for (name, number) in WANTED {
        let without = || Filter::new().fail(*number, libc::EPERM);
        sandboxed(TEST, name, without, *name != "io_cancel");
    }
}

#[test]
fn readme_names_each_of_them() {
    let list = README.split("## In a sandbox").nth(1).expect("the section");
    let list = list.split("\n## ").next().unwrap();
    for (name, _) in [NEEDED, WANTED, MASKED, THREADS, FILES].concat() {
        assert!(list.contains(&format!("`{name}`")), "{name}");
    }
}

/// The part of Docker's profile that the guide shows.
#[test]
fn the_profile_in_the_guide_allows_what_is_needed_and_no_io_uring() {
    let profile = GUIDE.split("```json").nth(1).expect("the profile");
    let profile = profile.split("```").next().unwrap();
    for (name, _) in NEEDED {
        assert!(profile.contains(&format!("\"{name}\"")), "{name}");
    }
    assert!(!profile.contains("uring"));
}
