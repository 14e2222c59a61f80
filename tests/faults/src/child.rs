//! Running part of a test in a process of its own: for limits, filters and signals that cannot be undone.
//!
//! The child is not a fork of the test process, which has many threads, but the same test binary started
//! again and told by an environment variable which test it is and that it is the child.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::watchdog::{PATIENCE, Watchdog};

const WHO: &str = "KIOCB_FAULTS_CHILD";
/// What a child prints before its body, so that a misspelt test name cannot pass for a success.
const STARTED: &str = "kiocb-faults: child started: ";

/// True in a child made by [`Child::run`]. The irrevocable injectors refuse to work anywhere else.
pub fn inside() -> bool {
    std::env::var_os(WHO).is_some()
}

/// Runs `body` in a child process and waits for it; `test` is the full name of the calling test. See
/// [`Child`].
pub fn in_child(test: &str, body: impl FnOnce()) -> Exit {
    Child::of(test).run(body)
}

/// A child process to be: which test it belongs to and what it gets in its environment.
#[derive(Debug)]
pub struct Child {
    test: String,
    label: String,
    environment: Vec<(String, String)>,
    runner: Vec<String>,
}

impl Child {
    /// A child of the test with this full name (`module::function`, as `cargo test` prints it).
    pub fn of(test: &str) -> Child {
        Child {
            test: test.to_owned(),
            label: test.to_owned(),
            environment: Vec::new(),
            runner: Vec::new(),
        }
    }

    /// Tells several children of one test apart.
    #[must_use]
    pub fn case(mut self, case: &str) -> Child {
        self.label = format!("{}#{case}", self.test);
        self
    }

    /// Sets an environment variable of the child.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Child {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets this program, with its arguments, run the child: its words come before the child's own.
    #[must_use]
    pub fn under(mut self, runner: &[&str]) -> Child {
        self.runner = runner.iter().map(ToString::to_string).collect();
        self
    }

    /// In the test: starts the child, waits for its end and tells it. In the child: runs `body` and exits,
    /// with 0, or with 101 if it panicked; `std::process::exit` in `body` gives any other code. What the
    /// test does before this call is done in both processes; what it does afterwards, in the parent only
    /// (and, where a test has several children, on the way to the later ones).
    ///
    /// A child that takes longer than twice the lab's patience is killed.
    ///
    /// # Panics
    /// When the child did not come to its body, above all because `test` is not the test's name.
    pub fn run(self, body: impl FnOnce()) -> Exit {
        self.run_by(body, |mut command| {
            let mut child = command.spawn()?;
            let _watchdog = kill_late(child.id());
            child.wait()
        })
    }

    /// As [`Child::run`], with the parent's way of starting the child and waiting for its end.
    pub(crate) fn run_by(
        self,
        body: impl FnOnce(),
        wait: impl FnOnce(Command) -> io::Result<ExitStatus>,
    ) -> Exit {
        if std::env::var_os(WHO).is_some_and(|who| who == *self.label) {
            self.live(body);
        }
        if inside() {
            return Exit {
                label: self.label,
                end: None,
            };
        }
        self.watch(wait)
    }

    /// The child's part.
    fn live(&self, body: impl FnOnce()) -> ! {
        println!("{STARTED}{}", self.label);
        // A panic goes on unwinding into the test harness, which exits with 101.
        body();
        std::process::exit(0)
    }

    /// The parent's part.
    fn watch(self, wait: impl FnOnce(Command) -> io::Result<ExitStatus>) -> Exit {
        let mut file = tempfile::tempfile().expect("a file for the child's output");
        let status = wait(self.command(&file)).expect("starting the child");
        file.rewind().expect("rewinding the child's output");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .expect("reading the child's output");
        let output = String::from_utf8_lossy(&bytes).into_owned();
        let exit = Exit {
            label: self.label,
            end: Some((status, output)),
        };
        exit.said(&format!("{STARTED}{}\n", exit.label));
        exit.repeat_skips();
        exit
    }

    fn command(&self, output: &File) -> Command {
        let stream = || Stdio::from(output.try_clone().expect("duplicating a descriptor"));
        let program = std::env::current_exe().expect("the test binary's path");
        let mut words = self
            .runner
            .iter()
            .map(OsStr::new)
            .chain([program.as_os_str()]);
        let mut command = Command::new(words.next().expect("the program"));
        command.args(words);
        command.args([&self.test, "--exact", "--nocapture", "--include-ignored"]);
        command
            .env(WHO, &self.label)
            .envs(self.environment.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(stream())
            .stderr(stream());
        command
    }
}

/// Kills the child when it takes too long.
pub(crate) fn kill_late(child: u32) -> Watchdog {
    let child = Pid::from_raw(child.cast_signed());
    Watchdog::with(PATIENCE * 2, move || {
        let _ = kill(child, Signal::SIGKILL);
    })
}

/// How a child ended. In another child of the same test, on its way to its own body, there is nothing to
/// tell, and every check passes.
#[derive(Debug)]
pub struct Exit {
    label: String,
    end: Option<(ExitStatus, String)>,
}

impl Exit {
    /// Fails the test, showing the child's output, unless the child exited with 0.
    #[track_caller]
    pub fn success(&self) {
        self.exited(0);
    }

    /// Fails the test unless the child exited with this code; 101 is that of a panic.
    #[track_caller]
    pub fn exited(&self, code: i32) {
        self.check(&format!("exit code {code}"), |status, _| {
            status.code() == Some(code)
        });
    }

    /// Fails the test unless this signal killed the child.
    #[track_caller]
    pub fn killed_by(&self, signal: i32) {
        self.check(&format!("death by signal {signal}"), |status, _| {
            status.signal() == Some(signal)
        });
    }

    /// Fails the test unless this text is in what the child wrote to standard output and standard error.
    #[track_caller]
    pub fn said(&self, text: &str) {
        self.check(&format!("output {text:?}"), |_, output| {
            output.contains(text)
        });
    }

    #[track_caller]
    fn check(&self, wanted: &str, is_so: impl Fn(ExitStatus, &str) -> bool) {
        if let Some((status, output)) = &self.end {
            assert!(
                is_so(*status, output),
                "child {}: wanted {wanted}, got {status}\n{output}",
                self.label
            );
        }
    }

    /// A skip in the child is one of the test.
    fn repeat_skips(&self) {
        let output = self.end.as_ref().map_or("", |(_, output)| output);
        for line in output.lines().filter(|line| line.starts_with("skipped: ")) {
            let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
        }
    }
}
