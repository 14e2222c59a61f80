//! Where files, disks and permissions end: what is short, what is an errno, and where it appears.

mod kit;

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::sync::Arc;

use kiocb::buf::IoBufMut;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{Child, LoopDevice, Mount, limit_file_size, need, need_root};
use kit::*;

/// A write of `len` bytes of `byte`: how many were written.
fn write_at(aio: &Aio, file: &Arc<File>, len: usize, byte: u8, offset: u64) -> io::Result<usize> {
    let buf = AlignedBuf::from(&vec![byte; len][..]);
    aio.alloc()
        .init_rw(Arc::clone(file), Write, buf, offset)
        .wait()
        .unwrap()
        .result
}

/// A read of `len` bytes: what came.
fn read_at(aio: &Aio, file: &Arc<File>, len: usize, offset: u64) -> io::Result<Vec<u8>> {
    let buf = AlignedBuf::zeroed(len);
    let done = aio
        .alloc()
        .init_rw(Arc::clone(file), Read, buf, offset)
        .wait()
        .unwrap();
    done.result.map(|count| done.buf[..count].to_vec())
}

#[test]
fn a_full_tmpfs_writes_what_fits_and_then_says_enospc() {
    need_root!();
    let mount = need!(Mount::tmpfs(8 * B));
    let file = Arc::new(mount.open("f", 0).unwrap());
    let aio = aio(4);
    assert_eq!(write_at(&aio, &file, 6 * BLOCK, 1, 0).unwrap(), 6 * BLOCK);
    let rest = write_at(&aio, &file, 6 * BLOCK, 2, 6 * B).unwrap();
    assert!(rest < 6 * BLOCK, "{rest} bytes where two blocks were left");
    let full = write_at(&aio, &file, BLOCK, 3, 6 * B + rest as u64);
    assert_eq!(errno(&full), Some(libc::ENOSPC));
    // What was there is there, and the file can still be read and overwritten.
    assert_eq!(
        read_at(&aio, &file, 12 * BLOCK, 0).unwrap().len(),
        6 * BLOCK + rest
    );
    assert_eq!(write_at(&aio, &file, BLOCK, 9, 0).unwrap(), BLOCK);
}

#[test]
fn a_full_ext4_says_enospc_and_spares_the_neighbours() {
    need_root!();
    let mount = need!(Mount::ext4(16 << 20));
    let there = Arc::new(mount.file("there", 4 * BLOCK, libc::O_DIRECT).unwrap());
    let late = Arc::new(mount.open("late", libc::O_DIRECT).unwrap());
    let _filler = mount.fill().unwrap();
    let aio = aio(4);
    let writes = [(&there, 0), (&late, 1), (&there, 2)]
        .map(|(file, block)| write(&aio, file, block, 5).start().unwrap());
    let [first, full, last] = writes.map(|pending| pending.wait().result);
    assert_eq!((first.unwrap(), last.unwrap()), (BLOCK, BLOCK));
    assert_eq!(errno(&full), Some(libc::ENOSPC));
}

#[test]
fn a_disk_whose_file_was_cut_says_eio_beyond_the_cut() {
    need_root!();
    let backing = tempfile::tempfile().unwrap();
    backing.set_len(1 << 20).unwrap();
    let device = need!(LoopDevice::new(&backing));
    let disk = Arc::new(device.open(libc::O_DIRECT).unwrap());
    backing.set_len(512 << 10).unwrap();
    let aio = aio(4);
    assert_eq!(read_at(&aio, &disk, BLOCK, 0).unwrap(), [0; BLOCK]);
    assert_eq!(
        errno(&read_at(&aio, &disk, BLOCK, 768 << 10)),
        Some(libc::EIO)
    );
    assert_eq!(read_at(&aio, &disk, BLOCK, 256 << 10).unwrap(), [0; BLOCK]);
}

#[test]
fn at_the_end_of_a_device_reads_end_and_writes_find_no_space() {
    need_root!();
    let backing = tempfile::tempfile().unwrap();
    backing.set_len(16 * B).unwrap();
    let device = need!(LoopDevice::new(&backing));
    let disk = Arc::new(device.open(libc::O_DIRECT).unwrap());
    let aio = aio(4);
    assert_eq!(
        write_at(&aio, &disk, 4 * BLOCK, 7, 14 * B).unwrap(),
        2 * BLOCK
    );
    assert_eq!(
        read_at(&aio, &disk, 4 * BLOCK, 14 * B).unwrap(),
        [7; 2 * BLOCK]
    );
    assert_eq!(read_at(&aio, &disk, BLOCK, 16 * B).unwrap(), []);
    assert_eq!(
        errno(&write_at(&aio, &disk, BLOCK, 7, 16 * B)),
        Some(libc::ENOSPC)
    );
}

#[test]
fn beyond_the_end_of_a_file_there_is_nothing() {
    let aio = aio(4);
    let file = Arc::new(tempfile::tempfile().unwrap());
    assert_eq!(write_at(&aio, &file, 100, 1, 0).unwrap(), 100);
    assert_eq!(read_at(&aio, &file, BLOCK, 60).unwrap(), [1; 40]);
    assert_eq!(read_at(&aio, &file, BLOCK, 100).unwrap(), []);
    assert_eq!(read_at(&aio, &file, BLOCK, 1 << 40).unwrap(), []);
    // Longer now: the same read sees it.
    assert_eq!(write_at(&aio, &file, 100, 2, 100).unwrap(), 100);
    assert_eq!(read_at(&aio, &file, BLOCK, 100).unwrap(), [2; 100]);
    assert_eq!(write_at(&aio, &file, 0, 0, 5).unwrap(), 0);
    assert_eq!(read_at(&aio, &file, 0, 5).unwrap(), []);
}

#[test]
fn a_sealed_memfd_says_eperm() {
    // SAFETY: a C string, and a descriptor that nobody else has.
    let file = unsafe {
        let fd = libc::memfd_create(
            c"sealed".as_ptr(),
            libc::MFD_ALLOW_SEALING | libc::MFD_CLOEXEC,
        );
        assert!(fd >= 0);
        File::from_raw_fd(fd)
    };
    let file = Arc::new(file);
    let aio = aio(4);
    assert_eq!(write_at(&aio, &file, 10, 1, 0).unwrap(), 10);
    // SAFETY: integers only.
    let sealed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE) };
    assert_eq!(sealed, 0);
    assert_eq!(errno(&write_at(&aio, &file, 10, 2, 0)), Some(libc::EPERM));
    assert_eq!(read_at(&aio, &file, 20, 0).unwrap(), [1; 10]);
}

#[test]
fn past_the_limit_of_file_sizes_a_write_is_cut_and_then_efbig() {
    Child::of("past_the_limit_of_file_sizes_a_write_is_cut_and_then_efbig")
        .run(|| {
            let aio = aio(4);
            let file = Arc::new(tempfile::tempfile().unwrap());
            limit_file_size(2 * B);
            assert_eq!(write_at(&aio, &file, 4 * BLOCK, 1, 0).unwrap(), 2 * BLOCK);
            assert_eq!(
                errno(&write_at(&aio, &file, BLOCK, 1, 2 * B)),
                Some(libc::EFBIG)
            );
            assert_eq!(read_at(&aio, &file, 4 * BLOCK, 0).unwrap(), [1; 2 * BLOCK]);
        })
        .success();
}

#[test]
fn a_write_past_the_file_size_limit_kills_unless_sigxfsz_is_ignored() {
    let exit =
        Child::of("a_write_past_the_file_size_limit_kills_unless_sigxfsz_is_ignored").run(|| {
            let aio = aio(4);
            let file = Arc::new(tempfile::tempfile().unwrap());
            limit_file_size(B);
            // As a program has it that has not heard of the signal.
            // SAFETY: the default action runs no code of ours.
            unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
            let _ = write_at(&aio, &file, BLOCK, 1, B);
        });
    exit.killed_by(libc::SIGXFSZ);
}

#[test]
fn misaligned_direct_io_is_einval_as_a_result_and_spares_the_neighbours() {
    need_root!();
    let mount = need!(Mount::ext4(16 << 20));
    let file = Arc::new(mount.file("f", 8 * BLOCK, libc::O_DIRECT).unwrap());
    let aio = aio(8);
    let good = write(&aio, &file, 0, 1).start().unwrap();
    let odd_offset = aio
        .alloc()
        .init_rw(Arc::clone(&file), Read, AlignedBuf::zeroed(BLOCK), 100)
        .start()
        .unwrap();
    let odd_length = aio
        .alloc()
        .init_rw(Arc::clone(&file), Read, AlignedBuf::zeroed(100), 0)
        .start()
        .unwrap();
    let odd_address = AlignedBuf::zeroed(2 * BLOCK).buf_slice_mut(1..BLOCK + 1);
    let odd_address = aio
        .alloc()
        .init_rw(Arc::clone(&file), Read, odd_address, 0)
        .start()
        .unwrap();
    let also_good = write(&aio, &file, 1, 2).start().unwrap();
    assert_eq!(errno(&odd_offset.wait().result), Some(libc::EINVAL));
    assert_eq!(errno(&odd_length.wait().result), Some(libc::EINVAL));
    // The device decides about addresses: some take any.
    let odd_address = odd_address.wait().result;
    assert!(odd_address.is_ok() || errno(&odd_address) == Some(libc::EINVAL));
    assert_eq!(
        (
            good.wait().result.unwrap(),
            also_good.wait().result.unwrap()
        ),
        (BLOCK, BLOCK)
    );
}
