//! What the example `copy` promises: identical bytes, the whole file or none under its name, errors that say
//! what and where.
//!
//! The example is compiled into this test, so that what it does can be interrupted at a known place: its
//! progress is reported on the completion thread, between one piece and the next.

#[path = "../examples/copy.rs"]
#[allow(
    dead_code,
    reason = "of the program the test needs all but its command line"
)]
mod example;
#[path = "kit/mod.rs"]
mod kit;

use example::{Options, copy};
use kit::Random;
use nix::sys::signal::{Signal, raise};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A directory on a real file system: beside the build, or where `KIOCB_TEST_DIR` says.
fn disk_dir() -> TempDir {
    let place = std::env::var_os("KIOCB_TEST_DIR");
    tempfile::tempdir_in(place.unwrap_or(env!("CARGO_TARGET_TMPDIR").into())).unwrap()
}

/// Bytes without a period that a block or a piece could hide.
fn bytes(len: usize) -> Vec<u8> {
    let mut random = Random(0);
    (0..len).map(|_| random.next().to_le_bytes()[0]).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn ignore(_: u64, _: u64) {}

/// A source of `len` bytes in `from`, and what a copy to `to` gives.
fn assert_copies(from: &Path, to: &Path, len: usize, options: Options) {
    let (source, copied) = (from.join("source"), to.join("copied"));
    let content = bytes(len);
    fs::write(&source, &content).unwrap();
    copy(&source, &copied, options, ignore).unwrap();
    let got = fs::read(&copied).unwrap();
    assert_eq!(got.len(), len);
    assert!(got == content, "other bytes in a copy of {len}");
}

const LENGTHS: [usize; 7] = [0, 1, 4095, 4096, 4097, 262_144, (10 << 20) + 7];

#[test]
fn copies_of_every_length_are_identical() {
    let dir = disk_dir();
    for len in LENGTHS {
        assert_copies(dir.path(), dir.path(), len, Options::default());
    }
    assert_eq!(names(dir.path()), ["copied", "source"]);
}

#[test]
fn copies_between_file_systems_are_identical() {
    let (disk, memory) = (disk_dir(), tempfile::tempdir_in("/dev/shm").unwrap());
    for len in LENGTHS {
        assert_copies(disk.path(), memory.path(), len, Options::default());
        assert_copies(memory.path(), disk.path(), len, Options::default());
    }
}

#[test]
fn depth_and_piece_make_no_difference_to_the_bytes() {
    let dir = disk_dir();
    for (depth, piece) in [(1, 1), (1, 4096), (3, 5000), (64, 8192), (2, 64 << 20)] {
        let options = Options { depth, piece };
        assert_copies(dir.path(), dir.path(), 200_003, options);
    }
}

#[test]
fn progress_ends_with_the_whole_length() {
    let dir = disk_dir();
    let source = dir.path().join("source");
    fs::write(&source, bytes(100_001)).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let options = Options {
        depth: 1,
        piece: 4096,
    };
    let to = dir.path().join("copied");
    copy(&source, &to, options, move |done, total| {
        send.send((done, total)).unwrap()
    })
    .unwrap();
    let seen: Vec<_> = receive.iter().collect();
    assert_eq!(seen.len(), 100_001_usize.div_ceil(4096));
    assert_eq!(seen.last(), Some(&(100_001, 100_001)));
}

#[test]
fn permissions_are_kept() {
    let dir = disk_dir();
    let source = dir.path().join("source");
    fs::write(&source, "secret").unwrap();
    for mode in [0o600, 0o640, 0o755, 0o400] {
        fs::set_permissions(&source, Permissions::from_mode(mode)).unwrap();
        let to = dir.path().join(format!("{mode:o}"));
        copy(&source, &to, Options::default(), ignore).unwrap();
        let got = fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(got & 0o7777, mode);
    }
}

#[test]
fn the_file_that_was_there_is_replaced_and_not_written_to() {
    let dir = disk_dir();
    let (source, to) = (dir.path().join("source"), dir.path().join("to"));
    fs::write(&source, bytes(9999)).unwrap();
    fs::write(&to, "old").unwrap();
    let still_old = File::open(&to).unwrap();
    copy(&source, &to, Options::default(), ignore).unwrap();
    assert_eq!(fs::read(&to).unwrap(), bytes(9999));
    assert_eq!(std::io::read_to_string(still_old).unwrap(), "old");
    assert_eq!(names(dir.path()), ["source", "to"]);
}

#[test]
fn until_the_last_byte_is_copied_the_old_file_is_there() {
    let dir = disk_dir();
    let (source, to) = (dir.path().join("source"), dir.path().join("to"));
    fs::write(&source, bytes(100_000)).unwrap();
    fs::write(&to, "old").unwrap();
    let watched = to.clone();
    let (send, receive) = std::sync::mpsc::channel();
    let options = Options {
        depth: 4,
        piece: 4096,
    };
    let look = move |_, _| send.send(fs::read(&watched).unwrap()).unwrap();
    copy(&source, &to, options, look).unwrap();
    assert!(receive.iter().all(|seen| seen == b"old"));
    assert_eq!(fs::read(&to).unwrap(), bytes(100_000));
}

#[test]
fn a_directory_is_copied_into_and_a_link_followed() {
    let dir = disk_dir();
    let source = dir.path().join("source");
    fs::write(&source, "content").unwrap();
    let inside = dir.path().join("inside");
    fs::create_dir(&inside).unwrap();
    copy(&source, &inside, Options::default(), ignore).unwrap();
    assert_eq!(fs::read(inside.join("source")).unwrap(), b"content");

    let (link, far) = (dir.path().join("link"), inside.join("far"));
    fs::write(&far, "old").unwrap();
    symlink(&far, &link).unwrap();
    copy(&source, &link, Options::default(), ignore).unwrap();
    assert!(link.is_symlink());
    assert_eq!(fs::read(&far).unwrap(), b"content");
}

/// Why a copy fails.
fn failure(from: &Path, to: &Path) -> String {
    copy(from, to, Options::default(), ignore)
        .unwrap_err()
        .to_string()
}

#[test]
fn what_cannot_be_copied_is_named_with_the_cause() {
    let dir = disk_dir();
    let (missing, to) = (dir.path().join("missing"), dir.path().join("to"));
    assert_eq!(
        failure(&missing, &to),
        format!(
            "{}: opening: No such file or directory (os error 2)",
            missing.display()
        )
    );
    let text = failure(dir.path(), &to);
    assert_eq!(
        text,
        format!("{}: opening: is a directory", dir.path().display())
    );
    let text = failure(Path::new("/proc/self/status"), &to);
    assert!(
        text.starts_with("/proc/self/status: cutting it into pieces: "),
        "{text}"
    );
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn what_cannot_be_replaced_is_named_with_the_cause() {
    let dir = disk_dir();
    let source = dir.path().join("source");
    fs::write(&source, "content").unwrap();
    let again = dir.path().join("hard-link");
    fs::hard_link(&source, &again).unwrap();
    for same in [&source, &again] {
        let text = failure(&source, same);
        let expected = format!("{}: replacing: it is the source itself", same.display());
        assert_eq!(text, expected);
    }
    assert_eq!(fs::read(&source).unwrap(), b"content");
    let text = failure(&source, Path::new("/dev/null"));
    assert_eq!(text, "/dev/null: replacing: it is not a regular file");
}

#[test]
fn a_directory_that_takes_no_file_is_named_with_the_cause() {
    let dir = disk_dir();
    let source = dir.path().join("source");
    fs::write(&source, "content").unwrap();
    let nowhere = dir.path().join("nowhere/to");
    let expected = format!("{}: creating: No such file or directory", nowhere.display());
    let text = failure(&source, &nowhere);
    assert!(text.starts_with(&expected), "{text}");

    // Where nobody may make a file, root included.
    let text = failure(&source, Path::new("/sys/to"));
    assert!(text.starts_with("/sys/to: creating: "), "{text}");
    assert!(text.contains("os error"), "{text}");
}

#[test]
fn a_source_that_becomes_shorter_fails_at_the_offset_and_leaves_nothing() {
    let dir = disk_dir();
    let (source, to) = (dir.path().join("source"), dir.path().join("to"));
    fs::write(&source, bytes(1 << 20)).unwrap();
    let cut = File::options().write(true).open(&source).unwrap();
    let options = Options {
        depth: 1,
        piece: 65536,
    };
    // Called after the first piece was written, and before the second is read.
    let failure = copy(&source, &to, options, move |_, _| {
        cut.set_len(65536).unwrap()
    });
    let expected = format!(
        "{}: reading 65536 bytes at offset 65536: only 0 of 65536 bytes were transferred",
        source.display()
    );
    assert_eq!(failure.unwrap_err().to_string(), expected);
    assert_eq!(names(dir.path()), ["source"]);
}

#[test]
fn a_callback_that_panics_is_not_taken_for_success() {
    let dir = disk_dir();
    let (source, to) = (dir.path().join("source"), dir.path().join("to"));
    fs::write(&source, bytes(10_000)).unwrap();
    let failure = copy(&source, &to, Options::default(), |_, _| {
        panic!("on purpose")
    });
    assert!(failure.is_ok(), "everything was copied before the panic");

    let options = Options {
        depth: 1,
        piece: 4096,
    };
    let failure = copy(&source, &to, options, |_, _| panic!("on purpose"));
    let text = failure.unwrap_err().to_string();
    let expected = format!("{}: writing it: 4096 of 10000 bytes arrived", to.display());
    assert_eq!(text, expected);
}

/// In the environment of the process that is to be killed: where it copies `source` to `to`.
const KILLED_IN: &str = "KIOCB_TEST_COPY_KILLED_IN";

/// Not a test of its own: the next one runs it in another process.
#[test]
fn copies_half_and_is_killed() {
    let Some(dir) = std::env::var_os(KILLED_IN).map(PathBuf::from) else {
        return;
    };
    let options = Options {
        depth: 4,
        piece: 65536,
    };
    let kill = |done, total| {
        if done >= total / 2 {
            raise(Signal::SIGKILL).unwrap();
        }
    };
    copy(&dir.join("source"), &dir.join("to"), options, kill).unwrap();
}

#[test]
fn killed_half_way_it_leaves_no_half_file() {
    let dir = disk_dir();
    fs::write(dir.path().join("source"), bytes(4 << 20)).unwrap();
    let killed = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "copies_half_and_is_killed"])
        .env(KILLED_IN, dir.path())
        .output()
        .unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
    let left = names(dir.path());
    let named = |name: &&String| **name != "source" && !name.starts_with(".copy-");
    assert_eq!(left.iter().find(named), None);
    if left.len() > 1 {
        eprintln!("no O_TMPFILE here: a killed copy leaves {}", left[0]);
    }
}
