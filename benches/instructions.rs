//! What a request costs this program, in numbers that a busy machine does not change: instructions in user
//! space, system calls and allocations, for each way to wait. Fails if one is above its limit in
//! `instructions.txt`.
//!
//! `cargo bench --bench instructions`; needs valgrind, whose callgrind counts. Each loop is run twice, the
//! second time with twice as many requests: the difference has no start and no end in it.
#![allow(unsafe_code, reason = "takes a variable out of the environment")]

#[path = "../examples/iobench/alloc_count.rs"]
#[allow(dead_code, reason = "no thread is exempt here")]
mod alloc_count;

use kiocb::op::Read;
use kiocb::{Aio, Dispatch, Pending, Stats};
use std::env;
use std::fs::File;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Of each, in a line: a way to wait, the depth, and the limits.
const LIMITS: &str = include_str!("instructions.txt");
const REQUESTS: usize = 16 * 1024;
const TRIES: usize = 4;
/// As the argument of this program: run one loop.
const LOOP: &str = "loop";

#[global_allocator]
static ALLOCATOR: alloc_count::Counting = alloc_count::Counting;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let outcome = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [LOOP, way, depth, requests] => run(way, number(depth), number(requests)).map(|()| true),
        _ => compare_all(),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

// ---- the loops ---------------------------------------------------------------------------------------

/// One loop of reads, and what it took in all.
fn run(way: &str, depth: usize, requests: usize) -> io::Result<()> {
    let file = Arc::new(File::open("/dev/zero")?);
    let dispatch = match way {
        "manual" | "queue" => Dispatch::Manual,
        "anywhere" => Dispatch::Anywhere,
        _ => Dispatch::Thread,
    };
    let slots = u32::try_from(depth).expect("a depth");
    // SAFETY: no other thread runs yet. The crate knows valgrind by this variable, and would leave the ring alone;
    // callgrind counts the reads of the ring and does not judge them.
    unsafe { env::remove_var("LD_PRELOAD") };
    let aio = Aio::builder().depth(slots).dispatch(dispatch).build()?;
    match way {
        "wait" => wait(&aio, &file, requests)?,
        "read_at" => read_at(&aio, &file, requests)?,
        "queue" => queue(&aio, &file, depth, requests)?,
        "batch" => batch(&aio, &file, depth, requests),
        "future" => future(&aio, &file, depth, requests)?,
        _ => callbacks(&aio, &file, dispatch, depth, requests)?,
    }
    let Stats { submits, waits, .. } = aio.stats();
    let allocations = alloc_count::total();
    println!("{} {allocations}", submits + waits);
    Ok(())
}

fn buffer() -> Vec<u8> {
    vec![0; 512]
}

/// Each callback submits the next request of its chain. The chains begin together, in a callback, so that no
/// thread's pace decides how many complete in one round.
fn callbacks(
    aio: &Aio,
    file: &Arc<File>,
    dispatch: Dispatch,
    depth: usize,
    requests: usize,
) -> io::Result<()> {
    let next = aio.clone();
    let first = aio.alloc().init_rw(Arc::clone(file), Read, buffer(), 0);
    let first = first.init_callback(move |done| {
        (0..depth).for_each(|_| go_on(&next, &done.file, buffer(), requests / depth));
    });
    first.submit()?;
    if dispatch != Dispatch::Manual {
        return aio.drain();
    }
    while aio.poll(1, usize::MAX, None)? > 0 {}
    Ok(())
}

fn go_on(aio: &Aio, file: &Arc<File>, buf: Vec<u8>, left: usize) {
    let next = aio.clone();
    let read = aio.alloc().init_rw(Arc::clone(file), Read, buf, 0);
    let read = read.init_callback(move |done| {
        if left > 1 {
            go_on(&next, &done.file, done.buf, left - 1);
        }
    });
    read.submit().expect("accepted");
}

fn wait(aio: &Aio, file: &Arc<File>, requests: usize) -> io::Result<()> {
    let mut buf = buffer();
    for _ in 0..requests {
        let read = aio.alloc().init_rw(Arc::clone(file), Read, buf, 0);
        buf = read.wait()?.buf;
    }
    Ok(())
}

fn read_at(aio: &Aio, file: &File, requests: usize) -> io::Result<()> {
    let mut buf = buffer();
    for _ in 0..requests {
        aio.read_at(file, &mut buf, 0)?;
    }
    Ok(())
}

fn batch(aio: &Aio, file: &Arc<File>, depth: usize, requests: usize) {
    let mut bufs: Vec<_> = (0..depth).map(|_| buffer()).collect();
    let mut handles = Vec::with_capacity(depth);
    for _ in 0..requests / depth {
        let mut batch = aio.batch();
        let reads = bufs
            .drain(..)
            .map(|buf| aio.alloc().init_rw(Arc::clone(file), Read, buf, 0));
        handles.extend(reads.map(|read| batch.push(read)));
        drop(batch.submit());
        bufs.extend(handles.drain(..).map(|handle| handle.wait().buf));
    }
}

/// Each completion is a request again.
fn queue(aio: &Aio, file: &Arc<File>, depth: usize, requests: usize) -> io::Result<()> {
    let queue = aio.queue();
    let read = |file, buf| aio.alloc().init_rw(file, Read, buf, 0).mixed();
    for _ in 0..depth {
        queue.push(read(Arc::clone(file), buffer()), requests / depth)?;
    }
    while !queue.is_empty() {
        for (left, done) in queue.wait(1, None)? {
            if left > 1 {
                let buf = done.buf.one().expect("of a read");
                queue.push(read(done.file, buf), left - 1)?;
            }
        }
    }
    Ok(())
}

/// All requests of a turn are polled once, then once more.
fn future(aio: &Aio, file: &Arc<File>, depth: usize, requests: usize) -> io::Result<()> {
    let mut bufs: Vec<_> = (0..depth).map(|_| buffer()).collect();
    let mut futures = Vec::with_capacity(depth);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    for _ in 0..requests / depth {
        for buf in bufs.drain(..) {
            let read = aio.alloc().init_rw(Arc::clone(file), Read, buf, 0);
            futures.push(read.start()?);
        }
        for mut future in futures.drain(..) {
            bufs.push(finish(&mut future, &mut context));
        }
    }
    Ok(())
}

fn finish(
    future: &mut Pending<kiocb::op::Rw<Arc<File>, Read, Vec<u8>>>,
    context: &mut Context<'_>,
) -> Vec<u8> {
    loop {
        if let Poll::Ready(done) = Pin::new(&mut *future).poll(context) {
            return done.buf;
        }
        thread::park();
    }
}

/// Wakes the thread that polls. To poll in a loop instead would count the loop.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

// ---- counting ----------------------------------------------------------------------------------------

/// What a request costs, or may cost.
struct Cost {
    instructions: f64,
    calls: f64,
    allocations: f64,
}

impl Cost {
    fn is_within(&self, limit: &Cost) -> bool {
        self.instructions <= limit.instructions
            && self.calls <= limit.calls
            && self.allocations <= limit.allocations
    }

    fn or_less(self, other: &Cost) -> Cost {
        Cost {
            instructions: self.instructions.min(other.instructions),
            calls: self.calls.min(other.calls),
            allocations: self.allocations.min(other.allocations),
        }
    }
}

fn compare_all() -> io::Result<bool> {
    println!("per request (limit)   instructions     system calls      allocations");
    let mut is_well = true;
    for line in LIMITS.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [way, depth, instructions, calls, allocations] = words[..] else {
            return Err(io::Error::other(format!("not a line of limits: {line}")));
        };
        let limit = Cost {
            instructions: limit(instructions),
            calls: limit(calls),
            allocations: limit(allocations),
        };
        is_well &= compare(way, depth, &measure(way, depth, &limit)?, &limit);
    }
    Ok(is_well)
}

fn limit(text: &str) -> f64 {
    text.parse().expect("a limit is a number")
}

fn compare(way: &str, depth: &str, cost: &Cost, limit: &Cost) -> bool {
    let is_well = cost.is_within(limit);
    println!(
        "{way:>9} {depth:>4}   {:>8.0} ({:>5})   {:>6.3} ({:>5})   {:>6.3} ({:>5})   {}",
        cost.instructions,
        limit.instructions,
        cost.calls,
        limit.calls,
        cost.allocations,
        limit.allocations,
        if is_well { "" } else { "TOO MUCH" }
    );
    is_well
}

/// The least of a few runs, if the first is above the limit: on a busy machine a round of callbacks may take so
/// long that the engine takes them for slow ones, and submits one by one.
fn measure(way: &str, depth: &str, limit: &Cost) -> io::Result<Cost> {
    let mut cost = measure_once(way, depth)?;
    for _ in 1..TRIES {
        if !cost.is_within(limit) {
            cost = cost.or_less(&measure_once(way, depth)?);
        }
    }
    Ok(cost)
}

fn measure_once(way: &str, depth: &str) -> io::Result<Cost> {
    let [once, twice] = [count(way, depth, 1)?, count(way, depth, 2)?];
    let each = |part: usize| (twice[part] - once[part]) / REQUESTS as f64;
    Ok(Cost {
        instructions: each(0),
        calls: each(1),
        allocations: each(2),
    })
}

/// Instructions, system calls and allocations of a loop of `times` REQUESTS. The calls are counted without
/// valgrind, which runs one thread at a time.
fn count(way: &str, depth: &str, times: usize) -> io::Result<[f64; 3]> {
    let args = [LOOP, way, depth, &(REQUESTS * times).to_string()];
    let program = env::current_exe()?;
    let plain = Command::new(&program).args(args).output()?;
    let counted = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--fair-sched=yes",
            "--callgrind-out-file=/dev/null",
        ])
        .arg(program)
        .args(args)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("valgrind: {error}")))?;
    let said = String::from_utf8_lossy(&plain.stdout);
    let counted = String::from_utf8_lossy(&counted.stderr);
    let mut numbers = said.split_whitespace().map(str::parse);
    let instructions = counted
        .split_once("Collected : ")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    match (instructions, numbers.next(), numbers.next()) {
        (Some(instructions), Some(Ok(calls)), Some(Ok(allocations))) => {
            Ok([instructions, calls, allocations])
        }
        _ => Err(io::Error::other(format!(
            "{way} was not counted: {said}{counted}"
        ))),
    }
}
