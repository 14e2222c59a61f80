//! Disks that fail, fill up, are slow or are cut into large blocks, and file systems on them.

mod kit;

use std::sync::Arc;
use std::sync::mpsc::channel;

use kiocb::op::Read;
use kiocb::{AlignedBuf, DirectFile, SyncGroup, SyncKind};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{
    ControlGroup, LoopDevice, Mount, Op, SlowFs, Watchdog, in_child, need, need_root,
    wait_until_asleep_in,
};
use kit::*;

/// Reserves nearly all the room that there is; it is free again when the file, which has no name, is dropped.
fn reserve(mount: &Mount) -> DirectFile {
    let file = mount.open("reserved", libc::O_DIRECT).unwrap();
    std::fs::remove_file(mount.path().join("reserved")).unwrap();
    let (file, mut length) = (DirectFile::from_file(file).unwrap(), 0);
    for step in [64 << 20, 4 << 20, 256 << 10, 16 << 10, 4 << 10] {
        while file.preallocate(length + step).is_ok() {
            length += step;
        }
    }
    file
}

fn fill_up(mount: &Mount) {
    let there = Arc::new(mount.file("there", 4 * BLOCK, libc::O_DIRECT).unwrap());
    let late = Arc::new(mount.open("late", libc::O_DIRECT).unwrap());
    let filler = (reserve(mount), mount.fill().unwrap());
    let aio = aio(4);
    // Btrfs, which copies on write, may have no room for old blocks either, and some for a few new ones.
    let fails = (0..).map(|block| write(&aio, &late, block, 5).wait().unwrap());
    let fails = fails.take(4096).find_map(|done| done.result.err());
    let fails = fails.expect("no room").raw_os_error();
    assert_eq!(fails, Some(libc::ENOSPC));
    assert_eq!(read(&aio, &there, 2).wait().unwrap().result.unwrap(), BLOCK);
    drop(filler);
    wait_until("there is room again", || {
        write(&aio, &there, 1, 6).wait().unwrap().result.is_ok()
    });
}

#[test]
fn full_file_systems_say_enospc_and_go_on_when_there_is_room() {
    need_root!();
    let _watchdog = Watchdog::new("full file systems");
    fill_up(&need!(Mount::xfs(300 << 20)));
    fill_up(&need!(Mount::btrfs(128 << 20)));
}

/// The image of the disk has no room, and the disk knows nothing of it.
#[test]
fn a_disk_whose_image_has_no_room_fails_the_request_alone() {
    need_root!();
    let mount = need!(Mount::tmpfs(16 * B));
    let image = mount.open("image", 0).unwrap();
    image.set_len(64 * B).unwrap();
    let device = need!(LoopDevice::new(&image));
    let disk = Arc::new(device.open(libc::O_DIRECT).unwrap());
    let aio = aio(64);
    let writes = (0..64).map(|block| write(&aio, &disk, block, 5).start().unwrap());
    let writes: Vec<_> = writes.collect();
    let results: Vec<_> = writes
        .into_iter()
        .map(|write| write.wait().result)
        .collect();
    let failed = results.iter().filter(|result| result.is_err());
    let codes: Vec<_> = failed.map(errno).collect();
    assert!((48..64).contains(&codes.len()), "{codes:?}");
    let is_meant = |code: &Option<i32>| matches!(code, Some(libc::ENOSPC | libc::EIO));
    assert!(codes.iter().all(is_meant), "{codes:?}");
}

#[test]
fn a_disk_of_large_blocks_refuses_small_requests_as_their_results() {
    need_root!();
    let image = tempfile::tempfile().unwrap();
    image.set_len(64 * B).unwrap();
    let device = need!(LoopDevice::with_block_size(&image, 4096));
    let disk = DirectFile::from_file(device.open(libc::O_DIRECT).unwrap()).unwrap();
    assert_eq!(disk.offset_alignment(), 4096);
    let (disk, aio) = (Arc::new(disk), aio(4));
    for (length, offset) in [(512, 0), (4096, 512)] {
        let memory = AlignedBuf::zeroed(length);
        let request = aio.alloc().init_rw(Arc::clone(&disk), Read, memory, offset);
        let done = request.wait().unwrap();
        assert_eq!(errno(&done.result), Some(libc::EINVAL));
    }
    let request = aio
        .alloc()
        .init_rw(Arc::clone(&disk), Read, disk.buffer(4096), 4096);
    assert_eq!(request.wait().unwrap().result.unwrap(), 4096);
}

#[test]
fn a_file_on_a_failing_disk_fails_its_writes_syncs_and_barriers() {
    need_root!();
    let _watchdog = Watchdog::new("a failing disk");
    let (fs, _mount, file) = need!(ext4_on_a_slow_disk());
    let aio = aio(4);
    assert_eq!(
        write(&aio, &file, 0, 5).wait().unwrap().result.unwrap(),
        BLOCK
    );
    let group = SyncGroup::from_arc(&aio, Arc::clone(&file));
    group.sync(SyncKind::All).wait().unwrap();
    fs.on_any().fail(libc::EIO);
    let failed = write(&aio, &file, 1, 5).wait().unwrap();
    assert_eq!(errno(&failed.result), Some(libc::EIO));
    let commit = group.commit(AlignedBuf::from(&[6; BLOCK]), 2 * B).wait();
    assert_eq!(commit.unwrap_err().errno(), Some(libc::EIO));
    assert!(
        group.sync(SyncKind::Data).wait().is_err(),
        "the error stays"
    );
    let failed = read(&aio, &file, 3).wait().unwrap();
    assert_eq!(errno(&failed.result), Some(libc::EIO));
    fs.forget_rules();
    let done = read(&aio, &file, 0).wait().unwrap();
    assert!(done.buf.iter().all(|&byte| byte == 5));
}

/// A disk takes so many requests at once, and a submission of more waits inside `io_submit`.
#[test]
fn a_submitter_blocked_by_a_full_device_is_alone_with_that() {
    need_root!();
    let _watchdog = Watchdog::new("a full device");
    let fs = need!(SlowFs::new());
    let backing = fs.file("disk", vec![0; 1 << 20]);
    let device = need!(LoopDevice::new(&backing));
    let disk = Arc::new(device.open(libc::O_DIRECT).unwrap());
    let gate = fs.on(Op::Read).hold();
    let (aio, (done, completions)) = (aio(1024), channel());
    let submitter = Worker::start({
        let (aio, disk) = (aio.clone(), Arc::clone(&disk));
        move || (0..600).for_each(|number| read_to(&aio, &disk, number % 256, &done))
    });
    wait_until_asleep_in(submitter.thread, libc::SYS_io_submit);
    let others = Arc::new(tempfile::tempfile().unwrap());
    assert_eq!(
        write(&aio, &others, 0, 7).wait().unwrap().result.unwrap(),
        BLOCK
    );
    gate.release();
    submitter.join();
    for _ in 0..600 {
        assert_eq!(receive(&completions).result.unwrap(), BLOCK);
    }
}

/// The kernel's throttle holds requests of a real disk in flight.
#[test]
fn a_throttled_disk_answers_each_request_once() {
    need_root!();
    in_child("a_throttled_disk_answers_each_request_once", || {
        let _watchdog = Watchdog::new("a throttled disk");
        let image = tempfile::tempfile().unwrap();
        image.set_len(64 * B).unwrap();
        let device = need!(LoopDevice::new(&image));
        let file = "blkio.throttle.read_iops_device";
        let group = need!(ControlGroup::new(&["/sys/fs/cgroup/blkio"], file));
        let number =
            std::os::linux::fs::MetadataExt::st_rdev(&std::fs::metadata(device.path()).unwrap());
        let (major, minor) = (libc::major(number), libc::minor(number));
        group.set(file, &format!("{major}:{minor} 40"));
        let disk = Arc::new(device.open(libc::O_DIRECT).unwrap());
        group.enter();
        let (aio, (done, completions)) = (aio(16), channel());
        (0..16).for_each(|block| read_to(&aio, &disk, block, &done));
        for _ in 0..16 {
            assert_eq!(receive(&completions).result.unwrap(), BLOCK);
        }
        aio.drain().unwrap();
        group.leave();
        assert_eq!(aio.stats().completed, 16);
    })
    .success();
}
