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
//! | `me` | a thread of a program, and what it has in its hands |
//! | `held` | handles of requests, and what they come back with |
//! | `executor` | a task |
//! | `send` | sends a request in one of the ways |
//! | `requests` | requests that go one by one |
//! | `several` | requests that go together |
//! | `waits`, `ends` | waits; the end of a context |
//! | `groups` | the same for groups of writes and their barriers |
//! | `queues` | the same for queues, which hand completions out as values |
//! | `verbs` | one line of a program: which of these it is |
//! | `program` | threads that carry out such lines |
//! | `schedule` | who goes on, and when the world does |
//! | `run` | one seed, many seeds, and a seed made shorter |

mod call_out;
mod character;
mod ends;
mod executor;
mod groups;
mod held;
mod ledger;
mod me;
mod program;
mod queues;
mod requests;
mod run;
mod schedule;
mod send;
mod several;
mod things;
mod verbs;
mod waits;
