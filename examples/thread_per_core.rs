//! One engine per core: each thread is pinned, has a context of its own and a loop of its own. No other
//! thread exists, and nothing is shared, locked or counted across threads.
//!
//! `cargo run --release --example thread_per_core [FILE]`. The file is divided among the cores; each counts
//! the zero bytes of its part with sixteen reads in flight. Their completions come out of a queue, as values,
//! on the core that asked. Tags and callbacks of a `LocalAio` need not be `Send`: the cores' totals are in an
//! `Rc`.

use kiocb::op::{Read, Rw};
use kiocb::{Aio, AlignedBuf, DirectFile, LocalAio, Queue};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

const BLOCK: usize = 64 * 1024;
const DEPTH: u32 = 16;

/// What one core has to do.
struct Core {
    aio: LocalAio,
    queue: Queue<Block, Rw<Arc<DirectFile>, Read, AlignedBuf>>,
    left: RefCell<Range<u64>>,
    zeros: Rc<Cell<u64>>,
}

/// The tag of a read: which block it is, and where its zero bytes are counted.
struct Block {
    number: u64,
    zeros: Rc<Cell<u64>>,
}

impl Block {
    fn count(&self, bytes: &[u8]) {
        let zeros = bytes.iter().filter(|&&byte| byte == 0).count() as u64;
        self.zeros.set(self.zeros.get() + zeros);
    }
}

impl Core {
    fn new(left: Range<u64>) -> io::Result<Core> {
        let aio = Aio::builder().depth(DEPTH).build_local()?;
        let queue = aio.queue();
        let zeros = Rc::default();
        Ok(Core {
            aio,
            queue,
            left: RefCell::new(left),
            zeros,
        })
    }

    /// Reads the next block of this core's part, if one is left.
    fn read_next(&self, file: Arc<DirectFile>, buffer: AlignedBuf) -> io::Result<()> {
        let Some(number) = self.left.borrow_mut().next() else {
            return Ok(());
        };
        let offset = number * BLOCK as u64;
        let read = self.aio.alloc().init_rw(file, Read, buffer, offset);
        let zeros = Rc::clone(&self.zeros);
        Ok(self.queue.push(read, Block { number, zeros })?)
    }

    /// The loop: what is complete is counted, and its buffer used for the next read.
    fn run(&self, file: &Arc<DirectFile>) -> io::Result<u64> {
        for _ in 0..DEPTH {
            self.read_next(Arc::clone(file), file.buffer(BLOCK))?;
        }
        while !self.queue.is_empty() {
            for (block, done) in self.queue.wait(1, None)? {
                let failed = |error| io::Error::other(format!("block {}: {error}", block.number));
                block.count(&done.buf[..done.result.map_err(failed)?]);
                self.read_next(done.file, done.buf)?;
            }
        }
        Ok(self.zeros.get())
    }
}

fn pin_to(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// The life of one core's thread. Returns how many zero bytes its part has.
fn live(index: u64, file: &Arc<DirectFile>, part: Range<u64>) -> io::Result<u64> {
    if let Err(error) = pin_to(usize::try_from(index).expect("a processor's number")) {
        eprintln!("not pinned to processor {index}: {error}");
    }
    Core::new(part)?.run(file)
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
            let (file, part) = (Arc::clone(&file), part(index));
            thread::spawn(move || live(index, &file, part))
        })
        .collect();
    let mut zeros = 0;
    for (index, thread) in threads.into_iter().enumerate() {
        let own = thread.join().expect("a core's loop does not panic")?;
        println!(
            "core {index}: {own} zero bytes in blocks {:?}",
            part(index as u64)
        );
        zeros += own;
    }
    println!("{}: {zeros} zero bytes", path.display());
    Ok(())
}
