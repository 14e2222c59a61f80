//! A transaction, as its body sees it.
//!
//! The body runs on the engine's thread, or under its lock, and sees the store as all transactions before have
//! left it. Where a page is missing it ends with [`Stop::Miss`], by `?`, and runs again from its beginning when
//! the page is there: so it must have no effects but those on the store.

use crate::page::{self, MAX_KEY, PageId};
use crate::pool::{Miss, Pool};
use crate::tree::{self, Row};

/// What a transaction does.
pub(crate) type Body = Box<dyn FnMut(&mut Tx<'_>) -> Result<Answer, Stop> + Send>;

/// How it ended: what went wrong is a sentence, and then it has changed nothing. (Where the log could not be
/// made durable, whether it has is known after the next start.)
pub(crate) type Reply = Result<Answer, String>;

/// What a body returns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Done,
    Value(Option<Vec<u8>>),
    Rows(Vec<Row>),
}

/// Why a body does not go on.
#[derive(Debug)]
pub(crate) enum Stop {
    Miss(Miss),
    Refused(String),
}

impl From<Miss> for Stop {
    fn from(miss: Miss) -> Stop {
        Stop::Miss(miss)
    }
}

/// A key, its new value or none, and the leaf that has the key.
pub(crate) struct Write {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) leaf: PageId,
}

pub(crate) struct Tx<'a> {
    pool: &'a mut Pool,
    max_cell: usize,
    pub(crate) writes: Vec<Write>,
    /// The highest version of the pages that were read: it must be durable before the answer is given.
    pub(crate) seen: u64,
}

impl Tx<'_> {
    pub(crate) fn new(pool: &mut Pool, max_cell: usize) -> Tx<'_> {
        Tx {
            pool,
            max_cell,
            writes: Vec::new(),
            seen: 0,
        }
    }

    /// The value of a key, with what this transaction has put there.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, Stop> {
        let written = self.writes.iter().rev().find(|write| write.key == key);
        if let Some(write) = written {
            return Ok(write.value.clone());
        }
        let (value, version) = tree::get(self.pool, key)?;
        self.seen = self.seen.max(version);
        Ok(value)
    }

    /// Up to `limit` rows from the key on, as they were before this transaction.
    pub(crate) fn scan(&mut self, from: &[u8], limit: usize) -> Result<Vec<Row>, Stop> {
        let (rows, version) = tree::scan(self.pool, from, limit)?;
        self.seen = self.seen.max(version);
        Ok(rows)
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Stop> {
        let size = page::cell_size(key, value);
        if key.len() > MAX_KEY || size > self.max_cell {
            let (key, value, most) = (key.len(), value.len(), self.max_cell);
            return Err(Stop::Refused(format!(
                "a key of {key} bytes with a value of {value} is too long: a key may have {MAX_KEY}, both {most} \
                 in a store with pages of this size"
            )));
        }
        self.write(key, Some(value.to_vec()))
    }

    pub(crate) fn delete(&mut self, key: &[u8]) -> Result<(), Stop> {
        self.write(key, None)
    }

    /// The page that will change is here from now on: the body is not interrupted.
    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) -> Result<(), Stop> {
        let leaf = tree::leaf(self.pool, key)?;
        self.writes.push(Write {
            key: key.to_vec(),
            value,
            leaf,
        });
        Ok(())
    }
}

pub(crate) fn get(key: Vec<u8>) -> Body {
    Box::new(move |tx| tx.get(&key).map(Answer::Value))
}

pub(crate) fn put(key: Vec<u8>, value: Vec<u8>) -> Body {
    Box::new(move |tx| tx.put(&key, &value).map(|()| Answer::Done))
}

pub(crate) fn delete(key: Vec<u8>) -> Body {
    Box::new(move |tx| tx.delete(&key).map(|()| Answer::Done))
}

pub(crate) fn scan(from: Vec<u8>, limit: usize) -> Body {
    Box::new(move |tx| tx.scan(&from, limit).map(Answer::Rows))
}
