//! What operators ask of an `Aio`.

use super::Aio;
use crate::observe::{Dump, Latencies};
use std::io;

impl Aio {
    /// From now on observes one of so many new requests, in each shard: 1 is all of them, 0 (the default) none.
    /// Does not block, and may be called at any time; requests that were accepted before stay as they are.
    ///
    /// An observed request has its times taken at each of its stations, for [`latencies`](Aio::latencies), and
    /// is listed by [`dump`](Aio::dump). It costs a few hundred nanoseconds and some memory while it is
    /// outstanding. The others cost nothing beside that: observe one of a hundred or so all the time, and all
    /// when something is wrong.
    pub fn observe(&self, every: u32) {
        if self.check_origin().is_err() {
            return; // a lock may be the parent's
        }
        let shared = self.0.shared().iter();
        shared.for_each(|engine| engine.observe(every));
        self.0.private().observe(every);
    }

    /// How long observed requests have stayed where, since the first; with shards, all shards together. Takes
    /// a lock for a moment, may be called anywhere, and is safe inside callbacks.
    ///
    /// ```
    /// use kiocb::{Aio, op::Read};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let aio = Aio::builder().build()?;
    /// aio.observe(1);
    /// let zeroes = std::fs::File::open("/dev/zero")?;
    /// let (count, ..) = aio.alloc().init_rw(zeroes, Read, vec![1; 512], 0).wait()?.ok()?;
    /// assert_eq!(count, 512);
    /// let latencies = aio.latencies()?;
    /// assert_eq!(latencies.kernel.count(), 1);
    /// println!("99 of 100 were in the kernel for {:?} at most", latencies.kernel.quantile(0.99));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AioError::Forked`](crate::AioError::Forked) in a forked child.
    pub fn latencies(&self) -> io::Result<Latencies> {
        self.check_origin()?;
        let mut all = Latencies::default();
        for engine in self.0.all() {
            all.merge(&engine.latencies());
        }
        Ok(all)
    }

    /// What is outstanding: age, place, file and operation of each [observed](Aio::observe) request. For a
    /// signal handler's thread, an administrator's page, or the moment when a shutdown is past its deadline.
    ///
    /// Takes two locks for as long as it copies the list: a million queued requests hold up other submitters
    /// for some milliseconds. It waits for nothing else, also where the kernel does not answer. May be called
    /// anywhere, inside callbacks, wakers and loggers too.
    ///
    /// ```
    /// use kiocb::{Aio, PollFlags};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let aio = Aio::builder().build()?;
    /// aio.observe(1);
    /// let (reader, _writer) = std::io::pipe()?;
    /// let waits = aio.alloc().init_poll(reader, PollFlags::IN).start()?;
    /// let dump = aio.dump()?;
    /// println!("{dump}"); // kiocb: 1 in flight, …
    /// assert_eq!(dump.oldest().unwrap().operation(), "poll");
    /// assert!(waits.cancel());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AioError::Forked`](crate::AioError::Forked) in a forked child.
    pub fn dump(&self) -> io::Result<Dump> {
        self.check_origin()?;
        let shards = self.0.all().enumerate();
        let states = shards.flat_map(|(shard, engine)| engine.states(shard));
        let states = states.collect();
        let first = &self.0.shared()[0];
        Ok(Dump::new(
            first.name().to_owned(),
            self.stats(),
            first.observes_every(),
            states,
        ))
    }
}
