//! What a client of `torture` does, and what its keys have to be afterwards: both follow from the seed, the
//! client's number and the sequence number of its last transaction.
//!
//! A transaction writes some keys of its client, deletes one now and then, and writes the client's sequence number.
//! So whatever is in the store tells which transaction wrote it, and one that is half there shows.

use crate::rng::Rng;
use crate::tx::{Answer, Body};
use std::collections::BTreeMap;

pub(crate) const CLIENTS: u64 = 8;
/// Of one client, beside the one with the sequence number.
const KEYS: u64 = 400;
/// That one transaction changes.
const CHANGES: u64 = 4;
const MAX_VALUE: u64 = 400;

#[derive(Clone, Copy)]
pub(crate) struct Deed {
    pub(crate) seed: u64,
    pub(crate) client: u64,
    pub(crate) sequence: u64,
}

impl Deed {
    /// The numbers of the keys that it changes.
    fn keys(self) -> impl Iterator<Item = u64> {
        let first = self.sequence * CHANGES;
        (first..first + CHANGES).map(|number| number % KEYS)
    }

    fn rng(self, key: u64) -> Rng {
        Rng::new(self.seed ^ (self.client << 56) ^ (self.sequence << 16) ^ key)
    }

    /// The value that it gives a key; `None`: it deletes it.
    fn value(self, key: u64) -> Option<Vec<u8>> {
        let mut rng = self.rng(key);
        if rng.next().is_multiple_of(8) {
            return None;
        }
        let length = rng.next() % MAX_VALUE;
        let mut value = format!("{} {} {key} ", self.client, self.sequence).into_bytes();
        value.extend((0..length).map(|_| b'a' + u8::try_from(rng.next() % 26).expect("a letter")));
        Some(value)
    }

    pub(crate) fn body(self) -> Body {
        let changes: Vec<_> = self
            .keys()
            .map(|key| (name(self.client, key), self.value(key)))
            .collect();
        Box::new(move |tx| {
            for (key, value) in &changes {
                match value {
                    Some(value) => tx.put(key, value)?,
                    None => tx.delete(key)?,
                }
            }
            tx.put(&counter(self.client), self.sequence.to_string().as_bytes())?;
            Ok(Answer::Done)
        })
    }

    /// What all keys of the client have after this.
    pub(crate) fn state(self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut state = BTreeMap::new();
        let first = self.sequence.saturating_sub(KEYS / CHANGES);
        for sequence in first + 1..=self.sequence {
            let deed = Deed { sequence, ..self };
            for key in deed.keys() {
                match deed.value(key) {
                    Some(value) => state.insert(name(self.client, key), value),
                    None => state.remove(&name(self.client, key)),
                };
            }
        }
        if self.sequence > 0 {
            let sequence = self.sequence.to_string().into_bytes();
            state.insert(counter(self.client), sequence);
        }
        state
    }
}

/// The key with a client's sequence number.
pub(crate) fn counter(client: u64) -> Vec<u8> {
    format!("client {client}").into_bytes()
}

/// Neighbours in number are far from each other in the tree.
fn name(client: u64, key: u64) -> Vec<u8> {
    let place = Rng::new(client << 32 ^ key).next();
    format!("{place:016x} {client} {key}").into_bytes()
}
