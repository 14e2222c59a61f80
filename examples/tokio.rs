//! Inside tokio: tasks that await direct reads beside everything else that they await.
//!
//! `cargo run --release --example tokio [FILE]`. A request is a future like any other: the completion thread
//! wakes the task, and where the result is there at once the first poll has it. Dropping a task half-way is
//! safe: the request keeps its buffer and file until the kernel is done. So `timeout` and `select!` do what
//! they do with any other future. The context ends without blocking a thread of the runtime.
//!
//! Here sixteen tasks share the blocks of a file and look for its longest run of zero bytes within one block,
//! for as long as `BOUND`.

use kiocb::op::Read;
use kiocb::{Aio, DirectFile};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const TASKS: usize = 16;
const BLOCK: usize = 64 * 1024;
/// How long all reads may take, and one of them.
const BOUND: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(2);

/// Reads blocks until none is left; the longest run of zeros in any of them.
async fn longest_run(aio: Aio, file: Arc<DirectFile>, next: Arc<AtomicU64>) -> io::Result<usize> {
    let blocks = file.len()?.div_ceil(BLOCK as u64);
    let (mut buffer, mut longest) = (file.buffer(BLOCK), 0);
    loop {
        let block = next.fetch_add(1, Ordering::Relaxed);
        if block >= blocks {
            return Ok(longest);
        }
        let request = aio
            .alloc()
            .init_rw(Arc::clone(&file), Read, buffer, block * BLOCK as u64);
        // Past its time the buffer is not lost: the request owns it until the kernel is done.
        let done = timeout(PATIENCE, request)
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let runs = done.buf[..done.result?]
            .split(|&byte| byte != 0)
            .map(<[u8]>::len);
        longest = runs.fold(longest, usize::max);
        buffer = done.buf;
    }
}

/// The longest of all runs that were found before the time is over.
async fn search(aio: &Aio, file: DirectFile) -> io::Result<usize> {
    let (file, next) = (Arc::new(file), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(longest_run(
            aio.clone(),
            Arc::clone(&file),
            Arc::clone(&next),
        ));
    }
    let (mut longest, mut over) = (0, std::pin::pin!(sleep(BOUND)));
    loop {
        tokio::select! {
            found = tasks.join_next() => match found {
                Some(found) => longest = longest.max(found??),
                None => return Ok(longest),
            },
            // Here the other tasks are dropped, with requests in flight.
            () = &mut over => return Ok(longest),
        }
    }
}

async fn run(path: std::path::PathBuf) -> io::Result<()> {
    let file = DirectFile::options().read(true).open_or_buffered(&path)?;
    let aio = Aio::builder().build()?;
    let longest = search(&aio, file).await?;
    println!(
        "{}: the longest run of zeros is {longest} bytes",
        path.display()
    );
    // A drop would block this thread. If the device hangs, the end goes on in the background.
    let ended = timeout(PATIENCE, aio.shutdown_async()).await;
    if ended.is_err() {
        eprintln!("requests are left behind");
    }
    ended.unwrap_or(Ok(()))
}

fn main() -> io::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::current_exe, |path| Ok(path.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()?;
    runtime.block_on(run(path))
}
