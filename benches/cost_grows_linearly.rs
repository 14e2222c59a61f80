//! What one more entry costs in each list that a program can make long: it must not depend on how many there
//! are. `cargo bench --bench cost_grows_linearly`.
//!
//! Each line is one list, with 5 000, 10 000, 20 000 and 40 000 entries: the processor time for all of them
//! (the least of five runs, where they are short), and how many times the time before it that is. Where the
//! cost of an entry does not grow, the ratio is about 2; a cache that overflows may make it 3. Where each
//! entry walks over all others, every ratio is 4.
//!
//! A word after `--` chooses the lines that contain it.

use kiocb::op::{PollReady, Write};
use kiocb::{Aio, BufPool, CancelHandle, Dispatch, Pending, PollFlags, SyncGroup, SyncKind};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const FIRST: usize = 5_000;
const DOUBLINGS: u32 = 4;
const RUNS: usize = 4;

/// Builds the list, and returns how long the entries took together.
type Line = fn(usize) -> io::Result<Duration>;

const LINES: &[(&str, Line)] = &[
    ("barriers behind one write", barriers_behind_a_write),
    ("barriers behind one sync", barriers_behind_a_sync),
    ("barriers that many writes fail", barriers_that_writes_fail),
    ("barriers after taken errors", barriers_after_taken_errors),
    ("writes under way, newest first", writes_newest_first),
    ("writes submitted to a group", writes_of_a_group),
    ("requests queued with callbacks", requests_queued),
    ("handles queued and dropped", handles_dropped),
    ("polls queued and dropped", polls_dropped),
    ("polls queued and cancelled", polls_cancelled),
    ("polls with callbacks, cancelled", callbacks_cancelled),
    ("requests of one queue", one_queue),
    ("completions left in a queue", completions_left),
    ("requests of one batch", one_batch),
    ("handles of one batch, dropped", batch_handles_dropped),
    ("reads of one scope", one_scope),
    ("buffers taken from a pool", pool_buffers),
    ("tasks that wait for buffers", pool_tasks),
    ("tasks that drain", draining_tasks),
];

fn main() -> io::Result<()> {
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for (name, line) in LINES {
        if word.as_ref().is_none_or(|word| name.contains(&**word)) {
            measure(name, line)?;
        }
    }
    Ok(())
}

/// Prints a line as it goes.
fn measure(name: &str, line: &Line) -> io::Result<()> {
    print!("{name:32}");
    let mut before: Option<Duration> = None;
    for doubling in 0..DOUBLINGS {
        let took = least(*line, FIRST << doubling)?;
        print!(" {:9.1} ms", took.as_secs_f64() * 1e3);
        match before {
            Some(before) => print!(" x{:4.1}", took.as_secs_f64() / before.as_secs_f64()),
            None => print!("      "),
        }
        io::Write::flush(&mut io::stdout())?;
        before = Some(took);
    }
    println!();
    Ok(())
}

/// The processor time of `work`: what other programs do meanwhile does not count.
fn time(work: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let before = processor_time()?;
    work()?;
    Ok(processor_time()?.saturating_sub(before))
}

fn processor_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: TimeVal| u64::try_from(time.num_microseconds()).unwrap_or_default();
    Ok(Duration::from_micros(
        micros(usage.user_time()) + micros(usage.system_time()),
    ))
}

/// The least of a few runs; of one, if that takes long.
fn least(line: Line, count: usize) -> io::Result<Duration> {
    let mut least = line(count)?;
    for _ in 0..RUNS {
        if least > Duration::from_millis(200) {
            break;
        }
        least = least.min(line(count)?);
    }
    Ok(least)
}

/// A context on which nothing happens before this thread polls, with few slots: what is submitted queues.
fn narrow() -> io::Result<Aio> {
    Aio::builder().depth(2).dispatch(Dispatch::Manual).build()
}

fn null() -> io::Result<Arc<File>> {
    let file = File::options().read(true).write(true).open("/dev/null")?;
    Ok(Arc::new(file))
}

fn group() -> io::Result<SyncGroup<File>> {
    Ok(SyncGroup::new(&narrow()?, tempfile::tempfile()?))
}

fn barrier(group: &SyncGroup<File>) -> io::Result<()> {
    Ok(group.barrier(SyncKind::Data, drop)?)
}

fn failed() -> io::Result<()> {
    Err(io::ErrorKind::StorageFull.into())
}

fn barriers_behind_a_write(count: usize) -> io::Result<Duration> {
    let group = group()?;
    time(|| {
        let write = group.track();
        (0..count).try_for_each(|_| barrier(&group))?;
        write.end(&failed());
        Ok(())
    })
}

/// Nobody takes the first sync's event before the end: all others wait for it.
fn barriers_behind_a_sync(count: usize) -> io::Result<Duration> {
    let aio = narrow()?;
    let group = SyncGroup::new(&aio, tempfile::tempfile()?);
    time(|| {
        (0..count).try_for_each(|_| barrier(&group))?;
        aio.drain()
    })
}

/// A write, a barrier, a write, a barrier …; then the writes fail, newest first.
fn barriers_that_writes_fail(count: usize) -> io::Result<Duration> {
    let group = group()?;
    time(|| {
        let mut writes = Vec::new();
        for _ in 0..count {
            writes.push(group.track());
            barrier(&group)?;
        }
        while let Some(write) = writes.pop() {
            write.end(&failed());
        }
        Ok(())
    })
}

/// Behind one write that does not end, each barrier is made after an error that was taken.
fn barriers_after_taken_errors(count: usize) -> io::Result<Duration> {
    let group = group()?;
    time(|| {
        let first = group.track();
        for _ in 0..count {
            let write = group.track();
            barrier(&group)?;
            write.end(&failed());
            drop(group.take_error());
        }
        first.end(&Ok(()));
        Ok(())
    })
}

fn writes_newest_first(count: usize) -> io::Result<Duration> {
    let group = group()?;
    time(|| {
        let mut writes: Vec<_> = (0..count).map(|_| group.track()).collect();
        barrier(&group)?;
        while let Some(write) = writes.pop() {
            write.end(&Ok(()));
        }
        Ok(())
    })
}

fn writes_of_a_group(count: usize) -> io::Result<Duration> {
    let aio = narrow()?;
    let group = SyncGroup::new(&aio, File::options().write(true).open("/dev/null")?);
    time(|| {
        (0..count).try_for_each(|_| {
            group.write("x", 0, |_| {})?;
            Ok::<_, io::Error>(())
        })?;
        aio.drain()
    })
}

fn requests_queued(count: usize) -> io::Result<Duration> {
    let (aio, file) = (narrow()?, null()?);
    time(|| {
        for _ in 0..count {
            let request = aio.alloc().init_rw(Arc::clone(&file), Write, "x", 0);
            request.init_callback(|_| {}).submit()?;
        }
        aio.drain()
    })
}

/// Dropped oldest first; the requests go on.
fn handles_dropped(count: usize) -> io::Result<Duration> {
    let (aio, file) = (narrow()?, null()?);
    time(|| {
        let start = |_| {
            Ok(aio
                .alloc()
                .init_rw(Arc::clone(&file), Write, "x", 0)
                .start()?)
        };
        let handles: Vec<Pending<_>> = (0..count).map(start).collect::<io::Result<_>>()?;
        drop(handles);
        aio.drain()
    })
}

/// A pipe to which nothing is written.
fn quiet_pipe() -> io::Result<Arc<io::PipeReader>> {
    let (reader, writer) = io::pipe()?;
    // It stays open, so that the pipe never hangs up.
    std::mem::forget(writer);
    Ok(Arc::new(reader))
}

/// Waits for such a pipe, of which two are with the kernel and the others queue.
fn polls(aio: &Aio, count: usize) -> io::Result<Vec<Pending<PollReady<Arc<io::PipeReader>>>>> {
    let reader = quiet_pipe()?;
    let start = |_| {
        let poll = aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN);
        Ok(poll.start()?)
    };
    (0..count).map(start).collect()
}

/// The newest is dropped first: it has all others before it.
fn polls_dropped(count: usize) -> io::Result<Duration> {
    let aio = narrow()?;
    time(|| {
        let mut polls = polls(&aio, count)?;
        while polls.pop().is_some() {}
        aio.drain()
    })
}

fn polls_cancelled(count: usize) -> io::Result<Duration> {
    let aio = narrow()?;
    time(|| {
        let mut polls = polls(&aio, count)?;
        while let Some(poll) = polls.pop() {
            poll.cancel();
        }
        aio.drain()
    })
}

fn callbacks_cancelled(count: usize) -> io::Result<Duration> {
    let (aio, reader) = (narrow()?, quiet_pipe()?);
    time(|| {
        let submit = |_| {
            let poll = aio.alloc().init_poll(Arc::clone(&reader), PollFlags::IN);
            Ok(poll.init_callback(|_| {}).submit_cancellable()?)
        };
        let handles = (0..count)
            .map(submit)
            .collect::<io::Result<Vec<CancelHandle>>>()?;
        handles.iter().rev().for_each(|handle| {
            handle.cancel();
        });
        aio.drain()
    })
}

/// Pushed, submitted in groups, and handed out one by one.
fn one_queue(count: usize) -> io::Result<Duration> {
    let (aio, file) = (narrow()?, null()?);
    time(|| {
        let queue = aio.queue();
        for tag in 0..count {
            queue.push(aio.alloc().init_rw(file.clone(), Write, [0; 8], 0), tag)?;
        }
        let done = queue
            .wait(count, None)?
            .map(|(_, done)| done.result.is_ok());
        assert_eq!(done.filter(|is_ok| *is_ok).count(), count);
        Ok(())
    })
}

/// Each time only the oldest is handed out, and all are dropped with the queue at last.
fn completions_left(count: usize) -> io::Result<Duration> {
    let (aio, file) = (narrow()?, null()?);
    time(|| {
        let queue = aio.queue();
        for tag in 0..count {
            queue.push(aio.alloc().init_rw(file.clone(), Write, [0; 8], 0), tag)?;
        }
        queue.submit()?;
        aio.drain()?;
        for _ in 0..count / 2 {
            let (_, done) = queue.drain().next().expect("one of the rest");
            done.ok()?;
        }
        Ok(())
    })
}

fn one_batch(count: usize) -> io::Result<Duration> {
    let (aio, file) = (narrow()?, null()?);
    time(|| {
        let mut batch = aio.batch();
        for _ in 0..count {
            let request = aio.alloc().init_rw(Arc::clone(&file), Write, "x", 0);
            let _ticket = batch.push_callback(request.init_callback(|_| {}));
        }
        assert!(batch.submit().is_empty());
        aio.drain()
    })
}

fn batch_handles_dropped(count: usize) -> io::Result<Duration> {
    let (aio, file) = (narrow()?, null()?);
    time(|| {
        let mut batch = aio.batch();
        let start = |_| batch.push(aio.alloc().init_rw(Arc::clone(&file), Write, "x", 0));
        let handles: Vec<_> = (0..count).map(start).collect();
        assert!(batch.submit().is_empty());
        drop(handles);
        aio.drain()
    })
}

fn one_scope(count: usize) -> io::Result<Duration> {
    let (aio, file) = (narrow()?, File::open("/dev/zero")?);
    let mut bytes = vec![1; count];
    time(|| {
        aio.scope(|scope| {
            for byte in bytes.chunks_mut(1) {
                let _ = scope.read_at(&file, byte, 0);
            }
        });
        Ok(())
    })
}

fn pool_buffers(count: usize) -> io::Result<Duration> {
    let pool = BufPool::new(count, 8)?;
    time(|| {
        let buffers: Vec<_> = (0..count).map(|_| pool.take()).collect();
        drop(buffers);
        Ok(())
    })
}

/// Each waits, is woken when all buffers come back, and takes one.
fn pool_tasks(count: usize) -> io::Result<Duration> {
    let pool = BufPool::new(count, 8)?;
    let held: Vec<_> = (0..count).map(|_| pool.take()).collect();
    time(|| {
        let mut tasks: Vec<_> = (0..count).map(|_| pool.take_async()).collect();
        tasks.iter_mut().for_each(|task| drop(poll(task)));
        drop(held);
        let taken: Vec<_> = tasks.iter_mut().map(poll).collect();
        assert!(taken.iter().all(Poll::is_ready));
        Ok(())
    })
}

/// Half of them give up before nothing is outstanding.
fn draining_tasks(count: usize) -> io::Result<Duration> {
    let (aio, file) = (narrow()?, null()?);
    let write = aio.alloc().init_rw(file, Write, [0; 8], 0);
    write.init_callback(drop).submit()?;
    time(|| {
        let mut tasks: Vec<_> = (0..count).map(|_| aio.drain_async()).collect();
        tasks.iter_mut().for_each(|task| drop(poll(task)));
        tasks.truncate(count / 2);
        aio.run_once(None)?;
        assert!(tasks.iter_mut().map(poll).all(|polled| polled.is_ready()));
        Ok(())
    })
}

fn poll<F: Future + Unpin>(task: &mut F) -> Poll<F::Output> {
    Pin::new(task).poll(&mut Context::from_waker(Waker::noop()))
}
