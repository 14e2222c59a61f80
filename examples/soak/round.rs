//! A round: a context of a shape that the dice choose, used by all threads, and ended.

use crate::Result;
use crate::interrupt;
use crate::ledger::Ledger;
use crate::options::Options;
use crate::rng::{Rng, below};
use crate::store::Stores;
use crate::watch::Watch;
use crate::worker::Worker;
use kiocb::{Aio, AioBuilder, Dispatch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const LENGTH: Duration = Duration::from_secs(3);

/// What the threads of a round share.
pub(crate) struct Round<'a> {
    pub(crate) aio: Aio,
    pub(crate) stores: &'a Stores,
    pub(crate) ledger: &'a Arc<Ledger>,
    pub(crate) faults: bool,
    end: Instant,
    stop: AtomicBool,
}

impl Round<'_> {
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.end || interrupt::came() || !self.ledger.is_well()
    }
}

pub(crate) fn run(
    options: &Options,
    number: u64,
    end: Instant,
    stores: &mut Stores,
    ledger: &Arc<Ledger>,
    watch: &Watch,
) -> Result<()> {
    let mut dice = Rng::new(options.seed ^ (number << 32));
    let (builder, dispatch) = shape(&mut dice);
    let round = Round {
        aio: builder.build()?,
        stores,
        ledger,
        faults: options.faults,
        end: end.min(Instant::now() + LENGTH),
        stop: AtomicBool::new(false),
    };
    if number.is_multiple_of(2) {
        round.aio.observe(1); // a stall then says which request
    }
    watch.look_at(Some(&round.aio));
    thread::scope(|scope| {
        if dispatch == Dispatch::Manual {
            scope.spawn(|| poll(&round));
        }
        let workers: Vec<_> = (0..options.threads)
            .map(|thread| {
                let dice = Rng::new(dice.next());
                let round = &round;
                scope.spawn(move || Worker::new(round, thread, dice).run())
            })
            .collect();
        for worker in workers {
            if worker.join().is_err() {
                ledger.fault("a thread panicked".into());
            }
        }
        round.aio.drain()?;
        round.stop.store(true, Relaxed);
        Ok::<(), std::io::Error>(())
    })?;
    finish(&round, watch)
}

fn shape(dice: &mut Rng) -> (AioBuilder, Dispatch) {
    let kinds = [Dispatch::Thread, Dispatch::Anywhere, Dispatch::Manual];
    let dispatch = kinds[below(dice.next(), 3) as usize];
    let shards = match dispatch {
        Dispatch::Manual => 1,
        _ => 1 + below(dice.next(), 3) as usize,
    };
    let depth = 1 << below(dice.next(), 9);
    let builder = Aio::builder().depth(depth).shards(shards);
    (builder.dispatch(dispatch).thread_name("soak"), dispatch)
}

/// The loop that a manual context is for.
fn poll(round: &Round<'_>) {
    while !round.stop.load(Relaxed) {
        let _ = round.aio.poll(1, 64, Some(Duration::from_millis(1)));
    }
}

/// Nothing is under way.
fn finish(round: &Round<'_>, watch: &Watch) -> Result<()> {
    watch.look_at(None);
    let ends = round.aio.shutdown(Duration::from_secs(60));
    if let Err(error) = ends {
        round.ledger.fault(format!("shutdown: {error}"));
    }
    round.ledger.add(round.aio.stats());
    round.ledger.balance();
    round.stores.verify(round.ledger);
    Ok(())
}
