//! The mixes of YCSB: which records are read and written, and how often.

use crate::rng::{Rng, below};
use crate::tx::{self, Answer, Body};

pub(crate) const VALUE: usize = 100;
/// How much the records differ in how often they are asked for, as YCSB has it.
const SKEW: f64 = 0.99;

/// What the clients do, in percent; the rest are reads.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    updates: u64,
    /// Reads after which the record is written.
    modifies: u64,
    /// All records are asked for as often; else a few much more often.
    uniform: bool,
}

const fn mix(name: &'static str, updates: u64, modifies: u64, uniform: bool) -> Mix {
    Mix {
        name,
        updates,
        modifies,
        uniform,
    }
}

pub(crate) const MIXES: [Mix; 4] = [
    mix("A", 50, 0, false),
    mix("B", 5, 0, false),
    mix("C", 0, 0, false),
    mix("F", 0, 50, false),
];
pub(crate) const COMMITS: Mix = mix("commits", 100, 0, true);
pub(crate) const GETS: Mix = mix("gets", 0, 0, true);

pub(crate) fn key(record: u64) -> Vec<u8> {
    format!("user{record:012}").into_bytes()
}

pub(crate) fn value(rng: &mut Rng) -> Vec<u8> {
    let words = std::iter::repeat_with(|| rng.next().to_le_bytes());
    words.flatten().take(VALUE).collect()
}

/// Which record comes next: the one of rank N about N^0.99 times as seldom as the first (after Gray and others,
/// "Quickly generating billion-record synthetic databases", 1994).
#[derive(Clone)]
pub(crate) struct Records {
    count: u64,
    zeta: f64,
    zeta_of_two: f64,
}

impl Records {
    pub(crate) fn new(count: u64) -> Records {
        let zeta = |count: u64| (1..=count).map(|rank| (rank as f64).powf(-SKEW)).sum();
        Records {
            count,
            zeta: zeta(count),
            zeta_of_two: zeta(2),
        }
    }

    fn next(&self, rng: &mut Rng, mix: Mix) -> u64 {
        if mix.uniform {
            return below(rng.next(), self.count);
        }
        // Ranks that are near each other are not near in the store.
        below(Rng::new(self.rank(rng)).next(), self.count)
    }

    fn rank(&self, rng: &mut Rng) -> u64 {
        let share = (rng.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let sum = share * self.zeta;
        if sum < 1.0 {
            return 0;
        }
        if sum < self.zeta_of_two {
            return 1;
        }
        let count = self.count as f64;
        let eta = (1.0 - (2.0 / count).powf(1.0 - SKEW)) / (1.0 - self.zeta_of_two / self.zeta);
        let rank = count * (eta * share - eta + 1.0).powf(1.0 / (1.0 - SKEW));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the number of records"
        )]
        let rank = rank as u64;
        rank.min(self.count - 1)
    }
}

/// One operation: a transaction, or for a modification two.
pub(crate) struct Operation {
    pub(crate) body: Body,
    pub(crate) writes: bool,
    /// What is to be written after it.
    then: Option<u64>,
}

impl Operation {
    pub(crate) fn new(mix: Mix, records: &Records, rng: &mut Rng) -> Operation {
        let (record, die) = (records.next(rng, mix), below(rng.next(), 100));
        if die < mix.updates {
            return Operation::update(record, rng);
        }
        Operation {
            body: tx::get(key(record)),
            writes: false,
            then: (die < mix.modifies).then_some(record),
        }
    }

    fn update(record: u64, rng: &mut Rng) -> Operation {
        Operation {
            body: tx::put(key(record), value(rng)),
            writes: true,
            then: None,
        }
    }

    /// The second half of a modification.
    pub(crate) fn rest(
        then: &mut Option<u64>,
        answer: &Answer,
        rng: &mut Rng,
    ) -> Option<Operation> {
        let record = then.take()?;
        let found = matches!(answer, Answer::Value(Some(_)));
        found.then(|| Operation::update(record, rng))
    }

    pub(crate) fn split(self) -> (Body, bool, Option<u64>) {
        (self.body, self.writes, self.then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_all_operations_go_to_a_hundredth_of_the_records() {
        let (records, mut rng) = (Records::new(100_000), Rng::new(1));
        let ranks: Vec<_> = (0..10_000).map(|_| records.rank(&mut rng)).collect();
        let first = ranks.iter().filter(|rank| **rank < 1000).count();
        assert!((5500..7000).contains(&first), "{first} of 10000");
        assert!(ranks.iter().all(|rank| *rank < 100_000));
    }
}
