//! `pagestore`: a transactional page store on kernel AIO, to be read in an evening and copied from.
//!
//! ```text
//! cargo run --release --example pagestore -- bench
//! ```
//!
//! makes a store in a directory of its own, loads it, runs the mixes of YCSB on it, prints a table, draws the
//! latency distribution, and checks the store. `-- --help` lists the commands.
//!
//! How the parts fit, from the files upwards, and what each of them guarantees:
//!
//! | part | what it is | what it guarantees |
//! | --- | --- | --- |
//! | [`files`], [`meta`] | the data file, the log, and two pages by turns that say what they are | a store that is there is whole; the newer of the two counts, and one of them always is whole |
//! | [`page`], [`bytes`] | cells in a page, its checksum and number | a page that is damaged or at a wrong place is an error, never data |
//! | [`pool`] | frames over a `BufPool`, given up by a clock | a page is not given up while it is changed, written or waited for, and not changed while it is written |
//! | [`tree`] | a B+tree over the pool's pages | keys in order; a change is made at once or not at all |
//! | [`record`], [`log`] | the changes of transactions, in a ring of segments | what is durable comes back in its order; nothing torn or stale does |
//! | [`checkpoint`] | dirty pages go to the data file, then the meta page | the log before it is not needed any more |
//! | [`mod@recover`] | the log since the last checkpoint is carried out | each acknowledged transaction is there, none is half there, and torn pages are repaired |
//! | [`store`] | a store that is open | it is recovered |
//! | [`tx`], [`engine`] | transactions; requests for I/O go out, results come in | transactions are serial; an answer is given when all that it tells of is durable |
//! | [`io`], [`driver`] | the seam: who carries the requests out, and runs the clients | callbacks, a thread per core, or plain threads, with the same engine |
//! | [`mod@check`] | reads all of it | every checksum and the tree's structure |
//! | [`bench`], [`torture`], [`command`] | what a user runs | |

mod actor;
mod bench;
mod busy;
mod bytes;
mod check;
mod checkpoint;
mod command;
mod compare;
mod deed;
mod driver;
mod engine;
mod files;
mod io;
mod log;
mod meta;
mod mix;
mod options;
mod page;
mod pool;
mod record;
mod recover;
mod store;
mod table;
mod torture;
mod tree;
mod tx;
mod worker;

#[path = "../iobench/chart.rs"]
mod chart;
#[path = "../iobench/cpu.rs"]
mod cpu;
#[path = "../iobench/latency.rs"]
mod latency;
#[path = "../iobench/place.rs"]
mod place;
#[path = "../iobench/progress.rs"]
mod progress;
#[path = "../iobench/rng.rs"]
mod rng;
#[path = "../iobench/svg.rs"]
mod svg;
#[path = "../iobench/units.rs"]
#[allow(dead_code, reason = "sizes as options of iobench")]
mod units;

use std::error::Error;
use std::process::ExitCode;

/// Anything that goes wrong, as a sentence for the user.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let (command, code) = match options::command() {
        Ok(command) => (command, 1),
        Err(error) => return complain(&*error, 2),
    };
    match command::run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&*error, code),
    }
}

fn complain(error: &(dyn Error + Send + Sync), code: u8) -> ExitCode {
    eprintln!("pagestore: {error}");
    ExitCode::from(code)
}
