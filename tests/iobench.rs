//! What the example `iobench` promises: a disk is never filled, other people's files stay theirs, and what it
//! says can be acted on.
//!
//! The program is run as a user runs it. Where cargo runs the tests it is brought up to date first; elsewhere
//! it has to be there, beside them.

mod common;

use common::{skip, until, watchdog};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

const MIB: u64 = 1 << 20;
/// What a file system has, and what of it must never be taken: the margin that iobench leaves is an eighth of
/// it, and a file needs a little more than its bytes.
const SMALL: u64 = 64 * MIB;
const LEFT: u64 = 7 * MIB;

/// The program; `None`, with a reason printed, where there is none.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(find_program).as_deref()
}

fn find_program() -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let build = test.ancestors().nth(2).unwrap();
    if let Some(cargo) = std::env::var_os("CARGO") {
        let release = build.ends_with("release").then_some("--release");
        let mut command = Command::new(cargo);
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.args(["build", "--quiet", "--example", "iobench"]);
        let built = command.args(release).output().unwrap();
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{said}");
    }
    let program = build.join("examples/iobench");
    if !program.exists() {
        skip(&format!("{} is not built", program.display()));
        return None;
    }
    Some(program)
}

/// What a run said and how it ended.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

/// The program with these arguments; short, and without a plot.
fn command(file: &Path, more: &[&str]) -> Command {
    // A shell has its background jobs ignore SIGINT, and started programs inherit it: iobench would leave it ignored.
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,HUP,TERM");
    command.arg(program().unwrap());
    command.arg("--file").arg(file).args(["--seconds", "0.1"]);
    command.args(["--json", "--engine", "pread", "--depth", "2"]);
    command.args(more);
    command
}

fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn iobench(file: &Path, more: &[&str]) -> Ran {
    run(&mut command(file, more))
}

#[track_caller]
fn assert_fails(ran: &Ran, said: &str) {
    assert_ne!(ran.code, Some(0), "{}", ran.out);
    assert!(ran.err.contains(said), "{said:?} is not in: {}", ran.err);
}

#[track_caller]
fn assert_runs(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
}

/// Runs `body` in a process of its own, with a small file system of its own that goes when the process ends.
fn on_a_small_file_system(name: &str, body: impl FnOnce(&Path)) {
    if common::is_alone(name) {
        let _watchdog = watchdog();
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=64m", "tmpfs"];
        let mut mount = Command::new("mount")
            .args(mount)
            .arg(dir.path())
            .spawn()
            .unwrap();
        assert!(mount.wait().unwrap().success());
        body(dir.path());
        let unmounted = Command::new("umount").arg(dir.path()).status().unwrap();
        assert!(unmounted.success());
        return;
    }
    if program().is_none() || !can_unshare() {
        return;
    }
    let test = std::env::current_exe().unwrap();
    let mut unshared = Command::new("unshare");
    unshared.args(UNSHARED).arg(test).env("KIOCB_ALONE", name);
    let ran = run(unshared.args([name, "--exact", "--nocapture"]));
    assert_runs(&ran);
    assert!(ran.out.contains("1 passed"), "there is no test {name}");
}

/// Root of a namespace of its own, which an ordinary user may be.
const UNSHARED: [&str; 3] = ["--user", "--map-root-user", "--mount"];

fn can_unshare() -> bool {
    let tried = Command::new("unshare").args(UNSHARED).arg("true").output();
    let can = tried.is_ok_and(|tried| tried.status.success());
    if !can {
        skip("unshare makes no user and mount namespace here");
    }
    can
}

fn free(place: &Path) -> u64 {
    let space = statvfs(place).unwrap();
    space.blocks_available() * space.fragment_size()
}

/// The least space that is free, ever, until the watch ends.
struct Watch {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

fn watch(place: &Path) -> Watch {
    let over = Arc::new(AtomicBool::new(false));
    let (ends, place) = (over.clone(), place.to_owned());
    let thread = thread::spawn(move || {
        let mut least = free(&place);
        while !ends.load(Ordering::Relaxed) {
            least = least.min(free(&place));
            thread::yield_now();
        }
        least
    });
    Watch { over, thread }
}

impl Watch {
    fn least(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Somebody else's file.
fn strangers(dir: &Path, bytes: usize) -> PathBuf {
    let path = dir.join("theirs");
    fs::write(&path, vec![b'x'; bytes]).unwrap();
    path
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

#[test]
fn without_a_size_it_takes_what_fits_and_says_so() {
    let name = "without_a_size_it_takes_what_fits_and_says_so";
    on_a_small_file_system(name, |dir| {
        let (file, watch) = (dir.join("new"), watch(dir));
        let ran = iobench(&file, &[]);
        assert_runs(&ran);
        let said =
            "1 GiB do not fit: 64 MiB are free, and iobench leaves 8 MiB of them; using 56 MiB";
        assert!(ran.err.contains(said), "{}", ran.err);
        assert!(watch.least() >= LEFT);
        // The next run finds it and uses it.
        assert_runs(&iobench(&file, &[]));
        assert_eq!(length(&file), 56 * MIB);
    });
}

#[test]
fn a_size_that_does_not_fit_is_refused_with_one_that_does() {
    let name = "a_size_that_does_not_fit_is_refused_with_one_that_does";
    on_a_small_file_system(name, |dir| {
        let (file, watch) = (dir.join("new"), watch(dir));
        let text = "do not fit: 64 MiB are free, and iobench leaves 8 MiB of them; --size 56M fits";
        assert_fails(&iobench(&file, &["--size", "60M"]), text);
        assert_fails(&iobench(&file, &["--size", "1T"]), text);
        assert!(!file.exists());
        assert_eq!(watch.least(), SMALL);
        assert_runs(&iobench(&file, &["--size", "56M"]));
    });
}

#[test]
fn a_file_of_its_own_is_grown_as_far_as_there_is_room() {
    let name = "a_file_of_its_own_is_grown_as_far_as_there_is_room";
    on_a_small_file_system(name, |dir| {
        let (file, watch) = (dir.join("new"), watch(dir));
        assert_runs(&iobench(&file, &["--size", "16M"]));
        assert_fails(&iobench(&file, &["--size", "200M"]), "--size 56M fits");
        assert_eq!(length(&file), 16 * MIB);
        assert_runs(&iobench(&file, &["--size", "32M"]));
        assert_eq!(length(&file), 32 * MIB);
        // Both halves are what they should be, by what the blocks say.
        assert_runs(&iobench(&file, &["--rw", "read"]));
        assert_runs(&iobench(&file, &["--rw", "randwrite"]));
        assert!(watch.least() >= LEFT);
    });
}

#[test]
fn a_full_file_system_is_left_as_it_is() {
    let name = "a_full_file_system_is_left_as_it_is";
    on_a_small_file_system(name, |dir| {
        let bytes = vec![1; usize::try_from(60 * MIB).unwrap()];
        fs::write(dir.join("most"), bytes).unwrap();
        let (file, before) = (dir.join("new"), free(dir));
        for size in [&[][..], &["--size", "1M"]] {
            let ran = iobench(&file, size);
            assert_fails(
                &ran,
                "4 MiB are free, and iobench leaves 8 MiB of them; choose",
            );
        }
        assert!(!file.exists());
        assert_eq!(free(dir), before);
    });
}

/// What it was told to overwrite is not its own: before, the second run would have grown it to 1 GiB.
#[test]
fn a_strangers_file_keeps_its_length_and_stays_the_strangers() {
    let name = "a_strangers_file_keeps_its_length_and_stays_the_strangers";
    on_a_small_file_system(name, |dir| {
        let (theirs, watch) = (strangers(dir, 5000), watch(dir));
        let writes: [&[&str]; 2] = [&["--rw", "randwrite"], &["--rw", "write", "--no-verify"]];
        for write in writes {
            let told = [write, &["--yes"]].concat();
            assert_fails(&iobench(&theirs, write), "not made by iobench");
            assert_runs(&iobench(&theirs, &told));
            assert_eq!(length(&theirs), 5000);
            assert_fails(&iobench(&theirs, write), "not made by iobench");
            let more = [&told[..], &["--size", "1M"]].concat();
            assert_fails(&iobench(&theirs, &more), "has only 4.88 KiB, not 1 MiB");
            assert_eq!(length(&theirs), 5000);
            assert_eq!(fs::read(&theirs).unwrap()[4096..], [b'x'; 904]);
        }
        assert!(watch.least() >= LEFT);
    });
}

#[test]
fn what_was_overwritten_can_be_checked_by_a_later_run() {
    let Some(_) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let theirs = strangers(dir.path(), 1 << 20);
    assert_fails(&iobench(&theirs, &[]), "can't be checked; add --no-verify");
    assert_runs(&iobench(&theirs, &["--no-verify"]));
    assert_runs(&iobench(&theirs, &["--rw", "randwrite", "--yes"]));
    assert_runs(&iobench(&theirs, &[]));
    assert_runs(&iobench(
        &theirs,
        &["--rw", "randwrite", "--yes", "--no-verify"],
    ));
    assert_fails(&iobench(&theirs, &[]), "can't be checked; add --no-verify");
}

#[test]
fn an_empty_file_of_a_stranger_is_not_grown() {
    let Some(_) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let theirs = strangers(dir.path(), 0);
    for more in [&[][..], &["--size", "1M"], &["--rw", "randwrite", "--yes"]] {
        assert_fails(&iobench(&theirs, more), "is empty, and not made by iobench");
    }
    assert_eq!(length(&theirs), 0);
}

/// Writing to holes takes space as growing does.
#[test]
fn the_holes_of_a_strangers_file_are_not_filled_beyond_the_margin() {
    let name = "the_holes_of_a_strangers_file_are_not_filled_beyond_the_margin";
    on_a_small_file_system(name, |dir| {
        let theirs = dir.join("theirs");
        let file = File::create(&theirs).unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"data", 1 << 29).unwrap();
        for more in [&[][..], &["--no-verify"]] {
            let told = [&["--rw", "randwrite", "--yes"], more].concat();
            assert_fails(&iobench(&theirs, &told), "do not fit");
        }
        assert!(theirs.metadata().unwrap().blocks() <= 16);
        assert!(free(dir) > SMALL - MIB);
    });
}

/// A run that would take a minute; back when it has said that the filling began, or ended.
fn started(file: &Path, more: &[&str], says: &str) -> Child {
    let mut command = command(file, more);
    command.args(["--seconds", "60"]).stderr(Stdio::piped());
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(says) {
        line.clear();
        assert_ne!(
            lines.read_line(&mut line).unwrap(),
            0,
            "it never says {says}"
        );
    }
    // It goes on talking.
    thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    child
}

fn interrupt(mut child: Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
}

#[test]
fn interrupted_it_takes_away_what_it_made() {
    let Some(_) = program() else { return };
    let _watchdog = watchdog();
    let dir = common::disk_dir();
    let file = dir.path().join("new");
    for (signal, says) in [
        (Signal::SIGINT, "filling"),
        (Signal::SIGTERM, "filling"),
        (Signal::SIGINT, "medium:"),
        (Signal::SIGHUP, "medium:"),
    ] {
        interrupt(started(&file, &["--size", "32M"], says), signal);
        assert!(!file.exists(), "{signal} after {says}");
    }
}

#[test]
fn interrupted_it_cuts_back_what_it_made_longer() {
    let Some(_) = program() else { return };
    let _watchdog = watchdog();
    let dir = common::disk_dir();
    let file = dir.path().join("old");
    assert_runs(&iobench(&file, &["--size", "4M"]));
    for says in ["filling", "medium:"] {
        interrupt(started(&file, &["--size", "32M"], says), Signal::SIGINT);
        assert_eq!(length(&file), 4 * MIB, "after {says}");
    }
    assert_runs(&iobench(&file, &[])); // what is left is whole
    assert_eq!(length(&file), 4 * MIB);
}

/// A run that was killed could clean nothing up: the next one knows the file for its own.
#[test]
fn a_file_left_by_a_run_that_was_killed_is_used_by_the_next() {
    let Some(_) = program() else { return };
    let _watchdog = watchdog();
    let dir = common::disk_dir();
    let file = dir.path().join("new");
    let child = started(&file, &["--size", "32M"], "filling");
    until(|| file.metadata().is_ok_and(|file| file.len() > 4096));
    interrupt(child, Signal::SIGKILL);
    assert_runs(&iobench(&file, &["--size", "4M", "--rw", "randwrite"]));
}

#[test]
fn a_limit_of_file_length_is_a_size_and_not_the_end() {
    let Some(program) = program() else { return };
    let dir = common::disk_dir();
    let file = dir.path().join("new");
    let shell = |more: &str| {
        let script =
            format!("ulimit -f 8192 && exec \"$0\" --seconds 0.1 --json --engine pread {more}");
        run(Command::new("bash")
            .args(["-c", &script])
            .arg(program)
            .env("FILE", &file))
    };
    let ran = shell("--file \"$FILE\" --size 16M");
    assert_fails(
        &ran,
        "16 MiB are more than the 8 MiB that a file may have (ulimit -f); --size 8M fits",
    );
    assert!(!file.exists());
    assert_runs(&shell("--file \"$FILE\""));
    assert_eq!(length(&file), 8 * MIB);
}

#[test]
fn what_it_is_told_wrongly_is_answered_with_what_is_right() {
    let Some(program) = program() else { return };
    for (arguments, said) in [
        (["--depth", "-1"], "--depth -1: a whole number, 1 to 65535"),
        (
            ["--depth", "65536"],
            "--depth 65536: a whole number, 1 to 65535",
        ),
        (["--threads", "0"], "--threads 0: a whole number, 1 to 1024"),
        (
            ["--seconds", "soon"],
            "--seconds soon: a number, 0.1 to 86400",
        ),
        (
            ["--bs", "512"],
            "--bs 512: a multiple of 4k, the unit of checking (512 with --no-verify)",
        ),
        (["--bs", "2G"], "up to 1G"),
        (
            ["--bs", "big"],
            "--bs big: a size such as 4096, 4k, 512M or 1G",
        ),
        (
            ["--file", ""],
            "--file: the path of a file or block device is missing",
        ),
        (
            ["--plot", "x.png"],
            "--plot x.png: what is drawn is an SVG; choose a name in .svg",
        ),
        (["--group", "4"], "--group is an option of the engine raw"),
    ] {
        let mut command = Command::new(program);
        if arguments[0] == "--group" {
            command.args(["--engine", "wait"]);
        }
        let ran = run(command.args(arguments));
        assert_eq!(ran.code, Some(2));
        assert_fails(&ran, said);
    }
}

#[test]
fn the_depth_that_is_allowed_is_one_that_the_crate_takes() {
    let most = kiocb::Aio::builder().depth(65_535).build();
    let refused = kiocb::Aio::builder().depth(65_536).build().unwrap_err();
    assert!(refused.to_string().contains("1 to 65535"), "{refused}");
    // The quota may have less: that is no refusal of the number.
    assert!(
        most.map_or_else(|error| error.to_string(), |_| String::new())
            .find("1 to")
            .is_none()
    );
}

/// Found after the run, it would have cost the run.
#[test]
fn a_plot_that_cannot_be_written_is_known_before_the_file_is_made() {
    let Some(_) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new");
    let ran = iobench(&file, &["--plot", "/sys/x.svg"]);
    assert_fails(&ran, "--plot /sys/x.svg: ");
    assert!(!file.exists());
    let plot = dir.path().join("plot.svg");
    assert_runs(&iobench(
        &file,
        &["--size", "1M", "--plot", plot.to_str().unwrap()],
    ));
    assert!(fs::read_to_string(plot).unwrap().ends_with("</svg>\n"));
}

#[test]
fn where_nothing_can_be_written_another_place_is_asked_for() {
    let Some(_) = program() else { return };
    let ran = iobench(Path::new("/sys/x"), &["--size", "1M"]);
    assert_ne!(ran.code, Some(0));
    assert!(ran.err.contains("--file PATH"), "{}", ran.err);
}

/// The value of a field in a line of JSON.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let key = format!("\"{name}\":");
    let start = line.find(&key).expect("the field is there") + key.len();
    line[start..].split([',', '}']).next().unwrap()
}

#[test]
fn it_says_how_many_threads_run_and_on_which_medium() {
    let Some(_) = program() else { return };
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let ran = iobench(&dir.path().join("new"), &["--size", "1M", "--threads", "3"]);
    assert_runs(&ran);
    let line = ran.out.trim();
    assert_eq!([field(line, "loops"), field(line, "threads")], ["3", "6"]);
    assert_eq!(field(line, "medium"), "\"tmpfs");
    assert_eq!(field(line, "group"), "null");
}

#[test]
fn raw_best_says_which_group_was_the_best() {
    let Some(program) = program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new");
    let mut command = Command::new(program);
    command.args(["--seconds", "0.1", "--json", "--size", "1M", "--depth", "4"]);
    command.args(["--engine", "raw-best", "--engine", "raw", "--group", "3"]);
    let ran = run(command.arg("--file").arg(&file));
    if ran.err.contains("Function not implemented") {
        return skip("no kernel AIO");
    }
    assert_runs(&ran);
    let groups: Vec<_> = ran.out.lines().map(|line| field(line, "group")).collect();
    assert!(["1", "2", "null"].contains(&groups[0]), "{groups:?}");
    assert_eq!(groups[1], "3");
}
