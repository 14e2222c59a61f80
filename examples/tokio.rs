//! Inside tokio: tasks that await direct reads beside everything else that they await.
//!
//! `cargo run --release --example tokio [FILE]`. A request is a future like any other: the completion thread
//! wakes the task, and where the result is there at once the first poll has it. Dropping a task half-way is
//! safe: the request keeps its buffer and file until the kernel is done. Here sixteen tasks share the blocks
//! of a file and look for its longest run of zero bytes within one block.

use kiocb::op::Read;
use kiocb::{Aio, DirectFile};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

const TASKS: usize = 16;
const BLOCK: usize = 64 * 1024;

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
        let done = request.await?;
        let runs = done.buf[..done.result?]
            .split(|&byte| byte != 0)
            .map(<[u8]>::len);
        longest = runs.fold(longest, usize::max);
        buffer = done.buf;
    }
}

async fn search(path: std::path::PathBuf) -> io::Result<()> {
    let file = Arc::new(DirectFile::options().read(true).open_or_buffered(&path)?);
    let (aio, next) = (Aio::global()?, Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(longest_run(
            aio.clone(),
            Arc::clone(&file),
            Arc::clone(&next),
        ));
    }
    let mut longest = 0;
    while let Some(found) = tasks.join_next().await {
        longest = longest.max(found??);
    }
    println!(
        "{}: the longest run of zeros is {longest} bytes",
        path.display()
    );
    Ok(())
}

fn main() -> io::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::current_exe, |path| Ok(path.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(search(path))
}
