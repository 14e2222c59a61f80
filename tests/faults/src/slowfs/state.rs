//! What the server knows: files, rules, requests held, requests seen.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use fuser::{Errno, ReplyData, ReplyEmpty, ReplyWrite};

use super::rules::{Action, Rule};
use crate::watchdog::PATIENCE;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A read.
    Read,
    /// A write.
    Write,
    /// An fsync or fdatasync; its offset and length are 0.
    Sync,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its kind.
    pub op: Op,
    /// The file's name.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes.
    pub len: usize,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Proceed,
    Fail(i32),
    Short(usize),
}

/// How to reply, and with writes the data.
#[derive(Debug)]
pub(super) enum Reply {
    Read(ReplyData),
    Write(Vec<u8>, ReplyWrite),
    Sync(ReplyEmpty),
}

/// A request without its answer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) seen: Seen,
    pub(super) node: usize,
    pub(super) reply: Reply,
}

/// A file.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) data: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// File `n` has inode number `n + 2`.
    pub(super) nodes: Vec<Node>,
    pub(super) rules: Vec<Rule>,
    /// What the gates hold, by rule.
    pub(super) held: HashMap<usize, Vec<Job>>,
    /// What will never be answered.
    abandoned: Vec<Job>,
    pub(super) seen: Vec<Seen>,
    rules_made: usize,
}

impl State {
    /// Deals with a request that has just come. Requests to be answered after a delay come back.
    pub(super) fn arrive(&mut self, job: Job) {
        self.seen.push(job.seen.clone());
        let mut latest_first = self.rules.iter_mut().rev();
        match latest_first.find_map(|rule| rule.takes(&job.seen, job.node)) {
            None => self.answer(job, Answer::Proceed),
            Some((_, Action::Answer(answer))) => self.answer(job, answer),
            Some((_, Action::Never)) => self.abandoned.push(job),
            Some((number, Action::Hold)) => self.held.entry(number).or_default().push(job),
        }
    }

    /// Carries a request out, or not, and replies.
    pub(super) fn answer(&mut self, job: Job, answer: Answer) {
        let (offset, len) = (job.seen.offset as usize, job.seen.len);
        let data = &mut self.nodes[job.node].data;
        match (answer, job.reply) {
            (Answer::Fail(errno), reply) => reply.fail(Errno::from_i32(errno)),
            (answer, Reply::Read(reply)) => reply.data(part(data, offset, answer.limit(len))),
            (answer, Reply::Write(bytes, reply)) => {
                let bytes = &bytes[..answer.limit(bytes.len())];
                overwrite(data, offset, bytes);
                reply.written(bytes.len() as u32);
            }
            (_, Reply::Sync(reply)) => reply.ok(),
        }
    }

    pub(super) fn add_rule(&mut self, make: impl FnOnce(usize) -> Rule) -> usize {
        let number = self.rules_made;
        self.rules_made += 1;
        self.rules.push(make(number));
        number
    }

    pub(super) fn forget_rules(&mut self) {
        self.rules
            .retain(|rule| matches!(rule.action, Action::Hold));
    }

    pub(super) fn node(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    pub(super) fn contents(&self, name: &str) -> Vec<u8> {
        let node = self.node(name).expect("no such file");
        self.nodes[node].data.clone()
    }
}

impl Answer {
    fn limit(self, len: usize) -> usize {
        match self {
            Answer::Short(most) => most.min(len),
            _ => len,
        }
    }
}

impl Reply {
    fn fail(self, errno: Errno) {
        match self {
            Reply::Read(reply) => reply.error(errno),
            Reply::Write(_, reply) => reply.error(errno),
            Reply::Sync(reply) => reply.error(errno),
        }
    }
}

fn part(data: &[u8], offset: usize, len: usize) -> &[u8] {
    let start = offset.min(data.len());
    &data[start..data.len().min(start + len)]
}

fn overwrite(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if data.len() < offset + bytes.len() {
        data.resize(offset + bytes.len(), 0);
    }
    data[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// The state, and a way to wait for it to change.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked with the lock held is failing anyway; its drops must still work.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, name: &str, data: Vec<u8>) {
        let mut state = self.lock();
        assert!(state.node(name).is_none(), "there is a file {name} already");
        state.nodes.push(Node {
            name: name.to_owned(),
            data,
        });
    }

    pub(super) fn arrive(&self, job: Job) {
        self.lock().arrive(job);
        self.changed.notify_all();
    }

    /// Waits, with the lab's patience, until `condition` holds.
    pub(super) fn wait(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let wait = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |state| !condition(state));
        let (state, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
        assert!(
            !timeout.timed_out(),
            "waited in vain for {what}; seen: {:?}",
            state.seen
        );
    }
}
