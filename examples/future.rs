//! Many tasks on an executor of forty lines: sums a file block by block, with as many reads in flight as
//! there are tasks.
//!
//! `cargo run --release --example future [FILE]`. No runtime is needed: requests are futures that any
//! executor can poll. This one makes the context with `Dispatch::Manual` and, when no task can run, waits in
//! `Aio::poll`: the thread that runs the tasks takes their completions itself, and no other thread exists.

use kiocb::op::Read;
use kiocb::{Aio, AlignedBuf, Completion, DirectFile, Dispatch};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

const TASKS: u64 = 32;
const BLOCK: usize = 64 * 1024;

/// A task, or nothing while it runs and after it has ended.
type Task = RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>;

/// The tasks that can go on, by number. Wakers may be called on any thread, so it is shared.
type Ready = Arc<Mutex<VecDeque<usize>>>;

struct WakeTask {
    number: usize,
    ready: Ready,
}

impl Wake for WakeTask {
    fn wake(self: Arc<Self>) {
        self.ready
            .lock()
            .expect("no panic while locked")
            .push_back(self.number);
    }
}

/// Runs all tasks to their end.
fn run(aio: &Aio, tasks: Vec<Task>) -> io::Result<()> {
    let ready: Ready = Arc::new(Mutex::new((0..tasks.len()).collect()));
    let waker = |number| {
        Waker::from(Arc::new(WakeTask {
            number,
            ready: Arc::clone(&ready),
        }))
    };
    let wakers: Vec<Waker> = (0..tasks.len()).map(waker).collect();
    let mut left = tasks.len();
    while left > 0 {
        let next = ready.lock().expect("no panic while locked").pop_front();
        match next {
            Some(number) => left -= usize::from(is_over(&tasks[number], &wakers[number])),
            None => {
                aio.poll(1, usize::MAX, None)?;
            }
        }
    }
    Ok(())
}

fn is_over(task: &Task, waker: &Waker) -> bool {
    let mut slot = task.borrow_mut();
    let Some(running) = slot.as_mut() else {
        return false;
    };
    if running.as_mut().poll(&mut Context::from_waker(waker)) == Poll::Pending {
        return false;
    }
    *slot = None;
    true
}

/// What the tasks share: the file, the next block to read, the sum so far and the first error.
struct Shared {
    aio: Aio,
    file: Arc<DirectFile>,
    blocks: u64,
    next: Cell<u64>,
    sum: Cell<u64>,
    failed: RefCell<Option<io::Error>>,
}

/// Reads one block after the other until none is left.
async fn sum_blocks(shared: Rc<Shared>) {
    let mut buffer = shared.file.buffer(BLOCK);
    while shared.next.get() < shared.blocks && shared.failed.borrow().is_none() {
        let block = shared.next.replace(shared.next.get() + 1);
        match read_block(&shared, buffer, block).await {
            Ok(back) => buffer = back,
            Err(error) => {
                shared.failed.borrow_mut().get_or_insert(error);
                return;
            }
        }
    }
}

async fn read_block(shared: &Shared, buffer: AlignedBuf, block: u64) -> io::Result<AlignedBuf> {
    let request =
        shared
            .aio
            .alloc()
            .init_rw(Arc::clone(&shared.file), Read, buffer, block * BLOCK as u64);
    let Completion { result, buf, .. } = request.await?;
    let bytes = &buf[..result?];
    shared.sum.set(
        bytes
            .iter()
            .fold(shared.sum.get(), |sum, &byte| sum.wrapping_add(byte.into())),
    );
    Ok(buf)
}

fn main() -> io::Result<()> {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::current_exe, |path| Ok(path.into()))?;
    let file = DirectFile::options().read(true).open_or_buffered(&path)?;
    let aio = Aio::builder().dispatch(Dispatch::Manual).build()?;
    let blocks = file.len()?.div_ceil(BLOCK as u64);
    let shared = Rc::new(Shared {
        aio: aio.clone(),
        file: Arc::new(file),
        blocks,
        next: Cell::new(0),
        sum: Cell::new(0),
        failed: RefCell::new(None),
    });
    let task = |_| {
        RefCell::new(Some(
            Box::pin(sum_blocks(Rc::clone(&shared))) as Pin<Box<dyn Future<Output = ()>>>
        ))
    };
    run(&aio, (0..TASKS).map(task).collect())?;
    if let Some(error) = shared.failed.take() {
        return Err(error);
    }
    println!(
        "{}: {blocks} blocks of {} KiB, sum of all bytes {}",
        path.display(),
        BLOCK / 1024,
        shared.sum.get()
    );
    Ok(())
}
