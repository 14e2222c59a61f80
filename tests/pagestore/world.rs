//! A store on such a disk: its engine runs for some events, the power is cut, and what is left goes into files, which
//! are recovered.

use crate::actor::{Reader, actors, note};
use crate::check;
use crate::common::Random;
use crate::deed::{Acked, CLIENTS, Rows, sequence, verify};
use crate::disk::Disk;
use crate::driver::{Clients, Driver};
use crate::engine::Engine;
use crate::files::{Config, Fault, Files, LogSync, Shape};
use crate::io::{Done, Io};
use crate::page;
use crate::store::Store;
use crate::tree::Row;
use crate::{Result, bytes::index};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

const PAGE: usize = 4096;

pub(crate) struct World {
    dir: tempfile::TempDir,
    seed: u64,
    random: Random,
    acked: Arc<Mutex<Acked>>,
    /// What the last recovery has left.
    rows: Rows,
    fault: Option<Fault>,
}

/// A place where a sync costs nothing, if there is one.
pub(crate) fn directory() -> tempfile::TempDir {
    match Path::new("/dev/shm").is_dir() {
        true => tempfile::tempdir_in("/dev/shm").unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

pub(crate) fn config() -> Config {
    Config {
        frames: 400,
        depth: 8,
        checkpoint_after: 64 << 10,
        log_sync: LogSync::Dsync,
        atomic: false,
        images: true,
        fault: None,
    }
}

/// All rows, read by plain threads.
pub(crate) fn rows(dir: &Path) -> Result<Rows> {
    let (sender, rows) = channel();
    let store = Store::open(dir, config())?;
    Driver::Threads.run(store, vec![Box::new(Reader::new(sender))])?;
    let parts: Result<Vec<Vec<Row>>, String> = rows.iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}

impl World {
    pub(crate) fn new(seed: u64, fault: Option<Fault>) -> World {
        let dir = directory();
        let shape = Shape {
            page_size: PAGE,
            segments: 6,
        };
        Files::create(&dir.path().join("store"), shape).unwrap();
        World {
            dir,
            seed,
            random: Random(seed),
            acked: Arc::default(),
            rows: Rows::new(),
            fault,
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Runs, cuts, recovers and verifies.
    pub(crate) fn round(&mut self) -> Result<()> {
        for client in 0..CLIENTS {
            // What was under way at the last cut may be there, and stays then.
            let found = sequence(&self.rows, client);
            note(&mut self.acked.lock().unwrap(), client, found);
        }
        let acked = Arc::clone(&self.acked);
        let acknowledged = move |client, sequence: Result<u64, String>| {
            note(&mut acked.lock().unwrap(), client, sequence.unwrap());
        };
        let clients = actors(self.seed, &self.rows, &acknowledged);
        self.run(clients)?;
        let store = Store::open(&self.path(), config())?;
        check::check(&store.files, &store.meta)?;
        drop(store);
        self.rows = rows(&self.path())?;
        verify(self.seed, &self.acked.lock().unwrap(), &self.rows)
    }

    /// Runs the engine for a while, and leaves in the files what the disk has then.
    fn run(&mut self, clients: Clients) -> Result<()> {
        let mut config = Config {
            // A planted fault is to have many chances.
            checkpoint_after: match self.fault {
                None => (16 << 10) << self.random.roll(4),
                Some(_) => 4 << 10,
            },
            ..config()
        };
        if let Some(fault) = self.fault {
            config.break_by(fault);
        }
        let store = Store::open(&self.path(), config)?;
        let (engine, files, config) = store.start(false)?;
        let [data, log] = ["data", "log"].map(|name| self.path().join(name));
        let mut machine = Machine {
            engine,
            clients,
            syncs_log: config.log_sync != LogSync::None,
            data: Disk::with(fs::read(&data)?),
            log: Disk::with(fs::read(&log)?),
            under_way: Vec::new(),
        };
        drop(files);
        machine.run(100 + self.random.roll(1000), &mut self.random);
        let (left, log_left) = machine.cut(&mut self.random);
        fs::write(data, left)?;
        Ok(fs::write(log, log_left)?)
    }
}

struct Machine {
    engine: Engine,
    clients: Clients,
    syncs_log: bool,
    data: Disk,
    log: Disk,
    under_way: Vec<Io>,
}

impl Machine {
    /// Requests complete in any order; each is passed over some times, by its kind.
    fn run(&mut self, events: u64, random: &mut Random) {
        for client in 0..self.clients.len() {
            let body = self.clients[client].next(None).expect("actors never end");
            self.engine.begin(client, body);
        }
        let passed_over = [1, 1 << random.roll(6)]; // the log may be slow
        for _ in 0..events {
            self.under_way
                .extend(std::iter::from_fn(|| self.engine.next_io()));
            let which = random.below(self.under_way.len());
            let is_log = matches!(self.under_way[which], Io::Log(..));
            if random.roll(passed_over[usize::from(is_log)]) > 0 {
                continue;
            }
            let io = self.under_way.swap_remove(which);
            let done = self.carry_out(io);
            self.engine.completed(done);
            self.give_out_replies();
        }
    }

    fn give_out_replies(&mut self) {
        loop {
            let replies = self.engine.take_replies();
            if replies.is_empty() {
                return;
            }
            for (client, reply) in replies {
                let body = self.clients[client].next(Some(reply));
                self.engine.begin(client, body.expect("actors never end"));
            }
        }
    }

    fn carry_out(&mut self, io: Io) -> Done {
        let at = |number| index(page::offset(number, PAGE));
        self.write(&io);
        match io {
            Io::Read(page, mut buffer) => {
                self.data.read(at(page), &mut buffer);
                Done::Read(page, Ok(buffer))
            }
            Io::Page(page, bytes) => Done::Page(page, Ok(bytes)),
            Io::Log(_, buffer) => {
                if self.syncs_log {
                    self.log.sync();
                }
                Done::Log(Ok(buffer))
            }
            Io::Sync => {
                self.data.sync();
                Done::Sync(Ok(()))
            }
            Io::Reserve(_) => Done::Reserve(Ok(())),
        }
    }

    /// What a request changes, durable or not.
    fn write(&mut self, io: &Io) {
        match io {
            Io::Page(page, bytes) => self.data.write(index(page::offset(*page, PAGE)), bytes),
            Io::Log(offset, buffer) => self.log.write(index(*offset), buffer),
            _ => {}
        }
    }

    /// What is left of data and log: writes under way may be there too.
    fn cut(mut self, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
        for io in std::mem::take(&mut self.under_way) {
            self.write(&io);
        }
        (self.data.cut(random), self.log.cut(random))
    }
}
