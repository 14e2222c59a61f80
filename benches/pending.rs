//! A million requests pending at once: what each costs in memory, and whether the queue slows the rest down.
//!
//! `cargo bench --bench pending`. Prints bytes per pending request (resident memory, beside its buffer), and
//! reads per second with a million queued against the same reads with no more than the kernel's slots. Every
//! read is checked.

use kiocb::op::Read;
use kiocb::{Aio, Dispatch};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MANY: u64 = 1_000_000;
const DEPTH: u32 = 128;
/// Small, so that the requests and not the buffers are what is measured; in the request itself, so that there
/// is no allocation beside it.
const BYTES: usize = 8;

fn main() -> io::Result<()> {
    let file = Arc::new(numbers()?);
    let per_request = memory_of_pending(&file)?;
    println!("memory: {per_request:.0} bytes per pending request, of which {BYTES} are its buffer");
    // In turn, so that a machine that changes its mind changes it for both.
    let mut ratios = Vec::new();
    for _ in 0..5 {
        let (queued, bounded) = (queued(&file)?, bounded(&file)?);
        println!(
            "a million at once: {:>9.0} /s   {DEPTH} at once: {:>9.0} /s",
            queued, bounded
        );
        ratios.push(queued / bounded);
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratio: {:.2} (median of 5)", ratios[2]);
    Ok(())
}

/// A file in memory that holds its own offsets.
fn numbers() -> io::Result<File> {
    use std::os::unix::fs::FileExt;
    let file = tempfile::tempfile_in(if std::path::Path::new("/dev/shm").is_dir() {
        "/dev/shm"
    } else {
        "."
    })?;
    let all: Vec<u8> = (0..MANY).flat_map(u64::to_le_bytes).collect();
    file.write_all_at(&all, 0)?;
    Ok(file)
}

/// Submits the reads `from..to`, whose callbacks check what came.
fn submit(
    aio: &Aio,
    file: &Arc<File>,
    range: std::ops::Range<u64>,
    right: &Arc<AtomicU64>,
) -> io::Result<()> {
    for number in range {
        let right = Arc::clone(right);
        aio.alloc()
            .init_rw(Arc::clone(file), Read, [0; BYTES], number * BYTES as u64)
            .init_callback(move |done| {
                assert!(
                    done.result.is_ok_and(|count| count == BYTES)
                        && u64::from_le_bytes(done.buf) == number
                );
                right.fetch_add(1, Ordering::Relaxed);
            })
            .submit()?;
    }
    Ok(())
}

/// Nobody polls while they are submitted, so all but the kernel's share is pending when the memory is read.
fn memory_of_pending(file: &Arc<File>) -> io::Result<f64> {
    let aio = Aio::builder()
        .depth(DEPTH)
        .dispatch(Dispatch::Manual)
        .build()?;
    let right = Arc::new(AtomicU64::new(0));
    let before = resident()?;
    submit(&aio, file, 0..MANY, &right)?;
    let after = resident()?;
    assert_eq!(aio.stats().queued + aio.stats().in_flight, MANY);
    aio.drain()?;
    assert_eq!(right.load(Ordering::Relaxed), MANY);
    Ok((after - before) as f64 / MANY as f64)
}

/// All at once; the time runs until the last callback has returned.
fn queued(file: &Arc<File>) -> io::Result<f64> {
    per_second(|aio, right| submit(aio, file, 0..MANY, right))
}

/// The same, but never more outstanding than the kernel has slots.
fn bounded(file: &Arc<File>) -> io::Result<f64> {
    per_second(|aio, right| {
        for first in (0..MANY).step_by(DEPTH as usize) {
            submit(aio, file, first..MANY.min(first + u64::from(DEPTH)), right)?;
            aio.poll(usize::MAX, usize::MAX, Some(Duration::from_secs(60)))?;
        }
        Ok(())
    })
}

fn per_second(work: impl FnOnce(&Aio, &Arc<AtomicU64>) -> io::Result<()>) -> io::Result<f64> {
    let aio = Aio::builder()
        .depth(DEPTH)
        .dispatch(Dispatch::Manual)
        .build()?;
    let right = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    work(&aio, &right)?;
    aio.drain()?;
    let took = began.elapsed();
    assert_eq!(right.load(Ordering::Relaxed), MANY);
    Ok(MANY as f64 / took.as_secs_f64())
}

/// Bytes of memory that this process has.
fn resident() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * 4096)
}
