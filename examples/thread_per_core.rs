//! One engine per core: each thread is pinned, has a context of its own and a loop of its own around
//! `Aio::poll`. No other thread exists.
//!
//! `cargo run --release --example thread_per_core [FILE]`. The file is divided among the cores; each counts
//! the zero bytes of its part with sixteen reads in flight, whose callbacks run inside `poll`, on the core
//! that asked.

use kiocb::op::Read;
use kiocb::{Aio, AlignedBuf, DirectFile, Dispatch};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::thread;

const BLOCK: usize = 64 * 1024;
const DEPTH: u32 = 16;

/// What one core has to do.
struct Core {
    aio: Aio,
    file: Arc<DirectFile>,
    left: RefCell<Range<u64>>,
}

/// What comes out of it. Only the core's own thread touches it: the lock is never waited for.
#[derive(Clone, Default)]
struct Totals {
    zeros: u64,
    failed: Option<String>,
}

/// Reads the next block of this core's part; the callback goes on with the next one.
fn read_next(
    core: &Core,
    totals: &Arc<Mutex<Totals>>,
    landed: &Landed,
    buffer: AlignedBuf,
) -> io::Result<()> {
    let Some(block) = core.left.borrow_mut().next() else {
        return Ok(());
    };
    let (totals, landed) = (Arc::clone(totals), Arc::clone(landed));
    core.aio
        .alloc()
        .init_rw(Arc::clone(&core.file), Read, buffer, block * BLOCK as u64)
        .init_callback(move |done| {
            let mut totals = totals.lock().expect("no panic while locked");
            match done.result {
                Ok(count) => {
                    totals.zeros +=
                        done.buf[..count].iter().filter(|&&byte| byte == 0).count() as u64
                }
                Err(error) => totals.failed = Some(format!("block {block}: {error}")),
            }
            landed.lock().expect("no panic while locked").push(done.buf);
        })
        .submit()?;
    Ok(())
}

/// Buffers whose reads are done, for the loop to use again.
type Landed = Arc<Mutex<Vec<AlignedBuf>>>;

/// The loop of one core: poll, then submit as many reads as have landed.
fn run(core: &Core) -> io::Result<Totals> {
    let (totals, landed) = (Arc::new(Mutex::new(Totals::default())), Landed::default());
    for _ in 0..DEPTH {
        read_next(core, &totals, &landed, core.file.buffer(BLOCK))?;
    }
    while core.aio.poll(1, usize::MAX, None)? > 0 {
        let buffers = std::mem::take(&mut *landed.lock().expect("no panic while locked"));
        for buffer in buffers {
            read_next(core, &totals, &landed, buffer)?;
        }
    }
    let totals = totals.lock().expect("no panic while locked").clone();
    Ok(totals)
}

fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

fn main() -> io::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::current_exe, |path| Ok(path.into()))?;
    let file = Arc::new(DirectFile::options().read(true).open_or_buffered(&path)?);
    let blocks = file.len()?.div_ceil(BLOCK as u64);
    let cores = thread::available_parallelism()?.get() as u64;
    let part = |core: u64| blocks * core / cores..blocks * (core + 1) / cores;
    let threads: Vec<_> = (0..cores)
        .map(|index| {
            let (file, left) = (Arc::clone(&file), part(index));
            thread::spawn(move || {
                if let Err(error) = pin_to(usize::try_from(index).expect("a processor's number")) {
                    eprintln!("not pinned to processor {index}: {error}");
                }
                let aio = Aio::builder()
                    .depth(DEPTH)
                    .dispatch(Dispatch::Manual)
                    .build()?;
                run(&Core {
                    aio,
                    file,
                    left: RefCell::new(left),
                })
            })
        })
        .collect();
    let mut zeros = 0;
    for (index, thread) in threads.into_iter().enumerate() {
        let totals = thread.join().expect("a core's loop does not panic")?;
        if let Some(failed) = totals.failed {
            return Err(io::Error::other(failed));
        }
        println!(
            "core {index}: {} zero bytes in blocks {:?}",
            totals.zeros,
            part(index as u64)
        );
        zeros += totals.zeros;
    }
    println!("{}: {zeros} zero bytes", path.display());
    Ok(())
}
