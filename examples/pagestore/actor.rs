//! The clients of `torture`: those that carry out [`Deed`]s, and one that reads all of a store.

use crate::deed::{Acked, CLIENTS, Deed, Rows, sequence};
use crate::driver::{Client, Clients};
use crate::tree::Row;
use crate::tx::{self, Answer, Body, Reply};
use std::sync::mpsc::Sender;

/// Carries out one deed after the other.
pub(crate) struct Actor<A> {
    deed: Deed,
    acknowledged: A,
}

/// An actor for each client, each of which goes on where the store is. `acknowledged` gets the client's number, and
/// its sequence number or what went wrong.
pub(crate) fn actors<A>(seed: u64, rows: &Rows, acknowledged: &A) -> Clients
where
    A: FnMut(u64, Result<u64, String>) + Clone + Send + 'static,
{
    let actor = |client| {
        let actor = Actor {
            deed: Deed {
                seed,
                client,
                sequence: sequence(rows, client),
            },
            acknowledged: acknowledged.clone(),
        };
        Box::new(actor) as Box<dyn Client>
    };
    (0..CLIENTS).map(actor).collect()
}

impl<A: FnMut(u64, Result<u64, String>) + Send> Client for Actor<A> {
    fn next(&mut self, answer: Option<Reply>) -> Option<Body> {
        if let Some(answer) = answer {
            let sequence = answer.map(|_| self.deed.sequence);
            (self.acknowledged)(self.deed.client, sequence);
        }
        self.deed.sequence += 1;
        Some(self.deed.body())
    }
}

/// Notes what was acknowledged.
pub(crate) fn note(acked: &mut Acked, client: u64, sequence: u64) {
    let last = acked.entry(client).or_default();
    *last = sequence.max(*last);
}

/// Reads the store from end to end.
pub(crate) struct Reader {
    from: Vec<u8>,
    rows: Sender<Result<Vec<Row>, String>>,
}

const AT_ONCE: usize = 200;

impl Reader {
    /// Sends the rows in parts.
    pub(crate) fn new(rows: Sender<Result<Vec<Row>, String>>) -> Reader {
        Reader {
            from: Vec::new(),
            rows,
        }
    }
}

impl Client for Reader {
    fn next(&mut self, answer: Option<Reply>) -> Option<Body> {
        match answer {
            Some(Ok(Answer::Rows(rows))) => {
                let last = (rows.len() == AT_ONCE)
                    .then(|| rows.last().cloned())
                    .flatten();
                let _ = self.rows.send(Ok(rows));
                self.from = last?.0;
                self.from.push(0); // the next key that there can be
            }
            Some(Err(error)) => {
                let _ = self.rows.send(Err(error));
                return None;
            }
            _ => {}
        }
        Some(tx::scan(self.from.clone(), AT_ONCE))
    }
}
