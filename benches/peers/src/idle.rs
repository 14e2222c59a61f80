//! What an `Aio` costs that does nothing: memory, and the time to make and to end one.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use kiocb::{Aio, Dispatch};

/// Enough that one's share of a page counts little.
const MANY: u32 = 16;
const TIMES: usize = 9;

/// As lines of a record: what, dispatch, value, unit.
pub(crate) fn print() -> io::Result<()> {
    // The allocator's, the logger's and the thread library's own come first, and are not counted.
    drop(make(Dispatch::Thread)?);
    for (name, dispatch) in [("thread", Dispatch::Thread), ("manual", Dispatch::Manual)] {
        let before = Memory::now();
        let idle = (0..MANY)
            .map(|_| make(dispatch))
            .collect::<io::Result<Vec<_>>>()?;
        let after = Memory::now();
        drop(idle);
        let each = |kib: u64| kib as f64 / f64::from(MANY);
        println!(
            "resident memory of an idle Aio,{name},{:.0},KiB",
            each(after.resident - before.resident)
        );
        println!(
            "address space of an idle Aio,{name},{:.0},KiB",
            each(after.mapped - before.mapped)
        );
        let (made, ended) = times(dispatch)?;
        println!(
            "time to make an Aio,{name},{:.0},us",
            made.as_secs_f64() * 1e6
        );
        println!(
            "time to end an Aio,{name},{:.0},us",
            ended.as_secs_f64() * 1e6
        );
    }
    Ok(())
}

fn make(dispatch: Dispatch) -> io::Result<Aio> {
    Aio::builder().dispatch(dispatch).build()
}

/// The medians.
fn times(dispatch: Dispatch) -> io::Result<(Duration, Duration)> {
    let (mut made, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        let started = Instant::now();
        let aio = make(dispatch)?;
        made.push(started.elapsed());
        let started = Instant::now();
        drop(aio);
        ended.push(started.elapsed());
    }
    made.sort();
    ended.sort();
    Ok((made[TIMES / 2], ended[TIMES / 2]))
}

/// Of this process, in KiB.
struct Memory {
    resident: u64,
    mapped: u64,
}

impl Memory {
    fn now() -> Memory {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        Memory {
            resident: field("VmRSS:"),
            mapped: field("VmSize:"),
        }
    }
}
