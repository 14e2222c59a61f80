//! What a client of `torture` does, and what its keys have to be afterwards: both follow from the seed, the
//! client's number and the sequence number of its last transaction.
//!
//! A transaction writes some keys of its client, deletes one now and then, and writes the client's sequence number.
//! So whatever is in the store tells which transaction wrote it, and one that is half there shows.

use crate::Result;
use crate::rng::Rng;
use crate::tx::{Answer, Body};
use std::collections::BTreeMap;

/// All rows of a store, and the last sequence number that each client was acknowledged.
pub(crate) type Rows = BTreeMap<Vec<u8>, Vec<u8>>;
pub(crate) type Acked = BTreeMap<u64, u64>;

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
    fn state(self) -> Rows {
        let mut state = Rows::new();
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
fn counter(client: u64) -> Vec<u8> {
    format!("client {client}").into_bytes()
}

/// Neighbours in number are far from each other in the tree.
fn name(client: u64, key: u64) -> Vec<u8> {
    let place = Rng::new(client << 32 ^ key).next();
    format!("{place:016x} {client} {key}").into_bytes()
}

/// The sequence number that the store has of a client.
pub(crate) fn sequence(rows: &Rows, client: u64) -> u64 {
    let value = rows.get(&counter(client));
    let text = value.map(|value| String::from_utf8_lossy(value));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether the store has all that was acknowledged, and each transaction as a whole. A client has one transaction
/// under way, so one more may be there.
pub(crate) fn verify(seed: u64, acked: &Acked, rows: &Rows) -> Result<()> {
    let mut expected = Rows::new();
    for client in 0..CLIENTS {
        let last = acked.get(&client).copied().unwrap_or(0);
        let (most, found) = (last + 1, sequence(rows, client));
        if !(last..=most).contains(&found) {
            return Err(format!(
                "client {client}: transaction {last} was acknowledged, and {most} begun at most; the store has {found}"
            )
            .into());
        }
        let deed = Deed {
            seed,
            client,
            sequence: found,
        };
        expected.append(&mut deed.state());
    }
    compare(rows, &expected)
}

fn compare(rows: &Rows, expected: &Rows) -> Result<()> {
    let text = |bytes: Option<&Vec<u8>>| match bytes {
        Some(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        None => "nothing".into(),
    };
    let wrong = rows.keys().chain(expected.keys());
    let mut wrong = wrong.filter(|key| rows.get(*key) != expected.get(*key));
    match wrong.next() {
        None => Ok(()),
        Some(key) => Err(format!(
            "a transaction is half there: key {} has {}, and not {}",
            text(Some(key)),
            text(rows.get(key)),
            text(expected.get(key))
        )
        .into()),
    }
}
