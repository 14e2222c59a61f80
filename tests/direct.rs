//! Direct I/O on what this machine has: a file beside the build, tmpfs, procfs, and, as root, loop devices
//! and file systems on them.
//!
//! What can't be had is skipped with the reason, or fails where `KIOCB_CI` is set.
#![allow(
    unsafe_code,
    reason = "fcntl, seccomp, and requests through the raw layer"
)]

#[path = "common/seccomp.rs"]
mod seccomp;

use kiocb::op::{Read, Write};
use kiocb::{AlignedBuf, DirectFile, Iocb, RwFlags, sys};
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says why a test proves nothing here, and fails where everything is expected to be there.
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    assert!(
        std::env::var_os("KIOCB_CI").is_none(),
        "skipped in CI: {reason}"
    );
}

/// A directory on a real file system: beside the build, or where `KIOCB_TEST_DIR` says.
fn disk_dir() -> tempfile::TempDir {
    let place = std::env::var_os("KIOCB_TEST_DIR");
    tempfile::tempdir_in(place.unwrap_or(env!("CARGO_TARGET_TMPDIR").into())).unwrap()
}

fn new_file(path: &Path) -> io::Result<DirectFile> {
    DirectFile::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

/// A direct file beside the build; `None`, with the reason said, where the file system refuses.
fn disk_file(dir: &tempfile::TempDir) -> Option<DirectFile> {
    match new_file(&dir.path().join("file")) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            skip(&error.to_string());
            None
        }
        file => Some(file.unwrap()),
    }
}

fn status_flags(file: &impl AsRawFd) -> i32 {
    // SAFETY: numbers only.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }
}

/// Runs a program; its output without the last newline, or why there is none.
fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|e| format!("{program}: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "{program} {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_string())
}

/// A loop device over a file of its own.
struct Loop {
    device: PathBuf,
    _image: tempfile::NamedTempFile,
}

impl Loop {
    fn new(len: u64, sector: &str) -> Result<Self, String> {
        // Not there, where only the test program was brought.
        let image = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR"))
            .map_err(|error| error.to_string())?;
        image.as_file().set_len(len).unwrap();
        let path = image.path().to_str().unwrap();
        let device = run(
            "losetup",
            &["--find", "--show", "--sector-size", sector, path],
        )?;
        Ok(Self {
            device: device.into(),
            _image: image,
        })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run("losetup", &["--detach", self.device.to_str().unwrap()]);
    }
}

/// A file system of its own, mounted for as long as this lives.
struct Mounted {
    dir: tempfile::TempDir,
    _device: Loop,
}

impl Mounted {
    fn new(mkfs: &str, mount_options: &str) -> Result<Self, String> {
        let device = Loop::new(400 << 20, "512")?;
        let path = device.device.to_str().unwrap();
        run(mkfs, &["-q", path])?;
        let dir = disk_dir();
        run(
            "mount",
            &["-o", mount_options, path, dir.path().to_str().unwrap()],
        )?;
        Ok(Self {
            dir,
            _device: device,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = run("umount", &[self.dir.path().to_str().unwrap()]);
    }
}

/// Runs `f` on a thread to which the kernel refuses `statx`, as seccomp profiles from before that call do.
fn without_statx<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            seccomp::refuse(libc::SYS_statx, libc::EPERM);
            f()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_direct_file_reads_back_what_was_written_through_its_own_buffers() {
    let dir = disk_dir();
    let Some(file) = disk_file(&dir) else { return };
    assert!(file.is_direct());
    assert_ne!(status_flags(&file) & libc::O_DIRECT, 0);
    let mut page = file.buffer(1);
    page.fill(0x5a);
    file.file().write_all_at(&page, 0).unwrap();
    let mut back = file.buffer(page.len());
    file.file().read_exact_at(&mut back, 0).unwrap();
    assert_eq!(back, page);
}

#[test]
fn a_direct_file_goes_into_a_request_and_comes_back() {
    let dir = disk_dir();
    let Some(file) = disk_file(&dir) else { return };
    let mut page = file.buffer(8192);
    page.fill(0x6b);
    let done = Iocb::alloc().init_rw(file, Write, page, 0).wait().unwrap();
    assert_eq!(done.result.unwrap(), 8192);
    let page = done.file.buffer(8192);
    let done = Iocb::alloc()
        .init_rw(done.file, Read, page, 0)
        .wait()
        .unwrap();
    assert_eq!(done.result.unwrap(), 8192);
    assert!(done.buf.iter().all(|&byte| byte == 0x6b));
    // One byte short of a block: most say so, as the result; btrfs and tmpfs go through the page cache for
    // once.
    let odd = AlignedBuf::zeroed(511);
    let done = Iocb::alloc()
        .init_rw(done.file, Write, odd, 0)
        .wait()
        .unwrap();
    let outcome = done.result.map_err(|error| error.raw_os_error());
    assert!(
        matches!(outcome, Ok(511) | Err(Some(libc::EINVAL))),
        "{outcome:?}"
    );
}

#[test]
fn a_buffer_is_whole_blocks_at_an_address_that_fits() {
    let dir = disk_dir();
    let Some(file) = disk_file(&dir) else { return };
    let block = usize::try_from(file.offset_alignment()).unwrap();
    assert!(block >= 512 && file.memory_alignment().is_power_of_two());
    for (wanted, got) in [(0, 0), (1, block), (block, block), (block + 1, 2 * block)] {
        let buf = file.buffer(wanted);
        assert_eq!(buf.len(), got);
        assert_eq!(buf.alignment() % file.memory_alignment(), 0);
        assert!(buf.alignment() >= AlignedBuf::DEFAULT_ALIGN);
    }
    assert!(file.read_offset_alignment() <= file.offset_alignment());
}

#[test]
fn offsets_are_rounded_to_blocks() {
    let dir = disk_dir();
    let Some(file) = disk_file(&dir) else { return };
    let block = file.offset_alignment();
    assert_eq!((file.round_down(0), file.round_up(0)), (0, Some(0)));
    assert_eq!(
        (file.round_down(block), file.round_up(block)),
        (block, Some(block))
    );
    assert_eq!(
        (file.round_down(block + 1), file.round_up(block + 1)),
        (block, Some(2 * block))
    );
    assert_eq!(file.round_up(u64::MAX), None);
}

#[test]
fn a_file_that_refuses_direct_io_is_an_error_that_says_so() {
    for path in ["/proc/version", "/dev/zero"] {
        let error = DirectFile::open(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(
            error.to_string().contains(path) && error.to_string().contains("O_DIRECT"),
            "{error}"
        );
        let refused = DirectFile::from_file(File::open(path).unwrap()).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::Unsupported, "{refused}");
        assert_eq!(refused.errno(), None);
        let mut byte = [1; 1];
        refused.into_file().read_exact_at(&mut byte, 0).unwrap();
        assert_ne!(byte, [1], "the file is there and open");
        let refused = DirectFile::try_from(File::open(path).unwrap());
        let error: io::Error = refused.unwrap_err().into();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn other_errors_of_open_are_passed_on() {
    let missing = disk_dir().path().join("missing");
    assert_eq!(
        DirectFile::open(&missing).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let error = DirectFile::options()
        .read(true)
        .open_or_buffered(missing)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_buffered_file_stands_in_only_where_asked_and_wants_nothing() {
    let file = DirectFile::options()
        .read(true)
        .open_or_buffered("/proc/version")
        .unwrap();
    assert!(!file.is_direct());
    assert_eq!(status_flags(&file) & libc::O_DIRECT, 0);
    assert_eq!(
        (
            file.memory_alignment(),
            file.offset_alignment(),
            file.read_offset_alignment()
        ),
        (1, 1, 1)
    );
    assert_eq!(file.atomic_write(), None);
    assert_eq!((file.buffer(10).len(), file.round_up(7)), (10, Some(7)));
    let mut start = [0; 5];
    file.file().read_exact_at(&mut start, 0).unwrap();
    assert_eq!(start, *b"Linux");
}

#[test]
fn what_can_be_direct_is_direct_also_where_buffered_would_do() {
    let dir = disk_dir();
    let Some(_) = disk_file(&dir) else { return };
    let file = DirectFile::options()
        .read(true)
        .open_or_buffered(dir.path().join("file"))
        .unwrap();
    assert!(file.is_direct());
    assert_ne!(status_flags(&file) & libc::O_DIRECT, 0);
}

#[test]
fn flags_of_the_users_own_do_not_replace_direct_io() {
    let dir = disk_dir();
    let Some(_) = disk_file(&dir) else { return };
    let mut options = DirectFile::options();
    options.read(true).write(true).custom_flags(libc::O_DSYNC);
    for file in [
        options.open(dir.path().join("file")),
        options.open_or_buffered(dir.path().join("file")),
    ] {
        let flags = status_flags(&file.unwrap());
        assert_eq!(
            flags & (libc::O_DIRECT | libc::O_DSYNC),
            libc::O_DIRECT | libc::O_DSYNC
        );
    }
}

#[test]
fn the_options_do_what_they_do_for_a_plain_file() {
    let dir = disk_dir();
    let Some(_) = disk_file(&dir) else { return };
    let path = dir.path().join("file");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .write_all(b"text")
        .unwrap();
    assert_eq!(
        new_file(&path).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    assert_eq!(DirectFile::open(&path).unwrap().len().unwrap(), 4);
    let cut = DirectFile::options()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    assert!(cut.is_empty().unwrap());
    let private = dir.path().join("private");
    DirectFile::options()
        .write(true)
        .create(true)
        .mode(0o600)
        .open(&private)
        .unwrap();
    assert_eq!(private.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn an_open_file_is_switched_for_all_its_descriptors() {
    let dir = disk_dir();
    let Some(_) = disk_file(&dir) else { return };
    let plain = File::open(dir.path().join("file")).unwrap();
    let clone = plain.try_clone().unwrap();
    assert_eq!(status_flags(&clone) & libc::O_DIRECT, 0);
    let direct = DirectFile::from_file(plain).unwrap();
    assert!(direct.is_direct());
    assert_ne!(status_flags(&clone) & libc::O_DIRECT, 0);
}

#[test]
fn a_direct_file_goes_in_and_out_of_the_standard_types() {
    let dir = disk_dir();
    let Some(file) = disk_file(&dir) else { return };
    let shown = format!("{file:?}");
    assert!(
        shown.starts_with("DirectFile { file: File") && shown.contains("direct: true"),
        "{shown}"
    );
    let clone = file.try_clone().unwrap();
    assert_ne!(clone.as_raw_fd(), file.as_raw_fd());
    assert_eq!(clone.offset_alignment(), file.offset_alignment());
    let number = file.as_fd().as_raw_fd();
    let fd = OwnedFd::from(file);
    assert_eq!(fd.as_raw_fd(), number);
    let plain = File::from(DirectFile::try_from(fd).unwrap());
    assert!(DirectFile::try_from(plain).unwrap().is_direct());
}

#[test]
fn preallocated_space_is_there_and_reads_as_zeroes() {
    let dir = disk_dir();
    let Some(file) = disk_file(&dir) else { return };
    file.preallocate(1 << 20).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    assert!(file.file().metadata().unwrap().blocks() * 512 >= 1 << 20);
    let mut page = file.buffer(4096);
    page.fill(1);
    file.file().read_exact_at(&mut page, 4096).unwrap();
    assert!(page.iter().all(|&byte| byte == 0));
    file.preallocate(0).unwrap();
    file.preallocate(4096).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20, "never shrinks");
}

#[test]
fn space_that_cannot_be_reserved_is_an_error() {
    let dir = disk_dir();
    let Some(file) = disk_file(&dir) else { return };
    let errno = |result: io::Result<()>| result.unwrap_err().raw_os_error();
    assert_eq!(errno(file.preallocate(u64::MAX)), Some(libc::EFBIG));
    let larger_than_any_disk = errno(file.preallocate(1 << 62));
    assert!(matches!(
        larger_than_any_disk,
        Some(libc::EFBIG | libc::ENOSPC)
    ));
    let reader = DirectFile::open(dir.path().join("file")).unwrap();
    assert_eq!(errno(reader.preallocate(4096)), Some(libc::EBADF));
    assert!(file.is_empty().unwrap());
}

/// Direct I/O at the alignments that the file names.
fn works_as_it_says(file: &DirectFile) {
    let block = file.offset_alignment();
    let mut buf =
        AlignedBuf::with_alignment(usize::try_from(block).unwrap(), file.memory_alignment());
    buf.fill(7);
    file.file().write_all_at(&buf, block).unwrap();
    buf.fill(0);
    file.file().read_exact_at(&mut buf, block).unwrap();
    assert!(buf.iter().all(|&byte| byte == 7));
}

#[test]
fn the_alignments_that_the_kernel_names_suffice() {
    let dir = disk_dir();
    let Some(file) = disk_file(&dir) else { return };
    works_as_it_says(&file);
}

#[test]
fn where_nothing_names_them_the_alignments_come_from_the_block_size() {
    // tmpfs has direct I/O since Linux 6.6 and does not say what it wants.
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        return skip("no /dev/shm");
    };
    let file = match new_file(&dir.path().join("file")) {
        Err(error) if error.kind() == ErrorKind::Unsupported => return skip(&error.to_string()),
        file => file.unwrap(),
    };
    assert_eq!(
        (file.memory_alignment(), file.offset_alignment()),
        (4096, 4096)
    );
    works_as_it_says(&file);
}

#[test]
fn where_statx_is_refused_the_alignments_come_from_the_block_size() {
    let dir = disk_dir();
    let Some(told) = disk_file(&dir) else { return };
    let file = without_statx(|| {
        DirectFile::options()
            .read(true)
            .write(true)
            .open(dir.path().join("file"))
    });
    let file = file.unwrap();
    let blksize = file.file().metadata().unwrap().blksize().clamp(512, 4096);
    assert_eq!(
        (file.memory_alignment() as u64, file.offset_alignment()),
        (blksize, blksize)
    );
    assert_eq!(
        blksize % told.offset_alignment(),
        0,
        "the guess is a multiple of the truth"
    );
    works_as_it_says(&file);
}

#[test]
fn a_block_device_says_its_length_and_block() {
    for sector in [512, 4096] {
        let device = match Loop::new(8 << 20, &sector.to_string()) {
            Ok(device) => device,
            Err(reason) => return skip(&reason),
        };
        let open = || {
            DirectFile::options()
                .read(true)
                .write(true)
                .open(&device.device)
                .unwrap()
        };
        let told = open();
        assert_eq!(
            (told.len().unwrap(), told.offset_alignment()),
            (8 << 20, sector)
        );
        works_as_it_says(&told);
        let guessed = without_statx(open);
        assert_eq!(
            (guessed.len().unwrap(), guessed.offset_alignment()),
            (8 << 20, sector)
        );
        assert_eq!(guessed.memory_alignment() as u64, sector);
        works_as_it_says(&guessed);
        let errno = told.preallocate(4096).unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::EOPNOTSUPP));
    }
}

#[test]
fn a_file_that_would_go_through_the_page_cache_unnoticed_is_refused() {
    let fs = match Mounted::new("mkfs.ext4", "data=journal") {
        Ok(fs) => fs,
        Err(reason) => return skip(&reason),
    };
    let path = fs.path("journalled");
    File::create(&path).unwrap();
    // Data go into the journal, so they can't go past the page cache: ext4 opens the file with O_DIRECT and
    // ignores that.
    assert_eq!(
        DirectFile::open(&path).unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    let plain = File::open(&path).unwrap();
    let clone = plain.try_clone().unwrap();
    assert_eq!(
        DirectFile::from_file(plain).unwrap_err().error().kind(),
        ErrorKind::Unsupported
    );
    assert_eq!(
        status_flags(&clone) & libc::O_DIRECT,
        0,
        "the file is left as it was"
    );
    assert!(
        !DirectFile::options()
            .read(true)
            .open_or_buffered(&path)
            .unwrap()
            .is_direct()
    );
}

/// One write through the raw layer, with flags.
fn write(file: &DirectFile, buf: &[u8], offset: i64, flags: RwFlags) -> i64 {
    let mut request = sys::iocb {
        aio_lio_opcode: sys::IOCB_CMD_PWRITE,
        aio_fildes: u32::try_from(file.as_raw_fd()).unwrap(),
        aio_rw_flags: flags.bits(),
        aio_buf: buf.as_ptr() as u64,
        aio_nbytes: buf.len() as u64,
        aio_offset: offset,
        ..Default::default()
    };
    let mut event = sys::io_event::default();
    // SAFETY: a new context.
    let context = unsafe { sys::io_setup(1) }.unwrap();
    // SAFETY: one request, whose buffer outlives it.
    let submitted = unsafe { sys::io_submit(context, [&raw mut request].as_ptr(), 1) };
    assert_eq!(submitted.unwrap(), 1);
    loop {
        // SAFETY: room for one event; nobody else reads this context's ring.
        let events = unsafe { sys::io_getevents(context, 1, 1, &mut event, None) };
        if matches!(events, Ok(1)) {
            break;
        }
    }
    // SAFETY: made above, destroyed once.
    unsafe { sys::io_destroy(context) }.unwrap();
    event.res
}

#[test]
fn the_atomic_writes_that_a_file_offers_are_taken_and_others_refused() {
    // XFS does them by itself since Linux 6.16, whatever the device.
    let fs = match Mounted::new("mkfs.xfs", "defaults") {
        Ok(fs) => fs,
        Err(reason) => return skip(&reason),
    };
    let file = new_file(&fs.path("file")).unwrap();
    let Some(unit) = file.atomic_write() else {
        return skip("no atomic writes on XFS before Linux 6.16");
    };
    assert!(
        unit.unit_min.is_power_of_two() && unit.unit_max >= unit.unit_min && unit.segments_max >= 1
    );
    // The loop device does none by itself, and the kernel says 0.
    assert_eq!(unit.unit_max_opt, None);
    let min = unit.unit_min as usize;
    let cases = [
        (min, 0),
        (min, min),
        (2 * min, 0),
        (2 * min, min),
        (min, min / 2),
        (3 * min, 0),
        (min / 2, 0),
    ];
    for (len, offset) in cases {
        let fits = unit.fits(len, offset as u64) && len <= unit.unit_max as usize;
        let result = write(
            &file,
            &file.buffer(len)[..len],
            offset as i64,
            RwFlags::ATOMIC,
        );
        assert_eq!(
            result == len as i64,
            fits,
            "{len} bytes at {offset} gave {result}, {unit:?}"
        );
    }
    assert!(!unit.fits(0, 0) && !unit.fits(2 * unit.unit_max as usize, 0));
}

#[test]
fn a_descriptor_that_only_names_a_file_comes_back_with_its_errno() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let named = std::fs::File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(file.path())
        .unwrap();
    let refused = DirectFile::from_file(named).unwrap_err();
    assert_eq!(refused.errno(), Some(libc::EBADF));
    assert!(refused.into_file().metadata().is_ok());
}

#[test]
fn only_regular_files_and_block_devices_are_direct() {
    let dir = disk_dir();
    let directory = File::open(dir.path()).unwrap();
    let (pipe, _writer) = io::pipe().unwrap();
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    let others = [OwnedFd::from(pipe), socket.into(), directory.into()];
    for other in others {
        let before = status_flags(&other);
        let refused = DirectFile::try_from(other).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::Unsupported, "{refused}");
        assert_eq!(status_flags(&refused.into_file()), before);
    }
}

/// What can't be read can't be asked by a read.
#[test]
fn a_file_for_writing_only_is_direct_where_it_can_be() {
    let mut places = vec![disk_dir()];
    places.extend(tempfile::tempdir_in("/dev/shm"));
    for dir in places {
        let path = dir.path().join("file");
        let can = new_file(&path).is_ok();
        let mut options = DirectFile::options();
        options.write(true).create(true);
        let file = options.open_or_buffered(&path).unwrap();
        assert_eq!(file.is_direct(), can, "{path:?}");
        let file = without_statx(|| options.open_or_buffered(&path).unwrap());
        assert_eq!(file.is_direct(), can, "{path:?}");
    }
}
