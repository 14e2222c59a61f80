//! Where in a source a mutant has its place, and what has to stand there.

use std::collections::HashMap;
use std::ops::Range;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::mutant::Place;

/// What a mutant changes.
pub(crate) enum Site {
    /// The statements of a function.
    Body(Range<usize>),
    /// A whole expression, and the part of it that is replaced: an operator, a field, or all of it.
    Expression {
        whole: Range<usize>,
        part: Range<usize>,
    },
    /// The pattern of an arm, and its guard.
    Arm {
        pattern: Range<usize>,
        guard: Option<Range<usize>>,
    },
}

/// The sites of one source, by kind of mutant and where it begins.
#[derive(Default)]
pub(crate) struct Sites(HashMap<(&'static str, Place), Site>);

impl Sites {
    pub(crate) fn of(text: &str) -> syn::Result<Sites> {
        let mut sites = Sites::default();
        sites.visit_file(&syn::parse_file(text)?);
        Ok(sites)
    }

    pub(crate) fn find(&self, kind: &str, begins: Place) -> Option<&Site> {
        let known = KINDS.iter().find(|known| **known == kind)?;
        self.0.get(&(*known, begins))
    }

    fn put(&mut self, kind: &'static str, at: impl Spanned, site: Site) {
        let begins = at.span().start();
        self.0
            .insert((kind, (begins.line, begins.column + 1)), site);
    }
}

const KINDS: [&str; 6] = [
    "FnValue",
    "BinaryOperator",
    "UnaryOperator",
    "MatchArm",
    "MatchArmGuard",
    "StructField",
];

fn bytes(of: impl Spanned) -> Range<usize> {
    of.span().byte_range()
}

/// Whether it is part of a chain of `let`s, which only `&&` can join.
fn has_let(expression: &syn::Expr) -> bool {
    match expression {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

impl Visit<'_> for Sites {
    fn visit_block(&mut self, block: &syn::Block) {
        if let (Some(first), Some(last)) = (block.stmts.first(), block.stmts.last()) {
            let body = Site::Body(bytes(first).start..bytes(last).end);
            self.put("FnValue", first, body);
        }
        visit::visit_block(self, block);
    }

    fn visit_expr_binary(&mut self, binary: &syn::ExprBinary) {
        if !has_let(&binary.left) && !has_let(&binary.right) {
            let (whole, part) = (bytes(binary), bytes(binary.op));
            self.put(
                "BinaryOperator",
                binary.op,
                Site::Expression { whole, part },
            );
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &syn::ExprUnary) {
        let (whole, part) = (bytes(unary), bytes(unary.op));
        self.put("UnaryOperator", unary.op, Site::Expression { whole, part });
        visit::visit_expr_unary(self, unary);
    }

    fn visit_arm(&mut self, arm: &syn::Arm) {
        let guard = arm.guard.as_ref().map(|(_, guard)| bytes(guard));
        if let Some(whole) = guard.clone() {
            let (_, at) = arm.guard.as_ref().expect("it has one");
            let part = whole.clone();
            self.put("MatchArmGuard", at, Site::Expression { whole, part });
        }
        let pattern = bytes(&arm.pat);
        self.put("MatchArm", arm, Site::Arm { pattern, guard });
        visit::visit_arm(self, arm);
    }

    fn visit_expr_struct(&mut self, expression: &syn::ExprStruct) {
        for pair in expression.fields.pairs() {
            let (whole, part) = (bytes(expression), bytes(pair));
            self.put(
                "StructField",
                pair.value(),
                Site::Expression { whole, part },
            );
        }
        visit::visit_expr_struct(self, expression);
    }
}
