//! Tasks that keep processors busy, each a process of its own, so that its time is not counted as an engine's.

use std::env;
use std::hint::spin_loop;
use std::io::{Read, stdin};
use std::process::{Child, Command, Stdio, exit};
use std::thread;

/// Ended when dropped; and when this process ends in any other way, because their standard input ends.
pub(crate) struct Busy(Vec<Child>);

impl Busy {
    /// As many as can be had.
    pub(crate) fn start(count: usize) -> Busy {
        let task = |_| {
            let mut command = Command::new(env::current_exe().ok()?);
            command.arg("busy").stdin(Stdio::piped()).spawn().ok()
        };
        Busy((0..count).map_while(task).collect())
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
