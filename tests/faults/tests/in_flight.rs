//! What becomes of requests in flight when their file, its file system, or the process goes.

mod kit;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kiocb::{Aio, AlignedBuf, Dispatch};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{
    Child, LoopDevice, Op, SlowFs, Watchdog, inside, need, need_root, wait_until_asleep_in,
};
use kit::*;

const PATH: &str = "KIOCB_TEST_FILE";

/// Ends the process or makes it another one; returns only if that failed.
type Go = fn() -> io::Error;

/// The ends of a process, by name. The third is not its own.
const ENDS: [(&str, Go); 4] = [
    ("exit", || std::process::exit(0)),
    ("exec", || Command::new("true").exec()),
    ("SIGKILL", || {
        nix::sys::signal::raise(nix::sys::signal::SIGKILL)
            .unwrap_err()
            .into()
    }),
    ("abort", || std::process::abort()),
];

/// Long enough for a process to be on its way out, as a rule; nothing fails if it is not. To look is not possible: who
/// reads /proc of a process that ends may be the last to let go of its memory, and waits for these very requests then.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// Sends writes to blocks 0 to 3 of the file that the test named, and goes.
fn write_and_go(dispatch: Dispatch, go: Go) {
    let path = std::env::var_os(PATH).expect("a path");
    let mut options = File::options();
    let file = options.read(true).write(true).open(path).expect("opened");
    let file = Arc::new(file);
    let aio = Aio::builder().depth(4).dispatch(dispatch).build().unwrap();
    for block in 0..4 {
        let request = write(&aio, &file, block, 9);
        request.init_callback(|_| ()).submit().unwrap();
    }
    panic!("it is still here: {}", go());
}

#[test]
fn a_process_that_goes_has_written_what_was_in_flight() {
    need_root!();
    const TEST: &str = "a_process_that_goes_has_written_what_was_in_flight";
    let _watchdog = Watchdog::new("a process goes");
    for (way, go) in ENDS {
        for dispatch in [Dispatch::Thread, Dispatch::Manual] {
            let child = Child::of(TEST).case(&format!("{way}, {dispatch:?}"));
            if inside() {
                let _ = child.run(|| write_and_go(dispatch, go));
                continue;
            }
            let fs = need!(SlowFs::new());
            drop(fs.file("f", blocks(4)));
            let gate = fs.hold_writes(0..u64::MAX);
            let path = fs.path().join("f");
            let exit = std::thread::scope(|scope| {
                scope.spawn(move || {
                    gate.wait_for(4);
                    std::thread::sleep(ON_ITS_WAY);
                    gate.release();
                });
                child
                    .env(PATH, path.to_str().expect("UTF-8"))
                    .run(|| unreachable!())
            });
            match way {
                "SIGKILL" => exit.killed_by(libc::SIGKILL),
                "abort" => exit.killed_by(libc::SIGABRT),
                _ => exit.success(),
            }
            assert!(fs.contents("f").iter().all(|&byte| byte == 9), "{way}");
        }
    }
}

/// Both halves of a page: a read into the one is in flight while the process forks and then writes the other.
fn read_across_a_fork(file: &File, held: &kiocb_faults::Gate) -> (Vec<u8>, Vec<u8>) {
    let aio = aio(4);
    let mut page = AlignedBuf::zeroed(BLOCK);
    let (first, second) = page.split_at_mut(BLOCK / 2);
    let (mut bell, ring) = io::pipe().unwrap();
    aio.scope(|s| {
        let read = s.read_at(file, first, 0);
        s.submit();
        held.wait_for(1);
        // SAFETY: the child makes system calls only.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above; the other end closes it in the parent's time, or with the parent.
            unsafe {
                libc::close(std::os::fd::AsRawFd::as_raw_fd(&ring));
                libc::read(
                    std::os::fd::AsRawFd::as_raw_fd(&bell),
                    [0_u8].as_mut_ptr().cast(),
                    1,
                );
                libc::_exit(0);
            }
        }
        second.fill(7);
        held.let_through(0);
        assert_eq!(read.wait().unwrap(), BLOCK / 2);
        drop(ring);
        // SAFETY: a child of ours.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    });
    assert_eq!(bell.read(&mut [0]).unwrap(), 0);
    (page[..BLOCK / 2].to_vec(), page[BLOCK / 2..].to_vec())
}

/// A kernel that shares the page with the child writes to the old one, and the parent has a copy.
#[test]
fn a_read_in_flight_across_a_fork_arrives_in_the_parent() {
    need_root!();
    let _watchdog = Watchdog::new("a fork");
    let fs = need!(SlowFs::new());
    let file = fs.file("f", blocks(64));
    let device = need!(LoopDevice::with_block_size(&file, 512));
    let gate = fs.hold_reads(0..B);
    for file in [&file, &device.open(libc::O_DIRECT).unwrap()] {
        let (first, second) = read_across_a_fork(file, &gate);
        assert_eq!(first, [1; BLOCK / 2]);
        assert_eq!(second, [7; BLOCK / 2]);
    }
}

#[test]
fn an_unmounted_file_system_stays_until_the_last_answer() {
    need_root!();
    let _watchdog = Watchdog::new("unmounting");
    let (fs, mount, file) = need!(ext4_on_a_slow_disk());
    let aio = aio(4);
    assert_eq!(
        write(&aio, &file, 1, 5).wait().unwrap().result.unwrap(),
        BLOCK
    );
    let gate = fs.on(Op::Read).hold();
    let pending = read(&aio, &file, 1).start().unwrap();
    gate.wait_for(1);
    drop((mount, file));
    gate.release();
    let done = pending.wait();
    assert_eq!(done.result.unwrap(), BLOCK);
    assert!(done.buf.iter().all(|&byte| byte == 5));
    // It was the last that had the file, and so the file system.
    let before = fs.seen().len();
    drop(done.file);
    wait_until("it is unmounted", || fs.seen().len() > before);
}

#[test]
fn a_file_that_loses_name_and_length_in_flight_answers_in_full() {
    need_root!();
    let _watchdog = Watchdog::new("truncating");
    let (fs, mount, file) = need!(ext4_on_a_slow_disk());
    let aio = aio(4);
    assert_eq!(
        write(&aio, &file, 2, 5).wait().unwrap().result.unwrap(),
        BLOCK
    );
    let gate = fs.on(Op::Read).hold();
    let pending = read(&aio, &file, 2).start().unwrap();
    gate.wait_for(1);
    std::fs::remove_file(mount.path().join("f")).unwrap();
    // It waits for the reads in flight.
    let cut = Worker::start({
        let file = Arc::clone(&file);
        move || file.set_len(0)
    });
    wait_until_asleep_in(cut.thread, libc::SYS_ftruncate);
    gate.release();
    let done = pending.wait();
    assert_eq!(done.result.unwrap(), BLOCK);
    assert!(done.buf.iter().all(|&byte| byte == 5));
    cut.join().unwrap();
    assert_eq!(read(&aio, &file, 2).wait().unwrap().result.unwrap(), 0);
}
