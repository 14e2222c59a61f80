//! Private file systems: they work, they are nobody else's, they go away.

use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kiocb_faults::raw::{BLOCK, Driver};
use kiocb_faults::{LoopDevice, Mount, PATIENCE, Watchdog, need, need_root};

const B: u64 = BLOCK as u64;
const MIB: u64 = 1 << 20;

/// Writes and reads back two blocks with O_DIRECT AIO.
fn works(mount: &Mount) {
    let file = mount.file("f", 4 * BLOCK, libc::O_DIRECT).unwrap();
    let mut driver = Driver::new(4).unwrap();
    let writes = [driver.write(&file, 0, 1), driver.write(&file, B, 2)];
    assert_eq!(driver.submit(&writes).unwrap(), 2);
    assert_eq!(driver.finish(), [4096, 4096]);
    let reads = [driver.read(&file, B), driver.read(&file, 4 * B)];
    assert_eq!(driver.submit(&reads).unwrap(), 2);
    assert_eq!(driver.finish(), [4096, 0]);
    assert_eq!(driver.block(reads[0]), [2; BLOCK]);
}

/// Whether a file system is mounted anywhere in the machine's tree.
fn is_in_mount_table(path: &Path) -> bool {
    let device = std::fs::metadata(path).unwrap().dev();
    let device = format!("{}:{}", libc::major(device), libc::minor(device));
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table
        .lines()
        .any(|line| line.split(' ').nth(2) == Some(&device))
}

/// The file behind a loop device, or none when it is free.
fn backing(device: &Path) -> Option<String> {
    let name = device.file_name().unwrap().to_string_lossy().into_owned();
    let file = std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
    file.ok().map(|file| file.trim_end().to_owned())
}

#[test]
fn tmpfs_works_and_is_in_no_mount_table() {
    need_root!();
    let mount = need!(Mount::tmpfs(MIB));
    works(&mount);
    assert!(!is_in_mount_table(&mount.path()));
    assert!(is_in_mount_table(Path::new("/proc")));
}

#[test]
fn ext4_works() {
    need_root!();
    works(&need!(Mount::ext4(32 * MIB)));
}

#[test]
fn the_loop_device_is_free_once_the_file_system_is_dropped() {
    need_root!();
    // With a name of its own: the number of an unnamed file's inode can come again at once.
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(32 * MIB).unwrap();
    let device = need!(LoopDevice::new(image.as_file()));
    let path = device.path().to_owned();
    assert_eq!(backing(&path).as_deref(), image.path().to_str());
    let mkfs = Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&path)
        .status();
    assert!(need!(mkfs).success());
    let mount = Mount::device("ext4", device).unwrap();
    works(&mount);
    drop(mount);
    // Free, or already somebody else's; soon, for the kernel takes a dropped mount apart in its own time.
    let end = Instant::now() + PATIENCE;
    while backing(&path).as_deref() == image.path().to_str() {
        assert!(Instant::now() < end, "the loop device is still there");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn xfs_works() {
    need_root!();
    works(&need!(Mount::xfs(320 * MIB)));
}

#[test]
fn btrfs_works() {
    need_root!();
    works(&need!(Mount::btrfs(128 * MIB)));
}

#[test]
fn the_path_leads_into_it() {
    need_root!();
    let mount = need!(Mount::tmpfs(MIB));
    let path: PathBuf = mount.path().join("f");
    std::fs::write(&path, b"here").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"here");
    drop(mount);
    assert!(std::fs::read(&path).is_err());
}

#[test]
fn a_tiny_tmpfs_takes_part_of_a_write_and_then_nothing() {
    need_root!();
    let mount = need!(Mount::tmpfs(4 * B));
    let file = mount.open("f", 0).unwrap();
    let mut driver = Driver::new(8).unwrap();
    for block in 0..4 {
        let write = driver.write(&file, block * B + 100, 1);
        assert_eq!(driver.submit(&[write]).unwrap(), 1);
    }
    // The last of the four reaches into a fifth page, which there is not.
    assert_eq!(driver.finish(), [4096, 4096, 4096, 4096 - 100]);
    let late = driver.write(&file, 8 * B, 1);
    assert_eq!(driver.submit(&[late]).unwrap(), 1);
    assert_eq!(driver.finish(), [-i64::from(libc::ENOSPC)]);
}

#[test]
fn a_filled_ext4_has_no_room_until_the_filler_goes() {
    need_root!();
    let mount = need!(Mount::ext4(16 * MIB));
    let filler = mount.fill().unwrap();
    let write = || -> io::Result<()> {
        let mut file = mount.open("f", 0)?;
        file.write_all(&vec![1; 1 << 20])?;
        file.sync_all()
    };
    assert_eq!(write().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    drop(filler);
    write().unwrap();
}

#[test]
fn a_frozen_file_system_still_reads_and_thaws() {
    need_root!();
    let _watchdog = Watchdog::new("freeze");
    let mount = need!(Mount::ext4(32 * MIB));
    let file = mount.file("f", 4 * BLOCK, libc::O_DIRECT).unwrap();
    let frozen = mount.freeze().unwrap();
    let mut driver = Driver::new(4).unwrap();
    let read = driver.read(&file, 0);
    assert_eq!(driver.submit(&[read]).unwrap(), 1);
    assert_eq!(driver.finish(), [4096]);
    assert_eq!(
        mount.freeze().unwrap_err().raw_os_error(),
        Some(libc::EBUSY)
    );
    frozen.thaw();
    works(&mount);
}

#[test]
fn tmpfs_cannot_be_frozen() {
    need_root!();
    let mount = need!(Mount::tmpfs(MIB));
    assert_eq!(
        mount.freeze().unwrap_err().raw_os_error(),
        Some(libc::EOPNOTSUPP)
    );
}
