//! The engine under a lock, with callbacks: each result is handed to it in the callback of its request, and what
//! follows (answers, the clients' next transactions, further requests) happens there too.
//!
//! What the callbacks of one round submit leaves in one system call. Answers that come together are all given, and
//! all transactions that follow from them are begun, before a further request is asked for: so they share a batch
//! of the log.

use super::{Client, Clients, Counts, outcome};
use crate::Result;
use crate::engine::Engine;
use crate::files::{self, Config, Files, LogSync};
use crate::io::{Done, Io};
use crate::page::{self, PageId};
use crate::store::Store;
use crate::tx::Reply;
use kiocb::buf::PoolBuf;
use kiocb::op::{Read, Write};
use kiocb::{Aio, AlignedBuf, Dispatch, RwFlags};
use std::io;
use std::iter;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// Clients on their way.
pub(super) struct Running {
    shared: Arc<Shared>,
    is_over: Receiver<()>,
}

struct Shared {
    aio: Aio,
    files: Files,
    config: Config,
    engine: Mutex<Engine>,
    clients: Vec<Mutex<Box<dyn Client>>>,
    /// How many clients have not ended.
    left: AtomicUsize,
    over: Sender<()>,
    is_over: AtomicBool,
}

pub(super) fn run(store: Store, clients: Clients) -> Result<Counts> {
    let running = Running::start(store, clients, Dispatch::Thread)?;
    running.is_over.recv()?;
    running.end()
}

impl Running {
    pub(super) fn start(store: Store, clients: Clients, dispatch: Dispatch) -> Result<Running> {
        let (engine, files, config) = store.start(true)?;
        let (over, is_over) = channel();
        let shared = Arc::new(Shared {
            aio: Aio::builder().dispatch(dispatch).build()?,
            files,
            config,
            engine: Mutex::new(engine),
            left: AtomicUsize::new(clients.len()),
            clients: clients.into_iter().map(Mutex::new).collect(),
            over,
            is_over: AtomicBool::new(false),
        });
        let first = |client: usize| (client, None);
        shared.go_on((0..shared.clients.len()).map(first).collect());
        shared.turn(None);
        Ok(Running { shared, is_over })
    }

    pub(super) fn aio(&self) -> &Aio {
        &self.shared.aio
    }

    pub(super) fn is_over(&self) -> bool {
        self.shared.is_over.load(Ordering::Acquire)
    }

    pub(super) fn end(self) -> Result<Counts> {
        self.shared.aio.drain()?;
        outcome(&self.shared.engine.lock().unwrap())
    }
}

impl Shared {
    /// Takes in a result, and does all that follows from it.
    fn turn(self: &Arc<Self>, done: Option<Done>) {
        let mut done = Vec::from_iter(done);
        loop {
            let requests = self.follow(done);
            done = requests
                .into_iter()
                .filter_map(|io| self.submit(io))
                .collect();
            if done.is_empty() {
                return;
            }
        }
    }

    /// Takes in results, gives answers, begins what follows, and returns what is to be submitted.
    fn follow(&self, done: Vec<Done>) -> Vec<Io> {
        let mut engine = self.engine.lock().unwrap();
        done.into_iter().for_each(|done| engine.completed(done));
        loop {
            let replies = engine.take_replies();
            if replies.is_empty() {
                break;
            }
            drop(engine);
            let replies = replies
                .into_iter()
                .map(|(client, reply)| (client, Some(reply)));
            self.go_on(replies.collect());
            engine = self.engine.lock().unwrap();
        }
        if engine.is_idle() && self.left.load(Ordering::Acquire) == 0 {
            self.is_over.store(true, Ordering::Release);
            let _ = self.over.send(());
        }
        iter::from_fn(|| engine.next_io()).collect()
    }

    /// Lets clients go on, without the lock, and begins their next transactions together.
    fn go_on(&self, replies: Vec<(usize, Option<Reply>)>) {
        let next = |(client, reply): (usize, _)| {
            (client, self.clients[client].lock().unwrap().next(reply))
        };
        let next: Vec<_> = replies.into_iter().map(next).collect();
        let mut engine = self.engine.lock().unwrap();
        for (client, body) in next {
            match body {
                Some(body) => engine.begin(client, body),
                None if self.left.fetch_sub(1, Ordering::AcqRel) == 1 => engine.close(),
                None => {}
            }
        }
    }

    /// Returns what is over at once.
    fn submit(self: &Arc<Self>, io: Io) -> Option<Done> {
        match io {
            Io::Read(page, buffer) => {
                let refused = self.read(page, buffer).err();
                refused.map(|error| Done::Read(page, Err(error)))
            }
            Io::Page(page, bytes) => {
                let refused = self.write(page, bytes).err();
                refused.map(|error| Done::Page(page, Err(error)))
            }
            Io::Log(offset, buffer) => {
                let refused = self.log(offset, buffer).err();
                refused.map(|error| Done::Log(Err(error)))
            }
            Io::Sync => self.sync().err().map(|error| Done::Sync(Err(error))),
            Io::Reserve(bytes) => Some(Done::Reserve(files::reserve(&self.files.data, bytes))),
        }
    }

    fn read(self: &Arc<Self>, page: PageId, buffer: PoolBuf) -> io::Result<()> {
        let (this, data) = (Arc::clone(self), Arc::clone(&self.files.data));
        let at = page::offset(page, self.files.page_size);
        let request = self
            .aio
            .alloc()
            .init_rw(data, Read, buffer, at)
            .read_exact();
        let request = request.init_callback(move |done| {
            let result = done.ok().map(|(_, buffer, _)| buffer);
            this.turn(Some(Done::Read(page, result.map_err(Into::into))));
        });
        Ok(request.submit()?)
    }

    fn write(self: &Arc<Self>, page: PageId, bytes: Arc<PoolBuf>) -> io::Result<()> {
        let (this, data) = (Arc::clone(self), Arc::clone(&self.files.data));
        let at = page::offset(page, self.files.page_size);
        let request = self.aio.alloc().init_rw(data, Write, bytes, at).write_all();
        let flags = if self.config.atomic {
            RwFlags::ATOMIC
        } else {
            RwFlags::empty()
        };
        let request = request.rw_flags(flags).init_callback(move |done| {
            let result = done.ok().map(|(_, bytes, _)| bytes);
            this.turn(Some(Done::Page(page, result.map_err(Into::into))));
        });
        Ok(request.submit()?)
    }

    fn log(self: &Arc<Self>, offset: u64, buffer: AlignedBuf) -> io::Result<()> {
        let (this, log) = (Arc::clone(self), Arc::clone(&self.files.log));
        let request = self
            .aio
            .alloc()
            .init_rw(log, Write, buffer, offset)
            .write_all();
        let is_durable = self.config.log_sync == LogSync::Dsync;
        let flags = if is_durable {
            RwFlags::DSYNC
        } else {
            RwFlags::empty()
        };
        let request = request.rw_flags(flags).init_callback(move |done| {
            let result = done.ok().map(|(_, buffer, _)| buffer);
            this.logged(result.map_err(Into::into));
        });
        Ok(request.submit()?)
    }

    /// A batch is written, and durable if it was so written.
    fn logged(self: &Arc<Self>, result: io::Result<AlignedBuf>) {
        match result {
            Ok(buffer) if self.config.log_sync == LogSync::Fdatasync => {
                if let Err(error) = self.sync_log(buffer) {
                    self.turn(Some(Done::Log(Err(error))));
                }
            }
            result => self.turn(Some(Done::Log(result))),
        }
    }

    fn sync_log(self: &Arc<Self>, buffer: AlignedBuf) -> io::Result<()> {
        let (this, log) = (Arc::clone(self), Arc::clone(&self.files.log));
        let request = self
            .aio
            .alloc()
            .init_fdsync(log)
            .init_callback(move |done| {
                this.turn(Some(Done::Log(done.result.map(|_| buffer))));
            });
        Ok(request.submit()?)
    }

    fn sync(self: &Arc<Self>) -> io::Result<()> {
        let (this, data) = (Arc::clone(self), Arc::clone(&self.files.data));
        let request = self
            .aio
            .alloc()
            .init_fdsync(data)
            .init_callback(move |done| {
                this.turn(Some(Done::Sync(done.result.map(drop))));
            });
        Ok(request.submit()?)
    }
}
