//! The yardstick: a thread for each client, `pread`, `pwrite` and `fdatasync`, and no kernel AIO.
//!
//! A client that waits for its answer does what the engine wants done meanwhile. So one of those whose commits wait
//! writes and syncs the batch for all of them, and reads and checkpoints have as many threads as wait.

use super::{Client, Clients, Counts, outcome};
use crate::Result;
use crate::engine::Engine;
use crate::files::{self, Config, Files, LogSync};
use crate::io::{Done, Io};
use crate::page;
use crate::store::Store;
use crate::tx::{Body, Reply};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;

struct Shared {
    files: Files,
    config: Config,
    state: Mutex<State>,
    /// One for each client.
    wake: Vec<Condvar>,
}

struct State {
    engine: Engine,
    /// Answers that their clients have not taken.
    replies: Vec<Option<Reply>>,
    /// Clients that sleep.
    asleep: Vec<usize>,
}

pub(super) fn run(store: Store, mut clients: Clients) -> Result<Counts> {
    let (engine, files, config) = store.start(false)?;
    let shared = Shared {
        files,
        config,
        state: Mutex::new(State {
            engine,
            replies: clients.iter().map(|_| None).collect(),
            asleep: Vec::new(),
        }),
        wake: clients.iter().map(|_| Condvar::new()).collect(),
    };
    thread::scope(|scope| {
        for (number, client) in clients.iter_mut().enumerate() {
            let shared = &shared;
            scope.spawn(move || shared.client(number, &mut **client));
        }
    });
    shared.close();
    outcome(&shared.state.lock().unwrap().engine)
}

impl Shared {
    fn client(&self, number: usize, client: &mut dyn Client) {
        let mut next = client.next(None);
        while let Some(body) = next {
            next = client.next(Some(self.carry_out(number, body)));
        }
    }

    fn carry_out(&self, client: usize, body: Body) -> Reply {
        let mut state = self.state.lock().unwrap();
        state.engine.begin(client, body);
        loop {
            self.give_out_replies(&mut state);
            if let Some(reply) = state.replies[client].take() {
                self.pass_on_work(&mut state);
                return reply;
            }
            if let Some(io) = state.engine.next_io() {
                self.pass_on_work(&mut state);
                state = self.perform(state, io);
                continue;
            }
            state.asleep.push(client);
            state = self.wake[client].wait(state).unwrap();
            state.asleep.retain(|asleep| *asleep != client);
        }
    }

    fn give_out_replies(&self, state: &mut State) {
        for (client, reply) in state.engine.take_replies() {
            state.replies[client] = Some(reply);
            self.wake[client].notify_one();
        }
    }

    /// One that sleeps looks whether the engine wants more; it would have no thread else.
    fn pass_on_work(&self, state: &mut State) {
        if state.engine.has_io()
            && let Some(client) = state.asleep.pop()
        {
            self.wake[client].notify_one();
        }
    }

    /// Carries out a request without the lock.
    fn perform<'a>(&'a self, state: MutexGuard<'a, State>, io: Io) -> MutexGuard<'a, State> {
        drop(state);
        let done = self.done(io);
        let mut state = self.state.lock().unwrap();
        state.engine.completed(done);
        state
    }

    fn done(&self, io: Io) -> Done {
        let (data, log) = (self.files.data.file(), self.files.log.file());
        let at = |number| page::offset(number, self.files.page_size);
        match io {
            Io::Read(page, mut buffer) => {
                let result = data.read_exact_at(&mut buffer, at(page));
                Done::Read(page, result.map(|()| buffer))
            }
            Io::Page(page, bytes) => {
                let result = data.write_all_at(&bytes, at(page));
                Done::Page(page, result.map(|()| bytes))
            }
            Io::Log(offset, buffer) => {
                let result = log.write_all_at(&buffer, offset);
                Done::Log(result.and_then(|()| self.sync_log()).map(|()| buffer))
            }
            Io::Sync => Done::Sync(data.sync_data()),
            Io::Reserve(bytes) => Done::Reserve(files::reserve(&self.files.data, bytes)),
        }
    }

    /// There is no write in std that is durable by itself: it is a write and a sync in any case.
    fn sync_log(&self) -> io::Result<()> {
        match self.config.log_sync {
            LogSync::None => Ok(()),
            LogSync::Dsync | LogSync::Fdatasync => self.files.log.file().sync_data(),
        }
    }

    fn close(&self) {
        let mut state = self.state.lock().unwrap();
        state.engine.close();
        while let Some(io) = state.engine.next_io() {
            state = self.perform(state, io);
        }
    }
}
