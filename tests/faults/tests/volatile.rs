//! The disk that forgets, by kernel AIO: a log that syncs loses nothing, and one that does not is found out.

mod kit;

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use kiocb::op::Write;
use kiocb::{Aio, AlignedBuf, RwFlags, SyncGroup};
use kiocb_faults::raw::BLOCK;
use kiocb_faults::{VolatileFs, Watchdog, need, need_root};
use kit::*;

/// How a log makes a record durable before it counts as acknowledged.
#[derive(Clone, Copy, Debug)]
enum Durable {
    BySync,
    ByFlag,
    ByCommit,
    /// The sync is asked for while the write is in flight.
    ByEarlySync,
    NotAtAll,
}

const RECORDS: u64 = 16;

/// A file with its length and name on the medium, so that no write changes more than its block.
fn log(fs: &VolatileFs, round: u64) -> Arc<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true);
    let file = options
        .custom_flags(libc::O_DIRECT)
        .open(fs.path().join(format!("log-{round}")))
        .unwrap();
    file.set_len(RECORDS * B).unwrap();
    file.sync_all().unwrap();
    File::open(fs.path()).unwrap().sync_all().unwrap();
    Arc::new(file)
}

/// Appends one record; its block is full of its number.
fn append(aio: &Aio, log: &Arc<File>, number: u64, durable: Durable) -> std::io::Result<()> {
    let record = AlignedBuf::from(&[number as u8 + 1; BLOCK]);
    match durable {
        Durable::BySync => {
            aio.write_all_at(log, &record, number * B)?;
            aio.fdatasync(log)
        }
        Durable::ByFlag => {
            let durably = aio.with(RwFlags::DSYNC);
            durably.write_all_at(log, &record, number * B)
        }
        Durable::ByCommit => {
            let group = SyncGroup::from_arc(aio, Arc::clone(log));
            Ok(group.commit(record, number * B).wait().map(drop)?)
        }
        Durable::ByEarlySync => {
            let write = aio.alloc();
            let write = write.init_rw(Arc::clone(log), Write, record, number * B);
            let write = write.start()?;
            aio.fdatasync(log)?;
            write.wait().ok()?;
            Ok(())
        }
        Durable::NotAtAll => aio.write_all_at(log, &record, number * B),
    }
}

/// Appends until the power fails or the log is full, and counts the records that were acknowledged.
fn append_all(aio: &Aio, log: &Arc<File>, durable: Durable, acknowledged: &AtomicU64) {
    let mut numbers = 0..RECORDS;
    while let Some(number) = numbers.next()
        && append(aio, log, number, durable).is_ok()
    {
        acknowledged.fetch_add(1, Relaxed);
    }
}

/// How many records of a log are there, from the first on.
fn count(log: &File) -> u64 {
    let mut block = AlignedBuf::zeroed(BLOCK);
    let mut is_there = |number: u64| {
        log.read_exact_at(&mut block, number * B).unwrap();
        block.iter().all(|&byte| u64::from(byte) == number + 1)
    };
    (0..RECORDS).take_while(|&number| is_there(number)).count() as u64
}

/// Rounds of appending until the power fails; returns the first that lost an acknowledged record.
fn first_loss(fs: &mut VolatileFs, durable: Durable, rounds: u64) -> Option<u64> {
    let mut random = Random(rounds);
    let aio = Aio::builder().depth(8).build().unwrap();
    (0..rounds).find(|&round| {
        let log = log(fs, round);
        let (acknowledged, enough) = (AtomicU64::new(0), random.roll(RECORDS));
        std::thread::scope(|scope| {
            scope.spawn(|| append_all(&aio, &log, durable, &acknowledged));
            while acknowledged.load(Relaxed) < enough {
                std::thread::yield_now();
            }
            fs.cut();
        });
        fs.restore();
        let is_loss = count(&log) < acknowledged.into_inner();
        drop(log);
        std::fs::remove_file(fs.path().join(format!("log-{round}"))).unwrap();
        is_loss
    })
}

#[test]
fn a_log_that_makes_its_records_durable_loses_none() {
    need_root!();
    let _watchdog = Watchdog::new("durable logs");
    for durable in [Durable::BySync, Durable::ByFlag, Durable::ByCommit] {
        let mut fs = need!(VolatileFs::new(17));
        assert_eq!(first_loss(&mut fs, durable, 100), None, "{durable:?}");
    }
}

#[test]
fn a_log_that_does_not_is_found_out_within_a_hundred_power_cuts() {
    need_root!();
    let _watchdog = Watchdog::new("logs without syncs");
    for durable in [Durable::NotAtAll, Durable::ByEarlySync] {
        let mut fs = need!(VolatileFs::new(18));
        let lost = first_loss(&mut fs, durable, 100);
        assert!(lost.is_some(), "{durable:?}");
    }
}

#[test]
fn without_power_every_request_fails() {
    need_root!();
    let _watchdog = Watchdog::new("requests without power");
    let mut fs = need!(VolatileFs::new(19));
    let aio = aio(4);
    let log = log(&fs, 0);
    fs.cut();
    let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
    let mut block = AlignedBuf::zeroed(BLOCK);
    assert_eq!(errno(aio.write_all_at(&log, &block, 0)), Some(libc::EIO));
    assert_eq!(
        errno(aio.read_exact_at(&log, &mut block, 0)),
        Some(libc::EIO)
    );
    assert_eq!(errno(aio.fdatasync(&log)), Some(libc::EIO));
    assert_eq!(
        errno(File::open(fs.path().join("log-0")).map(drop)),
        Some(libc::EIO)
    );
    fs.restore();
    aio.read_exact_at(&log, &mut block, 0).unwrap();
}
