//! What the example `copy` promises: identical bytes, the whole file or none under its name, errors that say
//! what and where.
//!
//! The example is compiled into this test, so that what it does can be interrupted at a known place: its
//! progress is reported between one piece and the next.

#[path = "../examples/copy.rs"]
#[allow(
    dead_code,
    reason = "of the program the test needs all but its command line"
)]
mod example;

mod common;

use common::{alone, disk_dir, limit, skip};
use example::{Options, copy};
use nix::sys::resource::Resource;
use nix::sys::signal::{Signal, raise};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes without a period that a block or a piece could hide.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
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

/// Opening a pipe would wait for its writer, here for ever.
#[test]
fn a_source_without_a_length_is_refused_and_never_waited_for() {
    let dir = disk_dir();
    let (pipe, to) = (dir.path().join("pipe"), dir.path().join("to"));
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    for source in [
        pipe.as_path(),
        Path::new("/dev/null"),
        Path::new("/dev/zero"),
    ] {
        let text = failure(source, &to);
        let expected = "opening: not a regular file or block device";
        assert_eq!(text, format!("{}: {expected}", source.display()));
    }
    assert_eq!(names(dir.path()), ["pipe"]);
}

/// Its length is 0, and reading at 0 fails: that is no empty file.
#[test]
fn a_source_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let dir = disk_dir();
    let text = failure(Path::new("/proc/self/mem"), &dir.path().join("to"));
    let expected = "/proc/self/mem: reading its first byte: Input/output error (os error 5)";
    assert_eq!(text, expected);
    assert_eq!(names(dir.path()), [""; 0]);
}

/// A length that is not true: a file of the kernel's that says 4096 and has some digits.
#[test]
fn a_source_with_fewer_bytes_than_it_says_is_not_copied() {
    let dir = disk_dir();
    let source = Path::new("/sys/kernel/uevent_seqnum");
    if fs::metadata(source).is_err() {
        return skip("no such file in /sys");
    }
    let text = failure(source, &dir.path().join("to"));
    assert!(
        text.ends_with("the file ends before the buffer is full"),
        "{text}"
    );
    assert_eq!(names(dir.path()), [""; 0]);
}

/// Where a file's data begins and ends, as `lseek` tells.
fn data_of(path: &Path) -> Vec<(u64, u64)> {
    use nix::unistd::{Whence, lseek};
    let file = File::open(path).unwrap();
    let seek = |from: u64, whence| lseek(&file, from.cast_signed(), whence).map(i64::cast_unsigned);
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Ok(start) = seek(at, Whence::SeekData) {
        at = seek(start, Whence::SeekHole).unwrap();
        parts.push((start, at));
    }
    parts
}

/// XFS takes some zeroes around written bytes for data, until they are on the disk.
#[track_caller]
fn assert_same_holes(one: &Path, other: &Path) {
    let (one, other) = (data_of(one), data_of(other));
    let near = |a: u64, b: u64| a.abs_diff(b) <= 64 << 10;
    let same = one.iter().zip(&other);
    let same = same.filter(|(a, b)| near(a.0, b.0) && near(a.1, b.1));
    assert!(
        same.count() == one.len().max(other.len()),
        "{one:?} {other:?}"
    );
}

#[test]
fn holes_stay_holes_and_the_bytes_between_them_are_identical() {
    for dir in common::places() {
        let (source, to) = (dir.path().join("source"), dir.path().join("to"));
        let file = File::create(&source).unwrap();
        let data = bytes(300_000);
        for offset in [1 << 20, 9 << 20, (40 << 20) + 123] {
            file.write_all_at(&data, offset).unwrap();
        }
        file.set_len((64 << 20) + 7).unwrap();
        file.sync_all().unwrap();
        copy(&source, &to, Options::default(), ignore).unwrap();
        assert!(fs::read(&to).unwrap() == fs::read(&source).unwrap());
        assert_same_holes(&to, &source);
        let taken = |path| fs::metadata(path).unwrap().blocks();
        assert!(taken(&to) <= taken(&source) + 256, "{} blocks", taken(&to));
    }
}

#[test]
fn a_file_that_is_one_hole_is_copied_as_one() {
    let dir = disk_dir();
    let (source, to) = (dir.path().join("source"), dir.path().join("to"));
    File::create(&source).unwrap().set_len(10 << 30).unwrap();
    copy(&source, &to, Options::default(), ignore).unwrap();
    let mut copied = File::open(&to).unwrap();
    assert_eq!(copied.seek(SeekFrom::End(0)).unwrap(), 10 << 30);
    assert_eq!(data_of(&to), []);
}

/// What is asked for would be 48 GiB.
#[test]
fn no_more_memory_is_taken_than_the_file_is_long() {
    alone("no_more_memory_is_taken_than_the_file_is_long", || {
        let dir = disk_dir();
        let piece = 3 << 30;
        limit(Resource::RLIMIT_AS, 1 << 30);
        for depth in [1, 16] {
            assert_copies(dir.path(), dir.path(), 12_000, Options { depth, piece });
        }
    });
}

/// What is asked for would be 1 GiB, which the file has.
#[test]
fn all_buffers_together_stay_below_their_bound() {
    alone("all_buffers_together_stay_below_their_bound", || {
        let dir = disk_dir();
        let (source, to) = (dir.path().join("source"), dir.path().join("to"));
        let file = File::create(&source).unwrap();
        file.set_len(1 << 30).unwrap();
        // Data in each piece, and little of it.
        for offset in (0..1 << 30).step_by(32 << 20) {
            file.write_all_at(b"data", offset).unwrap();
        }
        limit(Resource::RLIMIT_AS, 1 << 30);
        for (depth, piece) in [(32, 32 << 20), (1, 1 << 30)] {
            copy(&source, &to, Options { depth, piece }, ignore).unwrap();
            assert_same_holes(&to, &source);
        }
    });
}

#[test]
fn a_link_to_nothing_is_neither_followed_nor_replaced() {
    let dir = disk_dir();
    let (source, link) = (dir.path().join("source"), dir.path().join("link"));
    fs::write(&source, "content").unwrap();
    symlink(dir.path().join("nothing"), &link).unwrap();
    let expected = format!("{}: replacing: it is a link to nothing", link.display());
    assert_eq!(failure(&source, &link), expected);
    assert_eq!(names(dir.path()), ["link", "source"]);
}

#[test]
fn a_link_as_the_source_is_followed() {
    let dir = disk_dir();
    let (source, link) = (dir.path().join("source"), dir.path().join("link"));
    let to = dir.path().join("to");
    fs::write(&source, "content").unwrap();
    symlink(&source, &link).unwrap();
    copy(&link, &to, Options::default(), ignore).unwrap();
    assert!(!to.is_symlink());
    assert_eq!(fs::read(&to).unwrap(), b"content");
}

#[test]
fn a_read_only_target_is_replaced_and_its_other_names_keep_the_old() {
    let dir = disk_dir();
    let (source, to) = (dir.path().join("source"), dir.path().join("to"));
    let other = dir.path().join("other");
    fs::write(&source, "content").unwrap();
    fs::write(&to, "old").unwrap();
    fs::set_permissions(&to, Permissions::from_mode(0o444)).unwrap();
    fs::hard_link(&to, &other).unwrap();
    copy(&source, &to, Options::default(), ignore).unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"content");
    assert_eq!(fs::read(&other).unwrap(), b"old");
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
        "{}: reading 65536 bytes at offset 65536: the file ends before the buffer is full",
        source.display()
    );
    assert_eq!(failure.unwrap_err().to_string(), expected);
    assert_eq!(names(dir.path()), ["source"]);
}

#[test]
fn a_progress_that_panics_is_not_taken_for_success() {
    let dir = disk_dir();
    let (source, to) = (dir.path().join("source"), dir.path().join("to"));
    fs::write(&source, bytes(10_000)).unwrap();
    for piece in [4096, 65_536] {
        let options = Options { depth: 1, piece };
        let copied =
            std::panic::catch_unwind(|| copy(&source, &to, options, |_, _| panic!("on purpose")));
        assert!(copied.is_err());
        assert_eq!(names(dir.path()), ["source"]);
    }
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
