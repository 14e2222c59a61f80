//! Rules: which requests, and what becomes of them.

use std::ops::Range;
use std::sync::Arc;

use super::gate::Gate;
use super::state::{Answer, Op, Seen, Shared};

/// What a rule does with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Answer(Answer),
    Hold,
    Never,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) number: usize,
    pub(super) action: Action,
    op: Option<Op>,
    node: Option<usize>,
    range: Range<u64>,
    skip: usize,
    times: usize,
}

impl Rule {
    /// Its number and action if it decides about this request, which it then counts.
    pub(super) fn takes(&mut self, seen: &Seen, node: usize) -> Option<(usize, Action)> {
        if self.times == 0 || !self.fits(seen, node) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some((self.number, self.action))
    }

    fn fits(&self, seen: &Seen, node: usize) -> bool {
        let end = seen.offset + seen.len.max(1) as u64;
        self.op.is_none_or(|op| op == seen.op)
            && self.node.is_none_or(|wanted| wanted == node)
            && (seen.op == Op::Sync || (seen.offset < self.range.end && self.range.start < end))
    }
}

/// A rule in the making: which requests. The last call says what becomes of them.
#[derive(Debug)]
#[must_use = "a rule begins to work with hold, fail, short or never"]
pub struct When<'a> {
    shared: &'a Arc<Shared>,
    rule: Rule,
}

impl<'a> When<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, op: Option<Op>) -> When<'a> {
        let (number, action, range) = (0, Action::Hold, 0..u64::MAX);
        When {
            shared,
            rule: Rule {
                number,
                action,
                op,
                node: None,
                range,
                skip: 0,
                times: usize::MAX,
            },
        }
    }

    /// Only those that touch this range of offsets. A sync touches every range.
    pub fn at(mut self, range: Range<u64>) -> When<'a> {
        self.rule.range = range;
        self
    }

    /// Only those of one file.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn in_file(mut self, name: &str) -> When<'a> {
        self.rule.node = Some(self.shared.lock().node(name).expect("no such file"));
        self
    }

    /// Not the first so many.
    pub fn after(mut self, skip: usize) -> When<'a> {
        self.rule.skip = skip;
        self
    }

    /// Only so many.
    pub fn times(mut self, times: usize) -> When<'a> {
        self.rule.times = times;
        self
    }

    /// Keeps them in flight until the gate is opened.
    pub fn hold(self) -> Gate {
        let shared = Arc::clone(self.shared);
        let number = self.add(Action::Hold);
        Gate::new(shared, number)
    }

    /// Fails them with any errno; it becomes the event's result.
    pub fn fail(self, errno: i32) {
        self.add(Action::Answer(Answer::Fail(errno)));
    }

    /// Transfers at most so many bytes of each. For writes too; the kernel may call that EIO.
    pub fn short(self, bytes: usize) {
        self.add(Action::Answer(Answer::Short(bytes)));
    }

    /// Carries them out after all, whatever rules made earlier say.
    pub fn pass(self) {
        self.add(Action::Answer(Answer::Proceed));
    }

    /// Never answers them: they end with the connection.
    pub fn never(self) {
        self.add(Action::Never);
    }

    fn add(self, action: Action) -> usize {
        let rule = self.rule;
        self.shared.lock().add_rule(|number| Rule {
            number,
            action,
            ..rule
        })
    }
}
