//! A file system that delays its answers, gives them in any order and, if told to, fails: for `.ci/soak`.
//!
//! `unsteady [--errors] [NAME=BYTES]...` prints the path of its root, with files of these names and lengths in it, and
//! serves them until its standard input ends.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use kiocb_faults::{Op, SlowFs};

#[path = "../../kit/random.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod random;

use random::Random;

/// Requests of a part of the offsets have the same fate for so long.
const MOMENT: Duration = Duration::from_millis(5);
/// No file here is longer, but for disks.
const LENGTH: usize = 4 << 20;
const ERRORS: [i32; 4] = [libc::EIO, libc::ENOSPC, libc::EINTR, libc::EAGAIN];

fn main() -> std::io::Result<()> {
    let fs = SlowFs::new()?;
    let mut errors = false;
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some((name, bytes)) => drop(fs.file(name, vec![0; bytes.parse().expect("a length")])),
            None => errors = argument == "--errors",
        }
    }
    println!("{}", fs.path().display());
    let (tell, end) = channel::<()>();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        drop(tell);
    });
    disturb(&fs, errors, &end, Random(7));
    Ok(())
}

/// Holds a part, and answers what is held in any order; then lets all pass for as long.
fn disturb(fs: &SlowFs, errors: bool, end: &Receiver<()>, mut dice: Random) {
    while end.recv_timeout(MOMENT) == Err(RecvTimeoutError::Timeout) {
        fs.forget_rules();
        fs.forget_seen();
        let from = dice.below(LENGTH) as u64;
        let range = from..from + dice.below(LENGTH) as u64;
        if errors {
            let some = fs.on_any().at(range.clone()).times(dice.below(20));
            some.fail(ERRORS[dice.below(ERRORS.len())]);
            fs.on(Op::Read)
                .at(range.clone())
                .times(dice.below(20))
                .short(512 * dice.below(8));
        }
        let gate = fs.on_any().at(range).hold();
        std::thread::sleep(MOMENT);
        for left in (1..=gate.held().len()).rev() {
            gate.let_through(dice.below(left));
        }
    }
}
