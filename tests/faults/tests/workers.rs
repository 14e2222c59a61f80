//! The kernel's workers: a pool for each processor, which carries out the syncs and the ends of cancelled polls of
//! the whole machine. A test of its own: for a moment no other process gets one there.

mod kit;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use kiocb::op::Write;
use kiocb::{Aio, AlignedBuf, PollFlags, RwFlags};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Mount, Op, SlowFs, Watchdog, in_child, need, need_root, skip};
use kit::*;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// More than the works of one processor that the kernel has under way at once: 1024 since Linux 6.13, before 256.
const MANY: usize = 1100;
/// In vain.
const MOMENT: Duration = Duration::from_millis(200);

/// This thread runs on that processor from now on.
fn move_to(processor: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Syncs of a file whose server does not answer: the first has the file's lock, and the others wait for it, each
/// with a worker of the processor on which it was submitted.
fn block_workers(aio: &Aio, file: &Arc<File>, done: &Counter) {
    for _ in 0..MANY {
        let done = done.clone();
        let count = move |_| {
            done.add();
        };
        let sync = aio.alloc().init_fsync(Arc::clone(file));
        sync.init_callback(count).submit().unwrap();
    }
}

fn write_durably(aio: &Aio, file: &Arc<File>) {
    let buf = AlignedBuf::from(&[5; BLOCK]);
    let write = aio.alloc().init_rw(Arc::clone(file), Write, buf, 0);
    let done = write.rw_flags(RwFlags::DSYNC).wait().unwrap();
    assert_eq!(done.result.unwrap(), BLOCK);
}

/// What is held up has nothing in common with the slow file but the processor.
fn hold_up() {
    let _watchdog = Watchdog::new("blocked workers");
    if move_to(1).is_err() {
        skip!("one processor");
    }
    let fs = need!(SlowFs::new());
    let slow = Arc::new(fs.file("f", blocks(1)));
    let gate = fs.on(Op::Sync).hold();
    let mount = need!(Mount::tmpfs(1 << 20));
    let ours = Arc::new(mount.file("f", BLOCK, 0).unwrap());
    let (others, done) = (aio(MANY as u32), Counter::default());
    let aio = aio(4);
    aio.observe(1);
    let (reader, _writer) = std::io::pipe().unwrap();

    move_to(0).unwrap();
    block_workers(&others, &slow, &done);
    let sync = aio.alloc().init_fsync(Arc::clone(&ours)).start().unwrap();
    let poll = aio.alloc().init_poll(reader, PollFlags::IN);
    let poll = poll.start().unwrap();
    assert!(poll.cancel());
    write_durably(&aio, &ours); // needs no worker
    move_to(1).unwrap();
    aio.fsync(&ours).unwrap(); // there are some here

    let sync = sync.wait_timeout(MOMENT).expect_err("there is no worker");
    let poll = poll.wait_timeout(MOMENT).expect_err("nor for this");
    let dump = aio.dump().unwrap().to_string();
    assert!(dump.contains(": fsync fd "), "{dump}");
    gate.release();
    sync.wait().result.unwrap();
    assert!(poll.wait().result.is_err());
    others.drain().unwrap();
    assert_eq!(done.get(), MANY);
}

#[test]
fn blocked_syncs_hold_up_other_syncs_and_cancelled_polls() {
    need_root!();
    let test = "blocked_syncs_hold_up_other_syncs_and_cancelled_polls";
    in_child(test, hold_up).success();
}
