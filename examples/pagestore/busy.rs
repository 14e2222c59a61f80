//! Tasks that keep processors busy, each a process of its own, so that its time is not counted as an engine's.

use std::env;
use std::hint::spin_loop;
use std::io::{self, Read, stdin};
use std::process::{Child, Command, Stdio, exit};
use std::thread;

/// Ended when dropped; and when this process ends in any other way, because their standard input ends.
pub(crate) struct Busy(Vec<Child>);

impl Busy {
    /// All of them: the record says beside how many a cell was measured.
    pub(crate) fn start(count: usize) -> io::Result<Busy> {
        let mut busy = Busy(Vec::new());
        for _ in 0..count {
            let mut command = Command::new(env::current_exe()?);
            let task = command.arg("busy").stdin(Stdio::piped()).spawn()?;
            busy.0.push(task);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for task in &mut self.0 {
            let _ = task.kill();
            let _ = task.wait();
        }
    }
}

/// Until standard input ends.
pub(crate) fn spin() -> ! {
    thread::spawn(|| {
        let _ = stdin().read(&mut [0]);
        exit(0);
    });
    loop {
        spin_loop();
    }
}
