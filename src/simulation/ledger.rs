//! What is known of each request, and what the contract says of it.

use super::call_out::survive;
use crate::error::{SubmitError, errno_of};
use crate::random::Random;
use crate::sys::seeded::{Answer, Known, machine};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;

/// What a request was, as far as its result depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Goes on after a first try.
    GoesOn,
    /// Goes on until all is transferred.
    Exact,
    Sync,
    Poll,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) len: usize,
    pub(super) eventfd: Option<u32>,
    /// Who submitted it, and as which of all submissions; not where the order is not promised.
    order: Option<(NonZeroU64, u64)>,
    submitted: bool,
    refused: u32,
    ended: u32,
    /// Nobody asks for its result any more.
    abandoned: bool,
}

#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) dice: Random,
    pub(super) files: i64,
    /// Requests that user code may still make by itself.
    pub(super) budget: usize,
    entries: BTreeMap<u64, Entry>,
    next: u64,
    submissions: u64,
}

std::thread_local! {
    static LEDGER: RefCell<Ledger> = RefCell::new(Ledger::new(0));
}

/// Not across a point.
pub(super) fn ledger<R>(what: impl FnOnce(&mut Ledger) -> R) -> R {
    LEDGER.with_borrow_mut(what)
}

/// A new request's name.
pub(super) fn open(kind: Kind, len: usize) -> u64 {
    ledger(|ledger| ledger.open(kind, len))
}

/// What must never be.
pub(super) fn violate(what: impl Into<String>) {
    machine(|machine| machine.violate(what));
    super::schedule::stop();
}

impl Ledger {
    pub(super) fn new(seed: u64) -> Ledger {
        Ledger {
            dice: Random(seed),
            files: 0,
            budget: 40,
            entries: BTreeMap::new(),
            next: 0,
            submissions: 0,
        }
    }

    fn open(&mut self, kind: Kind, len: usize) -> u64 {
        self.next += 1;
        let entry = Entry {
            kind,
            len,
            eventfd: None,
            order: None,
            submitted: false,
            refused: 0,
            ended: 0,
            abandoned: false,
        };
        self.entries.insert(self.next, entry);
        self.next
    }

    pub(super) fn entry(&mut self, name: u64) -> &mut Entry {
        self.entries.get_mut(&name).expect("opened")
    }

    fn submit(&mut self, name: u64, is_ordered: bool) {
        self.submissions += 1;
        let order = is_ordered.then(|| (crate::sync::thread_number(), self.submissions));
        let entry = self.entry(name);
        entry.order = order;
        entry.submitted = true;
    }

    pub(super) fn abandon(&mut self, name: u64) {
        self.entry(name).abandoned = true;
    }

    /// How many ended with this eventfd.
    fn ended_with(&self, eventfd: u32) -> u64 {
        let has_it = |entry: &&Entry| {
            entry.eventfd == Some(eventfd) && entry.submitted && entry.refused == 0
        };
        self.entries.values().filter(has_it).count() as u64
    }

    fn unfinished(&self) -> Vec<u64> {
        let is_open =
            |entry: &Entry| entry.submitted && !entry.abandoned && entry.ended + entry.refused != 1;
        let open = self.entries.iter().filter(|(_, entry)| is_open(entry));
        open.map(|(&name, _)| name).collect()
    }
}

shuttle::thread_local! {
    static SUBMITTING: Cell<usize> = Cell::new(0);
}

/// While it lives, this thread submits. What user code submits inside has no place in the thread's order.
pub(super) struct Submitting;

impl Drop for Submitting {
    fn drop(&mut self) {
        SUBMITTING.with(|submitting| submitting.set(submitting.get() - 1));
    }
}

/// These are submitted now, by this thread.
pub(super) fn submitting(names: &[u64], is_ordered: bool) -> Submitting {
    let outer = SUBMITTING.with(|submitting| submitting.replace(submitting.get() + 1));
    let is_ordered = is_ordered && outer == 0;
    names
        .iter()
        .for_each(|&name| ledger(|ledger| ledger.submit(name, is_ordered)));
    Submitting
}

/// The caller has the request back, and drops it: that may panic.
pub(super) fn given_back<T>(name: u64, error: SubmitError<T>) {
    let (error, request) = error.into_parts();
    refused(name, &error);
    survive(|| drop(request));
}

fn refused(name: u64, error: &io::Error) {
    let entry = ledger(|ledger| {
        let entry = ledger.entry(name);
        entry.refused += 1;
        entry.clone()
    });
    if entry.refused + entry.ended != 1 {
        violate(format!("request {name} was refused, and more: {entry:?}"));
    }
    let known = machine(|machine| machine.known(name));
    if !may_refuse(error, &known, &entry) {
        violate(format!(
            "request {name} was refused for {error:?}, but the kernel said {known:?}"
        ));
    }
}

/// A drain came back, and the request was accepted before.
pub(super) fn must_have_ended(name: u64) {
    let entry = ledger(|ledger| ledger.entry(name).clone());
    if entry.ended != 1 {
        violate(format!(
            "request {name} was not complete after a drain: {entry:?}"
        ));
    }
}

fn may_refuse(error: &io::Error, known: &Known, entry: &Entry) -> bool {
    match error.raw_os_error() {
        // What has no name with the kernel.
        Some(_) if matches!(entry.kind, Kind::Sync | Kind::Poll) => true,
        Some(errno) => known.answers.last() == Some(&Answer::Refused(errno)),
        // The crate's own word: shut down, gone, and whatever else is not `NotSubmitted`, since programs submit
        // their batches to the end.
        None => error.kind() != io::ErrorKind::InvalidInput,
    }
}

/// The result of a request has come, for the first and only time.
pub(super) fn ended(name: u64, result: &io::Result<usize>) {
    let entry = ledger(|ledger| {
        let entry = ledger.entry(name);
        entry.ended += 1;
        entry.clone()
    });
    if entry.refused + entry.ended != 1 || !entry.submitted {
        violate(format!("request {name} ended once too often: {entry:?}"));
    }
    let known = machine(|machine| machine.known(name));
    let told = match result {
        Ok(count) => Ok(*count),
        Err(error) => Err(errno_of(error)),
    };
    if !is_true(told, &known, &entry) {
        violate(format!(
            "request {name} ended as {result:?}, but the kernel said {known:?}"
        ));
    }
}

/// Whether the result is what the kernel said.
fn is_true(told: Result<usize, Option<i32>>, known: &Known, entry: &Entry) -> bool {
    let last = known.answers.last().copied();
    match (entry.kind, told, last) {
        (_, Err(None), _) => true, // the crate's own word
        // EAGAIN again and again, which the crate says in its own word.
        (_, Err(Some(libc::ENOMEM)), _) => machine(|machine| machine.mood.hoards > 0),
        // A context that ends refuses what waits for a slot.
        (_, Err(Some(libc::ECANCELED)), last) => {
            entry.kind != Kind::Plain || !matches!(last, Some(Answer::Event(_)))
        }
        (Kind::Sync | Kind::Poll, ..) => true,
        (Kind::Plain, Ok(count), Some(Answer::Event(event))) => {
            event.min(entry.len as i64) == count as i64
        }
        (Kind::Plain, Err(Some(errno)), Some(Answer::Event(event))) => event == -i64::from(errno),
        (_, Err(Some(errno)), Some(Answer::Refused(refusal))) => errno == refusal,
        (Kind::GoesOn, Ok(count), Some(_)) => transferred(known, entry.len) == count,
        (Kind::Exact, Ok(count), Some(_)) => {
            count == entry.len && transferred(known, entry.len) == count
        }
        (Kind::GoesOn | Kind::Exact, Err(Some(errno)), _) => says(known, errno),
        (_, _, None) | (Kind::Plain, Ok(_), Some(Answer::Refused(_))) => false,
    }
}

/// How many bytes of a request the kernel has transferred.
pub(super) fn came_over(name: u64) -> usize {
    let len = ledger(|ledger| ledger.entry(name).len);
    transferred(&machine(|machine| machine.known(name)), len)
}

/// What came over in all parts of a request.
fn transferred(known: &Known, len: usize) -> usize {
    let parts = known.answers.iter().filter_map(|answer| match *answer {
        Answer::Event(event) => usize::try_from(event).ok(),
        Answer::Refused(_) => None,
    });
    parts.fold(0, |sum, part| (sum + part).min(len))
}

fn says(known: &Known, errno: i32) -> bool {
    let negative = -i64::from(errno);
    known.answers.iter().any(|answer| match *answer {
        Answer::Event(event) => event == negative,
        Answer::Refused(refusal) => refusal == errno,
    })
}

/// What must hold when everything is over.
pub(super) fn close(may_leak: bool, eventfds: impl IntoIterator<Item = u32>) {
    if may_leak || machine(|machine| machine.has_deaths()) {
        return; // what a dead context had never completes, and leaks
    }
    for name in ledger(|ledger| ledger.unfinished()) {
        let entry = ledger(|ledger| ledger.entry(name).clone());
        violate(format!("request {name} did not end once: {entry:?}"));
    }
    for eventfd in eventfds {
        let raised = machine(|machine| machine.raised(eventfd));
        let ended = ledger(|ledger| ledger.ended_with(eventfd));
        if raised != ended {
            violate(format!(
                "eventfd {eventfd} was raised {raised} times for {ended} requests"
            ));
        }
    }
    let left = machine(|machine| (machine.memory_left(), machine.living()));
    let files = ledger(|ledger| ledger.files);
    if (left, files) != ((0, 0), 0) {
        violate(format!(
            "at the end {left:?} buffers and contexts are left, and {files} files"
        ));
    }
    check_order();
}

/// First in, first out: the kernel gets one thread's requests in the order in which it submitted them.
fn check_order() {
    let entries = ledger(|ledger| ledger.entries.clone());
    let mut newest: BTreeMap<(usize, NonZeroU64), (u64, u64)> = BTreeMap::new();
    let mut arrivals: Vec<_> = machine(|machine| machine.all_known().clone())
        .into_iter()
        .filter_map(|(name, known)| known.arrival.map(|(context, order)| (order, context, name)))
        .collect();
    arrivals.sort_unstable();
    for (_, context, name) in arrivals {
        let Some((thread, sequence)) = entries.get(&name).and_then(|entry| entry.order) else {
            continue;
        };
        let newest = newest.entry((context, thread)).or_default();
        if sequence < newest.0 {
            violate(format!(
                "request {name} of thread {thread} arrived after request {}",
                newest.1
            ));
        }
        *newest = (sequence, name);
    }
}
