//! What a user can ask for.

use crate::driver::{Client, Driver};
use crate::files::{self, Config, Files, Shape};
use crate::options::{Command, HELP, Options};
use crate::store::Store;
use crate::tx::{self, Answer, Body, Reply};
use crate::{Result, bench, busy, check, torture};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::sync::mpsc::{Sender, channel};

/// Segments of a new store's log: 64 MiB with pages of 4 KiB.
const SEGMENTS: u64 = 32;

pub(crate) fn run(command: Command) -> Result<()> {
    let Command {
        name,
        words,
        options,
    } = command;
    let mut words = words.into_iter().map(OsString::into_vec);
    let mut word = |what: &str| {
        words
            .next()
            .ok_or_else(|| format!("{name}: {what} is missing"))
    };
    match &*name {
        "help" => print(HELP.as_bytes()),
        "bench" => bench::run(&options)?,
        "busy" => busy::spin(),
        "create" => Files::create(options.store()?, shape(&options))?,
        "check" => check(&options)?,
        "get" => get(&options, word("the key")?)?,
        "put" => change(&options, tx::put(word("the key")?, word("the value")?))?,
        "delete" => change(&options, tx::delete(word("the key")?))?,
        "scan" => scan(&options, word("the key").unwrap_or_default())?,
        "torture" => torture::run(&options)?,
        "torture-child" => torture::child(&options)?,
        "torture-verify" => torture::verify(&options)?,
        other => return Err(format!("there is no command {other}; --help lists them").into()),
    }
    Ok(())
}

/// A reader who has gone is no reason to panic.
fn print(bytes: &[u8]) {
    let _ = io::stdout().write_all(bytes);
}

pub(crate) fn shape(options: &Options) -> Shape {
    Shape {
        page_size: options.page_size,
        segments: SEGMENTS,
    }
}

pub(crate) fn config(options: &Options) -> Config {
    let mut config = Config {
        frames: options.pool(),
        depth: 32,
        checkpoint_after: 32 << 20,
        log_sync: options.log_sync,
        atomic: options.atomic,
        images: true,
        fault: None,
    };
    if let Some(fault) = options.fault {
        config.break_by(fault);
    }
    config
}

/// Opens a store, and says what was recovered.
fn open(options: &Options) -> Result<Store> {
    let store = Store::open(options.store()?, config(options))?;
    let (transactions, pages) = (store.recovered.transactions, store.recovered.pages);
    if transactions > 0 {
        eprintln!("pagestore: recovered {transactions} transactions in {pages} pages from the log");
    }
    Ok(store)
}

fn check(options: &Options) -> Result<()> {
    let dir = options.store()?;
    let store = open(options)?;
    let found = check::check(&store.files, &store.meta);
    let found = found.map_err(|error| format!("{}: {error}", dir.display()))?;
    let (pages, keys, levels) = (found.pages, found.keys, found.levels);
    print(
        format!("{pages} pages are whole; {keys} keys in order, in a tree of {levels} levels\n")
            .as_bytes(),
    );
    Ok(())
}

fn get(options: &Options, key: Vec<u8>) -> Result<()> {
    match one(options, tx::get(key))? {
        Answer::Value(Some(value)) => print(&[&value[..], b"\n"].concat()),
        _ => return Err("there is no such key".into()),
    }
    Ok(())
}

fn change(options: &Options, body: Body) -> Result<()> {
    if !files::exists(options.store()?) {
        Files::create(options.store()?, shape(options))?;
    }
    one(options, body).map(drop)
}

fn scan(options: &Options, from: Vec<u8>) -> Result<()> {
    if let Answer::Rows(rows) = one(options, tx::scan(from, options.limit))? {
        for (key, value) in rows {
            print(&[&key[..], b"\t", &value, b"\n"].concat());
        }
    }
    Ok(())
}

fn one(options: &Options, body: Body) -> Result<Answer> {
    let store = open(options)?;
    transact(options.driver(), store, body)
}

/// Carries out one transaction.
pub(crate) fn transact(driver: Driver, store: Store, body: Body) -> Result<Answer> {
    let (answer, answers) = channel();
    let once = Once {
        body: Some(body),
        answer,
    };
    driver.run(store, vec![Box::new(once)])?;
    Ok(answers.recv()??)
}

struct Once {
    body: Option<Body>,
    answer: Sender<Reply>,
}

impl Client for Once {
    fn next(&mut self, answer: Option<Reply>) -> Option<Body> {
        if let Some(answer) = answer {
            let _ = self.answer.send(answer);
        }
        self.body.take()
    }
}
