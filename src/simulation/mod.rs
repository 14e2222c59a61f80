//! The whole crate on a [simulated kernel](crate::sys::seeded): random programs of its public verbs, with user
//! code that does its worst, in random orders, by one seed. CONTRIBUTING.md says how it is run, DESIGN.md what
//! it simulates and what not.
//!
//! | file | |
//! | --- | --- |
//! | `character` | what the seed decides beforehand: the kernel's moods, the contexts, how hostile user code is |
//! | `ledger` | what the contract promises of each request, and whether it was kept |
//! | `things` | files, memory and other values of the user's, which are counted |
//! | `call_out` | user code that the crate calls |
//! | `verbs` | one line of a program: a request, a wait, an end |
//! | `groups` | the same for groups of writes and their barriers |
//! | `queues` | the same for queues, which hand completions out as values |
//! | `program` | threads that carry out such lines |
//! | `schedule` | who goes on, and when the world does |
//! | `run` | one seed, many seeds, and a seed made shorter |

mod call_out;
mod character;
mod executor;
mod groups;
mod held;
mod ledger;
mod program;
mod queues;
mod run;
mod schedule;
mod things;
mod verbs;
